//! Curves for a page: small enough to be read on a phone, each line named at its end.

use crate::markup::plot::{Axis, Plot, spread};
use crate::markup::svg::{Pen, SERIES, Svg, Words};
use crate::numbers::{number, thousands};

/// A line in the background.
const PALE: &str = "#b2cbe0";

/// What a letter takes of the size of its font, about.
const LETTER: f64 = 0.54;

/// A value that falls or rises by more than this is drawn on a logarithmic axis: on a linear one its end is a flat line at the bottom.
const LOGARITHMIC_FROM: f64 = 20.0;

/// The most points that are drawn of a line: a chart of a million points is too large for a page.
const MAX_POINTS: usize = 600;

/// What a page's script shows of the values under the pointer and at the arrow keys.
pub(super) const SCRIPT: &str = include_str!("chart.js");

/// Pieces of lines that are told apart by more than their colour: drawn and not drawn, in pixels.
const DASHES: [&str; 4] = ["", "7 4", "2 3", "9 3 2 3"];

/// Lines that are told apart by colour and pieces together.
pub const STYLES: usize = 12;

/// One line of a chart.
pub struct Line<'a> {
    /// What it is: written at its end where there are several.
    pub name: &'a str,
    /// Steps and values.
    pub points: &'a [(f64, f64)],
    /// Whether it is in the background, without a name at its end: as every value behind their mean.
    pub pale: bool,
    /// One of the [`STYLES`]; the next one's where there is none.
    pub style: Option<usize>,
}

impl<'a> Line<'a> {
    /// A line in a colour of its own.
    pub fn new(name: &'a str, points: &'a [(f64, f64)]) -> Self {
        Line { name, points, pale: false, style: None }
    }

    /// A line that looks the same in all charts, as its [`swatch_svg`] does: one of the [`STYLES`].
    pub fn styled(name: &'a str, points: &'a [(f64, f64)], style: usize) -> Self {
        Line { style: Some(style), ..Line::new(name, points) }
    }
}

/// The colour of one of the [`STYLES`], and the pieces of its line. They have no common divisor but 2: twelve pairs.
fn style(i: usize) -> (&'static str, &'static str) {
    (SERIES[i % SERIES.len()], DASHES[i % DASHES.len()])
}

/// A short line as the charts draw it: for the legend.
pub fn swatch_svg(i: usize) -> String {
    const SIZE: (f64, f64) = (36.0, 10.0);
    let (colour, dashes) = style(i);
    let mut svg = Svg::default();
    svg.line([(0.0, 5.0), (36.0, 5.0)], Pen::line(colour, 3.0).dashes(dashes));
    svg.figure(SIZE, 10.0)
}

/// A chart of something over the steps; [`over`] draws it over something else.
pub struct Curve<'a> {
    /// What is drawn.
    pub title: &'a str,
    /// The unit; empty for a plain number.
    pub unit: &'a str,
    /// The lines, up to [`STYLES`] of them told apart.
    pub lines: &'a [Line<'a>],
    /// Whether the axis of the values begins at zero in any case; else it is logarithmic where they fall or rise by a factor of more than 20.
    pub from_zero: bool,
}

/// The chart as SVG, over the steps.
pub fn curve_svg(curve: &Curve) -> String {
    over(curve, "step")
}

/// The chart as SVG, over what is called so.
pub fn over(curve: &Curve, name: &str) -> String {
    const SIZE: (f64, f64) = (420.0, 262.0);
    const FONT: f64 = 14.0;
    let (svg, axes) = drawn(curve, name, SIZE, FONT);
    svg.chart(SIZE, FONT, &axes)
}

/// A chart of this size over what is called so, its labels in letters of that size; and its axes as a script reads them.
pub(in crate::report) fn drawn(curve: &Curve, name: &str, (width, height): (f64, f64), font: f64) -> (Svg, String) {
    let lines: Vec<Vec<(f64, f64)>> = curve.lines.iter().map(|line| thinned(line.points)).collect();
    let all = || lines.iter().flatten();
    let (first, last) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, r), p| (l.min(p.0), r.max(p.0)));
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
    let steps = if first.is_finite() { (first, last.max(first + 1.0)) } else { (0.0, 1.0) };
    let logarithmic = !curve.from_zero && low > 0.0 && high / low > LOGARITHMIC_FROM;
    let values = if logarithmic {
        (low * 0.9, high * 1.1)
    } else if low.is_finite() {
        (low.min(0.0), high + ((high - low) * 0.05).max(1e-6 * high.abs().max(1e-6)))
    } else {
        (0.0, 1.0)
    };
    let named = || curve.lines.iter().filter(|line| !line.pale);
    let names = if named().count() > 1 || named().any(|line| line.style.is_some()) {
        named().map(|line| line.name.chars().count()).max().unwrap_or(0) as f64 * LETTER * font + 6.0
    } else {
        0.0
    };

    let mut svg = Svg::default();
    let title = if curve.unit.is_empty() { curve.title.to_string() } else { format!("{}, {}", curve.title, curve.unit) };
    svg.text((width / 2.0, 1.5 * font), &title, Words::MIDDLE.size(1.15 * font));
    let (left, top, right, below) = (4.5 * font, 2.2 * font, 1.2 * font + names, 3.2 * font);
    let place = (left, top, width - left - right, height - top - below);
    let label = |value: f64| thousands(number(value));
    let x = Axis { from: steps.0, to: steps.1, logarithmic: false, name, labels: 5, label: &label };
    let y = Axis { from: values.0, to: values.1, logarithmic, name: "", labels: 6, label: &label };
    let plot = Plot::new(&mut svg, place, x, y, font);
    let mut ends: Vec<((f64, f64), &str, &str)> = Vec::new();
    let mut next = 0..;
    for (line, points) in curve.lines.iter().zip(&lines) {
        let (colour, dashes) = if line.pale { (PALE, "") } else { line.style.map_or_else(|| (SERIES[next.next().unwrap_or(0) % SERIES.len()], ""), style) };
        plot.named_line(&mut svg, line.name, points.iter().copied(), Pen::line(colour, if line.pale { 1.0 } else { 2.0 }).dashes(dashes));
        let Some(&last) = points.last() else { continue };
        // A single value is a point, which a line does not show.
        if points.len() == 1 {
            svg.circle(plot.at(last), 3.0, Pen::fill(colour));
        }
        if !line.pale && names > 0.0 {
            ends.push((plot.at(last), line.name, colour));
        }
    }
    let heights: Vec<f64> = ends.iter().map(|end| end.0.1).collect();
    for ((at, name, colour), y) in ends.iter().zip(spread(&heights, 1.1 * font, height - below - 0.35 * font)) {
        svg.text((at.0 + 5.0, y + 0.35 * font), name, Words::START.colour(colour));
    }
    let axes = plot.axes(curve.unit);
    (svg, axes)
}

/// How many points a chart shows as one, their mean.
pub(in crate::report) fn together(points: usize) -> usize {
    points.div_ceil(MAX_POINTS).max(1)
}

/// The finite points, or the means of as many as make [`MAX_POINTS`] of them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    let group = together(finite.len());
    let mean = |of: &[(f64, f64)], part: fn(&(f64, f64)) -> f64| of.iter().map(part).sum::<f64>() / of.len() as f64;
    finite.chunks(group).map(|chunk| (mean(chunk, |p| p.0), mean(chunk, |p| p.1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_drawn_whatever_the_values() {
        let falling: Vec<(f64, f64)> = (1..=5000).map(|s| (s as f64, 6.0 / s as f64)).collect();
        for points in [&falling[..], &falling[..1], &[], &[(1.0, f64::NAN), (2.0, 3.0)], &[(5.0, 0.0), (6.0, -1.0)], &[(1.0, 2.0), (1.0, 2.0)], &[(1.0, 0.0)]] {
            let lines = [Line { pale: true, ..Line::new("c", points) }, Line::new("a", points), Line::new("b", points)];
            let svg = curve_svg(&Curve { title: "loss", unit: "nats", lines: &lines, from_zero: false });
            assert!(svg.contains("loss, nats") && !svg.contains("NaN") && svg.len() < 100_000, "{}", svg.len());
        }
        assert!(thinned(&falling).len() <= MAX_POINTS && together(MAX_POINTS) == 1 && together(MAX_POINTS + 1) == 2);
    }

    #[test]
    fn every_style_is_another_colour_or_another_line() {
        let all: std::collections::BTreeSet<_> = (0..STYLES).map(style).collect();
        assert_eq!(all.len(), STYLES);
        let points = [(1.0, 2.0), (2.0, 1.0)];
        let lines: Vec<Line> = (0..STYLES).map(|i| Line::styled("a", &points, i)).collect();
        let svg = over(&Curve { title: "t", unit: "u", lines: &lines, from_zero: true }, "minutes");
        for i in 0..STYLES {
            let (colour, dashes) = style(i);
            let pen =
                format!("stroke=\"{colour}\" stroke-width=\"2\"{}", if dashes.is_empty() { "/>".into() } else { format!(" stroke-dasharray=\"{dashes}\"") });
            assert!(svg.contains(&pen) && swatch_svg(i).contains(colour) && swatch_svg(i).contains(dashes), "{i}: {pen} in {svg}");
        }
        assert!(svg.contains("&quot;name&quot;:&quot;minutes&quot;"), "{svg}");
    }
}
