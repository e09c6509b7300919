//! The trace in the event format of Chrome's tracing, which Perfetto reads too ("Trace Event Format", Google, 2016).

use super::{Span, SpanKind, Trace};
use serde_json::{Value, json};

/// One process, one track: phases hold parts, parts hold launches, because events that lie within others are drawn below them.
pub(super) fn json(trace: &Trace) -> String {
    let micros = |seconds: f64| (seconds * 1e9).round() / 1e3;
    let event = |name: &str, category: &str, start: f64, end: f64, args: Value| json!({ "name": name, "cat": category, "ph": "X", "pid": 1, "tid": 1, "ts": micros(start), "dur": micros(end) - micros(start), "args": args });
    let mut events = vec![
        json!({ "name": "process_name", "ph": "M", "pid": 1, "args": { "name": format!("trimodal: {}", trace.device) } }),
        json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": { "name": "one training step" } }),
    ];
    for (phase, spans) in runs(&trace.spans, |a, b| a.phase == b.phase) {
        events.push(event(&spans[0].phase.to_string(), "phase", phase.0, phase.1, json!({})));
        for (part, spans) in runs(spans, |a, b| a.part == b.part) {
            events.push(event(&spans[0].part.to_string(), "part", part.0, part.1, json!({})));
            for span in spans {
                let operands: Vec<Value> = span.operands.iter().map(|o| json!(format!("{} {} {:?}", o.name, o.dtype, o.shape))).collect();
                let category = if span.kind == SpanKind::Kernel { "kernel" } else { "memory" };
                let args = json!({
                    "what": span.what, "source": span.source, "operands": operands, "groups": span.groups, "flops": span.flops, "bytes": span.bytes,
                    "percent_of_ceiling": span.percent, "made_live": span.made_live, "freed": span.freed,
                });
                events.push(event(&span.name, category, span.start, span.start + span.seconds, args));
            }
        }
    }
    for span in &trace.spans {
        let end = micros(span.start + span.seconds);
        events.push(json!({ "name": "live bytes", "ph": "C", "pid": 1, "ts": end, "args": { "bytes": span.live } }));
    }
    let about = json!({ "clock": trace.clock, "wall_seconds": trace.wall, "tool": concat!("trimodal ", env!("CARGO_PKG_VERSION")) });
    serde_json::to_string(&json!({ "traceEvents": events, "displayTimeUnit": "ms", "otherData": about })).expect("strings and finite numbers") + "\n"
}

/// Stretches of spans that belong together, each with when it begins and ends.
pub(super) fn runs(spans: &[Span], same: impl Fn(&Span, &Span) -> bool + 'static) -> impl Iterator<Item = ((f64, f64), &[Span])> {
    spans.chunk_by(move |a, b| same(a, b)).map(|run| {
        let end = run.iter().map(|s| s.start + s.seconds).fold(0.0, f64::max);
        ((run[0].start, end), run)
    })
}
