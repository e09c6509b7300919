//! What both experiments do: draw examples, train a model through stages, count what that cost.

use super::store::Store;
use super::{Budget, ExperimentProgress};
use crate::data::{Sample, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::batch::{Batch, Capacity};
use crate::model::{Config, Parameters};
use crate::numbers;
use crate::tensor::DType;
use crate::train::batches::Batches;
use crate::train::examples::Preprocessor;
use crate::train::recipe::{Precision, Recipe};
use crate::train::{ActivationOptions, Example, Schedule, Settings, Trainer};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

/// A stage of a run, and what it spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// What it trained on.
    pub on: String,
    /// Optimiser steps.
    pub steps: usize,
    /// Rows of the token matrix.
    pub tokens: usize,
    /// Samples.
    pub samples: usize,
    /// Pictures in them.
    pub pictures: usize,
    /// Sounds in them.
    pub sounds: usize,
    /// Numbers that learned.
    pub parameters: usize,
}

/// Examples of a model's sizes from samples that are drawn on all threads; a sample may have a question about its prompt.
pub(super) fn examples(
    config: &Config,
    tokenizer: &Tokenizer,
    count: usize,
    draw: impl Fn(usize) -> (Sample, Option<String>) + Send + Sync,
) -> Result<Arc<Vec<Example>>> {
    let preprocessor = Preprocessor::new(config, tokenizer)?;
    let make = |i: usize| {
        let (sample, question) = draw(i);
        let question = question.map_or(Ok(Vec::new()), |question| tokenizer.encode(&question))?;
        Ok(Example { question, ..preprocessor.example(sample)? })
    };
    (0..count).into_par_iter().map(make).collect::<Result<Vec<_>>>().map(Arc::new)
}

/// The sizes of a budget's model for a tokenizer.
pub(super) fn config(budget: &Budget, tokenizer: &Tokenizer) -> Result<Config> {
    let mut settings = Settings::preset(&budget.preset)?;
    // Each patch is a row, as the figures of docs/experiments.md were measured: they ask how senses meet, not how well an eye sees.
    if !settings.model.stem.is_empty() {
        (settings.model.stem, settings.model.patch_size) = (String::new(), settings.model.image_size / 6);
    }
    Ok(settings.model_config_for(tokenizer))
}

/// Batches of examples in the order of a seed.
pub(super) fn batches(budget: &Budget, seed: u64, config: &Config, tokenizer: &Tokenizer, examples: &Arc<Vec<Example>>) -> Result<Batches> {
    let recipe = Recipe { rows: budget.rows, precision: Precision::F32, ..Recipe::meadow(budget.steps, seed) };
    Batches::of(examples.clone(), config, tokenizer, recipe)
}

/// A trainer for one stage, with its own warm-up and decay: fresh moments around parameters that may have learned before.
pub(super) fn trainer(budget: &Budget, config: &Config, parameters: Parameters, steps: usize) -> Result<Trainer> {
    Trainer::with_options(ActivationOptions::new(DType::F32), config, parameters, Schedule::meadow(steps), Capacity::for_budget(config, budget.rows))
}

/// All runs of an experiment: those that the store has, and the others, trained one after the other.
pub(super) struct Runs<'a> {
    pub store: Store,
    pub device: Device,
    watch: &'a mut dyn FnMut(&ExperimentProgress) -> ControlFlow<()>,
    run: String,
    steps: (usize, usize),
}

impl<'a> Runs<'a> {
    pub fn new(store: Store, device: &Device, watch: &'a mut dyn FnMut(&ExperimentProgress) -> ControlFlow<()>) -> Self {
        Runs { store, device: device.clone(), watch, run: String::new(), steps: (0, 0) }
    }

    /// Says how many steps are to come: those of the named runs that the store does not have.
    pub fn expect<T: DeserializeOwned>(&mut self, names: &[String], steps: usize) -> Result<()> {
        for name in names {
            self.steps.1 += if self.store.get::<T>(name)?.is_some() { 0 } else { steps };
        }
        Ok(())
    }

    /// A run's record: the store's, or what `run` makes, which is then stored. `said` puts it into a line.
    pub fn record<T: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        shown: String,
        run: impl FnOnce(&mut Self) -> Result<T>,
        said: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        if let Some(record) = self.store.get(name)? {
            return Ok(record);
        }
        let begin = Instant::now();
        self.run = shown;
        let record = run(self)?;
        self.store.put(name, &record)?;
        let line = format!("{}: {} ({})", self.run, said(&record), numbers::duration(begin.elapsed().as_secs_f64()));
        self.tell(f32::NAN, Some(&line))?;
        Ok(record)
    }

    fn tell(&mut self, loss: f32, finished: Option<&str>) -> Result<()> {
        match (self.watch)(&ExperimentProgress { run: &self.run, steps: self.steps, loss, finished }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted { step: self.steps.0 }),
        }
    }

    /// Trains through one stage; `draw(step)` gives its batches.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the watcher says so.
    pub fn stage(&mut self, on: &str, trainer: &mut Trainer, parameters: usize, mut draw: impl FnMut(usize) -> Result<Batch>) -> Result<Stage> {
        let mut stage = Stage { on: on.into(), parameters, ..Stage::default() };
        for step in 0..trainer.schedule.steps {
            let batch = draw(step)?;
            let report = trainer.step(&batch)?;
            stage.steps += 1;
            stage.tokens += batch.rows();
            stage.samples += batch.samples;
            stage.pictures += batch.images;
            stage.sounds += batch.clips;
            self.steps.0 += 1;
            self.tell(report.loss, None)?;
        }
        Ok(stage)
    }
}
