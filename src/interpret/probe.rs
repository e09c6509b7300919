//! Where a picture, a sound and a word lie in a model, among each other and among its words.
//!
//! Each is run alone: `<bos> <boi> patches… <eoi>`, `<bos> <boa> frames… <eoa>`, `<bos> word`. What stands for it at a level is the
//! **mean of its rows of the residual stream there**: of the patches (with a stem of its places and the picture as a whole), of the
//! frames, the word's one row. Levels count from 0 (what enters the first layer: the embeddings) to the number of layers (what leaves
//! the last). In the last layers a row turns into what comes next; for a patch and a frame, which no loss ever asks about, that is left
//! to chance.
//!
//! Three questions are put to these rows:
//!
//! - *nearest words*: the logit lens ([`ForwardPass::lens`]) on each row alone;
//! - *cosines* between the vectors of picture, sound and word, as they are and *centred*: less the mean of all words of the
//!   vocabulary at that level, which all of them have in common;
//! - *an axis* between two sets of words, `a` and `b` being the means of their vectors: `x` lies at
//!   `2 (x − (a + b)/2)·(a − b) / |a − b|²`, so that the first set lies at +1 and the second at −1 on average. Where patches and
//!   words do not share directions this says little about a picture; so the model is also asked in its own words ([`Said`]): it
//!   describes the picture, and where one of the axis' words was likeliest, both sets' probabilities are compared.

use super::ForwardPass;
use crate::data::tokenizer::Tokenizer;
use crate::describe::{Describer, example};
use crate::error::{Error, Result};
use crate::model::Config;
use crate::model::batch::{Sequence, TokenRow};
use crate::model::config::HOP;
use crate::model::generate::Sampling;
use crate::train::ModelFolder;
use crate::train::examples::placeholders;
use serde::Serialize;
use std::path::Path;

/// What stands for each thing, in words, for people who read the numbers.
pub const VECTORS: &str = "each is run alone; at a level, the mean of its rows of the residual stream: of the picture's patches (with a stem of \
its places and of all of it), of the sound's frames, the word's one row (after <bos>); level 0 enters the first layer";

/// Words of the vocabulary whose mean is subtracted from centred cosines, at most: a large vocabulary is sampled evenly.
const COMMON: usize = 256;

/// What is looked at, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// A picture's file.
    pub picture: Option<&'a Path>,
    /// A sound's file.
    pub sound: Option<&'a Path>,
    /// A word: one token.
    pub word: Option<&'a str>,
    /// Two sets of words to lie between.
    pub axis: Option<&'a Axis>,
    /// Nearest words of each row and level, 1 at least.
    pub nearest: usize,
}

/// Two sets of words, the ends of an axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// The words at +1.
    pub positive: Vec<String>,
    /// The words at −1.
    pub negative: Vec<String>,
}

impl std::str::FromStr for Axis {
    type Err = String;

    /// `cat,dog:owl,frog`
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = |what: &str| format!("expected two sets of words, as in cat,dog:owl,frog; {what}");
        let sides: Vec<Vec<String>> = text.split(':').map(|side| side.split(',').map(|word| word.trim().to_string()).collect()).collect();
        let [positive, negative] = sides.try_into().map_err(|sides: Vec<_>| wrong(&format!("found {} (put one colon between them)", sides.len())))?;
        if positive.iter().chain(&negative).any(String::is_empty) {
            return Err(wrong("found an empty word"));
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = positive.iter().chain(&negative).find(|word| !seen.insert(word.as_str())) {
            return Err(wrong(&format!("found {twice:?} twice")));
        }
        Ok(Axis { positive, negative })
    }
}

/// Where things lie.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// What stands for each thing: [`VECTORS`].
    pub vectors: &'static str,
    /// Levels: layers + 1.
    pub levels: usize,
    /// The picture, row by row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<Seen>,
    /// The sound, row by row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sound: Option<Seen>,
    /// The word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word: Option<Seen>,
    /// Between each two of picture, sound and word.
    pub cosines: Vec<Cosine>,
    /// Everything on the axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<Positions>,
}

/// One thing, and the words near its rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// What it is: a file's name, or the word.
    pub name: String,
    /// Rows side by side: a picture's patches along one side, else 1.
    pub columns: usize,
    /// Where each row lies: a patch's row and column, counted from 1 from the top left, `whole` for the row of the picture as a whole; a
    /// frame's time; nothing for a word.
    pub places: Vec<String>,
    /// `[rows][levels][nearest]`
    pub rows: Vec<Vec<Vec<Near>>>,
}

/// A word near a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Near {
    /// The word (special tokens are named).
    pub word: String,
    /// Its number in the vocabulary.
    pub id: u32,
    /// The probability that the output layer would give it if this were the last level.
    pub probability: f64,
}

/// How alike two things are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cosine {
    /// `picture`, `sound` or `word`.
    pub of: &'static str,
    /// The other.
    pub and: &'static str,
    /// One per level, from −1 to 1.
    pub cosine: Vec<f64>,
    /// The same after the mean of the vocabulary's words at that level was subtracted from both.
    pub centred: Vec<f64>,
}

/// Where things lie between two sets of words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Positions {
    /// The ends.
    #[serde(flatten)]
    pub axis: Axis,
    /// What was asked about first, then the words of both ends.
    pub positions: Vec<Position>,
    /// The picture and the sound in the model's own words.
    pub said: Vec<Said>,
}

/// Which end of an axis the model itself names when it describes something, the likeliest word each time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Said {
    /// `picture` or `sound`.
    pub of: &'static str,
    /// Its description.
    pub text: String,
    /// The words of it after which a word of either set was likeliest.
    pub after: String,
    /// The probability of the first set's words there, together.
    pub positive: f64,
    /// That of the second set's.
    pub negative: f64,
}

/// Where one thing lies on an axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Position {
    /// `picture`, `sound`, or the word.
    pub of: String,
    /// One per level: +1 with the first set, −1 with the second.
    pub at: Vec<f64>,
}

/// Looks at a picture, a sound, a word, or any of these together.
///
/// # Errors
/// [`Error::Usage`] where nothing is asked about, for a picture where the model has no eyes or a sound where it has no ears, for a
/// word that is not a single token (its tokens are named), and where both ends of the axis are in the same place; a file that cannot be
/// read.
pub fn probe(model: &ModelFolder, asked: &Asked) -> Result<Probe> {
    if asked.picture.is_none() && asked.sound.is_none() && asked.word.is_none() {
        return Err(Error::Usage("nothing to probe: expected a picture, a sound or a word".into()));
    }
    let tokenizer = &model.tokenizer;
    let word = asked.word.map(|word| single_token(tokenizer, word)).transpose()?;
    let ends = match asked.axis {
        None => [Vec::new(), Vec::new()],
        Some(axis) => {
            let ids = |words: &[String]| words.iter().map(|word| single_token(tokenizer, word)).collect::<Result<Vec<_>>>();
            [ids(&axis.positive)?, ids(&axis.negative)?]
        }
    };
    let mut things = Vec::new();
    for (kind, name, path, is_picture) in [("picture", "picture", asked.picture, true), ("sound", "sound", asked.sound, false)] {
        if let Some(path) = path {
            let (image, audio) = if is_picture { (Some(path), None) } else { (None, Some(path)) };
            let example = example(&model.config, tokenizer, model.parameters.norm.device(), image, audio, "")?;
            let sample = example.before_caption(&model.config, &tokenizer.special());
            let stands = |row: &TokenRow| if is_picture { matches!(row, TokenRow::Patch | TokenRow::Whole) } else { *row == TokenRow::Frame };
            let rows: Vec<usize> = (0..sample.rows.len()).filter(|&i| stands(&sample.rows[i])).collect();
            things.push(Thing { kind, name: name.into(), file: path.display().to_string(), sample, rows });
        }
    }
    let word_things = word.iter().zip(asked.word).map(|(&id, word)| Thing::word(tokenizer, "word", word, id));
    things.extend(word_things);
    if let Some(axis) = asked.axis {
        let words = axis.positive.iter().chain(&axis.negative).zip(ends.iter().flatten());
        things.extend(words.map(|(word, &id)| Thing::word(tokenizer, "end", word, id)));
    }
    let levels = model.config.num_hidden_layers + 1;
    let samples: Vec<Sequence> = things.iter().map(|thing| thing.sample.clone()).collect();
    let pass = ForwardPass::new(&model.config, &model.parameters, placeholders(&tokenizer.special()), &samples, &[])?;
    // From rows of their own sample to rows of the batch.
    let mut first = 0;
    for thing in &mut things {
        thing.rows.iter_mut().for_each(|row| *row += first);
        first += thing.sample.rows.len();
    }
    let width = model.config.hidden_size;
    let vectors: Vec<Vec<Vec<f64>>> = (0..levels)
        .map(|level| things.iter().map(|thing| Ok(mean_row(&pass.residual(level, &thing.rows)?, width))).collect::<Result<_>>())
        .collect::<Result<_>>()?;
    let mut found = Probe { vectors: VECTORS, levels, picture: None, sound: None, word: None, cosines: Vec::new(), axis: None };
    for thing in things.iter().filter(|thing| thing.kind != "end") {
        let (columns, places) = places(&model.config, thing);
        let seen = Some(Seen { name: thing.file.clone(), columns, places, rows: nearest(&pass, tokenizer, &thing.rows, asked.nearest)? });
        match thing.kind {
            "picture" => found.picture = seen,
            "sound" => found.sound = seen,
            _ => found.word = seen,
        }
    }
    let main = things.iter().filter(|thing| thing.kind != "end").count();
    if main > 1 {
        found.cosines = cosines(model, &things[..main], &vectors)?;
    }
    if let Some(axis) = asked.axis {
        let counts = [axis.positive.len(), axis.negative.len()];
        let said = [("picture", asked.picture, None), ("sound", None, asked.sound)].into_iter().filter(|(_, image, audio)| image.or(*audio).is_some());
        let said = said.map(|(of, image, audio)| in_its_own_words(model, of, image, audio, &ends)).collect::<Result<_>>()?;
        found.axis = Some(Positions { axis: axis.clone(), positions: positions(&things, &vectors, main, counts)?, said });
    }
    Ok(found)
}

/// Something with rows of its own.
struct Thing {
    /// `picture`, `sound`, `word` or `end`.
    kind: &'static str,
    /// What it is called on the axis.
    name: String,
    /// A file's name, or the word.
    file: String,
    sample: Sequence,
    /// The rows that stand for it.
    rows: Vec<usize>,
}

impl Thing {
    fn word(tokenizer: &Tokenizer, kind: &'static str, word: &str, id: u32) -> Self {
        Thing { kind, name: word.trim().into(), file: word.trim().into(), sample: after_bos(tokenizer, id), rows: vec![1] }
    }
}

/// How many rows of a thing lie side by side, and where each of them lies.
fn places(config: &Config, thing: &Thing) -> (usize, Vec<String>) {
    let all = 0..thing.rows.len();
    match (thing.kind, &config.vision_config, &config.audio_config) {
        ("picture", Some(vision), _) => {
            let (grid, places) = (vision.shown_grid(), vision.patches());
            (grid, all.map(|i| if i < places { format!("{},{}", i / grid + 1, i % grid + 1) } else { "whole".into() }).collect())
        }
        ("sound", _, Some(audio)) => {
            let stride: usize = (0..audio.layers).map(|layer| audio.stride(layer)).product();
            (1, all.map(|i| format!("{:.2} s", (i * stride * HOP) as f64 / audio.sample_rate as f64)).collect())
        }
        _ => (1, all.map(|_| String::new()).collect()),
    }
}

/// `<bos> word`
fn after_bos(tokenizer: &Tokenizer, id: u32) -> Sequence {
    let rows = [tokenizer.special().bos, id].map(|id| TokenRow::Token { id, truth: id, learned: false });
    Sequence { rows: rows.into(), ..Sequence::default() }
}

/// The one token of a word.
///
/// # Errors
/// [`Error::Usage`] where it is none or several, which are named.
pub fn single_token(tokenizer: &Tokenizer, word: &str) -> Result<u32> {
    let ids = tokenizer.encode(word.trim())?;
    match ids.as_slice() {
        [id] => Ok(*id),
        [] => Err(Error::Usage("expected a word, found none".into())),
        several => {
            let parts: Vec<String> = several.iter().map(|&id| format!("{:?}", tokenizer.token(id).unwrap_or_default())).collect();
            Err(Error::Usage(format!(
                "{:?} is not a single token of this model, but {}: {}; take a word that the model was trained on",
                word.trim(),
                several.len(),
                parts.join(" ")
            )))
        }
    }
}

/// What a token is called: its text, or its name where it has none.
fn name_of(tokenizer: &Tokenizer, id: u32) -> String {
    let text = tokenizer.decode(&[id]).unwrap_or_default();
    let readable = !text.trim().is_empty() && !text.contains(|c: char| c == char::REPLACEMENT_CHARACTER || c.is_control());
    if readable { text } else { tokenizer.token(id).unwrap_or_else(|| format!("#{id}")) }
}

/// Logits that are read back at a time: 64 MiB in f32.
const LOGITS: usize = 1 << 24;

/// `[rows][levels][most]`
fn nearest(pass: &ForwardPass, tokenizer: &Tokenizer, rows: &[usize], most: usize) -> Result<Vec<Vec<Vec<Near>>>> {
    let vocabulary = pass.config.vocab_size;
    let mut found = vec![Vec::with_capacity(pass.levels()); rows.len()];
    let at_once = (LOGITS / vocabulary).max(1);
    for level in 0..pass.levels() {
        for (rows, found) in rows.chunks(at_once).zip(found.chunks_mut(at_once)) {
            for (logits, found) in pass.lens(level, rows)?.chunks_exact(vocabulary).zip(found) {
                found.push(best(logits, tokenizer, most.max(1)));
            }
        }
    }
    Ok(found)
}

/// The words with the largest logits, of those that the tokenizer has; the probabilities are those of all of the output layer.
fn best(logits: &[f64], tokenizer: &Tokenizer, most: usize) -> Vec<Near> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    let total: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len()).filter(|&id| tokenizer.knows(id as u32)).collect();
    let most = most.min(order.len());
    if most < order.len() {
        order.select_nth_unstable_by(most, |&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    }
    order.truncate(most);
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.into_iter().map(|id| Near { word: name_of(tokenizer, id as u32), id: id as u32, probability: (logits[id] - largest).exp() / total }).collect()
}

// ── Vectors ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// The mean of `[rows, width]`.
fn mean_row(rows: &[f64], width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    let count = (rows.len() / width).max(1) as f64;
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / count);
    }
    mean
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// 0 where one of them is zero.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// Each two of them, at every level.
fn cosines(model: &ModelFolder, things: &[Thing], vectors: &[Vec<Vec<f64>>]) -> Result<Vec<Cosine>> {
    let common = common(model)?;
    let mut found = Vec::new();
    for a in 0..things.len() {
        for b in a + 1..things.len() {
            let plain = vectors.iter().map(|level| cosine(&level[a], &level[b])).collect();
            let centred = vectors.iter().zip(&common).map(|(level, mean)| cosine(&minus(&level[a], mean), &minus(&level[b], mean))).collect();
            found.push(Cosine { of: things[a].kind, and: things[b].kind, cosine: plain, centred });
        }
    }
    Ok(found)
}

/// The mean vector of the vocabulary's words, at each level.
fn common(model: &ModelFolder) -> Result<Vec<Vec<f64>>> {
    let (tokenizer, config) = (&model.tokenizer, &model.config);
    let special = crate::data::tokenizer::SPECIAL;
    let ids: Vec<u32> = (0..tokenizer.vocabulary() as u32)
        .filter(|&id| tokenizer.token(id).is_some_and(|token| !special.contains(&token.as_str()) && is_word(tokenizer, id)))
        .collect();
    let step = ids.len().div_ceil(COMMON).max(1);
    let samples: Vec<Sequence> = ids.iter().step_by(step).map(|&id| after_bos(tokenizer, id)).collect();
    if samples.is_empty() {
        return Ok(vec![vec![0.0; config.hidden_size]; config.num_hidden_layers + 1]);
    }
    let pass = ForwardPass::new(config, &model.parameters, placeholders(&tokenizer.special()), &samples, &[])?;
    let rows: Vec<usize> = (0..samples.len()).map(|i| 2 * i + 1).collect();
    (0..pass.levels()).map(|level| Ok(mean_row(&pass.residual(level, &rows)?, config.hidden_size))).collect()
}

/// More than a single byte: those are in the vocabulary for unknown text, and the model has learned nothing about them.
fn is_word(tokenizer: &Tokenizer, id: u32) -> bool {
    tokenizer.token(id).is_some_and(|token| token.chars().count() > 1)
}

/// `things`: `main` of them, then the words of both ends. `vectors`: `[levels][things]`.
fn positions(things: &[Thing], vectors: &[Vec<Vec<f64>>], main: usize, [positive, negative]: [usize; 2]) -> Result<Vec<Position>> {
    let mut found: Vec<Position> = things.iter().map(|thing| Position { of: thing.name.clone(), at: Vec::new() }).collect();
    for (level, vectors) in vectors.iter().enumerate() {
        let width = vectors[0].len();
        let end = |range: std::ops::Range<usize>| mean_row(&vectors[range].concat(), width);
        let (a, b) = (end(main..main + positive), end(main + positive..main + positive + negative));
        let (direction, middle) = (minus(&a, &b), mean_row(&[a, b].concat(), width));
        let length = dot(&direction, &direction);
        if !(length > 0.0) {
            return Err(Error::Usage(format!("both ends of the axis are in the same place at level {level}: choose other words")));
        }
        for (position, vector) in found.iter_mut().zip(vectors) {
            position.at.push(2.0 * dot(&minus(vector, &middle), &direction) / length);
        }
    }
    Ok(found)
}

/// The most words of a description: the place that is looked for is somewhere in it.
const MAX_WORDS: usize = 64;

fn in_its_own_words(model: &ModelFolder, of: &'static str, image: Option<&Path>, audio: Option<&Path>, [positive, negative]: &[Vec<u32>; 2]) -> Result<Said> {
    let mut describer = Describer::new(model, 1);
    let question = describer.question(image, audio, "")?;
    let answer = describer.answer(std::slice::from_ref(&question), Sampling::default(), MAX_WORDS, |_, _| ())?.remove(0);
    // Each word, and the end, was made from the row before it; a last word that the model's length cut off has no row.
    let mut sample = question.prompt().clone();
    let first = sample.rows.len() - 1;
    let room = model.config.max_position_embeddings - sample.rows.len();
    sample.rows.extend(answer.ids.iter().take(room).map(|&id| TokenRow::Token { id, truth: id, learned: false }));
    let rows: Vec<usize> = (first..sample.rows.len()).collect();
    let pass = ForwardPass::new(&model.config, &model.parameters, placeholders(&model.tokenizer.special()), &[sample], &[])?;
    let logits = pass.lens(pass.levels() - 1, &rows)?;
    let shares = logits.chunks_exact(model.config.vocab_size).map(|logits| {
        let largest = logits.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
        let total: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
        [positive, negative].map(|ids| ids.iter().map(|&id| (logits[id as usize] - largest).exp()).sum::<f64>() / total)
    });
    let likeliest = shares.enumerate().max_by(|a, b| (a.1[0] + a.1[1]).total_cmp(&(b.1[0] + b.1[1])));
    let (words, [positive, negative]) = likeliest.expect("a prompt has rows");
    Ok(Said { of, text: answer.text, after: model.tokenizer.decode(&answer.ids[..words])?, positive, negative })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_two_sets_of_words() {
        let axis: Axis = "cat, dog:owl".parse().unwrap();
        assert_eq!((axis.positive, axis.negative), (vec!["cat".to_string(), "dog".into()], vec!["owl".to_string()]));
        for (text, what) in [
            ("cat", "found 1"),
            ("a:b:c", "found 3"),
            ("cat:", "an empty word"),
            (":", "an empty word"),
            ("cat,,dog:owl", "an empty word"),
            ("cat:cat", "\"cat\" twice"),
            ("", "found 1"),
        ] {
            let error = text.parse::<Axis>().unwrap_err();
            assert!(error.starts_with("expected two sets of words") && error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn the_ends_lie_at_plus_and_minus_one() {
        let thing = |name: &str| Thing { kind: "end", name: name.into(), file: String::new(), sample: Sequence::default(), rows: Vec::new() };
        let things: Vec<Thing> = ["x", "a", "b", "c"].map(thing).into();
        let vectors = vec![vec![vec![5.0, 9.0], vec![2.0, 1.0], vec![4.0, -1.0], vec![1.0, 0.0]]];
        let found: Vec<f64> = positions(&things, &vectors, 1, [2, 1]).unwrap().into_iter().map(|p| p.at[0]).collect();
        // The ends are (3, 0) and (1, 0): two apart, the middle at 2.
        assert_eq!(found, [3.0, 0.0, 2.0, -1.0]);
        let vectors = vec![vec![vec![1.0], vec![2.0], vec![2.0], vec![2.0]]];
        assert!(positions(&things, &vectors, 1, [2, 1]).unwrap_err().to_string().contains("the same place at level 0"));
    }

    #[test]
    fn cosines_of_nothing_are_nothing() {
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert!((cosine(&[1.0, 1.0], &[2.0, 2.0]) - 1.0).abs() < 1e-12);
        assert_eq!(mean_row(&[1.0, 2.0, 3.0, 6.0], 2), [2.0, 4.0]);
    }
}
