//! Ranking by length-normalised likelihood (RRHF, Yuan et al. 2023), on pairs.

use burn::tensor::{Tensor, TensorData, activation::relu};
use serde::{Deserialize, Serialize};

use super::{Loss, Objective, column, sum_by_sequence};
use crate::tokens::Batch;

/// With p(y) = log π(y|x)/|y|^α: L = max(0, p(y_l) − p(y_w)) − c·log π(y_w|x), a mean over pairs. It needs no reference.
///
/// Groups are pairs, the chosen response first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rrhf {
    /// α; 1 for a mean over tokens, 0 for the sum.
    pub length_exponent: f64,
    /// c, the weight of the chosen response's negative log-likelihood; 0 ranks alone.
    pub nll_coefficient: f64,
}

impl Default for Rrhf {
    fn default() -> Self {
        Self { length_exponent: 1.0, nll_coefficient: 1.0 }
    }
}

impl Objective for Rrhf {
    fn name(&self) -> &'static str {
        "rrhf"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.groups.len() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let (pairs, device) = (batch.groups.len(), scores.device().inner());
        let scale = |response: &std::ops::Range<usize>| (response.len() as f64).powf(-self.length_exponent) as f32;
        let scales = TensorData::new(batch.sequences.iter().map(scale).collect::<Vec<_>>(), [pairs, 2]);
        let log_probs = sum_by_sequence(scores, batch).reshape([pairs, 2]);
        let likelihoods = log_probs.clone() * Tensor::<2>::from_data(scales, &device);
        let margin = column(&likelihoods, 0) - column(&likelihoods, 1);
        let (ranking, nll) = (relu(margin.clone().neg()), column(&log_probs, 0).neg());
        let metrics = vec![
            ("margin", margin.clone().sum()),
            ("accuracy", margin.greater_scalar(0.0).float().sum()),
            ("ranking_loss", ranking.clone().sum()),
            ("logps/chosen", column(&log_probs, 0).sum()),
            ("logps/rejected", column(&log_probs, 1).sum()),
        ];
        Loss { sum: (ranking + nll * self.nll_coefficient).sum(), metrics }
    }
}
