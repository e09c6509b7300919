//! Models and samples that several tests share.
#![allow(dead_code)] // each test takes what it needs

use trimodal::check::drawn_sequence;
use trimodal::model::Config;
use trimodal::model::batch::{Batch, Sequence};
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
        vision_config: Some(VisionConfig { image_size: 12, patch_size: 4, bidirectional: true, stem: None, histograms: Vec::new() }),
        audio_config: Some(AudioConfig { num_mel_bins: 5, sample_rate: 16_000, clip_seconds: 0.1, layers: 3 }),
        ..Config::meadow(23)
    }
}

/// The same with another eye: a stem of convolutions over smaller patches, of which the first is added to what it reads.
pub fn with_stem(config: Config, patch_size: usize, stem: &str) -> Config {
    let stem = Some(stem.parse().unwrap());
    let vision_config = config.vision_config.map(|vision| VisionConfig { patch_size, stem, ..vision });
    Config { vision_config, ..config }
}

/// The same with what is counted in its pictures, in these grids.
pub fn with_histograms(config: Config, grids: &[usize]) -> Config {
    let vision_config = config.vision_config.map(|vision| VisionConfig { histograms: grids.into(), ..vision });
    Config { vision_config, ..config }
}

/// [`tiny`] with a stem: 6 × 6 patches become 6 × 6, 3 × 3, 3 × 3, then 2 × 2 places, and one row is of the whole picture.
pub fn tiny_with_stem() -> Config {
    with_stem(tiny(), 2, "5, 5, 7/2, 7, 6/2")
}

/// [`small`] with a stem: 4 × 4 patches become 2 × 2 places and one row of the whole picture.
pub fn small_with_stem() -> Config {
    with_stem(small(), 4, "6, 6, 8/2")
}

/// A sample of each kind for [`tiny`].
pub fn sequences(config: &Config) -> Vec<Sequence> {
    let mut draw = Draw::new("sequences");
    [(true, true, 4), (true, false, 3), (false, true, 5), (false, false, 6)]
        .map(|(picture, sound, words)| drawn_sequence(config, &mut draw, picture, sound, words))
        .into()
}

/// The captions of a batch's samples, as a contrastive loss tells them apart, and one that none of them has.
pub fn captions(batch: &Batch) -> Vec<Vec<u32>> {
    let mut captions = vec![Vec::new(); batch.samples];
    let mut sample = 0;
    for (row, &target) in batch.target.iter().enumerate() {
        sample += (row > 0 && batch.position[row] == 0) as usize;
        let ends = batch.position.get(row + 2).is_none_or(|&position| position == 0);
        captions[sample].extend((target >= 0 && !ends).then_some(target as u32));
    }
    captions.push(vec![7, 9, 7]);
    captions
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
        vision_config: Some(VisionConfig { image_size: 16, patch_size: 8, bidirectional: true, stem: None, histograms: Vec::new() }),
        audio_config: Some(AudioConfig { num_mel_bins: 8, sample_rate: 16_000, clip_seconds: 0.1, layers: 2 }),
        ..Config::meadow(40)
    }
}
