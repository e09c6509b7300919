//! The same bits on every run of the same device: parameters and both moments after twenty steps, with batches of several shapes,
//! gradients added up over batches, and activations kept or computed again.
//!
//! `TRIMODAL_DETERMINISM_RUNS` (3) is the number of runs on each device; the emulator, which takes seconds for a step, makes
//! `TRIMODAL_DETERMINISM_EMULATOR_RUNS` (2) runs of `TRIMODAL_DETERMINISM_EMULATOR_STEPS` (2) steps. A CUDA GPU takes part where the
//! machine has one.

use trimodal::bench::is_fast;
use trimodal::check::{drawn_batch, repeat_training, test_devices};
use trimodal::model::batch::{Batch, Capacity};
use trimodal::model::config::{AudioConfig, VisionConfig};
use trimodal::model::{Config, Parameters};
use trimodal::train::recipe::Precision;
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device};

const STEPS: usize = 20;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found {value:?}")))
}

/// Nothing a power of two, grouped heads, an odd patch grid, three convolutions.
fn config() -> Config {
    Config {
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 64,
        vision_config: Some(VisionConfig { image_size: 24, patch_size: 8, bidirectional: true, stem: None, histograms: Vec::new() }),
        audio_config: Some(AudioConfig { num_mel_bins: 5, sample_rate: 16_000, clip_seconds: 0.1, layers: 3 }),
        ..Config::meadow(50)
    }
}

/// Every bit of parameters and optimiser state after so many steps, every third of which adds up two batches.
fn train(device: &Device, options: ActivationOptions, steps: usize) -> Vec<u32> {
    let config = config();
    let batches: Vec<Batch> = [3, 9, 5].iter().map(|&words| drawn_batch(&config, &format!("{words} words"), words)).collect();
    let capacity = Capacity::for_budget(&config, batches.iter().map(Batch::rows).max().unwrap());
    let parameters = Parameters::init(&config, device, DType::F32, 7).unwrap();
    let mut trainer = Trainer::with_options(options, &config, parameters, Schedule { warmup: 2, ..Schedule::meadow(STEPS) }, capacity).unwrap();
    for step in 0..steps {
        match step % 3 {
            2 => trainer.step_accumulated(&batches[1..]).unwrap(),
            i => trainer.step(&batches[i]).unwrap(),
        };
    }
    let all = [&trainer.parameters, &trainer.moments[0], &trainer.moments[1]];
    all.iter().flat_map(|p| p.each()).flat_map(|t| t.read::<f32>().unwrap()).map(f32::to_bits).collect()
}

fn repeat(device: &Device, activation: DType, runs: usize, steps: usize) {
    let run = |recompute| train(device, ActivationOptions { recompute, ..ActivationOptions::new(activation) }, steps);
    let first = run(false);
    for i in 1..runs.max(2) {
        assert!(run(i % 2 == 1) == first, "{device} {activation}: run {i} ends with other bits than the first");
    }
    println!("{device} {activation}: {} runs of {steps} steps, the same bits", runs.max(2));
}

#[test]
fn twenty_steps_repeat_bit_for_bit() {
    let runs = setting("TRIMODAL_DETERMINISM_RUNS", 3);
    for device in test_devices() {
        repeat(&device, DType::F32, runs, STEPS);
        // The demo's model, too; a software driver takes a minute for each run of it.
        if runs >= 100 && (matches!(device, Device::Cpu) || is_fast(&device)) {
            assert_eq!(repeat_training(&device, Precision::F32, STEPS, runs, |_| ()).unwrap().map_err(|failure| failure.to_string()), Ok(()), "{device}");
            println!("{device} f32, the demo's model: {runs} runs of {STEPS} steps, the same bits");
        }
    }
    if let Ok(device) = Device::open("cuda", None) {
        for activation in [DType::F32, DType::Bf16] {
            repeat(&device, activation, runs, STEPS);
        }
    }
}

#[test]
fn steps_in_ptx_repeat_bit_for_bit() {
    let device = Device::open("emulator", None).unwrap();
    let (runs, steps) = (setting("TRIMODAL_DETERMINISM_EMULATOR_RUNS", 2), setting("TRIMODAL_DETERMINISM_EMULATOR_STEPS", 2));
    for activation in [DType::F32, DType::Bf16] {
        repeat(&device, activation, runs, steps);
    }
}
