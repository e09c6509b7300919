//! One launch: what all its blocks share.

use super::buffer::Buffer;
use super::kernel::Kernel;
use super::options::Trace;
use super::tensor_map::TensorMap;
use std::sync::Mutex;

/// A buffer as an argument.
pub struct Bound<'a> {
    pub buffer: &'a Buffer,
    /// Bytes in use.
    pub bytes: usize,
    pub name: &'a str,
    /// The first argument that is the same buffer.
    pub same: u16,
    /// Log2 of the bytes of a cell of its shadow: none if the kernel does not write it.
    pub granule: Option<u32>,
    /// The smallest access to it in bytes, and how much of it a shadow must hold, under all its names.
    pub least: u32,
    pub shadow_bytes: usize,
}

/// What all blocks of a launch share.
pub struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub grid: u32,
    /// By argument: buffer i is at `(i + 1) << 40`.
    pub buffers: Vec<Option<Bound<'a>>>,
    /// By argument: the tensor maps.
    pub maps: Vec<Option<TensorMap>>,
    /// Bytes of shared memory of a block, and how many of them the launch added.
    pub shared_bytes: usize,
    pub dynamic: u32,
    /// The block of parameters.
    pub params: Vec<u32>,
    pub params_bytes: usize,
    /// Variables of the module.
    pub module: Vec<u32>,
    pub module_bytes: usize,
    pub budget: u64,
    pub trace: Option<Trace>,
    /// Whether instructions and traffic are counted.
    pub counted: bool,
    /// The registers that each instruction names, if a thread is traced.
    pub names: Vec<Vec<u32>>,
    /// 64-bit atomics take two words: one at a time.
    pub wide: Mutex<()>,
}
