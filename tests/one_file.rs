//! `examples/one_file.rs` is the whole of training on 400 lines, and computes what the trainer computes.

#[path = "../examples/one_file.rs"]
mod one_file;

use std::ops::ControlFlow;
use trimodal::Device;
use trimodal::data::meadow;
use trimodal::train::run::Event;
use trimodal::train::{Run, Settings};

const STEPS: usize = 10;

/// Ten steps go on into the second epoch: the order, the hidden words and the light of both are the trainer's.
#[test]
fn its_first_ten_losses_are_the_trainers() {
    let place = tempfile::tempdir().expect("a folder");
    let (data, seed) = (place.path().join("data"), 3);
    let options = meadow::Options { samples: 250, test_samples: 1, seed: 5, ..meadow::Options::default() };
    meadow::write(&data, &options, &mut |_, _| ControlFlow::Continue(())).expect("a data set");

    let mut settings = Settings::preset("meadow").expect("a preset");
    let (path, steps, seed_text) = (data.display().to_string(), STEPS.to_string(), seed.to_string());
    for (key, value) in [("data.path", path.as_str()), ("training.steps", &steps), ("training.seed", &seed_text), ("training.device", "cpu")] {
        settings.set(key, value).expect("a key");
    }
    let mut run = Run::start(settings, &place.path().join("run")).expect("a run");
    let (mut expected, mut epochs) = (Vec::new(), Vec::new());
    run.train(&mut |run, event| {
        if let Event::Step(step) = event {
            expected.push(step.report.loss);
            epochs.push(run.state.position.epoch);
        }
        ControlFlow::Continue(())
    })
    .expect("ten steps");
    assert!(epochs.last() > Some(&0), "ten steps are more than an epoch: {epochs:?}");

    let found = one_file::train(&data, &Device::Cpu, STEPS, seed).expect("ten steps");
    assert_eq!(found, expected);
    assert!(found.iter().all(|loss| loss.is_finite()) && found[STEPS - 1] < found[0], "{found:?}");
}

/// Whoever opens it reads nothing else first.
#[test]
fn it_is_one_file_of_at_most_400_lines() {
    let text = include_str!("../examples/one_file.rs");
    assert!(text.lines().count() <= 400, "{} lines", text.lines().count());
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for other in ["model", "train", "trace", "check", "describe", "experiment", "inside"] {
            let path = format!("{other}::");
            assert!(!line.contains(&path) && !(line.starts_with("use ") && line.contains(&format!("trimodal::{other}"))), "{line}");
        }
    }
}
