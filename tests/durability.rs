//! Checkpoints that nothing spoils: killed while saving, a full disk, a read-only folder, a write that fails half-way. The last whole
//! one is there afterwards, and the error names the path.
//!
//! `scripts/soak-kill` kills a thousand times; a test run as often as it can afford. What a machine does not allow (mounting in a
//! namespace, tracing system calls) is skipped by name: see [`skipped`].
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use trimodal::data::Tokenizer;
use trimodal::files::safetensors::load_safetensors;
use trimodal::model::batch::Capacity;
use trimodal::model::{Config, Parameters};
use trimodal::train::{Schedule, Trainer, checkpoint};
use trimodal::{DType, Device, Result};

// ── what is saved ────────────────────────────────────────────────────────────────────────────────────────────────────

/// A trainer of the demo's size: three files of together 2.6 MB, so that a save takes long enough to be hit.
fn trainer() -> (Trainer, Tokenizer) {
    let tokenizer = Tokenizer::train(["a cat"], 265).expect("a tokenizer");
    let config = Config::meadow(tokenizer.vocabulary());
    let parameters = Parameters::zeros(&config, &Device::Cpu, DType::F32).expect("memory");
    let trainer = Trainer::new(&config, parameters, Schedule::meadow(1_000_000), Capacity::for_budget(&config, 64)).expect("memory");
    (trainer, tokenizer)
}

/// Every number that will be saved becomes the step: a checkpoint of two steps would show.
fn stamp(trainer: &mut Trainer, step: usize) {
    trainer.step = step;
    let [first, second] = &mut trainer.moments;
    for tensor in [&mut trainer.parameters, first, second].into_iter().flat_map(|parameters| parameters.each_mut()) {
        let values = vec![step as f64; tensor.len()];
        tensor.write_f64(&values).expect("the CPU");
    }
}

fn save(run: &Path, trainer: &Trainer, tokenizer: &Tokenizer) -> Result<()> {
    checkpoint::save(run, trainer, tokenizer, &checkpoint::TrainerState::default(), 2).map(drop)
}

/// The step of the newest checkpoint, if every file of it is whole and of that step.
fn whole(run: &Path) -> std::result::Result<usize, String> {
    let dir = checkpoint::latest(run).map_err(|e| e.to_string())?;
    let step = checkpoint::read_state(&dir).map_err(|e| e.to_string())?.step;
    for name in ["model.safetensors", "optimizer.safetensors"] {
        for (tensor, (_, _, bytes)) in load_safetensors(&dir.join(name)).map_err(|e| e.to_string())? {
            let odd = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).find(|v| *v != step as f32);
            if let Some(odd) = odd {
                return Err(format!("{name}, tensor {tensor}: {odd} in the checkpoint of step {step}"));
            }
        }
    }
    Config::load(&dir.join("config.json")).map_err(|e| e.to_string())?;
    Tokenizer::load(&dir.join("tokenizer.json")).map_err(|e| e.to_string())?;
    Ok(step)
}

/// Temporary files and folders, which a later save or start removes.
fn leftovers(run: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    found.retain(|name| name.contains("partial"));
    found
}

// ── the process that saves ───────────────────────────────────────────────────────────────────────────────────────────

/// Not a test: what the tests start, with its orders in the environment. Says `child: …` on standard output.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let (Ok(order), Ok(run)) = (std::env::var("TRIMODAL_CHILD"), std::env::var("TRIMODAL_CHILD_RUN")) else { return };
    let run = PathBuf::from(run);
    let (mut trainer, tokenizer) = trainer();
    let from = whole(&run).unwrap_or(0);
    for step in from + 1.. {
        stamp(&mut trainer, step);
        if let Err(error) = save(&run, &trainer, &tokenizer) {
            println!("child: error: {error}");
            std::process::exit(1);
        }
        println!("child: saved {step}");
        if order == "save once" {
            std::process::exit(0);
        }
        // The second save meets a disk on which a little is left: it must fail in the middle of a file.
        if order == "fill the disk" && step == from + 1 {
            let ballast = vec![0u8; 64 << 10];
            let mut file = fs::File::create(run.join("ballast")).expect("a file");
            while std::io::Write::write_all(&mut file, &ballast).is_ok() {}
            let full = file.metadata().expect("its size").len();
            file.set_len(full.saturating_sub(700 << 10)).expect("to shrink it");
        }
    }
}

/// A command that will run [`child`], through `shell` (which gets the test's own path as `"$0"`) where something is to be set up first.
fn command(order: &str, run: &Path, shell: Option<&str>) -> Command {
    let this = std::env::current_exe().expect("the test's own path");
    let arguments = ["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    let mut command = match shell {
        None => Command::new(&this),
        Some(script) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).arg(&this);
            command
        }
    };
    command.args(arguments).env("TRIMODAL_CHILD", order).env("TRIMODAL_CHILD_RUN", run).env_remove("TRIMODAL_FUZZ").stderr(Stdio::null()).stdin(Stdio::null());
    command
}

/// What the child said.
fn said(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.split("child: ").nth(1)).map(str::to_string).collect()
}

// ── what this machine does not allow ─────────────────────────────────────────────────────────────────────────────────

/// Says that a test could not run here, and why; with `TRIMODAL_REQUIRE_ALL=1` that is a failure. The tests that may be skipped:
///
/// | test | needs |
/// |---|---|
/// | `a_full_disk_leaves_the_old_checkpoint` | `unshare` and a mount in a user namespace |
/// | `a_read_only_folder_is_named` | the same |
/// | `files_are_synced_before_they_are_renamed_and_folders_after` | `strace` |
fn skipped(test: &str, why: &str) {
    println!("SKIPPED {test}: {why}");
    assert!(std::env::var_os("TRIMODAL_REQUIRE_ALL").is_none(), "{test} cannot run here: {why}");
}

fn can_mount() -> bool {
    let script = "mount -t tmpfs -o size=1m tmpfs /mnt";
    Command::new("unshare").args(["-rm", "sh", "-c", script]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

// ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn killed_at_any_moment_the_newest_or_the_last_checkpoint_is_whole() {
    let kills: u64 = std::env::var("TRIMODAL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let seconds: u64 = std::env::var("TRIMODAL_KILL_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3_600);
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let mut random = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos() as u64 | 1;
    let (mut done, mut lost, mut most_leftovers, mut interrupted, mut newer) = (0u64, Vec::new(), 0, 0u64, 0u64);
    let begin = Instant::now();
    while done < kills && begin.elapsed() < Duration::from_secs(seconds) {
        let mut child = command("save for ever", &run, None).stdout(Stdio::piped()).spawn().expect("to start itself");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(std::result::Result::ok);
        let saved = |line: &str| line.split("child: saved ").nth(1).and_then(|step| step.trim().parse::<usize>().ok());
        let first = lines.by_ref().find_map(|line| saved(&line)).expect("the first save of a child");
        // What the last one left is gone as soon as this one has started.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_micros(random % 60_000));
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        let last = lines.filter_map(|line| saved(&line)).last().unwrap_or(first);
        done += 1;
        // Saved means saved: what the child said it had is there, or something newer.
        match whole(&run) {
            Ok(step) if step == last => {}
            Ok(step) if step == last + 1 => newer += 1,
            Ok(step) => lost.push(format!("kill {done}: step {last} was saved, step {step} is there")),
            Err(what) => lost.push(format!("kill {done} after step {last}: {what}")),
        }
        let left = leftovers(&run);
        interrupted += !left.is_empty() as u64;
        most_leftovers = most_leftovers.max(left.len());
    }
    let swept = command("save once", &run, None).output().is_ok_and(|output| output.status.success()) && leftovers(&run).is_empty();
    println!(
        "{done} kills: {} losses, {interrupted} hit a save in the middle, {newer} between its end and its report; at most {most_leftovers} leftover",
        lost.len()
    );
    if let Ok(path) = std::env::var("TRIMODAL_KILL_REPORT") {
        let report = serde_json::json!({
            "kills": done, "losses": lost.len(), "hit_a_save_in_the_middle": interrupted, "most_leftovers": most_leftovers, "swept_at_next_start": swept,
            "seconds": begin.elapsed().as_secs_f64().round(),
        });
        fs::write(path, report.to_string()).expect("the report");
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    assert!(most_leftovers <= 1, "{most_leftovers} leftovers after one kill");
    assert!(swept, "after the next start there is still {:?}", leftovers(&run));
}

// ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The child saved once, then failed, with an exit code, an error that names a path below the run, and the checkpoint of step 1 whole.
fn saved_once_then_failed(run: &Path, output: &Output, words: &str) {
    let said = said(output);
    assert_eq!(said.first().map(String::as_str), Some("saved 1"), "{said:?} {}", String::from_utf8_lossy(&output.stderr));
    let error = said.last().expect("an error");
    assert!(error.starts_with("error: ") && error.contains(&*run.to_string_lossy()) && error.contains(words), "{error}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_write_that_fails_in_the_middle_leaves_the_old_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    assert!(command("save once", &run, None).output().expect("sh").status.success());
    // No file may grow beyond this (POSIX: blocks of 512 bytes): the second file fails after its first 100 KiB. Ignoring the signal makes
    // it an error of `write`, as a bad disk's would be.
    let output = command("save once", &run, Some("trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"")).output().expect("sh");
    let said = said(&output);
    assert!(said[0].starts_with("error: ") && said[0].contains(&*run.to_string_lossy()) && said[0].contains("cannot write: File too large"), "{said:?}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(whole(&run), Ok(1));
    assert_eq!(leftovers(&run), Vec::<String>::new());
}

#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    if !can_mount() {
        return skipped("a_full_disk_leaves_the_old_checkpoint", "mounting in a user namespace is not allowed");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, run, copy) = (folder.path().join("disk"), folder.path().join("disk/run"), folder.path().join("copy"));
    fs::create_dir_all(&disk).expect("a folder");
    // The disk is gone with its namespace: what was on it is copied out first.
    let (disk, to) = (disk.display(), copy.display());
    let script = format!("mount -t tmpfs -o size=8m tmpfs '{disk}' && mkdir '{disk}/run'; \"$0\" \"$@\"; code=$?; cp -r '{disk}/run' '{to}'; exit $code");
    let output =
        command("fill the disk", &run, Some(&format!("exec unshare -rm sh -c '{}' \"$0\" \"$@\"", script.replace('\'', "'\\''")))).output().expect("unshare");
    saved_once_then_failed(&run, &output, "No space left on device");
    fs::remove_file(copy.join("ballast")).expect("the ballast");
    assert_eq!(whole(&copy), Ok(1));
    assert_eq!(leftovers(&copy), Vec::<String>::new());
}

#[test]
fn a_read_only_folder_is_named() {
    if !can_mount() {
        return skipped("a_read_only_folder_is_named", "mounting in a user namespace is not allowed");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    assert!(command("save once", &run, None).output().expect("itself").status.success());
    // A read-only mount is read-only for root, too.
    let path = run.display();
    let script = format!("mount --bind '{path}' '{path}' && mount -o remount,bind,ro '{path}' && exec \"$0\" \"$@\"");
    let output =
        command("save once", &run, Some(&format!("exec unshare -rm sh -c '{}' \"$0\" \"$@\"", script.replace('\'', "'\\''")))).output().expect("unshare");
    let said = said(&output);
    assert!(said[0].starts_with("error: ") && said[0].contains(&*run.to_string_lossy()) && said[0].contains("Read-only file system"), "{said:?}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(whole(&run), Ok(1));
}

// ── the order of system calls ────────────────────────────────────────────────────────────────────────────────────────

/// One line of `strace -y`: the call, the path of its descriptor or its first argument, the second argument.
fn calls(trace: &str) -> Vec<(String, String, String)> {
    trace
        .lines()
        .filter(|line| !line.contains(" = -1 "))
        .filter_map(|line| {
            let line = line.split_once(' ').filter(|(pid, _)| pid.chars().all(|c| c.is_ascii_digit())).map_or(line, |(_, rest)| rest).trim_start();
            let (call, rest) = line.split_once('(')?;
            let name = call.trim_end_matches("at2").trim_end_matches("at");
            if name == "rename" {
                let quoted: Vec<&str> = rest.split('"').skip(1).step_by(2).collect();
                return Some((name.to_string(), quoted.first()?.to_string(), quoted.get(1)?.to_string()));
            }
            let (path, _) = rest.split_once('<')?.1.split_once('>')?;
            Some((name.to_string(), path.to_string(), String::new()))
        })
        .collect()
}

#[test]
fn files_are_synced_before_they_are_renamed_and_folders_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, trace) = (folder.path().join("run"), folder.path().join("trace"));
    let script =
        format!("exec strace -f -y -s 4096 -e trace=write,fsync,fdatasync,rename,renameat,renameat2 -e signal=none -o '{}' \"$0\" \"$@\"", trace.display());
    let output = command("save once", &run, Some(&script)).output().expect("sh");
    if said(&output).is_empty() {
        return skipped("files_are_synced_before_they_are_renamed_and_folders_after", "strace is not here or may not trace");
    }
    let calls = calls(&fs::read_to_string(&trace).expect("a trace"));
    let run = run.to_string_lossy().into_owned();
    let ours: Vec<_> = calls.into_iter().filter(|(_, path, to)| path.starts_with(&run) || to.starts_with(&run)).collect();
    let renames: Vec<usize> = (0..ours.len()).filter(|i| ours[*i].0 == "rename").collect();
    assert!(renames.len() >= 2, "{ours:?}");
    for &at in &renames {
        let (_, from, to) = &ours[at];
        // Everything written below what is renamed was synced after its last write.
        let within = |path: &str| path == from || path.starts_with(&format!("{from}/"));
        let mut written: Vec<&str> = ours[..at].iter().filter(|(call, path, _)| call == "write" && within(path)).map(|(_, path, _)| path.as_str()).collect();
        written.dedup();
        assert!(!written.is_empty(), "{from} was renamed without anything written");
        for path in written {
            let last = |name: &[&str]| ours[..at].iter().rposition(|(call, p, _)| p == path && name.contains(&call.as_str()));
            assert!(last(&["fsync", "fdatasync"]) > last(&["write"]), "{path} was renamed to {to} without being synced");
        }
        // And its folder is synced before anything else is renamed.
        let parent = Path::new(to).parent().expect("a folder").to_string_lossy().into_owned();
        let next = renames.iter().copied().find(|next| *next > at).unwrap_or(ours.len());
        assert!(ours[at..next].iter().any(|(call, path, _)| call == "fsync" && *path == parent), "{parent} was not synced after {to} came into it");
    }
}
