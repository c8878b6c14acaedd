//! The vocabulary head: from hidden states to the log-probability of one target token each, and back.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation::softmax};

use super::product::wide_product;
use crate::compute::Products;

/// `hidden` · `head` in f32, `[R, D]` · `[D, V]`: logits of bf16 would be off by 0.06 where they are 20.
pub(crate) fn logits(hidden: Tensor<2>, head: Tensor<2>, products: Products) -> Tensor<2> {
    wide_product(hidden, head, products)
}

/// log π of the `targets` `[R]` under softmax(`logits`), and the probabilities, both `[R, V]`.
///
/// Computed in f32. log Σexp is recovered from the largest probability, max − log p_max, which is at least 1/V and so
/// never underflows; the log of a small p would.
pub(crate) fn log_probs(logits: Tensor<2>, targets: Tensor<1, Int>) -> (Tensor<1>, Tensor<2>) {
    let rows = logits.dims()[0];
    let chosen = logits.clone().gather(1, targets.reshape([rows, 1])); // [R, 1]
    let largest = logits.clone().max_dim(1); // [R, 1]
    let probabilities = softmax(logits, 1); // [R, V]
    let log_sum = largest - probabilities.clone().max_dim(1).log();
    ((chosen - log_sum).reshape([rows]), probabilities)
}

/// d loss / d logits `[R, V]` for seeds d loss / d log π `[R]`: s·(onehot(target) − p).
pub(crate) fn logits_gradient(probabilities: Tensor<2>, targets: Tensor<1, Int>, seeds: Tensor<1>) -> Tensor<2> {
    let rows = seeds.dims()[0];
    let seeds = seeds.reshape([rows, 1]);
    (probabilities * seeds.clone().neg()).scatter(1, targets.reshape([rows, 1]), seeds, IndexingUpdateOp::Add)
}
