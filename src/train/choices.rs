//! Answering from a list: given captions are ranked by how likely the model finds them, instead of a new one being made.
//!
//! ```no_run
//! # use std::path::Path;
//! use trimodal::{DType, Device, describe::Describer, train::{Choices, ModelFolder}};
//! # fn main() -> trimodal::Result<()> {
//! let model = ModelFolder::open(Path::new("my-model"), &Device::open("auto", None)?, DType::F32)?;
//! let choices = Choices::open(Path::new("captions.txt"), &model.tokenizer)?;
//! let mut describer = Describer::new(&model, 1);
//! let question = describer.question(Some(Path::new("cat.jpg")), None, "")?;
//! let ranking = describer.choose(&[question], &choices, &mut |_, _| std::ops::ControlFlow::Continue(()))?.remove(0);
//! for &place in ranking.best_first.iter().take(5) {
//!     println!("{:.1} %  {}", 100.0 * ranking.probabilities[place], choices.texts()[place]);
//! }
//! # Ok(())
//! # }
//! ```

use super::examples::{Example, placeholders};
use super::stratified::evenly_spaced;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::files::read;
use crate::model::batch::{Packer, Sequence};
use crate::model::choices::{Chooser, best_first, probabilities};
use crate::model::{Config, Parameters};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Answers that go through a model at a time.
pub const AT_ONCE: usize = 64;

/// Bytes that a file of captions may have.
const LIMIT: u64 = 64 << 20;

/// Captions to choose from, no two of them the same, with their tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

impl Choices {
    /// Of a text file in UTF-8 with one caption on each line. Empty lines at its end do not count.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::File`] with the line's number for an empty line, for a caption that stands there twice (white
    /// space aside, or as the same tokens), and for one that the tokenizer has no tokens for; and for a file without any.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let text = read::text(path, LIMIT)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
        if text.is_empty() {
            return Err(Error::file(path, "there is no caption to choose from: expected one on each line"));
        }
        let mut list = List::new(tokenizer);
        for (i, line) in text.lines().enumerate() {
            let at = |what: String| Error::file_at(path, format!("line {}", i + 1), what);
            if line.trim().is_empty() {
                return Err(at("expected a caption, found an empty line".into()));
            }
            match list.add(line).map_err(|e| at(e.to_string()))? {
                None => {}
                Some((twin, true)) => return Err(at(format!("this caption is also in line {}: {:?}", twin + 1, list.choices.texts[twin]))),
                Some((twin, false)) => {
                    return Err(at(format!("to the tokenizer, {:?} is the same as line {}: {:?}", line.trim(), twin + 1, list.choices.texts[twin])));
                }
            }
        }
        Ok(list.choices)
    }

    /// The different ones of these captions, in the order in which they first come.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is none, or the tokenizer has no tokens for one.
    pub fn distinct<'t>(captions: impl IntoIterator<Item = &'t str>, tokenizer: &Tokenizer) -> Result<Self> {
        let mut list = List::new(tokenizer);
        for caption in captions.into_iter().filter(|caption| !caption.trim().is_empty()) {
            list.add(caption)?;
        }
        match list.choices.texts.is_empty() {
            true => Err(Error::Usage("there is no caption to choose from".into())),
            false => Ok(list.choices),
        }
    }

    /// The different ones of these captions that the tokenizer has tokens for, in the order in which they first come; maybe none.
    pub(super) fn with_tokens<'t>(captions: impl IntoIterator<Item = &'t str>, tokenizer: &Tokenizer) -> Self {
        let mut list = List::new(tokenizer);
        for caption in captions.into_iter().filter(|caption| !caption.trim().is_empty()) {
            let _ = list.add(caption);
        }
        list.choices
    }

    /// At most so many of them, evenly spaced, in their order.
    pub(super) fn at_most(self, most: usize) -> Self {
        let (texts, ids) = evenly_spaced(most, self.count()).map(|i| (self.texts[i].clone(), self.ids[i].clone())).unzip();
        Choices { texts, ids }
    }

    /// The captions, white space brought to single spaces.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The tokens of each.
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.texts.len()
    }

    /// Whether a caption is one of them, white space aside.
    pub fn contains(&self, caption: &str) -> bool {
        self.texts.iter().any(|text| text.split_whitespace().eq(caption.split_whitespace()))
    }

    /// Tokens of the longest.
    fn longest(&self) -> usize {
        self.ids.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// A list that grows, and knows where its captions and their tokens stand.
struct List<'t> {
    tokenizer: &'t Tokenizer,
    choices: Choices,
    by_text: HashMap<String, usize>,
    by_ids: HashMap<Vec<u32>, usize>,
}

impl<'t> List<'t> {
    fn new(tokenizer: &'t Tokenizer) -> Self {
        List { tokenizer, choices: Choices { texts: Vec::new(), ids: Vec::new() }, by_text: HashMap::new(), by_ids: HashMap::new() }
    }

    /// Adds a caption, unless its twin is there: its place, and whether it is the same text.
    fn add(&mut self, caption: &str) -> Result<Option<(usize, bool)>> {
        let text = caption.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(&twin) = self.by_text.get(&text) {
            return Ok(Some((twin, true)));
        }
        let ids = self.tokenizer.encode(&text)?;
        if let Some(&twin) = self.by_ids.get(&ids) {
            return Ok(Some((twin, false)));
        }
        let place = self.choices.texts.len();
        self.by_text.insert(text.clone(), place);
        self.by_ids.insert(ids.clone(), place);
        self.choices.texts.push(text);
        self.choices.ids.push(ids);
        Ok(None)
    }
}

/// A list of captions, judged for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The log-probability of each caption with its end, in nats: what the model gives it among everything that it could say, and, where it was
    /// trained to tell captions from pictures and sounds alone, beside the others of the list: see [`Chooser::run`].
    pub log_probabilities: Vec<f64>,
    /// The softmax of these: how likely each is, if it must be one of the list.
    pub probabilities: Vec<f64>,
    /// Their places in the list, the most likely first; of equally likely ones the first of the list.
    pub best_first: Vec<usize>,
}

impl Ranking {
    fn new(log_probabilities: Vec<f64>) -> Self {
        Ranking { probabilities: probabilities(&log_probabilities), best_first: best_first(&log_probabilities), log_probabilities }
    }

    /// The place of the most likely.
    pub fn best(&self) -> usize {
        self.best_first[0]
    }
}

/// Ranks a list after each of some prompts, up to [`AT_ONCE`] prompts at a time. `chooser` is made when the first prompts say how much is
/// needed, and again when some need more. `progress(done, total)` counts captions of all prompts, and may stop the work.
///
/// # Errors
/// [`Error::Usage`] for a caption that is too long for the model after a prompt; [`Error::OutOfMemory`]; [`Error::Interrupted`] where
/// `progress` says so.
pub(crate) fn choose_after(
    config: &Config,
    parameters: &Parameters,
    tokenizer: &Tokenizer,
    chooser: &mut Option<Chooser>,
    prompts: &[Sequence],
    choices: &Choices,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Ranking>> {
    let special = tokenizer.special();
    let packer = Packer { config, budget: 0, placeholders: placeholders(&special) };
    let longest = prompts.iter().map(|prompt| prompt.rows.len()).max().unwrap_or(0);
    let length = longest + choices.longest();
    if length > config.max_position_embeddings {
        let place = choices.ids.iter().position(|ids| ids.len() == choices.longest()).unwrap_or(0);
        return Err(Error::Usage(format!(
            "{:?} has {} tokens, and what comes before it {longest} rows: the model takes {} (picture, sound and words together)",
            choices.texts[place],
            choices.longest(),
            config.max_position_embeddings
        )));
    }
    let total = prompts.len() * choices.count();
    let slots = AT_ONCE.min(total);
    if chooser.as_ref().is_none_or(|c| !c.fits(slots, length)) {
        *chooser = None; // room for the larger one
        *chooser = Some(Chooser::new(config, parameters, slots, length)?);
    }
    let chooser = chooser.as_mut().expect("made above");
    let mut rankings = Vec::with_capacity(prompts.len());
    for prompts in prompts.chunks(AT_ONCE) {
        let before = rankings.len() * choices.count();
        let scores = chooser.run(parameters, &packer, prompts, &choices.ids, special.eos, &mut |done| progress(before + done, total))?;
        rankings.extend(scores.into_iter().map(Ranking::new));
    }
    Ok(rankings)
}

/// Ranks a list for every example, after its picture, its sound and its prompt, in order. `progress(done, total)` counts captions of all
/// examples, and may stop the work.
///
/// # Errors
/// [`Error::Usage`] for a caption that is too long for the model after an example's prompt; [`Error::OutOfMemory`];
/// [`Error::Interrupted`] where `progress` says so.
pub fn choose(
    config: &Config,
    parameters: &Parameters,
    tokenizer: &Tokenizer,
    examples: &[Example],
    choices: &Choices,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Ranking>> {
    let special = tokenizer.special();
    let prompts: Vec<Sequence> = examples.iter().map(|example| example.before_caption(config, &special)).collect();
    choose_after(config, parameters, tokenizer, &mut None, &prompts, choices, progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &[u8]) -> std::result::Result<Choices, String> {
        let tokenizer = Tokenizer::train(["a red cat", "a blue dog"], 300).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        std::fs::write(&path, text).unwrap();
        Choices::open(&path, &tokenizer).map_err(|e| e.to_string().replace(&path.display().to_string(), "list.txt"))
    }

    #[test]
    fn a_list_is_one_caption_a_line() {
        let choices = opened("\u{feff}a red  cat \r\na blue dog\n\n\n".as_bytes()).unwrap();
        assert_eq!(choices.texts(), ["a red cat", "a blue dog"]);
        assert!(choices.count() == 2 && choices.contains(" a  red cat") && !choices.contains("a cat"));
        let refused = |text: &[u8], part: &str| {
            let error = opened(text).unwrap_err();
            assert!(error.starts_with("list.txt") && error.contains(part), "{error}");
        };
        refused(b"", "there is no caption to choose from");
        refused(b" \n\n", "there is no caption to choose from");
        refused(b"a red cat\n\na blue dog\n", "line 2: expected a caption, found an empty line");
        refused(b"a red cat\na blue dog\na  red cat\n", "line 3: this caption is also in line 1: \"a red cat\"");
        refused(b"a red cat\na \xff dog\n", "byte 12: not UTF-8");
        refused(b"a red cat\na <image> dog\n", "line 2: the text \"a <image> dog\" contains the special token <image>");
    }

    #[test]
    fn captions_of_rows_count_once() {
        let tokenizer = Tokenizer::train(["a red cat"], 300).unwrap();
        let choices = Choices::distinct(["a cat", "a red cat", "a  cat", ""], &tokenizer).unwrap();
        assert_eq!(choices.texts(), ["a cat", "a red cat"]);
        assert!(matches!(Choices::distinct(["", " "], &tokenizer), Err(Error::Usage(_))));
    }

    #[test]
    fn of_many_captions_some_are_kept_evenly() {
        let tokenizer = Tokenizer::train(["a red cat"], 300).unwrap();
        let texts: Vec<String> = (0..7).map(|i| format!("a {i}")).collect();
        let choices = Choices::distinct(texts.iter().map(String::as_str), &tokenizer).unwrap();
        assert_eq!(choices.clone().at_most(7), choices);
        let with_bad = texts.iter().map(String::as_str).chain(["an <image>", " ", "a 0"]);
        assert_eq!(Choices::with_tokens(with_bad, &tokenizer), choices);
        let some = choices.clone().at_most(3);
        assert_eq!(some.texts(), ["a 0", "a 2", "a 4"]);
        assert_eq!(some.ids()[1], choices.ids()[2]);
    }
}
