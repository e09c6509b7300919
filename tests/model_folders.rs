//! Model folders as people have them: in shards, tied twice, with a padded vocabulary, several ends, a tokenizer with dropout. Whatever
//! opens a model opens them alike.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use trimodal::check::test_devices;
use trimodal::data::Tokenizer;
use trimodal::describe::Describer;
use trimodal::files::safetensors::save_safetensors;
use trimodal::interpret::probe::{Asked, probe};
use trimodal::model::batch::{Packer, Sequence, TokenRow};
use trimodal::model::generate::{Generator, OutputIds, Sampling};
use trimodal::model::score::Scorer;
use trimodal::model::{Config, Parameters};
use trimodal::train::examples::{output_ids, placeholders};
use trimodal::train::{ModelFolder, Settings, pretrained};
use trimodal::{DType, Device};

const CAPTIONS: [&str; 4] = ["a fluffy orange cat", "a red dog in the sun", "a black bird singing at night", "a cat"];

type Stored = (String, Vec<usize>, DType, Vec<u8>);

/// A text model with its tokenizer. `change` may change the tensors before they are written.
fn write(folder: &Path, tokenizer: &[u8], config: &Config, shards: usize, change: impl FnOnce(&mut Vec<Stored>)) {
    fs::create_dir_all(folder).unwrap();
    let parameters = Parameters::init(config, &Device::Cpu, DType::F32, 3).unwrap();
    let stored = parameters.named().into_iter().map(|(name, t)| {
        let values: Vec<f32> = t.read::<f32>().unwrap().iter().map(|x| if *x == 1.0 { 1.0 } else { 8.0 * x }).collect();
        (name, t.shape().dims().to_vec(), DType::F32, bytemuck::cast_slice(&values).to_vec())
    });
    let mut stored: Vec<Stored> = stored.collect();
    change(&mut stored);
    if shards == 1 {
        save_safetensors(&folder.join("model.safetensors"), &[], &stored).unwrap();
    } else {
        let mut map = serde_json::Map::new();
        for (i, part) in stored.chunks(stored.len().div_ceil(shards)).enumerate() {
            let name = format!("model-{:05}-of-{shards:05}.safetensors", i + 1);
            map.extend(part.iter().map(|tensor| (tensor.0.clone(), name.clone().into())));
            save_safetensors(&folder.join(&name), &[], part).unwrap();
        }
        let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
    fs::write(folder.join("config.json"), config.to_json()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
}

fn tokenizer() -> Tokenizer {
    Tokenizer::train(CAPTIONS, 400).unwrap()
}

fn config(vocab_size: usize) -> Config {
    Config {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_key_value_heads: 2,
        vision_config: None,
        audio_config: None,
        ..Config::meadow(vocab_size)
    }
}

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn open(folder: &Path) -> trimodal::Result<ModelFolder> {
    ModelFolder::open(folder, &Device::Cpu, DType::F32)
}

/// `describe --json`, without the sampling's randomness.
fn described(folder: &Path) -> String {
    said(&trimodal(&["describe", folder.to_str().unwrap(), "--prompt", "a", "--max-tokens", "8", "--device", "cpu", "--json"]))
}

#[test]
fn shards_open_wherever_one_file_does() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    let config = config(tokenizer.vocabulary());
    write(&one, &tokenizer.to_bytes().unwrap(), &config, 1, |_| ());
    write(&three, &tokenizer.to_bytes().unwrap(), &config, 3, |_| ());
    assert_eq!(described(&one), described(&three));
    let (a, b) = (open(&one).unwrap(), open(&three).unwrap());
    for ((name, a), b) in a.parameters.named().into_iter().zip(b.parameters.each()) {
        assert_eq!(a.read::<f32>().unwrap(), b.read::<f32>().unwrap(), "{name}");
    }
    // Data for those that want some.
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("metadata.jsonl"), CAPTIONS.map(|text| format!("{{\"text\": \"{text}\"}}\n")).concat()).unwrap();
    let [three, data, dump] = [&three, &data, &folder.path().join("dump.safetensors")].map(|path| path.to_str().unwrap().to_string());
    for arguments in [
        vec!["eval", &three, &data, "--device", "cpu"],
        vec!["probe", &three, "--word", "cat", "--device", "cpu"],
        vec!["dump", &three, &data, "--out", &dump],
        vec!["web", &three, "--to", &format!("{three}-page")],
    ] {
        said(&trimodal(&arguments));
    }
    // What the page needs is in its folder.
    let site: serde_json::Value = serde_json::from_slice(&fs::read(format!("{three}-page/site.json")).unwrap()).unwrap();
    let files: Vec<String> = serde_json::from_value(site["files"].clone()).unwrap();
    assert_eq!(files.len(), 2 + 1 + 3);
    assert!(files.iter().all(|name| Path::new(&format!("{three}-page/model")).join(name).is_file()));
    // One that is missing is named.
    fs::remove_file(Path::new(&three).join("model-00002-of-00003.safetensors")).unwrap();
    for arguments in [vec!["describe", &three, "--prompt", "a"], vec!["web", &three, "--to", &format!("{three}-other")]] {
        let output = trimodal(&arguments);
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("model-00002-of-00003.safetensors"), "{output:?}");
    }
}

#[test]
fn a_tied_model_may_store_its_output_layer_but_not_another() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let config = Config { tie_word_embeddings: true, ..config(tokenizer.vocabulary()) };
    let bytes = tokenizer.to_bytes().unwrap();
    let with_head = |change: fn(&mut Stored)| {
        move |stored: &mut Vec<Stored>| {
            let mut head = stored[0].clone();
            assert_eq!(head.0, "model.embed_tokens.weight");
            head.0 = "lm_head.weight".into();
            change(&mut head);
            stored.push(head);
        }
    };
    let path = |name: &str| folder.path().join(name);
    write(&path("plain"), &bytes, &config, 1, |_| ());
    let expected = described(&path("plain"));
    // The same numbers, also as f64, and a zero of another sign.
    write(&path("same"), &bytes, &config, 1, with_head(|_| ()));
    write(&path("shards"), &bytes, &config, 2, with_head(|_| ()));
    write(
        &path("wide"),
        &bytes,
        &config,
        1,
        with_head(|head| {
            let wide: Vec<f64> = bytemuck::pod_collect_to_vec::<u8, f32>(&head.3).iter().map(|&x| x.into()).collect();
            (head.2, head.3) = (DType::F64, bytemuck::cast_slice(&wide).to_vec());
        }),
    );
    for name in ["same", "shards", "wide"] {
        assert_eq!(described(&path(name)), expected, "{name}");
        pretrained::open(&path(name), &mut Settings::preset("meadow").unwrap(), &Device::Cpu).unwrap();
    }
    write(&path("other"), &bytes, &config, 1, with_head(|head| head.3[3] ^= 1));
    write(
        &path("shape"),
        &bytes,
        &config,
        1,
        with_head(|head| {
            head.1[0] -= 1;
            head.3.truncate(head.1[0] * head.1[1] * 4);
        }),
    );
    for name in ["other", "shape"] {
        let path = path(name);
        let errors = [
            open(&path).err().unwrap().to_string(),
            pretrained::open(&path, &mut Settings::preset("meadow").unwrap(), &Device::Cpu).err().unwrap().to_string(),
            String::from_utf8(trimodal(&["web", path.to_str().unwrap(), "--to", folder.path().join("page").to_str().unwrap()]).stderr).unwrap(),
        ];
        for error in errors {
            assert!(error.contains("model.safetensors, tensor lm_head.weight: ") && error.contains("\"tie_word_embeddings\": true"), "{error}");
        }
    }
    // And where it is not tied, it must be there.
    let untied = Config { tie_word_embeddings: false, ..config };
    write(&path("none"), &bytes, &untied, 1, |stored| stored.retain(|tensor| tensor.0 != "lm_head.weight"));
    let error = open(&path("none")).err().unwrap().to_string();
    assert!(error.contains("tensor lm_head.weight: missing") && error.contains("tie_word_embeddings"), "{error}");
}

/// A tokenizer with a hole in its vocabulary, and a model with rows beyond it; the rows that no token has are the loudest of all.
fn padded(folder: &Path) -> Vec<u32> {
    let mut json: serde_json::Value = serde_json::from_slice(&tokenizer().to_bytes().unwrap()).unwrap();
    // The last two tokens move up: their ids are free.
    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
    let last = vocabulary.values().filter_map(|id| id.as_u64()).max().unwrap();
    vocabulary.values_mut().filter(|id| id.as_u64() >= Some(last - 1)).for_each(|id| *id = (id.as_u64().unwrap() + 5).into());
    let config = Config { tie_word_embeddings: false, ..config(last as usize + 30) };
    let absent: Vec<u32> = (last as u32 - 1..last as u32 + 4).chain(last as u32 + 6..last as u32 + 30).collect();
    write(folder, json.to_string().as_bytes(), &config, 1, |stored| {
        let head = stored.iter_mut().find(|tensor| tensor.0 == "lm_head.weight").unwrap();
        let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(&head.3);
        absent.iter().for_each(|&id| values[id as usize * 32..][..32].iter_mut().for_each(|x| *x *= 100.0));
        head.3 = bytemuck::cast_slice(&values).to_vec();
    });
    absent
}

#[test]
fn ids_that_the_tokenizer_lacks_are_never_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let absent = padded(folder.path());
    for device in test_devices() {
        let model = ModelFolder::open(folder.path(), &device, DType::F32).unwrap();
        let ids = output_ids(&model.config, &model.tokenizer);
        assert_eq!(ids.absent, absent);
        assert!(absent.iter().all(|&id| !model.tokenizer.knows(id)) && model.tokenizer.knows(0) && model.tokenizer.knows(absent[0] - 1));
        let special = model.tokenizer.special();
        let packer = Packer { config: &model.config, budget: 200, placeholders: placeholders(&special) };
        let prompt = |word: &str| {
            let words = model.tokenizer.encode(word).unwrap();
            let rows = std::iter::once(special.bos).chain(words).map(|id| TokenRow::Token { id, truth: id, learned: false }).collect();
            Sequence { rows, ..Sequence::default() }
        };
        let prompts = ["a", "cat", "a red", "night", "in the sun"].map(prompt);
        let mut generator = Generator::new(&model.config, &model.parameters, prompts.len()).unwrap();
        let hot = Sampling { temperature: 50.0, ..Sampling::default() };
        let hottest = Sampling { temperature: f32::MAX, top_k: model.config.vocab_size - 1, seed: 3, ..hot };
        for sampling in [Sampling::default(), Sampling { temperature: 1.0, ..hot }, hot, Sampling { top_k: 3, ..hot }, Sampling { top_p: 0.9, ..hot }, hottest]
        {
            let mut run = |ids: &OutputIds| generator.run(&model.parameters, &packer, &prompts, ids, 24, sampling, |_, _| ()).unwrap().concat();
            // The test can fail: without the list they are chosen.
            let free = OutputIds { absent: Vec::new(), ..ids.clone() };
            assert!(run(&free).iter().any(|id| absent.contains(id)), "{device}: {sampling:?}");
            let chosen = run(&ids);
            assert!(chosen.iter().all(|id| model.tokenizer.knows(*id)), "{device}: {sampling:?}: {chosen:?}");
        }
        // Scoring: the loss is over all rows, as in training; the best is a token.
        let sample = Sequence {
            rows: prompts[4]
                .rows
                .iter()
                .map(|row| match row {
                    TokenRow::Token { id, truth, .. } => TokenRow::Token { id: *id, truth: *truth, learned: true },
                    other => *other,
                })
                .collect(),
            ..Sequence::default()
        };
        let batch = packer.pack(&[sample]).unwrap();
        let scored = |ids: &OutputIds| Scorer::new(&model.config, &model.parameters, batch.rows(), ids).unwrap().run(&model.parameters, &batch).unwrap();
        let (all, known) = (scored(&OutputIds::default()), scored(&ids));
        assert!(!all.is_empty() && all.iter().any(|p| absent.contains(&p.best)));
        assert!(known.iter().all(|p| model.tokenizer.knows(p.best)));
        assert!(all.iter().zip(&known).all(|(a, b)| a.loss == b.loss));
        // Describing, and the words near a row.
        let mut describer = Describer::new(&model, 1);
        let question = describer.question(None, None, "a cat").unwrap();
        describer.answer(&[question], hot, 40, |_, _| ()).unwrap();
        let found = probe(&model, &Asked { word: Some("cat"), nearest: 5, ..Asked::default() }).unwrap();
        let near: Vec<u32> = found.word.unwrap().rows.iter().flatten().flatten().map(|near| near.id).collect();
        assert!(near.len() == 15 && near.iter().all(|id| model.tokenizer.knows(*id)), "{near:?}");
    }
    let said = described(folder.path());
    assert!(said.contains("\"token_ids\""), "{said}");
}

#[test]
fn any_of_several_ends_ends_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let plain = Config { eos_token_id: vec![tokenizer.special().eos], ..config(tokenizer.vocabulary()) };
    write(folder.path(), &tokenizer.to_bytes().unwrap(), &plain, 1, |_| ());
    let ids = |line: String| -> Vec<u32> { serde_json::from_value(serde_json::from_str::<serde_json::Value>(&line).unwrap()["token_ids"].clone()).unwrap() };
    let before = ids(described(folder.path()));
    assert_eq!(before.len(), 8, "a text that does not end by itself");
    let end = before[3];
    let first = before.iter().position(|id| *id == end).unwrap();
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let eos = tokenizer.special().eos;
    let changed = config.replace(&format!("\"eos_token_id\": {eos}"), &format!("\"eos_token_id\": [{eos}, {end}, 4000000]"));
    assert_ne!(changed, config);
    fs::write(folder.path().join("config.json"), changed).unwrap();
    assert_eq!(ids(described(folder.path())), before[..first]);
}

#[test]
fn dropout_in_a_tokenizer_is_cleared_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let plain = tokenizer();
    let mut json: serde_json::Value = serde_json::from_slice(&plain.to_bytes().unwrap()).unwrap();
    json["model"]["dropout"] = 0.5.into();
    write(folder.path(), json.to_string().as_bytes(), &config(plain.vocabulary()), 1, |_| ());
    let model = open(folder.path()).unwrap();
    assert_eq!((model.tokenizer.cleared_dropout(), plain.cleared_dropout()), (Some(0.5), None));
    for _ in 0..20 {
        assert_eq!(model.tokenizer.encode("a fluffy orange cat singing").unwrap(), plain.encode("a fluffy orange cat singing").unwrap());
    }
    let adopted = Tokenizer::adopt(json.to_string().as_bytes()).unwrap().tokenizer;
    assert_eq!(adopted.cleared_dropout(), Some(0.5));
    let written: serde_json::Value = serde_json::from_slice(&adopted.to_bytes().unwrap()).unwrap();
    assert!(written["model"]["dropout"].is_null());
    let output = trimodal(&["describe", folder.path().to_str().unwrap(), "--prompt", "a", "--device", "cpu"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && words.matches("tokenizer.json: its BPE dropout of 0.5 is cleared").count() == 1, "{words}");
}

/// `--config config.json` takes the sizes through the same reader.
#[test]
fn a_config_to_take_the_sizes_from_is_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_str(&config(300).to_json()).unwrap();
    json.as_object_mut().unwrap().remove("rope_theta");
    json["rope_parameters"] = serde_json::json!({ "rope_theta": 1e6, "rope_type": "default" });
    fs::write(&path, json.to_string()).unwrap();
    assert_eq!(Settings::named(path.to_str().unwrap()).unwrap().model.rope_theta, 1e6);
    for (key, value) in [
        ("rope_parameters", serde_json::json!({ "rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0 })),
        ("attention_bias", true.into()),
        ("quantization_config", serde_json::json!({ "quant_method": "gptq" })),
    ] {
        let mut wrong = json.clone();
        wrong[key] = value;
        fs::write(&path, wrong.to_string()).unwrap();
        let error = Settings::named(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("config.json: {key}")), "{error}");
    }
    // Dropout matters for training alone: said, and ignored.
    json["attention_dropout"] = 0.25.into();
    fs::write(&path, json.to_string()).unwrap();
    let output = trimodal(&["config", path.to_str().unwrap()]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && words.contains("attention_dropout is 0.25: it is ignored"), "{words}");
}
