//! The distance from the reference, and what it costs.

use serde::{Deserialize, Serialize};

/// A proportional controller of β (Ziegler et al. 2019, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KlControl {
    /// The distance to keep, nats per answer.
    pub target: f64,
    /// After about so many answers β has followed a distance that is off by as much as counts.
    pub horizon: f64,
}

impl KlControl {
    /// β after a batch of so many `answers` at a distance of `kl`: β·(1 + clip(KL/target − 1, ±0.2)·n/horizon).
    pub fn next(&self, beta: f64, kl: f64, answers: usize) -> f64 {
        beta * (1.0 + (kl / self.target - 1.0).clamp(-0.2, 0.2) * answers as f64 / self.horizon)
    }
}

/// Two estimates of KL(π ‖ π_ref), nats per answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct KlEstimates {
    /// Σ_t log π(y_t) − log π_ref(y_t): without bias, and of either sign.
    pub k1: f64,
    /// Σ_t exp(−lr_t) − 1 + lr_t of the same differences lr: without bias, too, never negative, and steadier where they are small (Schulman 2020).
    pub k3: f64,
}

impl KlEstimates {
    /// Those of one answer.
    pub fn of(log_probs: &[f32], reference: &[f32]) -> Self {
        let differences = log_probs.iter().zip(reference).map(|(l, r)| f64::from(*l) - f64::from(*r));
        differences.fold(Self::default(), |sum, lr| Self { k1: sum.k1 + lr, k3: sum.k3 + (-lr).exp_m1() + lr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_grows_while_the_distance_is_too_large_and_shrinks_while_it_is_too_small() {
        let control = KlControl { target: 6.0, horizon: 100.0 };
        assert_eq!(control.next(0.1, 6.0, 10), 0.1);
        assert!((control.next(0.1, 600.0, 10) - 0.1 * 1.02).abs() < 1e-12, "by a fifth of n / horizon at most");
        assert!((control.next(0.1, 5.4, 10) - 0.1 * 0.99).abs() < 1e-12);
    }

    #[test]
    fn estimates_of_equal_policies_are_nothing() {
        assert_eq!(KlEstimates::of(&[-1.0, -2.0], &[-1.0, -2.0]), KlEstimates::default());
        let apart = KlEstimates::of(&[-1.0], &[-2.0]);
        assert!(apart.k1 == 1.0 && (apart.k3 - (-1f64).exp()).abs() < 1e-12);
    }
}
