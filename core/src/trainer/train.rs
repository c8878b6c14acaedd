//! One optimizer step.

use super::agenda::{Item, passes};
use super::term::{Term, TermReport, accumulate, report};
use super::{Running, StepReport, Trainer, UpdateTiming};
use crate::compute::Memory;
use crate::consolidation::Side;
use crate::engine::Accumulate;
use crate::error::{Aftermath, Error};
use crate::model::Policy;
use crate::objective::{Objective, Sft, seeds};
use crate::optimizer::{AdamW, Consolidate, Hold, Measure, Pull, StepNorms, Update};
use crate::reduce::Reduce;
use crate::schedule::Aim;
use crate::tokens::{Batch, Column, Group};

/// What changes a model's weights.
pub(super) struct Hands<'a> {
    pub(super) optimizer: &'a mut AdamW,
    pub(super) pull: Option<&'a Pull>,
    /// Which units stay.
    pub(super) frozen: &'a [bool],
}

/// Updates a model for what all ranks' gradients come to.
pub(super) async fn apply<R: Reduce>(
    model: &mut Policy,
    hands: Hands<'_>,
    sink: Accumulate,
    rate: f64,
    reduce: &R,
) -> Result<StepNorms, Error> {
    let mut gradients = Vec::new();
    for (unit, (gradient, frozen)) in sink.into_sums().into_iter().zip(hands.frozen).enumerate() {
        // A rank whose share of the batch is empty has no gradient, and still takes part in the sum.
        let none = || (reduce.world() > 1).then(|| model.tensors()[unit].zeros_like());
        gradients.push(match gradient.or_else(none) {
            Some(gradient) if !frozen => Some(reduce.sum_tensor(gradient).await),
            _ => None,
        });
    }
    hands.optimizer.step(model, gradients, hands.pull, rate, reduce).await
}

impl<R: Reduce> Trainer<R> {
    pub(super) async fn train(&mut self) -> Result<StepReport, Error> {
        let (item, step, steps) = {
            let running = self.running_now();
            (running.agenda.items[running.done].clone(), running.done + 1, running.agenda.items.len())
        };
        match item.aim {
            Aim::Ppo => return self.improve().await,
            Aim::Raft => return self.learn_the_best().await,
            _ => {}
        }
        let (dpo, rrhf, reward) = (self.settings.dpo, self.settings.rrhf, self.settings.reward);
        let objective: &dyn Objective = match item.aim {
            Aim::Sft => &Sft,
            Aim::Dpo => &dpo,
            Aim::Rrhf => &rrhf,
            Aim::Reward => &reward,
            Aim::Ppo | Aim::Raft => unreachable!("they begin with answers"),
        };
        let (batches, tokens) = self.batches(&item);
        let term = Term { objective, batches, factor: 1.0 };
        let (reports, norms) = self.optimize(&[term], &item).await?;
        self.running_now().done += 1;
        let TermReport { loss, metrics } = reports.into_iter().next().unwrap_or_default();
        let StepNorms { gradient: grad_norm, penalty, penalty_gradient: penalty_grad_norm } = norms;
        let (phase, objective, learning_rate) = (self.phases[self.position].name.clone(), objective.name(), item.rate);
        Ok(StepReport {
            phase,
            objective,
            step,
            steps,
            loss,
            penalty,
            grad_norm,
            penalty_grad_norm,
            learning_rate,
            tokens,
            metrics,
        })
    }

    /// One optimizer step of the policy; a report per term.
    pub(super) async fn optimize(&mut self, terms: &[Term<'_>], item: &Item) -> Result<(Vec<TermReport>, StepNorms), Error> {
        match self.settings.update {
            UpdateTiming::AfterBackward => self.after_backward(terms, item).await,
            UpdateTiming::InBackward => self.in_backward(terms, item).await,
        }
    }

    async fn after_backward(&mut self, terms: &[Term<'_>], item: &Item) -> Result<(Vec<TermReport>, StepNorms), Error> {
        let layout = self.policy.compute().layout;
        let own = layout.memory == Memory::Device && layout.updates() == layout.memory && self.reduce.world() == 1;
        let (reports, norms) = if own { self.as_they_come(terms, item).await? } else { self.all_at_once(terms, item).await? };
        self.check("gradient norm", norms.gradient, item, Aftermath::Untouched)?;
        Ok((reports, norms))
    }

    /// The penalty pulls on every gradient in the last backward pass.
    async fn as_they_come(&mut self, terms: &[Term<'_>], item: &Item) -> Result<(Vec<TermReport>, StepNorms), Error> {
        let Some(running) = &self.current else { unreachable!("step() checked") };
        let mut sink = Consolidate::new(&self.policy, running.pull.as_ref(), &running.frozen);
        let reports = accumulate(self.settings.engine, &self.policy, terms, &mut sink, &self.reduce).await?;
        let consolidated = sink.into_consolidated();
        self.check_losses((terms, &reports), item, Aftermath::Untouched)?;
        let Some(running) = &mut self.current else { unreachable!("step() checked") };
        Ok((reports, running.optimizer.finish(&mut self.policy, consolidated, item.rate).await?))
    }

    /// The penalty pulls on what all ranks' gradients came to.
    async fn all_at_once(&mut self, terms: &[Term<'_>], item: &Item) -> Result<(Vec<TermReport>, StepNorms), Error> {
        let mut sink = Accumulate::of(&self.policy);
        let reports = accumulate(self.settings.engine, &self.policy, terms, &mut sink, &self.reduce).await?;
        self.check_losses((terms, &reports), item, Aftermath::Untouched)?;
        let Some(running) = &mut self.current else { unreachable!("step() checked") };
        let Running { optimizer, pull, frozen, .. } = running;
        let hands = Hands { optimizer, pull: pull.as_ref(), frozen };
        Ok((reports, apply(&mut self.policy, hands, sink, item.rate, &self.reduce).await?))
    }

    /// Measures first and updates then, each with a pass of its own; without clipping, all at once.
    async fn in_backward(&mut self, terms: &[Term<'_>], item: &Item) -> Result<(Vec<TermReport>, StepNorms), Error> {
        let (objective, batch) = self.only(terms)?;
        let Some(running) = &mut self.current else { unreachable!("step() checked") };
        let clipped = running.agenda.optimizer.clip.is_finite();
        let totals = [objective.weight(batch), batch.groups.len() as f64];
        let mut loss = None;
        let mut seed = |scores| {
            let (seeds, found) = seeds(objective, scores, batch, 1.0 / totals[0]);
            loss = Some(found);
            seeds
        };
        let hold = Hold { pull: running.pull.as_ref(), frozen: &running.frozen };
        let mut norms = StepNorms::default();
        if clipped {
            let pass = self.settings.engine.pass(&self.policy, batch);
            let mut sink = Measure::new(&mut self.policy, hold);
            pass.gradients(&mut seed, &mut sink);
            norms = sink.norms().await?;
            self.check("gradient norm", norms.gradient, item, Aftermath::Untouched)?;
        }
        let Some(running) = &mut self.current else { unreachable!("step() checked") };
        let hold = Hold { pull: running.pull.as_ref(), frozen: &running.frozen };
        let pass = self.settings.engine.pass(&self.policy, batch);
        let mut sink = Update::new((&mut self.policy, &mut running.optimizer), hold, item.rate, norms);
        pass.gradients(&mut seed, &mut sink);
        let norms = sink.norms().await?;
        let reports = vec![report(loss.into_iter().collect(), totals, &self.reduce).await?];
        self.check_losses((terms, &reports), item, Aftermath::Spoiled)?;
        self.check("gradient norm", norms.gradient, item, Aftermath::Spoiled)?;
        Ok((reports, norms))
    }

    /// The only batch of a step, and what is minimised on it.
    fn only<'t>(&self, terms: &'t [Term<'_>]) -> Result<(&'t dyn Objective, &'t Batch), Error> {
        let passes = terms.iter().map(|term| term.batches.len()).sum::<usize>() * self.reduce.world();
        match terms {
            [Term { objective, batches, .. }] if passes == 1 => Ok((*objective, &batches[0])),
            _ => Err(Error::SeveralPasses { phase: self.phases[self.position].name.clone(), passes }),
        }
    }

    /// Whether every loss is a number; that of a further term is told with its own examples.
    fn check_losses(
        &self,
        (terms, reports): (&[Term<'_>], &[TermReport]),
        item: &Item,
        aftermath: Aftermath,
    ) -> Result<(), Error> {
        self.check("loss", reports.first().map_or(0.0, |report| report.loss), item, aftermath)?;
        match terms.iter().zip(reports).skip(1).find(|(_, report)| !report.loss.is_finite()) {
            Some((term, report)) => {
                let examples = term.batches.iter().flat_map(|batch| batch.indices.iter().copied()).collect();
                Err(self.not_finite(("loss of demonstrations", report.loss), examples, self.step_now(), aftermath))
            }
            None => Ok(()),
        }
    }

    pub(super) fn check(&self, quantity: &'static str, value: f64, item: &Item, aftermath: Aftermath) -> Result<(), Error> {
        let finite = value.is_finite();
        if finite { Ok(()) } else { Err(self.not_finite((quantity, value), self.named(item), self.step_now(), aftermath)) }
    }

    /// The step under way, from 1.
    fn step_now(&self) -> usize {
        self.current.as_ref().map_or(0, |running| running.done + 1)
    }

    /// What a step's examples call themselves.
    pub(super) fn named(&self, item: &Item) -> Vec<usize> {
        let groups = self.data.side(item.aim.side()).0;
        item.examples.iter().map(|&i| groups[i].index).collect()
    }

    pub(super) fn not_finite(
        &self,
        (quantity, value): (&'static str, f64),
        examples: Vec<usize>,
        step: usize,
        aftermath: Aftermath,
    ) -> Error {
        let phase = self.phases[self.position].name.clone();
        Error::NotFinite { quantity, value, phase, step, examples, aftermath }
    }

    /// This rank's examples of a step.
    pub(super) fn share(&self, item: &Item) -> Vec<usize> {
        item.examples.iter().copied().skip(self.reduce.rank()).step_by(self.reduce.world()).collect()
    }

    /// This rank's share of a step, cut into forward passes, and the number of tokens of the whole step.
    fn batches(&self, item: &Item) -> (Vec<Batch>, usize) {
        let groups = self.data.side(item.aim.side()).0;
        let tokens = item.examples.iter().flat_map(|&i| &groups[i].sequences).map(|s| s.tokens().len()).sum();
        let mine = self.share(item);
        let batch = |examples: Vec<usize>| {
            let groups: Vec<Group> = examples.into_iter().map(|i| self.with_reference(item.aim.side(), i)).collect();
            self.settings.batch(&groups)
        };
        (passes(groups, mine, &self.settings).into_iter().map(batch).collect(), tokens)
    }

    fn with_reference(&self, side: Side, example: usize) -> Group {
        let mut group = self.data.side(side).0[example].clone();
        if let Some(reference) =
            self.current.as_ref().and_then(|r| r.references.get(&example)).filter(|_| side == Side::Preference)
        {
            group.columns.insert(Column::ReferenceLogProb, reference.clone());
        }
        group
    }
}
