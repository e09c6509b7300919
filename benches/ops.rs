//! Every operation's benchmark cases (those marked `.bench` in `src/ops/*.rs`), on the CPU and through wgpu.
//!
//!     cargo bench --bench ops                      everything
//!     cargo bench --bench ops -- matmul            only what has `matmul` in its name
//!     cargo bench --bench ops -- cpu               only the CPU device
//!
//! One iteration is one call of the public operation and, on wgpu, the wait for its result: on small cases the wait is part
//! of what is measured. `item/s` are floating-point operations per second, counted from the operation's contract.

use divan::Bencher;
use divan::counter::ItemsCount;
use std::fmt;
use std::sync::OnceLock;
use trimodal::ops::OPS;
use trimodal::ops::case::Case;
use trimodal::{DType, Device, Tensor};

fn main() {
    match wgpu() {
        Some(device) => eprintln!("wgpu: {device}"),
        None => eprintln!("WARNING: no wgpu adapter: only the CPU device is measured"),
    }
    eprintln!("cpu: {} threads", std::thread::available_parallelism().map_or(1, |n| n.get()));
    divan::main();
}

/// A benchmark case with its name, which is what divan shows and filters by.
#[derive(Clone, Copy)]
struct Named {
    op: &'static str,
    case: &'static Case,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} {}", self.op, self.case.entry, self.case.label)
    }
}

/// The cases to be timed, made once.
fn all() -> &'static [(&'static str, Case)] {
    static ALL: OnceLock<Vec<(&'static str, Case)>> = OnceLock::new();
    ALL.get_or_init(|| OPS.iter().flat_map(|op| (op.cases)().into_iter().filter(|c| c.bench).map(|case| (op.name, case))).collect())
}

fn wgpu() -> Option<&'static Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    DEVICE.get_or_init(|| Device::open("wgpu", None).ok()).as_ref()
}

fn cases(device: Option<&Device>) -> Vec<Named> {
    let Some(device) = device else { return Vec::new() };
    all().iter().filter(|(_, case)| case.skip.is_none_or(|skip| skip(device).is_none())).map(|(op, case)| Named { op, case }).collect()
}

fn measure(bencher: Bencher, device: &Device, named: Named) {
    let case = named.case;
    let tensor = |operand: &trimodal::ops::case::Operand| operand.tensor(device, DType::F32).expect("a case fits the device");
    let inputs: Vec<Tensor> = case.inputs.iter().map(tensor).collect();
    let mut outputs: Vec<Tensor> = case.outputs.iter().map(|o| tensor(&o.before)).collect();
    let mut run = || {
        (case.run)(&inputs, &mut outputs).expect("a case runs");
        device.synchronize().expect("the device works");
    };
    run(); // compiles pipelines
    bencher.counter(ItemsCount::new(case.flops)).bench_local(run);
}

#[divan::bench(args = cases(Some(&Device::Cpu)), max_time = 1)]
fn on_cpu(bencher: Bencher, case: Named) {
    measure(bencher, &Device::Cpu, case);
}

#[divan::bench(args = cases(wgpu()), max_time = 1)]
fn on_wgpu(bencher: Bencher, case: Named) {
    measure(bencher, wgpu().expect("there are cases only with a device"), case);
}
