//! Engines: how scores and parameter gradients come about.
//!
//! All engines give the same numbers. [`Engine::Autodiff`] records one graph of Burn's autodiff and is the oracle the
//! others are tested against. [`Engine::Whole`] and [`Engine::Segmented`] run the layers' closed-form backward passes;
//! they differ in what the forward pass keeps: every activation, or only each layer's input. Where tensors are ordinary
//! memory they run as loops over it, elsewhere as tensor operations.

mod continued;
mod layered;
mod oracle;
mod passes;
mod sink;
mod tensors;
#[cfg(test)]
mod tests;

pub(crate) use continued::{Continued, begin, prefill};
pub(crate) use passes::{BringBack, Head, HeadGradients, Layers, Texts};
pub use sink::{Accumulate, Alignment, Dot, GradientSink, Square};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::compute::Memory;
use crate::host::{self, HostLayers};
use crate::model::{Policy, Readout};
use crate::tokens::Batch;
use layered::{How, Keep};
use tensors::{TensorLayers, Value, Vocabulary};

/// Response positions whose logits are computed together: enough to reuse the vocabulary's weights, while the logits of
/// 50 000 tokens still take no more than 100 MB.
pub(crate) const HEAD_CHUNK: usize = 512;

/// How a model's backward pass is organised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// One autodiff graph over the whole model: slow and large, but nobody here wrote its derivatives.
    Autodiff,
    /// Keeps every layer's activations: fastest, memory grows with layers · tokens.
    #[default]
    Whole,
    /// Keeps each layer's input and recomputes the layer on the way back; the logits of the response tokens exist chunk
    /// by chunk. A third more arithmetic for a fraction of the memory.
    Segmented,
}

impl Engine {
    /// One score per response token, `[R]`, as [`Policy::readout`] says, without any gradient.
    ///
    /// # Panics
    /// If the batch is empty.
    pub fn scores(self, policy: &Policy, batch: &Batch) -> Tensor<1> {
        let reads = Reads::new(policy.readout(), batch, HEAD_CHUNK);
        scores(policy, batch, &reads)
    }

    /// The logits of every position of a model with a vocabulary head, `[rows · width, V]`; those of padding mean nothing.
    ///
    /// # Panics
    /// If the model has a value head.
    pub fn logits(self, policy: &Policy, batch: &Batch) -> Tensor<2> {
        let positions: Vec<i32> = (0..batch.tokens.len() as i32).collect();
        logits(policy, &Texts::of(batch).whole_rows(), &positions)
    }

    /// Runs forward, asks `seeds` for d loss / d scores given the scores `[R]`, and hands every unit's gradient to `sink`.
    ///
    /// # Panics
    /// If the batch is empty.
    pub fn gradients(
        self,
        policy: &Policy,
        batch: &Batch,
        seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
        sink: &mut dyn GradientSink,
    ) {
        self.pass(policy, batch).gradients(seeds, sink);
    }

    /// The same, yet to be run, and holding the policy's weights but not the policy: a sink may change it meanwhile.
    pub(crate) fn pass(self, policy: &Policy, batch: &Batch) -> Pass {
        let reads = Reads::new(policy.readout(), batch, HEAD_CHUNK);
        let how = match self {
            Self::Autodiff => {
                let (policy, batch) = (policy.clone(), batch.clone());
                return Pass(Box::new(move |seeds, sink| oracle::gradients(&policy, &batch, &reads, seeds, sink)));
            }
            Self::Whole => How::new(policy, Keep::Activations),
            Self::Segmented => How::new(policy, Keep::Inputs),
        };
        pass(policy, &Texts::of(batch), how, reads)
    }
}

/// A forward and backward pass that is yet to run. It lets go of a unit's weights before it hands out the unit's gradient, but
/// for the oracle's.
pub(crate) struct Pass(Run);

type Run = Box<dyn FnOnce(&mut dyn FnMut(Tensor<1>) -> Tensor<1>, &mut dyn GradientSink)>;

impl Pass {
    /// Runs it; see [`Engine::gradients`].
    pub(crate) fn gradients(self, seeds: impl FnOnce(Tensor<1>) -> Tensor<1>, sink: &mut dyn GradientSink) {
        let mut seeds = Some(seeds);
        (self.0)(&mut |scores| seeds.take().expect("scores come once")(scores), sink);
    }
}

/// What is read of a batch.
pub(crate) struct Reads {
    /// Padded positions of hidden states. `[R]`
    positions: Vec<i32>,
    /// The response tokens they are read for. `[R]`
    targets: Vec<i32>,
    /// How many are read together.
    chunk: usize,
}

impl Reads {
    fn new(readout: Readout, batch: &Batch, chunk: usize) -> Self {
        let offset = match readout {
            Readout::LogProbs | Readout::ValueBefore => 0,
            Readout::ValueAfter => 1,
        };
        let positions = batch.reads.iter().map(|read| read + offset).collect();
        Self { positions, targets: batch.targets.clone(), chunk }
    }
}

fn scores(policy: &Policy, batch: &Batch, reads: &Reads) -> Tensor<1> {
    let (config, texts) = (policy.config(), Texts::of(batch));
    match (policy.compute().layout.memory, policy.readout()) {
        (Memory::Host, Readout::LogProbs) => {
            layered::scores(&HostLayers::new(policy, &texts), &host::Vocabulary::new(policy), config, reads)
        }
        (Memory::Host, _) => layered::scores(&HostLayers::new(policy, &texts), &Value::new(policy), config, reads),
        (Memory::Device, Readout::LogProbs) => {
            layered::scores(&TensorLayers::new(policy, &texts), &Vocabulary::new(policy), config, reads)
        }
        (Memory::Device, _) => layered::scores(&TensorLayers::new(policy, &texts), &Value::new(policy), config, reads),
    }
}

fn pass(policy: &Policy, texts: &Texts, how: How, reads: Reads) -> Pass {
    let (host, tensors) = (|| HostLayers::new(policy, texts), || TensorLayers::new(policy, texts));
    match (policy.compute().layout.memory, policy.readout()) {
        (Memory::Host, Readout::LogProbs) => layer_by_layer(host(), host::Vocabulary::new(policy), how, reads),
        (Memory::Host, _) => layer_by_layer(host(), Value::new(policy), how, reads),
        (Memory::Device, Readout::LogProbs) => layer_by_layer(tensors(), Vocabulary::new(policy), how, reads),
        (Memory::Device, _) => layer_by_layer(tensors(), Value::new(policy), how, reads),
    }
}

fn layer_by_layer<L: Layers + 'static, H: Head + 'static>(layers: L, head: H, how: How, reads: Reads) -> Pass {
    Pass(Box::new(move |seeds, sink| layered::gradients((layers, head), &how, &reads, seeds, sink)))
}

/// The logits at padded positions of texts, `[positions, V]`.
fn logits(policy: &Policy, texts: &Texts, positions: &[i32]) -> Tensor<2> {
    assert_eq!(policy.readout(), Readout::LogProbs, "logits need a vocabulary head");
    let layers = policy.config().num_hidden_layers;
    match policy.compute().layout.memory {
        Memory::Host => host::Logits::new(policy).of(layered::read(&HostLayers::new(policy, texts), layers, positions)),
        Memory::Device => Vocabulary::new(policy).logits(layered::read(&TensorLayers::new(policy, texts), layers, positions)),
    }
}
