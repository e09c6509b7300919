//! A run that will fail fails before its first step, a run that fails later is saved first, and what was saved and trained on is still the same
//! when it is continued.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use trimodal::data::{Picture, meadow};

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NODEVICE_SELECT", "1").env("NO_COLOR", "1").output().expect("the program starts")
}

/// What it printed, and what it said on standard error.
fn good(arguments: &[&str]) -> (String, String) {
    let output = trimodal(arguments);
    let [printed, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    assert!(output.status.success(), "{arguments:?}: {said}");
    (printed, said)
}

fn bad(code: i32, arguments: &[&str]) -> String {
    let output = trimodal(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    message
}

/// A folder with a table of texts, and paths in it.
struct Place(tempfile::TempDir);

impl Place {
    fn of(lines: &[String]) -> Self {
        let place = Place(tempfile::tempdir().expect("a folder"));
        fs::create_dir(place.0.path().join("data")).expect("a folder");
        place.table(lines);
        place
    }

    fn table(&self, lines: &[String]) {
        fs::write(self.0.path().join("data/metadata.jsonl"), lines.join("\n") + "\n").expect("to write");
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Trains on it: texts alone, a small step.
    fn train(&self, more: &[&str]) -> Vec<String> {
        let (data, run) = (self.path("data"), self.path("run"));
        ["train", &data, "--out", &run, "--device", "cpu", "--no-report", "--set", "rows=128"].iter().chain(more).map(|s| s.to_string()).collect()
    }

    fn latest(&self) -> PathBuf {
        let run = self.0.path().join("run");
        run.join(fs::read_to_string(run.join("latest")).expect("latest").trim())
    }
}

fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn row(text: &str, split: &str) -> String {
    serde_json::json!({ "text": text, "split": split }).to_string()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|i| row(["a red cat", "a grey dog", "a white owl"][i % 3], "train")).collect()
}

#[test]
fn a_row_that_is_too_long_is_found_before_the_first_step() {
    let long = "word ".repeat(200);
    for split in ["train", "val"] {
        let mut rows = [texts(30), vec![row("a red cat", "val"); 4]].concat();
        rows.push(row(&long, split));
        let place = Place::of(&rows);
        let train = place.train(&["--steps", "6", "--set", "eval_split=val"]);
        let message = bad(1, &strs(&train));
        assert!(message.contains("metadata.jsonl, line 35: a sample of ") && message.contains("is too long: the model takes 128"), "{message}");
        assert!(!Path::new(&place.path("run")).join("log.jsonl").exists(), "nothing was begun");
        let skipping = [&strs(&train)[..], &["--on-bad-sample", "skip"]].concat();
        let (printed, said) = good(&skipping);
        assert!(said.contains("warning: 1 of 35 rows cannot be used and will be skipped: ") && said.contains("line 35"), "{said}");
        assert!(printed.contains("trained in") && place.latest().join("model.safetensors").exists(), "{printed}");
        // `data` judges by the same limits, of whatever config.
        let found = bad(1, &["data", &place.path("data")]);
        assert!(found.contains("1 row is broken") && found.contains("line 35: a sample of ") && found.contains("the model takes 128"), "{found}");
        let config = place.path("longer.toml");
        fs::write(&config, "[model]\nmax_position_embeddings = 2048\n[training]\nrows = 4096\n").expect("to write");
        good(&["data", &place.path("data"), "--config", &config]);
        fs::write(&config, "[model]\nmax_position_embeddings = 2048\n[training]\nrows = 100\n").expect("to write");
        let found = bad(1, &["data", &place.path("data"), "--config", &config]);
        assert!(found.contains("the model takes 100 (picture, sound and words together; training.rows)"), "{found}");
    }
    // A line that is not a row counts once.
    let place = Place::of(&[texts(30), vec!["not JSON".into()]].concat());
    let (_, said) = good(&strs(&place.train(&["--steps", "6", "--on-bad-sample", "skip"])));
    assert!(said.contains("1 bad sample was skipped") && said.contains("line 31"), "{said}");
    // Where none is left there is nothing to skip to.
    let place = Place::of(&[texts(30), vec![row(&long, "val")]].concat());
    let message = bad(1, &strs(&place.train(&["--steps", "6", "--set", "eval_split=val", "--on-bad-sample", "skip"])));
    assert!(message.contains("line 31") && !place.0.path().join("run/log.jsonl").exists(), "{message}");
}

#[test]
fn whatever_a_table_tells_is_checked_before_the_first_step() {
    let place = Place::of(&texts(10));
    let with = |more: &[&str]| [texts(10), more.iter().map(|line| line.to_string()).collect()].concat();
    for (line, expected) in [
        (r#"{"image": "gone.png", "text": "a cat", "split": "train"}"#, "there is no file \"gone.png\""),
        (r#"{"text": "an <image> of a cat", "split": "train"}"#, "special token <image>"),
        (r#"{"image": "cat.png", "text": "a cat", "split": "val"}"#, "no vision_config"),
        (r#"{"file_name": "cat.png", "text": "a cat", "split": "val"}"#, "no vision_config"),
        (r#"{"prompt": "what?", "text": " ", "split": "train"}"#, "no `text`"),
    ] {
        fs::write(place.0.path().join("data/cat.png"), meadow::png(&Picture { width: 6, height: 6, rgb: vec![9; 108] }).unwrap()).expect("to write");
        place.table(&with(&[line, r#"{"text": "a cat", "split": "val"}"#]));
        let train = place.train(&["--steps", "3", "--set", "eval_split=val"]);
        let message = bad(1, &strs(&train));
        assert!(message.contains("metadata.jsonl, line 11") && message.contains(expected), "{line}: {message}");
        assert!(!place.0.path().join("run/log.jsonl").exists());
    }
}

/// What only decoding shows comes late; what was learned until then is saved.
#[test]
fn a_bad_sample_under_way_is_not_the_end_of_what_was_learned() {
    let place = Place(tempfile::tempdir().expect("a folder"));
    good(&["meadow", &place.path("data"), "--samples", "60", "--test-samples", "4", "--seed", "5"]);
    let mut pictures: Vec<_> = fs::read_dir(place.path("data/images")).expect("pictures").map(|entry| entry.expect("an entry").path()).collect();
    pictures.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("train-")));
    pictures.sort();
    let whole = fs::read(&pictures[30]).expect("a picture");
    fs::write(&pictures[30], &whole[..whole.len() / 2]).expect("to write");
    let train = place.train(&["--steps", "200", "--set", "save_seconds=0", "--set", "queue=1", "--seed", "2", "--set", "cache_bytes=0"]);
    let train: Vec<String> = train.iter().map(|argument| argument.replace("rows=128", "rows=256")).collect();
    let message = bad(1, &strs(&train));
    assert!(message.contains("cut off") && message.contains("what was learned until the error is in "), "{message}");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(place.latest().join("trainer_state.json")).expect("a state")).expect("JSON");
    let step = state["step"].as_u64().expect("a step");
    assert!(step > 0, "the bad sample was in the first batch: choose another seed");
    fs::write(&pictures[30], &whole).expect("to write");
    let (printed, _) = good(&["train", "--resume", &place.path("run"), "--set", &format!("stop_after={}", step + 3), "--no-report"]);
    assert!(printed.contains(&format!("continuing after step {step}")) && printed.contains(&format!("stopped after step {}", step + 3)), "{printed}");
}

#[test]
fn samples_to_evaluate_are_drawn_from_the_whole_split() {
    // Sorted, as tables often are.
    let words = ["one", "two", "three", "four"];
    let held: Vec<String> = (0..200).map(|i| row(&format!("a {} cat", words[i / 50]), "val")).collect();
    let place = Place::of(&[texts(20), held].concat());
    let sets = ["--set", "eval_split=val", "--set", "eval_steps=2", "--set", "eval_samples=40", "--set", "captions=40"];
    good(&[&strs(&place.train(&["--steps", "6", "--set", "stop_after=4"]))[..], &sets].concat());
    good(&["train", "--resume", &place.path("run"), "--no-report"]);
    let log = fs::read_to_string(place.path("run/log.jsonl")).expect("a log");
    let entries = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let truths: Vec<Vec<String>> = entries
        .filter_map(|line| line["evaluation"]["captions"].as_array().cloned())
        .map(|captions| captions.iter().map(|c| c["truth"].as_str().expect("a truth").to_string()).collect())
        .collect();
    assert_eq!(truths.len(), 3);
    assert!(truths.iter().all(|each| *each == truths[0]), "the same each time, before and after it was continued");
    let counts = words.map(|word| truths[0].iter().filter(|truth| truth.contains(word)).count());
    assert!(counts.iter().all(|count| (3..=18).contains(count)) && counts.iter().sum::<usize>() == 40, "{counts:?}");
}

#[test]
fn a_checkpoint_that_was_damaged_or_mixed_up_is_refused_by_name() {
    let place = Place::of(&texts(30));
    good(&strs(&place.train(&["--steps", "8", "--set", "stop_after=4", "--set", "save_steps=2"])));
    let (run, checkpoint) = (place.path("run"), place.latest());
    let earlier = Path::new(&run).join("step-00000002");
    let files: BTreeMap<String, Vec<u8>> = fs::read_dir(&checkpoint)
        .expect("a checkpoint")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(&path).expect("a file")))
        .collect();
    assert!(files.contains_key("SHA256SUMS") && files.len() >= 6, "{:?}", files.keys());
    // The list is what other programs read, too.
    if let Ok(checked) = Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&checkpoint).output() {
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    let listed = String::from_utf8_lossy(&files["SHA256SUMS"]).lines().count();
    assert_eq!(listed, files.len() - 1, "every file is listed");
    let refused = |name: &str, bytes: &[u8]| {
        let path = checkpoint.join(name);
        fs::write(&path, bytes).expect("to write");
        let messages = [
            bad(1, &["train", "--resume", &run]),
            bad(1, &["describe", &run, "--prompt", "a", "--device", "cpu", "--verify"]),
            bad(1, &["eval", &run, &place.path("data"), "--device", "cpu", "--verify"]),
        ];
        for message in messages {
            assert!(message.contains(&format!("{name}: not as it was saved")), "{name}: {message}");
        }
        fs::write(&path, &files[name]).expect("to write");
    };
    for (name, bytes) in files.iter().filter(|(name, _)| *name != "SHA256SUMS") {
        let mut flipped = bytes.clone();
        let last = flipped.len() - 5;
        flipped[last] ^= 1;
        refused(name, &flipped);
    }
    // Whole files, of another step.
    for name in ["optimizer.safetensors", "trainer_state.json", "model.safetensors"] {
        refused(name, &fs::read(earlier.join(name)).expect("a file"));
    }
    let config = String::from_utf8(files["config.json"].clone()).expect("UTF-8");
    let other = config.replace("10000.0", "20000.0");
    assert_ne!(config, other);
    refused("config.json", other.as_bytes());
    // As it was, it is accepted.
    let (_, said) = good(&["describe", &run, "--prompt", "a", "--device", "cpu", "--verify"]);
    assert!(said.contains(&format!("{listed} files are as they were saved")), "{said}");
    // A checkpoint of an older version has no list, and a log may be missing: both are said, and it goes on.
    fs::remove_file(checkpoint.join("SHA256SUMS")).expect("to remove");
    fs::remove_file(Path::new(&run).join("log.jsonl")).expect("to remove");
    assert!(bad(1, &["describe", &run, "--prompt", "a", "--device", "cpu", "--verify"]).contains("no SHA256SUMS to verify it by"));
    let (printed, said) = good(&["train", "--resume", &run, "--no-report"]);
    assert!(
        said.contains("has no SHA256SUMS: an older version wrote it, so neither its files nor its data are checked") && said.contains("log.jsonl is missing"),
        "{said}"
    );
    assert!(printed.contains("continuing after step 4"), "{printed}");
}

#[test]
fn a_data_set_that_has_changed_is_said() {
    let rows: Vec<String> = (0..12).map(|i| row(&format!("a {} cat", ["red", "grey", "white", "blue"][i % 4]), "train")).collect();
    let place = Place::of(&rows);
    good(&strs(&place.train(&["--steps", "40", "--set", "stop_after=2"])));
    let run = place.path("run");
    let mut at = 2;
    let mut resumed = |expected: Option<&str>| {
        if let Some(expected) = expected {
            let message = bad(1, &["train", "--resume", &run, "--strict-data"]);
            assert!(message.contains(expected) && message.contains("strict_data"), "{message}");
        }
        at += 1;
        let (_, said) = good(&["train", "--resume", &run, "--set", &format!("stop_after={at}"), "--no-report"]);
        match expected {
            None => assert_eq!(said, ""),
            Some(expected) => assert!(said.contains("warning: ") && said.contains("the data set is not as it was") && said.contains(expected), "{said}"),
        }
    };
    resumed(None);
    let mut rotated = rows.clone();
    rotated.rotate_left(1);
    place.table(&rotated);
    resumed(Some("captions or prompts at other rows than before (first in row 1)"));
    resumed(None); // it is said once: what is trained on now is what the next checkpoint knows
    place.table(&[&rotated[..11], &[row("a green cat", "train")]].concat());
    resumed(Some("other captions or prompts (first in row 12)"));
    resumed(None);
    place.table(&[&rotated[..], &[row("a green cat", "train")]].concat());
    resumed(Some("there were 12 rows, and now there are 13"));
    resumed(None);
}

#[test]
fn a_replaced_picture_is_noticed() {
    let place = Place(tempfile::tempdir().expect("a folder"));
    good(&["meadow", &place.path("data"), "--samples", "20", "--test-samples", "4", "--seed", "5"]);
    let train: Vec<String> = place.train(&["--steps", "9", "--set", "stop_after=1"]).iter().map(|a| a.replace("rows=128", "rows=256")).collect();
    good(&strs(&train));
    let picture = fs::read_dir(place.path("data/images"))
        .expect("pictures")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.display().to_string().contains("train-"))
        .expect("one to train on");
    fs::write(&picture, meadow::png(&Picture { width: 48, height: 48, rgb: vec![7; 48 * 48 * 3] }).unwrap()).expect("to write");
    let message = bad(1, &["train", "--resume", &place.path("run"), "--strict-data"]);
    assert!(message.contains("files of other lengths (first in row ") && message.contains("files written since"), "{message}");
}

#[test]
fn a_model_that_cannot_fit_is_refused_at_once() {
    let place = Place::of(&texts(10));
    for sizes in
        [["hidden_size=65536", "num_hidden_layers=1000", "intermediate_size=65536"], ["hidden_size=4096", "num_hidden_layers=4000", "intermediate_size=12288"]]
    {
        let sets: Vec<&str> = sizes.iter().flat_map(|set| ["--set", set]).collect();
        let begin = Instant::now();
        let message = bad(1, &[&strs(&place.train(&["--steps", "1"]))[..], &sets].concat());
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let number = |after: &str| -> u64 {
            let digits = message.split(after).nth(1).unwrap_or_else(|| panic!("{message}")).trim_start();
            digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{message}"))
        };
        let (needed, free) = (number("out of memory: "), message.split(" free").next().and_then(|m| m.rsplit(' ').next()).and_then(|n| n.parse().ok()));
        assert!(needed > free.unwrap_or_else(|| panic!("{message}")), "{message}");
        assert!(!Path::new(&place.path("run")).exists(), "nothing was begun");
    }
}

/// Words of Meadow's in somebody else's captions are words; what a data set declares is counted.
#[test]
fn attributes_belong_to_a_data_set() {
    let place = Place::of(&texts(30));
    good(&strs(&place.train(&["--steps", "3"])));
    let (run, data) = (place.path("run"), place.path("data"));
    let eval = |more: &[&str]| good(&[&["eval", &run, &data, "--device", "cpu"][..], more].concat()).0;
    let none = eval(&[]);
    assert!(!none.contains("species") && !none.contains("colour"), "{none}");
    assert!(none.contains("train, caption by caption") && none.contains("a red cat"), "{none}");
    let file = place.path("attributes.json");
    fs::write(&file, r#"{"hue": ["red", "grey", "white"], "kind": {"mammal": ["cat", "dog"], "bird": ["owl"]}}"#).expect("to write");
    let json = place.path("scores.json");
    let own = eval(&["--attributes", &file, "--json", &json]);
    assert!(own.contains("hue") && own.contains("kind") && !own.contains("caption by caption"), "{own}");
    let scores: serde_json::Value = serde_json::from_slice(&fs::read(&json).expect("JSON")).expect("JSON");
    assert!((scores["splits"]["train"]["most_frequent_answer"]["kind"].as_f64().expect("a share") - 2.0 / 3.0).abs() < 1e-9, "{scores}");
    // Declared by the rows themselves.
    let declared = |i: usize| ["animal", "animal", "bird"][i % 3];
    let rows: Vec<String> = texts(30)
        .iter()
        .enumerate()
        .map(|(i, line)| line.replace("\"split\"", &format!("\"attributes\": {{\"category\": \"{}\"}}, \"split\"", declared(i))))
        .collect();
    place.table(&rows);
    let own = eval(&["--json", &json]);
    assert!(own.contains("category"), "{own}");
    let scores: serde_json::Value = serde_json::from_slice(&fs::read(&json).expect("JSON")).expect("JSON");
    let split = &scores["splits"]["train"];
    assert!((split["most_frequent_answer"]["category"].as_f64().expect("a share") - 2.0 / 3.0).abs() < 1e-9 && split["category"].is_number(), "{scores}");
    good(&["report", &run, "--device", "cpu"]);
    let page = fs::read_to_string(place.path("run/report.html")).expect("a report");
    assert!(page.contains("category") && page.contains("What it confuses with what"));
    // Meadow's come with Meadow's own folder.
    good(&["meadow", &place.path("meadow"), "--samples", "4", "--test-samples", "3"]);
    let marker = fs::read_to_string(place.path("meadow/meadow.json")).expect("meadow.json");
    assert!(marker.contains("\"species\":[\"cat\""), "{marker}");
}

#[test]
fn what_is_cut_is_said_before_training() {
    let place = Place::of(&[]);
    let data = place.0.path().join("data");
    fs::write(data.join("wide.png"), meadow::png(&Picture { width: 12, height: 6, rgb: vec![9; 216] }).unwrap()).expect("to write");
    fs::write(data.join("square.png"), meadow::png(&Picture { width: 6, height: 6, rgb: vec![9; 108] }).unwrap()).expect("to write");
    fs::write(data.join("long.wav"), meadow::wav(&[1000; 40_000]).unwrap()).expect("to write");
    fs::write(data.join("short.wav"), meadow::wav(&[1000; 8_000]).unwrap()).expect("to write");
    let line = |picture: &str, sound: &str| serde_json::json!({ "file_name": picture, "audio": sound, "text": "a cat" }).to_string();
    place.table(&[line("wide.png", "long.wav"), line("square.png", "short.wav"), line("square.png", "short.wav")]);
    let train: Vec<String> = place.train(&["--steps", "1"]).iter().map(|a| a.replace("rows=128", "rows=256")).collect();
    for printed in [good(&["data", &place.path("data")]).0, good(&strs(&train)).0] {
        assert!(printed.contains("1 of 3 sounds is cut to clip_seconds = 0.5: the longest has 2.5 s (--set clip_seconds=2.5"), "{printed}");
        assert!(printed.contains("1 of 3 pictures is cropped to a square: 50 %") && printed.contains("--set fit=pad"), "{printed}");
    }
}
