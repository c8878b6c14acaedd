//! A step's terms: objectives with their batches, summed into one gradient.

use burn::tensor::Tensor;

use crate::engine::{Engine, GradientSink};
use crate::error::Error;
use crate::model::Policy;
use crate::objective::{Loss, Objective, seeds};
use crate::reduce::Reduce;
use crate::slab::floats;
use crate::tokens::Batch;

/// One objective's part of an optimizer step. SFT + PPO in one step are two terms.
pub struct Term<'a> {
    /// What is minimised.
    pub objective: &'a dyn Objective,
    /// This rank's share of the optimizer batch, cut for memory; how it is cut changes nothing.
    pub batches: Vec<Batch>,
    /// The term's factor in the total loss.
    pub factor: f64,
}

/// What a term came to over the whole optimizer batch, all ranks together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TermReport {
    /// The mean loss, without the factor.
    pub loss: f64,
    /// Means over groups; empty on a rank that had no batch.
    pub metrics: Vec<(&'static str, f64)>,
}

/// Adds the gradient of Σ factor·loss to `sink` and reports each term.
///
/// # Errors
/// If the device fails.
pub async fn accumulate<R: Reduce>(
    engine: Engine,
    policy: &Policy,
    terms: &[Term<'_>],
    sink: &mut dyn GradientSink,
    reduce: &R,
) -> Result<Vec<TermReport>, Error> {
    let mut reports = Vec::with_capacity(terms.len());
    let mut passes: usize = terms.iter().map(|term| term.batches.len()).sum();
    for term in terms {
        let groups: usize = term.batches.iter().map(|b| b.groups.len()).sum();
        let mut totals = [term.batches.iter().map(|b| term.objective.weight(b)).sum(), groups as f64];
        reduce.sum(&mut totals).await;
        let mut losses = Vec::with_capacity(term.batches.len());
        for batch in &term.batches {
            let seeds = |scores| {
                let (seeds, loss) = seeds(term.objective, scores, batch, term.factor / totals[0]);
                losses.push(loss);
                seeds
            };
            if passes == 1 {
                sink.last_pass();
            }
            passes -= 1;
            engine.gradients(policy, batch, seeds, sink);
        }
        reports.push(report(losses, totals, reduce).await?);
    }
    Ok(reports)
}

/// Means over all ranks from sums over this rank's batches; `totals` are the objective's weight and the number of groups.
///
/// A rank without a batch takes part in the sums, and learns the loss; the names of metrics it has no way to know.
pub(super) async fn report<R: Reduce>(losses: Vec<Loss>, totals: [f64; 2], reduce: &R) -> Result<TermReport, Error> {
    let names: Vec<&'static str> = losses.first().into_iter().flat_map(|l| &l.metrics).map(|(name, _)| *name).collect();
    let mut sums = vec![0.0; width(names.len(), losses.is_empty(), reduce).await];
    let rows = losses.len();
    let values: Vec<Tensor<1>> =
        losses.into_iter().flat_map(|l| std::iter::once(l.sum).chain(l.metrics.into_iter().map(|(_, v)| v))).collect();
    if !values.is_empty() {
        let values = floats(Tensor::cat(values, 0).into_data_async().await.map_err(Error::device)?)?;
        for row in values.chunks(values.len() / rows) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
    }
    reduce.sum(&mut sums).await;
    let metrics = names.into_iter().zip(&sums[1..]).map(|(name, sum)| (name, sum / totals[1])).collect();
    Ok(TermReport { loss: sums[0] / totals[0], metrics })
}

/// How many numbers every rank has to sum: the loss and the metrics, as counted by the ranks that have a batch.
async fn width<R: Reduce>(metrics: usize, empty: bool, reduce: &R) -> usize {
    let mut counts = if empty { [0.0; 2] } else { [metrics as f64, 1.0] };
    reduce.sum(&mut counts).await;
    1 + (counts[0] / counts[1].max(1.0)) as usize
}
