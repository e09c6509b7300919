//! What captions say, attribute by attribute: the species of an animal, the category of a sound. A data set declares them; nothing is guessed
//! from words that happen to occur.
//!
//! Three ways, and the first that applies counts ([`Dataset::attributes`]):
//!
//! - a file: `{"species": ["cat", "dog"], "kind": {"animal": ["cat", "dog"], "vehicle": ["car"]}}`: a list holds the words that are looked for
//!   in a caption, an object the words that mean a value;
//! - the rows themselves, in any table or shard: `"attributes": {"category": "animal"}`. What a caption says is then what the rows with this very
//!   caption declare, or else the value whose name occurs in it;
//! - Meadow's, where `trimodal meadow` wrote the folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;

use super::folder::Dataset;
use super::meadow::words::ATTRIBUTE;
use super::row::TableRow;
use trimodal_base::read::contents;
use trimodal_base::{Error, Result};

/// A longer file does not hold words.
const FILE_LIMIT: u64 = 16 << 20;

/// Names that tables and JSON of an evaluation, and the settings that choose an attribute, use themselves.
const TAKEN: [&str; 12] =
    ["samples", "exact", "caption", "captions", "loss", "perplexity", "tokens", "accuracy", "token_accuracy", "chance", "most_frequent_answer", "ablations"];

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// What it can be.
    pub values: Vec<String>,
    /// What rows call it, where they declare it.
    column: Option<String>,
    /// Words that mean a value, by its number.
    words: Vec<(String, usize)>,
}

impl Attribute {
    fn new(name: &str, values: Vec<(String, Vec<String>)>) -> Self {
        let name = if TAKEN.contains(&name) { format!("attribute {name}") } else { name.to_string() };
        let words = values.iter().enumerate().flat_map(|(i, (_, words))| words.iter().map(move |word| (format!(" {} ", plain(word)), i))).collect();
        Attribute { name, values: values.into_iter().map(|(value, _)| value).collect(), column: None, words }
    }

    /// The words that mean one of its values.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|(word, _)| word.trim())
    }

    /// The value whose words occur first in a caption, which is [`plain`] between two spaces.
    fn find(&self, caption: &str) -> Option<usize> {
        self.words
            .iter()
            .filter(|(word, _)| word.len() > 2)
            .filter_map(|(word, value)| caption.find(word.as_str()).map(|at| (at, *value)))
            .min()
            .map(|(_, v)| v)
    }
}

/// The attributes of a data set; none where it declares none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    list: Vec<Attribute>,
    /// What rows with this caption declare, attribute by attribute; `None` where none does, or they differ.
    captions: HashMap<String, Vec<Option<usize>>>,
}

impl Attributes {
    /// Those of the generated data set.
    pub fn meadow() -> Self {
        let own = |words: &[&str]| words.iter().map(|word| (word.to_string(), vec![word.to_string()])).collect();
        Attributes { list: ATTRIBUTE.iter().map(|(name, words)| Attribute::new(name, own(words))).collect(), captions: HashMap::new() }
    }

    /// Those that a file declares.
    ///
    /// # Errors
    /// A file that is missing or not of this form, with what was expected.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |what: String| Error::file(path, what);
        let json: Value = serde_json::from_slice(&contents(path, FILE_LIMIT)?)
            .map_err(|e| Error::file_at(path, format!("line {}, column {}", e.line(), e.column()), format!("not JSON: {e}")))?;
        Self::from_json(&json)
            .map_err(|what| bad(format!("{what}; expected {{\"species\": [\"cat\", \"dog\"]}} or {{\"kind\": {{\"animal\": [\"cat\", \"dog\"]}}}}")))
    }

    fn from_json(json: &Value) -> std::result::Result<Self, String> {
        let Value::Object(all) = json else { return Err("found no object with a list of words for each attribute".into()) };
        let texts = |of: &str, list: &[Value]| {
            let each = list.iter().map(|word| word.as_str().filter(|word| !plain(word).is_empty()).map(str::to_string));
            each.collect::<Option<Vec<String>>>().ok_or_else(|| format!("{of:?}: found something else than words"))
        };
        let mut list = Vec::new();
        for (name, values) in all {
            let values = match values {
                Value::Array(words) => texts(name, words)?.into_iter().map(|word| (word.clone(), vec![word])).collect::<Vec<_>>(),
                Value::Object(values) => {
                    let each = values.iter().map(|(value, words)| match words {
                        Value::Array(words) => Ok((value.clone(), texts(value, words)?)),
                        _ => Err(format!("{name:?}, {value:?}: found no list of words")),
                    });
                    each.collect::<std::result::Result<_, _>>()?
                }
                _ => return Err(format!("{name:?}: found neither a list of words nor an object")),
            };
            if values.is_empty() {
                return Err(format!("{name:?}: found no words"));
            }
            list.push(Attribute::new(name, values));
        }
        if list.is_empty() { Err("found no attribute".into()) } else { Ok(Attributes { list, captions: HashMap::new() }) }
    }

    /// Those that rows declare.
    pub fn of_rows(rows: &[TableRow]) -> Self {
        let mut values: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for (name, value) in rows.iter().flat_map(|row| &row.attributes) {
            values.entry(name).or_default().insert(value, 0);
        }
        values.values_mut().for_each(|of| of.values_mut().enumerate().for_each(|(i, place)| *place = i));
        let own = |of: &BTreeMap<&str, usize>| of.keys().map(|value| (value.to_string(), vec![value.to_string()])).collect();
        let list: Vec<Attribute> = values.iter().map(|(name, of)| Attribute { column: Some(name.to_string()), ..Attribute::new(name, own(of)) }).collect();
        let mut captions: HashMap<String, Vec<Option<usize>>> = HashMap::new();
        for row in rows.iter().filter(|_| !list.is_empty()) {
            let Some(text) = &row.text else { continue };
            let declared: Vec<Option<usize>> = values.iter().map(|(name, of)| row.attributes.get(*name).map(|value| of[value.as_str()])).collect();
            match captions.entry(plain(text)) {
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(declared);
                }
                // One caption, two values: the caption does not say which.
                std::collections::hash_map::Entry::Occupied(mut said) => {
                    said.get_mut().iter_mut().zip(declared).filter(|(before, now)| *before != now).for_each(|(before, _)| *before = None);
                }
            }
        }
        Attributes { list, captions }
    }

    /// Each of them, in order.
    pub fn list(&self) -> &[Attribute] {
        &self.list
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What a caption says about each of them: a number of [`Attribute::values`], or nothing.
    pub fn of(&self, caption: &str) -> Vec<Option<usize>> {
        let caption = plain(caption);
        if let Some(declared) = self.captions.get(&caption) {
            return declared.clone();
        }
        let caption = format!(" {caption} ");
        self.list.iter().map(|attribute| attribute.find(&caption)).collect()
    }

    /// What a row says about one of them, by its place in [`Attributes::list`]: what it declares itself, or else what its caption says.
    pub fn of_row(&self, attribute: usize, row: &TableRow) -> Option<usize> {
        let Attribute { column, values, .. } = self.list.get(attribute)?;
        // What rows declare is sorted.
        let declared = column.as_ref().and_then(|column| row.attributes.get(column)).and_then(|value| values.binary_search(value).ok());
        declared.or_else(|| self.of(row.text.as_deref()?)[attribute])
    }
}

impl Dataset {
    /// The attributes of this data set: those of a file where one is given, else those that its rows declare, else Meadow's where
    /// `trimodal meadow` wrote it.
    ///
    /// # Errors
    /// As [`Attributes::read`].
    pub fn attributes(&self, file: Option<&Path>) -> Result<Attributes> {
        if let Some(path) = file {
            return Attributes::read(path);
        }
        let declared = Attributes::of_rows(self.rows());
        if !declared.is_empty() || !self.is_meadow() {
            return Ok(declared);
        }
        Ok(Attributes::meadow())
    }
}

/// Small letters, one space between words, no marks around them: "A  cat." and "a cat" say the same.
fn plain(text: &str) -> String {
    let word = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    text.split_whitespace().map(word).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::meadow::words;
    use super::*;

    fn row(text: &str, attributes: &[(&str, &str)]) -> TableRow {
        let json =
            serde_json::json!({ "text": text, "attributes": attributes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>() });
        serde_json::from_value::<super::super::row::Columns>(json).unwrap().row("", 0, 1).unwrap()
    }

    #[test]
    fn meadow_s_are_read_as_meadow_writes_them() {
        let meadow = Attributes::meadow();
        for caption in ["a fluffy orange cat laying on its back in the sun yawning", "something purring", "catfish orangery", "a cat and a dog"] {
            assert_eq!(meadow.of(caption), words::parse(caption), "{caption}");
        }
    }

    #[test]
    fn rows_declare_what_their_captions_mean() {
        let rows = [
            row("a dog barks", &[("category", "animal"), ("fold", "1")]),
            row("A dog barks.", &[("category", "animal"), ("fold", "2")]),
            row("a siren", &[("category", "city"), ("fold", "1")]),
            row("silence", &[]),
        ];
        let all = Attributes::of_rows(&rows);
        assert_eq!(
            all.list().iter().map(|a| (a.name.as_str(), a.values.clone())).collect::<Vec<_>>(),
            [("category", vec!["animal".to_string(), "city".into()]), ("fold", vec!["1".into(), "2".into()])]
        );
        // The caption says what it is, and not which fold it is in.
        assert_eq!(all.of("a dog barks"), [Some(0), None]);
        assert_eq!(all.of("a siren"), [Some(1), Some(0)]);
        assert_eq!(all.of("silence"), [None, None]);
        // A row knows more than its caption.
        assert_eq!((all.of_row(1, &rows[1]), all.of_row(0, &rows[1]), all.of_row(0, &rows[3]), all.of_row(2, &rows[0])), (Some(1), Some(0), None, None));
        // What no row says: by the value's own name.
        assert_eq!(all.of("the noise of a city"), [Some(1), None]);
        assert_eq!(all.of("a cat"), [None, None]);
        assert!(Attributes::of_rows(&rows[3..]).is_empty());
        // A column of the data set's own that happens to be called so.
        let other: super::super::row::Columns = serde_json::from_str(r#"{"text": "x", "attributes": [0, 1]}"#).unwrap();
        assert!(other.row("", 0, 1).unwrap().attributes.is_empty());
    }

    #[test]
    fn a_file_names_words_and_what_they_mean() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attributes.json");
        std::fs::write(&path, r#"{"kind": {"animal": ["cat", "polar bear"], "vehicle": ["car"]}, "loss": ["lost"]}"#).unwrap();
        let all = Attributes::read(&path).unwrap();
        assert_eq!(all.list().iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["kind", "attribute loss"]);
        assert_eq!(all.of("A polar bear, lost"), [Some(0), Some(0)]);
        assert_eq!(all.of("a car with a cat"), [Some(1), None]);
        for (text, expected) in
            [("[1]", "no object"), ("{}", "no attribute"), (r#"{"a": [1]}"#, "else than words"), (r#"{"a": []}"#, "no words"), ("{", "line 1")]
        {
            std::fs::write(&path, text).unwrap();
            let error = Attributes::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("attributes.json"), "{text}: {error}");
        }
    }
}
