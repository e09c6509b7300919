//! The gated activation of the feed-forward block: `y = silu(gate) · up` (Shazeer 2020, arXiv 2002.05202).
//!
//! `silu(g) = g · σ(g)`, `σ(g) = 1 / (1 + e⁻ᵍ)`.
//!
//! Backward: `σ' = σ · (1 − σ)`, hence `silu' = σ · (1 + g · (1 − σ))` and
//! `dgate = dy · up · σ · (1 + gate · (1 − σ))`, `dup = dy · gate · σ`.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::{Call, Op, Pass, Sizes, activation, on_real, size, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Launch, View, variant};
use crate::error::Result;
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;

const OP: &str = "swiglu";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "forward", kernel: (OP, "forward") }, Pass { name: "backward", kernel: (OP, "backward") }],
    cases,
    sized,
    gradients,
    fields: &[],
};
/// Floating-point operations per element, forward and backward.
const FLOPS: [usize; 2] = [6, 12];
/// Elements that one CPU task takes.
const TASK: usize = 16_384;

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    n: u32,
    padding: [u32; 3],
}

impl Dims {
    fn new(gate: &Tensor) -> Result<Self> {
        Ok(Dims { n: size(OP, "elements", gate.len())?, padding: [0; 3] })
    }
}

/// `y = silu(gate) · up`, element by element.
///
/// Shapes: `gate`, `up`, `y`: `[N, F]`, or anything of the same number of elements. dtype f32 (f64 on the CPU, bf16 where the
/// device has it).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::swiglu;
///
/// let gate = Tensor::from_slice(&Device::Cpu, [1, 3], &[0f32, 20.0, -100.0])?; // [N, F]
/// let up = Tensor::from_slice(&Device::Cpu, [1, 3], &[5f32, 2.0, 1.0])?;
/// let mut y = Tensor::zeros(&Device::Cpu, [1, 3], DType::F32)?;
/// swiglu::forward(&gate, &up, &mut y)?;
/// assert_eq!(y.read::<f32>()?, [0.0, 40.0, 0.0]); // σ(20) is 1 in f32, and σ(−100) is 0
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) where a length, dtype or device does not fit.
pub fn forward(gate: &Tensor, up: &Tensor, y: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "gate", gate)?;
    let dims = Dims::new(gate)?;
    let call = Call::new(OP, "forward", gate.device())
        .reads("gate", gate, gate.shape(), dtype)?
        .reads("up", up, gate.shape(), dtype)?
        .writes("y", y, gate.shape(), dtype)?
        .begin(|| Work::new(FLOPS[0] * gate.len()));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(gate, up, y)),
        Device::Gpu(gpu) => launch(gpu, "forward", dtype, dims, &views([gate, up, y]))?,
    }
    call.end([&*y]);
    Ok(())
}

/// The gradients: `dgate` and `dup` are overwritten.
///
/// Shapes: all as `gate`, which with `up` is what forward read. dtype as for [`forward`].
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) where a length, dtype or device does not fit.
pub fn backward(gate: &Tensor, up: &Tensor, dy: &Tensor, dgate: &mut Tensor, dup: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "gate", gate)?;
    let dims = Dims::new(gate)?;
    let call = Call::new(OP, "backward", gate.device())
        .reads("gate", gate, gate.shape(), dtype)?
        .reads("up", up, gate.shape(), dtype)?
        .reads("dy", dy, gate.shape(), dtype)?
        .writes("dgate", dgate, gate.shape(), dtype)?
        .writes("dup", dup, gate.shape(), dtype)?
        .begin(|| Work::new(FLOPS[1] * gate.len()));
    match call.device() {
        Device::Cpu => on_real!(dtype, backward_cpu::<T>(gate, up, dy, dgate, dup)),
        Device::Gpu(gpu) => launch(gpu, "backward", dtype, dims, &views([gate, up, dy, dgate, dup]))?,
    }
    call.end([&*dgate, &*dup]);
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn forward_cpu<T: Real>(gate: &Tensor, up: &Tensor, y: &mut Tensor) {
    let given = gate.cpu::<T>().par_chunks(TASK).zip(up.cpu::<T>().par_chunks(TASK));
    y.cpu_mut::<T>().par_chunks_mut(TASK).zip(given).for_each(|(y, (gate, up))| gated(gate, up, y));
}

#[multiversion(targets = "simd")]
fn gated<T: Real>(gate: &[T], up: &[T], y: &mut [T]) {
    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
        *y = g * sigmoid(g) * u;
    }
}

fn backward_cpu<T: Real>(gate: &Tensor, up: &Tensor, dy: &Tensor, dgate: &mut Tensor, dup: &mut Tensor) {
    let given = gate.cpu::<T>().par_chunks(TASK).zip(up.cpu::<T>().par_chunks(TASK)).zip(dy.cpu::<T>().par_chunks(TASK));
    let made = dgate.cpu_mut::<T>().par_chunks_mut(TASK).zip(dup.cpu_mut::<T>().par_chunks_mut(TASK));
    made.zip(given).for_each(|((dgate, dup), ((gate, up), dy))| gated_backward(gate, up, dy, dgate, dup));
}

#[multiversion(targets = "simd")]
fn gated_backward<T: Real>(gate: &[T], up: &[T], dy: &[T], dgate: &mut [T], dup: &mut [T]) {
    for ((((dgate, dup), &g), &u), &d) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
        let s = sigmoid(g);
        *dgate = d * u * s * (T::one() + g * (T::one() - s));
        *dup = d * g * s;
    }
}

/// `1 / (1 + e⁻ᵍ)`: 0 where `e⁻ᵍ` overflows.
#[inline(always)]
fn sigmoid<T: Real>(g: T) -> T {
    T::one() / (T::one() + (-g).fast_exp())
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch(gpu: &Gpu, entry: &'static str, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let groups = (dims.n as usize).div_ceil(256 * gpu.elements_per_access(dtype));
    gpu.launch(Launch { kernel: (OP, entry), constants: &[], buffers, variant: variant(dtype), dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[rustfmt::skip]
const LENGTHS: &[usize] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 176, 255, 256, 257, 511, 512, 513, 1021, 1022,
    1023, 1024, 1025, 1026, 1027, 2047, 2048, 2049, 4093, 4096, 4099, 10_007, 16_383, 16_384, 16_385, 32_771, 65_537, 100_003,
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &n in LENGTHS {
        add_cases(&mut cases, n, 1, 2.0);
    }
    add_cases(&mut cases, 33, 65, 4.0);
    // σ saturates at both ends and e⁻ᵍ overflows; nothing may become NaN.
    add_cases(&mut cases, 7, 129, 100.0);
    add_cases(&mut cases, 3, 31, 3000.0);
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The cases at a model's sizes.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let mut cases = Vec::new();
    add_cases(&mut cases, s.rows, s.feed_forward, 1.5);
    cases
}

fn add_cases(cases: &mut Vec<Case>, rows: usize, columns: usize, deviation: f64) {
    let label = format!("N={rows} F={columns}{}", if deviation > 2.0 { format!(" gate·{deviation}") } else { String::new() });
    let mut draw = Draw::new(&label);
    let mut inputs = vec![draw.normals("gate", [rows, columns], deviation).mixed(), draw.normals("up", [rows, columns], 1.0).mixed()];
    let outputs = vec![Output::overwritten("y", [rows, columns], Kind::Mixed)];
    let copies: Vec<Operand> = inputs.clone();
    // WGSL: eˣ within 3 + 2·|x| ulp, a division within 2.5.
    let case = Case::new("forward", &label, copies, outputs, Compare::Reduction(6.0), |i, o| forward(&i[0], &i[1], &mut o[0])).naive(|i, o| {
        on_real!(i[0].dtype(), naive_forward::<T>(i, o));
        Ok(())
    });
    cases.push(case.flops((FLOPS[0] * rows * columns) as u64));
    inputs.push(draw.normals("dy", [rows, columns], 1.0).mixed());
    let outputs = vec![Output::overwritten("dgate", [rows, columns], Kind::Mixed), Output::overwritten("dup", [rows, columns], Kind::Mixed)];
    let case = Case::new("backward", &label, inputs, outputs, Compare::Reduction(6.0), |i, o| {
        let [dgate, dup] = o else { unreachable!("two outputs") };
        backward(&i[0], &i[1], &i[2], dgate, dup)
    })
    .naive(|i, o| {
        on_real!(i[0].dtype(), naive_backward::<T>(i, o));
        Ok(())
    });
    cases.push(case.flops((FLOPS[1] * rows * columns) as u64));
}

fn naive_forward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let [gate, up] = [0, 1].map(|i| inputs[i].cpu::<T>());
    for i in 0..gate.len() {
        outputs[0].cpu_mut::<T>()[i] = gate[i] / (T::one() + (-gate[i]).exp()) * up[i];
    }
}

fn naive_backward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let [gate, up, dy] = [0, 1, 2].map(|i| inputs[i].cpu::<T>());
    for i in 0..gate.len() {
        let s = T::one() / (T::one() + (-gate[i]).exp());
        outputs[0].cpu_mut::<T>()[i] = dy[i] * up[i] * s * (T::one() + gate[i] * (T::one() - s));
        outputs[1].cpu_mut::<T>()[i] = dy[i] * gate[i] * s;
    }
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1), (3, 5), (2, 8)]
        .into_iter()
        .map(|(rows, columns)| {
            let label = format!("N={rows} F={columns}");
            let mut draw = Draw::new(&label);
            GradientCase {
                inputs: vec![draw.normals("gate", [rows, columns], 1.5), draw.normals("up", [rows, columns], 1.0)],
                wrt: vec![0, 1],
                label,
                forward: Box::new(|i| {
                    let [mut y] = super::zeros_like([&i[0]])?;
                    forward(&i[0], &i[1], &mut y)?;
                    Ok(vec![y])
                }),
                backward: Box::new(|i, d| {
                    let [mut dgate, mut dup] = super::zeros_like([&i[0], &i[1]])?;
                    backward(&i[0], &i[1], &d[0], &mut dgate, &mut dup)?;
                    Ok(vec![dgate, dup])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op};

    #[test]
    fn known_values() {
        // torch.nn.functional.silu(gate) * up and its autograd gradients in float64.
        let gate = Tensor::from_slice(&Device::Cpu, [3], &[0f64, 1.0, -2.0]).unwrap();
        let up = Tensor::from_slice(&Device::Cpu, [3], &[5f64, 2.0, 3.0]).unwrap();
        let dy = Tensor::from_slice(&Device::Cpu, [3], &[1f64; 3]).unwrap();
        let mut out = [(); 3].map(|_| Tensor::zeros(&Device::Cpu, [3], DType::F64).unwrap());
        let [y, dgate, dup] = &mut out;
        forward(&gate, &up, y).unwrap();
        backward(&gate, &up, &dy, dgate, dup).unwrap();
        let expected = [
            [0.0, 1.462_117_157_260_009_8, -0.715_217_532_132_705_2],
            [2.5, 1.855_341_023_742_973_7, -0.272_352_746_354_686_37],
            [0.0, 0.731_058_578_630_004_9, -0.238_405_844_044_235_1],
        ];
        for (found, expected) in out.iter().zip(expected) {
            for (f, e) in found.read::<f64>().unwrap().iter().zip(expected) {
                assert!((f - e).abs() < 1e-12, "{f} {e}");
            }
        }
    }

    #[test]
    fn lengths_must_agree() {
        let gate = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32).unwrap();
        let up = Tensor::zeros(&Device::Cpu, [2, 4], DType::F32).unwrap();
        let mut y = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32).unwrap();
        assert_eq!(forward(&gate, &up, &mut y).unwrap_err().to_string(), "swiglu: up: expected [2, 3], found [2, 4]");
    }

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        assert_drawn(8, (0usize..40, 1usize..200, 0.1f64..8.0), |(rows, columns, deviation)| {
            let mut cases = Vec::new();
            add_cases(&mut cases, rows, columns, deviation);
            cases
        });
    }
}
