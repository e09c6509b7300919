//! The CPU device: buffers, the number type that its kernels are generic over, and the matrix product.
//!
//! Every CPU kernel is generic over [`Real`]. In f32, threaded by rayon, it is the device that works where there is no
//! GPU; in f64 the same code is the oracle that every other device is compared with.

mod product;

use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
pub use product::{GemmKernel, Mat, gemm};
use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

/// 64 bytes: one cache line, one AVX-512 register.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Cache-line aligned memory that knows its dtype.
pub(crate) struct CpuBuffer {
    lines: Vec<Line>,
    elements: usize,
    dtype: DType,
}

impl CpuBuffer {
    pub(crate) fn zeros(elements: usize, dtype: DType) -> Result<Self> {
        let bytes = elements * dtype.size(); // elements < 2³¹ is checked by Tensor
        let count = bytes.div_ceil(64);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| Error::OutOfMemory {
            device: "cpu".into(),
            what: format!("a tensor of {elements} {dtype}"),
            asked: bytes as u64,
            free: None,
        })?;
        lines.resize(count, bytemuck::Zeroable::zeroed());
        Ok(CpuBuffer { lines, elements, dtype })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.elements * self.dtype.size()]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.elements * self.dtype.size()]
    }

    pub(crate) fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.dtype, "operations check dtypes before they touch elements");
        bytemuck::cast_slice(self.bytes())
    }

    pub(crate) fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype, "operations check dtypes before they touch elements");
        bytemuck::cast_slice_mut(self.bytes_mut())
    }
}

/// The number type of a CPU kernel: f32 for work, f64 as the oracle.
pub trait Real:
    Element + num_traits::Float + num_traits::NumAssign + AddAssign + SubAssign + MulAssign + DivAssign + std::iter::Sum + std::fmt::Display
{
    /// The nearest value of this type.
    fn of(x: f64) -> Self;
    /// The value as f64, exactly.
    fn f64(self) -> f64;
    /// eˣ. In f32 a branch-free polynomial (at most 2 ulp) that vectorises; in f64 the library's.
    fn fast_exp(self) -> Self;
    /// The error function. In f32 a branch-free rational approximation that vectorises; in f64 accurate to ~1e-15.
    fn fast_erf(self) -> Self;
    /// The matrix product of this processor, by the `gemm` crates.
    #[doc(hidden)]
    fn gemm_kernel() -> GemmKernel<Self>;
}

/// `a · b + c`; one instruction where the machine has it (`fused`), and never the library's slow emulation.
///
/// That is all that an instruction set decides: whatever the width of its registers, sums are added in the same order, so that all
/// processors with a fused multiply-add train the same bits.
#[inline(always)]
pub(crate) fn multiply_add<T: Real>(fused: bool, a: T, b: T, c: T) -> T {
    if fused || cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
}

/// Elements that a CPU kernel adds up side by side: one AVX-512 register of f32, two of AVX2.
pub(crate) const LANES: usize = 16;

/// The sum of the lanes, by halving.
#[inline(always)]
pub(crate) fn fold<T: Real>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn fast_exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn fast_erf(self) -> Self {
        libm::erf(self)
    }
    fn gemm_kernel() -> GemmKernel<f64> {
        gemm_f64::gemm::f64::get_gemm_fn()
    }
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn f64(self) -> f64 {
        self as f64
    }
    /// Cephes' expf: x = n·ln 2 + r, |r| ≤ ln 2 / 2, a degree-6 polynomial in r, then 2ⁿ through the exponent's bits, in
    /// two halves so that neither overflows before the product does. NaN stays NaN.
    #[inline(always)]
    fn fast_exp(self) -> Self {
        let x = self.clamp(-104.0, 89.0); // beyond: 0 and +∞
        let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0; // round to nearest by the 1.5·2²³ trick
        let n = shifted - 12_582_912.0;
        let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4; // ln 2 in two parts
        let p = 1.987_569_2e-4;
        let p = p * r + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 5e-1;
        let y = (p * r * r + r) + 1.0;
        // The low bits of `shifted` are n. (`n as i32` saturates: the compiler does that one lane at a time.)
        let n = (shifted.to_bits() as i32).wrapping_sub(12_582_912f32.to_bits() as i32);
        let half = n >> 1;
        let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
        y * power(half) * power(n - half)
    }
    /// The rational approximation that Eigen and XLA use: x·P(x²)/Q(x²) on [−4, 4], ±1 beyond.
    #[inline(always)]
    fn fast_erf(self) -> Self {
        let x = self.clamp(-4.0, 4.0);
        let t = x * x;
        let p = -2.726_142_4e-10;
        let p = p * t + 2.770_681_4e-8;
        let p = p * t + -2.101_024_0e-6;
        let p = p * t + -5.692_506_3e-5;
        let p = p * t + -7.349_906_3e-4;
        let p = p * t + -2.954_599_8e-3;
        let p = p * t + -1.609_603_3e-2;
        let q = -1.456_607_2e-5;
        let q = q * t + -2.133_740_6e-4;
        let q = q * t + -1.682_827e-3;
        let q = q * t + -7.373_329e-3;
        let q = q * t + -1.426_473_9e-2;
        x * p / q
    }
    fn gemm_kernel() -> GemmKernel<f32> {
        gemm_f32::gemm::f32::get_gemm_fn()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(found: f32, expected: f64) -> f64 {
        let ulp = (expected as f32).abs().max(f32::MIN_POSITIVE);
        let ulp = f32::from_bits(ulp.to_bits() + 1) - ulp;
        (found as f64 - expected).abs() / ulp as f64
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut worst = 0.0f64;
        for i in 0..400_000 {
            let x = -87.0 + 175.5 * (i as f32 / 400_000.0);
            worst = worst.max(ulps(x.fast_exp(), (x as f64).exp()));
        }
        assert!(worst <= 2.0, "{worst} ulp");
        assert_eq!(0f32.fast_exp(), 1.0);
        assert_eq!((-1e30f32).fast_exp(), 0.0);
        assert_eq!(f32::NEG_INFINITY.fast_exp(), 0.0);
        assert_eq!(f32::INFINITY.fast_exp(), f32::INFINITY);
        assert!(f32::NAN.fast_exp().is_nan());
    }

    #[test]
    fn erf_is_close() {
        let mut worst = 0.0f64;
        for i in 0..=100_000 {
            let x = -6.0 + 12.0 * (i as f32 / 100_000.0);
            worst = worst.max((x.fast_erf() as f64 - libm::erf(x as f64)).abs());
        }
        assert!(worst < 5e-7, "{worst}");
        assert!(f32::NAN.fast_erf().is_nan());
    }
}
