//! `docs/score-card.md` documents every field that a score card has and no other, and the tables of `benches/results/README.md` are
//! what the committed cards say.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use trimodal::bench::{About, Against, BenchRow, Card, Ceilings, Change, Conditions, LeftOut, Method, Peer, SCHEMA, Seconds, peers, readme};

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
        conditions: Some(Conditions {
            load_average: Some(1.0),
            others_before: Some(1.0),
            others: Some(1.0),
            steal: Some(1.0),
            memory_pressure: Some(1.0),
            limited_clocks: some(),
            not_known: vec!["x".into()],
        }),
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
            update_bytes_per_second: Some(1.0),
            f32_flops_per_second: Some(1.0),
            bf16_flops_per_second: Some(1.0),
            shared_bytes_per_second: Some(1.0),
        },
        ceilings_before: Some(Ceilings::default()),
        ceilings_after: Some(Ceilings::default()),
        drift: Some(1.0),
        doubts: vec!["x".into()],
        rows: vec![BenchRow {
            op: "x".into(),
            entry: "x".into(),
            pass: "x".into(),
            set: "x".into(),
            shape: "x".into(),
            dtype: "x".into(),
            seconds,
            unsure: false,
            samples: 1,
            calls: 1,
            buffers: 1,
            flops: 1,
            bytes: Some(1),
            overwritten_bytes: Some(1),
            rotated_bytes: Some(1),
            tflops: 1.0,
            gbytes: Some(1.0),
            intensity: Some(1.0),
            bound: some(),
            percent: Some(1.0),
            above: some(),
            tokens_per_second: Some(1.0),
            peers: vec![Peer { name: "x".into(), entry: "x".into(), seconds: 1.0, ratio: 1.0, unsure: false }],
            change: Some(Change { seconds: 1.0, percent: 1.0, uncertainty: 1.0, verdict: "x".into() }),
        }],
        left_out: vec![LeftOut { what: "x".into(), reason: "x".into() }],
        interrupted: false,
        against: Some(Against { tool: "x".into(), date: "x".into(), differences: vec!["x".into()], new: vec!["x".into()], gone: vec!["x".into()] }),
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

/// Our own cards, each with the peers that lie in its folder beside it.
fn with_peers() -> Vec<Card> {
    let cards = cards();
    let is_ours = |card: &Card| card.tool.starts_with("trimodal ");
    let ours = cards.iter().filter(|(_, card)| is_ours(card));
    ours.map(|(path, card)| {
        let beside = |(other, peer): &&(PathBuf, Card)| other.parent() == path.parent() && !is_ours(peer) && peer.method.shapes == card.method.shapes;
        let mut merged = card.clone();
        cards.iter().filter(beside).for_each(|(_, peer)| {
            merged.merge(peer);
        });
        merged
    })
    .collect()
}

/// Replaces or compares what stands between a mark's two ends; with `TRIMODAL_WRITE_README=1`, as `scripts/readme-performance` runs it, this writes.
fn block(path: &str, mark: &str, expected: &str) {
    let (begin, end) = (format!("<!-- {mark}:begin"), format!("<!-- {mark}:end -->"));
    let file = root().join(path);
    let text = fs::read_to_string(&file).unwrap();
    let begins = text.find(&begin).unwrap_or_else(|| panic!("{path} has no mark {begin}"));
    let from = begins + text[begins..].find("-->\n").expect("the mark ends") + 4;
    let to = text.find(&end).unwrap_or_else(|| panic!("{path} has no mark {end}"));
    if std::env::var_os("TRIMODAL_WRITE_README").is_some() {
        fs::write(&file, format!("{}{expected}{}", &text[..from], &text[to..])).unwrap();
    } else {
        assert!(text[from..to] == *expected, "what {path} says about {mark} is not what the cards in benches/results/ say: run scripts/readme-performance");
    }
}

#[test]
fn the_results_say_what_the_cards_say() {
    let cards = with_peers();
    block("benches/results/README.md", "performance", &readme(&cards));
    block("README.md", "peers", &peers(&cards));
}

/// A row above 100 % says why, and no reason is that the ceiling must be wrong: such a card is measured again.
#[test]
fn no_committed_row_is_above_its_ceiling_without_a_reason() {
    for (path, card) in cards().iter().filter(|(_, card)| card.tool.starts_with("trimodal ")) {
        for row in card.rows.iter().filter(|row| row.percent.is_some_and(|percent| percent > 100.0)) {
            let why = row.above.as_deref().unwrap_or_default();
            assert!(!why.is_empty() && !why.starts_with("low ceiling"), "{}: {}: {:?} {why:?}", path.display(), row.name(), row.percent);
        }
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
