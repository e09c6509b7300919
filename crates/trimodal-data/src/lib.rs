//! From a folder of pictures, sounds and captions, or from shards, to samples in memory.
//!
//! - [`folder`]: the data set: which rows there are, and one row decoded. Beneath it: a row (`row`), tables (`table`), folders
//!   without one (`walk`), shards (`shards` over `tar`), `safe`, which opens files of the folder and no others, and `parallel`.
//! - [`loader`]: samples in the order of a seed ([`order`]), decoded ahead on several threads.
//! - [`picture`]: PNG and JPEG files to square RGB pixels.
//! - [`sound`]: WAV files to a clip of samples in −1 … 1.
//! - [`tokenizer`]: captions to numbers and back.
//! - [`contained`]: panics in other people's decoders become errors.
//! - [`inspect`]: what is in a data set, before anyone trains on it.
//! - [`meadow`]: the generated data set that the demo trains on, written as an ordinary folder.

#![warn(missing_docs)]

pub mod contained;
pub mod folder;
pub mod inspect;
pub mod loader;
pub mod meadow;
pub mod order;
mod parallel;
pub mod picture;
mod row;
mod safe;
mod shards;
pub mod sound;
mod table;
mod tar;
pub mod tokenizer;
mod walk;
mod watched;

pub use trimodal_base::{Error, Result};

pub use folder::{Dataset, Fit, MediaSizes, TableRow};
pub use picture::Picture;
pub use tokenizer::Tokenizer;

/// What a data set may ask of this machine. A file beyond a limit is refused before it is decoded; the message names the limit.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest line of a table, and the longest text of a shard or `.txt` file, in bytes (default 1 MiB).
    pub line_bytes: usize,
    /// The longest header of a shard's member (a long name, pax), in bytes (default 1 MiB).
    pub header_bytes: usize,
    /// The longest side of a picture, in pixels (default 8,192).
    pub picture_side: u32,
    /// The size of a decoded picture, and of its file, in bytes (default 128 MiB).
    pub picture_bytes: u64,
    /// The size of a sound file, in bytes (default 4 GiB − 1, the largest WAV).
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
            header_bytes: 1 << 20,
            picture_side: 8192,
            picture_bytes: 128 << 20,
            file_bytes: u32::MAX as u64,
            sound_rate: (8_000, 192_000),
            sound_channels: 8,
            sound_seconds: 600,
        }
    }
}

impl Limits {
    /// `found a line of 2000000 bytes: more than the limit line_bytes = 1048576`
    pub(crate) fn beyond(name: &str, what: &str, found: impl std::fmt::Display, unit: &str, limit: impl std::fmt::Display) -> String {
        format!("found {what} {found} {unit}: more than the limit {name} = {limit}")
    }
}

/// What a file that is neither text nor table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A PNG or JPEG picture.
    Picture,
    /// A WAV sound.
    Sound,
}

impl Content {
    /// Told by the first twelve bytes of a file, not by its name.
    pub fn of(start: &[u8]) -> Option<Self> {
        if start.starts_with(b"\x89PNG\r\n\x1a\n") || start.starts_with(b"\xff\xd8\xff") {
            return Some(Content::Picture);
        }
        (start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WAVE")).then_some(Content::Sound)
    }
}

/// One row of a data set, decoded to the model's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What people call it: the first file's name as the table writes it, a shard's key, or `line N`.
    pub name: String,
    /// Where it is written down: `metadata.jsonl, line 3`, `shard-000001.tar, byte 5120`.
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
