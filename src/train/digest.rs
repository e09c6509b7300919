//! `SHA256SUMS`: the digests of a checkpoint's files, as `sha256sum` writes and checks them (`sha256sum -c SHA256SUMS`).
//!
//! Against damage and mix-ups, not against adversaries: whoever can change a file can change its digest. They are computed while the files are
//! written, so that they say what was meant and not what a disk made of it.

use crate::error::{Error, Result};
use crate::files::read;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The name of the list in a checkpoint.
pub const SUMS: &str = "SHA256SUMS";

/// A longer list is not one of ours.
const MAX: u64 = 1 << 20;

/// What is written through it is digested.
pub struct Digesting<W> {
    inner: W,
    hash: Sha256,
}

impl<W> Digesting<W> {
    /// Around a writer that has written nothing yet.
    pub fn new(inner: W) -> Self {
        Digesting { inner, hash: Sha256::new() }
    }

    /// The writer, and the digest of what went through it, in hexadecimal digits.
    pub fn finish(self) -> (W, String) {
        (self.inner, hexadecimal(self.hash))
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The digest of a text, in hexadecimal digits.
pub(super) fn of(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// The list of these files (name, digest), as `sha256sum` writes it.
pub fn list(files: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort();
    sorted.into_iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

/// Checks every file of a folder that its `SHA256SUMS` lists, on all threads. Returns how many there are; `None` where there is no list: older
/// versions wrote none, and other programs write none.
///
/// # Errors
/// [`Error::File`] naming the first file, in the order of the list, that is not there or not as it was saved; a list that is damaged.
pub fn verify(folder: &Path) -> Result<Option<usize>> {
    let path = folder.join(SUMS);
    if !path.exists() {
        return Ok(None);
    }
    let text = read::text(&path, MAX)?;
    let mut listed = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parts = line.split_once(' ').map(|(digest, name)| (digest, name.strip_prefix([' ', '*']).unwrap_or(name)));
        let plain = |name: &str| Path::new(name).file_name().is_some_and(|file| file == name) && !name.contains(['/', '\\']);
        match parts {
            Some((digest, name)) if digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) && plain(name) => listed.push((name, digest)),
            _ => {
                return Err(Error::file_at(
                    &path,
                    format!("line {}", number + 1),
                    "expected 64 hexadecimal digits and the name of a file, as sha256sum writes",
                ));
            }
        }
    }
    // A list that was cut off would pass for less.
    for name in ["config.json", "model.safetensors", "tokenizer.json", "optimizer.safetensors", "trainer_state.json"] {
        if folder.join(name).exists() && !listed.iter().any(|(listed, _)| *listed == name) {
            return Err(Error::file(&path, format!("no digest of {name}, which lies beside it: the list is damaged, or the file was put there later")));
        }
    }
    let checked: Vec<Result<()>> = listed.par_iter().map(|(name, digest)| check(&folder.join(name), digest)).collect();
    checked.into_iter().collect::<Result<()>>()?;
    Ok(Some(listed.len()))
}

fn check(path: &Path, expected: &str) -> Result<()> {
    if !path.exists() {
        return Err(Error::file(path, format!("missing: {SUMS} beside it lists it; take another checkpoint")));
    }
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(Error::io(path, "read"))? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let found = hexadecimal(hash);
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Error::file(
        path,
        format!(
            "not as it was saved: its SHA-256 is {}…, and {SUMS} beside it says {}…. It was damaged or changed since: continue from another checkpoint \
             (write its name into the run's `latest`), begin a new run with --from, or, if the change is meant, remove {SUMS}",
            &found[..16],
            &expected[..16]
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_list_is_sha256sum_s() {
        let mut digesting = Digesting::new(Vec::new());
        digesting.write_all(b"a").unwrap();
        digesting.write_all(b"bc").unwrap();
        let (bytes, digest) = digesting.finish();
        // FIPS 180-4's first example.
        assert_eq!((bytes.as_slice(), digest.as_str()), (&b"abc"[..], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
        assert_eq!(of(b"abc"), digest);
        assert_eq!(list(&[("b".into(), digest.clone()), ("a".into(), digest.clone())]), format!("{digest}  a\n{digest}  b\n"));
    }

    #[test]
    fn one_bit_is_noticed_and_the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, path) = (folder.path(), |name: &str| folder.path().join(name));
        assert_eq!(verify(folder).unwrap(), None);
        fs::write(path("model.safetensors"), "abc").unwrap();
        fs::write(path("other"), "").unwrap();
        let whole = list(&[("model.safetensors".into(), of(b"abc")), ("other".into(), of(b""))]);
        fs::write(path(SUMS), &whole).unwrap();
        assert_eq!(verify(folder).unwrap(), Some(2));
        let wrong = || verify(folder).unwrap_err().to_string();
        fs::write(path("model.safetensors"), "abb").unwrap();
        assert!(wrong().contains("model.safetensors: not as it was saved"), "{}", wrong());
        fs::write(path("model.safetensors"), "abc").unwrap();
        fs::remove_file(path("other")).unwrap();
        assert!(wrong().contains("other: missing"), "{}", wrong());
        fs::write(path("other"), "").unwrap();
        fs::write(path("tokenizer.json"), "{}").unwrap();
        assert!(wrong().contains("no digest of tokenizer.json"), "{}", wrong());
        fs::remove_file(path("tokenizer.json")).unwrap();
        for damaged in [whole.replacen("ba78", "ba7", 1), whole.replace("other", "../other"), "x\n".into()] {
            fs::write(path(SUMS), damaged).unwrap();
            assert!(wrong().contains("SHA256SUMS, line "), "{}", wrong());
        }
    }
}
