//! What operations, launches and tensors tell whoever observes this thread: plain data, and where to send it.
//!
//! Nobody observes as a rule, and then every hook is one test of a flag. [`crate::trace`] is the observer that this crate has: it makes a
//! [`Trace`](crate::trace::Trace) of a training step. Operations, tensors and devices know nothing of it but [`Observer`].

use crate::dtype::{DType, Shape};
use crate::error::Result;
use serde::{Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static SCOPE: Cell<(Phase, ModelPart)> = const { Cell::new(NOWHERE) };
    static OBSERVER: RefCell<Option<Rc<dyn Observer>>> = const { RefCell::new(None) };
}

const NOWHERE: (Phase, ModelPart) = (Phase::Other, ModelPart::Whole);

/// Which tensor something is about: a number that no other tensor of this process has. (An address would come back: another tensor gets
/// the memory of one that was freed.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TensorId(pub(crate) u64);

impl TensorId {
    /// The next number.
    pub(crate) fn next() -> TensorId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        TensorId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The part of a step that something belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The batch's way to the device.
    Load,
    /// The sums of the last step become zero.
    Clear,
    /// From pixels, frames and words to the last hidden state.
    Forward,
    /// A layer's forward pass once more, where its activations were not kept.
    Recompute,
    /// Logits and cross-entropy.
    Loss,
    /// The gradients.
    Backward,
    /// The gradients' norm and AdamW.
    Update,
    /// The loss and the norm on their way to the host.
    Report,
    /// What is not part of a training step.
    Other,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Phase::Load => "load",
            Phase::Clear => "clear",
            Phase::Forward => "forward",
            Phase::Recompute => "recompute",
            Phase::Loss => "loss",
            Phase::Backward => "backward",
            Phase::Update => "update",
            Phase::Report => "report",
            Phase::Other => "other",
        })
    }
}

/// The part of the model that something belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ModelPart {
    /// What makes the rows of the token matrix: the embedding table, the patch embedding, the convolutions over the sound.
    Rows,
    /// A decoder layer, from 0. The norm of what leaves it belongs to it.
    Layer(usize),
    /// The output layer, and the last norm's gradient.
    Output,
    /// All of it.
    Whole,
}

impl fmt::Display for ModelPart {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            ModelPart::Rows => f.write_str("rows"),
            ModelPart::Layer(i) => write!(f, "layer {i}"),
            ModelPart::Output => f.write_str("output"),
            ModelPart::Whole => f.write_str("whole model"),
        }
    }
}

impl Serialize for ModelPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a span is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    /// A kernel launch; on the CPU a call of an operation.
    Kernel,
    /// A tensor becomes zero.
    Clear,
    /// A tensor becomes a copy of another one.
    Copy,
    /// From the host to the device.
    Upload,
    /// From the device to the host, which waits for everything before it.
    Download,
}

/// What happens to a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It is read.
    Read,
    /// It gets new contents.
    Write,
    /// It is read and written: accumulated to, updated, or written in part.
    Update,
}

/// A few numbers of a tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Values {
    /// The first ones.
    pub first: Vec<f64>,
    /// The mean of all.
    pub mean: f64,
    /// The root of the mean of the squares of all.
    pub rms: f64,
}

/// A tensor as it was when something read or wrote it.
#[derive(Clone)]
pub(crate) struct ObservedOperand {
    /// Its name in the operation's contract: `x`, `dweight`.
    pub(crate) name: &'static str,
    pub(crate) id: TensorId,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    /// Elements that are really touched.
    pub(crate) elements: usize,
    pub(crate) access: Access,
    /// What then stood in it, where the observer wants that and it was written.
    pub(crate) values: Option<Values>,
}

/// What a call of an operation stands for, by its contract.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) flops: u64,
    /// Whether these are part of a matrix product.
    pub(crate) product: bool,
    /// What of it the launches are whose entries begin like this; the others share the rest.
    pub(crate) launches: Vec<(&'static str, u64)>,
    pub(crate) operands: Vec<ObservedOperand>,
}

/// A call of an operation that begins.
pub(crate) struct CallRecord {
    pub(crate) op: &'static str,
    pub(crate) pass: &'static str,
    pub(crate) place: &'static Location<'static>,
    pub(crate) work: Work,
}

/// What of a kernel launch outlives it.
pub(crate) struct Launched {
    pub(crate) kernel: (&'static str, &'static str),
    pub(crate) variant: String,
    pub(crate) hopper: bool,
    pub(crate) dims: Vec<u8>,
    pub(crate) groups: usize,
    /// In the order of the contract: tensor maps, then buffers.
    pub(crate) tensors: Vec<Option<ObservedOperand>>,
}

/// Something that takes time: a launch, or a movement of memory.
pub(crate) struct Event {
    pub(crate) kind: SpanKind,
    pub(crate) scope: (Phase, ModelPart),
    /// Of a kernel on a GPU.
    pub(crate) launch: Option<Launched>,
    /// Of a movement of memory.
    pub(crate) operands: Vec<ObservedOperand>,
}

/// Whoever is told.
pub(crate) trait Observer {
    /// So many numbers of everything that is written are wanted; 0: none.
    fn values(&self) -> usize;
    /// A call of an operation begins; its number.
    fn call(&self, call: CallRecord) -> usize;
    /// It ended then, and has written this.
    fn call_ended(&self, number: usize, scope: (Phase, ModelPart), ended: Instant, written: Vec<ObservedOperand>);
    /// It has ended with an error.
    fn call_failed(&self, number: usize);
    /// Something runs that takes time: `run` is called once.
    fn event(&self, event: Event, run: &mut dyn FnMut() -> Result<()>) -> Result<()>;
    /// A tensor of the model has a name.
    fn name(&self, tensor: TensorId, name: String);
    /// How many rows look at others in the batch that is loaded, and in how many pairs with them: in a layer, and in the last.
    fn tell_pairs(&self, pairs: [(usize, u64); 2]);
    /// What [`Observer::tell_pairs`] said last of so many rows.
    fn pairs(&self, rows: usize) -> Option<u64>;
}

/// Observes this thread until the result is dropped; `None` where somebody does already.
pub(crate) fn observe(observer: Rc<dyn Observer>) -> Option<Observing> {
    if on() {
        return None;
    }
    OBSERVER.set(Some(observer));
    ON.set(true);
    Some(Observing(()))
}

/// See [`observe`].
pub(crate) struct Observing(());

impl Drop for Observing {
    fn drop(&mut self) {
        ON.set(false);
        SCOPE.set(NOWHERE);
        OBSERVER.set(None);
    }
}

/// Whether somebody observes this thread.
#[inline]
pub(crate) fn on() -> bool {
    ON.get()
}

fn observer() -> Rc<dyn Observer> {
    OBSERVER.with_borrow(|observer| observer.clone().expect("the flag says that there is one"))
}

/// Runs something unseen.
pub(crate) fn unseen<T>(run: impl FnOnce() -> T) -> T {
    let was = ON.replace(false);
    let result = run();
    ON.set(was);
    result
}

/// A call that is running.
pub(crate) struct Running(Option<usize>);

/// An operation begins. `work` is asked only while somebody observes.
#[track_caller]
#[inline]
pub(crate) fn call(op: &'static str, pass: &'static str, work: impl FnOnce() -> Work) -> Running {
    if !on() {
        return Running::NOT;
    }
    let place = Location::caller();
    let work = work();
    Running(Some(observer().call(CallRecord { op, pass, place, work })))
}

impl Running {
    /// No call, or one that nobody observes.
    pub(crate) const NOT: Running = Running(None);

    /// It has ended. `written` is asked only while somebody observes, for what was written, with so many of its numbers.
    #[inline]
    pub(crate) fn end(mut self, written: impl FnOnce(usize) -> Vec<ObservedOperand>) {
        let Some(number) = self.0.take() else { return };
        let ended = Instant::now();
        let observer = observer();
        // Reading what was written is not part of the call's time.
        let written = written(observer.values());
        observer.call_ended(number, SCOPE.get(), ended, written);
    }
}

impl Drop for Running {
    /// It has ended with an error.
    fn drop(&mut self) {
        if let Some(number) = self.0.filter(|_| on()) {
            observer().call_failed(number);
        }
    }
}

/// A kernel is launched. `launched` is asked only while somebody observes.
#[inline]
pub(crate) fn launch(launched: impl FnOnce() -> Launched, run: impl FnOnce() -> Result<()>) -> Result<()> {
    if !on() {
        return run();
    }
    event(SpanKind::Kernel, Some(launched()), Vec::new(), run)
}

/// Memory moves. `operands` is asked only while somebody observes.
#[inline]
pub(crate) fn memory(kind: SpanKind, operands: impl FnOnce() -> Vec<ObservedOperand>, run: impl FnOnce() -> Result<()>) -> Result<()> {
    if !on() {
        return run();
    }
    event(kind, None, operands(), run)
}

fn event(kind: SpanKind, launch: Option<Launched>, operands: Vec<ObservedOperand>, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut run = Some(run);
    observer().event(Event { kind, scope: SCOPE.get(), launch, operands }, &mut || run.take().map_or(Ok(()), |run| run()))
}

/// Says what the following launches are for, until the result is dropped.
#[must_use]
pub(crate) fn scope(phase: Phase, part: ModelPart) -> Scope {
    Scope(on().then(|| SCOPE.replace((phase, part))))
}

/// See [`scope`].
pub(crate) struct Scope(Option<(Phase, ModelPart)>);

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            SCOPE.set(before);
        }
    }
}

/// Says which tensor of the model this is.
pub(crate) fn name(tensor: TensorId, name: impl FnOnce() -> String) {
    if on() {
        observer().name(tensor, name());
    }
}

/// Says how many rows look at others in the batch that is loaded, and in how many pairs with them, in a layer and in the last: what
/// attention's work follows from.
pub(crate) fn tell_pairs(pairs: [(usize, u64); 2]) {
    if on() {
        observer().tell_pairs(pairs);
    }
}

/// What [`tell_pairs`] said of so many rows, if somebody did.
pub(crate) fn pairs(rows: usize) -> Option<u64> {
    if on() { observer().pairs(rows) } else { None }
}

/// What the name of a gradient begins with.
pub(crate) const GRADIENT: &str = "the gradient of ";
