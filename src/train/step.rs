//! One training step, on one screen: batch → forward → loss and backward → optimiser.
//!
//! What it works in is allocated by [`super::trainer`]; the passes themselves are [`crate::model::forward`] and
//! [`crate::model::backward`]. Beside it: [`super::prefetch`] uploads the next batch meanwhile, `record` replays the launches of a step
//! where a device has recorded them (`graphs`), `freeze` leaves tensors as they are, `nonfinite` looks for the first bad number, `names`
//! tells a trace which tensor is what.

use super::graphs::GraphKind;
use super::trainer::{FlatParameters, Trainer};
use crate::error::{Error, Result};
use crate::model::backward::loss_and_backward;
use crate::model::batch::{Batch, PaddedSize};
use crate::model::forward;
use crate::observe::{self, ModelPart, Phase};
use crate::ops::adamw::{self, Hyper};

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
    /// [`Error::NonFinite`] where the loss or the gradient is not a number: the parameters are then as before the step.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let size = self.padded_size(batch);
        self.load(batch, size, batch.counted())?;
        self.launch_step(batch, size)?;
        self.finish_step(std::slice::from_ref(batch))
    }

    /// One step on several batches one after the other, in the memory of one: their gradients are added up, and each row that counts
    /// weighs the same, in whichever batch it is. The loss is the mean over the rows that count in all of them. One batch alone gives
    /// the bits of [`Trainer::step`].
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Mismatch`] for no batch at all.
    pub fn step_accumulated(&mut self, batches: &[Batch]) -> Result<StepReport> {
        if let [batch] = batches {
            return self.step(batch);
        }
        if batches.is_empty() {
            return Err(Error::mismatch("step_accumulated", "batches", "at least one", 0));
        }
        let counted = batches.iter().map(Batch::counted).sum();
        self.write_coefficients()?;
        self.zero_sums()?;
        for batch in batches {
            let size = self.padded_size(batch);
            self.load(batch, size, counted)?;
            self.replay(GraphKind::Gradients, batch, size, Self::forward_and_backward)?;
        }
        self.update()?;
        self.finish_step(batches)
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
    fn load(&mut self, batch: &Batch, size: PaddedSize, counted: usize) -> Result<()> {
        if observe::on() {
            self.name_tensors(batch);
        }
        let _scope = observe::scope(Phase::Load, ModelPart::Whole);
        self.activations.inputs.load(&self.config, batch, size, counted, false)
    }

    /// Writes what AdamW needs to know about the next step to where its launch reads it.
    fn write_coefficients(&mut self) -> Result<()> {
        let hyper = Hyper {
            lr: self.schedule.learning_rate(self.step + 1),
            beta1: self.schedule.beta1,
            beta2: self.schedule.beta2,
            eps: self.schedule.eps,
            weight_decay: self.schedule.weight_decay,
            max_norm: self.schedule.max_norm,
            step: self.step + 1,
        };
        let _scope = observe::scope(Phase::Load, ModelPart::Whole);
        self.coefficients.write_f64(&hyper.coefficients()?)
    }

    /// What batches add to becomes zero: the loss and the gradients.
    pub(super) fn zero_sums(&mut self) -> Result<()> {
        let _scope = observe::scope(Phase::Clear, ModelPart::Whole);
        self.activations.loss.fill_zero()?;
        match &mut self.flat {
            Some(flat) => flat.gradients.fill_zero(),
            None => self.gradients.fill_zero(),
        }
    }

    /// Forward on the loaded inputs, then the loss and backward, which add to the loss and the gradients on the device.
    pub(super) fn forward_and_backward(&mut self) -> Result<()> {
        let weights = self.rounded.as_ref().unwrap_or(&self.parameters);
        forward::hidden_states(&self.config, weights, &self.table, &mut self.activations)?;
        loss_and_backward(&self.config, weights, &self.table, &mut self.activations, &mut self.gradients)
    }

    /// The gradient's norm and the update, which leaves everything as it is where the loss or the norm is not a number.
    fn update(&mut self) -> Result<()> {
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
