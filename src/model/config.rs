//! `config.json`: Qwen3's keys at the top level, ours for pictures and sounds in two sub-objects.

use crate::data::folder::Fit;
use crate::error::{Error, Result};
use crate::files::read::contents;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A longer `config.json` is refused before it is read: ours have a kilobyte.
const FILE_LIMIT: u64 = 1 << 20;

/// What the model is. Written and read as `config.json`; `transformers` reads the same file for the text part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Always `["Qwen3ForCausalLM"]`: what `transformers` builds from the text part.
    #[serde(default = "architectures")]
    pub architectures: Vec<String>,
    /// Always `qwen3`.
    #[serde(default = "model_type")]
    pub model_type: String,
    /// `D`: the width of the token matrix.
    pub hidden_size: usize,
    /// `F`: the width of the SwiGLU.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// `H`: query heads.
    pub num_attention_heads: usize,
    /// `H_kv`: key and value heads; divides `H`.
    pub num_key_value_heads: usize,
    /// Width of one head; even. Need not be `D / H`.
    pub head_dim: usize,
    /// `V`: rows of the embedding table. Training sets it to the tokenizer's.
    #[serde(default)]
    pub vocab_size: usize,
    /// Rows that a sample may have.
    pub max_position_embeddings: usize,
    /// RMSNorm's epsilon.
    #[serde(default = "eps")]
    pub rms_norm_eps: f32,
    /// The base of the rotary frequencies.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// Whether the output layer is the embedding table.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Always `silu`.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// Always false: no projection has a bias.
    #[serde(default)]
    pub attention_bias: bool,
    /// Always false.
    #[serde(default)]
    pub use_sliding_window: bool,
    /// Always 0.
    #[serde(default)]
    pub attention_dropout: f32,
    /// The dtype of the saved weights.
    #[serde(default = "float32", alias = "dtype")]
    pub torch_dtype: String,
    /// Id of `<bos>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Id of `<eos>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<u32>,
    /// What happens to a picture that is not square: cropped (the default), or kept, with bars.
    #[serde(default, skip_serializing_if = "is_default")]
    pub picture_fit: Fit,
    /// How pictures become rows; absent in a model without eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_config: Option<VisionConfig>,
    /// How sounds become rows; absent in a model without ears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_config: Option<AudioConfig>,
}

/// How pictures become rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Side of the (square) picture, in pixels.
    pub image_size: usize,
    /// `P`: side of a patch, in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Whether the rows of a picture see all of it, or only what came before them.
    pub bidirectional: bool,
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

fn architectures() -> Vec<String> {
    vec!["Qwen3ForCausalLM".into()]
}
fn model_type() -> String {
    "qwen3".into()
}
fn is_default(fit: &Fit) -> bool {
    *fit == Fit::default()
}
fn silu() -> String {
    "silu".into()
}
fn float32() -> String {
    "float32".into()
}
fn eps() -> f32 {
    1e-6
}
fn theta() -> f64 {
    10_000.0
}

/// Samples between two mel frames.
pub const HOP: usize = 160;

impl VisionConfig {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
    /// Rows of one picture.
    pub fn patches(&self) -> usize {
        self.grid() * self.grid()
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

impl Config {
    /// The demo's model, for a vocabulary of this size: 48×48 pictures in 8×8 patches, half a second of sound.
    pub fn meadow(vocab_size: usize) -> Self {
        Config {
            architectures: architectures(),
            model_type: model_type(),
            hidden_size: 64,
            intermediate_size: 176,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 16,
            vocab_size,
            max_position_embeddings: 128,
            rms_norm_eps: eps(),
            rope_theta: theta(),
            tie_word_embeddings: true,
            hidden_act: silu(),
            attention_bias: false,
            use_sliding_window: false,
            attention_dropout: 0.0,
            torch_dtype: float32(),
            bos_token_id: None,
            eos_token_id: None,
            picture_fit: Fit::Crop,
            vision_config: Some(VisionConfig { image_size: 48, patch_size: 8, bidirectional: true }),
            audio_config: Some(AudioConfig { num_mel_bins: 40, sample_rate: 16_000, clip_seconds: 0.5, layers: 3 }),
        }
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] with the line, or the key that makes no sense.
    pub fn load(path: &Path) -> Result<Self> {
        let config = Self::read(path)?;
        config.validate().map_err(|what| Error::file(path, what))?;
        Ok(config)
    }

    /// Reads a `config.json` whose vocabulary is not known yet: [`Config::validate`] still has to be called.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] with the line.
    pub fn read(path: &Path) -> Result<Self> {
        serde_json::from_slice(&contents(path, FILE_LIMIT)?)
            .map_err(|e| Error::file_at(path, format!("line {}, column {}", e.line(), e.column()), format!("not a model's config: {e}")))
    }

    /// The text of `config.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings serialise") + "\n"
    }

    /// The first value that makes no sense, in words.
    pub fn validate(&self) -> std::result::Result<(), String> {
        let fail = |condition: bool, what: String| if condition { Err(what) } else { Ok(()) };
        // A bound on every size keeps all later arithmetic far from overflow.
        for (key, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            fail(value == 0 || value > 1 << 20, format!("{key}: expected 1 to {}, found {value}", 1 << 20))?;
        }
        fail(self.model_type != "qwen3", format!("model_type: expected \"qwen3\", found {:?}", self.model_type))?;
        fail(self.hidden_act != "silu", format!("hidden_act: expected \"silu\", found {:?}", self.hidden_act))?;
        fail(self.attention_bias, "attention_bias: expected false: no projection of this model has a bias".into())?;
        fail(self.use_sliding_window, "use_sliding_window: expected false".into())?;
        fail(!self.num_attention_heads.is_multiple_of(self.num_key_value_heads), {
            format!("num_key_value_heads: expected a divisor of num_attention_heads ({}), found {}", self.num_attention_heads, self.num_key_value_heads)
        })?;
        fail(!self.head_dim.is_multiple_of(2) || self.head_dim > 128, format!("head_dim: expected an even number up to 128, found {}", self.head_dim))?;
        fail(!(self.rms_norm_eps >= 0.0 && self.rms_norm_eps < 1.0), format!("rms_norm_eps: expected 0 to 1, found {}", self.rms_norm_eps))?;
        fail(!(self.rope_theta > 1.0 && self.rope_theta.is_finite()), format!("rope_theta: expected more than 1, found {}", self.rope_theta))?;
        if let Some(vision) = &self.vision_config {
            let (image, patch) = (vision.image_size, vision.patch_size);
            fail(image == 0 || image > 8192, format!("vision_config.image_size: expected 1 to 8192, found {image}"))?;
            fail(patch == 0 || !image.is_multiple_of(patch), format!("vision_config.patch_size: expected a divisor of image_size ({image}), found {patch}"))?;
        }
        if let Some(audio) = &self.audio_config {
            fail(audio.sample_rate != 16_000, format!("audio_config.sample_rate: expected 16000, found {}", audio.sample_rate))?;
            fail(!(1..=128).contains(&audio.num_mel_bins), format!("audio_config.num_mel_bins: expected 1 to 128, found {}", audio.num_mel_bins))?;
            let seconds = audio.clip_seconds;
            fail(!(0.05..=600.0).contains(&seconds), format!("audio_config.clip_seconds: expected 0.05 to 600, found {seconds}"))?;
            fail(!(1..=8).contains(&audio.layers), format!("audio_config.layers: expected 1 to 8, found {}", audio.layers))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_is_valid_and_survives_json() {
        let config = Config::meadow(300);
        config.validate().unwrap();
        assert_eq!(serde_json::from_str::<Config>(&config.to_json()).unwrap(), config);
        let audio = config.audio_config.unwrap();
        assert_eq!((audio.samples(), audio.frames(), audio.rows()), (8000, 50, 13));
    }

    #[test]
    fn nonsense_is_named() {
        let config = Config { num_key_value_heads: 3, ..Config::meadow(300) };
        assert_eq!(config.validate().unwrap_err(), "num_key_value_heads: expected a divisor of num_attention_heads (4), found 3");
        assert!(Config { hidden_size: usize::MAX, ..Config::meadow(300) }.validate().is_err());
    }
}
