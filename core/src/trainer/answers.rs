//! Phases that train on the policy's own answers: how these are drawn, and what a judge makes of them.

use rand::RngExt;

use super::agenda::{Item, passes};
use super::{Event, Trainer};
use crate::error::{Aftermath, Error};
use crate::generate::{Completion, Finish, GenerateError, GenerateSettings, generate_at};
use crate::model::Policy;
use crate::ppo::Critics;
use crate::random::stream;
use crate::reduce::Reduce;
use crate::rollout::Rollout;
use crate::schedule::{Aim, Phase, Work};
use crate::slab::floats;
use crate::tokens::{Group, Sequence};
use crate::watch::Part;

/// This rank's answers of the step under way. They are not saved: the same come again.
#[derive(Default)]
pub(super) struct Answers {
    /// As far as they are there: those to the first prompt first.
    known: Vec<Answer>,
    /// Whether one of them could not be given, because its logits were no numbers: all ranks are to stop then.
    spoiled: bool,
}

pub(super) struct Answer {
    pub(super) group: Group,
    pub(super) finish: Finish,
}

impl<R: Reduce> Trainer<R> {
    /// Whether there is all that a phase of answers needs, and the judge can read what the policy writes.
    pub(super) fn check_critics(&self, phase: &Phase) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::Critics { phase: phase.name.clone(), problem });
        let Some(critics) = &self.critics else { return refuse("and there is no reward model to judge them".into()) };
        let [policy, reward] = [&self.policy, critics.reward()].map(|model| model.config().vocab_size);
        if reward < policy {
            return refuse(format!("and the reward model knows {reward} of the policy's {policy} tokens"));
        }
        match phase.has_critic() && critics.value().is_none() {
            true => refuse("by PPO, and there is no critic".into()),
            false => Ok(()),
        }
    }

    pub(super) fn judges(&self) -> &Critics {
        self.critics.as_ref().expect("a phase of answers begins with them")
    }

    /// How the phase under way answers.
    fn rollout(&self) -> Rollout {
        match &self.phases[self.position].work {
            Work::One { aim: Aim::Raft, .. } => self.settings.raft.rollout(),
            _ => self.settings.ppo.rollout(),
        }
    }

    /// Whether the step under way lacks answers.
    pub(super) fn lacks_answers(&self) -> bool {
        let Some(running) = &self.current else { return false };
        let wanted = || self.rollout().answers * self.share(&running.agenda.items[running.done]).len();
        self.phases[self.position].rolls_out() && !running.answers.spoiled && running.answers.known.len() < wanted()
    }

    /// Gives a few more answers.
    pub(super) async fn answer(&mut self) -> Result<Event, Error> {
        let rollout = self.rollout();
        let running = self.running_now();
        let (item, step, done) = (running.agenda.items[running.done].clone(), running.done, running.answers.known.len());
        let share = self.share(&item);
        let total = rollout.answers * share.len();
        // Of every prompt all answers, one after the other, each with a stream of its own.
        let few = done..(done + rollout.batch).min(total);
        let places: Vec<(usize, usize)> = few.map(|place| (share[place / rollout.answers], place % rollout.answers)).collect();
        let writing = self.policy.compute().under(Part::Answers);
        let completions = self.completions(&places, "answers", step as u64).await;
        drop(writing);
        let completions = match completions {
            Err(GenerateError::NotFinite { .. }) => {
                self.running_now().answers.spoiled = true;
                return Ok(Event::Answered { done, total });
            }
            completions => self.generated(completions)?,
        };
        let answers = places.iter().zip(completions).map(|(&(example, _), completion)| self.answered(example, completion));
        let answers: Vec<Answer> = answers.collect();
        let known = &mut self.running_now().answers.known;
        known.extend(answers);
        Ok(Event::Answered { done: known.len(), total })
    }

    /// An answer of the policy as it is, for the phase's Fisher information.
    pub(super) async fn sample(&self, example: usize) -> Result<Group, Error> {
        let completions = self.completions(&[(example, 0)], "sample", 0).await;
        Ok(self.answered(example, self.generated(completions)?.remove(0)).group)
    }

    /// The policy's completions of the prompts of these preferences, each the so-manieth of its prompt's.
    async fn completions(&self, places: &[(usize, usize)], label: &str, step: u64) -> Result<Vec<Completion>, GenerateError> {
        let (rollout, phase) = (self.rollout(), &self.phases[self.position].name);
        let prompts: Vec<Vec<u32>> = places.iter().map(|&(example, _)| self.prompt(example).to_vec()).collect();
        let streams: Vec<u64> = places.iter().map(|&(example, nth)| (example * rollout.answers + nth) as u64).collect();
        let settings = GenerateSettings {
            max_new_tokens: rollout.max_new_tokens,
            sampling: rollout.sampling,
            eos: self.judges().eos().to_vec(),
            seed: stream(self.settings.seed, &format!("{label} {phase}"), &[step]).random(),
            batch_size: prompts.len().max(1),
        };
        generate_at(&self.policy, &prompts, &streams, &settings).await
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

    /// This rank's answers of a step, all of them.
    pub(super) async fn take_answers(&mut self, item: &Item) -> Result<Vec<Answer>, Error> {
        let Answers { known, spoiled } = std::mem::take(&mut self.running_now().answers);
        self.stop_at("logit of an answer", if spoiled { f64::NAN } else { 0.0 }, item).await?;
        Ok(known)
    }

    /// The judge's scores of this rank's answers, and the mean of all ranks'; at most `most` of them are cut into passes together, and so
    /// many answers are to as many prompts.
    pub(super) async fn scores(&self, answers: &[Answer], item: &Item, most: usize) -> Result<(Vec<f32>, f64), Error> {
        let order = in_turns(answers.len(), self.rollout().answers);
        let judged: Vec<Group> = order.iter().map(|&answer| self.judged(&answers[answer])).collect();
        let rewards = self.by_token(self.judges().reward(), &judged, most).await?;
        let mut scores = vec![0.0; answers.len()];
        for (&answer, tokens) in order.iter().zip(&rewards) {
            // A reward model's verdict counts at the last token.
            scores[answer] = tokens.last().copied().unwrap_or(f32::NAN);
        }
        let mut sum = [scores.iter().map(|score| f64::from(*score)).sum()];
        self.stop_at("score of an answer", sum[0], item).await?;
        self.reduce.sum(&mut sum).await;
        Ok((scores, sum[0] / (self.rollout().answers * item.examples.len()) as f64))
    }

    /// An answer as the judge reads it.
    fn judged(&self, answer: &Answer) -> Group {
        let (sequence, suffix) = (&answer.group.sequences[0], self.judges().suffix());
        if answer.finish == Finish::Length || suffix.is_empty() {
            return answer.group.clone();
        }
        let response = [sequence.response(), suffix].concat();
        let sequence = Sequence::new(sequence.prompt().to_vec(), &response).expect("neither is empty");
        Group::demonstration(answer.group.index, sequence)
    }

    /// Stops all ranks if a number of one is none.
    async fn stop_at(&self, quantity: &'static str, value: f64, item: &Item) -> Result<(), Error> {
        let mut lost = [f64::from(u8::from(!value.is_finite()))];
        self.reduce.sum(&mut lost).await;
        if lost[0] == 0.0 { Ok(()) } else { self.check(quantity, f64::NAN, item, Aftermath::Untouched) }
    }

    /// One number per response token of every group's only sequence. At most so many of them, as an optimizer step has, are cut into passes
    /// together: where they answer as many prompts, nothing that only scores takes more memory than training. Where a mini-batch is all of
    /// them, passes are training's, and as long as the policy is the one that answered, its ratio is 1 to the last bit; within rounding else.
    pub(super) async fn by_token(&self, model: &Policy, groups: &[Group], most: usize) -> Result<Vec<Vec<f32>>, Error> {
        let _verdicts = self.policy.compute().under(Part::Verdicts);
        let mut scores = vec![Vec::new(); groups.len()];
        let all: Vec<usize> = (0..groups.len()).collect();
        for part in all.chunks(most.max(1)).flat_map(|few| passes(groups, few.to_vec(), &self.settings)) {
            let batch = self.settings.batch(part.iter().map(|&answer| &groups[answer]));
            let found = self.settings.engine.scores(model, &batch).into_data_async().await.map_err(Error::device)?;
            let found = floats(found)?;
            for (&answer, tokens) in part.iter().zip(&batch.sequences) {
                scores[answer] = found[tokens.clone()].to_vec();
            }
        }
        Ok(scores)
    }
}

/// The places of so many answers, `each` to a prompt and those to the first prompt first, in turns: first of every prompt the first one.
fn in_turns(answers: usize, each: usize) -> Vec<usize> {
    (0..each).flat_map(|nth| (nth..answers).step_by(each)).collect()
}

#[cfg(test)]
mod tests {
    use super::in_turns;

    #[test]
    fn answers_to_one_prompt_are_far_from_each_other() {
        assert_eq!(in_turns(6, 3), [0, 3, 1, 4, 2, 5]);
        assert_eq!(in_turns(4, 1), [0, 1, 2, 3]);
        assert_eq!(in_turns(0, 5), [0; 0]);
    }
}
