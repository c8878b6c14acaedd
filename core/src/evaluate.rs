//! Scoring examples without training on them.

use burn::tensor::Tensor;

use crate::engine::Engine;
use crate::error::Error;
use crate::model::Policy;
use crate::objective::sum_by_sequence;
use crate::slab::floats;
use crate::tokens::Batch;

/// Σ_t log π(y_t | y_<t, x) of every sequence of a batch, `[sequences]`.
///
/// # Errors
/// If the device fails.
pub async fn sequence_log_probs(policy: &Policy, engine: Engine, batch: &Batch) -> Result<Vec<f32>, Error> {
    let sums: Tensor<1> = sum_by_sequence(engine.scores(policy, batch), batch);
    floats(sums.into_data_async().await.map_err(Error::device)?)
}
