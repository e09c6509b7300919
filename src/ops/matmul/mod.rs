//! Matrix product in the three layouts that a linear layer and its gradients need, with an epilogue.
//!
//! `C (+)= A · B + bias + residual`, row-major throughout. A layer `Y = X · Wᵀ + b` is [`Layout::Nt`]; its gradients are
//! `dX = dY · W` ([`Layout::Nn`]), `dW += dYᵀ · X` ([`Layout::Tn`]) and `db += Σ_rows dY`. There is no `backward` here: these
//! two products are the backward pass.
//!
//! f32 × f32 → f32 (f64 on the CPU), bf16 × bf16 → f32, or bf16 × bf16 → bf16 (PTX only); sums are f32.

mod cases;
mod cpu;
mod hopper;

#[cfg(feature = "cuda")]
#[cfg(all(feature = "cuda", feature = "data"))] // the benchmark compares with cuBLASLt
pub(crate) use cases::sizes_of;
pub use cases::{cases, gradients, sized};
pub use hopper::HopperRung;

use super::field::{DimsField, Origin};
use super::{Call, Op, Pass, real, size, statistic, views};
use crate::device::{Device, Gpu, Language, Launch, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;

const OP: &str = "matmul";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op { name: OP, files: &[OP], passes: &[Pass { name: "forward", kernel: (OP, "naive") }], cases, sized, gradients, fields: FIELDS };

/// Where a sum is split, in WGSL and in PTX: as `KSplit::stretches` works it out.
const STRETCH: [&str; 2] = [
    "max(ceil_div(ceil_div(k, max(min(ceil_div(256, max(ceil_div(m, 32) * ceil_div(n, 32), 1)), k / 64), 1)), 16) * 16, 16)",
    "max(ceil_div(ceil_div(k, max(min(ceil_div(256, max(ceil_div(m, 64) * ceil_div(n, 64), 1)), k / 128), 1)), 32) * 32, 32)",
];
/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField { name: "m", origin: Origin::Size("a[0]", ("TN (LAYOUT 2, _tn)", "a[1]")) },
    DimsField { name: "n", origin: Origin::Size("b[0]", ("NN and TN (LAYOUT 1 and 2, _nn and _tn)", "b[1]")) },
    DimsField { name: "k", origin: Origin::Size("a[1]", ("TN (LAYOUT 2, _tn)", "a[0]")) },
    DimsField::option("flags", "the sum of 1 (add bias), 2 (add residual), 4 (add to c instead of overwriting it)"),
    DimsField::formula("splits", "max(ceil_div(k, max(k_per_split, 1)), 1)"),
    DimsField {
        name: "k_per_split",
        origin: Origin::Choice {
            range: "a multiple of what is staged at a time (16 in WGSL, 32 in CUDA) where it is less than k: so long a stretch of the sum is one block's",
            ours: ["ceil_div(k, 16) * 16", "ceil_div(k, 16) * 16"],
            elsewhere: Some(("the sum is split, and split_finish adds the stretches", STRETCH)),
        },
    },
];

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

/// How the operands are stored in memory. Matrices are `[rows(), row_len()]`: a tensor `[N, H, d]` is `[N, H·d]`.
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
    /// A workgroup per large tile of C: 64 × 64 in WGSL; 128 × 128 in PTX, on tensor cores for bf16. On the CPU as [`Rung::Auto`].
    Large,
    /// A workgroup per small tile of C: half the side of the large one. On the CPU as [`Rung::Auto`].
    Small,
    /// Several workgroups per tile of C, each over a stretch of K; needs the workspace of [`split_workspace`]. On the CPU
    /// as [`Rung::Auto`].
    SplitK,
    /// A rung of `kernels/hopper/matmul.cu`: bf16 operands and rows of a multiple of 16 bytes, on GPUs that have them. On the CPU as
    /// [`Rung::Auto`].
    Hopper(HopperRung),
}

/// What is added to the product.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[N]`: added to every row.
    pub bias: Option<&'a Tensor>,
    /// `[M, N]`.
    pub residual: Option<&'a Tensor>,
    /// Adds to what is in C instead of overwriting it.
    pub accumulate: bool,
}

/// Elements of K that the shader stages at a time.
const TILE_K: usize = 16;

/// How the sum over K is split into stretches, which several workgroups share.
struct KSplit {
    /// The side of the tile of C.
    tile: usize,
    /// What a stretch is a multiple of, and how short it may be.
    step: usize,
    shortest: usize,
}

const WGSL_SPLIT: KSplit = KSplit { tile: 32, step: TILE_K, shortest: 64 };
const PTX_SPLIT: KSplit = KSplit { tile: 64, step: 32, shortest: 128 };

impl KSplit {
    fn of(language: Language) -> KSplit {
        match language {
            Language::Wgsl => WGSL_SPLIT,
            Language::Ptx => PTX_SPLIT,
        }
    }

    fn tiles(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.tile).saturating_mul(n.div_ceil(self.tile))
    }

    /// At most this many stretches of K: about 256 workgroups in all. It only grows with K, so that a workspace for the longest
    /// batch serves every shorter one.
    fn most(&self, m: usize, n: usize, k: usize) -> usize {
        256usize.div_ceil(self.tiles(m, n).max(1)).min(k / self.shortest).max(1)
    }

    /// Stretches of K and their length. A function of the shape alone: the order of the sum does not depend on the machine.
    fn stretches(&self, m: usize, n: usize, k: usize) -> (usize, usize) {
        let length = k.div_ceil(self.most(m, n, k)).next_multiple_of(self.step).max(self.step);
        (k.div_ceil(length).max(1), length)
    }

    /// Whether it pays. Where C alone has a workgroup for every core of a large GPU, or K is short, a second pass only costs.
    fn pays(&self, layout: Layout, m: usize, n: usize, k: usize) -> bool {
        layout == Layout::Tn && k >= 256 && self.tiles(m, n) <= BUSY
    }
}

/// Elements of workspace that [`forward`] can use: 0 where the sum over K is not worth splitting. Never less for a larger K.
pub fn workspace(layout: Layout, m: usize, n: usize, k: usize) -> usize {
    let needed = |split: KSplit| if split.pays(layout, m, n, k) { split.most(m, n, k).saturating_mul(m).saturating_mul(n) } else { 0 };
    needed(WGSL_SPLIT).max(needed(PTX_SPLIT))
}

/// Elements of workspace that [`Rung::SplitK`] needs.
pub fn split_workspace(m: usize, n: usize, k: usize) -> usize {
    WGSL_SPLIT.most(m, n, k).max(PTX_SPLIT.most(m, n, k)).saturating_mul(m).saturating_mul(n)
}

/// `c (+)= a · b + bias + residual`. Shapes: see [`Layout`] and [`Epilogue`]; `c [M, N]`. dtypes: `a` and `b` f32 with all
/// else f32, bf16 with all else f32, bf16 with all else bf16 (PTX), or f64 with all else f64 (CPU). `K = 0` gives the
/// epilogue alone.
///
/// `workspace`, f32 (f64 where all is) and at least [`workspace`] elements, lets long sums be split; its contents do not matter
/// before or after.
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::matmul::{self, Epilogue, Layout};
///
/// let x = Tensor::from_slice(&Device::Cpu, [2, 2], &[1f32, 2.0, 3.0, 4.0])?; // [M, K]
/// let weight = Tensor::from_slice(&Device::Cpu, [1, 2], &[1f32, 10.0])?; // [N, K]
/// let bias = Tensor::from_slice(&Device::Cpu, [1], &[100f32])?;
/// let mut y = Tensor::zeros(&Device::Cpu, [2, 1], DType::F32)?; // [M, N]
/// let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
/// matmul::forward(Layout::Nt, &x, &weight, epilogue, &mut y, None)?;
/// assert_eq!(y.read::<f32>()?, [121.0, 143.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn forward(layout: Layout, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &mut Tensor, workspace: Option<&mut Tensor>) -> Result<()> {
    forward_with(Rung::Auto, layout, a, b, epilogue, c, workspace)
}

/// As [`forward`], by the kernel that `rung` names.
///
/// # Errors
/// As [`forward`]; also [`Error::Mismatch`] for [`Rung::SplitK`] without a workspace of [`split_workspace`] elements on a GPU, and
/// for [`Rung::Hopper`] where it cannot run on the GPU or with the operands.
pub fn forward_with(rung: Rung, layout: Layout, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &mut Tensor, workspace: Option<&mut Tensor>) -> Result<()> {
    let input = if a.dtype() == DType::Bf16 { DType::Bf16 } else { real(OP, "a", a)? };
    let output = match input {
        DType::Bf16 if c.dtype() == DType::Bf16 && a.device().has_bf16() => DType::Bf16,
        _ => statistic(input),
    };
    let dims = Dims::new(layout, a, b, &epilogue)?;
    let (m, n, k) = (dims.m as usize, dims.n as usize, dims.k as usize);
    // Where K is split, this is `split_workspace`: launch relies on it.
    let needed = match a.device() {
        Device::Gpu(_) if rung == Rung::SplitK => split_workspace(m, n, k),
        Device::Cpu | Device::Gpu(_) => self::workspace(layout, m, n, k),
    };
    let call = Call::new(OP, "forward", a.device())
        .reads("a", a, a.shape(), input)?
        .reads("b", b, b.shape(), input)?
        .reads_if("bias", epilogue.bias, [n], output)?
        .reads_if("residual", epilogue.residual, [m, n], output)?
        .writes_or_adds(epilogue.accumulate, "c", c, [m, n], output)?
        .workspace_if(workspace.as_deref(), needed, statistic(output))?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let call = call.begin(|| Work::product(2 * m as u64 * n as u64 * k as u64).of_launch("split_finish", 0u64));
    match call.device() {
        Device::Cpu => match input {
            DType::F64 => cpu::forward::<f64, f64>(rung, layout, dims, a, b, epilogue, c),
            DType::Bf16 => cpu::forward::<half::bf16, f32>(rung, layout, dims, a, b, epilogue, c),
            _ => cpu::forward::<f32, f32>(rung, layout, dims, a, b, epilogue, c),
        },
        Device::Gpu(gpu) => launch(gpu, rung, layout, dims, a, b, epilogue, c, workspace)?,
    }
    call.end([&*c]);
    Ok(())
}

// ── CPU: see cpu.rs ──────────────────────────────────────────────────────────────────────────────────────────────

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Workgroups below which a large tile leaves a large GPU idle.
const BUSY: usize = 128;

fn launch(
    gpu: &Gpu,
    rung: Rung,
    layout: Layout,
    mut dims: Dims,
    a: &Tensor,
    b: &Tensor,
    epilogue: Epilogue,
    c: &Tensor,
    workspace: Option<&mut Tensor>,
) -> Result<()> {
    let (m, n, k) = (dims.m as usize, dims.n as usize, dims.k as usize);
    let split = KSplit::of(gpu.language());
    let large = 2 * split.tile;
    let rung = match rung {
        Rung::Auto if workspace.is_some() && split.pays(layout, m, n, k) => Rung::SplitK,
        Rung::Auto if hopper::misfit(&dims, a, b, c).is_none() && super::hopper::takes(gpu, OP, hopper::test) => Rung::Hopper(hopper::best(gpu, &dims)),
        Rung::Auto if m.div_ceil(large) * n.div_ceil(large) >= BUSY => Rung::Large,
        Rung::Auto => Rung::Small,
        forced => forced,
    };
    match rung {
        Rung::Naive | Rung::Large | Rung::Small | Rung::Auto => product(gpu, rung, layout, &dims, a, b, epilogue, c),
        Rung::Hopper(rung) => {
            let misfit = hopper::misfit(&dims, a, b, c).or_else(|| super::hopper::absent(a.device()));
            if let Some(misfit) = misfit {
                return Err(Error::mismatch(OP, "rung", format!("for {rung:?}: {misfit}"), format!("{layout:?} M={m} N={n} K={k}")));
            }
            hopper::launch(gpu, rung, layout, &dims, a, b, epilogue, c)
        }
        Rung::SplitK => {
            let needed = split_workspace(m, n, k);
            let Some(workspace) = workspace else {
                return Err(Error::mismatch(OP, "workspace", format!("at least {needed} elements to split K"), "none"));
            };
            let (splits, length) = split.stretches(m, n, k);
            (dims.splits, dims.k_per_split) = (size(OP, "splits", splits)?, size(OP, "K", length)?);
            size(OP, "workspace", needed)?;
            product(gpu, Rung::Small, layout, &Dims { flags: 0, ..dims }, a, b, Epilogue::default(), workspace)?;
            gpu.launch(Launch {
                kernel: (OP, "split_finish"),
                constants: &[],
                variant: variant(c.dtype()),
                buffers: &views([Some(&*workspace), epilogue.bias, epilogue.residual, Some(c)]),
                dims: bytes_of(&dims),
                groups: (m * n).div_ceil(64),
            })
        }
    }
}

/// The compiled variant of a PTX kernel for a layout and the types of the operands and of C.
fn layout_variant(layout: Layout, operands: DType, c: DType) -> &'static str {
    match (layout, operands == DType::Bf16, c == DType::Bf16) {
        (Layout::Nt, false, _) => "_nt",
        (Layout::Nn, false, _) => "_nn",
        (Layout::Tn, false, _) => "_tn",
        (Layout::Nt, true, false) => "_nt_bf16",
        (Layout::Nn, true, false) => "_nn_bf16",
        (Layout::Tn, true, false) => "_tn_bf16",
        (Layout::Nt, true, true) => "_nt_bf16_bf16",
        (Layout::Nn, true, true) => "_nn_bf16_bf16",
        (Layout::Tn, true, true) => "_tn_bf16_bf16",
    }
}

/// One launch that multiplies: every stretch of K that `dims` names into its own part of `c`.
fn product(gpu: &Gpu, rung: Rung, layout: Layout, dims: &Dims, a: &Tensor, b: &Tensor, epilogue: Epilogue, c: &Tensor) -> Result<()> {
    let (m, n) = (dims.m as usize, dims.n as usize);
    let small = KSplit::of(gpu.language()).tile;
    let tile = if rung == Rung::Large { 2 * small } else { small };
    let bf16 = a.dtype() == DType::Bf16;
    let constants = [
        ("LAYOUT", layout as u32),
        ("BF16", bf16 as u32),
        ("VECTOR_A", a.row_len().is_multiple_of(4) as u32),
        ("VECTOR_B", b.row_len().is_multiple_of(4) as u32),
        ("TILE", if rung == Rung::Naive { 64 } else { tile as u32 }),
    ];
    // WGSL has one tile of two sizes for both dtypes.
    let entry = match (gpu.language(), rung, bf16) {
        (_, Rung::Naive, _) => "naive",
        (Language::Wgsl, ..) => "tile",
        (Language::Ptx, Rung::Large, false) => "tile",
        (Language::Ptx, Rung::Large, true) => "mma",
        (Language::Ptx, _, false) => "tile_small",
        (Language::Ptx, _, true) => "mma_small",
    };
    let variant = layout_variant(layout, a.dtype(), c.dtype());
    let groups = if rung == Rung::Naive { (m * n).div_ceil(64) } else { dims.splits as usize * m.div_ceil(tile) * n.div_ceil(tile) };
    gpu.launch(Launch {
        kernel: (OP, entry),
        constants: &constants,
        variant,
        buffers: &views([Some(a), Some(b), epilogue.bias, epilogue.residual, Some(c)]),
        dims: bytes_of(dims),
        groups,
    })
}
