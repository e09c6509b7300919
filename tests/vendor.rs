//! `trimodal vendor`: what it copies is whole and known by its hashes, it leaves alone what is not its own, it says what was changed.
//! The code that it prints: `tests/snippets.rs`.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use trimodal::contract::catalog::Catalog;
use trimodal::vendor;

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NO_COLOR", "1").output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Copies an operation, and returns what was printed.
fn copied(folder: &Path, arguments: &[&str]) -> String {
    let output = trimodal(&[&["vendor"], arguments, &["--to", folder.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_copy_is_whole() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("rms_norm");
    let printed = copied(&folder, &["rms_norm"]);
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    for piece in ["shaders/rms_norm.wgsl", "golden vectors", "README.md", "launch.rs launches forward", "self_test/wgpu/Cargo.toml", "dweight_finish"] {
        assert!(printed.contains(piece), "{piece}:\n{printed}");
    }
    for piece in ["//! Take `Dims`", "struct Dims", "row_threads: u32", "dispatch_workgroups", "fn main()", "rows: "] {
        assert!(read("launch.rs").contains(piece), "{piece}");
    }
    let readme = read("README.md");
    for piece in [
        "y = s · r · w",
        "| `launch.rs` |",
        "--bin launch",
        "## A worked call",
        "| 6 | `dims` |",
        "ceil_div(rows * ROW_THREADS, 256)",
        "a size: `x[1]` (C)",
        "trimodal takes `min(max(power_of_two(columns), 8), 256)`",
        "a power of two up to 256",
        "what you want: above 0",
        "self_test/wgpu/Cargo.toml -- .",
        "vendor --verify .",
    ] {
        assert!(readme.contains(piece), "{piece}:\n{readme}");
    }
    let same = |path: &str| {
        assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap(), "{path}")
    };
    ["shaders/rms_norm.wgsl", "LICENSE-MIT", "LICENSE-APACHE"].into_iter().for_each(same);
    let part: Catalog = serde_json::from_str(&fs::read_to_string(folder.join("kernels.json")).unwrap()).unwrap();
    assert_eq!(part.files, [trimodal::contract::shipped().file("shaders/rms_norm.wgsl").unwrap().clone()]);
    for path in ["NOTICE", "golden/golden.json", "self_test/wgpu/src/main.rs", "self_test/wgpu/src/vendored/contract.rs", "self_test/web/index.html"] {
        assert!(folder.join(path).exists(), "{path}");
    }
    // The numbers of the worked call are those of the golden vector that it names, and the README has every field.
    for field in &part.files[0].dims.fields {
        assert!(readme.contains(&format!("| `{}` | {} | ", field.name, field.kind)), "{}", field.name);
    }
    let vector = readme.split("the sizes of `").nth(1).unwrap().split('`').next().unwrap();
    assert!(folder.join(vector).exists(), "{vector}");
    // Every file but the list itself is in the list.
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert!(found.remove("SHA256SUMS"));
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let listed: BTreeSet<String> = sums.lines().map(|line| line.split_once("  ").unwrap().1.to_string()).collect();
    assert_eq!(found, listed);
}

#[test]
fn changes_are_named() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("swiglu");
    copied(&folder, &["swiglu"]);
    let verify = |more: &[&str]| {
        let output = trimodal(&[&["vendor", "--verify", folder.to_str().unwrap()], more].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, _) = verify(&[]);
    assert!(code == Some(0) && out.lines().count() == 1 && out.ends_with(" files as written\n"), "{out}");

    let shader = folder.join("shaders/swiglu.wgsl");
    let tampered = fs::read_to_string(&shader).unwrap().replace("dims.n", "dims.n + 1u");
    fs::write(&shader, &tampered).unwrap();
    fs::remove_file(folder.join("NOTICE")).unwrap();
    fs::write(folder.join("shaders/more.wgsl"), "// more").unwrap();
    // What the self-test builds was not added by anybody.
    fs::create_dir_all(folder.join("self_test/wgpu/target/debug")).unwrap();
    fs::write(folder.join("self_test/wgpu/target/debug/self_test"), "built").unwrap();
    fs::write(folder.join("self_test/wgpu/Cargo.lock"), "built").unwrap();
    let (code, out, _) = verify(&[]);
    let count = fs::read_to_string(folder.join("SHA256SUMS")).unwrap().lines().count();
    assert_eq!(
        (code, out.as_str()),
        (
            Some(1),
            format!("changed     shaders/swiglu.wgsl\nmissing     NOTICE\nadded       shaders/more.wgsl\n{} files as written, 3 not\n", count - 2).as_str()
        )
    );
    let (code, out, _) = verify(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == Some(1), "{out}");
    let state = |file: &str| json.as_array().unwrap().iter().find(|f| f["file"] == file).map(|f| f["state"].clone());
    assert_eq!([state("shaders/swiglu.wgsl"), state("shaders/more.wgsl"), state("NOTICE")].map(Option::unwrap), ["changed", "added", "missing"], "{out}");

    // Whoever changes the list, too, is not the crate.
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let ours = sums.lines().find(|line| line.ends_with("shaders/swiglu.wgsl")).unwrap();
    let forged = Command::new("sha256sum").arg(&shader).output();
    if let Ok(forged) = forged {
        let forged = text(&forged.stdout);
        fs::write(folder.join("SHA256SUMS"), sums.replace(ours, &format!("{}  shaders/swiglu.wgsl", forged.split(' ').next().unwrap()))).unwrap();
        let (_, out, _) = verify(&[]);
        assert!(out.contains("as written  shaders/swiglu.wgsl  (this trimodal has another text: version 1.0.0, the copy says 1.0.0)"), "{out}");
    }
    // Bad lists.
    for (line, expected) in [("abc  x", "line 1: expected 64 hexadecimal digits"), (&format!("{}  ../x", "0".repeat(64)), "a path in this folder")] {
        fs::write(folder.join("SHA256SUMS"), line).unwrap();
        let (code, _, err) = verify(&[]);
        assert!(code == Some(1) && err.contains(expected), "{err}");
    }
    fs::remove_file(folder.join("SHA256SUMS")).unwrap();
    let (code, _, err) = verify(&[]);
    assert!(code == Some(1) && err.contains("not a folder that `trimodal vendor` has written"), "{err}");
}

#[test]
fn what_is_there_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("rope");
    let run = |arguments: &[&str]| {
        let output = trimodal(&[&["vendor"], arguments].concat());
        (output.status.code(), text(&output.stderr))
    };
    let to = folder.to_str().unwrap();
    copied(&folder, &["rope", "--lang", "ptx"]);
    let (code, err) = run(&["rope", "--to", to]);
    assert!(code == Some(1) && err.contains("--force replaces them"), "{err}");
    fs::write(folder.join("mine.txt"), "mine").unwrap();
    copied(&folder, &["rope", "--force"]);
    // The PTX of the first copy went, what is the user's stayed.
    assert!(!folder.join("kernels/ptx/sm_80/rope.ptx").exists() && folder.join("shaders/rope.wgsl").exists());
    assert_eq!(fs::read_to_string(folder.join("mine.txt")).unwrap(), "mine");
    let strange = parent.path().join("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("theirs"), "theirs").unwrap();
    let (code, err) = run(&["rope", "--force", "--to", strange.to_str().unwrap()]);
    assert!(code == Some(1) && err.contains("it was left as it is"), "{err}");

    let new = parent.path().join("new");
    let new = new.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["softmax", "--to", new], "expected one of embedding"),
        (vec!["rope", "--entry", "spin", "--to", new], "no entry \"spin\": expected one of rotate, rotate_vec4"),
        (vec!["rope", "--lang", "wgsl", "--host", "cudarc", "--to", new], "does not launch that language"),
        (vec!["rope"], "--to"),
        (vec!["--to", new], "OP"),
        (vec!["rope", "--verify", new], "cannot be used"),
    ] {
        let (code, err) = run(&arguments);
        assert!(code == Some(2) && err.contains(expected), "{arguments:?}: {err}");
        assert!(!Path::new(new).exists(), "{arguments:?}");
    }
}

/// Whatever stops a copy, what was there before is there after, and the next copy goes through.
#[test]
fn a_copy_that_is_stopped_leaves_nothing_half_done() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("swiglu");
    let copy = |force, until: usize| {
        let mut progress = |done, _| if done == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let request = vendor::Request { op: "swiglu", language: vendor::Language::Wgsl, host: vendor::snippet::Host::Wgpu, entry: None };
        vendor::copy(&request, &folder, force, &mut progress).map_err(|e| e.to_string())
    };
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert!(copy(false, 2).unwrap_err().contains("stopped; "));
    assert!(!folder.exists());
    // Killed, not stopped.
    fs::create_dir_all(folder.join(".trimodal-vendor-k1ll3d/golden")).unwrap();
    copy(false, usize::MAX).unwrap();
    let whole = ["LICENSE-APACHE", "LICENSE-MIT", "NOTICE", "README.md", "SHA256SUMS", "golden", "kernels.json", "launch.rs", "self_test", "shaders"];
    assert_eq!(names(), whole);
    assert!(copy(true, 2).unwrap_err().contains("stopped; "));
    assert_eq!(names(), whole);
    assert!(vendor::verify(&folder).unwrap().iter().all(|file| file.state == vendor::State::Unchanged));
    // Killed while one copy took the place of another.
    fs::remove_dir_all(folder.join("golden")).unwrap();
    copy(true, usize::MAX).unwrap();
    assert_eq!(names(), whole);
}

#[test]
fn hopper_comes_with_its_header() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("attention");
    copied(&folder, &["attention", "--lang", "cuda", "--host", "cuda-python", "--entry", "forward_wgmma_d64_bf16"]);
    for path in [
        "kernels/attention.cu",
        "kernels/attention_backward.cu",
        "kernels/hopper/attention.cu",
        "kernels/hopper/hopper.cuh",
        "kernels/ptx/sm_90a/attention.ptx",
        "self_test/replay.py",
    ] {
        assert!(folder.join(path).exists(), "{path}");
    }
    for piece in ["CUtensorMap", "82048", "class Dims(ctypes.Structure)", "head_dim % 8 == 0"] {
        let launch = fs::read_to_string(folder.join("launch.py")).unwrap();
        assert!(launch.contains(piece), "{piece}:\n{launch}");
    }
}

/// A command and what it is for stand apart: one was printed as a single word.
#[test]
fn printed_commands_have_a_space_after_them() {
    let parent = tempfile::tempdir().unwrap();
    for (name, arguments) in [("a", &["swiglu", "--lang", "ptx"][..]), ("b", &["swiglu"]), ("c", &["swiglu", "--host", "webgpu"])] {
        let printed = copied(&parent.path().join(name), arguments);
        let commands: Vec<&str> = printed.lines().filter(|line| line.contains("self_test") && line.starts_with("  ")).collect();
        assert!(!commands.is_empty(), "{printed}");
        for line in commands {
            assert!(line.contains("  in "), "{line}");
        }
    }
}
