//! What pages and pictures are written in: text in HTML and SVG, drawings, and plots with axes.

pub(crate) mod plot;
pub(crate) mod svg;

/// Text as markup takes it, inside and outside of quotes.
pub(crate) fn escape(text: &str) -> String {
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
