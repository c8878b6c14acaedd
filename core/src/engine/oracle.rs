//! The oracle: the forward pass recorded by Burn's autodiff, in one graph.

use std::sync::Arc;

use burn::tensor::{Tensor, activation::log_softmax};

use super::{GradientSink, Indices};
use crate::model::{Decoder, LayerInput, Policy};
use crate::tokens::Batch;

pub(super) fn gradients(policy: &Policy, batch: &Batch, seeds: impl FnOnce(Tensor<1>) -> Tensor<1>, sink: &mut dyn GradientSink) {
    let device = &policy.compute().device;
    let leaves: Vec<Tensor<2>> = policy.tensors().iter().map(|t| t.clone().autodiff().require_grad()).collect();
    let decoder = Decoder::new(Arc::new(policy.config().clone()), leaves.clone());
    let shared = LayerInput::new(policy.config(), batch.rows, batch.width, device);
    let indices = Indices::new(batch, device);
    let read = decoder.norm(decoder.hidden(indices.tokens, &shared)).select(0, indices.reads); // [R, D]
    let count = batch.response_tokens();
    let log_probs = log_softmax(read.matmul(decoder.head()), 1).gather(1, indices.targets.reshape([count, 1]));
    let log_probs = log_probs.reshape([count]);
    let seeds = seeds(log_probs.clone().inner());
    let mut gradients = (log_probs * seeds).sum().backward();
    for (unit, leaf) in leaves.iter().enumerate() {
        if let Some(gradient) = leaf.grad_remove(&mut gradients) {
            sink.take(unit, gradient);
        }
    }
}
