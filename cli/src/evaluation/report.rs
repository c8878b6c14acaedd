//! What scores say about a policy: likelihood of demonstrations, DPO's loss and accuracy on preferences; or about a reward model.

use std::fmt;

use hbat::objective::Dpo;
use hbat::tokens::Group;
use serde::Serialize;

use super::Sequences;

/// A policy on demonstrations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemonstrationScore {
    /// Number of demonstrations.
    pub examples: usize,
    /// Response tokens.
    pub tokens: usize,
    /// Σ log π(y|x) over all of them.
    pub logprob: f64,
    /// Negative log-likelihood per response token.
    pub nll: f64,
}

/// A policy on preferences, against a reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreferenceScore {
    /// Number of pairs.
    pub examples: usize,
    /// Σ log π over all chosen responses.
    pub chosen: f64,
    /// Σ log π over all rejected responses.
    pub rejected: f64,
    /// Response tokens of the chosen responses.
    pub chosen_tokens: usize,
    /// Response tokens of the rejected responses.
    pub rejected_tokens: usize,
    /// What only a reference can give.
    #[serde(flatten)]
    pub against: Option<Against>,
}

/// Means over pairs against a reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Against {
    /// DPO's loss.
    pub dpo_loss: f64,
    /// β·h, the difference of the implicit rewards.
    pub margin: f64,
    /// Share of pairs with a margin above 0.
    pub accuracy: f64,
}

/// A reward model on demonstrations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemonstrationRewards {
    /// Number of demonstrations.
    pub examples: usize,
    /// Mean reward.
    pub reward: f64,
}

/// A reward model on preferences: means over pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreferenceRewards {
    /// Number of pairs.
    pub examples: usize,
    /// Reward of the chosen responses.
    pub chosen: f64,
    /// Reward of the rejected responses.
    pub rejected: f64,
    /// −log σ of the margin.
    pub loss: f64,
    /// The difference of a pair's rewards.
    pub margin: f64,
    /// Share of pairs with a margin above 0.
    pub accuracy: f64,
}

/// One example of `eval --per-example`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ExampleScore {
    /// A demonstration.
    Demonstration {
        /// Its place in the file, from 0.
        index: usize,
        /// Σ log π(y|x).
        logprob: f64,
        /// Response tokens.
        tokens: usize,
    },
    /// A preference.
    Preference {
        /// Its place in the file, from 0.
        index: usize,
        /// Σ log π of the chosen response.
        chosen: f64,
        /// Σ log π of the rejected response.
        rejected: f64,
        /// Its response tokens.
        chosen_tokens: usize,
        /// Its response tokens.
        rejected_tokens: usize,
    },
    /// A demonstration, and what a reward model gives it.
    Rewarded {
        /// Its place in the file, from 0.
        index: usize,
        /// Its reward.
        reward: f64,
    },
    /// A preference, and what a reward model gives it.
    RewardedPair {
        /// Its place in the file, from 0.
        index: usize,
        /// Reward of the chosen response.
        chosen: f64,
        /// Reward of the rejected response.
        rejected: f64,
    },
}

/// All that `eval` prints.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Evaluation {
    /// Scores of the demonstrations, if any were given.
    pub demonstrations: Option<DemonstrationScore>,
    /// Scores of the preferences, if any were given.
    pub preferences: Option<PreferenceScore>,
    /// What a reward model makes of the demonstrations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demonstration_rewards: Option<DemonstrationRewards>,
    /// What a reward model makes of the preferences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference_rewards: Option<PreferenceRewards>,
    /// Every demonstration, where asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub demonstration_examples: Vec<ExampleScore>,
    /// Every preference, where asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preference_examples: Vec<ExampleScore>,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(score) = &self.demonstrations {
            writeln!(f, "demonstrations   {} examples, {} response tokens", score.examples, score.tokens)?;
            writeln!(f, "  NLL per token  {:.6}", score.nll)?;
            writeln!(f, "  sum of logps   {:.4}", score.logprob)?;
        }
        if let Some(score) = &self.preferences {
            let tokens = (score.chosen_tokens, score.rejected_tokens);
            writeln!(f, "preferences      {} pairs, {} + {} response tokens", score.examples, tokens.0, tokens.1)?;
            writeln!(f, "  logps/chosen   {:.4}", score.chosen)?;
            writeln!(f, "  logps/rejected {:.4}", score.rejected)?;
            match score.against {
                Some(Against { dpo_loss, margin, accuracy }) => {
                    writeln!(f, "  DPO loss       {dpo_loss:.6}\n  margin         {margin:.6}\n  accuracy       {accuracy:.4}")?;
                }
                None => writeln!(f, "  DPO's loss, margin and accuracy need --reference DIR")?,
            }
        }
        if let Some(score) = &self.demonstration_rewards {
            writeln!(f, "demonstrations   {} examples", score.examples)?;
            writeln!(f, "  mean reward    {:.6}", score.reward)?;
        }
        if let Some(score) = &self.preference_rewards {
            writeln!(f, "preferences      {} pairs", score.examples)?;
            writeln!(f, "  rewards/chosen   {:.6}", score.chosen)?;
            writeln!(f, "  rewards/rejected {:.6}", score.rejected)?;
            writeln!(f, "  loss           {:.6}", score.loss)?;
            writeln!(f, "  margin         {:.6}\n  accuracy       {:.4}", score.margin, score.accuracy)?;
        }
        for example in self.demonstration_examples.iter().chain(&self.preference_examples) {
            writeln!(f, "{example}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExampleScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demonstration { index, logprob, tokens } => write!(f, "{index:>6}  logp {logprob:.4}, {tokens} tokens"),
            Self::Rewarded { index, reward } => write!(f, "{index:>6}  reward {reward:.4}"),
            Self::RewardedPair { index, chosen, rejected } => {
                write!(f, "{index:>6}  chosen {chosen:.4}; rejected {rejected:.4}")
            }
            Self::Preference { index, chosen, rejected, chosen_tokens, rejected_tokens } => {
                write!(
                    f,
                    "{index:>6}  chosen {chosen:.4}, {chosen_tokens} tokens; rejected {rejected:.4}, {rejected_tokens} tokens"
                )
            }
        }
    }
}

/// Sums up scored demonstrations.
pub fn evaluate_demonstrations(groups: &[Group], scores: &Sequences) -> (DemonstrationScore, Vec<ExampleScore>) {
    let examples: Vec<ExampleScore> = groups
        .iter()
        .zip(scores)
        .map(|(g, s)| ExampleScore::Demonstration { index: g.index, logprob: s[0], tokens: g.response_tokens() })
        .collect();
    let tokens: usize = groups.iter().map(Group::response_tokens).sum();
    let logprob: f64 = scores.iter().map(|s| s[0]).sum();
    (DemonstrationScore { examples: groups.len(), tokens, logprob, nll: -logprob / tokens as f64 }, examples)
}

/// Sums up scored preferences, against the reference's scores where there are any.
pub fn evaluate_preferences(
    groups: &[Group],
    scores: &Sequences,
    reference: Option<&Sequences>,
    dpo: Dpo,
) -> (PreferenceScore, Vec<ExampleScore>) {
    let tokens = |g: &Group, which: usize| g.sequences[which].response().len();
    let examples = groups
        .iter()
        .zip(scores)
        .map(|(g, s)| ExampleScore::Preference {
            index: g.index,
            chosen: s[0],
            rejected: s[1],
            chosen_tokens: tokens(g, 0),
            rejected_tokens: tokens(g, 1),
        })
        .collect();
    let score = PreferenceScore {
        examples: groups.len(),
        chosen: scores.iter().map(|s| s[0]).sum(),
        rejected: scores.iter().map(|s| s[1]).sum(),
        chosen_tokens: groups.iter().map(|g| tokens(g, 0)).sum(),
        rejected_tokens: groups.iter().map(|g| tokens(g, 1)).sum(),
        against: reference.map(|reference| against(scores, reference, dpo)),
    };
    (score, examples)
}

/// Sums up demonstrations that a reward model has scored.
pub fn reward_demonstrations(groups: &[Group], rewards: &Sequences) -> (DemonstrationRewards, Vec<ExampleScore>) {
    let each = groups.iter().zip(rewards);
    let examples = each.map(|(group, r)| ExampleScore::Rewarded { index: group.index, reward: r[0] }).collect();
    let reward = mean(rewards.iter().map(|r| r[0]));
    (DemonstrationRewards { examples: groups.len(), reward }, examples)
}

/// Sums up preferences that a reward model has scored.
pub fn reward_preferences(groups: &[Group], rewards: &Sequences) -> (PreferenceRewards, Vec<ExampleScore>) {
    let each = groups.iter().zip(rewards);
    let pair = |(group, r): (&Group, &Vec<f64>)| ExampleScore::RewardedPair { index: group.index, chosen: r[0], rejected: r[1] };
    let margins = || rewards.iter().map(|r| r[0] - r[1]);
    let score = PreferenceRewards {
        examples: groups.len(),
        chosen: mean(rewards.iter().map(|r| r[0])),
        rejected: mean(rewards.iter().map(|r| r[1])),
        loss: mean(margins().map(|m| softplus(-m))),
        margin: mean(margins()),
        accuracy: share_above_zero(margins()),
    };
    (score, each.map(pair).collect())
}

fn against(scores: &Sequences, reference: &Sequences, dpo: Dpo) -> Against {
    let margins: Vec<f64> = scores.iter().zip(reference).map(|(s, r)| dpo.beta * ((s[0] - r[0]) - (s[1] - r[1]))).collect();
    let loss = |m: f64| (1.0 - dpo.label_smoothing) * softplus(-m) + dpo.label_smoothing * softplus(m);
    let margins = || margins.iter().copied();
    Against { dpo_loss: mean(margins().map(loss)), margin: mean(margins()), accuracy: share_above_zero(margins()) }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn share_above_zero(margins: impl ExactSizeIterator<Item = f64>) -> f64 {
    mean(margins.map(|margin| if margin > 0.0 { 1.0 } else { 0.0 }))
}

/// −log σ(−x) = log(1 + eˣ), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_policy_has_loss_ln_2_and_no_accuracy() {
        let scores = vec![vec![-3.0, -4.0], vec![-2.0, -1.0]];
        let found = against(&scores, &scores, Dpo::default());
        assert_eq!(found, Against { dpo_loss: std::f64::consts::LN_2, margin: 0.0, accuracy: 0.0 });
    }

    #[test]
    fn extreme_margins_stay_finite() {
        let dpo = Dpo { beta: 1.0, label_smoothing: 0.1, ..Dpo::default() };
        let found = against(&vec![vec![0.0, -1e4]], &vec![vec![-1e4, 0.0]], dpo);
        assert!((found.dpo_loss - 2e3).abs() < 1e-9 && found.accuracy == 1.0, "{found:?}");
    }
}
