//! What `trace`, `step`, `devices` and `emulate` print fits a terminal of 80 columns, and `--wide` shows what that leaves out.
#![cfg(feature = "cli")]

use std::path::Path;
use std::process::{Command, Output};
use unicode_width::UnicodeWidthStr;

fn program(columns: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NODEVICE_SELECT", "1").env("COLUMNS", columns).output().expect("the program starts")
}

fn printed(columns: &str, arguments: &[&str]) -> String {
    let output = program(columns, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a command at 80, 60 and 120 columns and with `--wide`: no line is longer than it may be, and `all` stands in the wide one alone
/// or in both. Returns what 80 columns show.
fn fits(arguments: &[&str], all: &[&str]) -> String {
    for columns in [60, 120] {
        within(columns, &printed(&columns.to_string(), arguments), arguments);
    }
    let narrow = printed("80", arguments);
    within(80, &narrow, arguments);
    let wide = printed("80", &[arguments, &["--wide"]].concat());
    assert!(!wide.contains("--wide"), "{arguments:?}: nothing is left out of\n{wide}");
    for piece in all {
        assert!(wide.contains(piece), "{arguments:?}: no {piece:?} in\n{wide}");
    }
    narrow
}

fn within(columns: usize, text: &str, arguments: &[&str]) {
    assert!(text.lines().count() > 3, "{arguments:?}: {text}");
    for line in text.lines() {
        assert!(line.width() <= columns, "{arguments:?}: {} columns instead of {columns}: {line}", line.width());
    }
}

#[test]
fn a_trace_fits() {
    let arguments = ["trace", "--device", "cpu", "--shapes", "demo", "--samples", "1", "--steps", "1"];
    let columns = ["shapes", "MFLOP", "MB", "+ live", "− live", "live MB", "source", "x[", "src/ops/", "post_attention_layernorm"];
    let narrow = fits(&arguments, &columns);
    assert!(narrow.contains("% ceiling") && narrow.contains("ms") && !narrow.contains("− live  "), "{narrow}");
    assert!(narrow.contains("left out: shapes, MFLOP, MB, + live, − live, live MB; --wide shows all"), "{narrow}");
    // More room, more columns.
    let roomy = printed("110", &arguments);
    assert!(roomy.contains("MFLOP  ") && roomy.contains("left out: shapes"), "{roomy}");
}

#[test]
fn devices_fit() {
    let narrow = fits(&["devices"], &["`--device auto` takes ", "emulator", "memory checks"]);
    assert!(narrow.contains("cpu") && narrow.contains("emulator"), "{narrow}");
}

#[test]
fn an_emulated_kernel_fits() {
    let columns = ["shared", "instructions", "loads", "stores", "coalesced", "conflicts", "FLOPs", "tensor", "FLOPs/byte"];
    let narrow = fits(&["emulate", "rms_norm", "--stats"], &columns);
    assert!(narrow.contains("instructions") && narrow.contains("left out: "), "{narrow}");
    fits(&["emulate", "attention", "--list"], &["backward"]);
}

#[test]
fn a_trace_of_a_thread_goes_out_whole_where_nobody_looks() {
    let arguments = ["emulate", "rms_norm", "--trace", "0"];
    let narrow = fits(&arguments, &["ld.param.u64", "kernels/rms_norm.cu:"]);
    let instructions = |text: &str| text.lines().filter(|line| line.contains("// %")).count();
    let wide = printed("80", &[&arguments[..], &["--wide"]].concat());
    assert!(instructions(&wide) > 100 && !narrow.contains("left out on a terminal"), "{narrow}");
    assert!(wide.lines().any(|line| line.width() > 80));
}

#[test]
fn a_step_fits_with_foreign_names_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("a folder with a name that is far longer than any terminal would like it to be, and then some more").join("data");
    let (data, run) = (long.display().to_string(), folder.path().join("run").display().to_string());
    std::fs::create_dir_all(long.parent().unwrap()).unwrap();
    for arguments in
        [&["meadow", &data, "--samples", "16", "--seed", "5"][..], &["train", &data, "--out", &run, "--steps", "1", "--device", "cpu", "--set", "held_out=0"]]
    {
        assert!(program("80", arguments).status.success(), "{arguments:?}");
    }
    let table = std::fs::read_to_string(Path::new(&data).join("metadata.jsonl")).unwrap();
    let whole = table.lines().position(|line| line.contains("\"audio\"") && line.contains("\"file_name\"")).unwrap().to_string();
    let narrow = fits(
        &["step", &run, &data, "--device", "cpu", "--sample", &whole, "--values", "8"],
        &["the queries of layer 0 = ", "the gradient of model.layers.0.self_attn.q_proj.weight = ", "is to say", "gradient norm"],
    );
    // Broken, never silently shorter: the same words as in the wide one.
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    let wide = printed("80", &["step", &run, &data, "--device", "cpu", "--sample", &whole, "--values", "8", "--wide"]);
    assert_eq!(squeezed(&narrow), squeezed(&wide));
}
