//! Is it still the same data? A few digests of the rows that a run uses: their names and order, their texts, the lengths and times of their
//! files. Part of `trainer_state.json`; a run that is continued says what has changed since.
//!
//! Contents are not read: that would take as long as training on them. A picture that was replaced by one of the same length with the time of
//! the old one goes unnoticed.

use super::digest;
use crate::data::Dataset;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A difference is narrowed down to one of so many stretches of rows.
const STRETCHES: usize = 64;

/// The fingerprint of some rows in an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// How many.
    pub rows: usize,
    /// What they are called, and the names of their files.
    pub names: Aspect,
    /// Captions and prompts.
    pub texts: Aspect,
    /// The lengths of their files.
    pub sizes: Aspect,
    /// When these were last written.
    pub times: Aspect,
}

/// One thing about all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aspect {
    /// In whatever order: the sum of the rows' digests.
    pub sum: String,
    /// In their order: a digest of each stretch of rows, with a space between them.
    pub stretches: String,
}

/// What is known of the data that a run uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFingerprint {
    /// The rows that are trained on.
    pub trained: Fingerprint,
    /// The samples that are evaluated.
    pub evaluated: Fingerprint,
}

/// The first 16 hexadecimal digits of a digest.
fn short(bytes: &[u8]) -> u64 {
    u64::from_str_radix(&digest::of(bytes)[..16], 16).expect("hexadecimal digits")
}

impl Aspect {
    /// Of the rows' own digests, in order.
    fn of(rows: &[u64]) -> Self {
        let sum = rows.iter().fold(0u64, |sum, row| sum.wrapping_add(*row));
        let text = |rows: &[u64]| format!("{:016x}", short(bytemuck::cast_slice(&rows.iter().map(|row| row.to_le_bytes()).collect::<Vec<_>>())));
        Aspect { sum: format!("{sum:016x}"), stretches: rows.chunks(stretch(rows.len())).map(text).collect::<Vec<_>>().join(" ") }
    }

    /// The first rows that differ, counted from 1; `None` where none do.
    fn differs(&self, now: &Aspect, rows: usize) -> Option<String> {
        let [before, after] = [self, now].map(|of| of.stretches.split(' ').collect::<Vec<_>>());
        let first = (0..before.len().max(after.len())).find(|&i| before.get(i) != after.get(i))?;
        let (from, to) = (first * stretch(rows) + 1, ((first + 1) * stretch(rows)).min(rows));
        Some(if from == to { format!("row {from}") } else { format!("rows {from} to {to}") })
    }
}

/// Rows of a stretch.
fn stretch(rows: usize) -> usize {
    rows.div_ceil(STRETCHES).max(1)
}

impl Fingerprint {
    /// Of these rows of a data set. Asks for the length and time of each of their files.
    pub fn of(dataset: &Dataset, rows: &[usize]) -> Self {
        let each: Vec<[u64; 4]> = rows
            .par_iter()
            .map(|&row| {
                let row = &dataset.rows()[row];
                let files = dataset.files(row);
                let (mut names, mut sizes, mut times) = (vec![row.name.as_str()], Vec::new(), Vec::new());
                for (name, stamp) in &files {
                    names.push(name);
                    sizes.extend(stamp.map_or(u64::MAX, |stamp| stamp.bytes).to_le_bytes());
                    times.extend(stamp.map_or(u64::MAX, |stamp| stamp.modified).to_le_bytes());
                }
                let texts = [row.text.as_deref(), row.prompt.as_deref()].map(|text| text.map_or("\u{1}".to_string(), |text| format!("\u{2}{text}")));
                [names.join("\0").as_bytes(), texts.join("\0").as_bytes(), &sizes, &times].map(short)
            })
            .collect();
        let aspect = |i: usize| Aspect::of(&each.iter().map(|row| row[i]).collect::<Vec<_>>());
        Fingerprint { rows: rows.len(), names: aspect(0), texts: aspect(1), sizes: aspect(2), times: aspect(3) }
    }

    /// What has changed since, each in a few words; nothing where nothing has.
    pub fn changes(&self, now: &Fingerprint) -> Vec<String> {
        if self.rows != now.rows {
            return vec![format!("there were {} rows, and now there are {}", self.rows, now.rows)];
        }
        let change = |before: &Aspect, after: &Aspect, same: &str, other: &str| {
            before.differs(after, self.rows).map(|first| format!("{} (first in {first})", if before.sum == after.sum { same } else { other }))
        };
        let names = change(&self.names, &now.names, "the same rows in another order", "other rows, or other files in them");
        let texts = change(&self.texts, &now.texts, "captions or prompts at other rows than before", "other captions or prompts");
        // Rows in another order bring everything of theirs along.
        let moved = self.names != now.names && self.names.sum == now.names.sum;
        let texts = texts.filter(|_| !(moved && self.texts.sum == now.texts.sum));
        let sizes = change(&self.sizes, &now.sizes, "files of other lengths", "files of other lengths").filter(|_| !(moved && self.sizes.sum == now.sizes.sum));
        let times =
            change(&self.times, &now.times, "files written at other times", "files written since").filter(|_| !(moved && self.times.sum == now.times.sum));
        // A copy of a data set has new times, and they alone say little.
        let times = times.map(|times| if sizes.is_none() { format!("{times}, of the lengths that they had") } else { times });
        [names, texts, sizes, times].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Limits;
    use std::fs;

    #[test]
    fn every_change_is_told_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let write = |lines: &[&str]| fs::write(folder.path().join("metadata.jsonl"), lines.join("\n")).unwrap();
        let print = || {
            let dataset = Dataset::open(folder.path(), &Limits::default()).unwrap();
            Fingerprint::of(&dataset, &(0..dataset.rows().len()).collect::<Vec<_>>())
        };
        for name in ["a.png", "b.png", "c.png"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let rows = [r#"{"file_name": "a.png", "text": "red"}"#, r#"{"file_name": "b.png", "text": "green"}"#, r#"{"file_name": "c.png", "text": "blue"}"#];
        write(&rows);
        let before = print();
        let changes = || before.changes(&print());
        assert_eq!(changes(), Vec::<String>::new());
        write(&[rows[2], rows[0], rows[1]]);
        assert_eq!(changes(), ["the same rows in another order (first in row 1)"]);
        write(&[rows[0], &rows[1].replace("green", "blue"), &rows[2].replace("blue", "green")]);
        assert_eq!(changes(), ["captions or prompts at other rows than before (first in row 2)"]);
        write(&[rows[0], rows[1], &rows[2].replace("blue", "blu")]);
        assert_eq!(changes(), ["other captions or prompts (first in row 3)"]);
        write(&[rows[0], rows[1], &rows[2].replace("blue", "blue\", \"prompt\": \"x")]);
        assert_eq!(changes(), ["other captions or prompts (first in row 3)"]);
        write(&rows[..2]);
        assert_eq!(changes(), ["there were 3 rows, and now there are 2"]);
        write(&rows);
        fs::write(folder.path().join("b.png"), "another picture").unwrap();
        let found = changes();
        assert!(found.len() == 2 && found[0] == "files of other lengths (first in row 2)" && found[1] == "files written since (first in row 2)", "{found:?}");
        fs::write(folder.path().join("b.png"), "B.png").unwrap();
        assert_eq!(changes(), ["files written since (first in row 2), of the lengths that they had"]);
    }

    #[test]
    fn a_long_table_is_narrowed_down() {
        let rows: Vec<u64> = (0..1000).collect();
        let mut other = rows.clone();
        other[515] = 7;
        let (before, now) = (Aspect::of(&rows), Aspect::of(&other));
        assert_eq!((before.stretches.split(' ').count(), before.differs(&now, 1000).unwrap().as_str()), (63, "rows 513 to 528"));
        assert_eq!(before.differs(&before, 1000), None);
    }
}
