//! The part of a snippet that can be used alone: `Dims`, and a function that stops where a call breaks the contract.

use super::dialect::Dialect;
use super::{Host, Overridden};
use crate::contract::catalog::{Buffer, Constant, Entry, File};
use crate::contract::{Check, Expression};

/// `Dims` as the host has it.
pub(super) fn dims(file: &File, host: Host) -> String {
    let bytes = file.dims.bytes;
    let fields = |write: &dyn Fn(&str, &str) -> String| file.dims.fields.iter().map(|f| write(&f.name, &f.kind)).collect::<String>();
    match host {
        Host::Wgpu => format!(
            "#[derive(Clone, Copy, Default)]\nstruct Dims {{ // {bytes} bytes\n{}}}\n\nimpl Dims {{\n    fn bytes(&self) -> Vec<u8> {{\n        [\n{}        ].concat()\n    }}\n}}\n",
            fields(&|n, k| format!("    {n}: {k},\n")),
            fields(&|n, _| format!("            self.{n}.to_le_bytes(),\n"))
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

/// Elements that the bound buffer must hold.
fn extent(buffer: &Buffer, dialect: Dialect) -> String {
    let sizes: Vec<String> = buffer.shape.iter().map(|size| dialect.code(size)).collect();
    let bracketed = |size: &String| if size.contains(' ') && sizes.len() > 1 { format!("({size})") } else { size.clone() };
    let product = sizes.iter().map(bracketed).collect::<Vec<_>>().join(" * ");
    match &buffer.from {
        Some(from) => format!("{} + {product}", dialect.code(from)),
        None => product,
    }
}

/// What the function checks, its pieces in the host's language.
struct Contract<'a> {
    /// Whole numbers of `Dims`.
    fields: Vec<&'a str>,
    /// Constants, and their values.
    constants: Vec<(&'a str, String)>,
    /// The message of each comparison, and the comparison.
    conditions: Vec<(String, String)>,
    /// Name, elements, bytes of each, and whether it is there.
    operands: Vec<[String; 4]>,
    /// Every buffer has fewer elements than this.
    elements_below: Option<u64>,
}

/// The function.
pub(super) fn check(file: &File, entry: &Entry, host: Host, overridden: Overridden) -> String {
    let dialect = host.dialect();
    let contract = Contract {
        fields: file.dims.fields.iter().filter(|f| f.kind == "u32" && !f.name.starts_with("padding")).map(|f| f.name.as_str()).collect(),
        constants: constants(file, entry).map(|c| (c.name.as_str(), c.equals.clone().unwrap_or_else(|| overridden.value(c).to_string()))).collect(),
        conditions: conditions(file, entry, dialect),
        operands: entry.buffers.iter().map(|b| [b.name.clone(), extent(b, dialect), dialect.element(b), dialect.is_there(file, b)]).collect(),
        elements_below: file.elements_below,
    };
    match dialect {
        Dialect::Rust => contract.in_rust(),
        Dialect::JavaScript => contract.in_javascript(),
        Dialect::Python => contract.in_python(),
        Dialect::Cpp => contract.in_cpp(),
    }
}

fn each<T>(items: &[T], write: impl Fn(&T) -> String) -> String {
    items.iter().map(write).collect()
}

/// One function per language, each the text that it writes.
impl Contract<'_> {
    fn fields_of_dims(&self) -> String {
        self.fields.iter().map(|name| format!("dims.{name}")).collect::<Vec<_>>().join(", ")
    }

    fn limit(&self, write: impl Fn(u64) -> String) -> String {
        self.elements_below.map(write).unwrap_or_default()
    }

    fn in_rust(&self) -> String {
        let (count, names, fields) = (self.operands.len(), self.fields.join(", "), self.fields_of_dims());
        let constants = each(&self.constants, |(name, value)| format!("    let {name}: u64 = {value}; // as the shader's const line says\n"));
        let conditions = each(&self.conditions, |(said, code)| format!("    assert!({code}, \"{said}\");\n"));
        let operands = each(&self.operands, |[name, elements, size, there]| format!("        (\"{name}\", {elements}, {size}, {there}),\n"));
        let limit = self
            .limit(|most| format!("        assert!(!is_there || elements < {most}, \"{{name}} has {{elements}} elements, expected fewer than {most}\");\n"));
        format!(
            r#"/// Panics where a call breaks the contract: for debug builds. `bytes` are the sizes of the buffers; for an absent operand any size will do.
#[allow(unused_variables, non_snake_case)]
fn check(dims: &Dims, bytes: [u64; {count}]) {{
    let [{names}] = [{fields}].map(u64::from);
{constants}{conditions}    let operands: [(&str, u64, u64, bool); {count}] = [ // name, elements, bytes of each, whether it is there
{operands}    ];
    for ((name, elements, size, is_there), has) in operands.into_iter().zip(bytes) {{
        let needed = elements * size;
        assert!(!is_there || has >= needed, "{{name}} has {{has}} bytes, {{needed}} are needed");
{limit}    }}
}}
"#
        )
    }

    fn in_javascript(&self) -> String {
        let (count, fields) = (self.operands.len(), self.fields.iter().map(|name| format!("{name} = 0")).collect::<Vec<_>>().join(", "));
        let constants = each(&self.constants, |(name, value)| format!("  const {name} = {value}; // as the shader's const line says\n"));
        let conditions = each(&self.conditions, |(said, code)| format!("  expect({code}, '{said}');\n"));
        let operands = each(&self.operands, |[name, elements, size, there]| format!("    ['{name}', {elements}, {size}, {there}],\n"));
        let limit =
            self.limit(|most| format!("    expect(!isThere || elements < {most}, `${{name}} has ${{elements}} elements, expected fewer than {most}`);\n"));
        format!(
            r#"// Throws where a call breaks the contract: for debug builds. `bytes` are the sizes of the {count} buffers; for an absent operand any size will do.
function check(dims, bytes) {{
  const {{ {fields} }} = dims;
{constants}  const expect = (right, what) => {{ if (!right) throw new Error(what); }};
{conditions}  const operands = [ // name, elements, bytes of each, whether it is there
{operands}  ];
  operands.forEach(([name, elements, size, isThere], i) => {{
    expect(!isThere || bytes[i] >= elements * size, `${{name}} has ${{bytes[i]}} bytes, ${{elements * size}} are needed`);
{limit}  }});
}}
"#
        )
    }

    fn in_python(&self) -> String {
        let (count, names, fields) = (self.operands.len(), self.fields.join(", "), self.fields_of_dims());
        let constants = each(&self.constants, |(name, value)| format!("    {name} = {value}\n"));
        let conditions = each(&self.conditions, |(said, code)| format!("    assert {code}, \"{said}\"\n"));
        let operands = each(&self.operands, |[name, elements, size, there]| format!("        (\"{name}\", {elements}, {size}, {there}),\n"));
        let limit = self
            .limit(|most| format!("        assert not is_there or elements < {most}, f\"{{name}} has {{elements}} elements, expected fewer than {most}\"\n"));
        format!(
            r#"def check(dims, *sizes):
    """Fails where a call breaks the contract; `python -O` leaves it out. `sizes`: bytes of the {count} buffers; for an absent operand any size will do."""
    {names}, = {fields},
{constants}{conditions}    operands = [  # name, elements, bytes of each, whether it is there
{operands}    ]
    for (name, elements, size, is_there), has in zip(operands, sizes, strict=True):
        assert not is_there or has >= elements * size, f"{{name}} has {{has}} bytes, {{elements * size}} are needed"
{limit}"#
        )
    }

    /// C++ has no constants of its own to name: the file that is compiled has them.
    fn in_cpp(&self) -> String {
        let count = self.operands.len();
        let fields = each(&self.fields, |name| format!("    [[maybe_unused]] const std::uint64_t {name} = dims.{name};\n"));
        let conditions = each(&self.conditions, |(said, code)| format!("    assert(({code}) && \"{said}\");\n"));
        let numbered: Vec<(usize, &[String; 4])> = self.operands.iter().enumerate().collect();
        let operands = each(&numbered, |(i, [name, elements, size, there])| {
            let absent = if there == "true" { String::new() } else { format!("!({there}) || ") };
            let limit = self.limit(|most| format!("    assert(({absent}({elements}) < {most}u) && \"{name} has too many elements\");\n"));
            format!("    assert(({absent}bytes[{i}] >= ({elements}) * ({size})) && \"{name} is too small\");\n{limit}")
        });
        format!(
            r#"// Aborts where a call breaks the contract; -DNDEBUG leaves it out. `bytes` are the sizes of the {count} buffers; for an absent operand any size will do.
#include <cassert>
#include <cstdint>
#include <algorithm>
inline void check(const Dims& dims, const std::uint64_t (&bytes)[{count}]) {{
{fields}{conditions}{operands}}}
"#
        )
    }
}
