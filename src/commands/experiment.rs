//! `trimodal experiment`: many small runs that answer one question, with a control.

use super::signals::stop_flag;
use super::terminal::{document, line, note};
use super::{DeviceArguments, progress};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;
use trimodal::experiment::{Budget, ExperimentProgress, fusion, store, transfer};
use trimodal::files::shown::shown_path;
use trimodal::files::write_file_atomic;
use trimodal::numbers;
use trimodal::{Device, Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal experiment fusion                     all modalities from the first step, or added later?
  trimodal experiment transfer                   does what only text says cross to pictures and sounds?
  trimodal experiment fusion --quick             the same in a minute, to see that it runs; the result means nothing
  trimodal experiment transfer --seeds 5         two more seeds; finished runs are not repeated

Each trains many small models on the generated data set (nothing is downloaded), one after the other. Ctrl-C stops it and keeps \
the finished runs; the same command continues from there. It writes into DIR: runs/*.json, a file for each run as it ends, and at \
the end result.json and result.svg.";

const FUSION: &str = "\
Examples:
  trimodal experiment fusion --out fusion
  trimodal experiment fusion --out fusion --steps 4000 --seeds 5 --json

Four ways to spend one budget of optimiser steps, each of equally many rows:
  native                              pictures, sounds and words from the first step to the last
  added later, decoder frozen         half of the steps on captions alone, then pictures and sounds; only the embedders learn
  added later                         the same, everything learning
  native, no more samples than later  the control: the very batches of `added later`, taking turns from the first step

Native sees twice as many pictures and sounds as the others; the control separates the effect of the order from that of more samples. The table shows what \
each spent, and the share of attributes that it names right in samples like those trained on (iid) and in pairs that were never \
trained: mean ± deviation over the seeds.";

const TRANSFER: &str = "\
Examples:
  trimodal experiment transfer --out transfer
  trimodal experiment transfer --out transfer --seeds 5 --json

Text says of six animals whether each is a pet (\"a cat is a pet\"), and of six actions whether each is loud. Pictures and sounds \
of all are captioned, but \"is it a pet?\" is asked about pictures of four of them only, \"is it loud?\" about sounds of four. \
Then both are asked about the other two. Three ways of teaching and asking:
  asked straight                  facts are sentences; the question follows the picture or sound
  asked after a caption           also text-only questions on all; the question sees the caption and the picture or sound
  asked about its own words only  the same, but the question is cut off from picture and sound and sees the model's caption only

Each is run a second time with the facts about the two reversed, all else the same to the byte. `use of facts` is the mean of the \
shares that are right in the two runs: 50 % for any model that makes no use of the facts, whatever it guesses from.";

/// Compare many small runs: native or late fusion, and whether knowledge crosses from text
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Experiment {
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    /// All modalities from the first step, or pictures and sounds added to a model of text?
    #[command(after_help = FUSION)]
    Fusion(Arguments),
    /// Does what only text says answer questions about pictures and sounds?
    #[command(after_help = TRANSFER)]
    Transfer(Arguments),
}

#[derive(Args)]
struct Arguments {
    /// The folder for runs and results; runs of the same settings in it are not repeated [default: trimodal-fusion or -transfer]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many times each run is done, with other data, parameters and order [default: 3]
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Optimiser steps of each run
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Rows of the token matrix of each step
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// A short version that shows only that it runs: one seed, few steps
    #[arg(long)]
    quick: bool,
    /// Print the result as JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

impl Experiment {
    pub fn run(self) -> Result<ExitCode> {
        match self.which {
            Which::Fusion(arguments) => {
                let (budget, out, seeds, device) = arguments.resolve("trimodal-fusion", fusion::STEPS, fusion::SAMPLES)?;
                let result = watched(&out, |watch| fusion::run(&budget, seeds, &out, &device, watch))?;
                show(&result, result.rows(), result.findings(), &result.svg(), &out, arguments.json)
            }
            Which::Transfer(arguments) => {
                let (budget, out, seeds, device) = arguments.resolve("trimodal-transfer", transfer::STEPS, transfer::SAMPLES)?;
                let result = watched(&out, |watch| transfer::run(&budget, seeds, &out, &device, watch))?;
                show(&result, result.rows(), result.findings(), &result.svg(), &out, arguments.json)
            }
        }
    }
}

impl Arguments {
    fn resolve(&self, folder: &str, steps: usize, samples: usize) -> Result<(Budget, PathBuf, usize, Device)> {
        let device = self.device.open()?;
        let (steps, samples, test_samples, seeds) = if self.quick { (20, 200, 8, 1) } else { (steps, samples, 120, 3) };
        let budget = Budget {
            steps: self.steps.unwrap_or(steps),
            rows: self.rows.unwrap_or(fusion::ROWS),
            samples,
            test_samples,
            preset: "meadow".into(),
            seed: self.seed,
            device: device.to_string(),
        };
        let out = self.out.clone().unwrap_or_else(|| folder.into());
        Ok((budget, out, self.seeds.unwrap_or(seeds), device))
    }
}

type Watch<'a> = dyn FnMut(&ExperimentProgress) -> ControlFlow<()> + 'a;

/// Runs an experiment under a bar; ctrl-C stops it, and the finished runs are kept.
fn watched<T>(out: &Path, run: impl FnOnce(&mut Watch) -> Result<T>) -> Result<T> {
    let (bar, stop, begin) = (progress::progress("training"), stop_flag(), Instant::now());
    let outcome = run(&mut |at: &ExperimentProgress| {
        let (done, all) = at.steps;
        bar.set_message(format!("{}, loss {}", at.run, numbers::loss(at.loss.into())));
        if let Some(finished) = at.finished {
            let left = begin.elapsed().as_secs_f64() / done.max(1) as f64 * (all - done.min(all)) as f64;
            let left = if done < all { format!("; about {:.0} min left", (left / 60.0).ceil()) } else { String::new() };
            bar.suspend(|| note(format!("{finished}{left}")));
        }
        progress::advance(&bar, done, all)
    });
    bar.finish_and_clear();
    if let (Err(Error::Interrupted { .. }), true) = (&outcome, stop.load(Ordering::Relaxed)) {
        note(format!("the finished runs are in {}; the same command continues from there", shown_path(out)));
    }
    outcome
}

/// Writes and prints a result.
fn show(
    result: &impl Serialize,
    (header, rows): (Vec<String>, Vec<Vec<String>>),
    findings: Vec<String>,
    svg: &str,
    out: &Path,
    json: bool,
) -> Result<ExitCode> {
    let mut value = serde_json::to_value(result).expect("numbers and strings serialise");
    value["table"] = serde_json::json!({ "header": header, "rows": rows });
    value["findings"] = serde_json::json!(findings);
    store::write(&out.join("result.json"), &value)?;
    let path = out.join("result.svg");
    write_file_atomic(&path, svg)?;
    if json {
        document(&(serde_json::to_string_pretty(&value).expect("numbers and strings serialise") + "\n"));
    } else {
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        line(report::table(&header, &rows));
        findings.iter().for_each(|finding| line(format!("- {finding}")));
        line(format!("\nin {}: result.json, result.svg, runs/", shown_path(out)));
    }
    Ok(ExitCode::SUCCESS)
}
