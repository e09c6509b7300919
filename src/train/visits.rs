//! What is kept of a decoded sample, and what each visit makes of it: the same example, or an augmented one of its own.

use super::examples::{Example, Preprocessor, row_limit, sizes};
use super::recipe::Recipe;
use super::sequence::sequence;
use super::settings::Settings;
use super::setup;
use crate::data::augment::Augmentation;
use crate::data::inspect::RowLimit;
use crate::data::loader::Visit;
use crate::data::{Dataset, Sample, Tokenizer};
use crate::error::Result;
use crate::model::Config;
use std::sync::Arc;

/// What is kept of a decoded sample.
pub struct Kept {
    example: Arc<Example>,
    /// Whether its picture may be mirrored.
    mirrors: bool,
    /// How opaque each pixel is, where pictures are augmented and not all are.
    alpha: Option<Vec<u8>>,
    /// The waveform, where it is augmented.
    sound: Option<Vec<f32>>,
}

impl Kept {
    /// An example that every visit is shown as it is.
    pub(super) fn same(example: Example) -> Self {
        Kept { example: Arc::new(example), mirrors: false, alpha: None, sound: None }
    }

    /// The example as it is.
    pub(super) fn example(&self) -> Arc<Example> {
        self.example.clone()
    }

    /// Bytes that it keeps in memory.
    pub fn bytes(&self) -> u64 {
        self.example.bytes() + (self.alpha.as_ref().map_or(0, Vec::len) + 4 * self.sound.as_ref().map_or(0, Vec::len)) as u64
    }
}

/// Makes examples of samples, visit by visit, on any thread.
pub struct Visitor {
    preprocessor: Preprocessor,
    limit: RowLimit,
    augmentation: Augmentation,
}

impl Visitor {
    /// For a model and its tokenizer, batches of so many rows, and what varies between visits.
    ///
    /// # Errors
    /// As [`Preprocessor::new`].
    pub fn new(config: &Config, tokenizer: &Tokenizer, rows: usize, augmentation: Augmentation) -> Result<Self> {
        let Augmentation { colors, seen, heard, .. } = augmentation.clone();
        let preprocessor = Preprocessor::new(config, tokenizer)?.naming(colors).telling(seen, heard);
        Ok(Visitor { preprocessor, limit: row_limit(config, rows), augmentation })
    }

    /// Whether visits differ.
    pub fn augments(&self) -> bool {
        self.augmentation.strengths.any()
    }

    /// Whether a sample is wanted with what is transparent in its picture.
    pub fn wants_alpha(&self) -> bool {
        self.augmentation.strengths.pictures()
    }

    /// What is kept of a sample.
    ///
    /// # Errors
    /// As [`Preprocessor::example`]; a sample that does not fit into a batch.
    pub fn keep(&self, mut sample: Sample) -> Result<Kept> {
        let alpha = sample.alpha.take();
        let mirrors = self.augmentation.mirrors(&sample.text, sample.prompt.as_deref().unwrap_or_default());
        let sound = sample.sound.clone().filter(|_| self.augmentation.strengths.frames());
        let example = self.preprocessor.example(sample)?;
        self.limit.expect(example.rows(&self.preprocessor.config))?;
        Ok(Kept { example: Arc::new(example), mirrors, alpha, sound })
    }

    /// What a visit is shown of it.
    ///
    /// # Errors
    /// As [`Preprocessor::frames`].
    pub fn show(&self, kept: &Kept, visit: Visit) -> Result<Arc<Example>> {
        if !self.augments() {
            return Ok(kept.example.clone());
        }
        let of = &*kept.example;
        let (strengths, config) = (&self.augmentation.strengths, &self.preprocessor.config);
        let mut example = Example {
            name: of.name.clone(),
            split: of.split.clone(),
            text: of.text.clone(),
            prompt: of.prompt.clone(),
            question: of.question.clone(),
            words: of.words.clone(),
            colors: of.colors.clone(),
            told_by: of.told_by.clone(),
            pixels: None,
            mel: None,
        };
        example.pixels = match (&of.pixels, &config.vision_config) {
            (Some(rgb), Some(vision)) if strengths.pictures() => {
                Some(self.augmentation.look(visit, kept.mirrors).of(rgb, kept.alpha.as_deref(), vision.image_size))
            }
            _ => of.pixels.clone(),
        };
        let hearing = self.augmentation.hearing(visit);
        example.mel = match &kept.sound {
            Some(sound) => self.preprocessor.frames(&hearing.of(sound))?,
            None => of.mel.clone(),
        };
        if let (Some(mel), Some(audio)) = (example.mel.as_mut().filter(|_| strengths.masks()), &config.audio_config) {
            hearing.mask(mel, audio.num_mel_bins);
        }
        Ok(Arc::new(example))
    }
}

/// A sample as it is, and as its first visits show it.
pub struct Preview {
    /// Its name in the data set.
    pub name: String,
    /// Its caption.
    pub text: String,
    /// As it is.
    pub original: Shown,
    /// In the epochs from 0 on.
    pub visits: Vec<Shown>,
}

/// What a model is shown.
pub struct Shown {
    /// `[image_size, image_size, 3]`
    pub pixels: Option<Vec<u8>>,
    /// `[frames, mels]`
    pub mel: Option<Vec<f32>>,
}

/// What a run with these settings is shown of some rows in its first epochs, bit by bit. Rows that cannot be read are left out.
///
/// # Errors
/// As [`Visitor::new`].
pub fn preview(dataset: &Dataset, rows: &[usize], settings: &Settings, config: &Config, tokenizer: &Tokenizer, epochs: u64) -> Result<Vec<Preview>> {
    let (recipe, sizes) = (setup::recipe(settings), sizes(config));
    let visitor = Visitor::new(config, tokenizer, recipe.rows, setup::augmentation(settings, dataset)?)?;
    let of = |row: usize| -> Result<Preview> {
        let sample = dataset.sample_with_alpha(&dataset.rows()[row], &sizes)?;
        let kept = visitor.keep(Sample { alpha: sample.alpha.clone().filter(|_| visitor.wants_alpha()), ..sample })?;
        let original = Shown { pixels: kept.example.pixels.clone(), mel: kept.example.mel.clone() };
        let visits = (0..epochs).map(|epoch| shown(&visitor, &kept, Visit { epoch, row: row as u64 }, recipe, config, tokenizer)).collect::<Result<_>>()?;
        Ok(Preview { name: kept.example.name.clone(), text: kept.example.text.clone(), original, visits })
    };
    Ok(rows.iter().filter_map(|&row| of(row).ok()).collect())
}

fn shown(visitor: &Visitor, kept: &Kept, visit: Visit, recipe: Recipe, config: &Config, tokenizer: &Tokenizer) -> Result<Shown> {
    let sequence = sequence(&*visitor.show(kept, visit)?, visit, recipe, config, &tokenizer.special());
    Ok(Shown { pixels: sequence.pixels, mel: sequence.mel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::loader::DataPosition;
    use crate::data::{Limits, meadow};
    use crate::train::batches::Batches;

    /// A row at a time, so that a batch is what one visit is shown.
    #[test]
    fn a_preview_is_what_the_run_is_fed_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let options = meadow::MeadowOptions { samples: 6, test_samples: 1, ..Default::default() };
        meadow::write(folder.path(), &options, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
        let dataset = Arc::new(Dataset::open(folder.path(), &Limits::default()).unwrap());
        let mut settings = Settings::preset("meadow").unwrap();
        settings.set_all(&["augment=strong".into(), "seed=3".into(), "workers=2".into()]).unwrap();
        let tokenizer = setup::tokenizer(&settings, &dataset).unwrap();
        let config = settings.model_config_for(&tokenizer);
        let trained = setup::trained_rows(&settings, &dataset);
        assert_eq!(trained.len(), 6);
        let previews = preview(&dataset, &trained, &settings, &config, &tokenizer, 3).unwrap();
        for (row, preview) in trained.into_iter().zip(previews) {
            let (recipe, from) = (setup::recipe(&settings), DataPosition::default());
            let augmentation = setup::augmentation(&settings, &dataset).unwrap();
            let mut batches = Batches::start(dataset.clone(), vec![row], &config, &tokenizer, recipe, augmentation, settings.loading(), from).unwrap();
            for shown in &preview.visits {
                let (batch, _) = batches.draw().unwrap();
                assert!(batch.pixels == shown.pixels.clone().unwrap_or_default() && batch.mel == shown.mel.clone().unwrap_or_default(), "{}", preview.name);
            }
            let all: Vec<_> = std::iter::once(&preview.original).chain(&preview.visits).collect();
            let differ = |a: &Shown, b: &Shown| (a.pixels.is_none() || a.pixels != b.pixels) && (a.mel.is_none() || a.mel != b.mel);
            assert!(all.windows(2).all(|pair| differ(pair[0], pair[1])), "{}", preview.name);
        }
    }
}
