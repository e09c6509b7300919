//! `trimodal train`: trains a model on pictures, sounds and captions.

use super::terminal::line;
use super::{ColumnArguments, PrecisionName, progress, report, signals};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::data::loader::OnBadSample;
use trimodal::files::shown::{quoted, shown_path};
use trimodal::numbers::thousands;
use trimodal::train::run::{CONFIG, Ended};
use trimodal::train::settings::path::to_text;
use trimodal::train::settings::{OnFull, PrecisionChoice};
use trimodal::train::{Run, Settings, checkpoint};
use trimodal::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  trimodal train my-data --out my-model
  trimodal train my-data --out my-model --config real        for pictures that people drew or took
  trimodal train my-data --out my-model --config small --device cuda --set learning_rate=3e-4
  trimodal train my-data --out my-model --config my.toml --set held_out=0.05 --set accumulate=4
  trimodal train my-data --out my-model --from Qwen3-0.6B
  trimodal train my-data --out my-model --set held_out=0.1 --set best_by=exact --set patience=5
  trimodal train --resume my-model

DATA is a folder with a metadata.jsonl, one line per sample, paths inside the folder:
  {\"file_name\": \"images/0.png\", \"audio\": \"audio/0.wav\", \"text\": \"a fluffy orange cat purring\"}
`file_name` is a picture (PNG, JPEG, WebP), `audio` a sound (WAV, FLAC, MP3, Ogg Vorbis); a sample may have either or both. Or it is \
shards, or Parquet files (`trimodal data --help` lists them all). Where lines have a \
`split`, only those that say \"train\" are trained on, and one that is called validation (valid, val, dev) or else test (eval) judges the run; \
`--set eval_split=` leaves that out. Where every line has both, `--set modality_dropout=0.2` teaches what to say to a picture or a sound alone. `trimodal data` looks at a data set first, `trimodal config` explains every key.

Before the first step every row to train on and to evaluate is checked as far as its table and the beginnings of its files tell: a \
caption that is too long for the model stops the run now (or is skipped, with --on-bad-sample skip), and not after hours.

RUN becomes a folder of checkpoints, each a whole model folder (config.json, model.safetensors, tokenizer.json, and what the \
optimiser needs to continue, with the digests of all of it in SHA256SUMS), beside config.toml, log.jsonl, loss.svg and, at the end, report.html: what it learned, on one page (up to 200 \
samples of each split are judged for it; --no-report saves that time). Ctrl-C, SIGTERM (a scheduler) and SIGHUP (a closed terminal) \
stop after the current step, save, and say how to continue; a second one stops at once. The exit code is then 128 + the signal's number. A run \
that was continued has the same bytes as one that was never stopped. One process at a time trains a run; any number may read it.";

/// Train a model on pictures, sounds and captions
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// The data set: a folder, a .tar shard or a .parquet file, or several by a pattern such as data/shard-{000000..000012}.tar
    #[arg(value_name = "DATA")]
    data: Option<PathBuf>,
    /// The folder to write the run to; it must not hold a run yet
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Continue this run
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "config", "from"])]
    resume: Option<PathBuf>,
    /// A preset (meadow, meadow-wide, real, small, large), a .toml file as `trimodal config` prints it, or a config.json to take the sizes from
    #[arg(long, value_name = "NAME|FILE", default_value = "meadow")]
    config: String,
    /// Change a key of the config; can be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    columns: ColumnArguments,
    /// Start from the model in this folder, in Qwen3's layout, and its tokenizer
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// A JSON file that declares what captions name, such as {"species": ["cat", "dog"]}: the report judges them one by one
    #[arg(long, value_name = "FILE")]
    attributes: Option<PathBuf>,
    /// With --resume: stop where the data set has changed since the run was saved, instead of warning
    #[arg(long)]
    strict_data: bool,
    /// auto (a GPU if there is one, else the CPU), cpu, wgpu, cuda or emulator
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// Part of the name of the wgpu adapter to take; `trimodal devices` lists them
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// f32, or bf16 (mixed precision) [default: bf16 on cuda, f32 elsewhere]
    #[arg(long, value_name = "DTYPE", value_enum)]
    precision: Option<PrecisionName>,
    /// The number of training steps
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// The seed of the initial parameters and the order of training
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// What to do at a sample that cannot be read: stop and list the first ten, or skip it
    #[arg(long, value_name = "WHAT", value_parser = ["stop", "skip"])]
    on_bad_sample: Option<String>,
    /// What to do where the last checkpoint cannot be written, as on a full disk: stop with an error, or wait and try again until it can
    #[arg(long, value_name = "WHAT", value_parser = ["stop", "wait"])]
    on_full: Option<String>,
    /// Skip at most this many steps whose loss or gradient is not a number
    #[arg(long, value_name = "K")]
    skip_nonfinite: Option<usize>,
    /// Do not write report.html at the end; `trimodal report RUN` can write it later
    #[arg(long)]
    no_report: bool,
}

impl Train {
    pub fn run(self) -> Result<ExitCode> {
        let mut run = match (&self.resume, &self.data, &self.out) {
            (Some(folder), ..) => Run::resume(folder, |settings| {
                // What a person has written into config.toml since then counts.
                let path = folder.join(CONFIG);
                if path.is_file() {
                    *settings = Settings::read(&path)?;
                }
                self.change(settings)
            })?,
            (None, Some(_), Some(out)) => {
                let mut settings = Settings::named(&self.config)?;
                self.change(&mut settings)?;
                let run = Run::start(settings, out)?;
                // The default is the demo's: it suits its drawings.
                if self.config == "meadow" && run.trainer.config.vision_config.is_some() && !run.dataset.is_meadow() {
                    line("tip:   `--config real` is meant for pictures that people drew or took; this is the demo's model");
                }
                run
            }
            (None, None, _) => return Err(Error::Usage("nothing to train on: expected DATA and --out RUN, or --resume RUN".into())),
            (None, Some(_), None) => return Err(Error::Usage("expected --out RUN: the folder to write the run to, which must not hold a run yet".into())),
        };
        let trained = progress::train(&mut run)?;
        let folder = quoted(&run.folder);
        if trained.ended != Ended::Stopped {
            // It is saved, whatever happens to the folder now.
            let path = checkpoint::latest(&run.folder).unwrap_or_else(|_| run.folder.clone());
            line(format!("model: {} ({} parameters)", shown_path(&path), thousands(run.trainer.parameters.count())));
            let mut asked = folder.clone();
            if let (Some(best), Ok(Some(at))) = (&run.state.best, checkpoint::best(&run.folder)) {
                if at != path {
                    line(format!("best:  {} (held out: {})", shown_path(&at), best.figure(&run.settings.evaluation.best_by)));
                }
                if trained.ended == Ended::FinishedEarly {
                    asked = quoted(&at);
                }
            }
            let config = &run.trainer.config;
            let asks = match (&config.vision_config, &config.audio_config) {
                (Some(_), Some(_)) => "--image PICTURE --audio SOUND",
                (Some(_), None) => "--image PICTURE",
                (None, Some(_)) => "--audio SOUND",
                (None, None) => "--prompt WORDS",
            };
            line(format!("try:   trimodal describe {asked} {asks}"));
            let never: Vec<&str> = [(true, false), (false, true)].into_iter().filter_map(|(picture, sound)| config.never_met(picture, sound)).collect();
            if let (Some(_), Some(_), false) = (&config.vision_config, &config.audio_config, never.is_empty()) {
                line(format!("       ({}: what it says to one alone was not trained)", never.join(", and ")));
            }
            if !self.no_report {
                return Ok(report::after(&mut run));
            }
        }
        // A signal has its code as everywhere; `stop_after` was planned.
        match trained.ended {
            Ended::Stopped if signals::received().is_some() => Ok(signals::code()),
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    /// Puts the command line over settings.
    fn change(&self, settings: &mut Settings) -> Result<()> {
        settings.set_all(&self.set)?;
        let text = |path: &PathBuf| to_text(path);
        let Settings { model, data, training, saving, .. } = settings;
        if let Some(path) = &self.data {
            // As seen from anywhere: a run may be continued from another folder.
            data.path = text(&std::path::absolute(path).map_err(Error::io(path, "find"))?);
        }
        if let Some(columns) = &self.columns.columns {
            data.columns = columns.to_string();
        }
        if let Some(path) = &self.attributes {
            data.attributes = text(&std::path::absolute(path).map_err(Error::io(path, "find"))?);
        }
        data.strict_data |= self.strict_data;
        model.from = self.from.as_ref().map_or(std::mem::take(&mut model.from), text);
        training.device = self.device.clone().unwrap_or(std::mem::take(&mut training.device));
        training.adapter = self.adapter.clone().unwrap_or(std::mem::take(&mut training.adapter));
        training.steps = self.steps.unwrap_or(training.steps);
        training.seed = self.seed.unwrap_or(training.seed);
        training.skip_nonfinite = self.skip_nonfinite.unwrap_or(training.skip_nonfinite);
        match self.precision {
            None => {}
            Some(PrecisionName::F32) => training.precision = PrecisionChoice::F32,
            Some(PrecisionName::Bf16) => training.precision = PrecisionChoice::Bf16,
        }
        match self.on_bad_sample.as_deref() {
            None => {}
            Some("skip") => data.on_bad_sample = OnBadSample::Skip,
            Some(_) => data.on_bad_sample = OnBadSample::Stop,
        }
        match self.on_full.as_deref() {
            None => {}
            Some("wait") => saving.on_full = OnFull::Wait,
            Some(_) => saving.on_full = OnFull::Stop,
        }
        Ok(())
    }
}
