//! What a terminal shows while something takes long: bars, and the live line of a training run.

use super::signals::stop_flag;
use super::terminal::{line, note, warning};
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use trimodal::data::folder::TableRow;
use trimodal::data::{Dataset, Tokenizer};
use trimodal::files::shown::{quoted, shown, shown_path};
use trimodal::model::Config;
use trimodal::numbers::{self, bytes, digits, duration, percent, thousands};
use trimodal::train::preflight::Note;
use trimodal::train::run::{Ended, Evaluation, Event};
use trimodal::train::{Example, Run, Scores, examples, log};
use trimodal::{Device, Error, Result, bench, report};

/// Decodes the rows of a data set under a progress bar; ctrl-C stops it.
pub(super) fn load(
    dataset: &Dataset,
    config: &Config,
    tokenizer: &Tokenizer,
    device: &Device,
    doing: &str,
    keep: impl Fn(&TableRow) -> bool,
) -> Result<Vec<Example>> {
    let bar = progress(doing);
    let loaded = examples::load(dataset, config, tokenizer, device, keep, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let loaded = loaded?;
    if loaded.is_empty() {
        return Err(Error::file(dataset.dir().join("metadata.jsonl"), "no line belongs to this split"));
    }
    Ok(loaded)
}

/// A bar that counts things; its message, where one is set, is what it is at.
pub(super) fn progress(doing: &str) -> ProgressBar {
    bar(0, "{prefix:>14} {bar:40} {human_pos}/{human_len}, {eta} left  {wide_msg}").with_prefix(shown(doing).into_owned())
}

/// The same for things of which nobody knows how many there will be.
pub(super) fn counter(doing: &str) -> ProgressBar {
    let bar = bar(0, "{prefix:>14} {spinner} {human_pos}, {elapsed}  {wide_msg}").with_prefix(shown(doing).into_owned());
    bar.enable_steady_tick(TICK);
    bar
}

/// What shows that the program lives although nothing has been finished.
pub(super) const TICK: Duration = Duration::from_millis(200);

fn bar(length: usize, template: &str) -> ProgressBar {
    ProgressBar::new(length as u64).with_style(ProgressStyle::with_template(template).expect("a fixed template"))
}

/// Moves a bar, and breaks where a signal has arrived.
pub(super) fn advance(bar: &ProgressBar, done: usize, total: usize) -> ControlFlow<()> {
    bar.set_length(total as u64);
    bar.set_position(done as u64);
    if stop_flag().load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The senses that a model does not have.
fn lacks(config: &Config) -> Option<&'static str> {
    match (&config.vision_config, &config.audio_config) {
        (Some(_), Some(_)) => None,
        (None, Some(_)) => Some("eyes"),
        (Some(_), None) => Some("ears"),
        (None, None) => Some("eyes and no ears"),
    }
}

/// What a training came to.
pub(super) struct Trained {
    pub ended: Ended,
    pub seconds: f64,
    pub tokens_per_second: f64,
}

/// Trains under a live line; a signal finishes the step and saves. `loss.svg` is drawn in any case.
pub(super) fn train(run: &mut Run) -> Result<Trained> {
    let (samples, judged) = run.samples();
    let (training, device) = (run.settings.training.clone(), run.trainer.device().clone());
    let precision = format!("{:?}", training.precision).to_lowercase();
    line(format!(
        "training {} parameters on {} samples{}, {} steps of up to {} rows{}, on {} in {precision}: {} of memory{}",
        thousands(run.trainer.parameters.count()),
        thousands(samples),
        if judged > 0 { format!(" ({judged} held out)") } else { String::new() },
        thousands(training.steps),
        thousands(training.rows),
        if training.accumulate > 1 { format!(" × {}", training.accumulate) } else { String::new() },
        device.described(),
        bytes(run.memory),
        if training.recompute { " (activations are computed again)" } else { "" },
    ));
    super::say_notes(&run.dataset);
    if let Some(lacks) = lacks(&run.trainer.config) {
        line(format!("the model has no {lacks}: it can only be asked about what it is trained on"));
    }
    for told in &run.notes {
        match told {
            Note::Warning(what) => warning(what),
            Note::Fact(what) => line(what),
        }
    }
    if run.trainer.step > 0 {
        line(format!("continuing after step {}", thousands(run.trainer.step)));
    }
    // Without a terminal to show it in, the measurement is not taken.
    let bar = bar(training.steps, "{wide_bar} {human_pos}/{human_len}\n{msg}, {eta} left");
    let peak = if bar.is_hidden() { None } else { bench::peak(&device, training.precision.on(&device).dtype()) };
    bar.set_position(run.trainer.step as u64);
    bar.reset_eta();
    let (begin, mut tokens, mut flops) = (Instant::now(), 0usize, 0u64);
    let stop = stop_flag();
    let (mut saved, mut waiting) = (None, None);
    let outcome = run.train(&mut |run, event| {
        match event {
            Event::Step(step) => {
                (tokens, flops) = (tokens + step.rows, flops + step.flops);
                let seconds = begin.elapsed().as_secs_f64();
                bar.set_position(run.trainer.step as u64);
                bar.set_message(format!(
                    "loss {}, lr {:.2e}, gradient {}, {} tokens/s{}, {}",
                    numbers::loss(run.state.loss.unwrap_or(f64::NAN)),
                    step.report.learning_rate,
                    digits(step.report.gradient_norm.into(), 3),
                    thousands((tokens as f64 / seconds) as usize),
                    peak.map(|peak| format!(" ({:.0} % of peak)", 100.0 * flops as f64 / seconds / peak)).unwrap_or_default(),
                    bytes(run.memory),
                ));
            }
            Event::Evaluated(evaluation) => bar.suspend(|| line(evaluated(run.trainer.step, evaluation))),
            Event::Skipped(e) => bar.suspend(|| warning(format!("skipped: {e}"))),
            Event::NotSaved(e) => bar.suspend(|| warning(format!("not saved: {e}"))),
            Event::NotLogged(e) => bar.suspend(|| warning(format!("{e}; its lines are kept, and written as soon as it goes again"))),
            Event::Waiting(e) => {
                // Who has stopped the training waits for its save; a second signal ends that.
                let stopped_before = *waiting.get_or_insert_with(|| {
                    bar.suspend(|| {
                        warning(format!("not saved: {e}; waiting for room, and trying again; stop it and the steps since the last checkpoint are lost"))
                    });
                    stop.load(Ordering::Relaxed)
                });
                return if stop.load(Ordering::Relaxed) && !stopped_before { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            Event::NotEvaluated(e) => bar.suspend(|| warning(format!("not evaluated: {e}; the training goes on"))),
            Event::Saved(path) => saved = Some(path.to_path_buf()),
            Event::Evaluating => {}
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    // A plot that cannot be drawn does not fail the training.
    if let Err(e) = log::losses(&run.folder).and_then(|losses| report::loss_svg(&run.folder.join("loss.svg"), &losses)) {
        warning(e);
    }
    if let (Err(_), Some(saved)) = (&outcome, &saved) {
        note(format!("what was learned until the error is in {}", shown_path(saved)));
    }
    let (ended, seconds) = (outcome?, begin.elapsed().as_secs_f64());
    let bad = run.bad();
    if bad.count > 0 {
        let were = if bad.count == 1 { "sample was" } else { "samples were" };
        warning(format!("{} bad {were} skipped: {}", bad.count, shown(&bad.first.join("; "))));
    }
    match ended {
        Ended::Finished => line(format!("trained in {}, loss {}", duration(run.seconds()), numbers::loss(run.state.loss.unwrap_or(f64::NAN)))),
        Ended::FinishedEarly => {
            let (step, folder, evaluation) = (run.trainer.step, quoted(&run.folder), &run.settings.evaluation);
            let best = match &run.state.best {
                Some(best) => format!("were not better than that of step {}, {}", best.step, best.figure(&evaluation.best_by)),
                None => "had no loss that is a number".into(),
            };
            line(format!(
                "trained in {}, loss {}; ended early, after step {step}, and saved: {} evaluations in a row {best} (evaluation.patience); \
                 `trimodal train --resume {folder} --set patience=0` goes on",
                duration(run.seconds()),
                numbers::loss(run.state.loss.unwrap_or(f64::NAN)),
                run.state.since_best
            ));
        }
        Ended::Stopped => {
            let (step, folder) = (run.trainer.step, quoted(&run.folder));
            line(format!("stopped after step {step}, saved; `trimodal train --resume {folder}` continues from there"));
        }
    }
    Ok(Trained { ended, seconds, tokens_per_second: tokens as f64 / seconds })
}

/// An evaluation in a few lines.
fn evaluated(step: usize, evaluation: &Evaluation) -> String {
    let mut text = format!("step {}: held out: loss {}, {} of the tokens right", thousands(step), numbers::loss(evaluation.loss), percent(evaluation.accuracy));
    if let Some(Scores { exact, attributes, .. }) = &evaluation.scores {
        text += &format!(", {} of the captions word for word", percent(*exact));
        attributes.iter().for_each(|(name, share)| text += &format!(", {} {}", shown(name), percent(*share)));
    }
    for (said, truth) in &evaluation.captions {
        let (said, truth) = (shown(super::words_or_nothing(said)), shown(truth));
        text += &if said == truth { format!("\n  = {said}") } else { format!("\n  ≠ {said}\n    ({truth})") };
    }
    text
}
