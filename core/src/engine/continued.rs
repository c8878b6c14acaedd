//! Texts that go on token by token. What attention reads of earlier tokens is kept, and layers compute new ones alone.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::passes::{Layers, Texts};
use super::tensors::{TensorLayers, Vocabulary, indices};
use crate::compute::{Compute, Memory};
use crate::host::HostContinued;
use crate::kernel::latest::{Columns, Past};
use crate::kernel::rotary::{Angles, Rotary};
use crate::model::{Kept, Layer, LlamaConfig, Places, Policy, Readout, Stack};

/// A decoder over texts that go on.
pub(crate) trait Continued {
    /// Reads one more token of each text; the logits after them, `[texts, V]`.
    fn step(&mut self, tokens: &[i32]) -> Tensor<2>;

    /// Whether it pays to let go of all texts but so many. Until then any token may go on for the others.
    fn pays(&self, open: usize) -> bool;

    /// Lets go of the texts that are not open.
    fn keep(&mut self, open: &[bool]);
}

/// Reads prompts; also the logits after each, `[texts, V]`.
pub(crate) fn begin(policy: &Policy, prompts: &Texts) -> (Box<dyn Continued + Send>, Tensor<2>) {
    assert_eq!(policy.readout(), Readout::LogProbs, "logits need a vocabulary head");
    match policy.compute().layout.memory {
        Memory::Host => {
            let (texts, logits) = HostContinued::begin(policy, prompts);
            (Box::new(texts), logits)
        }
        Memory::Device => {
            let (texts, logits) = TensorContinued::begin(policy, prompts);
            (Box::new(texts), logits)
        }
    }
}

/// What is kept of every layer, and the hidden states at padded positions, `[R, D]`, after all of them.
pub(crate) fn prefill<L: Layers, P>(
    layers: &L,
    count: usize,
    positions: &[i32],
    past: impl Fn(L::Kept) -> P,
) -> (Vec<P>, Tensor<2>) {
    let (mut pasts, mut hidden) = (Vec::with_capacity(count), layers.embed());
    for layer in 0..count {
        let (output, kept) = layers.forward(layer, &hidden);
        pasts.push(past(kept));
        hidden = output;
    }
    (pasts, layers.read(hidden, positions))
}

/// The same as tensor operations. A text that is over stays among the others until half of them are, for fewer texts are other shapes.
struct TensorContinued {
    config: Arc<LlamaConfig>,
    compute: Compute,
    stack: Stack,
    head: Vocabulary,
    /// How long each text is.
    lengths: Vec<usize>,
    columns: Columns,
    /// What each layer keeps.
    layers: Vec<Past>,
}

impl TensorContinued {
    fn begin(policy: &Policy, prompts: &Texts) -> (Self, Tensor<2>) {
        let (config, compute) = (policy.shared_config(), policy.compute().clone());
        let (layers, count) = (TensorLayers::new(policy, prompts), config.num_hidden_layers);
        let past = |kept: Kept| Past::new(kept.keys_and_values(), prompts.width, config.heads());
        let (layers, read) = prefill(&layers, count, &prompts.ends(), past);
        let head = Vocabulary::new(policy);
        let logits = head.logits(read);
        let lengths: Vec<usize> = prompts.spans.iter().map(|span| span.len()).collect();
        let columns = Columns::new(&lengths, &compute.device);
        (Self { config, compute, stack: policy.stack(), head, lengths, columns, layers }, logits)
    }

    /// Where the next token of each text stands.
    fn places(&self) -> Places {
        let angles = Angles::of(&self.config, self.lengths.iter().copied());
        Places::new(&self.config, Rotary::new(angles, &self.compute.device), &self.compute)
    }
}

impl Continued for TensorContinued {
    fn step(&mut self, tokens: &[i32]) -> Tensor<2> {
        let places = self.places();
        self.columns.advance();
        let mut hidden = self.stack.embed(indices(tokens, &self.compute.device));
        for (layer, past) in self.layers.iter_mut().enumerate() {
            let layer = Layer::new(self.stack.layer(layer), &places);
            let heads = layer.heads(hidden.clone(), &places);
            let context = past.attend(heads, &self.columns, places.attention);
            hidden = layer.output(&layer.inner(hidden, context));
        }
        self.lengths.iter_mut().for_each(|length| *length += 1);
        self.head.logits(hidden)
    }

    fn pays(&self, open: usize) -> bool {
        open * 2 <= self.lengths.len()
    }

    fn keep(&mut self, open: &[bool]) {
        let texts: Vec<usize> = (0..open.len()).filter(|text| open[*text]).collect();
        self.lengths = texts.iter().map(|text| self.lengths[*text]).collect();
        let texts: Vec<i32> = texts.into_iter().map(|text| text as i32).collect();
        let texts = indices(&texts, &self.compute.device);
        self.columns.keep(&texts);
        self.layers.iter_mut().for_each(|past| past.keep(&texts));
    }
}
