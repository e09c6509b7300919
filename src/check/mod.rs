//! Runs cases: every element of every output against the f64 oracle, on any device.
//!
//! The oracle is the case's plain loops (or the operation's own CPU code, where that is a plain loop) in f64 on the CPU.
//! Outputs are poisoned with NaN before the call, inputs have NaN after their last element and outputs a known pattern,
//! inside what the kernel sees as the buffer: reading or writing past the end shows. A NaN or infinity where the oracle has
//! none fails, whatever the allowance.

mod allowance;
mod failure;
mod oracle;
mod replaced;
mod report;
#[cfg(feature = "data")]
mod training;

pub use failure::{Failure, FailureDetail, OutputDetail, WrongElement, WrongOutput};
pub(crate) use oracle::judges;
pub use replaced::{Depth, FirstFailure, ReplacedReport, run_replaced};
pub use report::{CheckReport, CheckRow, Skipped, Totals};
#[cfg(feature = "data")]
pub use training::{drawn_batch, drawn_sequence, repeat_training};

use crate::device::Device;
use crate::error::Result;
use crate::ops;
use crate::ops::case::{Case, GradientCase, Operand};
use crate::tensor::{DType, Tensor};
use half::{bf16, f16};
use oracle::{Judge, on_host};
use std::time::Instant;

/// Elements after the end of every tensor under test: 256 bytes of f32.
const REDZONE: usize = 64;
/// Runs whose bits must agree, for one case of every entry.
pub const REPEATS: usize = 100;

/// The result of one case.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The largest error over its allowance: at most 1 for a pass.
    pub worst: f64,
}

/// Runs one case on a device, with activations and weights of dtype `activation` (f32, or bf16 where the device has it), and
/// compares it with the oracle.
pub fn run_case(case: &Case, device: &Device, activation: DType) -> std::result::Result<Outcome, Failure> {
    let judges = judges(case, activation)?;
    let found = on_device(case, device, activation)?;
    let mut worst = 0.0f64;
    let mut wrong = Vec::new();
    for ((output, judge), found) in case.outputs.iter().zip(&judges).zip(&found) {
        let Some(judge) = judge else { continue };
        match judge.compare(output.before.name, output.before.shape, found) {
            Ok(error) => worst = worst.max(error),
            Err(Failure::Wrong(outputs)) => wrong.extend(outputs),
            Err(said) => return Err(said),
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::Wrong(wrong));
    }
    // The CPU code in f64 is what the rest of the crate calls the oracle: compare it with the plain loops as well.
    if matches!(device, Device::Cpu) && case.naive.is_some() {
        let fast = on_host(case, &case.run, DType::F64, activation).map_err(|e| Failure::Said(format!("the CPU code in f64: {e}")))?;
        for ((output, judge), fast) in case.outputs.iter().zip(&judges).zip(&fast) {
            let Some(Judge { expected, .. }) = judge else { continue };
            let scale = expected.iter().fold(0.0f64, |m, e| m.max(e.abs()));
            for (i, (f, e)) in fast.iter().zip(expected).enumerate() {
                let error = (f - e).abs();
                if !(error <= 1e-11 * scale.max(1e-30)) {
                    return Err(format!("{}[{i}] in f64: expected {e}, found {f}", output.before.name).into());
                }
            }
        }
    }
    Ok(Outcome { worst })
}

/// Runs a case `times` times on the same device and compares all bits with the first run.
pub fn run_repeatedly(case: &Case, device: &Device, activation: DType, times: usize) -> std::result::Result<(), Failure> {
    let first = on_device(case, device, activation)?;
    for run in 1..times {
        let again = on_device(case, device, activation)?;
        for ((a, b), output) in first.iter().zip(&again).zip(&case.outputs) {
            if !output.scratch && a.iter().zip(b).any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(format!("{}: run {} gives other bits than the first", output.before.name, run + 1).into());
            }
        }
    }
    Ok(())
}

/// The outputs of the public call on a device, after looking at the redzones.
fn on_device(case: &Case, device: &Device, activation: DType) -> std::result::Result<Vec<Vec<f64>>, Failure> {
    let say = |e: crate::Error| Failure::Said(e.to_string());
    let inputs = case.inputs.iter().map(|i| guarded(i, device, activation)).collect::<Result<Vec<_>>>().map_err(say)?;
    let mut outputs = case.outputs.iter().map(|o| guarded(&o.before, device, activation)).collect::<Result<Vec<_>>>().map_err(say)?;
    for (tensor, output) in outputs.iter().zip(&case.outputs) {
        if output.overwritten {
            tensor.forget(); // the emulator then reports a kernel that reads it before writing it
        }
    }
    (case.run)(&inputs, &mut outputs).map_err(say)?;
    let mut results = Vec::new();
    for (tensor, output) in outputs.iter().zip(&case.outputs) {
        let name = output.before.name;
        let bytes: Vec<u8> = match tensor.dtype() {
            DType::F64 => bytemuck::cast_slice(&tensor.read_padded::<f64>().map_err(say)?).to_vec(),
            DType::F32 => bytemuck::cast_slice(&tensor.read_padded::<f32>().map_err(say)?).to_vec(),
            DType::Bf16 => bytemuck::cast_slice(&tensor.read_padded::<bf16>().map_err(say)?).to_vec(),
            DType::F16 => bytemuck::cast_slice(&tensor.read_padded::<f16>().map_err(say)?).to_vec(),
            DType::I32 => bytemuck::cast_slice(&tensor.read_padded::<i32>().map_err(say)?).to_vec(),
            DType::U8 => tensor.read_padded::<u8>().map_err(say)?,
        };
        let redzone = &bytes[tensor.len() * tensor.dtype().size()..];
        if let Some(at) = redzone.iter().position(|&b| b != PATTERN) {
            return Err(format!("{name}: written {} elements past its end", at / tensor.dtype().size() + 1).into());
        }
        results.push(tensor.read_f64().map_err(say)?);
    }
    Ok(results)
}

/// What comes after the end of every tensor: as f32, bf16 or f16 it is a NaN, as i32 it is −1, as u8 255.
const PATTERN: u8 = 0xff;

/// An operand on the device with a redzone after it.
fn guarded(operand: &Operand, device: &Device, activation: DType) -> Result<Tensor> {
    let dtype = operand.kind.dtype(activation);
    let mut tensor = Tensor::with_redzone(device, operand.shape, dtype, REDZONE)?;
    fn fill<T: crate::tensor::Element>(tensor: &mut Tensor, values: impl Iterator<Item = T>) -> Result<()> {
        let pattern: T = bytemuck::pod_read_unaligned(&[PATTERN; 8][..size_of::<T>()]);
        let data: Vec<T> = values.chain(std::iter::repeat_n(pattern, REDZONE)).collect();
        tensor.write_padded(&data)
    }
    let values = operand.values.iter();
    match dtype {
        DType::F64 => fill(&mut tensor, values.copied())?,
        DType::F32 => fill(&mut tensor, values.map(|&x| x as f32))?,
        DType::Bf16 => fill(&mut tensor, values.map(|&x| bf16::from_f64(x)))?,
        DType::F16 => fill(&mut tensor, values.map(|&x| f16::from_f64(x)))?,
        DType::I32 => fill(&mut tensor, values.map(|&x| x as i32))?,
        DType::U8 => fill(&mut tensor, values.map(|&x| x as u8))?,
    }
    Ok(tensor)
}

/// Compares a backward pass with central differences of its forward pass, element by element, in f64 on the CPU:
/// relative 1e-6, absolute 1e-9 of the largest gradient.
pub fn run_gradient(case: &GradientCase) -> std::result::Result<Outcome, Failure> {
    let say = |e: crate::Error| Failure::Said(e.to_string());
    let tensors = |inputs: &[Operand]| inputs.iter().map(|i| i.tensor(&Device::Cpu, DType::F64)).collect::<Result<Vec<_>>>().map_err(say);
    let inputs = tensors(&case.inputs)?;
    let outputs = (case.forward)(&inputs).map_err(say)?;
    let mut draw = crate::ops::case::Draw::new(&format!("{} cotangent", case.label));
    let cotangents = outputs
        .iter()
        .map(|o| {
            let values: Vec<f64> = (0..o.len()).map(|_| draw.normal()).collect();
            Tensor::from_f64(&Device::Cpu, o.shape(), DType::F64, &values)
        })
        .collect::<Result<Vec<_>>>()
        .map_err(say)?;
    let gradients = (case.backward)(&inputs, &cotangents).map_err(say)?;
    if gradients.len() != case.wrt.len() {
        return Err(format!("expected {} gradients, found {}", case.wrt.len(), gradients.len()).into());
    }
    let loss = |input: usize, element: usize, shift: f64| -> std::result::Result<f64, Failure> {
        let mut inputs = tensors(&case.inputs)?;
        inputs[input].cpu_mut::<f64>()[element] += shift;
        let outputs = (case.forward)(&inputs).map_err(say)?;
        Ok(outputs.iter().zip(&cotangents).flat_map(|(o, c)| o.cpu::<f64>().iter().zip(c.cpu::<f64>())).map(|(o, c)| o * c).sum())
    };
    let mut worst = 0.0f64;
    for (&input, gradient) in case.wrt.iter().zip(&gradients) {
        let name = case.inputs[input].name;
        let gradient = gradient.read_f64().map_err(say)?;
        if gradient.len() != case.inputs[input].shape.len() {
            return Err(format!("d{name}: expected {} elements, found {}", case.inputs[input].shape.len(), gradient.len()).into());
        }
        let scale = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        for (element, &analytic) in gradient.iter().enumerate() {
            // Five-point stencil: the error is h⁴ in the fifth derivative, 1e-12 here.
            let h = 1e-3;
            let numeric = (8.0 * (loss(input, element, h)? - loss(input, element, -h)?) - (loss(input, element, 2.0 * h)? - loss(input, element, -2.0 * h)?))
                / (12.0 * h);
            let error = (analytic - numeric).abs();
            let allowed = 1e-6 * numeric.abs() + 1e-9 * scale.max(1.0);
            let within = error <= allowed;
            if !within {
                return Err(format!("d{name}[{element}]: expected {numeric:e} by central differences, found {analytic:e}").into());
            }
            worst = worst.max(error / allowed);
        }
    }
    Ok(Outcome { worst })
}

/// How thorough a check is.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs every n-th case of an operation only; 1 for all.
    pub every: usize,
    /// Runs whose bits must agree, for one case of every entry.
    pub repeats: usize,
    /// Also the cases that take too long on anything but a real GPU.
    pub large: bool,
}

impl Effort {
    /// Everything that a device has time for.
    pub fn whole(device: &Device) -> Self {
        // The emulator's only order that varies is that of its blocks, and it is slow.
        let repeats = if device.is_emulator() { 3 } else { REPEATS };
        Effort { every: 1, repeats, large: false }
    }

    /// A first look.
    pub fn quick() -> Self {
        // A prime: cases are ordered by rung, and another number would pick the same rungs of every shape.
        Effort { every: 7, repeats: 3, large: false }
    }
}

/// Checks every operation (or the one named) on a device. `progress` is told each finished case.
///
/// # Errors
/// [`crate::Error::Usage`] for an unknown operation.
pub fn run(device: &Device, only: Option<&str>, progress: impl FnMut(&str)) -> Result<CheckReport> {
    run_with(device, only, Effort::whole(device), progress)
}

/// As [`run`], more or less thorough.
pub fn run_with(device: &Device, only: Option<&str>, effort: Effort, mut progress: impl FnMut(&str)) -> Result<CheckReport> {
    let ops = ops::named(only)?;
    let mut report = CheckReport::new(device);
    let mut repeated = std::collections::HashSet::new();
    for op in ops {
        for case in (op.cases)().into_iter().step_by(effort.every) {
            if let Some(reason) = case.skip.and_then(|skip| skip(device)) {
                report.cases.skipped.push(Skipped { case: format!("{} {} {}", op.name, case.entry, case.label), reason });
                continue;
            }
            if case.large && !effort.large {
                report.cases.large_left_out += 1;
                continue;
            }
            for activation in precisions(&case, device) {
                // One case stands for its entry: whether its bits repeat is a property of the code. It must have some work to do.
                let work = case.inputs.iter().map(|i| i.shape.len()).sum::<usize>();
                let stands = work >= 200 && repeated.insert((op.name, case.entry, activation));
                let start = Instant::now();
                let mut outcome = run_case(&case, device, activation);
                if outcome.is_ok() && stands {
                    outcome = outcome.and_then(|o| run_repeatedly(&case, device, activation, effort.repeats).map(|()| o));
                }
                report.count(op.name, case.entry, activation, &case.label, &outcome, start);
                progress(&format!("{} {} {activation} {}", op.name, case.entry, case.label));
            }
        }
        for case in (op.gradients)().into_iter().step_by(effort.every) {
            let start = Instant::now();
            report.count(op.name, "gradient", DType::F64, &case.label, &run_gradient(&case), start);
            progress(&format!("{} gradient {}", op.name, case.label));
        }
    }
    Ok(report)
}

/// The dtypes of activations and weights that a case runs with on a device.
pub(crate) fn precisions(case: &Case, device: &Device) -> impl Iterator<Item = DType> {
    (!case.only_mixed).then_some(DType::F32).into_iter().chain((device.has_bf16() && case.is_mixed()).then_some(DType::Bf16))
}

/// The devices that a test runs on: the CPU, and wgpu where there is an adapter. Without one the tests print a warning; with
/// `TRIMODAL_REQUIRE_WGPU` set (as `scripts/test` does) they fail.
///
/// # Panics
/// Without an adapter where one is required.
pub fn test_devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    match Device::open("wgpu", None) {
        Ok(device) => devices.push(device),
        Err(e) if std::env::var_os("TRIMODAL_REQUIRE_WGPU").is_some() => panic!("the WGSL tests must run here: {e}"),
        Err(e) => eprintln!("WARNING: the WGSL half of this test was SKIPPED: {e}"),
    }
    devices
}

/// Runs every case of one operation on the test devices, and its gradient checks; for unit tests.
///
/// # Panics
/// With every failure, if there is one.
pub fn assert_op(op: &str) {
    for device in test_devices() {
        let report = run(&device, Some(op), |_| ()).expect("the operation is registered");
        let failures: Vec<_> = report.ops.iter().flat_map(|r| r.failures.iter().map(move |f| format!("{} {}: {f}", r.op, r.entry))).collect();
        assert!(failures.is_empty(), "{device}: {} of {} cases failed:\n{}", failures.len(), report.cases.executed, failures.join("\n"));
        assert!(report.cases.executed > 0, "no case of {op} was executed");
    }
}

/// Runs the cases of `draws` shapes beyond the lists on the test devices; for unit tests. The shapes are the same on every
/// run: twice the error of plain loops is a matter of luck where an output is a single number, and a test must not be.
///
/// # Panics
/// With the smallest shape that fails.
#[cfg(test)]
pub(crate) fn assert_drawn<S: proptest::strategy::Strategy>(draws: u32, shapes: S, cases: impl Fn(S::Value) -> Vec<Case>) {
    use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
    let devices = test_devices();
    let config = Config { cases: draws, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..Default::default() };
    let outcome = TestRunner::new(config).run(&shapes, |shape| {
        for case in cases(shape) {
            for device in &devices {
                for activation in precisions(&case, device) {
                    run_case(&case, device, activation)
                        .map_err(|e| TestCaseError::fail(format!("{device}: {} {activation} {}: {e}", case.entry, case.label)))?;
                }
            }
        }
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One wrong element, a write past the end, an element left out: each is caught.
    #[test]
    fn seeded_faults_are_caught() {
        use crate::ops::case::{Case, Compare, Kind, Output};
        let case = |fault: fn(&mut Vec<f32>)| {
            Case::new(
                "forward",
                "seeded",
                vec![Operand::new("x", [4], Kind::Real, vec![1.0, 2.0, 3.0, 4.0])],
                vec![Output::overwritten("y", [4], Kind::Real)],
                Compare::Ulp(1.0),
                move |i, o| {
                    if i[0].dtype() == DType::F32 {
                        let mut y = o[0].read_padded::<f32>()?;
                        y[..4].copy_from_slice(i[0].cpu::<f32>());
                        fault(&mut y);
                        o[0].write_padded(&y)
                    } else {
                        o[0].copy_from(&i[0])
                    }
                },
            )
        };
        assert!(run_case(&case(|_| ()), &Device::Cpu, DType::F32).is_ok());
        for fault in [(|y| y[3] += 1e-6) as fn(&mut Vec<f32>), |y| y[4] = 0.0, |y| y[2] = f32::NAN, |y| y.swap(0, 1)] {
            assert!(run_case(&case(fault), &Device::Cpu, DType::F32).is_err());
        }
    }

    #[test]
    fn rms_norm() {
        assert_op("rms_norm");
    }
}
