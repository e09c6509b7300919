//! Scoring: how likely a model finds the words that are there (teacher forcing), by the forward pass of [`super::generate`].
//!
//! No gradients, nothing kept for a backward pass, one layer's keys and values at a time: a small part of a training step's memory.

use super::batch::Batch;
use super::config::Config;
use super::generate::{Generator, OutputIds, Sampling};
use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::ops::cross_entropy;
use crate::tensor::{DType, Tensor};

/// Elements of the logits that exist at a time: 64 MiB in f32.
const LOGITS: usize = 1 << 24;

/// Rows whose logits exist at a time, of up to `rows`.
pub(super) fn picks(config: &Config, rows: usize) -> usize {
    rows.min((LOGITS / config.vocab_size.max(1)).max(128)).max(1)
}

/// The losses of words after rows of a pass, and the buffers that this takes.
pub(super) struct WordLosses {
    target: Tensor,
    row_loss: Tensor,
    log_sum_exp: Tensor,
    loss: Tensor,
    weight: Tensor,
}

impl WordLosses {
    /// For up to `picks` words at a time, on the device and in the dtype of the parameters.
    pub(super) fn new(p: &Parameters, picks: usize) -> Result<Self> {
        let (device, real) = (p.norm.device(), p.norm.dtype());
        let make = |n: usize, dtype| Tensor::zeros(device, [n], dtype);
        let mut weight = make(1, real)?;
        weight.write_f64(&[1.0])?;
        Ok(WordLosses { target: make(picks, DType::I32)?, row_loss: make(picks, real)?, log_sum_exp: make(picks, real)?, loss: make(1, real)?, weight })
    }

    /// Words at a time.
    pub(super) fn capacity(&self) -> usize {
        self.target.capacity()
    }

    /// The cross-entropy of each of these words after one of the rows of a pass that get logits.
    pub(super) fn run(&mut self, p: &Parameters, passes: &mut Generator, row: &[i32], target: &[i32]) -> Result<Vec<f64>> {
        for tensor in [&mut self.target, &mut self.row_loss, &mut self.log_sum_exp] {
            tensor.set_rows(target.len())?;
        }
        self.target.write(target)?;
        passes.pick(p, row, false)?;
        let WordLosses { target, row_loss, log_sum_exp, loss, weight } = self;
        cross_entropy::forward(&passes.logits, target, weight, row_loss, log_sum_exp, loss, false)?;
        self.row_loss.read_f64()
    }
}

/// How a model predicted one word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The cross-entropy of the true word, in nats.
    pub loss: f64,
    /// The true word.
    pub truth: u32,
    /// The word that the model found most likely, among those that the tokenizer has.
    pub best: u32,
}

/// Buffers for scoring batches of up to `rows` rows. Allocated once, used for any number of batches.
pub struct Scorer {
    passes: Generator,
    rows: usize,
    losses: WordLosses,
}

impl Scorer {
    /// Allocates for batches of up to `rows` rows, on the device and in the dtype of the parameters (f32, or f64 on the CPU). Ids that
    /// are `absent` are never the most likely; the loss is over all of the output layer, as in training.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the device has no room for it.
    pub fn new(config: &Config, p: &Parameters, rows: usize, ids: &OutputIds) -> Result<Self> {
        let picks = picks(config, rows);
        let mut passes = Generator::allocate(config, p, 1, rows, 1, picks)?;
        passes.leave_out(&ids.absent)?;
        Ok(Scorer { passes, rows, losses: WordLosses::new(p, picks)? })
    }

    /// The predictions of a batch, in the order of its rows: one for each row whose target counts.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more rows than were allocated.
    pub fn run(&mut self, p: &Parameters, batch: &Batch) -> Result<Vec<Prediction>> {
        if batch.rows() > self.rows {
            return Err(Error::TooLarge { what: "rows of a batch to score".into(), size: batch.rows() as u128, limit: self.rows as u128 });
        }
        let (row, target): (Vec<i32>, Vec<i32>) = (0..).zip(&batch.target).filter(|(_, target)| **target >= 0).unzip();
        if row.is_empty() {
            return Ok(Vec::new());
        }
        let iota: Vec<i32> = (0..batch.rows() as i32).collect();
        self.passes.embed(p, batch)?;
        let pass = self.passes.pass(&batch.position, &batch.visible, &iota, &row)?;
        self.passes.decoder(p, &pass)?;
        let mut predictions = Vec::with_capacity(row.len());
        let picks = self.losses.capacity();
        for (row, target) in iota[..row.len()].chunks(picks).zip(target.chunks(picks)) {
            let losses = self.losses.run(p, &mut self.passes, row, target)?;
            if self.passes.leaves_out() {
                self.passes.pick(p, row, true)?;
            }
            let best = self.passes.sample(Sampling::default())?;
            let each = target.iter().zip(best).zip(losses);
            predictions.extend(each.map(|((&truth, best), loss)| Prediction { loss, truth: truth as u32, best }));
        }
        Ok(predictions)
    }
}
