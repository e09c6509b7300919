//! Events: the GPU's own clock, before and after what is launched between them.

use super::Context;
use crate::error::Result;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

/// An event that records the time.
pub(crate) struct Mark(sys::CUevent);

impl Mark {
    fn new() -> std::result::Result<Mark, DriverError> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map(Mark)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. An error leaks a few bytes.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

impl Context {
    /// Seconds that the GPU spends on what `launch` launches on the stream. Launches that take less time than the host needs for
    /// the next one show the host's time.
    ///
    /// # Errors
    /// What `launch` returns, and what goes wrong on the device.
    pub(crate) fn timed(&self, launch: impl FnOnce() -> Result<()>) -> Result<f64> {
        self.enter()?;
        let fail = |e| self.failed(e, "timing kernels");
        let [start, end] = [Mark::new().map_err(fail)?, Mark::new().map_err(fail)?];
        // SAFETY: the event lives until the end of this function, the stream as long as `self`.
        unsafe { result::event::record(start.0, self.stream) }.map_err(fail)?;
        launch()?;
        // SAFETY: as above, and for the calls below.
        unsafe { result::event::record(end.0, self.stream) }.map_err(fail)?;
        unsafe { result::event::synchronize(end.0) }.map_err(fail)?;
        // SAFETY: both were recorded on the same stream, and the second has passed.
        unsafe { result::event::elapsed(start.0, end.0) }.map(|milliseconds| milliseconds as f64 * 1e-3).map_err(fail)
    }

    /// An event after everything launched so far.
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub(crate) fn mark(&self) -> Result<Mark> {
        self.enter()?;
        let fail = |e| self.failed(e, "timing kernels");
        let mark = Mark::new().map_err(fail)?;
        // SAFETY: the event has just been created, the stream lives as long as `self`; an event that is destroyed before it has
        // passed is kept by the driver until then.
        unsafe { result::event::record(mark.0, self.stream) }.map_err(fail)?;
        Ok(mark)
    }

    /// Seconds from one event to a later one, which it waits for.
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub(crate) fn between(&self, start: &Mark, end: &Mark) -> Result<f64> {
        self.enter()?;
        let fail = |e| self.failed(e, "timing kernels");
        // SAFETY: both events live, and were recorded on the stream by `mark`.
        unsafe { result::event::synchronize(end.0) }.map_err(fail)?;
        unsafe { result::event::elapsed(start.0, end.0) }.map(|milliseconds| milliseconds as f64 * 1e-3).map_err(fail)
    }

    /// An attribute of the GPU, where the driver knows it.
    pub(crate) fn attribute(&self, which: sys::CUdevice_attribute) -> Option<i32> {
        // SAFETY: the device is the driver's own.
        unsafe { result::device::get_attribute(self.device, which) }.ok()
    }

    /// The CUDA version of the driver: (12, 4).
    pub fn driver(&self) -> (i32, i32) {
        self.driver
    }
}
