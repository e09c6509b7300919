//! A trace as text.

use super::{Ranked, fitted_table, wrapped};
use crate::numbers::significant;
use crate::trace::{Access, Span, SpanKind, Trace, TracedOperand};

/// Operands whose shapes a line shows.
const SHOWN: usize = 3;

/// The columns of the launches; the number says how early one is left out where not all fit.
const LAUNCHES: [Ranked; 11] = [
    ("phase, part, kernel", 0),
    ("what", 0),
    ("shapes", 5),
    ("ms", 0),
    ("% step", 0),
    ("MFLOP", 2),
    ("MB", 2),
    ("% ceiling", 1),
    ("+ live", 4),
    ("− live", 4),
    ("live MB", 3),
];
/// And those of the sums by kernel.
const KERNELS: [Ranked; 8] = [("by kernel", 0), ("times", 0), ("ms", 0), ("% step", 0), ("MFLOP", 2), ("MB", 2), ("% ceiling", 1), ("source", 1)];

/// One block of lines per phase and part of the model, its sum first; then a line for each of its launches, unless only the sums are
/// asked for (`summary`). Movements of memory are part of the sums only. After that the sums by kernel, and the whole step. No line is wider
/// than `width` columns: see [`fitted_table`].
pub fn trace_table(trace: &Trace, summary: bool, width: usize) -> String {
    let mut rows = Vec::new();
    for (phase, part, spans) in trace.groups() {
        rows.push(line(trace, &format!("{phase}: {part}"), &count(&spans), String::new(), &spans));
        if !summary {
            rows.extend(
                spans
                    .iter()
                    .filter(|s| s.kind == SpanKind::Kernel)
                    .map(|span| line(trace, &format!("  {}", span.name), &span.what, trace_shapes(span), &[span])),
            );
        }
    }
    let mut text = fitted_table(&LAUNCHES, &rows, width);

    let mut kernels: Vec<(&str, Vec<&Span>)> = Vec::new();
    for span in trace.spans.iter().filter(|s| s.kind == SpanKind::Kernel) {
        match kernels.iter_mut().find(|(name, _)| *name == span.name) {
            Some((_, spans)) => spans.push(span),
            None => kernels.push((&span.name, vec![span])),
        }
    }
    let seconds = |spans: &[&Span]| spans.iter().map(|s| s.seconds).sum::<f64>();
    kernels.sort_by(|a, b| seconds(&b.1).total_cmp(&seconds(&a.1)));
    let rows: Vec<Vec<String>> = kernels
        .iter()
        .map(|(name, spans)| {
            let [ms, share, flops, bytes, percent, ..] = figures(trace, spans);
            vec![name.to_string(), spans.len().to_string(), ms, share, flops, bytes, percent, spans[0].source.clone()]
        })
        .collect();
    text += "\n";
    text += &fitted_table(&KERNELS, &rows, width);
    text += "\n";
    text + &wrapped(&totals(trace), width, 10)
}

/// The whole step in a few lines.
fn totals(trace: &Trace) -> String {
    let (busy, wall) = (trace.busy(), trace.wall);
    let mut text = format!(
        "time      {:.3} ms by the host's clock; launches {:.3} ms ({:.1} %), gaps {:.3} ms\n          clock: {}\n",
        1e3 * wall,
        1e3 * busy,
        100.0 * busy / wall,
        1e3 * trace.gaps(),
        trace.clock
    );
    text += &format!("work      {:.3} GFLOP, of which {:.3} in products", trace.flops() as f64 / 1e9, trace.products() as f64 / 1e9);
    if let Some(formula) = trace.formula {
        let share = 100.0 * trace.products() as f64 / formula.max(1) as f64;
        text += &format!("; 6 · parameters · rows + attention gives {:.3} ({share:.1} %)", formula as f64 / 1e9);
    }
    text += &format!(
        "\nmemory    at most {:.2} MB of what the step writes are needed at a time; {:.2} MB moved by contract\n",
        trace.peak_live() as f64 / 1e6,
        trace.spans.iter().map(|s| s.bytes).sum::<u64>() as f64 / 1e6
    );
    text
}

fn line(trace: &Trace, name: &str, what: &str, shapes: String, spans: &[&Span]) -> Vec<String> {
    let [ms, share, flops, bytes, percent, made, freed, live] = figures(trace, spans);
    vec![name.to_string(), what.to_string(), shapes, ms, share, flops, bytes, percent, made, freed, live]
}

/// The sums of some spans: ms, % of the step, MFLOP, MB, % of the ceiling, MB made live, freed, and live after them.
fn figures(trace: &Trace, spans: &[&Span]) -> [String; 8] {
    let sum = |of: fn(&Span) -> u64| spans.iter().map(|s| of(s)).sum::<u64>() as f64 / 1e6;
    let seconds: f64 = spans.iter().map(|s| s.seconds).sum();
    // The ceiling's share of the time that it knows something about.
    let rated = || spans.iter().filter_map(|s| s.percent.map(|percent| (percent, s.seconds)));
    let time: f64 = rated().map(|(_, seconds)| seconds).sum();
    let percent = rated().map(|(percent, seconds)| percent * seconds).sum::<f64>() / time;
    let bound = match spans {
        [span] => span.bound.map_or("", |b| if b == "memory" { " mem" } else { " flop" }),
        _ => "",
    };
    let some = |value: f64| if value == 0.0 { String::new() } else { digits(value) };
    [
        digits(1e3 * seconds),
        format!("{:.1}", 100.0 * seconds / trace.wall),
        some(sum(|s| s.flops)),
        some(sum(|s| s.bytes)),
        if time > 0.0 { format!("{percent:.0}{bound}") } else { "–".into() },
        some(sum(|s| s.made_live)),
        some(sum(|s| s.freed)),
        spans.last().map_or(String::new(), |s| digits(s.live as f64 / 1e6)),
    ]
}

/// Enough for any measurement.
fn digits(value: f64) -> String {
    significant(value, 4)
}

fn count(spans: &[&Span]) -> String {
    let kernels = spans.iter().filter(|s| s.kind == SpanKind::Kernel).count();
    match (kernels, spans.len() - kernels) {
        (kernels, 0) => format!("{kernels} launches"),
        (0, moves) => format!("{moves} moves of memory"),
        (kernels, moves) => format!("{kernels} launches, {moves} moves"),
    }
}

/// The shapes of what a span reads and writes: `a[64,32] b[16,32] → c[64,16]`.
pub fn trace_shapes(span: &Span) -> String {
    let list = |keep: fn(&TracedOperand) -> bool| {
        let shown: Vec<String> = span.operands.iter().filter(|o| keep(o)).map(shape).collect();
        let more = if shown.len() > SHOWN { " …" } else { "" };
        shown.into_iter().take(SHOWN).collect::<Vec<_>>().join(" ") + more
    };
    let (read, written) = (list(|o| o.access == Access::Read), list(|o| o.access != Access::Read));
    match (read.is_empty(), written.is_empty()) {
        (false, false) => format!("{read} → {written}"),
        (true, false) => format!("→ {written}"),
        _ => read,
    }
}

/// `x[64,32]`
fn shape(operand: &TracedOperand) -> String {
    let sizes: Vec<String> = operand.shape.iter().map(ToString::to_string).collect();
    format!("{}[{}]", operand.name, sizes.join(","))
}
