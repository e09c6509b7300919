//! A run is a folder of checkpoints, each a whole model folder: `step-00000100/`, `step-00000200/`, …, beside `latest` and `best`,
//! small text files that name one of them.
//!
//! A checkpoint is written under another name (`.partial-…`) in the same folder, every file synced; then it gets its name, and the
//! run's folder is synced. So whatever is called `step-…` is whole, whenever the machine stops. `latest` is written after it, and
//! what is no longer kept is removed last: so `latest` never names a checkpoint that does not exist. A crash may leave one `.partial-…`,
//! which the next start or save removes. `SHA256SUMS` lists the digests of its files ([`super::digest`]).

use super::digest::{self, Digesting, SUMS};
use super::fingerprint::DataFingerprint;
use super::settings::{Settings, keys};
use super::trainer::Trainer;
use crate::data::loader::DataPosition;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::files::read;
use crate::files::safetensors::{Safetensors, write_safetensors};
use crate::files::temporary::Temporary;
use crate::files::{LEFTOVER, sync_folder, write_file_atomic};
use crate::model::{Config, Parameters};
use crate::numbers::{self, percent};
use crate::tensor::DType;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const PARTIAL: &str = ".partial-";
const STEP: &str = "step-";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "trainer_state.json";
/// The names of AdamW's moments are those of the parameters after these.
const MOMENTS: [&str; 2] = ["first.", "second."];
/// A longer `latest` or `trainer_state.json` is not one of ours.
const MAX_TEXT: u64 = 1 << 20;

/// `trainer_state.json`: what a run continues from, beside parameters and moments. Random numbers are drawn from streams keyed by
/// the seed and the place in the data, so that these two are all of the generators' state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Optimiser steps taken.
    pub step: usize,
    /// The place in the data after the last batch that was trained on.
    pub position: DataPosition,
    /// Rows of the token matrix trained on.
    pub tokens: u64,
    /// Steps skipped because the loss or a gradient was not a number.
    pub skipped: usize,
    /// The moving average of the loss.
    pub loss: Option<f64>,
    /// The best evaluation on held-out samples, by the settings' `best_by`.
    pub best: Option<Best>,
    /// Evaluations since then, none of them better. The run ends where they are as many as the settings' `patience`.
    #[serde(default)]
    pub since_best: usize,
    /// Whether this step was to be evaluated and has not been, because the run was stopped.
    #[serde(default)]
    pub unevaluated: bool,
    /// Rows of the data set that are trained on: a run cannot continue with others.
    pub data_rows: u64,
    /// What those rows and their files were, and those that are evaluated: see [`super::fingerprint`].
    #[serde(default)]
    pub data: Option<DataFingerprint>,
    /// The digest of the classes that an epoch visits equally often, where it does: see [`crate::data::balance`].
    #[serde(default)]
    pub classes: Option<u64>,
    /// The devices that it was trained on, one after the other ([`crate::Device::described`]); none where an older version wrote it.
    #[serde(default)]
    pub devices: Vec<String>,
    /// The run's settings, for comparing when it is continued.
    pub settings: Option<Settings>,
    /// The program's version.
    pub version: String,
}

impl TrainerState {
    /// Makes the next evaluation the best one, whatever was before; whether there was one.
    pub fn forget_best(&mut self) -> bool {
        self.since_best = 0;
        self.best.take().is_some()
    }
}

/// The best checkpoint so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step of the evaluation.
    pub step: usize,
    /// The loss on held-out samples, in nats per token.
    pub loss: f64,
    /// The share, from 0 to 1, of what the settings' `best_by` names that was right; none where that is the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

impl Best {
    /// Whether this takes another's place: a larger share does, and of equal ones, or where there are none, the lower loss. So the loss says that
    /// something gets better while no caption is right yet.
    pub fn beats(&self, other: &Best) -> bool {
        match (self.share, other.share) {
            (Some(now), Some(then)) if now != then => now > then,
            _ => self.loss < other.loss,
        }
    }

    /// What it reached, by the name that the settings' `best_by` gives it: `exact 54.3 %`, `loss 0.1234`.
    pub fn figure(&self, by: &str) -> String {
        self.share.map_or_else(|| format!("loss {}", numbers::loss(self.loss)), |share| format!("{by} {}", percent(share)))
    }
}

/// Saves a checkpoint into the run's folder and returns where. `state.step` becomes the trainer's. The newest `keep` (at least one)
/// stay, and the best: the checkpoint of the step that `state.best` names.
///
/// # Errors
/// [`Error::Io`] with the path where the system refuses; [`Error::NonFinite`] for a parameter or moment that is not a number. The
/// checkpoints that were there are then whole, and nothing else is.
pub fn save(run: &Path, trainer: &Trainer, tokenizer: &Tokenizer, state: &TrainerState, keep: usize) -> Result<PathBuf> {
    fs::create_dir_all(run).map_err(Error::io(run, "create"))?;
    sweep(run);
    let state = TrainerState { step: trainer.step, version: env!("CARGO_PKG_VERSION").into(), ..state.clone() };
    let name = name(run, &state)?;
    let target = run.join(&name);
    if !target.exists() {
        let partial = Partial::make(run, &name)?;
        fill(&partial.path, trainer, tokenizer, &state)?;
        sync_folder(&partial.path).map_err(Error::io(&partial.path, "sync"))?;
        partial.persist(&target)?;
        sync_folder(run).map_err(Error::io(run, "sync"))?;
    }
    point(run, "latest", &name)?;
    if state.best.is_some_and(|best| best.step == state.step) {
        point(run, "best", &name)?;
    }
    prune(run, keep.max(1), &name);
    Ok(target)
}

/// The newest whole checkpoint of a run: what `latest` names. Where a crash came before `latest` was first written, the checkpoint
/// of the most steps.
///
/// # Errors
/// [`Error::File`] where there is none, or `latest` does not name one.
pub fn latest(run: &Path) -> Result<PathBuf> {
    match named(run, "latest")? {
        Some(name) => Ok(run.join(name)),
        None => match list(run).pop() {
            Some((.., name)) => Ok(run.join(name)),
            None => Err(Error::file(run, "no checkpoint: expected a run (folders step-…, and `latest`), as `trimodal train` writes it")),
        },
    }
}

/// The checkpoint of the best evaluation: what `best` names, if there is one.
///
/// # Errors
/// [`Error::File`] where `best` does not name a checkpoint.
pub fn best(run: &Path) -> Result<Option<PathBuf>> {
    Ok(named(run, "best")?.map(|name| run.join(name)))
}

/// Whether a folder holds checkpoints.
pub fn is_run(path: &Path) -> bool {
    path.join("latest").is_file() || !list(path).is_empty()
}

/// Removes what crashed processes left in a run's folder. Only a courtesy: what cannot be removed stays, and what a living process
/// is writing is known by its lock.
pub fn sweep(run: &Path) {
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let ours = name.starts_with(PARTIAL) || name.starts_with('.') && name.contains(LEFTOVER);
        let alive = || File::open(&path).is_ok_and(|file| file.try_lock().is_err());
        if ours && !alive() {
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Reads a checkpoint's `trainer_state.json`.
///
/// # Errors
/// [`Error::Io`] or [`Error::File`] with the line; as [`expect_version`].
pub fn read_state(checkpoint: &Path) -> Result<TrainerState> {
    let path = checkpoint.join(STATE);
    let text = read::text(&path, MAX_TEXT)?;
    compatible(&path, &text)?;
    keys::RENAMED.into_iter().filter(|(_, old, _)| text.contains(&format!("\"{old}\":"))).for_each(|(_, old, new)| keys::say_renamed(old, new));
    serde_json::from_str(&text)
        .map_err(|e| Error::file_at(&path, format!("line {}, column {}", e.line(), e.column()), format!("not the state of a training run: {e}")))
}

/// Refuses a checkpoint of a version that may arrange a model's rows or a run's state differently from this one: of another number before
/// the last dot (<https://semver.org>, 4). A folder that no run wrote has no version, and is not refused.
///
/// # Errors
/// [`Error::File`] that names both versions.
pub fn expect_version(checkpoint: &Path) -> Result<()> {
    let path = checkpoint.join(STATE);
    if path.exists() { compatible(&path, &read::text(&path, MAX_TEXT)?) } else { Ok(()) }
}

fn compatible(path: &Path, text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Written {
        version: String,
    }
    let ours = env!("CARGO_PKG_VERSION");
    // What cannot be read at all is reported by the code that reads the rest.
    let Ok(Written { version }) = serde_json::from_str(text) else { return Ok(()) };
    let upper = |version: &str| version.rsplit_once('.').map(|(upper, _)| upper.to_string());
    if version.is_empty() || upper(&version) == upper(ours) {
        return Ok(());
    }
    Err(Error::file(path, format!("written by trimodal {version}, and this is trimodal {ours}, which may read it differently: use that version")))
}

/// Puts a trainer whose parameters were read from this checkpoint where the run stopped: moments and step.
///
/// # Errors
/// [`Error::File`] naming the first tensor that is missing, superfluous, of another shape or dtype, or not finite; a moment file of
/// another step than `trainer_state.json`.
pub fn restore(checkpoint: &Path, trainer: &mut Trainer) -> Result<TrainerState> {
    let state = read_state(checkpoint)?;
    let path = checkpoint.join(OPTIMIZER);
    let mut file = Safetensors::open(&path)?;
    let names = trainer.parameters.named().into_iter().map(|(name, tensor)| (name, tensor.shape().dims().to_vec()));
    let expected: Vec<_> = names.flat_map(|(name, shape)| MOMENTS.map(|prefix| (format!("{prefix}{name}"), shape.clone()))).collect();
    file.expect(&expected)?;
    if let Some((name, _, dtype)) = file.tensors().find(|(.., dtype)| *dtype != DType::F32) {
        return Err(Error::file_at(&path, format!("tensor {name}"), format!("expected dtype f32, found {dtype}")));
    }
    let names: Vec<String> = trainer.parameters.named().into_iter().map(|(name, _)| name).collect();
    for (prefix, moments) in MOMENTS.iter().zip(&mut trainer.moments) {
        for (name, tensor) in names.iter().zip(moments.each_mut()) {
            let name = format!("{prefix}{name}");
            let bytes = file.read(&name)?;
            if let Some(i) = first_not_finite(&bytes) {
                return Err(Error::file_at(&path, format!("tensor {name}"), format!("element {i} is not finite: the file is damaged")));
            }
            tensor.write_bytes(&bytes)?;
        }
    }
    trainer.step = state.step;
    Ok(state)
}

// ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The folder that a checkpoint is written into, locked while it is; removed unless it is persisted.
struct Partial {
    path: PathBuf,
    /// On systems where a folder can be opened and locked: how another process's sweep knows that this is not a leftover.
    _lock: Option<File>,
    /// Until it has its name.
    held: Option<Temporary>,
}

impl Partial {
    fn make(run: &Path, name: &str) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = run.join(format!("{PARTIAL}{name}-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(Error::io(&path, "create"))?;
        let lock = File::open(&path).ok().filter(|folder| folder.try_lock().is_ok());
        let held = Some(Temporary::hold(&path));
        Ok(Partial { path, _lock: lock, held })
    }

    fn persist(mut self, target: &Path) -> Result<()> {
        let held = self.held.take().expect("it has no name yet");
        let renamed = held.persist(|| fs::rename(&self.path, target));
        if renamed.is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
        renamed.map_err(Error::io(target, "create"))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.held.is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Writes the files of a checkpoint into an empty folder, each synced.
fn fill(folder: &Path, trainer: &Trainer, tokenizer: &Tokenizer, state: &TrainerState) -> Result<()> {
    let step = ("step", trainer.step.to_string());
    let mut sums = Vec::new();
    let mut create = |path: &Path, write: &mut dyn FnMut(&mut Digesting<File>) -> Result<()>| {
        let digest = create_file(path, write)?;
        sums.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), digest));
        Ok(())
    };
    let mut tensors = |name: &str, sets: &[(&str, &Parameters)]| {
        let path = folder.join(name);
        let named: Vec<_> =
            sets.iter().flat_map(|(prefix, set)| set.named().into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))).collect();
        let infos: Vec<_> = named.iter().map(|(name, tensor)| (name.clone(), tensor.shape().dims().to_vec(), DType::F32)).collect();
        create(&path, &mut |file| {
            write_safetensors(&path, file, std::slice::from_ref(&step), &infos, |i| {
                let bytes = bytemuck::cast_slice::<f32, u8>(&named[i].1.read::<f32>()?).to_vec();
                match first_not_finite(&bytes) {
                    None => Ok(bytes),
                    Some(at) => {
                        let what = format!("element {at} of {}, which was to be saved,", named[i].0);
                        Err(Error::NonFinite { step: trainer.step, what, samples: Vec::new() })
                    }
                }
            })
        })
    };
    tensors(MODEL, &[("", &trainer.parameters)])?;
    let [first, second] = &trainer.moments;
    tensors(OPTIMIZER, &[(MOMENTS[0], first), (MOMENTS[1], second)])?;
    let mut text = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        create(&path, &mut |file| file.write_all(bytes).map_err(Error::io(&path, "write")))
    };
    text("tokenizer.json", &tokenizer.to_bytes()?)?;
    // What is saved is f32, whatever the file was that the run began with.
    let config = Config { torch_dtype: "float32".into(), ..trainer.config.clone() };
    text("config.json", config.to_json().as_bytes())?;
    text("tokenizer_config.json", tokenizer.transformers_config(config.max_position_embeddings).as_bytes())?;
    text("generation_config.json", config.generation_json(&tokenizer.absent(config.vocab_size)).as_bytes())?;
    let state = serde_json::to_string_pretty(state).expect("numbers and strings serialise") + "\n";
    text(STATE, state.as_bytes())?;
    let list = digest::list(&sums);
    create_file(&folder.join(SUMS), |file| file.write_all(list.as_bytes()).map_err(Error::io(folder.join(SUMS), "write"))).map(drop)
}

/// Writes a new file and syncs it; gives its digest.
fn create_file(path: &Path, write: impl FnOnce(&mut Digesting<File>) -> Result<()>) -> Result<String> {
    let file = File::options().write(true).create_new(true).open(path).map_err(Error::io(path, "create"))?;
    let mut file = Digesting::new(file);
    write(&mut file)?;
    let (file, digest) = file.finish();
    file.sync_all().map_err(Error::io(path, "write"))?;
    Ok(digest)
}

/// The first f32 among these bytes that is not finite.
fn first_not_finite(bytes: &[u8]) -> Option<usize> {
    let number = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("four bytes"));
    bytes.chunks_exact(4).position(|b| !number(b).is_finite())
}

/// `step-00000100`; where there is one of that step already with another state (it continued from an older one, or skipped batches),
/// `step-00000100-2`.
fn name(run: &Path, state: &TrainerState) -> Result<String> {
    let plain = format!("{STEP}{:08}", state.step);
    for copy in 1.. {
        let name = if copy == 1 { plain.clone() } else { format!("{plain}-{copy}") };
        let path = run.join(&name);
        if !path.exists() || read_state(&path).is_ok_and(|there| there == *state) {
            return Ok(name);
        }
    }
    unreachable!("a free number is found before the numbers end")
}

/// Step, copy and name of every checkpoint, oldest first.
fn list(run: &Path) -> Vec<(usize, usize, String)> {
    let mut all: Vec<_> = fs::read_dir(run)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_string();
            let (step, copy) = parse(&name)?;
            entry.path().is_dir().then_some((step, copy, name))
        })
        .collect();
    all.sort();
    all
}

fn parse(name: &str) -> Option<(usize, usize)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let rest = name.strip_prefix(STEP)?;
    match rest.split_once('-') {
        None => Some((number(rest)?, 1)),
        Some((step, copy)) => Some((number(step)?, number(copy)?)),
    }
}

/// Writes `latest` or `best`.
fn point(run: &Path, file: &str, name: &str) -> Result<()> {
    let path = run.join(file);
    write_file_atomic(&path, format!("{name}\n"))
}

/// The checkpoint that `latest` or `best` names, which must be there.
fn named(run: &Path, file: &str) -> Result<Option<String>> {
    let path = run.join(file);
    if !path.exists() {
        return Ok(None);
    }
    let text = read::text(&path, MAX_TEXT)?;
    let name = text.trim();
    if parse(name).is_none() {
        // Not quoted: it may be a link, and what it leads to is nobody's business.
        return Err(Error::file(&path, "expected the name of a checkpoint, such as step-00000100, found something else"));
    }
    if !run.join(name).is_dir() {
        return Err(Error::file(&path, format!("names {name}, which does not exist; write the name of an existing checkpoint into it")));
    }
    Ok(Some(name.to_string()))
}

/// Removes all checkpoints but the newest `keep`, the best, and the one that was just written. Each gives up its name before it is
/// taken apart. Only a courtesy: what cannot be removed stays.
fn prune(run: &Path, keep: usize, written: &str) {
    let all = list(run);
    let best = named(run, "best").ok().flatten();
    for (.., name) in &all[..all.len().saturating_sub(keep)] {
        if name == written || best.as_ref() == Some(name) {
            continue;
        }
        let gone = run.join(format!("{PARTIAL}old-{name}"));
        if fs::rename(run.join(name), &gone).is_ok() {
            let _ = fs::remove_dir_all(&gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::model::batch::Capacity;
    use crate::train::model_folder::{ModelFolder, read_parameters};
    use crate::train::schedule::Schedule;

    fn trainer(seed: u64) -> (Trainer, Tokenizer) {
        let tokenizer = Tokenizer::train(["a cat"], 265).unwrap();
        let config = Config { num_hidden_layers: 1, ..Config::meadow(tokenizer.vocabulary()) };
        let parameters = Parameters::init(&config, &Device::Cpu, DType::F32, seed).unwrap();
        (Trainer::new(&config, parameters, Schedule::meadow(100), Capacity::for_budget(&config, 64)).unwrap(), tokenizer)
    }

    fn names(run: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_and_the_best_are_kept_and_leftovers_swept() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        assert!(latest(run).unwrap_err().to_string().contains("no checkpoint"));
        let (mut trainer, tokenizer) = trainer(1);
        // What a killed process leaves, and what a living one is writing.
        fs::create_dir(run.join(".partial-step-00000001-99-0")).unwrap();
        fs::write(run.join(".partial-step-00000001-99-0/model.safetensors"), "half").unwrap();
        fs::write(run.join(".latest.trimodal-partial-abc"), "half").unwrap();
        let alive = Partial::make(run, "alive").unwrap();
        for step in 1..=5 {
            trainer.step = step;
            let best = Some(Best { step: step.min(2), loss: 0.5, share: None });
            let path = save(run, &trainer, &tokenizer, &TrainerState { best, ..TrainerState::default() }, 2).unwrap();
            assert_eq!(latest(run).unwrap(), path);
            assert_eq!(read_state(&path).unwrap().step, step);
        }
        let alive_name = alive.path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(names(run), [alive_name.as_str(), "best", "latest", "step-00000002", "step-00000004", "step-00000005"]);
        assert_eq!(fs::read_to_string(run.join("best")).unwrap(), "step-00000002\n");
        assert_eq!(best(run).unwrap(), Some(run.join("step-00000002")));
        drop(alive);
        assert_eq!(names(run).len(), 5);
        // The same again changes nothing; another state of the same step becomes another checkpoint.
        let state = TrainerState { best: Some(Best { step: 2, loss: 0.5, share: None }), ..TrainerState::default() };
        assert!(save(run, &trainer, &tokenizer, &state, 2).unwrap().ends_with("step-00000005"));
        assert!(save(run, &trainer, &tokenizer, &TrainerState { skipped: 1, ..state }, 2).unwrap().ends_with("step-00000005-2"));
        assert!(latest(run).unwrap().ends_with("step-00000005-2"));
        // Without `latest` (a crash before it was first written), the last one.
        fs::remove_file(run.join("latest")).unwrap();
        assert!(latest(run).unwrap().ends_with("step-00000005-2"));
        for wrong in ["../elsewhere", "step-00000009", "", "step-x"] {
            fs::write(run.join("latest"), wrong).unwrap();
            assert!(latest(run).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_larger_share_is_better_and_then_a_lower_loss() {
        let of = |loss: f64, share: Option<f64>| Best { step: 1, loss, share };
        for (now, before, better) in [
            (of(0.5, None), of(0.6, None), true),
            (of(0.6, None), of(0.6, None), false),
            (of(9.0, Some(0.3)), of(0.1, Some(0.2)), true),
            (of(0.1, Some(0.2)), of(9.0, Some(0.3)), false),
            (of(0.1, Some(0.0)), of(0.2, Some(0.0)), true),
            (of(0.2, Some(0.0)), of(0.2, Some(0.0)), false),
            (of(f64::NAN, None), of(0.2, None), false),
        ] {
            assert_eq!(now.beats(&before), better, "{now:?} and {before:?}");
        }
        assert_eq!((of(0.25, Some(0.543)).figure("exact"), of(0.25, None).figure("loss")), ("exact 54.3 %".into(), "loss 0.2500".into()));
        // As versions before there was a choice wrote it, and still write it where the loss decides.
        let old = r#"{"step":3,"loss":0.5}"#;
        let best: Best = serde_json::from_str(old).unwrap();
        assert_eq!((best, serde_json::to_string(&best).unwrap().as_str()), (Best { step: 3, loss: 0.5, share: None }, old));
        let mut state = serde_json::to_value(TrainerState { best: Some(best), ..TrainerState::default() }).unwrap();
        let _ = ["since_best", "classes"].map(|key| state.as_object_mut().unwrap().remove(key).unwrap());
        let mut state: TrainerState = serde_json::from_value(state).unwrap();
        assert_eq!((state.since_best, state.classes, state.best), (0, None, Some(best)));
        for i in 1..1000 {
            let best = Best { loss: 1.0 / i as f64, share: Some((i as f64).sqrt()), ..best };
            assert_eq!(serde_json::from_str::<Best>(&serde_json::to_string(&best).unwrap()).unwrap(), best, "to the last bit");
        }
        state.since_best = 4;
        assert!(state.forget_best() && !state.forget_best() && state.since_best == 0);
    }

    #[test]
    fn a_trainer_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, tokenizer) = trainer(1);
        let mut seed = 0.0;
        for moment in first.moments.iter_mut().flat_map(|m| m.each_mut()) {
            seed += 1.0;
            let values: Vec<f64> = (0..moment.len()).map(|i| (i as f64 + seed).sin()).collect();
            moment.write_f64(&values).unwrap();
        }
        first.step = 7;
        let state = TrainerState { position: DataPosition { epoch: 3, visited: 4 }, tokens: 99, loss: Some(0.1), ..TrainerState::default() };
        let path = save(folder.path(), &first, &tokenizer, &state, 1).unwrap();
        let (mut second, _) = trainer(2);
        read_parameters(&path.join(MODEL), &mut second.parameters).unwrap();
        let read = restore(&path, &mut second).unwrap();
        assert_eq!(TrainerState { step: 0, version: String::new(), ..read }, state);
        assert_eq!(second.step, 7);
        let sets =
            |t: &Trainer| [&t.parameters, &t.moments[0], &t.moments[1]].map(|p| p.each().iter().flat_map(|t| t.read::<f32>().unwrap()).collect::<Vec<_>>());
        assert!(sets(&first) == sets(&second));
        // A run and its checkpoint are opened alike.
        for path in [folder.path(), &path] {
            assert_eq!(ModelFolder::open(path, &Device::Cpu, DType::F32).unwrap().config, first.config);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (mut trainer, tokenizer) = trainer(1);
        let path = save(folder.path(), &trainer, &tokenizer, &TrainerState::default(), 1).unwrap();
        let file = path.join(OPTIMIZER);
        let whole = fs::read(&file).unwrap();
        type Tensors = Vec<(String, Vec<usize>, DType, Vec<u8>)>;
        let mut wrong = |change: &dyn Fn(&mut Tensors)| {
            let mut tensors: Tensors = crate::files::safetensors::load_safetensors(&file).unwrap().into_iter().map(|(n, (s, d, b))| (n, s, d, b)).collect();
            change(&mut tensors);
            crate::files::safetensors::save_safetensors(&file, &[], &tensors).unwrap();
            let error = restore(&path, &mut trainer).unwrap_err().to_string();
            fs::write(&file, &whole).unwrap();
            error
        };
        assert!(wrong(&|t| t[0].0 = "first.other".into()).contains("tensor first.audio_embed.conv1.bias: missing"));
        assert!(wrong(&|t| t.push(("more".into(), vec![1], DType::F32, vec![0; 4]))).contains("tensor more: of shape [1]: this model has no such tensor"));
        assert!(wrong(&|t| t[0].3[..4].copy_from_slice(&f32::NAN.to_le_bytes())).contains("tensor first.audio_embed.conv1.bias: element 0 is not finite"));
        assert!(wrong(&|t| (t[0].2, t[0].3) = (DType::Bf16, vec![0; 128])).contains("expected dtype f32, found bf16"));
        assert!(wrong(&|t| t[0].1 = vec![2, 32]).contains("expected shape [64], found [2, 32]"));
        // Another version's is refused by the code that opens it, however much of it could be read.
        let state = fs::read_to_string(path.join(STATE)).unwrap();
        fs::write(path.join(STATE), state.replace(env!("CARGO_PKG_VERSION"), "77.1.0").replace("\"step\"", "\"stride\"")).unwrap();
        for error in [read_state(&path).unwrap_err(), ModelFolder::open(folder.path(), &Device::Cpu, DType::F32).err().unwrap()] {
            assert!(error.to_string().contains("written by trimodal 77.1.0, and this is trimodal "), "{error}");
        }
        let patch = format!("{}.999", env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0);
        fs::write(path.join(STATE), state.replace(env!("CARGO_PKG_VERSION"), &patch)).unwrap();
        assert_eq!(read_state(&path).unwrap().version, patch);
        fs::write(path.join(STATE), "{\"step\": 3").unwrap();
        assert!(read_state(&path).unwrap_err().to_string().contains("line 1"));
        // What is not a number is not saved.
        let (name, tensor) = ("model.norm.weight", &mut trainer.parameters.norm);
        tensor.write_f64(&[f64::NAN; 64]).unwrap();
        trainer.step = 1;
        let error = save(folder.path(), &trainer, &tokenizer, &TrainerState::default(), 1).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }) && error.to_string().contains(name), "{error}");
        assert_eq!(names(folder.path()), ["latest", "step-00000000"]);
    }
}
