//! A call of an operation. Every operand is named once, in the order of the arguments, with what it must be and what happens to it: that is
//! checked, and told to whoever observes the thread.
//!
//! ```text
//! let call = Call::new(OP, "forward", x.device())
//!     .reads("x", x, x.shape(), dtype)?
//!     .writes("y", y, x.shape(), dtype)?
//!     .begin(|| Work::new(FLOPS * x.len()));
//! match call.device() { … }
//! call.end([&*y]);
//! ```

use crate::device::Device;
use crate::dtype::{DType, Shape};
use crate::error::{Error, Result};
use crate::observe::{self, Access, ObservedOperand, Running, Values, Work};
use crate::tensor::Tensor;

/// A call: what it reads and what it writes, while somebody observes; otherwise nothing is kept.
#[must_use]
pub(crate) struct Call {
    op: &'static str,
    pass: &'static str,
    device: Device,
    read: Vec<ObservedOperand>,
    written: Vec<ObservedOperand>,
    running: Running,
}

/// The shape that an operand must have: a shape stands for as many elements, so that `[N, H·d]` may be given as `[N, H, d]`; see [`exactly`].
pub(crate) struct ExpectedShape {
    shape: Shape,
    exactly: bool,
}

impl<S: Into<Shape>> From<S> for ExpectedShape {
    fn from(shape: S) -> ExpectedShape {
        ExpectedShape { shape: shape.into(), exactly: false }
    }
}

/// This shape and no other.
pub(crate) fn exactly(shape: impl Into<Shape>) -> ExpectedShape {
    ExpectedShape { exactly: true, ..ExpectedShape::from(shape) }
}

impl Call {
    /// A call whose tensors are all on this device.
    pub(crate) fn new(op: &'static str, pass: &'static str, device: &Device) -> Call {
        Call { op, pass, device: device.clone(), read: Vec::new(), written: Vec::new(), running: Running::NOT }
    }

    /// It reads a tensor.
    #[inline]
    pub(crate) fn reads(self, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType) -> Result<Call> {
        self.reads_some(name, tensor, shape, dtype, tensor.len())
    }

    /// It reads a tensor, if there is one.
    #[inline]
    pub(crate) fn reads_if(self, name: &'static str, tensor: Option<&Tensor>, shape: impl Into<ExpectedShape>, dtype: DType) -> Result<Call> {
        match tensor {
            Some(tensor) => self.reads(name, tensor, shape, dtype),
            None => Ok(self),
        }
    }

    /// It reads so many elements of a tensor.
    #[inline]
    pub(crate) fn reads_some(mut self, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType, elements: usize) -> Result<Call> {
        expect(self.op, name, tensor, shape.into(), dtype, &self.device)?;
        if observe::on() {
            self.read.push(operand(name, tensor, Access::Read, elements));
        }
        Ok(self)
    }

    /// It gives a tensor new contents.
    #[inline]
    pub(crate) fn writes(self, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType) -> Result<Call> {
        self.changes(Access::Write, name, tensor, shape, dtype, tensor.len())
    }

    /// It gives a tensor new contents, if there is one.
    #[inline]
    pub(crate) fn writes_if(self, name: &'static str, tensor: Option<&Tensor>, shape: impl Into<ExpectedShape>, dtype: DType) -> Result<Call> {
        match tensor {
            Some(tensor) => self.writes(name, tensor, shape, dtype),
            None => Ok(self),
        }
    }

    /// It gives so many elements of a tensor new contents; the others stay.
    #[inline]
    pub(crate) fn writes_some(self, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType, elements: usize) -> Result<Call> {
        let access = if elements >= tensor.len() { Access::Write } else { Access::Update };
        self.changes(access, name, tensor, shape, dtype, elements)
    }

    /// It adds to a tensor, or changes it in place.
    #[inline]
    pub(crate) fn updates(self, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType) -> Result<Call> {
        self.changes(Access::Update, name, tensor, shape, dtype, tensor.len())
    }

    /// It adds to a tensor where `accumulate` says so, and otherwise gives it new contents.
    #[inline]
    pub(crate) fn writes_or_adds(self, accumulate: bool, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType) -> Result<Call> {
        if accumulate { self.updates(name, tensor, shape, dtype) } else { self.writes(name, tensor, shape, dtype) }
    }

    #[inline]
    fn changes(mut self, access: Access, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType, elements: usize) -> Result<Call> {
        expect(self.op, name, tensor, shape.into(), dtype, &self.device)?;
        if observe::on() {
            self.written.push(operand(name, tensor, access, elements));
        }
        Ok(self)
    }

    /// It needs a tensor whose contents mean nothing outside: checked, and nobody is told.
    #[inline]
    pub(crate) fn takes(self, name: &'static str, tensor: &Tensor, shape: impl Into<ExpectedShape>, dtype: DType) -> Result<Call> {
        expect(self.op, name, tensor, shape.into(), dtype, &self.device)?;
        Ok(self)
    }

    /// It needs a workspace of so many elements; it may be larger.
    #[inline]
    pub(crate) fn workspace(self, workspace: &Tensor, elements: usize, dtype: DType) -> Result<Call> {
        expect_workspace(self.op, workspace, elements, dtype, &self.device)?;
        Ok(self)
    }

    /// As [`Call::workspace`], if there is one.
    #[inline]
    pub(crate) fn workspace_if(self, workspace: Option<&Tensor>, elements: usize, dtype: DType) -> Result<Call> {
        match workspace {
            Some(workspace) => self.workspace(workspace, elements, dtype),
            None => Ok(self),
        }
    }

    /// Everything is checked, and it begins. `work` is asked only while somebody observes.
    #[track_caller]
    #[inline]
    pub(crate) fn begin(mut self, work: impl FnOnce() -> Work) -> Call {
        let operands = std::mem::take(&mut self.read);
        self.running = observe::call(self.op, self.pass, || Work { operands, ..work() });
        self
    }

    /// The device of its tensors.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// It has ended, and these are the tensors that it has written, in any order: whoever observes may want to see what is in them.
    #[inline]
    pub(crate) fn end<'a>(self, tensors: impl IntoIterator<Item = &'a Tensor>) {
        let mut written = self.written;
        self.running.end(|count| {
            for tensor in tensors {
                for operand in written.iter_mut().filter(|operand| count > 0 && operand.id == tensor.id()) {
                    operand.values = values(tensor, count);
                }
            }
            written
        });
    }
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
}

/// Checks a tensor's shape, dtype and device against what the operation needs.
fn expect(op: &'static str, name: &'static str, tensor: &Tensor, expected: ExpectedShape, dtype: DType, device: &Device) -> Result<()> {
    let fits = if expected.exactly { tensor.shape().dims() == expected.shape.dims() } else { expected.shape.checked_len() == Some(tensor.len()) };
    if !fits {
        return Err(Error::mismatch(op, name, expected.shape, tensor.shape()));
    }
    expect_kind(op, name, tensor, dtype, device)
}

fn expect_kind(op: &'static str, name: &'static str, tensor: &Tensor, dtype: DType, device: &Device) -> Result<()> {
    if tensor.dtype() != dtype {
        return Err(Error::mismatch(op, name, dtype, tensor.dtype()));
    }
    if !tensor.device().same(device) {
        return Err(Error::mismatch(op, name, format!("a tensor on {device}"), format!("one on {}", tensor.device())));
    }
    Ok(())
}

/// Checks that a workspace is large enough; it may be larger.
fn expect_workspace(op: &'static str, workspace: &Tensor, elements: usize, dtype: DType, device: &Device) -> Result<()> {
    if workspace.len() < elements {
        return Err(Error::mismatch(op, "workspace", format!("at least {elements} elements"), workspace.len()));
    }
    expect_kind(op, "workspace", workspace, dtype, device)
}

fn operand(name: &'static str, tensor: &Tensor, access: Access, elements: usize) -> ObservedOperand {
    ObservedOperand { elements: elements.min(tensor.len()), ..tensor.operand(name, access) }
}

fn values(tensor: &Tensor, count: usize) -> Option<Values> {
    let all = observe::unseen(|| tensor.read_f64()).ok()?;
    let n = all.len().max(1) as f64;
    let (mean, square) = (all.iter().sum::<f64>() / n, all.iter().map(|x| x * x).sum::<f64>() / n);
    Some(Values { first: all.into_iter().take(count).collect(), mean, rms: square.sqrt() })
}

/// Pairs of rows that see each other: as [`observe::tell_pairs`] said, or counted in `visible` where nobody did.
pub(crate) fn pairs(visible: &Tensor, keys: usize) -> u64 {
    observe::pairs(visible.rows()).unwrap_or_else(|| {
        let intervals = observe::unseen(|| visible.read::<i32>()).unwrap_or_default();
        let length = |v: &[i32]| (v[1].min(keys as i32) - v[0].max(0)).max(0) as u64;
        intervals.chunks_exact(2).map(length).sum()
    })
}
