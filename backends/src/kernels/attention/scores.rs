//! Scores that a crew holds, 16 queries by some keys: which of them count, and their softmax as it goes.

use burn_cubecl::cubecl::{self, prelude::*};

use super::products::Pair;
use super::tiles::{Texts, crew_row, pair_column, unit_row};

/// What a crew's queries see of a text: keys from the first of theirs up to themselves.
#[derive(CubeType)]
pub(super) struct Seen {
    /// The crew's first query.
    from: usize,
    /// The unit's first query.
    query: usize,
    /// The first key that each of its two sees.
    firsts: Array<u32>,
    /// The largest first of the crew's.
    last_first: usize,
}

#[cube]
impl Seen {
    /// By the cube's queries, from one on; positions beyond the end of a text see what its last one does.
    pub(super) fn new<I: Int>(firsts: &Tensor<I>, texts: &Texts, from: usize) -> Seen {
        let (start, last) = (texts.firsts(), texts.width as usize - 1);
        let mut held = Array::<u32>::new(2usize);
        #[unroll]
        for half in 0..2usize {
            held[half] = u32::cast_from(firsts[start + min(from + unit_row() + half * 8, last)]);
        }
        let last_first = usize::cast_from(firsts[start + min(from + crew_row() + 15, last)]);
        Seen { from: from + crew_row(), query: from + unit_row(), firsts: held, last_first }
    }

    /// Of scores for so many keys from one on, makes those that are not seen what exp makes 0 of.
    pub(super) fn only(&self, scores: &mut Array<Pair<f32>>, key: usize, #[comptime] keys: usize) {
        if key + keys > self.from + 1 || key < self.last_first {
            #[unroll]
            for half in 0..2usize {
                #[unroll]
                for n in 0..comptime!(keys / 8) {
                    let mut pair = scores[n * 2 + half];
                    #[unroll]
                    for e in 0..2usize {
                        let at = key + n * 8 + pair_column() + e;
                        if at > self.query + half * 8 || (at as u32) < self.firsts[half] {
                            pair.insert(e, -1e30f32);
                        }
                    }
                    scores[n * 2 + half] = pair;
                }
            }
        }
    }
}

/// The largest score of each of a unit's rows so far, and Σ exp of what it holds of their scores, scaled, less that.
#[derive(CubeType)]
pub(super) struct Running {
    pub(super) most: Array<f32>,
    pub(super) sum: Array<f32>,
}

#[cube]
impl Running {
    pub(super) fn new() -> Running {
        let mut most = Array::<f32>::new(2usize);
        let mut sum = Array::<f32>::new(2usize);
        #[unroll]
        for half in 0..2usize {
            most[half] = -1e30f32;
            sum[half] = 0.0f32;
        }
        Running { most, sum }
    }

    /// Takes scores in, which become exp of themselves less the largest, scaled; what was added up before is to be multiplied by what comes
    /// back.
    pub(super) fn add(&mut self, scores: &mut Array<Pair<f32>>, scale: f32, #[comptime] keys: usize) -> Array<f32> {
        let mut factors = Array::<f32>::new(2usize);
        #[unroll]
        for half in 0..2usize {
            let mut highest = self.most[half];
            #[unroll]
            for n in 0..comptime!(keys / 8) {
                let pair = scores[n * 2 + half];
                highest = max(highest, max(pair.extract(0usize), pair.extract(1usize)));
            }
            let highest = row_most(highest);
            let factor = ((self.most[half] - highest) * scale).exp();
            let mut sum = self.sum[half] * factor;
            #[unroll]
            for n in 0..comptime!(keys / 8) {
                let pair = ((scores[n * 2 + half] - Pair::<f32>::new(highest)) * Pair::<f32>::new(scale)).exp();
                scores[n * 2 + half] = pair;
                sum += pair.extract(0usize) + pair.extract(1usize);
            }
            self.most[half] = highest;
            self.sum[half] = sum;
            factors[half] = factor;
        }
        factors
    }
}

/// The largest of what the four units of a row hold.
#[cube]
fn row_most(value: f32) -> f32 {
    let value = max(value, plane_shuffle_xor(value, 1u32));
    max(value, plane_shuffle_xor(value, 2u32))
}

/// Their sum.
#[cube]
pub(super) fn row_sum(value: f32) -> f32 {
    let value = value + plane_shuffle_xor(value, 1u32);
    value + plane_shuffle_xor(value, 2u32)
}
