//! Rows of the probabilities that the fused kernels never hold: `p_ij = exp(scale · q_i·k_j − lse_i)`, for people who want to look.
//!
//! Recomputed from the log-sum-exp that forward saved, as backward does it, so that they are the very probabilities that were used. One
//! thread per probability, because people look at a few rows only.

use super::naive::naive_forward;
use super::shapes::{EXP_ULP, Shape, inputs};
use super::{Checked, Dims, OP};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Language, Launch, View, variant};
use crate::error::Result;
use crate::ops::case::{Case, Compare, Draw, Kind, Operand, Output};
use crate::ops::{Call, exactly, on_real, size, statistic, sum, views};
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use rayon::prelude::*;
use std::ops::Range;

/// The probabilities of some rows: `p[r, h, j] = exp(scale · q[row[r], h]·k[j, h / (H / Hkv)] − lse[row[r], h])` for each key j inside
/// `visible[row[r]]`, 0 for every other. What a row sees sums to 1, as far as rounding lets it.
///
/// Shapes: `q [Nq, H, d]`, `k [Nk, Hkv, d]`, `lse [Nq, H]` as [`super::forward`] wrote it, `visible [Nq, 2]` i32, `row [R]` i32
/// (rows of `q`; one outside `0..Nq` gets zeros, and so does one that sees nothing), `p [R, H, Nk]`, overwritten. dtype f32 (f64 on
/// the CPU; on NVIDIA GPUs `q` and `k` may be bf16, with the rest in f32).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::attention;
///
/// let [q, k] = [(); 2].map(|_| Tensor::zeros(&Device::Cpu, [2, 1, 4], DType::F32).unwrap()); // [N, H, d]: all scores are equal
/// let lse = Tensor::from_slice(&Device::Cpu, [2, 1], &[0f32, 2f32.ln()])?; // as `forward` wrote it
/// let visible = Tensor::from_slice(&Device::Cpu, [2, 2], &[0, 1, 0, 2])?;
/// let row = Tensor::from_slice(&Device::Cpu, [1], &[0])?;
/// let mut p = Tensor::zeros(&Device::Cpu, [1, 1, 2], DType::F32)?; // [R, H, Nk]
/// attention::probabilities(&q, &k, &lse, &visible, &row, 0.5, &mut p)?;
/// assert_eq!(p.read::<f32>()?, [1.0, 0.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Mismatch`] where a shape, dtype or device does not fit, [`crate::Error::TooLarge`] for 2³¹ probabilities and more.
pub fn probabilities(q: &Tensor, k: &Tensor, lse: &Tensor, visible: &Tensor, row: &Tensor, scale: f32, p: &mut Tensor) -> Result<()> {
    let checked = Checked::new(q, k, scale)?;
    let Checked { dims, dtype, .. } = checked;
    // Nobody is told: it is not part of a step.
    let call = Call::new(OP, "probabilities", q.device())
        .reads("q", q, q.shape(), dtype)?
        .reads("k", k, exactly(checked.shape_of_keys()), dtype)?
        .reads("lse", lse, checked.shape_of_rows(), statistic(dtype))?
        .reads("visible", visible, [dims.queries as usize, 2], DType::I32)?
        .reads("row", row, [row.len()], DType::I32)?
        .writes("p", p, [row.len(), dims.heads as usize, dims.keys as usize], statistic(dtype))?;
    size(OP, "probabilities (rows · heads · keys)", p.len())?;
    let dims = Dims { rows: size(OP, "rows to look at", row.len())?, ..dims };
    match call.device() {
        Device::Cpu => on_real!(dtype, probabilities_cpu::<T>(&dims, q, k, lse, visible, row, p)),
        Device::Gpu(gpu) => launch(gpu, dtype, dims, &views([q, k, lse, visible, row, &*p]))?,
    }
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn probabilities_cpu<T: Real>(dims: &Dims, q: &Tensor, k: &Tensor, lse: &Tensor, visible: &Tensor, row: &Tensor, p: &mut Tensor) {
    let (q, k, lse, visible, row) = (q.cpu::<T>(), k.cpu::<T>(), lse.cpu::<T>(), visible.cpu::<i32>(), row.cpu::<i32>());
    let (heads, hd) = (dims.heads as usize, dims.head_dim as usize);
    let (kv_heads, keys, scale) = (dims.kv_heads as usize, dims.keys as usize, T::of(dims.scale as f64));
    p.cpu_mut::<T>().par_chunks_mut(keys.max(1)).enumerate().for_each(|(i, p)| {
        let (row, head) = (row[i / heads], i % heads);
        p.fill(T::zero());
        let Some(row) = usize::try_from(row).ok().filter(|&row| row < dims.queries as usize) else { return };
        let query = &q[(row * heads + head) * hd..][..hd];
        for key in interval(visible, row, keys) {
            let key_row = &k[(key * kv_heads + head / (heads / kv_heads)) * hd..][..hd];
            let score = sum(query.iter().zip(key_row).map(|(&a, &b)| a * b)) * scale;
            p[key] = (score - lse[row * heads + head]).exp();
        }
    });
}

/// The keys that a row sees, inside those that there are.
fn interval(visible: &[i32], row: usize, keys: usize) -> Range<usize> {
    let [start, end] = [0, 1].map(|edge| (visible[2 * row + edge].max(0) as usize).min(keys));
    start..end.max(start)
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch(gpu: &Gpu, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let head_dim = [("HEAD_DIM", dims.head_dim)];
    let (constants, variant, block): (&[_], _, _) = match gpu.language() {
        Language::Wgsl => (&head_dim, "", 64),
        Language::Ptx => (&[], variant(dtype), 128),
    };
    let groups = (dims.rows as usize * dims.heads as usize * dims.keys as usize).div_ceil(block);
    // Attention's probabilities are its weights, too. kernels.json publishes the entry by this name, so it stays.
    gpu.launch(Launch { kernel: (OP, "weights"), constants, variant, buffers, dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The most rows that are asked for, beside one that does not exist.
const ASKED: usize = 5;

/// A few rows in no order, one of them twice, one outside.
pub(super) fn probabilities_cases(shape: &Shape) -> Vec<Case> {
    let shape = *shape;
    let Shape { queries, keys, heads, head_dim, .. } = shape;
    let (mut operands, visible) = inputs(&shape);
    let given = operands.clone();
    let lse = Operand::lazy("lse", [queries, heads], Kind::Real, move || {
        let tensors: Vec<Tensor> = given.iter().map(|i| i.tensor(&Device::Cpu, DType::F64).expect("a small tensor")).collect();
        let zeros = |shape: &[usize]| Tensor::zeros(&Device::Cpu, shape, DType::F64).expect("a small tensor");
        let (mut o, mut lse) = (zeros(&[queries, heads, head_dim]), zeros(&[queries, heads]));
        naive_forward::<f64>(&tensors, shape.scale(), |x| x, &mut o, &mut lse);
        lse.cpu::<f64>().to_vec()
    });
    // Scores of normals are normals: their exponentials have the mean √e.
    let seen: Vec<f64> = visible.iter().map(|v| (v[1] - v[0]).max(1) as f64).collect();
    let lse = lse.timed_as(move || seen.iter().flat_map(|n| std::iter::repeat_n(n.ln() + 0.5, heads)).collect());
    let mut draw = Draw::new(&format!("{} weights", shape.label()));
    let mut asked: Vec<i32> = (0..ASKED.min(queries)).map(|_| draw.below(queries) as i32).collect();
    asked.extend(asked.first().copied());
    asked.insert(asked.len() / 2, if draw.below(2) == 0 { -1 } else { queries as i32 });
    let pairs: u64 = asked.iter().filter_map(|&row| visible.get(row as usize)).map(|v| (v[1] - v[0]).max(0) as u64).sum();
    let visible = operands.pop().expect("visible");
    operands.truncate(2); // no values
    let rows = asked.len();
    let read = [lse, visible, Operand::ints("row", [rows], asked)];
    let outputs = vec![Output::overwritten("p", [rows, heads, keys], Kind::Real)];
    let case = Case::new("weights", shape.label(), operands.into_iter().chain(read).collect(), outputs, Compare::Reduction(EXP_ULP), move |i, o| {
        probabilities(&i[0], &i[1], &i[2], &i[3], &i[4], shape.scale(), &mut o[0])
    })
    .naive(move |i, o| {
        on_real!(i[0].dtype(), naive_probabilities::<T>(i, shape.scale(), &mut o[0]));
        Ok(())
    });
    vec![case.flops(2 * pairs * (heads * head_dim) as u64)]
}

/// The definition, read the other way round: every key of every head, and whether the row sees it. inputs: q, k, lse, visible, row.
fn naive_probabilities<T: Real>(inputs: &[Tensor], scale: f32, p: &mut Tensor) {
    let [q, k, lse] = [0, 1, 2].map(|i| inputs[i].cpu::<T>());
    let [visible, row] = [3, 4].map(|i| inputs[i].cpu::<i32>());
    let (queries, keys, heads, kv_heads, hd) = (inputs[0].rows(), inputs[1].rows(), inputs[0].dim(1), inputs[1].dim(1), inputs[0].dim(2));
    let p = p.cpu_mut::<T>();
    for (r, &row) in row.iter().enumerate() {
        for head in 0..heads {
            for key in 0..keys {
                let there = (0..queries as i32).contains(&row);
                let sees = there && (visible[2 * row as usize]..visible[2 * row as usize + 1]).contains(&(key as i32));
                p[(r * heads + head) * keys + key] = if sees {
                    let at = row as usize * heads + head;
                    let kv = (key * kv_heads + head / (heads / kv_heads)) * hd;
                    let score = sum((0..hd).map(|d| q[at * hd + d] * k[kv + d])) * T::of(scale as f64);
                    (score - lse[at]).exp()
                } else {
                    T::zero()
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::EMPTY;
    use super::*;

    /// Two keys with equal scores share the probability; what is not seen has none.
    #[test]
    fn equal_scores_share() {
        let zeros = |shape: &[usize]| Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap();
        let ints = |shape: &[usize], data: &[i32]| Tensor::from_slice(&Device::Cpu, shape, data).unwrap();
        let (q, k, visible) = (zeros(&[3, 1, 4]), zeros(&[4, 1, 4]), ints(&[3, 2], &[1, 3, 0, 4, 2, 2]));
        let lse = Tensor::from_slice(&Device::Cpu, [3, 1], &[2f32.ln(), 4f32.ln(), EMPTY]).unwrap();
        let mut p = zeros(&[4, 1, 4]);
        probabilities(&q, &k, &lse, &visible, &ints(&[4], &[2, 0, 9, -1]), 1.0, &mut p).unwrap();
        let expected = [[0.0; 4], [0.0, 0.5, 0.5, 0.0], [0.0; 4], [0.0; 4]].concat();
        assert!(p.read::<f32>().unwrap().iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{p:?}");
        let error = probabilities(&q, &k, &lse, &visible, &ints(&[2], &[0, 1]), 1.0, &mut p).unwrap_err().to_string();
        assert_eq!(error, "attention: p: expected [2, 1, 4], found [4, 1, 4]");
    }
}
