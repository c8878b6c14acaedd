//! The vocabulary head on logits that lie transposed, `[V, C]` for a chunk of C response tokens: every row of the vocabulary
//! is then a row of registers, and no sum runs across one.

use super::exponential::{exp, raise};
use super::simd::dispatch;
use super::threads::{Threads, in_chunks, in_turn};

/// Rows of the vocabulary per task.
const ROWS: usize = 256;

/// log Σ_v e^logit of every column of `logits` `[V, columns]`.
pub(crate) fn log_sums(logits: &[f32], columns: usize) -> Vec<f32> {
    let chunk = ROWS * columns;
    let parts = in_turn(Threads::for_elements(logits.len()), logits.len().div_ceil(chunk), |task| {
        let logits = &logits[task * chunk..((task + 1) * chunk).min(logits.len())];
        dispatch(|| partial_sums(logits, columns))
    });
    let mut largest = vec![f32::NEG_INFINITY; columns];
    for (part, _) in &parts {
        raise(&mut largest, part);
    }
    let mut sums = vec![0.0f64; columns];
    for (part, partial) in &parts {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += f64::from(partial[i]) * f64::from(part[i] - largest[i]).exp();
        }
    }
    largest.iter().zip(sums).map(|(largest, sum)| (f64::from(*largest) + sum.ln()) as f32).collect()
}

/// The largest logit of every column and Σ e^(logit − largest).
#[inline(always)]
fn partial_sums(logits: &[f32], columns: usize) -> (Vec<f32>, Vec<f32>) {
    let mut largest = vec![f32::NEG_INFINITY; columns];
    let mut sums = vec![0.0; columns];
    for row in logits.chunks_exact(columns) {
        raise(&mut largest, row);
    }
    for row in logits.chunks_exact(columns) {
        for ((sum, logit), largest) in sums.iter_mut().zip(row).zip(&largest) {
            *sum += exp(logit - largest);
        }
    }
    (largest, sums)
}

/// Turns `logits` `[V, C]` into d loss / d logits = s·(onehot(target) − p), for C `seeds` s = d loss / d log π(target).
pub(crate) fn logits_gradient(logits: &mut [f32], log_sums: &[f32], targets: &[i32], seeds: &[f32]) {
    let columns = targets.len();
    in_chunks(Threads::for_elements(logits.len()), logits, ROWS * columns, |_, logits| {
        dispatch(|| {
            for row in logits.chunks_exact_mut(columns) {
                for ((logit, log_sum), seed) in row.iter_mut().zip(log_sums).zip(seeds) {
                    *logit = -seed * exp(*logit - log_sum);
                }
            }
        });
    });
    for (column, (target, seed)) in targets.iter().zip(seeds).enumerate() {
        logits[*target as usize * columns + column] += seed;
    }
}
