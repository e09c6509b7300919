//! `trimodal trace`: one training step, launch by launch.

use super::progress::load;
use super::terminal::{self, line};
use super::{ColumnArguments, DeviceArguments, PrecisionArguments, WidthArguments};
use clap::Args;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use trimodal::device::Gpu;
use trimodal::files::shown::{shown, shown_path};
use trimodal::files::write_file_atomic;
use trimodal::model::batch::Capacity;
use trimodal::model::{Batch, flops};
use trimodal::numbers::{bytes, thousands};
use trimodal::ops::Sizes;
use trimodal::trace::{self, Trace};
use trimodal::train::{ActivationOptions, ModelFolder, Schedule, Trainer, examples};
use trimodal::{DType, Device, Error, Result, bench, report};

const EXAMPLES: &str = "\
Examples:
  trimodal trace                                   the demo's model on made-up samples
  trimodal trace --summary                         sums by phase and layer only
  trimodal trace --wide | less -S                  every column: shapes, work, live memory
  trimodal trace my-model my-data                  a trained model on the first samples of a data set
  trimodal trace --device cuda --shapes small --precision bf16
  trimodal trace --perfetto step.json --flame step.svg --json trace.json

Open step.json at https://ui.perfetto.dev (it stays on your machine) or in chrome://tracing, step.svg in any browser; hover for \
names and numbers.

A line is one launch of a kernel; on the CPU, which has none, one call of an operation. FLOP and bytes are counted from the kernel's \
contract (everything read once, everything written once), not measured. `% ceiling` is how much it reached of the best that this device can \
do, where its memory (`mem`) or its arithmetic (`flop`) is the limit, as kernels that do nothing else measure them first; what fits into a cache may \
be above 100 %. `+ live` is the memory in MB whose contents are needed from this launch on, `− live` the memory that nothing reads after it.

Clearing, copies, uploads and downloads are part of the sums; --json lists them one by one.

The step is launched kernel by kernel, without a CUDA graph. The line below the table names the clock; time that no launch covers \
is shown as gaps. The emulator's times say nothing about a GPU; its shapes, FLOP and bytes are the same as a GPU's.";

/// Show one training step launch by launch: what each is for, its time, its work, its memory
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct TraceCommand {
    /// A run or a model folder [default: the model of --shapes with random parameters]
    #[arg(value_name = "RUN", requires = "data")]
    run: Option<PathBuf>,
    /// The data set whose first samples make the batch
    #[arg(value_name = "DATA")]
    data: Option<PathBuf>,
    /// The sizes of the made-up step: demo, small (124 M parameters) or large [default: small on a GPU, else demo]
    #[arg(long, value_name = "SET", conflicts_with = "run")]
    shapes: Option<String>,
    /// At most this many samples in the batch [default: 1 on the emulator, 4 on a software driver, else as many as a training step has]
    #[arg(long, value_name = "K")]
    samples: Option<usize>,
    /// Trace this many steps and show the quickest [default: 1 on the emulator and on a software driver, else 3]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Show only the sums by phase and layer, and by kernel
    #[arg(long)]
    summary: bool,
    /// Also write the trace as JSON to this file (`-`: to standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write a timeline for Perfetto or chrome://tracing to this file
    #[arg(long, value_name = "FILE")]
    perfetto: Option<PathBuf>,
    /// Also draw the step as a flame graph to this SVG file
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    #[command(flatten)]
    width: WidthArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
    #[command(flatten)]
    columns: ColumnArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Rows of a batch from a data set, where the user does not say how many samples: those of the demo's recipe.
const ROWS: usize = 1920;
/// Ordinary steps before the traced ones: kernels are compiled, memory has been touched.
const WARM: usize = 2;
/// Ordinary and traced steps of which the quickest counts.
const STEPS: usize = 3;

impl TraceCommand {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.perfetto.is_some() || self.flame.is_some() || self.json.as_ref().is_some_and(|path| path.as_os_str() != "-")
    }

    pub fn run(self) -> Result<ExitCode> {
        let device = self.device.open()?;
        let emulated = matches!(&device, Device::Gpu(Gpu::Emulator(_)));
        let software = !emulated && matches!(&device, Device::Gpu(_)) && !bench::is_fast(&device);
        for (option, given) in [("--samples", self.samples), ("--steps", self.steps)] {
            if given == Some(0) {
                return Err(Error::Usage(format!("{option}: expected at least 1, found 0")));
            }
        }
        let few = if emulated { Some(1) } else { software.then_some(4) };
        let samples = self.samples.or(few);
        let (mut trainer, batch) = match (&self.run, &self.data) {
            (Some(run), Some(data)) => self.of_run(run, data, &device, samples)?,
            _ => self.made_up(&device, samples)?,
        };
        let (warm, steps) = match (emulated, software) {
            (true, _) => (0, 1),
            (_, true) => (1, 1),
            _ => (WARM, STEPS),
        };
        let (warm, steps) = self.steps.map_or((warm, steps), |n| (warm.min(n), n));
        let mut ordinary = f64::INFINITY;
        for step in 0..if emulated { 0 } else { warm + steps } {
            let begin = Instant::now();
            trainer.step(&batch)?;
            if step >= warm {
                ordinary = ordinary.min(begin.elapsed().as_secs_f64());
            }
        }
        let mut quickest: Option<Trace> = None;
        for _ in 0..steps {
            let (_, trace) = trace::record(&device, trace::TraceOptions::default(), || trainer.step(&batch))?;
            if quickest.as_ref().is_none_or(|q| trace.wall < q.wall) {
                quickest = Some(trace);
            }
        }
        let mut trace = quickest.expect("at least one step");
        trace.formula = Some(flops(&trainer.config, &batch));
        if let Some(ceilings) = bench::ceilings(&device)? {
            trace.rate(&ceilings);
        }
        let json_only = self.json.as_deref() == Some(Path::new("-"));
        if json_only {
            terminal::document(&trace.json());
        } else {
            let width = self.width.columns();
            let say = |text: String| line(report::wrapped(&text, width, 10));
            say(format!(
                "one training step of {} parameters on {} rows ({} samples) on {}\n",
                thousands(trainer.parameters.count()),
                thousands(batch.rows()),
                batch.samples,
                shown(&trace.device)
            ));
            terminal::print(&report::trace_table(&trace, self.summary, width));
            say(format!("          {} are allocated once for all steps", bytes(trainer.allocated_bytes())));
            if ordinary.is_finite() {
                say(format!("ordinary  a step without tracing takes {:.3} ms", 1e3 * ordinary));
            }
        }
        // The terminal already shows what was measured, whatever happens to the files.
        if let Some(path) = self.json.as_ref().filter(|_| !json_only) {
            write(path, &trace.json())?;
        }
        if let Some(path) = &self.perfetto {
            write(path, &trace.perfetto())?;
        }
        if let Some(path) = &self.flame {
            write(path, &trace.flame())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The benchmark's step.
    fn made_up(&self, device: &Device, samples: Option<usize>) -> Result<(Trainer, Batch)> {
        let known = Sizes::ALL.map(|s| s.name).join(", ");
        let name = self.shapes.as_deref().unwrap_or(if bench::is_fast(device) { "small" } else { "demo" });
        let sizes = Sizes::ALL.into_iter().find(|s| s.name == name);
        let sizes = sizes.ok_or_else(|| Error::Usage(format!("--shapes: unknown set of sizes {name:?}: expected one of {known}")))?;
        bench::training_step(&sizes, samples.unwrap_or(usize::MAX), device, self.precision.get())
    }

    /// A trained model and the first samples of a data set.
    fn of_run(&self, run: &Path, data: &Path, device: &Device, samples: Option<usize>) -> Result<(Trainer, Batch)> {
        let model = ModelFolder::open(run, device, DType::F32)?;
        let dataset = self.columns.open(data)?;
        let (left, most) = (Cell::new(samples.unwrap_or(ROWS)), samples.map_or(ROWS, |_| usize::MAX));
        let some = |_: &_| left.replace(left.get().saturating_sub(1)) > 0;
        let examples = load(&dataset, &model.config, &model.tokenizer, device, "decoding", some)?;
        let batch = examples::batch(&examples, &model.config, &model.tokenizer.special(), most)?;
        let activation = self.precision.get().dtype();
        let trainer =
            Trainer::with_options(ActivationOptions::new(activation), &model.config, model.parameters, Schedule::meadow(1_000), Capacity::of(&batch))?;
        Ok((trainer, batch))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    write_file_atomic(path, text)?;
    line(format!("wrote {}", shown_path(path)));
    Ok(())
}
