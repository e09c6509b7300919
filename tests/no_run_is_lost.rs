//! No run is lost: by a second process, by signals, closed pipes, full disks, or a folder that vanishes. Every test drives the program.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_trimodal");

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("NODEVICE_SELECT", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program, started by a shell that sets something up first; `exec "$0" "$@"` is added.
fn by_shell(setup: &str, redirect: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{setup}\nexec \"$0\" \"$@\" {redirect}"), PROGRAM]).args(arguments);
    command.env("NODEVICE_SELECT", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or_else(|| panic!("ended by {status}: {}", text(&stderr))), text(&stdout), text(&stderr))
}

fn good(arguments: &[&str]) -> String {
    let (code, out, message) = run(&mut program(arguments));
    assert_eq!(code, 0, "{arguments:?}: {message}");
    out
}

/// A folder with a small data set in it.
struct Place(tempfile::TempDir);

/// A small model, whose steps take a millisecond and whose files are small.
const SMALL: [&str; 9] = [
    "rows=256",
    "hidden_size=32",
    "intermediate_size=64",
    "num_hidden_layers=1",
    "num_attention_heads=2",
    "num_key_value_heads=1",
    "head_dim=16",
    "max_vocabulary=300",
    "keep=2",
];

impl Place {
    fn new() -> Self {
        Self::of(40)
    }

    fn of(samples: usize) -> Self {
        let place = Place(tempfile::tempdir().expect("a folder"));
        good(&["meadow", &place.path("data"), "--samples", &samples.to_string(), "--seed", "5"]);
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// `train data --out RUN --steps N`, and more.
    fn train(&self, out: &str, steps: usize, more: &[&str]) -> Vec<String> {
        let mut all = ["train", &self.path("data"), "--out", &self.path(out), "--steps", &steps.to_string(), "--seed", "3", "--device", "cpu", "--no-report"]
            .map(str::to_string)
            .to_vec();
        all.extend(SMALL.iter().flat_map(|set| ["--set".to_string(), set.to_string()]));
        all.extend(more.iter().map(ToString::to_string));
        all
    }
}

fn as_str(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn latest(run: &str) -> PathBuf {
    let path = Path::new(run);
    path.join(fs::read_to_string(path.join("latest")).unwrap_or_else(|e| panic!("{run}/latest: {e}")).trim())
}

/// What training continues from, byte for byte.
fn bytes(run: &str) -> BTreeMap<&'static str, Vec<u8>> {
    ["model.safetensors", "optimizer.safetensors", "tokenizer.json", "config.json"].map(|name| (name, fs::read(latest(run).join(name)).expect(name))).into()
}

fn step(run: &str) -> u64 {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(latest(run).join("trainer_state.json")).expect("a state")).expect("JSON");
    state["step"].as_u64().expect("a step")
}

/// The steps of the log that have a loss, in order.
fn logged(run: &str) -> Vec<u64> {
    let text = fs::read_to_string(Path::new(run).join("log.jsonl")).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{line}: {e}")));
    lines.filter(|line| line["loss"].is_number()).map(|line| line["step"].as_u64().expect("a step")).collect()
}

fn partials(run: &str) -> Vec<String> {
    let names = fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("partial")).collect()
}

/// Waits for something, for two minutes at most.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(120), "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines_in(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn kill(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

fn ended(child: Child) -> (i32, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its end");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or_else(|| panic!("ended by {status}: {}", text(&stderr))), text(&stdout), text(&stderr))
}

/// More steps than any test waits for.
const LONG: usize = 1_000_000;

// ── two processes ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_run_is_trained_by_one_process_at_a_time_and_read_by_any() {
    let place = Place::new();
    let (data, out) = (place.path("data"), place.path("run"));
    let arguments = place.train("run", LONG, &["--set", "save_steps=20"]);
    let mut holder = program(&as_str(&arguments)).spawn().expect("it starts");
    until("a checkpoint", || Path::new(&out).join("latest").exists());
    for other in [&as_str(&arguments)[..], &["train", "--resume", &out]] {
        let (code, _, message) = run(&mut program(other));
        assert_eq!(code, 1, "{message}");
        assert!(message.contains(&format!("process {} is writing here", holder.id())), "{message}");
    }
    // Readers are not hindered.
    good(&["describe", &out, "--prompt", "a", "--device", "cpu", "--max-tokens", "2"]);
    good(&["eval", &out, &data, "--split", "train", "--device", "cpu"]);
    assert!(holder.try_wait().expect("its state").is_none(), "the first goes on");
    // A crash releases it.
    holder.kill().expect("SIGKILL");
    holder.wait().expect("its end");
    let before = step(&out);
    let (code, _, message) = run(&mut program(&["train", "--resume", &out, "--set", &format!("stop_after={}", before + 5)]));
    assert_eq!((code, step(&out)), (0, before + 5), "{message}");
    assert!(!Path::new(&out).join(".lock").exists(), "who ends in order leaves nothing");
}

#[test]
fn of_two_that_begin_one_run_at_once_one_trains() {
    let place = Place::new();
    for round in 0..3 {
        let (out, arguments) = (format!("run{round}"), place.train(&format!("run{round}"), 300, &["--set", "save_steps=10"]));
        let both = [(); 2].map(|()| program(&as_str(&arguments)).spawn().expect("it starts"));
        let both = both.map(ended);
        let codes: Vec<i32> = both.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{both:?}");
        let message = &both.iter().find(|(code, ..)| *code != 0).expect("the other").2;
        assert!(message.contains("is writing here") || message.contains("already holds a run"), "{message}");
        let run = place.path(&out);
        assert_eq!((step(&run), logged(&run)), (300, (1..=300).collect()));
    }
}

// ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_signal_saves_and_the_run_goes_on_with_the_same_bits() {
    let place = Place::new();
    let steps = 400;
    good(&as_str(&place.train("whole", steps, &[])));
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("INT", 130), ("USR1", 138), ("XCPU", 152)] {
        let out = place.path(signal);
        // Nothing is saved before the signal.
        let arguments = place.train(signal, steps, &["--set", "save_seconds=0"]);
        let child = program(&as_str(&arguments)).spawn().expect("it starts");
        until("some steps", || lines_in(&Path::new(&out).join("log.jsonl")) > 20);
        kill(&child, signal);
        let (found, said, message) = ended(child);
        assert_eq!(found, code, "{signal}: {message}");
        assert!(said.contains("saved; `trimodal train --resume"), "{signal}: {said}");
        let at = step(&out);
        assert!(at >= 20 && at < steps as u64, "{signal}: stopped after step {at}");
        assert_eq!(partials(&out), Vec::<String>::new());
        good(&["train", "--resume", &out, "--no-report"]);
        assert!(bytes(&out) == bytes(&place.path("whole")), "{signal}: the bits differ");
        assert_eq!(logged(&out), (1..=steps as u64).collect::<Vec<_>>());
    }
}

/// An evaluation may take longer than a scheduler waits: it is left, and made up for when the run is continued.
#[test]
fn an_evaluation_is_left_at_a_signal_and_made_up_for() {
    let place = Place::of(400);
    // Most of the time goes into evaluations: a signal at whatever moment meets one in nearly every round.
    let sets = ["held_out=0.6", "eval_steps=2", "captions=200", "save_seconds=0"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let lines = |run: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(Path::new(run).join("log.jsonl")).expect("a log");
        let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines.iter_mut().for_each(|line| drop(line.as_object_mut().expect("an object").remove("seconds")));
        lines
    };
    good(&as_str(&place.train("whole", 60, &sets)));
    let (whole, out) = (place.path("whole"), place.path("run"));
    // Nobody reads what 200 captions an evaluation say: a pipe that is full would hold the run up between evaluations.
    let start = |arguments: &[&str]| program(arguments).stdout(Stdio::null()).spawn().expect("it starts");
    let resumed = ["train", "--resume", &out, "--no-report"];
    let mut child = start(&as_str(&place.train("run", 60, &sets)));
    let (mut left, mut round) = (0, 0);
    loop {
        until("some lines", || lines_in(&Path::new(&out).join("log.jsonl")) > 3 || child.try_wait().expect("its state").is_some());
        // Longer from round to round: an evaluation that is always left ends nothing.
        std::thread::sleep(Duration::from_millis(150 + 100 * round));
        if child.try_wait().expect("its state").is_some() {
            break;
        }
        kill(&child, "TERM");
        let (code, _, message) = ended(child);
        if code == 0 {
            child = start(&resumed);
            break;
        }
        assert_eq!(code, 143, "{message}");
        let state: serde_json::Value = serde_json::from_slice(&fs::read(latest(&out).join("trainer_state.json")).expect("a state")).expect("JSON");
        left += (state["unevaluated"] == true) as usize;
        child = start(&resumed);
        round += 1;
    }
    assert_eq!(ended(child).0, 0);
    assert!(left > 0, "no signal met an evaluation in {round} rounds");
    assert!(bytes(&out) == bytes(&whole));
    assert_eq!(lines(&out), lines(&whole), "every step and every evaluation once");
}

/// It signals its child and, the same moment, the group of both: one wish.
#[test]
fn what_timeout_ends_is_saved() {
    let place = Place::new();
    let mut command = Command::new("timeout");
    command.args(["2", PROGRAM]).args(place.train("run", LONG, &["--set", "save_seconds=0"])).env("NODEVICE_SELECT", "1");
    let (code, said, message) = run(&mut command);
    assert_eq!(code, 124, "{message}");
    assert!(said.contains("saved; `trimodal train --resume") && step(&place.path("run")) > 20, "{said} {message}");
}

#[test]
fn a_terminal_that_closes_does_not_stop_what_nohup_started() {
    let place = Place::new();
    let out = place.path("run");
    let child = by_shell("trap '' HUP", "", &as_str(&place.train("run", LONG, &[]))).spawn().expect("it starts");
    let log = Path::new(&out).join("log.jsonl");
    until("some steps", || lines_in(&log) > 20);
    kill(&child, "HUP");
    let at = lines_in(&log);
    until("more steps", || lines_in(&log) > at + 200);
    kill(&child, "TERM");
    assert_eq!(ended(child).0, 143);
}

/// A step of many batches takes minutes; the signals come while it is computed.
#[test]
fn a_second_signal_ends_it_at_once_and_two_of_one_moment_are_one() {
    let place = Place::new();
    let slow = ["rows=1024", "accumulate=400", "hidden_size=512", "intermediate_size=2048", "num_hidden_layers=8", "head_dim=64", "num_attention_heads=8"];
    let slow: Vec<&str> = slow.iter().flat_map(|set| ["--set", set]).collect();
    let out = place.path("run");
    let mut child = program(&as_str(&place.train("run", LONG, &slow))).spawn().expect("it starts");
    until("the first step", || Path::new(&out).join("log.jsonl").exists());
    std::thread::sleep(Duration::from_millis(500));
    kill(&child, "HUP");
    kill(&child, "TERM");
    std::thread::sleep(Duration::from_millis(400));
    assert!(child.try_wait().expect("its state").is_none(), "a terminal's two signals are one wish");
    let begin = Instant::now();
    kill(&child, "TERM");
    let (code, _, message) = ended(child);
    assert_eq!(code, 143, "{message}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(message.contains("stopping after this step"), "{message}");
    assert_eq!(partials(&out), Vec::<String>::new());
}

/// Killed twice at any moment, also while it saves: what is there is whole, and nothing half-written stays.
#[test]
fn two_signals_never_tear_a_save() {
    let place = Place::new();
    let out = place.path("run");
    let arguments = place.train("run", LONG, &["--set", "save_steps=1"]);
    let mut child = program(&as_str(&arguments)).spawn().expect("it starts");
    for round in 0..12u64 {
        until("a checkpoint", || Path::new(&out).join("latest").exists());
        std::thread::sleep(Duration::from_millis(250 + 37 * round));
        kill(&child, "TERM");
        std::thread::sleep(Duration::from_millis(203));
        if child.try_wait().expect("its state").is_none() {
            kill(&child, "TERM");
        }
        assert_eq!(ended(child).0, 143);
        assert_eq!(partials(&out), Vec::<String>::new(), "round {round}");
        let at = step(&out);
        child = program(&["train", "--resume", &out]).spawn().expect("it starts");
        until("a newer checkpoint", || step(&out) > at || child.try_wait().expect("its state").is_some());
        assert!(child.try_wait().expect("its state").is_none(), "it continues");
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
}

// ── output that nobody takes ─────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_closed_pipe_does_not_end_a_training() {
    let place = Place::new();
    let arguments = place.train("run", 200, &["--set", "held_out=0.2", "--set", "eval_steps=20"]);
    let mut child = program(&as_str(&arguments)).spawn().expect("it starts");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line"); // `| head -1`
    let mut message = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut message).expect("UTF-8");
    let status = child.wait().expect("its end");
    assert!(status.success() && first.starts_with("training "), "{status}: {message}");
    assert_eq!(step(&place.path("run")), 200);
    assert_eq!(message.matches("nobody reads the output any more; going on without it").count(), 1, "{message}");
    assert!(Path::new(&place.path("run")).join("loss.svg").exists());
    // Both at once, as when a `tee` is killed.
    let mut child = by_shell("", "2>&1", &as_str(&place.train("both", 200, &["--set", "held_out=0.2", "--set", "eval_steps=20"]))).spawn().expect("bash");
    drop(child.stdout.take());
    assert!(child.wait().expect("its end").success());
    assert_eq!(step(&place.path("both")), 200);
}

#[test]
fn a_full_disk_under_the_output_ends_nothing_and_aborts_nothing() {
    let place = Place::new();
    let (code, ..) = run(&mut by_shell("", "> /dev/full 2>&1", &as_str(&place.train("run", 60, &["--set", "held_out=0.2", "--set", "eval_steps=20"]))));
    assert_eq!((code, step(&place.path("run"))), (0, 60));
    // An error has its code, although nobody can be told of it.
    for (code, arguments) in [
        (1, &["describe", "/nowhere", "--image", "x.png"][..]),
        (2, &["describe"]),
        (2, &["train"]),
        (2, &["no such command"]),
        (1, &["devices"]),
        (1, &["config"]),
    ] {
        assert_eq!(run(&mut by_shell("", "> /dev/full 2>&1", arguments)).0, code, "{arguments:?}");
    }
    // One who has something to write besides writes it.
    let json = place.path("scores.json");
    let arguments = ["eval", &place.path("run"), &place.path("data"), "--split", "train", "--json", &json, "--device", "cpu"];
    assert_eq!(run(&mut by_shell("", "> /dev/full 2>&1", &arguments)).0, 0);
    assert!(Path::new(&json).exists());
}

// ── full disks ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Bounds the size of any file, in KiB: what a full disk answers, with a signal besides. Only softly, so that a test can lift it again.
fn bounded(kib: usize) -> String {
    format!("ulimit -S -f {kib}")
}

fn lift(child: &Child) {
    let lifted = Command::new("prlimit").args(["--pid", &child.id().to_string(), "--fsize=unlimited:unlimited"]).status().expect("prlimit (util-linux)");
    assert!(lifted.success());
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_leaves_nothing() {
    let place = Place::new();
    let out = place.path("run");
    let (code, _, message) = run(&mut by_shell(&bounded(40), "", &as_str(&place.train("run", 5, &[]))));
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("model.safetensors: cannot write: File too large"), "{message}");
    assert_eq!(partials(&out), Vec::<String>::new());
}

#[test]
fn a_log_never_ends_a_training_and_its_lines_are_kept() {
    let place = Place::new();
    let out = place.path("run");
    good(&as_str(&place.train("run", 2_000, &["--set", "stop_after=10"])));
    // The log is nearly as large as a file may be; checkpoints are far smaller.
    let log = Path::new(&out).join("log.jsonl");
    let mut text = fs::read_to_string(&log).expect("a log");
    while text.len() < 2_040_000 {
        text = format!("{}\n{text}", serde_json::json!({ "step": 0, "padding": "x".repeat(1_000) }));
    }
    fs::write(&log, &text).expect("to write");
    let arguments = ["train", "--resume", &out, "--no-report", "--set", "save_seconds=0"];
    let (code, _, message) = run(&mut by_shell(&bounded(2_000), "", &[&arguments[..], &["--set", "stop_after=1000"]].concat()));
    assert_eq!((code, step(&out)), (0, 1000), "{message}");
    assert_eq!(message.matches("log.jsonl: cannot write: File too large").count(), 1, "said once: {message}");
    // The next one finds room again under way.
    fs::write(&log, &text).expect("to write");
    let said = fs::File::create(place.path("stderr")).expect("a file");
    let child = by_shell(&bounded(2_000), "", &arguments).stderr(said).spawn().expect("bash");
    until("the warning", || fs::read_to_string(place.path("stderr")).is_ok_and(|text| text.contains("its lines are kept")));
    lift(&child);
    let (code, ..) = ended(child);
    assert_eq!((code, step(&out)), (0, 2_000));
    assert_eq!(logged(&out).last(), Some(&2_000));
    let from_here: Vec<u64> = logged(&out).into_iter().filter(|step| *step > 1_000).collect();
    assert_eq!(from_here, (1_001..=2_000).collect::<Vec<_>>(), "no line is missing");
}

#[test]
fn a_last_save_waits_for_room_where_it_is_told_to() {
    let place = Place::new();
    let out = place.path("run");
    good(&as_str(&place.train("whole", 30, &[])));
    let waiting = |name: &str| {
        let said = fs::File::create(place.path("stderr")).expect("a file");
        let child = by_shell(&bounded(40), "", &as_str(&place.train(name, 30, &["--on-full", "wait"]))).stderr(said).spawn().expect("bash");
        until("the warning", || fs::read_to_string(place.path("stderr")).is_ok_and(|text| text.contains("waiting for room")));
        child
    };
    let child = waiting("run");
    std::thread::sleep(Duration::from_millis(1_500));
    lift(&child);
    let (code, said, _) = ended(child);
    assert_eq!((code, step(&out)), (0, 30), "{said}");
    assert!(bytes(&out) == bytes(&place.path("whole")));
    // Whoever does not want to wait any more says so.
    let child = waiting("stopped");
    kill(&child, "TERM");
    assert_eq!(ended(child).0, 1);
    let message = fs::read_to_string(place.path("stderr")).expect("what it said");
    assert_eq!(message.matches("waiting for room").count(), 1, "{message}");
    assert!(message.contains("error: ") && message.contains("File too large"), "{message}");
    // The setting is remembered and explained.
    assert!(good(&["config", &format!("{out}/config.toml")]).contains("on_full = \"wait\""));
}

#[test]
fn a_run_folder_that_vanishes_is_made_again_whole() {
    let place = Place::new();
    let out = place.path("run");
    for how in ["removed", "emptied", "moved"] {
        let _ = fs::remove_dir_all(&out);
        let arguments = place.train("run", 3_000, &["--set", "save_steps=100", "--set", "held_out=0.2", "--set", "eval_steps=100"]);
        let child = program(&as_str(&arguments)).spawn().expect("it starts");
        until("a checkpoint", || Path::new(&out).join("best").exists());
        match how {
            "removed" => drop(Command::new("rm").args(["-rf", &out]).status()),
            "emptied" => drop(Command::new("bash").args(["-c", "rm -rf \"$0\"/*", &out]).status()),
            _ => fs::rename(&out, place.path("elsewhere")).expect("to move"),
        }
        let (code, _, message) = ended(child);
        assert_eq!(code, 0, "{how}: {message}");
        assert_eq!((step(&out), logged(&out)), (3_000, (1..=3_000).collect()), "{how}");
        for file in ["config.toml", "latest", "best", "loss.svg"] {
            assert!(Path::new(&out).join(file).is_file(), "{how}: {file}");
        }
        let best = fs::read_to_string(Path::new(&out).join("best")).expect("best");
        assert!(Path::new(&out).join(best.trim()).join("model.safetensors").is_file(), "{how}: {best}");
        good(&["describe", &out, "--prompt", "a", "--device", "cpu", "--max-tokens", "2"]);
        assert!(good(&["train", "--resume", &out]).contains("continuing after step 3,000"));
    }
}
