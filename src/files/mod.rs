//! Files of the user's: read within a limit, written whole, and tensors in safetensors.

#[cfg(feature = "data")]
mod atomic;
#[cfg(feature = "data")]
pub mod lock;
#[cfg(feature = "data")]
pub mod safetensors;
#[cfg(feature = "data")]
pub mod temporary;
#[cfg(feature = "data")]
pub mod weights;

#[cfg(feature = "data")]
pub(crate) use atomic::{LEFTOVER, sync_folder};
#[cfg(feature = "data")]
pub use atomic::{write_file_atomic, write_file_atomic_with};
#[cfg(feature = "data")]
pub(crate) use lock::is_at;
pub use trimodal_base::{read, shown};
