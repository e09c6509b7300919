//! Everything about one training step: what it read, what it computed, every gradient. For comparing with other implementations.

use super::examples::{AudioFrontend, Example, placeholders};
use super::model_folder::ModelFolder;
use super::schedule::Schedule;
use super::trainer::{ActivationOptions, Trainer};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::safetensors::save_safetensors;
use crate::model::batch::{Capacity, Packer};
use crate::tensor::{DType, Tensor};
use std::path::Path;

/// Runs the first `samples` rows of a data set through one step of a model (without an update) and writes it to `out`.
///
/// Tensors: `input.token_id [N]`, `input.position [N]`, `input.visible [N, 2]`, `input.target [N]` (i32; −1 is not counted),
/// `input.pixels [images, H, W, 3]` (u8), `input.patch_row [images · patches]`, with a row of all of a picture `input.whole_row [images]` (i32),
/// `input.waveform [clips, samples]`, `input.mel [clips, frames, mels]`, `input.frame_row [clips · rows]` (i32), `embedded [N, D]`,
/// `logits [N, V]`, `loss [1]`, and `grad.<parameter>` for every parameter; floats are f32, or f64 where the model was opened in f64. `activation`: the parameters' own dtype, or bf16 for mixed precision.
///
/// # Errors
/// As the loaders; [`Error::Usage`] for more samples than the data set has.
pub fn dump(model: ModelFolder, activation: DType, dataset: &Dataset, samples: usize, out: &Path) -> Result<()> {
    let ModelFolder { config, parameters, tokenizer, .. } = model;
    let (device, real) = (parameters.norm.device().clone(), parameters.norm.dtype());
    if samples == 0 || samples > dataset.rows().len() {
        return Err(Error::Usage(format!("--samples: expected 1 to {}, the rows of the data set, found {samples}", dataset.rows().len())));
    }
    let sizes = super::examples::sizes(&config);
    let frontend = config.audio_config.as_ref().map(|a| AudioFrontend::new(a, &device, real)).transpose()?;
    let special = tokenizer.special();
    let (mut sequences, mut waveforms) = (Vec::new(), Vec::new());
    for row in &dataset.rows()[..samples] {
        let sample = dataset.sample(row, &sizes)?;
        let mel = match (&frontend, &sample.sound) {
            (Some(frontend), Some(sound)) => {
                waveforms.extend_from_slice(sound);
                frontend.frames(&[sound])?.pop()
            }
            _ => None,
        };
        let example = Example {
            words: tokenizer.encode(&sample.text)?,
            colors: Vec::new(),
            told_by: Vec::new(),
            prompt: sample.prompt.as_deref().map_or(Ok(Vec::new()), |prompt| tokenizer.encode(prompt))?,
            pixels: sample.picture.filter(|_| config.vision_config.is_some()).map(|p| p.rgb),
            mel,
            name: sample.name,
            split: sample.split,
            text: sample.text,
            question: Vec::new(),
        };
        sequences.push(example.sequence(&config, &special, || false));
    }
    let rows: usize = sequences.iter().map(|s| s.rows.len()).sum();
    let mut batch = Packer { config: &config, budget: rows, placeholders: placeholders(&special) }.pack(&sequences)?;
    batch.all_logits();

    let mut trainer = Trainer::with_options(ActivationOptions::new(activation), &config, parameters, Schedule::meadow(1), Capacity::of(&batch))?;
    let activations = trainer.forward(&batch)?;
    let (embedded, logits, loss) = (activations.embedded(), activations.logits(), activations.loss());
    let mut tensors = vec![floats("embedded", embedded)?, floats("logits", logits)?, floats("loss", loss)?];
    let n = batch.rows();
    for (name, shape, data) in [
        ("input.token_id", vec![n], &batch.token_id),
        ("input.position", vec![n], &batch.position),
        ("input.visible", vec![n, 2], &batch.visible.as_flattened().to_vec()),
        ("input.target", vec![n], &batch.target),
        ("input.patch_row", vec![batch.patch_row.len()], &batch.patch_row),
        ("input.frame_row", vec![batch.frame_row.len()], &batch.frame_row),
    ] {
        tensors.push((name.to_string(), shape, DType::I32, bytemuck::cast_slice(data).to_vec()));
    }
    if config.has_whole_row() {
        tensors.push(("input.whole_row".into(), vec![batch.images], DType::I32, bytemuck::cast_slice(&batch.whole_row).to_vec()));
    }
    let side = config.vision_config.as_ref().map_or(0, |v| v.image_size);
    tensors.push(("input.pixels".into(), vec![batch.images, side, side, 3], DType::U8, batch.pixels.clone()));
    let (frames, mels) = config.audio_config.as_ref().map_or((0, 0), |a| (a.frames(), a.num_mel_bins));
    tensors.push(("input.waveform".into(), vec![batch.clips, sizes.samples], DType::F32, bytemuck::cast_slice(&waveforms).to_vec()));
    let mel = match real {
        DType::F64 => bytemuck::cast_slice(&batch.mel.iter().map(|&x| x as f64).collect::<Vec<_>>()).to_vec(),
        _ => bytemuck::cast_slice(&batch.mel).to_vec(),
    };
    tensors.push(("input.mel".into(), vec![batch.clips, frames, mels], real, mel));

    trainer.loss_and_gradients(&batch)?;
    for (name, gradient) in trainer.gradients.named() {
        tensors.push(floats(&format!("grad.{name}"), gradient)?);
    }
    save_safetensors(out, &[("samples", samples.to_string())], &tensors)
}

fn floats(name: &str, tensor: &Tensor) -> Result<(String, Vec<usize>, DType, Vec<u8>)> {
    let bytes = match tensor.dtype() {
        DType::F64 => bytemuck::cast_slice(&tensor.read::<f64>()?).to_vec(),
        _ => bytemuck::cast_slice(&tensor.read_f64()?.iter().map(|&x| x as f32).collect::<Vec<_>>()).to_vec(),
    };
    Ok((name.to_string(), tensor.shape().dims().to_vec(), crate::ops::statistic(tensor.dtype()), bytes))
}
