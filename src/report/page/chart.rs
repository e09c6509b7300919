//! Curves for a page: small enough to be read on a phone, each line named at its end.

use crate::error::{Error, Result};
use crate::numbers::{number, thousands};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Told apart in lightness too, and by people who see no red or green; the page's style gives each another tone in the dark.
const COLOURS: [RGBColor; 4] = [RGBColor(24, 90, 157), RGBColor(176, 58, 16), RGBColor(17, 105, 73), RGBColor(110, 60, 150)];
/// A line in the background.
const PALE: RGBColor = RGBColor(178, 203, 224);

const SIZE: (u32, u32) = (400, 262);
/// A letter of a line's name, roughly, in pixels.
const LETTER: usize = 7;
/// Pixels between names of lines that end near each other.
const APART: i32 = 15;

/// A value that falls or rises by more than this is drawn on a logarithmic axis.
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
///
/// # Errors
/// [`Error::Usage`] where it cannot be drawn.
pub fn curve_svg(curve: &Curve) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, curve).map_err(|e| Error::Usage(format!("the chart {:?} cannot be drawn: {e}", curve.title)))?;
    Ok(svg)
}

fn draw(svg: &mut String, curve: &Curve) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let lines: Vec<Vec<(f64, f64)>> = curve.lines.iter().map(|line| thinned(line.points)).collect();
    let all = || lines.iter().flatten();
    let (left, right) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, r), p| (l.min(p.0), r.max(p.0)));
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
    let steps = if left.is_finite() { left..right.max(left + 1.0) } else { 0.0..1.0 };
    let named = || curve.lines.iter().filter(|line| !line.pale);
    let names = if named().count() > 1 { named().map(|line| line.name.chars().count()).max().unwrap_or(0) * LETTER + 6 } else { 0 };
    let title = if curve.unit.is_empty() { curve.title.to_string() } else { format!("{}, {}", curve.title, curve.unit) };
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    // Two kinds of axis are two types: the chart is drawn by a macro's worth of code for each.
    macro_rules! chart {
        ($values:expr) => {{
            let mut chart = ChartBuilder::on(&root)
                .caption(title, ("sans-serif", 16))
                .margin(6)
                .margin_right(14 + names as i32)
                .x_label_area_size(36)
                .y_label_area_size(52)
                .build_cartesian_2d(steps, $values)?;
            chart
                .configure_mesh()
                .max_light_lines(0)
                .x_labels(5)
                .y_labels(6)
                .bold_line_style(BLACK.mix(0.12))
                .label_style(("sans-serif", 14))
                .x_desc("step")
                .axis_desc_style(("sans-serif", 14))
                .x_label_formatter(&|step| thousands(number(*step)))
                .y_label_formatter(&|value| thousands(number(*value)))
                .draw()?;
            let mut ends: Vec<(i32, i32, &str, RGBColor)> = Vec::new();
            let mut colours = COLOURS.iter().cycle();
            for (line, points) in curve.lines.iter().zip(&lines) {
                let colour = if line.pale { PALE } else { *colours.next().expect("a cycle has no end") };
                chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(if line.pale { 1 } else { 2 })))?;
                // A single value is a point, which a line does not show.
                if let [point] = points[..] {
                    chart.draw_series([Circle::new(point, 3, colour.filled())])?;
                }
                if let (Some(end), false) = (points.last(), line.pale || names == 0) {
                    let (x, y) = chart.backend_coord(end);
                    ends.push((x, y, line.name, colour));
                }
            }
            ends
        }};
    }
    let mut ends = if !curve.from_zero && low > 0.0 && high / low > LOGARITHMIC_FROM {
        chart!((low * 0.9..high * 1.1).log_scale())
    } else if low.is_finite() {
        let room = ((high - low) * 0.05).max(1e-6 * high.abs().max(1e-6));
        chart!(low.min(0.0)..high + room)
    } else {
        chart!(0.0..1.0)
    };
    // Names that would overlap move apart, down first, then up from where the axis is.
    ends.sort_by_key(|end| end.1);
    for i in 1..ends.len() {
        ends[i].1 = ends[i].1.max(ends[i - 1].1 + APART);
    }
    let mut lowest = SIZE.1 as i32 - 52;
    for end in ends.iter_mut().rev() {
        end.1 = end.1.min(lowest);
        lowest = end.1 - APART;
    }
    for (x, y, name, colour) in ends {
        let style = ("sans-serif", 14).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(name, &style, (x + 5, y))?;
    }
    root.present()?;
    Ok(())
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
            let svg = curve_svg(&Curve { title: "loss", unit: "nats", lines: &lines, from_zero: false }).unwrap();
            assert!(svg.contains("loss, nats") && !svg.contains("NaN") && svg.len() < 100_000, "{}", svg.len());
        }
        assert!(thinned(&falling).len() <= MAX_POINTS);
    }
}
