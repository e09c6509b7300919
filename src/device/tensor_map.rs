//! Tensors as Hopper's Tensor Memory Accelerator sees them: what a kernel of `kernels/hopper/` takes beside pointers.
//!
//! One thread asks for a whole box of a tensor by its coordinates; the TMA works out the addresses, swizzles the rows over the
//! banks of shared memory, reads zeros outside the tensor and leaves out what would be written there.

use super::View;

/// A tensor that the TMA reads or writes by boxes. Elements of the tensor's dtype, element strides of 1, no interleaving, 128-byte
/// swizzle: the 16-byte piece `i` of row `r` of a box lies at `i ^ (r % 8)`, so that a column of them lies in different banks.
#[derive(Clone, Copy)]
pub(crate) struct TensorMap<'a> {
    /// The tensor.
    pub tensor: View<'a>,
    /// Its dimensions as the kernel sees them, innermost first: 1 to 5. The first has a stride of 1.
    pub dims: &'a [MapDim],
}

/// A dimension of a [`TensorMap`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapDim {
    /// Elements.
    pub size: usize,
    /// Elements from one to the next.
    pub stride: usize,
    /// Elements of a box: 1 to 256.
    pub box_size: usize,
}

impl TensorMap<'_> {
    /// Bytes of the argument that it becomes, aligned to 64.
    pub(crate) const BYTES: usize = 128;

    /// Why the TMA cannot read or write this, if it cannot: the limits of `cuTensorMapEncodeTiled`.
    pub(crate) fn problem(&self) -> Option<String> {
        let element = self.tensor.dtype.size();
        let [inner, outer @ ..] = self.dims else { return Some("no dimensions".into()) };
        let reach: usize = self.dims.iter().map(|d| d.size.saturating_sub(1) * d.stride).sum();
        if self.dims.len() > 5 {
            return Some(format!("{} dimensions, expected at most 5", self.dims.len()));
        }
        if let Some(dim) = self.dims.iter().find(|d| d.size == 0 || d.size > u32::MAX as usize || d.box_size == 0 || d.box_size > 256) {
            return Some(format!("{dim:?}: sizes are 1 to 2³² - 1, boxes 1 to 256"));
        }
        if inner.stride != 1 {
            return Some(format!("{inner:?}: the innermost stride is 1"));
        }
        if let Some(dim) = outer.iter().find(|d| !(d.stride * element).is_multiple_of(16) || d.stride * element >= 1 << 40) {
            return Some(format!("{dim:?}: strides are multiples of 16 bytes, below 2⁴⁰"));
        }
        let row = inner.box_size * element;
        if !row.is_multiple_of(16) || row > 128 {
            return Some(format!("a box's row of {row} bytes: expected a multiple of 16, at most 128"));
        }
        (reach >= self.tensor.len()).then(|| format!("element {reach} of a tensor of {}", self.tensor.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device, Tensor};

    #[test]
    fn what_the_tma_cannot_do_is_said() {
        let tensor = Tensor::zeros(&Device::Cpu, [40, 24], DType::Bf16).unwrap();
        let dim = |size, stride, box_size| MapDim { size, stride, box_size };
        let problem = |dims: &[MapDim]| TensorMap { tensor: tensor.view(), dims }.problem();
        assert_eq!(problem(&[dim(24, 1, 64), dim(40, 24, 128)]), None);
        for (dims, part) in [
            (&[][..], "no dimensions"),
            (&[dim(24, 1, 64), dim(41, 24, 128)], "element 983 of a tensor of 960"),
            (&[dim(24, 1, 64), dim(40, 20, 128)], "multiples of 16 bytes"),
            (&[dim(24, 1, 128), dim(40, 24, 128)], "a box's row of 256 bytes"),
            (&[dim(24, 2, 64), dim(20, 48, 128)], "the innermost stride is 1"),
            (&[dim(24, 1, 64), dim(40, 24, 257)], "boxes 1 to 256"),
            (&[dim(1, 1, 8); 6], "6 dimensions"),
        ] {
            assert!(problem(dims).is_some_and(|p| p.contains(part)), "{dims:?}: {:?}", problem(dims));
        }
    }
}
