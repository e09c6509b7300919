//! Which split a path means: the words of Hugging Face's `datasets` (`data_files.py`) and its rules for where a word begins and ends.
//!
//! A folder is a split where its name is such a word, or has one between the name's ends, digits, spaces, `-`, `.` and `_`: `training`,
//! `train2`, `mnist-test`, but neither `trainers` nor `contest`. Where no folder is, a shard's own name may be: `cc-train-000.tar`.

/// What `datasets` takes for a split, and as which. Letters count as they are written: `Train` is not one of them.
const WORDS: [(&str, &str); 10] = [
    ("train", "train"),
    ("training", "train"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("dev", "validation"),
    ("val", "validation"),
    ("test", "test"),
    ("testing", "test"),
    ("eval", "test"),
    ("evaluation", "test"),
];

/// The split that a name means which rows give themselves, in small or capital letters: `train`, `validation` or `test`; `None` where it is
/// none of their words.
pub fn meant(name: &str) -> Option<&'static str> {
    of_name(&name.to_lowercase(), true)
}

/// The split that a folder's name means.
pub(super) fn of_folder(name: &str) -> Option<&'static str> {
    of_name(name, true)
}

/// The split that the folders of a path mean, the uppermost first. `folders` is `""` or ends in a slash.
pub(super) fn of_folders(folders: &str) -> Option<&'static str> {
    folders.split('/').find_map(of_folder)
}

/// The split that a file's name means: as a folder's, but with something after the word.
pub(super) fn of_file(name: &str) -> Option<&'static str> {
    of_name(name, false)
}

fn of_name(name: &str, may_end: bool) -> Option<&'static str> {
    // The characters of `NON_WORDS_CHARS`.
    let separates = |byte: &u8| byte.is_ascii_digit() || b"-._ ".contains(byte);
    // What lies between separators, by its first byte: the first word of the name decides.
    let bytes = name.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes[start..].iter().position(separates).map_or(bytes.len(), |length| start + length);
        if end < bytes.len() || may_end {
            let found = WORDS.iter().find(|(word, _)| word.as_bytes() == &bytes[start..end]);
            if let Some((_, split)) = found {
                return Some(split);
            }
        }
        start = end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `datasets` 4.4 makes of a folder `NAME/x.png`, and of a file `NAME.png` beside one that is `train`; see `split_names.py` in the
    /// notes of the commit.
    #[test]
    fn words_end_where_those_of_datasets_end() {
        for (name, split) in [
            ("train", Some("train")),
            ("training", Some("train")),
            ("train2", Some("train")),
            ("2train", Some("train")),
            ("train_images", Some("train")),
            ("mnist-test", Some("test")),
            ("my.val.set", Some("validation")),
            ("dev 1", Some("validation")),
            ("valid", Some("validation")),
            ("validation", Some("validation")),
            ("testing", Some("test")),
            ("eval", Some("test")),
            ("evaluation", Some("test")),
            ("Train", None),
            ("TEST", None),
            ("trainers", None),
            ("contest", None),
            ("latest", None),
            ("train+test", None),
            ("value", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(of_folder(name), split, "{name:?}");
        }
        assert_eq!(
            ["Validation", "TEST", "dev-clean", "iid", "train_extra"].map(meant),
            [Some("validation"), Some("test"), Some("validation"), None, Some("train")]
        );
        assert_eq!(of_folders("data/training/0/"), Some("train"));
        assert_eq!(of_folders("test/train/"), Some("test"));
        assert_eq!((of_folders(""), of_folders("a/b/")), (None, None));
        assert_eq!(
            (of_file("train-00000-of-00004.tar"), of_file("cc.val.tar"), of_file("train"), of_file("a/test")),
            (Some("train"), Some("validation"), None, None)
        );
    }
}
