//! Log-mel spectrogram: Whisper's front end to the letter (Radford et al. 2022, arXiv 2212.04356; its `WhisperFeatureExtractor`).
//!
//! Short-time Fourier transform of 400 samples every 160 with a periodic Hann window, centred with reflected ends, the last
//! frame dropped; power; mel bands on Slaney's scale with Slaney's area normalisation from 0 to half the sample rate;
//! `v = log10(max(m, 1e-10))`; `v = max(v, max over the clip's kept frames − 8)`; `(v + 4)/4`.
//!
//! The transform is a matrix product with a fixed basis, and so needs no backward pass. On a GPU it is an implicit GEMM over
//! overlapping frames, folded by the basis' first symmetry (n ↔ 400 − n separates cosines from sines), which halves the
//! products. The CPU folds twice (n ↔ 200 − n separates even bins from odd ones): four matrices of about 100 × 100 remain.

use super::case::{Case, Compare, Draw, Fill, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::ladder::{FORWARD, TileRung};
use super::{Call, Op, Pass, Sizes, exactly, on_real, real, size, views};
use crate::device::cpu::{Mat, Real, gemm};
use crate::device::{Device, Gpu, Language, Launch, View};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;
use std::f64::consts::TAU;
use std::sync::Mutex;

const OP: &str = "log_mel";
/// Its files and passes, its cases.
pub const OPERATION: Op =
    Op { name: OP, files: &[OP], passes: &[Pass { name: "forward", kernel: (OP, "power_naive") }], cases, sized, gradients, fields: FIELDS };

/// Samples of one transform.
pub const N_FFT: usize = 400;
/// Samples from one frame to the next.
pub const HOP: usize = 160;
/// Frequencies of one transform, from 0 to half the sample rate.
pub const BINS: usize = N_FFT / 2 + 1;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[DimsField::formula("frames", "samples / 160")];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    clips: u32,
    samples: u32,
    frames: u32,
    mels: u32,
}

/// The fixed tables of the transform, computed in f64 and rounded to the device's type.
pub struct Tables {
    mels: usize,
    /// `[mels, BINS]`.
    bank: Tensor,
    /// `[mels, 2]`: the bins that a band weighs.
    range: Tensor,
    spectrum: Spectrum,
}

enum Spectrum {
    /// `[200, 2 · BINS]`: window · cosine and −window · sine of a bin side by side, for n = 1..=200; the last row halved.
    Basis(Tensor),
    /// The window's first 201 values and the matrices of [`FOLDED`], one after the other.
    Folded(Tensor),
}

/// The four folded transforms, each `[inputs, outputs]`: even cosines, odd cosines, even sines, odd sines. Together their
/// inputs are 400 numbers per frame, and so are their outputs.
const FOLDED: [usize; 4] = [101, 100, 99, 100];

impl Tables {
    /// The tables for `mels` bands of sound at `sample_rate` samples a second (Whisper: 16,000 and 80), for tensors of
    /// `dtype` (f32; f64 on the CPU) on `device`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for no band, more than 200, or a rate of 0; whatever the device says about memory.
    pub fn new(device: &Device, dtype: DType, sample_rate: usize, mels: usize) -> Result<Self> {
        if mels == 0 || mels >= BINS {
            return Err(Error::mismatch(OP, "mels", format!("1 to {} bands", BINS - 1), mels));
        }
        if sample_rate == 0 {
            return Err(Error::mismatch(OP, "sample_rate", "samples per second", sample_rate));
        }
        let bank = mel_bank(sample_rate as f64, mels);
        let range: Vec<i32> = bank
            .chunks_exact(BINS)
            .flat_map(|band| {
                let first = band.iter().position(|&w| w != 0.0).unwrap_or(0);
                let end = band.iter().rposition(|&w| w != 0.0).map_or(first, |last| last + 1);
                [first as i32, end as i32]
            })
            .collect();
        let spectrum = match device {
            Device::Cpu => {
                let mut table: Vec<f64> = (0..BINS).map(window).collect();
                for (which, &n) in FOLDED.iter().enumerate() {
                    for input in 0..n {
                        table.extend((0..n).map(|output| folded(which, input, output)));
                    }
                }
                Spectrum::Folded(Tensor::from_f64(device, [table.len()], dtype, &table)?)
            }
            Device::Gpu(_) => {
                let mut table = Vec::with_capacity(N_FFT / 2 * 2 * BINS);
                for n in 1..=N_FFT / 2 {
                    // The kernel adds x[n] and x[400 − n]: at n = 200 that is one sample twice.
                    let weight = if n == N_FFT / 2 { 0.5 } else { window(n) };
                    for bin in 0..BINS {
                        let (sin, cos) = turn(n * bin).sin_cos();
                        table.extend([weight * cos, -weight * sin]);
                    }
                }
                Spectrum::Basis(Tensor::from_f64(device, [N_FFT / 2, 2 * BINS], dtype, &table)?)
            }
        };
        Ok(Tables { mels, bank: Tensor::from_f64(device, [mels, BINS], dtype, &bank)?, range: Tensor::from_slice(device, [mels, 2], &range)?, spectrum })
    }

    /// Mel bands.
    pub fn mels(&self) -> usize {
        self.mels
    }
}

/// `steps` 400ths of a turn, in radians.
fn turn(steps: usize) -> f64 {
    TAU * (steps % N_FFT) as f64 / N_FFT as f64
}

/// The periodic Hann window.
fn window(n: usize) -> f64 {
    0.5 - 0.5 * turn(n).cos()
}

/// One element of a folded transform (see [`FOLDED`]).
fn folded(which: usize, input: usize, output: usize) -> f64 {
    match which {
        0 => turn(input * 2 * output).cos(),
        1 => turn(input * (2 * output + 1)).cos(),
        2 => turn((input + 1) * 2 * (output + 1)).sin(),
        _ => turn((input + 1) * (2 * output + 1)).sin(),
    }
}

/// The bank `[mels, BINS]` of triangular bands: librosa's `mel(htk=False, norm="slaney")`, from Slaney's Auditory Toolbox
/// (1998): 200/3 Hz to a mel up to 1000 Hz, then 27 mels to a factor of 6.4; each band's area is 1.
fn mel_bank(sample_rate: f64, mels: usize) -> Vec<f64> {
    let step = 6.4f64.ln() / 27.0;
    let mel = |hz: f64| if hz < 1000.0 { hz * 3.0 / 200.0 } else { 15.0 + (hz / 1000.0).ln() / step };
    let hz = |mel: f64| if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * ((mel - 15.0) * step).exp() };
    let top = mel(sample_rate / 2.0);
    let edges: Vec<f64> = (0..mels + 2).map(|i| hz(top * i as f64 / (mels + 1) as f64)).collect();
    let mut bank = Vec::with_capacity(mels * BINS);
    for band in edges.windows(3) {
        let [low, centre, high] = band else { unreachable!("windows of three") };
        for bin in 0..BINS {
            let f = sample_rate * bin as f64 / N_FFT as f64;
            let height = ((f - low) / (centre - low)).min((high - f) / (high - centre)).max(0.0);
            bank.push(height * 2.0 / (high - low));
        }
    }
    bank
}

/// Frames of a clip: one for every whole 160 samples.
pub fn frames(samples: usize) -> usize {
    samples / HOP
}

/// Elements of workspace that [`forward`] needs for `clips` of `samples` samples.
pub fn workspace(clips: usize, samples: usize) -> usize {
    clips.saturating_mul(frames(samples)).saturating_mul(BINS).saturating_add(clips)
}

/// The log-mel spectrogram of each clip: `waveform [C, S]` (−1 to 1) → `mel [C, S/160, mels]`, overwritten, frame by frame.
///
/// dtype f32 (f64 on the CPU), also in mixed precision, as the tables were made. `workspace` has at least [`workspace`] elements; its contents do not
/// matter before or after. A clip has at least 201 samples: its ends are reflected.
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::log_mel::{self, Tables};
///
/// let tables = Tables::new(&Device::Cpu, DType::F32, 16_000, 80)?;
/// let waveform = Tensor::zeros(&Device::Cpu, [2, 480], DType::F32)?; // [C, S]: two clips of silence
/// let mut mel = Tensor::zeros(&Device::Cpu, [2, log_mel::frames(480), 80], DType::F32)?; // [C, S/160, mels]
/// let mut workspace = Tensor::zeros(&Device::Cpu, [log_mel::workspace(2, 480)], DType::F32)?;
/// log_mel::forward(&waveform, &tables, &mut mel, &mut workspace)?;
/// assert_eq!(mel.shape(), [2, 3, 80]);
/// assert!(mel.read::<f32>()?.iter().all(|v| (v + 1.5).abs() < 1e-5)); // (log10(1e-10) + 4)/4
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit, or a clip is too short.
pub fn forward(waveform: &Tensor, tables: &Tables, mel: &mut Tensor, workspace: &mut Tensor) -> Result<()> {
    forward_by(TileRung::Auto, waveform, tables, mel, workspace)
}

fn forward_by(rung: TileRung, waveform: &Tensor, tables: &Tables, mel: &mut Tensor, workspace: &mut Tensor) -> Result<()> {
    let dtype = real(OP, "waveform", waveform)?;
    let [clips, samples] = waveform.shape().dims()[..] else {
        return Err(Error::mismatch(OP, "waveform", "[clips, samples]", waveform.shape()));
    };
    if clips > 0 && samples <= N_FFT / 2 {
        return Err(Error::mismatch(OP, "waveform", format!("more than {} samples per clip (the ends are reflected)", N_FFT / 2), waveform.shape()));
    }
    let dims = Dims {
        clips: size(OP, "clips", clips)?,
        samples: size(OP, "samples", samples)?,
        frames: size(OP, "frames", frames(samples))?,
        mels: size(OP, "mels", tables.mels)?,
    };
    let call = Call::new(OP, "forward", waveform.device())
        .reads("waveform", waveform, waveform.shape(), dtype)?
        .takes("tables", &tables.bank, exactly([tables.mels, BINS]), dtype)?
        .reads("bank", &tables.bank, tables.bank.shape(), dtype)?
        .writes("mel", mel, [clips, frames(samples), tables.mels], dtype)?
        .workspace(workspace, self::workspace(clips, samples), dtype)?
        .begin(|| Work::new(flops(clips, samples, tables.spectrum.products())).of_launch("normalise", 0u64));
    match (call.device(), &tables.spectrum) {
        (Device::Cpu, Spectrum::Folded(table)) => on_real!(dtype, forward_cpu::<T>(dims, waveform, tables, table, mel)),
        (Device::Gpu(gpu), Spectrum::Basis(basis)) => launch(gpu, rung, dims, waveform, tables, basis, mel, workspace)?,
        _ => unreachable!("the tables are on the waveform's device, checked above"),
    }
    call.end([&*mel]);
    Ok(())
}

/// Products of one frame's transform by the kernels of a GPU, which fold once.
const FOLDED_ONCE: usize = N_FFT / 2 * 2 * BINS;
/// By the CPU's kernel, which folds twice: a quarter of [`UNFOLDED`].
const FOLDED_TWICE: usize = FOLDED[0] * FOLDED[0] + FOLDED[1] * FOLDED[1] + FOLDED[2] * FOLDED[2] + FOLDED[3] * FOLDED[3];
/// By the plain loops, which take the transform as it is defined.
const UNFOLDED: usize = N_FFT * 2 * BINS;

impl Spectrum {
    /// Products of one frame.
    fn products(&self) -> usize {
        match self {
            Spectrum::Basis(_) => FOLDED_ONCE,
            Spectrum::Folded(_) => FOLDED_TWICE,
        }
    }
}

/// Floating-point operations of the transform, as many as are computed for so many products per frame.
fn flops(clips: usize, samples: usize, products: usize) -> u64 {
    (2 * clips * frames(samples) * products) as u64
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Frames of one task.
const FRAMES_PER_TASK: usize = 32;

fn forward_cpu<T: Real>(dims: Dims, waveform: &Tensor, tables: &Tables, table: &Tensor, mel: &mut Tensor) {
    if mel.is_empty() {
        return;
    }
    let (samples, frames, mels) = (dims.samples as usize, dims.frames as usize, dims.mels as usize);
    let (waveform, mel) = (waveform.cpu::<T>(), mel.cpu_mut::<T>());
    let (window, matrices) = table.cpu::<T>().split_at(BINS);
    let (bank, range) = (tables.bank.cpu::<T>(), tables.range.cpu::<i32>());
    mel.par_chunks_mut(FRAMES_PER_TASK * mels).enumerate().for_each(|(task, mel)| {
        let count = mel.len() / mels;
        let mut folded = vec![T::zero(); count * N_FFT];
        let mut frame = [T::zero(); N_FFT];
        for (i, folded) in folded.chunks_exact_mut(N_FFT).enumerate() {
            let row = task * FRAMES_PER_TASK + i;
            let clip = &waveform[row / frames * samples..][..samples];
            let start = (row % frames * HOP) as isize - (N_FFT / 2) as isize;
            if start >= 0 && start as usize + N_FFT <= samples {
                frame.copy_from_slice(&clip[start as usize..][..N_FFT]);
            } else {
                for (n, x) in frame.iter_mut().enumerate() {
                    *x = clip[reflect(start + n as isize, samples)];
                }
            }
            fold(&frame, window, folded);
        }
        let mut spectrum = vec![T::zero(); count * N_FFT];
        let (mut column, mut matrix) = (0, matrices);
        for n in FOLDED {
            let a = Mat { data: &folded[column..], row_stride: N_FFT, col_stride: 1 };
            gemm(count, n, n, a, Mat::rows(matrix, n), T::zero(), &mut spectrum[column..], N_FFT);
            column += n;
            matrix = &matrix[n * n..];
        }
        let mut power = [T::zero(); BINS];
        for (spectrum, mel) in spectrum.chunks_exact(N_FFT).zip(mel.chunks_exact_mut(mels)) {
            square(spectrum, &mut power);
            for ((mel, bank), range) in mel.iter_mut().zip(bank.chunks_exact(BINS)).zip(range.chunks_exact(2)) {
                let range = range[0] as usize..range[1] as usize;
                let total = super::sum(power[range.clone()].iter().zip(&bank[range]).map(|(&p, &w)| p * w));
                *mel = total.max(T::of(1e-10)).log10();
            }
        }
    });
    mel.par_chunks_mut(frames * mels).for_each(scale);
}

/// The place in the clip of sample `at` of the padded clip.
fn reflect(at: isize, samples: usize) -> usize {
    let last = samples as isize - 1;
    let at = at.abs();
    (if at > last { 2 * last - at } else { at }) as usize
}

/// The windowed frame folded twice, in the order of [`FOLDED`]: with e = x[n] + x[400 − n] and o = x[n] − x[400 − n], the
/// even cosines take e[n] + e[200 − n], the odd ones e[n] − e[200 − n], the even sines o[n] − o[200 − n], the odd ones
/// o[n] + o[200 − n]; the middle (n = 100) stands alone.
#[allow(clippy::needless_range_loop)] // the mirrored indices are the point
#[multiversion(targets = "simd")]
fn fold<T: Real>(frame: &[T; N_FFT], window: &[T], folded: &mut [T]) {
    let mut even = [T::zero(); BINS];
    let mut odd = [T::zero(); BINS];
    // x[400] would be x[0] of the next period; the window is 0 there.
    for n in 1..200 {
        even[n] = (frame[n] + frame[400 - n]) * window[n];
        odd[n] = (frame[n] - frame[400 - n]) * window[n];
    }
    even[200] = frame[200] * window[200];
    let (even_cos, rest) = folded.split_at_mut(FOLDED[0]);
    let (odd_cos, rest) = rest.split_at_mut(FOLDED[1]);
    let (even_sin, odd_sin) = rest.split_at_mut(FOLDED[2]);
    for n in 0..100 {
        even_cos[n] = even[n] + even[200 - n];
        odd_cos[n] = even[n] - even[200 - n];
    }
    even_cos[100] = even[100];
    for n in 1..100 {
        even_sin[n - 1] = odd[n] - odd[200 - n];
        odd_sin[n - 1] = odd[n] + odd[200 - n];
    }
    odd_sin[99] = odd[100];
}

/// |spectrum|², bin by bin, from the four transforms' outputs.
fn square<T: Real>(spectrum: &[T], power: &mut [T; BINS]) {
    let (even_cos, rest) = spectrum.split_at(FOLDED[0]);
    let (odd_cos, rest) = rest.split_at(FOLDED[1]);
    let (even_sin, odd_sin) = rest.split_at(FOLDED[2]);
    for (i, &cos) in even_cos.iter().enumerate() {
        power[2 * i] = cos * cos; // bins 0 and 200 have no sine
    }
    for (i, &sin) in even_sin.iter().enumerate() {
        power[2 * i + 2] += sin * sin;
    }
    for (i, (&cos, &sin)) in odd_cos.iter().zip(odd_sin).enumerate() {
        power[2 * i + 1] = cos * cos + sin * sin;
    }
}

/// Floor at the clip's maximum − 8, then (v + 4)/4.
fn scale<T: Real>(clip: &mut [T]) {
    let least = clip.iter().fold(T::of(-1e30), |a, &b| a.max(b)) - T::of(8.0);
    for value in clip {
        *value = (value.max(least) + T::of(4.0)) * T::of(0.25);
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch(gpu: &Gpu, rung: TileRung, dims: Dims, waveform: &Tensor, tables: &Tables, basis: &Tensor, mel: &Tensor, workspace: &Tensor) -> Result<()> {
    let rows = dims.clips as usize * dims.frames as usize;
    let run = |entry, side: Option<u32>, buffers: &[Option<View>], groups| {
        let constants: &[(&'static str, u32)] = &side.map_or(vec![], |side| vec![("TILE", side)]);
        let variant = match side {
            None => "",
            Some(32) => "_32",
            Some(_) => "_64",
        };
        gpu.launch(Launch { kernel: (OP, entry), constants, variant, buffers, dims: bytes_of(&dims), groups })
    };
    let buffers = views([waveform, basis, workspace]);
    // A thread of the naive rung makes a bin's cosine and sine sums, a tile holds them as two columns.
    match rung.tiles(rows, 2 * BINS, 1) {
        None => run("power_naive", None, &buffers, (rows * BINS).div_ceil(64))?,
        Some((side, groups)) => run("power_tile", Some(side), &buffers, groups)?,
    }
    let buffers = views([workspace, &tables.bank, &tables.range, mel]);
    run("mel_bank", None, &buffers, mel.len().div_ceil(64))?;
    run("clip_max", None, &views([mel, workspace]), dims.clips as usize)?;
    let per_thread = match gpu.language() {
        Language::Wgsl => 1,
        Language::Ptx => 4,
    };
    run("clamp_scale", None, &views([workspace, mel]), mel.len().div_ceil(256 * per_thread))
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// (clips, samples, mels)
#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize)] = &[
    (0, 400, 4), (1, 201, 1), (1, 319, 3), (1, 320, 40), (2, 321, 5), (1, 400, 80), (3, 399, 7), (1, 639, 128), (2, 801, 40), (1, 1009, 31),
    (5, 480, 33), (1, 1600, 80), (33, 201, 2), (1, 2111, 17), (2, 1279, 64), (1, 5281, 40),
];

/// What a case hears.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Sound {
    Noise,
    Tone,
    Silence,
}

fn draw_sound(mut draw: Draw, sound: Sound, clips: usize, samples: usize) -> Operand {
    let waveform = Operand::lazy("waveform", [clips, samples], Kind::Real, move || {
        let mut values = Vec::with_capacity(clips * samples);
        for clip in 0..clips {
            let pitch = 0.02 + 0.3 * draw.uniform();
            for n in 0..samples {
                values.push(match sound {
                    Sound::Noise => 0.3 * draw.normal(),
                    // Half a clip of tone over a soft noise: dynamic range for the floor at max − 8.
                    Sound::Tone => 0.01 * draw.normal() + if n * 2 > samples { 0.5 * (pitch * n as f64).sin() } else { 0.0 },
                    Sound::Silence if clip % 2 == 0 => 0.0,
                    Sound::Silence => 0.1 * draw.normal(),
                });
            }
        }
        values
    });
    if sound == Sound::Noise { Operand { fill: Fill::Normals(0.3), ..waveform } } else { waveform }
}

/// WGSL's `log` is good to 3 ulp; the product with 1/ln 10 adds one.
const LOG_ULP: f64 = 4.0;

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let listed =
        SHAPES.iter().flat_map(|&shape| [Sound::Noise, Sound::Tone, Sound::Silence].into_iter().flat_map(move |sound| shape_cases(shape, sound, LOG_ULP)));
    listed.chain(sized(&Sizes::DEMO)).collect()
}

/// The cases at a model's sizes.
pub fn sized(s: &Sizes) -> Vec<Case> {
    shape_cases((s.samples, s.clip, s.mels), Sound::Noise, LOG_ULP)
}

/// Every rung on one shape (clips, samples, mels). `log_ulp`: what the logarithm may add to twice the error of the plain loops.
fn shape_cases((clips, samples, mels): (usize, usize, usize), sound: Sound, log_ulp: f64) -> Vec<Case> {
    let mut cases = Vec::new();
    let label = format!("clips={clips} samples={samples} mels={mels} {sound:?}").to_lowercase();
    let waveform = draw_sound(Draw::new(&label), sound, clips, samples);
    for (entry, rung) in FORWARD {
        let outputs = vec![Output::overwritten("mel", [clips, frames(samples), mels], Kind::Real), Output::scratch(workspace(clips, samples))];
        let made = Mutex::new(None);
        let case = Case::new(entry, &label, vec![waveform.clone()], outputs, Compare::Reduction(log_ulp), move |i, o| {
            let [mel, workspace] = o else { unreachable!("two outputs") };
            let (device, dtype) = (i[0].device(), i[0].dtype());
            // A program makes its tables once: so does a case, so that the benchmark does not time it.
            let mut made = made.lock().unwrap_or_else(|e| e.into_inner());
            let tables = match made.take() {
                Some(Tables { bank, .. }) if !bank.device().same(device) || bank.dtype() != dtype => None,
                tables => tables,
            };
            let tables = made.insert(tables.map_or_else(|| Tables::new(device, dtype, 16_000, mels), Ok)?);
            forward_by(rung, &i[0], tables, mel, workspace)
        })
        .naive(move |i, o| {
            on_real!(i[0].dtype(), naive_forward::<T>(mels, i, o));
            Ok(())
        });
        let flops = |products| flops(clips, samples, products);
        cases.push(case.flops(flops(FOLDED_ONCE)).cpu_flops(flops(FOLDED_TWICE), flops(UNFOLDED)));
    }
    cases
}

fn naive_forward<T: Real>(mels: usize, inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (clips, samples) = (inputs[0].rows(), inputs[0].dim(1));
    let (waveform, mel) = (inputs[0].cpu::<T>(), outputs[0].cpu_mut::<T>());
    let bank: Vec<T> = mel_bank(16_000.0, mels).into_iter().map(T::of).collect();
    // [n][bin]: each bin's sum runs over n in order, all bins side by side.
    let basis: Vec<(T, T)> = (0..N_FFT * BINS).map(|i| turn(i / BINS * (i % BINS)).sin_cos()).map(|(sin, cos)| (T::of(cos), T::of(sin))).collect();
    for clip in 0..clips {
        let values = &mut mel[clip * frames(samples) * mels..][..frames(samples) * mels];
        for t in 0..frames(samples) {
            let frame: Vec<T> =
                (0..N_FFT).map(|n| waveform[clip * samples + reflect((t * HOP + n) as isize - (N_FFT / 2) as isize, samples)] * T::of(window(n))).collect();
            let mut spectrum = [(T::zero(), T::zero()); BINS];
            for (&x, basis) in frame.iter().zip(basis.chunks_exact(BINS)) {
                for (sum, &(cos, sin)) in spectrum.iter_mut().zip(basis) {
                    *sum = (sum.0 + x * cos, sum.1 + x * sin);
                }
            }
            let power = spectrum.map(|(cos, sin)| cos * cos + sin * sin);
            for band in 0..mels {
                let total = super::sum((0..BINS).map(|bin| power[bin] * bank[band * BINS + bin]));
                values[t * mels + band] = total.max(T::of(1e-10)).log10();
            }
        }
        let least = values.iter().fold(T::of(-1e30), |a, &b| a.max(b)) - T::of(8.0);
        for value in values {
            *value = (value.max(least) + T::of(4.0)) / T::of(4.0);
        }
    }
}

/// None: the basis is fixed and nothing before it is trained.
pub fn gradients() -> Vec<GradientCase> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each folding halves the products.
    #[test]
    fn products_are_those_that_are_computed() {
        let matrices: usize = FOLDED.iter().map(|n| n * n).sum();
        assert_eq!((UNFOLDED, FOLDED_ONCE, FOLDED_TWICE), (400 * 402, 200 * 402, matrices));
        assert!((UNFOLDED as f64 / FOLDED_TWICE as f64 - 4.0).abs() < 0.05);
        let case = sized(&Sizes::DEMO).remove(0);
        let frames = (Sizes::DEMO.samples * frames(Sizes::DEMO.clip)) as u64;
        assert_eq!([(false, false), (true, false), (true, true)].map(|(cpu, plain)| case.computed(cpu, plain) / frames / 2), [80_400, 40_002, 160_800]);
    }

    #[test]
    fn every_case() {
        crate::check::assert_op(OP);
    }

    #[test]
    fn drawn_shapes() {
        use proptest::prelude::*;
        // No tones: what the plain loops happen to get right in bands that all but cancel is not a fair measure for one small draw.
        let shapes = (1..4usize, 201..1500usize, 1..130usize, prop_oneof![Just(Sound::Noise), Just(Sound::Silence)]);
        crate::check::assert_drawn(12, shapes, |(clips, samples, mels, sound)| shape_cases((clips, samples, mels), sound, 4.0 * LOG_ULP));
    }

    /// Half a second, a whole second, and the 30 seconds of Whisper itself.
    #[test]
    fn frames_are_counted_as_whisper_does() {
        assert_eq!([8_000, 16_000, 480_000].map(frames), [50, 100, 3000]);
    }

    /// Every band is a triangle of area 1 over its own bins (within what sampling at 40 Hz leaves of a narrow one).
    #[test]
    fn wide_bands_have_area_one() {
        let bank = mel_bank(16_000.0, 40);
        for band in bank.chunks_exact(BINS).skip(20) {
            let area = band.iter().sum::<f64>() * 40.0;
            assert!((area - 1.0).abs() < 0.02, "{area}");
        }
    }

    #[test]
    fn a_clip_too_short_to_reflect_is_refused() {
        let tables = Tables::new(&Device::Cpu, DType::F32, 16_000, 8).unwrap();
        let zeros = |shape: &[usize]| Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap();
        let error = forward(&zeros(&[1, 200]), &tables, &mut zeros(&[1, 1, 8]), &mut zeros(&[400])).unwrap_err();
        assert_eq!(error.to_string(), "log_mel: waveform: expected more than 200 samples per clip (the ends are reflected), found [1, 200]");
    }
}
