//! Layer by layer: a forward pass that keeps what the caller affords, then each layer's closed-form backward pass.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::continued::prefill;
use super::passes::{BringBack, Head, Layers};
use super::{GradientSink, Reads};
use crate::compute::Compute;
use crate::model::{LlamaConfig, Policy};
use crate::watch::Part;

/// What the forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Every activation, and the logits of every response position.
    Activations,
    /// Each layer's input, where the layers put it.
    Inputs,
}

/// What a pass needs to know besides layers and head.
pub(super) struct How {
    config: Arc<LlamaConfig>,
    compute: Compute,
    keep: Keep,
}

impl How {
    pub(super) fn new(policy: &Policy, keep: Keep) -> Self {
        Self { config: policy.shared_config(), compute: policy.compute().clone(), keep }
    }
}

/// The hidden states that are read, `[R, D]`, after all layers.
pub(super) fn read<L: Layers>(layers: &L, count: usize, positions: &[i32]) -> Tensor<2> {
    prefill(layers, count, positions, drop).1
}

/// The score of every read.
pub(super) fn scores<L: Layers, H: Head>(layers: &L, head: &H, config: &LlamaConfig, reads: &Reads) -> Tensor<1> {
    let read = read(layers, config.num_hidden_layers, &reads.positions);
    let score = |chunk: Chunk| head.forward(chunk.rows(&read), chunk.targets(reads)).0;
    Tensor::cat(reads.chunks().map(score).collect(), 0)
}

/// Forward, seeds, backward; every unit's gradient goes to `sink`, once nothing here holds the unit's weights any more.
pub(super) fn gradients<L: Layers, H: Head>(
    (mut layers, head): (L, H),
    how: &How,
    reads: &Reads,
    seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
    sink: &mut dyn GradientSink,
) {
    let config = &how.config;
    let (tape, read) = forward(&mut layers, how, reads);
    let (read_gradient, embedding) = through_head(head, how, (&read, reads), seeds, sink);
    let backward = how.compute.under(Part::Backward);
    let mut gradient = layers.spread(read_gradient, &reads.positions);
    for (layer, (bring_back, kept)) in tape.into_iter().enumerate().rev() {
        let input = bring_back();
        let kept = kept.unwrap_or_else(|| {
            let _recompute = how.compute.under(Part::Recompute);
            layers.keep(layer, &input)
        });
        let (next, units) = layers.backward(layer, input, kept, gradient);
        gradient = next;
        layers.release(layer);
        for (offset, unit) in units.into_iter().enumerate() {
            sink.take(config.layer_start(layer) + offset, unit);
        }
    }
    let zeros = || Tensor::zeros([config.vocab_size, config.hidden_size], (&read.device(), read.dtype()));
    let table = embedding.unwrap_or_else(zeros);
    let embedding = layers.embed_backward(table, gradient);
    drop(backward);
    sink.take(0, embedding);
}

/// Every layer's input with what the layer kept.
type Tape<L> = Vec<(BringBack<<L as Layers>::Hidden>, Option<<L as Layers>::Kept>)>;

/// The tape, and the hidden states that are read, `[R, D]`.
fn forward<L: Layers>(layers: &mut L, how: &How, reads: &Reads) -> (Tape<L>, Tensor<2>) {
    let _forward = how.compute.under(Part::Forward);
    let mut tape = Vec::with_capacity(how.config.num_hidden_layers);
    let mut hidden = layers.embed();
    layers.release_embedding();
    for layer in 0..how.config.num_hidden_layers {
        let (output, kept) = layers.forward(layer, &hidden);
        let (input, kept): (BringBack<L::Hidden>, _) = match how.keep {
            Keep::Activations => (Box::new(move || hidden), Some(kept)),
            Keep::Inputs => (layers.put_away(hidden), None),
        };
        tape.push((input, kept));
        hidden = output;
    }
    (tape, layers.read(hidden, &reads.positions))
}

/// The gradient of the hidden states that are read, and the head's where the head is the embedding, which has more to come.
fn through_head<H: Head>(
    mut head: H,
    how: &How,
    (read, reads): (&Tensor<2>, &Reads),
    seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
    sink: &mut dyn GradientSink,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let in_head = how.compute.under(Part::Head);
    let (mut scores, mut tape) = (Vec::new(), Vec::new());
    for chunk in reads.chunks() {
        let (chunk_scores, kept) = head.forward(chunk.rows(read), chunk.targets(reads));
        scores.push(chunk_scores);
        tape.push((how.keep == Keep::Activations).then_some(kept));
    }
    let seeds = seeds(Tensor::cat(scores, 0));
    let mut gradients = Vec::with_capacity(tape.len());
    for (chunk, kept) in reads.chunks().zip(tape) {
        let (rows, targets) = (chunk.rows(read), chunk.targets(reads));
        let kept = kept.unwrap_or_else(|| head.forward(rows.clone(), targets).1);
        gradients.push(head.backward(rows, kept, targets, seeds.clone().narrow(0, chunk.from, chunk.len)));
    }
    let weights = head.gradients();
    drop(in_head);
    sink.take(how.config.norm_index(), weights.norm);
    let embedding = match how.config.head_index() {
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
