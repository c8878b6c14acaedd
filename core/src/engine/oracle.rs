//! The oracle: the forward pass recorded by Burn's autodiff, in one graph.

use burn::tensor::{Tensor, activation::log_softmax};

use super::tensors::indices;
use super::{GradientSink, Reads, Texts};
use crate::kernel::vocabulary::logits;
use crate::model::{Decoder, LayerInput, Policy, Readout};
use crate::tokens::Batch;

pub(super) fn gradients(
    policy: &Policy,
    batch: &Batch,
    reads: &Reads,
    seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
    sink: &mut dyn GradientSink,
) {
    let (device, texts) = (&policy.compute().device, Texts::of(batch));
    let leaves: Vec<Tensor<2>> = policy.tensors().iter().map(|t| t.clone().autodiff().require_grad()).collect();
    let decoder = Decoder::new(policy.shared_config(), &leaves);
    let shared = LayerInput::new(policy.config(), &texts, policy.compute());
    let hidden = decoder.norm(decoder.hidden(indices(&texts.tokens, device), &shared));
    let read = hidden.select(0, indices(&reads.positions, device)); // [R, D]
    let scores = match policy.readout() {
        Readout::LogProbs => {
            let targets = indices(&reads.targets, device).unsqueeze_dim::<2>(1); // [R, 1]
            log_softmax(logits(read, decoder.head(), shared.products()), 1).gather(1, targets).squeeze_dim::<1>(1)
        }
        Readout::ValueBefore | Readout::ValueAfter => logits(read, decoder.head(), shared.products()).squeeze_dim::<1>(1),
    };
    let seeds = seeds(scores.clone().inner());
    let mut gradients = (scores * seeds).sum().backward();
    for (unit, leaf) in leaves.iter().enumerate() {
        if let Some(gradient) = leaf.grad_remove(&mut gradients) {
            sink.take(unit, gradient);
        }
    }
}
