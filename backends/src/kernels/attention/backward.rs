//! Attention's gradients: those of queries 64 to a cube, then those of keys and values (FlashAttention-2, algorithm 2). Nothing of the
//! forward pass is kept: log Σ exp of a query's scores and rowsum(dP ∘ P) come out of a first look at its keys, where FlashAttention
//! takes rowsum(dY ∘ Y), which rounding Y moves by far more.

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use super::forward::{Crew, most_of};
use super::tiles::{
    Form, Head, Pair, ROWS, add_by_tile, by_rows, crew_row, fill, lane, lefts, pair_column, row_sum, rows_by_rows, stage, zeros,
};

/// Keys that are looked at together for queries, and queries for keys.
const OTHERS: usize = 32;

/// `statistics` `[2, texts · heads, T]`: log Σ exp of the scores, and rowsum(dP ∘ P).
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn query_gradient<F: Float, I: Int, N: Size>(
    query: &Tensor<Vector<F, N>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<F, N>>,
    firsts: &Tensor<I>,
    out: &mut Tensor<Vector<f32, Const<2>>>,
    statistics: &mut Tensor<f32>,
    scale: f32,
    width: u32,
    heads: u32,
    group: u32,
    apart: u32,
    #[comptime] form: Form,
    #[define(F, I)] _kinds: [ElemType; 2],
) {
    let (width, heads, text, head) = (width as usize, heads as usize, CUBE_POS_Z as usize, CUBE_POS_Y as usize);
    let from = ((width - 1) / ROWS - CUBE_POS_X as usize) * ROWS;
    let queries = Head::new(text, head, heads, width, form.dim);
    let keys = Head::new(text, head / group as usize, heads / group as usize, width, form.dim);
    let start = text * apart as usize;
    let crew = Crew::new::<I>(firsts, start, from, width);
    let mut tile = stage::<F, N>(ROWS, form);
    fill::<F, N>(&mut tile, query, &queries, from, ROWS, form);
    sync_cube();
    let held = lefts::<F, N>(&tile, crew_row(), form);
    sync_cube();
    fill::<F, N>(&mut tile, dy, &queries, from, ROWS, form);
    sync_cube();
    let held_dy = lefts::<F, N>(&tile, crew_row(), form);

    let mut key_tile = stage::<F, N>(OTHERS, form);
    let mut value_tile = stage::<F, N>(OTHERS, form);
    let mut most = Array::<f32>::new(2usize);
    let mut sum = Array::<f32>::new(2usize);
    let mut weighted = Array::<f32>::new(2usize);
    #[unroll]
    for half in 0..2usize {
        most[half] = -1e30f32;
        sum[half] = 0.0f32;
        weighted[half] = 0.0f32;
    }
    let begin = usize::cast_from(firsts[start + from]) / OTHERS * OTHERS;
    let end = min(from + ROWS, width);
    let mut at = begin;
    while at < end {
        sync_cube();
        fill::<F, N>(&mut key_tile, key, &keys, at, OTHERS, form);
        fill::<F, N>(&mut value_tile, value, &keys, at, OTHERS, form);
        sync_cube();
        let mut scores = by_rows::<F, N>(&held, &key_tile, OTHERS, form);
        crew.hide(&mut scores, at, OTHERS);
        let dp = by_rows::<F, N>(&held_dy, &value_tile, OTHERS, form);
        #[unroll]
        for half in 0..2usize {
            let highest = most_of(&scores, half, OTHERS, most[half]);
            let less = ((most[half] - highest) * scale).exp();
            let mut total = sum[half] * less;
            let mut total_weighted = weighted[half] * less;
            #[unroll]
            for n in 0..comptime!(OTHERS / 8) {
                let pair = (scores[n * 2 + half] * Pair::<f32>::new(scale) - Pair::<f32>::new(highest * scale)).exp();
                let part = pair * dp[n * 2 + half];
                total += pair.extract(0usize) + pair.extract(1usize);
                total_weighted += part.extract(0usize) + part.extract(1usize);
            }
            most[half] = highest;
            sum[half] = total;
            weighted[half] = total_weighted;
        }
        at += OTHERS;
    }
    #[unroll]
    for half in 0..2usize {
        let total = row_sum(sum[half]);
        let position = from + crew_row() + lane() / 4 + half * 8;
        most[half] = most[half] * scale + total.ln(); // log Σ exp
        weighted[half] = row_sum(weighted[half]) / total;
        if position < width && pair_column() == 0 {
            let rows = CUBE_COUNT_Z as usize * heads;
            let row = text * heads + head;
            statistics[row * width + position] = most[half];
            statistics[(rows + row) * width + position] = weighted[half];
        }
    }

    let mut gradient = zeros(form.dim);
    let mut at = begin;
    while at < end {
        sync_cube();
        fill::<F, N>(&mut key_tile, key, &keys, at, OTHERS, form);
        fill::<F, N>(&mut value_tile, value, &keys, at, OTHERS, form);
        sync_cube();
        let mut scores = by_rows::<F, N>(&held, &key_tile, OTHERS, form);
        crew.hide(&mut scores, at, OTHERS);
        let dp = by_rows::<F, N>(&held_dy, &value_tile, OTHERS, form);
        #[unroll]
        for half in 0..2usize {
            #[unroll]
            for n in 0..comptime!(OTHERS / 8) {
                let away = dp[n * 2 + half] - Pair::<f32>::new(weighted[half]);
                let scaled = scores[n * 2 + half] * Pair::<f32>::new(scale);
                scores[n * 2 + half] = (scaled - Pair::<f32>::new(most[half])).exp() * away;
            }
        }
        add_by_tile::<F, N>(&mut gradient, &scores, &key_tile, OTHERS, form);
        at += OTHERS;
    }
    #[unroll]
    for half in 0..2usize {
        let position = from + crew_row() + lane() / 4 + half * 8;
        if position < width {
            #[unroll]
            for n in 0..comptime!(form.dim / 8) {
                out[queries.pairs(position) + n * 4 + lane() % 4] = gradient[n * 2 + half] * Pair::<f32>::new(scale);
            }
        }
    }
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
    key_out: &mut Tensor<Vector<f32, Const<2>>>,
    value_out: &mut Tensor<Vector<F, Const<2>>>,
    scale: f32,
    width: u32,
    heads: u32,
    group: u32,
    apart: u32,
    #[comptime] form: Form,
    #[define(F, I)] _kinds: [ElemType; 2],
) {
    let (width, heads, group) = (width as usize, heads as usize, group as usize);
    let (text, key_head) = (CUBE_POS_Z as usize, CUBE_POS_Y as usize);
    let from = CUBE_POS_X as usize * ROWS;
    let keys = Head::new(text, key_head, heads / group, width, form.dim);
    let start = text * apart as usize;
    let mut key_tile = stage::<F, N>(ROWS, form);
    let mut value_tile = stage::<F, N>(ROWS, form);
    let mut query_tile = stage::<F, N>(OTHERS, form);
    let mut dy_tile = stage::<F, N>(OTHERS, form);
    let mut sums = Shared::<[f32]>::new_slice(OTHERS);
    let mut means = Shared::<[f32]>::new_slice(OTHERS);
    let mut begins = Shared::<[u32]>::new_slice(OTHERS);
    fill::<F, N>(&mut key_tile, key, &keys, from, ROWS, form);
    fill::<F, N>(&mut value_tile, value, &keys, from, ROWS, form);
    let mut key_sums = zeros(form.dim);
    let mut value_sums = zeros(form.dim);

    let last = min(from + ROWS, width) - 1;
    let mut member = 0usize;
    while member < group {
        let head = key_head * group + member;
        let queries = Head::new(text, head, heads, width, form.dim);
        let mut at = from / OTHERS * OTHERS;
        // Later queries see later keys.
        while at < width && usize::cast_from(firsts[start + min(at, width - 1)]) <= last {
            sync_cube();
            fill::<F, N>(&mut query_tile, query, &queries, at, OTHERS, form);
            fill::<F, N>(&mut dy_tile, dy, &queries, at, OTHERS, form);
            let unit = UNIT_POS as usize;
            if unit < OTHERS {
                let position = min(at + unit, width - 1);
                let row = text * heads + head;
                sums[unit] = statistics[row * width + position];
                means[unit] = statistics[(CUBE_COUNT_Z as usize * heads + row) * width + position];
                // Nobody sees anything from beyond the end of a text.
                begins[unit] = select(at + unit < width, u32::cast_from(firsts[start + position]), 0xffff_ffffu32);
            }
            sync_cube();
            let mut probabilities = rows_by_rows::<F, N>(&key_tile, crew_row(), &query_tile, OTHERS, form);
            let mut gradient = rows_by_rows::<F, N>(&value_tile, crew_row(), &dy_tile, OTHERS, form);
            #[unroll]
            for n in 0..comptime!(OTHERS / 8) {
                let mut sum = Pair::<f32>::new(0.0f32);
                let mut mean = Pair::<f32>::new(0.0f32);
                #[unroll]
                for e in 0..2usize {
                    sum.insert(e, sums[n * 8 + pair_column() + e]);
                    mean.insert(e, means[n * 8 + pair_column() + e]);
                }
                #[unroll]
                for half in 0..2usize {
                    probabilities[n * 2 + half] = (probabilities[n * 2 + half] * Pair::<f32>::new(scale) - sum).exp();
                    gradient[n * 2 + half] -= mean;
                }
            }
            // The crew's last key is behind some query, or a later text's queries are among them.
            if from + crew_row() + 15 > at || begins[OTHERS - 1] as usize > from + crew_row() {
                #[unroll]
                for half in 0..2usize {
                    let position = from + crew_row() + lane() / 4 + half * 8;
                    #[unroll]
                    for n in 0..comptime!(OTHERS / 8) {
                        let mut pair = probabilities[n * 2 + half];
                        #[unroll]
                        for e in 0..2usize {
                            let other = n * 8 + pair_column() + e;
                            if position > at + other || (position as u32) < begins[other] {
                                pair.insert(e, 0.0f32);
                            }
                        }
                        probabilities[n * 2 + half] = pair;
                    }
                }
            }
            #[unroll]
            for i in 0..comptime!(OTHERS / 4) {
                gradient[i] *= probabilities[i];
            }
            add_by_tile::<F, N>(&mut value_sums, &probabilities, &dy_tile, OTHERS, form);
            add_by_tile::<F, N>(&mut key_sums, &gradient, &query_tile, OTHERS, form);
            at += OTHERS;
        }
        member += 1usize;
    }
    #[unroll]
    for half in 0..2usize {
        let position = from + crew_row() + lane() / 4 + half * 8;
        if position < width {
            #[unroll]
            for n in 0..comptime!(form.dim / 8) {
                let place = keys.pairs(position) + n * 4 + lane() % 4;
                key_out[place] = key_sums[n * 2 + half] * Pair::<f32>::new(scale);
                value_out[place] = Pair::<F>::cast_from(value_sums[n * 2 + half]);
            }
        }
    }
}
