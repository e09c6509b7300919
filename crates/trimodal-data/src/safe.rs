//! Opening the files of a data folder, and no others.

use super::row::check_path;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use trimodal_base::read::regular;
use trimodal_base::{Error, Result};

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
            ErrorKind::NotFound => self.missing(name),
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

    /// There is no such file, or one whose name only looks the same: an é is one character or two, and macOS writes two.
    fn missing(&self, name: &str) -> String {
        let place = self.given.join(name);
        let wanted = place.file_name().and_then(|name| name.to_str()).map(composed);
        let there = std::fs::read_dir(place.parent().unwrap_or(&self.given)).ok().filter(|_| wanted.is_some());
        let twin = there.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok()).find(|there| Some(composed(there)) == wanted);
        let plain = |name: &str| name.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect::<String>();
        match twin {
            Some(twin) => format!(
                "the folder has a file whose name looks the same and is written with other characters: expected \"{}\", found \"{}\" (Unicode's \
                 forms NFC and NFD): rename it, or write its name in the table as it is (`convmv -f utf8 -t utf8 --nfc --notest -r DIR` renames all)",
                plain(name),
                plain(&twin)
            ),
            None => format!("there is no file {name:?} in the folder"),
        }
    }
}

/// A name in Unicode's composed form.
fn composed(name: &str) -> String {
    use tokenizers::{NormalizedString, Normalizer};
    let mut normalized = NormalizedString::from(name);
    match tokenizers::normalizers::NFC.normalize(&mut normalized) {
        Ok(()) => normalized.get().to_string(),
        Err(_) => name.to_string(),
    }
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
