//! The loss and the backward pass: [`super::forward`], read from the end. Logits exist one chunk of rows at a time, so the output layer's
//! loss is computed here, chunk by chunk, each followed by its gradient.

use super::activations::Activations;
use super::config::Config;
use super::eye;
use super::forward::{self, attention_scale, loss};
use super::inputs::Inputs;
use super::linear;
use super::parameters::Parameters;
use super::told;
use crate::error::Result;
use crate::observe::{self, ModelPart, Phase};
use crate::ops::{attention, conv1d, cross_entropy, embedding, qk_norm_rope, rms_norm, rope, swiglu};
use crate::tensor::Tensor;

/// Where the gradients of what a model was shown go, for callers that ask for them; training does not. Overwritten.
#[derive(Default)]
pub struct InputGradients {
    /// `[images, H, W, 3]`, of the pixels from 0 to 255, in the dtype of statistics.
    pub pixels: Option<Tensor>,
    /// `[clips, frames, mels]`, of the mel frames, in the dtype of activations.
    pub mel: Option<Tensor>,
}

/// The loss of the loaded batch, which is added to `a.loss`, and its gradient, which is added to `g`. [`super::forward::hidden_states`] has
/// just run.
pub fn loss_and_backward(config: &Config, p: &Parameters, table: &rope::Table, a: &mut Activations, g: &mut Parameters) -> Result<()> {
    loss_and_backward_to_inputs(config, p, table, a, g, &mut InputGradients::default())
}

/// As [`loss_and_backward`], down to what the model was shown.
pub fn loss_and_backward_to_inputs(
    config: &Config,
    p: &Parameters,
    table: &rope::Table,
    a: &mut Activations,
    g: &mut Parameters,
    inputs: &mut InputGradients,
) -> Result<()> {
    let scope = observe::scope(Phase::Backward, ModelPart::Output);
    // Rows without logits get no gradient from the loss. (Where the last layer computes only those with logits, there are none.)
    let (n, m) = (a.inputs.embed_id.rows(), a.inputs.last.row.rows());
    a.dnormed.set_rows(m)?;
    a.dx.set_rows(m)?;
    a.dnormed.fill_zero()?;
    for chunk in 0..a.inputs.chunks.len() {
        if !loss(p, a, chunk)? {
            break;
        }
        let of = &a.inputs.chunks[chunk];
        cross_entropy::backward(&mut a.logits, &of.target, &a.logit_lse, &a.inputs.weight)?;
        let output = p.lm_head.as_ref().unwrap_or(&p.embed_tokens);
        let doutput = g.lm_head.as_mut().unwrap_or(&mut g.embed_tokens);
        linear::backward(&a.logits, &a.picked, output, &mut a.dpicked, false, doutput, &mut a.workspace)?;
        a.inputs.iota.set_rows(of.row.rows())?;
        embedding::forward(&a.dpicked, &a.inputs.iota, Some(&of.row), &mut a.dnormed)?;
    }
    let last = a.streams.last().expect("one more than layers");
    rms_norm::backward(&a.dnormed, &last.x, &p.norm, &last.rstd, None, &mut a.dx, &mut g.norm, &mut a.workspace)?;
    drop(scope);

    // From here `dx` is the gradient of the residual stream that leaves a layer, which is also that of what its MLP added.
    for (i, w) in p.layers.iter().enumerate().rev() {
        // Where there is one set of activations for all layers, it holds those of the last.
        if a.layers.len() == 1 && i + 1 < p.layers.len() {
            let _scope = observe::scope(Phase::Recompute, ModelPart::Layer(i));
            forward::layer(config, w, table, a, i)?;
        }
        let _scope = observe::scope(Phase::Backward, ModelPart::Layer(i));
        a.fit_layer(i)?;
        let (is_last, slot) = (a.is_last(i), a.slot(i));
        let Inputs { position, visible, visible_by, iota, last, .. } = &mut a.inputs;
        let (stream, layer, dw, ws) = (&a.streams[i], &a.layers[slot], &mut g.layers[i], &mut a.workspace);
        linear::backward(&a.dx, &layer.gated, &w.down_proj, &mut a.dgated, false, &mut dw.down_proj, ws)?;
        swiglu::backward(&layer.gate, &layer.up, &a.dgated, &mut a.dgate, &mut a.dup)?;
        linear::backward(&a.dgate, &layer.normed_mlp, &w.gate_proj, &mut a.dnormed, false, &mut dw.gate_proj, ws)?;
        linear::backward(&a.dup, &layer.normed_mlp, &w.up_proj, &mut a.dnormed, true, &mut dw.up_proj, ws)?;
        let dmiddle = if is_last { &mut a.dlast } else { &mut a.dmiddle };
        rms_norm::backward(
            &a.dnormed,
            &layer.middle,
            &w.post_attention_layernorm,
            &layer.rstd_mlp,
            Some(&a.dx),
            dmiddle,
            &mut dw.post_attention_layernorm,
            ws,
        )?;

        linear::backward(dmiddle, &layer.attended, &w.o_proj, &mut a.dattended, false, &mut dw.o_proj, ws)?;
        let (asking_position, visible, visible_by) = match is_last {
            true => (&last.position, &last.visible, &last.visible_by),
            false => (&*position, &*visible, &*visible_by),
        };
        // The gradients of the rotated queries and keys come in `dq` and `dk`, and leave them as those of the projections.
        attention::backward(
            &layer.q_rotated,
            &layer.k_rotated,
            &layer.v,
            &layer.attended,
            &layer.log_sum_exp,
            &a.dattended,
            visible,
            visible_by,
            attention_scale(config),
            &mut a.attention_delta,
            &mut a.dq,
            &mut a.dk,
            &mut a.dv,
        )?;
        qk_norm_rope::backward(&layer.q, &w.q_norm, &layer.rstd_q, asking_position, table, &mut a.dq, &mut dw.q_norm, ws)?;
        qk_norm_rope::backward(&layer.k, &w.k_norm, &layer.rstd_k, position, table, &mut a.dk, &mut dw.k_norm, ws)?;
        if is_last {
            // The rows that asked pass on two gradients; the others, which were only looked at, have none of either.
            for tensor in [&mut a.dmiddle, &mut a.dnormed, &mut a.dx] {
                tensor.set_rows(n)?;
            }
            iota.set_rows(m)?;
            a.dmiddle.fill_zero()?;
            embedding::forward(&a.dlast, iota, Some(&last.row), &mut a.dmiddle)?;
            linear::backward(&a.dq, &a.last_normed, &w.q_proj, &mut a.dlast, false, &mut dw.q_proj, ws)?;
            a.dnormed.fill_zero()?;
            embedding::forward(&a.dlast, iota, Some(&last.row), &mut a.dnormed)?;
        } else {
            linear::backward(&a.dq, &stream.normed, &w.q_proj, &mut a.dnormed, false, &mut dw.q_proj, ws)?;
        }
        linear::backward(&a.dk, &stream.normed, &w.k_proj, &mut a.dnormed, true, &mut dw.k_proj, ws)?;
        linear::backward(&a.dv, &stream.normed, &w.v_proj, &mut a.dnormed, true, &mut dw.v_proj, ws)?;
        rms_norm::backward(&a.dnormed, &stream.x, &w.input_layernorm, &stream.rstd, Some(&a.dmiddle), &mut a.dx, &mut dw.input_layernorm, ws)?;
    }
    if let (Some(of), Some(told)) = (&a.inputs.told, &mut a.told) {
        let _scope = observe::scope(Phase::Loss, ModelPart::Output);
        told::loss_and_backward(config.rms_norm_eps, p, g, of, told, &a.streams[0].x, &mut a.dx, &mut a.workspace)?;
    }
    let _scope = observe::scope(Phase::Backward, ModelPart::Rows);
    embed(config, p, a, g, inputs)
}

/// The gradients of what made the token matrix, from `dx`.
fn embed(config: &Config, p: &Parameters, a: &mut Activations, g: &mut Parameters, inputs: &mut InputGradients) -> Result<()> {
    embedding::backward(&a.dx, &a.inputs.sorted_row, &a.inputs.sorted_start, &mut g.embed_tokens)?;
    if let (Some(vision), Some(w), Some(dw)) = (&config.vision_config, &p.vision, &mut g.vision) {
        let Inputs { pixels, patch_row, whole_row, iota, .. } = &mut a.inputs;
        eye::backward(
            vision,
            w,
            dw,
            pixels,
            patch_row,
            whole_row.as_ref(),
            a.stem.as_mut(),
            a.histograms.as_mut(),
            iota,
            &a.dx,
            inputs.pixels.as_mut(),
            &mut a.workspace,
        )?;
    }
    if let Some(audio) = &config.audio_config {
        let last = a.convolutions.last_mut().expect("validated: at least one convolution");
        embedding::forward(&a.dx, &a.inputs.frame_row, None, &mut last.dy)?;
        for (i, (w, dw)) in p.audio.iter().zip(&mut g.audio).enumerate().rev() {
            let (before, rest) = a.convolutions.split_at_mut(i);
            let here = &mut rest[0];
            let (input, dinput) = match before.last_mut() {
                Some(before) => (&before.y, Some(&mut before.dy)),
                None => (&a.inputs.mel, inputs.mel.as_mut()),
            };
            conv1d::backward(input, &w.weight, &here.z, &here.dy, audio.stride(i), &mut here.dz, dinput, &mut dw.weight, &mut dw.bias, &mut a.workspace)?;
        }
    }
    Ok(())
}
