//! `trimodal data` as people run it.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use trimodal::data::{Picture, meadow};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Three samples: a picture of 12 × 6 pixels, half a second of sound with it, and words only.
fn data(dir: &Path) {
    fs::write(dir.join("a.png"), meadow::png(&Picture { width: 12, height: 6, rgb: vec![9; 216] }).unwrap()).unwrap();
    fs::write(dir.join("b.wav"), meadow::wav(&[1000; 8_000]).unwrap()).unwrap();
    let table = "{\"file_name\": \"a.png\", \"text\": \"a grey cat\", \"split\": \"train\"}\n\
                 {\"file_name\": \"a.png\", \"audio\": \"b.wav\", \"text\": \"a grey cat purring\", \"prompt\": \"what?\", \"split\": \"train\"}\n\
                 {\"text\": \"only words\", \"split\": \"test\"}\n";
    fs::write(dir.join("metadata.jsonl"), table).unwrap();
}

#[test]
fn it_counts_measures_and_draws() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let (json, sheet) = (dir.path().join("report.json"), dir.path().join("sheet.png"));
    let out = run(&["data", dir.path().to_str().unwrap(), "--json", json.to_str().unwrap(), "--out", sheet.to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let said = text(&out.stdout);
    for part in ["train", "test", "picture width, pixels", "tokens per sample", "1 sound at 16,000 Hz", "contact sheet"] {
        assert!(said.contains(part), "{part:?} in:\n{said}");
    }
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["kind"], "table");
    assert_eq!(report["all"], serde_json::json!({ "samples": 3, "pictures": 2, "sounds": 1, "texts": 3, "both": 1, "prompts": 1 }));
    assert_eq!(report["splits"]["test"]["samples"], 1);
    assert_eq!((&report["picture_width"]["max"], &report["picture_height"]["min"]), (&12.0.into(), &6.0.into()));
    assert_eq!((&report["sound_seconds"]["median"], &report["caption_words"]["max"]), (&0.5.into(), &4.0.into()));
    // <bos> only words <eos>: two words are at least two tokens.
    assert!(report["tokens"]["min"].as_f64().unwrap() >= 4.0 && report["tokens"]["max"].as_f64().unwrap() > 36.0);
    assert_eq!(report["bad"]["count"], 0);
    assert!(image::open(&sheet).unwrap().width() > 3 * 192);
}

#[test]
fn broken_rows_are_listed_with_their_lines_and_fail() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let table = fs::read_to_string(dir.path().join("metadata.jsonl")).unwrap();
    let more = "{\"file_name\": \"gone.png\", \"text\": \"x\"}\nnot JSON\n{\"file_name\": \"../../etc/passwd\", \"text\": \"x\"}\n{\"file_name\": \"a.png\"}\n";
    fs::write(dir.path().join("metadata.jsonl"), table + more).unwrap();
    let out = run(&["data", dir.path().to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    for part in ["4 rows are broken", "line 4", "gone.png", "line 5", "JSON", "line 6", "leaves the data folder", "line 7", "`text`"] {
        assert!(said.contains(part), "{part:?} in:\n{said}");
    }
    // What is good is counted all the same.
    assert!(text(&out.stdout).contains("picture width"));
    let nothing = run(&["data", dir.path().join("nowhere").to_str().unwrap()]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stderr).contains("no such folder"));
}

/// Of each picture and sound a row of six: as it is, and five visits.
#[test]
fn it_draws_what_training_would_see() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let (data, sheet) = (dir.path().to_str().unwrap(), dir.path().join("seen.png"));
    let draw = |more: &[&str]| run(&[&["data", data, "--augmented", sheet.to_str().unwrap()], more].concat());
    let out = draw(&["--set", "augment=light", "--set", "seed=4"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("what training sees (data.augment = \"light\", seed 4): "), "{}", text(&out.stdout));
    let first = image::open(&sheet).unwrap().to_rgb8();
    // Two pictures and one sound, of rows that are trained on.
    assert!(first.width() > 6 * 192 && first.height() > 3 * 192 && first.height() < 4 * 192 + 100, "{} × {}", first.width(), first.height());
    draw(&["--set", "augment=light", "--set", "seed=4"]);
    assert!(image::open(&sheet).unwrap().to_rgb8() == first, "the same bits again");
    draw(&["--set", "augment=light", "--set", "seed=5"]);
    assert!(image::open(&sheet).unwrap().to_rgb8() != first);
    let off = draw(&["--set", "color_jitter=0"]);
    assert!(text(&off.stdout).contains("augmentation is off: every visit shows the same; --set augment=light shows some"), "{}", text(&off.stdout));
    for (more, expected) in [
        (&["--set", "augment=heavy"][..], "expected one of `off`, `light`, `strong`"),
        (&["--set", "augment.shift=0.5", "--set", "augment.crop=0.6"], "together could leave 4.0 % of a picture, and 10 % is the least"),
        (&["--set", "augment.flipp=1"], "did you mean augment.flip?"),
    ] {
        let wrong = draw(more);
        assert!(wrong.status.code() == Some(2) && text(&wrong.stderr).contains(expected), "{more:?}: {}", text(&wrong.stderr));
    }
    let misplaced = run(&["data", "--augmented", data, data]);
    assert!(misplaced.status.code() == Some(2) && text(&misplaced.stderr).contains("expected the name of a .png file"), "{}", text(&misplaced.stderr));
}
