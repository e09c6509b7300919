//! What a run's folder says about it without its data set and without its model: the log, the settings, how far it came.

use crate::error::{Error, Result};
use crate::files::shown::{quoted, shown_path};
use crate::model::Config;
use crate::train::checkpoint::{self, TrainerState};
use crate::train::fingerprint::Fingerprint;
use crate::train::log::{self, LOG};
use crate::train::run::CONFIG;
use crate::train::settings::keys::SECTIONS;
use crate::train::{Settings, fingerprint::DataFingerprint};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A run beside others.
pub struct ComparedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// What tells it from the others.
    pub name: String,
    /// Every line of its log.
    pub log: Vec<Value>,
    /// Its settings.
    pub settings: Settings,
    /// How far it came, by its latest checkpoint; none where there is none yet.
    pub state: Option<TrainerState>,
    /// Tokens that its model tells apart, by the same checkpoint.
    pub vocabulary: Option<usize>,
}

impl ComparedRun {
    /// Reads a run's folder. A run that has not been saved yet, or whose checkpoints were removed, is known by its log and its `config.toml`.
    ///
    /// # Errors
    /// [`Error::File`] for a folder that is not a run's, with what it is instead where that can be told; what cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.join(LOG).is_file() {
            return Err(Error::file(folder, what_it_is(folder)));
        }
        let log = log::entries(folder)?;
        let checkpoint = checkpoint::is_run(folder).then(|| checkpoint::latest(folder)).transpose()?;
        let state = checkpoint.as_deref().map(checkpoint::read_state).transpose()?;
        let settings = match state.as_ref().and_then(|state| state.settings.clone()) {
            Some(settings) => settings,
            None => Settings::read(&folder.join(CONFIG))?,
        };
        let vocabulary = checkpoint.and_then(|path| Config::read(&path.join("config.json")).ok()).map(|config| config.vocab_size);
        Ok(ComparedRun { folder: folder.to_path_buf(), name: String::new(), log, settings, state, vocabulary })
    }

    /// Steps taken.
    pub fn steps(&self) -> usize {
        let logged = self.log.iter().rev().find_map(|line| line["step"].as_u64()).unwrap_or(0) as usize;
        logged.max(self.state.as_ref().map_or(0, |state| state.step))
    }

    /// Seconds that it took.
    pub fn seconds(&self) -> Option<f64> {
        self.log.iter().rev().find_map(|line| line["seconds"].as_f64())
    }

    /// Rows of the token matrix that it was trained on.
    pub fn tokens(&self) -> Option<u64> {
        self.log.iter().rev().find_map(|line| line["tokens"].as_u64())
    }

    /// The last evaluation, and that of the lowest loss: step and what was found.
    pub fn evaluations(&self) -> Option<[(usize, &Value); 2]> {
        let all = || self.log.iter().filter_map(|line| Some((line["step"].as_u64()? as usize, line.get("evaluation")?)));
        let loss = |of: &Value| of["loss"].as_f64().unwrap_or(f64::INFINITY);
        let lowest = all().reduce(|best, now| if loss(now.1) < loss(best.1) { now } else { best })?;
        Some([all().next_back()?, lowest])
    }

    /// What its data were.
    pub fn data(&self) -> Option<&DataFingerprint> {
        self.state.as_ref()?.data.as_ref()
    }

    /// Every setting with its value as text, in the order in which they are documented.
    pub fn settings(&self) -> Vec<(String, String)> {
        let all = serde_json::to_value(&self.settings).expect("settings serialise");
        let text = |value: &Value| match value {
            Value::Null => "–".into(),
            Value::String(text) if text.is_empty() => "(empty)".into(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let section = |name: &'static str, keys: Vec<String>| keys.into_iter().map(move |key| (name, key)).collect::<Vec<_>>();
        let keys = SECTIONS.iter().flat_map(|(name, _, keys)| {
            let mut keys: Vec<String> = keys.iter().map(|(key, _)| key.to_string()).collect();
            // What has no documentation of its own, as the strengths of augmentation.
            let more = all[*name].as_object().into_iter().flat_map(|object| object.keys()).filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>();
            keys.extend(more);
            section(name, keys)
        });
        keys.filter_map(|(name, key)| Some((format!("{name}.{key}"), text(all[name].get(&key)?)))).collect()
    }
}

/// Whether two fingerprints are of the same rows with the same captions and files of the same sizes, in whatever order. Times say nothing: a copy
/// has others.
pub fn same(a: &Fingerprint, b: &Fingerprint) -> bool {
    a.rows == b.rows && a.names.sum == b.names.sum && a.texts.sum == b.texts.sum && a.sizes.sum == b.sizes.sum
}

/// Why a folder is not a run's.
fn what_it_is(folder: &Path) -> String {
    if !folder.exists() {
        return "there is no such folder: expected a run, as `trimodal train` writes it".into();
    }
    let parent = folder.parent().filter(|parent| parent.join(LOG).is_file());
    let inside = folder.join("model");
    match parent {
        Some(run) => format!("a part of a run, not the run: that is {}", quoted(run)),
        None if inside.join(LOG).is_file() => format!("not a run itself: its run is {}", quoted(&inside)),
        None => format!("not a run: expected a folder with {LOG} in it, as `trimodal train` writes it"),
    }
}

/// Names that tell folders apart: their paths without what all of them begin or end with.
pub fn name(runs: &mut [ComparedRun]) {
    let paths: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let whole = std::path::absolute(&run.folder).unwrap_or_else(|_| run.folder.clone());
            whole.components().map(|part| shown_path(part.as_os_str())).collect()
        })
        .collect();
    let shortest = paths.iter().map(Vec::len).min().unwrap_or(0);
    let equal = |at: &dyn Fn(&[String]) -> String| paths.windows(2).all(|pair| at(&pair[0]) == at(&pair[1]));
    let first = (0..shortest.saturating_sub(1)).take_while(|&i| equal(&|path| path[i].clone())).count();
    let last = (0..shortest - first.min(shortest)).take_while(|&i| equal(&|path| path[path.len() - 1 - i].clone())).count();
    for (run, path) in runs.iter_mut().zip(&paths) {
        let end = path.len() - last;
        run.name = if first < end { path[first..end].join("/") } else { path[path.len() - 1].clone() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(folders: &[&str]) -> Vec<String> {
        let settings = Settings::preset("meadow").unwrap();
        let run = |folder: &&str| ComparedRun {
            folder: folder.into(),
            name: String::new(),
            log: Vec::new(),
            settings: settings.clone(),
            state: None,
            vocabulary: None,
        };
        let mut runs: Vec<_> = folders.iter().map(run).collect();
        name(&mut runs);
        runs.into_iter().map(|run| run.name).collect()
    }

    #[test]
    fn runs_are_called_by_what_tells_them_apart() {
        assert_eq!(named(&["/x/runs/a", "/x/runs/b"]), ["a", "b"]);
        assert_eq!(named(&["/x/one/model", "/x/two/model"]), ["one", "two"]);
        assert_eq!(named(&["/x/a", "/y/deep/a"]), ["x", "y/deep"]);
        assert_eq!(named(&["/x/a", "/x/a/b"]), ["a", "a/b"]);
        assert_eq!(named(&["/x/a", "/x/a"]), ["a", "a"]);
    }

    #[test]
    fn a_folder_that_is_not_a_run_is_told_what_it_is() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = place.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        folder("demo/model/step-00000001");
        std::fs::write(place.path().join("demo/model").join(LOG), "").unwrap();
        for (name, expected) in [("nowhere", "there is no such folder"), ("demo", "its run is"), ("demo/model/step-00000001", "a part of a run")] {
            let Err(error) = ComparedRun::read(&place.path().join(name)) else { panic!("{name}") };
            assert!(error.to_string().contains(expected), "{error}");
        }
        let Err(error) = ComparedRun::read(&folder("else")) else { panic!("it is empty") };
        assert!(error.to_string().contains("not a run: expected a folder with log.jsonl"), "{error}");
    }

    #[test]
    fn every_setting_has_a_value() {
        let settings = Settings::preset("meadow").unwrap();
        let run = ComparedRun { folder: "x".into(), name: String::new(), log: Vec::new(), settings, state: None, vocabulary: None };
        let all = run.settings();
        let of = |key: &str| all.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!([of("model.preset"), of("augment.hue"), of("model.from")], [Some("meadow"), Some("–"), Some("(empty)")]);
        assert!(
            SECTIONS.iter().filter(|s| s.0 != "augment").flat_map(|s| s.2.iter().map(|k| format!("{}.{}", s.0, k.0))).all(|key| of(&key).is_some()),
            "{all:?}"
        );
    }
}
