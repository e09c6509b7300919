//! The learning rate over time, and AdamW's constants.

use serde::{Deserialize, Serialize};

/// Linear warm-up to `peak`, then a cosine down to `floor · peak`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
    /// What the cosine ends at, as a share of `peak`.
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

impl Schedule {
    /// The demo's, for this many steps.
    pub fn meadow(steps: usize) -> Self {
        Schedule { peak: 4e-3, warmup: (steps / 20).clamp(1, 200), steps, floor: 0.0, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.3, max_norm: 1.0 }
    }

    /// The learning rate of a step, counted from 1.
    pub fn learning_rate(&self, step: usize) -> f64 {
        if step <= self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
        self.peak * (self.floor + (1.0 - self.floor) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_peaks_and_falls() {
        let schedule = Schedule { warmup: 10, floor: 0.1, ..Schedule::meadow(100) };
        assert!((schedule.learning_rate(1) - schedule.peak / 10.0).abs() < 1e-12);
        assert_eq!(schedule.learning_rate(10), schedule.peak);
        assert!(schedule.learning_rate(55) < schedule.peak);
        assert!((schedule.learning_rate(100) - 0.1 * schedule.peak).abs() < 1e-12);
    }
}
