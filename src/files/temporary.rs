//! What must not outlive this process: files and folders that are being written, or are written for this process alone.
//!
//! Destructors remove them. A process that ends at once (a second signal, a reader that has gone) runs none, so whoever ends it calls
//! [`remove_all`] first. From then on nothing gets a name any more: a folder that is half removed must not become a checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static HELD: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn held() -> MutexGuard<'static, Vec<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something temporary, known until this is dropped. It does not remove it: its owner does.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Remembers a file or folder.
    pub fn hold(path: &Path) -> Self {
        held().push(path.to_path_buf());
        Temporary(path.to_path_buf())
    }

    /// Gives it its lasting name by `rename`; it is temporary no longer.
    pub fn persist<T>(self, rename: impl FnOnce() -> T) -> T {
        let mut held = held(); // waits for ever while `remove_all` ends the process
        let renamed = rename();
        held.retain(|path| *path != self.0);
        renamed
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        held().retain(|path| *path != self.0);
    }
}

/// Removes everything that is temporary now, as far as the system lets us. The process must end right after it: whoever wants to give a
/// file its name then waits for ever.
pub fn remove_all() {
    let held = held();
    for path in held.iter() {
        // Another thread may be writing into a folder while it is emptied.
        for _ in 0..3 {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            if removed.is_ok() || !path.exists() {
                break;
            }
        }
    }
    std::mem::forget(held);
}
