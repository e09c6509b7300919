//! The program as a user meets it: exit codes, one clear line per error, no panic, quiet pipes.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use trimodal::data::Tokenizer;
use trimodal::data::meadow::{self, words};
use trimodal::files::safetensors::save_safetensors;
use trimodal::files::shown::shown;
use trimodal::model::{Config, Parameters};
use trimodal::{DType, Device};

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Runs with an error and returns its message: `error: …` on one line, perhaps with a hint on a second, and nothing else.
fn error(code: i32, arguments: &[&str]) -> String {
    let output = trimodal(arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(message.starts_with("error: "), "{arguments:?}: {message}");
    let lines: Vec<&str> = message.lines().collect();
    assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("  hint: ")), "{arguments:?}: {message}");
    assert!(!message.contains("panicked") && !message.contains("bug in trimodal"), "{message}");
    message
}

#[test]
fn wrong_usage_is_code_2() {
    for arguments in [&["no-such-command"][..], &["check", "--no-such-option"], &["train"], &["meadow", "d", "--samples", "many"], &["dump", "r", "d"]] {
        let output = trimodal(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
    assert!(error(2, &["check", "--device", "abacus"]).contains("unknown device \"abacus\": expected one of auto, cpu, wgpu"));
    assert!(error(2, &["check", "--device", "cpu", "--adapter", "x"]).contains("--adapter"));
    assert!(error(2, &["check", "--device", "cpu", "--op", "division"]).contains("unknown operation \"division\": expected one of"));
    assert!(error(2, &["describe", "nowhere"]).contains("--image"));
    assert!(error(2, &["bench", "--device", "emulator"]).contains("counts instructions"));
    assert!(error(2, &["bench", "--device", "cpu", "--op", "division"]).contains("expected one of embedding"));
    assert!(error(2, &["bench", "--device", "cpu", "--op", "swiglu", "--shape", "N=7"]).contains("there are \"N=1920 F=176\""));
}

#[test]
fn what_the_machine_lacks_is_code_1() {
    assert!(error(1, &["check", "--device", "wgpu", "--adapter", "no such adapter"]).contains("device wgpu: "));
    assert!(error(1, &["check", "--device", "cpu", "--op", "rms_norm", "--json", "/no/such/folder/x.json"]).contains("/no/such/folder/x.json: cannot write"));
}

/// The whole way: a card and its roofline, read back with a peer beside it; ctrl-C leaves what there is.
#[test]
fn a_benchmark_writes_a_card_and_merges_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (card, peer, svg, html) = (path("card.json"), path("peer.json"), path("roofline.svg"), path("card.html"));
    let output = trimodal(&["bench", "--device", "cpu", "--op", "swiglu", "--quick", "--json", &card, "--svg", &svg, "--html", &html]);
    assert!(output.status.success() && text(&output.stdout).contains("swiglu N=1920 F=176"), "{}", text(&output.stderr));
    assert!(fs::read_to_string(&svg).unwrap().contains("swiglu"));
    assert!(fs::read_to_string(&html).unwrap().contains("<title>swiglu forward N=1920 F=176 f32: "));
    let table = text(&output.stdout);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let wide = text(&trimodal(&["bench", "--card", &card, "--wide"]).stdout);
    assert!(!table.contains("FLOP/B") && wide.contains("FLOP/B"), "{wide}");
    fs::write(&peer, fs::read_to_string(&card).unwrap().replace("\"tool\": \"trimodal", "\"tool\": \"peer")).unwrap();
    let merged = text(&trimodal(&["bench", "--card", &card, "--peers", &peer]).stdout);
    assert!(merged.contains("peer ") && merged.contains("as fast as ours"), "{merged}");
    assert!(error(1, &["bench", "--card", &path("none.json")]).contains("none.json"));
    fs::write(&peer, fs::read_to_string(&peer).unwrap().replace("F=176", "F=7")).unwrap();
    assert!(error(1, &["bench", "--card", &card, "--peers", &peer]).contains("none of its rows"));

    #[cfg(unix)]
    {
        let stopped = path("stopped.json");
        let arguments = ["bench", "--device", "cpu", "--json", &stopped];
        let child = Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(4));
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert!(text(&output.stdout).contains("interrupted") && fs::read_to_string(&stopped).unwrap().contains("\"interrupted\": true"));
    }
}

/// Two cards beside each other, as a check in CI runs it.
#[test]
fn a_benchmark_finds_what_has_become_slower() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let card = |name: &str, seconds: f64, doubts: &[&str]| {
        let row = |shape: &str, seconds: f64| {
            serde_json::json!({"op": "swiglu", "entry": "forward", "pass": "forward", "set": "demo", "shape": shape, "dtype": "f32", "samples": 20, "calls": 1,
                "buffers": 3, "seconds": {"median": seconds, "min": seconds, "max": seconds, "standard_error": 0.004}, "flops": 1000, "tflops": 1.0})
        };
        let card = serde_json::json!({"schema": "trimodal-card/1", "tool": "trimodal 0", "date": "2026-11-24T08:30:00Z",
            "device": {"kind": "cpu", "name": "a processor"}, "ceilings": {}, "rows": [row("a", seconds), row("b", 1.0)], "left_out": [], "interrupted": false,
            "doubts": doubts, "method": {"timer": "", "inputs": "", "rotation": "", "samples": "", "shapes": [], "quick": false, "seconds": 1.0}});
        fs::write(path(name), card.to_string()).unwrap();
    };
    card("old.json", 1.0, &[]);
    card("new.json", 1.2, &[]);
    card("doubtful.json", 1.0, &["the machine was loaded"]);
    let compare = |new: &str, more: &[&str]| {
        let output = trimodal(&[&["bench", "--card", &path(new), "--against", &path("old.json")], more].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, table, _) = compare("new.json", &[]);
    assert!(code == Some(0) && table.contains("+20.0 ±1.4%") && table.contains("1 slower, 0 faster, 1 the same"), "{table}");
    let (code, table, said) = compare("new.json", &["--fail-above", "10%"]);
    assert!(code == Some(1) && table.contains("+20.0") && said.contains("1 row is slower by more than 10 %: swiglu forward a f32 +20.0 ±1.4%"), "{said}");
    assert_eq!(compare("new.json", &["--fail-above", "25"]).0, Some(0));
    assert_eq!((compare("new.json", &["--strict"]).0, compare("old.json", &["--strict"]).0), (Some(1), Some(0)));
    let (code, table, said) = compare("doubtful.json", &["--strict"]);
    assert!(code == Some(1) && table.starts_with("warning: the machine was loaded") && said.contains("in doubt: the machine was loaded"), "{table}{said}");
    assert_eq!(compare("doubtful.json", &[]).0, Some(0));
    assert_eq!(compare("new.json", &["--fail-above", "much"]).0, Some(2));
}

/// With --strict a loaded machine is refused before anything is measured.
#[cfg(target_os = "linux")]
#[test]
fn a_strict_benchmark_refuses_a_loaded_machine() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let mut others: Vec<_> = (0..cores).map(|_| busy()).collect();
    let folder = tempfile::tempdir().unwrap();
    let card = folder.path().join("card.json").display().to_string();
    let output = trimodal(&["bench", "--device", "cpu", "--op", "swiglu", "--quick", "--strict", "--json", &card]);
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("processors") && said.contains("leave --strict away"), "{said}");
    assert!(output.stdout.is_empty() && !Path::new(&card).exists());
}

#[test]
fn help_lists_every_command_and_teaches() {
    let help = trimodal(&["--help"]);
    assert!(help.status.success());
    let help = text(&help.stdout);
    for command in ["demo", "train", "describe", "probe", "eval", "meadow", "devices", "check", "bench", "emulate", "dump"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let own = text(&trimodal(&["help", command]).stdout);
        assert!(own.contains("Examples:"), "{command}");
    }
    assert!(text(&trimodal(&["--version"]).stdout).starts_with("trimodal "));
}

#[test]
fn devices_are_listed_and_one_is_automatic() {
    let output = trimodal(&["devices", "--json"]);
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let devices = json["devices"].as_array().expect("a list");
    assert_eq!(devices.iter().filter(|d| d["auto"] == true).count(), 1);
    assert_eq!(devices[0]["device"], "cpu");
    for device in devices.iter().filter(|d| d["kind"] == "software") {
        assert_eq!(device["auto"], false, "a software driver is never the automatic choice");
    }
    assert!(!json["why"].as_str().expect("a reason").is_empty());
    let listing = text(&trimodal(&["devices"]).stdout);
    assert!(listing.contains("`--device auto` takes ") && !listing.contains('\x1b'), "{listing}");
}

#[test]
fn a_check_reports_what_it_ran() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("check.json");
    let output = trimodal(&["check", "--device", "cpu", "--op", "rms_norm", "--quick", "--json", path.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("rms_norm") && table.contains(" 0 failed"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).expect("the report")).expect("JSON");
    assert_eq!(json["device"], "cpu");
    assert_eq!(json["cases"]["failed"], 0);
    let executed = |v: &serde_json::Value| v["executed"].as_u64().expect("a number");
    assert!(executed(&json["cases"]) > 0);
    assert_eq!(json["ops"].as_array().expect("a list").iter().map(executed).sum::<u64>(), executed(&json["cases"]));
    for key in ["op", "entry", "executed", "failed", "worst"] {
        assert!(json["ops"][0].get(key).is_some(), "{key}");
    }
}

/// An exercise as a learner goes through it: refused on one screen, a hint, a picture of what is wrong, solved.
#[test]
fn an_exercise_answers() {
    if !text(&trimodal(&["devices"]).stdout).contains("wgpu") {
        assert!(std::env::var_os("TRIMODAL_REQUIRE_WGPU").is_none(), "no wgpu adapter");
        println!("SKIPPED: no wgpu adapter");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [file, svg, json] = ["mine.wgsl", "wrong.svg", "check.json"].map(|name| folder.path().join(name).to_str().expect("UTF-8").to_string());
    let written = trimodal(&["learn", "exercise", "10", "--to", &file]);
    assert!(written.status.success() && text(&written.stdout).contains("trimodal learn hint 10"), "{}", text(&written.stdout));
    let refused = trimodal(&["check", "--shader", &file, "--svg", &svg, "--json", &json]);
    let said = text(&refused.stdout);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.starts_with("Exercise 10 of 13 as it was given: the line under the mark") && said.lines().count() <= 24, "{said}");
    assert!(said.contains("Next: trimodal learn hint 10") && said.contains("Still right: forward (1 case)"), "{said}");
    let svg = fs::read_to_string(&svg).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.contains("found − expected") && !svg.contains("inf"), "{svg}");
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).expect("the report")).expect("JSON");
    assert_eq!((&report["exercise"]["id"], &report["exercise"]["solved"], &report["shader"]), (&"10".into(), &false.into(), &"swiglu".into()));
    let row = report["ops"].as_array().expect("a list").iter().find(|row| row["failed"] != 0).expect("a failed row");
    let first = &row["details"][0]["outputs"][0];
    assert!(row["entry"] == "backward" && row["worst"].as_f64().expect("a number") > 1.0 && first["wrong"].as_u64() <= first["of"].as_u64(), "{row}");
    assert!(first["first"][0]["index"].is_array() && row["failures"][0].is_string() && report["cases"]["left_out"].as_u64() > Some(0), "{report}");

    let hint = |step: &str| trimodal(&["learn", "hint", "10", step]);
    let hints: Vec<String> = ["1", "2", "3"].iter().map(|step| text(&hint(step).stdout)).collect();
    assert!(hints[0].starts_with("Exercise 10, hint 1 of 3.") && hints[0].contains("trimodal learn hint 10 2") && hints[2].contains("last one"), "{hints:?}");
    assert_eq!(text(&trimodal(&["learn", "hint", "swiglu"]).stdout), hints[0]);
    assert!(error(2, &["learn", "hint", "10", "4"]).contains("exercise 10 has hints 1 to 3, not 4"));

    let given = fs::read_to_string(&file).expect("the exercise");
    fs::write(&file, given.replace("dy * b_up[i] * s;", "dy * b_up[i] * (s + g * s * (1.0 - s));")).expect("written");
    for more in [&[][..], &["--all"]] {
        let solved = trimodal(&[&["check", "--shader", &file], more].concat());
        let said = text(&solved.stdout);
        assert!(solved.status.success() && said.starts_with("Exercise 10 of 13 solved: ") && said.contains("Next: trimodal learn read 11"), "{said}");
        assert_eq!(said.contains("--all"), more.is_empty(), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trimodal"))
        .args(["check", "--device", "cpu", "--op", "rms_norm", "--quick", "--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take()); // nobody reads
    let mut message = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut message).expect("UTF-8");
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}: {message}");
    assert_eq!(message, "");
}

/// Every document is right about what there is: every link leads to a file, every command and option exists. Every operation is in the
/// README's table with its files. The README stays a page that is read at one sitting, and its code is that of an example that is built.
#[test]
fn the_documents_agree_with_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = markdown(root);
    for expected in ["README.md", "LEARN.md", "CONTRIBUTING.md", "docs/guide.md", "docs/experiments.md", "benches/results/README.md", "benches/NOTES.md"] {
        assert!(documents.contains(&root.join(expected)), "{expected} is not there");
    }
    let mut wrong = Vec::new();
    for path in &documents {
        let document = path.strip_prefix(root).expect("it lies there").display();
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{document}: {e}"));
        let mut code = false;
        for (number, line) in text.lines().enumerate() {
            code ^= line.starts_with("```");
            // Links in code are not ours: CONTRIBUTING.md shows a row for files that its reader makes.
            let links = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).filter(|_| !code);
            for link in links {
                let local = !link.is_empty() && !link.contains("://");
                if local && !path.parent().expect("a folder").join(link).exists() {
                    wrong.push(format!("{document}:{}: `{link}` is not there", number + 1));
                }
            }
            for command in commands(line) {
                if let Some(what) = wrong_command(&command) {
                    wrong.push(format!("{document}:{}: `{command}`: {what}", number + 1));
                }
            }
        }
    }
    let readme = fs::read_to_string(root.join("README.md")).expect("just read");
    for op in trimodal::ops::OPS {
        let (name, mut files) = (op.name, vec![format!("src/ops/{}.rs", op.name), format!("src/ops/{}/mod.rs", op.name)]);
        files.extend([format!("shaders/{name}.wgsl"), format!("kernels/{name}.cu"), format!("kernels/hopper/{name}.cu")]);
        for file in files {
            if root.join(&file).exists() && !readme.contains(&format!("({file})")) {
                wrong.push(format!("README.md: the table of operations has no link to {file}"));
            }
        }
    }
    if readme.len() > 12_000 {
        wrong.push(format!("README.md: {} bytes: expected at most 12000; docs/guide.md has room", readme.len()));
    }
    let example = fs::read_to_string(root.join("examples/one_operation.rs")).expect("the example");
    let snippets: Vec<&str> = readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    if snippets.len() != 1 || !example.ends_with(snippets[0]) {
        wrong.push("README.md: its code is not what examples/one_operation.rs ends with".into());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every `.md` file of the repository.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let (entry, path) = entry.map(|e| (e.file_name().display().to_string(), e.path())).expect("an entry");
        if path.is_dir() && entry != "target" && !entry.starts_with('.') {
            found.extend(markdown(&path));
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The `trimodal …` and `cargo run … -- …` commands of a line: in backticks, or on a line of their own, alone or between `&&` and `|`.
fn commands(line: &str) -> Vec<String> {
    let mut parts: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    parts.push(line.trim().trim_start_matches("$ "));
    let alone = parts.into_iter().flat_map(|part| part.split(" #").next().unwrap_or_default().split(" && ")).flat_map(|part| part.split(" | "));
    alone
        .filter_map(|part| {
            let program = part.trim().strip_prefix("cargo run ").filter(|p| !p.contains("--example ") && !p.contains("--manifest-path "));
            let arguments = part.trim().strip_prefix("trimodal ").or_else(|| program?.split_once("-- ").map(|(_, a)| a))?;
            Some(arguments.to_string())
        })
        .collect()
}

/// What is wrong with a command line, if something is: its subcommand or an option does not exist.
fn wrong_command(arguments: &str) -> Option<String> {
    let mut words = arguments.split_whitespace();
    let command = words.next()?;
    if command.starts_with('-') {
        return None;
    }
    if !command.chars().all(|c| c.is_ascii_lowercase()) {
        return None; // prose: `trimodal …`
    }
    let help = trimodal(&["help", command]);
    if !help.status.success() {
        return Some("no such command".into());
    }
    let help = text(&help.stdout);
    words
        .filter(|w| w.starts_with("--"))
        .map(|w| w.split('=').next().unwrap_or(w))
        .find(|option| command != "help" && !help.split(|c: char| c.is_whitespace() || c == ',').any(|h| h == *option))
        .map(|option| format!("no option {option}"))
}

/// A model that has learned nothing, with a tokenizer that knows words and bytes, and `ears` or none.
fn model(folder: &Path, captions: &[&str], ears: bool) -> String {
    let tokenizer = Tokenizer::train(captions.iter().copied(), 300).unwrap();
    let mut config = Config { num_hidden_layers: 1, ..Config::meadow(tokenizer.vocabulary()) };
    if !ears {
        config.audio_config = None;
    }
    let parameters = Parameters::init(&config, &Device::Cpu, DType::F32, 1).unwrap();
    let stored = |(name, tensor): (String, &trimodal::Tensor)| {
        let bytes = tensor.read::<f32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect();
        (name, tensor.shape().dims().to_vec(), DType::F32, bytes)
    };
    let tensors: Vec<_> = parameters.named().into_iter().map(stored).collect();
    fs::create_dir_all(folder).unwrap();
    save_safetensors(&folder.join("model.safetensors"), &[], &tensors).unwrap();
    fs::write(folder.join("config.json"), config.to_json()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.to_bytes().unwrap()).unwrap();
    folder.display().to_string()
}

fn fed(input: &[u8], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trimodal"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let _ = child.stdin.take().expect("piped").write_all(input); // a program that refuses early closes it
    child.wait_with_output().expect("it ends")
}

fn documents(output: &Output) -> Vec<serde_json::Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn describe_takes_several_files_standard_input_and_every_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let model_path = model(&folder.path().join("model"), &["a fluffy cat", "a cat purring"], true);
    let m = model_path.as_str();
    let (a, b, wav) = (path("a.png"), path("b.png"), path("s.wav"));
    let picture = |index| meadow::png(&meadow::picture(&words::HEADLINE, 0, 4, index)).unwrap();
    let sound = meadow::wav(&meadow::sound(&words::HEADLINE, 0, 4, 0)).unwrap();
    fs::write(&a, picture(0)).unwrap();
    fs::write(&b, picture(1)).unwrap();
    fs::write(&wav, &sound).unwrap();
    let run = |rest: &[&str]| trimodal(&[&["describe", m, "--device", "cpu", "--max-tokens", "12"], rest].concat());
    let json = |rest: &[&str]| documents(&run(&[rest, &["--json"]].concat()));

    // One document, and the same text without --json. Every token a byte: characters arrive in pieces and print whole.
    let warm = ["--temperature", "1.5", "--seed", "4", "--prompt", "a fluffy"];
    let first = json(&[&["--image", &a][..], &warm].concat());
    assert_eq!(first.len(), 1);
    let said = first[0]["text"].as_str().unwrap();
    assert!(said.starts_with("a fluffy") && first[0]["prompt"] == "a fluffy" && first[0]["image"] == a.as_str() && first[0].get("audio").is_none());
    let made = first[0]["token_ids"].as_array().unwrap().len();
    assert_eq!(first[0]["tokens"].as_array().unwrap().len(), made);
    assert_eq!(first[0]["finish"], if made == 12 { "length" } else { "end" });
    // For people, what a terminal would obey is shown.
    assert_eq!(text(&run(&[&["--image", &a][..], &warm].concat()).stdout), format!("{}\n", shown(said)));
    assert_eq!(first, json(&[&["--image", &a][..], &warm].concat()), "the same seed says the same");
    let other = ["--temperature", "1.5", "--seed", "5", "--prompt", "a fluffy"];
    assert_ne!(first[0]["text"], json(&[&["--image", &a][..], &other].concat())[0]["text"]);
    // Where only the best is left, the temperature does not matter.
    let greedy = json(&["--image", &a]);
    for nearly in [["--top-k", "1"], ["--top-p", "0"]] {
        assert_eq!(greedy, json(&[&["--image", &a, "--temperature", "2"], &nearly[..]].concat()));
    }

    // Several: in order, as each alone; one sound with each.
    let both = json(&["--image", &a, "--image", &b, "--audio", &wav]);
    let alone = [&a, &b].map(|image| json(&["--image", image, "--audio", &wav]).remove(0));
    assert_eq!(both, alone);
    assert_eq!(json(&["--image", &a, "--image", &b, "--audio", &wav, "--audio", &wav]), alone);
    let lines = text(&run(&["--image", &a, "--image", &b, "--audio", &wav]).stdout);
    let expected = [&a, &b].iter().zip(&both).map(|(image, d)| format!("{image} + {wav}: {}\n", shown(d["text"].as_str().unwrap()))).collect::<String>();
    assert_eq!(lines, expected);

    // Standard input is what it holds, whichever option names it.
    let piped = |input: &[u8], rest: &[&str]| fed(input, &[&["describe", m, "--device", "cpu", "--max-tokens", "12"], rest].concat());
    let from_stdin = documents(&piped(&picture(0), &["--image", "-", "--json"]));
    assert_eq!((&from_stdin[0]["text"], &from_stdin[0]["image"]), (&greedy[0]["text"], &"standard input".into()));
    let heard = json(&["--audio", &wav]);
    for option in ["--image", "--audio"] {
        let from_stdin = documents(&piped(&sound, &[option, "-", "--json"]));
        assert_eq!((&from_stdin[0]["text"], &from_stdin[0]["audio"]), (&heard[0]["text"], &"standard input".into()));
    }
    for (input, what) in [(&b""[..], "found nothing"), (b"a cat", "starts with [61 20 63 61]"), (&picture(0)[..60], "standard input")] {
        let output = piped(input, &["--image", "-"]);
        let message = text(&output.stderr);
        assert!(output.status.code() == Some(1) && message.starts_with("error: standard input: ") && message.contains(what), "{message}");
    }
}

#[test]
fn describe_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let deaf = model(&folder.path().join("deaf"), &["a cat"], false);
    let wrong = |rest: &[&str]| error(2, &[&["describe", &deaf, "--device", "cpu"], rest].concat());
    assert!(wrong(&["--image", "a", "--image", "b", "--audio", "c", "--audio", "d", "--audio", "e"]).contains("2 pictures and 3 sounds: expected as many"));
    assert!(wrong(&["--image", "-", "--audio", "-"]).contains("can only be read once"));
    assert!(wrong(&["--prompt", "a", "--temperature", "-1"]).contains("--temperature: expected 0"));
    assert!(wrong(&["--prompt", "a", "--temperature", "nan"]).contains("--temperature: expected 0"));
    assert!(wrong(&["--prompt", "a", "--top-p", "1.5"]).contains("--top-p: expected a probability"));
    assert!(wrong(&["--prompt", "a", "--max-tokens", "0"]).contains("--max-tokens: expected at least 1"));
    assert!(wrong(&["--prompt", " "]).contains("nothing to describe"));
    assert!(wrong(&["--prompt", "a <eos>"]).contains("special token <eos>"));
    assert!(wrong(&["--audio", "any.wav"]).contains("this model has no ears"));
    assert!(error(1, &["describe", &deaf, "--device", "cpu", "--image", "none.png"]).contains("none.png: there is no such file"));
    let output = trimodal(&["describe", &deaf, "--prompt", "a", "--top-k", "-1"]);
    assert_eq!(output.status.code(), Some(2));
}

/// What describe says stays the same; beside it stands a page that explains every word.
#[test]
fn describe_explains_where_its_words_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let m = model(&folder.path().join("model"), &["a fluffy cat", "a cat purring"], true);
    let (image, wav, out) = (path("a.png"), path("s.wav"), path("why.html"));
    fs::write(&image, meadow::png(&meadow::picture(&words::HEADLINE, 0, 4, 0)).unwrap()).unwrap();
    fs::write(&wav, meadow::wav(&meadow::sound(&words::HEADLINE, 0, 4, 0)).unwrap()).unwrap();
    let run = |rest: &[&str]| trimodal(&[&["describe", &m, "--device", "cpu", "--max-tokens", "6", "--image", &image, "--audio", &wav], rest].concat());
    let (said, explained) = (run(&[]), run(&["--explain", &out]));
    assert!(explained.status.success(), "{}", text(&explained.stderr));
    assert_eq!(said.stdout, explained.stdout);
    assert!(text(&explained.stderr).contains("why.html"));
    let html = fs::read_to_string(&out).unwrap();
    let made = documents(&run(&["--json", "--explain", &out]))[0]["tokens"].as_array().unwrap().len();
    assert_eq!(html.matches("<button").count(), made);
    assert!(html.contains(&format!("a.png + {wav}")) && html.contains("picture-gradient") && html.contains("sound-attention"));
    // Two pictures, two sections; the emulator runs the same kernels as a GPU.
    let both = trimodal(&["describe", &m, "--device", "emulator", "--max-tokens", "1", "--image", &image, "--image", &image, "--explain", &out]);
    assert!(both.status.success(), "{}", text(&both.stderr));
    assert_eq!(fs::read_to_string(&out).unwrap().matches("<section").count(), 2);

    let wrong = |code: i32, rest: &[&str]| error(code, &[&["describe", &m, "--device", "cpu", "--max-tokens", "1"], rest].concat());
    assert!(wrong(2, &["--prompt", "a", "--explain", &out]).contains("--explain: there is no picture or sound to show attention on"));
    let message = text(&trimodal(&["describe", &m, "--device", "cpu", "--max-tokens", "1", "--image", &image, "--explain", "/no/such/folder/x.html"]).stderr);
    assert!(message.contains("/no/such/folder/x.html: cannot write"), "{message}");
}

#[test]
fn probe_shows_where_things_lie_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let captions = ["a fluffy cat", "a dog and an owl purring"];
    let m = model(&folder.path().join("model"), &captions, true);
    // Larger than the model's 48 pixels, and no square: it is scaled and cropped, as describe does it.
    let (image, wav, svg) = (path("a.png"), path("s.wav"), path("probe.svg"));
    let large = trimodal::data::Picture { width: 120, height: 90, rgb: (0..120 * 90 * 3).map(|i| (i % 251) as u8).collect() };
    fs::write(&image, meadow::png(&large).unwrap()).unwrap();
    fs::write(&wav, meadow::wav(&meadow::sound(&words::HEADLINE, 0, 4, 0)).unwrap()).unwrap();
    let run = |rest: &[&str]| trimodal(&[&["probe", &m, "--device", "cpu"], rest].concat());
    let output = run(&["--image", &image, "--audio", &wav, "--word", "cat", "--axis", "cat,dog:owl", "--svg", &svg]);
    let tables = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in [
        "patch",
        "  6,6 ",
        "0.48 s",
        "level 1",
        "picture and sound",
        "  centred",
        "On the axis from owl (−1) to cat, dog (+1)",
        "Of the sound the model says “",
        "Vectors: each is run alone",
    ] {
        assert!(tables.contains(part), "{part}: {tables}");
    }
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    let json: serde_json::Value = serde_json::from_slice(&run(&["--word", "cat", "--axis", "cat:owl", "--nearest", "2", "--json"]).stdout).expect("JSON");
    assert_eq!((json["levels"].as_u64(), json["word"]["rows"][0][0].as_array().unwrap().len()), (Some(2), 2));
    assert_eq!((&json["axis"]["positive"][0], &json["axis"]["positions"][1]["of"]), (&"cat".into(), &"cat".into()));
    assert!(json.get("picture").is_none() && json["cosines"].as_array().unwrap().is_empty());

    let wrong = |rest: &[&str]| error(2, &[&["probe", &m, "--device", "cpu"], rest].concat());
    assert!(wrong(&[]).contains("nothing to probe: expected --image"));
    assert!(wrong(&["--axis", "cat:owl"]).contains("nothing to probe: expected --image"));
    assert!(wrong(&["--word", "cat", "--nearest", "0"]).contains("--nearest: expected at least 1"));
    let several = wrong(&["--word", "zebra"]);
    assert!(several.contains("\"zebra\" is not a single token of this model, but 6: ") && several.contains("\"z\" \"e\""), "{several}");
    assert!(wrong(&["--word", "a cat"]).contains("but 2: \"Ġa\" \"Ġcat\""));
    assert!(wrong(&["--word", "<eos>"]).contains("special token <eos>"));
    for axis in ["cat", "cat:", "cat:dog:owl", "cat,:dog", "cat:cat"] {
        assert!(wrong(&["--word", "cat", "--axis", axis]).contains(&format!("--axis {axis:?}: expected two sets of words, as in cat,dog:owl,frog")));
    }
    assert!(wrong(&["--word", "cat", "--axis", "cat:zebra"]).contains("\"zebra\" is not a single token"));
    assert!(error(1, &["probe", &m, "--device", "cpu", "--image", "none.png"]).contains("none.png: there is no such file"));
    let deaf = model(&folder.path().join("deaf"), &captions, false);
    assert!(error(2, &["probe", &deaf, "--device", "cpu", "--audio", &wav]).contains("this model has no ears"));
    assert!(error(1, &["probe", &path("nowhere"), "--device", "cpu", "--word", "cat"]).contains("there is no such folder"));
}

#[test]
fn eval_measures_ablates_and_is_honest_about_chance() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let model = model(&folder.path().join("model"), &["a fluffy orange cat", "something purring"], true);
    let (data, out) = (path("data"), path("eval.json"));
    assert!(trimodal(&["meadow", &data, "--samples", "4", "--test-samples", "12"]).status.success());
    let output = trimodal(&["eval", &model, &data, "--split", "iid", "--ablate", "--json", &out, "--device", "cpu"]);
    let table = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for row in ["iid ", "  shuffled pictures ", "  grey pictures ", "  shuffled sounds ", "  silent sounds ", "  most frequent answer ", "chance "] {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row}: {table}");
    }
    assert!(table.contains("perplexity") && table.contains("species") && !table.contains("held_out"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    let iid = &json["splits"]["iid"];
    let names = ["shuffled_pictures", "grey_pictures", "shuffled_sounds", "silent_sounds"];
    for of in [iid, &iid["most_frequent_answer"]].into_iter().chain(names.iter().map(|name| &iid["ablations"][name])) {
        let number = |key: &str| of[key].as_f64().unwrap_or_else(|| panic!("{key}: {of}"));
        assert!(number("loss") > 0.0 && (number("perplexity") / number("loss").exp() - 1.0).abs() < 1e-9);
        assert_eq!(number("samples"), 12.0);
        assert!(["token_accuracy", "exact", "species", "action"].iter().all(|key| (0.0..=1.0).contains(&number(key))));
    }
    assert!(iid["most_frequent_answer"]["species"].as_f64().unwrap() >= 1.0 / 6.0);
    // Chance is one thing, here and in the demo's table: guessing evenly, whatever the samples are.
    assert_eq!((&json["chance"]["species"], table.matches("chance ").count()), (&serde_json::json!(1.0 / 6.0), 1));
    assert!((json["chance"]["exact"].as_f64().unwrap() - 1.0 / 7776.0).abs() < 1e-12, "{json}");
    assert!(error(2, &["eval", &model, &data, "--split", "nowhere", "--device", "cpu"]).contains("--split nowhere: expected one of train, iid"));

    // Words of one's own: no columns of Meadow's, and no chance; the most frequent answer is there.
    let own = folder.path().join("own");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("metadata.jsonl"), "{\"text\": \"red\"}\n{\"text\": \"red\"}\n{\"text\": \"a wide green field\"}\n").unwrap();
    let own = own.display().to_string();
    let table = text(&trimodal(&["eval", &model, &own, "--ablate", "--device", "cpu"]).stdout);
    assert!(table.contains("all ") && !table.contains("species") && !table.contains("shuffled"), "{table}");
    let answer = table.lines().find(|line| line.starts_with("  most frequent answer")).unwrap();
    assert!(answer.ends_with("66.7 %") && !table.contains("chance"), "{table}");
    assert!(error(2, &["eval", &model, &own, "--split", "test", "--device", "cpu"]).contains("no row of the data set names a split"));
}

/// `examples/train.rs` and `examples/describe.rs`, run: a dozen lines of the library do what the program does.
#[test]
fn the_examples_train_and_describe() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let example = |name: &str, arguments: &[&str]| {
        let test = std::env::current_exe().expect("a test has a path");
        let built = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps").join("examples").join(name);
        let built = built.with_extension(std::env::consts::EXE_EXTENSION);
        assert!(built.exists(), "{} is not built: `cargo test` builds it; with --test alone add --examples", built.display());
        let output = Command::new(built).args(arguments).output().expect("the example starts");
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let (data, run, picture) = (path("data"), path("run"), path("a.png"));
    assert!(trimodal(&["meadow", &data, "--samples", "40"]).status.success());
    let steps = example("train", &[&data, &run, "60"]);
    assert!(steps.lines().count() == 60 && steps.lines().last().unwrap().starts_with("step 60: loss "), "{steps}");
    fs::write(&picture, meadow::png(&meadow::picture(&words::HEADLINE, 0, 4, 0)).unwrap()).unwrap();
    let said = example("describe", &[&run, &picture]);
    assert!(!said.trim().is_empty());
    assert_eq!(said, text(&trimodal(&["describe", &run, "--image", &picture]).stdout));
}

/// What only the program needs stays out of the library.
#[test]
fn the_library_alone_needs_nothing_of_the_programs() {
    // With data sets and training, without the command line and GPUs. (What the kernels alone need, tests/supply_chain.rs holds.)
    let library = ["tree", "--package", "trimodal", "--no-default-features", "--features", "data"];
    let arguments = ["--edges", "normal", "--prefix", "none", "--offline", "--locked"];
    let output = Command::new(env!("CARGO")).args(library).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let tree = text(&output.stdout);
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"safetensors"), "{tree}");
    for program in ["clap", "ctrlc", "signal-hook", "indicatif", "toml", "oxhttp", "wgpu", "cudarc"] {
        assert!(!names.contains(&program), "{program}: {tree}");
    }
}
