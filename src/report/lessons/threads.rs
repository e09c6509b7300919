//! Chapter 0: how threads share work.

use super::canvas::{BLUE, Canvas, GREY, INK, RED};
use crate::device::Device;
use crate::error::Result;
use crate::ops::primer;
use crate::tensor::{DType, Tensor};

/// Lighter than `BLUE` and `RED`.
const PALE: &str = "#cfe0f3";
/// As [`PALE`], of red.
const ROSE: &str = "#f6d5c6";

/// 0. The three kernels of the primer, each smaller than it is: blocks of 4, a row of 8, tiles of 4 × 4.
pub fn threads() -> Result<String> {
    let mut canvas =
        Canvas::new(760, 620, "A vector shared out among blocks of threads; a row summed by a tree; a tile of a product and what it needs of both matrices");
    add(&mut canvas, 20.0);
    row_sum(&mut canvas, 175.0)?;
    tile_product(&mut canvas, 425.0);
    Ok(canvas.finish())
}

/// `add`: ten elements, three blocks of four threads.
fn add(canvas: &mut Canvas, top: f64) {
    const BLOCK: usize = 4;
    const N: usize = 10;
    canvas.text(20.0, top + 6.0, "add: a grid of 3 blocks of 4 threads for a vector of 10 elements");
    let (wide, y) = (44.0, top + 44.0);
    let place = |i: usize| 70.0 + wide * i as f64 + 28.0 * (i / BLOCK) as f64;
    for (name, y) in [("thread", y), ("element", y + 58.0)] {
        canvas.text(10.0, y + 16.0, name);
    }
    for i in 0..N.next_multiple_of(BLOCK) {
        let (x, idle) = (place(i), i >= N);
        canvas.fill((x + 3.0, y, wide - 6.0, 22.0), if idle { ROSE } else { PALE });
        canvas.text(x + 18.0, y + 16.0, &(i % BLOCK).to_string());
        if idle {
            continue;
        }
        canvas.line([(x + wide / 2.0, y + 22.0), (x + wide / 2.0, y + 58.0)], BLUE, 1.2);
        canvas.frame((x + 3.0, y + 58.0, wide - 6.0, 22.0), GREY);
        canvas.text(x + 18.0, y + 74.0, &i.to_string());
    }
    for block in 0..N.div_ceil(BLOCK) {
        canvas.frame((place(block * BLOCK) - 3.0, y - 6.0, wide * BLOCK as f64 + 6.0, 34.0), INK);
        canvas.text(place(block * BLOCK), y - 12.0, &format!("block {block}"));
    }
    let beyond = place(N);
    canvas.text(beyond + 8.0, y + 50.0, "no element:");
    canvas.text(beyond + 8.0, y + 68.0, "they end at once");
}

/// `row_sum`: the tree over the sums of eight threads.
fn row_sum(canvas: &mut Canvas, top: f64) -> Result<()> {
    let mut lanes = vec![3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
    let n = lanes.len();
    let mut sum = Tensor::zeros(&Device::Cpu, [1], DType::F64)?;
    primer::row_sum(&Tensor::from_f64(&Device::Cpu, [1, n], DType::F64, &lanes)?, &mut sum)?;
    canvas.text(20.0, top + 6.0, "row_sum: the sums of 8 threads in shared memory; a barrier after each round (red)");
    let (wide, tall) = (52.0, 56.0);
    let middle = |lane: usize| 70.0 + wide * lane as f64 + wide / 2.0;
    let mut width = n;
    for round in 0.. {
        let y = top + 24.0 + tall * round as f64;
        for (lane, value) in lanes.iter().enumerate().take(width) {
            canvas.fill((middle(lane) - 20.0, y, 40.0, 22.0), if width == 1 { ROSE } else { PALE });
            canvas.text(middle(lane) - if *value < 10.0 { 4.0 } else { 8.0 }, y + 16.0, &value.to_string());
        }
        if width == 1 {
            canvas.text(middle(0) + 34.0, y + 16.0, &format!("thread 0 writes the row's sum, {}", sum.read_f64()?[0]));
            break;
        }
        canvas.line([(60.0, y + 29.0), (70.0 + wide * n as f64, y + 29.0)], RED, 1.5);
        width /= 2;
        for lane in 0..width {
            for from in [lane, lane + width] {
                canvas.line([(middle(from), y + 31.0), (middle(lane), y + tall)], GREY, 1.0);
            }
            lanes[lane] += lanes[lane + width];
        }
        let working = if width == 1 { "1 thread adds".into() } else { format!("{width} threads add") };
        canvas.text(80.0 + wide * n as f64, y + tall - 9.0, &working);
    }
    Ok(())
}

/// `tile_product`: a block's tile of C, and the tiles that it walks over.
fn tile_product(canvas: &mut Canvas, top: f64) {
    const SIDE: usize = 4;
    let cell = 11.0;
    canvas.text(20.0, top + 6.0, "tile_product: 16 threads, 4 × 4 results; in each turn a tile of A meets a tile of B");
    let tile = cell * SIDE as f64;
    let ((a, b, c), y) = ((70.0, 290.0, 510.0), top + 30.0);
    // Matrices of 12 × 12: three turns.
    for (x, name) in [(a, "A"), (b, "B"), (c, "C")] {
        canvas.text(x - 20.0, y + 1.6 * tile, name);
    }
    for (x, sign) in [(b - 60.0, "·"), (c - 60.0, "=")] {
        canvas.text(x, y + 1.6 * tile, sign);
    }
    for turn in 0..3 {
        let along = tile * turn as f64;
        let colour = if turn == 1 { BLUE } else { PALE };
        canvas.fill((a + along, y + tile, tile, tile), colour);
        canvas.fill((b + tile, y + along, tile, tile), if turn == 1 { RED } else { ROSE });
    }
    canvas.fill((c + tile, y + tile, tile, tile), INK);
    for x in [a, b, c] {
        for line in 0..=3 {
            let at = tile * line as f64;
            canvas.line([(x + at, y), (x + at, y + 3.0 * tile)], GREY, 1.0);
            canvas.line([(x, y + at), (x + 3.0 * tile, y + at)], GREY, 1.0);
        }
    }
    canvas.text(20.0, y + 3.0 * tile + 22.0, "Dark: in shared memory in the second turn of three. Each number is fetched once and used by 4 threads.");
}
