//! The row of a picture as a whole, from what is counted in it: one linear map of the local histograms of its colours and edges
//! ([`local_histogram`]).
//!
//! Little is learned here, and so few pictures teach it: from two drawings of a thing its third is told, where convolutions need many
//! (docs/experiments.md).

use super::config::{Config, VisionConfig};
use super::linear;
use crate::error::Result;
use crate::ops::matmul::{self, Epilogue, Layout};
use crate::ops::{embedding, local_histogram};
use crate::tensor::{DType, Tensor};

/// What counting keeps for its backward pass, and the gradient. `B` pictures of `C` cells.
pub struct HistogramActivations<T = Tensor> {
    /// `[B, C · 36]`: the counts.
    pub(crate) counts: T,
    /// `[B · C · 9]`: the edges of each cell, before they are compared with their neighbours.
    pub(crate) means: T,
    /// `[B, D]`
    pub(crate) rows: T,
    /// Its gradient.
    pub(crate) drows: T,
}

/// What the rows are called in a trace.
pub(crate) const ROWS: &str = "what was counted, as rows";

impl<T> HistogramActivations<T> {
    /// Builds the listing for `images` pictures: `make(shape, dtype)` once per tensor. `None` for a model that counts nothing.
    pub fn build(config: &Config, images: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Option<Self>> {
        let Some(grids) = config.vision_config.as_ref().map(|vision| &vision.histograms[..]).filter(|grids| !grids.is_empty()) else { return Ok(None) };
        Ok(Some(HistogramActivations {
            counts: make(&[images, local_histogram::cells(grids).saturating_mul(local_histogram::BINS)], real)?,
            means: make(&[local_histogram::workspace(images, grids)], crate::ops::statistic(real))?,
            rows: make(&[images, config.hidden_size], real)?,
            drows: make(&[images, config.hidden_size], real)?,
        }))
    }

    /// What the computation leaves, in its order, with what it is in a message.
    pub(crate) fn named(&self) -> [(&'static str, &T); 2] {
        [("what was counted in the pictures", &self.counts), (ROWS, &self.rows)]
    }
}

/// The rows of the pictures `pixels [B, H, W, 3]`; with what a stem `seen` of them added.
pub(super) fn forward<'a>(grids: &[usize], w: &Tensor, pixels: &Tensor, seen: Option<&Tensor>, a: &'a mut HistogramActivations) -> Result<&'a Tensor> {
    for tensor in [&mut a.counts, &mut a.rows, &mut a.drows] {
        tensor.set_rows(pixels.rows())?;
    }
    local_histogram::forward(pixels, grids, &mut a.counts, &mut a.means)?;
    matmul::forward(Layout::Nt, &a.counts, w, Epilogue { residual: seen, ..Default::default() }, &mut a.rows, None)?;
    Ok(&a.rows)
}

/// Adds to the gradient of the weights, from `dx`, that of the token matrix. [`forward`] has run.
pub(super) fn backward(row: &Tensor, dx: &Tensor, dw: &mut Tensor, a: &mut HistogramActivations, workspace: &mut Tensor) -> Result<()> {
    embedding::forward(dx, row, None, &mut a.drows)?;
    linear::backward_weights(&a.drows, &a.counts, dw, workspace)
}

/// Elements of the workspace that [`backward`] needs for `images` pictures.
pub(super) fn workspace(config: &Config, vision: &VisionConfig, images: usize) -> usize {
    let counts = local_histogram::cells(&vision.histograms).saturating_mul(local_histogram::BINS);
    matmul::workspace(Layout::Tn, config.hidden_size, counts, images)
}
