//! What the names of Parquet files say, and what is said of the files as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;

/// `train-00000-of-00004.parquet`, the name that `datasets` gives: what comes before, the number, how many there are.
fn numbered(name: &str) -> Option<(&str, u32, &str)> {
    let stem = name.strip_suffix(".parquet")?;
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (before, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(of)).then(|| number.parse().ok().map(|number| (before, number, of))).flatten()
}

/// The split of a file that is one of several by its name: what comes before its number.
pub(crate) fn split_of_part(path: &str) -> Option<String> {
    let (before, ..) = numbered(path.rsplit('/').next().unwrap_or(path))?;
    (!before.is_empty()).then(|| before.to_string())
}

/// The most files that are missed by name: more is a name that means something else.
const MOST_MISSING: u32 = 10_000;

/// The files whose names the others' names promise.
pub(crate) fn missing(paths: &[String]) -> Vec<String> {
    let mut parts: BTreeMap<(String, &str), BTreeSet<u32>> = BTreeMap::new();
    for path in paths {
        let (folder, name) = path.rfind('/').map_or(("", path.as_str()), |slash| path.split_at(slash + 1));
        if let Some((before, number, of)) = numbered(name) {
            parts.entry((format!("{folder}{before}"), of)).or_default().insert(number);
        }
    }
    let mut missing = Vec::new();
    for ((before, of), numbers) in parts {
        let count: u32 = of.parse().unwrap_or(0);
        let width = of.len();
        missing
            .extend((0..count.min(MOST_MISSING)).filter(|number| !numbers.contains(number)).map(|number| format!("{before}-{number:0width$}-of-{of}.parquet")));
    }
    missing
}

/// What is said of all files together.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    rows: u64,
    lists: u64,
    samples_of_lists: u64,
    empty_lists: u64,
    /// Columns that nobody reads, in how many files.
    unused: BTreeMap<String, usize>,
}

impl Notes {
    /// Counts a file.
    pub fn add(&mut self, found: Found) {
        self.rows += found.rows;
        self.lists += found.lists;
        self.samples_of_lists += found.samples_of_lists;
        self.empty_lists += found.empty_lists;
        found.unused.into_iter().for_each(|name| *self.unused.entry(name).or_default() += 1);
    }

    /// The sentences.
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        if self.lists > 0 {
            said.push(format!("{} of {} rows have lists: one sample for each element, {} in all", self.lists, self.rows, self.samples_of_lists));
        }
        if self.empty_lists > 0 {
            said.push(format!("{} lists are empty or null: their rows have nothing there", self.empty_lists));
        }
        if !self.unused.is_empty() {
            const MOST: usize = 12;
            let names: Vec<&str> = self.unused.keys().take(MOST).map(String::as_str).collect();
            let more = if self.unused.len() > MOST { format!(" and {} more", self.unused.len() - MOST) } else { String::new() };
            said.push(format!("columns that are not read: {}{more} (--columns says which is what)", names.join(", ")));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_number_is_the_split() {
        let of = |path: &str| split_of_part(path).unwrap_or_default();
        assert_eq!([of("data/train-00000-of-00004.parquet"), of("data/test.clean-00000-of-00001.parquet")], ["train", "test.clean"]);
        assert_eq!([of("train.parquet"), of("train-0-of-1.parquet"), of("-00000-of-00001.parquet")], [""; 3]);
    }

    #[test]
    fn parts_that_are_promised_and_not_there_are_named() {
        let files = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert!(missing(&files(&["data/train-00000-of-00001.parquet", "test.parquet"])).is_empty());
        let found = missing(&files(&["data/train-00000-of-00003.parquet", "data/train-00002-of-00003.parquet", "data/test-00000-of-00001.parquet"]));
        assert_eq!(found, ["data/train-00001-of-00003.parquet"]);
    }
}
