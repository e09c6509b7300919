//! `docs/score-card.md` documents every field that a score card has and no other, and the tables of `benches/results/README.md` are
//! what the committed cards say.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use trimodal::bench::{About, BenchRow, Card, Ceilings, LeftOut, Method, Peer, SCHEMA, Seconds, readme};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A card with everything in it. That all fields are named here is what makes a new one show up in the test below.
fn full() -> Card {
    let some = || Some(String::from("x"));
    let seconds = Seconds { median: 1.0, min: 1.0, max: 1.0, standard_error: 0.0 };
    Card {
        schema: SCHEMA.into(),
        tool: "x".into(),
        date: "x".into(),
        device: About { kind: "x".into(), name: "x".into(), driver: some(), clocks: some(), power: some(), cores: Some(1), cache_bytes: Some(1) },
        method: Method {
            timer: "x".into(),
            inputs: "x".into(),
            rotation: "x".into(),
            samples: "x".into(),
            shapes: vec!["x".into()],
            quick: false,
            seconds: 1.0,
        },
        ceilings: Ceilings {
            copy_bytes_per_second: Some(1.0),
            f32_flops_per_second: Some(1.0),
            bf16_flops_per_second: Some(1.0),
            shared_bytes_per_second: Some(1.0),
        },
        rows: vec![BenchRow {
            op: "x".into(),
            entry: "x".into(),
            pass: "x".into(),
            set: "x".into(),
            shape: "x".into(),
            dtype: "x".into(),
            seconds,
            samples: 1,
            calls: 1,
            buffers: 1,
            flops: 1,
            bytes: Some(1),
            tflops: 1.0,
            gbytes: Some(1.0),
            intensity: Some(1.0),
            bound: some(),
            percent: Some(1.0),
            tokens_per_second: Some(1.0),
            peers: vec![Peer { name: "x".into(), entry: "x".into(), seconds: 1.0, ratio: 1.0 }],
        }],
        left_out: vec![LeftOut { what: "x".into(), reason: "x".into() }],
        interrupted: false,
    }
}

/// `section.field` of every field of every object, where `section` is the field that the object is the value of.
fn fields(section: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|v| fields(section, v, into)),
        Value::Object(map) => {
            for (name, value) in map {
                into.insert(format!("{section}.{name}"));
                // A peer's `seconds` is a number and a method's too: only objects and arrays of them have a section of their own.
                fields(name, value, into);
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_is_documented() {
    let mut expected = BTreeSet::new();
    fields("The card", &serde_json::to_value(full()).unwrap(), &mut expected);
    let text = fs::read_to_string(root().join("docs/score-card.md")).unwrap();
    let mut documented = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.trim_matches('`').to_string();
        } else if let Some(rest) = line.strip_prefix("| `") {
            documented.insert(format!("{section}.{}", rest.split('`').next().unwrap()));
        }
    }
    assert_eq!(documented, expected);
    assert!(text.contains(SCHEMA));
}

/// The committed cards: `benches/results/<device>/*.json`.
fn cards() -> Vec<(PathBuf, Card)> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let folders = list(&root().join("benches/results")).into_iter().filter(|path| path.is_dir());
    // What scripts/verify-gpu writes there is no card.
    let card = |path: &PathBuf| path.extension().is_some_and(|e| e == "json") && path.file_name().is_some_and(|name| name != "verify.json");
    let files = folders.flat_map(|folder| list(&folder)).filter(card);
    files.map(|path| (path.clone(), Card::load(&path).unwrap_or_else(|e| panic!("{e}")))).collect()
}

const BEGIN: &str = "<!-- performance:begin (written by scripts/readme-performance from benches/results/) -->\n";
const END: &str = "<!-- performance:end -->";

/// With `TRIMODAL_WRITE_README=1`, as `scripts/readme-performance` runs it, this writes the tables instead.
#[test]
fn the_results_say_what_the_cards_say() {
    let ours: Vec<Card> = cards().into_iter().map(|(_, card)| card).filter(|card| card.tool.starts_with("trimodal ")).collect();
    let table = readme(&ours);
    let path = root().join("benches/results/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let begin = text.find(BEGIN).expect("benches/results/README.md has the mark where the tables begin") + BEGIN.len();
    let end = text.find(END).expect("benches/results/README.md has the mark where the tables end");
    if std::env::var_os("TRIMODAL_WRITE_README").is_some() {
        fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..])).unwrap();
    } else {
        assert!(text[begin..end] == table, "the tables of benches/results/README.md are not what the cards beside it say: run scripts/readme-performance");
    }
}

/// Where there is a card of a device, the README's table of devices links to it; where there is none, it says that no figure exists.
#[test]
fn the_readme_says_what_was_measured() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| ")).collect();
    let hardware = |card: &Card| !card.device.name.contains("SwiftShader");
    for (device, kind) in [("CUDA", "cuda"), ("browser", "webgpu")] {
        let row = rows.iter().filter(|row| row.starts_with(&format!("| {device}"))).copied().collect::<String>();
        let measured: Vec<String> =
            cards().iter().filter(|(_, card)| card.device.kind == kind && hardware(card)).map(|(_, card)| card.device.name.clone()).collect();
        for name in &measured {
            assert!(row.contains(name), "README.md: the row of {device} does not name {name}: run `scripts/measure --only none`");
        }
        assert!(!measured.is_empty() || row.contains("no GPU figure exists"), "README.md: the row of {device} names no figure and does not say so");
    }
}
