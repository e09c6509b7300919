//! Pictures and sounds alone: whether training will show any, and what it then leaves out of captions.

use super::preflight::Note;
use super::settings::Settings;
use crate::data::augment::Named;
use crate::data::meadow::words::HEARD;
use crate::data::{Attributes, Dataset, TableRow};
use crate::error::{Error, Result};
use crate::files::shown::shown;
use crate::model::Config;
use crate::numbers::{number, percent};

/// Whether some rows have a picture alone, a sound alone, or both.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Found {
    picture: bool,
    sound: bool,
    both: bool,
}

impl Found {
    fn among<'r>(rows: impl Iterator<Item = &'r TableRow>) -> Self {
        let mut found = Found::default();
        for row in rows {
            let (picture, sound) = (row.picture.is_some(), row.sound.is_some());
            match (picture, sound, row.file.is_some()) {
                (true, true, _) => found.both = true,
                (false, false, false) => {}
                // A file is what its column does not say: beside a picture it can only be a sound.
                (true, false, true) => found.both |= row.may_have_sound(),
                (false, true, true) => found.both |= row.may_have_picture(),
                (picture, sound, false) => (found.picture, found.sound) = (found.picture | picture, found.sound | sound),
                // Which of the two it is would take opening it: it may be either.
                (false, false, true) => (found.picture, found.sound) = (found.picture | row.may_have_picture(), found.sound | row.may_have_sound()),
            }
        }
        found
    }
}

/// What to tell before the first step: which of a picture and a sound the model will not know alone, or how it learns that all the same.
pub(super) fn note(settings: &Settings, dataset: &Dataset, attributes: &Attributes, config: &Config, rows: &[usize]) -> Option<Note> {
    let (share, found) = (settings.training.modality_dropout, Found::among(rows.iter().map(|&i| &dataset.rows()[i])));
    if share > 0.0 {
        if !found.both {
            let what = format!("training.modality_dropout = {}: no row has both a picture and a sound, so nothing is hidden", number(share));
            return Some(Note::Warning(what));
        }
        let (seen, heard) = names(settings, attributes);
        let left_out = match (seen.is_empty(), heard.is_empty()) {
            (true, true) => {
                "; which words of a caption only the hidden one could tell is not known (data.seen_attributes, data.heard_attributes): all are learned".into()
            }
            _ => {
                let of = |names: &[String], hidden: &str| (!names.is_empty()).then(|| format!("{} with the {hidden}", shown(&names.join(", "))));
                let both = [of(&seen, "picture"), of(&heard, "sound")];
                format!("; the caption leaves out {}", both.into_iter().flatten().collect::<Vec<_>>().join(", and "))
            }
        };
        let what = format!("in {} of the visits of rows with both, the picture or the sound is hidden (training.modality_dropout){left_out}", percent(share));
        return Some(Note::Fact(what));
    }
    // What a model to start from has met, or may have, it knows.
    let unmet = |picture: bool, sound: bool| config.met.is_some_and(|met| if picture { met.picture } else { met.sound } == Some(0) && (picture || sound));
    let (picture, sound) = (!found.picture && unmet(true, false), !found.sound && unmet(false, true));
    let who = match (found.both, picture, sound) {
        (true, true, true) => "every row has both a picture and a sound: the model will not know what to say to one of them alone",
        (true, true, false) => "no row has a picture without a sound: the model will not know what to say to a picture alone",
        (true, false, true) => "no row has a sound without a picture: the model will not know what to say to a sound alone",
        _ => return None,
    };
    Some(Note::Fact(format!("{who} (--set modality_dropout=0.2 hides one of the two in that share of the visits)")))
}

/// The attributes whose words only a picture can tell, and only a sound: as the settings name them, or Meadow's.
fn names(settings: &Settings, attributes: &Attributes) -> (Vec<String>, Vec<String>) {
    let given = |text: &str| -> Vec<String> { text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect() };
    let (seen, heard) = (given(&settings.data.seen_attributes), given(&settings.data.heard_attributes));
    if !(seen.is_empty() && heard.is_empty()) {
        return (seen, heard);
    }
    if *attributes != Attributes::meadow() {
        return (seen, heard);
    }
    let all = attributes.list().iter().map(|of| of.name.clone());
    all.partition(|name| name != HEARD)
}

/// The words that only a picture can tell, and those that only a sound can, where training hides one of the two.
///
/// # Errors
/// [`Error::Usage`] for the name of an attribute that the data set does not have.
pub(super) fn words(settings: &Settings, attributes: &Attributes) -> Result<(Named, Named)> {
    let (seen, heard) = names(settings, attributes);
    let of = |key: &str, names: &[String]| -> Result<Named> {
        let known = || attributes.list().iter().map(|of| of.name.as_str());
        if let Some(unknown) = names.iter().find(|name| !known().any(|own| own == *name)) {
            let known = known().collect::<Vec<_>>();
            let there = if known.is_empty() { "the data set declares none".to_string() } else { format!("expected some of {}", known.join(", ")) };
            return Err(Error::Usage(format!("data.{key}: there is no attribute {unknown:?}: {there}")));
        }
        Ok(Named::new(attributes.list().iter().filter(|of| names.contains(&of.name)).flat_map(|of| of.words())))
    };
    Ok((of("seen_attributes", &seen)?, of("heard_attributes", &heard)?))
}
