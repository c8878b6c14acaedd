//! What moments are measured on: held-out examples and problems, the same for all lanes.

use super::frame::{Generation, Moment, Prompt};
use super::judge::Judge;
use super::plane::{Corner, hypervolume};
use super::settings::{BATCH, BUCKET, LabSettings};
use super::{LabError, words};
use crate::engine::{Accumulate, Alignment, Dot, Engine, GradientSink};
use crate::error::Error;
use crate::evaluate::sequence_scores;
use crate::generate::Completion;
use crate::model::Policy;
use crate::objective::{Objective, Sft};
use crate::reduce::Alone;
use crate::tokens::{Batch, Column, Group, Sequence};
use crate::toy::skill::{Problem, SkillData, SkillScores, TAILS, generate, judge};
use crate::trainer::{Data, Term, accumulate};

/// Problems that every moment answers besides the pinned prompts.
const PROBLEMS: usize = 32;

/// Held-out examples, and what the start weights made of them.
pub(super) struct Gauge {
    demonstrations: Batch,
    /// With the start weights' log-probabilities.
    pub(super) preferences: Batch,
    /// The first examples of each kind, as many as an optimizer step has, whose gradients are compared.
    probes: [Batch; 2],
    problems: Vec<Problem>,
    /// Who judges answers, where someone does.
    pub(super) judge: Option<Judge>,
}

/// What a policy answers, and what that is worth.
struct Answered {
    generations: Vec<Generation>,
    scores: SkillScores,
    /// The judge's.
    score: Option<f64>,
}

/// How a policy stands at both objectives.
struct Losses {
    sft: f64,
    reward: f64,
    accuracy: f64,
    dpo: f64,
}

impl Gauge {
    /// The gauge of a lab, and the data that its lanes train on.
    pub(super) async fn new(settings: &LabSettings, start: &Policy) -> Result<(Data, Self), LabError> {
        let SkillData { demonstrations, mut preferences, problems } = generate(&settings.skill())?;
        let batch = Batch::new(&preferences.validation, BUCKET);
        let reference = sequence_scores(start, Engine::Whole, &batch).await?;
        for (group, reference) in preferences.validation.iter_mut().zip(reference.as_chunks::<2>().0) {
            group.columns.insert(Column::ReferenceLogProb, reference.to_vec());
        }
        let probe = |groups: &[Group]| Batch::new(&groups[..BATCH], BUCKET);
        let gauge = Self {
            demonstrations: Batch::new(&demonstrations.validation, BUCKET),
            preferences: Batch::new(&preferences.validation, BUCKET),
            probes: [probe(&demonstrations.validation), probe(&preferences.validation)],
            problems: problems.into_iter().take(PROBLEMS).collect(),
            judge: None,
        };
        Ok((Data { demonstrations: demonstrations.train, preferences: preferences.train }, gauge))
    }

    /// The pinned prompts.
    pub(super) fn prompts(&self) -> Vec<Prompt> {
        words::PROMPTS.iter().map(|prompt| words::describe(prompt)).collect()
    }

    /// The best that can be had: each demonstration's tail is one of five, and nothing tells which.
    pub(super) fn ideal(&self) -> Corner {
        let (groups, tokens) = (self.demonstrations.groups.len() as f64, self.demonstrations.response_tokens() as f64);
        Corner::ideal(groups * f64::from(TAILS).ln() / tokens)
    }

    /// Everything but the drift, which the caller knows.
    pub(super) async fn moment(&self, policy: &Policy, settings: &LabSettings) -> Result<Moment, LabError> {
        let losses = self.losses(policy, settings).await?;
        let alignment = self.alignment(policy, settings).await?;
        let Answered { generations, scores, score } = self.generations(policy).await?;
        let point = Corner { sft_loss: losses.sft, reward: losses.reward };
        Ok(Moment {
            lane: 0,
            step: 0,
            phase: 0,
            sft_loss: losses.sft,
            reward: losses.reward,
            accuracy: losses.accuracy,
            dpo_loss: losses.dpo,
            exact_covered: scores.exact_match.covered,
            exact_other: scores.exact_match.uncovered,
            casual: scores.casual.covered,
            score,
            hypervolume: hypervolume(&[point], self.ideal()),
            cosine: alignment.overall,
            unit_cosines: alignment.units,
            unit_drift: vec![0.0; policy.units().len()],
            generations,
        })
    }

    /// Both objectives alone, the cheap part of a moment.
    pub(super) async fn point(&self, policy: &Policy, settings: &LabSettings) -> Result<Corner, LabError> {
        let losses = self.losses(policy, settings).await?;
        Ok(Corner { sft_loss: losses.sft, reward: losses.reward })
    }

    async fn losses(&self, policy: &Policy, settings: &LabSettings) -> Result<Losses, Error> {
        let demonstrations = sequence_scores(policy, Engine::Whole, &self.demonstrations).await?;
        let preferences = sequence_scores(policy, Engine::Whole, &self.preferences).await?;
        let reference = self.preferences.column(Column::ReferenceLogProb);
        let pairs = preferences.len() as f64 / 2.0;
        let mut losses = Losses { sft: 0.0, reward: 0.0, accuracy: 0.0, dpo: 0.0 };
        losses.sft =
            -demonstrations.iter().map(|sum| f64::from(*sum)).sum::<f64>() / self.demonstrations.response_tokens() as f64;
        for (now, then) in preferences.as_chunks::<2>().0.iter().zip(reference.as_chunks::<2>().0) {
            let [now, then] = [now, then].map(|[chosen, rejected]| f64::from(*chosen) - f64::from(*rejected));
            losses.reward += sigmoid(now) / pairs;
            losses.accuracy += f64::from(u8::from(now > then)) / pairs;
            losses.dpo -= log_sigmoid(settings.beta * (now - then)) / pairs;
        }
        Ok(losses)
    }

    /// The angle between both objectives' gradients on the probes.
    async fn alignment(&self, policy: &Policy, settings: &LabSettings) -> Result<Alignment, Error> {
        let mut sft = Accumulate::new(policy.units().len());
        gradient(policy, (&Sft, &self.probes[0]), &mut sft).await?;
        let mut dot = Dot::new(sft);
        gradient(policy, (&settings.dpo(), &self.probes[1]), &mut dot).await?;
        dot.alignment().await
    }

    /// Both objectives' gradients on the probes.
    pub(super) async fn gradients(&self, policy: &Policy, settings: &LabSettings) -> Result<[Accumulate; 2], Error> {
        let mut sums = [(); 2].map(|()| Accumulate::new(policy.units().len()));
        gradient(policy, (&Sft, &self.probes[0]), &mut sums[0]).await?;
        gradient(policy, (&settings.dpo(), &self.probes[1]), &mut sums[1]).await?;
        Ok(sums)
    }

    /// The answers to the pinned prompts, and how all answers score.
    async fn generations(&self, policy: &Policy) -> Result<Answered, LabError> {
        let pinned = words::PROMPTS.map(words::problem);
        let prompts: Vec<Vec<u32>> = pinned.iter().chain(&self.problems).map(Problem::prompt).collect();
        let completions = words::answers(policy, &prompts).await?;
        let (shown, counted) = completions.split_at(pinned.len());
        let generation = |(problem, completion): (&Problem, &Completion)| Generation {
            tokens: words::marked(Some(problem), &completion.tokens),
        };
        let score = match &self.judge {
            Some(judge) => Some(judge.mean_score(&self.covered(counted)).await?),
            None => None,
        };
        let generations = pinned.iter().zip(shown).map(generation).collect();
        Ok(Answered { generations, scores: judge(&self.problems, counted), score })
    }

    /// The answers to problems of the tasks that preferences cover, as a judge reads them.
    fn covered(&self, completions: &[Completion]) -> Vec<Group> {
        let answers = self.problems.iter().zip(completions).filter(|(problem, _)| problem.task().covered());
        let group = |(problem, completion): (&Problem, &Completion)| {
            let sequence = Sequence::new(problem.prompt(), &completion.tokens).expect("neither is empty");
            Group::demonstration(0, sequence)
        };
        answers.map(group).collect()
    }
}

async fn gradient(
    policy: &Policy,
    (objective, batch): (&dyn Objective, &Batch),
    sink: &mut dyn GradientSink,
) -> Result<(), Error> {
    let term = Term { objective, batches: vec![batch.clone()], factor: 1.0 };
    accumulate(Engine::Whole, policy, &[term], sink, &Alone).await.map(drop)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Without overflow on either side.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::compute::Compute;
    use crate::toy::random_policy;

    /// log π of every response, added up token by token, by the oracle.
    fn sums(policy: &Policy, batch: &Batch) -> Vec<f64> {
        let scores = Engine::Autodiff.scores(policy, batch).into_data().try_into_vec::<f32>().unwrap();
        let sum = |tokens: &std::ops::Range<usize>| scores[tokens.clone()].iter().map(|score| f64::from(*score)).sum();
        batch.sequences.iter().map(sum).collect()
    }

    #[test]
    fn the_plane_is_of_the_models_own_preference_and_the_loss_of_its_change() {
        let settings = LabSettings::default();
        let policy = |seed| random_policy(settings.model.config(), Compute::host(Device::flex()), seed);
        let (start, trained) = (policy(1), policy(2));
        let (_, gauge) = pollster::block_on(Gauge::new(&settings, &start)).unwrap();
        let found = pollster::block_on(gauge.losses(&trained, &settings)).unwrap();
        let [now, then] = [&trained, &start].map(|policy| sums(policy, &gauge.preferences));
        let pairs = now.as_chunks::<2>().0.iter().zip(then.as_chunks::<2>().0);
        let margins: Vec<[f64; 2]> = pairs.map(|(now, then)| [now[0] - now[1], then[0] - then[1]]).collect();
        let mean = |of: &dyn Fn(&[f64; 2]) -> f64| margins.iter().map(of).sum::<f64>() / margins.len() as f64;
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let reward = mean(&|[now, _]| logistic(*now));
        let dpo = mean(&|[now, then]| -logistic(settings.beta * (now - then)).ln());
        assert!(
            (found.reward - reward).abs() < 1e-5 && (found.dpo - dpo).abs() < 1e-5,
            "{} {reward}, {} {dpo}",
            found.reward,
            found.dpo
        );
        let demonstrations = &gauge.demonstrations;
        let sft = -sums(&trained, demonstrations).iter().sum::<f64>() / demonstrations.targets.len() as f64;
        assert!((found.sft - sft).abs() < 1e-5, "{} {sft}", found.sft);
        // One of five tails per demonstration is all that nobody can know.
        let least = demonstrations.groups.len() as f64 * 5f64.ln() / demonstrations.targets.len() as f64;
        assert!((gauge.ideal().sft_loss - least).abs() < 1e-12);
    }
}
