//! `metadata.jsonl` and `metadata.csv`: one row per line, every path checked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use super::limits::Limits;
use super::row::{COLUMNS, Columns, TableRow, check_column};

/// What is wrong with a line.
pub(super) type BadLine = (u64, String);

/// Reads a table. `row` takes every row, or what is wrong with it.
pub(super) fn read(name: &str, folder: &str, table: usize, file: File, limits: &Limits, row: impl FnMut(Result<TableRow, BadLine>)) {
    if name.ends_with(".csv") { csv(folder, table, file, limits, row) } else { jsonl(folder, table, file, limits, row) }
}

fn jsonl(folder: &str, table: usize, file: File, limits: &Limits, mut row: impl FnMut(Result<TableRow, BadLine>)) {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        // One byte more than allowed tells a line that is too long from one that just fits.
        let read = match (&mut reader).take(limits.line_bytes as u64 + 1).read_until(b'\n', &mut line) {
            Ok(read) => read,
            Err(error) => return row(Err((number, format!("cannot continue reading: {error}")))),
        };
        if read == 0 {
            return;
        }
        if line.last() != Some(&b'\n') && line.len() > limits.line_bytes {
            match skip_line(&mut reader) {
                Ok(rest) => row(Err((number, Limits::beyond("line_bytes", "a line of", line.len() as u64 + rest, "bytes", limits.line_bytes)))),
                Err(error) => return row(Err((number, format!("cannot continue reading: {error}")))),
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
fn from_json(text: &str) -> Result<Columns, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object with `file_name`, `image`, `audio`, `text`: {error}"))
}

fn csv(folder: &str, table: usize, file: File, limits: &Limits, mut row: impl FnMut(Result<TableRow, BadLine>)) {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut header: Option<Vec<String>> = None;
    let (mut raw, mut line) = (Vec::new(), 0);
    loop {
        let first = line + 1;
        raw.clear();
        let mut quotes = Quotes::FieldStart;
        // A record ends with a line unless that line ends within quotes. `csv` parses it; on its own it would keep the rest of the
        // file in memory after a quote that is never closed, and count the lines of Windows differently.
        loop {
            let (before, room) = (raw.len(), limits.line_bytes as u64 + 1 - raw.len() as u64);
            let read = match (&mut reader).take(room).read_until(b'\n', &mut raw) {
                Ok(read) => read,
                Err(error) => return row(Err((first, format!("cannot continue reading: {error}")))),
            };
            if read == 0 {
                break;
            }
            line += 1;
            if raw.len() > limits.line_bytes {
                break;
            }
            quotes = raw[before..].iter().fold(quotes, Quotes::after);
            if quotes != Quotes::Inside {
                break;
            }
        }
        if raw.is_empty() {
            return;
        }
        if raw.len() > limits.line_bytes {
            let rest = if raw.last() == Some(&b'\n') { Ok(0) } else { skip_line(&mut reader) };
            match rest {
                Ok(rest) => row(Err((first, Limits::beyond("line_bytes", "a record of", raw.len() as u64 + rest, "bytes", limits.line_bytes)))),
                Err(error) => return row(Err((first, format!("cannot continue reading: {error}")))),
            }
            continue;
        }
        if quotes == Quotes::Inside {
            return row(Err((first, "the file ends within quotes: it is cut off, or a quote was not closed".into())));
        }
        let record = match csv_record(&raw) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(what) => {
                row(Err((first, what)));
                continue;
            }
        };
        let Some(header) = &header else {
            match csv_header(&record) {
                Ok(names) => header = Some(names),
                Err(what) => return row(Err((first, what))),
            }
            continue;
        };
        row(csv_row(header, &record, folder, table, first).map_err(|what| (first, what)));
    }
}

/// The fields of one record; `None` for an empty line.
fn csv_record(raw: &[u8]) -> Result<Option<csv::StringRecord>, String> {
    let mut record = csv::StringRecord::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(raw.len()).from_reader(raw);
    match reader.read_record(&mut record) {
        Ok(found) => Ok(found.then_some(record)),
        Err(error) => match error.kind() {
            csv::ErrorKind::Utf8 { err, .. } => Err(format!("not UTF-8: {err}")),
            _ => Err(error.to_string()),
        },
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

fn csv_row(header: &[String], record: &csv::StringRecord, folder: &str, table: usize, line: u64) -> Result<TableRow, String> {
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
            "attributes" => {
                // A cell that is not JSON is a column of the data set's own.
                columns.attributes = serde_json::from_str(cell).ok();
                continue;
            }
            _ => continue,
        };
        *column = Some(cell.to_string());
    }
    columns.row(folder, table, line)
}

/// Where in a record a byte is: a quote opens a field only at its start, and two within quotes mean one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    FieldStart,
    /// In a field without quotes: a quote there is a letter.
    Plain,
    Inside,
    /// After a quote within quotes: the end, or the first of two.
    Maybe,
}

impl Quotes {
    fn after(self, byte: &u8) -> Self {
        match (self, byte) {
            (Quotes::Inside, b'"') => Quotes::Maybe,
            (Quotes::Inside, _) | (Quotes::FieldStart | Quotes::Maybe, b'"') => Quotes::Inside,
            (_, b',' | b'\n' | b'\r') => Quotes::FieldStart,
            _ => Quotes::Plain,
        }
    }
}
