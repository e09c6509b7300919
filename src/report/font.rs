//! The letters of contact sheets: GNU Unifont, 8 or 16 pixels wide and 16 high, for all scripts that are written today.
//!
//! `font/unifont.bin`, which `scripts/font` writes, is a zlib stream of the number of ranges (u32), each range (first character u16, number
//! u16, whether wide u8), and the glyphs in their order: 16 rows of one byte, or of two where they are wide, the highest bit to the left. It
//! is below 500 kB without some Chinese characters and without emoji; these are drawn as a frame with their number in it.

use std::io::Read;
use std::sync::OnceLock;

use unicode_width::UnicodeWidthChar;

/// Rows of a glyph.
pub(super) const HEIGHT: usize = 16;

/// Pixels of a column: glyphs take none (they are drawn over the one before), one or two.
pub(super) const COLUMN: usize = 8;

/// A letter in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Glyph {
    /// Columns of 8 pixels.
    pub columns: usize,
    /// The highest bit is the leftmost pixel.
    pub rows: [u16; HEIGHT],
}

/// The glyph of a character.
pub(super) fn glyph(c: char) -> Glyph {
    let mut glyph = font().get(c).unwrap_or_else(|| numbered(c));
    if c.width() == Some(0) {
        glyph.columns = 0;
    }
    glyph
}

struct Font {
    /// The first character, the number of characters, the bytes of each, and where their glyphs are.
    ranges: Vec<(u32, u32, usize, usize)>,
    bytes: Vec<u8>,
}

fn font() -> &'static Font {
    static FONT: OnceLock<Font> = OnceLock::new();
    FONT.get_or_init(|| {
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(&include_bytes!("font/unifont.bin")[..]).read_to_end(&mut bytes).expect("our own font");
        let count = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let mut at = 4 + 5 * count;
        let ranges = bytes[4..at].chunks_exact(5).map(|range| {
            let number = |at: usize| u16::from_le_bytes([range[at], range[at + 1]]) as u32;
            (number(0), number(2), if range[4] == 1 { 2 * HEIGHT } else { HEIGHT })
        });
        let ranges = ranges
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(first, length, size)| {
                let glyphs = at;
                at += length as usize * size;
                (first, length, size, glyphs)
            })
            .collect();
        Font { ranges, bytes }
    })
}

impl Font {
    fn get(&self, c: char) -> Option<Glyph> {
        let c = c as u32;
        let (first, length, size, at) = *self.ranges.get(self.ranges.partition_point(|range| range.0 <= c).checked_sub(1)?)?;
        let index = c.checked_sub(first).filter(|index| *index < length)? as usize;
        let bits = self.bytes.get(at + index * size..)?.get(..size)?;
        let rows = std::array::from_fn(|y| if size == HEIGHT { (bits[y] as u16) << 8 } else { u16::from_be_bytes([bits[2 * y], bits[2 * y + 1]]) });
        Some(Glyph { columns: size / HEIGHT, rows })
    }
}

/// Digits of 3 × 5 pixels: an octal digit is a row.
const DIGITS: [u16; 16] =
    [0o75557, 0o26227, 0o71747, 0o71317, 0o55711, 0o74717, 0o74757, 0o71222, 0o75757, 0o75717, 0o25755, 0o65656, 0o74447, 0o65556, 0o74647, 0o74644];

/// What stands for a character that the font lacks: its number in six hexadecimal digits, in a frame.
fn numbered(c: char) -> Glyph {
    let mut rows = [0x8001; HEIGHT];
    (rows[0], rows[HEIGHT - 1]) = (u16::MAX, u16::MAX);
    for place in 0..6 {
        let digit = DIGITS[(c as usize >> (4 * (5 - place))) & 15];
        let (left, top) = (2 + place % 3 * 4, 2 + place / 3 * 7);
        for y in 0..5 {
            rows[top + y] |= (digit >> (3 * (4 - y)) & 7) << (13 - left);
        }
    }
    Glyph { columns: 2, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As people see them.
    fn drawn(c: char) -> String {
        let glyph = glyph(c);
        let row = |row: u16| (0..8 * glyph.columns.max(1)).map(|x| if row >> (15 - x) & 1 == 1 { '#' } else { '.' }).collect::<String>();
        glyph.rows.map(row).join("\n")
    }

    #[test]
    fn letters_of_many_scripts_are_there_and_none_is_a_question_mark() {
        for c in "az?’“”–…€éßŁŐŞ→αЖяאبแกกあア中語繁體한글हिন்ქՀአ√♪✓".chars() {
            assert!(font().get(c).is_some(), "{c} (U+{:04X})", c as u32);
            assert!(c == '?' || glyph(c).rows != glyph('?').rows, "{c}");
        }
        let apostrophe = glyph('’').rows;
        assert!(apostrophe[..8].iter().any(|row| *row != 0) && apostrophe[8..].iter().all(|row| *row == 0), "{}", drawn('’'));
        assert_eq!([glyph('a').columns, glyph('中').columns, glyph('한').columns, glyph('\u{301}').columns], [1, 2, 2, 0]);
        assert_eq!(glyph(' ').rows, [0; 16]);
    }

    #[test]
    fn what_the_font_lacks_is_a_number_in_a_frame() {
        assert_eq!(font().get('😀'), None);
        let expected = "\
################
#..............#
#.###.###..#...#
#.#.#.#.#.##...#
#.#.#.#.#..#...#
#.#.#.#.#..#...#
#.###.###.###..#
#..............#
#..............#
#.###.###.###..#
#.#...#.#.#.#..#
#.###.#.#.#.#..#
#.#.#.#.#.#.#..#
#.###.###.###..#
#..............#
################";
        // U+01F600: 01F above 600.
        let found = drawn('😀');
        assert_eq!(found.lines().next(), expected.lines().next());
        assert_eq!(found.lines().nth(9).map(|row| &row[..13]), expected.lines().nth(9).map(|row| &row[..13]), "{found}");
        assert_eq!((glyph('\u{10ffff}').columns, glyph('\u{e000}').columns), (2, 2));
    }
}
