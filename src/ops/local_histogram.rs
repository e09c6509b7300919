//! Local histograms of colours and of edges: what a picture shows where, told so that it survives another hand's drawing.
//!
//! Colours, `v = pixel/255`: bin `(i, j, k)` of 3³ gets `t_i(r) · t_j(g) · t_k(b)` of every pixel of a cell, with
//! `t_i(v) = max(0, 1 − 2·|v − i/2|)` (Swain and Ballard 1991, with shares for the neighbouring bins). Edges: the gradient
//! `(v(x+1) − v(x−1), v(y+1) − v(y−1))` of each channel, 0 across the border, falls between two of the 9 directions
//! `θ_k = k·π/9` (without sign: dark on light is light on dark), and each gets its coordinate there:
//! `max(0, |gx·cos θ_k + gy·sin θ_k| − cot(π/9)·|gy·cos θ_k − gx·sin θ_k|)` (Dalal and Triggs 2005, whose angles need no arctangent here).
//! Both are means over a cell's pixels. An edge's strength says more of the pen than of the thing: it is divided by
//! `√(4·e + 10⁻⁴)`, `e` the mean over the 3 × 3 cells around of `Σ_k h_k²` (a border's cell again beyond it). Then
//! `y = x/√(x + 0.01)`: a root, as counts want it, that is finite-sloped at 0.
//!
//! A picture is counted in several grids at once, coarse and fine. Like the log-mel spectrogram it is fixed and comes first: there is no backward
//! pass, and no gradient reaches the pixels.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::{Call, Op, Pass, Sizes, activation, on_real, size, statistic, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Launch, View, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;
use std::f64::consts::PI;

const OP: &str = "local_histogram";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op { name: OP, files: &[OP], passes: &[Pass { name: "forward", kernel: (OP, "bins") }], cases, sized, gradients, fields: FIELDS };

/// Bins of colours.
pub const COLORS: usize = 27;
/// Bins of directions, behind them.
pub const DIRECTIONS: usize = 9;
/// Numbers of one cell.
pub const BINS: usize = COLORS + DIRECTIONS;
/// The most grids of one call.
pub const GRIDS: usize = 4;
/// What keeps the strength of faint edges from becoming that of strong ones.
const FAINT: f64 = 1e-4;
/// Where the root becomes a line.
const ROOT: f64 = 0.01;
/// Floating-point operations for a bin's share of a pixel.
const FLOPS: usize = 20;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::option("grid0", "cells along each side of the first grid; divides height and width"),
    DimsField::option("grid1", "the same of the second grid; 0: there is none, and none after it"),
    DimsField::option("grid2", "the same of the third grid"),
    DimsField::option("grid3", "the same of the fourth grid"),
    DimsField::formula("cells", "grid0 * grid0 + grid1 * grid1 + grid2 * grid2 + grid3 * grid3"),
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    /// Cells along each side; 0: there is no such grid.
    grids: [u32; GRIDS],
    images: u32,
    height: u32,
    width: u32,
    /// Of a picture, in all grids.
    cells: u32,
}

impl Dims {
    fn new(pixels: &Tensor, grids: &[usize]) -> Result<Self> {
        let [images, height, width, 3] = pixels.shape().dims()[..] else {
            return Err(Error::mismatch(OP, "pixels", "[images, height, width, 3]", pixels.shape()));
        };
        if grids.is_empty() || grids.len() > GRIDS || grids.contains(&0) {
            return Err(Error::mismatch(OP, "grids", format!("1 to {GRIDS} numbers of cells"), format!("{grids:?}")));
        }
        let fits = |side: usize| side > 0 && grids.iter().all(|&grid| side.is_multiple_of(grid));
        if !fits(height) || !fits(width) {
            return Err(Error::mismatch(OP, "pixels", format!("height and width that are multiples of {grids:?}"), pixels.shape()));
        }
        let mut all = [0; GRIDS];
        for (all, &grid) in all.iter_mut().zip(grids) {
            *all = size(OP, "grid", grid)?;
        }
        let cells = cells(grids);
        size(OP, "images · cells · bins", images.saturating_mul(cells).saturating_mul(BINS))?;
        Ok(Dims {
            grids: all,
            images: size(OP, "images", images)?,
            height: size(OP, "height", height)?,
            width: size(OP, "width", width)?,
            cells: size(OP, "cells", cells)?,
        })
    }

    fn grids(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        self.grids.into_iter().map(|grid| grid as usize).take_while(|&grid| grid > 0)
    }
}

/// Cells of a picture in these grids.
pub fn cells(grids: &[usize]) -> usize {
    grids.iter().fold(0, |sum: usize, &grid| sum.saturating_add(grid.saturating_mul(grid)))
}

/// Elements of workspace that [`forward`] needs for so many pictures.
pub fn workspace(images: usize, grids: &[usize]) -> usize {
    images.saturating_mul(cells(grids)).saturating_mul(DIRECTIONS)
}

/// What each cell of each grid shows: `y[i]` is, grid after grid and in each in raster order, the [`BINS`] numbers of a cell: [`COLORS`] of
/// colours (red slowest), then [`DIRECTIONS`] of edges, each from 0 to 1.
///
/// Shapes: `pixels [images, H, W, 3]` u8, `grids`: 1 to [`GRIDS`] numbers of cells along each side, which divide H and W, `y [images, cells · BINS]`
/// with [`cells`] of the grids, overwritten. dtype of `y` f32 (f64 on the CPU, bf16 where the device has it), computed in f32. `workspace`: at least
/// [`workspace`] elements of f32 (f64); its contents do not matter before or after.
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::local_histogram::{self, BINS, COLORS};
///
/// let cpu = &Device::Cpu;
/// // Two by two pixels: black on the left, white on the right.
/// let pixels = Tensor::from_slice(cpu, [1, 2, 2, 3], &[0u8, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255])?;
/// let mut y = Tensor::zeros(cpu, [1, BINS], DType::F32)?; // [images, cells · BINS]: one cell
/// let mut workspace = Tensor::zeros(cpu, [local_histogram::workspace(1, &[1])], DType::F32)?;
/// local_histogram::forward(&pixels, &[1], &mut y, &mut workspace)?;
/// let y = y.read::<f32>()?;
/// assert!(y[0] == y[26] && (y[0] - 0.5 / 0.51f32.sqrt()).abs() < 1e-6); // half of it is black, half is white
/// assert_eq!(y[1..26], [0.0; 25]);
/// assert_eq!(y[COLORS..], [0.0; 9]); // both columns are borders, across which there is no gradient
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit, or a grid does not divide the picture.
pub fn forward(pixels: &Tensor, grids: &[usize], y: &mut Tensor, workspace: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "y", y)?;
    let dims = Dims::new(pixels, grids)?;
    let (images, cells) = (dims.images as usize, dims.cells as usize);
    let call = Call::new(OP, "forward", y.device())
        .reads("pixels", pixels, pixels.shape(), DType::U8)?
        .writes("y", y, [images, cells * BINS], dtype)?
        .workspace(workspace, self::workspace(images, grids), statistic(dtype))?
        .begin(|| Work::new(flops(pixels, grids)));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, pixels, y)),
        Device::Gpu(gpu) => launch(gpu, dtype, dims, pixels, y, workspace)?,
    }
    call.end([&*y]);
    Ok(())
}

/// Floating-point operations: every bin asks every pixel of its cell, once in each grid.
fn flops(pixels: &Tensor, grids: &[usize]) -> u64 {
    (pixels.len() / 3 * grids.len() * BINS * FLOPS) as u64
}

/// `x/√(x + 0.01)`.
fn root<T: Real>(x: T) -> T {
    x / (x + T::of(ROOT)).sqrt()
}

/// cos θ_k and sin θ_k, and cot(π/9).
fn directions<T: Real>() -> ([(T, T); DIRECTIONS], T) {
    let step = PI / DIRECTIONS as f64;
    (std::array::from_fn(|k| (T::of((k as f64 * step).cos()), T::of((k as f64 * step).sin()))), T::of(1.0 / step.tan()))
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The greatest number that divides all of these.
fn common(sides: impl Iterator<Item = usize>) -> usize {
    sides.fold(0, |mut a, mut b| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    })
}

/// A pixel is looked at once: into the cell of the finest grid that all others are made of.
fn forward_cpu<T: Real>(dims: Dims, pixels: &Tensor, y: &mut Tensor) {
    if y.is_empty() {
        return;
    }
    let (height, width) = (dims.height as usize, dims.width as usize);
    let (high, wide) = (common(dims.grids().map(|grid| height / grid)), common(dims.grids().map(|grid| width / grid)));
    let (down, across) = (height / high, width / wide);
    let pixels = pixels.cpu::<u8>().par_chunks(height * width * 3);
    y.cpu_mut::<T>().par_chunks_mut(dims.cells as usize * BINS).zip(pixels).for_each(|(y, picture)| {
        let mut fine = vec![T::zero(); down * across * BINS];
        let mut votes = vec![T::zero(); DIRECTIONS * width];
        let mut gradient = [vec![T::zero(); width * 3], vec![T::zero(); width * 3]];
        for (line, row) in picture.chunks_exact(width * 3).enumerate() {
            let fine = &mut fine[line / high * across * BINS..][..across * BINS];
            for (column, pixel) in row.chunks_exact(3).enumerate() {
                add_color(pixel, &mut fine[column / wide * BINS..][..COLORS]);
            }
            let beside = |by: isize| &picture[line.wrapping_add_signed(by) * width * 3..][..width * 3];
            let (above, below) = if line == 0 || line + 1 == height { (row, row) } else { (beside(-1), beside(1)) };
            differences(row, above, below, &mut gradient);
            vote(&gradient, &mut votes);
            for (k, votes) in votes.chunks_exact(width).enumerate() {
                for (cell, votes) in votes.chunks_exact(wide).enumerate() {
                    fine[cell * BINS + COLORS + k] += super::sum(votes.iter().copied());
                }
            }
        }
        let mut rest = y;
        for grid in dims.grids() {
            let (cells, others) = rest.split_at_mut(grid * grid * BINS);
            gather(&fine, [down / grid, across / grid], grid, T::of((height / grid * (width / grid)) as f64), cells);
            finish(grid, cells);
            rest = others;
        }
    });
}

/// Adds the shares of a colour to the eight bins around it.
fn add_color<T: Real>(pixel: &[u8], bins: &mut [T]) {
    // 2·v = byte · 2/255: the lower of the three bins is 1 from the middle on.
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|byte| {
        let upper = byte >= 128;
        let share = T::of(byte as f64 * 2.0 / 255.0 - upper as u8 as f64);
        (upper as usize, [T::one() - share, share])
    });
    for (i, &red) in r.1.iter().enumerate() {
        for (j, &green) in g.1.iter().enumerate() {
            for (k, &blue) in b.1.iter().enumerate() {
                bins[((r.0 + i) * 3 + g.0 + j) * 3 + b.0 + k] += red * green * blue;
            }
        }
    }
}

/// The gradients of a row of pixels, channel after channel: `[3][width]` each.
fn differences<T: Real>(row: &[u8], above: &[u8], below: &[u8], [dx, dy]: &mut [Vec<T>; 2]) {
    let (width, scale) = (row.len() / 3, T::of(1.0 / 255.0));
    for channel in 0..3 {
        let of = |row: &[u8], x: usize| row[x * 3 + channel] as i32;
        for x in 0..width {
            let across = if x == 0 || x + 1 == width { 0 } else { of(row, x + 1) - of(row, x - 1) };
            dx[channel * width + x] = T::of(across as f64) * scale;
            dy[channel * width + x] = T::of((of(below, x) - of(above, x)) as f64) * scale;
        }
    }
}

/// What the three gradients of each pixel of a row say of each direction: `votes [DIRECTIONS, width]`.
#[multiversion(targets = "simd")]
fn vote<T: Real>([dx, dy]: &[Vec<T>; 2], votes: &mut [T]) {
    let (directions, cot) = directions::<T>();
    let width = dx.len() / 3;
    for ((cos, sin), votes) in directions.into_iter().zip(votes.chunks_exact_mut(width)) {
        votes.fill(T::zero());
        for (dx, dy) in dx.chunks_exact(width).zip(dy.chunks_exact(width)) {
            for ((vote, &x), &y) in votes.iter_mut().zip(dx).zip(dy) {
                *vote += ((x * cos + y * sin).abs() - cot * (y * cos - x * sin).abs()).max(T::zero());
            }
        }
    }
}

/// The means of a grid's cells, each of so many fine ones.
fn gather<T: Real>(fine: &[T], [down, across]: [usize; 2], grid: usize, pixels: T, cells: &mut [T]) {
    for (at, cell) in cells.chunks_exact_mut(BINS).enumerate() {
        cell.fill(T::zero());
        for line in at / grid * down..(at / grid + 1) * down {
            for fine in fine[(line * grid * across + at % grid * across) * BINS..][..across * BINS].chunks_exact(BINS) {
                cell.iter_mut().zip(fine).for_each(|(sum, &x)| *sum += x);
            }
        }
        cell.iter_mut().for_each(|sum| *sum /= pixels);
    }
}

/// Edges by the strength around them, and roots.
fn finish<T: Real>(grid: usize, cells: &mut [T]) {
    let energy: Vec<T> = cells.chunks_exact(BINS).map(|cell| super::sum(cell[COLORS..].iter().map(|&h| h * h))).collect();
    for (at, cell) in cells.chunks_exact_mut(BINS).enumerate() {
        let near = |at: usize| [at.saturating_sub(1), at, (at + 1).min(grid - 1)];
        let around = super::sum(near(at / grid).into_iter().flat_map(|line| near(at % grid).map(|column| energy[line * grid + column])));
        let scale = T::one() / (around * T::of(4.0 / 9.0) + T::of(FAINT)).sqrt();
        cell[COLORS..].iter_mut().for_each(|h| *h *= scale);
        cell.iter_mut().for_each(|x| *x = root(*x));
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch(gpu: &Gpu, dtype: DType, dims: Dims, pixels: &Tensor, y: &Tensor, workspace: &Tensor) -> Result<()> {
    let cells = dims.images as usize * dims.cells as usize;
    let run = |entry, buffers: &[Option<View>], results: usize| {
        gpu.launch(Launch { kernel: (OP, entry), constants: &[], buffers, variant: variant(dtype), dims: bytes_of(&dims), groups: results.div_ceil(64) })
    };
    run("bins", &views([pixels, y, workspace]), cells * BINS)?;
    run("normalise", &views([workspace, y]), cells * DIRECTIONS)
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// (images, height, width, grids)
type Shape = (usize, usize, usize, &'static [usize]);

const SHAPES: &[Shape] = &[
    (0, 8, 8, &[2]),
    (1, 1, 1, &[1]),
    (1, 2, 1, &[1]),
    (3, 1, 5, &[1]),
    (1, 3, 3, &[3, 1]),
    (2, 4, 6, &[2]),
    (2, 6, 12, &[3, 2, 1, 6]),
    (1, 7, 7, &[7]),
    (5, 12, 12, &[4, 3, 2]),
    (1, 16, 16, &[8, 4]),
    (1, 24, 24, &[8, 6, 4, 3]),
    (2, 15, 30, &[5, 15]),
    (1, 33, 11, &[11]),
    (1, 64, 64, &[1]),
    (33, 4, 4, &[2, 1]),
    (2, 48, 48, &[8, 6, 4, 3]),
];

/// What the demo's pictures, and those of its presets, are counted in.
pub const USUAL: &[usize] = &[8, 6, 4, 3];

/// What a case looks at.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Picture {
    /// Every byte by itself.
    Noise,
    /// Areas of one colour: exact zeros, and edges along the axes.
    Areas,
}

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let listed = SHAPES.iter().flat_map(|&shape| [Picture::Noise, Picture::Areas].map(|picture| shape_case(shape, picture)));
    listed.chain(sized(&Sizes::DEMO)).collect()
}

/// The cases at a model's sizes.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let grids = if USUAL.iter().all(|&grid| s.image.is_multiple_of(grid)) { USUAL } else { &[8, 4, 2, 1] };
    vec![shape_case((s.samples, s.image, s.image, grids), Picture::Noise)]
}

fn shape_case((images, height, width, grids): Shape, picture: Picture) -> Case {
    let label = format!("images={images} {height}x{width} grids={grids:?} {picture:?}").to_lowercase();
    let mut draw = Draw::new(&label);
    let pixels = Operand::lazy("pixels", [images, height, width, 3], Kind::U8, move || {
        let colors: Vec<[f64; 3]> = (0..4).map(|_| [0; 3].map(|_| draw.below(256) as f64)).collect();
        let side = 1 + draw.below(5);
        (0..images * height * width)
            .flat_map(|at| match picture {
                Picture::Noise => [0; 3].map(|_| draw.below(256) as f64),
                Picture::Areas => colors[(at % width / side + at / width / side) % 4],
            })
            .collect()
    });
    let outputs = vec![Output::overwritten("y", [images, cells(grids) * BINS], Kind::Mixed), Output::scratch(workspace(images, grids))];
    // A root may be 4 ulp off in WGSL, a quotient 2.5.
    let case = Case::new("forward", label, vec![pixels], outputs, Compare::Reduction(8.0), move |i, o| {
        let [y, workspace] = o else { unreachable!("two outputs") };
        forward(&i[0], grids, y, workspace)
    })
    .naive(move |i, o| {
        on_real!(o[0].dtype(), naive_forward::<T>(grids, i, o));
        Ok(())
    });
    case.flops((images * height * width * grids.len() * BINS * FLOPS) as u64)
}

/// Straight from the definition, bin by bin.
fn naive_forward<T: Real>(grids: &[usize], inputs: &[Tensor], outputs: &mut [Tensor]) {
    let pixels = inputs[0].cpu::<u8>();
    let [images, height, width] = [0, 1, 2].map(|axis| inputs[0].dim(axis));
    let v = |image: usize, y: usize, x: usize, c: usize| T::of(pixels[((image * height + y) * width + x) * 3 + c] as f64) / T::of(255.0);
    let share = |bin: usize, v: T| (T::one() - T::of(2.0) * (v - T::of(bin as f64 / 2.0)).abs()).max(T::zero());
    let (directions, cot) = directions::<T>();
    let out = outputs[0].cpu_mut::<T>();
    let mut at = 0;
    for image in 0..images {
        for &grid in grids {
            let (high, wide) = (height / grid, width / grid);
            let mean = |cell: usize, f: &dyn Fn(usize, usize) -> T| {
                let inside = (0..high * wide).map(|p| f(cell / grid * high + p / wide, cell % grid * wide + p % wide));
                super::sum(inside) / T::of((high * wide) as f64)
            };
            let edges: Vec<[T; DIRECTIONS]> = (0..grid * grid)
                .map(|cell| {
                    directions.map(|(cos, sin)| {
                        mean(cell, &|y, x| {
                            super::sum((0..3).map(|c| {
                                let dx = if x == 0 || x + 1 == width { T::zero() } else { v(image, y, x + 1, c) - v(image, y, x - 1, c) };
                                let dy = if y == 0 || y + 1 == height { T::zero() } else { v(image, y + 1, x, c) - v(image, y - 1, x, c) };
                                ((dx * cos + dy * sin).abs() - cot * (dy * cos - dx * sin).abs()).max(T::zero())
                            }))
                        })
                    })
                })
                .collect();
            for cell in 0..grid * grid {
                for bin in 0..COLORS {
                    let [r, g, b] = [bin / 9, bin / 3 % 3, bin % 3];
                    out[at + bin] = root(mean(cell, &|y, x| share(r, v(image, y, x, 0)) * share(g, v(image, y, x, 1)) * share(b, v(image, y, x, 2))));
                }
                let mut around = T::zero();
                for line in [-1isize, 0, 1].map(|by| (cell / grid).saturating_add_signed(by).min(grid - 1)) {
                    for column in [-1isize, 0, 1].map(|by| (cell % grid).saturating_add_signed(by).min(grid - 1)) {
                        around += super::sum(edges[line * grid + column].iter().map(|&h| h * h));
                    }
                }
                let strength = (T::of(4.0) * around / T::of(9.0) + T::of(FAINT)).sqrt();
                for (k, &h) in edges[cell].iter().enumerate() {
                    out[at + COLORS + k] = root(h / strength);
                }
                at += BINS;
            }
        }
    }
}

/// None: it is fixed, and nothing before it is trained.
pub fn gradients() -> Vec<GradientCase> {
    Vec::new()
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
        use proptest::prelude::*;
        let grids = prop_oneof![Just((24, USUAL)), Just((12, &[2, 1][..])), Just((10, &[5, 2, 10][..])), Just((9, &[3][..])), Just((8, &[1][..]))];
        let shapes = (0..4usize, grids, 1..3usize, 1..3usize, prop_oneof![Just(Picture::Noise), Just(Picture::Areas)]);
        crate::check::assert_drawn(12, shapes, |(images, (side, grids), down, across, picture)| {
            vec![shape_case((images, side * down, side * across, grids), picture)]
        });
    }

    fn of(side: usize, pixel: impl Fn(usize, usize) -> [u8; 3], grids: &[usize]) -> Vec<f64> {
        let pixels: Vec<u8> = (0..side * side).flat_map(|at| pixel(at % side, at / side)).collect();
        let pixels = Tensor::from_slice(&Device::Cpu, [1, side, side, 3], &pixels).unwrap();
        let mut y = Tensor::zeros(&Device::Cpu, [1, cells(grids) * BINS], DType::F64).unwrap();
        let mut scratch = Tensor::zeros(&Device::Cpu, [workspace(1, grids)], DType::F64).unwrap();
        forward(&pixels, grids, &mut y, &mut scratch).unwrap();
        y.read_f64().unwrap()
    }

    /// An edge in direction k is in bin k alone, dark on light or light on dark; half way between two it is in both.
    #[test]
    fn edges_are_told_by_their_direction_and_not_by_their_sign() {
        let slope = |degrees: f64, sign: f64| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let y = of(9, |x, y| [(127.5 + sign * 12.0 * ((x as f64 - 4.0) * cos + (y as f64 - 4.0) * sin)).round() as u8; 3], &[3]);
            y[4 * BINS + COLORS..][..DIRECTIONS].to_vec()
        };
        for k in 0..DIRECTIONS {
            let found = slope(20.0 * k as f64, 1.0);
            let strongest = (0..DIRECTIONS).max_by(|&a, &b| found[a].total_cmp(&found[b])).unwrap();
            assert_eq!(strongest, k, "{found:?}");
            assert!((0..DIRECTIONS).all(|other| other == k || found[other] < 0.6 * found[k]), "{found:?}");
            assert!(found.iter().zip(slope(20.0 * k as f64, -1.0)).all(|(a, b)| (a - b).abs() < 0.12), "{found:?}");
        }
        let between = slope(90.0, 1.0);
        assert!((between[4] - between[5]).abs() < 1e-9 && between[4] > 0.5, "{between:?}");
    }

    /// The same drawing with a third of the contrast has the same edges, and a colour between two bins is in both.
    #[test]
    fn a_fainter_pen_draws_the_same_edges() {
        let drawn = |light: u8| of(12, |x, y| if (3..9).contains(&x) && (x + y) % 12 > 4 { [light; 3] } else { [0; 3] }, &[3]);
        let (strong, faint) = (drawn(240), drawn(80));
        let edges = |y: &[f64]| y.chunks_exact(BINS).flat_map(|cell| cell[COLORS..].to_vec()).collect::<Vec<_>>();
        assert!(edges(&strong).iter().zip(edges(&faint)).all(|(a, b)| (a - b).abs() < 0.02));
        assert!(edges(&strong).iter().any(|&x| x > 0.3));
        let orange = of(2, |_, _| [255, 128, 0], &[1]);
        let share = |x: f64| x / (x + ROOT).sqrt();
        let upper = 2.0 * 128.0 / 255.0 - 1.0;
        assert!((orange[2 * 9 + 3] - share(1.0 - upper)).abs() < 1e-12 && (orange[2 * 9 + 2 * 3] - share(upper)).abs() < 1e-12);
    }

    #[test]
    fn what_a_grid_does_not_divide_is_refused() {
        let pixels = Tensor::zeros(&Device::Cpu, [1, 10, 10, 3], DType::U8).unwrap();
        let mut y = Tensor::zeros(&Device::Cpu, [1, 9 * BINS], DType::F32).unwrap();
        let mut scratch = Tensor::zeros(&Device::Cpu, [100], DType::F32).unwrap();
        let error = forward(&pixels, &[3], &mut y, &mut scratch).unwrap_err().to_string();
        assert_eq!(error, "local_histogram: pixels: expected height and width that are multiples of [3], found [1, 10, 10, 3]");
        let error = forward(&pixels, &[], &mut y, &mut scratch).unwrap_err().to_string();
        assert_eq!(error, "local_histogram: grids: expected 1 to 4 numbers of cells, found []");
    }
}
