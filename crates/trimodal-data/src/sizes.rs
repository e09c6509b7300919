//! What pictures and sounds are brought to.

/// What does not fit into the square of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Is cropped: the centre stays.
    #[default]
    Crop,
    /// Is kept: white bars fill the square.
    Pad,
}

/// The sizes that pictures and sounds are brought to: the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaSizes {
    /// Width and height of a picture, in pixels.
    pub picture: usize,
    /// How a picture that is not square becomes one.
    pub fit: Fit,
    /// Samples per second of a sound.
    pub sample_rate: u32,
    /// Samples of a clip (`sample_rate · clip_seconds`).
    pub samples: usize,
}
