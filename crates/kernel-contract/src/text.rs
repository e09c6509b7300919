//! How a header's text comes apart, and which variants its words name.

/// The text between separators, except those in brackets.
pub(crate) fn pieces(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ if c == separator && depth == 0 => {
                found.push(text[start..at].trim());
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found
}

/// Whether a variant's suffix is one that a word names: `bf16`, `f32` (no `bf16`), `d64`, `_nn`, `_bf16_bf16`.
pub fn selects(word: &str, suffix: &str) -> bool {
    match word {
        "f32" => !suffix.contains("_bf16"),
        "_bf16_bf16" => suffix.ends_with(word),
        _ => suffix.split('_').any(|part| part == word.trim_start_matches('_')),
    }
}
