//! What a wrong answer may come from: the samples trained on that the model finds most like the one that it is wrong about.

use crate::data::folder::TableRow;
use crate::data::{Dataset, Tokenizer};
use crate::error::Result;
use crate::model::impression::impressions;
use crate::model::{Config, Parameters, Sequence};
use crate::train::Example;
use crate::train::examples::{load_or, placeholders};
use std::ops::ControlFlow;

/// How many are shown for a sample.
const SHOWN: usize = 3;
/// Samples that are decoded at a time.
const AT_ONCE: usize = 256;

/// Samples that a model was trained on, as it sees them.
#[derive(Default)]
pub struct TrainedOn<'d> {
    rows: Vec<&'d TableRow>,
    /// Of each: [`impressions`].
    seen: Vec<Option<Vec<f64>>>,
}

impl<'d> TrainedOn<'d> {
    /// These rows, without those that cannot be read. `progress(done, total)` may stop the work.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] where `progress` says so; whatever the device refuses.
    pub fn new(
        config: &Config,
        parameters: &Parameters,
        tokenizer: &Tokenizer,
        dataset: &'d Dataset,
        rows: &[&'d TableRow],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let mut trained = TrainedOn::default();
        for (number, chunk) in rows.chunks(AT_ONCE).enumerate() {
            let mut bad = Vec::new();
            let mut note = |place, _| {
                bad.push(place);
                Ok(())
            };
            let mut advance = |done, _| progress(number * AT_ONCE + done, rows.len());
            let examples = load_or(dataset, config, tokenizer, parameters.norm.device(), chunk, &mut note, &mut advance)?;
            trained.seen.extend(impressions(config, parameters, placeholders(&tokenizer.special()), &prompts(config, tokenizer, &examples))?);
            trained.rows.extend(chunk.iter().enumerate().filter(|(place, _)| !bad.contains(place)).map(|(_, row)| *row));
        }
        Ok(trained)
    }

    /// The rows nearest to each of some samples, the nearest first: by the cosine between what [`impressions`] makes of both.
    ///
    /// # Errors
    /// Whatever the device refuses.
    pub fn nearest(&self, config: &Config, parameters: &Parameters, tokenizer: &Tokenizer, examples: &[Example]) -> Result<Vec<Vec<&'d TableRow>>> {
        let looked = impressions(config, parameters, placeholders(&tokenizer.special()), &prompts(config, tokenizer, examples))?;
        Ok(looked.iter().map(|seen| seen.as_ref().map_or(Vec::new(), |seen| self.order(seen))).collect())
    }

    fn order(&self, to: &[f64]) -> Vec<&'d TableRow> {
        let cosine = |seen: &[f64]| seen.iter().zip(to).map(|(a, b)| a * b).sum::<f64>();
        let mut order: Vec<(f64, &TableRow)> = self.seen.iter().zip(&self.rows).filter_map(|(seen, row)| Some((cosine(seen.as_ref()?), *row))).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable: of equal ones the first row
        order.into_iter().take(SHOWN).map(|(_, row)| row).collect()
    }
}

/// What comes before the captions.
fn prompts(config: &Config, tokenizer: &Tokenizer, examples: &[Example]) -> Vec<Sequence> {
    examples.iter().map(|example| example.before_caption(config, &tokenizer.special())).collect()
}
