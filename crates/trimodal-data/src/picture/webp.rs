//! What a WebP file claims, compared with what it has (RFC 9649, section 2), before the decoder allocates for it.

use super::check_size;
use crate::limits::Limits;

/// Checks the size of the file, of every chunk, and of the pictures in them.
pub(super) fn check(bytes: &[u8], limits: &Limits) -> Result<(), String> {
    let claimed = number(bytes, 4, 4).unwrap_or(0);
    if claimed as u64 + 8 > bytes.len() as u64 {
        return Err(format!("the WebP is cut off: it claims {} bytes, the file has {}", claimed as u64 + 8, bytes.len()));
    }
    // An animation is drawn on a canvas, frame over frame; a lossless picture is decoded to four bytes a pixel, then copied to three.
    let animated = bytes.get(12..16) == Some(b"VP8X") && bytes.get(20).is_some_and(|flags| flags & 2 != 0);
    chunks(bytes, 12, if animated { 12 } else { 7 }, limits)
}

fn chunks(bytes: &[u8], mut at: usize, working: u64, limits: &Limits) -> Result<(), String> {
    while at + 8 <= bytes.len() {
        let size = number(bytes, at + 4, 4).unwrap_or(0) as usize;
        let name = &bytes[at..at + 4];
        let Some(content) = bytes.get(at + 8..).and_then(|rest| rest.get(..size)) else {
            let name = String::from_utf8_lossy(name);
            return Err(format!("the WebP is cut off: its chunk {name:?} at byte {at} claims {size} bytes, the file has {} in all", bytes.len()));
        };
        let sides = |at: usize, width: usize, bits: u32| {
            Some((number(content, at, width)? & ((1 << bits) - 1), number(content, at + width, width)? & ((1 << bits) - 1)))
        };
        let size_of = match name {
            b"VP8X" => sides(4, 3, 24).map(|(width, height)| (width + 1, height + 1)),
            b"VP8 " => sides(6, 2, 14),
            b"VP8L" => number(content, 1, 4).map(|bits| ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)),
            b"ANMF" => {
                chunks(content, 16, working, limits)?;
                sides(6, 3, 24).map(|(width, height)| (width + 1, height + 1))
            }
            _ => None,
        };
        if let Some((width, height)) = size_of {
            check_size(width, height, 3, limits)?;
            let (needed, allowed) = (width as u64 * height as u64 * working, limits.picture_bytes.saturating_mul(2) / 16 * 15);
            if needed > allowed {
                let what = format!("a WebP of {width} × {height} pixels, which takes");
                return Err(Limits::beyond("picture_bytes", &what, needed, "bytes while it is decoded, and such may take", allowed));
            }
        }
        at += 8 + size + size % 2;
    }
    Ok(())
}

/// A number of so many bytes, the lowest first.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u32> {
    bytes.get(at..at + width).map(|bytes| bytes.iter().rev().fold(0, |number, byte| number << 8 | *byte as u32))
}
