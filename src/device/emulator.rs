//! The emulator as a device: the PTX that ships, run on the CPU with every memory access checked.

use super::Launch;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Runs PTX on the CPU. See [`crate::device::Gpu::Emulator`].
#[derive(Default)]
pub struct Machine {}

/// Memory of the emulated GPU.
pub(crate) struct EmulatorBuffer {}

impl Machine {
    /// A machine with empty memory.
    pub fn new() -> Self {
        Machine {}
    }

    pub(crate) fn allocate(&self, _: usize, _: DType) -> Result<EmulatorBuffer> {
        Ok(EmulatorBuffer {})
    }

    pub(crate) fn launch(&self, launch: Launch) -> Result<()> {
        Err(Error::Device { device: "emulator".into(), what: format!("not yet: {}.{}{}", launch.kernel.0, launch.kernel.1, launch.variant) })
    }
}

impl EmulatorBuffer {
    pub(crate) fn forget(&self) {}

    pub(crate) fn upload(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    pub(crate) fn download(&self, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    pub(crate) fn clear(&self) -> Result<()> {
        Ok(())
    }

    pub(crate) fn copy_from(&self, _: &EmulatorBuffer, _: usize) -> Result<()> {
        Ok(())
    }
}
