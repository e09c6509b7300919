//! The forward pass: rows from words, pictures and sounds, then the decoder, then the loss.

use super::activations::{Activations, LayerActivations};
use super::config::Config;
use super::parameters::{Layer, Parameters};
use crate::device::Device;
use crate::error::Result;
use crate::ops::matmul::{self, Epilogue, Layout};
use crate::ops::{attention, conv1d, cross_entropy, embedding, patch_embed, qk_norm_rope, rms_norm, rope, swiglu};
use crate::tensor::{DType, Tensor};

/// The rotary table of a model.
pub fn rope_table(config: &Config, device: &Device, real: DType) -> Result<rope::Table> {
    rope::Table::new(device, real, config.max_position_embeddings, config.head_dim, config.rope_theta)
}

/// `y = x · wᵀ`
pub(super) fn linear(x: &Tensor, w: &Tensor, y: &mut Tensor) -> Result<()> {
    matmul::forward(Layout::Nt, x, w, Epilogue::default(), y, None)
}

/// The scale of attention's logits.
pub(super) fn attention_scale(config: &Config) -> f32 {
    (1.0 / (config.head_dim as f64).sqrt()) as f32
}

/// Runs the loaded batch through the model: afterwards `a.loss` holds the mean over the counted rows.
pub fn forward(config: &Config, p: &Parameters, table: &rope::Table, a: &mut Activations) -> Result<()> {
    hidden(config, p, table, a)?;
    (0..a.inputs.chunks.len()).try_for_each(|chunk| loss(p, a, chunk).map(drop))
}

/// The part of the forward pass below the output layer: afterwards everything that [`super::backward::backward`] needs is saved.
pub fn hidden(config: &Config, p: &Parameters, table: &rope::Table, a: &mut Activations) -> Result<()> {
    let (n, clips) = (a.inputs.embed_id.rows(), a.inputs.mel.rows());
    a.fit(n, clips)?;
    embed(config, p, a)?;
    for i in 0..p.layers.len() {
        let (before, rest) = a.layers.split_at_mut(i);
        let layer = &mut rest[0];
        let w = &p.layers[i];
        // The residual stream enters: as embedded, or as the layer before left it plus what its MLP added.
        match before.last() {
            None => rms_norm::forward(&layer.x, None, &w.input_layernorm, config.rms_norm_eps, &mut layer.normed_attention, &mut layer.rstd_attention)?,
            Some(before) => rms_norm::forward(
                &before.middle,
                Some((&a.delta, &mut layer.x)),
                &w.input_layernorm,
                config.rms_norm_eps,
                &mut layer.normed_attention,
                &mut layer.rstd_attention,
            )?,
        }
        project(config, w, table, &a.inputs.position, layer)?;
        attention::forward(
            &layer.q_rotated,
            &layer.k_rotated,
            &layer.v,
            &a.inputs.visible,
            attention_scale(config),
            &mut layer.attended,
            &mut layer.log_sum_exp,
        )?;
        linear(&layer.attended, &w.o_proj, &mut a.delta)?;
        rms_norm::forward(
            &layer.x,
            Some((&a.delta, &mut layer.middle)),
            &w.post_attention_layernorm,
            config.rms_norm_eps,
            &mut layer.normed_mlp,
            &mut layer.rstd_mlp,
        )?;
        linear(&layer.normed_mlp, &w.gate_proj, &mut layer.gate)?;
        linear(&layer.normed_mlp, &w.up_proj, &mut layer.up)?;
        swiglu::forward(&layer.gate, &layer.up, &mut layer.gated)?;
        linear(&layer.gated, &w.down_proj, &mut a.delta)?;
    }
    let last = a.layers.last().expect("a model has at least one layer");
    rms_norm::forward(&last.middle, Some((&a.delta, &mut a.x)), &p.norm, config.rms_norm_eps, &mut a.normed, &mut a.rstd)
}

/// The logits of one chunk, and its part of the loss. Only where a word is predicted: most rows are patches and frames. Returns
/// whether there was anything to do.
pub(super) fn loss(p: &Parameters, a: &mut Activations, chunk: usize) -> Result<bool> {
    a.fit_chunk(chunk)?;
    let of = &a.inputs.chunks[chunk];
    if chunk > 0 && of.row.is_empty() {
        return Ok(false); // the batch has fewer rows than there is room for
    }
    embedding::forward(&a.normed, &of.row, None, &mut a.picked)?;
    linear(&a.picked, p.lm_head.as_ref().unwrap_or(&p.embed_tokens), &mut a.logits)?;
    cross_entropy::forward(&a.logits, &of.target, &a.inputs.weight, &mut a.row_loss, &mut a.logit_lse, &mut a.loss, chunk > 0)?;
    Ok(true)
}

/// Fills the token matrix: words by their ids, patches and frames into the rows that the batch gave them.
fn embed(config: &Config, p: &Parameters, a: &mut Activations) -> Result<()> {
    let x = &mut a.layers[0].x;
    embedding::forward(&p.embed_tokens, &a.inputs.embed_id, None, x)?;
    if let Some(vision) = &p.vision {
        patch_embed::forward(&a.inputs.pixels, &vision.weight, &vision.bias, &vision.position, &a.inputs.patch_row, x)?;
    }
    if let Some(audio) = &config.audio_config {
        for (i, w) in p.audio.iter().enumerate() {
            let (before, rest) = a.convolutions.split_at_mut(i);
            let input = before.last().map_or(&a.inputs.mel, |c| &c.y);
            conv1d::forward(input, &w.weight, &w.bias, audio.stride(i), &mut rest[0].z, &mut rest[0].y)?;
        }
        let frames = &a.convolutions.last().expect("validated: at least one convolution").y;
        a.inputs.iota.set_rows(a.inputs.frame_row.rows())?;
        embedding::forward(frames, &a.inputs.iota, Some(&a.inputs.frame_row), x)?;
    }
    Ok(())
}

/// Queries, keys and values: projected, queries and keys normalised per head and rotated.
fn project(config: &Config, w: &Layer, table: &rope::Table, position: &Tensor, layer: &mut LayerActivations) -> Result<()> {
    let eps = config.rms_norm_eps;
    linear(&layer.normed_attention, &w.q_proj, &mut layer.q)?;
    linear(&layer.normed_attention, &w.k_proj, &mut layer.k)?;
    linear(&layer.normed_attention, &w.v_proj, &mut layer.v)?;
    qk_norm_rope::forward(&layer.q, &w.q_norm, position, table, eps, &mut layer.q_rotated, &mut layer.rstd_q)?;
    qk_norm_rope::forward(&layer.k, &w.k_norm, position, table, eps, &mut layer.k_rotated, &mut layer.rstd_k)
}
