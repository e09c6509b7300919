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
  trimodal bench --quick                           a first look in a quarter of a minute
  trimodal bench --json card.json --svg roofline.svg --html card.html
  python benches/peers/pytorch.py card.json > peer.json
  trimodal bench --card card.json --peers peer.json  show the card again, with PyTorch's times beside ours
  trimodal bench --against card.json --fail-above 10   measure again: what has changed? Exit code 1 where a row is over 10 % slower
  trimodal bench --card new.json --against old.json    the same for two cards; measures nothing

A row is one call of one entry: each rung of an operation's ladder, forward and backward, and `step`, a whole training step. \
FLOP and bytes are counted from the kernel's contract (every input read once, every output written once), not measured. \
`ceiling` is how much it reached of the best that this device can do, where its memory (`mem`) or its arithmetic (`flop`) is the limit, as \
kernels that do nothing else measured them in the same run: min(peak, intensity × copy bandwidth). They are measured before and after the \
rows, and the higher ones count. A row above 100 % says why. The output names the method.

A figure is only as good as the machine was quiet. What speaks against the figures is said at the top: a loaded machine, processors that the host \
took away, limited clocks, short memory, ceilings that moved by more than 5 %, rows whose standard error was still above 2 % when their time \
was up (marked with ?). --strict makes errors of these: it measures nothing on a loaded machine, and ends with exit code 1, after everything \
is printed and written, where one of them remains.

`change` is how much longer a call takes than in the card of --against, ± two standard errors of that; smaller changes are called the same. \
What differs from run to run (addresses, clocks) is not in these errors: a check in CI should allow some per cent.

--quick takes of every operation, pass and dtype the largest sizes only, by the entry that is chosen where none is named, and the training step.

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
    /// A first look in a quarter of a minute: the largest sizes of every operation and the training step, fewer samples
    #[arg(long)]
    quick: bool,
    /// Make an error of everything that speaks against the figures: of a loaded machine before anything is measured, of the rest at the end
    #[arg(long)]
    strict: bool,
    /// Also time the vendor's library in the same run: cuBLASLt for matmul, on cuda
    #[arg(long)]
    compare: bool,
    /// Put the times of this score card beside ours, as benches/peers/pytorch.py writes it
    #[arg(long, value_name = "FILE")]
    peers: Vec<PathBuf>,
    /// Measure nothing: show this score card
    #[arg(long, value_name = "FILE", conflicts_with_all = ["op", "shape", "shapes", "dtype", "quick", "compare", "device", "adapter"])]
    card: Option<PathBuf>,
    /// Compare with this score card: the change of each row with its uncertainty
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// With --against: exit code 1 where a row has become slower by more than so many per cent, and by more than its uncertainty
    /// [with --strict: 5]
    #[arg(long, value_name = "PERCENT", requires = "against", value_parser = percent)]
    fail_above: Option<f64>,
    /// Show all columns, however narrow the terminal is
    #[arg(long)]
    wide: bool,
    /// Also write the score card as JSON to this file (`-`: to standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the roofline to this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also write a page: a table that can be sorted, and a roofline that tells about its marks. One file, nothing is fetched
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// With --strict, what a row may become slower by, in per cent.
const STRICT_ABOVE: f64 = 5.0;

/// `10`, `10%`
fn percent(text: &str) -> std::result::Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>().ok().filter(|percent| percent.is_finite() && *percent >= 0.0);
    number.ok_or_else(|| format!("expected a number of per cent that is not negative, such as 10, found {text:?}"))
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

impl Bench {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.svg.is_some() || self.html.is_some() || self.json.as_ref().is_some_and(|path| path.as_os_str() != "-")
    }

    pub fn run(self) -> Result<ExitCode> {
        let peers = self.peers.iter().map(|path| Card::load(path)).collect::<Result<Vec<_>>>()?;
        if self.strict
            && self.card.is_none()
            && let Some(why) = bench::loaded().first()
        {
            terminal::error(format!("--strict: {why}. Nothing was measured: wait until the machine is idle, or leave --strict away"));
            return Ok(ExitCode::FAILURE);
        }
        // Before anything is measured: a name that is wrong should not cost a run.
        let old = self.against.as_ref().map(|path| Card::load(path)).transpose()?;
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
        if let Some(path) = &self.against {
            if let Some(old) = &old {
                card.compare(old);
            }
            if card.rows.iter().all(|row| row.change.is_none()) {
                return Err(Error::file(path, "none of its rows has an operation, entry, sizes and dtype that were timed here"));
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
        if let Some(path) = &self.html {
            report::bench_page(&card).write(path)?;
        }
        if !json_only {
            line(bench::table(&card, if self.wide { usize::MAX } else { terminal::width() }).trim_end());
        }
        if card.interrupted && self.card.is_none() {
            return Ok(signals::code());
        }
        if card.rows.is_empty() {
            terminal::error("nothing was timed: the output says what was left out, and why");
            return Ok(ExitCode::FAILURE);
        }
        Ok(if self.is_bad(&card) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Whether --strict or --fail-above find fault with the card; says what.
    fn is_bad(&self, card: &Card) -> bool {
        let mut bad = false;
        if self.strict && !card.is_sure() {
            let why = if card.doubts.is_empty() { "the run was interrupted".into() } else { card.doubts.join("; ") };
            terminal::error(format!("--strict: these figures are in doubt: {why}"));
            bad = true;
        }
        let most = self.fail_above.or((self.strict && self.against.is_some()).then_some(STRICT_ABOVE));
        let slower = most.map(|most| card.regressions(most)).unwrap_or_default();
        if let Some(most) = most.filter(|_| !slower.is_empty()) {
            let changes: Vec<String> = slower.iter().filter_map(|row| Some(format!("{} {}", row.name(), row.change.as_ref()?.text()))).collect();
            let verb = if slower.len() == 1 { "row is" } else { "rows are" };
            terminal::error(format!("{} {verb} slower by more than {most} %: {}", slower.len(), changes.join("; ")));
            bad = true;
        }
        bad
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
