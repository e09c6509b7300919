//! One training step, on one screen: batch → forward → loss → backward → optimiser.

use super::schedule::Schedule;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::activations::{Activations, bytes};
use crate::model::batch::{Batch, Capacity};
use crate::model::{Config, Parameters, backward, forward};
use crate::ops::adamw::{self, Hyper};
use crate::ops::rope;
use crate::tensor::{DType, Tensor};

/// A model in training: parameters, gradients, moments and everything that a step needs, allocated once.
pub struct Trainer {
    /// The model's config.
    pub config: Config,
    /// The parameters.
    pub parameters: Parameters,
    /// Their gradients.
    pub gradients: Parameters,
    /// AdamW's first and second moments.
    pub moments: [Parameters; 2],
    /// Steps taken.
    pub step: usize,
    /// Learning rate over time, and AdamW's constants.
    pub schedule: Schedule,
    activations: Activations,
    activations_bytes: u64,
    table: rope::Table,
    norm: Tensor,
}

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Mean cross-entropy over the counted rows, in nats.
    pub loss: f32,
    /// The gradient's norm before clipping.
    pub gradient_norm: f32,
    /// The learning rate.
    pub learning_rate: f64,
}

impl Trainer {
    /// Allocates everything for batches up to `capacity`.
    pub fn new(config: &Config, parameters: Parameters, schedule: Schedule, capacity: Capacity) -> Result<Self> {
        let (device, dtype) = (parameters.norm.device().clone(), parameters.norm.dtype());
        let zeros = || Parameters::zeros(config, &device, dtype);
        let mut activations_bytes = 0;
        let mut activations = Activations::build(config, capacity, dtype, &mut |shape, dtype| {
            let tensor = Tensor::zeros(&device, shape, dtype)?;
            activations_bytes += tensor.bytes();
            Ok(tensor)
        })?;
        activations.inputs.number_rows()?;
        Ok(Trainer {
            gradients: zeros()?,
            moments: [zeros()?, zeros()?],
            activations,
            activations_bytes,
            table: forward::rope_table(config, &device, dtype)?,
            norm: Tensor::zeros(&device, [1], dtype)?,
            config: config.clone(),
            parameters,
            schedule,
            step: 0,
        })
    }

    /// Bytes that [`Trainer::new`] allocates.
    pub fn bytes(config: &Config, capacity: Capacity, dtype: DType) -> u64 {
        bytes(config, capacity, dtype)
    }

    /// Bytes of every tensor that this trainer holds.
    pub fn allocated_bytes(&self) -> u64 {
        let parameters = [&self.parameters, &self.gradients, &self.moments[0], &self.moments[1]];
        let parameters: u64 = parameters.iter().flat_map(|p| p.each()).map(Tensor::bytes).sum();
        parameters + self.activations_bytes + self.table.tensor().bytes() + self.norm.bytes()
    }

    /// One step.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where the loss or the gradient is not a number: the parameters are then as before the step.
    pub fn step(&mut self, batch: &Batch) -> Result<Report> {
        let loss = self.loss_and_gradients(batch)?;
        let gradient_norm = self.gradient_norm()?;
        if !loss.is_finite() || !gradient_norm.is_finite() {
            let what = if loss.is_finite() { self.first_bad_gradient()? } else { "the loss".into() };
            return Err(Error::NonFinite { step: self.step + 1, what });
        }
        self.step += 1;
        let learning_rate = self.schedule.learning_rate(self.step);
        let [first, second] = &mut self.moments;
        let moments = first.each_mut().into_iter().zip(second.each_mut());
        for ((p, g), (m, v)) in self.parameters.each_mut().into_iter().zip(self.gradients.each()).zip(moments) {
            let weight_decay = if p.shape().dims().len() >= 2 { self.schedule.weight_decay } else { 0.0 };
            let hyper = Hyper {
                lr: learning_rate,
                beta1: self.schedule.beta1,
                beta2: self.schedule.beta2,
                eps: self.schedule.eps,
                weight_decay,
                max_norm: self.schedule.max_norm,
                step: self.step,
            };
            adamw::update(p, g, m, v, &self.norm, &hyper, None)?;
        }
        Ok(Report { loss, gradient_norm, learning_rate })
    }

    /// The loss of a batch and its gradients, without an update.
    pub fn loss_and_gradients(&mut self, batch: &Batch) -> Result<f32> {
        let a = &mut self.activations;
        a.inputs.load(&self.config, batch)?;
        self.gradients.fill_zero()?;
        forward::forward(&self.config, &self.parameters, &self.table, a)?;
        backward::backward(&self.config, &self.parameters, &self.table, a, &mut self.gradients)?;
        Ok(a.loss.read_f64()?[0] as f32)
    }

    /// The norm of all gradients together.
    fn gradient_norm(&mut self) -> Result<f32> {
        adamw::global_norm(&self.gradients.each(), &mut self.norm, &mut self.activations.workspace)?;
        Ok(self.norm.read_f64()?[0] as f32)
    }

    /// The forward pass alone; the activations can then be read.
    pub fn forward(&mut self, batch: &Batch) -> Result<&Activations> {
        self.activations.inputs.load(&self.config, batch)?;
        forward::forward(&self.config, &self.parameters, &self.table, &mut self.activations)?;
        Ok(&self.activations)
    }

    fn first_bad_gradient(&self) -> Result<String> {
        for (name, gradient) in self.gradients.named() {
            if gradient.read_f64()?.iter().any(|g| !g.is_finite()) {
                return Ok(format!("the gradient of {name}"));
            }
        }
        Ok("the gradient's norm".into())
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.parameters.norm.device()
    }
}
