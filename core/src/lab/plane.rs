//! The plane of both objectives: SFT loss, of which less is better, and preference reward, of which more is.

use serde::{Deserialize, Serialize};

/// A point of the plane.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Corner {
    /// Negative log-likelihood of the demonstrations, nats per token.
    pub sft_loss: f64,
    /// How likely the model gives the preferred answer of a pair rather than the other one, 0 to 1.
    pub reward: f64,
}

impl Corner {
    /// The bad corner: a model that has no idea of the next of the toy's 37 words (ln 37), and never gives the preferred answer.
    pub const NADIR: Self = Self { sft_loss: 3.610_917_912_644_224_3, reward: 0.0 };

    /// The good corner for demonstrations of this loss at best: nothing better, and always the preferred answer.
    pub fn ideal(sft_loss: f64) -> Self {
        Self { sft_loss, reward: 1.0 }
    }
}

/// The part of the rectangle between [`Corner::NADIR`] and `ideal` that is worse than one of the points in both objectives.
///
/// 1 for a point at the ideal; 0 for points at the nadir or beyond it in either objective.
pub fn hypervolume(points: &[Corner], ideal: Corner) -> f64 {
    let nadir = Corner::NADIR;
    let share = |point: &Corner| {
        let loss = (nadir.sft_loss - point.sft_loss) / (nadir.sft_loss - ideal.sft_loss);
        let reward = (point.reward - nadir.reward) / (ideal.reward - nadir.reward);
        (loss.clamp(0.0, 1.0), reward.clamp(0.0, 1.0))
    };
    let mut shares: Vec<(f64, f64)> = points.iter().map(share).collect();
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut highest = 0.0;
    let mut volume = 0.0;
    for (loss, reward) in shares {
        volume += loss * f64::max(reward - highest, 0.0);
        highest = f64::max(highest, reward);
    }
    volume
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDEAL: Corner = Corner { sft_loss: 0.610_917_912_644_224, reward: 1.0 };

    fn at(loss: f64, reward: f64) -> Corner {
        Corner { sft_loss: IDEAL.sft_loss + loss, reward }
    }

    fn check(points: &[Corner], expect: f64) {
        let found = hypervolume(points, IDEAL);
        assert!((found - expect).abs() < 1e-12, "{points:?}: {found}, not {expect}");
    }

    #[test]
    fn known_areas() {
        assert_eq!(Corner::NADIR.sft_loss, 37f64.ln());
        check(&[IDEAL], 1.0);
        check(&[Corner::NADIR], 0.0);
        check(&[at(1.5, 0.5)], 0.25);
        check(&[at(9.0, 1.0)], 0.0); // worse than knowing nothing
        check(&[at(-1.0, 0.5)], 0.5); // no better than the ideal
        check(&[at(0.0, 0.5), at(1.5, 1.0)], 0.75);
        check(&[at(1.5, 1.0), at(0.0, 0.5), at(1.5, 0.5)], 0.75); // in any order; a dominated point adds nothing
    }
}
