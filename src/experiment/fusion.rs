//! Native or added later?
//!
//! The budget is optimiser steps of equally many rows (see [`Budget`]). Each arm spends all of it:
//!
//! - [`Arm::Native`]: on samples with pictures and sounds, from the first step to the last.
//! - [`Arm::Frozen`]: the first half on captions alone, the second half on samples with pictures and sounds, in which only the two
//!   embedders (patches, and the convolutions over frames) learn: the decoder keeps every bit.
//! - [`Arm::Late`]: the same, with everything learning in the second half.
//! - [`Arm::Equal`]: the control. The very batches of [`Arm::Late`], captions and samples taking turns from the first step: no more
//!   pictures and sounds than the late ones got, in another order.
//!
//! Native sees twice as many pictures and sounds as the other three. So `Native − Late` answers what to do with a budget, and
//! `Equal − Late` whether the order matters or only the practice.
//!
//! All arms of a seed share their data, initial parameters and batches. Each stage has its own warm-up and decay of the learning
//! rate, as when a modality is added to a finished model; the native arms have one of each over the whole budget.

use super::store::Store;
use super::study::{self, Runs, Stage};
use super::{Budget, ExperimentProgress, Spread};
use crate::data::meadow::{self, words};
use crate::data::{Attributes, Tokenizer};
use crate::device::Device;
use crate::error::Result;
use crate::model::{Config, Parameters};
use crate::tensor::DType;
use crate::train::Example;
use crate::train::evaluate::{self, Scores};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// The default budget: steps of each run, rows of each step, samples that each seed draws.
pub const STEPS: usize = 2000;
/// See [`STEPS`]. The demo's batches are twice as large.
pub const ROWS: usize = 960;
/// See [`STEPS`].
pub const SAMPLES: usize = 8000;

/// How a budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// All modalities from the first step.
    Native,
    /// Text first, then pictures and sounds into a frozen decoder.
    #[serde(rename = "late_frozen")]
    Frozen,
    /// Text first, then pictures and sounds, everything learning.
    Late,
    /// The batches of `Late`, mixed from the first step.
    #[serde(rename = "native_equal")]
    Equal,
}

impl Arm {
    /// All of them.
    pub const ALL: [Arm; 4] = [Arm::Native, Arm::Frozen, Arm::Late, Arm::Equal];

    /// Its name in files.
    pub fn key(self) -> &'static str {
        match self {
            Arm::Native => "native",
            Arm::Frozen => "late_frozen",
            Arm::Late => "late",
            Arm::Equal => "native_equal",
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Native => "native",
            Arm::Frozen => "added later, decoder frozen",
            Arm::Late => "added later",
            Arm::Equal => "native, no more samples than later",
        }
    }
}

/// The test splits, in the order of Meadow's.
pub const SPLITS: [&str; 4] = ["iid", "held_out_colour", "held_out_action", "held_out_both"];

/// What a model got right on a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Right {
    /// Captions, word for word.
    pub exact: f64,
    /// Attributes: the mean of [`Right::each`].
    pub attributes: f64,
    /// By attribute.
    pub each: BTreeMap<String, f64>,
}

impl From<Scores> for Right {
    fn from(scores: Scores) -> Self {
        let each = scores.attributes;
        Right { exact: scores.exact, attributes: each.values().sum::<f64>() / each.len().max(1) as f64, each }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FusionRun {
    /// How the budget was spent.
    pub arm: Arm,
    /// The seed of data, parameters and order.
    pub seed: u64,
    /// What it was spent on.
    pub stages: Vec<Stage>,
    /// The results, by split.
    pub splits: BTreeMap<String, Right>,
}

/// All runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    /// What each run spent.
    pub budget: Budget,
    /// The runs, by seed and arm.
    pub runs: Vec<FusionRun>,
}

/// The experiment, into a folder; runs that are already there are not repeated. `watch` is told every step and may stop it.
///
/// # Errors
/// [`crate::Error::Usage`] where the folder holds an experiment with other settings; [`crate::Error::Interrupted`] where `watch` says so:
/// runs that have ended are kept.
pub fn run(budget: &Budget, seeds: usize, folder: &Path, device: &Device, watch: &mut dyn FnMut(&ExperimentProgress) -> ControlFlow<()>) -> Result<Fusion> {
    budget.validate(seeds)?;
    let mut runs = Runs::new(Store::open(folder, "fusion", budget)?, device, watch);
    let seeds = budget.seeds(seeds);
    let file = |arm: Arm, seed: u64| format!("{}-{seed}", arm.key());
    let files: Vec<String> = seeds.iter().flat_map(|&seed| Arm::ALL.map(|arm| file(arm, seed))).collect();
    runs.expect::<FusionRun>(&files, budget.steps / 2 * 2)?;
    let mut all = Vec::new();
    for (number, &seed) in seeds.iter().enumerate() {
        let mut material = None;
        for arm in Arm::ALL {
            let shown = format!("{}, seed {} of {}", arm.name(), number + 1, seeds.len());
            let train = |runs: &mut Runs| {
                if material.is_none() {
                    material = Some(Material::new(budget, seed)?);
                }
                material.as_ref().expect("just made").train(runs, budget, arm, seed)
            };
            let said = |run: &FusionRun| {
                let [iid, both] = ["iid", "held_out_both"].map(|split| 100.0 * run.splits[split].attributes);
                format!("{iid:.1} % of the attributes right, {both:.1} % where both pairs are new")
            };
            all.push(runs.record(&file(arm, seed), shown, train, said)?);
        }
    }
    Ok(Fusion { budget: budget.clone(), runs: all })
}

/// What all arms of a seed share.
struct Material {
    tokenizer: Tokenizer,
    config: Config,
    /// Captions with their pictures and sounds.
    whole: Arc<Vec<Example>>,
    /// The same captions alone.
    text: Arc<Vec<Example>>,
    tests: Vec<Vec<Example>>,
}

impl Material {
    fn new(budget: &Budget, seed: u64) -> Result<Self> {
        let captions: Vec<String> = (0..budget.samples).map(|i| meadow::plan(seed, 0, i)).map(|p| p.attributes.caption(p.picture, p.sound)).collect();
        let tokenizer = Tokenizer::train(captions.iter().map(String::as_str), 1024)?;
        let config = study::config(budget, &tokenizer)?;
        let draw = |split: usize| move |i: usize| (meadow::sample(&meadow::plan(seed, split, i), seed, split, i), None);
        let whole = study::examples(&config, &tokenizer, budget.samples, draw(0))?;
        let text = whole.iter().map(|example| Example { pixels: None, mel: None, ..example.clone() }).collect();
        let tests = (1..=SPLITS.len()).map(|split| study::examples(&config, &tokenizer, budget.test_samples, draw(split)).map(Arc::unwrap_or_clone));
        Ok(Material { tests: tests.collect::<Result<_>>()?, tokenizer, config, whole, text: Arc::new(text) })
    }

    fn train(&self, runs: &mut Runs, budget: &Budget, arm: Arm, seed: u64) -> Result<FusionRun> {
        let half = budget.steps / 2;
        let parameters = Parameters::init(&self.config, &runs.device, DType::F32, seed)?;
        let of = |examples| study::batches(budget, seed, &self.config, &self.tokenizer, examples);
        let (mut text, mut whole) = (of(&self.text)?, of(&self.whole)?);
        let everything = parameters.count();
        let mut stages = Vec::new();
        let parameters = match arm {
            Arm::Native | Arm::Equal => {
                let mut trainer = study::trainer(budget, &self.config, parameters, 2 * half)?;
                let on = if arm == Arm::Native { "pictures, sounds and words" } else { "captions alone and with pictures and sounds, taking turns" };
                let turns = arm == Arm::Equal;
                stages.push(runs.stage(on, &mut trainer, everything, |step| {
                    let source = if turns && step.is_multiple_of(2) { &mut text } else { &mut whole };
                    Ok(source.draw()?.0)
                })?);
                trainer.parameters
            }
            Arm::Frozen | Arm::Late => {
                let mut trainer = study::trainer(budget, &self.config, parameters, half)?;
                stages.push(runs.stage("captions alone", &mut trainer, everything, |_| Ok(text.draw()?.0))?);
                let mut trainer = study::trainer(budget, &self.config, trainer.parameters, half)?;
                let (on, learning) = match arm {
                    Arm::Frozen => ("pictures, sounds and words, decoder frozen", trainer.freeze(is_decoder)?),
                    _ => ("pictures, sounds and words", everything),
                };
                stages.push(runs.stage(on, &mut trainer, learning, |_| Ok(whole.draw()?.0))?);
                trainer.parameters
            }
        };
        let mut splits = BTreeMap::new();
        for (name, examples) in SPLITS.iter().zip(&self.tests) {
            let captions = evaluate::describe(&self.config, &parameters, &self.tokenizer, examples, &mut |_, _| ControlFlow::Continue(()))?;
            splits.insert(name.to_string(), evaluate::score(examples, &captions, &Attributes::meadow()).into());
        }
        Ok(FusionRun { arm, seed, stages, splits })
    }
}

/// Whether a tensor belongs to the decoder, the table of words included, and not to one of the two embedders.
pub fn is_decoder(name: &str) -> bool {
    !name.starts_with("vision_") && !name.starts_with("audio_embed.")
}

impl Fusion {
    /// The runs of an arm.
    fn of(&self, arm: Arm) -> impl Iterator<Item = &FusionRun> {
        self.runs.iter().filter(move |run| run.arm == arm)
    }

    /// What an arm got right of a split over its seeds: the share of attributes, or of whole captions.
    pub fn spread(&self, arm: Arm, split: &str, exact: bool) -> Spread {
        Spread::of(&self.values(arm, split, exact))
    }

    fn values(&self, arm: Arm, split: &str, exact: bool) -> Vec<f64> {
        self.of(arm).filter_map(|run| run.splits.get(split)).map(|right| if exact { right.exact } else { right.attributes }).collect()
    }

    /// How many points of a split's attributes one arm is ahead of another, seed by seed.
    pub fn ahead(&self, arm: Arm, of: Arm, split: &str) -> Spread {
        let differences: Vec<f64> = self.values(arm, split, false).iter().zip(self.values(of, split, false)).map(|(a, b)| a - b).collect();
        Spread::of(&differences)
    }

    /// Seeds that every arm has.
    pub fn seeds(&self) -> usize {
        self.of(Arm::Equal).count()
    }

    /// What each arm spent (the mean of its seeds), the attributes that it got right in each split, and the captions of the first, in per
    /// cent: mean ± deviation over the seeds.
    pub fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let header = ["", "tokens", "samples", "pictures", "sounds", "iid", "new colour", "new action", "both new", "iid exact"];
        let mut rows = Vec::new();
        for arm in Arm::ALL {
            // The mean: batches end where the next sample does not fit, which differs a little from seed to seed.
            let total = |of: fn(&Stage) -> usize| {
                let sums: Vec<usize> = self.of(arm).map(|run| run.stages.iter().map(of).sum()).collect();
                (sums.iter().sum::<usize>() / sums.len().max(1)).to_string()
            };
            let spent = [total(|s| s.tokens), total(|s| s.samples), total(|s| s.pictures), total(|s| s.sounds)];
            let right = SPLITS.map(|split| self.spread(arm, split, false).percent());
            let exact = self.spread(arm, SPLITS[0], true).percent();
            rows.push([arm.name().to_string()].into_iter().chain(spent).chain(right).chain([exact]).collect());
        }
        let chance = evaluate::chance(&Attributes::meadow());
        let each = 100.0 * chance.attributes.values().sum::<f64>() / words::ATTRIBUTE.len() as f64;
        let blank = std::iter::repeat_n(String::new(), 4);
        rows.push(
            ["chance".to_string()]
                .into_iter()
                .chain(blank)
                .chain(SPLITS.map(|_| format!("{each:.1}")))
                .chain([format!("{:.2}", 100.0 * chance.exact)])
                .collect(),
        );
        (header.map(String::from).into(), rows)
    }

    /// What follows, in sentences: each comparison with its own spread over the seeds, and what that spread allows to say.
    pub fn findings(&self) -> Vec<String> {
        let say = |what: &str, arm: Arm, of: Arm| {
            let [iid, both] = ["iid", "held_out_both"].map(|split| self.ahead(arm, of, split));
            let points = |s: &Spread| format!("{:+.1} ± {:.1}", 100.0 * s.mean, 100.0 * s.deviation);
            let sure = if iid.min > 0.0 || iid.max < 0.0 { "the same way for every seed" } else { "not the same way for every seed" };
            format!("{what}: {} points of the attributes on iid ({sure}), {} on held_out_both", points(&iid), points(&both))
        };
        vec![
            say("native beside added later, the same budget", Arm::Native, Arm::Late),
            say("native beside added later, the same batches in another order", Arm::Equal, Arm::Late),
            say("added later to a decoder that learns beside one that is frozen", Arm::Late, Arm::Frozen),
        ]
    }

    /// Attributes right by split and arm, a dot for each seed, as an SVG.
    pub fn svg(&self) -> String {
        let chance = evaluate::chance(&Attributes::meadow()).attributes.values().sum::<f64>() / words::ATTRIBUTE.len() as f64;
        super::chart::bars(&super::chart::Bars {
            title: format!("Native or added later? {} steps each, seeds: {}", self.budget.steps, self.seeds()),
            y: "attributes right".into(),
            groups: SPLITS.map(String::from).into(),
            series: Arm::ALL.map(|arm| (arm.name().into(), SPLITS.map(|split| self.values(arm, split, false)).into())).into(),
            chance,
        })
    }
}
