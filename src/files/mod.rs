//! Files of the user's: read within a limit, written whole, and tensors in safetensors.

mod atomic;
pub mod safetensors;

pub(crate) use atomic::{LEFTOVER, sync_folder};
pub use atomic::{write_file_atomic, write_file_atomic_with};
pub use trimodal_base::read;
