//! The whole of training in one file: a small transformer learns to say what it sees and hears.
//!
//!     cargo run --release --example one_file -- FOLDER [STEPS]
//!
//! FOLDER is one that `trimodal meadow FOLDER` wrote; without it this program draws its own. Every operation of a step is launched
//! here, in the order in which it happens: data → tensors → forward → backward → update → describe. It writes into tensors that it is
//! given; its formulas: `src/ops/NAME.rs`. The trainer (`src/train/step.rs`) computes the same bits, and decodes ahead, judges, saves.
//! `x` is the token matrix `[N, D]`: N rows of D numbers, one for each word, each patch of a picture and each frame of a sound. Once
//! something is a row, no layer asks where it came from: that is all that "multimodal" means.

use rand_chacha::{ChaCha8Rng, rand_core::Rng, rand_core::SeedableRng};
use std::f64::consts::{PI, TAU};
use std::{ops::ControlFlow, path::Path, path::PathBuf, time::Instant};
use trimodal::data::{Dataset, Fit, Limits, MediaSizes, Sample, Tokenizer, meadow};
use trimodal::ops::matmul::{self, Epilogue, Layout};
use trimodal::ops::{adamw, attention, conv1d, cross_entropy, embedding, log_mel, patch_embed, qk_norm_rope, rms_norm, rope, sample, swiglu};
use trimodal::{DType, Device, Error, Result, Tensor};

const D: usize = 64; // the width of a row
const F: usize = 176; // the width inside a layer's MLP
const LAYERS: usize = 3;
const HEADS: usize = 4; // attention looks in this many ways at once …
const HEAD: usize = 16; // … and compares this many numbers in each
const SCALE: f32 = 0.25; // 1/√HEAD: brings a sum of HEAD products back to the size of one
const EPS: f32 = 1e-6; // keeps a norm from dividing by zero
const IMAGE: usize = 48; // a picture has 48 × 48 pixels …
const PATCH: usize = 8; // … in patches of 8 × 8 …
const PATCHES: usize = 36; // … which makes 36 rows
const SAMPLES: usize = 8_000; // a sound is half a second at 16,000 Hz …
const MELS: usize = 40; // … as the loudness of 40 bands of pitch …
const FRAMES: [usize; 4] = [50, 50, 25, 13]; // … in 50 frames, which three convolutions make 50, 25 and then 13 rows
const STRIDE: [usize; 3] = [1, 2, 2];
const LONGEST: usize = 128; // rows that a sample may have
const ROWS: usize = 1920; // rows that a batch may have: about 32 samples

// ── Data: samples become rows ────────────────────────────────────────────────────────────────────────────────────────────────────
/// Samples as rows, one after the other, without padding: N rows, of which M predict a word, I pictures, C sounds.
#[derive(Default)]
struct Batch {
    id: Vec<i32>,         // [N]: the word in each row; −1 where a patch or a frame comes instead
    position: Vec<i32>,   // [N]: 0, 1, 2, … within each sample
    visible: Vec<i32>,    // [N, 2]: from where to where a row looks. There is no other mask.
    visible_by: Vec<i32>, // [N, 2]: from where to where it is looked at
    guess: Vec<i32>,      // [M]: the rows that predict which word stands in the row after them
    target: Vec<i32>,     // [M]: the word that stands there
    pixels: Vec<u8>,      // [I, 48, 48, 3]: red, green and blue, from 0 to 255
    patch_row: Vec<i32>,  // [I · 36]: the row of each patch
    mel: Vec<f32>,        // [C, 50, 40]: spectrograms
    frame_row: Vec<i32>,  // [C · 13]: the row of each frame
}

/// Adds a sample: `<bos> <boi> patches… <eoi> <boa> frames… <eoa> prompt… caption… <eos>`, without what it does not have and, unless
/// it is `taught`, without its caption. Returns false where the batch is full.
fn add(b: &mut Batch, sample: &Sample, tokenizer: &Tokenizer, bands: &log_mel::Tables, taught: bool, mut random: impl FnMut() -> f32) -> Result<bool> {
    let (special, start) = (tokenizer.special(), b.id.len() as i32);
    let encode = |text: &str| Ok(tokenizer.encode(text)?.into_iter().map(|word| word as i32).collect::<Vec<_>>());
    let mut id = vec![special.bos as i32];
    let mut embedded = |begin: u32, rows: usize, end: u32| {
        let first = start + id.len() as i32 + 1;
        id.extend([&[begin as i32], &vec![-1; rows][..], &[end as i32]].concat());
        first..first + rows as i32
    };
    let picture = sample.picture.as_ref().map_or(0..0, |_| embedded(special.boi, PATCHES, special.eoi));
    let sound = sample.sound.as_ref().map_or(0..0, |_| embedded(special.boa, FRAMES[3], special.eoa));
    id.extend(encode(sample.prompt.as_deref().unwrap_or(""))?);
    let mut words = Vec::new();
    if taught {
        words = encode(&sample.text)?;
        // Who reads every word so far learns the captions' habits instead of looking. So a share of them is hidden from the reader;
        // what has to be predicted stays. (The first number says whether any is. In this recipe the answer is always yes.)
        let share = if random() < 1.0 { random() } else { 0.0 };
        id.extend(words.iter().map(|&word| if random() < share { special.hide as i32 } else { word }));
        words.push(special.eos as i32);
        id.push(special.eos as i32);
    }
    let end = start + id.len() as i32;
    assert!(id.len() <= LONGEST, "{}: a sample of {} rows, at most {LONGEST} fit", sample.origin, id.len());
    if end as usize > ROWS {
        return Ok(false);
    }
    for row in start..end {
        // A row sees what its sample has before it, and itself. A patch sees its whole picture, in which nothing comes before.
        let own = if picture.contains(&row) { picture.clone() } else { row..row + 1 };
        b.position.push(row - start);
        b.visible.extend([start, own.end]);
        b.visible_by.extend([own.start, end]);
    }
    if let Some(picture) = &sample.picture {
        // What a thing is must not depend on its exact shade: each visit sees it in another light.
        let gain = [0; 3].map(|_| 1.0 + 0.25 * (2.0 * random() - 1.0));
        b.pixels.extend(picture.rgb.iter().zip(gain.iter().cycle()).map(|(&value, gain)| (value as f32 * gain + 0.5) as u8));
    }
    if let Some(sound) = &sample.sound {
        // Nothing is learned in the way from a waveform to a spectrogram: it is part of reading, on the CPU.
        let waveform = Tensor::from_slice(&Device::Cpu, [1, SAMPLES], sound)?;
        let ([mut mel], [mut ws]) = (zeros(&Device::Cpu, &[1, FRAMES[0], MELS])?, zeros(&Device::Cpu, &[log_mel::workspace(1, SAMPLES)])?);
        log_mel::forward(&waveform, bands, &mut mel, &mut ws)?;
        b.mel.extend(mel.read::<f32>()?);
    }
    b.id.extend(id);
    b.guess.extend(end - 1 - words.len() as i32..end - 1);
    b.target.extend(words);
    b.patch_row.extend(picture);
    b.frame_row.extend(sound);
    Ok(true)
}

// ── Tensors: what is learned ─────────────────────────────────────────────────────────────────────────────────────────────────────
/// Tensors of zeros, all of one shape: as many as there are names for them.
fn zeros<const COUNT: usize>(device: &Device, shape: &[usize]) -> Result<[Tensor; COUNT]> {
    let made: Vec<Tensor> = (0..COUNT).map(|_| Tensor::zeros(device, shape, DType::F32)).collect::<Result<_>>()?;
    Ok(made.try_into().expect("COUNT of them"))
}

/// Whole numbers on the device.
fn ints(device: &Device, values: &[i32]) -> Result<Tensor> {
    Tensor::from_slice(device, [values.len()], values)
}

// Where each tensor lies in the list of all. Parameters, gradients and AdamW's two moments are four such lists.
const EMBED: usize = 0; // then eleven for each layer
const NORM: usize = 1 + 11 * LAYERS;
const PATCH_EMBED: usize = NORM + 1;
const STEM: usize = PATCH_EMBED + 3;

/// Shape, mean and deviation of the first values of everything that is learned. `v`: the words of the vocabulary.
fn parameters(v: usize) -> Vec<(Vec<usize>, f64, f64)> {
    // A sum of n products starts about as large as what goes into it; what is added to the rows starts smaller.
    let (even, added) = (|n: usize| 1.0 / (n as f64).sqrt(), (2.0 * LAYERS as f64).sqrt());
    let mut all = vec![(vec![v, D], 0.0, 0.02)]; // EMBED: each word's row, and what a guess is compared with
    for _ in 0..LAYERS {
        all.extend([
            (vec![D], 1.0, 0.0),                                      // norm_1
            (vec![HEADS * HEAD, D], 0.0, even(D)),                    // wq: what a row asks for
            (vec![HEADS * HEAD, D], 0.0, even(D)),                    // wk: what a row is found by
            (vec![HEADS * HEAD, D], 0.0, even(D)),                    // wv: what a row tells whoever finds it
            (vec![HEAD], 1.0, 0.0),                                   // q_norm
            (vec![HEAD], 1.0, 0.0),                                   // k_norm
            (vec![D, HEADS * HEAD], 0.0, even(HEADS * HEAD) / added), // wo
            (vec![D], 1.0, 0.0),                                      // norm_2
            (vec![F, D], 0.0, even(D)),                               // w_gate
            (vec![F, D], 0.0, even(D)),                               // w_up
            (vec![D, F], 0.0, even(F) / added),                       // w_down
        ]);
    }
    all.push((vec![D], 1.0, 0.0)); // NORM
    all.extend([(vec![D, PATCH * PATCH * 3], 0.0, even(PATCH * PATCH * 3)), (vec![D], 0.0, 0.0)]); // PATCH_EMBED: weight and bias …
    all.push((vec![IMAGE / PATCH, 2, D], 0.0, 0.02)); // … and what is added by a patch's column and row
    for channels in [MELS, D, D] {
        all.extend([(vec![D, channels, 3], 0.0, even(channels * 3)), (vec![D], 0.0, 0.0)]); // STEM: weight and bias, three times
    }
    all
}

// ── Forward: from rows to a guess at the next word ───────────────────────────────────────────────────────────────────────────────
/// What the backward pass will need of the forward pass.
struct Kept {
    inputs: [Tensor; 4],       // the batch on the device
    asking: [[Tensor; 4]; 2],  // the rows that ask in a layer, and in the last
    stem: Vec<[Tensor; 2]>,    // [C, frames, D] each: a convolution before and after its GELU
    layers: Vec<[Tensor; 19]>, // see `forward`
    last: [Tensor; 4],         // [M, D], [M], [M, D], [M, V]: what leaves the last layer, 1/(each row's size), rows of one size, logits
}

/// `y [N, out] = x [N, in] · wᵀ` with `w [out, in]`.
fn linear(x: &Tensor, w: &Tensor, y: &mut Tensor) -> Result<()> {
    matmul::forward(Layout::Nt, x, w, Epilogue::default(), y, None)
}

/// Q of the N rows, in order: which they are, their positions, what they see, and (for each of all rows) which of them see it.
fn asking(device: &Device, b: &Batch, row: &[i32]) -> Result<[Tensor; 4]> {
    let position = Vec::from_iter(row.iter().map(|&row| b.position[row as usize]));
    let visible = Vec::from_iter(row.iter().flat_map(|&row| [b.visible[2 * row as usize], b.visible[2 * row as usize + 1]]));
    let visible_by = Vec::from_iter(b.visible_by.iter().map(|&edge| row.partition_point(|&row| row < edge) as i32));
    Ok([ints(device, row)?, ints(device, &position)?, ints(device, &visible)?, ints(device, &visible_by)?])
}

fn forward(p: &[Tensor], rope: &rope::Table, b: &Batch) -> Result<Kept> {
    let (device, n, images, clips) = (p[EMBED].device(), b.id.len(), b.patch_row.len() / PATCHES, b.frame_row.len() / FRAMES[3]);
    // What leaves the last layer is read only of the rows that guess. So in it nobody else asks, though all are asked.
    let asking = [asking(device, b, &Vec::from_iter(0..n as i32))?, asking(device, b, &b.guess)?];
    let (patch_row, frame_row) = (ints(device, &b.patch_row)?, ints(device, &b.frame_row)?);
    let pixels = Tensor::from_slice(device, [images, IMAGE, IMAGE, 3], &b.pixels)?;
    let mel = Tensor::from_slice(device, [clips, FRAMES[0], MELS], &b.mel)?;
    // The token matrix: words from a table, patches through one linear map, frames through three convolutions.
    let ([mut x, mut normed], [mut rstd]) = (zeros(device, &[n, D])?, zeros(device, &[n])?);
    embedding::forward(&p[EMBED], &ints(device, &b.id)?, None, &mut x)?;
    patch_embed::forward(&pixels, &p[PATCH_EMBED], &p[PATCH_EMBED + 1], &p[PATCH_EMBED + 2], &patch_row, &mut x)?;
    let mut stem: Vec<[Tensor; 2]> = Vec::new();
    for (i, w) in p[STEM..].chunks_exact(2).enumerate() {
        let [mut z, mut y] = zeros(device, &[clips, FRAMES[i + 1], D])?;
        conv1d::forward(stem.last().map_or(&mel, |[_, y]| y), &w[0], &w[1], STRIDE[i], &mut z, &mut y)?;
        stem.push([z, y]);
    }
    embedding::forward(&stem[2][1], &ints(device, &Vec::from_iter(0..frame_row.len() as i32))?, Some(&frame_row), &mut x)?;
    // The layers. Each reads the rows brought to one size, and adds to the rows themselves.
    rms_norm::forward(&x, None, &p[1], EPS, &mut normed, &mut rstd)?;
    let mut layers = Vec::new();
    for (i, w) in p[1..NORM].chunks_exact(11).enumerate() {
        let [_, wq, wk, wv, q_norm, k_norm, wo, norm_2, w_gate, w_up, w_down] = w else { unreachable!("eleven") };
        let [row, place, visible, _] = &asking[(i + 1) / LAYERS];
        let ([mut k, mut v, mut k_rotated], [mut rstd_k]) = (zeros(device, &[n, HEADS, HEAD])?, zeros(device, &[n, HEADS])?);
        let ([mut q, mut q_rotated, mut attended], n) = (zeros(device, &[row.len(), HEADS, HEAD])?, row.len());
        let ([mut rstd_q, mut lse], [mut gate, mut up, mut gated]) = (zeros(device, &[n, HEADS])?, zeros(device, &[n, F])?);
        let [mut x_asking, mut asks, mut delta, mut middle, mut normed_mlp, mut next, mut next_normed] = zeros(device, &[n, D])?;
        let [mut rstd_mlp, mut next_rstd] = zeros(device, &[n])?;
        embedding::forward(&x, row, None, &mut x_asking)?;
        embedding::forward(&normed, row, None, &mut asks)?;
        // Attention: a row takes from the rows that it sees, most where query and key match. Both are turned by position: distance counts.
        linear(&asks, wq, &mut q)?;
        linear(&normed, wk, &mut k)?;
        linear(&normed, wv, &mut v)?;
        qk_norm_rope::forward(&q, q_norm, place, rope, EPS, &mut q_rotated, &mut rstd_q)?;
        qk_norm_rope::forward(&k, k_norm, &asking[0][1], rope, EPS, &mut k_rotated, &mut rstd_k)?;
        attention::forward(&q_rotated, &k_rotated, &v, visible, SCALE, &mut attended, &mut lse)?;
        linear(&attended, wo, &mut delta)?;
        // MLP: each row by itself. The norm first adds what attention made: middle = x + delta.
        rms_norm::forward(&x_asking, Some((&delta, &mut middle)), norm_2, EPS, &mut normed_mlp, &mut rstd_mlp)?;
        linear(&normed_mlp, w_gate, &mut gate)?;
        linear(&normed_mlp, w_up, &mut up)?;
        swiglu::forward(&gate, &up, &mut gated)?;
        linear(&gated, w_down, &mut delta)?;
        // And so does the norm of whoever reads next: the next layer's norm_1 or, after the last, NORM.
        rms_norm::forward(&middle, Some((&delta, &mut next)), &p[1 + 11 * (i + 1)], EPS, &mut next_normed, &mut next_rstd)?;
        layers.push([x, rstd, normed, asks, q, k, v, rstd_q, rstd_k, q_rotated, k_rotated, lse, attended, middle, rstd_mlp, normed_mlp, gate, up, gated]);
        (x, rstd, normed) = (next, next_rstd, next_normed);
    }
    // How well each word of the vocabulary fits as the next one, after each row that guesses: the logits.
    let [mut logits] = zeros(device, &[b.guess.len(), p[EMBED].rows()])?;
    linear(&normed, &p[EMBED], &mut logits)?;
    Ok(Kept { inputs: [pixels, patch_row, mel, frame_row], asking, stem, layers, last: [x, rstd, normed, logits] })
}

// ── Backward: forward, read from the end ─────────────────────────────────────────────────────────────────────────────────────────
/// For `y = x · wᵀ`: `dx [N, in] (+)= dy · w` and `dw [out, in] += dyᵀ · x`. `dy` is how much the loss changes with each number of `y`.
fn linear_backward(dy: &Tensor, x: &Tensor, w: &Tensor, dx: &mut Tensor, accumulate: bool, dw: &mut Tensor) -> Result<()> {
    matmul::forward(Layout::Nn, dy, w, Epilogue { accumulate, ..Epilogue::default() }, dx, None)?;
    matmul::forward(Layout::Tn, dy, x, Epilogue { accumulate: true, ..Epilogue::default() }, dw, None)
}

/// Adds to the gradients `g`. The logits have become their own gradient.
fn backward(p: &[Tensor], g: &mut [Tensor], rope: &rope::Table, b: &Batch, kept: &Kept, ws: &mut Tensor) -> Result<()> {
    let ([pixels, patch_row, mel, frame_row], [x, rstd, normed, dlogits]) = (&kept.inputs, &kept.last);
    let (device, n, clips) = (ws.device().clone(), b.id.len(), mel.rows());
    let [mut dx, mut dguess] = zeros(&device, &[dlogits.rows(), D])?;
    linear_backward(dlogits, normed, &p[EMBED], &mut dguess, false, &mut g[EMBED])?;
    rms_norm::backward(&dguess, x, &p[NORM], rstd, None, &mut dx, &mut g[NORM], ws)?;
    for (i, saved) in kept.layers.iter().enumerate().rev() {
        let [row, place, visible, visible_by] = &kept.asking[(i + 1) / LAYERS];
        let ([mut dmiddle, mut dasking], [mut dgate, mut dup, mut dgated]) = (zeros(&device, &[row.len(), D])?, zeros(&device, &[row.len(), F])?);
        let ([mut dattended, mut dq], [mut delta]) = (zeros(&device, &[row.len(), HEADS, HEAD])?, zeros(&device, &[row.len(), HEADS])?);
        let ([mut dk, mut dv], [mut dadded, mut dnormed, mut dnext]) = (zeros(&device, &[n, HEADS, HEAD])?, zeros(&device, &[n, D])?);
        let layer = 1 + 11 * i..1 + 11 * (i + 1);
        let [norm_1, wq, wk, wv, q_norm, k_norm, wo, norm_2, w_gate, w_up, w_down] = &p[layer.clone()] else { unreachable!("eleven") };
        let [dnorm_1, dwq, dwk, dwv, dq_norm, dk_norm, dwo, dnorm_2, dw_gate, dw_up, dw_down] = &mut g[layer] else { unreachable!("eleven") };
        let [x, rstd, normed, asks, q, k, v, rstd_q, rstd_k, q_rotated, k_rotated, lse, attended, middle, rstd_mlp, normed_mlp, gate, up, gated] = saved;
        // dx is the gradient of what left the layer, and of both things whose sum that was: middle, and what the MLP added.
        linear_backward(&dx, gated, w_down, &mut dgated, false, dw_down)?;
        swiglu::backward(gate, up, &dgated, &mut dgate, &mut dup)?;
        linear_backward(&dgate, normed_mlp, w_gate, &mut dasking, false, dw_gate)?;
        linear_backward(&dup, normed_mlp, w_up, &mut dasking, true, dw_up)?;
        rms_norm::backward(&dasking, middle, norm_2, rstd_mlp, Some(&dx), &mut dmiddle, dnorm_2, ws)?;
        linear_backward(&dmiddle, attended, wo, &mut dattended, false, dwo)?;
        attention::backward(q_rotated, k_rotated, v, attended, lse, &dattended, visible, visible_by, SCALE, &mut delta, &mut dq, &mut dk, &mut dv)?;
        qk_norm_rope::backward(q, q_norm, rstd_q, place, rope, &mut dq, dq_norm, ws)?; // in place, turned back
        qk_norm_rope::backward(k, k_norm, rstd_k, &kept.asking[0][1], rope, &mut dk, dk_norm, ws)?;
        linear_backward(&dq, asks, wq, &mut dasking, false, dwq)?;
        // Back to their places among all rows; those that did not ask have zeros there.
        let iota = ints(&device, &Vec::from_iter(0..row.len() as i32))?;
        embedding::forward(&dmiddle, &iota, Some(row), &mut dadded)?;
        embedding::forward(&dasking, &iota, Some(row), &mut dnormed)?;
        linear_backward(&dk, normed, wk, &mut dnormed, true, dwk)?;
        linear_backward(&dv, normed, wv, &mut dnormed, true, dwv)?;
        rms_norm::backward(&dnormed, x, norm_1, rstd, Some(&dadded), &mut dnext, dnorm_1, ws)?;
        dx = dnext;
    }
    // The token matrix. A word gets the sum over the rows that it is in, added up in their order: so the rows are sorted by word.
    let (by_word, starts) = embedding::plan(&b.id, &Vec::from_iter(0..n as i32), p[EMBED].rows());
    embedding::backward(&dx, &ints(&device, &by_word)?, &ints(&device, &starts)?, &mut g[EMBED])?;
    let [dweight, dbias, dplace] = &mut g[PATCH_EMBED..STEM] else { unreachable!("three") };
    patch_embed::backward(pixels, &p[PATCH_EMBED], patch_row, &dx, dweight, dbias, dplace, None, ws)?;
    let [mut dy] = zeros(&device, &[clips, FRAMES[3], D])?;
    embedding::forward(&dx, frame_row, None, &mut dy)?;
    for (i, dw) in g[STEM..].chunks_exact_mut(2).enumerate().rev() {
        let [dweight, dbias] = dw else { unreachable!("two") };
        let ([mut dz], [mut dinput]) = (zeros(&device, &[clips, FRAMES[i + 1], D])?, zeros(&device, &[clips, FRAMES[i], D])?);
        let (input, wanted) = if i > 0 { (&kept.stem[i - 1][1], Some(&mut dinput)) } else { (mel, None) };
        conv1d::backward(input, &p[STEM + 2 * i], &kept.stem[i][0], &dy, STRIDE[i], &mut dz, wanted, dweight, dbias, ws)?;
        dy = dinput;
    }
    Ok(())
}

// ── Update: training ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
/// Trains for so many steps and describes a picture. Prints both, and returns the losses.
pub fn train(folder: &Path, device: &Device, steps: usize, seed: u64) -> Result<Vec<f32>> {
    let dataset = Dataset::open(folder, &Limits::default())?;
    let read = |row: usize| dataset.sample(&dataset.rows()[row], &MediaSizes { picture: IMAGE, fit: Fit::Crop, sample_rate: 16_000, samples: SAMPLES });
    let (learned, others): (Vec<usize>, Vec<usize>) = (0..dataset.rows().len()).partition(|&row| dataset.rows()[row].split.as_deref() == Some("train"));
    let tokenizer = Tokenizer::train(learned.iter().filter_map(|&row| dataset.rows()[row].text.as_deref()), 1024)?;
    let bands = log_mel::Tables::new(&Device::Cpu, DType::F32, 16_000, MELS)?;
    let rope = rope::Table::new(device, DType::F32, LONGEST, HEAD, 10_000.0)?;
    // Parameters, their gradients, and AdamW's two moments: running means of the gradients and of their squares.
    let list = parameters(tokenizer.vocabulary());
    let none = || list.iter().map(|(shape, ..)| Tensor::zeros(device, &shape[..], DType::F32)).collect::<Result<Vec<_>>>();
    let (mut p, mut g, mut m, mut v) = (none()?, none()?, none()?, none()?);
    for (i, (p, (_, mean, deviation))) in p.iter_mut().zip(&list).enumerate() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(i as u64);
        let mut uniform = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (TAU * uniform()).cos(); // Box and Muller
        p.write_f64(&Vec::from_iter((0..p.len()).map(|_| mean + deviation * normal())))?;
    }
    let [mut ws] = zeros(device, &[1 << 19])?; // memory for sums inside the operations: more than any of them asks for
    let (mut losses, mut order, mut epoch, begin) = (Vec::new(), Vec::new(), 0, Instant::now());
    for step in 1..=steps {
        if order.is_empty() {
            // An epoch visits every sample once, in an order of its own (Fisher and Yates). The last of the list is the next.
            let mut random = stream(seed, 1, epoch);
            order = learned.clone();
            (1..order.len()).rev().for_each(|i| order.swap(i, ((random.next_u32() as u64 * (i as u64 + 1)) >> 32) as usize));
            order.reverse();
            epoch += 1;
        }
        let mut batch = Batch::default();
        while let Some(&row) = order.last() {
            let mut random = stream(seed, 1 + epoch, row as u64);
            if !add(&mut batch, &read(row)?, &tokenizer, &bands, true, || (random.next_u32() >> 8) as f32 / (1 << 24) as f32)? {
                break; // it comes first in the next batch
            }
            order.pop();
        }
        // Forward, and the loss: how surprising the true words are, on average.
        let (mut kept, target) = (forward(&p, &rope, &batch)?, ints(device, &batch.target)?);
        let weight = Tensor::from_slice(device, [1], &[1.0 / target.len() as f32])?;
        let ([mut row_loss, mut log_sum_exp], [mut loss, mut norm]) = (zeros(device, &[target.len()])?, zeros(device, &[1])?);
        cross_entropy::forward(&kept.last[3], &target, &weight, &mut row_loss, &mut log_sum_exp, &mut loss, false)?;
        // Backward. The logits become their own gradient.
        g.iter_mut().try_for_each(Tensor::fill_zero)?;
        cross_entropy::backward(&mut kept.last[3], &target, &log_sum_exp, &weight)?;
        backward(&p, &mut g, &rope, &batch, &kept, &mut ws)?;
        // Update. The learning rate rises in a line, then falls along half a cosine: careful, bold, fine. Gradients that are too large
        // together are made smaller together. Matrices also shrink a little; norms and biases do not.
        let warmup = (0.04 * steps as f64).round().max(1.0);
        let progress = (step as f64 - warmup) / (steps as f64 - warmup);
        let lr = if progress > 0.0 { 4e-3 * (0.5 * (1.0 + (PI * progress).cos())) } else { 4e-3 * step as f64 / warmup };
        adamw::global_norm(&Vec::from_iter(&g), &mut norm, &mut ws)?;
        let hyper = adamw::Hyper { lr, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.3, max_norm: 1.0, step };
        let coefficients = Tensor::from_f64(device, [adamw::COEFFICIENTS], DType::F32, &hyper.coefficients()?)?;
        for (((p, g), m), v) in p.iter_mut().zip(&g).zip(&mut m).zip(&mut v) {
            let shrinking = if p.shape().dims().len() > 1 { p.len() } else { 0 };
            adamw::update(p, g, m, v, &coefficients, shrinking, &norm, Some(&loss), None)?;
        }
        losses.push(loss.read::<f32>()?[0]);
        if step <= 10 || step % 50 == 0 || step == steps {
            println!("step {step:5}  loss {:.4}  gradient {:.3}  {:.1} s", losses[step - 1], norm.read::<f32>()?[0], begin.elapsed().as_secs_f64());
        }
    }
    let shown = read(*others.first().unwrap_or(&learned[0]))?;
    println!("{} is:  {}\nthe model says: {}", shown.name, shown.text, describe(&p, &rope, &tokenizer, &bands, &shown)?);
    Ok(losses)
}

/// Random numbers of their own for each purpose and index, whatever was drawn before.
fn stream(seed: u64, purpose: u64, index: u64) -> ChaCha8Rng {
    let key = [seed, purpose, index, u64::from_be_bytes(*b"trimodal")].map(u64::to_le_bytes);
    ChaCha8Rng::from_seed(key.concat().try_into().expect("four times eight bytes"))
}

// ── Describe: one word after the other ───────────────────────────────────────────────────────────────────────────────────────────
/// The likeliest next word, again and again, until it is `<eos>`. (All rows go through each time; `src/model/generate.rs` spares that.)
fn describe(p: &[Tensor], rope: &rope::Table, tokenizer: &Tokenizer, bands: &log_mel::Tables, sample: &Sample) -> Result<String> {
    let (device, mut batch, mut said) = (p[EMBED].device(), Batch::default(), Vec::new());
    add(&mut batch, sample, tokenizer, bands, false, || 0.5)?; // 0.5: the light as it is
    let ([random], mut word) = (zeros(device, &[1])?, ints(device, &[0])?);
    loop {
        let rows = batch.id.len() as i32;
        batch.guess = vec![rows - 1]; // the last row's is the only guess that is read
        sample::forward(&forward(p, rope, &batch)?.last[3], 0.0, 0, 1.0, &random, &mut word)?; // temperature 0: nothing is left to chance
        let next = word.read::<i32>()?[0];
        if next == tokenizer.special().eos as i32 || batch.id.len() == LONGEST {
            return tokenizer.decode(&said);
        }
        said.push(next as u32);
        batch.id.push(next);
        batch.position.push(rows);
        batch.visible.extend([0, rows + 1]);
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().map_or_else(|| std::env::temp_dir().join("trimodal-one-file"), PathBuf::from);
    let steps = arguments.get(1).map_or(Ok(1000), |steps| steps.parse()).map_err(|_| Error::Usage("expected: one_file FOLDER STEPS".into()))?;
    if arguments.is_empty() && !folder.join("metadata.jsonl").exists() {
        println!("drawing 4,000 animals into {}", folder.display());
        meadow::write(&folder, &meadow::MeadowOptions { samples: 4_000, test_samples: 4, ..Default::default() }, &mut |_, _| ControlFlow::Continue(()))?;
    }
    train(&folder, &Device::open("auto", None)?, steps, 1).map(drop)
}
