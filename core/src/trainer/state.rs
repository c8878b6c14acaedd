//! Saving and restoring a trainer between two calls of its stepper.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Data, Models, Running, Settings, Start, Trainer};
use crate::consolidation::{Ledger, Side};
use crate::error::Error;
use crate::model::{Policy, Unit};
use crate::optimizer::{AdamW, Pull};
use crate::ppo::Critics;
use crate::reduce::Reduce;
use crate::schedule::Phase;
use crate::slab::Slab;

/// Everything a trainer knows that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished phases.
    pub phases_done: usize,
    /// The phase under way, if any.
    pub running: Option<RunningProgress>,
    /// The changes of finished phases.
    pub ledger: Ledger,
}

/// Where a phase under way stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningProgress {
    /// Its name, so that a foreign state is recognised.
    pub phase: String,
    /// Steps taken in it, of the optimizer or of PPO.
    pub steps: usize,
    /// Σ log π_ref per sequence of each preference scored so far: they cannot be computed again once the policy moved.
    pub references: BTreeMap<usize, Vec<f32>>,
    /// Of a phase of PPO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppo: Option<PpoProgress>,
}

/// Where a phase of PPO stands besides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PpoProgress {
    /// β.
    pub kl_coefficient: f64,
    /// Optimizer steps of the policy.
    pub updates: u64,
    /// Optimizer steps of the critic.
    pub value_updates: u64,
}

/// The kinds of tensors a trainer's state consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TensorSet {
    /// θ.
    Weights,
    /// AdamW's first moments.
    FirstMoment,
    /// AdamW's second moments.
    SecondMoment,
    /// θ*, the weights at the phase's start, of a penalised phase.
    Anchor,
    /// Summed Fisher information of the instruction side.
    FisherInstruction,
    /// Summed Fisher information of the preference side.
    FisherPreference,
    /// The weights at the phase's start, where no anchor keeps them but [`KeepStart::Copy`](super::KeepStart::Copy) does.
    Start,
    /// The critic's weights; of its own units, as the two that follow.
    ValueWeights,
    /// AdamW's first moments of the critic.
    ValueFirstMoment,
    /// AdamW's second moments of the critic.
    ValueSecondMoment,
}

impl TensorSet {
    /// Every set.
    pub const ALL: [Self; 10] = [
        Self::Weights,
        Self::FirstMoment,
        Self::SecondMoment,
        Self::Anchor,
        Self::FisherInstruction,
        Self::FisherPreference,
        Self::Start,
        Self::ValueWeights,
        Self::ValueFirstMoment,
        Self::ValueSecondMoment,
    ];

    /// Whether it is about the critic.
    pub fn is_of_critic(self) -> bool {
        matches!(self, Self::ValueWeights | Self::ValueFirstMoment | Self::ValueSecondMoment)
    }

    /// Whether it is one of AdamW's moments.
    pub fn is_moment(self) -> bool {
        matches!(self, Self::FirstMoment | Self::SecondMoment | Self::ValueFirstMoment | Self::ValueSecondMoment)
    }

    /// The name that files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::FirstMoment => "first_moment",
            Self::SecondMoment => "second_moment",
            Self::Anchor => "anchor",
            Self::FisherInstruction => "fisher_instruction",
            Self::FisherPreference => "fisher_preference",
            Self::Start => "start",
            Self::ValueWeights => "value_weights",
            Self::ValueFirstMoment => "value_first_moment",
            Self::ValueSecondMoment => "value_second_moment",
        }
    }
}

/// Reads saved tensors: values in the layout of [`Unit::dims`], `None` where the set or the unit was not saved.
pub type ReadTensor<'a> = &'a mut dyn FnMut(TensorSet, &Unit) -> Result<Option<Vec<f32>>, Error>;

impl<R: Reduce> Trainer<R> {
    /// The state besides the tensors.
    pub fn progress(&self) -> Progress {
        let running = self.current.as_ref().map(|running| RunningProgress {
            phase: self.phases[self.position].name.clone(),
            steps: running.done,
            references: running.references.clone(),
            ppo: running.ppo.as_ref().map(|ppo| PpoProgress {
                kl_coefficient: ppo.beta,
                updates: running.optimizer.steps(),
                value_updates: ppo.optimizer.steps(),
            }),
        });
        Progress { phases_done: self.position, running, ledger: self.ledger.clone() }
    }

    /// The units that a set is about; none of the critic's without one.
    pub fn units(&self, set: TensorSet) -> &[Unit] {
        match (set.is_of_critic(), self.value()) {
            (false, _) => self.policy.units(),
            (true, Some(critic)) => critic.units(),
            (true, None) => &[],
        }
    }

    /// PPO's critic.
    fn value(&self) -> Option<&Policy> {
        self.critics.as_ref().and_then(Critics::value)
    }

    /// Whether the state has this unit in this set.
    pub fn has(&self, set: TensorSet, unit: usize) -> bool {
        match set {
            TensorSet::Weights => true,
            TensorSet::ValueWeights => self.value().is_some(),
            _ => self.slab(set, unit).is_some(),
        }
    }

    /// The values of one unit in one set, in the layout of [`Unit::dims`]; `None` where the state has none.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn values(&self, set: TensorSet, unit: usize) -> Result<Option<Vec<f32>>, Error> {
        match (set, self.value()) {
            (TensorSet::Weights, _) => return self.policy.values(unit).await.map(Some),
            (TensorSet::ValueWeights, Some(critic)) => return critic.values(unit).await.map(Some),
            _ => {}
        }
        match self.slab(set, unit) {
            Some(slab) => slab.values().await.map(Some),
            None => Ok(None),
        }
    }

    fn slab(&self, set: TensorSet, unit: usize) -> Option<&Slab> {
        let running = self.current.as_ref();
        let critic = running.and_then(|r| r.ppo.as_ref()).map(|ppo| &ppo.optimizer);
        match set {
            TensorSet::Weights | TensorSet::ValueWeights => None,
            TensorSet::ValueFirstMoment => critic.and_then(|critic| critic.first()[unit].as_ref()),
            TensorSet::ValueSecondMoment => critic.and_then(|critic| critic.second()[unit].as_ref()),
            TensorSet::FirstMoment => running.and_then(|r| r.optimizer.first()[unit].as_ref()),
            TensorSet::SecondMoment => running.and_then(|r| r.optimizer.second()[unit].as_ref()),
            TensorSet::Anchor => running.and_then(|r| r.pull.as_ref()).map(|p| &p.anchor[unit]),
            TensorSet::FisherInstruction => self.fisher.get(&Side::Instruction).map(|f| &f[unit]),
            TensorSet::FisherPreference => self.fisher.get(&Side::Preference).map(|f| &f[unit]),
            TensorSet::Start => match &running?.start {
                Start::Copy(slabs) => Some(&slabs[unit]),
                Start::Anchor | Start::Stored(_) => None,
            },
        }
    }

    /// A trainer as it was when `progress` was taken; the policy has the saved weights, the critic any.
    ///
    /// Within a phase whose start is stored elsewhere, [`Trainer::start_is_stored`] must be called again.
    ///
    /// # Errors
    /// If the state belongs to another schedule or model, or what `read` returns.
    pub async fn resume(
        models: impl Into<Models>,
        (data, phases): (Data, Vec<Phase>),
        (settings, reduce): (Settings, R),
        progress: Progress,
        read: ReadTensor<'_>,
    ) -> Result<Self, Error> {
        let mut trainer = Self::with_reduce(models, data, phases, settings, reduce);
        trainer.check_progress(&progress)?;
        trainer.position = progress.phases_done;
        trainer.ledger = progress.ledger;
        trainer.read_fisher(read)?;
        trainer.read_critic(read)?;
        if let Some(running) = progress.running {
            trainer.current = Some(trainer.resume_phase(running, read).await?);
        }
        Ok(trainer)
    }

    /// Reads the Fisher information of the finished phases, which phases to come may be held by.
    fn read_fisher(&mut self, read: ReadTensor<'_>) -> Result<(), Error> {
        for (side, set) in [(Side::Instruction, TensorSet::FisherInstruction), (Side::Preference, TensorSet::FisherPreference)] {
            match all(self.slabs(set, read)?) {
                Some(slabs) => drop(self.fisher.insert(side, slabs)),
                None if self.has_measured(side) => {
                    return Err(Error::ForeignState(format!(
                        "the Fisher information that phases to come need is not all in {}",
                        set.name()
                    )));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Reads the critic's weights, which only a schedule with PPO has.
    fn read_critic(&mut self, read: ReadTensor<'_>) -> Result<(), Error> {
        let Some(critic) = self.critics.as_mut().and_then(|critics| critics.value.as_mut()) else { return Ok(()) };
        let (units, device) = (critic.units().clone(), critic.compute().device.clone());
        for (index, unit) in units.iter().enumerate() {
            let values = read(TensorSet::ValueWeights, unit)?;
            let values = values.ok_or_else(|| Error::ForeignState(format!("the critic's {} was not saved", unit.name)))?;
            check_elements(TensorSet::ValueWeights, unit, &values)?;
            critic.put(index, Tensor::from_data(TensorData::new(values, unit.dims()), &device));
        }
        Ok(())
    }

    fn check_progress(&self, progress: &Progress) -> Result<(), Error> {
        let foreign = |reason: String| Err(Error::ForeignState(reason));
        let names: Vec<&str> = self.phases.iter().map(|p| p.name.as_str()).collect();
        if progress.phases_done > names.len() {
            return foreign(format!("it has finished {} phases, the schedule has {}", progress.phases_done, names.len()));
        }
        let recorded: Vec<&str> = progress.ledger.records().iter().map(|r| r.phase.as_str()).collect();
        if recorded != names[..progress.phases_done] {
            let expected = &names[..progress.phases_done];
            return foreign(format!("its ledger has the phases {recorded:?}, the schedule has done {expected:?}"));
        }
        if let Some(record) = progress.ledger.records().iter().find(|r| ![0, self.policy.units().len()].contains(&r.change.len()))
        {
            let (found, expected) = (record.change.len(), self.policy.units().len());
            return foreign(format!("its ledger has {found} units in phase {}, the model has {expected}", record.phase));
        }
        match (&progress.running, names.get(progress.phases_done)) {
            (Some(running), Some(name)) if running.phase == *name => Ok(()),
            (Some(running), expected) => foreign(format!("it is in phase {}, the schedule in {expected:?}", running.phase)),
            (None, _) => Ok(()),
        }
    }

    async fn resume_phase(&self, progress: RunningProgress, read: ReadTensor<'_>) -> Result<Running, Error> {
        let phase = &self.phases[self.position];
        let protected = self.protect(phase).await?;
        let mut running = self.running(phase, &protected).await?;
        if progress.steps > running.agenda.items.len() {
            let (found, planned) = (progress.steps, running.agenda.items.len());
            return Err(Error::ForeignState(format!("it has taken {found} steps of phase {}, which has {planned}", phase.name)));
        }
        if running.ppo.is_some() && progress.ppo.is_none() {
            return Err(Error::ForeignState(format!("it says nothing of the critic in phase {}", phase.name)));
        }
        let updates = progress.ppo.map_or(progress.steps as u64, |ppo| ppo.updates);
        if updates > 0 {
            let (first, second) = (self.slabs(TensorSet::FirstMoment, read)?, self.slabs(TensorSet::SecondMoment, read)?);
            self.check_moments(&running.frozen, (TensorSet::Weights, [&first, &second]))?;
            running.optimizer = AdamW::restore(running.agenda.optimizer, first, second, updates);
            self.policy.compute().settled();
        }
        if let (Some(phase), Some(ppo)) = (&mut running.ppo, progress.ppo.filter(|ppo| ppo.value_updates > 0)) {
            let (first, second) =
                (self.slabs(TensorSet::ValueFirstMoment, read)?, self.slabs(TensorSet::ValueSecondMoment, read)?);
            self.check_moments(&vec![false; first.len()], (TensorSet::ValueWeights, [&first, &second]))?;
            phase.optimizer = AdamW::restore(running.agenda.optimizer, first, second, ppo.value_updates);
            if self.settings.ppo.kl_control.is_some() {
                phase.beta = ppo.kl_coefficient;
            }
            // The policy has moved.
            phase.reference = None;
        }
        if let Some(Pull { anchor, .. }) = &mut running.pull {
            *anchor = all(self.slabs(TensorSet::Anchor, read)?)
                .ok_or_else(|| Error::ForeignState(format!("phase {} is held by an anchor that was not saved", phase.name)))?;
        }
        if let Start::Copy(start) = &mut running.start {
            match all(self.slabs(TensorSet::Start, read)?) {
                Some(saved) => *start = saved,
                None if progress.steps > 0 => {
                    return Err(Error::ForeignState("the weights of the phase's start were kept in memory alone".into()));
                }
                None => {}
            }
        }
        running.unscored.retain(|example| !progress.references.contains_key(example));
        if progress.steps > 0 && !running.unscored.is_empty() {
            let missing = running.unscored.len();
            let reason = format!("{missing} preferences of phase {} have no reference log-probabilities", phase.name);
            return Err(Error::ForeignState(reason));
        }
        running.references = progress.references;
        running.done = progress.steps;
        Ok(running)
    }

    /// Every unit that is trained and owned here has both moments once a step was taken.
    fn check_moments(&self, frozen: &[bool], (of, moments): (TensorSet, [&[Option<Slab>]; 2])) -> Result<(), Error> {
        let needed = |unit: usize| self.reduce.owns(unit) && !frozen[unit];
        let lacks = |unit: usize| moments.iter().any(|m| m[unit].is_none());
        match (0..frozen.len()).find(|&unit| needed(unit) && lacks(unit)) {
            Some(unit) => Err(Error::ForeignState(format!("the moments of {} were not saved", self.units(of)[unit].name))),
            None => Ok(()),
        }
    }

    fn slabs(&self, set: TensorSet, read: ReadTensor<'_>) -> Result<Vec<Option<Slab>>, Error> {
        self.units(set).iter().map(|unit| read(set, unit)?.map(|values| self.slab_of(set, unit, values)).transpose()).collect()
    }

    fn slab_of(&self, set: TensorSet, unit: &Unit, values: Vec<f32>) -> Result<Slab, Error> {
        check_elements(set, unit, &values)?;
        let compute = self.policy.compute();
        Ok(match set {
            TensorSet::Anchor => Slab::anchor(values, unit.dims(), compute),
            set if set.is_moment() => {
                let kept = compute.layout.precision.moments.dtype();
                compute.staying(values, |values| Slab::from_values(values, unit.dims(), compute).cast(kept))
            }
            _ => Slab::from_values(values, unit.dims(), compute),
        })
    }
}

fn check_elements(set: TensorSet, unit: &Unit, values: &[f32]) -> Result<(), Error> {
    let (name, found, expected) = (&unit.name, values.len(), unit.elements());
    match found == expected {
        true => Ok(()),
        false => Err(Error::ForeignState(format!("{} of {name} has {found} values where the model has {expected}", set.name()))),
    }
}

/// All of them, or nothing if one is missing.
fn all(slabs: Vec<Option<Slab>>) -> Option<Vec<Slab>> {
    slabs.into_iter().collect()
}
