//! Attention of each text's latest query over the keys and values of all its tokens, one text and key head at a time.

use std::ops::Range;

use super::exponential::exp;
use super::norm::lanes;
use super::simd::dispatch;
use super::threads::{Threads, in_turn};
use crate::kernel::attention::Heads;

/// Tokens for which there is room at a time: enough that copying what is there costs little, and little is left empty.
const ROOM: usize = 64;

/// The keys, turned, and the values of a text's tokens in one layer, `[T, KV·hd]` each.
#[derive(Debug)]
pub(super) struct Past {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Past {
    /// Those of some rows of keys and values, `[N, width]` each.
    pub(super) fn new(from: [&[f32]; 2], rows: Range<usize>, width: usize) -> Self {
        let [keys, values] = from.map(|from| {
            let mut own = Vec::with_capacity(rows.len().next_multiple_of(ROOM) * width);
            own.extend_from_slice(&from[rows.start * width..rows.end * width]);
            own
        });
        Self { keys, values }
    }

    /// And those of one more token, `[KV·hd]` each.
    pub(super) fn push(&mut self, key: &[f32], value: &[f32]) {
        for (own, new) in [(&mut self.keys, key), (&mut self.values, value)] {
            if own.capacity() < own.len() + new.len() {
                own.reserve_exact(ROOM * new.len());
            }
            own.extend_from_slice(new);
        }
    }
}

/// softmax(q·Kᵀ/√hd)·V for one query of each text, `[texts, H·hd]`; the same shape.
pub(super) fn latest(query: &[f32], texts: &[Past], heads: Heads) -> Vec<f32> {
    let size = heads.group() * heads.dim;
    let threads = Threads::for_elements(texts.iter().map(|text| text.keys.len()).sum::<usize>() * heads.group());
    let contexts = in_turn(threads, texts.len() * heads.key_value, |task| {
        let (text, which) = (&texts[task / heads.key_value], task % heads.key_value);
        dispatch(|| of_head(&query[task * size..][..size], text, which, heads))
    });
    contexts.concat()
}

/// For the queries of one group, `[G, hd]`.
#[inline(always)]
fn of_head(queries: &[f32], text: &Past, which: usize, heads: Heads) -> Vec<f32> {
    let (dim, width) = (heads.dim, heads.key_value * heads.dim);
    let mut context = vec![0.0; queries.len()];
    let mut scores = vec![0.0; text.keys.len() / width];
    for (query, context) in queries.chunks_exact(dim).zip(context.chunks_exact_mut(dim)) {
        for (score, keys) in scores.iter_mut().zip(text.keys.chunks_exact(width)) {
            let key = &keys[which * dim..][..dim];
            *score = lanes(dim, |i| query[i] * key[i]) * heads.scale() as f32;
        }
        softmax(&mut scores);
        for (probability, values) in scores.iter().zip(text.values.chunks_exact(width)) {
            let value = &values[which * dim..][..dim];
            context.iter_mut().zip(value).for_each(|(context, value)| *context += probability * value);
        }
    }
    context
}

#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().fold(f32::MIN, |largest, score| if *score > largest { *score } else { largest });
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    let inverse = 1.0 / lanes(scores.len(), |i| scores[i]);
    scores.iter_mut().for_each(|score| *score *= inverse);
}
