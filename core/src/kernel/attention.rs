//! Causal grouped-query attention. The `[heads, T, T]` matrix of probabilities is made anew for the backward pass and never kept.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData, activation::softmax};

use super::kind;
use super::product::{product, wide_product};
use crate::compute::{Compute, Kernels, Library, Products};

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

    fn counts(&self) -> [usize; 2] {
        [self.query, self.key_value]
    }

    /// Whether kernels of a device's own compute attention in one go, for products of a type.
    pub(crate) fn in_one_go(&self, own: &Kernels, products: FloatDType) -> bool {
        products == own.one_go && self.dim.is_multiple_of(16) && self.dim <= 128
    }

    /// `[B·T, H·hd]` → `[B, KV, G·T, hd]`: the queries that share a key head, one below the other.
    pub(super) fn split_queries(&self, x: Tensor<2>, width: usize) -> Tensor<4> {
        let rows = x.dims()[0] / width;
        let x = x.reshape([rows, width, self.query, self.dim]).swap_dims(1, 2); // [B, H, T, hd]
        x.reshape([rows, self.key_value, self.group() * width, self.dim])
    }

    /// `[B·T, KV·hd]` → `[B, KV, T, hd]`.
    pub(super) fn split_keys(&self, x: Tensor<2>, width: usize) -> Tensor<4> {
        let rows = x.dims()[0] / width;
        x.reshape([rows, width, self.key_value, self.dim]).swap_dims(1, 2)
    }
}

/// What attention is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    pub(crate) products: Products,
}

/// Which positions of a row see which: those of the same text up to themselves.
#[derive(Debug, Clone)]
pub(crate) enum Mask {
    /// To be added to the scores, `[1, T, T]` for all rows alike or `[B, T, T]`.
    Added(Tensor<3>),
    /// Who computes attention then, and the first position that each sees, `[1, T]` for all rows alike or `[B, T]`.
    Firsts(Kernels, Tensor<2, Int>),
}

impl Mask {
    /// For rows of one text each, or for the texts that positions `[B·T]` belong to.
    pub(crate) fn new(width: usize, owners: Option<&[i32]>, compute: &Compute) -> Self {
        let device = &compute.device;
        match (compute.layout.kernels, owners) {
            (Some(own), owners) => {
                let firsts = owners.map_or_else(|| vec![0; width], |owners| firsts(owners, width));
                let rows = firsts.len() / width;
                Self::Firsts(own, Tensor::from_data(TensorData::new(firsts, [rows, width]), device))
            }
            (None, None) => Self::Added(causal_mask(width, device)),
            (None, Some(owners)) => Self::Added(causal_mask(width, device) + apart(owners, width, device)),
        }
    }

    /// T.
    fn width(&self) -> usize {
        match self {
            Self::Added(mask) => mask.dims()[1],
            Self::Firsts(_, firsts) => firsts.dims()[1],
        }
    }

    /// That of some rows.
    fn part(&self, part: &Part) -> Self {
        match self {
            Self::Added(mask) if mask.dims()[0] > 1 => Self::Added(mask.clone().narrow(0, part.from, part.len)),
            Self::Firsts(own, firsts) if firsts.dims()[0] > 1 => {
                Self::Firsts(*own, firsts.clone().narrow(0, part.from, part.len))
            }
            alike => alike.clone(),
        }
    }
}

/// Where the text of each position begins in its row.
fn firsts(owners: &[i32], width: usize) -> Vec<i32> {
    let of_row = |row: &[i32]| {
        let mut first = 0;
        let position = |t: usize| {
            first = if t > 0 && row[t] != row[t - 1] { t } else { first };
            first as i32
        };
        (0..width).map(position).collect::<Vec<_>>()
    };
    owners.chunks(width).flat_map(of_row).collect()
}

/// softmax(Q·Kᵀ/√hd + mask)·V for `query` `[B·T, H·hd]`, `key` and `value` `[B·T, KV·hd]`; returns `[B·T, H·hd]`.
pub(crate) fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, mask: Mask, how: Attention) -> Tensor<2> {
    if let Mask::Firsts(own, firsts) = &mask
        && how.heads.in_one_go(own, kind(&value))
    {
        return (own.attention)([query, key, value], firsts.clone(), how.heads.counts());
    }
    let parts = parts(&query, mask.width(), how.heads);
    attention_by_parts([query, key, value], mask, how, parts)
}

fn attention_by_parts(read: [Tensor<2>; 3], mask: Mask, how: Attention, parts: Vec<Part>) -> Tensor<2> {
    let (heads, dims, kept) = (how.heads, read[0].dims(), kind(&read[2]));
    let context = Joined::new(dims, kept, how.products, &read[0].device());
    let of_part = |context: Joined, part: Part| {
        let [query, key, value] = read.each_ref().map(|x| part.rows(x));
        let (query, key) = (heads.split_queries(query, part.width), heads.split_keys(key, part.width));
        let probabilities = match mask.part(&part) {
            Mask::Firsts(own, firsts) => (own.softmax)(scores(query, key, how), firsts, heads.scale() as f32, kept),
            Mask::Added(mask) => probabilities(query, key, mask, how).cast(kept),
        };
        context.with(probabilities, heads.split_keys(value, part.width), heads.group())
    };
    parts.into_iter().fold(context, of_part).whole()
}

/// The gradients of [`attention`] with respect to query, key and value for an incoming gradient `dy` `[B·T, H·hd]`.
///
/// With P the probabilities and dP = dY·Vᵀ: dS = P ∘ (dP − rowsum(dP ∘ P)), dQ = dS·K/√hd, dK = dSᵀ·Q/√hd, dV = Pᵀ·dY. The row sums are
/// also those of dY ∘ Y, T/hd times shorter (FlashAttention, §3.1); but with Y of bf16 they moved a gradient of the parity test by 5%.
///
/// Those of query and key are f32, to be turned back before they are rounded.
pub(crate) fn attention_backward(read: [Tensor<2>; 3], dy: Tensor<2>, mask: Mask, how: Attention) -> [Tensor<2>; 3] {
    if let Mask::Firsts(own, firsts) = &mask
        && how.heads.in_one_go(own, kind(&dy))
    {
        return (own.attention_backward)(read, dy, firsts.clone(), how.heads.counts());
    }
    let parts = parts(&dy, mask.width(), how.heads);
    attention_backward_by_parts(read, dy, mask, how, parts)
}

fn attention_backward_by_parts(
    read: [Tensor<2>; 3],
    dy: Tensor<2>,
    mask: Mask,
    how: Attention,
    parts: Vec<Part>,
) -> [Tensor<2>; 3] {
    let (heads, device, kept) = (how.heads, dy.device(), kind(&dy));
    let types = [FloatDType::F32, FloatDType::F32, kept];
    let joined: [Joined; 3] = std::array::from_fn(|i| Joined::new(read[i].dims(), types[i], how.products, &device));
    let of_part = |[dq, dk, dv]: [Joined; 3], part: Part| {
        let [query, key, value] = read.each_ref().map(|x| part.rows(x));
        let split = |x| heads.split_queries(x, part.width);
        let (query, dy) = (split(query), split(part.rows(&dy))); // [B, KV, G·T, hd]
        let (key, value) = (heads.split_keys(key, part.width), heads.split_keys(value, part.width));
        let dp = wide_product(dy.clone(), value.swap_dims(2, 3), how.products); // [B, KV, G·T, T]
        let [p, ds] = softmax_backward([query.clone(), key.clone()], dp, mask.part(&part), (how, kept));
        [dq.with(ds.clone(), key, heads.group()), dk.with(ds.swap_dims(2, 3), query, 1), dv.with(p.swap_dims(2, 3), dy, 1)]
    };
    parts.into_iter().fold(joined, of_part).map(Joined::whole)
}

/// P and dS, both `[B, KV, G·T, T]` and of a type.
fn softmax_backward(
    [query, key]: [Tensor<4>; 2],
    dp: Tensor<4>,
    mask: Mask,
    (how, kept): (Attention, FloatDType),
) -> [Tensor<4>; 2] {
    let scale = how.heads.scale();
    let mask = match mask {
        Mask::Firsts(own, firsts) => return (own.softmax_backward)([scores(query, key, how), dp], firsts, scale as f32, kept),
        Mask::Added(mask) => mask,
    };
    let probabilities = probabilities(query, key, mask, how); // [B, KV, G·T, T]
    let totals = (dp.clone() * probabilities.clone()).sum_dim(3); // [B, KV, G·T, 1]
    let ds = (probabilities.clone() * (dp - totals)).mul_scalar(scale);
    [probabilities, ds].map(|x| x.cast(kept))
}

/// Products of heads side by side, those of some rows of a batch below those of the rows before.
enum Joined {
    /// Where they are written to, and how many rows are.
    Into(Library, Tensor<2>, usize),
    /// To be laid below each other.
    Below(Vec<Tensor<2>>, FloatDType, Products),
}

impl Joined {
    fn new(dims: [usize; 2], to: FloatDType, products: Products, device: &Device) -> Self {
        match products {
            Products::Library(library) => Self::Into(library, Tensor::empty(dims, (device, DType::from(to))), 0),
            Products::Plain | Products::Split => Self::Below(Vec::new(), to, products),
        }
    }

    /// And `left` `[B, KV, G·T, K]` · `right` `[B, KV, K, hd]`: `[B·T, KV·G·hd]`.
    fn with(self, left: Tensor<4>, right: Tensor<4>, group: usize) -> Self {
        let [texts, key_heads, rows, _] = left.dims();
        let (width, dim) = (rows / group, right.dims()[3]);
        match self {
            Self::Into(library, into, from) => {
                Self::Into(library, (library.joined)(left, right, group, into, from), from + texts * width)
            }
            Self::Below(mut parts, to, products) => {
                let product = product(left, right, products).cast(to).reshape([texts, key_heads * group, width, dim]);
                parts.push(product.swap_dims(1, 2).reshape([texts * width, key_heads * group * dim]));
                Self::Below(parts, to, products)
            }
        }
    }

    fn whole(self) -> Tensor<2> {
        match self {
            Self::Into(_, into, _) => into,
            Self::Below(mut parts, ..) if parts.len() == 1 => parts.remove(0),
            Self::Below(parts, ..) => Tensor::cat(parts, 0),
        }
    }
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
}

fn parts(query: &Tensor<2>, width: usize, heads: Heads) -> Vec<Part> {
    let (rows, step) = (query.dims()[0] / width, rows_at_once(heads.query, width));
    (0..rows).step_by(step).map(|from| Part { from, len: step.min(rows - from), width }).collect()
}

/// In f32, as fused attention keeps them, and not yet scaled: the product's factors are then bf16 where they were. `[B, KV, G·T, T]`
pub(super) fn scores(query: Tensor<4>, key: Tensor<4>, how: Attention) -> Tensor<4> {
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
fn apart(owners: &[i32], width: usize, device: &Device) -> Tensor<3> {
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
    fn texts_begin_where_the_owner_changes() {
        assert_eq!(firsts(&[0, 0, 1, 1, -1, 2, 2, 2, -1, -1], 5), [0, 0, 2, 2, 4, 0, 0, 0, 3, 3]);
    }

    #[test]
    fn rows_one_after_the_other_are_the_rows_together() {
        let heads = Heads { query: 4, key_value: 2, dim: 6 };
        let (how, width, device) = (Attention { heads, products: Products::Plain }, 5, Device::flex());
        let mut noise = Noise(5);
        let mut random = |columns: usize| -> Tensor<2> {
            Tensor::from_data(TensorData::new(noise.values(3 * width * columns, 1.0), [3 * width, columns]), &device)
        };
        let read = [random(24), random(12), random(12)];
        let dy = random(24);
        let owners: Vec<i32> = (0..3 * width as i32).map(|i| i / 3).collect();
        let whole = || vec![Part { from: 0, len: 3, width }];
        let single = || (0..3).map(|from| Part { from, len: 1, width }).collect();
        for owners in [None, Some(owners.as_slice())] {
            let mask = Mask::new(width, owners, &Compute::device(device.clone()));
            let same = |found: Tensor<2>, expected: Tensor<2>| {
                found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Default::default());
            };
            let forward = |parts| attention_by_parts(read.clone(), mask.clone(), how, parts);
            same(forward(single()), forward(whole()));
            let backward = |parts| attention_backward_by_parts(read.clone(), dy.clone(), mask.clone(), how, parts);
            backward(single()).into_iter().zip(backward(whole())).for_each(|(found, expected)| same(found, expected));
        }
        assert_eq!((rows_at_once(32, 1024), rows_at_once(32, 1 << 14), rows_at_once(9, 512)), (4, 1, 56));
    }
}
