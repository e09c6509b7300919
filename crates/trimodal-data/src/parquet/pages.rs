//! The pages of one column of one row group: found by their headers, checked before anything is made room for, decompressed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::thrift::{Content, Fault, Head, page_header};
use crate::limits::Limits;

/// Where a column's bytes of one row group are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub at: u64,
    pub bytes: u64,
    pub codec: Compression,
}

/// Finds the pages of a chunk; nothing but their headers is read. `length` is the file's.
pub(super) fn heads(file: &mut File, chunk: &Chunk, length: u64, limits: &Limits) -> Result<Vec<Head>, String> {
    let end = chunk.at.checked_add(chunk.bytes).filter(|end| *end <= length);
    let end = end.ok_or_else(|| format!("a column is said to lie at byte {} and to have {} bytes; the file has {length}", chunk.at, chunk.bytes))?;
    let (mut found, mut at) = (Vec::new(), chunk.at);
    while at < end {
        let (head, bytes) = head(file, at, end, limits)?;
        if bytes as u64 + head.compressed as u64 > end - at {
            return Err(format!("the page at byte {at} is said to have {} bytes; its column ends at byte {end}", head.compressed));
        }
        let head = Head { at: at + bytes as u64, ..head };
        check(&head, chunk.codec, length, limits).map_err(|what| format!("the page at byte {at}: {what}"))?;
        at = head.at + head.compressed as u64;
        if head.content != Content::Index {
            found.push(head);
        }
    }
    Ok(found)
}

/// A header, and its length. Most are 50 bytes; one with statistics may hold the smallest and the largest value.
fn head(file: &mut File, at: u64, end: u64, limits: &Limits) -> Result<(Head, usize), String> {
    let mut wanted = 512u64;
    loop {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        file.by_ref().take(wanted.min(end - at)).read_to_end(&mut bytes).map_err(unreadable)?;
        match page_header(&bytes) {
            Ok(found) => return Ok(found),
            Err(Fault::Short) if wanted < end - at && wanted < limits.header_bytes as u64 => wanted = (wanted * 8).min(limits.header_bytes as u64),
            Err(Fault::Short) if wanted < end - at => {
                return Err(Limits::beyond("header_bytes", "a page's header of more than", wanted, "bytes", limits.header_bytes));
            }
            Err(Fault::Short) => return Err(format!("the page at byte {at} is cut off")),
            Err(Fault::Damaged(what)) => return Err(format!("the page at byte {at} has a damaged header: {what}")),
        }
    }
}

/// Refuses sizes that cannot be, or that would take more memory than allowed.
fn check(head: &Head, codec: Compression, length: u64, limits: &Limits) -> Result<(), String> {
    if head.uncompressed as u64 > limits.page_bytes {
        return Err(Limits::beyond("page_bytes", "a page of", head.uncompressed, "bytes", limits.page_bytes));
    }
    // What the format can do at most: Snappy copies 64 bytes by 3, deflate 258 by 2 bits. (Zstandard has no such bound; there
    // memory is taken as the bytes come.)
    let most = match codec {
        Compression::UNCOMPRESSED => 1,
        Compression::SNAPPY => 24,
        Compression::GZIP(_) => 1_040,
        _ => u64::MAX,
    };
    if head.uncompressed as u64 > (head.compressed as u64).saturating_mul(most).saturating_add(64) {
        return Err(format!("{} bytes cannot become {}", head.compressed, head.uncompressed));
    }
    let values = match head.content {
        Content::Dictionary { values, .. } => values,
        _ => head.values().unwrap_or(0),
    };
    if values as u64 > length {
        return Err(format!("it claims {values} values, in a file of {length} bytes"));
    }
    Ok(())
}

fn unreadable(error: std::io::Error) -> String {
    format!("cannot read it: {error}")
}

/// Hands a chunk's pages to the `parquet` crate, one after the other.
pub(super) struct Pages {
    file: File,
    heads: std::vec::IntoIter<Head>,
    codec: Compression,
    /// Levels of definition and repetition that the column has.
    levels: (i16, i16),
}

impl Pages {
    pub fn new(file: File, heads: Vec<Head>, codec: Compression, levels: (i16, i16)) -> Self {
        Pages { file, heads: heads.into_iter(), codec, levels }
    }

    fn read(&mut self, head: &Head) -> Result<Page, String> {
        self.file.seek(SeekFrom::Start(head.at)).map_err(unreadable)?;
        let mut stored = Vec::with_capacity(head.compressed as usize);
        self.file.by_ref().take(head.compressed as u64).read_to_end(&mut stored).map_err(unreadable)?;
        if stored.len() != head.compressed as usize {
            return Err("the file has become shorter since it was opened".into());
        }
        // In the second version of data pages the levels come first and are never compressed.
        let (plain, compressed) = match head.content {
            Content::DataV2 { definition_bytes, repetition_bytes, compressed, .. } => (definition_bytes as usize + repetition_bytes as usize, compressed),
            _ => (0, true),
        };
        let bytes = if compressed && self.codec != Compression::UNCOMPRESSED {
            if plain > stored.len() || plain > head.uncompressed as usize {
                return Err("its levels are longer than it is".into());
            }
            decompress(&stored, plain, head.uncompressed as usize, self.codec)?
        } else {
            stored
        };
        if bytes.len() != head.uncompressed as usize {
            return Err(format!("expected {} bytes, found {}", head.uncompressed, bytes.len()));
        }
        let page = match head.content {
            Content::Data { values, encoding, definition, repetition } => Page::DataPage {
                buf: bytes.into(),
                num_values: values,
                encoding: encoding_of(encoding)?,
                def_level_encoding: encoding_of(definition)?,
                rep_level_encoding: encoding_of(repetition)?,
                statistics: None,
            },
            Content::DataV2 { values, nulls, rows, encoding, definition_bytes, repetition_bytes, compressed } => Page::DataPageV2 {
                buf: bytes.into(),
                num_values: values,
                encoding: encoding_of(encoding)?,
                num_nulls: nulls,
                num_rows: rows,
                def_levels_byte_len: definition_bytes,
                rep_levels_byte_len: repetition_bytes,
                is_compressed: compressed,
                statistics: None,
            },
            Content::Dictionary { values, encoding } => {
                Page::DictionaryPage { buf: bytes.into(), num_values: values, encoding: encoding_of(encoding)?, is_sorted: false }
            }
            Content::Index => return Err("a page of an index among the data".into()),
        };
        self.check_counts(&page)?;
        Ok(page)
    }

    /// The crate makes room for as many values as the first number of a delta encoding claims.
    fn check_counts(&self, page: &Page) -> Result<(), String> {
        if !matches!(page.encoding(), Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
            return Ok(());
        }
        let bytes = page.buffer();
        let mut at = 0usize;
        match page {
            Page::DataPage { .. } => {
                for _ in 0..(self.levels.0 > 0) as usize + (self.levels.1 > 0) as usize {
                    let length = bytes.get(at..at + 4).ok_or("it ends before its values")?;
                    at = at.saturating_add(4 + u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize);
                }
            }
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => at = *def_levels_byte_len as usize + *rep_levels_byte_len as usize,
            Page::DictionaryPage { .. } => {}
        }
        // Sizes of a block and its parts, then the count; a second such list (of suffixes) is as long as the first or is refused by it.
        let mut rest = bytes.get(at..).ok_or("it ends before its values")?;
        let mut number = || {
            let mut value = 0u64;
            for shift in (0..63).step_by(7) {
                let (byte, left) = rest.split_first().ok_or("it ends before its values")?;
                rest = left;
                value |= ((byte & 0x7f) as u64) << shift;
                if byte & 0x80 == 0 {
                    return Ok(value);
                }
            }
            Err("a number of more than 63 bits")
        };
        let (block, parts, count) = (number()?, number()?, number()?);
        if count > page.num_values() as u64 || parts == 0 || block / parts > 1 << 16 || block > 1 << 20 {
            return Err(format!("a delta encoding of {count} values in blocks of {block}, in a page of {}", page.num_values()));
        }
        Ok(())
    }
}

/// The first `plain` bytes as they are and the rest decompressed: `expected` bytes in all, or fewer where the contents lie about that.
fn decompress(stored: &[u8], plain: usize, expected: usize, codec: Compression) -> Result<Vec<u8>, String> {
    let (levels, contents) = stored.split_at(plain);
    let mut bytes = levels.to_vec();
    if expected == plain {
        return Ok(bytes);
    }
    let failed = |error: &dyn std::fmt::Display| format!("cannot decompress it: {error}");
    // One byte more than expected shows that there is more.
    let left = (expected - plain + 1) as u64;
    match codec {
        Compression::SNAPPY => {
            let length = snap::raw::decompress_len(contents).map_err(|error| failed(&error))?;
            if length != expected - plain {
                return Err(format!("expected {} bytes, found {length}", expected - plain));
            }
            bytes.resize(expected, 0);
            snap::raw::Decoder::new().decompress(contents, &mut bytes[plain..]).map_err(|error| failed(&error))?;
        }
        Compression::ZSTD(_) => {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(contents).map_err(|error| failed(&error))?;
            decoder.by_ref().take(left).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        }
        Compression::GZIP(_) => {
            flate2::read::MultiGzDecoder::new(contents).take(left).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        }
        other => return Err(unread(other)),
    }
    Ok(bytes)
}

/// What is said of a compression that is not read.
pub(super) fn unread(codec: Compression) -> String {
    // `BROTLI(BrotliLevel(1))`: the level is the writer's affair.
    let name = codec.to_string().to_lowercase();
    format!("compressed with {}, which is not read; write it with snappy, zstd, gzip, or uncompressed", name.split('(').next().unwrap_or(&name))
}

/// Whether a compression is read.
pub(super) fn is_read(codec: Compression) -> bool {
    matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_) | Compression::GZIP(_))
}

fn encoding_of(number: u32) -> Result<Encoding, String> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        other => return Err(format!("values in encoding {other}, which is not read")),
    })
}

impl Iterator for Pages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(head) = self.heads.next() else { return Ok(None) };
        self.read(&head).map(Some).map_err(|what| ParquetError::General(format!("the page at byte {}: {what}", head.at)))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Ok(self.heads.as_slice().first().map(|head| PageMetadata {
            num_rows: if let Content::DataV2 { rows, .. } = head.content { Some(rows as usize) } else { None },
            num_levels: head.values().map(|values| values as usize),
            is_dict: matches!(head.content, Content::Dictionary { .. }),
        }))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.heads.next();
        Ok(())
    }
}
