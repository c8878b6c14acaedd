//! A trainer's state on disk, and back. Where memory has room for a copy, it is written while training goes on.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use hbat::compute::Moments;
use hbat::error::Error;
use hbat::model::Unit;
use hbat::trainer::{Progress, StoredWeights, TensorSet, Trainer};
use hbat_backends::DeviceName;

use super::session::Saving;
use crate::config::Background;
use crate::store::{Checkpoint, CheckpointWriter, MetricsLog, RunDir, SaveDtype, SavedTensors, StoreError};

/// The set in which a checkpoint keeps the weights of its phase's start: θ_before of the change C, and the anchor if there is one.
const START: &str = "anchor";

/// A set of tensors with its units and their values.
type Values = (TensorSet, Vec<(Unit, Vec<f32>)>);

/// A checkpoint on its way to the disk, or there.
#[derive(Debug, Clone)]
pub(crate) struct Saved(Arc<State>);

#[derive(Debug)]
struct State {
    writing: Mutex<Option<JoinHandle<Result<Checkpoint, StoreError>>>>,
    written: OnceLock<Result<Written, String>>,
}

/// A checkpoint on the disk, its tensors open: they can be read even after it is pruned.
#[derive(Debug)]
struct Written {
    checkpoint: Checkpoint,
    tensors: SavedTensors,
}

impl Saved {
    /// A checkpoint that is there.
    pub(crate) fn there(checkpoint: Checkpoint) -> anyhow::Result<Self> {
        let written = Written { tensors: checkpoint.tensors()?, checkpoint };
        let state = State { writing: Mutex::new(None), written: OnceLock::from(Ok(written)) };
        Ok(Self(Arc::new(state)))
    }

    fn meanwhile(write: impl FnOnce() -> Result<Checkpoint, StoreError> + Send + 'static) -> Self {
        let writing = Mutex::new(Some(std::thread::spawn(write)));
        Self(Arc::new(State { writing, written: OnceLock::new() }))
    }

    /// Its number, once it is on the disk.
    pub(crate) fn number(&self) -> anyhow::Result<u64> {
        self.written().map(|written| written.checkpoint.number()).map_err(|reason| anyhow!("{reason}"))
    }

    /// Whether it is on the disk, or will not come there.
    pub(crate) fn is_settled(&self) -> bool {
        let writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it is on the disk.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        self.written().map(|_| ()).map_err(|reason| anyhow!("{reason}"))
    }

    /// The weights of a unit, once it is on the disk.
    pub(crate) fn weights(&self, unit: &Unit) -> anyhow::Result<Vec<f32>> {
        let written = self.written().map_err(|reason| anyhow!("{reason}"))?;
        let values = written.tensors.read(TensorSet::Weights.name(), unit)?;
        values.with_context(|| format!("{} has no weights of {}", written.checkpoint.path().display(), unit.name))
    }

    fn written(&self) -> Result<&Written, String> {
        let mut writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = writing.take() {
            let written = match thread.join() {
                Ok(Ok(checkpoint)) => checkpoint.tensors().map(|tensors| Written { checkpoint, tensors }),
                Ok(Err(error)) => Err(error),
                Err(_) => return Err("writing a checkpoint failed without a reason".into()),
            };
            let _ = self.0.written.set(written.map_err(|error| error.to_string()));
        }
        match self.0.written.get() {
            Some(Ok(written)) => Ok(written),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("writing a checkpoint failed without a reason".into()),
        }
    }
}

/// The weights of a phase's start, read from the checkpoint that was written there.
pub(crate) struct PhaseStart(pub(crate) Saved);

impl StoredWeights for PhaseStart {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        let values = self.0.written()?.tensors.read(START, unit).map_err(|error| error.to_string())?;
        values.ok_or_else(|| format!("the checkpoint has no {}", unit.name))
    }
}

/// Saves a checkpoint. `start` is one since the phase's start, `None` if this is its start.
pub(crate) async fn save(
    trainer: &Trainer,
    run: &RunDir,
    (metrics, fingerprint): (&MetricsLog, &str),
    start: Option<&Saved>,
    saving: &Saving,
) -> anyhow::Result<Saved> {
    let progress = trainer.progress();
    let (phase, step) = place(trainer, &progress)?;
    let mut writer = run.begin_checkpoint(&phase, step as u64, fingerprint)?;
    if run.best().is_dir() {
        writer.take_along(&run.best())?;
    }
    let start = match start {
        Some(start) => {
            let checkpoint = &start.written().map_err(|reason| anyhow!("{reason}"))?.checkpoint;
            Some(checkpoint.set(START).context("every checkpoint has its phase's start")?)
        }
        None => None,
    };
    let state = serde_json::to_value(&progress).context("the trainer's progress as JSON")?;
    let (metrics, dtypes) = (metrics.sync()?, dtypes(trainer));
    let link = move |writer: &mut CheckpointWriter| match &start {
        Some(start) => writer.take_over(START, start),
        None => writer.same(START, TensorSet::Weights.name()),
    };
    let sets = TensorSet::ALL.into_iter().filter(|set| *set != TensorSet::Anchor);
    if saving.background == Background::Auto && fits(trainer, saving.reserve) {
        let mut copies = Vec::new();
        for set in sets {
            copies.push((set, copy(trainer, set).await?));
        }
        return Ok(Saved::meanwhile(move || {
            copies.into_iter().try_for_each(|values| write_copy(&mut writer, values, dtypes))?;
            link(&mut writer)?;
            writer.complete(state, metrics)
        }));
    }
    for set in sets {
        stream(&mut writer, trainer, (set, dtypes(set))).await?;
    }
    link(&mut writer)?;
    Saved::there(writer.complete(state, metrics)?)
}

/// The phase under way and its steps so far; between two, the one that is over and all of its steps.
fn place(trainer: &Trainer, progress: &Progress) -> Result<(String, usize), Error> {
    if let Some(running) = &progress.running {
        return Ok((running.phase.clone(), running.steps));
    }
    let last = progress.phases_done.saturating_sub(1);
    Ok((trainer.phases()[last].name.clone(), trainer.planned_steps()?[last]))
}

/// Whether ordinary memory has room for a copy of the state, beside what the run will yet take of it.
fn fits(trainer: &Trainer, reserve: u64) -> bool {
    let taken = hbat_backends::usage(DeviceName::Cpu, &trainer.policy().compute().device).map_or(0, |usage| usage.now);
    let coming = reserve.saturating_sub(taken);
    let elements: usize = TensorSet::ALL.into_iter().flat_map(|set| present(trainer, set)).map(|(_, unit)| unit.elements()).sum();
    // A quarter more than the copy: somebody else may be about to take some.
    hbat_backends::memory(DeviceName::Cpu).is_some_and(|free| 5 * elements as u64 + coming <= free)
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

async fn copy(trainer: &Trainer, set: TensorSet) -> anyhow::Result<Vec<(Unit, Vec<f32>)>> {
    let mut copies = Vec::new();
    for unit in present(trainer, set) {
        let values = values(trainer, set, &unit).await?;
        copies.push((unit.1, values));
    }
    Ok(copies)
}

fn write_copy(
    writer: &mut CheckpointWriter,
    (set, units): Values,
    dtypes: impl Fn(TensorSet) -> SaveDtype,
) -> Result<(), StoreError> {
    if units.is_empty() {
        return Ok(());
    }
    let mut file = writer.begin_set(set.name(), units.iter().map(|(unit, _)| unit), dtypes(set))?;
    // Each copy goes as soon as it is written.
    units.into_iter().try_for_each(|(_, values)| file.write(&values))?;
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
