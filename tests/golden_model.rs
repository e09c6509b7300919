//! One training step of a tiny model against `transformers`' Qwen3 and PyTorch in float64: forward and every gradient.
//! The fixtures and the script that made them: `tests/golden/model_*`, `scripts/golden_model.py`.

use std::collections::BTreeMap;
use std::path::Path;
use trimodal::check::test_devices;
use trimodal::model::batch::{Capacity, Packer, Placeholders, Row, Sequence};
use trimodal::model::{Config, Parameters};
use trimodal::train::files::load_safetensors;
use trimodal::train::folder::read_parameters;
use trimodal::train::{Schedule, Trainer};
use trimodal::{DType, Device};

/// The samples of the script: picture, sound, words.
const SAMPLES: [(bool, bool, &[u32]); 4] = [(true, true, &[5, 9, 11]), (true, false, &[7, 30]), (false, true, &[12, 6, 6, 8]), (false, false, &[3, 4])];

fn values(bytes: &[u8], dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F64 => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        other => panic!("{other}"),
    }
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt() / norm
}

fn compare(folder: &str, device: &Device, real: DType, forward: f64, backward: f64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let config = Config::load(&folder.join("config.json")).unwrap();
    let mut parameters = Parameters::zeros(&config, device, real).unwrap();
    read_parameters(&folder.join("model.safetensors"), &mut parameters).unwrap();
    let step: BTreeMap<_, _> = load_safetensors(&folder.join("step.safetensors")).unwrap();
    let expected = |name: &str| values(&step[name].2, step[name].1);

    let (vision, audio) = (config.vision_config.clone().unwrap(), config.audio_config.clone().unwrap());
    let pixels = &step["input.pixels"].2;
    let mel: Vec<f32> = expected("input.mel").into_iter().map(|x| x as f32).collect();
    let mut pictures = pixels.chunks_exact(vision.image_size * vision.image_size * 3);
    let mut sounds = mel.chunks_exact(audio.frames() * audio.num_mel_bins);
    let sequences = SAMPLES.map(|(picture, sound, words)| {
        let token = |id, learned| Row::Token { id, truth: id, learned };
        let mut rows = vec![token(0, false)];
        let mut sequence = Sequence::default();
        if picture {
            rows.extend(vec![Row::Patch; vision.patches()]);
            sequence.pixels = pictures.next().map(<[u8]>::to_vec);
        }
        if sound {
            rows.extend(vec![Row::Frame; audio.rows()]);
            sequence.mel = sounds.next().map(<[f32]>::to_vec);
        }
        rows.extend(words.iter().map(|&id| token(id, true)));
        Sequence { rows, ..sequence }
    });
    let mut batch = Packer { config: &config, budget: 100, placeholders: Placeholders { image: 1, audio: 2 } }.pack(&sequences).unwrap();
    batch.all_logits();
    let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(1), Capacity::of(&batch)).unwrap();
    let activations = trainer.forward(&batch).unwrap();
    for (name, tensor) in [("embedded", activations.embedded()), ("logits", activations.logits()), ("loss", activations.loss())] {
        let error = relative(&tensor.read_f64().unwrap(), &expected(name));
        assert!(error <= forward, "{device}: {name}: {error:e}");
    }
    trainer.loss_and_gradients(&batch).unwrap();
    let named = trainer.gradients.named();
    assert_eq!(named.len(), step.keys().filter(|k| k.starts_with("grad.")).count());
    for (name, gradient) in named {
        let error = relative(&gradient.read_f64().unwrap(), &expected(&format!("grad.{name}")));
        assert!(error <= backward, "{device}: gradient of {name}: {error:e}");
    }
}

#[test]
fn qwen3_and_pytorch_agree() {
    for folder in ["model_tied", "model_untied"] {
        // The scales of attention and of the mean are f32, as the kernels take them: 1e-7 is what is left of f64.
        compare(folder, &Device::Cpu, DType::F64, 1e-6, 1e-6);
        for device in test_devices() {
            compare(folder, &device, DType::F32, 1e-5, 1e-4);
        }
    }
}
