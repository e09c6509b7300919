//! Does knowledge cross?
//!
//! Text says of every animal whether it is a pet, and of every action whether it is loud. Pictures and sounds are captioned, all of them;
//! but the question is asked about pictures and sounds of four animals and four actions only. Then it is asked about the other two, of
//! which only text says it ([`super::facts`]).
//!
//! Each run is done twice, the second time with these facts reversed. A model that makes no use of them answers as before, so the mean of
//! its shares of right answers in the two runs, each beside its own facts, is one half whatever it guesses from; a model that
//! uses them is right in both. That mean is the result ([`Transfer::use_of_facts`]); the share that is right in one run alone is not a result.

use super::facts::{self, World};
pub use super::facts::{FactKind, Variant};
use super::store::Store;
use super::study::{self, Runs, Stage};
use super::{Budget, ExperimentProgress, Spread};
use crate::data::Tokenizer;
use crate::data::meadow::words::parse;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::score::Prediction;
use crate::model::{Config, Parameters};
use crate::tensor::DType;
use crate::train::Example;
use crate::train::evaluate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// The default budget: steps of each run, of as many rows as [`super::fusion`]'s.
pub const STEPS: usize = 2000;
/// Samples that each seed draws.
pub const SAMPLES: usize = 10_000;

/// What a model answered about one kind of facts, beside the facts that it was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Right about pictures or sounds of subjects that the question was learned on.
    pub learned: f64,
    /// Right about pictures or sounds of subjects that only text speaks about. Chance: 0.5.
    pub held_out: f64,
    /// Right about these in text alone, where it was asked that way while training.
    pub text: Option<f64>,
    /// How often its own caption names the held-out subject right; without, the words cannot carry the fact.
    pub named: f64,
    /// The answers that `held_out` counts, `y` or `n` each.
    pub said: String,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferRun {
    /// How it was taught and asked.
    pub variant: Variant,
    /// The seed of everything else.
    pub seed: u64,
    /// Whether the facts about what is held out were reversed.
    pub flipped: bool,
    /// What it was trained on.
    pub stage: Stage,
    /// What it answered.
    pub answers: BTreeMap<FactKind, Answers>,
}

/// All runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// What each run spent.
    pub budget: Budget,
    /// The runs, by seed, variant, and whether they are flipped.
    pub runs: Vec<TransferRun>,
}

/// The experiment, into a folder; runs that are already there are not repeated. `watch` is told every step and may stop it.
///
/// # Errors
/// [`crate::Error::Usage`] where the folder holds an experiment with other settings; [`crate::Error::Interrupted`] where `watch` says so:
/// runs that have ended are kept.
pub fn run(budget: &Budget, seeds: usize, folder: &Path, device: &Device, watch: &mut dyn FnMut(&ExperimentProgress) -> ControlFlow<()>) -> Result<Transfer> {
    budget.validate(seeds)?;
    let mut runs = Runs::new(Store::open(folder, "transfer", budget)?, device, watch);
    let seeds = budget.seeds(seeds);
    let each = || Variant::ALL.into_iter().flat_map(|variant| [false, true].map(|flipped| (variant, flipped)));
    let file = |seed: u64, variant: Variant, flipped: bool| format!("{}{}-{seed}", variant.key(), if flipped { "-flipped" } else { "" });
    let files: Vec<String> = seeds.iter().flat_map(|&seed| each().map(move |(variant, flipped)| file(seed, variant, flipped))).collect();
    runs.expect::<TransferRun>(&files, budget.steps)?;
    let mut all = Vec::new();
    for (number, &seed) in seeds.iter().enumerate() {
        for (variant, flipped) in each() {
            let facts = if flipped { "facts reversed" } else { "facts as they are" };
            let shown = format!("{}, {facts}, seed {} of {}", variant.name(), number + 1, seeds.len());
            let said = |run: &TransferRun| {
                let parts: Vec<String> = run.answers.iter().map(|(kind, a)| format!("{:.1} % of the {}", 100.0 * a.held_out, kind.modality())).collect();
                format!("right about {}", parts.join(", "))
            };
            let train = |runs: &mut Runs| train(runs, budget, variant, World { seed, flipped });
            all.push(runs.record(&file(seed, variant, flipped), shown, train, said)?);
        }
    }
    Ok(Transfer { budget: budget.clone(), runs: all })
}

fn train(runs: &mut Runs, budget: &Budget, variant: Variant, world: World) -> Result<TransferRun> {
    // The same tokenizer, so the same parameters at the start, whatever is taught: all words of all variants.
    let text = (0..budget.samples).flat_map(|i| {
        let plan = crate::data::meadow::plan(world.seed, 0, i);
        [plan.attributes.caption(true, true), "something".into()]
    });
    let kinds = FactKind::ALL.into_iter();
    let facts = kinds.flat_map(|kind| {
        (0..6).map(move |s| world.sentence(kind, s)).map(|(read, learned)| format!("{read} {learned}")).chain([format!("{} yes no not", kind.question())])
    });
    let text: Vec<String> = text.chain(facts).collect();
    let tokenizer = Tokenizer::train(text.iter().map(String::as_str), 1024)?;
    let config = study::config(budget, &tokenizer)?;
    let examples = study::examples(&config, &tokenizer, budget.samples, |i| {
        let drawn = world.train(variant, i);
        (drawn.sample, drawn.question)
    })?;
    let mut batches = study::batches(budget, world.seed, &config, &tokenizer, &examples)?;
    let parameters = Parameters::init(&config, &runs.device, DType::F32, world.seed)?;
    let count = parameters.count();
    let mut trainer = study::trainer(budget, &config, parameters, budget.steps)?;
    let stage = runs.stage("captions, facts and questions", &mut trainer, count, |_| Ok(batches.draw()?.0))?;
    let judge = Judge { config: &config, parameters: &trainer.parameters, tokenizer: &tokenizer, variant, world };
    let answers = FactKind::ALL.into_iter().map(|kind| Ok((kind, judge.answers(kind, budget.test_samples)?))).collect::<Result<_>>()?;
    Ok(TransferRun { variant, seed: world.seed, flipped: world.flipped, stage, answers })
}

struct Judge<'a> {
    config: &'a Config,
    parameters: &'a Parameters,
    tokenizer: &'a Tokenizer,
    variant: Variant,
    world: World,
}

impl Judge<'_> {
    fn answers(&self, kind: FactKind, tests: usize) -> Result<Answers> {
        let (learned, _, _) = self.asked(kind, false, tests)?;
        let (held_out, said, named) = self.asked(kind, true, tests)?;
        let text = if self.variant == Variant::Plain { None } else { Some(self.in_text(kind, tests)?) };
        let said = said.into_iter().map(|yes| if yes { 'y' } else { 'n' }).collect();
        Ok(Answers { learned, held_out, text, named, said })
    }

    /// The share of right answers about pictures or sounds, the answers, and how often its caption names the subject.
    fn asked(&self, kind: FactKind, held_out: bool, tests: usize) -> Result<(f64, Vec<bool>, f64)> {
        let plans: Vec<_> = (0..tests).map(|i| self.world.test(kind, held_out, i).0).collect();
        let bare = study::examples(self.config, self.tokenizer, tests, |i| (self.world.test(kind, held_out, i).1, None))?;
        let bare = Arc::unwrap_or_clone(bare);
        let captions = evaluate::describe(self.config, self.parameters, self.tokenizer, &bare, &mut |_, _| ControlFlow::Continue(()))?;
        let subjects: Vec<usize> = plans.iter().map(|plan| kind.of(&plan.attributes)).collect();
        let told = |caption: &str| if kind == FactKind::Pet { parse(caption)[0] } else { parse(caption)[5] };
        let named = subjects.iter().zip(&captions).filter(|(subject, caption)| told(caption) == Some(**subject)).count();
        let asked = bare.into_iter().zip(&captions).map(|(example, caption)| self.with_question(example, kind, caption)).collect::<Result<Vec<_>>>()?;
        let (right, said) = self.judged(kind, &asked, &subjects)?;
        Ok((right, said, named as f64 / tests as f64))
    }

    /// The share of right answers about captions of what is held out, without picture or sound.
    fn in_text(&self, kind: FactKind, tests: usize) -> Result<f64> {
        let plans: Vec<_> = (0..tests).map(|i| self.world.test(kind, true, i).0).collect();
        let asked = plans.iter().map(|plan| self.with_question(Example::default(), kind, &plan.attributes.caption(plan.picture, plan.sound)));
        let subjects: Vec<usize> = plans.iter().map(|plan| kind.of(&plan.attributes)).collect();
        Ok(self.judged(kind, &asked.collect::<Result<Vec<_>>>()?, &subjects)?.0)
    }

    fn with_question(&self, example: Example, kind: FactKind, caption: &str) -> Result<Example> {
        let (prompt, question) = facts::prompt(self.variant, kind, caption);
        let question = question.map_or(Ok(Vec::new()), |question| self.tokenizer.encode(&question))?;
        Ok(Example { prompt: self.tokenizer.encode(&prompt)?, question, ..example })
    }

    /// Which of "yes" and "no" it finds likelier, and how often that is what its facts say.
    fn judged(&self, kind: FactKind, asked: &[Example], subjects: &[usize]) -> Result<(f64, Vec<bool>)> {
        let [yes, no] = ["yes", "no"].map(|word| self.losses(asked, word));
        let said: Vec<bool> = yes?.iter().zip(no?).map(|(yes, no)| *yes < no).collect();
        let right = said.iter().zip(subjects).filter(|(yes, subject)| **yes == self.world.fact(kind, **subject)).count();
        Ok((right as f64 / asked.len().max(1) as f64, said))
    }

    /// The cross-entropy of one answer to each question.
    fn losses(&self, asked: &[Example], answer: &str) -> Result<Vec<f64>> {
        let words = self.tokenizer.encode(answer)?;
        let answered: Vec<Example> = asked.iter().map(|example| Example { words: words.clone(), ..example.clone() }).collect();
        let mut each = Vec::new();
        let mut take = |prediction: Prediction| each.push(prediction.loss);
        evaluate::predict(self.config, self.parameters, self.tokenizer, &answered, &mut take, &mut |_, _| ControlFlow::Continue(()))?;
        // The answer's tokens, and the end, which is not asked.
        let losses: Vec<f64> = each.chunks(words.len() + 1).map(|of| of[..words.len()].iter().sum()).collect();
        if losses.len() != asked.len() {
            return Err(Error::mismatch("transfer", "answers", asked.len(), losses.len()));
        }
        Ok(losses)
    }
}

impl Transfer {
    /// The seeds' pairs of runs, as told and reversed, that both have ended.
    fn pairs(&self, variant: Variant) -> Vec<(&TransferRun, &TransferRun)> {
        let of = |flipped: bool| self.runs.iter().filter(move |run| run.variant == variant && run.flipped == flipped);
        of(false).filter_map(|usual| Some((usual, of(true).find(|run| run.seed == usual.seed)?))).collect()
    }

    fn spread(&self, variant: Variant, kind: FactKind, value: impl Fn(&Answers, &Answers) -> f64) -> Spread {
        Spread::of(&self.values(variant, kind, value))
    }

    fn values(&self, variant: Variant, kind: FactKind, value: impl Fn(&Answers, &Answers) -> f64) -> Vec<f64> {
        let both = |(usual, turned): (&TransferRun, &TransferRun)| Some(value(usual.answers.get(&kind)?, turned.answers.get(&kind)?));
        self.pairs(variant).into_iter().filter_map(both).collect()
    }

    /// The mean of the shares that are right as told and with the facts reversed, over the seeds: 0.5 means that it makes no use of the facts.
    pub fn use_of_facts(&self, variant: Variant, kind: FactKind) -> Spread {
        self.spread(variant, kind, |usual, turned| (usual.held_out + turned.held_out) / 2.0)
    }

    /// The share of answers that turned round with the facts.
    pub fn turned(&self, variant: Variant, kind: FactKind) -> Spread {
        self.spread(variant, kind, |usual, turned| {
            let pairs = usual.said.chars().zip(turned.said.chars());
            pairs.filter(|(a, b)| a != b).count() as f64 / usual.said.len().max(1) as f64
        })
    }

    /// Seeds that every variant has both runs of.
    pub fn seeds(&self) -> usize {
        Variant::ALL.map(|variant| self.pairs(variant).len()).into_iter().min().unwrap_or(0)
    }

    /// Every variant and kind in per cent: mean ± deviation over the seeds.
    pub fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let header = ["", "asked about", "use of facts", "as told", "reversed", "turned round", "learned on", "in text", "named right"];
        let mut rows = Vec::new();
        for variant in Variant::ALL {
            for kind in FactKind::ALL {
                let mean = |of: fn(&Answers) -> f64| self.spread(variant, kind, |usual, turned| (of(usual) + of(turned)) / 2.0).percent();
                let text = if variant == Variant::Plain { "–".into() } else { mean(|a| a.text.unwrap_or(0.0)) };
                rows.push(vec![
                    variant.name().into(),
                    kind.modality().into(),
                    self.use_of_facts(variant, kind).percent(),
                    self.spread(variant, kind, |usual, _| usual.held_out).percent(),
                    self.spread(variant, kind, |_, turned| turned.held_out).percent(),
                    self.turned(variant, kind).percent(),
                    mean(|a| a.learned),
                    text,
                    mean(|a| a.named),
                ]);
            }
        }
        let mut chance = vec![String::from("chance"), String::new(), "50.0".into(), "50.0".into(), "50.0".into()];
        chance.extend([String::new(), "50.0".into(), "50.0".into(), "16.7".into()]);
        rows.push(chance);
        (header.map(String::from).into(), rows)
    }

    /// What follows, in sentences.
    pub fn findings(&self) -> Vec<String> {
        let each = Variant::ALL.into_iter().flat_map(|variant| FactKind::ALL.map(|kind| (variant, kind)));
        each.map(|(variant, kind)| {
            let uses = self.use_of_facts(variant, kind);
            let verdict = match uses {
                Spread { min, .. } if min > 0.5 => "above one half for every seed",
                Spread { max, .. } if max < 0.5 => "below one half for every seed",
                _ => "not on one side of one half for every seed: it is not shown that the facts are used",
            };
            format!("{}, {}: {} % right over both runs, 50 means that the facts are not used; {verdict}", variant.name(), kind.modality(), uses.percent())
        })
        .collect()
    }

    /// The use of facts by variant, a dot for each seed, as an SVG.
    pub fn svg(&self) -> String {
        let uses = |variant: Variant, kind: FactKind| self.values(variant, kind, |usual, turned| (usual.held_out + turned.held_out) / 2.0);
        let learned = |variant: Variant, kind: FactKind| self.values(variant, kind, |usual, turned| (usual.learned + turned.learned) / 2.0);
        let groups = |of: &dyn Fn(Variant) -> Vec<f64>| Variant::ALL.iter().map(|variant| of(*variant)).collect();
        super::chart::bars(&super::chart::Bars {
            title: format!("Does knowledge cross? {} steps each, seeds: {}, both runs", self.budget.steps, self.seeds()),
            y: "answers right, facts as told and reversed".into(),
            groups: Variant::ALL.map(|variant| variant.name().into()).into(),
            series: vec![
                ("pictures, known from text only".into(), groups(&|v| uses(v, FactKind::Pet))),
                ("pictures, learned on".into(), groups(&|v| learned(v, FactKind::Pet))),
                ("sounds, known from text only".into(), groups(&|v| uses(v, FactKind::Loud))),
                ("sounds, learned on".into(), groups(&|v| learned(v, FactKind::Loud))),
            ],
            chance: 0.5,
        })
    }
}
