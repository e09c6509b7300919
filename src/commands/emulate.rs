//! `trimodal emulate`: what the CUDA kernels of an operation do, counted and traced on the emulator.

use super::PrecisionArguments;
use super::terminal::{self, Paint, line, note, painted};
use clap::Args;
use std::process::ExitCode;
use std::sync::Arc;
use trimodal::check::run_case;
use trimodal::device::emulator::{EmulatedLaunch, Machine};
use trimodal::device::{Gpu, ptx};
use trimodal::emulator::{Options, Trace};
use trimodal::numbers::{bytes, thousands};
use trimodal::ops;
use trimodal::ops::case::Case;
use trimodal::train::recipe::Precision;
use trimodal::{Device, Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal emulate rms_norm                          every kernel that one call launches, counted
  trimodal emulate matmul --precision bf16           the tensor-core kernels
  trimodal emulate attention --list                  the cases, to choose one by its number
  trimodal emulate attention --entry backward --case 20
  trimodal emulate swiglu --trace 33 | less          every instruction of thread 33, with its registers

What the columns mean. `coalesced`: bytes that threads asked for, per byte that global memory moves (in sectors of 32); \
100 % and more is good, 12 % means that each thread fetched a sector of its own for 4 bytes. `conflicts`: extra passes over \
the 32 banks of shared memory per access; 0 is best. `FLOPs/byte`: arithmetic per byte moved; an H100 needs about 20 (f32) or \
300 (bf16 tensor cores) before arithmetic, and not memory, is the limit.";

/// Run an operation's CUDA kernels on the emulator, and see what they do
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Emulate {
    /// The operation: rms_norm, matmul, …
    #[arg(value_name = "OP")]
    op: String,
    /// Only cases of this entry and rung, as `trimodal check` names them: forward, backward, forward:naive, …
    #[arg(long, value_name = "E")]
    entry: Option<String>,
    /// The case, by its number in --list [default: one of a few thousand elements]
    #[arg(long, value_name = "K")]
    case: Option<usize>,
    /// List the cases with their numbers and stop
    #[arg(long)]
    list: bool,
    /// Also print each kernel's instructions by class
    #[arg(long)]
    stats: bool,
    /// Print the instructions of one thread of each kernel, counted over the whole grid, with register values
    #[arg(long, value_name = "T")]
    trace: Option<u64>,
    #[command(flatten)]
    precision: PrecisionArguments,
    /// Print JSON instead of text
    #[arg(long, conflicts_with_all = ["list", "trace"])]
    json: bool,
}

/// Elements that the default case has at least: enough for several warps.
const DEFAULT_WORK: usize = 2_000;

impl Emulate {
    pub fn run(self) -> Result<ExitCode> {
        let op = ops::named(Some(&self.op))?[0];
        let bf16 = self.precision.get() == Precision::Bf16;
        let machine = Arc::new(Machine::new());
        let device = Device::Gpu(Gpu::Emulator(machine.clone()));
        let fits = |case: &Case| {
            let entry = self.entry.as_deref().is_none_or(|entry| entry == case.entry);
            entry && (!bf16 || case.is_mixed()) && case.skip.is_none_or(|skip| skip(&device).is_none())
        };
        let cases = (op.cases)();
        let listed: Vec<&Case> = cases.iter().filter(|case| fits(case)).collect();
        if listed.is_empty() {
            let mut entries: Vec<&str> = cases.iter().map(|c| c.entry).collect();
            entries.dedup();
            let wanted = self.entry.as_deref().unwrap_or("any entry");
            let dtype = if bf16 { " in bf16" } else { "" };
            return Err(Error::Usage(format!("{} has no case of {wanted}{dtype}; its entries are {}", self.op, entries.join(", "))));
        }
        if self.list {
            for (number, case) in listed.iter().enumerate() {
                line(format!("{number:5}  {}  {}", case.entry, case.label));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let number = match self.case {
            Some(number) => number,
            None => {
                let work = |case: &Case| case.inputs.iter().map(|i| i.shape.len()).sum::<usize>();
                let enough = (0..listed.len()).filter(|&i| work(listed[i]) >= DEFAULT_WORK).min_by_key(|&i| work(listed[i]));
                enough.unwrap_or(listed.len() - 1)
            }
        };
        let case = *listed.get(number).ok_or_else(|| Error::Usage(format!("--case {number}: expected 0 to {}; --list shows them", listed.len() - 1)))?;

        machine.record(Options { stats: true, ..Options::default() });
        let activation = self.precision.get().dtype();
        let outcome = run_case(case, &device, activation);
        let mut runs = machine.recorded();
        if let Some(thread) = self.trace {
            // Which block a thread lies in depends on the kernel: each is run again with its own.
            runs = traced(case, &device, &machine, activation, &runs, thread);
        }
        if self.json {
            terminal::document(&(serde_json::to_string_pretty(&json(op.name, case, number, &runs, &outcome)).expect("strings and numbers") + "\n"));
        } else {
            print(op.name, case, number, listed.len(), &runs, self.stats, self.trace);
        }
        let findings: usize = runs.iter().map(|r| r.report.findings.len()).sum();
        if let Err(failure) = &outcome {
            note(format!("wrong result: {failure}"));
        }
        Ok(if outcome.is_ok() && findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The launches once more, each with the trace of thread `thread` of the whole grid, where the grid has it.
fn traced(case: &Case, device: &Device, machine: &Machine, activation: trimodal::DType, first: &[EmulatedLaunch], thread: u64) -> Vec<EmulatedLaunch> {
    let mut result = Vec::new();
    for (index, run) in first.iter().enumerate() {
        let threads = run.threads.max(1) as u64;
        let place = Trace { block: (thread / threads) as u32, thread: (thread % threads) as u32 };
        machine.record(Options { stats: true, trace: Some(place), ..Options::default() });
        let _ = run_case(case, device, activation); // its outcome is known
        result.extend(machine.recorded().into_iter().nth(index));
    }
    result
}

fn json(
    op: &str,
    case: &Case,
    number: usize,
    runs: &[EmulatedLaunch],
    outcome: &std::result::Result<trimodal::check::Outcome, trimodal::check::Failure>,
) -> serde_json::Value {
    let kernels: Vec<_> = runs
        .iter()
        .map(|run| {
            let s = &run.report.stats;
            let classes: serde_json::Map<_, _> = s
                .classes
                .iter()
                .map(|(class, count)| (format!("{class:?}").to_lowercase(), serde_json::json!({ "warps": count.warps, "threads": count.threads })))
                .collect();
            let traffic = |t: &trimodal::emulator::Traffic| serde_json::json!({ "bytes": t.bytes, "sectors": t.sectors, "efficiency": t.efficiency() });
            serde_json::json!({
                "kernel": run.kernel, "file": run.file, "blocks": run.blocks, "threads": run.threads, "shared_bytes": run.shared,
                "instructions": classes, "thread_instructions": s.thread_instructions(), "flops": s.flops, "tensor_flops": s.tensor_flops,
                "loads": traffic(&s.loads), "stores": traffic(&s.stores), "flops_per_byte": s.flops_per_byte(),
                "shared_accesses": s.banks.accesses, "bank_conflicts": s.banks.conflicts,
                "findings": run.report.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    serde_json::json!({ "op": op, "case": number, "entry": case.entry, "label": case.label, "right": outcome.is_ok(), "kernels": kernels })
}

fn print(op: &str, case: &Case, number: usize, of: usize, runs: &[EmulatedLaunch], stats: bool, trace: Option<u64>) {
    let paint = Paint::stdout();
    painted(format!("{} case {number} of {of}: {}", paint.strong(&format!("{op} {}", case.entry)), case.label));
    line("");
    let whole = |share: f64| format!("{:.0} %", 100.0 * share);
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let s = &run.report.stats;
            let per_access = if s.banks.accesses == 0 { "–".into() } else { format!("{:.2}", s.banks.conflicts as f64 / s.banks.accesses as f64) };
            vec![
                run.kernel.clone(),
                format!("{} × {}", thousands(run.blocks), run.threads),
                bytes(run.shared as u64),
                thousands(s.thread_instructions()),
                bytes(s.loads.bytes),
                bytes(s.stores.bytes),
                if s.loads.sectors == 0 { "–".into() } else { whole(s.loads.efficiency()) },
                if s.stores.sectors == 0 { "–".into() } else { whole(s.stores.efficiency()) },
                per_access,
                thousands(s.flops + s.tensor_flops),
                whole(s.tensor_flops as f64 / (s.flops + s.tensor_flops).max(1) as f64),
                format!("{:.2}", s.flops_per_byte()),
            ]
        })
        .collect();
    let head = ["kernel", "grid", "shared", "instructions", "loads", "stores", "coalesced", "stores so", "conflicts", "FLOPs", "tensor", "FLOPs/byte"];
    line(report::table(&head, &rows).trim_end());
    for run in runs {
        if stats {
            line("");
            painted(format!("{}  ({})", paint.strong(&run.kernel), run.file));
            line(run.report.stats.to_string().trim_end());
        }
        if let Some(thread) = trace {
            line("");
            painted(format!(
                "{}: thread {thread} (block {}, thread {} of it)",
                paint.strong(&run.kernel),
                thread / run.threads as u64,
                thread % run.threads as u64
            ));
            if run.report.trace.is_empty() {
                line("  the grid has no such thread, or the thread did nothing");
            }
            let mut at = None;
            for step in &run.report.trace {
                if step.source.is_some() && step.source != at {
                    at = step.source.clone();
                    line(format!("  {}{}", at.as_deref().unwrap_or_default(), source_line(run, at.as_deref())));
                }
                line(step.to_string());
            }
        }
        for finding in &run.report.findings {
            painted(format!("{} {finding}", paint.bad("finding:")));
        }
    }
}

/// The source's own text of a place like `kernels/x.cu:61`.
fn source_line(run: &EmulatedLaunch, place: Option<&str>) -> String {
    let text = || {
        let (file, number) = place?.rsplit_once(':')?;
        let stem = file.strip_prefix("kernels/")?.strip_suffix(".cu")?;
        let compiled = ptx::COMPILED.iter().find(|c| c.stem == stem && c.file == run.file)?;
        Some(format!("  {}", compiled.source.lines().nth(number.parse::<usize>().ok()?.checked_sub(1)?)?.trim()))
    };
    text().unwrap_or_default()
}
