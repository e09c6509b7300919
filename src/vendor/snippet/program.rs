//! The launch of a copied kernel as a file that compiles: `Dims`, the check, a function that launches, and a `main` that calls it once with the
//! sizes of a golden vector and simple numbers, and prints the beginning of what comes out.

use super::{Host, Overridden, about, contract_with, statements};
use crate::contract::catalog::{Buffer, Entry, Field, File, Source};

/// The sizes of one launch, as a golden vector has recorded it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The vector's file.
    pub from: String,
    /// The bytes of the `Dims`.
    pub dims: Vec<u8>,
    /// Constants that are overridden.
    pub constants: Vec<(String, u32)>,
    /// Bytes of each operand; `None`: it is not there.
    pub operands: Vec<Option<u64>>,
    /// The grid: blocks, or workgroups.
    pub groups: u64,
    /// Threads of each.
    pub block: u64,
    /// Bytes of dynamic shared memory.
    pub shared: u64,
}

impl Call {
    /// What a name of the file's expressions stands for in it.
    pub(in crate::vendor) fn value(&self, file: &File, name: &str) -> Option<u64> {
        let constants: Vec<(&str, u32)> = self.constants.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        file.value(name, &self.dims, &constants)
    }
}

/// What the file is called.
pub fn name(host: Host) -> &'static str {
    match host {
        Host::Wgpu | Host::Cudarc => "launch.rs",
        Host::WebGpu => "launch.js",
        Host::Python => "launch.py",
        Host::Cuda => "launch.cu",
    }
}

/// The whole file.
pub fn program(file: &File, entry: &Entry, host: Host, call: &Call) -> String {
    let overridden = Overridden(&call.constants);
    let parts = Parts { file, entry, call, contract: contract_with(file, entry, host, overridden), statements: statements(file, entry, host, overridden) };
    let (first, main) = match host {
        Host::Wgpu => (
            "//! Take `Dims`, `check` and `launch` into your engine; `main` calls them once.\n//!\n//!     cargo run --manifest-path self_test/wgpu/Cargo.toml --bin launch\n\n",
            parts.wgpu(),
        ),
        Host::Cudarc => (
            "//! Take `Dims`, `check` and `launch` into your engine; `main` calls them once.\n//!\n//!     cargo run --manifest-path self_test/cudarc/Cargo.toml --bin launch\n\n",
            parts.cudarc(),
        ),
        Host::WebGpu => {
            ("// Take `bytesOf`, `check` and `launch` into your engine; `main` calls them once. launch.html shows what comes out.\n\n", parts.webgpu())
        }
        Host::Python => {
            ("#!/usr/bin/env python3\n# Take Dims, check and launch into your engine; main calls them once:  python3 launch.py\n\n", parts.python())
        }
        Host::Cuda => (
            "// Take `check` and `launch` into your engine; `main` calls them once:  nvcc -std=c++17 -arch=sm_80 launch.cu -o launch && ./launch\n\n",
            parts.cuda(),
        ),
    };
    format!("{first}{}{main}", about(file, entry, host))
}

/// What a field's value comes from, in a few words.
fn origin(field: &Field, entry: &Entry) -> String {
    let value = field.value.as_deref().unwrap_or_default();
    match field.from {
        Source::Size => match size(field, entry) {
            Some(axis) => format!("size {axis}"),
            None => format!("size {value} of other entries"),
        },
        Source::Formula => format!("formula: {value}"),
        Source::Choice => format!("free: {}; trimodal takes {value}", field.range),
        Source::Option => format!("what you want: {}", field.range),
        Source::Padding => "padding".into(),
    }
}

/// Where this entry has a field as a size: `x[0]`.
pub(in crate::vendor) fn size(field: &Field, entry: &Entry) -> Option<String> {
    let one_shape = |b: &&Buffer| b.alternatives.iter().all(|a| a.shape.is_none());
    let own = entry.buffers.iter().filter(one_shape).find_map(|b| Some(format!("{}[{}]", b.name, b.shape.iter().position(|size| *size == field.name)?)));
    let named = || field.value.clone().filter(|value| entry.buffers.iter().any(|b| value.split('[').next() == Some(&b.name)));
    own.or_else(named)
}

/// A field's value in a call, as source text.
pub(in crate::vendor) fn value(field: &Field, call: &Call) -> String {
    let at = field.offset as usize;
    let bytes: [u8; 4] = call.dims.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    if field.kind == "f32" { format!("{:?}", f32::from_le_bytes(bytes)) } else { u32::from_le_bytes(bytes).to_string() }
}

struct Parts<'a> {
    file: &'a File,
    entry: &'a Entry,
    call: &'a Call,
    contract: String,
    statements: String,
}

/// What an operand of a made-up call is filled with.
enum Filling {
    Absent,
    /// Small numbers, in this dtype.
    Numbers(&'static str),
    /// Of `visible`: every row sees everything.
    Intervals,
    /// 0, 1, 2, …: rows are distinct.
    Counting,
    Zeros,
}

impl Parts<'_> {
    fn indented(&self, by: &str) -> String {
        self.statements.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("{by}{line}\n") }).collect()
    }

    fn dims(&self, write: impl Fn(&str, &str, &str) -> String) -> String {
        self.file.dims.fields.iter().map(|f| write(&f.name, &value(f, self.call), &origin(f, self.entry))).collect()
    }

    fn buffers(&self) -> impl Iterator<Item = (&Buffer, Filling, u64)> {
        self.entry.buffers.iter().zip(self.call.operands.iter().copied()).map(|(buffer, bytes)| {
            let filling = match bytes {
                None => Filling::Absent,
                Some(_) if buffer.access == "overwrite" => Filling::Zeros,
                Some(_) => match self.dtype(buffer) {
                    _ if buffer.name.ends_with("visible") => Filling::Intervals,
                    "i32" | "u32" if buffer.name.ends_with("row") => Filling::Counting,
                    "i32" | "u32" => Filling::Zeros,
                    "bf16" => Filling::Numbers("bf16"),
                    "u8" => Filling::Numbers("u8"),
                    _ => Filling::Numbers("f32"),
                },
            };
            (buffer, filling, bytes.unwrap_or(16).next_multiple_of(16).max(16))
        })
    }

    /// As the call's constants make it.
    fn dtype<'b>(&self, buffer: &'b Buffer) -> &'b str {
        buffer.dtype_in(&|name: &str| self.call.value(self.file, name))
    }

    /// Keys that a row may see, for `visible`.
    fn keys(&self) -> u64 {
        self.call.value(self.file, "keys").or_else(|| self.call.value(self.file, "queries")).unwrap_or(1)
    }

    fn mapped(&self) -> bool {
        self.entry.buffers.iter().any(|b| b.tensor_map.is_some())
    }

    fn what(&self, buffer: &Buffer) -> String {
        format!("[{}] {}, {}", buffer.shape.join(", "), self.dtype(buffer), buffer.access)
    }

    /// The first buffers that come out, with their dtype.
    fn results(&self) -> Vec<(&Buffer, &str)> {
        let written = self.entry.buffers.iter().zip(&self.call.operands).filter(|(b, bytes)| b.access != "read" && bytes.is_some());
        written.map(|(b, _)| (b, self.dtype(b))).collect()
    }

    // ── Rust ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// A vector of bytes for an operand.
    fn rust_bytes(&self, filling: &Filling, bytes: u64) -> String {
        match filling {
            Filling::Absent => "vec![0; 16]".into(),
            Filling::Zeros => format!("vec![0; {bytes}]"),
            Filling::Numbers("bf16") => format!("(0..{}).flat_map(|i| number(i).to_bits().to_le_bytes()[2..].to_vec()).collect::<Vec<u8>>()", bytes / 2),
            Filling::Numbers("u8") => format!("(0..{bytes}).map(|i| (i % 251) as u8).collect::<Vec<u8>>()"),
            Filling::Numbers(_) => format!("(0..{}).flat_map(|i| number(i).to_le_bytes()).collect::<Vec<u8>>()", bytes / 4),
            Filling::Intervals => format!("(0..{}).flat_map(|i| ((i % 2) * {}i32).to_le_bytes()).collect::<Vec<u8>>()", bytes / 4, self.keys()),
            Filling::Counting => format!("(0..{}i32).flat_map(i32::to_le_bytes).collect::<Vec<u8>>()", bytes / 4),
        }
    }

    fn rust_dims(&self) -> String {
        self.dims(|name, value, origin| format!("        {name}: {value}, // {origin}\n"))
    }

    fn rust_number(&self) -> &'static str {
        "\n/// Simple numbers for a first call: −0.5, −0.36, … 0.5, and again.\nfn number(i: usize) -> f32 {\n    (i * 3 % 8) as f32 / 7.0 - 0.5\n}\n"
    }

    fn rust_shown(&self, dtype: &str) -> &'static str {
        match dtype {
            "bf16" => "bytes.chunks_exact(2).take(4).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])).collect::<Vec<f32>>()",
            "i32" | "u32" => "bytes.chunks_exact(4).take(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<i32>>()",
            _ => "bytes.chunks_exact(4).take(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<f32>>()",
        }
    }

    fn wgpu(&self) -> String {
        let parameters: String = self.entry.buffers.iter().map(|b| format!("    {}: &wgpu::Buffer,\n", b.name)).collect();
        let arguments: String = self.entry.buffers.iter().map(|b| format!(", &{}", b.name)).collect();
        let made: String = self
            .buffers()
            .map(|(b, filling, bytes)| {
                let absent = if matches!(filling, Filling::Absent) { "not there: " } else { "" };
                format!("    let {} = buffer(&{}); // {absent}{}\n", b.name, self.rust_bytes(&filling, bytes), self.what(b))
            })
            .collect();
        let mut shown = String::new();
        for (b, dtype) in self.results() {
            let code = self.rust_shown(dtype);
            shown += &format!("    let bytes = read(&device, &queue, &{0})?;\n    println!(\"{0} begins {{:?}}\", {code});\n", b.name);
        }
        format!(
            r#"
{contract}
/// Records one launch into a pass. An engine makes pipeline, uniform and bind group once and keeps them.
fn launch(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    pass: &mut wgpu::ComputePass,
    dims: Dims,
{parameters}) {{
{body}}}
{number}
fn main() -> Result<(), Box<dyn std::error::Error>> {{
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    // The sizes of {from}, grid {groups}, workgroups of {block} threads.
    let dims = Dims {{
{dims}    }};
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let buffer = |bytes: &[u8]| {{
        let made = device.create_buffer(&wgpu::BufferDescriptor {{ label: None, size: bytes.len() as u64, usage, mapped_at_creation: false }});
        queue.write_buffer(&made, 0, bytes);
        made
    }};
{made}    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    launch(&device, &queue, &mut pass, dims{arguments});
    drop(pass);
    queue.submit([encoder.finish()]);
{shown}    Ok(())
}}

/// What is in a buffer, once everything before is done.
fn read(device: &wgpu::Device, queue: &wgpu::Queue, buffer: &wgpu::Buffer) -> Result<Vec<u8>, Box<dyn std::error::Error>> {{
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let back = device.create_buffer(&wgpu::BufferDescriptor {{ label: None, size: buffer.size(), usage, mapped_at_creation: false }});
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &back, 0, buffer.size());
    queue.submit([encoder.finish()]);
    back.slice(..).map_async(wgpu::MapMode::Read, |_| ());
    device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(back.slice(..).get_mapped_range()?.to_vec())
}}
"#,
            contract = self.contract,
            body = self.indented("    "),
            number = self.rust_number_if_used(&made),
            from = self.call.from,
            groups = self.call.groups,
            block = self.call.block,
            dims = self.rust_dims(),
        )
    }

    fn rust_number_if_used(&self, made: &str) -> &'static str {
        if made.contains("number(") { self.rust_number() } else { "" }
    }

    fn cudarc(&self) -> String {
        // The check's type of a map stands among the statements.
        let parameters: String = self
            .entry
            .buffers
            .iter()
            .map(|b| {
                let map = if b.tensor_map.is_some() { format!("    {}_map: Map,\n", b.name) } else { String::new() };
                let mutable = if b.access == "read" || b.tensor_map.is_some() { "&" } else { "&mut " };
                format!("    {}: {mutable}cudarc::driver::CudaSlice<u8>,\n{map}", b.name)
            })
            .collect();
        let mut statements = self.statements.clone();
        let mut types = String::new();
        // What is no statement stands before the function; operands are borrowed already.
        for line in ["use cudarc::driver::PushKernelArg;\n", "#[repr(transparent)]\n", "#[derive(Clone, Copy)]\n"] {
            if statements.contains(line) {
                types += line;
                statements = statements.replacen(line, "", 1);
            }
        }
        for start in ["struct Map(", "unsafe impl cudarc::driver::DeviceRepr for Map"] {
            let line = statements.lines().find(|line| line.starts_with(start)).map(|line| format!("{line}\n")).unwrap_or_default();
            types += &line;
            statements = statements.replacen(&line, "", 1);
        }
        for b in &self.entry.buffers {
            for borrow in ["&mut ", "&"] {
                statements = statements.replace(&format!(".arg({borrow}{})", b.name), &format!(".arg({})", b.name));
            }
        }
        let body: String = statements.lines().map(|line| format!("    {line}\n")).collect();
        let multiprocessors = if self.entry.grid.contains("multiprocessors") { "    multiprocessors: u64,\n" } else { "" };
        let main = if self.mapped() {
            "\nfn main() {\n    println!(\"this kernel takes tensor maps: self_test/cudarc encodes them (tensor_map) and calls it\");\n}\n".to_string()
        } else {
            self.cudarc_main(multiprocessors)
        };
        let allow = if self.mapped() { "#![allow(dead_code)] // main has no tensor maps\n" } else { "" };
        format!(
            "{allow}\n{types}\n{}\n/// Launches once. An engine loads the module once and keeps it.\nfn launch(\n    context: &std::sync::Arc<cudarc::driver::CudaContext>,\n    stream: &std::sync::Arc<cudarc::driver::CudaStream>,\n{multiprocessors}    dims: Dims,\n{parameters}) -> Result<(), Box<dyn std::error::Error>> {{\n{body}    Ok(())\n}}\n{main}",
            self.contract
        )
    }

    fn cudarc_main(&self, multiprocessors: &str) -> String {
        let multiprocessors = if multiprocessors.is_empty() { "" } else { ", 1" };
        let mut made = String::new();
        for (b, filling, bytes) in self.buffers() {
            let absent = if matches!(filling, Filling::Absent) { "not there: " } else { "" };
            let mutable = if b.access == "read" { "" } else { "mut " };
            made += &format!("    let {mutable}{} = stream.clone_htod(&{})?; // {absent}{}\n", b.name, self.rust_bytes(&filling, bytes), self.what(b));
        }
        let arguments: String = self.entry.buffers.iter().map(|b| format!(", {}{}", if b.access == "read" { "&" } else { "&mut " }, b.name)).collect();
        let mut shown = String::new();
        for (b, dtype) in self.results() {
            let code = self.rust_shown(dtype);
            shown += &format!("    let bytes = stream.clone_dtoh(&{0})?;\n    println!(\"{0} begins {{:?}}\", {code});\n", b.name);
        }
        format!(
            r#"{number}
fn main() -> Result<(), Box<dyn std::error::Error>> {{
    let context = cudarc::driver::CudaContext::new(0)?;
    let stream = context.default_stream();
    // The sizes of {from}: grid {groups}, block {block}, {shared} bytes of dynamic shared memory.
    let dims = Dims {{
{dims}    }};
{made}    launch(&context, &stream{multiprocessors}, dims{arguments})?;
{shown}    Ok(())
}}
"#,
            number = self.rust_number_if_used(&made),
            from = self.call.from,
            groups = self.call.groups,
            block = self.call.block,
            shared = self.call.shared,
            dims = self.rust_dims(),
        )
    }

    // ── JavaScript ───────────────────────────────────────────────────────────────────────────────────────────────────

    fn webgpu(&self) -> String {
        let names: Vec<&str> = self.entry.buffers.iter().map(|b| b.name.as_str()).collect();
        let mut made = String::new();
        for (b, filling, bytes) in self.buffers() {
            let data = match filling {
                Filling::Absent => "new Uint8Array(16)".to_string(),
                Filling::Zeros => format!("new Uint8Array({bytes})"),
                Filling::Numbers("bf16") => {
                    format!("Uint16Array.from({{ length: {} }}, (_, i) => new Uint32Array(Float32Array.of(number(i)).buffer)[0] >>> 16)", bytes / 2)
                }
                Filling::Numbers("u8") => format!("Uint8Array.from({{ length: {bytes} }}, (_, i) => i % 251)"),
                Filling::Numbers(_) => format!("Float32Array.from({{ length: {} }}, (_, i) => number(i))", bytes / 4),
                Filling::Intervals => format!("Int32Array.from({{ length: {} }}, (_, i) => (i % 2) * {})", bytes / 4, self.keys()),
                Filling::Counting => format!("Int32Array.from({{ length: {} }}, (_, i) => i)", bytes / 4),
            };
            let absent = if matches!(filling, Filling::Absent) { "not there: " } else { "" };
            made += &format!("    {}: buffer({data}), // {absent}{}\n", b.name, self.what(b));
        }
        let mut shown = String::new();
        for (b, dtype) in self.results() {
            let array = if matches!(dtype, "i32" | "u32") { "Int32Array" } else { "Float32Array" };
            shown += &format!("  said.push(`{0} begins ${{Array.from(new {array}(await read(device, operands.{0})).slice(0, 4)).join(' ')}}`);\n", b.name);
        }
        format!(
            r#"
{contract}
// Records one launch into a compute pass. An engine makes pipeline, uniform and bind group once and keeps them.
export async function launch(device, pass, dims, {{ {names} }}) {{
{body}}}

// Simple numbers for a first call: -0.5, -0.36, ... 0.5, and again.
const number = (i) => (i * 3 % 8) / 7 - 0.5;

// One call with the sizes of {from}, grid {groups}, workgroups of {block} threads; what comes out, as text.
export async function main() {{
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('this browser has no WebGPU');
  const device = await adapter.requestDevice();
  const dims = {{
{dims}  }};
  const buffer = (data) => {{
    const made = device.createBuffer({{ size: data.byteLength, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC }});
    device.queue.writeBuffer(made, 0, data);
    return made;
  }};
  const operands = {{
{made}  }};
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  await launch(device, pass, dims, operands);
  pass.end();
  device.queue.submit([encoder.finish()]);
  const said = [];
{shown}  return said.join('\n');
}}

// What is in a buffer, once everything before is done.
async function read(device, buffer) {{
  const back = device.createBuffer({{ size: buffer.size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }});
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, back, 0, buffer.size);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(GPUMapMode.READ);
  return back.getMappedRange().slice(0);
}}
"#,
            contract = self.contract,
            names = names.join(", "),
            body = self.indented("  "),
            from = self.call.from,
            groups = self.call.groups,
            block = self.call.block,
            dims = self.dims(|name, value, origin| format!("    {name}: {value}, // {origin}\n")),
        )
    }

    // ── Python ───────────────────────────────────────────────────────────────────────────────────────────────────────

    fn python(&self) -> String {
        // Imports and `must` come before the function.
        let at = self.statements.find("module = ").unwrap_or(0);
        let (before, statements) = self.statements.split_at(at);
        let body: String = statements.lines().map(|line| format!("    {line}\n")).collect();
        let unpacked: String = self.entry.buffers.iter().enumerate().map(|(i, b)| format!("    {0}, {0}_bytes = operands[{i}]\n", b.name)).collect();
        let maps: String = self.entry.buffers.iter().filter(|b| b.tensor_map.is_some()).map(|b| format!(", {}_map", b.name)).collect();
        let multiprocessors = if self.entry.grid.contains("multiprocessors") { ", multiprocessors" } else { "" };
        let main = if self.mapped() {
            "def main():\n    print(\"this kernel takes tensor maps: self_test/replay.py encodes them (tensor_map) and calls it\")\n".to_string()
        } else {
            self.python_main(multiprocessors)
        };
        format!(
            "import struct\n{contract}\n{before}\ndef launch(dims, operands{maps}{multiprocessors}):\n    \"\"\"Launches once; `operands`: address and bytes of each. An engine loads the module once and keeps it.\"\"\"\n{unpacked}{body}\n\n{main}\n\nif __name__ == \"__main__\":\n    main()\n",
            contract = self.contract
        )
    }

    fn python_main(&self, multiprocessors: &str) -> String {
        let multiprocessors = if multiprocessors.is_empty() { "" } else { ", 1" };
        let mut made = String::new();
        for (b, filling, bytes) in self.buffers() {
            let data = match filling {
                Filling::Absent => {
                    made += &format!("        (0, 0),  # {}: not there\n", b.name);
                    continue;
                }
                Filling::Zeros => format!("bytes({bytes})"),
                Filling::Numbers("bf16") => format!("b\"\".join(struct.pack(\"<f\", number(i))[2:] for i in range({}))", bytes / 2),
                Filling::Numbers("u8") => format!("bytes(i % 251 for i in range({bytes}))"),
                Filling::Numbers(_) => format!("struct.pack(\"<{0}f\", *map(number, range({0})))", bytes / 4),
                Filling::Intervals => format!("struct.pack(\"<{0}i\", *(i % 2 * {1} for i in range({0})))", bytes / 4, self.keys()),
                Filling::Counting => format!("struct.pack(\"<{0}i\", *range({0}))", bytes / 4),
            };
            made += &format!("        buffer({data}),  # {}: {}\n", b.name, self.what(b));
        }
        let mut shown = String::new();
        for (b, dtype) in self.results() {
            let place = self.entry.buffers.iter().position(|other| other.name == b.name).unwrap_or(0);
            let numbers = match dtype {
                "bf16" => "[struct.unpack(\"<f\", b\"\\0\\0\" + data[i:i + 2])[0] for i in range(0, min(8, len(data)), 2)]",
                "i32" | "u32" => "struct.unpack(\"<4i\", data[:16])",
                _ => "struct.unpack(\"<4f\", data[:16])",
            };
            shown += &format!(
                "    data = bytearray(operands[{place}][1])\n    must(driver.cuMemcpyDtoH(data, operands[{place}][0], len(data)))\n    data = bytes(data)\n    print(\"{} begins\", *{numbers})\n",
                b.name
            );
        }
        format!(
            r#"def number(i):
    """Simple numbers for a first call: -0.5, -0.36, ... 0.5, and again."""
    return i * 3 % 8 / 7 - 0.5


def main():
    must(driver.cuInit(0))
    device = must(driver.cuDeviceGet(0))
    must(driver.cuCtxSetCurrent(must(driver.cuDevicePrimaryCtxRetain(device))))

    def buffer(data):
        address = int(must(driver.cuMemAlloc(len(data))))
        must(driver.cuMemcpyHtoD(address, data, len(data)))
        return address, len(data)

    # The sizes of {from}: grid {groups}, block {block}, {shared} bytes of dynamic shared memory.
    dims = Dims(
{dims}    )
    operands = [
{made}    ]
    launch(dims, operands{multiprocessors})
    must(driver.cuCtxSynchronize())
{shown}"#,
            from = self.call.from,
            groups = self.call.groups,
            block = self.call.block,
            shared = self.call.shared,
            dims = self.dims(|name, value, origin| format!("        {name}={value},  # {origin}\n")),
        )
    }

    // ── C++ ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    fn cuda(&self) -> String {
        let parameters: String = self
            .entry
            .buffers
            .iter()
            .map(|b| {
                let map = if b.tensor_map.is_some() { format!(", const CUtensorMap& {}_map", b.name) } else { String::new() };
                format!(", [[maybe_unused]] Operand {}{map}", b.name)
            })
            .collect();
        let unpacked: String =
            self.entry.buffers.iter().map(|b| format!("    [[maybe_unused]] const std::uint64_t {0}_bytes = {0}.bytes;\n", b.name)).collect();
        let multiprocessors = if self.entry.grid.contains("multiprocessors") { ", std::uint64_t multiprocessors" } else { "" };
        let main = if self.mapped() {
            "int main() {\n    std::puts(\"this kernel takes tensor maps: self_test/cudarc encodes them (tensor_map) and calls it\");\n    return 0;\n}\n"
                .to_string()
        } else {
            self.cuda_main(multiprocessors)
        };
        let includes = "#include <cuda_runtime.h>\n#include <cstdio>\n#include <cstring>\n#include <vector>\n";
        format!(
            r#"{includes}#include "{file}"

{contract}
// Memory of the GPU, as any pointer that a kernel takes.
struct Operand {{
    void* address;
    std::uint64_t bytes;
    template <class T> operator T*() const {{ return static_cast<T*>(address); }}
}};

// Launches once.
void launch(const Dims& dims, cudaStream_t stream{parameters}{multiprocessors}) {{
{unpacked}{body}}}

{main}"#,
            file = self.file.file,
            contract = self.contract,
            body = self.indented("    "),
        )
    }

    fn cuda_main(&self, multiprocessors: &str) -> String {
        let multiprocessors = if multiprocessors.is_empty() { "" } else { ", 1" };
        let mut made = String::new();
        for (b, filling, bytes) in self.buffers() {
            let (name, what) = (&b.name, self.what(b));
            let loop_over = |count: u64, kind: &str, value: &str| {
                format!("    Operand {name} = buffer(filled<{kind}>({count}, [](std::size_t i) {{ return {kind}({value}); }})); // {what}\n")
            };
            made += &match filling {
                Filling::Absent => format!("    Operand {name}{{nullptr, 0}}; // not there\n"),
                Filling::Zeros => format!("    Operand {name} = buffer(std::vector<unsigned char>({bytes})); // {what}\n"),
                Filling::Numbers("bf16") => loop_over(bytes / 2, "std::uint16_t", "upper_half(number(i))"),
                Filling::Numbers("u8") => loop_over(bytes, "std::uint8_t", "i % 251"),
                Filling::Numbers(_) => loop_over(bytes / 4, "float", "number(i)"),
                Filling::Intervals => loop_over(bytes / 4, "int", &format!("i % 2 * {}", self.keys())),
                Filling::Counting => loop_over(bytes / 4, "int", "i"),
            };
        }
        let arguments: String = self.entry.buffers.iter().map(|b| format!(", {}", b.name)).collect();
        let mut shown = String::new();
        for (b, dtype) in self.results() {
            let print = match dtype {
                "bf16" => "as_float(value)",
                _ => "double(value)",
            };
            let kind = match dtype {
                "bf16" => "std::uint16_t",
                "i32" | "u32" => "int",
                _ => "float",
            };
            shown += &format!(
                "    std::printf(\"{0} begins\");\n    for (auto value : first<{kind}>({0})) std::printf(\" %g\", {print});\n    std::puts(\"\");\n",
                b.name
            );
        }
        format!(
            r#"// Simple numbers for a first call: -0.5, -0.36, ... 0.5, and again.
static float number(std::size_t i) {{ return float(i * 3 % 8) / 7.0f - 0.5f; }}

// A bf16 is the upper half of a float.
[[maybe_unused]] static std::uint16_t upper_half(float x) {{
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return std::uint16_t(bits >> 16);
}}

[[maybe_unused]] static double as_float(std::uint16_t half) {{
    const std::uint32_t bits = std::uint32_t(half) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}}

template <class T, class F> std::vector<T> filled(std::size_t count, F value) {{
    std::vector<T> all(count);
    for (std::size_t i = 0; i < count; ++i) all[i] = value(i);
    return all;
}}

template <class T> Operand buffer(const std::vector<T>& data) {{
    Operand made{{nullptr, data.size() * sizeof(T)}};
    cudaMalloc(&made.address, made.bytes);
    cudaMemcpy(made.address, data.data(), made.bytes, cudaMemcpyHostToDevice);
    return made;
}}

template <class T> std::vector<T> first(Operand from) {{
    std::vector<T> some(4 * sizeof(T) < from.bytes ? 4 : from.bytes / sizeof(T));
    cudaMemcpy(some.data(), from.address, some.size() * sizeof(T), cudaMemcpyDeviceToHost);
    return some;
}}

int main() {{
    // The sizes of {from}: grid {groups}, block {block}, {shared} bytes of dynamic shared memory.
    Dims dims{{}};
{dims}{made}    launch(dims, nullptr{arguments}{multiprocessors});
    if (cudaDeviceSynchronize() != cudaSuccess) return std::puts("the launch failed"), 1;
{shown}    return 0;
}}
"#,
            from = self.call.from,
            groups = self.call.groups,
            block = self.call.block,
            shared = self.call.shared,
            dims = self.dims(|name, value, origin| format!("    dims.{name} = {value}; // {origin}\n")),
        )
    }
}
