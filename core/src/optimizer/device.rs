//! The two passes on a device: kernels where it has them, or tensor operations, which Burn fuses.

use burn::tensor::{DType, FloatDType, Tensor};

use super::adamw::{Coefficients, Pull, Strength, Sums};
use crate::compute::{Compute, Kernels};
use crate::error::Error;
use crate::host::{repulled, widen};
use crate::kernel::{kind, wide};
use crate::model::Policy;
use crate::slab::{Slab, floats};
use crate::watch::Part;

/// What the first pass has added up on the device: numbers that are still to be read.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// By kernels, over all units.
    sums: Option<Tensor<2>>,
    /// By Burn's operations, unit by unit, one number after the other.
    parts: Vec<Tensor<1>>,
}

impl Running {
    /// First pass: a unit's gradient, in its own type, after the penalty has pulled on it. An `anchor` that is on the device already need not be
    /// taken there.
    pub(super) fn consolidated(
        &mut self,
        gradient: Tensor<2>,
        (policy, unit): (&Policy, usize),
        pull: Option<&Pull>,
        anchor: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let compute = policy.compute();
        let theirs = |pull: &Pull| anchor.unwrap_or_else(|| self::anchor(&pull.anchor[unit], gradient.dims(), compute));
        match (compute.layout.kernels, pull.map(|pull| (pull, &pull.strength[unit]))) {
            (Some(own), None) => {
                self.sums = Some((own.measured)(gradient.clone(), self.so_far(own, compute)));
                gradient
            }
            (Some(own), Some((pull, Strength::PerUnit(strength)))) => {
                let (anchor, sums, strength) = (theirs(pull), self.so_far(own, compute), *strength as f32);
                let (gradient, sums) = match policy.split(unit) {
                    Some(split) => (own.pulled)(gradient, split, anchor, sums, strength),
                    None => (own.pulled_whole)(gradient, policy.exact(unit), anchor, sums, strength),
                };
                self.sums = Some(sums);
                gradient
            }
            (None, None) => {
                self.parts.extend(sums(Pulled { gradient: wide(gradient.clone()), pull: None }));
                gradient
            }
            (_, Some((pull, strength))) => {
                let (kept, anchor, weights) = (kind(&gradient), theirs(pull), policy.exact(unit));
                let pulled = pulled(wide(gradient), weights.clone(), anchor, strength);
                let gradient = match compute.layout.kernels {
                    // Fisher information on a card, which should not wait for ordinary memory.
                    Some(_) => pulled.gradient.clone().cast(kept),
                    None => rounded(pulled.gradient.clone(), weights, kept),
                };
                self.parts.extend(sums(pulled));
                gradient
            }
        }
    }

    fn so_far(&mut self, own: Kernels, compute: &Compute) -> Tensor<2> {
        self.sums.take().unwrap_or_else(|| Tensor::zeros(own.sums, &compute.device))
    }

    /// The sums over all units, in one readback.
    pub(super) async fn read(self) -> Result<Sums, Error> {
        let sums = self.sums.map(|sums| sums.sum_dim(0).reshape([3]));
        let parts: Vec<Tensor<1>> = self.parts.into_iter().chain(sums).collect();
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

/// A pulled gradient in its own type again: a bf16 by thresholds, through ordinary memory, for which kernels are faster.
fn rounded(gradient: Tensor<2>, weights: Tensor<2>, kept: FloatDType) -> Tensor<2> {
    if kept != FloatDType::BF16 {
        return gradient.cast(kept);
    }
    let (dims, device) = (gradient.dims(), gradient.device());
    let [gradient, weights] = [gradient, weights].map(|tensor| widen(tensor.into_data()));
    Tensor::from_data(repulled(&gradient, &weights, dims), (&device, DType::BF16))
}

fn sums(pulled: Pulled) -> Vec<Tensor<1>> {
    let zero = Tensor::zeros([1], &pulled.gradient.device());
    let [penalty, pulls] = match pulled.pull {
        None => [zero.clone(), zero],
        Some([away, pull]) => [(away * pull.clone()).sum() * 0.5, pull.square().sum()],
    };
    vec![pulled.gradient.square().sum(), penalty, pulls]
}

/// Second pass: clips and steps.
pub(super) fn update(policy: &mut Policy, unit: usize, gradient: Tensor<2>, moments: (&mut Slab, &mut Slab), c: &Coefficients) {
    let Some(own) = policy.compute().layout.kernels else {
        let weights = policy.take(unit);
        return policy.put(unit, updated(weights, wide(gradient), moments, c));
    };
    let numbers = [c.clip, c.rate, c.keep, c.beta1, c.beta2, c.eps, c.correction1, c.correction2].map(|number| number as f32);
    let before = [taken(moments.0), taken(moments.1)];
    let after = match policy.take_split(unit) {
        Some(split) => {
            let (split, after) = (own.adamw)(gradient, (split, before), numbers);
            policy.put_split(unit, split);
            after
        }
        None => {
            let (weights, after) = (own.adamw_whole)(gradient, (policy.take(unit), before), numbers);
            policy.put(unit, weights);
            after
        }
    };
    [*moments.0, *moments.1] = after.map(Slab::Device);
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
