//! Opening the files of a data folder, and no others.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::row::check_path;
use crate::{Error, Result};

/// A folder out of which files are opened by name.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// As it was given: messages show it like this.
    pub given: PathBuf,
    root: PathBuf,
}

impl Folder {
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Folder { given: dir.to_path_buf(), root: dir.canonicalize().map_err(Error::io(dir, "open"))? })
    }

    /// Opens a regular file by its path relative to the folder; gives its length too.
    ///
    /// The path is resolved with every symbolic link, has to end inside, and what was opened has to be what lies there: a link
    /// that is exchanged meanwhile is noticed. The kind of file is checked before it is opened, because opening a pipe waits
    /// for ever and opening a device may do something.
    ///
    /// # Errors
    /// The sentence without the file's place.
    pub fn file(&self, name: &str) -> std::result::Result<(File, u64), String> {
        check_path(name)?;
        let real = self.given.join(name).canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no file {name:?} in the folder"),
            _ => format!("cannot open {name:?}: {error}"),
        })?;
        if !real.starts_with(&self.root) {
            return Err(format!("{name:?} is a symbolic link that leaves the data folder"));
        }
        let (file, bytes) = regular(&real, u64::MAX).map_err(|what| format!("{name:?}: {what}"))?;
        // After opening: still the same place, and the same file there.
        if !real.canonicalize().is_ok_and(|again| again == real) || !same(&file, &real) {
            return Err(format!("{name:?} was exchanged while it was opened"));
        }
        Ok((file, bytes))
    }
}

/// Opens a regular file of at most `limit` bytes; gives its length too.
///
/// # Errors
/// The sentence without the file's name.
pub(crate) fn regular(path: &Path, limit: u64) -> std::result::Result<(File, u64), String> {
    let check = |metadata: std::fs::Metadata| {
        if !metadata.is_file() {
            return Err("expected a regular file, found a folder, pipe or device".to_string());
        }
        if metadata.len() > limit {
            return Err(format!("expected at most {limit} bytes, found {}", metadata.len()));
        }
        Ok(metadata.len())
    };
    let cannot = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_string(),
        _ => format!("cannot open it: {error}"),
    };
    check(std::fs::metadata(path).map_err(cannot)?)?;
    let file = File::open(path).map_err(cannot)?;
    let bytes = check(file.metadata().map_err(cannot)?)?;
    Ok((file, bytes))
}

/// What is in a regular file of at most `limit` bytes.
///
/// # Errors
/// [`Error::File`] for anything else at this path, [`Error::Io`] where the system refuses.
pub(crate) fn contents(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, length) = regular(path, limit).map_err(|what| Error::file(path, what))?;
    let mut bytes = Vec::with_capacity(length as usize);
    // The file may have grown since its length was asked for.
    file.take(length).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    Ok(bytes)
}

/// [`contents`] as text.
///
/// # Errors
/// Those, and [`Error::File`] with the byte where it is not UTF-8.
pub(crate) fn text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(contents(path, limit)?).map_err(|e| Error::file_at(path, format!("byte {}", e.utf8_error().valid_up_to()), "not UTF-8"))
}

/// Whether an open file is the one at a path.
#[cfg(unix)]
fn same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: std::io::Result<std::fs::Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let opened = id(file.metadata());
    opened.is_some() && opened == id(std::fs::metadata(path))
}

/// Elsewhere the standard library does not tell two files apart; links need privileges on Windows.
#[cfg(not(unix))]
fn same(_: &File, _: &Path) -> bool {
    true
}
