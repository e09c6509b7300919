//! The recorder, and the hooks that operations, launches, tensors and the training step call. Off, each is one test of a flag.

use super::clock::{Clock, Reading};
use super::{Access, Kind, Options, Part, Phase, Trace, Values, finish};
use crate::device::{Device, Hopper, Launch};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::time::Instant;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static SCOPE: Cell<(Phase, Part)> = const { Cell::new(NOWHERE) };
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

const NOWHERE: (Phase, Part) = (Phase::Other, Part::Whole);

/// What has been recorded so far.
pub(super) struct Recorder {
    clock: std::rc::Rc<Clock>,
    options: Options,
    /// Whether calls of operations are the spans: there are no launches.
    pub(super) on_cpu: bool,
    /// Which tensors of the model are where.
    pub(super) names: HashMap<usize, String>,
    /// Pairs of rows of the batch that see each other.
    pairs: Option<u64>,
    pub(super) calls: Vec<RawCall>,
    pub(super) spans: Vec<RawSpan>,
    pub(super) readings: Vec<Reading>,
    current: Option<usize>,
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
    pub(super) kind: Kind,
    pub(super) call: Option<usize>,
    pub(super) scope: (Phase, Part),
    /// Of a kernel on a GPU.
    pub(super) launch: Option<RawLaunch>,
    /// Of a movement of memory.
    pub(super) operands: Vec<RawOperand>,
}

/// The part of a [`Launch`] that outlives it.
pub(super) struct RawLaunch {
    pub(super) kernel: (&'static str, &'static str),
    pub(super) variant: String,
    pub(super) hopper: bool,
    pub(super) dims: Vec<u8>,
    pub(super) groups: usize,
    /// In the order of the contract: tensor maps, then buffers.
    pub(super) tensors: Vec<Option<RawOperand>>,
}

/// A tensor as it was when something read or wrote it.
#[derive(Clone)]
pub(crate) struct RawOperand {
    pub(super) name: &'static str,
    pub(super) id: usize,
    pub(super) shape: Shape,
    pub(super) dtype: DType,
    /// Elements that are really touched.
    pub(super) elements: usize,
    pub(super) access: Access,
    pub(super) values: Option<Values>,
}

impl RawOperand {
    /// All of a tensor.
    pub(crate) fn of(name: &'static str, tensor: &Tensor, access: Access) -> RawOperand {
        let id = std::ptr::from_ref(tensor) as usize;
        RawOperand { name, id, shape: tensor.shape(), dtype: tensor.dtype(), elements: tensor.len(), access, values: None }
    }
}

/// What a call of an operation stands for, by its contract.
#[derive(Default)]
pub(crate) struct Work {
    pub(super) flops: u64,
    pub(super) product: bool,
    /// What of it the launches are whose entries begin like this; the others share the rest.
    pub(super) launches: Vec<(&'static str, u64)>,
    pub(super) operands: Vec<RawOperand>,
}

impl Work {
    /// So many floating-point operations.
    pub(crate) fn new(flops: impl TryInto<u64>) -> Work {
        Work { flops: flops.try_into().unwrap_or(0), ..Work::default() }
    }

    /// So many floating-point operations, which are part of a product.
    pub(crate) fn product(flops: impl TryInto<u64>) -> Work {
        Work { product: true, ..Work::new(flops) }
    }

    /// Of which the launches of this entry are so many.
    pub(crate) fn of_launch(mut self, entry: &'static str, flops: impl TryInto<u64>) -> Work {
        self.launches.push((entry, flops.try_into().unwrap_or(0)));
        self
    }

    /// It reads a tensor.
    pub(crate) fn reads(self, name: &'static str, tensor: &Tensor) -> Work {
        self.touches(name, tensor, Access::Read, tensor.len())
    }

    /// It reads a tensor, if there is one.
    pub(crate) fn reads_if(self, name: &'static str, tensor: Option<&Tensor>) -> Work {
        match tensor {
            Some(tensor) => self.reads(name, tensor),
            None => self,
        }
    }

    /// It touches so many elements of a tensor, whose others stay as they are.
    pub(crate) fn touches(mut self, name: &'static str, tensor: &Tensor, access: Access, elements: usize) -> Work {
        self.operands.push(RawOperand { elements: elements.min(tensor.len()), ..RawOperand::of(name, tensor, access) });
        self
    }
}

/// A call that is running.
pub(crate) struct Call(Option<usize>);

/// What a call has written.
pub(crate) struct Outputs(Vec<RawOperand>, usize);

impl Outputs {
    /// New contents.
    pub(crate) fn writes(self, name: &'static str, tensor: &Tensor) -> Outputs {
        self.add(name, tensor, Access::Write, tensor.len())
    }

    /// New contents, if there is one.
    pub(crate) fn writes_if(self, name: &'static str, tensor: Option<&Tensor>) -> Outputs {
        match tensor {
            Some(tensor) => self.writes(name, tensor),
            None => self,
        }
    }

    /// Added to, or changed in place.
    pub(crate) fn updates(self, name: &'static str, tensor: &Tensor) -> Outputs {
        self.add(name, tensor, Access::Update, tensor.len())
    }

    /// Some elements of it, the others stay.
    pub(crate) fn writes_some(self, name: &'static str, tensor: &Tensor, elements: usize) -> Outputs {
        let access = if elements >= tensor.len() { Access::Write } else { Access::Update };
        self.add(name, tensor, access, elements)
    }

    fn add(mut self, name: &'static str, tensor: &Tensor, access: Access, elements: usize) -> Outputs {
        let mut operand = RawOperand { elements: elements.min(tensor.len()), ..RawOperand::of(name, tensor, access) };
        if self.1 > 0 {
            operand.values = values(tensor, self.1);
        }
        self.0.push(operand);
        self
    }
}

/// Whether this thread records.
#[inline]
pub(crate) fn on() -> bool {
    ON.get()
}

fn with<T>(act: impl FnOnce(&mut Recorder) -> T) -> T {
    RECORDER.with_borrow_mut(|recorder| act(recorder.as_mut().expect("the flag says that there is one")))
}

/// Runs something unseen.
fn unseen<T>(run: impl FnOnce() -> T) -> T {
    let was = ON.replace(false);
    let result = run();
    ON.set(was);
    result
}

fn values(tensor: &Tensor, count: usize) -> Option<Values> {
    let all = unseen(|| tensor.read_f64()).ok()?;
    let n = all.len().max(1) as f64;
    let (mean, square) = (all.iter().sum::<f64>() / n, all.iter().map(|x| x * x).sum::<f64>() / n);
    Some(Values { first: all.into_iter().take(count).collect(), mean, rms: square.sqrt() })
}

/// An operation begins. `work` is called only during a recording.
#[track_caller]
#[inline]
pub(crate) fn call(op: &'static str, pass: &'static str, work: impl FnOnce() -> Work) -> Call {
    if !on() {
        return Call(None);
    }
    let place = Location::caller();
    let work = work();
    Call(Some(with(|recorder| {
        let number = recorder.calls.len();
        recorder.current = Some(number);
        recorder.calls.push(RawCall { op, pass, place, work, started: Instant::now() });
        number
    })))
}

impl Call {
    /// It has ended, and has written this.
    #[inline]
    pub(crate) fn end(mut self, outputs: impl FnOnce(Outputs) -> Outputs) -> Result<()> {
        let Some(number) = self.0.take() else { return Ok(()) };
        let seconds = with(|recorder| recorder.calls[number].started.elapsed().as_secs_f64());
        let count = with(|recorder| recorder.options.values);
        let written = outputs(Outputs(Vec::new(), count)).0;
        with(|recorder| {
            recorder.current = None;
            recorder.calls[number].work.operands.extend(written);
            if recorder.on_cpu {
                recorder.readings.push(Reading::Host(recorder.calls[number].started, seconds));
                recorder.spans.push(RawSpan { kind: Kind::Kernel, call: Some(number), scope: SCOPE.get(), launch: None, operands: Vec::new() });
            }
        });
        Ok(())
    }
}

impl Drop for Call {
    /// It has ended with an error.
    fn drop(&mut self) {
        if self.0.is_some() && on() {
            with(|recorder| recorder.current = None);
        }
    }
}

/// A kernel is launched.
#[inline]
pub(crate) fn launch(launch: &Launch, hopper: Option<&Hopper>, run: impl FnOnce() -> Result<()>) -> Result<()> {
    if !on() || launch.groups == 0 {
        return run();
    }
    let operand = |tensor: &Tensor| RawOperand::of("", tensor, Access::Read);
    let maps = hopper.map_or(&[][..], |h| h.maps).iter().map(|map| Some(operand(map.tensor)));
    let raw = RawLaunch {
        kernel: launch.kernel,
        variant: launch.variant.to_string(),
        hopper: hopper.is_some(),
        dims: launch.dims.to_vec(),
        groups: launch.groups,
        tensors: maps.chain(launch.buffers.iter().map(|b| b.map(operand))).collect(),
    };
    timed(Kind::Kernel, Some(raw), Vec::new(), run)
}

/// Memory moves. `operands` is called only during a recording.
#[inline]
pub(crate) fn memory(kind: Kind, operands: impl FnOnce() -> Vec<RawOperand>, run: impl FnOnce() -> Result<()>) -> Result<()> {
    // Within a call it is a part of it: the call's own time has it on the CPU.
    if !on() || with(|recorder| recorder.on_cpu && recorder.current.is_some()) {
        return run();
    }
    timed(kind, None, operands(), run)
}

fn timed(kind: Kind, launch: Option<RawLaunch>, operands: Vec<RawOperand>, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let (clock, call) = with(|recorder| (recorder.clock.clone(), recorder.current));
    let reading = clock.time(kind == Kind::Kernel, run)?;
    with(|recorder| {
        recorder.readings.push(reading);
        recorder.spans.push(RawSpan { kind, call, scope: SCOPE.get(), launch, operands });
    });
    Ok(())
}

/// Says what the following launches are for, until the result is dropped.
#[must_use]
pub(crate) fn scope(phase: Phase, part: Part) -> Scope {
    Scope(on().then(|| SCOPE.replace((phase, part))))
}

/// See [`scope`].
pub(crate) struct Scope(Option<(Phase, Part)>);

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            SCOPE.set(before);
        }
    }
}

/// Says which tensor of the model this is.
pub(crate) fn name(tensor: &Tensor, name: impl FnOnce() -> String) {
    if on() {
        with(|recorder| recorder.names.insert(std::ptr::from_ref(tensor) as usize, name()));
    }
}

/// Says how many pairs of rows see each other in the batch that is loaded: what attention's work follows from.
pub(crate) fn tell_pairs(pairs: u64) {
    if on() {
        with(|recorder| recorder.pairs = Some(pairs));
    }
}

/// The pairs of a batch as [`tell_pairs`] said, or counted in `visible` where nobody did.
pub(crate) fn pairs(visible: &Tensor, keys: usize) -> u64 {
    if let Some(pairs) = with(|recorder| recorder.pairs) {
        return pairs;
    }
    let intervals = unseen(|| visible.read::<i32>()).unwrap_or_default();
    let length = |v: &[i32]| (v[1].min(keys as i32) - v[0].max(0)).max(0) as u64;
    intervals.chunks_exact(2).map(length).sum()
}

/// Ends a recording, whatever happens during it.
struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        ON.set(false);
        SCOPE.set(NOWHERE);
        RECORDER.set(None);
    }
}

pub(super) fn record<T>(device: &Device, options: Options, run: impl FnOnce() -> Result<T>) -> Result<(T, Trace)> {
    if on() {
        return Err(Error::Usage("this thread is already recording a trace: one recording cannot start inside another".into()));
    }
    let clock = std::rc::Rc::new(Clock::start(device)?);
    let recorder = Recorder {
        clock: clock.clone(),
        options,
        on_cpu: matches!(device, Device::Cpu),
        names: HashMap::new(),
        pairs: None,
        calls: Vec::new(),
        spans: Vec::with_capacity(1024),
        readings: Vec::with_capacity(1024),
        current: None,
    };
    RECORDER.set(Some(recorder));
    ON.set(true);
    let ending = Ending;
    let begin = Instant::now();
    let outcome = run();
    let waited = device.synchronize();
    let wall = begin.elapsed().as_secs_f64();
    ON.set(false);
    let recorder = RECORDER.take().expect("set above");
    // The adapter's stopwatch is stopped before anything else, whatever the run's result.
    let times = clock.resolve(begin, &recorder.readings);
    drop(ending);
    let (outcome, times) = (outcome?, waited.and(times)?);
    Ok((outcome, finish::trace(device, &clock, wall, recorder, &times)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_holds_no_other_and_ends_with_an_error_too() {
        let nested = record(&Device::Cpu, Options::default(), || record(&Device::Cpu, Options::default(), || Ok(())).map(drop));
        assert!(nested.unwrap_err().to_string().contains("recording"));
        assert!(!on());
        let (x, trace) = record(&Device::Cpu, Options::default(), || Tensor::from_slice(&Device::Cpu, [3], &[1f32, 2.0, 3.0])).unwrap();
        assert_eq!((x.len(), trace.spans.len(), trace.spans[0].kind, trace.spans[0].bytes), (3, 1, Kind::Upload, 12));
    }
}
