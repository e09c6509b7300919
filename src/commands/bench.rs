//! `trimodal bench`: how long every kernel takes, beside the best that the device can do.

use super::DeviceArguments;
use super::progress::{TICK, advance, progress};
use super::signals::{self, stop_flag};
use super::terminal::{self, line};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trimodal::bench::{self, BenchOptions, Card};
use trimodal::{DType, Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal bench                                   every kernel and the training step, on the device that `auto` takes
  trimodal bench --op matmul --shape K=64          only rows whose sizes contain this text
  trimodal bench --device cuda --shapes small,large --dtype bf16 --compare
  trimodal bench --json card.json --svg roofline.svg
  python benches/peers/pytorch.py card.json > peer.json
  trimodal bench --card card.json --peers peer.json  show the card again, with PyTorch's times beside ours

A row is one call of one entry: each rung of an operation's ladder, forward and backward, and `step`, a whole training step. \
FLOP and bytes are counted from the kernel's contract (every input read once, every output written once), not measured. \
`ceiling` is how much it reached of the best that this device can do, where its memory (`mem`) or its arithmetic (`flop`) is the limit, as \
kernels that do nothing else measured them in the same run: min(peak, intensity × copy bandwidth). The output names the method.

Without --shapes, a processor runs `demo` and a GPU runs `small`. Sizes that would take too long are left out, and the output names them.";

/// Time every kernel, beside the best that the device can do
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    #[command(flatten)]
    device: DeviceArguments,
    /// Only this operation; `step` is the training step
    #[arg(long, value_name = "X")]
    op: Option<String>,
    /// Only sizes that contain this text
    #[arg(long, value_name = "TEXT")]
    shape: Option<String>,
    /// The sets of sizes: demo, small (124 M parameters), large (D 4096), or several with commas
    #[arg(long, value_name = "SETS", value_delimiter = ',')]
    shapes: Vec<String>,
    /// Only this dtype of activations and weights
    #[arg(long, value_name = "DTYPE", value_enum)]
    dtype: Option<Dtype>,
    /// Take fewer samples: a first look in seconds
    #[arg(long)]
    quick: bool,
    /// Also time the vendor's library in the same run: cuBLASLt for matmul, on cuda
    #[arg(long)]
    compare: bool,
    /// Put the times of this score card beside ours, as benches/peers/pytorch.py writes it
    #[arg(long, value_name = "FILE")]
    peers: Vec<PathBuf>,
    /// Measure nothing: show this score card
    #[arg(long, value_name = "FILE", conflicts_with_all = ["op", "shape", "shapes", "dtype", "quick", "compare", "device", "adapter"])]
    card: Option<PathBuf>,
    /// Also write the score card as JSON to this file (`-`: to standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the roofline to this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

impl Bench {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.svg.is_some() || self.json.as_ref().is_some_and(|path| path.as_os_str() != "-")
    }

    pub fn run(self) -> Result<ExitCode> {
        let peers = self.peers.iter().map(|path| Card::load(path)).collect::<Result<Vec<_>>>()?;
        let mut card = match &self.card {
            Some(path) => Card::load(path)?,
            None => self.measure()?,
        };
        for (peer, path) in peers.iter().zip(&self.peers) {
            let found = card.merge(peer);
            if found == 0 {
                return Err(Error::file(path, "none of its rows has an operation, pass, sizes and dtype that were timed here"));
            }
        }
        let json_only = self.json.as_deref() == Some(Path::new("-"));
        match &self.json {
            Some(_) if json_only => terminal::document(&card.json()),
            Some(path) => card.save(path)?,
            None => {}
        }
        if let Some(path) = &self.svg {
            report::roofline_svg(path, &card)?;
        }
        if !json_only {
            line(bench::table(&card).trim_end());
        }
        if card.interrupted && self.card.is_none() {
            return Ok(signals::code());
        }
        if card.rows.is_empty() {
            terminal::error("nothing was timed: the output says what was left out, and why");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn measure(&self) -> Result<Card> {
        let device = self.device.open()?;
        stop_flag(); // from here on ctrl-C ends it after the row at hand
        let options = BenchOptions {
            op: self.op.clone(),
            shape: self.shape.clone(),
            dtype: self.dtype.map(|d| if d == Dtype::F32 { DType::F32 } else { DType::Bf16 }),
            sets: self.shapes.clone(),
            quick: self.quick,
            compare: self.compare,
        };
        let bar = progress("timing");
        bar.enable_steady_tick(TICK);
        let card = bench::run(&device, &options, &mut |progress| {
            bar.set_message(progress.what.to_string());
            advance(&bar, progress.done, progress.total)
        });
        bar.finish_and_clear();
        card
    }
}
