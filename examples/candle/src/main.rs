//! Fused attention of ours as a custom operation of candle, forward and backward: `cargo run --release --manifest-path examples/candle/Cargo.toml`.
//!
//! Candle's extension point is a trait: [`CustomOp3`] takes the storage of three tensors and returns that of one, and its `bwd` the
//! three gradients. Everything else (the tape, the optimiser, the rest of a model) stays candle's. What is replaced is attention as
//! candle's own models write it: a product, a mask, a softmax, a product, with the matrix of weights in memory.
//!
//! Candle's result in f64 is the reference. As in FlashAttention's own tests, o may be twice as far from it as candle's in f32 is, and the
//! gradients three times (their weights are computed again from a rounded log-sum-exp, candle's are kept); plus one unit in the last place
//! of the largest. Then both are timed, taking turns. `--features wgpu -- --device wgpu` runs the WGSL kernels instead of the CPU's, copies included.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Shape, Tensor, Var};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use trimodal::ops::attention;

/// Causal attention by our kernels. q `[rows, heads, head_dim]`, k and v `[rows, kv_heads, head_dim]`, f32 → o as q.
struct Fused {
    device: trimodal::Device,
    scale: f32,
    /// What forward leaves for backward, which is not an output of candle's operation: the log-sum-exp of each row and head.
    lse: Mutex<Option<trimodal::Tensor>>,
}

/// Our errors, converted to candle's.
fn ours<T>(result: trimodal::Result<T>) -> candle_core::Result<T> {
    result.map_err(candle_core::Error::wrap)
}

impl Fused {
    /// Rows of q see themselves and what is before them; row j is seen by itself and what comes after it.
    fn visible(&self, rows: usize) -> candle_core::Result<[trimodal::Tensor; 2]> {
        let n = rows as i32;
        let (sees, seen): (Vec<_>, Vec<_>) = (0..n).map(|i| ([0, i + 1], [i, n])).unzip();
        let tensor = |intervals: Vec<[i32; 2]>| ours(trimodal::Tensor::from_slice(&self.device, [rows, 2], intervals.as_flattened()));
        Ok([tensor(sees)?, tensor(seen)?])
    }

    fn tensor(&self, values: &[f32], shape: &[usize]) -> candle_core::Result<trimodal::Tensor> {
        ours(trimodal::Tensor::from_slice(&self.device, [shape[0], shape[1], shape[2]], values))
    }

    fn empty(&self, like: &[usize]) -> candle_core::Result<trimodal::Tensor> {
        ours(trimodal::Tensor::zeros(&self.device, like.to_vec().as_slice(), trimodal::DType::F32))
    }

    /// A tensor of candle's, copied.
    fn copied(&self, of: &Tensor) -> candle_core::Result<trimodal::Tensor> {
        self.tensor(&of.flatten_all()?.to_vec1::<f32>()?, of.dims())
    }
}

/// The values of a candle storage that lie as our kernels read them: one after the other.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let Some((begin, end)) = layout.contiguous_offsets() else { candle_core::bail!("attention: expected contiguous tensors") };
    Ok(&storage.as_slice::<f32>()?[begin..end])
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "trimodal-attention"
    }

    fn cpu_fwd(&self, q: &CpuStorage, lq: &Layout, k: &CpuStorage, lk: &Layout, v: &CpuStorage, lv: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let [rows, heads, _] = lq.dims() else { candle_core::bail!("attention: expected q [rows, heads, head_dim], found {:?}", lq.dims()) };
        let [q, k, v] = [(q, lq), (k, lk), (v, lv)].map(|(s, l)| contiguous(s, l).and_then(|values| self.tensor(values, l.dims())));
        let [visible, _] = self.visible(*rows)?;
        let (mut o, mut lse) = (self.empty(lq.dims())?, self.empty(&[*rows, *heads])?);
        ours(attention::forward(&q?, &k?, &v?, &visible, self.scale, &mut o, &mut lse))?;
        *self.lse.lock().unwrap() = Some(lse);
        Ok((CpuStorage::F32(ours(o.read())?), lq.shape().clone()))
    }

    fn bwd(&self, q: &Tensor, k: &Tensor, v: &Tensor, o: &Tensor, d_o: &Tensor) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, heads, _) = q.dims3()?;
        let lse = self.lse.lock().unwrap().take().ok_or_else(|| candle_core::Error::Msg("attention: backward before forward".into()))?;
        let [visible, visible_by] = self.visible(rows)?;
        let mut delta = self.empty(&[rows, heads])?;
        let [mut dq, mut dk, mut dv] = [self.empty(q.dims())?, self.empty(k.dims())?, self.empty(v.dims())?];
        let [tq, tk, tv, to, td] = [q, k, v, o, d_o].map(|of| self.copied(of));
        let (tq, tk, tv, to, td) = (tq?, tk?, tv?, to?, td?);
        ours(attention::backward(&tq, &tk, &tv, &to, &lse, &td, &visible, &visible_by, self.scale, &mut delta, &mut dq, &mut dk, &mut dv))?;
        let theirs = |gradient: &trimodal::Tensor, like: &Tensor| Tensor::from_vec(ours(gradient.read::<f32>())?, like.shape(), like.device()).map(Some);
        Ok((theirs(&dq, q)?, theirs(&dk, k)?, theirs(&dv, v)?))
    }
}

/// The same with candle's own operations, in any precision.
fn composed(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> candle_core::Result<Tensor> {
    let ((rows, heads, d), kv_heads) = (q.dims3()?, k.dim(1)?);
    let by_head = |x: &Tensor| -> candle_core::Result<Tensor> {
        let x = x.transpose(0, 1)?.unsqueeze(1)?; // [kv_heads, 1, rows, d]
        x.broadcast_as((kv_heads, heads / kv_heads, rows, d))?.reshape((heads, rows, d))
    };
    let (q, k, v) = (q.transpose(0, 1)?.contiguous()?, by_head(k)?, by_head(v)?);
    let hidden: Vec<f32> = (0..rows * rows).map(|at| if at % rows > at / rows { f32::NEG_INFINITY } else { 0.0 }).collect();
    let mask = Tensor::from_vec(hidden, (rows, rows), q.device())?.to_dtype(q.dtype())?;
    let scores = (q.matmul(&k.t()?)? * scale)?.broadcast_add(&mask)?;
    let e = scores.broadcast_sub(&scores.max_keepdim(2)?.detach())?.exp()?;
    let p = e.broadcast_div(&e.sum_keepdim(2)?)?;
    p.matmul(&v)?.transpose(0, 1)?.contiguous()
}

/// o and the gradients of q, k and v of the loss Σ o · weight, and how long it took.
fn step(inputs: &[Tensor; 4], attend: impl Fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>) -> Result<([Tensor; 4], Duration)> {
    let [q, k, v] = [0, 1, 2].map(|i| Var::from_tensor(&inputs[i]));
    let (q, k, v) = (q?, k?, v?);
    let begin = Instant::now();
    let o = attend(&q, &k, &v)?;
    let gradients = (&o * &inputs[3])?.sum_all()?.backward()?;
    let took = begin.elapsed();
    let [dq, dk, dv] = [&q, &k, &v].map(|x| gradients.get(x).cloned().context("no gradient"));
    Ok(([o, dq?, dk?, dv?], took))
}

/// Numbers of mean 0 and deviation 1, the same on every run (splitmix64).
fn numbers(shape: (usize, usize, usize), seed: u64) -> candle_core::Result<Tensor> {
    let uniform = |i: u64| {
        let mut x = (seed << 32 | i).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    let count = shape.0 * shape.1 * shape.2;
    Tensor::from_vec((0..count as u64).map(|i| (uniform(i) - 0.5) * 12f32.sqrt()).collect(), shape, &Device::Cpu)
}

/// The largest error and the largest magnitude; a NaN is an infinite error.
fn errors(got: &Tensor, truth: &Tensor) -> Result<(f64, f64)> {
    let [got, truth] = [got, truth].map(|x| x.to_dtype(DType::F64).and_then(|x| x.flatten_all()?.to_vec1::<f64>()));
    let (got, truth) = (got?, truth?);
    ensure!(got.len() == truth.len(), "{} elements, expected {}", got.len(), truth.len());
    let error = got.iter().zip(&truth).map(|(a, b)| (a - b).abs()).fold(0.0, |m, e| {
        if e <= m {
            m
        } else if e.is_nan() {
            f64::INFINITY
        } else {
            e
        }
    });
    Ok((error, truth.iter().fold(0.0, |m: f64, x| m.max(x.abs()))))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let device = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "cpu",
        ["--device", name @ ("cpu" | "wgpu" | "cuda")] => name,
        _ => bail!("usage: trimodal-in-candle [--device cpu|wgpu|cuda]"),
    };
    let device = trimodal::Device::open(device, None)?;
    println!("attention of trimodal on {device}, beside candle's on the CPU");
    for (rows, heads, kv_heads, d) in [(67, 4, 4, 16), (256, 8, 2, 64), (1024, 8, 8, 64)] {
        let inputs = [(1, heads), (2, kv_heads), (3, kv_heads), (4, heads)].map(|(seed, heads)| numbers((rows, heads, d), seed));
        let [q, k, v, weight] = inputs;
        let inputs = [q?, k?, v?, weight?];
        let scale = (d as f64).powf(-0.5);
        let fused = |q: &Tensor, k: &Tensor, v: &Tensor| {
            q.apply_op3_arc(k, v, Arc::new(Box::new(Fused { device: device.clone(), scale: scale as f32, lse: Mutex::new(None) })))
        };
        let plain = |q: &Tensor, k: &Tensor, v: &Tensor| composed(q, k, v, scale);
        let [a, b, c, e] = inputs.each_ref().map(|x| x.to_dtype(DType::F64));
        let (truth, _) = step(&[a?, b?, c?, e?], plain)?;
        let ((mine, _), (theirs, _)) = (step(&inputs, fused)?, step(&inputs, plain)?);
        println!("\nrows={rows} heads={heads}/{kv_heads} head_dim={d}       ours      candle's   (largest errors against candle in f64)");
        for (i, name) in ["o", "dq", "dk", "dv"].into_iter().enumerate() {
            let ((ours, most), (candles, _)) = (errors(&mine[i], &truth[i])?, errors(&theirs[i], &truth[i])?);
            println!("  {name:2}  {ours:36.2e}  {candles:10.2e}");
            let times = if name == "o" { 2.0 } else { 3.0 };
            let allowed = times * candles + most * f64::from(f32::EPSILON);
            ensure!(ours <= allowed, "{name} is wrong: off by {ours:e}, allowed {allowed:e}");
        }
        let mut times: [Vec<Duration>; 2] = Default::default();
        for _ in 0..(4_000_000 / (rows * rows)).clamp(5, 101) {
            times[0].push(step(&inputs, fused)?.1);
            times[1].push(step(&inputs, plain)?.1);
        }
        let [mine, theirs] = times.map(|mut all| {
            all.sort();
            all[all.len() / 2].as_secs_f64() * 1e3
        });
        println!("  forward and backward, ms {mine:15.3}  {theirs:10.3}   {:.2} x as fast", theirs / mine);
    }
    println!("\nevery result is right");
    Ok(())
}
