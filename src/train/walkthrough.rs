//! One sample, walked through one training step: what it was in its files, what it became row by row, and what every launch made of it.

use super::examples::{AudioFrontend, example, placeholders, sizes};
use super::model_folder::ModelFolder;
use super::schedule::Schedule;
use super::step::StepReport;
use super::trainer::Trainer;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::model::batch::{Batch, Capacity, Packer, Sequence, TokenRow};
use crate::tensor::DType;
use crate::trace::{self, Trace};

/// Where a row of the token matrix comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Modality {
    /// A token that marks a place: the beginning, the end, where a picture starts.
    Mark,
    /// A patch of the picture.
    Patch,
    /// A place of the picture: what a stem's convolutions leave of some patches.
    Place,
    /// The picture as a whole, where the model has a stem.
    Whole,
    /// A frame of the sound.
    Frame,
    /// A word that is only read.
    Read,
    /// A word that is learned.
    Word,
}

impl Modality {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Modality::Mark => "marks",
            Modality::Patch => "patches of the picture",
            Modality::Place => "places of the picture",
            Modality::Whole => "the picture as a whole",
            Modality::Frame => "frames of the sound",
            Modality::Read => "words that are only read",
            Modality::Word => "words that are learned",
        }
    }

    /// In one word.
    pub fn short(self) -> &'static str {
        match self {
            Modality::Mark => "marks",
            Modality::Patch => "patches",
            Modality::Place => "places",
            Modality::Whole => "whole",
            Modality::Frame => "frames",
            Modality::Read => "read",
            Modality::Word => "learned",
        }
    }
}

/// A row of the token matrix.
#[derive(Clone, Debug)]
pub struct ShownRow {
    /// Where it comes from.
    pub modality: Modality,
    /// The token, for people; empty for patches and frames.
    pub token: String,
    /// What the row has to predict and what that costs, in nats, where it counts.
    pub predicts: Option<(String, f64)>,
}

/// A sample and its step.
pub struct Walkthrough {
    /// The model.
    pub config: Config,
    /// The sample's name and where it is written down.
    pub name: String,
    /// Where it is written down.
    pub origin: String,
    /// Its caption.
    pub text: String,
    /// `[image_size, image_size, 3]`
    pub pixels: Option<Vec<u8>>,
    /// `[samples]`
    pub waveform: Option<Vec<f32>>,
    /// `[frames, mels]`
    pub mel: Option<Vec<f32>>,
    /// The token matrix, row by row.
    pub rows: Vec<ShownRow>,
    /// `[N, 2]`: the rows that each row may look at.
    pub visible: Vec<[i32; 2]>,
    /// From the waveform to the mel frames.
    pub hearing: Option<Trace>,
    /// The step.
    pub step: Trace,
    /// What it came to.
    pub report: StepReport,
}

impl Walkthrough {
    /// The kinds of rows in the order in which they begin, each with its rows.
    pub fn kinds(&self) -> Vec<(Modality, Vec<usize>)> {
        let mut kinds: Vec<(Modality, Vec<usize>)> = Vec::new();
        for (i, row) in self.rows.iter().enumerate() {
            match kinds.iter_mut().find(|(kind, _)| *kind == row.modality) {
                Some((_, rows)) => rows.push(i),
                None => kinds.push((row.modality, vec![i])),
            }
        }
        kinds
    }

    /// What a row of its picture is called.
    pub fn part_of_picture(&self) -> &'static str {
        if self.config.has_stem() { "place of the picture" } else { "patch" }
    }

    /// What each row that counts reads, what it is to say, and what that costs in nats.
    pub fn losses(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.rows.iter().filter_map(|row| {
            let (word, loss) = row.predicts.as_ref()?;
            let reads = if row.token.is_empty() { row.modality.short() } else { &row.token };
            Some((reads, word.as_str(), *loss))
        })
    }
}

/// Walks row `index` of a data set, from 0, through a step of a model: forward, backward and AdamW's first update, on the model's device.
/// `values` numbers are read of everything that is written. No word is hidden from it. The files stay as they are.
///
/// # Errors
/// [`Error::Usage`] for a row that the data set does not have; those of the files; [`Error::BadSamples`] and the like for a sample that does not
/// fit the model.
pub fn walk_through(model: ModelFolder, dataset: &Dataset, index: usize, values: usize) -> Result<Walkthrough> {
    let ModelFolder { config, parameters, tokenizer, .. } = model;
    let (device, options) = (parameters.norm.device().clone(), trace::TraceOptions { values });
    let rows = dataset.rows();
    let row = rows.get(index).ok_or_else(|| match rows.len() {
        0 => Error::file(dataset.dir(), "the data set has no rows: there is nothing to walk through"),
        n => Error::Usage(format!("--sample {index}: expected 0 to {}, the rows of the data set", n - 1)),
    })?;
    let sample = dataset.sample(row, &sizes(&config))?;
    let (origin, waveform) = (sample.origin.clone(), sample.sound.clone());
    let frontend = config.audio_config.as_ref().map(|audio| AudioFrontend::new(audio, &device, DType::F32)).transpose()?;
    let heard =
        frontend.as_ref().zip(waveform.as_deref()).map(|(frontend, sound)| trace::record(&device, options, || frontend.frames(&[sound]))).transpose()?;
    let (frames, hearing) = heard.unzip();
    let example = example(sample, frames.and_then(|mut frames| frames.pop()), &config, &tokenizer).map_err(|e| dataset.error(row, e))?;

    let special = tokenizer.special();
    let sequence = example.sequence(&config, &special, || false);
    let packer = Packer { config: &config, budget: sequence.rows.len(), placeholders: placeholders(&special) };
    let batch = packer.pack([&sequence]).map_err(|e| dataset.error(row, e))?;
    let mut trainer = Trainer::new(&config, parameters, Schedule { warmup: 1, ..Schedule::meadow(1) }, Capacity::of(&batch))?;
    let (report, mut step) = trace::record(&device, options, || trainer.step(&batch))?;
    step.formula = Some(crate::model::flops(&config, &batch));
    let losses = trainer.activations().row_losses().read_f64()?;
    // A byte-level vocabulary writes the space before a word as Ġ.
    let token = |id: u32| tokenizer.token(id).map_or_else(|| format!("#{id}"), |token| token.trim_start_matches('Ġ').to_string());
    let rows = shown(&sequence, &batch, &losses, config.has_stem(), token);
    Ok(Walkthrough {
        name: example.name,
        origin,
        text: example.text,
        pixels: example.pixels,
        mel: example.mel,
        waveform: waveform.filter(|_| hearing.is_some()),
        rows,
        visible: batch.visible,
        hearing,
        step,
        report,
        config,
    })
}

fn shown(sequence: &Sequence, batch: &Batch, losses: &[f64], has_stem: bool, token: impl Fn(u32) -> String) -> Vec<ShownRow> {
    let modality = |row: &TokenRow| match *row {
        TokenRow::Patch if has_stem => Modality::Place,
        TokenRow::Patch => Modality::Patch,
        TokenRow::Whole => Modality::Whole,
        TokenRow::Frame => Modality::Frame,
        TokenRow::Token { learned: true, .. } => Modality::Word,
        TokenRow::Token { id, .. } if token(id).starts_with('<') => Modality::Mark,
        TokenRow::Token { .. } => Modality::Read,
    };
    let mut rows: Vec<ShownRow> = sequence
        .rows
        .iter()
        .map(|row| {
            let token = if let TokenRow::Token { id, .. } = row { token(*id) } else { String::new() };
            ShownRow { modality: modality(row), token, predicts: None }
        })
        .collect();
    for ((&row, &target), &loss) in batch.logit_row.iter().zip(&batch.logit_target).zip(losses) {
        if let (Ok(row), Ok(target)) = (usize::try_from(row), u32::try_from(target)) {
            rows[row].predicts = Some((token(target), loss));
        }
    }
    rows
}
