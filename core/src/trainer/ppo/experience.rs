//! What the answers of a step are worth, token by token.

use super::PpoPhase;
use crate::error::Error;
use crate::generate::Finish;
use crate::ppo::{KlEstimates, explained_variance, generalized_advantages, token_rewards, whiten};
use crate::reduce::Reduce;
use crate::tokens::{Column, Group};
use crate::trainer::agenda::Item;
use crate::trainer::{Running, Trainer};

/// What this rank's answers of a step came to.
pub(super) struct Experience {
    /// With the columns that both losses read; of this rank's answers those that are trained on.
    pub(super) groups: Vec<Group>,
    /// The places of all ranks' that are, in order: rank r answers the prompts r, r + ranks, r + 2·ranks, …
    pub(super) kept: Vec<usize>,
    /// Means over all ranks' answers: of the score over all, of the rest over those that are trained on.
    pub(super) metrics: Vec<(&'static str, f64)>,
    /// Nats per answer.
    pub(super) kl: f64,
    /// Of all ranks' answers that are trained on, prompts included.
    pub(super) tokens: usize,
}

/// What the models say about a step's answers: by answer, and token by token but for the scores.
struct Verdicts {
    policy: Vec<Vec<f32>>,
    reference: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    scores: Vec<f32>,
}

/// What follows from it.
struct Worth {
    rewards: Vec<Vec<f64>>,
    returns: Vec<Vec<f32>>,
    /// Whitened.
    advantages: Vec<Vec<f64>>,
}

impl<R: Reduce> Trainer<R> {
    /// Appraises the answers of the step under way.
    pub(super) async fn appraise(&mut self, item: &Item) -> Result<Experience, Error> {
        self.make_reference().await?;
        let answers = self.take_answers(item).await?;
        let most = self.settings.ppo.largest_update(item.examples.len());
        let (scores, score) = self.scores(&answers, item, most).await?;
        let kept = self.kept(&scores, item.examples.len()).await;
        let mine = self.of_this_rank(&kept);
        let unfinished = mine.iter().filter(|&&answer| answers[answer].finish == Finish::Length).count();
        let mut groups: Vec<Group> = mine.iter().map(|&answer| answers[answer].group.clone()).collect();
        let verdicts = self.verdicts(&groups, mine.iter().map(|&answer| scores[answer]).collect(), most).await?;
        let worth = self.worth(&verdicts).await;
        fill(&mut groups, &verdicts, &worth);
        Ok(self.experience((groups, kept), &verdicts, &worth, (score, unfinished)).await)
    }

    /// The places, among all ranks' answers of a step, of those that are trained on: not the best by their scores, of equals not the first.
    async fn kept(&self, scores: &[f32], answers: usize) -> Vec<usize> {
        let dropped = answers - self.settings.ppo.kept(answers);
        let mut places: Vec<usize> = (0..answers).collect();
        if dropped > 0 {
            let mut all = vec![0.0; answers];
            let mine = all.iter_mut().skip(self.reduce.rank()).step_by(self.reduce.world());
            mine.zip(scores).for_each(|(place, score)| *place = f64::from(*score));
            self.reduce.sum(&mut all).await;
            places.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
            places.drain(..dropped);
            places.sort_unstable();
        }
        places
    }

    /// Which of this rank's answers these places are.
    fn of_this_rank(&self, places: &[usize]) -> Vec<usize> {
        let (rank, world) = (self.reduce.rank(), self.reduce.world());
        places.iter().filter(|place| *place % world == rank).map(|place| place / world).collect()
    }

    async fn verdicts(&self, groups: &[Group], scores: Vec<f32>, most: usize) -> Result<Verdicts, Error> {
        let Some(Running { ppo: Some(PpoPhase { reference: Some(reference), .. }), .. }) = &self.current else {
            unreachable!("make_reference() was called")
        };
        Ok(Verdicts {
            policy: self.by_token(&self.policy, groups, most).await?,
            reference: self.by_token(reference, groups, most).await?,
            values: self.by_token(self.critic(), groups, most).await?,
            scores,
        })
    }

    async fn worth(&mut self, verdicts: &Verdicts) -> Worth {
        let (ppo, beta) = (self.settings.ppo, self.ppo_phase().beta);
        let answers = verdicts.scores.len();
        let reward = |i: usize| {
            let score = f64::from(verdicts.scores[i]).clamp(-ppo.score_clip, ppo.score_clip);
            token_rewards(&verdicts.policy[i], &verdicts.reference[i], score, beta)
        };
        let rewards: Vec<Vec<f64>> = (0..answers).map(reward).collect();
        let advantage = |i: usize| generalized_advantages(&rewards[i], &verdicts.values[i], ppo.discount, ppo.gae_lambda);
        let mut advantages: Vec<Vec<f64>> = (0..answers).map(advantage).collect();
        let sum = |(a, v): (&f64, &f32)| (a + f64::from(*v)) as f32;
        let returns = advantages.iter().zip(&verdicts.values).map(|(a, v)| a.iter().zip(v).map(sum).collect()).collect();
        whiten(&mut advantages, &self.reduce).await;
        Worth { rewards, returns, advantages }
    }

    /// Means over all ranks' answers that are trained on; the mean score is of all.
    async fn experience(
        &self,
        (groups, kept): (Vec<Group>, Vec<usize>),
        verdicts: &Verdicts,
        worth: &Worth,
        (score, unfinished): (f64, usize),
    ) -> Experience {
        let explained = explained_variance(&worth.returns.concat(), &verdicts.values.concat(), &self.reduce).await;
        let kl = verdicts.policy.iter().zip(&verdicts.reference).map(|(l, r)| KlEstimates::of(l, r));
        let kl = kl.fold(KlEstimates::default(), |sum, kl| KlEstimates { k1: sum.k1 + kl.k1, k3: sum.k3 + kl.k3 });
        let mut totals = [
            groups.len() as f64,
            groups.iter().map(Group::response_tokens).sum::<usize>() as f64,
            groups.iter().map(Group::longest).sum::<usize>() as f64,
            worth.rewards.iter().flatten().sum(),
            kl.k1,
            kl.k3,
            unfinished as f64,
        ];
        self.reduce.sum(&mut totals).await;
        let [answers, response_tokens, tokens, reward, k1, k3, unfinished] = totals;
        let metrics = vec![
            ("score", score),
            ("reward", reward / answers),
            ("kl", k1 / answers),
            ("kl_k3", k3 / answers),
            ("response_tokens", response_tokens / answers),
            ("missing_eos", unfinished / answers),
            ("explained_variance", explained),
        ];
        Experience { groups, kept, metrics, kl: k1 / answers, tokens: tokens as usize }
    }
}

/// Hands answers what the losses read.
fn fill(groups: &mut [Group], verdicts: &Verdicts, worth: &Worth) {
    for (answer, group) in groups.iter_mut().enumerate() {
        group.columns = [
            (Column::OldLogProb, verdicts.policy[answer].clone()),
            (Column::Advantage, worth.advantages[answer].iter().map(|a| *a as f32).collect()),
            (Column::OldValue, verdicts.values[answer].clone()),
            (Column::Return, worth.returns[answer].clone()),
        ]
        .into();
    }
}
