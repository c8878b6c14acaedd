//! Logits over ordinary memory, where no gradient is asked for.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::few::{add_few, few, few_transposed};
use super::matrix::{Matrix, multiplied};
use super::norm::rms_norm;
use super::weight::{Weight, tensor};
use crate::model::{LlamaConfig, Policy};

/// The final norm and the vocabulary head.
pub(crate) struct Logits {
    config: Arc<LlamaConfig>,
    norm: Tensor<2>,
    /// `[V, D]` where it is the embedding, else `[D, V]`.
    weight: Tensor<2>,
}

impl Logits {
    pub(crate) fn new(policy: &Policy) -> Self {
        let weight = policy.tensors()[policy.config().head_index()].clone();
        Self { config: policy.shared_config(), norm: policy.norm_weight(), weight }
    }

    /// Those of hidden states `[C, D]`, `[C, V]`.
    pub(crate) fn of(&self, read: Tensor<2>) -> Tensor<2> {
        let device = read.device();
        let ([rows, width], read, norm) = (read.dims(), Weight::new(read), Weight::new(self.norm.clone()));
        let normed = rms_norm(read.values(), norm.values(), self.config.rms_norm_eps as f32);
        let tied = self.config.head_index() == 0;
        let logits = match (few(rows, &self.weight), tied) {
            (true, true) => few_transposed(&normed, &self.weight),
            (true, false) => {
                let mut logits = vec![0.0; rows * self.config.vocab_size];
                add_few(&normed, &self.weight, &mut logits);
                logits
            }
            (false, _) => {
                let weight = Weight::new(self.weight.clone());
                let head = if tied { weight.matrix().transposed() } else { weight.matrix() };
                multiplied(Matrix::new(&normed, rows, width), head)
            }
        };
        tensor(logits, [rows, self.config.vocab_size], &device)
    }
}
