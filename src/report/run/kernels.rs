//! Where the time of a step goes, kernel by kernel, under the roof of the device.

use super::super::page::{Cell, Page};
use super::super::roofline::{Mark, marks_svg};
use crate::bench::Ceilings;
use crate::error::Result;

/// Rows of the table; what is below them is one more.
const ROWS: usize = 16;

/// Times of a training step.
pub struct Kernels<'a> {
    /// What stopped the time, and of which step.
    pub about: &'a str,
    /// What the device does at best.
    pub ceilings: Ceilings,
    /// Every kernel once: all its launches in the step together.
    pub times: &'a [Time],
}

/// What the launches of a kernel took.
#[derive(Clone, Debug, PartialEq)]
pub struct Time {
    /// The kernel: `matmul.tile_nt`.
    pub name: String,
    /// Its launches.
    pub launches: usize,
    /// Seconds of all of them.
    pub seconds: f64,
    /// Floating-point operations of the contract.
    pub flops: u64,
    /// Bytes of the contract.
    pub bytes: u64,
}

impl Kernels<'_> {
    pub(super) fn add(&self, page: &mut Page) -> Result<()> {
        let all: f64 = self.times.iter().map(|t| t.seconds).sum();
        let mut times: Vec<&Time> = self.times.iter().filter(|t| t.seconds > 0.0).collect();
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let share = |seconds: f64| seconds / all.max(f64::MIN_POSITIVE);
        let marks: Vec<Mark> = times
            .iter()
            .map(|t| Mark {
                name: &t.name,
                intensity: t.flops as f64 / t.bytes.max(1) as f64,
                flops_per_second: t.flops as f64 / t.seconds,
                share: share(t.seconds),
            })
            .collect();
        page.text(&format!("{}: {:.2} ms in all.", self.about, 1e3 * all));
        let caption = "A mark's area is its part of the time. What lies under the slope waits for memory at best, what lies under a level for arithmetic.";
        page.figure(&marks_svg("What each kernel reaches", &self.ceilings, &marks)?, caption);
        let row = |name: &str, launches: usize, seconds: f64, flops: u64, bytes: u64| {
            let rate = |n: u64, unit: f64| format!("{:.1}", n as f64 / seconds / unit);
            let cells = [launches.to_string(), format!("{:.3}", 1e3 * seconds), rate(flops, 1e9), rate(bytes, 1e9)];
            let bar = Cell::Share { share: share(seconds), chance: None };
            [Cell::from(name), bar].into_iter().chain(cells.map(Cell::from)).collect::<Vec<_>>()
        };
        let mut rows: Vec<_> = times.iter().take(ROWS).map(|t| row(&t.name, t.launches, t.seconds, t.flops, t.bytes)).collect();
        if let Some(rest) = times.get(ROWS..).filter(|rest| !rest.is_empty()) {
            let sum = |of: fn(&Time) -> u64| rest.iter().map(|t| of(t)).sum::<u64>();
            let seconds = rest.iter().map(|t| t.seconds).sum();
            rows.push(row(&format!("{} more", rest.len()), sum(|t| t.launches as u64) as usize, seconds, sum(|t| t.flops), sum(|t| t.bytes)));
        }
        page.table("Time per kernel in one step", &["kernel", "of the time", "launches", "ms", "GFLOP/s", "GB/s"], &rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_added_up() {
        let times: Vec<Time> = (1..=20).map(|i| Time { name: format!("k{i}"), launches: i, seconds: i as f64 * 1e-3, flops: 100, bytes: 10 }).collect();
        let mut page = Page::new("t", "l");
        page.section("s");
        Kernels { about: "a step", ceilings: Ceilings::default(), times: &times }.add(&mut page).unwrap();
        let html = page.html();
        assert!(html.contains("<th scope=row>4 more") && html.contains(">10.000<") && !html.contains("<th scope=row>k4<"), "{html}");
        assert!(html.contains("a step: 210.00 ms in all."));
        Kernels { about: "nothing", ceilings: Ceilings::default(), times: &[] }.add(&mut page).unwrap();
    }
}
