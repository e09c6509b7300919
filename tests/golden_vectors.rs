//! `trimodal golden`, and the engines in `examples/` that replay what it writes: on wgpu, and on the CUDA driver that is made of the
//! emulator (`tests/fake_driver/`), from Rust and from Python.

#[path = "../examples/vendored/contract.rs"]
mod contract;
#[path = "common/vectors.rs"]
mod vectors;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use trimodal::device::shader::SHADERS;
use trimodal::device::{Language, ptx};
use trimodal::golden::{EXCEPTIONS, expect_free, plan, write};
use vectors::{Broken, about, broken, index, launches, vectors, written};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// An example that finds no GPU.
const NOT_RUN: i32 = 77;

/// Every entry of every file is in several cases, tails and odd shapes among them; what is not is listed, with its reason.
#[test]
fn every_entry_is_in_several_cases() {
    for language in [Language::Wgsl, Language::Ptx] {
        let plan = plan(language, None).unwrap();
        let mut cases: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for planned in &plan.cases {
            // Tiles are 16 wide and wider.
            let operands = planned.case.inputs.iter().chain(planned.case.outputs.iter().map(|o| &o.before));
            let is_tail = operands.flat_map(|o| o.shape.dims().to_vec()).any(|side| side > 1 && side % 16 != 0);
            for entry in &planned.entries {
                let (count, tails) = cases.entry(entry).or_default();
                *count += 1;
                *tails += is_tail as usize;
            }
        }
        let entries: Vec<String> = match language {
            Language::Wgsl => SHADERS.iter().flat_map(|s| s.entries.iter().map(move |e| format!("{}.{}", s.stem, e.name))).collect(),
            Language::Ptx => {
                let folder = |c: &ptx::Compiled| if c.architecture == "sm_90a" { "hopper/" } else { "" };
                ptx::COMPILED.iter().flat_map(|c| ptx::module(c).signatures().map(move |s| format!("{}{}.{}", folder(c), c.stem, s.name))).collect()
            }
        };
        for entry in &entries {
            let excused = EXCEPTIONS.iter().any(|(stem, _)| entry.starts_with(&format!("{stem}.")));
            let (count, tails) = cases.remove(entry.as_str()).unwrap_or_default();
            assert!(excused || (count >= 2 && tails >= 1), "{language:?} {entry}: {count} cases, {tails} of them with tails");
            assert!(!excused || count == 0, "{language:?} {entry}: excused, and there are cases");
        }
        assert!(cases.is_empty(), "{language:?}: no such entries: {cases:?}");
        assert!(entries.len() > 50, "{}", entries.len());
    }
}

/// Small enough to be copied about, and the same bytes every time.
#[test]
fn folders_are_small_and_repeat() {
    for language in [Language::Wgsl, Language::Ptx] {
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        for case in index(vectors(language))["cases"].as_array().unwrap() {
            let bytes = case["bytes"].as_u64().unwrap();
            assert_eq!(fs::metadata(vectors(language).join(case["file"].as_str().unwrap())).unwrap().len(), bytes);
            *sizes.entry(case["op"].as_str().unwrap().into()).or_default() += bytes;
        }
        assert!(sizes.values().all(|&bytes| bytes < 8 << 20), "{sizes:?}");
        let folder = tempfile::tempdir().unwrap();
        let again = folder.path().join("again");
        written(&plan(language, Some("rope")).unwrap(), &again);
        for case in index(&again)["cases"].as_array().unwrap() {
            let file = case["file"].as_str().unwrap();
            assert!(fs::read(again.join(file)).unwrap() == fs::read(vectors(language).join(file)).unwrap(), "{file}");
        }
    }
}

#[test]
fn what_is_there_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (golden, mine) = (folder.path().join("golden"), folder.path().join("mine"));
    let plan = plan(Language::Wgsl, Some("swiglu")).unwrap();
    let mut go_on = |_| ControlFlow::Continue(());
    written(&plan, &golden);
    fs::write(golden.join("stale"), "").unwrap();
    assert!(write(&plan, &golden, false, &mut go_on).unwrap_err().to_string().contains("--force"));
    write(&plan, &golden, true, &mut go_on).unwrap();
    assert!(!golden.join("stale").exists() && golden.join("README.txt").exists());
    fs::create_dir(&mine).unwrap();
    expect_free(&mine, false).unwrap();
    fs::write(mine.join("thesis.tex"), "").unwrap();
    for force in [false, true] {
        assert!(write(&plan, &mine, force, &mut go_on).unwrap_err().to_string().contains("left as it is"));
    }
    // Stopped half-way: nothing is left behind, not even a temporary folder.
    let stopped = folder.path().join("stopped");
    assert!(write(&plan, &stopped, false, &mut |done| if done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }).is_err());
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["golden", "mine"]);
}

#[test]
fn the_program_writes_both_languages() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_trimodal")).arg("golden").arg(folder.path().join("g")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, out, err) = run(&["--op", "rope", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let both: Value = serde_json::from_str(&out).unwrap();
    assert_eq!([0, 1].map(|i| both[i]["language"].as_str().unwrap().to_string()), ["wgsl", "ptx"]);
    assert_eq!(both[0], index(&folder.path().join("g/wgsl")));
    let (code, _, err) = run(&["--op", "rope"]);
    assert!(code == Some(1) && err.contains("--force"), "{code:?} {err}");
    let (code, out, err) = run(&["--op", "rope", "--force"]);
    assert!(code == Some(0) && out.contains("cases") && out.contains("rope"), "{out} {err}");
    let (code, _, err) = run(&["--op", "rop", "--force"]);
    assert!(code == Some(2) && err.contains("expected one of"), "{code:?} {err}");
}

/// Every launch that was recorded fits the contract; one that is broken does not.
#[test]
fn launches_are_held_to_the_contract() {
    let manifest: Value = serde_json::from_slice(&fs::read(Path::new(ROOT).join("kernels.json")).unwrap()).unwrap();
    let check = |launch: &Value, buffers: &Value| contract::check(&manifest, launch, buffers);
    for language in [Language::Wgsl, Language::Ptx] {
        let launches = launches(vectors(language));
        for (file, launch, buffers) in &launches {
            check(launch, buffers).unwrap_or_else(|e| panic!("{file}: {e}"));
        }
        assert!(launches.len() > 500, "{}", launches.len());
        for Broken { launch, buffers, said } in broken(language) {
            let error = check(&launch, &buffers).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }
}

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let built = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps").join("examples").join(name);
    assert!(built.exists(), "{} is not built: `cargo test` builds it; with --tests alone add --examples", built.display());
    built
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Replays golden vectors with one of the examples, every launch held to `kernels.json` first. `None` where there is no GPU for it.
fn replay(engine: &Engine, golden: &Path) -> Option<(bool, String)> {
    let mut command = match engine {
        Engine::Wgpu => Command::new(example("vendor_wgpu")),
        Engine::Cudarc(_) => Command::new(example("vendor_cudarc")),
        Engine::Python(_) => {
            let mut python = Command::new("python3");
            python.arg(Path::new(ROOT).join("examples/vendor_python/replay.py"));
            python
        }
    };
    if let Engine::Cudarc(driver) | Engine::Python(driver) = engine {
        command.env("LD_LIBRARY_PATH", driver).env("LIBCUDA", driver.join("libcuda.so")).env("FAKE_CUDA_CAPABILITY", "90");
    }
    let output = command.arg(ROOT).arg(golden).env("CONTRACT", "1").env("PYTHONDONTWRITEBYTECODE", "1").output().expect("it starts");
    match output.status.code() {
        Some(NOT_RUN) => None,
        code => Some((code == Some(0), said(&output))),
    }
}

enum Engine {
    Wgpu,
    /// With a folder that has the driver under the name that is looked for.
    Cudarc(PathBuf),
    Python(PathBuf),
}

/// All golden vectors are right; then one value is made wrong, and one input NaN, and both are found.
fn judged(engine: &Engine, language: Language) {
    let Some((right, said)) = replay(engine, vectors(language)) else {
        assert!(std::env::var_os("TRIMODAL_REQUIRE_WGPU").is_none(), "no adapter where one is required");
        return eprintln!("WARNING: golden vectors were NOT REPLAYED: no GPU and no software driver");
    };
    let cases = index(vectors(language))["cases"].as_array().unwrap().len();
    assert!(right && said.contains(&format!("{cases} of {cases} golden vectors are right")), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let golden = folder.path().join("golden");
    written(&plan(language, Some("rope")).unwrap(), &golden);
    let file = index(&golden)["cases"][1]["file"].as_str().unwrap().to_string();
    let path = golden.join(&file);
    let whole = fs::read(&path).unwrap();
    let (about, header) = about(&path);
    let input = format!("before.{}", about["buffers"][0]["name"].as_str().unwrap());
    let data = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let place = |tensor: &str, side: usize| data + header[tensor]["data_offsets"][side].as_u64().unwrap() as usize;
    let output = header.as_object().unwrap().keys().find_map(|key| key.strip_prefix("expected.")).unwrap().to_string();
    // The last element of what is expected, off by a half.
    let mut wrong = whole.clone();
    let last = place(&format!("expected.{output}"), 1) - 8;
    let value = f64::from_le_bytes(whole[last..last + 8].try_into().unwrap());
    wrong[last..last + 8].copy_from_slice(&(value + 0.5).to_le_bytes());
    // All of the input NaN, whether f32 or bf16.
    let mut nan = whole.clone();
    nan[place(&input, 0)..place(&input, 1)].fill(0xff);
    for (name, damaged) in [("an expectation changed", wrong), ("NaN", nan)] {
        fs::write(&path, damaged).unwrap();
        let (right, said) = replay(engine, &golden).unwrap();
        assert!(!right && said.contains(&format!("WRONG {file}")), "{name}: {said}");
    }
    fs::write(&path, &whole[..whole.len() - 8]).unwrap();
    assert!(!replay(engine, &golden).unwrap().0, "a file that was cut off");
}

#[cfg(feature = "wgpu")]
#[test]
fn plain_wgpu_replays_them() {
    judged(&Engine::Wgpu, Language::Wgsl);
}

/// The driver that is made of the emulator, under its name.
#[cfg(target_os = "linux")]
fn driver(folder: &TempDir) -> PathBuf {
    for name in ["libcuda.so", "libcuda.so.1"] {
        fs::copy(example("libfake_cuda_driver.so"), folder.path().join(name)).unwrap();
    }
    folder.path().to_path_buf()
}

#[cfg(all(target_os = "linux", feature = "cuda"))]
#[test]
fn plain_cudarc_replays_them() {
    let folder = tempfile::tempdir().unwrap();
    judged(&Engine::Cudarc(driver(&folder)), Language::Ptx);
}

#[cfg(target_os = "linux")]
#[test]
fn python_replays_them() {
    if Command::new("python3").arg("--version").output().is_err() {
        return eprintln!("WARNING: golden vectors were NOT REPLAYED from Python: no python3 here");
    }
    let folder = tempfile::tempdir().unwrap();
    judged(&Engine::Python(driver(&folder)), Language::Ptx);
}

/// `contract.py` refuses what breaks the contract, as `contract.rs` does; what fits it the replay above lets through.
#[test]
fn python_holds_launches_to_the_contract() {
    let script = "import contract, json, sys\n\
        manifest = json.load(open('kernels.json'))\n\
        for launch, buffers in json.load(sys.stdin):\n    \
            try:\n        \
                contract.check(manifest, launch, buffers)\n        \
                print('let through')\n    \
            except ValueError as error:\n        \
                print(error)";
    let broken = broken(Language::Ptx);
    let input: Vec<[&Value; 2]> = broken.iter().map(|b| [&b.launch, &b.buffers]).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("launches.json");
    fs::write(&file, serde_json::to_vec(&input).unwrap()).unwrap();
    let mut python = Command::new("python3");
    python.current_dir(ROOT).args(["-c", script]).env("PYTHONPATH", "examples/vendor_python").env("PYTHONDONTWRITEBYTECODE", "1");
    let Ok(output) = python.stdin(fs::File::open(&file).unwrap()).output() else {
        return eprintln!("WARNING: contract.py was NOT TRIED: no python3 here");
    };
    let all = said(&output);
    assert!(output.status.success() && all.lines().count() == broken.len(), "{all}");
    for (line, Broken { said, .. }) in all.lines().zip(&broken) {
        assert!(line.contains(said), "{line}, expected: {said}");
    }
}

/// Without a GPU the examples say so, with an exit code of their own.
#[cfg(all(target_os = "linux", feature = "cuda"))]
#[test]
fn without_a_gpu_they_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("libcuda.so");
    let script = Path::new(ROOT).join("examples/vendor_python/replay.py");
    let python =
        Command::new("python3").arg(script).arg(ROOT).arg(vectors(Language::Ptx)).env("LIBCUDA", &nowhere).env("PYTHONDONTWRITEBYTECODE", "1").output();
    if let Ok(python) = python {
        assert!(python.status.code() == Some(NOT_RUN) && said(&python).contains("not run"), "{}", said(&python));
    }
    let mut cudarc = Command::new(example("vendor_cudarc"));
    let output = cudarc.arg(ROOT).arg(vectors(Language::Ptx)).env("LD_LIBRARY_PATH", driver(&folder)).env("FAKE_CUDA_GPUS", "0").output().unwrap();
    assert!(output.status.code() == Some(NOT_RUN) && said(&output).contains("nothing was run"), "{}", said(&output));
}

/// Each engine fits a screen or two.
#[test]
fn the_examples_are_short() {
    for (file, most) in [("vendor_wgpu.rs", 150), ("vendor_cudarc.rs", 150), ("vendor_python/replay.py", 100)] {
        let lines = fs::read_to_string(Path::new(ROOT).join("examples").join(file)).unwrap().lines().count();
        assert!(lines < most, "{file}: {lines} lines");
    }
}
