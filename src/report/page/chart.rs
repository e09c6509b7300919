//! Curves for a page: small enough to be read on a phone.

use crate::error::{Error, Result};
use plotters::prelude::*;

/// Told apart in lightness too; all at least 4.5 : 1 on white.
const COLOURS: [RGBColor; 4] = [RGBColor(24, 90, 157), RGBColor(176, 58, 16), RGBColor(20, 110, 60), RGBColor(110, 60, 150)];

/// A value that falls or rises by more than this is drawn on a logarithmic axis.
const LOGARITHMIC_FROM: f64 = 20.0;

/// Points that are drawn of a line at most: a file of a million steps would be no page.
const MOST_POINTS: usize = 800;

/// One line of a chart.
pub struct Line<'a> {
    /// What it is, for the legend.
    pub name: &'a str,
    /// Steps and values.
    pub points: &'a [(f64, f64)],
}

/// A chart of something over the steps.
pub struct Curve<'a> {
    /// What is drawn.
    pub title: &'a str,
    /// In what.
    pub unit: &'a str,
    /// The lines, up to four told apart by colour.
    pub lines: &'a [Line<'a>],
}

/// The chart as SVG, 480 × 300.
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
    let root = SVGBackend::with_string(svg, (480, 300)).into_drawing_area();
    root.fill(&WHITE)?;
    // Two kinds of axis are two types: the chart is drawn by a macro's worth of code for each.
    macro_rules! chart {
        ($values:expr) => {{
            let mut chart = ChartBuilder::on(&root)
                .caption(format!("{}, {}", curve.title, curve.unit), ("sans-serif", 17))
                .margin(8)
                .x_label_area_size(34)
                .y_label_area_size(56)
                .build_cartesian_2d(steps, $values)?;
            chart
                .configure_mesh()
                .max_light_lines(0)
                .x_labels(6)
                .y_labels(6)
                .bold_line_style(BLACK.mix(0.12))
                .label_style(("sans-serif", 14))
                .x_desc("step")
                .axis_desc_style(("sans-serif", 14))
                .x_label_formatter(&|step| format!("{step:.0}"))
                .y_label_formatter(&|value| super::super::curve::number(*value))
                .draw()?;
            for (i, (line, points)) in curve.lines.iter().zip(&lines).enumerate() {
                let style = COLOURS[i % COLOURS.len()].stroke_width(2);
                let series = chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
                if curve.lines.len() > 1 {
                    series.label(line.name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
                }
            }
            if curve.lines.len() > 1 {
                chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).background_style(WHITE).label_font(("sans-serif", 14)).draw()?;
            }
        }};
    }
    if low > 0.0 && high / low > LOGARITHMIC_FROM {
        chart!((low * 0.9..high * 1.1).log_scale())
    } else if low.is_finite() {
        let room = ((high - low) * 0.05).max(1e-6 * high.abs().max(1e-6));
        chart!(low.min(0.0)..high + room)
    } else {
        chart!(0.0..1.0)
    }
    root.present()?;
    Ok(())
}

/// The finite points, or the means of as many as make [`MOST_POINTS`] of them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    let group = finite.len().div_ceil(MOST_POINTS).max(1);
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
            let svg = curve_svg(&Curve { title: "loss", unit: "nats", lines: &[Line { name: "a", points }, Line { name: "b", points }] }).unwrap();
            assert!(svg.contains("loss, nats") && !svg.contains("NaN") && svg.len() < 100_000, "{}", svg.len());
        }
        assert!(thinned(&falling).len() <= MOST_POINTS);
    }
}
