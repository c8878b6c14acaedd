//! A trainer's state on disk, and back.

use anyhow::Context;
use hbat::error::Error;
use hbat::model::Unit;
use hbat::trainer::{Progress, StoredWeights, TensorSet, Trainer};

use crate::store::{Checkpoint, MetricsLog, RunDir, SavedTensors};

/// The set in which a checkpoint keeps the weights of its phase's start: θ_before of the change C, and the anchor if there is one.
const START: &str = "anchor";

/// Writes a checkpoint. `start` is the checkpoint of the phase's start, `None` if this is it.
pub(crate) async fn save(
    trainer: &Trainer,
    run: &RunDir,
    (metrics, fingerprint): (&MetricsLog, &str),
    start: Option<&Checkpoint>,
) -> anyhow::Result<Checkpoint> {
    let progress = trainer.progress();
    let (phase, step) = progress.running.as_ref().map_or(("end", 0), |r| (r.phase.as_str(), r.steps as u64));
    let mut writer = run.begin_checkpoint(phase, step, fingerprint)?;
    for set in TensorSet::ALL.into_iter().filter(|set| *set != TensorSet::Anchor) {
        write_set(&mut writer, trainer, set).await?;
    }
    match start {
        Some(start) => writer.take_over(START, &start.set_path(START))?,
        None => writer.same(START, TensorSet::Weights.name())?,
    }
    let state = serde_json::to_value(&progress).context("the trainer's progress as JSON")?;
    Ok(writer.complete(state, metrics)?)
}

async fn write_set(writer: &mut crate::store::CheckpointWriter, trainer: &Trainer, set: TensorSet) -> anyhow::Result<()> {
    let mut present = Vec::new();
    for (index, unit) in trainer.policy().units().iter().enumerate() {
        if trainer.has(set, index) {
            present.push((index, unit.clone()));
        }
    }
    if present.is_empty() {
        return Ok(());
    }
    let units: Vec<Unit> = present.iter().map(|(_, unit)| unit.clone()).collect();
    let mut file = writer.begin_set(set.name(), &units)?;
    for (index, unit) in present {
        let values = trainer.values(set, index).await?.with_context(|| format!("{} has no {}", unit.name, set.name()))?;
        file.write(&values)?;
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

/// The weights of a phase's start, read from the checkpoint that was written there. The file stays readable when the
/// checkpoint is pruned: it is mapped.
pub(crate) struct PhaseStart(SavedTensors);

impl PhaseStart {
    pub(crate) fn open(checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        Ok(Self(checkpoint.tensors()?))
    }
}

impl StoredWeights for PhaseStart {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        let values = self.0.read(START, unit).map_err(|error| error.to_string())?;
        values.ok_or_else(|| format!("the checkpoint has no {}", unit.name))
    }
}
