//! A phase of PPO. Each of its steps answers a batch of prompts, appraises the answers, and trains on them for a few epochs.

mod beside;
mod experience;
mod updates;

use rand::RngExt;

use super::agenda::Item;
use super::{Event, Running, Start, Trainer};
use crate::error::Error;
use crate::generate::{Completion, Finish, GenerateError, GenerateSettings, generate_at};
use crate::model::Policy;
use crate::optimizer::{AdamW, Pull};
use crate::ppo::{Critics, Ppo};
use crate::random::stream;
use crate::reduce::Reduce;
use crate::schedule::Phase;
use crate::tokens::{Group, Sequence};

/// What such a phase keeps besides what every phase does.
pub(super) struct RollingOut {
    /// The critic's.
    pub(super) optimizer: AdamW,
    /// β.
    pub(super) beta: f64,
    /// The policy at the phase's start; `None` where it is yet to be made from what a resumed run has of it.
    pub(super) reference: Option<Policy>,
    /// This rank's answers of the step under way, as far as they are there. They are not saved: the same come again.
    answers: Vec<Answer>,
    /// Whether one of them could not be given, because its logits were no numbers: all ranks are to stop then.
    spoiled: bool,
}

struct Answer {
    group: Group,
    finish: Finish,
}

impl RollingOut {
    /// At the start of a phase, whose reference is the policy as it is.
    pub(super) fn new(ppo: &Ppo, optimizer: AdamW, policy: &Policy) -> Self {
        Self { optimizer, beta: ppo.kl_coefficient, reference: Some(policy.as_seen()), answers: Vec::new(), spoiled: false }
    }
}

impl<R: Reduce> Trainer<R> {
    /// The judge and the critic, without which there is no PPO, and whether the judge can read what the policy writes.
    pub(super) fn checked_critics(&self, phase: &Phase) -> Result<&Critics, Error> {
        let refuse = |problem: String| Error::Critics { phase: phase.name.clone(), problem };
        let critics = self.critics.as_ref().ok_or_else(|| refuse("and there is no reward model to judge its answers".into()))?;
        let [policy, reward] = [&self.policy, critics.reward()].map(|model| model.config().vocab_size);
        match reward < policy {
            true => Err(refuse(format!("and its reward model knows {reward} of the policy's {policy} tokens"))),
            false => Ok(critics),
        }
    }

    fn judges(&self) -> &Critics {
        self.critics.as_ref().expect("a phase of PPO begins with them")
    }

    fn rolling_out(&mut self) -> &mut RollingOut {
        match &mut self.current {
            Some(Running { rolling_out: Some(rolling), .. }) => rolling,
            _ => unreachable!("only called within a phase of PPO"),
        }
    }

    /// Whether the step under way lacks answers.
    pub(super) fn lacks_answers(&self) -> bool {
        let Some(Running { rolling_out: Some(rolling), agenda, done, .. }) = &self.current else { return false };
        !rolling.spoiled && rolling.answers.len() < self.share(&agenda.items[*done]).len()
    }

    /// This rank's examples of a step.
    pub(super) fn share(&self, item: &Item) -> Vec<usize> {
        item.examples.iter().copied().skip(self.reduce.rank()).step_by(self.reduce.world()).collect()
    }

    /// Answers a few more prompts.
    pub(super) async fn answer(&mut self) -> Result<Event, Error> {
        let running = self.running_now();
        let (item, step) = (running.agenda.items[running.done].clone(), running.done);
        let share = self.share(&item);
        let known = self.rolling_out().answers.len();
        let few = self.settings.ppo.rollout_batch.max(1);
        let examples = &share[known..(known + few).min(share.len())];
        let completions = match self.completions(examples, "answers", step as u64).await {
            Err(GenerateError::NotFinite { .. }) => {
                self.rolling_out().spoiled = true;
                return Ok(Event::Answered { done: known, total: share.len() });
            }
            completions => self.generated(completions)?,
        };
        let answers = examples.iter().zip(completions).map(|(&example, completion)| self.answered(example, completion));
        let answers: Vec<Answer> = answers.collect();
        self.rolling_out().answers.extend(answers);
        Ok(Event::Answered { done: self.rolling_out().answers.len(), total: share.len() })
    }

    /// An answer of the policy as it is, for the phase's Fisher information.
    pub(super) async fn sample(&self, example: usize) -> Result<Group, Error> {
        let completions = self.completions(&[example], "sample", 0).await;
        Ok(self.answered(example, self.generated(completions)?.remove(0)).group)
    }

    /// The policy's completions of the prompts of these preferences.
    async fn completions(&self, examples: &[usize], label: &str, step: u64) -> Result<Vec<Completion>, GenerateError> {
        let (ppo, phase) = (self.settings.ppo, &self.phases[self.position].name);
        let prompts: Vec<Vec<u32>> = examples.iter().map(|&example| self.prompt(example).to_vec()).collect();
        let places: Vec<u64> = examples.iter().map(|&example| example as u64).collect();
        let settings = GenerateSettings {
            max_new_tokens: ppo.max_new_tokens.max(1),
            sampling: ppo.sampling,
            eos: self.judges().eos().to_vec(),
            seed: stream(self.settings.seed, &format!("{label} {phase}"), &[step]).random(),
            batch_size: prompts.len().max(1),
        };
        generate_at(&self.policy, &prompts, &places, &settings).await
    }

    fn generated(&self, completions: Result<Vec<Completion>, GenerateError>) -> Result<Vec<Completion>, Error> {
        completions.map_err(|error| match error {
            GenerateError::Device(error) => error,
            other => Error::Answers { phase: self.phases[self.position].name.clone(), reason: other.to_string() },
        })
    }

    fn prompt(&self, example: usize) -> &[u32] {
        self.data.preferences[example].sequences[0].prompt()
    }

    fn answered(&self, example: usize, completion: Completion) -> Answer {
        let index = self.data.preferences[example].index;
        let sequence = Sequence::new(self.prompt(example).to_vec(), &completion.tokens).expect("neither is empty");
        Answer { group: Group::demonstration(index, sequence), finish: completion.finish }
    }

    /// Makes the reference of a resumed phase from the weights of its start.
    async fn make_reference(&mut self) -> Result<(), Error> {
        if self.rolling_out().reference.is_some() {
            return Ok(());
        }
        let mut reference = self.policy.as_seen();
        for index in 0..self.policy.units().len() {
            reference.set_seen(index, &self.at_start(index).await?);
        }
        self.rolling_out().reference = Some(reference);
        Ok(())
    }

    /// A unit's weights at the phase's start.
    async fn at_start(&mut self, index: usize) -> Result<Vec<f32>, Error> {
        let unreadable = |reason: String| Error::PhaseStart { phase: self.phases[self.position].name.clone(), reason };
        let Some(running) = &mut self.current else { unreachable!("only called within a phase") };
        match (&mut running.start, &running.pull) {
            (Start::Copy(slabs), _) => slabs[index].values().await,
            (Start::Anchor, Some(Pull { anchor, .. })) => anchor[index].values().await,
            (Start::Stored(Some(stored)), _) => stored.read(&self.policy.units()[index]).map_err(unreadable),
            (Start::Anchor, None) | (Start::Stored(None), _) => {
                Err(unreadable("no reader was handed over when the phase started".into()))
            }
        }
    }
}
