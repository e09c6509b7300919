//! What several tests need.

#![allow(dead_code)] // no test needs all of it

use std::path::{Path, PathBuf};

use trimodal_data::Result;

/// The error's sentence has to contain all of `words`, and is one sentence.
#[track_caller]
pub fn says<T>(result: Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("expected an error about {words:?}") };
    let sentence = error.to_string();
    for word in words {
        assert!(sentence.contains(word), "expected {word:?} in: {sentence}");
    }
    assert!(!sentence.contains('\n') && sentence.len() < 1_500, "one sentence: {sentence}");
}

/// A picture or sound that another program wrote (scripts/golden_media.py).
pub fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media").join(name)
}
