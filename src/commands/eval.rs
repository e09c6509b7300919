//! `trimodal eval`: describes every sample of a data set and counts what is right.

use super::DeviceArguments;
use super::terminal::line;
use super::train::{advance, load, progress};
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::data::meadow::words::ATTRIBUTE;
use trimodal::data::{Dataset, Limits, Tokenizer};
use trimodal::model::{Config, Parameters};
use trimodal::train::evaluate::{self, Scores, chance};
use trimodal::train::files::write_atomically;
use trimodal::train::{Example, ModelFolder};
use trimodal::{DType, Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal eval my-model my-data
  trimodal eval trimodal-demo/model trimodal-demo/data --json scores.json

The model describes every sample, greedily; `exact` counts captions that are right word for word, the other columns the \
attributes of the generated data set (species, colour, …) where a caption names them. One row per split of the data set.";

/// Describe every sample of a data set and count what is right
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    /// A model folder, as `demo` and `train` write it
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// The folder with metadata.jsonl
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Also write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArguments,
}

impl Eval {
    pub fn run(self) -> Result<ExitCode> {
        let device = self.device.open()?;
        let model = ModelFolder::open(&self.model, &device, DType::F32)?;
        let dataset = Dataset::open(&self.data, &Limits::default())?;
        let mut splits = BTreeMap::new();
        for (split, _) in dataset.splits() {
            let examples = load(&dataset, &model.config, &model.tokenizer, &device, "decoding", |row| row.split.as_deref().unwrap_or("") == split)?;
            let name = if split.is_empty() { "all".to_string() } else { split };
            let captions = described(&model.config, &model.parameters, &model.tokenizer, &examples, &name)?;
            splits.insert(name, evaluate::score(&examples, &captions));
        }
        let rows: Vec<(&str, &Scores)> = splits.iter().map(|(name, scores)| (name.as_str(), scores)).collect();
        line(scores_table(&rows, true));
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&serde_json::json!({ "device": device.to_string(), "splits": splits, "chance": chance() }))
                .expect("numbers and strings serialise");
            write_atomically(path, |file| file.write_all(text.as_bytes()).map_err(Error::io(path, "write")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The model's captions, under a progress bar.
pub(super) fn described(config: &Config, parameters: &Parameters, tokenizer: &Tokenizer, examples: &[Example], doing: &str) -> Result<Vec<String>> {
    let bar = progress(doing);
    let captions = evaluate::describe(config, parameters, tokenizer, examples, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    captions
}

/// Scores in per cent, one row each, chance last.
pub(super) fn scores_table(rows: &[(&str, &Scores)], with_chance: bool) -> String {
    let header: Vec<&str> = ["", "samples", "exact"].into_iter().chain(ATTRIBUTE.iter().map(|(name, _)| *name)).collect();
    let percent = |share: f64| if share > 0.0 && share < 0.001 { format!("{:.2} %", 100.0 * share) } else { format!("{:.1} %", 100.0 * share) };
    let row = |name: &str, scores: &Scores, samples: String| {
        let attributes = ATTRIBUTE.iter().map(|(name, _)| scores.attributes.get(name).map_or("–".into(), |s| percent(*s)));
        [name.to_string(), samples, percent(scores.exact)].into_iter().chain(attributes).collect::<Vec<_>>()
    };
    let mut table: Vec<_> = rows.iter().map(|(name, scores)| row(name, scores, scores.samples.to_string())).collect();
    if with_chance {
        table.push(row("chance", &chance(), String::new()));
    }
    report::table(&header, &table)
}
