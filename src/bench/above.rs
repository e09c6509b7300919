//! Why a row can be above 100 % of its ceiling. Each reason begins with a word of its own.

use super::card::{About, BenchRow};
use crate::numbers::bytes;
use crate::roofline::Ceilings;

/// The word of a reason that is none: the ceiling must have been measured too low.
pub(super) const LOW: &str = "low ceiling";
/// What a ceiling and a row may be off by chance: a part of their quotient.
const CHANCE: f64 = 0.05;
/// How much faster reading alone may be than a copy on a GPU, whose memory loses time when it turns from reading to writing.
const READING: f64 = 1.15;
/// How much faster an update in place is than a copy, in cards that did not measure it: what an AMD EPYC does (79 and 44 GB/s). Of three
/// transfers of a copy two are counted, and one stream of addresses is easier to follow than two.
const UPDATE: f64 = 1.8;

/// The reason, for a row above 100 %.
pub(super) fn reason(row: &BenchRow, ceilings: &Ceilings, device: &About) -> Option<String> {
    let percent = row.percent.filter(|percent| *percent > 100.0)?;
    let known = if row.bound.as_deref() == Some("memory") { memory(row, percent, ceilings, device) } else { compute(row, device) };
    Some(known.unwrap_or_else(|| {
        format!(
            "{LOW}: nothing in its work explains it, so that the ceiling must have been measured while the device was slower: measure again on a quiet machine"
        )
    }))
}

fn memory(row: &BenchRow, percent: f64, ceilings: &Ceilings, device: &About) -> Option<String> {
    if let Some((rotated, cache)) = row.rotated_bytes.zip(device.cache_bytes).filter(|(rotated, cache)| rotated <= cache) {
        return Some(format!("cache: all its buffers ({}) fit in the last cache ({})", bytes(rotated), bytes(cache)));
    }
    let overwritten = row.overwritten_bytes? as f64 / row.bytes?.max(1) as f64;
    let (limit, why) = if device.kind == "cuda" || device.cores.is_none() {
        (READING, "reading is faster than turning from reading to writing")
    } else {
        let update = ceilings.update_bytes_per_second.zip(ceilings.copy_bytes_per_second).map_or(UPDATE, |(update, copy)| (update / copy).max(1.0));
        // Between an update in place, which overwrites nothing unread, and a copy, which does with half of its bytes.
        (1.0 / (1.0 / update + (overwritten / 0.5).min(1.0) * (1.0 - 1.0 / update)), "a processor first fetches the lines that are overwritten")
    };
    // Past 100 % by no more than chance, a row needs no other reason than that a ceiling is a measurement too.
    let limit = if overwritten < 0.5 { 100.0 * limit } else { 100.0 };
    (percent <= limit * (1.0 + CHANCE)).then(|| match overwritten {
        _ if percent <= 100.0 * (1.0 + CHANCE) && overwritten >= 0.45 => "chance: it is at the ceiling, which is a measurement too".into(),
        _ => format!("reads: it overwrites {:.0} % of its bytes, a copy half of them, and {why}: up to {limit:.0} %", 100.0 * overwritten),
    })
}

fn compute(row: &BenchRow, device: &About) -> Option<String> {
    let percent = row.percent.unwrap_or_default();
    if device.kind == "cuda" && row.dtype == "bf16" {
        return Some("wgmma: the ceiling is measured with mma.sync, and Hopper's wgmma does more in the same time".into());
    }
    (percent <= 100.0 * (1.0 + CHANCE)).then(|| "chance: it is at the ceiling, which is a measurement too".into())
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::{card, row};
    use super::*;

    #[test]
    fn what_is_above_its_ceiling_says_why() {
        let card = card(Vec::new());
        let about = About { cache_bytes: Some(32 << 20), ..card.device };
        let ceilings = Ceilings { update_bytes_per_second: Some(1.5e10), ..card.ceilings };
        // 1 MB at 10 GB/s takes 100 µs.
        let of = |median: f64, overwritten, rotated, about: &About| {
            let mut row = BenchRow { overwritten_bytes: Some(overwritten), rotated_bytes: Some(rotated), flops: 1000, ..row("swiglu", "forward", "x", median) };
            row.rate(&ceilings);
            reason(&row, &ceilings, about)
        };
        assert_eq!(of(101e-6, 0, 1 << 20, &about), None);
        assert!(of(50e-6, 500_000, 16 << 20, &about).unwrap().starts_with("cache: all its buffers (16 MiB) fit in the last cache (32 MiB)"));
        assert!(of(68e-6, 0, 1 << 30, &about).unwrap().ends_with("up to 150 %"));
        // 2 of 5 bytes are overwritten: 15 transfers in place of the copy's 16.
        assert!(of(93e-6, 400_000, 1 << 30, &about).unwrap().ends_with("up to 107 %"));
        assert!(of(60e-6, 0, 1 << 30, &about).unwrap().starts_with(LOW), "167 % is more than an update reaches");
        assert!(of(80e-6, 500_000, 1 << 30, &about).unwrap().starts_with(LOW), "it overwrites as much as a copy");
        assert!(of(98e-6, 500_000, 1 << 30, &about).unwrap().starts_with("chance"));
        let gpu = About { kind: "cuda".into(), ..about };
        assert!(of(90e-6, 0, 1 << 30, &gpu).unwrap().ends_with("up to 115 %"));
        assert!(of(70e-6, 0, 1 << 30, &gpu).unwrap().starts_with(LOW));
        let product = |dtype: &str, about| {
            let mut row = BenchRow { flops: 200_000_000, dtype: dtype.into(), ..row("matmul", "forward", "x", 1.6e-3) };
            row.rate(&ceilings);
            reason(&row, &ceilings, about).unwrap()
        };
        assert!(product("f32", &gpu).starts_with(LOW) && product("bf16", &gpu).starts_with("wgmma"));
    }
}
