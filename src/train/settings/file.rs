//! Settings from a TOML file.

use super::{PRESETS, Settings, keys};
use crate::error::{Error, Result};
use crate::model::Config;
use std::io::Read;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// A longer file is not a settings file.
const MAX: u64 = 1 << 20;

impl Settings {
    /// The settings of a preset by name, of a `.toml` file, or the sizes of a model's `config.json` in the preset `meadow`.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown preset; as [`Settings::read`].
    pub fn named(name: &str) -> Result<Self> {
        let path = Path::new(name);
        if PRESETS.contains(&name) {
            Self::preset(name)
        } else if name.ends_with(".json") {
            let mut settings = Self::preset("meadow")?;
            settings.take_sizes(&Config::read(path)?);
            Ok(settings)
        } else if name.ends_with(".toml") || path.is_file() {
            Self::read(path)
        } else {
            Self::preset(name) // the error
        }
    }

    /// Reads a TOML file: a table per section. What it leaves out is its preset's (`model.preset`, or `meadow`).
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] with the line of an unknown key (and the nearest known one) or a value of the wrong kind.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        // Opening a pipe would wait for its other end, so the kind of file is looked at first.
        if !std::fs::metadata(path).map_err(Error::io(path, "open"))?.is_file() {
            return Err(Error::file(path, "expected a settings file, found a folder, pipe or device"));
        }
        let file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
        file.take(MAX + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
        if bytes.len() as u64 > MAX {
            return Err(Error::file(path, format!("longer than {MAX} bytes: this is not a settings file")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|e| Error::file_at(path, format!("byte {}", e.valid_up_to()), "not UTF-8"))?;
        Self::from_toml(text).map_err(|(at, what)| Error::file_at(path, format!("line {}", 1 + text[..at].matches('\n').count()), what))
    }

    /// As [`Settings::read`], from text; an error is the byte where it is and what is wrong.
    pub fn from_toml(text: &str) -> std::result::Result<Self, (usize, String)> {
        let file = DeTable::parse(text).map_err(|e| (start(&e.span().unwrap_or(0..0), text), e.message().to_string()))?;
        let mut entries = Vec::new();
        for (section, table) in file.get_ref() {
            let at = start(&section.span(), text);
            let section = section.get_ref();
            let known = keys::SECTIONS.iter().map(|(name, ..)| *name);
            if !known.clone().any(|name| name == section) {
                return Err((at, format!("unknown section [{section}]: expected one of {}", known.collect::<Vec<_>>().join(", "))));
            }
            let DeValue::Table(table) = table.get_ref() else { return Err((at, format!("{section}: expected a table, [{section}], with its keys below"))) };
            for (name, value) in table {
                let at = start(&name.span(), text);
                let (section, name) = keys::resolve(&format!("{section}.{}", name.get_ref())).map_err(|e| (at, e.to_string()))?;
                let kind = match value.get_ref() {
                    DeValue::String(text) => serde_json::Value::String(text.to_string()),
                    DeValue::Boolean(yes) => serde_json::Value::Bool(*yes),
                    DeValue::Integer(number) => {
                        i64::from_str_radix(number.as_str(), number.radix()).map_err(|e| (at, format!("{section}.{name}: {e}")))?.into()
                    }
                    DeValue::Float(number) => number.as_str().parse::<f64>().map_err(|e| (at, format!("{section}.{name}: {e}")))?.into(),
                    _ => return Err((at, format!("{section}.{name}: expected a string, a number, true or false"))),
                };
                entries.push((at, section, name, kind));
            }
        }
        let preset = entries.iter().find(|(_, section, name, _)| (*section, *name) == ("model", "preset"));
        let (at, name) = preset.map_or((0, "meadow"), |(at, .., value)| (*at, value.as_str().unwrap_or_default()));
        let settings = Self::preset(name).map_err(|e| (at, e.to_string()))?;
        let mut all = settings.to_json();
        for (at, section, name, value) in entries {
            let old = std::mem::replace(&mut all[section][name], value);
            // Checked one by one, so that the error has its line.
            if let Err(what) = Self::from_json(all.clone()) {
                let preset = if old.is_null() { String::new() } else { format!(" (the preset's is {old})") };
                return Err((at, format!("{section}.{name}: {what}{preset}")));
            }
        }
        Self::from_json(all).map_err(|what| (0, what))
    }
}

fn start(span: &std::ops::Range<usize>, text: &str) -> usize {
    let mut at = span.start.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for name in PRESETS {
            let mut settings = Settings::preset(name).unwrap();
            settings.set("augment.noise", "0.01").unwrap();
            settings.set("path", "a \"b\"\\c\n\u{7f}é").unwrap();
            let text = settings.to_toml();
            assert_eq!(Settings::from_toml(&text).unwrap(), settings);
            assert!(text.lines().all(|line| line.chars().count() <= 160));
        }
        let some = Settings::from_toml("[model]\npreset = \"small\"\n[training]\nsteps = 7\nlearning_rate = 1\n").unwrap();
        assert_eq!((some.training.steps, some.training.learning_rate, some.model.hidden_size), (7, 1.0, 768));
    }

    #[test]
    fn old_names_are_read() {
        let some = Settings::from_toml("[data]\nhide = 0.5\nlight = 0.0\n").unwrap();
        assert_eq!((some.data.word_dropout, some.data.color_jitter), (0.5, 0.0));
    }

    #[test]
    fn mistakes_have_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        for (text, expected) in [
            ("[training]\nsteps = 5\nlearning_rat = 1e-3\n", "line 3: unknown key \"training.learning_rat\": did you mean training.learning_rate?"),
            ("[trainin]\nsteps = 5\n", "line 1: unknown section [trainin]: expected one of model, data, augment, training, saving, evaluation"),
            ("steps = 5\n", "line 1: unknown section [steps]"),
            ("[training]\n\nsteps = \"five\"\n", "line 3: training.steps: invalid type: string \"five\", expected usize (the preset's is 2000)"),
            ("[training]\nsteps = -5\n", "line 2: training.steps: invalid value: integer `-5`"),
            ("[training]\nschedule = \"sine\"\n", "expected one of `cosine`, `linear`, `constant`"),
            ("[training]\nlearning_rate = nan\n", "line 2: training.learning_rate"),
            ("[model]\npreset = \"huge\"\n", "line 2: unknown config \"huge\": expected meadow"),
            ("[training]\nsteps = [1]\n", "line 2: training.steps: expected a string, a number"),
            ("[training]\nsteps = 99999999999999999999\n", "line 2: training.steps"),
            ("[training]\nsteps = \n", "line 2"),
            ("[training]\nsteps = 1\nsteps = 2\n", "line 3: duplicate key"),
            ("training = 1\n", "line 1: training: expected a table"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Settings::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(Settings::named("huge").unwrap_err().to_string().contains("unknown config"));
        assert!(Settings::named("nowhere.toml").unwrap_err().to_string().contains("cannot open"));
    }
}
