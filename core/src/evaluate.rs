//! Scoring examples without training on them.

use burn::tensor::Tensor;

use crate::engine::Engine;
use crate::error::Error;
use crate::model::{Policy, Readout};
use crate::objective::{last_by_sequence, sum_by_sequence};
use crate::slab::floats;
use crate::tokens::Batch;

/// One number for every sequence of a batch, `[sequences]`: Σ_t log π(y_t | y_<t, x) of a policy, the reward of a reward model.
///
/// # Errors
/// If the device fails.
///
/// # Panics
/// If the model is read as a critic, which says nothing of a sequence as a whole.
pub async fn sequence_scores(policy: &Policy, engine: Engine, batch: &Batch) -> Result<Vec<f32>, Error> {
    let scores = engine.scores(policy, batch);
    let of_sequences: Tensor<1> = match policy.readout() {
        Readout::LogProbs => sum_by_sequence(scores, batch),
        Readout::ValueAfter => last_by_sequence(scores, batch),
        Readout::ValueBefore => panic!("a critic scores tokens, not sequences"),
    };
    floats(of_sequences.into_data_async().await.map_err(Error::device)?)
}
