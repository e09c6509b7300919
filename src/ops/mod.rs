//! The operations: one file each, with the same stem as its shader in `shaders/`.
//!
//! Every file reads in the same order: the formula with its backward derivation, `Dims`, the public `forward` and
//! `backward`, the CPU implementation, the launchers, the cases, unit tests. Operations write into tensors that they are
//! given, check every size before they touch an element, and `match` on the device without a wildcard. Parameter
//! gradients accumulate, activation gradients overwrite.

mod call;
pub mod case;
mod hopper;
mod ladder;
mod sizes;

pub use sizes::Sizes;

use crate::device::cpu::Real;
use crate::device::{Device, View};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};
use case::{Case, GradientCase};

/// One operation, as the checks and benchmarks see it.
pub struct Op {
    /// Its name: the stem of its three files.
    pub name: &'static str,
    /// Its list of shapes, for the oracle test and the `check` command; those of [`Sizes::DEMO`] are among them.
    pub cases: fn() -> Vec<Case>,
    /// Its cases at the sizes of a model: every rung, forward and backward, for the benchmark.
    pub sized: fn(&Sizes) -> Vec<Case>,
    /// Its gradient checks; empty for an operation without a backward pass.
    pub gradients: fn() -> Vec<GradientCase>,
}

/// The one place where an operation is registered: a line here is its module and its row in [`OPS`].
macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $($(#[$doc])* pub mod $name;)*
        /// Every operation.
        pub static OPS: &[Op] = &[$(Op { name: stringify!($name), cases: $name::cases, sized: $name::sized, gradients: $name::gradients }),*];
    };
}

ops! {
    embedding,
    patch_embed,
    log_mel,
    conv1d,
    matmul,
    rms_norm,
    rope,
    qk_norm_rope,
    attention,
    swiglu,
    cross_entropy,
    adamw,
    sample,
}

/// The last argument of every WGSL kernel and the only scalar argument: `repr(C)`, a multiple of 16 bytes.
pub(crate) fn dims_bytes<T: bytemuck::Pod>(dims: &T) -> &[u8] {
    bytemuck::bytes_of(dims)
}

/// A size as the 32-bit number that kernels count with.
pub(crate) fn size(op: &'static str, what: &str, n: usize) -> Result<u32> {
    match u32::try_from(n) {
        Ok(n) if n <= i32::MAX as u32 => Ok(n),
        _ => Err(Error::TooLarge { what: format!("{op}: {what}"), size: n as u128, limit: i32::MAX as u128 }),
    }
}

/// Checks a tensor's shape, dtype and device against what the operation needs.
pub(crate) fn expect(op: &'static str, name: &'static str, tensor: &Tensor, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<()> {
    let shape = shape.into();
    if tensor.shape().dims() != shape.dims() {
        return Err(Error::mismatch(op, name, shape, tensor.shape()));
    }
    expect_kind(op, name, tensor, dtype, device)
}

/// As [`expect`], where only the number of elements matters: `[N, H·d]` may be given as `[N, H, d]`.
pub(crate) fn expect_len(op: &'static str, name: &'static str, tensor: &Tensor, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<()> {
    let shape = shape.into();
    if shape.checked_len() != Some(tensor.len()) {
        return Err(Error::mismatch(op, name, shape, tensor.shape()));
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

/// The float type an operation computes in: f32 everywhere, f64 on the CPU only.
pub(crate) fn real(op: &'static str, name: &'static str, tensor: &Tensor) -> Result<DType> {
    match tensor.dtype() {
        DType::F32 => Ok(DType::F32),
        DType::F64 if matches!(tensor.device(), Device::Cpu) => Ok(DType::F64),
        other => Err(Error::mismatch(op, name, "f32 (or f64 on the CPU)", other)),
    }
}

/// The type of an operation's activations and weights: what [`real`] admits, and bf16 where the device has it.
pub(crate) fn activation(op: &'static str, name: &'static str, tensor: &Tensor) -> Result<DType> {
    match tensor.dtype() {
        DType::Bf16 if tensor.device().has_bf16() => Ok(DType::Bf16),
        _ => real(op, name, tensor),
    }
}

/// The type of statistics, sums and parameter gradients beside activations of this type.
pub(crate) fn statistic(activation: DType) -> DType {
    if activation == DType::Bf16 { DType::F32 } else { activation }
}

/// Calls a CPU kernel that is generic over [`Real`] with the type that `dtype` names.
macro_rules! on_real {
    ($dtype:expr, $call:ident :: <T> ($($arg:expr),* $(,)?)) => {
        match $dtype {
            crate::tensor::DType::F64 => $call::<f64>($($arg),*),
            _ => $call::<f32>($($arg),*), // `real` admits nothing else
        }
    };
}
pub(crate) use on_real;

/// The operation of this name, or all of them.
///
/// # Errors
/// [`Error::Usage`] with the known names.
pub fn named(only: Option<&str>) -> Result<Vec<&'static Op>> {
    let ops: Vec<&Op> = OPS.iter().filter(|op| only.is_none_or(|only| only == op.name)).collect();
    if ops.is_empty() { Err(unknown(only.unwrap_or_default(), None)) } else { Ok(ops) }
}

/// The error for a name that no operation has; `also`: what else is allowed.
pub(crate) fn unknown(op: &str, also: Option<&str>) -> Error {
    let names: Vec<&str> = OPS.iter().map(|op| op.name).chain(also).collect();
    Error::Usage(format!("unknown operation {op:?}: expected one of {}", names.join(", ")))
}

/// Rows that one CPU task takes: enough that splitting costs nothing, and a function of the shape alone, so that sums
/// over tasks have the same order on every run and for any number of threads.
pub(crate) fn rows_per_task(row_len: usize) -> usize {
    (16_384 / row_len.max(1)).max(1)
}

/// `Σ terms` in T, in order: what a plain loop computes.
pub(crate) fn sum<T: Real>(terms: impl Iterator<Item = T>) -> T {
    terms.fold(T::zero(), |a, b| a + b)
}

/// Checks that a workspace is large enough; it may be larger.
pub(crate) fn expect_workspace(op: &'static str, workspace: &Tensor, needed: usize, dtype: DType, device: &Device) -> Result<()> {
    if workspace.len() < needed {
        return Err(Error::mismatch(op, "workspace", format!("at least {needed} elements"), workspace.len()));
    }
    expect_kind(op, "workspace", workspace, dtype, device)
}

/// Tensors as a launch takes them.
pub(crate) fn views<const N: usize>(tensors: [Option<&Tensor>; N]) -> [Option<View<'_>>; N] {
    tensors.map(|tensor| tensor.map(Tensor::view))
}

/// Tensors of zeros of the same shape, dtype and device as these.
pub(crate) fn zeros_like<const R: usize>(like: [&Tensor; R]) -> Result<[Tensor; R]> {
    let made = like.into_iter().map(|t| Tensor::zeros(t.device(), t.shape(), t.dtype())).collect::<Result<Vec<_>>>()?;
    Ok(made.try_into().expect("one for each"))
}
