//! SwiGLU, forward and backward in one pass each.

use super::exponential::sigmoid;
use super::simd::dispatch;
use super::threads::{Threads, in_chunks};

/// Elements per task.
const CHUNK: usize = 1 << 13;

/// silu(`gate`) · `up`.
pub(crate) fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; gate.len()];
    in_chunks(Threads::for_elements(gate.len()), &mut out, CHUNK, |task, out| {
        let (gate, up) = (&gate[task * CHUNK..], &up[task * CHUNK..]);
        dispatch(|| {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate * sigmoid(*gate) * up;
            }
        });
    });
    out
}

/// Turns `gate` and `up` into their gradients, and the incoming gradient `da` into the activation silu(`gate`) · `up`.
pub(crate) fn swiglu_backward(gate: &mut [f32], up: &mut [f32], da: &mut [f32]) {
    let threads = Threads::for_elements(gate.len());
    let mut chunks: Vec<_> =
        gate.chunks_mut(CHUNK).zip(up.chunks_mut(CHUNK)).zip(da.chunks_mut(CHUNK)).map(|((g, u), d)| (g, u, d)).collect();
    in_chunks(threads, &mut chunks, 1, |_, chunk| {
        let (gate, up, da) = &mut chunk[0];
        dispatch(|| {
            for ((gate, up), da) in gate.iter_mut().zip(up.iter_mut()).zip(da.iter_mut()) {
                let sigma = sigmoid(*gate);
                let silu = *gate * sigma;
                let slope = sigma + silu * (1.0 - sigma);
                (*gate, *up, *da) = (*da * *up * slope, *da * silu, silu * *up);
            }
        });
    });
}
