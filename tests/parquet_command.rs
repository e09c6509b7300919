//! Parquet files wherever the program takes a data set, with the columns that the user chooses.
#![cfg(feature = "cli")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name).display().to_string()
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> (String, String) {
    let out = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
    (text(&out.stdout), text(&out.stderr))
}

#[test]
fn data_counts_splits_and_says_what_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");
    let (said, _) = succeeds(&["data", &fixture("hub"), "--columns", "text=label", "--json", json.to_str().unwrap()]);
    for part in ["(parquet)", "train", "test", "note: columns that are not read: text, width"] {
        assert!(said.contains(part), "{part:?} in:\n{said}");
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["all"], serde_json::json!({ "samples": 7, "pictures": 7, "sounds": 6, "texts": 7, "both": 6, "prompts": 0 }));
    assert_eq!((&report["kind"], &report["splits"]["train"]["samples"]), (&"parquet".into(), &5.into()));
    // Lists that do not agree are broken rows, by file and row.
    let broken = run(&["data", &fixture("lists.parquet"), "--columns", "image=images,text=captions"]);
    let said = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(!broken.status.success() && said.contains("lists.parquet, row 3: 2 in `images` and 3 in `captions`"), "{said}");
    let wrong = run(&["data", &fixture("hub"), "--columns", "picture=image"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("expected one of image, audio, text, prompt, split"));
}

/// One run: trained with chosen columns, which its settings keep; judged, dumped and walked through with the same.
#[test]
fn a_run_trains_on_chosen_columns_and_the_others_take_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let (model, dump) = (path("model"), path("step.safetensors"));
    let (model, dump) = (model.to_str().unwrap(), dump.to_str().unwrap());
    let (hub, columns) = (fixture("hub"), "text=label,audio=");
    let arguments = ["train", &hub, "--out", model, "--columns", columns, "--steps", "2", "--device", "cpu", "--no-report", "--set", "rows=256"];
    let (_, notes) = succeeds(&arguments);
    assert!(notes.contains("note: columns that are not read: audio, text, width"), "{notes}");
    let config = std::fs::read_to_string(path("model/config.toml")).unwrap();
    assert!(config.contains("columns = \"text=label,audio=\""), "{config}");
    let (said, _) = succeeds(&["eval", model, &hub, "--columns", columns, "--device", "cpu"]);
    assert!(said.contains("test"), "{said}");
    succeeds(&["dump", model, &hub, "--columns", columns, "--samples", "2", "--out", dump, "--device", "cpu"]);
    let (walked, _) = succeeds(&["step", model, &hub, "--columns", columns, "--device", "cpu"]);
    assert!(walked.contains("test-00000-of-00001.parquet, row 0"), "{walked}");
    // Another choice is another data set: refused where the run is continued.
    let other = run(&["train", "--resume", model, "--columns", "text=text", "--steps", "4"]);
    assert!(!other.status.success() && String::from_utf8_lossy(&other.stderr).contains("data.columns"), "{other:?}");
}
