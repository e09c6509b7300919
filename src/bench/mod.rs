//! `trimodal bench`: how long every kernel takes, beside the best that the device can do.
//!
//! Every entry of every operation (each rung of its ladder) and the whole training step are timed at the sizes of a model
//! ([`Sizes`]). Operations and bytes are counted from the kernels' contracts, never measured; the ceilings that they are divided
//! by are measured in the same run. The result is a [`Card`], which also says how it was measured.

mod above;
mod card;
mod ceiling;
mod compare;
mod conditions;
#[cfg(feature = "cuda")]
mod cublas;
mod machine;
mod operands;
mod recount;
mod step;
mod table;
mod timer;

pub use card::{About, BenchRow, Card, Ceilings, Conditions, DRIFT, LeftOut, Method, Peer, SCHEMA, Seconds, UNSURE};
pub use compare::{Against, Change};
pub use table::{MARK, peers, readme, table};
#[cfg(feature = "cli")]
pub(crate) use table::{ceilings_text, machine_text, of_peer, peer_names, time};

use crate::device::Device;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::model::Batch;
use crate::ops::case::{Case, Kind};
use crate::ops::{self, OPS, Sizes};
use crate::tensor::DType;
use crate::train::Trainer;
use crate::train::recipe::Precision;
use conditions::Watch;
use operands::{Set, footprint};
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};
use step::BenchStep;
use timer::Timer;

/// The fewest samples of a row.
const SAMPLES: usize = 20;
/// Unless the standard error is below this part of the mean; sampling ends there, or when the row's time is up.
const STANDARD_ERROR: f64 = 0.005;
/// Samples before the standard error means anything.
const FEW: usize = 5;
/// What a row may take beyond its share of the run's time before it is left out.
const PATIENCE: f64 = 4.0;
/// What every row may take, in seconds: in a first look, shares of the time are small.
const AT_LEAST: f64 = 2.0;
/// The most that plain loops do on one core: it says before the first call whether there is time for one.
const PLAIN_FLOPS_PER_SECOND: f64 = 4e9;
/// The most bytes of buffers where the device does not say how much is free.
const MEMORY: u64 = 4 << 30;

/// The name of the row that is a whole training step.
pub const STEP: &str = "step";

/// What to time.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Only this operation, or [`STEP`].
    pub op: Option<String>,
    /// Only sizes that contain this text.
    pub shape: Option<String>,
    /// Only this dtype of activations and weights.
    pub dtype: Option<DType>,
    /// The sets of sizes, by name; none: what the device has the time for.
    pub sets: Vec<String>,
    /// A first look: fewer samples, and without `op` and `shape` fewer rows: of every operation, pass and dtype the largest sizes, by
    /// the entry that is chosen where none is named.
    pub quick: bool,
    /// Measure nothing on a machine that is not fit to be measured on.
    pub strict: bool,
    /// Also time the vendor's library, where there is one.
    pub compare: bool,
}

/// Where a run is.
pub struct BenchProgress<'a> {
    /// Rows that are done.
    pub done: usize,
    /// Rows in all.
    pub total: usize,
    /// What is being measured.
    pub what: &'a str,
}

/// Something to time.
enum Work {
    Case { op: &'static str, case: Case, dtype: DType, plain: bool },
    Step { sizes: Sizes, precision: Precision },
}

struct Item {
    set: &'static str,
    entry: String,
    shape: String,
    work: Work,
}

impl Item {
    fn op(&self) -> &str {
        match &self.work {
            Work::Case { op, .. } => op,
            Work::Step { .. } => STEP,
        }
    }

    fn dtype(&self) -> DType {
        match &self.work {
            Work::Case { dtype, .. } => *dtype,
            Work::Step { precision, .. } => precision.dtype(),
        }
    }

    fn name(&self) -> String {
        format!("{} {} {} {}", self.op(), self.entry, self.shape, self.dtype())
    }
}

/// What the platform says about a device.
pub fn about(device: &Device) -> About {
    machine::about(device)
}

/// Floating-point operations per second that the device reaches at best in this dtype (f32 or bf16), measured in a moment; `None` for
/// devices whose time says nothing: the emulator and software drivers.
pub fn peak(device: &Device, dtype: DType) -> Option<f64> {
    let real = matches!(device, Device::Cpu) || !device.is_emulator() && !is_slow(device);
    real.then(|| ceiling::arithmetic(device, dtype).ok()).flatten()
}

/// What a device does at best, measured in a moment; `None` for devices whose time says nothing: the emulator.
///
/// # Errors
/// Whatever the device reports.
pub fn ceilings(device: &Device) -> Result<Option<Ceilings>> {
    if device.is_emulator() {
        return Ok(None);
    }
    let cache = machine::about(device).cache_bytes.unwrap_or(machine::UNTOLD_CACHE);
    ceiling::measure(device, &Timer::of(device), cache).map(Some)
}

/// The training step that the benchmark times: a model with these sizes in training, and a batch of at most `samples` made-up samples.
///
/// # Errors
/// Where memory does not suffice.
pub fn training_step(sizes: &Sizes, samples: usize, device: &Device, precision: Precision) -> Result<(Trainer, Batch)> {
    BenchStep::new(sizes, samples, device, precision).map(BenchStep::into_parts)
}

/// Times what `options` ask for. `progress` is told before every row, and may end the run: the card then has what there is.
///
/// # Errors
/// [`Error::Usage`] for the emulator, which has no time to measure, for an unknown set of sizes, and where nothing is left to time;
/// [`Error::Device`] where the ceilings cannot be measured, and for a loaded machine where `options.strict`.
pub fn run(device: &Device, options: &BenchOptions, progress: &mut dyn FnMut(BenchProgress) -> ControlFlow<()>) -> Result<Card> {
    if device.is_emulator() {
        return Err(Error::Usage(
            "the emulator counts instructions, and its times say nothing about a GPU: `trimodal emulate OP` shows its counts; \
             bench takes --device cpu, wgpu or cuda"
                .into(),
        ));
    }
    let start = Instant::now();
    let date = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let timer = Timer::of(device);
    let about = machine::about(device);
    let cache = about.cache_bytes.unwrap_or(machine::UNTOLD_CACHE);
    let slow = is_slow(device);
    let sets = chosen_sets(options, slow)?;
    let (items, mut left_out) = plan(device, options, &sets)?;
    let watch = Watch::start();
    if let Some(doubt) = watch.doubts().into_iter().next().filter(|_| options.strict) {
        let what = format!("{doubt}. What is measured now would not be what it can do: wait until it is idle, or leave --strict away");
        return Err(Error::Device { device: device.to_string(), what });
    }

    let mut interrupted = progress(BenchProgress { done: 0, total: items.len(), what: "the device's ceilings" }).is_break();
    let ceilings = if interrupted { Ceilings::default() } else { ceiling::measure(device, &timer, cache)? };
    // The whole run stays below what the command promises: a quarter of a minute for a first look, 5 minutes on a slow device, 3 on a GPU.
    let seconds = match (options.quick, slow) {
        (true, _) => 4.0,
        (false, true) => 150.0,
        (false, false) => 90.0,
    };
    let bench = Bench {
        device,
        timer: &timer,
        ceilings,
        cache,
        memory: free_memory(device) / 2,
        budget: (seconds / items.len() as f64).clamp(0.02, 10.0),
        samples: if options.quick { FEW } else { SAMPLES },
    };
    #[cfg(feature = "cuda")]
    let vendor = if options.compare { vendor(device, &mut left_out) } else { None };
    #[cfg(not(feature = "cuda"))]
    if options.compare {
        left_out.push(LeftOut { what: "--compare".into(), reason: "this build leaves CUDA out".into() });
    }
    let mut rows = Vec::new();
    for (done, item) in items.iter().enumerate() {
        let name = item.name();
        interrupted = interrupted || progress(BenchProgress { done, total: items.len(), what: &name }).is_break();
        if interrupted {
            break;
        }
        #[cfg(feature = "cuda")]
        let measured = bench.item(item, vendor.as_ref());
        #[cfg(not(feature = "cuda"))]
        let measured = bench.item(item);
        match measured {
            Ok(Measured::Row(row, refused)) => {
                rows.push(*row);
                left_out.extend(refused.map(|reason| LeftOut { what: format!("the vendor beside {name}"), reason }));
            }
            Ok(Measured::LeftOut(reason)) => left_out.push(LeftOut { what: name, reason }),
            Err(error) => {
                // One that does not fit leaves the others as they are; on a lost device nothing works any more.
                let lost = matches!(error, Error::DeviceLost { .. });
                left_out.push(LeftOut { what: name, reason: error.to_string() });
                if lost {
                    break;
                }
            }
        }
    }
    // What slows the clocks is asked for while the device works.
    let (after, gpu) = std::thread::scope(|scope| {
        let gpu = scope.spawn(|| machine::limited_clocks(device));
        let after = (!interrupted).then(|| ceiling::measure(device, &timer, cache).ok()).flatten();
        (after, gpu.join().unwrap_or_default())
    });
    let (conditions, doubts) = watch.end(gpu);
    let mut card = Card {
        schema: SCHEMA.into(),
        tool: format!("trimodal {}", env!("CARGO_PKG_VERSION")),
        date: card::utc(date.as_secs()),
        conditions: Some(conditions),
        method: Method {
            timer: format!("{}; a training step by the host's clock: it reads its loss", timer.describe()),
            inputs: "normal random numbers, never zeros".into(),
            rotation: match about.cache_bytes {
                Some(bytes) => format!("calls take turns with so many buffers that they exceed three times the last cache ({} MiB)", bytes >> 20),
                None => format!("calls take turns with so many buffers that they exceed {} MiB: the device does not report its last cache", (3 * cache) >> 20),
            },
            samples: format!(
                "after warming up at least {} samples, or a standard error below {} %; then more until either that or the row's {:.2} s are reached. \
                 A standard error that is then still above {:.0} % marks the row",
                bench.samples,
                100.0 * STANDARD_ERROR,
                bench.budget,
                100.0 * UNSURE
            ),
            shapes: sets.iter().map(|s| s.name.to_string()).collect(),
            quick: options.quick,
            seconds: start.elapsed().as_secs_f64(),
        },
        device: about,
        ceilings: after.map_or(ceilings, |after| ceilings.larger(&after)),
        ceilings_before: Some(ceilings),
        ceilings_after: after,
        drift: after.and_then(|after| ceilings.drift(&after)),
        doubts,
        rows,
        left_out,
        interrupted,
        against: None,
    };
    card.rate();
    card.doubts.extend(card.doubts_of_rows());
    Ok(card)
}

/// Whether a large training step takes moments on it: a GPU, not a processor.
pub fn is_fast(device: &Device) -> bool {
    !is_slow(device) && !device.is_emulator()
}

/// Whether the device is a processor, or a driver that runs on one.
fn is_slow(device: &Device) -> bool {
    match device {
        Device::Cpu => true,
        #[cfg(feature = "wgpu")]
        Device::Gpu(Gpu::Wgpu(context)) => !context.adapter().is_hardware(),
        Device::Gpu(_) => false,
    }
}

/// Bytes that are free, or a guess.
fn free_memory(device: &Device) -> u64 {
    if device.is_emulator() { MEMORY } else { device.free_memory().unwrap_or(MEMORY) }
}

fn chosen_sets(options: &BenchOptions, slow: bool) -> Result<Vec<Sizes>> {
    if options.sets.is_empty() {
        return Ok(vec![if slow { Sizes::DEMO } else { Sizes::SMALL }]);
    }
    let known = Sizes::ALL.map(|s| s.name).join(", ");
    let find = |name: &String| {
        let unknown = || Error::Usage(format!("unknown set of shapes {name:?}: expected one of {known}"));
        Sizes::ALL.into_iter().find(|s| s.name == name).ok_or_else(unknown)
    };
    options.sets.iter().map(find).collect()
}

/// Everything that the options ask for, and what of it the device has no kernel for.
fn plan(device: &Device, options: &BenchOptions, sets: &[Sizes]) -> Result<(Vec<Item>, Vec<LeftOut>)> {
    if let Some(op) = options.op.as_deref().filter(|op| *op != STEP && OPS.iter().all(|o| o.name != *op)) {
        return Err(ops::unknown(op, Some(STEP)));
    }
    let dtypes: &[DType] = if device.has_bf16() { &[DType::F32, DType::Bf16] } else { &[DType::F32] };
    if let Some(dtype) = options.dtype.filter(|dtype| !dtypes.contains(dtype)) {
        return Err(Error::Usage(format!(
            "{device} has no {dtype} kernels: expected {}",
            dtypes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
        )));
    }
    let wanted_op = |name: &str| options.op.as_deref().is_none_or(|op| op == name);
    let (mut items, mut left_out) = (Vec::new(), Vec::new());
    for sizes in sets {
        for op in OPS.iter().filter(|op| wanted_op(op.name)) {
            let first = items.len();
            for &dtype in dtypes {
                for case in (op.sized)(sizes).into_iter().filter(|case| if dtype == DType::F32 { !case.only_mixed } else { case.is_mixed() }) {
                    let item = Item {
                        set: sizes.name,
                        entry: case.entry.into(),
                        shape: case.label.clone(),
                        work: Work::Case { op: op.name, case, dtype, plain: false },
                    };
                    match skipped(device, &item, &items) {
                        // The CPU's naive rung comes below, as plain loops.
                        Some(_) if matches!(device, Device::Cpu) && item.entry.ends_with(":naive") => {}
                        Some(reason) => left_out.push(LeftOut { what: item.name(), reason }),
                        None => items.push(item),
                    }
                }
            }
            if matches!(device, Device::Cpu) {
                items.extend(plain_loops(op, sizes));
            }
            // Rows of the same sizes are kept together.
            let mut order: Vec<String> = Vec::new();
            items[first..].iter().for_each(|item| {
                if !order.contains(&item.shape) {
                    order.push(item.shape.clone())
                }
            });
            items[first..].sort_by_key(|item| order.iter().position(|shape| *shape == item.shape));
        }
        if wanted_op(STEP) {
            for &dtype in dtypes {
                let precision = if dtype == DType::Bf16 { Precision::Bf16 } else { Precision::F32 };
                let shape = step::label(sizes, &step::batch(sizes, &step::config(sizes), usize::MAX)?);
                items.push(Item { set: sizes.name, entry: STEP.into(), shape, work: Work::Step { sizes: *sizes, precision } });
            }
        }
    }
    let shapes: Vec<String> = items.iter().map(|item| item.shape.clone()).collect();
    let keep = |op: &str, name: &str| wanted_op(op) && options.shape.as_deref().is_none_or(|shape| name.contains(shape));
    items.retain(|item| keep(item.op(), &item.shape) && options.dtype.is_none_or(|dtype| item.dtype() == dtype));
    left_out.retain(|l| options.shape.as_deref().is_none_or(|shape| l.what.contains(shape)));
    if options.quick && options.op.is_none() && options.shape.is_none() {
        first_look(&mut items);
        // Of what else is left out there is nothing to say in a first look.
        left_out.retain(|left| items.iter().all(|item| left.what.split(' ').next() != Some(item.op())));
    }
    if items.is_empty() {
        if let Some(op) = options.op.as_deref().filter(|_| shapes.is_empty() && left_out.is_empty()) {
            return Err(Error::Usage(format!("nothing to time: {op} has no sizes of a model, because no model calls it")));
        }
        let mut shapes: Vec<String> = shapes.into_iter().map(|shape| format!("{shape:?}")).collect();
        shapes.dedup();
        let more = if shapes.len() > 8 { format!(" and {} more", shapes.len() - 8) } else { String::new() };
        shapes.truncate(8);
        return Err(Error::Usage(format!(
            "nothing to time: no sizes contain {:?}; there are {}{more}",
            options.shape.as_deref().unwrap_or(""),
            shapes.join(", ")
        )));
    }
    Ok((items, left_out))
}

/// Of every operation, pass and dtype the largest sizes, by the entry that is chosen where none is named (or the first).
fn first_look(items: &mut Vec<Item>) {
    let key = |item: &Item| (item.set, item.op().to_string(), pass(&item.entry).to_string(), item.dtype());
    let size = |item: &Item| match &item.work {
        Work::Case { case, dtype, .. } => (case.flops, case.bytes(*dtype)),
        Work::Step { .. } => (0, 0),
    };
    let mut kept: Vec<Item> = Vec::new();
    for item in items.drain(..).filter(|item| !item.entry.ends_with(":naive")) {
        match kept.iter_mut().find(|other| key(other) == key(&item)) {
            None => kept.push(item),
            Some(other) => {
                let chosen = |item: &Item| !item.entry.contains(':');
                if (size(&item), chosen(&item)) > (size(other), chosen(other)) {
                    *other = item;
                }
            }
        }
    }
    *items = kept;
}

/// Why an entry is not timed on a device.
fn skipped(device: &Device, item: &Item, items: &[Item]) -> Option<String> {
    let Work::Case { op, case, .. } = &item.work else { return None };
    if let Device::Cpu = device {
        let pass = pass(case.entry);
        let first = |other: &&Item| other.op() == *op && other.shape == item.shape && self::pass(&other.entry) == pass;
        return items.iter().find(first).map(|_| "the CPU has one kernel for all rungs, and plain loops".into());
    }
    case.skip.and_then(|skip| skip(device))
}

/// On the CPU the naive rung is the plain loops that the oracle is made of.
fn plain_loops(op: &crate::ops::Op, sizes: &Sizes) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for case in (op.sized)(sizes).into_iter().filter(|case| case.naive.is_some()) {
        let entry = format!("{}:naive", pass(case.entry));
        if !items.iter().any(|item| item.entry == entry && item.shape == case.label) {
            let shape = case.label.clone();
            items.push(Item { set: sizes.name, entry, shape, work: Work::Case { op: op.name, case, dtype: DType::F32, plain: true } });
        }
    }
    items
}

/// `forward` of `forward:naive`.
fn pass(entry: &str) -> &str {
    entry.split(':').next().unwrap_or(entry)
}

enum Measured {
    /// The row, and why the vendor is not beside it.
    Row(Box<BenchRow>, Option<String>),
    LeftOut(String),
}

struct Bench<'a> {
    device: &'a Device,
    timer: &'a Timer,
    ceilings: Ceilings,
    cache: u64,
    memory: u64,
    /// Seconds of sampling per row.
    budget: f64,
    samples: usize,
}

#[cfg(feature = "cuda")]
type Vendor = cublas::Cublas;

#[cfg(feature = "cuda")]
fn vendor(device: &Device, left_out: &mut Vec<LeftOut>) -> Option<Vendor> {
    let opened = match device {
        Device::Gpu(Gpu::Cuda(context)) => Vendor::open(context).map_err(|e| e.to_string()),
        _ => Err("--compare needs cuBLASLt, which is there on --device cuda only; --peers merges what PyTorch measured".into()),
    };
    opened.map_err(|reason| left_out.push(LeftOut { what: "--compare".into(), reason })).ok()
}

impl Bench<'_> {
    fn item(&self, item: &Item, #[cfg(feature = "cuda")] vendor: Option<&Vendor>) -> Result<Measured> {
        match &item.work {
            Work::Step { sizes, precision } => self.step(item, sizes, *precision),
            Work::Case { case, dtype, plain, .. } => {
                if let Some(reason) = self.too_much(case, *dtype, *plain) {
                    return Ok(Measured::LeftOut(reason));
                }
                let mut sets = self.sets(case, *dtype, *plain)?;
                let run = |set: &mut Set| match &case.naive {
                    Some(naive) if *plain => naive(&set.inputs, &mut set.outputs),
                    _ => set.run(case),
                };
                let taken = match self.sample(self.timer, &mut sets, run)? {
                    Ok(taken) => taken,
                    Err(reason) => return Ok(Measured::LeftOut(reason)),
                };
                let flops = case.computed(matches!(self.device, Device::Cpu), *plain);
                let mut row = self.row(item, taken, sets.len(), flops, Some(case.bytes(*dtype)));
                row.overwritten_bytes = Some(case.overwritten(*dtype));
                row.rotated_bytes = Some(sets.len() as u64 * footprint(case, *dtype));
                #[cfg_attr(not(feature = "cuda"), allow(unused_mut))]
                let mut refused = None;
                #[cfg(feature = "cuda")]
                if let Some(vendor) = vendor.filter(|_| item.op() == "matmul") {
                    match self.vendor_product(vendor, case, *dtype, &mut sets, row.seconds.median) {
                        Ok(peer) => row.peers.extend(peer),
                        Err(error) => refused = Some(error.to_string()),
                    }
                }
                Ok(Measured::Row(Box::new(row), refused))
            }
        }
    }

    fn step(&self, item: &Item, sizes: &Sizes, precision: Precision) -> Result<Measured> {
        let config = step::config(sizes);
        let batch = step::batch(sizes, &config, usize::MAX)?;
        let flops = crate::model::flops(&config, &batch);
        if let Some(reason) = self.no_time(flops as f64 / self.peak(precision.dtype())).or_else(|| self.no_room(step::bytes(sizes, precision))) {
            return Ok(Measured::LeftOut(reason));
        }
        let mut step = [BenchStep::new(sizes, usize::MAX, self.device, precision)?];
        let clock = Timer::Clock(self.device.clone());
        match self.sample(&clock, &mut step, BenchStep::run)? {
            Err(reason) => Ok(Measured::LeftOut(reason)),
            Ok(taken) => {
                let mut row = self.row(item, taken, 1, flops, None);
                row.tokens_per_second = Some(batch.rows() as f64 / row.seconds.median);
                Ok(Measured::Row(Box::new(row), None))
            }
        }
    }

    fn row(&self, item: &Item, taken: Taken, buffers: usize, flops: u64, bytes: Option<u64>) -> BenchRow {
        BenchRow {
            op: item.op().into(),
            pass: pass(&item.entry).into(),
            entry: item.entry.clone(),
            set: item.set.into(),
            shape: item.shape.clone(),
            dtype: item.dtype().to_string(),
            seconds: Seconds::of(&taken.samples),
            samples: taken.samples.len(),
            calls: taken.calls,
            buffers,
            flops,
            bytes,
            overwritten_bytes: None,
            rotated_bytes: None,
            tflops: 0.0,
            gbytes: None,
            intensity: None,
            bound: None,
            percent: None,
            above: None,
            tokens_per_second: None,
            peers: Vec::new(),
            unsure: false,
            change: None,
        }
    }

    fn peak(&self, dtype: DType) -> f64 {
        let bf16 = self.ceilings.bf16_flops_per_second.filter(|_| dtype == DType::Bf16);
        bf16.or(self.ceilings.f32_flops_per_second).unwrap_or(f64::INFINITY)
    }

    /// Why it is not worth trying.
    fn too_much(&self, case: &Case, dtype: DType, plain: bool) -> Option<String> {
        let peak = if plain { PLAIN_FLOPS_PER_SECOND } else { self.peak(dtype) };
        let flops = case.computed(matches!(self.device, Device::Cpu), plain);
        self.no_time(flops as f64 / peak).or_else(|| self.no_room(footprint(case, dtype)))
    }

    /// `least`: the seconds that one call needs at the very best.
    fn no_time(&self, least: f64) -> Option<String> {
        let all = least * self.samples as f64;
        (all > (PATIENCE * self.budget).max(AT_LEAST)).then(|| format!("{} samples would take {all:.0} s or more: beyond the time of this run", self.samples))
    }

    fn no_room(&self, bytes: u64) -> Option<String> {
        (bytes > self.memory)
            .then(|| format!("it needs {:.1} GiB, and {:.1} may be used", bytes as f64 / (1u64 << 30) as f64, self.memory as f64 / (1u64 << 30) as f64))
    }

    /// So many sets of buffers that together they exceed three times the cache, as far as there is memory.
    fn sets(&self, case: &Case, dtype: DType, plain: bool) -> Result<Vec<Set>> {
        let each = footprint(case, dtype).max(1);
        let count = (3 * self.cache / each + 1).min((self.memory / each).max(1));
        // Plain loops have one type of real numbers.
        let kinds = |kind: Kind| if plain && kind == Kind::Bf16 { dtype } else { kind.dtype(dtype) };
        (0..count as usize).map(|turn| Set::new(self.device, case, kinds, turn)).collect()
    }

    /// Samples of a call, each the mean over as many calls as the timer needs; or why there was no time.
    fn sample<T>(&self, timer: &Timer, sets: &mut [T], run: impl Fn(&mut T) -> Result<()>) -> Result<std::result::Result<Taken, String>> {
        let mut turn = 0;
        let mut time = |calls: usize| {
            let launched = timer.time(|| {
                (0..calls).try_for_each(|_| {
                    turn += 1;
                    let set = turn % sets.len();
                    run(&mut sets[set])
                })
            });
            launched.map(|seconds| seconds / calls as f64)
        };
        // The first call compiles, loads and touches memory for the first time. The second says how long one takes.
        let first = time(1)?;
        if let Some(reason) = self.no_time(first / 10.0) {
            return Ok(Err(reason));
        }
        let mut one = time(1)?;
        if let Some(reason) = self.no_time(one) {
            return Ok(Err(reason));
        }
        let calls_for = |one: f64| (timer.sample_seconds() / one.max(1e-9)).ceil().clamp(1.0, 200.0) as usize;
        // Warming up takes a tenth of the row's time: clocks rise, and every buffer has been used once.
        let warm = Instant::now();
        let mut calls = calls_for(one);
        while warm.elapsed().as_secs_f64() < self.budget / 10.0 {
            one = time(calls)?;
            calls = calls_for(one);
        }
        let begun = Instant::now();
        let mut samples: Vec<f64> = Vec::new();
        loop {
            samples.push(time(calls)?);
            let settled = samples.len() >= FEW && Seconds::of(&samples).standard_error < STANDARD_ERROR;
            if settled || samples.len() >= self.samples && begun.elapsed().as_secs_f64() > self.budget {
                return Ok(Ok(Taken { samples, calls }));
            }
        }
    }

    /// cuBLASLt on the same buffers.
    #[cfg(feature = "cuda")]
    fn vendor_product(&self, vendor: &Vendor, case: &Case, dtype: DType, sets: &mut [Set], ours: f64) -> Result<Option<Peer>> {
        let Some((layout, sizes, accumulate)) = crate::ops::matmul::sizes_of(&case.label) else { return Ok(None) };
        let dtypes = [case.inputs[0].kind, case.inputs[1].kind, case.outputs[0].before.kind].map(|kind| kind.dtype(dtype));
        let product = vendor.product(layout, sizes, dtypes, accumulate)?;
        let taken = self.sample(self.timer, sets, |set| product.run(&set.inputs[0], &set.inputs[1], &mut set.outputs[0]))?;
        Ok(taken.ok().map(|taken| {
            let seconds = Seconds::of(&taken.samples);
            Peer { name: vendor.name(), entry: "heuristic's first".into(), seconds: seconds.median, ratio: seconds.median / ours, unsure: seconds.is_unsure() }
        }))
    }
}

struct Taken {
    samples: Vec<f64>,
    calls: usize,
}

#[cfg(test)]
mod tests;
