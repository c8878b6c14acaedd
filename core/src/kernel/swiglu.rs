//! SwiGLU: a = silu(g) · u with silu(g) = g·σ(g).

use burn::tensor::{Tensor, activation::sigmoid};

use super::{kind, wide};
use crate::compute::Kernels;

/// The gated activation of `gate` and `up`, both `[N, F]`.
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>, kernels: Option<Kernels>) -> Tensor<2> {
    if let Some(own) = kernels {
        return (own.swiglu)(gate, up);
    }
    let kept = kind(&gate);
    let gate = wide(gate);
    (gate.clone() * sigmoid(gate) * wide(up)).cast(kept)
}

/// The gradients of [`swiglu`] with respect to `gate` and `up` for an incoming gradient `da`, and the activation itself, all `[N, F]`.
///
/// silu'(g) = σ + silu(g)·(1 − σ).
pub(crate) fn swiglu_backward(gate: Tensor<2>, up: Tensor<2>, da: Tensor<2>, kernels: Option<Kernels>) -> [Tensor<2>; 3] {
    if let Some(own) = kernels {
        return (own.swiglu_backward)(gate, up, da);
    }
    let kept = kind(&gate);
    let (gate, up, da) = (wide(gate), wide(up), wide(da));
    let sigma = sigmoid(gate.clone());
    let silu = gate * sigma.clone();
    let slope = sigma.clone() + silu.clone() * (sigma.neg() + 1.0);
    [da.clone() * up.clone() * slope, da * silu.clone(), silu * up].map(|x| x.cast(kept))
}
