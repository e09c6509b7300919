//! Everything that a training step needs in memory, allocated once.

use super::batch::{Capacity, Inputs};
use super::config::Config;
use super::parameters::Parameters;
use crate::error::Result;
use crate::ops::{adamw, conv1d, matmul, patch_embed, rms_norm};
use crate::tensor::{DType, Tensor};

/// What one decoder layer keeps for its backward pass. `N` rows, `H` query and `H_kv` key/value heads of width `d`.
pub struct LayerActivations<T = Tensor> {
    /// `[N, D]`: the residual stream that enters.
    pub(crate) x: T,
    /// `[N]`
    pub(crate) rstd_attention: T,
    /// `[N, D]`: normalised, for the projections.
    pub(crate) normed_attention: T,
    /// `[N, H, d]`, `[N, H_kv, d]` twice: as projected.
    pub(crate) q: T,
    pub(crate) k: T,
    pub(crate) v: T,
    /// `[N, H]`, `[N, H_kv]`
    pub(crate) rstd_q: T,
    pub(crate) rstd_k: T,
    /// Normalised per head and rotated.
    pub(crate) q_rotated: T,
    pub(crate) k_rotated: T,
    /// `[N, H, d]`
    pub(crate) attended: T,
    /// `[N, H]`
    pub(crate) log_sum_exp: T,
    /// `[N, D]`: the residual stream between attention and MLP.
    pub(crate) middle: T,
    /// `[N]`
    pub(crate) rstd_mlp: T,
    /// `[N, D]`
    pub(crate) normed_mlp: T,
    /// `[N, F]` each.
    pub(crate) gate: T,
    pub(crate) up: T,
    pub(crate) gated: T,
}

/// What one convolution of the sound stem keeps.
pub struct ConvolutionActivations<T = Tensor> {
    /// `[clips, frames', D]`: before the GELU.
    pub(crate) z: T,
    /// `[clips, frames', D]`: after it.
    pub(crate) y: T,
    /// `[clips, frames', D]`: gradients of both.
    pub(crate) dz: T,
    pub(crate) dy: T,
}

/// All activations, their gradients, and the workspace.
pub struct Activations<T = Tensor> {
    /// The batch.
    pub(crate) inputs: Inputs<T>,
    pub(crate) convolutions: Vec<ConvolutionActivations<T>>,
    pub(crate) layers: Vec<LayerActivations<T>>,
    /// `[N, D]`: what a block adds to the residual stream.
    pub(crate) delta: T,
    /// `[N, H, d]`, `[N, H_kv, d]`: normalised, before the rotation.
    pub(crate) q_normed: T,
    pub(crate) k_normed: T,
    /// `[N, D]`: the residual stream that leaves the last layer.
    pub(crate) x: T,
    pub(crate) rstd: T,
    pub(crate) normed: T,
    /// `[C, D]`: the rows of a chunk, which get logits.
    pub(crate) picked: T,
    /// `[C, V]`: logits; backward turns them into their gradient.
    pub(crate) logits: T,
    pub(crate) row_loss: T,
    pub(crate) logit_lse: T,
    /// `[1]`
    pub(crate) loss: T,

    // Gradients: one set, used by every layer in turn.
    pub(crate) dpicked: T,
    pub(crate) dx: T,
    pub(crate) dmiddle: T,
    pub(crate) dnormed: T,
    pub(crate) dgate: T,
    pub(crate) dup: T,
    pub(crate) dgated: T,
    pub(crate) dattended: T,
    pub(crate) attention_delta: T,
    pub(crate) dq: T,
    pub(crate) dk: T,
    pub(crate) dv: T,
    pub(crate) dq_normed: T,
    pub(crate) dk_normed: T,
    pub(crate) workspace: T,
}

impl<T> Activations<T> {
    /// Builds the listing: `make(shape, dtype)` once per tensor. Activations and their gradients are `real`; statistics, the loss
    /// and sums stay f32 where that is bf16.
    pub fn build(config: &Config, capacity: Capacity, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let inputs = Inputs::build(config, capacity, real, make)?;
        let wide = crate::ops::statistic(real);
        let Capacity { rows: n, chunk: c, clips, .. } = capacity;
        let (d, f, v) = (config.hidden_size, config.intermediate_size, config.vocab_size);
        let (h, kv, hd) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let convolutions = match &config.audio_config {
            None => Vec::new(),
            Some(audio) => (0..audio.layers)
                .map(|layer| {
                    let shape = [clips, audio.frames_after(layer), d];
                    Ok(ConvolutionActivations { z: make(&shape, real)?, y: make(&shape, real)?, dz: make(&shape, real)?, dy: make(&shape, real)? })
                })
                .collect::<Result<_>>()?,
        };
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                Ok(LayerActivations {
                    x: make(&[n, d], real)?,
                    rstd_attention: make(&[n], wide)?,
                    normed_attention: make(&[n, d], real)?,
                    q: make(&[n, h, hd], real)?,
                    k: make(&[n, kv, hd], real)?,
                    v: make(&[n, kv, hd], real)?,
                    rstd_q: make(&[n, h], wide)?,
                    rstd_k: make(&[n, kv], wide)?,
                    q_rotated: make(&[n, h, hd], real)?,
                    k_rotated: make(&[n, kv, hd], real)?,
                    attended: make(&[n, h, hd], real)?,
                    log_sum_exp: make(&[n, h], wide)?,
                    middle: make(&[n, d], real)?,
                    rstd_mlp: make(&[n], wide)?,
                    normed_mlp: make(&[n, d], real)?,
                    gate: make(&[n, f], real)?,
                    up: make(&[n, f], real)?,
                    gated: make(&[n, f], real)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Activations {
            inputs,
            convolutions,
            layers,
            delta: make(&[n, d], real)?,
            q_normed: make(&[n, h, hd], real)?,
            k_normed: make(&[n, kv, hd], real)?,
            x: make(&[n, d], real)?,
            rstd: make(&[n], wide)?,
            normed: make(&[n, d], real)?,
            picked: make(&[c, d], real)?,
            logits: make(&[c, v], real)?,
            row_loss: make(&[c], wide)?,
            logit_lse: make(&[c], wide)?,
            loss: make(&[1], wide)?,
            dpicked: make(&[c, d], real)?,
            dx: make(&[n, d], real)?,
            dmiddle: make(&[n, d], real)?,
            dnormed: make(&[n, d], real)?,
            dgate: make(&[n, f], real)?,
            dup: make(&[n, f], real)?,
            dgated: make(&[n, f], real)?,
            dattended: make(&[n, h, hd], real)?,
            attention_delta: make(&[n, h], wide)?,
            dq: make(&[n, h, hd], real)?,
            dk: make(&[n, kv, hd], real)?,
            dv: make(&[n, kv, hd], real)?,
            dq_normed: make(&[n, h, hd], real)?,
            dk_normed: make(&[n, kv, hd], real)?,
            workspace: make(&[workspace(config, capacity)], wide)?,
        })
    }
}

impl<T> LayerActivations<T> {
    /// Every tensor in the order of the computation, with what it is in a message about layer `i`.
    pub(crate) fn named(&self, i: usize) -> Vec<(String, &T)> {
        let entering = if i == 0 { "the token matrix".into() } else { format!("the residual stream that enters layer {i}") };
        let mut all = vec![(entering, &self.x)];
        all.extend(
            [
                ("1/rms before the attention of", &self.rstd_attention),
                ("the normalised input of", &self.normed_attention),
                ("the queries of", &self.q),
                ("the keys of", &self.k),
                ("the values of", &self.v),
                ("1/rms of the queries of", &self.rstd_q),
                ("1/rms of the keys of", &self.rstd_k),
                ("the rotated queries of", &self.q_rotated),
                ("the rotated keys of", &self.k_rotated),
                ("attention's log-sum-exp in", &self.log_sum_exp),
                ("attention's result in", &self.attended),
                ("the residual stream behind the attention of", &self.middle),
                ("1/rms before the MLP of", &self.rstd_mlp),
                ("the normalised input of the MLP of", &self.normed_mlp),
                ("the gate of", &self.gate),
                ("the up projection of", &self.up),
                ("the SwiGLU of", &self.gated),
            ]
            .map(|(what, tensor)| (format!("{what} layer {i}"), tensor)),
        );
        all
    }
}

impl Activations {
    /// `[N, D]`: the token matrix of the last forward pass.
    pub fn embedded(&self) -> &Tensor {
        &self.layers[0].x
    }

    /// `[C, V]`: the logits of the last chunk of the last forward pass (all `[M, V]` where the capacity holds them in one); after a
    /// backward pass, their gradient.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// `[1]`: the loss of the last forward pass.
    pub fn loss(&self) -> &Tensor {
        &self.loss
    }

    /// Uses as many rows of everything as the loaded batch has.
    pub(crate) fn fit(&mut self, n: usize, clips: usize) -> Result<()> {
        for c in &mut self.convolutions {
            for tensor in [&mut c.z, &mut c.y, &mut c.dz, &mut c.dy] {
                tensor.set_rows(clips)?;
            }
        }
        for l in &mut self.layers {
            let kept = [
                &mut l.x,
                &mut l.rstd_attention,
                &mut l.normed_attention,
                &mut l.q,
                &mut l.k,
                &mut l.v,
                &mut l.rstd_q,
                &mut l.rstd_k,
                &mut l.q_rotated,
                &mut l.k_rotated,
                &mut l.attended,
                &mut l.log_sum_exp,
                &mut l.middle,
                &mut l.rstd_mlp,
                &mut l.normed_mlp,
                &mut l.gate,
                &mut l.up,
                &mut l.gated,
            ];
            for tensor in kept {
                tensor.set_rows(n)?;
            }
        }
        let by_row = [
            &mut self.delta,
            &mut self.q_normed,
            &mut self.k_normed,
            &mut self.x,
            &mut self.rstd,
            &mut self.normed,
            &mut self.dx,
            &mut self.dmiddle,
            &mut self.dnormed,
            &mut self.dgate,
            &mut self.dup,
            &mut self.dgated,
            &mut self.dattended,
            &mut self.attention_delta,
            &mut self.dq,
            &mut self.dk,
            &mut self.dv,
            &mut self.dq_normed,
            &mut self.dk_normed,
        ];
        for tensor in by_row {
            tensor.set_rows(n)?;
        }
        Ok(())
    }

    /// Uses as many rows of what the loss needs as this chunk has.
    pub(crate) fn fit_chunk(&mut self, chunk: usize) -> Result<()> {
        let rows = self.inputs.chunks[chunk].row.rows();
        for tensor in [&mut self.picked, &mut self.logits, &mut self.row_loss, &mut self.logit_lse, &mut self.dpicked] {
            tensor.set_rows(rows)?;
        }
        Ok(())
    }
}

/// Elements of the one workspace that serves every operation of a step.
fn workspace(config: &Config, capacity: Capacity) -> usize {
    let Capacity { rows: n, chunk, images, clips, .. } = capacity;
    let (d, f, v) = (config.hidden_size, config.intermediate_size, config.vocab_size);
    let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let mut needs = vec![
        rms_norm::workspace(n, d),
        rms_norm::workspace(n * config.num_attention_heads, config.head_dim),
        matmul::workspace(matmul::Layout::Tn, v, d, chunk),
        matmul::workspace(matmul::Layout::Tn, q, d, n),
        matmul::workspace(matmul::Layout::Tn, kv, d, n),
        matmul::workspace(matmul::Layout::Tn, d, q, n),
        matmul::workspace(matmul::Layout::Tn, f, d, n),
        matmul::workspace(matmul::Layout::Tn, d, f, n),
    ];
    if let Some(vision) = &config.vision_config {
        needs.push(patch_embed::workspace(images, vision.image_size, vision.image_size, vision.patch_size, d));
    }
    if let Some(audio) = &config.audio_config {
        for layer in 0..audio.layers {
            let (frames, inputs) = if layer == 0 { (audio.frames(), audio.num_mel_bins) } else { (audio.frames_after(layer - 1), d) };
            needs.push(conv1d::workspace(clips, frames, inputs, d, audio.stride(layer)));
        }
    }
    let mut lengths = Vec::new();
    let _ = Parameters::build(config, &mut |shape| {
        lengths.push(shape.iter().product());
        Ok(())
    });
    needs.push(adamw::workspace(&lengths));
    needs.into_iter().max().unwrap_or(0)
}

/// Bytes of a training step on a device whose activations are `real`: parameters, gradients, both moments, activations, and two
/// batches (the next is uploaded while this one runs); in mixed precision (bf16) also the weights that the kernels read.
/// Allocates nothing.
pub fn bytes(config: &Config, capacity: Capacity, real: DType) -> u64 {
    let mut total = 0u64;
    let mut count = |shape: &[usize], dtype: DType| {
        total += shape.iter().product::<usize>() as u64 * dtype.size() as u64;
        Ok(())
    };
    for _ in 0..4 {
        let _ = Parameters::build(config, &mut |shape| count(shape, crate::ops::statistic(real)));
    }
    if real == DType::Bf16 {
        let _ = Parameters::build(config, &mut |shape| count(shape, real));
    }
    let _ = Activations::build(config, capacity, real, &mut count);
    let _ = Inputs::build(config, capacity, real, &mut count);
    total
}
