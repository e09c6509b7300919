//! `trimodal eval`: what a model gets right on a data set, and what it uses for it.

use super::progress::{advance, load, progress};
use super::terminal::{line, warning};
use super::{ColumnArguments, DeviceArguments};
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trimodal::data::{Attributes, Dataset, Tokenizer};
use trimodal::files::shown::shown_path;
use trimodal::files::write_file_atomic;
use trimodal::model::{Config, Parameters};
use trimodal::numbers::{self, digits, percent, thousands};
use trimodal::train::choices::{Choices, choose};
use trimodal::train::evaluate::{self, Ablation, Chance, Losses, Scores, chance, chance_on};
use trimodal::train::{Example, ModelFolder, Settings, checkpoint, self_description, setup};
use trimodal::{DType, Device, Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal eval my-model my-data
  trimodal eval my-model my-data --split test --ablate
  trimodal eval trimodal-demo/model trimodal-demo/data --json scores.json
  trimodal eval my-model my-data --split test --choices captions.txt
  trimodal eval my-model my-data --split test --choices train
  trimodal eval my-model my-data --attributes attributes.json --verify

One block of rows per split of the data set. The model predicts each next token of the true captions: `loss` is the mean \
cross-entropy in nats per token (the caption's end is one), `perplexity` is e to that, `tokens` is the share predicted right. Then it \
describes every sample itself, greedily: `exact` counts captions that are right word for word, the other columns the attributes \
that the data set declares, where a true caption says something about them.

A data set declares attributes in its rows, `\"attributes\": {\"category\": \"animal\"}` in a line of metadata.jsonl, a cell of metadata.csv, a column of Parquet or a \
shard's .json: what a caption says is then what the rows with this very caption declare, or else the value whose name occurs in it. Or \
--attributes names a JSON file with the words to look for: {\"species\": [\"cat\", \"dog\"]}, {\"kind\": {\"animal\": [\"cat\", \"dog\"]}}. What \
`trimodal meadow` wrote has its own. Without any, and where captions repeat, a second table counts caption by caption.

--choices has the model answer from a list instead: of given captions it chooses the one that it finds most likely, end included (and, if it was trained with `training.contrastive`, by what picture and sound alone say: see `describe --help`). `exact` and the attributes then count what it chose. The list is a text file with one caption on each line or, with the word `train`, every different caption of the rows that the run was trained on (a file of that name is ./train). Each picture, sound and prompt is computed once, and then the captions, what they begin with together only once. The true caption need not be in the list: a line says how often it is.

--ablate finds out what the model really uses, by taking it away. Shuffled: every picture (sound) is another sample's of the same \
split, exchanged in the same way on every run. Grey: every picture is an even middle grey. Silent: every sound is silence. A model that \
uses its pictures gets worse without them; one that guesses from the words does not.

`most frequent answer` is the best that one answer for all samples gets, in hindsight: the most frequent caption, the most frequent word of an \
attribute, the tokens by their frequency alone. What is not better than that was not learned from pictures and sounds. `chance`, the last row, is \
guessing evenly among the values of an attribute, or of a caption among all combinations of them, where these tell captions apart.

Where the rows to train on contain self-descriptions (`trimodal meadow` draws some), the model is asked what it can sense, and a line \
says whether that is so: it must claim nothing that those rows did not have or that it has no eyes or ears for.

A warning says how many samples are of a kind that training never showed the model, such as a picture without a sound, where that is known.

--json holds device, model, data, `met` (samples that training has shown it, by what they had: words, picture, sound, both; null where that is not known), `choices` (null, or source, captions and absent: samples whose caption is not among them, by split), `self_description` (answers, claims, perceives, honest, right; or null) and `splits`, by name: samples, loss, \
perplexity, tokens, token_accuracy, exact and the attributes as shares from 0 to 1 (or `captions`: caption, samples, exact), the same under `most_frequent_answer`, \
and with --ablate under `ablations`: \
shuffled_pictures, grey_pictures, shuffled_sounds, silent_sounds, those that the split has samples for. `chance` holds exact, where it is known, and the attributes.";

/// Count what a model gets right on a data set, and find out what it uses for it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    /// A run or a model folder, as `train` and `demo` write them
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// The data set, as for `train`
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Only this split of the data set
    #[arg(long, value_name = "S")]
    split: Option<String>,
    /// Also with pictures and sounds shuffled between the samples, and without them
    #[arg(long)]
    ablate: bool,
    /// A JSON file that declares the attributes to count, instead of those that the data set declares
    #[arg(long, value_name = "FILE")]
    attributes: Option<PathBuf>,
    /// Answer from a list: a file with one caption on each line or, as `train`, the captions of the rows trained on
    #[arg(long, value_name = "FILE|train")]
    choices: Option<PathBuf>,
    /// First check that the model's files are as they were saved
    #[arg(long)]
    verify: bool,
    /// Also write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    columns: ColumnArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What a model came to on some samples.
#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    losses: Figures,
    #[serde(flatten)]
    scores: Scores,
}

/// [`Losses`] with what follows from them.
#[derive(Serialize)]
struct Figures {
    loss: f64,
    perplexity: f64,
    tokens: usize,
    token_accuracy: f64,
}

impl From<(Losses, Scores)> for Measured {
    fn from((losses, scores): (Losses, Scores)) -> Self {
        let figures = Figures { loss: losses.loss, perplexity: losses.perplexity(), tokens: losses.tokens, token_accuracy: losses.accuracy() };
        Measured { losses: figures, scores }
    }
}

/// A split as it is, under every ablation that changes something, and what one answer for all of it gets.
#[derive(Serialize)]
struct MeasuredSplit {
    #[serde(flatten)]
    whole: Measured,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ablations: BTreeMap<String, Measured>,
    most_frequent_answer: Measured,
}

impl Eval {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.json.is_some()
    }

    pub fn run(self) -> Result<ExitCode> {
        if self.verify {
            super::verify(&self.model)?;
        }
        let device = self.device.open()?;
        let model = ModelFolder::open(&self.model, &device, DType::F32)?;
        let dataset = self.columns.open(&self.data)?;
        let attributes = dataset.attributes(self.attributes.as_deref())?;
        let learned = Learned { config: &model.config, parameters: &model.parameters, tokenizer: &model.tokenizer, device: &device, attributes: &attributes };
        let list = self.choices(&model, &dataset)?;
        let (mut absent, mut unmet) = (BTreeMap::new(), BTreeMap::<&str, usize>::new());
        let (mut splits, mut captions) = (Vec::new(), BTreeSet::new());
        for split in self.splits(&dataset)? {
            let examples = load(&dataset, &model.config, &model.tokenizer, &device, "decoding", |row| row.split.as_deref().unwrap_or("") == split)?;
            let name = if split.is_empty() { "all".to_string() } else { split };
            let measured = |examples: &[Example], name: &str| -> Result<Measured> {
                let (losses, scores, _) = measured(&learned, examples, list.as_ref(), name)?;
                Ok((losses, scores).into())
            };
            if let Some(list) = &list {
                absent.insert(name.clone(), examples.iter().filter(|example| !list.contains(&example.text)).count());
            }
            for example in &examples {
                let never_met = model.config.never_met(example.pixels.is_some(), example.mel.is_some());
                never_met.into_iter().for_each(|what| *unmet.entry(what).or_default() += 1);
            }
            let whole = measured(&examples, &name)?;
            let mut ablations = BTreeMap::new();
            for ablation in Ablation::ALL.into_iter().filter(|a| self.ablate && a.applies(&examples)) {
                ablations.insert(key(ablation), measured(&evaluate::ablate(&examples, ablation, 0), ablation.name())?);
            }
            captions.extend(examples.iter().map(|example| example.text.clone()));
            let most_frequent_answer = evaluate::most_frequent_answer(&examples, &model.tokenizer, &attributes)?.into();
            splits.push((name, MeasuredSplit { whole, ablations, most_frequent_answer }));
        }
        let chance = chance_on(captions.iter().map(String::as_str), &attributes);
        line(table(&splits, &attributes, &chance));
        for (what, samples) in &unmet {
            let of = if *samples == 1 { "1 sample is".into() } else { format!("{} samples are", thousands(*samples)) };
            warning(format!("{of} of a kind that this model was not trained on: {what} (training.modality_dropout)"));
        }
        let source = self.choices.as_ref().map(|path| if trained_on(path) { "the rows trained on".into() } else { shown_path(path).to_string() });
        if let (Some(list), Some(source)) = (&list, &source) {
            let missing: usize = absent.values().sum();
            let samples: usize = splits.iter().map(|(_, split)| split.whole.scores.samples).sum();
            let missing = match missing {
                0 => "every sample's caption is among them".to_string(),
                _ => format!("the captions of {} of {} samples are not among them", thousands(missing), thousands(samples)),
            };
            line(format!("\nanswered from a list of {} captions ({source}); {missing}", thousands(list.count())));
        }
        let described = self.self_description(&model, &dataset)?;
        if let Some(described) = &described {
            line(format!("\n{}", described.line()));
        }
        if let Some(path) = &self.json {
            let by_name: BTreeMap<&str, &MeasuredSplit> = splits.iter().map(|(name, split)| (name.as_str(), split)).collect();
            let json = serde_json::json!({
                "choices": list.as_ref().map(|list| serde_json::json!({ "source": source, "captions": list.count(), "absent": absent })),
                "device": device.to_string(), "model": self.model.to_string_lossy(), "data": self.data.to_string_lossy(), "splits": by_name, "chance": chance, "self_description": described, "met": model.config.met,
            });
            let text = serde_json::to_string_pretty(&json).expect("numbers and strings serialise") + "\n";
            write_file_atomic(path, text)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The list to answer from, if there is to be one.
    fn choices(&self, model: &ModelFolder, dataset: &Dataset) -> Result<Option<Choices>> {
        let Some(path) = &self.choices else { return Ok(None) };
        if !trained_on(path) {
            return Choices::open(path, &model.tokenizer).map(Some);
        }
        // A model folder that is not a checkpoint holds no settings: nothing is known to have been held out.
        let settings = checkpoint::read_state(&model.path).ok().and_then(|state| state.settings).map_or_else(
            || {
                let mut settings = Settings::preset("meadow")?;
                settings.evaluation.held_out = 0.0;
                Ok(settings)
            },
            Ok::<_, Error>,
        )?;
        let captions = setup::captions(&settings, dataset);
        if captions.is_empty() {
            let what = format!("--choices train: {} has no caption of a row in the split {:?}", dataset.dir().display(), settings.data.train_split);
            return Err(Error::Usage(what));
        }
        Choices::distinct(captions, &model.tokenizer).map(Some)
    }

    /// What the model says about its own senses, where the rows to train on teach it to: those of the run's split, or all of them.
    fn self_description(&self, model: &ModelFolder, dataset: &Dataset) -> Result<Option<self_description::SelfDescription>> {
        // A model folder that is not a checkpoint holds no settings.
        let settings = checkpoint::read_state(&model.path).ok().and_then(|state| state.settings);
        let split = settings.map_or("train".into(), |settings| settings.data.train_split);
        let without_splits = dataset.rows().iter().all(|row| row.split.is_none());
        let taught = self_description::taught(dataset, |row| without_splits || row.split.as_deref() == Some(&split))?;
        taught.map(|taught| self_description::ask(&model.config, &model.parameters, &model.tokenizer, taught)).transpose()
    }

    /// The splits to evaluate, by the name that rows give: `""` for none.
    fn splits(&self, dataset: &Dataset) -> Result<Vec<String>> {
        let all: Vec<String> = dataset.splits().into_iter().map(|(name, _)| name).collect();
        let Some(wanted) = &self.split else { return Ok(all) };
        if all.contains(wanted) {
            return Ok(vec![wanted.clone()]);
        }
        let named: Vec<&str> = all.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        let there = if named.is_empty() { "no row of the data set names a split".to_string() } else { format!("expected one of {}", named.join(", ")) };
        Err(Error::Usage(format!("--split {wanted}: {there}")))
    }
}

/// Whether `--choices` means the captions that the model was trained on.
fn trained_on(choices: &Path) -> bool {
    choices == Path::new("train")
}

/// A model, where it is, and what its captions are asked for.
pub(super) struct Learned<'a> {
    pub config: &'a Config,
    pub parameters: &'a Parameters,
    pub tokenizer: &'a Tokenizer,
    pub device: &'a Device,
    pub attributes: &'a Attributes,
}

/// An ablation's name in JSON.
fn key(ablation: Ablation) -> String {
    ablation.name().replace(' ', "_")
}

/// How well a model predicts captions, what of its own ones (or of those that it chooses from a list) is right, and these, under progress bars.
pub(super) fn measured(learned: &Learned, examples: &[Example], list: Option<&Choices>, name: &str) -> Result<(Losses, Scores, Vec<String>)> {
    let Learned { config, parameters, tokenizer, attributes, .. } = *learned;
    let bar = progress(name);
    let losses = evaluate::loss(config, parameters, tokenizer, examples, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let losses = losses?;
    let captions = match list {
        None => described(config, parameters, tokenizer, examples, name)?,
        Some(list) => {
            let bar = progress(name);
            let rankings = choose(config, parameters, tokenizer, examples, list, &mut |done, total| advance(&bar, done, total));
            bar.finish_and_clear();
            rankings?.iter().map(|ranking| list.texts()[ranking.best()].clone()).collect()
        }
    };
    Ok((losses, evaluate::score(examples, &captions, attributes), captions))
}

/// The model's captions, under a progress bar.
pub(super) fn described(config: &Config, parameters: &Parameters, tokenizer: &Tokenizer, examples: &[Example], doing: &str) -> Result<Vec<String>> {
    let bar = progress(doing);
    let captions = evaluate::describe(config, parameters, tokenizer, examples, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    captions
}

/// Everything, a row each; the columns of attributes only where some caption names one.
fn table(splits: &[(String, MeasuredSplit)], attributes: &Attributes, chance: &Chance) -> String {
    let named: Vec<&str> = attributes.list().iter().map(|of| of.name.as_str()).collect();
    let named: Vec<&str> = named.into_iter().filter(|name| splits.iter().any(|(_, s)| s.whole.scores.attributes.contains_key(*name))).collect();
    let header: Vec<&str> = ["", "samples", "loss", "perplexity", "tokens", "exact"].into_iter().chain(named.iter().copied()).collect();
    let row = |name: String, of: &Measured| {
        let Figures { loss, perplexity, token_accuracy, .. } = of.losses;
        let attributes = named.iter().map(|name| of.scores.attributes.get(*name).map_or("–".into(), |s| percent(*s)));
        let figures = [of.scores.samples.to_string(), numbers::loss(loss), digits(perplexity, 4), percent(token_accuracy), percent(of.scores.exact)];
        [name].into_iter().chain(figures).chain(attributes).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    for (name, split) in splits {
        rows.push(row(name.clone(), &split.whole));
        let below = Ablation::ALL.into_iter().filter_map(|a| Some((a.name(), split.ablations.get(&key(a))?)));
        rows.extend(below.chain([("most frequent answer", &split.most_frequent_answer)]).map(|(name, of)| row(format!("  {name}"), of)));
    }
    if !chance.attributes.is_empty() {
        let share = |share: Option<&f64>| share.map_or("–".into(), |share| percent(*share));
        let before = ["chance", "", "", "", ""].map(String::from).into_iter().chain([share(chance.exact.as_ref())]);
        rows.push(before.chain(named.iter().map(|name| share(chance.attributes.get(*name)))).collect());
    }
    let mut text = report::table(&header, &rows);
    for (name, split) in splits.iter().filter(|(_, split)| !split.whole.scores.captions.is_empty()) {
        let all = &split.whole.scores.captions;
        let rows: Vec<_> = all.iter().take(CAPTIONS).map(|of| [of.caption.clone(), of.samples.to_string(), percent(of.exact)].into()).collect();
        let more = if all.len() > CAPTIONS { format!(", the {CAPTIONS} most frequent of {}", thousands(all.len())) } else { String::new() };
        text += &format!("\n{name}, caption by caption{more}\n{}", report::table(&["caption", "samples", "exact"], &rows));
    }
    text
}

/// Captions of which the second table has a row.
const CAPTIONS: usize = 20;

/// Scores in per cent, one row each, chance last.
pub(super) fn scores_table(rows: &[(&str, &Scores)], attributes: &Attributes) -> String {
    let names = || attributes.list().iter().map(|of| of.name.as_str());
    let header: Vec<&str> = ["", "samples", "exact"].into_iter().chain(names()).collect();
    let row = |name: &str, scores: &Scores, samples: String| {
        let attributes = names().map(|name| scores.attributes.get(name).map_or("–".into(), |s| percent(*s)));
        [name.to_string(), samples, percent(scores.exact)].into_iter().chain(attributes).collect::<Vec<_>>()
    };
    let mut table: Vec<_> = rows.iter().map(|(name, scores)| row(name, scores, scores.samples.to_string())).collect();
    table.push(row("chance", &chance(attributes), String::new()));
    report::table(&header, &table)
}
