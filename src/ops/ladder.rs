//! The ladder that operations with a matrix product share: one thread per result, then tiles.
//!
//! WGSL has one tile of two sizes. PTX has one of 64 × 64 results: on the arithmetic units for f32, on tensor cores for bf16.

use super::case::Case;
use crate::device::{Gpu, Language, Launch, View, variant};
use crate::dtype::DType;
use crate::error::Result;
use bytemuck::bytes_of;

/// Which kernel of an operation's ladder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TileRung {
    /// By the size of the result.
    Auto,
    /// One thread per result.
    Naive,
    /// WGSL: 32 × 32 results per workgroup of 64. PTX: as [`TileRung::Auto`].
    Tile32,
    /// WGSL: 64 × 64 results per workgroup of 256. PTX: as [`TileRung::Auto`].
    Tile64,
}

/// The rungs under the names that cases give them.
pub(super) const FORWARD: [(&str, TileRung); 4] =
    [("forward", TileRung::Auto), ("forward:naive", TileRung::Naive), ("forward:tile32", TileRung::Tile32), ("forward:tile64", TileRung::Tile64)];
/// As [`FORWARD`].
pub(super) const BACKWARD: [(&str, TileRung); 4] =
    [("backward", TileRung::Auto), ("backward:naive", TileRung::Naive), ("backward:tile32", TileRung::Tile32), ("backward:tile64", TileRung::Tile64)];

impl TileRung {
    /// The side of the tile for a result of `[rows, columns]`, `parts` times over, and how many of them there are; `None` for
    /// the naive rung.
    pub(super) fn tiles(self, rows: usize, columns: usize, parts: usize) -> Option<(u32, usize)> {
        let tiles = |side: usize| rows.div_ceil(side) * columns.div_ceil(side) * parts;
        match self {
            TileRung::Naive => None,
            TileRung::Tile32 => Some((32, tiles(32))),
            TileRung::Tile64 => Some((64, tiles(64))),
            // The large tile reads half as much, but only if its groups still fill the device.
            TileRung::Auto if tiles(64) >= 256 => Some((64, tiles(64))),
            TileRung::Auto => Some((32, tiles(32))),
        }
    }
}

/// Skips a case on PTX devices if they do not have its rung: [`TileRung::Auto`] runs their one tile.
pub(super) fn only_where_there_is(rung: TileRung, case: &mut Case) {
    if matches!(rung, TileRung::Tile32 | TileRung::Tile64) {
        case.skip = Some(|device| device.has_bf16().then(|| "the PTX kernels have one tile, which the other cases run".into()));
    }
}

/// The side of the tile of PTX.
const PTX_SIDE: usize = 64;

/// Whether a launch goes to the tensor cores.
pub(super) fn on_tensor_cores(gpu: &Gpu, rung: TileRung, activation: DType) -> bool {
    gpu.language() == Language::Ptx && activation == DType::Bf16 && rung != TileRung::Naive
}

/// Launches an entry of `op` whose result is `[rows, columns]`, `parts` times over: the naive one, the tiled one, or in bf16 the one
/// for tensor cores.
pub(super) fn launch<D: bytemuck::Pod>(
    gpu: &Gpu,
    rung: TileRung,
    (op, [naive, tiled, tensor_cores], activation): (&'static str, [&'static str; 3], DType),
    dims: D,
    buffers: &[Option<View>],
    [rows, columns, parts]: [usize; 3],
) -> Result<()> {
    let (dims, variant) = (bytes_of(&dims), variant(activation));
    let Some((side, groups)) = rung.tiles(rows, columns, parts) else {
        return gpu.launch(Launch { kernel: (op, naive), constants: &[], variant, buffers, dims, groups: (rows * columns).div_ceil(64) });
    };
    match gpu.language() {
        Language::Wgsl => gpu.launch(Launch { kernel: (op, tiled), constants: &[("TILE", side)], variant, buffers, dims, groups }),
        Language::Ptx => {
            let tiled = if activation == DType::Bf16 { tensor_cores } else { tiled };
            let groups = rows.div_ceil(PTX_SIDE) * columns.div_ceil(PTX_SIDE) * parts;
            gpu.launch(Launch { kernel: (op, tiled), constants: &[], variant, buffers, dims, groups })
        }
    }
}

/// Launches an entry with one thread per result, 64 to a workgroup.
pub(super) fn launch_each<D: bytemuck::Pod>(
    gpu: &Gpu,
    kernel: (&'static str, &'static str),
    variant: &str,
    dims: D,
    buffers: &[Option<View>],
    results: usize,
) -> Result<()> {
    gpu.launch(Launch { kernel, constants: &[], variant, buffers, dims: bytes_of(&dims), groups: results.div_ceil(64) })
}
