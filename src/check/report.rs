//! The result of a check: one row per operation and entry.

use super::Outcome;
use super::failure::{Failure, FailureDetail, finite};
use crate::tensor::DType;
use serde::Serialize;
use std::time::Instant;

/// The result of a whole check, as `--json` writes it.
#[derive(Serialize, Debug)]
pub struct CheckReport {
    /// The device.
    pub device: String,
    /// Totals.
    pub cases: Totals,
    /// One row per operation and entry.
    pub ops: Vec<CheckRow>,
}

/// Totals of a [`CheckReport`].
#[derive(Serialize, Debug, Default)]
pub struct Totals {
    /// Cases that ran.
    pub executed: usize,
    /// Cases of these that failed.
    pub failed: usize,
    /// Cases that did not run, each with its reason.
    pub skipped: Vec<Skipped>,
    /// Large shapes that were not asked for.
    pub large_left_out: usize,
    /// Cases that were left out because a few were asked for.
    pub left_out: usize,
}

/// A case that did not run.
#[derive(Serialize, Debug)]
pub struct Skipped {
    /// The case.
    pub case: String,
    /// Why.
    pub reason: String,
}

/// One operation's entry in a [`CheckReport`].
#[derive(Serialize, Debug)]
pub struct CheckRow {
    /// The operation.
    pub op: &'static str,
    /// The entry and its rung; `gradient` for the central differences.
    pub entry: &'static str,
    /// What activations and weights were: `f32`, or `bf16` in mixed precision.
    pub dtype: String,
    /// Cases that ran.
    pub executed: usize,
    /// Cases of these that failed.
    pub failed: usize,
    /// The largest error in units of its allowance, those of failures too; in JSON `null` where that is infinite: a NaN, or a difference
    /// where no bit may differ.
    #[serde(serialize_with = "finite")]
    pub worst: f64,
    /// Time, in seconds.
    pub seconds: f64,
    /// One line per failure.
    pub failures: Vec<String>,
    /// The same failures, for programs.
    pub details: Vec<FailureDetail>,
}

impl CheckReport {
    pub(super) fn new(device: impl ToString) -> Self {
        CheckReport { device: device.to_string(), cases: Totals::default(), ops: Vec::new() }
    }

    pub(super) fn count(
        &mut self,
        op: &'static str,
        entry: &'static str,
        dtype: DType,
        label: &str,
        outcome: &std::result::Result<Outcome, Failure>,
        start: Instant,
    ) {
        let dtype = dtype.to_string();
        let index = self.ops.iter().position(|r| r.op == op && r.entry == entry && r.dtype == dtype).unwrap_or_else(|| {
            self.ops.push(CheckRow { op, entry, dtype, executed: 0, failed: 0, worst: 0.0, seconds: 0.0, failures: Vec::new(), details: Vec::new() });
            self.ops.len() - 1
        });
        let row = &mut self.ops[index];
        row.executed += 1;
        row.seconds += start.elapsed().as_secs_f64();
        self.cases.executed += 1;
        match outcome {
            Ok(outcome) => row.worst = row.worst.max(outcome.worst),
            Err(failure) => {
                row.failed += 1;
                self.cases.failed += 1;
                row.worst = row.worst.max(failure.worst().unwrap_or(0.0));
                row.failures.push(format!("{label}: {failure}"));
                row.details.push(FailureDetail::new(label, failure));
            }
        }
    }
}
