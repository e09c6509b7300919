//! `log.jsonl`: one JSON object per line for every step, every evaluation and every step that was skipped.
//!
//! A run that is continued cuts it back to its checkpoint: what came after is done again, and is logged again, once.
//!
//! A log never ends a training. Lines that cannot be written (the disk is full) are kept and written when it goes again; a log that
//! was removed is made again, whole.

use crate::error::{Error, Result};
use crate::files::{is_at, write_file_atomic_with};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The log's name in a run's folder.
pub const LOG: &str = "log.jsonl";

/// A log that is being written.
pub struct Log {
    path: PathBuf,
    file: File,
    /// What could not be written yet.
    pending: Vec<u8>,
    failing: bool,
    trouble: Option<Error>,
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
        let file = open(&path).map_err(Error::io(&path, "write"))?;
        Ok((Log { path, file, pending: Vec::new(), failing: false, trouble: None }, seconds))
    }

    /// Appends a line, now or as soon as it can be written. See [`Log::trouble`].
    pub fn line(&mut self, line: &Value) {
        self.pending.extend_from_slice(format!("{line}\n").as_bytes());
        self.write();
    }

    /// Makes what was written survive a power cut, and the file again if it was removed.
    pub fn sync(&mut self) {
        self.write();
        let synced = if is_at(&self.file, &self.path) { self.file.sync_data().map_err(Error::io(&self.path, "write")) } else { self.again() };
        if let Err(e) = synced {
            self.failed(e);
        }
    }

    /// What went wrong, if something did, once for each time that it begins: the lines since then are kept.
    pub fn trouble(&mut self) -> Option<Error> {
        self.trouble.take()
    }

    /// Writes what is left, as far as it goes: a disk that is nearly full takes a part of a line, and the rest follows later.
    fn write(&mut self) {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => return self.failed(Error::io(&self.path, "write")(ErrorKind::WriteZero.into())),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.failed(Error::io(&self.path, "write")(e)),
            }
        }
        self.failing = false;
    }

    fn failed(&mut self, error: Error) {
        if !std::mem::replace(&mut self.failing, true) {
            self.trouble = Some(error);
        }
    }

    /// The whole log under its name once more: a file that was removed can be read as long as it is open.
    fn again(&mut self) -> Result<()> {
        let Log { path, file, pending, .. } = self;
        let mut whole = Vec::new();
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| io::copy(file, &mut whole));
        // What cannot be read any more (a network folder that has gone) is lost; what comes after it is not, nor what is there.
        if read.is_ok() || !path.exists() {
            whole.append(&mut pending.clone());
            write_file_atomic_with(path, |new| new.write_all(&whole).map_err(Error::io(&*path, "write")))?;
            pending.clear();
        }
        *file = open(path).map_err(Error::io(&*path, "write"))?;
        self.write();
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).read(true).open(path)
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
            log.line(&serde_json::json!({ "step": step, "loss": 1.0 / step as f64, "seconds": step as f64 }));
        }
        log.line(&serde_json::json!({ "step": 4, "evaluation": {} }));
        log.file.write_all(b"{\"step\": 6, \"lo").unwrap();
        drop(log);
        let (mut log, seconds) = Log::open(folder.path(), 4).unwrap();
        assert_eq!(seconds, 4.0);
        log.line(&serde_json::json!({ "step": 5, "loss": 7.0 }));
        log.sync();
        assert!(log.trouble().is_none());
        assert_eq!(losses(folder.path()).unwrap(), [(1, 1.0), (2, 0.5), (3, 1.0 / 3.0), (4, 0.25), (5, 7.0)]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lines_are_kept_until_they_can_be_written_and_the_file_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let (mut log, _) = Log::open(&run, 0).unwrap();
        let line = |step: usize| serde_json::json!({ "step": step, "loss": 1.0 });
        log.line(&line(1));
        // /dev/full answers every write as a full disk does.
        let file = std::mem::replace(&mut log.file, File::options().write(true).open("/dev/full").unwrap());
        log.line(&line(2));
        assert!(log.trouble().unwrap().to_string().contains("log.jsonl: cannot write: No space left on device"));
        log.line(&line(3));
        assert!(log.trouble().is_none(), "said once");
        log.file = file;
        log.line(&line(4));
        assert_eq!(losses(&run).unwrap().len(), 4);
        log.file = File::options().write(true).open("/dev/full").unwrap();
        log.line(&line(5));
        assert!(log.trouble().is_some(), "another time, said again");
        log.file = open(&log.path).unwrap();
        // Removed, and with it its folder: nothing can be written until there is a folder again.
        std::fs::remove_dir_all(&run).unwrap();
        log.line(&line(6));
        log.sync();
        assert!(log.trouble().is_some());
        std::fs::create_dir(&run).unwrap();
        log.line(&line(7));
        log.sync();
        assert!(log.trouble().is_none());
        let steps: Vec<usize> = losses(&run).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7]);
    }
}
