//! `trimodal golden`: inputs and expected outputs of every kernel, for those who copied one.

use super::progress::{advance, progress};
use super::signals::stop_flag;
use super::terminal::{document, line};
use clap::{Args, ValueEnum};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::device::Language;
use trimodal::files::shown::shown_path;
use trimodal::golden::{self, Index};
use trimodal::numbers::{bytes, thousands};
use trimodal::{Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal golden vectors                        every kernel: vectors/wgsl and vectors/ptx
  trimodal golden vectors --lang wgsl            the shaders, in vectors itself
  trimodal golden vectors --lang ptx --op matmul
  cargo run --example vendor_wgpu -- . vectors   test this repository's shaders with them, in plain wgpu

A golden case is one call of an operation, written down as the launches that it makes: one safetensors file with the \
contents of the buffers before, the contents expected afterwards, from the float64 oracle, and how far from them a result may be. Any engine in any \
language can replay it with a loop of twenty lines and so test the kernel that it copied; README.txt, in every such folder, says how. \
There are several cases for every entry, with tails and odd shapes among them. Writing them needs no GPU and runs none.

`trimodal vendor` copies a kernel together with the vectors that belong to it.";

/// Write golden vectors: inputs and expected outputs of every kernel, to test a copy in any engine
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Golden {
    /// The folder to write; created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only this operation
    #[arg(long, value_name = "X")]
    op: Option<String>,
    /// The kernels' language [default: both, each in its own folder]
    #[arg(long, value_name = "L", value_enum)]
    lang: Option<Lang>,
    /// Replace golden vectors that are already there
    #[arg(long)]
    force: bool,
    /// Print the index as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// shaders/*.wgsl
    Wgsl,
    /// kernels/ptx/*/*.ptx
    Ptx,
}

impl Golden {
    pub fn run(self) -> Result<ExitCode> {
        let folders = match self.lang {
            Some(Lang::Wgsl) => vec![(Language::Wgsl, self.folder)],
            Some(Lang::Ptx) => vec![(Language::Ptx, self.folder)],
            None => vec![(Language::Wgsl, self.folder.join("wgsl")), (Language::Ptx, self.folder.join("ptx"))],
        };
        for (_, folder) in &folders {
            golden::expect_free(folder, self.force)?;
        }
        stop_flag(); // from here on ctrl-C leaves the folder as it was
        let mut written = Vec::new();
        for (language, folder) in &folders {
            let plan = golden::plan(*language, self.op.as_deref())?;
            let bar = progress(golden::language_name(*language));
            let index = golden::write(&plan, folder, self.force, &mut |done| advance(&bar, done, plan.cases.len()));
            bar.finish_and_clear();
            written.push(index?);
        }
        if self.json {
            let text = match &written[..] {
                [only] => serde_json::to_string_pretty(only),
                both => serde_json::to_string_pretty(both),
            };
            document(&(text.expect("strings and numbers") + "\n"));
            return Ok(ExitCode::SUCCESS);
        }
        for (index, (_, folder)) in written.iter().zip(&folders) {
            print(index);
            let total: u64 = index.cases.iter().map(|c| c.bytes).sum();
            line(format!("{} cases, {}, in {}", thousands(index.cases.len()), bytes(total), shown_path(folder)));
            line("");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(index: &Index) {
    let mut ops: BTreeMap<&str, (usize, BTreeSet<&str>, u64)> = BTreeMap::new();
    for case in &index.cases {
        let (cases, entries, size) = ops.entry(case.op).or_default();
        *cases += 1;
        entries.extend(case.entries.iter().map(String::as_str));
        *size += case.bytes;
    }
    let row = |(op, (cases, entries, size)): (&str, (usize, BTreeSet<&str>, u64))| vec![op.into(), thousands(cases), thousands(entries.len()), bytes(size)];
    let rows: Vec<Vec<String>> = ops.into_iter().map(row).collect();
    line(report::table(&[index.language, "cases", "kernels", "size"], &rows).trim_end());
}
