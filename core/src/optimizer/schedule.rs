//! Learning-rate schedules, as Hugging Face's `get_{constant,linear,cosine}_schedule_with_warmup` compute them.

use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Half a cosine down to 0.
    Cosine,
    /// A line down to 0.
    Linear,
    /// No decay.
    Constant,
}

/// The learning rate of one phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// The rate at the end of the warm-up.
    pub peak: f64,
    /// What follows the warm-up.
    pub decay: Decay,
    /// Steps from 0 up to the peak.
    pub warmup: usize,
    /// Steps of the phase, warm-up included.
    pub steps: usize,
}

impl LearningRate {
    /// The rate of a step, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        self.peak * self.factor(step)
    }

    fn factor(&self, step: usize) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let left = (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        let progress = (step - self.warmup) as f64 / left;
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => (1.0 - progress).max(0.0),
            Decay::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_starts_at_zero_and_ends_at_the_peak() {
        let rate = LearningRate { peak: 2.0, decay: Decay::Linear, warmup: 2, steps: 6 };
        let trace: Vec<f64> = (0..6).map(|s| rate.at(s)).collect();
        assert_eq!(trace, [0.0, 1.0, 2.0, 1.5, 1.0, 0.5]);
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_peak() {
        for decay in [Decay::Cosine, Decay::Linear, Decay::Constant] {
            assert_eq!(LearningRate { peak: 1e-5, decay, warmup: 0, steps: 1 }.at(0), 1e-5);
        }
    }
}
