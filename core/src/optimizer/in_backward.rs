//! Updates within the backward pass: a unit's gradient lives no longer than its own update.
//!
//! Clipping needs the norm of all gradients before the first update, so a clipped step goes forward and backward twice: once to
//! measure, once to update. Gradients of both passes are the same numbers.

use burn::tensor::Tensor;

use super::adamw::{AdamW, Measured, Pull, StepNorms, transfer};
use crate::compute::{Compute, Memory};
use crate::engine::GradientSink;
use crate::error::Error;
use crate::host::widen;
use crate::model::Policy;
use crate::reduce::Alone;
use crate::slab::Slab;
use crate::watch::Part;

/// Which units are held and how, and which are left alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hold<'a> {
    pub(crate) pull: Option<&'a Pull>,
    pub(crate) frozen: &'a [bool],
}

/// Measures every gradient and lets it go.
pub(crate) struct Measure<'a> {
    policy: &'a mut Policy,
    hold: Hold<'a>,
    measured: Measured,
}

impl<'a> Measure<'a> {
    pub(crate) fn new(policy: &'a mut Policy, hold: Hold<'a>) -> Self {
        Self { policy, hold, measured: Measured::default() }
    }

    /// What came of it.
    pub(crate) async fn norms(self) -> Result<StepNorms, Error> {
        self.measured.norms(&Alone).await
    }

    fn pulled(&mut self, unit: usize, gradient: Tensor<2>) -> Slab {
        let gradient = arrived(gradient, self.policy.compute());
        self.measured.pulled(self.policy, unit, gradient, self.hold.pull)
    }
}

impl GradientSink for Measure<'_> {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        if !self.hold.frozen[unit] {
            let _optimizer = self.policy.compute().under(Part::Optimizer);
            self.pulled(unit, gradient);
        }
    }
}

/// Updates every unit as its gradient comes.
pub(crate) struct Update<'a> {
    measure: Measure<'a>,
    optimizer: &'a mut AdamW,
    rate: f64,
    /// What the gradients were measured to be; without clipping, nobody need know before.
    norms: StepNorms,
}

impl<'a> Update<'a> {
    /// The beginning of a step. `norms` are those of [`Measure`], or zero where nothing is clipped.
    pub(crate) fn new((policy, optimizer): (&'a mut Policy, &'a mut AdamW), hold: Hold<'a>, rate: f64, norms: StepNorms) -> Self {
        optimizer.begin_step();
        Self { measure: Measure::new(policy, hold), optimizer, rate, norms }
    }

    /// What the gradients came to.
    pub(crate) async fn norms(self) -> Result<StepNorms, Error> {
        self.measure.norms().await
    }
}

impl GradientSink for Update<'_> {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        let hold = self.measure.hold;
        if !hold.frozen[unit] {
            let _optimizer = self.measure.policy.compute().under(Part::Optimizer);
            let gradient = self.measure.pulled(unit, gradient);
            self.optimizer.update(self.measure.policy, unit, gradient, (hold.pull, self.rate, &self.norms));
        }
    }
}

/// A gradient where updates are computed. Waits for the device where that is elsewhere, for the pass itself waits for nothing; a
/// browser, which cannot wait, has no such devices.
fn arrived(gradient: Tensor<2>, compute: &Compute) -> Slab {
    match compute.layout.updates() {
        Memory::Host => {
            let _transfer = transfer(compute);
            Slab::Host(widen(gradient.into_data()))
        }
        Memory::Device => Slab::Device(gradient),
    }
}
