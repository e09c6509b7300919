//! `examples/one_file.rs` is the whole of training in at most 400 lines, and computes what the trainer computes.

#[path = "../examples/one_file.rs"]
#[allow(dead_code)] // its main
mod one_file;

use std::ops::ControlFlow;
use std::path::Path;
use trimodal::Device;
use trimodal::data::meadow;
use trimodal::train::run::Event;
use trimodal::train::{Run, Settings};

fn draw(folder: &Path, samples: usize) {
    let options = meadow::MeadowOptions { samples, test_samples: 1, seed: 5, ..meadow::MeadowOptions::default() };
    meadow::write(folder, &options, &mut |_, _| ControlFlow::Continue(())).expect("a data set");
}

/// What the example leaves to the trainer: it has plain patches and light that varies, the demo has an eye that tells a thing from its colour.
const ITS_SETTINGS: [(&str, &str); 6] = [
    ("model.stem", ""),
    ("model.patch_size", "8"),
    ("training.word_bag", "0"),
    ("training.contrastive", "0"),
    ("data.color_jitter", "0.25"),
    ("data.color_blind", "0"),
];

/// The losses of a run with the example's settings, and the epoch that it came to.
fn trainers(data: &Path, run: &Path, steps: usize, seed: u64) -> (Vec<f32>, u64) {
    let mut settings = Settings::preset("meadow").expect("a preset");
    let (data, steps, seed) = (data.display().to_string(), steps.to_string(), seed.to_string());
    let run_settings = [("data.path", data.as_str()), ("training.steps", &steps), ("training.seed", &seed), ("training.device", "cpu")];
    for (key, value) in ITS_SETTINGS.into_iter().chain(run_settings) {
        settings.set(key, value).expect("a key");
    }
    let mut losses = Vec::new();
    let mut run = Run::start(settings, run).expect("a run");
    let mut watch = |_: &Run, event: Event| {
        if let Event::Step(step) = event {
            losses.push(step.report.loss);
        }
        ControlFlow::Continue(())
    };
    run.train(&mut watch).expect("all steps");
    (losses, run.state.position.epoch)
}

/// Bit for bit, and not only the first ten: 64 steps are eight epochs (their order, the hidden words, the light), a warm-up of three steps
/// (0.04 · 64) and the whole of the cosine.
#[test]
fn its_losses_are_the_trainers() {
    let place = tempfile::tempdir().expect("a folder");
    let (data, steps, seed) = (place.path().join("data"), 64, 3);
    draw(&data, 250);
    let (expected, epoch) = trainers(&data, &place.path().join("run"), steps, seed);
    assert!(expected.len() == steps && epoch > 2, "{} steps, {epoch} epochs", expected.len());
    let found = one_file::train(&data, &Device::Cpu, steps, seed).expect("all steps");
    assert_eq!(found, expected);
    assert!(found.iter().all(|loss| loss.is_finite()) && found[steps - 1] < found[0] / 2.0, "{found:?}");
}

/// The same numbers up to rounding in PTX and, where there is an adapter, in WGSL. (The trainer is held to the CPU elsewhere.)
#[test]
fn on_other_devices_it_computes_the_same() {
    let place = tempfile::tempdir().expect("a folder");
    draw(place.path(), 5);
    let losses = |device: &Device| one_file::train(place.path(), device, 2, 3).expect("two steps");
    let expected = losses(&Device::Cpu);
    for name in ["emulator", "wgpu"] {
        let Ok(device) = Device::open(name, None) else {
            eprintln!("NOT CHECKED: there is no {name} device");
            continue;
        };
        let found = losses(&device);
        assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-4), "{device}: {found:?} {expected:?}");
    }
}

/// A learner opens it first: nothing else has to be read to follow it, except the operations that it launches and the files that it reads.
#[test]
fn it_is_one_file_of_at_most_400_lines() {
    let text = include_str!("../examples/one_file.rs");
    assert!(text.lines().count() <= 400, "{} lines", text.lines().count());
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    for (line, rest) in code.filter_map(|line| Some((line, line.split_once("trimodal::")?.1))) {
        let allowed = ["data::", "ops::", "{DType, Device, Error, Result, Tensor};"];
        assert!(allowed.iter().any(|start| rest.starts_with(start)), "{line}");
    }
}
