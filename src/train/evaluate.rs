//! What has it learned? Captions of held-out samples, word for word and attribute by attribute, beside [`chance`] and the most frequent answer.

use super::examples::{Example, output_ids, placeholders};
use crate::data::Attributes;
use crate::data::order::{below, stream};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::batch::{Batch, Packer};
use crate::model::generate::{Generator, Sampling};
use crate::model::score::{Prediction, Scorer};
use crate::model::{Config, Parameters};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Samples described at a time.
const AT_ONCE: usize = 64;

/// Tokens that a caption may have in any case.
const LEAST: usize = 64;

/// Rows scored at a time, or those of the longest sample.
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
    /// Every picture is replaced by an even middle grey.
    BlankPictures,
    /// Every sound is replaced by silence.
    BlankSounds,
}

/// A grey picture's value in every channel: the middle, which the model is fed as (nearly) 0.
const GREY: u8 = 128;

/// The log-mel value of silence in every frame and bin: `(log10(1e-10) + 4) / 4`.
const SILENCE: f32 = -1.5;

impl Ablation {
    /// Those that take something away.
    pub const ALL: [Ablation; 4] = [Ablation::ShuffledPictures, Ablation::BlankPictures, Ablation::ShuffledSounds, Ablation::BlankSounds];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Ablation::None => "as it is",
            Ablation::ShuffledPictures => "shuffled pictures",
            Ablation::ShuffledSounds => "shuffled sounds",
            Ablation::BlankPictures => "grey pictures",
            Ablation::BlankSounds => "silent sounds",
        }
    }

    /// Whether a sample has what is taken away.
    fn concerns(self, example: &Example) -> bool {
        match self {
            Ablation::None => false,
            Ablation::ShuffledPictures | Ablation::BlankPictures => example.pixels.is_some(),
            Ablation::ShuffledSounds | Ablation::BlankSounds => example.mel.is_some(),
        }
    }

    /// Whether it changes anything: some samples must have what is taken away, and for shuffling at least two.
    pub fn applies(self, examples: &[Example]) -> bool {
        let least = if matches!(self, Ablation::ShuffledPictures | Ablation::ShuffledSounds) { 2 } else { 1 };
        examples.iter().filter(|e| self.concerns(e)).take(least).count() == least
    }
}

/// Shares of samples, from 0 to 1. An attribute counts only where the true caption names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Samples described.
    pub samples: usize,
    /// The whole caption, word for word.
    pub exact: f64,
    /// Where the data set declares no attributes and some captions repeat: each different caption, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<CaptionScore>,
    /// One share per attribute, by its name; absent where no caption names it.
    #[serde(flatten)]
    pub attributes: BTreeMap<String, f64>,
}

/// How often one caption is right.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CaptionScore {
    /// The caption.
    pub caption: String,
    /// Samples that it is true of.
    pub samples: usize,
    /// The share of them that are described so, word for word.
    pub exact: f64,
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
/// needs (see [`Scorer`]). `progress(done, total)` can stop the work.
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
    let (mut sum, mut losses) = (0.0, Losses { loss: 0.0, tokens: 0, correct: 0 });
    let mut take = |prediction: Prediction| {
        sum += prediction.loss;
        losses.tokens += 1;
        losses.correct += (prediction.best == prediction.truth) as usize;
    };
    predict(config, parameters, tokenizer, examples, &mut take, progress)?;
    losses.loss = sum / losses.tokens.max(1) as f64;
    Ok(losses)
}

/// What a model makes of every word that the examples predict, in their order, nothing hidden. `progress(done, total)` may stop the work.
///
/// # Errors
/// [`Error::Usage`] where an example does not fit the model; [`Error::Interrupted`] where `progress` says so.
pub(crate) fn predict(
    config: &Config,
    parameters: &Parameters,
    tokenizer: &Tokenizer,
    examples: &[Example],
    take: &mut dyn FnMut(Prediction),
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<()> {
    let special = tokenizer.special();
    let rows = || examples.iter().map(|e| e.rows(config));
    let budget = ROWS.min(rows().sum()).max(rows().max().unwrap_or(0));
    let packer = Packer { config, budget, placeholders: placeholders(&special) };
    let mut scorer = Scorer::new(config, parameters, packer.budget, &output_ids(config, tokenizer))?;
    let mut score = |batch: &Batch| -> Result<()> {
        scorer.run(parameters, batch)?.into_iter().for_each(&mut *take);
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
            score(&std::mem::take(&mut batch))?;
            packer.add(&mut batch, &sequence)?;
        }
    }
    score(&batch)?;
    let _ = progress(examples.len(), examples.len());
    Ok(())
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
    // A caption longer than the truth is wrong already.
    let most = examples.iter().map(|e| e.words.len() + 1).max().unwrap_or(0).max(LEAST);
    let longest = examples.iter().map(|e| e.rows(config)).max().unwrap_or(0).saturating_add(most);
    let mut generator = Generator::sized(config, parameters, AT_ONCE.min(examples.len().max(1)), longest)?;
    let (packer, ids) = (Packer { config, budget: 0, placeholders: placeholders(&special) }, output_ids(config, tokenizer));
    let mut captions = Vec::with_capacity(examples.len());
    for chunk in examples.chunks(AT_ONCE) {
        if progress(captions.len(), examples.len()).is_break() {
            return Err(Error::Interrupted { step: 0 });
        }
        let prompts: Vec<_> = chunk.iter().map(|example| example.before_caption(config, &special)).collect();
        let words = generator.run(parameters, &packer, &prompts, &ids, most, Sampling::default(), |_, _| ())?;
        for ids in words {
            captions.push(tokenizer.decode(&ids)?);
        }
    }
    let _ = progress(examples.len(), examples.len());
    Ok(captions)
}

/// A random order of `n` things in which as few as possible stay in place: for shuffling a modality between samples.
fn derangement(n: usize, seed: u64) -> Vec<usize> {
    // Sattolo's algorithm: one cycle, so that nothing stays where it was (for n > 1).
    let mut rng = stream(seed, 0, n as u64);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(&mut rng, i));
    }
    order
}

/// The examples with a modality shuffled between those that have it, or blanked in all of them.
pub fn ablate(examples: &[Example], ablation: Ablation, seed: u64) -> Vec<Example> {
    let mut changed = examples.to_vec();
    let with: Vec<usize> = (0..examples.len()).filter(|&i| ablation.concerns(&examples[i])).collect();
    for (to, from) in derangement(with.len(), seed).into_iter().enumerate() {
        let (to, from) = (&mut changed[with[to]], &examples[with[from]]);
        match ablation {
            Ablation::None => {}
            Ablation::ShuffledPictures => to.pixels.clone_from(&from.pixels),
            Ablation::ShuffledSounds => to.mel.clone_from(&from.mel),
            Ablation::BlankPictures => to.pixels.iter_mut().flatten().for_each(|value| *value = GREY),
            Ablation::BlankSounds => to.mel.iter_mut().flatten().for_each(|value| *value = SILENCE),
        }
    }
    changed
}

/// Compares captions with the truth, whole and attribute by attribute. An attribute counts where the true caption says something about it.
pub fn score(examples: &[Example], captions: &[String], attributes: &Attributes) -> Scores {
    let pairs = || examples.iter().zip(captions);
    let share = |right: usize, of: usize| if of == 0 { 0.0 } else { right as f64 / of as f64 };
    let right = |(e, caption): &(&Example, &String)| e.text.split_whitespace().eq(caption.split_whitespace());
    let exact = pairs().filter(right).count();
    let parsed: Vec<_> = pairs().map(|(e, caption)| (attributes.of(&e.text), attributes.of(caption))).collect();
    let mut shares = BTreeMap::new();
    for (index, attribute) in attributes.list().iter().enumerate() {
        let named: Vec<_> = parsed.iter().map(|(truth, said)| (truth[index], said[index])).filter(|(truth, _)| truth.is_some()).collect();
        if !named.is_empty() {
            shares.insert(attribute.name.clone(), share(named.iter().filter(|(truth, said)| truth == said).count(), named.len()));
        }
    }
    let mut each: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for pair in pairs().filter(|_| attributes.is_empty()) {
        let (samples, good) = each.entry(pair.0.text.split_whitespace().collect::<Vec<_>>().join(" ")).or_default();
        *samples += 1;
        *good += right(&pair) as usize;
    }
    let mut captions: Vec<CaptionScore> = Vec::new();
    if each.values().any(|(samples, _)| *samples > 1) {
        captions = each.into_iter().map(|(caption, (samples, good))| CaptionScore { caption, samples, exact: share(good, samples) }).collect();
        captions.sort_by_key(|of| std::cmp::Reverse(of.samples)); // stable: by their letters where there are as many
    }
    Scores { samples: examples.len(), exact: share(exact, examples.len()), captions, attributes: shares }
}

/// **Chance**, wherever the program says so: what guessing evenly among the values of each attribute scores. `exact` is that all of them are
/// guessed right, which is a caption's chance where the attributes tell captions apart, as Meadow's do: [`chance_on`] looks.
///
/// What the best single answer scores is another thing, and is called that: [`most_frequent_answer`].
pub fn chance(attributes: &Attributes) -> Scores {
    let attributes: BTreeMap<_, _> = attributes.list().iter().map(|of| (of.name.clone(), 1.0 / of.values.len() as f64)).collect();
    Scores { exact: attributes.values().product(), attributes, ..Scores::default() }
}

/// [`chance`] on some samples, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Chance {
    /// Of a whole caption; absent where the attributes do not tell all captions apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<f64>,
    /// Of each attribute that some caption names, by its name.
    #[serde(flatten)]
    pub attributes: BTreeMap<String, f64>,
}

/// [`chance`] on samples with these captions: of the attributes that some of them names, and of whole captions where every caption names all
/// of these and no two different ones name the same.
pub fn chance_on<'a>(captions: impl IntoIterator<Item = &'a str>, attributes: &Attributes) -> Chance {
    let texts: BTreeSet<Vec<&str>> = captions.into_iter().map(|caption| caption.split_whitespace().collect()).collect();
    let values: Vec<Vec<Option<usize>>> = texts.iter().map(|words| attributes.of(&words.join(" "))).collect();
    let mut known = chance(attributes).attributes;
    let named: Vec<usize> = (0..attributes.list().len()).filter(|&i| values.iter().any(|of| of[i].is_some())).collect();
    known.retain(|name, _| named.iter().any(|&i| attributes.list()[i].name == *name));
    let all = values.iter().all(|of| named.iter().all(|&i| of[i].is_some()));
    let apart = values.iter().collect::<BTreeSet<_>>().len() == values.len();
    Chance { exact: (!known.is_empty() && all && apart).then(|| known.values().product()), attributes: known }
}

/// **The most frequent answer**: what one answer for all samples gets, the best in hindsight: the most frequent caption for `exact`, the most
/// frequent word for an attribute, each token by how often it occurs for the loss, the most frequent token for the accuracy. A model that neither
/// looks nor listens, and knows nothing of how words follow each other, can hardly do better. It is never below [`chance`].
///
/// # Errors
/// [`Error::Usage`] where there is no example.
pub fn most_frequent_answer(examples: &[Example], tokenizer: &Tokenizer, attributes: &Attributes) -> Result<(Losses, Scores)> {
    if examples.is_empty() {
        return Err(Error::Usage("there is no sample to evaluate on".into()));
    }
    let mut captions: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    let mut tokens: BTreeMap<u32, usize> = BTreeMap::new();
    for example in examples {
        *captions.entry(example.text.split_whitespace().collect()).or_default() += 1;
        for &id in example.words.iter().chain([&tokenizer.special().eos]) {
            *tokens.entry(id).or_default() += 1;
        }
    }
    let (total, correct) = (tokens.values().sum::<usize>(), tokens.values().max().copied().unwrap_or(0));
    let loss = tokens.values().map(|&n| n as f64 / total as f64).map(|share| -share * share.ln()).sum();
    let parsed: Vec<_> = examples.iter().map(|e| attributes.of(&e.text)).collect();
    let mut shares = BTreeMap::new();
    for (index, attribute) in attributes.list().iter().enumerate() {
        let mut said = vec![0; attribute.values.len()];
        parsed.iter().filter_map(|truth| truth[index]).for_each(|value| said[value] += 1);
        let (most, of) = (said.iter().max().copied().unwrap_or(0), said.iter().sum::<usize>());
        if of > 0 {
            shares.insert(attribute.name.clone(), most as f64 / of as f64);
        }
    }
    let exact = captions.values().max().copied().unwrap_or(0) as f64 / examples.len() as f64;
    Ok((Losses { loss, tokens: total, correct }, Scores { samples: examples.len(), exact, captions: Vec::new(), attributes: shares }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(tokenizer: &Tokenizer, text: &str, pixel: Option<u8>, level: Option<f32>) -> Example {
        Example {
            name: text.into(),
            split: None,
            prompt: Vec::new(),
            question: Vec::new(),
            text: text.into(),
            words: tokenizer.encode(text).unwrap(),
            colors: Vec::new(),
            told_by: Vec::new(),
            pixels: pixel.map(|value| vec![value; 12]),
            mel: level.map(|value| vec![value; 6]),
        }
    }

    #[test]
    fn ablations_change_what_they_name_and_nothing_else() {
        let tokenizer = Tokenizer::train(["a cat"], 300).unwrap();
        let examples: Vec<_> = (0..5).map(|i| example(&tokenizer, "a cat", (i != 2).then_some(i), (i > 2).then_some(i as f32))).collect();
        for ablation in Ablation::ALL {
            assert!(ablation.applies(&examples));
            assert_eq!(ablation.applies(&examples[3..4]), matches!(ablation, Ablation::BlankPictures | Ablation::BlankSounds));
            assert!(!ablation.applies(&examples[2..3]));
            let changed = ablate(&examples, ablation, 0);
            let pictures = matches!(ablation, Ablation::ShuffledPictures | Ablation::BlankPictures);
            for (before, after) in examples.iter().zip(&changed) {
                assert_eq!(before.text, after.text);
                assert_eq!(before.pixels != after.pixels, pictures && before.pixels.is_some());
                assert_eq!(before.mel != after.mel, !pictures && before.mel.is_some());
                assert_eq!(before.pixels.is_some(), after.pixels.is_some());
            }
        }
        assert_eq!(ablate(&examples, Ablation::BlankPictures, 0)[0].pixels, Some(vec![128; 12]));
        let mut pictures: Vec<_> = ablate(&examples, Ablation::ShuffledPictures, 0).into_iter().filter_map(|e| e.pixels).map(|p| p[0]).collect();
        pictures.sort();
        assert_eq!(pictures, [0, 1, 3, 4]);
    }

    /// What the sound front end makes of zeros.
    #[test]
    fn silence_is_what_silence_sounds_like() {
        let audio = Config::meadow(300).audio_config.unwrap();
        let frontend = crate::train::examples::AudioFrontend::new(&audio, &crate::Device::Cpu, crate::DType::F32).unwrap();
        let frames = frontend.frames(&[&vec![0.0; audio.samples()]]).unwrap().remove(0);
        assert!(frames.iter().all(|value| (value - SILENCE).abs() < 1e-6));
    }

    #[test]
    fn blind_guessing_is_counted() {
        let tokenizer = Tokenizer::train(["red", "green apple"], 300).unwrap();
        let examples: Vec<_> = ["red", "red", "red", "green apple"].map(|text| example(&tokenizer, text, None, None)).into();
        let (none, meadow) = (Attributes::default(), Attributes::meadow());
        let (losses, scores) = most_frequent_answer(&examples, &tokenizer, &none).unwrap();
        assert_eq!((losses.tokens, losses.correct, scores.samples), (9, 4, 4)); // 3 red, green, apple, 4 ends
        let entropy = [3.0, 1.0, 1.0, 4.0f64].iter().map(|n| -n / 9.0 * (n / 9.0).ln()).sum::<f64>();
        assert!((losses.loss - entropy).abs() < 1e-12 && (losses.perplexity() - entropy.exp()).abs() < 1e-9);
        assert_eq!((scores.exact, scores.attributes.len()), (0.75, 0));
        let examples: Vec<_> = ["a cat", "a cat", "a dog"].map(|text| example(&tokenizer, text, None, None)).into();
        assert_eq!(most_frequent_answer(&examples, &tokenizer, &meadow).unwrap().1.attributes["species"], 2.0 / 3.0);
        assert!(most_frequent_answer(&[], &tokenizer, &none).is_err());
        // Chance is what guessing evenly gets, whatever the samples are; of a caption where attributes tell all of them apart.
        let species = |exact| Chance { exact, attributes: [("species".to_string(), 1.0 / 6.0)].into() };
        assert_eq!(chance_on(["a cat", "a  cat", "a dog"], &meadow), species(Some(1.0 / 6.0)));
        assert_eq!(chance_on(["a cat", "a dog", "one dog"], &meadow), species(None), "two captions name the same");
        assert_eq!(chance_on(["a cat", "a house"], &meadow), species(None), "one names nothing");
        assert_eq!(chance_on(["a cat"], &none), Chance::default());
        assert_eq!(chance(&meadow).attributes["species"], 1.0 / 6.0);
        let said = ["a cat", "a  cat", "a cow"].map(String::from);
        let scores = score(&examples, &said, &meadow);
        assert_eq!((scores.exact, scores.attributes["species"], scores.captions.len()), (2.0 / 3.0, 2.0 / 3.0, 0));
        // Without attributes, a caption that happens to hold a word of Meadow's is a caption like any other.
        let scores = score(&examples, &said, &none);
        assert_eq!((scores.exact, scores.attributes.len()), (2.0 / 3.0, 0));
        let each = |caption: &str, samples, exact| CaptionScore { caption: caption.into(), samples, exact };
        assert_eq!(scores.captions, [each("a cat", 2, 1.0), each("a dog", 1, 0.0)]);
        assert!(score(&examples[1..], &said[1..], &none).captions.is_empty(), "no caption repeats");
    }
}
