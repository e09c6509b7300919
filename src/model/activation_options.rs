//! How a training step computes, beside what it computes.

use crate::tensor::DType;

/// How a training step uses memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ActivationOptions {
    /// The dtype of activations: the parameters' own, or bf16 beside f32 parameters for mixed precision.
    pub activation: DType,
    /// Keeps only what enters each layer, and computes the rest again in the backward pass (Chen et al. 2016, arXiv 1604.06174):
    /// one more forward pass without the down projections, for the memory of one layer instead of all. The bits stay the same.
    pub recompute: bool,
    /// What a word told from picture and sound alone weighs beside a word of the captions; 0 for no such loss. See [`super::word_bag`].
    pub word_bag: f32,
    /// What a sample whose caption is told from picture and sound alone weighs beside a word of the captions; 0 for no such loss. See
    /// [`super::contrast`].
    pub contrastive: f32,
    /// How many captions are told apart where there is such a loss.
    pub captions: usize,
    /// Has the last layer compute every row, as the others do, instead of those with logits: for looking at them. See [`super::last_rows`].
    pub every_row: bool,
}

impl ActivationOptions {
    /// Everything kept.
    pub fn new(activation: DType) -> Self {
        ActivationOptions { activation, recompute: false, word_bag: 0.0, contrastive: 0.0, captions: 0, every_row: false }
    }
}
