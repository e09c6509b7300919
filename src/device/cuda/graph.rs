//! Launches captured from the stream into a CUDA graph: the driver then launches all of them in one call.

use super::{Arc, Context};
use crate::error::Result;
use cudarc::driver::result;
use cudarc::driver::sys;

/// A captured graph, ready to launch.
pub(crate) struct Graph {
    raw: sys::CUgraphExec,
    context: Arc<Context>,
}

// SAFETY: a name that the driver gave out; it takes it from any thread with the context current, and `&Graph` only launches, on a
// stream that the driver itself locks.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Context {
    /// Captures what `launch` puts on the stream. See [`crate::Device::record`].
    pub(crate) fn record(self: &Arc<Self>, launch: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.enter()?;
        // Only calls of this thread may spoil the capture, and only they are refused meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as `self`; the capture ends below, whatever `launch` returns.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(|e| self.failed(e, "starting to capture a graph"))?;
        let launched = launch();
        // SAFETY: as above.
        let captured = unsafe { result::stream::end_capture(self.stream) };
        let graph = match (launched, captured) {
            (Ok(()), captured) => captured.map_err(|e| self.failed(e, "capturing a graph"))?,
            (Err(cause), captured) => {
                if let Ok(graph) = captured {
                    // SAFETY: captured just now, used by nobody. An error leaks it.
                    let _ = unsafe { result::graph::destroy(graph) };
                }
                return Err(cause);
            }
        };
        // SAFETY: captured just now. What is instantiated from it does not need it any more.
        let (instantiated, _) = unsafe { (result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)), result::graph::destroy(graph)) };
        let raw = instantiated.map_err(|e| self.failed(e, "instantiating a graph"))?;
        Ok(Graph { raw, context: self.clone() })
    }
}

impl Graph {
    /// Launches it on the stream.
    pub(crate) fn launch(&self) -> Result<()> {
        self.context.enter()?;
        // SAFETY: instantiated in `record`, destroyed when dropped. Its kernels were checked when they were captured, and the
        // buffers that they were given are those of whoever recorded it, who keeps them as long as the graph.
        unsafe { result::graph::launch(self.raw, self.context.stream) }.map_err(|e| self.context.failed(e, "launching a graph"))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.synchronize().is_ok() {
            // SAFETY: instantiated in `record`, destroyed once, and it does not run any more.
            let _ = unsafe { result::graph::exec_destroy(self.raw) };
        }
    }
}
