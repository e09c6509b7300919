//! Two-dimensional 3 × 3 convolution over pixels with GELU: the stem over a picture.
//!
//! `z[b, y, x] = bias + Σ_{ky, kx} W[:, :, ky, kx] · in[b, y·stride + ky − 1, x·stride + kx − 1]` with one pixel of zeros on every
//! side, and `y = gelu(z) = z · (1 + erf(z/√2)) / 2` (Hendrycks and Gimpel 2016, arXiv 1606.08415, the exact form). A few of them
//! before a vision transformer see better than its patches alone (Xiao et al. 2021, arXiv 2106.14881).
//!
//! Backward: `dz = dy · gelu'(z)` with `gelu'(z) = (1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π)`, then
//! `dW = Σ_{b,y,x} dz[b, y, x]ᵀ in[b, y·stride + ky − 1, x·stride + kx − 1]`, `db = Σ_{b,y,x} dz[b, y, x]` and
//! `dx[b, v, u] = Σ_{ky, kx} W[:, :, ky, kx]ᵀ · dz[b, (v + 1 − ky)/stride, (u + 1 − kx)/stride]`, over the taps for which that is a
//! pixel. With stride 2 a pixel in an even row meets only the middle row of taps and one in an odd row the outer two, and so across.
//!
//! Pixels are rows (`[images, height, width, channels]`), so the three that a row of taps meets are neighbours in memory. A GPU
//! gathers them as it goes; the CPU unfolds a few rows of pixels at a time into a block that stays in its second-level cache.

mod cases;
mod cpu;

use super::field::DimsField;
use super::ladder::{TileRung, launch, launch_each};
use super::{Call, Op, Pass, activation, exactly, on_real, size, statistic, views};
use crate::device::{Device, Gpu, Language, Launch, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use cpu::{backward_cpu, forward_cpu};

const OP: &str = "conv2d";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "forward", kernel: (OP, "forward_naive") }, Pass { name: "backward", kernel: (OP, "dweight_naive") }],
    cases: cases::cases,
    sized: cases::sized,
    gradients: cases::gradients,
    fields: FIELDS,
};

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::formula("height_out", "ceil_div(height, stride)"),
    DimsField::formula("width_out", "ceil_div(width, stride)"),
    DimsField::option("stride", "1 or 2"),
    DimsField::choice(
        "parts",
        "1 or more: as many ranges are summed apart, each into its part of the workspace",
        "min(max(ceil_div(images * height_out * width_out, 128), 1), 32)",
    ),
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    images: u32,
    height: u32,
    width: u32,
    height_out: u32,
    width_out: u32,
    channels_in: u32,
    channels_out: u32,
    stride: u32,
    parts: u32,
    padding: [u32; 3],
}

impl Dims {
    fn new(x: &Tensor, weight: &Tensor, stride: usize) -> Result<(Self, DType)> {
        let dtype = activation(OP, "x", x)?;
        let [images, height, width, channels_in] = x.shape().dims()[..] else {
            return Err(Error::mismatch(OP, "x", "[images, height, width, channels]", x.shape()));
        };
        let channels_out = weight.rows();
        if stride != 1 && stride != 2 {
            return Err(Error::mismatch(OP, "stride", "1 or 2", stride));
        }
        if channels_in == 0 || channels_out == 0 {
            return Err(Error::mismatch(OP, "weight", "[out, in, 3, 3] with channels on both sides", weight.shape()));
        }
        let (height_out, width_out) = (side_out(height, stride), side_out(width, stride));
        let product = |sizes: [usize; 4]| sizes.iter().fold(1, |product: usize, &size| product.saturating_mul(size));
        size(OP, "images · height · width · in", product([images, height, width, channels_in]))?;
        size(OP, "images · height' · width' · out", product([images, height_out, width_out, channels_out]))?;
        let dims = Dims {
            images: size(OP, "images", images)?,
            height: size(OP, "height", height)?,
            width: size(OP, "width", width)?,
            height_out: size(OP, "height'", height_out)?,
            width_out: size(OP, "width'", width_out)?,
            channels_in: size(OP, "in", channels_in)?,
            channels_out: size(OP, "out", channels_out)?,
            stride: stride as u32,
            parts: parts(product([images, height_out, width_out, 1])) as u32,
            padding: [0; 3],
        };
        Ok((dims, dtype))
    }

    fn shape_out(&self) -> [usize; 4] {
        [self.images, self.height_out, self.width_out, self.channels_out].map(|n| n as usize)
    }

    fn shape_weight(&self) -> [usize; 4] {
        [self.channels_out as usize, self.channels_in as usize, 3, 3]
    }

    /// Floating-point operations of one of its products.
    fn flops(&self) -> u64 {
        product_flops(self.shape_out(), self.channels_in as usize)
    }
}

/// Floating-point operations of one product with an output of `[images, height, width, channels]`.
fn product_flops(out: [usize; 4], channels_in: usize) -> u64 {
    2 * 9 * out.iter().map(|&n| n as u64).product::<u64>() * channels_in as u64
}

/// Pixels that come out of a side of `side`: `ceil(side / stride)`.
pub fn side_out(side: usize, stride: usize) -> usize {
    side.div_ceil(stride.max(1))
}

/// Ranges of output pixels over which a GPU sums `dW` and `db` separately.
fn parts(rows: usize) -> usize {
    rows.div_ceil(128).clamp(1, 32)
}

/// Elements of workspace that [`backward`] needs for `images` of `height` × `width` pixels with `channels_in` and `channels_out`
/// channels.
pub fn workspace(images: usize, height: usize, width: usize, channels_in: usize, channels_out: usize, stride: usize) -> usize {
    let rows = images.saturating_mul(side_out(height, stride)).saturating_mul(side_out(width, stride));
    parts(rows).saturating_mul(channels_out).saturating_mul(channels_in.saturating_mul(9).saturating_add(1))
}

/// `z = conv(x)`, `y = gelu(z)`; both are overwritten, and [`backward`] needs `z`.
///
/// Shapes: `x [B, H, W, in]`, `weight [out, in, 3, 3]`, `bias [out]`, `z` and `y` `[B, H', W', out]` with H' and W' of [`side_out`];
/// `stride` 1 or 2; dtype f32 (f64 on the CPU, or bf16 with f32 sums where the device has it).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::conv2d;
///
/// let x = Tensor::from_slice(&Device::Cpu, [1, 2, 2, 1], &[1f32, 2.0, 3.0, 4.0])?; // [B, H, W, in]
/// let weight = Tensor::from_slice(&Device::Cpu, [1, 1, 3, 3], &[0f32, 0.0, 0.0, 0.0, 10.0, 1.0, 0.0, 0.0, 0.0])?; // [out, in, 3, 3]
/// let bias = Tensor::zeros(&Device::Cpu, [1], DType::F32)?;
/// let [mut z, mut y] = [(); 2].map(|_| Tensor::zeros(&Device::Cpu, [1, 2, 2, 1], DType::F32).unwrap());
/// conv2d::forward(&x, &weight, &bias, 1, &mut z, &mut y)?;
/// assert_eq!(z.read::<f32>()?, [12.0, 20.0, 34.0, 40.0]); // ten times the pixel and once its right neighbour
/// assert!((y.read::<f32>()?[0] - 12.0).abs() < 1e-5); // gelu(12)
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
        .reads("bias", bias, [dims.channels_out as usize], dtype)?
        .writes("z", z, dims.shape_out(), dtype)?
        .writes("y", y, dims.shape_out(), dtype)?
        .begin(|| Work::product(dims.flops()));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, x, weight, bias, z, y)),
        Device::Gpu(gpu) => {
            let [images, height, width, channels] = dims.shape_out();
            let buffers = views([x, weight, bias, &*z, &*y]);
            launch(gpu, rung, (OP, ["forward_naive", "forward_tile", "forward_mma"], dtype), dims, &buffers, [images * height * width, channels, 1])?;
        }
    }
    call.end([&*z, &*y]);
    Ok(())
}

/// The gradients: `dweight` and `dbias` accumulate, `dx` is overwritten where it is asked for.
///
/// `z` is what forward wrote, `dz [B, H', W', out]` is overwritten with the gradient of `z` on the way. `workspace` has at least
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
    let [images, height, width, channels_in] = [dims.images, dims.height, dims.width, dims.channels_in].map(|n| n as usize);
    let needed = self::workspace(images, height, width, channels_in, dims.channels_out as usize, stride);
    let call = Call::new(OP, "backward", x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads("weight", weight, exactly(dims.shape_weight()), dtype)?
        .reads("z", z, dims.shape_out(), dtype)?
        .reads("dy", dy, dims.shape_out(), dtype)?
        .writes("dz", dz, dims.shape_out(), dtype)?
        .writes_if("dx", dx.as_deref(), x.shape(), dtype)?
        .updates("dweight", dweight, weight.shape(), statistic(dtype))?
        .updates("dbias", dbias, [dims.channels_out as usize], statistic(dtype))?
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

// ── CPU: see cpu.rs ──────────────────────────────────────────────────────────────────────────────────────────────

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
    let (out, channels_in, parts) = (dims.channels_out as usize, dims.channels_in as usize, dims.parts as usize);
    let (gelu_groups, dbias_groups) = match gpu.language() {
        Language::Wgsl => (dz.len().div_ceil(256), (parts * out).div_ceil(64)),
        // 16 bytes per thread; 16 channels per block, whose pixels 16 threads share.
        Language::Ptx => (dz.len().div_ceil(256 * 16 / dtype.size()), parts * out.div_ceil(16)),
    };
    gpu.launch(Launch {
        kernel: (OP, "gelu_backward"),
        constants: &[],
        variant: variant(dtype),
        buffers: &views([z, dy, dz]),
        dims: bytes_of(&dims),
        groups: gelu_groups,
    })?;
    let entries = ["dweight_naive", "dweight_tile", "dweight_mma"];
    if rung == TileRung::Naive {
        launch(gpu, rung, (OP, entries, dtype), dims, &views([x, dz, dweight]), [out, 9 * channels_in, 1])?;
    } else {
        launch(gpu, rung, (OP, entries, dtype), dims, &views([x, dz, workspace]), [out, 9 * channels_in, parts])?;
        launch_each(gpu, (OP, "dweight_finish"), "", dims, &views([workspace, dweight]), out * 9 * channels_in)?;
    }
    gpu.launch(Launch {
        kernel: (OP, "dbias_partial"),
        constants: &[],
        variant: variant(dtype),
        buffers: &views([dz, workspace]),
        dims: bytes_of(&dims),
        groups: dbias_groups,
    })?;
    launch_each(gpu, (OP, "dbias_finish"), "", dims, &views([workspace, dbias]), out)?;
    if let Some(dx) = dx {
        let pixels = [dims.images, dims.height, dims.width].iter().map(|&n| n as usize).product();
        launch(gpu, rung, (OP, ["dx_naive", "dx_tile", "dx_mma"], dtype), dims, &views([weight, dz, dx]), [pixels, channels_in, 1])?;
    }
    Ok(())
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
        let shapes = (0..4usize, 0..11usize, 0..11usize, 1..70usize, 1..70usize, 1..3usize, proptest::bool::ANY);
        crate::check::assert_drawn(24, shapes, |(images, height, width, channels_in, channels_out, stride, exact)| {
            cases::shape_cases((images, height, width, channels_in, channels_out, stride), exact, true)
        });
    }

    #[test]
    fn sides_are_halved_upwards() {
        assert_eq!([0, 1, 2, 3, 24, 25].map(|side| side_out(side, 2)), [0, 1, 1, 2, 12, 13]);
        assert_eq!(side_out(25, 1), 25);
    }
}
