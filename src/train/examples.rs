//! From a data folder to sequences of rows: pictures at the model's size, sounds as mel frames, captions as ids.

use crate::data::Sample;
use crate::data::augment::Named;
use crate::data::folder::{Dataset, MediaSizes, NO_TEXT, TableRow};
use crate::data::inspect::RowLimit;
use crate::data::tokenizer::{Special, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::batch::{Batch, Cut, Packer, Placeholders, Sequence, TokenRow, picture_rows};
use crate::model::config::{AudioConfig, Config};
use crate::model::generate::{OutputIds, prompt_of};
use crate::ops::log_mel;
use crate::tensor::{DType, Tensor};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Rows decoded, and sounds turned into frames, at a time: bounds what waveforms take in memory.
const CHUNK: usize = 512;

/// One sample, ready to be made into a [`Sequence`].
#[derive(Clone, Debug, Default)]
pub struct Example {
    /// Its name in the data folder.
    pub name: String,
    /// The split that its row names.
    pub split: Option<String>,
    /// The caption.
    pub text: String,
    /// The ids of the words before the caption: read, not learned.
    pub prompt: Vec<u32>,
    /// The ids of a question about the prompt, between it and the caption: read, not learned. It and the caption see the prompt's
    /// words and each other, but neither picture nor sound. Empty for none; no column of a data folder makes one.
    pub question: Vec<u32>,
    /// The caption's ids.
    pub words: Vec<u32>,
    /// For each of them whether it names a colour; empty where nobody asks ([`super::recipe::Recipe::color_blind`]).
    pub colors: Vec<bool>,
    /// For each of them what alone can tell it; empty where nobody asks ([`super::recipe::Recipe::modality_dropout`]).
    pub told_by: Vec<ToldBy>,
    /// `[image_size, image_size, 3]`
    pub pixels: Option<Vec<u8>>,
    /// `[frames, mels]`, rounded to f32 whatever computed it.
    pub mel: Option<Vec<f32>>,
}

/// What alone can tell a word of a caption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ToldBy {
    /// Either, or nobody knows.
    #[default]
    Either,
    /// The picture.
    Picture,
    /// The sound.
    Sound,
}

/// Turns waveforms into mel frames, the sound that the model takes.
pub struct AudioFrontend {
    tables: log_mel::Tables,
    audio: AudioConfig,
    device: Device,
    real: DType,
}

impl AudioFrontend {
    /// The front end of a model with ears.
    pub fn new(audio: &AudioConfig, device: &Device, real: DType) -> Result<Self> {
        let tables = log_mel::Tables::new(device, real, audio.sample_rate, audio.num_mel_bins)?;
        Ok(AudioFrontend { tables, audio: audio.clone(), device: device.clone(), real })
    }

    /// Mel frames `[frames, mels]` of each waveform, all of the model's length.
    pub fn frames(&self, waveforms: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        if waveforms.is_empty() {
            return Ok(Vec::new());
        }
        let (clips, samples) = (waveforms.len(), self.audio.samples());
        let waveform: Vec<f64> = waveforms.concat().into_iter().map(f64::from).collect();
        let waveform = Tensor::from_f64(&self.device, [clips, samples], self.real, &waveform)?;
        let mut mel = Tensor::zeros(&self.device, [clips, self.audio.frames(), self.audio.num_mel_bins], self.real)?;
        let mut workspace = Tensor::zeros(&self.device, [log_mel::workspace(clips, samples)], self.real)?;
        log_mel::forward(&waveform, &self.tables, &mut mel, &mut workspace)?;
        let values: Vec<f32> = mel.read_f64()?.into_iter().map(|x| x as f32).collect();
        Ok(values.chunks_exact(mel.row_len()).map(<[f32]>::to_vec).collect())
    }
}

/// The sizes that a data folder's files are brought to for a model.
pub fn sizes(config: &Config) -> MediaSizes {
    MediaSizes {
        picture: config.vision_config.as_ref().map_or(1, |v| v.image_size),
        fit: config.picture_fit,
        sample_rate: config.audio_config.as_ref().map_or(16_000, |a| a.sample_rate as u32),
        samples: config.audio_config.as_ref().map_or(1, |a| a.samples()),
    }
}

/// Turns decoded samples into examples, on any thread: words become ids, sounds go through the CPU's log-mel code, so that a GPU that
/// trains is not asked in between.
pub struct Preprocessor {
    /// The model's config.
    pub config: Config,
    tokenizer: Tokenizer,
    frontend: Option<AudioFrontend>,
    /// The words for colours that captions are searched for.
    colors: Named,
    /// The words that only a picture can tell, and only a sound.
    seen: Named,
    heard: Named,
}

impl Preprocessor {
    /// For a model and its tokenizer.
    pub fn new(config: &Config, tokenizer: &Tokenizer) -> Result<Self> {
        let frontend = config.audio_config.as_ref().map(|a| AudioFrontend::new(a, &Device::Cpu, DType::F32)).transpose()?;
        Ok(Preprocessor {
            config: config.clone(),
            tokenizer: tokenizer.clone(),
            frontend,
            colors: Named::default(),
            seen: Named::default(),
            heard: Named::default(),
        })
    }

    /// With examples that say which of their words are one of these.
    pub fn naming(self, colors: Named) -> Self {
        Preprocessor { colors, ..self }
    }

    /// With examples that say which of their words only a picture (`seen`) or only a sound (`heard`) can tell.
    pub fn telling(self, seen: Named, heard: Named) -> Self {
        Preprocessor { seen, heard, ..self }
    }

    /// An example from a sample.
    ///
    /// # Errors
    /// A picture for a model without eyes, a sound for one without ears, a missing caption or one that cannot be encoded.
    pub fn example(&self, sample: Sample) -> Result<Example> {
        let mel = match &sample.sound {
            Some(sound) => self.frames(sound)?,
            None => None,
        };
        let mut example = example(sample, mel, &self.config, &self.tokenizer)?;
        if !self.colors.is_empty() {
            example.colors = self.named(&example, &self.colors)?;
        }
        if example.pixels.is_some() && example.mel.is_some() && !(self.seen.is_empty() && self.heard.is_empty()) {
            let (seen, heard) = (self.named(&example, &self.seen)?, self.named(&example, &self.heard)?);
            let alone = |(seen, heard)| match (seen, heard) {
                (true, false) => ToldBy::Picture,
                (false, true) => ToldBy::Sound,
                _ => ToldBy::Either,
            };
            example.told_by = seen.into_iter().zip(heard).map(alone).collect();
        }
        Ok(example)
    }

    /// Which words of a caption are among some.
    fn named(&self, example: &Example, words: &Named) -> Result<Vec<bool>> {
        // Tokens do not cross spaces, so that there are as many in front of a word as the text in front of it has.
        let before = |at: usize| if example.text[..at].trim().is_empty() { Ok(0) } else { Ok(self.tokenizer.encode(example.text[..at].trim_end())?.len()) };
        let mut named = vec![false; example.words.len()];
        for range in words.ranges(&example.text) {
            let (from, to) = (before(range.start)?, before(range.end)?);
            named.get_mut(from..to).into_iter().for_each(|of| of.fill(true));
        }
        Ok(named)
    }

    /// Mel frames `[frames, mels]` of a waveform; `None` where the model has no ears.
    ///
    /// # Errors
    /// As [`AudioFrontend::frames`].
    pub fn frames(&self, waveform: &[f32]) -> Result<Option<Vec<f32>>> {
        self.frontend.as_ref().map_or(Ok(None), |frontend| Ok(frontend.frames(&[waveform])?.pop()))
    }
}

/// An example from a sample and its frames.
pub(super) fn example(sample: Sample, mel: Option<Vec<f32>>, config: &Config, tokenizer: &Tokenizer) -> Result<Example> {
    let bad = |what: &str| Err(Error::Usage(what.into()));
    if sample.picture.is_some() && config.vision_config.is_none() {
        return bad("the row has a picture, and this model has no vision_config");
    }
    if sample.sound.is_some() && config.audio_config.is_none() {
        return bad("the row has a sound, and this model has no audio_config");
    }
    if sample.text.trim().is_empty() {
        return bad(NO_TEXT);
    }
    let example = Example {
        words: tokenizer.encode(&sample.text)?,
        colors: Vec::new(),
        told_by: Vec::new(),
        prompt: sample.prompt.as_deref().map_or(Ok(Vec::new()), |prompt| tokenizer.encode(prompt))?,
        question: Vec::new(),
        name: sample.name,
        split: sample.split,
        text: sample.text,
        pixels: sample.picture.map(|p| p.rgb),
        mel,
    };
    model_limit(config).expect(example.rows(config))?;
    Ok(example)
}

/// The rows that a model takes.
pub fn model_limit(config: &Config) -> RowLimit {
    RowLimit { rows: config.max_position_embeddings, key: "max_position_embeddings" }
}

/// The rows that a sample may have which is trained on in batches of so many.
pub fn row_limit(config: &Config, batch: usize) -> RowLimit {
    if batch < config.max_position_embeddings { RowLimit { rows: batch, key: "training.rows" } } else { model_limit(config) }
}

/// Decodes the rows that `keep` accepts. Sounds go through the device's log-mel kernel, `CHUNK` at a time.
///
/// # Errors
/// The first bad file, a picture for a model without eyes, a caption that cannot be encoded;
/// [`Error::Interrupted`] where `progress(done, total)` says so.
pub fn load(
    dataset: &Dataset,
    config: &Config,
    tokenizer: &Tokenizer,
    device: &Device,
    keep: impl Fn(&TableRow) -> bool,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Example>> {
    let rows: Vec<&TableRow> = dataset.rows().iter().filter(|row| keep(row)).collect();
    load_rows(dataset, config, tokenizer, device, &rows, progress)
}

/// [`load`] of these rows.
///
/// # Errors
/// As [`load`].
pub fn load_rows(
    dataset: &Dataset,
    config: &Config,
    tokenizer: &Tokenizer,
    device: &Device,
    rows: &[&TableRow],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Example>> {
    load_or(dataset, config, tokenizer, device, rows, &mut |_, error| Err(error), progress)
}

/// [`load_rows`], where `bad` is told of every row that cannot be used, by its place in `rows`, and says whether to go on without it.
///
/// # Errors
/// As [`load`], and what `bad` returns.
pub fn load_or(
    dataset: &Dataset,
    config: &Config,
    tokenizer: &Tokenizer,
    device: &Device,
    rows: &[&TableRow],
    bad: &mut dyn FnMut(usize, Error) -> Result<()>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Example>> {
    let sizes = sizes(config);
    let frontend = config.audio_config.as_ref().map(|a| AudioFrontend::new(a, device, DType::F32)).transpose()?;
    let mut examples = Vec::with_capacity(rows.len());
    for (number, chunk) in rows.chunks(CHUNK).enumerate() {
        if progress(number * CHUNK, rows.len()).is_break() {
            return Err(Error::Interrupted { step: 0 });
        }
        let samples: Vec<Result<Sample>> = chunk.par_iter().map(|row| dataset.sample(row, &sizes)).collect();
        let waveforms: Vec<&[f32]> = samples.iter().flatten().filter_map(|s| s.sound.as_deref()).collect();
        let mut frames = match &frontend {
            Some(frontend) => frontend.frames(&waveforms)?,
            None => Vec::new(),
        }
        .into_iter();
        for (i, (sample, row)) in samples.into_iter().zip(chunk).enumerate() {
            let made = sample.and_then(|sample| {
                let mel = sample.sound.as_ref().and_then(|_| frames.next());
                example(sample, mel, config, tokenizer).map_err(|e| dataset.error(row, e))
            });
            match made {
                Ok(example) => examples.push(example),
                Err(error) => bad(number * CHUNK + i, error)?,
            }
        }
    }
    let _ = progress(rows.len(), rows.len());
    Ok(examples)
}

/// As many of these examples as fit `budget` rows, in order, packed into one batch; nothing is hidden.
///
/// # Errors
/// [`Error::Usage`] where the first does not fit the model or the budget.
pub fn batch(examples: &[Example], config: &Config, special: &Special, budget: usize) -> Result<Batch> {
    let packer = Packer { config, budget, placeholders: placeholders(special) };
    let mut batch = Batch::default();
    for example in examples {
        if !packer.add(&mut batch, &example.sequence(config, special, || false))? {
            break;
        }
    }
    Ok(batch)
}

/// The placeholder ids of a tokenizer.
pub fn placeholders(special: &Special) -> Placeholders {
    Placeholders { image: special.image, audio: special.audio }
}

/// What the ids of a model's output layer mean to its tokenizer: a text ends with `<eos>`, or with what else the config says ends it.
pub fn output_ids(config: &Config, tokenizer: &Tokenizer) -> OutputIds {
    let eos = tokenizer.special().eos;
    let ends = std::iter::once(eos).chain(config.eos_token_id.iter().copied().filter(|&id| id != eos)).collect();
    OutputIds { ends, absent: tokenizer.absent(config.vocab_size) }
}

impl Example {
    /// Rows of the token matrix that it takes.
    pub fn rows(&self, config: &Config) -> usize {
        let patches = self.pixels.as_ref().and(config.vision_config.as_ref()).map_or(0, |v| v.rows() + 2);
        let frames = self.mel.as_ref().and(config.audio_config.as_ref()).map_or(0, |a| a.rows() + 2);
        2 + patches + frames + self.prompt.len() + self.question.len() + self.words.len()
    }

    /// The example without its picture or its sound, and without the words of its caption that only this one could tell; `None` where no word
    /// would be left, which would teach to say nothing.
    pub fn without(&self, hidden: ToldBy) -> Option<Example> {
        let keeps = |i: &usize| self.told_by.get(*i).is_none_or(|told| *told != hidden);
        let kept: Vec<usize> = (0..self.words.len()).filter(keeps).collect();
        Some(Example {
            name: self.name.clone(),
            split: self.split.clone(),
            text: self.text.clone(),
            prompt: self.prompt.clone(),
            question: self.question.clone(),
            words: kept.iter().map(|&i| self.words[i]).collect(),
            colors: kept.iter().filter_map(|&i| self.colors.get(i).copied()).collect(),
            told_by: kept.iter().filter_map(|&i| self.told_by.get(i).copied()).collect(),
            pixels: self.pixels.clone().filter(|_| hidden != ToldBy::Picture),
            mel: self.mel.clone().filter(|_| hidden != ToldBy::Sound),
        })
        .filter(|example| !example.words.is_empty())
    }

    /// Bytes that it keeps in memory.
    pub fn bytes(&self) -> u64 {
        let text = self.name.len() + self.text.len() + 4 * (self.words.len() + self.prompt.len() + self.question.len());
        (size_of::<Self>() + text + self.pixels.as_ref().map_or(0, Vec::len) + 4 * self.mel.as_ref().map_or(0, Vec::len)) as u64
    }

    /// What comes before the caption: the rows that a model continues.
    pub fn before_caption(&self, config: &Config, special: &Special) -> Sequence {
        prompt_of(&self.sequence(config, special, || false))
    }

    /// The rows: `<bos> <boi> patches… <eoi> <boa> frames… <eoa> prompt… question… text… <eos>`. `hide()` says of each caption word whether
    /// the model is fed a placeholder in its place; what it has to predict stays.
    pub fn sequence(&self, config: &Config, special: &Special, mut hide: impl FnMut() -> bool) -> Sequence {
        let given = |id| TokenRow::Token { id, truth: id, learned: false };
        let mut rows = vec![given(special.bos)];
        if let (Some(_), Some(vision)) = (&self.pixels, &config.vision_config) {
            rows.push(given(special.boi));
            rows.extend(picture_rows(vision));
            rows.push(given(special.eoi));
        }
        if let (Some(_), Some(audio)) = (&self.mel, &config.audio_config) {
            rows.push(given(special.boa));
            rows.extend(std::iter::repeat_n(TokenRow::Frame, audio.rows()));
            rows.push(given(special.eoa));
        }
        let from = rows.len();
        rows.extend(self.prompt.iter().map(|&id| given(id)));
        let cut = (!self.question.is_empty()).then_some(Cut { at: rows.len(), from });
        rows.extend(self.question.iter().map(|&id| given(id)));
        for &word in &self.words {
            rows.push(TokenRow::Token { id: if hide() { special.hide } else { word }, truth: word, learned: true });
        }
        rows.push(TokenRow::Token { id: special.eos, truth: special.eos, learned: true });
        Sequence { name: self.name.clone(), rows, pixels: self.pixels.clone(), mel: self.mel.clone(), cut }
    }
}
