//! Layer by layer: a forward pass that keeps what the caller affords, then each layer's closed-form backward pass.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::{GradientSink, Indices};
use crate::kernel::norm::{rms_norm, rms_norm_backward};
use crate::kernel::vocabulary::{log_probs, logits_gradient};
use crate::model::{Decoder, Kept, LayerInput, Policy};
use crate::tokens::Batch;

/// What the forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep {
    /// Every activation, and the probabilities of every response position.
    Activations,
    /// Each layer's input; logits only for this many response positions at a time.
    Inputs { head_chunk: usize },
}

enum Tape {
    Kept(Kept),
    Input(Tensor<2>),
}

pub(super) fn scores(policy: &Policy, batch: &Batch, head_chunk: usize) -> Tensor<1> {
    let device = &policy.compute().device;
    let decoder = policy.decoder();
    let shared = LayerInput::new(policy.config(), batch.rows, batch.width, device);
    let indices = Indices::new(batch, device);
    let read = decoder.hidden(indices.tokens, &shared).select(0, indices.reads); // [R, D]
    let normed = decoder.norm(read);
    let chunks = chunks(batch.response_tokens(), head_chunk);
    Tensor::cat(chunks.map(|(from, len)| head_scores(&decoder, &normed, &indices.targets, from, len).0).collect(), 0)
}

pub(super) fn logits(policy: &Policy, batch: &Batch) -> Tensor<2> {
    let device = &policy.compute().device;
    let decoder = policy.decoder();
    let shared = LayerInput::new(policy.config(), batch.rows, batch.width, device);
    let hidden = decoder.hidden(Indices::new(batch, device).tokens, &shared);
    decoder.norm(hidden).matmul(decoder.head())
}

pub(super) fn gradients(
    policy: &Policy,
    batch: &Batch,
    keep: Keep,
    seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
    sink: &mut dyn GradientSink,
) {
    let device = &policy.compute().device;
    let decoder = policy.decoder();
    let shared = LayerInput::new(policy.config(), batch.rows, batch.width, device);
    let indices = Indices::new(batch, device);
    let (hidden, tape) = forward(&decoder, indices.tokens.clone(), &shared, keep);
    let read = hidden.clone().select(0, indices.reads.clone()); // [R, D]
    let zeros = hidden.zeros_like();
    drop(hidden);
    let (dread, head_gradient) = head(&decoder, read, &indices.targets, keep, seeds, sink);
    let mut gradient = zeros.select_assign(0, indices.reads, dread, IndexingUpdateOp::Add); // [N, D]
    for (layer, entry) in tape.into_iter().enumerate().rev() {
        gradient = backward(&decoder, layer, entry, gradient, &shared, sink);
    }
    let table = head_gradient.unwrap_or_else(|| policy.tensors()[0].zeros_like()); // [V, D]
    sink.take(0, table.select_assign(0, indices.tokens, gradient, IndexingUpdateOp::Add));
}

fn forward(decoder: &Decoder, tokens: Tensor<1, Int>, shared: &LayerInput, keep: Keep) -> (Tensor<2>, Vec<Tape>) {
    let mut hidden = decoder.embed(tokens);
    let mut tape = Vec::with_capacity(decoder.layers());
    for layer in 0..decoder.layers() {
        match keep {
            Keep::Activations => {
                let (output, kept) = decoder.layer(layer).forward_keeping(hidden, shared);
                tape.push(Tape::Kept(kept));
                hidden = output;
            }
            Keep::Inputs { .. } => {
                tape.push(Tape::Input(hidden.clone()));
                hidden = decoder.layer(layer).forward(hidden, shared);
            }
        }
    }
    (hidden, tape)
}

fn backward(
    decoder: &Decoder,
    layer: usize,
    entry: Tape,
    gradient: Tensor<2>,
    shared: &LayerInput,
    sink: &mut dyn GradientSink,
) -> Tensor<2> {
    let weights = decoder.layer(layer);
    let kept = match entry {
        Tape::Kept(kept) => kept,
        Tape::Input(input) => weights.forward_keeping(input, shared).1,
    };
    let (gradient, units) = weights.backward(kept, gradient, shared);
    for (offset, unit) in units.into_iter().enumerate() {
        sink.take(decoder.layer_start(layer) + offset, unit);
    }
    gradient
}

/// The final norm and the vocabulary head, forward and backward, for the hidden states that are read, `[R, D]`.
///
/// Returns their gradient, and the head's gradient `[V, D]` where the head is the embedding, which has more to come.
fn head(
    decoder: &Decoder,
    read: Tensor<2>,
    targets: &Tensor<1, Int>,
    keep: Keep,
    seeds: impl FnOnce(Tensor<1>) -> Tensor<1>,
    sink: &mut dyn GradientSink,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let count = read.dims()[0];
    let normed = rms_norm(read.clone(), decoder.norm_weight(), decoder.eps());
    let chunk = match keep {
        Keep::Activations => count,
        Keep::Inputs { head_chunk } => head_chunk,
    };
    let mut kept = Vec::new();
    let mut scores = Vec::new();
    for (from, len) in chunks(count, chunk) {
        let (log_probs, probabilities) = head_scores(decoder, &normed, targets, from, len);
        scores.push(log_probs);
        kept.push(matches!(keep, Keep::Activations).then_some(probabilities));
    }
    let seeds = seeds(Tensor::cat(scores, 0));
    let mut dnormed = Vec::new();
    let mut weight: Option<Tensor<2>> = None;
    for ((from, len), probabilities) in chunks(count, chunk).zip(kept) {
        let probabilities = probabilities.unwrap_or_else(|| head_scores(decoder, &normed, targets, from, len).1);
        let dlogits = logits_gradient(probabilities, targets.clone().narrow(0, from, len), seeds.clone().narrow(0, from, len));
        let part = head_weight_gradient(decoder, normed.clone().narrow(0, from, len), dlogits.clone());
        weight = Some(weight.map_or(part.clone(), |sum| sum + part));
        dnormed.push(dlogits.matmul(decoder.head().transpose())); // [len, D]
    }
    let (dread, dnorm) = rms_norm_backward(read, decoder.norm_weight(), Tensor::cat(dnormed, 0), decoder.eps());
    sink.take(decoder.norm_index(), dnorm);
    match (decoder.head_index(), weight) {
        (0, weight) => (dread, weight),
        (index, Some(weight)) => {
            sink.take(index, weight);
            (dread, None)
        }
        (_, None) => (dread, None),
    }
}

fn head_scores(
    decoder: &Decoder,
    normed: &Tensor<2>,
    targets: &Tensor<1, Int>,
    from: usize,
    len: usize,
) -> (Tensor<1>, Tensor<2>) {
    log_probs(normed.clone().narrow(0, from, len), decoder.head(), targets.clone().narrow(0, from, len))
}

/// In the layout in which the weight is kept, so that the product comes out contiguous.
fn head_weight_gradient(decoder: &Decoder, normed: Tensor<2>, dlogits: Tensor<2>) -> Tensor<2> {
    match decoder.head_index() {
        0 => dlogits.transpose().matmul(normed), // [V, D]
        _ => normed.transpose().matmul(dlogits), // [D, V]
    }
}

fn chunks(count: usize, chunk: usize) -> impl Iterator<Item = (usize, usize)> {
    let chunk = chunk.max(1);
    (0..count.div_ceil(chunk)).map(move |i| (i * chunk, chunk.min(count - i * chunk)))
}
