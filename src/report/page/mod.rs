//! A page for people: one self-contained HTML file, readable offline, on a phone, by keyboard and by a screen reader.
//!
//! Nothing in it comes from anywhere else: pictures, sounds and charts are part of the file. It has no script, but where words are
//! explained one that draws the overlays. Colours have a
//! contrast of at least 4.5 to 1 on their ground (WCAG 2.2, 1.4.3), and nothing is said by colour alone.

mod chart;
mod explain;
mod gallery;
mod image;

pub use chart::{Curve, Line, curve_svg};
pub use gallery::{Card, Heat};
pub use image::{overlay, picture_png, spectrogram_png};

use crate::error::{Error, Result};
use crate::train::files::write_atomically;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

const STYLE: &str = include_str!("style.css");
/// Scripts without it do not run: what others wrote stays text even where we failed to escape it.
const NONCE: &str = "explain";

/// A page under construction. Every method adds to its end.
pub struct Page {
    title: String,
    body: String,
    /// Headings so far with their anchors: the table of contents.
    contents: Vec<String>,
    /// Whether a section is open.
    open: bool,
    /// Whether words are explained: the page then has a script.
    explains: bool,
}

impl Page {
    /// A page with a title and a first paragraph.
    pub fn new(title: &str, lead: &str) -> Self {
        Page {
            title: title.into(),
            body: format!("<h1>{}</h1>\n<p class=lead>{}</p>\n", escape(title), escape(lead)),
            contents: Vec::new(),
            open: false,
            explains: false,
        }
    }

    /// A new section.
    pub fn section(&mut self, heading: &str) {
        if self.open {
            self.body += "</section>\n";
        }
        self.open = true;
        self.contents.push(heading.into());
        let n = self.contents.len();
        let _ = writeln!(self.body, "<section aria-labelledby=s{n}>\n<h2 id=s{n}>{}</h2>", escape(heading));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// Lines to be typed, one to a line.
    pub fn commands(&mut self, lines: &str) {
        let _ = writeln!(self.body, "<pre tabindex=0 aria-label=\"commands\">{}</pre>", escape(lines));
    }

    /// What is so, and how: names with their values.
    pub fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, String)>) {
        self.body += "<dl>\n";
        for (name, value) in facts {
            let _ = writeln!(self.body, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value));
        }
        self.body += "</dl>\n";
    }

    /// A table whose first column names the rows. It scrolls by itself where the screen is narrower.
    pub fn table(&mut self, caption: &str, header: &[&str], rows: &[Vec<String>]) {
        let _ = write!(self.body, "<div class=scroll tabindex=0 role=region aria-label=\"{0}\"><table>\n<caption>{0}</caption>\n<thead><tr>", escape(caption));
        header.iter().for_each(|h| self.body += &format!("<th scope=col>{}</th>", escape(h)));
        self.body += "</tr></thead>\n<tbody>\n";
        for row in rows {
            for (column, cell) in row.iter().enumerate() {
                let tag = if column == 0 { "<tr><th scope=row>" } else { "<td>" };
                let _ = write!(self.body, "{tag}{}", escape(cell));
            }
            self.body += "\n";
        }
        self.body += "</tbody></table></div>\n";
    }

    /// How often what is true (rows) was said to be what (columns), as shares of each row; the share is in the cell, and its shade.
    pub fn confusion(&mut self, caption: &str, names: &[&str], counts: &[Vec<usize>]) {
        let label = escape(caption);
        let _ = write!(
            self.body,
            "<div class=scroll tabindex=0 role=region aria-label=\"{label}\"><table class=confusion>\n<caption>{label}</caption>\n<thead><tr><td></td>"
        );
        names.iter().for_each(|name| self.body += &format!("<th scope=col>{}</th>", escape(name)));
        self.body += "</tr></thead>\n<tbody>\n";
        for (row, (name, counts)) in names.iter().zip(counts).enumerate() {
            let _ = write!(self.body, "<tr><th scope=row>{}</th>", escape(name));
            let all: usize = counts.iter().sum();
            for (column, &count) in counts.iter().enumerate() {
                let share = count as f64 / all.max(1) as f64;
                // Right and wrong differ in hue, how much in lightness; the darkest still carries dark text.
                let (r, g, b) = if row == column { (180.0, 225.0, 190.0) } else { (250.0, 195.0, 175.0) };
                let mix = |c: f64| (255.0 + (c - 255.0) * share.sqrt()) as u8;
                let text = if count == 0 { "·".into() } else { format!("{:.0} %", 100.0 * share) };
                let _ = write!(self.body, "<td style=\"background:#{:02x}{:02x}{:02x}\">{text}</td>", mix(r), mix(g), mix(b));
            }
            self.body += "</tr>\n";
        }
        self.body += "</tbody></table></div>\n";
    }

    /// A chart with what it shows in words. `svg` is trusted: it comes from our own functions.
    pub fn figure(&mut self, svg: &str, caption: &str) {
        let start = svg.find("<svg").unwrap_or(0);
        let svg = svg[start..].replacen("<svg", &format!("<svg role=img aria-label=\"{}\"", escape(caption)), 1);
        let _ = writeln!(self.body, "<figure>{svg}<figcaption>{}</figcaption></figure>", escape(caption));
    }

    /// Several figures side by side where there is room.
    pub fn figures<'a>(&mut self, figures: impl IntoIterator<Item = (&'a str, String)>) {
        self.body += "<div class=grid>\n";
        figures.into_iter().for_each(|(caption, svg)| self.figure(&svg, caption));
        self.body += "</div>\n";
    }

    /// Test samples with what was said about them.
    pub fn gallery(&mut self, cards: &[Card]) {
        self.body += "<ul class=gallery>\n";
        cards.iter().for_each(|card| card.write(&mut self.body));
        self.body += "</ul>\n";
    }

    /// The file.
    pub fn html(&self) -> String {
        let (script_source, style) = if self.explains { (format!("; script-src 'nonce-{NONCE}'"), explain::STYLE) } else { Default::default() };
        let mut html = format!(
            "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'{script_source}\">\n\
             <link rel=icon href=\"data:,\">\n<title>{}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n<a class=skip href=#s1>to the contents</a>\n<main>\n",
            escape(&self.title)
        );
        let (head, rest) = self.body.split_at(self.body.find("<section").unwrap_or(self.body.len()));
        html += head;
        if self.contents.len() > 1 {
            html += "<nav aria-label=contents><ol>\n";
            for (i, heading) in self.contents.iter().enumerate() {
                let _ = writeln!(html, "<li><a href=#s{}>{}</a></li>", i + 1, escape(heading));
            }
            html += "</ol></nav>\n";
        }
        html += rest;
        if self.open {
            html += "</section>\n";
        }
        html += "</main>\n";
        if self.explains {
            let _ = write!(html, "<script nonce={NONCE}>\n{}</script>\n", explain::SCRIPT);
        }
        html + "</body>\n</html>\n"
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| file.write_all(self.html().as_bytes()).map_err(Error::io(path, "write")))
    }
}

/// Text for HTML, inside and outside of quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            _ => escaped.push(c),
        }
    }
    escaped
}

/// A file as part of the page.
fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text() {
        let mut page = Page::new("<b>&", "\"quoted\"");
        page.section("a <script>alert(1)</script>");
        page.text("</main><img src=x onerror=alert(1)>");
        page.table("t'", &["<i>"], &[vec!["</td>".into()]]);
        page.gallery(&[Card { name: "<x>", said: "<img>", truth: Some("a \"b\""), ..Card::default() }]);
        let html = page.html();
        for tag in ["<script", "<img src=x", "<b>", "<i>", "<x>", "<img>"] {
            assert!(!html.contains(tag), "{tag}\n{html}");
        }
        assert!(html.contains("&lt;script&gt;"));
    }

    #[test]
    fn sections_are_listed_and_closed() {
        let mut page = Page::new("t", "l");
        page.section("one");
        page.section("two");
        let html = page.html();
        assert_eq!(html.matches("<section").count(), 2);
        assert_eq!(html.matches("</section>").count(), 2);
        assert!(html.contains("<li><a href=#s2>two</a></li>"));
        assert!(html.find("<nav").unwrap() < html.find("<section").unwrap());
    }

    #[test]
    fn nothing_is_fetched() {
        let mut page = Page::new("t", "l");
        page.section("s");
        page.figure(&curve_svg(&Curve { title: "loss", unit: "nats", lines: &[Line { name: "train", points: &[(1.0, 2.0), (2.0, 1.0)] }] }).unwrap(), "c");
        let picture = picture_png(&[7; 48], 4, 4).unwrap();
        page.gallery(&[Card { picture: Some(picture), wav: Some(vec![1, 2, 3]), ..Card::default() }]);
        let html = page.html().replace("http://www.w3.org/2000/svg", "");
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("//"), "{html}");
    }
}
