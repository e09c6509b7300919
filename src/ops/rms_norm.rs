//! Root-mean-square normalisation of rows, with an optional residual added first.
//!
//! `s = x (+ residual)`, `r = 1/√(mean(s²) + eps)`, `y = s · r · w` (Zhang and Sennrich 2019, arXiv 1910.07467).
//!
//! Backward, with `g = dy · w`: since `∂r/∂s_j = −r³ s_j / C`,
//! `ds = r · (g − s · r² · mean(g · s))`, to which the gradient that flows around the block (`dresidual`) is added, and
//! `dw = Σ_rows dy · s · r`.
//!
//! Per-head normalisation of queries and keys is the same operation with `C = head_dim` and `N · H` rows.

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

const OP: &str = "rms_norm";
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
/// Floating-point operations per element, forward and backward; of the latter so many are the weight's gradient.
const FLOPS: [usize; 2] = [5, 11];
const DWEIGHT_FLOPS: usize = 3;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::choice("parts", "1 or more: as many ranges of rows are summed apart, each into its row of partial", "min(max(ceil_div(rows, 64), 1), 64)"),
    DimsField::option("has_residual", "1 where residual and sum (backward: dresidual) are there; else 0"),
    DimsField::option("eps", "above 0: added under the root; 1e-6 in Qwen3. backward does not read it"),
    DimsField {
        name: "row_threads",
        origin: Origin::Choice {
            range: "a power of two up to 256, from 8 on in WGSL and from 4 on in CUDA: the threads that share a row",
            ours: [
                "min(max(power_of_two(columns), 8), 256)",
                "max(min(max(power_of_two(ceil_div(columns, 16 / element_bytes)), 4), 32), min(max(power_of_two(ceil_div(columns, 16)), 4), 256))",
            ],
            elsewhere: Some(("dweight_partial and dweight_finish, which do not read it", ["0"; 2])),
        },
    },
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    rows: u32,
    columns: u32,
    parts: u32,
    has_residual: u32,
    eps: f32,
    row_threads: u32,
    padding: [u32; 2],
}

impl Dims {
    fn new(x: &Tensor, weight: &Tensor, eps: f32, has_residual: bool) -> Result<Self> {
        let columns = weight.len();
        if columns == 0 || !x.len().is_multiple_of(columns) {
            return Err(Error::mismatch(OP, "x", format!("rows of {columns} elements (weight has {columns})"), x.shape()));
        }
        let rows = x.len() / columns;
        Ok(Dims {
            rows: size(OP, "rows", rows)?,
            columns: size(OP, "columns", columns)?,
            parts: parts(rows) as u32,
            has_residual: has_residual as u32,
            eps,
            row_threads: 0, // CUDA: see launch_rows
            padding: [0; 2],
        })
    }
}

/// Row ranges that `dw` is summed over apart: enough to fill a GPU, few enough that the second pass is nothing.
fn parts(rows: usize) -> usize {
    rows.div_ceil(64).clamp(1, 64)
}

/// Elements of workspace that [`backward`] needs for `rows` rows of `columns`.
pub fn workspace(rows: usize, columns: usize) -> usize {
    parts(rows).saturating_mul(columns)
}

/// `y = rms_norm(s) · weight` with `s = x`, or `s = x + residual` where `residual` is given as `(residual, sum)`; `s` is
/// then written to `sum`.
///
/// Shapes: `x`, `residual`, `sum`, `y`: rows of `C`; `weight [C]`; `rstd [rows]` keeps `1/√(mean(s²) + eps)` for
/// [`backward`]. dtype f32 (f64 on the CPU, bf16 where the device has it; `rstd` is then f32).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::rms_norm;
///
/// let x = Tensor::from_slice(&Device::Cpu, [2, 4], &[3f32, 3.0, 3.0, 3.0, 1.0, -1.0, 1.0, -1.0])?; // two rows of C = 4
/// let weight = Tensor::from_slice(&Device::Cpu, [4], &[1f32, 1.0, 1.0, 2.0])?;
/// let mut y = Tensor::zeros(&Device::Cpu, [2, 4], DType::F32)?;
/// let mut rstd = Tensor::zeros(&Device::Cpu, [2], DType::F32)?;
/// rms_norm::forward(&x, None, &weight, 0.0, &mut y, &mut rstd)?;
/// assert_eq!(y.read::<f32>()?, [1.0, 1.0, 1.0, 2.0, 1.0, -1.0, 1.0, -2.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn forward(x: &Tensor, residual: Option<(&Tensor, &mut Tensor)>, weight: &Tensor, eps: f32, y: &mut Tensor, rstd: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "x", x)?;
    let dims = Dims::new(x, weight, eps, residual.is_some())?;
    let (residual, mut sum) = residual.unzip();
    let call = Call::new(OP, "forward", x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads_if("residual", residual, x.shape(), dtype)?
        .reads("weight", weight, [dims.columns as usize], dtype)?
        .writes_if("sum", sum.as_deref(), x.shape(), dtype)?
        .writes("y", y, x.shape(), dtype)?
        .writes("rstd", rstd, [dims.rows as usize], statistic(dtype))?
        .begin(|| Work::new(FLOPS[0] * x.len()));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, x, residual.zip(sum.as_deref_mut()), weight, y, rstd)),
        Device::Gpu(gpu) => launch_rows(gpu, "forward", dtype, dims, &views([Some(x), residual, Some(weight), sum.as_deref(), Some(y), Some(rstd)]))?,
    }
    call.end([&*y, &*rstd].into_iter().chain(sum.as_deref()));
    Ok(())
}

/// The gradients: `dx` is overwritten with `ds (+ dresidual)`, `dweight` accumulates.
///
/// `x` is what was normalised (`sum`, where forward had a residual), `rstd` what forward saved. `workspace` has at least
/// [`workspace`] elements; its contents do not matter before or after. dtype as for [`forward`]; beside bf16 `rstd`, `dweight`
/// and `workspace` are f32.
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    dresidual: Option<&Tensor>,
    dx: &mut Tensor,
    dweight: &mut Tensor,
    workspace: &mut Tensor,
) -> Result<()> {
    let dtype = activation(OP, "x", x)?;
    let dims = Dims::new(x, weight, 0.0, dresidual.is_some())?;
    let call = Call::new(OP, "backward", x.device())
        .reads("dy", dy, x.shape(), dtype)?
        .reads("x", x, x.shape(), dtype)?
        .reads("weight", weight, weight.shape(), dtype)?
        .reads("rstd", rstd, [dims.rows as usize], statistic(dtype))?
        .reads_if("dresidual", dresidual, x.shape(), dtype)?
        .writes("dx", dx, x.shape(), dtype)?
        .updates("dweight", dweight, weight.shape(), statistic(dtype))?
        .workspace(workspace, self::workspace(dims.rows as usize, dims.columns as usize), statistic(dtype))?
        .begin(|| Work::new(FLOPS[1] * x.len()).of_launch("dweight_partial", DWEIGHT_FLOPS * x.len()).of_launch("dweight_finish", 0));
    match call.device() {
        Device::Cpu => on_real!(dtype, backward_cpu::<T>(dims, dy, x, weight, rstd, dresidual, dx, dweight)),
        Device::Gpu(gpu) => {
            launch_rows(gpu, "backward", dtype, dims, &views([Some(dy), Some(x), Some(weight), Some(rstd), dresidual, Some(dx)]))?;
            launch_dweight(gpu, dtype, dims, [dy, x, rstd], workspace, dweight)?;
        }
    }
    call.end([&*dx, &*dweight]);
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn forward_cpu<T: Real>(dims: Dims, x: &Tensor, residual: Option<(&Tensor, &mut Tensor)>, weight: &Tensor, y: &mut Tensor, rstd: &mut Tensor) {
    let columns = dims.columns as usize;
    let rows = rows_per_task(columns);
    let (x, weight, eps) = (x.cpu::<T>(), weight.cpu::<T>(), T::of(dims.eps as f64));
    let (y, rstd) = (y.cpu_mut::<T>(), rstd.cpu_mut::<T>());
    let out = y.par_chunks_mut(rows * columns).zip(rstd.par_chunks_mut(rows));
    match residual {
        None => out.zip(x.par_chunks(rows * columns)).for_each(|((y, rstd), x)| normalise(x, weight, eps, y, rstd)),
        Some((residual, sum)) => {
            let (residual, sum) = (residual.cpu::<T>(), sum.cpu_mut::<T>());
            let given = x.par_chunks(rows * columns).zip(residual.par_chunks(rows * columns)).zip(sum.par_chunks_mut(rows * columns));
            out.zip(given).for_each(|((y, rstd), ((x, residual), sum))| {
                for ((s, &x), &r) in sum.iter_mut().zip(x).zip(residual) {
                    *s = x + r;
                }
                normalise(sum, weight, eps, y, rstd);
            });
        }
    }
}

#[multiversion(targets = "simd")]
fn normalise<T: Real>(x: &[T], weight: &[T], eps: T, y: &mut [T], rstd: &mut [T]) {
    let columns = weight.len();
    for ((x, y), rstd) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)).zip(rstd) {
        let r = T::one() / (dot(x, x) / T::of(columns as f64) + eps).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * r * w;
        }
        *rstd = r;
    }
}

fn backward_cpu<T: Real>(
    dims: Dims,
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    dresidual: Option<&Tensor>,
    dx: &mut Tensor,
    dweight: &mut Tensor,
) {
    let columns = dims.columns as usize;
    let rows = rows_per_task(columns);
    let (dy, x, weight, rstd) = (dy.cpu::<T>(), x.cpu::<T>(), weight.cpu::<T>(), rstd.cpu::<T>());
    // Each task sums its own rows' share of dw; the shares are added in order afterwards.
    let shares: Vec<Vec<T>> = dx
        .cpu_mut::<T>()
        .par_chunks_mut(rows * columns)
        .enumerate()
        .map(|(task, dx)| {
            let range = task * rows * columns..task * rows * columns + dx.len();
            let rstd = &rstd[task * rows..];
            let dresidual = dresidual.map(|d| &d.cpu::<T>()[range.clone()]);
            let mut share = vec![T::zero(); columns];
            backward_rows(&dy[range.clone()], &x[range], weight, rstd, dresidual, dx, &mut share);
            share
        })
        .collect();
    add_in_order(dweight.cpu_mut(), shares);
}

/// Adds each task's share to a gradient, first task first: the same bits, whichever task finished first.
pub(super) fn add_in_order<T: Real>(total: &mut [T], shares: Vec<Vec<T>>) {
    for share in shares {
        for (total, part) in total.iter_mut().zip(share) {
            *total += part;
        }
    }
}

#[multiversion(targets = "simd")]
fn backward_rows<T: Real>(dy: &[T], x: &[T], weight: &[T], rstd: &[T], dresidual: Option<&[T]>, dx: &mut [T], dweight: &mut [T]) {
    let columns = weight.len();
    let scale = T::one() / T::of(columns as f64);
    for (row, &r) in (0..dy.len() / columns).zip(rstd) {
        let range = row * columns..(row + 1) * columns;
        let (dy, x, dx) = (&dy[range.clone()], &x[range.clone()], &mut dx[range.clone()]);
        for ((g, &dy), &w) in dx.iter_mut().zip(dy).zip(weight) {
            *g = dy * w;
        }
        let slope = r * r * dot(dx, x) * scale;
        for (((dx, dw), &x), &dy) in dx.iter_mut().zip(dweight.iter_mut()).zip(x).zip(dy) {
            *dx = r * (*dx - x * slope);
            *dw += dy * x * r;
        }
        if let Some(dresidual) = dresidual {
            for (dx, &d) in dx.iter_mut().zip(&dresidual[range]) {
                *dx += d;
            }
        }
    }
}

/// `Σ a·b` in sixteen interleaved sums, which the compiler keeps in vector registers.
#[inline(always)]
pub(super) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::zero(); 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail = sum(a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(&a, &b)| a * b));
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    sum(lanes.into_iter()) + tail
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Launches an entry that takes whole rows.
fn launch_rows(gpu: &Gpu, entry: &'static str, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let threads = |columns: u32, least, most| dims.columns.div_ceil(columns).next_power_of_two().clamp(least, most);
    let row_threads = match gpu.language() {
        // As many as the row has columns.
        Language::Wgsl => threads(1, 8, 256),
        // 16 bytes each, up to a warp, which needs no barrier; from there on the 16 columns that a thread can keep.
        Language::Ptx => threads(16 / dtype.size() as u32, 4, 32).max(threads(16, 4, 256)),
    };
    gpu.launch(Launch {
        kernel: (OP, entry),
        constants: &[("ROW_THREADS", row_threads)],
        variant: variant(dtype),
        buffers,
        dims: bytes_of(&Dims { row_threads, ..dims }),
        groups: (dims.rows as usize).div_ceil((256 / row_threads) as usize),
    })
}

/// Launches the gradient of the weight: ranges of rows apart, then their sum.
fn launch_dweight(gpu: &Gpu, dtype: DType, dims: Dims, [dy, x, rstd]: [&Tensor; 3], workspace: &Tensor, dweight: &Tensor) -> Result<()> {
    let column_groups = dims.columns.div_ceil(64) as usize;
    gpu.launch(Launch {
        kernel: (OP, "dweight_partial"),
        constants: &[],
        variant: variant(dtype),
        buffers: &views([dy, x, rstd, workspace]),
        dims: bytes_of(&dims),
        groups: column_groups * dims.parts as usize,
    })?;
    gpu.launch(Launch {
        kernel: (OP, "dweight_finish"),
        constants: &[],
        variant: "",
        buffers: &views([workspace, dweight]),
        dims: bytes_of(&dims),
        groups: column_groups,
    })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

const EPS: f32 = 1e-6;

#[rustfmt::skip]
const SHAPES: &[(usize, usize)] = &[
    (0, 8), (1, 1), (1, 2), (2, 1), (3, 31), (33, 32), (5, 33), (2, 63), (64, 64), (7, 65), (31, 96), (3, 127), (2, 128),
    (9, 129), (257, 16), (101, 24), (1, 255), (4, 256), (3, 257), (2, 1021), (1, 4099), (130, 40), (65, 80), (70_001, 3),
    // CUDA: a full warp per row, then two, four and eight warps, and columns beyond what a thread keeps.
    (5, 512), (3, 520), (3, 1032), (2, 2056), (2, 4096), (2, 8200),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    SHAPES.iter().flat_map(|&(rows, columns)| shape_cases(rows, columns)).chain(sized(&Sizes::DEMO)).collect()
}

/// The cases at a model's sizes: whole rows, and rows of one head.
pub fn sized(s: &Sizes) -> Vec<Case> {
    [(s.rows, s.width), (s.rows * s.heads, s.head_dim)].into_iter().flat_map(|(rows, columns)| shape_cases(rows, columns)).collect()
}

fn shape_cases(rows: usize, columns: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for with_residual in [false, true] {
        let label = format!("rows={rows} C={columns}{}", if with_residual { " residual" } else { "" });
        let mut draw = Draw::new(&label);
        let mut inputs = vec![draw.normals("x", [rows, columns], 1.0).mixed(), draw.normals("weight", [columns], 1.0).mixed()];
        let mut outputs = vec![Output::overwritten("y", [rows, columns], Kind::Mixed), Output::overwritten("rstd", [rows], Kind::Real)];
        if with_residual {
            inputs.push(draw.normals("residual", [rows, columns], 1.0).mixed());
            outputs.push(Output::overwritten("sum", [rows, columns], Kind::Mixed));
        }
        // WGSL: inverseSqrt 2 ulp.
        let case = Case::new("forward", &label, inputs, outputs, Compare::Reduction(2.0), |i, o| {
            let [y, rstd, rest @ ..] = o else { unreachable!("two outputs at least") };
            forward(&i[0], i.get(2).zip(rest.first_mut()), &i[1], EPS, y, rstd)
        })
        .naive(|i, o| {
            on_real!(i[0].dtype(), naive_forward::<T>(i, o));
            Ok(())
        });
        cases.push(case.flops((FLOPS[0] * rows * columns) as u64));

        let mut inputs = vec![
            draw.normals("dy", [rows, columns], 1.0).mixed(),
            draw.normals("x", [rows, columns], 1.0).mixed(),
            draw.normals("weight", [columns], 1.0).mixed(),
            Operand::new("rstd", [rows], Kind::Real, (0..rows).map(|_| 0.5 + draw.uniform()).collect()),
        ];
        if with_residual {
            inputs.push(draw.normals("dresidual", [rows, columns], 1.0).mixed());
        }
        let outputs = vec![
            Output::overwritten("dx", [rows, columns], Kind::Mixed),
            Output::updated(draw.normals("dweight", [columns], 1.0)),
            Output::scratch(workspace(rows, columns)),
        ];
        let case = Case::new("backward", &label, inputs, outputs, Compare::Reduction(0.0), |i, o| {
            let [dx, dweight, workspace] = o else { unreachable!("three outputs") };
            backward(&i[0], &i[1], &i[2], &i[3], i.get(4), dx, dweight, workspace)
        })
        .naive(|i, o| {
            on_real!(i[0].dtype(), naive_backward::<T>(i, o));
            Ok(())
        });
        cases.push(case.flops((FLOPS[1] * rows * columns) as u64));
    }
    cases
}

fn naive_forward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (x, weight) = (inputs[0].cpu::<T>(), inputs[1].cpu::<T>());
    let columns = weight.len();
    for row in 0..x.len() / columns {
        let at = |c: usize| x[row * columns + c] + inputs.get(2).map_or(T::zero(), |r| r.cpu::<T>()[row * columns + c]);
        let squares = sum((0..columns).map(|c| at(c) * at(c)));
        let r = T::one() / (squares / T::of(columns as f64) + T::of(EPS as f64)).sqrt();
        for c in 0..columns {
            outputs[0].cpu_mut::<T>()[row * columns + c] = at(c) * r * weight[c];
            if let Some(sum) = outputs.get_mut(2) {
                sum.cpu_mut::<T>()[row * columns + c] = at(c);
            }
        }
        outputs[1].cpu_mut::<T>()[row] = r;
    }
}

fn naive_backward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let [dy, x, weight, rstd] = [0, 1, 2, 3].map(|i| inputs[i].cpu::<T>());
    let columns = weight.len();
    for row in 0..rstd.len() {
        let at = |c: usize| row * columns + c;
        let mean = sum((0..columns).map(|c| dy[at(c)] * weight[c] * x[at(c)])) / T::of(columns as f64);
        for c in 0..columns {
            let r = rstd[row];
            let around = inputs.get(4).map_or(T::zero(), |d| d.cpu::<T>()[at(c)]);
            outputs[0].cpu_mut::<T>()[at(c)] = r * (dy[at(c)] * weight[c] - x[at(c)] * r * r * mean) + around;
            outputs[1].cpu_mut::<T>()[c] += dy[at(c)] * x[at(c)] * r;
        }
    }
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1), (3, 5), (4, 8), (2, 33)]
        .into_iter()
        .map(|(rows, columns)| {
            let label = format!("rows={rows} C={columns} residual");
            let mut draw = Draw::new(&label);
            let run = move |i: &[Tensor]| -> Result<[Tensor; 3]> {
                let [mut sum, mut y] = super::zeros_like([&i[0], &i[0]])?;
                let mut rstd = Tensor::zeros(y.device(), [rows], y.dtype())?;
                forward(&i[0], Some((&i[1], &mut sum)), &i[2], EPS, &mut y, &mut rstd)?;
                Ok([sum, y, rstd])
            };
            GradientCase {
                inputs: vec![draw.normals("x", [rows, columns], 1.0), draw.normals("residual", [rows, columns], 1.0), draw.normals("weight", [columns], 1.0)],
                wrt: vec![0, 1, 2],
                label,
                forward: Box::new(move |i| run(i).map(|[sum, y, _]| vec![y, sum])),
                backward: Box::new(move |i, d| {
                    let [sum, _, rstd] = run(i)?;
                    let [mut dx, mut dweight] = super::zeros_like([&i[0], &i[2]])?;
                    let mut scratch = Tensor::zeros(sum.device(), [workspace(rows, columns)], sum.dtype())?;
                    backward(&d[0], &sum, &i[2], &rstd, Some(&d[1]), &mut dx, &mut dweight, &mut scratch)?;
                    let mut dresidual = Tensor::zeros(dx.device(), dx.shape(), dx.dtype())?;
                    dresidual.copy_from(&dx)?; // the sum hands its gradient to both of its terms
                    Ok(vec![dx, dresidual, dweight])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_equal_values_becomes_ones() {
        let x = Tensor::from_slice(&Device::Cpu, [1, 4], &[3f32; 4]).unwrap();
        let weight = Tensor::from_slice(&Device::Cpu, [4], &[1f32; 4]).unwrap();
        let mut y = Tensor::zeros(&Device::Cpu, [1, 4], DType::F32).unwrap();
        let mut rstd = Tensor::zeros(&Device::Cpu, [1], DType::F32).unwrap();
        forward(&x, None, &weight, 0.0, &mut y, &mut rstd).unwrap();
        assert_eq!(y.read::<f32>().unwrap(), [1.0; 4]);
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let x = Tensor::zeros(&Device::Cpu, [2, 5], DType::F32).unwrap();
        let weight = Tensor::zeros(&Device::Cpu, [4], DType::F32).unwrap();
        let mut y = Tensor::zeros(&Device::Cpu, [2, 5], DType::F32).unwrap();
        let mut rstd = Tensor::zeros(&Device::Cpu, [2], DType::F32).unwrap();
        let error = forward(&x, None, &weight, 0.0, &mut y, &mut rstd).unwrap_err();
        assert_eq!(error.to_string(), "rms_norm: x: expected rows of 4 elements (weight has 4), found [2, 5]");
    }
}
