//! What can be known before the first step: rows that cannot be trained on, or judged, and what is lost of pictures and sounds. A run that
//! will fail fails now.

use super::examples::{model_limit, row_limit, sizes};
use super::stratified::stratified;
use crate::data::folder::NO_TEXT;
use crate::data::inspect::{Cuts, RowLimit};
use crate::data::loader::{BadSamples, OnBadSample};
use crate::data::{Content, Dataset, TableRow, Tokenizer};
use crate::error::{Error, Result};
use crate::model::Config;
use rayon::prelude::*;

/// Rows whose files are looked into: enough to say what share of them is cut.
const LOOKED_AT: usize = 1_000;

/// Something to tell the user before training begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Something may be wrong.
    Warning(String),
    /// Something that one wants to know.
    Fact(String),
}

/// What was found.
pub(super) struct Preflight {
    /// The rows to judge on that can be used.
    pub judged: Vec<usize>,
    /// What to tell.
    pub notes: Vec<Note>,
}

/// Looks through the rows to train on and those to judge on, with the tokenizer that will be used, without decoding a picture or sound.
///
/// Rows that cannot be used stop the run or are counted, as `on_bad` says: those to train on are then skipped when their turn comes, those to
/// judge on are left out. Where nobody asked to judge on them (`unasked`), those never stop the run.
///
/// # Errors
/// [`Error::BadSamples`] with the first ten, where bad samples stop the run, or no good one is left.
pub(super) fn check(
    dataset: &Dataset,
    config: &Config,
    tokenizer: &Tokenizer,
    batch: usize,
    on_bad: OnBadSample,
    trained: &[usize],
    judged: &[usize],
    unasked: bool,
) -> Result<Preflight> {
    let look = |rows: &[usize], limit: RowLimit| -> Vec<(usize, Option<Error>)> {
        rows.par_iter().map(|&i| (i, usable(dataset, &dataset.rows()[i], config, tokenizer, limit).err())).collect()
    };
    let (trained_on, judged_on) = (look(trained, row_limit(config, batch)), look(judged, model_limit(config)));
    let (mut bad, mut left_out) = (BadSamples::default(), BadSamples::default());
    let good = |found: Vec<(usize, Option<Error>)>, bad: &mut BadSamples| -> Vec<usize> {
        let each = found.into_iter().filter_map(|(row, error)| match error {
            None => Some(row),
            Some(error) => {
                bad.add(error);
                None
            }
        });
        each.collect()
    };
    let good_trained = good(trained_on, &mut bad);
    let good_judged = good(judged_on, if unasked { &mut left_out } else { &mut bad });
    let none_left = good_trained.is_empty() || good_judged.is_empty() && !judged.is_empty() && !unasked;
    if bad.count > 0 && (on_bad == OnBadSample::Stop || none_left) {
        return Err(Error::BadSamples { count: bad.count, first: bad.first });
    }
    let mut notes = Vec::new();
    if bad.count > 0 {
        let (of, more) = (trained.len() + judged.len(), if bad.count as usize > bad.first.len() { "; …" } else { "" });
        notes.push(Note::Warning(format!("{} of {of} rows cannot be used and will be skipped: {}{more}", bad.count, bad.first.join("; "))));
    }
    if left_out.count > 0 {
        let more = if left_out.count as usize > left_out.first.len() { "; …" } else { "" };
        let what =
            format!("{} of the {} rows to evaluate on cannot be evaluated and are left out: {}{more}", left_out.count, judged.len(), left_out.first.join("; "));
        notes.push(Note::Warning(what));
    }
    notes.extend(cuts(dataset, config, &good_trained).into_iter().map(Note::Fact));
    Ok(Preflight { judged: good_judged, notes })
}

/// Whether a row can become a sample, as far as its table and the first bytes of its files tell.
fn usable(dataset: &Dataset, row: &TableRow, config: &Config, tokenizer: &Tokenizer, limit: RowLimit) -> Result<()> {
    let bad = |what: &dyn ToString| dataset.error(row, what.to_string());
    let text = row.text.as_deref().filter(|text| !text.trim().is_empty()).ok_or_else(|| bad(&NO_TEXT))?;
    if let Some((name, _)) = dataset.files(row).into_iter().find(|(_, stamp)| stamp.is_none()) {
        return Err(bad(&format!("there is no file {name:?} in the folder")));
    }
    let tokens = |text: &str| tokenizer.encode(text).map(|ids| ids.len()).map_err(|e| bad(&e));
    let words = 2 + tokens(text)? + row.prompt.as_deref().map_or(Ok(0), tokens)?;
    let of_picture = config.vision_config.as_ref().map(|v| v.rows() + 2);
    let of_sound = config.audio_config.as_ref().map(|a| a.rows() + 2);
    let (mut picture, mut sound) = (row.picture.is_some(), row.sound.is_some());
    if row.file.is_some() {
        // What it is says its first bytes, which are read only where that matters.
        let most = words + of_picture.unwrap_or(0) + of_sound.unwrap_or(0);
        if of_picture.is_none() || of_sound.is_none() || most > limit.rows {
            let content = dataset.content(row)?;
            picture |= content == Some(Content::Picture);
            sound |= content == Some(Content::Sound);
        }
    }
    if picture && of_picture.is_none() {
        return Err(bad(&"the row has a picture, and this model has no vision_config"));
    }
    if sound && of_sound.is_none() {
        return Err(bad(&"the row has a sound, and this model has no audio_config"));
    }
    let rows = words + of_picture.filter(|_| picture).unwrap_or(0) + of_sound.filter(|_| sound).unwrap_or(0);
    limit.expect(rows).map_err(|e| bad(&e))
}

/// What is lost of pictures and sounds, from the headers of some of them.
fn cuts(dataset: &Dataset, config: &Config, rows: &[usize]) -> Vec<String> {
    let with_files: Vec<usize> = rows.iter().copied().filter(|&i| dataset.rows()[i].may_have_picture() || dataset.rows()[i].may_have_sound()).collect();
    let looked_at = stratified(&with_files, |i| dataset.source(&dataset.rows()[i]), LOOKED_AT, 0);
    // What cannot be read is a bad sample, and said when its turn comes.
    let found: Vec<_> = looked_at.par_iter().filter_map(|&i| dataset.measure(&dataset.rows()[i]).ok()).collect();
    let sizes = sizes(config);
    let mut cuts = Cuts::default();
    for mut info in found {
        info.sound = info.sound.filter(|_| config.audio_config.is_some());
        info.picture = info.picture.filter(|_| config.vision_config.is_some());
        cuts.add(&info, &sizes);
    }
    let of = if looked_at.len() < with_files.len() { format!("of {} rows looked at, ", looked_at.len()) } else { String::new() };
    cuts.sentences(&sizes).into_iter().map(|sentence| format!("{of}{sentence}")).collect()
}
