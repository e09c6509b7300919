//! A lesson's picture: a drawing with pictures of numbers in it.

use crate::error::Result;
use crate::markup::plot::{Axis, Plot};
use crate::markup::svg::{Pen, Place, Point, SERIES, Svg, Words};
use crate::numbers::number;
use crate::report::page::picture_png;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Text and lines.
pub(super) use crate::markup::svg::INK;
/// What matters.
pub const BLUE: &str = SERIES[0];
/// What it is compared with.
pub const RED: &str = SERIES[1];
/// Frames and grids.
pub const GREY: &str = "#888888";

const FONT: f64 = 13.0;

/// A curve: its name, its colour, its points.
pub type Curve<'a> = (&'a str, &'a str, &'a [(f64, f64)]);

/// A picture under construction.
pub struct Canvas {
    size: (f64, f64),
    title: &'static str,
    svg: Svg,
}

impl Canvas {
    /// `title` is what a screen reader says.
    pub fn new(width: usize, height: usize, title: &'static str) -> Self {
        Canvas { size: (width as f64, height as f64), title, svg: Svg::default() }
    }

    /// Words that begin at x, on a line whose foot is y.
    pub fn text(&mut self, x: f64, y: f64, words: &str) {
        self.svg.text((x, y), words, Words::START);
    }

    /// A filled box.
    pub fn fill(&mut self, place: Place, colour: &str) {
        self.svg.rect(place, Pen::fill(colour));
    }

    /// An empty box.
    pub fn frame(&mut self, place: Place, colour: &str) {
        self.svg.rect(place, Pen::line(colour, 1.0));
    }

    /// A line through points.
    pub fn line(&mut self, points: impl IntoIterator<Item = Point>, colour: &str, width: f64) {
        self.svg.line(points, Pen::line(colour, width));
    }

    /// `[rows, columns, 3]` pixels in a box, each a square with sharp edges.
    ///
    /// # Errors
    /// As [`picture_png`].
    pub fn pixels(&mut self, place: Place, rgb: &[u8], columns: usize) -> Result<()> {
        let data = BASE64_STANDARD.encode(picture_png(rgb, columns, rgb.len() / 3 / columns)?);
        self.svg.image(place, &format!("data:image/png;base64,{data}"));
        Ok(())
    }

    /// Values as a picture: white is 0, blue above, red below, the largest magnitude darkest.
    ///
    /// # Errors
    /// As [`picture_png`].
    pub fn heat(&mut self, place: Place, values: &[f64], columns: usize) -> Result<()> {
        let most = values.iter().fold(1e-12f64, |m, v| m.max(v.abs()));
        let shade = |v: &f64| {
            // The root, so that small values are seen beside large ones.
            let depth = (v.abs() / most).sqrt();
            let ink = if *v < 0.0 { [176.0, 58.0, 16.0] } else { [24.0, 90.0, 157.0] };
            ink.map(|c: f64| (255.0 + (c - 255.0) * depth) as u8)
        };
        let rgb: Vec<u8> = values.iter().flat_map(shade).collect();
        self.pixels(place, &rgb, columns)?;
        self.frame(place, GREY);
        Ok(())
    }

    /// Curves over one pair of axes around a box. Their names stand at `legend`.
    pub fn curves(&mut self, place: Place, legend: Point, curves: &[Curve]) {
        let all = || curves.iter().flat_map(|curve| curve.2);
        let ends = |of: fn(&(f64, f64)) -> f64| all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let axis = |(from, to), labels| Axis { from, to, logarithmic: false, name: "", labels, label: &number };
        let plot = Plot::new(&mut self.svg, place, axis(ends(|p| p.0), 8), axis(ends(|p| p.1), 6), FONT);
        for (i, (name, colour, points)) in curves.iter().enumerate() {
            plot.line(&mut self.svg, points.iter().copied(), Pen::line(colour, 2.0));
            let (x, y) = (legend.0, legend.1 + 18.0 * i as f64);
            self.line([(x, y - 5.0), (x + 18.0, y - 5.0)], colour, 3.0);
            self.text(x + 24.0, y, name);
        }
    }

    /// The file.
    pub fn finish(self) -> String {
        self.svg.file(self.size, FONT, self.title)
    }
}
