//! A score card as a page: what speaks against it first, then the roofline whose marks tell about their rows, then every row in a table
//! that can be sorted.

use super::page::{Cell, Own, Page};
use super::roofline::roofline_figure;
use crate::bench::{BenchRow, Card, Change, MARK, UNSURE, ceilings_text, machine_text, of_peer, peer_names, time};
use crate::markup::escape;
use crate::numbers::{number, scaled};
use std::fmt::Write as _;

/// What the roofline and the doubts need besides the style of all pages.
const OWN: Own = Own { style: include_str!("bench.css"), script: include_str!("marks.js") };

/// The page of a card.
pub fn bench_page(card: &Card) -> Page {
    let (about, method) = (&card.device, &card.method);
    let day = card.date.replace('T', " at ").replace('Z', " UTC");
    let mut page = Page::new(&format!("Benchmark of {}", about.name), &format!("{} on {} ({}), {day}.", card.tool, about.name, about.kind));
    page.section("How it was measured");
    page.part(&doubts(card), OWN);
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "not reported".into());
    let facts = [
        ("driver", told(&about.driver)),
        ("clocks", told(&about.clocks)),
        ("power", told(&about.power)),
        ("processors", about.cores.map_or("not reported".into(), |n| n.to_string())),
        ("ceilings", ceilings_text(&card.ceilings)),
        ("drift", card.drift.map_or("not measured".into(), |drift| format!("{drift:+.1} % from before to after the rows, by the ceiling that moved most"))),
        ("machine", card.conditions.as_ref().map_or("not watched".into(), machine_text)),
        ("timer", method.timer.clone()),
        ("inputs", method.inputs.clone()),
        ("buffers", method.rotation.clone()),
        ("samples", method.samples.clone()),
        ("shapes", format!("{}{}", method.shapes.join(", "), if method.quick { " (a first look)" } else { "" })),
        ("took", format!("{} s", number(method.seconds))),
    ];
    page.facts(facts);
    page.section("Roofline");
    page.text(
        "The lines are what kernels that do nothing else reach: what memory delivers at so many operations per byte, and what arithmetic does. \
         A row above them says why. An operation has the same colour and marker on every device.",
    );
    let figure = roofline_figure(card).replacen("<svg", "<svg role=img aria-label=\"The roofline; its values are in the table of rows\"", 1);
    page.part(&format!("<figure><div class=\"scroll roofline\">{figure}</div></figure>\n"), OWN);
    page.section("Rows");
    rows(&mut page, card);
    changes(&mut page, card);
    if !card.left_out.is_empty() || card.interrupted {
        page.section("Not measured");
        if card.interrupted {
            page.text("The run was interrupted: these are the rows that were finished.");
        }
        let left: Vec<Vec<Cell>> = card.left_out.iter().map(|left| vec![left.what.as_str().into(), left.reason.as_str().into()]).collect();
        if !left.is_empty() {
            page.table("What was asked for and not measured", &["row", "why"], &left);
        }
    }
    page
}

fn doubts(card: &Card) -> String {
    if card.doubts.is_empty() {
        let watched = if card.conditions.is_some() { "Nothing speaks against these figures." } else { "Nobody watched the machine while this was measured." };
        return format!("<p>{watched}</p>\n");
    }
    let mut html = String::from("<div class=doubts role=note><p>These figures are in doubt</p><ul>");
    for doubt in &card.doubts {
        let _ = write!(html, "<li>{}</li>", escape(doubt));
    }
    html + "</ul></div>\n"
}

/// A number with its unit, sorted by the number.
fn value(text: String, value: f64) -> Cell {
    Cell::Value { text: text.replace(' ', "\u{a0}"), value }
}

fn rows(page: &mut Page, card: &Card) {
    let rate = |rate: f64, unit: &str| {
        let (short, prefix) = scaled(rate);
        value(format!("{} {prefix}{unit}", number(short)), rate)
    };
    let names = peer_names(card);
    let mut header = vec!["row", "sizes", "median", "±", "of the ceiling", "bound by", "operations", "memory", "FLOP per byte", "dtype"];
    if card.against.is_some() {
        header.push("change");
    }
    header.extend(&names);
    let nothing = |cell: Option<Cell>| cell.unwrap_or(Cell::Nothing);
    let cells = |row: &BenchRow| -> Vec<Cell> {
        let error = row.seconds.standard_error;
        let mut cells = vec![
            format!("{} {}", row.op, if row.entry == row.op { "" } else { &row.entry }).trim().to_string().into(),
            row.shape.as_str().into(),
            value(time(row.seconds.median), row.seconds.median),
            value(format!("{} %{}", number(100.0 * error), if row.unsure { MARK } else { "" }), error),
            nothing(row.percent.map(|percent| {
                let why = row.above.as_ref().and_then(|why| why.split(':').next()).map(|why| format!(", {why}")).unwrap_or_default();
                value(format!("{percent:.0} %{why}"), percent)
            })),
            row.bound.as_deref().map_or(Cell::Nothing, Cell::from),
            if row.flops == 0 { Cell::Nothing } else { rate(1e12 * row.tflops, "FLOP/s") },
            nothing(row.gbytes.map(|gbytes| rate(1e9 * gbytes, "B/s"))),
            nothing(row.intensity.map(|intensity| value(number(intensity), intensity))),
            row.dtype.as_str().into(),
        ];
        if card.against.is_some() {
            cells.push(row.change.as_ref().map_or("new".into(), |change| value(change.text(), change.percent)));
        }
        for name in &names {
            let peer = row.peers.iter().filter(|peer| peer.name == *name).min_by(|a, b| a.seconds.total_cmp(&b.seconds));
            cells.push(nothing(peer.map(|peer| value(of_peer(row, name), peer.ratio))));
        }
        cells
    };
    let rows: Vec<Vec<Cell>> = card.rows.iter().map(cells).collect();
    page.sortable("Every row; with a script, press a heading to sort by it", &header, &rows);
    if card.rows.iter().any(|row| row.unsure) {
        page.text(&format!(
            "{MARK} the standard error was still above {:.0} % of the mean when the row's time was up: another run may well differ.",
            100.0 * UNSURE
        ));
    }
    let above: Vec<Vec<Cell>> = card.rows.iter().filter_map(|row| Some(vec![row.name().into(), row.above.clone()?.into()])).collect();
    if !above.is_empty() {
        page.folded(&format!("Why {} of {} rows are above 100 %", above.len(), card.rows.len()), |page| page.table("Above 100 %", &["row", "why"], &above));
    }
}

fn changes(page: &mut Page, card: &Card) {
    let Some(against) = &card.against else { return };
    page.section("Changes");
    page.text(&format!(
        "Beside {} of {}. A change is one where it is more than two standard errors of the difference; what differs from run to run is not in these errors.",
        against.tool, against.date
    ));
    let mut changed: Vec<(&BenchRow, &Change)> =
        card.rows.iter().filter_map(|row| Some((row, row.change.as_ref()?))).filter(|(_, change)| change.verdict != "same").collect();
    changed.sort_by(|a, b| b.1.percent.abs().total_cmp(&a.1.percent.abs()));
    let rows: Vec<Vec<Cell>> = changed
        .iter()
        .map(|(row, change)| {
            let times = [change.seconds, row.seconds.median].map(|seconds| value(time(seconds), seconds));
            let [then, now] = times;
            vec![row.name().into(), change.verdict.as_str().into(), value(change.text(), change.percent), then, now]
        })
        .collect();
    if rows.is_empty() {
        page.text("No row has changed.")
    } else {
        page.sortable("Rows that have changed", &["row", "now", "change", "then", "now"], &rows)
    }
    for (what, rows) in [("Differs", &against.differences), ("New", &against.new), ("Gone", &against.gone)] {
        if !rows.is_empty() {
            page.heading(what);
            rows.iter().for_each(|row| page.text(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        let row = |op: &str, median: f64| {
            format!(
                r#"{{"op": "{op}", "entry": "forward", "pass": "forward", "set": "demo", "shape": "<x>", "dtype": "f32", "samples": 1, "calls": 1, "buffers": 1,
                "seconds": {{"median": {median}, "min": 1.0, "max": 1.0, "standard_error": 0.03}}, "unsure": true, "flops": 1, "bytes": 1, "tflops": 0.01,
                "intensity": 2.0, "bound": "memory", "percent": 120.0, "above": "reads: <it>"}}"#
            )
        };
        let text = format!(
            r#"{{"schema": "trimodal-card/1", "tool": "t", "date": "2026-11-24T08:30:00Z", "device": {{"kind": "cpu", "name": "a <b>"}},
            "method": {{"timer": "", "inputs": "", "rotation": "", "samples": "", "shapes": [], "quick": true, "seconds": 1.0}},
            "ceilings": {{"copy_bytes_per_second": 1e10, "f32_flops_per_second": 1e11}}, "rows": [{}, {}], "left_out": [], "interrupted": false}}"#,
            row("matmul", 2.0),
            row("swiglu", 1e-3)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_page_says_what_the_card_says() {
        let mut old = card();
        old.rows[0].seconds.median = 1.0;
        let mut card = Card { doubts: vec!["others <ran>".into()], ..card() };
        card.compare(&old);
        let html = bench_page(&card).html();
        for part in [
            "<li>others &lt;ran&gt;</li>",
            "<td data-value=0.001>1.00\u{a0}ms</td>",
            "120\u{a0}%,\u{a0}reads",
            "3\u{a0}%?",
            "Why 2 of 2 rows are above 100 %",
            "reads: &lt;it&gt;",
            "+100\u{a0}±17.0%",
            "<title>matmul forward &lt;x&gt; f32: 2.00 s, unsure,",
            "class=\"sortable\"",
        ] {
            assert!(html.contains(part), "{part} is missing:\n{html}");
        }
        assert!(!html.contains("<x>") && !html.contains("<b>") && !html.contains("<it>"), "what others wrote stays text");
        let page = html.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "fetch(", "XMLHttpRequest", "import", "innerHTML"] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(html.matches("sha256-").count(), html.matches("<script>").count());
    }

    #[test]
    fn a_card_that_nobody_watched_says_so() {
        let html = bench_page(&card()).html();
        assert!(html.contains("Nobody watched") && !html.contains("<h2 id=s4>Changes"), "{html}");
    }
}
