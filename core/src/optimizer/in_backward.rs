//! Updates within the backward pass: a unit's gradient lives no longer than its own update.
//!
//! Clipping needs the norm of all gradients before the first update, so a clipped step goes forward and backward twice: once to
//! measure, once to update. Gradients of both passes are the same numbers.
//!
//! Where updates are computed elsewhere than gradients, a layer's gradients are computed on when the next layer's come: until then the
//! device has copied them, and works on that next layer meanwhile.

use std::collections::VecDeque;

use burn::tensor::{Tensor, read_sync};

use super::adamw::{AdamW, Measured, Pull, StepNorms, arrival, transfer};
use crate::compute::Compute;
use crate::engine::{BringBack, GradientSink};
use crate::error::Error;
use crate::model::Policy;
use crate::reduce::Alone;
use crate::slab::{Slab, started};
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
    arrivals: Arrivals,
    measured: Measured,
}

impl<'a> Measure<'a> {
    pub(crate) fn new(policy: &'a mut Policy, hold: Hold<'a>) -> Self {
        let arrivals = Arrivals::new(policy);
        Self { policy, hold, arrivals, measured: Measured::default() }
    }

    /// What came of it.
    pub(crate) async fn norms(mut self) -> Result<StepNorms, Error> {
        let optimizer = self.policy.compute().under(Part::Optimizer);
        while let Some((unit, gradient)) = self.arrivals.rest() {
            self.pulled(unit, gradient);
        }
        drop(optimizer);
        self.measured.norms(&Alone).await
    }

    /// A gradient whose turn it is, for one that comes.
    fn exchange(&mut self, unit: usize, gradient: Tensor<2>) -> Option<(usize, Slab)> {
        if self.hold.frozen[unit] { None } else { self.arrivals.exchange(unit, gradient, self.policy.compute()) }
    }

    fn pulled(&mut self, unit: usize, gradient: Slab) -> Slab {
        self.measured.pulled(self.policy, unit, gradient, self.hold.pull)
    }
}

impl GradientSink for Measure<'_> {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        let _optimizer = self.policy.compute().under(Part::Optimizer);
        if let Some((unit, gradient)) = self.exchange(unit, gradient) {
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

    /// Does what is still to do, and says what the gradients came to.
    pub(crate) async fn norms(mut self) -> Result<StepNorms, Error> {
        let optimizer = self.measure.policy.compute().under(Part::Optimizer);
        while let Some((unit, gradient)) = self.measure.arrivals.rest() {
            self.update(unit, gradient);
        }
        self.optimizer.end_step(self.measure.policy.compute());
        drop(optimizer);
        self.measure.norms().await
    }

    fn update(&mut self, unit: usize, gradient: Slab) {
        let gradient = self.measure.pulled(unit, gradient);
        self.optimizer.update(self.measure.policy, unit, gradient, (self.rate, &self.norms));
    }
}

impl GradientSink for Update<'_> {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        let _optimizer = self.measure.policy.compute().under(Part::Optimizer);
        if let Some((unit, gradient)) = self.measure.exchange(unit, gradient) {
            self.update(unit, gradient);
        }
    }
}

/// Gradients on their way to where updates are computed.
struct Arrivals {
    /// How many wait there before the first is computed on.
    lag: usize,
    waiting: VecDeque<(usize, BringBack<Slab>)>,
}

impl Arrivals {
    fn new(policy: &Policy) -> Self {
        let (config, layout) = (policy.config(), policy.compute().layout);
        let lag = if layout.updates() == layout.memory { 0 } else { config.layer_start(1) - config.layer_start(0) };
        Self { lag, waiting: VecDeque::new() }
    }

    /// Takes one, and gives the one whose turn it is.
    fn exchange(&mut self, unit: usize, gradient: Tensor<2>, compute: &Compute) -> Option<(usize, Slab)> {
        self.waiting.push_back((unit, departed(gradient, compute)));
        if self.waiting.len() > self.lag { self.rest() } else { None }
    }

    /// The next of those that are left.
    fn rest(&mut self) -> Option<(usize, Slab)> {
        self.waiting.pop_front().map(|(unit, bring)| (unit, bring()))
    }
}

/// Sends a gradient to where updates are computed. What comes of it waits for the device where that is elsewhere, for the pass
/// itself waits for nothing; a browser, which cannot wait, has no such devices.
fn departed(gradient: Tensor<2>, compute: &Compute) -> BringBack<Slab> {
    let (arriving, compute) = (started(arrival(gradient, compute.layout.updates())), compute.clone());
    Box::new(move || {
        let _transfer = transfer(&compute);
        read_sync(arriving).expect("the device hands over what it computed")
    })
}
