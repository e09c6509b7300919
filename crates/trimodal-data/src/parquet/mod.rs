//! Parquet files as Hugging Face's `datasets`, pyarrow and polars write them: pictures and sounds as `struct<bytes, path>`, as bytes or as
//! paths, one a row or a list of them; texts, numbers with names, lists of texts.
//!
//! Opening a file reads its footer, its texts, and the headers of its pages; pictures and sounds stay where they are until a row is asked
//! for ([`blocks`]). A row with lists becomes one sample for each element. Every row is a sample, a bad row, or counted in a note: none
//! is left out without a word.

mod blocks;
mod cells;
mod columns;
mod names;
mod pages;
mod thrift;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use parquet::data_type::ByteArray;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

pub(crate) use blocks::Blocks;
pub(crate) use names::{Notes, missing, split_of_part};

use blocks::cut;
use cells::Column;
use columns::{FileColumns, Leaf, MediaColumn, TextColumn};
use pages::{Chunk, is_read, unread};
use thrift::{Fault, check_footer};

use crate::columns::ColumnChoice;
use crate::contained::contained;
use crate::content::Content;
use crate::limits::Limits;
use crate::row::{MediaSource, Origin, TableRow};

/// What was found in a file that is neither a row nor wrong: said once, by whoever opened the data set.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Rows in the file.
    pub rows: u64,
    /// Rows of damaged row groups beyond the first of each, which is counted as a bad row.
    pub lost: u64,
    /// Rows that have lists, and the samples that they became.
    pub lists: u64,
    pub samples_of_lists: u64,
    /// Empty or missing lists of pictures, sounds or texts.
    pub empty_lists: u64,
    /// Columns that nobody reads.
    pub unused: Vec<String>,
}

/// Opens files of the data set once more, by where they lie: each reader has its own place in the file.
pub(crate) type Open<'a> = dyn Fn() -> Result<(File, u64), String> + 'a;

/// Reads one file's rows. `row` takes each one, or a row's number and what is wrong with it.
///
/// # Errors
/// What is wrong with the file as a whole, in a sentence without its name.
pub(crate) fn index(
    open: &Open,
    file: usize,
    name: &str,
    split: Option<&str>,
    choice: &ColumnChoice,
    limits: &Limits,
    into: &mut Blocks,
    row: &mut dyn FnMut(Result<TableRow, (u64, String)>),
) -> Result<Found, String> {
    let metadata = contained(|| footer(open, limits))?;
    let columns = contained(|| FileColumns::find(&metadata, choice))?;
    let (_, length) = open()?;
    let mut reading = Reading { open, length, file, name, split, limits, columns: &columns, into, row, first: 0, found: Found::default(), text_bytes: 0 };
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = usize::try_from(group.num_rows()).ok().filter(|rows| *rows as u64 <= length);
        let Some(rows) = rows else { return Err(format!("row group {number} claims {} rows, in a file of {length} bytes", group.num_rows())) };
        if let Err(what) = contained(|| reading.group(group, rows)) {
            (reading.row)(Err((reading.first, format!("row group {number}, whose {rows} rows are all lost: {what}"))));
            reading.found.lost += (rows as u64).saturating_sub(1);
        }
        reading.first += rows as u64;
    }
    let claimed = metadata.file_metadata().num_rows();
    if claimed != reading.first as i64 {
        return Err(format!("its footer claims {claimed} rows, its row groups have {}", reading.first));
    }
    let mut found = reading.found;
    (found.rows, found.unused) = (claimed as u64, columns.unused);
    Ok(found)
}

/// The last thing in the file: what its columns are, and where.
fn footer(open: &Open, limits: &Limits) -> Result<ParquetMetaData, String> {
    let (mut file, length) = open()?;
    let mut read = |at: u64, bytes: u64| -> Result<Vec<u8>, String> {
        let mut contents = Vec::new();
        file.seek(SeekFrom::Start(at)).map_err(|error| format!("cannot read it: {error}"))?;
        file.by_ref().take(bytes).read_to_end(&mut contents).map_err(|error| format!("cannot read it: {error}"))?;
        Ok(contents)
    };
    const TAIL: u64 = 8;
    if length < 12 || read(0, 4)? != *b"PAR1" {
        return Err(format!("not a Parquet file: expected PAR1 at its start ({length} bytes)"));
    }
    let tail = read(length - TAIL, TAIL)?;
    match &tail[4..] {
        b"PAR1" => {}
        b"PARE" => return Err("the Parquet file is encrypted, which is not read".into()),
        _ => return Err(format!("the Parquet file is cut off: no PAR1 at its end, byte {length}")),
    }
    let bytes = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as u64;
    if bytes > limits.footer_bytes {
        return Err(Limits::beyond("footer_bytes", "a footer of", bytes, "bytes", limits.footer_bytes));
    }
    if bytes > length - TAIL - 4 {
        return Err(format!("its footer is said to have {bytes} bytes, the file has {length}"));
    }
    let contents = read(length - TAIL - bytes, bytes)?;
    check_footer(&contents).map_err(|fault| match fault {
        Fault::Short => format!("its footer of {bytes} bytes is cut off"),
        Fault::Damaged(what) => format!("its footer of {bytes} bytes is damaged: {what}"),
    })?;
    ParquetMetaDataReader::decode_metadata(&contents)
        .map_err(|error| format!("its footer of {bytes} bytes is damaged: {}", error.to_string().trim_start_matches("Parquet error: ").replace('\n', " ")))
}

/// One file while it is read.
struct Reading<'a> {
    open: &'a Open<'a>,
    length: u64,
    file: usize,
    name: &'a str,
    split: Option<&'a str>,
    limits: &'a Limits,
    columns: &'a FileColumns,
    into: &'a mut Blocks,
    row: &'a mut dyn FnMut(Result<TableRow, (u64, String)>),
    /// The number of the row group's first row.
    first: u64,
    found: Found,
    text_bytes: u64,
}

/// A text, or what is wrong with it; `None` where it is null.
type Word = Option<Result<String, String>>;

/// The texts of a row group's rows.
struct Words {
    list: bool,
    places: Vec<Range<usize>>,
    words: Vec<Word>,
}

/// Where a row's pictures or sounds are.
struct Media<'a> {
    column: &'a MediaColumn,
    number: usize,
    /// In a list, how many each row has.
    lengths: Option<Vec<usize>>,
    /// The paths, where the row group may have values without contents; row by row, element by element.
    paths: Option<Vec<Option<String>>>,
}

impl Reading<'_> {
    fn group(&mut self, group: &RowGroupMetaData, rows: usize) -> Result<(), String> {
        let columns = self.columns;
        let text = columns.text.as_ref().map(|column| self.words(group, column, rows)).transpose()?;
        let prompt = columns.prompt.as_ref().map(|column| self.words(group, column, rows)).transpose()?;
        let split = columns.split.as_ref().map(|column| self.words(group, column, rows)).transpose()?;
        let declared = columns.attributes.iter().map(|(name, column)| Ok((name.as_str(), self.words(group, column, rows)?)));
        let declared = declared.collect::<Result<Vec<_>, String>>()?;
        let media = columns.media.iter().enumerate().map(|(number, column)| self.media(group, column, number, rows)).collect::<Result<Vec<_>, _>>()?;
        let chunks = columns.media.iter().map(|column| match &column.bytes {
            Some(leaf) => chunk(group.column(leaf.index)).map(|chunk| Some((column.clone(), chunk))),
            None => Ok(None),
        });
        let blocks = cut(self.file, rows, chunks.collect::<Result<_, _>>()?, self.limits, self.open)?;
        let mut offsets = vec![0; media.len()];
        for block in blocks {
            let number = self.into.blocks.len();
            // Where the row's elements are among the block's.
            let mut at = vec![0; media.len()];
            for row in block.first..block.first + block.rows {
                self.one(row, number, &media, &mut at, &mut offsets, [&text, &prompt, &split], &declared);
            }
            self.into.blocks.push(block);
        }
        Ok(())
    }

    /// One row: as many samples as its lists have elements.
    fn one(
        &mut self,
        row: usize,
        block: usize,
        media: &[Media],
        at: &mut [usize],
        offsets: &mut [usize],
        words: [&Option<Words>; 3],
        declared: &[(&str, Words)],
    ) {
        let number = self.first + row as u64;
        let lengths: Vec<usize> = media.iter().map(|media| media.lengths.as_ref().map_or(1, |lengths| lengths[row])).collect();
        let mut lists: Vec<(&str, usize)> =
            media.iter().zip(&lengths).filter(|(media, _)| media.lengths.is_some()).map(|(media, length)| (media.column.name.as_str(), *length)).collect();
        for (words, column) in words.iter().zip([&self.columns.text, &self.columns.prompt, &self.columns.split]) {
            if let (Some(words), Some(column)) = (words, column)
                && words.list
            {
                lists.push((column.name.as_str(), words.places[row].len()));
            }
        }
        let samples = lists.iter().map(|(_, length)| *length).max().unwrap_or(1).max(1);
        let odd = lists.iter().find(|(_, length)| *length > 1 && *length != samples);
        self.found.lists += !lists.is_empty() as u64;
        self.found.empty_lists += lists.iter().filter(|(_, length)| *length == 0).count() as u64;
        if let Some((name, length)) = odd {
            let longest = lists.iter().find(|(_, length)| *length == samples).map_or("", |(name, _)| name);
            (self.row)(Err((number, format!("{length} in `{name}` and {samples} in `{longest}`: expected lists of the same length, or of one"))));
        } else {
            for element in 0..samples {
                let made = self.sample(number, block, row, element, samples, media, &lengths, at, offsets, words, declared);
                self.found.samples_of_lists += !lists.is_empty() as u64;
                (self.row)(made.map_err(|what| (number, what)));
            }
        }
        for i in 0..media.len() {
            at[i] += lengths[i];
            offsets[i] += lengths[i];
        }
    }

    fn sample(
        &self,
        number: u64,
        block: usize,
        row: usize,
        element: usize,
        samples: usize,
        media: &[Media],
        lengths: &[usize],
        at: &[usize],
        offsets: &[usize],
        words: [&Option<Words>; 3],
        declared: &[(&str, Words)],
    ) -> Result<TableRow, String> {
        let place = |length: usize| if length > 1 { Some(element) } else { (length == 1).then_some(0) };
        let of = |words: &Words| match place(words.places[row].len()).and_then(|i| words.words[words.places[row].start + i].as_ref()) {
            None => Ok(None),
            Some(Ok(word)) => Ok(Some(word.clone())),
            Some(Err(what)) => Err(what.clone()),
        };
        let word = |words: &Option<Words>| words.as_ref().map_or(Ok(None), of);
        let mut attributes = BTreeMap::new();
        for (name, words) in declared {
            match of(words)? {
                Some(json) if name.is_empty() => attributes = serde_json::from_str(&json).map(|json| crate::row::declared(&json)).unwrap_or_default(),
                Some(word) if !word.trim().is_empty() => drop(attributes.insert(name.to_string(), word.trim().to_string())),
                _ => {}
            }
        }
        let source = |content: Content| -> Result<Option<MediaSource>, String> {
            let Some(i) = media.iter().position(|media| media.column.content == content) else { return Ok(None) };
            let Some(place) = place(lengths[i]) else { return Ok(None) };
            let path = media[i].paths.as_ref().and_then(|paths| paths.get(offsets[i] + place).cloned().flatten());
            Ok(match (&media[i].column.bytes, path) {
                (Some(_), path) => Some(MediaSource::Cell { column: media[i].number, at: at[i] + place, path: path.map(String::into_boxed_str) }),
                (None, Some(path)) => Some(MediaSource::File(self.beside(&path)?)),
                (None, None) => None,
            })
        };
        let made = TableRow {
            name: if samples > 1 { format!("{}#{number}.{element}", self.name) } else { format!("{}#{number}", self.name) },
            origin: Origin::Parquet { file: self.file, block, row: number },
            file: None,
            picture: source(Content::Picture)?,
            sound: source(Content::Sound)?,
            text: word(words[0])?,
            prompt: word(words[1])?,
            split: word(words[2])?.or_else(|| self.split.map(str::to_string)),
            attributes,
        };
        if made.is_empty() { Err("the row has neither picture nor sound nor text".into()) } else { Ok(made) }
    }

    /// A path that lies in the file, as one of the data folder.
    fn beside(&self, path: &str) -> Result<String, String> {
        beside(self.name, path)
    }

    fn column<'l>(&self, group: &RowGroupMetaData, leaf: &'l Leaf, chunk: &'l Chunk, name: &str) -> Result<Column<'l>, String> {
        debug_assert!(leaf.index < group.num_columns());
        let (file, length) = (self.open)()?;
        Column::open(file, chunk, leaf, length, self.limits).map_err(|what| format!("column `{name}`: {what}"))
    }

    fn words(&mut self, group: &RowGroupMetaData, column: &TextColumn, rows: usize) -> Result<Words, String> {
        let chunk = chunk(group.column(column.leaf.index))?;
        let opened = self.column(group, &column.leaf, &chunk, &column.name)?;
        let named = |what: String| format!("column `{}`: {what}", column.name);
        let list = column.leaf.is_list();
        if column.leaf.descr.physical_type() == parquet::basic::Type::BYTE_ARRAY {
            let cells = opened.bytes_of(0..rows).map_err(named)?;
            let mut words = Vec::with_capacity(cells.values.len());
            for value in &cells.values {
                words.push(value.as_ref().map(|value| self.word(value)).transpose()?);
            }
            Ok(Words { list, places: (0..rows).map(|row| cells.places(row)).collect(), words })
        } else {
            let cells = opened.numbers_of(0..rows).map_err(named)?;
            let name = |number: i64| match usize::try_from(number).ok().and_then(|i| column.names.get(i)) {
                Some(name) => Ok(name.clone()),
                None if column.names.is_empty() => Ok(number.to_string()),
                None => Err(format!("column `{}`: {number} is not one of its {} names", column.name, column.names.len())),
            };
            let places = (0..rows).map(|row| cells.places(row)).collect();
            Ok(Words { list, places, words: cells.map(name).values })
        }
    }

    /// A text; the inner error is the row's, the outer one the file's.
    fn word(&mut self, value: &ByteArray) -> Result<Result<String, String>, String> {
        if value.len() > self.limits.line_bytes {
            return Ok(Err(Limits::beyond("line_bytes", "a text of", value.len(), "bytes", self.limits.line_bytes)));
        }
        // A dictionary's word may be said by any number of rows: a few bytes each, which become its whole length.
        self.text_bytes += value.len() as u64;
        let most = self.length.saturating_mul(64).saturating_add(64 << 20);
        if self.text_bytes > most {
            return Err(format!("its texts become more than {most} bytes, in a file of {} bytes", self.length));
        }
        Ok(match std::str::from_utf8(value.data()) {
            Ok(text) => Ok(text.to_string()),
            Err(error) => Err(format!("not UTF-8 at byte {} of the text", error.valid_up_to())),
        })
    }

    fn media<'c>(&mut self, group: &RowGroupMetaData, column: &'c MediaColumn, number: usize, rows: usize) -> Result<Media<'c>, String> {
        let mut media = Media { column, number, lengths: None, paths: None };
        let Some(leaf) = column.lengths() else { return Ok(media) };
        // Where every value has contents, nobody asks for their paths.
        let nulls = column.bytes.as_ref().and_then(|leaf| group.column(leaf.index).statistics()).and_then(|statistics| statistics.null_count_opt());
        let wants_paths = column.path.is_some() && (column.bytes.is_none() || nulls != Some(0));
        if !column.is_list() && !wants_paths {
            return Ok(media);
        }
        let chunk = chunk(group.column(leaf.index))?;
        let opened = self.column(group, leaf, &chunk, &column.name)?;
        let cells = opened.bytes_of(0..rows).map_err(|what| format!("column `{}`: {what}", column.name))?;
        if column.is_list() {
            media.lengths = Some((0..rows).map(|row| cells.places(row).len()).collect());
        }
        if wants_paths {
            let mut paths = Vec::with_capacity(cells.values.len());
            for value in &cells.values {
                paths.push(match value {
                    None => None,
                    // A path that cannot be one stays as a sentence for the row that asks for it.
                    Some(value) => Some(self.word(value)?.unwrap_or_else(|_| "\0".into())),
                });
            }
            media.paths = Some(paths);
        }
        Ok(media)
    }
}

/// Where a row group has a column.
fn chunk(column: &ColumnChunkMetaData) -> Result<Chunk, String> {
    let codec = column.compression();
    if !is_read(codec) {
        return Err(format!("column `{}` is {}", column.column_path().string(), unread(codec)));
    }
    let data = column.data_page_offset();
    let first = column.dictionary_page_offset().filter(|at| *at > 0 && *at < data).unwrap_or(data);
    match (u64::try_from(first), u64::try_from(column.compressed_size())) {
        (Ok(at), Ok(bytes)) => Ok(Chunk { at, bytes, codec }),
        _ => Err(format!("column `{}` is said to lie at byte {first} and to have {} bytes", column.column_path().string(), column.compressed_size())),
    }
}

/// A path in the Parquet file of this name, relative to the data folder.
pub(crate) fn beside(name: &str, path: &str) -> Result<String, String> {
    if path.contains("://") {
        return Err(format!("{path:?} is an address, and nothing is fetched from the net; write the files' contents into the column, or paths in the folder"));
    }
    crate::row::check_path(path)?;
    Ok(match name.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{path}"),
        None => path.to_string(),
    })
}
