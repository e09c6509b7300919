//! One whole training step of the demo's model on the emulator: the PTX that ships, against the CPU device.

mod common;

use std::sync::OnceLock;
use trimodal::check::drawn_batch;
use trimodal::model::batch::Capacity;
use trimodal::model::config::VisionConfig;
use trimodal::model::{Config, Parameters};
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device};

struct Step {
    loss: f64,
    gradients: Vec<(String, Vec<f64>)>,
    parameters: Vec<f64>,
}

/// The demo's model.
fn demo() -> Config {
    Config::meadow(450)
}

/// A smaller one with an eye of convolutions.
fn with_stem() -> Config {
    let vision_config = Some(VisionConfig {
        image_size: 24,
        patch_size: 2,
        bidirectional: true,
        stem: Some("8, 8, 24/2, 24, 16/2, 16".parse().unwrap()),
        histograms: vec![8, 6, 4, 3],
    });
    Config { num_hidden_layers: 1, vision_config, ..Config::meadow(90) }
}

/// Loss and gradients of a step, then the parameters after it. With a stem words are told from picture and sound, too.
fn step(config: &Config, device: &Device, activation: DType) -> Step {
    let batch = drawn_batch(config, "a small batch of the demo", 11);
    let parameters = Parameters::init(config, device, DType::F32, 7).unwrap();
    let schedule = Schedule { warmup: 1, ..Schedule::meadow(10) };
    let [word_bag, contrastive] = if config.vision_config.as_ref().is_some_and(|vision| vision.stem.is_some()) { [0.7, 3.0] } else { [0.0; 2] };
    let captions = common::captions(&batch);
    let options = ActivationOptions { word_bag, contrastive, captions: captions.len(), ..ActivationOptions::new(activation) };
    let mut trainer = Trainer::with_options(options, config, parameters, schedule, Capacity::of(&batch)).unwrap();
    trainer.tell_apart(&captions).unwrap();
    let loss = trainer.loss_and_gradients(&batch).unwrap() as f64;
    let gradients = trainer.gradients.named().into_iter().map(|(name, g)| (name, g.read_f64().unwrap())).collect();
    let report = trainer.step(&batch).unwrap();
    assert_eq!(report.loss as f64, loss, "the same batch and parameters give the same bits");
    let parameters = trainer.parameters.each().iter().flat_map(|p| p.read_f64().unwrap()).collect();
    Step { loss, gradients, parameters }
}

/// The CPU's step, computed once for both tests.
fn on_cpu() -> &'static Step {
    static STEP: OnceLock<Step> = OnceLock::new();
    STEP.get_or_init(|| step(&demo(), &Device::Cpu, DType::F32))
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt() / norm
}

/// Every gradient within `allowed` of the CPU's in relative L2; a NaN fails. Returns the largest.
fn assert_near(found: &Step, expected: &Step, allowed: f64) -> f64 {
    let loss = (found.loss - expected.loss).abs() / expected.loss;
    assert!(loss <= allowed, "loss {} against {}", found.loss, expected.loss);
    assert_eq!(found.gradients.len(), expected.gradients.len());
    let mut worst = loss;
    for ((name, f), (other, e)) in found.gradients.iter().zip(&expected.gradients) {
        assert_eq!((name, f.len()), (other, e.len()));
        assert!(e.iter().any(|&e| e != 0.0), "{name} has no gradient: nothing is compared");
        let error = relative(f, e);
        assert!(error <= allowed, "{name}: relative error {error:.2e}, allowed {allowed:.0e}");
        worst = worst.max(error);
    }
    worst
}

#[test]
fn a_step_in_f32_is_the_cpus() {
    let found = step(&demo(), &Device::open("emulator", None).unwrap(), DType::F32);
    let worst = assert_near(&found, on_cpu(), 1e-4);
    println!("f32: the largest relative error is {worst:.1e}");
    // AdamW's first step is the gradient's sign: where a gradient is nothing but rounding, it may differ.
    let moved = relative(&found.parameters, &on_cpu().parameters);
    assert!(moved <= 1e-3, "the parameters after the step differ by {moved:.1e}");
}

/// Mixed precision: each number is rounded to 8 bits on its way through every layer, so that a gradient is right to a few
/// hundredths. (A wrong transpose or a lost term is off by one.)
#[test]
fn a_step_in_mixed_precision_is_near() {
    let found = step(&demo(), &Device::open("emulator", None).unwrap(), DType::Bf16);
    let worst = assert_near(&found, on_cpu(), 0.06);
    println!("bf16: the largest relative error is {worst:.1e}");
}

/// The same of an eye of convolutions, in both precisions.
#[test]
fn a_step_of_convolutions_is_the_cpus() {
    let (config, emulator) = (with_stem(), Device::open("emulator", None).unwrap());
    let expected = step(&config, &Device::Cpu, DType::F32);
    assert!(expected.gradients.iter().any(|(name, _)| name == "vision_stem.conv5.weight"));
    for (activation, allowed) in [(DType::F32, 1e-4), (DType::Bf16, 0.06)] {
        let worst = assert_near(&step(&config, &emulator, activation), &expected, allowed);
        println!("{activation}: the largest relative error is {worst:.1e}");
    }
}
