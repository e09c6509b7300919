//! Timestamp queries: the adapter's own clock at both ends of every compute pass.

use super::Context;
use crate::error::{Error, Result};

/// Passes that one measurement of a few calls may have.
const PASSES: u32 = 256;
/// Passes between two readings where every launch has its own: the queries of one set are at most 4096.
const LAUNCHES: u32 = 2048;

/// Passes being timed.
pub(super) struct Stopwatch {
    set: ::wgpu::QuerySet,
    capacity: u32,
    passes: u32,
    /// Whether every launch is a pass of its own, and what was read of them so far: begin and end, in ticks.
    each: Option<Vec<[u64; 2]>>,
}

impl Stopwatch {
    fn new(device: &::wgpu::Device, capacity: u32, each: bool) -> Self {
        let set = device.create_query_set(&::wgpu::QuerySetDescriptor { label: Some("stopwatch"), ty: ::wgpu::QueryType::Timestamp, count: 2 * capacity });
        Stopwatch { set, capacity, passes: 0, each: each.then(Vec::new) }
    }

    /// What the next pass writes: when it begins and when it has ended. `None` for one pass too many.
    pub(super) fn next(&mut self) -> Option<::wgpu::ComputePassTimestampWrites<'_>> {
        if self.passes == self.capacity {
            return None;
        }
        let first = 2 * self.passes;
        self.passes += 1;
        Some(::wgpu::ComputePassTimestampWrites { query_set: &self.set, beginning_of_pass_write_index: Some(first), end_of_pass_write_index: Some(first + 1) })
    }

    /// Whether every launch is a pass of its own.
    pub(super) fn each(&self) -> bool {
        self.each.is_some()
    }

    /// Whether it must be read before the next pass.
    pub(super) fn full(&self) -> bool {
        self.each() && self.passes == self.capacity
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
    /// What `launch` returns; [`Error::Device`] where it launches nothing, or the adapter's clock does not advance.
    pub(crate) fn timed(&self, launch: impl FnOnce() -> Result<()>) -> Result<f64> {
        self.synchronize()?;
        self.recorder().stopwatch = Some(Stopwatch::new(&self.device, PASSES, false));
        let launched = launch();
        let stopwatch = self.recorder().stopwatch.take().expect("set above, and nobody else measures");
        launched?;
        let fail = |what: &str| Error::Device { device: self.name().into(), what: what.into() };
        if stopwatch.passes == 0 || stopwatch.passes == PASSES {
            return Err(fail("its clock cannot time this: there are no launches, or too many"));
        }
        let stamps = self.stamps(&stopwatch)?;
        let ticks = stamps[stamps.len() - 1][1].saturating_sub(stamps[0][0]);
        if ticks == 0 {
            return Err(fail("its clock does not advance"));
        }
        Ok(self.seconds(ticks))
    }

    /// From now on every launch is a pass of its own and timed.
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub(crate) fn stamp_launches(&self) -> Result<()> {
        self.synchronize()?;
        let mut stopwatch = Stopwatch::new(&self.device, LAUNCHES, true);
        // An empty pass: its end is when this returns, as near as the host can tell.
        let mut recorder = self.recorder();
        let timestamp_writes = stopwatch.next();
        drop(recorder.encoder(&self.device).begin_compute_pass(&::wgpu::ComputePassDescriptor { label: None, timestamp_writes }));
        recorder.stopwatch = Some(stopwatch);
        drop(recorder);
        self.synchronize()
    }

    /// When each launch since [`Context::stamp_launches`] began, in seconds from then, and how long it took. Timing ends.
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub(crate) fn stamped_launches(&self) -> Result<Vec<(f64, f64)>> {
        let Some(mut stopwatch) = self.recorder().stopwatch.take() else { return Ok(Vec::new()) };
        self.read_stamps(&mut stopwatch)?;
        let mut stamps = stopwatch.each.unwrap_or_default().into_iter();
        let [_, zero] = stamps.next().unwrap_or_default();
        Ok(stamps.map(|[begin, end]| (self.seconds(begin.saturating_sub(zero)), self.seconds(end.saturating_sub(begin)))).collect())
    }

    /// Makes room for more launches, where every one of them is timed.
    pub(super) fn empty_stopwatch(&self) -> Result<()> {
        let Some(mut stopwatch) = self.recorder().stopwatch.take() else { return Ok(()) };
        let read = self.read_stamps(&mut stopwatch);
        self.recorder().stopwatch = Some(stopwatch);
        read
    }

    fn read_stamps(&self, stopwatch: &mut Stopwatch) -> Result<()> {
        if stopwatch.passes > 0 {
            let stamps = self.stamps(stopwatch)?;
            stopwatch.each.get_or_insert_default().extend(stamps);
            stopwatch.passes = 0;
        }
        Ok(())
    }

    /// What the passes wrote, which it waits for.
    fn stamps(&self, stopwatch: &Stopwatch) -> Result<Vec<[u64; 2]>> {
        let bytes = 16 * stopwatch.passes as u64;
        let buffer = |usage| self.device.create_buffer(&::wgpu::BufferDescriptor { label: Some("timestamps"), size: bytes, usage, mapped_at_creation: false });
        let resolved = buffer(::wgpu::BufferUsages::QUERY_RESOLVE | ::wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(::wgpu::BufferUsages::MAP_READ | ::wgpu::BufferUsages::COPY_DST);
        let mut recorder = self.recorder();
        let encoder = recorder.encoder(&self.device);
        encoder.resolve_query_set(&stopwatch.set, 0..2 * stopwatch.passes, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
        recorder.flush(self);
        drop(recorder);
        let mut read = vec![0; bytes as usize];
        self.fetch(&staging, &mut read)?;
        let stamp = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        Ok(read.chunks_exact(16).map(|pair| [stamp(&pair[..8]), stamp(&pair[8..])]).collect())
    }

    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 * self.queue.get_timestamp_period() as f64 * 1e-9
    }
}
