//! A shader of the user's in the place of one of the crate's: few cases, which answer in seconds, or all of them.
//!
//! Only cases that launch one of the file's kernels run. On a software driver nearly all of the time goes into compiling: half a second
//! and more for each set of constants of a large kernel. So few cases share few sets of constants.

use super::report::{CheckReport, Skipped};
use super::{Failure, Outcome, precisions, run_case, run_repeatedly};
use crate::device::dry::DryRecorder;
use crate::device::{Device, Gpu, Language};
use crate::error::{Error, Result};
use crate::ops;
use crate::ops::case::Case;
use crate::tensor::DType;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// How many of the cases run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// A few of what the file is about, until one fails, and one of everything else.
    Few,
    /// All of them; the large ones too, which take long on anything but a real GPU, if so wished.
    All {
        /// Whether the large ones run.
        large: bool,
    },
}

/// Cases of an entry that the file is about.
const FEW: usize = 16;
/// Sets of constants that the cases of all entries that the file is about are compiled with. Three are enough for every value of a constant
/// that has three.
const SETS: usize = 3;
/// Elements of a case's operands beyond which it is not among the few.
const SMALL: usize = 100_000;
/// Elements that the one case of any other entry has at least, where it has such a case: less may be no work to speak of.
const SOME: usize = 200;
/// Runs whose bits must agree, for one case of each entry that the file is about.
const FEW_REPEATS: usize = 10;

/// What came of a check of a replaced shader.
pub struct ReplacedReport {
    /// The counts. Of the rows of other operations there are none.
    pub report: CheckReport,
    /// The smallest case that failed; of an entry that the file is about, if one of those failed.
    pub first: Option<FirstFailure>,
}

/// A case that failed, with everything that is known of it.
pub struct FirstFailure {
    /// Its entry and rung.
    pub entry: &'static str,
    /// Its sizes.
    pub label: String,
    /// What it reads: names and shapes.
    pub inputs: Vec<(&'static str, crate::dtype::Shape)>,
    /// What is wrong.
    pub failure: Failure,
}

/// A kernel of the file with the constants that it is compiled with.
type Compiled = (String, Vec<(&'static str, u32)>);

/// A case that launches something of the file.
struct Candidate {
    case: Case,
    activation: DType,
    /// What has to be compiled for it, of the file.
    kernels: BTreeSet<Compiled>,
    elements: usize,
    done: bool,
}

/// Checks a device whose shader `stem` was replaced. `about` are the entries (with their rung, as cases name them) that the file is
/// about, none for all; each finished case is told to `progress`.
///
/// # Errors
/// [`Error::Usage`] for a stem that belongs to no operation or an entry that none of its cases has, and those of recording what a case launches.
pub fn run_replaced(device: &Device, stem: &str, about: &[&str], depth: Depth, progress: impl FnMut(&str)) -> Result<ReplacedReport> {
    let op = ops::of_file(stem).ok_or_else(|| Error::Usage(format!("no operation has the shader {stem}.wgsl, so that nothing checks it")))?;
    let mut report = CheckReport::new(device);
    let candidates = candidates(op, stem, device, depth, &mut report)?;
    if let Some(unknown) = about.iter().find(|about| candidates.iter().all(|c| c.case.entry != **about)) {
        return Err(Error::Usage(format!("no case of {} that launches {stem}.wgsl has the entry {unknown}", op.name)));
    }
    let mut entries: Vec<&'static str> = Vec::new();
    candidates.iter().for_each(|c| {
        if !entries.contains(&c.case.entry) {
            entries.push(c.case.entry)
        }
    });
    let is_about = |entry: &str| about.is_empty() || about.contains(&entry);
    entries.sort_by_key(|entry| about.iter().position(|about| about == entry).unwrap_or(about.len())); // stable
    let mut check = Check { op: op.name, device, report, candidates, first: None, compiled: BTreeSet::new(), progress };
    match depth {
        Depth::All { .. } => entries.iter().for_each(|entry| check.all(entry)),
        Depth::Few => {
            let sets = SETS.div_ceil(entries.iter().filter(|entry| is_about(entry)).count().max(1));
            for entry in entries.iter().filter(|entry| is_about(entry)) {
                if check.first.is_some() {
                    check.one(entry);
                } else {
                    check.few(entry, sets);
                }
            }
            entries.iter().filter(|entry| !is_about(entry)).for_each(|entry| check.one(entry));
        }
    }
    let Check { mut report, candidates, first, .. } = check;
    report.cases.left_out = candidates.iter().filter(|c| !c.done).count();
    Ok(ReplacedReport { report, first })
}

/// Every case that may run and launches something of the file, the smallest first.
fn candidates(op: &ops::Op, stem: &str, device: &Device, depth: Depth, report: &mut CheckReport) -> Result<Vec<Candidate>> {
    let shared = match device {
        Device::Gpu(gpu) => gpu.shared_bytes(),
        Device::Cpu => return Err(Error::Usage("a shader runs on wgpu only".into())),
    };
    let recorder = Arc::new(DryRecorder::with_shared_bytes(Language::Wgsl, shared));
    let dry = Device::Gpu(Gpu::Dry(recorder.clone()));
    let mut found = Vec::new();
    for case in (op.cases)() {
        if let Some(reason) = case.skip.and_then(|skip| skip(device)) {
            report.cases.skipped.push(Skipped { case: format!("{} {} {}", op.name, case.entry, case.label), reason });
            continue;
        }
        let Some(activation) = precisions(&case, device).next() else { continue }; // WGSL has one
        case.run_on_zeros(&dry, activation)?;
        let launches = recorder.take().launches.into_iter().filter(|launch| launch.stem == stem);
        let kernels: BTreeSet<Compiled> = launches.map(|launch| (launch.entry, launch.constants)).collect();
        if kernels.is_empty() {
            continue;
        }
        if case.large && depth != (Depth::All { large: true }) {
            report.cases.large_left_out += 1;
            continue;
        }
        let elements = case.inputs.iter().chain(case.outputs.iter().map(|o| &o.before)).map(|o| o.shape.len()).sum();
        found.push(Candidate { case, activation, kernels, elements, done: false });
    }
    found.sort_by_key(|candidate| candidate.elements); // stable: the list's order among equals
    Ok(found)
}

/// A check in progress.
struct Check<'d, P> {
    op: &'static str,
    device: &'d Device,
    report: CheckReport,
    candidates: Vec<Candidate>,
    first: Option<FirstFailure>,
    /// What has been compiled so far.
    compiled: BTreeSet<Compiled>,
    progress: P,
}

impl<P: FnMut(&str)> Check<'_, P> {
    fn of(&self, entry: &str) -> Vec<usize> {
        (0..self.candidates.len()).filter(|&i| self.candidates[i].case.entry == entry).collect()
    }

    /// Runs a case, `times` times more if it passes and that is more than none; whether it passed.
    fn run(&mut self, index: usize, times: usize) -> bool {
        let Candidate { case, activation, kernels, done, .. } = &mut self.candidates[index];
        if std::mem::replace(done, true) {
            return true; // what failed ends the search that would come here again
        }
        self.compiled.extend(kernels.iter().cloned());
        let start = Instant::now();
        let mut outcome = run_case(case, self.device, *activation);
        if outcome.is_ok() && times > 0 {
            outcome = outcome.and_then(|o: Outcome| run_repeatedly(case, self.device, *activation, times).map(|()| o));
        }
        self.report.count(self.op, case.entry, *activation, &case.label, &outcome, start);
        (self.progress)(&format!("{} {} {}", self.op, case.entry, case.label));
        let passed = outcome.is_ok();
        if let (Err(failure), None) = (outcome, &self.first) {
            let inputs = case.inputs.iter().map(|input| (input.name, input.shape)).collect();
            self.first = Some(FirstFailure { entry: case.entry, label: case.label.clone(), inputs, failure });
        }
        passed
    }

    /// Every case of an entry.
    fn all(&mut self, entry: &str) {
        let repeats = super::Effort::whole(self.device).repeats;
        let of_entry = self.of(entry);
        let stands = of_entry.iter().copied().find(|&i| self.candidates[i].elements >= SOME);
        for index in of_entry {
            self.run(index, if stands == Some(index) { repeats } else { 0 });
        }
    }

    /// Cases of an entry that need few sets of constants, from small to large, until one fails; then what is smaller and needs no other
    /// set, so that the first failure is the smallest.
    fn few(&mut self, entry: &str, sets: usize) {
        let of_entry = self.of(entry);
        let chosen = chosen(&self.candidates, &of_entry, sets);
        let repeated = chosen.last().copied();
        let Some(failed) = chosen.iter().copied().find(|&index| !self.run(index, if repeated == Some(index) { FEW_REPEATS } else { 0 })) else { return };
        let found = self.first.take();
        for smaller in of_entry.into_iter().take_while(|&index| index < failed) {
            if self.candidates[smaller].kernels.is_subset(&self.compiled) && !self.run(smaller, 0) {
                return;
            }
        }
        self.first = found;
    }

    /// One case of an entry: of the sizes at which another entry failed; else a small one with some work to do, of what has been compiled
    /// already if there is such a one.
    fn one(&mut self, entry: &str) {
        let of_entry = self.of(entry);
        let failed = self.first.as_ref().map(|first| &first.label);
        let cost = |&index: &usize| {
            let Candidate { case, kernels, elements, .. } = &self.candidates[index];
            (Some(&case.label) != failed, kernels.difference(&self.compiled).count(), *elements < SOME, *elements)
        };
        if let Some(index) = of_entry.into_iter().min_by_key(cost) {
            self.run(index, 0);
        }
    }
}

/// At most [`FEW`] of these cases and one more of each set, from small to large, which have so many sets of constants together.
fn chosen(candidates: &[Candidate], of_entry: &[usize], most: usize) -> Vec<usize> {
    let small: Vec<usize> = of_entry.iter().copied().filter(|&i| candidates[i].elements <= SMALL).collect();
    let small = if small.is_empty() { of_entry.iter().copied().take(1).collect() } else { small };
    let mut sets: Vec<(&BTreeSet<Compiled>, usize)> = Vec::new();
    for &index in &small {
        match sets.iter_mut().find(|(set, _)| *set == &candidates[index].kernels) {
            Some((_, cases)) => *cases += 1,
            None => sets.push((&candidates[index].kernels, 1)),
        }
    }
    // The set of the smallest case; then the one that has most values that no other has had yet, and among these the one of most cases.
    let values = |set: &BTreeSet<Compiled>| -> BTreeSet<(String, &'static str, u32)> {
        set.iter().flat_map(|(kernel, constants)| constants.iter().map(|&(name, value)| (kernel.clone(), name, value))).collect()
    };
    let mut taken: Vec<&BTreeSet<Compiled>> = Vec::new();
    let mut seen = BTreeSet::new();
    while taken.len() < most {
        let rest = sets.iter().rev().filter(|(set, _)| !taken.contains(set));
        let of_the_rest = rest.max_by_key(|(set, cases)| (values(set).difference(&seen).count(), *cases));
        let Some((set, _)) = sets.first().filter(|_| taken.is_empty()).or(of_the_rest) else { break };
        seen.extend(values(set));
        taken.push(set);
    }
    let fit: Vec<usize> = small.into_iter().filter(|&i| taken.contains(&&candidates[i].kernels)).collect();
    // Evenly over the sizes, the smallest and the largest among them; and of each set the smallest one.
    let even = (0..FEW.min(fit.len())).map(|i| fit[i * (fit.len() - 1) / (FEW.min(fit.len()) - 1).max(1)]);
    let smallest = taken.iter().filter_map(|set| fit.iter().copied().find(|&i| &candidates[i].kernels == *set));
    even.chain(smallest).collect::<BTreeSet<usize>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case::Compare;

    /// The smallest case and its set are among them, few sets, and sizes up to the largest.
    #[test]
    fn few_cases_share_few_sets() {
        let candidate = |elements: usize, width: u32| Candidate {
            case: Case::new("forward", format!("{elements}"), Vec::new(), Vec::new(), Compare::Exact, |_, _| Ok(())),
            activation: DType::F32,
            kernels: BTreeSet::from([("forward".to_string(), vec![("WIDTH", width), ("LAYOUT", width % 3)])]),
            elements,
            done: false,
        };
        let candidates: Vec<Candidate> = (0..100).map(|i| candidate(1 + i * i, (i * 7 % 10) as u32)).chain([candidate(2 * SMALL, 0)]).collect();
        let all: Vec<usize> = (0..candidates.len()).collect();
        for sets in 1..=3 {
            let chosen = chosen(&candidates, &all, sets);
            let taken: BTreeSet<_> = chosen.iter().map(|&i| &candidates[i].kernels).collect();
            let layouts: BTreeSet<u32> = taken.iter().flat_map(|set| set.iter().map(|(_, constants)| constants[1].1)).collect();
            assert_eq!((taken.len(), layouts.len()), (sets, sets), "{chosen:?}");
            assert!(chosen[0] == 0 && chosen.is_sorted() && chosen.len() <= FEW + sets && *chosen.last().unwrap() >= 90, "{chosen:?}");
        }
        assert_eq!(chosen(&candidates, &[100], 3), [100], "where all are large, the smallest of them");
    }
}
