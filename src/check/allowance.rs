//! How far a result may be from what is expected.

use crate::tensor::DType;
use half::bf16;

/// How far a result may be from what is expected: `absolute + ulps · ulp(expected)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// The same for every element.
    pub absolute: f64,
    /// So many times the distance from the expected value to the next one of `dtype`.
    pub ulps: f64,
    /// The type of the output's elements.
    pub dtype: DType,
    /// Whether "the same bits" are those of the oracle's value rounded once to bf16.
    pub(super) rounded: bool,
}

impl Allowance {
    /// So much for every element.
    #[cfg(test)]
    pub(super) fn absolute(absolute: f64, dtype: DType) -> Self {
        Allowance { absolute, ulps: 0.0, dtype, rounded: false }
    }

    /// The value that a result is compared with.
    pub fn target(&self, expected: f64) -> f64 {
        if self.rounded { bf16::from_f64(expected).to_f64() } else { expected }
    }

    /// How far from this value a result may be.
    pub fn of(&self, expected: f64) -> f64 {
        self.absolute + if self.ulps == 0.0 { 0.0 } else { self.ulps * ulp(expected, self.dtype) }
    }

    /// The same without ulps: `(absolute, relative)` with `absolute + relative · |expected|` at least [`Allowance::of`] and,
    /// beyond the smallest normal numbers, at most twice that, since a number is up to twice the power of two that its ulp belongs to.
    #[cfg(feature = "cli")] // golden vectors tell it
    pub fn without_ulps(&self) -> (f64, f64) {
        if self.ulps == 0.0 {
            return (self.absolute, 0.0);
        }
        (self.absolute + self.ulps * ulp(0.0, self.dtype), self.ulps * ulp(1.0, self.dtype))
    }
}

/// The distance from |x| to the next larger value of a dtype.
pub(super) fn ulp(x: f64, dtype: DType) -> f64 {
    let mantissa = match dtype {
        DType::F32 | DType::F64 => 23,
        DType::Bf16 => 7,
        DType::F16 => 10,
        DType::I32 | DType::U8 => return 0.0,
    };
    let x = x.abs().max(f32::MIN_POSITIVE as f64);
    2f64.powi(x.log2().floor() as i32 - mantissa)
}
