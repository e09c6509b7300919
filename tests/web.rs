//! `trimodal web`: the page in a headless Chromium with its software adapter. Every shader goes through the browser's own compiler and
//! computes what it should; a picture and a sound get the caption that the program gives, token for token.

mod chromium;
#[path = "chromium/readable.rs"]
mod readable;
#[path = "common/vectors.rs"]
mod vectors;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chromium::Chromium;
use readable::is_readable;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use trimodal::describe::Describer;
use trimodal::device::Language;
use trimodal::files::safetensors::{load_safetensors, save_safetensors};
use trimodal::interpret::explain::explain;
use trimodal::model::generate::Sampling;
use trimodal::train::ModelFolder;
use trimodal::vendor::snippet::{self, Host};
use trimodal::{DType, Device};

/// WebGPU without a GPU: SwiftShader, which comes with Chromium. A made microphone that needs no permission.
const FLAGS: [&str; 4] = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).output().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let output = trimodal(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A small data set and a run on it: what the model says is not sense, but words of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self::trained(&[])
    }

    fn trained(settings: &[&str]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        good(&["meadow", &folder.path("data"), "--samples", "60", "--test-samples", "4", "--seed", "5"]);
        let (data, run) = (folder.path("data"), folder.path("run"));
        let train = ["train", &data, "--out", &run, "--steps", "60", "--device", "cpu", "--seed", "9", "--no-report"];
        let settings = settings.iter().flat_map(|setting| ["--set", *setting]);
        good(&train.into_iter().chain(settings).collect::<Vec<_>>());
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    /// The first file of a folder of the data set.
    fn first(&self, of: &str) -> String {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.path(of)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files[0].to_str().unwrap().to_string()
    }
}

/// `trimodal web` on a port of its own.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trimodal"));
        let mut child = command.arg("web").args(arguments).args(["--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")).expect("the address").to_string();
        Served { child, address }
    }

    fn host(&self) -> &str {
        self.address.trim_start_matches("http://").trim_end_matches('/')
    }

    /// The answer to these bytes: its first line with its headers, and its body.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (head.to_lowercase(), body.to_string())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

/// The same with an eye of convolutions: 24 × 24 patches become 24 × 24, 12 × 12, 12 × 12, then 6 × 6 places.
static WITH_STEM: LazyLock<Folder> = LazyLock::new(|| Folder::trained(&["patch_size=2", "stem=8, 8, 12/2, 12, 16/2", "word_bag=1"]));

fn wait(browser: &mut Chromium, condition: &str) {
    let waited = format!(
        "new Promise((good, bad) => {{ const look = setInterval(() => {{ if ({condition}) {{ clearInterval(look); good(true); }} }}, 20); \
         setTimeout(() => bad(Error('still not: ' + {condition:?} + '; trouble: ' + document.getElementById('trouble').textContent)), 300000); }})"
    );
    assert_eq!(browser.evaluate(&waited), true);
}

fn ready(browser: &mut Chromium) {
    wait(browser, "document.documentElement.dataset.ready");
}

/// A browser with the page of `trimodal web`, ready. `None` where there is no browser.
fn opened() -> Option<(Chromium, Served)> {
    let mut browser = Chromium::start(&FLAGS)?;
    let served = Served::new(&[]);
    browser.open(&served.address);
    ready(&mut browser);
    Some((browser, served))
}

/// Gives files to one of the page's inputs, as a person chooses them.
fn choose(browser: &mut Chromium, input: &str, files: &[&str]) {
    let root = browser.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
    let node = browser.call("DOM.querySelector", json!({ "nodeId": root, "selector": input }))["nodeId"].clone();
    browser.call("DOM.setFileInputFiles", json!({ "nodeId": node, "files": files }));
}

/// The ids of the words of the page's answer of this number, and its sentence.
fn said(browser: &mut Chromium, number: usize) -> (Value, Value) {
    wait(browser, &format!("document.getElementById('answer').dataset.number == {number}"));
    let ids = browser.evaluate("[...document.querySelectorAll('#words button')].map(word => Number(word.dataset.id))");
    (ids, browser.evaluate("document.getElementById('said').textContent"))
}

/// The same of the program, on the CPU.
fn expected(run: &str, more: &[&str]) -> (Value, Value) {
    let line: Value = serde_json::from_str(&good(&[&["describe", run, "--json", "--device", "cpu"], more].concat())).unwrap();
    assert!(!line["token_ids"].as_array().unwrap().is_empty(), "words to compare: {line}");
    (line["token_ids"].clone(), line["text"].clone())
}

#[test]
fn a_picture_and_a_sound_get_the_caption_that_the_program_gives() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let (run, picture, sound) = (FOLDER.path("run"), FOLDER.first("data/images"), FOLDER.first("data/audio"));
    let served = Served::new(&[&run]);
    browser.open(&served.address);
    ready(&mut browser);
    assert!(browser.evaluate("document.getElementById('model').textContent").as_str().unwrap().starts_with("run, step-00000060: "));

    choose(&mut browser, "#picture-file", &[&picture]);
    assert_eq!(said(&mut browser, 1), expected(&run, &["--image", &picture]));
    choose(&mut browser, "#sound-file", &[&sound]);
    assert_eq!(said(&mut browser, 2), expected(&run, &["--image", &picture, "--audio", &sound]));

    // Each word shows what it was made from: by keyboard, over picture and sound, and in words.
    let veiled = "['picture', 'sound'].map(id => document.getElementById(id).toDataURL())";
    let before = browser.evaluate(veiled);
    browser.evaluate("document.querySelector('#words button').focus()");
    browser.press(" ", 32);
    wait(&mut browser, "document.querySelector('#words button').ariaPressed == 'true'");
    let after = browser.evaluate(veiled);
    assert!(before[0] != after[0] && before[1] != after[1], "a veil over both");
    let looked = browser.evaluate("document.getElementById('looked').textContent");
    assert!(looked.as_str().unwrap().contains(" % on the picture and "), "{looked}");
    browser.evaluate("document.getElementById('head').value = '1'; document.getElementById('head').dispatchEvent(new Event('change'))");
    assert_ne!(browser.evaluate(veiled)[0], after[0], "one head looks elsewhere than their mean");

    // Sound alone; then what the microphone hears.
    browser.evaluate("document.getElementById('remove-picture').click()");
    assert_eq!(said(&mut browser, 3), expected(&run, &["--audio", &sound]));
    browser.evaluate("document.getElementById('record').click()");
    wait(&mut browser, "document.getElementById('record').textContent == 'Stop'");
    browser.evaluate("new Promise(good => setTimeout(good, 1500)).then(() => document.getElementById('record').click())");
    wait(&mut browser, "document.getElementById('sound-caption').textContent.startsWith('The loudest part')");
    said(&mut browser, 4);

    // Another model's three files, and what is none.
    let folder = PathBuf::from(&run).join("step-00000060");
    let files = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| folder.join(name).to_str().unwrap().to_string());
    choose(&mut browser, "#model-files", &files.each_ref().map(String::as_str));
    wait(&mut browser, "document.getElementById('model').textContent.startsWith('The model: ')");
    choose(&mut browser, "#picture-file", &[&picture]);
    assert_eq!(said(&mut browser, 5), expected(&run, &["--image", &picture]));
    choose(&mut browser, "#model-files", &[&files[0]]);
    wait(&mut browser, "document.getElementById('trouble').textContent.includes('no model among 1 files')");
    let broken = FOLDER.path("broken.png");
    std::fs::write(&broken, "not a picture").unwrap();
    choose(&mut browser, "#picture-file", &[&broken]);
    wait(&mut browser, "document.getElementById('trouble').textContent.includes('broken.png is not a picture that this browser can read')");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// "Try an example" shows a picture and a sound, and is answered once: what is said before both are there would be about something else.
/// Meanwhile a bar shows how many kernels are compiled, and the page says that this adapter is slow.
#[test]
fn the_example_is_answered_once_about_both() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let run = FOLDER.path("run");
    let served = Served::new(&[&run]);
    browser.open(&served.address);
    ready(&mut browser);
    assert_eq!(browser.evaluate("document.getElementById('software').checkVisibility()"), true, "SwiftShader is a program");
    assert_eq!(browser.evaluate("document.getElementById('compile-progress').checkVisibility()"), false);
    // Everything that the page says, and how far the bar is each time that it moves.
    browser.evaluate(
        "window.seen = { said: [], bar: [] };
         const on = (id, act) => new MutationObserver(act).observe(document.getElementById(id), { childList: true, attributes: true, characterData: true });
         on('said', () => seen.said.push(document.getElementById('said').textContent));
         const bar = document.getElementById('compile-progress');
         on('compile-progress', () => { if (bar.checkVisibility()) seen.bar.push([bar.value, bar.max]); });
         document.getElementById('example').click()",
    );
    let (ids, text) = said(&mut browser, 1);
    let files = ["picture.png", "sound.wav"].map(|name| FOLDER.path(name));
    for (file, name) in files.iter().zip(["picture.png", "sound.wav"]) {
        let bytes = browser.evaluate(&format!("fetch('example/{name}').then((answer) => answer.arrayBuffer()).then((bytes) => [...new Uint8Array(bytes)])"));
        std::fs::write(file, serde_json::from_value::<Vec<u8>>(bytes).unwrap()).unwrap();
    }
    assert_eq!((ids, text.clone()), expected(&run, &["--image", &files[0], "--audio", &files[1]]));
    let seen = browser.evaluate("window.seen");
    let text = text.as_str().unwrap();
    for said in seen["said"].as_array().unwrap().iter().map(|said| said.as_str().unwrap()) {
        let begun = said.strip_suffix(" …").unwrap_or(said);
        assert!(said == "Looking …" || text.starts_with(begun), "{said:?} on the way to {text:?}");
    }
    let bar: Vec<[usize; 2]> = serde_json::from_value(seen["bar"].clone()).unwrap();
    assert!(bar.iter().any(|[done, of]| *of >= 8 && (1..*of).contains(done)), "a bar that moves: {bar:?}");
    assert_eq!(browser.evaluate("document.getElementById('compile-progress').checkVisibility()"), false);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// The engine itself, asked without the page: the ids that the program gives, these rows of the picture, and weights on them that are the
/// program's.
fn weights_are_the_programs(browser: &mut Chromium, run: &str, picture: &str, rows: &Value) {
    let engine = format!(
        "(async () => {{
           const [{{ Gpu }}, contract, folder, {{ Model }}, {{ load }}] =
             await Promise.all(['gpu', 'contract', 'folder', 'model', 'picture'].map((name) => import(`/${{name}}.js`)));
           await contract.load();
           const model = new Model(await Gpu.open(), await folder.beside(['config.json', 'tokenizer.json', 'model.safetensors']));
           const bytes = Uint8Array.from(atob('{}'), (letter) => letter.charCodeAt(0));
           const pixels = await load(new Blob([bytes]), model.sizes.vision.side);
           const {{ ids, words, prompt }} = await model.describe({{ pixels }});
           const first = words[0].weights.map((heads) => heads.map((weights) => [...weights]));
           model.destroy();
           return {{ ids, picture: prompt.picture, first }};
         }})()",
        BASE64_STANDARD.encode(std::fs::read(picture).unwrap())
    );
    let found = browser.evaluate(&engine);
    let model = ModelFolder::open(Path::new(run), &Device::Cpu, DType::F32).unwrap();
    let mut describer = Describer::new(&model, 1);
    let question = describer.question(Some(Path::new(picture)), None, "").unwrap();
    let answer = describer.answer(std::slice::from_ref(&question), Sampling::default(), 256, |_, _| ()).unwrap().remove(0);
    assert_eq!(found["ids"], json!(answer.ids));
    assert_eq!(found["picture"], *rows);
    let shown = rows["shown"].as_u64().unwrap() as usize;
    let program = explain(&model, &question, &answer).unwrap().words.remove(0).picture;
    let first: Vec<Vec<Vec<f32>>> = serde_json::from_value(found["first"].clone()).unwrap();
    let page: Vec<f32> = first.iter().flatten().flat_map(|row| row[2..2 + shown].to_vec()).collect();
    assert_eq!(program.len(), page.len());
    let worst = program.iter().zip(&page).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "weights on the picture are off by {worst}");
}

/// A model whose eye is a stem of convolutions says what the program says; where a word looked is shown on the stem's grid, without the row
/// of the picture as a whole.
#[test]
fn a_model_with_a_stem_gets_the_caption_that_the_program_gives() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let (run, picture, sound) = (WITH_STEM.path("run"), WITH_STEM.first("data/images"), WITH_STEM.first("data/audio"));
    let served = Served::new(&[&run]);
    browser.open(&served.address);
    ready(&mut browser);
    assert_eq!(browser.evaluate("document.getElementById('trouble').textContent"), "");
    choose(&mut browser, "#picture-file", &[&picture]);
    assert_eq!(said(&mut browser, 1), expected(&run, &["--image", &picture]));
    choose(&mut browser, "#sound-file", &[&sound]);
    assert_eq!(said(&mut browser, 2), expected(&run, &["--image", &picture, "--audio", &sound]));
    weights_are_the_programs(&mut browser, &run, &picture, &json!({ "start": 2, "end": 2 + 36 + 1, "places": 36, "shown": 36 }));

    let veiled = "document.getElementById('picture').toDataURL()";
    let before = browser.evaluate(veiled);
    browser.evaluate("document.querySelector('#words button').click()");
    assert_ne!(browser.evaluate(veiled), before, "a veil");
    let looked = browser.evaluate("document.getElementById('looked').textContent");
    assert!(looked.as_str().unwrap().contains(" % on the picture"), "{looked}");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// A stem that makes one row of a picture and no others.
#[test]
fn a_model_that_sees_a_picture_as_one_row_gets_the_caption_that_the_program_gives() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let folder = Folder::trained(&["patch_size=4", "stem=8, 8, 12/2, whole", "word_bag=1"]);
    let (run, picture) = (folder.path("run"), folder.first("data/images"));
    let served = Served::new(&[&run]);
    browser.open(&served.address);
    ready(&mut browser);
    choose(&mut browser, "#picture-file", &[&picture]);
    assert_eq!(said(&mut browser, 1), expected(&run, &["--image", &picture]));
    browser.evaluate("document.querySelector('#words button').click()");
    assert!(browser.evaluate("document.getElementById('looked').textContent").as_str().unwrap().contains(" % on the picture"));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// Models that count colours and edges for the row of a picture as a whole: beside patches, and added to what a stem makes of it.
#[test]
fn a_model_with_histograms_gets_the_caption_that_the_program_gives() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    for (settings, rows) in [
        (["patch_size=8", "stem=", "histograms=8, 6, 4, 3", "word_bag=1"].as_slice(), json!({ "start": 2, "end": 2 + 36 + 1, "places": 36, "shown": 36 })),
        (&["patch_size=4", "stem=8, 8, 12/2, whole", "histograms=6, 1", "word_bag=1"], json!({ "start": 2, "end": 2 + 1, "places": 0, "shown": 1 })),
    ] {
        let folder = Folder::trained(settings);
        let (run, picture, sound) = (folder.path("run"), folder.first("data/images"), folder.first("data/audio"));
        let served = Served::new(&[&run]);
        browser.open(&served.address);
        ready(&mut browser);
        assert_eq!(browser.evaluate("document.getElementById('trouble').textContent"), "", "{settings:?}");
        choose(&mut browser, "#picture-file", &[&picture]);
        assert_eq!(said(&mut browser, 1), expected(&run, &["--image", &picture]), "{settings:?}");
        choose(&mut browser, "#sound-file", &[&sound]);
        assert_eq!(said(&mut browser, 2), expected(&run, &["--image", &picture, "--audio", &sound]), "{settings:?}");
        weights_are_the_programs(&mut browser, &run, &picture, &rows);
        let veiled = "document.getElementById('picture').toDataURL()";
        let before = browser.evaluate(veiled);
        browser.evaluate("document.querySelector('#words button').click()");
        assert!(browser.evaluate("document.getElementById('looked').textContent").as_str().unwrap().contains(" % on the picture"));
        // One place is as bright as the brightest.
        assert_eq!(browser.evaluate(veiled) == before, rows["shown"] == 1, "{settings:?}: a veil");
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// A run as other programs leave it: re-saved by `transformers` 5 in shards, its vocabulary padded with rows that no token has and that
/// would always be chosen, its output layer stored beside the table that it is tied to.
#[test]
fn a_model_saved_by_others_gets_the_same_caption() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let (run, picture) = (FOLDER.path("run"), FOLDER.first("data/images"));
    let (ids, text) = expected(&run, &["--image", &picture]);
    let first = ids[0].as_u64().unwrap() as usize;
    let (from, to) = (PathBuf::from(&run).join("step-00000060"), PathBuf::from(FOLDER.path("resaved")));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("tokenizer.json"), to.join("tokenizer.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
    let rows = config["vocab_size"].as_u64().unwrap() + 7;
    let theta = config.as_object_mut().unwrap().remove("rope_theta").unwrap();
    config["rope_parameters"] = json!({ "rope_theta": theta, "rope_type": "default" });
    config["layer_types"] = json!(vec!["full_attention"; config["num_hidden_layers"].as_u64().unwrap() as usize]);
    (config["vocab_size"], config["sliding_window"], config["num_key_value_heads"]) = (rows.into(), Value::Null, Value::Null);
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
    let mut tensors = load_safetensors(&from.join("model.safetensors")).unwrap();
    let (shape, _, bytes) = tensors.get_mut("model.embed_tokens.weight").unwrap();
    let width = shape[1];
    let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
    let loud: Vec<f32> = values[first * width..][..width].iter().map(|x| 3.0 * x).collect();
    values.extend(loud.repeat(7));
    (shape[0], *bytes) = (rows as usize, bytemuck::cast_slice(&values).to_vec());
    let head = tensors["model.embed_tokens.weight"].clone();
    tensors.insert("lm_head.weight".into(), head);
    let write = |tensors: &std::collections::BTreeMap<String, trimodal::files::safetensors::Stored>| {
        let all: Vec<_> = tensors.iter().map(|(name, (shape, dtype, bytes))| (name.clone(), shape.clone(), *dtype, bytes.clone())).collect();
        let mut map = serde_json::Map::new();
        for (i, part) in all.chunks(all.len().div_ceil(2)).enumerate() {
            let name = format!("model-0000{}-of-00002.safetensors", i + 1);
            map.extend(part.iter().map(|tensor| (tensor.0.clone(), name.clone().into())));
            save_safetensors(&to.join(&name), &[], part).unwrap();
        }
        std::fs::write(to.join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    };
    write(&tensors);
    let resaved = to.to_str().unwrap();
    assert_eq!(expected(resaved, &["--image", &picture]), (ids.clone(), text.clone()));
    let served = Served::new(&[resaved]);
    browser.open(&served.address);
    ready(&mut browser);
    choose(&mut browser, "#picture-file", &[&picture]);
    assert_eq!(said(&mut browser, 1), (ids.clone(), text.clone()));
    // The same files given by hand; then without one of them; then with another output layer.
    let mut files: Vec<String> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().path().to_str().unwrap().to_string()).collect();
    files.sort();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    choose(&mut browser, "#model-files", &files);
    wait(&mut browser, "document.getElementById('model').textContent.startsWith('The model: ')");
    choose(&mut browser, "#picture-file", &[&picture]);
    assert_eq!(said(&mut browser, 2), (ids, text));
    let some: Vec<&str> = files.iter().copied().filter(|file| !file.contains("00002-of")).collect();
    choose(&mut browser, "#model-files", &some);
    wait(&mut browser, "document.getElementById('trouble').textContent.includes('model-00002-of-00002.safetensors: missing')");
    tensors.get_mut("lm_head.weight").unwrap().2[5] ^= 1;
    write(&tensors);
    choose(&mut browser, "#model-files", &files);
    wait(&mut browser, "document.getElementById('trouble').textContent.includes('lm_head.weight: expected the numbers of model.embed_tokens.weight')");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

fn eye(stem: Value) -> Value {
    json!({ "image_size": 48, "patch_size": 8, "bidirectional": true, "stem": stem })
}

fn counted(histograms: Value) -> Value {
    json!({ "image_size": 48, "patch_size": 8, "bidirectional": true, "histograms": histograms })
}

/// The page's reader of a config.json is held to the crate's: both read the same of every case of `tests/transformers.rs`, or both refuse.
#[test]
fn a_config_is_read_as_the_program_reads_it() {
    let Some((mut browser, _served)) = opened() else { return };
    let fixture: Value =
        serde_json::from_str(&std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformers/configs.json")).unwrap()).unwrap();
    let mut configs: Vec<Value> = fixture["cases"].as_array().unwrap().iter().map(|case| case["config"].clone()).collect();
    // Values that make no sense, and what none of the cases has.
    let base = configs[0].clone();
    for (key, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1u64 << 40)),
        ("hidden_size", json!("16")),
        ("num_attention_heads", json!(3)),
        ("head_dim", json!(7)),
        ("head_dim", json!(256)),
        ("rms_norm_eps", json!(2)),
        ("rope_theta", json!(0.5)),
        ("rope_theta", json!("1e4")),
        ("rope_parameters", json!({ "rope_theta": "1e4" })),
        ("rope_parameters", json!([1])),
        ("rope_parameters", json!("default")),
        ("rope_parameters", json!({ "type": null, "rope_theta": null })),
        ("rope_scaling", json!({ "rope_type": "longrope" })),
        ("tie_word_embeddings", json!("yes")),
        ("tie_word_embeddings", json!(null)),
        ("eos_token_id", json!([])),
        ("eos_token_id", json!("2")),
        ("eos_token_id", json!([2, -1])),
        ("layer_types", json!([])),
        ("layer_types", json!(["full_attention", 1])),
        ("max_window_layers", json!(null)),
        ("quantization_config", json!({})),
        ("per_layer_config", json!({})),
        ("per_layer_config", json!({ "0": {} })),
        ("vision_config", json!(null)),
        ("vision_config", json!({ "image_size": 48, "patch_size": 8, "bidirectional": true })),
        ("vision_config", json!({ "image_size": 48, "patch_size": 7, "bidirectional": true })),
        ("vision_config", json!({ "image_size": 0, "patch_size": 8, "bidirectional": true })),
        ("vision_config", json!({ "image_size": 48, "patch_size": 8 })),
        ("vision_config", json!(48)),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "channels": 8, "stride": 1 }, { "channels": 12, "stride": 2 }], "places": true }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [] }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": vec![json!({ "channels": 8, "stride": 1 }); 65] }))),
        ("vision_config", eye(json!({ "width": 8, "places": true, "convolutions": vec![json!({ "channels": 8, "stride": 1 }); 64] }))),
        ("vision_config", eye(json!({ "width": 0, "convolutions": [{ "channels": 8, "stride": 1 }] }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "channels": 4097, "stride": 1 }] }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "channels": 8, "stride": 3 }] }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "channels": 8 }] }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "stride": 1 }] }))),
        ("vision_config", eye(json!({ "width": 8.5, "convolutions": [{ "channels": 8, "stride": 1 }] }))),
        ("vision_config", eye(json!({ "convolutions": [{ "channels": 8, "stride": 1 }] }))),
        ("vision_config", eye(json!({ "width": 8 }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [null] }))),
        ("vision_config", eye(json!("8, 12/2"))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "channels": 8, "stride": 1 }], "places": false }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "channels": 8, "stride": 1 }], "places": "no" }))),
        ("vision_config", eye(json!({ "width": 8, "convolutions": [{ "channels": 8, "stride": 1 }], "places": null }))),
        ("vision_config", counted(json!([]))),
        ("vision_config", counted(json!([8, 6, 4, 3]))),
        ("vision_config", counted(json!([48, 48]))),
        ("vision_config", counted(json!(null))),
        ("vision_config", counted(json!(6))),
        ("vision_config", counted(json!("8, 6"))),
        ("vision_config", counted(json!([8, 6, 4, 3, 2]))),
        ("vision_config", counted(json!([8, 0]))),
        ("vision_config", counted(json!([8, -6]))),
        ("vision_config", counted(json!([1.5]))),
        ("vision_config", counted(json!(["8"]))),
        ("vision_config", counted(json!([8, 5]))),
        ("vision_config", counted(json!([96]))),
        ("vision_config", counted(json!([[8]]))),
        ("audio_config", json!({ "num_mel_bins": 40, "sample_rate": 16000, "clip_seconds": 0.5, "layers": 3 })),
        ("picture_fit", json!("pad")),
        ("picture_fit", json!("stretch")),
    ] {
        let mut config = base.clone();
        config[key] = value;
        configs.push(config);
    }
    let said = browser.evaluate(&format!(
        "import('/config.js').then(({{ readConfig }}) => {}.map((config) => {{ try {{ return readConfig(config); }} catch (error) {{ return error.message; }} }}))",
        Value::from(configs.clone())
    ));
    let (mut read, mut refused) = (0, 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for (config, said) in configs.iter().zip(said.as_array().unwrap()) {
        std::fs::write(&path, config.to_string()).unwrap();
        match trimodal::model::Config::load(&path) {
            Ok(ours) => {
                read += 1;
                assert!(said.is_object(), "{config}: the page says {said}");
                let mut expected = serde_json::to_value(&ours).unwrap();
                expected["eos_token_id"] = json!(ours.eos_token_id);
                for key in ["vision_config", "audio_config", "picture_fit"] {
                    expected[key] = match key {
                        "picture_fit" => serde_json::to_value(ours.picture_fit).unwrap(),
                        _ => expected.get(key).cloned().unwrap_or(Value::Null),
                    };
                }
                if let Some(vision) = &ours.vision_config {
                    expected["vision_config"]["histograms"] = json!(vision.histograms);
                }
                for (key, value) in said.as_object().unwrap() {
                    let same = match (value.as_f64(), expected[key].as_f64()) {
                        (Some(a), Some(b)) => (a as f32) == (b as f32),
                        _ => *value == expected[key],
                    };
                    assert!(same, "{config}: {key}: the page reads {value}, the program {}", expected[key]);
                }
            }
            Err(error) => {
                refused += 1;
                assert!(said.as_str().is_some_and(|said| said.starts_with("config.json: ")), "{config}: the program says {error}, the page {said}");
                // The same key, where the program names one.
                let error = error.to_string();
                let key = error.split("config.json: ").nth(1).and_then(|rest| rest.split([':', '.', ' ']).next()).unwrap_or_default();
                assert!(config.get(key).is_none() || said.as_str().unwrap().contains(key), "{error}, {said}");
            }
        }
    }
    assert!(read > 40 && refused > 30, "{read} read, {refused} refused");
}

/// One case of every operation and rung, and of every entry point: on a software adapter each pipeline takes a second to compile. The
/// whole self-test is the next test.
const SOME_CASES: &str = "(async () => {
  const [{ Gpu }, golden] = await Promise.all([import('/gpu.js'), import('/golden.js')]);
  const gpu = await Gpu.open();
  const all = await golden.list();
  const rungs = Map.groupBy(all, (one) => `${one.op} ${one.case}`);
  const some = [...rungs.values()].map((cases) => cases[cases.length >> 1]);
  const covered = new Set(some.flatMap((one) => one.entries));
  for (const one of all) {
    if (one.entries.some((entry) => !covered.has(entry))) {
      some.push(one);
      one.entries.forEach((entry) => covered.add(entry));
    }
  }
  const wrong = [];
  for (const one of some) {
    const { ok, error } = await golden.replay(gpu, await golden.prepare(gpu, one));
    if (!ok) wrong.push(`${one.op} ${one.case}, ${one.label}: ${error}`);
  }
  // A result that is wrong by a little is found, and so is one that is no number.
  const spoiled = await golden.prepare(gpu, all.findLast((one) => one.op === 'swiglu'));
  const { buffer, absolute, relative } = spoiled.compare[0];
  const expected = spoiled.tensors.get(`expected.${spoiled.buffers[buffer].name}`);
  const verdicts = [];
  for (const off of [(x) => x + 3 * (absolute + relative * Math.abs(x)), () => NaN]) {
    const numbers = new Float64Array(expected.bytes.slice().buffer);
    numbers[0] = off(numbers[0]);
    spoiled.tensors.set(`expected.${spoiled.buffers[buffer].name}`, { ...expected, bytes: new Uint8Array(numbers.buffer) });
    verdicts.push((await golden.replay(gpu, spoiled)).ok);
  }
  // No case launches what measures a device; the browser's compiler must take it all the same.
  for (const entry of ['copy', 'multiply_add', 'shared_memory']) await gpu.pipeline({ file: 'shaders/ceiling.wgsl', entry });
  return { wrong, verdicts, cases: some.length, covered: [...covered, 'ceiling.copy', 'ceiling.multiply_add', 'ceiling.shared_memory'] };
})()";

#[test]
fn every_entry_point_of_every_shader_computes_what_it_should() {
    let Some((mut browser, _served)) = opened() else { return };
    let found = browser.evaluate(SOME_CASES);
    assert_eq!(found["wrong"], json!([]));
    assert_eq!(found["verdicts"], json!([false, false]), "what is wrong must fail");
    let covered: Vec<&str> = found["covered"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect();
    for shader in trimodal::device::shader::SHADERS {
        for entry in shader.entries {
            assert!(covered.contains(&format!("{}.{}", shader.stem, entry.name).as_str()), "{}.{} was not run", shader.stem, entry.name);
        }
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// The contract in JavaScript refuses what breaks it, as `contract.rs` does; what fits it the cases above let through.
#[test]
fn launches_are_held_to_the_contract() {
    let Some((mut browser, _served)) = opened() else { return };
    let broken = vectors::broken(Language::Wgsl);
    let launches: Vec<[&Value; 2]> = broken.iter().map(|b| [&b.launch, &b.buffers]).collect();
    let said = browser.evaluate(&format!(
        "import('/contract.js').then(async ({{ load, hold }}) => {{ await load(); return {}.map(([launch, buffers]) => {{ \
         try {{ hold(launch, buffers); return 'let through'; }} catch (error) {{ return error.message; }} }}); }})",
        serde_json::to_string(&launches).unwrap()
    ));
    for (said, wanted) in said.as_array().unwrap().iter().zip(&broken) {
        assert!(said.as_str().unwrap().contains(wanted.said), "{said}, expected: {}", wanted.said);
    }
    assert_eq!(said.as_array().unwrap().len(), broken.len());
}

/// What `vendor --host webgpu` printed of each entry, with launches of golden vectors to hold its check to.
const TRIED: &str = "(async (printed) => {
  const [{ Gpu }, golden] = await Promise.all([import('/gpu.js'), import('/golden.js')]);
  const gpu = await Gpu.open();
  const AsyncFunction = (async () => {}).constructor;
  const bytes = (hex) => Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16));
  const dimsOf = (fields, bytes) => {
    const view = new DataView(bytes.buffer);
    return Object.fromEntries(fields.map(([field, type], i) => [field, type === 'f32' ? view.getFloat32(4 * i, true) : view.getUint32(4 * i, true)]));
  };
  const wrong = [];
  let checked = 0;
  for (const { name, contract, launch, operands, fields, launches } of printed) {
    // The whole text is a function's body: a slip in it is a SyntaxError.
    const run = new AsyncFunction('device', 'pass', 'dims', ...operands, launch);
    for (const { dims_hex, constants, sizes, groups } of launches) {
      const dims = dimsOf(fields, bytes(dims_hex));
      const overridden = Object.entries(constants).reduce((code, [constant, value]) => code.replace(new RegExp(`const ${constant} = \\\\w+;`), `const ${constant} = ${value};`), contract);
      const check = new Function(`${overridden}; return check;`)();
      try {
        check(dims, sizes);
      } catch (error) {
        wrong.push(`${name}: ${error.message}`);
      }
      if (groups > 0) {
        let refused = false;
        try {
          check(dims, sizes.map(() => 0));
        } catch {
          refused = true;
        }
        if (!refused) wrong.push(`${name}: buffers of no bytes went through`);
      }
      checked += 1;
    }
    if (name !== 'shaders/rms_norm.wgsl forward') continue;
    // One of them as an engine launches it, on the golden vectors of the entry.
    for (const one of (await golden.list()).filter((c) => c.op === 'rms_norm' && c.case.startsWith('forward'))) {
      const prepared = await golden.prepare(gpu, one);
      const verdict = await golden.replay({ __proto__: gpu, run: async (steps) => {
        const encoder = gpu.device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        for (const { dims: raw, buffers } of steps) {
          const dims = dimsOf(fields, raw);
          await run(gpu.device, pass, dims, ...buffers.map((buffer) => buffer ?? gpu.buffer(16)));
        }
        pass.end();
        gpu.device.queue.submit([encoder.finish()]);
      } }, prepared);
      if (!verdict.ok) wrong.push(`${one.file}: ${verdict.error}`);
      checked += 1;
    }
  }
  return { wrong, checked };
})";

/// `vendor --host webgpu`: every launch is JavaScript, its check knows good launches from bad, and it computes.
#[test]
fn what_vendor_prints_for_a_browser_runs_in_it() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let mut of_entry = vectors::launches_by_entry(Language::Wgsl);
    let tried = |(launch, sizes): &vectors::Launched| {
        let constants = if launch["constants"].is_null() { json!({}) } else { launch["constants"].clone() };
        json!({ "dims_hex": launch["dims_hex"], "constants": constants, "sizes": sizes, "groups": launch["groups"] })
    };
    let files = trimodal::contract::shipped().files.iter().filter(|file| file.language == "wgsl");
    let printed: Vec<Value> = files
        .flat_map(|file| file.entries.iter().map(move |entry| (file, entry)))
        .map(|(file, entry)| {
            let launches = of_entry.remove(&[file.file.clone(), entry.name.clone()]).unwrap_or_default();
            json!({
                "name": format!("{} {}", file.file, entry.name),
                "contract": snippet::contract(file, entry, Host::WebGpu),
                "launch": snippet::launch(file, entry, Host::WebGpu),
                "operands": entry.buffers.iter().map(|b| &b.name).collect::<Vec<_>>(),
                "fields": file.dims.fields.iter().map(|f| (&f.name, &f.kind)).collect::<Vec<_>>(),
                "launches": launches.iter().rev().take(4).map(tried).collect::<Vec<_>>(),
            })
        })
        .collect();
    browser.call("Page.setBypassCSP", json!({ "enabled": true })); // the page forbids what makes functions of texts
    let served = Served::new(&[]);
    browser.open(&served.address);
    ready(&mut browser);
    let found = browser.evaluate(&format!("{TRIED}({})", Value::from(printed)));
    assert_eq!(found["wrong"], json!([]));
    assert!(found["checked"].as_u64() > Some(100), "{found}");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// The page in a folder of copied shaders, from a server that knows nothing: it replays the folder's golden vectors.
#[test]
fn copied_shaders_test_themselves_in_a_browser() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("swiglu");
    good(&["vendor", "swiglu", "--host", "webgpu", "--to", folder.to_str().unwrap()]);
    let address = serve(folder.clone());
    browser.open(&format!("{address}self_test/web/"));
    wait(&mut browser, "document.documentElement.dataset.ready");
    let said = browser.evaluate("document.getElementById('status').textContent");
    let count = vectors::index(&folder.join("golden"))["cases"].as_array().unwrap().len();
    assert!(said.as_str().unwrap().starts_with(&format!("{count} of {count} golden vectors are right on ")), "{said}");
    if let Some(shots) = std::env::var_os("TRIMODAL_SCREENSHOTS").map(PathBuf::from) {
        browser.screenshot(&shots.join("vendored-self-test.png"));
    }
    // The launch that was written beside them runs as it is.
    browser.open(&format!("{address}launch.html"));
    wait(&mut browser, "document.documentElement.dataset.ready");
    let said = browser.evaluate("document.getElementById('said').textContent");
    let numbers = said.as_str().unwrap().strip_prefix("y begins ").unwrap_or_else(|| panic!("{said}"));
    assert!(numbers.split_whitespace().count() == 4 && numbers.split_whitespace().all(|n| n.parse::<f32>().is_ok_and(f32::is_finite)), "{said}");
    // A shader that is another is not run as if it were this one.
    let shader = folder.join("shaders/swiglu.wgsl");
    std::fs::write(&shader, std::fs::read_to_string(&shader).unwrap() + "// mine\n").unwrap();
    browser.open(&format!("{address}self_test/web/"));
    wait(&mut browser, "document.documentElement.dataset.ready");
    let said = browser.evaluate("document.getElementById('status').textContent + document.getElementById('failures').textContent");
    assert!(said.as_str().unwrap().starts_with("0 of ") && said.as_str().unwrap().contains("is not the file"), "{said}");
}

/// A static server for the files of a folder, until the test ends.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let path = lines.next().and_then(|line| Some(line.split(' ').nth(1)?.trim_start_matches('/').to_string())).unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = if path.ends_with('/') { path + "index.html" } else { path };
            let kind = match path.rsplit('.').next() {
                Some("html") => "text/html",
                Some("js") => "text/javascript",
                _ => "application/octet-stream",
            };
            let (status, body) = std::fs::read(folder.join(&path)).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

/// A score card is one that `trimodal bench` reads; a small part of the work, because the software adapter is slow.
#[test]
fn the_benchmark_gives_a_score_card_that_the_program_reads() {
    let Some((mut browser, _served)) = opened() else { return };
    let card = browser.evaluate(
        "(async () => {
          const [{ Gpu }, bench] = await Promise.all([import('/gpu.js'), import('/bench.js')]);
          const work = bench.WORK.filter(({ op }) => ['embedding', 'swiglu', 'sample'].includes(op));
          const broken = { op: 'rms_norm', shape: 'none', flops: 1, bytes: 1, make: () => { throw new Error('no room'); } };
          const card = await bench.run(await Gpu.open(), '0.1.0', () => {}, [...work, broken]);
          return { card, text: bench.markdown(card) };
        })()",
    );
    let (text, card) = (card["text"].as_str().unwrap(), &card["card"]);
    assert!(text.contains("| swiglu | n=3932160 | ") && text.contains("Left out: rms_norm forward none f32: no room"), "{text}");
    assert!(card["ceilings"]["copy_bytes_per_second"].as_f64().unwrap() > 1e6 && card["rows"].as_array().unwrap().len() == 3, "{card}");
    let card: trimodal::bench::Card = serde_json::from_value(card.clone()).expect("docs/score-card.md");
    assert_eq!(card.schema, trimodal::bench::SCHEMA);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// Both buttons to their ends: every golden case, and the whole benchmark. Screenshots, where `TRIMODAL_SCREENSHOTS` names a folder.
#[test]
#[ignore = "minutes on a software adapter"]
fn the_whole_self_test_passes_and_the_whole_benchmark_ends() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let run = FOLDER.path("run");
    let served = Served::new(&[&run]);
    browser.resize(1280, 844, false);
    browser.open(&served.address);
    ready(&mut browser);
    browser.evaluate("document.getElementById('example').click()");
    said(&mut browser, 1);
    browser.evaluate("document.querySelectorAll('#words button')[1].click()");
    for (button, end) in [("start-test", "!document.getElementById('test-results').hidden"), ("start-benchmark", "!document.getElementById('card').hidden")] {
        browser.evaluate(&format!("document.getElementById('{button}').click()"));
        while browser.evaluate(&format!("({end} || !document.getElementById('trouble').hidden)")) != true {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    }
    let status = browser.evaluate("document.getElementById('test-status').textContent");
    assert!(status.as_str().unwrap().starts_with("All ") && browser.evaluate("document.getElementById('test-failures').hidden") == true, "{status}");
    assert!(browser.evaluate("document.getElementById('card-text').value").as_str().unwrap().contains("| attention |"));
    if let Some(shots) = std::env::var_os("TRIMODAL_SCREENSHOTS").map(PathBuf::from) {
        browser.screenshot(&shots.join("web-whole-1280.png"));
        browser.resize(390, 844, true);
        browser.prefer("dark");
        browser.screenshot(&shots.join("web-whole-390.png"));
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn everybody_can_use_the_page() {
    let Some(mut browser) = Chromium::start(&FLAGS) else { return };
    let served = Served::new(&[&FOLDER.path("run")]);
    is_readable(&mut browser, &served.address, "web", |browser| {
        ready(browser);
        browser.evaluate("document.getElementById('example').click()");
        said(browser, 1);
        browser.evaluate("document.querySelectorAll('#words button')[1].click()");
    });
}

#[test]
fn without_webgpu_the_page_says_so() {
    let Some(mut browser) = Chromium::start(&[]) else { return };
    let served = Served::new(&[]);
    for (script, words) in [
        ("Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined })", "This browser has no WebGPU."),
        ("Object.defineProperty(Navigator.prototype, 'gpu', { value: { requestAdapter: async () => null } })", "offers no GPU to it"),
    ] {
        browser.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script.replace("value", "configurable: true, value") }));
        browser.open(&served.address);
        ready(&mut browser);
        let trouble = browser.evaluate("document.querySelector('#trouble:not([hidden])[role=alert]').textContent");
        assert!(trouble.as_str().unwrap().contains(words), "{trouble}");
        assert_eq!(browser.evaluate("document.getElementById('gpu').textContent"), "Without WebGPU, nothing on this page can run.");
        assert_eq!(browser.evaluate("document.getElementById('start-test').disabled"), true);
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn the_server_gives_this_page_to_this_machine_and_nothing_else() {
    let run = FOLDER.path("run");
    let mut served = Served::new(&[&run]);
    let host = served.host().to_string();
    for (path, mime) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/shaders/matmul.wgsl", "text/wgsl"),
        ("/site.json", "application/json"),
        ("/model/model.safetensors", "application/octet-stream"),
        ("/example/picture.png", "image/png"),
        ("/example/sound.wav", "audio/wav"),
        ("/golden/golden.json", "application/json"),
    ] {
        let (head, _) = served.get(path);
        assert!(head.starts_with("http/1.1 200 ") && head.contains(&format!("content-type: {mime}")), "{path}: {head}");
        for header in ["x-content-type-options: nosniff", "cross-origin-resource-policy: same-origin"] {
            assert!(head.contains(header), "{path}: {head}");
        }
    }
    let (head, body) = served.get("/?from=a-link");
    assert!(head.starts_with("http/1.1 200 ") && body.starts_with("<!doctype html>"), "{head}");
    for path in [
        "/../Cargo.toml",
        "/model/../optimizer.safetensors",
        "/model/optimizer.safetensors",
        "/model/%2e%2e/log.jsonl",
        "/golden/../../etc/passwd",
        "/golden/README.txt",
        "//etc/passwd",
        "/etc/passwd",
        "/model/",
    ] {
        let (head, _) = served.get(path);
        assert!(head.starts_with("http/1.1 404 ") || head.starts_with("http/1.1 400 "), "{path}: {head}");
    }
    // A name that means this machine only since a moment ago, or none at all.
    for asked in ["Host: evil.example\r\n", "Host: evil.example:80\r\n", "Host: 127.0.0.1:1\r\n", ""] {
        let (head, body) = served.ask(&format!("GET /model/config.json HTTP/1.1\r\n{asked}Connection: close\r\n\r\n"));
        assert!(!head.starts_with("http/1.1 200 ") && !body.contains("hidden_size"), "{asked:?}: {head}");
    }
    let (head, _) = served.ask(&format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: get"), "{head}");

    // Ctrl-C ends it well.
    assert!(Command::new("kill").args(["-INT", &served.child.id().to_string()]).status().unwrap().success());
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_served_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = trimodal(&["web", "--port", &port]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && words.contains(&format!("port {port}: another program uses it; give another with --port")), "{words}");
    let folder = tempfile::tempdir().unwrap();
    let output = trimodal(&["web", folder.path().to_str().unwrap()]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("config.json"));
    std::fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    let output = trimodal(&["web", "--to", folder.path().to_str().unwrap()]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is not empty"));
}

#[test]
fn a_static_folder_holds_what_the_server_gives() {
    let (run, page) = (FOLDER.path("run"), FOLDER.path("page"));
    let said = good(&["web", &run, "--to", &page]);
    assert!(said.contains(&page), "{said}");
    let served = Served::new(&[&run]);
    for name in ["index.html", "app.js", "shaders/attention.wgsl", "site.json", "model/config.json", "model/tokenizer.json"] {
        let (_, body) = served.get(&format!("/{name}"));
        assert!(body.contains(std::fs::read_to_string(Path::new(&page).join(name)).unwrap().lines().next().unwrap()), "{name}");
    }
    let index: Value = serde_json::from_slice(&std::fs::read(Path::new(&page).join("golden/golden.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap();
    assert!(cases.len() > 100 && cases.iter().all(|case| Path::new(&page).join("golden").join(case["file"].as_str().unwrap()).is_file()));
}
