//! The two passes as loops over ordinary memory.
//!
//! Work is cut into chunks of a fixed size and partial sums are added in their order, so results do not depend on the
//! number of threads.

use rayon::prelude::*;

use super::adamw::{Coefficients, Pull, Strength, Sums};
use crate::host::dispatch;
use crate::slab::Slab;

/// Elements per task: large enough to forget the task's cost, small enough to share a norm among cores.
const CHUNK: usize = 1 << 16;

/// Sums run in this many f64 lanes, which the compiler maps to vector registers.
const LANES: usize = 16;

/// First pass: adds the pull to the gradient.
pub(super) fn consolidate(gradient: &mut [f32], weights: &[f32], pull: Option<(&Pull, usize)>) -> Sums {
    match pull.map(|(pull, unit)| (values(&pull.anchor[unit]), &pull.strength[unit])) {
        None | Some((_, Strength::PerUnit(0.0))) => {
            total(gradient.par_chunks(CHUNK).map(|g| [dispatch(|| lanes(g.len(), |i| square(g[i]))), 0.0, 0.0]))
        }
        Some((anchor, Strength::PerUnit(strength))) => {
            let strength = [*strength as f32; LANES];
            let chunks = gradient.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK)).zip(anchor.par_chunks(CHUNK));
            total(chunks.map(|((g, w), a)| dispatch(|| pull_chunk(g, w, a, |_| strength))))
        }
        Some((anchor, Strength::PerElement(fisher, factor))) => {
            let factor = *factor as f32;
            let chunks = gradient.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK)).zip(anchor.par_chunks(CHUNK));
            let chunks = chunks.zip(values(fisher).par_chunks(CHUNK));
            total(chunks.map(|(((g, w), a), f)| dispatch(|| pull_chunk(g, w, a, |from| block(f, from).map(|f| factor * f)))))
        }
    }
}

/// `strength` tells λF of the elements from an index on.
#[inline(always)]
fn pull_chunk(gradient: &mut [f32], weights: &[f32], anchor: &[f32], strength: impl Fn(usize) -> [f32; LANES]) -> Sums {
    let mut sums = [[0.0; LANES]; 3];
    let (blocks, rest) = gradient.as_chunks_mut::<LANES>();
    for (number, gradient) in blocks.iter_mut().enumerate() {
        let from = number * LANES;
        pull_block(gradient, &block(weights, from), &block(anchor, from), &strength(from), &mut sums);
    }
    if !rest.is_empty() {
        let from = weights.len() - rest.len();
        let mut last = block(rest, 0);
        pull_block(&mut last, &block(weights, from), &block(anchor, from), &strength(from), &mut sums);
        rest.copy_from_slice(&last[..rest.len()]);
    }
    sums.map(|lanes| lanes.iter().sum())
}

#[inline(always)]
fn pull_block(
    gradient: &mut [f32; LANES],
    weights: &[f32; LANES],
    anchor: &[f32; LANES],
    strength: &[f32; LANES],
    [squares, penalties, pulls]: &mut [[f64; LANES]; 3],
) {
    for i in 0..LANES {
        let away = weights[i] - anchor[i];
        gradient[i] += strength[i] * away;
        squares[i] += square(gradient[i]);
        penalties[i] += 0.5 * f64::from(strength[i]) * square(away);
        pulls[i] += square(strength[i] * away);
    }
}

/// The elements from an index on; zeros beyond the end.
#[inline(always)]
fn block(values: &[f32], from: usize) -> [f32; LANES] {
    let values = &values[from..];
    values.first_chunk().copied().unwrap_or_else(|| std::array::from_fn(|i| values.get(i).copied().unwrap_or(0.0)))
}

/// Second pass: clips and steps.
pub(super) fn update(weights: &mut [f32], gradient: &[f32], (first, second): (&mut Slab, &mut Slab), c: &Coefficients) {
    let (first, second) = (values_mut(first), values_mut(second));
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    let chunks = weights.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(moments);
    chunks.for_each(|((w, g), (m, v))| dispatch(|| update_chunk(w, g, m, v, c)));
}

#[inline(always)]
fn update_chunk(weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], c: &Coefficients) {
    let (clip, keep, eps) = (c.clip as f32, c.keep as f32, c.eps as f32);
    let (take1, beta2, take2) = ((1.0 - c.beta1) as f32, c.beta2 as f32, (1.0 - c.beta2) as f32);
    let (rate, correction2) = ((c.rate / c.correction1) as f32, c.correction2 as f32);
    for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
        let g = g * clip;
        *m += take1 * (g - *m);
        *v = beta2 * *v + take2 * g * g;
        *w = *w * keep - rate * *m / (v.sqrt() / correction2 + eps);
    }
}

/// Σ (before − after)².
pub(crate) fn squared_distance(before: &[f32], after: &[f32]) -> f64 {
    let chunks = before.par_chunks(CHUNK).zip(after.par_chunks(CHUNK));
    total(chunks.map(|(b, a)| [dispatch(|| lanes(b.len(), |i| square(b[i] - a[i]))), 0.0, 0.0]))[0]
}

fn total(parts: impl IndexedParallelIterator<Item = Sums>) -> Sums {
    let parts: Vec<Sums> = parts.collect();
    parts.iter().fold([0.0; 3], |sum, part| [sum[0] + part[0], sum[1] + part[1], sum[2] + part[2]])
}

#[inline(always)]
fn lanes(n: usize, term: impl Fn(usize) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    sums.iter().sum::<f64>() + (whole..n).map(term).sum::<f64>()
}

#[inline(always)]
fn square(x: f32) -> f64 {
    let x = f64::from(x);
    x * x
}

fn values(slab: &Slab) -> &[f32] {
    match slab {
        Slab::Host(values) => values,
        Slab::Device(_) | Slab::Lent(_) => unreachable!("slabs of a host device are in host memory"),
    }
}

fn values_mut(slab: &mut Slab) -> &mut [f32] {
    match slab {
        Slab::Host(values) => values,
        Slab::Device(_) | Slab::Lent(_) => unreachable!("slabs of a host device are in host memory"),
    }
}
