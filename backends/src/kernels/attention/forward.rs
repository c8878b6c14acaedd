//! softmax(Q·Kᵀ·scale)·V, 64 queries of a head to a cube, 64 keys at a time (FlashAttention-2, algorithm 1).

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use super::tiles::{
    Form, Head, Pair, ROWS, add_by_tile, by_rows, crew_row, fill, lane, lefts, pair_column, row_most, row_sum, stage, zeros,
};

/// Keys that are looked at together.
const KEYS: usize = 64;

/// A crew's queries, and what they see of a text: keys from the first of theirs up to themselves.
#[derive(CubeType)]
pub(super) struct Crew {
    /// The unit's first row, the other is eight below; from the cube's first on.
    row: usize,
    /// The first key that each of the two sees.
    firsts: Array<u32>,
    /// The first key that all of the crew see, unless it is behind one of them.
    last_first: usize,
}

#[cube]
impl Crew {
    /// `start` is where the firsts of the text begin; a position beyond its end sees what its last one does.
    pub(super) fn new<I: Int>(firsts: &Tensor<I>, start: usize, from: usize, width: usize) -> Crew {
        let row = from + crew_row() + lane() / 4;
        let mut held = Array::<u32>::new(2usize);
        #[unroll]
        for half in 0..2usize {
            held[half] = u32::cast_from(firsts[start + min(row + half * 8, width - 1)]);
        }
        Crew { row, firsts: held, last_first: usize::cast_from(firsts[start + min(from + crew_row() + 15, width - 1)]) }
    }

    /// Makes what exp turns into 0 of the scores, for so many keys from one on, that are not seen.
    pub(super) fn hide(&self, scores: &mut Array<Pair<f32>>, key: usize, #[comptime] keys: usize) {
        let first_row = self.row - lane() / 4;
        if key + keys > first_row + 1 || key < self.last_first {
            #[unroll]
            for half in 0..2usize {
                #[unroll]
                for n in 0..comptime!(keys / 8) {
                    let mut pair = scores[n * 2 + half];
                    #[unroll]
                    for e in 0..2usize {
                        let at = key + n * 8 + pair_column() + e;
                        if at > self.row + half * 8 || (at as u32) < self.firsts[half] {
                            pair.insert(e, -1e30f32);
                        }
                    }
                    scores[n * 2 + half] = pair;
                }
            }
        }
    }
}

/// The largest of what a unit holds of one of its two rows of scores, and a number.
#[cube]
pub(super) fn most_of(scores: &Array<Pair<f32>>, #[comptime] half: usize, #[comptime] keys: usize, most: f32) -> f32 {
    let mut highest = most;
    #[unroll]
    for n in 0..comptime!(keys / 8) {
        let pair = scores[n * 2 + half];
        highest = max(highest, max(pair.extract(0usize), pair.extract(1usize)));
    }
    row_most(highest)
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
    let crew = Crew::new::<I>(firsts, start, from, width);
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
        crew.hide(&mut scores, at, KEYS);
        #[unroll]
        for half in 0..2usize {
            let highest = most_of(&scores, half, KEYS, most[half]);
            let less = ((most[half] - highest) * scale).exp();
            let mut total = sum[half] * less;
            #[unroll]
            for n in 0..comptime!(KEYS / 8) {
                let pair = (scores[n * 2 + half] * Pair::<f32>::new(scale) - Pair::<f32>::new(highest * scale)).exp();
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
