//! `trimodal data`: what is in a data set, before anyone trains on it.

use super::ColumnArguments;
use super::progress::{advance, progress};
use super::terminal::{error, line, note};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trimodal::data::inspect::{Counts, DatasetReport, RowsOf, Spread, inspect};
use trimodal::data::{Dataset, MediaSizes, Tokenizer};
use trimodal::files::shown::{shown, shown_path};
use trimodal::files::write_file_atomic;
use trimodal::numbers::thousands;
use trimodal::report::{Cell, VISITS, augmented_sheet, contact_sheet};
use trimodal::train::examples::{row_limit, sizes};
use trimodal::train::stratified::evenly_spaced;
use trimodal::train::{Settings, setup, visits};
use trimodal::{Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal data my-data
  trimodal data my-data --out sheet.png            pictures with their captions, to look at
  trimodal data 'shards/my-{000000..000012}.tar' --json report.json
  trimodal data my-data --tokenizer qwen3/tokenizer.json
  trimodal data my-data --augmented --set augment=light   what training would see of some pictures and sounds, visit by visit
  trimodal data mnist --columns text=label          Parquet files, with the names of their classes as captions

DIR is one of
  a folder with metadata.jsonl or metadata.csv, as Hugging Face's imagefolder and audiofolder read it; one row per line:
    {\"file_name\": \"0.png\", \"audio\": \"0.wav\", \"text\": \"a fluffy orange cat purring\", \"split\": \"train\"}
    `file_name` (a picture or a sound, its content says which), `image`, `audio`, `text`, `prompt` (read, not learned)
  a folder with such tables at any depth: train/metadata.jsonl, data/testing/metadata.jsonl; the folder's name is the split
  WebDataset shards: a .tar, a folder of them, or a pattern; 000017.png .jpg .wav .txt .json next to each other are a sample
  Parquet: a file, a folder of them, or a pattern, as Hugging Face's datasets has them: `image` and `audio` are struct<bytes, path>,
    bytes or paths, `text` is text, one each or lists; --columns image=img,text=caption where they have other names; \
train-00000-of-00004.parquet is of the split train
  a folder whose subfolders name what is in them (cat/1.png, training/cat/1.png), or with plain .txt files

Every picture (PNG, JPEG, WebP) and sound (WAV, FLAC, MP3, Ogg Vorbis) is decoded as training would decode it. Nothing outside DIR is read, nothing in it is written. \
The exit code is 1 if a row is broken, or too long for the model of --config; the first ten are listed with file and line.";

/// Look through a data set before training: counts, sizes, lengths, broken rows, a contact sheet
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Data {
    /// A data folder, or WebDataset shards
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Also write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw a contact sheet: samples evenly spaced through the data set, with their captions
    #[arg(long, value_name = "PNG")]
    out: Option<PathBuf>,
    /// At most this many samples on the sheet
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..=600))]
    cells: u16,
    /// Count tokens with this tokenizer.json instead of one trained on the captions
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The settings whose sizes and limits to count with: a preset, a .toml file as for `train`, or a model's config.json
    #[arg(long, value_name = "NAME|FILE", default_value = "meadow")]
    config: String,
    /// Change a key of the config, as for `train`; can be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Also draw what training would see with these settings: of rows that are trained on, evenly spaced, pictures and mel frames as they are
    /// and as the epochs from 0 on show them with this seed [default file: augmented.png]
    #[arg(long, value_name = "PNG", num_args = 0..=1, default_missing_value = "augmented.png")]
    augmented: Option<PathBuf>,
    #[command(flatten)]
    columns: ColumnArguments,
}

/// Side of a picture on the sheet, in pixels.
const SHEET_SIDE: usize = 192;

impl Data {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.json.is_some() || self.out.is_some() || self.augmented.is_some()
    }

    pub fn run(self) -> Result<ExitCode> {
        let mut settings = Settings::named(&self.config)?;
        settings.set_all(&self.set)?;
        settings.validate()?;
        if let Some(path) = self.augmented.as_ref().filter(|path| !path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("png"))) {
            let what = format!("--augmented {}: expected the name of a .png file to write, or none; DIR stands before it", shown_path(path));
            return Err(Error::Usage(what));
        }
        let dataset = Dataset::open_with(&self.data, &self.columns.options(settings.limits(), true))?;
        let tokenizer = self.tokenizer(&dataset, &settings)?;
        let config = settings.model_config(tokenizer.vocabulary());
        // The beginning and the end of a picture or sound are rows too.
        let rows = RowsOf {
            picture: config.vision_config.as_ref().map_or(0, |vision| vision.rows() + 2),
            sound: config.audio_config.as_ref().map_or(0, |audio| audio.rows() + 2),
            limit: row_limit(&config, settings.training.rows),
        };
        let sizes = sizes(&config);
        let bar = progress("decoding");
        let found = inspect(&dataset, &sizes, rows, &tokenizer, &mut |done, total| advance(&bar, done, total));
        bar.finish_and_clear();
        let found = found?;
        line(summary(&self.data, &found, rows, &self.config));
        dataset.notes().iter().for_each(|note| line(format!("note: {note}")));
        found.cuts.sentences(&sizes).into_iter().for_each(line);
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&found).expect("numbers and strings serialise") + "\n";
            write_file_atomic(path, text)?;
        }
        if let Some(path) = &self.out {
            sheet(path, &dataset, &found.good, &sizes, self.cells as usize)?;
            line(format!("contact sheet: {}", shown_path(path)));
        }
        if let Some(path) = &self.augmented {
            self.augmented(path, &dataset, &found.good, &settings, &tokenizer)?;
        }
        if found.bad.count == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        error(format!("{} broken; the first:", rows_of(found.bad.count as usize)));
        for message in &found.bad.first {
            note(format!("  {}", super::one_line(message)));
        }
        Ok(ExitCode::FAILURE)
    }

    /// Draws what training would see.
    fn augmented(&self, path: &Path, dataset: &Dataset, good: &[usize], settings: &Settings, tokenizer: &Tokenizer) -> Result<()> {
        let config = settings.model_config_for(tokenizer);
        let trained = setup::trained_rows(settings, dataset);
        let seen = |&row: &usize| dataset.rows()[row].may_have_picture() || dataset.rows()[row].may_have_sound();
        let rows: Vec<usize> = good.iter().copied().filter(|row| trained.binary_search(row).is_ok() && seen(row)).collect();
        if rows.is_empty() {
            let what = format!("no row to show: none of split {:?} (data.train_split) has a picture or sound that can be read", settings.data.train_split);
            return Err(Error::file(dataset.dir(), what));
        }
        let count = (self.cells as usize / (1 + VISITS as usize)).max(1);
        let some: Vec<usize> = evenly_spaced(count, rows.len()).map(|i| rows[i]).collect();
        let previews = visits::preview(dataset, &some, settings, &config, tokenizer, VISITS)?;
        let side = config.vision_config.as_ref().map_or(1, |vision| vision.image_size);
        let mels = config.audio_config.as_ref().map_or(1, |audio| audio.num_mel_bins);
        augmented_sheet(path, &previews, side, mels)?;
        let level = settings.data.augment.name();
        line(format!("what training sees (data.augment = {level:?}, seed {}): {}", settings.training.seed, shown_path(path)));
        if !settings.augmentation().strengths.any() {
            let what = if settings.data.color_jitter > 0.0 { "only the light of pictures varies (data.color_jitter)" } else { "every visit shows the same" };
            line(format!("augmentation is off: {what}; --set augment=light shows some"));
        }
        Ok(())
    }

    /// The one that training would take.
    fn tokenizer(&self, dataset: &Dataset, settings: &Settings) -> Result<Tokenizer> {
        if let Some(path) = &self.tokenizer {
            let adopted = Tokenizer::adopt_file(path)?;
            if !adopted.added.is_empty() {
                line(format!("tokenizer: added {}", shown(&adopted.added.join(" "))));
            }
            return Ok(adopted.tokenizer);
        }
        let captions: Vec<&str> = dataset.rows().iter().filter_map(|row| row.text.as_deref()).collect();
        if captions.iter().all(|caption| caption.trim().is_empty()) {
            return Err(Error::file(dataset.dir(), "no row has a `text`: there is nothing to learn from"));
        }
        // Where no row is for training, the captions that there are.
        setup::tokenizer(settings, dataset).or_else(|_| Tokenizer::train(captions, settings.data.max_vocabulary))
    }
}

fn rows_of(count: usize) -> String {
    format!("{} {}", thousands(count), if count == 1 { "row is" } else { "rows are" })
}

fn sounds(count: usize) -> String {
    format!("{} {}", thousands(count), if count == 1 { "sound" } else { "sounds" })
}

/// The report for people.
fn summary(path: &Path, found: &DatasetReport, rows: RowsOf, config: &str) -> String {
    let row = |name: &str, counts: &Counts| {
        let numbers = [counts.samples, counts.pictures, counts.sounds, counts.both, counts.texts, counts.prompts];
        std::iter::once(name.to_string()).chain(numbers.map(thousands)).collect::<Vec<_>>()
    };
    let mut table: Vec<_> = found.splits.iter().map(|(name, counts)| row(if name.is_empty() { "no split" } else { name }, counts)).collect();
    if table.len() != 1 {
        table.push(row("all", &found.all));
    }
    let counts = report::table(&["split", "samples", "pictures", "sounds", "both", "texts", "prompts"], &table);

    let spread = |name: &str, spread: &Option<Spread>| {
        let spread = spread.as_ref()?;
        let number = |v: f64| if v.fract() == 0.0 { thousands(v as usize) } else { format!("{v:.2}") };
        Some(std::iter::once(name.to_string()).chain([spread.min, spread.median, spread.p95, spread.max].map(number)).collect::<Vec<_>>())
    };
    let spreads: Vec<_> = [
        spread("picture width, pixels", &found.picture_width),
        spread("picture height, pixels", &found.picture_height),
        spread("sound, seconds", &found.sound_seconds),
        spread("caption, words", &found.caption_words),
        spread("tokens per sample", &found.tokens),
    ]
    .into_iter()
    .flatten()
    .collect();
    let spreads = report::table(&["", "min", "median", "p95", "max"], &spreads);

    let mut text = format!("{} ({})\n\n{}\n\n{}\n", shown_path(path), found.kind, counts.trim_end(), spreads.trim_end());
    for (rate, count) in &found.sound_rates {
        text += &format!("\n{} at {} Hz", sounds(*count), thousands(rate));
    }
    for (channels, count) in found.sound_channels.iter().filter(|(channels, _)| **channels > 1) {
        text += &format!("\n{} of {channels} channels, which are averaged", sounds(*count));
    }
    text += &format!(
        "\n{} tokens in all with {config}: {} of a picture, {} of a sound, a vocabulary of {}",
        thousands(found.tokens_in_all),
        rows.picture,
        rows.sound,
        thousands(found.vocabulary)
    );
    text
}

/// Draws samples that are evenly spaced through the data set.
fn sheet(path: &Path, dataset: &Dataset, good: &[usize], sizes: &MediaSizes, most: usize) -> Result<()> {
    let sizes = MediaSizes { picture: SHEET_SIDE, ..*sizes };
    let samples: Vec<_> = evenly_spaced(most, good.len()).map(|i| dataset.sample(&dataset.rows()[good[i]], &sizes)).collect::<Result<_>>()?;
    let cells: Vec<Cell> = samples
        .iter()
        .map(|sample| Cell {
            rgb: sample.picture.as_ref().map_or(&[], |picture| &picture.rgb),
            size: sample.picture.as_ref().map_or(0, |picture| picture.width),
            caption: &sample.text,
            expected: None,
        })
        .collect();
    contact_sheet(path, &cells)
}
