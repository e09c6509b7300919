//! The operations: one file each, with the same stem as its shader in `shaders/`.
//!
//! Every file reads in the same order: the formula with its backward derivation, `Dims`, the public `forward` and
//! `backward`, the CPU implementation, the GPU's launches, the cases, unit tests. Operations write into tensors that they are
//! given, check every size before they touch an element, and `match` on the device without a wildcard. Parameter
//! gradients accumulate, activation gradients overwrite.

mod call;
pub mod case;
mod field;
mod gelu;
mod hopper;
mod ladder;
mod sizes;

// An operation is a line here and one in `OPS`.
pub mod adamw;
pub mod attention;
pub mod conv1d;
pub mod conv2d;
pub mod cross_entropy;
pub mod embedding;
pub mod local_histogram;
pub mod log_mel;
pub mod matmul;
pub mod patch_embed;
pub mod primer;
pub mod qk_norm_rope;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod swiglu;

pub(crate) use call::{Call, exactly};
pub use field::{DimsField, Origin};
pub use sizes::Sizes;

use crate::device::cpu::Real;
use crate::device::{Device, View};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use case::{Case, GradientCase};

/// One operation, as everybody else sees it: checks, benchmarks, traces, the guide, whoever copies its kernels. Each says so in its file.
pub struct Op {
    /// Its name: the stem of its three files.
    pub name: &'static str,
    /// The stems of its kernel files: its name, and what else it has.
    pub files: &'static [&'static str],
    /// Its passes, in the order in which a training step runs them.
    pub passes: &'static [Pass],
    /// Its list of shapes, for the oracle test and the `check` command; those of [`Sizes::DEMO`] are among them.
    pub cases: fn() -> Vec<Case>,
    /// Its cases at the sizes of a model: every rung, forward and backward, for the benchmark.
    pub sized: fn(&Sizes) -> Vec<Case>,
    /// Its gradient checks; empty for an operation without a backward pass.
    pub gradients: fn() -> Vec<GradientCase>,
    /// Where the numbers of its `Dims` come from that are not sizes of an operand.
    pub fields: &'static [DimsField],
}

/// One pass of an operation: what a call of it is called, and which kernel shows how it is computed.
pub struct Pass {
    /// Its name: `forward`.
    pub name: &'static str,
    /// The stem of its file and the entry to read first, in CUDA and in WGSL: the naive one, or the one that all others help. Variants of
    /// it begin like this (`naive_nt`).
    pub kernel: (&'static str, &'static str),
}

/// Every operation.
pub static OPS: &[Op] = &[
    embedding::OPERATION,
    patch_embed::OPERATION,
    local_histogram::OPERATION,
    log_mel::OPERATION,
    conv1d::OPERATION,
    conv2d::OPERATION,
    matmul::OPERATION,
    rms_norm::OPERATION,
    rope::OPERATION,
    qk_norm_rope::OPERATION,
    attention::OPERATION,
    swiglu::OPERATION,
    cross_entropy::OPERATION,
    adamw::OPERATION,
    sample::OPERATION,
    primer::OPERATION,
];

/// A size as the 32-bit number that kernels count with.
pub(crate) fn size(op: &'static str, what: &str, n: usize) -> Result<u32> {
    match u32::try_from(n) {
        Ok(n) if n <= i32::MAX as u32 => Ok(n),
        _ => Err(Error::TooLarge { what: format!("{op}: {what}"), size: n as u128, limit: i32::MAX as u128 }),
    }
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

/// The operation that a kernel file belongs to, by the file's stem.
pub fn of_file(stem: &str) -> Option<&'static Op> {
    OPS.iter().find(|op| op.files.contains(&stem))
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

/// Tensors as a launch takes them; an operand that is absent is `None`.
pub(crate) fn views<'a, T: Into<Option<&'a Tensor>>, const N: usize>(tensors: [T; N]) -> [Option<View<'a>>; N] {
    tensors.map(|tensor| tensor.into().map(Tensor::view))
}

/// Tensors of zeros of the same shape, dtype and device as these.
pub(crate) fn zeros_like<const R: usize>(like: [&Tensor; R]) -> Result<[Tensor; R]> {
    let made = like.into_iter().map(|t| Tensor::zeros(t.device(), t.shape(), t.dtype())).collect::<Result<Vec<_>>>()?;
    Ok(made.try_into().expect("one for each"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops")
    }

    /// A module of this folder that is not private to it is an operation, and an operation is in the list.
    #[test]
    fn every_operation_is_in_the_list() {
        let text = fs::read_to_string(folder().join("mod.rs")).unwrap();
        let declared: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).filter(|name| *name != "case").collect();
        let mut listed: Vec<&str> = OPS.iter().map(|op| op.name).collect();
        listed.sort_unstable();
        assert_eq!(listed, declared, "`pub mod` on the one side, OPS on the other");
    }

    /// The formula, `Dims`, the public calls, the CPU, the GPU, the cases, the tests.
    #[test]
    fn every_operation_reads_in_the_same_order() {
        for op in OPS {
            let file = [format!("{}.rs", op.name), format!("{}/mod.rs", op.name)].map(|file| folder().join(file)).into_iter().find(|file| file.exists());
            let text = fs::read_to_string(file.unwrap_or_else(|| panic!("src/ops has no {}", op.name))).unwrap();
            let marks = ["//! ", "\npub struct Dims ", "\npub fn ", "\n// ── CPU", "\n// ── GPU", "\n// ── Cases", "\n#[cfg(test)]\nmod tests "];
            let found: Vec<(usize, &str)> = marks.into_iter().filter_map(|mark| text.find(mark).map(|at| (at, mark))).collect();
            assert!(found.is_sorted(), "{}: {found:?}", op.name);
            // The last two may be in a file of their own.
            let required = if folder().join(op.name).join("cases.rs").exists() { &marks[..5] } else { &marks[..] };
            let missing: Vec<_> = required.iter().filter(|mark| !text.contains(**mark)).collect();
            assert!(missing.is_empty(), "{}: no {missing:?}", op.name);
        }
    }

    /// A public call only dispatches: where a file has a CPU section, all launches stand in the GPU section behind it.
    #[test]
    fn launches_stand_behind_the_cpu() {
        let folders = [folder()].into_iter().chain(OPS.iter().map(|op| folder().join(op.name)).filter(|path| path.is_dir()));
        let mut seen = 0;
        for path in folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let text = fs::read_to_string(&path).unwrap();
            let Some(cpu) = text.find("\n// ── CPU") else { continue };
            let gpu = text.find("\n// ── GPU").unwrap_or_else(|| panic!("{}: no GPU section", path.display()));
            assert!(cpu < gpu && text.find("gpu.launch(").is_none_or(|at| at > gpu), "{}: a launch in front of the GPU section", path.display());
            seen += 1;
        }
        assert!(seen > OPS.len(), "{seen} files with a CPU section");
    }
}
