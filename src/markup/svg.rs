//! Drawings: shapes and words as SVG, in pixels from the upper left.

use super::escape;
use std::fmt::Write;

/// To the right, and down.
pub(crate) type Point = (f64, f64);
/// Left, top, width, height.
pub(crate) type Place = (f64, f64, f64, f64);

/// What a drawing lies on, so that it can be read on a dark page too.
const PAPER: &str = "#ffffff";
/// Words and axes.
pub(crate) const INK: &str = "#222222";
/// What leads the eye and is not read.
pub(crate) const GRID: &str = "#d9dce0";
/// Things that are told apart: in lightness too, and by people who see no red or green; each at least 4.5 : 1 on white. A page gives the
/// first four another tone in the dark.
pub(crate) const SERIES: [&str; 6] = ["#185a9d", "#b03a10", "#116949", "#6e3c96", "#7a5b00", "#51575e"];

/// How a shape is painted.
#[derive(Clone, Copy)]
pub(crate) struct Pen<'a> {
    fill: &'a str,
    stroke: &'a str,
    width: f64,
    opacity: f64,
    /// Lengths of what is drawn and what is not, in turn; empty for a line in one piece.
    dashes: &'a str,
}

impl<'a> Pen<'a> {
    /// Filled.
    pub fn fill(colour: &'a str) -> Self {
        Pen { fill: colour, stroke: "", width: 0.0, opacity: 1.0, dashes: "" }
    }

    /// A line of so many pixels, nothing inside.
    pub fn line(colour: &'a str, width: f64) -> Self {
        Pen { stroke: colour, width, ..Pen::fill("none") }
    }

    /// With a line around what is filled.
    pub fn around(self, colour: &'a str, width: f64) -> Self {
        Pen { stroke: colour, width, ..self }
    }

    /// Some of what is under it is seen through it.
    pub fn faint(self, opacity: f64) -> Self {
        Pen { opacity, ..self }
    }

    /// Its line in pieces.
    pub fn dashed(self) -> Self {
        self.dashes("5 4")
    }

    /// Its line in pieces of these lengths, drawn and not drawn in turn; one piece where there are none.
    pub fn dashes(self, dashes: &'a str) -> Self {
        Pen { dashes, ..self }
    }

    fn attributes(&self) -> String {
        let mut text = format!("fill=\"{}\"", self.fill);
        if !self.stroke.is_empty() && self.width > 0.0 {
            let _ = write!(text, " stroke=\"{}\"", self.stroke);
            if self.width != 1.0 {
                let _ = write!(text, " stroke-width=\"{}\"", short(self.width));
            }
        }
        if !self.dashes.is_empty() {
            let _ = write!(text, " stroke-dasharray=\"{}\"", self.dashes);
        }
        if self.opacity < 1.0 {
            let _ = write!(text, " opacity=\"{}\"", short(self.opacity));
        }
        text
    }
}

/// Which part of the words stands at their place.
#[derive(Clone, Copy, PartialEq)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// How words are written.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    anchor: Anchor,
    size: f64,
    bold: bool,
    upward: bool,
    colour: &'a str,
}

impl<'a> Words<'a> {
    /// They begin there.
    pub const START: Words<'static> = Words { anchor: Anchor::Start, size: 0.0, bold: false, upward: false, colour: "" };
    /// Their middle is there.
    pub const MIDDLE: Words<'static> = Words { anchor: Anchor::Middle, ..Words::START };
    /// They end there.
    pub const END: Words<'static> = Words { anchor: Anchor::End, ..Words::START };

    /// Of another size than the drawing's.
    pub fn size(self, size: f64) -> Self {
        Words { size, ..self }
    }

    /// Stronger.
    pub fn bold(self) -> Self {
        Words { bold: true, ..self }
    }

    /// From below to above, as beside an axis.
    pub fn upward(self) -> Self {
        Words { upward: true, ..self }
    }

    /// In a colour.
    pub fn colour(self, colour: &'a str) -> Words<'a> {
        Words { colour, ..self }
    }
}

/// A drawing under construction: what comes later lies on top.
#[derive(Default)]
pub(crate) struct Svg(String);

impl Svg {
    /// A box.
    pub fn rect(&mut self, (x, y, width, height): Place, pen: Pen) {
        let [x, y, width, height] = [x, y, width, height].map(short);
        let _ = writeln!(self.0, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {}/>", pen.attributes());
    }

    /// A circle.
    pub fn circle(&mut self, (x, y): Point, radius: f64, pen: Pen) {
        let [x, y, radius] = [x, y, radius].map(short);
        let _ = writeln!(self.0, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" {}/>", pen.attributes());
    }

    /// A line through points.
    pub fn line(&mut self, points: impl IntoIterator<Item = Point>, pen: Pen) {
        self.polyline("", points, pen);
    }

    /// A line through points that a page's script knows by this name.
    pub fn named_line(&mut self, name: &str, points: impl IntoIterator<Item = Point>, pen: Pen) {
        self.polyline(&format!("data-name=\"{}\" ", readable(name)), points, pen);
    }

    fn polyline(&mut self, more: &str, points: impl IntoIterator<Item = Point>, pen: Pen) {
        let points: Vec<String> = points.into_iter().map(|(x, y)| format!("{},{}", short(x), short(y))).collect();
        let _ = writeln!(self.0, "<polyline {more}points=\"{}\" {}/>", points.join(" "), pen.attributes());
    }

    /// Words on a line whose foot is at this height.
    pub fn text(&mut self, (x, y): Point, text: &str, words: Words) {
        let [x, y] = [x, y].map(short);
        let mut more = String::new();
        match words.anchor {
            Anchor::Start => {}
            Anchor::Middle => more += " text-anchor=\"middle\"",
            Anchor::End => more += " text-anchor=\"end\"",
        }
        if words.size > 0.0 {
            let _ = write!(more, " font-size=\"{}\"", short(words.size));
        }
        if words.bold {
            more += " font-weight=\"600\"";
        }
        if words.upward {
            let _ = write!(more, " transform=\"rotate(-90 {x} {y})\"");
        }
        if !words.colour.is_empty() {
            let _ = write!(more, " fill=\"{}\"", words.colour);
        }
        let _ = writeln!(self.0, "<text x=\"{x}\" y=\"{y}\"{more}>{}</text>", readable(text));
    }

    /// A picture that fills a box, its pixels with sharp edges; `uri` is trusted.
    pub fn image(&mut self, (x, y, width, height): Place, uri: &str) {
        let [x, y, width, height] = [x, y, width, height].map(short);
        let place = format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
        let _ = writeln!(self.0, "<image {place} preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" href=\"{uri}\"/>");
    }

    /// Things that belong together, with what is said about them while the pointer is on them.
    pub fn group(&mut self, about: &str, draw: impl FnOnce(&mut Self)) {
        let _ = writeln!(self.0, "<g><title>{}</title>", readable(about));
        draw(self);
        self.0 += "</g>\n";
    }

    /// The file. `label` is what a screen reader says of it, `font` the size of its letters.
    pub fn file(&self, size: (f64, f64), font: f64, label: &str) -> String {
        self.document(size, font, &format!(" role=\"img\" aria-label=\"{}\"", readable(label)))
    }

    /// A part of a page, which says itself what it shows.
    pub fn figure(&self, size: (f64, f64), font: f64) -> String {
        self.document(size, font, "")
    }

    /// A part of a page whose script finds values by these axes.
    pub fn chart(&self, size: (f64, f64), font: f64, axes: &str) -> String {
        self.document(size, font, &format!(" data-axes=\"{}\"", readable(axes)))
    }

    fn document(&self, (width, height): (f64, f64), font: f64, more: &str) -> String {
        let [width, height, font] = [width, height, font].map(short);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\"{more} width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"{font}\" fill=\"{INK}\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>\n{}</svg>\n",
            self.0
        )
    }
}

/// A thousandth of a pixel is near enough.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// Text for XML, which does not allow most control characters.
fn readable(text: &str) -> String {
    escape(&text.replace(char::is_control, "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_is_what_was_drawn() {
        let mut svg = Svg::default();
        svg.group("a<b\u{1}", |svg| svg.rect((1.0, 2.5, 1.0 / 3.0, 4.0), Pen::fill("#fff").around("#000", 0.5)));
        svg.line([(0.0, -0.0), (1.0, 2.0)], Pen::line("#000", 1.0).dashed());
        svg.circle((1.0, 2.0), 3.0, Pen::fill("#000").faint(0.5));
        svg.text((1.0, 2.0), "a & b", Words::END.size(9.0).bold().upward().colour("#111"));
        let file = svg.file((10.0, 20.0), 12.0, "\"it\"");
        for part in [
            "<g><title>a&lt;b\u{fffd}</title>\n<rect x=\"1\" y=\"2.5\" width=\"0.333\" height=\"4\" fill=\"#fff\" stroke=\"#000\" stroke-width=\"0.5\"/>\n</g>",
            "<polyline points=\"0,0 1,2\" fill=\"none\" stroke=\"#000\" stroke-dasharray=\"5 4\"/>",
            "<circle cx=\"1\" cy=\"2\" r=\"3\" fill=\"#000\" opacity=\"0.5\"/>",
            "<text x=\"1\" y=\"2\" text-anchor=\"end\" font-size=\"9\" font-weight=\"600\" transform=\"rotate(-90 1 2)\" fill=\"#111\">a &amp; b</text>",
            "aria-label=\"&quot;it&quot;\" width=\"10\" height=\"20\" viewBox=\"0 0 10 20\"",
        ] {
            assert!(file.contains(part), "{part}\n{file}");
        }
        assert!(file.starts_with("<svg ") && file.ends_with("</svg>\n") && !svg.figure((1.0, 1.0), 1.0).contains("aria-label"));
    }
}
