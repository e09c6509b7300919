//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in Hugging Face's rotate-half convention (Llama, Qwen3).
//!
//! Column `i` of a head of `d` columns is paired with column `i + d/2`, and the pair is turned by the angle
//! `position · θ^(−2i/d)`:
//!
//! `y[i] = x[i] · cos − x[i + d/2] · sin`, `y[i + d/2] = x[i + d/2] · cos + x[i] · sin`.
//!
//! Backward: a rotation's transpose is its inverse, the same with `−sin`.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::{Call, Op, Pass, Sizes, activation, exactly, on_real, rows_per_task, size, statistic, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Launch, View, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;

const OP: &str = "rope";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "forward", kernel: (OP, "rotate") }, Pass { name: "backward", kernel: (OP, "rotate") }],
    cases,
    sized,
    gradients,
    fields: FIELDS,
};
/// Floating-point operations per element.
const FLOPS: usize = 3;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::formula("pairs", "rows * heads * half"),
    DimsField::formula("half", "head_dim / 2"),
    DimsField::option("sign", "1: rotate; -1: rotate back, which is the backward pass"),
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    pairs: u32,
    heads: u32,
    half: u32,
    positions: u32,
    sign: f32,
    rows: u32,
    head_dim: u32,
    padding: u32,
}

/// The cosines and sines of every position.
pub struct Table(Tensor);

impl Table {
    /// The table `[positions, head_dim/2, 2]` of (cos, sin) of `position · theta^(−2i/head_dim)`, computed in f64 on the host
    /// and rounded to `dtype` (f32, or f64 on the CPU).
    ///
    /// # Errors
    /// [`Error::Usage`] for an odd `head_dim`; those of [`Tensor::from_f64`].
    pub fn new(device: &Device, dtype: DType, positions: usize, head_dim: usize, theta: f64) -> Result<Table> {
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(Error::Usage(format!("rope: head_dim: expected an even number above 0, found {head_dim}")));
        }
        let half = head_dim / 2;
        let mut table = Tensor::zeros(device, [positions, half, 2], dtype)?; // refuses what would be too large, before it is computed
        table.write_f64(&angles(positions, half, theta))?;
        Ok(Table(table))
    }

    /// The table itself.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// How many positions it has.
    pub fn positions(&self) -> usize {
        self.0.rows()
    }
}

pub(super) fn angles(positions: usize, half: usize, theta: f64) -> Vec<f64> {
    let angle = |p: usize, i: usize| p as f64 * theta.powf(-(i as f64) / half as f64);
    (0..positions).flat_map(|p| (0..half).flat_map(move |i| [angle(p, i).cos(), angle(p, i).sin()])).collect()
}

/// Turns every head of every row by its row's position.
///
/// Shapes: `x [N, H, d]`, `position [N]` i32, `table` for heads of `d` columns, `y [N, H, d]`. dtype f32 (f64 on the CPU, bf16
/// where the device has it; the table is then f32).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::rope::{self, Table};
///
/// let x = Tensor::from_slice(&Device::Cpu, [2, 1, 2], &[1f32, 0.0, 1.0, 0.0])?; // [N, H, d]
/// let position = Tensor::from_slice(&Device::Cpu, [2], &[0, 1])?;
/// let table = Table::new(&Device::Cpu, DType::F32, 2, 2, 10_000.0)?;
/// let mut y = Tensor::zeros(&Device::Cpu, [2, 1, 2], DType::F32)?;
/// rope::forward(&x, &position, &table, &mut y)?;
/// assert_eq!(y.read::<f32>()?, [1.0, 0.0, 1f64.cos() as f32, 1f64.sin() as f32]); // position 0 turns nothing
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit; on the CPU also for a position outside the table (a GPU
/// takes the nearest one inside: the host does not see it).
pub fn forward(x: &Tensor, position: &Tensor, table: &Table, y: &mut Tensor) -> Result<()> {
    rotate(x, position, &table.0, y, 1.0, true)
}

/// The gradient: `dx`, overwritten, is `dy` turned back.
///
/// Shapes and errors as for [`forward`].
pub fn backward(dy: &Tensor, position: &Tensor, table: &Table, dx: &mut Tensor) -> Result<()> {
    rotate(dy, position, &table.0, dx, -1.0, true)
}

/// By one pair per GPU thread or, where the head allows it, by several neighbours (`wide`); the CPU has one way.
fn rotate(x: &Tensor, position: &Tensor, table: &Tensor, y: &mut Tensor, sign: f32, wide: bool) -> Result<()> {
    let dtype = activation(OP, "x", x)?;
    let half = table.dim(1);
    let head_dim = size(OP, "head_dim", half.saturating_mul(2))?;
    if x.shape().dims().len() != 3 || x.dim(2) != head_dim as usize {
        return Err(Error::mismatch(OP, "x", format!("[N, H, {head_dim}] (the table's head_dim)"), x.shape()));
    }
    let call = Call::new(OP, if sign > 0.0 { "forward" } else { "backward" }, x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads("position", position, exactly([x.rows()]), DType::I32)?
        .reads("table", table, exactly([table.rows(), half, 2]), statistic(dtype))?
        .writes("y", y, exactly(x.shape()), dtype)?;
    let dims = Dims {
        pairs: size(OP, "pairs", x.len() / 2)?,
        heads: size(OP, "heads", x.dim(1))?,
        half: half as u32,
        positions: size(OP, "positions", table.rows())?,
        sign,
        rows: size(OP, "rows", x.rows())?,
        head_dim,
        padding: 0,
    };
    if x.is_empty() {
        return Ok(());
    }
    if table.rows() == 0 {
        return Err(Error::mismatch(OP, "table", "at least one position", table.shape()));
    }
    let call = call.begin(|| Work::new(FLOPS * x.len()));
    match call.device() {
        Device::Cpu => {
            expect_positions(OP, position, table)?;
            on_real!(dtype, rotate_cpu::<T>(dims, x, position.cpu::<i32>(), table, y));
        }
        Device::Gpu(gpu) => launch(gpu, wide, dtype, dims, &views([x, position, table, &*y]))?,
    }
    call.end([&*y]);
    Ok(())
}

/// On the CPU, where the host sees them: every position has a row of the table.
pub(super) fn expect_positions(op: &'static str, position: &Tensor, table: &Tensor) -> Result<()> {
    let position = position.cpu::<i32>();
    match position.iter().position(|&p| p < 0 || p as usize >= table.rows()) {
        None => Ok(()),
        Some(at) => Err(Error::mismatch(op, "position", format!("numbers within 0..{}", table.rows()), format!("{} at {at}", position[at]))),
    }
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn rotate_cpu<T: Real>(dims: Dims, x: &Tensor, position: &[i32], table: &Tensor, y: &mut Tensor) {
    let (half, row_len) = (dims.half as usize, x.row_len());
    let rows = rows_per_task(row_len);
    let given = x.cpu::<T>().par_chunks(rows * row_len).zip(position.par_chunks(rows));
    y.cpu_mut::<T>().par_chunks_mut(rows * row_len).zip(given).for_each(|(y, (x, position))| {
        let mut turn = vec![T::zero(); 2 * half];
        rotate_rows(x, position, table.cpu::<T>(), T::of(dims.sign as f64), row_len, &mut turn, y);
    });
}

/// One row of the table as cosines, then sines, which `sign` −1 reverses.
#[inline(always)]
pub(super) fn split<T: Real>(row: &[T], sign: T, turn: &mut [T]) {
    let (cos, sin) = turn.split_at_mut(row.len() / 2);
    for ((pair, cos), sin) in row.chunks_exact(2).zip(cos).zip(sin) {
        (*cos, *sin) = (pair[0], pair[1] * sign);
    }
}

/// `turn` holds one row's cosines, then its sines, so that the loop over a head reads them side by side with its halves.
#[multiversion(targets = "simd")]
fn rotate_rows<T: Real>(x: &[T], position: &[i32], table: &[T], sign: T, row_len: usize, turn: &mut [T], y: &mut [T]) {
    let half = turn.len() / 2;
    for ((x, y), &p) in x.chunks_exact(row_len).zip(y.chunks_exact_mut(row_len)).zip(position) {
        split(&table[p as usize * 2 * half..][..2 * half], sign, turn);
        let (cos, sin) = turn.split_at(half);
        for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half)) {
            let ((a, b), (low, high)) = (x.split_at(half), y.split_at_mut(half));
            for (((((low, high), &a), &b), &cos), &sin) in low.iter_mut().zip(high).zip(a).zip(b).zip(cos.iter()).zip(sin.iter()) {
                *low = a * cos - b * sin;
                *high = b * cos + a * sin;
            }
        }
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch(gpu: &Gpu, wide: bool, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let (pairs, half) = (dims.pairs as usize, dims.half as usize);
    let each = gpu.elements_per_access(dtype);
    let wide = wide && half.is_multiple_of(each);
    let (entry, groups) = if wide { ("rotate_vec4", pairs.div_ceil(256 * each)) } else { ("rotate", pairs.div_ceil(256)) };
    gpu.launch(Launch { kernel: (OP, entry), constants: &[], buffers, variant: variant(dtype), dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// `(rows N, heads H, head_dim d)`
#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize)] = &[
    (0, 2, 8), (1, 1, 2), (1, 3, 4), (2, 1, 6), (3, 2, 10), (5, 4, 16), (7, 1, 32), (31, 2, 34), (32, 1, 62), (33, 2, 64), (4, 3, 66), (63, 5, 14),
    (64, 2, 24), (65, 3, 40), (2, 7, 80), (3, 2, 96), (5, 1, 126), (2, 2, 128), (3, 3, 130), (127, 1, 18), (128, 4, 8), (129, 2, 12), (257, 4, 16),
    (1, 1, 256), (1, 31, 2), (2, 33, 4), (1, 64, 6), (13, 17, 22), (101, 3, 38), (1009, 1, 2), (300, 2, 64), (17, 13, 46), (1, 2, 1022), (9, 8, 64),
    (8, 65, 10), (19, 2, 112),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(rows, heads, head_dim) in SHAPES {
        for positions in [1, 513] {
            add_cases(&mut cases, (rows, heads, head_dim), positions);
        }
    }
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The cases at a model's sizes.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let mut cases = Vec::new();
    add_cases(&mut cases, (s.rows, s.heads, s.head_dim), s.sample);
    cases
}

fn add_cases(cases: &mut Vec<Case>, (rows, heads, head_dim): (usize, usize, usize), positions: usize) {
    let label = format!("N={rows} H={heads} d={head_dim} positions={positions}");
    let rungs = [
        ("forward:scalar", "x", "y", 1.0, false),
        ("backward:scalar", "dy", "dx", -1.0, false),
        ("forward:vec4", "x", "y", 1.0, true),
        ("backward:vec4", "dy", "dx", -1.0, true),
    ];
    for (entry, name, out, sign, wide) in rungs {
        if wide && head_dim % 8 != 0 {
            continue;
        }
        let mut draw = Draw::new(&label);
        let inputs = vec![
            draw.normals(name, [rows, heads, head_dim], 1.0).mixed(),
            Operand::ints("position", [rows], (0..rows).map(|_| draw.below(positions) as i32).collect::<Vec<_>>()),
            Operand::lazy("table", [positions, head_dim / 2, 2], Kind::Real, move || angles(positions, head_dim / 2, 10_000.0)),
        ];
        let outputs = vec![Output::overwritten(out, [rows, heads, head_dim], Kind::Mixed)];
        let case = Case::new(entry, &label, inputs, outputs, Compare::Reduction(0.0), move |i, o| rotate(&i[0], &i[1], &i[2], &mut o[0], sign, wide)).naive(
            move |i, o| {
                on_real!(i[0].dtype(), naive::<T>(i, o, sign));
                Ok(())
            },
        );
        cases.push(case.flops((FLOPS * rows * heads * head_dim) as u64));
    }
}

fn naive<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor], sign: f32) {
    let (x, position, table) = (inputs[0].cpu::<T>(), inputs[1].cpu::<i32>(), inputs[2].cpu::<T>());
    let (heads, half, sign) = (inputs[0].dim(1), inputs[0].dim(2) / 2, T::of(sign as f64));
    for (n, &position) in position.iter().enumerate() {
        for h in 0..heads {
            for i in 0..half {
                let at = (n * heads + h) * 2 * half + i;
                let turn = (position as usize * half + i) * 2;
                let (cos, sin) = (table[turn], sign * table[turn + 1]);
                outputs[0].cpu_mut::<T>()[at] = x[at] * cos - x[at + half] * sin;
                outputs[0].cpu_mut::<T>()[at + half] = x[at + half] * cos + x[at] * sin;
            }
        }
    }
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1, 2), (3, 2, 6), (2, 3, 8)]
        .into_iter()
        .map(|(rows, heads, head_dim)| {
            let label = format!("N={rows} H={heads} d={head_dim}");
            let mut draw = Draw::new(&label);
            let run = move |x: &Tensor, position: &Tensor, backwards: bool| -> Result<Vec<Tensor>> {
                let table = Table::new(x.device(), x.dtype(), 9, head_dim, 10_000.0)?;
                let [mut y] = super::zeros_like([x])?;
                if backwards {
                    backward(x, position, &table, &mut y)?
                } else {
                    forward(x, position, &table, &mut y)?
                }
                Ok(vec![y])
            };
            GradientCase {
                inputs: vec![
                    draw.normals("x", [rows, heads, head_dim], 1.0),
                    Operand::ints("position", [rows], (0..rows).map(|_| draw.below(9) as i32).collect::<Vec<_>>()),
                ],
                wrt: vec![0],
                label,
                forward: Box::new(move |i| run(&i[0], &i[1], false)),
                backward: Box::new(move |i, d| run(&d[0], &i[1], true)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op};

    #[test]
    fn agrees_with_hugging_face() {
        // transformers.models.qwen3.modeling_qwen3.apply_rotary_pos_emb, head_dim 4, theta 10,000, position 3, in float64.
        let x = Tensor::from_slice(&Device::Cpu, [1, 1, 4], &[1f64, 2.0, 3.0, 4.0]).unwrap();
        let position = Tensor::from_slice(&Device::Cpu, [1], &[3]).unwrap();
        let table = Table::new(&Device::Cpu, DType::F64, 4, 4, 10_000.0).unwrap();
        let [mut y, mut back] = crate::ops::zeros_like([&x, &x]).unwrap();
        forward(&x, &position, &table, &mut y).unwrap();
        let expected = [-1.413352520780047, 1.8791180666879925, -2.828857481741469, 4.058191135400942];
        for (f, e) in y.read::<f64>().unwrap().iter().zip(expected) {
            assert!((f - e).abs() < 1e-12, "{f} {e}");
        }
        backward(&y, &position, &table, &mut back).unwrap();
        for (f, e) in back.read::<f64>().unwrap().iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert!((f - e).abs() < 1e-12, "{f} {e}");
        }
    }

    #[test]
    fn positions_beyond_the_table_are_refused() {
        let x = Tensor::zeros(&Device::Cpu, [1, 1, 4], DType::F32).unwrap();
        let position = Tensor::from_slice(&Device::Cpu, [1], &[4]).unwrap();
        let table = Table::new(&Device::Cpu, DType::F32, 4, 4, 10_000.0).unwrap();
        let mut y = Tensor::zeros(&Device::Cpu, [1, 1, 4], DType::F32).unwrap();
        let error = forward(&x, &position, &table, &mut y).unwrap_err();
        assert_eq!(error.to_string(), "rope: position: expected numbers within 0..4, found 4 at 0");
        assert!(Table::new(&Device::Cpu, DType::F32, 4, 5, 10_000.0).is_err());
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
            cases
        });
    }
}
