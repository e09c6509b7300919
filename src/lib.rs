//! Hand-written GPU kernels that teach one small transformer to read, see and hear.

pub mod check;
pub mod data;
pub mod device;
pub mod error;
pub mod ops;
#[cfg(feature = "cli")]
pub mod report;
pub mod tensor;
/// Training (src/train/mod.rs takes this place as soon as all of it compiles).
pub mod train {
    pub mod files;
}

pub use device::Device;
pub use error::{Error, Result};
pub use tensor::{DType, Shape, Tensor};
