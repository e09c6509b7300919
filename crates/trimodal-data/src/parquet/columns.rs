//! Which column of a Parquet file is what: by its name, or as the user says.

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor, Type};

use crate::columns::{ColumnChoice, Part};
use crate::content::Content;

/// One column of values: a leaf of the file's tree of columns.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// Its number among the leaves.
    pub index: usize,
    pub descr: ColumnDescPtr,
}

impl Leaf {
    fn new(schema: &SchemaDescriptor, index: usize) -> Self {
        Leaf { index, descr: schema.column(index) }
    }

    /// Whether a row has any number of values of it, rather than one.
    pub fn is_list(&self) -> bool {
        self.descr.max_rep_level() > 0
    }

    fn is_text(&self) -> bool {
        matches!(self.descr.logical_type_ref(), Some(LogicalType::String)) || self.descr.converted_type() == ConvertedType::UTF8
    }
}

/// A column of pictures or sounds.
#[derive(Clone, Debug)]
pub(super) struct MediaColumn {
    /// Its name in the file.
    pub name: String,
    pub content: Content,
    /// The contents of files.
    pub bytes: Option<Leaf>,
    /// Names of files, read where there are no contents.
    pub path: Option<Leaf>,
}

impl MediaColumn {
    /// The leaf that tells, at the least cost, how many elements a row has.
    pub fn lengths(&self) -> Option<&Leaf> {
        self.path.as_ref().or(self.bytes.as_ref())
    }

    pub fn is_list(&self) -> bool {
        self.lengths().is_some_and(Leaf::is_list)
    }
}

/// A column of words, or of numbers that stand for words.
#[derive(Clone, Debug)]
pub(super) struct TextColumn {
    pub name: String,
    pub leaf: Leaf,
    /// What the numbers 0, 1, … mean (`ClassLabel` of Hugging Face's `datasets`); numbers without names are written in digits.
    pub names: Vec<String>,
}

/// The columns of a file that are read.
#[derive(Clone, Debug, Default)]
pub(super) struct FileColumns {
    pub media: Vec<MediaColumn>,
    pub text: Option<TextColumn>,
    pub prompt: Option<TextColumn>,
    pub split: Option<TextColumn>,
    /// What rows declare about themselves: the members of a column `attributes`, by name, or one without a name that holds JSON.
    pub attributes: Vec<(String, TextColumn)>,
    /// The names of those that are not.
    pub unused: Vec<String>,
}

impl FileColumns {
    /// Finds the columns in a file's schema.
    ///
    /// # Errors
    /// A chosen column that is not there; one of another kind than a picture, sound or text can be; a file with none of them.
    pub fn find(metadata: &ParquetMetaData, choice: &ColumnChoice) -> Result<Self, String> {
        let schema = metadata.file_metadata().schema_descr();
        let root = schema.root_schema();
        let name_of = |part: Part| match choice.get(part) {
            // By its name, where there is a column of that name.
            None => root.get_fields().iter().any(|field| field.name() == part.name()).then(|| part.name().to_string()),
            Some(name) => Some(name.to_string()).filter(|name| !name.is_empty()),
        };
        let mut found = FileColumns::default();
        for (part, content) in [(Part::Image, Content::Picture), (Part::Audio, Content::Sound)] {
            if let Some(name) = name_of(part) {
                found.media.push(media(schema, &name, content).map_err(|what| with_hint(what, part, &name, root))?);
            }
        }
        let class_names = class_names(metadata);
        for (part, place) in [(Part::Text, &mut found.text), (Part::Prompt, &mut found.prompt), (Part::Split, &mut found.split)] {
            if let Some(name) = name_of(part) {
                *place = Some(text(schema, &name, &class_names).map_err(|what| with_hint(what, part, &name, root))?);
            }
        }
        found.attributes = attributes(schema, &class_names[ATTRIBUTES]);
        if found.media.is_empty() && found.text.is_none() {
            return Err(format!("no column is named image, audio or text; say which is which with --columns image=…,text=…; found {}", listed(root)));
        }
        let used: Vec<&str> = [Part::Image, Part::Audio, Part::Text, Part::Prompt, Part::Split]
            .into_iter()
            .filter_map(|part| choice.get(part).or(Some(part.name())))
            .map(|name| name.split('.').next().unwrap_or(name))
            .chain((!found.attributes.is_empty()).then_some(ATTRIBUTES))
            .collect();
        found.unused = root.get_fields().iter().map(|field| field.name().to_string()).filter(|name| !used.contains(&name.as_str())).collect();
        Ok(found)
    }
}

/// The column in which rows declare what they show.
const ATTRIBUTES: &str = "attributes";

/// The texts and numbers of a column `attributes`; another kind of column of that name is the data set's own.
fn attributes(schema: &SchemaDescriptor, class_names: &serde_json::Value) -> Vec<(String, TextColumn)> {
    let found = leaves(schema, ATTRIBUTES).into_iter().filter(|leaf| !leaf.is_list());
    let member = |leaf: Leaf| match leaf.descr.path().parts() {
        [_] => leaf.is_text().then(|| (String::new(), TextColumn { name: ATTRIBUTES.into(), leaf: leaf.clone(), names: Vec::new() })),
        [_, name] => {
            let path = format!("{ATTRIBUTES}.{name}");
            let described = serde_json::json!({ path.as_str(): class_names[name.as_str()] });
            text(schema, &path, &described).ok().map(|column| (name.clone(), column))
        }
        _ => None,
    };
    found.filter_map(member).collect()
}

fn with_hint(what: String, part: Part, name: &str, root: &Type) -> String {
    format!(
        "column `{name}` as {part}: {what}; say which is which with --columns {part}=…, or nothing after the = for none; found {}",
        listed(root),
        part = part.name()
    )
}

/// `image (bytes, path), label (int64), text (text)`, shortened.
fn listed(root: &Type) -> String {
    const MOST: usize = 20;
    let fields = root.get_fields();
    let mut names: Vec<String> = fields.iter().take(MOST).map(|field| format!("{} ({})", field.name(), kind(field))).collect();
    if fields.len() > MOST {
        names.push(format!("… {} in all", fields.len()));
    }
    if names.is_empty() { "no columns".into() } else { names.join(", ") }
}

/// What a column holds, in a word or two.
fn kind(field: &Type) -> String {
    let info = field.get_basic_info();
    if field.is_group() {
        return match info.converted_type() {
            ConvertedType::LIST => "a list".into(),
            _ => field.get_fields().iter().map(|member| member.name()).take(4).collect::<Vec<_>>().join(", "),
        };
    }
    match (field.get_physical_type(), info.converted_type()) {
        (Physical::BYTE_ARRAY, ConvertedType::UTF8) => "text".into(),
        (Physical::BYTE_ARRAY, _) if matches!(info.logical_type_ref(), Some(LogicalType::String)) => "text".into(),
        (Physical::BYTE_ARRAY, _) => "bytes".into(),
        (physical, _) => physical.to_string().to_lowercase(),
    }
}

/// The leaves below a column, which may be named by a path with dots.
fn leaves(schema: &SchemaDescriptor, name: &str) -> Vec<Leaf> {
    let below = |parts: &[String]| {
        // A name may have dots in it: the whole first, then piece by piece.
        parts[0] == name
            || name
                .split('.')
                .map(Some)
                .chain([None])
                .zip(parts.iter().map(Some).chain(std::iter::repeat(None)))
                .all(|(wanted, part)| wanted.is_none() || part.is_some_and(|part| Some(part.as_str()) == wanted))
    };
    (0..schema.num_columns()).filter(|&i| below(schema.column(i).path().parts())).map(|i| Leaf::new(schema, i)).collect()
}

fn media(schema: &SchemaDescriptor, name: &str, content: Content) -> Result<MediaColumn, String> {
    let leaves = leaves(schema, name);
    if leaves.is_empty() {
        return Err("there is no such column".into());
    }
    if leaves.iter().any(|leaf| leaf.descr.max_rep_level() > 1) {
        return Err("it holds lists of lists".into());
    }
    let of_bytes = |leaf: &&Leaf| leaf.descr.physical_type() == Physical::BYTE_ARRAY;
    let member = |name: &str| leaves.iter().filter(of_bytes).find(|leaf| leaf.descr.name() == name).cloned();
    let column = |bytes, path| MediaColumn { name: name.to_string(), content, bytes, path };
    match &leaves[..] {
        // Contents or paths without a structure around them.
        [leaf] if of_bytes(&leaf) => Ok(if leaf.is_text() { column(None, Some(leaf.clone())) } else { column(Some(leaf.clone()), None) }),
        _ => match (member("bytes"), member("path")) {
            (None, None) => Err("it has neither `bytes` nor `path`".into()),
            (bytes, path) => Ok(column(bytes, path)),
        },
    }
}

fn text(schema: &SchemaDescriptor, name: &str, class_names: &serde_json::Value) -> Result<TextColumn, String> {
    let leaves = leaves(schema, name);
    let [leaf] = &leaves[..] else {
        return Err(if leaves.is_empty() { "there is no such column".into() } else { format!("it has {} parts, and no text of its own", leaves.len()) });
    };
    if leaf.descr.max_rep_level() > 1 {
        return Err("it holds lists of lists".into());
    }
    let strings =
        |value: &serde_json::Value| value.as_array().map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_string)).collect::<Vec<_>>());
    let described = &class_names[name];
    let names = strings(&described["names"]).or_else(|| strings(&described["feature"]["names"])).unwrap_or_default();
    match leaf.descr.physical_type() {
        Physical::BYTE_ARRAY | Physical::INT32 | Physical::INT64 => Ok(TextColumn { name: name.to_string(), leaf: leaf.clone(), names }),
        other => Err(format!("expected text, found {}", other.to_string().to_lowercase())),
    }
}

/// What `datasets` writes beside the data about each column, as far as it can be read.
fn class_names(metadata: &ParquetMetaData) -> serde_json::Value {
    let pairs = metadata.file_metadata().key_value_metadata().map_or(&[][..], |pairs| &pairs[..]);
    let value = pairs.iter().find(|pair| pair.key == "huggingface").and_then(|pair| pair.value.as_deref());
    let described: serde_json::Value = value.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    described["info"]["features"].clone()
}
