//! A model is a folder: `config.json`, `model.safetensors`, `tokenizer.json`; a checkpoint adds `optimizer.safetensors` and
//! `trainer_state.json`. A run is a folder of checkpoints: see [`checkpoint`].

use super::checkpoint;
use crate::data::tokenizer::Tokenizer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::safetensors::Safetensors;
use crate::model::{Config, Parameters};
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model read from its folder.
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// `config.json`
    pub config: Config,
    /// `model.safetensors`, on the device it was opened for.
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
        let tokenizer = Tokenizer::load(&path.join("tokenizer.json"))?;
        if tokenizer.vocabulary() > config.vocab_size {
            let what = format!("the tokenizer has {} tokens, more than config.json's vocab_size of {}", tokenizer.vocabulary(), config.vocab_size);
            return Err(Error::file(path.join("tokenizer.json"), what));
        }
        let weights = path.join("model.safetensors");
        let file = expect_parameters(&weights, &config)?;
        let mut parameters = Parameters::zeros(&config, device, dtype)?;
        fill(&weights, file, &mut parameters)?;
        Ok(ModelFolder { path: path.to_path_buf(), config, parameters, tokenizer })
    }
}

/// Checks that a file holds a config's tensors before memory for them is asked for: a config may claim any size.
fn expect_parameters(path: &Path, config: &Config) -> Result<Safetensors> {
    let file = Safetensors::open(path)?;
    let tensors = file.tensors().count();
    if config.num_hidden_layers > tensors {
        return Err(Error::file(path, format!("{tensors} tensors in all, but config.json has {} layers", config.num_hidden_layers)));
    }
    let shapes = Parameters::build(config, &mut |shape| Ok(shape.to_vec()))?;
    let expected: Vec<(String, Vec<usize>)> = shapes.named().into_iter().map(|(name, shape)| (name, shape.clone())).collect();
    file.expect(&expected)?;
    Ok(file)
}

/// Fills parameters from a safetensors file with exactly their names and shapes, in f32, bf16 or f16.
///
/// # Errors
/// [`Error::File`] naming the first tensor that is missing, superfluous, of another shape or dtype, or not finite.
pub fn read_parameters(path: &Path, parameters: &mut Parameters) -> Result<()> {
    let file = Safetensors::open(path)?;
    let expected: Vec<(String, Vec<usize>)> = parameters.named().into_iter().map(|(name, t)| (name, t.shape().dims().to_vec())).collect();
    file.expect(&expected)?;
    fill(path, file, parameters)
}

/// Fills parameters from an open file that holds exactly theirs.
fn fill(path: &Path, mut file: Safetensors, parameters: &mut Parameters) -> Result<()> {
    let names: Vec<(String, Vec<usize>)> = parameters.named().into_iter().map(|(name, t)| (name, t.shape().dims().to_vec())).collect();
    let dtypes: BTreeMap<String, DType> = file.tensors().map(|(name, _, dtype)| (name.to_string(), dtype)).collect();
    for ((name, shape), tensor) in names.into_iter().zip(parameters.each_mut()) {
        let bytes = file.read(&name)?;
        tensor.write_f64(&numbers(path, &name, &shape, dtypes[&name], &bytes)?)?;
    }
    Ok(())
}

/// The values of a stored tensor of floats.
pub(super) fn numbers(path: &Path, name: &str, shape: &[usize], dtype: DType, bytes: &[u8]) -> Result<Vec<f64>> {
    let bad = |what: String| Error::file_at(path, format!("tensor {name}"), what);
    if !matches!(dtype, DType::F64 | DType::F32 | DType::Bf16 | DType::F16) {
        return Err(bad(format!("expected a float dtype, found {dtype}")));
    }
    let mut host = Tensor::zeros(&Device::Cpu, shape, dtype)?;
    host.write_bytes(bytes)?;
    let values = host.read_f64()?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => Err(bad(format!("element {i} is {}: the file is damaged or the training went wrong", values[i]))),
    }
}
