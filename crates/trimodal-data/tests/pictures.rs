//! Pictures as Pillow reads them: WebP, motion JPEG, orientation tags of any type, headers of megabytes; and what is refused by name.

mod common;

use common::{media, says};
use serde_json::Value;
use trimodal_data::{Fit, Limits, Picture, Result, picture};

fn load(bytes: &[u8], size: usize) -> Result<Picture> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    std::fs::write(&path, bytes).unwrap();
    picture::load_fitted(&path, size, Fit::Pad, &Limits::default())
}

#[test]
fn every_kind_of_file_has_pillow_s_pixels() {
    let golden: Value = serde_json::from_slice(&std::fs::read(media("golden.json")).unwrap()).unwrap();
    for (name, allowed) in
        [("lossless.webp", 0), ("turned.webp", 0), ("alpha.webp", 1), ("animated.webp", 0), ("lossy.webp", 3), ("annex-k.jpg", 3), ("mjpeg.jpg", 3)]
    {
        let file = &golden[name];
        let [width, height] = ["width", "height"].map(|side| file[side].as_u64().unwrap() as usize);
        // Padded to a square of its longer side, it is not scaled.
        let size = width.max(height);
        let found = picture::load_fitted(&media(name), size, Fit::Pad, &Limits::default()).unwrap_or_else(|error| panic!("{error}"));
        let (left, top) = ((size - width) / 2, (size - height) / 2);
        let mut worst = 0;
        for (i, value) in file["rgb"].as_array().unwrap().iter().enumerate() {
            let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
            worst = worst.max(found.rgb[((y + top) * size + x + left) * 3 + c].abs_diff(value.as_u64().unwrap() as u8));
        }
        assert!(worst <= allowed, "{name}: off by {worst}");
    }
}

#[test]
fn every_truncation_of_a_webp_is_an_error() {
    for name in ["lossless.webp", "lossy.webp", "alpha.webp", "animated.webp", "turned.webp"] {
        let whole = std::fs::read(media(name)).unwrap();
        assert!(load(&whole, 8).is_ok());
        for length in 0..whole.len() {
            says(load(&whole[..length], 8), &["a.png"]);
        }
    }
}

#[test]
fn a_webp_beyond_the_limits_is_refused_by_its_header() {
    let chunk = |name: &[u8], content: &[u8]| [name, &(content.len() as u32).to_le_bytes(), content].concat();
    let webp = |chunks: &[u8]| [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", chunks].concat();
    let lossless = |width: u32, height: u32| chunk(b"VP8L", &[&[0x2f][..], &((width - 1) | (height - 1) << 14).to_le_bytes(), &[0; 5]].concat());
    let lossy = |width: u16, height: u16| chunk(b"VP8 ", &[&b"\x10\0\0\x9d\x01\x2a"[..], &width.to_le_bytes(), &height.to_le_bytes()].concat());
    let extended = |flags: u8, width: u32, height: u32| {
        chunk(b"VP8X", &[&[flags, 0, 0, 0][..], &(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat())
    };
    says(load(&webp(&lossless(16_384, 4)), 8), &["16384 × 4", "picture_side = 8192"]);
    says(load(&webp(&lossless(8_000, 8_000)), 8), &["8000 × 8000", "picture_bytes"]);
    says(load(&webp(&lossless(8_192, 5_000)), 8), &["8192 × 5000", "while it is decoded", "picture_bytes"]);
    says(load(&webp(&lossy(16_383, 16_383)), 8), &["16383 × 16383"]);
    says(load(&webp(&lossy(0, 4)), 8), &["empty"]);
    says(load(&webp(&extended(0, 1 << 24, 1)), 8), &["16777216 × 1"]);
    // A frame that is larger than its canvas.
    says(load(&webp(&[extended(0, 8, 8), lossy(16_000, 16_000)].concat()), 8), &["16000 × 16000"]);
    let frame = chunk(b"ANMF", &[&[0; 16][..], &lossless(16_000, 16_000)].concat());
    says(load(&webp(&[extended(2, 8, 8), frame].concat()), 8), &["16000 × 16000"]);
    let mut long = webp(&[extended(8, 8, 8), lossy(8, 8), chunk(b"EXIF", b"abcd")].concat());
    let end = long.len();
    long[end - 8..end - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    says(load(&long, 8), &["\"EXIF\"", "cut off"]);
}

/// A JPEG with this segment after its first marker.
fn with_segment(marker: u8, content: &[u8]) -> Vec<u8> {
    let whole = std::fs::read(media("annex-k.jpg")).unwrap();
    [&whole[..2], &[0xff, marker], &(content.len() as u16 + 2).to_be_bytes(), content, &whole[2..]].concat()
}

#[test]
fn an_orientation_may_be_a_long() {
    let plain = load(&std::fs::read(media("annex-k.jpg")).unwrap(), 16).unwrap();
    for (kind, value) in [(3u16, [0, 6, 0, 0]), (4, [0, 0, 0, 6]), (1, [6, 0, 0, 0])] {
        let tiff = [&b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"[..], &kind.to_be_bytes(), &1u32.to_be_bytes(), &value, &[0; 4]].concat();
        let turned = load(&with_segment(0xe1, &tiff), 16).unwrap();
        // A quarter to the right: the left column from below becomes the first row.
        for x in 0..16 {
            assert_eq!(turned.rgb[x * 3], plain.rgb[(15 - x) * 16 * 3], "type {kind}");
        }
    }
}

/// CRC-32 as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ *byte as u32, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }))
}

fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
}

/// A PNG of 3 × 3 pixels.
fn png() -> Vec<u8> {
    trimodal_data::meadow::png(&Picture { width: 3, height: 3, rgb: (0..27).collect() }).unwrap()
}

#[test]
fn metadata_of_megabytes_are_skipped() {
    let plain = load(&png(), 3).unwrap();
    let head = 8 + 25; // the mark and IHDR
    let large = vec![b'x'; 2 << 20];
    for (kind, content) in [
        (&b"tEXt"[..], [&b"workflow\0"[..], &large].concat()),
        (b"iTXt", [&b"workflow\0\0\0\0\0"[..], &large].concat()),
        (b"eXIf", [&b"MM\0*\0\0\0\x08\0\0"[..], &large].concat()),
        (b"prIv", large.clone()),
    ] {
        let whole = png();
        let with = [&whole[..head], &chunk(kind, &content), &whole[head..]].concat();
        assert_eq!(load(&with, 3).unwrap(), plain, "{}", String::from_utf8_lossy(kind));
    }
    let whole = std::fs::read(media("annex-k.jpg")).unwrap();
    let segment = [&[0xff, 0xe2][..], &u16::MAX.to_be_bytes(), &[b'x'; 65_533]].concat();
    let with = [&whole[..2], &segment.repeat(32), &whole[2..]].concat();
    assert_eq!(load(&with, 8).unwrap(), load(&whole, 8).unwrap());
}

#[test]
fn what_is_not_read_is_named_with_what_to_do() {
    let mut apple = png();
    apple.splice(8..8, chunk(b"CgBI", &[0x50, 0, 0x20, 2]));
    says(load(&apple, 3), &["a.png", "Xcode", "CgBI", "revert-iphone-optimizations"]);
    for (start, words) in [
        (&b"GIF89a\x01\0\x01\0"[..], ["a GIF", "in.gif[0]"]),
        (b"\0\0\0\x18ftypheic\0\0\0\0", ["HEIC", "magick in.heic out.png"]),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", ["HEIC", "magick"]),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", ["SVG", "rsvg-convert"]),
        (b"<?xml version=\"1.0\"?><svg/>", ["SVG", "rsvg-convert"]),
        (b"\0\0\0\x1cftypavif\0\0\0\0", ["AVIF", "magick"]),
        (b"BM\x46\0\0\0", ["BMP", "magick"]),
        (b"II*\0\x08\0\0\0", ["TIFF", "magick"]),
    ] {
        says(load(start, 3), &["a picture (PNG, JPEG, WebP)", words[0], words[1]]);
    }
}
