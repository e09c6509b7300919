//! Chapters 5 to 10: what a layer does.

use super::canvas::{BLUE, Canvas, GREY, INK, RED};
use crate::device::Device;
use crate::error::Result;
use crate::ops::case::Draw;
use crate::ops::{attention, rms_norm, rope, swiglu};
use crate::tensor::{DType, Shape, Tensor};

/// In f64: what is drawn is then the same everywhere.
fn tensor(shape: impl Into<Shape>, values: &[f64]) -> Result<Tensor> {
    Tensor::from_f64(&Device::Cpu, shape, DType::F64, values)
}

fn zeros(shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::zeros(&Device::Cpu, shape, DType::F64)
}

fn drawn(draw: &mut Draw, n: usize) -> Vec<f64> {
    (0..n).map(|_| draw.normal()).collect()
}

/// 5. Rows of growing length, before and after.
pub fn norm() -> Result<String> {
    const ROWS: usize = 24;
    const C: usize = 64;
    let mut draw = Draw::new("lesson 5");
    let x: Vec<f64> = (0..ROWS).flat_map(|row| drawn(&mut draw, C).into_iter().map(move |v| v * 1.15f64.powi(row as i32))).collect();
    let (mut y, mut rstd) = (zeros([ROWS, C])?, zeros([ROWS])?);
    rms_norm::forward(&tensor([ROWS, C], &x)?, None, &tensor([C], &[1.0; C])?, 1e-6, &mut y, &mut rstd)?;
    let y = y.read_f64()?;
    let mut canvas = Canvas::new(760, 330, "Rows whose numbers grow, before and after RMSNorm");
    for (left, title, values) in [(20.0, "before: each row 15 % larger than the last", &x), (400.0, "after: mean square 1, the pattern is kept", &y)] {
        canvas.text(left, 26.0, title);
        canvas.heat((left, 40.0, 220.0, 240.0), values, C)?;
        let root = |row: &[f64]| (row.iter().map(|v| v * v).sum::<f64>() / C as f64).sqrt();
        let most = values.chunks(C).map(root).fold(0.0, f64::max);
        for (i, row) in values.chunks(C).enumerate() {
            canvas.fill((left + 230.0, 41.0 + 10.0 * i as f64, 100.0 * root(row) / most, 8.0), INK);
        }
        canvas.text(left + 230.0, 298.0, &format!("√mean(x²) ≤ {most:.1}"));
    }
    canvas.text(20.0, 320.0, "Blue is above zero, red below. What is divided out, one number per row, is saved for the backward pass.");
    Ok(canvas.finish())
}

/// 6. What a tile saves: numbers read from memory for one product of the demo's.
pub fn product() -> Result<String> {
    let (m, n, k) = (1920usize, 176usize, 64usize);
    let mut canvas = Canvas::new(760, 330, "A tile of the result, what it needs of both matrices, and what that saves");
    canvas.text(20.0, 26.0, "C = A · Bᵀ, a tile of C");
    canvas.frame((110.0, 110.0, 180.0, 180.0), GREY);
    canvas.frame((20.0, 110.0, 72.0, 180.0), GREY);
    canvas.frame((110.0, 40.0, 180.0, 56.0), GREY);
    canvas.fill((20.0, 170.0, 72.0, 40.0), "#cfe0f3");
    canvas.fill((200.0, 40.0, 40.0, 56.0), "#f6d5c6");
    canvas.fill((200.0, 170.0, 40.0, 40.0), BLUE);
    for (x, y, name) in [(50.0, 106.0, "A"), (296.0, 70.0, "B"), (296.0, 200.0, "C")] {
        canvas.text(x, y, name);
    }
    canvas.text(330.0, 26.0, &format!("numbers read from memory, M = {m}, N = {n}, K = {k}"));
    let blocks = |tile: usize| m.div_ceil(tile) * n.div_ceil(tile) * tile * 2 * k;
    let once = m * k + n * k;
    let bars = [
        ("one thread per result", 2 * m * n * k),
        ("tiles of 32 × 32", blocks(32)),
        ("tiles of 64 × 64", blocks(64)),
        ("tiles of 128 × 128", blocks(128)),
        ("every number once", once),
    ];
    for (i, (name, count)) in bars.into_iter().enumerate() {
        let y = 50.0 + 46.0 * i as f64;
        // By decades: from a hundred thousand on.
        let length = (count as f64 / 1e5).log10().max(0.01) * 110.0;
        canvas.fill((330.0, y, length, 18.0), if i + 1 == 5 { GREY } else { BLUE });
        canvas.text(330.0 + length + 8.0, y + 14.0, &format!("{:.2} million", count as f64 / 1e6));
        canvas.text(330.0, y + 33.0, name);
    }
    canvas.text(330.0, 306.0, "(each bar's length is the logarithm)");
    Ok(canvas.finish())
}

/// 7. The product of a turned query and a turned key depends on their distance alone.
pub fn rotation() -> Result<String> {
    const POSITIONS: usize = 61;
    const D: usize = 16;
    let mut draw = Draw::new("lesson 7");
    let head = drawn(&mut draw, D);
    let table = rope::Table::new(&Device::Cpu, DType::F64, POSITIONS, D, 10_000.0)?;
    let rows: Vec<f64> = (0..POSITIONS).flat_map(|_| head.clone()).collect();
    let positions: Vec<i32> = (0..POSITIONS as i32).collect();
    let mut turned = zeros([POSITIONS, 1, D])?;
    rope::forward(&tensor([POSITIONS, 1, D], &rows)?, &Tensor::from_slice(&Device::Cpu, [POSITIONS], &positions)?, &table, &mut turned)?;
    let turned = turned.read_f64()?;
    let length = head.iter().map(|v| v * v).sum::<f64>();
    let dot = |p: usize, q: usize| turned[p * D..(p + 1) * D].iter().zip(&turned[q * D..(q + 1) * D]).map(|(a, b)| a * b).sum::<f64>() / length;
    let from = |q: usize| -> Vec<(f64, f64)> { (0..=30).map(|distance| (distance as f64, dot(q + distance, q))).collect() };
    let mut canvas = Canvas::new(760, 360, "Rotary positions: one pair of numbers turning, and the product of two rows over their distance");
    canvas.text(20.0, 26.0, "one pair, turned by its position");
    canvas.frame((20.0, 40.0, 240.0, 240.0), GREY);
    let radius = (head[1] * head[1] + head[1 + D / 2] * head[1 + D / 2]).sqrt();
    for p in 0..9 {
        let (a, b) = (turned[p * D + 1] / radius, turned[p * D + 1 + D / 2] / radius);
        canvas.line([(140.0, 160.0), (140.0 + 100.0 * a, 160.0 - 100.0 * b)], if p == 0 { RED } else { BLUE }, 1.5);
        canvas.text(136.0 + 110.0 * a, 164.0 - 110.0 * b, &p.to_string());
    }
    canvas.text(320.0, 26.0, "query · key over their distance, the same vector in both");
    canvas.curves(
        (340.0, 40.0, 390.0, 240.0),
        (430.0, 58.0),
        &[("key at position 0", BLUE, &from(0)), ("key at position 30: the very same curve", RED, &from(30))],
    );
    canvas.text(20.0, 330.0, "Turning both by the same angle changes nothing: only how far apart they are is left.");
    Ok(canvas.finish())
}

/// Queries, keys and values of a short batch of two samples, the first of which begins with a picture of 6 patches.
struct Small {
    n: usize,
    visible: Vec<i32>,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
}

const HEAD: usize = 8;

impl Small {
    fn new() -> Self {
        let mut draw = Draw::new("lesson 8");
        let visible: Vec<i32> = (0..24).flat_map(|i| if i < 14 { [0, if i < 6 { 6 } else { i + 1 }] } else { [14, i + 1] }).collect();
        let n = visible.len() / 2;
        let mut values = || drawn(&mut draw, n * HEAD).into_iter().map(|v| 1.4 * v).collect();
        Small { n, visible, q: values(), k: values(), v: values() }
    }

    /// The weights, from the one number per row that the fused kernel saves; and its output.
    fn weights(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let shape = [self.n, 1, HEAD];
        let (mut o, mut lse) = (zeros(shape)?, zeros([self.n, 1])?);
        let visible = Tensor::from_slice(&Device::Cpu, [self.n, 2], &self.visible)?;
        let scale = 1.0 / (HEAD as f64).sqrt();
        attention::forward(&tensor(shape, &self.q)?, &tensor(shape, &self.k)?, &tensor(shape, &self.v)?, &visible, scale as f32, &mut o, &mut lse)?;
        let lse = lse.read_f64()?;
        let weight = |i: usize, j: usize| {
            let score: f64 = (0..HEAD).map(|c| self.q[i * HEAD + c] * self.k[j * HEAD + c]).sum::<f64>() * scale as f32 as f64;
            if (self.visible[2 * i] as usize..self.visible[2 * i + 1] as usize).contains(&j) { (score - lse[i]).exp() } else { 0.0 }
        };
        Ok(((0..self.n * self.n).map(|at| weight(at / self.n, at % self.n)).collect(), o.read_f64()?))
    }
}

/// 8. The weights that the fused kernel never writes down.
pub fn attention() -> Result<String> {
    let small = Small::new();
    let (weights, _) = small.weights()?;
    let mut canvas = Canvas::new(760, 400, "The weights of attention over two packed samples, and the running sum of one row");
    canvas.text(20.0, 26.0, "the weights p, never held in memory: a row sums to 1");
    canvas.heat((20.0, 40.0, 320.0, 320.0), &weights, small.n)?;
    let row = 13;
    canvas.frame((20.0, 40.0 + 320.0 * row as f64 / 24.0, 320.0, 320.0 / 24.0), RED);
    // The online softmax of the marked row, tile by tile of four keys.
    let scores: Vec<f64> = weights[row * small.n..row * small.n + 14].iter().map(|w| w.ln()).collect();
    let (mut top, mut total, mut steps) = (f64::NEG_INFINITY, 0.0f64, Vec::new());
    for tile in scores.chunks(4) {
        let higher = tile.iter().copied().fold(top, f64::max);
        total = total * (top - higher).exp() + tile.iter().map(|s| (s - higher).exp()).sum::<f64>();
        let raised = higher > top && top > f64::NEG_INFINITY;
        top = higher;
        steps.push((top, total, raised));
    }
    canvas.text(380.0, 26.0, "the marked row, four keys at a time");
    for (i, (top, total, raised)) in steps.iter().enumerate() {
        let y = 70.0 + 60.0 * i as f64;
        canvas.text(380.0, y, &format!("keys {} to {}", 4 * i, (4 * i + 3).min(13)));
        canvas.fill((480.0, y - 12.0, 60.0 * total, 14.0), BLUE);
        canvas.text(488.0 + 60.0 * total, y, &format!("sum {total:.2}"));
        canvas.text(480.0, y + 18.0, &format!("maximum {top:.2}{}", if *raised { ": raised, the sum rescaled" } else { "" }));
    }
    canvas.text(380.0, 350.0, "maximum + ln(sum) is all that backward needs of a row.");
    canvas.text(380.0, 368.0, &format!("Drawn here from ln p it is {:.2}: the weights sum to one.", (steps[3].0 + steps[3].1.ln()).abs()));
    Ok(canvas.finish())
}

/// 9. The gradient of the scores: in each row as much red as blue.
pub fn attention_backward() -> Result<String> {
    let small = Small::new();
    let (weights, o) = small.weights()?;
    let mut draw = Draw::new("lesson 9");
    let d_o = drawn(&mut draw, small.n * HEAD);
    let dot = |a: &[f64], i: usize, b: &[f64], j: usize| (0..HEAD).map(|c| a[i * HEAD + c] * b[j * HEAD + c]).sum::<f64>();
    let ds: Vec<f64> = (0..small.n * small.n)
        .map(|at| (at / small.n, at % small.n))
        .map(|(i, j)| weights[i * small.n + j] * (dot(&d_o, i, &small.v, j) - dot(&d_o, i, &o, i)))
        .collect();
    let worst = ds.chunks(small.n).map(|row| row.iter().sum::<f64>().abs()).fold(0.0, f64::max);
    let mut canvas = Canvas::new(760, 400, "The weights of attention and the gradient of the scores");
    canvas.text(20.0, 26.0, "p, computed again from q, k and one number per row");
    canvas.heat((20.0, 40.0, 320.0, 320.0), &weights, small.n)?;
    canvas.text(390.0, 26.0, "ds = p (dp − delta): blue up, red down");
    canvas.heat((390.0, 40.0, 320.0, 320.0), &ds, small.n)?;
    canvas.text(20.0, 388.0, &format!("Each row of ds sums to zero (here within {worst:.0e}): to look more at one key is to look less at the others."));
    Ok(canvas.finish())
}

/// 10. The gate's curve and its slope, from the operation itself.
pub fn gate() -> Result<String> {
    const N: usize = 161;
    let g: Vec<f64> = (0..N).map(|i| -8.0 + i as f64 / 10.0).collect();
    let (gate, ones) = (tensor([N], &g)?, tensor([N], &[1.0; N])?);
    let (mut y, mut dgate, mut dup) = (zeros([N])?, zeros([N])?, zeros([N])?);
    swiglu::forward(&gate, &ones, &mut y)?;
    swiglu::backward(&gate, &ones, &ones, &mut dgate, &mut dup)?;
    let curve = |values: &[f64]| -> Vec<(f64, f64)> { g.iter().copied().zip(values.iter().copied()).collect() };
    let (forward, slope) = (curve(&y.read_f64()?), curve(&dgate.read_f64()?));
    let mut canvas = Canvas::new(760, 340, "silu and its slope");
    canvas.text(60.0, 26.0, "y = silu(gate) · up with up = 1");
    canvas.curves((60.0, 40.0, 660.0, 240.0), (70.0, 58.0), &[("silu(g)", BLUE, &forward), ("its slope", RED, &slope)]);
    canvas.text(60.0, 324.0, "Shut on the left, open on the right; unlike a step it has a slope everywhere, so it can learn when to open.");
    Ok(canvas.finish())
}
