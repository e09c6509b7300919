//! What times a span: the same clocks as the benchmark's, but one reading per launch on one time line.

use crate::device::Device;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::device::Gpu;
use crate::error::Result;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use std::sync::Arc;
use std::time::Instant;

/// A clock that is running.
pub(super) enum Clock {
    /// The host's, with a wait after every launch.
    Host(Device),
    /// The adapter's timestamps at both ends of a pass of its own for every launch.
    #[cfg(feature = "wgpu")]
    Stamps(Arc<crate::device::wgpu::Context>),
    /// The GPU's events before and after every launch.
    #[cfg(feature = "cuda")]
    Events(Arc<crate::device::cuda::Context>, crate::device::cuda::Mark),
}

/// One reading.
pub(super) enum Reading {
    /// When it began, and how long it took.
    Host(Instant, f64),
    /// The next pass of the adapter.
    #[cfg(feature = "wgpu")]
    Stamp,
    /// The events.
    #[cfg(feature = "cuda")]
    Events(crate::device::cuda::Mark, crate::device::cuda::Mark),
    /// The clock cannot measure it: only the time on the host when it was launched.
    #[cfg(feature = "wgpu")]
    Untold,
}

impl Clock {
    /// The best that the device has, started.
    pub(super) fn start(device: &Device) -> Result<Clock> {
        device.synchronize()?;
        Ok(match device {
            #[cfg(feature = "wgpu")]
            Device::Gpu(Gpu::Wgpu(context)) if context.has_timestamps() => {
                context.stamp_launches()?;
                Clock::Stamps(context.clone())
            }
            #[cfg(feature = "cuda")]
            Device::Gpu(Gpu::Cuda(context)) => Clock::Events(context.clone(), context.mark()?),
            Device::Cpu | Device::Gpu(_) => Clock::Host(device.clone()),
        })
    }

    /// What it is, for the trace.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Clock::Host(Device::Cpu) => "the host's monotonic clock around every operation",
            Clock::Host(Device::Gpu(_)) => "the host's monotonic clock, with a wait after every launch (nothing overlaps)",
            #[cfg(feature = "wgpu")]
            Clock::Stamps(_) => "the adapter's timestamp queries around every launch; memory that moves between them is not timed",
            #[cfg(feature = "cuda")]
            Clock::Events(..) => "CUDA events before and after every launch, without waiting",
        }
    }

    /// Runs something and reads the time around it. `launch`: it is a kernel, not a movement of memory.
    pub(super) fn time(&self, launch: bool, run: impl FnOnce() -> Result<()>) -> Result<Reading> {
        match self {
            Clock::Host(device) => {
                let start = Instant::now();
                run()?;
                device.synchronize()?;
                Ok(Reading::Host(start, start.elapsed().as_secs_f64()))
            }
            #[cfg(feature = "wgpu")]
            Clock::Stamps(_) => {
                run()?;
                Ok(if launch { Reading::Stamp } else { Reading::Untold })
            }
            #[cfg(feature = "cuda")]
            Clock::Events(context, _) => {
                let start = context.mark()?;
                run()?;
                Ok(Reading::Events(start, context.mark()?))
            }
        }
    }

    /// When each reading began, in seconds since the recording did, and how long it took.
    pub(super) fn resolve(&self, begin: Instant, readings: &[Reading]) -> Result<Vec<(f64, f64)>> {
        #[cfg(feature = "wgpu")]
        let mut stamps = match self {
            Clock::Stamps(context) => context.stamped_launches()?.into_iter(),
            _ => Vec::new().into_iter(),
        };
        let mut resolved: Vec<(f64, f64)> = Vec::with_capacity(readings.len());
        for reading in readings {
            // Where a clock cannot measure it: when the one before ended.
            let last = resolved.last().map_or(0.0, |(start, seconds)| start + seconds);
            let (start, seconds) = match reading {
                Reading::Host(start, seconds) => ((*start - begin).as_secs_f64(), *seconds),
                #[cfg(feature = "wgpu")]
                Reading::Stamp => stamps.next().unwrap_or((last, 0.0)),
                #[cfg(feature = "wgpu")]
                Reading::Untold => (last, 0.0),
                #[cfg(feature = "cuda")]
                Reading::Events(start, end) => match self {
                    Clock::Events(context, base) => (context.between(base, start)?, context.between(start, end)?),
                    _ => (last, 0.0), // no other clock gives events
                },
            };
            resolved.push((start, seconds));
        }
        Ok(resolved)
    }
}
