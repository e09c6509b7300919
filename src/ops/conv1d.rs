//! One-dimensional convolution over frames with GELU: the stem over a spectrogram.
//!
//! `z[c, t] = b + Σ_tap W[:, :, tap] · x[c, t·stride + tap − 1]` with 3 taps and one frame of zeros on either side, and
//! `y = gelu(z) = z · (1 + erf(z/√2)) / 2` (Whisper's stem; Hendrycks and Gimpel 2016, arXiv 1606.08415, the exact form).
//!
//! Backward: `dz = dy · gelu'(z)` with `gelu'(z) = (1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π)`, then
//! `dW = Σ_{c,t} dz[c, t]ᵀ x[c, t·stride + tap − 1]`, `db = Σ_{c,t} dz[c, t]` and
//! `dx[c, u] = Σ_tap W[:, :, tap]ᵀ · dz[c, (u + 1 − tap)/stride]`, over the taps for which that is a frame.
//!
//! Frames are rows (`[clips, frames, channels]`), so three neighbouring frames are one contiguous row of a GEMM's operand
//! whose rows overlap: nothing is unfolded, neither on a GPU nor on the CPU.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::gelu::{add_rows, deactivate, gelu};
use super::ladder::{BACKWARD, FORWARD, TileRung, launch, launch_each, on_tensor_cores, only_where_there_is};
use super::{Call, Op, Pass, Sizes, activation, exactly, on_real, size, statistic, views};
use crate::device::cpu::{Mat, Real, gemm};
use crate::device::{Device, Gpu, Language, Launch, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;

const OP: &str = "conv1d";
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
    DimsField::formula("frames_out", "ceil_div(frames, stride)"),
    DimsField::option("stride", "1 or 2"),
    DimsField::choice(
        "parts",
        "1 or more: as many ranges are summed apart, each into its part of the workspace",
        "min(max(ceil_div(clips * frames_out, 128), 1), 32)",
    ),
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    clips: u32,
    frames: u32,
    frames_out: u32,
    width_in: u32,
    width_out: u32,
    stride: u32,
    parts: u32,
    padding: u32,
}

impl Dims {
    fn new(x: &Tensor, weight: &Tensor, stride: usize) -> Result<(Self, DType)> {
        let dtype = activation(OP, "x", x)?;
        let [clips, frames, width_in] = x.shape().dims()[..] else {
            return Err(Error::mismatch(OP, "x", "[clips, frames, channels]", x.shape()));
        };
        let width_out = weight.rows();
        if stride != 1 && stride != 2 {
            return Err(Error::mismatch(OP, "stride", "1 or 2", stride));
        }
        if width_in == 0 || width_out == 0 {
            return Err(Error::mismatch(OP, "weight", "[out, in, 3] with channels on both sides", weight.shape()));
        }
        let frames_out = frames_out(frames, stride);
        let product = |sizes: [usize; 3]| sizes.iter().fold(1, |product: usize, &size| product.saturating_mul(size));
        size(OP, "clips · frames · in", product([clips, frames, width_in]))?;
        size(OP, "clips · (frames + 3)", product([clips, frames.saturating_add(3), 1]))?;
        size(OP, "clips · frames' · out", product([clips, frames_out, width_out]))?;
        let dims = Dims {
            clips: size(OP, "clips", clips)?,
            frames: size(OP, "frames", frames)?,
            frames_out: size(OP, "frames'", frames_out)?,
            width_in: size(OP, "in", width_in)?,
            width_out: size(OP, "out", width_out)?,
            stride: stride as u32,
            parts: parts(clips * frames_out) as u32,
            padding: 0,
        };
        Ok((dims, dtype))
    }

    fn shape_out(&self) -> [usize; 3] {
        [self.clips as usize, self.frames_out as usize, self.width_out as usize]
    }

    fn shape_weight(&self) -> [usize; 3] {
        [self.width_out as usize, self.width_in as usize, 3]
    }

    /// Floating-point operations of one of its products.
    fn flops(&self) -> u64 {
        product_flops(self.shape_out(), self.width_in as usize)
    }

    /// Rows of all clips as the kernels for tensor cores number them, for a gather from `x` and for one from `dz`.
    fn lines(&self) -> [usize; 2] {
        let clips = if self.frames == 0 { 0 } else { self.clips as usize };
        [clips * (self.frames as usize + 2).div_ceil(self.stride as usize), clips * (self.frames_out as usize + 1)]
    }
}

/// Floating-point operations of one product with an output of `[clips, frames, channels]`.
fn product_flops(out: [usize; 3], width_in: usize) -> u64 {
    2 * 3 * out.iter().map(|&n| n as u64).product::<u64>() * width_in as u64
}

/// Frames that come out of `frames`: `(frames − 1)/stride + 1`, and none from none.
pub fn frames_out(frames: usize, stride: usize) -> usize {
    frames.div_ceil(stride.max(1))
}

/// Ranges of output frames over which a GPU sums `dW` and `db` separately.
fn parts(rows: usize) -> usize {
    rows.div_ceil(128).clamp(1, 32)
}

/// Elements of workspace that [`backward`] needs for `clips` of `frames` frames with `width_in` channels in and `width_out` out.
pub fn workspace(clips: usize, frames: usize, width_in: usize, width_out: usize, stride: usize) -> usize {
    let taps = width_in.saturating_mul(3).saturating_add(1);
    parts(clips.saturating_mul(frames_out(frames, stride))).saturating_mul(width_out).saturating_mul(taps)
}

/// `z = conv(x)`, `y = gelu(z)`; both are overwritten, and [`backward`] needs `z`.
///
/// Shapes: `x [C, F, in]`, `weight [out, in, 3]`, `bias [out]`, `z` and `y` `[C, F', out]` with F' = [`frames_out`]; `stride`
/// 1 or 2; dtype f32 (f64 on the CPU, or bf16 with f32 sums where the device has it).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::conv1d;
///
/// let x = Tensor::from_slice(&Device::Cpu, [1, 3, 1], &[1f32, 2.0, 3.0])?; // [C, F, in]
/// let weight = Tensor::from_slice(&Device::Cpu, [1, 1, 3], &[1f32; 3])?; // [out, in, 3]
/// let bias = Tensor::zeros(&Device::Cpu, [1], DType::F32)?;
/// let [mut z, mut y] = [(); 2].map(|_| Tensor::zeros(&Device::Cpu, [1, conv1d::frames_out(3, 2), 1], DType::F32).unwrap());
/// conv1d::forward(&x, &weight, &bias, 2, &mut z, &mut y)?;
/// assert_eq!(z.read::<f32>()?, [1.0 + 2.0, 2.0 + 3.0]); // a frame of zeros on either side
/// assert!((y.read::<f32>()?[0] - 2.99595).abs() < 1e-5); // gelu(3)
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype, device or the stride does not fit.
pub fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize, z: &mut Tensor, y: &mut Tensor) -> Result<()> {
    forward_by(TileRung::Auto, x, weight, bias, stride, z, y)
}

fn forward_by(rung: TileRung, x: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize, z: &mut Tensor, y: &mut Tensor) -> Result<()> {
    let (dims, dtype) = Dims::new(x, weight, stride)?;
    let call = Call::new(OP, "forward", x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads("weight", weight, exactly(dims.shape_weight()), dtype)?
        .reads("bias", bias, [dims.width_out as usize], dtype)?
        .writes("z", z, dims.shape_out(), dtype)?
        .writes("y", y, dims.shape_out(), dtype)?
        .begin(|| Work::product(dims.flops()));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, x, weight, bias, z, y)),
        Device::Gpu(gpu) => {
            let [clips, frames, width] = dims.shape_out();
            let buffers = views([x, weight, bias, &*z, &*y]);
            let rows = if on_tensor_cores(gpu, rung, dtype) { dims.lines()[0] } else { clips * frames };
            launch(gpu, rung, (OP, ["forward_naive", "forward_tile", "forward_mma"], dtype), dims, &buffers, [rows, width, 1])?;
        }
    }
    call.end([&*z, &*y]);
    Ok(())
}

/// The gradients: `dweight` and `dbias` accumulate, `dx` is overwritten where it is asked for.
///
/// `z` is what forward wrote, `dz [C, F', out]` is overwritten with the gradient of `z` on the way. `workspace` has at least
/// [`workspace`] elements; its contents do not matter before or after. With bf16 activations `dweight`, `dbias` and `workspace`
/// are f32.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    x: &Tensor,
    weight: &Tensor,
    z: &Tensor,
    dy: &Tensor,
    stride: usize,
    dz: &mut Tensor,
    dx: Option<&mut Tensor>,
    dweight: &mut Tensor,
    dbias: &mut Tensor,
    workspace: &mut Tensor,
) -> Result<()> {
    backward_by(TileRung::Auto, x, weight, z, dy, stride, dz, dx, dweight, dbias, workspace)
}

fn backward_by(
    rung: TileRung,
    x: &Tensor,
    weight: &Tensor,
    z: &Tensor,
    dy: &Tensor,
    stride: usize,
    dz: &mut Tensor,
    mut dx: Option<&mut Tensor>,
    dweight: &mut Tensor,
    dbias: &mut Tensor,
    workspace: &mut Tensor,
) -> Result<()> {
    let (dims, dtype) = Dims::new(x, weight, stride)?;
    let needed = self::workspace(dims.clips as usize, dims.frames as usize, dims.width_in as usize, dims.width_out as usize, stride);
    let call = Call::new(OP, "backward", x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads("weight", weight, exactly(dims.shape_weight()), dtype)?
        .reads("z", z, dims.shape_out(), dtype)?
        .reads("dy", dy, dims.shape_out(), dtype)?
        .writes("dz", dz, dims.shape_out(), dtype)?
        .writes_if("dx", dx.as_deref(), x.shape(), dtype)?
        .updates("dweight", dweight, weight.shape(), statistic(dtype))?
        .updates("dbias", dbias, [dims.width_out as usize], statistic(dtype))?
        .workspace(workspace, needed, statistic(dtype))?
        .begin(|| {
            let work = Work::product(dims.flops() * if dx.is_some() { 2 } else { 1 }).of_launch("dx", dims.flops());
            ["gelu_backward", "dweight_finish", "dbias"].into_iter().fold(work, |work, entry| work.of_launch(entry, 0u64))
        });
    match call.device() {
        Device::Cpu => on_real!(dtype, backward_cpu::<T>(dims, x, weight, z, dy, dz, dx.as_deref_mut(), dweight, dbias)),
        Device::Gpu(gpu) => launch_backward(gpu, rung, dims, dtype, [x, weight, z, dy], dz, dx.as_deref(), dweight, dbias, workspace)?,
    }
    call.end([&*dz, &*dweight, &*dbias].into_iter().chain(dx.as_deref()));
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A few clips laid out so that one GEMM convolves them all: `pitch` rows per clip, of which the first is the frame of
/// zeros. Output row `r` of the GEMM reads rows `r·stride .. r·stride + 3`; rows between two clips come out as garbage
/// (forward) or are zero (`dz`), and are skipped.
#[derive(Clone, Copy)]
struct ClipLayout {
    dims: Dims,
    /// Padded frames per clip: a multiple of the stride.
    pitch: usize,
    /// GEMM rows per clip: pitch / stride.
    lines: usize,
    /// Clips of one task: a function of the shape alone.
    clips: usize,
}

impl ClipLayout {
    fn new(dims: Dims) -> Self {
        let stride = dims.stride as usize;
        let pitch = (dims.frames as usize + 2).next_multiple_of(stride);
        let widest = dims.width_in.max(dims.width_out) as usize;
        ClipLayout { dims, pitch, lines: pitch / stride, clips: (16_384 / (pitch * widest)).max(1) }
    }

    /// The clips' frames with zeros between them, and two rows more for the last output row to read.
    fn pad<T: Real>(&self, x: &[T]) -> Vec<T> {
        let width = self.dims.width_in as usize;
        let clip = self.dims.frames as usize * width;
        let clips = x.len() / clip.max(1);
        let mut padded = vec![T::zero(); (clips * self.pitch + 2) * width];
        for (x, to) in x.chunks_exact(clip).zip(padded.chunks_exact_mut(self.pitch * width)) {
            to[width..width + clip].copy_from_slice(x);
        }
        padded
    }

    /// `dz` with one row of zeros in front and zeros between the clips: row 1 + c·lines + t is frame t of clip c.
    fn spread<T: Real>(&self, dz: &[T]) -> Vec<T> {
        let width = self.dims.width_out as usize;
        let clip = self.dims.frames_out as usize * width;
        let clips = dz.len() / clip.max(1);
        let mut spread = vec![T::zero(); (clips * self.lines + 2) * width];
        for (dz, to) in dz.chunks_exact(clip).zip(spread[width..].chunks_exact_mut(self.lines * width)) {
            to[..clip].copy_from_slice(dz);
        }
        spread
    }
}

/// The weight as `[3, in, out]`: taps outermost, as frames are in memory.
fn by_tap<T: Real>(weight: &[T], width_in: usize, width_out: usize) -> Vec<T> {
    let mut taps = vec![T::zero(); weight.len()];
    for (o, weight) in weight.chunks_exact(3 * width_in).enumerate() {
        for (i, weight) in weight.chunks_exact(3).enumerate() {
            for (tap, &w) in weight.iter().enumerate() {
                taps[(tap * width_in + i) * width_out + o] = w;
            }
        }
    }
    taps
}

fn forward_cpu<T: Real>(dims: Dims, x: &Tensor, weight: &Tensor, bias: &Tensor, z: &mut Tensor, y: &mut Tensor) {
    if z.is_empty() {
        return;
    }
    let layout = ClipLayout::new(dims);
    let (width_in, width_out) = (dims.width_in as usize, dims.width_out as usize);
    let taps = by_tap(weight.cpu::<T>(), width_in, width_out);
    let (bias, chunk_in) = (bias.cpu::<T>(), layout.clips * dims.frames as usize * width_in);
    let clip_out = dims.frames_out as usize * width_out;
    let out = z.cpu_mut::<T>().par_chunks_mut(layout.clips * clip_out).zip(y.cpu_mut::<T>().par_chunks_mut(layout.clips * clip_out));
    x.cpu::<T>().par_chunks(chunk_in).zip(out).for_each(|(x, (z, y))| {
        let padded = layout.pad(x);
        let lines = z.len() / clip_out * layout.lines;
        let a = Mat { data: &padded, row_stride: dims.stride as usize * width_in, col_stride: 1 };
        let mut product = vec![T::zero(); lines * width_out];
        gemm(lines, width_out, 3 * width_in, a, Mat::rows(&taps, width_out), T::zero(), &mut product, width_out);
        for ((product, z), y) in product.chunks_exact(layout.lines * width_out).zip(z.chunks_exact_mut(clip_out)).zip(y.chunks_exact_mut(clip_out)) {
            activate(product, bias, z, y);
        }
    });
}

/// `z = product + bias`, `y = gelu(z)`, for the rows that `z` has.
#[multiversion(targets = "simd")]
fn activate<T: Real>(product: &[T], bias: &[T], z: &mut [T], y: &mut [T]) {
    let width = bias.len();
    for ((product, z), y) in product.chunks_exact(width).zip(z.chunks_exact_mut(width)).zip(y.chunks_exact_mut(width)) {
        for (((&product, &bias), z), y) in product.iter().zip(bias).zip(z.iter_mut()).zip(y.iter_mut()) {
            let value = product + bias;
            *z = value;
            *y = gelu(value);
        }
    }
}

fn backward_cpu<T: Real>(
    dims: Dims,
    x: &Tensor,
    weight: &Tensor,
    z: &Tensor,
    dy: &Tensor,
    dz: &mut Tensor,
    dx: Option<&mut Tensor>,
    dweight: &mut Tensor,
    dbias: &mut Tensor,
) {
    if z.is_empty() {
        return;
    }
    let layout = ClipLayout::new(dims);
    let (width_in, width_out) = (dims.width_in as usize, dims.width_out as usize);
    let (chunk_in, chunk_out) = (layout.clips * dims.frames as usize * width_in, layout.clips * dims.frames_out as usize * width_out);
    // [3, out, in], the last tap first: what dx is a convolution of dz with.
    let flipped = dx.is_some().then(|| {
        let mut flipped = vec![T::zero(); weight.len()];
        for (o, weight) in weight.cpu::<T>().chunks_exact(3 * width_in).enumerate() {
            for (i, weight) in weight.chunks_exact(3).enumerate() {
                for (tap, &w) in weight.iter().enumerate() {
                    flipped[((2 - tap) * width_out + o) * width_in + i] = w;
                }
            }
        }
        flipped
    });
    let mut nothing = Vec::new();
    let dx: Vec<Option<&mut [T]>> = match dx {
        Some(dx) => dx.cpu_mut::<T>().chunks_mut(chunk_in).map(Some).collect(),
        None => {
            nothing.resize_with((dims.clips as usize).div_ceil(layout.clips), || None);
            nothing
        }
    };
    let given = x.cpu::<T>().par_chunks(chunk_in).zip(z.cpu::<T>().par_chunks(chunk_out)).zip(dy.cpu::<T>().par_chunks(chunk_out));
    let made = dz.cpu_mut::<T>().par_chunks_mut(chunk_out).zip(dx.into_par_iter());
    // Each task sums its own clips' share; the shares are added in order afterwards.
    let shares: Vec<(Vec<T>, Vec<T>)> = given
        .zip(made)
        .map(|(((x, z), dy), (dz, dx))| {
            deactivate(z, dy, dz);
            let mut bias = vec![T::zero(); width_out];
            add_rows(dz, &mut bias);
            let (padded, spread) = (layout.pad(x), layout.spread(dz));
            let lines = spread.len() / width_out - 2;
            // dW as [3·in, out] = columns(x)ᵀ · dz
            let columns = Mat { data: &padded, row_stride: 1, col_stride: dims.stride as usize * width_in };
            let mut share = vec![T::zero(); weight.len()];
            gemm(3 * width_in, width_out, lines, columns, Mat::rows(&spread[width_out..], width_out), T::zero(), &mut share, width_out);
            if let (Some(dx), Some(flipped)) = (dx, &flipped) {
                input_gradient(layout, &spread, flipped, dx);
            }
            (share, bias)
        })
        .collect();
    let (dweight, dbias) = (dweight.cpu_mut::<T>(), dbias.cpu_mut::<T>());
    let mut total = vec![T::zero(); dweight.len()];
    for (share, bias) in &shares {
        add_rows(share, &mut total);
        add_rows(bias, dbias);
    }
    for (o, dweight) in dweight.chunks_exact_mut(3 * width_in).enumerate() {
        for (i, dweight) in dweight.chunks_exact_mut(3).enumerate() {
            for (tap, dw) in dweight.iter_mut().enumerate() {
                *dw += total[(tap * width_in + i) * width_out + o];
            }
        }
    }
}

/// `dx` of a task's clips. With stride 1 frame u is rows u−1, u, u+1 of dz times the flipped taps; with stride 2 an even
/// frame is row u/2 times the middle tap and an odd one rows (u−1)/2 and (u+1)/2 times the outer two.
fn input_gradient<T: Real>(layout: ClipLayout, spread: &[T], flipped: &[T], dx: &mut [T]) {
    let dims = layout.dims;
    let (width_in, width_out, frames) = (dims.width_in as usize, dims.width_out as usize, dims.frames as usize);
    let tap = width_out * width_in;
    for (clip, dx) in dx.chunks_exact_mut(frames * width_in).enumerate() {
        let from = &spread[clip * layout.lines * width_out..];
        if dims.stride == 1 {
            gemm(frames, width_in, 3 * width_out, Mat::rows(from, width_out), Mat::rows(flipped, width_in), T::zero(), dx, width_in);
            continue;
        }
        let here = &from[width_out..];
        gemm(frames.div_ceil(2), width_in, width_out, Mat::rows(here, width_out), Mat::rows(&flipped[tap..], width_in), T::zero(), dx, 2 * width_in);
        if frames > 1 {
            // Two taps that are not neighbours: dz[t] meets tap 2, dz[t + 1] tap 0.
            let odd = &mut dx[width_in..];
            gemm(frames / 2, width_in, width_out, Mat::rows(here, width_out), Mat::rows(flipped, width_in), T::zero(), odd, 2 * width_in);
            gemm(
                frames / 2,
                width_in,
                width_out,
                Mat::rows(&here[width_out..], width_out),
                Mat::rows(&flipped[2 * tap..], width_in),
                T::one(),
                odd,
                2 * width_in,
            );
        }
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch_backward(
    gpu: &Gpu,
    rung: TileRung,
    dims: Dims,
    dtype: DType,
    [x, weight, z, dy]: [&Tensor; 4],
    dz: &Tensor,
    dx: Option<&Tensor>,
    dweight: &Tensor,
    dbias: &Tensor,
    workspace: &Tensor,
) -> Result<()> {
    let (out, width, parts) = (dims.width_out as usize, dims.width_in as usize, dims.parts as usize);
    let tensor_cores = on_tensor_cores(gpu, rung, dtype);
    let per_group = match gpu.language() {
        Language::Wgsl => 256,
        Language::Ptx => 256 * 16 / dtype.size(), // 16 bytes per thread
    };
    gpu.launch(Launch {
        kernel: (OP, "gelu_backward"),
        constants: &[],
        variant: variant(dtype),
        buffers: &views([z, dy, dz]),
        dims: bytes_of(&dims),
        groups: dz.len().div_ceil(per_group),
    })?;
    let entries = ["dweight_naive", "dweight_tile", "dweight_mma"];
    if rung == TileRung::Naive {
        launch(gpu, rung, (OP, entries, dtype), dims, &views([x, dz, dweight]), [out, 3 * width, 1])?;
    } else {
        // On tensor cores a group has all taps of its channels.
        let columns = if tensor_cores { width } else { 3 * width };
        launch(gpu, rung, (OP, entries, dtype), dims, &views([x, dz, workspace]), [out, columns, parts])?;
        launch_each(gpu, (OP, "dweight_finish"), "", dims, &views([workspace, dweight]), out * 3 * width)?;
    }
    launch_each(gpu, (OP, "dbias_partial"), variant(dtype), dims, &views([dz, workspace]), parts * out)?;
    launch_each(gpu, (OP, "dbias_finish"), "", dims, &views([workspace, dbias]), out)?;
    if let Some(dx) = dx {
        let rows = if tensor_cores { dims.lines()[1] } else { dims.clips as usize * dims.frames as usize };
        launch(gpu, rung, (OP, ["dx_naive", "dx_tile", "dx_mma"], dtype), dims, &views([weight, dz, dx]), [rows, width, 1])?;
    }
    Ok(())
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// (clips, frames, in, out)
#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize, usize)] = &[
    (0, 5, 4, 3), (1, 0, 2, 3), (1, 1, 1, 1), (2, 1, 3, 2), (1, 2, 4, 4), (3, 3, 5, 7), (2, 4, 8, 16), (1, 31, 7, 5), (1, 33, 2, 33), (2, 16, 31, 8),
    (1, 64, 3, 65), (5, 7, 33, 31), (1, 7, 64, 63), (130, 2, 3, 4), (2, 13, 40, 32), (1, 129, 1, 9), (3, 25, 17, 19), (65, 1, 2, 3),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let listed = SHAPES.iter().flat_map(|&(c, f, i, o)| [1, 2].map(|s| (c, f, i, o, s)));
    let listed = listed.flat_map(|shape| [false, true].into_iter().flat_map(move |exact| shape_cases(shape, exact, true)));
    listed.chain(sized(&Sizes::DEMO)).collect()
}

/// The cases at a model's sizes: the convolutions of its stem. The first one's input is not an activation and has no gradient.
pub fn sized(s: &Sizes) -> Vec<Case> {
    s.stem().into_iter().enumerate().flat_map(|(layer, shape)| shape_cases(shape, false, layer > 0)).collect()
}

/// Every rung on one shape (clips, frames, in, out, stride), with normals or with small integers.
fn shape_cases(shape: (usize, usize, usize, usize, usize), exact: bool, with_dx: bool) -> Vec<Case> {
    let (clips, frames, width_in, width_out, stride) = shape;
    let out = [clips, frames_out(frames, stride), width_out];
    let flops = product_flops(out, width_in);
    let mut cases = Vec::new();
    let label = format!("clips={clips} frames={frames} in={width_in} out={width_out} stride={stride}{}", if exact { " integers" } else { "" });
    let mut d = Draw::new(&label);
    let values = |d: &mut Draw, name, shape: &[usize], deviation| if exact { d.integers(name, shape, 3) } else { d.normals(name, shape, deviation) };
    let x = values(&mut d, "x", &[clips, frames, width_in], 1.0).mixed();
    let weight = values(&mut d, "weight", &[width_out, width_in, 3], (3.0 * width_in as f64).powf(-0.5)).mixed();
    let bias = values(&mut d, "bias", &[width_out], 0.1).mixed();
    // gelu is not an integer, but gelu'(0) is exactly 1/2: with even dy all sums are.
    let (mut z, mut dy) = (d.normals("z", out, 2.0).mixed(), values(&mut d, "dy", &out, 1.0).mixed());
    if exact {
        z = Operand::new("z", out, Kind::Mixed, vec![0.0; z.shape.len()]);
        dy = Operand::new("dy", out, Kind::Mixed, dy.values.iter().map(|dy| 2.0 * dy).collect());
    }
    let gradients = [Output::updated(values(&mut d, "dweight", &[width_out, width_in, 3], 1.0)), Output::updated(values(&mut d, "dbias", &[width_out], 1.0))];
    for (entry, rung) in FORWARD {
        let inputs = vec![x.clone(), weight.clone(), bias.clone()];
        let outputs = vec![Output::overwritten("z", out, Kind::Mixed), Output::overwritten("y", out, Kind::Mixed)];
        // erf: absolute error 5e-7 of values around 1, which is 4 ulp; relative to the largest y.
        let mut case = Case::new(entry, &label, inputs, outputs, Compare::Reduction(5.0), move |i, o| {
            let [z, y] = o else { unreachable!("two outputs") };
            forward_by(rung, &i[0], &i[1], &i[2], stride, z, y)
        })
        .naive(move |i, o| {
            on_real!(i[0].dtype(), naive_forward::<T>(stride, i, o));
            Ok(())
        });
        only_where_there_is(rung, &mut case);
        if exact {
            // z alone, bit for bit: y goes to scratch.
            case.outputs[1].scratch = true;
            case.compare = Compare::Exact;
        }
        cases.push(case.flops(flops));
    }
    for (entry, rung) in BACKWARD {
        let inputs = vec![x.clone(), weight.clone(), z.clone(), dy.clone()];
        let mut outputs = vec![Output::overwritten("dz", out, Kind::Mixed)];
        outputs.extend(gradients.clone());
        outputs.push(Output::scratch(workspace(clips, frames, width_in, width_out, stride)));
        if with_dx {
            outputs.push(Output::overwritten("dx", [clips, frames, width_in], Kind::Mixed));
        }
        let compare = if exact { Compare::Exact } else { Compare::Reduction(5.0) };
        let mut case = Case::new(entry, &label, inputs, outputs, compare, move |i, o| {
            let [dz, dweight, dbias, workspace, dx @ ..] = o else { unreachable!("four outputs at least") };
            backward_by(rung, &i[0], &i[1], &i[2], &i[3], stride, dz, dx.first_mut(), dweight, dbias, workspace)
        })
        .naive(move |i, o| {
            on_real!(i[0].dtype(), naive_backward::<T>(stride, |dz| dz, i, o));
            Ok(())
        })
        // dz is written before it is multiplied: in bf16, where that is what it is.
        .naive_mixed(move |i, o| {
            naive_backward::<f32>(stride, |dz| half::bf16::from_f32(dz).to_f32(), i, o);
            Ok(())
        });
        only_where_there_is(rung, &mut case);
        cases.push(case.flops(flops * if with_dx { 2 } else { 1 }));
    }
    cases
}

/// `f(output row, input row, tap)` for every pair that a tap connects.
fn each_tap(clips: usize, frames: usize, stride: usize, mut f: impl FnMut(usize, usize, usize)) {
    let out = frames_out(frames, stride);
    for clip in 0..clips {
        for t in 0..out {
            for tap in 0..3 {
                let frame = (t * stride + tap).wrapping_sub(1);
                if frame < frames {
                    f(clip * out + t, clip * frames + frame, tap);
                }
            }
        }
    }
}

fn naive_forward<T: Real>(stride: usize, inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (x, weight, bias) = (inputs[0].cpu::<T>(), inputs[1].cpu::<T>(), inputs[2].cpu::<T>());
    let (width_in, width_out) = (inputs[1].dim(1), bias.len());
    let [z, y] = outputs else { unreachable!("two outputs") };
    let z = z.cpu_mut::<T>();
    z.fill(T::zero());
    each_tap(inputs[0].rows(), inputs[0].dim(1), stride, |m, from, tap| {
        for o in 0..width_out {
            for i in 0..width_in {
                z[m * width_out + o] += x[from * width_in + i] * weight[(o * width_in + i) * 3 + tap];
            }
        }
    });
    for ((index, z), y) in z.iter_mut().enumerate().zip(y.cpu_mut::<T>()) {
        *z += bias[index % width_out];
        *y = T::of(0.5) * *z * (T::one() + (*z * T::of(std::f64::consts::FRAC_1_SQRT_2)).fast_erf());
    }
}

fn naive_backward<T: Real>(stride: usize, round: impl Fn(T) -> T, inputs: &[Tensor], outputs: &mut [Tensor]) {
    let [x, weight, z, dy] = [0, 1, 2, 3].map(|i| inputs[i].cpu::<T>());
    let (width_in, width_out) = (inputs[1].dim(1), inputs[1].rows());
    let [dz, dweight, dbias, _, dx @ ..] = outputs else { unreachable!("four outputs at least") };
    let (dz, dweight, dbias) = (dz.cpu_mut::<T>(), dweight.cpu_mut::<T>(), dbias.cpu_mut::<T>());
    for (index, dz) in dz.iter_mut().enumerate() {
        let z = z[index];
        let slope = T::of(0.5) * (T::one() + (z / T::of(2.0).sqrt()).fast_erf()) + z * (-z * z / T::of(2.0)).exp() / T::of(std::f64::consts::TAU).sqrt();
        *dz = round(dy[index] * slope);
        dbias[index % width_out] += *dz;
    }
    let mut dx = dx.first_mut().map(|d| d.cpu_mut::<T>());
    if let Some(dx) = &mut dx {
        dx.fill(T::zero());
    }
    each_tap(inputs[0].rows(), inputs[0].dim(1), stride, |m, from, tap| {
        for o in 0..width_out {
            for i in 0..width_in {
                dweight[(o * width_in + i) * 3 + tap] += dz[m * width_out + o] * x[from * width_in + i];
                if let Some(dx) = &mut dx {
                    dx[from * width_in + i] += dz[m * width_out + o] * weight[(o * width_in + i) * 3 + tap];
                }
            }
        }
    });
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1, 1, 1, 1), (2, 4, 3, 2, 1), (2, 5, 3, 4, 2), (1, 6, 2, 3, 2)]
        .into_iter()
        .map(|(clips, frames, width_in, width_out, stride)| {
            let label = format!("clips={clips} frames={frames} in={width_in} out={width_out} stride={stride}");
            let mut d = Draw::new(&label);
            let run = move |i: &[Tensor]| -> Result<[Tensor; 2]> {
                let out = [clips, frames_out(frames, stride), width_out];
                let mut z = Tensor::zeros(i[0].device(), out, i[0].dtype())?;
                let [mut y] = super::zeros_like([&z])?;
                forward(&i[0], &i[1], &i[2], stride, &mut z, &mut y)?;
                Ok([z, y])
            };
            GradientCase {
                inputs: vec![
                    d.normals("x", [clips, frames, width_in], 1.0),
                    d.normals("weight", [width_out, width_in, 3], 0.5),
                    d.normals("bias", [width_out], 0.5),
                ],
                wrt: vec![0, 1, 2],
                label,
                forward: Box::new(move |i| run(i).map(|[_, y]| vec![y])),
                backward: Box::new(move |i, d| {
                    let [z, _] = run(i)?;
                    let [mut dz, mut dx, mut dweight, mut dbias] = super::zeros_like([&z, &i[0], &i[1], &i[2]])?;
                    let mut scratch = Tensor::zeros(z.device(), [workspace(clips, frames, width_in, width_out, stride)], z.dtype())?;
                    backward(&i[0], &i[1], &z, &d[0], stride, &mut dz, Some(&mut dx), &mut dweight, &mut dbias, &mut scratch)?;
                    Ok(vec![dx, dweight, dbias])
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
        let shapes = (0..5usize, 0..40usize, 1..70usize, 1..70usize, 1..3usize, proptest::bool::ANY);
        crate::check::assert_drawn(24, shapes, |(clips, frames, width_in, width_out, stride, exact)| {
            shape_cases((clips, frames, width_in, width_out, stride), exact, true)
        });
    }

    #[test]
    fn frames_come_out_as_whisper_counts_them() {
        assert_eq!([0, 1, 2, 3, 50, 3000].map(|f| frames_out(f, 2)), [0, 1, 1, 2, 25, 1500]);
        assert_eq!(frames_out(50, 1), 50);
    }
}
