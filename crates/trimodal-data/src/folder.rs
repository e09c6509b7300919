//! A data set: a folder as Hugging Face's imagefolder and audiofolder read it, or WebDataset shards.
//!
//! [`Dataset::open`] takes, in this order:
//!
//! - a pattern `shard-{000000..000012}.tar`, or one `.tar` file ([`super::shards`]);
//! - a folder with `metadata.jsonl` or `metadata.csv` in it or anywhere below it, one row per line ([`super::table`]); those of
//!   `data/train/metadata.jsonl` are of the split `train` ([`super::split`]);
//! - a folder with `*.tar` in it or anywhere below it;
//! - `.parquet` files, one, a pattern, or a folder with them in it or anywhere below it ([`super::parquet`]);
//! - a folder of pictures, sounds and texts, whose subfolders name what is in them ([`super::walk`]).
//!
//! Paths are relative to the table's folder and may not leave it, neither by `..` nor by a symbolic link.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use super::find::METADATA;
pub use super::row::{MediaSource, Origin, TableRow};
pub use super::sizes::{Fit, MediaSizes};

use super::bad::BadSamples;
use super::columns::ColumnChoice;
use super::content::Content;
use super::find::{self, Found, TABLES};
use super::limits::Limits;
use super::opened::Opened;
use super::parallel::parallel;
use super::parquet::{self, Blocks};
use super::picture::Picture;
use super::safe::Folder;
use super::sample::Sample;
use super::sound::SoundInfo;
use super::split;
use super::window::Window;
use super::{picture, shards, sound, table, walk};
use trimodal_base::read::regular;
use trimodal_base::{Error, Result};

/// What the files of a row held before they were brought to the model's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct MediaInfo {
    /// Width and height of the picture, in pixels.
    pub picture: Option<(u32, u32)>,
    /// The sound.
    pub sound: Option<SoundInfo>,
}

/// A data set whose tables or shards have been read and checked; pictures and sounds are decoded by [`Dataset::load`],
/// [`Dataset::sample`] and the [loader](super::loader).
#[derive(Clone, Debug)]
pub struct Dataset {
    dir: PathBuf,
    kind: &'static str,
    pub(super) folder: Folder,
    /// Names relative to the folder.
    tables: Vec<String>,
    /// Names relative to the folder, or what the user named.
    shards: Vec<Shard>,
    rows: Vec<TableRow>,
    bad: BadSamples,
    notes: Vec<String>,
    /// Stretches of Parquet files that are decoded together.
    blocks: Option<std::sync::Arc<Blocks>>,
    pub(super) limits: Limits,
}

/// How a data set is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// What it may ask of this machine.
    pub limits: Limits,
    /// Which columns of Parquet files are what.
    pub columns: ColumnChoice,
    /// Whether bad rows are left out and counted instead of being an error.
    pub skip_bad: bool,
}

/// An opened picture or sound, at its beginning, and its first bytes.
pub(super) type Started = (Window<Opened>, Vec<u8>);

#[derive(Clone, Debug)]
enum Shard {
    Inside(String),
    Named(PathBuf),
}

impl Dataset {
    /// Reads and checks all tables, shards or names of files.
    ///
    /// # Errors
    /// No such data; [`Error::BadSamples`] with the first ten bad rows, each with its place: not UTF-8, not JSON, beyond a
    /// limit, neither picture, sound nor text, or a path that leaves the folder; a data set without rows.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        Self::open_with(path, &OpenOptions { limits: limits.clone(), ..OpenOptions::default() })
    }

    /// As [`Dataset::open`], with a choice of columns, and of what happens to bad rows.
    ///
    /// # Errors
    /// As [`Dataset::open`]; columns chosen for a data set that has none.
    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Self> {
        let dataset = Self::read(path, &options.limits, &options.columns)?;
        if dataset.bad.count > 0 && !options.skip_bad {
            return Err(Error::BadSamples { count: dataset.bad.count, first: dataset.bad.first });
        }
        if dataset.kind != "parquet" && !options.columns.is_empty() {
            let what =
                format!("columns are chosen ({}), and this is no Parquet data set: a table's columns are named in its first line or its keys", options.columns);
            return Err(Error::file(path, what));
        }
        Ok(dataset)
    }

    /// As [`Dataset::open`], but bad rows are left out and counted in [`Dataset::bad`].
    ///
    /// # Errors
    /// No such data, or no good row in it.
    pub fn open_skipping(path: &Path, limits: &Limits) -> Result<Self> {
        Self::open_with(path, &OpenOptions { limits: limits.clone(), skip_bad: true, ..OpenOptions::default() })
    }

    fn read(path: &Path, limits: &Limits, columns: &ColumnChoice) -> Result<Self> {
        if let Some(shards) = shards::expand(path) {
            let shards = shards?;
            if shards.first().is_some_and(|path| has_suffix(path, "parquet")) {
                return Self::of_parquet(path, shards, limits, columns);
            }
            return Self::of_shards(path, shards, limits);
        }
        if path.is_file() {
            if has_suffix(path, "parquet") {
                return Self::of_parquet(path, vec![path.to_path_buf()], limits, columns);
            }
            if path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("tar")) {
                return Self::of_shards(path, vec![path.to_path_buf()], limits);
            }
            return Err(Error::file(path, "expected a folder with metadata.jsonl, a .tar shard or a .parquet file, found another file"));
        }
        if !path.is_dir() {
            let what = "there is no such folder; a data set is a folder with metadata.jsonl (`trimodal meadow DIR` writes one), or shards";
            return Err(Error::file(path, what));
        }
        let mut data = Self::empty(path, path, limits)?;
        let found = Found::below(&data.folder)?;
        if !found.tables.is_empty() {
            if let Some(pair) = found.tables.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                let what = "found both metadata.jsonl and metadata.csv, and it is not clear which one to read: keep only one of them";
                return Err(Error::file(path.join(&pair[0].0), what));
            }
            data.kind = "table";
            if !found.parquet.is_empty() {
                data.notes.push(format!("{} Parquet files are not read: {} is", found.parquet.len(), found.tables[0].1));
            }
            let splits = find::splits(&found.tables);
            found.tables.iter().zip(splits).for_each(|((folder, name), split)| data.read_table(folder, name, split.as_deref()));
        } else if !found.shards.is_empty() {
            data.kind = "shards";
            for ((folder, name), split) in found.shards.iter().zip(find::splits(&found.shards)) {
                data.read_shard(Shard::Inside(format!("{folder}{name}")), split.as_deref());
            }
        } else if !found.parquet.is_empty() {
            let names: Vec<String> = found.parquet.iter().map(|(folder, name)| format!("{folder}{name}")).collect();
            data.note_missing(&names);
            data.read_parquet(names.into_iter().map(Shard::Inside).zip(find::splits(&found.parquet)).collect(), columns);
        } else {
            data.kind = "folders";
            let folder = data.folder.clone();
            let mut named_after_folders = false;
            walk::samples(&folder, limits, &mut |row| match row {
                Ok((row, named)) => {
                    named_after_folders |= named;
                    data.rows.push(row);
                }
                Err((name, what)) => data.bad.add(Error::file(path.join(name), what)),
            });
            // Never captions of our own making beside a table.
            if let Some((folder, name)) = found.others.first().filter(|_| named_after_folders || data.rows.is_empty()) {
                let what = format!(
                    "found a table whose name is not one of those that are read: rename it to {}{}",
                    TABLES.join(" or "),
                    if named_after_folders { ", or move it elsewhere, and the names of folders will be the captions" } else { "" }
                );
                return Err(Error::file(path.join(folder).join(name), what));
            }
        }
        data.finish()
    }

    fn empty(given: &Path, root: &Path, limits: &Limits) -> Result<Self> {
        let folder = Folder::open(root)?;
        let (tables, shards, rows) = (Vec::new(), Vec::new(), Vec::new());
        let (bad, notes) = (BadSamples::default(), Vec::new());
        Ok(Dataset { dir: given.to_path_buf(), kind: "shards", folder, tables, shards, rows, bad, notes, blocks: None, limits: limits.clone() })
    }

    /// Shards that the user named directly: they may be anywhere.
    fn of_shards(path: &Path, shards: Vec<PathBuf>, limits: &Limits) -> Result<Self> {
        let parent = path.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new("."));
        let mut data = Self::empty(path, parent, limits)?;
        shards.into_iter().for_each(|shard| data.read_shard(Shard::Named(shard), None));
        data.finish()
    }

    /// Parquet files that the user named directly: they may be anywhere, the files that they name lie beside them.
    fn of_parquet(path: &Path, files: Vec<PathBuf>, limits: &Limits, columns: &ColumnChoice) -> Result<Self> {
        let parent = path.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new("."));
        let mut data = Self::empty(path, parent, limits)?;
        let word = |file: &PathBuf| file.file_name().and_then(|name| split::of_file(&name.to_string_lossy())).map(str::to_string);
        let files = files.into_iter().map(|file| (Shard::Named(file.clone()), word(&file))).collect();
        data.read_parquet(files, columns);
        data.finish()
    }

    /// A file of `train-00000-of-00004.parquet` … that is not there is as bad as a row that cannot be read.
    fn note_missing(&mut self, files: &[String]) {
        for name in parquet::missing(files) {
            self.bad.add(Error::file(
                self.folder.given.join(name),
                "there is no such file, although the others' names say that there is: download it, or rename them",
            ));
        }
    }

    /// Each file with the split that its path says, if its name is not one of a number of parts.
    fn read_parquet(&mut self, files: Vec<(Shard, Option<String>)>, columns: &ColumnChoice) {
        self.kind = "parquet";
        let mut blocks = Blocks::default();
        let mut notes = parquet::Notes::default();
        for (shard, split) in files {
            let shown = self.shard_path(&shard);
            let name = match &shard {
                Shard::Inside(name) => name.clone(),
                Shard::Named(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            };
            let split = parquet::split_of_part(&name).or(split);
            let file = self.shards.len();
            let (mut rows, mut bad) = (Vec::new(), BadSamples::default());
            let open = || self.open_shard(&shard);
            let found = parquet::index(&open, file, &name, split.as_deref(), columns, &self.limits, &mut blocks, &mut |row| match row {
                Ok(row) => rows.push(row),
                Err((number, what)) => bad.add(Error::file_at(&shown, format!("row {number}"), what)),
            });
            self.shards.push(shard);
            self.bad.take(bad);
            match found {
                Ok(found) => {
                    self.rows.append(&mut rows);
                    self.bad.count += found.lost;
                    notes.add(found);
                }
                Err(what) => self.bad.add(Error::file(shown, what)),
            }
        }
        self.notes.extend(notes.sentences());
        self.blocks = Some(std::sync::Arc::new(blocks));
    }

    /// What people should know of the data set, and what is neither a row nor wrong: lists that became several samples, columns that are not read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The bytes of each block that is decoded as a whole, where rows lie in such ([`TableRow::shard`] is their number).
    pub fn block_bytes(&self) -> Option<Vec<u64>> {
        self.blocks.as_ref().map(|blocks| blocks.bytes())
    }

    /// How many times such a block was decoded so far.
    pub fn blocks_decoded(&self) -> u64 {
        self.blocks.as_ref().map_or(0, |blocks| blocks.decoded())
    }

    fn finish(self) -> Result<Self> {
        match (self.rows.is_empty(), self.bad.count) {
            (false, _) => Ok(self),
            (true, 0) if self.kind == "table" => Err(Error::file(self.dir.join(&self.tables[0]), "the table has no rows; expected one row per line")),
            (true, 0) => {
                let what = "found nothing to read: expected metadata.jsonl or metadata.csv, shards (*.tar), *.parquet, or pictures, sounds and .txt files";
                Err(Error::file(self.dir, what))
            }
            (true, count) => Err(Error::BadSamples { count, first: self.bad.first }),
        }
    }

    fn read_table(&mut self, folder: &str, name: &str, split: Option<&str>) {
        let path = format!("{folder}{name}");
        let shown = self.folder.given.join(&path);
        let number = self.tables.len();
        self.tables.push(path.clone());
        match self.folder.file(&path) {
            Err(what) => self.bad.add(Error::file(shown, what)),
            Ok((file, _)) => table::read(name, folder, number, file, &self.limits, |row| match row {
                Ok(row) => self.rows.push(TableRow { split: row.split.or(split.map(str::to_string)), ..row }),
                Err((line, what)) => self.bad.add(Error::file_at(&shown, format!("line {line}"), what)),
            }),
        }
    }

    fn read_shard(&mut self, shard: Shard, split: Option<&str>) {
        let shown = self.shard_path(&shard);
        let opened = self.open_shard(&shard);
        let number = self.shards.len();
        self.shards.push(shard);
        match opened {
            Err(what) => self.bad.add(Error::file(shown, what)),
            Ok((file, length)) => shards::index(file, length, number, split, &self.limits, |row| match row {
                Ok(row) => self.rows.push(row),
                Err(bad) => self.bad.add(Error::file_at(&shown, format!("byte {}", bad.byte), bad.what)),
            }),
        }
    }

    fn shard_path(&self, shard: &Shard) -> PathBuf {
        match shard {
            Shard::Inside(name) => self.folder.given.join(name),
            Shard::Named(path) => path.clone(),
        }
    }

    fn open_shard(&self, shard: &Shard) -> std::result::Result<(File, u64), String> {
        match shard {
            Shard::Inside(name) => self.folder.file(name),
            Shard::Named(path) => regular(path, u64::MAX),
        }
    }

    /// The folder, file or pattern, as it was given.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is: `table`, `shards`, `parquet` or `folders`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The rows in the order of the tables, shards or names.
    pub fn rows(&self) -> &[TableRow] {
        &self.rows
    }

    /// The rows that were left out by [`Dataset::open_skipping`].
    pub fn bad(&self) -> &BadSamples {
        &self.bad
    }

    /// The splits named by the rows with their numbers of rows, in order of first appearance; rows without a split are
    /// counted under `""`.
    pub fn splits(&self) -> Vec<(String, usize)> {
        let mut splits: Vec<(String, usize)> = Vec::new();
        for row in &self.rows {
            let name = row.split.as_deref().unwrap_or("");
            match splits.iter_mut().find(|(split, _)| split == name) {
                Some((_, count)) => *count += 1,
                None => splits.push((name.to_string(), 1)),
            }
        }
        splits
    }

    /// Decodes the rows that `keep` accepts, in the order of the data set, on all threads.
    ///
    /// `progress(done, total)` is called on the calling thread about ten times a second and may stop the work
    /// (`ControlFlow::Break`).
    ///
    /// # Errors
    /// The bad file that was met first, in the order of the data set among those tried; a row without a caption, with its
    /// place; [`Error::Interrupted`] if `progress` stopped the work.
    pub fn load(&self, sizes: &MediaSizes, keep: impl Fn(&TableRow) -> bool, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<Vec<Sample>> {
        let rows: Vec<&TableRow> = self.rows.iter().filter(|row| keep(row)).collect();
        if let Some(row) = rows.iter().find(|row| row.text.is_none()) {
            return Err(self.error(row, NO_TEXT));
        }
        parallel(rows.len(), |i| self.sample(rows[i], sizes), progress)
    }

    /// Decodes one row. A missing caption is the empty text here.
    ///
    /// # Errors
    /// What is wrong with a file of the row, with the row's place.
    pub fn sample(&self, row: &TableRow, sizes: &MediaSizes) -> Result<Sample> {
        self.measured_sample(row, sizes).map(|(sample, _)| sample)
    }

    /// [`Dataset::sample`], with what is transparent in its picture.
    ///
    /// # Errors
    /// As [`Dataset::sample`].
    pub fn sample_with_alpha(&self, row: &TableRow, sizes: &MediaSizes) -> Result<Sample> {
        self.decoded(row, sizes, true).map(|(sample, _)| sample)
    }

    /// [`Dataset::sample`], and what its files held.
    ///
    /// # Errors
    /// As [`Dataset::sample`].
    pub fn measured_sample(&self, row: &TableRow, sizes: &MediaSizes) -> Result<(Sample, MediaInfo)> {
        self.decoded(row, sizes, false)
    }

    fn decoded(&self, row: &TableRow, sizes: &MediaSizes, alpha: bool) -> Result<(Sample, MediaInfo)> {
        let mut decoded = Decoded { with_alpha: alpha, ..Decoded::default() };
        for (part, expected) in [(&row.file, None), (&row.picture, Some(Content::Picture)), (&row.sound, Some(Content::Sound))] {
            if let Some(part) = part {
                self.decode(row, part, expected, sizes, &mut decoded).map_err(|what| self.error(row, self.about(row, part, &what)))?;
            }
        }
        let measure = MediaInfo { picture: decoded.picture.as_ref().map(|(_, size)| *size), sound: decoded.sound.as_ref().map(|(_, measure)| *measure) };
        let sample = Sample {
            name: row.name.clone(),
            origin: self.origin(row),
            picture: decoded.picture.map(|(picture, _)| picture),
            alpha: decoded.alpha,
            sound: decoded.sound.map(|(sound, _)| sound),
            text: row.text.clone().unwrap_or_default(),
            prompt: row.prompt.clone(),
            split: row.split.clone(),
        };
        Ok((sample, measure))
    }

    /// A sentence about a part of a row, unless the row's place already is that file.
    fn about(&self, row: &TableRow, part: &MediaSource, what: &str) -> String {
        match part {
            MediaSource::File(name) if row.origin != Origin::File || *name != row.name => {
                if what.contains(name.as_str()) {
                    what.to_string()
                } else {
                    format!("{name}: {what}")
                }
            }
            MediaSource::File(_) => what.to_string(),
            MediaSource::Member { at, .. } => format!("{}, its contents at byte {at}: {what}", row.name),
            MediaSource::Cell { .. } => what.to_string(),
        }
    }

    /// What the `file` of a row is, told by its first bytes; `None` where the row has none, or it is neither picture nor sound.
    ///
    /// # Errors
    /// A file that cannot be opened or read, with the row's place.
    pub fn content(&self, row: &TableRow) -> Result<Option<Content>> {
        let Some(part) = &row.file else { return Ok(None) };
        let opened = self.open_part(row, part).map_err(|what| self.error(row, self.about(row, part, &what)))?;
        Ok(opened.and_then(|(_, start)| Content::of(&start)))
    }

    /// Opens a picture or sound; gives its first twelve bytes too. `None` for a null in a column.
    pub(super) fn open_part(&self, row: &TableRow, part: &MediaSource) -> std::result::Result<Option<Started>, String> {
        let cannot = |error: std::io::Error| format!("cannot read it: {error}");
        let whole = |(file, bytes)| (Opened::File(file), 0, bytes);
        let (file, at, bytes) = match part {
            MediaSource::File(name) => whole(self.folder.file(name)?),
            MediaSource::Cell { column, at, path } => {
                let (Origin::Parquet { block, file, .. }, Some(blocks)) = (row.origin, &self.blocks) else {
                    return Err("the row belongs to another data set".into());
                };
                let open =
                    |file: usize| self.shards.get(file).ok_or("the row belongs to another data set".to_string()).and_then(|shard| self.open_shard(shard));
                match (blocks.value(block, *column, *at, &self.limits, open)?, path) {
                    (Some(value), _) => {
                        let (value, bytes) = Opened::memory(value);
                        (value, 0, bytes)
                    }
                    (None, Some(path)) => {
                        let name = match self.shards.get(file) {
                            Some(Shard::Inside(name)) => name.as_str(),
                            _ => "",
                        };
                        whole(self.folder.file(&parquet::beside(name, path)?)?)
                    }
                    (None, None) => return Ok(None),
                }
            }
            MediaSource::Member { at, bytes } => {
                let shard = row.shard().and_then(|shard| self.shards.get(shard)).ok_or("the row belongs to another data set")?;
                let (file, length) = self.open_shard(shard)?;
                if at.checked_add(*bytes).is_none_or(|end| end > length) {
                    return Err("the shard has become shorter since it was opened".into());
                }
                (Opened::File(file), *at, *bytes)
            }
        };
        let mut file = Window::new(file, at, bytes).map_err(cannot)?;
        let start = file.head(12).map_err(cannot)?;
        Ok(Some((file, start)))
    }

    /// Opens a picture or sound, finds out which it is, and decodes it.
    fn decode(&self, row: &TableRow, part: &MediaSource, expected: Option<Content>, sizes: &MediaSizes, into: &mut Decoded) -> std::result::Result<(), String> {
        let Some((file, start)) = self.open_part(row, part)? else { return Ok(()) };
        let bytes = file.length();
        match (expected, Content::of(&start).or(expected)) {
            (Some(expected), Some(found)) if expected != found => Err(format!("expected {}, found {}", expected.words(), found.words())),
            (None, None) => Err(Content::refusal(&start)),
            (_, Some(Content::Sound)) => {
                let read = sound::read(file, sizes.sample_rate, sizes.samples, &self.limits)?;
                if into.sound.replace(read).is_some() { Err("the row has two sounds, `file_name` and `audio`".into()) } else { Ok(()) }
            }
            (_, _) => {
                let (picture, alpha, size) = picture::read(file, bytes, sizes.picture, sizes.fit, into.with_alpha, &self.limits)?;
                into.alpha = alpha;
                if into.picture.replace((picture, size)).is_some() { Err("the row has two pictures, `file_name` and `image`".into()) } else { Ok(()) }
            }
        }
    }

    /// Where a row is written down: `metadata.jsonl, line 3`, `shard-000001.tar, byte 5120`, or its file.
    pub fn origin(&self, row: &TableRow) -> String {
        match self.place(row) {
            (path, Some(at)) => format!("{}, {at}", path.strip_prefix(&self.folder.given).unwrap_or(&path).display()),
            (path, None) => path.strip_prefix(&self.folder.given).unwrap_or(&path).display().to_string(),
        }
    }

    /// An error about a row that says where it is written down.
    pub fn error(&self, row: &TableRow, what: impl ToString) -> Error {
        match self.place(row) {
            (path, Some(at)) => Error::file_at(path, at, what),
            (path, None) => Error::file(path, what),
        }
    }

    pub(super) fn place(&self, row: &TableRow) -> (PathBuf, Option<String>) {
        match row.origin {
            Origin::Line { table, line } => (self.folder.given.join(self.tables.get(table).map_or("", String::as_str)), Some(format!("line {line}"))),
            Origin::File => (self.folder.given.join(&row.name), None),
            Origin::Shard { shard, byte } => (self.shards.get(shard).map_or_else(PathBuf::new, |shard| self.shard_path(shard)), Some(format!("byte {byte}"))),
            Origin::Parquet { file, row, .. } => (self.shards.get(file).map_or_else(PathBuf::new, |file| self.shard_path(file)), Some(format!("row {row}"))),
        }
    }
}

/// The message for a row without a caption.
pub const NO_TEXT: &str = "the row has no `text`; training needs a caption (in a shard, the members of one key have to be next to each other)";

#[derive(Default)]
struct Decoded {
    with_alpha: bool,
    alpha: Option<Vec<u8>>,
    picture: Option<(Picture, (u32, u32))>,
    sound: Option<(Vec<f32>, SoundInfo)>,
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(suffix))
}
