//! `kernels.json` says what headers, naga and PTX say; every expression in it can be worked out; its schema describes it.
//!
//! `TRIMODAL_WRITE_MANIFEST=1`, as `scripts/manifest` sets it, writes it instead of comparing.

#[path = "manifest/cuda.rs"]
mod cuda;
#[path = "manifest/pretty.rs"]
mod pretty;
#[path = "manifest/readme.rs"]
mod readme;
#[path = "manifest/schema.rs"]
mod schema;
#[path = "manifest/wgsl.rs"]
mod wgsl;

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{fs, sync::OnceLock};
use trimodal::contract::catalog::{self, Alternative, Catalog, Constant, Dims, Field, File, Precision, Source};
use trimodal::contract::{Access, Buffer, Check, Condition, Entry, Expression, Header, Values, When, elements_below, evaluate, rows_of_16_bytes};
use trimodal::ops::{self, DimsField, OPS, Origin};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn sha256(path: &str) -> String {
    Sha256::digest(fs::read(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of a folder with this suffix, sorted.
fn files(folder: &str, suffix: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|n| n.ends_with(suffix));
    let mut files: Vec<String> = names.map(|n| format!("{folder}/{n}")).collect();
    files.sort();
    files
}

/// The version of every kernel file, from the table of `CHANGELOG.md`.
fn versions() -> &'static BTreeMap<String, String> {
    static VERSIONS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        let text = read("CHANGELOG.md");
        let rows = text.lines().filter_map(|l| {
            let mut cells = l.strip_prefix("| `")?.split('|').map(|c| c.trim().trim_matches('`').to_string());
            Some((cells.next()?, cells.next()?))
        });
        rows.filter(|(file, _)| file.contains(".wgsl") || file.contains(".cu")).collect()
    })
}

// ── what the headers say ─────────────────────────────────────────────────────────────────────────────────────────────

/// What is common to both languages: everything but the entries.
fn record(path: &str, header: &Header) -> File {
    assert_eq!(header.problems, Vec::<String>::new(), "{path}");
    let language = if path.ends_with(".wgsl") { "wgsl" } else { "cuda" };
    for (what, text) in [("formula", &header.formula), ("Limits:", &header.limits), ("Precision:", &header.precision)] {
        assert!(!text.is_empty(), "{path}: the header has no {what}");
    }
    let field = |(i, f): (usize, &trimodal::contract::Field)| {
        let (name, kind, about) = (f.name.clone(), f.kind.into(), f.about.clone());
        // Where it comes from: see `origins`.
        Field { name, kind, offset: 4 * i as u32, about, from: Source::Option, value: None, elsewhere: None, range: String::new() }
    };
    let fields = header.fields.iter().enumerate().map(field);
    // The letters by which shapes call them, without those of one entry alone.
    let letters = header.fields.iter().filter_map(|f| Some((f.alias.clone()?, f.name.clone()))).filter(|(letter, name)| letter != name);
    let nowhere = Entry::default();
    let defined = header.names.iter().map(|d| {
        let expression = Expression::Name(d.name.clone());
        (d.name.clone(), header.resolved(&expression, &nowhere, "").unwrap_or_else(|e| panic!("{path}: {}: `{e}` is not known", d.name)).to_string())
    });
    let constants = header.constants.iter().map(|c| {
        let default = header.consts.iter().find(|(name, _)| *name == c.name).unwrap_or_else(|| panic!("{path}: no line `const {}: u32 = …;`", c.name));
        let default = default.1.evaluate(&|_| None).unwrap_or_else(|e| panic!("{path}: {}: {e}", c.name)) as u32;
        assert!(c.values.contain(default), "{path}: {} = {default} is not among its values", c.name);
        if let Some(field) = &c.equals {
            assert!(header.fields.iter().any(|f| f.name == *field), "{path}: Constants: no field `{field}`");
        }
        let (values, range) = match &c.values {
            Values::List(values) => (values.clone(), None),
            Values::Range(first, last) => (Vec::new(), Some([*first, *last])),
        };
        Constant {
            name: c.name.clone(),
            default,
            values,
            range,
            equals: c.equals.clone(),
            multiple_of: c.multiple_of.as_ref().map(|e| inlined(header, e).to_string()),
        }
    });
    File {
        file: path.into(),
        op: path.rsplit('/').next().unwrap().split('.').next().unwrap().into(),
        language: language.into(),
        version: versions().get(path).unwrap_or_else(|| panic!("CHANGELOG.md: no version of {path}")).clone(),
        sha256: sha256(path),
        compiled: None,
        includes: Vec::new(),
        formula: header.formula.clone(),
        backward: header.backward.clone(),
        limits: header.limits.clone(),
        checks: checks(header, &header.checks, &nowhere, ""),
        elements_below: elements_below(&header.limits),
        // Nothing sums in another type, and tests/kernel_headers.rs and tests/cuda_headers.rs refuse float atomics.
        precision: Precision { accumulation: "f32".into(), deterministic: true, text: header.precision.clone() },
        requires: catalog::Requires::Cuda { compute_capability: String::new(), driver: String::new() },
        names: letters.chain(defined).collect(),
        dims: Dims { passed: if language == "wgsl" { "uniform" } else { "by value" }.into(), bytes: 4 * header.fields.len() as u32, fields: fields.collect() },
        constants: constants.collect(),
        constants_rule: header.constants_rule.clone(),
        entries: Vec::new(),
    }
}

/// An entry, or one compiled variant of it, as its header says; block and shared memory come from what was compiled.
fn entry(path: &str, header: &Header, documented: &Entry, suffix: &str) -> catalog::Entry {
    let name = format!("{}{suffix}", documented.name);
    let resolved = |e: &Expression| {
        let e = header
            .resolved(e, documented, suffix)
            .unwrap_or_else(|e| panic!("{path}:{}: `{name}`: `{e}` is not a field, a constant or a definition", documented.line));
        inlined(header, &e).to_string()
    };
    let grid = documented.grid.as_ref().unwrap_or_else(|| panic!("{path}:{}: `{name}` says no grid", documented.line));
    assert!(!documented.what.is_empty(), "{path}:{}: `{name}`: expected `grid = …: what it computes`", documented.line);
    let buffers = documented.buffers.iter().map(|buffer| {
        let (dtype, shape) = buffer.in_variant(suffix);
        let shape = shape.iter().map(resolved).collect();
        let access = buffer.access.unwrap_or_else(|| panic!("{path}:{}: `{}`", buffer.line, buffer.words));
        catalog::Buffer {
            name: buffer.name.clone(),
            shape,
            dtype: dtype.into(),
            access: access.name().into(),
            from: buffer.from.as_ref().map(resolved),
            alternatives: alternatives(path, header, buffer, &resolved),
            only_if: buffer.only_if.as_deref().map(|c| condition(path, header, buffer, c).settled("bf16", dtype == "bf16").to_string()),
            // A tensor map can only add in f32.
            accumulate_if: buffer
                .accumulate_if
                .as_deref()
                .filter(|c| !c.ends_with(" and not bf16") || dtype != "bf16")
                .map(|c| condition(path, header, buffer, c.trim_end_matches(" and not bf16")).to_string()),
            tensor_map: buffer.tensor_map.clone(),
            partial: buffer.partial,
            note: buffer.note.clone(),
        }
    });
    let buffers: Vec<catalog::Buffer> = buffers.collect();
    let mut checks = checks(header, &documented.checks, documented, suffix);
    if rows_of_16_bytes(&header.limits) {
        let mut rows: BTreeMap<&String, u32> = BTreeMap::new();
        for matrix in buffers.iter().filter(|b| b.shape.len() > 1) {
            let of = if matrix.dtype == "bf16" { 8 } else { 4 };
            let most = rows.entry(matrix.shape.last().expect("two sides")).or_default();
            *most = of.max(*most);
        }
        checks.extend(rows.into_iter().map(|(row, of)| format!("{row} % {of} == 0")));
    }
    catalog::Entry {
        what: documented.what.clone(),
        about: documented.about.clone(),
        checks,
        block: String::new(),
        grid: resolved(grid),
        grid_note: documented.grid_note.clone(),
        shared: String::new(),
        dynamic_shared: 0,
        cluster: None,
        registers: None,
        buffers,
        name,
    }
}

/// When an operand is there, or added to: in fields of `Dims`, and `bf16`, which a variant is or is not. Or a number in a buffer, which
/// has a `struct` of its own.
fn condition(path: &str, header: &Header, buffer: &Buffer, text: &str) -> Condition {
    let condition = Condition::parse(text).unwrap_or_else(|e| panic!("{path}:{}: {e}", buffer.line));
    for name in condition.names().into_iter().filter(|name| *name != "bf16") {
        let in_buffer = [format!(" {name}: f32,"), format!(" float {name};")].iter().any(|field| read(path).contains(field));
        assert!(header.fields.iter().any(|f| f.name == name) || in_buffer, "{path}:{}: `{name}` is not a field", buffer.line);
    }
    condition
}

/// What can be held to dims and constants.
fn checks(header: &Header, checks: &[Check], entry: &Entry, suffix: &str) -> Vec<String> {
    let fixed = |e: &Expression| inlined(header, e);
    let found = checks.iter().filter_map(|c| c.resolved(header, entry, suffix)).map(|c| Check { left: fixed(&c.left), right: fixed(&c.right), ..c });
    found.map(|c| c.to_string()).collect()
}

/// Constants that cannot be overridden are numbers.
fn inlined(header: &Header, expression: &Expression) -> Expression {
    let mut expression = expression.clone();
    for _ in 0..6 {
        expression = expression.replaced(&|name| {
            let fixed = !header.constants.iter().any(|c| c.name == name);
            header.consts.iter().find(|(found, _)| fixed && found == name).map(|(_, e)| e.clone())
        });
    }
    expression
}

fn alternatives(path: &str, header: &Header, buffer: &Buffer, resolved: &impl Fn(&Expression) -> String) -> Vec<Alternative> {
    let found = buffer.alternatives.iter().filter_map(|alternative| {
        let When::Is(name, values) = &alternative.when else { return None };
        let known = header.constants.iter().any(|c| c.name == *name) || header.fields.iter().any(|f| f.name == *name);
        assert!(known, "{path}:{}: `{name}` is no constant and no field", buffer.line);
        let shape = alternative.shape.as_ref().map(|shape| shape.iter().map(resolved).collect());
        Some(Alternative { name: name.clone(), values: values.clone(), shape, dtype: alternative.dtype.clone() })
    });
    found.collect()
}

/// The fields of the kernels that only measure.
const CEILING: &[DimsField] = &[
    DimsField::option("rounds", "multiplications and additions of each thread, one after the other"),
    DimsField::option("scale", "any: what is multiplied with"),
    DimsField::option("shift", "any: what is added"),
];

/// Where each field of `Dims` comes from: what stands beside the operation's `Dims`, else the operand that has it as a size.
fn origins(file: &mut File) {
    let table = ops::of_file(&file.op).map_or(CEILING, |op| op.fields);
    let language = (file.language == "cuda") as usize;
    let operands: Vec<&catalog::Buffer> = file.entries.iter().flat_map(|e| &e.buffers).collect();
    // The same axis in every entry that has the operand, whatever its shape.
    let always = |name: &str, axis: usize, size: &str| {
        let is = |shape: &Vec<String>| shape.get(axis).is_some_and(|found| found == size);
        operands.iter().filter(|b| b.name == name).all(|b| is(&b.shape) && b.alternatives.iter().filter_map(|a| a.shape.as_ref()).all(is))
    };
    // An operand that is always there says it best, in the entry that comes first.
    let best: Vec<&catalog::Buffer> = operands.iter().copied().filter(|b| b.only_if.is_none()).chain(operands.iter().copied()).collect();
    for field in &mut file.dims.fields {
        let place = |b: &&catalog::Buffer| Some((b.name.clone(), b.shape.iter().position(|size| *size == field.name)?));
        let axis = || best.iter().filter_map(place).find(|(name, axis)| always(name, *axis, &field.name)).map(|(name, axis)| format!("{name}[{axis}]"));
        let elsewhere = |(place, value): (&str, &str)| Some(catalog::Elsewhere { place: place.into(), value: value.into() });
        match table.iter().find(|known| known.name == field.name).map(|known| known.origin) {
            _ if field.name.starts_with("padding") => (field.from, field.value) = (Source::Padding, Some("0".into())),
            Some(Origin::Size(axis, other)) => (field.from, field.value, field.elsewhere) = (Source::Size, Some(axis.into()), elsewhere(other)),
            Some(Origin::Formula(value)) => (field.from, field.value) = (Source::Formula, Some(value.into())),
            Some(Origin::Option(range)) => (field.from, field.range) = (Source::Option, range.into()),
            Some(Origin::Choice { range, ours, elsewhere: other }) => {
                (field.from, field.value, field.range) = (Source::Choice, Some(ours[language].into()), range.into());
                field.elsewhere = other.and_then(|(place, values)| elsewhere((place, values[language])));
            }
            None => {
                let axis = axis().unwrap_or_else(|| {
                    panic!("{}: no operand has the size {} in every entry: say where it comes from in FIELDS beside the Dims", file.file, field.name)
                });
                (field.from, field.value) = (Source::Size, Some(axis));
            }
        }
    }
}

fn generated() -> &'static Catalog {
    static GENERATED: OnceLock<Catalog> = OnceLock::new();
    GENERATED.get_or_init(|| {
        let mut records: Vec<File> = files("shaders", ".wgsl").iter().map(|path| wgsl::record(path)).collect();
        records.extend(["kernels", "kernels/hopper"].iter().flat_map(|folder| files(folder, ".cu")).map(|path| cuda::record(&path)));
        records.iter_mut().for_each(origins);
        Catalog { schema: "docs/kernels.schema.json".into(), format: catalog::FORMAT, trimodal: env!("CARGO_PKG_VERSION").into(), files: records }
    })
}

// ── the tests ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_manifest_says_what_the_files_say() {
    let text = pretty::print(&serde_json::to_value(generated()).unwrap());
    let path = root().join("kernels.json");
    if std::env::var_os("TRIMODAL_WRITE_MANIFEST").is_some() {
        if let Ok(old) = serde_json::from_str::<Catalog>(&fs::read_to_string(&path).unwrap_or_default()) {
            versions_are_raised(&old, generated());
        }
        fs::write(&path, &text).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap();
    let differs = text.lines().zip(found.lines()).position(|(a, b)| a != b);
    assert!(text == found, "kernels.json is not what the files say, first in line {}: run scripts/manifest", differs.map_or(0, |at| at + 1));
    assert!(text.len() < 1 << 19, "{} bytes", text.len());
}

/// What an engine has compiled in: it may not change under the same version.
fn abi(file: &File) -> Value {
    let buffer =
        |b: &catalog::Buffer| serde_json::json!([b.name, b.shape, b.dtype, b.access, b.from, b.alternatives, b.only_if, b.accumulate_if, b.tensor_map]);
    let entry = |e: &catalog::Entry| {
        serde_json::json!([e.name, e.block, e.grid, e.dynamic_shared, e.cluster, e.checks, e.buffers.iter().map(buffer).collect::<Vec<_>>()])
    };
    let fields: Vec<_> = file.dims.fields.iter().map(|f| (&f.name, &f.kind, f.offset)).collect();
    // By name, as a caller finds them: in which order a file has them is no part of it.
    let entries: BTreeMap<&str, Value> = file.entries.iter().map(|e| (e.name.as_str(), entry(e))).collect();
    serde_json::json!([fields, file.constants, file.checks, file.elements_below, entries])
}

fn versions_are_raised(old: &Catalog, new: &Catalog) {
    for (old, new) in old.files.iter().filter_map(|old| Some((old, new.file(&old.file)?))) {
        assert!(
            abi(old) == abi(new) || old.version != new.version,
            "{}: its ABI is another than {}'s: raise its version in CHANGELOG.md",
            new.file,
            old.version
        );
    }
}

/// The test itself: an argument less is noticed, a comment more or another order of the entries is not.
#[test]
fn a_changed_abi_asks_for_a_version() {
    let old = generated().clone();
    let mut new = old.clone();
    new.files[0].entries[0].buffers[0].note.push('!');
    new.files[0].sha256.clear();
    new.files[0].entries.reverse();
    versions_are_raised(&old, &new);
    new.files[0].entries[0].buffers.pop();
    assert!(std::panic::catch_unwind(|| versions_are_raised(&old, &new)).is_err());
    let mut raised = new.clone();
    raised.files[0].version = "2.0.0".into();
    versions_are_raised(&old, &raised);
}

/// Every file has a version in the changelog, and every version there is one of a file.
#[test]
fn the_changelog_knows_every_file() {
    let files: BTreeSet<&str> = generated().files.iter().map(|f| f.file.as_str()).collect();
    let named: BTreeSet<&str> = versions().keys().map(String::as_str).collect();
    assert_eq!(files, named);
    for (file, version) in versions() {
        assert!(version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok()), "{file}: `{version}` is no semantic version");
    }
}

/// Every expression is a number once the dims and constants are, and none knows a name that is neither.
#[test]
fn every_expression_can_be_worked_out() {
    let mut count = 0;
    for file in &generated().files {
        let dims: Vec<u8> = (0..file.dims.fields.len() as u32).flat_map(|i| (i + 3).to_le_bytes()).collect();
        let of = |name: &str| if name == "multiprocessors" { Some(132) } else { file.value(name, &dims, &[]) };
        for entry in &file.entries {
            let alternatives = |b: &catalog::Buffer| b.alternatives.iter().flat_map(|a| a.shape.clone().unwrap_or_default()).collect::<Vec<_>>();
            let sizes = entry.buffers.iter().flat_map(|b| b.shape.iter().cloned().chain(alternatives(b)).chain(b.from.clone()));
            for text in sizes.chain([entry.block.clone(), entry.grid.clone(), entry.shared.clone()]) {
                evaluate(&text, &of).unwrap_or_else(|e| panic!("{}: {}: `{text}`: {e}", file.file, entry.name));
                count += 1;
            }
        }
        for check in file.checks.iter().chain(file.entries.iter().flat_map(|e| &e.checks)) {
            Check::read(check).and_then(|check| check.holds(&of)).unwrap_or_else(|e| panic!("{}: `{check}`: {e}", file.file));
        }
        let is_field = |name: &str| file.dims.fields.iter().any(|f| f.name == name);
        for condition in file.entries.iter().flat_map(|e| &e.buffers).flat_map(|b| b.only_if.iter().chain(&b.accumulate_if)) {
            let known = Condition::parse(condition).map(|c| c.known(is_field));
            known.and_then(|c| c.holds(&|name| of(name).map(|v| v as u32))).unwrap_or_else(|e| panic!("{}: `{condition}`: {e}", file.file));
        }
        for (letter, text) in &file.names {
            evaluate(text, &of).unwrap_or_else(|e| panic!("{}: {letter} = `{text}`: {e}", file.file));
        }
    }
    assert!(count > 1000, "{count}");
}

/// Each field says where its value comes from, each expression in it can be worked out, and no operation's table names a field that is not there.
#[test]
fn every_field_says_where_it_comes_from() {
    for file in &generated().files {
        let dims: Vec<u8> = (0..file.dims.fields.len() as u32).flat_map(|i| (i + 3).to_le_bytes()).collect();
        let of = |name: &str| if name == "element_bytes" { Some(4) } else { file.value(name, &dims, &[]) };
        for field in &file.dims.fields {
            let place = format!("{}: {}", file.file, field.name);
            let values: Vec<&String> = field.value.iter().chain(field.elsewhere.iter().map(|e| &e.value)).collect();
            assert_eq!(values.is_empty(), field.from == Source::Option, "{place}");
            assert_eq!(field.range.is_empty(), !matches!(field.from, Source::Option | Source::Choice), "{place}");
            for value in values {
                if field.from == Source::Size {
                    let (name, axis) = value.strip_suffix(']').and_then(|v| v.split_once('[')).unwrap_or_else(|| panic!("{place}: {value}"));
                    let axis: usize = axis.parse().unwrap();
                    assert!(file.entries.iter().flat_map(|e| &e.buffers).any(|b| b.name == name && b.shape.len() > axis), "{place}: {value}");
                } else {
                    evaluate(value, &of).unwrap_or_else(|e| panic!("{place}: `{value}`: {e}"));
                }
            }
        }
    }
    for (op, field) in OPS.iter().flat_map(|op| op.fields.iter().map(move |field| (op, field))) {
        let files = generated().files.iter().filter(|file| op.files.contains(&file.op.as_str()));
        assert!(files.flat_map(|file| &file.dims.fields).any(|f| f.name == field.name), "{}: no file has a field {}", op.name, field.name);
    }
}

/// What the program carries is what it says.
#[test]
fn the_embedded_manifest_is_this_one() {
    assert_eq!(trimodal::contract::shipped(), &serde_json::from_str::<Catalog>(&read("kernels.json")).unwrap());
    let file = trimodal::contract::shipped().file("kernels/ptx/sm_80/rope.ptx").unwrap();
    assert_eq!((file.file.as_str(), file.entry("rotate_bf16").unwrap().buffers.len()), ("kernels/rope.cu", 4));
    assert!(file.entries.iter().flat_map(|e| &e.buffers).all(|b| [Access::Read.name(), Access::Overwrite.name()].contains(&b.access.as_str())));
}

#[test]
fn the_schema_describes_the_manifest() {
    let schema: Value = serde_json::from_str(&read("docs/kernels.schema.json")).unwrap();
    let catalog = serde_json::to_value(generated()).unwrap();
    assert_eq!(schema::problems(&schema, &catalog), Vec::<String>::new());
    // And it notices what is wrong.
    for (pointer, value) in [
        ("/files/0/sha256", "abc".into()),
        ("/files/0/entries/0/buffers/0/access", "looked at".into()),
        ("/format", Value::from(2)),
        ("/files/0/entries/0/grid", Value::Null),
    ] {
        let mut wrong = catalog.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        assert!(schema::problems(&schema, &wrong).iter().any(|p| p.contains(pointer)), "{pointer}");
    }
    let mut wrong = catalog.clone();
    wrong["files"][0].as_object_mut().unwrap().remove("version");
    wrong["files"][1]["colour"] = "green".into();
    let problems = schema::problems(&schema, &wrong).join("\n");
    assert!(problems.contains("`version` is missing") && problems.contains("`colour` is not known"), "{problems}");
}
