//! The launchers of `kernels/hopper/matmul.cu`.

use super::{Dims, Epilogue, Layout, OP, forward_with, layout_variant, views};
use crate::device::{Device, Gpu, Hopper, Launch, MapDim, TensorMap};
use crate::error::Result;
use crate::ops::case::Draw;
use crate::ops::hopper;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;

/// The rungs of the file, in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HopperRung {
    /// A block of two warp groups per 128 × 128 of C, operands by TMA.
    Wgmma,
    /// One warp that gives orders, two warp groups that multiply 128 × 256 of C.
    Specialised,
    /// The same with 128 × 128.
    SpecialisedSmall,
    /// As many blocks as multiprocessors, in clusters of two that share 256 × 256 of C.
    Persistent,
}

/// Their names in cases and benchmarks.
pub(super) const RUNGS: [(&str, HopperRung); 4] = [
    ("forward:wgmma", HopperRung::Wgmma),
    ("forward:specialised", HopperRung::Specialised),
    ("forward:specialised_small", HopperRung::SpecialisedSmall),
    ("forward:persistent", HopperRung::Persistent),
];

/// What the TMA requires that this call does not have, if anything; the portable rungs serve it.
pub(super) fn misfit(dims: &Dims, a: &Tensor, b: &Tensor, c: &Tensor) -> Option<String> {
    if a.dtype() != DType::Bf16 {
        return Some(format!("bf16 operands, not {}", a.dtype()));
    }
    if dims.k == 0 {
        return Some("K of at least 1".into());
    }
    let rows = [("a", a.row_len(), a.dtype()), ("b", b.row_len(), b.dtype()), ("c", dims.n as usize, c.dtype())];
    rows.into_iter()
        .find(|(_, length, dtype)| !(length * dtype.size()).is_multiple_of(16))
        .map(|(name, length, dtype)| format!("rows of a multiple of 16 bytes, not {name}'s {length} {dtype}"))
}

/// The rung for a shape.
pub(super) fn best(gpu: &Gpu, dims: &Dims) -> HopperRung {
    let tiles = |rows: u32, columns: u32| dims.m.div_ceil(rows) as usize * dims.n.div_ceil(columns) as usize;
    let processors = gpu.multiprocessors();
    if 2 * tiles(256, 256) >= processors {
        HopperRung::Persistent
    } else if tiles(128, 256) >= processors {
        HopperRung::Specialised
    } else {
        HopperRung::SpecialisedSmall
    }
}

pub(super) fn launch(gpu: &Gpu, rung: HopperRung, layout: Layout, dims: &Dims, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &Tensor) -> Result<()> {
    let (m, n) = (dims.m as usize, dims.n as usize);
    let [dims_a, dims_b] = [a, b].map(|t| matrix(t.rows(), t.row_len(), 64));
    let dims_c = matrix(m, n, 128 / c.dtype().size());
    let map = |tensor, dims| TensorMap { tensor, dims };
    let maps = [map(a.view(), &dims_a), map(b.view(), &dims_b), map(c.view(), &dims_c)];
    let before = (epilogue.accumulate && c.dtype() == DType::Bf16).then_some(c);
    let (entry, maps, last, shared) = match rung {
        HopperRung::Wgmma => ("wgmma", &maps[..2], Some(c), 131_136),
        HopperRung::Specialised => ("specialised", &maps[..], before, 229_504),
        HopperRung::SpecialisedSmall => ("specialised_small", &maps[..], before, 229_504),
        HopperRung::Persistent => ("persistent", &maps[..], before, 229_504),
    };
    let variant = layout_variant(layout, a.dtype(), c.dtype());
    let tiles = |rows: usize, columns: usize| m.div_ceil(rows) * n.div_ceil(columns);
    let processors = gpu.multiprocessors();
    let groups = match rung {
        HopperRung::Wgmma => tiles(128, 128),
        HopperRung::Specialised => tiles(128, 256).min(processors),
        HopperRung::SpecialisedSmall => tiles(128, 128).min(processors),
        HopperRung::Persistent => 2 * tiles(256, 256).min((processors / 2).max(1)),
    };
    let buffers = &views([epilogue.bias, epilogue.residual, last]);
    let launch = Launch { kernel: (OP, entry), constants: &[], variant, buffers, dims: bytes_of(dims), groups };
    gpu.launch_hopper(launch, Hopper { maps, shared })
}

/// `[rows, columns]`, row-major, in boxes of 64 rows.
fn matrix(rows: usize, columns: usize, box_columns: usize) -> [MapDim; 2] {
    [MapDim { size: columns, stride: 1, box_size: box_columns }, MapDim { size: rows, stride: columns, box_size: 64 }]
}

/// Products of integers, which are exact, on every rung and layout: tiles that are full, cut, and more than one per block.
pub(super) fn test(device: &Device) -> Result<()> {
    let mut draw = Draw::new("self-test");
    for (layout, m, n, k) in [(Layout::Nt, 328, 520, 200), (Layout::Nn, 520, 264, 136), (Layout::Tn, 136, 328, 264)] {
        let (shape_a, shape_b) = (if layout == Layout::Tn { [k, m] } else { [m, k] }, if layout == Layout::Nt { [n, k] } else { [k, n] });
        let (a, a_cpu) = hopper::twin(device, &mut draw, &shape_a, true)?;
        let (b, b_cpu) = hopper::twin(device, &mut draw, &shape_b, true)?;
        let mut expected = Tensor::zeros(&Device::Cpu, [m, n], DType::F32)?;
        forward_with(super::Rung::Auto, layout, &a_cpu, &b_cpu, Epilogue::default(), &mut expected, None)?;
        for (name, rung) in RUNGS {
            let mut c = Tensor::zeros(device, [m, n], DType::F32)?;
            forward_with(super::Rung::Hopper(rung), layout, &a, &b, Epilogue::default(), &mut c, None)?;
            hopper::compare(OP, &format!("{name} {layout:?}"), &c, &expected, 0.0)?;
        }
    }
    Ok(())
}
