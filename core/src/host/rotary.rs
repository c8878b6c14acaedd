//! Rotary position embedding in place.

use super::simd::dispatch;
use super::threads::{Threads, in_chunks};
use crate::kernel::rotary::{Angles, Turn};

/// Rows per task.
const ROWS: usize = 32;

/// Turns the heads of `x` `[N, heads · head_dim]`, whose rows stand at the given positions.
pub(crate) fn turn(x: &mut [f32], positions: &[usize], angles: &Angles, turn: Turn) {
    let (width, half) = (x.len() / positions.len(), angles.half());
    in_chunks(Threads::for_elements(x.len()), x, ROWS * width, |task, x| {
        dispatch(|| {
            for (x, position) in x.chunks_exact_mut(width).zip(&positions[task * ROWS..]) {
                let (cos, sin) = (angles.cos(*position), angles.sin(*position));
                for head in x.chunks_exact_mut(2 * half) {
                    turn_head(head, cos, sin, turn);
                }
            }
        });
    });
}

#[inline(always)]
fn turn_head(head: &mut [f32], cos: &[f32], sin: &[f32], turn: Turn) {
    let sign = match turn {
        Turn::Forward => 1.0,
        Turn::Backward => -1.0,
    };
    let (first, second) = head.split_at_mut(cos.len());
    for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        let sin = sign * sin;
        (*first, *second) = (*first * cos - *second * sin, *second * cos + *first * sin);
    }
}
