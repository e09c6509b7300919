//! The forward pass: rows from words, pictures and sounds, then the decoder, then the loss.

use super::activations::{Activations, Stream};
use super::config::Config;
use super::eye;
use super::inputs::Inputs;
use super::linear;
use super::parameters::{Layer, Parameters};
use crate::device::Device;
use crate::error::Result;
use crate::observe::{self, ModelPart, Phase};
use crate::ops::{attention, conv1d, cross_entropy, embedding, qk_norm_rope, rms_norm, rope, swiglu};
use crate::tensor::DType;

/// The rotary table of a model.
pub fn rope_table(config: &Config, device: &Device, real: DType) -> Result<rope::Table> {
    rope::Table::new(device, real, config.max_position_embeddings, config.head_dim, config.rope_theta)
}

/// The scale of attention's logits.
pub(crate) fn attention_scale(config: &Config) -> f32 {
    (1.0 / (config.head_dim as f64).sqrt()) as f32
}

/// Runs the loaded batch through the model: afterwards `a.loss` holds the mean over the counted rows.
pub fn forward(config: &Config, p: &Parameters, table: &rope::Table, a: &mut Activations) -> Result<()> {
    a.loss.fill_zero()?;
    hidden_states(config, p, table, a)?;
    (0..a.inputs.chunks.len()).try_for_each(|chunk| loss(p, a, chunk).map(drop))
}

/// The part of the forward pass below the output layer: afterwards everything that [`super::backward::loss_and_backward`] needs is saved.
pub fn hidden_states(config: &Config, p: &Parameters, table: &rope::Table, a: &mut Activations) -> Result<()> {
    a.fit()?;
    let scope = observe::scope(Phase::Forward, ModelPart::Rows);
    embed(config, p, a)?;
    let Stream { x, rstd, normed } = &mut a.streams[0];
    rms_norm::forward(x, None, &p.layers[0].input_layernorm, config.rms_norm_eps, normed, rstd)?;
    drop(scope);
    for (i, w) in p.layers.iter().enumerate() {
        let _scope = observe::scope(Phase::Forward, ModelPart::Layer(i));
        layer(config, w, table, a, i)?;
        // What leaves the layer: the residual stream and what the MLP adds to it, normalised for what reads it next.
        let slot = a.slot(i);
        let (layer, Stream { x, rstd, normed }) = (&a.layers[slot], &mut a.streams[i + 1]);
        let norm = p.layers.get(i + 1).map_or(&p.norm, |next| &next.input_layernorm);
        linear::forward(&layer.gated, &w.down_proj, &mut a.delta)?;
        rms_norm::forward(&layer.middle, Some((&a.delta, x)), norm, config.rms_norm_eps, normed, rstd)?;
    }
    Ok(())
}

/// One decoder layer, from the normalised stream that enters it to what the down projection reads. The backward pass calls it once
/// more where its results were not kept. The last one computes only the rows that are read (see [`super::last_rows`]): of the others,
/// keys and values.
pub(crate) fn layer(config: &Config, w: &Layer, table: &rope::Table, a: &mut Activations, i: usize) -> Result<()> {
    a.fit_layer(i)?;
    let (slot, is_last, eps) = (a.slot(i), a.is_last(i), config.rms_norm_eps);
    let (Inputs { position, visible, last, .. }, stream, layer) = (&a.inputs, &a.streams[i], &mut a.layers[slot]);
    let mut asking = (&stream.x, &stream.normed, position, visible);
    if is_last {
        embedding::forward(&stream.x, &last.row, None, &mut a.last_x)?;
        embedding::forward(&stream.normed, &last.row, None, &mut a.last_normed)?;
        asking = (&a.last_x, &a.last_normed, &last.position, &last.visible);
    }
    let (x, normed, asking_position, visible) = asking;
    linear::forward(normed, &w.q_proj, &mut layer.q)?;
    linear::forward(&stream.normed, &w.k_proj, &mut layer.k)?;
    linear::forward(&stream.normed, &w.v_proj, &mut layer.v)?;
    qk_norm_rope::forward(&layer.q, &w.q_norm, asking_position, table, eps, &mut layer.q_rotated, &mut layer.rstd_q)?;
    qk_norm_rope::forward(&layer.k, &w.k_norm, position, table, eps, &mut layer.k_rotated, &mut layer.rstd_k)?;
    attention::forward(&layer.q_rotated, &layer.k_rotated, &layer.v, visible, attention_scale(config), &mut layer.attended, &mut layer.log_sum_exp)?;
    linear::forward(&layer.attended, &w.o_proj, &mut a.delta)?;
    rms_norm::forward(x, Some((&a.delta, &mut layer.middle)), &w.post_attention_layernorm, eps, &mut layer.normed_mlp, &mut layer.rstd_mlp)?;
    linear::forward(&layer.normed_mlp, &w.gate_proj, &mut layer.gate)?;
    linear::forward(&layer.normed_mlp, &w.up_proj, &mut layer.up)?;
    swiglu::forward(&layer.gate, &layer.up, &mut layer.gated)
}

/// The logits of one chunk, and its part of the loss, which is added to `a.loss`. Only where a word is predicted: most rows are
/// patches and frames. Returns whether there was anything to do.
pub(crate) fn loss(p: &Parameters, a: &mut Activations, chunk: usize) -> Result<bool> {
    let _scope = observe::scope(Phase::Loss, ModelPart::Output);
    a.fit_chunk(chunk)?;
    let of = &a.inputs.chunks[chunk];
    if chunk > 0 && of.row.is_empty() {
        return Ok(false); // the batch has fewer rows than there is room for
    }
    let last = a.streams.last().expect("one more than layers");
    embedding::forward(&last.normed, &of.row, None, &mut a.picked)?;
    linear::forward(&a.picked, p.lm_head.as_ref().unwrap_or(&p.embed_tokens), &mut a.logits)?;
    cross_entropy::forward(&a.logits, &of.target, &a.inputs.weight, &mut a.row_loss, &mut a.logit_lse, &mut a.loss, true)?;
    Ok(true)
}

/// Fills the token matrix: words by their ids, patches and frames into the rows that the batch gave them.
fn embed(config: &Config, p: &Parameters, a: &mut Activations) -> Result<()> {
    let x = &mut a.streams[0].x;
    embedding::forward(&p.embed_tokens, &a.inputs.embed_id, None, x)?;
    if let (Some(vision), Some(w)) = (&config.vision_config, &p.vision) {
        let Inputs { pixels, patch_row, whole_row, iota, .. } = &mut a.inputs;
        eye::forward(vision, config.rms_norm_eps, w, pixels, patch_row, whole_row.as_ref(), a.stem.as_mut(), a.histograms.as_mut(), iota, x)?;
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
