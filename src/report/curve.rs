//! The curve of the loss.

use super::page::{Curve, Line, drawn};
use crate::error::Result;
use crate::files::write_file_atomic;
use std::path::Path;

/// Writes the loss over the steps as an SVG: every value pale, their moving average on top. Values that are
/// not finite are left out.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) where the file cannot be written.
pub fn loss_svg(path: &Path, losses: &[(usize, f64)]) -> Result<()> {
    const SIZE: (f64, f64) = (960.0, 480.0);
    const FONT: f64 = 16.0;
    let points: Vec<(f64, f64)> = losses.iter().filter(|(_, loss)| loss.is_finite()).map(|&(step, loss)| (step as f64, loss)).collect();
    let mean = smoothed(&points);
    let lines = [Line { pale: true, ..Line::new("every step", &points) }, Line::new("smoothed", &mean)];
    let unit = "cross-entropy in nats per token: pale every step, dark their mean";
    let (svg, _) = drawn(&Curve { title: "Loss while training", unit, lines: &lines, from_zero: false }, "step", SIZE, FONT);
    write_file_atomic(path, svg.file(SIZE, FONT, "the loss over the steps"))
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
