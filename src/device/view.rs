//! What a launch sees of a tensor.

use super::{Buffer, Device};
use crate::dtype::{DType, Shape};
use crate::observe::{Access, ObservedOperand, TensorId};

/// A tensor as a launch takes it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// Where it lives.
    pub device: &'a Device,
    /// Its memory.
    pub buffer: &'a Buffer,
    /// The elements in use.
    pub shape: Shape,
    /// Their type.
    pub dtype: DType,
    /// Which tensor it is.
    pub id: TensorId,
}

impl View<'_> {
    /// Elements in use.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }

    /// As whoever observes the launch is told of it.
    pub(super) fn operand(&self) -> ObservedOperand {
        ObservedOperand { name: "", id: self.id, shape: self.shape, dtype: self.dtype, elements: self.len(), access: Access::Read, values: None }
    }
}
