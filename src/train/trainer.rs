//! A model in training, with everything that a step needs, allocated once.
//!
//! In mixed precision (Micikevicius et al. 2018, arXiv 1710.03740, with bf16, whose range needs no loss scaling) activations
//! and the weights that the kernels read are bf16; the parameters themselves, their gradients, the moments, statistics and sums
//! stay f32, and AdamW writes both the parameters and their rounded copy.

use super::graphs::Graphs;
use super::schedule::Schedule;
use crate::device::Device;
use crate::error::{Error, Result};
pub use crate::model::activations::ActivationOptions;
use crate::model::activations::{Activations, bytes};
use crate::model::batch::{Batch, Capacity, PaddedSize};
use crate::model::contrast;
use crate::model::inputs::Inputs;
use crate::model::parameters::FlatLayout;
use crate::model::{Config, Parameters, forward};
use crate::observe::{self, ModelPart, Phase};
use crate::ops::adamw;
use crate::ops::rope;
use crate::tensor::{DType, MAX_ELEMENTS, Tensor};

/// A model in training: parameters, gradients, moments and everything that a step needs, allocated once. Values may be written into
/// its tensors, but the tensors stay: a recorded step knows them by their addresses.
pub struct Trainer {
    /// The model's config.
    pub config: Config,
    /// The parameters.
    pub parameters: Parameters,
    /// In mixed precision: the parameters rounded to bf16, which the forward and the backward pass read.
    pub(super) rounded: Option<Parameters>,
    /// Their gradients.
    pub gradients: Parameters,
    /// AdamW's first and second moments.
    pub moments: [Parameters; 2],
    /// Steps taken.
    pub step: usize,
    /// Learning rate over time, and AdamW's constants.
    pub schedule: Schedule,
    /// Where the device has it: all tensors of a kind as one, for clearing, the norm and the update.
    pub(super) flat: Option<FlatParameters>,
    /// Which tensors are not updated, in the order of [`Parameters::named`]; empty for none. See [`Trainer::freeze`].
    pub(super) frozen: Vec<bool>,
    pub(super) activations: Activations,
    pub(super) capacity: Capacity,
    /// The next batch's inputs, uploaded while this one runs.
    pub(super) next_inputs: Inputs,
    pub(super) activations_bytes: u64,
    pub(super) table: rope::Table,
    pub(super) norm: Tensor,
    /// AdamW's coefficients of this step.
    pub(super) coefficients: Tensor,
    /// Where the device has them: the launches of a step, recorded.
    pub(super) graphs: Option<Graphs>,
}

/// All parameters as one tensor, and so their gradients and moments: one launch clears, sums or updates all of them. The tensors of
/// [`Parameters`] are its parts.
pub(super) struct FlatParameters {
    pub parameters: Tensor,
    pub gradients: Tensor,
    pub moments: [Tensor; 2],
    pub rounded: Option<Tensor>,
    /// Elements that decay.
    pub decayed: usize,
}

impl Trainer {
    /// Allocates everything for batches up to `capacity`, in the parameters' precision.
    ///
    /// # Errors
    /// As [`Trainer::with_options`].
    pub fn new(config: &Config, parameters: Parameters, schedule: Schedule, capacity: Capacity) -> Result<Self> {
        let options = ActivationOptions::new(parameters.norm.dtype());
        Self::with_options(options, config, parameters, schedule, capacity)
    }

    /// As [`Trainer::new`], in mixed precision or with activations that are computed again.
    ///
    /// # Errors
    /// [`Error::Device`] where the device has no bf16, [`Error::OutOfMemory`] where its memory does not suffice.
    pub fn with_options(options: ActivationOptions, config: &Config, parameters: Parameters, schedule: Schedule, capacity: Capacity) -> Result<Self> {
        let (device, dtype, activation) = (parameters.norm.device().clone(), parameters.norm.dtype(), options.activation);
        if activation != dtype && !(activation == DType::Bf16 && dtype == DType::F32 && device.has_bf16()) {
            let what = format!("{activation} activations beside {dtype} parameters: mixed precision is bf16 beside f32, on cuda and emulator");
            return Err(Error::Device { device: device.to_string(), what });
        }
        let mut activations_bytes = 0;
        let mut make = |shape: &[usize], dtype| {
            let tensor = Tensor::zeros(&device, shape, dtype)?;
            activations_bytes += tensor.bytes();
            Ok(tensor)
        };
        let capacity = capacity.telling(options);
        let mut activations = Activations::build(config, capacity, options, &mut make)?;
        let mut next_inputs = Inputs::build(config, capacity, options, &mut make)?;
        activations.inputs.number_rows()?;
        next_inputs.number_rows()?;
        for told in [&mut activations.inputs.told, &mut next_inputs.told].into_iter().flatten() {
            told.bag.iter_mut().for_each(|bag| bag.scale = options.word_bag);
            told.contrast.iter_mut().for_each(|contrast| contrast.scale = options.contrastive);
        }
        let mixed = activation != dtype;
        let layout = device.has_parts().then(|| FlatLayout::new(config)).filter(|layout| layout.elements <= MAX_ELEMENTS);
        let (parameters, gradients, moments, mut rounded, flat) = match layout {
            None => {
                let zeros = |dtype| Parameters::zeros(config, &device, dtype);
                let rounded = mixed.then(|| zeros(activation)).transpose()?;
                (parameters, zeros(dtype)?, [zeros(dtype)?, zeros(dtype)?], rounded, None)
            }
            Some(layout) => {
                let zeros = |dtype| layout.zeros(config, &device, dtype);
                let (mut parts, p) = zeros(dtype)?;
                parts.each_mut().into_iter().zip(parameters.each()).try_for_each(|(to, from)| to.copy_from(from))?;
                drop(parameters);
                let ((gradients, g), (first, m), (second, v)) = (zeros(dtype)?, zeros(dtype)?, zeros(dtype)?);
                let (rounded, r) = mixed.then(|| zeros(activation)).transpose()?.unzip();
                (
                    parts,
                    gradients,
                    [first, second],
                    rounded,
                    Some(FlatParameters { parameters: p, gradients: g, moments: [m, v], rounded: r, decayed: layout.decayed }),
                )
            }
        };
        if let Some(rounded) = &mut rounded {
            rounded.round_from(&parameters)?;
        }
        Ok(Trainer {
            gradients,
            moments,
            rounded,
            flat,
            frozen: Vec::new(),
            activations,
            next_inputs,
            activations_bytes,
            table: forward::rope_table(config, &device, dtype)?,
            norm: Tensor::zeros(&device, [1], dtype)?,
            coefficients: Tensor::zeros(&device, [adamw::COEFFICIENTS], dtype)?,
            graphs: device.has_graphs().then(Graphs::default),
            capacity,
            config: config.clone(),
            parameters,
            schedule,
            step: 0,
        })
    }

    /// Bytes that a trainer with these options allocates. See [`bytes`].
    pub fn bytes(config: &Config, capacity: Capacity, options: ActivationOptions) -> u64 {
        bytes(config, capacity.telling(options), options)
    }

    /// Bytes of every tensor that this trainer holds.
    pub fn allocated_bytes(&self) -> u64 {
        let parameters = [&self.parameters, &self.gradients, &self.moments[0], &self.moments[1]];
        let parameters: u64 = parameters.into_iter().chain(&self.rounded).flat_map(|p| p.each()).map(Tensor::bytes).sum();
        parameters + self.activations_bytes + self.table.tensor().bytes() + self.norm.bytes() + self.coefficients.bytes()
    }

    /// The forward pass alone; the activations can then be read.
    pub fn forward(&mut self, batch: &Batch) -> Result<&Activations> {
        self.activations.inputs.load(&self.config, batch, PaddedSize::of(batch), batch.counted(), false)?;
        let weights = self.rounded.as_ref().unwrap_or(&self.parameters);
        forward::forward(&self.config, weights, &self.table, &mut self.activations)?;
        Ok(&self.activations)
    }

    /// The loss of a batch and its gradients, without an update.
    pub fn loss_and_gradients(&mut self, batch: &Batch) -> Result<f32> {
        self.activations.inputs.load(&self.config, batch, PaddedSize::of(batch), batch.counted(), false)?;
        self.zero_sums()?;
        self.forward_and_backward()?;
        Ok(self.activations.loss.read_f64()?[0] as f32)
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

    /// Says which captions the contrastive loss tells apart: as many as [`ActivationOptions::captions`] says, by their words' ids, none of them
    /// twice. Until then it teaches nothing, and so do samples whose caption is none of them. Does nothing where there is no such loss.
    ///
    /// # Errors
    /// [`Error::Usage`] for another number of captions, a caption without words or one that is there twice, and for a word beyond the vocabulary.
    pub fn tell_apart(&mut self, captions: &[Vec<u32>]) -> Result<()> {
        let Some(contrast) = self.activations.told.as_mut().and_then(|told| told.contrast.as_mut()) else { return Ok(()) };
        if captions.len() != contrast.captions.rows() {
            return Err(Error::Usage(format!("{} captions to tell apart: allocated for {}", captions.len(), contrast.captions.rows())));
        }
        let (places, matrix) = contrast::listed(captions, self.config.vocab_size)?;
        contrast.captions.write_f64(&matrix)?;
        for told in [&mut self.activations.inputs.told, &mut self.next_inputs.told].into_iter().flatten() {
            told.contrast.iter_mut().for_each(|contrast| contrast.places = places.clone());
        }
        Ok(())
    }

    /// What the last forward and backward pass computed.
    pub fn activations(&self) -> &Activations {
        &self.activations
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.parameters.norm.device()
    }
}
