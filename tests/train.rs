//! Runs as a user meets them: the program trains, stops, continues, judges itself, and refuses what makes no sense.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NODEVICE_SELECT", "1").output().expect("the program starts")
}

fn good(arguments: &[&str]) -> String {
    let output = trimodal(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn bad(code: i32, arguments: &[&str]) -> String {
    let output = trimodal(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    message
}

/// A folder with a small data set in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(samples: usize) -> Self {
        let place = Place(tempfile::tempdir().expect("a folder"));
        good(&["meadow", &place.path("data"), "--samples", &samples.to_string(), "--seed", "5"]);
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// The files of a checkpoint, byte for byte.
fn files(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(checkpoint).unwrap_or_else(|e| panic!("{}: {e}", checkpoint.display()));
    entries.map(|entry| entry.expect("an entry").path()).map(|path| (name(&path), fs::read(&path).expect("a file"))).collect()
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn latest(run: &str) -> PathBuf {
    Path::new(run).join(fs::read_to_string(Path::new(run).join("latest")).expect("latest").trim())
}

fn log(run: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(Path::new(run).join("log.jsonl")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// N + M steps in one go equal N, save, a new process, M: every byte of the checkpoint, across the ends of epochs.
fn resumes(device: &str, more: &[&str], samples: usize, steps: usize, stop: usize) {
    let place = Place::new(samples);
    let (whole, parts, data) = (place.path("whole"), place.path("parts"), place.path("data"));
    let steps = steps.to_string();
    let common = [&["train", &data, "--steps", &steps, "--seed", "3", "--device", device][..], more].concat();
    good(&[&common[..], &["--out", &whole]].concat());
    let stopped = good(&[&common[..], &["--out", &parts, "--set", &format!("stop_after={stop}")]].concat());
    assert!(stopped.contains(&format!("stopped after step {stop}, saved; `trimodal train --resume")), "{stopped}");
    // Workers and cache change nothing.
    let continued = good(&["train", "--resume", &parts, "--set", "workers=5", "--set", "cache_bytes=0"]);
    assert!(continued.contains(&format!("continuing after step {stop}")), "{continued}");
    let (expected, found) = (files(&latest(&whole)), files(&latest(&parts)));
    for file in ["model.safetensors", "optimizer.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json", "generation_config.json"] {
        assert!(expected[file] == found[file], "{device} {more:?}: {file} differs");
    }
    let state = |files: &BTreeMap<String, Vec<u8>>| {
        let mut state: serde_json::Value = serde_json::from_slice(&files["trainer_state.json"]).expect("JSON");
        state.as_object_mut().expect("an object").remove("settings"); // workers and cache were changed
        state
    };
    assert_eq!(state(&expected), state(&found));
    assert!(state(&expected)["position"]["epoch"].as_u64() > Some(0), "the run is longer than an epoch");
    let numbers = |run: &str| log(run).iter().map(|line| (line["step"].clone(), line["loss"].clone())).collect::<Vec<_>>();
    assert_eq!(numbers(&parts), numbers(&whole), "the log has neither gaps nor repeats");
    assert_eq!(numbers(&parts).len(), steps.parse::<usize>().expect("a number"));
}

#[test]
fn a_run_goes_on_as_if_it_had_not_stopped() {
    resumes("cpu", &["--set", "rows=512"], 60, 16, 7);
    resumes("cpu", &["--set", "rows=512", "--set", "balance=species"], 60, 16, 7);
    resumes("cpu", &["--set", "rows=512", "--set", "modality_dropout=0.5"], 60, 16, 7);
    resumes("cpu", &["--set", "rows=512", "--set", "accumulate=3", "--set", "recompute=true", "--set", "schedule=linear"], 60, 6, 3);
}

/// What a visit is like is drawn from seed, epoch and row: not from a worker, and not from what was drawn before.
#[test]
fn an_augmented_run_has_the_same_bytes_with_any_number_of_workers_and_after_a_stop() {
    resumes("cpu", &["--set", "rows=512", "--set", "augment=strong"], 60, 16, 7);
    let place = Place::new(60);
    let data = place.path("data");
    let train = |name: &str, more: &[&str]| {
        let run = place.path(name);
        let sets = more.iter().flat_map(|set| ["--set", set]);
        let common = ["train", &data, "--out", &run, "--steps", "10", "--seed", "3", "--device", "cpu", "--no-report", "--set", "rows=512"];
        good(&common.into_iter().chain(sets).collect::<Vec<_>>());
        files(&latest(&run)).remove("model.safetensors").expect("a model")
    };
    let one = train("one", &["augment=light", "workers=1"]);
    assert!(one == train("eight", &["augment=light", "workers=8"]) && one == train("uncached", &["augment=light", "workers=8", "cache_bytes=0"]));
    // Every kind changes something; what is set to 0, and what an older program would do, does not.
    let off = train("off", &[]);
    let mut none = vec!["augment=light".to_string()];
    for (name, _) in trimodal::data::augment::strengths::KEYS {
        none.push(format!("augment.{name}=0"));
    }
    assert!(off == train("none", &none.iter().map(String::as_str).collect::<Vec<_>>()));
    for (i, set) in ["augment.hue=0.3", "augment.shift=0.1", "augment.gain=6", "augment.time_mask=0.3"].into_iter().enumerate() {
        assert!(train(&format!("some{i}"), &[set]) != off, "{set}");
    }
    let changed = bad(2, &["train", "--resume", &place.path("one"), "--set", "augment=off", "--steps", "10"]);
    assert!(changed.contains("data.augment: the run in") && changed.contains("began with \"light\""), "{changed}");
    let refused = bad(2, &["train", &data, "--out", &place.path("x"), "--set", "augment.erase=0.5", "--set", "augment.erase_size=1"]);
    assert!(refused.contains("augment.erase_size: expected 0 to 0.7 (with more, more than half of the picture could be erased), found 1"), "{refused}");
    let unknown = bad(2, &["train", &data, "--out", &place.path("x"), "--set", "augment.rotate=0.5"]);
    assert!(unknown.contains("unknown key \"augment.rotate\": did you mean augment.rotation?"), "{unknown}");
}

/// README promises what the demo ends with at the default seed: rounding must not depend on the processor. These numbers were the same
/// with AVX2 and with AVX-512, on one core and on two, and with each of glibc's versions of its functions.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#[test]
fn every_processor_trains_the_same_bits() {
    if !std::arch::is_x86_feature_detected!("fma") {
        return eprintln!("NOT CHECKED: the bits of a run: this processor has no fused multiply-add");
    }
    let place = tempfile::tempdir().expect("a folder");
    let [data, run] = ["data", "run"].map(|name| place.path().join(name).display().to_string());
    good(&["meadow", &data, "--samples", "300", "--test-samples", "4", "--seed", "1"]);
    good(&["train", &data, "--out", &run, "--steps", "30", "--seed", "1", "--device", "cpu", "--no-report"]);
    let last = log(&run).pop().expect("steps");
    let found = ["loss", "gradient_norm"].map(|key| last[key].as_f64().expect("a number"));
    let meant = "if other bits are meant, see that `trimodal demo` still ends in the right sentence, run `scripts/measure --only demo`, and write them here";
    assert_eq!(found, [3.30903697013855, 3.6763193607330322], "{meant}");
}

#[cfg(feature = "wgpu")]
#[test]
fn a_run_goes_on_as_if_it_had_not_stopped_on_wgpu() {
    let none = trimodal(&["devices"]);
    if !String::from_utf8_lossy(&none.stdout).contains("wgpu") {
        return;
    }
    resumes("wgpu", &["--set", "rows=512"], 60, 10, 4);
}

/// The same as PTX, in the precision that CUDA trains in. An emulated step takes seconds: one layer, and two samples to a step.
#[test]
fn a_run_goes_on_as_if_it_had_not_stopped_in_ptx() {
    let small = ["rows=192", "num_hidden_layers=1", "hidden_size=32", "intermediate_size=64", "num_attention_heads=2", "num_key_value_heads=1", "head_dim=16"];
    let small: Vec<&str> = small.iter().flat_map(|set| ["--set", set]).collect();
    resumes("emulator", &small, 8, 5, 3);
}

/// A file size beyond which the system refuses to write stands for a full disk: no rights are needed to set it.
#[cfg(unix)]
#[test]
fn a_save_that_does_not_fit_leaves_the_run_as_it_was() {
    let place = Place::new(40);
    let (run, data) = (place.path("run"), place.path("data"));
    good(&["train", &data, "--out", &run, "--steps", "4", "--device", "cpu", "--set", "stop_after=2", "--set", "rows=512"]);
    let before = (latest(&run), files(&latest(&run)));
    // Ignored, so that the write fails instead of the process: 100 blocks of 512 or 1,024 bytes.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" train --resume \"$1\"";
    let output = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_trimodal"), &run]).env("NODEVICE_SELECT", "1").output().expect("a shell");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(&run) && message.contains("model.safetensors") && message.contains("cannot write"), "{message}");
    assert!((latest(&run), files(&latest(&run))) == before, "the checkpoint of step 2 is as it was");
    let left: Vec<_> =
        fs::read_dir(&run).expect("the run").map(|entry| name(&entry.expect("an entry").path())).filter(|name| name.contains("partial")).collect();
    assert!(left.len() <= 1, "{left:?}");
    assert!(good(&["train", "--resume", &run]).contains("continuing after step 2"));
}

#[test]
fn a_run_is_not_overwritten_and_not_continued_with_another_config() {
    let place = Place::new(40);
    let (run, data) = (place.path("run"), place.path("data"));
    good(&["train", &data, "--out", &run, "--steps", "4", "--device", "cpu", "--set", "stop_after=2", "--set", "rows=512"]);
    let error = bad(2, &["train", &data, "--out", &run, "--steps", "4", "--device", "cpu"]);
    assert!(error.contains("already holds a run") && error.contains("--resume"), "{error}");
    for (set, named) in [("rows=256", "training.rows"), ("seed=9", "training.seed"), ("steps=8", "training.steps"), ("hidden_size=128", "model.hidden_size")] {
        let error = bad(2, &["train", "--resume", &run, "--set", set]);
        assert!(error.contains(named) && error.contains("began with"), "{error}");
    }
    let error = bad(2, &["train", "--resume", &run, "--set", "learning_rat=1"]);
    assert!(error.contains("did you mean training.learning_rate?"), "{error}");
    assert!(bad(1, &["train", "--resume", &place.path("nowhere")]).contains("no such folder"));
    assert!(bad(2, &["train", &data]).contains("--out"));
    // A line less in the data set is another data set: a warning, and an error for who asks for that.
    let table = place.0.path().join("data/metadata.jsonl");
    let text = fs::read_to_string(&table).expect("the table");
    fs::write(&table, text.split_once('\n').expect("lines").1).expect("to write");
    assert!(bad(1, &["train", "--resume", &run, "--strict-data"]).contains("there were 40 rows, and now there are 39"));
    fs::write(&table, text).expect("to write");
    // A checkpoint that was damaged is named; without digests, as older versions wrote it, with the tensor.
    let file = latest(&run).join("optimizer.safetensors");
    let mut bytes = fs::read(&file).expect("a file");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, &bytes).expect("to write");
    assert!(bad(1, &["train", "--resume", &run]).contains("optimizer.safetensors: not as it was saved"));
    fs::remove_file(latest(&run).join("SHA256SUMS")).expect("to remove");
    assert!(bad(1, &["train", "--resume", &run]).contains("optimizer.safetensors, tensor second."));
}

/// A learning rate at which everything explodes: the run stops, names step, tensor and samples, and saves nothing of it.
#[test]
fn numbers_that_go_bad_stop_the_run_or_are_skipped_and_counted() {
    let place = Place::new(40);
    let (run, data) = (place.path("run"), place.path("data"));
    let common = ["train", data.as_str(), "--steps", "30", "--device", "cpu", "--set", "rows=512", "--set", "save_steps=1", "--set", "warmup=0"];
    let explode = ["--set", "learning_rate=1e30", "--set", "max_norm=0"];
    let error = bad(1, &[&common[..], &explode, &["--out", &run]].concat());
    assert!(error.contains("is not finite") && error.contains("images/"), "{error}");
    if let Ok(text) = fs::read_to_string(Path::new(&run).join("latest")) {
        for (tensor, (.., bytes)) in
            trimodal::files::safetensors::load_safetensors(&Path::new(&run).join(text.trim()).join("model.safetensors")).expect("whole")
        {
            assert!(bytes.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite()), "{tensor}");
        }
    }
    let skipping = place.path("skipping");
    let error = bad(1, &[&common[..], &explode, &["--out", &skipping, "--skip-nonfinite", "3"]].concat());
    assert!(error.contains("is not finite"), "{error}");
    assert_eq!(log(&skipping).iter().filter(|line| line["skipped"].is_string()).count(), 3);
}

#[test]
fn held_out_samples_judge_the_run_and_the_best_checkpoint_stays() {
    let place = Place::new(80);
    let (run, data) = (place.path("run"), place.path("data"));
    let sets = ["rows=512", "held_out=0.2", "eval_steps=4", "keep=1", "learning_rate=0.002", "captions=1"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let printed = good(&[&["train", &data, "--out", &run, "--steps", "12", "--device", "cpu"], &sets[..]].concat());
    assert!(printed.contains("held out: loss") && printed.contains("% of the tokens right"), "{printed}");
    let evaluations: Vec<_> = log(&run).into_iter().filter(|line| line["evaluation"].is_object()).collect();
    assert_eq!(evaluations.iter().map(|line| line["step"].as_u64().expect("a step")).collect::<Vec<_>>(), [4, 8, 12]);
    assert!(evaluations[2]["evaluation"]["loss"].as_f64() < evaluations[0]["evaluation"]["loss"].as_f64());
    assert_eq!(evaluations[0]["evaluation"]["captions"].as_array().map(Vec::len), Some(1));
    let best = fs::read_to_string(Path::new(&run).join("best")).expect("best");
    assert!(Path::new(&run).join(best.trim()).join("model.safetensors").exists());
    for file in ["config.toml", "log.jsonl", "loss.svg", "latest"] {
        assert!(Path::new(&run).join(file).metadata().expect(file).len() > 5, "{file}");
    }
    // Judged by what captions get right, and ended where that gets no better: as it does at this rate.
    let early = place.path("early");
    let sets = [&sets[..], &["--set", "learning_rate=0", "--set", "best_by=species", "--set", "patience=2"]].concat();
    let printed = good(&[&["train", &data, "--out", &early, "--steps", "40", "--device", "cpu", "--no-report"], &sets[..]].concat());
    assert!(printed.contains("% of the captions word for word, ") && printed.contains("species "), "{printed}");
    let said = "ended early, after step 12, and saved: 2 evaluations in a row were not better than that of step 4, species ";
    assert!(printed.contains(said) && printed.contains("--set patience=0` goes on") && printed.contains("step-00000012"), "{printed}");
    assert!(printed.contains("\nbest:  ") && printed.lines().any(|line| line.starts_with("try:   ") && line.contains("step-00000004")), "{printed}");
    let printed = good(&["train", "--resume", &early, "--no-report"]);
    assert!(printed.contains("continuing after step 12") && printed.contains(said), "{printed}");
    assert!(good(&["train", "--resume", &early, "--no-report", "--set", "patience=3"]).contains("ended early, after step 16"));
    for (set, expected) in [
        ("best_by=specis", "evaluation.best_by: expected loss, accuracy, exact or an attribute ("),
        ("balance=specis", "data.balance: expected caption or an attribute ("),
        ("patience=-1", "evaluation.patience = -1"),
    ] {
        let error = bad(2, &["train", &data, "--out", &place.path("wrong"), "--device", "cpu", "--set", "held_out=0.2", "--set", set]);
        assert!(error.contains(expected) && !Path::new(&place.path("wrong")).join("log.jsonl").exists(), "{error}");
    }
    // What is printed can be given again, and says the same.
    let config = Path::new(&run).join("config.toml");
    assert_eq!(good(&["config", config.to_str().expect("UTF-8")]), fs::read_to_string(&config).expect("config.toml"));
    assert!(good(&["config", "small"]).contains("hidden_size = 768"));
    assert!(bad(2, &["config", "tiny"]).contains("unknown config \"tiny\": expected meadow, meadow-wide, real, small, large"));
}
