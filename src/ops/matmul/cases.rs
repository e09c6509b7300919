//! The cases of [`super::forward`]: shapes around every edge, all layouts, all rungs, all epilogues.

use super::{Epilogue, Layout, Rung, forward, forward_with, hopper, split_workspace, workspace};
use crate::error::Result;
use crate::ops::Sizes;
use crate::ops::case::{Case, Compare, Draw, GradientCase, Kind, Output};
use crate::tensor::Tensor;

const LAYOUTS: [Layout; 3] = [Layout::Nt, Layout::Nn, Layout::Tn];

/// (M, N, K) around the edges of 4, 8, 16, 32, 64 and 128, with primes and degenerate sizes; the last has more than eight rows of
/// tiles.
#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize)] = &[
    (0, 5, 3), (5, 0, 3), (3, 2, 0), (1, 1, 1), (1, 7, 5), (4, 4, 4), (3, 5, 7), (8, 12, 16), (31, 33, 17), (32, 32, 32),
    (33, 31, 15), (63, 65, 8), (64, 64, 16), (65, 63, 31), (13, 101, 33), (101, 13, 64), (1, 130, 20), (129, 1, 36),
    (68, 36, 65), (127, 66, 3), (40, 44, 129), (2, 3, 521), (97, 89, 2),
    (128, 128, 96), (129, 127, 33), (136, 72, 104), (1160, 72, 24),
];

/// What the epilogue of a case adds: (bias, residual, accumulate).
const EPILOGUES: &[(bool, bool, bool)] = &[(false, false, false), (true, false, false), (false, true, false), (false, false, true), (true, true, true)];

fn shape_a(layout: Layout, m: usize, k: usize) -> [usize; 2] {
    if layout == Layout::Tn { [k, m] } else { [m, k] }
}

fn shape_b(layout: Layout, n: usize, k: usize) -> [usize; 2] {
    if layout == Layout::Nt { [n, k] } else { [k, n] }
}

/// One case. `bf16`: the operands are bf16 and all else f32. Otherwise all is f32, and on PTX devices all bf16 in a second run.
struct Spec {
    entry: &'static str,
    rung: Rung,
    layout: Layout,
    shape: (usize, usize, usize),
    epilogue: (bool, bool, bool),
    bf16: bool,
    exact: bool,
}

fn case(spec: Spec) -> Case {
    let Spec { entry, rung, layout, shape: (m, n, k), epilogue: (bias, residual, accumulate), bf16, exact } = spec;
    let mut label = format!("{layout:?} M={m} N={n} K={k}");
    for (there, name) in [(bias, " bias"), (residual, " residual"), (accumulate, " accumulate"), (bf16, " bf16"), (exact, " integers")] {
        if there {
            label.push_str(name);
        }
    }
    let mut draw = Draw::new(&label);
    // Sums of products of integers up to 8 are exact in f32, and the integers in bf16.
    let kinds = if bf16 { (Kind::Bf16, Kind::Real) } else { (Kind::Mixed, Kind::Mixed) };
    let mut operand =
        |name: &'static str, shape: &[usize], kind: Kind| if exact { draw.integers(name, shape, 8) } else { draw.normals(name, shape, 1.0) }.of_kind(kind);
    let mut inputs = vec![operand("a", &shape_a(layout, m, k), kinds.0), operand("b", &shape_b(layout, n, k), kinds.0)];
    if bias {
        inputs.push(operand("bias", &[n], kinds.1));
    }
    if residual {
        inputs.push(operand("residual", &[m, n], kinds.1));
    }
    let c = if accumulate { Output::updated(operand("c", &[m, n], kinds.1)) } else { Output::overwritten("c", [m, n], kinds.1) };
    let mut outputs = vec![c];
    let needed = if rung == Rung::SplitK { split_workspace(m, n, k) } else { workspace(layout, m, n, k) };
    if matches!(rung, Rung::SplitK | Rung::Auto) && needed > 0 {
        outputs.push(Output::scratch(needed));
    }
    let run = move |rung: Rung, inputs: &[Tensor], outputs: &mut [Tensor]| {
        let [c, workspace @ ..] = outputs else { unreachable!("c is the first output") };
        let epilogue = Epilogue { bias: bias.then(|| &inputs[2]), residual: residual.then(|| &inputs[2 + bias as usize]), accumulate };
        forward_with(rung, layout, &inputs[0], &inputs[1], epilogue, c, workspace.first_mut())
    };
    let compare = if exact { Compare::Exact } else { Compare::Reduction(0.0) };
    Case::new(entry, label, inputs, outputs, compare, move |i, o| run(rung, i, o)).naive(move |i, o| run(Rung::Naive, i, o)).flops(2 * (m * n * k) as u64)
}

/// Layout, [M, N, K] and whether it accumulates, from the label of a case without bias and residual: for code that multiplies the
/// same operands in another way.
#[cfg(feature = "cuda")]
pub(crate) fn sizes_of(label: &str) -> Option<(Layout, [usize; 3], bool)> {
    let mut words = label.split(' ');
    let layout = words.next().and_then(|name| LAYOUTS.into_iter().find(|layout| format!("{layout:?}") == name))?;
    let mut size = |name| words.next()?.strip_prefix(name)?.parse().ok();
    let sizes = [size("M=")?, size("N=")?, size("K=")?];
    let rest: Vec<&str> = words.collect();
    rest.iter().all(|word| ["accumulate", "bf16", "integers"].contains(word)).then(|| (layout, sizes, rest.contains(&"accumulate")))
}

const RUNGS: [(&str, Rung); 5] = [
    ("forward", Rung::Auto),
    ("forward:naive", Rung::Naive),
    ("forward:large", Rung::Large),
    ("forward:small", Rung::Small),
    ("forward:split_k", Rung::SplitK),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut turn = 0;
    let mut next_epilogue = || {
        turn += 1;
        EPILOGUES[turn % EPILOGUES.len()]
    };
    for &shape in SHAPES {
        for layout in LAYOUTS {
            for (entry, rung) in RUNGS {
                cases.push(case(Spec { entry, rung, layout, shape, epilogue: next_epilogue(), bf16: false, exact: true }));
                if !matches!(rung, Rung::Auto) {
                    cases.push(case(Spec { entry, rung, layout, shape, epilogue: next_epilogue(), bf16: true, exact: true }));
                }
            }
        }
    }
    // Real numbers, where rounding shows; with enough elements that the plain loops' own error is a fair measure.
    for shape in [(33, 31, 65), (64, 64, 64), (24, 70, 200), (65, 63, 31), (48, 16, 640)] {
        for layout in LAYOUTS {
            for (entry, rung) in RUNGS {
                for bf16 in [false, true] {
                    cases.push(case(Spec { entry, rung, layout, shape, epilogue: EPILOGUES[0], bf16, exact: false }));
                }
            }
        }
    }
    // Several tasks on the CPU, with every epilogue; a gradient of few rows with a sum long enough to be split there.
    for (layout, shape) in [(Layout::Nt, (333, 130, 65)), (Layout::Nn, (333, 130, 65)), (Layout::Tn, (97, 130, 257)), (Layout::Tn, (24, 19, 4999))] {
        for &epilogue in EPILOGUES {
            for bf16 in [false, true] {
                cases.push(case(Spec { entry: "forward", rung: Rung::Auto, layout, shape, epilogue, bf16, exact: true }));
            }
        }
    }
    // More workgroups than one row of a WGSL grid holds.
    let mut many = case(Spec {
        entry: "forward:small",
        rung: Rung::Small,
        layout: Layout::Nt,
        shape: (65_600 * 32, 1, 1),
        epilogue: EPILOGUES[0],
        bf16: false,
        exact: true,
    });
    many.skip = Some(|device| device.has_bf16().then(|| "a CUDA grid has one row of 2³¹ blocks".into()));
    cases.push(many);
    cases.extend(on_hopper());
    // The demo's own shapes, in integers where rungs must agree.
    cases.extend(model(&Sizes::DEMO, true));
    cases
}

/// Every rung of `kernels/hopper/`: tiles that are full, cut, alone, and several per block and cluster; K shorter than a stage, longer
/// than the pipeline, and cut. To f32, and all in bf16.
fn on_hopper() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = [(8, 8, 8), (64, 64, 64), (128, 256, 64), (136, 264, 72), (72, 520, 200), (328, 264, 136), (256, 512, 320), (264, 776, 40), (2120, 24, 16)];
    // The rows of A are then not rows in memory.
    let odd = [(1, 24, 8), (133, 264, 72), (263, 520, 24)];
    let mut epilogues = EPILOGUES.iter().cycle();
    let all = shapes.into_iter().flat_map(|shape| LAYOUTS.map(|layout| (layout, shape)));
    let odd = odd.into_iter().flat_map(|shape| [Layout::Nt, Layout::Nn].map(|layout| (layout, shape)));
    for (layout, shape) in all.chain(odd) {
        for (entry, rung) in hopper::RUNGS {
            let &epilogue = epilogues.next().expect("they go round");
            let spec = |bf16| Spec { entry, rung: Rung::Hopper(rung), layout, shape, epilogue, bf16, exact: true };
            let mut to_f32 = case(spec(true));
            to_f32.skip = Some(crate::ops::hopper::absent);
            cases.push(to_f32);
            cases.push(case(spec(false)).only_mixed(crate::ops::hopper::absent));
        }
    }
    for layout in LAYOUTS {
        for (entry, rung) in hopper::RUNGS {
            let mut real = case(Spec { entry, rung: Rung::Hopper(rung), layout, shape: (200, 136, 648), epilogue: EPILOGUES[0], bf16: true, exact: false });
            real.skip = Some(crate::ops::hopper::absent);
            cases.push(real);
        }
    }
    cases
}

/// The cases at a model's sizes.
pub fn sized(s: &Sizes) -> Vec<Case> {
    model(s, false)
}

/// The products of a model's linear layers, each with both of its gradients; all rungs for the widest layer.
fn model(s: &Sizes, exact_rungs: bool) -> Vec<Case> {
    let Sizes { rows, width, feed_forward, .. } = *s;
    let mut layers = vec![
        (rows, width, s.heads * s.head_dim),
        (rows, width, s.kv_heads * s.head_dim),
        (rows, s.heads * s.head_dim, width),
        (rows, width, feed_forward),
        (rows, feed_forward, width),
        (s.logit_rows, width, s.vocabulary),
    ];
    if s.sweep {
        layers.extend([4096, 8192].map(|n| (n, n, n)));
    }
    // A layer with the sizes of another one.
    let mut seen = Vec::new();
    layers.retain(|layer| {
        !seen.contains(layer) && {
            seen.push(*layer);
            true
        }
    });
    let mut cases = Vec::new();
    for (rows, width_in, width_out) in layers {
        for (layout, shape) in [(Layout::Nt, (rows, width_out, width_in)), (Layout::Nn, (rows, width_in, width_out)), (Layout::Tn, (width_out, width_in, rows))]
        {
            for (entry, rung) in RUNGS {
                if rung == Rung::Auto || (width_in, width_out) == (width, feed_forward) {
                    let epilogue = (false, false, layout == Layout::Tn);
                    cases.push(case(Spec { entry, rung, layout, shape, epilogue, bf16: false, exact: exact_rungs && rung != Rung::Auto }));
                }
            }
            // Sizes of models are multiples of 8, which is what these need.
            for (entry, rung) in hopper::RUNGS.into_iter().filter(|_| (width_in, width_out) == (width, feed_forward)) {
                let epilogue = (false, false, layout == Layout::Tn);
                let spec = Spec { entry, rung: Rung::Hopper(rung), layout, shape, epilogue, bf16: false, exact: exact_rungs };
                cases.push(case(spec).only_mixed(crate::ops::hopper::absent));
            }
        }
    }
    cases
}

/// The gradient checks: the two products that are a layer's backward pass, and the epilogue's.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1, 1), (3, 5, 4), (4, 2, 9)]
        .into_iter()
        .map(|(m, n, k)| {
            let label = format!("linear M={m} N={n} K={k}");
            let mut draw = Draw::new(&label);
            let new = |like: &Tensor, shape: [usize; 2]| Tensor::zeros(like.device(), shape, like.dtype());
            GradientCase {
                inputs: vec![
                    draw.normals("x", [m, k], 1.0),
                    draw.normals("weight", [n, k], 1.0),
                    draw.normals("bias", [n], 1.0),
                    draw.normals("residual", [m, n], 1.0),
                ],
                wrt: vec![0, 1, 2, 3],
                label,
                forward: Box::new(move |i| -> Result<Vec<Tensor>> {
                    let mut y = new(&i[0], [m, n])?;
                    let epilogue = Epilogue { bias: Some(&i[2]), residual: Some(&i[3]), accumulate: false };
                    forward(Layout::Nt, &i[0], &i[1], epilogue, &mut y, None)?;
                    Ok(vec![y])
                }),
                backward: Box::new(move |i, d| {
                    let (mut dx, mut dweight, mut dresidual) = (new(&i[0], [m, k])?, new(&i[0], [n, k])?, new(&i[0], [m, n])?);
                    forward(Layout::Nn, &d[0], &i[1], Epilogue::default(), &mut dx, None)?;
                    forward(Layout::Tn, &d[0], &i[0], Epilogue { accumulate: true, ..Epilogue::default() }, &mut dweight, None)?;
                    // A bias is a column of ones beside x: its gradient is the same product with it.
                    let ones = Tensor::from_f64(i[0].device(), [m, 1], i[0].dtype(), &vec![1.0; m])?;
                    let mut dbias = new(&i[0], [n, 1])?;
                    forward(Layout::Tn, &d[0], &ones, Epilogue::default(), &mut dbias, None)?;
                    dresidual.copy_from(&d[0])?;
                    Ok(vec![dx, dweight, dbias, dresidual])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::device::Device;
    use crate::tensor::DType;

    #[test]
    fn every_case() {
        check::assert_op("matmul");
    }

    fn tensor(device: &Device, shape: [usize; 2]) -> Tensor {
        Tensor::from_f64(device, shape, DType::F32, &Draw::new("tensor").normals("x", shape, 1.0).values).unwrap()
    }

    #[test]
    fn mismatches_are_named() {
        let t = |shape: [usize; 2]| tensor(&Device::Cpu, shape);
        let mut c = t([2, 4]);
        let say = |r: Result<()>| r.unwrap_err().to_string();
        let plain = Epilogue::default();
        assert_eq!(say(forward(Layout::Nt, &t([2, 3]), &t([4, 5]), plain, &mut c, None)), "matmul: b: expected Nt with K = 3 (a is [2, 3]), found [4, 5]");
        assert_eq!(say(forward(Layout::Nn, &t([3, 5]), &t([5, 4]), plain, &mut c, None)), "matmul: c: expected [3, 4], found [2, 4]");
        let bias = t([1, 3]);
        let epilogue = Epilogue { bias: Some(&bias), ..plain };
        assert_eq!(say(forward(Layout::Tn, &t([5, 2]), &t([5, 4]), epilogue, &mut c, None)), "matmul: bias: expected [4], found [1, 3]");
        let half = Tensor::zeros(&Device::Cpu, [4, 3], DType::Bf16).unwrap();
        assert_eq!(say(forward(Layout::Nt, &t([2, 3]), &half, plain, &mut c, None)), "matmul: b: expected f32, found bf16");
    }

    /// Buffers are made for the longest batch and used for every one.
    #[test]
    fn the_workspace_of_a_long_sum_serves_a_shorter_one() {
        for (m, n) in [(64, 64), (176, 64), (450, 64), (1, 1), (1000, 7), (4096, 4096)] {
            for k in 0..3000 {
                assert!(workspace(Layout::Tn, m, n, k) <= workspace(Layout::Tn, m, n, k + 1), "M={m} N={n} K={k}");
                for split in [super::super::WGSL_SPLIT, super::super::PTX_SPLIT] {
                    assert!(split.stretches(m, n, k).0 * m * n <= split_workspace(m, n, k), "M={m} N={n} K={k}");
                }
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        for (layout, m, n, k) in [(Layout::Nt, 701, 67, 93), (Layout::Nn, 701, 67, 93), (Layout::Tn, 131, 67, 701), (Layout::Tn, 16, 33, 5000)] {
            let (a, b) = (tensor(&Device::Cpu, shape_a(layout, m, k)), tensor(&Device::Cpu, shape_b(layout, n, k)));
            let bits = [1, 2, 3, 7].map(|threads| {
                let mut c = tensor(&Device::Cpu, [m, n]);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| forward(layout, &a, &b, Epilogue { accumulate: true, ..Epilogue::default() }, &mut c, None)).unwrap();
                c.read::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert!(bits.iter().all(|b| *b == bits[0]), "{layout:?}");
        }
    }

    #[test]
    fn drawn_shapes() {
        use proptest::prelude::any;
        let shapes = (0..5usize, 0..3usize, (1..140usize, 1..140usize, 0..140usize), 0..EPILOGUES.len(), any::<bool>());
        check::assert_drawn(96, shapes, |(rung, layout, shape, epilogue, bf16)| {
            let (entry, rung) = RUNGS[rung];
            vec![case(Spec { entry, rung, layout: LAYOUTS[layout], shape, epilogue: EPILOGUES[epilogue], bf16, exact: true })]
        });
    }

    /// GFLOP/s of every rung at the demo's shapes: `cargo test --release --lib -- matmul::cases::tests::speed --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        for device in check::test_devices() {
            for (m, n, k) in [(1920, 64, 64), (1920, 96, 64), (1920, 176, 64), (1920, 64, 176), (1920, 256, 64), (1920, 450, 64)] {
                for (layout, m, n, k) in [(Layout::Nt, m, n, k), (Layout::Nn, m, k, n), (Layout::Tn, n, k, m)] {
                    let (a, b, mut c) = (tensor(&device, shape_a(layout, m, k)), tensor(&device, shape_b(layout, n, k)), tensor(&device, [m, n]));
                    let mut workspace = tensor(&device, [split_workspace(m, n, k), 1]);
                    let mut line = format!("{device} {layout:?} {m}x{n}x{k}:");
                    for (entry, rung) in RUNGS {
                        // On the CPU the rungs are two.
                        if matches!(device, Device::Cpu) && !matches!(rung, Rung::Auto | Rung::Naive) {
                            continue;
                        }
                        let mut best = f64::INFINITY;
                        let start = std::time::Instant::now();
                        while start.elapsed().as_secs_f64() < 0.05 || best == f64::INFINITY {
                            let start = std::time::Instant::now();
                            forward_with(rung, layout, &a, &b, Epilogue::default(), &mut c, Some(&mut workspace)).unwrap();
                            device.synchronize().unwrap();
                            best = best.min(start.elapsed().as_secs_f64());
                        }
                        line += &format!(" {entry} {:.0} us {:.2} GFLOP/s;", best * 1e6, 2e-9 * (m * n * k) as f64 / best);
                    }
                    println!("{line}");
                }
            }
        }
    }
}
