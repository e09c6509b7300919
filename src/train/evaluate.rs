//! What has it learned? Captions of held-out samples, word for word and attribute by attribute, beside chance.

use super::examples::{Example, placeholders};
use super::fit::derangement;
use crate::data::meadow::words::{ATTRIBUTE, parse};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::batch::{Batch, Packer};
use crate::model::generate::{Generator, Sampling, prompt_of};
use crate::model::score::Scorer;
use crate::model::{Config, Parameters};
use serde::Serialize;
use std::ops::ControlFlow;

/// Samples described at a time.
const AT_ONCE: usize = 64;

/// Rows scored at a time, or the longest sample that the model takes.
const ROWS: usize = 2048;

/// What is taken from the samples before they are described.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ablation {
    /// Nothing.
    None,
    /// Every picture is replaced by another sample's.
    ShuffledPictures,
    /// Every sound is replaced by another sample's.
    ShuffledSounds,
}

/// Shares of samples, from 0 to 1. An attribute counts only where the true caption names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Samples described.
    pub samples: usize,
    /// The whole caption, word for word.
    pub exact: f64,
    /// One share per attribute, in Meadow's order; absent where no caption names it.
    #[serde(flatten)]
    pub attributes: std::collections::BTreeMap<&'static str, f64>,
}

/// How well a model predicts each next word of texts that it is given word by word (teacher forcing), `<eos>` included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Losses {
    /// The mean cross-entropy over all predicted tokens, in nats.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: usize,
    /// Tokens that the model found the most likely.
    pub correct: usize,
}

impl Losses {
    /// `e` to the loss: among how many equally likely tokens the model would be as unsure.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }

    /// The share of tokens predicted right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.tokens.max(1) as f64
    }
}

/// The loss of a model on examples, nothing hidden, by a forward pass that allocates neither gradients nor what a backward pass
/// needs (see [`Scorer`]). `progress(done, total)` may stop the work.
///
/// # Errors
/// [`Error::Usage`] where there is no example or one does not fit the model; [`Error::Interrupted`] where `progress` says so.
pub fn loss(
    config: &Config,
    parameters: &Parameters,
    tokenizer: &Tokenizer,
    examples: &[Example],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Losses> {
    if examples.is_empty() {
        return Err(Error::Usage("there is no sample to evaluate on".into()));
    }
    let special = tokenizer.special();
    let packer = Packer { config, budget: ROWS.max(config.max_position_embeddings), placeholders: placeholders(&special) };
    let mut scorer = Scorer::new(config, parameters, packer.budget)?;
    let (mut sum, mut losses) = (0.0, Losses { loss: 0.0, tokens: 0, correct: 0 });
    let mut take = |batch: &Batch| -> Result<()> {
        for prediction in scorer.run(parameters, batch)? {
            sum += prediction.loss;
            losses.tokens += 1;
            losses.correct += (prediction.best == prediction.truth) as usize;
        }
        Ok(())
    };
    let mut batch = Batch::default();
    for (done, example) in examples.iter().enumerate() {
        let sequence = example.sequence(config, &special, || false);
        let named = |e| Error::Usage(format!("{}: {e}", example.name));
        if !packer.add(&mut batch, &sequence).map_err(named)? {
            if progress(done, examples.len()).is_break() {
                return Err(Error::Interrupted { step: 0 });
            }
            take(&std::mem::take(&mut batch))?;
            packer.add(&mut batch, &sequence)?;
        }
    }
    take(&batch)?;
    let _ = progress(examples.len(), examples.len());
    losses.loss = sum / losses.tokens.max(1) as f64;
    Ok(losses)
}

/// The model's caption of every example, in order. `progress(done, total)` may stop the work.
///
/// # Errors
/// [`Error::Interrupted`] where `progress` says so.
pub fn describe(
    config: &Config,
    parameters: &Parameters,
    tokenizer: &Tokenizer,
    examples: &[Example],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<String>> {
    let special = tokenizer.special();
    let mut generator = Generator::new(config, parameters, AT_ONCE.min(examples.len().max(1)))?;
    let packer = Packer { config, budget: 0, placeholders: placeholders(&special) };
    let mut captions = Vec::with_capacity(examples.len());
    for chunk in examples.chunks(AT_ONCE) {
        if progress(captions.len(), examples.len()).is_break() {
            return Err(Error::Interrupted { step: 0 });
        }
        let prompts: Vec<_> = chunk.iter().map(|e| prompt_of(&e.sequence(config, &special, || false))).collect();
        let words = generator.run(parameters, &packer, &prompts, special.eos, 64, Sampling::default(), |_, _| ())?;
        for ids in words {
            captions.push(tokenizer.decode(&ids)?);
        }
    }
    let _ = progress(examples.len(), examples.len());
    Ok(captions)
}

/// The examples with a modality shuffled between those that have it.
pub fn ablate(examples: &[Example], ablation: Ablation, seed: u64) -> Vec<Example> {
    let mut shuffled = examples.to_vec();
    let has = |e: &Example| match ablation {
        Ablation::None => false,
        Ablation::ShuffledPictures => e.pixels.is_some(),
        Ablation::ShuffledSounds => e.mel.is_some(),
    };
    let with: Vec<usize> = (0..examples.len()).filter(|&i| has(&examples[i])).collect();
    for (to, from) in derangement(with.len(), seed).into_iter().enumerate() {
        let (to, from) = (&mut shuffled[with[to]], &examples[with[from]]);
        match ablation {
            Ablation::None => {}
            Ablation::ShuffledPictures => to.pixels.clone_from(&from.pixels),
            Ablation::ShuffledSounds => to.mel.clone_from(&from.mel),
        }
    }
    shuffled
}

/// Compares captions with the truth.
pub fn score(examples: &[Example], captions: &[String]) -> Scores {
    let pairs = || examples.iter().zip(captions);
    let share = |right: usize, of: usize| if of == 0 { 0.0 } else { right as f64 / of as f64 };
    let exact = pairs().filter(|(e, caption)| e.text == **caption).count();
    let mut attributes = std::collections::BTreeMap::new();
    for (index, (name, _)) in ATTRIBUTE.iter().enumerate() {
        let named: Vec<_> = pairs().map(|(e, caption)| (parse(&e.text)[index], parse(caption)[index])).filter(|(truth, _)| truth.is_some()).collect();
        if !named.is_empty() {
            attributes.insert(*name, share(named.iter().filter(|(truth, said)| truth == said).count(), named.len()));
        }
    }
    Scores { samples: examples.len(), exact: share(exact, examples.len()), attributes }
}

/// What guessing evenly among the words of each attribute would score.
pub fn chance() -> Scores {
    let attributes: std::collections::BTreeMap<_, _> = ATTRIBUTE.iter().map(|(name, words)| (*name, 1.0 / words.len() as f64)).collect();
    Scores { samples: 0, exact: attributes.values().product(), attributes }
}
