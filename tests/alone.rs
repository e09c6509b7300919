//! Pictures and sounds alone: what a model says to one that it never met, that it says why, and how it learns it all the same. And the split that
//! judges a run because of its name.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NODEVICE_SELECT", "1").output().expect("the program starts")
}

/// The exit code, what was printed, and what was said beside it.
fn said(arguments: &[&str]) -> (i32, String, String) {
    let output = trimodal(arguments);
    let [printed, beside] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    (output.status.code().expect("an exit code"), printed, beside)
}

fn good(arguments: &[&str]) -> (String, String) {
    let (code, printed, beside) = said(arguments);
    assert_eq!(code, 0, "{arguments:?}: {printed}{beside}");
    (printed, beside)
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Meadow of which only the rows with a picture and a sound are trained on; the split `iid` has each of its samples three times: whole, as
    /// a picture alone (`picture`) and as a sound alone (`sound`).
    fn pairs(samples: usize) -> Self {
        let place = Place::new();
        good(&["meadow", &place.path("data"), "--samples", &samples.to_string(), "--test-samples", "60", "--seed", "5"]);
        let table = place.0.path().join("data/metadata.jsonl");
        let mut rows = Vec::new();
        for line in fs::read_to_string(&table).expect("the table").lines() {
            let row: Value = serde_json::from_str(line).expect("JSON");
            if !row["file_name"].is_string() || !row["audio"].is_string() || !["train", "iid"].contains(&row["split"].as_str().expect("a split")) {
                continue;
            }
            if row["split"] == "iid" {
                let (seen, heard) = row["text"].as_str().expect("a caption").rsplit_once(' ').expect("words");
                rows.push(serde_json::json!({ "file_name": row["file_name"], "text": seen, "split": "picture" }));
                rows.push(serde_json::json!({ "audio": row["audio"], "text": format!("something {heard}"), "split": "sound" }));
            }
            rows.push(row);
        }
        fs::write(&table, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).expect("to write");
        place
    }

    /// Texts alone, one row for each of these splits, over and over; a step takes no time.
    fn texts(rows: &[(&str, &str)]) -> Self {
        let place = Place::new();
        fs::create_dir(place.path("data")).expect("to create");
        let line = |(split, text): &(&str, &str)| serde_json::json!({ "text": text, "split": split }).to_string() + "\n";
        fs::write(place.path("data/metadata.jsonl"), rows.iter().map(line).collect::<String>()).expect("to write");
        place
    }

    fn train<'a>(&'a self, run: &'a str, more: &[&'a str]) -> (String, String) {
        let (data, run) = (self.path("data"), self.path(run));
        good(&[&["train", &data, "--out", &run, "--device", "cpu", "--seed", "1"], more].concat())
    }

    fn model(&self, run: &str) -> PathBuf {
        let run = self.0.path().join(run);
        run.join(fs::read_to_string(run.join("latest")).expect("latest").trim())
    }
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

fn log(run: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(run).join("log.jsonl")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Both learn pairs alone. One of them is shown half of some, and only it knows what to say to a picture or a sound alone; what it says to both
/// stays right.
#[test]
fn with_modality_dropout_a_model_of_pairs_knows_a_picture_alone() {
    let place = Place::pairs(1200);
    let mut figures = Vec::new();
    for (run, share) in [("without", "modality_dropout=0"), ("with", "modality_dropout=0.2")] {
        let (printed, _) = place.train(run, &["--steps", "500", "--no-report", "--set", "rows=1280", "--set", share]);
        let all_have_both = "every row has both a picture and a sound: the model will not know what to say to one of them alone (--set modality_dropout=0.2 hides one of the two in that share of the visits)";
        assert_eq!(printed.contains(all_have_both), run == "without", "{printed}");
        let hides = "in 20.0 % of the visits of rows with both, the picture or the sound is hidden (training.modality_dropout); \
                     the caption leaves out species, colour, texture, pose, place with the picture, and action with the sound";
        assert_eq!(printed.contains(hides), run == "with", "{printed}");
        assert_eq!(printed.contains("(it never met a picture without a sound, and it never met a sound without a picture: "), run == "without", "{printed}");
        let met = json(place.model(run).join("config.json"))["met"].clone();
        let count = |kind: &str| met[kind].as_u64().expect("a count");
        let (alone, both) = (count("picture") + count("sound"), count("both"));
        if run == "without" {
            assert!(alone == 0 && both > 2000 && count("words") == 0, "{met}");
        } else {
            let share = alone as f64 / (alone + both) as f64;
            let (pictures, sounds) = (count("picture") as f64, count("sound") as f64);
            assert!((share - 0.2).abs() < 0.02 && (pictures / sounds - 1.0).abs() < 0.2, "{met}");
        }
        let unmet = "warning: 60 samples are of a kind that this model was not trained on: it never met a picture without a sound";
        let mut splits = serde_json::Map::new();
        for split in ["iid", "picture", "sound"] {
            let out = place.path("scores.json");
            let (_, warned) = good(&["eval", &place.path(run), &place.path("data"), "--device", "cpu", "--split", split, "--json", &out]);
            assert_eq!(warned.contains(unmet), run == "without" && split == "picture", "{warned}");
            let scores = json(out);
            assert_eq!(scores["met"], met);
            splits.insert(split.into(), scores["splits"][split].clone());
        }
        figures.push(Value::Object(splits));
    }
    let [without, with] = &figures[..] else { unreachable!("two runs") };
    let of = |scores: &Value, split: &str, what: &str| scores[split][what].as_f64().expect("a number");
    let line = |split: &str| {
        let each = ["loss", "exact", "species", "colour", "texture", "pose", "place", "action"];
        let figure = |scores: &Value, what: &str| scores[split][what].as_f64().map_or("–".into(), |value| format!("{value:.3}"));
        println!("{split:8} {}", each.map(|what| format!("{what} {} {}", figure(without, what), figure(with, what))).join(", "));
    };
    ["iid", "picture", "sound"].into_iter().for_each(line);
    // A picture alone: the words are found, and the end of what can be seen.
    assert!(of(with, "picture", "loss") < 0.6 && of(without, "picture", "loss") > 2.0);
    for attribute in ["pose", "place"] {
        assert!(of(with, "picture", attribute) >= 0.85, "{attribute}");
    }
    assert!(of(with, "picture", "colour") > of(without, "picture", "colour") + 0.2);
    assert!(of(with, "sound", "action") >= 0.9);
    // And both together are no worse by more than what fewer visits make.
    for attribute in ["pose", "place", "action"] {
        assert!(of(with, "iid", attribute) >= of(without, "iid", attribute) - 0.05, "{attribute}");
    }
    assert!(of(with, "iid", "loss") < of(without, "iid", "loss") + 0.15);
}

/// A model for which every token ends the text says nothing to anything.
#[test]
fn who_says_nothing_says_why() {
    let place = Place::pairs(60);
    place.train("run", &["--steps", "2", "--no-report", "--set", "rows=512"]);
    let (model, silent) = (place.model("run"), place.0.path().join("silent"));
    fs::create_dir(&silent).expect("to create");
    for file in ["model.safetensors", "tokenizer.json"] {
        fs::copy(model.join(file), silent.join(file)).expect("to copy");
    }
    let mut config = json(model.join("config.json"));
    config["eos_token_id"] = (0..config["vocab_size"].as_u64().expect("a size")).collect::<Vec<_>>().into();
    let write = |config: &Value| fs::write(silent.join("config.json"), config.to_string()).expect("to write");
    write(&config);
    let (silent, picture, sound) = (place.path("silent"), place.path("data/images/iid-000000.png"), place.path("data/audio/iid-000000.wav"));
    let describe = |more: &[&str]| said(&[&["describe", &silent, "--device", "cpu"], more].concat());
    let nothing = ": the model says nothing: it ended at once";
    let (code, printed, beside) = describe(&["--image", &picture]);
    assert_eq!((code, printed.as_str()), (1, ""), "{beside}");
    assert_eq!(beside, format!("warning: {picture}{nothing}; it never met a picture without a sound (training.modality_dropout shows it one)\n"));
    let (code, printed, beside) = describe(&["--audio", &sound]);
    assert!(code == 1 && printed.is_empty() && beside.contains("it never met a sound without a picture"), "{beside}");
    // Both it has met: why it is silent nobody knows.
    let (code, printed, beside) = describe(&["--image", &picture, "--audio", &sound]);
    assert_eq!((code, printed, beside), (1, String::new(), format!("warning: {picture} + {sound}{nothing}\n")));
    let (code, printed, _) = describe(&["--image", &picture, "--image", &place.path("data/images/iid-000001.png")]);
    assert_eq!((code, printed), (1, format!("{picture}: (nothing)\n{}: (nothing)\n", place.path("data/images/iid-000001.png"))));
    let (code, printed, _) = describe(&["--image", &picture, "--json"]);
    let document: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((code, &document["text"], &document["finish"]), (1, &"".into(), &"end".into()));
    assert_eq!(document["never_met"], "it never met a picture without a sound");
    // Words that the question begins with are there in any case.
    let (code, printed, _) = describe(&["--image", &picture, "--prompt", "a"]);
    assert_eq!((code, printed.as_str()), (0, "a\n"));
    // A model of which nothing is known gives no reasons, and is read.
    config.as_object_mut().expect("an object").remove("met");
    write(&config);
    let (code, _, beside) = describe(&["--image", &picture]);
    assert_eq!((code, beside), (1, format!("warning: {picture}{nothing}\n")));
    // What it met is kept by whoever trains on.
    let text = place.path("run");
    let (printed, _) = place.train("next", &["--from", &text, "--steps", "1", "--no-report", "--set", "rows=512"]);
    assert!(printed.contains("every row has both a picture and a sound"), "{printed}");
    let [before, after] = ["run", "next"].map(|run| json(place.model(run).join("config.json"))["met"]["both"].as_u64().expect("a count"));
    assert!(after > before && before > 0, "{before} {after}");
}

#[test]
fn a_modality_that_cannot_be_hidden_and_words_that_nobody_declares_are_said() {
    let place = Place::pairs(40);
    let short = ["--steps", "1", "--no-report", "--set", "rows=512", "--set", "modality_dropout=0.5"];
    let (code, _, wrong) = said(&[&["train", &place.path("data"), "--out", &place.path("x"), "--set", "heard_attributes=acton"], &short[..]].concat());
    assert!(code == 2 && wrong.contains("data.heard_attributes: there is no attribute \"acton\": expected some of species, colour"), "{wrong}");
    let (code, _, wrong) = said(&["train", &place.path("data"), "--out", &place.path("x"), "--set", "modality_dropout=1.5"]);
    assert!(code == 2 && wrong.contains("training.modality_dropout: expected 0 to 1, found 1.5"), "{wrong}");
    let (printed, _) = place.train("named", &[&short[..], &["--set", "heard_attributes=action, pose"]].concat());
    assert!(printed.contains("; the caption leaves out action, pose with the sound\n"), "{printed}");
    // Not Meadow's any more: it declares nothing.
    fs::remove_file(place.0.path().join("data").join("meadow.json")).expect("to remove");
    let (printed, _) = place.train("undeclared", &short);
    assert!(printed.contains("only the hidden one could tell is not known (data.seen_attributes, data.heard_attributes): all are learned"), "{printed}");
    let place = Place::texts(&[("train", "a cat"); 20]);
    let (_, warned) = place.train("texts", &short);
    assert!(warned.contains("warning: training.modality_dropout = 0.5: no row has both a picture and a sound, so nothing is hidden"), "{warned}");
}

/// `validation` judges a run while it trains, `test` where there is no other; both without being asked, and neither is trained on.
#[test]
fn a_split_for_evaluation_is_used_without_being_asked() {
    let train = [("train", "a red cat"), ("train", "a grey dog"), ("train", "a white owl")].repeat(10);
    let with = |more: &[(&'static str, &'static str)]| Place::texts(&[&train[..], more].concat());
    let short = ["--steps", "4", "--no-report", "--set", "rows=64", "--set", "eval_steps=2"];
    let evaluations = |place: &Place, run: &str| log(&place.path(run)).into_iter().filter(|line| line["evaluation"].is_object()).collect::<Vec<_>>();
    // Without captions it cannot be judged: such a row is left out, as is one that makes no sense.
    let long: &'static str = Box::leak("cat ".repeat(200).into_boxed_str());
    let more = [("test", "a red cat"), ("Dev", "a grey dog"), ("validation", "a white owl"), ("validation", " "), ("validation", long)];
    let place = with(&more);
    let (printed, warned) = place.train("run", &short);
    let note = "evaluated on the split \"validation\" (3 rows), which is never trained on (--set eval_split=NAME takes another, --set eval_split= none); \
                others are judged at the end, in the report: \"Dev\" (1 row), \"test\" (1 row)";
    assert!(printed.contains(note) && printed.contains("training ") && printed.contains(" on 30 samples (1 held out)"), "{printed}");
    assert!(warned.contains("warning: 1 of the 2 rows to evaluate on cannot be evaluated and are left out: ") && warned.contains("line 35"), "{warned}");
    let found = evaluations(&place, "run");
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|line| line["evaluation"]["samples"] == 1 && line["evaluation"]["captions"][0]["truth"] == "a white owl"), "{found:?}");
    assert!(place.0.path().join("run/best").exists());
    // It is continued as it was.
    let (printed, _) = good(&["train", "--resume", &place.path("run"), "--no-report"]);
    assert!(printed.contains("evaluated on the split \"validation\""), "{printed}");
    // The user's choice wins.
    for (set, count, samples) in [("eval_split=", 0, 0), ("eval_split=test", 2, 1), ("held_out=0.3", 2, 0)] {
        let run = set.replace(['=', '.'], "-");
        let (printed, _) = place.train(&run, &[&short[..], &["--set", set]].concat());
        assert!(!printed.contains("evaluated on the split"), "{set}: {printed}");
        let found = evaluations(&place, &run);
        assert_eq!(found.len(), count, "{set}");
        assert!(samples == 0 || found[0]["evaluation"]["samples"] == samples, "{set}: {found:?}");
    }
    let place = with(&[("test", "a red cat"), ("extra", "a grey dog")]);
    let (printed, _) = place.train("run", &[&short[..], &["--set", "best_by=exact"]].concat());
    assert!(printed.contains("evaluated on the split \"test\" (1 row)") && printed.contains("on 30 samples (1 held out)"), "{printed}");
    // Where there is no such split, there is nothing to evaluate, and what needs it is refused.
    let place = with(&[("extra", "a grey dog"), ("test", " ")]);
    let (printed, _) = place.train("run", &short);
    assert!(!printed.contains("evaluated on") && evaluations(&place, "run").is_empty(), "{printed}");
    let (code, _, wrong) = said(&["train", &place.path("data"), "--out", &place.path("x"), "--device", "cpu", "--set", "best_by=exact"]);
    assert!(code == 2 && wrong.contains("evaluation.best_by: expected with it evaluation.eval_split or evaluation.held_out"), "{wrong}");
    let (code, _, wrong) = said(&["train", &place.path("data"), "--out", &place.path("x"), "--set", "batch=8"]);
    assert!(code == 2 && wrong.contains("unknown key \"batch\": here it is training.rows, counted in rows of the token matrix"), "{wrong}");
}

/// `auto` is no device: what it became is printed, written down and reported.
#[test]
fn the_device_that_auto_became_is_named() {
    let place = Place::texts(&[("train", "a red cat")].repeat(20));
    let run = place.path("run");
    let (printed, _) = good(&["train", &place.path("data"), "--out", &run, "--steps", "2", "--set", "rows=64"]);
    let state = json(place.model("run").join("trainer_state.json"));
    assert_eq!(state["settings"]["training"]["device"], "auto");
    let [Value::String(device)] = state["devices"].as_array().expect("devices").as_slice() else { panic!("{state}") };
    assert!(device.contains(" (") && device.ends_with(')') && !device.contains("auto"), "{device}");
    assert!(printed.contains(&format!("on {device} in ")), "{printed}");
    let report = fs::read_to_string(Path::new(&run).join("report.html")).expect("a report");
    let escaped = device.replace('&', "&amp;").replace('<', "&lt;");
    assert!(report.contains(&format!("{escaped} in ")) && !report.contains("auto in "), "the report names {device}");
}
