//! The part of a snippet that stands by itself: `Dims`, and a function that stops where a call breaks the contract.

use super::Host;
use super::dialect::Dialect;
use crate::manifest::catalog::{Buffer, Constant, Entry, File};
use crate::manifest::{Check, Expression};

/// `Dims` as the host has it.
pub(super) fn dims(file: &File, host: Host) -> String {
    let bytes = file.dims.bytes;
    let fields = |write: &dyn Fn(&str, &str) -> String| file.dims.fields.iter().map(|f| write(&f.name, &f.kind)).collect::<String>();
    match host {
        Host::Wgpu => format!(
            "#[repr(C)]\n#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]\nstruct Dims {{ // {bytes} bytes\n{}}}\n",
            fields(&|n, k| format!("    {n}: {k},\n"))
        ),
        Host::Cudarc => format!(
            "#[repr(C)]\n#[derive(Clone, Copy, Default)]\nstruct Dims {{ // {bytes} bytes\n{}}}\nunsafe impl cudarc::driver::DeviceRepr for Dims {{}} // plain numbers, laid out as the kernel has them\n",
            fields(&|n, k| format!("    {n}: {k},\n"))
        ),
        Host::WebGpu => format!(
            "const FIELDS = [{}];\nfunction bytesOf(dims) {{ // {bytes} bytes, little-endian\n  const view = new DataView(new ArrayBuffer({bytes}));\n  FIELDS.forEach(([name, kind], i) => kind === 'f32' ? view.setFloat32(4 * i, dims[name] ?? 0, true) : view.setUint32(4 * i, dims[name] ?? 0, true));\n  return view.buffer;\n}}\n",
            file.dims.fields.iter().map(|f| format!("['{}', '{}']", f.name, f.kind)).collect::<Vec<_>>().join(", ")
        ),
        Host::Python => format!(
            "import ctypes\n\nclass Dims(ctypes.Structure):  # {bytes} bytes\n    _fields_ = [{}]\n",
            file.dims
                .fields
                .iter()
                .map(|f| format!("(\"{}\", ctypes.{})", f.name, if f.kind == "f32" { "c_float" } else { "c_uint32" }))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Host::Cuda => format!("// struct Dims is the file's own, {bytes} bytes:\n// {}\n", fields(&|n, _| format!("{n} ")).trim_end()),
    }
}

/// Which comparisons must hold: as text for the message, and in the host's language.
fn conditions(file: &File, entry: &Entry, dialect: Dialect) -> Vec<(String, String)> {
    let one = |text: &String| (text.clone(), dialect.comparison(file, text));
    let compared = file.checks.iter().chain(&entry.checks).map(one);
    let constants = constants(file, entry).flat_map(|constant| {
        let range = constant.range.iter().flat_map(|[first, last]| [format!("{} >= {first}", constant.name), format!("{} <= {last}", constant.name)]);
        let multiple = constant.multiple_of.iter().map(|of| format!("{} % ({of}) == 0", constant.name));
        let list: Vec<String> = constant.values.iter().map(|v| format!("{} == {v}", constant.name)).collect();
        let any = if dialect == Dialect::Python { " or " } else { " || " };
        let listed = (!list.is_empty()).then(|| (list.join(" or "), list.iter().map(|text| dialect.comparison(file, text)).collect::<Vec<_>>().join(any)));
        range.chain(multiple).map(|text| one(&text)).chain(listed).collect::<Vec<_>>()
    });
    compared.chain(constants).collect()
}

/// The constants that concern an entry: those that its block, grid, memory, operands or limits depend on, and the size of a head, which
/// all of a file's entries are compiled for.
pub(super) fn constants<'a>(file: &'a File, entry: &'a Entry) -> impl Iterator<Item = &'a Constant> {
    let knows = |text: &str, name: &str| Expression::parse(text).is_ok_and(|e| e.names().contains(name));
    let asks = |text: &str, name: &str| Check::read(text).is_ok_and(|c| c.left.names().contains(name) || c.right.names().contains(name));
    let named = move |name: &str| {
        let decides = entry.buffers.iter().any(|b| b.alternatives.iter().any(|a| a.name == name));
        let asked = entry.checks.iter().any(|check| asks(check, name));
        decides || asked || entry.about.contains(name) || [&entry.block, &entry.grid, &entry.shared].into_iter().any(|text| knows(text, name))
    };
    let divides = move |name: &str| file.constants.iter().any(|c| named(&c.name) && c.multiple_of.as_ref().is_some_and(|of| knows(of, name)));
    file.constants.iter().filter(move |c| named(&c.name) || divides(&c.name) || c.range.is_some())
}

/// Elements that must lie in what is bound.
fn extent(buffer: &Buffer, dialect: Dialect) -> String {
    let sizes: Vec<String> = buffer.shape.iter().map(|size| dialect.code(size)).collect();
    let bracketed = |size: &String| if size.contains(' ') && sizes.len() > 1 { format!("({size})") } else { size.clone() };
    let product = sizes.iter().map(bracketed).collect::<Vec<_>>().join(" * ");
    match &buffer.from {
        Some(from) => format!("{} + {product}", dialect.code(from)),
        None => product,
    }
}

/// The function.
pub(super) fn check(file: &File, entry: &Entry, host: Host) -> String {
    let dialect = host.dialect();
    let conditions = conditions(file, entry, dialect);
    let whole: Vec<&str> = file.dims.fields.iter().filter(|f| f.kind == "u32" && !f.name.starts_with("padding")).map(|f| f.name.as_str()).collect();
    let own: Vec<(&str, String)> = constants(file, entry).map(|c| (c.name.as_str(), c.equals.clone().unwrap_or_else(|| c.default.to_string()))).collect();
    let count = entry.buffers.len();
    // Name, elements, bytes of each, and whether it is there.
    let operands: Vec<[String; 4]> =
        entry.buffers.iter().map(|b| [b.name.clone(), extent(b, dialect), dialect.element(b), dialect.is_there(file, b)]).collect();
    let below = file.elements_below;
    let mut text = String::new();
    match dialect {
        Dialect::Rust => {
            text += &format!(
                "/// Panics where a call breaks the contract: for debug builds. `bytes` are those of the buffers; of an operand that is not there they do not matter.\n#[allow(unused_variables, non_snake_case)]\nfn check(dims: &Dims, bytes: [u64; {count}]) {{\n"
            );
            text +=
                &format!("    let [{}] = [{}].map(u64::from);\n", whole.join(", "), whole.iter().map(|n| format!("dims.{n}")).collect::<Vec<_>>().join(", "));
            own.iter().for_each(|(name, value)| text += &format!("    let {name}: u64 = {value}; // as the shader's const line says\n"));
            conditions.iter().for_each(|(said, code)| text += &format!("    assert!({code}, \"{said}\");\n"));
            let rows: String = operands.iter().map(|[name, elements, size, there]| format!("        (\"{name}\", {elements}, {size}, {there}),\n")).collect();
            text += &format!("    let operands: [(&str, u64, u64, bool); {count}] = [ // name, elements, bytes of each, whether it is there\n{rows}    ];\n");
            text += "    for ((name, elements, size, is_there), has) in operands.into_iter().zip(bytes) {\n        let needed = elements * size;\n        assert!(!is_there || has >= needed, \"{name} has {has} bytes, {needed} are needed\");\n";
            if let Some(limit) = below {
                text += &format!("        assert!(!is_there || elements < {limit}, \"{{name}} has {{elements}} elements, expected fewer than {limit}\");\n");
            }
            text + "    }\n}\n"
        }
        Dialect::JavaScript => {
            text += &format!(
                "// Throws where a call breaks the contract: for debug builds. `bytes` are those of the {count} buffers; of an operand that is not there they do not matter.\nfunction check(dims, bytes) {{\n"
            );
            text += &format!("  const {{ {} }} = dims;\n", whole.iter().map(|n| format!("{n} = 0")).collect::<Vec<_>>().join(", "));
            own.iter().for_each(|(name, value)| text += &format!("  const {name} = {value}; // as the shader's const line says\n"));
            text += "  const expect = (right, what) => { if (!right) throw new Error(what); };\n";
            conditions.iter().for_each(|(said, code)| text += &format!("  expect({code}, '{said}');\n"));
            let rows: String = operands.iter().map(|[name, elements, size, there]| format!("    ['{name}', {elements}, {size}, {there}],\n")).collect();
            text += &format!("  const operands = [ // name, elements, bytes of each, whether it is there\n{rows}  ];\n");
            text += "  operands.forEach(([name, elements, size, isThere], i) => {\n    expect(!isThere || bytes[i] >= elements * size, `${name} has ${bytes[i]} bytes, ${elements * size} are needed`);\n";
            if let Some(limit) = below {
                text += &format!("    expect(!isThere || elements < {limit}, `${{name}} has ${{elements}} elements, expected fewer than {limit}`);\n");
            }
            text + "  });\n}\n"
        }
        Dialect::Python => {
            text += &format!(
                "def check(dims, *sizes):\n    \"\"\"Fails where a call breaks the contract; `python -O` leaves it out. `sizes`: bytes of the {count} buffers; of an operand that is not there they do not matter.\"\"\"\n"
            );
            text += &format!("    {}, = {},\n", whole.join(", "), whole.iter().map(|n| format!("dims.{n}")).collect::<Vec<_>>().join(", "));
            own.iter().for_each(|(name, value)| text += &format!("    {name} = {value}\n"));
            conditions.iter().for_each(|(said, code)| text += &format!("    assert {code}, \"{said}\"\n"));
            let rows: String = operands.iter().map(|[name, elements, size, there]| format!("        (\"{name}\", {elements}, {size}, {there}),\n")).collect();
            text += &format!("    operands = [  # name, elements, bytes of each, whether it is there\n{rows}    ]\n");
            text += "    for (name, elements, size, is_there), has in zip(operands, sizes, strict=True):\n        assert not is_there or has >= elements * size, f\"{name} has {has} bytes, {elements * size} are needed\"\n";
            if let Some(limit) = below {
                text += &format!("        assert not is_there or elements < {limit}, f\"{{name}} has {{elements}} elements, expected fewer than {limit}\"\n");
            }
            text
        }
        Dialect::Cpp => {
            text += &format!(
                "// Aborts where a call breaks the contract; -DNDEBUG leaves it out. `bytes` are those of the {count} buffers; of an operand that is not there they do not matter.\n#include <cassert>\n#include <cstdint>\n#include <algorithm>\ninline void check(const Dims& dims, const std::uint64_t (&bytes)[{count}]) {{\n"
            );
            whole.iter().for_each(|n| text += &format!("    [[maybe_unused]] const std::uint64_t {n} = dims.{n};\n"));
            conditions.iter().for_each(|(said, code)| text += &format!("    assert(({code}) && \"{said}\");\n"));
            for (i, [name, elements, size, there]) in operands.iter().enumerate() {
                let absent = if there == "true" { String::new() } else { format!("!({there}) || ") };
                text += &format!("    assert(({absent}bytes[{i}] >= ({elements}) * ({size})) && \"{name} is too small\");\n");
                if let Some(limit) = below {
                    text += &format!("    assert(({absent}({elements}) < {limit}u) && \"{name} has too many elements\");\n");
                }
            }
            text + "}\n"
        }
    }
}
