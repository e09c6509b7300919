//! `LEARN.md` agrees with the sources and the score cards, and its exercises do what an exercise should: fail until they are solved.
//!
//! `TRIMODAL_WRITE_LEARN=1`, as `scripts/learn` sets it, writes what is generated of the guide (line numbers, tables, exercises,
//! pictures) instead of comparing it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimodal::DType;
use trimodal::bench::{BenchRow, Card};
use trimodal::device::dry::DryRecorder;
use trimodal::device::{Device, Gpu, Language};
use trimodal::learn::{CHAPTERS, EXERCISES, Exercise, MARK};
use trimodal::ops::case::Case;
use trimodal::ops::{self, Sizes};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn writing() -> bool {
    std::env::var_os("TRIMODAL_WRITE_LEARN").is_some()
}

// ── the text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The line of a kernel or shader that defines an entry.
fn line_of(file: &str, entry: &str) -> usize {
    let text = fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    // Its name may stand on the line after `__global__ void __launch_bounds__(…)`; in WGSL it does after `@compute`.
    let head = if file.ends_with(".wgsl") { "@compute" } else { "__global__" };
    let lines: Vec<&str> = text.lines().collect();
    let named = |line: &str| line.split(' ').any(|word| word.starts_with(&format!("{entry}(")));
    let found = (0..lines.len()).find(|&i| named(lines[i]) && [i.saturating_sub(1), i].iter().any(|&j| lines[j].contains(head)));
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

/// What an operation launches by itself on devices of a kind: the name of the rung that launches the same; where none does, the constants in which it
/// differs from its other rung.
fn chosen(op: &str, pass: &str, shape: &str, kind: &str) -> Option<String> {
    let language = match kind {
        "wgpu" | "webgpu" => Language::Wgsl,
        // A recorder of launches is no Hopper.
        "cuda" if !root().join(format!("kernels/hopper/{op}.cu")).exists() => Language::Ptx,
        _ => return None,
    };
    // llvmpipe grants 32 KiB, as GPUs do.
    let recorder = Arc::new(DryRecorder::with_shared_bytes(language, if language == Language::Wgsl { 32 << 10 } else { 48 << 10 }));
    let device = Device::Gpu(Gpu::Dry(recorder.clone()));
    let launches = |case: &Case| -> Vec<String> {
        case.run_on_zeros(&device, DType::F32).unwrap_or_else(|e| panic!("{op} {}: {e}", case.entry));
        recorder.kernels()
    };
    let of_pass = |case: &Case| case.entry.split(':').next() == Some(pass) && case.label == shape;
    let cases: Vec<Case> = (ops::named(Some(op)).unwrap()[0].sized)(&Sizes::DEMO).into_iter().filter(of_pass).collect();
    let cases: Vec<Case> = cases.into_iter().filter(|case| !case.only_mixed && case.skip.is_none_or(|skip| skip(&device).is_none())).collect();
    let itself = launches(cases.iter().find(|case| case.entry == pass)?);
    let others: Vec<(&str, Vec<String>)> = cases.iter().filter_map(|case| Some((case.entry.split_once(':')?.1, launches(case)))).collect();
    if let Some((rung, _)) = others.iter().find(|(_, launched)| *launched == itself) {
        return Some(rung.to_string());
    }
    let constants = |launched: &[String]| -> Vec<String> { launched.iter().flat_map(|kernel| kernel.split(' ').skip(1)).map(str::to_string).collect() };
    let (_, other) = others.first()?;
    let own: BTreeSet<String> = constants(&itself).into_iter().filter(|constant| !constants(other).contains(constant)).collect();
    (!own.is_empty()).then(|| own.into_iter().collect::<Vec<_>>().join(", "))
}

/// The rungs of an operation in one pass: times at the sizes of the demo at which the most of them were measured, and which of them is chosen.
fn rungs(argument: &str) -> String {
    let (op, pass) = argument.split_once(' ').map_or((argument, None), |(op, pass)| (op, Some(pass)));
    let cards = cards();
    let mut text = String::new();
    let passes: Vec<&str> = match pass {
        Some(pass) => vec![pass],
        None => vec!["forward", "backward", "update"],
    };
    let mut naive_wins = BTreeSet::new();
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
        // Two operations have no case of that name: by themselves they take the widest rung that the sizes allow, which is listed last.
        let unnamed = !entries.contains(&pass);
        assert!(!unnamed || ["embedding", "rope"].contains(&op), "{op} {pass}: no row says what the operation chooses");
        if unnamed {
            entries.insert(0, pass);
        }
        let devices: Vec<usize> = (0..cards.len()).filter(|device| rows.iter().any(|(of, _)| of == device)).collect();
        text += &format!("| {op}, {pass}: {} |", shape.split(" #").next().unwrap_or(shape).trim());
        devices.iter().for_each(|device| text += &format!(" {} |", cards[*device].0));
        text += &format!("\n|---|{}\n", "---:|".repeat(devices.len()));
        let kind = |device: usize| cards[device].1.device.kind.as_str();
        let rung_of = |row: &BenchRow| row.entry.split_once(':').map(|(_, rung)| rung.to_string());
        for entry in entries {
            let name = entry.split_once(':').map_or("as chosen", |(_, rung)| rung);
            text += &format!("| {name} |");
            for &device in &devices {
                let of_device = || rows.iter().filter(move |(of, _)| *of == device).map(|(_, row)| *row);
                // The CPU has one way beside the plain loops: it is what is chosen.
                let only = unnamed && kind(device) == "cpu" && !entry.ends_with(":naive");
                let found = match (entry == pass && unnamed, only) {
                    (true, _) => of_device().rfind(|row| !row.entry.ends_with(":naive")),
                    (false, true) => None,
                    (false, false) => of_device().find(|row| row.entry == entry),
                };
                let rung = found.filter(|_| entry == pass && kind(device) != "cpu").and_then(|row| match unnamed {
                    true => rung_of(row),
                    false => chosen(op, pass, shape, kind(device)),
                });
                let time = found.map_or("–".into(), milliseconds);
                text += &format!(" {time}{} |", rung.map(|rung| format!(" ({rung})")).unwrap_or_default());
            }
            text.push('\n');
        }
        text.push('\n');
        for &device in devices.iter().filter(|&&device| kind(device) != "cpu") {
            let of_device = || rows.iter().filter(|(of, _)| *of == device).map(|(_, row)| row);
            let naive = of_device().find(|row| row.entry == format!("{pass}:naive")).map(|row| row.seconds.median);
            if naive.is_some_and(|naive| of_device().any(|row| row.seconds.median > 1.1 * naive)) {
                naive_wins.insert(cards[device].1.device.name.split(" (").next().unwrap_or_default());
            }
        }
    }
    if !naive_wins.is_empty() {
        let names: Vec<&str> = naive_wins.into_iter().collect();
        text += &format!("On {} the naive rung wins: [chapter 0 says why](#why-a-faster-rung-may-lose).\n\n", names.join(" and "));
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
    // A chapter with several of them numbers them.
    let number = if id.contains('.') { format!(" {id}") } else { String::new() };
    format!(
        "**Exercise{number}.** {task}\n\n```sh\ntrimodal learn exercise {id} --to mine.wgsl\ntrimodal check --shader mine.wgsl\ntrimodal learn hint {id}\n```\n\n"
    )
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

/// A hint is a step: there are some for every exercise, and only the last may hold what is missing.
#[test]
fn every_exercise_has_hints() {
    for exercise in EXERCISES {
        assert!((2..=3).contains(&exercise.hints.len()), "exercise {}: {} hints", exercise.id, exercise.hints.len());
        let (_, before) = exercise.hints.split_last().expect("some");
        assert!(before.iter().all(|hint| !hint.contains(exercise.cut)), "exercise {}: an early hint tells", exercise.id);
        assert!(!exercise.entries.is_empty(), "exercise {}", exercise.id);
    }
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
        // Chapter 0 is about what a GPU is, and trains nothing.
        let backward = if number == 0 { "" } else { "**Backward" };
        for piece in [backward, rungs, ".svg)", "](kernels/", "](shaders/"] {
            assert!(part.contains(piece), "chapter {number} has no {piece}");
        }
        let named = |exercise: &&Exercise| part.contains(&format!("<!-- exercise {} -->", if number == 0 { exercise.id } else { exercise.stem }));
        let own: Vec<&Exercise> = EXERCISES.iter().filter(|exercise| exercise.chapter == number).collect();
        assert!(!own.is_empty() && own.iter().all(named), "chapter {number} has not all of its exercises");
        // Whoever reads a kernel in one language finds it in the other.
        for file in ops::OPS.iter().flat_map(|op| op.files) {
            let [cuda, wgsl] = [format!("](kernels/{file}.cu#L"), format!("](shaders/{file}.wgsl#L")].map(|link| part.matches(&link).count());
            assert_eq!(cuda, wgsl, "chapter {number}: links into {file}.cu and {file}.wgsl");
        }
    }
    // What chapter 0 shows of a shader is what is there.
    let shown = CHAPTERS[0].text().split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a shader");
    let shader = fs::read_to_string(root().join("shaders/primer.wgsl")).unwrap();
    let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_string();
    let lines: Vec<String> = shader.lines().map(code).collect();
    for line in shown.lines().map(code).filter(|line| !line.is_empty()) {
        assert!(lines.contains(&line), "chapter 0 shows a line that shaders/primer.wgsl does not have: {line}");
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

#[cfg(feature = "wgpu")]
mod exercises {
    use super::*;
    use trimodal::check::{Depth, ReplacedReport, run_replaced};
    use trimodal::device::wgpu;
    use trimodal::report::Answer;

    /// What fits a terminal of the usual size.
    const SCREEN: (usize, usize) = (80, 24);

    /// A file checked as `trimodal check --shader` does it; `None` where there is nothing to run it on.
    fn check(source: &str, exercise: &Exercise) -> Option<ReplacedReport> {
        let folder = tempfile::tempdir().unwrap();
        let path: &Path = &folder.path().join("mine.wgsl");
        fs::write(path, source).unwrap();
        let replaced = wgpu::Replaced::read(path).unwrap_or_else(|e| panic!("exercise {}: {e}", exercise.id));
        assert_eq!(replaced.stem, exercise.stem);
        assert_eq!(Exercise::of(replaced.stem, source), Some(exercise));
        let options = wgpu::ContextOptions { replaced: Some(replaced), ..Default::default() };
        let Ok(context) = wgpu::Context::open(None, options) else {
            assert!(std::env::var_os("TRIMODAL_REQUIRE_WGPU").is_none(), "no wgpu adapter");
            println!("SKIPPED: no wgpu adapter");
            return None;
        };
        let device = Device::Gpu(Gpu::Wgpu(Arc::new(context)));
        Some(run_replaced(&device, exercise.stem, exercise.entries, Depth::Few, |_| ()).unwrap_or_else(|e| panic!("exercise {}: {e}", exercise.id)))
    }

    /// As somebody would hand it in: the piece back in the line under the mark.
    fn solved(exercise: &Exercise) -> String {
        let given = exercise.text();
        let mark = given.find(MARK).expect("a mark");
        let under = mark + given[mark..].find('\n').expect("a line under it");
        format!("{}{}", &given[..under], given[under..].replacen(exercise.put, exercise.cut, 1))
    }

    /// Refused as it was given: on one screen, with the smallest failing case, what is wrong in it, and what to do next.
    #[test]
    fn each_is_refused_as_it_is_given() {
        for exercise in EXERCISES {
            let number = exercise.id;
            assert_eq!(exercise.shader().matches(exercise.cut).count(), 1, "exercise {number}: its piece stands once in {}.wgsl", exercise.stem);
            let given = exercise.text();
            assert!(given.contains(MARK) && !given.contains(exercise.cut), "exercise {number}");
            let Some(found) = check(&given, exercise) else { return };
            let answer = Answer { stem: exercise.stem, exercise: Some(exercise), source: &given, found: &found };
            assert!(!answer.is_right() && answer.is_as_given(), "exercise {number}, {}: no case fails with a piece missing", exercise.stem);
            let first = found.first.as_ref().expect("a failure");
            assert!(exercise.entries.contains(&first.entry), "exercise {number}: {} fails, which it is not about", first.entry);
            let rows = || found.report.ops.iter();
            assert!(rows().all(|row| (row.failed > 0) == (row.worst > 1.0)), "exercise {number}: `worst` counts failures: {:?}", found.report);
            assert!(rows().all(|row| row.failed == row.failures.len() && row.failed == row.details.len()));
            let lines = answer.lines(SCREEN.0);
            let text = lines.join("\n");
            println!("{text}\n");
            assert!(lines.len() < SCREEN.1 && lines.iter().all(|line| line.chars().count() <= SCREEN.0), "exercise {number}: {} lines\n{text}", lines.len());
            let pieces = ["as it was given: the line under the mark (line ", "The smallest case that fails: ", "expected", "Wrong elements of ", "`--all`"];
            for piece in pieces.into_iter().chain([&*format!("Next: trimodal learn hint {number}")]) {
                // A sentence may go on in the next line.
                assert!(
                    text.contains(piece) || text.split_whitespace().collect::<Vec<_>>().join(" ").contains(piece),
                    "exercise {number} does not say {piece:?}:\n{text}"
                );
            }
        }
    }

    /// Accepted once it is solved, by cases that really ran.
    #[test]
    fn each_is_accepted_once_it_is_solved() {
        for exercise in EXERCISES {
            let number = exercise.id;
            let source = solved(exercise);
            let Some(found) = check(&source, exercise) else { return };
            let answer = Answer { stem: exercise.stem, exercise: Some(exercise), source: &source, found: &found };
            let text = answer.lines(SCREEN.0).join("\n");
            println!("{text}\n");
            assert!(answer.is_right() && !answer.is_as_given() && found.first.is_none(), "exercise {number}:\n{text}");
            for entry in exercise.entries {
                let ran = found.report.ops.iter().filter(|row| row.entry == *entry).map(|row| row.executed).sum::<usize>();
                assert!(ran >= 3, "exercise {number}: {ran} cases of {entry} ran");
            }
            assert!(text.starts_with(&exercise.name()) && text.contains("solved"), "{text}");
            assert!(text.contains(if exercise.next().is_some() { "Next: trimodal learn " } else { "That was the last of " }), "{text}");
        }
    }

    /// Something wrong besides what was missing is told from what was missing; what was solved in other words is solved.
    #[test]
    fn other_answers() {
        let exercise = Exercise::find("rms_norm").expect("an exercise");
        let right = solved(exercise);
        let forward = right.replacen("y[base + c] =", "y[base + c] = 1.5 *", 1);
        assert_ne!(forward, right, "rms_norm.wgsl writes y in another way now");
        let Some(found) = check(&forward, exercise) else { return };
        let text = Answer { stem: exercise.stem, exercise: Some(exercise), source: &forward, found: &found }.lines(80).join("\n");
        assert!(text.starts_with("Exercise 5 of 13: what was missing is right, but something else in the file is"), "{text}");
        assert!(text.contains("`forward` is wrong") && text.contains("Still right: backward (") && text.contains("Next: take back"), "{text}");
        let words = right.replacen(exercise.cut, "let inner = b_weight[c] * b_dy[base + c] - slope * b_x[base + c]; var value = inner * r;", 1);
        assert_ne!(words, right);
        let found = check(&words, exercise).expect("as before");
        let answer = Answer { stem: exercise.stem, exercise: Some(exercise), source: &words, found: &found };
        assert!(answer.is_right(), "{}", answer.lines(80).join("\n"));
        // A NaN is counted as what it is.
        let none = right.replacen(exercise.cut, "var value = bitcast<f32>(0x7fc00000u | (c & 0u));", 1);
        let found = check(&none, exercise).expect("as before");
        let text = Answer { stem: exercise.stem, exercise: Some(exercise), source: &none, found: &found }.lines(80).join("\n");
        assert!(text.starts_with("Exercise 5 of 13: not yet.") && text.contains("not numbers") && text.contains("NaN"), "{text}");
    }
}
