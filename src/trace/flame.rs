//! The step as a flame graph: time from left to right, the step above its phases, those above their parts, those above the launches.

use super::perfetto::runs;
use super::{Span, SpanKind, Trace};
use crate::markup::escape;
use std::fmt::Write;

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
    let height = TOP + 4.0 * ROW + 56.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"flame graph of one training step\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let head =
        format!("One training step on {}: {:.3} ms, launches {:.3} ms, gaps {:.3} ms", trace.device, 1e3 * trace.wall, 1e3 * trace.busy(), 1e3 * trace.gaps());
    let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"26\" font-size=\"16\">{}</text>", escape(&head));
    let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"46\" fill=\"#444444\">{}</text>", escape(trace.clock));
    let mut draw = |row: usize, start: f64, end: f64, fill: &str, label: &str, title: &str| {
        let scale = (WIDTH - 2.0 * MARGIN) / wall;
        let (x, width) = (MARGIN + start * scale, (end - start) * scale);
        let y = TOP + row as f64 * ROW;
        let _ = write!(
            svg,
            "<g><title>{}</title><rect x=\"{x:.3}\" y=\"{y}\" width=\"{width:.3}\" height=\"{}\" fill=\"{fill}\" stroke=\"#ffffff\" stroke-width=\"{}\"/>",
            escape(title),
            ROW - 1.0,
            if width > 2.0 { 0.5 } else { 0.0 },
        );
        let letters = ((width - 6.0) / LETTER) as usize;
        if letters >= 3 {
            let shown: String = label.chars().take(letters).collect();
            let _ = write!(svg, "<text x=\"{:.2}\" y=\"{}\">{}</text>", x + 3.0, y + 16.0, escape(&shown));
        }
        svg.push_str("</g>\n");
    };
    let share = |seconds: f64| format!("{:.3} ms, {:.1} %", 1e3 * seconds, 100.0 * seconds / wall);
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
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            COLOURS[i % COLOURS.len()],
            x + 16.0,
            y + 11.0,
            escape(op)
        );
        x += 34.0 + LETTER * op.len() as f64;
    }
    svg + "</svg>\n"
}
