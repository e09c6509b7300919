//! One process at a time in a folder: a lock of the operating system's, which ends with the process however that ends.
//!
//! The lock is on a file `.lock` in the folder, which holds the process id of its holder for whoever is refused. Readers take no lock and
//! are not hindered. A file without a holder, as a crash leaves it, means nothing.

use crate::error::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The lock's name in its folder.
pub(crate) const LOCK: &str = ".lock";

/// A folder that this process alone writes to, until this is dropped.
pub struct FolderLock {
    path: PathBuf,
    file: File,
}

impl FolderLock {
    /// Locks a folder, which must exist.
    ///
    /// # Errors
    /// [`Error::File`] with the holder's process id where another process has it; [`Error::Io`] where the system refuses.
    pub fn take(folder: &Path) -> Result<Self> {
        match Self::attempt(folder)? {
            Ok(lock) => Ok(lock),
            Err(holder) => Err(Error::file(folder, refusal(holder))),
        }
    }

    /// The lock, or its holder as far as that is known.
    fn attempt(folder: &Path) -> Result<std::result::Result<Self, Option<u32>>> {
        let path = folder.join(LOCK);
        let mut tries = 0..10; // file systems that number files anew at every look must not keep us here
        loop {
            let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(Error::io(&path, "lock"))?;
            match file.try_lock() {
                // Its last holder may have removed it after we opened it: then it is nobody's.
                Ok(()) if !is_at(&file, &path) && tries.next().is_some() => continue,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Err(holder(&mut file))),
                // Some network folders have no locks. A training is not refused for that.
                Err(TryLockError::Error(e)) => {
                    trimodal_base::shown::warn(format!("{}: cannot lock: {e}; see that no other process writes there", path.display()));
                }
            }
            // For people; a full disk has no room for it, and the lock holds all the same.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            return Ok(Ok(FolderLock { path, file }));
        }
    }

    /// Makes the folder again where it was removed or moved away, and locks it again.
    ///
    /// # Errors
    /// As [`FolderLock::take`]: somebody else may have made it meanwhile.
    pub fn again(&mut self) -> Result<()> {
        if self.holds() {
            return Ok(());
        }
        let folder = self.path.parent().expect("the lock lies in its folder");
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        match Self::attempt(folder)? {
            Ok(lock) => *self = lock,
            // It was there all the time, and only looked like another file.
            Err(Some(id)) if id == std::process::id() => {}
            Err(holder) => return Err(Error::file(folder, refusal(holder))),
        }
        Ok(())
    }

    /// Whether the folder is still there, with this lock in it.
    pub fn holds(&self) -> bool {
        is_at(&self.file, &self.path)
    }
}

impl Drop for FolderLock {
    /// The file goes too, while it is still locked. (On Windows, nobody could then tell whether it is the same one.)
    fn drop(&mut self) {
        if cfg!(unix) && self.holds() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.take(32).read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

fn refusal(holder: Option<u32>) -> String {
    match holder {
        Some(id) if id == std::process::id() => "this process is writing here already".into(),
        Some(id) => format!("process {id} is writing here: wait until it ends, or end it (kill {id}); reading is not hindered"),
        None => "another process is writing here: wait until it ends, or end it; reading is not hindered".into(),
    }
}

/// Whether an open file is the one that has this name now.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let [open, there] = [file.metadata(), fs::metadata(path)].map(|about| about.ok().map(|about| (about.dev(), about.ino())));
    open.is_some() && open == there
}

/// Elsewhere an open file keeps its name.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        // What a crash leaves.
        fs::write(&path, "4711\n").unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
        assert!(FolderLock::take(folder.path()).err().unwrap().to_string().contains("this process is writing here already"));
        fs::write(&path, "4711\n").unwrap();
        assert!(FolderLock::take(folder.path()).err().unwrap().to_string().contains("process 4711 is writing here"));
        drop(lock);
        assert!(cfg!(not(unix)) || !path.exists());
        drop(FolderLock::take(folder.path()).unwrap());
        assert!(matches!(FolderLock::take(&folder.path().join("none")), Err(Error::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_was_made_again_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let lock = FolderLock::take(&run).unwrap();
        assert!(lock.holds());
        fs::remove_dir_all(&run).unwrap();
        assert!(!lock.holds());
        fs::create_dir(&run).unwrap();
        let other = FolderLock::take(&run).unwrap();
        let mut lock = lock;
        assert!(lock.again().is_ok(), "a lock of this process");
        fs::write(run.join(LOCK), "4711").unwrap();
        assert!(lock.again().unwrap_err().to_string().contains("process 4711 is writing here"));
        drop(lock);
        assert!(other.holds(), "the old lock leaves the new one alone");
        fs::remove_dir_all(&run).unwrap();
        let mut other = other;
        other.again().unwrap();
        assert!(other.holds() && run.join(LOCK).exists());
    }
}
