//! Reading a file of the user's: a regular file, of at most so many bytes.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Opens a regular file of at most `limit` bytes; gives its length too.
///
/// # Errors
/// The sentence without the file's name.
pub fn regular(path: &Path, limit: u64) -> std::result::Result<(File, u64), String> {
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
pub fn contents(path: &Path, limit: u64) -> Result<Vec<u8>> {
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
pub fn text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(contents(path, limit)?).map_err(|e| Error::file_at(path, format!("byte {}", e.utf8_error().valid_up_to()), "not UTF-8"))
}
