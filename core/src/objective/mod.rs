//! Objectives: functions of one score per response token.
//!
//! An objective sees a policy only through log π(y_t | y_<t, x) of the response tokens, or a critic or reward model only
//! through one value per token. It knows no model, no device and no file; its derivative with respect to the scores
//! (the *seeds* of the backward pass) comes from autodiff on that small leaf.

mod dpo;
mod ppo;
mod reward;
mod rrhf;
mod sft;

pub use dpo::Dpo;
pub use ppo::{ClippedSurrogate, ClippedValue};
pub use reward::Reward;
pub use rrhf::Rrhf;
pub use sft::Sft;

use burn::tensor::{Int, Tensor, TensorData};

use crate::tokens::Batch;

/// A named sum over a batch's groups; divided by the number of groups it becomes the mean that is reported.
pub type MetricSum = (&'static str, Tensor<1>);

/// What an objective makes of one batch.
#[derive(Debug)]
pub struct Loss {
    /// The loss summed over the batch, not yet divided by [`Objective::weight`]. `[1]`
    pub sum: Tensor<1>,
    /// Metrics summed over the batch's groups, `[1]` each.
    pub metrics: Vec<MetricSum>,
}

/// A training objective.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use hbat::objective::{Loss, Objective};
/// use hbat::tokens::Batch;
///
/// /// Half the squared distance of every token's log-probability from zero.
/// struct Quadratic;
///
/// impl Objective for Quadratic {
///     fn name(&self) -> &'static str {
///         "quadratic"
///     }
///     fn weight(&self, batch: &Batch) -> f64 {
///         batch.response_tokens() as f64
///     }
///     fn loss(&self, scores: Tensor<1>, _: &Batch) -> Loss {
///         Loss { sum: scores.square().sum() * 0.5, metrics: vec![] }
///     }
/// }
/// ```
pub trait Objective: Send + Sync {
    /// The name that reports use.
    fn name(&self) -> &'static str;

    /// How much the batch counts: tokens for a mean over tokens, groups for a mean over groups. Summed over the whole
    /// optimizer batch (accumulated, data-parallel) before anything is divided by it.
    fn weight(&self, batch: &Batch) -> f64;

    /// The loss of the batch's `scores` `[R]`, one per response token in the order of [`Batch::targets`].
    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss;
}

/// The loss of `scores` `[R]` without gradients, and its seeds d loss / d scores `[R]`, the seeds times `factor`.
pub(crate) fn seeds(objective: &dyn Objective, scores: Tensor<1>, batch: &Batch, factor: f64) -> (Tensor<1>, Loss) {
    let leaf = scores.autodiff().require_grad();
    let loss = objective.loss(leaf.clone(), batch);
    let mut gradients = loss.sum.backward();
    let seeds = leaf.grad_remove(&mut gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like());
    let metrics = loss.metrics.into_iter().map(|(name, value)| (name, value.inner())).collect();
    (seeds * factor, Loss { sum: loss.sum.inner(), metrics })
}

/// Sums token scores `[R]` by sequence: `[sequences]`.
///
/// Gathers every sequence's tokens into a row, so that forward and backward are one kernel each and no sum depends on
/// the order in which threads arrive.
pub fn sum_by_sequence(scores: Tensor<1>, batch: &Batch) -> Tensor<1> {
    let device = scores.device();
    let longest = batch.sequences.iter().map(|s| s.len()).max().unwrap_or(0);
    let cells = |f: &dyn Fn(usize, usize) -> bool| -> Vec<bool> {
        batch.sequences.iter().flat_map(|s| (0..longest).map(move |i| (s.len(), i))).map(|(n, i)| f(n, i)).collect()
    };
    let filled = cells(&|length, i| i < length);
    let indices: Vec<i32> =
        batch.sequences.iter().flat_map(|s| (0..longest).map(move |i| (s.start + i.min(s.len() - 1)) as i32)).collect();
    let mask: Vec<f32> = filled.iter().map(|&f| if f { 1.0 } else { 0.0 }).collect();
    let shape = [batch.sequences.len(), longest];
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [shape[0] * shape[1]]), &device.clone().inner());
    let mask = Tensor::<2>::from_data(TensorData::new(mask, shape), &device.inner());
    let rows = scores.select(0, indices).reshape(shape); // [sequences, longest]
    (rows * mask).sum_dim(1).reshape([shape[0]])
}

/// The score of the last token of every sequence of `scores` `[R]`: `[sequences]`. By position, not by token: texts may end without an
/// end-of-sequence token, and padding may be one.
pub fn last_by_sequence(scores: Tensor<1>, batch: &Batch) -> Tensor<1> {
    let last: Vec<i32> = batch.sequences.iter().map(|sequence| sequence.end as i32 - 1).collect();
    let count = last.len();
    let last = Tensor::<1, Int>::from_data(TensorData::new(last, [count]), &scores.device().inner());
    scores.select(0, last)
}

/// One side of pairs `[pairs, 2]`: `[pairs]`.
fn column(pairs: &Tensor<2>, which: usize) -> Tensor<1> {
    let rows = pairs.dims()[0];
    pairs.clone().narrow(1, which, 1).reshape([rows])
}
