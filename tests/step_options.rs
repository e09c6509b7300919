//! Gradients of several batches added up, and activations that are computed again: the same numbers as one batch with everything
//! kept, on every device.

use trimodal::check::{drawn_sequence, test_devices};
use trimodal::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence};
use trimodal::model::config::{AudioConfig, VisionConfig};
use trimodal::model::{Config, Parameters};
use trimodal::ops::case::Draw;
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device, Error};

/// Everything at once, in sizes that the emulator has time for.
fn small() -> Config {
    Config {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 64,
        vision_config: Some(VisionConfig { image_size: 16, patch_size: 8, bidirectional: true, stem: None, histograms: Vec::new() }),
        audio_config: Some(AudioConfig { num_mel_bins: 8, sample_rate: 16_000, clip_seconds: 0.1, layers: 2 }),
        ..Config::meadow(40)
    }
}

/// The same with an eye of convolutions and the word-bag loss: configs, and what a word told weighs.
fn both() -> [(Config, f32); 2] {
    let plain = small();
    let stem = Some("6, 6, 8/2".parse().unwrap());
    let vision_config = plain.vision_config.clone().map(|vision| VisionConfig { patch_size: 4, stem, ..vision });
    [(plain.clone(), 0.0), (Config { num_hidden_layers: 2, vision_config, ..plain }, 0.5)]
}

/// Samples of every kind, of which no two count as many rows.
fn sequences(config: &Config) -> Vec<Sequence> {
    let mut draw = Draw::new("samples of every kind");
    let kinds = [(true, true, 4), (true, false, 2), (false, true, 7), (false, false, 5), (true, true, 1)];
    let mut all: Vec<_> = kinds.map(|(picture, sound, words)| drawn_sequence(config, &mut draw, picture, sound, words)).into();
    all.iter_mut().enumerate().for_each(|(i, s)| s.name = format!("sample-{i}"));
    all
}

fn pack(config: &Config, sequences: &[Sequence]) -> Batch {
    Packer { config, budget: 400, placeholders: Placeholders { image: 1, audio: 2 } }.pack(sequences).unwrap()
}

/// The test devices and the emulator, each in every precision that it has.
fn precisions() -> Vec<(Device, DType, DType)> {
    let mut all: Vec<_> = test_devices().into_iter().map(|device| (device, DType::F32, DType::F32)).collect();
    all.insert(0, (Device::Cpu, DType::F64, DType::F64));
    let emulator = Device::open("emulator", None).unwrap();
    all.extend([(emulator.clone(), DType::F32, DType::F32), (emulator, DType::F32, DType::Bf16)]);
    all
}

fn trainer(config: &Config, device: &Device, real: DType, options: ActivationOptions, capacity: Capacity) -> Trainer {
    let parameters = Parameters::init(config, device, real, 7).unwrap();
    Trainer::with_options(options, config, parameters, Schedule { warmup: 1, ..Schedule::meadow(9) }, capacity).unwrap()
}

fn numbers(trainer: &Trainer) -> Vec<(String, Vec<f64>)> {
    let kinds = [("", &trainer.parameters), ("gradient of ", &trainer.gradients), ("m of ", &trainer.moments[0]), ("v of ", &trainer.moments[1])];
    kinds.iter().flat_map(|(kind, p)| p.named().into_iter().map(move |(name, t)| (format!("{kind}{name}"), t.read_f64().unwrap()))).collect()
}

fn bits(trainer: &Trainer) -> Vec<u64> {
    numbers(trainer).iter().flat_map(|(_, values)| values.iter().map(|x| x.to_bits())).collect()
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    let error = found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt();
    if error == 0.0 { 0.0 } else { error / norm }
}

/// Batches whose gradients are added up are one large batch, however their rows that count are shared out, with the loss in one piece
/// or in chunks; one alone has the bits of a step without accumulation.
#[test]
fn batches_added_up_are_one_large_batch() {
    both().iter().for_each(|(config, word_bag)| added_up(config, *word_bag));
}

fn added_up(config: &Config, word_bag: f32) {
    let all = sequences(config);
    let large = pack(config, &all);
    let parts: Vec<Batch> = [&all[..1], &all[1..4], &all[4..]].iter().map(|part| pack(config, part)).collect();
    assert_eq!(parts.iter().map(Batch::counted).sum::<usize>(), large.counted());
    for (device, real, activation) in precisions() {
        // In bf16 each part's gradient of an activation is rounded apart, but those of the rows are the same: only sums differ.
        let allowed = if real == DType::F64 { 1e-12 } else { 2e-5 };
        for chunk in [usize::MAX, 3] {
            let whole = Capacity::of(&large);
            let capacity = Capacity { chunk: whole.logits.min(chunk), ..whole };
            let options = ActivationOptions { word_bag, ..ActivationOptions::new(activation) };
            let new = || trainer(config, &device, real, options, capacity);
            let (mut at_once, mut added, mut alone) = (new(), new(), new());
            for step in 0..2 {
                let (expected, found) = (at_once.step(&large).unwrap(), added.step_accumulated(&parts).unwrap());
                let near = |f: f32, e: f32| (f - e).abs() <= 1e-5 * e.abs();
                assert!(near(found.loss, expected.loss) && near(found.gradient_norm, expected.gradient_norm), "{device}: {found:?}, {expected:?}");
                assert_eq!(found.learning_rate, expected.learning_rate);
                alone.step_accumulated(std::slice::from_ref(&large)).unwrap();
                assert!(bits(&alone) == bits(&at_once), "{device} {activation}: one batch alone has other bits");
                if step > 0 {
                    continue; // AdamW divides by a gradient's size: what is nothing but rounding in the first step comes back as a step
                }
                for ((name, f), (_, e)) in numbers(&added).iter().zip(&numbers(&at_once)).filter(|((name, _), _)| name.contains(" of ")) {
                    let error = relative(f, e);
                    assert!(error <= allowed, "{device} {activation}, chunks of {chunk}: {name} is off by {error:.1e}");
                }
            }
        }
    }
}

/// Where one of several batches goes bad, nothing changes, and its samples are named, not those of the others.
#[test]
fn one_bad_batch_of_several_spoils_the_step_and_is_named() {
    let config = small();
    let mut all = sequences(&config);
    all[2].mel.as_mut().unwrap()[5] = f32::INFINITY;
    let parts: Vec<Batch> = [&all[..2], &all[2..4], &all[4..]].iter().map(|part| pack(&config, part)).collect();
    let capacity = Capacity { rows: 400, logits: 400, chunk: 400, images: 5, clips: 5, told: 0 };
    for (device, real, activation) in precisions() {
        let mut trainer = trainer(&config, &device, real, ActivationOptions { recompute: true, ..ActivationOptions::new(activation) }, capacity);
        let state = |trainer: &Trainer| {
            let kinds = [&trainer.parameters, &trainer.moments[0], &trainer.moments[1]];
            kinds.iter().flat_map(|p| p.each()).flat_map(|t| t.read_f64().unwrap()).map(f64::to_bits).collect::<Vec<_>>()
        };
        let before = state(&trainer);
        match trainer.step_accumulated(&parts) {
            Err(Error::NonFinite { step: 1, what, samples }) => {
                assert!(what.contains("mel frames"), "{device}: {what}");
                assert_eq!(samples, ["sample-2", "sample-3"], "{device}");
            }
            other => panic!("{device}: {other:?}"),
        }
        assert!(state(&trainer) == before && trainer.step == 0, "{device} {activation}");
        trainer.step_accumulated(&[parts[0].clone(), parts[2].clone()]).unwrap();
        assert!(matches!(trainer.step_accumulated(&[]), Err(Error::Mismatch { .. })), "{device}");
    }
}

/// A layer's activations that are computed again are those that were there: the same bits in every gradient and parameter, over
/// several steps and accumulated batches, in a fraction of the memory; and where a number goes bad is found there, too.
#[test]
fn activations_computed_again_give_the_same_bits() {
    both().iter().for_each(|(config, word_bag)| computed_again(config, *word_bag));
}

fn computed_again(config: &Config, word_bag: f32) {
    let all = sequences(config);
    let (large, other) = (pack(config, &all), pack(config, &all[1..3]));
    for (device, real, activation) in precisions() {
        let run = |recompute: bool| {
            let mut trainer =
                trainer(config, &device, real, ActivationOptions { recompute, word_bag, ..ActivationOptions::new(activation) }, Capacity::of(&large));
            let mut losses = vec![trainer.step(&large).unwrap().loss, trainer.step(&other).unwrap().loss];
            losses.push(trainer.step_accumulated(&[large.clone(), other.clone()]).unwrap().loss);
            losses.push(trainer.forward(&large).unwrap().loss().read_f64().unwrap()[0] as f32);
            let numbers = bits(&trainer);
            if activation == DType::Bf16 {
                return (losses, numbers); // the weights that its kernels read are a copy, which a step makes
            }

            let index = trainer.parameters.named().iter().position(|(name, _)| name == "model.layers.0.mlp.up_proj.weight").unwrap();
            let count = trainer.parameters.each()[index].len();
            trainer.parameters.each_mut()[index].write_f64(&vec![f64::INFINITY; count]).unwrap();
            let error = trainer.step(&large).unwrap_err().to_string();
            assert!(error.contains("the parameter model.layers.0.mlp.up_proj.weight is not finite, in the batch of sample-0"), "{device}: {error}");
            (losses, numbers)
        };
        let (kept, again) = (run(false), run(true));
        assert_eq!(again.0, kept.0, "{device} {activation}");
        assert!(again.1 == kept.1, "{device} {activation}: other bits");
    }
}

/// What is announced is what is allocated, to the byte, with activations kept and computed again, in every precision.
#[test]
fn the_announced_memory_is_what_is_allocated() {
    let [(config, _), (stem, word_bag)] = both();
    let demo = Config::meadow(300);
    let emulator = Device::open("emulator", None).unwrap();
    for (config, rows, word_bag, captions) in
        [(&config, 150, 0.0, 0), (&demo, 1920, 0.0, 0), (&stem, 150, word_bag, 5), (&stem, 150, 0.0, 5), (&stem, 150, 0.0, 0)]
    {
        let capacity = Capacity { chunk: 77, ..Capacity::for_budget(config, rows) };
        for (device, real, activation) in
            [(Device::Cpu, DType::F64, DType::F64), (Device::Cpu, DType::F32, DType::F32), (emulator.clone(), DType::F32, DType::Bf16)]
        {
            let [kept, again] = [false, true].map(|recompute| {
                let contrastive = if captions > 0 { 2.0 } else { 0.0 };
                let options = ActivationOptions { recompute, word_bag, contrastive, captions, ..ActivationOptions::new(activation) };
                let (announced, allocated) = (Trainer::bytes(config, capacity, options), trainer(config, &device, real, options, capacity).allocated_bytes());
                assert_eq!(announced, allocated, "{activation} {options:?}");
                announced
            });
            assert!(again < kept, "{again} {kept}");
        }
    }
    // Most of what a deep model keeps is in its layers.
    let deep = Config { num_hidden_layers: 24, ..demo };
    let capacity = Capacity::for_budget(&deep, 1 << 16);
    let [kept, again] = [false, true].map(|recompute| Trainer::bytes(&deep, capacity, ActivationOptions { recompute, ..ActivationOptions::new(DType::F32) }));
    assert!(3 * again < kept, "{again} of {kept}");
}
