//! Texts that go on, over ordinary memory: one row per open text, and no padding in what is kept of them.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::latest::{Past, latest};
use super::layer::{Layer, Shared};
use super::layers::{HostLayers, embedded};
use super::logits::Logits;
use super::weight::tensor;
use crate::engine::{Continued, Texts, prefill};
use crate::kernel::rotary::Angles;
use crate::model::{LlamaConfig, Policy, Stack};

/// A policy's layers over texts that go on.
pub(crate) struct HostContinued {
    config: Arc<LlamaConfig>,
    device: Device,
    stack: Stack,
    head: Logits,
    /// How long each text is.
    lengths: Vec<usize>,
    /// What each layer keeps of each text.
    layers: Vec<Vec<Past>>,
}

impl HostContinued {
    /// Reads prompts; also the logits after each, `[texts, V]`.
    pub(crate) fn begin(policy: &Policy, prompts: &Texts) -> (Self, Tensor<2>) {
        let (config, device) = (policy.shared_config(), policy.compute().device.clone());
        let layers = HostLayers::new(policy, prompts);
        let width = config.heads().key_value * config.heads().dim;
        let (layers, read) = prefill(&layers, config.num_hidden_layers, &prompts.ends(), |kept| {
            let past = |rows: &Range<usize>| Past::new([&kept.key, &kept.value], rows.clone(), width);
            layers.sequences().iter().map(past).collect()
        });
        let head = Logits::new(policy);
        let logits = head.of(read);
        let lengths = prompts.spans.iter().map(|span| span.len()).collect();
        (Self { config, device, stack: policy.stack(), head, lengths, layers }, logits)
    }

    /// What layers share for one more token of each text.
    fn shared(&self) -> Shared {
        Shared {
            sequences: Vec::new(),
            positions: (0..self.lengths.len()).collect(),
            angles: Angles::of(&self.config, self.lengths.iter().copied()),
            heads: self.config.heads(),
            eps: self.config.rms_norm_eps as f32,
            extras: self.config.extras(),
        }
    }
}

impl Continued for HostContinued {
    fn step(&mut self, tokens: &[i32]) -> Tensor<2> {
        let shared = self.shared();
        let hidden = embedded(&self.stack, tokens, &self.device);
        let layers = self.layers.iter_mut().enumerate();
        let hidden = layers.fold(hidden, |hidden, (layer, texts)| {
            Layer { tensors: self.stack.layer(layer), shared: &shared }.step(&hidden, texts)
        });
        self.lengths.iter_mut().for_each(|length| *length += 1);
        self.head.of(tensor(hidden, [tokens.len(), self.config.hidden_size], &self.device))
    }

    fn pays(&self, open: usize) -> bool {
        open < self.lengths.len()
    }

    fn keep(&mut self, open: &[bool]) {
        retain(&mut self.lengths, open);
        self.layers.iter_mut().for_each(|texts| retain(texts, open));
    }
}

impl Layer<'_> {
    /// The residual stream of a new token of each text, `[texts, D]`, whose key and value join those before.
    fn step(&self, input: &[f32], texts: &mut [Past]) -> Vec<f32> {
        let [query, key, value] = self.heads(input);
        let rows = key.len() / texts.len();
        for (text, (key, value)) in texts.iter_mut().zip(key.chunks_exact(rows).zip(value.chunks_exact(rows))) {
            text.push(key, value);
        }
        let context = latest(&query, texts, self.shared.heads);
        self.output(&self.inner(input, &context))
    }
}

fn retain<T>(values: &mut Vec<T>, open: &[bool]) {
    let mut open = open.iter();
    values.retain(|_| *open.next().expect("one for each"));
}
