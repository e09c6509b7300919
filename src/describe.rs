//! What a model says about pictures and sounds from files.
//!
//! ```no_run
//! # use std::path::Path;
//! use trimodal::{DType, Device, describe::Describer, model::generate::Sampling, train::ModelFolder};
//! # fn main() -> trimodal::Result<()> {
//! let model = ModelFolder::open(Path::new("my-model"), &Device::open("auto", None)?, DType::F32)?;
//! let mut describer = Describer::new(&model, 1);
//! let question = describer.question(Some(Path::new("cat.jpg")), Some(Path::new("purr.wav")), "")?;
//! let answers = describer.answer(&[question], Sampling::default(), 256, |_, words| print!("{words}"))?;
//! # Ok(())
//! # }
//! ```

use crate::data::tokenizer::Tokenizer;
use crate::data::{Limits, picture, sound};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::model::batch::{Packer, Sequence, TokenRow};
use crate::model::choices::Chooser;
use crate::model::generate::{Generator, Sampling};
use crate::tensor::DType;
use crate::train::choices::choose_after;
use crate::train::examples::{AudioFrontend, output_ids, placeholders, sizes};
use crate::train::{Choices, Example, ModelFolder, Ranking};
use std::ops::ControlFlow;
use std::path::Path;

/// A model, and buffers for describing several things at once.
pub struct Describer<'m> {
    model: &'m ModelFolder,
    device: Device,
    /// Made when the first question says how much is needed, and again when one needs more.
    generator: Option<Generator>,
    /// The same for answers from a list.
    chooser: Option<Chooser>,
    at_once: usize,
}

/// A picture, a sound, the words to begin with, or any of these together, ready for a model.
#[derive(Clone, Debug)]
pub struct Question {
    prompt: Sequence,
    given: Vec<u32>,
}

impl Question {
    /// Whether it shows a picture, and a sound.
    pub fn shows(&self) -> (bool, bool) {
        (self.prompt.pixels.is_some(), self.prompt.mel.is_some())
    }

    /// The rows that the model is given, and the picture and the sound that some of them come from.
    pub fn prompt(&self) -> &Sequence {
        &self.prompt
    }
}

/// What a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The words, after those that the question began with.
    pub text: String,
    /// The ids of the tokens that the model made.
    pub ids: Vec<u32>,
    /// Whether the model ended the text; else it was stopped, by the caller or at the length that it was built for.
    pub ended: bool,
}

impl Answer {
    /// Whether there is no word in it, neither of the model's nor of the question's.
    pub fn is_nothing(&self) -> bool {
        self.text.trim().is_empty()
    }
}

impl<'m> Describer<'m> {
    /// For up to `at_once` questions at a time, on the model's device.
    pub fn new(model: &'m ModelFolder, at_once: usize) -> Self {
        Describer { model, device: model.parameters.norm.device().clone(), generator: None, chooser: None, at_once: at_once.max(1) }
    }

    /// A question about files, which are brought to the model's sizes.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::Usage`] for a picture where the model has no eyes, a sound where it has no ears, words
    /// that its tokenizer does not know, or nothing at all.
    pub fn question(&self, picture: Option<&Path>, sound: Option<&Path>, words: &str) -> Result<Question> {
        let (config, tokenizer) = (&self.model.config, &self.model.tokenizer);
        let words = words.trim();
        if picture.is_none() && sound.is_none() && words.is_empty() {
            return Err(Error::Usage("nothing to describe: expected a picture, a sound or words to begin with".into()));
        }
        let example = example(config, tokenizer, &self.device, picture, sound, "")?;
        let mut prompt = example.before_caption(config, &tokenizer.special());
        let given = if words.is_empty() { Vec::new() } else { tokenizer.encode(words)? };
        prompt.rows.extend(given.iter().map(|&id| TokenRow::Token { id, truth: id, learned: false }));
        Ok(Question { prompt, given })
    }

    /// Says that the model's training never showed it what a question shows, where that is known: `it never met a picture without a sound`. What it
    /// says is then a guess, or nothing.
    pub fn never_met(&self, question: &Question) -> Option<&'static str> {
        let (picture, sound) = question.shows();
        self.model.config.never_met(picture, sound)
    }

    /// The answers in order, each of at most `most` tokens. `on_text(question, text)` is told the text as it is made, beginning with
    /// the question's own words: that of the first question first, and nothing of the next before the first is complete.
    ///
    /// # Errors
    /// [`Error::Usage`] for a question too long for the model, or for sampling that makes no sense; [`Error::OutOfMemory`] where the
    /// device has no room for as many questions at once, as long as they may become.
    pub fn answer(&mut self, questions: &[Question], sampling: Sampling, most: usize, mut on_text: impl FnMut(usize, &str)) -> Result<Vec<Answer>> {
        let Describer { model, generator, at_once, .. } = self;
        let packer = Packer { config: &model.config, budget: 0, placeholders: placeholders(&model.tokenizer.special()) };
        let ids = output_ids(&model.config, &model.tokenizer);
        let mut answers = Vec::with_capacity(questions.len());
        for (chunk, questions) in questions.chunks(*at_once).enumerate() {
            let prompts: Vec<_> = questions.iter().map(|q| q.prompt.clone()).collect();
            let length = prompts.iter().map(|p| p.rows.len()).max().unwrap_or(0).saturating_add(most);
            if generator.as_ref().is_none_or(|g| !g.fits(questions.len(), length)) {
                *generator = None; // room for the larger one
            }
            let generator = match generator {
                Some(generator) => generator,
                None => generator.insert(Generator::sized(&model.config, &model.parameters, questions.len(), length)?),
            };
            let mut texts = Texts::new(&model.tokenizer, questions.iter().map(|q| q.given.clone()));
            let mut tell = |i: usize, text: &str| on_text(chunk * *at_once + i, text);
            texts.tell(&mut tell);
            let words = generator.run(&model.parameters, &packer, &prompts, &ids, most, sampling, |i, id| texts.add(i, id, &mut tell))?;
            for (question, ids) in questions.iter().zip(words) {
                let ended = ids.len() < most && question.prompt.rows.len() + ids.len() <= model.config.max_position_embeddings;
                let text = model.tokenizer.decode(&[question.given.as_slice(), &ids].concat())?;
                answers.push(Answer { text, ids, ended });
            }
        }
        Ok(answers)
    }
}

impl Describer<'_> {
    /// Ranks the captions of a list as what follows each question's words, instead of making one. `progress(done, total)` counts captions of
    /// all questions, and may stop the work.
    ///
    /// # Errors
    /// [`Error::Usage`] for a caption that is too long for the model after a question; [`Error::OutOfMemory`]; [`Error::Interrupted`] where
    /// `progress` says so.
    pub fn choose(&mut self, questions: &[Question], choices: &Choices, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<Vec<Ranking>> {
        let ModelFolder { config, parameters, tokenizer, .. } = self.model;
        let prompts: Vec<Sequence> = questions.iter().map(|q| q.prompt.clone()).collect();
        choose_after(config, parameters, tokenizer, &mut self.chooser, &prompts, choices, progress)
    }

    /// A caption of a list as the answer to a question.
    ///
    /// # Errors
    /// Where the tokenizer cannot decode it.
    pub fn chosen(&self, question: &Question, choices: &Choices, place: usize) -> Result<Answer> {
        let ids = choices.ids()[place].clone();
        Ok(Answer { text: self.model.tokenizer.decode(&[question.given.as_slice(), &ids].concat())?, ids, ended: true })
    }
}

/// Texts that grow token by token, all at once, and are reported one after the other.
struct Texts<'t> {
    tokenizer: &'t Tokenizer,
    /// Of each text: its tokens, and whether it is complete.
    ids: Vec<Vec<u32>>,
    complete: Vec<bool>,
    /// The text that is being reported, and how many of its bytes already were.
    current: usize,
    told: usize,
}

impl<'t> Texts<'t> {
    fn new(tokenizer: &'t Tokenizer, given: impl Iterator<Item = Vec<u32>>) -> Self {
        let ids: Vec<_> = given.collect();
        Texts { tokenizer, complete: vec![false; ids.len()], ids, current: 0, told: 0 }
    }

    /// One more token of a text, or its end.
    fn add(&mut self, text: usize, id: Option<u32>, tell: &mut impl FnMut(usize, &str)) {
        match id {
            Some(id) => self.ids[text].push(id),
            None => self.complete[text] = true,
        }
        while text == self.current || self.complete.get(self.current) == Some(&true) {
            self.tell(tell);
            if !self.complete[self.current] {
                return;
            }
            (self.current, self.told) = (self.current + 1, 0);
            self.tell(tell);
        }
    }

    /// Reports what is new in the current text.
    fn tell(&mut self, tell: &mut impl FnMut(usize, &str)) {
        let Some(ids) = self.ids.get(self.current) else { return };
        let Ok(text) = self.tokenizer.decode(ids) else { return };
        let ready = if self.complete[self.current] { text.as_str() } else { whole(&text) };
        if let Some(new) = ready.get(self.told..).filter(|new| !new.is_empty()) {
            tell(self.current, new);
            self.told = ready.len();
        }
    }
}

/// The part of a decoded text that more tokens cannot change: a character may be spread over several tokens, and its first bytes
/// alone decode to U+FFFD.
fn whole(text: &str) -> &str {
    text.trim_end_matches(char::REPLACEMENT_CHARACTER)
}

/// A picture and a sound from files, as an example of a model's sizes.
///
/// # Errors
/// A file that cannot be read; [`Error::Usage`] for a picture where the model has no eyes or a sound where it has no ears.
pub fn example(config: &Config, tokenizer: &Tokenizer, device: &Device, image: Option<&Path>, audio: Option<&Path>, text: &str) -> Result<Example> {
    let (sizes, limits) = (sizes(config), Limits::default());
    let pixels = match (image, &config.vision_config) {
        (None, _) => None,
        (Some(_), None) => return Err(Error::Usage("this model has no eyes (its config.json has no vision_config): leave the picture out".into())),
        (Some(path), Some(_)) => Some(picture::load_fitted(path, sizes.picture, sizes.fit, &limits)?.rgb),
    };
    let mel = match (audio, &config.audio_config) {
        (None, _) => None,
        (Some(_), None) => return Err(Error::Usage("this model has no ears (its config.json has no audio_config): leave the sound out".into())),
        (Some(path), Some(audio)) => {
            let waveform = sound::load(path, sizes.sample_rate, sizes.samples, &limits)?;
            AudioFrontend::new(audio, device, DType::F32)?.frames(&[&waveform])?.pop()
        }
    };
    Ok(Example { name: "example".into(), words: tokenizer.encode(text)?, text: text.into(), pixels, mel, ..Example::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of texts that grow together, as `index: text` pieces.
    fn told(tokenizer: &Tokenizer, given: &[&str], events: &[(usize, Option<u32>)]) -> Vec<(usize, String)> {
        let given = given.iter().map(|words| if words.is_empty() { Vec::new() } else { tokenizer.encode(words).unwrap() });
        let mut texts = Texts::new(tokenizer, given);
        let mut pieces = Vec::new();
        let mut tell = |i: usize, text: &str| pieces.push((i, text.to_string()));
        texts.tell(&mut tell);
        events.iter().for_each(|&(i, id)| texts.add(i, id, &mut tell));
        pieces
    }

    /// Characters of two, three and four bytes, one token each byte: each appears once and whole.
    #[test]
    fn a_character_over_several_tokens_appears_whole() {
        let tokenizer = Tokenizer::train(["a cat"], 1024).unwrap();
        let text = "a cat é 猫 🐈 a";
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.len() > text.chars().count(), "the bytes are tokens of their own");
        let events: Vec<_> = ids.iter().map(|&id| (0, Some(id))).chain([(0, None)]).collect();
        let pieces = told(&tokenizer, &[""], &events);
        assert!(pieces.iter().all(|(_, piece)| !piece.contains(char::REPLACEMENT_CHARACTER)), "{pieces:?}");
        assert!(pieces.len() >= 8, "it appears as it is made: {pieces:?}");
        assert_eq!(pieces.into_iter().map(|(_, piece)| piece).collect::<String>(), text);
        // Half a character at the end is told at the end; in the middle, with what follows it.
        let cat = tokenizer.encode("猫").unwrap();
        let (half, a) = (cat[cat.len() - 2], tokenizer.encode("a").unwrap()[0]);
        let pieces = told(&tokenizer, &[""], &[(0, Some(half)), (0, None)]);
        assert_eq!(pieces, [(0, "\u{fffd}".to_string())]);
        let pieces = told(&tokenizer, &[""], &[(0, Some(half)), (0, Some(a)), (0, None)]);
        assert_eq!(pieces, [(0, "\u{fffd} a".to_string())]);
    }

    #[test]
    fn texts_that_grow_together_are_told_one_after_the_other() {
        let tokenizer = Tokenizer::train(["a cat purring", "a dog calling"], 1024).unwrap();
        let id = |word: &str| Some(tokenizer.encode(word).unwrap()[0]);
        let events = [(0, id("cat")), (1, id("dog")), (2, id("cat")), (1, id("calling")), (2, None), (0, id("purring")), (1, None), (0, None)];
        let pieces = told(&tokenizer, &["a", "a", ""], &events);
        let expected = [(0, "a"), (0, " cat"), (0, " purring"), (1, "a dog calling"), (2, "cat")];
        assert_eq!(pieces, expected.map(|(i, text)| (i, text.to_string())));
    }
}
