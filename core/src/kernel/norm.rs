//! RMSNorm: y = x / √(mean(x²) + ε) · w, row by row.

use burn::tensor::Tensor;

use super::{kind, wide};
use crate::compute::Kernels;

/// Normalises the rows of `x` `[N, D]` and scales them by `weight` `[1, D]`, which is f32.
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<2>, eps: f64) -> Tensor<2> {
    let kept = kind(&x);
    let x = wide(x);
    let inverse = inverse_rms(x.clone(), eps); // [N, 1]
    (x * inverse * weight).cast(kept)
}

/// The gradients of [`rms_norm`] for an incoming gradient `dy` `[N, D]`: with respect to `x` `[N, D]` and `weight` `[1, D]`.
///
/// With x̂ = x·r and ĝ = dy·w: dx = r·(ĝ − x̂·mean(ĝ·x̂)), dw = Σ_rows dy·x̂.
pub(crate) fn rms_norm_backward(x: Tensor<2>, weight: Tensor<2>, dy: Tensor<2>, eps: f64) -> (Tensor<2>, Tensor<2>) {
    let kept = kind(&x);
    let (x, dy) = (wide(x), wide(dy));
    let inverse = inverse_rms(x.clone(), eps); // [N, 1]
    let unit = x * inverse.clone(); // [N, D]
    let weight_gradient = (dy.clone() * unit.clone()).sum_dim(0); // [1, D]
    let scaled = dy * weight; // [N, D]
    let projection = (scaled.clone() * unit.clone()).mean_dim(1); // [N, 1]
    (((scaled - unit * projection) * inverse).cast(kept), weight_gradient)
}

/// [`rms_norm`] by whoever computes layers.
pub(crate) fn norm(x: Tensor<2>, weight: Tensor<2>, eps: f64, kernels: Option<Kernels>) -> Tensor<2> {
    match kernels {
        Some(own) => (own.rms_norm)(x, weight, eps as f32),
        None => rms_norm(x, weight, eps),
    }
}

/// [`rms_norm_backward`] by whoever computes layers, with what comes around the norm, if anything, added to the gradient of `x`.
pub(crate) fn norm_backward(
    [x, weight, dy]: [Tensor<2>; 3],
    carried: Option<Tensor<2>>,
    eps: f64,
    kernels: Option<Kernels>,
) -> (Tensor<2>, Tensor<2>) {
    if let Some(own) = kernels {
        let carried = carried.unwrap_or_else(|| x.zeros_like());
        return (own.rms_norm_backward)(x, weight, dy, carried, eps as f32);
    }
    let (dx, weight) = rms_norm_backward(x, weight, dy, eps);
    let dx = match carried {
        Some(carried) => carried + dx,
        None => dx,
    };
    (dx, weight)
}

fn inverse_rms(x: Tensor<2>, eps: f64) -> Tensor<2> {
    x.square().mean_dim(1).add_scalar(eps).sqrt().recip()
}
