//! The cases of attention: the masks of the design page, packed, on many shapes.

use super::naive::{exact, naive_backward, naive_forward, to_bf16};
use super::probabilities::probabilities_cases;
use super::shapes::{EXP_ULP, Mask, Shape, inputs, pairs, visible_by};
use super::{LEAST_WORKGROUP_BYTES, OP, Rung, WORKGROUP_BYTES, backward_rung, forward, forward_rung};
use crate::device::Device;
use crate::error::Result;
use crate::ops::Sizes;
use crate::ops::case::{Case, Compare, Draw, Fill, GradientCase, Kind, Operand, Output};
use crate::ops::{on_real, zeros_like};
use crate::tensor::{DType, Tensor};
use std::sync::{Arc, LazyLock};

/// Whether the shape is one that Hopper's kernels take: the others have no case of theirs.
fn on_hopper(shape: &Shape) -> bool {
    shape.head_dim.is_multiple_of(8) && shape.queries > 0 && shape.keys > 0
}

/// Forward on every rung.
pub(super) fn forward_cases(shape: &Shape) -> Vec<Case> {
    let shape = *shape;
    let (inputs, visible) = inputs(&shape);
    let Shape { queries, heads, head_dim, .. } = shape;
    let rungs = [
        ("forward", None),
        ("forward:tiled", Some(Rung::Tiled(LEAST_WORKGROUP_BYTES))),
        ("forward:naive", Some(Rung::Naive)),
        ("forward:wgmma", Some(Rung::Wgmma)),
        ("forward:overlapped", Some(Rung::Overlapped)),
    ];
    rungs
        .into_iter()
        .filter(|(_, rung)| on_hopper(&shape) || !matches!(rung, Some(Rung::Wgmma | Rung::Overlapped)))
        .map(|(entry, rung)| {
            let outputs = vec![Output::overwritten("o", [queries, heads, head_dim], Kind::Mixed), Output::overwritten("lse", [queries, heads], Kind::Real)];
            let case = Case::new(entry, shape.label(), inputs.clone(), outputs, Compare::Reduction(EXP_ULP), move |i, o| {
                let [o, lse] = o else { unreachable!("two outputs") };
                // On the CPU, the naive rung is the plain loops: this is where they are timed.
                if entry == "forward:naive" && matches!(i[0].device(), Device::Cpu) {
                    on_real!(i[0].dtype(), naive_forward::<T>(i, shape.scale(), exact, o, lse));
                    return Ok(());
                }
                forward_rung(rung, &i[0], &i[1], &i[2], &i[3], shape.scale(), o, lse)
            })
            .naive(move |i, o| {
                let [o, lse] = o else { unreachable!("two outputs") };
                on_real!(i[0].dtype(), naive_forward::<T>(i, shape.scale(), exact, o, lse));
                Ok(())
            })
            .naive_mixed(move |i, o| {
                let [o, lse] = o else { unreachable!("two outputs") };
                // One warp sums in f32 what tensor cores multiply in bf16.
                naive_forward::<f32>(i, shape.scale(), if rung == Some(Rung::Naive) { exact } else { to_bf16 }, o, lse);
                Ok(())
            });
            let case = case.flops(super::FLOPS[0] * pairs(&visible) * (heads * head_dim) as u64);
            if matches!(rung, Some(Rung::Wgmma | Rung::Overlapped)) { case.only_mixed(crate::ops::hopper::absent) } else { case }
        })
        .collect()
}

/// Backward with the tiles of a large adapter and of the least that WebGPU allows.
pub(super) fn backward_cases(shape: &Shape) -> Vec<Case> {
    let shape = *shape;
    let Shape { queries, keys, heads, kv_heads, head_dim, .. } = shape;
    let (mut inputs, visible) = inputs(&shape);
    // What forward would have saved, rounded to f32 for the oracle as well: computed once, when something first reads either.
    let given = inputs.clone();
    let saved = Arc::new(LazyLock::new(move || {
        let tensors: Vec<Tensor> = given.iter().map(|i| i.tensor(&Device::Cpu, DType::F64).expect("a small tensor")).collect();
        let [mut o, mut lse] =
            [[queries, heads, head_dim].as_slice(), &[queries, heads]].map(|s| Tensor::zeros(&Device::Cpu, s, DType::F64).expect("a small tensor"));
        naive_forward::<f64>(&tensors, shape.scale(), exact, &mut o, &mut lse);
        [o, lse].map(|t| t.cpu::<f64>().to_vec())
    }));
    let mut draw = Draw::new(&format!("{} backward", shape.label()));
    let (o, lse) = (saved.clone(), saved);
    inputs.push(Operand { fill: Fill::Normals(0.1), ..Operand::lazy("o", [queries, heads, head_dim], Kind::Mixed, move || o[0].clone()) });
    // Scores of normals are normals: their exponentials have the mean √e.
    let seen: Vec<f64> = visible.iter().map(|v| (v[1] - v[0]).max(1) as f64).collect();
    let typical = move || seen.iter().flat_map(|n| std::iter::repeat_n(n.ln() + 0.5, heads)).collect();
    inputs.push(Operand::lazy("lse", [queries, heads], Kind::Real, move || lse[1].clone()).timed_as(typical));
    inputs.push(draw.normals("d_o", [queries, heads, head_dim], 1.0).mixed());
    // `visible` decides: here every row may look at every key.
    // Where rows see one key at most, dq is 0: what is found instead is rounding, and bf16 has no ulp for it. f32 cancels exactly.
    let kind = if pairs(&visible) > 0 && visible.iter().all(|v| v[1] - v[0] <= 1) { Kind::Real } else { Kind::Mixed };
    inputs.iter_mut().filter(|i| i.kind == Kind::Mixed).for_each(|i| i.kind = kind);
    let flops = super::FLOPS[1] * pairs(&visible);
    inputs.push(Operand::lazy("visible_by", [keys, 2], Kind::I32, move || {
        let by = if matches!(shape.mask, Mask::Window(_)) { vec![[0, queries as i32]; keys] } else { visible_by(&visible, keys) };
        by.into_iter().flatten().map(f64::from).collect()
    }));
    let rungs = [("backward", Rung::Tiled(WORKGROUP_BYTES)), ("backward:least", Rung::Tiled(LEAST_WORKGROUP_BYTES)), ("backward:wgmma", Rung::Overlapped)];
    rungs
        .into_iter()
        .filter(|(_, rung)| *rung != Rung::Overlapped || (on_hopper(&shape) && kind == Kind::Mixed))
        .map(|(entry, rung)| {
            let outputs = vec![
                Output::scratch(queries * heads),
                Output::overwritten("dq", [queries, heads, head_dim], kind),
                Output::overwritten("dk", [keys, kv_heads, head_dim], kind),
                Output::overwritten("dv", [keys, kv_heads, head_dim], kind),
            ];
            let case = Case::new(entry, shape.label(), inputs.clone(), outputs, Compare::Reduction(EXP_ULP), move |i, o| {
                let [delta, dq, dk, dv] = o else { unreachable!("four outputs") };
                backward_rung(Some(rung), &i[0], &i[1], &i[2], &i[4], &i[5], &i[6], &i[3], &i[7], shape.scale(), delta, dq, dk, dv)
            })
            .naive(move |i, o| {
                let [_, dq, dk, dv] = o else { unreachable!("four outputs") };
                on_real!(i[0].dtype(), naive_backward::<T>(i, shape.scale(), exact, dq, dk, dv));
                Ok(())
            })
            .naive_mixed(move |i, o| {
                let [_, dq, dk, dv] = o else { unreachable!("four outputs") };
                naive_backward::<f32>(i, shape.scale(), to_bf16, dq, dk, dv);
                Ok(())
            });
            let case = case.flops(flops * (heads * head_dim) as u64);
            if rung == Rung::Overlapped { case.only_mixed(crate::ops::hopper::absent) } else { case }
        })
        .collect()
}

/// The sizes of the demo: 32 samples of 60 rows with a picture of 38, 4 heads of 16.
pub(super) const DEMO: Shape = Shape { queries: 1920, keys: 1920, heads: 4, kv_heads: 4, head_dim: 16, mask: Mask::Packed(60) };

/// The list of shapes.
fn shapes() -> Vec<Shape> {
    use Mask::*;
    let mut shapes = vec![
        // The first that is large enough is run a hundred times.
        Shape::new(41, 41, 2, 1, 16, Packed(9)),
        // Nothing at all, and almost nothing.
        Shape::new(0, 0, 2, 1, 16, Full),
        Shape::new(0, 5, 2, 1, 16, Full),
        Shape::new(5, 0, 2, 1, 16, Full),
        Shape::new(1, 1, 1, 1, 4, Full),
        Shape::new(7, 9, 2, 2, 16, Nothing),
        Shape::new(70, 70, 2, 1, 32, Nothing),
        // Generation: one or a few rows after a cache.
        Shape::new(1, 61, 4, 4, 16, Causal),
        Shape::new(1, 200, 4, 1, 64, Causal),
        Shape::new(3, 130, 4, 2, 32, Causal),
        Shape::new(5, 33, 8, 1, 128, Causal),
        // Tiles cut everywhere.
        Shape::new(129, 129, 1, 1, 16, Causal),
        Shape::new(127, 127, 2, 1, 16, Window(9)),
        Shape::new(101, 101, 2, 2, 16, Packed(7)),
        Shape::new(160, 160, 1, 1, 32, Packed(60)),
        Shape::new(97, 53, 2, 1, 24, Random),
        Shape::new(33, 257, 1, 1, 16, Random),
        Shape::new(65, 400, 2, 1, 16, Random),
        // Beyond what the CPU holds whole: several tiles of keys, of rows.
        Shape::new(300, 300, 1, 1, 16, Causal),
        Shape::new(290, 310, 2, 1, 8, Random),
        Shape::new(280, 600, 1, 1, 4, Random),
    ];
    let heads = [(1, 1), (2, 1), (4, 2), (4, 4), (4, 1), (3, 3), (6, 2), (8, 1)];
    let sizes = [31, 32, 33, 64, 65, 47, 17, 63, 29, 72];
    let masks = [Causal, Packed(13), Window(7), Random, Full, Packed(8), Random];
    let mut turn = 0;
    for head_dim in [16, 24, 32, 40, 64, 80, 96, 128, 4, 5, 7, 12, 18, 31, 33, 50, 65, 72, 100, 127] {
        for mask in if head_dim % 8 == 0 { &masks[..] } else { &masks[2..4] } {
            let (heads, kv_heads) = heads[turn % heads.len()];
            // Small enough for a software driver.
            let most = 120_000 / (heads * head_dim);
            let queries = sizes.iter().cycle().skip(turn).find(|&&n| n * n <= most.max(300)).copied().unwrap_or(17);
            let keys = if *mask == Random { queries + turn % 11 } else { queries };
            shapes.push(Shape::new(queries, keys, heads, kv_heads, head_dim, *mask));
            turn += 1;
        }
    }
    shapes.push(DEMO);
    shapes
}

/// The cases at a model's sizes. The sweep is what attention kernels are compared at: 16,384 rows in samples of 2,048 to 16,384,
/// with 2,048 / d heads.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let mut shapes = vec![Shape::new(s.rows, s.rows, s.heads, s.kv_heads, s.head_dim, Mask::Packed(s.sample))];
    if s.sweep {
        for head_dim in [64, 128] {
            for length in [2048, 4096, 8192, 16_384] {
                for mask in [Mask::CausalSamples(length), Mask::FullSamples(length)] {
                    shapes.push(Shape::new(s.rows, s.rows, 2048 / head_dim, 2048 / head_dim, head_dim, mask));
                }
            }
        }
    }
    cases_of(&shapes)
}

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    cases_of(&shapes())
}

/// Every entry on one set of sizes.
fn all_cases(shape: &Shape) -> Vec<Case> {
    [forward_cases(shape), backward_cases(shape), probabilities_cases(shape)].into_iter().flatten().collect()
}

fn cases_of(shapes: &[Shape]) -> Vec<Case> {
    shapes.iter().flat_map(all_cases).collect()
}

// ── Gradients ────────────────────────────────────────────────────────────────────────────────────────────────────

/// The gradient checks, of q, k and v.
pub fn gradients() -> Vec<GradientCase> {
    use Mask::*;
    let shapes = [
        Shape::new(5, 5, 2, 1, 4, Causal),
        Shape::new(9, 9, 1, 1, 5, Packed(4)),
        Shape::new(3, 7, 4, 2, 4, Causal),
        Shape::new(6, 8, 2, 2, 6, Random),
        Shape::new(6, 6, 2, 1, 4, Window(2)),
        Shape::new(4, 3, 8, 1, 4, Full),
        Shape::new(20, 20, 1, 1, 4, Packed(9)),
    ];
    shapes
        .into_iter()
        .map(|shape| {
            let (operands, visible) = inputs(&shape);
            let by = visible_by(&visible, shape.keys).concat();
            let run = move |i: &[Tensor]| -> Result<[Tensor; 2]> {
                let mut o = Tensor::zeros(i[0].device(), i[0].shape(), i[0].dtype())?;
                let mut lse = Tensor::zeros(i[0].device(), [shape.queries, shape.heads], i[0].dtype())?;
                forward(&i[0], &i[1], &i[2], &i[3], shape.scale(), &mut o, &mut lse)?;
                Ok([o, lse])
            };
            GradientCase {
                label: format!("{OP} {}", shape.label()),
                inputs: operands,
                wrt: vec![0, 1, 2],
                forward: Box::new(move |i| run(i).map(|[o, _]| vec![o])),
                backward: Box::new(move |i, d| {
                    let [o, lse] = run(i)?;
                    let [mut delta, mut dq, mut dk, mut dv] = zeros_like([&lse, &i[0], &i[1], &i[2]])?;
                    let by = Tensor::from_slice(o.device(), [shape.keys, 2], &by)?;
                    super::backward(&i[0], &i[1], &i[2], &o, &lse, &d[0], &i[3], &by, shape.scale(), &mut delta, &mut dq, &mut dk, &mut dv)?;
                    Ok(vec![dq, dk, dv])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op, test_devices};
    use proptest::prelude::*;
    use std::time::Instant;

    #[test]
    fn every_case_agrees_with_the_oracle() {
        assert_op(OP);
    }

    fn any_shape() -> impl Strategy<Value = Shape> {
        let mask = prop_oneof![
            Just(Mask::Causal),
            Just(Mask::Full),
            (1usize..50).prop_map(Mask::Packed),
            (1usize..40).prop_map(Mask::Window),
            Just(Mask::Random),
            Just(Mask::Nothing)
        ];
        (0usize..90, 0usize..90, 1usize..4, 1usize..4, 4usize..=128, mask).prop_map(|(queries, keys, per, kv_heads, head_dim, mask)| {
            let keys = if matches!(mask, Mask::Packed(_)) { queries } else { keys };
            Shape::new(queries, keys, per * kv_heads, kv_heads, head_dim, mask)
        })
    }

    #[test]
    fn drawn_shapes_agree_with_the_oracle() {
        assert_drawn(10, any_shape(), |shape| {
            // Where no row sees two keys, dq is 0 and whatever is found instead is rounding.
            let visible = shape.mask.intervals(shape.queries, shape.keys, &mut Draw::new(""));
            if visible.iter().all(|v| v[1] - v[0] <= 1) {
                return Vec::new();
            }
            all_cases(&shape)
        });
    }

    /// Small groups, a group too large to be held whole, and gaps: the same bits from one thread and from several.
    #[test]
    fn threads_do_not_change_the_bits() {
        let shapes = [Shape { queries: 300, keys: 300, ..DEMO }, Shape::new(300, 310, 4, 2, 24, Mask::Causal), Shape::new(130, 130, 2, 1, 40, Mask::Window(9))];
        for case in shapes.iter().flat_map(all_cases) {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let inputs: Vec<Tensor> = case.inputs.iter().map(|i| i.tensor(&Device::Cpu, DType::F32).unwrap()).collect();
                let mut outputs: Vec<Tensor> = case.outputs.iter().map(|o| o.before.tensor(&Device::Cpu, DType::F32).unwrap()).collect();
                pool.install(|| (case.run)(&inputs, &mut outputs)).unwrap();
                let written = outputs.iter().zip(&case.outputs).filter(|(_, o)| !o.scratch);
                written.flat_map(|(t, _)| t.read::<f32>().unwrap()).map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(run(1), run(5), "{} {}", case.entry, case.label);
        }
    }

    /// `cargo test --release --lib -- --ignored --nocapture attention_times`
    #[test]
    #[ignore = "prints times"]
    fn attention_times() {
        let shapes = [
            DEMO,
            Shape { head_dim: 64, queries: 512, keys: 512, mask: Mask::Causal, ..DEMO },
            Shape { head_dim: 128, queries: 256, keys: 256, mask: Mask::Causal, ..DEMO },
        ];
        let devices = if std::env::var_os("TIME_CPU").is_some() { vec![Device::Cpu] } else { test_devices() };
        for device in devices {
            for shape in &shapes {
                for case in forward_cases(shape).iter().chain(&backward_cases(shape)) {
                    let tensors: Vec<Tensor> = case.inputs.iter().map(|i| i.tensor(&device, DType::F32).unwrap()).collect();
                    let mut outputs: Vec<Tensor> = case.outputs.iter().map(|o| o.before.tensor(&device, DType::F32).unwrap()).collect();
                    let mut times = Vec::new();
                    let runs = if matches!(device, Device::Cpu) { 100 } else { 5 };
                    for _ in 0..runs {
                        let start = Instant::now();
                        (case.run)(&tensors, &mut outputs).unwrap();
                        if let Device::Gpu(gpu) = &device {
                            gpu.synchronize().unwrap();
                        }
                        times.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                    times.sort_by(f64::total_cmp);
                    println!("{device} {:16} {}: median {:.3} ms, best {:.3}", case.entry, case.label, times[runs / 2], times[0]);
                    if matches!(device, Device::Cpu) && case.entry == "backward" {
                        let start = Instant::now();
                        (case.naive.as_ref().unwrap())(&tensors, &mut outputs).unwrap();
                        println!("{device} backward naive: {:.3} ms", start.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
        }
    }
}
