//! Attention: every row looks at one interval of rows, fused, with an online softmax.
//!
//! `o_i = Σ_j p_ij v_j` with `p_ij = exp(scale · q_i·k_j − lse_i)` and `lse_i = ln Σ_j exp(scale · q_i·k_j)`, where j runs over
//! `visible[i] = [start, end)` and nothing else. Query head h reads key and value head `h / (H / Hkv)` (grouped-query
//! attention: Ainslie et al. 2023, arXiv 2305.13245). The score matrix is never stored: forward builds the sums online
//! (Milakov and Gimelshein 2018, arXiv 1805.02867; FlashAttention: Dao et al. 2022, arXiv 2205.14135).
//!
//! Backward recomputes `p` from `lse`. With `dp_ij = do_i·v_j` and `delta_i = Σ_j p_ij dp_ij = do_i·o_i`, the softmax's
//! gradient is `ds_ij = p_ij (dp_ij − delta_i)`, and `dq_i = scale Σ_j ds_ij k_j`, `dk_j = scale Σ_i ds_ij q_i`,
//! `dv_j = Σ_i p_ij do_i`; the sums over i of one KV head run over all query heads that read it.
//!
//! [`probabilities()`] writes chosen rows of `p` for people to look at.
//!
//! Rungs of forward on wgpu: `naive` (one thread per row and head; what short heads take) and `tiled`, where a workgroup owns
//! a tile of rows, takes tiles of keys between the first and the last that one of its rows sees, and keeps scores and
//! outputs in registers; K and V take turns in one buffer of shared memory. On NVIDIA GPUs `naive` is one warp per row and
//! head, `tiled` the same idea as on wgpu in f32 and tensor cores in bf16; it is what every head takes. On the CPU see `cpu.rs`.

mod cases;
mod cpu;
mod hopper;
mod naive;
mod probabilities;
mod shapes;
mod tile;

pub use cases::{cases, gradients, sized};
pub use probabilities::probabilities;

use super::field::DimsField;
use super::{Call, Op, Pass, activation, exactly, on_real, size, statistic, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Language, Launch, View, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;

const OP: &str = "attention";
/// The file of the backward pass.
const BACKWARD: &str = "attention_backward";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP, BACKWARD],
    passes: &[Pass { name: "forward", kernel: (OP, "forward_naive") }, Pass { name: "backward", kernel: (BACKWARD, "dkv") }],
    cases,
    sized,
    gradients,
    fields: FIELDS,
};
/// Floating-point operations per pair of rows that see each other and column of the query heads, forward and backward: two products of 2,
/// then five. dK and dV need four of the five, dQ the fifth; what its kernel computes once more is not counted.
const FLOPS: [u64; 2] = [4, 10];
const DQ_FLOPS: u64 = 2;
/// The largest head that the kernels' register tiles hold, and the smallest that has room for a row's statistics
/// (attention_backward.wgsl).
const HEAD_DIMS: std::ops::RangeInclusive<usize> = 4..=128;
/// The log-sum-exp of a row that sees nothing: finite, because WGSL may assume that infinities do not occur.
pub const EMPTY: f32 = -1e30;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[DimsField::option("scale", "any; what Qwen3 and most models take is 1 / sqrt(head_dim)")];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    queries: u32,
    keys: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    /// WGSL has it as a `const`, for the sizes of its arrays.
    head_dim: u32,
    /// Rows that [`probabilities()`] is asked for; 0 elsewhere.
    rows: u32,
    padding: u32,
}

/// A call whose sizes have been checked.
struct Checked {
    dims: Dims,
    dtype: DType,
    device: Device,
}

impl Checked {
    fn new(q: &Tensor, k: &Tensor, scale: f32) -> Result<Self> {
        let dtype = activation(OP, "q", q)?;
        let device = q.device().clone();
        let (&[queries, heads, head_dim], &[keys, kv_heads, _]) = (q.shape().dims(), k.shape().dims()) else {
            let (name, found) = if q.shape().dims().len() == 3 { ("k", k.shape()) } else { ("q", q.shape()) };
            return Err(Error::mismatch(OP, name, "three sizes: [rows, heads, head_dim]", found));
        };
        if !HEAD_DIMS.contains(&head_dim) {
            return Err(Error::mismatch(OP, "q", format!("a head_dim from {} to {}", HEAD_DIMS.start(), HEAD_DIMS.end()), q.shape()));
        }
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(Error::mismatch(OP, "k", format!("a number of KV heads that divides the {heads} query heads"), k.shape()));
        }
        let dims = Dims {
            queries: size(OP, "rows of q", queries)?,
            keys: size(OP, "rows of k", keys)?,
            heads: size(OP, "heads", heads)?,
            kv_heads: size(OP, "KV heads", kv_heads)?,
            scale,
            head_dim: head_dim as u32,
            rows: 0,
            padding: 0,
        };
        Ok(Checked { dims, dtype, device })
    }

    /// `[Nk, Hkv, d]`
    fn shape_of_keys(&self) -> [usize; 3] {
        [self.dims.keys as usize, self.dims.kv_heads as usize, self.dims.head_dim as usize]
    }

    /// `[Nq, H]`
    fn shape_of_rows(&self) -> [usize; 2] {
        [self.dims.queries as usize, self.dims.heads as usize]
    }

    /// Pairs of rows that see each other, times the columns of the query heads. Only called during a trace.
    fn cells(&self, visible: &Tensor) -> u64 {
        super::call::pairs(visible, self.dims.keys as usize) * self.dims.heads as u64 * self.dims.head_dim as u64
    }

    fn call<'a, T: Real>(&self, q: &'a Tensor, k: &'a Tensor, v: &'a Tensor, visible: &'a Tensor) -> cpu::AttentionInputs<'a, T> {
        cpu::AttentionInputs {
            q: q.cpu(),
            k: k.cpu(),
            v: v.cpu(),
            visible: visible.cpu(),
            queries: self.dims.queries as usize,
            keys: self.dims.keys as usize,
            heads: self.dims.heads as usize,
            kv_heads: self.dims.kv_heads as usize,
            head_dim: self.dims.head_dim as usize,
            scale: T::of(self.dims.scale as f64),
        }
    }
}

/// Which kernel forward takes on a GPU; the CPU has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rung {
    Naive,
    /// Tiles; on wgpu such that fit this many bytes of workgroup memory, or what the adapter grants where that is less.
    Tiled(usize),
    /// `kernels/hopper/attention.cu`, one thing after the other.
    Wgmma,
    /// `kernels/hopper/attention.cu`, products beside exponentials; with the backward pass of the same folder.
    Overlapped,
}

impl Rung {
    /// A head of up to 32 elements fits a thread's registers, with its output: nothing needs to be shared. On the demo's
    /// packed samples (d = 16, llvmpipe) the naive rung took 5.6 ms against 23 for tiles, which look at keys that their
    /// rows do not see; on 512 causal rows of d = 64, tiles took 40 ms against 52.
    /// With PTX, tiles always: sixteen rows that share their loads beat sixteen warps that do not, whatever the head.
    fn of(checked: &Checked) -> Self {
        match &checked.device {
            Device::Gpu(gpu) if gpu.language() == Language::Wgsl && checked.dims.head_dim <= 32 => Rung::Naive,
            Device::Gpu(gpu) if hopper::takes(gpu, &checked.dims, checked.dtype) => Rung::Overlapped,
            _ => Rung::Tiled(WORKGROUP_BYTES),
        }
    }
}

/// Workgroup memory to plan tiles for where the adapter grants it: against 16 KiB, forward took 40 ms instead of 49 and
/// backward 140 instead of 261 (512 causal rows, 4 heads of 64, llvmpipe).
const WORKGROUP_BYTES: usize = 32 << 10;
/// What every WebGPU adapter grants.
const LEAST_WORKGROUP_BYTES: usize = 16 << 10;

/// `o = softmax(scale · q kᵀ) v` over `visible`, and what [`backward`] needs.
///
/// Shapes: `q`, `o [Nq, H, d]`; `k`, `v [Nk, Hkv, d]` with `H` a multiple of `Hkv` and `4 ≤ d ≤ 128`; `visible [Nq, 2]` i32,
/// the half-open interval of keys that a row sees (it is cut to `[0, Nk)`); `lse [Nq, H]`. A row with an empty interval gets
/// `o = 0` and `lse =` [`EMPTY`]. dtype f32 (f64 on the CPU; on NVIDIA GPUs also bf16, with `lse` in f32).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::attention;
///
/// let [q, k] = [(); 2].map(|_| Tensor::zeros(&Device::Cpu, [2, 1, 4], DType::F32).unwrap()); // [N, H, d]: all scores are equal
/// let v = Tensor::from_slice(&Device::Cpu, [2, 1, 4], &[0f32, 0.0, 0.0, 0.0, 6.0, 6.0, 6.0, 6.0])?;
/// let visible = Tensor::from_slice(&Device::Cpu, [2, 2], &[0, 1, 0, 2])?; // causal: row 0 sees itself, row 1 both
/// let mut o = Tensor::zeros(&Device::Cpu, [2, 1, 4], DType::F32)?;
/// let mut lse = Tensor::zeros(&Device::Cpu, [2, 1], DType::F32)?;
/// attention::forward(&q, &k, &v, &visible, 0.5, &mut o, &mut lse)?;
/// assert_eq!(o.read::<f32>()?, [0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, visible: &Tensor, scale: f32, o: &mut Tensor, lse: &mut Tensor) -> Result<()> {
    forward_rung(None, q, k, v, visible, scale, o, lse)
}

fn forward_rung(rung: Option<Rung>, q: &Tensor, k: &Tensor, v: &Tensor, visible: &Tensor, scale: f32, o: &mut Tensor, lse: &mut Tensor) -> Result<()> {
    let checked = Checked::new(q, k, scale)?;
    let dtype = checked.dtype;
    let call = Call::new(OP, "forward", q.device())
        .reads("q", q, q.shape(), dtype)?
        .reads("k", k, exactly(checked.shape_of_keys()), dtype)?
        .reads("v", v, k.shape(), dtype)?
        .reads("visible", visible, [checked.dims.queries as usize, 2], DType::I32)?
        .writes("o", o, q.shape(), dtype)?
        .writes("lse", lse, checked.shape_of_rows(), statistic(dtype))?
        .begin(|| Work::product(FLOPS[0] * checked.cells(visible)));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(&checked, q, k, v, visible, o, lse)),
        Device::Gpu(gpu) => {
            let buffers = views([q, k, v, visible, &*o, &*lse]);
            launch_forward(gpu, rung.unwrap_or_else(|| Rung::of(&checked)), &checked, &buffers)?;
        }
    }
    call.end([&*o, &*lse]);
    Ok(())
}

/// The gradients of [`forward`]: `dq [Nq, H, d]`, `dk` and `dv [Nk, Hkv, d]`, all overwritten.
///
/// `o [Nq, H, d]` and `lse [Nq, H]` are what forward wrote, `d_o [Nq, H, d]` the gradient of `o`. `visible_by [Nk, 2]` i32 is
/// the half-open interval of rows that may see a key: it must hold every row that does and may hold more, `visible` decides.
/// `delta [Nq, H]` is working memory. dtype f32 (f64 on the CPU; on NVIDIA GPUs also bf16, with `lse` and `delta` in f32).
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    d_o: &Tensor,
    visible: &Tensor,
    visible_by: &Tensor,
    scale: f32,
    delta: &mut Tensor,
    dq: &mut Tensor,
    dk: &mut Tensor,
    dv: &mut Tensor,
) -> Result<()> {
    backward_rung(None, q, k, v, o, lse, d_o, visible, visible_by, scale, delta, dq, dk, dv)
}

fn backward_rung(
    rung: Option<Rung>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    d_o: &Tensor,
    visible: &Tensor,
    visible_by: &Tensor,
    scale: f32,
    delta: &mut Tensor,
    dq: &mut Tensor,
    dk: &mut Tensor,
    dv: &mut Tensor,
) -> Result<()> {
    let checked = Checked::new(q, k, scale)?;
    let (dims, dtype) = (checked.dims, checked.dtype);
    let call = Call::new(OP, "backward", q.device())
        .reads("q", q, q.shape(), dtype)?
        .reads("k", k, exactly(checked.shape_of_keys()), dtype)?
        .reads("v", v, k.shape(), dtype)?
        .reads("o", o, q.shape(), dtype)?
        .reads("lse", lse, checked.shape_of_rows(), statistic(dtype))?
        .reads("d_o", d_o, q.shape(), dtype)?
        .reads("visible", visible, [dims.queries as usize, 2], DType::I32)?
        .reads("visible_by", visible_by, [dims.keys as usize, 2], DType::I32)?
        .takes("delta", delta, checked.shape_of_rows(), statistic(dtype))?
        .writes("dq", dq, q.shape(), dtype)?
        .writes("dk", dk, k.shape(), dtype)?
        .writes("dv", dv, k.shape(), dtype)?
        .begin(|| {
            let cells = checked.cells(visible);
            Work::product(FLOPS[1] * cells).of_launch("delta", 0u64).of_launch("dq_rows", DQ_FLOPS * cells)
        });
    match call.device() {
        Device::Cpu => on_real!(dtype, backward_cpu::<T>(&checked, q, k, v, o, lse, d_o, visible, dq, dk, dv)),
        Device::Gpu(gpu) => {
            let (inputs, outputs) = ([q, k, v, o, lse, d_o, visible, visible_by], [&*delta, &*dq, &*dk, &*dv]);
            launch_backward(gpu, rung.unwrap_or_else(|| Rung::of(&checked)), &checked, inputs, outputs)?;
        }
    }
    call.end([&*dq, &*dk, &*dv]);
    Ok(())
}

// ── CPU: see cpu.rs ──────────────────────────────────────────────────────────────────────────────────────────────

fn forward_cpu<T: Real>(checked: &Checked, q: &Tensor, k: &Tensor, v: &Tensor, visible: &Tensor, o: &mut Tensor, lse: &mut Tensor) {
    cpu::forward(checked.call::<T>(q, k, v, visible), o.cpu_mut(), lse.cpu_mut(), T::of(EMPTY as f64));
}

fn backward_cpu<T: Real>(
    checked: &Checked,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    d_o: &Tensor,
    visible: &Tensor,
    dq: &mut Tensor,
    dk: &mut Tensor,
    dv: &mut Tensor,
) {
    let saved = cpu::Saved { o: o.cpu(), lse: lse.cpu(), d_o: d_o.cpu() };
    cpu::backward(checked.call::<T>(q, k, v, visible), saved, dq.cpu_mut(), dk.cpu_mut(), dv.cpu_mut());
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// vec4 of a head's row, and their distance in shared memory.
fn vec4s(head_dim: usize) -> (usize, usize) {
    let d4 = head_dim.div_ceil(4);
    (d4, d4 | 1)
}

/// TILE_Q, TILE_K and THREADS_X of the forward kernel: the largest tiles that fit.
fn forward_tiles(head_dim: usize, bytes: usize) -> [usize; 3] {
    let (d4, stride) = vec4s(head_dim);
    // Sixteen vec4 of output per thread are as many registers as it should have: 64 rows up to d = 64.
    let fits = |&(q, k): &(usize, usize)| 16 * (q + k) * stride + 4 * q * (k + 2) <= bytes && (q < 64 || d4 <= 16);
    let (q, k) = [(64, 32), (64, 16), (32, 16), (16, 16), (16, 8)].into_iter().find(fits).expect("16 · 8 fits the least that WebGPU grants");
    // Short rows: fewer threads across, so that none is left over.
    [q, k, if d4 <= 8 { 4 } else { 8 }]
}

/// OWN, SWEEP and THREADS_X of the backward kernels: the largest tiles that fit.
fn backward_tile_sizes(head_dim: usize, bytes: usize) -> [usize; 3] {
    let (d4, stride) = vec4s(head_dim);
    let fits = |&(own, sweep): &(usize, usize)| 32 * (own + sweep) * stride + 8 * own * (sweep + 1) + 16 * sweep <= bytes;
    let (own, sweep) =
        [(32, 32), (32, 16), (32, 8), (16, 16), (16, 8), (8, 8), (8, 4)].into_iter().find(fits).expect("8 · 4 fits the least that WebGPU grants");
    [own, sweep, if d4 <= 4 { 4 } else { 8 }]
}

/// The workgroup memory to plan with.
fn granted(gpu: &Gpu, bytes: usize) -> usize {
    bytes.min(gpu.shared_bytes())
}

fn launch_forward(gpu: &Gpu, rung: Rung, checked: &Checked, buffers: &[Option<View>]) -> Result<()> {
    let dims = checked.dims;
    let (rows, heads, head_dim) = (dims.queries as usize, dims.heads as usize, dims.head_dim as usize);
    let bytes = bytes_of(&dims);
    let launch = |entry, constants: &[_], variant, groups| gpu.launch(Launch { kernel: (OP, entry), constants, variant, buffers, dims: bytes, groups });
    match (gpu.language(), rung) {
        (Language::Wgsl, Rung::Naive) => launch("forward_naive", &[("HEAD_DIM", dims.head_dim)], "", (rows * heads).div_ceil(64)),
        (Language::Wgsl, Rung::Tiled(bytes)) => {
            let [tile_q, tile_k, threads_x] = forward_tiles(head_dim, granted(gpu, bytes));
            let constants = [("HEAD_DIM", dims.head_dim), ("TILE_Q", tile_q as u32), ("TILE_K", tile_k as u32), ("THREADS_X", threads_x as u32)];
            launch("forward", &constants, "", rows.div_ceil(tile_q) * heads)
        }
        (_, Rung::Wgmma | Rung::Overlapped) => {
            hopper::expect(&dims, checked.dtype, &checked.device)?;
            hopper::forward(gpu, rung, &dims, buffers)
        }
        (Language::Ptx, Rung::Naive) => launch("forward_naive", &[], variant(checked.dtype), (rows * heads).div_ceil(4)),
        (Language::Ptx, Rung::Tiled(_)) => launch("forward", &[], sized_variant(head_dim, checked.dtype), rows.div_ceil(64) * heads),
    }
}

fn launch_backward(gpu: &Gpu, rung: Rung, checked: &Checked, inputs: [&Tensor; 8], outputs: [&Tensor; 4]) -> Result<()> {
    let [q, k, v, o, lse, d_o, visible, visible_by] = inputs;
    let [delta, dq, dk, dv] = outputs;
    let dims = checked.dims;
    let (rows, keys, heads, kv_heads) = (dims.queries as usize, dims.keys as usize, dims.heads as usize, dims.kv_heads as usize);
    let bytes = match rung {
        Rung::Wgmma | Rung::Overlapped => {
            hopper::expect(&dims, checked.dtype, &checked.device)?;
            return hopper::backward(gpu, &dims, inputs, outputs);
        }
        Rung::Tiled(bytes) => bytes,
        Rung::Naive => WORKGROUP_BYTES, // backward has one rung
    };
    let launch = |entry, constants: &[_], variant, buffers: &[&Tensor], groups| {
        let buffers: Vec<_> = buffers.iter().map(|b| Some(b.view())).collect();
        gpu.launch(Launch { kernel: (BACKWARD, entry), constants, variant, buffers: &buffers, dims: bytes_of(&dims), groups })
    };
    match gpu.language() {
        Language::Wgsl => {
            let [own, sweep, threads_x] = backward_tile_sizes(dims.head_dim as usize, granted(gpu, bytes));
            let constants = [("HEAD_DIM", dims.head_dim), ("OWN", own as u32), ("SWEEP", sweep as u32), ("THREADS_X", threads_x as u32)];
            // Until the last kernel fills it, dq holds what dkv needs to know of a row.
            launch("delta", &constants, "", &[o, d_o, lse, visible, delta, dq], (rows * heads).div_ceil(64))?;
            launch("dkv", &constants, "", &[q, k, v, d_o, dq, visible_by, dk, dv], keys.div_ceil(own) * kv_heads)?;
            launch("dq_rows", &constants, "", &[q, k, v, d_o, lse, delta, visible, dq], rows.div_ceil(own) * heads)
        }
        Language::Ptx => {
            let (sized, own) = (sized_variant(dims.head_dim as usize, checked.dtype), if checked.dtype == DType::Bf16 { 64 } else { 32 });
            launch("delta", &[], variant(checked.dtype), &[o, d_o, delta], (rows * heads).div_ceil(16))?;
            launch("dkv", &[], sized, &[q, k, v, d_o, lse, delta, visible, visible_by, dk, dv], keys.div_ceil(own) * kv_heads)?;
            launch("dq_rows", &[], sized, &[q, k, v, d_o, lse, delta, visible, dq], rows.div_ceil(own) * heads)
        }
    }
}

/// The compiled variant of a PTX kernel for the smallest size that holds a head.
fn sized_variant(head_dim: usize, dtype: DType) -> &'static str {
    match (head_dim, dtype == DType::Bf16) {
        (..=16, false) => "_d16",
        (..=16, true) => "_d16_bf16",
        (..=32, false) => "_d32",
        (..=32, true) => "_d32_bf16",
        (..=64, false) => "_d64",
        (..=64, true) => "_d64_bf16",
        (..=96, false) => "_d96",
        (..=96, true) => "_d96_bf16",
        (_, false) => "_d128", // HEAD_DIMS ends there
        (_, true) => "_d128_bf16",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(q: [usize; 3], k: [usize; 3], visible: &[i32]) -> [Tensor; 6] {
        let zeros = |shape| Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap();
        let visible = Tensor::from_slice(&Device::Cpu, [visible.len() / 2, 2], visible).unwrap();
        [zeros(q), zeros(k), zeros(k), visible, zeros(q), Tensor::zeros(&Device::Cpu, [q[0], q[1]], DType::F32).unwrap()]
    }

    #[test]
    fn equal_scores_average_the_values() {
        let [q, k, mut v, visible, mut o, mut lse] = tensors([3, 1, 4], [3, 1, 4], &[0, 3, 1, 2, 2, 2]);
        v.write::<f32>(&[0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0, 6.0, 6.0, 6.0, 6.0]).unwrap();
        forward(&q, &k, &v, &visible, 1.0, &mut o, &mut lse).unwrap();
        assert_eq!(o.read::<f32>().unwrap(), [[3.0; 4], [3.0; 4], [0.0; 4]].concat());
        assert_eq!(lse.read::<f32>().unwrap(), [3f32.ln(), 0.0, EMPTY]);
    }

    #[test]
    fn wrong_shapes_are_named() {
        let error = |q, k, visible: &[i32]| {
            let [q, k, v, visible, mut o, mut lse] = tensors(q, k, visible);
            forward(&q, &k, &v, &visible, 1.0, &mut o, &mut lse).unwrap_err().to_string()
        };
        assert_eq!(error([1, 4, 8], [1, 3, 8], &[0, 1]), "attention: k: expected a number of KV heads that divides the 4 query heads, found [1, 3, 8]");
        assert_eq!(error([1, 4, 130], [1, 4, 130], &[0, 1]), "attention: q: expected a head_dim from 4 to 128, found [1, 4, 130]");
        assert_eq!(error([1, 4, 8], [1, 4, 12], &[0, 1]), "attention: k: expected [1, 4, 8], found [1, 4, 12]");
        assert_eq!(error([2, 4, 8], [1, 4, 8], &[0, 1]), "attention: visible: expected [2, 2], found [1, 2]");
    }

    #[test]
    fn tiles_fit_and_divide() {
        for bytes in [16 << 10, 32 << 10, 48 << 10] {
            for head_dim in HEAD_DIMS {
                let stride = vec4s(head_dim).1;
                let [q, k, x] = forward_tiles(head_dim, bytes);
                assert!(16 * (q + k) * stride + 4 * q * (k + 2) <= bytes && q % (64 / x) == 0 && k % x == 0, "{head_dim}: {q} {k} {x}");
                let [own, sweep, x] = backward_tile_sizes(head_dim, bytes);
                assert!(32 * (own + sweep) * stride + 8 * own * (sweep + 1) + 16 * sweep <= bytes && own % (64 / x) == 0, "{head_dim}: {own} {sweep} {x}");
            }
        }
    }
}
