//! Inside a model: one forward pass of which everything is kept, then looked at from several sides.
//!
//! - [`explain`]: for each word that a model made, what it looked at, and which parts of the picture and the sound its probability depends on.
//! - [`probe`]: which words lie near each row, layer by layer, and where pictures, sounds and words lie among each other.
//!
//! There is no second model here: the rows, the log-sum-exp and the gradients are those of [`crate::model::forward`] and
//! [`crate::model::backward`], the weights come from [`attention::probabilities`].

pub mod explain;
pub mod probe;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::activations::ActivationOptions;
use crate::model::backward::{InputGradients, loss_and_backward_to_inputs};
use crate::model::batch::{Capacity, Packer, PaddedSize, Placeholders};
use crate::model::forward::{attention_scale, hidden_states, loss, rope_table};
use crate::model::linear;
use crate::model::{Activations, Batch, Config, Parameters, Sequence};
use crate::ops::{attention, embedding, rms_norm, rope};
use crate::tensor::Tensor;

/// Samples that went through a model, with everything kept that training would keep.
///
/// `N` rows in all, `L` layers, `H` heads, `V` words. A *level* is a place of the residual stream: level 0 is what enters the first
/// layer, level `i` what leaves layer `i`, counted from 1.
pub struct ForwardPass<'m> {
    config: &'m Config,
    parameters: &'m Parameters,
    table: rope::Table,
    batch: Batch,
    activations: Activations,
    /// Made when the first gradient is asked for. Those of the parameters are computed on the way and not looked at.
    gradients: Option<(Parameters, InputGradients)>,
}

/// What the log-probability of one word depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// The log-probability, in nats.
    pub log_probability: f64,
    /// `[images, H, W, 3]`: its gradient with respect to the pixels (0 to 255), of which none comes through histograms
    /// ([`crate::ops::local_histogram`]); empty where there is no picture.
    pub pixels: Vec<f64>,
    /// `[clips, frames, mels]`: its gradient with respect to the mel frames; empty where there is no sound.
    pub mel: Vec<f64>,
}

impl<'m> ForwardPass<'m> {
    /// Runs samples through a model, in the dtype (f32, or f64 on the CPU) and on the device of its parameters. `predicted`: rows, as
    /// they are numbered when the samples lie one after the other, and the word that each is asked about: see
    /// [`ForwardPass::log_probabilities`].
    ///
    /// # Errors
    /// [`Error::Usage`] for a sample that does not fit the model, or a row or word that does not exist; [`Error::OutOfMemory`].
    pub fn new(config: &'m Config, parameters: &'m Parameters, placeholders: Placeholders, samples: &[Sequence], predicted: &[(usize, u32)]) -> Result<Self> {
        let rows = samples.iter().map(|s| s.rows.len()).sum();
        let mut batch = Packer { config, budget: rows, placeholders }.pack(samples)?;
        for &(row, id) in predicted {
            if row >= rows || id as usize >= config.vocab_size {
                return Err(Error::Usage(format!("word {id} after row {row}: expected one of {} words and {rows} rows, counted from 0", config.vocab_size)));
            }
        }
        batch.logit_row = predicted.iter().map(|p| p.0 as i32).collect();
        batch.logit_target = predicted.iter().map(|p| p.1 as i32).collect();
        let (device, real) = (parameters.norm.device(), parameters.norm.dtype());
        let own = Capacity::of(&batch);
        let capacity = Capacity { logits: own.logits.max(1), chunk: own.chunk.max(1), ..own };
        let options = ActivationOptions { every_row: true, ..ActivationOptions::new(real) };
        let mut activations = Activations::build(config, capacity, options, &mut |shape, dtype| Tensor::zeros(device, shape, dtype))?;
        activations.inputs.number_rows()?;
        // The weight of a word is 1: the loss is −log p, not a mean.
        activations.inputs.load(config, &batch, PaddedSize::of(&batch), 1, false)?;
        let table = rope_table(config, device, real)?;
        hidden_states(config, parameters, &table, &mut activations)?;
        Ok(ForwardPass { config, parameters, table, batch, activations, gradients: None })
    }

    /// The samples, packed.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Levels of the residual stream: one more than layers.
    pub fn levels(&self) -> usize {
        self.activations.streams.len()
    }

    /// The log-probability of each predicted word, in nats.
    pub fn log_probabilities(&mut self) -> Result<Vec<f64>> {
        if self.batch.logit_row.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(&self.batch.logit_row.clone(), &self.batch.logit_target.clone())?;
        loss(self.parameters, &mut self.activations, 0)?;
        Ok(self.activations.row_loss.read_f64()?.into_iter().map(|loss| -loss).collect())
    }

    /// Which rows get logits next, and for which words.
    fn ask(&mut self, row: &[i32], target: &[i32]) -> Result<()> {
        let chunk = &mut self.activations.inputs.chunks[0];
        for (tensor, data) in [(&mut chunk.row, row), (&mut chunk.target, target)] {
            tensor.set_rows(data.len())?;
            tensor.write(data)?;
        }
        self.activations.loss.fill_zero()
    }

    /// `[R, H, N]`: how much of each row these rows took in, in one layer (counted from 0), per head; what a row took in sums to 1.
    ///
    /// # Errors
    /// [`Error::Usage`] for a layer or a row that does not exist; [`Error::TooLarge`], [`Error::OutOfMemory`].
    pub fn probabilities(&self, layer: usize, rows: &[usize]) -> Result<Vec<f64>> {
        let Some(kept) = self.activations.layers.get(layer) else {
            return Err(Error::Usage(format!("layer {layer}: the model has {}, counted from 0", self.activations.layers.len())));
        };
        let row = self.rows(rows)?;
        let shape = [rows.len(), self.config.num_attention_heads, self.batch.rows()];
        let mut p = Tensor::zeros(row.device(), shape, kept.log_sum_exp.dtype())?;
        let (q, k, visible) = (&kept.q_rotated, &kept.k_rotated, &self.activations.inputs.visible);
        attention::probabilities(q, k, &kept.log_sum_exp, visible, &row, attention_scale(self.config), &mut p)?;
        p.read_f64()
    }

    /// The log-probability of one word after one row, and its gradient with respect to the pixels and the mel frames.
    ///
    /// # Errors
    /// [`Error::Usage`] for a row or a word that does not exist; [`Error::OutOfMemory`].
    pub fn gradient(&mut self, row: usize, id: u32) -> Result<Gradient> {
        self.rows(&[row])?;
        if id as usize >= self.config.vocab_size {
            return Err(Error::Usage(format!("word {id}: the vocabulary has {}", self.config.vocab_size)));
        }
        self.ask(&[row as i32], &[id as i32])?;
        let (mut parameters, mut inputs) = match self.gradients.take() {
            Some(made) => made,
            None => self.room_for_gradients()?,
        };
        loss_and_backward_to_inputs(self.config, self.parameters, &self.table, &mut self.activations, &mut parameters, &mut inputs)?;
        // Of the loss, which is −log p.
        let negated = |tensor: &Option<Tensor>| tensor.as_ref().map_or(Ok(Vec::new()), |t| Ok(t.read_f64()?.into_iter().map(|g| -g).collect()));
        let (pixels, mel) = (negated(&inputs.pixels)?, negated(&inputs.mel)?);
        self.gradients = Some((parameters, inputs));
        Ok(Gradient { log_probability: -self.activations.loss.read_f64()?[0], pixels, mel })
    }

    fn room_for_gradients(&self) -> Result<(Parameters, InputGradients)> {
        let (device, real) = (self.parameters.norm.device(), self.parameters.norm.dtype());
        let like = |there: usize, tensor: &Tensor| (there > 0).then(|| Tensor::zeros(device, tensor.shape(), real)).transpose();
        let inputs =
            InputGradients { pixels: like(self.batch.images, &self.activations.inputs.pixels)?, mel: like(self.batch.clips, &self.activations.inputs.mel)? };
        Ok((Parameters::zeros(self.config, device, real)?, inputs))
    }

    /// `[R, D]`: the residual stream of these rows at one level.
    ///
    /// # Errors
    /// [`Error::Usage`] for a level or a row that does not exist.
    pub fn residual(&self, level: usize, rows: &[usize]) -> Result<Vec<f64>> {
        self.picked(level, rows)?.read_f64()
    }

    /// `[R, V]`: the logits of these rows, if `level` were the last: the final norm and the output layer on the residual stream as it is
    /// there (the logit lens: nostalgebraist 2020). At the last level they are the model's own.
    ///
    /// # Errors
    /// [`Error::Usage`] for a level or a row that does not exist; [`Error::OutOfMemory`].
    pub fn lens(&self, level: usize, rows: &[usize]) -> Result<Vec<f64>> {
        let x = self.picked(level, rows)?;
        let (device, real) = (x.device(), x.dtype());
        let mut normed = Tensor::zeros(device, x.shape(), real)?;
        let mut rstd = Tensor::zeros(device, [rows.len()], real)?;
        rms_norm::forward(&x, None, &self.parameters.norm, self.config.rms_norm_eps, &mut normed, &mut rstd)?;
        let output = self.parameters.lm_head.as_ref().unwrap_or(&self.parameters.embed_tokens);
        let mut logits = Tensor::zeros(device, [rows.len(), self.config.vocab_size], real)?;
        linear::forward(&normed, output, &mut logits)?;
        logits.read_f64()
    }

    /// Some rows of the residual stream, as a tensor of their own.
    fn picked(&self, level: usize, rows: &[usize]) -> Result<Tensor> {
        let Some(stream) = self.activations.streams.get(level) else {
            return Err(Error::Usage(format!("level {level}: the model has {}, counted from 0", self.levels())));
        };
        let row = self.rows(rows)?;
        let mut picked = Tensor::zeros(row.device(), [rows.len(), self.config.hidden_size], stream.x.dtype())?;
        embedding::forward(&stream.x, &row, None, &mut picked)?;
        Ok(picked)
    }

    /// Row numbers on the device.
    fn rows(&self, rows: &[usize]) -> Result<Tensor> {
        if let Some(row) = rows.iter().find(|&&row| row >= self.batch.rows()) {
            return Err(Error::Usage(format!("row {row}: the batch has {}, counted from 0", self.batch.rows())));
        }
        let device: &Device = self.parameters.norm.device();
        let numbers: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        Tensor::from_slice(device, [rows.len()], &numbers)
    }
}
