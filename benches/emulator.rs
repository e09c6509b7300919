//! `cargo bench --bench emulator`: thread-instructions per second of the PTX emulator, with all its checks on.

use std::sync::Arc;
use std::time::Instant;
use trimodal::DType;
use trimodal::check::run_case;
use trimodal::device::emulator::Machine;
use trimodal::device::{Device, Gpu};
use trimodal::emulator::Options;
use trimodal::ops::{OPS, Sizes};

/// Runs of each case: the fastest counts.
const RUNS: usize = 5;

fn main() {
    println!("{:<12} {:<16} {:<5} {:>16} {:>10} {:>14}", "operation", "entry", "dtype", "instructions", "seconds", "millions / s");
    for (op, entry, dtype) in [("matmul", "forward:large", DType::F32), ("matmul", "forward:naive", DType::F32), ("swiglu", "forward", DType::F32)] {
        let op = OPS.iter().find(|o| o.name == op).expect("an operation");
        let cases = (op.sized)(&Sizes::DEMO);
        let case = cases.iter().find(|c| c.entry == entry).expect("a case to time");
        let machine = Arc::new(Machine::new());
        let device = Device::Gpu(Gpu::Emulator(machine.clone()));
        machine.record(Options { stats: true, ..Options::default() });
        run_case(case, &device, dtype).expect("a right result");
        let instructions: u64 = machine.recorded().iter().map(|run| run.report.stats.thread_instructions()).sum();

        let inputs: Vec<_> = case.inputs.iter().map(|i| i.tensor(&device, dtype).expect("it fits")).collect();
        let mut outputs: Vec<_> = case.outputs.iter().map(|o| o.before.tensor(&device, dtype).expect("it fits")).collect();
        let mut once = || {
            let start = Instant::now();
            (case.run)(&inputs, &mut outputs).expect("no finding");
            start.elapsed().as_secs_f64()
        };
        let seconds = (0..RUNS).map(|_| once()).fold(f64::INFINITY, f64::min);
        println!("{:<12} {entry:<16} {:<5} {instructions:>16} {seconds:>10.4} {:>14.0}", op.name, dtype.to_string(), instructions as f64 / seconds / 1e6);
    }
}
