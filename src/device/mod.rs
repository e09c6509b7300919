//! Where tensors live and kernels run.
//!
//! [`Device`] is a closed enum: the CPU, or a [`Gpu`] of one of four kinds. Operations `match` on it without a wildcard, so
//! that a device that an operation does not serve does not compile. A GPU takes a [`Launch`]: the WGSL and the CUDA twin of a
//! kernel have the same entries, buffers and `Dims`, and the emulator takes what CUDA takes.

#[doc(hidden)]
pub mod alloc_limit;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg_attr(not(feature = "cli"), allow(dead_code))] // golden vectors are made with it
pub mod dry;
#[cfg(feature = "emulator")]
pub mod emulator;
mod gpu;
mod launch;
mod memory;
pub(crate) mod name;
pub mod ptx;
pub mod shader;
mod tensor_map;
mod view;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub(crate) use alloc_limit::Held;
pub use gpu::Gpu;
pub use launch::Language;
pub(crate) use launch::{Hopper, Launch, variant};
pub(crate) use tensor_map::{MapDim, TensorMap};
pub(crate) use view::View;

use crate::dtype::DType;
use crate::error::{Error, Result};
use std::fmt;
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "emulator"))]
use std::sync::Arc;

/// A place where tensors live and kernels run. Cheap to clone.
#[derive(Clone)]
pub enum Device {
    /// The host's cores: f32 for work, f64 as the oracle for everything else.
    Cpu,
    /// Whatever runs our kernels.
    Gpu(Gpu),
}

/// A tensor's memory on its device.
pub(crate) enum Buffer {
    Cpu(cpu::CpuBuffer),
    #[cfg(feature = "wgpu")]
    Wgpu(wgpu::WgpuBuffer),
    #[cfg(feature = "cuda")]
    Cuda(cuda::CudaBuffer),
    #[cfg(feature = "emulator")]
    Emulator(emulator::EmulatorBuffer),
    Dry(dry::DryBuffer),
}

/// Launches that were recorded, to be launched again as one. See [`Device::record`].
pub(crate) enum Graph {
    #[cfg(feature = "cuda")]
    Cuda(cuda::Graph),
}

impl Graph {
    /// Launches all of it, after what was launched before.
    pub(crate) fn launch(&self) -> Result<()> {
        match *self {
            #[cfg(feature = "cuda")]
            Graph::Cuda(ref graph) => graph.launch(),
        }
    }
}

/// The names that [`Device::open`] knows.
pub const DEVICE_NAMES: &[&str] = &["auto", "cpu", "wgpu", "cuda", "emulator"];

impl Device {
    /// Opens a device by name: `auto` (an NVIDIA GPU, else another GPU, else the CPU; never a software driver or the emulator),
    /// `cpu`, `wgpu`, `cuda` or `emulator`. `adapter`: part of the name of the wgpu adapter to take, in any case.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name, [`Error::Device`] where this machine does not have the device.
    pub fn open(name: &str, adapter: Option<&str>) -> Result<Device> {
        if adapter.is_some() && !matches!(name, "wgpu" | "auto") {
            return Err(Error::Usage(format!("--adapter chooses a wgpu adapter, and --device is {name}: leave one of them out, or give --device wgpu")));
        }
        match name {
            "cpu" => Ok(Device::Cpu),
            "wgpu" => Self::open_wgpu(adapter),
            "cuda" => Self::open_cuda(),
            "emulator" => Self::open_emulator(),
            "auto" => match adapter {
                Some(_) => Self::open_wgpu(adapter),
                None => Self::automatic(),
            },
            _ => Err(Error::Usage(format!("unknown device {name:?}: expected one of {}", DEVICE_NAMES.join(", ")))),
        }
    }

    #[cfg(feature = "wgpu")]
    fn open_wgpu(adapter: Option<&str>) -> Result<Device> {
        Ok(Device::Gpu(Gpu::Wgpu(Arc::new(wgpu::Context::open(adapter, wgpu::ContextOptions::default())?))))
    }

    #[cfg(not(feature = "wgpu"))]
    fn open_wgpu(_: Option<&str>) -> Result<Device> {
        Err(Error::Device { device: "wgpu".into(), what: "this build leaves it out: build with --features wgpu".into() })
    }

    #[cfg(feature = "cuda")]
    fn open_cuda() -> Result<Device> {
        Ok(Device::Gpu(Gpu::Cuda(Arc::new(cuda::Context::open()?))))
    }

    #[cfg(not(feature = "cuda"))]
    fn open_cuda() -> Result<Device> {
        Err(Error::Device { device: "cuda".into(), what: "this build leaves it out: build with --features cuda".into() })
    }

    #[cfg(feature = "emulator")]
    fn open_emulator() -> Result<Device> {
        Ok(Device::Gpu(Gpu::Emulator(Arc::new(emulator::Machine::new()))))
    }

    #[cfg(not(feature = "emulator"))]
    fn open_emulator() -> Result<Device> {
        Err(Error::Device { device: "emulator".into(), what: "this build leaves it out: build with --features emulator".into() })
    }

    fn automatic() -> Result<Device> {
        #[cfg(feature = "cuda")]
        if let Ok(context) = cuda::Context::open() {
            return Ok(Device::Gpu(Gpu::Cuda(Arc::new(context))));
        }
        #[cfg(feature = "wgpu")]
        if let Some(found) = wgpu::adapters().iter().find(|a| a.is_hardware()) {
            return Ok(Device::Gpu(Gpu::Wgpu(Arc::new(wgpu::Context::open_listed(found, wgpu::ContextOptions::default())?))));
        }
        Ok(Device::Cpu)
    }

    /// Waits until everything that was launched has run, and reports errors that happened meanwhile.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Gpu(gpu) => gpu.synchronize(),
        }
    }

    /// Whether both are the same device.
    pub fn same(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Cpu, Device::Cpu) => true,
            (Device::Gpu(a), Device::Gpu(b)) => a.same(b),
            (Device::Cpu, Device::Gpu(_)) | (Device::Gpu(_), Device::Cpu) => false,
        }
    }

    /// Whether it is the emulator: slow, and every access is checked.
    pub fn is_emulator(&self) -> bool {
        match self {
            #[cfg(feature = "emulator")]
            Device::Gpu(Gpu::Emulator(_)) => true,
            Device::Cpu | Device::Gpu(_) => false,
        }
    }

    /// Whether activations and weights may be bf16 here: the PTX kernels have both variants, the others compute in f32.
    pub fn has_bf16(&self) -> bool {
        match self {
            Device::Cpu => false,
            Device::Gpu(gpu) => gpu.language() == Language::Ptx,
        }
    }

    /// Whether a tensor may be a part of another one's memory: where kernels take addresses. (A WGSL binding is a whole buffer.)
    pub(crate) fn has_parts(&self) -> bool {
        self.has_graphs() // both are CUDA's
    }

    /// Whether [`Device::record`] works here.
    pub(crate) fn has_graphs(&self) -> bool {
        match self {
            #[cfg(feature = "cuda")]
            Device::Gpu(Gpu::Cuda(_)) => true,
            Device::Cpu | Device::Gpu(_) => false,
        }
    }

    /// Records what `launch` launches and clears, none of which runs before [`Graph::launch`]. It must not wait for the device,
    /// upload, copy or allocate, and every kernel in it has been launched before.
    ///
    /// # Errors
    /// [`Error::Device`] where the device does not record; those of `launch`. The device is then as it was.
    pub(crate) fn record(&self, launch: impl FnOnce() -> Result<()>) -> Result<Graph> {
        match self {
            #[cfg(feature = "cuda")]
            Device::Gpu(Gpu::Cuda(context)) => context.record(launch).map(Graph::Cuda),
            Device::Cpu | Device::Gpu(_) => {
                drop(launch);
                Err(Error::Device { device: self.to_string(), what: "launches are not recorded here".into() })
            }
        }
    }

    /// Bytes that are free on it, where it says so: a GPU's own memory, or the machine's.
    pub fn free_memory(&self) -> Option<u64> {
        match self {
            #[cfg(feature = "cuda")]
            Device::Gpu(Gpu::Cuda(context)) => context.memory().ok().map(|(free, _)| free),
            #[cfg(feature = "wgpu")]
            Device::Gpu(Gpu::Wgpu(context)) if context.adapter().is_hardware() => None,
            Device::Cpu | Device::Gpu(_) => memory::available(),
        }
    }

    /// Refuses where less memory than this is free; a device that does not say how much is free accepts what can be counted.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], before anything was allocated.
    pub fn expect_memory(&self, bytes: u64, what: &str) -> Result<()> {
        let free = self.free_memory();
        if bytes == u64::MAX || free.is_some_and(|free| bytes > free) {
            return Err(Error::OutOfMemory { device: self.to_string(), what: what.into(), asked: bytes, free });
        }
        Ok(())
    }

    pub(crate) fn allocate(&self, elements: usize, dtype: DType) -> Result<(Buffer, Held)> {
        let held = alloc_limit::ask(self, || format!("a tensor of {elements} {dtype}"), elements as u64 * dtype.size() as u64)?;
        let buffer = match self {
            Device::Cpu => Buffer::Cpu(cpu::CpuBuffer::zeros(elements, dtype)?),
            Device::Gpu(gpu) => gpu.allocate(elements, dtype)?,
        };
        Ok((buffer, held))
    }

    pub(crate) fn upload(&self, to: &mut Buffer, bytes: &[u8]) -> Result<()> {
        match to {
            Buffer::Cpu(buffer) => {
                buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            #[cfg(feature = "wgpu")]
            Buffer::Wgpu(buffer) => buffer.gpu().upload(buffer, bytes),
            #[cfg(feature = "cuda")]
            Buffer::Cuda(buffer) => buffer.upload(bytes),
            #[cfg(feature = "emulator")]
            Buffer::Emulator(buffer) => buffer.upload(bytes),
            Buffer::Dry(buffer) => buffer.upload(bytes),
        }
    }

    pub(crate) fn download(&self, from: &Buffer, bytes: &mut [u8]) -> Result<()> {
        match from {
            Buffer::Cpu(buffer) => {
                bytes.copy_from_slice(&buffer.bytes()[..bytes.len()]);
                Ok(())
            }
            #[cfg(feature = "wgpu")]
            Buffer::Wgpu(buffer) => {
                let _held = alloc_limit::ask(self, || "reading a result back".into(), bytes.len() as u64)?;
                buffer.gpu().download(buffer, bytes)
            }
            #[cfg(feature = "cuda")]
            Buffer::Cuda(buffer) => buffer.download(bytes),
            #[cfg(feature = "emulator")]
            Buffer::Emulator(buffer) => buffer.download(bytes),
            Buffer::Dry(buffer) => buffer.download(bytes),
        }
    }

    pub(crate) fn clear(&self, buffer: &mut Buffer) -> Result<()> {
        match buffer {
            Buffer::Cpu(buffer) => {
                buffer.bytes_mut().fill(0);
                Ok(())
            }
            #[cfg(feature = "wgpu")]
            Buffer::Wgpu(buffer) => buffer.gpu().clear(buffer),
            #[cfg(feature = "cuda")]
            Buffer::Cuda(buffer) => buffer.clear(),
            #[cfg(feature = "emulator")]
            Buffer::Emulator(buffer) => buffer.clear(),
            Buffer::Dry(buffer) => buffer.clear(),
        }
    }

    pub(crate) fn copy(&self, from: &Buffer, to: &mut Buffer, bytes: usize) -> Result<()> {
        match (from, to) {
            (Buffer::Cpu(from), Buffer::Cpu(to)) => {
                to.bytes_mut()[..bytes].copy_from_slice(&from.bytes()[..bytes]);
                Ok(())
            }
            #[cfg(feature = "wgpu")]
            (Buffer::Wgpu(from), Buffer::Wgpu(to)) => to.gpu().copy(from, to, bytes),
            #[cfg(feature = "cuda")]
            (Buffer::Cuda(from), Buffer::Cuda(to)) => to.copy_from(from, bytes),
            #[cfg(feature = "emulator")]
            (Buffer::Emulator(from), Buffer::Emulator(to)) => to.copy_from(from, bytes),
            (Buffer::Dry(from), Buffer::Dry(to)) => to.copy_from(from, bytes),
            _ => Err(Error::mismatch("copy", "from", "a tensor on the same device", "one on another device")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu(gpu) => fmt::Display::fmt(gpu, f),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
