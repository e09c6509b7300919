//! The parts of a run that its settings name: which rows, which model, which trainer.

use super::choices::Choices;
use super::fit;
use super::pretrained::{self, Pretrained};
use super::recipe::Recipe;
use super::settings::Settings;
use super::settings::path::from_text;
use super::trainer::Trainer;
use crate::data::augment::{Augmentation, Named};
use crate::data::folder::TableRow;
use crate::data::loader::OnBadSample;
use crate::data::{Attributes, Dataset, OpenOptions, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::batch::Capacity;
use crate::model::contrast;
use crate::model::{Config, Parameters};
use crate::tensor::DType;
use trimodal_base::random::fnv1a;

/// Which rows are trained on, and which are judged.
pub(super) struct Split<'a> {
    settings: &'a Settings,
    without_splits: bool,
}

impl<'a> Split<'a> {
    pub(super) fn new(settings: &'a Settings, dataset: &Dataset) -> Self {
        Split { settings, without_splits: dataset.rows().iter().all(|row| row.split.is_none()) }
    }

    pub(super) fn wanted(&self) -> bool {
        !self.settings.evaluation.eval_split.is_empty() || self.settings.evaluation.held_out > 0.0
    }

    fn in_training_split(&self, row: &TableRow) -> bool {
        self.without_splits || row.split.as_deref() == Some(&self.settings.data.train_split)
    }

    fn held_out(&self, row: &TableRow) -> bool {
        // With the finaliser of splitmix64: names that differ in one letter must not stay together.
        let mut hash = fnv1a(&row.name);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((hash ^ (hash >> 31)) >> 11) as f64 / (1u64 << 53) as f64) < self.settings.evaluation.held_out
    }

    pub(super) fn trains(&self, row: &TableRow) -> bool {
        self.in_training_split(row) && !self.held_out(row)
    }

    /// The numbers of the rows that are trained on.
    pub(super) fn trained(&self, dataset: &Dataset) -> Vec<usize> {
        (0..dataset.rows().len()).filter(|&i| self.trains(&dataset.rows()[i])).collect()
    }

    pub(super) fn judges(&self, row: &TableRow) -> bool {
        match self.settings.evaluation.eval_split.as_str() {
            "" => self.in_training_split(row) && self.held_out(row),
            split => row.split.as_deref() == Some(split),
        }
    }
}

/// Rows of a data set that tell what a run has learned.
pub struct EvaluationSplit<'d> {
    /// The split's name; `held out` for rows that were kept back from it.
    pub name: String,
    /// The rows, all with a caption.
    pub rows: Vec<&'d TableRow>,
    /// Whether the run trains on them: where there are no others.
    pub trained_on: bool,
}

/// What a run can be judged on: the split that its settings evaluate or the rows that they hold out, then every other named split that it does not
/// train on. If there are none, the rows that it trains on.
pub fn evaluation_splits<'d>(settings: &Settings, dataset: &'d Dataset) -> Vec<EvaluationSplit<'d>> {
    let split = Split::new(settings, dataset);
    let rows = |keep: &dyn Fn(&TableRow) -> bool| dataset.rows().iter().filter(|row| row.text.is_some() && keep(row)).collect::<Vec<_>>();
    let evaluated = settings.evaluation.eval_split.as_str();
    let first = if evaluated.is_empty() { "held out" } else { evaluated };
    let mut splits =
        vec![EvaluationSplit { name: first.into(), rows: rows(&|row| split.wanted() && split.judges(row)), trained_on: first == settings.data.train_split }];
    for (name, _) in dataset.splits() {
        if !name.is_empty() && name != evaluated && name != settings.data.train_split {
            let rows = rows(&|row| row.split.as_deref() == Some(&name));
            splits.push(EvaluationSplit { name, rows, trained_on: false });
        }
    }
    splits.retain(|split| !split.rows.is_empty());
    if splits.is_empty() {
        splits.push(EvaluationSplit { name: "trained on".into(), rows: rows(&|row| split.trains(row)), trained_on: true });
    }
    splits
}

/// The numbers of the rows that are trained on.
pub fn trained_rows(settings: &Settings, dataset: &Dataset) -> Vec<usize> {
    Split::new(settings, dataset).trained(dataset)
}

/// The data set that settings name.
///
/// # Errors
/// As [`Dataset::open`].
pub fn open(settings: &Settings) -> Result<Dataset> {
    let path = &from_text(&settings.data.path);
    if settings.data.path.is_empty() {
        return Err(Error::Usage("data.path: expected a data set, found nothing".into()));
    }
    let columns = settings.data.columns.parse().map_err(|what| Error::Usage(format!("data.columns: {what}")))?;
    let skip_bad = settings.data.on_bad_sample == OnBadSample::Skip;
    Dataset::open_with(path, &OpenOptions { limits: settings.limits(), columns, skip_bad })
}

/// What captions of a data set name, one by one: as a file of the settings declares it, or the data set itself.
///
/// # Errors
/// A file that cannot be read.
pub fn attributes(settings: &Settings, dataset: &Dataset) -> Result<Attributes> {
    let file = Some(&settings.data.attributes).filter(|text| !text.is_empty()).map(|text| from_text(text));
    dataset.attributes(file.as_deref())
}

/// What varies between visits, and the words for colours that the data set declares.
///
/// # Errors
/// As [`attributes`].
pub fn augmentation(settings: &Settings, dataset: &Dataset) -> Result<Augmentation> {
    let mut augmentation = settings.augmentation();
    if settings.data.color_blind > 0.0 {
        let wanted: Vec<&str> = settings.data.color_attributes.split(',').map(str::trim).collect();
        let attributes = attributes(settings, dataset)?;
        let colors = attributes.list().iter().filter(|of| wanted.contains(&of.name.as_str()));
        augmentation.colors = Named::new(colors.flat_map(|of| of.words()));
    }
    Ok(augmentation)
}

/// What settings say about batches.
pub(super) fn recipe(settings: &Settings) -> Recipe {
    let (t, d) = (&settings.training, &settings.data);
    let precision = t.precision.resolved();
    Recipe {
        rows: t.rows,
        schedule: settings.optimiser(),
        word_dropout: d.word_dropout as f32,
        color_jitter: d.color_jitter as f32,
        color_blind: d.color_blind as f32,
        seed: t.seed,
        precision,
    }
}

/// The model, its tokenizer, its parameters at the beginning, and the captions that it tells apart ([`told_apart`]).
pub(super) fn model(settings: &mut Settings, dataset: &Dataset, device: &Device) -> Result<(Config, Tokenizer, Parameters, Choices)> {
    if !settings.model.from.is_empty() {
        let path = from_text(&settings.model.from);
        let Pretrained { config, tokenizer, parameters, .. } = pretrained::open(&path, settings, device)?;
        let config = Config { contrastive: settings.training.contrastive > 0.0, ..config };
        let captions = told_apart(settings, dataset, &tokenizer);
        return Ok((config, tokenizer, parameters, captions));
    }
    let tokenizer = tokenizer(settings, dataset)?;
    leave_out_senses(settings, dataset);
    let config = settings.model_config_for(&tokenizer);
    config.validate().map_err(|what| Error::Usage(format!("model: {what}")))?;
    let captions = told_apart(settings, dataset, &tokenizer);
    fit::expect(settings, &config, device, captions.count())?;
    let parameters = Parameters::init(&config, device, DType::F32, settings.training.seed)?;
    Ok((config, tokenizer, parameters, captions))
}

/// The tokenizer of a new model: a file's, or one that is trained on the captions of the rows to train on.
///
/// # Errors
/// No caption among them; a file that cannot be read.
pub fn tokenizer(settings: &Settings, dataset: &Dataset) -> Result<Tokenizer> {
    if !settings.data.tokenizer.is_empty() {
        return Ok(Tokenizer::adopt_file(&from_text(&settings.data.tokenizer))?.tokenizer);
    }
    let captions = captions(settings, dataset);
    if captions.is_empty() {
        let what = format!("no caption to train on: expected rows with `text` and, if any row has a `split`, some in {:?}", settings.data.train_split);
        return Err(Error::file(from_text(&settings.data.path), what));
    }
    Tokenizer::train(captions, settings.data.max_vocabulary)
}

/// The captions of the rows to train on, in their order.
pub fn captions<'d>(settings: &Settings, dataset: &'d Dataset) -> Vec<&'d str> {
    let split = Split::new(settings, dataset);
    dataset.rows().iter().filter(|row| split.trains(row)).filter_map(|row| row.text.as_deref()).collect()
}

/// The captions that the contrastive loss tells apart: every different one of the rows to train on, or as many of them, evenly spaced, as there may
/// be. None where training has no such loss. What the tokenizer has no tokens for is left out: whoever trains on it says so.
pub fn told_apart(settings: &Settings, dataset: &Dataset, tokenizer: &Tokenizer) -> Choices {
    if settings.training.contrastive == 0.0 {
        return Choices::default();
    }
    Choices::with_tokens(captions(settings, dataset), tokenizer).at_most(contrast::MOST)
}

/// Eyes that were never trained on a picture would give answers all the same. So a new model gets no sense that no row has data for. (Starting from it
/// with other data, `--from` adds one.)
fn leave_out_senses(settings: &mut Settings, dataset: &Dataset) {
    let split = Split::new(settings, dataset);
    let any = |has: fn(&TableRow) -> bool| dataset.rows().iter().any(|row| split.trains(row) && has(row));
    let (pictures, sounds) = (any(TableRow::may_have_picture), any(TableRow::may_have_sound));
    settings.model.pictures &= pictures;
    settings.model.sounds &= sounds;
}

/// A trainer for settings whose precision is resolved, and the bytes that it allocates. `captions`: those that it tells apart.
///
/// # Errors
/// [`Error::OutOfMemory`] where the device has no room for it.
pub fn trainer(settings: &Settings, config: &Config, device: &Device, parameters: Parameters, captions: &[Vec<u32>]) -> Result<(Trainer, u64)> {
    let capacity = Capacity::for_budget(config, settings.training.rows);
    // The parameters are there already.
    let options = fit::options(settings, captions.len());
    let memory = Trainer::bytes(config, capacity, options);
    device.expect_memory(memory.saturating_sub(parameters.each().iter().map(|tensor| tensor.bytes()).sum()), "a training step")?;
    let mut trainer = Trainer::with_options(options, config, parameters, settings.optimiser(), capacity)?;
    trainer.tell_apart(captions)?;
    Ok((trainer, memory))
}
