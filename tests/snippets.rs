//! The code that `trimodal vendor` prints is code: it compiles, its check lets every launch of the golden vectors pass and stops calls
//! that break the contract. JavaScript: `tests/web.rs`, in a browser.

#[path = "common/vectors.rs"]
mod vectors;

use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use trimodal::contract::catalog::{Entry, File};
use trimodal::device::Language;
use trimodal::vendor::snippet::{self, Call, Host};
use vectors::{Launched, dims, launches_by_entry};

/// Launches of an entry that are tried: the last have the odd shapes.
const TRIED: usize = 4;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// An entry with some of the launches that golden vectors make of it.
struct Called {
    file: &'static File,
    entry: &'static Entry,
    launches: Vec<Launched>,
}

/// A launch as the file with the launch takes it.
fn call((launch, bytes): &Launched) -> Call {
    Call {
        from: "golden/x.safetensors".into(),
        dims: dims(launch),
        constants: launch["constants"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.as_u64().unwrap() as u32)).collect(),
        operands: bytes.iter().map(|&bytes| (bytes > 0).then_some(bytes)).collect(),
        groups: launch["groups"].as_u64().unwrap(),
        block: launch["block"].as_u64().unwrap(),
        shared: launch["shared"].as_u64().unwrap(),
    }
}

/// The file with the launch of every entry that golden vectors launch.
fn programs(language: Language, host: Host) -> Vec<(String, &'static File, &'static Entry, String)> {
    let written = |one: Called| {
        one.launches
            .first()
            .map(|launch| (format!("{} {}", one.file.file, one.entry.name), one.file, one.entry, snippet::program(one.file, one.entry, host, &call(launch))))
    };
    called(language).into_iter().filter_map(written).collect()
}

/// Every entry of a language; those that only measure have no launches.
fn called(language: Language) -> Vec<Called> {
    let mut found = launches_by_entry(language);
    let wanted = if language == Language::Wgsl { "wgsl" } else { "cuda" };
    let files = trimodal::contract::shipped().files.iter().filter(|file| file.language == wanted);
    let entries = files.flat_map(|file| file.entries.iter().map(move |entry| (file, entry)));
    let called: Vec<Called> = entries
        .map(|(file, entry)| {
            let path = file.compiled.as_ref().map_or(&file.file, |c| &c.file);
            let mut launches = found.remove(&[path.clone(), entry.name.clone()]).unwrap_or_default();
            assert!(!launches.is_empty() || file.op == "ceiling", "{path} {}: no golden vector launches it", entry.name);
            launches.drain(..launches.len().saturating_sub(TRIED));
            Called { file, entry, launches }
        })
        .collect();
    assert!(found.is_empty() && called.len() > 50, "{:?}", found.keys());
    called
}

/// Constants that a launch overrides, in the text of a check that has them as the file says.
fn with_constants(code: &str, launch: &Value, line: impl Fn(&str) -> String, end: &str) -> String {
    let constants = launch["constants"].as_object().cloned().unwrap_or_default();
    constants.iter().fold(code.to_string(), |code, (name, value)| match code.split_once(&line(name)) {
        Some((before, after)) => format!("{before}{}{value}{}", line(name), &after[after.find(end).unwrap()..]),
        None => code,
    })
}

/// Without what comes from another crate: `rustc` compiles it alone.
fn alone(code: &str) -> String {
    let own = |line: &&str| !line.contains("unsafe impl");
    code.lines().filter(own).map(|line| format!("{}\n", line.replace(", bytemuck::Pod, bytemuck::Zeroable", ""))).collect()
}

/// A program of all of them.
fn rust_program(called: &[Called], host: Host) -> String {
    let mut source = String::from("#![allow(dead_code, unused_parens)]\n");
    let mut calls = String::new();
    for (number, one) in called.iter().enumerate() {
        let code = alone(&snippet::contract(one.file, one.entry, host));
        if one.launches.is_empty() {
            writeln!(source, "mod e{number} {{\n{code}}}").unwrap();
        }
        for (launch_number, (launch, bytes)) in one.launches.iter().enumerate() {
            let module = format!("e{number}_{launch_number}");
            let code = with_constants(&code, launch, |name| format!("let {name}: u64 = "), ";")
                .replace("fn check", "pub fn check")
                .replace("struct Dims", "pub struct Dims");
            writeln!(source, "mod {module} {{ // {} {}\n{}}}", one.file.file, one.entry.name, public_fields(&code)).unwrap();
            let values = dims(launch);
            let fields = one.file.dims.fields.iter().zip(values.chunks_exact(4)).map(|(field, bytes)| {
                let bits = u32::from_le_bytes(bytes.try_into().unwrap());
                format!("{}: {}", field.name, if field.kind == "f32" { format!("f32::from_bits({bits})") } else { bits.to_string() })
            });
            let dims = format!("{module}::Dims {{ {} }}", fields.collect::<Vec<_>>().join(", "));
            writeln!(calls, "    {module}::check(&{dims}, {bytes:?});").unwrap();
            if launch["groups"].as_u64() > Some(0) {
                let empty = vec![0; bytes.len()];
                writeln!(calls, "    refused(\"{} {}\", || {module}::check(&{dims}, {empty:?}));", one.file.file, one.entry.name).unwrap();
            }
        }
    }
    source
        + "fn refused(what: &str, call: impl FnOnce() + std::panic::UnwindSafe) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let outcome = std::panic::catch_unwind(call);
    std::panic::set_hook(hook);
    assert!(outcome.is_err(), \"{what}: buffers of no bytes went through\");
}
fn main() {
" + &calls
        + "    println!(\"all are right\");\n}\n"
}

/// `    rows: u32,` of a `Dims` can be named from outside.
fn public_fields(code: &str) -> String {
    let mut inside = false;
    code.lines()
        .map(|line| {
            inside = (inside || line.starts_with("pub struct Dims")) && line != "}";
            let field = inside && line.starts_with("    ");
            format!("{}{}\n", if field { "    pub " } else { "" }, if field { line.trim_start() } else { line })
        })
        .collect()
}

/// Compiled with warnings as errors, and run.
#[test]
fn in_rust_the_check_lets_good_launches_pass_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    for (language, host) in [(Language::Wgsl, Host::Wgpu), (Language::Ptx, Host::Cudarc)] {
        let (source, program) = (folder.path().join("all.rs"), folder.path().join("all"));
        fs::write(&source, rust_program(&called(language), host)).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output =
            Command::new(rustc).args(["--edition", "2024", "-D", "warnings", "-C", "debug-assertions=yes", "-o"]).args([&program, &source]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let output = Command::new(&program).output().unwrap();
        assert!(output.status.success() && said(&output).contains("all are right"), "{host:?}: {}", said(&output));
    }
}

/// The same in Python, where there is one. The launch itself is compiled; no driver is here to run it.
#[test]
fn in_python_the_check_lets_good_launches_pass_and_no_others() {
    let mut calls = String::new();
    for one in called(Language::Ptx) {
        let [contract, launch] = [snippet::contract, snippet::launch].map(|of| serde_json::to_string(&of(one.file, one.entry, Host::Python)).unwrap());
        let launches: Vec<Value> = one.launches.iter().map(|(launch, bytes)| serde_json::json!([launch["dims_hex"], bytes, launch["groups"]])).collect();
        writeln!(calls, "tried({:?}, {contract}, {launch}, {})", format!("{} {}", one.file.file, one.entry.name), Value::from(launches)).unwrap();
    }
    let source = format!(
        "
def tried(name, contract, launch, launches):
    compile(launch, name, 'exec')
    scope = dict()
    exec(contract, scope)
    for dims_hex, sizes, groups in launches:
        dims = scope['Dims'].from_buffer_copy(bytes.fromhex(dims_hex))
        scope['check'](dims, *sizes)
        if groups:
            refused(f'{{name}}: buffers of no bytes', scope['check'], dims, *[0] * len(sizes))

def refused(what, check, *given):
    try:
        check(*given)
    except AssertionError:
        return
    raise SystemExit(f'{{what}} went through')

{calls}
scope = dict()
exec({}, scope)
Dims, check = scope['Dims'], scope['check']
good = dict(pairs=3 * 2 * 16, heads=2, half=16, positions=9, sign=1.0, rows=3, head_dim=32)
check(Dims(**good), 384, 12, 1152, 384)
for changed, sizes in [(dict(half=15), (384, 12, 1152, 384)), (dict(pairs=95), (384, 12, 1152, 384)), ({{}}, (383, 12, 1152, 384)), (dict(head_dim=24, half=12, pairs=72), (384, 12, 1152, 384))]:
    refused(f'{{changed}} {{sizes}}', check, Dims(**{{**good, **changed}}), *sizes)
exec({}, scope)
Dims, check = scope['Dims'], scope['check']
row = dict(rows=2, columns=8, eps=1e-5, row_threads=4)
check(Dims(**row), 64, 0, 32, 0, 64, 8)
refused('a residual that is not there', check, Dims(**row, has_residual=1), 64, 0, 32, 64, 64, 8)
for threads in (0, 2, 6, 512):
    refused(f'{{threads}} threads', check, Dims(**{{**row, 'row_threads': threads}}), 64, 0, 32, 0, 64, 8)
print('all are right')
",
        code("kernels/rope.cu", "rotate_vec4_bf16"),
        code("kernels/rms_norm.cu", "forward"),
    );
    match Command::new("python3").args(["-c", "import sys; exec(sys.stdin.read())"]).stdin(text_file(&source)).output() {
        Ok(output) => assert!(output.status.success() && said(&output).contains("all are right"), "{}", said(&output)),
        Err(_) => println!("SKIPPED: no python3"),
    }
}

fn code(file: &str, entry: &str) -> String {
    let file = trimodal::contract::shipped().file(file).unwrap();
    serde_json::to_string(&snippet::contract(file, file.entry(entry).unwrap(), Host::Python)).unwrap()
}

/// Every `launch.py` is Python, and names nothing that is not there.
#[test]
fn every_launch_in_python_compiles() {
    let mut source = String::from("import ast, builtins\ndef tried(name, text):\n    tree = ast.parse(text, name)\n    compile(tree, name, 'exec')\n");
    source += "    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}\n";
    source += "    known = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)} | {a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)}\n";
    source += "    known |= {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))} | {a.asname or a.name for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}\n";
    source += "    missing = names - known - set(dir(builtins)) - {'__name__'}\n    assert not missing, f'{name}: {missing}'\n";
    let all = programs(Language::Ptx, Host::Python);
    assert!(all.len() > 50);
    for (name, _, _, text) in &all {
        writeln!(source, "tried({name:?}, {})", serde_json::to_string(text).unwrap()).unwrap();
    }
    source += "print('all are right')\n";
    match Command::new("python3").args(["-c", "import sys; exec(sys.stdin.read())"]).stdin(text_file(&source)).output() {
        Ok(output) => assert!(output.status.success() && said(&output).contains("all are right"), "{}", said(&output)),
        Err(_) => println!("SKIPPED: no python3"),
    }
}

/// Every `launch.cu` is C++, with the kernel as a plain function and a CUDA runtime that does nothing.
#[test]
fn every_launch_in_cuda_compiles() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("cuda_runtime.h"),
        "#pragma once\n#include <cstddef>\nstruct CUtensorMap {};\nusing cudaStream_t = int*;\nenum { cudaSuccess, cudaFuncAttributeMaxDynamicSharedMemorySize, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };\n\
         template <class F> void cudaFuncSetAttribute(F&&, int, int) {}\ninline int cudaMalloc(void**, std::size_t) { return 0; }\n\
         inline int cudaMemcpy(void*, const void*, std::size_t, int) { return 0; }\ninline int cudaDeviceSynchronize() { return 0; }\n",
    )
    .unwrap();
    let mut source = String::from(
        "#include <cuda_runtime.h>\n#include <algorithm>\n#include <cassert>\n#include <cstdint>\n#include <cstdio>\n#include <cstring>\n#include <vector>\n",
    );
    let all = programs(Language::Ptx, Host::Cuda);
    for (number, (name, file, entry, text)) in all.iter().enumerate() {
        let cuda = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file.file)).unwrap();
        let start = cuda.find("struct Dims {").unwrap();
        let declared = &cuda[start..start + cuda[start..].find("};").unwrap() + 2];
        // The includes stand once at the top; `kernel<<<groups, block, shared, stream>>>(…)` is not C++: the four become arguments.
        let text: String = text.lines().filter(|line| !line.starts_with("#include")).map(|line| format!("{line}\n")).collect();
        let text = text
            .replace("<<<", "(")
            .replace(">>>(", ", ")
            .replace("int main()", "int run()")
            .replace(&format!("::{}", entry.name), &format!("e{number}::{}", entry.name));
        writeln!(source, "namespace e{number} {{ // {name}\n{declared}\nconstexpr auto {} = [](auto...) {{}};\n{text}}}", entry.name).unwrap();
    }
    source += "int main() {\n";
    (0..all.len()).for_each(|number| writeln!(source, "    e{number}::run();").unwrap());
    source += "    std::puts(\"all are right\");\n}\n";
    let (path, program) = (folder.path().join("all.cpp"), folder.path().join("all"));
    fs::write(&path, source).unwrap();
    let compile = Command::new("c++")
        .args(["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-parameter", "-I"])
        .arg(folder.path())
        .arg("-o")
        .args([&program, &path])
        .output();
    match compile {
        Ok(output) => {
            assert!(output.status.success(), "{}", said(&output));
            // Its check holds for its own worked call, and nothing fails.
            let output = Command::new(&program).output().unwrap();
            let said = said(&output);
            assert!(output.status.success() && said.contains("all are right") && !said.contains("failed"), "{said}");
        }
        Err(_) => println!("SKIPPED: no c++"),
    }
}

/// A file that is its own stdin: the text is longer than a command line may be.
fn text_file(text: &str) -> fs::File {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

/// The same in C++, where there is a compiler: with the file's own `Dims`, and the kernel as a plain function.
#[test]
fn in_cpp_the_check_lets_good_launches_pass() {
    let mut source = String::from("#include <algorithm>\n#include <cassert>\n#include <cstdint>\n#include <cstdio>\n#include <cstring>\n");
    // What the CUDA runtime would bring.
    source += "static int stream;\nstruct CUtensorMap {};\nenum { cudaFuncAttributeMaxDynamicSharedMemorySize };\ntemplate <class F> void cudaFuncSetAttribute(F&&, int, int) {}\n";
    let mut calls = String::new();
    for (number, one) in called(Language::Ptx).iter().enumerate() {
        let cuda = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&one.file.file)).unwrap();
        let start = cuda.find("struct Dims {").unwrap();
        let declared = &cuda[start..start + cuda[start..].find("};").unwrap() + 2];
        let printed: String =
            snippet::launch(one.file, one.entry, Host::Cuda).lines().filter(|line| !line.starts_with("#include")).map(|l| format!("{l}\n")).collect();
        // `kernel<<<groups, block, shared, stream>>>(…)` is no C++: the four become arguments.
        let printed = printed.replace(&format!("::{}", one.entry.name), &format!("e{number}::{}", one.entry.name)).replace("<<<", "(").replace(">>>(", ", ");
        let (contract, launch) = printed.split_at(printed.find("\ncheck(").unwrap());
        let names: Vec<&str> = one.entry.buffers.iter().map(|b| b.name.as_str()).collect();
        let parameters: String = names.iter().map(|n| format!(", const void* {n}, std::uint64_t {n}_bytes")).collect();
        let mapped = one.entry.buffers.iter().filter(|b| b.tensor_map.is_some());
        let maps: String = mapped.map(|b| format!("const CUtensorMap {}_map{{}};\n", b.name)).collect();
        writeln!(
            source,
            "namespace e{number} {{ // {} {}\n{declared}\n{contract}\nconstexpr auto {} = [](auto...) {{}};\n\
             [[maybe_unused]] static void launch(const Dims& dims{parameters}, [[maybe_unused]] std::uint64_t multiprocessors) {{\n{maps}{launch}}}\n}}",
            one.file.file, one.entry.name, one.entry.name
        )
        .unwrap();
        for (launch, bytes) in &one.launches {
            let words: Vec<String> = dims(launch).chunks_exact(4).map(|b| format!("{}u", u32::from_le_bytes(b.try_into().unwrap()))).collect();
            let operands: String = bytes.iter().map(|bytes| format!(", nullptr, {bytes}u")).collect();
            writeln!(
                calls,
                "    {{ const std::uint32_t words[] = {{{}}}; e{number}::Dims dims; std::memcpy(&dims, words, sizeof dims); e{number}::launch(dims{operands}, 132); }}",
                words.join(", ")
            )
            .unwrap();
        }
    }
    source += &format!("int main() {{\n{calls}    std::puts(\"all are right\");\n}}\n");
    let folder = tempfile::tempdir().unwrap();
    let (path, program) = (folder.path().join("all.cpp"), folder.path().join("all"));
    fs::write(&path, source).unwrap();
    match Command::new("c++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-Wno-unused-parameter", "-o"])
        .args([&program, &path])
        .output()
    {
        Ok(output) => {
            assert!(output.status.success(), "{}", said(&output));
            let output = Command::new(&program).output().unwrap();
            assert!(output.status.success() && said(&output).contains("all are right"), "{}", said(&output));
        }
        Err(_) => println!("SKIPPED: no c++"),
    }
}

/// Every `launch.rs`, compiled against wgpu and cudarc: `scripts/test` runs it, because it is a cargo under cargo.
#[test]
#[ignore = "compiles wgpu and cudarc anew: scripts/test runs it"]
fn in_rust_every_launch_compiles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("launches");
    fs::create_dir_all(package.join("src")).unwrap();
    let manifest: String = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    // As this crate has them: what is compiled for it is found again.
    let line = |name: &str| manifest.lines().find(|l| l.starts_with(&format!("{name} = {{"))).unwrap().replace(", optional = true", "");
    fs::write(
        package.join("Cargo.toml"),
        format!(
            "[package]\nname = \"launches\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{}\n{}\n{}\n",
            line("wgpu"),
            line("cudarc").replace("\"driver\"", "\"driver\", \"nvrtc\""),
            line("pollster")
        ),
    )
    .unwrap();
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let mut source = String::from("#![allow(dead_code, unused_parens)]\n#![deny(warnings)]\n");
    let mut count = 0;
    for (language, host) in [(Language::Wgsl, Host::Wgpu), (Language::Ptx, Host::Cudarc)] {
        for (name, _, _, text) in programs(language, host) {
            // The check is compiled here, too: this is a release build.
            let text = text.replace("include_str!(\"", &format!("include_str!(\"{}/", root.display())).replace("#[cfg(debug_assertions)]", "");
            writeln!(source, "mod e{count} {{ // {name}\n{text}}}").unwrap();
            count += 1;
        }
    }
    fs::write(package.join("src/lib.rs"), source).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["check", "--release", "--offline", "--quiet", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", root.join("target"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    println!("{count} launches compile");
}
