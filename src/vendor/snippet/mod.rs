//! The launch of a copied kernel in a few lines of the host's language, with its `Dims` and a check of the contract for debug builds.

mod contract;
mod dialect;
mod program;

use crate::contract::Expression;
use crate::contract::catalog::{Buffer, Constant, Entry, File};
use contract::constants;
use dialect::Dialect;
pub use program::{Call, name, program};
pub(in crate::vendor) use program::{size, value};

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
    /// What `--host` calls it.
    pub(in crate::vendor) fn name(self) -> &'static str {
        match self {
            Host::Wgpu => "wgpu",
            Host::WebGpu => "webgpu",
            Host::Cudarc => "cudarc",
            Host::Python => "cuda-python",
            Host::Cuda => "cuda",
        }
    }

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

/// Constants that a launch overrides; the others are as the file has them.
#[derive(Clone, Copy)]
struct Overridden<'a>(&'a [(String, u32)]);

impl Overridden<'_> {
    fn value(self, constant: &Constant) -> u32 {
        self.0.iter().find(|(name, _)| *name == constant.name).map_or(constant.default, |(_, value)| *value)
    }
}

/// The launch as statements, after `Dims` and the check of the contract: what [`program`] makes a file of.
pub fn launch(file: &File, entry: &Entry, host: Host) -> String {
    let nothing = Overridden(&[]);
    format!("{}{}\n{}", about(file, entry, host), contract(file, entry, host), statements(file, entry, host, nothing))
}

/// What it is, and its operands.
fn about(file: &File, entry: &Entry, host: Host) -> String {
    let (mark, source) = (host.comment(), source(file, host));
    let mut text = format!("{mark} {source}, entry {}, version {}: {}.\n", entry.name, file.version, entry.what);
    for buffer in &entry.buffers {
        let condition = buffer.only_if.as_ref().map(|c| format!(", only if {c}")).unwrap_or_default();
        text += &format!("{mark}   {}  [{}] {}, {}{condition}\n", buffer.name, buffer.shape.join(", "), buffer.dtype, buffer.access);
    }
    text
}

/// The file that is loaded: the compiled one, where that is not the source.
fn source(file: &File, host: Host) -> &str {
    match host {
        Host::Wgpu | Host::WebGpu | Host::Cuda => file.file.as_str(),
        Host::Cudarc | Host::Python => file.compiled.as_ref().map_or("", |c| c.file.as_str()),
    }
}

fn statements(file: &File, entry: &Entry, host: Host, overridden: Overridden) -> String {
    let source = source(file, host);
    match host {
        Host::Wgpu => wgpu(file, entry, source, overridden),
        Host::WebGpu => webgpu(file, entry, source, overridden),
        Host::Cudarc => cudarc(file, entry, source),
        Host::Python => python(file, entry, source),
        Host::Cuda => cuda(file, entry),
    }
}

/// The part of it that can be used alone: `Dims`, and the function that checks a call.
pub fn contract(file: &File, entry: &Entry, host: Host) -> String {
    contract_with(file, entry, host, Overridden(&[]))
}

fn contract_with(file: &File, entry: &Entry, host: Host, overridden: Overridden) -> String {
    format!("{}\n{}", contract::dims(file, host), contract::check(file, entry, host, overridden))
}

/// How many groups, in the host's language; names are fields of `dims`.
fn groups(file: &File, entry: &Entry, dialect: Dialect, overridden: Overridden) -> String {
    let field = |name: &str| {
        let constant = file.constants.iter().find(|c| c.name == name);
        let (field, default) = constant.map_or((Some(name.to_string()), 0), |c| (c.equals.clone(), overridden.value(c)));
        Some(match (field, dialect) {
            (_, _) if name == "multiprocessors" => return None,
            (None, _) => Expression::Number(default as u64),
            (Some(field), Dialect::Rust) => Expression::Name(format!("u64::from(dims.{field})")),
            (Some(field), Dialect::Cpp) => Expression::Name(format!("std::uint64_t(dims.{field})")),
            (Some(field), _) => Expression::Name(format!("dims.{field}")),
        })
    };
    Expression::parse(&entry.grid).map_or_else(|_| entry.grid.clone(), |e| dialect.written(&e.replaced(&field)))
}

fn names(entry: &Entry, write: impl Fn(&Buffer) -> String) -> String {
    entry.buffers.iter().map(write).collect::<Vec<_>>().join(", ")
}

fn wgpu(file: &File, entry: &Entry, source: &str, overridden: Overridden) -> String {
    let replaced: String = constants(file, entry)
        .map(|c| {
            let put = match &c.equals {
                Some(field) => format!("&format!(\"const {}: u32 = {{}}u;\", dims.{field}));", c.name),
                None => format!("\"const {}: u32 = {}u;\"); // or another legal value", c.name, overridden.value(c)),
            };
            format!("let source = source.replace(\"const {}: u32 = {}u;\", {put}\n", c.name, c.default)
        })
        .collect();
    format!(
        "let source = include_str!(\"{source}\").to_string();\n{replaced}\
let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {{ label: None, source: wgpu::ShaderSource::Wgsl(source.into()) }});\n\
let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {{\n    label: None, layout: None, module: &module, entry_point: Some(\"{}\"), compilation_options: Default::default(), cache: None,\n}});\n\
#[cfg(debug_assertions)]\ncheck(&dims, [{}].map(|b| b.size()));\n\
let uniform = device.create_buffer(&wgpu::BufferDescriptor {{\n    label: None, size: {}, usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST, mapped_at_creation: false,\n}});\n\
queue.write_buffer(&uniform, 0, &dims.bytes());\n\
// Each a storage buffer of whole 16 bytes; 16 zero bytes of its own for one that is not there.\n\
let bound: [&wgpu::Buffer; {}] = [{}, &uniform];\n\
let entries: Vec<_> = bound.iter().enumerate().map(|(i, b)| wgpu::BindGroupEntry {{ binding: i as u32, resource: b.as_entire_binding() }}).collect();\n\
let group = device.create_bind_group(&wgpu::BindGroupDescriptor {{ label: None, layout: &pipeline.get_bind_group_layout(0), entries: &entries }});\n\
pass.set_pipeline(&pipeline);\npass.set_bind_group(0, &group, &[]);\n\
let groups: u64 = {};\nlet across = groups.clamp(1, 65_535); // the shader numbers them on in y\npass.dispatch_workgroups(across as u32, groups.div_ceil(across) as u32, 1);\n",
        entry.name,
        names(entry, |b| b.name.clone()),
        file.dims.bytes,
        entry.buffers.len() + 1,
        names(entry, |b| b.name.clone()),
        groups(file, entry, Dialect::Rust, overridden),
    )
}

fn webgpu(file: &File, entry: &Entry, source: &str, overridden: Overridden) -> String {
    let replaced: String = constants(file, entry)
        .map(|c| {
            let value = c.equals.as_ref().map_or(overridden.value(c).to_string(), |field| format!("${{dims.{field}}}"));
            format!("source = source.replace('const {0}: u32 = {1}u;', `const {0}: u32 = {value}u;`);\n", c.name, c.default)
        })
        .collect();
    format!(
        "let source = await (await fetch('{source}')).text();\n{replaced}\
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
        groups(file, entry, Dialect::JavaScript, overridden),
    )
}

/// What a kernel of `kernels/hopper/` takes instead of buffers.
fn maps_note(entry: &Entry, mark: &str) -> String {
    let note = |b: &Buffer| Some(format!("{mark} {0}_map: a CUtensorMap of {0}, box {1}\n", b.name, b.tensor_map.as_ref()?));
    entry.buffers.iter().filter_map(note).collect()
}

/// What is passed for a buffer: itself, or its tensor map.
fn passed(buffer: &Buffer) -> String {
    if buffer.tensor_map.is_some() { format!("{}_map", buffer.name) } else { buffer.name.clone() }
}

/// Dynamic shared memory beyond what a launch gets unasked.
fn asked_for(entry: &Entry) -> Option<u32> {
    (entry.dynamic_shared > 48 << 10).then_some(entry.dynamic_shared)
}

fn cudarc(file: &File, entry: &Entry, source: &str) -> String {
    let maps = if entry.buffers.iter().any(|b| b.tensor_map.is_some()) {
        "#[repr(transparent)]\n#[derive(Clone, Copy)]\nstruct Map(cudarc::driver::sys::CUtensorMap);\nunsafe impl cudarc::driver::DeviceRepr for Map {} // 128 bytes by value\n"
    } else {
        ""
    };
    let shared = asked_for(entry).map(|bytes| {
        format!("function.set_attribute(cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, {bytes})?;\n")
    });
    format!(
        "// cudarc with its features driver and nvrtc (which is not called: PTX is loaded).\nuse cudarc::driver::PushKernelArg;\n{maps}{}\
let module = context.load_module(cudarc::nvrtc::Ptx::from_file(\"{source}\"))?;\nlet function = module.load_function(\"{}\")?;\n{}\
#[cfg(debug_assertions)]\ncheck(&dims, [{}]);\n\
let groups: u64 = {}; // none are launched where it is 0\n\
let shape = cudarc::driver::LaunchConfig {{ grid_dim: (groups as u32, 1, 1), block_dim: ({}, 1, 1), shared_mem_bytes: {} }};\n\
let mut launch = stream.launch_builder(&function);\n\
// A null pointer, &0u64, for one that is not there.\n\
launch{}.arg(&dims);\n// SAFETY: these are the arguments that the kernel declares, and check compares their sizes with the contract.\nunsafe {{ launch.launch(shape) }}?;\n",
        maps_note(entry, "//"),
        entry.name,
        shared.unwrap_or_default(),
        names(entry, |b| format!("{}.num_bytes() as u64", b.name)),
        groups(file, entry, Dialect::Rust, Overridden(&[])),
        entry.block,
        entry.dynamic_shared,
        entry
            .buffers
            .iter()
            .map(|b| format!(".arg({}{})", if b.access == "read" || b.tensor_map.is_some() { "&" } else { "&mut " }, passed(b)))
            .collect::<String>(),
    )
}

fn python(file: &File, entry: &Entry, source: &str) -> String {
    // Maps are structures of their own, and pointers to them are what the launch takes.
    let values = names(entry, |b| if b.tensor_map.is_some() { format!("{}_map", b.name) } else { format!("ctypes.c_void_p({})", b.name) });
    let shared = asked_for(entry).map(|bytes| {
        format!("must(driver.cuFuncSetAttribute(function, driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, {bytes}))\n")
    });
    format!(
        "from cuda.bindings import driver  # pip install cuda-python; a context is current\n\ndef must(result):\n    error, *values = result\n    assert error == driver.CUresult.CUDA_SUCCESS, error\n    return values[0] if values else None\n\n\
module = must(driver.cuModuleLoadData(open(\"{source}\", \"rb\").read() + b\"\\0\"))\nfunction = must(driver.cuModuleGetFunction(module, b\"{}\"))\n{}\
# Addresses of device memory (0 for one that is not there), then the dims by value.\n{}\
values = ({values}, dims)\narguments = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))\n\
if __debug__:\n    check(dims, {})\n\
groups = {}\nmust(driver.cuLaunchKernel(function, groups, 1, 1, {}, 1, 1, {}, 0, ctypes.addressof(arguments), 0))\n",
        entry.name,
        shared.unwrap_or_default(),
        maps_note(entry, "#").replace("a CUtensorMap of", "the 128 bytes of a CUtensorMap (aligned to 64, as a ctypes structure) of"),
        names(entry, |b| format!("{}_bytes", b.name)),
        groups(file, entry, Dialect::Python, Overridden(&[])),
        entry.block,
        entry.dynamic_shared,
    )
}

fn cuda(file: &File, entry: &Entry) -> String {
    let shared = asked_for(entry).map(|bytes| format!("cudaFuncSetAttribute(::{}, cudaFuncAttributeMaxDynamicSharedMemorySize, {bytes});\n", entry.name));
    format!(
        "// In a translation unit of its own that includes \"{}\".\n{}check(dims, {{{}}});\nconst std::uint64_t groups = {};\n{}::{}<<<unsigned(groups), {}, {}, stream>>>({}, dims);\n",
        file.file,
        maps_note(entry, "//"),
        names(entry, |b| format!("{}_bytes", b.name)),
        groups(file, entry, Dialect::Cpp, Overridden(&[])),
        shared.unwrap_or_default(),
        entry.name,
        entry.block,
        entry.dynamic_shared,
        names(entry, passed),
    )
}
