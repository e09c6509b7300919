//! Tables of a page: shares with a bar and a mark, and what was confused with what.

use super::chart::swatch_svg;
use super::escape;
use crate::numbers;
use std::fmt::Write as _;

/// What sorts the tables that can be sorted.
pub(super) const SCRIPT: &str = include_str!("sort.js");

/// A table of more columns is set in smaller letters.
const MANY: usize = 6;

/// Letters of a cell that may take several lines.
const LONG: usize = 28;

/// One cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words or a number.
    Text(String),
    /// A number with its unit, and what it is worth where the table is sorted.
    Value {
        /// As it is read.
        text: String,
        /// As it is compared with others.
        value: f64,
    },
    /// A share from 0 to 1, with a bar of its length in its row.
    Share {
        /// The share.
        share: f64,
        /// What can be had without looking, such as by chance: a mark at its place.
        mark: Option<f64>,
    },
    /// An empty cell.
    Nothing,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

/// How often what is true (rows) was said to be what (columns), shown in per cent of each row.
pub struct Confusion<'a> {
    /// What it is about.
    pub caption: &'a str,
    /// What can be true, and said.
    pub names: &'a [&'a str],
    /// For each name how often each was said of it; one more count, where there is one, is that none was.
    pub counts: &'a [Vec<usize>],
}

/// Per cent on one line: a page does not break before the sign.
pub(in crate::report) fn percent(share: f64) -> String {
    numbers::percent(share).replace(' ', "\u{a0}")
}

/// A table; `lines` says which columns belong to which line of the charts: a piece of it stands over the name.
pub(super) fn table(html: &mut String, class: &str, caption: &str, header: &[&str], lines: &[Option<usize>], rows: &[Vec<Cell>]) {
    let many = if header.len() > MANY { "many" } else { "" };
    let classes = [class, many].into_iter().filter(|class| !class.is_empty()).collect::<Vec<_>>().join(" ");
    open(html, &classes, caption);
    for (column, name) in header.iter().enumerate() {
        let line = lines.get(column).copied().flatten().map_or(String::new(), swatch);
        let _ = if name.is_empty() { write!(html, "<td></td>") } else { write!(html, "<th scope=col>{line}{}</th>", escape(name)) };
    }
    *html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        *html += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let _ = match cell {
                Cell::Text(text) if column == 0 => write!(html, "<th scope=row>{}</th>", escape(text)),
                Cell::Text(text) if text.chars().count() > LONG => write!(html, "<td class=long>{}</td>", escape(text)),
                Cell::Text(text) => write!(html, "<td>{}</td>", escape(text)),
                Cell::Value { text, value } => write!(html, "<td data-value={value}>{}</td>", escape(text)),
                Cell::Nothing => write!(html, "<td>–</td>"),
                Cell::Share { share, mark } => {
                    // Of the bar's length: a share in hundredths.
                    let at = |share: f64| (100.0 * share.clamp(0.0, 1.0)).round() / 100.0;
                    let mark = mark.map(|mark| format!(";--at:{}", at(mark))).unwrap_or_default();
                    write!(html, "<td class=share style=\"--share:{}{mark}\">{}</td>", at(*share), percent(*share))
                }
            };
        }
        *html += "</tr>\n";
    }
    *html += "</tbody></table></div>\n";
}

/// A piece of a chart's line, which a screen reader does not speak of: the name is beside it.
pub(super) fn swatch(style: usize) -> String {
    swatch_svg(style).replacen("<svg", "<svg aria-hidden=true", 1).replace('\n', "")
}

pub(super) fn confusion(html: &mut String, &Confusion { caption, names, counts }: &Confusion) {
    // Where the text does not name it at all, one more column says so.
    let silent = counts.iter().any(|counts| counts.len() > names.len() && counts[names.len()] > 0);
    open(html, "confusion", caption);
    *html += "<td></td>";
    names.iter().for_each(|name| *html += &format!("<th scope=col>{}</th>", escape(name)));
    *html += if silent { "<th scope=col>none</th></tr></thead>\n<tbody>\n" } else { "</tr></thead>\n<tbody>\n" };
    for (row, (name, counts)) in names.iter().zip(counts).enumerate() {
        let all: usize = counts.iter().sum();
        let _ = write!(html, "<tr><th scope=row>{}</th>", escape(name));
        for (column, &count) in counts.iter().enumerate().take(names.len() + silent as usize) {
            let share = count as f64 / all.max(1) as f64;
            let class = if row == column { "right" } else { "wrong" };
            let _ = match count {
                0 => write!(html, "<td>·</td>"),
                // The shade of a rare mistake must still be seen.
                _ => write!(html, "<td class={class} style=\"--shade:{:.2}\">{:.0}</td>", 0.1 + 0.4 * share.sqrt(), 100.0 * share),
            };
        }
        *html += "</tr>\n";
    }
    *html += "</tbody></table></div>\n";
}

/// The beginning of a table up to the cells of its header.
fn open(html: &mut String, class: &str, caption: &str) {
    let label = escape(caption);
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ =
        write!(html, "<div class=scroll tabindex=0 role=region aria-label=\"{label}\"><table{class}>\n<caption><span>{label}</span></caption>\n<thead><tr>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_say_their_share_and_where_the_mark_is() {
        let mut html = String::new();
        let rows = [
            vec!["row".into(), Cell::Share { share: 0.987, mark: Some(1.0 / 6.0) }],
            vec!["r".to_string().into(), Cell::Nothing],
            vec!["s".into(), Cell::Value { text: "1.5 GiB".into(), value: 1.5e9 }],
        ];
        table(&mut html, "", "c", &["", "a"], &[None, Some(3)], &rows);
        assert!(html.contains("<th scope=col><svg aria-hidden=true ") && html.contains("</svg>a</th>"), "{html}");
        assert!(html.contains("<th scope=row>row</th><td class=share style=\"--share:0.99;--at:0.17\">98.7\u{a0}%</td>"), "{html}");
        assert!(html.contains("<td data-value=1500000000>1.5 GiB</td>"), "{html}");
        assert!(html.contains("<td>–</td>"));
    }

    #[test]
    fn a_row_of_a_confusion_is_in_per_cent_of_itself() {
        let mut html = String::new();
        confusion(&mut html, &Confusion { caption: "c", names: &["cat", "dog"], counts: &[vec![9, 0, 1], vec![1, 3, 0]] });
        let cells: Vec<&str> = html.split("<td").skip(2).filter_map(|cell| cell.split('>').nth(1)?.split('<').next()).collect();
        assert_eq!(cells, ["90", "·", "10", "25", "75", "·"], "{html}");
        assert!(html.contains("<th scope=col>none</th>"));
        let mut html = String::new();
        confusion(&mut html, &Confusion { caption: "c", names: &["cat"], counts: &[vec![0, 0]] });
        assert!(!html.contains("none"));
    }
}
