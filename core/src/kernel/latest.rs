//! Attention of each text's latest query over the keys and values of all its tokens, which lie in columns.
//!
//! A device prepares its kernels for shapes. Columns are therefore there before they are needed, and what a text may not see is masked: columns
//! behind a shorter prompt, and those not yet written.

use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};

use super::attention::{Attention, Heads, MASKED, scores};
use super::kind;
use super::product::product;

/// Columns that are added at a time.
const ROOM: usize = 64;

/// The keys, turned, and the values of texts in one layer, `[B, KV, C, hd]` each.
#[derive(Debug)]
pub(crate) struct Past([Tensor<4>; 2]);

impl Past {
    /// Those of prompts, `[B·T, KV·hd]` each.
    pub(crate) fn new(from: [Tensor<2>; 2], width: usize, heads: Heads) -> Self {
        Self(from.map(|from| widened(heads.split_keys(from, width), room(width), 0.0)))
    }

    /// softmax(q·Kᵀ/√hd)·V for one query of each text, `[B, H·hd]`, whose key and value, `[B, KV·hd]`, join those before.
    pub(crate) fn attend(&mut self, [query, key, value]: [Tensor<2>; 3], columns: &Columns, how: Attention) -> Tensor<2> {
        for (past, new) in self.0.iter_mut().zip([key, value]) {
            past.inplace(|past| written(past, columns.last, how.heads.split_keys(new, 1), 0.0));
        }
        let [keys, values] = self.0.clone();
        let (dims, kept) = (query.dims(), kind(&values));
        let scores = scores(how.heads.split_queries(query, 1), keys, how) * how.heads.scale(); // [B, KV, G, C]
        let probabilities = softmax(scores + columns.mask.clone().swap_dims(2, 3), 3).cast(kept);
        product(probabilities, values, how.products).cast(kept).reshape(dims)
    }

    /// Only these texts stay.
    pub(crate) fn keep(&mut self, texts: &Tensor<1, Int>) {
        self.0.iter_mut().for_each(|past| past.inplace(|past| past.select(0, texts.clone())));
    }
}

/// What a text may see of the columns, in every layer alike.
#[derive(Debug)]
pub(crate) struct Columns {
    /// 0 where it may, a very negative number elsewhere. `[B, 1, C, 1]`
    mask: Tensor<4>,
    /// The one that holds the latest tokens.
    last: usize,
}

impl Columns {
    /// For prompts of these lengths.
    pub(crate) fn new(lengths: &[usize], device: &Device) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let entry = |length: usize, column: usize| if column < length { 0.0 } else { MASKED };
        let mask: Vec<f32> = lengths.iter().flat_map(|l| (0..room(longest)).map(move |c| entry(*l, c))).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [lengths.len(), 1, room(longest), 1]), device);
        Self { mask, last: longest.saturating_sub(1) }
    }

    /// Goes on to the next column, which every text sees.
    pub(crate) fn advance(&mut self) {
        self.last += 1;
        let last = self.last;
        self.mask.inplace(|mask| {
            let seen = Tensor::zeros([mask.dims()[0], 1, 1, 1], &mask.device());
            written(mask, last, seen, MASKED)
        });
    }

    /// Only these texts stay.
    pub(crate) fn keep(&mut self, texts: &Tensor<1, Int>) {
        self.mask.inplace(|mask| mask.select(0, texts.clone()));
    }
}

fn room(columns: usize) -> usize {
    columns.next_multiple_of(ROOM)
}

/// As many columns, those that are new filled.
fn widened(x: Tensor<4>, columns: usize, fill: f32) -> Tensor<4> {
    let [texts, heads, old, dim] = x.dims();
    if old >= columns {
        return x;
    }
    let wide = Tensor::full([texts, heads, columns, dim], fill, (&x.device(), x.dtype()));
    wide.slice_assign([0..texts, 0..heads, 0..old, 0..dim], x)
}

/// With one column, `[B, KV, 1, hd]`, in its place, for which there will be room.
fn written(x: Tensor<4>, column: usize, new: Tensor<4>, fill: f32) -> Tensor<4> {
    let x = widened(x, room(column + 1), fill);
    let [texts, heads, _, dim] = x.dims();
    x.slice_assign([0..texts, 0..heads, column..column + 1, 0..dim], new)
}
