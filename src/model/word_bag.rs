//! An auxiliary loss of training: which words a caption has, told from the rows of picture and sound alone.
//!
//! The rows that a sample's picture and sound became are added up and normalised as the model's last norm does, and the output layer must
//! find in them every word of the caption, in no order: the mean over the words of `−log softmax(W · norm(Σ rows))[word]`. A caption
//! learned word by word says little about a picture: most words follow from the words before them. Here every word asks the picture, and
//! its gradient reaches the eye without a layer between (Mahajan et al. 2018, arXiv 1805.00932, train image networks on the words of
//! captions alone).
//!
//! There is no operation of its own: sums over rows of a sample are products with a matrix of zeros and ones.
//!
//! Shapes: `S` samples with a picture or a sound, `M` words, `N` rows of the token matrix.

use super::batch::{Batch, PaddedSize};
use super::config::Config;
use super::linear;
use super::parameters::Parameters;
use super::upload::{write, write_real};
use crate::error::Result;
use crate::ops::matmul::{self, Epilogue, Layout};
use crate::ops::{cross_entropy, embedding, rms_norm};
use crate::tensor::{DType, Tensor};

/// What a batch says about its samples' words, on the device.
pub struct BagInputs<T = Tensor> {
    /// `[S, N]`: 1 where a row is part of a sample's picture or sound, else 0.
    pub(crate) pool: T,
    /// `[N, S]`: the same, transposed.
    pub(crate) spread: T,
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
    /// `[S, D]`: the sums, and what the norm makes of them; `[S]`.
    pub(crate) pooled: T,
    pub(crate) normed: T,
    pub(crate) rstd: T,
    /// `[M, D]`: of each word's sample.
    pub(crate) picked: T,
    /// `[M, V]`, then their gradients.
    pub(crate) logits: T,
    /// `[M]`
    pub(crate) row_loss: T,
    pub(crate) lse: T,
    /// `[1]`: the loss as the batch weighs it.
    pub(crate) loss: T,
    /// Gradients.
    pub(crate) dpicked: T,
    pub(crate) dnormed: T,
    pub(crate) dpooled: T,
}

impl<T> BagInputs<T> {
    /// Builds the listing for up to `samples` samples, `rows` rows and `words` words.
    pub(super) fn build(samples: usize, rows: usize, words: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        Ok(BagInputs {
            pool: make(&[samples, rows], real)?,
            spread: make(&[rows, samples], real)?,
            collect: make(&[samples, words], real)?,
            sample: make(&[words], DType::I32)?,
            target: make(&[words], DType::I32)?,
            weight: make(&[1], crate::ops::statistic(real))?,
            scale: 0.0,
        })
    }
}

impl<T> BagActivations<T> {
    /// Builds the listing.
    pub(super) fn build(config: &Config, samples: usize, words: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let (d, wide) = (config.hidden_size, crate::ops::statistic(real));
        Ok(BagActivations {
            pooled: make(&[samples, d], real)?,
            normed: make(&[samples, d], real)?,
            rstd: make(&[samples], wide)?,
            picked: make(&[words, d], real)?,
            logits: make(&[words, config.vocab_size], real)?,
            row_loss: make(&[words], wide)?,
            lse: make(&[words], wide)?,
            loss: make(&[1], wide)?,
            dpicked: make(&[words, d], real)?,
            dnormed: make(&[samples, d], real)?,
            dpooled: make(&[samples, d], real)?,
        })
    }
}

impl<T> BagActivations<T> {
    /// Every tensor in the order of the computation, with what it is in a message.
    pub(crate) fn named(&self) -> [(&'static str, &T); 8] {
        [
            ("what each sample's rows add up to", &self.pooled),
            ("1/rms of what each sample's rows add up to", &self.rstd),
            ("the norm of what each sample's rows add up to", &self.normed),
            ("what each word is told from", &self.picked),
            ("the logits of the words told", &self.logits),
            ("the log-sum-exp of the words told", &self.lse),
            ("the loss of each word told", &self.row_loss),
            ("the loss of the words told", &self.loss),
        ]
    }

    /// The gradients, as [`BagActivations::named`].
    pub(crate) fn named_gradients(&self) -> [(&'static str, &T); 3] {
        [
            ("what each word is told from", &self.dpicked),
            ("the norm of what each sample's rows add up to", &self.dnormed),
            ("what each sample's rows add up to", &self.dpooled),
        ]
    }
}

impl BagInputs {
    /// Uploads what a batch of this padded size says; `counted` as for [`super::inputs::Inputs::load`].
    pub(super) fn load(&mut self, batch: &Batch, size: PaddedSize, counted: usize, ahead: bool) -> Result<()> {
        let (samples, rows, words) = (batch.images + batch.clips, size.rows, size.logits);
        let mut pool = vec![0.0; samples * rows];
        let mut spread = vec![0.0; rows * samples];
        let mut collect = vec![0.0; samples * words];
        // What the row of a whole picture says, its places need not say.
        let of_pictures = if batch.whole_row.is_empty() { &batch.patch_row } else { &batch.whole_row };
        let mut pooled = vec![false; batch.rows()];
        of_pictures.iter().chain(&batch.frame_row).for_each(|&row| pooled[row as usize] = true);
        // Samples with a picture or a sound are numbered in their order.
        let mut number = vec![-1; batch.rows()];
        let mut sample = -1;
        let mut seen = false;
        for row in 0..batch.rows() {
            seen &= batch.position[row] != 0;
            if batch.embed_id[row] < 0 {
                sample += !seen as i32;
                seen = true;
            }
            if pooled[row] {
                pool[sample as usize * rows + row] = 1.0;
                spread[row * samples + sample as usize] = 1.0;
            }
            number[row] = if seen { sample } else { -1 };
        }
        let (mut of, mut target) = (vec![0; words], vec![-1; words]);
        for (i, (&row, &word)) in batch.logit_row.iter().zip(&batch.logit_target).enumerate() {
            // The last row of a sample predicts its end, which is no word; a question's words say nothing about what is seen.
            let ends = batch.position.get(row as usize + 2).is_none_or(|&position| position == 0);
            let sees = number[row as usize] >= 0 && batch.sees_all(row as usize);
            if !ends && sees && word >= 0 {
                (of[i], target[i]) = (number[row as usize], word);
                collect[of[i] as usize * words + i] = 1.0;
            }
        }
        let matrix = |tensor: &mut Tensor, shape: [usize; 2], values: &[f32]| {
            tensor.reshape(shape)?;
            write_real(tensor, values, ahead)
        };
        matrix(&mut self.pool, [samples, rows], &pool)?;
        matrix(&mut self.spread, [rows, samples], &spread)?;
        matrix(&mut self.collect, [samples, words], &collect)?;
        self.sample.set_rows(words)?;
        write(&mut self.sample, &of, ahead)?;
        self.target.set_rows(words)?;
        write(&mut self.target, &target, ahead)?;
        write_real(&mut self.weight, &[self.scale / counted.max(1) as f32], ahead)
    }

    pub(super) fn each(&self) -> [&Tensor; 6] {
        [&self.pool, &self.spread, &self.collect, &self.sample, &self.target, &self.weight]
    }

    pub(super) fn each_mut(&mut self) -> [&mut Tensor; 6] {
        [&mut self.pool, &mut self.spread, &mut self.collect, &mut self.sample, &mut self.target, &mut self.weight]
    }
}

/// The loss, and its gradients: those of the output layer, of the last norm and of the embeddings are added to `g`, that of the token
/// matrix `x` to `dx`.
pub(super) fn loss_and_backward(
    eps: f32,
    p: &Parameters,
    g: &mut Parameters,
    inputs: &BagInputs,
    a: &mut BagActivations,
    x: &Tensor,
    dx: &mut Tensor,
    workspace: &mut Tensor,
) -> Result<()> {
    let (samples, words) = (inputs.pool.rows(), inputs.target.rows());
    if samples == 0 {
        return a.loss.fill_zero();
    }
    for tensor in [&mut a.pooled, &mut a.normed, &mut a.rstd, &mut a.dnormed, &mut a.dpooled] {
        tensor.set_rows(samples)?;
    }
    for tensor in [&mut a.picked, &mut a.logits, &mut a.row_loss, &mut a.lse, &mut a.dpicked] {
        tensor.set_rows(words)?;
    }
    let product =
        |a: &Tensor, b: &Tensor, accumulate: bool, c: &mut Tensor| matmul::forward(Layout::Nn, a, b, Epilogue { accumulate, ..Epilogue::default() }, c, None);
    product(&inputs.pool, x, false, &mut a.pooled)?;
    rms_norm::forward(&a.pooled, None, &p.norm, eps, &mut a.normed, &mut a.rstd)?;
    embedding::forward(&a.normed, &inputs.sample, None, &mut a.picked)?;
    let output = p.lm_head.as_ref().unwrap_or(&p.embed_tokens);
    linear::forward(&a.picked, output, &mut a.logits)?;
    cross_entropy::forward(&a.logits, &inputs.target, &inputs.weight, &mut a.row_loss, &mut a.lse, &mut a.loss, false)?;
    cross_entropy::backward(&mut a.logits, &inputs.target, &a.lse, &inputs.weight)?;
    let doutput = g.lm_head.as_mut().unwrap_or(&mut g.embed_tokens);
    linear::backward(&a.logits, &a.picked, output, &mut a.dpicked, false, doutput, workspace)?;
    product(&inputs.collect, &a.dpicked, false, &mut a.dnormed)?;
    rms_norm::backward(&a.dnormed, &a.pooled, &p.norm, &a.rstd, None, &mut a.dpooled, &mut g.norm, workspace)?;
    product(&inputs.spread, &a.dpooled, true, dx)
}
