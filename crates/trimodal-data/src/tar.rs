//! The members of a tar archive, found by reading headers only.
//!
//! POSIX ustar and pax, and GNU's long names. The `tar` crate reads the fields of a header; the walk is ours, because a shard may
//! be damaged or hostile: every length is compared with the file's, nothing is unpacked, nothing is written, and a member that is not an
//! ordinary file is refused by name.

use std::io::{self, BufRead, BufReader, Read, Seek};

use tar::{EntryType, Header, PaxExtensions};

use super::limits::Limits;
use super::row::check_path;

const BLOCK: u64 = 512;

/// Zeros after the end mark among which another archive is looked for, in bytes: writers fill up their record, 10 KiB as a rule.
const MOST_PADDING: u64 = 1 << 20;

/// An ordinary file in an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its path, checked as every path is.
    pub path: String,
    /// Where its header starts (the first, if it has several).
    pub byte: u64,
    /// The first byte of its contents.
    pub at: u64,
    /// Their length.
    pub bytes: u64,
}

/// What is wrong, and with the header at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadMember {
    pub byte: u64,
    pub what: String,
}

/// Walks through an archive. After a member that is refused it continues; after damage it ends.
pub(super) struct Scanner<R> {
    reader: BufReader<R>,
    length: u64,
    at: u64,
    /// Bytes of the last member that nobody asked for.
    left: u64,
    header_bytes: u64,
    ended: bool,
}

impl<R: Read + Seek> Scanner<R> {
    /// `length` is the file's.
    pub fn new(inner: R, length: u64, limits: &Limits) -> Self {
        Scanner { reader: BufReader::new(inner), length, at: 0, left: 0, header_bytes: limits.header_bytes as u64, ended: false }
    }

    /// The contents of the member that [`Scanner::next`] gave last.
    pub fn contents(&mut self, member: &Member) -> io::Result<Vec<u8>> {
        let mut contents = vec![0; member.bytes as usize];
        self.reader.read_exact(&mut contents)?;
        self.at += member.bytes;
        self.left = 0;
        Ok(contents)
    }

    /// The next ordinary file.
    pub fn next(&mut self) -> Option<Result<Member, BadMember>> {
        if self.ended {
            return None;
        }
        let start = (self.at + self.left).next_multiple_of(BLOCK);
        let member = self.member().unwrap_or_else(|what| {
            self.ended = true;
            Some(Err(what))
        });
        self.ended |= member.is_none();
        Some(member?.map_err(|what| BadMember { byte: start, what }))
    }

    /// A member, a refused one, the end, or damage.
    #[allow(clippy::type_complexity)]
    fn member(&mut self) -> Result<Option<Result<Member, String>>, String> {
        let mut long_path: Option<Vec<u8>> = None;
        let (mut refused, mut first) = (None, None);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let byte = *first.get_or_insert(self.at - BLOCK);
            let size = header.entry_size().map_err(|error| format!("a damaged header: {error}"))?;
            let (at, kind) = (self.at, header.entry_type());
            if size > self.length.saturating_sub(at) {
                return Err(format!("the archive is cut off: a member of {size} bytes starts at byte {at}, the file has {}", self.length));
            }
            match kind {
                EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader => {
                    if size > self.header_bytes {
                        return Err(Limits::beyond("header_bytes", "a header of", size, "bytes", self.header_bytes));
                    }
                    let mut contents = vec![0; size as usize];
                    self.read(&mut contents)?;
                    if kind == EntryType::GNULongName {
                        contents.truncate(contents.iter().position(|byte| *byte == 0).unwrap_or(contents.len()));
                        long_path = Some(contents);
                    } else if kind == EntryType::XHeader {
                        for extension in PaxExtensions::new(&contents) {
                            let extension = extension.map_err(|error| format!("a damaged pax header: {error}"))?;
                            match extension.key_bytes() {
                                b"path" => long_path = Some(extension.value_bytes().to_vec()),
                                // The length of the next member, other than its header says: where it ends is then unclear.
                                b"size" => return Err("a member of more than 8 GiB, or one that hides its length".into()),
                                key if key.starts_with(b"GNU.sparse") => refused = Some("a sparse file".to_string()),
                                _ => {}
                            }
                        }
                    }
                }
                EntryType::XGlobalHeader => self.skip(size)?,
                EntryType::Directory => {
                    // A long name before it was its own.
                    (long_path, refused) = (None, None);
                    self.skip(size)?;
                }
                EntryType::Regular | EntryType::Continuous => {
                    let raw = long_path.take().unwrap_or_else(|| header.path_bytes().into_owned());
                    let path = match String::from_utf8(raw) {
                        Ok(path) => path,
                        Err(error) => {
                            refused.get_or_insert("a name that is not UTF-8".into());
                            String::from_utf8_lossy(error.as_bytes()).into_owned()
                        }
                    };
                    if let Err(what) = check_path(&path) {
                        refused.get_or_insert(what);
                    }
                    if let Some(what) = refused {
                        self.skip(size)?;
                        return Ok(Some(Err(format!("member {path:?}: {what}"))));
                    }
                    self.left = size;
                    return Ok(Some(Ok(Member { path, byte, at, bytes: size })));
                }
                other => {
                    let what = match other {
                        EntryType::Symlink => "a symbolic link",
                        EntryType::Link => "a hard link",
                        EntryType::Char | EntryType::Block => "a device",
                        EntryType::Fifo => "a pipe",
                        EntryType::GNUSparse => "a sparse file",
                        _ => "of an unknown kind",
                    };
                    let raw = long_path.take().unwrap_or_else(|| header.path_bytes().into_owned());
                    self.skip(size)?;
                    return Ok(Some(Err(format!("member {:?} is {what}; expected ordinary files", String::from_utf8_lossy(&raw)))));
                }
            }
        }
    }

    /// The next header; `None` at the end mark, which is two blocks of zeros, unless an archive follows.
    fn header(&mut self) -> Result<Option<Header>, String> {
        let start = (self.at + std::mem::take(&mut self.left)).next_multiple_of(BLOCK);
        self.skip(start - self.at)?;
        let cut_off = |at: u64| format!("the archive is cut off: no end mark (two blocks of zeros) within its {at} bytes");
        if self.length.saturating_sub(start) < 2 * BLOCK {
            return Err(cut_off(self.length));
        }
        let mut block = [0; BLOCK as usize];
        self.read(&mut block)?;
        let ended = block == [0; BLOCK as usize];
        if ended {
            self.read(&mut block)?;
            if block != [0; BLOCK as usize] {
                return Err("a single block of zeros between members: the archive is damaged".into());
            }
            // Another archive may follow, after the zeros that fill up the record: `cat a.tar b.tar`.
            let end = self.at + MOST_PADDING;
            while block == [0; BLOCK as usize] {
                if self.length - self.at < BLOCK || self.at >= end {
                    return Ok(None);
                }
                self.read(&mut block)?;
            }
        }
        let header = Header::from_byte_slice(&block).clone();
        // The sum of all bytes, with spaces in place of the sum itself.
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| *byte as u32).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            if ended {
                return Err(format!("the archive has an end mark, and at byte {} something follows that is not a tar archive", self.at - BLOCK));
            }
            return Err("a damaged header: its checksum is wrong, or this is not a tar archive (unpack a compressed one first)".into());
        }
        Ok(Some(header))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        self.reader.read_exact(buffer).map_err(|error| format!("cannot continue reading at byte {}: {error}", self.at))?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    /// Moves on, by a seek where the bytes are not in the buffer.
    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        if bytes <= self.reader.buffer().len() as u64 {
            self.reader.consume(bytes as usize);
        } else {
            let offset = i64::try_from(bytes).map_err(|_| format!("a member of {bytes} bytes"))?;
            self.reader.seek_relative(offset).map_err(|error| format!("cannot continue reading at byte {}: {error}", self.at))?;
        }
        self.at += bytes;
        Ok(())
    }
}
