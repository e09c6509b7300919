//! PNG, JPEG and WebP files to square RGB pixels.

mod mjpeg;
mod orientation;
mod webp;

use std::cell::Cell;
use std::io::{Cursor, Read};
use std::path::Path;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, RgbImage, imageops};

use super::contained::contained;
use super::content;
use super::jpeg;
use super::limits::Limits;
use super::scale::{Stretch, scale};
use super::sizes::Fit;
use super::watched::Watched;
use trimodal_base::read::regular;
use trimodal_base::{Error, Result};

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

/// Reads a PNG, JPEG or WebP file, crops its centre to a square and scales that to `size · size` pixels.
///
/// The orientation tag is obeyed; transparent pixels are laid over white; grey, palette and 16-bit files become
/// 8-bit RGB; of an animation the first frame counts.
///
/// # Errors
/// A missing file; one that is none of these, is cut off, damaged, or beyond `limits` (which are checked in the header,
/// before anything is decoded).
pub fn load(path: &Path, size: usize, limits: &Limits) -> Result<Picture> {
    load_fitted(path, size, Fit::Crop, limits)
}

/// [`load`] with a choice of what happens to a picture that is not square.
///
/// # Errors
/// As [`load`].
pub fn load_fitted(path: &Path, size: usize, fit: Fit, limits: &Limits) -> Result<Picture> {
    let bad = |what: String| Error::file(path, what);
    let (file, length) = regular(path, u64::MAX).map_err(bad)?;
    read(file, length, size, fit, false, limits).map(|(picture, ..)| picture).map_err(bad)
}

/// A picture; how opaque each of its pixels is, where that was asked for and not all are; its own width and height.
type Decoded = (Picture, Option<Vec<u8>>, (u32, u32));

/// [`load_fitted`] out of an open file of `length` bytes; `alpha` asks for what is transparent. The error is the sentence without the file's
/// name.
pub(super) fn read(file: impl Read, length: u64, size: usize, fit: Fit, alpha: bool, limits: &Limits) -> std::result::Result<Decoded, String> {
    if length > limits.picture_bytes {
        return Err(Limits::beyond("picture_bytes", "a file of", length, "bytes", limits.picture_bytes));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // The file may have grown since its length was asked for.
    file.take(length).read_to_end(&mut bytes).map_err(|error| format!("cannot read it: {error}"))?;
    contained(|| decode(&bytes, size, fit, alpha, limits))
}

/// [`read`] for bytes that are already in memory.
fn decode(bytes: &[u8], size: usize, fit: Fit, alpha: bool, limits: &Limits) -> std::result::Result<Decoded, String> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        if bytes.get(12..16) == Some(b"CgBI") {
            return Err("a PNG as Xcode packs it into apps (it begins with a CgBI chunk), which only Apple's programs read: \
                        `xcrun pngcrush -revert-iphone-optimizations in.png out.png` makes it an ordinary one"
                .into());
        }
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
        let at = Cell::new(0);
        PngDecoder::with_limits(Watched::new(Cursor::new(bytes), &at), allowed)
            .map_err(|error| error.to_string())
            .and_then(|decoder| square(decoder, None, size, fit, alpha, limits))
            .map_err(|error| format!("not a readable PNG: {error} (read up to byte {} of {})", at.get(), bytes.len()))
    } else if bytes.starts_with(&[0xff, 0xd8]) {
        let Some(segments) = jpeg_segments(bytes) else {
            return Err(format!("the JPEG is cut off: no end marker within its {} bytes", bytes.len()));
        };
        check_coefficients(&segments, limits)?;
        let bytes = mjpeg::marked(bytes, &segments);
        // This decoder takes the whole file and does not say where in it the error is.
        JpegDecoder::new(Cursor::new(&bytes[..]))
            .map_err(|error| error.to_string())
            .and_then(|decoder| square(decoder, Some(&bytes), size, fit, alpha, limits))
            .map_err(|error| format!("not a readable JPEG: {error}"))
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        webp::check(bytes, limits)?;
        let at = Cell::new(0);
        WebPDecoder::new(Watched::new(Cursor::new(bytes), &at))
            .map_err(|error| error.to_string())
            .and_then(|decoder| square(decoder, None, size, fit, alpha, limits))
            .map_err(|error| format!("not a readable WebP: {error} (read up to byte {} of {})", at.get(), bytes.len()))
    } else {
        Err(content::refusal(content::PICTURE, &bytes[..bytes.len().min(12)], bytes.len() as u64))
    }
}

/// Refuses sizes beyond the limits; `bytes` per pixel once decoded.
fn check_size(width: u32, height: u32, bytes: u64, limits: &Limits) -> std::result::Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("the picture is empty: {width} × {height} pixels"));
    }
    if width.max(height) > limits.picture_side {
        return Err(Limits::beyond("picture_side", "a picture of", format!("{width} × {height}"), "pixels", limits.picture_side));
    }
    let decoded = width as u64 * height as u64 * bytes;
    if decoded > limits.picture_bytes {
        let what = format!("{width} × {height} pixels, which decode to");
        return Err(Limits::beyond("picture_bytes", &what, decoded, "bytes", limits.picture_bytes));
    }
    Ok(())
}

/// A progressive JPEG is decoded through all of its coefficients, two bytes each, beside the picture: together these may take twice
/// what a decoded picture may (less a sixteenth, for everything else).
fn check_coefficients(segments: &[(u8, &[u8])], limits: &Limits) -> std::result::Result<(), String> {
    for (_, frame) in segments.iter().filter(|(marker, frame)| *marker == 0xc2 && frame.len() >= 6) {
        let (height, width) = (u16::from_be_bytes([frame[1], frame[2]]) as u64, u16::from_be_bytes([frame[3], frame[4]]) as u64);
        let samplings: Vec<(u64, u64)> = frame[6..].chunks_exact(3).map(|c| ((c[1] >> 4) as u64, (c[1] & 15) as u64)).collect();
        let most = |of: fn(&(u64, u64)) -> u64| samplings.iter().map(of).max().unwrap_or(1).max(1);
        let blocks = most(|s| s.0) * most(|s| s.1);
        let coefficients = width * height * samplings.iter().map(|(h, v)| h * v).sum::<u64>() / blocks * 2;
        let (needed, allowed) = (coefficients + width * height * 3, limits.picture_bytes.saturating_mul(2) / 16 * 15);
        if needed > allowed {
            let what = format!("a progressive JPEG of {width} × {height} pixels, which takes");
            return Err(Limits::beyond("picture_bytes", &what, needed, "bytes while it is decoded: with the coefficients,", allowed));
        }
    }
    Ok(())
}

/// The fewest pixels of a JPEG that is decoded at a part of its size.
const LARGE: u64 = 1 << 12;

/// The picture of a JPEG at the smallest part of its size that is not below what it is scaled to, and which part that is; `None` where it
/// is all of it.
fn reduced(jpeg: &[u8], (width, height): (u32, u32), size: usize, fit: Fit) -> Option<(DynamicImage, f64)> {
    if (width as u64 * height as u64) < LARGE {
        return None;
    }
    let side = if fit == Fit::Crop { width.min(height) } else { width.max(height) };
    let part = jpeg::part(side, u32::try_from(size).ok()?)?;
    let jpeg::Reduced { width, height, channels, pixels } = jpeg::reduced(jpeg, |w, h| ((w, h) == (width, height)).then_some(part))?;
    let picture = match channels {
        1 => image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    };
    Some((picture?, part as f64 / 8.0))
}

/// Decodes (`jpeg`: the file, where it is one, which may be decoded at a part of its size), turns upright, flattens to RGB, crops or pads,
/// and scales. Width and height are those of the upright picture.
fn square(mut decoder: impl ImageDecoder, jpeg: Option<&[u8]>, size: usize, fit: Fit, alpha: bool, limits: &Limits) -> std::result::Result<Decoded, String> {
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.color_type().bytes_per_pixel() as u64, limits)?;
    let mut allowed = image::Limits::default();
    (allowed.max_image_width, allowed.max_image_height) = (Some(limits.picture_side), Some(limits.picture_side));
    allowed.max_alloc = Some(limits.picture_bytes);
    decoder.set_limits(allowed).map_err(|error| error.to_string())?;
    let orientation = decoder.exif_metadata().map_err(|error| error.to_string())?.map_or(Orientation::NoTransforms, |exif| orientation::of(&exif));
    let (mut decoded, part) = match jpeg.and_then(|jpeg| reduced(jpeg, (width, height), size, fit)) {
        Some(reduced) => reduced,
        None => (DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?, 1.0),
    };
    // What stays of a picture that is cropped, in pixels of the file; at a part of its size a pixel may be cut in two.
    let side = width.min(height);
    let cropped = |length: u32| if fit == Fit::Crop { ((length - side) / 2, side) } else { (0, length) };
    let stretch = |length: u32| {
        let (start, length) = cropped(length);
        Stretch { start: start as f64 * part, length: length as f64 * part }
    };
    let (mut across, mut down) = (stretch(width), stretch(height));
    if orientation != Orientation::NoTransforms || !matches!(decoded, DynamicImage::ImageRgb8(_)) {
        // Crop first: turning a copy of the largest picture would take its memory once more.
        let inside = |stretch: Stretch, of: u32| {
            let start = (stretch.start.round() as u32).min(of - 1);
            (start, (stretch.length.ceil() as u32).clamp(1, of - start))
        };
        let ((x, columns), (y, rows)) = (inside(across, decoded.width()), inside(down, decoded.height()));
        if (columns, rows) != (decoded.width(), decoded.height()) {
            decoded = decoded.crop_imm(x, y, columns, rows);
        }
        decoded.apply_orientation(orientation);
        (across, down) = (Stretch::whole(0, decoded.width()), Stretch::whole(0, decoded.height()));
    }
    let turned = matches!(orientation, Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH);
    let (width, height) = if turned { (height, width) } else { (width, height) };
    let opaque = if alpha { opacity(&decoded) } else { None };
    let rgb = flatten(decoded);
    let size32 = u32::try_from(size).map_err(|_| format!("a picture cannot be scaled to {size} × {size} pixels"))?;
    let (columns, rows) = (cropped(width).1, cropped(height).1);
    let longest = columns.max(rows);
    let scaled = |length: u32| ((length as u64 * size as u64 + longest as u64 / 2) / longest as u64).max(1) as u32;
    let (inner_width, inner_height) = (scaled(columns), scaled(rows));
    let to_square = |mut rgb: RgbImage, around: u8| {
        if (inner_width, inner_height) != rgb.dimensions() || (across, down) != (Stretch::whole(0, inner_width), Stretch::whole(0, inner_height)) {
            let pixels = scale(rgb.as_raw(), rgb.width() as usize, across, down, (inner_width as usize, inner_height as usize));
            rgb = RgbImage::from_raw(inner_width, inner_height, pixels).expect("three values for each pixel");
        }
        if (inner_width, inner_height) != (size32, size32) {
            let mut canvas = RgbImage::from_pixel(size32, size32, image::Rgb([around; 3]));
            imageops::replace(&mut canvas, &rgb, (size32 - inner_width) as i64 / 2, (size32 - inner_height) as i64 / 2);
            rgb = canvas;
        }
        rgb.into_raw()
    };
    // The bars beside a transparent picture are its background.
    let alpha = opaque.map(|opaque| to_square(opaque, 0).into_iter().step_by(3).collect());
    Ok((Picture { width: size, height: size, rgb: to_square(rgb, 255) }, alpha, (width, height)))
}

/// How opaque each pixel is, as a grey picture; `None` where all are.
fn opacity(decoded: &DynamicImage) -> Option<RgbImage> {
    let alpha: Vec<u8> = match decoded {
        DynamicImage::ImageLumaA8(grey) => grey.pixels().map(|p| p.0[1]).collect(),
        DynamicImage::ImageRgba8(rgba) => rgba.pixels().map(|p| p.0[3]).collect(),
        other if other.color().has_alpha() => other.to_rgba8().pixels().map(|p| p.0[3]).collect(),
        _ => return None,
    };
    alpha
        .iter()
        .any(|alpha| *alpha < 255)
        .then(|| RgbImage::from_fn(decoded.width(), decoded.height(), |x, y| image::Rgb([alpha[(y * decoded.width() + x) as usize]; 3])))
}

/// RGB, over white where the picture is transparent. One pass: the conversions of `image`, one after the other, take three times as
/// long on the largest pictures.
fn flatten(decoded: DynamicImage) -> RgbImage {
    let over_white = |value: u8, alpha: u8| ((value as u32 * alpha as u32 + 255 * (255 - alpha as u32) + 127) / 255) as u8;
    let (width, height) = (decoded.width(), decoded.height());
    let mut flat = Vec::new();
    match decoded {
        DynamicImage::ImageLumaA8(grey) => {
            flat.reserve_exact(width as usize * height as usize * 3);
            flat.extend(grey.pixels().flat_map(|p| [over_white(p.0[0], p.0[1]); 3]));
        }
        other if other.color().has_alpha() => {
            let rgba = other.into_rgba8();
            flat.reserve_exact(width as usize * height as usize * 3);
            flat.extend(rgba.pixels().flat_map(|p| [0, 1, 2].map(|c| over_white(p.0[c], p.0[3]))));
        }
        other => return other.into_rgb8(),
    }
    RgbImage::from_raw(width, height, flat).expect("three values for each pixel")
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

/// Walks the segments and scans up to the end marker (ITU T.81 annex B): a thumbnail inside a segment has one too. Gives the marker
/// and the content of each segment; `None` without an end.
fn jpeg_segments(bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let (mut at, mut segments) = (2usize, Vec::new());
    loop {
        // Entropy-coded data, fill bytes and anything else up to the next marker; ff 00 and ff d0…d7 belong to the data.
        at += bytes.get(at..)?.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff))?;
        if bytes[at + 1] == 0xd9 {
            return Some(segments);
        }
        let length = bytes.get(at + 2..at + 4).map(|l| u16::from_be_bytes([l[0], l[1]]) as usize)?;
        segments.push((bytes[at + 1], bytes.get(at + 4..at + 2 + length.max(2)).unwrap_or(&[])));
        at += 2 + length.max(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageEncoder;

    /// Something like a photograph: soft, with edges.
    fn scene(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            let wave = |a: f32, b: f32| 60.0 * (a * x + b * y).sin();
            let disc = if (x - 0.6).hypot(y - 0.4) < 0.25 { 50.0 } else { 0.0 };
            image::Rgb([128.0 + wave(9.0, 4.0) + disc, 128.0 + wave(5.0, 13.0) - disc, 128.0 + wave(17.0, 7.0)].map(|v: f32| v as u8))
        })
    }

    fn jpeg_of(picture: &RgbImage) -> Vec<u8> {
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 92).encode_image(picture).unwrap();
        jpeg
    }

    #[test]
    fn a_large_jpeg_is_what_all_of_it_scaled_is_and_never_less_than_asked_for() {
        for (width, height) in [(640, 480), (517, 773), (1024, 100), (333, 333)] {
            let jpeg = jpeg_of(&scene(width, height));
            for (size, fit) in [(16, Fit::Crop), (48, Fit::Crop), (48, Fit::Pad), (100, Fit::Crop), (160, Fit::Pad)] {
                let ((picture, _, measured), decoder) =
                    (super::decode(&jpeg, size, fit, false, &Limits::default()).unwrap(), JpegDecoder::new(Cursor::new(&jpeg)).unwrap());
                let (whole, ..) = square(decoder, None, size, fit, false, &Limits::default()).unwrap();
                assert_eq!(measured, (width, height));
                let difference = picture.rgb.iter().zip(&whole.rgb).map(|(a, b)| a.abs_diff(*b) as f64);
                let mean = difference.clone().sum::<f64>() / picture.rgb.len() as f64;
                // Half of the edge's 100 may differ where a pixel is on it.
                assert!(mean < 2.0 && difference.clone().fold(0.0, f64::max) < 60.0, "{width} × {height} to {size} {fit:?}: {mean:.2}");
                // Where it is not a part of its size that was decoded, the bits are the same.
                let side = if fit == Fit::Crop { width.min(height) } else { width.max(height) };
                assert_eq!(jpeg::part(side, size as u32).is_none(), (side as usize) < 2 * size, "{side} to {size}");
                if side < 2 * size as u32 {
                    assert_eq!(picture.rgb, whole.rgb);
                }
            }
        }
    }

    #[test]
    fn a_large_jpeg_that_is_turned_is_turned_and_a_damaged_one_is_the_full_decoder_s() {
        let jpeg = jpeg_of(&scene(256, 192));
        let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1]);
        turned.extend((tiff.len() as u16 + 2).to_be_bytes());
        turned.extend(tiff);
        turned.extend(&jpeg[2..]);
        let (plain, turned) = (decode(&jpeg, 16, &Limits::default()).unwrap(), super::decode(&turned, 16, Fit::Crop, false, &Limits::default()).unwrap());
        assert_eq!(turned.2, (192, 256));
        // Turned by a quarter to the right: what was at the left of row y is at the top of column 15 − y.
        for y in 0..16 {
            for x in 0..16 {
                let (from, to) = (&plain.rgb[(y * 16 + x) * 3..][..3], &turned.0.rgb[(x * 16 + 15 - y) * 3..][..3]);
                assert!(from.iter().zip(to).all(|(a, b)| a.abs_diff(*b) <= 1), "{x}, {y}: {from:?}, {to:?}");
            }
        }
        // Bytes taken out of the scan: whatever the full decoder makes of that.
        let mut damaged = jpeg.clone();
        let middle = damaged.len() / 2;
        damaged.drain(middle..middle + 200);
        assert!(jpeg::reduced(&damaged, |_, _| Some(1)).is_none());
        let whole = JpegDecoder::new(Cursor::new(&damaged))
            .map_err(|e| e.to_string())
            .and_then(|decoder| square(decoder, None, 16, Fit::Crop, false, &Limits::default()));
        assert_eq!(super::decode(&damaged, 16, Fit::Crop, false, &Limits::default()).ok(), whole.ok());
    }

    fn decode(bytes: &[u8], size: usize, limits: &Limits) -> std::result::Result<Picture, String> {
        super::decode(bytes, size, Fit::Crop, false, limits).map(|(picture, ..)| picture)
    }

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
    fn pads_with_white() {
        let (picture, _, size) = super::decode(&png(8, 4, &[0; 8 * 4 * 3], image::ExtendedColorType::Rgb8), 16, Fit::Pad, false, &Limits::default()).unwrap();
        assert_eq!((picture.width, picture.height, size), (16, 16, (8, 4)));
        for (i, row) in picture.rgb.chunks(16 * 3).enumerate() {
            assert!(row.iter().all(|value| *value == if (4..12).contains(&i) { 0 } else { 255 }), "row {i}");
        }
        let strip = super::decode(&png(300, 1, &[0; 900], image::ExtendedColorType::Rgb8), 4, Fit::Pad, false, &Limits::default()).unwrap().0;
        assert_eq!(strip.rgb.chunks(3).filter(|pixel| *pixel == [0; 3]).count(), 4);
    }

    #[test]
    fn alpha_lies_over_white_and_grey_becomes_rgb() {
        let picture = decode(&png(1, 1, &[0, 0, 0, 0], image::ExtendedColorType::Rgba8), 2, &Limits::default()).unwrap();
        assert_eq!(picture.rgb, [255; 12]);
        let picture = decode(&png(1, 1, &[77], image::ExtendedColorType::L8), 1, &Limits::default()).unwrap();
        assert_eq!(picture.rgb, [77; 3]);
    }

    #[test]
    fn what_is_transparent_is_kept_where_it_is_asked_for_and_changes_no_colour() {
        // The left half is transparent, one column half so.
        let alpha = |x: usize| [0, 0, 128, 255][x];
        let rgba: Vec<u8> = (0..16).flat_map(|i| [10, 20, 30, alpha(i % 4)]).collect();
        let read = |bytes: &[u8], size, fit, alpha| super::decode(bytes, size, fit, alpha, &Limits::default()).unwrap();
        let bytes = png(4, 4, &rgba, image::ExtendedColorType::Rgba8);
        let (plain, kept) = (read(&bytes, 4, Fit::Crop, false), read(&bytes, 4, Fit::Crop, true));
        assert_eq!((&plain.0, &plain.1), (&kept.0, &None));
        assert_eq!(kept.1.unwrap(), (0..16).map(|i| alpha(i % 4)).collect::<Vec<_>>());
        assert_eq!(kept.0.rgb[..12], [255, 255, 255, 255, 255, 255, 132, 137, 142, 10, 20, 30]);
        // Scaled with the picture; the bars beside it are transparent.
        let scaled = read(&bytes, 2, Fit::Crop, true).1.unwrap();
        assert!(scaled[0] < 40 && scaled[1] > 150, "{scaled:?}");
        let wide = read(&png(4, 2, &rgba[..32], image::ExtendedColorType::Rgba8), 4, Fit::Pad, true).1.unwrap();
        assert_eq!(wide, [0, 0, 0, 0, 0, 0, 128, 255, 0, 0, 128, 255, 0, 0, 0, 0]);
        for color in [image::ExtendedColorType::Rgba8, image::ExtendedColorType::Rgb8, image::ExtendedColorType::L8, image::ExtendedColorType::La8] {
            let opaque = vec![255; 4 * color.channel_count() as usize];
            assert_eq!(read(&png(2, 2, &opaque, color), 2, Fit::Crop, true).1, None);
        }
        let grey = read(&png(1, 1, &[0, 51], image::ExtendedColorType::La8), 1, Fit::Crop, true);
        assert_eq!((grey.0.rgb, grey.1), (vec![204; 3], Some(vec![51])));
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

    #[test]
    fn a_damaged_png_says_where() {
        let mut bytes = png(5, 5, &[9; 75], image::ExtendedColorType::Rgb8);
        let data = bytes.windows(4).position(|name| name == b"IDAT").unwrap();
        bytes[data + 10] ^= 0xff;
        let error = decode(&bytes, 5, &Limits::default()).unwrap_err();
        let place: usize =
            error.split("(read up to byte ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{error}")).parse().unwrap();
        assert!((data..=bytes.len()).contains(&place), "{error}, the damage is at {}", data + 10);
    }
}
