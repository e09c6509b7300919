//! One row in memory.

use super::picture::Picture;

/// One row of a data set, decoded to the model's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What people call it: the first file's name as the table writes it, a shard's key, or `line N`.
    pub name: String,
    /// Where it is written down: `metadata.jsonl, line 3`, `shard-000001.tar, byte 5120`.
    pub origin: String,
    /// The picture, if the row has one.
    pub picture: Option<Picture>,
    /// How opaque each of its pixels is, `[height, width]`: only where it was asked for, and not all are.
    pub alpha: Option<Vec<u8>>,
    /// The sound, if the row has one: mono samples in −1 … 1 at the model's rate, padded or cropped to the model's clip.
    pub sound: Option<Vec<f32>>,
    /// The caption.
    pub text: String,
    /// Words before the caption, which are read and not learned.
    pub prompt: Option<String>,
    /// The split that the row names, if any.
    pub split: Option<String>,
}
