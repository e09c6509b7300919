//! How far a decoder came: other people's errors say what is wrong with a file, not where.

use std::cell::Cell;
use std::io::{BufRead, Read, Result, Seek, SeekFrom};

/// A reader that notes its place after each call.
pub(super) struct Watched<'a, R> {
    inner: R,
    at: &'a Cell<u64>,
}

impl<'a, R> Watched<'a, R> {
    /// `at` is the place of `inner`: 0 for a new file.
    pub(super) fn new(inner: R, at: &'a Cell<u64>) -> Self {
        Watched { inner, at }
    }

    fn on(&self, bytes: usize) {
        self.at.set(self.at.get() + bytes as u64);
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.on(bytes);
        Ok(bytes)
    }
}

impl<R: BufRead> BufRead for Watched<'_, R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        self.on(bytes);
    }
}

impl<R: Seek> Seek for Watched<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = self.inner.seek(to)?;
        self.at.set(at);
        Ok(at)
    }
}
