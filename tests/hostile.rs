//! Files that nobody vouches for: mutants, truncations, and lies made by hand. A reader may take them or refuse them by name; it
//! never panics, takes at most a second and at most 256 MiB.
//!
//! `scripts/soak-fuzz` runs millions of mutants through [`mutants_are_taken_or_refused`]; without it, as many as a test run can
//! afford. A mutant is named by its format and its number: `TRIMODAL_FUZZ_FORMAT=png TRIMODAL_FUZZ_FROM=123 TRIMODAL_FUZZ=1`
//! makes just that one again.

#[path = "hostile/crafted.rs"]
mod crafted;
#[path = "hostile/formats.rs"]
mod formats;
#[path = "hostile/guard.rs"]
mod guard;
#[path = "hostile/mutate.rs"]
mod mutate;
#[path = "hostile/repair.rs"]
mod repair;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use formats::Format;
use guard::{Outcome, measure};

#[global_allocator]
static ALLOCATOR: guard::Counting = guard::Counting;

/// A mutant that was read wrongly is kept here.
fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
    fs::create_dir_all(&folder).expect("a folder for what failed");
    folder.join(name)
}

/// A folder in memory, where the system has one: a million files should not wear out a disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("trimodal-hostile-");
    if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }.expect("a folder")
}

/// In bytes: the longest list of ten bad rows, each of which quotes at most so much of what was found.
const MAX_WORDS: usize = 15_000;

/// What many readings came to.
#[derive(Default)]
struct Tally {
    files: u64,
    taken: u64,
    contained: u64,
    /// The first panics that a reader contained, with the file's name.
    contained_said: Vec<String>,
    slowest: Duration,
    peak: usize,
    bad: Vec<String>,
    bad_count: u64,
    /// Sentences that name no place in the file, without their numbers, and how many there were.
    placeless: BTreeMap<String, u64>,
}

impl Tally {
    /// Reads one file and counts what happened.
    fn read(&mut self, format: Format, path: &Path, name: &str) {
        guard::reading(path);
        let outcome = measure(|| format.read(path));
        self.files += 1;
        self.taken += outcome.refused.is_none() as u64;
        self.contained += outcome.contained.len() as u64;
        for panic in outcome.contained.iter().take(3 - self.contained_said.len().min(3)) {
            self.contained_said.push(format!("{name}: {panic}"));
        }
        self.slowest = self.slowest.max(outcome.time);
        self.peak = self.peak.max(outcome.peak);
        if let Some(what) = self.verdict(&outcome, path, guard::TIME) {
            self.bad_count += 1;
            if self.bad.len() < 10 {
                let copy = kept(name);
                let _ = fs::copy(path, &copy);
                self.bad.push(format!("{}: {what}", copy.display()));
            }
        }
    }

    fn verdict(&mut self, outcome: &Outcome, path: &Path, most: Duration) -> Option<String> {
        if let Some(panic) = &outcome.escaped {
            return Some(format!("panicked: {panic}"));
        }
        if outcome.time > most {
            return Some(format!("took {:?}", outcome.time));
        }
        if outcome.peak > guard::MEMORY {
            return Some(format!("took {} bytes of memory", outcome.peak));
        }
        let sentence = outcome.refused.as_ref()?;
        // A row's picture may be refused in the name of the table or in its own.
        let folder = path.parent().expect("a folder").to_string_lossy();
        // `12 bad samples: (1) metadata.jsonl, line 3: …`: the list of a data set's bad rows.
        let list = sentence.split_once(": ").filter(|(count, _)| count.ends_with(" bad sample") || count.ends_with(" bad samples"));
        let sentence = list.map_or(sentence.as_str(), |(_, rest)| rest.strip_prefix("(1) ").unwrap_or(rest));
        let Some(rest) = sentence.strip_prefix(&*path.to_string_lossy()).or_else(|| sentence.strip_prefix(&*folder)) else {
            return Some(format!("refused without the file's name: {sentence}"));
        };
        if sentence.len() > MAX_WORDS || sentence.contains('\n') {
            return Some(format!("refused in more than a sentence: {sentence}"));
        }
        // `, line 3`, `, byte 128` and `(read up to byte 128 of 300)` are ours, ` at line 3 column 5` is what other people's parsers say.
        if !rest.starts_with(", ") && ![" at line ", " byte ", " bytes"].iter().any(|place| rest.contains(place)) {
            let shape: String = rest.chars().take(60).map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
            if self.placeless.len() < 1_000 || self.placeless.contains_key(&shape) {
                *self.placeless.entry(shape).or_default() += 1;
            }
        }
        None
    }

    fn add(&mut self, other: Tally) {
        self.files += other.files;
        self.taken += other.taken;
        self.contained += other.contained;
        self.contained_said.extend(other.contained_said);
        self.slowest = self.slowest.max(other.slowest);
        self.peak = self.peak.max(other.peak);
        self.bad.extend(other.bad);
        self.bad_count += other.bad_count;
        for (shape, count) in other.placeless {
            *self.placeless.entry(shape).or_default() += count;
        }
    }

    fn line(&self, format: Format) -> String {
        format!(
            "{:12} {:>9} files, {:>9} taken, {} bad, {} panics contained, slowest {:.1} ms, most memory {:.2} MiB",
            format.name(),
            self.files,
            self.taken,
            self.bad_count,
            self.contained,
            self.slowest.as_secs_f64() * 1e3,
            self.peak as f64 / (1 << 20) as f64
        )
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn mutants_are_taken_or_refused() {
    let count = setting("TRIMODAL_FUZZ").unwrap_or(2_000);
    let from = setting("TRIMODAL_FUZZ_FROM").unwrap_or(0);
    let seconds = setting("TRIMODAL_FUZZ_SECONDS").unwrap_or(3_600);
    let only = std::env::var("TRIMODAL_FUZZ_FORMAT").ok();
    let threads = setting("TRIMODAL_FUZZ_THREADS").unwrap_or(std::thread::available_parallelism().map_or(1, |n| n.get()) as u64);
    let mut bad = Vec::new();
    let mut report = serde_json::Map::new();
    for format in Format::ALL.into_iter().filter(|format| only.as_ref().is_none_or(|name| name == format.name())) {
        let seeds = format.seeds();
        let start = Instant::now();
        // Threads take turns of 256, so that where it stops every number before has had its turn.
        let next = std::sync::atomic::AtomicU64::new(from);
        let work = || {
            let folder = folder();
            format.furnish(folder.path());
            let path = folder.path().join(format.file());
            let mut tally = Tally::default();
            loop {
                let turn = next.fetch_add(256, std::sync::atomic::Ordering::Relaxed);
                if turn >= from + count || start.elapsed() > Duration::from_secs(seconds) {
                    return tally;
                }
                for number in turn..(turn + 256).min(from + count) {
                    fs::write(&path, format.mutant(&seeds, number)).expect("a file");
                    tally.read(format, &path, &format!("{}-{number}", format.name()));
                }
            }
        };
        let mut tally = Tally::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().for_each(|thread| tally.add(thread.join().expect("a thread of the test")));
        });
        println!("{}", tally.line(format));
        tally.contained_said.iter().for_each(|said| println!("    contained: {said}"));
        let mut placeless: Vec<_> = tally.placeless.iter().collect();
        placeless.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (shape, count) in placeless.into_iter().take(12) {
            println!("    {count:>7} × {shape}");
        }
        report.insert(
            format.name().into(),
            serde_json::json!({
                "mutants": tally.files,
                "next": from + tally.files,
                "taken": tally.taken,
                "bad": tally.bad_count,
                "panics_contained": tally.contained,
                "slowest_ms": (tally.slowest.as_secs_f64() * 1e5).round() / 1e2,
                "most_memory_bytes": tally.peak,
                "seconds": start.elapsed().as_secs_f64().round(),
                "overflow_checks": guard::overflow_is_checked(),
            }),
        );
        bad.extend(tally.bad);
    }
    if let Ok(path) = std::env::var("TRIMODAL_FUZZ_REPORT") {
        fs::write(&path, serde_json::Value::Object(report).to_string()).expect("the report");
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// For `scripts/soak-fuzz`, which asks for them by name.
#[test]
fn formats_are_listed() {
    for format in Format::ALL {
        println!("format: {}", format.name());
    }
}

#[test]
fn every_truncation_is_taken_or_refused() {
    for format in Format::ALL {
        let folder = folder();
        format.furnish(folder.path());
        let path = folder.path().join(format.file());
        let mut tally = Tally::default();
        for seed in format.seeds() {
            fs::write(&path, &seed).expect("a file");
            format.read(&path).unwrap_or_else(|error| panic!("{} as it should be: {error}", format.name()));
            for length in 0..seed.len() {
                fs::write(&path, &seed[..length]).expect("a file");
                tally.read(format, &path, &format!("{}-truncated-{length}", format.name()));
            }
        }
        println!("{}", tally.line(format));
        // A table may end after any row, and in CSV a row after any word; of the others all is needed but the last white space.
        assert!(tally.bad.is_empty(), "{}", tally.bad.join("\n"));
        let may_end = match format {
            Format::Jsonl | Format::Csv | Format::Tar | Format::Settings => u64::MAX,
            // An MP3 is a row of frames, and has no end.
            Format::Mp3 => u64::MAX,
            Format::Config => 2,
            _ => 0,
        };
        assert!(tally.taken <= may_end, "{}: {} truncated files were taken", format.name(), tally.taken);
    }
}

#[test]
fn lies_made_by_hand_are_refused() {
    let mut bad = Vec::new();
    for lie in crafted::lies() {
        let folder = folder();
        lie.format.furnish(folder.path());
        let path = folder.path().join(lie.format.file());
        fs::write(&path, &lie.bytes).expect("a file");
        guard::reading(&path);
        let outcome = measure(|| lie.format.read(&path));
        let (ms, mib) = (outcome.time.as_secs_f64() * 1e3, outcome.peak as f64 / (1 << 20) as f64);
        println!("{:12} {:45} {ms:8.1} ms {mib:8.2} MiB  {}", lie.format.name(), lie.what, outcome.refused.as_deref().unwrap_or("taken"));
        let mut tally = Tally::default();
        let refused = outcome.refused.as_deref().unwrap_or("it was taken");
        let wrong = lie.words.iter().find(|word| !refused.contains(*word)).map(|word| format!("expected {word:?} in: {refused}"));
        // No lie, but as much work as a picture may be: 128 MiB of pixels that are really there.
        let most = if lie.what.contains("the most") && outcome.refused.is_none() { guard::LARGEST } else { guard::TIME };
        bad.extend(tally.verdict(&outcome, &path, most).or(wrong).map(|what| format!("{}: {}: {what}", lie.format.name(), lie.what)));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_config_that_boasts_asks_for_no_memory() {
    let folder = folder();
    crafted::boastful_model(folder.path());
    let outcome = measure(|| trimodal::train::ModelFolder::open(folder.path(), &trimodal::Device::Cpu, trimodal::DType::F32));
    let error = outcome.refused.expect("an error");
    assert!(error.contains("model.safetensors") && error.contains("1048576 layers"), "{error}");
    assert!(outcome.peak < guard::MEMORY && outcome.time < guard::TIME, "{} bytes, {:?}", outcome.peak, outcome.time);
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_folders_are_refused_and_not_waited_for() {
    use std::os::unix::fs::symlink;
    for format in Format::ALL {
        let folder = folder();
        let path = folder.path().join(format.file());
        let refused = |what: &str| {
            guard::reading(&path);
            let outcome = measure(|| format.read(&path));
            let error = outcome.refused.unwrap_or_else(|| panic!("{}: {what} was taken", format.name()));
            assert!(error.contains(&*folder.path().to_string_lossy()), "{}: {what}: {error}", format.name());
            assert!(outcome.time < guard::TIME && outcome.peak < 8 << 20, "{}: {what}: {:?}, {} bytes", format.name(), outcome.time, outcome.peak);
        };
        refused("what is not there");
        fs::create_dir(&path).expect("a folder");
        refused("a folder");
        fs::remove_dir(&path).expect("an empty folder");
        for device in ["/dev/zero", "/dev/full", "/proc/self/mem"] {
            symlink(device, &path).expect("a link");
            refused(device);
            fs::remove_file(&path).expect("a link");
        }
        symlink(format.file(), &path).expect("a link");
        refused("a link to itself");
        fs::remove_file(&path).expect("a link");
        if std::process::Command::new("mkfifo").arg(&path).status().is_ok_and(|status| status.success()) {
            refused("a pipe");
        }
    }
}
