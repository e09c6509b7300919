//! Folders without a table: class folders of pictures and sounds, and plain texts.
//!
//! Files of one name in one folder are one sample, as in a shard: `cat/1.png` and `cat/1.wav`. Its text is the `.txt` of that
//! name, else the name of the folder. A `.txt` alone is a text sample. Where the uppermost folder is called `train`, `test`
//! or the like, it is the split.

use std::collections::BTreeMap;

use super::limits::Limits;
use super::row::{MediaSource, Origin, TableRow, is_picture, is_sound};
use super::safe::Folder;
use super::shards::FOREIGN;

/// Folder names that mean a split.
pub(super) const SPLITS: [&str; 7] = ["train", "test", "validation", "valid", "val", "dev", "eval"];

/// Nobody keeps a data set deeper; a loop of folders ends here.
const DEEPEST: usize = 16;

/// Finds the samples below the folder, in the order of their paths. `row` takes every sample, or what is wrong with which file.
pub(super) fn samples(folder: &Folder, limits: &Limits, row: &mut impl FnMut(Result<TableRow, (String, String)>)) {
    visit(folder, "", 0, limits, row);
}

/// `at` is `""` or ends in a slash.
fn visit(folder: &Folder, at: &str, depth: usize, limits: &Limits, row: &mut impl FnMut(Result<TableRow, (String, String)>)) {
    let mut bad = |what: String| row(Err((at.to_string(), what)));
    if depth > DEEPEST {
        return bad(format!("expected folders at most {DEEPEST} levels deep, found deeper ones"));
    }
    let entries = match std::fs::read_dir(folder.given.join(at)) {
        Ok(entries) => entries,
        Err(error) => return bad(format!("cannot list the folder: {error}")),
    };
    let (mut folders, mut groups) = (Vec::new(), BTreeMap::<String, Vec<(String, String)>>::new());
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return bad(format!("cannot list the folder: {error}")),
        };
        let name = match entry.file_name().into_string() {
            Ok(name) => name,
            Err(name) => {
                bad(format!("the file name {name:?} is not UTF-8"));
                continue;
            }
        };
        if name.starts_with('.') {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folders.push(name),
            Ok(kind) if kind.is_symlink() && entry.path().is_dir() => bad(format!("{name:?} is a symbolic link to a folder, which is not followed")),
            _ => {
                let (stem, suffix) = name.rsplit_once('.').unwrap_or((&name, ""));
                groups.entry(stem.to_string()).or_default().push((suffix.to_ascii_lowercase(), name.clone()));
            }
        }
    }
    for (stem, mut files) in groups {
        files.sort();
        match sample(folder, at, &stem, &files, limits) {
            Ok(Some(sample)) => row(Ok(sample)),
            Ok(None) => {}
            Err((name, what)) => row(Err((format!("{at}{name}"), what))),
        }
    }
    folders.sort();
    for name in folders {
        visit(folder, &format!("{at}{name}/"), depth + 1, limits, row);
    }
}

/// The sample of the files of one stem, if there is something for us among them.
fn sample(folder: &Folder, at: &str, stem: &str, files: &[(String, String)], limits: &Limits) -> Result<Option<TableRow>, (String, String)> {
    let (mut picture, mut sound, mut text, mut first) = (None, None, None, None);
    for (suffix, name) in files {
        let path = format!("{at}{name}");
        let fail = |what: &str| (name.clone(), what.to_string());
        let part = MediaSource::File(path.clone());
        match suffix.as_str() {
            ending if is_picture(ending) => {
                if picture.replace(part).is_some() {
                    return Err(fail(&format!("a second picture called {stem}")));
                }
            }
            ending if is_sound(ending) => sound = Some(part),
            "txt" => text = Some(read_text(folder, &path, limits).map_err(|what| (name.clone(), what))?),
            suffix if FOREIGN.contains(&suffix) => return Err(fail("expected PNG, JPEG, WAV or .txt files")),
            _ => continue,
        }
        // The sample is called after its picture, its sound, or its text, whichever sorts first.
        first.get_or_insert(path);
    }
    let Some(name) = first else { return Ok(None) };
    let mut above = at.trim_end_matches('/').split('/').filter(|part| !part.is_empty());
    let split = above.clone().next().filter(|top| SPLITS.contains(top)).map(str::to_string);
    if split.is_some() {
        above.next();
    }
    let text = text.or_else(|| above.next_back().map(str::to_string));
    Ok(Some(TableRow { name, origin: Origin::File, file: None, picture, sound, text, prompt: None, split, attributes: BTreeMap::new() }))
}

fn read_text(folder: &Folder, path: &str, limits: &Limits) -> Result<String, String> {
    use std::io::Read;
    let (file, bytes) = folder.file(path)?;
    if bytes > limits.line_bytes as u64 {
        return Err(Limits::beyond("line_bytes", "a text of", bytes, "bytes", limits.line_bytes));
    }
    let mut contents = Vec::with_capacity(bytes as usize);
    file.take(bytes).read_to_end(&mut contents).map_err(|error| format!("cannot read it: {error}"))?;
    let text = String::from_utf8(contents).map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() { Err("the text is empty".into()) } else { Ok(text.to_string()) }
}
