//! The part of JSON Schema (draft 2020-12) that `docs/kernels.schema.json` uses: type, properties, required, additionalProperties,
//! items, enum, const, pattern (`^[…]{n}$` alone), anyOf and $ref.

use serde_json::Value;

/// What of a value is not as a schema says, each with the place.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "", &mut found);
    found
}

fn check(whole: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        let target = whole.pointer(target.trim_start_matches('#')).unwrap_or_else(|| panic!("the schema has no {target}"));
        return check(whole, target, value, place, found);
    }
    if let Some(options) = schema["anyOf"].as_array() {
        let fits = options.iter().any(|option| {
            let mut problems = Vec::new();
            check(whole, option, value, place, &mut problems);
            problems.is_empty()
        });
        if !fits {
            found.push(format!("{place}: none of the {} possibilities", options.len()));
        }
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("the schema's type {other} is not known here"),
        None => true,
    };
    if !fits {
        found.push(format!("{place}: expected {}, found {value}", schema["type"]));
        return;
    }
    if schema.get("const").is_some_and(|c| c != value) || schema["enum"].as_array().is_some_and(|e| !e.contains(value)) {
        found.push(format!("{place}: {value} is not what it must be"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !matches(pattern, text)
    {
        found.push(format!("{place}: `{text}` does not match {pattern}"));
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(|n| !object.contains_key(*n)) {
            found.push(format!("{place}: `{name}` is missing"));
        }
        for (name, value) in object {
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => found.push(format!("{place}: `{name}` is not known")),
                (Value::Null, Value::Null | Value::Bool(true)) => {}
                (Value::Null, other) => check(whole, other, value, &format!("{place}/{name}"), found),
                (property, _) => check(whole, property, value, &format!("{place}/{name}"), found),
            }
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        check(whole, &schema["items"], item, &format!("{place}/{i}"), found);
    }
}

/// `^[0-9a-f]{64}$`: so many characters of one class.
fn matches(pattern: &str, text: &str) -> bool {
    let inside = pattern.strip_prefix("^[").and_then(|p| p.strip_suffix("}$")).and_then(|p| p.split_once("]{"));
    let (class, count) = inside.unwrap_or_else(|| panic!("the schema's pattern {pattern} is not known here"));
    let class: Vec<char> = class.chars().collect();
    let ranges = class.chunks(3).map(|c| c[0]..=c[2]).collect::<Vec<_>>();
    text.len() == count.parse::<usize>().unwrap() && text.chars().all(|c| ranges.iter().any(|r| r.contains(&c)))
}
