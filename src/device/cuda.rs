//! An NVIDIA GPU through its driver.

use super::Launch;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// An opened GPU.
pub struct Context {}

/// Memory on it.
pub(crate) struct CudaBuffer {}

fn absent() -> Error {
    Error::Device { device: "cuda".into(), what: "not yet".into() }
}

impl Context {
    /// Opens the first NVIDIA GPU.
    pub fn open() -> Result<Self> {
        Err(absent())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        "none"
    }

    pub(crate) fn allocate(&self, _: usize, _: DType) -> Result<CudaBuffer> {
        Err(absent())
    }

    pub(crate) fn launch(&self, _: Launch) -> Result<()> {
        Err(absent())
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        Err(absent())
    }
}

impl CudaBuffer {
    pub(crate) fn upload(&self, _: &[u8]) -> Result<()> {
        Err(absent())
    }

    pub(crate) fn download(&self, _: &mut [u8]) -> Result<()> {
        Err(absent())
    }

    pub(crate) fn clear(&self) -> Result<()> {
        Err(absent())
    }

    pub(crate) fn copy_from(&self, _: &CudaBuffer, _: usize) -> Result<()> {
        Err(absent())
    }
}
