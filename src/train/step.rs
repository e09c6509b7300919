//! One training step, on one screen: batch → forward → loss → backward → optimiser.
//!
//! In mixed precision (Micikevicius et al. 2018, arXiv 1710.03740, with bf16, whose range needs no loss scaling) activations
//! and the weights that the kernels read are bf16; the parameters themselves, their gradients, the moments, statistics and sums
//! stay f32, and AdamW writes both the parameters and their rounded copy.

use super::graphs::{Graphs, GraphKind, GraphShape};
use super::schedule::Schedule;
use crate::device::Device;
use crate::error::{Error, Result};
pub use crate::model::activations::ActivationOptions;
use crate::model::activations::{Activations, bytes};
use crate::model::batch::{Batch, Capacity, Inputs, PaddedSize};
use crate::model::parameters::Layout;
use crate::model::{Config, Parameters, backward, forward, nonfinite};
use crate::observe::{self, ModelPart, Phase};
use crate::ops::adamw::{self, Hyper};
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
    rounded: Option<Parameters>,
    /// Their gradients.
    pub gradients: Parameters,
    /// AdamW's first and second moments.
    pub moments: [Parameters; 2],
    /// Steps taken.
    pub step: usize,
    /// Learning rate over time, and AdamW's constants.
    pub schedule: Schedule,
    /// Where the device has it: all tensors of a kind as one, for clearing, the norm and the update.
    whole: Option<Whole>,
    /// Which tensors are not updated, in the order of [`Parameters::named`]; empty for none. See [`Trainer::freeze`].
    frozen: Vec<bool>,
    activations: Activations,
    capacity: Capacity,
    /// The next batch's inputs, uploaded while this one runs.
    next_inputs: Inputs,
    activations_bytes: u64,
    table: rope::Table,
    norm: Tensor,
    /// AdamW's coefficients of this step.
    coefficients: Tensor,
    /// Where the device has them: the launches of a step, recorded.
    graphs: Option<Graphs>,
}

/// What each kind of parameter tensors are the parts of.
struct Whole {
    parameters: Tensor,
    gradients: Tensor,
    moments: [Tensor; 2],
    rounded: Option<Tensor>,
    /// Elements that decay.
    decayed: usize,
}

/// A batch whose inputs are on the device, or on their way. See [`Trainer::ready`].
pub struct Ready(Batch, PaddedSize);

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
        let mut activations = Activations::build(config, capacity, options, &mut make)?;
        let mut next_inputs = Inputs::build(config, capacity, activation, &mut make)?;
        activations.inputs.number_rows()?;
        next_inputs.number_rows()?;
        let mixed = activation != dtype;
        let layout = device.has_parts().then(|| Layout::new(config)).filter(|layout| layout.elements <= MAX_ELEMENTS);
        let (parameters, gradients, moments, mut rounded, whole) = match layout {
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
                (parts, gradients, [first, second], rounded, Some(Whole { parameters: p, gradients: g, moments: [m, v], rounded: r, decayed: layout.decayed }))
            }
        };
        if let Some(rounded) = &mut rounded {
            rounded.round_from(&parameters)?;
        }
        Ok(Trainer {
            gradients,
            moments,
            rounded,
            whole,
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

    /// From now on the tensors whose names (as [`Parameters::named`] gives them) this accepts are not updated, and all others are: they
    /// keep every bit, decay included, and their moments too. Their gradients are still computed, but do not count in the gradient's norm.
    /// Returns how many numbers continue to learn.
    ///
    /// # Errors
    /// [`Error::Usage`] where nothing would be left to learn; then nothing changes.
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) -> Result<usize> {
        let named = self.parameters.named();
        let mask: Vec<bool> = named.iter().map(|(name, _)| frozen(name)).collect();
        let learning = named.iter().zip(&mask).filter(|(_, frozen)| !**frozen).map(|((_, tensor), _)| tensor.len()).sum();
        if learning == 0 {
            return Err(Error::Usage(format!("all {} tensors of the model are to be frozen: nothing would be left to learn", mask.len())));
        }
        self.frozen = if mask.contains(&true) { mask } else { Vec::new() };
        // A recording updates the tensors that it updated when it was made.
        self.graphs = self.graphs.take().map(|_| Graphs::default());
        Ok(learning)
    }

    /// Bytes that a trainer with these options allocates. See [`bytes`].
    pub fn bytes(config: &Config, capacity: Capacity, options: ActivationOptions) -> u64 {
        bytes(config, capacity, options)
    }

    /// Bytes of every tensor that this trainer holds.
    pub fn allocated_bytes(&self) -> u64 {
        let parameters = [&self.parameters, &self.gradients, &self.moments[0], &self.moments[1]];
        let parameters: u64 = parameters.into_iter().chain(&self.rounded).flat_map(|p| p.each()).map(Tensor::bytes).sum();
        parameters + self.activations_bytes + self.table.tensor().bytes() + self.norm.bytes() + self.coefficients.bytes()
    }

    /// One step.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where the loss or the gradient is not a number: the parameters are then as before the step.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let size = self.size(batch);
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
        self.clear_sums()?;
        for batch in batches {
            let size = self.size(batch);
            self.load(batch, size, counted)?;
            self.replay(GraphKind::Gradients, batch, size, Self::launch_gradients)?;
        }
        self.launch_update()?;
        self.finish_step(batches)
    }

    /// Uploads a batch while the device computes, for [`Trainer::step_ready`]. There is room for one.
    pub fn ready(&mut self, batch: Batch) -> Result<Ready> {
        let size = self.size(&batch);
        self.next_inputs.load(&self.config, &batch, size, batch.counted(), true)?;
        Ok(Ready(batch, size))
    }

    /// One step on the batch that is ready. Meanwhile the host draws the next one (`draw`) and makes it ready, so that a GPU need
    /// not wait for the host in between.
    ///
    /// # Errors
    /// As [`Trainer::step`], and those of `draw`.
    pub fn step_ready(&mut self, Ready(batch, size): Ready, draw: impl FnOnce() -> Result<Batch>) -> Result<(StepReport, Batch, Ready)> {
        // Copied, not swapped: a recorded step reads its batch where it was when it was recorded. The upload of the next batch waits
        // for the copy, not for the step.
        self.activations.inputs.take(&self.next_inputs)?;
        self.launch_step(&batch, size)?;
        let next = draw().and_then(|next| self.ready(next));
        let report = self.finish_step(std::slice::from_ref(&batch))?;
        Ok((report, batch, next?))
    }

    /// Where steps are recorded, batches are padded so that few recordings serve all of them.
    fn size(&self, batch: &Batch) -> PaddedSize {
        if self.graphs.is_some() && !observe::on() { PaddedSize::of_few(batch, self.capacity) } else { PaddedSize::of(batch) }
    }

    /// Uploads a batch.
    fn load(&mut self, batch: &Batch, size: PaddedSize, counted: usize) -> Result<()> {
        if observe::on() {
            self.tell_trace(batch);
        }
        let _scope = observe::scope(Phase::Load, ModelPart::Whole);
        self.activations.inputs.load(&self.config, batch, size, counted, false)
    }

    /// Tells a trace which tensor is what.
    fn tell_trace(&self, batch: &Batch) {
        observe::tell_pairs(batch.visible.iter().map(|v| (v[1] - v[0]).max(0) as u64).sum());
        let kinds = [
            ("", Some(&self.parameters)),
            ("", self.rounded.as_ref()),
            (observe::GRADIENT, Some(&self.gradients)),
            ("the first moment of ", Some(&self.moments[0])),
            ("the second moment of ", Some(&self.moments[1])),
        ];
        for (kind, parameters) in kinds {
            for (name, tensor) in parameters.map(Parameters::named).unwrap_or_default() {
                observe::name(tensor.id(), || format!("{kind}{name}"));
            }
        }
        if let Some(whole) = &self.whole {
            let all = [("all parameters", &whole.parameters), ("all gradients", &whole.gradients), ("all first moments", &whole.moments[0])];
            let more = [Some(("all second moments", &whole.moments[1])), whole.rounded.as_ref().map(|r| ("all parameters, rounded to bf16", r))];
            for (name, tensor) in all.into_iter().chain(more.into_iter().flatten()) {
                observe::name(tensor.id(), || name.to_string());
            }
        }
        self.activations.name_for_trace();
        for (name, tensor) in [("the gradient's norm", &self.norm), ("AdamW's coefficients", &self.coefficients), ("the rotary table", self.table.tensor())] {
            observe::name(tensor.id(), || name.to_string());
        }
    }

    /// The whole step on the loaded inputs, without waiting for it.
    fn launch_step(&mut self, batch: &Batch, size: PaddedSize) -> Result<()> {
        self.write_coefficients()?;
        self.replay(GraphKind::Step, batch, size, |trainer| {
            trainer.clear_sums()?;
            trainer.launch_gradients()?;
            trainer.launch_update()
        })
    }

    /// Runs launches on the loaded inputs, from their recording where there is one.
    ///
    /// During a trace, every launch is made one by one.
    fn replay(&mut self, kind: GraphKind, batch: &Batch, size: PaddedSize, launch: impl Fn(&mut Self) -> Result<()>) -> Result<()> {
        if observe::on() {
            return launch(self);
        }
        match self.graphs.take() {
            None => launch(self),
            Some(mut graphs) => {
                let (device, shape) = (self.device().clone(), GraphShape { kind, size, images: batch.images, clips: batch.clips });
                let launched = graphs.run(&device, shape, || launch(self));
                self.graphs = Some(graphs);
                launched
            }
        }
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

    /// Clears what batches add to: the loss and the gradients.
    fn clear_sums(&mut self) -> Result<()> {
        let _scope = observe::scope(Phase::Clear, ModelPart::Whole);
        self.activations.loss.fill_zero()?;
        match &mut self.whole {
            Some(whole) => whole.gradients.fill_zero(),
            None => self.gradients.fill_zero(),
        }
    }

    /// Forward and backward on the loaded inputs, which add to the loss and the gradients on the device.
    fn launch_gradients(&mut self) -> Result<()> {
        let weights = self.rounded.as_ref().unwrap_or(&self.parameters);
        forward::hidden(&self.config, weights, &self.table, &mut self.activations)?;
        backward::backward(&self.config, weights, &self.table, &mut self.activations, &mut self.gradients)
    }

    /// The gradient's norm and the update, which leaves everything as it is where the loss or the norm is not a number.
    fn launch_update(&mut self) -> Result<()> {
        let _scope = observe::scope(Phase::Update, ModelPart::Whole);
        // Where some are frozen, the whole is no longer one thing: its parts are updated one by one.
        let whole = self.whole.as_mut().filter(|_| self.frozen.is_empty());
        let learning = |i: usize| !self.frozen.get(i).copied().unwrap_or(false);
        let gradients = match &whole {
            Some(whole) => vec![&whole.gradients],
            None => self.gradients.each().into_iter().enumerate().filter(|(i, _)| learning(*i)).map(|(_, g)| g).collect(),
        };
        adamw::global_norm(&gradients, &mut self.norm, &mut self.activations.workspace)?;
        let (coefficients, norm, loss) = (&self.coefficients, &self.norm, Some(&self.activations.loss));
        if let Some(Whole { parameters, gradients, moments: [first, second], rounded, decayed }) = whole {
            return adamw::update(parameters, gradients, first, second, coefficients, *decayed, norm, loss, rounded.as_mut());
        }
        let [first, second] = &mut self.moments;
        let moments = first.each_mut().into_iter().zip(second.each_mut());
        let mut rounded = self.rounded.as_mut().map(|r| r.each_mut().into_iter());
        for (i, ((p, g), (m, v))) in self.parameters.each_mut().into_iter().zip(self.gradients.each()).zip(moments).enumerate() {
            let copy = rounded.as_mut().and_then(Iterator::next);
            if !learning(i) {
                continue;
            }
            let decayed = if p.shape().dims().len() >= 2 { p.len() } else { 0 };
            adamw::update(p, g, m, v, coefficients, decayed, norm, loss, copy)?;
        }
        Ok(())
    }

    /// Waits for the step and says what it came to.
    fn finish_step(&mut self, batches: &[Batch]) -> Result<StepReport> {
        let _scope = observe::scope(Phase::Report, ModelPart::Whole);
        let loss = self.activations.loss.read_f64()?[0] as f32;
        let gradient_norm = self.norm.read_f64()?[0] as f32;
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(self.not_finite(batches, if loss.is_finite() { "the gradient's norm" } else { "the loss" }));
        }
        self.step += 1;
        Ok(StepReport { loss, gradient_norm, learning_rate: self.schedule.learning_rate(self.step) })
    }

    /// The loss of a batch and its gradients, without an update.
    pub fn loss_and_gradients(&mut self, batch: &Batch) -> Result<f32> {
        self.activations.inputs.load(&self.config, batch, PaddedSize::of(batch), batch.counted(), false)?;
        self.clear_sums()?;
        self.launch_gradients()?;
        Ok(self.activations.loss.read_f64()?[0] as f32)
    }

    /// The forward pass alone; the activations can then be read.
    pub fn forward(&mut self, batch: &Batch) -> Result<&Activations> {
        self.activations.inputs.load(&self.config, batch, PaddedSize::of(batch), batch.counted(), false)?;
        let weights = self.rounded.as_ref().unwrap_or(&self.parameters);
        forward::forward(&self.config, weights, &self.table, &mut self.activations)?;
        Ok(&self.activations)
    }

    /// The error of a step that changed nothing. It names the first tensor that is not finite, and the samples of the batch where
    /// that happened; `end` is where it was noticed. Parameters are as before the step, so that its batches can be taken again, one by one.
    fn not_finite(&mut self, batches: &[Batch], end: &str) -> Error {
        let counted = batches.iter().map(Batch::counted).sum();
        let step = self.step + 1;
        let error = |what: String, samples: Vec<String>| Error::NonFinite { step, what, samples };
        let all = || batches.iter().flat_map(|batch| batch.names.iter().cloned()).collect();
        for batch in batches {
            match self.first_not_finite(batch, counted) {
                Ok(None) => {}
                Ok(Some(what)) => return error(what, batch.names.clone()),
                Err(e) => return error(format!("{end} (where it began cannot be found: {e})"), all()),
            }
        }
        error(end.into(), all())
    }

    fn first_not_finite(&mut self, batch: &Batch, counted: usize) -> Result<Option<String>> {
        if let Some(found) = nonfinite::in_parameters(&self.parameters)? {
            return Ok(Some(found));
        }
        self.activations.inputs.load(&self.config, batch, PaddedSize::of(batch), counted, false)?;
        let weights = self.rounded.as_ref().unwrap_or(&self.parameters);
        if let Some(found) = nonfinite::in_forward(&self.config, weights, &self.table, &mut self.activations, batch)? {
            return Ok(Some(found));
        }
        self.clear_sums()?;
        self.launch_gradients()?;
        nonfinite::in_gradients(&self.gradients)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{drawn_batch, test_devices};

    /// Frozen tensors and their moments keep every bit through decay and clipping; the others learn, as if the frozen ones had no
    /// gradient; and what is thawed learns again.
    #[test]
    fn frozen_parameters_keep_every_bit() {
        let config = Config { num_hidden_layers: 1, ..Config::meadow(50) };
        let batch = drawn_batch(&config, "frozen", 3);
        let embedders = |name: &str| name.starts_with("vision") || name.starts_with("audio");
        let bits = |p: &Parameters| -> Vec<(String, Vec<u64>)> {
            p.named().into_iter().map(|(name, t)| (name, t.read_f64().unwrap().into_iter().map(f64::to_bits).collect())).collect()
        };
        for device in test_devices() {
            let parameters = Parameters::init(&config, &device, DType::F32, 7).unwrap();
            let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(10), Capacity::of(&batch)).unwrap();
            let every = trainer.step(&batch).unwrap();
            let embedding: usize = trainer.parameters.named().into_iter().filter(|(name, _)| embedders(name)).map(|(_, t)| t.len()).sum();
            assert_eq!(trainer.freeze(|name| !embedders(name)).unwrap(), embedding);
            let [before, moments] = [bits(&trainer.parameters), bits(&trainer.moments[0])];
            let fewer = trainer.step(&batch).unwrap();
            trainer.step(&batch).unwrap();
            assert!(fewer.gradient_norm > 0.0 && fewer.gradient_norm < every.gradient_norm, "{} {}", fewer.gradient_norm, every.gradient_norm);
            for (after, before) in [(bits(&trainer.parameters), before), (bits(&trainer.moments[0]), moments)] {
                for ((name, after), (_, before)) in after.iter().zip(&before) {
                    assert_eq!(after != before, embedders(name), "{device}: {name}");
                }
            }
            assert!(trainer.freeze(|_| true).unwrap_err().to_string().contains("nothing would be left"));
            let before = bits(&trainer.parameters);
            assert_eq!(trainer.freeze(|_| false).unwrap(), trainer.parameters.count());
            trainer.step(&batch).unwrap();
            assert!(bits(&trainer.parameters).iter().zip(&before).all(|((_, after), (_, before))| after != before));
        }
    }

    /// Rows that a batch is padded with change neither the loss nor a gradient.
    #[test]
    fn padding_changes_nothing() {
        let config = Config { num_hidden_layers: 1, ..Config::meadow(50) };
        let batch = drawn_batch(&config, "padded", 3);
        let own = Capacity::of(&batch);
        let padded = PaddedSize { rows: own.rows + 20, logits: own.logits + 11 };
        let capacity = Capacity { rows: padded.rows, logits: padded.logits, chunk: padded.logits, ..own };
        let parameters = Parameters::init(&config, &Device::Cpu, DType::F64, 7).unwrap();
        let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(1), capacity).unwrap();
        let mut run = |size| {
            trainer.activations.inputs.load(&config, &batch, size, batch.counted(), false).unwrap();
            trainer.clear_sums().unwrap();
            trainer.launch_gradients().unwrap();
            let gradients: Vec<f64> = trainer.gradients.each().iter().flat_map(|g| g.read_f64().unwrap()).collect();
            (trainer.activations.loss.read_f64().unwrap()[0], gradients)
        };
        let (expected, found) = (run(PaddedSize::of(&batch)), run(padded));
        assert!((found.0 - expected.0).abs() < 1e-13, "{} {}", found.0, expected.0);
        let largest = expected.1.iter().fold(0f64, |most, g| most.max(g.abs()));
        for (f, e) in found.1.iter().zip(&expected.1) {
            assert!((f - e).abs() <= 1e-13 * largest, "{f} {e}");
        }
    }
}
