//! What the members of one key make together: one sample, or several where the key has dots of its own.
//!
//! WebDataset's key ends at the first dot of the name. Members with one dot decide: `0.png`, `0.txt`. Where these have no picture or no
//! sound, one with more dots is taken: `0.left.png`. Names that all have more dots are keys with dots, `22.05.png` and `22.05.txt`.

use std::fs::File;

use super::content::{foreign_ending, is_picture, is_sound};
use super::json;
use super::limits::Limits;
use super::row::{MediaSource, Origin, TableRow};
use super::tar::{BadMember, Member, Scanner};

/// What we take from a `.json`; other keys are the data set's own.
#[derive(Default, serde::Deserialize)]
#[serde(expecting = "an object")]
struct Described {
    text: Option<String>,
    prompt: Option<String>,
    split: Option<String>,
    attributes: Option<serde_json::Value>,
}

/// A member that is read.
struct Piece {
    /// Its path up to its last dot.
    stem: String,
    /// Its whole path.
    path: String,
    /// Where its header starts.
    byte: u64,
    part: Part,
}

enum Part {
    Picture(MediaSource),
    Sound(MediaSource),
    /// What is in it, or why it cannot be read.
    Text(Result<String, String>),
    Json(Result<Box<Described>, String>),
}

impl Part {
    /// `picture`, `sound`, `text`, `.json`: a sample has one of each.
    fn name(&self) -> &'static str {
        match self {
            Part::Picture(_) => "picture",
            Part::Sound(_) => "sound",
            Part::Text(_) => "text",
            Part::Json(_) => ".json",
        }
    }

    fn is_media(&self) -> bool {
        matches!(self, Part::Picture(_) | Part::Sound(_))
    }
}

/// The members of one key so far.
pub(super) struct Members {
    pub key: String,
    byte: u64,
    pieces: Vec<Piece>,
    bad: Option<String>,
}

impl Members {
    /// `byte` is where the first one's header starts.
    pub fn new(key: &str, byte: u64) -> Self {
        Members { key: key.to_string(), byte, pieces: Vec::new(), bad: None }
    }

    /// The sample is bad, for this reason if it is the first.
    pub fn refuse(&mut self, what: String) {
        self.bad.get_or_insert(what);
    }

    /// Takes a member, and reads it if it is a text. `suffix` is what comes after the key and its dot, in small letters.
    pub fn add(&mut self, member: &Member, suffix: &str, scanner: &mut Scanner<File>, limits: &Limits) -> Result<(), String> {
        let ending = suffix.rsplit('.').next().unwrap_or(suffix);
        let media = MediaSource::Member { at: member.at, bytes: member.bytes };
        let part = match ending {
            _ if is_picture(ending) => Part::Picture(media),
            _ if is_sound(ending) => Part::Sound(media),
            "txt" => Part::Text(text(member, scanner, limits)),
            "json" => Part::Json(
                text(member, scanner, limits).and_then(|text| json::parse(&text).map(Box::new).map_err(|error| format!("expected a JSON object: {error}"))),
            ),
            // Of `0.mask.tif` nobody has said that it is the sample's picture.
            _ if ending == suffix => return foreign_ending(ending).map_or(Ok(()), |found| Err(format!("found {found}"))),
            _ => return Ok(()),
        };
        let stem = member.path[..member.path.len() - ending.len() - 1].to_string();
        self.pieces.push(Piece { stem, path: member.path.clone(), byte: member.byte, part });
        Ok(())
    }

    /// The rows of these members.
    pub fn finish(mut self, shard: usize, split: Option<&str>, row: &mut impl FnMut(Result<TableRow, BadMember>)) {
        let (byte, key) = (self.byte, std::mem::take(&mut self.key));
        if let Some(what) = self.bad.take() {
            return row(Err(BadMember { byte, what }));
        }
        if !self.pieces.iter().any(|piece| piece.stem == key) && self.keys_have_dots() {
            // Each stem is a key; a member comes after the first of its own.
            let mut samples: Vec<Vec<Piece>> = Vec::new();
            for piece in self.pieces {
                match samples.iter_mut().find(|sample| sample[0].stem == piece.stem) {
                    Some(sample) => sample.push(piece),
                    None => samples.push(vec![piece]),
                }
            }
            for pieces in samples {
                let (byte, key) = (pieces[0].byte, pieces[0].stem.clone());
                row(Members { key: String::new(), byte, pieces, bad: None }.sample(&key, shard, split).map_err(|what| BadMember { byte, what }));
            }
            return;
        }
        row(self.sample(&key, shard, split).map_err(|what| BadMember { byte, what }));
    }

    /// Whether every name up to its last dot is a sample of its own: it has a text, or there is only one.
    fn keys_have_dots(&self) -> bool {
        let has_text = |stem: &str| self.pieces.iter().any(|piece| piece.stem == stem && !piece.part.is_media());
        let alone = |stem: &str| self.pieces.iter().all(|piece| piece.stem == stem);
        self.pieces.iter().all(|piece| alone(&piece.stem) || has_text(&piece.stem))
    }

    fn sample(mut self, key: &str, shard: usize, split: Option<&str>) -> Result<TableRow, String> {
        for (i, piece) in self.pieces.iter().enumerate().filter(|(_, piece)| piece.stem == key) {
            if self.pieces[..i].iter().any(|other| other.stem == key && other.part.name() == piece.part.name()) {
                return Err(format!("{}: a second {} of this key", piece.path, piece.part.name()));
            }
        }
        let picture = self.media(key, "picture")?;
        let sound = self.media(key, "sound")?;
        // With the sample's own name, or with that of a picture or sound that was taken.
        let stems: Vec<&str> =
            [Some(key), picture.as_ref().map(|piece| piece.stem.as_str()), sound.as_ref().map(|piece| piece.stem.as_str())].into_iter().flatten().collect();
        let mut find = |name: &str| {
            let found = stems.iter().find_map(|stem| self.pieces.iter().position(|piece| piece.stem == *stem && piece.part.name() == name));
            found.map(|at| self.pieces.remove(at))
        };
        let (text, described) = (find("text"), find(".json"));
        let text = match text {
            Some(Piece { part: Part::Text(text), path, .. }) => Some(text.map_err(|what| format!("{path}: {what}"))?.trim().to_string()),
            _ => None,
        };
        let described = match described {
            Some(Piece { part: Part::Json(described), path, .. }) => *described.map_err(|what| format!("{path}: {what}"))?,
            _ => Described::default(),
        };
        let source = |piece: Option<Piece>| match piece?.part {
            Part::Picture(media) | Part::Sound(media) => Some(media),
            _ => None,
        };
        let row = TableRow {
            name: key.to_string(),
            origin: Origin::Shard { shard, byte: self.byte },
            file: None,
            picture: source(picture),
            sound: source(sound),
            text: text.or(described.text),
            prompt: described.prompt,
            split: described.split.or(split.map(str::to_string)),
            attributes: described.attributes.as_ref().map(super::row::declared).unwrap_or_default(),
        };
        if row.is_empty() {
            return Err(format!("the sample {key} has no picture (.png, .jpg, .webp), sound (.wav, .flac, .mp3, .ogg) or .txt, nor a `text` in its .json"));
        }
        Ok(row)
    }

    /// The picture or sound: the one of the key itself, or the only one with more dots.
    fn media(&mut self, key: &str, name: &str) -> Result<Option<Piece>, String> {
        let all: Vec<usize> = (0..self.pieces.len()).filter(|at| self.pieces[*at].part.name() == name).collect();
        let own = all.iter().find(|at| self.pieces[**at].stem == key);
        match (own, all.as_slice()) {
            (Some(at), _) => Ok(Some(self.pieces.remove(*at))),
            (None, []) => Ok(None),
            (None, [only]) => Ok(Some(self.pieces.remove(*only))),
            (None, [first, second, ..]) => {
                let [first, second] = [first, second].map(|at| &self.pieces[*at].path);
                Err(format!(
                    "{first} and {second} are {name}s of one sample, whose key {key:?} ends at the first dot, and a sample has one {name}: keep one, or write the names without such dots"
                ))
            }
        }
    }
}

/// What is in a text, without the byte order mark that editors on Windows put before it.
fn text(member: &Member, scanner: &mut Scanner<File>, limits: &Limits) -> Result<String, String> {
    if member.bytes > limits.line_bytes as u64 {
        return Err(Limits::beyond("line_bytes", "a text of", member.bytes, "bytes", limits.line_bytes));
    }
    let contents = scanner.contents(member).map_err(|error| format!("cannot read it: {error}"))?;
    let text = String::from_utf8(contents).map_err(|error| format!("not UTF-8 at byte {} of the text", error.utf8_error().valid_up_to()))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_string(),
        None => text,
    })
}
