//! `LEARN.md` agrees with the sources and the score cards, and its exercises do what an exercise should: fail until they are solved.
//!
//! `TRIMODAL_WRITE_LEARN=1`, as `scripts/learn` sets it, writes what is generated of the guide (line numbers, tables, exercises,
//! pictures) instead of comparing it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use trimodal::bench::{BenchRow, Card};
use trimodal::learn::{CHAPTERS, EXERCISES, Exercise, MARK};
use trimodal::ops;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn writing() -> bool {
    std::env::var_os("TRIMODAL_WRITE_LEARN").is_some()
}

// ── the text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The line of a kernel file that defines an entry.
fn line_of(file: &str, entry: &str) -> usize {
    let text = fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    // Its name may stand on the line after `__global__ void __launch_bounds__(…)`.
    let lines: Vec<&str> = text.lines().collect();
    let named = |line: &str| line.split(' ').any(|word| word.starts_with(&format!("{entry}(")));
    let found = (0..lines.len()).find(|&i| named(lines[i]) && [i.saturating_sub(1), i].iter().any(|&j| lines[j].contains("__global__")));
    found.unwrap_or_else(|| panic!("{file} defines no {entry}")) + 1
}

/// `[`entry` (file:123)](file#L123)`, with the line where the entry is now.
fn with_lines(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("[`") {
        let link = rest[at..].split_once("` (").and_then(|(entry, after)| {
            let (place, after) = after.split_once(")](")?;
            let (file, _) = place.rsplit_once(':')?;
            let (target, _) = after.split_once(')')?;
            let whole = format!("{entry}` ({place})]({target})");
            (target.starts_with(&format!("{file}#L")) && rest[at..].starts_with(&whole)).then(|| (entry[2..].to_string(), file.to_string(), whole.len()))
        });
        match link {
            Some((entry, file, length)) => {
                let line = line_of(&file, &entry);
                result += &format!("{}[`{entry}` ({file}:{line})]({file}#L{line})", &rest[..at]);
                rest = &rest[at + length..];
            }
            None => {
                result += &rest[..at + 2];
                rest = &rest[at + 2..];
            }
        }
    }
    result + rest
}

/// Everything between `<!-- kind argument -->` and `<!-- end -->`, made anew.
fn with_blocks(text: &str, kind: &str, make: impl Fn(&str) -> String) -> String {
    let (begin, end) = (format!("<!-- {kind} "), "<!-- end -->");
    let mut parts = text.split(&begin);
    let mut result = parts.next().expect("a first part").to_string();
    for part in parts {
        let (argument, after) = part.split_once(" -->").expect("the mark is closed");
        let (_, after) = after.split_once(end).unwrap_or_else(|| panic!("{begin}{argument}: no {end}"));
        result += &format!("{begin}{argument} -->\n{}{end}{after}", make(argument));
    }
    result
}

/// Our own cards: the device's name for a table's head, and the rows.
fn cards() -> Vec<(String, Card)> {
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("benches/results")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    let cards = folders.iter().filter_map(|folder| Card::load(&folder.join("demo.json")).ok());
    cards.map(|card| (format!("{} ({})", card.device.name.split(" (").next().unwrap_or_default(), card.device.kind), card)).collect()
}

/// The rungs of an operation in one pass: times at the sizes of the demo at which the most of them were measured.
fn rungs(argument: &str) -> String {
    let (op, pass) = argument.split_once(' ').map_or((argument, None), |(op, pass)| (op, Some(pass)));
    let cards = cards();
    let mut text = String::new();
    let passes: Vec<&str> = match pass {
        Some(pass) => vec![pass],
        None => vec!["forward", "backward", "update"],
    };
    for pass in passes {
        // Of all sizes, the one that most rungs have been measured at on any device.
        let mut sizes: BTreeMap<&str, Vec<(usize, &BenchRow)>> = BTreeMap::new();
        for (device, (_, card)) in cards.iter().enumerate() {
            for row in card.rows.iter().filter(|row| row.op == op && row.pass == pass) {
                sizes.entry(&row.shape).or_default().push((device, row));
            }
        }
        let Some((shape, rows)) = sizes.into_iter().max_by_key(|(shape, rows)| (rows.len(), std::cmp::Reverse(shape.len()))) else { continue };
        let mut entries: Vec<&str> = Vec::new();
        rows.iter().for_each(|(_, row)| {
            if !entries.contains(&row.entry.as_str()) {
                entries.push(&row.entry)
            }
        });
        let devices: Vec<usize> = (0..cards.len()).filter(|device| rows.iter().any(|(of, _)| of == device)).collect();
        text += &format!("| {op}, {pass}: {} |", shape.split(" #").next().unwrap_or(shape).trim());
        devices.iter().for_each(|device| text += &format!(" {} |", cards[*device].0));
        text += &format!("\n|---|{}\n", "---:|".repeat(devices.len()));
        for entry in entries {
            let name = entry.split_once(':').map_or("as chosen", |(_, rung)| rung);
            text += &format!("| {name} |");
            for device in &devices {
                let time = rows.iter().find(|(of, row)| of == device && row.entry == entry).map_or("–".into(), |(_, row)| milliseconds(row));
                text += &format!(" {time} |");
            }
            text.push('\n');
        }
        text.push('\n');
    }
    assert!(!text.is_empty(), "no card has measured {argument}");
    text
}

fn milliseconds(row: &BenchRow) -> String {
    let ms = 1e3 * row.seconds.median;
    if ms < 0.1 {
        format!("{:.0} µs", 1e3 * ms)
    } else if ms < 10.0 {
        format!("{ms:.2} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

fn exercise(what: &str) -> String {
    let Exercise { id, task, .. } = Exercise::find(what).unwrap_or_else(|| panic!("no exercise {what}"));
    format!("**Exercise.** {task}\n\n```sh\ntrimodal learn exercise {id} --to mine.wgsl\ntrimodal check --shader mine.wgsl\n```\n\n")
}

#[test]
fn the_guide_says_what_the_sources_say() {
    let path = root().join("LEARN.md");
    let text = fs::read_to_string(&path).unwrap();
    let expected = with_blocks(&with_blocks(&with_lines(&text), "rungs", rungs), "exercise", exercise);
    if writing() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    let differs = text.lines().zip(expected.lines()).position(|(a, b)| a != b);
    assert!(text == expected, "LEARN.md is not what sources and cards say, first in line {}: run scripts/learn", differs.map_or(0, |at| at + 1));
}

#[test]
fn the_guide_is_whole() {
    let text = fs::read_to_string(root().join("LEARN.md")).unwrap();
    assert_eq!(text.matches("\n## ").count(), CHAPTERS.len());
    let cards = cards();
    for chapter in CHAPTERS {
        let number = chapter.number;
        assert!(!chapter.title().is_empty(), "chapter {number}");
        let part = chapter.text();
        assert!(part.starts_with(&format!("## {number}. ")));
        // What no card has measured has no table.
        let measured = cards.iter().any(|(_, card)| card.rows.iter().any(|row| ops::of_file(chapter.stem).is_some_and(|op| op.name == row.op)));
        let rungs = if measured { "<!-- rungs " } else { "" };
        for piece in ["**Backward", &format!("<!-- exercise {} -->", chapter.stem), rungs, ".svg)", "](kernels/"] {
            assert!(part.contains(piece), "chapter {number} has no {piece}");
        }
    }
    // Every file that a link or picture names is there.
    for target in text.split("](").skip(1).filter_map(|after| after.split_once(')')).map(|(target, _)| target).filter(|t| !t.starts_with("http")) {
        let file = target.split('#').next().unwrap_or_default();
        assert!(file.is_empty() || root().join(file).exists(), "LEARN.md links to {file}, which is not there");
    }
}

#[cfg(feature = "cli")]
#[test]
fn the_pictures_are_those_that_the_program_draws() {
    let folder = root().join("docs/learn");
    for (name, svg) in trimodal::report::lessons::all().unwrap() {
        if writing() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(&name), &svg).unwrap();
        }
        let found = fs::read_to_string(folder.join(&name)).unwrap_or_else(|e| panic!("docs/learn/{name}: {e}: run scripts/learn"));
        // Words and number of marks: the last digit of a coordinate may differ where another processor adds in another order.
        let words = |svg: &str| svg.split("<text").skip(1).filter_map(|t| Some(t.split_once('>')?.1.split_once('<')?.0.to_string())).collect::<Vec<_>>();
        assert!(
            words(&found) == words(&svg) && found.matches('<').count() == svg.matches('<').count(),
            "docs/learn/{name} is not what is drawn: run scripts/learn"
        );
    }
}

// ── the exercises ────────────────────────────────────────────────────────────────────────────────────────────────────

/// Refused as they are given; as they should be handed in they are the crate's shaders.
#[cfg(feature = "wgpu")]
#[test]
fn exercises_fail_until_they_are_solved() {
    use std::sync::Arc;
    use trimodal::check::{self, Effort};
    use trimodal::device::{Device, Gpu, wgpu};
    let folder = tempfile::tempdir().unwrap();
    let judge = |source: &str, exercise: &Exercise| {
        let path: &Path = &folder.path().join("mine.wgsl");
        fs::write(path, source).unwrap();
        let replaced = wgpu::Replaced::read(path).unwrap_or_else(|e| panic!("exercise {}: {e}", exercise.id));
        assert_eq!(replaced.stem, exercise.stem);
        let options = wgpu::ContextOptions { replaced: Some(replaced), ..Default::default() };
        let context = wgpu::Context::open(None, options).ok()?;
        let op = ops::of_file(exercise.stem).map(|op| op.name);
        let report = check::run_with(&Device::Gpu(Gpu::Wgpu(Arc::new(context))), op, Effort::quick(), |_| ()).unwrap();
        Some((report.cases.executed, report.cases.failed))
    };
    for exercise in EXERCISES {
        let number = exercise.id;
        assert_eq!(exercise.shader().matches(exercise.cut).count(), 1, "exercise {number}: its piece stands once in {}.wgsl", exercise.stem);
        let given = exercise.text();
        assert!(given.contains(MARK) && !given.contains(exercise.cut), "exercise {number}");
        let Some((executed, failed)) = judge(&given, exercise) else {
            assert!(std::env::var_os("TRIMODAL_REQUIRE_WGPU").is_none(), "no wgpu adapter");
            println!("SKIPPED: no wgpu adapter");
            return;
        };
        assert!(failed > 0, "exercise {number}, {}: all {executed} cases pass with a piece missing", exercise.stem);
        // Put back, it is the crate's own shader, which `check` judges.
        let solved: String = given.replacen(exercise.put, exercise.cut, 1).split_inclusive('\n').filter(|line| !line.contains(MARK)).collect();
        assert!(solved == exercise.shader(), "exercise {number}, {}: with the piece put back it is another shader", exercise.stem);
    }
}
