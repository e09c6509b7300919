//! Markdown for a terminal, as much of it as the guide uses: marks become what they mean, and no line is longer than the terminal is wide. pulldown-cmark reads it, textwrap wraps it.

use super::terminal::Paint;
use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use textwrap::core::display_width;
use trimodal::report::whole_words;

/// The colour of code.
const CODE: u8 = 73;
/// Between the columns of a table.
const GAP: usize = 2;

/// Shows Markdown on a terminal of `width` columns. A line is longer only where one word is.
///
/// A link is followed by its place unless its text says it; a picture is a line that says what it shows and where it is; comments, and
/// the lines of Rust that rustdoc hides, are left out.
pub fn shown(markdown: &str, width: usize, paint: Paint) -> String {
    let mut page =
        Page { width, paint, out: String::new(), text: String::new(), strong: false, link: None, indent: 0, bullet: false, items: 0, code: None, table: None };
    Parser::new_ext(markdown, Options::ENABLE_TABLES).for_each(|event| page.event(event));
    page.out
}

/// What has been read so far.
struct Page {
    width: usize,
    paint: Paint,
    out: String,
    /// The paragraph, heading, item or cell that is being read, with colours.
    text: String,
    strong: bool,
    /// The link or picture that is being read: its place, and its words without colours.
    link: Option<(String, String)>,
    /// Of the text in lists.
    indent: usize,
    /// Whether the next text is the first of its item.
    bullet: bool,
    /// The items that the list has had.
    items: usize,
    /// The code that is being read: whether it is Rust, and its lines.
    code: Option<(bool, String)>,
    table: Option<Table>,
}

/// Cells with colours; the first row is the head.
#[derive(Default)]
struct Table {
    alignments: Vec<Alignment>,
    rows: Vec<Vec<String>>,
}

impl Page {
    fn event(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.words(&text),
            Event::Code(text) => self.inline_code(&text),
            Event::SoftBreak | Event::HardBreak => self.words(" "),
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Rule => self.block(&"─".repeat(self.width)),
            // The guide's comments tell its tests what to write there.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag) {
        match tag {
            Tag::Strong => self.strong = true,
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.link = Some((dest_url.to_string(), String::new())),
            Tag::Heading { .. } => self.strong = true,
            Tag::List(_) => {
                self.flush();
                (self.indent, self.items) = (self.indent + 2, 0);
            }
            Tag::Item => self.bullet = true,
            Tag::CodeBlock(kind) => {
                self.flush();
                let rust = matches!(&kind, CodeBlockKind::Fenced(language) if language.starts_with("rust"));
                self.code = Some((rust, String::new()));
            }
            Tag::Table(alignments) => self.table = Some(Table { alignments, ..Table::default() }),
            Tag::TableHead => {
                self.strong = true;
                self.row();
            }
            Tag::TableRow => self.row(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Strong => self.strong = false,
            TagEnd::Link => {
                let (place, words) = self.link.take().unwrap_or_default();
                // `forward (kernels/rope.cu:107)` says where it is; a chapter is here.
                if !place.starts_with('#') && !words.contains(place.split('#').next().unwrap_or_default()) {
                    self.words(&format!(" ({place})"));
                }
            }
            TagEnd::Image => {
                let (place, words) = self.link.take().unwrap_or_default();
                self.text = format!("Picture: {words} ({place})");
            }
            TagEnd::Heading(level) => {
                self.strong = false;
                let line = if level <= HeadingLevel::H2 { "═" } else { "─" };
                let text = self.wrapped(0);
                let longest = text.lines().map(display_width).max().unwrap_or(0);
                self.block(&format!("{text}\n{}", line.repeat(longest)));
            }
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::List(_) => self.indent = self.indent.saturating_sub(2),
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::TableHead => self.strong = false,
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.text);
                if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
                    row.push(cell);
                }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    let text = table.drawn(self.width);
                    self.block(&text);
                }
            }
            _ => {}
        }
    }

    fn row(&mut self) {
        if let Some(table) = &mut self.table {
            table.rows.push(Vec::new());
        }
    }

    /// More text. Every word has its colours to itself, so that a line may end after any of them.
    fn words(&mut self, text: &str) {
        if let Some((_, code)) = &mut self.code {
            return code.push_str(text);
        }
        if let Some((_, words)) = &mut self.link {
            words.push_str(text);
        }
        let (strong, paint) = (self.strong, self.paint);
        self.text += &each_word(text, |word| if strong { paint.strong(word) } else { word.to_string() });
    }

    fn inline_code(&mut self, text: &str) {
        if let Some((_, words)) = &mut self.link {
            words.push_str(text);
        }
        let paint = self.paint;
        self.text += &each_word(text, |word| paint.tint(CODE, word));
    }

    /// The text so far, wrapped, with so much indent more than its list has; it is then empty.
    fn wrapped(&mut self, more: usize) -> String {
        let text = std::mem::take(&mut self.text);
        let indent = " ".repeat(self.indent + more);
        let first = match std::mem::take(&mut self.bullet) {
            true => format!("{}• ", " ".repeat(self.indent.saturating_sub(2))),
            false => indent.clone(),
        };
        whole_words(&text, self.width, &first, &indent)
    }

    /// Ends a paragraph or an item.
    fn flush(&mut self) {
        if self.text.trim().is_empty() {
            return self.text.clear();
        }
        // Items of a list stand close together.
        let close = self.bullet && self.items > 0;
        self.items += self.bullet as usize;
        let text = self.wrapped(0);
        if close {
            self.out += &format!("{text}\n");
        } else {
            self.block(&text);
        }
    }

    /// A block of its own, after an empty line.
    fn block(&mut self, text: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out += text;
        self.out.push('\n');
    }

    fn code_block(&mut self) {
        let (rust, code) = self.code.take().unwrap_or_default();
        let hidden = |line: &&str| rust && (line.trim() == "#" || line.starts_with("# "));
        let (width, paint, before) = (self.width, self.paint, self.indent + 4);
        let lines = code.lines().filter(|line| !hidden(line)).map(|line| {
            let own = line.len() - line.trim_start().len();
            // Less to the right where a word would not fit otherwise.
            let longest = line.split(' ').map(display_width).max().unwrap_or(0);
            let indent = (before + own).min(width.saturating_sub(longest));
            let rest = (indent + 4).min(width.saturating_sub(longest));
            let text = each_word(line.trim_start(), |word| paint.tint(CODE, word));
            whole_words(&text, width, &" ".repeat(indent), &" ".repeat(rest))
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        self.block(&text);
    }
}

impl Table {
    /// As a table where one of its words does not fit beside the others, its rows one below the other.
    fn drawn(&self, width: usize) -> String {
        let columns = self.alignments.len();
        let of = |column: usize, size: fn(&str) -> usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| size(cell)).max().unwrap_or(0);
        let natural: Vec<usize> = (0..columns).map(|column| of(column, display_width)).collect();
        let word = |cell: &str| cell.split(' ').map(display_width).max().unwrap_or(0);
        // `10.5 ms` stays in one piece, if it can.
        let figure = |column: usize| self.rows.iter().skip(1).filter_map(|row| row.get(column)).map(|cell| display_width(cell)).max().unwrap_or(0);
        let words: Vec<usize> = (0..columns).map(|column| of(column, word)).collect();
        let whole: Vec<usize> = (0..columns).map(|c| if self.alignments[c] == Alignment::Right { words[c].max(figure(c)) } else { words[c] }).collect();
        let room = width.saturating_sub(GAP * columns.saturating_sub(1));
        let fitting = [whole, words].into_iter().find(|widths| widths.iter().sum::<usize>() <= room);
        let Some(mut widths) = fitting else { return self.stacked(width) };
        // What is left goes to the column that needs it most.
        for _ in widths.iter().sum::<usize>()..room {
            let neediest = (0..columns).filter(|&c| widths[c] < natural[c]).max_by_key(|&c| 1000 * natural[c] / widths[c].max(1));
            if let Some(column) = neediest {
                widths[column] += 1;
            }
        }
        let mut lines = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells: Vec<Vec<String>> =
                (0..columns).map(|c| whole_words(row.get(c).map_or("", String::as_str), widths[c], "", "").lines().map(str::to_string).collect()).collect();
            for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0).max(1) {
                let cell = |column: usize| {
                    let text = cells[column].get(line).map_or("", String::as_str);
                    let space = " ".repeat(widths[column].saturating_sub(display_width(text)));
                    if self.alignments[column] == Alignment::Right { space + text } else { format!("{text}{space}") }
                };
                lines.push((0..columns).map(cell).collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_string());
            }
            if number == 0 {
                lines.push(widths.iter().map(|&width| "─".repeat(width)).collect::<Vec<_>>().join(&" ".repeat(GAP)));
            }
        }
        lines.join("\n")
    }

    /// Every row as a small list: its first cell, and below it each other cell after the head of its column.
    fn stacked(&self, width: usize) -> String {
        let Some((head, rows)) = self.rows.split_first() else { return String::new() };
        let mut lines = Vec::new();
        lines.extend(head.first().filter(|title| !title.is_empty()).map(|title| whole_words(title, width, "", "  ")));
        for row in rows {
            lines.push(whole_words(row.first().map_or("", String::as_str), width, "", "  "));
            for (cell, column) in row.iter().zip(head).skip(1) {
                lines.push(whole_words(&format!("{column}: {cell}"), width, "  ", "    "));
            }
        }
        lines.join("\n")
    }
}

fn each_word(text: &str, painted: impl Fn(&str) -> String) -> String {
    text.split(' ').map(|word| if word.is_empty() { String::new() } else { painted(word) }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use trimodal::learn::CHAPTERS;

    fn page(markdown: &str, width: usize) -> String {
        shown(markdown, width, Paint::NEVER)
    }

    #[test]
    fn marks_become_what_they_mean() {
        let text = "## 5. A *title*\n\nOne **bold** `word`, [a file](a/b.md#part), [`c` (c.rs:1)](c.rs#L1), [here](#x).\n\n<!-- gone -->\n![A picture](d.svg)\n\n- an item that goes on\n- another\n";
        let expected = "\
5. A title
══════════

One bold word, a file
(a/b.md#part), c
(c.rs:1), here.

Picture: A picture
(d.svg)

• an item that goes
  on
• another
";
        assert_eq!(page(text, 21), expected);
        assert_eq!(shown("a **b c**\n", 40, Paint::ALWAYS), "a \x1b[1mb\x1b[0m \x1b[1mc\x1b[0m\n");
    }

    #[test]
    fn code_is_indented_and_its_hidden_lines_are_left_out() {
        let text = "```rust\nlet a = 1;\n    let b = a + a + a;\n# Ok::<(), Error>(())\n```\n\n```sh\n# a comment\n```\n";
        assert_eq!(page(text, 24), "    let a = 1;\n        let b = a + a +\n            a;\n\n    # a comment\n");
    }

    #[test]
    fn a_table_is_drawn_as_the_width_allows() {
        let text = "| what was done | time |\n|---|---:|\n| a long name of it | 1 ms |\n| short | 10.5 ms |\n";
        assert_eq!(page(text, 40), "what was done         time\n─────────────────  ───────\na long name of it     1 ms\nshort              10.5 ms\n");
        assert_eq!(
            page(text, 18),
            "what was      time\ndone\n─────────  ───────\na long        1 ms\nname of it\nshort      10.5 ms\n".replace("name of it", "name of\nit")
        );
        assert_eq!(page(text, 10), "what was\n  done\na long\n  name of\n  it\n  time: 1\n    ms\nshort\n  time:\n    10.5\n    ms\n");
    }

    /// No mark is left, nothing is cut, no word is lost, and every line fits: there is no word in the guide that is longer than 40 columns.
    #[test]
    fn every_chapter_fits_every_terminal() {
        for (chapter, width) in CHAPTERS.iter().flat_map(|chapter| [40, 60, 80, 100, 200].map(|width| (chapter, width))) {
            let (name, page) = (format!("chapter {} at {width}", chapter.number), page(chapter.text(), width));
            for line in page.lines() {
                assert!(display_width(line) <= width, "{name}: {} columns: {line}", display_width(line));
            }
            for mark in ["<!--", "](", "**", "```", "|---"] {
                assert!(!page.contains(mark), "{name} has {mark} in it");
            }
            assert!(!page.lines().any(|line| line.starts_with('#')), "{name}");
            let expected = words(&source_words(chapter.text()));
            let found = words(&page);
            for (word, count) in expected {
                // A table that is stacked says its head more than once.
                assert!(found.get(&word).is_some_and(|found| *found >= count), "{name}: {word:?} {count} times, found {:?}", found.get(&word));
            }
            let coloured = shown(chapter.text(), width, Paint::ALWAYS);
            assert!(coloured.lines().all(|line| display_width(line) <= width) && textwrap::core::display_width(&coloured) <= coloured.len());
            assert!(words(&coloured) != words(&page) && uncoloured(&coloured) == page, "{name}: colours change the text");
        }
    }

    fn uncoloured(text: &str) -> String {
        let mut parts = text.split('\x1b');
        let first = parts.next().unwrap_or_default().to_string();
        parts.fold(first, |all, part| all + part.split_once('m').map_or("", |(_, rest)| rest))
    }

    /// A chapter's text without what is not for reading: comments, the places of links, the lines that rustdoc hides.
    fn source_words(markdown: &str) -> String {
        let mut text = String::new();
        let mut rest = markdown;
        while let Some((before, after)) = rest.split_once("<!--") {
            text += before;
            rest = after.split_once("-->").expect("a comment ends").1;
        }
        text += rest;
        let mut rust = false;
        let lines = text.lines().filter(|line| {
            rust = if line.starts_with("```") { line.starts_with("```rust") } else { rust };
            !(line.starts_with("```") || line.starts_with("|---") || rust && line.starts_with("# "))
        });
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let mut parts = text.split("](");
        let first = parts.next().unwrap_or_default().to_string();
        parts.fold(first, |all, part| format!("{all} {}", part.split_once(')').expect("a link ends").1))
    }

    fn words(text: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_string()).or_default() += 1;
        }
        counts
    }
}
