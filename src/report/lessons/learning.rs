//! Chapters 11 to 13: the loss, what is done with its gradient, and what that is worth elsewhere.

use super::canvas::{BLUE, Canvas, GREY, RED};
use crate::data::meadow::{self, HEADLINE};
use crate::device::Device;
use crate::error::Result;
use crate::ops::local_histogram::{self, BINS, COLORS};
use crate::ops::{adamw, cross_entropy};
use crate::tensor::{DType, Tensor};

fn tensor(values: &[f64]) -> Result<Tensor> {
    Tensor::from_f64(&Device::Cpu, [values.len()], DType::F64, values)
}

/// 11. Logits of ten words, what the softmax makes of them, and the gradient.
pub fn loss() -> Result<String> {
    const WORDS: [&str; 10] = ["cat", "dog", "owl", "frog", "fox", "duck", "sun", "grass", "orange", "grey"];
    const TRUE: usize = 0;
    let logits = [1.6, 2.4, 0.2, 0.9, 1.5, -0.6, -1.4, -0.8, 0.3, 0.1];
    let device = Device::Cpu;
    let mut z = Tensor::from_f64(&device, [1, WORDS.len()], DType::F64, &logits)?;
    let (target, one) = (Tensor::from_slice(&device, [1], &[TRUE as i32])?, tensor(&[1.0])?);
    let (mut row_loss, mut lse, mut total) = (tensor(&[0.0])?, tensor(&[0.0])?, tensor(&[0.0])?);
    cross_entropy::forward(&z, &target, &one, &mut row_loss, &mut lse, &mut total, false)?;
    cross_entropy::backward(&mut z, &target, &lse, &one)?;
    let (gradient, loss, lse) = (z.read_f64()?, total.read_f64()?[0], lse.read_f64()?[0]);
    let mut canvas = Canvas::new(760, 380, "Logits, probabilities and the gradient of the loss for ten words");
    for (x, title) in [(110.0, "logits z"), (330.0, "softmax(z)"), (550.0, "the gradient dz")] {
        canvas.text(x, 26.0, title);
    }
    for (i, word) in WORDS.iter().enumerate() {
        let y = 44.0 + 29.0 * i as f64;
        canvas.text(20.0, y + 14.0, &format!("{word}{}", if i == TRUE { " ✓" } else { "" }));
        let mut bar = |zero: f64, length: f64, label: String| {
            canvas.fill((zero + length.min(0.0), y, length.abs(), 18.0), if length < 0.0 { RED } else { BLUE });
            canvas.text(zero + length.max(0.0) + 6.0, y + 14.0, &label);
        };
        bar(150.0, 34.0 * logits[i], format!("{:.1}", logits[i]));
        let p = (logits[i] - lse).exp();
        bar(330.0, 260.0 * p, format!("{p:.2}"));
        bar(640.0, 130.0 * gradient[i], format!("{:+.2}", gradient[i]));
    }
    canvas.line([(150.0, 40.0), (150.0, 334.0)], GREY, 1.0);
    canvas.line([(640.0, 40.0), (640.0, 334.0)], GREY, 1.0);
    canvas.text(
        20.0,
        366.0,
        &format!("The true word is \"{}\": loss −ln p = {loss:.2}. dz is softmax(z), less 1 at the true word: it sums to zero.", WORDS[TRUE]),
    );
    Ok(canvas.finish())
}

/// 12. AdamW and plain steps down a valley that is forty times as steep across as along.
pub fn step() -> Result<String> {
    const STEPS: usize = 40;
    const STEEP: [f64; 2] = [0.05, 2.0];
    const FROM: [f64; 2] = [-4.0, 1.6];
    let height = |p: [f64; 2]| 0.5 * (STEEP[0] * p[0] * p[0] + STEEP[1] * p[1] * p[1]);
    let slope = |p: [f64; 2]| [STEEP[0] * p[0], STEEP[1] * p[1]];
    let (mut p, mut m, mut v) = (tensor(&FROM)?, tensor(&[0.0; 2])?, tensor(&[0.0; 2])?);
    let mut adam = vec![FROM];
    for step in 1..=STEPS {
        let hyper = adamw::Hyper { lr: 0.2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0, max_norm: 0.0, step };
        let g = tensor(&slope(adam[step - 1]))?;
        adamw::update(&mut p, &g, &mut m, &mut v, &tensor(&hyper.coefficients()?)?, 0, &tensor(&[0.0])?, None, None)?;
        let at = p.read_f64()?;
        adam.push([at[0], at[1]]);
    }
    // As long a step as the steep direction bears: 0.9 of the rate at which it would grow without end.
    let rate = 0.9 * 2.0 / STEEP[1];
    let mut plain = vec![FROM];
    for _ in 0..STEPS {
        let at = plain[plain.len() - 1];
        plain.push([0, 1].map(|c| at[c] - rate * slope(at)[c]));
    }
    let mut canvas = Canvas::new(760, 400, "Forty steps of AdamW and of plain gradient descent down a narrow valley");
    canvas.text(20.0, 26.0, "a narrow valley, seen from above; the floor is at the cross");
    canvas.frame((20.0, 40.0, 720.0, 300.0), GREY);
    let place = |p: [f64; 2]| (20.0 + 720.0 * (p[0] + 4.6) / 6.0, 190.0 - 150.0 * p[1] / 2.0);
    for level in [0.02, 0.1, 0.4, 1.0, 2.0] {
        // The upper and the lower half of a ring, each as far as it is inside.
        for side in [1.0, -1.0] {
            let half = (0..=36).map(|i| std::f64::consts::PI * i as f64 / 36.0);
            let points = half.map(|t| [0, 1].map(|c| (2.0f64 * level / STEEP[c]).sqrt() * if c == 0 { t.cos() } else { side * t.sin() }));
            let inside = |p: &[f64; 2]| p[0] > -4.6 && p[0] < 1.4 && p[1].abs() < 2.0;
            canvas.line(points.filter(inside).map(place), "#ccc", 1.0);
        }
    }
    let (x, y) = place([0.0, 0.0]);
    canvas.line([(x - 7.0, y), (x + 7.0, y)], GREY, 2.0);
    canvas.line([(x, y - 7.0), (x, y + 7.0)], GREY, 2.0);
    for (path, colour) in [(&plain, RED), (&adam, BLUE)] {
        canvas.line(path.iter().map(|p| place(*p)), colour, 1.5);
        for p in path {
            let (x, y) = place(*p);
            canvas.fill((x - 2.0, y - 2.0, 4.0, 4.0), colour);
        }
    }
    let ends = [("plain gradient descent", plain[STEPS], RED), ("AdamW", adam[STEPS], BLUE)];
    for (i, (name, end, colour)) in ends.into_iter().enumerate() {
        let x = 20.0 + 400.0 * i as f64;
        canvas.fill((x, 360.0, 18.0, 4.0), colour);
        canvas.text(x + 26.0, 366.0, &format!("{name} ends {:.4} above the floor", height(end)));
    }
    canvas.text(20.0, 390.0, "A step as long as the gradient is small where the valley is flat. AdamW's steps are as long in either direction.");
    Ok(canvas.finish())
}

/// 13. A thing, the same thing in paler ink, and another thing in its place: how far apart pixels and counted edges find them.
pub fn abroad() -> Result<String> {
    const GRIDS: [usize; 4] = [8, 6, 4, 3];
    const PALER: f64 = 0.6;
    let dog = meadow::Attributes { species: 1, ..HEADLINE };
    let [cat, dog] = [&HEADLINE, &dog].map(|of| meadow::picture(of, 1, 4, 0));
    let pale: Vec<u8> = cat.rgb.iter().map(|&v| (128.0 + PALER * (v as f64 - 128.0)).round() as u8).collect();
    let (device, side, pictures) = (Device::Cpu, cat.width, [cat.rgb, pale, dog.rgb]);
    let pixels = Tensor::from_slice(&device, [3, side, side, 3], &pictures.concat())?;
    let zeros = |shape: &[usize]| Tensor::zeros(&device, shape, DType::F64);
    let (mut counts, mut workspace) = (zeros(&[3, local_histogram::cells(&GRIDS) * BINS])?, zeros(&[local_histogram::workspace(3, &GRIDS)])?);
    local_histogram::forward(&pixels, &GRIDS, &mut counts, &mut workspace)?;
    let edges: Vec<f64> = counts.read_f64()?.chunks_exact(BINS).flat_map(|cell| cell[COLORS..].to_vec()).collect();
    // From the first to the second and to the third.
    let distances = |values: &[f64]| {
        let rows: Vec<&[f64]> = values.chunks_exact(values.len() / 3).collect();
        [1, 2].map(|to: usize| rows[0].iter().zip(rows[to]).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt())
    };
    let far = [("its pixels", distances(&pixels.read_f64()?)), ("its edges, counted", distances(&edges))];
    let mut canvas = Canvas::new(760, 330, "A cat, the same cat in paler ink, and a dog in the cat's place; how far apart pixels and counted edges find them");
    for (i, (rgb, name)) in pictures.iter().zip(["a cat", "the cat in paler ink", "a dog where the cat was"]).enumerate() {
        let x = 20.0 + 250.0 * i as f64;
        canvas.text(x, 26.0, name);
        canvas.pixels((x, 36.0, 144.0, 144.0), rgb, side)?;
    }
    for (row, (name, [pale, other])) in far.iter().enumerate() {
        let y = 216.0 + 56.0 * row as f64;
        canvas.text(20.0, y, &format!("How far from the first picture, by {name}?"));
        for (line, (what, length, colour)) in [("the pale cat", pale / other, BLUE), ("the dog", 1.0, RED)].into_iter().enumerate() {
            let y = y + 8.0 + 17.0 * line as f64;
            canvas.text(20.0, y + 12.0, what);
            canvas.fill((120.0, y, 500.0 * length, 14.0), colour);
            canvas.text(126.0 + 500.0 * length, y + 12.0, &format!("{length:.2}"));
        }
    }
    Ok(canvas.finish())
}
