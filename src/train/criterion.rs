//! By what one checkpoint is better than another: `evaluation.best_by`.

use super::evaluate::Scores;
use super::examples::Example;
use crate::data::Attributes;
use crate::error::{Error, Result};

/// What `evaluation.best_by` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// The loss: lower is better.
    Loss,
    /// The share of the tokens that are predicted right, given those before.
    Accuracy,
    /// The share of the captions that are right, word for word.
    Exact,
    /// The share of the captions that are right about an attribute, among those that name it.
    Attribute(String),
}

impl Criterion {
    /// By its name, for a data set's attributes and the samples to evaluate.
    ///
    /// # Errors
    /// [`Error::Usage`] with what there is for another name, and for an attribute that none of the samples' captions names.
    pub fn of(name: &str, attributes: &Attributes, held_out: &[Example]) -> Result<Self> {
        let fail = |what: String| Err(Error::Usage(format!("evaluation.best_by: {what}")));
        match name {
            "loss" => return Ok(Criterion::Loss),
            "accuracy" => return Ok(Criterion::Accuracy),
            "exact" => return Ok(Criterion::Exact),
            _ => {}
        }
        let Some(place) = attributes.list().iter().position(|of| of.name == name) else {
            return fail(format!("expected loss, accuracy, exact or {}, found {name:?}", one_of(attributes)));
        };
        if !held_out.iter().any(|example| attributes.of(&example.text)[place].is_some()) {
            return fail(format!("none of the {} captions to evaluate says anything about the attribute {name:?}", held_out.len()));
        }
        Ok(Criterion::Attribute(name.into()))
    }

    /// Whether every sample has to be described for it.
    pub fn needs_captions(&self) -> bool {
        matches!(self, Criterion::Exact | Criterion::Attribute(_))
    }

    /// The share that decides, from the share of tokens predicted right and what the captions get right; `None` where the loss does.
    pub fn share(&self, accuracy: f64, scores: Option<&Scores>) -> Option<f64> {
        match self {
            Criterion::Loss => None,
            Criterion::Accuracy => Some(accuracy),
            Criterion::Exact => scores.map(|scores| scores.exact),
            Criterion::Attribute(name) => scores.and_then(|scores| scores.attributes.get(name).copied()),
        }
    }
}

/// What attributes one can name, in words.
pub(super) fn one_of(attributes: &Attributes) -> String {
    let names: Vec<&str> = attributes.list().iter().map(|of| of.name.as_str()).collect();
    if names.is_empty() { "an attribute (this data set declares none)".into() } else { format!("an attribute ({})", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn names_are_known_or_refused_with_what_there_is() {
        let (none, meadow) = (Attributes::default(), Attributes::meadow());
        let held_out = ["a cat", "a dog"].map(|text| Example { text: text.into(), ..Example::default() });
        for (name, expected) in [("loss", Criterion::Loss), ("accuracy", Criterion::Accuracy), ("exact", Criterion::Exact)] {
            assert_eq!(Criterion::of(name, &none, &[]).unwrap(), expected);
        }
        let species = Criterion::of("species", &meadow, &held_out).unwrap();
        assert_eq!(species, Criterion::Attribute("species".into()));
        let wrong = |name: &str, attributes: &Attributes| Criterion::of(name, attributes, &held_out).unwrap_err().to_string();
        let error = wrong("specie", &meadow);
        assert!(
            error.contains("evaluation.best_by: expected loss, accuracy, exact or an attribute (") && error.contains("species") && error.contains("\"specie\""),
            "{error}"
        );
        assert!(wrong("", &none).contains("this data set declares none"));
        assert!(wrong("colour", &meadow).contains("none of the 2 captions to evaluate says anything about the attribute \"colour\""));
        let scores = Scores { exact: 0.25, attributes: BTreeMap::from([("species".to_string(), 0.5)]), ..Scores::default() };
        let shares = [Criterion::Loss, Criterion::Accuracy, Criterion::Exact, species].map(|by| (by.needs_captions(), by.share(0.75, Some(&scores))));
        assert_eq!(shares, [(false, None), (false, Some(0.75)), (true, Some(0.25)), (true, Some(0.5))]);
    }
}
