//! The cases of [`super::forward`]: shapes around every edge, all layouts, all rungs, all epilogues.

use super::{Epilogue, Layout, Rung, forward, forward_with, split_workspace, workspace};
use crate::error::Result;
use crate::ops::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use crate::tensor::Tensor;

const LAYOUTS: [Layout; 3] = [Layout::Nt, Layout::Nn, Layout::Tn];

/// (M, N, K) around the edges of 4, 16, 32 and 64, with primes and degenerate sizes.
const SHAPES: &[(usize, usize, usize)] = &[
    (0, 5, 3), (5, 0, 3), (3, 2, 0), (1, 1, 1), (1, 7, 5), (4, 4, 4), (3, 5, 7), (8, 12, 16), (31, 33, 17), (32, 32, 32),
    (33, 31, 15), (63, 65, 8), (64, 64, 16), (65, 63, 31), (13, 101, 33), (101, 13, 64), (1, 130, 20), (129, 1, 36),
    (68, 36, 65), (127, 66, 3), (40, 44, 129), (2, 3, 521), (97, 89, 2),
];

/// What the epilogue of a case adds: (bias, residual, accumulate).
const EPILOGUES: &[(bool, bool, bool)] = &[(false, false, false), (true, false, false), (false, true, false), (false, false, true), (true, true, true)];

fn shape_a(layout: Layout, m: usize, k: usize) -> [usize; 2] {
    if layout == Layout::Tn { [k, m] } else { [m, k] }
}

fn shape_b(layout: Layout, n: usize, k: usize) -> [usize; 2] {
    if layout == Layout::Nt { [n, k] } else { [k, n] }
}

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
    let mut operand = |name: &'static str, shape: &[usize]| if exact { draw.integers(name, shape, 8) } else { draw.normals(name, shape, 1.0) };
    let kind = if bf16 { Kind::Bf16 } else { Kind::Real };
    let mut inputs: Vec<Operand> = [("a", shape_a(layout, m, k)), ("b", shape_b(layout, n, k))]
        .into_iter()
        .map(|(name, shape)| Operand::new(name, shape, kind, operand(name, &shape).values))
        .collect();
    if bias {
        inputs.push(operand("bias", &[n]));
    }
    if residual {
        inputs.push(operand("residual", &[m, n]));
    }
    let c = if accumulate { Output::updated(operand("c", &[m, n])) } else { Output::overwritten("c", [m, n], Kind::Real) };
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
    Case::new(entry, label, inputs, outputs, compare, move |i, o| run(rung, i, o)).naive(move |i, o| run(Rung::Naive, i, o))
}

const RUNGS: [(&str, Rung); 5] = [
    ("forward", Rung::Auto),
    ("forward:naive", Rung::Naive),
    ("forward:tile64", Rung::Tile64),
    ("forward:tile32", Rung::Tile32),
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
    // Real numbers, where rounding shows; with enough elements that the plain loops' own error is a fair yardstick.
    for shape in [(33, 31, 65), (64, 64, 64), (24, 70, 200), (65, 63, 31), (48, 16, 640)] {
        for layout in LAYOUTS {
            for (entry, rung) in RUNGS {
                for bf16 in [false, true] {
                    cases.push(case(Spec { entry, rung, layout, shape, epilogue: EPILOGUES[0], bf16, exact: false }));
                }
            }
        }
    }
    // More workgroups than one row of a grid holds.
    cases.push(case(Spec { entry: "forward:tile32", rung: Rung::Tile32, layout: Layout::Nt, shape: (65_600 * 32, 1, 1), epilogue: EPILOGUES[0], bf16: false, exact: true }));
    cases.extend(demo());
    cases
}

/// The demo's own shapes: 1,920 rows of width 64, feed-forward 176, vocabulary 450.
fn demo() -> Vec<Case> {
    let rows = 1920;
    let mut cases = Vec::new();
    for (width_in, width_out) in [(64, 64), (64, 96), (64, 176), (176, 64), (64, 450)] {
        for (layout, shape) in [
            (Layout::Nt, (rows, width_out, width_in)),
            (Layout::Nn, (rows, width_in, width_out)),
            (Layout::Tn, (width_out, width_in, rows)),
        ] {
            for (entry, rung) in RUNGS {
                let one_for_all = (width_in, width_out) == (64, 176);
                if rung == Rung::Auto || one_for_all {
                    let epilogue = (false, false, layout == Layout::Tn);
                    cases.push(case(Spec { entry, rung, layout, shape, epilogue, bf16: false, exact: rung != Rung::Auto }).bench(2 * (rows * width_in * width_out) as u64));
                }
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

    /// GFLOP/s of the CPU at the demo's shapes: `cargo test --release --lib -- matmul::cases::tests::speed --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for (m, n, k) in [(1920, 64, 64), (1920, 96, 64), (1920, 176, 64), (1920, 64, 176), (1920, 256, 64), (1920, 450, 64), (1920, 64, 450)] {
                for (layout, m, n, k) in [(Layout::Nt, m, n, k), (Layout::Nn, m, n, k), (Layout::Tn, n, k, m)] {
                    let tensor = |shape: [usize; 2]| Tensor::from_f64(&Device::Cpu, shape, DType::F32, &Draw::new("speed").normals("x", shape, 1.0).values).unwrap();
                    let (a, b, mut c) = (tensor(shape_a(layout, m, k)), tensor(shape_b(layout, n, k)), tensor([m, n]));
                    let mut best = f64::INFINITY;
                    pool.install(|| {
                        for _ in 0..40 {
                            let start = std::time::Instant::now();
                            for _ in 0..5 {
                                let epilogue = Epilogue { accumulate: layout == Layout::Tn, ..Epilogue::default() };
                                forward(layout, &a, &b, epilogue, &mut c, None).unwrap();
                            }
                            best = best.min(start.elapsed().as_secs_f64() / 5.0);
                        }
                    });
                    println!("{threads} threads {layout:?} {m}x{n}x{k}: {:.1} us, {:.1} GFLOP/s", best * 1e6, 2e-9 * (m * n * k) as f64 / best);
                }
            }
        }
    }
}
