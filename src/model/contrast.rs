//! An auxiliary loss of training: which of the data's captions is a sample's, told from the rows of picture and sound alone (see
//! [`super::told`]).
//!
//! As in CLIP (Radford et al. 2021, arXiv 2103.00020) a picture must be nearer to its own caption than to others; the others here are all that
//! there are, and not those which happen to be in the batch. The output layer's logits of all words, `W · norm(Σ rows)`, are averaged over the
//! words of each caption and multiplied by [`SCALE`]; of these the loss is the cross-entropy. So word and picture share one space, in which a
//! caption is the mean of its words, and what one caption's pictures teach about a word holds for every caption that has it, also for one
//! that nobody trained on.
//!
//! A model trained like that can answer from a list by it ([`super::choices`]).
//!
//! Shapes: `S` samples with a picture or a sound, `L` captions.

use super::batch::Batch;
use super::config::Config;
use super::linear::{self, product};
use super::seen::Seen;
use super::upload::{write, write_real};
use crate::error::{Error, Result};
use crate::ops::cross_entropy;
use crate::tensor::{DType, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// What the mean of a caption's logits is multiplied by: the inverse of CLIP's temperature.
pub const SCALE: f32 = 8.0;

/// The most captions that are told apart.
pub const MOST: usize = 4096;

/// The captions that are told apart, by their words' ids.
pub(crate) type Places = Arc<HashMap<Vec<i32>, i32>>;

/// What a batch says about its samples' captions, on the device.
pub struct ContrastInputs<T = Tensor> {
    /// `[S]`: each sample's caption; −1 where it is none of them.
    pub(crate) target: T,
    /// `[1]`: what a sample weighs in the loss.
    pub(crate) weight: T,
    /// What a sample weighs beside a word of the captions.
    pub(crate) scale: f32,
    pub(crate) places: Places,
}

/// What the loss is computed in.
pub struct ContrastActivations<T = Tensor> {
    /// `[L, V]`: [`SCALE`] / words where a caption has a word, as often as it has it.
    pub(crate) captions: T,
    /// `[S, V]`
    pub(crate) words: T,
    /// `[S, L]`, then their gradients.
    pub(crate) logits: T,
    /// `[S]`
    pub(crate) row_loss: T,
    pub(crate) lse: T,
    /// `[1]`: the loss as the batch weighs it.
    pub(crate) loss: T,
    /// A gradient.
    pub(crate) dwords: T,
}

impl<T> ContrastInputs<T> {
    /// Builds the listing for up to `samples` samples.
    pub(super) fn build(samples: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let weight = make(&[1], crate::ops::statistic(real))?;
        Ok(ContrastInputs { target: make(&[samples], DType::I32)?, weight, scale: 0.0, places: Places::default() })
    }

    pub(super) fn named(&self) -> [(&'static str, &T); 2] {
        [("each sample's caption", &self.target), ("what a caption told weighs", &self.weight)]
    }

    pub(super) fn each_mut(&mut self) -> [&mut T; 2] {
        [&mut self.target, &mut self.weight]
    }
}

impl<T> ContrastActivations<T> {
    /// Builds the listing for up to `samples` samples and for `captions` captions.
    pub(super) fn build(config: &Config, samples: usize, captions: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let (v, wide) = (config.vocab_size, crate::ops::statistic(real));
        Ok(ContrastActivations {
            captions: make(&[captions, v], real)?,
            words: make(&[samples, v], real)?,
            logits: make(&[samples, captions], real)?,
            row_loss: make(&[samples], wide)?,
            lse: make(&[samples], wide)?,
            loss: make(&[1], wide)?,
            dwords: make(&[samples, v], real)?,
        })
    }

    /// Every tensor in the order of the computation, with what it is in a message.
    pub(super) fn named(&self) -> [(&'static str, &T); 6] {
        [
            ("the captions' words", &self.captions),
            ("the words of each sample", &self.words),
            ("the logits of the captions told", &self.logits),
            ("the log-sum-exp of the captions told", &self.lse),
            ("the loss of each caption told", &self.row_loss),
            ("the loss of the captions told", &self.loss),
        ]
    }
}

impl ContrastInputs {
    /// Uploads what a batch says.
    pub(super) fn load(&mut self, batch: &Batch, seen: &Seen, samples: usize, counted: usize, ahead: bool) -> Result<()> {
        let mut captions = vec![Vec::new(); samples];
        // A caption of which a word is not learned is none of those that are told apart: a list with that word would give it away.
        seen.words(batch).for_each(|(_, sample, word)| captions[sample as usize].push(word));
        let target: Vec<i32> = captions.iter().map(|words| self.places.get(words).copied().unwrap_or(-1)).collect();
        self.target.set_rows(samples)?;
        write(&mut self.target, &target, ahead)?;
        write_real(&mut self.weight, &[self.scale / counted.max(1) as f32], ahead)
    }
}

/// The captions to tell apart, by their places in the matrix, and the matrix.
///
/// # Errors
/// [`Error::Usage`] for a caption without words, one that is there twice, and a word beyond the vocabulary.
pub(crate) fn listed(captions: &[Vec<u32>], vocabulary: usize) -> Result<(Places, Vec<f64>)> {
    let mut places = HashMap::new();
    let mut matrix = vec![0.0; captions.len() * vocabulary];
    for (place, (words, row)) in captions.iter().zip(matrix.chunks_exact_mut(vocabulary.max(1))).enumerate() {
        if let Some(id) = words.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Error::Usage(format!("caption {place}: token {id}: the vocabulary has {vocabulary}")));
        }
        words.iter().for_each(|&id| row[id as usize] += SCALE as f64 / words.len() as f64);
        if words.is_empty() || places.insert(words.iter().map(|&id| id as i32).collect(), place as i32).is_some() {
            return Err(Error::Usage(format!("caption {place}: expected words, and none of the captions twice, found {words:?}")));
        }
    }
    Ok((Arc::new(places), matrix))
}

impl ContrastActivations {
    /// The loss, and its gradients: that of what samples' rows add up to goes to `dnormed`, where it is added to what is there if `accumulate`,
    /// that of the output layer is added to `doutput`.
    pub(super) fn loss_and_backward(
        &mut self,
        inputs: &ContrastInputs,
        normed: &Tensor,
        output: &Tensor,
        dnormed: &mut Tensor,
        accumulate: bool,
        doutput: &mut Tensor,
        workspace: &mut Tensor,
    ) -> Result<()> {
        let samples = inputs.target.rows();
        for tensor in [&mut self.words, &mut self.logits, &mut self.row_loss, &mut self.lse, &mut self.dwords] {
            tensor.set_rows(samples)?;
        }
        linear::forward(normed, output, &mut self.words)?;
        linear::forward(&self.words, &self.captions, &mut self.logits)?;
        cross_entropy::forward(&self.logits, &inputs.target, &inputs.weight, &mut self.row_loss, &mut self.lse, &mut self.loss, false)?;
        cross_entropy::backward(&mut self.logits, &inputs.target, &self.lse, &inputs.weight)?;
        product(&self.logits, &self.captions, false, &mut self.dwords)?;
        linear::backward(&self.dwords, normed, output, dnormed, accumulate, doutput, workspace)
    }
}

/// How likely each of some captions is to be that of a sample, if it must be one of them: the logarithms. `words`: the output layer's logits of
/// all words, as the loss has them.
pub(super) fn log_probabilities(words: &[f64], captions: &[Vec<u32>]) -> Vec<f64> {
    let logit = |caption: &Vec<u32>| SCALE as f64 * caption.iter().map(|&id| words[id as usize]).sum::<f64>() / caption.len() as f64;
    let logits: Vec<f64> = captions.iter().map(logit).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() + largest;
    logits.into_iter().map(|logit| logit - sum).collect()
}
