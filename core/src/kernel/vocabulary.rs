//! The vocabulary head: from hidden states to the log-probability of one target token each, and back.

use burn::tensor::{FloatDType, IndexingUpdateOp, Int, Tensor};

use super::product::wide_product;
use crate::compute::{Kernels, Products};

/// `hidden` · `head` in f32, `[R, D]` · `[D, V]`: logits of bf16 would be off by 0.06 where they are 20.
pub(crate) fn logits(hidden: Tensor<2>, head: Tensor<2>, products: Products) -> Tensor<2> {
    wide_product(hidden, head, products)
}

/// log π of the `targets` `[R]` under softmax(`logits` `[R, V]`), and log Σexp of each row, both `[R]` and f32.
pub(crate) fn log_probs(logits: Tensor<2>, targets: Tensor<1, Int>, kernels: Option<Kernels>) -> (Tensor<1>, Tensor<1>) {
    if let Some(own) = kernels {
        return (own.log_probs)(logits, targets);
    }
    let rows = logits.dims()[0];
    let chosen = logits.clone().gather(1, targets.reshape([rows, 1])); // [R, 1]
    let largest = logits.clone().max_dim(1); // [R, 1]
    let sums = (logits - largest.clone()).exp().sum_dim(1).log() + largest; // [R, 1]
    ((chosen - sums.clone()).reshape([rows]), sums.reshape([rows]))
}

/// d loss / d logits `[R, V]` for seeds d loss / d log π `[R]`, in a type: s·(onehot(target) − p), where p = exp(logit − log Σexp).
pub(crate) fn logits_gradient(
    (logits, sums): (Tensor<2>, Tensor<1>),
    targets: Tensor<1, Int>,
    seeds: Tensor<1>,
    (to, kernels): (FloatDType, Option<Kernels>),
) -> Tensor<2> {
    if let Some(own) = kernels {
        return (own.logits_gradient)(logits, sums, targets, seeds, to);
    }
    let rows = seeds.dims()[0];
    let [sums, seeds] = [sums, seeds].map(|numbers| numbers.reshape([rows, 1]));
    let probabilities = (logits - sums).exp();
    (probabilities * seeds.clone().neg()).scatter(1, targets.reshape([rows, 1]), seeds, IndexingUpdateOp::Add).cast(to)
}
