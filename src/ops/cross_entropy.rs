//! The loss of the next word: softmax and cross-entropy over the vocabulary, fused.
//!
//! `loss = weight · Σ_rows (lse − logits[target])` with `lse = log Σ_v exp(logits[v])`, over the rows whose target is not −1;
//! with `weight = 1 / counted` it is their mean.
//!
//! Backward: `∂lse/∂logits[v] = exp(logits[v] − lse)`, hence `dlogits[v] = weight · (exp(logits[v] − lse) − [v = target])`,
//! written over the logits.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::{DimsField, Origin};
use super::{Call, Op, Pass, Sizes, activation, on_real, rows_per_task, size, statistic, sum, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Language, Launch, View, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;

const OP: &str = "cross_entropy";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "forward", kernel: (OP, "forward") }, Pass { name: "backward", kernel: (OP, "backward") }],
    cases,
    sized,
    gradients,
    fields: FIELDS,
};
/// Floating-point operations per logit, of either pass.
const FLOPS: usize = 4;

/// Elements of a row that one workgroup of WGSL's `backward` takes.
const PART: usize = 1024;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::formula("parts", "ceil_div(vocabulary, 1024)"),
    DimsField::option("accumulate", "1: total adds to the loss that is there; 0: it overwrites it"),
    DimsField {
        name: "row_threads",
        origin: Origin::Choice {
            range: "a power of two up to 256, from 8 on in WGSL and from 4 on in CUDA: the threads that share a row of forward",
            ours: ["min(max(power_of_two(ceil_div(vocabulary, 8)), 8), 256)", "min(max(power_of_two(ceil_div(vocabulary, 32 / element_bytes)), 4), 256)"],
            elsewhere: Some(("backward, which does not read it", ["0"; 2])),
        },
    },
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    rows: u32,
    vocabulary: u32,
    parts: u32,
    accumulate: u32,
    row_threads: u32,
    padding: [u32; 3],
}

impl Dims {
    fn new(logits: &Tensor) -> Result<Self> {
        let vocabulary = logits.row_len();
        if vocabulary == 0 {
            return Err(Error::mismatch(OP, "logits", "rows of at least one logit", logits.shape()));
        }
        Ok(Dims {
            rows: size(OP, "rows", logits.rows())?,
            vocabulary: size(OP, "vocabulary", vocabulary)?,
            parts: vocabulary.div_ceil(PART) as u32,
            accumulate: 0,
            row_threads: 0, // CUDA: see launch_forward
            padding: [0; 3],
        })
    }
}

/// The loss, and what [`backward`] needs.
///
/// Shapes: `logits [M, V]`, `target [M]` i32 (−1: the row does not count), `row_loss [M]` and `lse [M]` (both 0 for a row that
/// does not count), `loss [1]`, which is added to if `accumulate`: the rows of one loss may come in several calls. `weight [1]`:
/// 1 / the number of rows that count in all of them, for their mean. dtype f32 (f64 on the CPU; the logits also bf16 where the
/// device has it, the rest is then f32).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::cross_entropy;
///
/// let logits = Tensor::zeros(&Device::Cpu, [2, 4], DType::F32)?; // [M, V]
/// let target = Tensor::from_slice(&Device::Cpu, [2], &[3, -1])?; // the second row does not count
/// let weight = Tensor::from_slice(&Device::Cpu, [1], &[1f32])?;
/// let [mut row_loss, mut lse] = [(); 2].map(|_| Tensor::zeros(&Device::Cpu, [2], DType::F32).unwrap());
/// let mut loss = Tensor::zeros(&Device::Cpu, [1], DType::F32)?;
/// cross_entropy::forward(&logits, &target, &weight, &mut row_loss, &mut lse, &mut loss, false)?;
/// assert_eq!(loss.read::<f32>()?, [4f32.ln()]); // one word of four
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit; on the CPU also for a target that is neither −1 nor below V
/// (a GPU leaves such a row out: the host does not see it).
pub fn forward(logits: &Tensor, target: &Tensor, weight: &Tensor, row_loss: &mut Tensor, lse: &mut Tensor, loss: &mut Tensor, accumulate: bool) -> Result<()> {
    let dtype = activation(OP, "logits", logits)?;
    let dims = Dims { accumulate: accumulate as u32, ..Dims::new(logits)? };
    let rows = [logits.rows()];
    let call = Call::new(OP, "forward", logits.device())
        .reads("logits", logits, logits.shape(), dtype)?
        .reads("target", target, rows, DType::I32)?
        .reads("weight", weight, [1], statistic(dtype))?
        .writes("row_loss", row_loss, rows, statistic(dtype))?
        .writes("lse", lse, rows, statistic(dtype))?
        .writes_or_adds(accumulate, "loss", loss, [1], statistic(dtype))?
        .begin(|| Work::new(FLOPS * logits.len()).of_launch("total", 0));
    match call.device() {
        Device::Cpu => {
            check_targets(target.cpu::<i32>(), logits.row_len())?;
            on_real!(dtype, forward_cpu::<T>(dims, logits, target, weight, row_loss, lse, loss));
        }
        Device::Gpu(gpu) => launch_forward(gpu, dtype, dims, logits, target, weight, row_loss, lse, loss)?,
    }
    call.end([&*row_loss, &*lse, &*loss]);
    Ok(())
}

/// The gradient: `logits` becomes `dlogits`. Rows that do not count become 0.
///
/// Shapes: `logits [M, V]` (what forward read), `target [M]` i32, `lse [M]` (what forward saved), `weight [1]`: as given to
/// forward, times the gradient of the loss. dtype as for [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn backward(logits: &mut Tensor, target: &Tensor, lse: &Tensor, weight: &Tensor) -> Result<()> {
    let dtype = activation(OP, "logits", logits)?;
    let dims = Dims::new(logits)?;
    let rows = [logits.rows()];
    let call = Call::new(OP, "backward", logits.device())
        .reads("target", target, rows, DType::I32)?
        .reads("lse", lse, rows, statistic(dtype))?
        .reads("weight", weight, [1], statistic(dtype))?
        .updates("logits", logits, logits.shape(), dtype)?
        .begin(|| Work::new(FLOPS * logits.len()));
    match call.device() {
        Device::Cpu => {
            check_targets(target.cpu::<i32>(), logits.row_len())?;
            on_real!(dtype, backward_cpu::<T>(dims, logits, target, lse, weight));
        }
        Device::Gpu(gpu) => launch_backward(gpu, dtype, dims, &views([&*logits, target, lse, weight]))?,
    }
    call.end([&*logits]);
    Ok(())
}

fn check_targets(target: &[i32], vocabulary: usize) -> Result<()> {
    match target.iter().position(|&t| t < -1 || t >= 0 && t as usize >= vocabulary) {
        None => Ok(()),
        Some(row) => Err(Error::mismatch(OP, "target", format!("ids below {vocabulary}, or −1"), format!("{} in row {row}", target[row]))),
    }
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn forward_cpu<T: Real>(dims: Dims, logits: &Tensor, target: &Tensor, weight: &Tensor, row_loss: &mut Tensor, lse: &mut Tensor, loss: &mut Tensor) {
    let vocabulary = dims.vocabulary as usize;
    let rows = rows_per_task(vocabulary);
    let given = logits.cpu::<T>().par_chunks(rows * vocabulary).zip(target.cpu::<i32>().par_chunks(rows));
    let row_loss = row_loss.cpu_mut::<T>();
    let made = row_loss.par_chunks_mut(rows).zip(lse.cpu_mut::<T>().par_chunks_mut(rows));
    made.zip(given).for_each(|((row_loss, lse), (logits, target))| forward_rows(logits, target, vocabulary, row_loss, lse));
    let part = weight.cpu::<T>()[0] * sum(row_loss.iter().copied());
    let loss = &mut loss.cpu_mut::<T>()[0];
    *loss = if dims.accumulate != 0 { *loss + part } else { part };
}

#[multiversion(targets = "simd")]
fn forward_rows<T: Real>(logits: &[T], target: &[i32], vocabulary: usize, row_loss: &mut [T], lse: &mut [T]) {
    for (((logits, &target), row_loss), lse) in logits.chunks_exact(vocabulary).zip(target).zip(row_loss).zip(lse) {
        if target < 0 {
            (*row_loss, *lse) = (T::zero(), T::zero());
            continue;
        }
        // A row of 450 logits stays in the first cache: two passes cost less than rescaling one.
        let mut tops = [T::min_value(); 16];
        let chunks = logits.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for i in 0..16 {
                tops[i] = if chunk[i] > tops[i] { chunk[i] } else { tops[i] };
            }
        }
        let top = tops.iter().chain(rest).fold(T::min_value(), |top, &x| if x > top { x } else { top });
        let mut sums = [T::zero(); 16];
        for chunk in logits.chunks_exact(16) {
            for i in 0..16 {
                sums[i] += (chunk[i] - top).fast_exp();
            }
        }
        let logarithm = (sum(sums.into_iter()) + sum(rest.iter().map(|&x| (x - top).fast_exp()))).ln();
        *lse = top + logarithm;
        // Not lse − logit: that would round the sum of two large numbers first.
        *row_loss = (top - logits[target as usize]) + logarithm;
    }
}

fn backward_cpu<T: Real>(dims: Dims, logits: &mut Tensor, target: &Tensor, lse: &Tensor, weight: &Tensor) {
    let vocabulary = dims.vocabulary as usize;
    let rows = rows_per_task(vocabulary);
    let given = target.cpu::<i32>().par_chunks(rows).zip(lse.cpu::<T>().par_chunks(rows));
    let weight = weight.cpu::<T>()[0];
    logits.cpu_mut::<T>().par_chunks_mut(rows * vocabulary).zip(given).for_each(|(logits, (target, lse))| {
        backward_rows(logits, target, lse, vocabulary, weight);
    });
}

#[multiversion(targets = "simd")]
fn backward_rows<T: Real>(logits: &mut [T], target: &[i32], lse: &[T], vocabulary: usize, weight: T) {
    for ((logits, &target), &lse) in logits.chunks_exact_mut(vocabulary).zip(target).zip(lse) {
        if target < 0 {
            logits.fill(T::zero());
            continue;
        }
        let answer = weight * ((logits[target as usize] - lse).fast_exp() - T::one());
        for x in logits.iter_mut() {
            *x = weight * (*x - lse).fast_exp();
        }
        logits[target as usize] = answer;
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch_forward(
    gpu: &Gpu,
    dtype: DType,
    dims: Dims,
    logits: &Tensor,
    target: &Tensor,
    weight: &Tensor,
    row_loss: &Tensor,
    lse: &Tensor,
    loss: &Tensor,
) -> Result<()> {
    let row_threads = match gpu.language() {
        // About eight logits per thread: two rounds of the four that share a rescaling.
        Language::Wgsl => dims.vocabulary.div_ceil(8).next_power_of_two().clamp(8, 256),
        // The same in accesses of 16 bytes.
        Language::Ptx => dims.vocabulary.div_ceil(32 / dtype.size() as u32).next_power_of_two().clamp(4, 256),
    };
    let dims = Dims { row_threads, ..dims };
    gpu.launch(Launch {
        kernel: (OP, "forward"),
        constants: &[("ROW_THREADS", row_threads)],
        variant: variant(dtype),
        buffers: &views([logits, target, row_loss, lse]),
        dims: bytes_of(&dims),
        groups: logits.rows().div_ceil((256 / row_threads) as usize),
    })?;
    let buffers = &views([row_loss, weight, loss]);
    gpu.launch(Launch { kernel: (OP, "total"), constants: &[], buffers, variant: "", dims: bytes_of(&dims), groups: 1 })
}

fn launch_backward(gpu: &Gpu, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let rows = dims.rows as usize;
    let groups = match gpu.language() {
        Language::Wgsl => rows * dims.parts as usize,
        Language::Ptx => (rows * dims.vocabulary as usize).div_ceil(256 * 16 / dtype.size()),
    };
    gpu.launch(Launch { kernel: (OP, "backward"), constants: &[], buffers, variant: variant(dtype), dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// `(rows M, vocabulary V)`
#[rustfmt::skip]
const SHAPES: &[(usize, usize)] = &[
    (0, 5), (1, 1), (2, 1), (1, 2), (3, 3), (5, 7), (4, 8), (9, 15), (31, 16), (32, 17), (33, 31), (7, 32), (63, 33), (64, 63), (65, 64), (3, 65),
    (127, 127), (5, 128), (128, 129), (129, 255), (2, 256), (17, 257), (40, 450), (3, 511), (2, 512), (3, 513), (6, 1021), (5, 1023), (4, 1024), (3, 1025),
    (2, 2047), (2, 2048), (2, 2049), (3, 4099), (1, 10_007), (3, 4104), (101, 24), (257, 10), (1, 151_936), (70_001, 1),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(rows, vocabulary) in SHAPES {
        add_cases(&mut cases, rows, vocabulary, 2.0);
    }
    // Logits that are far apart: exponentials that overflow unless the maximum is subtracted.
    for (rows, vocabulary) in [(3, 5), (7, 33), (5, 300), (2, 1100)] {
        add_cases(&mut cases, rows, vocabulary, 200.0);
    }
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The cases at a model's sizes.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let mut cases = Vec::new();
    add_cases(&mut cases, s.logit_rows, s.vocabulary, 1.5);
    cases
}

fn add_cases(cases: &mut Vec<Case>, rows: usize, vocabulary: usize, deviation: f64) {
    let label = format!("M={rows} V={vocabulary}{}", if deviation > 2.0 { format!(" logits·{deviation}") } else { String::new() });
    let mut draw = Draw::new(&label);
    let logits = draw.normals("logits", [rows, vocabulary], deviation).mixed();
    // The first row always counts; every fifth or so of the others does not.
    let target: Vec<i32> = (0..rows).map(|row| if row > 0 && draw.below(5) == 0 { -1 } else { draw.below(vocabulary) as i32 }).collect();
    let weight = weight_operand(1.0 / target.iter().filter(|&&t| t >= 0).count().max(1) as f32);
    let (values, counted) = (logits.values.clone(), target.clone());
    let lse = Operand::lazy("lse", [rows], Kind::Real, move || {
        counted.iter().zip(values.chunks_exact(vocabulary)).map(|(&t, logits)| if t < 0 { 0.0 } else { log_sum_exp(logits) }).collect()
    })
    .timed_as(move || vec![(vocabulary as f64).ln() + deviation * deviation / 2.0; rows]);
    let target = Operand::ints("target", [rows], target);

    let outputs =
        vec![Output::overwritten("row_loss", [rows], Kind::Real), Output::overwritten("lse", [rows], Kind::Real), Output::overwritten("loss", [1], Kind::Real)];
    // WGSL: eˣ within 3 + 2·|x| ulp (times eˣ), a logarithm within 3 ulp.
    let inputs = vec![logits.clone(), target.clone(), weight.clone()];
    let case = Case::new("forward", &label, inputs, outputs, Compare::Reduction(4.0), |i, o| {
        let [row_loss, lse, loss] = o else { unreachable!("three outputs") };
        forward(&i[0], &i[1], &i[2], row_loss, lse, loss, false)
    })
    .naive(|i, o| {
        on_real!(i[0].dtype(), naive_forward::<T>(i, o));
        Ok(())
    });
    cases.push(case.flops((FLOPS * rows * vocabulary) as u64));

    let inputs = vec![target, lse, weight];
    let case = Case::new("backward", &label, inputs, vec![Output::updated(logits)], Compare::Reduction(4.0), |i, o| backward(&mut o[0], &i[0], &i[1], &i[2]))
        .naive(|i, o| {
            on_real!(i[1].dtype(), naive_backward::<T>(i, o));
            Ok(())
        });
    cases.push(case.flops((FLOPS * rows * vocabulary) as u64));
}

fn weight_operand(weight: f32) -> Operand {
    Operand::new("weight", [1], Kind::Real, vec![weight as f64])
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let top = logits.iter().fold(f64::MIN, |top, &x| top.max(x));
    top + logits.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

fn naive_forward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (vocabulary, logits, target) = (inputs[0].row_len(), inputs[0].cpu::<T>(), inputs[1].cpu::<i32>());
    let mut total = T::zero();
    for row in 0..target.len() {
        let logits = &logits[row * vocabulary..][..vocabulary];
        let (mut lse, mut loss) = (T::zero(), T::zero());
        if target[row] >= 0 {
            let top = logits.iter().fold(T::min_value(), |top, &x| top.max(x));
            lse = top + sum(logits.iter().map(|&x| (x - top).exp())).ln();
            loss = lse - logits[target[row] as usize];
        }
        outputs[0].cpu_mut::<T>()[row] = loss;
        outputs[1].cpu_mut::<T>()[row] = lse;
        total += loss;
    }
    outputs[2].cpu_mut::<T>()[0] = inputs[2].cpu::<T>()[0] * total;
}

fn naive_backward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (vocabulary, target, lse, weight) = (outputs[0].row_len(), inputs[0].cpu::<i32>(), inputs[1].cpu::<T>(), inputs[2].cpu::<T>()[0]);
    for row in 0..target.len() {
        for v in 0..vocabulary {
            let x = &mut outputs[0].cpu_mut::<T>()[row * vocabulary + v];
            let one = if target[row] == v as i32 { T::one() } else { T::zero() };
            *x = if target[row] < 0 { T::zero() } else { weight * ((*x - lse[row]).exp() - one) };
        }
    }
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1), (3, 5), (5, 17)]
        .into_iter()
        .map(|(rows, vocabulary)| {
            let label = format!("M={rows} V={vocabulary}");
            let mut draw = Draw::new(&label);
            let run = |i: &[Tensor]| -> Result<[Tensor; 2]> {
                let [mut row_loss, mut lse] = [(); 2].map(|_| Tensor::zeros(i[0].device(), [i[0].rows()], i[0].dtype()).expect("a small tensor"));
                let mut loss = Tensor::zeros(i[0].device(), [1], i[0].dtype())?;
                forward(&i[0], &i[1], &i[2], &mut row_loss, &mut lse, &mut loss, false)?;
                Ok([loss, lse])
            };
            GradientCase {
                inputs: vec![
                    draw.normals("logits", [rows, vocabulary], 1.0),
                    Operand::ints("target", [rows], (0..rows).map(|row| if row == 1 { -1 } else { draw.below(vocabulary) as i32 }).collect::<Vec<_>>()),
                    weight_operand(0.5),
                ],
                wrt: vec![0],
                label,
                forward: Box::new(move |i| run(i).map(|[loss, _]| vec![loss])),
                backward: Box::new(move |i, d| {
                    let [_, lse] = run(i)?;
                    let [mut dlogits] = super::zeros_like([&i[0]])?;
                    dlogits.copy_from(&i[0])?;
                    backward(&mut dlogits, &i[1], &lse, &i[2])?;
                    let cotangent = d[0].cpu::<f64>()[0];
                    dlogits.cpu_mut::<f64>().iter_mut().for_each(|x| *x *= cotangent);
                    Ok(vec![dlogits])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op, test_devices};

    fn run(logits: &[f64], target: &[i32], weight: f64) -> Result<[Vec<f64>; 4]> {
        let rows = target.len();
        let mut logits = Tensor::from_slice(&Device::Cpu, [rows, logits.len() / rows], logits)?;
        let target = Tensor::from_slice(&Device::Cpu, [rows], target)?;
        let mut row_loss = Tensor::zeros(&Device::Cpu, [rows], DType::F64)?;
        let mut lse = Tensor::zeros(&Device::Cpu, [rows], DType::F64)?;
        let mut loss = Tensor::zeros(&Device::Cpu, [1], DType::F64)?;
        let weight = Tensor::from_slice(&Device::Cpu, [1], &[weight])?;
        forward(&logits, &target, &weight, &mut row_loss, &mut lse, &mut loss, false)?;
        backward(&mut logits, &target, &lse, &weight)?;
        Ok([row_loss.read()?, lse.read()?, loss.read()?, logits.read()?])
    }

    #[test]
    fn known_values() {
        // Equal logits over four words: log 4, and probabilities of a quarter. The second row does not count.
        let [row_loss, lse, loss, dlogits] = run(&[3.0, 3.0, 3.0, 3.0, 1.0, 2.0, 3.0, 4.0], &[2, -1], 1.0).unwrap();
        let log4 = 4f64.ln();
        assert_eq!((row_loss[1], lse[1]), (0.0, 0.0));
        assert!((row_loss[0] - log4).abs() < 1e-12 && (lse[0] - 3.0 - log4).abs() < 1e-12 && (loss[0] - log4).abs() < 1e-12);
        for (found, expected) in dlogits.iter().zip([0.25, 0.25, -0.75, 0.25, 0.0, 0.0, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
        // log(1 + e⁻¹): torch.nn.functional.cross_entropy([[1, 2]], [1]) in float64.
        let [_, _, loss, _] = run(&[1.0, 2.0], &[1], 1.0).unwrap();
        assert!((loss[0] - 0.313_261_687_518_222_8).abs() < 1e-14);
    }

    #[test]
    fn on_a_gpu_targets_outside_do_not_count() {
        for device in test_devices().into_iter().filter(|d| !matches!(d, Device::Cpu)) {
            let mut logits = Tensor::from_slice(&device, [3, 2], &[1f32; 6]).unwrap();
            let target = Tensor::from_slice(&device, [3], &[2, 0, -5]).unwrap();
            let [mut row_loss, mut lse] = [(); 2].map(|_| Tensor::from_slice(&device, [3], &[f32::NAN; 3]).unwrap());
            let mut loss = Tensor::zeros(&device, [1], DType::F32).unwrap();
            let weight = Tensor::from_slice(&device, [1], &[1f32]).unwrap();
            forward(&logits, &target, &weight, &mut row_loss, &mut lse, &mut loss, false).unwrap();
            assert!((loss.read::<f32>().unwrap()[0] - 2f32.ln()).abs() < 1e-6);
            // Another chunk of the same rows: the loss is their sum.
            forward(&logits, &target, &weight, &mut row_loss, &mut lse, &mut loss, true).unwrap();
            assert!((loss.read::<f32>().unwrap()[0] - 4f32.ln()).abs() < 1e-6);
            backward(&mut logits, &target, &lse, &weight).unwrap();
            let dlogits = logits.read::<f32>().unwrap();
            assert_eq!([dlogits[0], dlogits[1], dlogits[4], dlogits[5]], [0.0; 4]);
            assert!((dlogits[2] + 0.5).abs() < 1e-6 && (dlogits[3] - 0.5).abs() < 1e-6);
        }
    }

    #[test]
    fn targets_beyond_the_vocabulary_are_refused() {
        let error = run(&[0.0; 6], &[1, 3], 1.0).unwrap_err();
        assert_eq!(error.to_string(), "cross_entropy: target: expected ids below 3, or −1, found 3 in row 1");
        assert!(run(&[0.0; 6], &[1, -2], 1.0).is_err());
    }

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        assert_drawn(8, (0usize..60, 1usize..700, 0.1f64..30.0), |(rows, vocabulary, deviation)| {
            let mut cases = Vec::new();
            add_cases(&mut cases, rows, vocabulary, deviation);
            cases
        });
    }
}
