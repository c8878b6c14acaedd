//! The optimizer step over all units.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::consolidate::Consolidated;
use super::{device, host};
use crate::compute::{Compute, Memory, Offload};
use crate::error::Error;
use crate::host::widen;
use crate::model::{Policy, Unit};
use crate::reduce::{Alone, Reduce};
use crate::slab::{Slab, started};
use crate::watch::{Part, Under};

/// AdamW's constants for one phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWSettings {
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε, outside the square root.
    pub eps: f64,
    /// Decoupled weight decay, applied to matrices only: norms and biases are left alone.
    pub weight_decay: f64,
    /// The largest norm that the gradient of all units together, penalty included, may have.
    pub clip: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.0, clip: 1.0 }
    }
}

/// λF of one unit.
#[derive(Debug, Clone)]
pub enum Strength {
    /// The same for all elements.
    PerUnit(f64),
    /// An element of Fisher information each, times this factor.
    PerElement(Slab, f64),
}

/// Where the penalty pulls to, and how hard.
#[derive(Debug, Clone)]
pub struct Pull {
    /// θ*, in unit order.
    pub anchor: Vec<Slab>,
    /// λF, in unit order.
    pub strength: Vec<Strength>,
}

/// What the first pass measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepNorms {
    /// ‖g‖ over all trained units, penalty included, before clipping.
    pub gradient: f64,
    /// Σ (λ/2)·F·‖θ − θ*‖² at the weights before the step.
    pub penalty: f64,
    /// ‖λF(θ − θ*)‖.
    pub penalty_gradient: f64,
}

/// Sums of one unit's first pass: ‖g‖², penalty, ‖penalty's gradient‖².
pub(super) type Sums = [f64; 3];

/// The numbers of a step's second pass that are the same for all units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coefficients {
    /// Factor on the gradient, from clipping.
    pub(super) clip: f64,
    /// Learning rate.
    pub(super) rate: f64,
    /// 1 − rate · weight decay.
    pub(super) keep: f64,
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
    /// 1 − β₁^t.
    pub(super) correction1: f64,
    /// √(1 − β₂^t).
    pub(super) correction2: f64,
}

/// First and second moments of the units this rank owns, and the number of steps taken.
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: AdamWSettings,
    first: Vec<Option<Slab>>,
    second: Vec<Option<Slab>>,
    steps: u64,
}

impl AdamW {
    /// Zero moments for this many units; memory is taken as units are first updated.
    pub fn new(settings: AdamWSettings, units: usize) -> Self {
        Self { settings, first: vec![None; units], second: vec![None; units], steps: 0 }
    }

    /// Moments as they were after `steps` steps.
    pub fn restore(settings: AdamWSettings, first: Vec<Option<Slab>>, second: Vec<Option<Slab>>, steps: u64) -> Self {
        Self { settings, first, second, steps }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// First moments, in unit order; `None` for units never updated.
    pub fn first(&self) -> &[Option<Slab>] {
        &self.first
    }

    /// Second moments, likewise.
    pub fn second(&self) -> &[Option<Slab>] {
        &self.second
    }

    /// One step on gradients `[units]` that are already averaged. Units without a gradient keep weights and moments; the
    /// caller leaves out frozen ones.
    ///
    /// # Errors
    /// If the device fails. Norms that are not finite leave weights and moments as they were and are returned as they are,
    /// for the caller knows what to call them.
    pub async fn step<R: Reduce>(
        &mut self,
        policy: &mut Policy,
        gradients: Vec<Option<Tensor<2>>>,
        pull: Option<&Pull>,
        rate: f64,
        reduce: &R,
    ) -> Result<StepNorms, Error> {
        let compute = policy.compute().clone();
        let _optimizer = compute.under(Part::Optimizer);
        let mut work = Vec::new();
        let mut measured = Measured::default();
        let mut arriving =
            owned(gradients, reduce).map(|(unit, gradient)| (unit, started(arrival(gradient, compute.layout.updates()))));
        let mut next = arriving.next();
        while let Some((unit, gradient)) = next {
            // The next one's transfer, if there is one, goes on while this one is computed on.
            next = arriving.next();
            let gradient = {
                let _transfer = transfer(&compute);
                gradient.await?
            };
            work.push((unit, measured.pulled(policy, unit, gradient, pull)));
        }
        self.apply(policy, work, measured, rate, reduce).await
    }

    /// [`step`](Self::step) on gradients that the penalty has pulled on as they came.
    ///
    /// # Errors
    /// As there.
    pub async fn finish(&mut self, policy: &mut Policy, consolidated: Consolidated, rate: f64) -> Result<StepNorms, Error> {
        let compute = policy.compute().clone();
        let _optimizer = compute.under(Part::Optimizer);
        let Consolidated { work, measured } = consolidated;
        self.apply(policy, work, measured, rate, &Alone).await
    }

    async fn apply<R: Reduce>(
        &mut self,
        policy: &mut Policy,
        work: Vec<(usize, Slab)>,
        measured: Measured,
        rate: f64,
        reduce: &R,
    ) -> Result<StepNorms, Error> {
        let norms = measured.norms(reduce).await?;
        if norms.gradient.is_finite() {
            self.begin_step();
            for (unit, gradient) in work {
                self.update(policy, unit, gradient, (rate, &norms));
            }
            self.end_step(policy.compute());
        }
        self.share(policy, reduce).await;
        Ok(norms)
    }

    /// Counts a step; updates of its units follow.
    pub(super) fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// After the first step all moments are there: what the making of them took goes back.
    pub(super) fn end_step(&self, compute: &Compute) {
        if self.steps == 1 {
            compute.settled();
        }
    }

    /// Updates one unit for a gradient as [`Measured::pulled`] left it.
    pub(super) fn update(&mut self, policy: &mut Policy, unit: usize, gradient: Slab, (rate, norms): (f64, &StepNorms)) {
        let (units, compute) = (policy.units().clone(), policy.compute().clone());
        let coefficients = self.coefficients(&units[unit], rate, norms);
        let (first, second) = self.moments(unit, &units[unit], &compute);
        match gradient {
            Slab::Host(gradient) => {
                let mut weights = policy.take_values(unit);
                host::update(&mut weights, &gradient, (first, second), &coefficients);
                policy.put_values(unit, weights);
            }
            Slab::Device(gradient) => {
                device::update(policy, unit, gradient, (first, second), &coefficients);
            }
            Slab::Lent(_) => unreachable!("gradients are not lent"),
        }
    }

    fn coefficients(&self, unit: &Unit, rate: f64, norms: &StepNorms) -> Coefficients {
        let AdamWSettings { betas: (beta1, beta2), eps, weight_decay, clip } = self.settings;
        let decay = if unit.is_vector() { 0.0 } else { weight_decay };
        let t = self.steps as i32;
        Coefficients {
            clip: (clip / (norms.gradient + 1e-6)).min(1.0),
            rate,
            keep: 1.0 - rate * decay,
            beta1,
            beta2,
            eps,
            correction1: 1.0 - beta1.powi(t),
            correction2: (1.0 - beta2.powi(t)).sqrt(),
        }
    }

    fn moments(&mut self, index: usize, unit: &Unit, compute: &Compute) -> (&mut Slab, &mut Slab) {
        let zeros = || Slab::zeros(unit.dims(), compute, compute.layout.precision.moments.dtype());
        (self.first[index].get_or_insert_with(zeros), self.second[index].get_or_insert_with(zeros))
    }

    /// Hands every rank the units that others updated.
    async fn share<R: Reduce>(&self, policy: &mut Policy, reduce: &R) {
        if reduce.world() == 1 {
            return;
        }
        for unit in 0..policy.units().len() {
            let weights = reduce.broadcast(policy.take(unit), unit % reduce.world()).await;
            policy.put(unit, weights);
        }
    }
}

/// The units to update here, with their gradients.
fn owned<R: Reduce>(gradients: Vec<Option<Tensor<2>>>, reduce: &R) -> impl Iterator<Item = (usize, Tensor<2>)> {
    gradients.into_iter().enumerate().filter_map(|(unit, g)| g.filter(|_| reduce.owns(unit)).map(|g| (unit, g)))
}

/// What the first pass has measured so far: in ordinary memory, and on a device.
#[derive(Debug, Default)]
pub(super) struct Measured {
    sums: Sums,
    running: device::Running,
}

impl Measured {
    /// Adds the pull to a unit's gradient and measures it. The sum is kept in the gradient's own type: in f32 all units' would need twice
    /// the memory of bf16, and computing the pull again for the update, a second transfer of an anchor that is kept elsewhere.
    pub(super) fn pulled(&mut self, policy: &mut Policy, unit: usize, gradient: Slab, pull: Option<&Pull>) -> Slab {
        let pull = pull.map(|pull| (pull, unit));
        match gradient {
            Slab::Host(mut gradient) => {
                let weights = policy.take_values(unit);
                let part = host::consolidate(&mut gradient, &weights, pull);
                self.sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                policy.give_back(unit, weights);
                Slab::Host(gradient)
            }
            Slab::Device(gradient) => {
                let pull = pull.map(|(pull, _)| pull);
                Slab::Device(self.on_device(policy, unit, gradient, pull, None))
            }
            Slab::Lent(_) => unreachable!("gradients are not lent"),
        }
    }

    /// The same on a device, where an anchor may have arrived before.
    pub(super) fn on_device(
        &mut self,
        policy: &Policy,
        unit: usize,
        gradient: Tensor<2>,
        pull: Option<&Pull>,
        anchor: Option<Tensor<2>>,
    ) -> Tensor<2> {
        self.running.consolidated(gradient, (policy, unit), pull, anchor)
    }

    /// The norms over all units and ranks.
    pub(super) async fn norms<R: Reduce>(self, reduce: &R) -> Result<StepNorms, Error> {
        let there = self.running.read().await?;
        let mut sums: Sums = std::array::from_fn(|i| self.sums[i] + there[i]);
        reduce.sum(&mut sums).await;
        Ok(StepNorms { gradient: sums[0].sqrt(), penalty: sums[1], penalty_gradient: sums[2].sqrt() })
    }
}

/// A gradient in the memory where updates are computed.
pub(super) async fn arrival(gradient: Tensor<2>, there: Memory) -> Result<Slab, Error> {
    Ok(match there {
        Memory::Host => Slab::Host(widen(gradient.into_data_async().await.map_err(Error::device)?)),
        Memory::Device => Slab::Device(gradient),
    })
}

/// Reports a transfer where there is one.
pub(super) fn transfer(compute: &Compute) -> Option<Under> {
    (compute.layout.offload == Offload::Optimizer).then(|| compute.under(Part::Transfer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `torch.nn.utils.clip_grad_norm_`.
    #[test]
    fn a_small_number_beside_the_norm_keeps_the_factor_finite() {
        let optimizer = AdamW::new(AdamWSettings { clip: 1e-6, ..AdamWSettings::default() }, 0);
        let unit = Unit::new("w", &[1], crate::model::Storage::AsIs);
        let factor = |gradient| optimizer.coefficients(&unit, 1.0, &StepNorms { gradient, ..StepNorms::default() }).clip;
        assert_eq!((factor(1e-6), factor(0.0)), (0.5, 1.0));
    }
}
