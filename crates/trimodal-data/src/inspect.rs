//! What is in a data set, before anyone trains on it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::bad::BadSamples;
use super::folder::{Dataset, MediaInfo, NO_TEXT};
use super::parallel::parallel;
use super::sizes::{Fit, MediaSizes};
use super::tokenizer::Tokenizer;
use trimodal_base::{Error, Result};

/// Rows that a sample takes in a batch, besides its words, and how many it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowsOf {
    /// Of a picture, with its beginning and end.
    pub picture: usize,
    /// Of a sound, with its beginning and end.
    pub sound: usize,
    /// The most that a sample may have.
    pub limit: RowLimit,
}

/// The most rows that a sample may have, and what says so: the model, or the size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowLimit {
    /// How many.
    pub rows: usize,
    /// The setting: `max_position_embeddings`, `training.rows`.
    pub key: &'static str,
}

impl RowLimit {
    /// Refuses a sample that is longer.
    ///
    /// # Errors
    /// [`Error::Usage`] with both numbers.
    pub fn expect(self, rows: usize) -> Result<()> {
        let RowLimit { rows: limit, key } = self;
        if rows <= limit {
            return Ok(());
        }
        Err(Error::Usage(format!("a sample of {rows} rows is too long: the model takes {limit} (picture, sound and words together; {key})")))
    }
}

/// What is lost where pictures and sounds are brought to the model's sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cuts {
    /// Sounds.
    pub sounds: usize,
    /// Those that are longer than the model's clip: their ends are not heard.
    pub sounds_cut: usize,
    /// The longest one, in seconds.
    pub longest_sound: f64,
    /// Pictures.
    pub pictures: usize,
    /// Those that are not square, of which only the centre is seen.
    pub pictures_cropped: usize,
    /// The largest share of a picture that is cropped, from 0 to 1.
    pub most_cropped: f64,
    /// The mean share over the pictures that are cropped.
    pub mean_cropped: f64,
}

impl Cuts {
    /// Counts what becomes of a sample's files.
    pub fn add(&mut self, info: &MediaInfo, sizes: &MediaSizes) {
        if let Some(sound) = &info.sound {
            self.sounds += 1;
            self.longest_sound = self.longest_sound.max(sound.seconds);
            // Of less than a hundredth of a second nothing is lost that anyone hears.
            self.sounds_cut += usize::from(sound.seconds > sizes.samples as f64 / sizes.sample_rate as f64 + 0.01);
        }
        if let Some((width, height)) = info.picture {
            self.pictures += 1;
            if width != height && sizes.fit == Fit::Crop {
                let (short, long) = (width.min(height) as f64, width.max(height) as f64);
                let share = 1.0 - short / long;
                self.most_cropped = self.most_cropped.max(share);
                self.mean_cropped = (self.mean_cropped * self.pictures_cropped as f64 + share) / (self.pictures_cropped + 1) as f64;
                self.pictures_cropped += 1;
            }
        }
    }

    /// A sentence for each kind of loss, with the setting that changes it.
    pub fn sentences(&self, sizes: &MediaSizes) -> Vec<String> {
        let number = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut said = Vec::new();
        if self.sounds_cut > 0 {
            let clip = sizes.samples as f64 / sizes.sample_rate as f64;
            said.push(format!(
                "{} of {} cut to clip_seconds = {clip}: the longest has {:.1} s (--set clip_seconds={:.1} hears all of it)",
                self.sounds_cut,
                number(self.sounds, "sound") + if self.sounds_cut == 1 { " is" } else { " are" },
                self.longest_sound,
                (self.longest_sound * 10.0).ceil() / 10.0
            ));
        }
        if self.pictures_cropped > 0 {
            said.push(format!(
                "{} of {} cropped to a square: {:.0} % of their area on average, {:.0} % at most (--set fit=pad keeps all of it, with white bars)",
                self.pictures_cropped,
                number(self.pictures, "picture") + if self.pictures_cropped == 1 { " is" } else { " are" },
                100.0 * self.mean_cropped,
                100.0 * self.most_cropped
            ));
        }
        said
    }
}

/// The smallest value, the middle one, the one that 95 of 100 do not exceed, and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// Nineteen of twenty are at most this.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of some values; `None` where there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // The nearest rank: a value that occurs.
        let at = |share: f64| values[(share * last as f64).round() as usize];
        Some(Spread { min: values[0], median: at(0.5), p95: at(0.95), max: values[last] })
    }
}

/// Samples by what they consist of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub samples: usize,
    /// With a picture.
    pub pictures: usize,
    /// With a sound.
    pub sounds: usize,
    /// With a text.
    pub texts: usize,
    /// With picture and sound.
    pub both: usize,
    /// With a prompt.
    pub prompts: usize,
}

impl Counts {
    fn add(&mut self, fact: &Fact) {
        let (picture, sound) = (fact.measure.picture.is_some(), fact.measure.sound.is_some());
        self.samples += 1;
        self.pictures += usize::from(picture);
        self.sounds += usize::from(sound);
        self.both += usize::from(picture && sound);
        self.texts += usize::from(fact.words.is_some());
        self.prompts += usize::from(fact.prompt);
    }
}

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetReport {
    /// `table`, `shards` or `folders`.
    pub kind: &'static str,
    /// Good samples, all splits together.
    pub all: Counts,
    /// Good samples by split; those without one under `""`.
    pub splits: BTreeMap<String, Counts>,
    /// Rows that cannot be trained on, and the first ten messages: lines and members that are not rows come first, then files.
    pub bad: BadSamples,
    /// Pictures' width, in pixels.
    pub picture_width: Option<Spread>,
    /// Pictures' height, in pixels.
    pub picture_height: Option<Spread>,
    /// Sounds' length, in seconds.
    pub sound_seconds: Option<Spread>,
    /// Sounds by their rate, in samples per second.
    pub sound_rates: BTreeMap<u32, usize>,
    /// Sounds by their number of channels.
    pub sound_channels: BTreeMap<u16, usize>,
    /// Words of a caption, between spaces.
    pub caption_words: Option<Spread>,
    /// Rows of a batch that a sample takes.
    pub tokens: Option<Spread>,
    /// The sum over all samples.
    pub tokens_in_all: u64,
    /// What is lost in pictures and sounds.
    pub cuts: Cuts,
    /// Tokens of the tokenizer.
    pub vocabulary: usize,
    /// Numbers of good rows, evenly spaced: for a contact sheet.
    #[serde(skip)]
    pub good: Vec<usize>,
}

/// What is known of one good row.
struct Fact {
    measure: MediaInfo,
    words: Option<usize>,
    tokens: usize,
    prompt: bool,
}

/// Decodes every sample of a data set and sums up what is there. `rows` is what pictures and sounds take in a batch.
///
/// # Errors
/// [`crate::Error::Interrupted`] where `progress(done, total)` says so. BadSamples rows are part of the report.
pub fn inspect(
    dataset: &Dataset,
    sizes: &MediaSizes,
    rows: RowsOf,
    tokenizer: &Tokenizer,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<DatasetReport> {
    let look = |i: usize| -> Result<Fact> {
        let row = &dataset.rows()[i];
        let (sample, measure) = dataset.measured_sample(row, sizes)?;
        if sample.text.trim().is_empty() {
            return Err(dataset.error(row, NO_TEXT));
        }
        let encode = |text: &str| tokenizer.encode(text).map_err(|error| dataset.error(row, error));
        let prompt = sample.prompt.as_deref().map(encode).transpose()?.map_or(0, |ids| ids.len());
        // <bos>, picture, sound, prompt, caption, <eos>
        let tokens = 2 + measure.picture.map_or(0, |_| rows.picture) + measure.sound.map_or(0, |_| rows.sound) + prompt + encode(&sample.text)?.len();
        rows.limit.expect(tokens).map_err(|error| dataset.error(row, error))?;
        Ok(Fact { measure, words: Some(sample.text.split_whitespace().count()), tokens, prompt: sample.prompt.is_some() })
    };
    let facts = parallel(dataset.rows().len(), |i| Ok(look(i)), progress)?;

    let (mut all, mut splits, mut bad, mut good) = (Counts::default(), BTreeMap::<String, Counts>::new(), dataset.bad().clone(), Vec::new());
    let (mut widths, mut heights, mut seconds, mut words, mut tokens) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut rates, mut channels, mut cuts) = (BTreeMap::new(), BTreeMap::new(), Cuts::default());
    for (i, fact) in facts.into_iter().enumerate() {
        let fact = match fact {
            Ok(fact) => fact,
            Err(error) => {
                bad.add(error);
                continue;
            }
        };
        good.push(i);
        all.add(&fact);
        cuts.add(&fact.measure, sizes);
        splits.entry(dataset.rows()[i].split.clone().unwrap_or_default()).or_default().add(&fact);
        if let Some((width, height)) = fact.measure.picture {
            widths.push(width as f64);
            heights.push(height as f64);
        }
        if let Some(sound) = fact.measure.sound {
            seconds.push(sound.seconds);
            *rates.entry(sound.rate).or_default() += 1;
            *channels.entry(sound.channels).or_default() += 1;
        }
        words.extend(fact.words.map(|words| words as f64));
        tokens.push(fact.tokens as f64);
    }
    Ok(DatasetReport {
        kind: dataset.kind(),
        all,
        splits,
        bad,
        picture_width: Spread::of(widths),
        picture_height: Spread::of(heights),
        sound_seconds: Spread::of(seconds),
        sound_rates: rates,
        sound_channels: channels,
        caption_words: Spread::of(words),
        tokens_in_all: tokens.iter().sum::<f64>() as u64,
        tokens: Spread::of(tokens),
        cuts,
        vocabulary: tokenizer.vocabulary(),
        good,
    })
}

#[cfg(test)]
mod tests {
    use super::super::sound::SoundInfo;
    use super::*;

    #[test]
    fn what_is_cut_is_counted_with_the_setting_that_changes_it() {
        let sizes = MediaSizes { picture: 48, fit: Fit::Crop, sample_rate: 16_000, samples: 8_000 };
        let mut cuts = Cuts::default();
        assert!(cuts.sentences(&sizes).is_empty());
        for (picture, seconds) in [(Some((100, 50)), Some(0.5)), (Some((30, 40)), Some(3.25)), (Some((7, 7)), None)] {
            let sound = seconds.map(|seconds| SoundInfo { rate: 8_000, channels: 1, seconds });
            cuts.add(&MediaInfo { picture, sound }, &sizes);
        }
        assert_eq!((cuts.sounds, cuts.sounds_cut, cuts.pictures, cuts.pictures_cropped), (2, 1, 3, 2));
        assert_eq!((cuts.longest_sound, cuts.most_cropped, cuts.mean_cropped), (3.25, 0.5, 0.375));
        assert_eq!(
            cuts.sentences(&sizes),
            [
                "1 of 2 sounds is cut to clip_seconds = 0.5: the longest has 3.2 s (--set clip_seconds=3.3 hears all of it)",
                "2 of 3 pictures are cropped to a square: 38 % of their area on average, 50 % at most (--set fit=pad keeps all of it, with white bars)"
            ]
        );
        let padded = MediaSizes { fit: Fit::Pad, ..sizes };
        let mut cuts = Cuts::default();
        cuts.add(&MediaInfo { picture: Some((100, 50)), sound: None }, &padded);
        assert_eq!(cuts.pictures_cropped, 0);
    }

    #[test]
    fn a_spread_names_values_that_occur() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![7.0]), Some(Spread { min: 7.0, median: 7.0, p95: 7.0, max: 7.0 }));
        let spread = Spread::of((0..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((spread.min, spread.median, spread.p95, spread.max), (0.0, 50.0, 95.0, 100.0));
    }
}
