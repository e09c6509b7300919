//! Timestamp queries: the adapter's own clock at both ends of every compute pass.

use super::Context;
use crate::error::{Error, Result};

/// Passes that one measurement may have.
const PASSES: u32 = 256;

/// Passes being timed.
pub(super) struct Stopwatch {
    set: ::wgpu::QuerySet,
    passes: u32,
}

impl Stopwatch {
    fn new(device: &::wgpu::Device) -> Self {
        let set = device.create_query_set(&::wgpu::QuerySetDescriptor { label: Some("stopwatch"), ty: ::wgpu::QueryType::Timestamp, count: 2 * PASSES });
        Stopwatch { set, passes: 0 }
    }

    /// What the next pass writes: when it begins and when it has ended. `None` for one pass too many.
    pub(super) fn next(&mut self) -> Option<::wgpu::ComputePassTimestampWrites<'_>> {
        if self.passes == PASSES {
            return None;
        }
        let first = 2 * self.passes;
        self.passes += 1;
        Some(::wgpu::ComputePassTimestampWrites { query_set: &self.set, beginning_of_pass_write_index: Some(first), end_of_pass_write_index: Some(first + 1) })
    }
}

impl Context {
    /// Whether the adapter can time what it does.
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(::wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Seconds that the adapter spends on what `launch` launches, from the beginning of its first pass to the end of its last.
    ///
    /// # Errors
    /// What `launch` returns; [`Error::Device`] where it launches nothing, or the adapter's clock stands still.
    pub(crate) fn timed(&self, launch: impl FnOnce() -> Result<()>) -> Result<f64> {
        self.synchronize()?;
        self.recorder().stopwatch = Some(Stopwatch::new(&self.device));
        let launched = launch();
        let mut recorder = self.recorder();
        let stopwatch = recorder.stopwatch.take().expect("set above, and nobody else measures");
        launched?;
        let bytes = 16 * stopwatch.passes as u64;
        let fail = |what: &str| Error::Device { device: self.name().into(), what: what.into() };
        if bytes == 0 || stopwatch.passes == PASSES {
            return Err(fail("its clock cannot time this: there are no launches, or too many"));
        }
        let buffer = |usage| self.device.create_buffer(&::wgpu::BufferDescriptor { label: Some("timestamps"), size: bytes, usage, mapped_at_creation: false });
        let resolved = buffer(::wgpu::BufferUsages::QUERY_RESOLVE | ::wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(::wgpu::BufferUsages::MAP_READ | ::wgpu::BufferUsages::COPY_DST);
        let encoder = recorder.encoder(&self.device);
        encoder.resolve_query_set(&stopwatch.set, 0..2 * stopwatch.passes, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
        recorder.flush(self);
        drop(recorder);
        let mut stamps = vec![0; bytes as usize];
        self.fetch(&staging, &mut stamps)?;
        let stamp = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let stamps: Vec<u64> = stamps.chunks_exact(8).map(stamp).collect();
        let ticks = stamps[stamps.len() - 1].saturating_sub(stamps[0]);
        if ticks == 0 {
            return Err(fail("its clock stands still"));
        }
        Ok(ticks as f64 * self.queue.get_timestamp_period() as f64 * 1e-9)
    }
}
