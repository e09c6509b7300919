//! `trimodal report`: the page about a run, and what `train` and `demo` share of making it.

use super::DeviceArguments;
use super::eval::measured;
use super::live::{advance, progress};
use super::terminal::{Paint, bytes, line};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use trimodal::data::{Dataset, Tokenizer};
use trimodal::model::{Config, Parameters};
use trimodal::report::run::{self, Judged, REPORT};
use trimodal::train::checkpoint::{self, State};
use trimodal::train::evaluate::{self, Ablation};
use trimodal::train::setup::{self, Part};
use trimodal::train::{ModelFolder, Run, Settings, examples};
use trimodal::{DType, Device, Error, Result, bench};

const EXAMPLES: &str = "\
Examples:
  trimodal report my-model
  trimodal report my-model --data moved-data --out report-of-monday.html
  trimodal report my-model --samples 1000

Writes one HTML file, readable offline and on a phone: what was trained on what, the curves of the run, what it gets right beside \
chance, the same with pictures and sounds taken away, samples to look at and listen to with what the model says about them, what it takes for \
what, and how to do it again. `train` and `demo` write it at their end; this makes it of a run that was stopped, \
of an older one, or anew.

The latest checkpoint is judged on the samples that the run held out (`held_out`, `eval_split`) and on every other split of its data; \
where there is nothing of the kind, on what it was trained on, and the page says so. Without its data the page has only the \
run's own curves and settings.";

/// Write the page about a run: curves, what it learned, samples with captions, how to do it again
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Report {
    /// The run, as `train` writes it; the demo's is DIR/model
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The data set, where it is not where the run was trained on it
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// The file to write; left out: report.html in the run's folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Samples of each split that are judged at most
    #[arg(long, value_name = "N", default_value_t = SAMPLES, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Samples of each split that are judged at most, unless asked for otherwise.
const SAMPLES: u32 = 200;

impl Report {
    pub fn run(self) -> Result<ExitCode> {
        let begin = Instant::now();
        let device = self.device.open()?;
        let model = ModelFolder::open(&self.run, &device, DType::F32)?;
        let path = checkpoint::latest(&self.run)?;
        let state = checkpoint::read_state(&path)?;
        let no_settings = || Error::file(path.join("trainer_state.json"), "no settings in it: this is no checkpoint of a run");
        let mut settings = state.settings.clone().ok_or_else(no_settings)?;
        if let Some(data) = &self.data {
            settings.data.path = std::path::absolute(data).map_err(Error::io(data, "find"))?.display().to_string();
        }
        let dataset = match setup::open(&settings) {
            Err(e) if self.data.is_none() => {
                eprintln!("{} no samples in the report: {e} (--data DATA says where the data set is now)", Paint::stderr().bad("warning:"));
                Err(e.to_string())
            }
            opened => Ok(opened?),
        };
        let learned = Learned { config: &model.config, parameters: &model.parameters, tokenizer: &model.tokenizer, device: &device };
        let told = Told { folder: &self.run, settings: &settings, state: &state, learned, commands: again(&self.run, &settings) };
        let out = self.out.unwrap_or_else(|| self.run.join(REPORT));
        match &dataset {
            Ok(dataset) => {
                let judged = judge_all(&told, dataset, self.samples)?;
                told.write(Ok(dataset), Ok(&judged), &out, begin)?;
            }
            Err(why) => told.write(Err(why), Err(why), &out, begin)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A model and where it is.
pub(super) struct Learned<'a> {
    pub config: &'a Config,
    pub parameters: &'a Parameters,
    pub tokenizer: &'a Tokenizer,
    pub device: &'a Device,
}

impl Learned<'_> {
    /// What it makes of some rows, and of the same ones with things taken away, under progress bars; ctrl-C stops it.
    pub(super) fn judge<'d>(&self, dataset: &'d Dataset, mut part: Part<'d>, most: u32, ablations: &[Ablation]) -> Result<Judged<'d>> {
        part.rows.truncate(most as usize);
        let Learned { config, parameters, tokenizer, device } = *self;
        let bar = progress("decoding");
        let loaded = examples::load_rows(dataset, config, tokenizer, device, &part.rows, &mut |done, total| advance(&bar, done, total));
        bar.finish_and_clear();
        let examples = loaded?;
        let (losses, scores, captions) = measured(config, parameters, tokenizer, &examples, &part.name)?;
        let without = ablations.iter().filter(|ablation| ablation.applies(&examples)).map(|&ablation| {
            let (losses, scores, _) = measured(config, parameters, tokenizer, &evaluate::ablate(&examples, ablation, 0), ablation.name())?;
            Ok((ablation, losses, scores))
        });
        let (ablations, chance) = (without.collect::<Result<_>>()?, evaluate::blind(&examples, tokenizer)?);
        Ok(Judged { name: part.name, trained_on: part.trained_on, rows: part.rows, examples, captions, losses, scores, chance, ablations })
    }
}

/// A run, and what it came to.
pub(super) struct Told<'a> {
    pub folder: &'a Path,
    pub settings: &'a Settings,
    pub state: &'a State,
    pub learned: Learned<'a>,
    /// What makes it again.
    pub commands: String,
}

impl Told<'_> {
    /// Writes the page and says where.
    pub(super) fn write(
        &self,
        dataset: std::result::Result<&Dataset, &str>,
        judged: std::result::Result<&[Judged], &str>,
        out: &Path,
        begin: Instant,
    ) -> Result<()> {
        let Learned { config, parameters, device, .. } = &self.learned;
        let report = run::Report {
            folder: self.folder,
            config,
            parameters: parameters.count(),
            settings: self.settings,
            state: self.state,
            device: bench::about(device),
            commands: &self.commands,
            dataset,
            judged,
            kernels: None,
        };
        let size = report.page()?.write(out)?;
        line(format!("report: {} ({}, {:.1} s)", out.display(), bytes(size as u64), begin.elapsed().as_secs_f64()));
        Ok(())
    }
}

/// Everything that a run can be judged on; what is taken away is taken from the first part.
fn judge_all<'d>(told: &Told, dataset: &'d Dataset, most: u32) -> Result<Vec<Judged<'d>>> {
    let parts = setup::parts(told.settings, dataset);
    parts.into_iter().enumerate().map(|(i, part)| told.learned.judge(dataset, part, most, if i == 0 { &Ablation::ALL } else { &[] })).collect()
}

/// The report at the end of a training, or ctrl-C's exit code. The model is saved by then: whatever goes wrong here is said and does not
/// fail the training.
pub(super) fn after(run: &Run) -> ExitCode {
    let (begin, out) = (Instant::now(), run.folder.join(REPORT));
    let learned = Learned { config: &run.trainer.config, parameters: &run.trainer.parameters, tokenizer: &run.tokenizer, device: run.trainer.device() };
    let told = Told { folder: &run.folder, settings: &run.settings, state: &run.state, learned, commands: again(&run.folder, &run.settings) };
    let judged = match judge_all(&told, &run.dataset, SAMPLES) {
        Err(Error::Interrupted { .. }) => {
            line(format!("no report: stopped; the model is saved, and `trimodal report {}` writes it", quoted(&run.folder)));
            return ExitCode::from(130);
        }
        judged => judged.map_err(|e| e.to_string()),
    };
    if let Err(why) = &judged {
        eprintln!("{} no samples in the report: {why}", Paint::stderr().bad("warning:"));
    }
    warn(told.write(Ok(&run.dataset), judged.as_deref().map_err(String::as_str), &out, begin), &run.folder);
    ExitCode::SUCCESS
}

/// What is said where a report cannot be written.
pub(super) fn warn(written: Result<()>, folder: &Path) {
    if let Err(e) = written {
        let (warning, folder) = (Paint::stderr().bad("warning:"), quoted(folder));
        eprintln!("{warning} no report: {e}; the model is saved, and `trimodal report {folder} --out FILE` writes it elsewhere");
    }
}

/// What makes a run again from its settings.
fn again(folder: &Path, settings: &Settings) -> String {
    let data = quoted(Path::new(&settings.data.path));
    format!("trimodal train {data} --out again --config {}\ntrimodal report {}", quoted(&folder.join("config.toml")), quoted(folder))
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        let of = |text: &str| quoted(Path::new(text));
        assert_eq!((of("a/b-1.x"), of("my data"), of("it's"), of("")), ("a/b-1.x".into(), "'my data'".into(), "'it'\\''s'".into(), "''".into()));
    }
}
