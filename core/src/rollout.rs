//! A policy's own answers to prompts: how they come about, and how one learns from the best of them.

use serde::{Deserialize, Serialize};

use crate::generate::{Sampling, Warp};

/// How a step's prompts are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollout {
    /// Answers to each prompt.
    pub answers: usize,
    /// The longest answer, tokens.
    pub max_new_tokens: usize,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// Answers that are written together: a matter of memory and speed.
    pub batch: usize,
}

/// Reward-ranked fine-tuning (Dong et al. 2023): of a few answers to each prompt the one that the judge likes best is a demonstration. A step
/// answers a batch of prompts with the policy as it is, and is one optimizer step of [`Sft`](crate::objective::Sft) on the best.
///
/// It has no critic and no reference; nothing but the learning rate holds the policy where it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Raft {
    /// K, answers to each prompt.
    pub answers: usize,
    /// The longest answer, tokens.
    pub max_new_tokens: usize,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// Answers that are written together: a matter of memory and speed.
    pub rollout_batch: usize,
}

/// Four answers, drawn from the policy as it is.
impl Default for Raft {
    fn default() -> Self {
        Self { answers: 4, max_new_tokens: 512, sampling: Sampling::Sample(Warp::default()), rollout_batch: 64 }
    }
}

impl Raft {
    /// How a step's prompts are answered.
    pub fn rollout(&self) -> Rollout {
        let Self { answers, max_new_tokens, sampling, rollout_batch } = *self;
        Rollout { answers: answers.max(1), max_new_tokens: max_new_tokens.max(1), sampling, batch: rollout_batch.max(1) }
    }
}

/// The place of the best of each prompt's answers, of equal ones the first. `scores` are those of all answers, the first prompt's first.
///
/// # Panics
/// If prompts have no answers.
pub fn best(scores: &[f32], answers: usize) -> Vec<usize> {
    let first_best = |(prompt, scores): (usize, &[f32])| {
        let better = |best: usize, other: usize| if scores[other] > scores[best] { other } else { best };
        prompt * answers + (0..scores.len()).fold(0, better)
    };
    scores.chunks(answers).enumerate().map(first_best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_answers_is_the_demonstration() {
        assert_eq!(best(&[0.0, 2.0, 2.0, -1.0, -3.0, -1.0], 3), [1, 3]);
        assert_eq!(best(&[0.5, -0.5], 1), [0, 1]);
        assert_eq!(best(&[], 4), [0; 0]);
    }
}
