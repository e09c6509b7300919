//! Shaders: what naga reflects, beside the header.

use crate::{entry, inlined, read};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, TypeInner};
use trimodal::contract::catalog::{File, Requires};
use trimodal::contract::{Expression, Header, Operator, evaluate};

pub fn record(path: &str) -> File {
    let source = read(path);
    let header = Header::parse(&source);
    let reflected = reflect(path, &source);
    let mut record = crate::record(path, &header);
    check_dims(path, &reflected.module, &header);
    record.entries = header
        .entries
        .iter()
        .map(|documented| {
            let mut entry = entry(path, &header, documented, "");
            let found = reflected.entry(&entry.name).unwrap_or_else(|| panic!("{path} has no entry {}", entry.name));
            let block = Expression::parse(&documented.block).unwrap_or_else(|e| panic!("{path}:{}: block: {e}", documented.line));
            entry.block = inlined(&header, &block).to_string();
            entry.shared = shared(path, &source, &header, &found.workgroup_variables).to_string();
            entry
        })
        .collect();
    record.requires = Requires::Wgsl {
        api: "WebGPU".into(),
        features: features(&source),
        storage_buffers: record.entries.iter().map(|e| e.buffers.len() as u32).max().unwrap(),
    };
    hold(path, &source, &header, &record);
    record
}

/// `enable f16;` and the like.
fn features(source: &str) -> Vec<String> {
    source
        .lines()
        .filter_map(|l| l.trim().strip_prefix("enable "))
        .flat_map(|l| l.trim_end_matches(';').split(", ").map(str::to_string).collect::<Vec<_>>())
        .collect()
}

struct Reflected {
    module: Module,
    entries: Vec<Found>,
}

struct Found {
    name: String,
    threads: u32,
    workgroup_variables: Vec<String>,
    workgroup_bytes: u32,
}

impl Reflected {
    fn entry(&self, name: &str) -> Option<&Found> {
        self.entries.iter().find(|e| e.name == name)
    }
}

fn reflect(path: &str, source: &str) -> Reflected {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{path}: {}", e.emit_to_string(source)));
    let info =
        Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).unwrap_or_else(|e| panic!("{path}: {}", e.emit_to_string(source)));
    let entries = module.entry_points.iter().enumerate().map(|(index, point)| {
        let used = module.global_variables.iter().filter(|(handle, v)| v.space == AddressSpace::WorkGroup && !info.get_entry_point(index)[*handle].is_empty());
        let (names, bytes): (Vec<_>, Vec<_>) = used.map(|(_, v)| (v.name.clone().unwrap_or_default(), module.types[v.ty].inner.size(module.to_ctx()))).unzip();
        Found { name: point.name.clone(), threads: point.workgroup_size.iter().product(), workgroup_variables: names, workgroup_bytes: bytes.iter().sum() }
    });
    let entries = entries.collect();
    Reflected { module, entries }
}

/// The header's fields are those of `Dims`, in type and place.
fn check_dims(path: &str, module: &Module, header: &Header) {
    let found = module.types.iter().find(|(_, t)| t.name.as_deref() == Some("Dims")).unwrap_or_else(|| panic!("{path} has no Dims"));
    let TypeInner::Struct { members, span } = &found.1.inner else { panic!("{path}: Dims is no struct") };
    let members: Vec<_> = members
        .iter()
        .map(|m| {
            let TypeInner::Scalar(scalar) = module.types[m.ty].inner else { panic!("{path}: a field of Dims is no scalar") };
            (m.name.clone().unwrap_or_default(), if scalar.kind == ScalarKind::Float { "f32" } else { "u32" }, m.offset)
        })
        .collect();
    let said: Vec<_> = header.fields.iter().enumerate().map(|(i, f)| (f.name.clone(), f.kind, 4 * i as u32)).collect();
    assert_eq!(members, said, "{path}: Dims");
    assert!(*span as usize == 4 * said.len() && span.is_multiple_of(16), "{path}: Dims has {span} bytes");
}

/// Bytes of these workgroup variables, from their declarations.
fn shared(path: &str, source: &str, header: &Header, names: &[String]) -> Expression {
    let mut total: Option<Expression> = None;
    for name in names {
        let start = format!("var<workgroup> {name}: ");
        let ty = source.lines().find_map(|l| l.strip_prefix(&start)?.split(';').next()).unwrap_or_else(|| panic!("{path}: no line `{start}…;`"));
        let (element, count) = match ty.strip_prefix("array<").and_then(|t| t.strip_suffix('>')).and_then(|t| t.split_once(", ")) {
            Some((element, count)) => (element, Expression::parse(count).unwrap_or_else(|e| panic!("{path}: {name}: {e}"))),
            None => (ty, Expression::Number(1)),
        };
        let size = match element {
            "f32" | "u32" | "i32" | "atomic<u32>" => 4,
            "vec4<f32>" | "vec4<u32>" => 16,
            other => panic!("{path}: {name}: {other}"),
        };
        let count = inlined(header, &count);
        let bytes = match count {
            Expression::Number(count) => Expression::Number(size * count),
            other => Expression::Binary(Operator::Multiply, Box::new(Expression::Number(size)), Box::new(other)),
        };
        total = Some(match total {
            None => bytes,
            Some(Expression::Number(a)) if matches!(bytes, Expression::Number(_)) => Expression::Number(a + bytes.evaluate(&|_| None).unwrap()),
            Some(sum) => Expression::Binary(Operator::Add, Box::new(sum), Box::new(bytes)),
        });
    }
    total.unwrap_or(Expression::Number(0))
}

/// Block and shared memory are what naga works out, for every legal value of the constants.
fn hold(path: &str, source: &str, header: &Header, record: &File) {
    let mut settings: Vec<Vec<(&str, u32)>> = vec![Vec::new()];
    for constant in &record.constants {
        let values = constant.range.map_or(constant.values.clone(), |[first, last]| vec![first, constant.default, last]);
        settings = settings.iter().flat_map(|s| values.iter().map(|v| s.iter().copied().chain([(constant.name.as_str(), *v)]).collect())).collect();
    }
    let legal = |setting: &Vec<(&str, u32)>| {
        setting.iter().zip(&record.constants).all(|((_, value), constant)| {
            let of = constant.multiple_of.as_ref().map(|text| evaluate(text, &|name| record.value(name, &[], setting)).unwrap());
            of.is_none_or(|of| (*value as u64).is_multiple_of(of))
        })
    };
    settings.retain(legal);
    for setting in settings {
        let overridden = setting.iter().fold(source.to_string(), |text, (name, value)| {
            let start = format!("const {name}: u32 = ");
            assert_eq!(text.matches(&start).count(), 1, "{path}: {name}");
            let at = text.find(&start).unwrap() + start.len();
            let end = at + text[at..].find(';').unwrap();
            format!("{}{value}u{}", &text[..at], &text[end..])
        });
        let reflected = reflect(path, &overridden);
        for entry in &record.entries {
            let found = reflected.entry(&entry.name).unwrap();
            let of = |text: &str| evaluate(text, &|name| record.value(name, &[], &setting)).unwrap();
            assert_eq!((of(&entry.block), of(&entry.shared)), (found.threads as u64, found.workgroup_bytes as u64), "{path}: {} with {setting:?}", entry.name);
        }
    }
    for entry in &header.entries {
        assert!(record.entry(&entry.name).is_some());
    }
}
