//! The reward model's loss on preferences (Stiennon et al. 2020, Eq. 1), with centring.

use burn::tensor::{Tensor, activation::log_sigmoid};
use serde::{Deserialize, Serialize};

use super::{Loss, Objective, column, last_by_sequence};
use crate::tokens::Batch;

/// With r(y), the value at the last token of a response: L = −log σ(r(y_w) − r(y_l)) + c·(r(y_w) + r(y_l))², a mean over pairs (a model of
/// Bradley and Terry's; c as TRL's `center_rewards_coefficient`, after Eisenstein et al. 2023: without it rewards are known up to a constant).
///
/// Groups are pairs, the chosen response first; scores are a reward model's
/// ([`Readout::ValueAfter`](crate::model::Readout::ValueAfter)).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Reward {
    /// c, how strongly the rewards of a pair are drawn to a sum of 0; 0 leaves them where they are.
    pub centering_coefficient: f64,
}

impl Objective for Reward {
    fn name(&self) -> &'static str {
        "reward"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.groups.len() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let rewards = last_by_sequence(scores, batch).reshape([batch.groups.len(), 2]); // [pairs, 2]
        let (chosen, rejected) = (column(&rewards, 0), column(&rewards, 1));
        let margin = chosen.clone() - rejected.clone();
        let off_centre = (chosen.clone() + rejected.clone()).square() * self.centering_coefficient;
        let metrics = vec![
            ("rewards/chosen", chosen.sum()),
            ("rewards/rejected", rejected.sum()),
            ("margin", margin.clone().sum()),
            ("accuracy", margin.clone().greater_scalar(0.0).float().sum()),
        ];
        Loss { sum: (off_centre - log_sigmoid(margin)).sum(), metrics }
    }
}
