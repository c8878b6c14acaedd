//! The lab: methods side by side on the toy task, measured as they train.
//!
//! A [`Lab`] has one lane per method. All start from the same weights, see the same examples and get the same
//! budget. Whoever drives it awaits [`Lab::advance`] and draws the [`Frame`]s: a browser does so live, `hbat record` writes them
//! into a file.

mod agree;
mod error;
mod exports;
mod field;
mod frame;
mod gauge;
mod judge;
mod lane;
mod plane;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;
mod tune;
mod words;

pub use agree::{Agreement, AgreementRow, agreement};
pub use error::LabError;
pub use field::{Field, fields};
pub use frame::{
    Frame, Header, Importances, JudgeHeader, LaneHeader, Mark, Marked, Moment, PhaseHeader, PhaseSide, Prompt, RuleReport,
};
pub use plane::{Corner, hypervolume};
pub use settings::{LabSettings, LaneMethod};
pub use tune::{Tried, Tuned, TunedLane, tune_beta};

use std::sync::Arc;

use crate::compute::Compute;
use crate::model::{Policy, to_safetensors};
use crate::trainer::{Data, Models};
use gauge::Gauge;
use judge::Judge;
use lane::Lane;

/// Methods side by side.
pub struct Lab {
    settings: LabSettings,
    gauge: Arc<Gauge>,
    units: Vec<String>,
    /// The moment at the start, which is the same for all lanes and measured once.
    start: Option<Moment>,
    lanes: Vec<Lane>,
}

/// What lanes have in common, whatever their β.
struct Ground {
    policy: Policy,
    data: Data,
    gauge: Arc<Gauge>,
}

impl Ground {
    async fn prepare<E: From<LabError>>(
        settings: &LabSettings,
        compute: Compute,
        progress: &mut dyn FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        settings.check()?;
        let policy = settings.model.policy(compute).map_err(LabError::from)?;
        let (data, mut gauge) = Gauge::new(settings, &policy).await?;
        if settings.lanes.iter().any(|&method| settings.is_judged(method)) {
            gauge.judge = Some(Judge::train(settings, (&policy, &data), &gauge.preferences, progress).await?);
        }
        Ok(Self { policy, data, gauge: Arc::new(gauge) })
    }
}

impl Lab {
    /// All lanes at their start.
    ///
    /// # Errors
    /// If a setting is out of range, or the device fails.
    pub async fn new(settings: LabSettings, compute: Compute) -> Result<Self, LabError> {
        Self::prepared(settings, compute, &mut |_, _| Ok(())).await
    }

    /// The same; while the judge of answers is trained, `progress` is told the steps that are done, and of how many.
    ///
    /// # Errors
    /// As [`Lab::new`], or what `progress` returns.
    pub async fn prepared<E: From<LabError>>(
        settings: LabSettings,
        compute: Compute,
        progress: &mut dyn FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        let ground = Ground::prepare(&settings, compute, progress).await?;
        Ok(Self::on(&ground, settings)?)
    }

    fn on(Ground { policy, data, gauge }: &Ground, settings: LabSettings) -> Result<Self, LabError> {
        let lane = |&method| Lane::new(method, &settings, (models(method, &settings, policy, gauge), data.clone()));
        let lanes = settings.lanes.iter().map(lane).collect::<Result<Vec<_>, LabError>>()?;
        let units = policy.units().iter().map(|unit| unit.name.clone()).collect();
        Ok(Self { settings, gauge: gauge.clone(), units, start: None, lanes })
    }

    /// What the lab was made from.
    pub fn settings(&self) -> &LabSettings {
        &self.settings
    }

    /// What is known before anything is trained: the first record of a recording.
    pub fn header(&self) -> Header {
        Header {
            version: frame::VERSION,
            settings: self.settings.clone(),
            units: self.units.clone(),
            prompts: self.gauge.prompts(),
            lanes: self.lanes.iter().map(Lane::header).collect(),
            judge: self.gauge.judge.as_ref().map(|judge| JudgeHeader { accuracy: judge.accuracy }),
            ideal: self.gauge.ideal(),
            nadir: Corner::NADIR,
        }
    }

    /// Does a lane's next piece of work, at most one step and the measurements that are due after it.
    ///
    /// # Errors
    /// If there is no such lane, if training leaves the numbers that can be represented, or if the device fails.
    pub async fn advance(&mut self, lane: usize) -> Result<Vec<Frame>, LabError> {
        let index = self.checked(lane)?;
        let (gauge, settings) = (self.gauge.clone(), &self.settings);
        let lane = &mut self.lanes[index];
        let mut frames = Vec::new();
        if lane.is_new() {
            let start = match self.start.take() {
                Some(start) => start,
                None => lane.measure(&gauge, settings).await?,
            };
            self.start = Some(start.clone());
            frames.push(lane.begin(start));
        }
        frames.extend(lane.advance(&gauge, settings).await?);
        frames.iter_mut().for_each(|frame| frame.set_lane(index));
        Ok(frames)
    }

    /// A lane's answer to a prompt in the toy's words, such as `sort 3 1 2 =`.
    ///
    /// # Errors
    /// If there is no such lane, the prompt has unknown words or is too long, or the device fails.
    pub async fn generate(&self, lane: usize, prompt: &str) -> Result<Vec<Marked>, LabError> {
        words::answer(self.policy(lane)?, prompt).await
    }

    /// A lane's weights as a safetensors file in Hugging Face layout.
    ///
    /// # Errors
    /// If there is no such lane, or the device fails.
    pub async fn safetensors(&self, lane: usize) -> Result<Vec<u8>, LabError> {
        Ok(to_safetensors(self.policy(lane)?).await?)
    }

    /// A run file with which `hbat train` repeats the lane.
    ///
    /// # Errors
    /// If there is no such lane.
    pub fn run_file(&self, lane: usize) -> Result<String, LabError> {
        Ok(exports::run_file(&self.settings, self.lanes[self.checked(lane)?].method()))
    }

    /// A run file with which `hbat train` repeats the judge; `None` where there is none.
    pub fn judge_file(&self) -> Option<String> {
        exports::judge_file(&self.settings)
    }

    /// What the lane did so far, as `hbat train` writes it into `metrics.jsonl`.
    ///
    /// # Errors
    /// If there is no such lane.
    pub fn metrics(&self, lane: usize) -> Result<String, LabError> {
        Ok(self.lanes[self.checked(lane)?].metrics())
    }

    /// Whether a lane has done all its phases.
    ///
    /// # Errors
    /// If there is no such lane.
    pub fn finished(&self, lane: usize) -> Result<bool, LabError> {
        Ok(self.lanes[self.checked(lane)?].finished())
    }

    fn policy(&self, lane: usize) -> Result<&Policy, LabError> {
        Ok(self.lanes[self.checked(lane)?].policy())
    }

    fn checked(&self, lane: usize) -> Result<usize, LabError> {
        let lanes = self.lanes.len();
        if lane < lanes { Ok(lane) } else { Err(LabError::Lane { lane, lanes }) }
    }
}

/// A policy, and the critics of a method that needs them.
fn models(method: LaneMethod, settings: &LabSettings, policy: &Policy, gauge: &Gauge) -> Models {
    let judge = gauge.judge.as_ref().filter(|_| settings.is_judged(method));
    (policy.clone(), judge.map(|judge| judge.critics(settings.preference))).into()
}
