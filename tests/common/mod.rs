//! Models and samples that several tests share.
#![allow(dead_code)] // each test takes what it needs

use trimodal::check::drawn_sequence;
use trimodal::model::Config;
use trimodal::model::batch::Sequence;
use trimodal::model::config::{AudioConfig, VisionConfig};
use trimodal::ops::case::Draw;

/// Everything at once and nothing a power of two: GQA, head_dim ≠ D / H, an odd patch grid, three convolutions.
pub fn tiny() -> Config {
    Config {
        hidden_size: 12,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        max_position_embeddings: 64,
        vision_config: Some(VisionConfig { image_size: 12, patch_size: 4, bidirectional: true, stem: None }),
        audio_config: Some(AudioConfig { num_mel_bins: 5, sample_rate: 16_000, clip_seconds: 0.1, layers: 3 }),
        ..Config::meadow(23)
    }
}

/// A sample of each kind for [`tiny`].
pub fn sequences(config: &Config) -> Vec<Sequence> {
    let mut draw = Draw::new("sequences");
    [(true, true, 4), (true, false, 3), (false, true, 5), (false, false, 6)]
        .map(|(picture, sound, words)| drawn_sequence(config, &mut draw, picture, sound, words))
        .into()
}

/// Everything at once, in sizes that the emulator and the fake driver have time for.
pub fn small() -> Config {
    Config {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        max_position_embeddings: 64,
        vision_config: Some(VisionConfig { image_size: 16, patch_size: 8, bidirectional: true, stem: None }),
        audio_config: Some(AudioConfig { num_mel_bins: 8, sample_rate: 16_000, clip_seconds: 0.1, layers: 2 }),
        ..Config::meadow(40)
    }
}
