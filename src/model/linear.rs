//! A linear layer: `y = x · wᵀ`, and its gradients.

use crate::error::Result;
use crate::ops::matmul::{self, Epilogue, Layout};
use crate::tensor::Tensor;

/// `y = x · wᵀ`
pub(crate) fn forward(x: &Tensor, w: &Tensor, y: &mut Tensor) -> Result<()> {
    matmul::forward(Layout::Nt, x, w, Epilogue::default(), y, None)
}

/// For `y = x · wᵀ`: `dx (+)= dy · w` and `dw += dyᵀ · x`.
pub(super) fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, dx: &mut Tensor, accumulate: bool, dw: &mut Tensor, workspace: &mut Tensor) -> Result<()> {
    matmul::forward(Layout::Nn, dy, w, Epilogue { accumulate, ..Default::default() }, dx, None)?;
    backward_weights(dy, x, dw, workspace)
}

/// For `y = x · wᵀ`: `dw += dyᵀ · x`.
pub(super) fn backward_weights(dy: &Tensor, x: &Tensor, dw: &mut Tensor, workspace: &mut Tensor) -> Result<()> {
    matmul::forward(Layout::Tn, dy, x, Epilogue { accumulate: true, ..Default::default() }, dw, Some(workspace))
}

/// `c (+)= a · b`
pub(super) fn product(a: &Tensor, b: &Tensor, accumulate: bool, c: &mut Tensor) -> Result<()> {
    matmul::forward(Layout::Nn, a, b, Epilogue { accumulate, ..Epilogue::default() }, c, None)
}
