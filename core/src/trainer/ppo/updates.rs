//! The inner epochs: optimizer steps of policy and critic on a batch of answers.

use std::collections::BTreeMap;

use super::PpoPhase;
use super::experience::Experience;
use crate::engine::Accumulate;
use crate::error::{Aftermath, Error};
use crate::objective::{ClippedSurrogate, ClippedValue};
use crate::optimizer::StepNorms;
use crate::random::{permutation, stream};
use crate::reduce::Reduce;
use crate::schedule::{Order, Work, cold_steps};
use crate::tokens::{Batch, Group};
use crate::trainer::agenda::{Item, passes};
use crate::trainer::term::{Term, TermReport, accumulate};
use crate::trainer::train::{Hands, apply};
use crate::trainer::{Running, StepReport, Trainer};

/// Sums over a model's optimizer steps.
#[derive(Default)]
struct Totals {
    steps: f64,
    loss: f64,
    norms: StepNorms,
    /// Of the steps of which this rank had a part: of others it does not know them.
    metrics: BTreeMap<&'static str, Vec<f64>>,
}

impl Totals {
    fn add(&mut self, report: TermReport, norms: StepNorms) {
        self.steps += 1.0;
        self.loss += report.loss;
        self.norms.gradient += norms.gradient;
        self.norms.penalty += norms.penalty;
        self.norms.penalty_gradient += norms.penalty_gradient;
        report.metrics.into_iter().for_each(|(name, value)| self.metrics.entry(name).or_default().push(value));
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.steps.max(1.0)
    }

    fn metric(&self, name: &str) -> f64 {
        self.metrics.get(name).map_or(0.0, |values| values.iter().sum::<f64>() / values.len() as f64)
    }
}

impl<R: Reduce> Trainer<R> {
    /// Trains on the answers of the step under way.
    pub(in crate::trainer) async fn improve(&mut self) -> Result<StepReport, Error> {
        let running = self.running_now();
        let (item, done, steps) = (running.agenda.items[running.done].clone(), running.done, running.agenda.items.len());
        let experience = self.appraise(&item).await?;
        let cold = done < cold_steps(&self.phases, self.position, self.settings.ppo.cold_start);
        let (mut policy, mut critic, mut beside) = (Totals::default(), Totals::default(), 0.0);
        for (update, mini_batch) in self.mini_batches(&experience.kept, done).into_iter().enumerate() {
            let batches = self.laid_out(&experience.groups, mini_batch);
            if !cold {
                let objective = ClippedSurrogate { clip: self.settings.ppo.clip };
                let answers = Term { objective: &objective, batches: batches.clone(), factor: 1.0 };
                let terms: Vec<Term<'_>> = std::iter::once(answers).chain(self.beside(done, update)).collect();
                let optimized = self.optimize(&terms, &item).await;
                let (reports, norms) = optimized.map_err(|error| if critic.steps == 0.0 { error } else { spoiled(error) })?;
                beside += reports.get(1).map_or(0.0, |report| report.loss);
                policy.add(reports.into_iter().next().unwrap_or_default(), norms);
            }
            let (report, norms) = self.improve_critic(batches, &item).await?;
            critic.add(report, norms);
        }
        self.running_now().done += 1;
        let phase = self.phases[self.position].name.clone();
        let beta = if cold { self.ppo_phase().beta } else { self.next_beta(experience.kl, experience.kept.len()) };
        let tokens = experience.tokens;
        let mut metrics = metrics(experience, &policy, &critic, (beta, self.value_rate(&item)));
        if self.settings.ppo.sft_coefficient > 0.0 {
            metrics.push(("sft_loss", policy.mean(beside)));
        }
        Ok(StepReport {
            phase,
            objective: "ppo",
            step: done + 1,
            steps,
            // Whitened advantages sum to nothing, so that a policy that stays has no loss.
            loss: policy.mean(policy.loss),
            penalty: policy.mean(policy.norms.penalty),
            grad_norm: policy.mean(policy.norms.gradient),
            penalty_grad_norm: policy.mean(policy.norms.penalty_gradient),
            learning_rate: item.rate,
            tokens,
            metrics,
        })
    }

    /// β of the step that was taken; the next one's follows its distance.
    fn next_beta(&mut self, kl: f64, answers: usize) -> f64 {
        let control = self.settings.ppo.kl_control;
        let phase = self.ppo_phase();
        let beta = phase.beta;
        phase.beta = control.map_or(beta, |control| control.next(beta, kl, answers));
        beta
    }

    /// Which of the answers that this rank trains on make each optimizer step: all epochs, one after the other.
    fn mini_batches(&self, kept: &[usize], step: usize) -> Vec<Vec<usize>> {
        let (ppo, answers) = (self.settings.ppo, kept.len());
        let size = ppo.mini_batch(answers);
        let rank = |place: &usize| *place % self.reduce.world() == self.reduce.rank();
        let own: Vec<usize> = kept.iter().copied().filter(rank).collect();
        let epoch = |epoch: usize| -> Vec<Vec<usize>> {
            let order = match size < answers && self.settings.order == Order::Shuffled {
                true => shuffled(answers, self.settings.seed, &self.phases[self.position].name, [step, epoch]),
                false => (0..answers).collect(),
            };
            let mine = |places: &[usize]| places.iter().filter_map(|&p| own.binary_search(&kept[p]).ok()).collect();
            order.chunks(size).map(mine).collect()
        };
        (0..ppo.inner_epochs).flat_map(epoch).collect()
    }

    fn laid_out(&self, groups: &[Group], which: Vec<usize>) -> Vec<Batch> {
        let batch = |part: Vec<usize>| self.settings.batch(part.iter().map(|&answer| &groups[answer]));
        passes(groups, which, &self.settings).into_iter().map(batch).collect()
    }

    async fn improve_critic(&mut self, batches: Vec<Batch>, item: &Item) -> Result<(TermReport, StepNorms), Error> {
        let ppo = self.settings.ppo;
        let rate = self.value_rate(item);
        let (Some(critics), Some(Running { ppo: Some(PpoPhase { optimizer, .. }), .. })) = (&mut self.critics, &mut self.current)
        else {
            unreachable!("a phase of PPO has both")
        };
        let critic = critics.value.as_mut().expect("a phase of PPO begins with one");
        let objective = ClippedValue { clip: ppo.value_clip };
        let term = Term { objective: &objective, batches, factor: 1.0 };
        let mut sink = Accumulate::of(critic);
        let reports = accumulate(self.settings.engine, critic, &[term], &mut sink, &self.reduce).await?;
        let report = reports.into_iter().next().unwrap_or_default();
        let hands = Hands { optimizer, pull: None, frozen: &vec![false; critic.units().len()] };
        let norms = apply(critic, hands, sink, rate, &self.reduce).await?;
        self.check("loss of the value model", report.loss, item, Aftermath::Spoiled)?;
        self.check("gradient norm of the value model", norms.gradient, item, Aftermath::Spoiled)?;
        Ok((report, norms))
    }

    /// The critic's rate in a step: it goes as the policy's, and where that is 0 throughout, so is the critic's.
    fn value_rate(&self, item: &Item) -> f64 {
        let (Work::One { training, .. } | Work::Mixed { dpo: training, .. }) = &self.phases[self.position].work;
        match training.learning_rate {
            0.0 => 0.0,
            peak => item.rate / peak * self.settings.ppo.value_learning_rate,
        }
    }
}

/// What went wrong after the first of a step's updates.
fn spoiled(error: Error) -> Error {
    match error {
        Error::NotFinite { quantity, value, phase, step, examples, .. } => {
            Error::NotFinite { quantity, value, phase, step, examples, aftermath: Aftermath::Spoiled }
        }
        other => other,
    }
}

fn metrics(experience: Experience, policy: &Totals, critic: &Totals, (beta, rate): (f64, f64)) -> Vec<(&'static str, f64)> {
    let mut metrics = experience.metrics;
    metrics.extend([
        ("kl_coefficient", beta),
        ("clip_fraction", policy.metric("clip_fraction")),
        ("approx_kl", policy.metric("approx_kl")),
        ("value_loss", critic.mean(critic.loss)),
        ("value_clip_fraction", critic.metric("clip_fraction")),
        ("value_grad_norm", critic.mean(critic.norms.gradient)),
        ("value_learning_rate", rate),
    ]);
    metrics
}

/// The order in which an epoch of a step goes through its answers.
fn shuffled(answers: usize, seed: u64, phase: &str, place: [usize; 2]) -> Vec<usize> {
    permutation(answers, &mut stream(seed, &format!("mini-batches {phase}"), &place.map(|number| number as u64)))
}

#[cfg(test)]
mod tests {
    use super::shuffled;

    #[test]
    fn every_epoch_of_every_step_has_an_order_of_its_own() {
        let first = shuffled(12, 5, "ppo-1", [0, 0]);
        assert_eq!(first, shuffled(12, 5, "ppo-1", [0, 0]));
        for other in [shuffled(12, 5, "ppo-1", [0, 1]), shuffled(12, 5, "ppo-1", [1, 0]), shuffled(12, 5, "ppo-2", [0, 0])] {
            assert_ne!(first, other);
        }
    }
}
