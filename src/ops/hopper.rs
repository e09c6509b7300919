//! When an operation chooses its kernels in `kernels/hopper/` automatically.
//!
//! They run on GPUs of compute capability 9.0 and on nothing else. Before an operation first relies on them, it runs a few small
//! products whose results are known: a driver or a GPU that gets them wrong uses the portable kernels, and a line says so.
//! `TRIMODAL_HOPPER=off` switches them off. The emulator has them too, but only where a case asks for them: it is there to check
//! kernels, and the portable ones are those that most people run.

use super::case::Draw;
use crate::device::{Device, Gpu};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Whether `op` may take its Hopper kernels on this GPU. `test` runs once per GPU and operation: an error is a wrong result.
pub(super) fn takes(gpu: &Gpu, op: &'static str, test: impl FnOnce(&Device) -> Result<()>) -> bool {
    match gpu {
        #[cfg(feature = "wgpu")]
        Gpu::Wgpu(_) => false,
        #[cfg(feature = "cuda")]
        Gpu::Cuda(context) => gpu.has_hopper() && context.trusts(op, || test(&Device::Gpu(gpu.clone()))),
        #[cfg(feature = "emulator")]
        Gpu::Emulator(_) => false,
        Gpu::Dry(_) => false,
    }
}

/// Why a case of the Hopper kernels cannot run on a device, if so.
pub(super) fn absent(device: &Device) -> Option<String> {
    match device {
        Device::Gpu(gpu) if gpu.has_hopper() => None,
        _ => Some("kernels/hopper/ runs on GPUs of compute capability 9.0 and on the emulator".into()),
    }
}

/// What [`takes`] tests with: the same values in bf16 on the device and on the CPU, where they are f32 so that it computes with them.
pub(super) fn twin(device: &Device, draw: &mut Draw, shape: &[usize], integers: bool) -> Result<(Tensor, Tensor)> {
    let values = if integers { draw.integers("x", shape, 8) } else { draw.normals("x", shape, 1.0) }.values;
    let rounded: Vec<f64> = values.iter().map(|&x| half::bf16::from_f64(x).to_f64()).collect();
    Ok((Tensor::from_f64(device, shape, DType::Bf16, &rounded)?, Tensor::from_f64(&Device::Cpu, shape, DType::F32, &rounded)?))
}

/// An error if an element of `found` is further from `expected` than `tolerance`, or is not a number.
pub(super) fn compare(op: &'static str, what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
    let (found, expected) = (found.read_f64()?, expected.read_f64()?);
    match found.iter().zip(&expected).position(|(f, e)| (f - e).abs().partial_cmp(&tolerance).is_none_or(|o| o.is_gt())) {
        None => Ok(()),
        Some(i) => Err(Error::Device { device: op.into(), what: format!("{what}: element {i}: expected {}, found {}", expected[i], found[i]) }),
    }
}
