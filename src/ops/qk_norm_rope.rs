//! What queries and keys go through between their projection and attention, in one pass: the normalisation of every head, then its
//! rotation.
//!
//! With `r = 1/√(mean(x²) + eps)` over the `d` columns of a head and `n = x · r · w` ([`rms_norm`](super::rms_norm)), column `i`
//! is paired with column `i + d/2` and the pair is turned by its row's angle ([`rope`]):
//!
//! `y[i] = n[i] · cos − n[i + d/2] · sin`, `y[i + d/2] = n[i + d/2] · cos + n[i] · sin`.
//!
//! Backward: the rotation's transpose is its inverse,
//! `dn[i] = dy[i] · cos + dy[i + d/2] · sin`, `dn[i + d/2] = dy[i + d/2] · cos − dy[i] · sin`; then RMSNorm's, with `g = dn · w`:
//! `dx = r · (g − x · r² · mean(g · x))`, `dw = Σ_heads dn · x · r`.
//!
//! Run separately, the two operations write `n` and read it again, and so with its gradient, which two passes need, for `dx` and `dw`:
//! forward touches 4 times `N · H · d` elements and backward 7 times, where this one touches 2 and 3, in 3 launches for 6.
//!
//! Queries and keys are two calls. One call for both would bind ten buffers, and WebGPU promises eight. And an engine that normalises
//! only one of them, or has them in one matrix, can use it as it is.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::{DimsField, Origin};
use super::rms_norm::{add_in_order, dot};
use super::{Call, Op, Pass, Sizes, activation, exactly, on_real, rope, rows_per_task, size, statistic, sum, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Launch, View, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;

const OP: &str = "qk_norm_rope";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "forward", kernel: (OP, "forward_naive") }, Pass { name: "backward", kernel: (OP, "backward_naive") }],
    cases,
    sized,
    gradients,
    fields: FIELDS,
};
/// Floating-point operations per element, forward and backward.
const FLOPS: [usize; 2] = [8, 14];

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::formula("half", "head_dim / 2"),
    DimsField::choice(
        "parts",
        "1 or more: as many ranges of heads are summed apart, each into its row of partial",
        "min(max(ceil_div(rows * heads, 128), 1), 1024)",
    ),
    DimsField::option("eps", "above 0: added under the root; 1e-6 in Qwen3"),
    DimsField {
        name: "head_threads",
        origin: Origin::Choice {
            range: "a power of two from 1 to 32, so that each takes 16 bytes or more of both halves of a head, which are whole 16 bytes: the threads that share a head",
            ours: ["power_of_two(half / 4)", "power_of_two(half / (16 / element_bytes))"],
            elsewhere: Some(("the naive entries and the second pass, which do not read it", ["1"; 2])),
        },
    },
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    rows: u32,
    heads: u32,
    head_dim: u32,
    half: u32,
    positions: u32,
    parts: u32,
    eps: f32,
    head_threads: u32,
}

impl Dims {
    fn new(x: &Tensor, table: &Tensor, eps: f32) -> Result<Self> {
        let half = table.dim(1);
        if x.shape().dims().len() != 3 || x.dim(2) != 2 * half {
            return Err(Error::mismatch(OP, "x", format!("[N, H, {}] (the table's head_dim)", 2 * half), x.shape()));
        }
        size(OP, "elements", x.len())?;
        if table.rows() == 0 && !x.is_empty() {
            return Err(Error::mismatch(OP, "table", "at least one position", table.shape()));
        }
        Ok(Dims {
            rows: size(OP, "rows", x.rows())?,
            heads: size(OP, "heads", x.dim(1))?,
            head_dim: size(OP, "head_dim", 2 * half)?,
            half: half as u32,
            positions: size(OP, "positions", table.rows())?,
            parts: parts(x.rows() * x.dim(1)) as u32,
            eps,
            head_threads: 0, // see launch
        })
    }
}

/// Ranges of heads that `dw` is summed over apart, on a GPU a block each: enough to fill it, few enough that the second pass is
/// nothing.
fn parts(all: usize) -> usize {
    all.div_ceil(128).clamp(1, 1024)
}

/// Elements of workspace that [`backward`] needs for `N` rows of `H` heads.
pub fn workspace(rows: usize, heads: usize, head_dim: usize) -> usize {
    parts(rows.saturating_mul(heads)).saturating_mul(head_dim)
}

/// `y`: every head of `x` normalised, times `weight`, turned by its row's position.
///
/// Shapes: `x [N, H, d]`, `weight [d]`, `position [N]` i32, `table` for heads of `d` columns, `y [N, H, d]`; `rstd [N, H]` keeps
/// `1/√(mean(x²) + eps)` for [`backward`]. dtype f32 (f64 on the CPU, bf16 where the device has it; `rstd` and the table are then
/// f32).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::{qk_norm_rope, rope::Table};
///
/// let x = Tensor::from_slice(&Device::Cpu, [1, 1, 4], &[2f32; 4])?; // [N, H, d]
/// let weight = Tensor::from_slice(&Device::Cpu, [4], &[1f32, 1.0, 1.0, 3.0])?;
/// let position = Tensor::from_slice(&Device::Cpu, [1], &[0])?;
/// let table = Table::new(&Device::Cpu, DType::F32, 1, 4, 10_000.0)?;
/// let mut y = Tensor::zeros(&Device::Cpu, [1, 1, 4], DType::F32)?;
/// let mut rstd = Tensor::zeros(&Device::Cpu, [1, 1], DType::F32)?;
/// qk_norm_rope::forward(&x, &weight, &position, &table, 0.0, &mut y, &mut rstd)?;
/// assert_eq!(y.read::<f32>()?, [1.0, 1.0, 1.0, 3.0]); // position 0 turns nothing
/// assert_eq!(rstd.read::<f32>()?, [0.5]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit; on the CPU also for a position outside the table (a GPU
/// takes the nearest one inside: the host does not see it).
pub fn forward(x: &Tensor, weight: &Tensor, position: &Tensor, table: &rope::Table, eps: f32, y: &mut Tensor, rstd: &mut Tensor) -> Result<()> {
    forward_on(HeadRung::Fast, x, weight, position, table.tensor(), eps, y, rstd)
}

/// The gradients: `gradient` holds `dy` and becomes `dx` in place; `dweight` accumulates.
///
/// `x` is what was normalised, `rstd` what forward saved. `workspace` has at least [`workspace`] elements; its contents do not
/// matter before or after. Shapes and dtypes as for [`forward`]; beside bf16 `rstd`, `dweight` and `workspace` are f32.
///
/// # Errors
/// As for [`forward`].
pub fn backward(
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    position: &Tensor,
    table: &rope::Table,
    gradient: &mut Tensor,
    dweight: &mut Tensor,
    workspace: &mut Tensor,
) -> Result<()> {
    backward_on(HeadRung::Fast, x, weight, rstd, position, table.tensor(), gradient, dweight, workspace)
}

/// Which kernels: several threads per head where its size allows it, or one. The CPU has one way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeadRung {
    Naive,
    Fast,
}

fn forward_on(rung: HeadRung, x: &Tensor, weight: &Tensor, position: &Tensor, table: &Tensor, eps: f32, y: &mut Tensor, rstd: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "x", x)?;
    let dims = Dims::new(x, table, eps)?;
    let call = Call::new(OP, "forward", x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads("weight", weight, exactly([dims.head_dim as usize]), dtype)?
        .reads("position", position, exactly([x.rows()]), DType::I32)?
        .reads("table", table, table.shape(), statistic(dtype))?
        .writes("y", y, exactly(x.shape()), dtype)?
        .writes("rstd", rstd, [x.rows(), x.dim(1)], statistic(dtype))?;
    if let Device::Cpu = call.device() {
        rope::expect_positions(OP, position, table)?;
    }
    let call = call.begin(|| Work::new(FLOPS[0] * x.len()));
    match call.device() {
        _ if x.is_empty() => {}
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, x, weight, position, table, y, rstd)),
        Device::Gpu(gpu) => {
            let all = dims.rows as usize * dims.heads as usize;
            let threads = head_threads(gpu, rung, dims, dtype);
            let entry = if threads.is_some() { "forward" } else { "forward_naive" };
            let groups = all.div_ceil(256 / threads.unwrap_or(1) as usize);
            launch(gpu, entry, dims, threads, dtype, &views([x, weight, position, table, y, rstd]), groups)?;
        }
    }
    call.end([&*y, &*rstd]);
    Ok(())
}

fn backward_on(
    rung: HeadRung,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    position: &Tensor,
    table: &Tensor,
    gradient: &mut Tensor,
    dweight: &mut Tensor,
    workspace: &mut Tensor,
) -> Result<()> {
    let dtype = activation(OP, "x", x)?;
    let dims = Dims::new(x, table, 0.0)?;
    let call = Call::new(OP, "backward", x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads("weight", weight, exactly([dims.head_dim as usize]), dtype)?
        .reads("rstd", rstd, [x.rows(), x.dim(1)], statistic(dtype))?
        .reads("position", position, exactly([x.rows()]), DType::I32)?
        .reads("table", table, table.shape(), statistic(dtype))?
        .updates("gradient", gradient, exactly(x.shape()), dtype)?
        .updates("dweight", dweight, exactly(weight.shape()), statistic(dtype))?
        .workspace(workspace, self::workspace(x.rows(), x.dim(1), x.dim(2)), statistic(dtype))?;
    if let Device::Cpu = call.device() {
        rope::expect_positions(OP, position, table)?;
    }
    let call = call.begin(|| Work::new(FLOPS[1] * x.len()).of_launch("dweight", 0));
    match call.device() {
        _ if x.is_empty() => {}
        Device::Cpu => on_real!(dtype, backward_cpu::<T>(dims, x, weight, rstd, position, table, gradient, dweight)),
        Device::Gpu(gpu) => launch_backward(gpu, rung, dims, dtype, [x, weight, rstd, position, table], gradient, dweight, workspace)?,
    }
    call.end([&*gradient, &*dweight]);
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn forward_cpu<T: Real>(dims: Dims, x: &Tensor, weight: &Tensor, position: &Tensor, table: &Tensor, y: &mut Tensor, rstd: &mut Tensor) {
    let (heads, row_len) = (dims.heads as usize, x.row_len());
    let rows = rows_per_task(row_len);
    let given = x.cpu::<T>().par_chunks(rows * row_len).zip(position.cpu::<i32>().par_chunks(rows));
    let out = y.cpu_mut::<T>().par_chunks_mut(rows * row_len).zip(rstd.cpu_mut::<T>().par_chunks_mut(rows * heads));
    let (weight, table, eps) = (weight.cpu::<T>(), table.cpu::<T>(), T::of(dims.eps as f64));
    out.zip(given).for_each(|((y, rstd), (x, position))| {
        let mut turn = vec![T::zero(); weight.len()];
        forward_rows(x, weight, position, table, eps, &mut turn, y, rstd);
    });
}

/// `turn` holds one row's cosines, then its sines, so that the loop over a head reads them side by side with its halves.
#[multiversion(targets = "simd")]
fn forward_rows<T: Real>(x: &[T], weight: &[T], position: &[i32], table: &[T], eps: T, turn: &mut [T], y: &mut [T], rstd: &mut [T]) {
    let columns = weight.len();
    let row_len = x.len() / position.len();
    let heads = row_len / columns;
    for (row, &p) in position.iter().enumerate() {
        rope::split(&table[p as usize * columns..][..columns], T::one(), turn);
        let range = row * row_len..(row + 1) * row_len;
        let out = y[range.clone()].chunks_exact_mut(columns).zip(&mut rstd[row * heads..(row + 1) * heads]);
        for (x, (y, rstd)) in x[range].chunks_exact(columns).zip(out) {
            let r = T::one() / (dot(x, x) / T::of(columns as f64) + eps).sqrt();
            *rstd = r;
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * r * w;
            }
            rotate(y, turn);
        }
    }
}

/// Turns one head, which is in the first-level cache, by the angles.
#[inline(always)]
fn rotate<T: Real>(head: &mut [T], turn: &[T]) {
    let half = head.len() / 2;
    let ((low, high), (cos, sin)) = (head.split_at_mut(half), turn.split_at(half));
    for (((low, high), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (a, b) = (*low, *high);
        *low = a * cos - b * sin;
        *high = b * cos + a * sin;
    }
}

fn backward_cpu<T: Real>(
    dims: Dims,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    position: &Tensor,
    table: &Tensor,
    gradient: &mut Tensor,
    dweight: &mut Tensor,
) {
    let (heads, row_len) = (dims.heads as usize, x.row_len());
    let rows = rows_per_task(row_len);
    let given = x.cpu::<T>().par_chunks(rows * row_len).zip(position.cpu::<i32>().par_chunks(rows)).zip(rstd.cpu::<T>().par_chunks(rows * heads));
    let (weight, table) = (weight.cpu::<T>(), table.cpu::<T>());
    // Each task sums its own rows' share of dw; the shares are added in order afterwards.
    let shares: Vec<Vec<T>> = gradient
        .cpu_mut::<T>()
        .par_chunks_mut(rows * row_len)
        .zip(given)
        .map(|(gradient, ((x, position), rstd))| {
            let (mut turn, mut share) = (vec![T::zero(); weight.len()], vec![T::zero(); weight.len()]);
            backward_rows(x, weight, rstd, position, table, &mut turn, gradient, &mut share);
            share
        })
        .collect();
    add_in_order(dweight.cpu_mut(), shares);
}

#[multiversion(targets = "simd")]
fn backward_rows<T: Real>(x: &[T], weight: &[T], rstd: &[T], position: &[i32], table: &[T], turn: &mut [T], gradient: &mut [T], dweight: &mut [T]) {
    let columns = weight.len();
    let scale = T::one() / T::of(columns as f64);
    let row_len = x.len() / position.len();
    let heads = row_len / columns;
    for (row, &p) in position.iter().enumerate() {
        rope::split(&table[p as usize * columns..][..columns], -T::one(), turn); // back
        let range = row * row_len..(row + 1) * row_len;
        let given = x[range.clone()].chunks_exact(columns).zip(&rstd[row * heads..(row + 1) * heads]);
        for (d, (x, &r)) in gradient[range].chunks_exact_mut(columns).zip(given) {
            rotate(d, turn);
            for (((d, dw), &x), &w) in d.iter_mut().zip(dweight.iter_mut()).zip(x).zip(weight) {
                *dw += *d * x * r;
                *d *= w;
            }
            let slope = r * r * dot(d, x) * scale;
            for (d, &x) in d.iter_mut().zip(x) {
                *d = r * (*d - x * slope);
            }
        }
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Threads that share a head, 16 bytes of both of its halves each; `None` where that does not cover it, or the naive rung is asked for.
fn head_threads(gpu: &Gpu, rung: HeadRung, dims: Dims, dtype: DType) -> Option<u32> {
    let each = gpu.elements_per_access(dtype) as u32;
    let threads = (dims.half / each).next_power_of_two();
    (rung == HeadRung::Fast && dims.half.is_multiple_of(each) && threads <= 32).then_some(threads)
}

fn launch(gpu: &Gpu, entry: &'static str, dims: Dims, threads: Option<u32>, dtype: DType, buffers: &[Option<View>], groups: usize) -> Result<()> {
    let constant = threads.map(|threads| ("HEAD_THREADS", threads));
    gpu.launch(Launch {
        kernel: (OP, entry),
        constants: constant.as_slice(),
        variant: variant(dtype),
        buffers,
        dims: bytes_of(&Dims { head_threads: threads.unwrap_or(1), ..dims }),
        groups,
    })
}

fn launch_backward(
    gpu: &Gpu,
    rung: HeadRung,
    dims: Dims,
    dtype: DType,
    [x, weight, rstd, position, table]: [&Tensor; 5],
    gradient: &Tensor,
    dweight: &Tensor,
    workspace: &Tensor,
) -> Result<()> {
    let (all, parts) = (dims.rows as usize * dims.heads as usize, dims.parts as usize);
    if let Some(threads) = head_threads(gpu, rung, dims, dtype) {
        launch(gpu, "backward", dims, Some(threads), dtype, &views([x, weight, rstd, position, table, gradient, workspace]), parts)?;
    } else {
        // dw first: it needs dy, which backward_naive overwrites.
        let groups = (dims.half as usize).div_ceil(64) * parts;
        launch(gpu, "dweight_naive", dims, None, dtype, &views([x, rstd, position, table, gradient, workspace]), groups)?;
        let groups = all.div_ceil(256);
        launch(gpu, "backward_naive", dims, None, dtype, &views([x, weight, rstd, position, table, gradient]), groups)?;
    }
    let groups = (dims.head_dim as usize).div_ceil(16);
    launch(gpu, "dweight_finish", dims, None, DType::F32, &views([workspace, dweight]), groups)
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

const EPS: f32 = 1e-6;

/// `(rows N, heads H, head_dim d)`
#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize)] = &[
    (0, 2, 8), (1, 1, 2), (1, 3, 4), (2, 1, 6), (3, 2, 10), (5, 4, 16), (7, 1, 32), (31, 2, 34), (33, 2, 64), (4, 3, 66), (63, 5, 14), (64, 2, 24),
    (65, 3, 40), (2, 7, 80), (3, 2, 96), (5, 1, 126), (2, 2, 128), (3, 3, 130), (129, 2, 12), (257, 4, 16), (1, 1, 256), (2, 33, 4), (1, 64, 8),
    (101, 3, 48), (1009, 1, 2), (300, 2, 64), (1, 2, 1022), (9, 8, 64), (19, 2, 112), (13, 5, 72), (3, 2, 248), (2, 3, 264), (5, 2, 512), (2, 1, 528),
    // Several ranges of dw, the last of them empty.
    (1030, 8, 16), (44_000, 3, 8),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &shape in SHAPES {
        add_cases(&mut cases, shape, 513);
    }
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The cases at a model's sizes: queries, and keys where there are fewer of them.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let mut cases = Vec::new();
    add_cases(&mut cases, (s.rows, s.heads, s.head_dim), s.sample);
    if s.kv_heads != s.heads {
        add_cases(&mut cases, (s.rows, s.kv_heads, s.head_dim), s.sample);
    }
    cases
}

fn add_cases(cases: &mut Vec<Case>, (rows, heads, head_dim): (usize, usize, usize), positions: usize) {
    let label = format!("N={rows} H={heads} d={head_dim} positions={positions}");
    let (shape, elements) = ([rows, heads, head_dim], rows * heads * head_dim);
    for (names, rung) in [(["forward", "backward"], HeadRung::Fast), (["forward:naive", "backward:naive"], HeadRung::Naive)] {
        let mut draw = Draw::new(&label);
        let x = draw.normals("x", shape, 1.0).mixed();
        let weight = draw.normals("weight", [head_dim], 1.0).mixed();
        let position = Operand::ints("position", [rows], (0..rows).map(|_| draw.below(positions) as i32).collect::<Vec<_>>());
        let table = Operand::lazy("table", [positions, head_dim / 2, 2], Kind::Real, move || rope::angles(positions, head_dim / 2, 10_000.0));

        let inputs = vec![x.clone(), weight.clone(), position.clone(), table.clone()];
        let outputs = vec![Output::overwritten("y", shape, Kind::Mixed), Output::overwritten("rstd", [rows, heads], Kind::Real)];
        // WGSL: inverseSqrt 2 ulp.
        let case = Case::new(names[0], &label, inputs, outputs, Compare::Reduction(2.0), move |i, o| {
            let [y, rstd] = o else { unreachable!("two outputs") };
            forward_on(rung, &i[0], &i[1], &i[2], &i[3], EPS, y, rstd)
        })
        .naive(|i, o| {
            on_real!(i[0].dtype(), naive_forward::<T>(i, o));
            Ok(())
        });
        cases.push(case.flops((FLOPS[0] * elements) as u64));

        let rstd = Operand::new("rstd", [rows, heads], Kind::Real, (0..rows * heads).map(|_| 0.5 + draw.uniform()).collect());
        let inputs = vec![x, weight, position, table, rstd];
        let outputs = vec![
            Output::updated(draw.normals("gradient", shape, 1.0).mixed()),
            Output::updated(draw.normals("dweight", [head_dim], 1.0)),
            Output::scratch(workspace(rows, heads, head_dim)),
        ];
        let case = Case::new(names[1], &label, inputs, outputs, Compare::Reduction(0.0), move |i, o| {
            let [gradient, dweight, workspace] = o else { unreachable!("three outputs") };
            backward_on(rung, &i[0], &i[1], &i[4], &i[2], &i[3], gradient, dweight, workspace)
        })
        .naive(|i, o| {
            on_real!(i[0].dtype(), naive_backward::<T>(i, o));
            Ok(())
        });
        cases.push(case.flops((FLOPS[1] * elements) as u64));
    }
}

/// `(head, i, cos, sin)` of every pair.
fn naive_pairs<T: Real>(inputs: &[Tensor]) -> Vec<(usize, usize, T, T)> {
    let (position, table) = (inputs[2].cpu::<i32>(), inputs[3].cpu::<T>());
    let (heads, half) = (inputs[0].dim(1), inputs[0].dim(2) / 2);
    let pair = |head: usize, i: usize| {
        let turn = (position[head / heads] as usize * half + i) * 2;
        (head, i, table[turn], table[turn + 1])
    };
    (0..inputs[0].rows() * heads).flat_map(|head| (0..half).map(move |i| (head, i))).map(|(head, i)| pair(head, i)).collect()
}

fn naive_forward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (x, weight) = (inputs[0].cpu::<T>(), inputs[1].cpu::<T>());
    let (columns, half) = (weight.len(), weight.len() / 2);
    for (x, rstd) in x.chunks_exact(columns).zip(outputs[1].cpu_mut::<T>()) {
        *rstd = T::one() / (sum(x.iter().map(|&x| x * x)) / T::of(columns as f64) + T::of(EPS as f64)).sqrt();
    }
    for (head, i, cos, sin) in naive_pairs::<T>(inputs) {
        let (at, r) = (head * columns + i, outputs[1].cpu::<T>()[head]);
        let (n, m) = (x[at] * r * weight[i], x[at + half] * r * weight[i + half]);
        outputs[0].cpu_mut::<T>()[at] = n * cos - m * sin;
        outputs[0].cpu_mut::<T>()[at + half] = m * cos + n * sin;
    }
}

fn naive_backward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (x, weight, rstd) = (inputs[0].cpu::<T>(), inputs[1].cpu::<T>(), inputs[4].cpu::<T>());
    let (columns, half) = (weight.len(), weight.len() / 2);
    for (head, i, cos, sin) in naive_pairs::<T>(inputs) {
        let (at, r) = (head * columns + i, rstd[head]);
        let gradient = outputs[0].cpu_mut::<T>();
        let (a, b) = (gradient[at], gradient[at + half]);
        let (n, m) = (a * cos + b * sin, b * cos - a * sin);
        gradient[at] = n * weight[i];
        gradient[at + half] = m * weight[i + half];
        outputs[1].cpu_mut::<T>()[i] += n * x[at] * r;
        outputs[1].cpu_mut::<T>()[i + half] += m * x[at + half] * r;
    }
    for ((g, x), &r) in outputs[0].cpu_mut::<T>().chunks_exact_mut(columns).zip(x.chunks_exact(columns)).zip(rstd) {
        let mean = sum(g.iter().zip(x).map(|(&g, &x)| g * x)) / T::of(columns as f64);
        g.iter_mut().zip(x).for_each(|(g, &x)| *g = r * (*g - x * r * r * mean));
    }
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1, 2), (3, 2, 6), (2, 3, 8)]
        .into_iter()
        .map(|(rows, heads, head_dim)| {
            let label = format!("N={rows} H={heads} d={head_dim}");
            let mut draw = Draw::new(&label);
            let table = move |x: &Tensor| rope::Table::new(x.device(), x.dtype(), 9, head_dim, 10_000.0);
            let run = move |i: &[Tensor]| -> Result<[Tensor; 2]> {
                let [mut y] = super::zeros_like([&i[0]])?;
                let mut rstd = Tensor::zeros(y.device(), [rows, heads], y.dtype())?;
                forward(&i[0], &i[1], &i[2], &table(&i[0])?, EPS, &mut y, &mut rstd)?;
                Ok([y, rstd])
            };
            GradientCase {
                inputs: vec![
                    draw.normals("x", [rows, heads, head_dim], 1.0),
                    draw.normals("weight", [head_dim], 1.0),
                    Operand::ints("position", [rows], (0..rows).map(|_| draw.below(9) as i32).collect::<Vec<_>>()),
                ],
                wrt: vec![0, 1],
                label,
                forward: Box::new(move |i| run(i).map(|[y, _]| vec![y])),
                backward: Box::new(move |i, d| {
                    let [_, rstd] = run(i)?;
                    let [mut gradient, mut dweight] = super::zeros_like([&i[0], &i[1]])?;
                    gradient.copy_from(&d[0])?;
                    let mut scratch = Tensor::zeros(rstd.device(), [workspace(rows, heads, head_dim)], rstd.dtype())?;
                    backward(&i[0], &i[1], &rstd, &i[2], &table(&i[0])?, &mut gradient, &mut dweight, &mut scratch)?;
                    Ok(vec![gradient, dweight])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op};
    use crate::ops::{rms_norm, zeros_like};

    /// On the CPU the same bits as one operation after the other: what is fused is the memory, not the arithmetic.
    #[test]
    fn is_rms_norm_and_then_rope() {
        let (rows, heads, head_dim) = (300, 3, 24);
        let mut draw = Draw::new("fused");
        let [x, weight, dy] = [("x", vec![rows, heads, head_dim]), ("weight", vec![head_dim]), ("dy", vec![rows, heads, head_dim])]
            .map(|(name, shape)| draw.normals(name, &shape[..], 1.0).tensor(&Device::Cpu, DType::F32).unwrap());
        let position = Tensor::from_slice(&Device::Cpu, [rows], &(0..rows as i32).map(|i| i % 50).collect::<Vec<_>>()).unwrap();
        let table = rope::Table::new(&Device::Cpu, DType::F32, 50, head_dim, 10_000.0).unwrap();
        let [mut n, mut y, mut fused, mut dn, mut dx] = zeros_like([&x; 5]).unwrap();
        let [mut dweight, mut fused_dweight] = zeros_like([&weight; 2]).unwrap();
        let mut rstd = Tensor::zeros(&Device::Cpu, [rows, heads], DType::F32).unwrap();
        let mut scratch = Tensor::zeros(&Device::Cpu, [rms_norm::workspace(rows * heads, head_dim)], DType::F32).unwrap();
        rms_norm::forward(&x, None, &weight, EPS, &mut n, &mut rstd).unwrap();
        rope::forward(&n, &position, &table, &mut y).unwrap();
        rope::backward(&dy, &position, &table, &mut dn).unwrap();
        rms_norm::backward(&dn, &x, &weight, &rstd, None, &mut dx, &mut dweight, &mut scratch).unwrap();

        forward(&x, &weight, &position, &table, EPS, &mut fused, &mut rstd).unwrap();
        assert_eq!(fused.read::<f32>().unwrap(), y.read::<f32>().unwrap());
        fused.copy_from(&dy).unwrap();
        backward(&x, &weight, &rstd, &position, &table, &mut fused, &mut fused_dweight, &mut scratch).unwrap();
        assert_eq!(fused.read::<f32>().unwrap(), dx.read::<f32>().unwrap());
        // The weight's gradient is a sum over rows, which the two operations take in groups of their own.
        for (fused, apart) in fused_dweight.read::<f32>().unwrap().into_iter().zip(dweight.read::<f32>().unwrap()) {
            assert!((fused - apart).abs() <= 1e-5 * apart.abs().max(1.0), "{fused} {apart}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let x = Tensor::zeros(&Device::Cpu, [1, 1, 4], DType::F32).unwrap();
        let [mut y] = zeros_like([&x]).unwrap();
        let [weight, short] = [4, 3].map(|n| Tensor::zeros(&Device::Cpu, [n], DType::F32).unwrap());
        let mut rstd = Tensor::zeros(&Device::Cpu, [1, 1], DType::F32).unwrap();
        let table = rope::Table::new(&Device::Cpu, DType::F32, 4, 4, 10_000.0).unwrap();
        let [inside, outside] = [3, 4].map(|p| Tensor::from_slice(&Device::Cpu, [1], &[p]).unwrap());
        let mut error = |weight, position| forward(&x, weight, position, &table, EPS, &mut y, &mut rstd).unwrap_err().to_string();
        assert_eq!(error(&weight, &outside), "qk_norm_rope: position: expected numbers within 0..4, found 4 at 0");
        assert_eq!(error(&short, &inside), "qk_norm_rope: weight: expected [4], found [3]");
    }

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        assert_drawn(8, (0usize..60, 1usize..6, 1usize..70, 1usize..300), |(rows, heads, half, positions)| {
            let mut cases = Vec::new();
            add_cases(&mut cases, (rows, heads, 2 * half), positions);
            add_cases(&mut cases, (rows, heads, 16 * (1 + half % 16)), positions);
            cases
        });
    }
}
