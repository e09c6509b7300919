//! Which tensors are needed between which spans.

use super::{Access, Span, TensorId};
use std::collections::HashMap;

/// Contents of a tensor that something reads later.
struct Value {
    bytes: u64,
    made: usize,
    last: Option<usize>,
}

/// Fills in what every span makes live and frees.
///
/// Contents begin with the launch that overwrites a tensor and end with the last one that reads them before it is overwritten again. What
/// was there before the trace began (parameters, moments) does not count. Contents that nothing reads before the end stay live: they are
/// results.
pub(super) fn fill(spans: &mut [Span]) {
    let mut current: HashMap<TensorId, Value> = HashMap::new();
    let mut done: Vec<Value> = Vec::new();
    for (i, span) in spans.iter().enumerate() {
        // What a launch reads is read before it writes.
        for operand in span.operands.iter().filter(|o| o.access != Access::Write) {
            if let Some(value) = current.get_mut(&operand.id) {
                value.last = Some(i);
            }
        }
        for operand in span.operands.iter().filter(|o| o.access == Access::Write && o.size > 0) {
            let new = Value { bytes: operand.size, made: i, last: None };
            done.extend(current.insert(operand.id, new).map(|old| Value { last: Some(old.last.unwrap_or(old.made)), ..old }));
        }
    }
    done.extend(current.into_values());
    for value in done {
        spans[value.made].made_live += value.bytes;
        if let Some(last) = value.last {
            spans[last].freed += value.bytes;
        }
    }
    let mut live = 0;
    for span in spans {
        live = live + span.made_live - span.freed;
        span.live = live;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ModelPart, Phase, SpanKind, TracedOperand};
    use super::*;

    fn span(operands: &[(usize, Access)]) -> Span {
        let operand = |&(id, access): &(usize, Access)| TracedOperand {
            name: String::new(),
            tensor: None,
            shape: Vec::new(),
            dtype: String::new(),
            access,
            bytes: 0,
            values: None,
            id: TensorId(id as u64),
            size: 10u64.pow(id as u32),
        };
        Span {
            kind: SpanKind::Kernel,
            name: String::new(),
            op: String::new(),
            call: None,
            phase: Phase::Other,
            part: ModelPart::Whole,
            what: String::new(),
            source: String::new(),
            operands: operands.iter().map(operand).collect(),
            groups: 0,
            start: 0.0,
            seconds: 0.0,
            flops: 0,
            products: 0,
            bytes: 0,
            made_live: 0,
            freed: 0,
            live: 0,
            percent: None,
            bound: None,
        }
    }

    #[test]
    fn contents_live_from_their_writer_to_their_last_reader() {
        use Access::{Read, Update, Write};
        let mut spans = [
            span(&[(0, Read), (1, Write)]),              // 0 was there before
            span(&[(1, Read), (2, Write)]),              // 1 is read for the last time: it is overwritten next
            span(&[(2, Read), (1, Write)]),              // 2 is read once more
            span(&[(1, Read), (2, Update), (3, Write)]), // 1 ends, 3 is never read: a result
            span(&[(2, Read), (4, Write)]),              // 4 is overwritten before anybody reads it
            span(&[(4, Write)]),
        ];
        fill(&mut spans);
        let found: Vec<_> = spans.iter().map(|s| (s.made_live, s.freed, s.live)).collect();
        assert_eq!(found, [(10, 0, 10), (100, 10, 100), (10, 0, 110), (1000, 10, 1100), (10_000, 10_100, 1000), (10_000, 0, 11_000)]);
    }
}
