pub mod device;
pub mod error;
pub mod tensor;
