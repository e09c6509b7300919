//! Golden vectors of both languages, and the launches that are written down in them.
#![allow(dead_code)] // each test takes what it needs

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;
use trimodal::device::Language;
use trimodal::golden::{INDEX, Plan, plan, write};

pub fn written(plan: &Plan, folder: &Path) {
    write(plan, folder, false, &mut |_| ControlFlow::Continue(())).unwrap();
}

/// The golden vectors of a language, in a folder that lives as long as the process.
pub fn vectors(language: Language) -> &'static Path {
    static WGSL: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| made(Language::Wgsl));
    static PTX: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| made(Language::Ptx));
    match language {
        Language::Wgsl => &WGSL.1,
        Language::Ptx => &PTX.1,
    }
}

fn made(language: Language) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let golden = folder.path().join("golden");
    written(&plan(language, None).unwrap(), &golden);
    (folder, golden)
}

pub fn index(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join(INDEX)).unwrap()).unwrap()
}

/// The case's entry `trimodal`, and the tensors' places in the file.
pub fn about(path: &Path) -> (Value, Value) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (serde_json::from_str(header["__metadata__"]["trimodal"].as_str().unwrap()).unwrap(), header)
}

/// Every recorded launch of a folder, with its vector's name and buffers.
pub fn launches(folder: &Path) -> Vec<(String, Value, Value)> {
    let cases = index(folder)["cases"].as_array().unwrap().clone();
    let of_case = |case: &Value| {
        let file = case["file"].as_str().unwrap().to_string();
        let (about, _) = about(&folder.join(&file));
        about["launches"].as_array().unwrap().iter().map(|launch| (file.clone(), launch.clone(), about["buffers"].clone())).collect::<Vec<_>>()
    };
    cases.iter().flat_map(of_case).collect()
}

/// The bytes of a launch's operands, in the order of the contract: 0 for one that is not there.
pub fn operand_bytes(launch: &Value, buffers: &Value) -> Vec<u64> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let numbers = list(&launch["maps"]).into_iter().map(|map| map["buffer"].clone()).chain(list(&launch["buffers"]));
    numbers.map(|number| number.as_u64().map_or(0, |number| buffers[number as usize]["bytes"].as_u64().unwrap())).collect()
}

/// A launch, and the bytes of its operands.
pub type Launched = (Value, Vec<u64>);

/// Every launch of a language's vectors, by its file and entry.
pub fn launches_by_entry(language: Language) -> BTreeMap<[String; 2], Vec<Launched>> {
    let mut found: BTreeMap<[String; 2], Vec<Launched>> = BTreeMap::new();
    for (_, launch, buffers) in launches(vectors(language)) {
        let key = ["file", "entry"].map(|key| launch[key].as_str().unwrap().to_string());
        let bytes = operand_bytes(&launch, &buffers);
        found.entry(key).or_default().push((launch, bytes));
    }
    found
}

/// The bytes of a launch's `Dims`.
pub fn dims(launch: &Value) -> Vec<u8> {
    let hex = launch["dims_hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A launch that breaks the contract.
pub struct Broken {
    pub launch: Value,
    /// The vector's.
    pub buffers: Value,
    /// A part of what must be said of it.
    pub said: &'static str,
}

/// The launch of a good case of `rms_norm`, broken in every way: whatever checks launches must refuse each, in its own words.
pub fn broken(language: Language) -> Vec<Broken> {
    let forward = |(file, launch, _): &(String, Value, Value)| file.starts_with("rms_norm/forward") && dims(launch)[12] == 0;
    let (_, launch, buffers) = launches(vectors(language)).into_iter().find(forward).expect("a case without a residual");
    let hex = launch["dims_hex"].as_str().unwrap().to_string();
    let one_more = launch["groups"].as_u64().unwrap() + 1;
    let mut changes = vec![
        ("dims_hex", format!("{}ffff0000{}", &hex[..8], &hex[16..]).into(), "are needed"), // columns
        ("dims_hex", hex[..32].into(), "Dims of 32 bytes, found 16"),
        // What the Dims say is there must be.
        ("dims_hex", format!("{}01000000{}", &hex[..24], &hex[32..]).into(), "is not there, although has_residual"),
        ("groups", one_more.into(), "groups, expected"),
        ("block", 32.into(), "32 threads"),
        ("buffers", serde_json::json!([0]), "1 buffers, expected"),
    ];
    if language == Language::Wgsl {
        let with = |value: u64| {
            let mut constants = launch["constants"].clone();
            constants["ROW_THREADS"] = value.into();
            constants
        };
        changes.push(("constants", with(7), "ROW_THREADS = 7"));
        // Legal, but the Dims say something else.
        changes.push(("constants", with(if launch["constants"]["ROW_THREADS"] == 256 { 128 } else { 256 }), "must be equal"));
        changes.push(("constants", serde_json::json!({ "WIDTH": 7 }), "WIDTH"));
    }
    let broken = |(key, value, said): (&str, Value, &'static str)| {
        let mut launch = launch.clone();
        launch[key] = value;
        Broken { launch, buffers: buffers.clone(), said }
    };
    changes.into_iter().map(broken).collect()
}
