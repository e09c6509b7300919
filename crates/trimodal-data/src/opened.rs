//! What a picture or sound is decoded out of: a file of the data folder, or a value that is in memory.

use std::fs::File;
use std::io::{Cursor, Read, Result, Seek, SeekFrom};

use parquet::data_type::ByteArray;

/// An open file, or a value of a column.
pub(super) enum Opened {
    File(File),
    Memory(Cursor<Value>),
}

/// The bytes of a value, shared with the page that it came in.
pub(super) struct Value(ByteArray);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.data()
    }
}

impl Opened {
    /// A value, and its length.
    pub fn memory(value: ByteArray) -> (Self, u64) {
        let bytes = value.len() as u64;
        (Opened::Memory(Cursor::new(Value(value))), bytes)
    }
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Opened::File(file) => file.read(buffer),
            Opened::Memory(value) => value.read(buffer),
        }
    }
}

impl Seek for Opened {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        match self {
            Opened::File(file) => file.seek(to),
            Opened::Memory(value) => value.seek(to),
        }
    }
}
