//! The folder of an experiment: its settings, and a file for every run that has ended.

use crate::error::{Error, Result};
use crate::files::lock::FolderLock;
use crate::files::read;
use crate::files::shown::shown_path;
use crate::files::write_file_atomic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

const SETTINGS: &str = "experiment.json";
const RUNS: &str = "runs";
/// A longer record is refused: ours have a few kilobytes.
const MAX: u64 = 16 << 20;

/// An experiment's folder.
pub struct Store {
    folder: PathBuf,
    /// Nobody else writes into it.
    _lock: FolderLock,
}

impl Store {
    /// Opens a folder for an experiment of this name and these settings, or creates it. Runs of the same settings that are in it count.
    ///
    /// # Errors
    /// [`Error::Usage`] where it holds an experiment of another name or other settings, naming the first that differs; a folder that
    /// cannot be written.
    pub fn open(folder: &Path, name: &str, settings: &impl Serialize) -> Result<Self> {
        let runs = folder.join(RUNS);
        std::fs::create_dir_all(&runs).map_err(Error::io(&runs, "create"))?;
        let lock = FolderLock::take(folder)?;
        let now = serde_json::json!({ "experiment": name, "version": env!("CARGO_PKG_VERSION"), "settings": settings });
        let path = folder.join(SETTINGS);
        if path.exists() {
            let before: Value = read(&path)?;
            if let Some((key, was, is)) = difference(&before, &now) {
                let folder = shown_path(folder);
                let what = format!("{folder} holds runs with {key} = {was}, not {is}: they cannot be compared; give the same settings, or another --out");
                return Err(Error::Usage(what));
            }
        } else {
            write(&path, &now)?;
        }
        Ok(Store { folder: folder.to_path_buf(), _lock: lock })
    }

    /// The record of a run that has ended.
    ///
    /// # Errors
    /// A file that cannot be read, or is not such a record.
    pub fn get<T: DeserializeOwned>(&self, run: &str) -> Result<Option<T>> {
        let path = self.path(run);
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }

    /// Writes the record of a run that has ended, whole or not at all.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn put(&self, run: &str, record: &impl Serialize) -> Result<()> {
        write(&self.path(run), record)
    }

    fn path(&self, run: &str) -> PathBuf {
        self.folder.join(RUNS).join(format!("{run}.json"))
    }
}

/// Writes something as indented JSON, whole or not at all.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, format!("cannot be written as JSON: {e}")))? + "\n";
    write_file_atomic(path, text)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read::text(path, MAX)?;
    serde_json::from_str(&text).map_err(|e| {
        let what = format!("expected what `trimodal experiment` wrote, found something else ({e}); remove the file, and the run will be repeated");
        Error::file(path, what)
    })
}

/// The first leaf in which two documents differ: its name, and both values.
fn difference(before: &Value, now: &Value) -> Option<(String, String, String)> {
    fn look(key: &str, before: &Value, now: &Value) -> Option<(String, String, String)> {
        match (before, now) {
            (Value::Object(b), Value::Object(n)) => {
                let keys = n.keys().chain(b.keys().filter(|key| !n.contains_key(*key)));
                keys.filter_map(|key| look(key, b.get(key).unwrap_or(&Value::Null), n.get(key).unwrap_or(&Value::Null))).next()
            }
            _ => (before != now).then(|| (key.to_string(), before.to_string(), now.to_string())),
        }
    }
    look("all", before, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_other_settings_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, steps: usize| Store::open(folder.path(), name, &serde_json::json!({ "steps": steps, "rows": 3 }));
        let store = open("fusion", 5).unwrap();
        assert_eq!(store.get::<Vec<f64>>("a").unwrap(), None);
        store.put("a", &[0.1, 1.0 / 3.0]).unwrap();
        assert!(open("fusion", 5).err().unwrap().to_string().contains("is writing here already"), "one process at a time");
        drop(store);
        assert_eq!(open("fusion", 5).unwrap().get::<Vec<f64>>("a").unwrap(), Some(vec![0.1, 1.0 / 3.0]));
        let other = open("fusion", 6).err().unwrap().to_string();
        assert!(other.contains("steps = 5, not 6"), "{other}");
        assert!(open("transfer", 5).err().unwrap().to_string().contains("experiment = \"fusion\""));
        std::fs::write(folder.path().join("runs/a.json"), "{").unwrap();
        let store = open("fusion", 5).unwrap();
        assert!(store.get::<Vec<f64>>("a").unwrap_err().to_string().contains("a.json"));
    }
}
