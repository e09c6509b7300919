//! The roofline: operations per second over operations per byte, under the best that the device can do.
//!
//! Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", Communications of the ACM 52 (4), 2009.

use crate::bench::{Card, Ceilings, Row};
use crate::error::{Error, Result};
use crate::files::write_file_atomic;
use crate::numbers::{number, scaled};
use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
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
    write_file_atomic(path, svg)
}

fn draw(svg: &mut String, card: &Card) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let rows: Vec<&Row> = card.rows.iter().filter(|r| r.intensity.is_some_and(|i| i > 0.0) && r.tflops > 0.0).collect();
    let at = |r: &Row| (r.intensity.unwrap_or_default(), 1e12 * r.tflops);
    let root = SVGBackend::with_string(svg, (1080, 680)).into_drawing_area();
    root.fill(&WHITE)?;
    let (area, legend) = root.split_horizontally(880);
    let title = format!("{} ({})", card.device.name, card.device.kind);
    let points: Vec<_> = rows.iter().map(|r| at(r)).collect();
    let mut chart = under(&area, &title, &card.ceilings, &points, Fonts { title: 22, axis: 16, label: 15, margin: 16, left: 76 })?;
    let mut unique: Vec<&str> = Vec::new();
    for row in &rows {
        if !unique.contains(&row.op.as_str()) {
            unique.push(&row.op);
        }
    }
    let colour = |op: &str| COLOURS[unique.iter().position(|o| *o == op).unwrap_or(0) % COLOURS.len()];
    let fastest = |row: &Row| {
        let same = |o: &&&Row| (&o.op, &o.pass, &o.shape, &o.dtype) == (&row.op, &row.pass, &row.shape, &row.dtype);
        rows.iter().filter(same).all(|o| o.seconds.median >= row.seconds.median)
    };
    // Hollow ones first: the fastest is on top.
    for hollow in [true, false] {
        chart.draw_series(rows.iter().filter(|r| fastest(r) != hollow).map(|r| {
            let style = if hollow { colour(&r.op).mix(0.45).stroke_width(1) } else { colour(&r.op).mix(0.85).filled() };
            Circle::new(at(r), 5, style)
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

/// A kernel under the roof.
pub(super) struct Mark<'a> {
    /// Its name.
    pub name: &'a str,
    /// Floating-point operations per byte of its contract.
    pub intensity: f64,
    /// What it reaches.
    pub flops_per_second: f64,
    /// Its part of the whole time, from 0 to 1: the area of the mark.
    pub share: f64,
}

/// The marks under their roof, for a page: small, without a legend; what takes more than a few per cent of the time has its name beside.
pub(super) fn marks_svg(title: &str, ceilings: &Ceilings, marks: &[Mark]) -> Result<String> {
    let mut svg = String::new();
    draw_marks(&mut svg, title, ceilings, marks).map_err(|e| Error::Usage(format!("the roofline cannot be drawn: {e}")))?;
    Ok(svg)
}

fn draw_marks(svg: &mut String, title: &str, ceilings: &Ceilings, marks: &[Mark]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    const NAMED_FROM: f64 = 0.04;
    let size = (460, 360);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let marks: Vec<&Mark> = marks.iter().filter(|m| m.intensity > 0.0 && m.flops_per_second > 0.0).collect();
    let points: Vec<_> = marks.iter().map(|m| (m.intensity, m.flops_per_second)).collect();
    let mut chart = under(&root, title, ceilings, &points, Fonts { title: 16, axis: 14, label: 14, margin: 8, left: 58 })?;
    chart.draw_series(marks.iter().zip(&points).map(|(m, &at)| Circle::new(at, (3.0 + 18.0 * m.share.sqrt()) as i32, COLOURS[0].mix(0.45).filled())))?;
    let mut named: Vec<(i32, i32, &str)> = Vec::new();
    for (m, at) in marks.iter().zip(&points).filter(|(m, _)| m.share >= NAMED_FROM) {
        let (x, y) = chart.backend_coord(at);
        // Names that would overlap move apart.
        let crowded = |y: i32| named.iter().any(|&(other_x, other_y, name)| (other_y - y).abs() < 15 && (other_x - x).abs() < 8 * name.len() as i32);
        let y = (0..).map(|step: usize| y + [1, -1][step % 2] * 8 * step.div_ceil(2) as i32).find(|&y| !crowded(y)).unwrap_or(y);
        named.push((x, y, m.name));
    }
    for (x, y, name) in named {
        let left = x + 8 * name.len() as i32 > size.0 as i32;
        let anchor = Pos::new(if left { HPos::Right } else { HPos::Left }, VPos::Center);
        let style = ("sans-serif", 14).into_font().color(&BLACK).pos(anchor);
        root.draw_text(name, &style, (if left { x - 6 } else { x + 6 }, y))?;
    }
    root.present()?;
    Ok(())
}

/// Sizes of letters, and of what is around the axes.
struct Fonts {
    title: i32,
    axis: i32,
    label: i32,
    margin: i32,
    left: i32,
}

type Roof<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

/// The axes, log over log, around some points of intensity and operations per second, and the ceilings.
fn under<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    title: &str,
    ceilings: &Ceilings,
    points: &[(f64, f64)],
    fonts: Fonts,
) -> std::result::Result<Roof<'a>, Box<dyn std::error::Error>> {
    let bandwidth = ceilings.copy_bytes_per_second;
    let peaks: Vec<(&str, f64)> =
        [("f32", ceilings.f32_flops_per_second), ("bf16", ceilings.bf16_flops_per_second)].into_iter().filter_map(|(n, p)| Some((n, p?))).collect();
    let bounds = |values: Vec<f64>, default: std::ops::Range<f64>| {
        let finite = || values.iter().copied().filter(|v| v.is_finite() && *v > 0.0);
        match finite().next() {
            None => default,
            // Whole decades, so that every axis has labels.
            Some(_) => 10f64.powf(finite().fold(f64::INFINITY, f64::min).log10().floor())..10f64.powf(finite().fold(0.0, f64::max).log10().ceil() + 0.2),
        }
    };
    let ridge = peaks.iter().filter_map(|(_, peak)| Some(2.0 * peak / bandwidth?));
    let x = bounds(points.iter().map(|p| p.0).chain(ridge).collect(), 0.1..100.0);
    let y = bounds(points.iter().map(|p| p.1).chain(peaks.iter().map(|p| p.1)).collect(), 1e9..1e12);
    let label = ("sans-serif", fonts.label);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", fonts.title))
        .margin(fonts.margin)
        .x_label_area_size(3 * fonts.axis)
        .y_label_area_size(fonts.left)
        .build_cartesian_2d(x.clone().log_scale(), y.clone().log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(label)
        .axis_desc_style(("sans-serif", fonts.axis))
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
            chart.draw_series([EmptyElement::at(at) + Text::new(text, (10, -8), label)])?;
        }
    }
    for &(name, peak) in &peaks {
        let from = bandwidth.map_or(x.start, |b| (peak / b).clamp(x.start, x.end));
        chart.draw_series(LineSeries::new([(from, peak), (x.end, peak)], BLACK.stroke_width(2)))?;
        let text = Text::new(format!("{name} {}FLOP/s", short(peak)), (-10 * fonts.label, -18), label);
        chart.draw_series([EmptyElement::at((x.end, peak)) + text])?;
    }
    Ok(chart)
}

/// `100 G`, `0.1`.
fn short(value: f64) -> String {
    let (value, prefix) = scaled(value);
    format!("{} {prefix}", number(value)).trim_end().into()
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
    fn marks_of_a_page_are_named_by_their_share() {
        let mark = |name, intensity, flops_per_second, share| Mark { name, intensity, flops_per_second, share };
        let ceilings = Ceilings { copy_bytes_per_second: Some(1e10), f32_flops_per_second: Some(1e11), ..Default::default() };
        let marks = [mark("matmul", 10.0, 5e10, 0.6), mark("near", 10.0, 5e10, 0.3), mark("small", 0.1, 1e9, 0.01), mark("nowhere", 0.0, 0.0, 0.5)];
        let svg = marks_svg("a & b", &ceilings, &marks).unwrap();
        assert!(svg.contains("matmul") && svg.contains("near") && !svg.contains("small") && !svg.contains("nowhere"), "{svg}");
        marks_svg("", &Ceilings::default(), &[]).unwrap();
    }

    #[test]
    fn labels_are_short() {
        for (value, expected) in [(0.1, "0.1"), (1.0, "1"), (12.5, "12.5"), (1e3, "1 k"), (1.234e11, "123 G"), (1e13, "10 T")] {
            assert_eq!(short(value), expected);
        }
    }
}
