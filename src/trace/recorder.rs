//! The recorder: the observer that keeps what it is told, with the time that it took.

use super::clock::{Clock, Reading};
use super::{ModelPart, Phase, SpanKind, TraceOptions};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::observe::{self, CallRecord, Event, Launched, ObservedOperand, Observer, TensorId, Work};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;
use std::time::Instant;

/// What has been recorded so far.
pub(super) struct Recorder {
    clock: Clock,
    options: TraceOptions,
    /// Whether calls of operations are the spans: there are no launches.
    pub(super) on_cpu: bool,
    /// Which tensors of the model are where.
    pub(super) names: RefCell<HashMap<TensorId, String>>,
    /// Rows of the batch that look at others, with their pairs.
    pairs: Cell<Option<[(usize, u64); 2]>>,
    pub(super) calls: RefCell<Vec<RawCall>>,
    pub(super) spans: RefCell<Vec<RawSpan>>,
    readings: RefCell<Vec<Reading>>,
    /// The call that is running.
    current: Cell<Option<usize>>,
}

/// A call of an operation.
pub(super) struct RawCall {
    pub(super) op: &'static str,
    pub(super) pass: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) work: Work,
    started: Instant,
}

/// Something that took time.
pub(super) struct RawSpan {
    pub(super) kind: SpanKind,
    pub(super) call: Option<usize>,
    pub(super) scope: (Phase, ModelPart),
    pub(super) launch: Option<Launched>,
    pub(super) operands: Vec<ObservedOperand>,
}

impl Observer for Recorder {
    fn values(&self) -> usize {
        self.options.values
    }

    fn call(&self, CallRecord { op, pass, place, work }: CallRecord) -> usize {
        let mut calls = self.calls.borrow_mut();
        self.current.set(Some(calls.len()));
        calls.push(RawCall { op, pass, place, work, started: Instant::now() });
        calls.len() - 1
    }

    fn call_ended(&self, number: usize, scope: (Phase, ModelPart), ended: Instant, written: Vec<ObservedOperand>) {
        self.current.set(None);
        let call = &mut self.calls.borrow_mut()[number];
        call.work.operands.extend(written);
        if self.on_cpu {
            self.readings.borrow_mut().push(Reading::Host(call.started, (ended - call.started).as_secs_f64()));
            self.spans.borrow_mut().push(RawSpan { kind: SpanKind::Kernel, call: Some(number), scope, launch: None, operands: Vec::new() });
        }
    }

    fn call_failed(&self, _: usize) {
        self.current.set(None);
    }

    fn event(&self, Event { kind, scope, launch, operands }: Event, run: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        // On the CPU what moves within a call is a part of it: the call's own time has it.
        if kind != SpanKind::Kernel && self.on_cpu && self.current.get().is_some() {
            return run();
        }
        let call = self.current.get();
        let reading = self.clock.time(kind == SpanKind::Kernel, run)?;
        self.readings.borrow_mut().push(reading);
        self.spans.borrow_mut().push(RawSpan { kind, call, scope, launch, operands });
        Ok(())
    }

    fn name(&self, tensor: TensorId, name: String) {
        self.names.borrow_mut().insert(tensor, name);
    }

    fn tell_pairs(&self, pairs: [(usize, u64); 2]) {
        self.pairs.set(Some(pairs));
    }

    fn pairs(&self, rows: usize) -> Option<u64> {
        self.pairs.get()?.into_iter().find(|(of, _)| *of == rows).map(|(_, pairs)| pairs)
    }
}

/// What came of a recording.
pub(super) struct Recording {
    pub(super) recorder: Rc<Recorder>,
    /// What stopped the time, for the trace.
    pub(super) clock: &'static str,
    /// The time from the beginning to the end by the host's clock, in seconds.
    pub(super) wall: f64,
    /// When each span began, in seconds since the recording did, and how long it took.
    pub(super) times: Vec<(f64, f64)>,
}

/// Runs `run` and records what it launches from this thread.
pub(super) fn record<T>(device: &Device, options: TraceOptions, run: impl FnOnce() -> Result<T>) -> Result<(T, Recording)> {
    let nested = || Error::Usage("this thread is already recording a trace: one recording cannot start inside another".into());
    if observe::on() {
        return Err(nested()); // before the device's clock is started
    }
    let recorder = Rc::new(Recorder {
        clock: Clock::start(device)?,
        options,
        on_cpu: matches!(device, Device::Cpu),
        names: RefCell::default(),
        pairs: Cell::new(None),
        calls: RefCell::default(),
        spans: RefCell::new(Vec::with_capacity(1024)),
        readings: RefCell::new(Vec::with_capacity(1024)),
        current: Cell::new(None),
    });
    // Ends whatever happens within.
    let observing = observe::observe(recorder.clone()).ok_or_else(nested)?;
    let begin = Instant::now();
    let outcome = run();
    let waited = device.synchronize();
    let wall = begin.elapsed().as_secs_f64();
    drop(observing);
    // The adapter's stopwatch is stopped before anything else, whatever the run's result.
    let times = recorder.clock.resolve(begin, &recorder.readings.borrow());
    let (outcome, times) = (outcome?, waited.and(times)?);
    let clock = recorder.clock.describe();
    Ok((outcome, Recording { recorder, clock, wall, times }))
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;
    use crate::tensor::Tensor;

    #[test]
    fn a_recording_holds_no_other_and_ends_with_an_error_too() {
        let nested = record(&Device::Cpu, TraceOptions::default(), || record(&Device::Cpu, TraceOptions::default(), || Ok(())).map(drop));
        assert!(nested.unwrap_err().to_string().contains("recording"));
        assert!(!observe::on());
        let (x, trace) = record(&Device::Cpu, TraceOptions::default(), || Tensor::from_slice(&Device::Cpu, [3], &[1f32, 2.0, 3.0])).unwrap();
        assert_eq!((x.len(), trace.spans.len(), trace.spans[0].kind, trace.spans[0].bytes), (3, 1, SpanKind::Upload, 12));
    }

    /// Another tensor in the memory of one that is gone, and a tensor that was moved.
    #[test]
    fn a_tensor_is_known_by_its_id_wherever_it_lies() {
        let tensor = || Tensor::from_slice(&Device::Cpu, [3], &[1f32, 2.0, 3.0]);
        let ((), trace) = record(&Device::Cpu, TraceOptions::default(), || {
            for _ in 0..3 {
                let gone = tensor()?;
                observe::name(gone.id(), || "gone".into());
                let mut moved = Box::new(gone);
                moved.fill_zero()?;
            }
            let mut unnamed = tensor()?;
            unnamed.fill_zero()
        })
        .unwrap();
        let named: Vec<bool> = trace.spans.iter().filter(|s| s.kind == SpanKind::Clear).map(|s| s.operands[0].tensor.is_some()).collect();
        assert_eq!(named, [true, true, true, false]);
        let mut ids: Vec<_> = trace.spans.iter().filter(|s| s.kind == SpanKind::Clear).map(|s| s.operands[0].id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }
}
