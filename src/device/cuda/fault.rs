//! What the driver's errors mean, and what can be done about them.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;

/// What can be done about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FaultKind {
    /// The context is broken: every later call fails with the same error, until the process is started again.
    Sticky,
    /// There was not enough memory; what was allocated before is still there.
    Memory,
    /// The driver does not take our PTX.
    Version,
    /// This one call failed.
    Other,
}

/// Sorts an error. "CUDA Driver API", section Data types, says for each whether the context survives it.
pub(super) fn kind(error: DriverError) -> FaultKind {
    match error.0 {
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ASSERT
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_DEINITIALIZED => FaultKind::Sticky,
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => FaultKind::Memory,
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | CUresult::CUDA_ERROR_INVALID_PTX | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => FaultKind::Version,
        _ => FaultKind::Other,
    }
}

/// The driver's own words: `CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered`.
pub(super) fn say(error: DriverError) -> String {
    let text = |s: Result<&std::ffi::CStr, DriverError>| s.map(|s| s.to_string_lossy().into_owned());
    match (text(error.error_name()), text(error.error_string())) {
        (Ok(name), Ok(what)) => format!("{name}: {what}"),
        _ => format!("{:?}", error.0),
    }
}
