//! From a folder of pictures, sounds and captions to samples in memory.
//!
//! - [`folder`]: `metadata.jsonl`, one row per sample, read line by line with every path checked.
//! - [`loader`]: samples in the order of a seed, decoded ahead on several threads.
//! - [`picture`]: PNG and JPEG files to square RGB pixels.
//! - [`sound`]: WAV files to a clip of samples in −1 … 1.
//! - [`tokenizer`]: captions to numbers and back.
//! - [`contained`]: panics of other people's decoders become errors.
//! - [`meadow`]: the generated data set that the demo trains on, written as exactly such a folder.

pub mod contained;
pub mod folder;
pub mod loader;
pub mod meadow;
pub(crate) mod order;
pub mod picture;
pub mod sound;
pub mod tokenizer;

pub use folder::{Dataset, Row};
pub use picture::Picture;
pub use tokenizer::Tokenizer;

use std::path::Path;

use crate::{Error, Result};

/// What a data folder may ask of this machine. A file beyond a limit is refused before it is decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The longest line of `metadata.jsonl`, in bytes (default 1 MiB).
    pub line_bytes: usize,
    /// The longest side of a picture, in pixels (default 8,192).
    pub picture_side: u32,
    /// The size of a decoded picture, in bytes (default 128 MiB).
    pub picture_bytes: u64,
    /// The size of a picture or sound file, in bytes (default 4 GiB − 1, the largest WAV).
    pub file_bytes: u64,
    /// The lowest and highest sample rate of a sound, in Hz (default 8,000 to 192,000).
    pub sound_rate: (u32, u32),
    /// The most channels of a sound (default 8).
    pub sound_channels: u16,
    /// The longest sound, in seconds (default 600).
    pub sound_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            line_bytes: 1 << 20,
            picture_side: 8192,
            picture_bytes: 128 << 20,
            file_bytes: u32::MAX as u64,
            sound_rate: (8_000, 192_000),
            sound_channels: 8,
            sound_seconds: 600,
        }
    }
}

/// One row of a data set, decoded to the model's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The picture's file name as written in `metadata.jsonl`, else the sound's, else `line N`.
    pub name: String,
    /// Where it is written down: `metadata.jsonl, line 3`.
    pub origin: String,
    /// The picture, if the row has one.
    pub picture: Option<Picture>,
    /// The sound, if the row has one: mono samples in −1 … 1 at the model's rate, padded or cropped to the model's clip.
    pub sound: Option<Vec<f32>>,
    /// The caption.
    pub text: String,
    /// Words before the caption, which are read and not learned.
    pub prompt: Option<String>,
    /// The split that the row names, if any.
    pub split: Option<String>,
}

/// Checks that `path` is a regular file of at most `limit` bytes and opens it; returns its length too. Opening a pipe
/// would wait for ever, so the kind of file is looked at first.
pub(crate) fn open_file(path: &Path, limit: u64) -> Result<(std::fs::File, u64)> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::file(path, "there is no such file"),
        _ => Error::io(path, "read")(error),
    })?;
    if !metadata.is_file() {
        return Err(Error::file(path, "expected a regular file, found a folder, pipe or device"));
    }
    if metadata.len() > limit {
        return Err(Error::file(path, format!("expected at most {limit} bytes, found {}", metadata.len())));
    }
    let file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
    Ok((file, metadata.len()))
}
