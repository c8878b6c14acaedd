//! RMSNorm, one pass per row.

use super::simd::dispatch;
use super::threads::{Threads, in_chunks, in_turn};

/// Rows per task.
const ROWS: usize = 32;

/// The rows of `x` `[N, D]` normalised and scaled by `weight` `[D]`.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
    in_chunks(Threads::for_elements(x.len()), &mut out, ROWS * width, |task, out| {
        let x = &x[task * ROWS * width..];
        dispatch(|| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let inverse = inverse_rms(x, eps);
                for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                    *out = x * inverse * weight;
                }
            }
        });
    });
    out
}

/// Adds the gradient with respect to `x` `[N, D]` to `gradient` and returns that of `weight` `[D]`, for an incoming `dy`.
pub(crate) fn rms_norm_backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32, gradient: &mut [f32]) -> Vec<f32> {
    let width = weight.len();
    let threads = Threads::for_elements(x.len());
    in_chunks(threads, gradient, ROWS * width, |task, gradient| {
        let (x, dy) = (&x[task * ROWS * width..], &dy[task * ROWS * width..]);
        dispatch(|| {
            let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
            for (gradient, (x, dy)) in gradient.chunks_exact_mut(width).zip(rows) {
                row_backward(x, weight, dy, eps, gradient);
            }
        });
    });
    let rows = x.len() / width;
    let parts = in_turn(threads, rows.div_ceil(ROWS * 4), |task| {
        let rows = task * ROWS * 4 * width..((task + 1) * ROWS * 4 * width).min(x.len());
        dispatch(|| weight_gradient(&x[rows.clone()], &dy[rows], width, eps))
    });
    sum(parts, width)
}

#[inline(always)]
fn row_backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32, gradient: &mut [f32]) {
    let inverse = inverse_rms(x, eps);
    let projection = lanes(x.len(), |i| dy[i] * weight[i] * x[i]) * inverse * inverse / x.len() as f32;
    for (((gradient, x), dy), weight) in gradient.iter_mut().zip(x).zip(dy).zip(weight) {
        *gradient += (dy * weight - x * projection) * inverse;
    }
}

#[inline(always)]
fn weight_gradient(x: &[f32], dy: &[f32], width: usize, eps: f32) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        let inverse = inverse_rms(x, eps);
        for ((sum, x), dy) in sum.iter_mut().zip(x).zip(dy) {
            *sum += dy * (x * inverse);
        }
    }
    sum
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (lanes(x.len(), |i| x[i] * x[i]) / x.len() as f32 + eps).sqrt()
}

/// Σ term(i) in sixteen interleaved sums, which become vector registers.
#[inline(always)]
pub(super) fn lanes(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0; 16];
    let whole = n - n % 16;
    for from in (0..whole).step_by(16) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(from + lane);
        }
    }
    sums.iter().sum::<f32>() + (whole..n).map(term).sum::<f32>()
}

/// Vectors added up in their order.
pub(super) fn sum(parts: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    parts.into_iter().fold(vec![0.0; width], |mut sum, part| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sum
    })
}
