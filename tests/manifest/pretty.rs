//! JSON as people and diffs read it: what fits stands on one line.

use serde_json::Value;

const WIDTH: usize = 220;

/// What stands first in an object; the rest follows by the alphabet.
const FIRST: [&str; 27] = [
    "$schema",
    "format",
    "trimodal",
    "file",
    "op",
    "name",
    "language",
    "version",
    "sha256",
    "compiled",
    "includes",
    "formula",
    "backward",
    "limits",
    "checks",
    "precision",
    "requires",
    "names",
    "what",
    "about",
    "passed",
    "bytes",
    "shape",
    "dtype",
    "access",
    "type",
    "dims",
];
/// And what stands last.
const LAST: [&str; 3] = ["files", "buffers", "entries"];

/// The text of a value, with a newline at its end.
pub fn print(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, 0, &mut text);
    text.push('\n');
    text
}

fn write(value: &Value, depth: usize, before: usize, text: &mut String) {
    let line = one_line(value);
    let items: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().map(|v| (String::new(), v)).collect(),
        Value::Object(items) => ordered(items).map(|(k, v)| (format!("{}: ", Value::from(k.as_str())), v)).collect(),
        _ => Vec::new(),
    };
    if items.is_empty() || (depth > 1 && before + line.chars().count() <= WIDTH) {
        *text += &line;
        return;
    }
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    text.push(open);
    for (i, (key, value)) in items.iter().enumerate() {
        *text += &format!("{}\n{}{key}", if i > 0 { "," } else { "" }, " ".repeat(depth + 1));
        write(value, depth + 1, depth + 1 + key.chars().count(), text);
    }
    *text += &format!("\n{}{close}", " ".repeat(depth));
}

fn ordered(items: &serde_json::Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let place = |key: &str| match LAST.iter().position(|k| *k == key) {
        Some(at) => FIRST.len() + 1 + at,
        None => FIRST.iter().position(|k| *k == key).unwrap_or(FIRST.len()),
    };
    let mut items: Vec<_> = items.iter().collect();
    items.sort_by_key(|(key, _)| place(key));
    items.into_iter()
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        Value::Object(items) => {
            format!("{{{}}}", ordered(items).map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), one_line(v))).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
