//! Pictures and sounds out of row groups, without decoding a row group for each of them, and in bounded memory.
//!
//! A **block** is some rows of a row group that follow one another: whole pages of the column that holds the most, about [`BLOCK_BYTES`] of it.
//! What was read last stays decoded, up to [`HELD_BYTES`]; a block that several threads want is decoded by one of them. The loader visits
//! rows in an order in which those of one block lie near together ([`crate::order`]), so that every block is decoded once per epoch.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::data_type::ByteArray;

use super::cells::{Cells, Column};
use super::columns::MediaColumn;
use super::pages::{Chunk, heads};
use crate::contained::contained;
use crate::limits::Limits;

/// What a block holds, about; a page that is larger is a block of its own.
const BLOCK_BYTES: u64 = 8 << 20;
/// What blocks may hold together before the one that was used longest ago is dropped.
const HELD_BYTES: u64 = 256 << 20;

/// Rows of a row group that are decoded together.
#[derive(Debug)]
pub(super) struct Block {
    pub file: usize,
    /// One for each column of pictures or sounds; `None` where that has no contents, only paths.
    pub columns: Arc<Vec<Option<(MediaColumn, Chunk)>>>,
    /// The first row, counted in the row group.
    pub first: usize,
    pub rows: usize,
    /// About how many bytes its pages hold.
    pub bytes: u64,
}

/// The contents of a block: for each column its values.
type Contents = Vec<Cells<ByteArray>>;

/// A block that is held, or being decoded by whoever has the lock.
type Slot = Arc<Mutex<Option<Arc<Contents>>>>;

#[derive(Debug, Default)]
struct Held {
    /// By the block's number: what is held, its bytes, and when it was used last.
    slots: HashMap<usize, (Slot, u64, u64)>,
    bytes: u64,
    clock: u64,
    /// How many blocks were decoded, for tests and for those who wonder.
    decoded: u64,
}

/// The blocks of a data set.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    pub(super) blocks: Vec<Block>,
    held: Mutex<Held>,
}

impl Blocks {
    /// The bytes of each block: what the order of an epoch goes by.
    pub fn bytes(&self) -> Vec<u64> {
        self.blocks.iter().map(|block| block.bytes).collect()
    }

    /// How often a block was decoded.
    pub fn decoded(&self) -> u64 {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).decoded
    }

    /// A value of a block; `None` where it is null. `open` opens a file by its number.
    ///
    /// # Errors
    /// What is wrong with the file, in a sentence without its name.
    pub fn value(
        &self,
        block: usize,
        column: usize,
        at: usize,
        limits: &Limits,
        open: impl Fn(usize) -> Result<(File, u64), String>,
    ) -> Result<Option<ByteArray>, String> {
        let place = self.blocks.get(block).ok_or("the row belongs to another data set")?;
        let slot = self.slot(block);
        let contents = {
            let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
            match &*held {
                Some(contents) => contents.clone(),
                None => {
                    let contents = Arc::new(contained(|| decode(place, limits, &open))?);
                    *held = Some(contents.clone());
                    self.count(block, &contents);
                    contents
                }
            }
        };
        let values = contents.get(column).ok_or("the row belongs to another data set")?;
        values.values.get(at).cloned().ok_or_else(|| "the file was exchanged since it was opened: it has fewer values".to_string())
    }

    /// The place of a block's contents. Whoever finds it empty fills it; the others wait.
    fn slot(&self, block: usize) -> Slot {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.clock += 1;
        let now = held.clock;
        let (slot, _, used) = held.slots.entry(block).or_insert_with(|| (Slot::default(), 0, 0));
        *used = now;
        slot.clone()
    }

    /// Counts a block that was decoded, and drops those that were used longest ago.
    fn count(&self, block: usize, contents: &Contents) {
        let bytes = contents.iter().flat_map(|cells| &cells.values).map(|value| 48 + value.as_ref().map_or(0, |value| value.len() as u64)).sum::<u64>();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.decoded += 1;
        if let Some(entry) = held.slots.get_mut(&block) {
            entry.1 = bytes;
            held.bytes += bytes;
        }
        while held.bytes > HELD_BYTES {
            let oldest =
                held.slots.iter().filter(|(number, entry)| **number != block && entry.1 > 0).min_by_key(|(_, entry)| entry.2).map(|(number, _)| *number);
            let Some(oldest) = oldest else { break };
            if let Some((_, bytes, _)) = held.slots.remove(&oldest) {
                held.bytes -= bytes;
            }
        }
    }
}

fn decode(block: &Block, limits: &Limits, open: &impl Fn(usize) -> Result<(File, u64), String>) -> Result<Contents, String> {
    let rows = block.first..block.first + block.rows;
    let read = |column: &Option<(MediaColumn, Chunk)>| match column {
        Some((MediaColumn { name, bytes: Some(leaf), .. }, chunk)) => {
            let (file, length) = open(block.file)?;
            Column::open(file, chunk, leaf, length, limits).and_then(|column| column.bytes_of(rows.clone())).map_err(|what| format!("column `{name}`: {what}"))
        }
        _ => Ok(Cells::new()),
    };
    block.columns.iter().map(read).collect()
}

/// Cuts the rows of a row group into blocks.
///
/// # Errors
/// A column whose pages are damaged, or have another number of rows than the row group.
pub(super) fn cut(
    file: usize,
    rows: usize,
    columns: Vec<Option<(MediaColumn, Chunk)>>,
    limits: &Limits,
    open: impl Fn() -> Result<(File, u64), String>,
) -> Result<Vec<Block>, String> {
    // For each column the row after each page, and the bytes up to there; in lists a page's rows are not known without decoding it.
    let mut ends: Vec<(usize, u64)> = Vec::new();
    let (mut bytes, mut largest) = (0, 0);
    for (column, chunk) in columns.iter().flatten() {
        let Some(leaf) = &column.bytes else { continue };
        let (mut opened, length) = open()?;
        let heads = heads(&mut opened, chunk, length, limits).map_err(|what| format!("column `{}`: {what}", column.name))?;
        let size: u64 = heads.iter().map(|head| head.uncompressed as u64).sum();
        bytes += size;
        let (mut row, mut before, mut mine) = (0usize, 0u64, Vec::new());
        for head in &heads {
            row += head.values().unwrap_or(0) as usize;
            before += head.uncompressed as u64;
            if head.values().is_some() {
                mine.push((row, before));
            }
        }
        if !leaf.is_list() {
            if row != rows {
                return Err(format!("column `{}`: its row group has {rows} rows, its pages have {row}", column.name));
            }
            if size >= largest {
                (largest, ends) = (size, mine);
            }
        }
    }
    let columns = Arc::new(columns);
    let block = |first: usize, end: usize| Block {
        file,
        columns: columns.clone(),
        first,
        rows: end - first,
        bytes: (bytes as f64 * (end - first) as f64 / rows.max(1) as f64) as u64,
    };
    let mut blocks = Vec::new();
    if ends.is_empty() {
        let step = (rows as u64 * BLOCK_BYTES / bytes.max(1)).clamp(1, rows.max(1) as u64) as usize;
        blocks.extend((0..rows).step_by(step).map(|first| block(first, (first + step).min(rows))));
        return Ok(blocks);
    }
    let (mut first, mut from) = (0, 0);
    for (end, before) in ends {
        if end > first && (before - from >= BLOCK_BYTES || end == rows) {
            blocks.push(block(first, end));
            (first, from) = (end, before);
        }
    }
    Ok(blocks)
}
