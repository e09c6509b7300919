//! A model is a folder: `config.json`, `model.safetensors`, `tokenizer.json`; a training run adds `optimizer.safetensors`
//! and `trainer_state.json`.

use super::files::{expect_tensors, load_safetensors, save_safetensors, write_atomically};
use super::step::Trainer;
use crate::data::tokenizer::Tokenizer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{Config, Parameters};
use crate::tensor::{DType, Tensor};
use std::io::Write;
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
    /// Reads a model in `dtype` (f32, or f64 on the CPU) onto a device.
    ///
    /// # Errors
    /// The file that is missing, damaged, or does not fit `config.json`, with the tensor's name.
    pub fn open(path: &Path, device: &Device, dtype: DType) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::file(path, "there is no such folder; a model is a folder with config.json, as `trimodal train` writes it"));
        }
        let config = Config::load(&path.join("config.json"))?;
        let tokenizer = Tokenizer::load(&path.join("tokenizer.json"))?;
        if tokenizer.vocabulary() > config.vocab_size {
            let what = format!("the tokenizer has {} tokens, more than config.json's vocab_size of {}", tokenizer.vocabulary(), config.vocab_size);
            return Err(Error::file(path.join("tokenizer.json"), what));
        }
        let mut parameters = Parameters::zeros(&config, device, dtype)?;
        read_parameters(&path.join("model.safetensors"), &mut parameters)?;
        Ok(ModelFolder { path: path.to_path_buf(), config, parameters, tokenizer })
    }
}

/// Fills parameters from a safetensors file with exactly their names and shapes, in f32, bf16 or f16.
///
/// # Errors
/// [`Error::File`] naming the first tensor that is missing, superfluous, of another shape or dtype, or not finite.
pub fn read_parameters(path: &Path, parameters: &mut Parameters) -> Result<()> {
    let stored = load_safetensors(path)?;
    let expected: Vec<(String, Vec<usize>)> = parameters.named().into_iter().map(|(name, t)| (name, t.shape().dims().to_vec())).collect();
    expect_tensors(path, &stored, &expected)?;
    for ((name, shape), tensor) in expected.into_iter().zip(parameters.each_mut()) {
        let file = &stored[&name];
        let bad = |what: String| Error::file_at(path, format!("tensor {name}"), what);
        if !matches!(file.dtype, DType::F64 | DType::F32 | DType::Bf16 | DType::F16) {
            return Err(bad(format!("expected a float dtype, found {}", file.dtype)));
        }
        let mut host = Tensor::zeros(&Device::Cpu, shape.as_slice(), file.dtype)?;
        host.write_bytes(&file.bytes)?;
        let values = host.read_f64()?;
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(bad(format!("element {i} is {}: the file is damaged or the training went wrong", values[i])));
        }
        tensor.write_f64(&values)?;
    }
    Ok(())
}

/// Writes a trained model: each file to a temporary one that is synced and renamed, so that a crash leaves the old or the
/// new one whole.
///
/// # Errors
/// [`Error::Io`] with the path where the system refuses; the old files are then whole.
pub fn save(path: &Path, trainer: &Trainer, tokenizer: &Tokenizer, state: &serde_json::Value) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::io(path, "create"))?;
    let text = |name: &str, bytes: &[u8]| {
        let file = path.join(name);
        write_atomically(&file, |f| f.write_all(bytes).map_err(Error::io(&file, "write")))
    };
    let step = ("step", trainer.step.to_string());
    save_safetensors(&path.join("model.safetensors"), std::slice::from_ref(&step), &stored("", &trainer.parameters)?)?;
    let [first, second] = &trainer.moments;
    let moments: Vec<_> = stored("first.", first)?.into_iter().chain(stored("second.", second)?).collect();
    save_safetensors(&path.join("optimizer.safetensors"), std::slice::from_ref(&step), &moments)?;
    text("tokenizer.json", &tokenizer.to_bytes()?)?;
    text("config.json", trainer.config.to_json().as_bytes())?;
    let state = serde_json::to_string_pretty(state).expect("a JSON value serialises") + "\n";
    text("trainer_state.json", state.as_bytes())
}

type StoredTensor = (String, Vec<usize>, DType, Vec<u8>);

fn stored(prefix: &str, parameters: &Parameters) -> Result<Vec<StoredTensor>> {
    parameters
        .named()
        .into_iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice::<f32, u8>(&tensor.read::<f32>()?).to_vec();
            Ok((format!("{prefix}{name}"), tensor.shape().dims().to_vec(), DType::F32, bytes))
        })
        .collect()
}
