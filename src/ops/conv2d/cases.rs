//! The cases of [`super::forward`] and [`super::backward`]: shapes around every edge, every rung, with normals and with integers.

use super::{backward, backward_by, forward, forward_by, product_flops, side_out, workspace};
use crate::device::cpu::Real;
use crate::error::Result;
use crate::ops::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use crate::ops::ladder::{BACKWARD, FORWARD, only_where_there_is};
use crate::ops::{Sizes, on_real, zeros_like};
use crate::tensor::Tensor;

/// (images, height, width, in, out)
type Shape = (usize, usize, usize, usize, usize);

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    (0, 3, 3, 4, 3), (1, 0, 2, 2, 3), (1, 2, 0, 2, 3), (1, 1, 1, 1, 1), (2, 1, 1, 3, 2), (1, 1, 5, 4, 4), (1, 5, 1, 4, 4), (3, 2, 2, 5, 7),
    (2, 4, 4, 8, 16), (1, 6, 5, 7, 5), (1, 5, 7, 2, 33), (2, 4, 3, 31, 8), (1, 8, 8, 3, 65), (2, 3, 5, 33, 31), (1, 3, 3, 64, 63), (70, 2, 1, 3, 4),
    (2, 7, 3, 40, 32), (1, 9, 13, 1, 9), (3, 5, 6, 17, 19), (33, 1, 2, 2, 3), (1, 12, 12, 16, 32), (1, 2, 33, 3, 2),
];

/// The oracle cases. Of the demo's 32 pictures 4: they have all that is special about its sizes, and an emulator is done with them.
pub(super) fn cases() -> Vec<Case> {
    let listed = SHAPES.iter().flat_map(|&(b, h, w, i, o)| [1, 2].map(|s| (b, h, w, i, o, s)));
    let listed = listed.flat_map(|shape| [false, true].into_iter().flat_map(move |exact| shape_cases(shape, exact, true)));
    listed.chain(sized(&Sizes { samples: 4, ..Sizes::DEMO })).collect()
}

/// The cases at a model's sizes: the convolutions of its eye.
pub(super) fn sized(s: &Sizes) -> Vec<Case> {
    s.eye().into_iter().flat_map(|shape| shape_cases(shape, false, true)).collect()
}

/// Every rung on one shape (images, height, width, in, out, stride), with normals or with small integers.
pub(super) fn shape_cases(shape: (usize, usize, usize, usize, usize, usize), exact: bool, with_dx: bool) -> Vec<Case> {
    let (images, height, width, channels_in, channels_out, stride) = shape;
    let pixels = [images, height, width, channels_in];
    let out = [images, side_out(height, stride), side_out(width, stride), channels_out];
    let taps = [channels_out, channels_in, 3, 3];
    let flops = product_flops(out, channels_in);
    let mut cases = Vec::new();
    let label =
        format!("images={images} height={height} width={width} in={channels_in} out={channels_out} stride={stride}{}", if exact { " integers" } else { "" });
    let mut d = Draw::new(&label);
    let values = |d: &mut Draw, name, shape: &[usize], deviation| if exact { d.integers(name, shape, 3) } else { d.normals(name, shape, deviation) };
    let x = values(&mut d, "x", &pixels, 1.0).mixed();
    let weight = values(&mut d, "weight", &taps, (9.0 * channels_in as f64).powf(-0.5)).mixed();
    let bias = values(&mut d, "bias", &[channels_out], 0.1).mixed();
    // gelu is not an integer, but gelu'(0) is exactly 1/2: with even dy all sums are.
    let (mut z, mut dy) = (d.normals("z", out, 2.0).mixed(), values(&mut d, "dy", &out, 1.0).mixed());
    if exact {
        z = Operand::new("z", out, Kind::Mixed, vec![0.0; z.shape.len()]);
        dy = Operand::new("dy", out, Kind::Mixed, dy.values.iter().map(|dy| 2.0 * dy).collect());
    }
    let gradients = [Output::updated(values(&mut d, "dweight", &taps, 1.0)), Output::updated(values(&mut d, "dbias", &[channels_out], 1.0))];
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
        outputs.push(Output::scratch(workspace(images, height, width, channels_in, channels_out, stride)));
        if with_dx {
            outputs.push(Output::overwritten("dx", pixels, Kind::Mixed));
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

/// `f(output pixel, input pixel, tap)` for every pair that a tap connects.
fn each_tap([images, height, width]: [usize; 3], stride: usize, mut f: impl FnMut(usize, usize, usize)) {
    let (height_out, width_out) = (side_out(height, stride), side_out(width, stride));
    for image in 0..images {
        for (y, x) in (0..height_out).flat_map(|y| (0..width_out).map(move |x| (y, x))) {
            for tap in 0..9 {
                let (v, u) = ((y * stride + tap / 3).wrapping_sub(1), (x * stride + tap % 3).wrapping_sub(1));
                if v < height && u < width {
                    f((image * height_out + y) * width_out + x, (image * height + v) * width + u, tap);
                }
            }
        }
    }
}

fn pixels_of(x: &Tensor) -> [usize; 3] {
    [x.rows(), x.dim(1), x.dim(2)]
}

/// The weight as nine matrices `[out, in]`: the innermost loop then runs along memory, in the same order of sums.
fn tap_by_tap<T: Real>(weight: &[T]) -> Vec<T> {
    (0..9).flat_map(|tap| weight[tap..].iter().step_by(9).copied()).collect()
}

fn naive_forward<T: Real>(stride: usize, inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (x, weight, bias) = (inputs[0].cpu::<T>(), tap_by_tap(inputs[1].cpu::<T>()), inputs[2].cpu::<T>());
    let (channels_in, channels_out) = (inputs[1].dim(1), bias.len());
    let [z, y] = outputs else { unreachable!("two outputs") };
    let z = z.cpu_mut::<T>();
    z.fill(T::zero());
    each_tap(pixels_of(&inputs[0]), stride, |m, from, tap| {
        let x = &x[from * channels_in..][..channels_in];
        for o in 0..channels_out {
            let weight = &weight[(tap * channels_out + o) * channels_in..][..channels_in];
            for (&x, &w) in x.iter().zip(weight) {
                z[m * channels_out + o] += x * w;
            }
        }
    });
    for ((index, z), y) in z.iter_mut().enumerate().zip(y.cpu_mut::<T>()) {
        *z += bias[index % channels_out];
        *y = T::of(0.5) * *z * (T::one() + (*z * T::of(std::f64::consts::FRAC_1_SQRT_2)).fast_erf());
    }
}

fn naive_backward<T: Real>(stride: usize, round: impl Fn(T) -> T, inputs: &[Tensor], outputs: &mut [Tensor]) {
    let [x, z, dy] = [0, 2, 3].map(|i| inputs[i].cpu::<T>());
    let weight = tap_by_tap(inputs[1].cpu::<T>());
    let (channels_in, channels_out) = (inputs[1].dim(1), inputs[1].rows());
    let [dz, dweight, dbias, _, dx @ ..] = outputs else { unreachable!("four outputs at least") };
    let (dz, dbias) = (dz.cpu_mut::<T>(), dbias.cpu_mut::<T>());
    let mut sums = tap_by_tap(dweight.cpu::<T>());
    for (index, dz) in dz.iter_mut().enumerate() {
        let z = z[index];
        let slope = T::of(0.5) * (T::one() + (z / T::of(2.0).sqrt()).fast_erf()) + z * (-z * z / T::of(2.0)).exp() / T::of(std::f64::consts::TAU).sqrt();
        *dz = round(dy[index] * slope);
        dbias[index % channels_out] += *dz;
    }
    let mut dx = dx.first_mut().map(|d| d.cpu_mut::<T>());
    if let Some(dx) = &mut dx {
        dx.fill(T::zero());
    }
    each_tap(pixels_of(&inputs[0]), stride, |m, from, tap| {
        let x = &x[from * channels_in..][..channels_in];
        for o in 0..channels_out {
            let (dz, of_tap) = (dz[m * channels_out + o], (tap * channels_out + o) * channels_in);
            for (sum, &x) in sums[of_tap..][..channels_in].iter_mut().zip(x) {
                *sum += dz * x;
            }
            if let Some(dx) = &mut dx {
                let dx = &mut dx[from * channels_in..][..channels_in];
                for (dx, &w) in dx.iter_mut().zip(&weight[of_tap..]) {
                    *dx += dz * w;
                }
            }
        }
    });
    for (index, dw) in dweight.cpu_mut::<T>().iter_mut().enumerate() {
        *dw = sums[index % 9 * channels_out * channels_in + index / 9];
    }
}

/// The gradient checks.
pub(super) fn gradients() -> Vec<GradientCase> {
    [(1, 1, 1, 1, 1, 1), (2, 3, 2, 3, 2, 1), (2, 3, 5, 2, 3, 2), (1, 4, 4, 2, 2, 2)]
        .into_iter()
        .map(|(images, height, width, channels_in, channels_out, stride)| {
            let label = format!("images={images} height={height} width={width} in={channels_in} out={channels_out} stride={stride}");
            let mut d = Draw::new(&label);
            let run = move |i: &[Tensor]| -> Result<[Tensor; 2]> {
                let out = [images, side_out(height, stride), side_out(width, stride), channels_out];
                let mut z = Tensor::zeros(i[0].device(), out, i[0].dtype())?;
                let [mut y] = zeros_like([&z])?;
                forward(&i[0], &i[1], &i[2], stride, &mut z, &mut y)?;
                Ok([z, y])
            };
            GradientCase {
                inputs: vec![
                    d.normals("x", [images, height, width, channels_in], 1.0),
                    d.normals("weight", [channels_out, channels_in, 3, 3], 0.5),
                    d.normals("bias", [channels_out], 0.5),
                ],
                wrt: vec![0, 1, 2],
                label,
                forward: Box::new(move |i| run(i).map(|[_, y]| vec![y])),
                backward: Box::new(move |i, d| {
                    let [z, _] = run(i)?;
                    let [mut dz, mut dx, mut dweight, mut dbias] = zeros_like([&z, &i[0], &i[1], &i[2]])?;
                    let mut scratch = Tensor::zeros(z.device(), [workspace(images, height, width, channels_in, channels_out, stride)], z.dtype())?;
                    backward(&i[0], &i[1], &z, &d[0], stride, &mut dz, Some(&mut dx), &mut dweight, &mut dbias, &mut scratch)?;
                    Ok(vec![dx, dweight, dbias])
                }),
            }
        })
        .collect()
}
