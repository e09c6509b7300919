//! The loop: shuffles, hides words, packs, steps.

use super::examples::{Example, placeholders};
use super::schedule::Schedule;
use super::step::{Options, Report, Trainer};
use crate::data::tokenizer::Special;
use crate::error::{Error, Result};
use crate::model::batch::{Batch, Capacity, Packer};
use crate::model::{Config, Parameters};
use crate::tensor::DType;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Rows of a batch.
    pub rows: usize,
    /// Learning rate, warm-up, decay, clipping.
    pub schedule: Schedule,
    /// Share of the samples whose caption is hidden from the model's input in part (a share of its words drawn evenly from
    /// none to all); what it has to predict stays.
    ///
    /// A model that reads the true words before it predicts the next learns the captions' habits ("after *orange* never
    /// *cat*") instead of looking. Words that it cannot read it has to see.
    pub hide: f32,
    /// How much the light on a picture varies from visit to visit: each colour channel is scaled by 1 ± this. What a thing is
    /// must not hang on its exact shade.
    pub light: f32,
    /// What decides the order of the samples and the hidden words.
    pub seed: u64,
    /// What the kernels read and write.
    #[serde(default)]
    pub precision: Precision,
}

/// What activations and the weights that the kernels read are. Parameters, gradients and moments are f32 in either case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit float.
    #[default]
    F32,
    /// Mixed precision, on devices that run PTX: half the memory and traffic, products on tensor cores.
    Bf16,
}

impl Precision {
    /// The dtype of activations.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }
}

impl Recipe {
    /// The demo's.
    pub fn meadow(steps: usize, seed: u64) -> Self {
        Recipe { rows: 1920, schedule: Schedule::meadow(steps), hide: 1.0, light: 0.25, seed, precision: Precision::F32 }
    }
}

/// Draws batches for ever: every epoch in another order, every visit with other words hidden.
pub struct Batches<'a> {
    examples: &'a [Example],
    config: &'a Config,
    special: Special,
    recipe: Recipe,
    order: Vec<usize>,
    next: usize,
    epoch: u64,
}

impl<'a> Batches<'a> {
    /// Starts with the first epoch. Every sample is tried once, so that one that does not fit stops the run before it begins.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is nothing to draw from, or for the first sample that does not fit the model.
    pub fn new(examples: &'a [Example], config: &'a Config, special: Special, recipe: Recipe) -> Result<Self> {
        if examples.is_empty() {
            return Err(Error::Usage("there is no sample to train on".into()));
        }
        let packer = Packer { config, budget: recipe.rows, placeholders: placeholders(&special) };
        for example in examples {
            let sequence = example.sequence(config, &special, || false);
            packer.add(&mut Batch::default(), &sequence).map_err(|e| Error::Usage(format!("{}: {e}", example.name)))?;
        }
        let mut batches = Batches { examples, config, special, recipe, order: (0..examples.len()).collect(), next: 0, epoch: 0 };
        batches.shuffle();
        Ok(batches)
    }

    fn shuffle(&mut self) {
        let mut rng = stream(self.recipe.seed, 1, self.epoch);
        for i in (1..self.order.len()).rev() {
            self.order.swap(i, below(&mut rng, i + 1));
        }
    }

    /// The next batch: samples in the epoch's order until one does not fit.
    ///
    /// # Errors
    /// None that [`Batches::new`] has not found.
    pub fn draw(&mut self) -> Result<Batch> {
        let packer = Packer { config: self.config, budget: self.recipe.rows, placeholders: placeholders(&self.special) };
        let mut batch = Batch::default();
        loop {
            let example = &self.examples[self.order[self.next]];
            let mut rng = stream(self.recipe.seed, 2 + self.epoch, self.order[self.next] as u64);
            // How much is hidden differs from sample to sample: a little, or all.
            let share = if uniform(&mut rng) < self.recipe.hide { uniform(&mut rng) } else { 0.0 };
            let mut sequence = example.sequence(self.config, &self.special, || uniform(&mut rng) < share);
            if let Some(pixels) = &mut sequence.pixels {
                relight(pixels, [0; 3].map(|_| 1.0 + self.recipe.light * (2.0 * uniform(&mut rng) - 1.0)));
            }
            if !packer.add(&mut batch, &sequence)? {
                return Ok(batch);
            }
            self.next += 1;
            if self.next == self.order.len() {
                self.next = 0;
                self.epoch += 1;
                self.shuffle();
                // A batch may end with its epoch: a small data set must not appear in it twice.
                return Ok(batch);
            }
        }
    }
}

/// Trains until the schedule ends. `on_step` sees the trainer after every step (to save it, say) and may stop the run.
///
/// # Errors
/// [`Error::NonFinite`] where a loss or gradient goes bad, [`Error::Interrupted`] where `on_step` says so (the trainer then
/// holds the last whole step).
pub fn fit(trainer: &mut Trainer, batches: &mut Batches, mut on_step: impl FnMut(&Trainer, &Report, &Batch) -> ControlFlow<()>) -> Result<()> {
    if trainer.step >= trainer.schedule.steps {
        return Ok(());
    }
    let first = batches.draw()?;
    let mut ready = trainer.ready(first)?;
    while trainer.step < trainer.schedule.steps {
        let (report, batch, next) = trainer.step_ready(ready, || batches.draw())?;
        ready = next;
        if on_step(trainer, &report, &batch).is_break() && trainer.step < trainer.schedule.steps {
            return Err(Error::Interrupted { step: trainer.step });
        }
    }
    Ok(())
}

/// A trainer for a recipe, with fresh parameters on a device.
pub fn start(config: &Config, recipe: &Recipe, device: &crate::Device) -> Result<Trainer> {
    let capacity = Capacity::for_budget(config, recipe.rows);
    device.expect_memory(Trainer::bytes(config, capacity, Options::new(recipe.precision.dtype())), "a training step")?;
    let parameters = Parameters::init(config, device, DType::F32, recipe.seed)?;
    Trainer::with_options(Options::new(recipe.precision.dtype()), config, parameters, recipe.schedule, capacity)
}

/// Scales the three colour channels.
fn relight(pixels: &mut [u8], gain: [f32; 3]) {
    for pixel in pixels.chunks_exact_mut(3) {
        for (value, gain) in pixel.iter_mut().zip(gain) {
            *value = (*value as f32 * gain + 0.5) as u8; // the cast saturates
        }
    }
}

/// A generator of its own for each purpose and index: the same numbers whatever was drawn before.
fn stream(seed: u64, purpose: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, value) in key.chunks_exact_mut(8).zip([seed, purpose, index, 0x7472_696d_6f64_616c]) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((rng.next_u32() as u64 * n as u64) >> 32) as usize
}

fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// A random order of `n` things in which as few as possible stay in place: for shuffling a modality between samples.
pub(super) fn derangement(n: usize, seed: u64) -> Vec<usize> {
    // Sattolo's algorithm: one cycle, so that nothing stays where it was (for n > 1).
    let mut rng = stream(seed, 0, n as u64);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(&mut rng, i));
    }
    order
}
