//! The tables of `kernels/README.md` and `shaders/README.md`, from the manifest and the score cards.

use crate::{generated, read, root};
use std::collections::BTreeMap;
use trimodal::bench::{BenchRow, Card};
use trimodal::contract::catalog::{Entry, File};

/// The case of a score card that launches one entry and nothing else; whole calls of several launches stand below the table.
const CASES: [(&str, &str, &str); 18] = [
    ("embedding", "forward", "forward:scalar"),
    ("embedding", "forward_vec4", "forward:vec4"),
    ("embedding", "backward", "backward"),
    ("patch_embed", "forward_tile", "forward:tile32"),
    ("patch_embed", "forward_naive", "forward:naive"),
    ("conv1d", "forward_tile", "forward:tile32"),
    ("conv1d", "forward_naive", "forward:naive"),
    ("conv2d", "forward_tile", "forward:tile32"),
    ("conv2d", "forward_naive", "forward:naive"),
    ("matmul", "naive", "forward:naive"),
    ("matmul", "tile", "forward:small"),
    ("rms_norm", "forward", "forward"),
    ("rope", "rotate", "forward:scalar"),
    ("rope", "rotate_vec4", "forward:vec4"),
    ("attention", "forward", "forward:tiled"),
    ("attention", "forward_naive", "forward:naive"),
    ("swiglu", "forward", "forward"),
    ("sample", "forward", "forward"),
];

const BEGIN: &str = "<!-- entries -->\n";
const END: &str = "<!-- end -->";

#[test]
fn the_tables_say_what_the_manifest_says() {
    for (path, table) in [("shaders/README.md", shaders()), ("kernels/README.md", kernels())] {
        let text = read(path);
        let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{path}: no line {BEGIN}"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{path}: no {END}"));
        let expected = format!("{before}{BEGIN}{table}{END}{after}");
        if std::env::var_os("TRIMODAL_WRITE_MANIFEST").is_some() {
            std::fs::write(root().join(path), expected).unwrap();
        } else {
            let differs = text.lines().zip(expected.lines()).position(|(a, b)| a != b);
            assert!(text == expected, "{path} is not what the manifest says, first in line {}: run scripts/manifest", differs.map_or(0, |at| at + 1));
        }
    }
}

fn head(file: &File) -> String {
    let name = file.file.split_once('/').unwrap().1;
    let formula = file.formula.lines().next().unwrap_or_default();
    let limits = file.limits.split("Traffic:").next().unwrap_or_default().trim();
    format!("### [`{name}`]({name}) {}\n\n{formula}\n\nLimits: {limits}\n\n", file.version)
}

/// What a table cell may hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn shaders() -> String {
    let card = Card::load(&root().join("benches/results/llvmpipe-2-cores/demo.json")).unwrap();
    let mut text = String::new();
    for file in generated().files.iter().filter(|f| f.language == "wgsl") {
        let rows: Vec<&BenchRow> = card.rows.iter().filter(|row| row.op == file.op).collect();
        let shape = compared(&rows);
        text += &head(file);
        text += &format!(
            "| entry | computes | workgroup | workgroups | {} |\n|---|---|---|---|---:|\n",
            shape.map_or("measured".into(), |s| format!("measured, {}", label(s)))
        );
        for entry in &file.entries {
            let case = CASES.iter().find(|(op, name, _)| (*op, *name) == (file.op.as_str(), entry.name.as_str()));
            let row = case.and_then(|(_, _, case)| rows.iter().find(|row| row.entry == *case && Some(row.shape.as_str()) == shape));
            let time = row.map_or("–".into(), |row| milliseconds(row));
            text += &format!("| `{}` | {} | {} | `{}` | {time} |\n", entry.name, cell(&entry.what), block(&entry.block), entry.grid);
        }
        if !file.constants.is_empty() {
            text += &format!("\nConstants: {}.{}\n", file.constants.iter().map(constant).collect::<Vec<_>>().join("; "), rule(file));
        }
        let calls: Vec<String> =
            rows.iter().filter(|row| Some(row.shape.as_str()) == shape).map(|row| format!("{} {}", row.entry, milliseconds(row))).collect();
        if !calls.is_empty() {
            text += &format!("\nWhole calls at this size: {}.\n", calls.join(", "));
        }
        text.push('\n');
    }
    text
}

fn rule(file: &File) -> String {
    if file.constants_rule.is_empty() { String::new() } else { format!(" {}", file.constants_rule) }
}

fn block(expression: &str) -> String {
    if expression.parse::<u32>().is_ok() { expression.into() } else { format!("`{expression}`") }
}

fn constant(constant: &trimodal::contract::catalog::Constant) -> String {
    let values = match constant.range {
        Some([first, last]) => format!("{first} to {last}"),
        None => constant.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let equals = constant.equals.as_ref().map(|field| format!(", equal to `{field}`")).unwrap_or_default();
    let multiple = constant.multiple_of.as_ref().map(|of| format!(", a multiple of `{of}`")).unwrap_or_default();
    format!("`{}` {values} (as it stands {}{equals}{multiple})", constant.name, constant.default)
}

/// The size at which most cases were measured.
fn compared<'a>(rows: &[&'a BenchRow]) -> Option<&'a str> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *sizes.entry(&row.shape).or_default() += 1);
    sizes.into_iter().max_by_key(|(shape, count)| (*count, std::cmp::Reverse(shape.len()))).map(|(shape, _)| shape)
}

fn label(shape: &str) -> &str {
    shape.split(" #").next().unwrap_or(shape).trim()
}

fn milliseconds(row: &BenchRow) -> String {
    let ms = 1e3 * row.seconds.median;
    match ms {
        _ if ms < 0.1 => format!("{:.0} µs", 1e3 * ms),
        _ if ms < 10.0 => format!("{ms:.2} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

fn kernels() -> String {
    let mut text = String::new();
    for file in generated().files.iter().filter(|f| f.language == "cuda") {
        text += &head(file);
        text += "| entries | compute | block | grid | shared bytes | registers |\n|---|---|---|---|---:|---:|\n";
        let mut groups: Vec<(&Entry, Vec<&Entry>)> = Vec::new();
        for entry in &file.entries {
            let same = |first: &Entry| (&first.what, &first.about, &first.block, &first.grid) == (&entry.what, &entry.about, &entry.block, &entry.grid);
            match groups.iter_mut().find(|(first, _)| same(first)) {
                Some((_, entries)) => entries.push(entry),
                None => groups.push((entry, vec![entry])),
            }
        }
        for (first, entries) in groups {
            let names = entries.iter().map(|e| format!("`{}`", e.name)).collect::<Vec<_>>().join(", ");
            let shared = entries.iter().map(|e| e.shared.parse::<u32>().unwrap() + e.dynamic_shared);
            let registers = range(entries.iter().filter_map(|e| e.registers));
            text += &format!("| {names} | {} | {} | `{}` | {} | {registers} |\n", cell(&first.what), first.block, first.grid, range(shared));
        }
        text.push('\n');
    }
    text
}

/// `96`, `64 to 128`.
fn range(numbers: impl Iterator<Item = u32> + Clone) -> String {
    let (least, most) = (numbers.clone().min().unwrap_or(0), numbers.max().unwrap_or(0));
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}
