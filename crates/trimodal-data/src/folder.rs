//! A data set: a folder as Hugging Face's imagefolder and audiofolder read it, or WebDataset shards.
//!
//! [`Dataset::open`] takes, in this order:
//!
//! - a pattern `shard-{000000..000012}.tar`, or one `.tar` file ([`super::shards`]);
//! - a folder with `metadata.jsonl` or `metadata.csv`, one row per line ([`super::table`]), or whose subfolders have one each:
//!   `train/metadata.jsonl`, whose rows are then of the split `train`;
//! - a folder of `*.tar`, or whose subfolders have them;
//! - a folder of pictures, sounds and texts, whose subfolders name what is in them ([`super::walk`]).
//!
//! Paths are relative to the table's folder and may not leave it, neither by `..` nor by a symbolic link.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use super::row::{MediaSource, Origin, TableRow};
pub use super::sizes::{Fit, MediaSizes};

use super::bad::BadSamples;
use super::limits::Limits;
use super::parallel::parallel;
use super::picture::Picture;
use super::safe::Folder;
use super::sample::{Content, Sample};
use super::sound::SoundInfo;
use super::{picture, shards, sound, table, walk};
use trimodal_base::read::regular;
use trimodal_base::{Error, Result};

/// The name of the table inside a data folder.
pub const METADATA: &str = "metadata.jsonl";

/// The tables that are read.
const TABLES: [&str; 2] = [METADATA, "metadata.csv"];

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
    pub(super) limits: Limits,
}

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
        let dataset = Self::open_skipping(path, limits)?;
        if dataset.bad.count > 0 {
            return Err(Error::BadSamples { count: dataset.bad.count, first: dataset.bad.first });
        }
        Ok(dataset)
    }

    /// As [`Dataset::open`], but bad rows are left out and counted in [`Dataset::bad`].
    ///
    /// # Errors
    /// No such data, or no good row in it.
    pub fn open_skipping(path: &Path, limits: &Limits) -> Result<Self> {
        if let Some(shards) = shards::expand(path) {
            return Self::of_shards(path, shards?, limits);
        }
        if path.is_file() {
            if path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("tar")) {
                return Self::of_shards(path, vec![path.to_path_buf()], limits);
            }
            return Err(Error::file(path, "expected a folder with metadata.jsonl, or a .tar shard, found another file"));
        }
        if !path.is_dir() {
            let what = "there is no such folder; a data set is a folder with metadata.jsonl (`trimodal meadow DIR` writes one), or shards";
            return Err(Error::file(path, what));
        }
        let mut data = Self::empty(path, path, limits)?;
        let (files, folders) = list(path)?;
        let sources = |wanted: &dyn Fn(&str) -> bool| -> Result<Vec<(String, String)>> {
            // In the folder itself; else in its subfolders, which are then the splits.
            let here: Vec<_> = files.iter().filter(|name| wanted(name)).map(|name| (String::new(), name.clone())).collect();
            if !here.is_empty() {
                return Ok(here);
            }
            let mut below = Vec::new();
            for folder in &folders {
                let (files, _) = list(&path.join(folder))?;
                below.extend(files.into_iter().filter(|name| wanted(name)).map(|name| (format!("{folder}/"), name)));
            }
            Ok(below)
        };
        let tables = sources(&|name| TABLES.contains(&name))?;
        let tars = if tables.is_empty() { sources(&|name| name.ends_with(".tar"))? } else { Vec::new() };
        if !tables.is_empty() {
            if let Some(pair) = tables.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                let what = "found both metadata.jsonl and metadata.csv, and it is not clear which one to read: keep only one of them";
                return Err(Error::file(path.join(&pair[0].0), what));
            }
            data.kind = "table";
            tables.into_iter().for_each(|(folder, name)| data.read_table(&folder, &name));
        } else if !tars.is_empty() {
            data.kind = "shards";
            for (folder, name) in tars {
                data.read_shard(Shard::Inside(format!("{folder}{name}")), folder.strip_suffix('/'));
            }
        } else if files.iter().any(|name| name.ends_with(".parquet")) {
            return Err(Error::file(path, "found Parquet files, which are not read; write metadata.jsonl or WebDataset shards"));
        } else {
            data.kind = "folders";
            let folder = data.folder.clone();
            walk::samples(&folder, limits, &mut |row| match row {
                Ok(row) => data.rows.push(row),
                Err((name, what)) => data.bad.add(Error::file(path.join(name), what)),
            });
        }
        data.finish()
    }

    fn empty(given: &Path, root: &Path, limits: &Limits) -> Result<Self> {
        let folder = Folder::open(root)?;
        let (tables, shards, rows) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Dataset { dir: given.to_path_buf(), kind: "shards", folder, tables, shards, rows, bad: BadSamples::default(), limits: limits.clone() })
    }

    /// Shards that the user named directly: they may be anywhere.
    fn of_shards(path: &Path, shards: Vec<PathBuf>, limits: &Limits) -> Result<Self> {
        let parent = path.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new("."));
        let mut data = Self::empty(path, parent, limits)?;
        shards.into_iter().for_each(|shard| data.read_shard(Shard::Named(shard), None));
        data.finish()
    }

    fn finish(self) -> Result<Self> {
        match (self.rows.is_empty(), self.bad.count) {
            (false, _) => Ok(self),
            (true, 0) if self.kind == "table" => Err(Error::file(self.dir.join(&self.tables[0]), "the table has no rows; expected one row per line")),
            (true, 0) => {
                let what = "found nothing to read: expected metadata.jsonl or metadata.csv, shards (*.tar), or pictures, sounds and .txt files";
                Err(Error::file(self.dir, what))
            }
            (true, count) => Err(Error::BadSamples { count, first: self.bad.first }),
        }
    }

    fn read_table(&mut self, folder: &str, name: &str) {
        let path = format!("{folder}{name}");
        let shown = self.folder.given.join(&path);
        let number = self.tables.len();
        self.tables.push(path.clone());
        let split = folder.strip_suffix('/');
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

    /// What it is: `table`, `shards` or `folders`.
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

    /// [`Dataset::sample`], and what its files held.
    ///
    /// # Errors
    /// As [`Dataset::sample`].
    pub fn measured_sample(&self, row: &TableRow, sizes: &MediaSizes) -> Result<(Sample, MediaInfo)> {
        let mut decoded = Decoded::default();
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
        }
    }

    /// What the `file` of a row is, told by its first bytes; `None` where the row has none, or it is neither picture nor sound.
    ///
    /// # Errors
    /// A file that cannot be opened or read, with the row's place.
    pub fn content(&self, row: &TableRow) -> Result<Option<Content>> {
        let Some(part) = &row.file else { return Ok(None) };
        let (_, _, start) = self.open_part(row, part).map_err(|what| self.error(row, self.about(row, part, &what)))?;
        Ok(Content::of(&start))
    }

    /// Opens a picture or sound: the file after its first twelve bytes, its length, and these bytes.
    pub(super) fn open_part(&self, row: &TableRow, part: &MediaSource) -> std::result::Result<(File, u64, Vec<u8>), String> {
        let (mut file, bytes) = match part {
            MediaSource::File(name) => self.folder.file(name)?,
            MediaSource::Member { at, bytes } => {
                let shard = row.shard().and_then(|shard| self.shards.get(shard)).ok_or("the row belongs to another data set")?;
                let (mut file, length) = self.open_shard(shard)?;
                if at.checked_add(*bytes).is_none_or(|end| end > length) {
                    return Err("the shard has become shorter since it was opened".into());
                }
                file.seek(SeekFrom::Start(*at)).map_err(|error| format!("cannot read it: {error}"))?;
                (file, *bytes)
            }
        };
        let mut start = Vec::with_capacity(12);
        (&mut file).take(bytes.min(12)).read_to_end(&mut start).map_err(|error| format!("cannot read it: {error}"))?;
        Ok((file, bytes, start))
    }

    /// Opens a picture or sound, finds out which it is, and decodes it.
    fn decode(&self, row: &TableRow, part: &MediaSource, expected: Option<Content>, sizes: &MediaSizes, into: &mut Decoded) -> std::result::Result<(), String> {
        let (file, bytes, start) = self.open_part(row, part)?;
        let kind = Content::of(&start).or(expected);
        let rest = file.take(bytes - start.len() as u64);
        let reader = Cursor::new(start).chain(rest);
        match (expected, kind) {
            (Some(Content::Picture), Some(Content::Sound)) => Err("expected a PNG or JPEG picture, found a WAV sound".into()),
            (Some(Content::Sound), Some(Content::Picture)) => Err("expected a WAV sound, found a picture".into()),
            (None, None) => Err("expected a PNG or JPEG picture or a WAV sound, found something else".into()),
            (_, Some(Content::Sound)) => {
                let read = sound::read(reader, bytes, sizes.sample_rate, sizes.samples, &self.limits)?;
                if into.sound.replace(read).is_some() { Err("the row has two sounds, `file_name` and `audio`".into()) } else { Ok(()) }
            }
            (_, _) => {
                let read = picture::read(reader, bytes, sizes.picture, sizes.fit, &self.limits)?;
                if into.picture.replace(read).is_some() { Err("the row has two pictures, `file_name` and `image`".into()) } else { Ok(()) }
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
        }
    }
}

/// The message for a row without a caption.
pub const NO_TEXT: &str = "the row has no `text`; training needs a caption (in a shard, the members of one key have to be next to each other)";

#[derive(Default)]
struct Decoded {
    picture: Option<(Picture, (u32, u32))>,
    sound: Option<(Vec<f32>, SoundInfo)>,
}

/// The files and folders in a folder, sorted, without hidden ones and those whose names are not UTF-8.
fn list(path: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(path).map_err(Error::io(path, "list"))? {
        let entry = entry.map_err(Error::io(path, "list"))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        // A link to a folder counts as a file here, and is refused when it is opened.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) { folders.push(name) } else { files.push(name) }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}
