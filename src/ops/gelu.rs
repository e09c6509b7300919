//! GELU on the CPU, the exact form (Hendrycks and Gimpel 2016, arXiv 1606.08415), as the convolutions apply it.

use crate::device::cpu::Real;
use multiversion::multiversion;
use std::f64::consts::FRAC_1_SQRT_2;

/// `z · (1 + erf(z/√2)) / 2`.
#[inline(always)]
pub(super) fn gelu<T: Real>(z: T) -> T {
    T::of(0.5) * z * (T::one() + (z * T::of(FRAC_1_SQRT_2)).fast_erf())
}

/// Its derivative, `(1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π)`.
#[inline(always)]
fn gelu_slope<T: Real>(z: T) -> T {
    let half = T::of(0.5);
    let density = (-half * z * z).fast_exp() * T::of(0.398_942_280_401_432_7); // 1/√(2π)
    half * (T::one() + (z * T::of(FRAC_1_SQRT_2)).fast_erf()) + z * density
}

/// `dz = dy · gelu'(z)`.
#[multiversion(targets = "simd")]
pub(super) fn deactivate<T: Real>(z: &[T], dy: &[T], dz: &mut [T]) {
    for ((&z, &dy), dz) in z.iter().zip(dy).zip(dz.iter_mut()) {
        *dz = dy * gelu_slope(z);
    }
}

/// Adds up rows, column by column: the gradient of a bias.
#[multiversion(targets = "simd")]
pub(super) fn add_rows<T: Real>(rows: &[T], total: &mut [T]) {
    for row in rows.chunks_exact(total.len()) {
        for (total, &x) in total.iter_mut().zip(row) {
            *total += x;
        }
    }
}
