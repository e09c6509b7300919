//! `trimodal check`: every case of every operation against the float64 oracle.

use super::progress::{counter, progress};
use super::terminal::{self, Paint, document, line, note, painted};
use super::{DeviceArguments, PrecisionArguments};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use trimodal::check::{self, CheckReport, Depth, Effort};
use trimodal::files::shown::shown_path;
use trimodal::files::write_file_atomic;
use trimodal::learn::Exercise;
use trimodal::numbers::thousands;
use trimodal::report::Answer;
use trimodal::train::recipe::Precision;
use trimodal::{Device, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal check                              every kernel on the device that `auto` takes
  trimodal check --device wgpu --op matmul    one operation's WGSL kernels
  trimodal check --device cpu --json cpu.json
  trimodal check --device emulator            the CUDA kernels (as PTX), without a GPU, with memory checks
  trimodal check --device cuda --training 100 --precision bf16
  trimodal check --shader mine.wgsl           your version of one of our shaders, in its place (see `trimodal learn`)
  trimodal check --shader mine.wgsl --svg wrong.svg    a picture of what is wrong

A case is one call of one kernel on one set of shapes. Every element of its result is compared with the same formula \
in float64 by plain loops; `worst` is the largest error in units of what is allowed (twice the error of plain float32 \
loops plus one unit in the last place; `inf`: a NaN, or a difference where no bit may differ). Results are poisoned with NaN first, and a pattern after the end of every tensor shows \
reads and writes past its end. Backward passes are compared with central differences as well (`gradient`), and one case \
of every kernel runs 100 times (on the emulator 3) and must give the same bits. Kernels that have a bf16 variant \
(mixed precision: cuda, emulator) run every case in both.

With --shader only cases that launch one of the file's kernels run, the small ones first: a few of what an exercise is about, until one \
fails, and one of each other entry. --all runs every one.

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
    /// With --shader: run every case of the file, and do not stop at the first that fails
    #[arg(long, requires = "shader", conflicts_with = "quick")]
    all: bool,
    /// With --shader: where the result is wrong, draw it (expected, found, difference) as SVG to this file
    #[arg(long, value_name = "FILE", requires = "shader")]
    svg: Option<PathBuf>,
    /// Also write the result as JSON to this file (`-`: to standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run every seventh case only, with fewer repeats: a first look in seconds (--shader without --all does less still)
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
        self.svg.is_some() || self.json.as_ref().is_some_and(|path| path.as_os_str() != "-")
    }

    pub fn run(self) -> Result<ExitCode> {
        if let Some(path) = &self.shader {
            return self.replaced(path);
        }
        let (device, op) = (self.device.open()?, self.op.clone());
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

        let json_only = self.write_json(&report)?;
        if !json_only {
            print(&report, start.elapsed());
        }
        let passed = report.cases.failed == 0 && report.cases.executed > 0;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Writes JSON where it was asked for; whether that was standard output.
    fn write_json(&self, report: &impl serde::Serialize) -> Result<bool> {
        let Some(path) = &self.json else { return Ok(false) };
        let text = serde_json::to_string_pretty(report).expect("strings and numbers") + "\n";
        if path == Path::new("-") {
            document(&text);
            return Ok(true);
        }
        write_file_atomic(path, text)?;
        Ok(false)
    }

    /// Checks a shader of the user's.
    fn replaced(&self, path: &Path) -> Result<ExitCode> {
        let (device, stem, source) = self.device.open_with_shader(path)?;
        let exercise = Exercise::of(stem, &source);
        let depth = if self.all || self.large { Depth::All { large: self.large } } else { Depth::Few };
        let start = Instant::now();
        let bar = counter("checking");
        let found = check::run_replaced(&device, stem, exercise.map_or(&[], |exercise| exercise.entries), depth, |case| {
            bar.inc(1);
            bar.set_message(case.to_string());
        });
        bar.finish_and_clear();
        let found = found?;
        let answer = Answer { stem, exercise, source: &source, found: &found };

        let mut json = serde_json::to_value(&found.report).expect("strings and numbers");
        json["shader"] = stem.into();
        json["exercise"] = exercise.map_or(
            serde_json::Value::Null,
            |exercise| serde_json::json!({ "id": exercise.id, "chapter": exercise.chapter, "solved": answer.is_right(), "as_given": answer.is_as_given() }),
        );
        json["first_failure"] = found
            .first
            .as_ref()
            .map_or(serde_json::Value::Null, |first| serde_json::json!({ "entry": first.entry, "case": first.label, "failure": first.failure.to_string() }));
        if !self.write_json(&json)? {
            let paint = Paint::stdout();
            let mut lines = answer.lines(terminal::width()).into_iter();
            let verdict = lines.next().unwrap_or_default();
            painted(if answer.is_right() { paint.good(&verdict) } else { paint.bad(&verdict) });
            lines.for_each(line);
            line(format!("{device}, {:.1} s", start.elapsed().as_secs_f64()));
        }
        if let Some(to) = &self.svg {
            match found.first.as_ref().and_then(|first| report::wrong::picture(first).transpose()).transpose()? {
                Some(svg) => {
                    write_file_atomic(to, svg)?;
                    note(format!("What is wrong, as a picture: {}", shown_path(to)));
                }
                None => note(format!("There is no wrong result to draw: {} was not written", shown_path(to))),
            }
        }
        Ok(if answer.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

/// Failures of an entry that are printed; the others are counted.
const FAILURES: usize = 3;

/// An error in units of what is allowed, for a column.
fn worst(error: f64) -> String {
    if error >= 1e4 && error.is_finite() { format!("{error:.1e}") } else { format!("{error:.3}") }
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
                worst(row.worst),
                format!("{:.2} s", row.seconds),
            ]
        })
        .collect();
    line(report::table(&["op", "entry", "dtype", "cases", "failed", "worst", "time"], &rows).trim_end());
    for row in &report.ops {
        for failure in row.failures.iter().take(FAILURES) {
            painted(format!("{} {} {} {}: {failure}", paint.bad("FAILED"), row.op, row.entry, row.dtype));
        }
        if row.failures.len() > FAILURES {
            let more = thousands(row.failures.len() - FAILURES);
            painted(format!("{} {} {} {}: and {more} more; --json FILE has them all", paint.bad("FAILED"), row.op, row.entry, row.dtype));
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
