//! A step of RAFT: the best answers to a batch of prompts are demonstrations.

use super::agenda::{Item, passes};
use super::answers::Answer;
use super::{StepReport, Trainer};
use crate::error::Error;
use crate::generate::Finish;
use crate::objective::Sft;
use crate::reduce::Reduce;
use crate::rollout::best;
use crate::tokens::{Batch, Group};
use crate::trainer::term::{Term, TermReport};

/// This rank's best answers, and what all ranks' came to.
struct Chosen {
    groups: Vec<Group>,
    /// Means over prompts.
    metrics: Vec<(&'static str, f64)>,
    /// Of all ranks', prompts included.
    tokens: usize,
}

impl<R: Reduce> Trainer<R> {
    /// Trains on the best of the answers of the step under way.
    pub(super) async fn learn_the_best(&mut self) -> Result<StepReport, Error> {
        let running = self.running_now();
        let (item, step, steps) = (running.agenda.items[running.done].clone(), running.done + 1, running.agenda.items.len());
        let Chosen { groups, metrics, tokens } = self.choose(&item).await?;
        let batch = |part: Vec<usize>| self.settings.batch(part.iter().map(|&answer| &groups[answer]));
        let parts = passes(&groups, (0..groups.len()).collect(), &self.settings);
        let batches: Vec<Batch> = parts.into_iter().map(batch).collect();
        let (reports, norms) = self.optimize(&[Term { objective: &Sft, batches, factor: 1.0 }], &item).await?;
        self.running_now().done += 1;
        let TermReport { loss, .. } = reports.into_iter().next().unwrap_or_default();
        Ok(StepReport {
            phase: self.phases[self.position].name.clone(),
            objective: item.aim.name(),
            step,
            steps,
            loss,
            penalty: norms.penalty,
            grad_norm: norms.gradient,
            penalty_grad_norm: norms.penalty_gradient,
            learning_rate: item.rate,
            tokens,
            metrics,
        })
    }

    /// Of every prompt the answer that the judge likes best.
    async fn choose(&mut self, item: &Item) -> Result<Chosen, Error> {
        let answers = self.take_answers(item).await?;
        let each = self.settings.raft.rollout().answers;
        let (scores, score) = self.scores(&answers, item, answers.len() / each).await?;
        let chosen = best(&scores, each);
        let of = |quantity: &dyn Fn(&Answer) -> f64| chosen.iter().map(|&answer| quantity(&answers[answer])).sum::<f64>();
        let mut totals = [
            chosen.iter().map(|&answer| f64::from(scores[answer])).sum(),
            of(&|answer| answer.group.response_tokens() as f64),
            of(&|answer| f64::from(u8::from(answer.finish == Finish::Length))),
            of(&|answer| answer.group.longest() as f64),
        ];
        self.reduce.sum(&mut totals).await;
        let [best_score, response_tokens, unfinished, tokens] = totals;
        let mean = |sum: f64| sum / item.examples.len() as f64;
        let metrics = vec![
            ("score", score),
            ("best_score", mean(best_score)),
            ("response_tokens", mean(response_tokens)),
            ("missing_eos", mean(unfinished)),
        ];
        let groups = chosen.iter().map(|&answer| answers[answer].group.clone()).collect();
        Ok(Chosen { groups, metrics, tokens: tokens as usize })
    }
}
