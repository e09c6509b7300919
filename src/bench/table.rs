//! A card as text: for a terminal, and as the tables of `benches/results/README.md` and of the README.

use super::card::{Against, BenchRow, Card, Ceilings, Change, Conditions, Peer, UNSURE};
use crate::numbers::{scaled, significant};

/// `47.5 µs`
pub(crate) fn time(seconds: f64) -> String {
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

/// The mark of a row whose median is unsure.
pub const MARK: &str = "?";

fn legend() -> String {
    format!("{MARK} the standard error was still above {:.0} % of the mean when the row's time was up: another run may well differ", 100.0 * UNSURE)
}

/// How much slower or faster a peer is, in words that say whose time is the longer one.
fn beside(peer: &Peer) -> String {
    let mark = if peer.unsure { MARK } else { "" };
    match peer.ratio {
        ratio if (0.99..=1.01).contains(&ratio) => format!("{}{mark}, as fast", time(peer.seconds)),
        ratio if ratio > 1.0 => format!("{}{mark}, {} × slower", time(peer.seconds), digits(ratio)),
        ratio => format!("{}{mark}, {} × faster", time(peer.seconds), digits(1.0 / ratio)),
    }
}

/// The word that a reason begins with.
fn word(reason: &str) -> &str {
    reason.split(':').next().unwrap_or(reason)
}

/// The prefix that suits a card's rates: T from 10¹² operations per second on, else G; and what 10¹² are multiplied with.
fn prefix(card: &Card) -> (&'static str, f64) {
    if card.rows.iter().any(|row| row.tflops >= 1.0) { ("T", 1.0) } else { ("G", 1e3) }
}

/// A column of the table.
struct Column {
    head: String,
    cells: Vec<String>,
    /// The higher, the sooner it is left out where there is no room; 0: never.
    spare: u8,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(|cell| cell.chars().count()).chain([self.head.chars().count()]).max().unwrap_or(0)
    }
}

/// The columns that fit; all of them where there is room.
fn columns(card: &Card, width: usize) -> Vec<Column> {
    let (prefix, scale) = prefix(card);
    let column = |head: &str, spare: u8, cell: &dyn Fn(&BenchRow) -> String| Column { head: head.into(), spare, cells: card.rows.iter().map(cell).collect() };
    let optional = |value: Option<f64>| value.map_or("–".into(), digits);
    let mut columns = vec![column("", 0, &|row| row.entry.clone())];
    if card.rows.iter().any(|row| row.dtype != card.rows[0].dtype) {
        columns.push(column("", 0, &|row| row.dtype.clone()));
    }
    let error = |row: &BenchRow| format!("{}%{}", significant(100.0 * row.seconds.standard_error, 2), if row.unsure { MARK } else { " " });
    columns.push(column("median", 0, &|row| time(row.seconds.median)));
    columns.push(column("±  ", 0, &error));
    columns.push(column("min", 4, &|row| time(row.seconds.min)));
    columns.push(column("max", 5, &|row| time(row.seconds.max)));
    columns.push(column(&format!("{prefix}FLOP/s"), 1, &|row| digits(row.tflops * scale)));
    columns.push(column("GB/s", 2, &|row| optional(row.gbytes)));
    columns.push(column("FLOP", 7, &|row| count(row.flops as f64, "")));
    columns.push(column("bytes", 8, &|row| row.bytes.map_or("–".into(), |b| count(b as f64, "B"))));
    columns.push(column("FLOP/B", 6, &|row| optional(row.intensity)));
    columns.push(column("ceiling", 0, &of_ceiling));
    if card.against.is_some() {
        columns.push(column("change", 0, &|row| row.change.as_ref().map_or("new".into(), Change::text)));
    }
    let needed = |columns: &[Column]| columns.iter().map(|column| column.width() + 2).sum::<usize>();
    while needed(&columns) > width {
        let Some(at) = (0..columns.len()).filter(|&i| columns[i].spare > 0).max_by_key(|&i| columns[i].spare) else { break };
        columns.remove(at);
    }
    columns
}

/// The ceilings of a card, each with its unit.
pub(crate) fn ceilings_text(ceilings: &Ceilings) -> String {
    let rate = |name: &str, value: Option<f64>, unit: &str| value.map(|v| format!("{name} {}", count(v, unit)));
    let measured = [
        rate("copy", ceilings.copy_bytes_per_second, "B/s"),
        rate("update in place", ceilings.update_bytes_per_second, "B/s"),
        rate("f32 multiply-add", ceilings.f32_flops_per_second, "FLOP/s"),
        rate("bf16 tensor cores", ceilings.bf16_flops_per_second, "FLOP/s"),
        rate("shared memory", ceilings.shared_bytes_per_second, "B/s"),
    ];
    measured.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The whole card. A line per operation and sizes, under it one per entry, with as many columns as a terminal of this width has room for;
/// text takes at most 100.
pub fn table(card: &Card, width: usize) -> String {
    let room = width.clamp(40, 100);
    let mut text = String::new();
    let mut line = |s: String| {
        text.push_str(s.trim_end());
        text.push('\n');
    };
    for doubt in &card.doubts {
        wrapped("warning: ", doubt, room).into_iter().for_each(&mut line);
    }
    let about = &card.device;
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "not reported".into());
    let method = &card.method;
    wrapped("", &format!("{} ({}{}), {}", about.name, about.kind, cores(card), card.tool), room).into_iter().for_each(&mut line);
    let facts = [
        ("driver", told(&about.driver)),
        ("clocks", format!("{}; power {}", told(&about.clocks), told(&about.power))),
        ("ceilings", ceilings_text(&card.ceilings)),
        ("timer", method.timer.clone()),
        ("inputs", method.inputs.clone()),
        ("buffers", method.rotation.clone()),
        ("samples", method.samples.clone()),
        ("machine", card.conditions.as_ref().map_or("not watched".into(), machine_text)),
        ("shapes", format!("{}{}", method.shapes.join(", "), if method.quick { " (--quick: a first look)" } else { "" })),
    ];
    for (name, what) in facts {
        wrapped(&format!("  {name:<9}"), &what, room).into_iter().for_each(&mut line);
    }
    let columns = columns(card, width);
    let aligned = |cell: &dyn Fn(&Column) -> String| {
        let mut text = format!("  {:<w$}", cell(&columns[0]), w = columns[0].width());
        for column in columns.iter().skip(1) {
            text += &format!("  {:>w$}", cell(column), w = column.width());
        }
        text
    };
    if !card.rows.is_empty() {
        line(String::new());
        line(aligned(&|column| column.head.clone()));
    }
    let mut group = None;
    for (i, row) in card.rows.iter().enumerate() {
        let here = (&row.op, &row.shape);
        if group != Some(here) {
            wrapped(&format!("{} ", row.op), &row.shape, room).into_iter().for_each(&mut line);
            group = Some(here);
        }
        line(aligned(&|column| column.cells[i].clone()));
        if let Some(tokens) = row.tokens_per_second {
            line(format!("    {} tokens/s", count(tokens, "")));
        }
        if let Some(why) = &row.above {
            wrapped("    ", why, room).into_iter().for_each(&mut line);
        }
        for peer in &row.peers {
            wrapped("    ", &format!("{} {}: {} than ours", peer.name, peer.entry, beside(peer)).replace("as fast than", "as fast as"), room)
                .into_iter()
                .for_each(&mut line);
        }
    }
    if card.rows.iter().any(|row| row.unsure || row.peers.iter().any(|peer| peer.unsure)) {
        line(String::new());
        wrapped("", &legend(), room).into_iter().for_each(&mut line);
    }
    if let Some((after, drift)) = card.ceilings_after.as_ref().zip(card.drift) {
        line(String::new());
        let moved = format!("{} after the last row; the one that moved most: {drift:+.1} %. Rows are divided by the higher ones.", ceilings_text(after));
        wrapped("ceilings ", &moved, room).into_iter().for_each(&mut line);
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
        wrapped("left out ", &format!("({reason}): {}", list.join("; ")), room).into_iter().for_each(&mut line);
    }
    if let Some(against) = &card.against {
        changes(card, against, room).into_iter().for_each(&mut line);
    }
    if card.interrupted {
        line("interrupted: these are the rows that were finished".into());
    }
    text
}

/// What else happened on the machine.
pub(crate) fn machine_text(conditions: &Conditions) -> String {
    let share = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {} %", digits(value)));
    let known = [
        conditions.load_average.map(|load| format!("load average {load:.2} before")),
        share("other programs took", conditions.others),
        share("the host took", conditions.steal),
        share("waiting for memory", conditions.memory_pressure),
        conditions.limited_clocks.clone(),
    ];
    let mut text = known.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if !conditions.not_known.is_empty() {
        let names = conditions.not_known.join(", ").replace('_', " ");
        text += &format!("{}not known: {names}", if text.is_empty() { "" } else { "; " });
    }
    text
}

/// What has changed since another card, as a summary of the column.
fn changes(card: &Card, against: &Against, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut add = |heading: &str, text: &str| lines.extend(wrapped(heading, text, room));
    let of = |verdict: &str| card.rows.iter().filter(|row| row.change.as_ref().is_some_and(|change| change.verdict == verdict)).collect::<Vec<_>>();
    let [slower, faster, same] = ["slower", "faster", "same"].map(of);
    let counts = format!(
        "{} of {}: {} slower, {} faster, {} the same within two standard errors of the difference",
        against.tool,
        against.date,
        slower.len(),
        faster.len(),
        same.len()
    );
    add("against ", &counts);
    for (verdict, mut rows) in [("slower", slower), ("faster", faster)] {
        rows.sort_by(|a, b| moved(b).total_cmp(&moved(a)));
        for row in rows {
            let Some(change) = &row.change else { continue };
            let times = format!("{} ({} then, {} now) {}", change.text(), time(change.seconds), time(row.seconds.median), row.name());
            add(&format!("{verdict} "), &times);
        }
    }
    for difference in &against.differences {
        add("differs  ", difference);
    }
    for (what, rows) in [("new  ", &against.new), ("gone ", &against.gone)] {
        if !rows.is_empty() {
            const NAMED: usize = 6;
            let more = if rows.len() > NAMED { format!("; and {} more, which --json names", rows.len() - NAMED) } else { String::new() };
            add(what, &format!("{}{more}", rows[..rows.len().min(NAMED)].join("; ")));
        }
    }
    lines
}

fn moved(row: &BenchRow) -> f64 {
    row.change.as_ref().map_or(0.0, |change| change.percent.abs())
}

/// Lines of at most so many columns, the first with a heading and the others indented as far.
fn wrapped(heading: &str, text: &str, room: usize) -> Vec<String> {
    let indent = " ".repeat(heading.chars().count().min(11));
    let mut lines = vec![heading.to_string()];
    let mut empty = true;
    for word in text.split(' ') {
        let last = lines.last_mut().expect("the heading");
        if !empty && last.chars().count() + 1 + word.chars().count() > room {
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

/// The names of the peers of a card, in the order in which they come.
pub(crate) fn peer_names(card: &Card) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for peer in card.rows.iter().flat_map(|row| &row.peers) {
        if !names.contains(&peer.name.as_str()) {
            names.push(&peer.name);
        }
    }
    names
}

/// Its fastest way to do the work of a row, beside ours.
pub(crate) fn of_peer(row: &BenchRow, name: &str) -> String {
    let fastest = row.peers.iter().filter(|peer| peer.name == name).min_by(|a, b| a.seconds.total_cmp(&b.seconds));
    fastest.map(|peer| format!("{}: {}", peer.entry, beside(peer))).unwrap_or_default()
}

/// Of every operation, pass and dtype the largest sizes, by the fastest entry.
fn best_rows(card: &Card) -> Vec<&BenchRow> {
    let mut done: Vec<[&str; 3]> = Vec::new();
    let mut best = Vec::new();
    for row in &card.rows {
        let key: [&str; 3] = [&row.op, &row.pass, &row.dtype];
        if done.contains(&key) {
            continue;
        }
        done.push(key);
        let alike = || card.rows.iter().filter(|other| [&*other.op, &*other.pass, &*other.dtype] == key);
        let most = alike().map(|other| other.flops).max().unwrap_or(row.flops);
        // By their sizes: a rung may need more operations than another for the same.
        let largest = |other: &&BenchRow| alike().any(|row| row.flops == most && row.shape == other.shape);
        best.push(alike().filter(largest).min_by(|a, b| a.seconds.median.total_cmp(&b.seconds.median)).unwrap_or(row));
    }
    best
}

/// The tables of `benches/results/README.md`: of every operation, pass and dtype the largest sizes on each card's device, by the fastest entry.
pub fn readme(cards: &[Card]) -> String {
    let mut text = String::new();
    for card in cards {
        let about = &card.device;
        let driver = about.driver.as_ref().map(|d| format!(", {d}")).unwrap_or_default();
        let day = card.date.split('T').next().unwrap_or_default();
        text += &format!("**{}** ({}{}{driver}; {day}; at best {})\n\n", about.name, about.kind, cores(card), ceilings_text(&card.ceilings));
        for doubt in &card.doubts {
            text += &format!("> In doubt: {doubt}.\n\n");
        }
        let (prefix, scale) = prefix(card);
        let names = peer_names(card);
        text += &format!("| operation | sizes | dtype | entry | median | {prefix}FLOP/s | GB/s | of the ceiling |");
        names.iter().for_each(|name| text += &format!(" {name} |"));
        text += &format!("\n|---|---|---|---|---:|---:|---:|---:|{}\n", "---|".repeat(names.len()));
        let mut reasons: Vec<&str> = Vec::new();
        let rows = best_rows(card);
        for row in &rows {
            let tokens = row.tokens_per_second.map(|t| format!("; {} tokens/s", count(t, ""))).unwrap_or_default();
            let above = row.above.as_ref().map(|why| format!(", {}", word(why))).unwrap_or_default();
            if let Some(why) = row.above.as_ref().filter(|why| reasons.iter().all(|other| word(other) != word(why))) {
                reasons.push(why);
            }
            text += &format!(
                "| {} | {}{tokens} | {} | {} | {}{} | {} | {} | {}{above} |",
                row.op,
                row.shape,
                row.dtype,
                row.entry,
                time(row.seconds.median),
                if row.unsure { MARK } else { "" },
                digits(row.tflops * scale),
                row.gbytes.map_or("–".into(), digits),
                of_ceiling(row),
            );
            names.iter().for_each(|name| text += &format!(" {} |", of_peer(row, name)));
            text.push('\n');
        }
        text.push('\n');
        for why in reasons {
            let op = rows.iter().find(|row| row.above.as_deref() == Some(why)).map_or("", |row| &row.op);
            text += &format!("Above 100 %, as {op} is: {why}.\n\n");
        }
        if rows.iter().any(|row| row.unsure || row.peers.iter().any(|peer| peer.unsure)) {
            text += &format!("{}.\n\n", legend());
        }
    }
    if text.is_empty() { text } else { text.trim_end().to_string() + "\n" }
}

/// What the README shows of the peers: these operations, by the fastest entry of either side.
const SHOWN: [&str; 4] = ["step", "matmul", "conv2d", "attention"];

/// The table of the README: what takes most of a training step, beside the peers of each card; empty where no card has any.
pub fn peers(cards: &[Card]) -> String {
    let mut text = String::new();
    for card in cards.iter().filter(|card| !peer_names(card).is_empty()) {
        let names = peer_names(card);
        text += &format!("| {}{} | ours |", card.device.name, cores(card));
        names.iter().for_each(|name| text += &format!(" {name} |"));
        text += &format!("\n|---|---:|{}\n", "---|".repeat(names.len()));
        for row in SHOWN.iter().flat_map(|op| best_rows(card).into_iter().filter(move |row| row.op == *op && !row.peers.is_empty())) {
            let pass = if row.op == row.pass { String::new() } else { format!(" {}", row.pass) };
            let dtype = if row.dtype == "f32" { "" } else { " bf16" };
            text += &format!("| {}{pass}{dtype} | {} |", row.op, time(row.seconds.median));
            names.iter().for_each(|name| text += &format!(" {} |", of_peer(row, name)));
            text.push('\n');
        }
        text.push('\n');
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
    use super::super::LeftOut;
    use super::super::card::tests::{card, row};
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (value, expected) in [(1.5e-9, "1.50 ns"), (47.51e-6, "47.5 µs"), (999.9e-6, "1.00 ms"), (0.1234, "123 ms"), (12.0, "12.0 s")] {
            assert_eq!(time(value), expected);
        }
        assert_eq!((count(15_700_000.0, ""), count(1020.0, "B"), count(3.0, "B")), ("15.7 M".into(), "1.02 kB".into(), "3.00 B".into()));
        assert_eq!((digits(0.03312), digits(1234.5), digits(0.0)), ("0.0331".into(), "1234".into(), "0.00".into()));
    }

    fn full() -> Card {
        let shape = "clips=32 frames=50 in=64 out=64 stride=2";
        let mut ours = card(vec![row("conv1d", "forward", shape, 123e-6), row("conv1d", "forward:naive", shape, 0.0123), row("matmul", "forward", "b", 1e-6)]);
        ours.rows[1].seconds.standard_error = 0.034;
        ours.rows[1].flops *= 4;
        ours.rate();
        ours.rows[0].peers.push(Peer { name: "pytorch 2".into(), entry: "eager".into(), seconds: 246e-6, ratio: 2.0, unsure: false });
        ours.left_out.push(LeftOut { what: "matmul forward:naive c".into(), reason: "no time".into() });
        ours.interrupted = true;
        ours
    }

    #[test]
    fn a_table_fits_its_terminal_and_says_everything() {
        let shape = "clips=32 frames=50 in=64 out=64 stride=2";
        let mut ours = full();
        ours.doubts = ours.doubts_of_rows();
        ours.ceilings_after = Some(ours.ceilings);
        ours.drift = Some(-3.4);
        ours.conditions = Some(Conditions { load_average: Some(0.05), not_known: vec!["steal".into(), "others_before".into()], ..Default::default() });
        let text = table(&ours, 80);
        for part in [
            shape,
            "123 µs",
            "12.3 ms",
            "81% mem",
            "pytorch 2 eager: 246 µs, 2.00 × slower than ours",
            "left out (no time): matmul forward:naive c",
            "interrupted",
            "not reported",
            "3.4%?",
            "? the standard error",
            "low ceiling: ",
            "moved most: -3.4 %",
            "load average 0.05 before; not known: steal, others before",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(text.starts_with("warning: 1 of 3 rows: the standard error"), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert_eq!(text.matches(shape).count(), 1);
        // Columns that only a wide terminal has.
        for column in ["min", "max", "FLOP/B"] {
            let has = |width| table(&ours, width).lines().any(|line| line.split_whitespace().any(|word| word == column));
            assert!(!has(60) && has(usize::MAX), "{column}");
        }
        assert!(table(&ours, 60).lines().all(|l| l.chars().count() <= 60));
    }

    #[test]
    fn changes_are_a_column_and_a_summary() {
        let (mut new, mut old) = (full(), full());
        old.rows[0].seconds.median *= 0.8;
        old.rows.pop();
        new.compare(&old);
        let text = table(&new, 80);
        for part in [
            "+25.0 ±0.4%",
            "against trimodal 0.0.0 of 1970-01-01T00:00:00Z: 1 slower, 0 faster, 1 the same",
            "(98.4 µs then, 123 µs now)",
            "new  matmul forward b f32",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    }

    #[test]
    fn tables_of_results_have_a_column_for_every_peer() {
        let mut ours = full();
        ours.rows[2].peers.push(Peer { name: "pytorch 2".into(), entry: "mm".into(), seconds: 0.5e-6, ratio: 0.5, unsure: true });
        let readme = readme(std::slice::from_ref(&ours));
        for part in [
            "of the ceiling | pytorch 2 |",
            "| conv1d | clips=32",
            "| eager: 246 µs, 2.00 × slower |",
            "| mm: 500 ns?, 2.00 × faster |",
            "mem, low ceiling |",
            "as matmul is: low ceiling:",
        ] {
            assert!(readme.contains(part), "{part} is missing:\n{readme}");
        }
        assert!(!readme.contains("naive"), "{readme}");
        let peers = peers(&[ours, card(Vec::new())]);
        assert_eq!(peers, "| a processor, 2 threads | ours | pytorch 2 |\n|---|---:|---|\n| matmul forward | 1.00 µs | mm: 500 ns?, 2.00 × faster |\n");
    }
}
