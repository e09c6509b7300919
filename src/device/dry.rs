//! A device that runs nothing: it keeps memory on the host and writes every launch down, for [`crate::golden`].
//!
//! An operation that launches on it shows what it would launch on a GPU of the same kind: kernels, constants, grids, buffers. What it
//! grants is the least that such a GPU has (WebGPU's default limits, CUDA's 48 KiB of static shared memory), so that what is
//! written down runs on all of them.

use super::ptx::{self, Compiled};
use super::shader::{Shader, with_constants};
use super::{Buffer, Hopper, Language, Launch, MapDim, View};
use crate::contract::wgsl;
use crate::dtype::DType;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Storage buffers that a shader may bind under WebGPU's default limits.
const MAX_STORAGE: usize = 8;

/// Writes launches down. See [`crate::device::Gpu::Dry`].
pub struct DryRecorder {
    language: Language,
    shared_bytes: usize,
    recording: Mutex<DryRecording>,
}

/// What was launched, in order, and on what.
#[derive(Default)]
pub(crate) struct DryRecording {
    pub buffers: Vec<Seen>,
    pub launches: Vec<Written>,
}

/// A buffer that a launch named.
pub(crate) struct Seen {
    memory: Arc<Memory>,
    /// As the kernel that first took it calls it.
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

/// One launch. Buffers are indices into [`DryRecording::buffers`].
pub(crate) struct Written {
    pub stem: &'static str,
    /// Of PTX the compiled one, with its variant's suffix.
    pub entry: String,
    /// The file in the repository.
    pub file: String,
    /// The file's text.
    pub text: &'static str,
    /// The text that a person wrote: the same, or the CUDA C++ that the PTX was compiled from.
    pub source: &'static str,
    /// `sm_80`, `sm_90a`; of WGSL `None`.
    pub architecture: Option<&'static str>,
    pub constants: Vec<(&'static str, u32)>,
    pub maps: Vec<WrittenMap>,
    pub buffers: Vec<Option<usize>>,
    pub dims: Vec<u8>,
    pub groups: usize,
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

/// A [`super::TensorMap`] of a launch.
pub(crate) struct WrittenMap {
    pub buffer: usize,
    pub dims: Vec<MapDim>,
}

/// Memory that no kernel ever writes: it holds what the host put there.
struct Memory {
    bytes: Mutex<Vec<u8>>,
    /// From the first launch on its contents would be a kernel's work, so that the host may not touch it.
    launched: AtomicBool,
}

/// A tensor's memory.
pub(crate) struct DryBuffer(Arc<Memory>);

impl DryRecorder {
    /// One for the kernels of a language, which grants the least that a GPU of it has.
    pub fn new(language: Language) -> Self {
        let least = match language {
            Language::Wgsl => 16 << 10,
            Language::Ptx => 48 << 10,
        };
        Self::with_shared_bytes(language, least)
    }

    /// One for a device on which the threads of a group share so much memory: what is launched may depend on it.
    pub fn with_shared_bytes(language: Language, shared_bytes: usize) -> Self {
        DryRecorder { language, shared_bytes, recording: Mutex::default() }
    }

    pub(super) fn language(&self) -> Language {
        self.language
    }

    pub(super) fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// The kernels that were launched since the last call, in order, each with its constants: `patch_embed.forward_tile TILE=32`.
    pub fn kernels(&self) -> Vec<String> {
        let with_constants = |launch: &Written| {
            let constants = launch.constants.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{}.{}{}", launch.stem, launch.entry, constants.collect::<String>())
        };
        self.take().launches.iter().map(with_constants).collect()
    }

    /// What was written down since the last call.
    pub(crate) fn take(&self) -> DryRecording {
        std::mem::take(&mut self.recording())
    }

    fn recording(&self) -> MutexGuard<'_, DryRecording> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn launch(&self, launch: Launch, hopper: Option<Hopper>) -> Result<()> {
        if launch.groups == 0 {
            return Ok(());
        }
        let written = match self.language {
            Language::Wgsl => self.shader(&launch)?,
            Language::Ptx => self.ptx(&launch, hopper.as_ref())?,
        };
        self.recording().launches.push(written);
        Ok(())
    }

    fn shader(&self, launch: &Launch) -> Result<Written> {
        let (stem, entry) = launch.kernel;
        let shader = Shader::find(stem).unwrap_or_else(|| panic!("no shader {stem}.wgsl"));
        let about = shader.entries.iter().find(|e| e.name == entry).unwrap_or_else(|| panic!("{stem}.wgsl has no entry {entry}"));
        let storage = about.bindings.len() - 1;
        assert!(storage == launch.buffers.len() && storage <= MAX_STORAGE, "{stem}.{entry} binds {storage} buffers, the launcher {}", launch.buffers.len());
        with_constants(stem, shader.source, launch.constants)?;
        let name = |i: usize| about.bindings[i].name;
        Ok(Written {
            stem,
            entry: entry.into(),
            file: format!("shaders/{stem}.wgsl"),
            text: shader.source,
            source: shader.source,
            architecture: None,
            constants: launch.constants.to_vec(),
            maps: Vec::new(),
            buffers: self.see_all(stem, launch, 0, name)?,
            dims: launch.dims.to_vec(),
            groups: launch.groups,
            block: wgsl::workgroup_size(shader.source, entry, launch.constants).expect("tests/kernel_headers.rs holds it to naga's") as u32,
            shared: 0,
        })
    }

    fn ptx(&self, launch: &Launch, hopper: Option<&Hopper>) -> Result<Written> {
        let (stem, _) = launch.kernel;
        let compiled = Compiled::of(launch, hopper);
        let module = ptx::module(compiled);
        let signature = module.check(launch, hopper)?;
        let named = module.contract.entry(&signature.name).map_or(&[][..], |e| &e.buffers);
        let name = |i: usize| named.get(i).map_or("buffer", |b| b.name.as_str());
        let (maps, shared) = hopper.map_or((&[][..], 0), |h| (h.maps, h.shared));
        let see_map = |(i, map): (usize, &super::TensorMap)| Ok(WrittenMap { buffer: self.see(stem, map.tensor, name(i))?, dims: map.dims.to_vec() });
        Ok(Written {
            stem,
            entry: signature.name.clone(),
            file: compiled.file.into(),
            text: compiled.text(),
            source: compiled.source,
            architecture: Some(compiled.architecture),
            constants: Vec::new(),
            maps: maps.iter().enumerate().map(see_map).collect::<Result<_>>()?,
            buffers: self.see_all(stem, launch, maps.len(), name)?,
            dims: launch.dims.to_vec(),
            groups: launch.groups,
            block: signature.threads,
            shared,
        })
    }

    /// The launch's buffers, whose names begin at number `first`.
    fn see_all<'n>(&self, stem: &'static str, launch: &Launch, first: usize, name: impl Fn(usize) -> &'n str) -> Result<Vec<Option<usize>>> {
        let see = |(i, tensor): (usize, &Option<View>)| tensor.map(|tensor| self.see(stem, tensor, name(first + i))).transpose();
        launch.buffers.iter().enumerate().map(see).collect()
    }

    /// The number of a tensor's buffer, which belongs to a kernel from now on.
    fn see(&self, stem: &'static str, tensor: View, name: &str) -> Result<usize> {
        let Buffer::Dry(DryBuffer(memory)) = tensor.buffer else {
            return Err(Error::mismatch(stem, "a buffer", "a tensor on the recorder of launches", format!("one on {}", tensor.device)));
        };
        memory.launched.store(true, Ordering::Relaxed);
        let buffers = &mut self.recording().buffers;
        Ok(buffers.iter().position(|seen| Arc::ptr_eq(&seen.memory, memory)).unwrap_or_else(|| {
            buffers.push(Seen { memory: memory.clone(), name: name.into(), dtype: tensor.dtype, shape: tensor.shape.dims().to_vec() });
            buffers.len() - 1
        }))
    }
}

impl Seen {
    /// Whether this is the tensor's.
    pub(crate) fn is(&self, tensor: View) -> bool {
        matches!(tensor.buffer, Buffer::Dry(DryBuffer(memory)) if Arc::ptr_eq(memory, &self.memory))
    }

    /// What it held before the first launch.
    pub fn before(&self) -> Vec<u8> {
        self.memory.bytes().clone()
    }
}

impl Memory {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its bytes for the host, unless they belong to a kernel by now.
    fn of_host(&self, doing: &str) -> Result<MutexGuard<'_, Vec<u8>>> {
        if self.launched.load(Ordering::Relaxed) {
            let what = format!("{doing} a tensor that a launch has named: launches are written down here, none has run");
            return Err(Error::Device { device: "a recorder of launches".into(), what });
        }
        Ok(self.bytes())
    }
}

impl DryBuffer {
    pub(crate) fn zeros(elements: usize, dtype: DType) -> Result<Self> {
        let size = elements * dtype.size();
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(size).is_err() {
            let device = "a recorder of launches".into();
            return Err(Error::OutOfMemory { device, what: format!("a tensor of {elements} {dtype}"), asked: size as u64, free: None });
        }
        bytes.resize(size, 0);
        Ok(DryBuffer(Arc::new(Memory { bytes: Mutex::new(bytes), launched: AtomicBool::new(false) })))
    }

    pub(crate) fn upload(&self, bytes: &[u8]) -> Result<()> {
        self.0.of_host("writing to")?[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn download(&self, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&self.0.of_host("reading")?[..bytes.len()]);
        Ok(())
    }

    pub(crate) fn clear(&self) -> Result<()> {
        self.0.of_host("clearing")?.fill(0);
        Ok(())
    }

    pub(crate) fn copy_from(&self, from: &DryBuffer, bytes: usize) -> Result<()> {
        let data = from.0.of_host("copying")?[..bytes].to_vec();
        self.upload(&data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, Gpu};
    use crate::ops::swiglu;
    use crate::tensor::Tensor;

    #[test]
    fn a_call_becomes_its_launch_and_runs_nowhere() {
        for (language, entry, groups) in [(Language::Wgsl, "forward", 1), (Language::Ptx, "forward", 1)] {
            let recorder = Arc::new(DryRecorder::new(language));
            let device = Device::Gpu(Gpu::Dry(recorder.clone()));
            let gate = Tensor::from_slice(&device, [3, 5], &[2f32; 15]).unwrap();
            let up = Tensor::from_slice(&device, [3, 5], &[3f32; 15]).unwrap();
            let mut y = Tensor::zeros(&device, [3, 5], DType::F32).unwrap();
            swiglu::forward(&gate, &up, &mut y).unwrap();
            let DryRecording { buffers, launches } = recorder.take();
            let [launch] = &launches[..] else { panic!("{} launches", launches.len()) };
            assert_eq!((launch.stem, launch.entry.as_str(), launch.groups), ("swiglu", entry, groups));
            assert_eq!(launch.buffers, [Some(0), Some(1), Some(2)]);
            assert!(buffers[0].is(gate.view()) && buffers[2].is(y.view()) && !buffers[2].is(up.view()));
            assert_eq!(buffers[1].before(), bytemuck::cast_slice::<f32, u8>(&[3.0; 15]));
            // What a kernel would have written is not there, and reading it is an error.
            assert!(y.read::<f32>().unwrap_err().to_string().contains("none has run"));
            assert!(y.fill_zero().is_err());
            assert!(recorder.take().launches.is_empty());
        }
    }

    #[test]
    fn a_tensor_of_another_device_is_refused() {
        let devices = [Language::Wgsl, Language::Ptx].map(|language| Device::Gpu(Gpu::Dry(Arc::new(DryRecorder::new(language)))));
        let [a, b] = devices.each_ref().map(|device| Tensor::zeros(device, [4], DType::F32).unwrap());
        let mut y = Tensor::zeros(&devices[0], [4], DType::F32).unwrap();
        assert!(swiglu::forward(&a, &b, &mut y).is_err());
    }
}
