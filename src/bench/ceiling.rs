//! What a device does at best, measured by kernels that do nothing else: `kernels/ceiling.cu`, `shaders/ceiling.wgsl`, and loops
//! for the CPU. Of several runs the best one counts: a ceiling is what can be reached, not what is reached on average.

use super::card::Ceilings;
use super::operands::normals;
use super::timer::Timer;
use crate::device::{Device, Gpu, Language, Launch};
use crate::error::Result;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use rayon::prelude::*;
use std::hint::black_box;

/// Runs of a ceiling kernel.
const RUNS: usize = 12;
/// Elements that a group of `copy` copies.
const COPIED: usize = 8192;
/// A run of a compute ceiling is at least this long, in seconds: clocks rise in that time.
const LONG: f64 = 10e-3;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Dims {
    n: u32,
    rounds: u32,
    scale: f32,
    shift: f32,
}

/// Measures the ceilings of a device; `cache` is the size of its last cache.
///
/// # Errors
/// Whatever the device reports.
pub(super) fn measure(device: &Device, timer: &Timer, cache: u64) -> Result<Ceilings> {
    // Source and destination together are four times the cache.
    let elements = ((2 * cache / 4) as usize).next_multiple_of(1024);
    match device {
        Device::Cpu => {
            let (copy, update) = cpu_memory(elements);
            Ok(Ceilings {
                copy_bytes_per_second: Some(copy),
                update_bytes_per_second: Some(update),
                f32_flops_per_second: Some(cpu_multiply_add()),
                ..Default::default()
            })
        }
        Device::Gpu(gpu) => {
            let tensor_cores = gpu.language() == Language::Ptx;
            Ok(Ceilings {
                copy_bytes_per_second: Some(copy(device, gpu, timer, elements)?),
                f32_flops_per_second: Some(rounds(device, gpu, timer, "multiply_add", 256.0)?),
                bf16_flops_per_second: tensor_cores.then(|| rounds(device, gpu, timer, "mma", 1024.0)).transpose()?,
                shared_bytes_per_second: Some(rounds(device, gpu, timer, "shared_memory", 128.0)?),
                ..Default::default()
            })
        }
    }
}

/// Floating-point operations per second that nothing but arithmetic reaches, of the kind that products in this dtype take.
///
/// # Errors
/// Whatever the device reports.
pub(super) fn arithmetic(device: &Device, dtype: DType) -> Result<f64> {
    let timer = Timer::of(device);
    match device {
        Device::Cpu => Ok(cpu_multiply_add()),
        Device::Gpu(gpu) if dtype == DType::Bf16 => rounds(device, gpu, &timer, "mma", 1024.0),
        Device::Gpu(gpu) => rounds(device, gpu, &timer, "multiply_add", 256.0),
    }
}

fn launch(gpu: &Gpu, entry: &'static str, buffers: &[&Tensor], dims: Dims, groups: usize) -> Result<()> {
    let buffers: Vec<_> = buffers.iter().map(|b| Some(b.view())).collect();
    gpu.launch(Launch { kernel: ("ceiling", entry), constants: &[], variant: "", buffers: &buffers, dims: bytes_of(&dims), groups })
}

/// Bytes read and written per second.
fn copy(device: &Device, gpu: &Gpu, timer: &Timer, elements: usize) -> Result<f64> {
    let mut x = Tensor::zeros(device, [elements], DType::F32)?;
    x.write(&normals(elements, 1.0, 0))?;
    let y = Tensor::zeros(device, [elements], DType::F32)?;
    let dims = Dims { n: elements as u32, rounds: 0, scale: 0.0, shift: 0.0 };
    let run = || launch(gpu, "copy", &[&x, &y], dims, elements.div_ceil(COPIED));
    timer.time(run)?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        best = best.min(timer.time(run)?);
    }
    Ok(8.0 * elements as f64 / best)
}

/// What an entry does per second that does `work` per thread and round.
fn rounds(device: &Device, gpu: &Gpu, timer: &Timer, entry: &'static str, work: f64) -> Result<f64> {
    const MAX_GROUPS: usize = 4096;
    let y = Tensor::zeros(device, [MAX_GROUPS * 256], DType::F32)?;
    let (mut groups, mut rounds) = (16, 16);
    let run = |groups: usize, rounds: u32| timer.time(|| launch(gpu, entry, &[&y], Dims { n: 256 * groups as u32, rounds, scale: 0.5, shift: 1.0 }, groups));
    run(groups, rounds)?; // compiles
    // First as many threads as a large GPU holds, then longer.
    // The best of a few: a pause that the system makes is not work.
    let best_of = |runs: usize, groups: usize, rounds: u32| (0..runs).try_fold(f64::INFINITY, |best, _| run(groups, rounds).map(|time| time.min(best)));
    while best_of(3, groups, rounds)? < LONG && rounds < 1 << 24 {
        if groups < MAX_GROUPS { groups *= 4 } else { rounds *= 2 }
    }
    let best = best_of(RUNS, groups, rounds)?;
    Ok(256.0 * groups as f64 * rounds as f64 * work / best)
}

/// Bytes read and written per second by all threads: by a copy, and by an update in place.
fn cpu_memory(elements: usize) -> (f64, f64) {
    let x = normals(elements, 1.0, 0);
    let mut y = vec![0f32; elements];
    let chunk = elements.div_ceil(4 * rayon::current_num_threads()).max(1);
    let timer = Timer::of(&Device::Cpu);
    let (mut copy, mut update) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..RUNS {
        let mut time = |run: fn(&mut [f32], &[f32])| {
            timer.time(|| {
                y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| run(y, x));
                Ok(())
            })
        };
        copy = copy.min(time(|y, x| y.copy_from_slice(x)).expect("a copy does not fail"));
        update = update.min(time(|y, _| y.iter_mut().for_each(|y| *y *= 1.0001)).expect("arithmetic does not fail"));
    }
    black_box(&y);
    (8.0 * elements as f64 / copy, 8.0 * elements as f64 / update)
}

/// Operations per second by all threads.
fn cpu_multiply_add() -> f64 {
    let threads = rayon::current_num_threads();
    let timer = Timer::of(&Device::Cpu);
    let run = |rounds: usize| {
        timer
            .time(|| {
                (0..threads).into_par_iter().with_max_len(1).for_each(|thread| {
                    black_box(multiply_add(rounds, black_box(thread as f32)));
                });
                Ok(())
            })
            .expect("arithmetic does not fail")
    };
    let mut rounds = 1024;
    while (0..3).map(|_| run(rounds)).fold(f64::INFINITY, f64::min) < LONG {
        rounds *= 2;
    }
    let best = (0..RUNS).map(|_| run(rounds)).fold(f64::INFINITY, f64::min);
    threads as f64 * rounds as f64 * 2.0 * lanes() as f64 / best
}

/// Multiply-adds of one round: independent sums, so many that none waits for its own last result.
fn lanes() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return 12 * 16;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return 12 * 8;
        }
    }
    12 * 4
}

/// So many rounds of multiply-adds in the widest registers of the processor.
fn multiply_add(rounds: usize, start: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;

        #[target_feature(enable = "avx512f")]
        fn avx512(rounds: usize, start: f32) -> f32 {
            let (scale, shift) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
            let mut sums = [_mm512_set1_ps(start); 12];
            for _ in 0..rounds {
                // No `map`: it is a function without these instructions, and sums would go to it through memory.
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, scale, shift);
                }
            }
            sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
        }

        #[target_feature(enable = "avx2,fma")]
        fn avx2(rounds: usize, start: f32) -> f32 {
            let (scale, shift) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
            let mut sums = [_mm256_set1_ps(start); 12];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, scale, shift);
                }
            }
            let total = sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).expect("twelve");
            let mut lanes = [0.0; 8];
            // SAFETY: `lanes` has room for the eight.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), total) };
            lanes.iter().sum()
        }

        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has just said that it knows the instructions.
            return unsafe { avx512(rounds, start) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(rounds, start) };
        }
    }
    let (scale, shift) = (black_box(0.5f32), black_box(1.0f32));
    let mut sums = [[start; 4]; 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            for lane in sum {
                // Where there is a fused instruction in the baseline (as on AArch64), `mul_add` is it.
                *lane = if cfg!(target_arch = "aarch64") { lane.mul_add(scale, shift) } else { *lane * scale + shift };
            }
        }
    }
    sums.as_flattened().iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::test_devices;

    fn gpus() -> Vec<(Device, Gpu)> {
        let emulator = Device::open("emulator", None).expect("always there");
        let all = test_devices().into_iter().chain([emulator]);
        all.filter_map(|device| match &device {
            Device::Cpu => None,
            Device::Gpu(gpu) => Some((device.clone(), gpu.clone())),
        })
        .collect()
    }

    /// A ceiling kernel that computed less than it says would only make the ceiling too high.
    #[test]
    fn the_kernels_do_the_work_that_they_say() {
        for (device, gpu) in gpus() {
            let x = Tensor::from_slice(&device, [10_000], &normals(10_000, 1.0, 3)).unwrap();
            let y = Tensor::zeros(&device, [10_000], DType::F32).unwrap();
            launch(&gpu, "copy", &[&x, &y], Dims { n: 10_000, rounds: 0, scale: 0.0, shift: 0.0 }, 2).unwrap();
            assert_eq!(x.read::<f32>().unwrap(), y.read::<f32>().unwrap(), "{device}");

            let z = Tensor::zeros(&device, [256], DType::F32).unwrap();
            let dims = Dims { n: 256, rounds: 3, scale: 1.0, shift: 2.0 };
            let read = |entry| {
                launch(&gpu, entry, &[&z], dims, 1).unwrap();
                z.read::<f32>().unwrap()
            };
            // 16 sums that begin with thread + 0..16 and grow by 2, 8 times in each of 3 rounds.
            let expected: Vec<f32> = (0..256).map(|t| (0..16).map(|s| t as f32 + s as f32 + 48.0).sum()).collect();
            assert_eq!(read("multiply_add"), expected, "{device}");
            let expected: Vec<f32> = (0..256)
                .map(|t| {
                    let places = (0..3).flat_map(|round| (0..8).map(move |access| (t + 32 * round + 96 * access) % 1024));
                    places.map(|place| place as f32 + 1.0 + 2.0 + 1.0).sum()
                })
                .collect();
            assert_eq!(read("shared_memory"), expected, "{device}");
            if gpu.language() == Language::Ptx {
                // 8 tiles of 4 sums per thread that begin at 2 and grow by 16 · 1 · 1 in each round.
                assert_eq!(read("mma"), [32.0 * (2.0 + 3.0 * 16.0); 256], "{device}");
            }
        }
    }

    #[test]
    fn a_processor_has_ceilings() {
        let ceilings = measure(&Device::Cpu, &Timer::of(&Device::Cpu), 1 << 20).unwrap();
        for bytes in [ceilings.copy_bytes_per_second, ceilings.update_bytes_per_second] {
            assert!(bytes.is_some_and(|b| b > 1e8 && b.is_finite()));
        }
        assert!(ceilings.f32_flops_per_second.is_some_and(|f| f > 1e8 && f.is_finite()));
        assert!(multiply_add(3, 0.0).is_finite());
    }
}
