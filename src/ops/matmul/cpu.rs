//! The CPU device's matrix product: plain loops, and the fast one by row blocks.

use super::{ACCUMULATE, Dims, Epilogue, Layout, Rung};
use crate::device::cpu::{Mat, Real, gemm};
use crate::tensor::{Element, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;
use std::borrow::Cow;

/// An element of an operand, and the type that its products are summed in.
pub(super) trait MatmulElement<T>: Element {
    fn wide(self) -> T;
    /// The elements as `T`: the slice itself where it is one.
    fn widen(slice: &[Self]) -> Cow<'_, [T]>
    where
        T: Clone;
}

impl<T: Real> MatmulElement<T> for T {
    fn wide(self) -> T {
        self
    }
    fn widen(slice: &[T]) -> Cow<'_, [T]> {
        slice.into()
    }
}

impl MatmulElement<f32> for half::bf16 {
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

pub(super) fn forward<I: MatmulElement<T>, T: Real>(rung: Rung, layout: Layout, dims: Dims, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &mut Tensor) {
    let add = Addends { bias: epilogue.bias.map(|t| t.cpu::<T>()), residual: epilogue.residual.map(|t| t.cpu::<T>()) };
    let (a, b, c) = (a.cpu::<I>(), b.cpu::<I>(), c.cpu_mut::<T>());
    if rung == Rung::Naive {
        naive(layout, dims, a, b, add, c);
    } else {
        fast(layout, dims, &I::widen(a), &I::widen(b), add, c);
    }
}

/// One element after the other.
fn naive<I: MatmulElement<T>, T: Real>(layout: Layout, dims: Dims, a: &[I], b: &[I], add: Addends<T>, c: &mut [T]) {
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

/// Operations of one task, about: 20 µs of a core. Smaller ones pay for packing B again and again (a third of the speed at a
/// quarter of the size), larger ones make a core wait at the end.
const TASK_FLOPS: usize = 4 << 20;
/// Rows of C that one task of a weight's gradient takes: as fast as 48, and even in number for a width of 64.
const TN_ROWS: usize = 32;
/// Stretches of K, for gradients with too few rows to share out, are at least this long.
const TN_LENGTH: usize = 1024;

/// Rows of C are shared out among tasks by the shape alone: every element is one sum in one order, for any number of threads.
fn fast<T: Real>(layout: Layout, dims: Dims, a: &[T], b: &[T], add: Addends<T>, c: &mut [T]) {
    let (m, n, k) = (dims.m as usize, dims.n as usize, dims.k as usize);
    let flops = (2 * m * n).saturating_mul(k);
    let rows = match layout {
        _ if flops < TASK_FLOPS / 2 => m,
        Layout::Tn if m < 2 * TN_ROWS && k >= 2 * TN_LENGTH => return stretches(dims, a, b, add, c),
        Layout::Tn => m.div_ceil(64).next_multiple_of(TN_ROWS),
        // An even number of tasks: two cores then finish together. About 96 rows at least pay for packing a large B.
        _ => m.div_ceil(flops.div_ceil(TASK_FLOPS).min((m / 96).max(4)).next_multiple_of(2)).next_multiple_of(16),
    };
    let beta = if dims.flags & ACCUMULATE != 0 { T::one() } else { T::zero() };
    let b = if layout == Layout::Nt { Mat::transposed(b, k) } else { Mat::rows(b, n) };
    let block = |(index, c): (usize, &mut [T])| {
        let first = index * rows;
        let a = match layout {
            _ if k == 0 => Mat::rows(a, 0),
            Layout::Tn => Mat::transposed(&a[first..], m),
            _ => Mat::rows(&a[first * k..], k),
        };
        gemm(c.len() / n, n, k, a, b, beta, c, n);
        let residual = add.residual.map(|r| &r[first * n..][..c.len()]);
        finish(Addends { residual, ..add }, c);
    };
    if rows >= m {
        block((0, c)); // on this thread: waking another takes longer
    } else {
        c.par_chunks_mut(rows * n).enumerate().for_each(block);
    }
}

/// `c (+)= aᵀ · b` for few rows and a long K, whose stretches are summed apart and then added in order.
fn stretches<T: Real>(dims: Dims, a: &[T], b: &[T], add: Addends<T>, c: &mut [T]) {
    let (m, n, k) = (dims.m as usize, dims.n as usize, dims.k as usize);
    let length = k.div_ceil(64).max(TN_LENGTH);
    let mut partials = vec![T::zero(); k.div_ceil(length) * m * n];
    partials.par_chunks_mut(m * n).enumerate().for_each(|(index, partial)| {
        let first = index * length;
        gemm(m, n, length.min(k - first), Mat::transposed(&a[first * m..], m), Mat::rows(&b[first * n..], n), T::zero(), partial, n);
    });
    if dims.flags & ACCUMULATE == 0 {
        c.fill(T::zero());
    }
    for partial in partials.chunks_exact(m * n) {
        add_rows(partial, c);
    }
    finish(add, c);
}

/// Adds bias and residual to rows of C while they are in the cache.
fn finish<T: Real>(add: Addends<T>, c: &mut [T]) {
    if let Some(bias) = add.bias {
        add_rows(bias, c);
    }
    if let Some(residual) = add.residual {
        add_rows(residual, c); // one row as long as all of them
    }
}

/// `row[..] += addend` for every row of `rows`.
#[multiversion(targets = "simd")]
fn add_rows<T: Real>(addend: &[T], rows: &mut [T]) {
    for row in rows.chunks_exact_mut(addend.len()) {
        for (x, &a) in row.iter_mut().zip(addend) {
            *x += a;
        }
    }
}
