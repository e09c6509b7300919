//! Eyes and ears: how pictures and sounds become rows of the token matrix.

pub use super::stem::Stem;
use serde::{Deserialize, Serialize};

/// Samples between two mel frames.
pub const HOP: usize = 160;

/// How pictures become rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Side of the (square) picture, in pixels.
    pub image_size: usize,
    /// `P`: side of a patch, in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Whether the rows of a picture see all of it, or only what came before them.
    pub bidirectional: bool,
    /// Convolutions between the patches and the rows; none: each patch is a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// Cells along each side that the picture's colours and edges are counted in ([`crate::ops::local_histogram`]), for the row of the picture
    /// as a whole; none: nothing is counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histograms: Vec<usize>,
}

/// How sounds become rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioConfig {
    /// Mel bands.
    pub num_mel_bins: usize,
    /// Samples per second.
    pub sample_rate: usize,
    /// Length of a clip, in seconds.
    pub clip_seconds: f64,
    /// Convolutions of the stem: the first has stride 1, every other one stride 2.
    pub layers: usize,
}

impl VisionConfig {
    /// Patches along one side.
    pub fn patch_grid(&self) -> usize {
        self.image_size / self.patch_size
    }
    /// Rows of one picture along one side: its patches, or what the stem's convolutions leave of them.
    pub fn grid(&self) -> usize {
        self.stem.as_ref().map_or(self.patch_grid(), |stem| stem.side(self.patch_grid(), stem.convolutions.len()))
    }
    /// Rows of one picture's places: its patches, or what a stem leaves of them.
    pub fn patches(&self) -> usize {
        if self.stem.as_ref().is_some_and(|stem| !stem.places) { 0 } else { self.grid().pow(2) }
    }
    /// Places along one side of the square that a picture's rows are shown in: 1 where its only row is of all of it.
    pub fn shown_grid(&self) -> usize {
        if self.patches() == 0 { 1 } else { self.grid() }
    }
    /// Whether one row is of the picture as a whole: what a stem leaves of it, what is counted in it, or the sum of both.
    pub fn has_whole_row(&self) -> bool {
        self.stem.is_some() || !self.histograms.is_empty()
    }
    /// Rows of one picture.
    pub fn rows(&self) -> usize {
        self.patches() + self.has_whole_row() as usize
    }
    /// The width of an embedded patch, in a model of this width.
    pub fn patch_width(&self, hidden_size: usize) -> usize {
        self.stem.as_ref().map_or(hidden_size, |stem| stem.width)
    }
}

impl AudioConfig {
    /// Samples of one clip.
    pub fn samples(&self) -> usize {
        (self.clip_seconds * self.sample_rate as f64).round() as usize
    }
    /// Mel frames of one clip.
    pub fn frames(&self) -> usize {
        self.samples() / HOP
    }
    /// Stride of convolution `layer`, counted from 0.
    pub fn stride(&self, layer: usize) -> usize {
        if layer == 0 { 1 } else { 2 }
    }
    /// Frames after convolution `layer`, counted from 0.
    pub fn frames_after(&self, layer: usize) -> usize {
        (0..=layer).fold(self.frames(), |frames, layer| (frames - 1) / self.stride(layer) + 1)
    }
    /// Rows of one clip.
    pub fn rows(&self) -> usize {
        self.frames_after(self.layers - 1)
    }
}
