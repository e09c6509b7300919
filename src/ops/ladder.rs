//! The ladder that operations with a matrix product inside share: one thread per result, then two tiles.

use super::dims_bytes;
use crate::device::{Gpu, Launch};
use crate::error::Result;
use crate::tensor::Tensor;

/// Which kernel of an operation's ladder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// By the size of the result.
    Auto,
    /// One thread per result.
    Naive,
    /// 32 × 32 results per workgroup of 64.
    Tile32,
    /// 64 × 64 results per workgroup of 256.
    Tile64,
}

/// The rungs under the names that cases give them.
pub(super) const FORWARD: [(&str, Rung); 4] =
    [("forward", Rung::Auto), ("forward:naive", Rung::Naive), ("forward:tile32", Rung::Tile32), ("forward:tile64", Rung::Tile64)];
/// As [`FORWARD`].
pub(super) const BACKWARD: [(&str, Rung); 4] =
    [("backward", Rung::Auto), ("backward:naive", Rung::Naive), ("backward:tile32", Rung::Tile32), ("backward:tile64", Rung::Tile64)];

impl Rung {
    /// The side of the tile for a result of `[rows, columns]`, `parts` times over, and how many of them there are; `None` for
    /// the naive rung.
    pub(super) fn tiles(self, rows: usize, columns: usize, parts: usize) -> Option<(u32, usize)> {
        let tiles = |side: usize| rows.div_ceil(side) * columns.div_ceil(side) * parts;
        match self {
            Rung::Naive => None,
            Rung::Tile32 => Some((32, tiles(32))),
            Rung::Tile64 => Some((64, tiles(64))),
            // The large tile reads half as much, but only if its groups still fill the device.
            Rung::Auto if tiles(64) >= 256 => Some((64, tiles(64))),
            Rung::Auto => Some((32, tiles(32))),
        }
    }
}

/// Launches an entry of `op` (naive or tiled) whose result is `[rows, columns]`, `parts` times over.
pub(super) fn launch<D: bytemuck::Pod>(
    gpu: &Gpu,
    rung: Rung,
    (op, [naive, tiled]): (&'static str, [&'static str; 2]),
    dims: D,
    buffers: &[Option<&Tensor>],
    [rows, columns, parts]: [usize; 3],
) -> Result<()> {
    let (dims, variant) = (dims_bytes(&dims), "");
    match rung.tiles(rows, columns, parts) {
        None => gpu.launch(Launch { kernel: (op, naive), constants: &[], variant, buffers, dims, groups: (rows * columns).div_ceil(64) }),
        Some((side, groups)) => gpu.launch(Launch { kernel: (op, tiled), constants: &[("TILE", side)], variant, buffers, dims, groups }),
    }
}
