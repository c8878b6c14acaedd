//! Attention's gradients, in three kernels: two numbers of every query, the queries' gradients, 64 to a cube, and those of keys and values
//! (FlashAttention-2, algorithm 2). Nothing of the forward pass is kept: log Σ exp of a query's scores and rowsum(dP ∘ P) come out of a
//! look at its keys of their own, where FlashAttention takes rowsum(dY ∘ Y), which rounding Y moves by far more.

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use super::products::{Pair, add_by_tile, by_rows, hold, rows_by_rows, zeros};
use super::scores::{Running, Seen, row_sum};
use super::tiles::{Form, ROWS, Texts, alike, crew_row, fill, fill_both, pair_column, stage, unit_row, write};

/// Keys that are looked at together for queries, and queries for keys.
const OTHERS: usize = 32;

/// `out` `[2, texts · heads, T]`: log Σ exp of the scores, and rowsum(dP ∘ P).
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn statistics<F: Float, I: Int, N: Size>(
    query: &Tensor<Vector<F, N>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<F, N>>,
    firsts: &Tensor<I>,
    out: &mut Tensor<f32>,
    texts: Texts,
    #[comptime] form: Form,
    #[define(F, I)] _kinds: [ElemType; 2],
) {
    let (head, from, width) = (CUBE_POS_Y as usize, texts.first_query(), texts.width as usize);
    let (queries, keys) = (texts.queries(head, form.dim), texts.keys(head / texts.group as usize, form.dim));
    let seen = Seen::new::<I>(firsts, &texts, from);
    let mut tile = stage::<F, N>(ROWS, form);
    let held = hold::<F, N>(&mut tile, query, &queries, from, form);
    let held_dy = hold::<F, N>(&mut tile, dy, &queries, from, form);

    let mut key_tile = stage::<F, N>(OTHERS, form);
    let mut value_tile = stage::<F, N>(OTHERS, form);
    let mut running = Running::new();
    let mut weighted = alike(0.0f32);
    let mut at = usize::cast_from(firsts[texts.firsts() + from]) / OTHERS * OTHERS;
    while at < min(from + ROWS, width) {
        fill_both::<F, N>(&mut key_tile, &mut value_tile, key, value, &keys, at, OTHERS, form);
        let mut scores = by_rows::<F, N>(&held, &key_tile, OTHERS, form);
        seen.only(&mut scores, at, OTHERS);
        let factors = running.add(&mut scores, texts.scale, OTHERS);
        let dp = by_rows::<F, N>(&held_dy, &value_tile, OTHERS, form);
        #[unroll]
        for half in 0..2usize {
            let mut sum = weighted[half] * factors[half];
            #[unroll]
            for n in 0..comptime!(OTHERS / 8) {
                let part = scores[n * 2 + half] * dp[n * 2 + half];
                sum += part.extract(0usize) + part.extract(1usize);
            }
            weighted[half] = sum;
        }
        at += OTHERS;
    }
    #[unroll]
    for half in 0..2usize {
        let sum = row_sum(running.sum[half]);
        let mean = row_sum(weighted[half]) / sum;
        let row = from + unit_row() + half * 8;
        if row < width && pair_column() == 0 {
            out[texts.statistics(head) + row] = running.most[half] * texts.scale + sum.ln();
            out[texts.all() + texts.statistics(head) + row] = mean;
        }
    }
}

/// Of f32, to be turned back before it is rounded.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn query_gradient<F: Float, I: Int, N: Size>(
    query: &Tensor<Vector<F, N>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<F, N>>,
    firsts: &Tensor<I>,
    statistics: &Tensor<f32>,
    out: &mut Tensor<Pair<f32>>,
    texts: Texts,
    #[comptime] form: Form,
    #[define(F, I)] _kinds: [ElemType; 2],
) {
    let (head, from, width) = (CUBE_POS_Y as usize, texts.first_query(), texts.width as usize);
    let (queries, keys) = (texts.queries(head, form.dim), texts.keys(head / texts.group as usize, form.dim));
    let seen = Seen::new::<I>(firsts, &texts, from);
    let mut tile = stage::<F, N>(ROWS, form);
    let held = hold::<F, N>(&mut tile, query, &queries, from, form);
    let held_dy = hold::<F, N>(&mut tile, dy, &queries, from, form);
    let mut sums = Array::<f32>::new(2usize);
    let mut means = Array::<f32>::new(2usize);
    #[unroll]
    for half in 0..2usize {
        let row = texts.statistics(head) + min(from + unit_row() + half * 8, width - 1);
        sums[half] = statistics[row];
        means[half] = statistics[texts.all() + row];
    }

    let mut key_tile = stage::<F, N>(OTHERS, form);
    let mut value_tile = stage::<F, N>(OTHERS, form);
    let mut gradient = zeros(form.dim);
    let mut at = usize::cast_from(firsts[texts.firsts() + from]) / OTHERS * OTHERS;
    while at < min(from + ROWS, width) {
        fill_both::<F, N>(&mut key_tile, &mut value_tile, key, value, &keys, at, OTHERS, form);
        let mut scores = by_rows::<F, N>(&held, &key_tile, OTHERS, form);
        seen.only(&mut scores, at, OTHERS);
        let dp = by_rows::<F, N>(&held_dy, &value_tile, OTHERS, form);
        #[unroll]
        for half in 0..2usize {
            #[unroll]
            for n in 0..comptime!(OTHERS / 8) {
                let probability = (scores[n * 2 + half] * Pair::<f32>::new(texts.scale) - Pair::<f32>::new(sums[half])).exp();
                scores[n * 2 + half] = probability * (dp[n * 2 + half] - Pair::<f32>::new(means[half]));
            }
        }
        add_by_tile::<F, N>(&mut gradient, &scores, &key_tile, OTHERS, form);
        at += OTHERS;
    }
    write::<f32>(out, &queries, from, &gradient, &alike(texts.scale), form);
}

/// What 32 queries bring along for all keys: log Σ exp, rowsum(dP ∘ P), and the first key that each sees.
#[derive(CubeType)]
struct Others {
    sums: Shared<[f32]>,
    means: Shared<[f32]>,
    firsts: Shared<[u32]>,
}

#[cube]
impl Others {
    fn new() -> Others {
        Others { sums: Shared::new_slice(OTHERS), means: Shared::new_slice(OTHERS), firsts: Shared::new_slice(OTHERS) }
    }

    /// Those from one on. Queries beyond the end of a text see nothing.
    fn fill<I: Int>(&mut self, statistics: &Tensor<f32>, firsts: &Tensor<I>, texts: &Texts, head: usize, at: usize) {
        let (unit, width) = (UNIT_POS as usize, texts.width as usize);
        if unit < OTHERS {
            let position = min(at + unit, width - 1);
            let row = texts.statistics(head) + position;
            self.sums[unit] = statistics[row];
            self.means[unit] = statistics[texts.all() + row];
            self.firsts[unit] = select(at + unit < width, u32::cast_from(firsts[texts.firsts() + position]), 0xffff_ffffu32);
        }
    }

    /// Scores of keys from `from` on (rows) for queries from `at` on (columns) become probabilities; what a query does not see, 0.
    fn probabilities(&self, scores: &mut Array<Pair<f32>>, from: usize, at: usize, scale: f32) {
        #[unroll]
        for n in 0..comptime!(OTHERS / 8) {
            let sums = pair_of(&self.sums, n * 8 + pair_column());
            #[unroll]
            for half in 0..2usize {
                scores[n * 2 + half] = (scores[n * 2 + half] * Pair::<f32>::new(scale) - sums).exp();
            }
        }
        // The crew's last key is behind a query, or a query belongs to a later text.
        if from + crew_row() + 15 > at || self.firsts[OTHERS - 1] as usize > from + crew_row() {
            #[unroll]
            for half in 0..2usize {
                let key = from + unit_row() + half * 8;
                #[unroll]
                for n in 0..comptime!(OTHERS / 8) {
                    let mut pair = scores[n * 2 + half];
                    #[unroll]
                    for e in 0..2usize {
                        let other = n * 8 + pair_column() + e;
                        if key > at + other || (key as u32) < self.firsts[other] {
                            pair.insert(e, 0.0f32);
                        }
                    }
                    scores[n * 2 + half] = pair;
                }
            }
        }
    }

    /// dP becomes P ∘ (dP − rowsum(dP ∘ P)).
    fn gradient(&self, dp: &mut Array<Pair<f32>>, probabilities: &Array<Pair<f32>>) {
        #[unroll]
        for n in 0..comptime!(OTHERS / 8) {
            let means = pair_of(&self.means, n * 8 + pair_column());
            #[unroll]
            for half in 0..2usize {
                dp[n * 2 + half] = probabilities[n * 2 + half] * (dp[n * 2 + half] - means);
            }
        }
    }
}

#[cube]
fn pair_of(numbers: &[f32], at: usize) -> Pair<f32> {
    let mut pair = Pair::<f32>::new(numbers[at]);
    pair.insert(1usize, numbers[at + 1]);
    pair
}

/// `key_out` of f32, to be turned back before it is rounded; `value_out` of the factors' type.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn key_gradient<F: Float, I: Int, N: Size>(
    query: &Tensor<Vector<F, N>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<F, N>>,
    firsts: &Tensor<I>,
    statistics: &Tensor<f32>,
    key_out: &mut Tensor<Pair<f32>>,
    value_out: &mut Tensor<Pair<F>>,
    texts: Texts,
    #[comptime] form: Form,
    #[define(F, I)] _kinds: [ElemType; 2],
) {
    let (width, key_head, from) = (texts.width as usize, CUBE_POS_Y as usize, CUBE_POS_X as usize * ROWS);
    let keys = texts.keys(key_head, form.dim);
    let mut key_tile = stage::<F, N>(ROWS, form);
    let mut value_tile = stage::<F, N>(ROWS, form);
    let mut query_tile = stage::<F, N>(OTHERS, form);
    let mut dy_tile = stage::<F, N>(OTHERS, form);
    let mut others = Others::new();
    fill::<F, N>(&mut key_tile, key, &keys, from, ROWS, form);
    fill::<F, N>(&mut value_tile, value, &keys, from, ROWS, form);
    let mut key_sums = zeros(form.dim);
    let mut value_sums = zeros(form.dim);
    let last = min(from + ROWS, width) - 1;
    let mut member = 0usize;
    while member < texts.group as usize {
        let head = key_head * texts.group as usize + member;
        let queries = texts.queries(head, form.dim);
        let mut at = from;
        // Later queries see later keys.
        while at < width && usize::cast_from(firsts[texts.firsts() + min(at, width - 1)]) <= last {
            sync_cube();
            fill::<F, N>(&mut query_tile, query, &queries, at, OTHERS, form);
            fill::<F, N>(&mut dy_tile, dy, &queries, at, OTHERS, form);
            others.fill::<I>(statistics, firsts, &texts, head, at);
            sync_cube();
            let mut probabilities = rows_by_rows::<F, N>(&key_tile, crew_row(), &query_tile, OTHERS, form);
            others.probabilities(&mut probabilities, from, at, texts.scale);
            let mut gradient = rows_by_rows::<F, N>(&value_tile, crew_row(), &dy_tile, OTHERS, form);
            others.gradient(&mut gradient, &probabilities);
            add_by_tile::<F, N>(&mut value_sums, &probabilities, &dy_tile, OTHERS, form);
            add_by_tile::<F, N>(&mut key_sums, &gradient, &query_tile, OTHERS, form);
            at += OTHERS;
        }
        member += 1usize;
    }
    write::<f32>(key_out, &keys, from, &key_sums, &alike(texts.scale), form);
    write::<F>(value_out, &keys, from, &value_sums, &alike(1.0f32), form);
}
