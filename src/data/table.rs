//! `metadata.jsonl` and `metadata.csv`: one row per line, every path checked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Limits;
use super::row::{COLUMNS, Columns, Row, check_column};

/// What is wrong with a line.
pub(super) type BadLine = (u64, String);

/// Reads a table. `row` takes every row, or what is wrong with it; gives the last line that ended the reading early, if one did.
pub(super) fn read(name: &str, folder: &str, table: usize, file: File, limits: &Limits, row: impl FnMut(Result<Row, BadLine>)) {
    if name.ends_with(".csv") { csv(folder, table, file, limits, row) } else { jsonl(folder, table, file, limits, row) }
}

fn jsonl(folder: &str, table: usize, file: File, limits: &Limits, mut row: impl FnMut(Result<Row, BadLine>)) {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        // One byte more than allowed tells a line that is too long from one that just fits.
        let read = match (&mut reader).take(limits.line_bytes as u64 + 1).read_until(b'\n', &mut line) {
            Ok(read) => read,
            Err(error) => return row(Err((number, format!("cannot read on: {error}")))),
        };
        if read == 0 {
            return;
        }
        if line.last() != Some(&b'\n') && line.len() > limits.line_bytes {
            match skip_line(&mut reader) {
                Ok(rest) => row(Err((number, Limits::beyond("line_bytes", "a line of", line.len() as u64 + rest, "bytes", limits.line_bytes)))),
                Err(error) => return row(Err((number, format!("cannot read on: {error}")))),
            }
            continue;
        }
        // Editors on Windows put a byte order mark before the first line.
        let mut text = line.as_slice();
        if number == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        match std::str::from_utf8(text) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => row(from_json(text).and_then(|columns| columns.row(folder, table, number)).map_err(|what| (number, what))),
            Err(error) => row(Err((number, format!("not UTF-8 at byte {} of the line", error.valid_up_to())))),
        }
    }
}

/// Reads to the end of a line without keeping it; gives its length.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let ahead = reader.fill_buf()?;
        let (length, ends) = match ahead.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (ahead.len(), ahead.is_empty()),
        };
        reader.consume(length);
        skipped += length as u64;
        if ends {
            return Ok(skipped);
        }
    }
}

/// The columns of a JSON object.
pub(super) fn from_json(text: &str) -> Result<Columns, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object with `file_name`, `image`, `audio`, `text`: {error}"))
}

fn csv(folder: &str, table: usize, file: File, limits: &Limits, mut row: impl FnMut(Result<Row, BadLine>)) {
    let allowed = Arc::new(AtomicU64::new(0));
    let guard = Guard { inner: file, read: 0, allowed: allowed.clone(), quotes: Quotes::FieldStart };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(CSV_BUFFER).from_reader(guard);
    let mut record = csv::ByteRecord::new();
    let mut header: Option<Vec<String>> = None;
    loop {
        let start = reader.position().byte();
        // What the reader has taken from the file ahead of this record, the record, and a buffer more.
        allowed.store(start + limits.line_bytes as u64 + 2 * CSV_BUFFER as u64, Ordering::Relaxed);
        let more = match reader.read_byte_record(&mut record) {
            Ok(more) => more,
            Err(error) => {
                let line = reader.position().line();
                let too_long = matches!(error.kind(), csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge);
                let length = reader.get_ref().read - start;
                let what = if too_long { Limits::beyond("line_bytes", "a record of more than", length, "bytes", limits.line_bytes) } else { error.to_string() };
                return row(Err((line, what)));
            }
        };
        if !more {
            if reader.get_ref().quotes == Quotes::Inside {
                row(Err((reader.position().line(), "the file ends within quotes: it is cut off, or a quote was not closed".into())));
            }
            return;
        }
        let line = record.position().map_or(0, |position| position.line());
        let length = reader.position().byte() - start;
        if length > limits.line_bytes as u64 {
            row(Err((line, Limits::beyond("line_bytes", "a record of", length, "bytes", limits.line_bytes))));
            continue;
        }
        let text = match csv::StringRecord::from_byte_record(std::mem::take(&mut record)) {
            Ok(text) => text,
            Err(error) => {
                row(Err((line, format!("not UTF-8: {}", error.utf8_error()))));
                continue;
            }
        };
        let Some(header) = &header else {
            match csv_header(&text) {
                Ok(names) => header = Some(names),
                Err(what) => return row(Err((line, what))),
            }
            continue;
        };
        row(csv_row(header, &text, folder, table, line).map_err(|what| (line, what)));
    }
}

/// The names of the columns.
fn csv_header(record: &csv::StringRecord) -> Result<Vec<String>, String> {
    let names: Vec<String> = record.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_string()).collect();
    for (i, name) in names.iter().enumerate() {
        check_column(name)?;
        if COLUMNS.contains(&name.as_str()) && names[..i].contains(name) {
            return Err(format!("column `{name}` occurs twice"));
        }
    }
    if !["file_name", "image", "audio", "text"].iter().any(|column| names.iter().any(|name| name == column)) {
        let found: String = names.join(", ").chars().take(80).collect();
        return Err(format!("expected a first line that names columns, among them `file_name`, `image`, `audio` or `text`; found {found:?}"));
    }
    Ok(names)
}

fn csv_row(header: &[String], record: &csv::StringRecord, folder: &str, table: usize, line: u64) -> Result<Row, String> {
    if record.len() != header.len() {
        return Err(format!("expected {} columns as in the first line, found {}", header.len(), record.len()));
    }
    let mut columns = Columns::default();
    for (name, cell) in header.iter().zip(record).filter(|(_, cell)| !cell.is_empty()) {
        let column = match name.as_str() {
            "file_name" => &mut columns.file_name,
            "image" => &mut columns.image,
            "audio" => &mut columns.audio,
            "text" => &mut columns.text,
            "prompt" => &mut columns.prompt,
            "split" => &mut columns.split,
            _ => continue,
        };
        *column = Some(cell.to_string());
    }
    columns.row(folder, table, line)
}

const CSV_BUFFER: usize = 1 << 13;

/// A file that is read only as far as is allowed (`csv` keeps a whole record in memory, and a quote that is never closed makes
/// one of the rest of the file), and that knows whether it stands within quotes.
struct Guard {
    inner: File,
    read: u64,
    allowed: Arc<AtomicU64>,
    quotes: Quotes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    FieldStart,
    /// In a field without quotes: a quote there is a letter.
    Plain,
    Inside,
    /// After a quote within quotes: the end, or the first of two that mean one.
    Maybe,
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read > self.allowed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let length = self.inner.read(buffer)?;
        self.read += length as u64;
        for byte in &buffer[..length] {
            self.quotes = match (self.quotes, byte) {
                (Quotes::Inside, b'"') => Quotes::Maybe,
                (Quotes::Inside, _) | (Quotes::FieldStart | Quotes::Maybe, b'"') => Quotes::Inside,
                (_, b',' | b'\n' | b'\r') => Quotes::FieldStart,
                _ => Quotes::Plain,
            };
        }
        Ok(length)
    }
}
