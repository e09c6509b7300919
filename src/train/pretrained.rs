//! Starting from a model that somebody else trained: any folder in Qwen3's layout.
//!
//! Sizes and the decoder's weights are the folder's, in f32, bf16 or f16, in one safetensors file or in shards with an index. Its
//! tokenizer gets the special tokens that it lacks; their rows of the embedding table, and eyes and ears where there are none, are
//! initialised. So a text model becomes a multimodal one.

use super::fit;
use super::model_folder::numbers;
use super::settings::Settings;
use crate::data::tokenizer::{Adopted, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::read::contents;
use crate::files::safetensors::Safetensors;
use crate::model::{Config, Parameters};
use crate::tensor::{DType, Tensor};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The table of an 8 B model has 30 KB.
const MAX_INDEX: u64 = 16 << 20;
/// Shards of one model.
const MAX_SHARDS: usize = 1024;

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
    rotation(&config_path, &mut config)?;
    let with = settings.embedders(config.clone());
    if config.vision_config.is_none() {
        (config.vision_config, config.picture_fit) = (with.vision_config, with.picture_fit);
    }
    config.audio_config = config.audio_config.or(with.audio_config);
    let Adopted { tokenizer, .. } = Tokenizer::adopt_file(&path.join("tokenizer.json"))?;
    let stored_vocabulary = config.vocab_size;
    // Models pad their table beyond the tokenizer; what is padded stays, and new tokens take it first.
    config.vocab_size = stored_vocabulary.max(tokenizer.vocabulary());
    let special = tokenizer.special();
    (config.bos_token_id, config.eos_token_id) = (Some(special.bos), Some(special.eos));
    config.torch_dtype = "float32".into();
    config.validate().map_err(|what| Error::file(&config_path, what))?;
    settings.take_sizes(&config);
    fit::expect(settings, &config, device)?;

    let mut parameters = Parameters::init(&config, device, DType::F32, settings.training.seed)?;
    let mut files = Files::open(path)?;
    let names: Vec<(String, Vec<usize>)> = parameters.named().into_iter().map(|(name, tensor)| (name, tensor.shape().dims().to_vec())).collect();
    let mut fresh = Vec::new();
    for ((name, shape), tensor) in names.into_iter().zip(parameters.each_mut()) {
        match files.take(&name)? {
            Some(stored) => stored.fill(&name, &shape, stored_vocabulary, tensor)?,
            None if name.starts_with("vision_") || name.starts_with("audio_") => fresh.push(name),
            None => return Err(Error::file_at(path, format!("tensor {name}"), format!("missing: expected one of shape {shape:?}"))),
        }
    }
    // A tied model may store its output layer all the same; anything else is not of this layout.
    match files.left().find(|name| !(config.tie_word_embeddings && *name == "lm_head.weight")) {
        Some(name) => Err(Error::file_at(path, format!("tensor {name}"), "a model in Qwen3's layout has no such tensor")),
        None => Ok(Pretrained { config, tokenizer, parameters, fresh }),
    }
}

/// Newer versions of `transformers` write the rotary base into `rope_parameters`. Scaled frequencies are refused: they would
/// be read as if they were not scaled.
fn rotation(path: &Path, config: &mut Config) -> Result<()> {
    let json: serde_json::Value = serde_json::from_slice(&contents(path, MAX_INDEX)?).map_err(|e| Error::file(path, e))?;
    for key in ["rope_scaling", "rope_parameters"] {
        let rope = &json[key];
        let kind = rope["rope_type"].as_str().or(rope["type"].as_str()).unwrap_or("default");
        if kind != "default" {
            return Err(Error::file(path, format!("{key}: expected \"default\" rotary frequencies, found {kind:?}")));
        }
        config.rope_theta = rope["rope_theta"].as_f64().unwrap_or(config.rope_theta);
    }
    Ok(())
}

/// A tensor as it is stored.
struct StoredTensor {
    path: PathBuf,
    shape: Vec<usize>,
    dtype: DType,
    bytes: Vec<u8>,
}

impl StoredTensor {
    /// Puts the values into a tensor. One row per token: rows of new tokens keep their initial values.
    fn fill(&self, name: &str, shape: &[usize], vocabulary: usize, tensor: &mut Tensor) -> Result<()> {
        let by_token = name == "model.embed_tokens.weight" || name == "lm_head.weight";
        let expected = if by_token { [&[vocabulary], &shape[1..]].concat() } else { shape.to_vec() };
        if self.shape != expected {
            return Err(Error::file_at(&self.path, format!("tensor {name}"), format!("expected shape {expected:?}, found {:?}", self.shape)));
        }
        let mut values = numbers(&self.path, name, &self.shape, self.dtype, &self.bytes)?;
        if values.len() < tensor.len() {
            // As the embedding table's: normal with a deviation of 0.02, which an output layer of its own starts above.
            let scale = if name == "lm_head.weight" { 0.02 / (1.0 / (shape[1] as f64).sqrt()).max(0.02) } else { 1.0 };
            let initial = tensor.read_f64()?;
            values.extend(initial[values.len()..].iter().map(|value| scale * value));
        }
        tensor.write_f64(&values)
    }
}

/// The safetensors files of a folder.
struct Files {
    open: Vec<(PathBuf, Safetensors)>,
    /// In which file a tensor is, with shape and dtype; taken out as they are read.
    place: BTreeMap<String, (usize, Vec<usize>, DType)>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    fn open(folder: &Path) -> Result<Self> {
        let index = folder.join(INDEX);
        let single = folder.join(SINGLE);
        let mut names = BTreeSet::from([SINGLE.to_string()]);
        let mut map = None;
        if !single.exists() {
            if !index.exists() {
                return Err(Error::file(folder, format!("expected {SINGLE}, or {INDEX} and its shards, found neither")));
            }
            let read: Index = serde_json::from_slice(&contents(&index, MAX_INDEX)?)
                .map_err(|e| Error::file_at(&index, format!("line {}, column {}", e.line(), e.column()), e))?;
            names = read.weight_map.values().cloned().collect();
            map = Some(read.weight_map);
            if names.len() > MAX_SHARDS {
                return Err(Error::file(&index, format!("expected at most {MAX_SHARDS} shards, found {}", names.len())));
            }
            if let Some(name) = names.iter().find(|name| Path::new(name).file_name().is_none_or(|file| file != name.as_str())) {
                return Err(Error::file(&index, format!("{name:?}: expected the name of a file in the same folder")));
            }
        }
        let (mut open, mut place) = (Vec::new(), BTreeMap::new());
        for name in names {
            let path = folder.join(&name);
            let file = Safetensors::open(&path)?;
            for (tensor, shape, dtype) in file.tensors() {
                if map.as_ref().is_some_and(|map| map.get(tensor) != Some(&name)) {
                    return Err(Error::file_at(&path, format!("tensor {tensor}"), format!("{INDEX} does not say that it is in this file")));
                }
                place.insert(tensor.to_string(), (open.len(), shape.to_vec(), dtype));
            }
            open.push((path, file));
        }
        if let Some((tensor, name)) = map.iter().flatten().find(|(tensor, _)| !place.contains_key(*tensor)) {
            return Err(Error::file_at(folder.join(name), format!("tensor {tensor}"), format!("missing: {INDEX} says that it is in this file")));
        }
        Ok(Files { open, place })
    }

    fn take(&mut self, name: &str) -> Result<Option<StoredTensor>> {
        let Some((file, shape, dtype)) = self.place.remove(name) else { return Ok(None) };
        let (path, file) = &mut self.open[file];
        Ok(Some(StoredTensor { path: path.clone(), shape, dtype, bytes: file.read(name)? }))
    }

    fn left(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }
}
