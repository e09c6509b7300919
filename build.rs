//! Writes the embedded kernel tables.
//!
//! What lies in `shaders/` and `kernels/ptx/` is the whole registry. The entry points and bindings of each `*.wgsl` file become a Rust
//! table that `src/device/shader.rs` includes. Each `*.ptx` file goes through the emulator's own parser and becomes a line of the table
//! that `src/device/ptx/mod.rs` includes, beside the CUDA C++ that it was compiled from. Nothing is registered by hand.
//!
//! naga does not validate the WGSL here, because it would be compiled a second time. It does so, with file and line, in
//! `tests/kernel_headers.rs` and where `src/device/wgpu` opens an adapter: before the first kernel runs.

use kernel_contract::wgsl;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shaders");
    println!("cargo::rerun-if-changed=kernels");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let shaders = table(&files(&root.join("shaders"), "wgsl"), shader_entry);
    fs::write(out.join("shaders.rs"), shaders).expect("OUT_DIR can be written");

    let mut compiled = Vec::new();
    for architecture in fs::read_dir(root.join("kernels/ptx")).expect("the folder kernels/ptx/ is part of the crate") {
        compiled.extend(files(&architecture.expect("kernels/ptx/ can be listed").path(), "ptx"));
    }
    compiled.sort();
    fs::write(out.join("ptx.rs"), table(&compiled, |path| ptx_entry(&root, path))).expect("OUT_DIR can be written");
}

/// The files of a folder with this suffix, sorted.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: part of the crate: {e}", folder.display()))
        .map(|entry| entry.expect("a folder of the crate can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == suffix))
        .collect();
    files.sort();
    files
}

/// A Rust slice with one expression per file; every file that is not valid stops the build.
fn table(files: &[PathBuf], entry: impl Fn(&Path) -> Result<String, String>) -> String {
    let mut table = String::from("&[\n");
    let mut failed = false;
    for path in files {
        match entry(path) {
            Ok(text) => table.push_str(&text),
            Err(message) => {
                failed = true;
                for line in message.lines() {
                    println!("cargo::error={line}");
                }
            }
        }
    }
    if failed {
        process::exit(1);
    }
    table.push(']');
    table
}

/// One `Compiled { … }` expression of the table, or why the file is not the PTX of one of our kernels.
fn ptx_entry(root: &Path, path: &Path) -> Result<String, String> {
    let file = path.strip_prefix(root).expect("it was found there").display().to_string();
    let text = fs::read_to_string(path).map_err(|e| format!("{file}: {e}"))?;
    ptx_emulator::parse::parse(&file, &text).map_err(|e| e.to_string())?;
    let stem = path.file_stem().expect("a .ptx file has a name").to_string_lossy();
    let architecture = path.parent().and_then(Path::file_name).expect("it lies in a folder").to_string_lossy().into_owned();
    // `sm_90a` kernels are the ones in kernels/hopper/.
    let folder = if architecture == "sm_90a" { "kernels/hopper" } else { "kernels" };
    let source = root.join(folder).join(format!("{stem}.cu"));
    if !source.exists() {
        return Err(format!("{file}: there is no {folder}/{stem}.cu that it could come from: run scripts/compile-kernels"));
    }
    let path = path.display().to_string();
    let source = source.display().to_string();
    Ok(format!(
        "Compiled {{ stem: {stem:?}, architecture: {architecture:?}, file: {file:?}, source: include_str!({source:?}), text: {{\n  \
         #[inline(never)]\n  fn text() -> &'static str {{\n    include_str!({path:?})\n  }}\n  text\n}} }},\n"
    ))
}

/// One `Shader { … }` expression of the table, or why the file is not a shader of ours.
fn shader_entry(path: &Path) -> Result<String, String> {
    let name = path.display().to_string();
    let source = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    let entries = wgsl::entry_points(&source).map_err(|e| format!("{name}: {e}"))?;
    let stem = path.file_stem().expect("a .wgsl file has a name").to_string_lossy();
    let mut text = format!("Shader {{ stem: {stem:?}, source: include_str!({name:?}), entries: &[\n");
    for entry in entries {
        write!(text, "  Entry {{ name: {:?}, bindings: &[", entry.name).unwrap();
        for wgsl::Binding { name, space } in entry.bindings {
            write!(text, "Binding {{ name: {name:?}, access: Access::{space:?} }}, ").unwrap();
        }
        text.push_str("] },\n");
    }
    text.push_str("] },\n");
    Ok(text)
}
