//! The expected result of a case, and how far from it a result may be.

use super::allowance::{Allowance, ulp};
use super::failure::{Failure, WrongOutput, is_right, times_allowed};
use crate::device::Device;
use crate::dtype::Shape;
use crate::error::Result;
use crate::ops::case::{Case, CaseFn, Compare, Kind, Operand, Output};
use crate::tensor::{DType, Tensor};

/// What one output must be.
pub(crate) struct Judge {
    /// Every element, as the oracle gives it.
    pub expected: Vec<f64>,
    /// How far from it a result may be.
    pub allowance: Allowance,
}

/// The expected results of a case where activations are `activation`, one for each of its outputs; `None` for working memory.
pub(crate) fn judges(case: &Case, activation: DType) -> std::result::Result<Vec<Option<Judge>>, Failure> {
    let say = |what: &'static str| move |e: crate::Error| Failure::Said(format!("{what}: {e}"));
    let plain = case.naive.as_ref().unwrap_or(&case.run);
    let expected = on_host(case, plain, DType::F64, activation).map_err(say("the oracle"))?;
    let same_precision = case.naive_mixed.as_ref().filter(|_| activation == DType::Bf16).or(case.naive.as_ref());
    let naive = match (case.compare, same_precision) {
        (Compare::Reduction(_), Some(naive)) => Some(on_host(case, naive, DType::F32, activation).map_err(say("the plain loops in f32"))?),
        _ => None,
    };
    let judge = |(index, (output, expected)): (usize, (&Output, Vec<f64>))| {
        let naive = naive.as_ref().map(|n| n[index].as_slice());
        let allowance = allowance(&output.before, activation, case.compare, &expected, naive);
        (!output.scratch).then_some(Judge { expected, allowance })
    };
    Ok(case.outputs.iter().zip(expected).enumerate().map(judge).collect())
}

/// The outputs of a run on the CPU in one precision, as f64: bf16 operands become `real`, with the values that they have where
/// activations are `activation`; so do outputs, but not in the oracle, which is never rounded.
pub(super) fn on_host(case: &Case, run: &CaseFn, real: DType, activation: DType) -> Result<Vec<Vec<f64>>> {
    let make = |operand: &Operand| {
        let dtype = if operand.kind == Kind::Bf16 { real } else { operand.kind.dtype(real) };
        Tensor::from_f64(&Device::Cpu, operand.shape, dtype, &operand.rounded(activation).values)
    };
    let inputs = case.inputs.iter().map(make).collect::<Result<Vec<_>>>()?;
    let mut outputs = case.outputs.iter().map(|o| make(&o.before)).collect::<Result<Vec<_>>>()?;
    run(&inputs, &mut outputs)?;
    let values = |(tensor, output): (&Tensor, &Output)| {
        let values = tensor.read_f64()?;
        Ok(if real == DType::F64 { values } else { Operand { values: values.into(), ..output.before.clone() }.rounded(activation).values.to_vec() })
    };
    outputs.iter().zip(&case.outputs).map(values).collect()
}

/// What an output is allowed.
fn allowance(output: &Operand, activation: DType, compare: Compare, expected: &[f64], naive: Option<&[f64]>) -> Allowance {
    let dtype = output.kind.dtype(activation);
    let became_bf16 = output.kind == Kind::Mixed && dtype == DType::Bf16;
    let allowance = Allowance { absolute: 0.0, ulps: 0.0, dtype, rounded: became_bf16 && compare == Compare::Exact };
    match compare {
        _ if matches!(dtype, DType::I32 | DType::U8) => allowance,
        Compare::Exact => allowance,
        Compare::Ulp(_) if became_bf16 => Allowance { ulps: 1.0, ..allowance },
        Compare::Ulp(ulps) => Allowance { ulps, ..allowance },
        Compare::Reduction(more) => {
            let largest = expected.iter().fold(0.0f64, |m, e| m.max(e.abs()));
            let naive_error = naive.map_or(0.0, |naive| naive.iter().zip(expected).fold(0.0f64, |m, (n, e)| m.max((n - e).abs())));
            // Approximations are made in f32, whatever the result is rounded to.
            let absolute = 2.0 * naive_error + ulp(largest, dtype) + more * ulp(largest, if became_bf16 { DType::F32 } else { dtype });
            Allowance { absolute, ..allowance }
        }
    }
}

impl Judge {
    /// The largest error over its allowance, or what is wrong with this output.
    pub(super) fn compare(&self, output: &'static str, shape: Shape, found: &[f64]) -> std::result::Result<f64, Failure> {
        let expected = &self.expected;
        if found.len() != expected.len() {
            return Err(format!("{output}: expected {} elements, found {}", expected.len(), found.len()).into());
        }
        if let Some(i) = expected.iter().position(|e| !e.is_finite()) {
            return Err(format!("{output}[{i}]: the oracle itself gives {}: the case is wrong", expected[i]).into());
        }
        let pairs = || expected.iter().map(|&e| self.allowance.target(e)).zip(found.iter().copied());
        if pairs().all(|(e, f)| is_right(e, f, self.allowance.of(e))) {
            return Ok(pairs().fold(0.0, |worst, (e, f)| f64::max(worst, times_allowed(e, f, self.allowance.of(e)))));
        }
        let wrong = WrongOutput { output, shape, expected: pairs().map(|(e, _)| e).collect(), found: found.to_vec(), allowance: self.allowance };
        Err(Failure::Wrong(vec![wrong]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The comparator itself: what must fail does.
    #[test]
    fn nan_infinity_and_length_always_fail() {
        let output = Operand::new("y", [2], Kind::Real, vec![0.0; 2]);
        let compare = |compare, expected: &[f64], naive: Option<&[f64]>, found: &[f64]| {
            Judge { expected: expected.to_vec(), allowance: allowance(&output, DType::F32, compare, expected, naive) }.compare(
                "y",
                [expected.len()].into(),
                found,
            )
        };
        let huge = Compare::Ulp(1e300);
        assert!(compare(huge, &[1.0, 2.0], None, &[1.0, 2.0]).is_ok());
        assert!(compare(huge, &[1.0, 2.0], None, &[1.0, f64::NAN]).is_err());
        assert!(compare(huge, &[1.0, 2.0], None, &[1.0, f64::INFINITY]).is_err());
        assert!(compare(huge, &[1.0, 2.0], None, &[1.0]).is_err());
        assert!(compare(huge, &[1.0, f64::NAN], None, &[1.0, f64::NAN]).is_err());
        assert!(compare(Compare::Exact, &[1.0, 2.0], None, &[1.0, 2.0000001]).is_err());
        assert!(compare(Compare::Reduction(0.0), &[1.0, 2.0], Some(&[1.0, 2.0]), &[1.0, 2.00001]).is_err());
    }

    /// An allowance in other words allows what it did, and hardly more.
    #[test]
    fn without_ulps_it_is_as_wide() {
        for dtype in [DType::F32, DType::Bf16] {
            for (absolute, ulps) in [(0.0, 0.0), (1e-6, 0.0), (0.0, 1.0), (0.0, 4.0), (1e-3, 2.5)] {
                let allowance = Allowance { absolute, ulps, dtype, rounded: false };
                let (absolute, relative) = allowance.without_ulps();
                for x in [0.0, 1e-45, 1e-38, 1.2e-38, 0.7, 1.0, 1.5, 1.999_999_9, 2.0, 3e7, -5.0f64] {
                    let (wide, narrow) = (absolute + relative * x.abs(), allowance.of(x));
                    assert!(wide >= narrow, "{allowance:?} {x}: {wide} {narrow}");
                    assert!(x.abs() < 1e-30 || wide <= 2.0 * narrow * (1.0 + 1e-6), "{allowance:?} {x}: {wide} {narrow}");
                }
            }
        }
    }
}
