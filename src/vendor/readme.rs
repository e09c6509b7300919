//! `README.md` of a copy: what it computes, which files are there, how a kernel is launched, with the numbers of one call, and how it is tested.

use super::snippet::{self, Call, Host};
use super::{Language, Request};
use crate::contract::catalog::{Catalog, Entry, Field, File, Source};
use crate::contract::evaluate;
use std::fmt::Write;

/// The text. `files` are all others of the folder.
pub(super) fn text(request: &Request, part: &Catalog, (file, entry): (&File, &Entry), call: &Call, files: &[String]) -> String {
    let mut text = format!("# {}, from trimodal {}\n", request.op, part.trimodal);
    for file in &part.files {
        let backward = if file.backward.is_empty() { String::new() } else { format!("\n\nBackward. {}", file.backward) };
        let _ = write!(text, "\n`{}`, version {}:\n\n```text\n{}{backward}\n```\n", file.file, file.version, file.formula.trim());
    }
    text += "\nNothing else of trimodal is needed to use these files. Keep `NOTICE` and one of the licences with copies of them.\n";
    text += &contents(files);
    text += &launch(request, file, entry);
    text += &worked(request, file, entry, call);
    text += &dims(file, entry, call);
    text += &entries(part, entry);
    for file in &part.files {
        let _ = write!(text, "\n## Limits of {}\n\n{}\n\n{}\n", file.file, file.limits, file.precision.text);
    }
    text + &self_test(request)
}

fn contents(files: &[String]) -> String {
    let about = |path: &str| match path {
        "launch.rs" | "launch.js" | "launch.py" | "launch.cu" => "one launch, to copy from: it compiles and runs as it is",
        "launch.html" => "shows what `launch.js` computes",
        "kernels.json" => "for programs: every entry with its operands, scalars, grid and limits",
        "NOTICE" => "where this is from",
        "LICENSE-MIT" | "LICENSE-APACHE" => "the licences, of which you choose one",
        path if path.starts_with("shaders/") => "the kernels in WGSL; the comment at the top says how each is called",
        path if path.ends_with(".cuh") => "what the kernels for compute capability 9.0 include",
        path if path.starts_with("kernels/ptx/") => "the same compiled: the driver loads it, no CUDA toolkit is needed",
        path if path.starts_with("kernels/") => "the kernels in CUDA C++; the comment at the top says how each is called",
        _ => "",
    };
    let mut text = String::from("\n## What is here\n\n| file | what it is |\n|---|---|\n");
    for path in files.iter().filter(|path| !about(path).is_empty()) {
        let _ = writeln!(text, "| `{path}` | {} |", about(path));
    }
    text + "| `golden/` | inputs and expected outputs of calls, for the self-test; `golden/README.txt` says how they are stored |\n\
            | `self_test/` | replays them, without trimodal |\n\
            | `SHA256SUMS` | the hashes of all these files: `sha256sum --check SHA256SUMS` |\n"
}

/// How the file with the launch is run.
pub(super) fn run(host: Host) -> &'static str {
    match host {
        Host::Wgpu => "cargo run --manifest-path self_test/wgpu/Cargo.toml --bin launch",
        Host::Cudarc => "cargo run --manifest-path self_test/cudarc/Cargo.toml --bin launch",
        Host::WebGpu => "python3 -m http.server --bind 127.0.0.1     # then open http://127.0.0.1:8000/launch.html",
        Host::Python => "pip install cuda-python && python3 launch.py",
        Host::Cuda => "nvcc -std=c++17 -arch=sm_80 launch.cu -o launch && ./launch",
    }
}

fn launch(request: &Request, file: &File, entry: &Entry) -> String {
    let name = snippet::name(request.host);
    let others = if file.entries.len() > 1 {
        format!(
            "\n`trimodal vendor {} --lang {} --host {} --entry NAME --force --to .` writes another entry's.",
            request.op,
            request.language.name(),
            request.host.name()
        )
    } else {
        String::new()
    };
    format!(
        "\n## How to launch it\n\n`{name}` launches the entry `{}`: its `Dims`, a check of the contract for debug builds, the launch as a function, and a\n\
         `main` that calls it once, with simple numbers, and prints what comes out.{others}\n\n```sh\n{}\n```\n",
        entry.name,
        run(request.host)
    )
}

/// Names of an expression in this call.
fn known<'a>(file: &'a File, entry: &Entry, call: &'a Call) -> impl Fn(&str) -> Option<u64> + 'a {
    let element_bytes = if entry.name.ends_with("_bf16") { 2 } else { 4 };
    move |name: &str| if name == "element_bytes" { Some(element_bytes) } else { call.value(file, name) }
}

fn worked(request: &Request, file: &File, entry: &Entry, call: &Call) -> String {
    let of = known(file, entry, call);
    let mut text = format!(
        "\n## A worked call\n\nThe call that `{}` makes, with the sizes of `{}`. The operands, in the order of {}:\n\n\
         | | operand | shape | here | bytes | |\n|---|---|---|---|---|---|\n",
        snippet::name(request.host),
        call.from,
        if file.language == "wgsl" { "bindings (group 0)" } else { "arguments" }
    );
    for (number, (buffer, bytes)) in entry.buffers.iter().zip(&call.operands).enumerate() {
        let (shape, dtype) = (buffer.shape_in(&of), buffer.dtype_in(&of));
        let here: Vec<String> = shape.iter().map(|size| evaluate(size, &of).map_or_else(|_| "?".into(), |n| n.to_string())).collect();
        let condition = buffer.only_if.as_ref().map(|c| format!(", only if {c}")).unwrap_or_default();
        let (here, bytes) = match bytes {
            Some(bytes) => (format!("{} {dtype}", here.join(" × ")), bytes.to_string()),
            None => ("not there".into(), if file.language == "wgsl" { "16, any".into() } else { "a null pointer".into() }),
        };
        let _ = writeln!(text, "| {number} | `{}` | {} | {here} | {bytes} | {}{condition} |", buffer.name, shape.join(" × "), buffer.access);
    }
    let last = entry.buffers.len();
    let _ = writeln!(text, "| {last} | `dims` | | | {} | {}, see below |", file.dims.bytes, file.dims.passed);
    let unit = if file.language == "wgsl" { ("workgroups", "workgroup memory") } else { ("blocks", "shared memory") };
    let shared = evaluate(&entry.shared, &of).map_or_else(|_| entry.shared.clone(), |n| n.to_string());
    let _ = write!(
        text,
        "\n- grid: `{}` = **{}** {}{}\n- block: `{}` = **{}** threads\n- {}: {shared} bytes, which the kernel declares{}\n",
        entry.grid,
        call.groups,
        unit.0,
        if file.language == "wgsl" { ", as (min(n, 65535), ceil_div(n, x), 1): those beyond the last return at once" } else { ", all in x" },
        entry.block,
        call.block,
        unit.1,
        if call.shared > 0 { format!(", and {} bytes of dynamic shared memory to ask for in the launch", call.shared) } else { String::new() }
    );
    if !call.constants.is_empty() {
        text += "- `const` lines of the shader, replaced in its text before it is compiled:";
        for (name, value) in &call.constants {
            let constant = file.constants.iter().find(|c| c.name == *name);
            let legal = constant.map_or_else(String::new, |c| match (&c.equals, c.range) {
                (Some(field), _) => format!(" (equal to `{field}`)"),
                (None, Some([first, last])) => format!(" ({first} to {last})"),
                _ => format!(" (one of {})", c.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            });
            let _ = write!(text, " `{name}` = {value}{legal};");
        }
        text = text.trim_end_matches(';').to_string() + "\n";
    }
    text
}

fn dims(file: &File, entry: &Entry, call: &Call) -> String {
    let mut text = format!(
        "\n## Dims\n\nOne struct of {} bytes, passed {}; every field has 4 bytes. Expressions round down where they divide; `ceil_div` rounds up, and `power_of_two(a)` is\n\
         the least power of two from a on. `x[0]` is the first size of the operand x; `element_bytes` is 4, or 2 for an entry that ends in `_bf16`.\n\n\
         | field | type | in this call | where it comes from |\n|---|---|---|---|\n",
        file.dims.bytes,
        if file.dims.passed == "uniform" { "as a uniform buffer, the binding after the last operand" } else { "by value, the last argument" }
    );
    for field in &file.dims.fields {
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", field.name, field.kind, snippet::value(field, call), origin(field, entry));
    }
    text
}

/// Where a field's value comes from, in a cell of a table.
fn origin(field: &Field, entry: &Entry) -> String {
    let value = field.value.as_deref().map(|value| format!("`{value}`")).unwrap_or_default();
    let about = if field.about.is_empty() { String::new() } else { format!(" ({})", field.about) };
    let elsewhere = field.elsewhere.as_ref().map(|e| format!("; elsewhere ({}): `{}`", e.place, e.value)).unwrap_or_default();
    let text = match field.from {
        Source::Size => match snippet::size(field, entry) {
            Some(own) if field.value.as_ref() == Some(&own) => format!("a size: {value}{about}{elsewhere}"),
            Some(own) => format!("a size: `{own}`{about}"),
            None => format!("a size: {value}{about}, which this entry does not have"),
        },
        Source::Formula => format!("a formula: {value}{about}{elsewhere}"),
        Source::Choice => format!("free: {}. trimodal takes {value}{elsewhere}", field.range),
        Source::Option => format!("what you want: {}", field.range),
        Source::Padding => "padding, not read".into(),
    };
    text.replace('|', "\\|")
}

fn entries(part: &Catalog, chosen: &Entry) -> String {
    let mut text = String::from("\n## All entries\n\n| file | entry | what it computes | grid | block |\n|---|---|---|---|---|\n");
    for (file, entry) in part.files.iter().flat_map(|file| file.entries.iter().map(move |entry| (file, entry))) {
        let name = if entry.name == chosen.name { format!("**`{}`**", entry.name) } else { format!("`{}`", entry.name) };
        let _ = writeln!(text, "| `{}` | {name} | {} | `{}` | `{}` |", file.file, entry.what.replace('|', "\\|"), entry.grid, entry.block);
    }
    text
}

fn self_test(request: &Request) -> String {
    let commands = match request.language {
        Language::Wgsl => {
            "```sh\ncargo run --manifest-path self_test/wgpu/Cargo.toml -- .     # in Rust, with plain wgpu\npython3 -m http.server --bind 127.0.0.1                     # in a browser: http://127.0.0.1:8000/self_test/web/\n```\n"
        }
        Language::Cuda | Language::Ptx => {
            "```sh\npython3 self_test/replay.py .                                  # in Python, with the driver alone\ncargo run --manifest-path self_test/cudarc/Cargo.toml -- .     # in Rust, with plain cudarc\n```\n"
        }
    };
    format!(
        "\n## Test the copy\n\nIn this folder:\n\n{commands}\n\
         Every golden vector is replayed and every element compared, a NaN is wrong; a launch that breaks the contract in `kernels.json` is refused before.\n\
         The last line says how many are right. Exit code 0: all; 1: one is not; 77: there is no GPU, nothing was run. After a change of yours to a kernel,\n\
         run it again: a faster kernel is right as long as it passes.\n\n\
         `trimodal vendor --verify .` lists the files that were changed, are missing or were added, and says where a newer trimodal has another text.\n"
    )
}
