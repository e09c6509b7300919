//! Starting from a model that somebody else trained: a small folder in Qwen3's layout, whole and in shards, tied and untied.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};
use trimodal::files::safetensors::save_safetensors;
use trimodal::model::{Config, Parameters};
use trimodal::train::{Settings, pretrained};
use trimodal::{DType, Device};

/// Byte-level BPE as text models have it: of our special tokens it has none.
fn foreign_tokenizer() -> (Vec<u8>, usize) {
    let byte_level = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(Some(byte_level))
        .with_decoder(Some(byte_level))
        .build()
        .expect("a tokenizer");
    let mut trainer = BpeTrainer::builder()
        .vocab_size(280)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from("<|endoftext|>", true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .build();
    tokenizer.train(&mut trainer, ["a cat in the sun", "a dog in the rain"].into_iter()).expect("captions");
    let size = tokenizer.get_vocab_size(true);
    (tokenizer.to_string(false).expect("JSON").into_bytes(), size)
}

struct Written {
    config: Config,
    /// Name, shape and values as they were stored.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    tokens: usize,
}

/// Writes a text model. `padding`: rows of the table beyond the tokenizer's tokens.
fn write(folder: &Path, tied: bool, dtype: DType, shards: usize, padding: usize) -> Written {
    let (tokenizer, tokens) = foreign_tokenizer();
    fs::write(folder.join("tokenizer.json"), tokenizer).expect("to write");
    let config = Config {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        tie_word_embeddings: tied,
        vision_config: None,
        audio_config: None,
        ..Config::meadow(tokens + padding)
    };
    let mut json: serde_json::Value = serde_json::from_str(&config.to_json()).expect("JSON");
    json.as_object_mut().expect("an object").remove("rope_theta");
    json["rope_parameters"] = serde_json::json!({ "rope_theta": 1_000_000.0, "rope_type": "default" });
    fs::write(folder.join("config.json"), json.to_string()).expect("to write");
    let parameters = Parameters::init(&config, &Device::Cpu, DType::F32, 3).expect("memory");
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> =
        parameters.named().into_iter().map(|(name, t)| (name, t.shape().dims().to_vec(), t.read::<f32>().expect("the CPU"))).collect();
    let bytes = |values: &[f32]| match dtype {
        DType::Bf16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
    };
    let stored: Vec<_> = tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), dtype, bytes(values))).collect();
    if shards == 1 {
        save_safetensors(&folder.join("model.safetensors"), &[], &stored).expect("to write");
    } else {
        let mut map = serde_json::Map::new();
        for (i, part) in stored.chunks(stored.len().div_ceil(shards)).enumerate() {
            let name = format!("model-{:05}-of-{shards:05}.safetensors", i + 1);
            map.extend(part.iter().map(|tensor| (tensor.0.clone(), name.clone().into())));
            save_safetensors(&folder.join(&name), &[], part).expect("to write");
        }
        let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("to write");
    }
    Written { config, tensors, tokens }
}

fn open(folder: &Path) -> trimodal::Result<(pretrained::Pretrained, Settings)> {
    let mut settings = Settings::preset("meadow")?;
    let start = pretrained::open(folder, &mut settings, &Device::Cpu)?;
    Ok((start, settings))
}

#[test]
fn weights_are_taken_and_the_rest_is_added() {
    for (tied, dtype, shards, padding) in [(true, DType::F32, 1, 0), (false, DType::Bf16, 1, 0), (true, DType::F16, 3, 5), (false, DType::F32, 2, 100)] {
        let folder = tempfile::tempdir().expect("a folder");
        let written = write(folder.path(), tied, dtype, shards, padding);
        let (start, settings) = open(folder.path()).expect("a model");
        // Nine special tokens of ours come after the tokenizer's own; where the table was padded they take those rows first.
        assert_eq!(start.tokenizer.vocabulary(), written.tokens + 9);
        assert_eq!(start.config.vocab_size, (written.tokens + padding).max(written.tokens + 9));
        assert_eq!((start.config.hidden_size, start.config.tie_word_embeddings, start.config.rope_theta), (32, tied, 1e6));
        assert_eq!((settings.model.hidden_size, settings.model.num_key_value_heads, settings.model.rope_theta), (32, 2, 1e6));
        assert!(start.config.vision_config.is_some() && start.config.audio_config.is_some());
        let of_senses = |name: &String| name.starts_with("vision_") || name.starts_with("audio_");
        let expected: Vec<String> = start.parameters.named().into_iter().map(|(name, _)| name).filter(of_senses).collect();
        assert!(start.fresh == expected && expected.len() > 3 + 6, "{:?}", start.fresh);
        let round = |v: f32| match dtype {
            DType::Bf16 => half::bf16::from_f32(v).to_f32(),
            DType::F16 => half::f16::from_f32(v).to_f32(),
            _ => v,
        };
        for (name, tensor) in start.parameters.named() {
            let found = tensor.read::<f32>().expect("the CPU");
            let Some((_, shape, expected)) = written.tensors.iter().find(|(stored, ..)| *stored == name) else { continue };
            assert!(expected.iter().zip(&found).all(|(e, f)| round(*e) == *f), "{name}");
            let fresh = &found[expected.len()..];
            let by_token = name.contains("embed_tokens") || name.contains("lm_head");
            let more = if by_token { (start.config.vocab_size - written.config.vocab_size) * shape[1] } else { 0 };
            assert_eq!(fresh.len(), more, "{name}");
            assert!(fresh.iter().all(|v| v.abs() < 0.15) && (fresh.is_empty() || fresh.iter().any(|v| *v != 0.0)), "{name}");
        }
        let ids = start.tokenizer.encode("a cat").expect("known letters");
        assert_eq!(start.tokenizer.decode(&ids).expect("known ids"), "a cat");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), true, DType::F32, 2, 0);
    let error = |what: &str| {
        let error = open(folder.path()).err().expect(what).to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).expect("JSON");
    for (from, to, expected) in [
        ("\"hidden_size\":32", "\"hidden_size\":64", "expected shape"),
        ("\"rope_type\":\"default\"", "\"rope_type\":\"yarn\"", "rotary frequencies, found \"yarn\""),
        ("\"num_hidden_layers\":2", "\"num_hidden_layers\":3", "tensor model.layers.2.input_layernorm.weight: missing"),
        ("\"num_hidden_layers\":2", "\"num_hidden_layers\":1", "tensor model.layers.1.input_layernorm.weight: a model in Qwen3's layout has no such tensor"),
        ("\"model_type\":\"qwen3\"", "\"model_type\":\"llama\"", "expected \"qwen3\""),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&config, text.replace(from, to)).expect("to write");
        let error = error(to);
        assert!(error.contains(expected), "{error}");
    }
    fs::write(&config, &text).expect("to write");
    let index = folder.path().join("model.safetensors.index.json");
    let map = fs::read_to_string(&index).expect("JSON");
    for (from, to, expected) in [
        ("model-00002-of-00002", "../model-00002-of-00002", "expected the name of a file in the same folder"),
        ("model.norm.weight", "model.nor.weight", "does not say that it is in this file"),
        ("{", "[", "line 1"),
    ] {
        fs::write(&index, map.replace(from, to)).expect("to write");
        let error = error(to);
        assert!(error.contains(expected), "{error}");
    }
    fs::remove_file(&index).expect("to remove");
    assert!(error("no index").contains("found neither"));
}
