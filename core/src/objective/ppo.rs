//! The two losses of proximal policy optimisation (Schulman et al. 2017, Eq. 7 and 9), as TRL and trlX compute them.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Loss, Objective, sum_by_sequence};
use crate::tokens::{Batch, Column};

/// The policy's: with the ratio ρ_t = π(y_t) / π_old(y_t) and the advantages A_t, L = max(−A·ρ, −A·clip(ρ, 1−ε, 1+ε)), a mean over response
/// tokens.
///
/// The batch carries [`Column::OldLogProb`] and [`Column::Advantage`]. Metrics are means over responses: `clip_fraction` of the share of
/// their tokens at which the clipped term is the larger one, `approx_kl` of the mean of ½·(log ρ)² over their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClippedSurrogate {
    /// ε.
    pub clip: f64,
}

/// The critic's: with V_c = V_old + clip(V − V_old, −ε, ε) and the returns R, L = ½·max((V − R)², (V_c − R)²), a mean over response tokens.
///
/// Scores are a critic's ([`Readout::ValueBefore`](crate::model::Readout::ValueBefore)); the batch carries [`Column::OldValue`] and
/// [`Column::Return`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClippedValue {
    /// ε.
    pub clip: f64,
}

impl Objective for ClippedSurrogate {
    fn name(&self) -> &'static str {
        "ppo"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.response_tokens() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let advantage = column(Column::Advantage, batch, &scores);
        let log_ratio = scores.clone() - column(Column::OldLogProb, batch, &scores);
        let ratio = log_ratio.clone().exp();
        let free = advantage.clone().neg() * ratio.clone();
        let clipped = advantage.neg() * ratio.clamp(1.0 - self.clip, 1.0 + self.clip);
        let metrics = vec![
            ("clip_fraction", mean_of_means(clipped.clone().greater(free.clone()).float(), batch)),
            ("approx_kl", mean_of_means(log_ratio.square() * 0.5, batch)),
        ];
        Loss { sum: free.max_pair(clipped).sum(), metrics }
    }
}

impl Objective for ClippedValue {
    fn name(&self) -> &'static str {
        "value"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.response_tokens() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let (old, returns) = (column(Column::OldValue, batch, &scores), column(Column::Return, batch, &scores));
        // Within its bounds V itself, to the last bit: rounding would else pass for clipping.
        let near = scores.clone().max_pair(old.clone() - self.clip).min_pair(old + self.clip);
        let (free, clipped) = ((scores - returns.clone()).square(), (near - returns).square());
        let metrics = vec![("clip_fraction", mean_of_means(clipped.clone().greater(free.clone()).float(), batch))];
        Loss { sum: free.max_pair(clipped).sum() * 0.5, metrics }
    }
}

/// A column that goes with the scores, one number per response token. `[R]`
fn column(which: Column, batch: &Batch, scores: &Tensor<1>) -> Tensor<1> {
    let values = batch.column(which).to_vec();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), &scores.device().inner())
}

/// The sum over sequences of each one's mean over its tokens.
fn mean_of_means(tokens: Tensor<1>, batch: &Batch) -> Tensor<1> {
    let lengths: Vec<f32> = batch.sequences.iter().map(|sequence| sequence.len() as f32).collect();
    let count = lengths.len();
    let sums = sum_by_sequence(tokens, batch);
    let lengths = Tensor::<1>::from_data(TensorData::new(lengths, [count]), &sums.device().inner());
    (sums / lengths).sum()
}
