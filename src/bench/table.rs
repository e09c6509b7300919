//! A card as text: for a terminal of 100 columns, and as the tables of `benches/results/README.md`.

use super::Seconds;
use super::card::{BenchRow, Card};
use crate::numbers::{scaled, significant};

/// `47.5 µs`
pub(super) fn time(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")];
    let (scale, unit) = units.into_iter().find(|(scale, _)| seconds >= 0.9995 * scale).unwrap_or(units[3]);
    format!("{} {unit}", digits(seconds / scale))
}

/// `15.7 M`, `1.02 kB`
fn count(n: f64, unit: &str) -> String {
    let (value, prefix) = scaled(n);
    format!("{} {prefix}{unit}", digits(value)).trim_end().into()
}

/// Enough for any measurement.
fn digits(value: f64) -> String {
    significant(value, 3)
}

/// How near a row comes to its ceiling, and which that is.
fn of_ceiling(row: &BenchRow) -> String {
    match (row.percent, row.bound.as_deref()) {
        (Some(percent), Some(bound)) => format!("{percent:.0}% {}", if bound == "memory" { "mem" } else { "flop" }),
        _ => "–".into(),
    }
}

const HEADER: [&str; 11] = ["", "", "median", "min", "max", "FLOP/s", "GB/s", "FLOP", "bytes", "FLOP/B", "ceiling"];

/// The prefix that suits a card's rates: T from 10¹² operations per second on, else G; and what 10¹² are multiplied with.
fn prefix(card: &Card) -> (&'static str, f64) {
    if card.rows.iter().any(|row| row.tflops >= 1.0) { ("T", 1.0) } else { ("G", 1e3) }
}

/// The whole card. A line per operation and sizes, under it one per entry, at most 100 columns wide where there is one dtype.
pub fn table(card: &Card) -> String {
    let mut text = String::new();
    let mut line = |s: String| {
        text.push_str(s.trim_end());
        text.push('\n');
    };
    let about = &card.device;
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "not reported".into());
    line(format!("{} ({}{}), {}", about.name, about.kind, cores(card), card.tool));
    line(format!("  driver   {}", told(&about.driver)));
    line(format!("  clocks   {}; power {}", told(&about.clocks), told(&about.power)));
    let ceilings = &card.ceilings;
    let rate = |name: &str, value: Option<f64>, unit: &str| value.map(|v| format!("{name} {}", count(v, unit)));
    let measured = [
        rate("copy", ceilings.copy_bytes_per_second, "B/s"),
        rate("f32 multiply-add", ceilings.f32_flops_per_second, "FLOP/s"),
        rate("bf16 tensor cores", ceilings.bf16_flops_per_second, "FLOP/s"),
        rate("shared memory", ceilings.shared_bytes_per_second, "B/s"),
    ];
    line(format!("  ceilings {}", measured.into_iter().flatten().collect::<Vec<_>>().join(", ")));
    let method = &card.method;
    for (name, what) in [("timer", &method.timer), ("inputs", &method.inputs), ("buffers", &method.rotation), ("samples", &method.samples)] {
        wrapped(&format!("  {name:<9}"), what).into_iter().for_each(&mut line);
    }
    line(format!("  shapes   {}{}", method.shapes.join(", "), if method.quick { " (--quick: a first look)" } else { "" }));

    let (prefix, scale) = prefix(card);
    let header = HEADER.map(|h| if h == "FLOP/s" { format!("{prefix}{h}") } else { h.to_string() });
    let several = card.rows.iter().any(|row| row.dtype != card.rows[0].dtype);
    let cells = |row: &BenchRow| -> [String; 11] {
        let Seconds { median, min, max, .. } = row.seconds;
        let optional = |value: Option<f64>| value.map_or("–".into(), digits);
        [
            row.entry.clone(),
            if several { row.dtype.clone() } else { String::new() },
            time(median),
            time(min),
            time(max),
            digits(row.tflops * scale),
            optional(row.gbytes),
            count(row.flops as f64, ""),
            row.bytes.map_or("–".into(), |b| count(b as f64, "B")),
            optional(row.intensity),
            of_ceiling(row),
        ]
    };
    let all: Vec<[String; 11]> = card.rows.iter().map(cells).collect();
    let mut widths = header.each_ref().map(|h| h.chars().count());
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let aligned = |cells: &[String; 11]| {
        let mut text = format!("  {:<w$}", cells[0], w = widths[0]);
        for (cell, width) in cells.iter().zip(widths).skip(1).filter(|(_, width)| *width > 0) {
            text += &format!("  {cell:>width$}");
        }
        text
    };
    if !all.is_empty() {
        line(String::new());
        line(aligned(&header));
    }
    let mut group = None;
    for (row, cells) in card.rows.iter().zip(&all) {
        let here = (&row.op, &row.shape);
        if group != Some(here) {
            wrapped(&format!("{} ", row.op), &row.shape).into_iter().for_each(&mut line);
            group = Some(here);
        }
        line(aligned(cells));
        if let Some(tokens) = row.tokens_per_second {
            line(format!("    {} tokens/s", count(tokens, "")));
        }
        for peer in &row.peers {
            line(format!("    {} {}: {}, {} × ours", peer.name, peer.entry, time(peer.seconds), digits(peer.ratio)));
        }
    }
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for left in &card.left_out {
        match reasons.iter_mut().find(|(reason, _)| *reason == left.reason) {
            Some((_, list)) => list.push(&left.what),
            None => reasons.push((&left.reason, vec![&left.what])),
        }
    }
    if !reasons.is_empty() {
        line(String::new());
    }
    for (reason, list) in reasons {
        wrapped("left out ", &format!("({reason}): {}", list.join("; "))).into_iter().for_each(&mut line);
    }
    if card.interrupted {
        line("interrupted: these are the rows that were finished".into());
    }
    text
}

/// Lines of at most 100 columns, the first with a heading and the others indented as far.
fn wrapped(heading: &str, text: &str) -> Vec<String> {
    let indent = " ".repeat(heading.chars().count().min(10));
    let mut lines = vec![heading.to_string()];
    let mut empty = true;
    for word in text.split(' ') {
        let last = lines.last_mut().expect("the heading");
        if !empty && last.chars().count() + 1 + word.chars().count() > 100 {
            lines.push(format!("{indent}{word}"));
        } else {
            if !empty {
                last.push(' ');
            }
            last.push_str(word);
        }
        empty = false;
    }
    lines
}

/// The tables of `benches/results/README.md`: of every operation, pass and dtype the largest sizes on each card's device, by the fastest entry.
pub fn readme(cards: &[Card]) -> String {
    let mut text = String::new();
    for card in cards {
        let about = &card.device;
        let driver = about.driver.as_ref().map(|d| format!(", {d}")).unwrap_or_default();
        let ceilings = &card.ceilings;
        let rate = |name: &str, value: Option<f64>, unit: &str| value.map(|v| format!("{name} {}", count(v, unit)));
        let best = [
            rate("copy", ceilings.copy_bytes_per_second, "B/s"),
            rate("f32", ceilings.f32_flops_per_second, "FLOP/s"),
            rate("bf16", ceilings.bf16_flops_per_second, "FLOP/s"),
        ];
        let best: Vec<String> = best.into_iter().flatten().collect();
        let day = card.date.split('T').next().unwrap_or_default();
        text += &format!("**{}** ({}{}{driver}; {day}; at best {})\n\n", about.name, about.kind, cores(card), best.join(", "));
        let (prefix, scale) = prefix(card);
        text += &format!("| operation | sizes | dtype | entry | median | {prefix}FLOP/s | GB/s | of the ceiling | others: time ÷ ours |\n");
        text += "|---|---|---|---|---:|---:|---:|---:|---|\n";
        let mut done: Vec<[&str; 3]> = Vec::new();
        for row in &card.rows {
            let key: [&str; 3] = [&row.op, &row.pass, &row.dtype];
            if done.contains(&key) {
                continue;
            }
            done.push(key);
            let alike = || card.rows.iter().filter(|other| [&*other.op, &*other.pass, &*other.dtype] == key);
            let most = alike().map(|other| other.flops).max().unwrap_or(row.flops);
            let row = alike().filter(|other| other.flops == most).min_by(|a, b| a.seconds.median.total_cmp(&b.seconds.median)).unwrap_or(row);
            let peers: Vec<String> = row.peers.iter().map(|p| format!("{} {}: {}", p.name, p.entry, digits(p.ratio))).collect();
            let tokens = row.tokens_per_second.map(|t| format!("; {} tokens/s", count(t, ""))).unwrap_or_default();
            text += &format!(
                "| {} | {}{tokens} | {} | {} | {} | {} | {} | {} | {} |\n",
                row.op,
                row.shape,
                row.dtype,
                row.entry,
                time(row.seconds.median),
                digits(row.tflops * scale),
                row.gbytes.map_or("–".into(), digits),
                of_ceiling(row),
                peers.join("; ")
            );
        }
        text += "\n";
    }
    if text.is_empty() { text } else { text.trim_end().to_string() + "\n" }
}

/// `, 2 threads`
fn cores(card: &Card) -> String {
    let what = if card.device.kind == "cuda" { "multiprocessors" } else { "threads" };
    card.device.cores.map(|n| format!(", {n} {what}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::{card, row};
    use super::super::{LeftOut, Peer};
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (value, expected) in [(1.5e-9, "1.50 ns"), (47.51e-6, "47.5 µs"), (999.9e-6, "1.00 ms"), (0.1234, "123 ms"), (12.0, "12.0 s")] {
            assert_eq!(time(value), expected);
        }
        assert_eq!((count(15_700_000.0, ""), count(1020.0, "B"), count(3.0, "B")), ("15.7 M".into(), "1.02 kB".into(), "3.00 B".into()));
        assert_eq!((digits(0.03312), digits(1234.5), digits(0.0)), ("0.0331".into(), "1234".into(), "0.00".into()));
    }

    #[test]
    fn a_table_fits_a_hundred_columns_and_says_everything() {
        let shape = "clips=32 frames=50 in=64 out=64 stride=2";
        let mut ours = card(vec![row("conv1d", "forward", shape, 123e-6), row("conv1d", "forward:naive", shape, 0.0123), row("matmul", "forward", "b", 1.0)]);
        let ceilings = ours.ceilings;
        ours.rows.iter_mut().for_each(|r| r.rate(&ceilings));
        ours.rows[0].peers.push(Peer { name: "pytorch 2".into(), entry: "eager".into(), seconds: 246e-6, ratio: 2.0 });
        ours.left_out.push(LeftOut { what: "matmul forward:naive c".into(), reason: "no time".into() });
        ours.interrupted = true;
        let text = table(&ours);
        for part in [
            shape,
            "123 µs",
            "12.3 ms",
            "81% mem",
            "pytorch 2 eager: 246 µs, 2.00 × ours",
            "left out (no time): matmul forward:naive c",
            "interrupted",
            "not reported",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
        assert_eq!(text.matches(shape).count(), 1);

        let readme = readme(&[ours]);
        assert!(readme.contains("| conv1d | clips=32") && readme.contains("pytorch 2 eager: 2.00 |") && !readme.contains("naive"), "{readme}");
    }
}
