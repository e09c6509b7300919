//! The buffers that a case runs on: drawn fast, and enough of them that no call finds its operands in a cache.

use crate::device::Device;
use crate::error::Result;
use crate::ops::case::{Case, Fill, Kind, Operand};
use crate::tensor::{DType, Tensor};
use half::bf16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::LazyLock;

/// Numbers that are drawn once; operands are stretches of them that begin at different places. A prime, so that no power of two
/// makes rows alike.
const DRAWN: usize = (1 << 20) - 3;

/// `elements` normals with this standard deviation; `turn` says where in the drawn numbers they begin.
pub(super) fn normals(elements: usize, deviation: f64, turn: usize) -> Vec<f32> {
    static TABLE: LazyLock<Vec<f32>> = LazyLock::new(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut uniform = || (rng.next_u32() as f64 + 0.5) / (1u64 << 32) as f64;
        // Box and Muller.
        (0..DRAWN).map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32).collect()
    });
    let start = turn.wrapping_mul(0x9e37_79b9) % DRAWN;
    let mut values = Vec::with_capacity(elements);
    let mut stretch = &TABLE[start..];
    while values.len() < elements {
        let some = &stretch[..stretch.len().min(elements - values.len())];
        values.extend(some.iter().map(|x| x * deviation as f32));
        stretch = &TABLE;
    }
    values
}

/// One set of a case's tensors.
pub(super) struct Set {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
}

/// Bytes of all tensors of a case, workspaces included.
pub(super) fn footprint(case: &Case, activation: DType) -> u64 {
    let bytes = |o: &Operand| (o.shape.len() * o.kind.dtype(activation).size()) as u64;
    case.inputs.iter().map(bytes).sum::<u64>() + case.outputs.iter().map(|o| bytes(&o.before)).sum::<u64>()
}

impl Set {
    /// Makes one, with the dtype that `kinds` gives every kind; `turn` makes it differ from the others.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) and the like.
    pub(super) fn new(device: &Device, case: &Case, kinds: impl Fn(Kind) -> DType, turn: usize) -> Result<Set> {
        let make = |(index, operand): (usize, &Operand)| tensor(device, operand, kinds(operand.kind), 31 * turn + index);
        let inputs = case.inputs.iter().enumerate().map(make).collect::<Result<_>>()?;
        let outputs = case.outputs.iter().enumerate().map(|(index, output)| match output.overwritten {
            true => Tensor::zeros(device, output.before.shape, kinds(output.before.kind)),
            false => make((16 + index, &output.before)),
        });
        Ok(Set { inputs, outputs: outputs.collect::<Result<_>>()? })
    }

    /// Calls the operation on this set.
    ///
    /// # Errors
    /// Those of the operation.
    pub(super) fn run(&mut self, case: &Case) -> Result<()> {
        (case.run)(&self.inputs, &mut self.outputs)
    }
}

fn tensor(device: &Device, operand: &Operand, dtype: DType, turn: usize) -> Result<Tensor> {
    let len = operand.shape.len();
    match &operand.fill {
        Fill::Normals(deviation) => {
            let values = normals(len, *deviation, turn);
            match dtype {
                DType::Bf16 => Tensor::from_slice(device, operand.shape, &values.into_iter().map(bf16::from_f32).collect::<Vec<_>>()),
                _ => Tensor::from_slice(device, operand.shape, &values),
            }
        }
        // Never zeros: where real numbers have no values of their own, normals.
        Fill::Values(values) if values.len() != len && operand.kind != Kind::I32 => Tensor::from_slice(device, operand.shape, &normals(len, 1.0, turn)),
        Fill::Values(values) => Tensor::from_f64(device, operand.shape, dtype, values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_normal_and_differs_from_set_to_set() {
        let x = normals(100_000, 2.0, 1);
        let mean = x.iter().map(|&x| x as f64).sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 4.0).abs() < 0.1, "{mean} {variance}");
        assert_ne!(x[..100], normals(100, 2.0, 2)[..]);
        assert_eq!(normals(3 * DRAWN, 1.0, 5).len(), 3 * DRAWN);
    }
}
