//! The keys of a `config.json`, as `transformers` reads them.
//!
//! A key that is missing, or `null` where that is allowed, stands for the default of `Qwen3Config`. A key that would change the
//! numbers in a way that this model does not compute is refused by name: no model is read as if it were another. [`KEYS`] says of
//! every key of `transformers` which of these it is, and `tests/transformers.rs` holds it to what `transformers` computed
//! (`scripts/golden_transformers.py`).

use super::met::Met;
use super::senses::{AudioConfig, VisionConfig};
use crate::data::folder::Fit;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What becomes of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyUse {
    /// It decides something about the model, and is read.
    Read,
    /// Values that change the numbers are refused.
    Refused,
    /// Values that change training, not what the model computes, are warned of.
    Warned,
    /// It changes no number.
    Harmless,
}

/// Every key of `transformers`' `Qwen3Config`, and of what it inherits, with what becomes of it and why.
pub const KEYS: &[(&str, KeyUse, &str)] = &[
    ("_name_or_path", KeyUse::Harmless, "where the file came from"),
    ("architectures", KeyUse::Harmless, "the class; what is in the file is checked tensor by tensor"),
    ("attention_bias", KeyUse::Refused, "no projection has a bias"),
    ("attention_dropout", KeyUse::Warned, "training has no dropout; without training it does nothing"),
    ("bos_token_id", KeyUse::Read, ""),
    ("chunk_size_feed_forward", KeyUse::Harmless, "how the MLP is cut into pieces, not what it computes"),
    ("dtype", KeyUse::Read, ""),
    ("eos_token_id", KeyUse::Read, ""),
    ("head_dim", KeyUse::Read, ""),
    ("hidden_act", KeyUse::Refused, "silu, which is also called swish"),
    ("hidden_size", KeyUse::Read, ""),
    ("id2label", KeyUse::Harmless, "names of classes"),
    ("initializer_range", KeyUse::Harmless, "of parameters that are not in the file; ours are initialised in their own way"),
    ("intermediate_size", KeyUse::Read, ""),
    ("is_encoder_decoder", KeyUse::Refused, "a decoder alone"),
    ("label2id", KeyUse::Harmless, "names of classes"),
    ("layer_types", KeyUse::Refused, "full attention in every layer"),
    ("max_position_embeddings", KeyUse::Read, ""),
    ("max_window_layers", KeyUse::Read, "which layers a sliding window is of"),
    ("model_type", KeyUse::Refused, "qwen3"),
    ("num_attention_heads", KeyUse::Read, ""),
    ("num_hidden_layers", KeyUse::Read, ""),
    ("num_key_value_heads", KeyUse::Read, ""),
    ("output_attentions", KeyUse::Harmless, "what is returned beside the logits"),
    ("output_hidden_states", KeyUse::Harmless, "what is returned beside the logits"),
    ("pad_token_id", KeyUse::Harmless, "a batch here has no padding"),
    ("partial_rotary_factor", KeyUse::Harmless, "`transformers` rotates all of a head of Qwen3, whatever it says"),
    ("per_layer_config", KeyUse::Refused, "all layers are alike"),
    ("problem_type", KeyUse::Harmless, "of a classifier"),
    ("quantization_config", KeyUse::Refused, "weights are numbers as they are"),
    ("return_dict", KeyUse::Harmless, "how the logits are returned"),
    ("rms_norm_eps", KeyUse::Read, ""),
    ("rope_parameters", KeyUse::Read, "the base; other frequencies than the default are refused"),
    ("rope_scaling", KeyUse::Read, "the older name of rope_parameters, which it overrules"),
    ("rope_theta", KeyUse::Read, "the base, where rope_parameters has none"),
    ("sliding_window", KeyUse::Refused, "where use_sliding_window gives it to a layer"),
    ("tie_word_embeddings", KeyUse::Read, ""),
    ("tokenizer_class", KeyUse::Harmless, "tokenizer.json is the tokenizer"),
    ("torch_dtype", KeyUse::Read, "the older name of dtype, which overrules it"),
    ("transformers_version", KeyUse::Harmless, "who wrote the file"),
    ("use_cache", KeyUse::Harmless, "the cache changes no number"),
    ("use_sliding_window", KeyUse::Refused, "where it gives a layer a window"),
    ("vocab_size", KeyUse::Read, ""),
];

/// A `config.json` key by key: what is missing and what is `null` is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the keys are those of the file
pub struct StoredConfig {
    pub architectures: Option<Vec<String>>,
    pub model_type: Option<String>,
    pub vocab_size: Option<usize>,
    pub hidden_size: Option<usize>,
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: Option<usize>,
    pub num_attention_heads: Option<usize>,
    /// As many as query heads where it is `null`, which is not what a missing key stands for.
    #[serde(deserialize_with = "given")]
    pub num_key_value_heads: Option<Option<usize>>,
    pub head_dim: Option<usize>,
    pub max_position_embeddings: Option<usize>,
    pub rms_norm_eps: Option<f32>,
    pub tie_word_embeddings: Option<bool>,
    pub dtype: Option<String>,
    pub torch_dtype: Option<String>,
    pub bos_token_id: Option<i64>,
    pub eos_token_id: Option<OneOrSeveral>,
    pub rope_theta: Option<f64>,
    pub rope_parameters: Option<Value>,
    pub rope_scaling: Option<Value>,
    pub hidden_act: Option<String>,
    pub attention_bias: Option<bool>,
    pub attention_dropout: Option<f64>,
    pub use_sliding_window: Option<bool>,
    /// None where it is `null`, which is not what a missing key stands for.
    #[serde(deserialize_with = "given")]
    pub sliding_window: Option<Option<i64>>,
    pub max_window_layers: Option<usize>,
    pub layer_types: Option<Vec<String>>,
    pub per_layer_config: Option<Value>,
    pub quantization_config: Option<Value>,
    pub is_encoder_decoder: Option<bool>,
    pub picture_fit: Option<Fit>,
    pub contrastive: Option<bool>,
    pub met: Option<Met>,
    pub vision_config: Option<VisionConfig>,
    pub audio_config: Option<AudioConfig>,
}

/// An id or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an id or a list of ids")]
#[allow(missing_docs)]
pub enum OneOrSeveral {
    One(i64),
    Several(Vec<i64>),
}

/// A key that is there, with its value or `null`.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

type Checked<T> = std::result::Result<T, String>;

impl StoredConfig {
    /// The rotary base. As in `transformers`: `rope_scaling` overrules `rope_parameters`, and what either says about the base the
    /// key `rope_theta`.
    ///
    /// # Errors
    /// Where the frequencies are not the default ones of that base, with the key.
    pub fn theta(&self) -> Checked<f64> {
        let there = |value: &&Value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty());
        let given = [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)];
        let given = given.into_iter().find_map(|(key, value)| value.as_ref().filter(there).map(|value| (key, value)));
        let outside = self.rope_theta.unwrap_or(defaults::THETA);
        let Some((key, value)) = given else { return Ok(outside) };
        let Some(rope) = value.as_object() else { return Err(format!("{key}: expected an object such as {{\"rope_theta\": 10000.0}}, found {value}")) };
        if let Some((kind, _)) = rope.iter().find(|(_, value)| value.is_object()) {
            return Err(format!("{key}.{kind}: expected one kind of rotary frequencies for all layers, found one for {kind:?}"));
        }
        let kind = ["rope_type", "type"].iter().find_map(|name| rope.get(*name).filter(|kind| !kind.is_null()));
        if let Some(kind) = kind.filter(|kind| kind.as_str() != Some("default")) {
            return Err(format!("{key}.rope_type: expected \"default\" rotary frequencies, found {kind}"));
        }
        match rope.get("rope_theta") {
            None | Some(Value::Null) => Ok(outside),
            Some(theta) => theta.as_f64().ok_or_else(|| format!("{key}.rope_theta: expected a number, found {theta}")),
        }
    }

    /// Refuses what would change the numbers and is not computed here.
    ///
    /// # Errors
    /// The key, what was expected and what was found.
    pub fn refuse(&self) -> Checked<()> {
        let fail = |condition: bool, what: String| if condition { Err(what) } else { Ok(()) };
        if let Some(kind) = &self.model_type {
            fail(kind != "qwen3", format!("model_type: expected \"qwen3\", found {kind:?}"))?;
        }
        if let Some(act) = &self.hidden_act {
            fail(!["silu", "swish"].contains(&act.as_str()), format!("hidden_act: expected \"silu\", found {act:?}"))?;
        }
        fail(self.attention_bias == Some(true), "attention_bias: expected false: no projection of this model has a bias".into())?;
        fail(self.is_encoder_decoder == Some(true), "is_encoder_decoder: expected false: the model is a decoder alone".into())?;
        if let Some(quantization) = self.quantization_config.as_ref().filter(|value| !value.is_null()) {
            let how = quantization["quant_method"].as_str().map(|method| format!(" ({method})")).unwrap_or_default();
            return Err(format!(
                "quantization_config: expected weights as plain numbers (f32, bf16, f16), found quantised ones{how}: take the model that was not quantised"
            ));
        }
        let several = self.per_layer_config.as_ref().filter(|value| value.as_object().is_none_or(|layers| !layers.is_empty()) && !value.is_null());
        fail(several.is_some(), "per_layer_config: expected layers that are all alike".into())?;
        let layers = self.num_hidden_layers.unwrap_or(defaults::LAYERS);
        if let Some(types) = &self.layer_types {
            fail(types.len() != layers, format!("layer_types: expected one for each of the {layers} layers (num_hidden_layers), found {}", types.len()))?;
            let other = types.iter().enumerate().find(|(_, kind)| *kind != "full_attention");
            return other.map_or(Ok(()), |(i, kind)| Err(format!("layer_types: layer {i}: expected \"full_attention\", found {kind:?}")));
        }
        let first = self.max_window_layers.unwrap_or(defaults::MAX_WINDOW_LAYERS);
        let Some(window) = self.sliding_window.unwrap_or(Some(defaults::SLIDING_WINDOW)) else { return Ok(()) };
        let what =
            format!("use_sliding_window: expected full attention in every layer, found a window of {window} in those from {first} (max_window_layers) on");
        fail(self.use_sliding_window == Some(true) && first < layers, what)
    }

    /// What is read, but not followed: values that matter for training alone.
    pub fn warnings(&self) -> Vec<String> {
        let dropout = self.attention_dropout.filter(|dropout| *dropout > 0.0);
        dropout.map(|dropout| format!("attention_dropout is {dropout}: it is ignored, training here has no dropout")).into_iter().collect()
    }

    /// The ids that end a text.
    pub fn ends(&self) -> Vec<u32> {
        let ids = match &self.eos_token_id {
            None => &[][..],
            Some(OneOrSeveral::One(id)) => std::slice::from_ref(id),
            Some(OneOrSeveral::Several(ids)) => ids,
        };
        ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect() // a negative one is never chosen
    }
}

/// The defaults of `Qwen3Config`.
pub(super) mod defaults {
    pub const VOCABULARY: usize = 151_936;
    pub const HIDDEN_SIZE: usize = 4096;
    pub const INTERMEDIATE_SIZE: usize = 22_016;
    pub const LAYERS: usize = 32;
    pub const HEADS: usize = 32;
    pub const KEY_HEADS: usize = 32;
    pub const HEAD_DIM: usize = 128;
    pub const POSITIONS: usize = 32_768;
    pub const EPS: f32 = 1e-6;
    pub const THETA: f64 = 10_000.0;
    pub const SLIDING_WINDOW: i64 = 4096;
    pub const MAX_WINDOW_LAYERS: usize = 28;
}
