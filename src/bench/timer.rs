//! The clock that times each device.

use crate::device::Device;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::device::Gpu;
use crate::error::Result;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use std::sync::Arc;
use std::time::Instant;

/// A way to time what a closure launches.
pub(super) enum Timer {
    /// The host's monotonic clock, around calls that return when they are done (on the CPU), or around calls and the wait for them.
    Clock(Device),
    /// The adapter's timestamps at both ends of its compute passes.
    #[cfg(feature = "wgpu")]
    Stamps(Arc<crate::device::wgpu::Context>),
    /// The GPU's events before and after.
    #[cfg(feature = "cuda")]
    Events(Arc<crate::device::cuda::Context>),
}

impl Timer {
    /// The best timer that the device has.
    pub(super) fn of(device: &Device) -> Timer {
        match device {
            #[cfg(feature = "wgpu")]
            Device::Gpu(Gpu::Wgpu(context)) if context.has_timestamps() => Timer::Stamps(context.clone()),
            #[cfg(feature = "cuda")]
            Device::Gpu(Gpu::Cuda(context)) => Timer::Events(context.clone()),
            Device::Cpu | Device::Gpu(_) => Timer::Clock(device.clone()),
        }
    }

    /// What it is, for the card.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Timer::Clock(Device::Cpu) => "the host's monotonic clock",
            Timer::Clock(Device::Gpu(_)) => "the host's monotonic clock around a batch of calls and the wait for it: the device has no timestamp queries",
            #[cfg(feature = "wgpu")]
            Timer::Stamps(_) => "the adapter's timestamp queries around the compute passes of a batch of calls",
            #[cfg(feature = "cuda")]
            Timer::Events(_) => "CUDA events around a batch of calls",
        }
    }

    /// How long a sample should be, in seconds: long compared with what the timer and the launches add.
    pub(super) fn sample_seconds(&self) -> f64 {
        match self {
            Timer::Clock(Device::Cpu) => 50e-6,
            Timer::Clock(Device::Gpu(_)) => 5e-3,
            #[cfg(feature = "wgpu")]
            Timer::Stamps(_) => 1e-3,
            #[cfg(feature = "cuda")]
            Timer::Events(_) => 0.5e-3,
        }
    }

    /// Seconds that what `launch` launches takes.
    pub(super) fn time(&self, launch: impl FnOnce() -> Result<()>) -> Result<f64> {
        match self {
            Timer::Clock(device) => {
                device.synchronize()?;
                let start = Instant::now();
                launch()?;
                device.synchronize()?;
                Ok(start.elapsed().as_secs_f64())
            }
            #[cfg(feature = "wgpu")]
            Timer::Stamps(context) => context.timed(launch),
            #[cfg(feature = "cuda")]
            Timer::Events(context) => context.timed(launch),
        }
    }
}
