//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), exactly as `torch.optim.AdamW`, with
//! the clipping of `torch.nn.utils.clip_grad_norm_` in the same pass.
//!
//! At step `t`, counted from 1:
//!
//! ```text
//! g ← g · min(1, max_norm / (norm + 10⁻⁶))        only if max_norm > 0
//! p ← p · (1 − lr · weight_decay)
//! m ← m + (g − m) · (1 − β₁)
//! v ← β₂ · v + (1 − β₂) · g²
//! p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
//! ```
//!
//! `norm = √ Σ g²` over every gradient of the model comes from [`global_norm`] and stays on the device. The coefficients are
//! computed in f64 on the host, rounded to f32 and read by the kernels from memory: they change from step to step, and a CUDA
//! graph that replays a step's launches keeps their arguments. There is no backward pass.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::{Call, Op, Pass, Sizes, on_real, real, size, sum, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Launch, View};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use half::bf16;
use multiversion::multiversion;
use rayon::prelude::*;

const OP: &str = "adamw";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "global_norm", kernel: (OP, "global_norm") }, Pass { name: "update", kernel: (OP, "update") }],
    cases,
    sized,
    gradients,
    fields: FIELDS,
};
/// Floating-point operations per element, of the update and of the norm.
const FLOPS: usize = 14;
const NORM_FLOPS: usize = 2;

/// Elements whose squares make one partial sum.
const CHUNK: usize = 4096;
/// A tensor with fewer elements than this is finished before other threads would have woken up.
const PARALLEL: usize = 65_536;
/// Elements that one CPU task takes of a tensor that is larger.
const TASK: usize = 16_384;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::option("has_copy", "1 where update also writes copy, the weights in bf16; else 0"),
    DimsField::option("has_loss", "1 where a loss that is not finite stops the update; else 0"),
    DimsField::option("decayed", "0 to n: so many elements from the first on decay; n: all of them"),
    DimsField::option("offset", "of squares: the partial sums of the gradients before this one, ceil_div(n, 4096) for each; 0 elsewhere"),
];

/// The sizes of one launch, as the kernels read them; the sums of [`global_norm`] need only `n` and `offset`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    n: u32,
    has_copy: u32,
    has_loss: u32,
    decayed: u32,
    offset: u32,
    padding: [u32; 3],
}

/// The settings of one step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, per unit of learning rate.
    pub weight_decay: f64,
    /// The norm that all gradients together are clipped to; 0: not at all.
    pub max_norm: f64,
    /// The number of this step, counted from 1.
    pub step: usize,
}

/// Numbers that one step's coefficients are.
pub const COEFFICIENTS: usize = 8;

impl Hyper {
    /// What [`update`] reads from memory, each number one of f32: the decay's factor, 1 − β₁, β₂, 1 − β₂, the step size, the
    /// correction of the second moment, eps and the norm to clip to.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for step 0.
    pub fn coefficients(&self) -> Result<[f64; COEFFICIENTS]> {
        if self.step == 0 {
            return Err(Error::mismatch(OP, "step", "a number from 1", 0));
        }
        let step = self.step as f64;
        let coefficients = [
            1.0 - self.lr * self.weight_decay,
            1.0 - self.beta1,
            self.beta2,
            1.0 - self.beta2,
            self.lr / (1.0 - self.beta1.powf(step)),
            (1.0 - self.beta2.powf(step)).sqrt(),
            self.eps,
            self.max_norm,
        ];
        Ok(coefficients.map(|c| c as f32 as f64))
    }
}

/// Elements of workspace that [`global_norm`] needs for gradients of these lengths.
pub fn workspace(lens: &[usize]) -> usize {
    lens.iter().fold(0, |sum: usize, len| sum.saturating_add(len.div_ceil(CHUNK)))
}

/// `norm = √ Σ g²` over all elements of all gradients.
///
/// Shapes: `grads` of any shape, `norm [1]`, overwritten. `workspace` has at least [`workspace`] elements; its contents do not
/// matter before or after. dtype f32 (f64 on the CPU), also in mixed precision.
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::adamw;
///
/// let [a, b] = [3f32, 4.0].map(|g| Tensor::from_slice(&Device::Cpu, [1], &[g]).unwrap());
/// let mut norm = Tensor::zeros(&Device::Cpu, [1], DType::F32)?;
/// let mut workspace = Tensor::zeros(&Device::Cpu, [adamw::workspace(&[1, 1])], DType::F32)?;
/// adamw::global_norm(&[&a, &b], &mut norm, &mut workspace)?;
/// assert_eq!(norm.read::<f32>()?, [5.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn global_norm(grads: &[&Tensor], norm: &mut Tensor, workspace: &mut Tensor) -> Result<()> {
    let dtype = real(OP, "norm", norm)?;
    let mut call = Call::new(OP, "global_norm", norm.device()).writes("norm", norm, [1], dtype)?;
    for grad in grads {
        call = call.takes("grads", grad, grad.shape(), dtype)?.reads("grad", grad, grad.shape(), dtype)?;
    }
    let needed = grads.iter().map(|grad| grad.len().div_ceil(CHUNK)).sum();
    let call = call
        .workspace(workspace, needed, dtype)?
        .begin(|| Work::new(NORM_FLOPS * grads.iter().map(|grad| grad.len()).sum::<usize>()).of_launch("global_norm", 0));
    match call.device() {
        Device::Cpu => on_real!(dtype, global_norm_cpu::<T>(grads, norm, workspace)),
        Device::Gpu(gpu) => launch_global_norm(gpu, grads, norm, workspace)?,
    }
    call.end([&*norm]);
    Ok(())
}

/// One step of one parameter tensor.
///
/// Shapes: `p` (the weights), `m` and `v` (the moments; zeros before the first step) are updated, `g` (the gradient) is read; all
/// of the same length. The first `decayed` elements decay. `coefficients` as [`Hyper::coefficients`] gives them. `norm [1]` comes
/// from [`global_norm`] and is read only if `max_norm > 0` or there is a loss. `loss [1]`: where it or the norm is not finite,
/// nothing changes. `copy`: the new weights, rounded to the nearest bf16 (ties to even), of the same length: in mixed precision it
/// is what forward and backward read, and `p` its f32 master. dtype f32 (f64 on the CPU; `copy` is then f64, not rounded: the
/// oracle's bf16).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::adamw::{self, COEFFICIENTS, Hyper};
///
/// let hyper = Hyper { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0, max_norm: 0.0, step: 1 };
/// let coefficients = Tensor::from_f64(&Device::Cpu, [COEFFICIENTS], DType::F32, &hyper.coefficients()?)?;
/// let mut p = Tensor::from_slice(&Device::Cpu, [2], &[1f32, 1.0])?;
/// let g = Tensor::from_slice(&Device::Cpu, [2], &[5f32, -0.01])?;
/// let [mut m, mut v] = [(); 2].map(|_| Tensor::zeros(&Device::Cpu, [2], DType::F32).unwrap());
/// let norm = Tensor::zeros(&Device::Cpu, [1], DType::F32)?; // not read: max_norm is 0, and there is no loss
/// adamw::update(&mut p, &g, &mut m, &mut v, &coefficients, 2, &norm, None, None)?;
/// let moved = p.read::<f32>()?;
/// assert!((moved[0] - 0.9).abs() < 1e-5 && (moved[1] - 1.1).abs() < 1e-5); // the first step is `lr`, whatever the gradient
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn update(
    p: &mut Tensor,
    g: &Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
    coefficients: &Tensor,
    decayed: usize,
    norm: &Tensor,
    loss: Option<&Tensor>,
    mut copy: Option<&mut Tensor>,
) -> Result<()> {
    let dtype = real(OP, "p", p)?;
    let dims = Dims {
        n: size(OP, "elements", p.len())?,
        has_copy: copy.is_some() as u32,
        has_loss: loss.is_some() as u32,
        decayed: size(OP, "decayed elements", decayed)?,
        ..bytemuck::Zeroable::zeroed()
    };
    let copy_dtype = if dtype == DType::F64 { DType::F64 } else { DType::Bf16 };
    let call = Call::new(OP, "update", p.device())
        .updates("p", p, p.shape(), dtype)?
        .reads("g", g, p.shape(), dtype)?
        .updates("m", m, p.shape(), dtype)?
        .updates("v", v, p.shape(), dtype)?
        .reads("coefficients", coefficients, [COEFFICIENTS], dtype)?
        .reads("norm", norm, [1], dtype)?
        .reads_if("loss", loss, [1], dtype)?
        .writes_if("copy", copy.as_deref(), p.shape(), copy_dtype)?
        .begin(|| Work::new(FLOPS * p.len()));
    match call.device() {
        Device::Cpu => {
            if loss.is_some_and(|loss| [loss, norm].iter().any(|t| !on_real!(dtype, is_finite::<T>(t)))) {
                return Ok(());
            }
            on_real!(dtype, update_cpu::<T>(dims, p, g, m, v, coefficients, norm));
            match (copy.as_deref_mut(), dtype) {
                (None, _) => {}
                (Some(copy), DType::F64) => copy.copy_from(p)?,
                (Some(copy), _) => in_tasks(p.cpu::<f32>(), copy.cpu_mut::<bf16>(), round_all),
            }
        }
        Device::Gpu(gpu) => {
            launch_update(gpu, dims, &views([Some(&*p), Some(g), Some(&*m), Some(&*v), Some(coefficients), Some(norm), loss, copy.as_deref()]))?;
        }
    }
    call.end([&*p, &*m, &*v].into_iter().chain(copy.as_deref()));
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn global_norm_cpu<T: Real>(grads: &[&Tensor], norm: &mut Tensor, workspace: &mut Tensor) {
    let mut rest = workspace.cpu_mut::<T>();
    let mut used = 0;
    for grad in grads {
        let grad = grad.cpu::<T>();
        let (partial, behind) = rest.split_at_mut(grad.len().div_ceil(CHUNK));
        if grad.len() < PARALLEL {
            partial.iter_mut().zip(grad.chunks(CHUNK)).for_each(|(partial, grad)| *partial = squares(grad));
        } else {
            partial.par_iter_mut().zip(grad.par_chunks(CHUNK)).for_each(|(partial, grad)| *partial = squares(grad));
        }
        used += partial.len();
        rest = behind;
    }
    norm.cpu_mut::<T>()[0] = sum(workspace.cpu::<T>()[..used].iter().copied()).sqrt();
}

/// `Σ x²` in sixteen interleaved sums, which the compiler keeps in vector registers.
#[multiversion(targets = "simd")]
fn squares<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::zero(); 16];
    let chunks = x.chunks_exact(16);
    let tail = sum(chunks.remainder().iter().map(|&x| x * x));
    for chunk in chunks {
        for i in 0..16 {
            lanes[i] += chunk[i] * chunk[i];
        }
    }
    sum(lanes.into_iter()) + tail
}

/// The coefficients of one update in the kernel's own type.
#[derive(Clone, Copy)]
struct Coefficients<T> {
    clip: T,
    decay: T,
    one_minus_beta1: T,
    beta2: T,
    one_minus_beta2: T,
    step_size: T,
    correction2: T,
    eps: T,
}

fn is_finite<T: Real>(number: &Tensor) -> bool {
    number.cpu::<T>()[0].is_finite()
}

fn update_cpu<T: Real>(dims: Dims, p: &mut Tensor, g: &Tensor, m: &mut Tensor, v: &mut Tensor, coefficients: &Tensor, norm: &Tensor) {
    let given = coefficients.cpu::<T>();
    let max_norm = given[7];
    let ratio = max_norm / (norm.cpu::<T>()[0] + T::of(1e-6));
    let unclipped = max_norm <= T::zero() || ratio >= T::one();
    let c = Coefficients {
        clip: if unclipped { T::one() } else { ratio }, // a norm that is NaN spreads, as torch's does
        decay: given[0],
        one_minus_beta1: given[1],
        beta2: given[2],
        one_minus_beta2: given[3],
        step_size: given[4],
        correction2: given[5],
        eps: given[6],
    };
    let (p, g, m, v) = (p.cpu_mut::<T>(), g.cpu::<T>(), m.cpu_mut::<T>(), v.cpu_mut::<T>());
    let decayed = (dims.decayed as usize).min(p.len());
    let ((p, p_rest), (g, g_rest)) = (p.split_at_mut(decayed), g.split_at(decayed));
    let ((m, m_rest), (v, v_rest)) = (m.split_at_mut(decayed), v.split_at_mut(decayed));
    update_part(p, g, m, v, c);
    update_part(p_rest, g_rest, m_rest, v_rest, Coefficients { decay: T::one(), ..c });
}

fn update_part<T: Real>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], c: Coefficients<T>) {
    if p.len() < PARALLEL {
        return update_all(p, g, m, v, c);
    }
    let moments = m.par_chunks_mut(TASK).zip(v.par_chunks_mut(TASK));
    p.par_chunks_mut(TASK).zip(g.par_chunks(TASK)).zip(moments).for_each(|((p, g), (m, v))| update_all(p, g, m, v, c));
}

#[multiversion(targets = "simd")]
fn update_all<T: Real>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], c: Coefficients<T>) {
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * c.clip;
        *m += (g - *m) * c.one_minus_beta1;
        *v = c.beta2 * *v + c.one_minus_beta2 * g * g;
        *p = *p * c.decay - c.step_size * *m / (v.sqrt() / c.correction2 + c.eps);
    }
}

fn in_tasks(from: &[f32], to: &mut [bf16], each: impl Fn(&[f32], &mut [bf16]) + Sync) {
    if from.len() < PARALLEL {
        return each(from, to);
    }
    to.par_chunks_mut(TASK).zip(from.par_chunks(TASK)).for_each(|(to, from)| each(from, to));
}

/// The upper half of each f32, rounded to nearest, ties to even; a NaN stays one.
#[multiversion(targets = "simd")]
fn round_all(from: &[f32], to: &mut [bf16]) {
    for (to, x) in to.iter_mut().zip(from) {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40;
        *to = bf16::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded } as u16);
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch_global_norm(gpu: &Gpu, grads: &[&Tensor], norm: &Tensor, workspace: &Tensor) -> Result<()> {
    let run = |entry, buffers: [&Tensor; 2], dims: Dims, groups| {
        gpu.launch(Launch { kernel: (OP, entry), constants: &[], buffers: &views(buffers), variant: "", dims: bytes_of(&dims), groups })
    };
    let mut offset = 0;
    for grad in grads {
        let dims = Dims { n: size(OP, "elements", grad.len())?, offset: size(OP, "partial sums", offset)?, ..bytemuck::Zeroable::zeroed() };
        let groups = grad.len().div_ceil(CHUNK);
        run("squares", [grad, workspace], dims, groups)?;
        offset += groups;
    }
    let dims = Dims { n: size(OP, "partial sums", offset)?, ..bytemuck::Zeroable::zeroed() };
    run("global_norm", [workspace, norm], dims, 1)
}

fn launch_update(gpu: &Gpu, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let groups = (dims.n as usize).div_ceil(1024);
    gpu.launch(Launch { kernel: (OP, "update"), constants: &[], buffers, variant: "", dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[rustfmt::skip]
const LENGTHS: &[usize] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1021, 1023, 1024, 1025, 2049, 4095, 4096, 4097, 10_007,
    16_385, 65_537,
];

const HYPER: Hyper = Hyper { lr: 4e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_norm: 1.0, step: 7 };

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &n in LENGTHS {
        for with_copy in [false, true] {
            cases.push(update_case(n, n, with_copy, 0.5, Hyper { step: 1 + n % 1000, ..HYPER }));
        }
        cases.push(update_case(n, n / 3, false, 3.0, HYPER)); // clipped; the first third decays
        cases.push(norm_case(&[n]));
    }
    cases.push(update_case(33, 0, true, 3.0, Hyper { max_norm: 0.0, ..HYPER }));
    cases.push(update_case(33, 33, false, 1.0, Hyper { weight_decay: 0.0, step: 1_000_000, ..HYPER }));
    for lens in [&[][..], &[1, 1], &[0, 3, 0], &[5, 4096, 4097, 1], &[31, 33, 64, 127, 129], &[8191, 2, 12_289], &[64; 40]] {
        cases.push(norm_case(lens));
    }
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The cases at a model's sizes: its largest tensors, and the norm over the embeddings and one layer.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let (table, wide) = (s.vocabulary * s.width, s.width * s.feed_forward);
    let [query, key] = [s.heads, s.kv_heads].map(|heads| s.width * heads * s.head_dim);
    vec![
        update_case(table, table, true, 2.0, HYPER),
        update_case(wide, wide, false, 2.0, HYPER),
        norm_case(&[table, wide, wide, wide, query, query, key, key, s.width, s.width]),
    ]
}

fn update_case(n: usize, decayed: usize, with_copy: bool, norm: f64, hyper: Hyper) -> Case {
    let label = format!("n={n} decayed={decayed} norm={norm} max_norm={} step={}{}", hyper.max_norm, hyper.step, if with_copy { " copy" } else { "" });
    let mut draw = Draw::new(&label);
    let inputs = vec![
        draw.normals("g", [n], 0.1),
        Operand::new("norm", [1], Kind::Real, vec![norm]),
        Operand::new("coefficients", [COEFFICIENTS], Kind::Real, hyper.coefficients().expect("a good step").into()),
    ];
    let squares = {
        let normals = draw.normals("v", [n], 1.0).values;
        Operand::lazy("v", [n], Kind::Real, move || normals.iter().map(|x| x * x * 0.01).collect())
    };
    let mut outputs = vec![Output::updated(draw.normals("p", [n], 1.0)), Output::updated(draw.normals("m", [n], 0.1)), Output::updated(squares)];
    if with_copy {
        outputs.push(Output::overwritten("copy", [n], Kind::Bf16));
    }
    // WGSL: a division within 2.5 ulp, a square root within about 3, of a step that is small beside p.
    Case::new("update", label, inputs, outputs, Compare::Reduction(2.0), move |i, o| {
        let [p, m, v, copy @ ..] = o else { unreachable!("three outputs at least") };
        update(p, &i[0], m, v, &i[2], decayed, &i[1], None, copy.first_mut())
    })
    .naive(move |i, o| {
        on_real!(i[0].dtype(), naive_update::<T>(i, o, decayed));
        Ok(())
    })
    .flops((FLOPS * n) as u64)
}

fn norm_case(lens: &[usize]) -> Case {
    let label = format!("lengths {lens:?}");
    let mut draw = Draw::new(&label);
    let inputs = lens.iter().map(|&n| draw.normals("grad", [n], 1.0)).collect();
    let outputs = vec![Output::overwritten("norm", [1], Kind::Real), Output::scratch(workspace(lens))];
    Case::new("global_norm", label, inputs, outputs, Compare::Reduction(3.0), |i, o| {
        let [norm, workspace] = o else { unreachable!("two outputs") };
        global_norm(&i.iter().collect::<Vec<_>>(), norm, workspace)
    })
    .naive(|i, o| {
        on_real!(o[0].dtype(), naive_norm::<T>(i, o));
        Ok(())
    })
    .flops((NORM_FLOPS * lens.iter().sum::<usize>()) as u64)
}

fn naive_norm<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    outputs[0].cpu_mut::<T>()[0] = sum(inputs.iter().flat_map(|grad| grad.cpu::<T>()).map(|&g| g * g)).sqrt();
}

fn naive_update<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor], decayed: usize) {
    let (g, norm) = (inputs[0].cpu::<T>(), inputs[1].cpu::<T>()[0]);
    let [decay, one_minus_beta1, beta2, one_minus_beta2, step_size, correction2, eps, max_norm] = *inputs[2].cpu::<T>() else { unreachable!("eight numbers") };
    let clip = if max_norm > T::zero() { T::one().min(max_norm / (norm + T::of(1e-6))) } else { T::one() };
    for i in 0..g.len() {
        let g = g[i] * clip;
        let [p, m, v] = [0, 1, 2].map(|o| outputs[o].cpu::<T>()[i]);
        let m = m + (g - m) * one_minus_beta1;
        let v = beta2 * v + one_minus_beta2 * g * g;
        let kept = if i < decayed { p * decay } else { p };
        let p = kept - step_size * m / (v.sqrt() / correction2 + eps);
        for (output, value) in outputs.iter_mut().zip([p, m, v, p]) {
            output.cpu_mut::<T>()[i] = value;
        }
    }
}

/// There is no backward pass.
pub fn gradients() -> Vec<GradientCase> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op, test_devices};
    use proptest::prelude::any;

    /// Ten steps of five parameters whose gradient at step t is `(i + 1) · p[i] − t/4`.
    fn ten_steps(device: &Device, dtype: DType, max_norm: f64) -> [Vec<f64>; 4] {
        let tensor = |values: &[f64]| Tensor::from_f64(device, [values.len()], dtype, values).unwrap();
        let (mut p, mut m, mut v, mut norm) = (tensor(&[0.5, -1.0, 2.0, 0.0, 3.0]), tensor(&[0.0; 5]), tensor(&[0.0; 5]), tensor(&[0.0]));
        let mut scratch = tensor(&[0.0]);
        for step in 1..=10 {
            let g: Vec<f64> = p.read_f64().unwrap().iter().enumerate().map(|(i, p)| (i + 1) as f64 * p - step as f64 / 4.0).collect();
            let g = tensor(&g);
            global_norm(&[&g], &mut norm, &mut scratch).unwrap();
            let hyper = Hyper { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_norm, step };
            let coefficients = tensor(&hyper.coefficients().unwrap());
            update(&mut p, &g, &mut m, &mut v, &coefficients, 5, &norm, None, None).unwrap();
        }
        [p, m, v, norm].map(|t| t.read_f64().unwrap())
    }

    /// `torch.optim.AdamW` in float64, without and with `clip_grad_norm_(…, 1.0)`: p, exp_avg, exp_avg_sq and the last norm.
    const TORCH: [[[f64; 5]; 3]; 2] = [
        [
            [0.927_294_693_618_343_6, 0.053_924_650_854_589_78, 0.918_304_862_143_269_2, 0.679_908_096_575_019_6, 1.777_995_806_382_658],
            [-0.648_021_462_829_636_8, -1.591_205_587_772_713_4, 1.684_381_288_108_156_6, -0.054_427_501_375_982_54, 6.551_327_486_017_987],
            [0.463_318_739_940_906_33, 2.367_059_402_451_005_7, 4.332_611_018_769_08, 0.004_744_399_638_203_456, 46.115_718_168_815_086],
        ],
        [
            [0.926_765_387_377_571_5, 0.053_630_995_101_439_025, 0.886_471_816_118_704_6, 0.689_773_977_270_040_5, 1.756_728_672_816_654_5],
            [-0.071_037_954_921_121_9, -0.157_683_859_560_894_34, 0.139_632_564_986_334_2, -0.003_517_835_204_033_406_5, 0.605_479_488_470_285_9],
            [0.005_991_014_377_861_885, 0.023_364_272_313_136_678, 0.024_813_107_105_252_686, 2.295_785_850_436_660_3e-5, 0.347_071_633_120_546_3],
        ],
    ];
    const TORCH_NORM: f64 = 7.547_353_061_901_071;

    #[test]
    fn ten_steps_as_in_torch() {
        for (max_norm, expected) in [0.0, 1.0].into_iter().zip(&TORCH) {
            let mut runs: Vec<_> = test_devices().iter().map(|device| (ten_steps(device, DType::F32, max_norm), 1e-5)).collect();
            // In f64 only the coefficients are rounded to f32.
            runs.push((ten_steps(&Device::Cpu, DType::F64, max_norm), 2e-6));
            for (found, tolerance) in runs {
                for (found, expected) in found.iter().zip(expected) {
                    for (f, e) in found.iter().zip(expected) {
                        assert!((f - e).abs() <= tolerance * e.abs().max(0.1), "max_norm {max_norm}: {f} {e}");
                    }
                }
                if max_norm > 0.0 {
                    assert!((found[3][0] / TORCH_NORM - 1.0).abs() < 1e-5, "{}", found[3][0]);
                }
            }
        }
    }

    #[test]
    fn the_copy_is_rounded_to_nearest_even() {
        // With lr 0 the weights stay: halfway cases, both neighbours of one, signs, tiny and huge numbers, an odd length.
        let bits: Vec<u32> = [0x3f80_8000u32, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0x7f7f_0000, 0x0080_0000, 0x4049_0fdb, 0, 0x4b7f_ffff].into();
        let values: Vec<f32> = bits.iter().flat_map(|&b| [f32::from_bits(b), -f32::from_bits(b)]).chain([1.5]).collect();
        let expected: Vec<u16> = values.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
        for device in test_devices() {
            let n = values.len();
            let mut p = Tensor::from_slice(&device, [n], &values).unwrap();
            let [g, mut m, mut v] = crate::ops::zeros_like([&p, &p, &p]).unwrap();
            let norm = Tensor::from_slice(&device, [1], &[0f32]).unwrap();
            let mut copy = Tensor::zeros(&device, [n], DType::Bf16).unwrap();
            let coefficients = Hyper { lr: 0.0, ..HYPER }.coefficients().unwrap();
            let coefficients = Tensor::from_f64(&device, [COEFFICIENTS], DType::F32, &coefficients).unwrap();
            update(&mut p, &g, &mut m, &mut v, &coefficients, n, &norm, None, Some(&mut copy)).unwrap();
            assert_eq!(p.read::<f32>().unwrap(), values);
            let found: Vec<u16> = copy.read::<bf16>().unwrap().iter().map(|x| x.to_bits()).collect();
            assert_eq!(found, expected, "{device}");
        }
    }

    #[test]
    fn step_zero_is_refused() {
        let error = Hyper { step: 0, ..HYPER }.coefficients().unwrap_err();
        assert_eq!(error.to_string(), "adamw: step: expected a number from 1, found 0");
    }

    /// When it is given a loss, an update that would spoil the weights does not happen.
    #[test]
    fn nothing_changes_where_the_loss_or_the_norm_is_not_finite() {
        for device in test_devices() {
            for (loss, norm, moves) in [(1.0, 2.0, true), (f32::NAN, 2.0, false), (1.0, f32::INFINITY, false), (f32::NEG_INFINITY, f32::NAN, false)] {
                let tensor = |values: &[f32]| Tensor::from_slice(&device, [values.len()], values).unwrap();
                let (before, g) = (vec![1.0; 7], tensor(&[0.5; 7]));
                let (mut p, mut m, mut v) = (tensor(&before), tensor(&[0.0; 7]), tensor(&[0.0; 7]));
                let coefficients = tensor(&HYPER.coefficients().unwrap().map(|c| c as f32));
                let mut copy = Tensor::zeros(&device, [7], DType::Bf16).unwrap();
                update(&mut p, &g, &mut m, &mut v, &coefficients, 7, &tensor(&[norm]), Some(&tensor(&[loss])), Some(&mut copy)).unwrap();
                let moved = [p.read::<f32>().unwrap() != before, m.read::<f32>().unwrap() != [0.0; 7], v.read::<f32>().unwrap() != [0.0; 7]];
                assert_eq!(moved, [moves; 3], "{device}: loss {loss}, norm {norm}");
                assert_eq!(copy.read::<bf16>().unwrap()[6] != bf16::ZERO, moves, "{device}");
            }
        }
    }

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        assert_drawn(8, (0usize..9000, any::<bool>(), 0.0f64..4.0, 1usize..5000), |(n, with_copy, norm, step)| {
            vec![update_case(n, step.min(n), with_copy, norm, Hyper { step, ..HYPER }), norm_case(&[n, 3, n / 2])]
        });
    }
}
