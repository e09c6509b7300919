//! Plain aligned text, as wide as it comes or no wider than a terminal.

use crate::files::shown::shown;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Spaces between two columns.
const GAP: usize = 2;
/// A column of words that is wider than this gives way before another column is left out, and is never made narrower than [`NARROW`].
const COMFORTABLE: usize = 30;
const NARROW: usize = 8;

/// A table with a line under its header; two spaces between columns, no space at the end of a line. A column whose cells
/// all begin like a number (or are empty or `-`) is aligned to the right, every other one to the left.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    Cells::new(header, rows).text()
}

/// A column of a table that has to fit: its header, and how much it is missed. 0: it always stays; of the others, those with the
/// largest number are left out first, and of equal ones the last.
pub type Ranked<'a> = (&'a str, u8);

/// As [`table`], in lines of at most `width` columns ([`usize::MAX`]: everything). Columns are left out by their rank until the rest fits,
/// and long words are shortened in the middle. What was left out or shortened is said in a last line, with the option that shows it.
pub fn fitted_table(header: &[Ranked], rows: &[Vec<String>], width: usize) -> String {
    let names: Vec<&str> = header.iter().map(|(name, _)| *name).collect();
    let whole = Cells::new(&names, rows);
    let mut kept: Vec<usize> = (0..names.len()).collect();
    while whole.least(&kept) > width {
        let rank = |&place: &usize| header[kept[place]].1;
        match (0..kept.len()).filter(|place| rank(place) > 0).max_by_key(rank) {
            Some(place) => kept.remove(place),
            None => break,
        };
    }
    let mut fitted = whole.only(&kept);
    let shortened = fitted.shorten(width);
    let left_out: Vec<&str> = (0..names.len()).filter(|column| !kept.contains(column)).map(|column| names[column]).collect();
    let mut said = Vec::new();
    if !left_out.is_empty() {
        said.push(format!("left out: {}", left_out.join(", ")));
    }
    if shortened {
        said.push("… in long names".to_string());
    }
    if said.is_empty() {
        return fitted.text();
    }
    fitted.text() + &wrapped(&format!("({}; --wide shows all)", said.join("; ")), width, 1) + "\n"
}

/// A text in lines of at most `width` columns, broken at spaces; those after the first begin with `indent` spaces. A word that no line
/// holds, a path for example, is broken where the line ends. (textwrap breaks it into pieces that fit the lines after the first.)
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let indent = indent.min(width / 2);
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let (mut used, mut empty) = (0, true);
        for word in paragraph.split(' ') {
            let long = word.width();
            if !empty && used + 1 + long > width {
                lines.push(line.trim_end().to_string());
                (line, used, empty) = (" ".repeat(indent), indent, true);
            }
            if !empty {
                line.push(' ');
                used += 1;
            }
            for c in word.chars() {
                let wide = c.width().unwrap_or(0);
                if used + wide > width && used > indent {
                    lines.push(line);
                    (line, used) = (" ".repeat(indent), indent);
                }
                line.push(c);
                used += wide;
            }
            // Spaces that a line begins with are its own indentation, and no place to break.
            empty &= word.is_empty();
            if word.is_empty() && empty {
                line.push(' ');
                used += 1;
            }
        }
        lines.push(line.trim_end().to_string());
    }
    lines.join("\n")
}

/// As [`wrapped`], but no word is ever broken: a longer one has a line of its own. The first line begins with `first`, each other one with `rest`.
pub fn whole_words(text: &str, width: usize, first: &str, rest: &str) -> String {
    let options = textwrap::Options::new(width)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .initial_indent(first)
        .subsequent_indent(rest);
    textwrap::fill(text, options)
}

/// A text of at most `width` columns: a longer one loses its middle, because names begin with what they are and end with which.
pub fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let room = width.saturating_sub(1);
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut used = 0;
        chars.take_while(|c| (used += c.width().unwrap_or(0), used <= room).1).collect::<Vec<char>>()
    };
    let start = take(&mut text.chars(), room.div_ceil(2));
    let mut end = take(&mut text.chars().rev(), room / 2);
    end.reverse();
    start.into_iter().chain(['…']).chain(end).take(width.max(1)).collect()
}

/// A table's texts by row, the header first, with what their columns need.
struct Cells {
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    /// Aligned to the right.
    numbers: Vec<bool>,
}

impl Cells {
    fn new(header: &[&str], rows: &[Vec<String>]) -> Cells {
        // A line break in a cell would be another row.
        let cell = |row: &[String], column: usize| row.get(column).map_or_else(String::new, |text| shown(text).into_owned());
        let mut numbers = vec![!rows.is_empty(); header.len()];
        let mut all = vec![header.iter().map(ToString::to_string).collect::<Vec<_>>()];
        for row in rows {
            let cells: Vec<String> = (0..header.len()).map(|column| cell(row, column)).collect();
            for (number, text) in numbers.iter_mut().zip(&cells) {
                let starts_as_number = text.trim_start_matches(['-', '+', '−', '≤', '≥', '<', '>', '~', ' ', '.']).starts_with(|c: char| c.is_ascii_digit());
                *number &= starts_as_number || matches!(text.as_str(), "" | "-" | "–" | "—");
            }
            all.push(cells);
        }
        let widths = (0..header.len()).map(|column| all.iter().map(|row| row[column].width()).max().unwrap_or(0)).collect();
        Cells { rows: all, widths, numbers }
    }

    /// These columns alone.
    fn only(&self, columns: &[usize]) -> Cells {
        let rows = self.rows.iter().map(|row| columns.iter().map(|&column| row[column].clone()).collect()).collect();
        Cells {
            rows,
            widths: columns.iter().map(|&column| self.widths[column]).collect(),
            numbers: columns.iter().map(|&column| self.numbers[column]).collect(),
        }
    }

    /// How wide these columns are, with long words shortened as far as is comfortable.
    fn least(&self, columns: &[usize]) -> usize {
        let width = |&column: &usize| if self.numbers[column] { self.widths[column] } else { self.widths[column].min(COMFORTABLE) };
        columns.iter().map(width).sum::<usize>() + GAP * columns.len().saturating_sub(1)
    }

    /// Shortens words, the widest column first, until the table fits or nothing more can give way. Whether it did.
    fn shorten(&mut self, width: usize) -> bool {
        let gaps = GAP * self.widths.len().saturating_sub(1);
        let mut changed = false;
        while self.widths.iter().sum::<usize>().saturating_add(gaps) > width {
            let widest =
                (0..self.widths.len()).filter(|&column| !self.numbers[column] && self.widths[column] > NARROW).max_by_key(|&column| self.widths[column]);
            let Some(column) = widest else { break };
            self.widths[column] -= 1;
            changed = true;
        }
        for row in self.rows.iter_mut().filter(|_| changed) {
            for (text, &width) in row.iter_mut().zip(&self.widths) {
                *text = shortened(text, width);
            }
        }
        changed
    }

    fn text(&self) -> String {
        let line = |cells: &[String]| {
            let padded: Vec<String> = cells
                .iter()
                .enumerate()
                .map(|(column, text)| {
                    let space = " ".repeat(self.widths[column].saturating_sub(text.width()));
                    if self.numbers[column] { space + text } else { text.clone() + &space }
                })
                .collect();
            padded.join("  ").trim_end().to_string() + "\n"
        };
        let rule: Vec<String> = self.widths.iter().map(|&w| "─".repeat(w)).collect();
        let (header, rows) = self.rows.split_first().expect("a header");
        line(header) + &line(&rule) + &rows.iter().map(|row| line(row)).collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let rows =
            [vec!["iid".to_string(), "95.2 %".into(), "x".into()], vec!["held_out".into(), "–".into()], vec!["é".into(), "100.0 %".into(), "long".into()]];
        let expected = "\
split       exact  note
────────  ───────  ────
iid        95.2 %  x
held_out        –
é         100.0 %  long
";
        assert_eq!(table(&["split", "exact", "note"], &rows), expected);
        assert_eq!(table(&["a", "b"], &[]), "a  b\n─  ─\n");
    }

    fn widest(text: &str) -> usize {
        text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0)
    }

    #[test]
    fn columns_leave_by_rank_until_the_rest_fits() {
        let header = [("kernel", 0), ("what", 2), ("ms", 0), ("MB", 3), ("MFLOP", 3)];
        let rows = [vec!["matmul".to_string(), "q_proj".into(), "1.5".into(), "20".into(), "30".into()]];
        let fit = |width| fitted_table(&header, &rows, width);
        assert_eq!(fit(usize::MAX), table(&header.map(|(name, _)| name), &rows));
        assert_eq!(fit(30), fit(usize::MAX), "as wide as it is");
        assert_eq!(fit(29), "kernel  what     ms  MB\n──────  ──────  ───  ──\nmatmul  q_proj  1.5  20\n(left out: MFLOP; --wide\n shows all)\n");
        assert!(fit(29).contains("left out: MFLOP;") && fit(20).contains("left out: MB, MFLOP;") || fit(20).contains("left out:"), "{}", fit(20));
        for width in 16..40 {
            assert!(widest(&fit(width)) <= width, "{width}:\n{}", fit(width));
            assert!(fit(width).contains("matmul") && fit(width).contains("1.5"), "{width}");
        }
    }

    #[test]
    fn long_names_lose_their_middle_and_it_is_said() {
        let name = "/a/very/long/folder/of/somebody/elses/model.safetensors";
        let rows = [vec![name.to_string(), "1.5".into(), "2.5".into()]];
        let header = [("name", 0), ("ms", 1), ("MB", 2)];
        let text = fitted_table(&header, &rows, 40);
        assert!(text.contains("/a/very/") && text.contains("safetensors") && text.contains('…') && !text.contains(name), "{text}");
        assert!(text.contains("(… in long names; --wide shows all)") && text.contains("MB") && widest(&text) <= 40, "{text}");
        assert!(fitted_table(&header, &rows, usize::MAX).contains(name));
        assert_eq!([shortened("abcdefgh", 5), shortened("abcdefgh", 8), shortened("名前名前名前", 7)], ["ab…gh", "abcdefgh", "名…前"]);
    }

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrapped("work      one two three", 20, 10), "work      one two\n          three");
        assert_eq!(wrapped("  a b", 80, 0), "  a b");
        assert_eq!(wrapped("a\nb c", 1, 0), "a\nb\nc");
        assert_eq!(wrapped("/a/path/without/an/end x", 10, 2), "/a/path/wi\n  thout/an\n  /end x");
        assert_eq!(wrapped("any length", usize::MAX, 2), "any length");
        for width in 6..30 {
            let text = wrapped("  some words and/a/very/long/path/in/between them 名前 all", width, 4);
            assert!(widest(&text) <= width, "{width}: {text}");
        }
    }
}
