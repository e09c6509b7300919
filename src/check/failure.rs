//! Why a case failed: what was said instead of a result, or which elements of it are wrong.

use super::allowance::Allowance;
use crate::dtype::Shape;
use serde::{Serialize, Serializer};
use std::fmt;

/// Why a case failed. Its text is one line.
#[derive(Clone, Debug)]
pub enum Failure {
    /// There is no result to compare: an error of the call, a write past the end, other bits than before.
    Said(String),
    /// Outputs with elements that are not what was expected, at least one.
    Wrong(Vec<WrongOutput>),
}

/// An output with wrong elements.
#[derive(Clone, Debug)]
pub struct WrongOutput {
    /// Its name in the operation's documentation.
    pub output: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// What was expected, in row-major order.
    pub expected: Vec<f64>,
    /// What was found.
    pub found: Vec<f64>,
    /// How far from what was expected a result may be.
    pub(super) allowance: Allowance,
}

/// One element that is wrong.
#[derive(Clone, Serialize, Debug)]
pub struct WrongElement {
    /// Its place: `[row, column]` of a matrix.
    pub index: Vec<usize>,
    /// What was expected.
    pub expected: f64,
    /// What was found. In JSON a NaN or an infinity is `null`.
    pub found: f64,
    /// How far from what was expected it may be.
    pub allowed: f64,
}

impl WrongElement {
    /// Its error in units of what is allowed: more than 1, infinite for a NaN, an infinity, and where no bit may differ.
    pub fn times_allowed(&self) -> f64 {
        times_allowed(self.expected, self.found, self.allowed)
    }
}

/// Whether a result is right. Written so that a NaN is not.
pub(super) fn is_right(expected: f64, found: f64, allowed: f64) -> bool {
    found.is_finite() && (found - expected).abs() <= allowed
}

/// An error in units of what is allowed, infinite for what is not a number.
pub(super) fn times_allowed(expected: f64, found: f64, allowed: f64) -> f64 {
    let error = (found - expected).abs();
    match () {
        () if !found.is_finite() => f64::INFINITY,
        () if error == 0.0 => 0.0,
        () => error / allowed,
    }
}

impl WrongOutput {
    /// Its wrong elements, in row-major order.
    pub fn elements(&self) -> impl Iterator<Item = WrongElement> {
        (0..self.expected.len()).filter(|&at| self.is_wrong(at)).map(|at| WrongElement {
            index: place(at, self.shape),
            expected: self.expected[at],
            found: self.found[at],
            allowed: self.allowed(at),
        })
    }

    /// Whether the element at this place, counted in row-major order, is wrong.
    pub fn is_wrong(&self, at: usize) -> bool {
        !is_right(self.expected[at], self.found[at], self.allowed(at))
    }

    /// How many elements are wrong.
    pub fn wrong(&self) -> usize {
        (0..self.expected.len()).filter(|&at| self.is_wrong(at)).count()
    }

    /// How many are not a number, or infinite.
    pub fn not_finite(&self) -> usize {
        self.found.iter().filter(|found| !found.is_finite()).count()
    }

    /// The largest error in units of what is allowed.
    pub fn worst(&self) -> f64 {
        (0..self.expected.len()).fold(0.0, |worst, at| f64::max(worst, times_allowed(self.expected[at], self.found[at], self.allowed(at))))
    }

    fn allowed(&self, at: usize) -> f64 {
        self.allowance.of(self.expected[at])
    }
}

/// The place of element `at` in an array of this shape.
fn place(at: usize, shape: Shape) -> Vec<usize> {
    let mut rest = at;
    let mut index: Vec<usize> = shape.dims().iter().rev().map(|&size| (rest % size, rest /= size).0).collect();
    index.reverse();
    index
}

impl Failure {
    /// The largest error in units of what is allowed; without a result there is none.
    pub fn worst(&self) -> Option<f64> {
        match self {
            Failure::Said(_) => None,
            Failure::Wrong(outputs) => Some(outputs.iter().fold(0.0, |worst, output| worst.max(output.worst()))),
        }
    }
}

impl From<String> for Failure {
    fn from(said: String) -> Self {
        Failure::Said(said)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let outputs = match self {
            Failure::Said(said) => return f.write_str(said),
            Failure::Wrong(outputs) => outputs,
        };
        for (i, output) in outputs.iter().enumerate() {
            let more = if i == 0 { "" } else { "; " };
            let (wrong, of) = (output.wrong(), output.expected.len());
            match output.elements().next() {
                Some(WrongElement { index, expected, found, allowed }) if i == 0 => {
                    let error = (found - expected).abs();
                    write!(f, "{}{index:?}: expected {expected:e}, found {found:e}: error {error:.3e}, allowed {allowed:.3e}", output.output)?;
                    write!(f, "; {wrong} of {of} are wrong")?;
                }
                _ => write!(f, "{more}{}: {wrong} of {of} are wrong", output.output)?,
            }
        }
        Ok(())
    }
}

/// A failure as a report's JSON has it.
#[derive(Serialize, Debug)]
pub struct FailureDetail {
    /// The case's sizes.
    pub case: String,
    /// What was said, where there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The outputs with wrong elements.
    pub outputs: Vec<OutputDetail>,
}

/// An output of a [`FailureDetail`].
#[derive(Serialize, Debug)]
pub struct OutputDetail {
    /// Its name.
    pub output: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How many of its elements are wrong.
    pub wrong: usize,
    /// How many elements it has.
    pub of: usize,
    /// How many are not a number, or infinite.
    pub not_finite: usize,
    /// The largest error in units of what is allowed; `null` where that is infinite.
    #[serde(serialize_with = "finite")]
    pub worst: f64,
    /// The first that are wrong.
    pub first: Vec<WrongElement>,
}

/// Elements of an output that a report names.
const NAMED: usize = 4;

impl FailureDetail {
    pub(super) fn new(case: &str, failure: &Failure) -> Self {
        let (error, outputs) = match failure {
            Failure::Said(said) => (Some(said.clone()), &[][..]),
            Failure::Wrong(outputs) => (None, &outputs[..]),
        };
        let detail = |output: &WrongOutput| OutputDetail {
            output: output.output,
            shape: output.shape.dims().to_vec(),
            wrong: output.wrong(),
            of: output.expected.len(),
            not_finite: output.not_finite(),
            worst: output.worst(),
            first: output.elements().take(NAMED).collect(),
        };
        FailureDetail { case: case.into(), error, outputs: outputs.iter().map(detail).collect() }
    }
}

/// A number for JSON, which has no infinity.
pub(super) fn finite<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    #[test]
    fn wrong_elements_have_a_place_and_are_counted() {
        let allowance = Allowance::absolute(0.5, DType::F32);
        let expected = vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let found = vec![0.25, 1.0, f64::NAN, 3.0, 4.0, 7.0];
        let output = WrongOutput { output: "y", shape: [2, 3].into(), expected, found, allowance };
        assert_eq!((output.wrong(), output.not_finite(), output.worst()), (2, 1, f64::INFINITY));
        assert_eq!(output.elements().map(|e| (e.index.clone(), e.times_allowed())).collect::<Vec<_>>(), [(vec![0, 2], f64::INFINITY), (vec![1, 2], 4.0)]);
        let failure = Failure::Wrong(vec![output.clone(), WrongOutput { output: "z", ..output }]);
        assert_eq!(failure.to_string(), "y[0, 2]: expected 2e0, found NaN: error NaN, allowed 5.000e-1; 2 of 6 are wrong; z: 2 of 6 are wrong");
        let detail = serde_json::to_value(FailureDetail::new("rows=2", &failure)).unwrap();
        assert_eq!(detail["outputs"][0]["first"][1], serde_json::json!({ "index": [1, 2], "expected": 5.0, "found": 7.0, "allowed": 0.5 }));
        assert_eq!(detail["outputs"][0]["worst"], serde_json::Value::Null);
    }
}
