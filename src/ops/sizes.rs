//! The sets of sizes that the benchmark times every operation at.

/// The sizes of a model and of its batch, as the operations see them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// What `--shapes` calls the set.
    pub name: &'static str,
    /// `N`: rows of the token matrix.
    pub rows: usize,
    /// Rows of one sample.
    pub sample: usize,
    /// `M`: rows whose logits are computed.
    pub logit_rows: usize,
    /// `D`.
    pub width: usize,
    /// `F`.
    pub feed_forward: usize,
    /// `H`.
    pub heads: usize,
    /// `H_kv`.
    pub kv_heads: usize,
    /// `d`.
    pub head_dim: usize,
    /// `V`.
    pub vocabulary: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Pictures and clips of the batch: one of each in every sample.
    pub samples: usize,
    /// Words of one caption.
    pub words: usize,
    /// Side of a picture, in pixels.
    pub image: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Side of a patch of the convolutional eye, in pixels: what its convolutions begin with.
    pub eye_patch: usize,
    /// Channels of such a patch; twice as many come out of the first convolution.
    pub eye_channels: usize,
    /// Samples of one clip, at 16 kHz.
    pub clip: usize,
    /// Mel bands.
    pub mels: usize,
    /// Convolutions of the stem: the first has stride 1, every other one stride 2.
    pub convolutions: usize,
    /// Whether to time what needs a large GPU: square products, and attention over samples of 2,048 to 16,384 rows.
    pub sweep: bool,
}

impl Sizes {
    /// The demo's model and batch.
    pub const DEMO: Sizes = Sizes {
        name: "demo",
        rows: 1920,
        sample: 60,
        logit_rows: 1920,
        width: 64,
        feed_forward: 176,
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        vocabulary: 450,
        layers: 3,
        samples: 32,
        words: 13,
        image: 48,
        patch: 8,
        eye_patch: 2,
        eye_channels: 32,
        clip: 8000,
        mels: 40,
        convolutions: 3,
        sweep: false,
    };

    /// 124 million parameters: 224 × 224 pictures, 10 s of sound, samples of 1,024 rows of which 323 predict a word.
    pub const SMALL: Sizes = Sizes {
        name: "small",
        rows: 16_384,
        sample: 1024,
        logit_rows: 16 * 323,
        width: 768,
        feed_forward: 2048,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        vocabulary: 50_304,
        layers: 12,
        samples: 16,
        words: 322,
        image: 224,
        patch: 16,
        eye_patch: 4,
        eye_channels: 128,
        clip: 160_000,
        mels: 80,
        convolutions: 2,
        sweep: false,
    };

    /// One layer of a model of several thousand million parameters: D 4096, heads of 128 of which four share a key.
    pub const LARGE: Sizes = Sizes {
        name: "large",
        rows: 16_384,
        logit_rows: 4096,
        width: 4096,
        feed_forward: 12_288,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 32_768,
        layers: 1,
        sweep: true,
        ..Sizes::SMALL
    };

    /// All sets.
    pub const ALL: [Sizes; 3] = [Sizes::DEMO, Sizes::SMALL, Sizes::LARGE];

    /// The clips, frames, widths and stride of every convolution of the stem: what [`conv1d`](super::conv1d) takes.
    pub fn stem(&self) -> Vec<(usize, usize, usize, usize, usize)> {
        let mut frames = self.clip / 160;
        (0..self.convolutions)
            .map(|layer| {
                let (width, stride) = if layer == 0 { (self.mels, 1) } else { (self.width, 2) };
                let taken = (self.samples, frames, width, self.width, stride);
                frames = (frames - 1) / stride + 1;
                taken
            })
            .collect()
    }

    /// The images, height, width, channels in and out and stride of every convolution of the eye: what [`conv2d`](super::conv2d)
    /// takes. Patches become tokens in two halvings of the sides, each with a convolution after it.
    pub fn eye(&self) -> Vec<(usize, usize, usize, usize, usize, usize)> {
        let (mut side, mut channels) = (self.image / self.eye_patch, self.eye_channels);
        let mut convolutions = Vec::new();
        for _ in 0..2 {
            convolutions.push((self.samples, side, side, channels, 2 * channels, 2));
            (side, channels) = (side.div_ceil(2), 2 * channels);
            convolutions.push((self.samples, side, side, channels, channels, 1));
        }
        convolutions
    }
}
