//! The header of every shader says what the shader does: each one is compared with naga's reflection.
//!
//! Whoever copies a shader into an engine of their own has nothing but its header: which buffers an entry takes, in which
//! order, of which type, what it writes, how many threads a workgroup has. A header that has rotted is worse than none.

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Handle, Module, Scalar, ScalarKind, StorageAccess, TypeInner};
use std::fs;
use std::path::PathBuf;
use trimodal::contract::wgsl::{Binding, Space, entry_points, workgroup_size};
use trimodal::contract::{Access, Entry, Expression, Header};

/// WebGPU's default limits: what any adapter grants.
const MAX_STORAGE_BUFFERS: usize = 8;
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;
const MAX_INVOCATIONS: u32 = 256;

/// What `block` says, a number or `(TILE / 4)²`, with the constants as the file has them.
fn block(entry: &Entry, header: &Header) -> Result<u64, String> {
    let constant = |name: &str| header.consts.iter().find(|(found, _)| found == name)?.1.evaluate(&|_| None).ok();
    Expression::parse(&entry.block)?.evaluate(&constant)
}

/// Everything that is wrong with one shader, one line each.
fn check(file: &str, source: &str) -> Vec<String> {
    let module = match naga::front::wgsl::parse_str(source) {
        Ok(module) => module,
        Err(e) => return vec![format!("{file}:{}: {}", e.location(source).map_or(1, |place| place.line_number), e.message())],
    };
    let info = match Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP).validate(&module) {
        Ok(info) => info,
        Err(e) => return vec![format!("{file}:{}: {}", e.location(source).map_or(1, |place| place.line_number), e.as_inner())],
    };
    let header = Header::parse(source);
    let mut wrong: Vec<String> = header.problems.iter().map(|problem| format!("{file}: {problem}")).collect();
    for entry in &header.entries {
        if !module.entry_points.iter().any(|e| e.name == entry.name) {
            wrong.push(format!("{file}:{}: documents an entry `{}` that is not there", entry.line, entry.name));
        }
    }
    for (index, point) in module.entry_points.iter().enumerate() {
        match header.entries.iter().filter(|e| e.name == point.name).collect::<Vec<_>>().as_slice() {
            [entry] => check_entry(file, source, &header, &module, &info, index, entry, &mut wrong),
            [] => wrong.push(format!("{file}: the header does not document the entry `{}` (a line `// {}  block …, grid = …`)", point.name, point.name)),
            [_, second, ..] => wrong.push(format!("{file}:{}: `{}` is documented twice", second.line, point.name)),
        }
    }
    for (_, ty) in module.types.iter() {
        if let TypeInner::Atomic(Scalar { kind: ScalarKind::Float, .. }) = ty.inner {
            wrong.push(format!("{file}: a float atomic: its sum depends on the order of the threads"));
        }
    }
    if source.contains("atomicCompareExchangeWeak") && source.contains("bitcast<f32>") {
        wrong.push(format!("{file}: compare-and-exchange beside bitcast<f32> looks like a float atomic by hand"));
    }
    wrong
}

fn check_entry(file: &str, source: &str, header: &Header, module: &Module, info: &ModuleInfo, index: usize, entry: &Entry, wrong: &mut Vec<String>) {
    let point = &module.entry_points[index];
    let mut say = |line: usize, what: String| wrong.push(format!("{file}:{line}: `{}`: {what}", entry.name));

    let threads: u32 = point.workgroup_size.iter().product();
    if workgroup_size(source, &entry.name, &[]) != Some(threads as u64) {
        say(entry.line, format!("@workgroup_size is {:?}, but {:?} is read from the text", point.workgroup_size, workgroup_size(source, &entry.name, &[])));
    }
    match block(entry, header) {
        Ok(documented) if documented == threads as u64 => {}
        Ok(documented) => say(entry.line, format!("block {documented}, but @workgroup_size is {:?}", point.workgroup_size)),
        Err(what) => say(entry.line, format!("block `{}` is not a number, a constant or `(TILE / 4)²`: {what}", entry.block)),
    }
    if threads > MAX_INVOCATIONS {
        say(entry.line, format!("{threads} threads, more than the {MAX_INVOCATIONS} that every adapter grants"));
    }
    if entry.grid.is_none() {
        say(entry.line, "says no `grid = …`".into());
    }

    let used: Vec<(Handle<GlobalVariable>, &GlobalVariable)> =
        module.global_variables.iter().filter(|(handle, _)| !info.get_entry_point(index)[*handle].is_empty()).collect();
    let workgroup_bytes: u32 =
        used.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup).map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
    if workgroup_bytes > MAX_WORKGROUP_BYTES {
        say(entry.line, format!("{workgroup_bytes} bytes of workgroup memory, more than the {MAX_WORKGROUP_BYTES} that every adapter grants"));
    }

    let mut bound: Vec<&GlobalVariable> = used.iter().map(|(_, v)| *v).filter(|v| v.binding.is_some()).collect();
    bound.sort_by_key(|v| v.binding.as_ref().map(|b| b.binding));
    // What the build writes into the table of shaders is read from the text, without naga.
    let read = entry_points(source).map(|entries| entries.into_iter().find(|e| e.name == entry.name).map(|e| e.bindings));
    let reflected: Vec<Binding> = bound.iter().map(|v| Binding { name: v.name.clone().unwrap_or_default(), space: space(v) }).collect();
    if read.as_ref().is_ok_and(|read| read.as_ref() != Some(&reflected)) || read.is_err() {
        say(entry.line, format!("binds {reflected:?}, but {read:?} is read from the text"));
    }
    let storage = bound.iter().filter(|v| matches!(v.space, AddressSpace::Storage { .. })).count();
    if storage > MAX_STORAGE_BUFFERS {
        say(entry.line, format!("{storage} storage buffers, more than the {MAX_STORAGE_BUFFERS} that every adapter grants"));
    }
    if bound.last().is_none_or(|v| v.space != AddressSpace::Uniform) {
        say(entry.line, "the last binding must be the uniform `dims`".into());
    }
    let documented = entry.buffers.len() + entry.dims.iter().count();
    if documented != bound.len() {
        let names: Vec<_> = bound.iter().filter_map(|v| v.name.as_deref()).collect();
        say(entry.line, format!("documents {documented} bindings, but uses {}: {}", bound.len(), names.join(", ")));
        return;
    }
    let lines = entry.buffers.iter().map(|b| (b.line, b.number, b.name.as_str(), Some(b)));
    let dims = entry.dims.iter().map(|(number, name)| (entry.line, *number, name.as_str(), None));
    for ((line, documented_number, documented_name, buffer), variable) in lines.chain(dims).zip(bound) {
        let number = variable.binding.as_ref().map_or(usize::MAX, |b| b.binding as usize);
        let name = variable.name.as_deref().unwrap_or_default();
        let say = |what: String| format!("{file}:{line}: `{}` binding {documented_number}: {what}", entry.name);
        if documented_number != number {
            wrong.push(say(format!("`{name}` has number {number}")));
        }
        // Entries of one file that number their buffers alike need other names for them: `b_dy` is the backward's `dy`.
        let own = name.split_once('_').map_or(name, |(_, rest)| rest);
        if documented_name != name && documented_name != own {
            wrong.push(say(format!("documented as `{documented_name}`, but the variable is `{name}`")));
        }
        let writes = match variable.space {
            AddressSpace::Storage { access } => Some(access.contains(StorageAccess::STORE)),
            _ => None,
        };
        let (Some(writes), Some(documented)) = (writes, buffer) else {
            if writes.is_some() || buffer.is_some() {
                wrong.push(say(format!("`{name}` is {} uniform", if writes.is_none() { "a" } else { "no" })));
            }
            continue;
        };
        match documented.access.map(Access::writes) {
            None => wrong.push(say(format!("expected read, overwritten, accumulated, updated or in place, found `{}`", documented.words))),
            Some(says) if says != writes => {
                wrong.push(say(format!("`{}`, but the variable is {}", documented.words, if writes { "read_write" } else { "read" })));
            }
            Some(_) => {}
        }
        let kind = element(module, variable);
        let kinds: Vec<Option<ScalarKind>> = documented.dtypes.iter().map(|dtype| storage_kind(dtype)).collect();
        if kinds.contains(&None) {
            wrong.push(say(format!("unknown dtype `{}`", documented.dtypes.join("|"))));
        } else if !kinds.contains(&kind) {
            wrong.push(say(format!("documented as {}, but its elements are {kind:?}", documented.dtypes.join("|"))));
        }
    }
}

fn space(variable: &GlobalVariable) -> Space {
    match variable.space {
        AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Space::ReadWrite,
        AddressSpace::Storage { .. } => Space::Read,
        _ => Space::Uniform,
    }
}

/// How a dtype lies in a buffer: two bf16 or four u8 share a u32.
fn storage_kind(dtype: &str) -> Option<ScalarKind> {
    match dtype {
        "f32" => Some(ScalarKind::Float),
        "i32" => Some(ScalarKind::Sint),
        "u32" | "bf16" | "f16" | "u8" => Some(ScalarKind::Uint),
        _ => None,
    }
}

/// The scalar that a buffer's array is made of.
fn element(module: &Module, variable: &GlobalVariable) -> Option<ScalarKind> {
    let mut ty = variable.ty;
    loop {
        match module.types[ty].inner {
            TypeInner::Array { base, .. } => ty = base,
            TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } | TypeInner::Atomic(scalar) => return Some(scalar.kind),
            _ => return None,
        }
    }
}

fn shaders() -> Vec<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("shaders");
    let mut files: Vec<_> = fs::read_dir(folder).expect("shaders/").map(|e| e.expect("an entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "wgsl"));
    files.sort();
    files
}

#[test]
fn every_header_agrees_with_its_shader() {
    let files = shaders();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for path in &files {
        let name = format!("shaders/{}", path.file_name().expect("a file").to_string_lossy());
        wrong.extend(check(&name, &fs::read_to_string(path).expect("readable")));
    }
    assert!(wrong.is_empty(), "{} headers or shaders are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The test itself: what must be noticed is.
#[test]
fn seeded_lies_are_noticed() {
    let right = "\
// twice: y = 2 · x.
//
// forward   block 64, one element per thread, grid = ceil(n / 64)
//   0  x    [n]  f32  read
//   1  y    [n]  f32  overwritten
//   2  dims uniform
//
// Limits: n < 2³¹.
struct Dims { n: u32, a: u32, b: u32, c: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> f_y: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;
var<workgroup> lanes: array<f32, 64>;
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < dims.n { lanes[id.x % 64u] = x[id.x]; f_y[id.x] = 2.0 * lanes[id.x % 64u]; }
}
"
    .replace("2  dims uniform", "2  dims  uniform");
    assert_eq!(check("twice", &right), Vec::<String>::new());
    for (from, to, expected) in [
        ("block 64", "block 128", "block 128, but @workgroup_size is [64, 1, 1]"),
        ("block 64", "block many", "block `many` is not a number"),
        (", grid = ceil(n / 64)", "", "says no `grid = …`"),
        ("// forward ", "// backward ", "documents an entry `backward` that is not there"),
        ("//   1  y    [n]  f32  overwritten\n", "", "documents 2 bindings, but uses 3"),
        ("0  x    [n]", "0  z    [n]", "documented as `z`, but the variable is `x`"),
        ("f32  overwritten", "f32  read", "`read`, but the variable is read_write"),
        ("f32  read", "f32  accumulated", "`accumulated`, but the variable is read"),
        ("f32  read", "f32  looked at", "found `looked at`"),
        ("f32  read", "i32  read", "documented as i32, but its elements are Some(Float)"),
        ("f32  read", "f99  read", "unknown dtype `f99`"),
        ("[n]  f32  read", "f32  read", "expected a shape"),
        ("array<f32, 64>", "array<f32, 4097>", "16388 bytes of workgroup memory"),
        ("@workgroup_size(64)", "@workgroup_size(512)", "512 threads, more than the 256"),
    ] {
        assert!(right.contains(from), "{from}");
        let wrong = check("twice", &right.replacen(from, to, 1)).join("\n");
        assert!(wrong.contains(expected), "{from} → {to}: expected `{expected}`, found:\n{wrong}");
    }
}
