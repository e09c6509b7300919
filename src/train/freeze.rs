//! Tensors that do not learn, and the update of those that do, one by one.

use super::graphs::Graphs;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::ops::adamw;

impl Trainer {
    /// From now on the tensors whose names (as [`Parameters::named`](crate::model::Parameters::named) gives them) this accepts are not updated, and all others are: they
    /// keep every bit, decay included, and their moments too. Their gradients are still computed, but do not count in the gradient's norm.
    /// Returns how many numbers continue to learn.
    ///
    /// # Errors
    /// [`Error::Usage`] where nothing would be left to learn; then nothing changes.
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) -> Result<usize> {
        let named = self.parameters.named();
        let mask: Vec<bool> = named.iter().map(|(name, _)| frozen(name)).collect();
        let learning = named.iter().zip(&mask).filter(|(_, frozen)| !**frozen).map(|((_, tensor), _)| tensor.len()).sum();
        if learning == 0 {
            return Err(Error::Usage(format!("all {} tensors of the model are to be frozen: nothing would be left to learn", mask.len())));
        }
        self.frozen = if mask.contains(&true) { mask } else { Vec::new() };
        // A recording updates the tensors that it updated when it was made.
        self.graphs = self.graphs.take().map(|_| Graphs::default());
        Ok(learning)
    }

    /// The gradient's norm and the update tensor by tensor: where the device has no flat parameters, and where some are frozen, so that
    /// they are no longer one thing.
    pub(super) fn update_each(&mut self) -> Result<()> {
        let learning = |i: usize| !self.frozen.get(i).copied().unwrap_or(false);
        let gradients: Vec<_> = self.gradients.each().into_iter().enumerate().filter(|(i, _)| learning(*i)).map(|(_, g)| g).collect();
        adamw::global_norm(&gradients, &mut self.norm, &mut self.activations.workspace)?;
        let (coefficients, norm, loss) = (&self.coefficients, &self.norm, Some(&self.activations.loss));
        let [first, second] = &mut self.moments;
        let moments = first.each_mut().into_iter().zip(second.each_mut());
        let mut rounded = self.rounded.as_mut().map(|r| r.each_mut().into_iter());
        for (i, ((p, g), (m, v))) in self.parameters.each_mut().into_iter().zip(self.gradients.each()).zip(moments).enumerate() {
            let copy = rounded.as_mut().and_then(Iterator::next);
            if !learning(i) {
                continue;
            }
            let decayed = if p.shape().dims().len() >= 2 { p.len() } else { 0 };
            adamw::update(p, g, m, v, coefficients, decayed, norm, loss, copy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{drawn_batch, test_devices};
    use crate::model::batch::Capacity;
    use crate::model::{Config, Parameters};
    use crate::tensor::DType;
    use crate::train::Schedule;

    /// Frozen tensors and their moments keep every bit through decay and clipping; the others learn, as if the frozen ones had no
    /// gradient; and what is thawed learns again.
    #[test]
    fn frozen_parameters_keep_every_bit() {
        let config = Config { num_hidden_layers: 1, ..Config::meadow(50) };
        let batch = drawn_batch(&config, "frozen", 3);
        let embedders = |name: &str| name.starts_with("vision") || name.starts_with("audio");
        let bits = |p: &Parameters| -> Vec<(String, Vec<u64>)> {
            p.named().into_iter().map(|(name, t)| (name, t.read_f64().unwrap().into_iter().map(f64::to_bits).collect())).collect()
        };
        for device in test_devices() {
            let parameters = Parameters::init(&config, &device, DType::F32, 7).unwrap();
            let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(10), Capacity::of(&batch)).unwrap();
            let every = trainer.step(&batch).unwrap();
            let embedding: usize = trainer.parameters.named().into_iter().filter(|(name, _)| embedders(name)).map(|(_, t)| t.len()).sum();
            assert_eq!(trainer.freeze(|name| !embedders(name)).unwrap(), embedding);
            let [before, moments] = [bits(&trainer.parameters), bits(&trainer.moments[0])];
            let fewer = trainer.step(&batch).unwrap();
            trainer.step(&batch).unwrap();
            assert!(fewer.gradient_norm > 0.0 && fewer.gradient_norm < every.gradient_norm, "{} {}", fewer.gradient_norm, every.gradient_norm);
            for (after, before) in [(bits(&trainer.parameters), before), (bits(&trainer.moments[0]), moments)] {
                for ((name, after), (_, before)) in after.iter().zip(&before) {
                    assert_eq!(after != before, embedders(name), "{device}: {name}");
                }
            }
            assert!(trainer.freeze(|_| true).unwrap_err().to_string().contains("nothing would be left"));
            let before = bits(&trainer.parameters);
            assert_eq!(trainer.freeze(|_| false).unwrap(), trainer.parameters.count());
            trainer.step(&batch).unwrap();
            assert!(bits(&trainer.parameters).iter().zip(&before).all(|((_, after), (_, before))| after != before));
        }
    }
}
