//! What is said about a shader that was checked in the place of one of the crate's: one screen.

use super::whole_words;
use crate::check::{CheckRow, Failure, FirstFailure, ReplacedReport, WrongOutput};
use crate::learn::{EXERCISES, Exercise, MARK};
use crate::numbers::{digits, thousands};

/// Wrong elements that are shown, and lines of anything else.
const SHOWN: usize = 5;

/// A file and what the check of it found.
pub struct Answer<'a> {
    /// The stem of the shader in whose place it ran.
    pub stem: &'a str,
    /// The exercise that it is, if it is one ([`Exercise::of`]).
    pub exercise: Option<&'static Exercise>,
    /// Its text.
    pub source: &'a str,
    /// What was found.
    pub found: &'a ReplacedReport,
}

impl Answer<'_> {
    /// Whether every case that ran passed, and at least one did.
    pub fn is_right(&self) -> bool {
        self.found.report.cases.failed == 0 && self.found.report.cases.executed > 0
    }

    /// Whether the file is an exercise on which nobody has worked yet.
    pub fn is_as_given(&self) -> bool {
        self.exercise.is_some_and(|exercise| exercise.is_as_given(self.source))
    }

    /// The answer in lines of at most `width` columns, at most a screen of them where `width` is 80 or more. The first is the verdict.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let mut lines = wrapped(&self.verdict(), width);
        match &self.found.first {
            Some(first) => {
                lines.push(String::new());
                lines.extend(wrapped(&format!("`{}` is wrong. The smallest case that fails: {}.", first.entry, first.label), width));
                let inputs: Vec<String> = first.inputs.iter().map(|(name, shape)| format!("{name} {shape}")).collect();
                lines.extend(cut(wrapped(&format!("It reads {}.", inputs.join(", ")), width), 2));
                lines.push(String::new());
                lines.extend(what_is_wrong(first, width));
                lines.push(String::new());
            }
            None if self.found.report.cases.executed == 0 => lines.push("No case of it can run on this device.".into()),
            None => {}
        }
        let rows = || self.found.report.ops.iter().filter(|row| self.found.first.as_ref().is_none_or(|first| first.entry != row.entry));
        let listed = |failed: bool| rows().filter(|row| (row.failed > 0) == failed).map(counted).collect::<Vec<_>>().join(", ");
        for (what, listed) in [("Wrong too", listed(true)), (if self.is_right() { "Right" } else { "Still right" }, listed(false))] {
            if !listed.is_empty() {
                lines.extend(cut(wrapped(&format!("{what}: {listed}."), width), 3));
            }
        }
        lines.extend(wrapped(&self.how_much(), width));
        if let Some(next) = self.next() {
            lines.extend(wrapped(&next, width));
        }
        lines
    }

    /// Whether what was missing is right, but something is wrong that was not.
    fn is_wrong_elsewhere(&self, exercise: &Exercise) -> bool {
        let about = |row: &&CheckRow| exercise.entries.contains(&row.entry);
        !self.is_right() && self.found.report.ops.iter().filter(about).all(|row| row.failed == 0)
    }

    fn verdict(&self) -> String {
        match self.exercise {
            _ if self.found.report.cases.executed == 0 => format!("{}.wgsl: nothing was checked.", self.stem),
            Some(exercise) if self.is_right() => format!("{} solved: it agrees with the float64 oracle.", exercise.name()),
            Some(exercise) if self.is_as_given() => {
                let mark = self.source.lines().position(|line| line.trim_start().starts_with(MARK));
                let line = mark.map_or("the line in question".into(), |mark| format!("the line under the mark (line {})", mark + 2));
                format!("{} as it was given: {line} has not been changed.", exercise.name())
            }
            Some(exercise) if self.is_wrong_elsewhere(exercise) => {
                format!("{}: what was missing is right, but something else in the file is not.", exercise.name())
            }
            Some(exercise) => format!("{}: not yet.", exercise.name()),
            None if self.is_right() => format!("Right: this {}.wgsl agrees with the float64 oracle.", self.stem),
            None => format!("Wrong: this {}.wgsl does not agree with the float64 oracle.", self.stem),
        }
    }

    fn how_much(&self) -> String {
        let cases = &self.found.report.cases;
        let all = cases.executed + cases.left_out;
        match (cases.left_out, cases.large_left_out) {
            (0, 0) => format!("All {} cases of the file ran.", thousands(all)),
            (0, large) => format!("All {} cases of the file ran but {} large ones (`--large`).", thousands(all), thousands(large)),
            _ => format!("{} of {} cases of the file ran, small ones first; `--all` runs the rest.", thousands(cases.executed), thousands(all)),
        }
    }

    fn next(&self) -> Option<String> {
        let exercise = self.exercise?;
        if self.is_wrong_elsewhere(exercise) {
            return Some("Next: take back what you changed outside of the line under the mark.".into());
        }
        if !self.is_right() {
            return Some(format!("Next: trimodal learn hint {}", exercise.id));
        }
        Some(match exercise.next() {
            Some(next) if next.chapter == exercise.chapter => format!("Next: trimodal learn exercise {} --to next.wgsl", next.id),
            Some(next) => format!("Next: trimodal learn read {}", next.chapter),
            None => format!("That was the last of {} exercises. `trimodal trace` shows these kernels at work.", EXERCISES.len()),
        })
    }
}

/// A row's entry and how many of its cases ran.
fn counted(row: &CheckRow) -> String {
    let cases = |n: usize| if n == 1 { "1 case".to_string() } else { format!("{} cases", thousands(n)) };
    match row.failed {
        0 => format!("{} ({})", row.entry, cases(row.executed)),
        failed => format!("{} ({} of {})", row.entry, thousands(failed), cases(row.executed)),
    }
}

fn what_is_wrong(first: &FirstFailure, width: usize) -> Vec<String> {
    let outputs = match &first.failure {
        Failure::Said(said) => return cut(wrapped(&format!("{said}."), width), SHOWN),
        Failure::Wrong(outputs) => outputs,
    };
    let mut lines = Vec::new();
    let count = |output: &WrongOutput| {
        let none = match output.not_finite() {
            0 => String::new(),
            n => format!(", {} of them not numbers", thousands(n)),
        };
        format!("{} of {}{none}", thousands(output.wrong()), thousands(output.expected.len()))
    };
    for (i, output) in outputs.iter().enumerate() {
        if i > 0 {
            lines.extend(wrapped(&format!("{} {} is wrong too: {}.", output.output, output.shape, count(output)), width));
            continue;
        }
        lines.extend(wrapped(&format!("Wrong elements of {} {}: {}.", output.output, output.shape, count(output)), width));
        let six = |value: f64| digits(value, 6);
        let mut rows = vec![["", "expected", "found", "error", "allowed"].map(String::from)];
        rows.extend(output.elements().take(SHOWN).map(|element| {
            let error = (element.found - element.expected).abs();
            [format!("{:?}", element.index), six(element.expected), six(element.found), digits(error, 2), digits(element.allowed, 2)]
        }));
        lines.extend(aligned(&rows));
        if output.wrong() > SHOWN {
            lines.push(format!("  and {} more", thousands(output.wrong() - SHOWN)));
        }
    }
    cut(lines, SHOWN + 5)
}

/// Rows as columns that end at the same place, the first of which begins there.
fn aligned(rows: &[[String; 5]]) -> Vec<String> {
    let widths: [usize; 5] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 5]| {
        let rest = (1..5).map(|column| format!("   {:>width$}", row[column], width = widths[column]));
        format!("  {:<width$}{}", row[0], rest.collect::<String>(), width = widths[0])
    };
    rows.iter().map(line).collect()
}

/// The first lines; that there are more is said in the last one.
fn cut(mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        lines.truncate(most);
        lines[most - 1] += " …";
    }
    lines
}

/// Words in lines of at most so many columns, where no word is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    whole_words(&words.join(" "), width, "", "").split('\n').map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_not_cut() {
        assert_eq!(wrapped("a bb  ccc\ndddddddd e", 6), ["a bb", "ccc", "dddddddd", "e"]);
        assert_eq!(cut(wrapped("a b c", 1), 2), ["a", "b …"]);
        let rows = [["", "x", "", "", ""], ["[0]", "12", "", "", ""]].map(|row| row.map(String::from));
        assert_eq!(aligned(&rows).iter().map(|line| line.trim_end()).collect::<Vec<_>>(), ["         x", "  [0]   12"]);
    }
}
