//! A wrong result as a picture: what was expected, what was found, and where the two differ by more than they may.

use super::page::picture_png;
use crate::check::{Failure, FirstFailure, WrongOutput};
use crate::error::Result;
use crate::markup::svg::{INK, Pen, Place, Svg, Words};
use crate::numbers::{digits, thousands};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Of a matrix that fills its place, in pixels.
const SIDE: f64 = 260.0;
/// Between two matrices.
const GAP: f64 = 40.0;
/// Of a cell: no larger than it has to be for a number.
const CELL: (f64, f64) = (52.0, 28.0);
/// A side below which a matrix of one row or column could hardly be seen.
const THIN: f64 = 14.0;
const FONT: f64 = 13.0;
const SMALL: f64 = 11.0;
const FRAME: &str = "#888888";
/// What is not a number: neither of the two colours, and darker than both.
const NOT_A_NUMBER: [u8; 3] = [30, 30, 30];

/// The SVG of the first wrong output of a case; none where the case gave no result.
///
/// # Errors
/// As [`picture_png`].
pub fn picture(first: &FirstFailure) -> Result<Option<String>> {
    let Failure::Wrong(outputs) = &first.failure else { return Ok(None) };
    let Some(output) = outputs.first() else { return Ok(None) };
    let dims = output.shape.dims();
    // A vector is one row, more than two axes are rows of the last.
    let columns = dims.last().copied().unwrap_or(1).max(1);
    let rows = output.expected.len() / columns;
    let cell = (fit(columns, CELL.0), fit(rows, CELL.1));
    let size = (cell.0 * columns as f64, cell.1 * rows as f64);
    let width = (3.0 * size.0 + 2.0 * GAP).max(700.0) + 2.0 * GAP;
    let (top, foot) = (110.0, 110.0 + size.1 + 30.0);

    let mut svg = Svg::default();
    svg.text((GAP, 30.0), &format!("{}, {}", first.entry, first.label), Words::START.bold());
    let (wrong, of) = (output.wrong(), output.expected.len());
    let folded = if dims.len() > 2 { format!(", drawn as {} rows of {columns}", thousands(rows)) } else { String::new() };
    svg.text((GAP, 52.0), &format!("{} {}{folded}: {} of {} elements are wrong", output.output, output.shape, thousands(wrong), thousands(of)), Words::START);

    let difference: Vec<f64> = (0..of).map(|i| if output.is_wrong(i) { output.found[i] - output.expected[i] } else { 0.0 }).collect();
    let largest = |values: &[f64]| values.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let scale = largest(&output.expected);
    let off = largest(&difference);
    let panels = [("expected", &output.expected, scale), ("found", &output.found, scale), ("found − expected, where it is wrong", &difference, off)];
    for (i, (name, values, most)) in panels.into_iter().enumerate() {
        let left = GAP + i as f64 * (size.0.max((700.0 - 2.0 * GAP) / 3.0) + GAP);
        svg.text((left, 78.0), name, Words::START);
        ends(&mut svg, (left, top, size.0, size.1), output, (rows, columns));
        matrix(&mut svg, (left, top), values, columns, cell, most)?;
    }
    let shades =
        format!("White is 0, blue above, red below; darkest: ±{} in the first two, ±{} in the third. Black: not a number.", digits(scale, 3), digits(off, 3));
    svg.text((GAP, foot + 4.0), &shades, Words::START.size(SMALL));
    Ok(Some(svg.file((width, foot + 24.0), FONT, &format!("A wrong result beside the one expected: {} of {of} elements differ", wrong))))
}

/// The pixels of a cell along an axis of so many.
fn fit(cells: usize, most: f64) -> f64 {
    (SIDE / cells.max(1) as f64).min(most).max(THIN / cells.max(1) as f64)
}

/// The first and last column above a matrix, and the first and last row beside it.
fn ends(svg: &mut Svg, (left, top, width, height): Place, output: &WrongOutput, (rows, columns): (usize, usize)) {
    let small = Words::MIDDLE.size(SMALL);
    let named = output.shape.dims().len() > 1;
    let column = (width / columns as f64 / 2.0).min(8.0);
    let row = (height / rows.max(1) as f64 / 2.0).min(8.0);
    svg.text((left + column, top - 5.0), "0", small);
    if columns > 1 {
        svg.text((left + width - column, top - 5.0), &(columns - 1).to_string(), small);
    }
    if named {
        svg.text((left - 5.0, top + row + 4.0), "0", Words::END.size(SMALL));
        if rows > 1 && height > 20.0 {
            svg.text((left - 5.0, top + height - row + 4.0), &(rows - 1).to_string(), Words::END.size(SMALL));
        }
    }
}

fn matrix(svg: &mut Svg, (left, top): (f64, f64), values: &[f64], columns: usize, cell: (f64, f64), most: f64) -> Result<()> {
    let rows = values.len() / columns;
    let depth = |value: f64| if most > 0.0 { (value.abs() / most).min(1.0).sqrt() } else { 0.0 };
    let colour = |value: f64| {
        if !value.is_finite() {
            return NOT_A_NUMBER;
        }
        let ink = if value < 0.0 { [176.0, 58.0, 16.0] } else { [24.0, 90.0, 157.0] };
        // The root, so that small values are seen beside large ones.
        ink.map(|c: f64| (255.0 + (c - 255.0) * depth(value)) as u8)
    };
    let rgb: Vec<u8> = values.iter().flat_map(|&value| colour(value)).collect();
    let place = (left, top, cell.0 * columns as f64, cell.1 * rows as f64);
    let data = BASE64_STANDARD.encode(picture_png(&rgb, columns, rows)?);
    svg.image(place, &format!("data:image/png;base64,{data}"));
    svg.rect(place, Pen::line(FRAME, 1.0));
    if cell.0 < CELL.0 || cell.1 < 16.0 {
        return Ok(());
    }
    for (i, &value) in values.iter().enumerate() {
        let dark = !value.is_finite() || depth(value) > 0.6;
        let (x, y) = (left + (0.5 + (i % columns) as f64) * cell.0, top + (0.5 + (i / columns) as f64) * cell.1 + 4.0);
        let text = if value.is_finite() { digits(value, 3) } else { "NaN".into() };
        svg.text((x, y), &text, Words::MIDDLE.size(SMALL).colour(if dark { "#ffffff" } else { INK }));
    }
    Ok(())
}
