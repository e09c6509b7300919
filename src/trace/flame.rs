//! The step as a flame graph: time from left to right, the step above its phases, those above their parts, those above the launches.

use super::perfetto::runs;
use super::{Span, SpanKind, Trace};
use crate::markup::svg::{Pen, Svg, Words};
use crate::numbers::percent;

const WIDTH: f64 = 1400.0;
const MARGIN: f64 = 12.0;
const ROW: f64 = 24.0;
const TOP: f64 = 64.0;
/// What a letter takes, about.
const LETTER: f64 = 6.4;
/// Fills that black text can be read on.
const COLOURS: [&str; 12] =
    ["#9ecae1", "#fdae6b", "#a1d99b", "#bcbddc", "#fdd0a2", "#c7e9c0", "#dadaeb", "#f4a6a6", "#f1e08a", "#c9b59a", "#8fd8d2", "#e7b8e0"];
const PHASES: &str = "#d9d9d9";
const PARTS: &str = "#efefef";
const MEMORY: &str = "#cfcfcf";

/// Draws it.
pub(super) fn svg(trace: &Trace) -> String {
    let wall = trace.wall.max(trace.spans.iter().map(|s| s.start + s.seconds).fold(0.0, f64::max)).max(f64::MIN_POSITIVE);
    let mut ops: Vec<&str> = Vec::new();
    for span in trace.spans.iter().filter(|s| s.kind == SpanKind::Kernel) {
        if !ops.contains(&span.op.as_str()) {
            ops.push(&span.op);
        }
    }
    let colour = |span: &Span| ops.iter().position(|op| *op == span.op).map_or(MEMORY, |i| COLOURS[i % COLOURS.len()]);
    let mut svg = Svg::default();
    let head =
        format!("One training step on {}: {:.3} ms, launches {:.3} ms, gaps {:.3} ms", trace.device, 1e3 * trace.wall, 1e3 * trace.busy(), 1e3 * trace.gaps());
    svg.text((MARGIN, 26.0), &head, Words::START.size(16.0));
    svg.text((MARGIN, 46.0), trace.clock, Words::START.colour("#444444"));
    let mut draw = |row: usize, start: f64, end: f64, fill: &str, label: &str, title: &str| {
        let scale = (WIDTH - 2.0 * MARGIN) / wall;
        let (x, width) = (MARGIN + start * scale, (end - start) * scale);
        let y = TOP + row as f64 * ROW;
        svg.group(title, |svg| {
            svg.rect((x, y, width, ROW - 1.0), Pen::fill(fill).around("#ffffff", if width > 2.0 { 0.5 } else { 0.0 }));
            let letters = ((width - 6.0) / LETTER) as usize;
            if letters >= 3 {
                svg.text((x + 3.0, y + 16.0), &label.chars().take(letters).collect::<String>(), Words::START);
            }
        });
    };
    let share = |seconds: f64| format!("{:.3} ms, {}", 1e3 * seconds, percent(seconds / wall));
    draw(0, 0.0, trace.wall, "#bdbdbd", "step", &format!("step: {}", share(trace.wall)));
    for ((start, end), spans) in runs(&trace.spans, |a, b| a.phase == b.phase) {
        let name = spans[0].phase.to_string();
        draw(1, start, end, PHASES, &name, &format!("{name}: {}", share(end - start)));
        for ((start, end), spans) in runs(spans, |a, b| a.part == b.part) {
            let part = spans[0].part.to_string();
            draw(2, start, end, PARTS, &part, &format!("{name}, {part}: {}", share(end - start)));
            for span in spans.iter().filter(|s| s.seconds > 0.0) {
                let label = if span.what.is_empty() { span.name.clone() } else { format!("{} {}", span.what, span.name) };
                let title =
                    format!("{label} ({name}, {part}): {}, {:.3} GFLOP, {:.3} MB", share(span.seconds), span.flops as f64 / 1e9, span.bytes as f64 / 1e6);
                draw(3, span.start, span.start + span.seconds, colour(span), &label, &title);
            }
        }
    }
    let mut x = MARGIN;
    let y = TOP + 4.0 * ROW + 16.0;
    for (i, op) in ops.iter().enumerate() {
        svg.rect((x, y, 12.0, 12.0), Pen::fill(COLOURS[i % COLOURS.len()]));
        svg.text((x + 16.0, y + 11.0), op, Words::START);
        x += 34.0 + LETTER * op.len() as f64;
    }
    svg.file((WIDTH, TOP + 4.0 * ROW + 56.0), 12.0, "flame graph of one training step")
}
