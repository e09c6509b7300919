//! PNG and JPEG files to square RGB pixels.

use std::io::{Cursor, Read};
use std::path::Path;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::{DynamicImage, ImageDecoder, imageops};

use super::contained::contained;
use super::{Limits, open_file};
use crate::{Error, Result};

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height · width · 3` bytes: rows from the top, red, green, blue.
    pub rgb: Vec<u8>,
}

/// Reads a PNG or JPEG file, crops its centre to a square and scales that to `size · size` pixels.
///
/// A JPEG's orientation tag is obeyed; transparent pixels are laid over white; grey, palette and 16-bit files become
/// 8-bit RGB.
///
/// # Errors
/// A missing file, neither PNG nor JPEG, cut off, damaged, or beyond `limits` (which are checked in the header, before
/// anything is decoded).
pub fn load(path: &Path, size: usize, limits: &Limits) -> Result<Picture> {
    let (file, length) = open_file(path, limits.file_bytes.min(limits.picture_bytes))?;
    let mut bytes = Vec::with_capacity(length as usize);
    // The file may have grown since its length was asked for.
    file.take(length).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    contained(|| decode(&bytes, size, limits)).map_err(|what| Error::file(path, what))
}

/// [`load`] for bytes that are already in memory; the error is the sentence without the file's name.
fn decode(bytes: &[u8], size: usize, limits: &Limits) -> std::result::Result<Picture, String> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        // Before the decoder sees the file: a side of 2³¹ makes some of its own arithmetic meaningless.
        if let Some(ihdr) = bytes.get(16..24) {
            let side = |at: usize| u32::from_be_bytes([ihdr[at], ihdr[at + 1], ihdr[at + 2], ihdr[at + 3]]);
            check_size(side(0), side(4), 3, limits)?;
        }
        // `image` accepts a file that ends anywhere after the last pixel.
        if !png_is_whole(bytes) {
            return Err(format!("the PNG is cut off: no end chunk within its {} bytes", bytes.len()));
        }
        let mut allowed = image::Limits::default();
        (allowed.max_image_width, allowed.max_image_height) = (Some(limits.picture_side), Some(limits.picture_side));
        allowed.max_alloc = Some(limits.picture_bytes);
        square(PngDecoder::with_limits(Cursor::new(bytes), allowed).map_err(|error| format!("not a readable PNG: {error}"))?, size, limits)
            .map_err(|error| format!("not a readable PNG: {error}"))
    } else if bytes.starts_with(&[0xff, 0xd8]) {
        if !jpeg_is_whole(bytes) {
            return Err(format!("the JPEG is cut off: no end marker within its {} bytes", bytes.len()));
        }
        square(JpegDecoder::new(Cursor::new(bytes)).map_err(|error| format!("not a readable JPEG: {error}"))?, size, limits)
            .map_err(|error| format!("not a readable JPEG: {error}"))
    } else {
        let start: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Err(format!("expected a PNG or JPEG picture, found a file of {} bytes that starts with [{}]", bytes.len(), start.join(" ")))
    }
}

/// Refuses sizes beyond the limits; `bytes` per pixel once decoded.
fn check_size(width: u32, height: u32, bytes: u64, limits: &Limits) -> std::result::Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("the picture is empty: {width} × {height} pixels"));
    }
    if width.max(height) > limits.picture_side {
        return Err(format!("expected at most {0} × {0} pixels, the header claims {width} × {height}", limits.picture_side));
    }
    let decoded = width as u64 * height as u64 * bytes;
    if decoded > limits.picture_bytes {
        return Err(format!("{width} × {height} pixels take {decoded} bytes decoded, at most {} are allowed", limits.picture_bytes));
    }
    Ok(())
}

/// Decodes, turns upright, flattens to RGB, crops and scales.
fn square(mut decoder: impl ImageDecoder, size: usize, limits: &Limits) -> std::result::Result<Picture, String> {
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.color_type().bytes_per_pixel() as u64, limits)?;
    let mut allowed = image::Limits::default();
    (allowed.max_image_width, allowed.max_image_height) = (Some(limits.picture_side), Some(limits.picture_side));
    allowed.max_alloc = Some(limits.picture_bytes);
    decoder.set_limits(allowed).map_err(|error| error.to_string())?;
    let orientation = decoder.orientation().map_err(|error| error.to_string())?;
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    decoded.apply_orientation(orientation);
    // Crop first: scaling a strip of 8,192 × 1 pixels to its full width would make it 48 times as large.
    let side = decoded.width().min(decoded.height());
    let (left, top) = ((decoded.width() - side) / 2, (decoded.height() - side) / 2);
    let mut decoded = if decoded.width() == decoded.height() { decoded } else { decoded.crop_imm(left, top, side, side) };
    if decoded.color().has_alpha() {
        let mut rgba = decoded.to_rgba8();
        for pixel in rgba.pixels_mut() {
            let alpha = pixel.0[3] as u32;
            for channel in &mut pixel.0[..3] {
                *channel = ((*channel as u32 * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
            }
        }
        decoded = DynamicImage::ImageRgba8(rgba);
    }
    let mut rgb = decoded.into_rgb8();
    if side as usize != size {
        rgb = imageops::resize(&rgb, size as u32, size as u32, imageops::FilterType::Triangle);
    }
    Ok(Picture { width: size, height: size, rgb: rgb.into_raw() })
}

/// Walks the chunks up to `IEND`.
fn png_is_whole(bytes: &[u8]) -> bool {
    let mut at = 8usize;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(12).and_then(|end| end.checked_add(length)).filter(|end| *end <= bytes.len()) else { return false };
        if &head[4..8] == b"IEND" {
            return true;
        }
        at = end;
    }
    false
}

/// Walks the segments and scans up to the end marker (ITU T.81 annex B): a thumbnail inside a segment has one too.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2usize;
    loop {
        // Entropy-coded data, fill bytes and anything else up to the next marker; ff 00 and ff d0…d7 belong to the data.
        let Some(next) = bytes.get(at..).and_then(|rest| rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff))) else {
            return false;
        };
        at += next;
        if bytes[at + 1] == 0xd9 {
            return true;
        }
        let Some(length) = bytes.get(at + 2..at + 4).map(|l| u16::from_be_bytes([l[0], l[1]]) as usize) else { return false };
        at += 2 + length.max(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageEncoder;

    fn png(width: u32, height: u32, pixels: &[u8], color: image::ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes).write_image(pixels, width, height, color).unwrap();
        bytes
    }

    #[test]
    fn same_size_is_untouched() {
        let rgb: Vec<u8> = (0..8 * 8 * 3).map(|i| (i * 7 % 256) as u8).collect();
        let bytes = png(8, 8, &rgb, image::ExtendedColorType::Rgb8);
        assert_eq!(decode(&bytes, 8, &Limits::default()).unwrap().rgb, rgb);
    }

    #[test]
    fn crops_the_centre_and_scales() {
        // Red, green, red thirds of 12 × 4: the centre square is green.
        let rgb: Vec<u8> = (0..12 * 4).flat_map(|i| if (4..8).contains(&(i % 12)) { [0, 255, 0] } else { [255, 0, 0] }).collect();
        let picture = decode(&png(12, 4, &rgb, image::ExtendedColorType::Rgb8), 16, &Limits::default()).unwrap();
        assert_eq!((picture.width, picture.height, picture.rgb.len()), (16, 16, 768));
        assert!(picture.rgb.chunks(3).all(|pixel| pixel == [0, 255, 0]));
    }

    #[test]
    fn alpha_lies_over_white_and_grey_becomes_rgb() {
        let picture = decode(&png(1, 1, &[0, 0, 0, 0], image::ExtendedColorType::Rgba8), 2, &Limits::default()).unwrap();
        assert_eq!(picture.rgb, [255; 12]);
        let picture = decode(&png(1, 1, &[77], image::ExtendedColorType::L8), 1, &Limits::default()).unwrap();
        assert_eq!(picture.rgb, [77; 3]);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let rgb = [9; 5 * 5 * 3];
        let whole = png(5, 5, &rgb, image::ExtendedColorType::Rgb8);
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg).write_image(&rgb, 5, 5, image::ExtendedColorType::Rgb8).unwrap();
        for bytes in [whole, jpeg] {
            assert!(decode(&bytes, 5, &Limits::default()).is_ok());
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length], 5, &Limits::default()).is_err(), "{length} of {}", bytes.len());
            }
        }
    }
}
