//! Direct preference optimisation (Rafailov et al. 2023), with conservative label smoothing, and with the chosen responses' likelihood beside it.

use burn::tensor::{Tensor, TensorData, activation::log_sigmoid};
use serde::{Deserialize, Serialize};

use super::{Loss, Objective, column, sum_by_sequence};
use crate::tokens::{Batch, Column};

/// With the rewards r = β·(log π(y|x) − log π_ref(y|x)) and h = r(y_w) − r(y_l):
/// L = −(1−ε)·log σ(h) − ε·log σ(−h) − α·log π(y_w|x)/|y_w|, a mean over pairs (paper Eq. 4; ε as in the DPO authors' code, there "cDPO";
/// α as by Pang et al. 2024, "DPO+NLL", with y_w's tokens alone. TRL's losses "sigmoid" and "sft" together take α's mean over the tokens of a batch.)
///
/// Groups are pairs, the chosen response first; the batch carries [`Column::ReferenceLogProb`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Dpo {
    /// β, the strength of the pull towards the reference.
    pub beta: f64,
    /// ε, the probability that a label is wrong.
    pub label_smoothing: f64,
    /// α, the weight of the chosen response's negative log-likelihood per token; 0 is DPO alone.
    pub nll_coefficient: f64,
}

impl Default for Dpo {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.0, nll_coefficient: 0.0 }
    }
}

impl Objective for Dpo {
    fn name(&self) -> &'static str {
        "dpo"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.groups.len() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let (pairs, device) = (batch.groups.len(), scores.device().inner());
        let reference = batch.column(Column::ReferenceLogProb).to_vec();
        let reference = Tensor::<2>::from_data(TensorData::new(reference, [pairs, 2]), &device);
        let lengths: Vec<f32> = batch.sequences.iter().step_by(2).map(|chosen| chosen.len() as f32).collect();
        let lengths = Tensor::<1>::from_data(TensorData::new(lengths, [pairs]), &device);
        let log_probs = sum_by_sequence(scores, batch).reshape([pairs, 2]);
        let rewards = (log_probs.clone() - reference) * self.beta; // [pairs, 2]
        let (chosen, rejected) = (column(&rewards, 0), column(&rewards, 1));
        let margin = chosen.clone() - rejected.clone();
        let hit = log_sigmoid(margin.clone()) * (1.0 - self.label_smoothing);
        let miss = log_sigmoid(margin.clone().neg()) * self.label_smoothing;
        let accuracy = margin.clone().greater_scalar(0.0).float();
        let nll = column(&log_probs, 0).neg() / lengths;
        let metrics = vec![
            ("rewards/chosen", chosen.sum()),
            ("rewards/rejected", rejected.sum()),
            ("margin", margin.sum()),
            ("accuracy", accuracy.sum()),
            ("logps/chosen", column(&log_probs, 0).sum()),
            ("logps/rejected", column(&log_probs, 1).sum()),
            ("nll/chosen", nll.clone().sum()),
        ];
        Loss { sum: (nll * self.nll_coefficient - hit - miss).sum(), metrics }
    }
}
