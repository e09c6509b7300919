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

use super::alone;
use super::batches::Batches;
use super::checkpoint::{self, Best, TrainerState};
use super::choices::Choices;
use super::criterion::Criterion;
use super::evaluate::Scores;
use super::examples::{self, Example};
use super::fingerprint::{DataFingerprint, Fingerprint};
use super::log::{LOG, Log};
use super::model_folder::ModelFolder;
use super::prefetch::Prefetched;
use super::preflight::{self, Note};
use super::settings::path::from_text;
use super::settings::{OnFull, Settings};
use super::setup::{self, Split};
use super::step::StepReport;
use super::stratified::{evenly_spaced, stratified};
use super::trainer::Trainer;
use super::{classes, digest, evaluate, fit};
use crate::data::folder::TableRow;
use crate::data::loader::{BadSamples, DataPosition, LISTED, OnBadSample};
use crate::data::{Attributes, Dataset, Tokenizer};
use crate::error::{Error, Result};
use crate::files::lock::FolderLock;
use crate::files::shown::{quoted, shown_path};
use crate::files::write_file_atomic;
use crate::model::batch::Batch;
use crate::model::{Config, flops};
use crate::tensor::DType;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The name of the settings in a run's folder.
pub const CONFIG: &str = "config.toml";
/// The file of a run with the captions that it tells apart, one on each line: a list to answer from.
pub const CAPTIONS: &str = "captions.txt";

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
    /// What one wants to know before it trains.
    pub notes: Vec<Note>,
    /// What it is trained on, with its name.
    device: String,
    batches: Batches,
    /// Samples to evaluate that could not be decoded.
    bad_held_out: BadSamples,
    /// The next batch, on its way to the device, and the place in the data after it.
    ahead: Option<(Prefetched, DataPosition)>,
    /// A copy of it, where it may be needed again.
    copy: Option<(Batch, DataPosition)>,
    /// Why there is no next batch: the step before it counts.
    no_batch: Option<Error>,
    held_out: Vec<Example>,
    /// By what one evaluation is better than another.
    criterion: Criterion,
    /// What captions say one by one, where the settings ask for it.
    attributes: Attributes,
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
    /// Held-out samples are being evaluated. Who breaks here stops the run, and it is evaluated when it is continued.
    Evaluating,
    /// Held-out samples were evaluated.
    Evaluated(&'a Evaluation),
    /// Held-out samples could not be evaluated, or not be described; the model was saved, and the run continues.
    NotEvaluated(&'a Error),
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
    /// What all captions get right, whole and attribute by attribute, where `evaluation.best_by` asks for either.
    pub scores: Option<Scores>,
    /// What it says about some, beside what is true.
    pub captions: Vec<(String, String)>,
}

/// What came of an evaluation.
enum Judged {
    /// The best so far.
    Better,
    NotBetter,
    /// It failed, and the model was saved.
    Saved,
    /// The watcher stopped it.
    Stopped,
}

/// How [`Run::train`] ended; the last step is saved in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All steps were taken.
    Finished,
    /// As many evaluations as `evaluation.patience` says were not better than the best.
    FinishedEarly,
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
        if settings.model.from.is_empty() {
            fit::expect_at_least(&settings, &device)?;
        }
        let dataset = Arc::new(setup::open(&settings)?);
        let (config, tokenizer, parameters, captions) = setup::model(&mut settings, &dataset, &device)?;
        // A folder that cannot be made is found now, not when there is something to save.
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let lock = match lock {
            Some(lock) => lock,
            None => FolderLock::take(folder)?,
        };
        expect_free(folder)?; // somebody else may have begun a run there meanwhile
        let (trainer, memory) = setup::trainer(&settings, &config, &device, parameters, captions.ids())?;
        Self::assemble(settings, folder, lock, trainer, tokenizer, memory, dataset, &captions, TrainerState::default(), Vec::new())
    }

    /// Continues a run from its latest checkpoint. `change` may change its settings, from those that it had.
    ///
    /// # Errors
    /// [`Error::Usage`] naming a setting that must not change; a file of the checkpoint that is not as it was saved; whatever does not fit
    /// in it, by file and tensor.
    pub fn resume(folder: &Path, change: impl FnOnce(&mut Settings) -> Result<()>) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::file(folder, "there is no such folder; a run is a folder that `trimodal train` wrote"));
        }
        let lock = FolderLock::take(folder)?;
        let path = checkpoint::latest(folder)?;
        let mut notes = Vec::new();
        if digest::verify(&path)?.is_none() {
            let what = format!("{} has no {}: an older version wrote it, so neither its files nor its data are checked", shown_path(&path), digest::SUMS);
            notes.push(Note::Warning(what));
        }
        if !folder.join(LOG).exists() {
            let what = format!("{} is missing: the curves of this run will begin here", shown_path(folder.join(LOG)));
            notes.push(Note::Warning(what));
        }
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
        fit::expect(&settings, &Config::load(&path.join("config.json"))?, &device, 0)?;
        let dataset = Arc::new(setup::open(&settings)?);
        let ModelFolder { config, parameters, tokenizer, .. } = ModelFolder::open(&path, &device, DType::F32)?;
        let captions = setup::told_apart(&settings, &dataset, &tokenizer);
        let (mut trainer, memory) = setup::trainer(&settings, &config, &device, parameters, captions.ids())?;
        let mut state = checkpoint::restore(&path, &mut trainer)?;
        let [was, is] = [&before, &settings].map(|settings| &settings.evaluation.best_by);
        if was != is && state.forget_best() {
            notes.push(Note::Fact(format!("evaluation.best_by was {was:?} and is {is:?}: which checkpoint is the best is found out anew")));
        }
        checkpoint::sweep(folder);
        Self::assemble(settings, folder, lock, trainer, tokenizer, memory, dataset, &captions, state, notes)
    }

    fn assemble(
        mut settings: Settings,
        folder: &Path,
        lock: FolderLock,
        trainer: Trainer,
        tokenizer: Tokenizer,
        memory: u64,
        dataset: Arc<Dataset>,
        captions: &Choices,
        mut state: TrainerState,
        mut notes: Vec<Note>,
    ) -> Result<Self> {
        let config = &trainer.config;
        let split = Split::new(&settings, &dataset);
        let rows = split.trained(&dataset);
        let judged: Vec<usize> = (0..dataset.rows().len()).filter(|&i| split.judges(&dataset.rows()[i])).collect();
        if rows.is_empty() {
            let what = format!("no row to train on: none has the split {:?} (data.train_split)", settings.data.train_split);
            return Err(Error::file(from_text(&settings.data.path), what));
        }
        if state.step > 0 && state.data_rows != rows.len() as u64 {
            if state.position.visited > 0 {
                // The order of an epoch is one of so many rows.
                state.position = DataPosition { epoch: state.position.epoch + 1, visited: 0 };
            }
            if state.data.is_none() {
                notes.push(Note::Warning(format!("the run was trained on {} rows, and now there are {}: a new epoch begins", state.data_rows, rows.len())));
            }
        }
        state.data_rows = rows.len() as u64;
        // A file of attributes that nobody needs yet need not be there.
        let by_attributes = !settings.data.balance.is_empty()
            || settings.training.modality_dropout > 0.0
            || !matches!(settings.evaluation.best_by.as_str(), "loss" | "accuracy");
        let attributes = if by_attributes { setup::attributes(&settings, &dataset)? } else { Attributes::default() };
        let balance = classes::of(&settings, &dataset, &attributes, &rows)?;
        state.classes = state.classes.filter(|_| balance.is_some());
        if let Some(balance) = &balance {
            notes.push(classes::note(&settings, &mut state, balance)?);
        }
        if !split.wanted() {
            settings.expect_no_evaluation()?;
        }
        if split.wanted() && judged.is_empty() {
            let what =
                format!("no row to evaluate on: evaluation.eval_split is {:?}, held_out {}", settings.evaluation.eval_split, settings.evaluation.held_out);
            return Err(Error::file(from_text(&settings.data.path), what));
        }
        notes.extend(split.note(&dataset).map(Note::Fact));
        notes.extend(alone::note(&settings, &dataset, &attributes, config, &rows));
        let (on_bad, unasked) = (settings.data.on_bad_sample, split.unasked());
        let found = preflight::check(&dataset, config, &tokenizer, settings.training.rows, on_bad, &rows, &judged, unasked)?;
        notes.extend(found.notes);
        let chosen = stratified(&found.judged, |i| dataset.source(&dataset.rows()[i]), settings.evaluation.eval_samples, settings.training.seed);
        let data = DataFingerprint { trained: Fingerprint::of(&dataset, &rows), evaluated: Fingerprint::of(&dataset, &chosen) };
        notes.extend(changes(&settings, &mut state, &data)?);
        state.data = Some(data);
        let mut bad_held_out = BadSamples::default();
        let mut bad = |_, error| match on_bad {
            OnBadSample::Stop if !unasked => Err(error),
            _ => {
                bad_held_out.add(error);
                Ok(())
            }
        };
        let chosen: Vec<&TableRow> = chosen.into_iter().map(|i| &dataset.rows()[i]).collect();
        let mut go_on = |_, _| ControlFlow::Continue(());
        let held_out = examples::load_or(&dataset, config, &tokenizer, trainer.device(), &chosen, &mut bad, &mut go_on)?;
        if held_out.is_empty() && !chosen.is_empty() && !unasked {
            return Err(Error::BadSamples { count: bad_held_out.count, first: bad_held_out.first });
        }
        let recipe = setup::recipe(&settings);
        let augmentation = setup::augmentation(&settings, &dataset)?;
        let batches = Batches::start(dataset.clone(), rows, config, &tokenizer, recipe, augmentation, settings.loading(), state.position)?;
        let criterion = Criterion::of(&settings.evaluation.best_by, &attributes, &held_out)?;
        let (log, earlier) = Log::open(folder, state.step)?;
        let batches = match balance {
            Some(balance) => batches.balanced(balance)?,
            None => batches,
        };
        let stop_after = std::mem::replace(&mut settings.training.stop_after, 0); // not remembered
        let path = folder.join(CONFIG);
        write_file_atomic(&path, settings.to_toml())?;
        if captions.count() > 0 {
            write_file_atomic(&folder.join(CAPTIONS), captions.texts().join("\n") + "\n")?;
        }
        state.settings = Some(settings.clone());
        settings.training.stop_after = stop_after;
        let folder = folder.to_path_buf();
        Ok(Run {
            settings,
            folder,
            lock,
            device: trainer.device().described(),
            trainer,
            tokenizer,
            dataset,
            state,
            memory,
            notes,
            batches,
            bad_held_out,
            ahead: None,
            copy: None,
            no_batch: None,
            held_out,
            criterion,
            attributes,
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
        // Those of the data set's tables are among them.
        let mut bad = self.batches.bad();
        bad.count += self.bad_held_out.count;
        bad.first.extend(self.bad_held_out.first.iter().cloned());
        bad.first.truncate(LISTED);
        bad
    }

    /// Seconds of training so far, those before a resume included.
    pub fn seconds(&self) -> f64 {
        self.earlier + self.begin.elapsed().as_secs_f64()
    }

    /// Whether as many evaluations as `evaluation.patience` says were not better than the best. Such a run takes no more steps, also where it is
    /// continued; with more patience it goes on as if it had not ended.
    pub fn out_of_patience(&self) -> bool {
        let patience = self.settings.evaluation.patience;
        patience > 0 && self.state.since_best >= patience
    }

    /// Trains until all steps are taken, it is [out of patience](Self::out_of_patience) or `watch` stops it; then the last step is saved.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where more steps than may be skipped have a loss or gradient that is not finite: nothing is saved then.
    /// [`Error::BadSamples`] and whatever the device and the system refuse: what was learned until then is saved first, if that is possible.
    pub fn train(&mut self, watch: &mut dyn FnMut(&Run, Event) -> ControlFlow<()>) -> Result<Ended> {
        let steps = self.settings.training.steps;
        let mut saved = Instant::now();
        self.begin = Instant::now();
        if self.state.unevaluated && !self.held_out.is_empty() {
            match self.judge(watch) {
                Judged::Stopped => {
                    self.save_at_last(watch)?;
                    return Ok(Ended::Stopped);
                }
                Judged::Better => self.save_or_warn(watch),
                _ => {}
            }
        }
        while self.trainer.step < steps && !self.out_of_patience() {
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
                Err(e @ Error::NonFinite { .. }) => return Err(e),
                Err(e) => {
                    if self.trainer.step > 0 {
                        self.save_or_warn(watch);
                    }
                    return Err(e);
                }
            };
            let step = self.trainer.step;
            if self.state.devices.last() != Some(&self.device) {
                self.state.devices.push(self.device.clone());
            }
            let report = taken.report;
            (self.state.step, self.state.tokens) = (step, self.state.tokens + taken.rows as u64);
            let loss = report.loss as f64;
            self.state.loss = Some(self.state.loss.map_or(loss, |mean| 0.98 * mean + 0.02 * loss));
            self.log.line(&serde_json::json!({
                "step": step, "loss": report.loss, "learning_rate": report.learning_rate, "gradient_norm": report.gradient_norm,
                "tokens": self.state.tokens, "seconds": (self.seconds() * 1000.0).round() / 1000.0,
            }));
            self.say_trouble(watch);
            let stopped = watch(self, Event::Step(&taken)).is_break();
            let last = step == steps || stopped || step == self.settings.training.stop_after;
            let (eval_steps, saving) = (self.settings.evaluation.eval_steps, self.settings.saving.clone());
            let due = |every: usize| every > 0 && step.is_multiple_of(every);
            if !self.held_out.is_empty() && (due(eval_steps) || step == steps) {
                self.state.unevaluated = true;
                // Whoever is stopped may have seconds left: it is evaluated when the run is continued.
                let judged = if stopped { Judged::Stopped } else { self.judge(watch) };
                match judged {
                    Judged::Stopped => break,
                    Judged::Saved if !last => {
                        saved = Instant::now();
                        continue;
                    }
                    Judged::Better if !last => {
                        self.save_or_warn(watch);
                        saved = Instant::now();
                        continue;
                    }
                    _ => {}
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
        Ok(match self.trainer.step < steps {
            false => Ended::Finished,
            true if self.out_of_patience() => Ended::FinishedEarly,
            true => Ended::Stopped,
        })
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
            self.state.forget_best();
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
        if let Some(error) = self.no_batch.take() {
            return Err(error);
        }
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
            Ok((report, batch, next)) => {
                match next {
                    Ok(prefetched) => self.ahead = Some((prefetched, place)),
                    Err(error) => self.no_batch = Some(error),
                }
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

    fn taken(&mut self, report: StepReport, batches: &[Batch]) -> RunStep {
        if let Some(met) = &mut self.trainer.config.met {
            batches.iter().for_each(|batch| met.add(batch.met()));
        }
        let flops = batches.iter().map(|batch| flops(&self.trainer.config, batch)).sum();
        RunStep { report, rows: batches.iter().map(Batch::rows).sum(), flops }
    }

    /// Evaluates, and says what came of it. Whatever goes wrong costs nothing: the model is saved first.
    fn judge(&mut self, watch: &mut dyn FnMut(&Run, Event) -> ControlFlow<()>) -> Judged {
        let judged = catch_unwind(AssertUnwindSafe(|| self.evaluate(watch))).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(Error::Usage(format!("the evaluation panicked: {}", said.unwrap_or("no message"))))
        });
        if matches!(judged, Err(Error::Interrupted { .. })) {
            return Judged::Stopped;
        }
        self.state.unevaluated = false;
        let (evaluation, described) = match judged {
            Ok(judged) => judged,
            Err(e) => {
                self.save_or_warn(watch);
                let _ = watch(self, Event::NotEvaluated(&e));
                return Judged::Saved;
            }
        };
        if let Err(e) = described {
            let _ = watch(self, Event::NotEvaluated(&e));
        }
        let share = self.criterion.share(evaluation.accuracy, evaluation.scores.as_ref());
        let now = Best { step: self.trainer.step, loss: evaluation.loss, share };
        // No evaluation would be better than one that is not a number.
        let better = now.loss.is_finite() && self.state.best.is_none_or(|best| now.beats(&best));
        if better {
            (self.state.best, self.state.since_best) = (Some(now), 0);
        } else {
            self.state.since_best += 1;
        }
        let _ = watch(self, Event::Evaluated(&evaluation)); // a wish to stop is asked for again after the next step
        if better { Judged::Better } else { Judged::NotBetter }
    }

    /// Judges the model on what it does not train on; whether it could be asked for captions, too.
    fn evaluate(&mut self, watch: &mut dyn FnMut(&Run, Event) -> ControlFlow<()>) -> Result<(Evaluation, Result<()>)> {
        let mut go_on = |_, _| watch(self, Event::Evaluating);
        let (config, parameters) = (&self.trainer.config, &self.trainer.parameters);
        let losses = evaluate::loss(config, parameters, &self.tokenizer, &self.held_out, &mut go_on)?;
        let count = self.settings.evaluation.captions.min(self.held_out.len());
        let shown: Vec<usize> = evenly_spaced(count, self.held_out.len()).collect();
        let (said, described, scores) = if self.criterion.needs_captions() {
            // Without them nothing can be said about this step. Those that are shown are among them.
            let said = evaluate::describe(config, parameters, &self.tokenizer, &self.held_out, &mut go_on)?;
            let scores = evaluate::score(&self.held_out, &said, &self.attributes);
            (shown.iter().map(|&i| said[i].clone()).collect(), Ok(()), Some(scores))
        } else {
            let some: Vec<Example> = shown.iter().map(|&i| self.held_out[i].clone()).collect();
            let said = if some.is_empty() { Ok(Vec::new()) } else { evaluate::describe(config, parameters, &self.tokenizer, &some, &mut go_on) };
            match said {
                Ok(said) => (said, Ok(()), None),
                Err(e @ Error::Interrupted { .. }) => return Err(e),
                Err(e) => (Vec::new(), Err(e), None),
            }
        };
        let captions: Vec<_> = said.into_iter().zip(shown.iter().map(|&i| self.held_out[i].text.clone())).collect();
        let evaluation = Evaluation { loss: losses.loss, accuracy: losses.accuracy(), scores, captions };
        let shown: Vec<_> = evaluation.captions.iter().map(|(said, truth)| serde_json::json!({ "said": said, "truth": truth })).collect();
        let mut line = serde_json::json!({
            "step": self.trainer.step, "evaluation": { "loss": evaluation.loss, "token_accuracy": evaluation.accuracy, "samples": self.held_out.len(), "captions": shown },
        });
        if let Some(Scores { exact, attributes, .. }) = &evaluation.scores {
            let shares = std::iter::once(("exact", exact)).chain(attributes.iter().map(|(name, share)| (name.as_str(), share)));
            shares.for_each(|(name, &share)| line["evaluation"][name] = share.into());
        }
        self.log.line(&line);
        Ok((evaluation, described))
    }
}

/// What has changed in the data of a run that is continued. A best checkpoint that was judged on other samples is not the best on these.
fn changes(settings: &Settings, state: &mut TrainerState, now: &DataFingerprint) -> Result<Option<Note>> {
    if state.step == 0 {
        return Ok(None);
    }
    let Some(before) = &state.data else {
        if settings.data.strict_data {
            let what = "an older version wrote the checkpoint, which does not say what the data set was then (data.strict_data)";
            return Err(Error::file(from_text(&settings.data.path), what));
        }
        return Ok(None); // that it has no digests was said
    };
    let mut changed = before.trained.changes(&now.trained);
    let evaluated = before.evaluated.changes(&now.evaluated);
    changed.extend(evaluated.iter().map(|what| format!("among the samples that are evaluated: {what}")));
    if changed.is_empty() {
        return Ok(None);
    }
    let what = format!("the data set is not as it was when this run was saved: {}", changed.join("; "));
    if settings.data.strict_data {
        return Err(Error::file(from_text(&settings.data.path), format!("{what} (data.strict_data)")));
    }
    // Times alone change nothing that is judged.
    let same = |a: &Fingerprint, b: &Fingerprint| a.names == b.names && a.texts == b.texts && a.sizes == b.sizes;
    let mut more = if before.trained.rows != now.trained.rows { "; a new epoch begins" } else { "" }.to_string();
    if !same(&before.evaluated, &now.evaluated) && state.forget_best() {
        more += "; which checkpoint is the best is found out anew";
    }
    Ok(Some(Note::Warning(format!("{}: {what}{more}", shown_path(from_text(&settings.data.path))))))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts alone, so that steps take no time.
    fn run(folder: &Path, steps: usize) -> Run {
        run_with(folder, steps, &[])
    }

    fn run_with(folder: &Path, steps: usize, more: &[(&str, &str)]) -> Run {
        let row = |colour: &str| format!(r#"{{"text": "a {colour} cat", "attributes": {{"colour": "{colour}"}}}}"#);
        let rows: Vec<String> = (0..40).map(|i| row(["red", "grey", "white"][i % 3])).collect();
        std::fs::write(folder.join("metadata.jsonl"), rows.join("\n")).unwrap();
        let mut settings = Settings::preset("meadow").unwrap();
        for (key, value) in
            [("path", folder.to_str().unwrap()), ("device", "cpu"), ("rows", "64"), ("held_out", "0.2"), ("eval_steps", "2"), ("save_seconds", "0")]
        {
            settings.set(key, value).unwrap();
        }
        settings.set("steps", &steps.to_string()).unwrap();
        more.iter().for_each(|(key, value)| settings.set(key, value).unwrap());
        Run::start(settings, &folder.join("run")).unwrap()
    }

    #[test]
    fn an_evaluation_that_fails_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = run(folder.path(), 5);
        // What no look ahead can find: here, a sample that has become too long for the model.
        run.held_out.push(Example { name: "long".into(), text: "x".into(), words: vec![20; 500], ..Example::default() });
        let (mut failed, mut saved) = (Vec::new(), Vec::new());
        let ended = run
            .train(&mut |run, event| {
                match event {
                    Event::NotEvaluated(e) => failed.push((run.trainer.step, saved.len(), e.to_string())),
                    Event::Saved(_) => saved.push(run.trainer.step),
                    Event::Evaluated(_) => panic!("it cannot be evaluated"),
                    _ => {}
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(ended, Ended::Finished);
        // Each time the model was saved before anything was said.
        assert_eq!(failed.iter().map(|(step, saves, _)| (*step, *saves)).collect::<Vec<_>>(), [(2, 1), (4, 2), (5, 3)]);
        assert!(failed.iter().all(|(.., what)| what.contains("too long")), "{failed:?}");
        assert_eq!(checkpoint::read_state(&checkpoint::latest(&run.folder).unwrap()).unwrap().step, 5);
    }

    fn evaluations(run: &Run) -> Vec<serde_json::Value> {
        super::super::log::entries(&run.folder).unwrap().into_iter().filter(|line| line["evaluation"].is_object()).collect()
    }

    #[test]
    fn what_best_by_names_decides_which_checkpoint_is_the_best() {
        for by in ["loss", "accuracy", "exact", "colour"] {
            let folder = tempfile::tempdir().unwrap();
            let mut run = run_with(folder.path(), 8, &[("best_by", by), ("learning_rate", "0.01")]);
            // Judged beside a checkpoint with a better loss and a worse share than any, and beside one with a worse loss and a better share.
            let mut better_than = |loss: f64, share: f64| {
                (run.state.best, run.state.since_best) = (Some(Best { step: 0, loss, share: (by != "loss").then_some(share) }), 3);
                let better = matches!(run.judge(&mut |_, _| ControlFlow::Continue(())), Judged::Better);
                assert_eq!(run.state.since_best, if better { 0 } else { 4 });
                better
            };
            assert_eq!([better_than(0.0, -1.0), better_than(99.0, 2.0)], if by == "loss" { [false, true] } else { [true, false] }, "{by}");
            run.state.forget_best();
            let before = evaluations(&run).len();
            run.train(&mut |_, _| ControlFlow::Continue(())).unwrap();
            let each = evaluations(&run).split_off(before);
            assert_eq!(each.len(), 4);
            for line in &each {
                let of = &line["evaluation"];
                assert_eq!([of["exact"].is_f64(), of["colour"].is_f64()], [matches!(by, "exact" | "colour"); 2], "{by}: {of}");
                assert_eq!(of["captions"].as_array().unwrap().len(), 3);
                // All are right or wrong alike: what is shown is from the generation that is judged.
                let right = of["captions"].as_array().unwrap().iter().any(|shown| shown["said"] == shown["truth"]);
                assert!(!right || of["exact"].as_f64().is_none_or(|exact| exact > 0.0), "{of}");
            }
            let share = |of: &serde_json::Value| of[if by == "accuracy" { "token_accuracy" } else { by }].as_f64().unwrap();
            let figures = each.iter().map(|line| {
                let of = &line["evaluation"];
                Best { step: line["step"].as_u64().unwrap() as usize, loss: of["loss"].as_f64().unwrap(), share: (by != "loss").then(|| share(of)) }
            });
            let best = figures.reduce(|best, now| if now.beats(&best) { now } else { best }).unwrap();
            assert_eq!(run.state.best, Some(best), "{by}");
            assert_eq!(checkpoint::best(&run.folder).unwrap().unwrap(), run.folder.join(format!("step-{:08}", best.step)));
        }
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_never_the_best() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = run(folder.path(), 4);
        run.trainer.parameters.norm.write_f64(&[f64::NAN; 64]).unwrap();
        assert!(matches!(run.judge(&mut |_, _| ControlFlow::Continue(())), Judged::NotBetter | Judged::Saved));
        assert_eq!(run.state.best, None);
    }

    #[test]
    fn a_run_that_gets_no_better_ends_early_and_goes_on_with_more_patience() {
        // Nothing changes at this rate: the first evaluation is the best.
        let still = ("learning_rate", "0");
        let train = |run: &mut Run| {
            let mut steps = 0;
            let ended = run.train(&mut |_, event| {
                steps += matches!(event, Event::Step(_)) as usize;
                ControlFlow::Continue(())
            });
            (ended.unwrap(), steps)
        };
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("run");
        let mut early = run_with(folder.path(), 14, &[still, ("patience", "2"), ("stop_after", "5")]);
        assert_eq!((train(&mut early), early.state.since_best), ((Ended::Stopped, 5), 1));
        drop(early);
        // Evaluations of before a resume count.
        let resume = |patience: Option<&str>| Run::resume(&place, |settings| patience.map_or(Ok(()), |patience| settings.set("patience", patience))).unwrap();
        let mut early = resume(None);
        assert_eq!(train(&mut early), (Ended::FinishedEarly, 1));
        assert_eq!((early.trainer.step, early.state.best.unwrap().step, early.state.since_best), (6, 2, 2));
        assert!(checkpoint::best(&place).unwrap().unwrap().ends_with("step-00000002") && checkpoint::latest(&place).unwrap().ends_with("step-00000006"));
        drop(early);
        // It is finished: continued as it is, it takes no step.
        let mut same = resume(None);
        assert_eq!((train(&mut same), same.trainer.step), ((Ended::FinishedEarly, 0), 6));
        drop(same);
        assert_eq!(train(&mut resume(Some("3"))), (Ended::FinishedEarly, 2));
        // Another criterion finds the best anew, and says so.
        let other = Run::resume(&place, |settings| settings.set("best_by", "exact")).unwrap();
        assert!(matches!(&other.notes[..], [Note::Fact(what)] if what.contains("best_by was \"loss\" and is \"exact\"")), "{:?}", other.notes);
        assert_eq!((other.state.best, other.state.since_best), (None, 0));
        drop(other);
        let mut whole = resume(Some("0"));
        assert!(whole.notes.is_empty(), "{:?}", whole.notes);
        assert_eq!(train(&mut whole), (Ended::Finished, 6));
        // As if it had never ended.
        let folder = tempfile::tempdir().unwrap();
        let mut never = run_with(folder.path(), 14, &[still]);
        assert_eq!(train(&mut never), (Ended::Finished, 14));
        let of = |run: &Run| (run.state.position, run.state.tokens, run.state.loss, evaluations(run).len());
        assert_eq!(of(&whole), of(&never));
    }

    #[test]
    fn the_same_samples_are_evaluated_whenever_the_run_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let names = |run: &Run| run.held_out.iter().map(|e| (e.name.clone(), e.text.clone())).collect::<Vec<_>>();
        let mut first = run(folder.path(), 2);
        let expected = names(&first);
        assert!(!expected.is_empty() && first.notes.is_empty(), "{:?}", first.notes);
        first.train(&mut |_, _| ControlFlow::Continue(())).unwrap();
        let best = first.state.best;
        drop(first); // a run belongs to one at a time
        let again = Run::resume(&folder.path().join("run"), |_| Ok(())).unwrap();
        assert_eq!(names(&again), expected);
        assert!(again.notes.is_empty() && again.state.best == best, "{:?}", again.notes);
        drop(again);
        // Other samples: the best so far was the best on those.
        let fewer = Run::resume(&folder.path().join("run"), |settings| settings.set("eval_samples", "3")).unwrap();
        assert_eq!((fewer.held_out.len(), fewer.state.best), (3, None));
        assert!(matches!(&fewer.notes[..], [Note::Warning(what)] if what.contains("now there are 3") && what.contains("anew")), "{:?}", fewer.notes);
    }
}
