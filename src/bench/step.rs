//! The training step as a row of the table: the whole model at one set of sizes, on a batch of made-up samples.

use super::operands::normals;
use crate::device::Device;
use crate::error::Result;
use crate::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence, TokenRow, picture_rows};
use crate::model::config::{AudioConfig, Config, VisionConfig};
use crate::ops::Sizes;
use crate::ops::case::Draw;
use crate::train::Recipe;
use crate::train::recipe::{self, Precision};
use crate::train::{ActivationOptions, Trainer};

/// Far more steps than are measured, so that the learning rate stays as it is in training.
const STEPS: usize = 100_000;

/// The model with these sizes.
pub(super) fn config(s: &Sizes) -> Config {
    Config {
        hidden_size: s.width,
        intermediate_size: s.feed_forward,
        num_hidden_layers: s.layers,
        num_attention_heads: s.heads,
        num_key_value_heads: s.kv_heads,
        head_dim: s.head_dim,
        max_position_embeddings: 1024,
        vision_config: Some(VisionConfig { image_size: s.image, patch_size: s.patch, bidirectional: true, stem: None, histograms: Vec::new() }),
        audio_config: Some(AudioConfig { num_mel_bins: s.mels, sample_rate: 16_000, clip_seconds: s.clip as f64 / 16_000.0, layers: s.convolutions }),
        ..Config::meadow(s.vocabulary)
    }
}

/// As many samples as fit `s.rows`, at most `most`, each with a picture, a sound and `s.words` words.
pub(super) fn batch(s: &Sizes, config: &Config, most: usize) -> Result<Batch> {
    let (vision, audio) = (config.vision_config.as_ref().expect("set above"), config.audio_config.as_ref().expect("set above"));
    let packer = Packer { config, budget: s.rows, placeholders: Placeholders { image: 1, audio: 2 } };
    let mut draw = Draw::new("a batch");
    let mut batch = Batch::default();
    for sample in 0..most {
        let mut rows: Vec<TokenRow> = Vec::new();
        let mut token = |rows: &mut Vec<TokenRow>, learned| {
            let id = draw.below(s.vocabulary) as u32;
            rows.push(TokenRow::Token { id, truth: id, learned });
        };
        token(&mut rows, false);
        token(&mut rows, false);
        rows.extend(picture_rows(vision));
        token(&mut rows, false);
        token(&mut rows, false);
        rows.extend(std::iter::repeat_n(TokenRow::Frame, audio.rows()));
        token(&mut rows, false);
        (0..s.words + 1).for_each(|_| token(&mut rows, true));
        let pixels = (0..s.image * s.image * 3).map(|_| draw.below(256) as u8).collect();
        let mel = normals(audio.frames() * audio.num_mel_bins, 1.0, sample);
        if !packer.add(&mut batch, &Sequence { rows, pixels: Some(pixels), mel: Some(mel), ..Sequence::default() })? {
            break;
        }
    }
    Ok(batch)
}

/// A model in training and its batch.
pub(super) struct BenchStep {
    trainer: Trainer,
    batch: Batch,
}

impl BenchStep {
    /// Allocates everything.
    ///
    /// # Errors
    /// Where memory does not suffice.
    pub(super) fn new(s: &Sizes, most: usize, device: &Device, precision: Precision) -> Result<BenchStep> {
        let config = config(s);
        let recipe = Recipe { rows: s.rows, precision, ..Recipe::meadow(STEPS, 1) };
        let trainer = recipe::trainer(&config, &recipe, device)?;
        Ok(BenchStep { trainer, batch: batch(s, &config, most)? })
    }

    /// The model in training and its batch.
    pub(super) fn into_parts(self) -> (Trainer, Batch) {
        (self.trainer, self.batch)
    }

    /// One step; returns when it is done, because it reads its loss.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub(super) fn run(&mut self) -> Result<()> {
        self.trainer.step(&self.batch).map(drop)
    }
}

/// Bytes that a step needs.
pub(super) fn bytes(s: &Sizes, precision: Precision) -> u64 {
    let config = config(s);
    Trainer::bytes(&config, Capacity::for_budget(&config, s.rows), ActivationOptions::new(precision.dtype()))
}

/// `N=1904 samples=28 M=392 D=64 layers=3 V=450`
pub(super) fn label(s: &Sizes, batch: &Batch) -> String {
    let (rows, samples, predicted) = (batch.rows(), batch.samples, batch.logit_row.len());
    format!("N={rows} samples={samples} M={predicted} D={} layers={} V={}", s.width, s.layers, s.vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flops;

    #[test]
    fn the_demo_is_the_demo_and_small_is_as_large_as_it_says() {
        assert_eq!(Config { max_position_embeddings: 128, ..config(&Sizes::DEMO) }, Config::meadow(Sizes::DEMO.vocabulary));
        let batch = |s: &Sizes| super::batch(s, &config(s), usize::MAX).unwrap();
        assert_eq!(label(&Sizes::DEMO, &batch(&Sizes::DEMO)), "N=1904 samples=28 M=392 D=64 layers=3 V=450");
        let small = batch(&Sizes::SMALL);
        assert_eq!((small.rows(), small.samples, small.logit_row.len()), (Sizes::SMALL.rows, Sizes::SMALL.samples, Sizes::SMALL.logit_rows));
        // Embeddings, and per layer attention, feed-forward and norms; then the last norm, patches and the stem.
        let s = Sizes::SMALL;
        let layer = 4 * s.width * s.width + 3 * s.width * s.feed_forward + 2 * s.width + 2 * s.head_dim;
        let eyes = (s.patch * s.patch * 3 + 1 + 2 * s.image / s.patch) * s.width;
        let ears = (3 * s.mels + 3 * s.width + 2) * s.width;
        let parameters = s.vocabulary * s.width + s.layers * layer + s.width + eyes + ears;
        assert!((120_000_000..130_000_000).contains(&parameters), "{parameters}");
        for s in Sizes::ALL {
            config(&s).validate().unwrap();
            assert!(flops(&config(&s), &batch(&s)) > 0);
        }
    }

    #[test]
    fn a_step_runs() {
        let s = Sizes { rows: 150, ..Sizes::DEMO };
        let mut step = BenchStep::new(&s, usize::MAX, &Device::Cpu, Precision::F32).unwrap();
        step.run().unwrap();
        assert_eq!(step.batch.samples, 2);
    }
}
