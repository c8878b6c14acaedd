//! The two passes as tensor operations, which Burn fuses on a device.

use burn::tensor::{FloatDType, Tensor};

use super::adamw::{Coefficients, Pull, Strength, Sums};
use crate::compute::Compute;
use crate::error::Error;
use crate::slab::{Slab, floats};
use crate::watch::Part;

/// A unit's gradient, f32, after the penalty has pulled on it.
pub(super) struct Pulled {
    pub(super) gradient: Tensor<2>,
    /// θ − θ*, and λF(θ − θ*).
    pull: Option<[Tensor<2>; 2]>,
}

/// Adds the pull to a gradient.
pub(super) fn pulled(gradient: Tensor<2>, weights: &Tensor<2>, pull: Option<(&Pull, usize)>, compute: &Compute) -> Pulled {
    let gradient = gradient.cast(FloatDType::F32);
    let Some((pull, unit)) = pull else { return Pulled { gradient, pull: None } };
    let strength = &pull.strength[unit];
    let away = weights.clone() - anchor(&pull.anchor[unit], weights.dims(), compute);
    let pull = match strength {
        Strength::PerUnit(strength) => away.clone() * *strength,
        Strength::PerElement(fisher, factor) => away.clone() * tensor(fisher) * *factor,
    };
    Pulled { gradient: gradient + pull.clone(), pull: Some([away, pull]) }
}

/// First pass: a unit's sums, `[1]` each.
pub(super) fn sums(pulled: Pulled) -> [Tensor<1>; 3] {
    let zero = Tensor::zeros([1], &pulled.gradient.device());
    let [penalty, pulls] = match pulled.pull {
        None => [zero.clone(), zero],
        Some([away, pull]) => [(away * pull.clone()).sum() * 0.5, pull.square().sum()],
    };
    [pulled.gradient.square().sum(), penalty, pulls]
}

/// All units' sums in one readback.
pub(super) async fn sum(parts: Vec<[Tensor<1>; 3]>) -> Result<Sums, Error> {
    if parts.is_empty() {
        return Ok([0.0; 3]);
    }
    let data = Tensor::cat(parts.into_iter().flatten().collect(), 0).into_data_async().await.map_err(Error::device)?;
    let mut sums = [0.0; 3];
    for (i, value) in floats(data)?.into_iter().enumerate() {
        sums[i % 3] += f64::from(value);
    }
    Ok(sums)
}

/// Second pass: clips and steps.
pub(super) fn update(weights: Tensor<2>, gradient: Tensor<2>, moments: (&mut Slab, &mut Slab), c: &Coefficients) -> Tensor<2> {
    let gradient = gradient * c.clip;
    let (first, second) = (tensor(moments.0), tensor(moments.1));
    let kept: FloatDType = first.dtype().into();
    let (first, second) = (first.cast(FloatDType::F32), second.cast(FloatDType::F32));
    let first = first.clone() + (gradient.clone() - first) * (1.0 - c.beta1);
    let second = second * c.beta2 + gradient.square() * (1.0 - c.beta2);
    let denominator = second.clone().sqrt() / c.correction2 + c.eps;
    let step = first.clone() / denominator * (c.rate / c.correction1);
    *moments.0 = Slab::Device(first.cast(kept));
    *moments.1 = Slab::Device(second.cast(kept));
    weights * c.keep - step
}

/// Σ (before − after)², `[1]`.
pub(crate) fn squared_distance(before: Tensor<2>, after: Tensor<2>) -> Tensor<1> {
    (before - after).square().sum()
}

/// An anchor that is kept in ordinary memory is taken to the device for as long as it is needed.
fn anchor(slab: &Slab, dims: [usize; 2], compute: &Compute) -> Tensor<2> {
    match slab {
        Slab::Lent(_) => {
            let _transfer = compute.under(Part::Transfer);
            slab.tensor(dims, compute)
        }
        slab => tensor(slab),
    }
}

fn tensor(slab: &Slab) -> Tensor<2> {
    match slab {
        Slab::Device(tensor) => tensor.clone(),
        Slab::Host(_) | Slab::Lent(_) => unreachable!("slabs of a device are on it"),
    }
}
