//! The CUDA device without a GPU: the program runs on a driver that is made of the emulator (`tests/fake_driver/`), so that what
//! it passes to a driver, and what it does with the driver's answers, is tested wherever the tests are.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;
use trimodal::train::checkpoint;

/// A folder with the fake driver under the name that the program looks for.
fn driver() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let built = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps").join("examples/libfake_cuda_driver.so");
        assert!(built.exists(), "{} is not built: `cargo test` builds it; with --tests alone add --examples", built.display());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fake-driver-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the driver");
        fs::copy(&built, folder.join("libcuda.so")).expect("the driver can be copied");
        folder
    })
}

/// Runs the program on the fake driver.
fn trimodal(settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimodal"));
    command.args(arguments).env("LD_LIBRARY_PATH", driver()).envs(settings.iter().copied());
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails with one clear line.
fn error(settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = trimodal(settings, arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    let line = message.lines().find(|l| l.starts_with("error: ")).unwrap_or_else(|| panic!("{arguments:?}: {message}"));
    assert!(!message.contains("panicked") && !message.contains("bug in trimodal"), "{message}");
    line.to_string()
}

const CHECK: &[&str] = &["check", "--device", "cuda", "--op", "rms_norm", "--quick"];

#[test]
fn the_device_is_listed_and_automatic() {
    let output = trimodal(&[], &["devices", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let cuda = json["devices"].as_array().unwrap().iter().find(|d| d["device"] == "cuda").expect("it is listed");
    assert_eq!((cuda["name"].as_str(), cuda["auto"].as_bool()), (Some("Emulated GPU"), Some(true)), "{json}");
}

#[test]
fn what_does_not_fit_is_said_in_one_line() {
    let old_driver = error(&[("FAKE_CUDA_VERSION", "12020")], CHECK);
    assert!(old_driver.contains("supports CUDA 12.2") && old_driver.contains("needs 12.4"), "{old_driver}");
    let old_gpu = error(&[("FAKE_CUDA_CAPABILITY", "75")], CHECK);
    assert!(old_gpu.contains("Emulated GPU (7.5)") && old_gpu.contains("8.0") && old_gpu.contains("--device wgpu"), "{old_gpu}");
    let none = error(&[("FAKE_CUDA_GPUS", "0")], CHECK);
    assert!(none.contains("shows no GPU"), "{none}");
}

#[test]
fn kernels_pass_through_the_driver() {
    let output = trimodal(&[], &["check", "--device", "cuda", "--op", "rms_norm"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("0 failed"), "{}", text(&output.stdout));
}

/// Every operation's launches, arguments and absent operands, by way of one training step.
#[test]
fn a_step_has_the_emulators_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let run = |settings: &[(&str, &str)], arguments: &[&str]| {
        let output = trimodal(settings, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    };
    run(&[], &["meadow", &path("data"), "--samples", "4", "--test-samples", "1"]);
    run(&[], &["train", &path("data"), "--out", &path("model"), "--steps", "1", "--device", "cpu"]);
    for dtype in ["f32", "bf16"] {
        for device in ["cuda", "emulator"] {
            run(
                &[],
                &["dump", &path("model"), &path("data"), "--samples", "2", "--dtype", dtype, "--device", device, "--out", &path(&format!("{device}.{dtype}"))],
            );
        }
        assert!(fs::read(path(&format!("cuda.{dtype}"))).unwrap() == fs::read(path(&format!("emulator.{dtype}"))).unwrap(), "{dtype}: other bits");
    }
}

/// Steps that are replayed from a CUDA graph have the bits of steps that are launched kernel by kernel, over batches of several
/// shapes and a learning rate that changes; and where a capture fails, the run continues with one line about it.
#[test]
fn a_replayed_step_has_the_bits_of_a_launched_one() {
    use trimodal::check::drawn_batch;
    use trimodal::model::Parameters;
    use trimodal::model::batch::Capacity;
    use trimodal::train::{ActivationOptions, Schedule, Trainer};
    use trimodal::{DType, Device};
    const STEPS: usize = 10;
    let Some(out) = std::env::var_os("TRAINED") else {
        // Twice more, in processes that load the fake driver.
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("graphs");
        let run = |name: &str, settings: &[(&str, &str)]| {
            let out = folder.path().join(name);
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "a_replayed_step_has_the_bits_of_a_launched_one", "--nocapture"]);
            let output = command.env("LD_LIBRARY_PATH", driver()).env("TRAINED", &out).envs(settings.iter().copied()).output().unwrap();
            assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
            (fs::read(out).unwrap(), text(&output.stderr))
        };
        let (replayed, said) = run("replayed", &[("FAKE_CUDA_GRAPH_LOG", log.to_str().unwrap())]);
        assert!(!said.contains("warning"), "{said}");
        let (launched, said) = run("launched", &[("FAKE_CUDA_REFUSE_CAPTURE", "1")]);
        let warnings: Vec<&str> = said.lines().filter(|l| l.starts_with("warning: ")).collect();
        // One for each of the two trainers.
        assert!(warnings.len() == 2 && warnings.iter().all(|l| l.contains("no CUDA graph could be recorded") && l.contains("STREAM_CAPTURE")), "{said}");
        assert!(replayed == launched, "other bits");
        let graphs = fs::read_to_string(&log).unwrap();
        let launches: Vec<&str> = graphs.lines().collect();
        // Both precisions; each of the three shapes that the batches have is launched kernel by kernel once, and so is the first of
        // the three batches that are added up.
        assert_eq!(launches.len(), 2 * (STEPS - 3 + 2), "{graphs}");
        return;
    };
    let device = Device::open("cuda", None).unwrap();
    let config = common::small_with_stem();
    // Four numbers of rows, two of which are padded to the same shape.
    let batches: Vec<_> = (0..STEPS).map(|i| drawn_batch(&config, &format!("batch {i}"), if i < STEPS / 2 { 3 + i % 2 } else { 12 - i % 2 })).collect();
    let rows = batches.iter().map(|b| b.rows()).max().unwrap();
    let captions = common::captions(&batches[0]);
    let mut bytes = Vec::new();
    for dtype in [DType::F32, DType::Bf16] {
        let parameters = Parameters::init(&config, &device, DType::F32, 7).unwrap();
        let schedule = Schedule { warmup: 3, ..Schedule::meadow(STEPS) };
        let mut trainer = Trainer::with_options(
            ActivationOptions { word_bag: 0.5, contrastive: 2.0, captions: captions.len(), ..ActivationOptions::new(dtype) },
            &config,
            parameters,
            schedule,
            Capacity::for_budget(&config, rows),
        )
        .unwrap();
        trainer.tell_apart(&captions).unwrap();
        let mut rest = batches.iter().skip(1).cloned();
        let mut prefetched = trainer.prefetch(batches[0].clone()).unwrap();
        for _ in 0..STEPS {
            let (report, _, next) = trainer.step_prefetched(prefetched, || Ok(rest.next().unwrap_or_else(|| batches[0].clone()))).unwrap();
            prefetched = next.unwrap();
            bytes.extend_from_slice(&report.loss.to_le_bytes());
            bytes.extend_from_slice(&report.gradient_norm.to_le_bytes());
        }
        let report = trainer.step_accumulated(&[batches[0].clone(), batches[0].clone(), batches[0].clone()]).unwrap();
        bytes.extend_from_slice(&report.loss.to_le_bytes());
        for p in [&trainer.parameters, &trainer.moments[0], &trainer.moments[1]] {
            p.each().iter().for_each(|t| bytes.extend(t.read_f64().unwrap().iter().flat_map(|x| x.to_le_bytes())));
        }
    }
    fs::write(out, bytes).unwrap();
}

/// On a GPU of compute capability 9.0 an operation takes its Hopper kernels once they have passed their test; where they fail it, it
/// stays with the portable ones, and a line says so.
#[test]
fn hopper_kernels_are_taken_after_a_test() {
    let check = |settings: &[(&str, &str)], op: &str| {
        let output = trimodal(settings, &["check", "--device", "cuda", "--op", op, "--quick", "--json", "-"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
        let failed = |entry: &str| {
            let rows: Vec<_> = report["ops"].as_array().unwrap().iter().filter(|r| r["entry"] == entry && r["dtype"] == "bf16").collect();
            assert!(rows.iter().map(|r| r["executed"].as_u64().unwrap()).sum::<u64>() > 0, "{entry}: {report}");
            rows.iter().map(|r| r["failed"].as_u64().unwrap()).sum::<u64>()
        };
        let forced = if op == "matmul" { "forward:persistent" } else { "forward:overlapped" };
        (failed("forward"), failed(forced), text(&output.stderr).contains("uses its portable kernels"))
    };
    for op in ["matmul", "attention"] {
        assert_eq!(check(&[("FAKE_CUDA_CAPABILITY", "90")], op), (0, 0, false), "{op}");
        let (right, wrong, said) = check(&[("FAKE_CUDA_CAPABILITY", "90"), ("FAKE_CUDA_WRONG_MAPS", "1")], op);
        assert!(right == 0 && wrong > 0 && said, "{op}: {right} {wrong} {said}");
    }
}

/// Events, ceilings, both dtypes; a vendor's library that is not there leaves the rest as it is.
#[test]
fn the_benchmark_times_with_events() {
    let arguments = ["bench", "--device", "cuda", "--shapes", "demo", "--op", "swiglu", "--quick", "--compare", "--json", "-"];
    let output = trimodal(&[], &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let card: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a card");
    assert!(card["method"]["timer"].as_str().is_some_and(|t| t.starts_with("CUDA events")), "{card}");
    assert!(card["device"]["clocks"].as_str().is_some_and(|c| c.contains("cores 1000 MHz")), "{card}");
    let rows = card["rows"].as_array().unwrap();
    let names: Vec<String> = rows.iter().map(|r| format!("{} {}", r["entry"], r["dtype"]).replace('"', "")).collect();
    assert_eq!(names, ["forward f32", "backward f32", "forward bf16", "backward bf16"]);
    for ceiling in ["copy_bytes", "f32_flops", "bf16_flops", "shared_bytes"] {
        assert!(card["ceilings"][format!("{ceiling}_per_second")].as_f64().is_some_and(|c| c > 0.0), "{ceiling}: {card}");
    }
    // 3 elements of input and output; half as many bytes each.
    assert_eq!((rows[0]["bytes"].as_u64(), rows[2]["bytes"].as_u64()), (Some(12 * 1920 * 176), Some(6 * 1920 * 176)));
    let vendor = card["left_out"].as_array().unwrap().iter().find(|l| l["what"] == "--compare");
    if let Some(vendor) = vendor {
        assert!(vendor["reason"].as_str().is_some_and(|r| r.contains("cuBLASLt is not on this machine")), "{vendor}");
    }
}

/// A trace reads events around every launch, one by one, also where ordinary steps are replayed from a graph.
#[test]
fn a_trace_times_every_launch_with_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json").display().to_string();
    let output = trimodal(&[], &["trace", "--device", "cuda", "--shapes", "demo", "--samples", "1", "--steps", "2", "--summary", "--json", &path]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("(100.0 %)") && text(&output.stdout).contains("CUDA events"), "{}", text(&output.stdout));
    let trace: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let spans = trace["spans"].as_array().unwrap();
    let kernels = spans.iter().filter(|s| s["kind"] == "kernel").count();
    assert!(kernels > 150, "{kernels} launches");
    assert!(spans.iter().all(|s| s["start"].as_f64().unwrap() >= 0.0 && s["seconds"].as_f64().unwrap() >= 0.0));
    let busy: f64 = spans.iter().map(|s| s["seconds"].as_f64().unwrap()).sum();
    let wall = trace["wall"].as_f64().unwrap();
    // The driver is the emulator: nothing runs beside the host.
    assert!(busy <= 1.01 * wall && busy >= 0.9 * wall, "{busy} of {wall}");
    // Gradients, parameters and moments are one tensor each here: one launch updates them all.
    assert_eq!(spans.iter().filter(|s| s["name"] == "adamw.update").count(), 1);
}

/// A kernel that dies takes the context with it: the program says so, says what to do, and what was saved stays.
#[test]
fn a_sticky_error_ends_the_run_and_spares_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (folder.path().join("data").display().to_string(), folder.path().join("model"));
    let out = model.display().to_string();
    assert!(trimodal(&[], &["meadow", &data, "--samples", "4", "--test-samples", "1"]).status.success());
    assert!(trimodal(&[], &["train", &data, "--out", &out, "--steps", "3", "--set", "stop_after=1", "--device", "cpu"]).status.success());
    let weights = || fs::read(checkpoint::latest(&model).unwrap().join("model.safetensors")).unwrap();
    let before = weights();
    let message = error(&[("FAKE_CUDA_FAULT_AT", "40")], &["train", "--resume", &out, "--device", "cuda"]);
    assert!(message.contains("CUDA_ERROR_ILLEGAL_ADDRESS") && message.contains("restart the program: the last checkpoint is whole"), "{message}");
    assert!(weights() == before, "a lost device must not touch the checkpoint");
}

#[test]
fn too_little_memory_is_said_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data").display().to_string(), folder.path().join("model").display().to_string());
    assert!(trimodal(&[], &["meadow", &data, "--samples", "4", "--test-samples", "1"]).status.success());
    let arguments = ["train", &data, "--out", &out, "--steps", "3", "--device", "cuda"];
    let message = error(&[("FAKE_CUDA_MEMORY", "10000000")], &arguments);
    assert!(message.contains("out of memory") && message.contains("training a model of these sizes") && message.contains("free"), "{message}");
}

/// Out of memory says how much was asked for and is free, and is not the end: less still fits.
#[test]
fn a_smaller_allocation_works_after_running_out() {
    if std::env::var_os("FAKE_CUDA_MEMORY").is_none() {
        // Again, in a process that loads the fake driver.
        let name = "a_smaller_allocation_works_after_running_out";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env("LD_LIBRARY_PATH", driver()).env("FAKE_CUDA_MEMORY", "1000000");
        let output = command.output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains("1 passed"), "{}{}", text(&output.stdout), text(&output.stderr));
        return;
    }
    use trimodal::{DType, Device, Error, Tensor};
    let device = Device::open("cuda", None).unwrap();
    let kept = Tensor::zeros(&device, [100_000], DType::F32).unwrap();
    match Tensor::zeros(&device, [200_000], DType::F32) {
        Err(Error::OutOfMemory { asked, free, .. }) => assert_eq!((asked, free), (800_000, Some(600_000))),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("800 kB fit into 600 kB"),
    }
    let mut smaller = Tensor::zeros(&device, [100_000], DType::F32).unwrap();
    smaller.write(&vec![1f32; 100_000]).unwrap();
    assert!(smaller.read::<f32>().unwrap().iter().all(|&x| x == 1.0) && kept.read::<f32>().unwrap().iter().all(|&x| x == 0.0));
}

#[test]
fn a_driver_that_refuses_the_ptx_is_named_with_its_version() {
    let message = error(&[("FAKE_CUDA_REFUSE_PTX", "1"), ("FAKE_CUDA_VERSION", "12050")], &["dump", "nowhere", "nowhere", "--out", "x", "--device", "cuda"]);
    // The model is opened first; only a launch loads PTX.
    assert!(message.contains("nowhere"), "{message}");
    let output = trimodal(&[("FAKE_CUDA_REFUSE_PTX", "1"), ("FAKE_CUDA_VERSION", "12050")], CHECK);
    assert!(!output.status.success());
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("the driver supports CUDA 12.5") && said.contains("needs 12.4 or later"), "{said}");
}
