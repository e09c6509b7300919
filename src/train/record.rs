//! Where a device records launches: a step's launches, from their recording.

use super::graphs::{GraphKind, GraphShape};
use super::trainer::Trainer;
use crate::error::Result;
use crate::model::batch::{Batch, PaddedSize};
use crate::observe;

impl Trainer {
    /// Runs launches on the loaded inputs, from their recording where there is one.
    ///
    /// During a trace, every launch is made one by one.
    pub(super) fn replay(&mut self, kind: GraphKind, batch: &Batch, size: PaddedSize, launch: impl Fn(&mut Self) -> Result<()>) -> Result<()> {
        if observe::on() {
            return launch(self);
        }
        match self.graphs.take() {
            None => launch(self),
            Some(mut graphs) => {
                let (device, shape) = (self.device().clone(), GraphShape { kind, size, images: batch.images, clips: batch.clips });
                let launched = graphs.run(&device, shape, || launch(self));
                self.graphs = Some(graphs);
                launched
            }
        }
    }

    /// Where steps are recorded, batches are padded so that few recordings serve all of them.
    pub(super) fn padded_size(&self, batch: &Batch) -> PaddedSize {
        if self.graphs.is_some() && !observe::on() { PaddedSize::of_few(batch, self.capacity) } else { PaddedSize::of(batch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::drawn_batch;
    use crate::device::Device;
    use crate::model::batch::Capacity;
    use crate::model::{Config, Parameters};
    use crate::tensor::DType;
    use crate::train::Schedule;

    /// Rows that a batch is padded with change neither the loss nor a gradient.
    #[test]
    fn padding_changes_nothing() {
        let config = Config { num_hidden_layers: 1, ..Config::meadow(50) };
        let batch = drawn_batch(&config, "padded", 3);
        let own = Capacity::of(&batch);
        let padded = PaddedSize { rows: own.rows + 20, logits: own.logits + 11 };
        let capacity = Capacity { rows: padded.rows, logits: padded.logits, chunk: padded.logits, ..own };
        let parameters = Parameters::init(&config, &Device::Cpu, DType::F64, 7).unwrap();
        let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(1), capacity).unwrap();
        let mut run = |size| {
            trainer.activations.inputs.load(&config, &batch, size, batch.counted(), false).unwrap();
            trainer.zero_sums().unwrap();
            trainer.forward_and_backward().unwrap();
            let gradients: Vec<f64> = trainer.gradients.each().iter().flat_map(|g| g.read_f64().unwrap()).collect();
            (trainer.activations.loss.read_f64().unwrap()[0], gradients)
        };
        let (expected, found) = (run(PaddedSize::of(&batch)), run(padded));
        assert!((found.0 - expected.0).abs() < 1e-13, "{} {}", found.0, expected.0);
        let largest = expected.1.iter().fold(0f64, |most, g| most.max(g.abs()));
        for (f, e) in found.1.iter().zip(&expected.1) {
            assert!((f - e).abs() <= 1e-13 * largest, "{f} {e}");
        }
    }
}
