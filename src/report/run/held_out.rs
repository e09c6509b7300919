//! What a model gets right, what it uses for it, and what it confuses with what.

use super::super::page::{Cell, Confusion, Heat, Page, percent};
use super::list;
use crate::data::{Attributes, TableRow};
use crate::numbers::thousands;
use crate::train::Example;
use crate::train::evaluate::{Ablation, Chance, Losses, Scores, chance_on};
use std::collections::BTreeMap;

/// Captions are treated as classes if there are at most this many different ones.
const CLASSES: usize = 12;

/// An attribute with more values has no table of confusions: nobody could read it.
const VALUES: usize = 40;

/// Captions whose shares are shown one by one.
const CAPTIONS: usize = 20;

/// How a model does on some samples.
pub struct Judged<'a> {
    /// The split's name.
    pub name: String,
    /// Whether they were trained on: then they say nothing about new ones.
    pub trained_on: bool,
    /// The data set's rows, of each example in order.
    pub rows: Vec<&'a TableRow>,
    /// The samples.
    pub examples: Vec<Example>,
    /// What the model said about each.
    pub captions: Vec<String>,
    /// How well it predicts each next word of the truth.
    pub losses: Losses,
    /// Which captions and attributes are right.
    pub scores: Scores,
    /// What the most frequent answer gets.
    pub most_frequent: (Losses, Scores),
    /// Where each word looked, of some of the samples: [`super::telling`] says which ones.
    pub heats: BTreeMap<usize, Vec<Heat>>,
    /// Of wrong samples: rows trained on that the model finds most like them. [`super::wrong`] says which ones the page shows.
    pub nearest: BTreeMap<usize, Vec<&'a TableRow>>,
    /// The same with something taken away.
    pub ablations: Vec<(Ablation, Losses, Scores)>,
}

/// What is in a split of the generated data set.
fn meaning(name: &str) -> Option<&'static str> {
    Some(match name {
        "iid" => "new pictures and sounds of the kind that it was trained on",
        "held_out_colour" => "colours that it was never shown on that species",
        "held_out_action" => "sounds that it never heard in that pose",
        "held_out_both" => "neither the colour of that species nor the sound in that pose was ever trained",
        _ => return None,
    })
}

/// The attributes that some caption names, in their order.
fn named<'a>(judged: &[Judged], attributes: &'a Attributes) -> Vec<&'a str> {
    attributes.list().iter().map(|of| of.name.as_str()).filter(|name| judged.iter().any(|j| j.scores.attributes.contains_key(*name))).collect()
}

/// What can be had without looking, of each column: the marks and the last rows of a table.
struct Without {
    exact: f64,
    token: f64,
    attributes: BTreeMap<String, f64>,
    chance: Chance,
}

impl Without {
    /// Of one answer, the highest of all parts: what is not above it there is not above it anywhere.
    fn of(judged: &[Judged], attributes: &Attributes) -> Self {
        let most = |of: &dyn Fn(&(Losses, Scores)) -> f64| judged.iter().map(|j| of(&j.most_frequent)).fold(0.0, f64::max);
        let names: Vec<&String> = judged.iter().flat_map(|j| j.most_frequent.1.attributes.keys()).collect();
        Without {
            exact: most(&|of| of.1.exact),
            token: most(&|of| of.0.accuracy()),
            attributes: names.into_iter().map(|name| (name.clone(), most(&|of| of.1.attributes.get(name).copied().unwrap_or(0.0)))).collect(),
            chance: chance_on(judged.iter().flat_map(|j| &j.examples).map(|example| example.text.as_str()), attributes),
        }
    }

    /// A row of shares, each with its mark.
    fn shares(&self, name: &str, named: &[&str], (losses, scores): (&Losses, &Scores)) -> Vec<Cell> {
        let share = |share: f64, mark: Option<f64>| Cell::Share { share, mark };
        let attributes = named.iter().map(|name| scores.attributes.get(*name).map_or(Cell::Nothing, |&of| share(of, self.attributes.get(*name).copied())));
        let first = [name.into(), share(scores.exact, Some(self.exact)), share(losses.accuracy(), Some(self.token))];
        first.into_iter().chain(attributes).collect()
    }

    /// The last rows, without bars.
    fn rows(&self, named: &[&str]) -> Vec<Vec<Cell>> {
        let cell = |share: Option<f64>| share.map_or(Cell::Nothing, |share| percent(share).into());
        let row = |name: &str, first: [Option<f64>; 2], attributes: &BTreeMap<String, f64>| {
            let attributes = named.iter().map(|name| attributes.get(*name).copied());
            std::iter::once(name.into()).chain(first.into_iter().chain(attributes).map(cell)).collect()
        };
        let mut rows = vec![row("most frequent answer", [Some(self.exact), Some(self.token)], &self.attributes)];
        if !self.chance.attributes.is_empty() {
            rows.push(row("chance", [self.chance.exact, None], &self.chance.attributes));
        }
        rows
    }
}

fn header<'a>(named: &[&'a str]) -> Vec<&'a str> {
    ["", "exact caption", "next word"].into_iter().chain(named.iter().copied()).collect()
}

pub(super) fn accuracy(page: &mut Page, judged: &[Judged], attributes: &Attributes) {
    if judged.iter().all(|j| j.trained_on) {
        page.text(
            "Nothing was held out, so this is how it does on samples that it was trained on: it says nothing about new ones. \
             `--set held_out=0.05` keeps some rows back; so does a split of another name.",
        );
    }
    let (names, without) = (named(judged, attributes), Without::of(judged, attributes));
    let mut rows: Vec<_> = judged.iter().map(|j| without.shares(&j.name, &names, (&j.losses, &j.scores))).collect();
    rows.extend(without.rows(&names));
    page.table("Shares that are right; the mark is at the most frequent answer", &header(&names), &rows);
    page.facts(judged.iter().map(|j| {
        let about = meaning(&j.name).map(|about| format!(": {about}")).unwrap_or_default();
        (j.name.as_str(), format!("{} samples{about}", thousands(j.examples.len())))
    }));
    let columns = if names.is_empty() { "" } else { " The other columns count where a true caption names such a thing." };
    let highest = if judged.len() > 1 { "; the highest of all parts is shown" } else { "" };
    let chance = match (without.chance.attributes.is_empty(), without.chance.exact) {
        (true, _) => "",
        (false, None) => " Chance is guessing evenly among the values of an attribute.",
        (false, Some(_)) => " Chance is guessing evenly among the values of an attribute, and of a caption among all combinations of them.",
    };
    page.text(&format!(
        "A caption is exact where the model, asked once, says it right word for word; the next word counts where the true words before it are given.{columns} \
         The most frequent answer is the best that one answer for all samples gets, in hindsight{highest}: what is not better was not learned from \
         pictures or sounds.{chance}"
    ));
    for j in judged.iter().filter(|j| !j.scores.captions.is_empty()) {
        let each = j.scores.captions.iter().take(CAPTIONS);
        let rows: Vec<Vec<Cell>> =
            each.map(|of| vec![of.caption.as_str().into(), Cell::Share { share: of.exact, mark: None }, thousands(of.samples).into()]).collect();
        let more = if j.scores.captions.len() > CAPTIONS {
            format!(", the {CAPTIONS} most frequent of {}", thousands(j.scores.captions.len()))
        } else {
            String::new()
        };
        page.table(&format!("{}: caption by caption{more}", j.name), &["", "right", "samples"], &rows);
    }
}

pub(super) fn ablations(page: &mut Page, judged: &[Judged], attributes: &Attributes) {
    let Some(j) = judged.iter().find(|j| !j.ablations.is_empty()) else {
        page.text("The samples have neither pictures nor sounds to take away.");
        return;
    };
    let one = std::slice::from_ref(j);
    let (names, without) = (named(one, attributes), Without::of(one, attributes));
    let mut rows = vec![without.shares("as it is", &names, (&j.losses, &j.scores))];
    rows.extend(j.ablations.iter().map(|(ablation, losses, scores)| without.shares(ablation.name(), &names, (losses, scores))));
    rows.extend(without.rows(&names));
    page.table(&format!("The same model on {}, with pictures or sounds taken away", j.name), &header(&names), &rows);
    let whole = percent(j.scores.exact);
    let without: Vec<String> = j.ablations.iter().map(|(ablation, _, scores)| format!("{} with {}", percent(scores.exact), ablation.name())).collect();
    let without: Vec<&str> = without.iter().map(String::as_str).collect();
    page.text(&format!(
        "Of the captions {whole} are right as it is, {}. Shuffled: each sample has another one's; grey and silent: nothing is in it. \
         What does not get worse without its picture did not need it.",
        list(&without)
    ));
}

/// Of each attribute, or of whole captions where there are few: how often each truth was said to be what.
pub(super) struct Confusions {
    tables: Vec<(String, Vec<String>, Vec<Vec<usize>>)>,
    samples: usize,
}

impl Confusions {
    pub(super) fn of(judged: &[Judged], attributes: &Attributes) -> Option<Self> {
        let new: Vec<&Judged> = if judged.iter().any(|j| !j.trained_on) { judged.iter().filter(|j| !j.trained_on).collect() } else { judged.iter().collect() };
        let pairs: Vec<(&str, &str)> =
            new.iter().flat_map(|j| j.examples.iter().zip(&j.captions)).map(|(example, said)| (example.text.as_str(), said.as_str())).collect();
        let mut tables = Vec::new();
        let parsed: Vec<_> = pairs.iter().map(|(truth, said)| (attributes.of(truth), attributes.of(said))).collect();
        for (index, of) in attributes.list().iter().enumerate().filter(|(_, of)| of.values.len() <= VALUES) {
            tables.extend(count(&of.name, of.values.clone(), parsed.iter().map(|(truth, said)| (truth[index], said[index]))));
        }
        if tables.is_empty() {
            let mut classes: BTreeMap<String, usize> = pairs.iter().map(|(truth, _)| (plain(truth), 0)).collect();
            if classes.len() <= CLASSES {
                classes.values_mut().enumerate().for_each(|(i, place)| *place = i);
                let place = |text: &str| classes.get(&plain(text)).copied();
                tables.extend(count("caption", classes.keys().cloned().collect(), pairs.iter().map(|(truth, said)| (place(truth), place(said)))));
            }
        }
        (!tables.is_empty()).then_some(Confusions { tables, samples: pairs.len() })
    }

    pub(super) fn add(&self, page: &mut Page) {
        page.text(&format!(
            "All {} samples together. A row is what is true, a column what was said, in per cent of the row; · is never.",
            thousands(self.samples)
        ));
        let names: Vec<Vec<&str>> = self.tables.iter().map(|(_, names, _)| names.iter().map(String::as_str).collect()).collect();
        let tables: Vec<_> = self.tables.iter().zip(&names).map(|((caption, _, counts), names)| Confusion { caption, names, counts }).collect();
        page.confusions(&tables);
    }
}

/// One line, one space between words.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A table of truths and what was said instead, where some truth is among the names.
fn count(name: &str, names: Vec<String>, pairs: impl Iterator<Item = (Option<usize>, Option<usize>)>) -> Option<(String, Vec<String>, Vec<Vec<usize>>)> {
    let mut counts = vec![vec![0; names.len() + 1]; names.len()];
    pairs.filter_map(|(truth, said)| Some((truth?, said))).for_each(|(truth, said)| counts[truth][said.unwrap_or(names.len())] += 1);
    counts.iter().flatten().any(|&n| n > 0).then(|| (name.to_string(), names, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(&str, &str)], trained_on: bool) -> Judged<'static> {
        let examples: Vec<Example> = pairs.iter().map(|(truth, _)| Example { text: truth.to_string(), ..Example::default() }).collect();
        let captions: Vec<String> = pairs.iter().map(|(_, said)| said.to_string()).collect();
        let losses = Losses { loss: 1.0, tokens: 4, correct: 2 };
        let scores = crate::train::evaluate::score(&examples, &captions, &Attributes::default());
        Judged {
            name: "x".into(),
            trained_on,
            rows: Vec::new(),
            examples,
            captions,
            losses,
            most_frequent: (losses, scores.clone()),
            scores,
            ablations: Vec::new(),
            heats: BTreeMap::new(),
            nearest: BTreeMap::new(),
        }
    }

    #[test]
    fn attributes_are_confused_and_whole_captions_where_there_are_few() {
        let of = |judged: &[Judged], attributes| Confusions::of(judged, &attributes).map(|c| c.tables);
        let tables = |judged: &[Judged]| of(judged, Attributes::default());
        let some =
            [judged(&[("a grey cat", "a grey dog"), ("a grey cat", "a thing"), ("a grey dog", "a grey dog")], false), judged(&[("a cat", "a cat")], true)];
        let found = of(&some, Attributes::meadow()).unwrap();
        assert_eq!(found.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["species", "colour"]);
        assert_eq!(found[0].2[0], [0, 1, 0, 0, 0, 0, 1], "of two cats one was a dog and one was nothing; what was trained on does not count");
        // Meadow's words in somebody else's captions are words.
        assert_eq!(tables(&some).unwrap().iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["caption"]);
        let found = tables(&[judged(&[("open", "open"), ("ajar", "open  "), ("ajar", "shut")], false)]).unwrap();
        assert_eq!(found, [("caption".to_string(), vec!["ajar".to_string(), "open".into()], vec![vec![0, 1, 1], vec![0, 1, 0]])]);
        let many: Vec<String> = (0..20).map(|i| format!("t{i}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|t| (t.as_str(), "x")).collect();
        assert!(tables(&[judged(&many, false)]).is_none());
    }

    #[test]
    fn what_was_trained_on_is_called_so() {
        for (trained_on, expected) in [(true, true), (false, false)] {
            let mut page = Page::new("t", "l");
            page.section("s");
            let some = [judged(&[("a cat", "a cat")], trained_on)];
            accuracy(&mut page, &some, &Attributes::default());
            ablations(&mut page, &some, &Attributes::default());
            assert_eq!(page.html().contains("Nothing was held out"), expected);
            assert!(!page.html().contains("caption by caption"), "none repeats");
        }
    }
}
