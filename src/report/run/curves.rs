//! A run's log as curves.

use super::super::curve::smoothed;
use super::super::page::{Curve, Line, Page, curve_svg, together};
use super::held_out::Judged;
use crate::numbers::{self, digits, percent, thousands};
use serde_json::Value;
use std::collections::BTreeMap;

/// As many shares are drawn; all are named below.
const SHARES: usize = 4;

/// Points of the speed: each is the mean of several steps, so that there are only this many.
const SPEEDS: usize = 100;

/// The log as curves. Where nothing was evaluated while it trained, the loss that it was `judged` by at the end stands in the first one.
pub(super) fn add(page: &mut Page, log: &[Value], judged: &[Judged]) {
    let of = |key: &str| points(log, |line| line[key].as_f64());
    let mut held_out = points(log, |line| line["evaluation"]["loss"].as_f64());
    let (loss, gradient, rate, speed) = (of("loss"), of("gradient_norm"), of("learning_rate"), speed(log));
    if loss.is_empty() {
        page.text("The log has no steps.");
        return;
    }
    let (smooth_loss, smooth_gradient) = (smoothed(&loss), smoothed(&gradient));
    let each = each(loss.len());
    let [first, last] = [smooth_loss[0].1, smooth_loss[smooth_loss.len() - 1].1].map(numbers::loss);
    let mut caption = format!("Cross-entropy of the next word: pale {each}, dark the mean around it, {first} at the beginning and {last} at the end.");
    match (judged.first().filter(|judged| !judged.trained_on), held_out.as_slice()) {
        (_, [.., last]) => caption += &format!(" On held-out samples {}.", last_and_lowest(*last, &held_out)),
        (Some(first), []) => {
            caption += &format!(" On held-out samples ({}) {}, when all was done: nothing was evaluated before.", first.name, numbers::loss(first.losses.loss));
            held_out.push((loss[loss.len() - 1].0, first.losses.loss));
        }
        (None, []) => {}
    }
    let mut losses = vec![Line { pale: true, ..Line::new(&each, &loss) }, Line::new("training", &smooth_loss)];
    if !held_out.is_empty() {
        losses.push(Line::new("held out", &held_out));
    }
    let most = gradient.iter().fold(0.0f64, |most, point| most.max(point.1));
    let top = rate.iter().fold(0.0f64, |most, point| most.max(point.1));
    let mean = if speed.is_empty() { 0.0 } else { speed.iter().map(|point| point.1).sum::<f64>() / speed.len() as f64 };
    let shares = shares(log);
    let right: Vec<Line> = shares.iter().take(SHARES).map(|(name, points)| Line::new(name, points)).collect();
    let last = shares.iter().map(|(name, points)| {
        let best = points.iter().fold(points[0], |best, point| if point.1 > best.1 { *point } else { best });
        let last = points[points.len() - 1];
        let most = if last.1 < best.1 { format!(" (the most was {} at step {})", percent(best.1 / 100.0), thousands(best.0)) } else { String::new() };
        format!("{name} {}{most}", percent(last.1 / 100.0))
    });
    let last = format!("Of held-out samples this was right, the last time: {}.", last.collect::<Vec<_>>().join(", "));
    let right = Curve { title: "right", unit: "%", lines: &right, from_zero: true };
    let right = (!shares.is_empty()).then_some((last, right));
    let charts = [
        (caption, Curve { title: "loss", unit: "nats per token", lines: &losses, from_zero: false }),
        (
            format!("Length of the gradient of all parameters before it is clipped, at most {}.", digits(most, 3)),
            Curve {
                title: "gradient norm",
                unit: "",
                lines: &[Line { pale: true, ..Line::new(&each, &gradient) }, Line::new("mean", &smooth_gradient)],
                from_zero: false,
            },
        ),
        (
            format!("Step size of the optimiser, at most {}.", digits(top, 3)),
            Curve { title: "learning rate", unit: "", lines: &[Line::new("", &rate)], from_zero: true },
        ),
        (
            format!("Rows of the token matrix trained on in a second, on average {}.", thousands(mean.round())),
            Curve { title: "speed", unit: "tokens per second", lines: &[Line::new("", &speed)], from_zero: true },
        ),
    ];
    page.figures(charts[..1].iter().chain(&right).chain(&charts[1..]).map(|(caption, curve)| (caption.as_str(), curve_svg(curve))));
}

/// Steps and values of a log's lines that have one.
pub(in crate::report) fn points(log: &[Value], value: impl Fn(&Value) -> Option<f64>) -> Vec<(f64, f64)> {
    log.iter().filter_map(|line| Some((line["step"].as_f64()?, value(line)?))).collect()
}

/// What a chart shows of each step.
fn each(steps: usize) -> String {
    match together(steps) {
        1 => "each step".into(),
        many => format!("mean of {many} steps"),
    }
}

/// `0.4102 the last time, at step 600; the lowest was 0.4001 at step 550`.
fn last_and_lowest(last: (f64, f64), points: &[(f64, f64)]) -> String {
    let best = points.iter().fold(last, |best, point| if point.1 < best.1 { *point } else { best });
    let lowest = if best.1 < last.1 { format!("; the lowest was {} at step {}", numbers::loss(best.1), thousands(best.0)) } else { ", the lowest".into() };
    format!("{} the last time, at step {}{lowest}", numbers::loss(last.1), thousands(last.0))
}

/// Per cent of what was right in each evaluation, by name: tokens, whole captions, and then attribute by attribute, as far as they were asked for.
pub(in crate::report) fn shares(log: &[Value]) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut all: BTreeMap<(usize, String), Vec<(f64, f64)>> = BTreeMap::new();
    for line in log {
        let (Some(step), Some(evaluation)) = (line["step"].as_f64(), line["evaluation"].as_object()) else { continue };
        for (key, value) in evaluation {
            let name = match key.as_str() {
                "loss" | "samples" => continue,
                "token_accuracy" => (0, "tokens".into()),
                "exact" => (1, "captions".into()),
                // A column of the data set's may be called anything.
                name => (2, name.chars().take(16).collect()),
            };
            if let Some(share) = value.as_f64() {
                all.entry(name).or_default().push((step, 100.0 * share));
            }
        }
    }
    all.into_iter().map(|((_, name), points)| (name, points)).collect()
}

/// Tokens per second over the steps. A run that was continued continues to count both.
pub(in crate::report) fn speed(log: &[Value]) -> Vec<(f64, f64)> {
    let counts: Vec<[f64; 3]> = log.iter().filter_map(|line| Some([line["step"].as_f64()?, line["tokens"].as_f64()?, line["seconds"].as_f64()?])).collect();
    let group = counts.len().div_ceil(SPEEDS).max(1);
    let ends: Vec<[f64; 3]> = counts.iter().step_by(group).copied().chain(counts.last().copied()).collect();
    let pairs = ends.windows(2).filter(|pair| pair[1][2] > pair[0][2]);
    pairs.map(|pair| ((pair[0][0] + pair[1][0]) / 2.0, (pair[1][1] - pair[0][1]) / (pair[1][2] - pair[0][2]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_tokens_over_seconds() {
        let log: Vec<Value> = (1..=1000).map(|step| serde_json::json!({ "step": step, "tokens": 50 * step, "seconds": step as f64 / 4.0 })).collect();
        let speed = speed(&log);
        assert!(speed.len() <= SPEEDS + 1 && speed.iter().all(|point| (point.1 - 200.0).abs() < 1e-9), "{speed:?}");
        assert!(super::speed(&log[..1]).is_empty());
    }

    #[test]
    fn what_was_right_is_drawn_as_far_as_it_was_asked_for() {
        let evaluation = |step: usize, more: Value| {
            let mut line = serde_json::json!({ "step": step, "evaluation": { "loss": 0.5, "token_accuracy": 0.75, "samples": 9, "captions": [] } });
            line["evaluation"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            line
        };
        let plain = evaluation(2, serde_json::json!({}));
        let more = evaluation(4, serde_json::json!({ "exact": 0.25, "category": 0.5, "a": 1.0 }));
        let names = |log: &[Value]| shares(log).into_iter().map(|(name, points)| (name, points.len())).collect::<Vec<_>>();
        assert_eq!(names(&[plain.clone(), more.clone()]), [("tokens", 2), ("captions", 1), ("a", 1), ("category", 1)].map(|(name, n)| (name.to_string(), n)));
        let step = serde_json::json!({ "step": 1, "loss": 2.0 });
        for (log, expected) in
            [(vec![step.clone(), plain, more], Some("the last time: tokens 75.0 %, captions 25.0 %, a 100.0 %, category 50.0 %.")), (vec![step], None)]
        {
            let mut page = Page::new("t", "l");
            page.section("s");
            add(&mut page, &log, &[]);
            let html = page.html();
            assert_eq!(html.contains("right, the last time"), expected.is_some());
            assert!(expected.is_none_or(|text| html.contains(text)), "{html}");
        }
    }

    /// Both losses are in one chart, the last and the best values in words.
    #[test]
    fn held_out_losses_stand_beside_those_of_training() {
        let mut log: Vec<Value> = (1..=10).map(|step| serde_json::json!({ "step": step, "loss": 3.0 / step as f64 })).collect();
        for (step, loss) in [(5, 0.5), (10, 0.75)] {
            log.push(serde_json::json!({ "step": step, "evaluation": { "loss": loss, "token_accuracy": 1.0 - loss } }));
        }
        let mut page = Page::new("t", "l");
        page.section("s");
        add(&mut page, &log, &[]);
        let html = page.html();
        let chart = html.split("<figure>").nth(1).unwrap();
        assert_eq!(["each step", "training", "held out"].map(|name| chart.matches(&format!("data-name=\"{name}\"")).count()), [1; 3]);
        for words in ["3.000 at the beginning", "0.3000 at the end", "On held-out samples 0.7500 the last time, at step 10; the lowest was 0.5000 at step 5."] {
            assert!(chart.contains(words), "{words}: {chart}");
        }
        assert!(html.contains("tokens 25.0 % (the most was 50.0 % at step 5)"), "{html}");
        assert_eq!((each(600), each(601)), ("each step".into(), "mean of 2 steps".into()));
    }

    #[test]
    fn short_and_damaged_logs_are_drawn() {
        for log in [vec![], vec![serde_json::json!({ "step": 1, "loss": 2.0 })], vec![serde_json::json!({ "step": 1, "loss": null }), serde_json::json!(3)]] {
            let mut page = Page::new("t", "l");
            page.section("s");
            add(&mut page, &log, &[]);
        }
    }
}
