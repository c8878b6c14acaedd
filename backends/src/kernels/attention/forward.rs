//! softmax(Q·Kᵀ·scale)·V, 64 queries of a head to a cube, 64 keys at a time (FlashAttention-2, algorithm 1).

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use super::products::{Pair, add_by_tile, by_rows, hold, zeros};
use super::scores::{Running, Seen, row_sum};
use super::tiles::{Form, ROWS, Texts, fill_both, stage, write};

/// Keys that are looked at together.
const KEYS: usize = 64;

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn attend<F: Float, I: Int, N: Size>(
    query: &Tensor<Vector<F, N>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    firsts: &Tensor<I>,
    out: &mut Tensor<Pair<F>>,
    texts: Texts,
    #[comptime] form: Form,
    #[define(F, I)] _kinds: [ElemType; 2],
) {
    let (head, from) = (CUBE_POS_Y as usize, texts.first_query());
    let (queries, keys) = (texts.queries(head, form.dim), texts.keys(head / texts.group as usize, form.dim));
    let seen = Seen::new::<I>(firsts, &texts, from);
    let mut key_tile = stage::<F, N>(KEYS, form);
    let mut value_tile = stage::<F, N>(KEYS, form);
    let held = hold::<F, N>(&mut key_tile, query, &queries, from, form);
    let mut context = zeros(form.dim);
    let mut running = Running::new();
    let mut at = usize::cast_from(firsts[texts.firsts() + from]) / KEYS * KEYS;
    while at < min(from + ROWS, texts.width as usize) {
        fill_both::<F, N>(&mut key_tile, &mut value_tile, key, value, &keys, at, KEYS, form);
        let mut scores = by_rows::<F, N>(&held, &key_tile, KEYS, form);
        seen.only(&mut scores, at, KEYS);
        let factors = running.add(&mut scores, texts.scale, KEYS);
        #[unroll]
        for half in 0..2usize {
            #[unroll]
            for n in 0..comptime!(form.dim / 8) {
                context[n * 2 + half] *= Pair::<f32>::new(factors[half]);
            }
        }
        add_by_tile::<F, N>(&mut context, &scores, &value_tile, KEYS, form);
        at += KEYS;
    }
    let mut inverses = Array::<f32>::new(2usize);
    #[unroll]
    for half in 0..2usize {
        inverses[half] = 1.0f32 / row_sum(running.sum[half]);
    }
    write::<F>(out, &queries, from, &context, &inverses, form);
}
