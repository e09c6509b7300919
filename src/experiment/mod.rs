//! Two experiments on the generated data set, each a comparison of many small runs with a control that can prove it wrong.
//!
//! - [`fusion`]: native or added later? One budget, spent on all modalities from the first step or on text first.
//! - [`transfer`]: does knowledge cross? What only text says about some animals, asked about pictures and sounds of them.
//!
//! Every finished run is written down at once ([`store`]), so that an experiment that is stopped continues where it was, and one that
//! is asked for more seeds runs only those. A result is a plain struct with its table and, in the program, its plot. The runs that
//! `docs/experiments.md` describes are in `benches/experiments`, which are such folders.

mod chart;
pub mod facts;
pub mod fusion;
pub mod store;
mod study;
pub mod transfer;

use crate::error::{Error, Result};
use crate::train::Settings;
use serde::{Deserialize, Serialize};

/// What every run of an experiment may spend. Runs of other budgets are not comparable: the store refuses to mix them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Optimiser steps, over all stages of a run.
    pub steps: usize,
    /// Rows of the token matrix of every step: what makes steps equal. Samples are packed until the next one does not fit.
    pub rows: usize,
    /// Samples that each seed draws to train on.
    pub samples: usize,
    /// Samples of each test.
    pub test_samples: usize,
    /// The preset that gives the model its sizes.
    pub preset: String,
    /// The first seed; the others follow it.
    pub seed: u64,
    /// Where the runs compute.
    pub device: String,
}

impl Budget {
    /// The seeds of so many runs.
    fn seeds(&self, count: usize) -> Vec<u64> {
        (0..count as u64).map(|i| self.seed.wrapping_add(i)).collect()
    }

    fn validate(&self, seeds: usize) -> Result<()> {
        let least = [("steps", self.steps, 2), ("samples", self.samples, 40), ("test samples", self.test_samples, 2), ("seeds", seeds, 1)];
        match least.into_iter().find(|(_, found, least)| found < least) {
            Some((what, found, least)) => Err(Error::Usage(format!("{what}: expected at least {least}, found {found}"))),
            None => Settings::preset(&self.preset).map(drop),
        }
    }
}

/// The mean of some seeds' values, and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation; 0 for one value.
    pub deviation: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of some values; all 0 where there are none.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Spread { mean: 0.0, deviation: 0.0, min: 0.0, max: 0.0 };
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
        let fold = |f: fn(f64, f64) -> f64, start| values.iter().copied().fold(start, f);
        Spread { mean, deviation, min: fold(f64::min, f64::INFINITY), max: fold(f64::max, f64::NEG_INFINITY) }
    }

    /// In per cent: `81.3 ± 2.1`.
    pub fn percent(&self) -> String {
        format!("{:.1} ± {:.1}", 100.0 * self.mean, 100.0 * self.deviation)
    }
}

/// Where an experiment is; told after every step.
pub struct ExperimentProgress<'a> {
    /// The run: `late, frozen, seed 2`.
    pub run: &'a str,
    /// Steps of this session so far, of all runs, and how many it will take.
    pub steps: (usize, usize),
    /// The loss of the last step.
    pub loss: f32,
    /// A run that has just ended, in a line: what it came to.
    pub finished: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_mean_and_sample_deviation() {
        assert_eq!(Spread::of(&[0.5]), Spread { mean: 0.5, deviation: 0.0, min: 0.5, max: 0.5 });
        let spread = Spread::of(&[0.1, 0.2, 0.6]);
        assert!((spread.mean - 0.3).abs() < 1e-12 && (spread.deviation - 0.07f64.sqrt()).abs() < 1e-12);
        assert_eq!((spread.min, spread.max, spread.percent()), (0.1, 0.6, "30.0 ± 26.5".into()));
    }
}
