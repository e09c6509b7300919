//! The launchers of `kernels/hopper/attention.cu` and `attention_backward.cu`.

use super::{BACKWARD, Checked, Dims, OP, Rung, views};
use crate::device::{Device, Gpu, Hopper, Launch, MapDim, TensorMap, View, variant};
use crate::error::{Error, Result};
use crate::ops::case::Draw;
use crate::ops::hopper;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;

/// What these kernels require that a call does not have, if anything; the portable ones serve it.
pub(super) fn misfit(dims: &Dims, dtype: DType) -> Option<String> {
    let head_dim = dims.head_dim;
    if dtype != DType::Bf16 {
        Some(format!("bf16, not {dtype}"))
    } else if !head_dim.is_multiple_of(8) {
        Some(format!("a head_dim that is a multiple of 8, not {head_dim}"))
    } else if dims.queries == 0 || dims.keys == 0 {
        Some("rows and keys".into())
    } else {
        (dims.scale < 0.0).then(|| format!("a scale of at least 0, not {}", dims.scale))
    }
}

/// Whether these kernels are chosen automatically. Heads that fill less than half of the compiled size use the portable ones.
pub(super) fn takes(gpu: &Gpu, dims: &Dims, dtype: DType) -> bool {
    dims.head_dim > 32 && misfit(dims, dtype).is_none() && hopper::takes(gpu, OP, test)
}

/// An error where one of these rungs was asked for and this call cannot use it.
pub(super) fn expect(dims: &Dims, dtype: DType, device: &Device) -> Result<()> {
    match misfit(dims, dtype).or_else(|| hopper::absent(device)) {
        None => Ok(()),
        Some(misfit) => Err(Error::mismatch(OP, "rung", format!("for Hopper's: {misfit}"), format!("a call on {device}"))),
    }
}

/// `[rows, heads, d]` as it is stored, in boxes of 64 rows and 64 elements of one head.
struct Heads<'a>(View<'a>, [MapDim; 3]);

impl<'a> Heads<'a> {
    fn new(tensor: View<'a>, heads: u32, head_dim: u32) -> Self {
        let (heads, head_dim) = (heads as usize, head_dim as usize);
        let row = heads * head_dim;
        let dim = |size, stride, box_size| MapDim { size, stride, box_size };
        Heads(tensor, [dim(head_dim, 1, 64), dim(heads, head_dim, 1), dim(tensor.len() / row, row, 64)])
    }

    fn map(&self) -> TensorMap<'_> {
        TensorMap { tensor: self.0, dims: &self.1 }
    }
}

/// The compiled size for a head, with an entry's shared memory for either.
fn sized(dims: &Dims, [d64, d128]: [usize; 2]) -> (&'static str, usize) {
    if dims.head_dim <= 64 { ("_d64_bf16", d64) } else { ("_d128_bf16", d128) }
}

pub(super) fn forward(gpu: &Gpu, rung: Rung, dims: &Dims, buffers: &[Option<View>]) -> Result<()> {
    let &[Some(q), Some(k), Some(v), visible, Some(o), lse] = buffers else { unreachable!("forward has six operands") };
    let (entry, rows, shared) = match rung {
        Rung::Overlapped => ("forward_overlapped", [192, 128], [90_240, 163_968]),
        _ => ("forward_wgmma", [128, 128], [82_048, 163_968]),
    };
    let (variant, shared) = sized(dims, shared);
    let rows = rows[(dims.head_dim > 64) as usize];
    let of = |tensor, heads| Heads::new(tensor, heads, dims.head_dim);
    let heads = [of(q, dims.heads), of(k, dims.kv_heads), of(v, dims.kv_heads), of(o, dims.heads)];
    let groups = (dims.queries as usize).div_ceil(rows) * dims.heads as usize;
    let launch = Launch { kernel: (OP, entry), constants: &[], variant, buffers: &[visible, lse], dims: bytes_of(dims), groups };
    gpu.launch_hopper(launch, Hopper { maps: &heads.each_ref().map(Heads::map), shared })
}

pub(super) fn backward<'a>(gpu: &Gpu, dims: &Dims, inputs: [&'a Tensor; 8], [delta, dq, dk, dv]: [&'a Tensor; 4]) -> Result<()> {
    let [q, k, v, o, lse, d_o, visible, visible_by] = inputs;
    let (rows, keys) = (dims.queries as usize, dims.keys as usize);
    let bytes = bytes_of(dims);
    let of = |tensor: &'a Tensor, heads| Heads::new(tensor.view(), heads, dims.head_dim);
    let [q, k, v, d_o_heads] = [of(q, dims.heads), of(k, dims.kv_heads), of(v, dims.kv_heads), of(d_o, dims.heads)];
    let [dq, dk, dv] = [of(dq, dims.heads), of(dk, dims.kv_heads), of(dv, dims.kv_heads)];
    let launch = |entry, shared, maps: &[TensorMap], buffers: &[Option<View>], groups| {
        let (variant, shared) = sized(dims, shared);
        let launch = Launch { kernel: (BACKWARD, entry), constants: &[], variant, buffers, dims: bytes, groups };
        gpu.launch_hopper(launch, Hopper { maps, shared })
    };

    let buffers = &views([o, d_o, delta]);
    let groups = (rows * dims.heads as usize).div_ceil(16);
    gpu.launch(Launch { kernel: (BACKWARD, "delta"), constants: &[], variant: variant(DType::Bf16), buffers, dims: bytes, groups })?;
    let maps = [q.map(), k.map(), v.map(), d_o_heads.map(), dk.map(), dv.map()];
    let buffers = &views([lse, delta, visible, visible_by]);
    launch("dkv", [67_648, 133_184], &maps, buffers, keys.div_ceil(128) * dims.kv_heads as usize)?;
    let maps = [q.map(), k.map(), v.map(), d_o_heads.map(), dq.map()];
    launch("dq_rows", [98_368, 196_672], &maps, &views([lse, delta, visible]), rows.div_ceil(128) * dims.heads as usize)
}

/// Forward and backward beside the CPU's, over several tiles that are cut, with grouped heads.
fn test(device: &Device) -> Result<()> {
    let Device::Gpu(gpu) = device else { return Ok(()) };
    for head_dim in [64, 128] {
        let (rows, heads, kv_heads) = (330, 2, 1);
        let mut draw = Draw::new("self-test");
        let shapes = [[rows, heads, head_dim], [rows, kv_heads, head_dim], [rows, kv_heads, head_dim], [rows, heads, head_dim]];
        let twins = shapes.iter().map(|shape| hopper::twin(device, &mut draw, shape, false)).collect::<Result<Vec<_>>>()?;
        let on = |device: &Device, [q, k, v, d_o]: [&Tensor; 4]| -> Result<Vec<Tensor>> {
            let causal: Vec<i32> = (0..rows as i32).flat_map(|i| [0, i + 1]).collect();
            let seen_by: Vec<i32> = (0..rows as i32).flat_map(|i| [i, rows as i32]).collect();
            let visible = Tensor::from_slice(device, [rows, 2], &causal)?;
            let visible_by = Tensor::from_slice(device, [rows, 2], &seen_by)?;
            let like = |t: &Tensor| Tensor::zeros(device, t.shape(), t.dtype());
            let row = || Tensor::zeros(device, [rows, heads], DType::F32);
            let (mut o, mut lse, mut delta) = (like(q)?, row()?, row()?);
            let (mut dq, mut dk, mut dv) = (like(q)?, like(k)?, like(v)?);
            let scale = 1.0 / (head_dim as f32).sqrt();
            if let Device::Cpu = device {
                super::forward(q, k, v, &visible, scale, &mut o, &mut lse)?;
                super::backward(q, k, v, &o, &lse, d_o, &visible, &visible_by, scale, &mut delta, &mut dq, &mut dk, &mut dv)?;
            } else {
                let dims = Checked::new(q, k, scale)?.dims;
                forward(gpu, Rung::Overlapped, &dims, &views([q, k, v, &visible, &o, &lse]))?;
                backward(gpu, &dims, [q, k, v, &o, &lse, d_o, &visible, &visible_by], [&delta, &dq, &dk, &dv])?;
            }
            Ok(vec![o, dq, dk, dv])
        };
        let [q, k, v, d_o] = &twins[..] else { unreachable!("four shapes") };
        let (found, expected) = (on(device, [&q.0, &k.0, &v.0, &d_o.0])?, on(&Device::Cpu, [&q.1, &k.1, &v.1, &d_o.1])?);
        for (name, (found, expected)) in ["o", "dq", "dk", "dv"].into_iter().zip(found.iter().zip(&expected)) {
            // The largest elements are about 4; they, p and ds are rounded to 8 bits.
            hopper::compare(OP, &format!("{name} of head_dim {head_dim}"), found, expected, 0.08)?;
        }
    }
    Ok(())
}
