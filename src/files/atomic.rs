//! Files that a crash cannot spoil.
//!
//! [`write_file_atomic`] is the only way this crate writes a checkpoint: into a temporary file beside the target, synced,
//! renamed over it, and the folder synced. A crash at any moment leaves the old file or the new one, whole; what it may
//! leave beside them is a temporary file, which the next write of the same target removes.

use super::temporary::Temporary;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What our temporary files' names contain, after a dot and the target's name.
pub(crate) const LEFTOVER: &str = ".trimodal-partial-";

/// Writes these bytes as a file, as [`write_file_atomic_with`] does.
///
/// # Errors
/// [`Error::Io`] with the path where the system refuses; the old file is whole then.
pub fn write_file_atomic(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    write_file_atomic_with(path, |file| file.write_all(bytes.as_ref()).map_err(Error::io(path, "write")))
}

/// Writes a file so that a crash, a full disk or an error of `write` leaves what was there before.
///
/// The folder must exist. The new file has the permissions that any new file of the user's has.
///
/// # Errors
/// [`Error::Io`] with the path where the system refuses, or what `write` returned; the old file is whole in both cases.
pub fn write_file_atomic_with(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let target = match path.metadata() {
        // `--json /dev/stdout`: a device or a pipe has no old content to keep, and a file must not replace it.
        Ok(about) if !about.is_file() && !about.is_dir() => {
            return write(&mut File::options().write(true).open(path).map_err(Error::io(path, "write"))?);
        }
        // A link stays a link: what it leads to is replaced.
        Ok(_) => path.canonicalize().map_err(Error::io(path, "write"))?,
        Err(_) => path.to_path_buf(),
    };
    let name = target.file_name().ok_or_else(|| Error::file(path, "this is not the name of a file"))?.to_string_lossy();
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let prefix = format!(".{name}{LEFTOVER}");
    sweep(folder, &prefix);
    let mut refused = None;
    let mut temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .make_in(folder, |name| {
            // Opened by hand: `tempfile` makes private files, but this one becomes an ordinary one; and its errors tell
            // of the random name instead of the system's code.
            let made = File::options().read(true).write(true).create_new(true).open(name);
            refused = made.as_ref().err().and_then(io::Error::raw_os_error);
            made
        })
        .map_err(|e| Error::io(path, "write")(refused.map_or(e, io::Error::from_raw_os_error)))?;
    let held = Temporary::hold(temporary.path());
    // Held until the file is closed: this is how another process's sweep knows that this is not a leftover. Some network
    // folders have no locks; there, two writers of one target at the same moment are the user's own doing.
    let _ = temporary.as_file().try_lock();
    write(temporary.as_file_mut())?; // dropping the temporary file removes it
    temporary.as_file().sync_all().map_err(Error::io(path, "write"))?;
    held.persist(|| temporary.persist(&target)).map_err(|e| Error::io(path, "replace")(e.error))?;
    sync_folder(folder).map_err(Error::io(folder, "sync"))
}

/// Removes what earlier runs left of the same target. Only a courtesy: what cannot be removed stays.
fn sweep(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let alive = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_err());
            if !alive {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Makes a rename in this folder survive a power cut.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Windows cannot open a folder to sync it; NTFS journals the rename.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_write_leaves_the_old_file_and_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, "old").unwrap();
        // What a kill in the middle of a write leaves: a temporary file that nobody holds any more.
        let killed = folder.path().join(format!(".state.json{LEFTOVER}abc123"));
        fs::write(&killed, "ne").unwrap();
        let foreign = folder.path().join(".state.json.swp");
        fs::write(&foreign, "an editor's").unwrap();
        // And one of a process that is still writing.
        let alive = folder.path().join(format!(".state.json{LEFTOVER}def456"));
        let held = File::create(&alive).unwrap();
        held.try_lock().unwrap();

        let error = write_file_atomic_with(&path, |file| {
            file.write_all(b"half of the n").unwrap();
            Err(Error::Usage("stop".into()))
        });
        assert_eq!(error.unwrap_err().to_string(), "stop");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert!(!killed.exists() && foreign.exists() && alive.exists());
        drop(held);

        write_file_atomic_with(&path, |file| file.write_all(b"new").map_err(Error::io(&path, "write"))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".state.json.swp", "state.json"]);
    }

    #[test]
    fn a_refusing_system_is_quoted_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("state.json");
        let error = write_file_atomic_with(&path, |_| Ok(())).unwrap_err().to_string();
        assert_eq!(error, format!("{}: cannot write: {}", path.display(), io::Error::from_raw_os_error(2)));
        let error = write_file_atomic_with(folder.path().parent().unwrap(), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("cannot replace"), "{error}");
        assert!(write_file_atomic_with(Path::new("/"), |_| Ok(())).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_the_path() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, "old").unwrap();
        // /dev/full answers every write as a full disk does.
        let error = write_file_atomic_with(&path, |_| {
            let mut full = File::options().write(true).open("/dev/full").unwrap();
            full.write_all(b"x").map_err(Error::io(&path, "write"))
        });
        assert!(error.unwrap_err().to_string().contains("model.safetensors: cannot write: No space left on device"));
        let full = Path::new("/dev/full");
        let error = write_file_atomic_with(full, |file| file.write_all(b"x").map_err(Error::io(full, "write")));
        assert!(error.unwrap_err().to_string().contains("/dev/full: cannot write: No space left on device"));
        assert!(!fs::metadata(full).unwrap().is_file(), "a device must not be replaced by a file");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_file_atomic_with(&link, |file| file.write_all(b"new").map_err(Error::io(&link, "write"))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // As the shell's own new files, whatever the umask.
        let ordinary = folder.path().join("ordinary");
        File::create(&ordinary).unwrap();
        write_file_atomic_with(&path, |_| Ok(())).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }
}
