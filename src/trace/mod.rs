//! One training step, launch by launch: what ran, what it was for, what it read and wrote, and how long it took.
//!
//! [`record`] runs a closure and collects a [`Trace`] of everything that it launches from this thread: on a GPU (and on the
//! emulator) one [`Span`] per kernel launch, on the CPU one per call of an operation, and on both one per clearing, copy, upload and
//! download. While nobody records, a hook is one test of a thread's flag.
//!
//! Names, shapes, operations and bytes come from the contracts: an operation says what a call reads and writes and how many
//! floating-point operations it stands for (the numbers of its cases), the header of its kernel file says the same of each launch.
//! Time comes from the best clock of the device: CUDA events around every launch, the adapter's timestamp queries around every
//! pass, or the host's clock with a wait after every launch, which keeps launches from overlapping with the host. A recorded CUDA graph
//! would be one launch: while a step is traced it is launched kernel by kernel.
//!
//! ```
//! use trimodal::model::{Batch, Config, Parameters, batch::Capacity};
//! use trimodal::train::{Schedule, Trainer};
//! use trimodal::{DType, Device, trace};
//!
//! let config = Config { num_hidden_layers: 1, ..Config::meadow(50) };
//! let batch: Batch = trimodal::check::drawn_batch(&config, "a batch", 5);
//! let parameters = Parameters::init(&config, &Device::Cpu, DType::F32, 1)?;
//! let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(10), Capacity::of(&batch))?;
//! let (report, trace) = trace::record(&Device::Cpu, trace::TraceOptions::default(), || trainer.step(&batch))?;
//! assert!(report.loss.is_finite());
//! let slowest = trace.spans.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)).unwrap();
//! println!("{} of {} took {:.0} µs", slowest.name, slowest.part, 1e6 * slowest.seconds);
//! # Ok::<(), trimodal::Error>(())
//! ```

mod clock;
mod finish;
mod flame;
mod live;
mod perfetto;
mod recorder;
mod source;

pub use crate::observe::{Access, ModelPart, Phase, SpanKind, TensorId, Values};
pub use source::twins;

use crate::device::Device;
use crate::error::Result;
use crate::roofline::Ceilings;
use serde::Serialize;

/// What to record beside times.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceOptions {
    /// So many numbers of everything that is written, with its mean and root mean square: reading them takes time that the wall time
    /// then holds. 0: none.
    pub values: usize,
}

/// A tensor that a span reads or writes.
#[derive(Clone, Debug, Serialize)]
pub struct TracedOperand {
    /// Its name in the kernel's contract: `x`, `dweight`.
    pub name: String,
    /// Which tensor of the model it is, where that is known: `model.layers.0.mlp.up_proj.weight`, `the queries of layer 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// `f32`, `bf16`, …
    pub dtype: String,
    /// What happens to it.
    pub access: Access,
    /// Bytes of the contract: once for what is read or written, twice for what is both.
    pub bytes: u64,
    /// What it then holds, where that was asked for and it was written. See [`TraceOptions::values`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
    /// Which tensor, among those of the trace.
    #[serde(skip)]
    pub(crate) id: TensorId,
    /// Bytes in use.
    #[serde(skip)]
    pub(crate) size: u64,
}

/// One launch, or one call of an operation on the CPU, or one movement of memory.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// What it is.
    pub kind: SpanKind,
    /// The entry, or the operation's pass on the CPU: `rms_norm.dweight_partial`, `matmul.tile_small_nt`; `clear`, `upload` and so on.
    pub name: String,
    /// The operation that it belongs to: `rms_norm`. Empty for a movement of memory.
    pub op: String,
    /// Which call of an operation it belongs to, counted from 0: several launches may be one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<usize>,
    /// Phase of the step.
    pub phase: Phase,
    /// Part of the model.
    pub part: ModelPart,
    /// The parameter that it is about, or the tensor that moves: `q_proj`, `input_layernorm`. Empty where there is none.
    pub what: String,
    /// Where the kernel is defined: `kernels/rms_norm.cu:235`, on the CPU the operation's dispatch. Empty for a movement of memory.
    pub source: String,
    /// What it reads and writes, in the order of its contract.
    pub operands: Vec<TracedOperand>,
    /// Workgroups; 0 on the CPU.
    pub groups: usize,
    /// When it began, in seconds since the recording did.
    pub start: f64,
    /// How long it took, in seconds. 0 where the device's clock cannot measure it: memory that moves between the passes of wgpu.
    pub seconds: f64,
    /// Floating-point operations, counted from the contract.
    pub flops: u64,
    /// Those of them that are part of a matrix product: what [`crate::model::flops`] counts. (Attention's second pass computes its
    /// products once more, which makes no progress and is not counted.)
    pub products: u64,
    /// Bytes of the contract: everything that it reads, once, and everything that it writes, once.
    pub bytes: u64,
    /// Bytes of tensors whose contents are needed from here on: something later reads what this wrote.
    pub made_live: u64,
    /// Bytes of tensors whose contents are no longer needed: this was the last to read them.
    pub freed: u64,
    /// Bytes still needed after it, of what the step has written: the memory that a step without reuse by hand would need.
    pub live: u64,
    /// Percent of what the device can do at best for these operations and bytes: see [`Trace::rate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Which ceiling is the lower one: `memory` or `compute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<&'static str>,
}

/// Everything that was launched, in order.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    /// The device.
    pub device: String,
    /// The clock.
    pub clock: &'static str,
    /// The time from the beginning to the end by the host's clock, in seconds. What the spans do not cover are gaps: the host's own
    /// work, and on a GPU the time between launches.
    pub wall: f64,
    /// What [`crate::model::flops`] counts for the batch, if the recorder of a training step said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formula: Option<u64>,
    /// The spans.
    pub spans: Vec<Span>,
}

/// Runs `run` and records what it launches from this thread.
///
/// # Errors
/// [`crate::Error::Usage`] where this thread is recording already; those of `run`; [`crate::Error::Device`] where the device's clock fails.
pub fn record<T>(device: &Device, options: TraceOptions, run: impl FnOnce() -> Result<T>) -> Result<(T, Trace)> {
    let (outcome, recording) = recorder::record(device, options, run)?;
    Ok((outcome, finish::trace(device, &recording)))
}

impl Trace {
    /// Seconds of all spans.
    pub fn busy(&self) -> f64 {
        self.spans.iter().map(|s| s.seconds).sum()
    }

    /// Seconds of the wall time that no span covers.
    pub fn gaps(&self) -> f64 {
        self.wall - self.busy()
    }

    /// Floating-point operations of all spans.
    pub fn flops(&self) -> u64 {
        self.spans.iter().map(|s| s.flops).sum()
    }

    /// Those that are part of a product, without what is computed again: comparable with [`crate::model::flops`].
    pub fn products(&self) -> u64 {
        self.spans.iter().filter(|s| s.phase != Phase::Recompute).map(|s| s.products).sum()
    }

    /// The most bytes that are needed at a time.
    pub fn peak_live(&self) -> u64 {
        self.spans.iter().map(|s| s.live).max().unwrap_or(0)
    }

    /// The parts of the step in the order of their first kernels, each with its spans.
    pub fn groups(&self) -> Vec<(Phase, ModelPart, Vec<&Span>)> {
        let mut groups: Vec<(Phase, ModelPart, Vec<&Span>)> = Vec::new();
        for span in &self.spans {
            match groups.iter_mut().find(|(phase, part, _)| (*phase, *part) == (span.phase, span.part)) {
                Some((.., spans)) => spans.push(span),
                None => groups.push((span.phase, span.part, vec![span])),
            }
        }
        // What backward adds to is cleared before the loss is known, and yet backward comes after it.
        groups.sort_by(|(.., a), (.., b)| {
            let [a, b] = [a, b].map(|spans| spans.iter().find(|s| s.kind == SpanKind::Kernel).unwrap_or(&spans[0]).start);
            a.total_cmp(&b)
        });
        groups
    }

    /// Computes for every kernel how near it comes to the best that the device can do: the time that its arithmetic needs at the peak, or its
    /// bytes at the bandwidth of a copy, whichever is longer, divided by its own. (What fits a cache may be above 100 %.)
    pub fn rate(&mut self, ceilings: &Ceilings) {
        for span in self.spans.iter_mut().filter(|s| s.kind == SpanKind::Kernel && s.seconds > 0.0) {
            let bf16 = span.operands.iter().any(|o| o.dtype == "bf16") && span.products > 0;
            let least = ceilings.least(span.flops, Some(span.bytes), bf16);
            span.percent = least.map(|(seconds, _)| 100.0 * seconds / span.seconds);
            span.bound = least.map(|(_, bound)| bound);
        }
    }

    /// The trace as JSON, with a line break at its end.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and finite numbers") + "\n"
    }

    /// The trace as a file that <https://ui.perfetto.dev> and `chrome://tracing` open: phases, parts and launches nested on one track,
    /// live bytes as a counter.
    pub fn perfetto(&self) -> String {
        perfetto::json(self)
    }

    /// A flame graph as an SVG: the step, its phases, their parts, and the launches, from left to right as they ran.
    pub fn flame(&self) -> String {
        flame::svg(self)
    }
}
