//! All settings of a training run, in six sections; [`keys`] documents every key, `trimodal config` prints them.

#[cfg(feature = "cli")]
pub mod file;
pub mod keys;
pub mod path;
mod synonyms;

use super::recipe::{Precision, Recipe};
use super::schedule::{Schedule, ScheduleShape};
use crate::data::augment::{self, Augmentation, Level, Overrides, Sides, Strengths};
use crate::data::folder::Fit;
use crate::data::loader::{LoaderOptions, OnBadSample};
use crate::data::{Limits, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::model::config::{AudioConfig, Stem, VisionConfig};
use serde::{Deserialize, Serialize};

/// The names of the presets.
pub const PRESETS: [&str; 5] = ["meadow", "meadow-wide", "real", "small", "large"];

/// A run's settings. [`Settings::preset`] makes them, [`Settings::set`] changes one by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[model]`
    pub model: ModelSettings,
    /// `[data]`
    pub data: DataSettings,
    /// `[augment]`: strengths that are given one by one, over those of `data.augment`.
    #[serde(default)]
    pub augment: Overrides,
    /// `[training]`
    pub training: TrainingSettings,
    /// `[saving]`
    pub saving: SavingSettings,
    /// `[evaluation]`
    pub evaluation: EvaluationSettings,
}

/// `[model]`: sizes. See [`keys`] for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ModelSettings {
    pub preset: String,
    pub from: String,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub tie_word_embeddings: bool,
    pub pictures: bool,
    pub image_size: usize,
    pub patch_size: usize,
    #[serde(default)]
    pub stem: String,
    #[serde(default)]
    pub histograms: String,
    pub bidirectional: bool,
    pub fit: Fit,
    pub sounds: bool,
    pub num_mel_bins: usize,
    pub clip_seconds: f64,
    pub convolutions: usize,
}

/// `[data]`: what is read, and how. See [`keys`] for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct DataSettings {
    pub path: String,
    #[serde(default)]
    pub columns: String,
    pub train_split: String,
    pub tokenizer: String,
    pub max_vocabulary: usize,
    #[serde(alias = "hide")]
    pub word_dropout: f64,
    #[serde(alias = "light")]
    pub color_jitter: f64,
    #[serde(default)]
    pub color_blind: f64,
    #[serde(default = "color_attributes")]
    pub color_attributes: String,
    #[serde(default)]
    pub seen_attributes: String,
    #[serde(default)]
    pub heard_attributes: String,
    #[serde(default)]
    pub balance: String,
    #[serde(default)]
    pub augment: Level,
    #[serde(default = "side_words")]
    pub side_words: String,
    pub on_bad_sample: OnBadSample,
    #[serde(default)]
    pub attributes: String,
    #[serde(default)]
    pub strict_data: bool,
    pub workers: usize,
    pub queue: usize,
    pub shuffle_buffer: usize,
    pub cache_bytes: u64,
    pub max_picture_side: u32,
    pub max_picture_bytes: u64,
    pub max_sound_seconds: u32,
    pub max_sound_channels: u16,
    pub max_line_bytes: usize,
}

/// What runs of before there was a choice have: they mirrored nothing.
fn side_words() -> String {
    augment::sides::WORDS.into()
}

/// `[training]`: steps and the optimiser. See [`keys`] for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct TrainingSettings {
    pub steps: usize,
    pub stop_after: usize,
    pub seed: u64,
    pub device: String,
    pub adapter: String,
    pub precision: PrecisionChoice,
    pub rows: usize,
    pub accumulate: usize,
    pub recompute: bool,
    pub learning_rate: f64,
    pub schedule: ScheduleShape,
    pub warmup: f64,
    pub floor: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub max_norm: f64,
    #[serde(default)]
    pub modality_dropout: f64,
    #[serde(default)]
    pub word_bag: f64,
    #[serde(default)]
    pub contrastive: f64,
    pub skip_nonfinite: usize,
}

/// `[saving]`: when, and how many. See [`keys`] for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SavingSettings {
    pub save_steps: usize,
    pub save_seconds: u64,
    pub keep: usize,
    /// Runs of before there was a choice did not wait.
    #[serde(default)]
    pub on_full: OnFull,
}

/// What happens where the last checkpoint cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// An error: what was trained since the last checkpoint is lost.
    #[default]
    Stop,
    /// Try again until there is room.
    Wait,
}

/// `[evaluation]`: what the run is judged on while it trains. See [`keys`] for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EvaluationSettings {
    pub eval_split: String,
    pub held_out: f64,
    pub eval_steps: usize,
    pub eval_samples: usize,
    pub captions: usize,
    #[serde(default = "loss")]
    pub best_by: String,
    #[serde(default)]
    pub patience: usize,
}

/// The `eval_split` that stands for the split which a data set has for it. Runs of before there was this choice have an empty one: none.
pub const AUTO: &str = "auto";

/// Runs of before there was a choice.
fn loss() -> String {
    "loss".into()
}

/// What activations and weights are, or `auto`: bf16 on CUDA, f32 elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 on CUDA, f32 elsewhere.
    #[default]
    Auto,
    /// 32-bit float.
    F32,
    /// Mixed precision.
    Bf16,
}

impl PrecisionChoice {
    /// The precision on a device.
    pub fn on(self, device: &Device) -> Precision {
        match self {
            PrecisionChoice::Auto if device.to_string().starts_with("cuda") => Precision::Bf16,
            chosen => chosen.resolved(),
        }
    }

    /// The precision without looking at a device: f32 for `auto`.
    pub(super) fn resolved(self) -> Precision {
        if self == PrecisionChoice::Bf16 { Precision::Bf16 } else { Precision::F32 }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => PrecisionChoice::F32,
            Precision::Bf16 => PrecisionChoice::Bf16,
        }
    }
}

/// The grids that `model.histograms` names.
fn grids(text: &str) -> Result<Vec<usize>> {
    let bad = |part: &str| Error::Usage(format!("model.histograms: expected cells along a side such as \"8, 6, 4, 3\", found {part:?} in {text:?}"));
    let parts = if text.trim().is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() };
    parts.into_iter().map(|part| part.parse().map_err(|_| bad(part))).collect()
}

fn color_attributes() -> String {
    "color, colour".into()
}

impl Settings {
    /// The demo's: 48 × 48 pictures, half a second of sound, samples of up to 128 rows.
    fn meadow() -> Self {
        let (limits, loader) = (Limits::default(), LoaderOptions::default());
        let Recipe { rows, word_dropout, schedule, .. } = Recipe::meadow(2000, 0);
        // Pictures without their colours, instead of the experiments' light that varies: what a thing is must not depend on its colour, and a
        // colour that is asked for must be there to see (docs/experiments.md).
        let (color_jitter, color_blind) = (0.0, 0.5);
        Settings {
            model: ModelSettings {
                preset: "meadow".into(),
                from: String::new(),
                hidden_size: 64,
                intermediate_size: 176,
                num_hidden_layers: 3,
                num_attention_heads: 4,
                num_key_value_heads: 4,
                head_dim: 16,
                max_position_embeddings: 128,
                rms_norm_eps: 1e-6,
                rope_theta: 10_000.0,
                tie_word_embeddings: true,
                pictures: true,
                image_size: 48,
                patch_size: 2,
                stem: "16, 16, 32/2, 32, 64/2, 64".into(),
                histograms: String::new(),
                bidirectional: true,
                fit: Fit::Crop,
                sounds: true,
                num_mel_bins: 40,
                clip_seconds: 0.5,
                convolutions: 3,
            },
            data: DataSettings {
                path: String::new(),
                columns: String::new(),
                train_split: "train".into(),
                tokenizer: String::new(),
                max_vocabulary: 1024,
                word_dropout: word_dropout.into(),
                color_jitter,
                color_blind,
                color_attributes: color_attributes(),
                seen_attributes: String::new(),
                heard_attributes: String::new(),
                balance: String::new(),
                augment: Level::Off,
                side_words: side_words(),
                on_bad_sample: OnBadSample::Stop,
                attributes: String::new(),
                strict_data: false,
                workers: 0,
                queue: loader.queue,
                shuffle_buffer: loader.shuffle_buffer,
                cache_bytes: loader.cache_bytes,
                max_picture_side: limits.picture_side,
                max_picture_bytes: limits.picture_bytes,
                max_sound_seconds: limits.sound_seconds,
                max_sound_channels: limits.sound_channels,
                max_line_bytes: limits.line_bytes,
            },
            augment: Overrides::default(),
            training: TrainingSettings {
                steps: schedule.steps,
                stop_after: 0,
                seed: 0,
                device: "auto".into(),
                adapter: String::new(),
                precision: PrecisionChoice::Auto,
                rows,
                accumulate: 1,
                recompute: false,
                learning_rate: schedule.peak,
                schedule: schedule.shape,
                warmup: 0.04,
                floor: schedule.floor,
                beta1: schedule.beta1,
                beta2: schedule.beta2,
                eps: schedule.eps,
                weight_decay: schedule.weight_decay,
                max_norm: schedule.max_norm,
                modality_dropout: 0.0,
                word_bag: 1.0,
                contrastive: 3.0,
                skip_nonfinite: 0,
            },
            saving: SavingSettings { save_steps: 0, save_seconds: 60, keep: 3, on_full: OnFull::Stop },
            evaluation: EvaluationSettings {
                eval_split: AUTO.into(),
                held_out: 0.0,
                eval_steps: 500,
                eval_samples: 256,
                captions: 3,
                best_by: loss(),
                patience: 0,
            },
        }
    }

    /// The settings of a preset: `meadow` (the demo's), `meadow-wide`, `real` (for what people drew, photographed and said), `small` (124 million parameters at a vocabulary of 50,304) or
    /// `large` (about 7 thousand million).
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name.
    pub fn preset(name: &str) -> Result<Self> {
        let mut all = Self::meadow();
        all.model.preset = name.into();
        let Settings { model, data, training, saving, .. } = &mut all;
        match name {
            "meadow" => {}
            "meadow-wide" => (model.hidden_size, model.intermediate_size, model.head_dim) = (96, 256, 24),
            // What paid on pictures of benches/real: see docs/experiments.md.
            "real" => {
                (model.hidden_size, model.intermediate_size, model.num_hidden_layers, model.head_dim) = (128, 352, 2, 32);
                // One patch: little is learned from what is not counted.
                (model.patch_size, model.stem, model.histograms, model.fit) = (48, String::new(), "8, 6, 4, 3".into(), Fit::Pad);
                (data.max_vocabulary, data.word_dropout, data.color_blind, data.augment) = (2048, 0.0, 0.0, Level::Light);
                (training.steps, training.rows, training.learning_rate, training.weight_decay) = (5_000, 704, 1.5e-3, 0.1);
                (training.word_bag, training.contrastive) = (0.0, 5.0);
            }
            "small" | "large" => {
                (model.hidden_size, model.intermediate_size, model.num_hidden_layers, model.head_dim) = (768, 2048, 12, 64);
                (model.num_attention_heads, model.num_key_value_heads) = (12, 12);
                (model.max_position_embeddings, model.image_size, model.patch_size, model.stem) = (1024, 224, 16, String::new());
                (model.num_mel_bins, model.clip_seconds, model.convolutions) = (80, 10.0, 2);
                (data.max_vocabulary, data.word_dropout, data.color_jitter, data.color_blind) = (50_304, 0.0, 0.25, 0.0);
                (training.steps, training.rows, training.learning_rate, training.warmup) = (50_000, 16_384, 6e-4, 0.02);
                (training.floor, training.beta2, training.weight_decay) = (0.1, 0.95, 0.1);
                (training.word_bag, training.contrastive) = (0.0, 0.0);
                saving.save_seconds = 600;
                if name == "large" {
                    (model.hidden_size, model.intermediate_size, model.num_hidden_layers, model.head_dim) = (4096, 12_288, 36, 128);
                    (model.num_attention_heads, model.num_key_value_heads) = (32, 8);
                    (model.tie_word_embeddings, model.rope_theta) = (false, 1e6);
                    (data.max_vocabulary, training.learning_rate, training.recompute) = (32_768, 3e-4, true);
                }
            }
            _ => return Err(Error::Usage(format!("unknown config {name:?}: expected {}, or the path of a .toml file", PRESETS.join(", ")))),
        }
        Ok(all)
    }

    /// The model's config for a tokenizer: its vocabulary, and which of it begins and ends a sample.
    pub fn model_config_for(&self, tokenizer: &Tokenizer) -> Config {
        let special = tokenizer.special();
        Config { bos_token_id: Some(special.bos), eos_token_id: vec![special.eos], ..self.model_config(tokenizer.vocabulary()) }
    }

    /// The model's config for a vocabulary of this size.
    pub fn model_config(&self, vocab_size: usize) -> Config {
        let m = &self.model;
        Config {
            hidden_size: m.hidden_size,
            intermediate_size: m.intermediate_size,
            num_hidden_layers: m.num_hidden_layers,
            num_attention_heads: m.num_attention_heads,
            num_key_value_heads: m.num_key_value_heads,
            head_dim: m.head_dim,
            max_position_embeddings: m.max_position_embeddings,
            rms_norm_eps: m.rms_norm_eps as f32,
            rope_theta: m.rope_theta,
            tie_word_embeddings: m.tie_word_embeddings,
            contrastive: self.training.contrastive > 0.0,
            ..self.embedders(Config::meadow(vocab_size))
        }
    }

    /// A config with these settings' eyes and ears.
    pub fn embedders(&self, config: Config) -> Config {
        let m = &self.model;
        // What cannot be read is found by `validate`.
        let (stem, histograms) = (m.stem.parse().ok(), grids(&m.histograms).unwrap_or_default());
        let vision = VisionConfig { image_size: m.image_size, patch_size: m.patch_size, bidirectional: m.bidirectional, stem, histograms };
        let audio = AudioConfig { num_mel_bins: m.num_mel_bins, sample_rate: 16_000, clip_seconds: m.clip_seconds, layers: m.convolutions };
        Config { picture_fit: m.fit, vision_config: m.pictures.then_some(vision), audio_config: m.sounds.then_some(audio), ..config }
    }

    /// Takes over the sizes of a model.
    pub fn take_sizes(&mut self, config: &Config) {
        let m = &mut self.model;
        (m.hidden_size, m.intermediate_size, m.num_hidden_layers) = (config.hidden_size, config.intermediate_size, config.num_hidden_layers);
        (m.num_attention_heads, m.num_key_value_heads, m.head_dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        (m.max_position_embeddings, m.tie_word_embeddings) = (config.max_position_embeddings, config.tie_word_embeddings);
        // Through its decimal form: 1e-6, not 9.999999974752427e-7.
        (m.rms_norm_eps, m.rope_theta) = (config.rms_norm_eps.to_string().parse().unwrap_or(1e-6), config.rope_theta);
        (m.pictures, m.sounds) = (config.vision_config.is_some(), config.audio_config.is_some());
        m.fit = config.picture_fit;
        if let Some(vision) = &config.vision_config {
            (m.image_size, m.patch_size, m.bidirectional) = (vision.image_size, vision.patch_size, vision.bidirectional);
            m.stem = vision.stem.as_ref().map(Stem::to_string).unwrap_or_default();
            m.histograms = vision.histograms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        }
        if let Some(audio) = &config.audio_config {
            (m.num_mel_bins, m.clip_seconds, m.convolutions) = (audio.num_mel_bins, audio.clip_seconds, audio.layers);
        }
    }

    /// Learning rate over time, and AdamW's constants.
    pub fn optimiser(&self) -> Schedule {
        let t = &self.training;
        let warmup = if t.warmup < 1.0 { (t.warmup * t.steps as f64).round().max(1.0) } else { t.warmup };
        Schedule {
            shape: t.schedule,
            peak: t.learning_rate,
            warmup: warmup as usize,
            steps: t.steps,
            floor: t.floor,
            beta1: t.beta1,
            beta2: t.beta2,
            eps: t.eps,
            weight_decay: t.weight_decay,
            max_norm: t.max_norm,
        }
    }

    /// What the data may ask of this machine.
    pub fn limits(&self) -> Limits {
        let d = &self.data;
        Limits {
            line_bytes: d.max_line_bytes,
            picture_side: d.max_picture_side,
            picture_bytes: d.max_picture_bytes,
            sound_channels: d.max_sound_channels,
            sound_seconds: d.max_sound_seconds,
            ..Limits::default()
        }
    }

    /// What varies between the visits of a sample.
    pub fn augmentation(&self) -> Augmentation {
        let strengths = Strengths::new(self.data.augment, &self.augment);
        Augmentation { strengths, sides: Sides::new(&self.data.side_words), seed: self.training.seed, ..Augmentation::default() }
    }

    /// How samples are loaded.
    pub fn loading(&self) -> LoaderOptions {
        let d = &self.data;
        let automatic = LoaderOptions::default();
        LoaderOptions {
            seed: self.training.seed,
            workers: if d.workers == 0 { automatic.workers } else { d.workers },
            queue: d.queue,
            shuffle_buffer: d.shuffle_buffer,
            cache_bytes: d.cache_bytes,
            on_bad_sample: d.on_bad_sample,
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_device(&self) -> Result<Device> {
        let adapter = Some(self.training.adapter.as_str()).filter(|name| !name.is_empty());
        Device::open(&self.training.device, adapter)
    }

    /// Checks that nothing is asked for which needs an evaluation: there is none.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub(super) fn expect_no_evaluation(&self) -> Result<()> {
        let e = &self.evaluation;
        let expected = |key: &str, found: String| {
            let with = "with it evaluation.eval_split or evaluation.held_out, so that there is something to evaluate";
            Err(Error::Usage(format!("evaluation.{key}: expected {with}, found {found} and neither")))
        };
        match (e.best_by != loss(), e.patience > 0) {
            (true, _) => expected("best_by", format!("{:?}", e.best_by)),
            (_, true) => expected("patience", e.patience.to_string()),
            _ => Ok(()),
        }
    }

    /// Checks what the types cannot check.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key, what was expected and what was found.
    pub fn validate(&self) -> Result<()> {
        let Settings { model, data, augment: _, training: t, saving, evaluation: e } = self;
        let fail = |key: &str, expected: &str, found: String| Err(Error::Usage(format!("{key}: expected {expected}, found {found}")));
        for (key, value) in [
            ("training.steps", t.steps),
            ("training.rows", t.rows),
            ("training.accumulate", t.accumulate),
            ("saving.keep", saving.keep),
            ("data.queue", data.queue),
            ("data.shuffle_buffer", data.shuffle_buffer),
        ] {
            if value == 0 {
                return fail(key, "at least 1", value.to_string());
            }
        }
        for (key, value) in [
            ("data.word_dropout", data.word_dropout),
            ("data.color_jitter", data.color_jitter),
            ("data.color_blind", data.color_blind),
            ("training.modality_dropout", t.modality_dropout),
            ("training.floor", t.floor),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return fail(key, "0 to 1", value.to_string());
            }
        }
        for (key, value) in [("training.beta1", t.beta1), ("training.beta2", t.beta2), ("evaluation.held_out", e.held_out)] {
            if !(0.0..1.0).contains(&value) {
                return fail(key, "0 to less than 1", value.to_string());
            }
        }
        for (key, value) in [
            ("training.warmup", t.warmup),
            ("training.weight_decay", t.weight_decay),
            ("training.max_norm", t.max_norm),
            ("training.word_bag", t.word_bag),
            ("training.contrastive", t.contrastive),
            ("training.eps", t.eps),
            ("training.learning_rate", t.learning_rate),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(key, "a number of at least 0", value.to_string());
            }
        }
        self.augmentation().strengths.check().map_err(|what| Error::Usage(format!("augment.{what}")))?;
        if !e.eval_split.is_empty() && e.eval_split != AUTO && e.held_out > 0.0 {
            return Err(Error::Usage("evaluation.eval_split and evaluation.held_out: expected one of them, found both".into()));
        }
        if e.eval_split.is_empty() && e.held_out == 0.0 {
            self.expect_no_evaluation()?;
        }
        if e.eval_steps == 0 && e.patience > 0 {
            return fail("evaluation.patience", "with it evaluation.eval_steps of at least 1", format!("{} and 0", e.patience));
        }
        if let Err(what) = if model.stem.is_empty() { Ok(()) } else { model.stem.parse::<Stem>().map(drop) } {
            return Err(Error::Usage(format!("model.stem: {what}")));
        }
        grids(&model.histograms)?;
        self.model_config(model.hidden_size.clamp(1, 1 << 20)).validate().map_err(|what| Error::Usage(format!("model: {what}")))
    }
}
