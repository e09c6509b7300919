//! As much of Thrift's compact protocol as it takes to look at a Parquet file before the `parquet` crate does: the tree in its footer,
//! whose depth that crate's recursion follows and whose counts it makes room for, and the header of each page, whose sizes it believes.

/// Nested deeper than this is nothing that people write, and would take a stack's worth of recursion.
const MAX_DEPTH: usize = 48;
/// More columns than this are a table of measurements, not of pictures and texts.
const MAX_ELEMENTS: usize = 20_000;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Data {
        values: u32,
        encoding: u32,
        definition: u32,
        repetition: u32,
    },
    DataV2 {
        values: u32,
        nulls: u32,
        rows: u32,
        encoding: u32,
        definition_bytes: u32,
        repetition_bytes: u32,
        compressed: bool,
    },
    Dictionary {
        values: u32,
        encoding: u32,
    },
    /// Of no use here.
    Index,
}

/// A page: its contents' first byte, its lengths in the file and decompressed, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub at: u64,
    pub compressed: u32,
    pub uncompressed: u32,
    pub content: Content,
}

impl Head {
    /// Whether its values are made from one another rather than being parts of the page.
    pub fn copies(&self) -> bool {
        matches!(self.content, Content::Data { encoding: 7, .. } | Content::DataV2 { encoding: 7, .. })
    }

    /// Values of a data page, nulls included.
    pub fn values(&self) -> Option<u32> {
        match self.content {
            Content::Data { values, .. } | Content::DataV2 { values, .. } => Some(values),
            _ => None,
        }
    }
}

/// Why reading stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end before the structure does.
    Short,
    /// It is not what the protocol allows.
    Damaged(&'static str),
}

type Result<T> = std::result::Result<T, Fault>;

// The protocol's types.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= ((byte & 0x7f) as u64) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Damaged("a number of more than 64 bits"))
    }

    fn i32(&mut self) -> Result<i32> {
        let value = self.varint()?;
        i32::try_from((value >> 1) as i64 ^ -((value & 1) as i64)).map_err(|_| Fault::Damaged("a number of more than 32 bits"))
    }

    fn pass(&mut self, bytes: u64) -> Result<()> {
        let end = usize::try_from(bytes).ok().and_then(|bytes| self.at.checked_add(bytes)).ok_or(Fault::Damaged("a length beyond all bounds"))?;
        if end > self.bytes.len() {
            return Err(Fault::Short);
        }
        self.at = end;
        Ok(())
    }

    /// The length and the type of a list.
    fn list(&mut self) -> Result<(u64, u8)> {
        let byte = self.byte()?;
        let length = if byte >> 4 == 15 { self.varint()? } else { (byte >> 4) as u64 };
        Ok((length, byte & 15))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Fault::Damaged("structures nested too deeply"));
        }
        match kind {
            TRUE | FALSE => Ok(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | 10 => {
                let (length, kind) = self.list()?;
                for _ in 0..length {
                    // In a list a truth value is a byte of its own.
                    if matches!(kind, TRUE | FALSE) { self.pass(1)? } else { self.skip(kind, depth + 1)? }
                }
                Ok(())
            }
            11 => {
                let length = self.varint()?;
                let kinds = if length > 0 { self.byte()? } else { 0 };
                for _ in 0..length {
                    for kind in [kinds >> 4, kinds & 15] {
                        if matches!(kind, TRUE | FALSE) { self.pass(1)? } else { self.skip(kind, depth + 1)? }
                    }
                }
                Ok(())
            }
            STRUCT => self.fields(depth, &mut |_, _, _| Ok(false)),
            _ => Err(Fault::Damaged("a value of an unknown type")),
        }
    }

    /// Walks the fields of a structure. `field` gets each one's number and type, and says whether it has read the value.
    fn fields(&mut self, depth: usize, field: &mut dyn FnMut(&mut Self, i32, u8) -> Result<bool>) -> Result<()> {
        let mut number = 0;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            number = match byte >> 4 {
                0 => self.i32()?,
                step => number + step as i32,
            };
            if !field(self, number, byte & 15)? {
                self.skip(byte & 15, depth + 1)?;
            }
        }
    }

    /// The fields of a structure that are numbers or truth values, by their numbers below 16.
    fn numbers(&mut self, depth: usize) -> Result<[Option<i32>; 16]> {
        let mut found = [None; 16];
        self.fields(depth, &mut |reader, number, kind| {
            let value = match kind {
                TRUE => 1,
                FALSE => 0,
                I32 => reader.i32()?,
                _ => return Ok(false),
            };
            if let Some(place) = usize::try_from(number).ok().and_then(|number| found.get_mut(number)) {
                *place = Some(value);
            }
            Ok(true)
        })?;
        Ok(found)
    }
}

/// A page's header, and its length in bytes. Where the contents are is the caller's to say.
pub(super) fn page_header(bytes: &[u8]) -> Result<(Head, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let mut plain = [None; 5];
    let (mut data, mut dictionary, mut second) = (None, None, None);
    reader.fields(0, &mut |reader, number, kind| {
        match (number, kind) {
            (1..=4, I32) => plain[number as usize] = Some(reader.i32()?),
            (5, STRUCT) => data = Some(reader.numbers(1)?),
            (7, STRUCT) => dictionary = Some(reader.numbers(1)?),
            (8, STRUCT) => second = Some(reader.numbers(1)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let size = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok()).ok_or(Fault::Damaged("a size that is missing or negative"));
    let content = match (plain[1], data, dictionary, second) {
        (Some(0), Some(data), ..) => Content::Data { values: size(data[1])?, encoding: size(data[2])?, definition: size(data[3])?, repetition: size(data[4])? },
        (Some(1), ..) => Content::Index,
        (Some(2), _, Some(dictionary), _) => Content::Dictionary { values: size(dictionary[1])?, encoding: size(dictionary[2])? },
        (Some(3), .., Some(second)) => Content::DataV2 {
            values: size(second[1])?,
            nulls: size(second[2])?,
            rows: size(second[3])?,
            encoding: size(second[4])?,
            definition_bytes: size(second[5])?,
            repetition_bytes: size(second[6])?,
            compressed: second[7] != Some(0),
        },
        _ => return Err(Fault::Damaged("a page of an unknown kind")),
    };
    Ok((Head { at: 0, uncompressed: size(plain[2])?, compressed: size(plain[3])?, content }, reader.at))
}

/// Refuses a footer whose tree of columns is deeper, or has more members, than what the reader may follow.
pub(super) fn check_footer(bytes: &[u8]) -> Result<()> {
    let mut reader = Reader { bytes, at: 0 };
    reader.fields(0, &mut |reader, number, kind| {
        if (number, kind) != (2, LIST) {
            return Ok(false);
        }
        let (length, kind) = reader.list()?;
        if kind != STRUCT || length > MAX_ELEMENTS as u64 {
            return Err(Fault::Damaged("more columns than a table of pictures, sounds and texts has"));
        }
        // How many members each open group still waits for.
        let mut open: Vec<u64> = Vec::new();
        for _ in 0..length {
            let members = reader.numbers(1)?[5].unwrap_or(0);
            let members = u64::try_from(members).map_err(|_| Fault::Damaged("a negative number of columns"))?;
            if members > length || open.len() > MAX_DEPTH {
                return Err(Fault::Damaged("a tree of columns that cannot be"));
            }
            if let Some(last) = open.last_mut() {
                *last = last.saturating_sub(1);
            }
            if members > 0 {
                open.push(members);
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_every_beginning_of_it_is_short() {
        // As parquet-cpp writes it: a data page of 6 values, PLAIN, levels in RLE.
        let header = [0x15, 0, 0x15, 0x94, 0x01, 0x15, 0x94, 0x01, 0x2c, 0x15, 12, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0];
        let (head, length) = page_header(&header).unwrap();
        assert_eq!((head.uncompressed, head.compressed, length), (74, 74, header.len()));
        assert_eq!(head.content, Content::Data { values: 6, encoding: 0, definition: 3, repetition: 3 });
        for length in 0..header.len() {
            assert_eq!(page_header(&header[..length]).unwrap_err(), Fault::Short, "{length}");
        }
    }

    #[test]
    fn deep_and_wide_trees_are_refused() {
        let footer = |elements: &[u8]| {
            let mut bytes = vec![0x15, 2, 0x19, 0xfc];
            let count = elements.len();
            bytes.extend([(count & 0x7f) as u8 | 0x80, (count >> 7) as u8]);
            // Each element has nothing but a number of members (field 5).
            elements.iter().for_each(|members| bytes.extend([0x55, members * 2, 0]));
            bytes.push(0);
            bytes
        };
        assert_eq!(check_footer(&footer(&[2, 0, 1, 0])), Ok(()));
        assert!(check_footer(&footer(&[1; 200])).is_err());
        assert!(check_footer(&footer(&[100, 0])).is_err());
        assert_eq!(check_footer(&footer(&[2, 0])[..8]), Err(Fault::Short));
    }
}
