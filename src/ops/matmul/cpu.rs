//! The CPU device's matrix product: plain loops, and the fast one by row blocks.

use super::{ACCUMULATE, Dims, Epilogue, Layout, Rung};
use crate::device::cpu::{Mat, Real, gemm};
use crate::tensor::{Element, Tensor};
use rayon::prelude::*;
use std::borrow::Cow;

/// An element of an operand, and the type that its products are summed in.
pub(super) trait Operand<T>: Element {
    fn wide(self) -> T;
    /// The elements as `T`: the slice itself where it is one.
    fn widen(slice: &[Self]) -> Cow<'_, [T]>
    where
        T: Clone;
}

impl<T: Real> Operand<T> for T {
    fn wide(self) -> T {
        self
    }
    fn widen(slice: &[T]) -> Cow<'_, [T]> {
        slice.into()
    }
}

impl Operand<f32> for half::bf16 {
    fn wide(self) -> f32 {
        self.to_f32()
    }
    fn widen(slice: &[Self]) -> Cow<'_, [f32]> {
        slice.iter().map(|x| x.to_f32()).collect()
    }
}

/// What is added to one block of rows of C.
#[derive(Clone, Copy)]
struct Addends<'a, T> {
    bias: Option<&'a [T]>,
    residual: Option<&'a [T]>,
}

pub(super) fn forward<I: Operand<T>, T: Real>(rung: Rung, layout: Layout, dims: Dims, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &mut Tensor) {
    let add = Addends { bias: epilogue.bias.map(|t| t.cpu::<T>()), residual: epilogue.residual.map(|t| t.cpu::<T>()) };
    let (a, b, c) = (a.cpu::<I>(), b.cpu::<I>(), c.cpu_mut::<T>());
    if rung == Rung::Naive {
        naive(layout, dims, a, b, add, c);
    } else {
        fast(layout, dims, &I::widen(a), &I::widen(b), add, c);
    }
}

/// One element after the other.
fn naive<I: Operand<T>, T: Real>(layout: Layout, dims: Dims, a: &[I], b: &[I], add: Addends<T>, c: &mut [T]) {
    let (m, n, k) = (dims.m as usize, dims.n as usize, dims.k as usize);
    for row in 0..m {
        for column in 0..n {
            let mut total = T::zero();
            for i in 0..k {
                let a = if layout == Layout::Tn { a[i * m + row] } else { a[row * k + i] };
                let b = if layout == Layout::Nt { b[column * k + i] } else { b[i * n + column] };
                total += a.wide() * b.wide();
            }
            let at = row * n + column;
            if let Some(bias) = add.bias {
                total += bias[column];
            }
            if let Some(residual) = add.residual {
                total += residual[at];
            }
            if dims.flags & ACCUMULATE != 0 {
                total += c[at];
            }
            c[at] = total;
        }
    }
}

/// Operations that one task should hold: below, handing it out costs more than it gives.
const TASK_FLOPS: usize = 4 << 20;

fn fast<T: Real>(layout: Layout, dims: Dims, a: &[T], b: &[T], add: Addends<T>, c: &mut [T]) {
    let (m, n, k) = (dims.m as usize, dims.n as usize, dims.k as usize);
    let accumulate = dims.flags & ACCUMULATE != 0;
    let beta = if accumulate { T::one() } else { T::zero() };
    let b = if layout == Layout::Nt { Mat::transposed(b, k) } else { Mat::rows(b, n) };
    let blocks = (2 * m * n * k / TASK_FLOPS).max(1);
    if layout == Layout::Tn && k >= 4 * m.max(n) && blocks > 1 {
        // A weight's gradient: few rows, a long sum. Stretches of K, of a length that only the shape decides, are added in order.
        let length = k.div_ceil(blocks).next_multiple_of(16);
        let partials: Vec<Vec<T>> = (0..k.div_ceil(length))
            .into_par_iter()
            .map(|part| {
                let first = part * length;
                let length = length.min(k - first);
                let mut partial = vec![T::zero(); m * n];
                gemm(m, n, length, Mat::transposed(&a[first * m..], m), Mat { data: &b.data[first * n..], ..b }, T::zero(), &mut partial, n);
                partial
            })
            .collect();
        if !accumulate {
            c.fill(T::zero());
        }
        for partial in partials {
            for (c, p) in c.iter_mut().zip(partial) {
                *c += p;
            }
        }
        finish(n, add, c);
        return;
    }
    let rows = m.div_ceil(blocks).next_multiple_of(16);
    c.par_chunks_mut(rows * n).enumerate().for_each(|(block, c)| {
        let first = block * rows;
        let rows = c.len() / n;
        let a = match layout {
            Layout::Tn => Mat::transposed(&a[(first).min(a.len())..], m),
            _ => Mat::rows(&a[first * k..], k),
        };
        gemm(rows, n, k, a, b, beta, c, n);
        let residual = add.residual.map(|r| &r[first * n..][..c.len()]);
        finish(n, Addends { residual, ..add }, c);
    });
}

/// Adds bias and residual to rows of C while they are in the cache.
fn finish<T: Real>(n: usize, add: Addends<T>, c: &mut [T]) {
    if let Some(bias) = add.bias {
        for row in c.chunks_exact_mut(n) {
            for (c, &b) in row.iter_mut().zip(bias) {
                *c += b;
            }
        }
    }
    if let Some(residual) = add.residual {
        for (c, &r) in c.iter_mut().zip(residual) {
            *c += r;
        }
    }
}
