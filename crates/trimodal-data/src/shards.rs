//! WebDataset shards: tar archives whose members of one key are one sample.
//!
//! `000017.png`, `000017.wav`, `000017.txt` and `000017.json` next to each other are the sample `000017`: the key is the path up
//! to the first dot of the file's name. The index keeps the places of pictures and sounds, and the texts.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::limits::Limits;
use super::row::{MediaSource, Origin, TableRow, is_picture, is_sound};
use super::tar::{BadMember, Member, Scanner};
use trimodal_base::{Error, Result};

/// Suffixes of files that people put into data sets and that we do not decode: leaving them out silently would train on less
/// than is there.
pub(super) const FOREIGN: [&str; 12] = ["gif", "webp", "bmp", "tif", "tiff", "avif", "heic", "mp3", "flac", "ogg", "opus", "m4a"];

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
    let mut sample: Option<Group> = None;
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
            sample = Some(Group { key: key.to_string(), byte: member.byte, described: None, picture: None, sound: None, text: None, bad: None });
        }
        let group = sample.as_mut().expect("set above");
        if let Err(what) = group.add(&member, &suffix, &mut scanner, limits) {
            let _ = group.bad.get_or_insert(format!("{}: {what}", member.path));
        }
    }
    if let Some(sample) = sample {
        sample.finish(shard, split, &mut row);
    }
}

/// A member's key and its suffix in small letters; `None` for files that belong to no sample (no dot, or nothing before it).
fn key(path: &str) -> Option<(&str, String)> {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[name..].find('.').filter(|dot| *dot > 0)? + name;
    Some((&path[..dot], path[dot + 1..].to_ascii_lowercase()))
}

/// What we take from a `.json`; other keys are the data set's own.
#[derive(Default, serde::Deserialize)]
#[serde(expecting = "an object")]
struct Described {
    text: Option<String>,
    prompt: Option<String>,
    split: Option<String>,
    attributes: Option<serde_json::Value>,
}

/// The members of one key so far.
struct Group {
    key: String,
    byte: u64,
    described: Option<Described>,
    picture: Option<MediaSource>,
    sound: Option<MediaSource>,
    text: Option<String>,
    bad: Option<String>,
}

impl Group {
    fn add(&mut self, member: &Member, suffix: &str, scanner: &mut Scanner<File>, limits: &Limits) -> std::result::Result<(), String> {
        let part = MediaSource::Member { at: member.at, bytes: member.bytes };
        match suffix {
            ending if is_picture(ending) => self.picture.replace(part).map_or(Ok(()), |_| Err("a second picture of this key".into())),
            ending if is_sound(ending) => self.sound.replace(part).map_or(Ok(()), |_| Err("a second sound of this key".into())),
            "txt" | "json" => {
                if member.bytes > limits.line_bytes as u64 {
                    return Err(Limits::beyond("line_bytes", "a text of", member.bytes, "bytes", limits.line_bytes));
                }
                let contents = scanner.contents(member).map_err(|error| format!("cannot read it: {error}"))?;
                let text = String::from_utf8(contents).map_err(|error| format!("not UTF-8 at byte {} of the text", error.utf8_error().valid_up_to()))?;
                if suffix == "json" {
                    let described = serde_json::from_str(&text).map_err(|error| format!("expected a JSON object: {error}"))?;
                    if self.described.replace(described).is_some() {
                        return Err("a second .json of this key".into());
                    }
                } else if self.text.replace(text.trim().to_string()).is_some() {
                    return Err("a second text of this key".into());
                }
                Ok(())
            }
            _ if FOREIGN.contains(&suffix) => Err("expected a PNG, JPEG or WAV file".into()),
            _ => Ok(()),
        }
    }

    fn finish(self, shard: usize, split: Option<&str>, row: &mut impl FnMut(std::result::Result<TableRow, BadMember>)) {
        let described = self.described.unwrap_or_default();
        let made = TableRow {
            name: self.key,
            origin: Origin::Shard { shard, byte: self.byte },
            file: None,
            picture: self.picture,
            sound: self.sound,
            text: self.text.or(described.text),
            prompt: described.prompt,
            split: described.split.or(split.map(str::to_string)),
            attributes: described.attributes.as_ref().map(super::row::declared).unwrap_or_default(),
        };
        row(match self.bad {
            Some(what) => Err(BadMember { byte: self.byte, what }),
            None if made.is_empty() => {
                Err(BadMember { byte: self.byte, what: format!("the sample {} has no .png, .jpg, .jpeg, .wav or .txt, nor a `text` in its .json", made.name) })
            }
            None => Ok(made),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_name() {
        assert_eq!(key("a/b.c/000017.seg.PNG"), Some(("a/b.c/000017", "seg.png".into())));
        assert_eq!(key("000017.wav"), Some(("000017", "wav".into())));
        assert_eq!([key("README"), key("a/.hidden.png"), key(".x"), key("a.b/c")], [None, None, None, None]);
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
