//! The sections of a run file that say how is trained on preferences, and each in core's terms.

use std::path::PathBuf;

use hbat::generate::{Sampling, Warp};
use hbat::objective::{Dpo, Reward, Rrhf};
use hbat::ppo::{KlControl, Ppo};
use hbat::rollout::Raft;
use serde::{Deserialize, Serialize};

use super::run_file::TrainingSection;

/// Training on preferences by DPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DpoSection {
    /// β.
    pub beta: f64,
    /// ε of conservative DPO.
    pub label_smoothing: f64,
    /// α of DPO+NLL.
    pub nll_coefficient: f64,
    /// The rest.
    #[serde(flatten)]
    pub training: TrainingSection,
}

impl DpoSection {
    /// The objective.
    pub fn objective(&self) -> Dpo {
        Dpo { beta: self.beta, label_smoothing: self.label_smoothing, nll_coefficient: self.nll_coefficient }
    }
}

/// Answers of the policy that are trained on, and who judges them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutSection {
    /// The judge's folder; empty: none.
    pub reward_model: PathBuf,
    /// The longest answer.
    pub max_new_tokens: usize,
    /// How answers are drawn.
    pub temperature: f64,
    /// Likewise.
    pub top_p: f64,
    /// Answers that are written together.
    pub rollout_batch: usize,
}

impl RolloutSection {
    fn sampling(&self) -> Sampling {
        Sampling::Sample(Warp { temperature: self.temperature, top_p: self.top_p, top_k: None })
    }

    /// As the defaults, but for who judges.
    fn judge_alone(&self, defaults: Self) -> Self {
        Self { reward_model: self.reward_model.clone(), ..defaults }
    }
}

/// Training on the policy's own answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PpoSection {
    /// β.
    pub kl_coefficient: f64,
    /// The distance that β keeps; 0: β stays.
    pub kl_target: f64,
    /// How fast β follows, answers.
    pub kl_horizon: f64,
    /// ε of the policy's loss.
    pub clip: f64,
    /// ε of the critic's loss.
    pub value_clip: f64,
    /// γ.
    pub discount: f64,
    /// λ of the advantages.
    pub gae_lambda: f64,
    /// Scores count up to this.
    pub score_clip: f64,
    /// Passes over a step's answers.
    pub inner_epochs: usize,
    /// Optimizer steps of a pass.
    pub mini_batches: usize,
    /// The part of a step's answers, the best, that is not trained on.
    pub drop_fraction: f64,
    /// What demonstrations' likelihood counts beside the policy's loss.
    pub sft_coefficient: f64,
    /// The critic's peak learning rate.
    pub value_learning_rate: f64,
    /// Steps of the first phase that train the critic alone.
    pub cold_start: usize,
    /// Where the answers come from.
    #[serde(flatten)]
    pub rollout: RolloutSection,
    /// The rest.
    #[serde(flatten)]
    pub training: TrainingSection,
}

impl PpoSection {
    /// The same in core's terms.
    pub fn ppo(&self) -> Ppo {
        Ppo {
            kl_coefficient: self.kl_coefficient,
            kl_control: (self.kl_target > 0.0).then_some(KlControl { target: self.kl_target, horizon: self.kl_horizon }),
            clip: self.clip,
            value_clip: self.value_clip,
            discount: self.discount,
            gae_lambda: self.gae_lambda,
            score_clip: self.score_clip,
            inner_epochs: self.inner_epochs,
            mini_batches: self.mini_batches,
            drop_fraction: self.drop_fraction,
            sft_coefficient: self.sft_coefficient,
            value_learning_rate: self.value_learning_rate,
            cold_start: self.cold_start,
            max_new_tokens: self.rollout.max_new_tokens,
            sampling: self.rollout.sampling(),
            rollout_batch: self.rollout.rollout_batch,
        }
    }

    /// As the defaults, but for which examples a step trains on and who judges.
    pub(super) fn batches_alone(&self, defaults: Self) -> Self {
        let rollout = self.rollout.judge_alone(defaults.rollout.clone());
        let alone = Self { rollout, training: self.training.batches_alone(defaults.training), ..defaults };
        if self.sft_coefficient == 0.0 {
            return alone;
        }
        // Which demonstrations go beside the answers depends on these; how much they count does not.
        let Self { drop_fraction, inner_epochs, mini_batches, .. } = *self;
        Self { sft_coefficient: 1.0, drop_fraction, inner_epochs, mini_batches, ..alone }
    }
}

/// Training on preferences by their likelihoods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RrhfSection {
    /// α.
    pub length_exponent: f64,
    /// c of the chosen responses' likelihood.
    pub nll_coefficient: f64,
    /// The rest.
    #[serde(flatten)]
    pub training: TrainingSection,
}

impl RrhfSection {
    /// The objective.
    pub fn objective(&self) -> Rrhf {
        Rrhf { length_exponent: self.length_exponent, nll_coefficient: self.nll_coefficient }
    }
}

/// Training on the best of the policy's own answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RaftSection {
    /// K.
    pub answers: usize,
    /// Where the answers come from.
    #[serde(flatten)]
    pub rollout: RolloutSection,
    /// The rest.
    #[serde(flatten)]
    pub training: TrainingSection,
}

impl RaftSection {
    /// The same in core's terms.
    pub fn raft(&self) -> Raft {
        Raft {
            answers: self.answers,
            max_new_tokens: self.rollout.max_new_tokens,
            sampling: self.rollout.sampling(),
            rollout_batch: self.rollout.rollout_batch,
        }
    }

    /// As the defaults, but for which examples a step trains on and who judges.
    pub(super) fn batches_alone(&self, defaults: Self) -> Self {
        let rollout = self.rollout.judge_alone(defaults.rollout.clone());
        Self { rollout, training: self.training.batches_alone(defaults.training), ..defaults }
    }
}

/// Training of a reward model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RewardSection {
    /// c, which draws the rewards of a pair to a sum of 0.
    pub centering_coefficient: f64,
    /// The rest.
    #[serde(flatten)]
    pub training: TrainingSection,
}

impl RewardSection {
    /// The objective.
    pub fn objective(&self) -> Reward {
        Reward { centering_coefficient: self.centering_coefficient }
    }
}
