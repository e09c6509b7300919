//! Starting from a model that somebody else trained: any folder in Qwen3's layout.
//!
//! Sizes and the decoder's weights are the folder's, in f32, bf16 or f16, in one safetensors file or in shards with an index. Its
//! tokenizer gets the special tokens that it lacks; their rows of the embedding table, and eyes and ears where there are none, are
//! initialised. So a text model becomes a multimodal one.

use super::fit;
use super::model_folder::{output_layer, values};
use super::settings::Settings;
use crate::data::tokenizer::{Adopted, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::weights::{StoredTensor, Weights};
use crate::model::{Config, Met, Parameters};
use crate::tensor::{DType, Tensor};
use std::path::Path;

/// What was read from a folder.
pub struct Pretrained {
    /// Its sizes, with eyes and ears.
    pub config: Config,
    /// Its tokenizer, with our special tokens.
    pub tokenizer: Tokenizer,
    /// Its weights, and fresh ones for what it does not have.
    pub parameters: Parameters,
    /// Tensors that were initialised.
    pub fresh: Vec<String>,
}

/// Reads a model to start from. The settings take over its sizes; their eyes and ears are added where it has none.
///
/// # Errors
/// [`Error::File`] naming what is missing, damaged, or of another shape than its `config.json` says; a run is opened at its latest
/// checkpoint.
pub fn open(path: &Path, settings: &mut Settings, device: &Device) -> Result<Pretrained> {
    if !path.is_dir() {
        return Err(Error::file(path, "there is no such folder; a model to start from is a folder with config.json, safetensors and tokenizer.json"));
    }
    let latest = if path.join("config.json").exists() { None } else { Some(super::checkpoint::latest(path)?) };
    let path = latest.as_deref().unwrap_or(path);
    let config_path = path.join("config.json");
    let mut config = Config::load(&config_path)?;
    let with = settings.embedders(config.clone());
    // What another program trained it on is not known.
    config.met = config.met.or_else(|| Some(Met::unknown(config.vision_config.is_some(), config.audio_config.is_some())));
    if config.vision_config.is_none() {
        (config.vision_config, config.picture_fit) = (with.vision_config, with.picture_fit);
    }
    config.audio_config = config.audio_config.or(with.audio_config);
    let Adopted { tokenizer, .. } = Tokenizer::adopt_file(&path.join("tokenizer.json"))?;
    let stored_vocabulary = config.vocab_size;
    // Models pad their table beyond the tokenizer; what is padded stays, and new tokens take it first.
    config.vocab_size = stored_vocabulary.max(tokenizer.vocabulary());
    let special = tokenizer.special();
    (config.bos_token_id, config.eos_token_id) = (Some(special.bos), vec![special.eos]);
    config.torch_dtype = "float32".into();
    config.validate().map_err(|what| Error::file(&config_path, what))?;
    settings.take_sizes(&config);
    fit::expect(settings, &config, device, 0)?;

    let mut weights = Weights::open(path)?;
    output_layer(&mut weights, config.tie_word_embeddings)?;
    let mut parameters = Parameters::init(&config, device, DType::F32, settings.training.seed)?;
    let names: Vec<(String, Vec<usize>)> = parameters.named().into_iter().map(|(name, tensor)| (name, tensor.shape().dims().to_vec())).collect();
    let mut fresh = Vec::new();
    for ((name, shape), tensor) in names.into_iter().zip(parameters.each_mut()) {
        match weights.take(&name)? {
            Some(stored) => fill(&stored, &name, &shape, stored_vocabulary, tensor)?,
            None if name.starts_with("vision_") || name.starts_with("audio_") => fresh.push(name),
            None => return Err(Error::file_at(path, format!("tensor {name}"), format!("missing: expected one of shape {shape:?}"))),
        }
    }
    match weights.names().next() {
        Some(name) => Err(Error::file_at(path, format!("tensor {name}"), "a model in Qwen3's layout has no such tensor")),
        None => Ok(Pretrained { config, tokenizer, parameters, fresh }),
    }
}

/// Puts stored values into a tensor. One row per token: rows of new tokens keep their initial values.
fn fill(stored: &StoredTensor, name: &str, shape: &[usize], vocabulary: usize, tensor: &mut Tensor) -> Result<()> {
    let by_token = name == "model.embed_tokens.weight" || name == "lm_head.weight";
    let expected = if by_token { [&[vocabulary], &shape[1..]].concat() } else { shape.to_vec() };
    if stored.shape != expected {
        return Err(Error::file_at(&stored.path, format!("tensor {name}"), format!("expected shape {expected:?}, found {:?}", stored.shape)));
    }
    let mut values = values(name, stored)?;
    if values.len() < tensor.len() {
        // As the embedding table's: normal with a deviation of 0.02, which an output layer of its own starts above.
        let scale = if name == "lm_head.weight" { 0.02 / (1.0 / (shape[1] as f64).sqrt()).max(0.02) } else { 1.0 };
        let initial = tensor.read_f64()?;
        values.extend(initial[values.len()..].iter().map(|value| scale * value));
    }
    tensor.write_f64(&values)
}
