//! Turns launches into dispatches of one compute pass, with cached pipelines, bind groups and `Dims` uniforms.

use super::stopwatch::Stopwatch;
use super::{Access, Context, Entry, Shader};
use crate::device::shader::with_constants;
use crate::device::{Buffer, Launch, View};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Launches after which the pass is submitted even if nobody asks: it keeps the GPU busy and stays below the limits of watchdogs.
pub(super) const FLUSH_AFTER: usize = 1024;

/// Distinct `Dims` that one stretch of launches may use before the arena starts over.
const SLOTS: usize = 4096;
/// WebGPU's alignment of dynamic uniform offsets, and our bound on the size of a `Dims`.
const SLOT_BYTES: usize = 256;
/// Storage buffers that one of our kernels may bind: WebGPU's default limit.
const MAX_STORAGE: usize = 8;

struct Pipeline {
    raw: ::wgpu::ComputePipeline,
    layout: ::wgpu::BindGroupLayout,
    entry: &'static Entry,
    id: u32,
}

type PipelineKey = (&'static str, &'static str, Vec<(&'static str, u32)>);
/// The pipeline's number and the buffers' ids; `u64::MAX` for an absent operand.
type BindKey = (u32, [u64; MAX_STORAGE]);

pub(super) struct LaunchRecorder {
    // The pass borrows nothing (`forget_lifetime`) but must end before its encoder is used again: see `encoder()`.
    pass: Option<::wgpu::ComputePass<'static>>,
    encoder: Option<::wgpu::CommandEncoder>,
    recorded: usize,
    pipelines: HashMap<PipelineKey, Arc<Pipeline>>,
    bind_groups: HashMap<BindKey, ::wgpu::BindGroup>,
    arena: ::wgpu::Buffer,
    slots: HashMap<Vec<u8>, u32>,
    staged: Vec<u8>,
    /// Slots of `staged` that the queue already has.
    written: usize,
    absent: Vec<::wgpu::Buffer>,
    /// While the benchmark or a trace measures.
    pub(super) stopwatch: Option<Stopwatch>,
}

impl LaunchRecorder {
    pub(super) fn new(device: &::wgpu::Device) -> Self {
        let buffer = |label, size, usage| device.create_buffer(&::wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false });
        LaunchRecorder {
            pass: None,
            encoder: None,
            recorded: 0,
            pipelines: HashMap::new(),
            bind_groups: HashMap::new(),
            arena: buffer("dims", (SLOTS * SLOT_BYTES) as u64, ::wgpu::BufferUsages::UNIFORM | ::wgpu::BufferUsages::COPY_DST),
            slots: HashMap::new(),
            staged: Vec::new(),
            written: 0,
            // One per binding: two writable bindings must not name one buffer.
            absent: (0..MAX_STORAGE).map(|_| buffer("absent", 256, ::wgpu::BufferUsages::STORAGE)).collect(),
            stopwatch: None,
        }
    }

    /// The encoder, outside of any pass.
    pub(super) fn encoder(&mut self, device: &::wgpu::Device) -> &mut ::wgpu::CommandEncoder {
        self.pass = None;
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    /// Submits what was recorded, if anything.
    pub(super) fn flush(&mut self, gpu: &Context) {
        self.pass = None;
        let Some(encoder) = self.encoder.take() else { return };
        let from = self.written * SLOT_BYTES;
        if from < self.staged.len() {
            gpu.queue.write_buffer(&self.arena, from as u64, &self.staged[from..]);
            self.written = self.staged.len() / SLOT_BYTES;
        }
        gpu.queue.submit([encoder.finish()]);
        self.recorded = 0;
    }

    /// Drops the bind groups that name a buffer that is being freed.
    pub(super) fn forget(&mut self, buffer: u64) {
        self.bind_groups.retain(|(_, buffers), _| !buffers.contains(&buffer));
    }

    pub(super) fn launch(&mut self, gpu: &Context, launch: Launch) -> Result<()> {
        if launch.groups == 0 {
            return Ok(());
        }
        let (x, y) = split(launch.groups, gpu.device.limits().max_compute_workgroups_per_dimension as usize).ok_or_else(|| Error::TooLarge {
            what: format!("workgroups of {}", launch.kernel.0),
            size: launch.groups as u128,
            limit: 65_535 * 65_535,
        })?;
        let pipeline = self.pipeline(gpu, launch.kernel, launch.constants)?;
        let offset = self.slot(gpu, launch.dims);
        let key = bind_key(gpu, &pipeline, launch.kernel.0, launch.buffers)?;
        if !self.bind_groups.contains_key(&key) {
            let group = self.bind_group(gpu, &pipeline, launch.buffers);
            self.bind_groups.insert(key, group);
        }
        if self.pass.is_none() {
            let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
            let timestamp_writes = self.stopwatch.as_mut().and_then(Stopwatch::next);
            self.pass = Some(encoder.begin_compute_pass(&::wgpu::ComputePassDescriptor { label: None, timestamp_writes }).forget_lifetime());
        }
        let pass = self.pass.as_mut().expect("just begun");
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, &self.bind_groups[&key], &[offset]);
        pass.dispatch_workgroups(x, y, 1);
        if self.stopwatch.as_ref().is_some_and(Stopwatch::each) {
            self.pass = None;
        }
        self.recorded += 1;
        if self.recorded >= FLUSH_AFTER {
            self.flush(gpu);
        }
        Ok(())
    }

    fn pipeline(&mut self, gpu: &Context, (stem, name): (&'static str, &'static str), constants: &[(&'static str, u32)]) -> Result<Arc<Pipeline>> {
        let key = (stem, name, constants.to_vec());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let shader = Shader::find(stem).unwrap_or_else(|| panic!("no shader {stem}.wgsl in the kernel table"));
        let entry = shader.entries.iter().find(|e| e.name == name).unwrap_or_else(|| panic!("{stem}.wgsl has no entry {name}"));
        let replaced = gpu.options.replaced.as_ref().filter(|replaced| replaced.stem == stem);
        let source = with_constants(stem, replaced.map_or(shader.source, |replaced| &replaced.source), constants)?;
        let label = format!("{stem}.{name}");
        let descriptor = ::wgpu::ShaderModuleDescriptor { label: Some(&label), source: ::wgpu::ShaderSource::Wgsl(source.into()) };
        let module = if gpu.options.bounds_checks || replaced.is_some() {
            gpu.device.create_shader_module(descriptor)
        } else {
            // SAFETY: the source is one of this crate's shaders, never the user's. `trimodal check` runs every entry on
            // every case with poisoned redzones inside its bindings, which shows that they neither read nor write past
            // their tensors; their loops are bounded by `Dims` that the launchers check.
            unsafe { gpu.device.create_shader_module_trusted(descriptor, ::wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let entries: Vec<_> = entry
            .bindings
            .iter()
            .enumerate()
            .map(|(i, b)| ::wgpu::BindGroupLayoutEntry {
                binding: i as u32,
                visibility: ::wgpu::ShaderStages::COMPUTE,
                ty: ::wgpu::BindingType::Buffer {
                    ty: match b.access {
                        Access::Uniform => ::wgpu::BufferBindingType::Uniform,
                        access => ::wgpu::BufferBindingType::Storage { read_only: access == Access::Read },
                    },
                    has_dynamic_offset: b.access == Access::Uniform,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = gpu.device.create_bind_group_layout(&::wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
        let pipeline_layout = gpu.device.create_pipeline_layout(&::wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let raw = gpu.device.create_compute_pipeline(&::wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(name),
            // Our kernels write every workgroup byte before they read it.
            compilation_options: ::wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
            cache: None,
        });
        let pipeline = Arc::new(Pipeline { raw, layout, entry, id: self.pipelines.len() as u32 });
        self.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// The dynamic offset of these `Dims` in the arena.
    fn slot(&mut self, gpu: &Context, dims: &[u8]) -> u32 {
        assert!(dims.len() <= SLOT_BYTES, "Dims of {} bytes", dims.len());
        if let Some(&slot) = self.slots.get(dims) {
            return slot * SLOT_BYTES as u32;
        }
        if self.slots.len() == SLOTS {
            // The queue orders this submission before the writes that reuse the slots.
            self.flush(gpu);
            self.slots.clear();
            self.staged.clear();
            self.written = 0;
        }
        let slot = self.slots.len() as u32;
        self.staged.extend_from_slice(dims);
        self.staged.resize((slot as usize + 1) * SLOT_BYTES, 0);
        self.slots.insert(dims.to_vec(), slot);
        slot * SLOT_BYTES as u32
    }

    fn bind_group(&self, gpu: &Context, pipeline: &Pipeline, buffers: &[Option<View>]) -> ::wgpu::BindGroup {
        let mut entries: Vec<_> = buffers
            .iter()
            .enumerate()
            .map(|(i, tensor)| ::wgpu::BindGroupEntry {
                binding: i as u32,
                resource: match tensor.map(|t| t.buffer) {
                    Some(Buffer::Wgpu(buffer)) => buffer.raw.as_entire_binding(),
                    _ => self.absent[i].as_entire_binding(),
                },
            })
            .collect();
        entries.push(::wgpu::BindGroupEntry {
            binding: buffers.len() as u32,
            resource: ::wgpu::BindingResource::Buffer(::wgpu::BufferBinding {
                buffer: &self.arena,
                offset: 0,
                size: std::num::NonZeroU64::new(SLOT_BYTES as u64),
            }),
        });
        gpu.device.create_bind_group(&::wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries })
    }
}

/// Checks the buffers against the entry's bindings and returns their cache key.
fn bind_key(gpu: &Context, pipeline: &Pipeline, op: &'static str, buffers: &[Option<View>]) -> Result<BindKey> {
    let bindings = pipeline.entry.bindings;
    let expected = bindings.len() - 1;
    assert!(
        buffers.len() == expected && expected <= MAX_STORAGE && bindings[expected].access == Access::Uniform,
        "{op}.{}: the launcher binds {} buffers, the shader has {bindings:?}",
        pipeline.entry.name,
        buffers.len(),
    );
    let mut ids = [u64::MAX; MAX_STORAGE];
    for ((id, tensor), binding) in ids.iter_mut().zip(buffers).zip(bindings) {
        match tensor.map(|t| t.buffer) {
            None => {}
            Some(Buffer::Wgpu(buffer)) if std::ptr::eq(buffer.gpu(), gpu) => *id = buffer.id,
            Some(_) => {
                let found = tensor.map(|t| t.device.to_string()).unwrap_or_default();
                return Err(Error::mismatch(op, binding.name, format!("a tensor on wgpu ({})", gpu.name()), format!("one on {found}")));
            }
        }
    }
    Ok((pipeline.id, ids))
}

/// `groups` as a grid of at most `limit` by `limit`, with as few surplus groups as rows.
fn split(groups: usize, limit: usize) -> Option<(u32, u32)> {
    let y = groups.div_ceil(limit);
    let x = groups.div_ceil(y);
    (y <= limit).then_some((x as u32, y as u32))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn grids_split_beyond_the_limit() {
        assert_eq!(split(1, 65_535), Some((1, 1)));
        assert_eq!(split(65_535, 65_535), Some((65_535, 1)));
        assert_eq!(split(65_536, 65_535), Some((32_768, 2)));
        let (x, y) = split(1_000_003, 65_535).unwrap();
        assert!(x as usize * y as usize >= 1_000_003 && x <= 65_535);
        assert_eq!(split(65_535 * 65_535 + 1, 65_535), None);
    }
}
