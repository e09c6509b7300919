//! Matrix product in the three layouts that a linear layer and its gradients need, with an epilogue.
//!
//! `C (+)= A · B + bias + residual`, row-major throughout. A layer `Y = X · Wᵀ + b` is [`Layout::Nt`]; its gradients are
//! `dX = dY · W` ([`Layout::Nn`]), `dW += dYᵀ · X` ([`Layout::Tn`]) and `db += Σ_rows dY`. There is no `backward` here: these
//! two products are it.
//!
//! f32 × f32 → f32 (f64 on the CPU), or bf16 × bf16 → f32 with f32 sums.

mod cases;
mod cpu;

pub use cases::{cases, gradients};

use super::dims_bytes;
use super::{expect_kind, expect_len, real, size};
use crate::device::Device;
use crate::device::{Gpu, Launch};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

const OP: &str = "matmul";

/// How the operands lie in memory. Matrices are `[rows(), row_len()]`: a tensor `[N, H, d]` is `[N, H·d]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    /// `A [M, K] · B [N, K]ᵀ`: forward, the weight as checkpoints store it.
    Nt,
    /// `A [M, K] · B [K, N]`: the gradient of a layer's input.
    Nn,
    /// `A [K, M]ᵀ · B [K, N]`: the gradient of a layer's weight.
    Tn,
}

/// Which kernel computes it. All give the same product up to rounding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rung {
    /// The best one for the shape.
    Auto,
    /// One thread per element; on the CPU plain loops (the oracle).
    Naive,
    /// A workgroup per 64 × 64 of C. On the CPU as [`Rung::Auto`].
    Tile64,
    /// A workgroup per 32 × 32 of C. On the CPU as [`Rung::Auto`].
    Tile32,
    /// Several workgroups per tile of C, each over a stretch of K; needs the workspace of [`split_workspace`]. On the CPU
    /// as [`Rung::Auto`].
    SplitK,
}

/// What is added to the product.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[N]`: added to every row.
    pub bias: Option<&'a Tensor>,
    /// `[M, N]`.
    pub residual: Option<&'a Tensor>,
    /// Adds to what lies in C instead of overwriting it.
    pub accumulate: bool,
}

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    m: u32,
    n: u32,
    k: u32,
    flags: u32,
    splits: u32,
    k_per_split: u32,
    padding: [u32; 2],
}

const BIAS: u32 = 1;
const RESIDUAL: u32 = 2;
const ACCUMULATE: u32 = 4;

impl Dims {
    fn new(layout: Layout, a: &Tensor, b: &Tensor, epilogue: &Epilogue) -> Result<Self> {
        let ((m, k), (n, b_k)) = match layout {
            Layout::Nt => ((a.rows(), a.row_len()), (b.rows(), b.row_len())),
            Layout::Nn => ((a.rows(), a.row_len()), (b.row_len(), b.rows())),
            Layout::Tn => ((a.row_len(), a.rows()), (b.row_len(), b.rows())),
        };
        if k != b_k {
            return Err(Error::mismatch(OP, "b", format!("{layout:?} with K = {k} (a is {})", a.shape()), b.shape()));
        }
        let flag = |there: bool, bit: u32| if there { bit } else { 0 };
        Ok(Dims {
            m: size(OP, "M", m)?,
            n: size(OP, "N", n)?,
            k: size(OP, "K", k)?,
            flags: flag(epilogue.bias.is_some(), BIAS) | flag(epilogue.residual.is_some(), RESIDUAL) | flag(epilogue.accumulate, ACCUMULATE),
            splits: 1,
            k_per_split: size(OP, "K", k.next_multiple_of(TILE_K))?,
            padding: [0; 2],
        })
    }
}

/// Elements of K that the shader stages at a time.
const TILE_K: usize = 16;

/// At most this many stretches of K: about 256 workgroups in all, of at least 64 elements of K each. It only grows with K, so
/// that a workspace for the longest batch serves every shorter one.
fn most_splits(m: usize, n: usize, k: usize) -> usize {
    let tiles = m.div_ceil(32) * n.div_ceil(32);
    256usize.div_ceil(tiles.max(1)).min(k / 64).max(1)
}

/// Stretches of K and their length. A function of the shape alone: the order of the sum does not depend on the machine.
fn splits(m: usize, n: usize, k: usize) -> (usize, usize) {
    let length = k.div_ceil(most_splits(m, n, k)).next_multiple_of(TILE_K).max(TILE_K);
    (k.div_ceil(length).max(1), length)
}

/// Elements of workspace that [`forward`] can use: 0 where the sum over K is not worth splitting. Never less for a larger K.
pub fn workspace(layout: Layout, m: usize, n: usize, k: usize) -> usize {
    // Where C alone has a workgroup for every core of a large GPU, or K is short, a second pass only costs.
    if layout == Layout::Tn && k >= 256 && m.div_ceil(32) * n.div_ceil(32) <= 128 { split_workspace(m, n, k) } else { 0 }
}

/// Elements of workspace that [`Rung::SplitK`] needs.
pub fn split_workspace(m: usize, n: usize, k: usize) -> usize {
    most_splits(m, n, k) * m * n
}

/// `c (+)= a · b + bias + residual`. Shapes: see [`Layout`] and [`Epilogue`]; `c [M, N]`. dtypes: `a` and `b` f32 with all
/// else f32, bf16 with all else f32, or f64 with all else f64 (CPU). `K = 0` gives what the epilogue alone is.
///
/// `workspace`, of the dtype of `c` and at least [`workspace`] elements, lets long sums be split; its contents do not matter
/// before or after.
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn forward(layout: Layout, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &mut Tensor, workspace: Option<&mut Tensor>) -> Result<()> {
    forward_with(Rung::Auto, layout, a, b, epilogue, c, workspace)
}

/// As [`forward`], by the kernel that `rung` names.
///
/// # Errors
/// As [`forward`]; also [`Error::Mismatch`] for [`Rung::SplitK`] without a workspace of [`split_workspace`] elements on a GPU.
pub fn forward_with(rung: Rung, layout: Layout, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &mut Tensor, workspace: Option<&mut Tensor>) -> Result<()> {
    let input = if a.dtype() == DType::Bf16 { DType::Bf16 } else { real(OP, "a", a)? };
    let output = if input == DType::Bf16 { DType::F32 } else { input };
    let device = a.device().clone();
    let dims = Dims::new(layout, a, b, &epilogue)?;
    let (m, n) = (dims.m as usize, dims.n as usize);
    expect_kind(OP, "b", b, input, &device)?;
    expect_len(OP, "c", c, [m, n], output, &device)?;
    if let Some(bias) = epilogue.bias {
        expect_len(OP, "bias", bias, [n], output, &device)?;
    }
    if let Some(residual) = epilogue.residual {
        expect_len(OP, "residual", residual, [m, n], output, &device)?;
    }
    if let Some(workspace) = &workspace {
        super::expect_workspace(OP, workspace, self::workspace(layout, m, n, dims.k as usize), output, &device)?;
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    match &device {
        Device::Cpu => {
            match input {
                DType::F64 => cpu::forward::<f64, f64>(rung, layout, dims, a, b, epilogue, c),
                DType::Bf16 => cpu::forward::<half::bf16, f32>(rung, layout, dims, a, b, epilogue, c),
                _ => cpu::forward::<f32, f32>(rung, layout, dims, a, b, epilogue, c),
            }
            Ok(())
        }
        Device::Gpu(gpu) => launch(gpu, rung, layout, dims, a, b, epilogue, c, workspace),
    }
}

// ── WGSL ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Workgroups below which a tile of 64 leaves a large GPU idle.
const BUSY: usize = 128;

#[allow(clippy::too_many_arguments)]
fn launch(gpu: &Gpu, rung: Rung, layout: Layout, mut dims: Dims, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &Tensor, workspace: Option<&mut Tensor>) -> Result<()> {
    let (m, n, k) = (dims.m as usize, dims.n as usize, dims.k as usize);
    let tiles = |size: usize| m.div_ceil(size) * n.div_ceil(size);
    let rung = match rung {
        Rung::Auto if workspace.is_some() && self::workspace(layout, m, n, k) > 0 => Rung::SplitK,
        Rung::Auto if tiles(64) >= BUSY => Rung::Tile64,
        Rung::Auto => Rung::Tile32,
        forced => forced,
    };
    let constants = |tile: u32| {
        let (a_row, b_row) = (a.row_len(), b.row_len());
        [
            ("LAYOUT", layout as u32),
            ("BF16", (a.dtype() == DType::Bf16) as u32),
            ("VECTOR_A", a_row.is_multiple_of(4) as u32),
            ("VECTOR_B", b_row.is_multiple_of(4) as u32),
            ("TILE", tile),
        ]
    };
    let product = |entry: &'static str, tile: u32, dims: &Dims, epilogue: Epilogue, c: &Tensor, groups: usize| {
        gpu.launch(Launch {
            kernel: (OP, entry),
            constants: &constants(tile), variant: "",
            buffers: &[Some(a), Some(b), epilogue.bias, epilogue.residual, Some(c)],
            dims: dims_bytes(dims),
            groups,
        })
    };
    match rung {
        Rung::Naive => product("naive", 64, &dims, epilogue, c, (m * n).div_ceil(64)),
        Rung::Auto | Rung::Tile64 => product("tile", 64, &dims, epilogue, c, tiles(64)),
        Rung::Tile32 => product("tile", 32, &dims, epilogue, c, tiles(32)),
        Rung::SplitK => {
            let needed = split_workspace(m, n, k);
            let Some(workspace) = workspace else {
                return Err(Error::mismatch(OP, "workspace", format!("at least {needed} elements to split K"), "none"));
            };
            super::expect_workspace(OP, workspace, needed, c.dtype(), c.device())?;
            let (splits, length) = splits(m, n, k);
            (dims.splits, dims.k_per_split) = (size(OP, "splits", splits)?, size(OP, "K", length)?);
            size(OP, "workspace", needed)?;
            let plain = Dims { flags: 0, ..dims };
            product("tile", 32, &plain, Epilogue::default(), workspace, splits * tiles(32))?;
            gpu.launch(Launch {
                kernel: (OP, "split_finish"),
                constants: &[], variant: "",
                buffers: &[Some(workspace), epilogue.bias, epilogue.residual, Some(c)],
                dims: dims_bytes(&dims),
                groups: (m * n).div_ceil(64),
            })
        }
    }
}
