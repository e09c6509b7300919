//! A training run: from settings to a folder of checkpoints, and on from there.
//!
//! [`Run::start`] or [`Run::resume`], then [`Run::train`]. What a run does depends on its settings and its data alone; so a run that
//! was saved and continued has the same bytes as one that was never stopped.
//!
//! ```no_run
//! use std::{ops::ControlFlow, path::Path};
//! use trimodal::train::{Run, Settings, run::Event};
//!
//! let mut settings = Settings::preset("meadow")?;
//! settings.set("path", "my-data")?;
//! settings.set("steps", "1000")?;
//! let mut run = Run::start(settings, Path::new("my-model"))?;
//! run.train(&mut |run, event| {
//!     if let Event::Step(step) = event {
//!         println!("step {}: loss {}", run.trainer.step, step.report.loss);
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), trimodal::Error>(())
//! ```

use super::batches::Batches;
use super::checkpoint::{self, Best, TrainerState};
use super::evaluate;
use super::examples::{self, Example};
use super::log::{LOG, Log};
use super::model_folder::ModelFolder;
use super::prefetch::Prefetched;
use super::settings::path::from_text;
use super::settings::{OnFull, Settings};
use super::setup::{self, Split};
use super::step::StepReport;
use super::trainer::Trainer;
use crate::data::folder::TableRow;
use crate::data::loader::{BadSamples, DataPosition, LISTED};
use crate::data::{Dataset, Tokenizer};
use crate::error::{Error, Result};
use crate::files::lock::FolderLock;
use crate::files::shown::{quoted, shown_path};
use crate::files::write_file_atomic;
use crate::model::batch::Batch;
use crate::model::flops;
use crate::tensor::DType;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The name of the settings in a run's folder.
pub const CONFIG: &str = "config.toml";

/// A run: a trainer, its batches and its folder.
pub struct Run {
    /// Its settings, resolved: precision and sizes are the ones that are really used.
    pub settings: Settings,
    /// Its folder.
    pub folder: PathBuf,
    /// Nobody else writes into it.
    lock: FolderLock,
    /// The model in training.
    pub trainer: Trainer,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its data set.
    pub dataset: Arc<Dataset>,
    /// What will be saved beside them.
    pub state: TrainerState,
    /// Bytes that the trainer allocates.
    pub memory: u64,
    batches: Batches,
    /// Rows that could not be read when the data set was opened.
    bad_rows: BadSamples,
    /// The next batch, on its way to the device, and the place in the data after it.
    ahead: Option<(Prefetched, DataPosition)>,
    /// A copy of it, where it may be needed again.
    copy: Option<(Batch, DataPosition)>,
    held_out: Vec<Example>,
    log: Log,
    begin: Instant,
    /// Seconds of earlier sessions.
    earlier: f64,
}

/// What [`Run::train`] reports while it works.
pub enum Event<'a> {
    /// A step was taken.
    Step(&'a RunStep),
    /// A step was skipped: its loss or its gradient is not a finite number.
    Skipped(&'a Error),
    /// Held-out samples were evaluated.
    Evaluated(&'a Evaluation),
    /// A checkpoint was written.
    Saved(&'a Path),
    /// A checkpoint could not be written; the run continues, and only a last save that fails is an error.
    NotSaved(&'a Error),
    /// The last checkpoint could not be written, and will be tried again (`saving.on_full`) until it can be or the watcher breaks.
    Waiting(&'a Error),
    /// The log could not be written: its lines are kept, and will be written when it goes again.
    NotLogged(&'a Error),
}

/// A step that a run took.
pub struct RunStep {
    /// Loss, gradient norm, learning rate.
    pub report: StepReport,
    /// Rows of the token matrix, in all its batches.
    pub rows: usize,
    /// Floating-point operations of its products. See [`flops`].
    pub flops: u64,
}

/// What a model makes of held-out samples.
pub struct Evaluation {
    /// Mean cross-entropy per predicted token, in nats.
    pub loss: f64,
    /// Share of the tokens predicted right.
    pub accuracy: f64,
    /// What it says about some, beside what is true.
    pub captions: Vec<(String, String)>,
}

/// How [`Run::train`] ended; the last step is saved in both cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All steps were taken.
    Finished,
    /// The watcher stopped it, or `stop_after` was reached.
    Stopped,
}

impl Run {
    /// Begins a run in a folder that holds none yet.
    ///
    /// # Errors
    /// [`Error::Usage`] where the folder holds a run or the settings make no sense; whatever the data, the device and the system
    /// refuse.
    pub fn start(mut settings: Settings, folder: &Path) -> Result<Self> {
        settings.validate()?;
        let lock = if folder.is_dir() { Some(FolderLock::take(folder)?) } else { None };
        expect_free(folder)?;
        let device = settings.open_device()?;
        settings.training.precision = settings.training.precision.on(&device).into();
        let dataset = Arc::new(setup::open(&settings)?);
        let (config, tokenizer, parameters) = setup::model(&mut settings, &dataset, &device)?;
        // A folder that cannot be made is found now, not when there is something to save.
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let lock = match lock {
            Some(lock) => lock,
            None => FolderLock::take(folder)?,
        };
        expect_free(folder)?; // somebody else may have begun a run there meanwhile
        let (trainer, memory) = setup::trainer(&settings, &config, &device, parameters)?;
        Self::assemble(settings, folder, lock, trainer, tokenizer, memory, dataset, TrainerState::default())
    }

    /// Continues a run from its latest checkpoint. `change` may change its settings, from those that it had.
    ///
    /// # Errors
    /// [`Error::Usage`] naming a setting that must not change; whatever does not fit in the checkpoint, by file and tensor.
    pub fn resume(folder: &Path, change: impl FnOnce(&mut Settings) -> Result<()>) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::file(folder, "there is no such folder; a run is a folder that `trimodal train` wrote"));
        }
        let lock = FolderLock::take(folder)?;
        let path = checkpoint::latest(folder)?;
        let before = checkpoint::read_state(&path)?.settings;
        let before = before.ok_or_else(|| Error::file(path.join("trainer_state.json"), "no settings in it: this is not a checkpoint of a run"))?;
        let mut settings = before.clone();
        change(&mut settings)?;
        settings.validate()?;
        let device = settings.open_device()?;
        settings.training.precision = settings.training.precision.on(&device).into();
        if let Some((key, was, now)) = before.first_change(&settings) {
            let what = format!("{key}: the run in {} began with {was}, and cannot continue with {now}; a new run with --from can", shown_path(folder));
            return Err(Error::Usage(what));
        }
        let dataset = Arc::new(setup::open(&settings)?);
        let ModelFolder { config, parameters, tokenizer, .. } = ModelFolder::open(&path, &device, DType::F32)?;
        let (mut trainer, memory) = setup::trainer(&settings, &config, &device, parameters)?;
        let state = checkpoint::restore(&path, &mut trainer)?;
        checkpoint::sweep(folder);
        Self::assemble(settings, folder, lock, trainer, tokenizer, memory, dataset, state)
    }

    fn assemble(
        mut settings: Settings,
        folder: &Path,
        lock: FolderLock,
        trainer: Trainer,
        tokenizer: Tokenizer,
        memory: u64,
        dataset: Arc<Dataset>,
        mut state: TrainerState,
    ) -> Result<Self> {
        let config = &trainer.config;
        let split = Split::new(&settings, &dataset);
        let rows: Vec<usize> = (0..dataset.rows().len()).filter(|&i| split.trains(&dataset.rows()[i])).collect();
        if rows.is_empty() {
            let what = format!("no row to train on: none has the split {:?} (data.train_split)", settings.data.train_split);
            return Err(Error::file(from_text(&settings.data.path), what));
        }
        if state.step > 0 && state.data_rows != rows.len() as u64 {
            let what = format!("expected the {} rows that the run has trained on, found {}", state.data_rows, rows.len());
            return Err(Error::file(from_text(&settings.data.path), what));
        }
        state.data_rows = rows.len() as u64;
        let left = Cell::new(settings.evaluation.eval_samples);
        let taken = |row: &TableRow| split.judges(row) && left.get() > 0 && left.replace(left.get() - 1) > 0;
        let held_out = examples::load(&dataset, config, &tokenizer, trainer.device(), taken, &mut |_, _| ControlFlow::Continue(()))?;
        if split.wanted() && held_out.is_empty() {
            let what =
                format!("no row to evaluate on: evaluation.eval_split is {:?}, held_out {}", settings.evaluation.eval_split, settings.evaluation.held_out);
            return Err(Error::file(from_text(&settings.data.path), what));
        }
        let (recipe, bad_rows) = (setup::recipe(&settings), dataset.bad().clone());
        let batches = Batches::start(dataset.clone(), rows, config, &tokenizer, recipe, settings.loading(), state.position)?;
        let (log, earlier) = Log::open(folder, state.step)?;
        let stop_after = std::mem::replace(&mut settings.training.stop_after, 0); // not remembered
        let path = folder.join(CONFIG);
        write_file_atomic(&path, settings.to_toml())?;
        state.settings = Some(settings.clone());
        settings.training.stop_after = stop_after;
        let folder = folder.to_path_buf();
        Ok(Run {
            settings,
            folder,
            lock,
            trainer,
            tokenizer,
            dataset,
            state,
            memory,
            batches,
            bad_rows,
            ahead: None,
            copy: None,
            held_out,
            log,
            begin: Instant::now(),
            earlier,
        })
    }

    /// Rows of the data set that are trained on, and samples that are evaluated.
    pub fn samples(&self) -> (u64, usize) {
        (self.state.data_rows, self.held_out.len())
    }

    /// The samples that were skipped because they are bad.
    pub fn bad(&self) -> BadSamples {
        let mut bad = self.bad_rows.clone();
        let decoded = self.batches.bad();
        bad.count += decoded.count;
        bad.first.extend(decoded.first);
        bad.first.truncate(LISTED);
        bad
    }

    /// Seconds of training so far, those before a resume included.
    pub fn seconds(&self) -> f64 {
        self.earlier + self.begin.elapsed().as_secs_f64()
    }

    /// Trains until all steps are taken or `watch` stops it; then the last step is saved.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where more steps than may be skipped have a loss or gradient that is not finite: nothing is saved then;
    /// [`Error::BadSamples`]; whatever the device and the system refuse.
    pub fn train(&mut self, watch: &mut dyn FnMut(&Run, Event) -> ControlFlow<()>) -> Result<Ended> {
        let steps = self.settings.training.steps;
        let mut saved = Instant::now();
        self.begin = Instant::now();
        while self.trainer.step < steps {
            let taken = match self.step() {
                Ok(done) => done,
                Err(e @ Error::NonFinite { .. }) if self.state.skipped < self.settings.training.skip_nonfinite => {
                    self.state.skipped += 1;
                    let Error::NonFinite { step, what, samples } = &e else { unreachable!("matched above") };
                    self.log.line(&serde_json::json!({ "step": step, "skipped": what, "samples": samples }));
                    self.say_trouble(watch);
                    if watch(self, Event::Skipped(&e)).is_break() {
                        self.save_at_last(watch)?;
                        return Ok(Ended::Stopped);
                    }
                    continue;
                }
                Err(e) => return Err(e),
            };
            let step = self.trainer.step;
            let report = taken.report;
            (self.state.step, self.state.tokens) = (step, self.state.tokens + taken.rows as u64);
            let loss = report.loss as f64;
            self.state.loss = Some(self.state.loss.map_or(loss, |mean| 0.98 * mean + 0.02 * loss));
            self.log.line(&serde_json::json!({
                "step": step, "loss": report.loss, "learning_rate": report.learning_rate, "gradient_norm": report.gradient_norm,
                "tokens": self.state.tokens, "seconds": (self.seconds() * 1000.0).round() / 1000.0,
            }));
            self.say_trouble(watch);
            let stop = watch(self, Event::Step(&taken)).is_break() || step == self.settings.training.stop_after;
            let last = step == steps || stop;
            let (eval_steps, saving) = (self.settings.evaluation.eval_steps, self.settings.saving.clone());
            let due = |every: usize| every > 0 && step.is_multiple_of(every);
            if !self.held_out.is_empty() && (due(eval_steps) || step == steps) {
                let evaluation = self.evaluate()?;
                if self.state.best.is_none_or(|best| evaluation.loss < best.loss) {
                    self.state.best = Some(Best { step, loss: evaluation.loss });
                }
                let best = self.state.best.is_some_and(|best| best.step == step);
                let _ = watch(self, Event::Evaluated(&evaluation)); // a wish to stop is asked for again after the next step
                if best && !last {
                    self.save_or_warn(watch);
                    saved = Instant::now();
                    continue;
                }
            }
            if last {
                break;
            }
            if due(saving.save_steps) || saving.save_seconds > 0 && saved.elapsed() >= Duration::from_secs(saving.save_seconds) {
                self.save_or_warn(watch);
                saved = Instant::now();
            }
        }
        let path = self.save_at_last(watch)?;
        let _ = watch(self, Event::Saved(&path));
        Ok(if self.trainer.step < steps { Ended::Stopped } else { Ended::Finished })
    }

    /// Saves a checkpoint now and returns where.
    ///
    /// # Errors
    /// As [`checkpoint::save`].
    pub fn save(&mut self) -> Result<PathBuf> {
        self.make_whole()?;
        // First the log: a run that continues here must find every line up to here.
        self.log.sync();
        checkpoint::save(&self.folder, &self.trainer, &self.tokenizer, &self.state, self.settings.saving.keep)
    }

    /// A disk that is full now may have room later.
    fn save_or_warn(&mut self, watch: &mut dyn FnMut(&Run, Event) -> ControlFlow<()>) {
        let _ = match self.save() {
            Ok(path) => watch(self, Event::Saved(&path)),
            Err(e) => watch(self, Event::NotSaved(&e)),
        };
        self.say_trouble(watch);
    }

    /// The last save: what it would lose is worth a wait.
    fn save_at_last(&mut self, watch: &mut dyn FnMut(&Run, Event) -> ControlFlow<()>) -> Result<PathBuf> {
        let mut pause = Duration::from_secs(1);
        loop {
            let refused = match self.save() {
                // Also where somebody else has made the folder meanwhile.
                Err(e @ (Error::Io { .. } | Error::File { .. })) if self.settings.saving.on_full == OnFull::Wait => e,
                done => {
                    self.say_trouble(watch);
                    return done;
                }
            };
            let tried = Instant::now();
            while tried.elapsed() < pause {
                if watch(self, Event::Waiting(&refused)).is_break() {
                    return Err(refused);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// A folder that was removed or moved away under way is made again, with everything that a run continues from. What was best is gone
    /// with it, and the next evaluation decides anew.
    fn make_whole(&mut self) -> Result<()> {
        self.lock.again()?;
        let path = self.folder.join(CONFIG);
        if let (false, Some(settings)) = (path.exists(), &self.state.settings) {
            let _ = write_file_atomic(&path, settings.to_toml()); // the checkpoint has them too
        }
        if self.state.best.is_some_and(|best| best.step != self.trainer.step) && !self.folder.join("best").exists() {
            self.state.best = None;
        }
        Ok(())
    }

    fn say_trouble(&mut self, watch: &mut dyn FnMut(&Run, Event) -> ControlFlow<()>) {
        if let Some(e) = self.log.trouble() {
            let _ = watch(self, Event::NotLogged(&e));
        }
    }

    /// One optimiser step. The place in the data moves on even if the step changes nothing.
    fn step(&mut self) -> Result<RunStep> {
        let batches = self.settings.training.accumulate;
        if batches > 1 {
            let drawn = (0..batches).map(|_| self.batches.draw()).collect::<Result<Vec<_>>>()?;
            self.state.position = drawn.last().expect("at least one").1;
            let batches: Vec<Batch> = drawn.into_iter().map(|(batch, _)| batch).collect();
            let report = self.trainer.step_accumulated(&batches)?;
            return Ok(self.taken(report, &batches));
        }
        let Run { trainer, batches, settings, ahead, copy, .. } = self;
        let steps = settings.training.steps;
        let mut keep = |last: bool, copy: &mut Option<(Batch, DataPosition)>| -> Result<(Batch, DataPosition)> {
            let drawn = batches.draw()?;
            // The last batch is not followed by another, and one after a step that is skipped must not be lost.
            *copy = (last || settings.training.skip_nonfinite > 0).then(|| drawn.clone());
            Ok(drawn)
        };
        let (prefetched, after) = match ahead.take() {
            Some(ahead) => ahead,
            None => {
                let (batch, after) = keep(trainer.step + 1 == steps, copy)?;
                (trainer.prefetch(batch)?, after)
            }
        };
        let (last, before_last) = (trainer.step + 1 == steps, trainer.step + 2 >= steps);
        let mut place = after;
        let stepped = trainer.step_prefetched(prefetched, || {
            if last {
                // Not used: nothing follows.
                return Ok(copy.as_ref().map(|(batch, _)| batch.clone()).unwrap_or_default());
            }
            let (batch, after) = keep(before_last, copy)?;
            place = after;
            Ok(batch)
        });
        self.state.position = after;
        match stepped {
            Ok((report, batch, prefetched)) => {
                self.ahead = Some((prefetched, place));
                Ok(self.taken(report, std::slice::from_ref(&batch)))
            }
            Err(e) => {
                // None was drawn after the last batch.
                if let (Error::NonFinite { .. }, Some((batch, after)), false) = (&e, &self.copy, last) {
                    self.ahead = Some((self.trainer.prefetch(batch.clone())?, *after));
                }
                Err(e)
            }
        }
    }

    fn taken(&self, report: StepReport, batches: &[Batch]) -> RunStep {
        let flops = batches.iter().map(|batch| flops(&self.trainer.config, batch)).sum();
        RunStep { report, rows: batches.iter().map(Batch::rows).sum(), flops }
    }

    /// Judges the model on what it does not train on.
    fn evaluate(&mut self) -> Result<Evaluation> {
        let mut go_on = |_, _| ControlFlow::Continue(());
        let (config, parameters) = (&self.trainer.config, &self.trainer.parameters);
        let losses = evaluate::loss(config, parameters, &self.tokenizer, &self.held_out, &mut go_on)?;
        let some = &self.held_out[..self.settings.evaluation.captions.min(self.held_out.len())];
        let said = if some.is_empty() { Vec::new() } else { evaluate::describe(config, parameters, &self.tokenizer, some, &mut go_on)? };
        let captions: Vec<_> = said.into_iter().zip(some.iter().map(|example| example.text.clone())).collect();
        let evaluation = Evaluation { loss: losses.loss, accuracy: losses.accuracy(), captions };
        let shown: Vec<_> = evaluation.captions.iter().map(|(said, truth)| serde_json::json!({ "said": said, "truth": truth })).collect();
        self.log.line(&serde_json::json!({
            "step": self.trainer.step, "evaluation": { "loss": evaluation.loss, "token_accuracy": evaluation.accuracy, "samples": self.held_out.len(), "captions": shown },
        }));
        Ok(evaluation)
    }
}

/// A run that ended before it was first saved may be begun again; a config.toml of somebody else's stays.
fn expect_free(folder: &Path) -> Result<()> {
    let taken = checkpoint::is_run(folder) || folder.join("config.json").exists();
    if taken || folder.join(CONFIG).exists() && !folder.join(LOG).exists() {
        let (name, word) = (shown_path(folder), quoted(folder));
        return Err(Error::Usage(format!("{name} already holds a run: `trimodal train --resume {word}` continues it, another --out starts a new one")));
    }
    Ok(())
}
