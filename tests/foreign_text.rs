//! Text that others wrote: no caption, name of a file or token of theirs acts on the terminal; paths of any bytes work; hints can be
//! given to a shell as they are.
#![cfg(target_os = "linux")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use trimodal::data::meadow::{self, words};

fn program<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NODEVICE_SELECT", "1").stdin(Stdio::null()).output().expect("the program starts")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout), text(&output.stderr))
}

/// Runs, and expects that nothing it prints acts on a terminal.
fn harmless<S: AsRef<OsStr>>(code: i32, arguments: impl IntoIterator<Item = S>) -> String {
    let output = program(arguments);
    let (out, message) = texts(&output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    let acts = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    let all = format!("{out}{message}");
    assert!(!all.contains(acts), "{all:?}");
    all
}

const SMALL: [&str; 14] = [
    "--set",
    "rows=256",
    "--set",
    "hidden_size=32",
    "--set",
    "num_hidden_layers=1",
    "--set",
    "num_attention_heads=2",
    "--set",
    "num_key_value_heads=2",
    "--device",
    "cpu",
    "--no-report",
    "--seed=1",
];

/// A title, a colour, a hidden text, an 8-bit sequence, a turned line, a bell; and a line break, which would forge a line.
const EVIL: &str = "cat\x1b]0;owned\x07 \x1b[31mred\x1b[8m \u{9b}2J\u{202e}gnp\x7f\r\nerror: forged";

#[test]
fn captions_tokens_and_names_are_shown_and_not_obeyed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let evil_name = "a\x1b]0;owned\x07\n.png";
    fs::write(data.join(evil_name), meadow::png(&meadow::picture(&words::HEADLINE, 0, 4, 0)).expect("a picture")).expect("to write");
    let row = |n: usize| serde_json::json!({ "file_name": evil_name, "text": EVIL, "split": if n < 6 { "train" } else { "te\x1b[31mst" } }).to_string() + "\n";
    fs::write(data.join("metadata.jsonl"), (0..8).map(row).collect::<String>()).expect("to write");
    let (data, out) = (path("data"), path("run"));

    let said = harmless(0, ["data", &data]);
    assert!(said.contains("te\\u{1b}[31mst"), "{said}");
    let train = ["train", &data, "--out", &out, "--steps", "150", "--set", "eval_split=te\x1b[31mst", "--set", "learning_rate=0.01"];
    let said = harmless(0, train.iter().chain(&SMALL));
    assert!(said.contains("cat\\u{1b}]0;owned\\u{7} \\u{1b}[31mred\\u{1b}[8m \\u{9b}2J\\u{202e}gnp\\u{7f}\\r\\nerror: forged"), "{said}");
    harmless(0, ["eval", &out, &data, "--device", "cpu"]);
    harmless(0, ["step", &out, &data, "--all"]);
    // It has learned the caption by heart, and says it; --json is exact.
    let picture = folder.path().join("data").join(evil_name);
    let picture = picture.to_str().expect("UTF-8");
    let said = harmless(0, ["describe", &out, "--image", picture, "--image", picture, "--device", "cpu"]);
    assert!(said.contains("owned\\u{7}.png\\n") || said.contains("a\\u{1b}]0;owned\\u{7}\\n.png: cat\\u{1b}]0;owned"), "{said}");
    assert_eq!(said.lines().count(), 2, "a line each: {said:?}");
    let (json, _) = texts(&program(["describe", &out, "--image", picture, "--device", "cpu", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((json["text"].as_str().map(str::trim_end), json["image"].as_str()), (Some(EVIL.trim_end()), Some(picture)));
    harmless(0, ["describe", &out, "--prompt", "a \x1b]0;owned\x07", "--max-tokens", "3", "--device", "cpu"]);
    harmless(0, ["probe", &out, "--image", picture, "--device", "cpu"]);

    // Errors: of files, of the command line, of settings, of tables.
    harmless(1, ["describe", &out, "--image", "no\x1b]0;owned\x07.png"]);
    harmless(2, ["describe", &out, "--no\x1b]0;owned\x07"]);
    harmless(2, ["\x1b]0;owned\x07"]);
    harmless(2, ["train", &data, "--out", &path("other"), "--set", "\x1b]0;owned\x07=1"]);
    harmless(2, ["train", &data, "--out", &path("other"), "--device", "\x1b]0;owned\x07"]);
    harmless(2, ["eval", &out, &data, "--split", "\x1b]0;owned\x07"]);
    harmless(1, ["train", "--resume", &path("\x1b]0;owned\x07")]);
    let bad = folder.path().join("bad");
    fs::create_dir_all(bad.join("cat\x1b[31m")).expect("a folder");
    fs::write(bad.join("cat\x1b[31m/x\x1b]0;t\x07.png"), "no picture").expect("to write");
    harmless(1, [OsStr::new("data"), bad.as_os_str()]);
}

/// A path as bytes.
fn odd(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(OsString::from_vec(name.to_vec()))
}

#[test]
fn every_folder_may_have_a_name_that_is_not_utf8() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = odd(folder.path(), b"caf\xe9 \xff");
    fs::create_dir(&place).expect("a folder");
    let (data, run, moved) = (place.join("data"), place.join("run"), odd(&place, b"moved\x80"));
    let good = |arguments: &[&OsStr]| {
        let output = program(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", texts(&output).1);
        texts(&output).0
    };
    let word = |text: &'static str| OsStr::new(text);
    good(&[word("meadow"), data.as_os_str(), word("--samples"), word("30"), word("--test-samples"), word("4")]);
    good(&[word("data"), data.as_os_str(), word("--json"), place.join("data.json").as_os_str(), word("--out"), place.join("sheet.png").as_os_str()]);
    let mut train = vec![word("train"), data.as_os_str(), word("--out"), run.as_os_str(), word("--steps"), word("8"), word("--set"), word("stop_after=4")];
    train.extend(SMALL.iter().map(OsStr::new));
    let said = good(&train);
    // The hint is a command: given to a shell as it is, it continues.
    let hint = said.split('`').nth(1).expect("a command").replacen("trimodal", env!("CARGO_BIN_EXE_trimodal"), 1);
    let continued = Command::new("bash").args(["-c", &hint]).env("NODEVICE_SELECT", "1").output().expect("bash");
    assert!(texts(&continued).0.contains("continuing after step 4"), "{hint}: {}", texts(&continued).1);
    assert!(run.join("report.html").exists());
    fs::rename(&data, &moved).expect("to move");
    good(&[word("report"), run.as_os_str(), word("--data"), moved.as_os_str(), word("--device"), word("cpu"), word("--samples"), word("4")]);
    let json = place.join("scores.json");
    good(&[word("eval"), run.as_os_str(), moved.as_os_str(), word("--device"), word("cpu"), word("--split"), word("iid"), word("--json"), json.as_os_str()]);
    good(&[word("describe"), run.as_os_str(), word("--prompt"), word("a"), word("--device"), word("cpu"), word("--max-tokens"), word("2")]);
    good(&[word("web"), run.as_os_str(), word("--to"), place.join("page").as_os_str()]);
    let from = place.join("from");
    let mut again = vec![word("train"), moved.as_os_str(), word("--out"), from.as_os_str(), word("--steps"), word("2"), word("--from"), run.as_os_str()];
    again.extend(["--device", "cpu", "--no-report"].iter().map(OsStr::new));
    good(&again);
    good(&[word("vendor"), word("rms_norm"), word("--to"), place.join("kernels").as_os_str(), word("--json")]);
}

#[test]
fn hints_are_commands_for_a_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("it's $(touch owned) my");
    let (data, run) = (folder.path().join("data"), place.join("run"));
    assert!(program([OsStr::new("meadow"), data.as_os_str(), OsStr::new("--samples"), OsStr::new("20")]).status.success());
    let train = [OsStr::new("train"), data.as_os_str(), OsStr::new("--out"), run.as_os_str(), OsStr::new("--steps"), OsStr::new("2")];
    let (said, message) = texts(&program(train.into_iter().chain(SMALL.iter().map(OsStr::new))));
    let hint = said.lines().find_map(|line| line.strip_prefix("try:   ")).unwrap_or_else(|| panic!("{said} {message}"));
    let hint = hint.replacen("trimodal", env!("CARGO_BIN_EXE_trimodal"), 1).replace("PICTURE", "p.png").replace("SOUND", "s.wav");
    let tried = Command::new("bash").args(["-c", &hint]).current_dir(folder.path()).env("NODEVICE_SELECT", "1").output().expect("bash");
    assert!(texts(&tried).1.contains("p.png: there is no such file"), "{hint}: {}", texts(&tried).1);
    assert!(!folder.path().join("owned").exists());
    let (_, message) = texts(&program(train));
    let hint = message.split('`').nth(1).expect("a command").replacen("trimodal", env!("CARGO_BIN_EXE_trimodal"), 1);
    let tried = Command::new("bash").args(["-c", &hint]).current_dir(folder.path()).env("NODEVICE_SELECT", "1").output().expect("bash");
    assert!(tried.status.success(), "{hint}: {}", texts(&tried).1);
}

#[test]
fn what_a_link_leads_to_is_not_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, secret) = (folder.path().join("run"), folder.path().join("secret"));
    fs::create_dir(&run).expect("a folder");
    for text in ["root:x:0:0:hunter2\n", "{\"hunter2\": 1}", "[model]\nhunter2 = 1\n", "step-hunter2"] {
        fs::write(&secret, text).expect("to write");
        for (name, arguments) in [("latest", ["describe", "RUN", "--prompt", "a"]), ("latest", ["train", "--resume", "RUN", "--no-report"])] {
            let link = run.join(name);
            std::os::unix::fs::symlink(&secret, &link).expect("a link");
            let arguments = arguments.map(|word| if word == "RUN" { run.as_os_str() } else { OsStr::new(word) });
            let output = program(arguments);
            let (out, message) = texts(&output);
            assert_eq!(output.status.code(), Some(1), "{message}");
            assert!(message.contains(name) && !format!("{out}{message}").contains("hunter2"), "{message}");
            fs::remove_file(&link).expect("to remove");
        }
    }
}

/// What is printed goes through `commands/terminal.rs` or `trimodal_base::shown`, which show what a terminal would obey and do not panic
/// where it cannot be written, as `println!` does.
#[test]
fn nothing_prints_past_what_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    folders.extend(fs::read_dir(root.join("crates")).expect("crates/").map(|entry| entry.expect("an entry").path().join("src")));
    let (mut files, mut wrong) = (0, Vec::new());
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            folders.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        files += 1;
        // What follows are tests. One more is a test's: it says that half of one was left out. Code that
        // `vendor` writes stands in strings, with its own quotes escaped.
        let code = text.split("\n#[cfg(test)]").next().expect("a beginning");
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//") && !line.contains("half of this test was SKIPPED"));
        wrong.extend(
            lines
                .filter(|line| (line.contains("println!(") || line.contains("print!(")) && !line.contains("print!(\\\"") && !line.contains("println!(\\\""))
                .map(|line| format!("{}: {}", path.display(), line.trim())),
        );
    }
    assert!(files > 200, "{files} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
