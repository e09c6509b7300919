//! Which way up a picture is: the orientation tag of its EXIF block (TIFF 6.0, tag 274).
//!
//! `image` takes the tag only as the specification has it, one SHORT. Cameras' software writes LONG and BYTE as well, and what people
//! compare with reads these.

use image::metadata::Orientation;

const TAG: u16 = 0x0112;

/// The orientation that an EXIF block asks for.
pub(super) fn of(exif: &[u8]) -> Orientation {
    value(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

fn value(tiff: &[u8]) -> Option<u8> {
    let big = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let u16_at = |at: usize| tiff.get(at..at.checked_add(2)?).map(|b| if big { u16::from_be_bytes([b[0], b[1]]) } else { u16::from_le_bytes([b[0], b[1]]) });
    let u32_at = |at: usize| {
        tiff.get(at..at.checked_add(4)?).map(|b| if big { u32::from_be_bytes([b[0], b[1], b[2], b[3]]) } else { u32::from_le_bytes([b[0], b[1], b[2], b[3]]) })
    };
    let directory = u32_at(4)? as usize;
    let entries = u16_at(directory)? as usize;
    let entry = (0..entries).map(|i| directory + 2 + 12 * i).find(|at| u16_at(*at) == Some(TAG))?;
    let value = match u16_at(entry + 2)? {
        1 | 7 => *tiff.get(entry + 8)? as u32,
        3 => u16_at(entry + 8)? as u32,
        4 => u32_at(entry + 8)?,
        _ => return None,
    };
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(big: bool, kind: u16, value: &[u8]) -> Vec<u8> {
        let n16 = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let n32 = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let start: &[u8] = if big { b"MM\0*" } else { b"II*\0" };
        // Another tag first: the maker, of 4 letters.
        [start, &n32(8), &n16(2), &n16(0x010f), &n16(2), &n32(4), b"abc\0", &n16(TAG), &n16(kind), &n32(1), value, &[0; 4]].concat()
    }

    #[test]
    fn short_long_and_byte_are_read_in_either_order() {
        for (big, kind, value) in [
            (true, 3, [0, 6, 0, 0]),
            (false, 3, [6, 0, 0, 0]),
            (true, 4, [0, 0, 0, 6]),
            (false, 4, [6, 0, 0, 0]),
            (true, 1, [6, 0, 0, 0]),
            (false, 1, [6, 0, 0, 0]),
        ] {
            let exif = exif(big, kind, &value);
            assert_eq!(of(&exif), Orientation::Rotate90, "{big} {kind}");
            assert_eq!(of(&[b"Exif\0\0", &exif[..]].concat()), Orientation::Rotate90);
            for length in 0..exif.len() {
                let _ = of(&exif[..length]);
            }
        }
        assert_eq!(of(&exif(true, 3, &[0, 9, 0, 0])), Orientation::NoTransforms);
        assert_eq!(of(&exif(true, 4, &[1, 0, 0, 6])), Orientation::NoTransforms);
        assert_eq!(of(b""), Orientation::NoTransforms);
    }
}
