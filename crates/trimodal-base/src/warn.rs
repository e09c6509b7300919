//! What a person should know although the work goes on.

use crate::shown::warn;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// [`warn`], each sentence once in a process: a file that is read several times warns once.
pub fn warn_once(what: impl Into<String>) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let what = what.into();
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(what.clone()) {
        warn(what);
    }
}
