#![allow(missing_docs, unused_variables, clippy::too_many_arguments)]
use crate::error::Result;
use crate::tensor::Tensor;
pub fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize, z: &mut Tensor, y: &mut Tensor) -> Result<()> { unimplemented!() }
pub fn backward(x: &Tensor, weight: &Tensor, z: &Tensor, dy: &Tensor, stride: usize, dz: &mut Tensor, dx: Option<&mut Tensor>, dweight: &mut Tensor, dbias: &mut Tensor, workspace: &mut Tensor) -> Result<()> { unimplemented!() }
pub fn workspace(images: usize, height: usize, width: usize, width_in: usize, width_out: usize, stride: usize) -> usize { 0 }
