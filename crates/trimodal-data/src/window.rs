//! A part of a file as a file of its own: what a shard's member is to a decoder.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};

/// The bytes `start .. start + length` of `inner`.
pub(super) struct Window<R> {
    inner: R,
    start: u64,
    length: u64,
    at: u64,
}

impl<R: Read + Seek> Window<R> {
    /// At its first byte.
    pub fn new(mut inner: R, start: u64, length: u64) -> Result<Self> {
        inner.seek(SeekFrom::Start(start))?;
        Ok(Window { inner, start, length, at: 0 })
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Up to `n` bytes from its beginning, where it is again afterwards.
    pub fn head(&mut self, n: u64) -> Result<Vec<u8>> {
        self.seek(SeekFrom::Start(0))?;
        let mut head = Vec::with_capacity(n.min(self.length) as usize);
        self.take(n).read_to_end(&mut head)?;
        self.seek(SeekFrom::Start(0))?;
        Ok(head)
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = buffer.len().min(usize::try_from(self.length - self.at).unwrap_or(usize::MAX));
        let bytes = self.inner.read(&mut buffer[..most])?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

impl<R: Seek> Seek for Window<R> {
    /// As a file's, but not beyond the end.
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let Some(at) = at.filter(|at| *at <= self.length) else { return Err(Error::new(ErrorKind::InvalidInput, "a place outside of the file")) };
        self.inner.seek(SeekFrom::Start(self.start + at))?;
        self.at = at;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn nothing_outside_is_read() {
        let mut window = Window::new(Cursor::new(*b"0123456789"), 2, 5).unwrap();
        let mut all = String::new();
        window.read_to_string(&mut all).unwrap();
        assert_eq!((all.as_str(), window.seek(SeekFrom::End(-2)).unwrap()), ("23456", 3));
        assert_eq!((window.head(2).unwrap(), window.head(100).unwrap()), (b"23".to_vec(), b"23456".to_vec()));
        assert!(window.seek(SeekFrom::Start(6)).is_err() && window.seek(SeekFrom::Current(-1)).is_err());
        assert_eq!(window.seek(SeekFrom::Start(5)).unwrap(), 5);
        assert_eq!(window.read(&mut [0; 4]).unwrap(), 0);
    }
}
