//! A folder with `metadata.jsonl`, as Hugging Face's imagefolder and audiofolder read it.
//!
//! One JSON object per line: `{"file_name": "images/0.png", "audio": "audio/0.wav", "text": "…", "split": "train"}`.
//! A row has a picture (`file_name`), a sound (`audio`) or both, and a caption (`text`); other columns are ignored.
//! Paths are relative to the folder and may not leave it, neither by `..` nor by a symbolic link.

use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rayon::prelude::*;

use super::{Limits, Picture, Sample, open_file, picture, sound};
use crate::{Error, Result};

/// The name of the table inside a data folder.
pub const METADATA: &str = "metadata.jsonl";

/// One line of `metadata.jsonl`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its line, counted from 1.
    pub line: usize,
    /// The picture's path as written, relative to the folder.
    pub picture: Option<String>,
    /// The sound's path as written, relative to the folder.
    pub sound: Option<String>,
    /// The caption; training needs one, describing does not.
    pub text: Option<String>,
    /// The split, if the row names one.
    pub split: Option<String>,
}

impl Row {
    /// The number of the shard that the row lies in; a row of a table lies in none.
    pub fn shard(&self) -> Option<usize> {
        None
    }

    /// The picture's file name, else the sound's, else `line N`.
    pub fn name(&self) -> String {
        self.picture.clone().or_else(|| self.sound.clone()).unwrap_or_else(|| format!("line {}", self.line))
    }
}

/// The sizes that pictures and sounds are brought to: the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Width and height of a picture, in pixels.
    pub picture: usize,
    /// Samples per second of a sound.
    pub sample_rate: u32,
    /// Samples of a clip (`sample_rate · clip_seconds`).
    pub samples: usize,
}

/// A data folder whose table has been read and checked; pictures and sounds are decoded by [`Dataset::load`].
#[derive(Clone, Debug)]
pub struct Dataset {
    dir: PathBuf,
    root: PathBuf,
    rows: Vec<Row>,
    limits: Limits,
}

/// A line as serde sees it. A key that occurs twice is an error (serde's derive refuses it).
#[derive(serde::Deserialize)]
struct Line {
    file_name: Option<String>,
    audio: Option<String>,
    text: Option<String>,
    split: Option<String>,
}

impl Dataset {
    /// Reads and checks `dir/metadata.jsonl`.
    ///
    /// # Errors
    /// No such folder or table, and for the first bad line its number: not UTF-8, not JSON, longer than
    /// `limits.line_bytes`, neither picture, sound nor text, or a path that leaves the folder. A table without rows too.
    pub fn open(dir: &Path, limits: &Limits) -> Result<Self> {
        let table = dir.join(METADATA);
        if !dir.is_dir() {
            return Err(Error::file(dir, "there is no such folder; a data set is a folder with metadata.jsonl (`trimodal meadow DIR` writes one)"));
        }
        let root = dir.canonicalize().map_err(Error::io(dir, "open"))?;
        let (file, _) = open_file(&table, u64::MAX)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut rows = Vec::new();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            // One byte more than allowed tells a line that is too long from one that just fits.
            let read = (&mut reader).take(limits.line_bytes as u64 + 1).read_until(b'\n', &mut line).map_err(Error::io(&table, "read"))?;
            if read == 0 {
                break;
            }
            let bad = |what: String| Error::file_at(&table, format!("line {number}"), what);
            if line.last() != Some(&b'\n') && line.len() > limits.line_bytes {
                return Err(bad(format!("the line is longer than {} bytes", limits.line_bytes)));
            }
            // Editors on Windows put a byte order mark before the first line.
            let mut text = line.as_slice();
            if number == 1 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            let text = std::str::from_utf8(text).map_err(|error| bad(format!("not UTF-8 at byte {} of the line", error.valid_up_to())))?;
            if text.trim().is_empty() {
                continue;
            }
            rows.push(row(text, number).map_err(bad)?);
        }
        if rows.is_empty() {
            return Err(Error::file(&table, "the table has no rows; expected one JSON object per line"));
        }
        Ok(Dataset { dir: dir.to_path_buf(), root, rows, limits: limits.clone() })
    }

    /// The folder, as it was given.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The rows in the order of the table.
    pub fn rows(&self) -> &[Row] {
        &self.rows
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

    /// Decodes the rows that `keep` accepts, in the order of the table, on all threads.
    ///
    /// `progress(done, total)` is called on the calling thread about ten times a second and may stop the work
    /// (`ControlFlow::Break`).
    ///
    /// # Errors
    /// The bad file that was met first, in the order of the table among those tried; a row without a caption, with its
    /// line; [`Error::Interrupted`] if `progress` stopped the work.
    pub fn load(&self, sizes: &Sizes, keep: impl Fn(&Row) -> bool, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<Vec<Sample>> {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| keep(row)).collect();
        if let Some(row) = rows.iter().find(|row| row.text.is_none()) {
            return Err(Error::file_at(self.dir.join(METADATA), format!("line {}", row.line), "the row has no `text`; a caption is needed to train"));
        }
        parallel(rows.len(), |i| self.sample(rows[i], sizes), progress)
    }

    /// Decodes one row. A missing caption is the empty text here.
    ///
    /// # Errors
    /// As [`Dataset::load`], for this row.
    pub fn sample(&self, row: &Row, sizes: &Sizes) -> Result<Sample> {
        let picture: Option<Picture> = match &row.picture {
            Some(name) => Some(picture::load(&self.inside(name, row.line)?, sizes.picture, &self.limits)?),
            None => None,
        };
        let sound = match &row.sound {
            Some(name) => Some(sound::load(&self.inside(name, row.line)?, sizes.sample_rate, sizes.samples, &self.limits)?),
            None => None,
        };
        let (name, origin) = (row.name(), format!("{METADATA}, line {}", row.line));
        Ok(Sample { name, origin, picture, sound, text: row.text.clone().unwrap_or_default(), prompt: None, split: row.split.clone() })
    }

    /// An error about a row that says where it is written down.
    pub fn error(&self, row: &Row, what: impl ToString) -> Error {
        Error::file_at(self.dir.join(METADATA), format!("line {}", row.line), what)
    }

    /// The full path of a file of the folder, with every symbolic link followed; refused if it ends outside.
    fn inside(&self, name: &str, line: usize) -> Result<PathBuf> {
        let path = self.dir.join(name);
        let bad = |what: String| Error::file_at(self.dir.join(METADATA), format!("line {line}"), what);
        let real = path.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => bad(format!("there is no file {name:?} in the folder")),
            _ => bad(format!("cannot open {name:?}: {error}")),
        })?;
        if !real.starts_with(&self.root) {
            return Err(bad(format!("{name:?} is a symbolic link that leaves the data folder")));
        }
        Ok(path)
    }
}

/// One line's JSON to a [`Row`], or what is wrong with it.
fn row(text: &str, line: usize) -> std::result::Result<Row, String> {
    let Line { file_name, audio, text, split } =
        serde_json::from_str(text).map_err(|error| format!("expected a JSON object with `file_name`, `audio`, `text`: {error}"))?;
    for (key, path) in [("file_name", &file_name), ("audio", &audio)] {
        if let Some(path) = path {
            check_path(path).map_err(|what| format!("`{key}`: {what}"))?;
        }
    }
    if file_name.is_none() && audio.is_none() && text.is_none() {
        return Err("the row has neither `file_name` nor `audio` nor `text`".into());
    }
    Ok(Row { line, picture: file_name, sound: audio, text, split })
}

/// A path may only go down from the folder.
fn check_path(path: &str) -> std::result::Result<(), String> {
    if path.is_empty() {
        return Err("the path is empty".into());
    }
    if path.contains('\0') {
        return Err(format!("the path {path:?} contains a NUL byte"));
    }
    // Backslashes separate on Windows, where `Path` splits at them; a folder must mean the same everywhere.
    let leaves = Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir));
    if leaves || path.split(['/', '\\']).any(|part| part == "..") || path.starts_with('\\') || path.as_bytes().get(1) == Some(&b':') {
        return Err(format!("the path {path:?} leaves the data folder; expected a relative path without `..`"));
    }
    Ok(())
}

/// Computes `work(0..total)` on all threads, in order; stops early at the first error or when `progress` says so.
///
/// The calling thread only reports (about ten times a second), so `progress` needs no lock and may draw.
pub(crate) fn parallel<T: Send>(
    total: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<T>> {
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let result = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let results: Vec<Option<Result<T>>> = (0..total)
                .into_par_iter()
                .with_max_len(64)
                .map(|i| {
                    if stop.load(Ordering::Relaxed) {
                        return None;
                    }
                    let result = work(i);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    Some(result)
                })
                .collect();
            // An error comes before the rows that were left out because of it, or after some of them: look for it.
            let mut samples = Vec::with_capacity(total);
            for result in results.into_iter().flatten() {
                samples.push(result?);
            }
            Ok(samples)
        });
        while !worker.is_finished() {
            if progress(done.load(Ordering::Relaxed), total).is_break() {
                stop.store(true, Ordering::Relaxed);
            }
            // The worker wakes this thread when it ends; short jobs should not wait for a tenth of a second.
            for _ in 0..20 {
                if worker.is_finished() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if result.len() < total {
        return Err(Error::Interrupted { step: 0 });
    }
    let _ = progress(total, total);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_are_refused() {
        for path in ["a.png", "images/a.png", "./a.png", "a..b.png", "...", "images/..a"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in ["", "..", "../a.png", "images/../../a.png", "/etc/passwd", "a\0b", "images/..", "..\\a.png", "\\a", "C:\\a.png", "C:a.png", "//host/a"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn rows_say_what_is_missing() {
        assert!(row("{}", 1).unwrap_err().contains("neither"));
        assert!(row(r#"{"text": "a cat"}"#, 1).unwrap().picture.is_none());
        assert!(row(r#"{"file_name": 3, "text": "a cat"}"#, 1).is_err());
        assert!(row(r#"{"text": "a", "text": "b"}"#, 1).unwrap_err().contains("duplicate"));
        assert!(row(r#"{"text": "a", "other": {"x": [1]}}"#, 1).is_ok());
        assert!(row("[1]", 1).is_err());
    }

    #[test]
    fn parallel_keeps_order_and_stops() {
        let mut last = (0, 0);
        let squares = parallel(1000, |i| Ok(i * i), &mut |done, total| {
            last = (done, total);
            ControlFlow::Continue(())
        });
        assert_eq!(squares.unwrap(), (0..1000).map(|i| i * i).collect::<Vec<_>>());
        assert_eq!(last, (1000, 1000));
        let error = parallel(1000, |i| if i == 500 { Err(Error::Usage("five hundred".into())) } else { Ok(i) }, &mut |_, _| ControlFlow::Continue(()));
        assert!(matches!(error, Err(Error::Usage(_))));
        let slow = |_| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        };
        assert!(matches!(parallel(10_000, slow, &mut |_, _| ControlFlow::Break(())), Err(Error::Interrupted { .. })));
        assert_eq!(parallel(0, Ok, &mut |_, _| ControlFlow::Continue(())).unwrap(), Vec::<usize>::new());
    }
}
