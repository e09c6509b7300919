//! One training step, on one screen: batch → forward → loss and backward → optimiser.
//!
//! What it works in is allocated by [`super::trainer`]. Beside it: [`super::prefetch`] uploads the next batch meanwhile, `record` replays
//! launches, `accumulate` adds up batches, `freeze` leaves tensors as they are, `nonfinite` looks for the first bad number.

use super::graphs::GraphKind;
use super::trainer::{FlatParameters, Trainer};
use crate::error::Result;
use crate::model::backward::loss_and_backward;
use crate::model::batch::{Batch, PaddedSize};
use crate::model::forward;
use crate::observe::{self, ModelPart, Phase};
use crate::ops::adamw;

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Mean cross-entropy over the counted rows, in nats.
    pub loss: f32,
    /// The gradient's norm before clipping.
    pub gradient_norm: f32,
    /// The learning rate.
    pub learning_rate: f64,
}

impl Trainer {
    /// One step.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] where the loss or the gradient is not a number: the parameters are then as before the step.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let size = self.padded_size(batch);
        self.load(batch, size, batch.counted())?;
        self.launch_step(batch, size)?;
        self.finish_step(std::slice::from_ref(batch))
    }

    /// The whole step on the loaded inputs, without waiting for it.
    pub(super) fn launch_step(&mut self, batch: &Batch, size: PaddedSize) -> Result<()> {
        self.write_coefficients()?;
        self.replay(GraphKind::Step, batch, size, |trainer| {
            trainer.zero_sums()?;
            trainer.forward_and_backward()?;
            trainer.update()
        })
    }

    /// Uploads a batch.
    pub(super) fn load(&mut self, batch: &Batch, size: PaddedSize, counted: usize) -> Result<()> {
        if observe::on() {
            self.name_tensors(batch);
        }
        let _scope = observe::scope(Phase::Load, ModelPart::Whole);
        self.activations.inputs.load(&self.config, batch, size, counted, false)
    }

    /// Writes what AdamW needs to know about the next step to where its launch reads it.
    pub(super) fn write_coefficients(&mut self) -> Result<()> {
        let _scope = observe::scope(Phase::Load, ModelPart::Whole);
        self.coefficients.write_f64(&self.schedule.hyper(self.step + 1).coefficients()?)
    }

    /// Forward on the loaded inputs, then the loss and backward, which add to the loss and the gradients on the device.
    pub(super) fn forward_and_backward(&mut self) -> Result<()> {
        let weights = self.rounded.as_ref().unwrap_or(&self.parameters);
        forward::hidden_states(&self.config, weights, &self.table, &mut self.activations)?;
        loss_and_backward(&self.config, weights, &self.table, &mut self.activations, &mut self.gradients)
    }

    /// The gradient's norm and the update, which leaves everything as it is where the loss or the norm is not a number.
    pub(super) fn update(&mut self) -> Result<()> {
        let _scope = observe::scope(Phase::Update, ModelPart::Whole);
        match &mut self.flat {
            Some(FlatParameters { parameters, gradients, moments: [first, second], rounded, decayed }) if self.frozen.is_empty() => {
                adamw::global_norm(&[&*gradients], &mut self.norm, &mut self.activations.workspace)?;
                let (coefficients, norm, loss) = (&self.coefficients, &self.norm, Some(&self.activations.loss));
                adamw::update(parameters, gradients, first, second, coefficients, *decayed, norm, loss, rounded.as_mut())
            }
            _ => self.update_each(),
        }
    }

    /// Waits for the step and says what it came to.
    pub(super) fn finish_step(&mut self, batches: &[Batch]) -> Result<StepReport> {
        let _scope = observe::scope(Phase::Report, ModelPart::Whole);
        let loss = self.activations.loss.read_f64()?[0] as f32;
        let gradient_norm = self.norm.read_f64()?[0] as f32;
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(self.not_finite(batches, if loss.is_finite() { "the gradient's norm" } else { "the loss" }));
        }
        self.step += 1;
        Ok(StepReport { loss, gradient_norm, learning_rate: self.schedule.learning_rate(self.step) })
    }
}
