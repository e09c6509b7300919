//! One row of a data set: what it consists of, where that is, and where it is written down.

use std::collections::BTreeMap;

use super::content::{is_picture, is_sound};

/// Where a row is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a table of the folder.
    Line {
        /// Its number among the data set's tables.
        table: usize,
        /// Counted from 1.
        line: u64,
    },
    /// Nowhere: the row is a file, or files of one name, in a folder without a table.
    File,
    /// In a shard.
    Shard {
        /// Its number among the data set's shards.
        shard: usize,
        /// Where the header of the sample's first member starts.
        byte: u64,
    },
    /// In a Parquet file.
    Parquet {
        /// Its number among the data set's shards.
        file: usize,
        /// The number of the stretch of rows that are decoded together, counted over all files.
        block: usize,
        /// Counted from 0, as `load_dataset` does.
        row: u64,
    },
}

/// Where a picture or sound is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaSource {
    /// In a file of the folder: its path, relative to the folder.
    File(String),
    /// In the row's shard.
    Member {
        /// The first byte of its contents.
        at: u64,
        /// Their length.
        bytes: u64,
    },
    /// In a column of the row's block.
    Cell {
        /// The column's number among those of pictures and sounds.
        column: usize,
        /// The value's number in the block.
        at: usize,
        /// The file to read where the value is null.
        path: Option<Box<str>>,
    },
}

/// One row: any of picture, sound and text.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// What people call it: its first file, a shard's key, or `line N`.
    pub name: String,
    /// Where it is written down.
    pub origin: Origin,
    /// A picture or a sound (`file_name`); the content says which.
    pub file: Option<MediaSource>,
    /// A picture (`image`).
    pub picture: Option<MediaSource>,
    /// A sound (`audio`).
    pub sound: Option<MediaSource>,
    /// The caption; training needs one, describing does not.
    pub text: Option<String>,
    /// Words before the caption, which are read and not learned.
    pub prompt: Option<String>,
    /// The split, if the row names one.
    pub split: Option<String>,
    /// What the row declares about itself (`attributes`): see [`super::attributes`].
    pub attributes: BTreeMap<String, String>,
}

impl TableRow {
    /// The number of the shard that the row is in, or of the block of a Parquet file; a row of a table is in none.
    pub fn shard(&self) -> Option<usize> {
        match self.origin {
            Origin::Shard { shard, .. } => Some(shard),
            Origin::Parquet { block, .. } => Some(block),
            _ => None,
        }
    }

    /// Whether it may have a picture: one that is named so, or a file whose name is not a sound's.
    pub fn may_have_picture(&self) -> bool {
        self.picture.is_some() || self.has_file_other_than(is_sound)
    }

    /// Whether it may have a sound: one that is named so, or a file whose name is not a picture's.
    pub fn may_have_sound(&self) -> bool {
        self.sound.is_some() || self.has_file_other_than(is_picture)
    }

    fn has_file_other_than(&self, is: fn(&str) -> bool) -> bool {
        self.file.as_ref().is_some_and(|file| match file {
            MediaSource::File(path) => !path.rsplit_once('.').is_some_and(|(_, end)| is(&end.to_ascii_lowercase())),
            MediaSource::Member { .. } | MediaSource::Cell { .. } => true,
        })
    }

    /// Whether the row has anything to learn from.
    pub(super) fn is_empty(&self) -> bool {
        self.file.is_none() && self.picture.is_none() && self.sound.is_none() && self.text.is_none()
    }
}

/// Columns that a row is made of, as a table's line or a shard's `.json` gives them.
#[derive(Default, serde::Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Columns {
    pub file_name: Option<String>,
    pub image: Option<String>,
    pub audio: Option<String>,
    pub text: Option<String>,
    pub prompt: Option<String>,
    pub split: Option<String>,
    /// What it declares about itself; another thing than an object is the data set's own column.
    pub attributes: Option<serde_json::Value>,
    /// Everything else; a key that occurs twice among the above is an error (serde's derive refuses it).
    #[serde(flatten)]
    pub other: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
}

/// What an `attributes` object declares: texts, numbers, and true or false; anything else is the data set's own.
pub(super) fn declared(json: &serde_json::Value) -> BTreeMap<String, String> {
    use serde_json::Value;
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.trim().to_string()).filter(|text| !text.is_empty()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    json.as_object().into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// The names of [`Columns`] in the order in which messages list them.
pub(super) const COLUMNS: [&str; 6] = ["file_name", "image", "audio", "text", "prompt", "split"];

/// Refuses columns that Hugging Face's readers take for files and we would silently leave out.
pub(super) fn check_column(name: &str) -> Result<(), String> {
    if name == "file_names" || name.ends_with("_file_name") || name.ends_with("_file_names") {
        return Err(format!(
            "column `{name}`: imagefolder would read it as a picture, audiofolder as a sound, whatever it is; name it `image` or `audio` (one file a row)"
        ));
    }
    Ok(())
}

impl Columns {
    /// The row of a table; `folder` is the table's own, `""` or ending in a slash.
    pub fn row(self, folder: &str, table: usize, line: u64) -> Result<TableRow, String> {
        for name in self.other.keys() {
            check_column(name)?;
        }
        let part = |key: &str, path: Option<String>| -> Result<Option<MediaSource>, String> {
            let Some(path) = path else { return Ok(None) };
            check_path(&path).map_err(|what| format!("`{key}`: {what}"))?;
            Ok(Some(MediaSource::File(format!("{folder}{path}"))))
        };
        let row = TableRow {
            name: self.file_name.as_ref().or(self.image.as_ref()).or(self.audio.as_ref()).cloned().unwrap_or_else(|| format!("line {line}")),
            origin: Origin::Line { table, line },
            file: part("file_name", self.file_name)?,
            picture: part("image", self.image)?,
            sound: part("audio", self.audio)?,
            text: self.text,
            prompt: self.prompt,
            split: self.split,
            attributes: self.attributes.as_ref().map(declared).unwrap_or_default(),
        };
        if row.is_empty() {
            return Err("the row has neither `file_name` nor `image` nor `audio` nor `text`".into());
        }
        Ok(row)
    }
}

/// A path may only go down from the folder.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    use std::path::{Component, Path};
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Result<TableRow, String> {
        serde_json::from_str::<Columns>(text).map_err(|error| error.to_string())?.row("", 0, 1)
    }

    #[test]
    fn paths_that_leave_are_refused() {
        for path in ["a.png", "images/a.png", "./a.png", "a..b.png", "...", "images/..a", "~/a.png", "file:a", "%2e%2e/a"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in ["", "..", "../a.png", "images/../../a.png", "/etc/passwd", "a\0b", "images/..", "..\\a.png", "\\a", "C:\\a.png", "C:a.png", "//host/a"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn rows_say_what_is_missing() {
        assert!(row("{}").unwrap_err().contains("neither"));
        assert!(row(r#"{"prompt": "what is it?", "split": "train"}"#).unwrap_err().contains("neither"));
        assert!(row(r#"{"text": "a cat"}"#).unwrap().picture.is_none());
        assert!(row(r#"{"file_name": 3, "text": "a cat"}"#).is_err());
        assert!(row(r#"{"text": "a", "text": "b"}"#).unwrap_err().contains("duplicate"));
        assert!(row(r#"{"text": "a", "other": {"x": [1]}}"#).is_ok());
        assert!(row("[1]").is_err());
        assert!(row(r#"{"text": "a", "audio_file_name": "a.wav"}"#).unwrap_err().contains("`audio`"));
    }
}
