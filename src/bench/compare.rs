//! Two cards beside each other: what has changed, and whether that is more than what their measurements are unsure by.

use super::card::{BenchRow, Card};
use crate::numbers::digits;
use serde::{Deserialize, Serialize};

/// A change is one from here on, in standard errors of the difference: about 5 in 100 rows that have not changed go beyond.
const ERRORS: f64 = 2.0;
/// How far a ceiling may differ between two runs before that is named, in per cent.
const CEILING: f64 = 5.0;

/// How a row's time has changed since an earlier card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The median then, in seconds.
    pub seconds: f64,
    /// How much longer a call takes now, in per cent; below 0 it has become faster.
    pub percent: f64,
    /// Two standard errors of that, in per cent of the time then.
    pub uncertainty: f64,
    /// `slower`, `faster`, or `same` where the change is no larger than its uncertainty.
    pub verdict: String,
}

/// The card that another one was compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// Its tool.
    pub tool: String,
    /// Its date.
    pub date: String,
    /// What else differs: the device, the settings, the ceilings.
    pub differences: Vec<String>,
    /// Rows that only this card has.
    pub new: Vec<String>,
    /// Rows that only the earlier one has.
    pub gone: Vec<String>,
}

impl Change {
    fn of(old: &BenchRow, new: &BenchRow) -> Change {
        let (then, now) = (&old.seconds, &new.seconds);
        let ratio = now.median / then.median;
        let (percent, uncertainty) = (100.0 * (ratio - 1.0), 100.0 * ERRORS * ratio * then.standard_error.hypot(now.standard_error));
        let verdict = match percent {
            _ if percent > uncertainty => "slower",
            _ if -percent > uncertainty => "faster",
            _ => "same",
        };
        Change { seconds: then.median, percent, uncertainty, verdict: verdict.into() }
    }

    /// `+3.1 ±0.8%`
    pub fn text(&self) -> String {
        let tenths = |value: f64| if value.abs() >= 99.5 { format!("{value:.0}") } else { format!("{value:.1}") };
        let sign = if self.percent >= 0.0 { "+" } else { "−" };
        format!("{sign}{} ±{}%", tenths(self.percent.abs()), tenths(self.uncertainty))
    }
}

impl Card {
    /// Says in every row what has changed since an earlier card, and what else differs between the two.
    pub fn compare(&mut self, old: &Card) {
        let key = |row: &BenchRow| [&row.op, &row.entry, &row.shape, &row.dtype].map(String::clone);
        let mut against = Against { tool: old.tool.clone(), date: old.date.clone(), differences: differences(old, self), ..Against::default() };
        for row in &mut self.rows {
            let before = old.rows.iter().find(|other| key(other) == key(row));
            row.change = before.map(|before| Change::of(before, row));
            if before.is_none() {
                against.new.push(row.name());
            }
        }
        against.gone = old.rows.iter().filter(|row| self.rows.iter().all(|other| key(other) != key(row))).map(BenchRow::name).collect();
        self.against = Some(against);
    }

    /// The rows that have become slower by more than so many per cent, and by more than they are unsure of.
    pub fn regressions(&self, percent: f64) -> Vec<&BenchRow> {
        self.rows.iter().filter(|row| row.change.as_ref().is_some_and(|change| change.verdict == "slower" && change.percent > percent)).collect()
    }
}

/// What two cards differ in besides their times.
fn differences(old: &Card, new: &Card) -> Vec<String> {
    let mut differences = Vec::new();
    let mut say = |what: &str, then: String, now: String| {
        if then != now {
            differences.push(format!("{what}: {then} then, {now} now"));
        }
    };
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "not reported".into());
    say("device", format!("{} ({})", old.device.name, old.device.kind), format!("{} ({})", new.device.name, new.device.kind));
    say("driver", told(&old.device.driver), told(&new.device.driver));
    let cores = |card: &Card| card.device.cores.map_or("not reported".into(), |n| n.to_string());
    say("processors", cores(old), cores(new));
    say("clocks", told(&old.device.clocks), told(&new.device.clocks));
    say("program", old.tool.clone(), new.tool.clone());
    say("shapes", old.method.shapes.join(", "), new.method.shapes.join(", "));
    say("quick", old.method.quick.to_string(), new.method.quick.to_string());
    say("timer", old.method.timer.clone(), new.method.timer.clone());
    let ceilings = |card: &Card| {
        [("copy", card.ceilings.copy_bytes_per_second), ("f32", card.ceilings.f32_flops_per_second), ("bf16", card.ceilings.bf16_flops_per_second)]
    };
    for ((name, then), (_, now)) in ceilings(old).into_iter().zip(ceilings(new)) {
        let Some(percent) = then.zip(now).map(|(then, now)| 100.0 * (now / then - 1.0)).filter(|percent| percent.abs() > CEILING) else { continue };
        let than = if percent > 0.0 { "higher" } else { "lower" };
        differences.push(format!("the {name} ceiling is {} % {than} now: the device itself was not equally fast", digits(percent.abs(), 2)));
    }
    for (when, card) in [("then", old), ("now", new)] {
        differences.extend(card.doubts.iter().map(|doubt| format!("{when} {doubt}")));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::{card, row};
    use super::*;

    #[test]
    fn a_change_is_one_where_it_is_more_than_its_uncertainty() {
        let of = |entry: &str, median: f64, standard_error: f64| {
            let mut row = row("matmul", entry, "a", median);
            row.seconds.standard_error = standard_error;
            row
        };
        let old = card(vec![of("same", 1.0, 0.003), of("slower", 1.0, 0.003), of("faster", 1.0, 0.003), of("noisy", 1.0, 0.1), of("gone", 1.0, 0.0)]);
        let mut new = card(vec![of("same", 1.009, 0.004), of("slower", 1.2, 0.004), of("faster", 0.9, 0.004), of("noisy", 1.25, 0.1), of("new", 1.0, 0.0)]);
        new.compare(&old);
        let verdicts: Vec<_> = new.rows.iter().map(|row| row.change.as_ref().map(|change| (change.verdict.as_str(), change.text()))).collect();
        let expected = [
            Some(("same", "+0.9 ±1.0%".into())),
            Some(("slower", "+20.0 ±1.2%".into())),
            Some(("faster", "−10.0 ±0.9%".into())),
            Some(("same", "+25.0 ±35.4%".into())),
            None,
        ];
        assert_eq!(verdicts, expected);
        let against = new.against.clone().unwrap();
        assert_eq!((against.new, against.gone), (vec!["matmul new a f32".into()], vec!["matmul gone a f32".into()]));
        assert!(against.differences.is_empty(), "{:?}", against.differences);
        let slower = |percent| new.regressions(percent).iter().map(|row| row.entry.clone()).collect::<Vec<_>>();
        assert_eq!((slower(10.0), slower(20.1)), (vec!["slower".to_string()], vec![]));
    }

    #[test]
    fn what_else_differs_is_said() {
        let old = card(Vec::new());
        let mut new = old.clone();
        new.device.name = "another".into();
        new.device.cores = Some(4);
        new.ceilings.copy_bytes_per_second = Some(7.5e9);
        new.doubts = vec!["other programs ran".into()];
        new.method.quick = true;
        let found = differences(&old, &new);
        for part in [
            "device: a processor (cpu) then, another (cpu) now",
            "processors: 2 then, 4 now",
            "quick: false then, true now",
            "the copy ceiling is 25 % lower now",
            "now other programs ran",
        ] {
            assert!(found.iter().any(|difference| difference.contains(part)), "{part}: {found:?}");
        }
        assert_eq!(found.len(), 5);
    }
}
