//! Register tiles: the small dense products, packings and row reductions that attention on the CPU is made of.
//!
//! Everything here is inlined into the versions of `forward_rows` and `backward_tile`, one per instruction set.

#![allow(clippy::needless_range_loop)] // indices over whole arrays are what the compiler turns into vectors

use crate::device::cpu::{LANES, Real, fold, multiply_add};
use std::ops::Range;

/// Rows of a register tile. Eight spill on AVX2, and with AVX-512 the compiler gathers them (six times slower).
pub(super) const ROWS: usize = 4;

pub(super) type Tile<T> = [[T; LANES]; ROWS];

/// `tile[i][l] += Σ_k a[i, k] · b[k, l]` for a multiple of [`LANES`] of k, in the order of k.
#[inline(always)]
pub(super) fn product<T: Real>(fused: bool, a: &[T], a_stride: usize, b: &[T], b_stride: usize, depth: usize, tile: &mut Tile<T>) {
    let mut sums = *tile;
    for k in (0..depth).step_by(LANES) {
        let a: [&[T; LANES]; ROWS] = std::array::from_fn(|i| a[i * a_stride + k..][..LANES].try_into().expect("LANES"));
        for kk in 0..LANES {
            let b: &[T; LANES] = b[(k + kk) * b_stride..][..LANES].try_into().expect("LANES");
            for i in 0..ROWS {
                for l in 0..LANES {
                    sums[i][l] = multiply_add(fused, a[i][kk], b[l], sums[i][l]);
                }
            }
        }
    }
    *tile = sums;
}

/// `tile[i][l] += Σ_k a[k, i] · b[k, l]` over [`ROWS`] of k.
#[inline(always)]
pub(super) fn outer<T: Real>(fused: bool, a: &[T], a_stride: usize, b: &[T], b_stride: usize, tile: &mut Tile<T>) {
    let mut sums = *tile;
    for k in 0..ROWS {
        let a: &[T; ROWS] = a[k * a_stride..][..ROWS].try_into().expect("ROWS");
        let b: &[T; LANES] = b[k * b_stride..][..LANES].try_into().expect("LANES");
        for i in 0..ROWS {
            for l in 0..LANES {
                sums[i][l] = multiply_add(fused, a[i], b[l], sums[i][l]);
            }
        }
    }
    *tile = sums;
}

#[inline(always)]
pub(super) fn load<T: Real>(from: &[T], stride: usize) -> Tile<T> {
    let mut tile = [[T::zero(); LANES]; ROWS];
    for i in 0..ROWS {
        tile[i].copy_from_slice(&from[i * stride..][..LANES]);
    }
    tile
}

#[inline(always)]
pub(super) fn store<T: Real>(tile: &Tile<T>, to: &mut [T], stride: usize) {
    for i in 0..ROWS {
        to[i * stride..][..LANES].copy_from_slice(&tile[i]);
    }
}

/// As many lanes as `to` has room for.
#[inline(always)]
pub(super) fn put<T: Real>(lanes: &[T; LANES], to: &mut [T], add: bool) {
    if let (Some(to), false) = (to.first_chunk_mut::<LANES>(), add) {
        *to = *lanes;
        return;
    }
    for (to, &x) in to.iter_mut().zip(lanes) {
        *to = if add { *to + x } else { x };
    }
}

/// Rows of one head, padded with zeros to `padded` rows of `hp`.
#[inline(always)]
pub(super) fn pack<T: Real>(from: &[T], rows: Range<usize>, heads: usize, head: usize, hd: usize, hp: usize, padded: usize, to: &mut [T]) {
    let count = rows.len();
    for (i, to) in to.chunks_exact_mut(hp).take(count).enumerate() {
        let from = &from[((rows.start + i) * heads + head) * hd..][..hd];
        if hd == LANES {
            to.copy_from_slice(&from[..LANES]);
        } else {
            to[..hd].copy_from_slice(from);
            to[hd..].fill(T::zero());
        }
    }
    to[count * hp..padded * hp].fill(T::zero());
}

/// The transpose of [`pack`]: `hp` rows, each of `padded` keys.
#[inline(always)]
pub(super) fn pack_transposed<T: Real>(from: &[T], rows: Range<usize>, heads: usize, head: usize, hd: usize, hp: usize, padded: usize, to: &mut [T]) {
    let count = rows.len();
    let step = heads * hd;
    let from = &from[(rows.start * heads + head) * hd..];
    for (d, to) in to.chunks_exact_mut(padded).take(hp).enumerate() {
        if d >= hd {
            to.fill(T::zero());
            continue;
        }
        for (to, from) in to[..count].iter_mut().zip(from[d..].iter().step_by(step)) {
            *to = *from;
        }
        to[count..].fill(T::zero());
    }
}

/// The larger of two numbers: one instruction, unlike `max`, which takes care of NaN.
#[inline(always)]
pub(super) fn larger<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// Multiplies scores by `scale`, puts `empty` where the row does not see (all but `seen` lanes after `from`), and returns the
/// largest.
#[inline(always)]
pub(super) fn scale_and_mask<T: Real>(row: &mut [T], from: u32, seen: u32, scale: T, empty: T) -> T {
    let mut lanes = [empty; LANES];
    for (c, chunk) in row.chunks_exact_mut(LANES).enumerate() {
        let chunk: &mut [T; LANES] = chunk.try_into().expect("LANES");
        let first = ((c * LANES) as u32).wrapping_sub(from);
        for l in 0..LANES {
            let x = chunk[l] * scale;
            chunk[l] = if first.wrapping_add(l as u32) < seen { x } else { empty };
            lanes[l] = larger(chunk[l], lanes[l]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] = larger(lanes[l], lanes[l + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Replaces scores by their exponentials beyond `maximum`, by 0 where the row does not see, and returns their sum.
#[inline(always)]
pub(super) fn exponentials<T: Real>(row: &mut [T], from: u32, seen: u32, maximum: T) -> T {
    let mut lanes = [T::zero(); LANES];
    for (c, chunk) in row.chunks_exact_mut(LANES).enumerate() {
        let chunk: &mut [T; LANES] = chunk.try_into().expect("LANES");
        let first = ((c * LANES) as u32).wrapping_sub(from);
        for l in 0..LANES {
            let x = (chunk[l] - maximum).fast_exp();
            chunk[l] = if first.wrapping_add(l as u32) < seen { x } else { T::zero() };
            lanes[l] += chunk[l];
        }
    }
    fold(lanes)
}

/// `Σ a·b` in the order in which [`product`] adds: where a row sees one key, delta is dp to the bit and ds is 0.
#[inline(always)]
pub(super) fn dot<T: Real>(fused: bool, a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::zero(), |sum, (&a, &b)| multiply_add(fused, a, b, sum))
}
