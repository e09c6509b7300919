//! The score card: what a run of the benchmark found, as JSON. `docs/score-card.md` says what every field means.

pub use super::conditions::Conditions;
use crate::error::Result;
use crate::files::write_file_atomic;
pub use crate::roofline::Ceilings;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The schema's name and version. A field may be added under the same version; one that changes its meaning makes a new one.
pub const SCHEMA: &str = "trimodal-card/1";

/// The standard error above which a row is unsure: a part of the mean.
pub const UNSURE: f64 = 0.02;
/// How far ceilings may move during a run, in per cent.
pub const DRIFT: f64 = 5.0;

/// A run of the benchmark, or of a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Card {
    /// [`SCHEMA`].
    pub schema: String,
    /// Who measured: `trimodal 0.1.0`, `pytorch 2.9.0`.
    pub tool: String,
    /// When the run began, in UTC: `2026-11-24T08:30:00Z`.
    pub date: String,
    /// What it ran on.
    pub device: About,
    /// What else happened on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    /// How it measured.
    pub method: Method,
    /// What the device does at best, measured in the same run: of each kind the larger one of before and after.
    pub ceilings: Ceilings,
    /// As they were before the first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings_before: Option<Ceilings>,
    /// As they were after the last row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings_after: Option<Ceilings>,
    /// How far the ceiling that moved most had moved after the last row, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// Why these figures may not be right; empty where nothing speaks against them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// One per entry, shape and dtype.
    pub rows: Vec<BenchRow>,
    /// What was asked for and not measured, each with its reason.
    pub left_out: Vec<LeftOut>,
    /// Whether ctrl-C ended the run before its last row.
    pub interrupted: bool,
    /// The card that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
}

/// A device. What the platform does not report is absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// `cpu`, `wgpu` or `cuda`; `webgpu` in a card of the page that `trimodal web` serves.
    pub kind: String,
    /// Its name, as the driver or the system gives it.
    pub name: String,
    /// The driver and its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Clock rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks: Option<String>,
    /// Power: drawn and allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Threads of a CPU, multiprocessors of a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<usize>,
    /// Bytes of the last cache before memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
}

/// How the times were measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Method {
    /// The clock.
    pub timer: String,
    /// What the operands hold.
    pub inputs: String,
    /// How the caches are kept cold.
    pub rotation: String,
    /// When a row has enough samples.
    pub samples: String,
    /// The sets of sizes.
    pub shapes: Vec<String>,
    /// Whether it was a first look (`--quick`).
    pub quick: bool,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

/// One timed call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchRow {
    /// The operation; `step` is a whole training step.
    pub op: String,
    /// The entry with its rung: `forward`, `forward:naive`.
    pub entry: String,
    /// `forward`, `backward`, or for an operation with neither its entry.
    pub pass: String,
    /// The set of sizes that it belongs to.
    pub set: String,
    /// The sizes.
    pub shape: String,
    /// What activations and weights are: `f32` or `bf16`.
    pub dtype: String,
    /// Seconds of one call.
    pub seconds: Seconds,
    /// Whether the standard error was still above 2 % of the mean when the row's time was up.
    #[serde(default)]
    pub unsure: bool,
    /// Samples; each is the mean over `calls` calls.
    pub samples: usize,
    /// Calls per sample.
    pub calls: usize,
    /// Sets of buffers that calls take turns with.
    pub buffers: usize,
    /// Floating-point operations of one call, counted from the contract.
    pub flops: u64,
    /// Bytes of one call, counted from the contract: every input read once, every output written once. Absent for a training step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of these, the bytes of outputs that are overwritten without being read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwritten_bytes: Option<u64>,
    /// Bytes of all buffers that calls take turns with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_bytes: Option<u64>,
    /// 10¹² floating-point operations per second.
    pub tflops: f64,
    /// 10⁹ bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gbytes: Option<f64>,
    /// Operations per byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intensity: Option<f64>,
    /// Which ceiling is the lower one here: `memory` or `compute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
    /// Percent of the lower ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Why it is above 100 %, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<String>,
    /// Rows of the token matrix per second, for a training step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// The same work by others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// What has changed since the card that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// Times of one call, in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Seconds {
    /// Of the samples.
    pub median: f64,
    /// Of the samples.
    pub min: f64,
    /// Of the samples.
    pub max: f64,
    /// Of the mean, divided by it.
    pub standard_error: f64,
}

/// Another library on the same operation, shape and dtype.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its name and version.
    pub name: String,
    /// Which of its kernels.
    pub entry: String,
    /// The median of one call, in seconds.
    pub seconds: f64,
    /// Its time divided by ours: above 1 we are faster.
    pub ratio: f64,
    /// Whether the standard error of its time is above 2 % of the mean.
    #[serde(default)]
    pub unsure: bool,
}

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

/// Something that was not measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// Operation, entry, sizes and dtype.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Seconds {
    /// Whether the standard error is too large to rely on the median.
    pub fn is_unsure(&self) -> bool {
        self.standard_error > UNSURE
    }

    /// The statistics of samples.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let Some((&min, &max)) = sorted.first().zip(sorted.last()) else {
            return Seconds { median: f64::NAN, min: f64::NAN, max: f64::NAN, standard_error: f64::NAN };
        };
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let variance = sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n.max(2) - 1) as f64;
        Seconds { median: (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0, min, max, standard_error: (variance / n as f64).sqrt() / mean }
    }
}

impl BenchRow {
    /// Fills in what follows from the median, the counts and the ceilings.
    pub fn rate(&mut self, ceilings: &Ceilings) {
        let time = self.seconds.median;
        self.tflops = self.flops as f64 / time / 1e12;
        self.gbytes = self.bytes.map(|bytes| bytes as f64 / time / 1e9);
        self.intensity = self.bytes.map(|bytes| self.flops as f64 / bytes.max(1) as f64);
        if let Some((least, bound)) = ceilings.least(self.flops, self.bytes, self.dtype == "bf16") {
            self.bound = Some(bound.into());
            self.percent = Some(100.0 * least / time);
        }
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        format!("{} {} {} {}", self.op, self.entry, self.shape, self.dtype)
    }
}

impl Card {
    /// Whether the run was as it should be: nothing speaks against its figures.
    pub fn is_sure(&self) -> bool {
        self.doubts.is_empty() && !self.interrupted
    }

    /// The card as JSON, with a line break at its end.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and finite numbers") + "\n"
    }

    /// Writes the card.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_file_atomic(path, self.json())
    }

    /// The peer's name and version. What its build for a GPU is called (`+cu132`) says nothing about a row of a processor.
    fn name_for_rows(&self) -> String {
        let plain = if self.device.kind == "cpu" { self.tool.split('+').next() } else { None };
        plain.unwrap_or(&self.tool).to_string()
    }

    /// Puts a peer's times beside ours: those of the same operation, pass, sizes and dtype, to every rung. Returns how many of its
    /// rows found one.
    pub fn merge(&mut self, peer: &Card) -> usize {
        let mut found = 0;
        for theirs in &peer.rows {
            let mut any = false;
            for ours in &mut self.rows {
                if (&ours.op, &ours.pass, &ours.shape, &ours.dtype) == (&theirs.op, &theirs.pass, &theirs.shape, &theirs.dtype) {
                    let seconds = theirs.seconds.median;
                    ours.peers.push(Peer {
                        name: peer.name_for_rows(),
                        entry: theirs.entry.clone(),
                        seconds,
                        ratio: seconds / ours.seconds.median,
                        unsure: theirs.seconds.is_unsure(),
                    });
                    any = true;
                }
            }
            found += any as usize;
        }
        found
    }
}

/// `2026-11-24T08:30:00Z` for so many seconds since 1970.
pub(super) fn utc(seconds: u64) -> String {
    // Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the leap day is their last.
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn row(op: &str, entry: &str, shape: &str, median: f64) -> BenchRow {
        BenchRow {
            op: op.into(),
            entry: entry.into(),
            pass: entry.split(':').next().unwrap_or_default().into(),
            set: "demo".into(),
            shape: shape.into(),
            dtype: "f32".into(),
            seconds: Seconds { median, min: median, max: median, standard_error: 0.001 },
            samples: 20,
            calls: 1,
            buffers: 3,
            flops: 2_000_000,
            bytes: Some(1_000_000),
            overwritten_bytes: None,
            rotated_bytes: None,
            tflops: 0.0,
            gbytes: None,
            intensity: None,
            bound: None,
            percent: None,
            above: None,
            tokens_per_second: None,
            peers: Vec::new(),
            unsure: false,
            change: None,
        }
    }

    pub fn card(rows: Vec<BenchRow>) -> Card {
        Card {
            schema: SCHEMA.into(),
            tool: "trimodal 0.0.0".into(),
            date: utc(0),
            device: About { kind: "cpu".into(), name: "a processor".into(), driver: None, clocks: None, power: None, cores: Some(2), cache_bytes: None },
            conditions: None,
            method: Method {
                timer: "a clock".into(),
                inputs: "normals".into(),
                rotation: "yes".into(),
                samples: "20".into(),
                shapes: vec!["demo".into()],
                quick: false,
                seconds: 1.0,
            },
            ceilings: Ceilings { copy_bytes_per_second: Some(1e10), f32_flops_per_second: Some(1e11), ..Default::default() },
            ceilings_before: None,
            ceilings_after: None,
            drift: None,
            doubts: Vec::new(),
            rows,
            left_out: Vec::new(),
            interrupted: false,
            against: None,
        }
    }

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn statistics() {
        let s = Seconds::of(&[3.0, 1.0, 2.0, 10.0]);
        assert_eq!((s.median, s.min, s.max), (2.5, 1.0, 10.0));
        assert!((s.standard_error - (16.666_666f64 / 4.0).sqrt() / 4.0).abs() < 1e-6);
        assert_eq!(Seconds::of(&[2.0]).standard_error, 0.0);
    }

    #[test]
    fn what_speaks_against_the_figures_is_said() {
        let mut card = card(vec![row("matmul", "forward", "a", 2.0), row("matmul", "forward", "b", 1e-6), row("matmul", "forward", "c", 1.0)]);
        card.rows[0].seconds.standard_error = 0.03;
        card.drift = Some(-12.0);
        card.rate();
        assert_eq!(card.rows.iter().map(|row| (row.unsure, row.above.is_some())).collect::<Vec<_>>(), [(true, false), (false, true), (false, false)]);
        let doubts = card.doubts_of_rows();
        for (doubt, part) in doubts.iter().zip(["moved by -12 %", "1 of 3 rows: the standard error", "1 of 3 rows above 100 %"]) {
            assert!(doubt.contains(part), "{doubt}");
        }
        assert_eq!(doubts.len(), 3);
        assert!(card.is_sure() && !Card { doubts, ..card.clone() }.is_sure() && !Card { interrupted: true, ..card }.is_sure());
    }

    #[test]
    fn the_lower_ceiling_counts() {
        let ceilings = Ceilings { copy_bytes_per_second: Some(1e10), f32_flops_per_second: Some(1e11), ..Default::default() };
        // 1 MB takes 100 µs at 10 GB/s, 2 MFLOP take 20 µs at 100 GFLOP/s.
        let mut memory = row("swiglu", "forward", "x", 200e-6);
        memory.rate(&ceilings);
        assert_eq!((memory.bound.as_deref(), memory.percent.map(f64::round)), (Some("memory"), Some(50.0)));
        let mut compute = BenchRow { flops: 200_000_000, ..memory };
        compute.rate(&ceilings);
        assert_eq!(compute.bound.as_deref(), Some("compute"));
    }

    #[test]
    fn a_card_comes_back_as_it_was_and_peers_find_their_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.json");
        let mut ours = card(vec![row("matmul", "forward", "a", 2.0), row("matmul", "forward:naive", "a", 8.0), row("matmul", "forward", "b", 1.0)]);
        ours.rate();
        ours.save(&path).unwrap();
        assert_eq!(Card::load(&path).unwrap().json(), ours.json());
        let theirs = Card { tool: "peer 1".into(), ..card(vec![row("matmul", "forward:addmm", "a", 4.0), row("matmul", "forward", "c", 1.0)]) };
        assert_eq!(ours.merge(&theirs), 1);
        assert_eq!(ours.rows.iter().map(|r| r.peers.iter().map(|p| p.ratio).collect::<Vec<_>>()).collect::<Vec<_>>(), [vec![2.0], vec![0.5], vec![]]);
        let theirs = Card { tool: "pytorch 2.15.0+cu132".into(), ..card(vec![row("matmul", "forward:mm", "b", 1.0)]) };
        ours.merge(&theirs);
        assert_eq!(ours.rows[2].peers[0].name, "pytorch 2.15.0", "a processor's row does not name a build for CUDA");
        for (text, expected) in [("{}", "not a score card"), ("[", "not a score card"), (r#"{"schema": "trimodal-card/9"}"#, "expected the schema")] {
            std::fs::write(&path, text).unwrap();
            assert!(Card::load(&path).unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
