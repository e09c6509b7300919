//! An auxiliary loss of training: which words a caption has, told from the rows of picture and sound alone (see [`super::told`]).
//!
//! The output layer must find in what a sample's rows add up to every word of the caption, in no order: the mean over the words of
//! `−log softmax(W · norm(Σ rows))[word]`. A caption learned word by word says little about a picture: most words follow from the words
//! before them. Here every word asks the picture (Mahajan et al. 2018, arXiv 1805.00932, train image networks on the words of captions
//! alone).
//!
//! Shapes: `S` samples with a picture or a sound, `M` words.

use super::batch::Batch;
use super::config::Config;
use super::linear::{self, product};
use super::seen::Seen;
use super::upload::{write, write_matrix, write_real};
use crate::error::Result;
use crate::ops::{cross_entropy, embedding};
use crate::tensor::{DType, Tensor};

/// What a batch says about its samples' words, on the device.
pub struct BagInputs<T = Tensor> {
    /// `[S, M]`: 1 where a word is a sample's.
    pub(crate) collect: T,
    /// `[M]`: each word's sample.
    pub(crate) sample: T,
    /// `[M]`: the words; −1 for none.
    pub(crate) target: T,
    /// `[1]`: what a word weighs in the loss.
    pub(crate) weight: T,
    /// What a word weighs beside a word of the captions.
    pub(crate) scale: f32,
}

/// What the loss is computed in.
pub struct BagActivations<T = Tensor> {
    /// `[M, D]`: of each word's sample.
    pub(crate) picked: T,
    /// `[M, V]`, then their gradients.
    pub(crate) logits: T,
    /// `[M]`
    pub(crate) row_loss: T,
    pub(crate) lse: T,
    /// `[1]`: the loss as the batch weighs it.
    pub(crate) loss: T,
    /// A gradient.
    pub(crate) dpicked: T,
}

impl<T> BagInputs<T> {
    /// Builds the listing for up to `samples` samples and `words` words.
    pub(super) fn build(samples: usize, words: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        Ok(BagInputs {
            collect: make(&[samples, words], real)?,
            sample: make(&[words], DType::I32)?,
            target: make(&[words], DType::I32)?,
            weight: make(&[1], crate::ops::statistic(real))?,
            scale: 0.0,
        })
    }

    pub(super) fn named(&self) -> [(&'static str, &T); 4] {
        [
            ("each sample's words", &self.collect),
            ("each word's sample", &self.sample),
            ("the words told", &self.target),
            ("what a word told weighs", &self.weight),
        ]
    }

    pub(super) fn each_mut(&mut self) -> [&mut T; 4] {
        [&mut self.collect, &mut self.sample, &mut self.target, &mut self.weight]
    }
}

impl<T> BagActivations<T> {
    /// Builds the listing.
    pub(super) fn build(config: &Config, words: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let (d, wide) = (config.hidden_size, crate::ops::statistic(real));
        Ok(BagActivations {
            picked: make(&[words, d], real)?,
            logits: make(&[words, config.vocab_size], real)?,
            row_loss: make(&[words], wide)?,
            lse: make(&[words], wide)?,
            loss: make(&[1], wide)?,
            dpicked: make(&[words, d], real)?,
        })
    }

    /// Every tensor in the order of the computation, with what it is in a message.
    pub(super) fn named(&self) -> [(&'static str, &T); 5] {
        [
            ("what each word is told from", &self.picked),
            ("the logits of the words told", &self.logits),
            ("the log-sum-exp of the words told", &self.lse),
            ("the loss of each word told", &self.row_loss),
            ("the loss of the words told", &self.loss),
        ]
    }
}

impl BagInputs {
    /// Uploads what a batch with so many rows that get logits says.
    pub(super) fn load(&mut self, batch: &Batch, seen: &Seen, samples: usize, words: usize, counted: usize, ahead: bool) -> Result<()> {
        let mut collect = vec![0.0; samples * words];
        let (mut of, mut target) = (vec![0; words], vec![-1; words]);
        for (i, sample, word) in seen.words(batch) {
            (of[i], target[i]) = (sample, word);
            collect[sample as usize * words + i] = 1.0;
        }
        write_matrix(&mut self.collect, [samples, words], &collect, ahead)?;
        self.sample.set_rows(words)?;
        write(&mut self.sample, &of, ahead)?;
        self.target.set_rows(words)?;
        write(&mut self.target, &target, ahead)?;
        write_real(&mut self.weight, &[self.scale / counted.max(1) as f32], ahead)
    }
}

impl BagActivations {
    /// The loss, and its gradients: that of what samples' rows add up to overwrites `dnormed`, that of the output layer is added to `doutput`.
    pub(super) fn loss_and_backward(
        &mut self,
        inputs: &BagInputs,
        normed: &Tensor,
        output: &Tensor,
        dnormed: &mut Tensor,
        doutput: &mut Tensor,
        workspace: &mut Tensor,
    ) -> Result<()> {
        let words = inputs.target.rows();
        for tensor in [&mut self.picked, &mut self.logits, &mut self.row_loss, &mut self.lse, &mut self.dpicked] {
            tensor.set_rows(words)?;
        }
        embedding::forward(normed, &inputs.sample, None, &mut self.picked)?;
        linear::forward(&self.picked, output, &mut self.logits)?;
        cross_entropy::forward(&self.logits, &inputs.target, &inputs.weight, &mut self.row_loss, &mut self.lse, &mut self.loss, false)?;
        cross_entropy::backward(&mut self.logits, &inputs.target, &self.lse, &inputs.weight)?;
        linear::backward(&self.logits, &self.picked, output, &mut self.dpicked, false, doutput, workspace)?;
        product(&inputs.collect, &self.dpicked, false, dnormed)
    }
}
