//! `trimodal train`: trains a model on a folder of pictures, sounds and captions.

use super::terminal::{Paint, bytes, line, stop_flag, thousands};
use super::{DeviceArguments, PrecisionArguments};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use trimodal::data::folder::Row;
use trimodal::data::{Dataset, Limits, Tokenizer};
use trimodal::model::Config;
use trimodal::model::batch::Capacity;
use trimodal::train::fit::{Batches, fit, start};
use trimodal::train::{Example, Options, Recipe, Trainer, examples, folder};
use trimodal::{Device, Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal train my-data --out my-model
  trimodal train my-data --out my-model --steps 10000 --device wgpu
  trimodal train my-data --out my-model --config meadow-wide

DATA is a folder with a metadata.jsonl, one line per sample, paths inside the folder:
  {\"file_name\": \"images/0.png\", \"audio\": \"audio/0.wav\", \"text\": \"a fluffy orange cat purring\"}
`file_name` is a picture (PNG or JPEG), `audio` a sound (WAV); a sample may have either or both. Where lines have a \
`split`, only those that say \"train\" are trained on.

RUN becomes a model folder: config.json, model.safetensors, tokenizer.json, the optimiser's state and loss.svg. It is \
saved every minute and at the end; ctrl-C stops after the current step and saves what was learned.";

/// Train a model on a folder of pictures, sounds and captions
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// The folder with metadata.jsonl
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The folder of the model
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// A preset (meadow, meadow-wide), or a config.json whose sizes to take
    #[arg(long, value_name = "NAME|FILE", default_value = "meadow")]
    config: String,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
    /// Training steps in all
    #[arg(long, value_name = "N", default_value_t = 2000)]
    steps: usize,
    /// What decides the initial parameters and the order of training
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

/// How often a run saves what it has learned so far, against power cuts and lost devices.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Tokens that a tokenizer may have that is trained on a data set's captions.
const VOCABULARY: usize = 1024;

impl Train {
    pub fn run(self) -> Result<ExitCode> {
        let device = self.device.open()?;
        if self.steps == 0 {
            return Err(Error::Usage("--steps: expected at least 1".into()));
        }
        let dataset = Dataset::open(&self.data, &Limits::default())?;
        let (config, tokenizer) = prepare(&dataset, &self.config)?;
        let examples = load(&dataset, &config, &tokenizer, &device, "decoding", in_split(&dataset, "train"))?;
        let recipe = Recipe { precision: self.precision.get(), ..Recipe::meadow(self.steps, self.seed) };
        let trained = train(&config, &tokenizer, &recipe, &device, &examples, &self.out)?;
        line(format!("model: {} ({} parameters)", self.out.display(), thousands(trained.trainer.parameters.count())));
        line(format!("try:   trimodal describe {} --image PICTURE --audio SOUND", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// Which rows belong to a split. A data set without splits is all `train`.
pub(super) fn in_split<'a>(dataset: &Dataset, split: &'a str) -> impl Fn(&Row) -> bool + use<'a> {
    let without_splits = dataset.rows().iter().all(|row| row.split.is_none()); // asked once, not for every row
    move |row| match &row.split {
        Some(named) => named == split,
        None => without_splits && split == "train",
    }
}

/// The tokenizer of a data set's captions, and the config by name or file for it.
pub(super) fn prepare(dataset: &Dataset, name: &str) -> Result<(Config, Tokenizer)> {
    let learned = in_split(dataset, "train");
    let captions: Vec<&str> = dataset.rows().iter().filter(|row| learned(row)).filter_map(|row| row.text.as_deref()).collect();
    if captions.is_empty() {
        let what = "no line to train on: expected lines with `text` and, where any line has a `split`, some that say \"split\": \"train\"";
        return Err(Error::file(dataset.dir().join("metadata.jsonl"), what));
    }
    let tokenizer = Tokenizer::train(captions, VOCABULARY)?;
    let path = Path::new(name);
    let mut config = if name.ends_with(".json") || path.is_file() { Config::read(path)? } else { Config::preset(name, tokenizer.vocabulary())? };
    config.vocab_size = tokenizer.vocabulary();
    config.bos_token_id = Some(tokenizer.special().bos);
    config.eos_token_id = Some(tokenizer.special().eos);
    config.validate().map_err(|what| Error::Usage(format!("--config {name}: {what}")))?;
    Ok((config, tokenizer))
}

/// Decodes the rows of a data set under a progress bar; ctrl-C stops it.
pub(super) fn load(
    dataset: &Dataset,
    config: &Config,
    tokenizer: &Tokenizer,
    device: &Device,
    doing: &str,
    keep: impl Fn(&Row) -> bool,
) -> Result<Vec<Example>> {
    let bar = progress(doing);
    let loaded = examples::load(dataset, config, tokenizer, device, keep, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let loaded = loaded?;
    if loaded.is_empty() {
        return Err(Error::file(dataset.dir().join("metadata.jsonl"), "no line belongs to this split"));
    }
    Ok(loaded)
}

/// A bar that counts things.
pub(super) fn progress(doing: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>12} {bar:40} {pos}/{len}, {eta} left").expect("a fixed template");
    ProgressBar::new(0).with_style(style).with_message(doing.to_string())
}

/// Moves a bar, and breaks where the user pressed ctrl-C.
pub(super) fn advance(bar: &ProgressBar, done: usize, total: usize) -> ControlFlow<()> {
    bar.set_length(total as u64);
    bar.set_position(done as u64);
    if stop_flag().load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// A finished training.
pub(super) struct Trained {
    pub trainer: Trainer,
    pub seconds: f64,
    pub tokens_per_second: f64,
}

/// Trains under a progress bar, saves the model and `loss.svg`; after ctrl-C too.
pub(super) fn train(config: &Config, tokenizer: &Tokenizer, recipe: &Recipe, device: &Device, examples: &[Example], out: &Path) -> Result<Trained> {
    // A folder that cannot be made is found now, not when there is something to save.
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let capacity = Capacity::for_budget(config, recipe.rows);
    let need = Trainer::bytes(config, capacity, Options::new(recipe.precision.dtype()));
    let mut trainer = start(config, recipe, device)?;
    line(format!(
        "training {} parameters on {} samples, {} steps of up to {} rows, on {device}: {} of memory",
        thousands(trainer.parameters.count()),
        thousands(examples.len()),
        thousands(recipe.schedule.steps),
        thousands(recipe.rows),
        bytes(need)
    ));
    let mut batches = Batches::new(examples, config, tokenizer.special(), *recipe)?;
    let style = ProgressStyle::with_template("    training {bar:40} {pos}/{len} {msg}, {eta} left").expect("a fixed template");
    let bar = ProgressBar::new(recipe.schedule.steps as u64).with_style(style);
    let (begin, mut tokens, mut losses, mut smooth) = (Instant::now(), 0usize, Vec::new(), None);
    let stop = stop_flag();
    let mut saved = Instant::now();
    let outcome = fit(&mut trainer, &mut batches, |trainer, step_report, batch| {
        let step = trainer.step;
        tokens += batch.rows();
        losses.push((step, step_report.loss as f64));
        let mean = smooth.map_or(step_report.loss, |s: f32| 0.98 * s + 0.02 * step_report.loss);
        smooth = Some(mean);
        bar.set_position(step as u64);
        bar.set_message(format!("loss {mean:.3}, {} tokens/s", thousands((tokens as f64 / begin.elapsed().as_secs_f64()) as usize)));
        if saved.elapsed() > SAVE_EVERY {
            // A disk that is full now may have room later: the run goes on, and the last save decides.
            if let Err(e) = folder::save(out, trainer, tokenizer, &state(trainer, recipe, begin, smooth)) {
                bar.suspend(|| eprintln!("{} not saved: {e}", Paint::stderr().bad("warning:")));
            }
            saved = Instant::now();
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64();
    if !matches!(outcome, Ok(()) | Err(Error::Interrupted { .. })) {
        return Err(outcome.expect_err("neither finished nor interrupted"));
    }
    folder::save(out, &trainer, tokenizer, &state(&trainer, recipe, begin, smooth))?;
    // A plot that cannot be drawn does not lose the training.
    if let Err(e) = report::loss_svg(&out.join("loss.svg"), &losses) {
        eprintln!("{} {e}", Paint::stderr().bad("warning:"));
    }
    if let Err(interrupted) = outcome {
        line(format!("saved step {} to {}", trainer.step, out.display()));
        return Err(interrupted);
    }
    line(format!("trained in {seconds:.0} s, loss {:.3}", smooth.unwrap_or(f32::NAN)));
    Ok(Trained { trainer, seconds, tokens_per_second: tokens as f64 / seconds })
}

/// What is saved beside the model to say how it was made.
fn state(trainer: &Trainer, recipe: &Recipe, begin: Instant, loss: Option<f32>) -> serde_json::Value {
    serde_json::json!({
        "step": trainer.step, "recipe": recipe, "seconds": begin.elapsed().as_secs_f64(), "loss": loss,
        "version": env!("CARGO_PKG_VERSION"), "device": trainer.device().to_string(),
    })
}
