//! The launch of a copied kernel in a few lines of the host's language, with its `Dims` and a check of the contract for debug builds.

use crate::manifest::catalog::{Buffer, Entry, File};
use crate::manifest::{Check, Expression, Operator, Relation};

/// Where a kernel is launched from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// Rust with wgpu.
    Wgpu,
    /// JavaScript with WebGPU.
    WebGpu,
    /// Rust with cudarc.
    Cudarc,
    /// Python with cuda-python.
    Python,
    /// C++ with the CUDA runtime, which compiles the `.cu`.
    Cuda,
}

impl Host {
    /// The language whose expressions it takes.
    fn dialect(self) -> Dialect {
        match self {
            Host::Wgpu | Host::Cudarc => Dialect::Rust,
            Host::WebGpu => Dialect::JavaScript,
            Host::Python => Dialect::Python,
            Host::Cuda => Dialect::Cpp,
        }
    }

    fn comment(self) -> &'static str {
        if self == Host::Python { "#" } else { "//" }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Rust,
    JavaScript,
    Python,
    Cpp,
}

/// An expression of the manifest in the host's language.
fn code(text: &str, dialect: Dialect) -> String {
    Expression::parse(text).map_or_else(|_| text.to_string(), |e| written(&e, dialect))
}

fn written(expression: &Expression, dialect: Dialect) -> String {
    let Expression::Binary(operator, a, b) = expression else { return expression.to_string() };
    let bracketed = |e: &Expression| if matches!(e, Expression::Binary(..)) { format!("({})", written(e, dialect)) } else { written(e, dialect) };
    let (plain_a, plain_b, a, b) = (written(a, dialect), written(b, dialect), bracketed(a), bracketed(b));
    match (operator, dialect) {
        (Operator::Add, _) => format!("{a} + {b}"),
        (Operator::Subtract, _) => format!("{a} - {b}"),
        (Operator::Multiply, _) => format!("{a} * {b}"),
        (Operator::Divide, Dialect::JavaScript) => format!("Math.floor({a} / {b})"),
        (Operator::Divide, Dialect::Python) => format!("{a} // {b}"),
        (Operator::Divide, _) => format!("{a} / {b}"),
        (Operator::CeilDiv, Dialect::Rust) => format!("u64::div_ceil({plain_a}, {plain_b})"),
        (Operator::CeilDiv, Dialect::JavaScript) => format!("Math.ceil({a} / {b})"),
        (Operator::CeilDiv, Dialect::Python) => format!("-(-{a} // {b})"),
        (Operator::CeilDiv, Dialect::Cpp) => format!("({a} + {b} - 1) / {b}"),
        (Operator::Min | Operator::Max, _) => {
            let name = if *operator == Operator::Min { "min" } else { "max" };
            let prefix = match dialect {
                Dialect::Rust => "u64::",
                Dialect::JavaScript => "Math.",
                Dialect::Python => "",
                Dialect::Cpp => "std::",
            };
            let kind = if dialect == Dialect::Cpp { "<std::uint64_t>" } else { "" };
            format!("{prefix}{name}{kind}({plain_a}, {plain_b})")
        }
    }
}

/// A comparison of the manifest in the host's language.
fn comparison(text: &str, dialect: Dialect) -> String {
    let Ok(Check { left, relation, right }) = Check::read(text) else { return text.to_string() };
    let (a, b) = (written(&left, dialect), written(&right, dialect));
    let sign = match relation {
        Relation::Multiple => return format!("({a}) % ({b}) == 0"),
        Relation::Less => "<",
        Relation::More => ">",
        Relation::AtMost => "<=",
        Relation::AtLeast => ">=",
        Relation::Equal if dialect == Dialect::JavaScript => "===",
        Relation::Equal => "==",
    };
    format!("{a} {sign} {b}")
}

/// What must hold of dims and constants: as text for the message, and in the host's language.
fn conditions(file: &File, entry: &Entry, dialect: Dialect) -> Vec<(String, String)> {
    let compared = file.checks.iter().chain(&entry.checks).map(|check| (check.clone(), comparison(check, dialect)));
    let constants = constants(file, entry).flat_map(|constant| {
        let one = |text: String| (text.clone(), comparison(&text, dialect));
        let range = constant.range.iter().flat_map(|[first, last]| [format!("{} >= {first}", constant.name), format!("{} <= {last}", constant.name)]).map(one);
        let multiple = constant.multiple_of.iter().map(|of| format!("{} % ({of}) == 0", constant.name)).map(one);
        let list: Vec<String> = constant.values.iter().map(|v| format!("{} == {v}", constant.name)).collect();
        let any = if dialect == Dialect::Python { " or " } else { " || " };
        let listed = (!list.is_empty()).then(|| (list.join(" or "), list.iter().map(|one| comparison(one, dialect)).collect::<Vec<_>>().join(any)));
        range.chain(multiple).chain(listed).collect::<Vec<_>>()
    });
    compared.chain(constants).collect()
}

/// The constants that concern an entry: those that its block, grid, memory or operands depend on, and the size of a head, which all of a
/// file's entries are compiled for.
fn constants<'a>(file: &'a File, entry: &'a Entry) -> impl Iterator<Item = &'a crate::manifest::catalog::Constant> {
    let knows = |text: &str, name: &str| Expression::parse(text).is_ok_and(|e| e.names().contains(name));
    let named = move |name: &str| {
        let decides = entry.buffers.iter().any(|b| b.alternatives.iter().any(|a| a.name == name));
        decides || entry.about.contains(name) || [&entry.block, &entry.grid, &entry.shared].into_iter().any(|text| knows(text, name))
    };
    let divides = move |name: &str| file.constants.iter().any(|c| named(&c.name) && c.multiple_of.as_ref().is_some_and(|of| knows(of, name)));
    file.constants.iter().filter(move |c| named(&c.name) || divides(&c.name) || c.range.is_some())
}

/// Elements that must lie in what is bound.
fn extent(buffer: &Buffer, dialect: Dialect) -> String {
    let sizes: Vec<String> = buffer.shape.iter().map(|size| code(size, dialect)).collect();
    let bracketed = |size: &String| if size.contains(' ') && sizes.len() > 1 { format!("({size})") } else { size.clone() };
    let product = sizes.iter().map(bracketed).collect::<Vec<_>>().join(" * ");
    match &buffer.from {
        Some(from) => format!("{} + {product}", code(from, dialect)),
        None => product,
    }
}

fn bytes_of(dtype: &str) -> u32 {
    match dtype {
        "u8" => 1,
        "bf16" => 2,
        _ => 4,
    }
}

/// The text.
pub fn launch(file: &File, entry: &Entry, host: Host) -> String {
    let dialect = host.dialect();
    let source = match host {
        Host::Wgpu | Host::WebGpu | Host::Cuda => file.file.as_str(),
        Host::Cudarc | Host::Python => file.compiled.as_ref().map_or("", |c| c.file.as_str()),
    };
    let mark = host.comment();
    let mut text = format!("{mark} {source}, entry {}, version {}: {}.\n", entry.name, file.version, entry.what);
    for buffer in &entry.buffers {
        let condition = buffer.only_if.as_ref().map(|c| format!(", only if {c}")).unwrap_or_default();
        text += &format!("{mark}   {}  [{}] {}, {}{condition}\n", buffer.name, buffer.shape.join(", "), buffer.dtype, buffer.access);
    }
    text += &contract(file, entry, host);
    text += "\n";
    text + &match host {
        Host::Wgpu => wgpu(file, entry, source),
        Host::WebGpu => webgpu(file, entry, source),
        Host::Cudarc => cudarc(file, entry, source),
        Host::Python => python(file, entry, source),
        Host::Cuda => cuda(file, entry, dialect),
    }
}

/// The part of it that stands by itself: `Dims`, and the function that checks a call.
pub fn contract(file: &File, entry: &Entry, host: Host) -> String {
    format!("{}\n{}", dims(file, host), check(file, entry, host))
}

fn dims(file: &File, host: Host) -> String {
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

/// A function that stops where the contract is broken.
fn check(file: &File, entry: &Entry, host: Host) -> String {
    let dialect = host.dialect();
    let conditions = conditions(file, entry, dialect);
    let whole: Vec<&str> = file.dims.fields.iter().filter(|f| f.kind == "u32" && !f.name.starts_with("padding")).map(|f| f.name.as_str()).collect();
    let own: Vec<(&str, String)> = constants(file, entry).map(|c| (c.name.as_str(), c.equals.clone().unwrap_or_else(|| c.default.to_string()))).collect();
    let count = entry.buffers.len();
    let rows = |write: &dyn Fn(&Buffer, String, usize) -> String| {
        let row = |(i, b): (usize, &Buffer)| write(b, extent(b, dialect), i);
        entry.buffers.iter().enumerate().map(row).collect::<Vec<_>>().join("")
    };
    match dialect {
        Dialect::Rust => {
            let mut text = format!(
                "/// Panics where a call breaks the contract: for debug builds. `bytes` are those of the buffers, 16 or fewer for an operand that is not there.\n#[allow(unused_variables, non_snake_case)]\nfn check(dims: &Dims, bytes: [u64; {count}]) {{\n"
            );
            text +=
                &format!("    let [{}] = [{}].map(u64::from);\n", whole.join(", "), whole.iter().map(|n| format!("dims.{n}")).collect::<Vec<_>>().join(", "));
            own.iter().for_each(|(name, value)| text += &format!("    let {name}: u64 = {value}; // as the shader's const line says\n"));
            conditions.iter().for_each(|(said, code)| text += &format!("    assert!({code}, \"{said}\");\n"));
            text += &format!(
                "    let needed = [\n{}    ];\n",
                rows(&|b, e, _| format!("        (\"{}\", ({e}) * {}, {}),\n", b.name, bytes_of(&b.dtype), b.only_if.is_some()))
            );
            text += "    for ((name, needed, may_be_absent), has) in needed.into_iter().zip(bytes) {\n        assert!(has >= needed || may_be_absent && has <= 16, \"{name} has {has} bytes, {needed} are needed\");\n    }\n";
            if let Some(limit) = file.elements_below {
                text += &format!("    assert!(bytes.iter().all(|b| b / 4 < {limit}), \"2^31 elements or more\");\n");
            }
            text + "}\n"
        }
        Dialect::JavaScript => {
            let mut text = format!(
                "// Throws where a call breaks the contract: for debug builds. `bytes` are those of the {count} buffers, 16 or fewer for an operand that is not there.\nfunction check(dims, bytes) {{\n"
            );
            text += &format!("  const {{ {} }} = dims;\n", whole.join(", "));
            own.iter().for_each(|(name, value)| text += &format!("  const {name} = {value}; // as the shader's const line says\n"));
            text += "  const expect = (right, what) => { if (!right) throw new Error(what); };\n";
            conditions.iter().for_each(|(said, code)| text += &format!("  expect({code}, '{said}');\n"));
            text += &format!(
                "  const needed = [{}];\n",
                rows(&|b, e, i| format!("{}['{}', ({e}) * {}, {}]", if i > 0 { ", " } else { "" }, b.name, bytes_of(&b.dtype), b.only_if.is_some()))
            );
            text + "  needed.forEach(([name, needed, mayBeAbsent], i) => expect(bytes[i] >= needed || (mayBeAbsent && bytes[i] <= 16), `${name} has ${bytes[i]} bytes, ${needed} are needed`));\n}\n"
        }
        Dialect::Python => {
            let mut text = format!(
                "def check(dims, *sizes):\n    \"\"\"Fails where a call breaks the contract; `python -O` leaves it out. `sizes`: bytes of the {count} buffers, 16 or fewer for an operand that is not there.\"\"\"\n"
            );
            text += &format!("    {}, = {},\n", whole.join(", "), whole.iter().map(|n| format!("dims.{n}")).collect::<Vec<_>>().join(", "));
            own.iter().for_each(|(name, value)| text += &format!("    {name} = {value}\n"));
            conditions.iter().for_each(|(said, code)| text += &format!("    assert {code}, \"{said}\"\n"));
            text += &format!(
                "    needed = {{{}}}\n",
                rows(&|b, e, i| format!(
                    "{}\"{}\": (({e}) * {}, {})",
                    if i > 0 { ", " } else { "" },
                    b.name,
                    bytes_of(&b.dtype),
                    if b.only_if.is_some() { "True" } else { "False" }
                ))
            );
            text + "    for (name, (needed, may_be_absent)), has in zip(needed.items(), sizes, strict=True):\n        assert has >= needed or (may_be_absent and has <= 16), f\"{name} has {has} bytes, {needed} are needed\"\n"
        }
        Dialect::Cpp => {
            let mut text = format!(
                "// Aborts where a call breaks the contract; -DNDEBUG leaves it out. `bytes` are those of the {count} buffers, 16 or fewer for an operand that is not there.\n#include <cassert>\n#include <cstdint>\n#include <algorithm>\ninline void check(const Dims& dims, const std::uint64_t (&bytes)[{count}]) {{\n"
            );
            whole.iter().for_each(|n| text += &format!("    [[maybe_unused]] const std::uint64_t {n} = dims.{n};\n"));
            conditions.iter().for_each(|(said, code)| text += &format!("    assert(({code}) && \"{said}\");\n"));
            text += &rows(&|b, e, i| {
                let absent = if b.only_if.is_some() { format!("bytes[{i}] <= 16 || ") } else { String::new() };
                format!("    assert(({absent}bytes[{i}] >= ({e}) * {}) && \"{}\");\n", bytes_of(&b.dtype), b.name)
            });
            text + "}\n"
        }
    }
}

/// How many groups, in the host's language; names are fields of `dims`.
fn groups(file: &File, entry: &Entry, dialect: Dialect) -> String {
    let field = |name: &str| {
        let constant = file.constants.iter().find(|c| c.name == name);
        let (field, default) = constant.map_or((Some(name.to_string()), 0), |c| (c.equals.clone(), c.default));
        Some(match (field, dialect) {
            (_, _) if name == "multiprocessors" => return None,
            (None, _) => Expression::Number(default as u64),
            (Some(field), Dialect::Rust) => Expression::Name(format!("u64::from(dims.{field})")),
            (Some(field), Dialect::Cpp) => Expression::Name(format!("std::uint64_t(dims.{field})")),
            (Some(field), _) => Expression::Name(format!("dims.{field}")),
        })
    };
    Expression::parse(&entry.grid).map_or_else(|_| entry.grid.clone(), |e| written(&e.replaced(&field), dialect))
}

fn names(entry: &Entry, write: impl Fn(&Buffer) -> String) -> String {
    entry.buffers.iter().map(write).collect::<Vec<_>>().join(", ")
}

fn wgpu(file: &File, entry: &Entry, source: &str) -> String {
    let overridden: String = constants(file, entry)
        .map(|c| {
            let value = c.equals.as_ref().map_or(c.default.to_string(), |field| format!("{{}}u\", dims.{field}"));
            match &c.equals {
                Some(_) => {
                    format!("let source = source.replace(\"const {0}: u32 = {1}u;\", &format!(\"const {0}: u32 = {value}) + \";\");\n", c.name, c.default)
                }
                None => format!(
                    "let source = source.replace(\"const {0}: u32 = {1}u;\", \"const {0}: u32 = {value}u;\"); // or another legal value\n",
                    c.name, c.default
                ),
            }
        })
        .collect();
    format!(
        "let source = include_str!(\"{source}\").to_string();\n{overridden}\
let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {{ label: None, source: wgpu::ShaderSource::Wgsl(source.into()) }});\n\
let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {{\n    label: None, layout: None, module: &module, entry_point: Some(\"{}\"), compilation_options: Default::default(), cache: None,\n}});\n\
#[cfg(debug_assertions)]\ncheck(&dims, [{}].map(|b: &wgpu::Buffer| b.size()));\n\
let uniform = device.create_buffer(&wgpu::BufferDescriptor {{\n    label: None, size: {}, usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST, mapped_at_creation: false,\n}});\n\
queue.write_buffer(&uniform, 0, bytemuck::bytes_of(&dims));\n\
// Each a storage buffer of whole 16 bytes; 16 zero bytes of its own for one that is not there.\n\
let bound = [{}, &uniform];\n\
let entries: Vec<_> = bound.iter().enumerate().map(|(i, b)| wgpu::BindGroupEntry {{ binding: i as u32, resource: b.as_entire_binding() }}).collect();\n\
let group = device.create_bind_group(&wgpu::BindGroupDescriptor {{ label: None, layout: &pipeline.get_bind_group_layout(0), entries: &entries }});\n\
pass.set_pipeline(&pipeline);\npass.set_bind_group(0, &group, &[]);\n\
let groups: u64 = {};\nlet across = groups.clamp(1, 65_535); // the shader numbers them on in y\npass.dispatch_workgroups(across as u32, groups.div_ceil(across) as u32, 1);\n",
        entry.name,
        names(entry, |b| format!("&{}", b.name)),
        file.dims.bytes,
        names(entry, |b| format!("&{}", b.name)),
        groups(file, entry, Dialect::Rust),
    )
}

fn webgpu(file: &File, entry: &Entry, source: &str) -> String {
    let overridden: String = constants(file, entry)
        .map(|c| {
            let value = c.equals.as_ref().map_or(c.default.to_string(), |field| format!("${{dims.{field}}}"));
            format!("source = source.replace('const {0}: u32 = {1}u;', `const {0}: u32 = {value}u;`);\n", c.name, c.default)
        })
        .collect();
    format!(
        "let source = await (await fetch('{source}')).text();\n{overridden}\
const module = device.createShaderModule({{ code: source }});\n\
const pipeline = await device.createComputePipelineAsync({{ layout: 'auto', compute: {{ module, entryPoint: '{}' }} }});\n\
check(dims, [{}]);\n\
const uniform = device.createBuffer({{ size: {}, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST }});\n\
device.queue.writeBuffer(uniform, 0, bytesOf(dims));\n\
// Each a storage buffer of whole 16 bytes; 16 zero bytes of its own for one that is not there.\n\
const entries = [{}, uniform].map((buffer, binding) => ({{ binding, resource: {{ buffer }} }}));\n\
const groups = {};\nconst across = Math.min(Math.max(groups, 1), 65535); // the shader numbers them on in y\n\
pass.setPipeline(pipeline);\npass.setBindGroup(0, device.createBindGroup({{ layout: pipeline.getBindGroupLayout(0), entries }}));\n\
pass.dispatchWorkgroups(across, Math.ceil(groups / across));\n",
        entry.name,
        names(entry, |b| format!("{}.size", b.name)),
        file.dims.bytes,
        names(entry, |b| b.name.clone()),
        groups(file, entry, Dialect::JavaScript),
    )
}

/// What a kernel of `kernels/hopper/` takes beside the buffers.
fn hopper_note(entry: &Entry, mark: &str) -> String {
    let maps: Vec<String> =
        entry.buffers.iter().filter_map(|b| Some(format!("{mark} {}: a CUtensorMap by value, box {}\n", b.name, b.tensor_map.as_ref()?))).collect();
    let dynamic = if entry.dynamic_shared > 48 << 10 {
        format!("{mark} Ask for more than 48 KiB of dynamic shared memory first: CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = {}.\n", entry.dynamic_shared)
    } else {
        String::new()
    };
    maps.concat() + &dynamic
}

fn cudarc(file: &File, entry: &Entry, source: &str) -> String {
    format!(
        "{}let module = context.load_module(cudarc::nvrtc::Ptx::from_file(\"{source}\"))?;\nlet function = module.load_function(\"{}\")?;\n\
#[cfg(debug_assertions)]\ncheck(&dims, [{}]);\n\
let groups: u64 = {}; // none are launched where it is 0\n\
let shape = cudarc::driver::LaunchConfig {{ grid_dim: (groups as u32, 1, 1), block_dim: ({}, 1, 1), shared_mem_bytes: {} }};\n\
let mut launch = stream.launch_builder(&function);\n\
// A null pointer, &0u64, for one that is not there.\n\
launch{}.arg(&dims);\n// SAFETY: these are the arguments that the kernel declares, and check holds their sizes to the contract.\nunsafe {{ launch.launch(shape) }}?;\n",
        hopper_note(entry, "//"),
        entry.name,
        names(entry, |b| format!("{}.num_bytes() as u64", b.name)),
        groups(file, entry, Dialect::Rust),
        entry.block,
        entry.dynamic_shared,
        entry.buffers.iter().map(|b| format!(".arg({}{})", if b.access == "read" { "&" } else { "&mut " }, b.name)).collect::<String>(),
    )
}

fn python(file: &File, entry: &Entry, source: &str) -> String {
    format!(
        "from cuda.bindings import driver  # pip install cuda-python; a context is current\n\ndef must(result):\n    error, *values = result\n    assert error == driver.CUresult.CUDA_SUCCESS, error\n    return values[0] if values else None\n\n\
{}module = must(driver.cuModuleLoadData(open(\"{source}\", \"rb\").read() + b\"\\0\"))\nfunction = must(driver.cuModuleGetFunction(module, b\"{}\"))\n\
# Addresses of device memory (0 for one that is not there), then the dims by value.\n\
values = (*[ctypes.c_void_p(address) for address in ({})], dims)\narguments = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))\n\
if __debug__:\n    check(dims, {})\n\
groups = {}\nmust(driver.cuLaunchKernel(function, groups, 1, 1, {}, 1, 1, {}, 0, ctypes.addressof(arguments), 0))\n",
        hopper_note(entry, "#"),
        entry.name,
        names(entry, |b| b.name.clone()),
        names(entry, |b| format!("{}_bytes", b.name)),
        groups(file, entry, Dialect::Python),
        entry.block,
        entry.dynamic_shared,
    )
}

fn cuda(file: &File, entry: &Entry, dialect: Dialect) -> String {
    format!(
        "// In a translation unit of its own that includes \"{}\".\n{}check(dims, {{{}}});\nconst std::uint64_t groups = {};\n{}<<<unsigned(groups), {}, {}, stream>>>({}, dims);\n",
        file.file,
        hopper_note(entry, "//"),
        names(entry, |b| format!("{}_bytes", b.name)),
        groups(file, entry, dialect),
        entry.name,
        entry.block,
        entry.dynamic_shared,
        names(entry, |b| b.name.clone()),
    )
}
