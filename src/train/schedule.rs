//! The learning rate over time, and AdamW's constants.

use crate::ops::adamw::Hyper;
use serde::{Deserialize, Serialize};

/// Linear warm-up to `peak`, then a curve down to `floor · peak`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The curve after the warm-up.
    pub shape: ScheduleShape,
    /// The highest learning rate.
    pub peak: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
    /// What the curve ends at, as a share of `peak`.
    pub floor: f64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub eps: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 for never.
    pub max_norm: f64,
}

/// What the learning rate does after the warm-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleShape {
    /// Half a cosine: slow, fast, slow.
    #[default]
    Cosine,
    /// A straight line.
    Linear,
    /// It stays at its peak.
    Constant,
}

impl Schedule {
    /// The demo's, for this many steps.
    pub fn meadow(steps: usize) -> Self {
        Schedule {
            shape: ScheduleShape::Cosine,
            peak: 4e-3,
            warmup: (steps / 20).clamp(1, 200),
            steps,
            floor: 0.0,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-8,
            weight_decay: 0.3,
            max_norm: 1.0,
        }
    }

    /// The learning rate of a step, counted from 1.
    pub fn learning_rate(&self, step: usize) -> f64 {
        if step <= self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        let left = match self.shape {
            ScheduleShape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()),
            ScheduleShape::Linear => 1.0 - progress.min(1.0),
            ScheduleShape::Constant => return self.peak,
        };
        self.peak * (self.floor + (1.0 - self.floor) * left)
    }

    /// What AdamW needs to know about a step, counted from 1.
    pub(super) fn hyper(&self, step: usize) -> Hyper {
        let Schedule { beta1, beta2, eps, weight_decay, max_norm, .. } = *self;
        Hyper { lr: self.learning_rate(step), beta1, beta2, eps, weight_decay, max_norm, step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_peaks_and_falls() {
        for (shape, half, end) in [(ScheduleShape::Cosine, 0.55, 0.1), (ScheduleShape::Linear, 0.55, 0.1), (ScheduleShape::Constant, 1.0, 1.0)] {
            let schedule = Schedule { shape, warmup: 10, floor: 0.1, ..Schedule::meadow(100) };
            let share = |step| schedule.learning_rate(step) / schedule.peak;
            assert!((share(1) - 0.1).abs() < 1e-12);
            assert_eq!(schedule.learning_rate(10), schedule.peak);
            assert!((share(55) - half).abs() < 1e-12, "{shape:?}: {}", share(55));
            for step in [100, 101, 1000] {
                assert!((share(step) - end).abs() < 1e-12, "{shape:?}: {}", share(step));
            }
        }
        let cosine = Schedule { warmup: 0, ..Schedule::meadow(100) };
        assert!(cosine.learning_rate(25) > Schedule { shape: ScheduleShape::Linear, ..cosine }.learning_rate(25));
        assert!(cosine.learning_rate(1).is_finite());
    }
}
