//! `trimodal check`: every case of every operation against the float64 oracle.

use super::progress::{counter, progress};
use super::terminal::{Paint, document, line, painted};
use super::{DeviceArguments, PrecisionArguments};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use trimodal::check::{self, CheckReport, Effort};
use trimodal::files::write_file_atomic;
use trimodal::numbers::thousands;
use trimodal::train::recipe::Precision;
use trimodal::{Device, Result, ops, report};

const EXAMPLES: &str = "\
Examples:
  trimodal check                              every kernel on the device that `auto` takes
  trimodal check --device wgpu --op matmul    one operation's WGSL kernels
  trimodal check --device cpu --json cpu.json
  trimodal check --device emulator            the CUDA kernels (as PTX), without a GPU, with memory checks
  trimodal check --device cuda --training 100 --precision bf16
  trimodal check --shader mine.wgsl           your version of one of our shaders, in its place (see `trimodal learn`)

A case is one call of one kernel on one set of shapes. Every element of its result is compared with the same formula \
in float64 by plain loops; `worst` is the largest error in units of what is allowed (twice the error of plain float32 \
loops plus one unit in the last place). Results are poisoned with NaN first, and a pattern after the end of every tensor shows \
reads and writes past its end. Backward passes are compared with central differences as well (`gradient`), and one case \
of every kernel runs 100 times (on the emulator 3) and must give the same bits. Kernels that have a bf16 variant \
(mixed precision: cuda, emulator) run every case in both.

Exit code 0: every executed case passed. 1: one failed, or none ran.";

/// Compare every kernel with the float64 oracle, and every gradient with central differences
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    #[command(flatten)]
    device: DeviceArguments,
    /// Only this operation
    #[arg(long, value_name = "X")]
    op: Option<String>,
    /// Check this WGSL file instead of our shader with the same entry points; only its operation runs, on wgpu
    #[arg(long, value_name = "FILE", conflicts_with_all = ["op", "training"])]
    shader: Option<PathBuf>,
    /// Also write the result as JSON to this file (`-`: to standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run every seventh case only, with fewer repeats: a first look in seconds
    #[arg(long)]
    quick: bool,
    /// Also run the large shapes, which take too long on anything but a real GPU
    #[arg(long)]
    large: bool,
    /// Instead of the operations: train 20 steps N times from the same start, and compare every bit
    #[arg(long, value_name = "N", conflicts_with_all = ["op", "json", "quick", "large"])]
    training: Option<usize>,
    #[command(flatten)]
    precision: PrecisionArguments,
}

/// Steps of each run of `--training`.
const TRAINING_STEPS: usize = 20;

impl Check {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.json.as_ref().is_some_and(|path| path.as_os_str() != "-")
    }

    pub fn run(self) -> Result<ExitCode> {
        let (device, op) = match &self.shader {
            None => (self.device.open()?, self.op.clone()),
            Some(path) => {
                let (device, stem) = self.device.open_with_shader(path)?;
                (device, Some(ops::of_file(stem).map_or(stem, |op| op.name).to_string()))
            }
        };
        if let Some(times) = self.training {
            return repeat_training(&device, self.precision.get(), times);
        }
        let effort = if self.quick { Effort::quick() } else { Effort { large: self.large, ..Effort::whole(&device) } };
        let start = Instant::now();
        let bar = counter("checking");
        let result = check::run_with(&device, op.as_deref(), effort, |case| {
            bar.inc(1);
            bar.set_message(case.to_string());
        });
        bar.finish_and_clear();
        let report = result?;

        let json_only = self.json.as_deref() == Some(Path::new("-"));
        if let Some(path) = &self.json {
            let json = serde_json::to_string_pretty(&report).expect("strings and numbers") + "\n";
            if json_only {
                document(&json);
            } else {
                write_file_atomic(path, json)?;
            }
        }
        if !json_only {
            print(&report, start.elapsed());
        }
        let passed = report.cases.failed == 0 && report.cases.executed > 0;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Trains `times` times over; every run must end with the same bits.
fn repeat_training(device: &Device, precision: Precision, times: usize) -> Result<ExitCode> {
    let bar = progress("training");
    bar.set_length(times as u64);
    let outcome = check::repeat_training(device, precision, TRAINING_STEPS, times, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let paint = Paint::stdout();
    Ok(match outcome? {
        Ok(()) => {
            painted(format!("{times} runs of {TRAINING_STEPS} training steps on {device}: {}", paint.good("the same bits")));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            painted(format!("{} {failure}", paint.bad("FAILED")));
            ExitCode::FAILURE
        }
    })
}

fn print(report: &CheckReport, time: Duration) {
    let paint = Paint::stdout();
    let rows: Vec<Vec<String>> = report
        .ops
        .iter()
        .map(|row| {
            vec![
                row.op.to_string(),
                row.entry.to_string(),
                row.dtype.clone(),
                thousands(row.executed),
                thousands(row.failed),
                format!("{:.3}", row.worst),
                format!("{:.2} s", row.seconds),
            ]
        })
        .collect();
    line(report::table(&["op", "entry", "dtype", "cases", "failed", "worst", "time"], &rows).trim_end());
    for row in &report.ops {
        for failure in &row.failures {
            painted(format!("{} {} {} {}: {failure}", paint.bad("FAILED"), row.op, row.entry, row.dtype));
        }
    }
    // Each by name in the JSON; here by reason.
    let mut reasons: Vec<(&str, &str, usize)> = Vec::new();
    for skipped in &report.cases.skipped {
        match reasons.iter_mut().find(|(reason, _, _)| *reason == skipped.reason) {
            Some((_, _, count)) => *count += 1,
            None => reasons.push((&skipped.reason, &skipped.case, 1)),
        }
    }
    for (reason, first, count) in reasons {
        let cases = if count == 1 { first.to_string() } else { format!("{first} and {} more", thousands(count - 1)) };
        painted(format!("{} {cases}: {reason}", paint.strong("skipped")));
    }
    if report.cases.large_left_out > 0 {
        line(format!("{} large shapes left out: --large runs them, best on a real GPU", thousands(report.cases.large_left_out)));
    }
    line("");
    let failed = format!("{} failed", thousands(report.cases.failed));
    painted(format!(
        "{} cases executed on {}, {}, {} skipped, in {:.1} s",
        thousands(report.cases.executed),
        report.device,
        if report.cases.failed == 0 { paint.good(&failed) } else { paint.bad(&failed) },
        thousands(report.cases.skipped.len()),
        time.as_secs_f64()
    ));
}
