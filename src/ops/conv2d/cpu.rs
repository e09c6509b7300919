//! The CPU's convolution: rows of pixels are unfolded, block by block, into an operand that the matrix product takes.
//!
//! Unfolding takes 3 to 8 % as long as the product from 32 channels on. Three products over rows of zero-padded pixels, which unfold
//! nothing (as [`conv1d`](super::super::conv1d) does), were 5 to 20 % slower: they compute what lies between two rows of pixels as well.

use super::Dims;
use crate::device::cpu::{Mat, Real, gemm};
use crate::ops::gelu::{add_rows, deactivate, gelu};
use crate::tensor::Tensor;
use multiversion::multiversion;
use rayon::prelude::*;
use std::ops::Range;

/// Elements of an unfolded block, about: a part of a second-level cache.
const BLOCK: usize = 64 << 10;
/// Operations of one task, about.
const TASK_FLOPS: usize = 8 << 20;
/// Output pixels whose share of `dW` is summed apart, at least.
const SHARE_PIXELS: usize = 256;
/// Shares of `dW` at most, and elements of all of them, unless they are two: each has the weight's size.
const SHARES: usize = 32;
const SHARED: usize = 64 << 20;

/// Pictures, and the window that moves over them: what is one row of the unfolded operand.
#[derive(Clone, Copy)]
struct Windows<'a, T> {
    /// `[images, height, width, channels]`.
    pixels: &'a [T],
    height: usize,
    width: usize,
    channels: usize,
    /// Windows per picture, down and across.
    rows: usize,
    columns: usize,
    stride: usize,
    /// Pixels by which the first window begins before the picture: of zeros, as those after its end.
    margin: usize,
    /// Pixels of a window, down and across.
    taps: [usize; 2],
}

impl<T: Real> Windows<'_, T> {
    /// Elements of a window.
    fn depth(&self) -> usize {
        self.taps[0] * self.taps[1] * self.channels
    }

    /// Lines of windows whose unfolded elements make a block.
    fn lines_per_block(&self) -> usize {
        (BLOCK / (self.columns * self.depth())).max(1)
    }

    /// The windows of these lines, numbered through all pictures, as rows `[ky, kx, channel]`.
    fn unfold(&self, lines: Range<usize>, to: &mut [T]) {
        let run = self.taps[1] * self.channels;
        let depth = self.depth();
        for (line, to) in lines.zip(to.chunks_exact_mut(self.columns * depth)) {
            let (image, row) = (line / self.rows, line % self.rows);
            for tap in 0..self.taps[0] {
                let y = (row * self.stride + tap).wrapping_sub(self.margin);
                let to = to.chunks_exact_mut(depth).map(|window| &mut window[tap * run..][..run]);
                if y < self.height {
                    let pixels = &self.pixels[(image * self.height + y) * self.width * self.channels..][..self.width * self.channels];
                    to.enumerate().for_each(|(column, to)| self.copy(pixels, column * self.stride, to));
                } else {
                    to.for_each(|to| to.fill(T::zero()));
                }
            }
        }
    }

    /// The pixels of one row that a window meets which begins at `first`, counted from the margin.
    fn copy(&self, row: &[T], first: usize, to: &mut [T]) {
        let end = first + self.taps[1];
        let met = first.max(self.margin)..end.min(self.width + self.margin);
        if met.len() == self.taps[1] {
            to.copy_from_slice(&row[(first - self.margin) * self.channels..][..to.len()]);
            return;
        }
        to.fill(T::zero());
        if !met.is_empty() {
            let from = &row[(met.start - self.margin) * self.channels..(met.end - self.margin) * self.channels];
            to[(met.start - first) * self.channels..][..from.len()].copy_from_slice(from);
        }
    }

    /// `f(lines, unfolded)`, block after block of these lines.
    fn each_block(&self, lines: Range<usize>, mut f: impl FnMut(Range<usize>, &[T])) {
        let per_block = self.lines_per_block();
        let mut block = vec![T::zero(); per_block.min(lines.len()) * self.columns * self.depth()];
        for first in lines.clone().step_by(per_block) {
            let lines = first..lines.end.min(first + per_block);
            let unfolded = &mut block[..lines.len() * self.columns * self.depth()];
            self.unfold(lines.clone(), unfolded);
            f(lines, unfolded);
        }
    }
}

impl Dims {
    /// Lines of output pixels of all pictures.
    fn lines(&self) -> usize {
        self.images as usize * self.height_out as usize
    }

    /// Lines that one of so many tasks takes: an even number of tasks, so that two cores finish together, and a function of the
    /// shape alone.
    fn lines_per_task(&self, tasks: usize) -> usize {
        let tasks = if tasks < 2 { 1 } else { tasks.next_multiple_of(2) };
        self.lines().div_ceil(tasks).max(1)
    }

    /// The windows of the forward pass.
    fn windows<'a, T>(&self, x: &'a [T]) -> Windows<'a, T> {
        let [height, width, channels, rows, columns, stride] =
            [self.height, self.width, self.channels_in, self.height_out, self.width_out, self.stride].map(|n| n as usize);
        Windows { pixels: x, height, width, channels, rows, columns, stride, margin: 1, taps: [3, 3] }
    }

    /// The windows over `dz` that one phase of `dx` meets, and the place of the first of its taps in [`by_phase`]. With stride 1
    /// there is one phase, and `dx` is a convolution of `dz` with the taps turned round.
    fn phases<'a, T>(&self, dz: &'a [T]) -> Vec<Phase<'a, T>> {
        let [height, width, channels] = [self.height_out, self.width_out, self.channels_out].map(|n| n as usize);
        let windows = Windows { pixels: dz, height, width, channels, rows: height, columns: width, stride: 1, margin: 1, taps: [3, 3] };
        if self.stride == 1 {
            return vec![Phase { windows, first_tap: 0, at: [0, 0] }];
        }
        let phase = |(first_tap, at): (usize, [usize; 2])| Phase { windows: Windows { margin: 0, taps: [1 + at[0], 1 + at[1]], ..windows }, first_tap, at };
        [(0, [0, 0]), (1, [0, 1]), (3, [1, 0]), (5, [1, 1])].map(phase).into()
    }
}

/// One phase of `dx`: with stride 2 its pixels in even or odd rows and even or odd columns.
struct Phase<'a, T> {
    windows: Windows<'a, T>,
    first_tap: usize,
    /// The first of its pixels: row and column.
    at: [usize; 2],
}

/// The weight as `[ky, kx, in, out]`: taps outermost, as windows are unfolded.
fn by_tap<T: Real>(weight: &[T], channels_in: usize, channels_out: usize) -> Vec<T> {
    let mut taps = vec![T::zero(); weight.len()];
    taps.par_chunks_mut(channels_out).with_min_len(64).enumerate().for_each(|(row, to)| {
        let (tap, i) = (row / channels_in, row % channels_in);
        for (to, weight) in to.iter_mut().zip(weight.chunks_exact(9 * channels_in)) {
            *to = weight[i * 9 + tap];
        }
    });
    taps
}

/// The weight as nine blocks `[out, in]`, in the order in which the phases of `dx` meet the taps.
fn by_phase<T: Real>(weight: &[T], channels_in: usize, stride: usize) -> Vec<T> {
    // ky · 3 + kx. With stride 2: even row, even column; even, odd; odd, even; odd, odd. A later pixel of dz is met by an earlier tap.
    let order = if stride == 1 { [8, 7, 6, 5, 4, 3, 2, 1, 0] } else { [4, 5, 3, 7, 1, 8, 6, 2, 0] };
    let mut taps = vec![T::zero(); weight.len()];
    taps.par_chunks_mut(channels_in).with_min_len(64).enumerate().for_each(|(row, to)| {
        let channels_out = weight.len() / (9 * channels_in);
        let (place, o) = (row / channels_out, row % channels_out);
        for (to, weight) in to.iter_mut().zip(weight[o * 9 * channels_in..].chunks_exact(9)) {
            *to = weight[order[place]];
        }
    });
    taps
}

/// `z += bias`, `y = gelu(z)`.
#[multiversion(targets = "simd")]
fn activate<T: Real>(bias: &[T], z: &mut [T], y: &mut [T]) {
    for (z, y) in z.chunks_exact_mut(bias.len()).zip(y.chunks_exact_mut(bias.len())) {
        for ((z, y), &bias) in z.iter_mut().zip(y.iter_mut()).zip(bias) {
            *z += bias;
            *y = gelu(*z);
        }
    }
}

pub(super) fn forward_cpu<T: Real>(dims: Dims, x: &Tensor, weight: &Tensor, bias: &Tensor, z: &mut Tensor, y: &mut Tensor) {
    if z.is_empty() {
        return;
    }
    let channels = dims.channels_out as usize;
    let taps = by_tap(weight.cpu::<T>(), dims.channels_in as usize, channels);
    let (windows, bias) = (dims.windows(x.cpu::<T>()), bias.cpu::<T>());
    let (line, lines) = (windows.columns * channels, dims.lines_per_task(dims.flops() as usize / TASK_FLOPS));
    let out = z.cpu_mut::<T>().par_chunks_mut(lines * line).zip(y.cpu_mut::<T>().par_chunks_mut(lines * line));
    out.enumerate().for_each(|(task, (z, y))| {
        let first = task * lines;
        windows.each_block(first..first + z.len() / line, |block, unfolded| {
            let here = (block.start - first) * line..(block.end - first) * line;
            let (z, y) = (&mut z[here.clone()], &mut y[here]);
            let depth = windows.depth();
            gemm(z.len() / channels, channels, depth, Mat::rows(unfolded, depth), Mat::rows(&taps, channels), T::zero(), z, channels);
            activate(bias, z, y);
        });
    });
}

pub(super) fn backward_cpu<T: Real>(
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
    let dz = dz.cpu_mut::<T>();
    const AT_ONCE: usize = 16 << 10;
    let given = z.cpu::<T>().par_chunks(AT_ONCE).zip(dy.cpu::<T>().par_chunks(AT_ONCE));
    dz.par_chunks_mut(AT_ONCE).zip(given).for_each(|(dz, (z, dy))| deactivate(z, dy, dz));
    weight_gradient(dims, x.cpu::<T>(), dz, dweight.cpu_mut::<T>(), dbias.cpu_mut::<T>());
    if let Some(dx) = dx {
        input_gradient(dims, weight.cpu::<T>(), dz, dx.cpu_mut::<T>());
    }
}

/// `dweight += Σ dzᵀ · windows(x)`, `dbias += Σ dz`. Tasks sum their own lines' share, and the shares are added in order.
fn weight_gradient<T: Real>(dims: Dims, x: &[T], dz: &[T], dweight: &mut [T], dbias: &mut [T]) {
    let windows = dims.windows(x);
    let (channels, depth) = (dims.channels_out as usize, windows.depth());
    let line = windows.columns * channels;
    let shares = (dz.len() / channels / SHARE_PIXELS).min(SHARES).min((SHARED / dweight.len()).max(2));
    let lines = dims.lines_per_task(shares);
    let shares: Vec<(Vec<T>, Vec<T>)> = dz
        .par_chunks(lines * line)
        .enumerate()
        .map(|(task, dz)| {
            let first = task * lines;
            let (mut share, mut bias) = (vec![T::zero(); dweight.len()], vec![T::zero(); channels]);
            add_rows(dz, &mut bias);
            windows.each_block(first..first + dz.len() / line, |block, unfolded| {
                let dz = &dz[(block.start - first) * line..(block.end - first) * line];
                let beta = if block.start == first { T::zero() } else { T::one() };
                gemm(channels, depth, dz.len() / channels, Mat::transposed(dz, channels), Mat::rows(unfolded, depth), beta, &mut share, depth);
            });
            (share, bias)
        })
        .collect();
    shares.iter().for_each(|(_, bias)| add_rows(bias, dbias));
    dweight.par_chunks_mut(depth).enumerate().for_each_init(
        || vec![T::zero(); depth],
        |total, (o, dweight)| {
            total.fill(T::zero());
            shares.iter().for_each(|(share, _)| add_rows(&share[o * depth..][..depth], total));
            for (i, dweight) in dweight.chunks_exact_mut(9).enumerate() {
                for (tap, dw) in dweight.iter_mut().enumerate() {
                    *dw += total[tap * (depth / 9) + i];
                }
            }
        },
    );
}

/// `dx`, phase by phase. A task has the pixels that lie at or right after its lines of `dz`.
fn input_gradient<T: Real>(dims: Dims, weight: &[T], dz: &[T], dx: &mut [T]) {
    let [height, width, channels, height_out, stride] = [dims.height, dims.width, dims.channels_in, dims.height_out, dims.stride].map(|n| n as usize);
    let taps = by_phase(weight, channels, stride);
    let phases = dims.phases(dz);
    let lines = dims.lines_per_task(dims.flops() as usize / TASK_FLOPS);
    let row = width * channels;
    // Where the rows of dx begin that belong to a line of dz: with an odd height a picture's last line has one row.
    let begins = |line: usize| (line / height_out * height + line % height_out * stride) * row;
    let mut rest = dx;
    let mut tasks = Vec::new();
    for first in (0..dims.lines()).step_by(lines) {
        let block = first..dims.lines().min(first + lines);
        let (here, after) = rest.split_at_mut(begins(block.end) - begins(first));
        tasks.push((block, here));
        rest = after;
    }
    tasks.into_par_iter().for_each(|(task, dx)| {
        let mut product = Vec::new();
        for Phase { windows, first_tap, at } in &phases {
            let (depth, line) = (windows.depth(), windows.columns * channels);
            let taps = Mat::rows(&taps[first_tap * windows.channels * channels..], channels);
            windows.each_block(task.clone(), |block, unfolded| {
                let count = block.len() * windows.columns;
                if stride == 1 {
                    let dx = &mut dx[begins(block.start) - begins(task.start)..][..count * channels];
                    return gemm(count, channels, depth, Mat::rows(unfolded, depth), taps, T::zero(), dx, channels);
                }
                product.resize(count * channels, T::zero());
                gemm(count, channels, depth, Mat::rows(unfolded, depth), taps, T::zero(), &mut product, channels);
                for (z_line, product) in block.zip(product.chunks_exact(line)) {
                    if z_line % height_out * stride + at[0] < height {
                        let dx = &mut dx[begins(z_line) - begins(task.start) + at[0] * row..][..row];
                        let pixels = dx.chunks_exact_mut(channels).skip(at[1]).step_by(stride);
                        pixels.zip(product.chunks_exact(channels)).for_each(|(dx, product)| dx.copy_from_slice(product));
                    }
                }
            });
        }
    });
}
