//! The values of one column, row by row.

use std::fs::File;
use std::ops::Range;

use parquet::basic::Type as Physical;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};

use super::columns::Leaf;
use super::pages::{Chunk, Pages, heads};
use super::thrift::Head;
use crate::limits::Limits;

/// Rows decoded at a time.
const STEP: usize = 64;

/// Values of rows that follow one another. `None` is a null.
#[derive(Debug)]
pub(super) struct Cells<T> {
    /// Where each row's values begin, and where the last one's end.
    starts: Vec<usize>,
    pub values: Vec<Option<T>>,
}

impl<T> Cells<T> {
    pub fn new() -> Self {
        Cells { starts: vec![0], values: Vec::new() }
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The places of a row's values.
    pub fn places(&self, row: usize) -> Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }

    /// The values as something else.
    pub fn map<U>(self, with: impl Fn(T) -> U) -> Cells<U> {
        Cells { starts: self.starts, values: self.values.into_iter().map(|value| value.map(&with)).collect() }
    }
}

/// A column of one row group: its pages, and how to read them.
pub(super) struct Column<'a> {
    pub file: File,
    pub heads: Vec<Head>,
    pub chunk: &'a Chunk,
    pub leaf: &'a Leaf,
}

impl<'a> Column<'a> {
    /// Looks at the headers of all pages.
    pub fn open(mut file: File, chunk: &'a Chunk, leaf: &'a Leaf, length: u64, limits: &Limits) -> Result<Self, String> {
        let heads = heads(&mut file, chunk, length, limits)?;
        Ok(Column { file, heads, chunk, leaf })
    }

    /// Bytes that all pages decompress to.
    fn bytes(&self) -> u64 {
        self.heads.iter().map(|head| head.uncompressed as u64).sum()
    }

    /// Rows `rows` of the row group.
    pub fn bytes_of(self, rows: Range<usize>) -> Result<Cells<ByteArray>, String> {
        // Values that repeat the start of the one before are copies: a page of them can become the square of its size.
        let most = self.bytes().saturating_mul(64).saturating_add(1 << 20);
        self.read::<ByteArrayType>(rows, most, |value| value.len())
    }

    /// [`Column::bytes_of`] where the values are whole numbers.
    pub fn numbers_of(self, rows: Range<usize>) -> Result<Cells<i64>, String> {
        match self.leaf.descr.physical_type() {
            Physical::INT32 => self.read::<Int32Type>(rows, u64::MAX, |_| 0).map(|cells| cells.map(i64::from)),
            _ => self.read::<Int64Type>(rows, u64::MAX, |_| 0),
        }
    }

    fn read<T: DataType>(self, rows: Range<usize>, most: u64, size: impl Fn(&T::T) -> usize) -> Result<Cells<T::T>, String> {
        let copies = self.heads.iter().any(|head| head.copies());
        let (defined, repeated) = (self.leaf.descr.max_def_level(), self.leaf.descr.max_rep_level());
        let element = self.leaf.descr.repeated_ancestor_def_level();
        let pages = Pages::new(self.file, self.heads, self.chunk.codec, (defined, repeated));
        let mut reader = ColumnReaderImpl::<T>::new(self.leaf.descr.clone(), Box::new(pages));
        let said = |error: parquet::errors::ParquetError| error.to_string().trim_start_matches("Parquet error: ").to_string();
        let short = |found: usize| format!("the column ends after {found} rows; its row group claims at least {}", rows.end);
        if rows.start > 0 {
            let passed = reader.skip_records(rows.start).map_err(said)?;
            if passed < rows.start {
                return Err(short(passed));
            }
        }
        let mut cells = Cells::new();
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0u64;
        while cells.rows() < rows.len() {
            definitions.clear();
            repetitions.clear();
            values.clear();
            let wanted = (rows.len() - cells.rows()).min(STEP);
            let (found, _, levels) = reader.read_records(wanted, Some(&mut definitions), Some(&mut repetitions), &mut values).map_err(said)?;
            if found == 0 {
                return Err(short(rows.start + cells.rows()));
            }
            if copies {
                bytes += values.iter().map(|value| size(value) as u64).sum::<u64>();
                if bytes > most {
                    return Err(format!("its values become more than {most} bytes"));
                }
            }
            let mut values = values.drain(..);
            for level in 0..levels {
                let begins = repeated == 0 || repetitions.get(level) == Some(&0);
                if begins {
                    // Where it ends is moved on with each of its values.
                    cells.starts.push(cells.values.len());
                }
                let level = definitions.get(level).copied().unwrap_or(defined);
                if repeated == 0 || level >= element {
                    cells.values.push(if level == defined { Some(values.next().ok_or("a value is missing")?) } else { None });
                    *cells.starts.last_mut().expect("a row begins with repetition 0") = cells.values.len();
                }
            }
        }
        if cells.rows() > rows.len() {
            return Err("its levels and its rows do not agree".into());
        }
        Ok(cells)
    }
}
