//! WebDataset shards: tar archives whose members of one key are one sample.
//!
//! `000017.png`, `000017.wav`, `000017.txt` and `000017.json` next to each other are the sample `000017`: the key is the path up
//! to the first dot of the file's name. The index keeps the places of pictures and sounds, and the texts. What a key's members make
//! together is [`super::members`]' business.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::limits::Limits;
use super::members::Members;
use super::row::TableRow;
use super::tar::{BadMember, Scanner};
use trimodal_base::{Error, Result};

/// A pattern that means more files than this is a typing mistake.
const MAX_SHARDS: u64 = 100_000;

/// The files that `shard-{000000..000012}.tar` means; `None` where there is no such pattern in the path.
pub(super) fn expand(path: &Path) -> Option<Result<Vec<PathBuf>>> {
    let text = path.to_str()?;
    let (before, rest) = text.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    let number = |digits: &str| if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse::<u64>().ok() } else { None };
    let bad = |what: &str| Some(Err(Error::Usage(format!("{text}: {what}"))));
    let (Some(from), Some(to)) = (number(first), number(last)) else { return bad("expected two numbers as in {000000..000012}") };
    if from > to || to - from >= MAX_SHARDS {
        return bad(&format!("expected a rising range of at most {MAX_SHARDS} shards"));
    }
    if after.contains('{') {
        return bad("expected one range in braces, found several");
    }
    let width = if first.starts_with('0') || first.len() == last.len() { first.len() } else { 0 };
    Some(Ok((from..=to).map(|i| PathBuf::from(format!("{before}{i:0width$}{after}"))).collect()))
}

/// Reads the headers of a shard, and its texts. `row` takes every sample, or what is wrong at which byte.
pub(super) fn index(
    file: File,
    length: u64,
    shard: usize,
    split: Option<&str>,
    limits: &Limits,
    mut row: impl FnMut(std::result::Result<TableRow, BadMember>),
) {
    let mut scanner = Scanner::new(file, length, limits);
    let mut sample: Option<Members> = None;
    while let Some(member) = scanner.next() {
        let member = match member {
            Ok(member) => member,
            Err(bad) => {
                // A member that is refused is a sample's loss, not the shard's.
                row(Err(bad));
                continue;
            }
        };
        let Some((key, suffix)) = key(&member.path) else { continue };
        if sample.as_ref().is_none_or(|sample| sample.key != key) {
            if let Some(sample) = sample.take() {
                sample.finish(shard, split, &mut row);
            }
            sample = Some(Members::new(key, member.byte));
        }
        let group = sample.as_mut().expect("set above");
        if let Err(what) = group.add(&member, &suffix, &mut scanner, limits) {
            group.refuse(format!("{}: {what}", member.path));
        }
    }
    if let Some(sample) = sample {
        sample.finish(shard, split, &mut row);
    }
}

/// What systems leave in folders, and what is written about a data set: no samples.
fn is_litter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "thumbs.db" | "ehthumbs.db" | "desktop.ini" | "readme.md" | "readme.rst" | "license.md")
}

/// A member's key and its suffix in small letters; `None` for files that belong to no sample: no dot, nothing before it, or litter.
fn key(path: &str) -> Option<(&str, String)> {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[name..].find('.').filter(|dot| *dot > 0 && !is_litter(&path[name..]))? + name;
    Some((&path[..dot], path[dot + 1..].to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_name() {
        assert_eq!(key("a/b.c/000017.seg.PNG"), Some(("a/b.c/000017", "seg.png".into())));
        assert_eq!(key("000017.wav"), Some(("000017", "wav".into())));
        assert_eq!([key("README"), key("a/.hidden.png"), key(".x"), key("a.b/c"), key("a/Thumbs.db")], [None, None, None, None, None]);
    }

    #[test]
    fn patterns_are_ranges_of_numbers() {
        let names = |text: &str| expand(Path::new(text)).map(|r| r.map(|paths| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>()));
        assert_eq!(names("d/s-{008..010}.tar").unwrap().unwrap(), ["d/s-008.tar", "d/s-009.tar", "d/s-010.tar"]);
        assert_eq!(names("s{8..10}.tar").unwrap().unwrap(), ["s8.tar", "s9.tar", "s10.tar"]);
        assert!(names("s.tar").is_none() && names("s{1}.tar").is_none() && names("s}{.tar").is_none());
        for text in ["s{3..1}.tar", "s{a..b}.tar", "s{0..999999999999}.tar", "s{0..1}{0..1}.tar", "s{-1..2}.tar", "s{..}.tar"] {
            assert!(names(text).unwrap().is_err(), "{text}");
        }
    }
}
