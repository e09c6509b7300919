//! Does it fit? The memory of a training step, known from a config alone, beside what the device has: before anything is allocated.

use super::settings::Settings;
use super::trainer::{ActivationOptions, Trainer};
use crate::device::Device;
use crate::error::Result;
use crate::model::Config;
use crate::model::batch::Capacity;

/// What a trainer for these settings, whose precision is resolved, computes in, with so many captions to tell apart.
pub(super) fn options(settings: &Settings, captions: usize) -> ActivationOptions {
    let training = &settings.training;
    let new = ActivationOptions::new(training.precision.resolved().dtype());
    ActivationOptions {
        recompute: training.recompute,
        word_bag: training.word_bag as f32,
        contrastive: if captions > 0 { training.contrastive as f32 } else { 0.0 },
        captions,
        ..new
    }
}

/// Refuses a model that cannot fit; gives the bytes that its trainer will allocate. `captions`: how many it tells apart.
///
/// # Errors
/// [`crate::Error::OutOfMemory`] with the bytes needed and those available.
pub(super) fn expect(settings: &Settings, config: &Config, device: &Device, captions: usize) -> Result<u64> {
    let bytes = Trainer::bytes(config, Capacity::for_budget(config, settings.training.rows), options(settings, captions));
    device.expect_memory(bytes, "training this model (parameters, gradients, two moments, activations)")?;
    Ok(bytes)
}

/// [`expect`] before there is a tokenizer: with the smallest vocabulary, and without eyes and ears, which a model may turn out not to need.
pub(super) fn expect_at_least(settings: &Settings, device: &Device) -> Result<u64> {
    let config = Config { vision_config: None, audio_config: None, ..settings.model_config(crate::data::tokenizer::SPECIAL.len()) };
    // With more words, fewer logits may be computed at a time.
    let capacity = Capacity::for_budget(&config, settings.training.rows);
    let bytes = Trainer::bytes(&config, Capacity { chunk: capacity.chunk.min(1024), ..capacity }, options(settings, 0));
    device.expect_memory(bytes, "training a model of these sizes, at the least")?;
    Ok(bytes)
}
