//! What a person should know although the work goes on.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Writes `warning: …` to standard error, each sentence once in a process: a file that is read several times warns once. Control
/// characters are shown, not obeyed: the sentence may quote a file.
pub fn warn_once(what: impl Into<String>) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let what = what.into();
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(what.clone()) {
        eprintln!("warning: {}", shown(&what));
    }
}

/// Control characters as Rust writes them.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_shown() {
        assert_eq!(super::shown("a\u{1b}]0;é\n"), "a\\u{1b}]0;é\\n");
    }
}
