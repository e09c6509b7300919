//! What a step is fed: samples in a shuffled order, with words hidden, packed into batches.

use super::examples::{Example, Preprocessor, placeholders};
use super::schedule::Schedule;
use super::step::{ActivationOptions, Trainer};
use crate::data::loader::{BadSamples, DataPosition, LoadedSample, Loader, LoaderOptions};
use crate::data::order::stream;
use crate::data::tokenizer::Special;
use crate::data::{Dataset, Tokenizer};
use crate::error::{Error, Result};
use crate::model::batch::{Batch, Capacity, Packer};
use crate::model::{Config, Parameters};
use crate::tensor::DType;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// A model that reads the true words before it predicts the next one learns the captions' habits ("after *orange* never
    /// *cat*") instead of looking. For words that it cannot read, it has to look.
    pub hide: f32,
    /// How much the light on a picture varies from visit to visit: each colour channel is scaled by 1 ± this. What a thing is
    /// must not depend on its exact shade.
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

/// Draws batches without end: every epoch in another order, every visit with other words hidden. Samples are decoded ahead on other
/// threads.
pub struct Batches {
    loader: Loader<Example>,
    config: Config,
    special: Special,
    recipe: Recipe,
    /// A sample that did not fit into the last batch.
    held: Option<LoadedSample<Example>>,
}

/// A batch, and where a run continues that has trained on it.
pub struct Drawn {
    /// The batch.
    pub batch: Batch,
    /// The place in the data after its last sample.
    pub after: DataPosition,
}

impl Batches {
    /// Starts at a place in the data. `rows` are the numbers of the data set's rows to train on.
    ///
    /// # Errors
    /// As [`Loader::start`]. A sample that does not fit the model is a bad sample.
    pub fn start(
        dataset: Arc<Dataset>,
        rows: Vec<usize>,
        config: &Config,
        tokenizer: &Tokenizer,
        recipe: Recipe,
        options: LoaderOptions,
        from: DataPosition,
    ) -> Result<Self> {
        let preparer = Preprocessor::new(config, tokenizer)?;
        let limit = recipe.rows.min(config.max_position_embeddings);
        let make = move |sample| {
            let example = preparer.example(sample)?;
            match example.rows(&preparer.config) {
                rows if rows > limit => {
                    Err(Error::Usage(format!("a sample of {rows} rows is too long: the model takes {limit} (picture, sound and words together)")))
                }
                _ => Ok(example),
            }
        };
        let loader = Loader::start(dataset, rows, super::examples::sizes(config), options, from, make, Example::bytes)?;
        Ok(Batches { loader, config: config.clone(), special: tokenizer.special(), recipe, held: None })
    }

    /// As [`Batches::start`] with samples that are in memory already.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no sample.
    pub fn of(examples: Arc<Vec<Example>>, config: &Config, tokenizer: &Tokenizer, recipe: Recipe) -> Result<Self> {
        // A sample is copied, not decoded: one thread suffices, and nothing is worth a cache.
        let options = LoaderOptions { seed: recipe.seed, workers: 1, queue: 64, cache_bytes: 0, ..LoaderOptions::default() };
        let loader = Loader::of(examples.len(), options, move |i| Ok(examples[i].clone()), Example::bytes)?;
        Ok(Batches { loader, config: config.clone(), special: tokenizer.special(), recipe, held: None })
    }

    /// The next batch: samples in the epoch's order until one does not fit.
    ///
    /// # Errors
    /// As [`Loader::next`].
    pub fn draw(&mut self) -> Result<Drawn> {
        let packer = Packer { config: &self.config, budget: self.recipe.rows, placeholders: placeholders(&self.special) };
        let mut drawn = Drawn { batch: Batch::default(), after: DataPosition::default() };
        loop {
            let visit = match self.held.take() {
                Some(visit) => visit,
                None => self.loader.next()?,
            };
            let mut rng = stream(self.recipe.seed, 2 + visit.epoch, visit.index);
            // How much is hidden differs from sample to sample: a little, or all.
            let share = if uniform(&mut rng) < self.recipe.hide { uniform(&mut rng) } else { 0.0 };
            let mut sequence = visit.item.sequence(&self.config, &self.special, || uniform(&mut rng) < share);
            if let Some(pixels) = sequence.pixels.as_mut().filter(|_| self.recipe.light > 0.0) {
                relight(pixels, [0; 3].map(|_| 1.0 + self.recipe.light * (2.0 * uniform(&mut rng) - 1.0)));
            }
            if !packer.add(&mut drawn.batch, &sequence)? {
                self.held = Some(visit);
                return Ok(drawn);
            }
            drawn.after = visit.after;
            // A batch may end with its epoch: a small data set must not appear in it twice.
            if visit.last_of_epoch {
                return Ok(drawn);
            }
        }
    }

    /// The bad samples that were skipped.
    pub fn bad(&self) -> BadSamples {
        self.loader.bad()
    }
}

/// A trainer for a recipe, with fresh parameters on a device.
pub fn start(config: &Config, recipe: &Recipe, device: &crate::Device) -> Result<Trainer> {
    let capacity = Capacity::for_budget(config, recipe.rows);
    device.expect_memory(Trainer::bytes(config, capacity, ActivationOptions::new(recipe.precision.dtype())), "a training step")?;
    let parameters = Parameters::init(config, device, DType::F32, recipe.seed)?;
    Trainer::with_options(ActivationOptions::new(recipe.precision.dtype()), config, parameters, recipe.schedule, capacity)
}

/// Scales the three colour channels.
fn relight(pixels: &mut [u8], gain: [f32; 3]) {
    for pixel in pixels.chunks_exact_mut(3) {
        for (value, gain) in pixel.iter_mut().zip(gain) {
            *value = (*value as f32 * gain + 0.5) as u8; // the cast saturates
        }
    }
}

fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}
