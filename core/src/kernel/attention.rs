//! Causal grouped-query attention. The `[heads, T, T]` matrix of probabilities is made anew for the backward pass and never kept.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

use super::kind;
use super::product::{open_product, product, wide_product};
use crate::compute::{Kernels, Products};

/// The heads of an attention block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads, H.
    pub(crate) query: usize,
    /// Key and value heads, KV.
    pub(crate) key_value: usize,
    /// Width of a head, hd.
    pub(crate) dim: usize,
}

impl Heads {
    /// Query heads per key head, G.
    pub(crate) fn group(&self) -> usize {
        self.query / self.key_value
    }

    /// 1/√hd.
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    /// `[B·T, H·hd]` → `[B, KV, G·T, hd]`: the queries that share a key head, one below the other.
    fn split_queries(&self, x: Tensor<2>, width: usize) -> Tensor<4> {
        let rows = x.dims()[0] / width;
        let x = x.reshape([rows, width, self.query, self.dim]).swap_dims(1, 2); // [B, H, T, hd]
        x.reshape([rows, self.key_value, self.group() * width, self.dim])
    }

    /// `[B·T, KV·hd]` → `[B, KV, T, hd]`.
    fn split_keys(&self, x: Tensor<2>, width: usize) -> Tensor<4> {
        let rows = x.dims()[0] / width;
        x.reshape([rows, width, self.key_value, self.dim]).swap_dims(1, 2)
    }

    /// The inverse of [`split_queries`](Self::split_queries).
    fn join_queries(&self, x: Tensor<4>) -> Tensor<2> {
        let [rows, _, group_width, _] = x.dims();
        let width = group_width / self.group();
        let x = x.reshape([rows, self.query, width, self.dim]).swap_dims(1, 2);
        x.reshape([rows * width, self.query * self.dim])
    }

    /// The inverse of [`split_keys`](Self::split_keys).
    fn join_keys(&self, x: Tensor<4>) -> Tensor<2> {
        let [rows, _, width, _] = x.dims();
        x.swap_dims(1, 2).reshape([rows * width, self.key_value * self.dim])
    }
}

/// What attention is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    pub(crate) products: Products,
    pub(crate) kernels: Option<Kernels>,
}

/// softmax(Q·Kᵀ/√hd + mask)·V for `query` `[B·T, H·hd]`, `key` and `value` `[B·T, KV·hd]`; returns `[B·T, H·hd]`.
///
/// `mask` is added to the scores, `[1, T, T]` for all rows alike or `[B, T, T]`: [`causal_mask`], and [`apart`] where rows hold several
/// texts.
pub(crate) fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, mask: Tensor<3>, how: Attention) -> Tensor<2> {
    let parts = parts(&query, &mask, how.heads);
    if parts.len() == 1 {
        return attention_of_part(query, key, value, mask, how);
    }
    let of_part = |part: &Part| {
        let [query, key, value] = [&query, &key, &value].map(|x| part.rows(x));
        attention_of_part(query, key, value, part.mask(&mask), how)
    };
    Tensor::cat(parts.iter().map(of_part).collect(), 0)
}

fn attention_of_part(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, mask: Tensor<3>, how: Attention) -> Tensor<2> {
    let (width, heads) = (mask.dims()[1], how.heads);
    let (query, key) = (heads.split_queries(query, width), heads.split_keys(key, width));
    let probabilities = match how.kernels {
        Some(own) => (own.softmax)(scores(query, key, how), mask, heads.scale() as f32, kind(&value)),
        None => probabilities(query, key, mask, how).cast(kind(&value)),
    };
    heads.join_queries(product(probabilities, heads.split_keys(value, width), how.products))
}

/// The gradients of [`attention`] with respect to query, key and value for an incoming gradient `dy` `[B·T, H·hd]`.
///
/// With P the probabilities and dP = dY·Vᵀ: dS = P ∘ (dP − rowsum(dP ∘ P)), dQ = dS·K/√hd, dK = dSᵀ·Q/√hd, dV = Pᵀ·dY. The row sums are
/// also those of dY ∘ Y, T/hd times shorter (FlashAttention, §3.1); but with Y of bf16 they moved a gradient of the parity test by 5%.
pub(crate) fn attention_backward(read: [Tensor<2>; 3], dy: Tensor<2>, mask: Tensor<3>, how: Attention) -> [Tensor<2>; 3] {
    let parts = parts(&dy, &mask, how.heads);
    if parts.len() == 1 {
        return attention_backward_of_part(read, dy, mask, how);
    }
    let mut gradients: [Vec<Tensor<2>>; 3] = Default::default();
    for part in parts {
        let read = read.each_ref().map(|x| part.rows(x));
        let of_part = attention_backward_of_part(read, part.rows(&dy), part.mask(&mask), how);
        gradients.iter_mut().zip(of_part).for_each(|(all, part)| all.push(part));
    }
    gradients.map(|parts| Tensor::cat(parts, 0))
}

fn attention_backward_of_part(
    [query, key, value]: [Tensor<2>; 3],
    dy: Tensor<2>,
    mask: Tensor<3>,
    how: Attention,
) -> [Tensor<2>; 3] {
    let (width, heads) = (mask.dims()[1], how.heads);
    let product = |left, right| product(left, right, how.products);
    let (query, dy) = (heads.split_queries(query, width), heads.split_queries(dy, width)); // [B, KV, G·T, hd]
    let (key, value) = (heads.split_keys(key, width), heads.split_keys(value, width));
    let dp = wide_product(dy.clone(), value.swap_dims(2, 3), how.products); // [B, KV, G·T, T]
    let kept = kind(&dy);
    let (probabilities, ds) = match how.kernels {
        Some(own) => {
            let scores = scores(query.clone(), key.clone(), how);
            (own.softmax_backward)(scores, dp, mask, heads.scale() as f32, kept)
        }
        None => {
            let probabilities = probabilities(query.clone(), key.clone(), mask, how); // [B, KV, G·T, T]
            let totals = (dp.clone() * probabilities.clone()).sum_dim(3); // [B, KV, G·T, 1]
            let ds = (probabilities.clone() * (dp - totals)).mul_scalar(heads.scale());
            (probabilities.cast(kept), ds.cast(kept))
        }
    };
    let value_gradient = product(probabilities.swap_dims(2, 3), dy); // [B, KV, T, hd]
    // Those of query and key are to be turned back before they are rounded.
    let query_gradient = open_product(ds.clone(), key, how.products);
    let key_gradient = open_product(ds.swap_dims(2, 3), query, how.products);
    [heads.join_queries(query_gradient), heads.join_keys(key_gradient), heads.join_keys(value_gradient)]
}

/// How many rows' scores exist at once: the `[H, T, T]` of several rows together have no more elements than this, unless those of
/// one have.
const SCORES: usize = 1 << 27;

/// Rows whose scores exist at once.
pub(crate) fn rows_at_once(heads: usize, width: usize) -> usize {
    (SCORES / (heads * width * width).max(1)).max(1)
}

/// Some rows of a batch, one after the other.
struct Part {
    from: usize,
    len: usize,
    width: usize,
}

impl Part {
    /// Their part of `[B·T, ..]`.
    fn rows(&self, x: &Tensor<2>) -> Tensor<2> {
        x.clone().narrow(0, self.from * self.width, self.len * self.width)
    }

    fn mask(&self, mask: &Tensor<3>) -> Tensor<3> {
        if mask.dims()[0] == 1 { mask.clone() } else { mask.clone().narrow(0, self.from, self.len) }
    }
}

fn parts(query: &Tensor<2>, mask: &Tensor<3>, heads: Heads) -> Vec<Part> {
    let width = mask.dims()[1];
    let (rows, step) = (query.dims()[0] / width, rows_at_once(heads.query, width));
    (0..rows).step_by(step).map(|from| Part { from, len: step.min(rows - from), width }).collect()
}

/// In f32, as fused attention keeps them, and not yet scaled: the product's factors are then bf16 where they were. `[B, KV, G·T, T]`
fn scores(query: Tensor<4>, key: Tensor<4>, how: Attention) -> Tensor<4> {
    wide_product(query, key.swap_dims(2, 3), how.products)
}

fn probabilities(query: Tensor<4>, key: Tensor<4>, mask: Tensor<3>, how: Attention) -> Tensor<4> {
    let heads = how.heads;
    let scores = scores(query, key, how) * heads.scale();
    let (shape, [masks, width, _]) = (scores.dims(), mask.dims());
    let by_head = scores.reshape([shape[0], heads.query, width, width]);
    softmax(by_head + mask.reshape([masks, 1, width, width]), 3).reshape(shape)
}

/// 0 on and below the diagonal, a very negative number above: position t sees positions up to t. `[1, T, T]`
pub(crate) fn causal_mask(width: usize, device: &Device) -> Tensor<3> {
    let entry = |i: usize| if i % width > i / width { MASKED } else { 0.0 };
    let values: Vec<f32> = (0..width * width).map(entry).collect();
    Tensor::from_data(TensorData::new(values, [1, width, width]), device)
}

/// 0 between positions of the same text, a very negative number between others, for the texts that positions `[B·T]` belong to.
/// `[B, T, T]`
pub(crate) fn apart(owners: &[i32], width: usize, device: &Device) -> Tensor<3> {
    let rows = owners.len() / width;
    let owners: Vec<f32> = owners.iter().map(|owner| *owner as f32).collect();
    let owners = Tensor::<3>::from_data(TensorData::new(owners, [rows, width, 1]), device);
    let other = owners.clone().not_equal(owners.swap_dims(1, 2)); // [B, T, T]
    Tensor::zeros([rows, width, width], device).mask_fill(other, MASKED)
}

/// Large enough that exp underflows to exactly 0 against any real score, small enough that adding one stays finite.
pub(crate) const MASKED: f32 = -1e30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;

    #[test]
    fn rows_one_after_the_other_are_the_rows_together() {
        let heads = Heads { query: 4, key_value: 2, dim: 6 };
        let (how, width, device) = (Attention { heads, products: Products::Plain, kernels: None }, 5, Device::flex());
        let mut noise = Noise(5);
        let mut random = |columns: usize| -> Tensor<2> {
            Tensor::from_data(TensorData::new(noise.values(3 * width * columns, 1.0), [3 * width, columns]), &device)
        };
        let read = [random(24), random(12), random(12)];
        let dy = random(24);
        let owners: Vec<i32> = (0..3 * width as i32).map(|i| i / 3).collect();
        for mask in [causal_mask(width, &device), causal_mask(width, &device) + apart(&owners, width, &device)] {
            let [query, key, value] = read.clone();
            let whole = attention_of_part(query, key, value, mask.clone(), how);
            let backward = attention_backward_of_part(read.clone(), dy.clone(), mask.clone(), how);
            for row in 0..3 {
                let part = Part { from: row, len: 1, width };
                let [query, key, value] = read.each_ref().map(|x| part.rows(x));
                let found = attention_of_part(query, key, value, part.mask(&mask), how);
                found.into_data().assert_approx_eq::<f32>(&part.rows(&whole).into_data(), Default::default());
                let read = read.each_ref().map(|x| part.rows(x));
                let of_part = attention_backward_of_part(read, part.rows(&dy), part.mask(&mask), how);
                for (found, expected) in of_part.into_iter().zip(&backward) {
                    found.into_data().assert_approx_eq::<f32>(&part.rows(expected).into_data(), Default::default());
                }
            }
        }
        assert_eq!((rows_at_once(32, 1024), rows_at_once(32, 1 << 14), rows_at_once(9, 512)), (4, 1, 56));
    }
}
