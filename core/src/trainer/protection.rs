//! The beginning and end of a phase: what is held, and how far each unit moved.

use super::{Fisher, Running, Start, Trainer};
use crate::consolidation::{Consolidation, Draw, Rule, Side, degenerate, effective_units, frozen, importance};
use crate::error::Error;
use crate::optimizer::{Pull, Strength, squared_distances};
use crate::reduce::Reduce;
use crate::schedule::{Phase, Protection};
use crate::slab::Slab;
use crate::trainer::ImportanceReport;

/// How a phase's protection comes out.
pub(super) struct Protected {
    /// λF in unit order, where a penalty applies.
    pub(super) strength: Option<Vec<Strength>>,
    /// Which units are frozen.
    pub(super) frozen: Vec<bool>,
    pub(super) report: Option<ImportanceReport>,
}

impl<R: Reduce> Trainer<R> {
    pub(super) async fn protect(&self, phase: &Phase) -> Result<Protected, Error> {
        let nothing = Protected { strength: None, frozen: vec![false; self.policy.units().len()], report: None };
        let Some(accumulated) = self.ledger.accumulated(phase.side().other()) else {
            return Ok(nothing);
        };
        match phase.protection {
            Protection::None => Ok(nothing),
            Protection::Consolidate(settings) => self.hold(phase, settings, accumulated).await,
            Protection::Freeze { fraction } => {
                let names: Vec<&str> = self.policy.units().iter().map(|u| u.name.as_str()).collect();
                Ok(Protected { frozen: frozen(&accumulated, &names, fraction), ..nothing })
            }
        }
    }

    async fn hold(&self, phase: &Phase, settings: Consolidation, accumulated: Vec<f64>) -> Result<Protected, Error> {
        let draw = Draw { seed: self.settings.seed, phase: &phase.name };
        let per_unit = importance(settings.rule, &accumulated, settings.f_max, draw);
        let fisher = self.fisher.get(&phase.side().other());
        let (strength, importance) = match (per_unit, fisher) {
            (Some(f), _) => (f.iter().map(|f| Strength::PerUnit(settings.lambda * f)).collect(), f),
            (None, Some(fisher)) => (per_element(fisher, settings.lambda), means(fisher).await?),
            (None, None) => unreachable!("a phase of the other side has measured its Fisher information"),
        };
        let effective_units = effective_units(&importance);
        let degenerate = degenerate(effective_units, importance.len());
        let report = Some(ImportanceReport { accumulated, importance, effective_units, degenerate });
        Ok(Protected { strength: Some(strength), frozen: vec![false; self.policy.units().len()], report })
    }

    /// Whether a later phase needs this phase's Fisher information.
    pub(super) fn needs_fisher(&self) -> bool {
        self.phases[self.position + 1..].iter().any(held_by_fisher)
    }

    /// Whether a phase of this side has been finished and measured its Fisher information.
    pub(super) fn has_measured(&self, side: Side) -> bool {
        let needed = |phase: usize| self.phases[phase + 1..].iter().any(held_by_fisher);
        (0..self.position).any(|i| self.phases[i].side() == side && needed(i))
    }

    /// C per unit, Eq. 7, of a phase that ends here.
    pub(super) async fn changes(&self, running: &mut Running) -> Result<Vec<f64>, Error> {
        let phase = self.phases[self.position].name.clone();
        let unreadable = |reason: String| Error::PhaseStart { phase: phase.clone(), reason };
        let units = self.policy.units().clone();
        let mut before: Box<dyn FnMut(usize) -> Result<Slab, String> + '_> = match (&mut running.start, &running.pull) {
            (Start::Copy(slabs), _) => Box::new(|unit| Ok(slabs[unit].clone())),
            (Start::Anchor, Some(pull)) => Box::new(|unit| Ok(pull.anchor[unit].clone())),
            (Start::Stored(Some(stored)), _) => {
                let (units, compute) = (units.clone(), self.policy.compute().clone());
                Box::new(move |unit| Ok(Slab::from_values(stored.read(&units[unit])?, units[unit].dims(), &compute)))
            }
            (Start::Stored(None), _) | (Start::Anchor, None) => {
                return Err(unreadable("no reader was handed over when the phase started".into()));
            }
        };
        let mut change = squared_distances(&self.policy, &mut before, &self.reduce, &unreadable).await?;
        for (c, unit) in change.iter_mut().zip(units.iter()) {
            *c /= unit.elements() as f64;
        }
        Ok(change)
    }

    /// C per unit as it would be if the phase under way ended here; between phases, `None`.
    ///
    /// # Errors
    /// If the device fails, or the phase's start cannot be read.
    pub async fn change(&mut self) -> Result<Option<Vec<f64>>, Error> {
        let Some(mut running) = self.current.take() else { return Ok(None) };
        let change = self.changes(&mut running).await;
        self.current = Some(running);
        change.map(Some)
    }

    /// ‖θ − θ_start‖ per unit, how far the phase under way has moved; between phases, and where the phase's start is stored
    /// elsewhere, `None`.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn drift(&self) -> Result<Option<Vec<f64>>, Error> {
        let start = match self.current.as_ref().map(|running| (&running.start, &running.pull)) {
            Some((Start::Copy(slabs), _) | (Start::Anchor, Some(Pull { anchor: slabs, .. }))) => slabs,
            _ => return Ok(None),
        };
        let mut before = |unit: usize| Ok(start[unit].clone());
        let squares = squared_distances(&self.policy, &mut before, &self.reduce, Error::Device).await?;
        Ok(Some(squares.into_iter().map(f64::sqrt).collect()))
    }

    pub(super) async fn add_fisher(&mut self, side: Side, fisher: Fisher) -> Result<(), Error> {
        let samples = fisher.examples.len() as f64;
        let compute = self.policy.compute().clone();
        let earlier = self.fisher.get(&side);
        let mut sums = Vec::new();
        for (unit, tensor) in fisher.sums.into_sums().into_iter().enumerate() {
            let mean = tensor / samples;
            let sum = match earlier.map(|earlier| &earlier[unit]) {
                Some(earlier) => mean + earlier.tensor(self.policy.units()[unit].dims(), &compute),
                None => mean,
            };
            sums.push(Slab::copy(&sum, &compute).await?);
        }
        self.fisher.insert(side, sums);
        Ok(())
    }
}

fn held_by_fisher(phase: &Phase) -> bool {
    matches!(phase.protection, Protection::Consolidate(Consolidation { rule: Rule::Fisher, .. }))
}

fn per_element(fisher: &[Slab], lambda: f64) -> Vec<Strength> {
    fisher.iter().map(|slab| Strength::PerElement(slab.clone(), lambda)).collect()
}

/// The mean over each unit's elements, for reports alone.
async fn means(fisher: &[Slab]) -> Result<Vec<f64>, Error> {
    let mut means = Vec::with_capacity(fisher.len());
    for slab in fisher {
        means.push(slab.mean().await?);
    }
    Ok(means)
}
