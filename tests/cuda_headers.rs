//! The header of every CUDA file says what its PTX does: each one is compared with the `.entry` signatures, with the source's own
//! parameter names, and with what the code can store to.
//!
//! The launch checks of `src/device/ptx/` trust these headers, and so does whoever copies a file.

use std::collections::BTreeSet;
use trimodal::contract::{Access, Header};
use trimodal::device::ptx::{COMPILED, Module, module};
use trimodal::emulator::{Program, parse};

/// The names of the parameters of `extern "C" __global__ … name(…)`, where the source spells the entry out.
fn parameter_names(source: &str, entry: &str) -> Option<Vec<String>> {
    let mut rest = source;
    while let Some(at) = rest.find("extern \"C\"") {
        rest = &rest[at + 10..];
        let open = rest.find(&format!(" {entry}("))?;
        // `__launch_bounds__(256)` stands between; another entry must not.
        if rest[..open].contains("extern \"C\"") || rest[..open].contains('{') {
            continue;
        }
        let inside = &rest[open + entry.len() + 2..];
        let close = inside.find(')')?;
        let names = inside[..close].split(',').map(|p| p.trim().rsplit([' ', '*', '&']).next().unwrap_or_default().to_string());
        return Some(names.collect());
    }
    None
}

/// A `CUtensorMap` by value.
fn is_map(parameter: &parse::Param) -> bool {
    parameter.kind == parse::ParamKind::Bytes && (parameter.size, parameter.align) == (128, 64)
}

/// Everything that is wrong with one file, one line each.
fn check(source_file: &str, source: &str, contract: &Header, program: &Program) -> Vec<String> {
    let mut wrong: Vec<String> = contract.problems.iter().map(|problem| format!("{source_file}: {problem}")).collect();
    let mut seen = BTreeSet::new();
    for entry in &program.module().entries {
        let mut say = |line: usize, what: String| wrong.push(format!("{source_file}:{line}: `{}`: {what}", entry.name));
        let Some(documented) = contract.entry(&entry.name) else {
            say(1, "the header does not document it (a line `// name  block …, grid = …`)".into());
            continue;
        };
        seen.insert(documented.name.as_str());
        let threads: u32 = entry.max_threads.map_or(0, |t| t.iter().product());
        if documented.block.parse() != Ok(threads) && !documented.block.split(" or ").any(|b| b.trim().parse() == Ok(threads)) {
            say(documented.line, format!("block {}, but __launch_bounds__ says {threads}", documented.block));
        }
        if documented.grid.is_none() {
            say(documented.line, "says no `grid = …`".into());
        }
        if documented.dims.as_ref().is_none_or(|(number, _)| *number != documented.buffers.len()) {
            say(documented.line, "its last line must be `N  dims  by value`".into());
        }
        let Some((dims, operands)) = entry.params.split_last() else {
            say(documented.line, "takes nothing".into());
            continue;
        };
        let stray = operands.iter().find(|p| p.kind != parse::ParamKind::Pointer && !is_map(p));
        if let Some(stray) = stray {
            say(documented.line, format!("`{}` is neither a pointer nor a tensor map, but {} bytes", stray.name, stray.size));
        }
        if dims.size != 4 * contract.fields.len() {
            say(documented.line, format!("the last parameter has {} bytes, Dims {} fields of 4 bytes", dims.size, contract.fields.len()));
        }
        if documented.buffers.len() != operands.len() {
            say(documented.line, format!("documents {} buffers, but takes {}", documented.buffers.len(), operands.len()));
            continue;
        }
        let names = parameter_names(source, &entry.name);
        let values = contract.values(&vec![0; 4 * contract.fields.len()]);
        for (index, (buffer, access)) in documented.buffers.iter().zip(program.access(&entry.name).expect("an entry of the program")).enumerate() {
            let mut say = |what: String| wrong.push(format!("{source_file}:{}: `{}` buffer {}: {what}", buffer.line, entry.name, buffer.number));
            if buffer.number != index {
                say(format!("it is number {index}"));
            }
            if let Some(name) = names.as_ref().and_then(|n| n.get(index)).filter(|n| **n != buffer.name) {
                say(format!("documented as `{}`, but the parameter is `{name}`", buffer.name));
            }
            if let Err(unknown) = buffer.extent(&values) {
                say(format!("`{unknown}` is neither a field of Dims nor a name in a comment after one"));
            }
            for dtype in &buffer.dtypes {
                if !["f32", "bf16", "i32", "u32", "u8"].contains(&dtype.as_str()) {
                    say(format!("unknown dtype `{dtype}`"));
                }
            }
            if is_map(&operands[index]) {
                if !["read", "written"].iter().any(|word| buffer.words.starts_with(&format!("{word} through TMA"))) {
                    say(format!("a tensor map: expected `read through TMA` or `written through TMA`, found `{}`", buffer.words));
                }
                continue;
            }
            match buffer.access.map(Access::writes) {
                None => say(format!("expected read, overwritten, accumulated, updated, in place or scratch, found `{}`", buffer.words)),
                Some(false) if access.writes => say("`read`, but the code can store to it".into()),
                Some(true) if !access.writes => say(format!("`{}`, but no store goes there", buffer.words)),
                Some(_) => {}
            }
        }
    }
    for documented in contract.entries.iter().filter(|e| !seen.contains(e.name.as_str())) {
        wrong.push(format!("{source_file}:{}: documents an entry `{}` that is not there", documented.line, documented.name));
    }
    // In words: a float atomic makes the sum depend on the order of the threads.
    for (line, text) in program.module().text.lines().enumerate() {
        // As words: `st.shared.f32` has `red.f32` inside, too.
        if text.split_whitespace().any(|word| word.starts_with("atom.") || word.starts_with("red."))
            && (text.contains(".f32") || text.contains(".f16") || text.contains(".bf16") || text.contains(".f64"))
        {
            wrong.push(format!("{source_file}: line {} of the PTX is a float atomic", line + 1));
        }
    }
    wrong
}

#[test]
fn every_header_agrees_with_its_ptx() {
    assert!(!COMPILED.is_empty());
    let mut wrong = Vec::new();
    for compiled in COMPILED {
        let Module { contract, .. } = module(compiled);
        let program = Program::new(compiled.file, compiled.text()).unwrap_or_else(|e| panic!("{e}"));
        let folder = if compiled.architecture == "sm_90a" { "kernels/hopper" } else { "kernels" };
        wrong.extend(check(&format!("{folder}/{}.cu", compiled.stem), compiled.source, contract, &program));
    }
    assert!(wrong.is_empty(), "{} lines of headers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every operation has its CUDA file, and every shader its twin.
#[test]
fn every_shader_has_a_cuda_twin_with_its_entries() {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join("shaders")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "wgsl") {
            continue;
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let compiled = COMPILED.iter().find(|c| c.stem == stem && c.architecture == "sm_80").unwrap_or_else(|| panic!("no CUDA twin of shaders/{stem}.wgsl"));
        let source = std::fs::read_to_string(&path).unwrap();
        let wgsl: BTreeSet<&str> =
            source.lines().skip_while(|l| !l.starts_with("@compute")).filter_map(|l| l.strip_prefix("fn ").and_then(|l| l.split('(').next())).collect();
        let header = source.lines().take_while(|l| l.starts_with("//")).collect::<Vec<_>>().join("\n");
        // Each says where the other is.
        assert!(header.contains(&format!("\n// Twin: kernels/{stem}.cu.")), "shaders/{stem}.wgsl: its header has no line `// Twin: kernels/{stem}.cu.`");
        let cuda: Vec<&str> = compiled.source.lines().take_while(|l| l.starts_with("//")).collect();
        assert!(cuda.contains(&&*format!("// Twin: shaders/{stem}.wgsl.")), "kernels/{stem}.cu: its header has no line `// Twin: shaders/{stem}.wgsl.`");
        let contract = &module(compiled).contract;
        for name in wgsl.into_iter().filter(|n| header.contains(&format!("// {n} "))) {
            assert!(contract.entries.iter().any(|e| e.name == name), "shaders/{stem}.wgsl has an entry `{name}`, kernels/{stem}.cu documents none");
        }
    }
}
