//! The roofline: operations per second over operations per byte, under the best that the device can do.
//!
//! Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", Communications of the ACM 52 (4), 2009.

use crate::bench::{BenchRow, Card, Ceilings, time};
use crate::error::Result;
use crate::files::write_file_atomic;
use crate::markup::plot::{Axis, Plot};
use crate::markup::svg::{INK, Pen, Place, Point, SERIES, Svg, Words};
use crate::numbers::{number, scaled};
use crate::ops::OPS;
use std::path::Path;

/// Colours that differ for people who see no red or green too, and in lightness; a page gives each another tone in the dark.
const COLOURS: [&str; 5] = ["#185a9d", "#b03a10", "#116949", "#6e3c96", "#7a5b00"];
/// Half the width of a marker, in pixels.
const HALF: f64 = 5.0;

/// A shape that stands for an operation, together with its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Marker {
    Circle,
    Square,
    Up,
    Diamond,
    Down,
}

const MARKERS: [Marker; 5] = [Marker::Circle, Marker::Square, Marker::Up, Marker::Diamond, Marker::Down];

impl Marker {
    fn draw(self, svg: &mut Svg, (x, y): Point, pen: Pen) {
        let h = HALF;
        let through = |corners: &[Point]| corners.iter().chain(corners.first()).map(|&(right, down)| (x + right, y + down)).collect::<Vec<_>>();
        match self {
            Marker::Circle => svg.circle((x, y), h, pen),
            Marker::Square => svg.rect((x - 0.9 * h, y - 0.9 * h, 1.8 * h, 1.8 * h), pen),
            Marker::Up => svg.line(through(&[(0.0, -1.2 * h), (1.15 * h, 0.9 * h), (-1.15 * h, 0.9 * h)]), pen),
            Marker::Diamond => svg.line(through(&[(0.0, -1.3 * h), (1.3 * h, 0.0), (0.0, 1.3 * h), (-1.3 * h, 0.0)]), pen),
            Marker::Down => svg.line(through(&[(0.0, 1.2 * h), (1.15 * h, -0.9 * h), (-1.15 * h, -0.9 * h)]), pen),
        }
    }
}

/// The colour and the marker of an operation: by its place in [`OPS`], so that they are the same on every device and for any choice of
/// rows. No two operations have both in common, and neighbours neither.
fn look(op: &str) -> (&'static str, Marker) {
    let place = OPS.iter().position(|known| known.name == op).unwrap_or(OPS.len());
    (COLOURS[place % COLOURS.len()], MARKERS[(place + place / COLOURS.len()) % MARKERS.len()])
}

const SIZE: (f64, f64) = (1080.0, 680.0);
const FONT: f64 = 15.0;

/// Writes the rows of a card that have bytes as an SVG, log over log: a filled mark for the fastest entry of an operation, pass and
/// size, a hollow one for the others; lines for the ceilings.
///
/// # Errors
/// [`Error::Io`] where the file cannot be written.
pub fn roofline_svg(path: &Path, card: &Card) -> Result<()> {
    write_file_atomic(path, drawn(card).file(SIZE, FONT, &format!("roofline of {}", title(card))))
}

/// The same as a part of a page.
pub(super) fn roofline_figure(card: &Card) -> String {
    drawn(card).figure(SIZE, FONT)
}

fn title(card: &Card) -> String {
    format!("{} ({})", card.device.name, card.device.kind)
}

/// What is said of a row while the pointer is on its mark.
fn about(row: &BenchRow) -> String {
    let ceiling = match (row.percent, row.bound.as_deref()) {
        (Some(percent), Some(bound)) => format!(", {percent:.0} % of what {} allows", if bound == "memory" { "memory" } else { "arithmetic" }),
        _ => String::new(),
    };
    let above = row.above.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let unsure = if row.unsure { ", unsure" } else { "" };
    let rate = short(1e12 * row.tflops);
    format!("{}: {}{unsure}, {rate}FLOP/s at {} FLOP per byte{ceiling}{above}", row.name(), time(row.seconds.median), number(row.intensity.unwrap_or_default()))
}

fn drawn(card: &Card) -> Svg {
    const LEGEND: f64 = 890.0;
    let mut svg = Svg::default();
    svg.text((LEGEND / 2.0, 32.0), &title(card), Words::MIDDLE.size(20.0));
    let rows: Vec<&BenchRow> = card.rows.iter().filter(|r| r.intensity.is_some_and(|i| i > 0.0) && r.tflops > 0.0).collect();
    let at = |r: &BenchRow| (r.intensity.unwrap_or_default(), 1e12 * r.tflops);
    let points: Vec<_> = rows.iter().map(|r| at(r)).collect();
    let plot = under(&mut svg, (90.0, 56.0, LEGEND - 90.0 - 20.0, 680.0 - 56.0 - 60.0), &card.ceilings, &points, FONT);
    let fastest = |row: &BenchRow| {
        let same = |o: &&&BenchRow| (&o.op, &o.pass, &o.shape, &o.dtype) == (&row.op, &row.pass, &row.shape, &row.dtype);
        rows.iter().filter(same).all(|o| o.seconds.median >= row.seconds.median)
    };
    // Hollow ones first: the fastest is on top.
    for hollow in [true, false] {
        for row in rows.iter().filter(|r| fastest(r) != hollow) {
            let (colour, marker) = look(&row.op);
            let pen = if hollow { Pen::line(colour, 1.0).faint(0.7) } else { Pen::fill(colour).faint(0.9) };
            svg.group(&about(row), |svg| marker.draw(svg, plot.at(at(row)), pen));
        }
    }
    // In the order of the operations, each with the look that it has everywhere.
    let mut y = 80.0;
    let others = rows.iter().map(|row| row.op.as_str()).filter(|op| OPS.iter().all(|known| known.name != *op));
    let mut legend: Vec<&str> = OPS.iter().map(|op| op.name).filter(|op| rows.iter().any(|row| row.op == *op)).collect();
    others.for_each(|op| {
        if !legend.contains(&op) {
            legend.push(op)
        }
    });
    for op in legend {
        let (colour, marker) = look(op);
        marker.draw(&mut svg, (LEGEND + 8.0, y - 5.0), Pen::fill(colour));
        svg.text((LEGEND + 22.0, y), op, Words::START);
        y += 24.0;
    }
    for text in ["filled: fastest entry", "hollow: other rungs"] {
        svg.text((LEGEND, y + 12.0), text, Words::START.size(13.0));
        y += 20.0;
    }
    svg
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
pub(super) fn marks_svg(title: &str, ceilings: &Ceilings, marks: &[Mark]) -> String {
    const SIZE: (f64, f64) = (460.0, 360.0);
    const FONT: f64 = 14.0;
    const NAMED_FROM: f64 = 0.04;
    let mut svg = Svg::default();
    svg.text((SIZE.0 / 2.0, 22.0), title, Words::MIDDLE.size(16.0));
    let marks: Vec<&Mark> = marks.iter().filter(|m| m.intensity > 0.0 && m.flops_per_second > 0.0).collect();
    let points: Vec<_> = marks.iter().map(|m| (m.intensity, m.flops_per_second)).collect();
    let plot = under(&mut svg, (74.0, 36.0, 372.0, 274.0), ceilings, &points, FONT);
    for (m, point) in marks.iter().zip(&points) {
        svg.circle(plot.at(*point), 3.0 + 18.0 * m.share.sqrt(), Pen::fill(SERIES[0]).faint(0.45));
    }
    let mut named: Vec<(f64, f64, &str)> = Vec::new();
    for (m, point) in marks.iter().zip(&points).filter(|(m, _)| m.share >= NAMED_FROM) {
        let (x, y) = plot.at(*point);
        // Names that would overlap move apart.
        let crowded = |y: f64| named.iter().any(|&(other_x, other_y, name)| (other_y - y).abs() < 15.0 && (other_x - x).abs() < 8.0 * name.len() as f64);
        let away = (0..64usize).map(|step| y + [8.0, -8.0][step % 2] * step.div_ceil(2) as f64);
        named.push((x, away.into_iter().find(|&y| !crowded(y)).unwrap_or(y), m.name));
    }
    for (x, y, name) in named {
        let left = x + 8.0 * name.len() as f64 > SIZE.0;
        svg.text((if left { x - 6.0 } else { x + 6.0 }, y + 5.0), name, if left { Words::END } else { Words::START });
    }
    svg.figure(SIZE, FONT)
}

/// The axes, log over log, around some points of intensity and operations per second, and the ceilings.
fn under(svg: &mut Svg, place: Place, ceilings: &Ceilings, points: &[Point], font: f64) -> Plot<'static> {
    let bandwidth = ceilings.copy_bytes_per_second;
    let peaks: Vec<(&str, f64)> =
        [("f32", ceilings.f32_flops_per_second), ("bf16", ceilings.bf16_flops_per_second)].into_iter().filter_map(|(n, p)| Some((n, p?))).collect();
    let bounds = |values: Vec<f64>, default: (f64, f64)| {
        let finite = || values.iter().copied().filter(|v| v.is_finite() && *v > 0.0);
        match finite().next() {
            None => default,
            // Whole decades, so that every axis has labels.
            Some(_) => (10f64.powf(finite().fold(f64::INFINITY, f64::min).log10().floor()), 10f64.powf(finite().fold(0.0, f64::max).log10().ceil() + 0.2)),
        }
    };
    let ridge = peaks.iter().filter_map(|(_, peak)| Some(2.0 * peak / bandwidth?));
    let x = bounds(points.iter().map(|p| p.0).chain(ridge).collect(), (0.1, 100.0));
    let y = bounds(points.iter().map(|p| p.1).chain(peaks.iter().map(|p| p.1)).collect(), (1e9, 1e12));
    let axis = |(from, to), name, labels| Axis { from, to, logarithmic: true, name, labels, label: &short };
    let plot = Plot::new(svg, place, axis(x, "arithmetic intensity, FLOP per byte of the contract", 8), axis(y, "FLOP per second", 8), font);
    let line = Pen::line(INK, 2.0);
    // The ceilings: the slope of the copy, and one level per unit, each drawn where it is the lower one.
    let top = peaks.iter().map(|p| p.1).fold(y.1, f64::min).max(peaks.iter().map(|p| p.1).fold(0.0, f64::max));
    if let Some(bandwidth) = bandwidth {
        let (from, to) = (x.0.max(y.0 / bandwidth), x.1.min(top / bandwidth));
        if from < to {
            plot.line(svg, [(from, from * bandwidth), (to, to * bandwidth)], line);
            let (left, foot) = plot.at((from, from * bandwidth));
            svg.text((left + 22.0, foot - 2.0), &format!("copy {}B/s", short(bandwidth)), Words::START);
        }
    }
    for &(name, peak) in &peaks {
        let from = bandwidth.map_or(x.0, |b| (peak / b).clamp(x.0, x.1));
        plot.line(svg, [(from, peak), (x.1, peak)], line);
        let (right, level) = plot.at((x.1, peak));
        svg.text((right - 4.0, level - 6.0), &format!("{name} {}FLOP/s", short(peak)), Words::END);
    }
    plot
}

/// `100 G`, `0.1`.
fn short(value: f64) -> String {
    let (value, prefix) = scaled(value);
    format!("{} {prefix}", number(value)).trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Card {
        let text = r#"{"schema": "trimodal-card/1", "tool": "t", "date": "d", "device": {"kind": "cpu", "name": "a & b"},
            "method": {"timer": "", "inputs": "", "rotation": "", "samples": "", "shapes": [], "quick": true, "seconds": 1.0},
            "ceilings": {"copy_bytes_per_second": 1e10, "f32_flops_per_second": 1e11}, "rows": [], "left_out": [], "interrupted": false}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_roofline_is_drawn_whatever_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roofline.svg");
        let mut card = empty();
        let row =
            |op: &str, intensity, tflops| {
                BenchRow { intensity: Some(intensity), tflops, ..serde_json::from_str(&format!(
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

    /// Whatever else a card holds, an operation looks as on every other device; and no two look alike.
    #[test]
    fn an_operation_looks_the_same_everywhere() {
        let looks: Vec<_> = OPS.iter().map(|op| look(op.name)).collect();
        for (i, one) in looks.iter().enumerate() {
            assert!(!looks[..i].contains(one), "{}", OPS[i].name);
        }
        for pair in looks.windows(2) {
            assert!(pair[0].0 != pair[1].0 && pair[0].1 != pair[1].1, "{pair:?}");
        }
        // Its entry in the legend, whatever else is drawn.
        let entry = |ops: &[&str]| {
            let row = |op: &&str| -> BenchRow {
                let text = format!(
                    r#"{{"op": "{op}", "entry": "forward", "pass": "forward", "set": "demo", "shape": "x", "dtype": "f32", "samples": 1, "calls": 1,
                    "buffers": 1, "seconds": {{"median": 1.0, "min": 1.0, "max": 1.0, "standard_error": 0.0}}, "flops": 1, "intensity": 1.0, "tflops": 0.01}}"#
                );
                serde_json::from_str(&text).unwrap()
            };
            let svg = drawn(&Card { rows: ops.iter().map(row).collect(), ..empty() }).figure(SIZE, FONT);
            let lines: Vec<&str> = svg.lines().collect();
            let at = lines.iter().position(|line| line.ends_with(">rope</text>")).unwrap();
            let shape = lines[at - 1];
            (shape.split(' ').next().unwrap().to_string(), shape.split("fill=").nth(1).unwrap().to_string(), shape.matches(',').count())
        };
        assert_eq!(entry(&["rope"]), entry(&["matmul", "something", "embedding", "rope"]));
    }

    #[test]
    fn marks_of_a_page_are_named_by_their_share() {
        let mark = |name, intensity, flops_per_second, share| Mark { name, intensity, flops_per_second, share };
        let ceilings = Ceilings { copy_bytes_per_second: Some(1e10), f32_flops_per_second: Some(1e11), ..Default::default() };
        let marks = [mark("matmul", 10.0, 5e10, 0.6), mark("near", 10.0, 5e10, 0.3), mark("small", 0.1, 1e9, 0.01), mark("nowhere", 0.0, 0.0, 0.5)];
        let svg = marks_svg("a & b", &ceilings, &marks);
        assert!(svg.contains("matmul") && svg.contains("near") && !svg.contains("small") && !svg.contains("nowhere"), "{svg}");
        marks_svg("", &Ceilings::default(), &[]);
    }

    #[test]
    fn labels_are_short() {
        for (value, expected) in [(0.1, "0.1"), (1.0, "1"), (12.5, "12.5"), (1e3, "1 k"), (1.234e11, "123 G"), (1e13, "10 T")] {
            assert_eq!(short(value), expected);
        }
    }
}
