//! A small SVG: marks in pixels, from the upper left.

use crate::error::Result;
use crate::markup::escape;
use crate::report::page::picture_png;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write as _;

/// Text and lines.
pub const INK: &str = "#222";
/// What matters.
pub const BLUE: &str = "#185a9d";
/// What it is compared with.
pub const RED: &str = "#b03a10";
/// Frames and grids.
pub const GREY: &str = "#888";

/// A curve: its name, its colour, its points.
pub type Curve<'a> = (&'a str, &'a str, &'a [(f64, f64)]);

/// An SVG under construction.
pub struct Canvas {
    width: usize,
    height: usize,
    body: String,
}

impl Canvas {
    /// White, so that it can be read on a dark page too; `title` is what a screen reader says.
    pub fn new(width: usize, height: usize, title: &str) -> Self {
        let body = format!("<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
        Canvas { width, height, body }
    }

    /// Words that begin at x, on a line whose foot is y.
    pub fn text(&mut self, x: f64, y: f64, words: &str) {
        let words = escape(words);
        let _ = writeln!(self.body, "<text x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
    }

    /// A filled box.
    pub fn fill(&mut self, (x, y, width, height): (f64, f64, f64, f64), colour: &str) {
        let _ = writeln!(self.body, "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{colour}\"/>");
    }

    /// An empty box.
    pub fn frame(&mut self, (x, y, width, height): (f64, f64, f64, f64), colour: &str) {
        let _ = writeln!(self.body, "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"none\" stroke=\"{colour}\"/>");
    }

    /// A line through points.
    pub fn line(&mut self, points: impl IntoIterator<Item = (f64, f64)>, colour: &str, width: f64) {
        let points: Vec<String> = points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.body, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>", points.join(" "));
    }

    /// `[rows, columns, 3]` pixels in a box, each a square with sharp edges.
    ///
    /// # Errors
    /// As [`picture_png`].
    pub fn pixels(&mut self, (x, y, width, height): (f64, f64, f64, f64), rgb: &[u8], columns: usize) -> Result<()> {
        let data = BASE64_STANDARD.encode(picture_png(rgb, columns, rgb.len() / 3 / columns)?);
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        let _ = writeln!(self.body, "<image {place} preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>");
        Ok(())
    }

    /// Values as a picture: white is 0, blue above, red below, the largest magnitude darkest.
    ///
    /// # Errors
    /// As [`picture_png`].
    pub fn heat(&mut self, place: (f64, f64, f64, f64), values: &[f64], columns: usize) -> Result<()> {
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

    /// Curves over one horizontal axis in a box, with the two ends of both axes written beside it. Their names stand at `legend`.
    pub fn curves(&mut self, place: (f64, f64, f64, f64), legend: (f64, f64), curves: &[Curve]) {
        let (x, y, width, height) = place;
        let all = || curves.iter().flat_map(|curve| curve.2);
        let ends = |of: fn(&(f64, f64)) -> f64| all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let ((left, right), (low, high)) = (ends(|p| p.0), ends(|p| p.1));
        let at = |p: &(f64, f64)| (x + (p.0 - left) / (right - left) * width, y + height - (p.1 - low) / (high - low) * height);
        self.frame(place, GREY);
        if low < 0.0 && high > 0.0 {
            self.line([at(&(left, 0.0)), at(&(right, 0.0))], "#ccc", 1.0);
        }
        for (i, (name, colour, points)) in curves.iter().enumerate() {
            self.line(points.iter().map(at), colour, 2.0);
            let (x, y) = (legend.0, legend.1 + 18.0 * i as f64);
            self.line([(x, y - 5.0), (x + 18.0, y - 5.0)], colour, 3.0);
            self.text(x + 24.0, y, name);
        }
        self.text(x, y + height + 16.0, &number(left));
        self.text(x + width - 24.0, y + height + 16.0, &number(right));
        self.text(x - 34.0, y + height, &number(low));
        self.text(x - 34.0, y + 10.0, &number(high));
    }

    /// The file.
    pub fn finish(self) -> String {
        let Canvas { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\">\n{body}</svg>\n"
        )
    }
}

fn number(value: f64) -> String {
    if value == value.round() { format!("{value:.0}") } else { format!("{value:.2}") }
}
