//! What the platform says about a device.

use super::card::About;
use crate::device::Device;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::device::Gpu;
use crate::device::name::cpu_info;
use std::fs;

/// The last cache of a device that does not report its size: larger than most.
pub(super) const UNTOLD_CACHE: u64 = 64 << 20;

/// A device's name, driver, clocks, power and caches, as far as they are known.
pub(super) fn about(device: &Device) -> About {
    match device {
        Device::Cpu => About {
            kind: "cpu".into(),
            name: cpu_info("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            driver: None,
            clocks: cpu_clock(),
            power: None,
            cores: Some(rayon::current_num_threads()),
            cache_bytes: cpu_cache(),
        },
        #[cfg(feature = "wgpu")]
        Device::Gpu(Gpu::Wgpu(context)) => {
            let adapter = context.adapter();
            let hardware = adapter.is_hardware();
            About {
                kind: "wgpu".into(),
                name: adapter.name.clone(),
                driver: Some(format!("{}, {}", adapter.backend, adapter.driver)),
                // A software driver runs on the processor.
                clocks: if hardware { None } else { cpu_clock() },
                power: None,
                cores: if hardware { None } else { std::thread::available_parallelism().ok().map(Into::into) },
                cache_bytes: if hardware { None } else { cpu_cache() },
            }
        }
        #[cfg(feature = "cuda")]
        Device::Gpu(Gpu::Cuda(context)) => {
            use cudarc::driver::sys::CUdevice_attribute as A;
            let mhz = |which| context.attribute(which).filter(|&khz| khz > 0).map(|khz| khz / 1000);
            let told = [("cores", mhz(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)), ("memory", mhz(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE))];
            let most: Vec<String> = told.into_iter().filter_map(|(what, mhz)| Some(format!("{what} {} MHz", mhz?))).collect();
            let now = nvidia_smi("clocks.sm,clocks.mem").map(|v| format!("now {v}"));
            let clocks: Vec<String> = (!most.is_empty()).then(|| format!("at most {}", most.join(", "))).into_iter().chain(now).collect();
            let (major, minor) = context.driver();
            let cuda = format!("CUDA {major}.{minor}");
            About {
                kind: "cuda".into(),
                name: context.name().into(),
                driver: Some(match nvidia_smi("driver_version") {
                    Some(version) => format!("{version}, {cuda}"),
                    None => cuda,
                }),
                clocks: (!clocks.is_empty()).then(|| clocks.join("; ")),
                power: nvidia_smi("power.draw,power.limit").map(|v| format!("{v} (drawn, limit)")),
                cores: context.attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map(|n| n as usize),
                cache_bytes: context.attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).filter(|&n| n > 0).map(|n| n as u64),
            }
        }
        Device::Gpu(_) => About { kind: "gpu".into(), name: device.to_string(), driver: None, clocks: None, power: None, cores: None, cache_bytes: None },
    }
}

/// The clock of the first core: the governor's range, or what the kernel says it is now.
fn cpu_clock() -> Option<String> {
    let read = |name: &str| -> Option<u64> { fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cpufreq/{name}")).ok()?.trim().parse().ok() };
    match (read("cpuinfo_min_freq"), read("cpuinfo_max_freq")) {
        (Some(min), Some(max)) => Some(format!("{} to {} MHz", min / 1000, max / 1000)),
        _ => cpu_info("cpu MHz").map(|mhz| format!("{} MHz, as the system says", mhz.split('.').next().unwrap_or(&mhz))),
    }
}

/// Bytes of the last cache.
fn cpu_cache() -> Option<u64> {
    let mut largest = None;
    for index in 0..8 {
        let Ok(text) = fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")) else { break };
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit = match unit {
            "K" => 1 << 10,
            "M" => 1 << 20,
            _ => 1,
        };
        largest = largest.max(number.parse::<u64>().ok().map(|n| n * unit));
    }
    largest
}

/// Why the clocks of a GPU are lower than they could be at this moment, as its driver says; `None` where it does not say.
pub(super) fn limited_clocks(device: &Device) -> Option<Option<String>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Gpu(Gpu::Cuda(_)) => {
            // The second name is that of drivers before 535.
            let mask = nvidia_smi("clocks_event_reasons.active").or_else(|| nvidia_smi("clocks_throttle_reasons.active"))?;
            Some(slowed(u64::from_str_radix(mask.trim_start_matches("0x"), 16).ok()?))
        }
        _ => None,
    }
}

/// What the bits of NVML's `nvmlClocksEventReasons` say, but for those of an idle GPU and of settings that leave clocks as they are.
#[cfg(feature = "cuda")]
fn slowed(mask: u64) -> Option<String> {
    let reasons = [
        (0x2, "clocks that an administrator set"),
        (0x4, "its limit of power"),
        (0x8, "the hardware's slowdown (heat or power)"),
        (0x20, "its temperature"),
        (0x40, "its temperature (hardware)"),
        (0x80, "the power supply"),
    ];
    let active: Vec<&str> = reasons.into_iter().filter(|(bit, _)| mask & bit != 0).map(|(_, reason)| reason).collect();
    (!active.is_empty()).then(|| format!("the GPU's clocks were limited by {}", active.join(", ")))
}

/// What NVIDIA's tool says of the first visible GPU, where the tool is installed.
#[cfg(feature = "cuda")]
fn nvidia_smi(fields: &str) -> Option<String> {
    // Device 0 of the process is the first of CUDA_VISIBLE_DEVICES; the tool takes its number or its UUID.
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let first = visible.split(',').next().filter(|v| !v.is_empty()).unwrap_or("0");
    let output = std::process::Command::new("nvidia-smi").args([&format!("--query-gpu={fields}"), "--format=csv,noheader", "-i", first]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty() && !line.contains("[N/A]")).then(|| line.to_string())
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;

    #[test]
    fn an_idle_gpu_is_not_slowed() {
        assert_eq!((slowed(0), slowed(1)), (None, None));
        assert_eq!(slowed(0x24).unwrap(), "the GPU's clocks were limited by its limit of power, its temperature");
    }
}
