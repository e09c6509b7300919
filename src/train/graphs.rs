//! The launches of a step, recorded once for each shape of batch and then replayed: one call to the driver instead of hundreds.
//!
//! What a launch was given is recorded with it. So whatever changes from step to step is at a fixed place in memory: the batch,
//! the loss's weight, AdamW's coefficients.

use crate::device::{Device, Graph};
use crate::error::{Error, Result};
use crate::files::shown::warn;
use crate::model::batch::PaddedSize;
use std::collections::HashMap;

/// How many shapes are recorded at most; the launches of other shapes go to the driver one by one.
const MAX: usize = 64;

/// Which launches.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum GraphKind {
    /// A whole step on one batch.
    Step,
    /// The forward and the backward pass of one of several batches. (Clearing the sums before them and the update after them are
    /// four launches of a few buffers, the same for every shape: they are launched one by one.)
    Gradients,
}

/// What the grids and sizes of a step's launches follow from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GraphShape {
    pub kind: GraphKind,
    pub size: PaddedSize,
    pub images: usize,
    pub clips: usize,
}

/// The recordings.
#[derive(Default)]
pub(super) struct Graphs {
    /// `None` for a shape that was launched once: its modules are loaded, and a recording may begin.
    recorded: HashMap<GraphShape, Option<Graph>>,
    /// Recording did not work here.
    given_up: bool,
}

impl Graphs {
    /// Launches a step of this shape: the first time and where recordings do not work by calling `launch`, later from the recording.
    pub fn run(&mut self, device: &Device, shape: GraphShape, mut launch: impl FnMut() -> Result<()>) -> Result<()> {
        if self.given_up {
            return launch();
        }
        let known = self.recorded.len();
        match self.recorded.get_mut(&shape) {
            None => {
                if known < MAX {
                    self.recorded.insert(shape, None);
                }
                launch()
            }
            Some(graph) => {
                let replayed = match graph {
                    Some(graph) => graph.launch(),
                    None => device.record(&mut launch).and_then(|new| graph.insert(new).launch()),
                };
                match replayed {
                    // Nothing was launched, so the step has not been taken yet.
                    Err(e) if !matches!(e, Error::DeviceLost { .. }) => {
                        warn(format!("no CUDA graph could be recorded, so steps are launched kernel by kernel: {e}"));
                        self.given_up = true;
                        self.recorded.clear();
                        launch()
                    }
                    other => other,
                }
            }
        }
    }
}
