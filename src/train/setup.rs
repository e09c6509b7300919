//! The parts of a run that its settings name: which rows, which model, which trainer.

use super::alone;
use super::choices::Choices;
use super::fit;
use super::pretrained::{self, Pretrained};
use super::recipe::Recipe;
use super::settings::path::from_text;
use super::settings::{AUTO, Settings};
use super::trainer::Trainer;
use crate::data::augment::{Augmentation, Named};
use crate::data::folder::TableRow;
use crate::data::loader::OnBadSample;
use crate::data::{Attributes, Dataset, OpenOptions, Tokenizer, split};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::shown::shown;
use crate::model::batch::Capacity;
use crate::model::contrast;
use crate::model::{Config, Met, Parameters};
use crate::numbers::thousands;
use crate::tensor::DType;
use trimodal_base::random::fnv1a;

/// Which rows are trained on, and which are judged.
pub(super) struct Split<'a> {
    settings: &'a Settings,
    without_splits: bool,
    /// The split to evaluate on; empty for none.
    evaluated: String,
}

impl<'a> Split<'a> {
    pub(super) fn new(settings: &'a Settings, dataset: &Dataset) -> Self {
        let evaluated = match settings.evaluation.eval_split.as_str() {
            AUTO if settings.evaluation.held_out > 0.0 => String::new(),
            AUTO => for_evaluation(dataset, &settings.data.train_split).into_iter().next().unwrap_or_default(),
            named => named.into(),
        };
        Split { settings, without_splits: dataset.rows().iter().all(|row| row.split.is_none()), evaluated }
    }

    pub(super) fn wanted(&self) -> bool {
        !self.evaluated.is_empty() || self.settings.evaluation.held_out > 0.0
    }

    /// Whether nobody named the split to evaluate on: its name did. What of it cannot be evaluated is left out then.
    pub(super) fn unasked(&self) -> bool {
        self.settings.evaluation.eval_split == AUTO && !self.evaluated.is_empty()
    }

    /// Says which split is evaluated although nobody asked for it, and which others there are.
    pub(super) fn note(&self, dataset: &Dataset) -> Option<String> {
        if !self.unasked() {
            return None;
        }
        let all = dataset.splits();
        let rows = |name: &str| all.iter().find(|(split, _)| split == name).map_or(0, |(_, rows)| *rows);
        let named = |name: &str| match rows(name) {
            1 => format!("\"{}\" (1 row)", shown(name)),
            rows => format!("\"{}\" ({} rows)", shown(name), thousands(rows)),
        };
        let mut what = format!(
            "evaluated on the split {}, which is never trained on (--set eval_split=NAME takes another, --set eval_split= none)",
            named(&self.evaluated)
        );
        let others = for_evaluation(dataset, &self.settings.data.train_split);
        let others: Vec<String> = others.iter().filter(|name| **name != self.evaluated).map(|name| named(name)).collect();
        if !others.is_empty() {
            what += &format!("; {} judged at the end, in the report: {}", if others.len() == 1 { "one more is" } else { "others are" }, others.join(", "));
        }
        Some(what)
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
        match self.evaluated.as_str() {
            "" => self.in_training_split(row) && self.held_out(row),
            // A split for a contest may have no captions.
            split => row.split.as_deref() == Some(split) && (!self.unasked() || has_text(row)),
        }
    }
}

fn has_text(row: &TableRow) -> bool {
    row.text.as_deref().is_some_and(|text| !text.trim().is_empty())
}

/// The splits that a data set has for evaluation, by their names, the best suited first: `validation` and its other names judge a run while it
/// trains, `test` and its other names only where there is none of those. Splits without captions are none, nor is the one to train on.
fn for_evaluation(dataset: &Dataset, train_split: &str) -> Vec<String> {
    const NAMES: [&str; 8] = ["validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"];
    let mut found: Vec<(usize, usize, String)> = Vec::new();
    for (name, _) in dataset.splits().into_iter().filter(|(name, _)| name != train_split) {
        let kind = match split::meant(&name) {
            Some("validation") => 0,
            Some("test") => 1,
            _ => continue,
        };
        if dataset.rows().iter().any(|row| row.split.as_deref() == Some(&name) && has_text(row)) {
            // Who is called just so comes before `dev-other`.
            found.push((kind, NAMES.iter().position(|of| *of == name.to_lowercase()).unwrap_or(NAMES.len()), name));
        }
    }
    found.sort(); // names in the order of the alphabet at last: no matter in which order rows have them
    found.into_iter().map(|(.., name)| name).collect()
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
    let evaluated = split.evaluated.as_str();
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

/// What varies between visits, and the words that the data set declares for colours, and for what only a picture or only a sound tells.
///
/// # Errors
/// As [`attributes`]; [`Error::Usage`] for an attribute that there is not.
pub fn augmentation(settings: &Settings, dataset: &Dataset) -> Result<Augmentation> {
    let mut augmentation = settings.augmentation();
    if settings.data.color_blind > 0.0 {
        let wanted: Vec<&str> = settings.data.color_attributes.split(',').map(str::trim).collect();
        let attributes = attributes(settings, dataset)?;
        let colors = attributes.list().iter().filter(|of| wanted.contains(&of.name.as_str()));
        augmentation.colors = Named::new(colors.flat_map(|of| of.words()));
    }
    if settings.training.modality_dropout > 0.0 {
        (augmentation.seen, augmentation.heard) = alone::words(settings, &attributes(settings, dataset)?)?;
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
        modality_dropout: t.modality_dropout as f32,
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
    let config = Config { met: Some(Met::NOTHING), ..settings.model_config_for(&tokenizer) };
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
