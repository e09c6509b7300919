//! Global memory: a buffer that blocks on several threads may touch at once, and that knows which bytes were written.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// A buffer of global memory.
///
/// A wrong kernel may race on it from two blocks, which run on two threads here. So that this stays a finding and does
/// not become undefined behaviour of ours, all data are relaxed atomics of one size, 32 bits; on the machines we know
/// they cost what plain loads and stores cost.
///
/// A new buffer is zeros that count as written. After [`Buffer::forget`] nothing does, until the host or a kernel writes it.
///
/// ```
/// let buffer = ptx_emulator::Buffer::new(16);
/// buffer.write(4, &1.5f32.to_le_bytes());
/// let mut word = [0; 4];
/// buffer.read(4, &mut word);
/// assert_eq!(f32::from_le_bytes(word), 1.5);
/// ```
#[derive(Debug)]
pub struct Buffer {
    words: Box<[AtomicU32]>,
    bytes: usize,
    /// One bit per byte, made when [`Buffer::forget`] is first called: set where the byte was written.
    written: OnceLock<Box<[AtomicU32]>>,
    /// How many bytes nobody wrote. Zero is the common case, and then `written` is not looked at.
    unwritten: AtomicUsize,
}

impl Buffer {
    /// A buffer of zeros that counts as written.
    pub fn new(bytes: usize) -> Buffer {
        let words = (0..bytes.div_ceil(4)).map(|_| AtomicU32::new(0)).collect();
        Buffer { words, bytes, written: OnceLock::new(), unwritten: AtomicUsize::new(0) }
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes `data` at byte `offset`.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn write(&self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= self.bytes, "write of {} bytes at {offset} into a buffer of {}", data.len(), self.bytes);
        if !self.is_whole() {
            self.mark(offset, data.len());
            self.count();
        }
        let (mut at, end) = (offset, offset + data.len());
        while at < end {
            let (n, shift) = ((4 - at % 4).min(end - at), 8 * (at % 4));
            let mut bytes = [0; 4];
            bytes[..n].copy_from_slice(&data[at - offset..at - offset + n]);
            let mask = if n == 4 { u32::MAX } else { (1 << (8 * n)) - 1 };
            self.store_bytes(at / 4, u32::from_le_bytes(bytes) << shift, mask << shift);
            at += n;
        }
    }

    /// Reads `data.len()` bytes from byte `offset`.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        assert!(offset + data.len() <= self.bytes, "read of {} bytes at {offset} from a buffer of {}", data.len(), self.bytes);
        // A word at a time: the first and the last may be needed in part.
        let (mut at, end) = (offset, offset + data.len());
        while at < end {
            let n = (4 - at % 4).min(end - at);
            data[at - offset..at - offset + n].copy_from_slice(&self.load(at / 4).to_le_bytes()[at % 4..at % 4 + n]);
            at += n;
        }
    }

    /// Zeros, which count as written.
    pub fn clear(&self) {
        self.mark(0, self.bytes);
        self.unwritten.store(0, Relaxed);
        self.words.iter().for_each(|w| w.store(0, Relaxed));
    }

    /// Copies the first `bytes` bytes of another buffer, and which of them were written.
    pub fn copy_from(&self, from: &Buffer, bytes: usize) {
        assert!(bytes <= self.bytes && bytes <= from.bytes, "copy of {bytes} bytes from {} into {}", from.bytes, self.bytes);
        let mut data = vec![0; bytes];
        from.read(0, &mut data);
        if from.unwritten.load(Relaxed) == 0 {
            return self.write(0, &data);
        }
        for (i, byte) in data.iter().enumerate() {
            if from.is_written(i, 1) {
                self.write(i, &[*byte]);
            }
        }
    }

    /// From now on no byte counts as written: reading one before writing it is a finding.
    pub fn forget(&self) {
        let written = self.written.get_or_init(|| (0..self.bytes.div_ceil(32)).map(|_| AtomicU32::new(0)).collect());
        written.iter().for_each(|w| w.store(0, Relaxed));
        self.unwritten.store(self.bytes, Relaxed);
    }

    /// Whether every byte was written.
    pub(super) fn is_whole(&self) -> bool {
        self.unwritten.load(Relaxed) == 0
    }

    /// Whether the bytes `offset..offset + n` were all written.
    pub(super) fn is_written(&self, offset: usize, n: usize) -> bool {
        let Some(written) = self.written.get() else { return true };
        self.is_whole() || ranges(offset, n).all(|(word, mask)| written[word].load(Relaxed) & mask == mask)
    }

    /// Marks bytes as written. How many are left is counted by [`Buffer::count`], once for a whole launch.
    #[inline(always)]
    pub(super) fn mark(&self, offset: usize, n: usize) {
        let Some(written) = self.written.get() else { return };
        for (word, mask) in ranges(offset, n) {
            if mask == u32::MAX {
                // Bits are only ever set: whoever else writes here meanwhile sets some of these.
                written[word].store(mask, Relaxed);
            } else if written[word].load(Relaxed) & mask != mask {
                written[word].fetch_or(mask, Relaxed);
            }
        }
    }

    /// Counts the bytes that nobody wrote.
    pub(super) fn count(&self) {
        if self.is_whole() {
            return;
        }
        let Some(written) = self.written.get() else { return };
        let set: usize = written.iter().map(|w| w.load(Relaxed).count_ones() as usize).sum();
        self.unwritten.store(self.bytes - set, Relaxed);
    }

    /// The data.
    #[inline(always)]
    pub(super) fn words(&self) -> &[AtomicU32] {
        &self.words
    }

    #[inline(always)]
    pub(super) fn load(&self, word: usize) -> u32 {
        self.words[word].load(Relaxed)
    }

    /// Replaces the bits of `mask`. Not one step for a part of a word: but a neighbour's bytes must survive a store by
    /// another block, hence the compare-and-exchange.
    #[inline(always)]
    pub(super) fn store_bytes(&self, word: usize, value: u32, mask: u32) {
        if mask == u32::MAX {
            self.words[word].store(value, Relaxed);
        } else {
            // The closure always gives a value: this cannot fail.
            let _ = self.words[word].fetch_update(Relaxed, Relaxed, |old| Some((old & !mask) | (value & mask)));
        }
    }
}

/// The words of a bitmap and the bits in each that `offset..offset + n` covers.
pub(super) fn ranges(offset: usize, n: usize) -> impl Iterator<Item = (usize, u32)> {
    let end = offset + n;
    (offset / 32..end.div_ceil(32)).map(move |word| {
        let (from, to) = (offset.max(word * 32) - word * 32, end.min(word * 32 + 32) - word * 32);
        (word, (u64::MAX << from) as u32 & (u32::MAX >> (32 - to)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_at_every_offset() {
        for bytes in [1, 3, 4, 5, 9, 16, 33] {
            for offset in 0..bytes {
                for n in 0..=bytes - offset {
                    let buffer = Buffer::new(bytes);
                    let data: Vec<u8> = (0..n as u8).map(|i| i + 1).collect();
                    buffer.forget();
                    buffer.write(offset, &data);
                    let mut all = vec![0; bytes];
                    buffer.read(0, &mut all);
                    let mut expected = vec![0; bytes];
                    expected[offset..offset + n].copy_from_slice(&data);
                    assert_eq!(all, expected);
                    let mut part = vec![0; n];
                    buffer.read(offset, &mut part);
                    assert_eq!(part, data);
                    for i in 0..bytes {
                        assert_eq!(buffer.is_written(i, 1), (offset..offset + n).contains(&i));
                    }
                }
            }
        }
    }
}
