//! Engines: how scores and parameter gradients come about.
//!
//! All engines give the same numbers. [`Engine::Autodiff`] records one graph of Burn's autodiff and is the oracle the
//! others are tested against. [`Engine::Whole`] and [`Engine::Segmented`] run the layers' closed-form backward passes;
//! they differ in what the forward pass keeps: every activation, or only each layer's input.

mod layered;
mod oracle;
mod sink;
#[cfg(test)]
mod tests;

pub use sink::{Accumulate, GradientSink, Square};

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::model::Policy;
use crate::tokens::Batch;
use layered::Keep;

/// Response positions whose logits exist at the same time in [`Engine::Segmented`].
const HEAD_CHUNK: usize = 256;

/// How a model's backward pass is organised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// One autodiff graph over the whole model: slow and large, but nobody here wrote its derivatives.
    Autodiff,
    /// Keeps every layer's activations: fastest, memory grows with layers · tokens.
    #[default]
    Whole,
    /// Keeps each layer's input and recomputes the layer on the way back; the vocabulary head runs in chunks. A third
    /// more arithmetic for a fraction of the memory.
    Segmented,
}

impl Engine {
    /// log π of every response token, `[R]`, without any gradient.
    pub fn scores(self, policy: &Policy, batch: &Batch) -> Tensor<1> {
        layered::scores(policy, batch, HEAD_CHUNK)
    }

    /// The logits of every position, padding included, `[rows · width, V]`.
    pub fn logits(self, policy: &Policy, batch: &Batch) -> Tensor<2> {
        layered::logits(policy, batch)
    }

    /// Runs forward, asks `seeds` for d loss / d scores given the scores `[R]`, and hands every unit's gradient to `sink`.
    pub fn gradients(
        self,
        policy: &Policy,
        batch: &Batch,
        seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
        sink: &mut dyn GradientSink,
    ) {
        match self {
            Self::Autodiff => oracle::gradients(policy, batch, seeds, sink),
            Self::Whole => layered::gradients(policy, batch, Keep::Activations, seeds, sink),
            Self::Segmented => layered::gradients(policy, batch, Keep::Inputs { head_chunk: HEAD_CHUNK }, seeds, sink),
        }
    }
}

/// A batch's integers on the device.
struct Indices {
    tokens: Tensor<1, Int>,
    reads: Tensor<1, Int>,
    targets: Tensor<1, Int>,
}

impl Indices {
    fn new(batch: &Batch, device: &Device) -> Self {
        let tensor = |values: &[i32]| Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device);
        Self { tokens: tensor(&batch.tokens), reads: tensor(&batch.reads), targets: tensor(&batch.targets) }
    }
}
