//! The optimizer step over all units.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{device, host};
use crate::compute::{Compute, Memory};
use crate::error::Error;
use crate::model::{Policy, Unit};
use crate::reduce::Reduce;
use crate::slab::Slab;

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
        match policy.compute().memory {
            Memory::Host => self.host_step(policy, gradients, pull, rate, reduce).await,
            Memory::Device => self.device_step(policy, gradients, pull, rate, reduce).await,
        }
    }

    async fn host_step<R: Reduce>(
        &mut self,
        policy: &mut Policy,
        gradients: Vec<Option<Tensor<2>>>,
        pull: Option<&Pull>,
        rate: f64,
        reduce: &R,
    ) -> Result<StepNorms, Error> {
        let (units, compute) = (policy.units().clone(), policy.compute().clone());
        let mut work = Vec::new();
        let mut sums = [0.0; 3];
        for (unit, gradient) in owned(gradients, reduce) {
            let mut gradient = host::take(gradient).await?;
            let weights = host::take(policy.take(unit)).await?;
            add(&mut sums, host::consolidate(&mut gradient, &weights, pull.map(|p| (p, unit))));
            work.push((unit, gradient, weights));
        }
        let norms = norms(&mut sums, reduce).await;
        let update = norms.gradient.is_finite();
        self.steps += u64::from(update);
        for (unit, gradient, mut weights) in work {
            if update {
                let coefficients = self.coefficients(&units[unit], rate, &norms);
                let (first, second) = self.moments(unit, &units[unit], &compute);
                host::update(&mut weights, &gradient, (first, second), &coefficients);
            }
            policy.put(unit, host::give(weights, units[unit].dims(), &compute));
        }
        self.share(policy, reduce).await;
        Ok(norms)
    }

    async fn device_step<R: Reduce>(
        &mut self,
        policy: &mut Policy,
        gradients: Vec<Option<Tensor<2>>>,
        pull: Option<&Pull>,
        rate: f64,
        reduce: &R,
    ) -> Result<StepNorms, Error> {
        let (units, compute) = (policy.units().clone(), policy.compute().clone());
        let work: Vec<(usize, Tensor<2>)> = owned(gradients, reduce).collect();
        let part = |(unit, gradient): &(usize, Tensor<2>)| {
            let pulled = device::pulled(gradient.clone(), &policy.exact(*unit), pull.map(|p| (p, *unit)));
            device::sums(pulled)
        };
        let mut sums = device::sum(work.iter().map(part).collect()).await?;
        let norms = norms(&mut sums, reduce).await;
        if norms.gradient.is_finite() {
            self.steps += 1;
            for (unit, gradient) in work {
                let coefficients = self.coefficients(&units[unit], rate, &norms);
                let (first, second) = self.moments(unit, &units[unit], &compute);
                // The pull is computed again: kept, every unit's gradient would have to be held in f32 at once.
                let weights = policy.take(unit);
                let gradient = device::pulled(gradient, &weights, pull.map(|p| (p, unit))).gradient;
                policy.put(unit, device::update(weights, gradient, (first, second), &coefficients));
            }
        }
        self.share(policy, reduce).await;
        Ok(norms)
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
        let zeros = || Slab::zeros(unit.dims(), compute, compute.precision.moments.dtype());
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

async fn norms<R: Reduce>(sums: &mut Sums, reduce: &R) -> StepNorms {
    reduce.sum(sums).await;
    StepNorms { gradient: sums[0].sqrt(), penalty: sums[1], penalty_gradient: sums[2].sqrt() }
}

fn add(sums: &mut Sums, part: Sums) {
    for (sum, part) in sums.iter_mut().zip(part) {
        *sum += part;
    }
}
