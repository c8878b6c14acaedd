//! A lab as bytes, and back, on any device: a safetensors file with everything that is no tensor in its metadata.

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::TensorData;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::frame::Moment;
use super::gauge::Gauge;
use super::judge::Judge;
use super::lane::{Lane, LaneState};
use super::settings::LaneMethod;
use super::{Lab, LabError, LabSettings, models};
use crate::compute::Compute;
use crate::error::Error;
use crate::model::{Policy, Unit};
use crate::reduce::Alone;
use crate::schedule::phases;
use crate::trainer::{Data, Progress, TensorSet, Trainer};

/// The metadata's key.
const KEY: &str = "lab";

/// Everything that is no tensor.
#[derive(Serialize, Deserialize)]
struct State {
    settings: LabSettings,
    start: Option<Moment>,
    /// The judge's accuracy.
    judge: Option<f64>,
    lanes: Vec<(LaneState, Progress)>,
}

impl Lab {
    /// Everything, so that [`restore`](Self::restore) goes on as if nothing had happened.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn snapshot(&self) -> Result<Vec<u8>, LabError> {
        let mut tensors = self.tensors_of_judge().await?;
        for (index, lane) in self.lanes.iter().enumerate() {
            for set in TensorSet::ALL {
                for (place, unit) in lane.trainer.units(set).iter().enumerate() {
                    if let Some(values) = lane.trainer.values(set, place).await? {
                        tensors.push((name(index, set, unit), values.len(), bytes(&values)));
                    }
                }
            }
        }
        let lanes = self.lanes.iter().map(|lane| (lane.state.clone(), lane.trainer.progress())).collect();
        let judge = self.gauge.judge.as_ref().map(|judge| judge.accuracy);
        let state = State { settings: self.settings.clone(), start: self.start.clone(), judge, lanes };
        let state = serde_json::to_string(&state).map_err(unusable)?;
        let mut views = Vec::with_capacity(tensors.len());
        for (name, length, bytes) in &tensors {
            views.push((name, TensorView::new(Dtype::F32, vec![*length], bytes).map_err(unusable)?));
        }
        safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), state)]))).map_err(unusable)
    }

    async fn tensors_of_judge(&self) -> Result<Vec<(String, usize, Vec<u8>)>, LabError> {
        let mut tensors = Vec::new();
        if let Some(Judge { reward, .. }) = &self.gauge.judge {
            for (place, unit) in reward.units().iter().enumerate() {
                let values = reward.values(place).await?;
                tensors.push((name_of_judge(unit), values.len(), bytes(&values)));
            }
        }
        Ok(tensors)
    }

    /// A lab as it was when the snapshot was taken, whatever device that was on.
    ///
    /// # Errors
    /// If the bytes are no snapshot of a lab of this version, or the device fails.
    pub async fn restore(bytes: &[u8], compute: Compute) -> Result<Self, LabError> {
        let file = SafeTensors::deserialize(bytes).map_err(unusable)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unusable)?;
        let state = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).ok_or_else(|| unusable("no state"))?;
        let state: State = serde_json::from_str(state).map_err(unusable)?;
        let start = state.settings.model.policy(compute.clone())?;
        let (data, mut gauge) = Gauge::new(&state.settings, &start).await?;
        if let Some(accuracy) = state.judge {
            let read = |unit: &Unit| fitting(read(&file, &name_of_judge(unit)), unit);
            gauge.judge = Some(Judge::load((&state.settings, accuracy), compute.clone(), read)?);
        }
        let mut lanes = Vec::with_capacity(state.lanes.len());
        for (index, (lane, &method)) in state.lanes.into_iter().zip(&state.settings.lanes).enumerate() {
            let saved = Saved { file: &file, lane: index, compute: &compute, gauge: &gauge };
            lanes.push(saved.lane((method, &state.settings), &data, lane).await?);
        }
        let units = start.units().iter().map(|unit| unit.name.clone()).collect();
        Ok(Self { settings: state.settings, gauge: Arc::new(gauge), units, start: state.start, lanes })
    }
}

/// One lane's tensors.
struct Saved<'a> {
    file: &'a SafeTensors<'a>,
    lane: usize,
    compute: &'a Compute,
    gauge: &'a Gauge,
}

impl Saved<'_> {
    async fn lane(
        &self,
        (method, settings): (LaneMethod, &LabSettings),
        data: &Data,
        (state, progress): (LaneState, Progress),
    ) -> Result<Lane, LabError> {
        let policy = Policy::load(settings.model.config(), self.compute.clone(), |unit| {
            Ok::<_, LabError>(TensorData::new(fitting(self.read(TensorSet::Weights, unit), unit)?, unit.dims()))
        })?;
        let material = (data.clone(), phases(&settings.schedule(method)));
        let mut read = |set, unit: &Unit| Ok::<_, Error>(self.read(set, unit));
        let models = models(method, settings, &policy, self.gauge);
        let trainer = Trainer::resume(models, material, (settings.trainer(), Alone), progress, &mut read).await?;
        Lane::with(method, settings, trainer, state)
    }

    fn read(&self, set: TensorSet, unit: &Unit) -> Option<Vec<f32>> {
        read(self.file, &name(self.lane, set, unit))
    }
}

/// Weights, if they are there and all of them.
fn fitting(values: Option<Vec<f32>>, unit: &Unit) -> Result<Vec<f32>, LabError> {
    let values = values.ok_or_else(|| unusable(format!("no weights of {}", unit.name)))?;
    match values.len() == unit.elements() {
        true => Ok(values),
        false => Err(unusable(format!("{} weights of {}", values.len(), unit.name))),
    }
}

fn read(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let view = file.tensor(name).ok()?;
    Some(view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn name_of_judge(unit: &Unit) -> String {
    format!("judge/{}", unit.name)
}

fn name(lane: usize, set: TensorSet, unit: &Unit) -> String {
    format!("{lane}/{}/{}", set.name(), unit.name)
}

fn unusable(reason: impl ToString) -> LabError {
    LabError::Snapshot(reason.to_string())
}
