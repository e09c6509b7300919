//! The roofline: operations per second over operations per byte, under what the device does at best.
//!
//! Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", Communications of the ACM 52 (4), 2009.

use crate::bench::{Card, Row};
use crate::error::{Error, Result};
use crate::train::files::write_atomically;
use plotters::prelude::*;
use std::io::Write;
use std::path::Path;

/// One colour per operation, in the order in which they come; they differ in lightness as well.
const COLOURS: [RGBColor; 12] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 95, 14),
    RGBColor(44, 140, 60),
    RGBColor(196, 30, 58),
    RGBColor(117, 79, 170),
    RGBColor(121, 85, 61),
    RGBColor(214, 100, 180),
    RGBColor(110, 110, 110),
    RGBColor(160, 160, 20),
    RGBColor(20, 160, 180),
    RGBColor(12, 60, 110),
    RGBColor(230, 150, 80),
];

/// Writes the rows of a card that have bytes as an SVG, log over log: a filled mark for the fastest entry of an operation, pass and
/// size, a hollow one for the others; lines for the ceilings.
///
/// # Errors
/// [`Error::Io`] where the file cannot be written.
pub fn roofline_svg(path: &Path, card: &Card) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg, card).map_err(|e| Error::file(path, format!("the roofline cannot be drawn: {e}")))?;
    write_atomically(path, |file| file.write_all(svg.as_bytes()).map_err(Error::io(path, "write")))
}

fn draw(svg: &mut String, card: &Card) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let rows: Vec<&Row> = card.rows.iter().filter(|r| r.intensity.is_some_and(|i| i > 0.0) && r.tflops > 0.0).collect();
    let bandwidth = card.ceilings.copy_bytes_per_second;
    let peaks: Vec<(&str, f64)> =
        [("f32", card.ceilings.f32_flops_per_second), ("bf16", card.ceilings.bf16_flops_per_second)].into_iter().filter_map(|(n, p)| Some((n, p?))).collect();
    let bounds = |values: Vec<f64>, default: std::ops::Range<f64>| {
        let finite = || values.iter().copied().filter(|v| v.is_finite() && *v > 0.0);
        match finite().next() {
            None => default,
            // Whole decades, so that every axis has labels.
            Some(_) => 10f64.powf(finite().fold(f64::INFINITY, f64::min).log10().floor())..10f64.powf(finite().fold(0.0, f64::max).log10().ceil() + 0.2),
        }
    };
    let intensity = |r: &Row| r.intensity.unwrap_or_default();
    let ridge = peaks.iter().filter_map(|(_, peak)| Some(2.0 * peak / bandwidth?));
    let x = bounds(rows.iter().map(|r| intensity(r)).chain(ridge).collect(), 0.1..100.0);
    let y = bounds(rows.iter().map(|r| 1e12 * r.tflops).chain(peaks.iter().map(|p| p.1)).collect(), 1e9..1e12);

    let root = SVGBackend::with_string(svg, (1080, 680)).into_drawing_area();
    root.fill(&WHITE)?;
    let (area, legend) = root.split_horizontally(880);
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{} ({})", card.device.name, card.device.kind), ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(76)
        .build_cartesian_2d(x.clone().log_scale(), y.clone().log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .x_desc("arithmetic intensity, FLOP per byte of the contract")
        .y_desc("FLOP per second")
        .x_label_formatter(&|v| short(*v))
        .y_label_formatter(&|v| short(*v))
        .draw()?;
    // The ceilings: the slope of the copy, and one level per unit, each drawn where it is the lower one.
    let top = peaks.iter().map(|p| p.1).fold(y.end, f64::min).max(peaks.iter().map(|p| p.1).fold(0.0, f64::max));
    if let Some(bandwidth) = bandwidth {
        let (from, to) = (x.start.max(y.start / bandwidth), x.end.min(top / bandwidth));
        if from < to {
            chart.draw_series(LineSeries::new([(from, from * bandwidth), (to, to * bandwidth)], BLACK.stroke_width(2)))?;
            let at = (from, from * bandwidth);
            let text = format!("copy {}B/s", short(bandwidth));
            chart.draw_series([EmptyElement::at(at) + Text::new(text, (10, -8), ("sans-serif", 15))])?;
        }
    }
    for &(name, peak) in &peaks {
        let from = bandwidth.map_or(x.start, |b| (peak / b).clamp(x.start, x.end));
        chart.draw_series(LineSeries::new([(from, peak), (x.end, peak)], BLACK.stroke_width(2)))?;
        let text = format!("{name} {}FLOP/s", short(peak));
        let label = Text::new(text, (-150, -18), ("sans-serif", 15));
        chart.draw_series([EmptyElement::at((x.end, peak)) + label])?;
    }
    let mut ops: Vec<&str> = rows.iter().map(|r| r.op.as_str()).collect();
    ops.dedup();
    let mut unique: Vec<&str> = Vec::new();
    ops.into_iter().for_each(|op| {
        if !unique.contains(&op) {
            unique.push(op)
        }
    });
    let colour = |op: &str| COLOURS[unique.iter().position(|o| *o == op).unwrap_or(0) % COLOURS.len()];
    let fastest = |row: &Row| {
        let same = |o: &&&Row| (&o.op, &o.pass, &o.shape, &o.dtype) == (&row.op, &row.pass, &row.shape, &row.dtype);
        rows.iter().filter(same).all(|o| o.seconds.median >= row.seconds.median)
    };
    // Hollow ones first: what is fastest lies on top.
    for hollow in [true, false] {
        chart.draw_series(rows.iter().filter(|r| fastest(r) != hollow).map(|r| {
            let style = if hollow { colour(&r.op).mix(0.45).stroke_width(1) } else { colour(&r.op).mix(0.85).filled() };
            Circle::new((intensity(r), 1e12 * r.tflops), 5, style)
        }))?;
    }
    for (i, op) in unique.iter().enumerate() {
        let at = (10, 70 + 24 * i as i32);
        legend.draw(&(EmptyElement::at(at) + Circle::new((0, 0), 5, colour(op).filled()) + Text::new(op.to_string(), (12, -8), ("sans-serif", 15))))?;
    }
    let mut at = 70 + 24 * unique.len() as i32 + 12;
    for text in ["filled: fastest entry", "hollow: other rungs"] {
        legend.draw(&Text::new(text, (4, at), ("sans-serif", 13)))?;
        at += 20;
    }
    root.present()?;
    Ok(())
}

/// `100 G`, `0.1`.
fn short(value: f64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")];
    let (scale, name) = units.into_iter().find(|(scale, _)| value >= 0.9995 * scale).unwrap_or((1.0, ""));
    let scaled = value / scale;
    let decimals = if scaled >= 99.95 {
        0
    } else if scaled >= 1.0 {
        1
    } else {
        3
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roofline_is_drawn_whatever_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roofline.svg");
        let text = r#"{"schema": "trimodal-card/1", "tool": "t", "date": "d", "device": {"kind": "cpu", "name": "a & b"},
            "method": {"timer": "", "inputs": "", "rotation": "", "samples": "", "shapes": [], "quick": true, "seconds": 1.0},
            "ceilings": {"copy_bytes_per_second": 1e10, "f32_flops_per_second": 1e11}, "rows": [], "left_out": [], "interrupted": false}"#;
        let mut card: Card = serde_json::from_str(text).unwrap();
        let row =
            |op: &str, intensity, tflops| {
                Row { intensity: Some(intensity), tflops, ..serde_json::from_str(&format!(
            r#"{{"op": "{op}", "entry": "forward", "pass": "forward", "set": "demo", "shape": "x", "dtype": "f32", "samples": 1, "calls": 1, "buffers": 1,
            "seconds": {{"median": 1.0, "min": 1.0, "max": 1.0, "standard_error": 0.0}}, "flops": 1, "tflops": 1.0}}"#)).unwrap() }
            };
        for rows in [vec![], vec![row("matmul", 10.0, 0.05)], vec![row("swiglu", 0.3, 0.003), row("matmul", 1e6, 0.09), row("sample", 0.0, 0.0)]] {
            card.rows = rows;
            for ceilings in [card.ceilings, Default::default()] {
                let card = Card { ceilings, ..card.clone() };
                roofline_svg(&path, &card).unwrap();
                let svg = std::fs::read_to_string(&path).unwrap();
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("arithmetic intensity") && !svg.contains("NaN"));
            }
        }
    }

    #[test]
    fn labels_are_short() {
        for (value, expected) in [(0.1, "0.1"), (1.0, "1"), (12.5, "12.5"), (1e3, "1 k"), (1.234e11, "123 G"), (1e13, "10 T")] {
            assert_eq!(short(value), expected);
        }
    }
}
