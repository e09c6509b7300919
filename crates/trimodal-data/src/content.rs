//! What a file holds, by its first bytes or by its name's ending: pictures and sounds that are read, and others by name, with what to do.

/// What a file that is neither text nor table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A PNG, JPEG or WebP picture.
    Picture,
    /// A WAV, FLAC, MP3 or Ogg sound.
    Sound,
}

/// The pictures that are read, in words.
pub(crate) const PICTURE: &str = "a picture (PNG, JPEG, WebP)";

/// The sounds that are read, in words.
pub(crate) const SOUND: &str = "a sound (WAV, FLAC, MP3, Ogg Vorbis)";

impl Content {
    /// Told by the first twelve bytes of a file, not by its name.
    pub fn of(start: &[u8]) -> Option<Self> {
        if start.starts_with(b"\x89PNG\r\n\x1a\n") || start.starts_with(b"\xff\xd8\xff") || form(start) == Some(b"WEBP") {
            return Some(Content::Picture);
        }
        SoundKind::of(start).map(|_| Content::Sound)
    }

    /// What is wrong with a file that is neither, by its first bytes.
    pub fn refusal(start: &[u8]) -> String {
        let found = foreign(start).unwrap_or_else(|| format!("something that starts with {}", hexadecimal(start)));
        format!("expected {PICTURE} or {SOUND}, found {found}")
    }

    /// A file of this kind in words: what is read of it.
    pub fn words(self) -> &'static str {
        match self {
            Content::Picture => PICTURE,
            Content::Sound => SOUND,
        }
    }
}

/// How a sound is wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SoundKind {
    /// RIFF, its big-endian twin RIFX, or RF64 and BW64, its forms for more than 4 GiB.
    Wave,
    Flac,
    Mp3,
    Ogg,
    /// A tag that MP3 and FLAC files may begin with.
    Id3,
}

impl SoundKind {
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            _ if form(start) == Some(b"WAVE") => Some(SoundKind::Wave),
            [b'f', b'L', b'a', b'C', ..] => Some(SoundKind::Flac),
            [b'O', b'g', b'g', b'S', ..] => Some(SoundKind::Ogg),
            [b'I', b'D', b'3', major, ..] if (2..=4).contains(major) => Some(SoundKind::Id3),
            // ISO 11172-3, 2.4.1.3: the sync word; not the reserved version, layer III, no reserved bit rate, no reserved sample rate.
            [0xff, b, c, ..] if b & 0xe0 == 0xe0 && b & 0x18 != 0x08 && b & 0x06 == 0x02 && c & 0xf0 != 0xf0 && c & 0x0c != 0x0c => Some(SoundKind::Mp3),
            _ => None,
        }
    }
}

/// The form of a RIFF file.
fn form(start: &[u8]) -> Option<&[u8; 4]> {
    let container = start.first_chunk::<4>()?;
    let form = start.get(8..)?.first_chunk()?;
    match container {
        b"RIFF" => Some(form),
        b"RIFX" | b"RF64" | b"BW64" if form == b"WAVE" => Some(form),
        _ => None,
    }
}

/// `expected a picture (PNG, JPEG, WebP), found a GIF, which is not read: …`
pub(crate) fn refusal(expected: &str, start: &[u8], length: u64) -> String {
    match foreign(start) {
        Some(found) => format!("expected {expected}, found {found}"),
        None => format!("expected {expected}, found a file of {length} bytes that starts with {}", hexadecimal(start)),
    }
}

/// The first four bytes: `[52 49 46 46]`.
fn hexadecimal(start: &[u8]) -> String {
    let bytes: Vec<String> = start.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("[{}]", bytes.join(" "))
}

const PIXELS: &str = "which is not read: save it as PNG or JPEG (`magick in.xxx out.png`)";
const SAMPLES: &str = "which is not read: save it as FLAC or WAV (`ffmpeg -i in.xxx out.flac`)";
const VECTORS: &str = "which holds lines instead of pixels and is not read: draw it as PNG (`rsvg-convert in.svg -o out.png`)";
const FRAMES: &str = "which is not read: save the frame that counts as PNG (`magick 'in.gif[0]' out.png`)";

/// What a file is that people put into data sets and that is not read, by its first bytes.
fn foreign(start: &[u8]) -> Option<String> {
    let brand = (start.get(4..8) == Some(b"ftyp")).then(|| start.get(8..12)).flatten();
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let ending = match start {
        _ if matches!(brand, Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1")) => "heic",
        _ if matches!(brand, Some(b"avif" | b"avis")) => "avif",
        _ if brand.is_some() => "m4a",
        _ if text.starts_with(b"<svg") || text.starts_with(b"<?xml") => "svg",
        [b'G', b'I', b'F', b'8', ..] => "gif",
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => "tiff",
        [b'B', b'M', ..] => "bmp",
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "jxl",
        [0, 0, 0, 12, b'j', b'P', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "jp2",
        _ if form(start) == Some(b"AVI ") => return Some("an AVI video, which is not read".into()),
        [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', ..] => "aiff",
        [b'c', b'a', b'f', b'f', ..] => "caf",
        [b'#', b'!', b'A', b'M', b'R', ..] => "amr",
        [b'.', b's', b'n', b'd', ..] => "au",
        [0x30, 0x26, 0xb2, 0x75, ..] => "wma",
        [b'r', b'i', b'f', b'f', ..] => "w64",
        [b'w', b'v', b'p', b'k', ..] => "wv",
        // ADTS: as MP3's sync word, with a layer of 0.
        [0xff, b, ..] if b & 0xf6 == 0xf0 => "aac",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            return Some("a Git LFS pointer instead of the file itself: fetch the files with `git lfs pull`".into());
        }
        _ if text.starts_with(b"<!DOC") || text.starts_with(b"<html") || text.starts_with(b"<HTML") => {
            return Some("a web page: the download answered with one instead of the file".into());
        }
        _ => return None,
    };
    foreign_ending(ending)
}

/// The same by the ending of a file's name, in small letters: leaving these out silently would train on less than is there.
pub(super) fn foreign_ending(ending: &str) -> Option<String> {
    let (what, how) = match ending {
        "gif" => ("a GIF", FRAMES),
        "svg" | "svgz" => ("an SVG", VECTORS),
        "heic" | "heif" => ("a HEIC picture", PIXELS),
        "avif" => ("an AVIF picture", PIXELS),
        "bmp" => ("a BMP picture", PIXELS),
        "tif" | "tiff" => ("a TIFF picture", PIXELS),
        "jxl" => ("a JPEG XL picture", PIXELS),
        "jp2" | "j2k" => ("a JPEG 2000 picture", PIXELS),
        "m4a" | "mp4" => ("an MP4 or M4A file", SAMPLES),
        "aac" => ("an AAC sound", SAMPLES),
        "aif" | "aiff" | "aifc" => ("an AIFF sound", SAMPLES),
        "opus" => ("an Opus sound", SAMPLES),
        "wma" => ("a WMA sound", SAMPLES),
        "amr" => ("an AMR sound", SAMPLES),
        "au" => ("an AU sound", SAMPLES),
        "caf" => ("a CAF sound", SAMPLES),
        "w64" => ("a W64 sound", SAMPLES),
        "wv" => ("a WavPack sound", SAMPLES),
        _ => return None,
    };
    Some(format!("{what}, {}", how.replace("xxx", ending)))
}

/// Whether a file whose name ends so, in small letters, is a picture.
pub(super) fn is_picture(ending: &str) -> bool {
    matches!(ending, "png" | "jpg" | "jpeg" | "jpe" | "jfif" | "webp")
}

/// Whether a file whose name ends so, in small letters, is a sound.
pub(super) fn is_sound(ending: &str) -> bool {
    matches!(ending, "wav" | "wave" | "flac" | "mp3" | "ogg" | "oga")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_by_the_first_bytes() {
        for start in [&b"\x89PNG\r\n\x1a\n...."[..], b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP"] {
            assert_eq!(Content::of(start), Some(Content::Picture), "{start:?}");
        }
        for start in [
            &b"RIFF\0\0\0\0WAVE"[..],
            b"RIFX\0\0\0\0WAVE",
            b"RF64\xff\xff\xff\xffWAVE",
            b"fLaC\0\0\0\x22",
            b"OggS\0\x02",
            b"ID3\x04\0\0",
            b"\xff\xfb\x90\x64",
            b"\xff\xf3\x40\xc0",
        ] {
            assert_eq!(Content::of(start), Some(Content::Sound), "{start:?}");
        }
        for start in
            [&b""[..], b"RIFF\0\0\0\0AVI ", b"RIFX\0\0\0\0WEBP", b"RIFF", b"GIF89a", b"a cat", b"ID3", b"\xff\xfb", b"\xff\xff\xff\xff", b"\xff\xf1\x50"]
        {
            assert_eq!(Content::of(start), None, "{start:?}");
        }
    }

    #[test]
    fn what_is_not_read_is_named_with_what_to_do() {
        for (start, words) in [
            (&b"GIF89a\0\0"[..], ["a GIF", "in.gif[0]"]),
            (b"\0\0\0\x18ftypheic", ["a HEIC", "magick in.heic"]),
            (b"\xef\xbb\xbf\n <svg xm", ["an SVG", "rsvg-convert"]),
            (b"<?xml versio", ["an SVG", "rsvg-convert"]),
            (b"\0\0\0\x18ftypM4A ", ["M4A", "ffmpeg -i in.m4a"]),
            (b"FORM\0\0\0\0AIFF", ["AIFF", "ffmpeg -i in.aiff"]),
            (b"version http", ["Git LFS", "git lfs pull"]),
            (b"<!DOCTYPE ht", ["a web page", "download"]),
            (b"\x01\x02\x03\x04", ["a file of 77 bytes", "[01 02 03 04]"]),
        ] {
            let sentence = refusal(PICTURE, start, 77);
            assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
        }
    }
}
