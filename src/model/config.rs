//! `config.json`: Qwen3's keys at the top level, ours for pictures and sounds in two sub-objects.
//!
//! There is one reader: [`Config`] from JSON goes through [`StoredConfig`], which knows every key of `transformers`.

use super::met::Met;
pub use super::senses::{AudioConfig, HOP, VisionConfig};
pub use super::stem::{Stem, StemConvolution};
use super::stored_config::{StoredConfig, defaults};
use crate::data::folder::Fit;
use crate::error::{Error, Result};
use crate::files::read::contents;
use crate::ops::local_histogram;
use serde::{Deserialize, Serialize, Serializer};
use std::path::Path;
use trimodal_base::warn::warn_once;

/// A longer `config.json` is refused before it is read: ours have a kilobyte.
const FILE_LIMIT: u64 = 1 << 20;

/// What the model is. Written and read as `config.json`; `transformers` reads the same file for the text part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredConfig")]
pub struct Config {
    /// Always `["Qwen3ForCausalLM"]`: what `transformers` builds from the text part.
    pub architectures: Vec<String>,
    /// Always `qwen3`.
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
    pub vocab_size: usize,
    /// Rows that a sample may have.
    pub max_position_embeddings: usize,
    /// RMSNorm's epsilon.
    pub rms_norm_eps: f32,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the output layer is the embedding table.
    pub tie_word_embeddings: bool,
    /// Always `silu`.
    pub hidden_act: String,
    /// Always false: no projection has a bias.
    pub attention_bias: bool,
    /// Always false.
    pub use_sliding_window: bool,
    /// Always 0.
    pub attention_dropout: f32,
    /// The dtype of the saved weights.
    pub torch_dtype: String,
    /// Id of `<bos>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Ids that end a text: that of `<eos>`; a model of others may have several. One is written as a number, several as a list.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "one_or_several")]
    pub eos_token_id: Vec<u32>,
    /// What happens to a picture that is not square: cropped (the default), or kept, with bars.
    #[serde(skip_serializing_if = "is_default")]
    pub picture_fit: Fit,
    /// Whether captions were told apart from pictures and sounds alone in training ([`super::contrast`]): a list is then ranked by that too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub contrastive: bool,
    /// What training has shown it, by what samples had; absent where nothing is known about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<Met>,
    /// How pictures become rows; absent in a model without eyes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision_config: Option<VisionConfig>,
    /// How sounds become rows; absent in a model without ears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_config: Option<AudioConfig>,
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
fn float32() -> String {
    "float32".into()
}
fn one_or_several<S: Serializer>(ids: &[u32], to: S) -> std::result::Result<S::Ok, S::Error> {
    match ids {
        [one] => one.serialize(to),
        several => several.serialize(to),
    }
}

impl TryFrom<StoredConfig> for Config {
    type Error = String;

    /// What the keys say; the sizes are not checked yet.
    fn try_from(stored: StoredConfig) -> std::result::Result<Self, String> {
        stored.refuse()?;
        let heads = stored.num_attention_heads.unwrap_or(defaults::HEADS);
        Ok(Config {
            rope_theta: stored.theta()?,
            eos_token_id: stored.ends(),
            architectures: stored.architectures.unwrap_or_else(architectures),
            model_type: model_type(),
            hidden_size: stored.hidden_size.unwrap_or(defaults::HIDDEN_SIZE),
            intermediate_size: stored.intermediate_size.unwrap_or(defaults::INTERMEDIATE_SIZE),
            num_hidden_layers: stored.num_hidden_layers.unwrap_or(defaults::LAYERS),
            num_attention_heads: heads,
            num_key_value_heads: stored.num_key_value_heads.unwrap_or(Some(defaults::KEY_HEADS)).unwrap_or(heads),
            head_dim: stored.head_dim.unwrap_or(defaults::HEAD_DIM),
            vocab_size: stored.vocab_size.unwrap_or(defaults::VOCABULARY),
            max_position_embeddings: stored.max_position_embeddings.unwrap_or(defaults::POSITIONS),
            rms_norm_eps: stored.rms_norm_eps.unwrap_or(defaults::EPS),
            tie_word_embeddings: stored.tie_word_embeddings.unwrap_or(false),
            hidden_act: "silu".into(),
            attention_bias: false,
            use_sliding_window: false,
            attention_dropout: 0.0,
            torch_dtype: stored.dtype.or(stored.torch_dtype).unwrap_or_else(float32),
            bos_token_id: stored.bos_token_id.and_then(|id| u32::try_from(id).ok()),
            picture_fit: stored.picture_fit.unwrap_or_default(),
            contrastive: stored.contrastive.unwrap_or(false),
            met: stored.met,
            vision_config: stored.vision_config,
            audio_config: stored.audio_config,
        })
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
            rms_norm_eps: defaults::EPS,
            rope_theta: defaults::THETA,
            tie_word_embeddings: true,
            hidden_act: "silu".into(),
            attention_bias: false,
            use_sliding_window: false,
            attention_dropout: 0.0,
            torch_dtype: float32(),
            bos_token_id: None,
            eos_token_id: Vec::new(),
            picture_fit: Fit::Crop,
            contrastive: false,
            met: None,
            vision_config: Some(VisionConfig { image_size: 48, patch_size: 8, bidirectional: true, stem: None, histograms: Vec::new() }),
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
    /// [`Error::Io`] or [`Error::File`] with the line, or with the key of something that this model does not compute.
    pub fn read(path: &Path) -> Result<Self> {
        let stored: StoredConfig = serde_json::from_slice(&contents(path, FILE_LIMIT)?)
            .map_err(|e| Error::file_at(path, format!("line {}, column {}", e.line(), e.column()), format!("not a model's config: {e}")))?;
        let warnings = stored.warnings();
        let config = Config::try_from(stored).map_err(|what| Error::file(path, what))?;
        warnings.into_iter().for_each(|what| warn_once(format!("{}: {what}", path.display())));
        Ok(config)
    }

    /// Says that training never showed the model such a thing, where that is known: `it never met a picture without a sound`. What it says then
    /// is a guess, or nothing.
    pub fn never_met(&self, picture: bool, sound: bool) -> Option<&'static str> {
        self.met.and_then(|met| met.never(picture, sound))
    }

    /// Whether one row of a picture is of all of it.
    pub fn has_whole_row(&self) -> bool {
        self.vision_config.as_ref().is_some_and(VisionConfig::has_whole_row)
    }

    /// Whether pictures go through a convolutional stem.
    pub fn has_stem(&self) -> bool {
        self.vision_config.as_ref().is_some_and(|vision| vision.stem.is_some())
    }

    /// The text of `config.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings serialise") + "\n"
    }

    /// The text of `generation_config.json`: where `generate` of `transformers` begins, ends, what it pads with, and the ids that are
    /// `absent` from the tokenizer, which it must not choose either.
    pub fn generation_json(&self, absent: &[u32]) -> String {
        let mut json = serde_json::Map::new();
        let ids = serde_json::to_value(self).expect("numbers and strings serialise");
        for key in ["bos_token_id", "eos_token_id"] {
            json.extend(ids.get(key).map(|id| (key.to_string(), id.clone())));
        }
        json.extend(self.eos_token_id.first().map(|id| ("pad_token_id".to_string(), (*id).into())));
        if !absent.is_empty() {
            json.insert("suppress_tokens".into(), absent.into());
        }
        serde_json::to_string_pretty(&json).expect("numbers serialise") + "\n"
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
            let grids = &vision.histograms;
            fail(grids.len() > local_histogram::GRIDS || grids.iter().any(|&grid| grid == 0 || !image.is_multiple_of(grid)), {
                format!("vision_config.histograms: expected at most {} divisors of image_size ({image}), found {grids:?}", local_histogram::GRIDS)
            })?;
            vision.stem.as_ref().map_or(Ok(()), |stem| stem.validate().map_err(|what| format!("vision_config.stem: {what}")))?;
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
