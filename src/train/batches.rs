//! What a step is fed: samples in a shuffled order, with words hidden, packed into batches.

use super::examples::{Example, Preprocessor, placeholders, row_limit};
use super::recipe::Recipe;
use crate::data::balance::Balance;
use crate::data::loader::{BadSamples, DataPosition, LoadedSample, Loader, LoaderOptions};
use crate::data::order::stream;
use crate::data::tokenizer::Special;
use crate::data::{Dataset, Tokenizer};
use crate::error::Result;
use crate::model::Config;
use crate::model::batch::{Batch, Packer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::sync::Arc;

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
        let preprocessor = Preprocessor::new(config, tokenizer)?;
        let limit = row_limit(config, recipe.rows);
        let make = move |sample| {
            let example = preprocessor.example(sample)?;
            limit.expect(example.rows(&preprocessor.config))?;
            Ok(example)
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

    /// The same, from epochs that visit each class equally often. To be asked for before the first batch.
    ///
    /// # Errors
    /// As [`Loader::balanced`].
    pub fn balanced(self, balance: Balance) -> Result<Self> {
        Ok(Batches { loader: self.loader.balanced(balance)?, ..self })
    }

    /// The next batch, and the place in the data after its last sample: samples in the epoch's order until one does not fit.
    ///
    /// # Errors
    /// As [`Loader::next`].
    pub fn draw(&mut self) -> Result<(Batch, DataPosition)> {
        let packer = Packer { config: &self.config, budget: self.recipe.rows, placeholders: placeholders(&self.special) };
        let (mut batch, mut after) = (Batch::default(), DataPosition::default());
        loop {
            let loaded = match self.held.take() {
                Some(loaded) => loaded,
                None => self.loader.next()?,
            };
            let mut rng = stream(self.recipe.seed, 2 + loaded.epoch, loaded.index);
            // How much is hidden differs from sample to sample: a little, or all.
            let share = if uniform(&mut rng) < self.recipe.word_dropout { uniform(&mut rng) } else { 0.0 };
            let mut sequence = loaded.item.sequence(&self.config, &self.special, || uniform(&mut rng) < share);
            if let Some(pixels) = sequence.pixels.as_mut().filter(|_| self.recipe.color_jitter > 0.0) {
                jitter_color(pixels, [0; 3].map(|_| 1.0 + self.recipe.color_jitter * (2.0 * uniform(&mut rng) - 1.0)));
            }
            if !packer.add(&mut batch, &sequence)? {
                self.held = Some(loaded);
                return Ok((batch, after));
            }
            after = loaded.after;
            // A batch may end with its epoch: a small data set must not appear in it twice.
            if loaded.last_of_epoch {
                return Ok((batch, after));
            }
        }
    }

    /// The bad samples that were skipped.
    pub fn bad(&self) -> BadSamples {
        self.loader.bad()
    }
}

/// Scales the three colour channels.
fn jitter_color(pixels: &mut [u8], gain: [f32; 3]) {
    for pixel in pixels.chunks_exact_mut(3) {
        for (value, gain) in pixel.iter_mut().zip(gain) {
            *value = (*value as f32 * gain + 0.5) as u8; // the cast saturates
        }
    }
}

fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}
