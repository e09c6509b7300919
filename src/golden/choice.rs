//! Which cases become golden vectors: enough that every kernel is in several, small enough to be copied around.
//!
//! Every case of an operation's list that is small is recorded without its values, which shows the kernels that it launches. Then
//! for every rung of every kernel the smallest, the middle and the largest of its small cases are taken (two, where few are small), and for every set of
//! constants that a shader is compiled with at least one. The lists are made of tails and odd shapes (65 columns, 33 rows), and so are the cases
//! that are taken.

use crate::check::precisions;
use crate::device::dry::{DryRecorder, DryRecording};
use crate::device::{Device, Gpu, Language};
use crate::error::Result;
use crate::ops::case::{Case, Operand};
use crate::ops::{self, Op};
use crate::tensor::DType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of a file, about, that counts as small.
const SMALL: usize = 48 << 10;
/// Bytes of a file beyond which a case is not even looked at.
const MAX: usize = 2 << 20;

/// Files whose kernels are in no case, and why.
pub const EXCEPTIONS: &[(&str, &str)] = &[("ceiling", "measures what a GPU does at best; its results mean nothing")];

/// The cases that become golden vectors of a language.
pub struct Plan {
    /// Of the kernels.
    pub language: Language,
    /// The cases.
    pub cases: Vec<Planned>,
}

/// A case of a [`Plan`].
pub struct Planned {
    /// The operation.
    pub op: &'static str,
    /// The case.
    pub case: Arc<Case>,
    /// What activations and weights are.
    pub activation: DType,
    /// The kernels that it launches, as [`Listed::entries`](super::Listed::entries) has them.
    pub entries: Vec<String>,
    /// The architecture that one of them needs beyond the oldest.
    pub needs: Option<&'static str>,
    /// The file: `rms_norm/forward-0.safetensors`.
    pub file: String,
}

impl Planned {
    /// The sizes, for people, and the dtype where it is not f32.
    pub fn label(&self) -> String {
        match self.activation {
            DType::F32 => self.case.label.clone(),
            other => format!("{} {other}", self.case.label),
        }
    }
}

/// A case that may be taken.
struct Candidate {
    case: Arc<Case>,
    activation: DType,
    recording: DryRecording,
    bytes: usize,
}

/// Chooses the cases of every operation, or of one.
///
/// # Errors
/// [`Error::Usage`] for an unknown operation.
pub fn plan(language: Language, only: Option<&str>) -> Result<Plan> {
    let mut cases = Vec::new();
    for op in ops::named(only)? {
        cases.extend(choose(op, candidates(op, language)?));
    }
    Ok(Plan { language, cases })
}

/// Every case of an operation that is not too large, with its launches.
fn candidates(op: &Op, language: Language) -> Result<Vec<Candidate>> {
    let recorder = Arc::new(DryRecorder::new(language));
    let device = Device::Gpu(Gpu::Dry(recorder.clone()));
    let mut found = Vec::new();
    for case in (op.cases)().into_iter().map(Arc::new) {
        let empty = case.inputs.iter().chain(case.outputs.iter().map(|o| &o.before)).any(|operand| operand.shape.is_empty());
        if empty || case.large || case.skip.is_some_and(|skip| skip(&device).is_some()) {
            continue;
        }
        for activation in precisions(&case, &device) {
            let bytes = file_bytes(&case, activation);
            if bytes > MAX {
                continue;
            }
            case.run_on_zeros(&device, activation)?;
            let recording = recorder.take();
            if !recording.launches.is_empty() {
                found.push(Candidate { case: case.clone(), activation, recording, bytes });
            }
        }
    }
    Ok(found)
}

/// Bytes of what a case's file holds.
fn file_bytes(case: &Case, activation: DType) -> usize {
    let bytes = |operand: &Operand, expected: usize| operand.shape.len() * (operand.kind.dtype(activation).size() + expected);
    let outputs = case.outputs.iter().filter(|o| !o.scratch).map(|o| bytes(&o.before, 8));
    case.inputs.iter().map(|i| bytes(i, 0)).chain(outputs).sum()
}

fn choose(op: &Op, candidates: Vec<Candidate>) -> impl Iterator<Item = Planned> {
    // By rung and kernel; by kernel and constants.
    let mut rungs: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let mut compiled: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| candidates[i].bytes); // stable: the list's order among equals
    for &i in &order {
        for launch in &candidates[i].recording.launches {
            let kernel = (launch.file.clone(), launch.entry.clone());
            let of_rung = rungs.entry((candidates[i].case.entry, kernel.clone())).or_default();
            if of_rung.last() != Some(&i) {
                of_rung.push(i);
            }
            compiled.entry((kernel, launch.constants.clone())).or_default().push(i);
        }
    }
    let small = |of: &[usize]| of.iter().take_while(|&&i| candidates[i].bytes <= SMALL).count().max(1);
    let mut chosen = BTreeSet::new();
    for of_rung in rungs.into_values() {
        let taken = match small(&of_rung) {
            small @ 3.. => [0, small / 2, small - 1],
            _ => [0, 1, 1], // two, where few are small
        };
        chosen.extend(taken.iter().filter_map(|&at| of_rung.get(at)));
    }
    for compiled_so in compiled.into_values() {
        if !compiled_so.iter().any(|i| chosen.contains(i)) {
            chosen.insert(compiled_so[small(&compiled_so) / 2]);
        }
    }
    let name = op.name;
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    candidates.into_iter().enumerate().filter(move |(i, _)| chosen.contains(i)).map(move |(_, candidate)| {
        let Candidate { case, activation, recording, .. } = candidate;
        let mut entries: Vec<String> = Vec::new();
        for launch in &recording.launches {
            // kernels/hopper/ has entries of the same names.
            let folder = if launch.architecture == Some("sm_90a") { "hopper/" } else { "" };
            let entry = format!("{folder}{}.{}", launch.stem, launch.entry);
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        let number = numbers.entry(case.entry).or_default();
        // Every file system accepts a dash.
        let file = format!("{name}/{}-{number}.safetensors", case.entry.replace(':', "-"));
        *number += 1;
        let needs = recording.launches.iter().filter_map(|l| l.architecture).find(|&a| a == "sm_90a");
        Planned { op: name, case, activation, entries, needs, file }
    })
}
