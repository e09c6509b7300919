//! Several runs on one page: their curves over each other, what their settings differ in, their scores and times side by side. Made of what the
//! runs wrote down: neither their data sets nor a device is needed.

mod run;

pub use run::ComparedRun;

use super::curve::smoothed;
use super::page::{Cell, Curve, Line, Page, STYLES, over};
use super::run::curves::{points, shares, speed};
use super::run::{list, trained_on};
use crate::error::{Error, Result};
use crate::files::shown::shown_path;
use crate::numbers::{self, duration, thousands};
use crate::train::settings::{AUTO, Settings};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Runs that can be told apart on one page, by the colour and the pieces of their lines.
pub const MOST: usize = STYLES;

/// Letters of a run's name in the head of a table.
const NAME: usize = 24;

/// Some runs beside each other.
pub struct Comparison {
    runs: Vec<ComparedRun>,
}

/// What is drawn of a run.
type Points = Vec<(f64, f64)>;

impl Comparison {
    /// Reads the runs.
    ///
    /// # Errors
    /// As [`ComparedRun::read`]; [`Error::Usage`] for more than [`MOST`].
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        if folders.len() > MOST {
            return Err(Error::Usage(format!("expected at most {MOST} runs on one page, found {}: lines could not be told apart", folders.len())));
        }
        let mut runs: Vec<ComparedRun> = folders.iter().map(|folder| ComparedRun::read(folder)).collect::<Result<_>>()?;
        run::name(&mut runs);
        Ok(Comparison { runs })
    }

    /// What must be known before scores are compared, a sentence each: whether the runs were evaluated on the same samples and trained on the same
    /// ones. The first is empty where nothing speaks against it.
    pub fn doubts(&self) -> Vec<String> {
        let evaluated: Vec<(usize, &ComparedRun)> = self.runs.iter().enumerate().filter(|(_, run)| run.evaluations().is_some()).collect();
        let mut doubts = Vec::new();
        if evaluated.len() < 2 {
            return doubts;
        }
        let unknown: Vec<&str> = evaluated.iter().filter(|(_, run)| run.data().is_none()).map(|(i, _)| key(*i)).collect();
        let groups = self.groups(&evaluated);
        if groups.len() > 1 {
            let groups: Vec<String> = groups.iter().map(|group| self.samples(group)).collect();
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            doubts.push(format!("Not all were evaluated on the same samples: {}. Scores on different samples cannot be compared.", list(&groups)));
        }
        if !unknown.is_empty() {
            doubts.push(format!("What {} evaluated on is not known: there is no checkpoint that says so.", was(&unknown)));
        }
        let vocabularies: Vec<Option<usize>> = evaluated.iter().map(|(_, run)| run.vocabulary).collect();
        if vocabularies.iter().flatten().collect::<std::collections::BTreeSet<_>>().len() > 1 {
            doubts
                .push("Their vocabularies differ: a loss per token is then a loss per another piece of text, and only whole captions can be compared.".into());
        }
        doubts
    }

    /// The evaluated runs by what they were evaluated on, as far as that is known.
    fn groups(&self, evaluated: &[(usize, &ComparedRun)]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (i, run) in evaluated {
            let Some(data) = run.data() else { continue };
            let alike = |group: &&mut Vec<usize>| self.runs[group[0]].data().is_some_and(|other| run::same(&other.evaluated, &data.evaluated));
            match groups.iter_mut().find(alike) {
                Some(group) => group.push(*i),
                None => groups.push(vec![*i]),
            }
        }
        groups
    }

    /// `A and B on 100 samples of iid`.
    fn samples(&self, group: &[usize]) -> String {
        let keys: Vec<&str> = group.iter().map(|i| key(*i)).collect();
        let first = &self.runs[group[0]];
        let rows = first.data().map_or(0, |data| data.evaluated.rows);
        let of = which(&first.settings);
        format!("{} on {} samples {of}", list(&keys), thousands(rows))
    }

    /// The page.
    pub fn page(&self, command: &str) -> Page {
        let (least, most) = self.runs.iter().fold((usize::MAX, 0), |(l, m), run| (l.min(run.steps()), m.max(run.steps())));
        let steps = if least == most { format!("{} steps each", thousands(most)) } else { format!("{} to {} steps", thousands(least), thousands(most)) };
        let names: Vec<&str> = self.runs.iter().map(|run| run.name.as_str()).collect();
        let mut page = Page::new("Runs side by side", &format!("{} runs of {steps}: {}. {}", self.runs.len(), list(&names), self.lead()));
        page.section("The runs");
        page.legend(self.runs.iter().enumerate().map(|(i, run)| (i, key(i), shown_path(&run.folder))));
        page.beside(|page| {
            self.table(page, "Size and time", &self.times());
            self.table(page, "Data and program", &self.origins());
        });
        page.section("How training went");
        self.curves(&mut page);
        page.section("Scores");
        self.scores(&mut page);
        page.section("Settings that differ");
        self.settings(&mut page);
        page.section("How to make this page again");
        page.lines("commands", command);
        page
    }

    /// Which run reached the lowest loss, where that can be said.
    fn lead(&self) -> String {
        let evaluated: Vec<_> = self.runs.iter().enumerate().filter(|(_, run)| run.evaluations().is_some()).collect();
        if evaluated.is_empty() {
            return "None was evaluated on held-out samples while it trained.".into();
        }
        if !self.doubts().is_empty() {
            return "Not all of them can be compared: “Scores” says why.".into();
        }
        let best =
            evaluated.iter().filter_map(|(i, run)| Some((*i, run.evaluations()?[1]))).filter_map(|(i, (step, of))| Some((i, step, of["loss"].as_f64()?)));
        match best.min_by(|a, b| a.2.total_cmp(&b.2)) {
            Some((i, step, loss)) => {
                format!("{} ({}) reached the lowest loss on held-out samples, {} at step {}.", self.runs[i].name, key(i), numbers::loss(loss), thousands(step))
            }
            None => String::new(),
        }
    }

    /// A table of facts, a column for each run.
    fn table(&self, page: &mut Page, caption: &str, rows: &[(String, Vec<Cell>)]) {
        let heads: Vec<String> = self.runs.iter().enumerate().map(|(i, run)| format!("{} · {}", key(i), cut(&run.name))).collect();
        let header: Vec<&str> = std::iter::once("").chain(heads.iter().map(String::as_str)).collect();
        let rows: Vec<Vec<Cell>> = rows.iter().map(|(name, cells)| std::iter::once(name.as_str().into()).chain(cells.iter().cloned()).collect()).collect();
        let lines: Vec<Option<usize>> = std::iter::once(None).chain((0..self.runs.len()).map(Some)).collect();
        page.keyed(caption, &header, &lines, &rows);
    }

    fn row(&self, name: &str, of: impl Fn(&ComparedRun) -> Option<String>) -> (String, Vec<Cell>) {
        (name.into(), self.runs.iter().map(|run| of(run).map_or(Cell::Nothing, Cell::Text)).collect())
    }

    fn times(&self) -> Vec<(String, Vec<Cell>)> {
        let each = |run: &ComparedRun| run.seconds().filter(|_| run.steps() > 0).map(|seconds| seconds / run.steps() as f64);
        vec![
            self.row("steps", |run| Some(thousands(run.steps()))),
            self.row("planned", |run| Some(thousands(run.settings.training.steps))),
            self.row("time", |run| run.seconds().map(duration)),
            self.row("time per step", |run| each(run).map(duration)),
            self.row("tokens", |run| run.tokens().map(thousands)),
            self.row("tokens per second", |run| Some(thousands((run.tokens()? as f64 / run.seconds().filter(|s| *s > 0.0)?).round()))),
        ]
    }

    fn origins(&self) -> Vec<(String, Vec<Cell>)> {
        let first = self.runs[0].data();
        let precision = |run: &ComparedRun| format!("{:?}", run.settings.training.precision).to_lowercase();
        vec![
            self.row("rows trained on", |run| run.state.as_ref().map(|state| thousands(state.data_rows))),
            self.row("the same rows as A", |run| {
                let same = run::same(&run.data()?.trained, &first?.trained);
                Some(if same { "yes" } else { "no" }.into())
            }),
            self.row("device", |run| Some(trained_on(&run.settings, run.state.as_ref()))),
            self.row("precision", |run| Some(precision(run))),
            self.row("skipped steps", |run| run.state.as_ref().map(|state| state.skipped.to_string())),
            self.row("trimodal", |run| run.state.as_ref().map(|state| state.version.clone()).filter(|version| !version.is_empty())),
        ]
    }

    fn curves(&self, page: &mut Page) {
        let of = |value: &dyn Fn(&Value) -> Option<f64>| -> Vec<Points> { self.runs.iter().map(|run| points(&run.log, value)).collect() };
        let training: Vec<Points> = of(&|line| line["loss"].as_f64()).iter().map(|points| smoothed(points)).collect();
        let held_out = of(&|line| line["evaluation"]["loss"].as_f64());
        let right: Vec<BTreeMap<String, Points>> = self.runs.iter().map(|run| shares(&run.log).into_iter().collect()).collect();
        let share = |name: &str| -> Vec<Points> { right.iter().map(|of| of.get(name).cloned().unwrap_or_default()).collect() };
        let mut charts = vec![self.chart("training loss", "nats per token", "step", &training, false, "The mean around each step")];
        charts.push(self.chart("held-out loss", "nats per token", "step", &held_out, false, "On held-out samples"));
        for (name, title) in [("tokens", "tokens right"), ("captions", "captions right")] {
            charts.push(self.chart(title, "%", "step", &share(name), true, "Of held-out samples"));
        }
        let (name, unit) = self.clock();
        let over = if held_out.iter().any(|points| !points.is_empty()) { ("held-out loss", &held_out) } else { ("training loss", &training) };
        let timed: Vec<Points> = self.runs.iter().zip(over.1).map(|(run, points)| in_time(run, points, unit)).collect();
        charts.push(self.chart(over.0, "nats per token", name, &timed, false, "The same over the time that each took"));
        let speeds: Vec<Points> = self.runs.iter().map(|run| speed(&run.log)).collect();
        charts.push(self.chart("speed", "tokens per second", "step", &speeds, true, "Rows of the token matrix in a second"));
        page.figures(charts.iter().flatten().map(|(caption, svg)| (caption.as_str(), svg.clone())));
        if charts.iter().all(Option::is_none) {
            page.text("The logs have no steps.");
        }
    }

    /// A chart of a line for each run that has points, and in words where each ends and what was best.
    fn chart(&self, title: &str, unit: &str, over_what: &str, all: &[Points], from_zero: bool, about: &str) -> Option<(String, String)> {
        let there: Vec<(usize, &Points)> = all.iter().enumerate().filter(|(_, points)| !points.is_empty()).collect();
        let lines: Vec<Line> = there.iter().map(|(i, points)| Line::styled(key(*i), points, *i)).collect();
        let write = |value: f64| match unit {
            "%" => numbers::percent(value / 100.0),
            "tokens per second" => thousands(value.round()),
            _ => numbers::loss(value),
        };
        let ends = there.iter().map(|(i, points)| {
            let last = points[points.len() - 1];
            let better = |a: f64, b: f64| if from_zero { a > b } else { a < b };
            let best = points.iter().fold(last, |best, point| if better(point.1, best.1) { *point } else { best });
            let best = if best.1 == last.1 || unit == "tokens per second" {
                String::new()
            } else {
                let place = thousands(numbers::number(best.0));
                let place = if over_what == "step" { format!("step {}", thousands(best.0)) } else { format!("{place} {over_what}") };
                format!(" ({} was {} at {place})", if from_zero { "the most" } else { "the lowest" }, write(best.1))
            };
            format!("{} {}{best}", key(*i), write(last.1))
        });
        let ends: Vec<String> = ends.collect();
        (!lines.is_empty()).then(|| {
            let svg = over(&Curve { title, unit, lines: &lines, from_zero }, over_what);
            (format!("{about}. At the end: {}.", ends.join(", ")), svg)
        })
    }

    /// The unit of time that suits the longest run: its name, and its seconds.
    fn clock(&self) -> (&'static str, f64) {
        let longest = self.runs.iter().filter_map(ComparedRun::seconds).fold(0.0, f64::max);
        match longest {
            _ if longest < 180.0 => ("seconds", 1.0),
            _ if longest < 3.0 * 3600.0 => ("minutes", 60.0),
            _ => ("hours", 3600.0),
        }
    }

    fn scores(&self, page: &mut Page) {
        let evaluated: Vec<(usize, &ComparedRun)> = self.runs.iter().enumerate().filter(|(_, run)| run.evaluations().is_some()).collect();
        if evaluated.is_empty() {
            page.text(
                "No run was evaluated on held-out samples while it trained: `--set held_out=0.05` keeps some rows back, `--set eval_split=NAME` names a split. \
                 `trimodal eval RUN DATA` judges a run that is done.",
            );
            return;
        }
        let doubts = self.doubts();
        match (doubts.is_empty(), self.groups(&evaluated).first()) {
            (true, Some(group)) => page.text(&format!("Evaluated on the same samples: {}.", self.samples(group))),
            _ => doubts.iter().for_each(|doubt| page.text(doubt)),
        }
        let missing: Vec<&str> = (0..self.runs.len()).filter(|i| self.runs[*i].evaluations().is_none()).map(key).collect();
        if !missing.is_empty() {
            page.text(&format!("{} not evaluated.", was(&missing)));
        }
        page.beside(|page| {
            self.table(page, "The last evaluation", &self.evaluation(0));
            self.table(page, "The evaluation with the lowest loss", &self.evaluation(1));
        });
    }

    /// What the last evaluations (0) or the best ones (1) found.
    fn evaluation(&self, which: usize) -> Vec<(String, Vec<Cell>)> {
        let of = |run: &ComparedRun| run.evaluations().map(|both| (both[which].0, both[which].1.clone()));
        let mut rows =
            vec![self.row("step", |run| of(run).map(|(step, _)| thousands(step))), self.row("loss", |run| of(run)?.1["loss"].as_f64().map(numbers::loss))];
        let found: Vec<Option<Value>> = self.runs.iter().map(|run| of(run).map(|(_, found)| found)).collect();
        let mut names: Vec<(&str, String)> = vec![("token_accuracy", "tokens".into()), ("exact", "captions".into())];
        for (name, value) in found.iter().flatten().filter_map(Value::as_object).flatten() {
            let known = ["loss", "samples", "captions"].contains(&name.as_str()) || names.iter().any(|(key, _)| key == name);
            if value.is_f64() && !known {
                names.push((name, cut(name)));
            }
        }
        for (name, shown) in names {
            let cells: Vec<Cell> =
                found.iter().map(|of| of.as_ref().and_then(|of| of[name].as_f64()).map_or(Cell::Nothing, |share| Cell::Share { share, mark: None })).collect();
            if cells.iter().any(|cell| *cell != Cell::Nothing) {
                rows.push((shown, cells));
            }
        }
        rows
    }

    fn settings(&self, page: &mut Page) {
        let each: Vec<Vec<(String, String)>> = self.runs.iter().map(ComparedRun::settings).collect();
        let mut rows = Vec::new();
        for (name, value) in &each[0] {
            let values: Vec<&str> = each.iter().map(|all| all.iter().find(|(other, _)| other == name).map_or("–", |(_, value)| value.as_str())).collect();
            if values.iter().any(|other| other != value) {
                rows.push((name.clone(), values.into_iter().map(Cell::from).collect::<Vec<_>>()));
            }
        }
        if rows.is_empty() {
            page.text(&format!("None: all {} settings are the same.", each[0].len()));
            return;
        }
        let same = each[0].len() - rows.len();
        self.table(page, &format!("{} settings that are not the same; {same} others are", rows.len()), &rows);
    }
}

/// Which samples a run was evaluated on, as far as its settings say.
fn which(settings: &Settings) -> String {
    match settings.evaluation.eval_split.as_str() {
        // What it became stands in no file of the run.
        AUTO if settings.evaluation.held_out == 0.0 => "of the split for evaluation".into(),
        AUTO | "" => "held out of the rows to train on".into(),
        split => format!("of {split}"),
    }
}

/// The letter of a run, in charts and tables.
fn key(i: usize) -> &'static str {
    const LETTERS: [&str; MOST] = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L"];
    LETTERS[i % MOST]
}

/// `A was`, `A and B were`.
fn was(keys: &[&str]) -> String {
    format!("{} {}", list(keys), if keys.len() == 1 { "was" } else { "were" })
}

/// A name with at most [`NAME`] letters: the end of a path tells more than its beginning.
fn cut(name: &str) -> String {
    let letters = name.chars().count();
    if letters <= NAME { name.into() } else { format!("…{}", name.chars().skip(letters - NAME + 1).collect::<String>()) }
}

/// Points over steps as points over the time at which these were logged.
fn in_time(run: &ComparedRun, points: &[(f64, f64)], unit: f64) -> Points {
    let mut at = BTreeMap::new();
    for line in &run.log {
        if let (Some(step), Some(seconds)) = (line["step"].as_u64(), line["seconds"].as_f64()) {
            at.insert(step, seconds);
        }
    }
    points.iter().filter_map(|(step, value)| Some((at.range(..=*step as u64).next_back()?.1 / unit, *value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_no_name_of_a_split() {
        let of = |sets: &[&str]| {
            let mut settings = Settings::preset("meadow").unwrap();
            settings.set_all(&sets.iter().map(|set| set.to_string()).collect::<Vec<_>>()).unwrap();
            which(&settings)
        };
        assert_eq!(of(&["eval_split=auto"]), "of the split for evaluation");
        assert_eq!([of(&["eval_split=auto", "held_out=0.1"]), of(&["eval_split=", "held_out=0.1"])], ["held out of the rows to train on"; 2]);
        assert_eq!(of(&["eval_split=iid"]), "of iid");
    }
}
