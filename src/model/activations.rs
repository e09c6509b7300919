//! Everything that a training step needs in memory, allocated once.

pub use super::activation_options::ActivationOptions;
use super::batch::Capacity;
use super::config::Config;
use super::eye::{self, StemActivations};
use super::histograms::{HistogramActivations, ROWS};
use super::inputs::Inputs;
use super::last_rows;
use super::parameters::Parameters;
use super::told::ToldActivations;
use crate::error::Result;
use crate::observe::{self, GRADIENT};
use crate::ops::{adamw, conv1d, matmul, qk_norm_rope, rms_norm};
use crate::tensor::{DType, MAX_ELEMENTS, Tensor};

/// The residual stream before a layer (or after the last), and what the norm there makes of it. Always kept: a norm that was fused
/// with the sum before it read that sum before it was rounded, so that it cannot be computed again from `x` to the bit. After the last
/// layer it has only that layer's `M` rows.
pub struct Stream<T = Tensor> {
    /// `[N, D]`
    pub(crate) x: T,
    /// `[N]`
    pub(crate) rstd: T,
    /// `[N, D]`
    pub(crate) normed: T,
}

/// What the backward pass of one decoder layer needs beside what enters it. `N` rows, `H` query and `H_kv` key/value heads of width
/// `d`. In the last layer all but keys and values have the `M` rows of [`super::last_rows`].
pub struct LayerActivations<T = Tensor> {
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
    /// Where the model has a convolutional stem for pictures.
    pub(crate) stem: Option<StemActivations<T>>,
    /// Where it counts what a picture shows.
    pub(crate) histograms: Option<HistogramActivations<T>>,
    /// Where training has losses beside the captions'.
    pub(crate) told: Option<ToldActivations<T>>,
    pub(crate) convolutions: Vec<ConvolutionActivations<T>>,
    /// What enters each layer, then what leaves the last.
    pub(crate) streams: Vec<Stream<T>>,
    /// `[M, D]`: the last layer's rows of what enters it: of the residual stream, and normalised.
    pub(crate) last_x: T,
    pub(crate) last_normed: T,
    /// One for each layer; where activations are computed again, one for all.
    pub(crate) layers: Vec<LayerActivations<T>>,
    /// `[N, D]`: what a block adds to the residual stream.
    pub(crate) delta: T,
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
    /// `[M, D]`: of what the last layer's rows were, on its way into all `N`.
    pub(crate) dlast: T,
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
    pub(crate) workspace: T,
}

impl<T> Activations<T> {
    /// Builds the listing: `make(shape, dtype)` once per tensor. Activations and their gradients have the dtype of the options;
    /// statistics, the loss and sums stay f32 where that is bf16.
    pub fn build(config: &Config, capacity: Capacity, options: ActivationOptions, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let real = options.activation;
        let inputs = Inputs::build(config, capacity, options, make)?;
        let m = last_rows::most(capacity, options.every_row);
        let wide = crate::ops::statistic(real);
        let Capacity { rows: n, chunk: c, clips, images, .. } = capacity;
        let stem = StemActivations::build(config, images, real, make)?;
        let histograms = HistogramActivations::build(config, images, real, make)?;
        let told = ToldActivations::build(config, capacity, options, make)?;
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
        let last = config.num_hidden_layers;
        let streams = (0..=last)
            .map(|i| if i == last { m } else { n })
            .map(|n| Ok(Stream { x: make(&[n, d], real)?, rstd: make(&[n], wide)?, normed: make(&[n, d], real)? }))
            .collect::<Result<_>>()?;
        let layers = (0..if options.recompute { 1 } else { last })
            .map(|i| if i + 1 == last { m } else { n })
            .map(|m| {
                Ok(LayerActivations {
                    q: make(&[m, h, hd], real)?,
                    k: make(&[n, kv, hd], real)?,
                    v: make(&[n, kv, hd], real)?,
                    rstd_q: make(&[m, h], wide)?,
                    rstd_k: make(&[n, kv], wide)?,
                    q_rotated: make(&[m, h, hd], real)?,
                    k_rotated: make(&[n, kv, hd], real)?,
                    attended: make(&[m, h, hd], real)?,
                    log_sum_exp: make(&[m, h], wide)?,
                    middle: make(&[m, d], real)?,
                    rstd_mlp: make(&[m], wide)?,
                    normed_mlp: make(&[m, d], real)?,
                    gate: make(&[m, f], real)?,
                    up: make(&[m, f], real)?,
                    gated: make(&[m, f], real)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Activations {
            inputs,
            stem,
            histograms,
            told,
            convolutions,
            streams,
            last_x: make(&[m, d], real)?,
            last_normed: make(&[m, d], real)?,
            layers,
            delta: make(&[n, d], real)?,
            picked: make(&[c, d], real)?,
            logits: make(&[c, v], real)?,
            row_loss: make(&[c], wide)?,
            logit_lse: make(&[c], wide)?,
            loss: make(&[1], wide)?,
            dpicked: make(&[c, d], real)?,
            dlast: make(&[m, d], real)?,
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
            workspace: make(&[workspace(config, capacity)], wide)?,
        })
    }
}

impl<T> LayerActivations<T> {
    /// What has a row for every key: the others have one for every query, which in the last layer are fewer.
    pub(crate) fn by_key(&self) -> [&T; 4] {
        [&self.k, &self.v, &self.rstd_k, &self.k_rotated]
    }

    /// Every tensor in the order of the computation, with what it is in a message: `the queries` of a layer.
    pub(crate) fn named(&self) -> [(&'static str, &T); 15] {
        [
            ("the queries", &self.q),
            ("the keys", &self.k),
            ("the values", &self.v),
            ("1/rms of the queries", &self.rstd_q),
            ("1/rms of the keys", &self.rstd_k),
            ("the rotated queries", &self.q_rotated),
            ("the rotated keys", &self.k_rotated),
            ("the log-sum-exp of the attention", &self.log_sum_exp),
            ("the result of the attention", &self.attended),
            ("the residual stream after the attention", &self.middle),
            ("1/rms before the MLP", &self.rstd_mlp),
            ("the normalised input of the MLP", &self.normed_mlp),
            ("the gate", &self.gate),
            ("the up projection", &self.up),
            ("the SwiGLU", &self.gated),
        ]
    }
}

impl<T> Activations<T> {
    /// Which of `layers` holds what layer `i` computed last.
    pub(crate) fn slot(&self, i: usize) -> usize {
        i.min(self.layers.len() - 1)
    }

    /// Whether layer `i` is the last.
    pub(crate) fn is_last(&self, i: usize) -> bool {
        i + 2 == self.streams.len()
    }
}

impl Activations {
    /// `[N, D]`: the token matrix of the last forward pass.
    pub fn embedded(&self) -> &Tensor {
        &self.streams[0].x
    }

    /// `[C, V]`: the logits of the last chunk of the last forward pass (all `[M, V]` where the capacity holds them in one); after a
    /// backward pass, their gradient.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// `[C]`: the loss of each row of the last chunk, unweighted; 0 for a row that does not count.
    pub fn row_losses(&self) -> &Tensor {
        &self.row_loss
    }

    /// `[N, D]`: the gradient of the token matrix of the last backward pass.
    pub fn embedded_gradient(&self) -> &Tensor {
        &self.dx
    }

    /// `[1]`: the loss of the last forward pass.
    pub fn loss(&self) -> &Tensor {
        &self.loss
    }

    /// `[1]`: the word-bag loss of the last backward pass, as it weighs in training; `None` where training has none. See
    /// [`super::word_bag`].
    pub fn word_bag_loss(&self) -> Option<&Tensor> {
        self.told.as_ref()?.bag.as_ref().map(|bag| &bag.loss)
    }

    /// `[1]`: the contrastive loss of the last backward pass, as it weighs in training; `None` where training has none. See [`super::contrast`].
    pub fn contrastive_loss(&self) -> Option<&Tensor> {
        self.told.as_ref()?.contrast.as_ref().map(|contrast| &contrast.loss)
    }

    /// Tells a trace which tensor is what.
    pub(crate) fn name_for_trace(&self) {
        let tell = |tensor: &Tensor, name: String| observe::name(tensor.id(), || name);
        self.inputs.each_named().into_iter().for_each(|(name, tensor)| tell(tensor, name.to_string()));
        if let Some(stem) = &self.stem {
            stem.named().into_iter().for_each(|(name, tensor)| tell(tensor, name));
            stem.named_gradients().into_iter().for_each(|(name, tensor)| tell(tensor, format!("{GRADIENT}{name}")));
        }
        if let Some(histograms) = &self.histograms {
            histograms.named().into_iter().for_each(|(name, tensor)| tell(tensor, name.to_string()));
            tell(&histograms.drows, format!("{GRADIENT}{ROWS}"));
        }
        if let Some(told) = &self.told {
            told.named().into_iter().for_each(|(name, tensor)| tell(tensor, name.to_string()));
            told.named_gradients().into_iter().for_each(|(name, tensor)| tell(tensor, format!("{GRADIENT}{name}")));
        }
        for (i, c) in self.convolutions.iter().enumerate() {
            let n = i + 1;
            let names = [(&c.z, format!("convolution {n}")), (&c.y, format!("convolution {n} after its GELU"))];
            let gradients = [(&c.dz, format!("{GRADIENT}convolution {n}")), (&c.dy, format!("{GRADIENT}convolution {n} after its GELU"))];
            names.into_iter().chain(gradients).for_each(|(tensor, name)| tell(tensor, name));
        }
        let last = self.streams.len() - 1;
        for (i, s) in self.streams.iter().enumerate() {
            let place = if i < last { format!("before layer {i}") } else { "after the last layer".to_string() };
            tell(&s.x, if i == 0 { "the token matrix".into() } else { format!("the residual stream {place}") });
            tell(&s.rstd, format!("1/rms {place}"));
            tell(&s.normed, format!("the norm {place}"));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let of = if self.layers.len() < last { "a layer".to_string() } else { format!("layer {i}") };
            layer.named().into_iter().for_each(|(name, tensor)| tell(tensor, format!("{name} of {of}")));
        }
        let rest = [
            (&self.last_x, "the residual stream before the last layer, its rows"),
            (&self.last_normed, "the norm before the last layer, its rows"),
            (&self.delta, "what a block adds to the residual stream"),
            (&self.picked, "the rows that get logits"),
            (&self.logits, "the logits"),
            (&self.row_loss, "the loss of each row"),
            (&self.logit_lse, "the log-sum-exp of the logits"),
            (&self.loss, "the loss"),
            (&self.attention_delta, "the attention's delta"),
            (&self.workspace, "the workspace"),
        ];
        let gradients = [
            (&self.dpicked, "the rows that get logits"),
            (&self.dlast, "the last layer's rows"),
            (&self.dx, "the residual stream"),
            (&self.dmiddle, "the residual stream after the attention"),
            (&self.dnormed, "a norm's result"),
            (&self.dgate, "the gate"),
            (&self.dup, "the up projection"),
            (&self.dgated, "the SwiGLU"),
            (&self.dattended, "the result of the attention"),
            (&self.dq, "the queries"),
            (&self.dk, "the keys"),
            (&self.dv, "the values"),
        ];
        rest.into_iter().for_each(|(tensor, name)| tell(tensor, name.to_string()));
        gradients.into_iter().for_each(|(tensor, name)| tell(tensor, format!("{GRADIENT}{name}")));
    }

    /// Uses as many rows as the loaded batch has of everything that has the same in all layers.
    pub(crate) fn fit(&mut self) -> Result<()> {
        let (n, m, clips) = (self.inputs.embed_id.rows(), self.inputs.last.row.rows(), self.inputs.mel.rows());
        for c in &mut self.convolutions {
            for tensor in [&mut c.z, &mut c.y, &mut c.dz, &mut c.dy] {
                tensor.set_rows(clips)?;
            }
        }
        let last = self.streams.len() - 1;
        for (i, s) in self.streams.iter_mut().enumerate() {
            for tensor in [&mut s.x, &mut s.rstd, &mut s.normed] {
                tensor.set_rows(if i == last { m } else { n })?;
            }
        }
        [&mut self.last_x, &mut self.last_normed, &mut self.dlast].into_iter().try_for_each(|tensor| tensor.set_rows(m))
    }

    /// Uses as many rows as layer `i` computes of what it keeps and of what the layers share.
    pub(crate) fn fit_layer(&mut self, i: usize) -> Result<()> {
        let (slot, n) = (self.slot(i), self.inputs.embed_id.rows());
        let m = if self.is_last(i) { self.inputs.last.row.rows() } else { n };
        let l = &mut self.layers[slot];
        for tensor in [&mut l.k, &mut l.v, &mut l.rstd_k, &mut l.k_rotated, &mut self.dk, &mut self.dv] {
            tensor.set_rows(n)?;
        }
        let by_query = [
            &mut l.q,
            &mut l.rstd_q,
            &mut l.q_rotated,
            &mut l.attended,
            &mut l.log_sum_exp,
            &mut l.middle,
            &mut l.rstd_mlp,
            &mut l.normed_mlp,
            &mut l.gate,
            &mut l.up,
            &mut l.gated,
            &mut self.delta,
            &mut self.dx,
            &mut self.dmiddle,
            &mut self.dnormed,
            &mut self.dgate,
            &mut self.dup,
            &mut self.dgated,
            &mut self.dattended,
            &mut self.attention_delta,
            &mut self.dq,
        ];
        by_query.into_iter().try_for_each(|tensor| tensor.set_rows(m))
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
        qk_norm_rope::workspace(n, config.num_attention_heads, config.head_dim),
        matmul::workspace(matmul::Layout::Tn, v, d, chunk),
        matmul::workspace(matmul::Layout::Tn, v, d, if capacity.told > 0 { capacity.logits } else { 0 }),
        matmul::workspace(matmul::Layout::Tn, v, d, capacity.told),
        rms_norm::workspace(capacity.told, d),
        matmul::workspace(matmul::Layout::Tn, q, d, n),
        matmul::workspace(matmul::Layout::Tn, kv, d, n),
        matmul::workspace(matmul::Layout::Tn, d, q, n),
        matmul::workspace(matmul::Layout::Tn, f, d, n),
        matmul::workspace(matmul::Layout::Tn, d, f, n),
    ];
    if let Some(vision) = &config.vision_config {
        needs.push(eye::workspace(config, vision, images));
    }
    if let Some(audio) = &config.audio_config {
        for layer in 0..audio.layers {
            let (frames, inputs) = if layer == 0 { (audio.frames(), audio.num_mel_bins) } else { (audio.frames_after(layer - 1), d) };
            needs.push(conv1d::workspace(clips, frames, inputs, d, audio.stride(layer)));
        }
    }
    let mut lengths = Vec::new();
    let _ = Parameters::build(config, &mut |shape| {
        lengths.push(shape.iter().product()); // below 2⁴⁸: the config was validated
        Ok(())
    });
    needs.push(adamw::workspace(&lengths));
    needs.into_iter().max().unwrap_or(0)
}

/// Bytes of a training step: parameters, gradients, both moments, activations, two batches (the next is uploaded while this one
/// runs), the rotary table and two tensors of a few numbers; in mixed precision (bf16) also the weights that the kernels read.
/// Exactly what [`crate::train::Trainer`] allocates, except for what a device rounds each tensor up to; `u64::MAX` where it is more than
/// that. Allocates nothing.
pub fn bytes(config: &Config, capacity: Capacity, options: ActivationOptions) -> u64 {
    let Capacity { rows, logits, chunk, images, clips, told } = capacity;
    if [rows, logits, chunk, images, clips, told].into_iter().any(|size| size > MAX_ELEMENTS) {
        return u64::MAX; // no tensor has so many rows
    }
    let (real, wide) = (options.activation, crate::ops::statistic(options.activation));
    let mut total = 0u64;
    let mut count = |shape: &[usize], dtype: DType| {
        let bytes = shape.iter().map(|&size| size as u128).fold(dtype.size() as u128, u128::saturating_mul);
        total = total.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        Ok(())
    };
    let copies: &[DType] = if real == DType::Bf16 { &[wide, wide, wide, wide, real] } else { &[wide; 4] };
    let _ = Parameters::build(config, &mut |shape| copies.iter().try_for_each(|&dtype| count(shape, dtype)));
    let _ = Activations::build(config, capacity, options, &mut count);
    let _ = Inputs::build(config, capacity, options, &mut count);
    let small: [&[usize]; 3] = [&[config.max_position_embeddings, config.head_dim / 2, 2], &[1], &[adamw::COEFFICIENTS]];
    let _: Result<()> = small.into_iter().try_for_each(|shape| count(shape, wide));
    total
}
