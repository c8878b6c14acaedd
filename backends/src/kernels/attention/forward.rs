//! softmax(Q·Kᵀ·scale)·V, 64 queries of a head to a cube, 64 keys at a time (FlashAttention-2, algorithm 1).

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use super::tiles::{Form, Head, Pair, ROWS, add_by_tile, by_rows, crew_row, fill, lane, lefts, pair_column, row_most, row_sum, stage, zeros};

/// Keys that are looked at together.
const KEYS: usize = 64;

/// Which keys a query sees, and the numbers of a row of scores.
#[derive(CubeType)]
pub(super) struct Seen {
    pub(super) first: usize,
    pub(super) last: usize,
}

#[cube]
impl Seen {
    /// Those of a position of a text, the last one's where it is none of it.
    pub(super) fn new<I: Int>(firsts: &Tensor<I>, start: usize, position: usize, width: usize) -> Seen {
        let last = min(position, width - 1);
        Seen { first: usize::cast_from(firsts[start + last]), last }
    }
}

/// A pair of scores, scaled, from a key on; those that are not seen become what exp makes 0 of.
#[cube]
pub(super) fn masked(scores: Pair<f32>, scale: f32, key: usize, seen: &Seen) -> Pair<f32> {
    let mut scores = scores * Pair::<f32>::new(scale);
    #[unroll]
    for e in 0..2usize {
        if key + e < seen.first || key + e > seen.last {
            scores.insert(e, -1e30f32);
        }
    }
    scores
}

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn attend<F: Float, I: Int, N: Size>(
    query: &Tensor<Vector<F, N>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    firsts: &Tensor<I>,
    out: &mut Tensor<Vector<F, Const<2>>>,
    scale: f32,
    width: u32,
    heads: u32,
    group: u32,
    apart: u32,
    #[comptime] form: Form,
    #[define(F, I)] _kinds: [ElemType; 2],
) {
    let (width, heads, text, head) = (width as usize, heads as usize, CUBE_POS_Z as usize, CUBE_POS_Y as usize);
    // Those with most to look at first.
    let from = ((width - 1) / ROWS - CUBE_POS_X as usize) * ROWS;
    let queries = Head::new(text, head, heads, width, form.dim);
    let keys = Head::new(text, head / group as usize, heads / group as usize, width, form.dim);
    let start = text * apart as usize;
    let mut key_tile = stage::<F, N>(KEYS, form);
    let mut value_tile = stage::<F, N>(KEYS, form);

    fill::<F, N>(&mut key_tile, query, &queries, from, ROWS, form);
    sync_cube();
    let held = lefts::<F, N>(&key_tile, crew_row(), form);
    let mut context = zeros(form.dim);
    let mut most = Array::<f32>::new(2usize);
    let mut sum = Array::<f32>::new(2usize);
    #[unroll]
    for half in 0..2usize {
        most[half] = -1e30f32;
        sum[half] = 0.0f32;
    }

    let mut at = usize::cast_from(firsts[start + from]) / KEYS * KEYS;
    while at < min(from + ROWS, width) {
        sync_cube();
        fill::<F, N>(&mut key_tile, key, &keys, at, KEYS, form);
        fill::<F, N>(&mut value_tile, value, &keys, at, KEYS, form);
        sync_cube();
        let mut scores = by_rows::<F, N>(&held, &key_tile, KEYS, form);
        #[unroll]
        for half in 0..2usize {
            let seen = Seen::new::<I>(firsts, start, from + crew_row() + lane() / 4 + half * 8, width);
            let mut highest = most[half];
            #[unroll]
            for n in 0..comptime!(KEYS / 8) {
                let pair = masked(scores[n * 2 + half], scale, at + n * 8 + pair_column(), &seen);
                scores[n * 2 + half] = pair;
                highest = max(highest, max(pair.extract(0usize), pair.extract(1usize)));
            }
            let highest = row_most(highest);
            let less = (most[half] - highest).exp();
            let mut total = sum[half] * less;
            #[unroll]
            for n in 0..comptime!(KEYS / 8) {
                let pair = (scores[n * 2 + half] - Pair::<f32>::new(highest)).exp();
                scores[n * 2 + half] = pair;
                total += pair.extract(0usize) + pair.extract(1usize);
            }
            most[half] = highest;
            sum[half] = total;
            #[unroll]
            for n in 0..comptime!(form.dim / 8) {
                context[n * 2 + half] *= Pair::<f32>::new(less);
            }
        }
        add_by_tile::<F, N>(&mut context, &scores, &value_tile, KEYS, form);
        at += KEYS;
    }

    #[unroll]
    for half in 0..2usize {
        let position = from + crew_row() + lane() / 4 + half * 8;
        let whole = Pair::<f32>::new(1.0f32 / row_sum(sum[half]));
        if position < width {
            #[unroll]
            for n in 0..comptime!(form.dim / 8) {
                out[queries.pairs(position) + n * 4 + lane() % 4] = Pair::<F>::cast_from(context[n * 2 + half] * whole);
            }
        }
    }
}
