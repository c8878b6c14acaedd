//! A trainer's state on disk, and back. Where memory has room for a copy, it is written while training goes on.

use std::sync::Arc;

use anyhow::Context;
use half::bf16;
use hbat::compute::Moments;
use hbat::error::Error;
use hbat::model::Unit;
use hbat::trainer::{Progress, StoredWeights, TensorSet, Trainer};
use hbat_backends::DeviceName;

use super::exporting::{UnderWay, Weights};
use super::meanwhile::Meanwhile;
use super::session::Saving;
use crate::config::Background;
use crate::store::{Checkpoint, CheckpointWriter, MetricsLog, RunDir, SaveDtype, SavedTensors, StoreError};

/// The set in which a checkpoint keeps the weights of its phase's start: θ_before of the change C, and the anchor if there is one.
const START: &str = "anchor";

/// A copy of a unit's values, in the precision that the disk will have them in.
enum Copied {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Copied {
    fn new(values: Vec<f32>, dtype: SaveDtype) -> Self {
        match dtype {
            SaveDtype::Bf16 => Self::Bf16(values.into_iter().map(bf16::from_f32).collect()),
            _ => Self::F32(values),
        }
    }

    fn into_values(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values,
            Self::Bf16(values) => values.into_iter().map(bf16::to_f32).collect(),
        }
    }
}

/// A checkpoint on its way to the disk, or there.
#[derive(Debug, Clone)]
pub(crate) struct Saved(Arc<Meanwhile<Written>>);

/// A checkpoint on the disk, its tensors open: they can be read even after it is pruned.
#[derive(Debug)]
struct Written {
    checkpoint: Checkpoint,
    tensors: SavedTensors,
}

impl Saved {
    /// A checkpoint that is there.
    pub(crate) fn there(checkpoint: Checkpoint) -> anyhow::Result<Self> {
        Ok(Self(Meanwhile::there(Written::open(checkpoint)?)))
    }

    /// Its number, once it is on the disk.
    pub(crate) fn number(&self) -> anyhow::Result<u64> {
        self.0.result().map(|written| written.checkpoint.number())
    }

    /// Whether it is on the disk, or will not come there.
    pub(crate) fn is_settled(&self) -> bool {
        self.0.is_settled()
    }

    /// Waits until it is on the disk.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        self.0.result().map(|_| ())
    }

    /// The weights of a unit, once it is on the disk.
    pub(crate) fn weights(&self, unit: &Unit) -> anyhow::Result<Vec<f32>> {
        let written = self.0.result()?;
        let values = written.tensors.read(TensorSet::Weights.name(), unit)?;
        values.with_context(|| format!("{} has no weights of {}", written.checkpoint.path().display(), unit.name))
    }
}

impl Written {
    fn open(checkpoint: Checkpoint) -> anyhow::Result<Self> {
        Ok(Self { tensors: checkpoint.tensors()?, checkpoint })
    }
}

/// The weights of a phase's start, read from the checkpoint that was written there.
pub(crate) struct PhaseStart(pub(crate) Saved);

impl StoredWeights for PhaseStart {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        let written = self.0.0.result().map_err(|error| format!("{error:#}"))?;
        let values = written.tensors.read(START, unit).map_err(|error| error.to_string())?;
        values.ok_or_else(|| format!("the checkpoint has no {}", unit.name))
    }
}

/// What lies around a checkpoint.
pub(crate) struct Around<'a> {
    /// One since the start of the phase under way; none if this is its start.
    pub(crate) start: Option<&'a Saved>,
    /// What `best/` is about to be.
    pub(crate) best: Option<UnderWay>,
}

/// Saves a checkpoint.
pub(crate) async fn save(
    trainer: &Trainer,
    run: &RunDir,
    (metrics, fingerprint): (&MetricsLog, &str),
    around: Around<'_>,
    saving: &Saving,
) -> anyhow::Result<Saved> {
    let progress = trainer.progress();
    let (phase, step) = place(trainer, &progress)?;
    let mut writer = run.begin_checkpoint(&phase, step as u64, fingerprint)?;
    let start = match around.start {
        Some(start) => {
            let checkpoint = &start.0.result()?.checkpoint;
            Some(checkpoint.set(START).context("every checkpoint has its phase's start")?)
        }
        None => None,
    };
    let state = serde_json::to_value(&progress).context("the trainer's progress as JSON")?;
    let (metrics, dtypes, best) = (metrics.sync()?, dtypes(trainer), run.best());
    let finish = move |mut writer: CheckpointWriter| {
        match &start {
            Some(start) => writer.take_over(START, start)?,
            None => writer.same(START, TensorSet::Weights.name())?,
        }
        // What a checkpoint remembers of evaluations must be true of the `best/` that it takes along.
        around.best.map_or(Ok(()), |best| best.result().copied())?;
        if best.is_dir() {
            writer.take_along(&best)?;
        }
        Written::open(writer.complete(state, metrics)?)
    };
    let sets = TensorSet::ALL.into_iter().filter(|set| *set != TensorSet::Anchor);
    if fits(trainer, sets.clone(), saving) {
        let mut copies = Vec::new();
        for set in sets {
            copies.push((set, copy(trainer, set).await?));
        }
        return Ok(Saved(Meanwhile::begin(move || {
            for (set, units) in copies {
                write_copy(&mut writer, units, (set, dtypes(set)))?;
            }
            finish(writer)
        })));
    }
    for set in sets {
        stream(&mut writer, trainer, (set, dtypes(set))).await?;
    }
    Ok(Saved(Meanwhile::there(finish(writer)?)))
}

/// The weights as they are now, if memory has room for a copy of them.
pub(crate) async fn copied_weights(trainer: &Trainer, saving: &Saving) -> anyhow::Result<Option<Weights>> {
    if !fits(trainer, [TensorSet::Weights].into_iter(), saving) {
        return Ok(None);
    }
    let mut copies: Vec<Option<Copied>> =
        copy(trainer, TensorSet::Weights).await?.into_iter().map(|(_, copy)| Some(copy)).collect();
    // Each copy goes as soon as it is read.
    Ok(Some(Box::new(move |unit| Ok(copies[unit].take().context("weights are read once")?.into_values()))))
}

/// The phase under way and its steps so far; between two, the one that is over and all of its steps.
fn place(trainer: &Trainer, progress: &Progress) -> Result<(String, usize), Error> {
    if let Some(running) = &progress.running {
        return Ok((running.phase.clone(), running.steps));
    }
    let last = progress.phases_done.saturating_sub(1);
    Ok((trainer.phases()[last].name.clone(), trainer.planned_steps()?[last]))
}

/// Whether sets may be written while training goes on: ordinary memory has room for a copy of them beside what the run will yet take of it.
fn fits(trainer: &Trainer, sets: impl Iterator<Item = TensorSet>, saving: &Saving) -> bool {
    let taken = hbat_backends::usage(DeviceName::Cpu, &trainer.policy().compute().device).map_or(0, |usage| usage.now);
    let (coming, dtypes) = (saving.reserve.saturating_sub(taken), dtypes(trainer));
    let elements = |set| present(trainer, set).iter().map(|(_, unit)| unit.elements()).sum::<usize>();
    let copy: usize = sets.map(|set| elements(set) * dtypes(set).bytes()).sum();
    // A quarter more than the copy: somebody else may be about to take some.
    let wanted = copy as u64 + copy as u64 / 4 + coming;
    saving.background == Background::Auto && hbat_backends::memory(DeviceName::Cpu).is_some_and(|free| wanted <= free)
}

/// How each set is kept on disk, so that it comes back bit by bit.
fn dtypes(trainer: &Trainer) -> impl Fn(TensorSet) -> SaveDtype + Copy + Send + 'static {
    let moments = match trainer.policy().compute().layout.precision.moments {
        Moments::F32 => SaveDtype::F32,
        Moments::Bf16 => SaveDtype::Bf16,
    };
    move |set| if set.is_moment() { moments } else { SaveDtype::F32 }
}

/// The units that the state has in a set.
fn present(trainer: &Trainer, set: TensorSet) -> Vec<(usize, Unit)> {
    let units = trainer.units(set).iter().enumerate();
    units.filter(|(index, _)| trainer.has(set, *index)).map(|(index, unit)| (index, unit.clone())).collect()
}

async fn values(trainer: &Trainer, set: TensorSet, (index, unit): &(usize, Unit)) -> anyhow::Result<Vec<f32>> {
    trainer.values(set, *index).await?.with_context(|| format!("{} has no {}", unit.name, set.name()))
}

async fn copy(trainer: &Trainer, set: TensorSet) -> anyhow::Result<Vec<(Unit, Copied)>> {
    let (mut copies, dtype) = (Vec::new(), dtypes(trainer)(set));
    for unit in present(trainer, set) {
        let values = values(trainer, set, &unit).await?;
        copies.push((unit.1, Copied::new(values, dtype)));
    }
    Ok(copies)
}

fn write_copy(
    writer: &mut CheckpointWriter,
    units: Vec<(Unit, Copied)>,
    (set, dtype): (TensorSet, SaveDtype),
) -> Result<(), StoreError> {
    if units.is_empty() {
        return Ok(());
    }
    let mut file = writer.begin_set(set.name(), units.iter().map(|(unit, _)| unit), dtype)?;
    // Each copy goes as soon as it is written.
    units.into_iter().try_for_each(|(_, copy)| file.write(&copy.into_values()))?;
    file.finish()
}

async fn stream(writer: &mut CheckpointWriter, trainer: &Trainer, (set, dtype): (TensorSet, SaveDtype)) -> anyhow::Result<()> {
    let present = present(trainer, set);
    if present.is_empty() {
        return Ok(());
    }
    let mut file = writer.begin_set(set.name(), present.iter().map(|(_, unit)| unit), dtype)?;
    for unit in &present {
        file.write(&values(trainer, set, unit).await?)?;
    }
    Ok(file.finish()?)
}

/// What a checkpoint's state says.
pub(crate) fn progress(checkpoint: &Checkpoint) -> Result<Progress, Error> {
    serde_json::from_value(checkpoint.state().clone()).map_err(|error| Error::ForeignState(error.to_string()))
}

/// Reads a unit from a checkpoint, in the trainer's words.
pub(crate) fn read(saved: &SavedTensors, set: TensorSet, unit: &Unit) -> Result<Option<Vec<f32>>, Error> {
    saved.read(set.name(), unit).map_err(|error| Error::ForeignState(error.to_string()))
}
