//! Every key of a run's settings: what it means, and how it is named, read and written as text.

use super::{Settings, synonyms};
use crate::data::augment::{self, Overrides, Strengths};
use crate::error::{Error, Result};
use crate::files::shown::warn;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// A section: its name, what it is about, its keys with what they mean.
pub type Section = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The section whose keys need not be set.
const AUGMENT: &str = "augment";

/// What sets such a key back.
const BACK: &str = "level";

/// All sections in the order in which they are written.
pub const SECTIONS: [Section; 6] = [
    (
        "model",
        "The model to train. It is fixed when its run begins.",
        &[
            ("preset", "Where the values that are not given come from: meadow, meadow-wide, real, small, large."),
            (
                "from",
                "A folder with a model in Qwen3's layout (config.json, safetensors, tokenizer.json) to start from; empty for fresh\nparameters. Its sizes replace those below; eyes and ears that it does not have are added.",
            ),
            ("hidden_size", "D, the width of the token matrix."),
            ("intermediate_size", "F, the width of the SwiGLU."),
            ("num_hidden_layers", "Decoder layers."),
            ("num_attention_heads", "H, query heads."),
            ("num_key_value_heads", "Key and value heads; divides num_attention_heads."),
            ("head_dim", "Width of a head: even, at most 128."),
            ("max_position_embeddings", "Rows that a sample may have: picture, sound and words together."),
            ("rms_norm_eps", "RMSNorm's epsilon."),
            ("rope_theta", "The base of the rotary frequencies."),
            ("tie_word_embeddings", "Whether the output layer is the embedding table."),
            ("pictures", "Whether the model has eyes; a new one gets none where no sample has a picture."),
            ("image_size", "Side of a picture in pixels; files of other sizes are scaled."),
            ("patch_size", "Side of a patch in pixels; divides image_size. A picture becomes (image_size / patch_size)² rows, where it has no stem."),
            (
                "stem",
                "Convolutions between the patches and the rows, such as \"32, 64/2, 64\": the width of an embedded patch, then the channels\nof each 3 × 3 convolution; /2 for one that halves the picture. Empty for none: each patch is a row.",
            ),
            (
                "histograms",
                "Cells along each side, such as \"8, 6, 4, 3\", in which a picture's colours and the directions of its edges are counted, coarse and\nfine; all counts together make one more row, of the picture as a whole. Empty for none.",
            ),
            ("bidirectional", "Whether the rows of a picture see all of it, or only what came before them."),
            ("fit", "What happens to a picture that is not square: \"crop\" keeps the centre, \"pad\" keeps all of it, with white bars."),
            ("sounds", "Whether the model has ears; a new one gets none where no sample has a sound."),
            ("num_mel_bins", "Bands of the mel spectrogram."),
            ("clip_seconds", "Length of a clip; longer sounds are cut, shorter ones padded with silence."),
            ("convolutions", "Convolutions over the spectrogram: the first has stride 1, every other one stride 2. 100 frames a second come in."),
        ],
    ),
    (
        "data",
        "What is read, and how.",
        &[
            ("path", "The data set: a folder, or shards. `trimodal train DATA` sets it."),
            (
                "columns",
                "Which columns of Parquet files are what, where they are not named image, audio, text, prompt and split:\n\"image=img,text=caption\". `--columns` sets it.",
            ),
            ("train_split", "The split to train on, where rows name one; all of a data set without splits is trained on."),
            ("tokenizer", "A tokenizer.json to use; empty to train one on the captions."),
            ("max_vocabulary", "The most tokens that a trained tokenizer has."),
            (
                "word_dropout",
                "Share of the samples whose caption is hidden from the input in part, evenly from none to all of it; it is predicted all the\nsame. A model that cannot read the words before it has to look.",
            ),
            ("color_jitter", "How much the light on a picture varies from visit to visit: each colour channel is scaled by 1 ± this."),
            (
                "balance",
                "Visit every value of an attribute of the data set (such as \"category\"), or every \"caption\", equally often; empty for every row once.\nEpochs keep their length: rows of rare values are repeated, those of frequent ones take turns. Not in shards and Parquet files.",
            ),
            (
                "augment",
                "How much pictures and sounds vary from visit to visit: \"off\", \"light\" or \"strong\". [augment] sets one strength after the other.\n`trimodal data DATA --augmented` shows what comes of it.",
            ),
            ("side_words", "A picture whose caption or prompt has one of these words is never mirrored (augment.flip); commas between them, empty for none."),
            (
                "color_blind",
                "Share of the visits at which a picture is shown without its colours, and the words for them are neither fed nor learned: what\nelse a thing is must then be told from its shape. It needs a data set that declares which words are colours (color_attributes).",
            ),
            ("color_attributes", "The attributes whose words a picture without colours cannot show (color_blind); commas between them."),
            (
                "seen_attributes",
                "The attributes whose words only a picture can tell, such as \"species, colour\"; commas between them. Where training.modality_dropout\nhides the picture of a sample, its caption is shown and learned without them. Empty where nobody knows: of Meadow it is known.",
            ),
            ("heard_attributes", "The same for words that only a sound can tell: left out where the sound is hidden."),
            (
                "on_bad_sample",
                "At a sample that cannot be read or does not fit the model: \"stop\" with a list of the first ten, or \"skip\" and count.\nIt means the same for samples to train on and for those to evaluate.",
            ),
            (
                "attributes",
                "A JSON file that declares the attributes that captions name, such as {\"species\": [\"cat\", \"dog\"]}: `eval` and the report\njudge them one by one. Empty for those that the data set declares itself.",
            ),
            (
                "strict_data",
                "When a run is continued and its data set has changed (rows, order, texts, sizes or times of files): true makes it an error,\nfalse a warning.",
            ),
            ("workers", "Threads that decode; 0 for one per core. They change nothing but the speed."),
            ("queue", "The most samples that are decoded ahead."),
            (
                "shuffle_buffer",
                "Samples in the buffer that shards are shuffled in. A folder is always shuffled as a whole; of Parquet files, what 128 MiB hold.",
            ),
            ("cache_bytes", "Memory for decoded samples: a data set that fits is decoded once."),
            ("max_picture_side", "A picture with a longer side is refused, in pixels."),
            ("max_picture_bytes", "A picture that decodes to more is refused."),
            ("max_sound_seconds", "A longer sound is refused."),
            ("max_sound_channels", "A sound with more channels is refused."),
            ("max_line_bytes", "A longer line of metadata.jsonl is refused."),
        ],
    ),
    (AUGMENT, "Augmentation, strength by strength: 0 for none. What is not set here is what data.augment says.", augment::strengths::KEYS),
    (
        "training",
        "Steps, and the optimiser: AdamW with decoupled weight decay, on matrices only.",
        &[
            ("steps", "The number of optimiser steps."),
            ("stop_after", "Save and stop after this many steps, as ctrl-C would; 0 for never. Not remembered."),
            ("seed", "The seed of the initial parameters, of the order of the samples and of what is hidden."),
            ("device", "auto (a GPU if there is one, else the CPU), cpu, wgpu, cuda or emulator."),
            ("adapter", "Part of the name of the wgpu adapter to use."),
            ("precision", "What activations and the weights that kernels read are: \"auto\" (bf16 on cuda, f32 elsewhere), \"f32\", \"bf16\"."),
            ("rows", "Rows of the token matrix of a batch: samples are packed until the next one does not fit."),
            ("accumulate", "Batches whose gradients are added up for one step; every predicted token weighs the same."),
            ("recompute", "Keep only each layer's input and compute the rest again in the backward pass: less memory, more time."),
            ("learning_rate", "The highest learning rate."),
            ("schedule", "After the warm-up: \"cosine\", \"linear\", or \"constant\"."),
            ("warmup", "Steps of linear warm-up; a value below 1 is a share of all steps."),
            ("floor", "Where cosine and linear end, as a share of learning_rate."),
            ("beta1", "AdamW's decay of the first moment."),
            ("beta2", "AdamW's decay of the second moment."),
            ("eps", "AdamW's epsilon."),
            ("weight_decay", "Decoupled weight decay, on matrices only."),
            ("max_norm", "Gradients are scaled down to this global norm; 0 for never."),
            (
                "modality_dropout",
                "Share of the visits, of samples that have both a picture and a sound, at which one of the two is hidden, either equally often: where\nno sample has one alone, the model learns only so what to say to one alone. The words that only the hidden one could tell are left\nout of the caption where that is known (data.seen_attributes, data.heard_attributes).",
            ),
            (
                "word_bag",
                "What a word of the caption that is told from the rows of picture and sound alone, in no order, weighs in the loss beside a word\nof the caption itself; 0 for no such loss. It teaches eyes and ears at once what takes long through the decoder.",
            ),
            (
                "contrastive",
                "What a sample whose caption is told from the rows of picture and sound alone, among all captions that are trained on (4,096 of\nthem where there are more), weighs in the loss beside a word of the caption itself; 0 for no such loss. The model then answers\nfrom a list (--choices) by that too. For captions that name what is there, not for answers to questions.",
            ),
            ("skip_nonfinite", "How many steps may be skipped because their loss or gradient is not a number; the next one stops the run."),
        ],
    ),
    (
        "saving",
        "Checkpoints. One is always saved at the end and after ctrl-C, SIGTERM or SIGHUP.",
        &[
            ("save_steps", "Save every this many steps; 0 for never."),
            ("save_seconds", "Save when this many seconds have passed since the last save; 0 for never."),
            ("keep", "How many of the newest checkpoints are kept; the best one is kept too."),
            ("on_full", "Where the last checkpoint cannot be written (a full disk): \"stop\" with an error, or \"wait\" and try again until it can."),
        ],
    ),
    (
        "evaluation",
        "What the run is judged on while it trains: loss and token accuracy of samples that it does not train on, and what it says about some.",
        &[
            (
                "eval_split",
                "The split to evaluate on, which is never trained on. \"auto\": one that is called validation, valid, val or dev, or else test or eval,\nwhere there is one and held_out is 0. Empty for none.",
            ),
            ("held_out", "Instead of a split: this share of the training rows is held out, chosen by a hash of their names."),
            ("eval_steps", "Evaluate every this many steps, and at the end; 0 for only at the end."),
            (
                "eval_samples",
                "At most this many samples are evaluated: drawn by the seed, from every table, shard and folder in proportion; the same ones\neach time.",
            ),
            ("captions", "What the model says is shown for this many of them, evenly spaced."),
            (
                "best_by",
                "What the checkpoint that `best` names is the best by: \"loss\", \"accuracy\" (of tokens), \"exact\" (captions, word for word) or an attribute of\nthe data set, such as \"category\"; the loss where that is equal. For the last two every evaluation describes all of its samples.",
            ),
            (
                "patience",
                "End the run after this many evaluations without a better one, by best_by; 0 for never. It is then finished, and ends again where it\nis continued, unless patience is raised.",
            ),
        ],
    ),
];

/// The keys that may differ when a run is continued: where things are, how fast they go, what is kept and shown. `device` too, though
/// only the same one gives the same bits.
const FREE: [&str; 25] = [
    "preset",
    "from",
    "path",
    "tokenizer",
    "max_vocabulary",
    "on_bad_sample",
    "attributes",
    "strict_data",
    "workers",
    "queue",
    "cache_bytes",
    "max_picture_side",
    "max_picture_bytes",
    "max_sound_seconds",
    "max_sound_channels",
    "max_line_bytes",
    "stop_after",
    "device",
    "adapter",
    "recompute",
    "skip_nonfinite",
    "save_steps",
    "save_seconds",
    "keep",
    "on_full",
];

impl Settings {
    /// Sets a key by its name, `learning_rate` or `training.learning_rate`, from text.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown key, with ours for what others call so, or the nearest known one, and for a value of the wrong kind.
    pub fn set(&mut self, key: &str, text: &str) -> Result<()> {
        let (section, name) = resolve(key)?;
        let mut all = self.to_json();
        let old = &all[section][name];
        let plain = text.trim();
        let value = match old {
            Value::Bool(_) => plain.parse().ok().map(Value::Bool),
            _ if section == AUGMENT && plain.trim_matches('"') == BACK => Some(Value::Null),
            Value::Number(_) | Value::Null => serde_json::from_str(&plain.replace('_', "")).ok().filter(Value::is_number),
            _ => Some(Value::String(plain.trim_matches('"').into())),
        };
        let kind = match section {
            AUGMENT => "a number, or \"level\" for what data.augment says",
            _ if old.is_boolean() => "true or false",
            _ => "a number",
        };
        let value = value.ok_or_else(|| Error::Usage(format!("{section}.{name}: expected {kind}, found {text:?}")))?;
        all[section][name] = value;
        *self = Self::from_json(all).map_err(|what| Error::Usage(format!("{section}.{name} = {text}: {what}")))?;
        Ok(())
    }

    /// Sets keys from `KEY=VALUE`, as `--set` gives them.
    ///
    /// # Errors
    /// As [`Settings::set`]; one without `=`.
    pub fn set_all(&mut self, pairs: &[String]) -> Result<()> {
        for pair in pairs {
            let (key, value) = pair.split_once('=').ok_or_else(|| Error::Usage(format!("--set {pair}: expected KEY=VALUE")))?;
            self.set(key.trim(), value)?;
        }
        Ok(())
    }

    /// The settings as an annotated TOML file, every key explained.
    pub fn to_toml(&self) -> String {
        let all = self.to_json();
        let mut text = String::from(
            "# The settings of a training run of trimodal. `trimodal train DATA --out RUN --config FILE.toml` reads such a file; keys that\n# are left out are the preset's.\n",
        );
        for (section, about, keys) in SECTIONS {
            text += &format!("\n# {about}\n[{section}]\n");
            if section == AUGMENT {
                text += &self.augment_to_toml();
                continue;
            }
            for (name, doc) in keys {
                let doc = doc.replace('\n', "\n# ");
                // JSON's strings, numbers and booleans are TOML's; but for one control character that JSON leaves as it is.
                let value = all[section][name].to_string().replace('\u{7f}', "\\u007f");
                text += &format!("# {doc}\n{name} = {value}\n");
            }
        }
        text
    }

    /// The keys of `[augment]`: those that are not set are comments, with what they are by `data.augment`.
    fn augment_to_toml(&self) -> String {
        let level = Strengths::new(self.data.augment, &Overrides::default()).values();
        let given = &self.to_json()[AUGMENT];
        let of = |(row, level): (&augment::strengths::Row, f64)| {
            let (about, light, strong, name) = (row.about, row.light, row.strong, row.name);
            let line = match &given[name] {
                Value::Null => format!("# {name} = {level}"),
                value => format!("{name} = {value}"),
            };
            format!("# {about} Light: {light}, strong: {strong}.\n{line}\n")
        };
        augment::strengths::TABLE.iter().zip(level).map(of).collect()
    }

    /// The first key whose value differs from the one that a run to be continued was begun with: its name, what it was, what it is.
    pub fn first_change(&self, now: &Settings) -> Option<(String, String, String)> {
        let (before, now) = (self.to_json(), now.to_json());
        let keys =
            SECTIONS.iter().filter(|(section, ..)| *section != "evaluation").flat_map(|(section, _, keys)| keys.iter().map(move |key| (*section, key.0)));
        let mut changed =
            keys.chain([("evaluation", "held_out")]).filter(|(section, name)| !FREE.contains(name) && before[section][name] != now[section][name]);
        changed.next().map(|(section, name)| (format!("{section}.{name}"), before[section][name].to_string(), now[section][name].to_string()))
    }

    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("numbers and strings serialise")
    }

    pub(super) fn from_json(value: Value) -> std::result::Result<Self, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }
}

/// Keys that were called something else before: their section, their old name, their name now. The old names are still read.
pub const RENAMED: [(&str, &str, &str); 2] = [("data", "hide", "word_dropout"), ("data", "light", "color_jitter")];

/// Says, once in a process, that a key has another name now.
pub(crate) fn say_renamed(old: &'static str, new: &'static str) {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(old) {
        warn(format!("{old} is now called {new}"));
    }
}

/// The section and the name of a key that may be given with or without its section.
///
/// # Errors
/// [`Error::Usage`] for an unknown key, with ours for what others call so, or the nearest known one.
pub fn resolve(key: &str) -> Result<(&'static str, &'static str)> {
    let all = || SECTIONS.iter().flat_map(|(section, _, keys)| keys.iter().map(move |(name, _)| (*section, *name)));
    let same = |(section, name): &(&str, &str)| match key.split_once('.') {
        Some((s, n)) => s == *section && n == *name,
        None => key == *name,
    };
    if let Some((section, old, new)) = RENAMED.into_iter().find(|(section, old, _)| same(&(section, old))) {
        say_renamed(old, new);
        return Ok((section, new));
    }
    all().find(same).ok_or_else(|| {
        let hint = match synonyms::ours(key.rsplit('.').next().unwrap_or(key)) {
            Some((ours, "")) => format!(": here it is {ours}"),
            Some((ours, about)) => format!(": here it is {ours}, {about}"),
            None => nearest(key, all()).map(|near| format!(": did you mean {near}?")).unwrap_or_default(),
        };
        Error::Usage(format!("unknown key {key:?}{hint}; `trimodal config` lists them all"))
    })
}

/// The key that looks most like a wrong one, if one does.
#[cfg(feature = "cli")]
fn nearest<'a>(key: &str, all: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let wanted = key.rsplit('.').next().unwrap_or(key);
    let alike = |name: &str| strsim::jaro_winkler(wanted, name);
    let (section, name) = all.max_by(|a, b| alike(a.1).total_cmp(&alike(b.1)))?;
    (alike(name) > 0.7).then(|| format!("{section}.{name}"))
}

/// Only the program guesses.
#[cfg(not(feature = "cli"))]
fn nearest<'a>(_: &str, _: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::PRESETS;
    use super::*;

    #[test]
    fn every_key_is_documented_once_and_nothing_else() {
        let json = Settings::preset("meadow").unwrap().to_json();
        let fields: BTreeSet<(String, String)> =
            json.as_object().unwrap().iter().flat_map(|(s, keys)| keys.as_object().unwrap().keys().map(move |k| (s.clone(), k.clone()))).collect();
        let documented: Vec<_> = SECTIONS.iter().flat_map(|(s, _, keys)| keys.iter().map(move |k| (s.to_string(), k.0.to_string()))).collect();
        assert_eq!(documented.iter().cloned().collect::<BTreeSet<_>>(), fields);
        let names: BTreeSet<&String> = documented.iter().map(|(_, name)| name).collect();
        assert_eq!(names.len(), documented.len(), "a key is named without its section: names are unique");
        assert!(FREE.iter().all(|name| names.contains(&name.to_string())));
        assert!(SECTIONS.iter().all(|(_, about, keys)| !about.is_empty() && keys.iter().all(|key| key.1.len() > 5)));
    }

    #[test]
    fn keys_are_set_by_name_and_wrong_ones_are_named() {
        let mut settings = Settings::preset("meadow").unwrap();
        for (key, value) in [("learning_rate", "1e-3"), ("training.steps", "10_000"), ("recompute", "true"), ("schedule", "linear"), ("path", "a b")] {
            settings.set(key, value).unwrap();
        }
        assert_eq!((settings.training.learning_rate, settings.training.steps, settings.training.recompute), (1e-3, 10_000, true));
        assert_eq!((settings.training.schedule, settings.data.path.as_str()), (super::super::ScheduleShape::Linear, "a b"));
        let wrong = |key: &str, value: &str| settings.clone().set(key, value).unwrap_err().to_string();
        assert!(wrong("steps", "many").contains("training.steps: expected a number, found \"many\""));
        assert!(wrong("steps", "-1").contains("training.steps = -1") && wrong("steps", "1.5").contains("1.5"));
        assert!(wrong("recompute", "yes").contains("expected true or false"));
        assert!(wrong("schedule", "sine").contains("expected one of `cosine`, `linear`, `constant`"));
        for key in ["model.steps", "nothing.at.all", ""] {
            assert!(wrong(key, "1").contains("unknown key"), "{key}");
        }
        #[cfg(feature = "cli")]
        assert!(wrong("learning_rat", "1").contains("did you mean training.learning_rate?"));
    }

    #[test]
    fn strengths_of_augmentation_are_set_one_by_one_and_set_back() {
        let mut settings = Settings::preset("meadow").unwrap();
        let before = settings.clone();
        for (key, value) in [("augment", "light"), ("augment.shift", "0.2"), ("hue", "0")] {
            settings.set(key, value).unwrap();
        }
        let strengths = settings.augmentation().strengths;
        assert_eq!((strengths.shift, strengths.hue, strengths.scale), (0.2, 0.0, 0.11));
        let text = settings.to_toml();
        for line in ["augment = \"light\"", "shift = 0.2", "hue = 0.0", "# scale = 0.11"] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
        assert_eq!(before.first_change(&settings).unwrap().0, "data.augment");
        settings.set("augment", "off").unwrap();
        assert_eq!(before.first_change(&settings).unwrap(), ("augment.shift".into(), "null".into(), "0.2".into()));
        settings.set("shift", "level").unwrap();
        settings.set("hue", "\"level\"").unwrap();
        assert_eq!(settings, before);
        let wrong = |key: &str, value: &str| before.clone().set(key, value).unwrap_err().to_string();
        assert!(wrong("shift", "much").contains("augment.shift: expected a number, or \"level\" for what data.augment says, found \"much\""));
        assert!(wrong("augment", "heavy").contains("expected one of `off`, `light`, `strong`"));
        settings.set("erase", "0.5").unwrap();
        settings.set("erase_size", "1").unwrap();
        let erased = settings.validate().unwrap_err().to_string();
        assert!(erased.contains("augment.erase_size: expected 0 to 0.7") && erased.contains("more than half of the picture could be erased"), "{erased}");
        #[cfg(feature = "cli")]
        assert!(wrong("rotatoin", "1").contains("did you mean augment.rotation?"));
        // As a run of before there was augmentation has them.
        let mut old = before.to_json();
        old.as_object_mut().unwrap().remove("augment");
        for key in ["augment", "side_words"] {
            old["data"].as_object_mut().unwrap().remove(key).unwrap();
        }
        assert_eq!(Settings::from_json(old).unwrap(), before);
    }

    #[test]
    fn old_names_are_still_read_and_new_ones_are_written() {
        let mut settings = Settings::preset("meadow").unwrap();
        settings.set("hide", "0.5").unwrap();
        settings.set("data.light", "0.125").unwrap();
        assert_eq!((settings.data.word_dropout, settings.data.color_jitter), (0.5, 0.125));
        // As `trainer_state.json` of an older run has them.
        let new = settings.to_json().to_string();
        let old = new.replace("\"word_dropout\"", "\"hide\"").replace("\"color_jitter\"", "\"light\"");
        assert_ne!(old, new);
        assert_eq!(serde_json::from_str::<Settings>(&old).unwrap(), settings);
        for (section, old, new) in RENAMED {
            assert_eq!(resolve(old).unwrap(), (section, new));
            assert!(!settings.to_toml().contains(&format!("\n{old} =")) && settings.to_toml().contains(&format!("\n{new} =")));
        }
        assert!(settings.set("model.hide", "1").is_err());
        assert!(settings.set("hide", "much").unwrap_err().to_string().contains("data.word_dropout: expected a number"));
    }

    #[test]
    fn presets_are_valid_and_only_what_matters_is_compared() {
        for name in PRESETS {
            let settings = Settings::preset(name).unwrap();
            settings.validate().unwrap();
            assert!(settings.first_change(&settings).is_none());
        }
        let small = Settings::preset("small").unwrap();
        let before = Settings::preset("meadow").unwrap();
        assert_eq!(before.first_change(&small).unwrap().0, "model.hidden_size");
        let changed = |key: &str, value: &str| {
            let mut now = before.clone();
            now.set(key, value).unwrap();
            before.first_change(&now)
        };
        assert_eq!(changed("rows", "7").unwrap(), ("training.rows".into(), "1920".into(), "7".into()));
        let matter = [("steps", "5"), ("balance", "caption"), ("seed", "5"), ("accumulate", "5"), ("shuffle_buffer", "5"), ("train_split", "x")];
        for (key, value) in matter.into_iter().chain([("learning_rate", "0.5"), ("word_dropout", "0.5"), ("held_out", "0.5")]) {
            assert!(changed(key, value).is_some(), "{key}");
        }
        for key in ["workers", "keep", "stop_after", "eval_steps", "captions", "best_by", "patience"] {
            assert!(changed(key, "7").is_none(), "{key}");
        }
        for (sets, expected) in [
            (&[("best_by", "exact")][..], "evaluation.best_by: expected with it evaluation.eval_split or evaluation.held_out"),
            (&[("patience", "3")][..], "evaluation.patience: expected with it evaluation.eval_split or evaluation.held_out"),
            (
                &[("patience", "3"), ("held_out", "0.5"), ("eval_steps", "0")][..],
                "evaluation.patience: expected with it evaluation.eval_steps of at least 1, found 3 and 0",
            ),
        ] {
            let mut wrong = before.clone();
            wrong.evaluation.eval_split = String::new();
            sets.iter().for_each(|(key, value)| wrong.set(key, value).unwrap());
            assert!(wrong.validate().unwrap_err().to_string().contains(expected), "{sets:?}");
        }
        // As a run of before there were these keys has them.
        let mut old = before.to_json();
        for (section, key) in [("data", "balance"), ("evaluation", "best_by"), ("evaluation", "patience")] {
            old[section].as_object_mut().unwrap().remove(key).unwrap();
        }
        assert_eq!(Settings::from_json(old).unwrap(), before);
        for (key, value) in [("steps", "0"), ("word_dropout", "2"), ("beta2", "1"), ("learning_rate", "-1"), ("head_dim", "7"), ("patch_size", "7")] {
            let mut wrong = before.clone();
            wrong.set(key, value).unwrap();
            assert!(wrong.validate().unwrap_err().to_string().contains(key), "{key}");
        }
    }
}
