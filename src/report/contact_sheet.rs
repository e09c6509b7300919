//! Pictures with their captions on one sheet, right and wrong marked.

use super::page::picture_png;
use crate::error::{Error, Result};
use crate::files::write_file_atomic_with;
use font8x8::UnicodeFonts;
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
const GLYPH: usize = 8;
const LINE: usize = 11;
const GAP: usize = 14;
const MAX_COLUMNS: usize = 6;
/// More would not be an overview any more, and viewers would not open the picture.
const MAX_CELLS: usize = 600;

const CHECK: [u8; 8] = [0x00, 0x80, 0xc0, 0x60, 0x31, 0x1b, 0x0e, 0x04];
const CROSS: [u8; 8] = [0x00, 0x63, 0x36, 0x1c, 0x1c, 0x36, 0x63, 0x00];

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
    let letters = side / GLYPH;
    let texts: Vec<Vec<Vec<Word>>> = cells.iter().map(|c| text(c, letters)).collect();
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
                    sheet.write(left + word.column * GLYPH, top + side + 6 + line * LINE, word);
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

/// A word, a colour and the letter column where it starts. A mark is a word of one special glyph.
struct Word {
    column: usize,
    glyphs: Vec<[u8; 8]>,
    colour: Colour,
}

/// The text under a picture, broken into lines of at most `letters` letters.
fn text(cell: &Cell, letters: usize) -> Vec<Vec<Word>> {
    let right = cell.expected.map(|expected| expected == cell.caption);
    let expected: Vec<&str> = cell.expected.unwrap_or(cell.caption).split_whitespace().collect();
    let mut words = Vec::new();
    match right {
        Some(true) => words.push((vec![CHECK], GREEN)),
        Some(false) => words.push((vec![CROSS], RED)),
        None => {}
    }
    for (i, word) in cell.caption.split_whitespace().enumerate() {
        words.push((glyphs(word), if expected.get(i) == Some(&word) { INK } else { RED }));
    }
    let mut lines = wrap(words, letters);
    if right == Some(false) {
        let words = std::iter::once("is:").chain(expected).map(|word| (glyphs(word), PALE)).collect();
        lines.extend(wrap(words, letters));
    }
    lines
}

fn wrap(words: Vec<(Vec<[u8; 8]>, Colour)>, letters: usize) -> Vec<Vec<Word>> {
    let mut lines: Vec<Vec<Word>> = Vec::new();
    let mut column = letters; // full: the first word starts a line
    for (glyphs, colour) in words {
        // A word longer than a line is cut into lines.
        for glyphs in glyphs.chunks(letters.max(1)) {
            if column > 0 && column + 1 + glyphs.len() > letters {
                lines.push(Vec::new());
                column = 0;
            } else {
                column += 1;
            }
            if let Some(line) = lines.last_mut() {
                line.push(Word { column, glyphs: glyphs.to_vec(), colour });
            }
            column += glyphs.len();
        }
    }
    lines
}

fn glyphs(word: &str) -> Vec<[u8; 8]> {
    let known = |c: char| font8x8::BASIC_FONTS.get(c).or_else(|| font8x8::LATIN_FONTS.get(c)).or_else(|| font8x8::GREEK_FONTS.get(c));
    word.chars().map(|c| known(c).or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default()).collect()
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
            let word = Word { column: 0, glyphs: glyphs("no picture").into_iter().chain([[0; 8]]).collect(), colour: PALE };
            self.write(left + (side - 10 * GLYPH) / 2, top + side / 2 - GLYPH / 2, &word);
        }
    }

    fn write(&mut self, left: usize, top: usize, word: &Word) {
        for (i, glyph) in word.glyphs.iter().enumerate() {
            for (y, row) in glyph.iter().enumerate() {
                // The lowest bit of a row is its leftmost pixel.
                for x in (0..GLYPH).filter(|x| row >> x & 1 == 1) {
                    self.set(left + i * GLYPH + x, top + y, word.colour);
                }
            }
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
    fn odd_cells_do_not_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        contact_sheet(&path, &[]).unwrap();
        let long = "ü→".repeat(200);
        for size in [1, 7, 48, 200, 1000] {
            let rgb = picture(size);
            contact_sheet(&path, &[Cell { rgb: &rgb, size, caption: &long, expected: Some("") }, Cell { rgb: &[], size: 0, caption: "", expected: None }])
                .unwrap();
        }
        assert!(contact_sheet(&path, &[Cell { rgb: &[1, 2], size: 48, caption: "", expected: None }]).is_err());
        assert!(contact_sheet(&path, &[Cell { rgb: &[], size: usize::MAX, caption: "", expected: None }]).is_err());
    }
}
