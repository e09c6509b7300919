//! Frames of motion JPEG, which leave out the Huffman tables because all of them use those of ITU T.81 annex K.

use std::borrow::Cow;

/// What capture programs put at the beginning of such a frame (OpenDML AVI): the decoder then fills in the tables.
const AVI1: [u8; 18] = *b"\xff\xe0\0\x10AVI1\0\0\0\0\0\0\0\0\0\0";

/// The file as the decoder takes it: one without any table is marked as a frame of motion JPEG.
pub(super) fn marked<'a>(bytes: &'a [u8], segments: &[(u8, &[u8])]) -> Cow<'a, [u8]> {
    let has = |markers: &[u8]| segments.iter().any(|(marker, _)| markers.contains(marker));
    // Progressive and arithmetic frames have no such agreement.
    if has(&[0xc4]) || !has(&[0xc0, 0xc1]) {
        return bytes.into();
    }
    [&bytes[..2], &AVI1, &bytes[2..]].concat().into()
}
