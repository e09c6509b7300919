//! Validates every shader at build time and writes the embedded kernel table.
//!
//! What lies in `shaders/` is the whole registry: for each `*.wgsl` file, naga parses and validates it (an error stops
//! the build with file and line), and its entry points, workgroup sizes and bindings become a Rust table that
//! `src/device/wgpu/kernel.rs` includes. Nothing is registered by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shaders");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let mut files: Vec<PathBuf> = fs::read_dir(root.join("shaders"))
        .expect("the folder shaders/ is part of the crate")
        .map(|entry| entry.expect("shaders/ can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "wgsl"))
        .collect();
    files.sort();

    let mut table = String::from("&[\n");
    let mut failed = false;
    for path in &files {
        match shader_entry(path) {
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
    fs::write(out.join("shaders.rs"), table).expect("OUT_DIR can be written");
}

/// One `Shader { … }` expression of the table, or why the file is not valid WGSL.
fn shader_entry(path: &Path) -> Result<String, String> {
    let name = path.display().to_string();
    let source = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string_with_path(&source, &name))?;
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::SUBGROUP)
        .validate(&module)
        .map_err(|e| e.emit_to_string_with_path(&source, &name))?;

    let stem = path.file_stem().expect("a .wgsl file has a name").to_string_lossy();
    let mut text = format!("Shader {{ stem: {stem:?}, source: include_str!({name:?}), entries: &[\n");
    for (index, entry) in module.entry_points.iter().enumerate() {
        let [x, y, z] = entry.workgroup_size;
        let mut bindings = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            if info.get_entry_point(index)[handle].is_empty() {
                continue;
            }
            let Some(binding) = &variable.binding else { continue };
            if binding.group != 0 {
                return Err(format!("{name}: `{}` uses @group({}): our kernels use group 0 only", entry.name, binding.group));
            }
            let access = match variable.space {
                naga::AddressSpace::Uniform => "Uniform",
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => "ReadWrite",
                naga::AddressSpace::Storage { .. } => "Read",
                other => return Err(format!("{name}: `{}`: address space {other:?} is not used here", entry.name)),
            };
            bindings.push((binding.binding, variable.name.clone().unwrap_or_default(), access));
        }
        bindings.sort();
        for (expected, (found, binding, _)) in bindings.iter().enumerate() {
            if expected as u32 != *found {
                return Err(format!("{name}: `{}`: bindings must count up from 0 without a gap: expected {expected}, found {found} (`{binding}`)", entry.name));
            }
        }
        write!(text, "  Entry {{ name: {:?}, workgroup: [{x}, {y}, {z}], bindings: &[", entry.name).unwrap();
        for (_, binding, access) in bindings {
            write!(text, "Binding {{ name: {binding:?}, access: Access::{access} }}, ").unwrap();
        }
        text.push_str("] },\n");
    }
    text.push_str("] },\n");
    Ok(text)
}
