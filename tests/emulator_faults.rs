//! Seeded faults: the PTX that ships with one line changed, as a programmer errs. Each must be caught, by a memory check or by the
//! oracle.
//!
//! `tests/faults.tsv` lists them. A kernel that is compiled anew may lose a line that a fault changes: the test then says so, and
//!
//! ```sh
//! cargo test --release --test emulator_faults -- --ignored --nocapture
//! ```
//!
//! tries the templates of [`TEMPLATES`] on the kernels, writes the list anew, and prints what was *not* caught, for somebody to
//! look at: a change that makes no difference, or a hole in the checks.

use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use trimodal::check::run_case;
use trimodal::device::Gpu;
use trimodal::device::emulator::Machine;
use trimodal::device::ptx::{COMPILED, Compiled};
use trimodal::emulator::Options;
use trimodal::ops::case::Case;
use trimodal::ops::{self, Op};
use trimodal::{DType, Device};

/// So many faults are listed, at least.
const LEAST: usize = 60;

/// What is wrong, the text that the line has, and what a part of it becomes; an empty `to` drops the line.
const TEMPLATES: &[(&str, &str, &str, &str)] = &[
    ("a dropped barrier", "bar.sync", "bar.sync", ""),
    ("a dropped barrier", "bar.warp.sync", "bar.warp.sync", ""),
    ("a missing wait", "cp.async.wait_group", "cp.async.wait_group", ""),
    ("an uninitialised accumulator", "0f00000000;", "mov.f32", ""),
    ("a bound off by one", "setp.ge.u32", "ge", "gt"),
    ("a bound off by one", "setp.lt.u32", "lt", "le"),
    ("a bound off by one", "setp.gt.u32", "gt", "ge"),
    ("a bound off by one", "setp.ge.s32", "ge", "gt"),
    ("a bound off by one", "setp.lt.s32", "lt", "le"),
    ("a missing tail guard", "bra", "@", ""),
    ("a swapped stride", "mad.lo.s32", "mad.lo", "mad.hi"),
    ("a swapped stride", "mul.lo.s32", "mul.lo", "mul.hi"),
    ("a wrong element size", "mul.wide.u32", ", 4;", ", 8;"),
    ("a wrong element size", "mul.wide.s32", ", 4;", ", 2;"),
    ("a wrong element size", "shl.b32", ", 2;", ", 3;"),
    ("a wrong element size", "shl.b64", ", 1;", ", 2;"),
    ("a wrong lane", "shfl.sync.bfly", ", 1, 31", ", 3, 31"),
    ("a wrong lane", "shfl.sync.bfly", ", 2, 31", ", 1, 31"),
    ("a wrong lane", "shfl.sync.bfly", ", 16, 31", ", 8, 31"),
    ("a neighbour's element", "ld.shared.f32", "]", "+4]"),
    ("a neighbour's element", "st.shared.f32", "]", "+4]"),
    ("a neighbour's element", "ld.global", "]", "+16]"),
    ("a neighbour's element", "st.global", "]", "+16]"),
    ("a wrong operation", "max.f32", "max", "min"),
    ("a wrong operation", "sub.f32", "sub", "add"),
    ("a wrong operation", "ex2.approx", "ex2", "lg2"),
    ("a transposed fragment", "ldmatrix", ".trans", ""),
    ("a missing term", "fma.rn.f32", "fma.rn.f32", ""),
    ("a missing term", "mma.sync", "mma.sync", ""),
    ("a result not stored", "st.global", "st.global", ""),
];

/// One fault: `stem`, PTX entry, template, and the how-manieth line of the entry that fits it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    stem: String,
    entry: String,
    template: (String, String, String, String),
    nth: usize,
}

impl Fault {
    /// The file with the fault in it, and the changed line; `None` where no line fits.
    fn seed(&self, text: &str) -> Option<(String, String)> {
        let (_, find, from, to) = &self.template;
        let begin = text.match_indices(&format!(".entry {}(", self.entry)).next()?.0;
        let end = begin + text[begin..].find("\n}")?;
        let lines = text[begin..end].lines().filter(|l| l.contains(find.as_str()) && l.contains(from.as_str()) && l.trim_end().ends_with(';'));
        let line = lines.clone().nth(self.nth)?;
        let at = begin + (line.as_ptr() as usize - text[begin..].as_ptr() as usize);
        // A multi-line instruction (inline assembly) cannot lose one of its lines.
        if to.is_empty()
            && from != ".trans"
            && (line.matches(['{', '}']).count() % 2 == 1 || line.trim_start().starts_with('{') && line.contains(';') && !line.trim_end().ends_with(';'))
        {
            return None;
        }
        let changed = match (to.is_empty(), from.as_str()) {
            (true, ".trans") => line.replacen(from.as_str(), "", 1),
            (true, _) => String::new(),
            (false, _) => line.replacen(from.as_str(), to, 1),
        };
        let mut seeded = text.to_string();
        seeded.replace_range(at..at + line.len(), &changed);
        Some((seeded, line.trim().to_string()))
    }

    fn row(&self, found: &str) -> String {
        let (what, find, from, to) = &self.template;
        [&*self.stem, &*self.entry, what, find, from, to, &*self.nth.to_string(), found].join("\t")
    }

    fn read(row: &str) -> Fault {
        let columns: Vec<String> = row.split('\t').map(str::to_string).collect();
        let [stem, entry, what, find, from, to, nth, ..] = columns.as_slice() else { panic!("tests/faults.tsv: {row}") };
        let template = (what.clone(), find.clone(), from.clone(), to.clone());
        Fault { stem: stem.clone(), entry: entry.clone(), template, nth: nth.parse().expect("a number") }
    }
}

/// What runs an entry: indices into an operation's cases, smallest first.
type Users = BTreeMap<(String, String), Vec<(usize, DType)>>;

fn machine() -> (Arc<Machine>, Device) {
    let machine = Arc::new(Machine::new());
    (machine.clone(), Device::Gpu(Gpu::Emulator(machine)))
}

fn work(case: &Case) -> usize {
    case.inputs.iter().map(|i| i.shape.len()).sum::<usize>() + case.outputs.iter().map(|o| o.before.shape.len()).sum::<usize>()
}

/// Which cases launch which entries of a stem.
fn users(cases: &[Case]) -> Users {
    let mut users: BTreeMap<(String, String), Vec<(usize, DType)>> = BTreeMap::new();
    let (machine, device) = machine();
    let mut order: Vec<usize> = (0..cases.len()).filter(|&i| (200..20_000).contains(&work(&cases[i]))).collect();
    order.sort_by_key(|&i| work(&cases[i]));
    for i in order {
        for activation in [DType::F32, DType::Bf16] {
            if activation == DType::Bf16 && !cases[i].is_mixed() {
                continue;
            }
            machine.record(Options::default());
            let _ = run_case(&cases[i], &device, activation);
            for run in machine.recorded() {
                let (stem, entry) = run.kernel.split_once('.').expect("stem.entry");
                let list = users.entry((stem.to_string(), entry.to_string())).or_default();
                if !list.contains(&(i, activation)) {
                    list.push((i, activation));
                }
            }
        }
    }
    users
}

/// How a fault is caught by an entry's cases (a few small ones, a few large ones): the finding's kind, or `oracle`.
fn caught(fault: &Fault, compiled: &Compiled, cases: &[Case], users: &[(usize, DType)]) -> Option<(String, String)> {
    let (seeded, line) = fault.seed(compiled.text())?;
    let (machine, device) = machine();
    if machine.replace(compiled.stem, &seeded).is_err() {
        return None; // not a program any more
    }
    let picked = users.iter().take(4).chain(users.iter().skip(4).step_by((users.len() / 6).max(1)));
    let found = picked.filter_map(|&(i, activation)| run_case(&cases[i], &device, activation).err()).next();
    Some((found.map_or("NOT CAUGHT".into(), |failure| how(&failure.to_string())), line))
}

/// The kind of failure that a message tells of.
fn how(message: &str) -> String {
    if !message.contains("emulator: ") {
        return "oracle".into();
    }
    let kinds = [
        ("race", "race"),
        ("never wrote", "unwritten"),
        ("nobody wrote", "unwritten"),
        ("nobody has written", "unwritten"),
        ("register", "register"),
        ("barrier", "barrier"),
        ("wait", "wait"),
        ("outside", "bounds"),
        ("past", "bounds"),
        ("multiple", "misaligned"),
        ("aligned", "misaligned"),
        ("has not ended", "endless"),
    ];
    kinds.iter().find(|(word, _)| message.contains(word)).map_or("memory", |(_, kind)| kind).into()
}

fn compiled(stem: &str) -> &'static Compiled {
    COMPILED.iter().find(|c| c.stem == stem && c.architecture == "sm_80").unwrap_or_else(|| panic!("no PTX of {stem}"))
}

/// What no operation launches (`ceiling`) has no case that could catch anything.
fn is_launched(compiled: &&Compiled) -> bool {
    compiled.architecture == "sm_80" && ops::of_file(compiled.stem).is_some()
}

fn op_of(stem: &str) -> &'static Op {
    ops::of_file(stem).unwrap_or_else(|| panic!("no operation launches {stem}"))
}

#[test]
fn every_seeded_fault_is_caught() {
    let faults: Vec<Fault> = include_str!("faults.tsv").lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(Fault::read).collect();
    assert!(faults.len() >= LEAST, "{} faults are listed, at least {LEAST} are asked for", faults.len());
    let distinct: BTreeSet<&Fault> = faults.iter().collect();
    assert_eq!(distinct.len(), faults.len(), "a fault is listed twice");
    let stems: BTreeSet<&str> = faults.iter().map(|f| f.stem.as_str()).collect();
    let launched: BTreeSet<&str> = COMPILED.iter().filter(is_launched).map(|c| c.stem).collect();
    assert_eq!(stems, launched, "the kernels with seeded faults, and those that there are");
    let wrong: Vec<String> = stems
        .par_iter()
        .flat_map(|stem| {
            let cases = (op_of(stem).cases)();
            let users = users(&cases);
            let of_stem: Vec<&Fault> = faults.iter().filter(|f| f.stem == *stem).collect();
            of_stem
                .into_iter()
                .filter_map(|fault| {
                    let entry = users.get(&(fault.stem.clone(), fault.entry.clone())).map_or(&[][..], |u| u);
                    match caught(fault, compiled(stem), &cases, entry) {
                        None => Some(format!("{}: does not apply any more: see the top of this file", fault.row(""))),
                        Some((how, line)) if how == "NOT CAUGHT" => Some(format!("{}: not caught: `{line}`", fault.row(""))),
                        Some(_) => None,
                    }
                })
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} faults:\n{}", wrong.len(), faults.len(), wrong.join("\n"));
}

/// Writes `tests/faults.tsv`: for each file and each kind of fault the first two lines whose change is caught, in different entries
/// where there are some.
#[test]
#[ignore = "writes tests/faults.tsv"]
fn survey() {
    let stems: Vec<&Compiled> = COMPILED.iter().filter(is_launched).collect();
    let found: Vec<(Vec<String>, Vec<String>)> = stems
        .par_iter()
        .map(|compiled| {
            let (mut listed, mut missed) = (Vec::new(), Vec::new());
            let cases = (op_of(compiled.stem).cases)();
            let users = users(&cases);
            let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
            for (template, nth) in TEMPLATES.iter().flat_map(|t| [(t, 0), (t, 1)]) {
                for ((stem, entry), users) in users.iter().filter(|((stem, _), _)| stem == compiled.stem) {
                    if kinds.get(template.0).copied().unwrap_or(0) >= 2 {
                        break;
                    }
                    let template = (template.0.into(), template.1.into(), template.2.into(), template.3.into());
                    let fault = Fault { stem: stem.clone(), entry: entry.clone(), template, nth };
                    match caught(&fault, compiled, &cases, users) {
                        None => {}
                        Some((how, line)) if how == "NOT CAUGHT" => missed.push(format!("{}\t`{line}`", fault.row(""))),
                        Some((how, _)) => {
                            listed.push(fault.row(&how));
                            *kinds.entry(TEMPLATES.iter().find(|t| t.0 == fault.template.0).expect("it came from there").0).or_default() += 1;
                            break; // the next one in another template or line
                        }
                    }
                }
            }
            eprintln!("{}: {} listed, {} not caught", compiled.stem, listed.len(), missed.len());
            (listed, missed)
        })
        .collect();
    let mut list = String::from("# stem\tPTX entry\twhat is wrong\tline has\tthis part\tbecomes\tnth such line\tcaught by\n");
    for row in found.iter().flat_map(|(listed, _)| listed) {
        writeln!(list, "{row}").unwrap();
    }
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults.tsv"), &list).unwrap();
    let missed: Vec<&str> = found.iter().flat_map(|(_, missed)| missed).map(String::as_str).collect();
    println!("{} listed, {} not caught:\n{}", list.lines().count() - 1, missed.len(), missed.join("\n"));
}
