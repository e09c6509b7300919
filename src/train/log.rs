//! `log.jsonl`: one JSON object per line for every step, every evaluation and every step that was skipped.
//!
//! A run that is continued cuts it back to its checkpoint: what came after is done again, and is logged again, once.

use crate::error::{Error, Result};
use crate::files::write_file_atomic_with;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The log's name in a run's folder.
pub const LOG: &str = "log.jsonl";

/// A log that is being written.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens a run's log after its last line of this step or an earlier one; creates it where there is none. Returns the seconds
    /// that the run had taken by then.
    ///
    /// # Errors
    /// [`Error::Io`] with the path where the system refuses.
    pub fn open(run: &Path, step: usize) -> Result<(Self, f64)> {
        let path = run.join(LOG);
        let mut seconds = 0.0;
        if path.exists() {
            let lines = read(&path)?;
            let kept: Vec<&(String, Value)> = lines.iter().filter(|(_, line)| line["step"].as_u64().is_some_and(|s| s <= step as u64)).collect();
            seconds = kept.iter().rev().find_map(|(_, line)| line["seconds"].as_f64()).unwrap_or(0.0);
            write_file_atomic_with(&path, |file| kept.iter().try_for_each(|(text, _)| writeln!(file, "{text}").map_err(Error::io(&path, "write"))))?;
        }
        let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path, "write"))?;
        Ok((Log { path, file }, seconds))
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`Error::Io`] with the path where the system refuses.
    pub fn line(&mut self, line: &Value) -> Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&self.path, "write"))
    }

    /// Makes what was written survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`] with the path where the system refuses.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path, "write"))
    }
}

/// The steps and losses of a run's log, for its curve.
///
/// # Errors
/// [`Error::Io`] with the path where the system refuses.
pub fn losses(run: &Path) -> Result<Vec<(usize, f64)>> {
    Ok(entries(run)?.iter().filter_map(|line| Some((line["step"].as_u64()? as usize, line["loss"].as_f64()?))).collect())
}

/// Everything that a run's log says, in order.
///
/// # Errors
/// [`Error::Io`] with the path where the system refuses.
pub fn entries(run: &Path) -> Result<Vec<Value>> {
    Ok(read(&run.join(LOG))?.into_iter().map(|(_, line)| line).collect())
}

/// The lines that are JSON: a crash may have cut off the last one.
fn read(path: &Path) -> Result<Vec<(String, Value)>> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut lines = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(Error::io(path, "read"))?;
        if let Ok(value) = serde_json::from_str(&line) {
            lines.push((line, value));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_back_to_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, seconds) = Log::open(folder.path(), 0).unwrap();
        assert_eq!(seconds, 0.0);
        for step in 1..=5 {
            log.line(&serde_json::json!({ "step": step, "loss": 1.0 / step as f64, "seconds": step as f64 })).unwrap();
        }
        log.line(&serde_json::json!({ "step": 4, "evaluation": {} })).unwrap();
        log.file.write_all(b"{\"step\": 6, \"lo").unwrap();
        drop(log);
        let (mut log, seconds) = Log::open(folder.path(), 4).unwrap();
        assert_eq!(seconds, 4.0);
        log.line(&serde_json::json!({ "step": 5, "loss": 7.0 })).unwrap();
        log.sync().unwrap();
        assert_eq!(losses(folder.path()).unwrap(), [(1, 1.0), (2, 0.5), (3, 1.0 / 3.0), (4, 0.25), (5, 7.0)]);
    }
}
