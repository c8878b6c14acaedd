//! Proximal policy optimisation on a policy's own answers (Schulman et al. 2017; for language models Stiennon et al. 2020): what it is told,
//! and what is made of a batch of answers before the inner epochs.
//!
//! Everything here is arithmetic on the few numbers per response token that the models gave, in f64. The losses are
//! [`objective`](crate::objective)'s, the steps the [`trainer`](crate::trainer)'s.

mod advantages;
mod kl;

pub use advantages::{explained_variance, generalized_advantages, token_rewards, whiten};
pub use kl::{KlControl, KlEstimates};

use serde::{Deserialize, Serialize};

use crate::generate::{Sampling, Warp};
use crate::model::{Policy, Readout};
use crate::rollout::Rollout;

/// The constants of PPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ppo {
    /// β, what a nat of distance from the reference costs; where it is controlled, what every phase begins with.
    pub kl_coefficient: f64,
    /// How β follows the distance, once the policy is trained; `None`: not at all.
    pub kl_control: Option<KlControl>,
    /// ε of the policy's loss.
    pub clip: f64,
    /// ε of the critic's loss.
    pub value_clip: f64,
    /// γ.
    pub discount: f64,
    /// λ of the advantages.
    pub gae_lambda: f64,
    /// A score is at most this far from 0; infinite for as it is.
    pub score_clip: f64,
    /// Passes over a batch of answers.
    pub inner_epochs: usize,
    /// Optimizer steps of such a pass.
    pub mini_batches: usize,
    /// The part of a step's answers, those with the best scores, that is judged and no more: the dynamic sampling of the paper's HBAT+ESRL, which takes
    /// the score for what a model can do already (ESRL itself, Wang et al. 2023, takes how sure the model is; its part is 0.3). 0 trains on all.
    pub drop_fraction: f64,
    /// What the negative log-likelihood per token of demonstrations counts beside the policy's loss. Every optimizer step of the policy then has as
    /// many of them as answers. On plain text it is PPO-ptx (Ouyang et al. 2022, whose factor was 27.8).
    pub sft_coefficient: f64,
    /// The critic's peak learning rate; over a phase it goes as the policy's.
    pub value_learning_rate: f64,
    /// So many steps at the beginning of the first phase train the critic alone. They count in the schedule of both rates.
    pub cold_start: usize,
    /// The longest answer, tokens.
    pub max_new_tokens: usize,
    /// How answers are drawn. Anything but the policy's own distribution biases the estimate of the distance.
    pub sampling: Sampling,
    /// Answers that are written together: a matter of memory and speed.
    pub rollout_batch: usize,
}

/// The paper's where it has any, else trlX's.
impl Default for Ppo {
    fn default() -> Self {
        Self {
            kl_coefficient: 0.1,
            kl_control: None,
            clip: 0.2,
            value_clip: 0.2,
            discount: 1.0,
            gae_lambda: 0.95,
            score_clip: 10.0,
            inner_epochs: 4,
            mini_batches: 1,
            drop_fraction: 0.0,
            sft_coefficient: 0.0,
            value_learning_rate: 5e-6,
            cold_start: 50,
            max_new_tokens: 512,
            sampling: Sampling::Sample(Warp::default()),
            rollout_batch: 64,
        }
    }
}

impl Ppo {
    /// How a step's prompts are answered.
    pub fn rollout(&self) -> Rollout {
        let Self { max_new_tokens, sampling, rollout_batch, .. } = *self;
        Rollout { answers: 1, max_new_tokens: max_new_tokens.max(1), sampling, batch: rollout_batch.max(1) }
    }

    /// Optimizer steps made of a batch of so many answers.
    ///
    /// # Panics
    /// If `mini_batches` is 0.
    pub fn updates(&self, answers: usize) -> usize {
        let kept = self.kept(answers);
        self.inner_epochs * kept.div_ceil(self.mini_batch(kept))
    }

    /// The most answers that an optimizer step of so many has.
    ///
    /// # Panics
    /// If `mini_batches` is 0.
    pub fn largest_update(&self, answers: usize) -> usize {
        self.mini_batch(self.kept(answers))
    }

    /// How many of so many answers are trained on.
    pub fn kept(&self, answers: usize) -> usize {
        // A product that is a whole number but for its rounding is that number.
        let dropped = (self.drop_fraction * answers as f64 - 1e-9).ceil() as usize;
        answers.saturating_sub(dropped).max(answers.min(1))
    }

    /// Answers of a mini-batch, of so many that are trained on; the last may have fewer.
    pub(crate) fn mini_batch(&self, kept: usize) -> usize {
        kept.div_ceil(self.mini_batches).max(1)
    }
}

/// What training on answers needs besides a policy.
#[derive(Debug, Clone)]
pub struct Critics {
    /// Judges finished answers; it is not trained.
    reward: Policy,
    /// PPO's: estimates before every token what the rest of the answer will be worth. Trained along, it keeps what it learned from phase to phase.
    pub(crate) value: Option<Policy>,
    /// An answer ends with the first of these.
    eos: Vec<u32>,
    /// What follows the end of every response that the judge learned from.
    suffix: Vec<u32>,
}

impl Critics {
    /// A judge and a critic, both reward models; the critic usually starts as the same one (Stiennon et al. 2020). And the tokens that end
    /// an answer.
    ///
    /// # Panics
    /// If a model has no value head.
    pub fn new(reward: &Policy, value: Policy, eos: Vec<u32>) -> Self {
        Self { value: Some(value.reading(Readout::ValueBefore)), ..Self::judge(reward, eos) }
    }

    /// A judge alone, which is all that RAFT needs.
    ///
    /// # Panics
    /// If it has no value head.
    pub fn judge(reward: &Policy, eos: Vec<u32>) -> Self {
        Self { reward: reward.as_seen().reading(Readout::ValueAfter), value: None, eos, suffix: Vec::new() }
    }

    /// Lets the judge read these tokens behind every finished answer, because it learned from responses that end so: chat templates put a
    /// line's end behind the token that ends an answer.
    #[must_use]
    pub fn with_suffix(self, suffix: Vec<u32>) -> Self {
        Self { suffix, ..self }
    }

    /// What ends an answer.
    pub(crate) fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// What the judge reads behind it.
    pub(crate) fn suffix(&self) -> &[u32] {
        &self.suffix
    }

    /// The critic as it is now, if there is one.
    pub fn value(&self) -> Option<&Policy> {
        self.value.as_ref()
    }

    /// The judge.
    pub fn reward(&self) -> &Policy {
        &self.reward
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_step_s_answers_some_are_trained_on_and_always_one() {
        let kept = |drop_fraction: f64, answers| Ppo { drop_fraction, ..Ppo::default() }.kept(answers);
        assert_eq!([0, 1, 2, 3, 10, 64].map(|answers| kept(0.3, answers)), [0, 1, 1, 2, 7, 44]);
        assert_eq!([1, 10].map(|answers| kept(0.0, answers)), [1, 10]);
        assert_eq!([kept(0.95, 10), kept(0.28, 25), kept(0.07, 100)], [1, 18, 93]);
        let ppo = Ppo { drop_fraction: 0.3, inner_epochs: 2, mini_batches: 2, ..Ppo::default() };
        assert_eq!(ppo.updates(10), 4);
    }
}
