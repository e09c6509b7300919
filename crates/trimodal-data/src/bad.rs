//! Rows that cannot be decoded or used: how many, and the first of them in words.

use trimodal_base::Error;

/// BadSamples samples whose messages are kept.
pub const LISTED: usize = 10;

/// The bad samples met so far, each row counted once. Those that the data set left out when it was opened come first.
#[derive(serde::Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct BadSamples {
    /// How many.
    pub count: u64,
    /// The first ten: where, and what is wrong.
    pub first: Vec<String>,
}

impl BadSamples {
    /// Counts others' too.
    pub(crate) fn take(&mut self, others: BadSamples) {
        self.count += others.count;
        let left = LISTED.saturating_sub(self.first.len());
        self.first.extend(others.first.into_iter().take(left));
    }

    /// Counts a bad row; the first ten are kept.
    pub fn add(&mut self, error: Error) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(error.to_string());
        }
    }
}
