//! The curve of the loss.

use crate::error::{Error, Result};
use crate::files::write_file_atomic;
use crate::numbers::number;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use std::path::Path;

const RAW: RGBColor = RGBColor(178, 203, 224);
const SMOOTHED: RGBColor = RGBColor(24, 90, 157);
/// A loss that falls by more than this is drawn on a logarithmic axis: on a linear one its end is a flat line at the bottom.
const LOGARITHMIC_FROM: f64 = 20.0;

/// Writes the loss over the steps as an SVG: every value pale, their moving average on top. Values that are
/// not finite are left out.
///
/// # Errors
/// [`Error::Io`] where the file cannot be written.
pub fn loss_svg(path: &Path, losses: &[(usize, f64)]) -> Result<()> {
    let points: Vec<(f64, f64)> = losses.iter().filter(|(_, loss)| loss.is_finite()).map(|&(step, loss)| (step as f64, loss)).collect();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (960, 480)).into_drawing_area();
        let steps = points.first().map_or(0.0, |p| p.0)..points.last().map_or(1.0, |p| p.0).max(points.first().map_or(0.0, |p| p.0) + 1.0);
        let low = points.iter().fold(f64::INFINITY, |m, p| m.min(p.1));
        let high = points.iter().fold(f64::NEG_INFINITY, |m, p| m.max(p.1));
        let drawn = if points.is_empty() {
            draw(&root, steps, 0.0..1.0, &points)
        } else if low > 0.0 && high / low > LOGARITHMIC_FROM {
            draw(&root, steps, (low * 0.9..high * 1.1).log_scale(), &points)
        } else {
            let room = ((high - low) * 0.05).max(1e-6);
            draw(&root, steps, (low - room).min(0.0)..high + room, &points)
        };
        drawn.map_err(|e| Error::file(path, format!("the curve cannot be drawn: {e}")))?;
    }
    write_file_atomic(path, svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw<Y>(root: &Area, steps: std::ops::Range<f64>, losses: Y, points: &[(f64, f64)]) -> std::result::Result<(), Box<dyn std::error::Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .caption("Loss while training", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(steps, losses)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .x_desc("step")
        .y_desc("cross-entropy, nats per token")
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|loss| number(*loss))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), RAW.stroke_width(1)))?.label("every step").legend(|(x, y)| mark(x, y, RAW.stroke_width(1)));
    chart.draw_series(LineSeries::new(smoothed(points), SMOOTHED.stroke_width(2)))?.label("smoothed").legend(|(x, y)| mark(x, y, SMOOTHED.stroke_width(2)));
    chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).background_style(WHITE).label_font(("sans-serif", 15)).draw()?;
    root.present()?;
    Ok(())
}

fn mark(x: i32, y: i32, style: ShapeStyle) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 18, y)], style)
}

/// The mean of the points around each one, a fiftieth of all: centred, because a running average lags behind a fall.
pub(super) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 100;
    (0..points.len())
        .map(|i| {
            let reach = reach.min(i).min(points.len() - 1 - i); // as many before as after
            let around = &points[i - reach..=i + reach];
            (points[i].0, around.iter().map(|p| p.1).sum::<f64>() / around.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_drawn_whatever_the_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        let falling: Vec<(usize, f64)> = (1..=500).map(|s| (s, 6.0 / s as f64 + 0.01 * (s as f64 * 0.7).sin().abs())).collect();
        for losses in [&falling[..], &falling[..1], &[], &[(1, f64::NAN), (2, 3.0)], &[(5, 0.0), (6, -1.0)], &[(1, 2.0), (2, 2.0)], &[(1, 1e-30), (2, 1e30)]] {
            loss_svg(&path, losses).unwrap();
            let svg = std::fs::read_to_string(&path).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("cross-entropy") && svg.contains("step") && !svg.contains("NaN"));
        }
    }

    #[test]
    fn an_average_of_equal_values_is_that_value() {
        let points: Vec<(f64, f64)> = (0..200).map(|s| (s as f64, 3.0)).collect();
        assert!(smoothed(&points).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
    }
}
