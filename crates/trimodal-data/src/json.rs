//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity`, which JSON does not have, are read as `null`.

use serde::de::DeserializeOwned;

/// As `serde_json::from_str`; the error is the one about the text as it stands.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text).or_else(|error| match without_nan(text) {
        Some(text) => serde_json::from_str(&text).map_err(|_| error),
        None => Err(error),
    })
}

/// The text with `null` for every such word outside of strings; `None` where there is none.
fn without_nan(text: &str) -> Option<String> {
    let (mut out, mut from, mut at, mut quoted) = (String::new(), 0, 0, false);
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'N' | b'I' | b'-' if !quoted => {
                if let Some(word) = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| text.as_bytes()[at..].starts_with(word.as_bytes())) {
                    out.push_str(&text[from..at]);
                    out.push_str("null");
                    at += word.len();
                    from = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    (from > 0).then(|| out + &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_python_writes_is_null() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity, 1, -1], "c": "NaN, \" Infinity", "d\\": NaN}"#;
        let expected = json!({"a": null, "b": [null, null, 1, -1], "c": "NaN, \" Infinity", "d\\": null});
        assert_eq!(parse::<Value>(text).unwrap(), expected);
        for text in ["", "{", "nan", "NaNa", "{\"a\": N}", "[NaN NaN]", "\"\\", "[-]"] {
            assert!(parse::<Value>(text).is_err(), "{text}");
        }
    }
}
