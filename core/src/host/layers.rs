//! The layers of a decoder over ordinary memory. Padding is left out of all of it.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::layer::{Kept, Layer, Shared};
use super::weight::{Weight, tensor};
use crate::engine::{Layers, Texts};
use crate::kernel::rotary::Angles;
use crate::model::{Policy, Stack};

/// A policy's layers over one batch of texts.
pub(crate) struct HostLayers {
    stack: Stack,
    device: Device,
    hidden_size: usize,
    tokens: Vec<i32>,
    /// Where every padded position lies without the padding.
    rows: Vec<usize>,
    shared: Shared,
}

impl HostLayers {
    pub(crate) fn new(policy: &Policy, texts: &Texts) -> Self {
        let config = policy.config();
        let mut sequences: Vec<Range<usize>> = Vec::with_capacity(texts.spans.len());
        for span in &texts.spans {
            let start = sequences.last().map_or(0, |last| last.end);
            sequences.push(start..start + span.len());
        }
        let mut rows = vec![0; texts.tokens.len()];
        for (span, sequence) in texts.spans.iter().zip(&sequences) {
            rows[span.clone()].iter_mut().zip(sequence.clone()).for_each(|(row, own)| *row = own);
        }
        let tokens = texts.spans.iter().flat_map(|span| texts.tokens[span.clone()].iter().copied()).collect();
        let positions = texts.spans.iter().flat_map(|span| 0..span.len()).collect();
        let shared = Shared {
            sequences,
            positions,
            angles: Angles::new(config, texts.width),
            heads: config.heads(),
            eps: config.rms_norm_eps as f32,
            extras: config.extras(),
        };
        let (device, hidden_size) = (policy.compute().device.clone(), config.hidden_size);
        Self { stack: policy.stack(), device, hidden_size, tokens, rows, shared }
    }

    fn layer(&self, layer: usize) -> Layer<'_> {
        Layer { tensors: self.stack.layer(layer), shared: &self.shared }
    }

    /// Where each text's tokens lie without the padding.
    pub(super) fn sequences(&self) -> &[Range<usize>] {
        &self.shared.sequences
    }
}

/// Token embeddings, `[N, D]`.
pub(super) fn embedded(stack: &Stack, tokens: &[i32], device: &Device) -> Vec<f32> {
    let tokens = TensorData::new(tokens.to_vec(), [tokens.len()]);
    Weight::new(stack.embed(Tensor::<1, Int>::from_data(tokens, device))).values().to_vec()
}

impl Layers for HostLayers {
    type Hidden = Vec<f32>;
    type Kept = Kept;

    fn embed(&self) -> Vec<f32> {
        embedded(&self.stack, &self.tokens, &self.device)
    }

    fn forward(&self, layer: usize, input: &Vec<f32>) -> (Vec<f32>, Kept) {
        self.layer(layer).forward(input)
    }

    fn keep(&self, layer: usize, input: &Vec<f32>) -> Kept {
        self.layer(layer).keep(input)
    }

    fn backward(&self, layer: usize, input: Vec<f32>, kept: Kept, mut gradient: Vec<f32>) -> (Vec<f32>, Vec<Tensor<2>>) {
        let units = self.layer(layer).backward(&input, kept, &mut gradient);
        (gradient, units)
    }

    fn release_embedding(&mut self) {
        self.stack.release_embedding();
    }

    fn release(&mut self, layer: usize) {
        self.stack.release(layer);
    }

    fn read(&self, hidden: Vec<f32>, positions: &[i32]) -> Tensor<2> {
        let width = self.hidden_size;
        let rows = positions.iter().flat_map(|p| hidden[self.rows[*p as usize] * width..][..width].iter().copied());
        tensor(rows.collect(), [positions.len(), width], &self.device)
    }

    fn spread(&self, gradient: Tensor<2>, positions: &[i32]) -> Vec<f32> {
        let width = self.hidden_size;
        let mut out = vec![0.0; self.tokens.len() * width];
        for (position, from) in positions.iter().zip(Weight::new(gradient).values().chunks_exact(width)) {
            out[self.rows[*position as usize] * width..][..width].iter_mut().zip(from).for_each(|(out, from)| *out += from);
        }
        out
    }

    fn embed_backward(&self, table: Tensor<2>, gradient: Vec<f32>) -> Tensor<2> {
        let dims = table.dims();
        let mut table = Weight::new(table);
        let values = table.values_mut();
        for (token, from) in self.tokens.iter().zip(gradient.chunks_exact(dims[1])) {
            values[*token as usize * dims[1]..][..dims[1]].iter_mut().zip(from).for_each(|(out, from)| *out += from);
        }
        table.into_tensor(&self.device)
    }
}
