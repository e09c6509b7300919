//! The classes that an epoch visits equally often: `data.balance`.

use super::checkpoint::TrainerState;
use super::criterion::one_of;
use super::preflight::Note;
use super::settings::Settings;
use super::settings::path::from_text;
use crate::data::balance::Balance;
use crate::data::loader::DataPosition;
use crate::data::{Attributes, Dataset};
use crate::error::{Error, Result};
use crate::numbers::thousands;

/// The rows to train on by class, or nothing where every row is visited once.
///
/// # Errors
/// [`Error::Usage`] where there is no such attribute, no row says anything about it, or rows are in shards or Parquet files.
pub(super) fn of(settings: &Settings, dataset: &Dataset, attributes: &Attributes, rows: &[usize]) -> Result<Option<Balance>> {
    let name = settings.data.balance.as_str();
    let fail = |what: String| Err(Error::Usage(format!("data.balance: {what}")));
    if name.is_empty() {
        return Ok(None);
    }
    let table = dataset.rows();
    let balance = match (name, attributes.list().iter().position(|of| of.name == name)) {
        ("caption", _) => Balance::new(rows.iter().map(|&row| {
            let words = table[row].text.as_deref().map(|text| text.split_whitespace().collect::<Vec<_>>());
            (row, words.filter(|words| !words.is_empty()))
        })),
        (_, Some(attribute)) => Balance::new(rows.iter().map(|&row| (row, attributes.of_row(attribute, &table[row])))),
        (_, None) => return fail(format!("expected caption or {}, found {name:?}", one_of(attributes))),
    };
    if rows.iter().any(|&row| table[row].shard().is_some()) {
        return fail("expected a folder of files; shards and Parquet files are read from front to back, so their rows cannot be visited out of turn".into());
    }
    if balance.classes().is_empty() {
        return fail(format!("no row to train on says anything about {name:?}"));
    }
    Ok(Some(balance))
}

/// What it comes to. A run that is continued with rows in other classes begins a new epoch.
///
/// # Errors
/// [`Error::File`] where `data.strict_data` does not allow that.
pub(super) fn note(settings: &Settings, state: &mut TrainerState, balance: &Balance) -> Result<Note> {
    let (name, now) = (&settings.data.balance, balance.digest());
    if state.step > 0 && state.classes.is_some_and(|before| before != now) {
        let what = format!("rows belong to other values of {name} than when this run was saved");
        if settings.data.strict_data {
            return Err(Error::file(from_text(&settings.data.path), format!("{what} (data.strict_data)")));
        }
        if state.position.visited > 0 {
            state.position = DataPosition { epoch: state.position.epoch + 1, visited: 0 };
        }
        state.classes = Some(now);
        return Ok(Note::Warning(format!("data.balance: {what}: a new epoch begins")));
    }
    state.classes = Some(now);
    let sizes: Vec<usize> = balance.classes().iter().map(Vec::len).collect();
    let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
    let each = sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64;
    let others = match balance.others().len() {
        0 => String::new(),
        1 => "; 1 row without one is visited once".into(),
        n => format!("; {} rows without one are visited once", thousands(n)),
    };
    let (count, least, most, each) = (thousands(sizes.len()), thousands(least), thousands(most), thousands((each * 10.0).round() / 10.0));
    Ok(Note::Fact(format!("data.balance: {count} values of {name} with {least} to {most} rows: an epoch visits each {each} times{others}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Limits;
    use crate::train::setup;

    /// 20 animals, 4 vehicles, and a row that is neither.
    fn dataset(folder: &std::path::Path) -> Dataset {
        let row = |i: usize| match i {
            0..20 => format!(r#"{{"text": "cat {}", "attributes": {{"kind": "animal"}}}}"#, i % 5),
            20..24 => r#"{"text": "a car", "attributes": {"kind": "vehicle"}}"#.into(),
            _ => r#"{"text": "a stone"}"#.to_string(),
        };
        std::fs::write(folder.join("metadata.jsonl"), (0..25).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        Dataset::open(folder, &Limits::default()).unwrap()
    }

    #[test]
    fn classes_are_what_rows_declare_or_whole_captions() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path());
        let mut settings = Settings::preset("meadow").unwrap();
        let attributes = setup::attributes(&settings, &dataset).unwrap();
        let mut classes = |name: &str, rows: &[usize]| {
            settings.set("balance", name).unwrap();
            of(&settings, &dataset, &attributes, rows)
        };
        let rows: Vec<usize> = (0..25).collect();
        assert_eq!(classes("", &rows).unwrap(), None);
        let kinds = classes("kind", &rows).unwrap().unwrap();
        assert_eq!((kinds.classes(), kinds.others()), (&[(0..20).collect(), (20..24).collect::<Vec<_>>()][..], &[24][..]));
        let captions = classes("caption", &rows).unwrap().unwrap();
        assert_eq!(captions.classes().iter().map(Vec::len).collect::<Vec<_>>(), [4, 1, 4, 4, 4, 4, 4]);
        for (name, rows, expected) in
            [("colour", &rows[..], "expected caption or an attribute (kind), found \"colour\""), ("kind", &rows[24..], "no row to train on")]
        {
            let error = classes(name, rows).unwrap_err().to_string();
            assert!(error.contains("data.balance: ") && error.contains(expected), "{error}");
        }
        for (key, value) in [("path", "tests/parquet/hub"), ("columns", "text=label,audio="), ("balance", "caption")] {
            settings.set(key, value).unwrap();
        }
        let files = setup::open(&settings).unwrap();
        let error = of(&settings, &files, &attributes, &(0..files.rows().len()).collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(error.contains("data.balance: expected a folder of files") && error.contains("cannot be visited out of turn"), "{error}");
        settings.set("balance", "kind").unwrap();
        let mut state = TrainerState { step: 5, position: DataPosition { epoch: 2, visited: 7 }, ..TrainerState::default() };
        let first = note(&settings, &mut state, &kinds).unwrap();
        assert_eq!(
            first,
            Note::Fact("data.balance: 2 values of kind with 4 to 20 rows: an epoch visits each 12 times; 1 row without one is visited once".into())
        );
        assert_eq!(note(&settings, &mut state, &kinds).unwrap(), first);
        assert_eq!(state.position, DataPosition { epoch: 2, visited: 7 });
        // The same rows, and what they are has changed.
        assert!(matches!(note(&settings, &mut state, &captions).unwrap(), Note::Warning(what) if what.contains("a new epoch begins")));
        assert_eq!(state.position, DataPosition { epoch: 3, visited: 0 });
        settings.data.strict_data = true;
        assert!(note(&settings, &mut state, &kinds).unwrap_err().to_string().contains("strict_data"));
    }
}
