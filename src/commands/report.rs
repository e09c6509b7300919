//! `trimodal report`: the page about a run, and the part of making it that `train` and `demo` share.

use super::DeviceArguments;
use super::eval::{Learned, measured};
use super::progress::{advance, progress};
use super::signals;
use super::terminal::{line, warning};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use trimodal::data::folder::TableRow;
use trimodal::data::{Attributes, Dataset, Tokenizer};
use trimodal::files::shown::{quoted, shown_path};
use trimodal::model::Config;
use trimodal::numbers::{bytes, duration, thousands};
use trimodal::report::compare::Comparison;
use trimodal::report::run::{self, Judged, Kernels, REPORT, TrainedOn};
use trimodal::train::checkpoint::{self, TrainerState};
use trimodal::train::choices::Choices;
use trimodal::train::evaluate::{self, Ablation};
use trimodal::train::settings::path::{from_text, to_text};
use trimodal::train::setup::{self, EvaluationSplit};
use trimodal::train::stratified::{evenly_spaced, stratified};
use trimodal::train::{Example, ModelFolder, Run, Settings, Trainer, examples, visits};
use trimodal::{DType, Device, Error, Result, bench, trace};

const EXAMPLES: &str = "\
Examples:
  trimodal report my-model
  trimodal report my-model --data moved-data --out report-of-monday.html
  trimodal report my-model --samples 1000
  trimodal report run-1 run-2 run-3 --out compare.html

Writes one HTML file, readable offline and on a phone: what was trained on what, the curves of the run, what it gets right beside \
chance, the same with pictures and sounds taken away, samples to look at and listen to with what the model says about them (and, where it is wrong, which samples it was trained on are the most alike to it), what it confuses \
with what, and how to repeat the run. `train` and `demo` write the page at their end; this command writes it for a run that was stopped, \
for an older run, or again.

The latest checkpoint is judged on the samples that the run held out (`held_out`, `eval_split`) and on every other split of its data; \
if there are none, on the samples that it was trained on, and the page says so. Without its data the page has only the \
run's own curves and settings.

Several runs make one page that compares them: their curves over each other, what their settings differ in, the scores of their evaluations and their \
times side by side, and whether they were evaluated on the same samples. It is made of what the runs wrote down: it needs neither their \
data nor a device, and takes no time. A run may still be going on.";

/// Write the page about a run (curves, what it learned, samples with captions, how to do it again), or one that compares several
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Report {
    /// The run, as `train` writes it (the demo's is DIR/model); several are compared on one page
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The data set, if it has moved since the run was trained
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// The file to write; with several runs it must be given [default: report.html in the run's folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A JSON file that declares what captions name, such as {"species": ["cat", "dog"]}: judged one by one
    #[arg(long, value_name = "FILE")]
    attributes: Option<PathBuf>,
    /// At most this many samples of each split are judged, drawn evenly from it [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    #[command(flatten)]
    device: DeviceArguments,
}

/// How many samples of each split are judged at most, unless the user asks for another number.
const SAMPLES: u32 = 200;

impl Report {
    pub fn run(self) -> Result<ExitCode> {
        match self.runs.as_slice() {
            [run] => self.one(run),
            _ => self.compare(),
        }
    }

    /// The page that compares several runs.
    fn compare(&self) -> Result<ExitCode> {
        let begin = Instant::now();
        let DeviceArguments { device, adapter } = &self.device;
        let given = [
            ("--data", self.data.is_some()),
            ("--attributes", self.attributes.is_some()),
            ("--samples", self.samples.is_some()),
            ("--device", device != "auto"),
            ("--adapter", adapter.is_some()),
        ];
        if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
            let what = "is for the page of one run: several are compared by what they wrote down, without data and without a device";
            return Err(Error::Usage(format!("{option} {what}")));
        }
        let runs: Vec<String> = self.runs.iter().map(|run| quoted(run)).collect();
        let Some(out) = &self.out else {
            return Err(Error::Usage(format!("expected a file for the page of several runs: `trimodal report {} --out compare.html`", runs.join(" "))));
        };
        let comparison = Comparison::read(&self.runs)?;
        comparison.doubts().into_iter().for_each(warning);
        let size = comparison.page(&format!("trimodal report {} --out {}", runs.join(" "), quoted(out))).write(out)?;
        say(out, size, begin);
        Ok(ExitCode::SUCCESS)
    }

    /// The page of one run.
    fn one(&self, run: &Path) -> Result<ExitCode> {
        let begin = Instant::now();
        let device = self.device.open()?;
        let model = ModelFolder::open(run, &device, DType::F32)?;
        let path = checkpoint::latest(run)?;
        let state = checkpoint::read_state(&path)?;
        let no_settings = || Error::file(path.join("trainer_state.json"), "no settings in it: this is not a checkpoint of a run");
        let mut settings = state.settings.clone().ok_or_else(no_settings)?;
        if let Some(data) = &self.data {
            settings.data.path = to_text(&std::path::absolute(data).map_err(Error::io(data, "find"))?);
        }
        if let Some(file) = &self.attributes {
            settings.data.attributes = to_text(&std::path::absolute(file).map_err(Error::io(file, "find"))?);
        }
        let dataset = match setup::open(&settings) {
            Err(e) if self.data.is_none() => {
                warning(format!("no samples in the report: {e} (--data DATA says where the data set is now)"));
                Err(e.to_string())
            }
            opened => Ok(opened?),
        };
        let commands = again(run, &settings);
        let attributes = match &dataset {
            Ok(dataset) => setup::attributes(&settings, dataset)?,
            Err(_) => Attributes::default(),
        };
        let learned = Learned { config: &model.config, parameters: &model.parameters, tokenizer: &model.tokenizer, device: &device, attributes: &attributes };
        let judged = match &dataset {
            Ok(dataset) => Ok(judge_all(&learned, &settings, dataset, self.samples.unwrap_or(SAMPLES))?),
            Err(why) => Err(why.clone()),
        };
        settings.training.precision = settings.training.precision.on(&device).into();
        let (config, parameters) = (model.config, model.parameters.count());
        let captions = match &dataset {
            Ok(dataset) => setup::told_apart(&settings, dataset, &model.tokenizer),
            Err(_) => Choices::default(),
        };
        let kernels = match &judged {
            Ok(judged) => setup::trainer(&settings, &config, &device, model.parameters, captions.ids())
                .map_err(|e| e.to_string())
                .and_then(|(mut trainer, _)| kernels(&mut trainer, &model.tokenizer, judged, settings.training.rows)),
            Err(why) => Err(why.clone()),
        };
        let out = self.out.clone().unwrap_or_else(|| run.join(REPORT));
        let told = Told {
            folder: run,
            settings: &settings,
            state: &state,
            config: &config,
            parameters,
            device: &device,
            attributes: &attributes,
            tokenizer: &model.tokenizer,
            commands,
        };
        told.write(dataset.as_ref(), &judged, &kernels, &out, begin)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a model makes of some rows, one of so many parts (`of`), and of the same ones with things taken away, under progress bars; ctrl-C stops it.
pub(super) fn judge<'d>(
    learned: &Learned,
    dataset: &'d Dataset,
    mut part: EvaluationSplit<'d>,
    of: usize,
    most: u32,
    ablations: &[Ablation],
    trained: &TrainedOn<'d>,
) -> Result<Judged<'d>> {
    let places: Vec<usize> = (0..part.rows.len()).collect();
    let chosen = stratified(&places, |i| dataset.source(part.rows[i]), most as usize, 0);
    part.rows = chosen.into_iter().map(|i| part.rows[i]).collect();
    let Learned { config, parameters, tokenizer, device, attributes } = *learned;
    let bar = progress("decoding");
    // A page about the others is worth more than none.
    let mut bad: Vec<(usize, Error)> = Vec::new();
    let mut note = |row: usize, error: Error| {
        bad.push((row, error));
        Ok(())
    };
    let loaded = examples::load_or(dataset, config, tokenizer, device, &part.rows, &mut note, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let examples = loaded?;
    if let Some((_, first)) = bad.first() {
        if examples.is_empty() {
            return Err(Error::BadSamples { count: bad.len() as u64, first: bad.iter().take(10).map(|(_, error)| error.to_string()).collect() });
        }
        warning(format!("{} samples of {} cannot be judged: {first}", bad.len(), part.name));
    }
    part.rows = part.rows.iter().enumerate().filter(|(i, _)| !bad.iter().any(|(row, _)| row == i)).map(|(_, row)| *row).collect();
    let (losses, scores, captions) = measured(learned, &examples, None, &part.name)?;
    let bar = progress("looking");
    let telling = run::telling(&examples, &captions);
    let heats = telling.iter().enumerate().map(|(done, &i)| {
        if advance(&bar, done, telling.len()).is_break() {
            return Err(Error::Interrupted { step: 0 });
        }
        Ok((i, run::attended(config, parameters, tokenizer, &examples[i], &captions[i])?))
    });
    let heats = heats.collect::<Result<_>>();
    bar.finish_and_clear();
    let heats = heats?;
    let wrong = run::wrong(&examples, &captions, of);
    let shown: Vec<Example> = wrong.iter().map(|&i| examples[i].clone()).collect();
    let nearest = wrong.into_iter().zip(trained.nearest(config, parameters, tokenizer, &shown)?).collect();
    let without = ablations.iter().filter(|ablation| ablation.applies(&examples)).map(|&ablation| {
        let (losses, scores, _) = measured(learned, &evaluate::ablate(&examples, ablation, 0), None, ablation.name())?;
        Ok((ablation, losses, scores))
    });
    let (ablations, most_frequent) = (without.collect::<Result<_>>()?, evaluate::most_frequent_answer(&examples, tokenizer, attributes)?);
    Ok(Judged { name: part.name, trained_on: part.trained_on, rows: part.rows, examples, captions, losses, scores, most_frequent, heats, nearest, ablations })
}

/// The line that says where a page is.
fn say(out: &Path, size: usize, begin: Instant) {
    line(format!("report: {} ({}, {})", shown_path(out), bytes(size as u64), duration(begin.elapsed().as_secs_f64())));
}

/// A run, and how to make it again.
struct Told<'a> {
    folder: &'a Path,
    settings: &'a Settings,
    state: &'a TrainerState,
    config: &'a Config,
    parameters: usize,
    device: &'a Device,
    attributes: &'a Attributes,
    tokenizer: &'a Tokenizer,
    commands: String,
}

/// Samples that the page shows as the run's first visits showed them, and the number of these.
const AUGMENTED: (usize, u64) = (6, 3);

/// A value, or why it is not known.
type Known<T> = std::result::Result<T, String>;

impl Told<'_> {
    /// Writes the page and says where.
    fn write(
        &self,
        dataset: std::result::Result<&Dataset, &String>,
        judged: &Known<Vec<Judged>>,
        kernels: &Known<Kernels>,
        out: &Path,
        begin: Instant,
    ) -> Result<()> {
        let shown = match dataset {
            Ok(dataset) if self.settings.augmentation().strengths.any() => {
                let rows = setup::trained_rows(self.settings, dataset);
                let some: Vec<usize> = evenly_spaced(AUGMENTED.0, rows.len()).map(|i| rows[i]).collect();
                visits::preview(dataset, &some, self.settings, self.config, self.tokenizer, AUGMENTED.1)?
            }
            _ => Vec::new(),
        };
        let report = run::RunReport {
            shown: &shown,
            folder: self.folder,
            config: self.config,
            parameters: self.parameters,
            settings: self.settings,
            state: self.state,
            device: bench::about(self.device),
            commands: &self.commands,
            attributes: self.attributes,
            dataset: dataset.map_err(String::as_str),
            judged: judged.as_deref().map_err(String::as_str),
            kernels: kernels.as_ref().map_err(String::as_str),
        };
        say(out, report.page()?.write(out)?, begin);
        Ok(())
    }
}

/// Everything that a run can be judged on; what is taken away is taken from the first part.
fn judge_all<'d>(learned: &Learned, settings: &Settings, dataset: &'d Dataset, most: u32) -> Result<Vec<Judged<'d>>> {
    let parts = setup::evaluation_splits(settings, dataset);
    let (trained, of) = (trained_on(learned, settings, dataset)?, parts.len());
    parts.into_iter().enumerate().map(|(i, part)| judge(learned, dataset, part, of, most, if i == 0 { &Ablation::ALL } else { &[] }, &trained)).collect()
}

/// Some of the rows that a run was trained on, as its model sees them.
pub(super) fn trained_on<'d>(learned: &Learned, settings: &Settings, dataset: &'d Dataset) -> Result<TrainedOn<'d>> {
    let rows = stratified(&setup::trained_rows(settings, dataset), |i| dataset.source(&dataset.rows()[i]), COMPARED, 0);
    let rows: Vec<&TableRow> = rows.into_iter().map(|i| &dataset.rows()[i]).collect();
    let bar = progress("comparing");
    let Learned { config, parameters, tokenizer, .. } = *learned;
    let trained = TrainedOn::new(config, parameters, tokenizer, dataset, &rows, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    trained
}

/// Rows trained on that wrong answers are compared with.
const COMPARED: usize = 2000;

/// Steps before the traced ones (memory is touched, kernels are compiled), and those of which the quickest counts.
const STEPS: [usize; 2] = [1, 3];

/// Where the time of a training step on some of the samples goes, or why that is not known. It takes steps: what the model has learned
/// must be judged, and saved, before.
fn kernels(trainer: &mut Trainer, tokenizer: &Tokenizer, judged: &[Judged], rows: usize) -> Known<Kernels> {
    let bar = progress("timing");
    let timed = time_step(trainer, tokenizer, judged, rows, &mut |done| advance(&bar, done, 1 + STEPS[0] + STEPS[1]).is_break());
    bar.finish_and_clear();
    match timed {
        Ok(Some(kernels)) => Ok(kernels),
        Ok(None) => Err("the emulator's times say nothing about a GPU".into()),
        Err(Error::Interrupted { .. }) => Err("stopped".into()),
        Err(e) => Err(e.to_string()),
    }
}

fn time_step(trainer: &mut Trainer, tokenizer: &Tokenizer, judged: &[Judged], rows: usize, stop: &mut dyn FnMut(usize) -> bool) -> Result<Option<Kernels>> {
    let device = trainer.device().clone();
    let examples = judged.first().map_or(&[][..], |judged| &judged.examples);
    let batch = examples::batch(examples, &trainer.config, &tokenizer.special(), rows)?;
    let mut next = |done: usize| if stop(done) { Err(Error::Interrupted { step: 0 }) } else { Ok(()) };
    next(0)?;
    let Some(ceilings) = bench::ceilings(&device)? else { return Ok(None) };
    let mut quickest: Option<trace::Trace> = None;
    for step in 0..STEPS[0] + STEPS[1] {
        next(1 + step)?;
        if step < STEPS[0] {
            trainer.step(&batch)?;
            continue;
        }
        let (_, traced) = trace::record(&device, trace::TraceOptions::default(), || trainer.step(&batch))?;
        if quickest.as_ref().is_none_or(|quickest| traced.wall < quickest.wall) {
            quickest = Some(traced);
        }
    }
    let traced = quickest.expect("at least one traced step");
    let about = format!("One training step of {} rows ({} samples) on {}, {}", thousands(batch.rows()), batch.samples, traced.device, traced.clock);
    Ok(Some(Kernels::of(traced, ceilings, about)))
}

/// The report at the end of a training, or ctrl-C's exit code. The model is saved by then: whatever goes wrong here is reported and does not
/// fail the training.
pub(super) fn after(run: &mut Run) -> ExitCode {
    let (begin, out, dataset) = (Instant::now(), run.folder.join(REPORT), run.dataset.clone());
    let attributes = setup::attributes(&run.settings, &dataset).unwrap_or_else(|e| {
        warning(format!("no attributes in the report: {e}"));
        Attributes::default()
    });
    let learned = Learned {
        config: &run.trainer.config,
        parameters: &run.trainer.parameters,
        tokenizer: &run.tokenizer,
        device: run.trainer.device(),
        attributes: &attributes,
    };
    let judged = match judge_all(&learned, &run.settings, &dataset, SAMPLES) {
        Err(Error::Interrupted { .. }) => {
            line(format!("no report: stopped; the model is saved, and `trimodal report {}` writes it", quoted(&run.folder)));
            return signals::code();
        }
        judged => judged.map_err(|e| e.to_string()),
    };
    if let Err(why) = &judged {
        warning(format!("no samples in the report: {why}"));
    }
    let commands = again(&run.folder, &run.settings);
    write_of(run, &dataset, &attributes, judged, commands, &out, begin);
    ExitCode::SUCCESS
}

/// Writes the page of a run whose model was judged, or warns. A few more steps are taken for it and then dropped.
pub(super) fn write_of(run: &mut Run, dataset: &Dataset, attributes: &Attributes, judged: Known<Vec<Judged>>, commands: String, out: &Path, begin: Instant) {
    let rows = run.settings.training.rows;
    let kernels = judged.as_ref().map_err(String::clone).and_then(|judged| kernels(&mut run.trainer, &run.tokenizer, judged, rows));
    let (folder, trainer) = (run.folder.as_path(), &run.trainer);
    let told = Told {
        folder,
        settings: &run.settings,
        state: &run.state,
        config: &trainer.config,
        parameters: trainer.parameters.count(),
        device: trainer.device(),
        attributes,
        tokenizer: &run.tokenizer,
        commands,
    };
    if let Err(e) = told.write(Ok(dataset), &judged, &kernels, out, begin) {
        let folder = quoted(folder);
        warning(format!("no report: {e}; the model is saved, and `trimodal report {folder} --out FILE` writes it elsewhere"));
    }
}

/// The commands that make a run again from its settings.
fn again(folder: &Path, settings: &Settings) -> String {
    let data = quoted(&from_text(&settings.data.path));
    format!("trimodal train {data} --out again --config {}\ntrimodal report {}", quoted(&folder.join("config.toml")), quoted(folder))
}
