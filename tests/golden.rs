//! The front ends, and a tiny model whole, against PyTorch and `transformers` in float64, on every device: forward, every gradient,
//! ten steps of AdamW.
//!
//! The fixtures come from `scripts/golden.py`. Allowed, as relative L2: in f32 1e-5 forward and 1e-4 for gradients; in f64 1e-9 for
//! the front ends, and 1e-6 for the model: the scales of attention and of the mean are f32, as the kernels take them.

use safetensors::{Dtype, SafeTensors};
use std::path::PathBuf;
use trimodal::check::test_devices;
use trimodal::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence, TokenRow, picture_rows};
use trimodal::model::{Config, Parameters};
use trimodal::ops::{conv1d, conv2d, local_histogram, log_mel, patch_embed};
use trimodal::train::model_folder::read_parameters;
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device, Tensor};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// One fixture, opened.
struct Golden {
    name: String,
    bytes: Vec<u8>,
}

impl Golden {
    fn open(name: &str) -> Self {
        let path = path(&format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Golden { name: name.into(), bytes }
    }

    /// A tensor's shape, dtype and values.
    fn get(&self, tensor: &str) -> (Vec<usize>, Dtype, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.bytes).expect(&self.name);
        let view = file.tensor(tensor).unwrap_or_else(|e| panic!("{}: {tensor}: {e}", self.name));
        fn each<const N: usize>(data: &[u8], convert: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.chunks_exact(N).map(|c| convert(c.try_into().expect("N bytes"))).collect()
        }
        let values = match view.dtype() {
            Dtype::F64 => each(view.data(), f64::from_le_bytes),
            Dtype::F32 => each(view.data(), |b| f32::from_le_bytes(b) as f64),
            Dtype::I32 => each(view.data(), |b| i32::from_le_bytes(b) as f64),
            Dtype::I16 => each(view.data(), |b| i16::from_le_bytes(b) as f64 / 32_768.0),
            Dtype::U8 => each(view.data(), |b: [u8; 1]| b[0] as f64),
            other => panic!("{}: {tensor}: {other:?}", self.name),
        };
        (view.shape().to_vec(), view.dtype(), values)
    }

    /// The captions that are told apart.
    fn captions(&self) -> Vec<Vec<u32>> {
        let [words, lengths] = ["input.captions", "input.lengths"].map(|name| self.get(name).2);
        let mut words = words.into_iter().map(|id| id as u32);
        lengths.into_iter().map(|length| words.by_ref().take(length as usize).collect()).collect()
    }

    /// A tensor on a device: integers as they are (16-bit sound as reals), reals in `real`.
    fn tensor(&self, name: &str, device: &Device, real: DType) -> Tensor {
        let (shape, dtype, values) = self.get(name);
        let dtype = match dtype {
            Dtype::U8 => DType::U8,
            Dtype::I32 => DType::I32,
            _ => real,
        };
        Tensor::from_f64(device, shape.as_slice(), dtype, &values).unwrap()
    }

    /// Zeros of a tensor's shape.
    fn zeros(&self, name: &str, device: &Device, real: DType) -> Tensor {
        Tensor::zeros(device, self.get(name).0.as_slice(), real).unwrap()
    }

    fn expect(&self, name: &str, found: &Tensor, allowed: f64) {
        let (shape, _, expected) = self.get(name);
        assert_eq!(found.shape().dims(), shape, "{}: {name}", self.name);
        let error = relative(&found.read_f64().unwrap(), &expected);
        let within = error <= allowed; // false for a NaN
        assert!(within, "{}: {name} on {} in {}: relative error {error:e}, allowed {allowed:e}", self.name, found.device(), found.dtype());
    }
}

/// The relative L2 error.
fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    let difference: f64 = found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum();
    (difference / norm).sqrt()
}

/// Every device and precision, with what is allowed forward and for gradients.
fn everywhere(test: impl Fn(&Device, DType, f64, f64)) {
    for device in test_devices() {
        if matches!(device, Device::Cpu) {
            test(&device, DType::F64, 1e-9, 1e-9);
        }
        test(&device, DType::F32, 1e-5, 1e-4);
    }
}

#[test]
fn log_mel_is_whispers() {
    for (name, mels) in [("log_mel_80", 80), ("log_mel_40", 40)] {
        let golden = Golden::open(name);
        everywhere(|device, real, forward, _| {
            let waveform = golden.tensor("waveform", device, real);
            let mut mel = golden.zeros("mel", device, real);
            let mut workspace = Tensor::zeros(device, [log_mel::workspace(waveform.rows(), waveform.dim(1))], real).unwrap();
            let tables = log_mel::Tables::new(device, real, 16_000, mels).unwrap();
            log_mel::forward(&waveform, &tables, &mut mel, &mut workspace).unwrap();
            golden.expect("mel", &mel, forward);
        });
    }
}

type ConvolutionForward = fn(&Tensor, &Tensor, &Tensor, usize, &mut Tensor, &mut Tensor) -> trimodal::Result<()>;
type ConvolutionBackward =
    fn(&Tensor, &Tensor, &Tensor, &Tensor, usize, &mut Tensor, Option<&mut Tensor>, &mut Tensor, &mut Tensor, &mut Tensor) -> trimodal::Result<()>;

/// Three convolutions with their GELUs, one after the other, and back. `workspace(x, channels that come out, stride)`.
fn convolutions_agree(file: &str, run: ConvolutionForward, back: ConvolutionBackward, workspace: fn(&Tensor, usize, usize) -> usize) {
    let golden = Golden::open(file);
    everywhere(|device, real, forward, backward| {
        let get = |name: &str| golden.tensor(name, device, real);
        let layers = [(1, 1), (2, 2), (3, 2)];
        let mut inputs = vec![get("x")];
        let mut zs = Vec::new();
        for (layer, stride) in layers {
            let (weight, bias) = (get(&format!("conv{layer}.weight")), get(&format!("conv{layer}.bias")));
            let name = format!("y{layer}");
            let (mut z, mut y) = (golden.zeros(&name, device, real), golden.zeros(&name, device, real));
            run(inputs.last().unwrap(), &weight, &bias, stride, &mut z, &mut y).unwrap();
            golden.expect(&name, &y, forward);
            inputs.push(y);
            zs.push(z);
        }
        let mut dy = get("dy");
        for (layer, stride) in layers.into_iter().rev() {
            let (weight_name, bias_name) = (format!("conv{layer}.weight"), format!("conv{layer}.bias"));
            let (x, z, weight) = (&inputs[layer - 1], &zs[layer - 1], get(&weight_name));
            let zeros = |like: &Tensor| Tensor::zeros(device, like.shape(), real).unwrap();
            let (mut dz, mut dx, mut dweight) = (zeros(z), zeros(x), zeros(&weight));
            let mut dbias = golden.zeros(&bias_name, device, real);
            let needed = workspace(x, weight.rows(), stride);
            let mut workspace = Tensor::zeros(device, [needed], real).unwrap();
            back(x, &weight, z, &dy, stride, &mut dz, Some(&mut dx), &mut dweight, &mut dbias, &mut workspace).unwrap();
            golden.expect(&format!("grad.{weight_name}"), &dweight, backward);
            golden.expect(&format!("grad.{bias_name}"), &dbias, backward);
            dy = dx;
        }
        golden.expect("grad.x", &dy, backward);
    });
}

#[test]
fn the_convolution_stem_is_whispers() {
    let workspace = |x: &Tensor, out, stride| conv1d::workspace(x.rows(), x.dim(1), x.dim(2), out, stride);
    convolutions_agree("conv_stem", conv1d::forward, conv1d::backward, workspace);
}

#[test]
fn the_convolutions_of_the_eye_are_pytorchs() {
    let workspace = |x: &Tensor, out, stride| conv2d::workspace(x.rows(), x.dim(1), x.dim(2), x.dim(3), out, stride);
    convolutions_agree("conv_eye", conv2d::forward, conv2d::backward, workspace);
}

#[test]
fn the_patch_embedding_is_fuyus_with_positions() {
    let golden = Golden::open("patch_embed");
    everywhere(|device, real, forward, backward| {
        let get = |name: &str| golden.tensor(name, device, real);
        let (weight, bias, position, row) = (get("weight"), get("bias"), get("position"), get("row"));
        // The same pixels as bytes and as reals.
        let reals = Tensor::from_f64(device, get("pixels").shape(), real, &golden.get("pixels").2).unwrap();
        for pixels in [get("pixels"), reals] {
            let mut y = golden.zeros("y", device, real);
            patch_embed::forward(&pixels, &weight, &bias, &position, &row, &mut y).unwrap();
            golden.expect("y", &y, forward);

            let zeros = |name| golden.zeros(name, device, real);
            let (mut dweight, mut dbias, mut dposition, mut dpixels) = (zeros("weight"), zeros("bias"), zeros("position"), zeros("pixels"));
            let needed = patch_embed::workspace(pixels.rows(), pixels.dim(1), pixels.dim(2), 8, weight.rows());
            let mut workspace = Tensor::zeros(device, [needed], real).unwrap();
            let dy = get("dy");
            patch_embed::backward(&pixels, &weight, &row, &dy, &mut dweight, &mut dbias, &mut dposition, Some(&mut dpixels), &mut workspace).unwrap();
            golden.expect("grad.weight", &dweight, backward);
            golden.expect("grad.bias", &dbias, backward);
            golden.expect("grad.position", &dposition, backward);
            golden.expect("grad.pixels", &dpixels, backward);
        }
    });
}

#[test]
fn local_histograms_are_those_of_whole_tensors_in_pytorch() {
    let golden = Golden::open("histograms");
    let grids: Vec<usize> = golden.get("grids").2.into_iter().map(|grid| grid as usize).collect();
    everywhere(|device, real, forward, _| {
        let pixels = golden.tensor("pixels", device, real);
        let mut y = golden.zeros("y", device, real);
        let mut workspace = Tensor::zeros(device, [local_histogram::workspace(pixels.rows(), &grids)], real).unwrap();
        local_histogram::forward(&pixels, &grids, &mut y, &mut workspace).unwrap();
        golden.expect("y", &y, forward);
    });
}

/// The samples of the script: picture, sound, words.
const SAMPLES: [(bool, bool, &[u32]); 4] = [(true, true, &[5, 9, 11]), (true, false, &[7, 30]), (false, true, &[12, 6, 6, 8]), (false, false, &[3, 4])];

/// The tiny model of a folder, and its batch.
fn model(folder: &str, device: &Device, real: DType) -> (Config, Parameters, Batch) {
    let config = Config::load(&path(folder).join("config.json")).unwrap();
    let mut parameters = Parameters::zeros(&config, device, real).unwrap();
    read_parameters(&path(folder).join("model.safetensors"), &mut parameters).unwrap();
    let step = Golden::open(&format!("{folder}/step"));
    let (vision, audio) = (config.vision_config.clone().unwrap(), config.audio_config.clone().unwrap());
    let pixels: Vec<u8> = step.get("input.pixels").2.into_iter().map(|x| x as u8).collect();
    let mel: Vec<f32> = step.get("input.mel").2.into_iter().map(|x| x as f32).collect();
    let mut pictures = pixels.chunks_exact(vision.image_size * vision.image_size * 3);
    let mut sounds = mel.chunks_exact(audio.frames() * audio.num_mel_bins);
    let sequences = SAMPLES.map(|(picture, sound, words)| {
        let token = |id, learned| TokenRow::Token { id, truth: id, learned };
        let mut rows = vec![token(0, false)];
        let mut sequence = Sequence::default();
        if picture {
            rows.extend(picture_rows(&vision));
            sequence.pixels = pictures.next().map(<[u8]>::to_vec);
        }
        if sound {
            rows.extend(vec![TokenRow::Frame; audio.rows()]);
            sequence.mel = sounds.next().map(<[f32]>::to_vec);
        }
        rows.extend(words.iter().map(|&id| token(id, true)));
        Sequence { rows, ..sequence }
    });
    let mut batch = Packer { config: &config, budget: 100, placeholders: Placeholders { image: 1, audio: 2 } }.pack(&sequences).unwrap();
    batch.all_logits();
    (config, parameters, batch)
}

/// These models on every device in every precision, with what is allowed forward and for gradients.
fn models(folders: &[&str], test: impl Fn(&str, &Device, DType, f64, f64)) {
    for folder in folders {
        test(folder, &Device::Cpu, DType::F64, 1e-6, 1e-6);
        test_devices().iter().for_each(|device| test(folder, device, DType::F32, 1e-5, 1e-4));
    }
}

#[test]
fn a_step_is_that_of_qwen3_and_pytorch() {
    models(&["model_tied", "model_untied", "model_stem", "model_histograms"], |folder, device, real, forward, backward| {
        let golden = Golden::open(&format!("{folder}/step"));
        let (config, parameters, batch) = model(folder, device, real);
        let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(1), Capacity::of(&batch)).unwrap();
        let activations = trainer.forward(&batch).unwrap();
        for (name, tensor) in [("embedded", activations.embedded()), ("logits", activations.logits()), ("loss", activations.loss())] {
            golden.expect(name, tensor, forward);
        }
        trainer.loss_and_gradients(&batch).unwrap();
        let named = trainer.gradients.named();
        let stored = SafeTensors::deserialize(&golden.bytes).unwrap().names().into_iter().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(named.len(), stored);
        for (name, gradient) in named {
            golden.expect(&format!("grad.{name}"), gradient, backward);
        }
    });
}

/// The losses beside the captions', and with each every gradient. Those of the decoder's layers, and of what makes the rows of places, are
/// those of the captions alone: words and captions are told from a picture's row as a whole and from a sound's frames, with no layer between.
#[test]
fn what_is_told_beside_the_captions_is_pytorchs() {
    models(&["model_stem"], |folder, device, real, forward, backward| {
        for kind in ["word_bag", "contrast"] {
            let (step, golden) = (Golden::open(&format!("{folder}/step")), Golden::open(&format!("{folder}/{kind}")));
            let (config, parameters, batch) = model(folder, device, real);
            let [word_bag, contrastive] = if kind == "word_bag" { [0.75, 0.0] } else { [0.0, 3.0] };
            let captions = if kind == "contrast" { golden.captions() } else { Vec::new() };
            let options = ActivationOptions { word_bag, contrastive, captions: captions.len(), ..ActivationOptions::new(real) };
            let mut trainer = Trainer::with_options(options, &config, parameters, Schedule::meadow(1), Capacity::of(&batch)).unwrap();
            trainer.tell_apart(&captions).unwrap();
            trainer.loss_and_gradients(&batch).unwrap();
            let activations = trainer.activations();
            golden.expect("loss", activations.word_bag_loss().or(activations.contrastive_loss()).unwrap(), forward);
            step.expect("loss", activations.loss(), forward);
            let changed: Vec<String> = SafeTensors::deserialize(&golden.bytes).unwrap().names().into_iter().map(String::from).collect();
            let mut unchanged = 0;
            for (name, gradient) in trainer.gradients.named() {
                let name = format!("grad.{name}");
                let stays = !changed.contains(&name);
                unchanged += stays as usize;
                let expected = if stays { &step } else { &golden };
                expected.expect(&name, gradient, backward);
            }
            assert_eq!(unchanged, 11 + 2, "{kind}");
        }
    });
}

/// Warm-up, cosine, clipping (all steps are beyond it), decay on matrices only: losses and norms of ten steps, and how far every
/// parameter went, to ten times what gradients are allowed: AdamW's first steps divide small gradients by their own size.
#[test]
fn ten_steps_are_those_of_pytorchs_adamw() {
    models(&["model_tied", "model_untied"], |folder, device, real, _, allowed| {
        let golden = Golden::open(&format!("{folder}/adamw"));
        let (config, parameters, batch) = model(folder, device, real);
        let before: Vec<Vec<f64>> = parameters.each().into_iter().map(|p| p.read_f64().unwrap()).collect();
        let schedule =
            Schedule { peak: 5e-3, warmup: 3, floor: 0.1, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.1, max_norm: 1.0, ..Schedule::meadow(10) };
        let mut trainer = Trainer::new(&config, parameters, schedule, Capacity::of(&batch)).unwrap();
        let reports: Vec<_> = (0..10).map(|_| trainer.step(&batch).unwrap()).collect();
        let losses: Vec<f64> = reports.iter().map(|r| r.loss as f64).collect();
        let norms: Vec<f64> = reports.iter().map(|r| r.gradient_norm as f64).collect();
        assert!(relative(&losses, &golden.get("losses").2) <= allowed, "{device} in {real}: {losses:?}");
        assert!(relative(&norms, &golden.get("norms").2) <= allowed, "{device} in {real}: {norms:?}");
        for ((name, after), before) in trainer.parameters.named().into_iter().zip(&before) {
            let went = |after: Vec<f64>| after.iter().zip(before).map(|(a, b)| a - b).collect::<Vec<_>>();
            let error = relative(&went(after.read_f64().unwrap()), &went(golden.get(&name).2));
            assert!(error <= 10.0 * allowed, "{device} in {real}: {folder}: {name} went elsewhere: relative error {error:e}");
        }
    });
}
