//! Describing: the forward pass with a key/value cache, several samples at once.
//!
//! Every sample owns a stretch of the cache; `visible` intervals point into it. The prompt (picture, sound, words) goes
//! through in one pass, then one row per sample and word. It is the same operations in the same order as in training.

use super::batch::{Batch, Packer, Sequence, TokenRow};
use super::config::Config;
use super::eye::{self, StemActivations};
use super::forward::{attention_scale, rope_table};
use super::histograms::HistogramActivations;
use super::linear;
use super::parameters::Parameters;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::matmul::{self, Epilogue, Layout};
use crate::ops::{attention, conv1d, embedding, qk_norm_rope, rms_norm, rope, sample, swiglu};
use crate::tensor::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How the next word is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0: the most likely word. Otherwise logits are divided by it.
    pub temperature: f32,
    /// Only the k most likely words; 0 for all.
    pub top_k: usize,
    /// Of these only the fewest most likely words whose probabilities sum to this much; 1 for all.
    pub top_p: f32,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the one that makes no sense.
    pub fn check(&self) -> Result<()> {
        if !(0.0..f32::INFINITY).contains(&self.temperature) {
            return Err(Error::Usage(format!("temperature: expected 0 (the most likely word) or more, found {}", self.temperature)));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return Err(Error::Usage(format!("top_p: expected a probability from 0 (the most likely word) to 1 (all of them), found {}", self.top_p)));
        }
        Ok(())
    }
}

/// What the ids of the output layer mean to a tokenizer. The layer may have more rows than the tokenizer has tokens: models pad their
/// vocabulary to a round number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputIds {
    /// Ids that end a text.
    pub ends: Vec<u32>,
    /// Ids that stand for nothing: they are never chosen.
    pub absent: Vec<u32>,
}

impl OutputIds {
    /// One id that ends a text, and a token for every other.
    pub fn ending_with(end: u32) -> Self {
        OutputIds { ends: vec![end], absent: Vec::new() }
    }
}

/// What is added to the logits of ids that must not be chosen: finite, because shaders may assume that there are no infinities, and so
/// low that at no [`HOTTEST`] temperature anything is left of it.
const NEVER: f64 = -1e38;

/// At this temperature all words are equally likely, whatever the logits are; a higher one changes nothing.
const HOTTEST: f32 = 1e20;

/// Buffers for generating with up to `samples` samples at once. Allocated once, used for any number of batches.
pub struct Generator {
    config: Config,
    pub(super) device: Device,
    /// The dtype of the parameters: f32, or f64 on the CPU.
    real: DType,
    table: rope::Table,
    /// Samples at once, and rows of each.
    samples: usize,
    length: usize,
    /// `[samples · length, H_kv, d]` each: one per layer where rows come one after the other, one for all layers where all come at once.
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    pub(super) x: Tensor,
    sum: Tensor,
    normed: Tensor,
    rstd: Tensor,
    q: Tensor,
    q_rotated: Tensor,
    rstd_heads: Tensor,
    k: Tensor,
    k_rotated: Tensor,
    attended: Tensor,
    log_sum_exp: Tensor,
    delta: Tensor,
    gate: Tensor,
    up: Tensor,
    gated: Tensor,
    /// For up to as many rows as get logits at a time: `[P, D]`, `[P, V]`, `[P]`, `[P]`.
    picked: Tensor,
    pub(super) logits: Tensor,
    random: Tensor,
    pub(super) chosen: Tensor,
    /// `[V]`: [`NEVER`] at the ids that must not be chosen, else 0; with those ids. Where all may be, there is none.
    mask: Option<(Vec<u32>, Tensor)>,
}

/// The index tensors of one pass.
pub(super) struct Pass {
    position: Tensor,
    visible: Tensor,
    /// Which of its rows go where in the cache.
    cached: Tensor,
    cache_row: Tensor,
    /// The rows that get logits, where these are not all: the last layer computes only them whole (see [`super::last_rows`]).
    last: Option<LastPass>,
}

/// Of the rows that get logits: their numbers in the pass, their positions, what they see in the cache.
struct LastPass {
    row: Tensor,
    position: Tensor,
    visible: Tensor,
}

impl Generator {
    /// Allocates for `samples` samples at once, as long as the model allows, on the device of the parameters.
    pub fn new(config: &Config, p: &Parameters, samples: usize) -> Result<Self> {
        Self::sized(config, p, samples, config.max_position_embeddings)
    }

    /// As [`Generator::new`] for samples of up to `length` rows, prompt and words: a model may allow many more than are wanted.
    pub fn sized(config: &Config, p: &Parameters, samples: usize, length: usize) -> Result<Self> {
        Self::allocate(config, p, samples, length.min(config.max_position_embeddings), config.num_hidden_layers, samples)
    }

    /// Whether this many samples of this length (at most the model's) fit.
    pub fn fits(&self, samples: usize, length: usize) -> bool {
        samples <= self.samples && length.min(self.config.max_position_embeddings) <= self.length
    }

    /// For `samples` samples of `length` rows, with this many caches and logits of `picks` rows at a time.
    pub(super) fn allocate(config: &Config, p: &Parameters, samples: usize, length: usize, caches: usize, picks: usize) -> Result<Self> {
        let (device, real) = (p.norm.device().clone(), p.norm.dtype());
        let n = samples * length;
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (h, kv, hd) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let make = |shape: &[usize]| Tensor::zeros(&device, shape, real);
        let cache = || (0..caches).map(|_| make(&[n, kv, hd])).collect::<Result<Vec<_>>>();
        Ok(Generator {
            table: rope_table(config, &device, real)?,
            samples,
            length,
            keys: cache()?,
            values: cache()?,
            x: make(&[n, d])?,
            sum: make(&[n, d])?,
            normed: make(&[n, d])?,
            rstd: make(&[n])?,
            q: make(&[n, h, hd])?,
            q_rotated: make(&[n, h, hd])?,
            rstd_heads: make(&[n, h.max(kv)])?,
            k: make(&[n, kv, hd])?,
            k_rotated: make(&[n, kv, hd])?,
            attended: make(&[n, h, hd])?,
            log_sum_exp: make(&[n, h])?,
            delta: make(&[n, d])?,
            gate: make(&[n, f])?,
            up: make(&[n, f])?,
            gated: make(&[n, f])?,
            picked: make(&[picks, d])?,
            logits: make(&[picks, config.vocab_size])?,
            random: make(&[picks])?,
            chosen: Tensor::zeros(&device, [picks], DType::I32)?,
            mask: None,
            config: config.clone(),
            device,
            real,
        })
    }

    /// Continues each prompt until an id that ends it, or until the sample is as long as was allocated for, or after `most` words.
    /// `on_word(sample, id)` is told every word as it is made, and `None` when nothing more comes. Returns the ids, without the end.
    ///
    /// # Errors
    /// [`Error::Usage`] for more prompts than were allocated for, one that does not fit the model, or sampling that makes no sense.
    pub fn run(
        &mut self,
        p: &Parameters,
        packer: &Packer,
        prompts: &[Sequence],
        ids: &OutputIds,
        most: usize,
        sampling: Sampling,
        mut on_word: impl FnMut(usize, Option<u32>),
    ) -> Result<Vec<Vec<u32>>> {
        sampling.check()?;
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        if most == 0 {
            (0..prompts.len()).for_each(|sample| on_word(sample, None));
            return Ok(vec![Vec::new(); prompts.len()]);
        }
        if prompts.len() > self.samples {
            return Err(Error::Usage(format!("{} prompts at once: allocated for {}", prompts.len(), self.samples)));
        }
        // Every sample has its own random numbers, the same for all: what is said about it does not depend on its neighbours.
        let mut rng = vec![ChaCha8Rng::seed_from_u64(sampling.seed); prompts.len()];
        let mut random = |sample: usize| (rng[sample].next_u32() >> 8) as f64 / (1 << 24) as f64;
        let batch = Packer { budget: self.samples * self.length, ..*packer }.pack(prompts)?;
        let lengths: Vec<usize> = prompts.iter().map(|s| s.rows.len()).collect();
        if let Some(empty) = lengths.iter().position(|&l| l == 0) {
            return Err(Error::Usage(format!("prompt {empty} is empty")));
        }
        if let Some(long) = lengths.iter().find(|length| **length > self.length) {
            return Err(Error::Usage(format!("a prompt of {long} rows is too long: allocated for {}", self.length)));
        }
        // The first row that each sample's words see: all of it, except after a cut.
        let seen: Vec<usize> = prompts.iter().map(|s| s.cut.map_or(0, |cut| cut.from)).collect();
        let first: Vec<f64> = (0..prompts.len()).map(&mut random).collect();
        self.leave_out(&ids.absent)?;
        let OutputIds { ends, .. } = ids;
        let mut ids = self.prefill(p, &batch, &lengths, sampling, &first)?;

        let mut words: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
        let mut live: Vec<usize> = (0..prompts.len()).collect();
        loop {
            let mut next = Vec::new();
            for (&sample, &id) in live.iter().zip(&ids) {
                let length = lengths[sample] + words[sample].len();
                if !ends.contains(&id) {
                    words[sample].push(id);
                    on_word(sample, Some(id));
                }
                if !ends.contains(&id) && words[sample].len() < most && length < self.length {
                    next.push((sample, id, length));
                } else {
                    on_word(sample, None);
                }
            }
            if next.is_empty() {
                return Ok(words);
            }
            live = next.iter().map(|n| n.0).collect();
            let random: Vec<f64> = live.iter().map(|&sample| random(sample)).collect();
            ids = self.decode(p, &next, &seen, sampling, &random)?;
        }
    }

    /// Runs the prompts in one pass; returns the next word of each.
    fn prefill(&mut self, p: &Parameters, batch: &Batch, lengths: &[usize], sampling: Sampling, random: &[f64]) -> Result<Vec<u32>> {
        self.embed(p, batch)?;
        // A packed row r of sample s is at s · length + position in the cache.
        let (mut cache_row, mut visible, mut pick) = (Vec::new(), Vec::new(), Vec::new());
        let mut packed = 0;
        for (sample, &length) in lengths.iter().enumerate() {
            let shift = (sample * self.length) as i32 - packed as i32;
            for row in packed..packed + length {
                cache_row.push(row as i32 + shift);
                visible.push(batch.visible[row].map(|edge| edge + shift));
            }
            packed += length;
            pick.push(packed as i32 - 1);
        }
        let pass = self.pass(&batch.position, &visible, &cache_row, &pick)?;
        self.decoder(p, &pass)?;
        self.choose(p, sampling, random)
    }

    /// The rows of a batch into `x`: words, patches, frames.
    pub(super) fn embed(&mut self, p: &Parameters, batch: &Batch) -> Result<()> {
        self.fit(batch.rows())?;
        let ints = |data: &[i32]| Tensor::from_slice(&self.device, [data.len()], data);
        embedding::forward(&p.embed_tokens, &ints(&batch.embed_id)?, None, &mut self.x)?;
        if let (Some(w), Some(vision)) = (&p.vision, &self.config.vision_config) {
            let side = vision.image_size;
            let pixels = Tensor::from_slice(&self.device, [batch.images, side, side, 3], &batch.pixels)?;
            let mut stem = StemActivations::build(&self.config, batch.images, self.real, &mut |shape, dtype| Tensor::zeros(&self.device, shape, dtype))?;
            let mut histograms =
                HistogramActivations::build(&self.config, batch.images, self.real, &mut |shape, dtype| Tensor::zeros(&self.device, shape, dtype))?;
            let mut iota = ints(&(0..(batch.images * vision.patch_grid().pow(2)) as i32).collect::<Vec<_>>())?;
            let whole = if vision.has_whole_row() { Some(ints(&batch.whole_row)?) } else { None };
            eye::forward(
                vision,
                self.config.rms_norm_eps,
                w,
                &pixels,
                &ints(&batch.patch_row)?,
                whole.as_ref(),
                stem.as_mut(),
                histograms.as_mut(),
                &mut iota,
                &mut self.x,
            )?;
        }
        if let Some(audio) = &self.config.audio_config {
            let mut frames = Tensor::zeros(&self.device, [batch.clips, audio.frames(), audio.num_mel_bins], self.real)?;
            match self.real {
                DType::F64 => frames.write_f64(&batch.mel.iter().map(|&x| x as f64).collect::<Vec<_>>())?,
                _ => frames.write(&batch.mel)?,
            }
            for (i, w) in p.audio.iter().enumerate() {
                let shape = [batch.clips, audio.frames_after(i), self.config.hidden_size];
                let mut z = Tensor::zeros(&self.device, shape, self.real)?;
                let mut y = Tensor::zeros(&self.device, shape, self.real)?;
                conv1d::forward(&frames, &w.weight, &w.bias, audio.stride(i), &mut z, &mut y)?;
                frames = y;
            }
            let iota: Vec<i32> = (0..batch.frame_row.len() as i32).collect();
            embedding::forward(&frames, &ints(&iota)?, Some(&ints(&batch.frame_row)?), &mut self.x)?;
        }
        Ok(())
    }

    /// A row of `x` for each of these words.
    pub(super) fn words(&mut self, p: &Parameters, ids: &[i32]) -> Result<()> {
        self.fit(ids.len())?;
        embedding::forward(&p.embed_tokens, &Tensor::from_slice(&self.device, [ids.len()], ids)?, None, &mut self.x)
    }

    /// One more row for each `(sample, word, position)`, which sees its sample from row `seen[sample]` on.
    fn decode(&mut self, p: &Parameters, rows: &[(usize, u32, usize)], seen: &[usize], sampling: Sampling, random: &[f64]) -> Result<Vec<u32>> {
        self.words(p, &rows.iter().map(|r| r.1 as i32).collect::<Vec<_>>())?;
        let position: Vec<i32> = rows.iter().map(|r| r.2 as i32).collect();
        let cache_row: Vec<i32> = rows.iter().map(|r| (r.0 * self.length + r.2) as i32).collect();
        let visible: Vec<[i32; 2]> = rows.iter().map(|r| [(r.0 * self.length + seen[r.0]) as i32, (r.0 * self.length + r.2 + 1) as i32]).collect();
        let pick: Vec<i32> = (0..rows.len() as i32).collect();
        let pass = self.pass(&position, &visible, &cache_row, &pick)?;
        self.decoder(p, &pass)?;
        self.choose(p, sampling, random)
    }

    /// Of rows at these positions, which see these intervals of the cache and have their own places in it: one each or, where there are
    /// several times as many places, one each for every copy of all of them. Those in `pick`, in order, get logits.
    pub(super) fn pass(&self, position: &[i32], visible: &[[i32; 2]], cache_row: &[i32], pick: &[i32]) -> Result<Pass> {
        let ints = |data: &[i32]| Tensor::from_slice(&self.device, [data.len()], data);
        let intervals = |data: &[[i32; 2]]| Tensor::from_slice(&self.device, [data.len(), 2], data.as_flattened());
        let last = || -> Result<LastPass> {
            let picked = || pick.iter().map(|&i| i as usize);
            let (position, visible): (Vec<_>, Vec<_>) = picked().map(|i| (position[i], visible[i])).unzip();
            Ok(LastPass { row: ints(pick)?, position: ints(&position)?, visible: intervals(&visible)? })
        };
        Ok(Pass {
            position: ints(position)?,
            visible: intervals(visible)?,
            cache_row: ints(cache_row)?,
            cached: ints(&(0..cache_row.len()).map(|i| (i % position.len()) as i32).collect::<Vec<_>>())?,
            last: (pick.len() < position.len()).then(last).transpose()?,
        })
    }

    /// The decoder over the rows in `x`: afterwards `normed` holds what the output layer reads, of the rows that get logits.
    pub(super) fn decoder(&mut self, p: &Parameters, pass: &Pass) -> Result<()> {
        let eps = self.config.rms_norm_eps;
        for (i, w) in p.layers.iter().enumerate() {
            let cache = i % self.keys.len();
            // `x` and `sum` take turns as the residual stream: each norm adds what the block before it left in `delta`.
            if i == 0 {
                rms_norm::forward(&self.x, None, &w.input_layernorm, eps, &mut self.normed, &mut self.rstd)?;
            } else {
                rms_norm::forward(&self.sum, Some((&self.delta, &mut self.x)), &w.input_layernorm, eps, &mut self.normed, &mut self.rstd)?;
            }
            linear::forward(&self.normed, &w.k_proj, &mut self.k)?;
            self.heads(self.config.num_key_value_heads)?;
            qk_norm_rope::forward(&self.k, &w.k_norm, &pass.position, &self.table, eps, &mut self.k_rotated, &mut self.rstd_heads)?;
            embedding::forward(&self.k_rotated, &pass.cached, Some(&pass.cache_row), &mut self.keys[cache])?;
            linear::forward(&self.normed, &w.v_proj, &mut self.k)?;
            embedding::forward(&self.k, &pass.cached, Some(&pass.cache_row), &mut self.values[cache])?;
            let (mut position, mut visible) = (&pass.position, &pass.visible);
            if let Some(last) = pass.last.as_ref().filter(|_| i + 1 == p.layers.len()) {
                (position, visible) = (&last.position, &last.visible);
                self.keep(&last.row)?;
            }
            linear::forward(&self.normed, &w.q_proj, &mut self.q)?;
            self.heads(self.config.num_attention_heads)?;
            qk_norm_rope::forward(&self.q, &w.q_norm, position, &self.table, eps, &mut self.q_rotated, &mut self.rstd_heads)?;
            attention::forward(
                &self.q_rotated,
                &self.keys[cache],
                &self.values[cache],
                visible,
                attention_scale(&self.config),
                &mut self.attended,
                &mut self.log_sum_exp,
            )?;
            linear::forward(&self.attended, &w.o_proj, &mut self.delta)?;
            rms_norm::forward(&self.x, Some((&self.delta, &mut self.sum)), &w.post_attention_layernorm, eps, &mut self.normed, &mut self.rstd)?;
            linear::forward(&self.normed, &w.gate_proj, &mut self.gate)?;
            linear::forward(&self.normed, &w.up_proj, &mut self.up)?;
            swiglu::forward(&self.gate, &self.up, &mut self.gated)?;
            linear::forward(&self.gated, &w.down_proj, &mut self.delta)?;
        }
        rms_norm::forward(&self.sum, Some((&self.delta, &mut self.x)), &p.norm, eps, &mut self.normed, &mut self.rstd)
    }

    /// Goes on with these rows of the residual stream and of what the norm made of it; the others are not needed any more.
    fn keep(&mut self, row: &Tensor) -> Result<()> {
        // Neither `sum` nor `delta` holds anything between the norm that enters a layer and its attention.
        for (all, free) in [(&mut self.x, &mut self.sum), (&mut self.normed, &mut self.delta)] {
            free.set_rows(row.rows())?;
            embedding::forward(all, row, None, free)?;
            std::mem::swap(all, free);
        }
        self.fit(row.rows())
    }

    /// From now on, none of these ids is chosen.
    pub(super) fn leave_out(&mut self, absent: &[u32]) -> Result<()> {
        if absent.is_empty() {
            self.mask = None;
        } else if self.mask.as_ref().is_none_or(|(masked, _)| masked != absent) {
            let mut values = vec![0.0; self.config.vocab_size];
            for &id in absent {
                *values.get_mut(id as usize).ok_or_else(|| Error::Usage(format!("token {id} is beyond the vocabulary of {}", self.config.vocab_size)))? = NEVER;
            }
            let mut mask = Tensor::zeros(&self.device, [values.len()], self.real)?;
            mask.write_f64(&values)?;
            self.mask = Some((absent.to_vec(), mask));
        }
        Ok(())
    }

    /// Whether some ids must not be chosen.
    pub(super) fn leaves_out(&self) -> bool {
        self.mask.is_some()
    }

    /// The word chosen after each row that gets logits, with one random number for each.
    fn choose(&mut self, p: &Parameters, sampling: Sampling, random: &[f64]) -> Result<Vec<u32>> {
        let all: Vec<i32> = (0..self.normed.rows() as i32).collect();
        self.pick(p, &all, true)?;
        self.random.write_f64(random)?;
        self.sample(sampling)
    }

    /// The logits of these of the rows that get some, which may repeat: to choose from, or as the model has them.
    pub(super) fn pick(&mut self, p: &Parameters, rows: &[i32], to_choose: bool) -> Result<()> {
        for tensor in [&mut self.picked, &mut self.logits, &mut self.random, &mut self.chosen] {
            tensor.set_rows(rows.len())?;
        }
        let bias = self.mask.as_ref().map(|(_, mask)| mask).filter(|_| to_choose);
        let output = p.lm_head.as_ref().unwrap_or(&p.embed_tokens);
        let picked = if rows.iter().copied().eq(0..self.normed.rows() as i32) {
            &self.normed
        } else {
            embedding::forward(&self.normed, &Tensor::from_slice(&self.device, [rows.len()], rows)?, None, &mut self.picked)?;
            &self.picked
        };
        matmul::forward(Layout::Nt, picked, output, Epilogue { bias, ..Epilogue::default() }, &mut self.logits, None)
    }

    /// A word from each row of the logits.
    pub(super) fn sample(&mut self, sampling: Sampling) -> Result<Vec<u32>> {
        sample::forward(&self.logits, sampling.temperature.min(HOTTEST), sampling.top_k, sampling.top_p, &self.random, &mut self.chosen)?;
        Ok(self.chosen.read::<i32>()?.into_iter().map(|id| id as u32).collect())
    }

    /// Sizes the per-head statistics for `heads` heads of the rows in `x`.
    fn heads(&mut self, heads: usize) -> Result<()> {
        self.rstd_heads.reshape([self.x.rows(), heads])
    }

    fn fit(&mut self, rows: usize) -> Result<()> {
        for tensor in [
            &mut self.x,
            &mut self.sum,
            &mut self.normed,
            &mut self.rstd,
            &mut self.q,
            &mut self.q_rotated,
            &mut self.k,
            &mut self.k_rotated,
            &mut self.attended,
            &mut self.log_sum_exp,
            &mut self.delta,
            &mut self.gate,
            &mut self.up,
            &mut self.gated,
        ] {
            tensor.set_rows(rows)?;
        }
        Ok(())
    }
}

/// The part of a sequence that is given: everything before the first learned row.
pub fn prompt_of(sequence: &Sequence) -> Sequence {
    let given = sequence.rows.iter().position(|r| matches!(r, TokenRow::Token { learned: true, .. })).unwrap_or(sequence.rows.len());
    Sequence { rows: sequence.rows[..given].to_vec(), ..sequence.clone() }
}
