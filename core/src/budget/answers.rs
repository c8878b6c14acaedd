//! A step on the policy's own answers, all of which are as long as they may become.

use std::cmp::Reverse;

use super::memory::{Holdings, Memory, Sizes};
use super::work::{Pass, flops, forward_flops};
use crate::model::LlamaConfig;
use crate::rollout::Rollout;
use crate::tokens::{Group, Sequence};
use crate::trainer::{Data, Settings};

/// The critic holds nothing for consolidation.
const NOTHING: Holdings = Holdings { anchor: false, start: false, fisher: 0 };

/// Bytes of a critic while it is not at work.
pub(super) fn waiting(critic: &Sizes) -> usize {
    let Memory { weights, master, .. } = critic.resting(&NOTHING);
    weights + master
}

/// The answers of one step.
pub(super) struct Answers {
    /// All of them in one pass.
    together: Pass,
    /// Those that are trained on, if they are the longest.
    pub(super) trained: Pass,
    /// Those that are generated together, and their prompts.
    generated: [Pass; 2],
    /// The passes of the first optimizer step, which no other has more of.
    passes: Vec<Pass>,
    /// Those of demonstrations beside it, if they are the longest.
    beside: Vec<Pass>,
    /// All demonstrations, and the share of them that goes beside an inner epoch.
    demonstrations: (Pass, f64),
}

impl Answers {
    /// Those of PPO.
    pub(super) fn of_ppo(data: &Data, examples: &[usize], settings: &Settings) -> Self {
        let kept = settings.ppo.kept(examples.len());
        let update = settings.ppo.mini_batch(kept);
        let answers = Self::new((data, examples), settings.ppo.rollout(), (kept, update), settings);
        match settings.ppo.sft_coefficient > 0.0 {
            true => answers.beside(&data.demonstrations, (kept, update), settings),
            false => answers,
        }
    }

    /// Those of RAFT, of which the best to each prompt are trained on in one step.
    pub(super) fn of_raft(data: &Data, examples: &[usize], settings: &Settings) -> Self {
        Self::new((data, examples), settings.raft.rollout(), (examples.len(), examples.len()), settings)
    }

    /// Of the answers to these examples some are kept to train on, and so many make an optimizer step.
    fn new((data, examples): (&Data, &[usize]), rollout: Rollout, (kept, update): (usize, usize), settings: &Settings) -> Self {
        let answered = |tokens: usize| -> Vec<Group> {
            let response = vec![0; tokens];
            let answer = |&example: &usize| {
                let prompt = data.preferences[example].sequences[0].prompt().to_vec();
                Group::demonstration(example, Sequence::new(prompt, &response).expect("neither is empty"))
            };
            let mut groups: Vec<Group> = examples.iter().map(answer).collect();
            groups.sort_by_key(|group| Reverse(group.longest()));
            groups
        };
        let (finished, begun) = (answered(rollout.max_new_tokens), answered(1));
        // Of every prompt so many.
        let all: Vec<usize> = (0..finished.len()).flat_map(|prompt| std::iter::repeat_n(prompt, rollout.answers)).collect();
        let first = |count: usize| (0..count.min(finished.len())).collect::<Vec<usize>>();
        let apart = Settings { pack: None, ..*settings };
        let written = &all[..rollout.batch.min(all.len())];
        Self {
            together: Pass::one(&finished, &all, &apart),
            trained: Pass::one(&finished, &first(kept), &apart),
            generated: [&finished, &begun].map(|groups| Pass::one(groups, written, &apart)),
            passes: Pass::of_step(&finished, &first(update), settings),
            beside: Vec::new(),
            demonstrations: (Pass::default(), 0.0),
        }
    }

    /// With demonstrations in every optimizer step, as many as answers.
    fn beside(self, all: &[Group], (kept, update): (usize, usize), settings: &Settings) -> Self {
        let mut longest: Vec<usize> = (0..all.len()).collect();
        longest.sort_by_key(|&example| Reverse(all[example].longest()));
        let longest: Vec<usize> = longest.into_iter().cycle().take(update).collect();
        let apart = Settings { pack: None, ..*settings };
        let every = Pass::one(all, &(0..all.len()).collect::<Vec<_>>(), &apart);
        let share = kept as f64 / all.len().max(1) as f64;
        Self { beside: Pass::of_step(all, &longest, settings), demonstrations: (every, share), ..self }
    }

    /// Generating and judging, scoring by three models what is trained on, and the inner epochs of two, the policy's of so many rounds.
    pub(super) fn flops_of_ppo(&self, (policy, reward): (&LlamaConfig, &LlamaConfig), rounds: f64, settings: &Settings) -> f64 {
        let trained = |config| forward_flops(config, &self.trained);
        let train = |config| flops(config, settings.engine, &self.trained);
        let inner = settings.ppo.inner_epochs as f64;
        let (demonstrations, share) = &self.demonstrations;
        let beside = share * flops(policy, settings.engine, demonstrations);
        let scoring = 2.0 * trained(policy) + trained(reward);
        self.judged(policy, reward) + scoring + inner * (rounds * (train(policy) + beside) + train(reward))
    }

    /// Generating, judging, and a step of so many rounds.
    pub(super) fn flops_of_raft(&self, (policy, judge): (&LlamaConfig, &LlamaConfig), rounds: f64, settings: &Settings) -> f64 {
        self.judged(policy, judge) + rounds * flops(policy, settings.engine, &self.trained)
    }

    fn judged(&self, policy: &LlamaConfig, judge: &LlamaConfig) -> f64 {
        forward_flops(policy, &self.together) + forward_flops(judge, &self.together)
    }

    /// Passes of an optimizer step of the policy.
    pub(super) fn update_passes(&self) -> usize {
        self.passes.len() + self.beside.len()
    }

    /// While the answers are generated, while the policy is trained, or while the critic is.
    pub(super) fn peak_of_ppo(&self, (policy, critic): (&Sizes, &Sizes), holdings: &Holdings) -> Memory {
        // The reference and the judge are read and not trained.
        let read = policy.reference(holdings) + critic.read_only();
        let answers: Vec<&Pass> = self.passes.iter().collect();
        let training_critic = Memory { critics: read + most(critic, &NOTHING, &answers).total(), ..policy.resting(holdings) };
        self.peak_of_policy(policy, holdings, read + critic.resting(&NOTHING).total()).larger(training_critic)
    }

    /// While the answers are generated, while they are judged, or while the policy is trained.
    pub(super) fn peak_of_raft(&self, (policy, judge): (&Sizes, &Sizes), holdings: &Holdings) -> Memory {
        let scoring = self.passes.iter().map(|pass| judge.going_forward(pass)).max().unwrap_or(0);
        let judging = Memory { critics: judge.read_only() + scoring, ..policy.resting(holdings) };
        self.peak_of_policy(policy, holdings, judge.read_only()).larger(judging)
    }

    /// While the policy is trained, or generates, beside so many bytes of other models.
    fn peak_of_policy(&self, policy: &Sizes, holdings: &Holdings, critics: usize) -> Memory {
        let both: Vec<&Pass> = self.passes.iter().chain(&self.beside).collect();
        let training = Memory { critics, ..most(policy, holdings, &both) };
        training.larger(Memory { critics: critics + policy.generating(&self.generated), ..policy.resting(holdings) })
    }

    /// Bytes in ordinary memory besides, of these models while they are trained.
    pub(super) fn host(&self, policy: &Sizes, critic: Option<&Sizes>, holdings: &Holdings) -> usize {
        let of_critic = |pass| critic.map_or(0, |critic| critic.elsewhere(&NOTHING, pass));
        let of_pass = |pass| policy.elsewhere(holdings, pass) + of_critic(pass);
        let beside = self.beside.iter().map(|pass| policy.elsewhere(holdings, pass));
        self.passes.iter().map(of_pass).chain(beside).max().unwrap_or(0)
    }
}

/// The most of an optimizer step of these passes.
fn most(sizes: &Sizes, holdings: &Holdings, passes: &[&Pass]) -> Memory {
    let of_pass = |(place, pass): (usize, &&Pass)| sizes.peak(holdings, pass, [place, passes.len() - 1 - place]);
    passes.iter().enumerate().map(of_pass).fold(Memory::default(), Memory::larger)
}
