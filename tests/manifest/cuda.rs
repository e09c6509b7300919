//! CUDA files: what their PTX says, beside the header.

use crate::{entry, files, read, sha256};
use std::collections::BTreeMap;
use trimodal::contract::Header;
use trimodal::contract::catalog::{self, Compiled, File, Included, Requires};
use trimodal::emulator::parse::{self, Space};

pub fn record(path: &str) -> File {
    let source = read(path);
    let header = Header::parse(&source);
    let mut record = crate::record(path, &header);
    let hopper = path.starts_with("kernels/hopper/");
    let folder = if hopper { "kernels/ptx/sm_90a" } else { "kernels/ptx/sm_80" };
    let compiled = format!("{folder}/{}.ptx", record.op);
    let module = parse::parse(&compiled, &read(&compiled)).unwrap_or_else(|e| panic!("{e}"));
    let resources = resources(folder, &record.op);
    record.entries = module.entries.iter().map(|compiled| compiled_entry(path, &source, &header, &module, compiled, &resources)).collect();
    // In the order of the header, not of the compiler.
    record.entries.sort_by_key(|e| (header.entry(&e.name).map(|d| d.line), e.name.len(), e.name.clone()));
    record.compiled = Some(Compiled { sha256: sha256(&compiled), file: compiled, target: module.target.clone(), isa: module.version.clone() });
    let includes = source.lines().filter_map(|l| l.strip_prefix("#include \"")).map(|l| format!("kernels/hopper/{}", l.trim_end_matches('"')));
    record.includes = includes.map(|file| Included { sha256: sha256(&file), file }).collect();
    // PTX ISA 8.4 is CUDA 12.4's: "PTX ISA", release notes.
    assert_eq!(module.version, "8.4", "{path}: which driver knows this?");
    let compute_capability = if hopper { "9.0" } else { "8.0 and later" };
    record.requires = Requires::Cuda { compute_capability: compute_capability.into(), driver: "CUDA 12.4 (R550)".into() };
    record
}

fn compiled_entry(
    path: &str,
    source: &str,
    header: &Header,
    module: &parse::Module,
    compiled: &parse::Entry,
    resources: &BTreeMap<String, [u32; 2]>,
) -> catalog::Entry {
    let name = &compiled.name;
    let documented = header.entry(name).unwrap_or_else(|| panic!("{path} does not document {name}"));
    let suffix = &name[documented.name.len()..];
    let mut entry = entry(path, header, documented, suffix);
    entry.block = compiled.max_threads.map_or(0, |t| t.iter().product::<u32>()).to_string();
    let [registers, shared] = *resources.get(name).unwrap_or_else(|| panic!("{path}: resources.md does not know {name}"));
    // What the module declares is of those entries that use it: ptxas knows which.
    let declared = compiled.shared_bytes(module) as u32;
    let of_module = module.variables.iter().any(|v| v.space == Space::Shared);
    assert!(if of_module { shared <= declared } else { shared == declared }, "{path}: {name}: {shared} bytes of shared memory, {declared} declared");
    entry.registers = Some(registers);
    entry.shared = shared.to_string();
    // `_d64`: compiled for heads of at most so many.
    let most = suffix.split('_').find_map(|part| part.strip_prefix('d')?.parse::<u32>().ok());
    entry.checks.extend(most.map(|most| format!("head_dim <= {most}")));
    entry.cluster = compiled.cluster.map(|c| c.iter().product());
    entry.dynamic_shared = dynamic_shared(&documented.about, suffix);
    // The source's own types are what the header must say.
    if let Some(types) = parameter_types(source, name) {
        for (buffer, ty) in entry.buffers.iter().zip(&types) {
            // `int2` is two of them.
            let expected: &[&str] = match ty.trim_end_matches(['2', '4']) {
                "float" => &["f32"],
                "bf16" | "__nv_bfloat16" => &["bf16"],
                "int" => &["i32"],
                "unsigned" => &["u32"],
                // As they lie: 16 bytes of whatever; bytes or floats, by a field of the dims; tensor maps of either.
                "uint" | "void" | "unsigned char" | "CUtensorMap" | "TensorMap" => continue,
                other => panic!("{path}: {name}: {}: the type {other} is not known here", buffer.name),
            };
            assert!(expected.contains(&buffer.dtype.as_str()), "{path}: {name}: {} is documented as {}, but is {ty}", buffer.name, buffer.dtype);
        }
    }
    entry
}

/// `dynamic shared memory d64 82,048, d128 163,968 bytes`: of the variant that a suffix names.
fn dynamic_shared(about: &str, suffix: &str) -> u32 {
    let Some((_, text)) = about.split_once("dynamic shared memory ") else { return 0 };
    let (text, _) = text.split_once(" bytes").expect("so many bytes");
    let words: Vec<&str> = text.split(' ').collect();
    let number = |word: &str| word.replace(',', "").parse::<u32>().unwrap_or_else(|e| panic!("{about}: {e}"));
    match words.as_slice() {
        [bytes] => number(bytes),
        pairs => {
            let found = pairs.chunks(2).find(|pair| suffix.split('_').any(|part| part == pair[0]));
            number(found.unwrap_or_else(|| panic!("{about}: nothing for {suffix}"))[1])
        }
    }
}

/// The element types of an entry's pointers, where the source spells it out.
fn parameter_types(source: &str, entry: &str) -> Option<Vec<String>> {
    let at = source.match_indices("extern \"C\"").map(|(at, _)| at).find(|at| {
        let rest = &source[*at..];
        rest.find(&format!(" {entry}(")).is_some_and(|open| !rest[..open].contains('{') && !rest[10..open].contains("extern"))
    })?;
    let rest = &source[at..];
    let open = rest.find(&format!(" {entry}("))? + entry.len() + 2;
    let inside = &rest[open..open + rest[open..].find(')')?];
    let ty = |parameter: &str| {
        let words = parameter.replace(['*', '&'], " ");
        let words: Vec<&str> = words.split_whitespace().filter(|w| !["const", "__restrict__", "__grid_constant__"].contains(w)).collect();
        words[..words.len() - 1].join(" ")
    };
    Some(inside.split(',').map(ty).collect())
}

/// Registers per entry on the target itself, the first of `resources.md`'s numbers, and static shared memory, the last.
fn resources(folder: &str, op: &str) -> BTreeMap<String, [u32; 2]> {
    assert!(files(folder, ".md").contains(&format!("{folder}/resources.md")));
    let rows = read(&format!("{folder}/resources.md"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, file, entry, registers, shared, ..] = cells.as_slice() else { return None };
        let number = |text: &str| text.replace(',', "").parse::<u32>().ok();
        (*file == format!("{op}.cu")).then_some((entry.trim_matches('`').to_string(), [number(registers.split(' ').next()?)?, number(shared)?]))
    };
    rows.lines().filter_map(row).collect()
}
