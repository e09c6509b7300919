//! `report.html`: what a run was trained on, how that went, what it has learned, and how to repeat it.
//!
//! [`RunReport`] holds what is known about a run; [`RunReport::page`] writes it down. The parts: what augmentation made of samples
//! ([`augmented`]), the log as curves ([`curves`]), what held-out
//! samples say ([`held_out`]), some of those samples to look at and listen to ([`samples`]) with where their words looked ([`attended`]) and what wrong ones may come from ([`nearest`]), and the time of a step ([`kernels`]).

mod attended;
mod augmented;
pub(super) mod curves;
mod held_out;
mod kernels;
mod nearest;
mod samples;

pub use attended::attended;
pub use held_out::Judged;
pub use kernels::{Kernels, Time};
pub use nearest::TrainedOn;
pub use samples::{telling, wrong};

use super::page::{Page, percent};
use crate::bench::About;
use crate::data::{Attributes, Dataset};
use crate::error::Result;
use crate::model::Config;
use crate::numbers::{duration, thousands};
use crate::train::checkpoint::TrainerState;
use crate::train::visits::Preview;
use crate::train::{Settings, log};
use std::path::Path;

/// The report's name in a run's folder.
pub const REPORT: &str = "report.html";

/// What is known about a run.
pub struct RunReport<'a> {
    /// Its folder, with the log.
    pub folder: &'a Path,
    /// The model's sizes.
    pub config: &'a Config,
    /// The number of its parameters.
    pub parameters: usize,
    /// The run's settings.
    pub settings: &'a Settings,
    /// How far it came.
    pub state: &'a TrainerState,
    /// What it is judged on.
    pub device: About,
    /// The commands that make it again.
    pub commands: &'a str,
    /// The data set, or why it cannot be read.
    pub dataset: std::result::Result<&'a Dataset, &'a str>,
    /// What its captions name, one by one.
    pub attributes: &'a Attributes,
    /// Samples as it was shown them, where it augments.
    pub shown: &'a [Preview],
    /// What the model says about samples, the most telling ones first; or why that is not known.
    pub judged: std::result::Result<&'a [Judged<'a>], &'a str>,
    /// Where the time of a step goes, or why that is not known.
    pub kernels: std::result::Result<&'a Kernels, &'a str>,
}

impl RunReport<'_> {
    /// The page. Pictures and sounds of some samples are read from the data set again.
    ///
    /// # Errors
    /// A log, a picture or a sound that cannot be read.
    pub fn page(&self) -> Result<Page> {
        let log = log::entries(self.folder)?;
        let mut page = Page::new("What this model learned", &self.lead());
        page.section("What was trained, and on what");
        page.facts(self.facts(&log));
        if !self.shown.is_empty() {
            page.section("What it was shown");
            augmented::add(&mut page, self.config, self.settings.data.augment, self.shown)?;
        }
        page.section("How training went");
        curves::add(&mut page, &log, self.judged.unwrap_or_default());
        match &self.judged {
            Err(why) => {
                page.section("What it gets right");
                page.text(&format!("Not known: {why}."));
            }
            Ok(judged) => {
                page.section("What it gets right");
                held_out::accuracy(&mut page, judged, self.attributes);
                page.section("What it uses");
                held_out::ablations(&mut page, judged, self.attributes);
                page.section("What it says");
                if let Ok(dataset) = self.dataset {
                    samples::add(&mut page, self.config, dataset, judged)?;
                }
                if let Some(tables) = held_out::Confusions::of(judged, self.attributes) {
                    page.section("What it confuses with what");
                    tables.add(&mut page);
                }
            }
        }
        page.section("Where the time goes");
        match self.kernels {
            Ok(kernels) => kernels.add(&mut page),
            Err(why) => page.text(&format!("Not measured: {why}.")),
        }
        page.section("How to repeat it");
        self.again(&mut page);
        Ok(page)
    }

    fn lead(&self) -> String {
        let sees = [self.config.vision_config.as_ref().map(|_| "pictures"), self.config.audio_config.as_ref().map(|_| "sounds"), Some("words")];
        let sees: Vec<&str> = sees.into_iter().flatten().collect();
        let text = format!("One transformer of {} parameters, trained on {}.", thousands(self.parameters), list(&sees));
        match self.judged.as_ref().ok().and_then(|judged| judged.first()) {
            Some(judged) if judged.trained_on => text,
            Some(judged) => {
                let (right, samples) = (percent(judged.scores.exact), thousands(judged.examples.len()));
                format!("{text} Of {samples} samples that it was not trained on it describes {right} right, word for word.")
            }
            None => text,
        }
    }

    fn facts(&self, log: &[serde_json::Value]) -> Vec<(&'static str, String)> {
        let (config, training) = (self.config, &self.settings.training);
        let mut facts = vec![("Data", self.data()), ("Rows trained on", thousands(self.state.data_rows))];
        facts.extend(self.met().map(|met| ("Shown in training", met)));
        let Config { num_hidden_layers, hidden_size, num_attention_heads, num_key_value_heads, vocab_size, .. } = config;
        facts.push((
            "Decoder",
            format!(
                "{num_hidden_layers} layers of width {hidden_size}, {num_attention_heads} heads for queries and {num_key_value_heads} for keys and values, \
                 a vocabulary of {} tokens",
                thousands(*vocab_size)
            ),
        ));
        if let Some(v) = &config.vision_config {
            let patches = format!("{0} × {0} pixels, {1} patches of {2} × {2}", v.image_size, v.patch_grid().pow(2), v.patch_size);
            let rows = match &v.stem {
                None => ": a row of the token matrix each".to_string(),
                Some(stem) => {
                    let count = stem.convolutions.len();
                    let leave = if count == 1 { "one convolution leaves".to_string() } else { format!("{count} convolutions leave") };
                    let rows = if stem.places { "a row of the token matrix each, and one row of the whole picture" } else { "one row of the whole picture" };
                    format!("; {leave} {0} × {0} places of them: {rows}", v.grid())
                }
            };
            let counted = if v.histograms.is_empty() { "" } else { "; its colours and edges, counted, as the row of the whole picture" };
            facts.push(("Pictures", format!("{patches}{rows}{counted}")));
        }
        if let Some(a) = &config.audio_config {
            facts.push((
                "Sounds",
                format!(
                    "{} s at {} Hz, {} bands, {} frames that convolutions make {} rows of",
                    a.clip_seconds,
                    thousands(a.sample_rate),
                    a.num_mel_bins,
                    a.frames(),
                    a.rows()
                ),
            ));
        }
        let steps = format!("{} of up to {} rows", thousands(self.state.step), thousands(training.rows * training.accumulate.max(1)));
        let more = if self.state.step < training.steps { format!(", of {} planned", thousands(training.steps)) } else { String::new() };
        facts.push(("Steps", format!("{steps}{more}; {} rows of the token matrix in all", thousands(self.state.tokens))));
        if let Some(best) = &self.state.best {
            let by = best.figure(&self.settings.evaluation.best_by);
            let which = if best.step == self.state.step { "the last step" } else { "not the last one, which this page is about: the file `best` names it" };
            facts.push(("Best on held-out samples", format!("step {}, {by}: {which}", thousands(best.step))));
        }
        if let Some(seconds) = log.iter().rev().find_map(|line| line["seconds"].as_f64()) {
            facts.push(("Time", duration(seconds)));
        }
        if self.state.skipped > 0 {
            facts.push(("Skipped", format!("{} steps whose loss or gradient was not a number", self.state.skipped)));
        }
        let precision = format!("{:?}", training.precision).to_lowercase();
        facts.push(("Trained on", format!("{} in {precision}", trained_on(self.settings, Some(self.state)))));
        facts
    }

    /// Samples that training has shown the model, as often as it did, by what they had.
    fn met(&self) -> Option<String> {
        let met = self.config.met?;
        let of = [(met.both, "a picture and a sound"), (met.picture, "a picture alone"), (met.sound, "a sound alone"), (met.words, "words alone")];
        let known: Vec<String> = of.into_iter().filter_map(|(count, what)| Some(format!("{} × {what}", thousands(count?)))).collect();
        let never = [(true, false), (false, true)].into_iter().filter_map(|(picture, sound)| met.never(picture, sound));
        let (eyes, ears) = (self.config.vision_config.is_some(), self.config.audio_config.is_some());
        let never: Vec<&str> = never.filter(|_| eyes && ears).collect();
        let never = if never.is_empty() { String::new() } else { format!("; {}: what it says to one alone was not trained", never.join(", and ")) };
        Some(format!("{}{never}", known.join(", ")))
    }

    fn data(&self) -> String {
        let Ok(dataset) = self.dataset else { return self.settings.data.path.clone() };
        let splits = dataset.splits();
        let splits: Vec<String> = splits.iter().filter(|(name, _)| !name.is_empty()).map(|(name, rows)| format!("{} {name}", thousands(*rows))).collect();
        let splits: Vec<&str> = splits.iter().map(String::as_str).collect();
        let splits = if splits.is_empty() { String::new() } else { format!(": {}", list(&splits)) };
        format!("{} ({}), {} rows{splits}", dataset.dir().display(), dataset.kind(), thousands(dataset.rows().len()))
    }

    fn again(&self, page: &mut Page) {
        page.text("The same program, data, settings and device make the same bytes: no step depends on the order in which threads end.");
        page.lines("commands", self.commands);
        let About { kind, name, driver, cores, .. } = &self.device;
        let cores = cores.map(|cores| format!(", {cores} threads or multiprocessors")).unwrap_or_default();
        let driver = driver.as_ref().map(|driver| format!(", {driver}")).unwrap_or_default();
        let trained = if self.state.version.is_empty() { env!("CARGO_PKG_VERSION") } else { &self.state.version };
        page.facts([
            ("Seed", self.settings.training.seed.to_string()),
            ("Program", format!("trimodal {trained}; this report by {}", env!("CARGO_PKG_VERSION"))),
            ("Device here", format!("{kind}: {name}{driver}{cores}")),
            ("System", format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("Run", self.folder.display().to_string()),
        ]);
        page.folded("All settings (config.toml)", |page| page.lines("config.toml", self.settings.to_toml().trim_end()));
    }
}

/// The devices that a run was trained on: what `auto` became.
pub(super) fn trained_on(settings: &Settings, state: Option<&TrainerState>) -> String {
    match (state.map_or(&[][..], |state| &state.devices), settings.training.device.as_str()) {
        ([], "auto") => "a device of which nothing was written down".into(),
        ([], device) => device.into(),
        (devices, _) => devices.join(", then "),
    }
}

/// `a, b and c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people() {
        assert_eq!((list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])), ("a".into(), "a and b".into(), "a, b and c".into()));
    }
}
