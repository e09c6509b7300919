//! What a device refuses, and shaders compiled with the driver's bounds checks.

use trimodal::check::{Effort, run_with, test_devices};
use trimodal::device::Gpu;
use trimodal::device::wgpu::{Context, ContextOptions};
use trimodal::ops::Sizes;
use trimodal::{DType, Device, Error, Tensor};

fn message(error: Error) -> String {
    error.to_string()
}

#[test]
fn unknown_devices_and_adapters_are_named() {
    assert!(message(Device::open("tpu", None).unwrap_err()).contains("unknown device \"tpu\": expected one of auto, cpu, wgpu"));
    // Where there is an NVIDIA GPU it opens; elsewhere the error says what is missing and what works instead.
    if let Err(error) = Device::open("cuda", None) {
        let said = message(error);
        assert!(said.contains("device cuda: ") && (said.contains("--device wgpu") || said.contains("GPU")), "{said}");
    }
    assert!(message(Device::open("cpu", Some("x")).unwrap_err()).contains("--adapter"));
    if test_devices().len() > 1 {
        assert!(message(Device::open("wgpu", Some("no such card")).unwrap_err()).contains("found \"no such card\"; the adapters are:"));
    }
}

#[test]
fn sizes_beyond_the_limits_are_errors() {
    for device in test_devices() {
        for shape in [[usize::MAX, 2], [1 << 20, 1 << 20], [1 << 31, 1]] {
            assert!(matches!(Tensor::zeros(&device, shape, DType::F32), Err(Error::TooLarge { .. })), "{device}: {shape:?}");
        }
        let mut tensor = Tensor::zeros(&device, [3, 4], DType::F32).unwrap();
        assert!(matches!(tensor.set_rows(4), Err(Error::TooLarge { .. })));
        assert!(matches!(tensor.write(&[0f32; 11]), Err(Error::Mismatch { .. })));
        assert!(matches!(tensor.write(&[0i32; 12]), Err(Error::Mismatch { .. })));
        assert!(matches!(tensor.read::<u8>(), Err(Error::Mismatch { .. })));
        assert!(tensor.set_rows(0).is_ok() && tensor.read::<f32>().unwrap().is_empty());
    }
    if let Some(device) = test_devices().get(1) {
        assert!(message(Tensor::zeros(device, [4], DType::F64).unwrap_err()).contains("f64 is available on the CPU device only"));
    }
}

/// Every dtype survives the way to the device and back, at lengths that are not a multiple of a word.
#[test]
fn copies_are_exact() {
    for device in test_devices() {
        for n in [0, 1, 3, 5, 64, 1023] {
            let bytes: Vec<u8> = (0..n).map(|i| (i * 37 % 251) as u8).collect();
            let mut from = Tensor::from_slice(&device, [n], &bytes).unwrap();
            assert_eq!(from.read::<u8>().unwrap(), bytes);
            let halves: Vec<half::bf16> = (0..n).map(|i| half::bf16::from_f32(i as f32 - 7.5)).collect();
            assert_eq!(Tensor::from_slice(&device, [n], &halves).unwrap().read::<half::bf16>().unwrap(), halves);
            let mut to = Tensor::zeros(&device, [n], DType::U8).unwrap();
            to.copy_from(&from).unwrap();
            assert_eq!(to.read::<u8>().unwrap(), bytes);
            from.fill_zero().unwrap();
            assert_eq!(from.read::<u8>().unwrap(), vec![0; n]);
        }
    }
}

/// The default leaves naga's clamps out; with them every kernel must give the same verdict.
#[test]
fn kernels_pass_with_bounds_checks_too() {
    if test_devices().len() < 2 {
        return; // test_devices has said so, loudly
    }
    let checked =
        Device::Gpu(Gpu::Wgpu(std::sync::Arc::new(Context::open(None, ContextOptions { bounds_checks: true, ..ContextOptions::default() }).unwrap())));
    let report = run_with(&checked, None, Effort { every: 12, repeats: 2, large: false }, |_| ()).unwrap();
    let failures: Vec<_> = report.ops.iter().flat_map(|row| &row.failures).collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(report.cases.executed > 200, "{}", report.cases.executed);
}

/// A buffer of another device is an error that names both, not a crash.
#[test]
fn devices_do_not_mix() {
    let devices = test_devices();
    let Some(gpu) = devices.get(1) else { return };
    let [on_cpu, mut on_gpu] = [&Device::Cpu, gpu].map(|d| Tensor::zeros(d, [4], DType::F32).unwrap());
    assert!(message(on_gpu.copy_from(&on_cpu).unwrap_err()).contains("on the same device"));
    let mut rstd = Tensor::zeros(gpu, [1], DType::F32).unwrap();
    let error = trimodal::ops::rms_norm::forward(&on_cpu, None, &on_cpu, 1e-6, &mut on_gpu, &mut rstd).unwrap_err();
    assert!(message(error).contains("expected a tensor on cpu, found one on wgpu"));
}

/// What naga's clamps cost, for benches/NOTES.md: `cargo test --release --test device -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn bounds_checks_cost() {
    use std::time::{Duration, Instant};
    let open = |bounds_checks| {
        Device::Gpu(Gpu::Wgpu(std::sync::Arc::new(Context::open(None, ContextOptions { bounds_checks, ..ContextOptions::default() }).unwrap())))
    };
    let devices = [open(false), open(true)];
    for (name, entry) in [("matmul", "forward"), ("attention", "backward"), ("rms_norm", "forward")] {
        let op = trimodal::ops::OPS.iter().find(|op| op.name == name).unwrap();
        let case = (op.sized)(&Sizes::DEMO).into_iter().find(|c| c.entry == entry).unwrap();
        let best = devices.each_ref().map(|device| {
            let inputs: Vec<_> = case.inputs.iter().map(|i| i.tensor(device, DType::F32).unwrap()).collect();
            let mut outputs: Vec<_> = case.outputs.iter().map(|o| o.before.tensor(device, DType::F32).unwrap()).collect();
            let mut once = || {
                let start = Instant::now();
                (case.run)(&inputs, &mut outputs).unwrap();
                device.synchronize().unwrap();
                start.elapsed()
            };
            once(); // compiles
            (0..30).map(|_| once()).min().unwrap_or(Duration::ZERO)
        });
        println!("{name} {entry} {}: {:?} without, {:?} with: {:.2} ×", case.label, best[0], best[1], best[1].as_secs_f64() / best[0].as_secs_f64());
    }
}
