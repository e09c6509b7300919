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

/// One line of a chart.
pub struct Line<'a> {
    /// What it is: written at its end where there are several.
    pub name: &'a str,
    /// Steps and values.
    pub points: &'a [(f64, f64)],
    /// Whether it is in the background, without a name: as every value behind their mean.
    pub pale: bool,
}

impl<'a> Line<'a> {
    /// A line in a colour of its own.
    pub fn new(name: &'a str, points: &'a [(f64, f64)]) -> Self {
        Line { name, points, pale: false }
    }
}

/// A chart of something over the steps.
pub struct Curve<'a> {
    /// What is drawn.
    pub title: &'a str,
    /// The unit; empty for a plain number.
    pub unit: &'a str,
    /// The lines, up to four of them told apart by colour.
    pub lines: &'a [Line<'a>],
    /// Whether the axis of the values begins at zero in any case; else it is logarithmic where they fall or rise by a factor of more than 20.
    pub from_zero: bool,
}

/// The chart as SVG.
pub fn curve_svg(curve: &Curve) -> String {
    const SIZE: (f64, f64) = (400.0, 262.0);
    const FONT: f64 = 14.0;
    drawn(curve, SIZE, FONT).figure(SIZE, FONT)
}

/// A chart of this size, its labels in letters of that one.
pub(in crate::report) fn drawn(curve: &Curve, (width, height): (f64, f64), font: f64) -> Svg {
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
    let names = if named().count() > 1 { named().map(|line| line.name.chars().count()).max().unwrap_or(0) as f64 * LETTER * font + 6.0 } else { 0.0 };

    let mut svg = Svg::default();
    let title = if curve.unit.is_empty() { curve.title.to_string() } else { format!("{}, {}", curve.title, curve.unit) };
    svg.text((width / 2.0, 1.5 * font), &title, Words::MIDDLE.size(1.15 * font));
    let (left, top, right, below) = (4.2 * font, 2.2 * font, 1.2 * font + names, 3.2 * font);
    let place = (left, top, width - left - right, height - top - below);
    let label = |value: f64| thousands(number(value));
    let x = Axis { from: steps.0, to: steps.1, logarithmic: false, name: "step", labels: 5, label: &label };
    let y = Axis { from: values.0, to: values.1, logarithmic, name: "", labels: 6, label: &label };
    let plot = Plot::new(&mut svg, place, x, y, font);
    let mut ends: Vec<((f64, f64), &str, &str)> = Vec::new();
    let mut colours = SERIES.iter().cycle();
    for (line, points) in curve.lines.iter().zip(&lines) {
        let colour = if line.pale { PALE } else { colours.next().expect("a cycle has no end") };
        plot.line(&mut svg, points.iter().copied(), Pen::line(colour, if line.pale { 1.0 } else { 2.0 }));
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
    for ((at, name, colour), y) in ends.iter().zip(spread(&heights, 1.1 * font, height - below)) {
        svg.text((at.0 + 5.0, y + 0.35 * font), name, Words::START.colour(colour));
    }
    svg
}

/// The finite points, or the means of as many as make [`MAX_POINTS`] of them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    let group = finite.len().div_ceil(MAX_POINTS).max(1);
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
        assert!(thinned(&falling).len() <= MAX_POINTS);
    }
}
