//! Layer by layer: a forward pass that keeps what the caller affords, then each layer's closed-form backward pass.

use burn::tensor::Tensor;

use super::passes::{Head, Layers};
use super::{GradientSink, Reads};
use crate::model::LlamaConfig;

/// What the forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Every activation, and the logits of every response position.
    Activations,
    /// Each layer's input.
    Inputs,
}

/// The hidden states that are read, `[R, D]`, after all layers.
pub(super) fn read<L: Layers>(layers: &L, count: usize, positions: &[i32]) -> Tensor<2> {
    let hidden = (0..count).fold(layers.embed(), |hidden, layer| layers.forward(layer, &hidden).0);
    layers.read(hidden, positions)
}

/// The score of every read.
pub(super) fn scores<L: Layers, H: Head>(layers: &L, head: &H, config: &LlamaConfig, reads: &Reads) -> Tensor<1> {
    let read = read(layers, config.num_hidden_layers, &reads.positions);
    let score = |chunk: Chunk| head.forward(chunk.rows(&read), chunk.targets(reads)).0;
    Tensor::cat(reads.chunks().map(score).collect(), 0)
}

/// Forward, seeds, backward; every unit's gradient goes to `sink`.
pub(super) fn gradients<L: Layers, H: Head>(
    (layers, head): (&L, H),
    (config, keep): (&LlamaConfig, Keep),
    reads: &Reads,
    seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
    sink: &mut dyn GradientSink,
) {
    let mut tape = Vec::with_capacity(config.num_hidden_layers);
    let mut hidden = layers.embed();
    for layer in 0..config.num_hidden_layers {
        let (output, kept) = layers.forward(layer, &hidden);
        tape.push((hidden, (keep == Keep::Activations).then_some(kept)));
        hidden = output;
    }
    let read = layers.read(hidden, &reads.positions);
    let (read_gradient, embedding) = through_head(head, config, keep, (&read, reads), seeds, sink);
    let mut gradient = layers.spread(read_gradient, &reads.positions);
    for (layer, (input, kept)) in tape.into_iter().enumerate().rev() {
        let kept = kept.unwrap_or_else(|| layers.keep(layer, &input));
        let (next, units) = layers.backward(layer, input, kept, gradient);
        gradient = next;
        for (offset, unit) in units.into_iter().enumerate() {
            sink.take(config.layer_start(layer) + offset, unit);
        }
    }
    let table = embedding.unwrap_or_else(|| Tensor::zeros([config.vocab_size, config.hidden_size], &read.device()));
    sink.take(0, layers.embed_backward(table, gradient));
}

/// The gradient of the hidden states that are read, and the head's where the head is the embedding, which has more to come.
fn through_head<H: Head>(
    mut head: H,
    config: &LlamaConfig,
    keep: Keep,
    (read, reads): (&Tensor<2>, &Reads),
    seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
    sink: &mut dyn GradientSink,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let (mut scores, mut tape) = (Vec::new(), Vec::new());
    for chunk in reads.chunks() {
        let (chunk_scores, kept) = head.forward(chunk.rows(read), chunk.targets(reads));
        scores.push(chunk_scores);
        tape.push((keep == Keep::Activations).then_some(kept));
    }
    let seeds = seeds(Tensor::cat(scores, 0));
    let mut gradients = Vec::with_capacity(tape.len());
    for (chunk, kept) in reads.chunks().zip(tape) {
        let (rows, targets) = (chunk.rows(read), chunk.targets(reads));
        let kept = kept.unwrap_or_else(|| head.forward(rows.clone(), targets).1);
        gradients.push(head.backward(rows, kept, targets, seeds.clone().narrow(0, chunk.from, chunk.len)));
    }
    let weights = head.gradients();
    sink.take(config.norm_index(), weights.norm);
    let embedding = match config.head_index() {
        0 => Some(weights.weight),
        index => {
            sink.take(index, weights.weight);
            None
        }
    };
    (Tensor::cat(gradients, 0), embedding)
}

impl Reads {
    fn chunks(&self) -> impl Iterator<Item = Chunk> + use<> {
        let (count, len) = (self.targets.len(), self.chunk.max(1));
        (0..count).step_by(len).map(move |from| Chunk { from, len: len.min(count - from) })
    }
}

/// Some of the reads, one after the other.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    from: usize,
    len: usize,
}

impl Chunk {
    fn rows(self, read: &Tensor<2>) -> Tensor<2> {
        read.clone().narrow(0, self.from, self.len)
    }

    fn targets(self, reads: &Reads) -> &[i32] {
        &reads.targets[self.from..self.from + self.len]
    }
}
