//! A step of PPO whose answers all are as long as they may become.

use std::cmp::Reverse;

use super::memory::{Holdings, Memory, Sizes};
use super::work::{Pass, flops, forward_flops};
use crate::model::LlamaConfig;
use crate::tokens::{Group, Sequence};
use crate::trainer::{Data, Settings};

/// The critic holds nothing for consolidation.
const NOTHING: Holdings = Holdings { anchor: false, start: false, fisher: 0 };

/// Bytes of judge and critic while neither is at work.
pub(super) fn waiting(critic: &Sizes) -> usize {
    let Memory { weights, master, .. } = critic.resting(&NOTHING);
    critic.read_only() + weights + master
}

/// The answers of one step.
pub(super) struct Answers {
    /// All of them in one pass.
    together: Pass,
    /// Those that are trained on, if they are the longest.
    pub(super) trained: Pass,
    /// Those that are generated together, and their prompts.
    generated: [Pass; 2],
    /// The passes of the first mini-batch, which no other has more of.
    passes: Vec<Pass>,
    /// Those of demonstrations beside it, if they are the longest.
    beside: Vec<Pass>,
    /// All demonstrations, and the share of them that goes beside an inner epoch.
    demonstrations: (Pass, f64),
}

impl Answers {
    pub(super) fn new(data: &Data, examples: &[usize], settings: &Settings) -> Self {
        let answered = |tokens: usize| {
            let response = vec![0; tokens];
            let answer = |&example: &usize| {
                let prompt = data.preferences[example].sequences[0].prompt().to_vec();
                Group::demonstration(example, Sequence::new(prompt, &response).expect("neither is empty"))
            };
            let mut groups: Vec<Group> = examples.iter().map(answer).collect();
            groups.sort_by_key(|group| Reverse(group.longest()));
            groups
        };
        let groups = answered(settings.ppo.max_new_tokens.max(1));
        let first = |count: usize| (0..count.min(groups.len())).collect::<Vec<usize>>();
        let apart = Settings { pack: None, ..*settings };
        let kept = settings.ppo.kept(groups.len());
        let beside = if settings.ppo.sft_coefficient > 0.0 { settings.ppo.mini_batch(kept) } else { 0 };
        let all = if beside > 0 { data.demonstrations.as_slice() } else { &[] };
        let mut longest: Vec<usize> = (0..all.len()).collect();
        longest.sort_by_key(|&example| Reverse(all[example].longest()));
        let longest: Vec<usize> = longest.into_iter().cycle().take(beside).collect();
        Self {
            together: Pass::one(&groups, &first(groups.len()), &apart),
            trained: Pass::one(&groups, &first(kept), &apart),
            generated: [&groups, &answered(1)].map(|groups| Pass::one(groups, &first(settings.ppo.rollout_batch.max(1)), &apart)),
            passes: Pass::of_step(&groups, &first(settings.ppo.mini_batch(kept)), settings),
            beside: Pass::of_step(all, &longest, settings),
            demonstrations: (Pass::one(all, &(0..all.len()).collect::<Vec<_>>(), &apart), kept as f64 / all.len().max(1) as f64),
        }
    }

    /// Generating and judging, scoring by three models what is trained on, and the inner epochs of two, the policy's of so many rounds.
    pub(super) fn flops(&self, (policy, reward): (&LlamaConfig, &LlamaConfig), rounds: f64, settings: &Settings) -> f64 {
        let all = |config| forward_flops(config, &self.together);
        let trained = |config| forward_flops(config, &self.trained);
        let train = |config| flops(config, settings.engine, &self.trained);
        let inner = settings.ppo.inner_epochs as f64;
        let (demonstrations, share) = &self.demonstrations;
        let beside = share * flops(policy, settings.engine, demonstrations);
        let scoring = 2.0 * trained(policy) + trained(reward);
        all(policy) + all(reward) + scoring + inner * (rounds * (train(policy) + beside) + train(reward))
    }

    /// Passes of an optimizer step of the policy.
    pub(super) fn update_passes(&self) -> usize {
        self.passes.len() + self.beside.len()
    }

    /// While the answers are generated, while the policy is trained, or while the critic is.
    pub(super) fn peak(&self, (policy, critic): (&Sizes, &Sizes), holdings: &Holdings) -> Memory {
        let resting = policy.resting(holdings);
        // The reference and the judge are read and not trained.
        let read = policy.reference(holdings) + critic.read_only();
        let critics = read + critic.resting(&NOTHING).total();
        let with = |memory: Memory, critics: usize| Memory { critics, ..memory };
        let most = |sizes: &Sizes, holdings: &Holdings, passes: &[&Pass]| {
            let of_pass = |(place, pass): (usize, &&Pass)| sizes.peak(holdings, pass, [place, passes.len() - 1 - place]);
            passes.iter().enumerate().map(of_pass).fold(Memory::default(), Memory::larger)
        };
        let answers: Vec<&Pass> = self.passes.iter().collect();
        let both: Vec<&Pass> = self.passes.iter().chain(&self.beside).collect();
        with(most(policy, holdings, &both), critics)
            .larger(with(resting, critics + policy.generating(&self.generated)))
            .larger(with(resting, read + most(critic, &NOTHING, &answers).total()))
    }

    /// Bytes in ordinary memory besides.
    pub(super) fn host(&self, (policy, critic): (&Sizes, &Sizes), holdings: &Holdings) -> usize {
        let of_pass = |pass| policy.elsewhere(holdings, pass) + critic.elsewhere(&NOTHING, pass);
        let beside = self.beside.iter().map(|pass| policy.elsewhere(holdings, pass));
        self.passes.iter().map(of_pass).chain(beside).max().unwrap_or(0)
    }
}
