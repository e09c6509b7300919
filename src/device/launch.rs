//! One kernel launch, as every GPU takes it.

use super::{TensorMap, View};
use crate::dtype::DType;
use crate::observe::Launched;

/// One kernel launch. The WGSL and the CUDA twin of a kernel take the same buffers in the same order and the same `Dims`, so
/// that one launch serves all GPUs; where a language has its own tiles or rungs, the launcher asks
/// [`Gpu::language`](super::Gpu::language).
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// The file's stem and the entry's name: `("matmul", "tile")`.
    pub kernel: (&'static str, &'static str),
    /// WGSL: `const` lines to override, in a fixed order.
    pub constants: &'a [(&'static str, u32)],
    /// PTX: which of the compiled variants of the entry, as the suffix of its name: `"_bf16"`, `"_d64_bf16"`; empty for the
    /// entry itself.
    pub variant: &'a str,
    /// The buffers in order, without the `Dims`. `None` for an operand that is absent by the `Dims`: WGSL binds a few
    /// zero bytes, CUDA passes a null pointer.
    pub buffers: &'a [Option<View<'a>>],
    /// The `Dims`, as the WGSL uniform lays them out and as the CUDA kernel takes them by value: at most 256 bytes.
    pub dims: &'a [u8],
    /// Workgroups (thread blocks). A WGSL grid may have more than asked for, numbered
    /// `workgroup_id.x + workgroup_id.y * num_workgroups.x`: the shader stops at its own bound. A CUDA grid has exactly these,
    /// in x.
    pub groups: usize,
}

impl Launch<'_> {
    /// What of it outlives it.
    pub(super) fn record(&self, hopper: Option<&Hopper>) -> Launched {
        let maps = hopper.map_or(&[][..], |h| h.maps).iter().map(|map| Some(map.tensor.operand()));
        Launched {
            kernel: self.kernel,
            variant: self.variant.to_string(),
            hopper: hopper.is_some(),
            dims: self.dims.to_vec(),
            groups: self.groups,
            tensors: maps.chain(self.buffers.iter().map(|b| b.map(|b| b.operand()))).collect(),
        }
    }
}

/// What a kernel of `kernels/hopper/` takes beside a [`Launch`].
#[derive(Clone, Copy)]
pub(crate) struct Hopper<'a> {
    /// Its first arguments, before the buffers.
    pub maps: &'a [TensorMap<'a>],
    /// Bytes of dynamic shared memory per block: up to [`Hopper::MAX_SHARED`].
    pub shared: usize,
}

impl Hopper<'_> {
    /// Shared memory that a block of a GPU of compute capability 9.0 can have.
    pub const MAX_SHARED: usize = 227 << 10;
}

/// The two languages that the kernels are written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// `shaders/`.
    Wgsl,
    /// `kernels/`, compiled to `kernels/ptx/`.
    Ptx,
}

/// The variant of an entry that has one compiled for f32 and one for bf16.
pub(crate) fn variant(dtype: DType) -> &'static str {
    if dtype == DType::Bf16 { "_bf16" } else { "" }
}
