//! A model is a folder: `config.json`, `model.safetensors` (or its shards), `tokenizer.json`; a checkpoint adds `optimizer.safetensors` and
//! `trainer_state.json`. A run is a folder of checkpoints: see [`checkpoint`].

use super::checkpoint;
use crate::data::tokenizer::Tokenizer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::weights::{StoredTensor, Weights};
use crate::model::{Config, Parameters};
use crate::tensor::{DType, Tensor};
use std::path::{Path, PathBuf};

/// A model read from its folder.
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// `config.json`
    pub config: Config,
    /// `model.safetensors`, or its shards, on the device it was opened for.
    pub parameters: Parameters,
    /// `tokenizer.json`
    pub tokenizer: Tokenizer,
}

impl ModelFolder {
    /// The model folder that `path` names: itself, or the latest checkpoint of a run.
    ///
    /// # Errors
    /// [`Error::File`] where there is no such folder, nothing of a model in it, or something of another version; where a run names a
    /// checkpoint that is not there.
    pub fn locate(path: &Path) -> Result<PathBuf> {
        if !path.is_dir() {
            return Err(Error::file(path, "there is no such folder; a model is a folder with config.json, as `trimodal train` writes it"));
        }
        let is_model = |path: &Path| path.join("config.json").exists();
        let path = if is_model(path) || !checkpoint::is_run(path) { path.to_path_buf() } else { checkpoint::latest(path)? };
        if !is_model(&path) {
            return Err(Error::file(path, "no model: expected config.json, or a run (folders step-…, and `latest`), as `trimodal train` writes them"));
        }
        checkpoint::expect_version(&path)?;
        Ok(path)
    }

    /// Reads a model in `dtype` (f32, or f64 on the CPU) onto a device. `path` is a model folder, or a run, whose latest checkpoint
    /// is then taken.
    ///
    /// # Errors
    /// The file that is missing, damaged, or does not fit `config.json`, with the tensor's name.
    pub fn open(path: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let path = &Self::locate(path)?;
        let config = Config::load(&path.join("config.json"))?;
        let mut weights = Weights::open(path)?;
        expect_parameters(&mut weights, &config)?;
        let tokenizer = Tokenizer::load(&path.join("tokenizer.json"))?;
        if tokenizer.vocabulary() > config.vocab_size {
            let what = format!("the tokenizer has {} tokens, more than config.json's vocab_size of {}", tokenizer.vocabulary(), config.vocab_size);
            return Err(Error::file(path.join("tokenizer.json"), what));
        }
        let mut parameters = Parameters::zeros(&config, device, dtype)?;
        fill(weights, &mut parameters)?;
        Ok(ModelFolder { path: path.to_path_buf(), config, parameters, tokenizer })
    }
}

/// Checks that a file holds a config's tensors before memory for them is asked for: a config may claim any size.
///
/// # Errors
/// [`Error::File`] naming the first tensor that is missing, superfluous or of another shape.
pub fn expect_parameters(weights: &mut Weights, config: &Config) -> Result<()> {
    let tensors = weights.names().count();
    if config.num_hidden_layers > tensors {
        return Err(Error::file(weights.path(), format!("{tensors} tensors in all, but config.json has {} layers", config.num_hidden_layers)));
    }
    output_layer(weights, config.tie_word_embeddings)?;
    let shapes = Parameters::build(config, &mut |shape| Ok(shape.to_vec()))?;
    let expected: Vec<(String, Vec<usize>)> = shapes.named().into_iter().map(|(name, shape)| (name, shape.clone())).collect();
    weights.expect(&expected)
}

/// A model whose output layer is its embedding table may store it all the same; it is taken out if it holds the same numbers.
///
/// # Errors
/// [`Error::File`] where it does not, or where a model that is not tied has none: both name the key that decides.
pub(super) fn output_layer(weights: &mut Weights, tied: bool) -> Result<()> {
    const HEAD: &str = "lm_head.weight";
    let wrong = |path: &Path, what: &str| Err(Error::file_at(path, format!("tensor {HEAD}"), what));
    if !tied {
        return match weights.names().any(|name| name == HEAD) {
            true => Ok(()),
            false => wrong(
                weights.path(),
                "missing: config.json does not say \"tie_word_embeddings\": true, which would make the embedding table the output layer too",
            ),
        };
    }
    let Some(head) = weights.take(HEAD)? else { return Ok(()) };
    let same = match weights.read("model.embed_tokens.weight")? {
        None => true, // that it is missing is said where all names are compared
        Some(table) => {
            let bits = (table.dtype, &table.bytes) == (head.dtype, &head.bytes);
            table.shape == head.shape && (bits || values("model.embed_tokens.weight", &table)? == values(HEAD, &head)?)
        }
    };
    if same {
        return Ok(());
    }
    wrong(
        &head.path,
        "expected the numbers of model.embed_tokens.weight, because config.json says \"tie_word_embeddings\": true, found others: \
         set it to false if the stored output layer is the right one, or remove the tensor",
    )
}

/// Fills parameters from a safetensors file with exactly their names and shapes, in f32, bf16 or f16.
///
/// # Errors
/// [`Error::File`] naming the first tensor that is missing, superfluous, of another shape or dtype, or not finite.
pub fn read_parameters(path: &Path, parameters: &mut Parameters) -> Result<()> {
    let weights = Weights::file(path)?;
    let expected: Vec<(String, Vec<usize>)> = parameters.named().into_iter().map(|(name, t)| (name, t.shape().dims().to_vec())).collect();
    weights.expect(&expected)?;
    fill(weights, parameters)
}

/// Fills parameters from open files that hold exactly theirs.
fn fill(mut weights: Weights, parameters: &mut Parameters) -> Result<()> {
    let names: Vec<String> = parameters.named().into_iter().map(|(name, _)| name).collect();
    for (name, tensor) in names.into_iter().zip(parameters.each_mut()) {
        let stored = weights.take(&name)?.ok_or_else(|| Error::file_at(weights.path(), format!("tensor {name}"), "missing"))?;
        tensor.write_f64(&values(&name, &stored)?)?;
    }
    Ok(())
}

/// The values of a stored tensor of floats.
pub(super) fn values(name: &str, StoredTensor { path, shape, dtype, bytes }: &StoredTensor) -> Result<Vec<f64>> {
    let (dtype, bad) = (*dtype, |what: String| Error::file_at(path, format!("tensor {name}"), what));
    if !matches!(dtype, DType::F64 | DType::F32 | DType::Bf16 | DType::F16) {
        return Err(bad(format!("expected a float dtype, found {dtype}")));
    }
    let mut host = Tensor::zeros(&Device::Cpu, shape.as_slice(), dtype)?;
    host.write_bytes(bytes)?;
    let values = host.read_f64()?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => Err(bad(format!("element {i} is {}: the file is damaged or the training went wrong", values[i]))),
    }
}
