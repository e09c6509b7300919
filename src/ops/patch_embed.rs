//! Patch embedding: pictures become rows of the token matrix.
//!
//! `y[row[m]] = x[m] · Wᵀ + b + position[px(m), 0] + position[py(m), 1]` with `x = (pixel/255 − 0.5)/0.5`: Fuyu's biased
//! linear map over patches flattened in the order (row, column, channel), plus a factorised position table. Patches come in
//! raster order, picture after picture; a patch whose `row` is −1 is unused.
//!
//! Backward, with `g[m] = dy[row[m]]` (0 for an unused patch): `dW = Σ_m g[m]ᵀ x[m]`, `db = Σ_m g[m]`,
//! `dposition[c, 0] = Σ_{px(m)=c} g[m]`, `dposition[r, 1] = Σ_{py(m)=r} g[m]`, `dpixels[m] = g[m] · W / 127.5`.
//!
//! There is no im2col buffer: on a GPU the GEMM's loads unfold the picture, on the CPU each task unfolds a few patches.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::ladder::{BACKWARD, FORWARD, TileRung, launch, launch_each, only_where_there_is};
use super::{Call, Op, Pass, Sizes, activation, exactly, on_real, size, statistic, views};
use crate::device::cpu::{Mat, Real, gemm};
use crate::device::{Device, Gpu, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use rayon::prelude::*;

const OP: &str = "patch_embed";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "forward", kernel: (OP, "forward_naive") }, Pass { name: "backward", kernel: (OP, "dweight_naive") }],
    cases,
    sized,
    gradients,
    fields: FIELDS,
};

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::option("side", "the side of a patch in pixels; divides height and width"),
    DimsField::formula("across", "width / side"),
    DimsField::formula("patches", "(height / side) * (width / side)"),
    DimsField::formula("inner", "side * side * 3"),
    DimsField::choice(
        "parts",
        "1 or more: as many ranges are summed apart, each into its part of the workspace",
        "min(max(ceil_div(images * patches, 128), 1), 32)",
    ),
    DimsField::option("is_u8", "1 where pixels are bytes; 0 where they are f32"),
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    images: u32,
    height: u32,
    width: u32,
    patch: u32,
    depth: u32,
    rows: u32,
    grid: u32,
    across: u32,
    patches: u32,
    inner: u32,
    parts: u32,
    is_u8: u32,
}

impl Dims {
    /// `rows`: those of the token matrix.
    fn new(pixels: &Tensor, weight: &Tensor, rows: usize, grid: usize) -> Result<(Self, DType)> {
        let dtype = activation(OP, "weight", weight)?;
        let [images, height, width, 3] = pixels.shape().dims()[..] else {
            return Err(Error::mismatch(OP, "pixels", "[images, height, width, 3]", pixels.shape()));
        };
        let (depth, inner) = (weight.rows(), weight.row_len());
        let patch = (inner / 3).isqrt();
        if patch == 0 || depth == 0 || patch * patch * 3 != inner {
            return Err(Error::mismatch(OP, "weight", "[D, P·P·3]", weight.shape()));
        }
        if height == 0 || width == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
            return Err(Error::mismatch(OP, "pixels", format!("height and width that are multiples of the patch size {patch}"), pixels.shape()));
        }
        let (across, down) = (width / patch, height / patch);
        let patches = across.saturating_mul(down);
        if grid < across.max(down) {
            return Err(Error::mismatch(OP, "position", format!("at least [{}, 2, {depth}]", across.max(down)), format!("[{grid}, 2, {depth}]")));
        }
        size(OP, "patches · D", images.saturating_mul(patches).saturating_mul(depth))?;
        let dims = Dims {
            images: size(OP, "images", images)?,
            height: size(OP, "height", height)?,
            width: size(OP, "width", width)?,
            patch: size(OP, "patch", patch)?,
            depth: size(OP, "D", depth)?,
            rows: size(OP, "rows", rows)?,
            grid: size(OP, "grid", grid)?,
            across: across as u32,
            patches: size(OP, "patches", patches)?,
            inner: size(OP, "P·P·3", inner)?,
            parts: parts(images * patches) as u32,
            is_u8: (pixels.dtype() == DType::U8) as u32,
        };
        Ok((dims, dtype))
    }

    /// What pixels are beside activations of this type.
    fn pixel_dtype(&self, activation: DType) -> DType {
        if self.is_u8 != 0 { DType::U8 } else { statistic(activation) }
    }

    /// Where patch `m` starts in the pictures.
    fn origin(&self, m: usize) -> usize {
        let (patches, across, patch) = (self.patches as usize, self.across as usize, self.patch as usize);
        let p = m % patches;
        (((m / patches) * self.height as usize + (p / across) * patch) * self.width as usize + (p % across) * patch) * 3
    }

    /// Floating-point operations of one of its products.
    fn flops(&self) -> u64 {
        2 * self.count() as u64 * self.inner as u64 * self.depth as u64
    }

    /// All patches of all pictures.
    fn count(&self) -> usize {
        self.images as usize * self.patches as usize
    }
}

/// Ranges of patches that `dW` is summed over apart on a GPU: enough groups to fill it, few enough partial sums.
fn parts(patches: usize) -> usize {
    patches.div_ceil(128).clamp(1, 32)
}

/// Elements of workspace that [`backward`] needs for `images` pictures of `height` × `width` in patches of `patch` × `patch`
/// and rows of `depth`.
pub fn workspace(images: usize, height: usize, width: usize, patch: usize, depth: usize) -> usize {
    let patches = (height / patch.max(1)).saturating_mul(width / patch.max(1));
    let inner = patch.saturating_mul(patch).saturating_mul(3);
    let partial = parts(images.saturating_mul(patches)).saturating_mul(depth).saturating_mul(inner);
    partial.saturating_add(patches.saturating_mul(depth))
}

/// `y[row[m]] = x[m] · weightᵀ + bias + position[px(m), 0] + position[py(m), 1]`, patch by patch; other rows of `y` stay.
///
/// Shapes: `pixels [images, H, W, 3]` u8 or real (0 to 255), `weight [D, P·P·3]` (the patch size P is taken from it),
/// `bias [D]`, `position [G, 2, D]` (x first, then y; G at least W/P and H/P), `row [images · patches]` i32 (outside 0..N:
/// unused; otherwise distinct), `y [N, D]`. Real is f32 (f64 on the CPU); all but real pixels may be bf16 where the device has
/// it, with f32 sums.
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::patch_embed;
///
/// let cpu = &Device::Cpu;
/// let pixels = Tensor::from_slice(cpu, [1, 2, 2, 3], &[255u8; 12])?; // one white picture, which is one patch
/// let weight = Tensor::from_slice(cpu, [1, 12], &[0.5f32; 12])?; // [D, P·P·3]
/// let bias = Tensor::from_slice(cpu, [1], &[1f32])?;
/// let position = Tensor::from_slice(cpu, [1, 2, 1], &[10f32, 20.0])?; // [G, 2, D]
/// let row = Tensor::from_slice(cpu, [1], &[2])?;
/// let mut y = Tensor::zeros(cpu, [3, 1], DType::F32)?; // the token matrix, [N, D]
/// patch_embed::forward(&pixels, &weight, &bias, &position, &row, &mut y)?;
/// assert_eq!(y.read::<f32>()?, [0.0, 0.0, 12.0 * 0.5 + 1.0 + 10.0 + 20.0]); // white is 1
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit, or H or W is not a multiple of P.
pub fn forward(pixels: &Tensor, weight: &Tensor, bias: &Tensor, position: &Tensor, row: &Tensor, y: &mut Tensor) -> Result<()> {
    forward_by(TileRung::Auto, pixels, weight, bias, position, row, y)
}

fn forward_by(rung: TileRung, pixels: &Tensor, weight: &Tensor, bias: &Tensor, position: &Tensor, row: &Tensor, y: &mut Tensor) -> Result<()> {
    let (dims, dtype) = Dims::new(pixels, weight, y.rows(), position.rows())?;
    let depth = dims.depth as usize;
    let call = Call::new(OP, "forward", weight.device())
        .reads("pixels", pixels, pixels.shape(), dims.pixel_dtype(dtype))?
        .reads("weight", weight, weight.shape(), dtype)?
        .reads("bias", bias, [depth], dtype)?
        .reads("position", position, [dims.grid as usize, 2, depth], dtype)?
        .reads("row", row, [dims.count()], DType::I32)?
        .writes_some("y", y, exactly([y.rows(), depth]), dtype, dims.count() * depth)?
        .begin(|| Work::product(dims.flops()));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, pixels, weight, bias, position, row, y)),
        Device::Gpu(gpu) => {
            let buffers = views([pixels, weight, bias, position, row, &*y]);
            launch(gpu, rung, (OP, ["forward_naive", "forward_tile", "forward_mma"], dtype), dims, &buffers, [dims.count(), depth, 1])?;
        }
    }
    call.end([&*y]);
    Ok(())
}

/// The gradients: `dweight`, `dbias` and `dposition` accumulate, `dpixels [images, H, W, 3]` (real; with respect to pixels
/// of 0 to 255) is overwritten where it is asked for. With a bf16 `weight` and `dy`, all that is written is f32.
///
/// `workspace` has at least [`workspace`] elements; its contents do not matter before or after.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    pixels: &Tensor,
    weight: &Tensor,
    row: &Tensor,
    dy: &Tensor,
    dweight: &mut Tensor,
    dbias: &mut Tensor,
    dposition: &mut Tensor,
    dpixels: Option<&mut Tensor>,
    workspace: &mut Tensor,
) -> Result<()> {
    backward_by(TileRung::Auto, pixels, weight, row, dy, dweight, dbias, dposition, dpixels, workspace)
}

fn backward_by(
    rung: TileRung,
    pixels: &Tensor,
    weight: &Tensor,
    row: &Tensor,
    dy: &Tensor,
    dweight: &mut Tensor,
    dbias: &mut Tensor,
    dposition: &mut Tensor,
    mut dpixels: Option<&mut Tensor>,
    workspace: &mut Tensor,
) -> Result<()> {
    let (dims, dtype) = Dims::new(pixels, weight, dy.rows(), dposition.rows())?;
    let depth = dims.depth as usize;
    let needed = self::workspace(dims.images as usize, dims.height as usize, dims.width as usize, dims.patch as usize, depth);
    let call = Call::new(OP, "backward", weight.device())
        .reads("pixels", pixels, pixels.shape(), dims.pixel_dtype(dtype))?
        .reads("weight", weight, weight.shape(), dtype)?
        .reads("row", row, [dims.count()], DType::I32)?
        .reads_some("dy", dy, exactly([dy.rows(), depth]), dtype, dims.count() * depth)?
        .writes_if("dpixels", dpixels.as_deref(), pixels.shape(), statistic(dtype))?
        .updates("dweight", dweight, weight.shape(), statistic(dtype))?
        .updates("dbias", dbias, [depth], statistic(dtype))?
        .updates("dposition", dposition, [dims.grid as usize, 2, depth], statistic(dtype))?
        .workspace(workspace, needed, statistic(dtype))?
        .begin(|| {
            let work = Work::product(dims.flops() * if dpixels.is_some() { 2 } else { 1 }).of_launch("dpixels", dims.flops());
            ["dweight_finish", "position"].into_iter().fold(work, |work, entry| work.of_launch(entry, 0u64))
        });
    match call.device() {
        Device::Cpu => {
            on_real!(dtype, parameters_cpu::<T>(dims, pixels, row, dy, dweight, dbias, dposition));
            if let Some(dpixels) = dpixels.as_deref_mut() {
                on_real!(dtype, pixels_cpu::<T>(dims, weight, row, dy, dpixels));
            }
        }
        Device::Gpu(gpu) => {
            launch_backward(gpu, rung, dims, dtype, [pixels, weight, row, dy], [dweight, dbias, dposition], dpixels.as_deref(), workspace)?;
        }
    }
    call.end([&*dweight, &*dbias, &*dposition].into_iter().chain(dpixels.as_deref()));
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Normalised pixels, patch by patch.
struct Pixels<'a, T> {
    bytes: &'a [u8],
    reals: &'a [T],
    /// What a byte becomes.
    table: [T; 256],
}

impl<'a, T: Real> Pixels<'a, T> {
    fn new(pixels: &'a Tensor) -> Self {
        let table = std::array::from_fn(|byte| normalise(T::of(byte as f64)));
        match pixels.dtype() {
            DType::U8 => Pixels { bytes: pixels.cpu::<u8>(), reals: &[], table },
            _ => Pixels { bytes: &[], reals: pixels.cpu::<T>(), table },
        }
    }

    /// Patches `first..` as rows of `out`.
    fn unfold(&self, dims: Dims, first: usize, out: &mut [T]) {
        let (line, stride) = (dims.patch as usize * 3, dims.width as usize * 3);
        for (m, out) in out.chunks_exact_mut(dims.inner as usize).enumerate() {
            let origin = dims.origin(first + m);
            for (r, out) in out.chunks_exact_mut(line).enumerate() {
                let from = origin + r * stride;
                if dims.is_u8 != 0 {
                    for (out, &byte) in out.iter_mut().zip(&self.bytes[from..from + line]) {
                        *out = self.table[byte as usize];
                    }
                } else {
                    for (out, &x) in out.iter_mut().zip(&self.reals[from..from + line]) {
                        *out = normalise(x);
                    }
                }
            }
        }
    }
}

/// `(x/255 − 0.5)/0.5`, written so that 0, 127.5 and 255 come out as exactly −1, 0 and 1.
#[inline(always)]
fn normalise<T: Real>(x: T) -> T {
    (x - T::of(127.5)) / T::of(127.5)
}

/// Patches of one task: a function of the shape alone.
fn patches_per_task(dims: Dims) -> usize {
    (32_768 / dims.inner.max(dims.depth) as usize).max(1)
}

/// `row` as a row of a matrix of `rows`, if it is one.
fn checked(row: i32, rows: usize) -> Option<usize> {
    usize::try_from(row).ok().filter(|&row| row < rows)
}

fn forward_cpu<T: Real>(dims: Dims, pixels: &Tensor, weight: &Tensor, bias: &Tensor, position: &Tensor, row: &Tensor, y: &mut Tensor) {
    let (depth, inner, patches, across) = (dims.depth as usize, dims.inner as usize, dims.patches as usize, dims.across as usize);
    let (weight, bias, position, row) = (weight.cpu::<T>(), bias.cpu::<T>(), position.cpu::<T>(), row.cpu::<i32>());
    let pixels = Pixels::<T>::new(pixels);
    // b + position, once for every place in a picture.
    let mut place = vec![T::zero(); patches * depth];
    for (p, place) in place.chunks_exact_mut(depth).enumerate() {
        let (x, y) = (&position[(p % across) * 2 * depth..][..depth], &position[((p / across) * 2 + 1) * depth..][..depth]);
        for (((place, &b), &x), &y) in place.iter_mut().zip(bias).zip(x).zip(y) {
            *place = b + (x + y);
        }
    }
    let per_task = patches_per_task(dims);
    let results: Vec<Vec<T>> = row
        .par_chunks(per_task)
        .enumerate()
        .map(|(task, row)| {
            let mut unfolded = vec![T::zero(); row.len() * inner];
            pixels.unfold(dims, task * per_task, &mut unfolded);
            let mut result = vec![T::zero(); row.len() * depth];
            gemm(row.len(), depth, inner, Mat::rows(&unfolded, inner), Mat::transposed(weight, inner), T::zero(), &mut result, depth);
            result
        })
        .collect();
    // The rows are anywhere in y: written by one thread, which costs less than proving to the compiler that they are distinct.
    let y = y.cpu_mut::<T>();
    let rows = dims.rows as usize;
    for (m, (&row, result)) in row.iter().zip(results.iter().flat_map(|r| r.chunks_exact(depth))).enumerate() {
        if let Some(row) = checked(row, rows) {
            for ((y, &value), &place) in y[row * depth..][..depth].iter_mut().zip(result).zip(&place[(m % patches) * depth..]) {
                *y = value + place;
            }
        }
    }
}

/// Rows of `dy` that these patches became, zero for unused patches.
fn gather<T: Real>(dims: Dims, row: &[i32], dy: &[T]) -> Vec<T> {
    let depth = dims.depth as usize;
    let mut g = vec![T::zero(); row.len() * depth];
    for (g, &row) in g.chunks_exact_mut(depth).zip(row) {
        if let Some(row) = checked(row, dims.rows as usize) {
            g.copy_from_slice(&dy[row * depth..][..depth]);
        }
    }
    g
}

fn add<T: Real>(to: &mut [T], from: &[T]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

fn parameters_cpu<T: Real>(dims: Dims, pixels: &Tensor, row: &Tensor, dy: &Tensor, dweight: &mut Tensor, dbias: &mut Tensor, dposition: &mut Tensor) {
    let (depth, inner, patches, across) = (dims.depth as usize, dims.inner as usize, dims.patches as usize, dims.across as usize);
    let (row, dy) = (row.cpu::<i32>(), dy.cpu::<T>());
    let pixels = Pixels::<T>::new(pixels);
    let per_task = patches_per_task(dims);
    // Each task sums its own patches' share; the shares are added in order afterwards.
    let shares: Vec<(Vec<T>, Vec<T>)> = row
        .par_chunks(per_task)
        .enumerate()
        .map(|(task, row)| {
            let first = task * per_task;
            let mut unfolded = vec![T::zero(); row.len() * inner];
            pixels.unfold(dims, first, &mut unfolded);
            let g = gather(dims, row, dy);
            let mut share = vec![T::zero(); depth * inner];
            gemm(depth, inner, row.len(), Mat::transposed(&g, depth), Mat::rows(&unfolded, inner), T::zero(), &mut share, inner);
            let mut sums = vec![T::zero(); patches.min(row.len()) * depth];
            for (m, g) in g.chunks_exact(depth).enumerate() {
                let slot = m % patches; // counted from the task's first patch
                add(&mut sums[slot * depth..][..depth], g);
            }
            (share, sums)
        })
        .collect();
    let dweight = dweight.cpu_mut::<T>();
    let mut sums = vec![T::zero(); patches * depth];
    for (task, (share, part)) in shares.iter().enumerate() {
        add(dweight, share);
        for (slot, part) in part.chunks_exact(depth).enumerate() {
            let p = (task * per_task + slot) % patches;
            add(&mut sums[p * depth..][..depth], part);
        }
    }
    let (dbias, dposition) = (dbias.cpu_mut::<T>(), dposition.cpu_mut::<T>());
    let mut bias = vec![T::zero(); depth];
    let mut places = vec![T::zero(); 2 * dims.grid as usize * depth];
    for (p, sum) in sums.chunks_exact(depth).enumerate() {
        add(&mut bias, sum);
        add(&mut places[(p % across) * 2 * depth..][..depth], sum);
        add(&mut places[((p / across) * 2 + 1) * depth..][..depth], sum);
    }
    add(dbias, &bias);
    add(dposition, &places);
}

fn pixels_cpu<T: Real>(dims: Dims, weight: &Tensor, row: &Tensor, dy: &Tensor, dpixels: &mut Tensor) {
    let (depth, inner, patches) = (dims.depth as usize, dims.inner as usize, dims.patches as usize);
    let (weight, row, dy) = (weight.cpu::<T>(), row.cpu::<i32>(), dy.cpu::<T>());
    let (line, stride) = (dims.patch as usize * 3, dims.width as usize * 3);
    let picture = dims.height as usize * stride;
    let scale = T::one() / T::of(127.5);
    dpixels.cpu_mut::<T>().par_chunks_mut(picture).zip(row.par_chunks(patches)).for_each(|(dpixels, row)| {
        let g = gather(dims, row, dy);
        let mut unfolded = vec![T::zero(); patches * inner];
        gemm(patches, inner, depth, Mat::rows(&g, depth), Mat::rows(weight, inner), T::zero(), &mut unfolded, inner);
        for (m, patch) in unfolded.chunks_exact(inner).enumerate() {
            for (r, from) in patch.chunks_exact(line).enumerate() {
                let to = dims.origin(m) + r * stride;
                for (to, &from) in dpixels[to..to + line].iter_mut().zip(from) {
                    *to = from * scale;
                }
            }
        }
    });
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch_backward(
    gpu: &Gpu,
    rung: TileRung,
    dims: Dims,
    dtype: DType,
    [pixels, weight, row, dy]: [&Tensor; 4],
    [dweight, dbias, dposition]: [&Tensor; 3],
    dpixels: Option<&Tensor>,
    workspace: &Tensor,
) -> Result<()> {
    let (depth, inner, patches, grid) = (dims.depth as usize, dims.inner as usize, dims.patches as usize, dims.grid as usize);
    let entries = ["dweight_naive", "dweight_tile", "dweight_mma"];
    if rung == TileRung::Naive {
        launch(gpu, rung, (OP, entries, dtype), dims, &views([pixels, row, dy, dweight]), [depth, inner, 1])?;
    } else {
        launch(gpu, rung, (OP, entries, dtype), dims, &views([pixels, row, dy, workspace]), [depth, inner, dims.parts as usize])?;
        launch_each(gpu, (OP, "dweight_finish"), "", dims, &views([workspace, dweight]), depth * inner)?;
    }
    launch_each(gpu, (OP, "position_sums"), variant(dtype), dims, &views([row, dy, workspace]), patches * depth)?;
    launch_each(gpu, (OP, "position_finish"), "", dims, &views([workspace, dbias, dposition]), (2 * grid + 1) * depth)?;
    if let Some(dpixels) = dpixels {
        let entries = ["dpixels_naive", "dpixels_tile", "dpixels_mma"];
        launch(gpu, rung, (OP, entries, dtype), dims, &views([weight, row, dy, dpixels]), [dims.count(), inner, 1])?;
    }
    Ok(())
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// (images, height, width, patch, D, spare rows of the token matrix)
#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize, usize, usize, usize)] = &[
    (0, 8, 8, 4, 8, 3), (1, 1, 1, 1, 1, 0), (1, 2, 3, 1, 5, 1), (1, 4, 4, 4, 7, 0), (2, 8, 4, 4, 16, 5), (3, 6, 10, 2, 31, 2),
    (1, 16, 16, 8, 33, 9), (2, 14, 7, 7, 63, 0), (1, 48, 48, 8, 65, 4), (5, 9, 9, 3, 64, 17), (1, 33, 1, 1, 96, 1), (65, 2, 2, 2, 9, 1),
    (2, 24, 12, 12, 17, 3), (1, 13, 13, 13, 8, 1), (7, 5, 15, 5, 24, 6), (1, 64, 3, 1, 3, 2), (11, 10, 10, 5, 12, 1),
];

/// Draws the operands of a case: pixels, and rows that are distinct, out of order, and in part unused.
fn draw(draw: &mut Draw, shape: (usize, usize, usize, usize, usize, usize), is_u8: bool, exact: bool) -> ([Operand; 2], usize, usize) {
    let (images, height, width, patch, _, spare) = shape;
    let count = images * (height / patch) * (width / patch);
    let pixels = (0..images * height * width * 3)
        .map(|_| match (exact, is_u8) {
            (true, true) => 255.0 * draw.below(2) as f64,
            (true, false) => 127.5 * draw.below(3) as f64,
            (false, true) => draw.below(256) as f64,
            (false, false) => 255.0 * draw.uniform(),
        })
        .collect();
    let pixels = Operand::new("pixels", [images, height, width, 3], if is_u8 { Kind::U8 } else { Kind::Real }, pixels);
    let rows = count + spare;
    let mut free: Vec<i32> = (0..rows as i32).collect();
    let row = Operand::ints(
        "row",
        [count],
        (0..count).map(|_| {
            let row = free.swap_remove(draw.below(free.len()));
            if draw.below(8) == 0 { -1 } else { row }
        }),
    );
    ([pixels, row], rows, (height / patch).max(width / patch))
}

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let listed = SHAPES.iter().flat_map(|&shape| (0..4).flat_map(move |variant| shape_cases(shape, variant, true)));
    listed.chain(sized(&Sizes::DEMO)).collect()
}

/// The cases at a model's sizes; the gradient of the pixels is for saliency and not part of training.
pub fn sized(s: &Sizes) -> Vec<Case> {
    shape_cases((s.samples, s.image, s.image, s.patch, s.width, s.rows - s.samples * (s.image / s.patch).pow(2)), 0, false)
}

/// Every rung on one shape: bytes or reals as pixels, normals or small integers as everything else, by `variant` of 0..4.
fn shape_cases(shape: (usize, usize, usize, usize, usize, usize), variant: usize, with_dpixels: bool) -> Vec<Case> {
    let (images, height, width, patch, depth, _) = shape;
    let inner = patch * patch * 3;
    let flops = 2 * (images * height * width * 3 * depth) as u64;
    let (is_u8, exact) = (variant.is_multiple_of(2), variant / 2 == 1);
    let mut cases = Vec::new();
    let label = format!("images={images} {height}x{width} P={patch} D={depth} {}{}", if is_u8 { "u8" } else { "real" }, if exact { " integers" } else { "" });
    let mut d = Draw::new(&label);
    let ([pixels, row], rows, grid) = draw(&mut d, shape, is_u8, exact);
    let grid = grid + variant % 2; // a table may be larger than the picture
    let written = row.values.iter().filter(|&&row| row >= 0.0).count() * depth;
    let values = |d: &mut Draw, name, shape: &[usize], deviation| if exact { d.integers(name, shape, 3) } else { d.normals(name, shape, deviation) };
    let weight = values(&mut d, "weight", &[depth, inner], 0.1).mixed();
    let bias = values(&mut d, "bias", &[depth], 0.1).mixed();
    let position = values(&mut d, "position", &[grid, 2, depth], 0.1).mixed();
    let before = values(&mut d, "y", &[rows, depth], 1.0).mixed();
    let dy = values(&mut d, "dy", &[rows, depth], 1.0).mixed();
    let gradients = [
        Output::updated(values(&mut d, "dweight", &[depth, inner], 1.0)),
        Output::updated(values(&mut d, "dbias", &[depth], 1.0)),
        Output::updated(values(&mut d, "dposition", &[grid, 2, depth], 1.0)),
    ];
    let compare = if exact { Compare::Exact } else { Compare::Reduction(2.0) };
    for (entry, rung) in FORWARD {
        let inputs = vec![pixels.clone(), weight.clone(), bias.clone(), position.clone(), row.clone()];
        let mut case = Case::new(entry, &label, inputs, vec![Output::partial(before.clone(), written)], compare, move |i, o| {
            forward_by(rung, &i[0], &i[1], &i[2], &i[3], &i[4], &mut o[0])
        })
        .naive(|i, o| {
            on_real!(i[1].dtype(), naive_forward::<T>(|x| x, i, o));
            Ok(())
        })
        .naive_mixed(move |i, o| {
            naive_forward::<f32>(|x| if is_u8 { x } else { half::bf16::from_f32(x).to_f32() }, i, o);
            Ok(())
        });
        only_where_there_is(rung, &mut case);
        cases.push(case.flops(flops));
    }
    for (entry, rung) in BACKWARD {
        let with_dpixels = with_dpixels && !exact; // 1/127.5 is not an integer
        let inputs = vec![pixels.clone(), weight.clone(), row.clone(), dy.clone()];
        let mut outputs = gradients.to_vec();
        outputs.push(Output::scratch(workspace(images, height, width, patch, depth)));
        if with_dpixels {
            outputs.push(Output::overwritten("dpixels", [images, height, width, 3], Kind::Real));
        }
        let mut case = Case::new(entry, &label, inputs, outputs, compare, move |i, o| {
            let [dweight, dbias, dposition, workspace, dpixels @ ..] = o else { unreachable!("four outputs at least") };
            backward_by(rung, &i[0], &i[1], &i[2], &i[3], dweight, dbias, dposition, dpixels.first_mut(), workspace)
        })
        .naive(|i, o| {
            on_real!(i[1].dtype(), naive_backward::<T>(|x| x, i, o));
            Ok(())
        })
        .naive_mixed(move |i, o| {
            naive_backward::<f32>(|x| if is_u8 { x } else { half::bf16::from_f32(x).to_f32() }, i, o);
            Ok(())
        });
        only_where_there_is(rung, &mut case);
        cases.push(case.flops(flops));
    }
    cases
}

/// `f(m, k, x)` for every number of every patch, straight from the definition.
fn each_pixel<T: Real>(pixels: &Tensor, patch: usize, mut f: impl FnMut(usize, usize, usize, T)) {
    let (height, width) = (pixels.dim(1), pixels.dim(2));
    let (down, across) = (height / patch, width / patch);
    let values: Vec<T> = match pixels.dtype() {
        DType::U8 => pixels.cpu::<u8>().iter().map(|&b| T::of(b as f64)).collect(),
        _ => pixels.cpu::<T>().to_vec(),
    };
    let half = T::of(0.5);
    for (index, &value) in values.iter().enumerate() {
        let (channel, column, line, image) = (index % 3, index / 3 % width, index / 3 / width % height, index / 3 / width / height);
        let m = (image * down + line / patch) * across + column / patch;
        let k = (line % patch * patch + column % patch) * 3 + channel;
        f(m, k, index, (value / T::of(255.0) - half) / half);
    }
}

/// `round` is what happens to a normalised pixel: bf16 on tensor cores, unless it came from a byte.
#[allow(clippy::needless_range_loop)] // as the formula is written
fn naive_forward<T: Real>(round: impl Fn(T) -> T, inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (weight, bias, position, row) = (inputs[1].cpu::<T>(), inputs[2].cpu::<T>(), inputs[3].cpu::<T>(), inputs[4].cpu::<i32>());
    let (depth, inner) = (bias.len(), inputs[1].row_len());
    let patch = (inner / 3).isqrt();
    let (down, across) = (inputs[0].dim(1) / patch, inputs[0].dim(2) / patch);
    let mut x = vec![T::zero(); row.len() * inner];
    each_pixel::<T>(&inputs[0], patch, |m, k, _, value| x[m * inner + k] = round(value));
    let y = outputs[0].cpu_mut::<T>();
    for (m, &row) in row.iter().enumerate().filter(|(_, row)| **row >= 0) {
        for n in 0..depth {
            let product = super::sum((0..inner).map(|k| x[m * inner + k] * weight[n * inner + k]));
            let (px, py) = (m % across, m / across % down);
            y[row as usize * depth + n] = product + bias[n] + position[px * 2 * depth + n] + position[(py * 2 + 1) * depth + n];
        }
    }
}

#[allow(clippy::needless_range_loop)]
fn naive_backward<T: Real>(round: impl Fn(T) -> T, inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (weight, row, dy) = (inputs[1].cpu::<T>(), inputs[2].cpu::<i32>(), inputs[3].cpu::<T>());
    let (depth, inner) = (inputs[1].rows(), inputs[1].row_len());
    let patch = (inner / 3).isqrt();
    let (down, across) = (inputs[0].dim(1) / patch, inputs[0].dim(2) / patch);
    let [dweight, dbias, dposition, _, dpixels @ ..] = outputs else { unreachable!("four outputs at least") };
    let (dbias, dposition) = (dbias.cpu_mut::<T>(), dposition.cpu_mut::<T>());
    for (m, &row) in row.iter().enumerate().filter(|(_, row)| **row >= 0) {
        for n in 0..depth {
            let g = dy[row as usize * depth + n];
            dbias[n] += g;
            dposition[m % across * 2 * depth + n] += g;
            dposition[(m / across % down * 2 + 1) * depth + n] += g;
        }
    }
    let dweight = dweight.cpu_mut::<T>();
    let mut dpixels = dpixels.first_mut().map(|d| d.cpu_mut::<T>());
    each_pixel::<T>(&inputs[0], patch, |m, k, index, x| {
        let mut total = T::zero();
        if row[m] >= 0 {
            for n in 0..depth {
                let g = dy[row[m] as usize * depth + n];
                dweight[n * inner + k] += g * round(x);
                total += g * weight[n * inner + k];
            }
        }
        if let Some(dpixels) = &mut dpixels {
            dpixels[index] = total / T::of(127.5);
        }
    });
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 2, 2, 1, 3, 0), (2, 4, 6, 2, 5, 3), (1, 3, 3, 3, 4, 1)]
        .into_iter()
        .map(|shape| {
            let (images, height, width, patch, depth, _) = shape;
            let label = format!("images={images} {height}x{width} P={patch} D={depth}");
            let mut d = Draw::new(&label);
            let ([pixels, row], rows, grid) = draw(&mut d, shape, false, false);
            let weight = d.normals("weight", [depth, patch * patch * 3], 1.0);
            let inputs = vec![pixels, weight, d.normals("bias", [depth], 1.0), d.normals("position", [grid, 2, depth], 1.0), row];
            GradientCase {
                label,
                inputs,
                wrt: vec![0, 1, 2, 3],
                forward: Box::new(move |i| {
                    let mut y = Tensor::zeros(i[1].device(), [rows, depth], i[1].dtype())?;
                    forward(&i[0], &i[1], &i[2], &i[3], &i[4], &mut y)?;
                    Ok(vec![y])
                }),
                backward: Box::new(move |i, d| {
                    let [mut dpixels, mut dweight, mut dbias, mut dposition] = super::zeros_like([&i[0], &i[1], &i[2], &i[3]])?;
                    let mut scratch = Tensor::zeros(d[0].device(), [workspace(images, height, width, patch, depth)], d[0].dtype())?;
                    backward(&i[0], &i[1], &i[4], &d[0], &mut dweight, &mut dbias, &mut dposition, Some(&mut dpixels), &mut scratch)?;
                    Ok(vec![dpixels, dweight, dbias, dposition])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case() {
        crate::check::assert_op(OP);
    }

    #[test]
    fn drawn_shapes() {
        let shapes = (0..4usize, 1..6usize, 1..6usize, 1..7usize, 1..80usize, 0..20usize, 0..4usize);
        crate::check::assert_drawn(24, shapes, |(images, down, across, patch, depth, spare, variant)| {
            shape_cases((images, down * patch, across * patch, patch, depth, spare), variant, true)
        });
    }

    #[test]
    fn a_picture_that_is_no_whole_number_of_patches_is_refused() {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(&Device::Cpu, shape, dtype).unwrap();
        let mut y = zeros(&[1, 4], DType::F32);
        let (weight, bias, position) = (zeros(&[4, 12], DType::F32), zeros(&[4], DType::F32), zeros(&[2, 2, 4], DType::F32));
        let error = forward(&zeros(&[1, 4, 5, 3], DType::U8), &weight, &bias, &position, &zeros(&[4], DType::I32), &mut y).unwrap_err();
        assert_eq!(error.to_string(), "patch_embed: pixels: expected height and width that are multiples of the patch size 2, found [1, 4, 5, 3]");
    }
}
