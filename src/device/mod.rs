//! Where tensors live and kernels run.
//!
//! [`Device`] is a closed enum and operations `match` on it without a wildcard: a device that an operation does not
//! serve does not compile. (CUDA and the PTX emulator become variants here; the compiler then lists every place.)

pub mod cpu;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use crate::error::{Error, Result};
use crate::tensor::DType;
use std::fmt;
#[cfg(feature = "wgpu")]
use std::sync::Arc;

/// A place where tensors live and kernels run. Cheap to clone.
#[derive(Clone)]
pub enum Device {
    /// The host's cores: f32 for work, f64 as the oracle for everything else.
    Cpu,
    /// A GPU (or a software driver) through Vulkan, Metal or DX12: the shaders in `shaders/`.
    #[cfg(feature = "wgpu")]
    Wgpu(Arc<wgpu::Gpu>),
}

/// A tensor's memory on its device.
pub(crate) enum Buffer {
    Cpu(cpu::CpuBuffer),
    #[cfg(feature = "wgpu")]
    Wgpu(wgpu::GpuBuffer),
}

/// The names that [`Device::open`] knows.
pub const DEVICE_NAMES: &[&str] = &["auto", "cpu", "wgpu"];

impl Device {
    /// Opens a device by name: `auto` (a GPU if there is one, else the CPU; never a software driver), `cpu` or `wgpu`.
    /// `adapter`: part of the name of the wgpu adapter to take, in any case.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name, [`Error::Device`] where the device is not there.
    pub fn open(name: &str, adapter: Option<&str>) -> Result<Device> {
        if adapter.is_some() && name == "cpu" {
            return Err(Error::Usage("--adapter chooses among wgpu adapters: it makes no sense with --device cpu".into()));
        }
        match name {
            "cpu" => Ok(Device::Cpu),
            "wgpu" => Self::open_wgpu(adapter),
            "auto" => match adapter {
                Some(_) => Self::open_wgpu(adapter),
                None => Self::automatic(),
            },
            "cuda" | "emulator" => Err(Error::Usage(format!("device {name}: not in this version; use one of {}", DEVICE_NAMES.join(", ")))),
            _ => Err(Error::Usage(format!("unknown device {name:?}: expected one of {}", DEVICE_NAMES.join(", ")))),
        }
    }

    #[cfg(feature = "wgpu")]
    fn open_wgpu(adapter: Option<&str>) -> Result<Device> {
        Ok(Device::Wgpu(Arc::new(wgpu::Gpu::open(adapter, wgpu::Options::default())?)))
    }

    #[cfg(feature = "wgpu")]
    fn automatic() -> Result<Device> {
        match wgpu::adapters().iter().find(|a| a.is_hardware()) {
            Some(found) => Ok(Device::Wgpu(Arc::new(wgpu::Gpu::open_listed(found, wgpu::Options::default())?))),
            None => Ok(Device::Cpu),
        }
    }

    #[cfg(not(feature = "wgpu"))]
    fn open_wgpu(_: Option<&str>) -> Result<Device> {
        Err(Error::Device { device: "wgpu".into(), what: "this build leaves it out: build with --features wgpu".into() })
    }

    #[cfg(not(feature = "wgpu"))]
    fn automatic() -> Result<Device> {
        Ok(Device::Cpu)
    }

    /// Waits until everything that was launched has run, and reports what went wrong meanwhile.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(gpu) => gpu.synchronize(),
        }
    }

    /// Whether both are the same device.
    pub fn same(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Cpu, Device::Cpu) => true,
            #[cfg(feature = "wgpu")]
            (Device::Wgpu(a), Device::Wgpu(b)) => Arc::ptr_eq(a, b),
            #[cfg(feature = "wgpu")]
            (Device::Cpu, Device::Wgpu(_)) | (Device::Wgpu(_), Device::Cpu) => false,
        }
    }

    pub(crate) fn allocate(&self, elements: usize, dtype: DType) -> Result<Buffer> {
        match self {
            Device::Cpu => Ok(Buffer::Cpu(cpu::CpuBuffer::zeros(elements, dtype)?)),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(gpu) => Ok(Buffer::Wgpu(gpu.allocate(elements, dtype)?)),
        }
    }

    pub(crate) fn upload(&self, to: &mut Buffer, bytes: &[u8]) -> Result<()> {
        match to {
            Buffer::Cpu(buffer) => {
                buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            #[cfg(feature = "wgpu")]
            Buffer::Wgpu(buffer) => buffer.gpu().upload(buffer, bytes),
        }
    }

    pub(crate) fn download(&self, from: &Buffer, bytes: &mut [u8]) -> Result<()> {
        match from {
            Buffer::Cpu(buffer) => {
                bytes.copy_from_slice(&buffer.bytes()[..bytes.len()]);
                Ok(())
            }
            #[cfg(feature = "wgpu")]
            Buffer::Wgpu(buffer) => buffer.gpu().download(buffer, bytes),
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
            #[cfg(feature = "wgpu")]
            (Buffer::Cpu(_), Buffer::Wgpu(_)) | (Buffer::Wgpu(_), Buffer::Cpu(_)) => {
                Err(Error::mismatch("copy", "from", "a tensor on the same device", "one on another device"))
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(gpu) => write!(f, "wgpu ({})", gpu.name()),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
