//! The subcommands, and what they share: how the device is chosen, how errors end.

mod bench;
mod check;
mod config;
mod data;
mod demo;
mod describe;
mod devices;
mod dump;
mod emulate;
mod eval;
mod experiment;
mod golden;
mod learn;
mod markdown;
mod meadow;
mod probe;
mod progress;
mod report;
mod signals;
mod step;
mod terminal;
mod trace;
mod train;
mod vendor;
mod web;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;
use trimodal::data::{ColumnChoice, Dataset, Limits, OpenOptions, contained};
use trimodal::train::recipe::Precision;
use trimodal::{Device, Error, Result};

const EXAMPLES: &str = "\
Where to start:
  trimodal demo                      train on a data set that it draws itself (minutes)
  trimodal devices                   what this machine can compute on
  trimodal check                     compare every kernel with the float64 oracle
  trimodal bench                     time every kernel, beside the best that the device can do
  trimodal emulate rms_norm          what the CUDA kernels do, without a GPU
  trimodal experiment fusion         is it better to learn to see and hear from the start?
  trimodal learn                     how training works, kernel by kernel, with exercises
  trimodal trace                     one training step, launch by launch
  trimodal vendor rms_norm --to DIR  copy one kernel, with its contract and a self-test
  trimodal web                       the kernels in your browser: self-test, benchmark
  trimodal golden vectors            inputs and expected outputs of every kernel, to test a copy with

With data of your own, a folder with pictures, sounds and a metadata.jsonl:
  trimodal train my-data --out my-model
  trimodal eval my-model my-data
  trimodal report my-model
  trimodal describe my-model --image cat.jpg --audio purr.wav
  trimodal step my-model my-data     one sample walked through one training step, number by number
  trimodal probe my-model --image cat.jpg --word cat
  trimodal web my-model              describe what you drop on a page

`trimodal help COMMAND` says more about each.";

/// Hand-written GPU kernels that teach one small transformer to read, see and hear.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, arg_required_else_help = true, infer_subcommands = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Train(train::Train),
    Config(config::Config),
    Describe(describe::Describe),
    Probe(probe::Probe),
    Eval(eval::Eval),
    Report(report::Report),
    Data(data::Data),
    Meadow(meadow::Meadow),
    Devices(devices::Devices),
    Check(check::Check),
    Bench(bench::Bench),
    Emulate(emulate::Emulate),
    Experiment(experiment::Experiment),
    Golden(golden::Golden),
    Trace(trace::TraceCommand),
    Step(step::Step),
    Dump(dump::Dump),
    Learn(learn::Learn),
    Vendor(vendor::Vendor),
    Web(web::Web),
}

/// Which device computes.
#[derive(Args)]
struct DeviceArguments {
    /// auto (a GPU if there is one, else the CPU), cpu, wgpu (Vulkan, Metal, DX12), cuda (NVIDIA, the kernels as PTX), or
    /// emulator (the same PTX on the CPU, slowly, every memory access checked)
    #[arg(long, value_name = "D", default_value = "auto")]
    device: String,
    /// Part of the name of the wgpu adapter to take; `trimodal devices` lists them
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
}

impl DeviceArguments {
    fn open(&self) -> Result<Device> {
        Device::open(&self.device, self.adapter.as_deref())
    }

    /// The wgpu device with a shader of the user's instead of one of ours, the stem of the one that it replaces, and its text.
    #[cfg(feature = "wgpu")]
    fn open_with_shader(&self, path: &std::path::Path) -> Result<(Device, &'static str, String)> {
        use trimodal::device::{Gpu, wgpu};
        if !matches!(self.device.as_str(), "auto" | "wgpu") {
            return Err(Error::Usage(format!("--shader takes WGSL, which --device {} does not run: leave --device out, or give --device wgpu", self.device)));
        }
        let replaced = wgpu::Replaced::read(path)?;
        let (stem, source) = (replaced.stem, replaced.source.clone());
        let options = wgpu::ContextOptions { replaced: Some(replaced), ..Default::default() };
        Ok((Device::Gpu(Gpu::Wgpu(std::sync::Arc::new(wgpu::Context::open(self.adapter.as_deref(), options)?))), stem, source))
    }

    #[cfg(not(feature = "wgpu"))]
    fn open_with_shader(&self, _: &std::path::Path) -> Result<(Device, &'static str, String)> {
        Err(Error::Usage("--shader needs wgpu, which this build leaves out: build with --features wgpu".into()))
    }
}

/// How wide a table may be.
#[derive(Args)]
struct WidthArguments {
    /// Show every column, however wide the terminal is [default: those that it has room for, or 80 characters where there is none]
    #[arg(long)]
    wide: bool,
}

impl WidthArguments {
    /// Columns of a line.
    fn columns(&self) -> usize {
        if self.wide { usize::MAX } else { terminal::width() }
    }
}

/// Which columns of a data set are what.
#[derive(Args)]
struct ColumnArguments {
    /// Which columns of Parquet files are what, where they are not named so: image=img,text=caption (also audio, prompt, split)
    #[arg(long, value_name = "PART=COLUMN,...")]
    columns: Option<ColumnChoice>,
}

impl ColumnArguments {
    fn options(&self, limits: Limits, skip_bad: bool) -> OpenOptions {
        OpenOptions { limits, columns: self.columns.clone().unwrap_or_default(), skip_bad }
    }

    /// Opens a data set within the default limits, and says what should be known of it.
    fn open(&self, data: &std::path::Path) -> Result<Dataset> {
        let dataset = Dataset::open_with(data, &self.options(Limits::default(), false))?;
        say_notes(&dataset);
        Ok(dataset)
    }
}

/// What people should know of a data set before its figures: on stderr, where figures are not.
fn say_notes(dataset: &Dataset) {
    dataset.notes().iter().for_each(|note| terminal::note(format!("note: {note}")));
}

/// What training computes in.
#[derive(Args)]
struct PrecisionArguments {
    /// What activations and the weights that kernels read are: f32, or bf16 (mixed precision; cuda and emulator only)
    #[arg(long, value_name = "DTYPE", value_enum, default_value_t = PrecisionName::F32)]
    precision: PrecisionName,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
}

impl PrecisionArguments {
    fn get(&self) -> Precision {
        match self.precision {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
        }
    }
}

/// What stands where a model says something: its words, or that there are none.
fn words_or_nothing(said: &str) -> &str {
    if said.trim().is_empty() { "(nothing)" } else { said }
}

/// Runs the program; its exit code is 0, 1 for an error, 2 for wrong usage, 128 + the number of a signal that ended it (130 after ctrl-C).
pub fn main() -> ExitCode {
    signals::install();
    // A panic is a bug of ours. One line says so; a backtrace would help nobody.
    std::panic::set_hook(Box::new(|panic| {
        // A decoder that gives up on a file: the error that comes of it names the file.
        if contained::inside() {
            return;
        }
        let what = contained::said(panic.payload()).unwrap_or("no message");
        let place = panic.location().map(|l| format!(" at {l}")).unwrap_or_default();
        terminal::error(format!("this is a bug in trimodal, please report it: {what}{place}"));
    }));
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return refuse(&error),
    };
    if command.makes_something() {
        terminal::go_on_without_output();
    }
    let outcome = match command {
        Command::Demo(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Describe(command) => command.run(),
        Command::Probe(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Meadow(command) => command.run(),
        Command::Devices(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Emulate(command) => command.run(),
        Command::Experiment(command) => command.run(),
        Command::Golden(command) => command.run(),
        Command::Trace(command) => command.run(),
        Command::Step(command) => command.run(),
        Command::Dump(command) => command.run(),
        Command::Learn(command) => command.run(),
        Command::Vendor(command) => command.run(),
        Command::Web(command) => command.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// Checks the files of a model against the digests that were saved with them, and says so on standard error.
fn verify(model: &std::path::Path) -> Result<()> {
    use trimodal::train::{ModelFolder, digest};
    let path = ModelFolder::locate(model)?;
    match digest::verify(&path)? {
        Some(files) => terminal::note(format!("{}: {files} files are as they were saved", trimodal::files::shown::shown_path(&path))),
        None => {
            let what = format!("no {} to verify it by: an older version of trimodal wrote it, or another program", digest::SUMS);
            return Err(Error::file(path, what));
        }
    }
    Ok(())
}

impl Command {
    /// Whether it leaves more than what it prints: then it goes on when nobody reads that any more.
    fn makes_something(&self) -> bool {
        match self {
            Command::Devices(_) | Command::Config(_) | Command::Emulate(_) | Command::Learn(_) => false,
            Command::Describe(describe) => describe.makes_something(),
            Command::Probe(probe) => probe.makes_something(),
            Command::Eval(eval) => eval.makes_something(),
            Command::Data(data) => data.makes_something(),
            Command::Check(check) => check.makes_something(),
            Command::Bench(bench) => bench.makes_something(),
            Command::Trace(trace) => trace.makes_something(),
            Command::Step(step) => step.makes_something(),
            _ => true,
        }
    }
}

/// Prints what is wrong with the command line, or the help that was asked for.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Our own words alone.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // A command line may hold foreign names of files (`trimodal describe run *`): no colours of clap's, whose text would be sent as it is.
    let text = error.render().to_string();
    match text.strip_prefix("error: ") {
        Some(text) => terminal::error(text.trim_end()),
        None => terminal::note(text.trim_end()),
    }
    ExitCode::from(error.exit_code() as u8)
}

/// Prints an error as one line, and a hint where there is a useful one.
fn fail(error: &Error) -> ExitCode {
    use terminal::note;
    match (error, signals::received()) {
        (Error::Interrupted { step: 0 }, Some(signal)) => note(format!("stopped ({})", signals::name(signal))),
        (Error::Interrupted { step }, Some(signal)) => note(format!("stopped after step {step} ({})", signals::name(signal))),
        (Error::Interrupted { .. }, None) => note(error),
        (Error::BadSamples { count, first }, _) if first.len() > 1 => {
            terminal::error(format!("{count} bad samples; the first:"));
            first.iter().for_each(|message| note(format!("  {}", one_line(message))));
        }
        _ => terminal::error(one_line(&error.to_string())),
    }
    let hint = match error {
        Error::Usage(_) => Some("`trimodal help` lists the commands, `trimodal help COMMAND` their options"),
        Error::Device { .. } => Some("`trimodal devices` lists what this machine has"),
        Error::BadSamples { .. } => Some("`trimodal data DIR` looks through a whole data set; `train --on-bad-sample skip` goes on without bad samples"),
        Error::OutOfMemory { device, .. } if device != "cpu" => Some("`--device cpu` uses the machine's own memory"),
        Error::DeviceLost { .. } => Some("another program may have reset the driver; `--device cpu` needs no driver"),
        _ => None,
    };
    if let Some(hint) = hint {
        note(format!("  hint: {hint}"));
    }
    match error {
        Error::Interrupted { .. } => signals::code(),
        // What was stopped and says what it left as it was.
        Error::Usage(_) if signals::received().is_some() => signals::code(),
        Error::Usage(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// Messages of drivers and parsers may span lines.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("trimodal {name}")), "`trimodal help {name}` shows no example");
            assert!(command.get_about().is_some(), "{name} does not say what it does");
            for argument in command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                assert!(argument.get_help().is_some(), "{name}: {} is not explained", argument.get_id());
            }
        }
    }

    #[test]
    fn messages_are_one_line() {
        assert_eq!(one_line("a\n  b\tc "), "a b c");
    }
}
