//! A step on more rows than fit the memory at once: several batches, whose gradients are added up.

use super::graphs::GraphKind;
use super::step::StepReport;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::model::batch::Batch;

impl Trainer {
    /// One step on several batches one after the other, in the memory of one: their gradients are added up, and each row that counts
    /// weighs the same, in whichever batch it is. The loss is the mean over the rows that count in all of them. One batch alone gives
    /// the bits of [`Trainer::step`].
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Mismatch`] for no batch at all.
    pub fn step_accumulated(&mut self, batches: &[Batch]) -> Result<StepReport> {
        if let [batch] = batches {
            return self.step(batch);
        }
        if batches.is_empty() {
            return Err(Error::mismatch("step_accumulated", "batches", "at least one", 0));
        }
        let counted = batches.iter().map(Batch::counted).sum();
        self.write_coefficients()?;
        self.zero_sums()?;
        for batch in batches {
            let size = self.padded_size(batch);
            self.load(batch, size, counted)?;
            self.replay(GraphKind::Gradients, batch, size, Self::forward_and_backward)?;
        }
        self.update()?;
        self.finish_step(batches)
    }
}
