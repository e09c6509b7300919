//! Where each word of an answer comes from: the attention of every layer and head over the picture and the sound, and the gradient of
//! the word's log-probability with respect to the pixels and the mel frames. Histograms have no gradient: what a model counts in a picture
//! is not in that of its pixels.
//!
//! A word is made from the row before it. What is shown of a word is therefore what *that* row took in, and what its probability
//! there depends on. After the answer is complete, prompt and answer go through the model once more, all at once and with everything
//! kept; then comes one launch for the weights of each layer, and one backward pass per word.
//!
//! ```no_run
//! # use std::path::Path;
//! use trimodal::{DType, Device, describe::Describer, interpret::explain::explain, model::generate::Sampling, train::ModelFolder};
//! # fn main() -> trimodal::Result<()> {
//! let model = ModelFolder::open(Path::new("my-model"), &Device::Cpu, DType::F32)?;
//! let mut describer = Describer::new(&model, 1);
//! let question = describer.question(Some(Path::new("cat.jpg")), None, "")?;
//! let answer = describer.answer(std::slice::from_ref(&question), Sampling::default(), 64, |_, _| ())?.remove(0);
//! for word in explain(&model, &question, &answer)?.words {
//!     println!("{} ({:.0} %): {:.0} % of its attention on the picture", word.text, 100.0 * word.probability, 100.0 * word.on.mean[0]);
//! }
//! # Ok(())
//! # }
//! ```

use super::ForwardPass;
use crate::data::tokenizer::Tokenizer;
use crate::describe::{Answer, Question};
use crate::error::{Error, Result};
use crate::model::batch::{Sequence, TokenRow, shown_row};
use crate::model::{Config, Parameters};
use crate::train::ModelFolder;
use crate::train::examples::placeholders;

/// An answer with the origin of its words.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What the model was shown.
    pub picture: Option<Picture>,
    /// What it heard.
    pub sound: Option<Sound>,
    /// Layers of the model.
    pub layers: usize,
    /// Attention heads of each.
    pub heads: usize,
    /// The words that the model made, in order.
    pub words: Vec<Word>,
}

/// A picture as the model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Its width and its height, in pixels.
    pub side: usize,
    /// Patches along one side, or places that a stem leaves; the first is at the top left, the rows come one after the other. 1 where one row
    /// of the picture as a whole is all that there is.
    pub grid: usize,
    /// Whether there is a stem: then the grid is of places that it leaves.
    pub has_stem: bool,
    /// Whether one row is of the picture as a whole: it counts as seen, and has no place in a grid of others.
    pub has_whole_row: bool,
    /// Whether the model counts what is in it: that has no gradient.
    pub has_histograms: bool,
    /// `[side, side, 3]`
    pub rgb: Vec<u8>,
}

/// A sound as the model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Mel bands.
    pub mels: usize,
    /// `[frames, mels]`
    pub mel: Vec<f32>,
    /// Its length, in seconds.
    pub seconds: f64,
    /// Rows of the token matrix that it became: row i stands for the frames around `i · stride`.
    pub rows: usize,
    /// Mel frames from one row to the next.
    pub stride: usize,
}

/// Where a word comes from. `L` layers, `H` heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The word (the token, where words are spread over several), without the space before it.
    pub text: String,
    /// Its number in the vocabulary.
    pub id: u32,
    /// How likely the model found it, from 0 to 1.
    pub probability: f64,
    /// `[L, H, grid · grid]`: the weights on the picture's patches or places; empty without one.
    pub picture: Vec<f32>,
    /// `[L, H, rows]`: the weights on the sound; empty without one.
    pub sound: Vec<f32>,
    /// The sums of the weights on the picture, on the sound and on everything else (words and marks).
    pub on: Shares,
    /// `[side, side, 3]`: by how much the log-probability rises, in nats, as a pixel's value rises by 1 of 255, through all that is
    /// not counted ([`crate::ops::local_histogram`] has no gradient).
    pub pixels: Vec<f32>,
    /// `[frames, mels]`: by how much it rises as a mel value rises by 1.
    pub mel: Vec<f32>,
}

/// Shares of a word's attention: on the picture, on the sound, on everything else. They sum to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// The mean over layers and heads.
    pub mean: [f64; 3],
    /// `[L, H]`
    pub each: Vec<[f32; 3]>,
}

/// Explains an answer of [`crate::describe::Describer`], in the precision and on the device of the model.
///
/// # Errors
/// [`Error::Usage`] where the question had neither a picture nor a sound; [`Error::OutOfMemory`] where the device has no room for a
/// forward pass of which everything is kept.
pub fn explain(model: &ModelFolder, question: &Question, answer: &Answer) -> Result<Explanation> {
    explain_ids(&model.config, &model.parameters, &model.tokenizer, question.prompt(), &answer.ids)
}

/// As [`explain`], for the words `ids` that a model made after a prompt.
///
/// # Errors
/// As there.
pub fn explain_ids(config: &Config, parameters: &Parameters, tokenizer: &Tokenizer, prompt: &Sequence, ids: &[u32]) -> Result<Explanation> {
    if prompt.pixels.is_none() && prompt.mel.is_none() {
        return Err(Error::Usage("nothing to explain: expected a picture or a sound to show attention and gradients on".into()));
    }
    let picture = prompt.pixels.as_ref().zip(config.vision_config.as_ref()).map(|(rgb, v)| Picture {
        side: v.image_size,
        grid: v.shown_grid(),
        has_stem: v.stem.is_some(),
        has_whole_row: v.has_whole_row(),
        has_histograms: !v.histograms.is_empty(),
        rgb: rgb.clone(),
    });
    let sound = prompt.mel.as_ref().zip(config.audio_config.as_ref()).map(|(mel, a)| Sound {
        mels: a.num_mel_bins,
        mel: mel.clone(),
        seconds: a.clip_seconds,
        rows: a.rows(),
        stride: (0..a.layers).map(|layer| a.stride(layer)).product(),
    });
    let words = if ids.is_empty() { Vec::new() } else { words(config, parameters, tokenizer, prompt, ids)? };
    Ok(Explanation { picture, sound, layers: config.num_hidden_layers, heads: config.num_attention_heads, words })
}

fn words(config: &Config, parameters: &Parameters, tokenizer: &Tokenizer, prompt: &Sequence, ids: &[u32]) -> Result<Vec<Word>> {
    let (layers, heads) = (config.num_hidden_layers, config.num_attention_heads);
    // The last word has no row: nothing was made after it.
    let mut sample = prompt.clone();
    sample.rows.extend(ids[..ids.len() - 1].iter().map(|&id| TokenRow::Token { id, truth: id, learned: false }));
    let rows: Vec<usize> = (0..ids.len()).map(|i| prompt.rows.len() - 1 + i).collect();
    let predicted: Vec<(usize, u32)> = rows.iter().copied().zip(ids.iter().copied()).collect();
    let kinds: Vec<TokenRow> = sample.rows.clone();
    let shown = config.vision_config.as_ref().map_or(TokenRow::Patch, shown_row);
    let mut pass = ForwardPass::new(config, parameters, placeholders(&tokenizer.special()), &[sample], &predicted)?;

    let mut words: Vec<Word> = Vec::with_capacity(ids.len());
    for &(row, id) in &predicted {
        let gradient = pass.gradient(row, id)?;
        let short = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
        words.push(Word {
            text: tokenizer.decode(&[id])?,
            id,
            probability: gradient.log_probability.exp(),
            picture: Vec::new(),
            sound: Vec::new(),
            on: Shares::default(),
            pixels: short(gradient.pixels),
            mel: short(gradient.mel),
        });
    }
    for layer in 0..layers {
        let weights = pass.probabilities(layer, &rows)?;
        for (word, heads) in words.iter_mut().zip(weights.chunks_exact(heads * kinds.len())) {
            for weights in heads.chunks_exact(kinds.len()) {
                let of = |kind: TokenRow| weights.iter().zip(&kinds).filter(move |(_, k)| **k == kind).map(|(w, _)| *w as f32);
                word.picture.extend(of(shown));
                word.sound.extend(of(TokenRow::Frame));
                let (seen, heard): (f32, f32) = (of(TokenRow::Patch).sum::<f32>() + of(TokenRow::Whole).sum::<f32>(), of(TokenRow::Frame).sum());
                word.on.each.push([seen, heard, weights.iter().sum::<f64>() as f32 - seen - heard]);
            }
        }
    }
    for word in &mut words {
        word.on.mean = [0, 1, 2].map(|i| word.on.each.iter().map(|each| each[i] as f64).sum::<f64>() / word.on.each.len() as f64);
    }
    Ok(words)
}

impl Word {
    /// The mean over layers and heads of the weights on the picture: `[patches]`.
    pub fn picture_mean(&self) -> Vec<f32> {
        mean(&self.picture, self.on.each.len())
    }

    /// The mean over layers and heads of the weights on the sound: `[rows]`.
    pub fn sound_mean(&self) -> Vec<f32> {
        mean(&self.sound, self.on.each.len())
    }
}

fn mean(weights: &[f32], count: usize) -> Vec<f32> {
    let size = weights.len() / count.max(1);
    (0..size).map(|i| weights.iter().skip(i).step_by(size).sum::<f32>() / count as f32).collect()
}
