//! Where the time of a step goes, kernel by kernel, under the roof of the device.

use super::super::page::{Cell, Page};
use super::super::roofline::{Mark, marks_svg};
use crate::numbers::duration;
use crate::roofline::Ceilings;
use crate::trace::{SpanKind, Trace};

/// Rows of the table; the kernels below them share one more.
const ROWS: usize = 16;

/// Times of a training step.
pub struct Kernels {
    /// Which step, and which clock.
    pub about: String,
    /// What the device does at best.
    pub ceilings: Ceilings,
    /// The wall time of the step, in seconds.
    pub wall: f64,
    /// Every kernel once: all its launches in the step together.
    pub times: Vec<Time>,
}

/// What the launches of a kernel took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Time {
    /// The kernel: `matmul.tile_nt`; on the CPU an operation's pass.
    pub name: String,
    /// Its launches.
    pub launches: usize,
    /// Seconds of all of them.
    pub seconds: f64,
    /// Seconds that they would take at best; 0 where the device's ceilings are not known.
    pub least: f64,
    /// Floating-point operations of the contract.
    pub flops: u64,
    /// Bytes of the contract.
    pub bytes: u64,
}

impl Time {
    fn add(&mut self, other: &Time) {
        self.launches += other.launches;
        (self.seconds, self.least) = (self.seconds + other.seconds, self.least + other.least);
        (self.flops, self.bytes) = (self.flops + other.flops, self.bytes + other.bytes);
    }
}

impl Kernels {
    /// The kernels of a trace.
    pub fn of(mut trace: Trace, ceilings: Ceilings, about: String) -> Self {
        trace.rate(&ceilings);
        let mut times: Vec<Time> = Vec::new();
        for span in &trace.spans {
            let name = if span.kind == SpanKind::Kernel { span.name.clone() } else { "memory".to_string() };
            let least = span.percent.map_or(0.0, |percent| span.seconds * percent / 100.0);
            let time = Time { name, launches: 1, seconds: span.seconds, least, flops: span.flops, bytes: span.bytes };
            match times.iter_mut().find(|other| other.name == time.name) {
                Some(other) => other.add(&time),
                None => times.push(time),
            }
        }
        Kernels { about, ceilings, wall: trace.wall, times }
    }

    pub(super) fn add(&self, page: &mut Page) {
        let all: f64 = self.times.iter().map(|t| t.seconds).sum();
        let share = |seconds: f64| seconds / all.max(f64::MIN_POSITIVE);
        let mut times: Vec<&Time> = self.times.iter().filter(|t| t.seconds > 0.0).collect();
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let marks: Vec<Mark> = times
            .iter()
            .map(|t| Mark {
                name: &t.name,
                intensity: t.flops as f64 / t.bytes.max(1) as f64,
                flops_per_second: t.flops as f64 / t.seconds,
                share: share(t.seconds),
            })
            .collect();
        page.text(&format!("{}: {}, of which no kernel covers {}.", self.about, duration(self.wall), duration((self.wall - all).max(0.0))));
        let caption = "A mark's area is its part of the time. Left of the corner a kernel waits for memory at best, right of it for arithmetic; \
                       what fits into a cache may be above the slope.";
        let figure = marks_svg("what each kernel reaches", &self.ceilings, &marks);
        let row = |t: &Time| {
            let rate = |n: u64| format!("{:.1}", n as f64 / t.seconds / 1e9);
            let best = if t.least > 0.0 { format!("{:.0}\u{a0}%", 100.0 * t.least / t.seconds) } else { "–".into() };
            let cells = [t.launches.to_string(), format!("{:.3}", 1e3 * t.seconds), rate(t.flops), rate(t.bytes), best];
            let bar = Cell::Share { share: share(t.seconds), mark: None };
            [Cell::from(t.name.as_str()), bar].into_iter().chain(cells.map(Cell::from)).collect::<Vec<_>>()
        };
        let mut rows: Vec<_> = times.iter().take(ROWS).map(|t| row(t)).collect();
        if let Some(rest) = times.get(ROWS..).filter(|rest| !rest.is_empty()) {
            let mut sum = Time { name: format!("{} more", rest.len()), ..Time::default() };
            rest.iter().for_each(|t| sum.add(t));
            rows.push(row(&sum));
        }
        let header = ["", "of the time", "launches", "ms", "GFLOP/s", "GB/s", "of the ceiling"];
        page.beside(|page| {
            page.figure(&figure, caption);
            page.sortable("Time per kernel in one step", &header, &rows);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_added_up() {
        let time = |i: usize| Time { name: format!("k{i}"), launches: i, seconds: i as f64 * 1e-3, least: 5e-4 * i as f64, flops: 100, bytes: 10 };
        let kernels = |times| Kernels { about: "a step".into(), ceilings: Ceilings::default(), wall: 0.22, times };
        let mut page = Page::new("t", "l");
        page.section("s");
        kernels((1..=20).map(time).collect()).add(&mut page);
        let html = page.html();
        assert!(
            html.contains("<th scope=row>4 more") && html.contains(">10.000<") && html.contains(">50\u{a0}%<") && !html.contains("<th scope=row>k4<"),
            "{html}"
        );
        assert!(html.contains("a step: 0.220 s, of which no kernel covers 10.0 ms."));
        kernels(Vec::new()).add(&mut page);
    }
}
