//! Pictures with their captions on one sheet, right and wrong marked.

use super::font::{COLUMN, Glyph, HEIGHT, glyph};
use super::page::picture_png;
use crate::error::{Error, Result};
use crate::files::write_file_atomic_with;
use std::io::Write;
use std::path::Path;

/// One picture of a sheet.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// `size · size` pixels of red, green, blue; empty for a sample without a picture.
    pub rgb: &'a [u8],
    /// Its width and height.
    pub size: usize,
    /// What the model said.
    pub caption: &'a str,
    /// What is right, where it is known: the sheet marks the caption, and shows this where they differ.
    pub expected: Option<&'a str>,
}

type Colour = [u8; 3];
const PAPER: Colour = [250, 250, 247];
const INK: Colour = [40, 40, 40];
const PALE: Colour = [120, 120, 120];
const GREEN: Colour = [22, 128, 57];
const RED: Colour = [200, 30, 40];
const FRAME: Colour = [214, 214, 208];

/// Pixels of a picture's side on the sheet, at least.
const SIDE: usize = 192;
/// Pixels from one line of text to the next.
const LINE: usize = HEIGHT + 1;
const GAP: usize = 14;
pub(super) const MAX_COLUMNS: usize = 6;
/// More would not be an overview any more, and viewers would not open the picture.
const MAX_CELLS: usize = 600;

/// Before a caption that is right, and before one that is not.
const CHECK: char = '✓';
const CROSS: char = '✗';

/// Writes a PNG: the pictures, enlarged without smoothing, and under each what the model said: a green check where that is
/// what was expected, else a red cross, the differing words in red, and what was expected.
///
/// # Errors
/// [`Error::Mismatch`] where the pixels are not `size · size · 3` bytes, [`Error::TooLarge`] for more than 600 cells,
/// [`Error::Io`] where the file cannot be written.
pub fn contact_sheet(path: &Path, cells: &[Cell]) -> Result<()> {
    for cell in cells {
        if !cell.rgb.is_empty() && cell.size.checked_mul(cell.size).and_then(|n| n.checked_mul(3)) != Some(cell.rgb.len()) {
            return Err(Error::mismatch("contact_sheet", "rgb", format!("{0} x {0} pixels of 3 bytes", cell.size), format!("{} bytes", cell.rgb.len())));
        }
        if cell.size > 1024 {
            return Err(Error::TooLarge { what: "contact_sheet: size of a picture".into(), size: cell.size as u128, limit: 1024 });
        }
    }
    if cells.len() > MAX_CELLS {
        return Err(Error::TooLarge { what: "contact_sheet: cells".into(), size: cells.len() as u128, limit: MAX_CELLS as u128 });
    }
    let sheet = draw(cells);
    write_file_atomic_with(path, |file| {
        let png = picture_png(&sheet.rgb, sheet.width, sheet.height())?;
        file.write_all(&png).map_err(Error::io(path, "write"))
    })
}

fn draw(cells: &[Cell]) -> Canvas {
    let side = cells.iter().map(|c| enlarged(c.size)).max().unwrap_or(SIDE).max(SIDE);
    let columns = cells.len().clamp(1, MAX_COLUMNS);
    let columns_of_text = side / COLUMN;
    let texts: Vec<Vec<Vec<Word>>> = cells.iter().map(|c| text(c, columns_of_text)).collect();
    let mut sheet = Canvas::new(GAP + columns * (side + GAP), GAP);
    for (row, texts) in cells.chunks(columns).zip(texts.chunks(columns)) {
        let top = sheet.height();
        let lines = texts.iter().map(Vec::len).max().unwrap_or(0);
        sheet.extend(side + 6 + lines * LINE + GAP);
        for (column, (cell, text)) in row.iter().zip(texts).enumerate() {
            let left = GAP + column * (side + GAP);
            sheet.picture(left, top, side, cell);
            for (line, words) in text.iter().enumerate() {
                for word in words {
                    sheet.write(left + word.column * COLUMN, top + side + 6 + line * LINE, word);
                }
            }
        }
    }
    sheet
}

/// The size of a picture on the sheet: a whole multiple of its own.
fn enlarged(size: usize) -> usize {
    size * SIDE.div_ceil(size.max(1)).max(1)
}

/// A word, a colour and the column of 8 pixels where it starts.
struct Word {
    column: usize,
    glyphs: Vec<Glyph>,
    colour: Colour,
}

/// The text under a picture, broken into lines of at most so many columns.
fn text(cell: &Cell, columns: usize) -> Vec<Vec<Word>> {
    let right = cell.expected.map(|expected| expected == cell.caption);
    let expected: Vec<&str> = cell.expected.unwrap_or(cell.caption).split_whitespace().collect();
    let mut words = Vec::new();
    match right {
        Some(true) => words.push((vec![glyph(CHECK)], GREEN)),
        Some(false) => words.push((vec![glyph(CROSS)], RED)),
        None => {}
    }
    for (i, word) in cell.caption.split_whitespace().enumerate() {
        words.push((glyphs(word), if expected.get(i) == Some(&word) { INK } else { RED }));
    }
    let mut lines = wrap(words, columns);
    if right == Some(false) {
        let words = std::iter::once("is:").chain(expected).map(|word| (glyphs(word), PALE)).collect();
        lines.extend(wrap(words, columns));
    }
    lines
}

fn wrap(words: Vec<(Vec<Glyph>, Colour)>, columns: usize) -> Vec<Vec<Word>> {
    let mut lines: Vec<Vec<Word>> = Vec::new();
    let mut column = columns; // full: the first word starts a line
    for (glyphs, colour) in words {
        // A word longer than a line is cut into lines.
        for glyphs in cut(glyphs, columns) {
            let width: usize = glyphs.iter().map(|glyph| glyph.columns).sum();
            if column > 0 && column + 1 + width > columns {
                lines.push(Vec::new());
                column = 0;
            } else {
                column += 1;
            }
            if let Some(line) = lines.last_mut() {
                line.push(Word { column, glyphs, colour });
            }
            column += width;
        }
    }
    lines
}

/// A word in pieces of at most so many columns; what is drawn over a letter stays with it.
fn cut(glyphs: Vec<Glyph>, columns: usize) -> Vec<Vec<Glyph>> {
    let mut pieces: Vec<Vec<Glyph>> = Vec::new();
    let mut width = columns; // full
    for glyph in glyphs {
        if pieces.is_empty() || width + glyph.columns > columns {
            pieces.push(Vec::new());
            width = 0;
        }
        width += glyph.columns;
        pieces.last_mut().expect("one was pushed").push(glyph);
    }
    pieces
}

fn glyphs(word: &str) -> Vec<Glyph> {
    word.chars().map(glyph).collect()
}

struct Canvas {
    width: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        let mut canvas = Canvas { width, rgb: Vec::new() };
        canvas.extend(height);
        canvas
    }

    fn height(&self) -> usize {
        self.rgb.len() / (self.width * 3)
    }

    fn extend(&mut self, rows: usize) {
        self.rgb.extend(std::iter::repeat_n(PAPER, rows * self.width).flatten());
    }

    fn set(&mut self, x: usize, y: usize, colour: Colour) {
        let at = (y * self.width + x) * 3;
        self.rgb[at..at + 3].copy_from_slice(&colour);
    }

    fn picture(&mut self, left: usize, top: usize, side: usize, cell: &Cell) {
        let scale = side / cell.size.max(1);
        for y in 0..side {
            for x in 0..side {
                let edge = x == 0 || y == 0 || x + 1 == side || y + 1 == side;
                let (column, row) = (x / scale.max(1), y / scale.max(1));
                if !cell.rgb.is_empty() && column < cell.size && row < cell.size {
                    let at = (row * cell.size + column) * 3;
                    self.set(left + x, top + y, [cell.rgb[at], cell.rgb[at + 1], cell.rgb[at + 2]]);
                } else if edge {
                    self.set(left + x, top + y, FRAME);
                }
            }
        }
        if cell.rgb.is_empty() {
            let glyphs = ["no", "picture"].map(glyphs).join(&glyph(' '));
            let left = left + side.saturating_sub(glyphs.len() * COLUMN) / 2;
            self.write(left, top + (side - HEIGHT) / 2, &Word { column: 0, glyphs, colour: PALE });
        }
    }

    fn write(&mut self, left: usize, top: usize, word: &Word) {
        let mut at = left;
        for glyph in &word.glyphs {
            // What has no width of its own is drawn over the letter before it.
            let from = if glyph.columns == 0 { at.saturating_sub(COLUMN).max(left) } else { at };
            for (y, row) in glyph.rows.iter().enumerate() {
                for x in (0..2 * COLUMN).filter(|x| row >> (15 - x) & 1 == 1) {
                    if from + x < self.width {
                        self.set(from + x, top + y, word.colour);
                    }
                }
            }
            at += glyph.columns * COLUMN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(size: usize) -> Vec<u8> {
        (0..size * size).flat_map(|i| [(i % size * 5) as u8, (i / size * 5) as u8, 90]).collect()
    }

    #[test]
    fn a_sheet_is_a_picture_of_the_right_size_and_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let rgb = picture(48);
        let caption = "a fluffy orange cat laying on its back in the sun yawning";
        let wrong = "a fluffy white cat laying on its back in the sun yawning";
        let cells = [
            Cell { rgb: &rgb, size: 48, caption, expected: Some(caption) },
            Cell { rgb: &rgb, size: 48, caption: wrong, expected: Some(caption) },
            Cell { rgb: &[], size: 48, caption: "something yawning", expected: None },
        ];
        contact_sheet(&path, &cells).unwrap();
        let sheet = image::open(&path).unwrap().to_rgb8();
        assert_eq!(sheet.width() as usize, GAP + 3 * (SIDE + GAP));
        let has = |x: std::ops::Range<usize>, colour: Colour| sheet.enumerate_pixels().any(|(px, _, p)| x.contains(&(px as usize)) && p.0 == colour);
        let cell = |i: usize| GAP + i * (SIDE + GAP)..(i + 1) * (SIDE + GAP);
        assert!(has(cell(0), GREEN) && !has(cell(0), RED));
        assert!(has(cell(1), RED) && has(cell(1), PALE) && !has(cell(1), GREEN));
        assert!(!has(cell(2), RED) && !has(cell(2), GREEN));
        assert_eq!(sheet.get_pixel(GAP as u32, GAP as u32).0, [0, 0, 90]);
    }

    #[test]
    fn captions_of_other_scripts_are_drawn_and_cut_into_lines() {
        let columns = |line: &[Word]| line.iter().map(|word| word.column + word.glyphs.iter().map(|glyph| glyph.columns).sum::<usize>()).max();
        let chinese = "一只蓬松的橙色猫仰卧在阳光下打哈欠一只蓬松的橙色猫";
        let lines = text(&Cell { rgb: &[], size: 0, caption: chinese, expected: None }, 24);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| columns(line) <= Some(24)));
        assert_eq!(lines.iter().flatten().map(|word| word.glyphs.len()).sum::<usize>(), chinese.chars().count());
        // The accent stays with its letter, and takes no room.
        let lines = text(&Cell { rgb: &[], size: 0, caption: "cafe\u{301}", expected: None }, 4);
        assert_eq!((lines.len(), columns(&lines[0])), (1, Some(4)));
    }

    #[test]
    fn odd_cells_do_not_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        contact_sheet(&path, &[]).unwrap();
        let long = "ü→’中e\u{301}😀".repeat(100) + " \u{301}\u{301}";
        for size in [1, 7, 48, 200, 1000] {
            let rgb = picture(size);
            contact_sheet(&path, &[Cell { rgb: &rgb, size, caption: &long, expected: Some("") }, Cell { rgb: &[], size: 0, caption: "", expected: None }])
                .unwrap();
        }
        assert!(contact_sheet(&path, &[Cell { rgb: &[1, 2], size: 48, caption: "", expected: None }]).is_err());
        assert!(contact_sheet(&path, &[Cell { rgb: &[], size: usize::MAX, caption: "", expected: None }]).is_err());
    }
}
