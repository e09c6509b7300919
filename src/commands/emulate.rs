//! `trimodal emulate`: what the CUDA kernels of an operation do, counted and traced on the emulator.

use super::terminal::{self, Paint, line, note, painted};
use super::{PrecisionArguments, WidthArguments};
use clap::Args;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use trimodal::check::run_case;
use trimodal::device::emulator::{EmulatedLaunch, Machine};
use trimodal::device::{Gpu, ptx};
use trimodal::emulator::{Options, Trace, TraceLine};
use trimodal::files::shown::shown;
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
  trimodal emulate rms_norm --wide                   every column

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
    /// Print the instructions of one thread of each kernel, counted over the whole grid, with register values: on a terminal the first 60
    #[arg(long, value_name = "T")]
    trace: Option<u64>,
    #[command(flatten)]
    width: WidthArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
    /// Print JSON instead of text
    #[arg(long, conflicts_with_all = ["list", "trace"])]
    json: bool,
}

/// Elements that the default case has at least: enough for several warps.
const DEFAULT_WORK: usize = 2_000;
/// Instructions of a trace that a terminal is shown.
const SHOWN: usize = 60;

/// The columns of the table; the number says how early one is left out where not all fit.
const COLUMNS: [report::Ranked; 12] = [
    ("kernel", 0),
    ("grid", 0),
    ("shared", 3),
    ("instructions", 0),
    ("loads", 2),
    ("stores", 2),
    ("coalesced", 1),
    ("stores so", 3),
    ("conflicts", 1),
    ("FLOPs", 3),
    ("tensor", 4),
    ("FLOPs/byte", 1),
];

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
                line(report::wrapped(&format!("{number:5}  {}  {}", case.entry, case.label), self.width.columns(), 7));
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
            self.print(case, number, listed.len(), &runs);
        }
        let findings: usize = runs.iter().map(|r| r.report.findings.len()).sum();
        if let Err(failure) = &outcome {
            note(format!("wrong result: {failure}"));
        }
        Ok(if outcome.is_ok() && findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, case: &Case, number: usize, of: usize, runs: &[EmulatedLaunch]) {
        let (paint, width) = (Paint::stdout(), self.width.columns());
        let wrapped = |text: &str, indent: usize| report::wrapped(text, width, indent);
        let name = format!("{} {}", self.op, case.entry);
        painted(wrapped(&format!("{name} case {number} of {of}: {}", case.label), 2).replacen(&name, &paint.strong(&name), 1));
        line("");
        line(report::fitted_table(&COLUMNS, &runs.iter().map(row).collect::<Vec<_>>(), width).trim_end());
        for run in runs {
            if self.stats {
                line("");
                painted(format!("{}  ({})", paint.strong(&run.kernel), run.file));
                line(wrapped(run.report.stats.to_string().trim_end(), 2));
            }
            if let Some(thread) = self.trace {
                line("");
                self.print_trace(run, thread);
            }
            for finding in &run.report.findings {
                painted(wrapped(&format!("finding: {}", shown(&finding.to_string())), 2).replacen("finding:", &paint.bad("finding:"), 1));
            }
        }
    }

    fn print_trace(&self, run: &EmulatedLaunch, thread: u64) {
        let (paint, width) = (Paint::stdout(), self.width.columns());
        let (block, place) = (thread / run.threads as u64, thread % run.threads as u64);
        painted(format!("{}: thread {thread} (block {block}, thread {place} of it)", paint.strong(&run.kernel)));
        let steps = &run.report.trace;
        if steps.is_empty() {
            line("  the grid has no such thread, or the thread did nothing");
        }
        let (some, left_out) = cut(steps.len(), std::io::stdout().is_terminal());
        let mut at = None;
        for step in &steps[..some] {
            if step.source.is_some() && step.source != at {
                at = step.source.clone();
                line(report::wrapped(&format!("  {}{}", at.as_deref().unwrap_or_default(), source_line(run, at.as_deref())), width, 4));
            }
            // Where there is little room, the line of the source stands above its instructions and not after each.
            let brief = TraceLine { source: step.source.clone().filter(|_| self.width.wide), ..step.clone() };
            line(report::wrapped(&brief.to_string().replace('\t', " "), width, 9));
        }
        if let Some(left_out) = left_out {
            line(report::wrapped(&left_out, width, 2));
        }
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

/// How many instructions of a trace are printed, and the line that says what is left out: a terminal would lose the beginning.
fn cut(all: usize, terminal: bool) -> (usize, Option<String>) {
    if !terminal || all <= SHOWN {
        return (all, None);
    }
    let said = format!(
        "… and {} more of {} instructions, which are left out on a terminal: add `| less` or `> FILE` for all",
        thousands((all - SHOWN) as u64),
        thousands(all as u64)
    );
    (SHOWN, Some(said))
}

/// A line of the table.
fn row(run: &EmulatedLaunch) -> Vec<String> {
    let whole = |share: f64| format!("{:.0} %", 100.0 * share);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_the_beginning_and_told_of_the_rest() {
        assert_eq!(cut(1_000_000, false), (1_000_000, None));
        assert_eq!(cut(SHOWN, true), (SHOWN, None));
        let (some, said) = cut(12_060, true);
        let said = said.unwrap();
        assert!(some == SHOWN && said.contains("12,000 more of 12,060 instructions") && said.contains("| less"), "{said}");
    }
}
