//! The two passes as tensor operations, which Burn fuses on a device.

use burn::tensor::{FloatDType, Tensor};

use super::adamw::{Coefficients, Pull, Strength, Sums};
use crate::compute::Compute;
use crate::error::Error;
use crate::kernel::{kind, wide};
use crate::model::Policy;
use crate::slab::{Slab, floats};
use crate::watch::Part;

/// First pass: a unit's gradient, in its own type, after the penalty has pulled on it, and sums over its elements, one after the other. An
/// `anchor` that is on the device already need not be taken there.
pub(super) fn consolidated(
    gradient: Tensor<2>,
    (policy, unit): (&Policy, usize),
    pull: Option<&Pull>,
    anchor: Option<Tensor<2>>,
) -> (Tensor<2>, Vec<Tensor<1>>) {
    let compute = policy.compute();
    let theirs = |pull: &Pull| anchor.unwrap_or_else(|| self::anchor(&pull.anchor[unit], gradient.dims(), compute));
    match (compute.layout.kernels, pull.map(|pull| (pull, &pull.strength[unit])), policy.split(unit)) {
        (Some(own), None, _) => (gradient.clone(), vec![(own.measured)(gradient)]),
        (Some(own), Some((pull, Strength::PerUnit(strength))), Some(split)) => {
            let anchor = theirs(pull);
            let (gradient, sums) = (own.pulled)(gradient, split, anchor, *strength as f32);
            (gradient, vec![sums])
        }
        (None, None, _) => (gradient.clone(), sums(Pulled { gradient: wide(gradient), pull: None })),
        (_, Some((pull, strength)), _) => {
            let (kept, anchor) = (kind(&gradient), theirs(pull));
            let pulled = pulled(wide(gradient), policy.exact(unit), anchor, strength);
            (pulled.gradient.clone().cast(kept), sums(pulled))
        }
    }
}

/// A unit's gradient, f32, after the penalty has pulled on it.
struct Pulled {
    gradient: Tensor<2>,
    /// θ − θ*, and λF(θ − θ*).
    pull: Option<[Tensor<2>; 2]>,
}

fn pulled(gradient: Tensor<2>, weights: Tensor<2>, anchor: Tensor<2>, strength: &Strength) -> Pulled {
    let away = weights - anchor;
    let pull = match strength {
        Strength::PerUnit(strength) => away.clone() * *strength,
        Strength::PerElement(fisher, factor) => away.clone() * tensor(fisher) * *factor,
    };
    Pulled { gradient: gradient + pull.clone(), pull: Some([away, pull]) }
}

fn sums(pulled: Pulled) -> Vec<Tensor<1>> {
    let zero = Tensor::zeros([1], &pulled.gradient.device());
    let [penalty, pulls] = match pulled.pull {
        None => [zero.clone(), zero],
        Some([away, pull]) => [(away * pull.clone()).sum() * 0.5, pull.square().sum()],
    };
    vec![pulled.gradient.square().sum(), penalty, pulls]
}

/// All units' sums in one readback.
pub(super) async fn sum(parts: Vec<Tensor<1>>) -> Result<Sums, Error> {
    if parts.is_empty() {
        return Ok([0.0; 3]);
    }
    let data = Tensor::cat(parts, 0).into_data_async().await.map_err(Error::device)?;
    let mut sums = [0.0; 3];
    for (i, value) in floats(data)?.into_iter().enumerate() {
        sums[i % 3] += f64::from(value);
    }
    Ok(sums)
}

/// Second pass: clips and steps.
pub(super) fn update(policy: &mut Policy, unit: usize, gradient: Tensor<2>, moments: (&mut Slab, &mut Slab), c: &Coefficients) {
    let own = policy.compute().layout.kernels;
    let Some((own, split)) = own.and_then(|own| Some((own, policy.take_split(unit)?))) else {
        let weights = policy.take(unit);
        return policy.put(unit, updated(weights, wide(gradient), moments, c));
    };
    let numbers = [c.clip, c.rate, c.keep, c.beta1, c.beta2, c.eps, c.correction1, c.correction2].map(|number| number as f32);
    let (split, [first, second]) = (own.adamw)(gradient, (split, [taken(moments.0), taken(moments.1)]), numbers);
    policy.put_split(unit, split);
    (*moments.0, *moments.1) = (Slab::Device(first), Slab::Device(second));
}

fn updated(weights: Tensor<2>, gradient: Tensor<2>, moments: (&mut Slab, &mut Slab), c: &Coefficients) -> Tensor<2> {
    let gradient = gradient * c.clip;
    let (first, second) = (taken(moments.0), taken(moments.1));
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

/// The tensor of a slab that gets another one next: its memory has one owner then, and can be changed in place.
fn taken(slab: &mut Slab) -> Tensor<2> {
    tensor(&std::mem::replace(slab, Slab::Host(Vec::new())))
}
