//! A page for people: one self-contained HTML file, readable offline, on a phone, by keyboard and by a screen reader.
//!
//! Nothing in it comes from anywhere else: pictures, sounds and charts are part of the file. A small script in it shows the values of charts
//! under the pointer and at the arrow keys, sorts tables that say so, and draws the overlays where words are explained; everything can be read
//! without it. Where there is room the contents stay beside the text, and charts and tables stand side by side. Its colours follow the reader's choice of light or dark and have a contrast of at least 4.5
//! to 1 on their ground (WCAG 2.2, 1.4.3); nothing is said by colour alone.
//!
//! ```
//! use trimodal::report::page::{Cell, Curve, Line, Page, curve_svg};
//!
//! let mut page = Page::new("A model", "What it learned in an afternoon.");
//! page.section("Curves");
//! let points = [(1.0, 5.5), (2.0, 3.1), (3.0, 2.0)];
//! let svg = curve_svg(&Curve { title: "loss", unit: "nats per token", lines: &[Line::new("loss", &points)], from_zero: false });
//! page.figure(&svg, "The loss falls from 5.5 to 2.0.");
//! page.section("Held out");
//! page.table("Shares of captions that are right", &["split", "right"], &[vec!["test".into(), Cell::Share { share: 0.98, mark: Some(0.25) }]]);
//! assert!(page.html().contains("98.0\u{a0}%"));
//! ```

mod chart;
mod explain;
mod gallery;
mod image;
mod table;

pub use chart::{Curve, Line, STYLES, curve_svg, over, swatch_svg};
pub(super) use chart::{drawn, together};
pub use gallery::{Card, Heat, Near};
pub(super) use image::spectrogram;
pub use image::{overlay, picture_png, spectrogram_png};
pub(super) use table::percent;
pub use table::{Cell, Confusion};

use crate::error::Result;
use crate::files::write_file_atomic;
use crate::markup::escape;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;

const STYLE: &str = include_str!("style.css");
/// Marks the section that is being read in the table of contents; only on pages that have another script.
const CONTENTS_SCRIPT: &str = include_str!("contents.js");

/// One of a list of things that have a name and a few lines of code or numbers: see [`Page::items`].
pub struct Item<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is about; empty where there is nothing to say.
    pub about: &'a str,
    /// Lines about it, which wrap where they must.
    pub lines: Vec<String>,
}

/// A page under construction. Every method adds to its end; the first thing after [`Page::new`] is a section.
pub struct Page {
    title: String,
    lead: String,
    body: String,
    /// Headings of the sections so far: the table of contents.
    contents: Vec<String>,
    /// Whether the last section has a heading of its own inside of it.
    headed: bool,
    /// Whether it has charts whose values can be looked at: the page then has a script for that.
    charts: bool,
    /// Whether it has tables that can be sorted.
    sorts: bool,
    /// Whether words are explained.
    explains: bool,
    /// What parts need that only one kind of page has.
    own: Vec<Own>,
}

/// The style and the script of a part that only one kind of page has.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::report) struct Own {
    /// CSS.
    pub style: &'static str,
    /// JavaScript.
    pub script: &'static str,
}

impl Page {
    /// A page with a title and a first paragraph.
    pub fn new(title: &str, lead: &str) -> Self {
        let (title, lead) = (title.into(), lead.into());
        Page { title, lead, body: String::new(), contents: Vec::new(), headed: false, charts: false, sorts: false, explains: false, own: Vec::new() }
    }

    /// A part with a style and a script of its own. `html` is trusted: it comes from our own functions, which escape what others wrote.
    pub(in crate::report) fn part(&mut self, html: &str, own: Own) {
        self.body += html;
        if !self.own.contains(&own) {
            self.own.push(own);
        }
    }

    /// A new section, which the table of contents lists.
    pub fn section(&mut self, heading: &str) {
        if !self.contents.is_empty() {
            self.body += "</section>\n";
        }
        self.contents.push(heading.into());
        self.headed = false;
        let n = self.contents.len();
        let _ = writeln!(self.body, "<section aria-labelledby=s{n}>\n<h2 id=s{n}>{}</h2>", escape(heading));
    }

    /// A heading inside of a section.
    pub fn heading(&mut self, heading: &str) {
        self.headed = true;
        let _ = writeln!(self.body, "<h3>{}</h3>", escape(heading));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// Lines as they are typed or as they are in a file; `label` is their name for a screen reader.
    pub fn lines(&mut self, label: &str, lines: &str) {
        let _ = writeln!(self.body, "<pre tabindex=0 role=region aria-label=\"{}\">{}</pre>", escape(label), escape(lines));
    }

    /// Something that is hidden under its summary until the reader opens it.
    pub fn folded(&mut self, summary: &str, add: impl FnOnce(&mut Self)) {
        let _ = writeln!(self.body, "<details><summary>{}</summary>", escape(summary));
        add(self);
        self.body += "</details>\n";
    }

    /// Facts: names with their values, in two columns where there is room.
    pub fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, String)>) {
        self.body += "<dl>\n";
        for (name, value) in facts {
            let _ = writeln!(self.body, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&value));
        }
        self.body += "</dl>\n";
    }

    /// Charts, tables and the like side by side where there is room.
    pub fn beside(&mut self, add: impl FnOnce(&mut Self)) {
        self.body += "<div class=beside>\n";
        add(self);
        self.body += "</div>\n";
    }

    /// Names of lines in charts, each with a short piece of it: one of [`STYLES`], its key, what it stands for.
    pub fn legend<'a>(&mut self, lines: impl IntoIterator<Item = (usize, &'a str, String)>) {
        self.body += "<ul class=legend>\n";
        for (style, key, about) in lines {
            let _ = writeln!(self.body, "<li>{}<b>{}</b> <span>{}</span></li>", table::swatch(style), escape(key), escape(&about));
        }
        self.body += "</ul>\n";
    }

    /// A table whose first column names the rows. It scrolls on its own where the screen is narrower.
    pub fn table(&mut self, caption: &str, header: &[&str], rows: &[Vec<Cell>]) {
        table::table(&mut self.body, "", caption, header, &[], rows);
    }

    /// A table that the reader can sort by a column, by pressing its heading.
    pub fn sortable(&mut self, caption: &str, header: &[&str], rows: &[Vec<Cell>]) {
        self.sorts = true;
        table::table(&mut self.body, "sortable", caption, header, &[], rows);
    }

    /// A table of which some columns belong to lines of the charts: of each column one of [`STYLES`], or none.
    pub fn keyed(&mut self, caption: &str, header: &[&str], lines: &[Option<usize>], rows: &[Vec<Cell>]) {
        table::table(&mut self.body, "", caption, header, lines, rows);
    }

    /// Things in order, each with its lines: beside its name where there is room, below it on a phone.
    pub fn items(&mut self, items: &[Item]) {
        self.body += "<ol class=items>\n";
        for Item { name, about, lines } in items {
            let about = if about.is_empty() { String::new() } else { format!(" <span>{}</span>", escape(about)) };
            let lines: Vec<String> = lines.iter().map(|line| format!("<code>{}</code>", escape(line))).collect();
            let _ = writeln!(self.body, "<li><div><b>{}</b>{about}</div><div>{}</div></li>", escape(name), lines.concat());
        }
        self.body += "</ol>\n";
    }

    /// Tables of what was confused with what, side by side where there is room.
    pub fn confusions(&mut self, tables: &[Confusion]) {
        self.body += "<div class=tables>\n";
        tables.iter().for_each(|of| table::confusion(&mut self.body, of));
        self.body += "</div>\n";
    }

    /// A chart with what it shows in words. `svg` is trusted: it comes from our own functions. Values of one that [`curve_svg`] drew can be
    /// looked at with the pointer and the arrow keys.
    pub fn figure(&mut self, svg: &str, caption: &str) {
        self.charts |= svg.contains(" data-axes=");
        let start = svg.find("<svg").unwrap_or(0);
        let svg = svg[start..].replacen("<svg", &format!("<svg role=img aria-label=\"{}\"", escape(caption)), 1);
        let _ = writeln!(self.body, "<figure>{svg}<figcaption>{}</figcaption></figure>", escape(caption));
    }

    /// Several figures side by side where there is room: captions with their charts.
    pub fn figures<'a>(&mut self, figures: impl IntoIterator<Item = (&'a str, String)>) {
        self.body += "<div class=figures>\n";
        figures.into_iter().for_each(|(caption, svg)| self.figure(&svg, caption));
        self.body += "</div>\n";
    }

    /// Samples with what was said about them.
    pub fn gallery(&mut self, cards: &[Card]) {
        self.body += "<ul class=gallery>\n";
        let level = if self.headed { 4 } else { 3 };
        cards.iter().for_each(|card| card.write(&mut self.body, level));
        self.body += "</ul>\n";
    }

    /// The file.
    pub fn html(&self) -> String {
        let (title, lead) = (escape(&self.title), escape(&self.lead));
        let script = self.script();
        let (script_source, runs) = match &script {
            Some(script) => (format!("; script-src '{}'", source_of(script)), ""),
            None => (String::new(), ", nothing runs"),
        };
        let own = self.own.iter().map(|own| own.style);
        let style: String = self.explains.then_some(explain::STYLE).into_iter().chain(own).collect();
        let mut html = format!(
            "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
             <meta name=color-scheme content=\"light dark\">\n\
             <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'{script_source}\">\n\
             <link rel=icon href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n\
             <a class=skip href=#main>Skip to the content</a>\n<header>\n<h1>{title}</h1>\n<p class=lead>{lead}</p>\n</header>\n"
        );
        let several = self.contents.len() > 1;
        if several {
            html += "<div class=sides>\n<nav aria-label=Contents><ol>\n";
            for (i, heading) in self.contents.iter().enumerate() {
                let _ = writeln!(html, "<li><a href=#s{}>{}</a></li>", i + 1, escape(heading));
            }
            html += "</ol></nav>\n";
        }
        let end = if self.contents.is_empty() { "" } else { "</section>\n" };
        let _ = write!(html, "<main id=main tabindex=-1>\n{}{end}</main>\n{}", self.body, if several { "</div>\n" } else { "" });
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(html, "<footer><p>Made by trimodal {version}. One file: nothing is fetched{runs}.</p></footer>");
        if let Some(script) = script {
            let _ = writeln!(html, "<script>{script}</script>");
        }
        html + "</body>\n</html>\n"
    }

    /// The scripts that the page has a use for, as one. A browser reads `\r\n` as `\n`, and takes the hash of what it read.
    fn script(&self) -> Option<String> {
        let parts = [(self.charts, chart::SCRIPT), (self.sorts, table::SCRIPT), (self.explains, explain::SCRIPT)];
        let own = self.own.iter().map(|own| own.script);
        let mut parts: Vec<&str> = parts.into_iter().filter_map(|(used, script)| used.then_some(script)).chain(own).collect();
        if parts.is_empty() {
            return None;
        }
        if self.contents.len() > 1 {
            parts.push(CONTENTS_SCRIPT);
        }
        Some(format!("\n{}", parts.concat().replace('\r', "")))
    }

    /// Writes the file, whole or not at all, and returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn write(&self, path: &Path) -> Result<usize> {
        let html = self.html();
        write_file_atomic(path, &html)?;
        Ok(html.len())
    }
}

/// The one script that a content security policy lets run, by its text: what others wrote stays text even if we failed to escape it.
fn source_of(script: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(script)))
}

/// A file embedded in the page.
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
        page.heading("<u>");
        page.text("</main><img src=x onerror=alert(1)>");
        page.lines("\"><u>", "<u>");
        page.folded("<u>", |page| page.facts([("<u>", "<u>".to_string())]));
        page.table("t'", &["<i>"], &[vec!["</td>".into()]]);
        page.confusions(&[Confusion { caption: "<u>", names: &["<u>"], counts: &[vec![1]] }]);
        page.figure("<svg></svg>", "\"><u>");
        page.gallery(&[Card { name: "<x>", said: "<img>", asked: "<u>", truth: Some("a \"b\""), ..Card::default() }]);
        let html = page.html();
        for tag in ["<script", "<img src=x", "<b>", "<i>", "<x>", "<img>", "<u>"] {
            assert!(!html.contains(tag), "{tag}\n{html}");
        }
        assert!(html.contains("&lt;script&gt;"));
    }

    /// The example of Content Security Policy Level 2, section 7.17.2.
    #[test]
    fn a_script_is_named_by_the_hash_of_its_text() {
        assert_eq!(source_of("alert('Hello, world.');"), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
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
        assert!(html.find("<h1").unwrap() < html.find("<nav").unwrap() && html.find("<nav").unwrap() < html.find("<main").unwrap());
        assert_eq!(html.matches("<div").count(), html.matches("</div>").count());
    }

    /// A page has the scripts that it has a use for, in one element.
    #[test]
    fn what_is_not_there_needs_no_script() {
        let has = |add: &dyn Fn(&mut Page)| {
            let mut page = Page::new("t", "l");
            page.section("s");
            page.section("t");
            add(&mut page);
            let html = page.html();
            assert_eq!(html.matches("<script").count(), html.matches("; script-src 'sha256-").count());
            [chart::SCRIPT, table::SCRIPT, explain::SCRIPT, CONTENTS_SCRIPT].map(|script| html.contains(script))
        };
        let curve = curve_svg(&Curve { title: "loss", unit: "nats", lines: &[Line::new("train", &[(1.0, 2.0)])], from_zero: true });
        assert_eq!(has(&|page| page.figure("<svg></svg>", "c")), [false; 4]);
        assert_eq!(has(&|page| page.figures([("c", curve.clone())])), [true, false, false, true]);
        assert_eq!(has(&|page| page.sortable("c", &["", "a"], &[])), [false, true, false, true]);
    }

    #[test]
    fn nothing_is_fetched() {
        let mut page = Page::new("t", "l");
        page.section("s");
        page.figure(&curve_svg(&Curve { title: "loss", unit: "nats", lines: &[Line::new("train", &[(1.0, 2.0), (2.0, 1.0)])], from_zero: true }), "c");
        let picture = picture_png(&[7; 48], 4, 4).unwrap();
        page.gallery(&[Card { picture: Some(picture), wav: Some(vec![1, 2, 3]), ..Card::default() }]);
        let html = page.html().replace("http://www.w3.org/2000/svg", "");
        let (page, script) = html.split_once("<script>").unwrap();
        assert!(!page.contains("//"), "{page}");
        for word in ["http:", "https:", "fetch(", "XMLHttpRequest", "import", "src=", "innerHTML"] {
            assert!(!script.contains(word), "{word} is in {script}");
        }
    }
}
