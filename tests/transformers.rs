//! What `transformers` makes of the same files: configs key by key, with logits; tokenizers, id by id.
//!
//! The fixtures in tests/golden/transformers come from `scripts/golden_transformers.py`, which says what is in them.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use trimodal::data::Tokenizer;
use trimodal::interpret::ForwardPass;
use trimodal::model::batch::{Placeholders, Sequence, TokenRow};
use trimodal::model::stored_config::{KEYS, KeyUse};
use trimodal::model::{Config, Parameters};
use trimodal::{DType, Device};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformers").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

/// Weights by the formula of the script: tensors are counted by name.
fn parameters(config: &Config) -> Parameters {
    let mut parameters = Parameters::zeros(config, &Device::Cpu, DType::F64).unwrap();
    let mut names: Vec<String> = parameters.named().into_iter().map(|(name, _)| name).collect();
    let places = names.clone();
    names.sort();
    for (name, tensor) in places.iter().zip(parameters.each_mut()) {
        let t = names.iter().position(|other| other == name).unwrap() as f64;
        let norm = tensor.shape().dims().len() == 1;
        let value = |i: f64| if norm { 1.0 + 0.3 * (0.7 * i + t).sin() } else { 0.4 * (0.013 * i * i + 1.3 * t + 0.5).sin() };
        let values: Vec<f64> = (0..tensor.len()).map(|i| value(i as f64) as f32 as f64).collect();
        tensor.write_f64(&values).unwrap();
    }
    parameters
}

fn logits(config: &Config, ids: &[u32]) -> Vec<f64> {
    let parameters = parameters(config);
    let rows = ids.iter().map(|&id| TokenRow::Token { id, truth: id, learned: false }).collect();
    let sample = Sequence { rows, ..Sequence::default() };
    // No picture and no sound: their placeholders are not asked for.
    let pass = ForwardPass::new(config, &parameters, Placeholders { image: u32::MAX, audio: u32::MAX }, &[sample], &[]).unwrap();
    pass.lens(pass.levels() - 1, &[ids.len() - 1]).unwrap()
}

/// Every config is read as `transformers` reads it, with the same logits, or refused by the name of its key: never read as another model.
#[test]
fn a_config_has_the_numbers_of_transformers_or_is_refused() {
    let fixture = json("configs.json");
    let ids: Vec<u32> = serde_json::from_value(fixture["ids"].clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let (mut read, mut refused) = (0, 0);
    for case in fixture["cases"].as_array().unwrap() {
        let (name, theirs, must) = (&case["name"], &case["transformers"], case["must"].as_str());
        fs::write(&path, case["config"].to_string()).unwrap();
        let config = match Config::load(&path) {
            Ok(config) => config,
            Err(error) => {
                assert_ne!(must, Some("read"), "{name}: {error}");
                let error = error.to_string();
                let named = case["config"].as_object().unwrap().keys().any(|key| error.contains(&format!("config.json: {key}")));
                assert!(named, "{name}: {error}");
                refused += 1;
                continue;
            }
        };
        assert_ne!(must, Some("refuse"), "{name} was read");
        read += 1;
        if theirs.get("error").is_some() {
            // `null` where transformers insists on a value: the default, as if the key were not there.
            let keys = case["config"].as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null());
            assert_eq!(config, serde_json::from_value(keys.collect()).unwrap(), "{name}");
            continue;
        }
        let expected: Vec<f64> = serde_json::from_value(theirs["logits"].clone()).unwrap();
        let found = logits(&config, &ids);
        // transformers' rotary frequencies are f32.
        let off = expected.iter().zip(&found).map(|(e, f)| (e - f).abs()).fold(0.0, f64::max);
        assert!(expected.len() == found.len() && off < 1e-5, "{name}: logits off by {off}");
        assert_eq!(config.rope_theta, theirs["rope_theta"].as_f64().unwrap(), "{name}");
        assert_eq!(serde_json::json!(config.eos_token_id), theirs["eos_token_id"], "{name}");
        assert_eq!(serde_json::json!(config.bos_token_id), theirs["bos_token_id"], "{name}");
        assert_eq!(
            (config.head_dim as u64, config.num_key_value_heads as u64),
            (theirs["head_dim"].as_u64().unwrap(), theirs["num_key_value_heads"].as_u64().unwrap())
        );
        assert_eq!(config.torch_dtype, theirs["dtype"], "{name}");
        // What is written again is read again.
        assert_eq!(serde_json::from_str::<Config>(&config.to_json()).unwrap(), config, "{name}");
    }
    assert!(read > 30 && refused > 15, "{read} read, {refused} refused");
}

/// A key of `transformers` that nobody has looked at would be one that is silently ignored.
#[test]
fn every_key_of_transformers_is_accounted_for() {
    let fixture = json("configs.json");
    let known: BTreeMap<&str, (KeyUse, &str)> = KEYS.iter().map(|(key, what, why)| (*key, (*what, *why))).collect();
    assert_eq!(known.len(), KEYS.len(), "a key is listed twice");
    assert!(KEYS.is_sorted_by_key(|(key, ..)| *key));
    let keys = fixture["keys"].as_array().unwrap();
    assert!(keys.len() > 30);
    let missing: Vec<&Value> = keys.iter().filter(|key| !known.contains_key(key.as_str().unwrap())).collect();
    assert!(missing.is_empty(), "keys of transformers that stored_config.rs does not list: {missing:?}");
    assert!(known.values().all(|(what, why)| *what == KeyUse::Read || !why.is_empty()), "why?");
    // What is said to be read or refused is in some case that shows it.
    for (key, (what, _)) in known {
        let shown = fixture["cases"].as_array().unwrap().iter().any(|case| case["config"].get(key).is_some());
        assert!(shown || what == KeyUse::Harmless, "{key} is in no case");
    }
}

#[test]
fn autotokenizer_gives_the_ids_that_we_give() {
    let fixture = json("ids.json");
    for name in ["trained", "adopted"] {
        let (theirs, path) = (&fixture[name], |file: &str| golden(name).join(file));
        let tokenizer = Tokenizer::load(&path("tokenizer.json")).unwrap();
        let config = Config::load(&path("config.json")).unwrap();
        // The fixture was made with files as they are written today.
        assert_eq!(fs::read_to_string(path("tokenizer_config.json")).unwrap(), tokenizer.transformers_config(config.max_position_embeddings));
        assert_eq!(fs::read_to_string(path("generation_config.json")).unwrap(), config.generation_json(&tokenizer.absent(config.vocab_size)));
        assert_eq!(fs::read_to_string(path("config.json")).unwrap(), config.to_json());
        let special = tokenizer.special();
        let numbers = [special.bos as usize, special.eos as usize, special.eos as usize, tokenizer.vocabulary(), config.max_position_embeddings];
        assert_eq!(serde_json::json!(numbers), serde_json::json!([theirs["bos"], theirs["eos"], theirs["pad"], theirs["tokens"], theirs["longest"]]));
        assert_eq!((config.vocab_size, config.eos_token_id), (tokenizer.vocabulary(), vec![special.eos]));
        let texts = theirs["texts"].as_array().unwrap();
        assert!(texts.len() > 30);
        for (i, text) in texts.iter().map(|text| text.as_str().unwrap()).enumerate() {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(serde_json::json!(ids), theirs["ids"][i], "{name}: {text:?}");
            // Ours leaves out the space that encoding put before the first word.
            let decoded = theirs["decoded"][i].as_str().unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), decoded.strip_prefix(' ').unwrap_or(decoded), "{name}: {text:?}");
        }
        // A padded batch: on the left, within the vocabulary, and the mask says where.
        for (i, row) in theirs["batch"].as_array().unwrap().iter().enumerate() {
            let row: Vec<u32> = serde_json::from_value(row.clone()).unwrap();
            let mask: Vec<u32> = serde_json::from_value(theirs["attention_mask"][i].clone()).unwrap();
            let start = mask.iter().position(|&m| m == 1).unwrap();
            assert!(row[..start].iter().all(|&id| id == special.eos) && mask[start..].iter().all(|&m| m == 1));
            assert_eq!(row[start..], tokenizer.encode(texts[i].as_str().unwrap()).unwrap());
        }
    }
}
