//! What training tells from the rows of picture and sound alone, beside the captions: the auxiliary losses' common part.
//!
//! The rows that a sample's picture and sound became are added up and normalised as the model's last norm does. From that the output layer
//! tells the caption's words ([`super::word_bag`]), or which of all captions it is ([`super::contrast`]): with no layer of the decoder
//! between, so that the gradient reaches eye and ear at once. What a caption says follows mostly from its own earlier words; this does not.
//!
//! There is no operation of its own: sums over rows of a sample are products with a matrix of zeros and ones.
//!
//! Shapes: `S` samples with a picture or a sound, `N` rows of the token matrix.

use super::activation_options::ActivationOptions;
use super::batch::{Batch, Capacity, PaddedSize};
use super::config::Config;
use super::contrast::{ContrastActivations, ContrastInputs};
use super::linear::product;
use super::parameters::Parameters;
use super::seen::Seen;
use super::upload::write_matrix;
use super::word_bag::{BagActivations, BagInputs};
use crate::error::Result;
use crate::ops::rms_norm;
use crate::tensor::{DType, Tensor};

/// What a batch says about its samples, on the device.
pub struct ToldInputs<T = Tensor> {
    /// `[S, N]`: 1 where a row is part of a sample's picture or sound, else 0.
    pub(crate) pool: T,
    /// `[N, S]`: the same, transposed.
    pub(crate) spread: T,
    pub(crate) bag: Option<BagInputs<T>>,
    pub(crate) contrast: Option<ContrastInputs<T>>,
}

/// What the losses are computed in.
pub struct ToldActivations<T = Tensor> {
    /// `[S, D]`: the sums, and what the norm makes of them; `[S]`.
    pub(crate) pooled: T,
    pub(crate) normed: T,
    pub(crate) rstd: T,
    pub(crate) bag: Option<BagActivations<T>>,
    pub(crate) contrast: Option<ContrastActivations<T>>,
    /// Gradients.
    pub(crate) dnormed: T,
    pub(crate) dpooled: T,
}

impl<T> ToldInputs<T> {
    /// Builds the listing; `None` where training tells nothing.
    pub(super) fn build(capacity: Capacity, options: ActivationOptions, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Option<Self>> {
        let Capacity { rows, logits, told: samples, .. } = capacity;
        let (real, words) = (options.activation, logits);
        if samples == 0 {
            return Ok(None);
        }
        Ok(Some(ToldInputs {
            pool: make(&[samples, rows], real)?,
            spread: make(&[rows, samples], real)?,
            bag: if options.word_bag > 0.0 { Some(BagInputs::build(samples, words, real, make)?) } else { None },
            contrast: if options.contrastive > 0.0 { Some(ContrastInputs::build(samples, real, make)?) } else { None },
        }))
    }
}

impl<T> ToldActivations<T> {
    /// Builds the listing; `None` where training tells nothing.
    pub(super) fn build(
        config: &Config,
        capacity: Capacity,
        options: ActivationOptions,
        make: &mut impl FnMut(&[usize], DType) -> Result<T>,
    ) -> Result<Option<Self>> {
        let Capacity { logits, told: samples, .. } = capacity;
        let (d, real, words) = (config.hidden_size, options.activation, logits);
        if samples == 0 {
            return Ok(None);
        }
        Ok(Some(ToldActivations {
            pooled: make(&[samples, d], real)?,
            normed: make(&[samples, d], real)?,
            rstd: make(&[samples], crate::ops::statistic(real))?,
            bag: if options.word_bag > 0.0 { Some(BagActivations::build(config, words, real, make)?) } else { None },
            contrast: if options.contrastive > 0.0 { Some(ContrastActivations::build(config, samples, options.captions, real, make)?) } else { None },
            dnormed: make(&[samples, d], real)?,
            dpooled: make(&[samples, d], real)?,
        }))
    }

    /// Every tensor in the order of the computation, with what it is in a message.
    pub(crate) fn named(&self) -> Vec<(&'static str, &T)> {
        let pooled = [
            ("what each sample's rows add up to", &self.pooled),
            ("1/rms of what each sample's rows add up to", &self.rstd),
            ("the norm of what each sample's rows add up to", &self.normed),
        ];
        let (bag, contrast) = (self.bag.iter().flat_map(BagActivations::named), self.contrast.iter().flat_map(ContrastActivations::named));
        pooled.into_iter().chain(bag).chain(contrast).collect()
    }

    /// The gradients, as [`ToldActivations::named`].
    pub(crate) fn named_gradients(&self) -> Vec<(&'static str, &T)> {
        let bag = self.bag.iter().map(|bag| ("what each word is told from", &bag.dpicked));
        let contrast = self.contrast.iter().map(|contrast| ("the words of each sample", &contrast.dwords));
        let pooled = [("the norm of what each sample's rows add up to", &self.dnormed), ("what each sample's rows add up to", &self.dpooled)];
        bag.chain(contrast).chain(pooled).collect()
    }
}

impl ToldInputs {
    /// Uploads what a batch of this padded size says; `counted` as for [`super::inputs::Inputs::load`].
    pub(super) fn load(&mut self, batch: &Batch, size: PaddedSize, counted: usize, ahead: bool) -> Result<()> {
        let (samples, rows) = (batch.images + batch.clips, size.rows);
        let seen = Seen::in_batch(batch);
        let pool = seen.pool(samples, rows);
        let mut spread = vec![0.0; rows * samples];
        for (sample, own) in pool.chunks_exact(rows.max(1)).enumerate() {
            own.iter().enumerate().filter(|(_, one)| **one != 0.0).for_each(|(row, &one)| spread[row * samples + sample] = one);
        }
        write_matrix(&mut self.pool, [samples, rows], &pool, ahead)?;
        write_matrix(&mut self.spread, [rows, samples], &spread, ahead)?;
        self.bag.as_mut().map_or(Ok(()), |bag| bag.load(batch, &seen, samples, size.logits, counted, ahead))?;
        self.contrast.as_mut().map_or(Ok(()), |contrast| contrast.load(batch, &seen, samples, counted, ahead))
    }

    /// Every tensor, with what it is in a trace.
    pub(super) fn named(&self) -> Vec<(&'static str, &Tensor)> {
        let own = [("each sample's rows", &self.pool), ("each row's sample", &self.spread)];
        let (bag, contrast) = (self.bag.iter().flat_map(BagInputs::named), self.contrast.iter().flat_map(ContrastInputs::named));
        own.into_iter().chain(bag).chain(contrast).collect()
    }

    /// As [`ToldInputs::named`], in the same order.
    pub(super) fn each_mut(&mut self) -> Vec<&mut Tensor> {
        let (bag, contrast) = (self.bag.iter_mut().flat_map(BagInputs::each_mut), self.contrast.iter_mut().flat_map(ContrastInputs::each_mut));
        [&mut self.pool, &mut self.spread].into_iter().chain(bag).chain(contrast).collect()
    }
}

/// The losses, and their gradients: those of the output layer, of the last norm and of the embeddings are added to `g`, that of the token
/// matrix `x` to `dx`.
pub(super) fn loss_and_backward(
    eps: f32,
    p: &Parameters,
    g: &mut Parameters,
    inputs: &ToldInputs,
    a: &mut ToldActivations,
    x: &Tensor,
    dx: &mut Tensor,
    workspace: &mut Tensor,
) -> Result<()> {
    let samples = inputs.pool.rows();
    if samples == 0 {
        let losses = a.bag.iter_mut().map(|bag| &mut bag.loss).chain(a.contrast.iter_mut().map(|contrast| &mut contrast.loss));
        return losses.into_iter().try_for_each(Tensor::fill_zero);
    }
    for tensor in [&mut a.pooled, &mut a.normed, &mut a.rstd, &mut a.dnormed, &mut a.dpooled] {
        tensor.set_rows(samples)?;
    }
    product(&inputs.pool, x, false, &mut a.pooled)?;
    rms_norm::forward(&a.pooled, None, &p.norm, eps, &mut a.normed, &mut a.rstd)?;
    let output = p.lm_head.as_ref().unwrap_or(&p.embed_tokens);
    let doutput = g.lm_head.as_mut().unwrap_or(&mut g.embed_tokens);
    if let (Some(of), Some(bag)) = (&inputs.bag, &mut a.bag) {
        bag.loss_and_backward(of, &a.normed, output, &mut a.dnormed, doutput, workspace)?;
    }
    if let (Some(of), Some(contrast)) = (&inputs.contrast, &mut a.contrast) {
        contrast.loss_and_backward(of, &a.normed, output, &mut a.dnormed, a.bag.is_some(), doutput, workspace)?;
    }
    rms_norm::backward(&a.dnormed, &a.pooled, &p.norm, &a.rstd, None, &mut a.dpooled, &mut g.norm, workspace)?;
    product(&inputs.spread, &a.dpooled, true, dx)
}
