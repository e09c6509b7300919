//! Attention in plain loops: what every kernel is held to.

use super::EMPTY;
use crate::device::cpu::Real;
use crate::ops::sum;
use crate::tensor::Tensor;
use half::bf16;

/// What is multiplied with V, dO, Q and K: as it is,
pub(super) fn exact<T: Real>(x: T) -> T {
    x
}

/// or rounded to what tensor cores take.
pub(super) fn to_bf16(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// inputs: q, k, v, visible. `round`: what happens to an exponential before it is multiplied with V.
pub(super) fn naive_forward<T: Real>(inputs: &[Tensor], scale: f32, round: fn(T) -> T, o: &mut Tensor, lse: &mut Tensor) {
    let [q, k, v] = [0, 1, 2].map(|i| inputs[i].cpu::<T>());
    let visible = inputs[3].cpu::<i32>();
    let (heads, kv_heads, hd) = (inputs[0].dim(1), inputs[1].dim(1), inputs[0].dim(2));
    let (o, lse) = (o.cpu_mut::<T>(), lse.cpu_mut::<T>());
    for row in 0..inputs[0].rows() {
        let (start, end) = (visible[2 * row] as usize, visible[2 * row + 1] as usize);
        for head in 0..heads {
            let at = (row * heads + head) * hd;
            let kv = |key: usize| (key * kv_heads + head / (heads / kv_heads)) * hd;
            let out = &mut o[at..at + hd];
            out.fill(T::zero());
            lse[row * heads + head] = T::of(EMPTY as f64);
            if start >= end {
                continue;
            }
            let scores: Vec<T> = (start..end).map(|key| sum((0..hd).map(|d| q[at + d] * k[kv(key) + d])) * T::of(scale as f64)).collect();
            let maximum = scores.iter().fold(scores[0], |m, &s| if s > m { s } else { m });
            let total = sum(scores.iter().map(|&s| (s - maximum).exp()));
            for (key, &score) in (start..end).zip(&scores) {
                let p = round((score - maximum).exp());
                for d in 0..hd {
                    out[d] += p * v[kv(key) + d];
                }
            }
            for x in out {
                *x /= total;
            }
            lse[row * heads + head] = maximum + total.ln();
        }
    }
}

/// inputs: q, k, v, visible, o, lse, d_o. `round`: what happens to p and ds before they are multiplied with dO, Q and K.
pub(super) fn naive_backward<T: Real>(inputs: &[Tensor], scale: f32, round: fn(T) -> T, dq: &mut Tensor, dk: &mut Tensor, dv: &mut Tensor) {
    let [q, k, v, o, lse, d_o] = [0, 1, 2, 4, 5, 6].map(|i| inputs[i].cpu::<T>());
    let visible = inputs[3].cpu::<i32>();
    let (heads, kv_heads, hd) = (inputs[0].dim(1), inputs[1].dim(1), inputs[0].dim(2));
    let (dq, dk, dv) = (dq.cpu_mut::<T>(), dk.cpu_mut::<T>(), dv.cpu_mut::<T>());
    let scale = T::of(scale as f64);
    for d in [&mut *dq, &mut *dk, &mut *dv] {
        d.fill(T::zero());
    }
    for row in 0..inputs[0].rows() {
        for head in 0..heads {
            let at = (row * heads + head) * hd;
            let delta = sum((0..hd).map(|d| o[at + d] * d_o[at + d]));
            for key in visible[2 * row]..visible[2 * row + 1] {
                let kv = (key as usize * kv_heads + head / (heads / kv_heads)) * hd;
                let score = sum((0..hd).map(|d| q[at + d] * k[kv + d])) * scale;
                let p = (score - lse[row * heads + head]).exp();
                let ds = round(p * (sum((0..hd).map(|d| d_o[at + d] * v[kv + d])) - delta)) * scale;
                let p = round(p);
                for d in 0..hd {
                    dq[at + d] += ds * k[kv + d];
                    dk[kv + d] += ds * q[at + d];
                    dv[kv + d] += p * d_o[at + d];
                }
            }
        }
    }
}
