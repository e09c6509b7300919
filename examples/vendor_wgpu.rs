//! A copied shader in somebody else's engine: plain wgpu, nothing of trimodal but the files that `trimodal vendor` copied.
//!
//!     trimodal vendor rms_norm --lang wgsl --to vendored && cargo run --example vendor_wgpu -- vendored
//!     trimodal golden vectors --lang wgsl && cargo run --example vendor_wgpu -- . vectors        (every shader of this repository)
//!
//! Replays every golden vector in the folder's `golden/` (or the second folder) and compares each element with what is expected. Exit
//! code 0: all are right; 1: one is not, or none ran; 77: there is no GPU, nothing was run. In a debug build (or with
//! CONTRACT set) every launch is first checked against the contract in `kernels.json`: grid and buffers are compared with what the `Dims` require.

use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::HashMap;
use std::{error::Error, fs, path::Path, process::exit};
use wgpu::BufferUsages as Usage;

mod vendored;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, golden @ ..] = &arguments[..] else { return Err("usage: vendor_wgpu FOLDER [GOLDEN]".into()) };
    let (root, golden) = (Path::new(root), golden.first().map_or(Path::new(root).join("golden"), Into::into));
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let Ok(adapter) = pollster::block_on(instance.request_adapter(&Default::default())) else {
        eprintln!("no GPU and no software driver that wgpu finds: nothing was run");
        exit(77);
    };
    // WebGPU's default limits: what every browser grants.
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let manifest = vendored::manifest(root)?;
    let index: Value = serde_json::from_slice(&fs::read(golden.join("golden.json"))?)?;
    let (mut ran, mut wrong, mut known) = (0, 0, HashMap::new());
    for case in index["cases"].as_array().ok_or("golden.json has no cases")? {
        let file = case["file"].as_str().ok_or("a case without a file")?;
        let outcome = replay(&device, &queue, root, &manifest, &fs::read(golden.join(file))?, &mut known).map_err(|e| format!("{file}: {e}"))?;
        ran += 1;
        if let Err(what) = outcome {
            wrong += 1;
            eprintln!("WRONG {file} ({}): {what}", case["label"].as_str().unwrap_or_default());
        }
    }
    println!("{} of {ran} golden vectors are right on {}", ran - wrong, adapter.get_info().name);
    exit((wrong > 0 || ran == 0) as i32)
}

/// Launches what a vector says. The outer error: the vector is damaged. The inner one: the first element that is wrong.
fn replay(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    root: &Path,
    manifest: &Option<Value>,
    vector: &[u8],
    known: &mut HashMap<String, wgpu::ComputePipeline>,
) -> Result<Result<(), String>, Box<dyn Error>> {
    let (_, header) = SafeTensors::read_metadata(vector)?;
    let about: Value = serde_json::from_str(header.metadata().as_ref().and_then(|m| m.get("trimodal")).ok_or("no entry `trimodal`")?)?;
    let tensors = SafeTensors::deserialize(vector)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let create = |bytes: u64, usage| device.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false });
    // Whole words, at least a vec4.
    let size = |buffer: &Value| buffer["bytes"].as_u64().unwrap_or(0).next_multiple_of(16).max(16);
    let write = |buffer: &wgpu::Buffer, bytes: &[u8]| {
        let mut words = bytes.to_vec();
        words.resize(bytes.len().next_multiple_of(4), 0);
        queue.write_buffer(buffer, 0, &words);
    };

    let mut buffers = Vec::new();
    for described in list(&about["buffers"]) {
        let buffer = create(size(&described), Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC); // zeros
        if let Ok(before) = tensors.tensor(&format!("before.{}", text(&described["name"]))) {
            write(&buffer, before.data());
        }
        buffers.push(buffer);
    }
    let mut encoder = device.create_command_encoder(&Default::default());
    for launch in list(&about["launches"]) {
        if let Some(manifest) = manifest {
            vendored::contract::check(manifest, &launch, &about["buffers"])?;
        }
        let file = text(&launch["file"]);
        let mut source = fs::read_to_string(root.join(&file))?;
        for (name, value) in launch["constants"].as_object().into_iter().flatten() {
            let line = format!("const {name}: u32 = ");
            let (before, after) = source.split_once(&line).ok_or(format!("{file} has no line `{line}`"))?;
            source = format!("{before}{line}{value}u{}", &after[after.find(';').ok_or("a line without `;`")?..]);
        }
        let dims = text(&launch["dims_hex"]);
        let dims = (0..dims.len()).step_by(2).map(|i| u8::from_str_radix(&dims[i..i + 2], 16)).collect::<Result<Vec<u8>, _>>()?;
        let uniform = create(dims.len() as u64, Usage::UNIFORM | Usage::COPY_DST);
        write(&uniform, &dims);
        let pipeline = known.entry(format!("{file} {} {}", launch["entry"], launch["constants"])).or_insert_with(|| {
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(&file), source: wgpu::ShaderSource::Wgsl(source.into()) });
            let (entry_point, compilation_options) = (launch["entry"].as_str(), Default::default());
            let about = wgpu::ComputePipelineDescriptor { label: Some(&file), layout: None, module: &module, entry_point, compilation_options, cache: None };
            device.create_compute_pipeline(&about)
        });
        // An absent operand is a few zeros of its own.
        let given = list(&launch["buffers"]);
        let absent: Vec<_> = given.iter().map(|_| create(16, Usage::STORAGE)).collect();
        let bound = given.iter().zip(&absent).map(|(number, absent)| number.as_u64().map_or(absent, |number| &buffers[number as usize])).chain([&uniform]);
        let entries: Vec<_> = bound.enumerate().map(|(i, b)| wgpu::BindGroupEntry { binding: i as u32, resource: b.as_entire_binding() }).collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &group, &[]);
        // The shader numbers its groups x + y · num_workgroups.x and stops at its own bound.
        let groups = launch["groups"].as_u64().ok_or("a launch without groups")? as u32;
        let x = groups.min(65_535);
        pass.dispatch_workgroups(x, groups.div_ceil(x), 1);
    }
    let mut results = Vec::new();
    for compare in list(&about["compare"]) {
        let number = compare["buffer"].as_u64().ok_or("nothing to compare")? as usize;
        let back = create(buffers[number].size(), Usage::MAP_READ | Usage::COPY_DST);
        encoder.copy_buffer_to_buffer(&buffers[number], 0, &back, 0, back.size());
        results.push((compare, about["buffers"][number].clone(), back));
    }
    queue.submit([encoder.finish()]);
    results.iter().for_each(|(_, _, back)| back.slice(..).map_async(wgpu::MapMode::Read, |_| ()));
    device.poll(wgpu::PollType::wait_indefinitely())?;
    for (compare, described, back) in &results {
        if let Some(what) = vendored::wrong(&tensors, described, compare, &back.slice(..).get_mapped_range()?)? {
            return Ok(Err(what));
        }
    }
    Ok(Ok(()))
}
