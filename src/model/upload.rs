//! Writing a batch's tensors: now, or ahead, while the device computes something else.

use crate::error::Result;
use crate::tensor::{DType, Element, Tensor};

/// Elements as they are.
pub(super) fn write<T: Element>(tensor: &mut Tensor, data: &[T], ahead: bool) -> Result<()> {
    if ahead { tensor.write_ahead(data) } else { tensor.write(data) }
}

/// Numbers in the dtype of the tensor.
pub(super) fn write_real(tensor: &mut Tensor, data: &[f32], ahead: bool) -> Result<()> {
    match tensor.dtype() {
        DType::F64 => write(tensor, &data.iter().map(|&x| x as f64).collect::<Vec<_>>(), ahead),
        DType::Bf16 => write(tensor, &data.iter().map(|&x| half::bf16::from_f32(x)).collect::<Vec<_>>(), ahead),
        _ => write(tensor, data, ahead),
    }
}

/// Writes a matrix whose shape changes from batch to batch.
pub(super) fn write_matrix(tensor: &mut Tensor, shape: [usize; 2], values: &[f32], ahead: bool) -> Result<()> {
    tensor.reshape(shape)?;
    write_real(tensor, values, ahead)
}
