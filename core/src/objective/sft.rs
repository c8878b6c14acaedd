//! Supervised fine-tuning: maximum likelihood of the responses.

use burn::tensor::Tensor;

use super::{Loss, Objective};
use crate::tokens::Batch;

/// Token-mean negative log-likelihood, L = −Σ_t log π(y_t | y_<t, x) / Σ|y|.
///
/// The mean is over the response tokens of the whole optimizer batch (as torchtune and TRL count them), never a mean of
/// per-batch means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sft;

impl Objective for Sft {
    fn name(&self) -> &'static str {
        "sft"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.response_tokens() as f64
    }

    fn loss(&self, scores: Tensor<1>, _: &Batch) -> Loss {
        Loss { sum: scores.sum().neg(), metrics: Vec::new() }
    }
}
