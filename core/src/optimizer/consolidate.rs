//! Consolidation in the last backward pass of a step: the penalty pulls on every gradient as it comes, and what it reads from ordinary
//! memory travels while the device goes backward.

use std::collections::VecDeque;

use burn::tensor::Tensor;

use super::adamw::{Measured, Pull};
use super::in_backward::Hold;
use crate::engine::{Accumulate, GradientSink};
use crate::model::{LlamaConfig, Policy};
use crate::slab::Slab;
use crate::watch::Part;

/// Layers whose anchors are on their way at once. One layer's copy takes nearly as long as its way back; with the next one's behind it the bus does
/// not wait for the card.
pub(crate) const LAYERS_AHEAD: usize = 2;

/// Sums the gradients of a step's passes on a device, and consolidates them in the last.
pub struct Consolidate<'a> {
    policy: &'a Policy,
    hold: Hold<'a>,
    sums: Accumulate,
    anchors: Option<Anchors<'a>>,
    done: Consolidated,
}

/// Gradients that the penalty has pulled on, and what they came to.
#[derive(Debug, Default)]
pub struct Consolidated {
    pub(super) work: Vec<(usize, Slab)>,
    pub(super) measured: Measured,
}

impl<'a> Consolidate<'a> {
    /// For a step of this policy; `frozen` units are left alone.
    ///
    /// # Panics
    /// If updates are computed in ordinary memory.
    pub fn new(policy: &'a Policy, pull: Option<&'a Pull>, frozen: &'a [bool]) -> Self {
        let layout = policy.compute().layout;
        assert_eq!(layout.updates(), layout.memory, "gradients are consolidated where they are");
        Self { policy, hold: Hold { pull, frozen }, sums: Accumulate::of(policy), anchors: None, done: Consolidated::default() }
    }

    /// What the gradients came to.
    pub fn into_consolidated(mut self) -> Consolidated {
        for unit in 0..self.hold.frozen.len() {
            self.consolidate(unit);
        }
        self.done
    }

    fn consolidate(&mut self, unit: usize) {
        let Some(gradient) = self.sums.remove(unit).filter(|_| !self.hold.frozen[unit]) else { return };
        let _optimizer = self.policy.compute().under(Part::Optimizer);
        let anchor = self.anchors.as_mut().and_then(|anchors| anchors.arrived(unit));
        let gradient = self.done.measured.on_device(self.policy, unit, gradient, self.hold.pull, anchor);
        self.done.work.push((unit, Slab::Device(gradient)));
    }
}

impl GradientSink for Consolidate<'_> {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        self.sums.take(unit, gradient);
        if self.anchors.is_some() {
            self.consolidate(unit);
        }
    }

    fn last_pass(&mut self) {
        self.anchors = Some(Anchors::new(self.policy, self.hold));
    }
}

/// Anchors that ordinary memory lends, on their way to the device in the order of the backward pass.
struct Anchors<'a> {
    policy: &'a Policy,
    hold: Hold<'a>,
    waiting: VecDeque<usize>,
    under_way: Vec<(usize, Tensor<2>)>,
}

impl<'a> Anchors<'a> {
    fn new(policy: &'a Policy, hold: Hold<'a>) -> Self {
        let waiting = backward_order(policy.config()).into_iter().filter(|unit| !hold.frozen[*unit]).collect();
        let mut anchors = Self { policy, hold, waiting, under_way: Vec::new() };
        anchors.send();
        anchors
    }

    /// A unit's anchor, if it was sent.
    fn arrived(&mut self, unit: usize) -> Option<Tensor<2>> {
        let carrier = self.policy.compute().layout.carrier?;
        let Some(place) = self.under_way.iter().position(|(sent, _)| *sent == unit) else {
            // Its gradient came early: nobody will ask for it again.
            self.waiting.retain(|waiting| *waiting != unit);
            return None;
        };
        let anchor = (carrier.arrived)(self.under_way.remove(place).1);
        self.send();
        Some(anchor)
    }

    /// Has as many on their way as so many layers have.
    fn send(&mut self) {
        let (Some(carrier), Some(pull)) = (self.policy.compute().layout.carrier, self.hold.pull) else { return };
        while self.under_way.len() < LAYERS_AHEAD * self.policy.config().units_per_layer()
            && let Some(unit) = self.waiting.pop_front()
        {
            if let Slab::Lent(data) = &pull.anchor[unit] {
                let anchor = (carrier.departed)(data.clone(), self.policy.tensors()[unit].clone());
                self.under_way.push((unit, anchor));
            }
        }
    }
}

impl Drop for Anchors<'_> {
    /// What is under way keeps its memory until it has arrived.
    fn drop(&mut self) {
        if let Some(carrier) = self.policy.compute().layout.carrier {
            self.under_way.drain(..).for_each(|(_, anchor)| drop((carrier.arrived)(anchor)));
        }
    }
}

/// Units in the order in which a backward pass comes to their gradients.
fn backward_order(config: &LlamaConfig) -> Vec<usize> {
    let head = (config.head_index() != 0).then(|| config.head_index());
    let layer = |layer| config.layer_start(layer)..config.layer_start(layer) + config.units_per_layer();
    let layers = (0..config.num_hidden_layers).rev().flat_map(layer);
    std::iter::once(config.norm_index()).chain(head).chain(layers).chain([0]).collect()
}
