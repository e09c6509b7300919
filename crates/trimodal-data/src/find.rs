//! Tables and shards anywhere below a data folder, as `load_dataset` finds them: hidden folders and those that begin with two underscores
//! are left out, and links to folders are not followed.

use super::safe::Folder;
use super::split;
use trimodal_base::{Error, Result};

/// The name of the table inside a data folder.
pub const METADATA: &str = "metadata.jsonl";

/// The tables that are read.
pub(super) const TABLES: [&str; 2] = [METADATA, "metadata.csv"];

/// Nobody keeps a data set deeper; a loop of folders ends here.
pub(super) const DEEPEST: usize = 16;

/// Files that come with data sets and are not tables (`FILES_TO_IGNORE` of `datasets`, and what its `save_to_disk` adds).
const NO_TABLES: [&str; 5] = ["config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

/// A file: its folder, `""` or ending in a slash, and its name.
pub(super) type Place = (String, String);

/// What was found, the upper folders first.
#[derive(Default)]
pub(super) struct Found {
    /// Tables that are read.
    pub tables: Vec<Place>,
    /// WebDataset shards.
    pub shards: Vec<Place>,
    /// Parquet files.
    pub parquet: Vec<Place>,
    /// Tables by their endings or names that are not read: `metadata1000.jsonl`.
    pub others: Vec<Place>,
}

impl Found {
    /// Looks through the folder.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn below(folder: &Folder) -> Result<Self> {
        let mut found = Found::default();
        found.visit(folder, "", 0)?;
        Ok(found)
    }

    fn visit(&mut self, folder: &Folder, at: &str, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Ok(()); // whoever reads the folder says so
        }
        let (files, folders) = list(&folder.given.join(at))?;
        for name in &files {
            let place = || (at.to_string(), name.clone());
            let lower = name.to_ascii_lowercase();
            let (stem, ending) = lower.rsplit_once('.').unwrap_or((&lower, ""));
            match ending {
                _ if TABLES.contains(&name.as_str()) => self.tables.push(place()),
                "tar" => self.shards.push(place()),
                "parquet" => self.parquet.push(place()),
                "jsonl" | "ndjson" | "csv" | "tsv" => self.others.push(place()),
                _ if lower.starts_with("metadata.") => self.others.push(place()),
                // A `.json` describes the file of its name, or else many.
                "json" if !NO_TABLES.contains(&lower.as_str()) && !has_sibling(&files, name, stem.len()) => self.others.push(place()),
                _ => {}
            }
        }
        folders.iter().filter(|name| !name.starts_with("__")).try_for_each(|name| self.visit(folder, &format!("{at}{name}/"), depth + 1))
    }
}

/// Whether another file has the name up to its ending.
fn has_sibling(files: &[String], name: &str, stem: usize) -> bool {
    let dotted = &name[..stem + 1];
    let from = files.partition_point(|other| other.as_str() < dotted);
    files[from..].iter().take_while(|other| other.starts_with(dotted)).any(|other| other != name)
}

/// The split of each file. Where no folder and no file has a split's name, there are none; where one has, the others' folders are splits
/// of their own names.
pub(super) fn splits(places: &[Place]) -> Vec<Option<String>> {
    let word = |(folder, name): &Place| split::of_folders(folder).or_else(|| split::of_file(name));
    let named = places.iter().any(|place| word(place).is_some());
    let own = |folder: &str| folder.trim_end_matches('/').rsplit('/').next().filter(|name| named && !name.is_empty()).map(str::to_string);
    places.iter().map(|place| word(place).map(str::to_string).or_else(|| own(&place.0))).collect()
}

/// The files and folders in a folder, sorted, without hidden ones and those whose names are not UTF-8.
fn list(path: &std::path::Path) -> Result<(Vec<String>, Vec<String>)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_s_name_makes_the_others_names_splits_too() {
        let of = |folders: &[&str]| splits(&folders.iter().map(|folder| (folder.to_string(), "metadata.jsonl".to_string())).collect::<Vec<_>>());
        assert_eq!(of(&["cats/", "dogs/"]), [None, None]);
        assert_eq!(of(&["", "data/"]), [None, None]);
        assert_eq!(of(&["data/training/", "data/held_out_both/"]), [Some("train".to_string()), Some("held_out_both".to_string())]);
        assert_eq!(of(&["", "test/"]), [None, Some("test".to_string())]);
    }

    #[test]
    fn a_json_beside_its_picture_is_not_a_table() {
        let files: Vec<String> = ["a.json", "a.png", "ab.json", "b.json"].map(str::to_string).into();
        assert!(has_sibling(&files, "a.json", 1) && !has_sibling(&files, "ab.json", 2) && !has_sibling(&files, "b.json", 1));
    }
}
