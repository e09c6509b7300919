//! The next batch, uploaded while the device computes.

use super::step::StepReport;
use super::trainer::Trainer;
use crate::error::Result;
use crate::model::batch::{Batch, PaddedSize};

/// A batch whose inputs are on the device, or on their way. See [`Trainer::prefetch`].
pub struct Prefetched(Batch, PaddedSize);

impl Trainer {
    /// Uploads a batch while the device computes, for [`Trainer::step_prefetched`]. There is room for one.
    pub fn prefetch(&mut self, batch: Batch) -> Result<Prefetched> {
        let size = self.padded_size(&batch);
        self.next_inputs.load(&self.config, &batch, size, batch.counted(), true)?;
        Ok(Prefetched(batch, size))
    }

    /// One step on the batch that was prefetched. Meanwhile the host draws the next one (`draw`) and prefetches it, so that a GPU need
    /// not wait for the host in between.
    ///
    /// Where `draw` fails, the step counts all the same: its error comes beside the report, in the place of the next batch.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_prefetched(
        &mut self,
        Prefetched(batch, size): Prefetched,
        draw: impl FnOnce() -> Result<Batch>,
    ) -> Result<(StepReport, Batch, Result<Prefetched>)> {
        // Copied, not swapped: a recorded step reads its batch where it was when it was recorded. The upload of the next batch waits
        // for the copy, not for the step.
        self.activations.inputs.take(&self.next_inputs)?;
        self.launch_step(&batch, size)?;
        let next = draw().and_then(|next| self.prefetch(next));
        let report = self.finish_step(std::slice::from_ref(&batch))?;
        Ok((report, batch, next))
    }
}
