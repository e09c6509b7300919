//! The trace of a training step: what it counts agrees with the model's formula, what it times with the clock, and every launch has a
//! name, a place and a purpose.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use trimodal::check::{drawn_batch, test_devices};
use trimodal::model::batch::Capacity;
use trimodal::model::{Batch, Config, Parameters, flops};
use trimodal::ops::Sizes;
use trimodal::trace::{self, Access, ModelPart, Phase, SpanKind, Trace};
use trimodal::train::recipe::Precision;
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device};

fn trainer(config: &Config, batch: &Batch, device: &Device, options: ActivationOptions) -> Trainer {
    let parameters = Parameters::init(config, device, DType::F32, 7).unwrap();
    let schedule = Schedule { warmup: 1, ..Schedule::meadow(10) };
    Trainer::with_options(options, config, parameters, schedule, Capacity::of(batch)).unwrap()
}

fn traced(config: &Config, batch: &Batch, device: &Device, options: ActivationOptions) -> Trace {
    let mut trainer = trainer(config, batch, device, options);
    trainer.step(batch).unwrap(); // compiles
    trace::record(device, trace::TraceOptions::default(), || trainer.step(batch)).unwrap().1
}

/// The CPU, wgpu where there is an adapter, and the emulator.
fn devices() -> Vec<Device> {
    test_devices().into_iter().chain([Device::open("emulator", None).unwrap()]).collect()
}

/// One step of a tiny model on every device, in f32 everywhere and in bf16 on the emulator.
fn traces(config: &Config, batch: &Batch) -> Vec<Trace> {
    let all = devices();
    let mut traces: Vec<Trace> = all.iter().map(|device| traced(config, batch, device, ActivationOptions::new(DType::F32))).collect();
    traces.push(traced(config, batch, &all[all.len() - 1], ActivationOptions::new(DType::Bf16)));
    traces
}

#[test]
fn the_work_agrees_with_the_formula() {
    for config in [
        common::tiny(),
        common::small(),
        common::tiny_with_stem(),
        common::with_histograms(common::tiny(), &[3, 2]),
        Config { vision_config: None, audio_config: None, ..common::small() },
    ] {
        let batch = drawn_batch(&config, "traced", 5);
        let formula = flops(&config, &batch) as f64;
        for trace in traces(&config, &batch) {
            let products = trace.products() as f64;
            assert!((products / formula - 1.0).abs() < 0.02, "{}: {products} by launch, {formula} by formula", trace.device);
            assert!(trace.flops() > trace.products(), "norms and activations count, too");
        }
    }
}

/// With words alone the formula is the textbook's: six for each weight and row that passes through it, and attention.
#[test]
fn the_work_is_six_per_parameter_and_row_and_attention() {
    let config = Config { vision_config: None, audio_config: None, ..common::small() };
    let batch = drawn_batch(&config, "words", 9);
    let mut weights = 0;
    let _ = Parameters::build(&config, &mut |shape| {
        weights += if shape.len() == 2 { shape.iter().product::<usize>() } else { 0 };
        Ok(())
    });
    let table = config.vocab_size * config.hidden_size;
    // In the last layer, rows that predict nothing have keys and values, and no more.
    let (inner, layers) = (config.num_attention_heads * config.head_dim, config.num_hidden_layers);
    let idle = (batch.rows() - batch.counted()) * config.hidden_size * (2 * inner + 3 * config.intermediate_size);
    let pairs = |v: &[i32; 2]| (v[1] - v[0]) as usize;
    let last: usize = batch.logit_row.iter().map(|&row| pairs(&batch.visible[row as usize])).sum();
    let attention = 14 * inner * (batch.visible.iter().map(pairs).sum::<usize>() * (layers - 1) + last);
    let expected = (6 * ((weights - table) * batch.rows() - idle + table * batch.counted()) + attention) as f64;
    for trace in traces(&config, &batch) {
        assert!((trace.products() as f64 / expected - 1.0).abs() < 0.02, "{}: {} against {expected}", trace.device, trace.products());
    }
}

/// What is computed again is no progress: it is shown, and left out of the comparison.
#[test]
fn recomputation_is_seen_and_not_counted() {
    let config = common::small();
    let batch = drawn_batch(&config, "again", 5);
    for device in devices() {
        let trace = traced(&config, &batch, &device, ActivationOptions { recompute: true, ..ActivationOptions::new(DType::F32) });
        let again: u64 = trace.spans.iter().filter(|s| s.phase == Phase::Recompute).map(|s| s.products).sum();
        assert!(again > 0, "{device}");
        assert!((trace.products() as f64 / flops(&config, &batch) as f64 - 1.0).abs() < 0.02, "{device}");
    }
}

#[test]
fn every_span_has_a_name_a_purpose_and_a_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = common::tiny();
    let batch = drawn_batch(&config, "named", 5);
    traces(&config, &batch).iter().for_each(|trace| every_span(&config, trace, root));

    // An eye of convolutions, and words told from picture and sound: their tensors have names, their launches say what they are about.
    let config = common::tiny_with_stem();
    let batch = drawn_batch(&config, "seen", 5);
    for device in devices() {
        let trace = traced(&config, &batch, &device, ActivationOptions { word_bag: 0.5, contrastive: 2.0, captions: 3, ..ActivationOptions::new(DType::F32) });
        every_span(&config, &trace, root);
        let whats: Vec<&str> = trace.spans.iter().filter(|s| s.part == ModelPart::Rows).map(|s| s.what.as_str()).collect();
        for what in ["conv1.norm", "conv1", "conv4", "places.norm", "places", "places: dW", "places: dx", "whole.norm", "whole"] {
            let what = format!("vision_stem.{what}");
            assert!(whats.contains(&&*what), "{device}: no launch is about {what}: {whats:?}");
        }
        let named = |name: &str| trace.spans.iter().flat_map(|s| &s.operands).any(|o| o.tensor.as_deref() == Some(name));
        assert!(named("convolution 2 of the eye after its GELU") && named("the logits of the words told"), "{device}");
    }
}

fn every_span(config: &Config, trace: &Trace, root: &Path) {
    let mut end = 0.0;
    for span in &trace.spans {
        let about = format!("{}: {} of {} {}", trace.device, span.name, span.phase, span.part);
        assert!(span.phase != Phase::Other && !span.name.is_empty(), "{about}");
        assert!(span.start >= end - 1e-6 && span.seconds >= 0.0, "{about}: begins at {}, and the one before ended at {end}", span.start);
        end = span.start + span.seconds;
        assert!(!span.operands.is_empty() && span.operands.iter().all(|o| o.tensor.is_some()), "{about}: {:?}", span.operands);
        assert!(span.operands.iter().all(|o| !o.name.starts_with("buffer")), "{about}: the header does not name {:?}", span.operands);
        if span.kind == SpanKind::Kernel {
            let (file, line) = span.source.rsplit_once(':').unwrap_or_else(|| panic!("{about}: {:?}", span.source));
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{about}: {file}: {e}"));
            let code = text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
            let entry = span.name.split_once('.').unwrap().1;
            assert!(code.contains(&format!("{entry}(")) || code.contains(".begin("), "{about}: {}: {code}", span.source);
            assert!(span.operands.iter().any(|o| o.access != Access::Read), "{about} writes nothing");
        }
    }
    for layer in 0..config.num_hidden_layers {
        for phase in [Phase::Forward, Phase::Backward] {
            assert!(trace.spans.iter().any(|s| (s.phase, s.part) == (phase, ModelPart::Layer(layer))), "{}: {phase} {layer}", trace.device);
        }
    }
    // The seven products of a layer, each known by its weight.
    let whats: Vec<&str> = trace.spans.iter().filter(|s| (s.phase, s.part) == (Phase::Forward, ModelPart::Layer(0))).map(|s| s.what.as_str()).collect();
    for what in ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "q_norm", "post_attention_layernorm"] {
        assert!(whats.contains(&what), "{}: {whats:?}", trace.device);
    }
    assert!(trace.spans.iter().any(|s| s.what == "q_proj: dW") && trace.spans.iter().any(|s| s.what == "q_proj: dx"));
}

/// The bytes that matter: nothing is freed before it was made, the peak is no more than what is allocated, and what stays is what a step
/// leaves behind.
#[test]
fn live_memory_rises_and_falls() {
    let config = common::small();
    let batch = drawn_batch(&config, "live", 5);
    for device in devices() {
        let mut trainer = trainer(&config, &batch, &device, ActivationOptions::new(DType::F32));
        let (_, trace) = trace::record(&device, trace::TraceOptions::default(), || trainer.step(&batch)).unwrap();
        let mut live = 0i64;
        for span in &trace.spans {
            live += span.made_live as i64 - span.freed as i64;
            assert_eq!(live, span.live as i64, "{device}: {}", span.name);
        }
        let backward = trace.spans.iter().position(|s| s.phase == Phase::Backward).unwrap();
        let peak = trace.spans.iter().position(|s| s.live == trace.peak_live()).unwrap();
        assert!(trace.peak_live() <= trainer.allocated_bytes(), "{device}");
        assert!(peak + 20 >= backward, "{device}: activations pile up until the backward pass takes them away");
        assert!(live < trace.peak_live() as i64 / 2, "{device}: {live} of {} stay", trace.peak_live());
    }
}

#[test]
fn a_traced_step_has_the_same_bits() {
    let config = common::tiny();
    let batch = drawn_batch(&config, "bits", 5);
    for device in devices() {
        let run = |traced: bool| {
            let mut trainer = trainer(&config, &batch, &device, ActivationOptions::new(DType::F32));
            let step = |trainer: &mut Trainer| trainer.step(&batch);
            let report =
                if traced { trace::record(&device, trace::TraceOptions { values: 3 }, || step(&mut trainer)).unwrap().0 } else { step(&mut trainer).unwrap() };
            let parameters: Vec<u64> = trainer.parameters.each().iter().flat_map(|p| p.read_f64().unwrap()).map(f64::to_bits).collect();
            (report.loss.to_bits(), parameters)
        };
        assert!(run(true) == run(false), "{device}");
    }
}

/// The spans and the gaps are the step: on the CPU and the emulator, where nothing runs beside the host, spans are at least 95 % of it; on a
/// GPU too. Each at a size at which an operation is far longer than the host takes to come to the next one: the demo's own step on the CPU
/// (a step of four samples is 7 ms in 227 spans, of which the host needs 1 to 2 µs each), a larger one on a GPU. (A software driver is no
/// GPU: its times are only held to lie within the wall time.)
#[test]
fn the_times_add_up_to_the_step() {
    for device in devices().into_iter().chain(Device::open("cuda", None)) {
        let hardware = trimodal::bench::is_fast(&device);
        let (mut trainer, batch) = if device.to_string().contains("emulator") {
            let config = common::small();
            let batch = drawn_batch(&config, "a batch", 11);
            (trainer(&config, &batch, &device, ActivationOptions::new(DType::F32)), batch)
        } else {
            let sizes = if hardware { Sizes::SMALL } else { Sizes::DEMO };
            trimodal::bench::training_step(&sizes, usize::MAX, &device, Precision::F32).unwrap()
        };
        trainer.step(&batch).unwrap();
        // The best of a few: what the system does in between is a gap.
        let best = (0..5)
            .map(|_| trace::record(&device, trace::TraceOptions::default(), || trainer.step(&batch)).unwrap().1)
            .map(|trace| (trace.busy() / trace.wall, trace))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap();
        let (share, trace) = best;
        println!("{device}: {} spans, {:.3} ms of {:.3} ms: {:.1} %", trace.spans.len(), 1e3 * trace.busy(), 1e3 * trace.wall, 100.0 * share);
        assert!(share <= 1.01, "{device}: spans of {} s in {} s", trace.busy(), trace.wall);
        assert!((trace.busy() + trace.gaps() - trace.wall).abs() < 1e-9);
        if hardware || !device.to_string().contains("wgpu") {
            assert!(share >= 0.95, "{device}: spans are {:.1} % of the step", 100.0 * share);
        }
    }
}

#[test]
fn a_perfetto_file_nests_and_a_flame_is_an_image() {
    let config = common::tiny();
    let batch = drawn_batch(&config, "files", 5);
    for trace in traces(&config, &batch) {
        let json: serde_json::Value = serde_json::from_str(&trace.json()).unwrap();
        assert_eq!(json["spans"].as_array().unwrap().len(), trace.spans.len());
        assert!(json["spans"][0]["operands"][0]["shape"].is_array() && json["wall"].as_f64().unwrap() > 0.0);

        let timeline: serde_json::Value = serde_json::from_str(&trace.perfetto()).unwrap();
        let events = timeline["traceEvents"].as_array().unwrap();
        let slices: Vec<_> = events.iter().filter(|e| e["ph"] == "X").collect();
        let launches = slices.iter().filter(|e| e["cat"] == "kernel").count();
        assert_eq!(launches, trace.spans.iter().filter(|s| s.kind == SpanKind::Kernel).count());
        // Events of one track lie within each other or apart.
        let mut open: Vec<f64> = Vec::new();
        for slice in &slices {
            let (start, length) = (slice["ts"].as_f64().unwrap(), slice["dur"].as_f64().unwrap());
            assert!(length >= 0.0, "{slice}");
            while open.last().is_some_and(|end| *end <= start + 0.002) {
                open.pop();
            }
            assert!(open.last().is_none_or(|end| start + length <= end + 0.003), "{slice} continues after what it lies in, which ends at {:?}", open.last());
            open.push(start + length);
        }
        assert!(events.iter().any(|e| e["ph"] == "C" && e["args"]["bytes"].as_u64().unwrap() > 0));

        let svg = trace.flame();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
        let timed = trace.spans.iter().filter(|s| s.seconds > 0.0).count();
        assert!(svg.matches("<title>").count() > timed, "a title for every launch, phase and part");
    }
}

/// Numbers are what stands in the tensor.
#[test]
fn values_are_read_behind_every_call() {
    let config = common::tiny();
    let batch = drawn_batch(&config, "values", 5);
    for device in devices() {
        let mut trainer = trainer(&config, &batch, &device, ActivationOptions::new(DType::F32));
        let (report, trace) = trace::record(&device, trace::TraceOptions { values: 4 }, || trainer.step(&batch)).unwrap();
        let loss = trace.spans.iter().rfind(|s| s.op == "cross_entropy" && s.operands.iter().any(|o| o.name == "loss")).unwrap();
        let values = loss.operands.iter().find(|o| o.name == "loss").unwrap().values.as_ref().unwrap();
        assert_eq!(values.first, [report.loss as f64], "{device}");
        if let Device::Cpu = device {
            let written = |s: &trace::Span| s.operands.iter().filter(|o| o.access != Access::Read).all(|o| o.values.is_some());
            assert!(trace.spans.iter().filter(|s| s.kind == SpanKind::Kernel).all(written), "an operation does not say at its end what it has written");
        }
        let swiglu = trace.spans.iter().find(|s| s.op == "swiglu").unwrap();
        let values = swiglu.operands.iter().find(|o| o.access == Access::Write).unwrap().values.as_ref().unwrap();
        assert!(values.first.len() == 4 && values.rms > 0.0 && values.mean.abs() <= values.rms, "{device}: {values:?}");
    }
}

// ── The program ──────────────────────────────────────────────────────────────────────────────────────────────────

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NODEVICE_SELECT", "1").env("COLUMNS", "1000").output().expect("the program starts")
}

fn refused(code: i32, arguments: &[&str]) -> String {
    let output = program(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(message.starts_with("error: ") && !message.contains("bug in trimodal"), "{arguments:?}: {message}");
    message
}

#[test]
fn the_program_prints_a_table_and_writes_what_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, perfetto, flame) = (path("t.json"), path("p.json"), path("f.svg"));
    let output = program(&["trace", "--device", "cpu", "--shapes", "demo", "--samples", "2", "--json", &json, "--perfetto", &perfetto, "--flame", &flame]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["forward: layer 0", "backward: layer 2", "update: whole model", "matmul.forward", "q_proj: dW", "by kernel", "(100.0 %)", "gaps"] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let read = |path: &str| -> serde_json::Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let trace = read(&json);
    assert!(trace["spans"].as_array().unwrap().iter().filter(|s| s["kind"] == "kernel").all(|s| s["percent"].as_f64().is_some_and(|p| p >= 0.0)));
    assert!(trace["formula"].as_u64().unwrap() > 0);
    assert!(read(&perfetto)["traceEvents"].as_array().unwrap().len() > 100);
    assert!(std::fs::read_to_string(&flame).unwrap().starts_with("<svg"));
}

#[test]
fn the_program_refuses_what_makes_no_sense() {
    assert!(refused(2, &["trace", "--device", "cpu", "--shapes", "huge"]).contains("expected one of demo, small, large"));
    assert!(refused(2, &["trace", "--device", "cpu", "--samples", "0"]).contains("expected at least 1"));
    assert!(refused(1, &["trace", "nowhere", "nothing", "--device", "cpu"]).contains("no such folder"));
    let unwritable = ["trace", "--device", "cpu", "--samples", "1", "--summary", "--flame", "/no/such/folder/f.svg"];
    let output = program(&unwritable);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/folder/f.svg: cannot write"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("gaps"), "what was measured is shown all the same");
}

/// A data set and a run of one step.
fn place() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, run) = (path("data"), path("run"));
    for arguments in
        [&["meadow", &data, "--samples", "24", "--seed", "5"][..], &["train", &data, "--out", &run, "--steps", "1", "--device", "cpu", "--set", "held_out=0"]]
    {
        let output = program(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (folder, run, data)
}

#[test]
fn a_sample_is_walked_through_a_step() {
    let (folder, run, data) = place();
    // One that is seen and heard.
    let table = std::fs::read_to_string(Path::new(&data).join("metadata.jsonl")).unwrap();
    let whole = table.lines().position(|line| line.contains("\"audio\"") && line.contains("\"file_name\"")).unwrap().to_string();
    let output = program(&["step", &run, &data, "--device", "cpu", "--sample", &whole]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "pixels → patches → rows",
        "waveform → mel frames → rows",
        "log_mel.forward",
        "The token matrix",
        "PPPPPPPP",
        "FFFF",
        "visible: row i",
        "the token matrix = ",
        "forward: layer 0",
        "q_proj",
        "the queries of layer 0 = ",
        "src/ops/matmul/mod.rs:",
        "kernels/matmul.cu:",
        "backward: layer 0",
        "the gradient of model.layers.0.self_attn.q_proj.weight = ",
        "adamw.update",
        "is to say",
        "<eos>",
        "gradient norm",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colours where nobody looks");
    assert!(!text.contains("NaN"));
    let all = String::from_utf8(program(&["step", &run, &data, "--device", "cpu", "--all", "--values", "2"]).stdout).unwrap();
    assert!(all.contains("the queries of layer 2 = ") && !text.contains("the queries of layer 2 = "));

    // The same as a page.
    let page = folder.path().join("step.html");
    let output = program(&["step", &run, &data, "--device", "cpu", "--sample", &whole, "--html", &page.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let html = std::fs::read_to_string(&page).unwrap();
    for expected in
        ["Pixels → patches", "data:image/png", "data:audio/wav", "Who sees whom", "backward, layer 2", "kernels/matmul.cu:", "is to say", "gradient norm"]
    {
        assert!(html.contains(expected), "no {expected:?} in the page");
    }
    assert!(refused(1, &["step", &run, &data, "--device", "cpu", "--html", "/no/such/folder/s.html"]).contains("cannot write"));

    // The traced step of a trained model.
    let output = program(&["trace", &run, &data, "--device", "cpu", "--samples", "3", "--summary"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("(3 samples)") && text.contains("(100.0 %)"), "{text}");

    // What makes no sense.
    assert!(refused(2, &["step", &run, &data, "--device", "cpu", "--sample", "9999"]).contains("--sample 9999: expected 0 to "));
    assert!(refused(1, &["step", "nowhere", &data, "--device", "cpu"]).contains("no such folder"));
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("metadata.jsonl"), "").unwrap();
    refused(1, &["step", &run, &empty.display().to_string(), "--device", "cpu"]);
    refused(1, &["trace", &run, &empty.display().to_string(), "--device", "cpu"]);
    std::fs::write(empty.join("metadata.jsonl"), "{\"text\": \"\"}\n").unwrap();
    refused(1, &["step", &run, &empty.display().to_string(), "--device", "cpu"]);
    // A model of another version: its config speaks of layers that its file does not have.
    let model = Path::new(&run).join(std::fs::read_to_string(Path::new(&run).join("latest")).unwrap().trim());
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(model.join("config.json"), config.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 5")).unwrap();
    let message = refused(1, &["step", &run, &data, "--device", "cpu"]);
    assert!(message.contains("model.safetensors"), "{message}");
}
