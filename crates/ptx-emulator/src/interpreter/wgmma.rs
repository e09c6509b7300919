//! `wgmma`: D = A·B + D for a warpgroup, with B, and A as a rule, in shared memory.
//!
//! Layouts: PTX ISA 8.4, "Asynchronous warpgroup level matrix shared memory layout". A matrix consists of pieces of 16
//! bytes, eight elements along the dimension that is contiguous; a descriptor says how pieces lie to each other.
//!
//! Products of bf16 are exact in f32, and they are added in f32, one k after the other. Real tensor cores add in an order
//! and with a precision that no specification gives.

use super::tensor_map::Swizzle;
use multiversion::multiversion;

/// What a descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    pub start: u32,
    /// Bytes between pieces or groups of them along the leading dimension, and along the other.
    leading: u32,
    stride: u32,
    pub swizzle: Swizzle,
    /// Along k the elements are far from each other: M-major, N-major.
    pub transposed: bool,
    /// Where in the swizzle's pattern the matrix starts: only 0 is supported.
    pub base: u32,
}

impl Matrix {
    pub fn new(descriptor: u64, transposed: bool) -> Matrix {
        let field = |at: u32| (descriptor >> at & 0x3FFF) as u32 * 16;
        let swizzle = match descriptor >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        Matrix { start: field(0), leading: field(16), stride: field(32), swizzle, transposed, base: (descriptor >> 49 & 7) as u32 }
    }

    /// What is wrong with where it starts.
    pub fn misplaced(&self) -> Option<String> {
        if self.base != 0 {
            return Some(format!("a matrix descriptor with base offset {}: only 0 is supported", self.base));
        }
        let span = match self.swizzle {
            Swizzle::None => return None,
            swizzle => swizzle.span() as u32,
        };
        // Steps along k stay inside of a row of the swizzle.
        let off = (self.start % (8 * span)) & !(span - 1);
        (off != 0).then(|| format!("a matrix descriptor with start address {}, {off} bytes into the {} after which its swizzle repeats", self.start, 8 * span))
    }

    /// Where the piece lies that holds eight elements from `outer` (a row of A, a column of B) and `k`: of those along k or,
    /// transposed, of those along the outer dimension.
    #[inline(always)]
    pub fn piece(&self, outer: u32, k: u32) -> u32 {
        let width = match self.swizzle {
            Swizzle::None => 1,
            swizzle => swizzle.span() as u32 / 16,
        };
        let offset = match (self.transposed, width) {
            (false, 1) => outer % 8 * 16 + outer / 8 * self.stride + k / 8 * self.leading,
            (false, _) => outer % 8 * width * 16 + outer / 8 * self.stride + k / 8 * 16,
            (true, 1) => outer / 8 * self.stride + k % 8 * 16 + k / 8 * self.leading,
            (true, _) => outer / 8 % width * 16 + outer / 8 / width * self.leading + k % 8 * width * 16 + k / 8 * self.stride,
        };
        self.swizzle.apply(self.start.wrapping_add(offset))
    }

    /// Calls `f` with every piece of the rows `from..to`, and 16 k.
    pub fn pieces(&self, from: u32, to: u32, mut f: impl FnMut(u32)) {
        if self.transposed {
            (from / 8..to / 8).for_each(|outer| (0..16).for_each(|k| f(self.piece(8 * outer, k))));
        } else {
            (from..to).for_each(|outer| (0..2).for_each(|k| f(self.piece(outer, 8 * k))));
        }
    }

    /// Its elements as f32, 16 rows of k, each `width` long from outer index `from`.
    pub fn decode(&self, shared: &[u32], from: u32, width: usize, negate: bool, into: &mut [f32]) {
        let sign = if negate { 1 << 31 } else { 0 };
        let value = |bits: u32| f32::from_bits(bits ^ sign);
        let words = |at: u32| -> [u32; 4] { std::array::from_fn(|i| shared.get(at as usize / 4 + i).copied().unwrap_or(0)) };
        if self.transposed {
            for k in 0..16 {
                for outer in (0..width).step_by(8) {
                    for (i, word) in words(self.piece(from + outer as u32, k as u32)).into_iter().enumerate() {
                        into[k * width + outer + 2 * i] = value(word << 16);
                        into[k * width + outer + 2 * i + 1] = value(word & 0xFFFF_0000);
                    }
                }
            }
        } else {
            for outer in 0..width {
                for k in [0, 8] {
                    for (i, word) in words(self.piece(from + outer as u32, k as u32)).into_iter().enumerate() {
                        into[(k + 2 * i) * width + outer] = value(word << 16);
                        into[(k + 2 * i + 1) * width + outer] = value(word & 0xFFFF_0000);
                    }
                }
            }
        }
    }
}

/// c [16, n] += a [16 (k), 16 (rows)]ᵀ · b [16 (k), n].
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn product(a: &[f32], b: &[f32], c: &mut [f32], n: usize) {
    for rows in (0..16).step_by(4) {
        let (c0, rest) = c[rows * n..(rows + 4) * n].split_at_mut(n);
        let (c1, rest) = rest.split_at_mut(n);
        let (c2, c3) = rest.split_at_mut(n);
        for k in 0..16 {
            let x: [f32; 4] = std::array::from_fn(|i| a[k * 16 + rows + i]);
            let b = &b[k * n..(k + 1) * n];
            for i in 0..n {
                c0[i] += x[0] * b[i];
                c1[i] += x[1] * b[i];
                c2[i] += x[2] * b[i];
                c3[i] += x[3] * b[i];
            }
        }
    }
}
