//! What a run needs, known before it starts.

use hbat::budget::{Memory, PhaseBudget, budget};
use hbat::compute::{self, Moments, Precision, Weights};
use hbat::engine::Engine;
use hbat::error::Error;
use hbat::model::{LlamaConfig, Unit};
use hbat::schedule::phases;
use hbat::trainer::{Data, Place, Settings};
use hbat_backends::DeviceName;
use serde::Serialize;

use super::inputs::Inputs;
use crate::config::{self, Plan};
use crate::report;

/// What all methods of a run need, and what there is.
#[derive(Debug, Clone, Serialize)]
pub struct Needs {
    /// Where it is to run.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceName,
    /// Bytes that the device has; `None` where nobody says.
    pub available: Option<u64>,
    /// The phases of every method.
    pub methods: Vec<MethodNeeds>,
    /// Bytes on disk of one method.
    pub disk: Disk,
    #[serde(skip)]
    pub(super) config: LlamaConfig,
    #[serde(skip)]
    data: Data,
}

/// What one method needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodNeeds {
    /// Its name in run files.
    pub method: String,
    /// Its phases.
    pub phases: Vec<PhaseBudget>,
}

/// Bytes on disk of one method, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// One checkpoint: weights, moments, and the weights of the phase's start.
    pub checkpoint: u64,
    /// Checkpoints that are kept, and the one being written.
    pub checkpoints: u64,
    /// `best/`, `last/`, and the one being replaced.
    pub models: u64,
}

impl Disk {
    fn new(config: &LlamaConfig, keep: usize) -> Self {
        let model: u64 = config.units().iter().map(|unit: &Unit| 4 * unit.elements() as u64).sum();
        let checkpoint = 4 * model;
        Self { checkpoint, checkpoints: checkpoint * (keep as u64 + 1), models: 3 * model }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.checkpoints + self.models
    }
}

impl Needs {
    /// What a run needs. Reads its data, but no weights.
    ///
    /// # Errors
    /// If the data cannot be read, or is too small for the schedule.
    pub fn of(plan: &Plan) -> anyhow::Result<Self> {
        plan.check_paths()?;
        Self::new(plan, &Inputs::load(plan, &mut |_| {})?)
    }

    /// The same for inputs that are there.
    pub(super) fn new(plan: &Plan, inputs: &Inputs) -> anyhow::Result<Self> {
        let (config, data) = (inputs.folder.config().clone(), inputs.data.clone());
        let methods = methods(plan, (&config, &data), (&plan.settings, plan.precision)).map_err(|error| refused(plan, error))?;
        Ok(Self {
            device: plan.device,
            available: hbat_backends::memory(plan.device),
            methods,
            disk: Disk::new(&config, plan.run.checkpoints.keep),
            config,
            data,
        })
    }

    /// Weights of the model.
    pub fn weights(&self) -> usize {
        self.config.units().iter().map(Unit::elements).sum()
    }

    /// The phase that needs the most memory, and its method.
    pub fn peak(&self) -> Option<(&str, &PhaseBudget)> {
        peak(&self.methods)
    }

    /// Refuses what cannot fit, with the setting that would make it fit.
    ///
    /// # Errors
    /// If the device has less memory than the run needs.
    pub fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        let (Some(available), Some((method, phase))) = (self.available, self.peak()) else { return Ok(()) };
        let needed = phase.peak.total() as u64;
        if needed <= available {
            return Ok(());
        }
        let (device, needed, has) = (self.device, report::size(needed), report::size(available));
        let problem = format!("phase {} of {method} needs {needed} of memory, and {device} has {has}", phase.phase);
        let remedy = self.remedy(plan, available).map_err(|error| refused(plan, error))?;
        Err(plan.refuse("engine.kind", problem, remedy).into())
    }

    /// The first change of `[engine]` that makes the run fit.
    fn remedy(&self, plan: &Plan, available: u64) -> Result<String, Error> {
        for Change { words, settings, precision } in changes(plan) {
            let methods = methods(plan, (&self.config, &self.data), (&settings, precision))?;
            let peak = peak(&methods).map_or(0, |(_, phase)| phase.peak.total() as u64);
            if peak <= available {
                return Ok(format!("set {words}: then it needs {}", report::size(peak)));
            }
        }
        let least = self.peak().map_or(Memory::default(), |(_, phase)| phase.peak);
        let least = least.weights + least.gradients.max(least.weights) + least.moments + least.consolidation;
        let least = report::size(least as u64);
        Ok(format!(
            "no setting makes it fit, for weights, gradients, moments and anchor alone take {least}: take a smaller model or another device"
        ))
    }
}

fn peak(methods: &[MethodNeeds]) -> Option<(&str, &PhaseBudget)> {
    let all = methods.iter().flat_map(|m| m.phases.iter().map(move |phase| (m.method.as_str(), phase)));
    all.max_by_key(|(_, phase)| phase.peak.total())
}

/// Settings that take less memory, in words.
struct Change {
    words: String,
    settings: Settings,
    precision: Precision,
}

/// A setting that takes less memory, and what it does.
type Saving = (&'static str, fn(&mut Settings, &mut Precision));

/// What to change so that a run takes less memory, each together with those before it. On a processor the last two would not
/// help: there is one memory, and bf16 is slow there.
fn changes(plan: &Plan) -> Vec<Change> {
    let savings: [Saving; 4] = [
        ("engine.kind = \"segmented\"", |settings, _| settings.engine = Engine::Segmented),
        ("engine.micro_batch = 1", |settings, _| settings.micro_batch = 1),
        ("engine.anchor = \"host\"", |settings, _| settings.anchor = Place::Host),
        ("engine.weights = \"bf16-split\" and engine.moments = \"bf16\"", |_, precision| {
            *precision = Precision { weights: Weights::Bf16Split, moments: Moments::Bf16 };
        }),
    ];
    let count = if plan.device == DeviceName::Cpu { 2 } else { savings.len() };
    let (mut words, mut settings, mut precision) = (Vec::new(), plan.settings, plan.precision);
    let change = |(word, change): Saving| {
        words.push(word);
        change(&mut settings, &mut precision);
        Change { words: words.join(" and "), settings, precision }
    };
    savings.into_iter().take(count).map(change).collect()
}

fn methods(
    plan: &Plan,
    (config, data): (&LlamaConfig, &Data),
    (settings, precision): (&Settings, Precision),
) -> Result<Vec<MethodNeeds>, Error> {
    let place = (memory(plan.device, precision), precision);
    let of_method = |schedule: &hbat::schedule::ScheduleSettings| {
        let phases = budget(config, place, &phases(schedule), data, settings)?;
        Ok(MethodNeeds { method: config::name(schedule.method), phases })
    };
    plan.schedules.iter().map(of_method).collect()
}

/// How a device's tensors are reached. The loops over a processor's memory are f32's: what else it computes in goes through
/// the tensor operations of all devices.
pub(super) fn memory(device: DeviceName, precision: Precision) -> compute::Memory {
    match device {
        DeviceName::Cpu if precision == Precision::default() => compute::Memory::Host,
        DeviceName::Cpu | DeviceName::Wgpu(_) | DeviceName::Cuda(_) => compute::Memory::Device,
    }
}

/// Data too small for the schedule is a matter of `schedule.subsets`, and said so with the place where it was set.
pub(super) fn refused(plan: &Plan, error: Error) -> anyhow::Error {
    match &error {
        Error::TooFewExamples { .. } => plan.refuse("schedule.subsets", error.to_string(), "lower it or add data").into(),
        _ => error.into(),
    }
}

fn as_text<S: serde::Serializer>(device: &DeviceName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Request;

    fn toy(set: &[&str]) -> (Plan, Needs) {
        let set = set.iter().map(|text| (*text).to_string()).collect();
        let plan = config::resolve(&Request { set, ..Request::default() }).unwrap();
        let needs = Needs::of(&plan).unwrap();
        (plan, needs)
    }

    #[test]
    fn what_fits_is_not_refused_and_the_toy_fits() {
        let (plan, needs) = toy(&[]);
        needs.check(&plan).unwrap();
        let names: Vec<&str> = needs.methods.iter().map(|m| m.method.as_str()).collect();
        assert_eq!(names, ["two-stage", "hbat"]);
        assert_eq!(needs.methods[1].phases.len(), 4);
    }

    #[test]
    fn the_setting_that_makes_a_run_fit_is_named() {
        let (plan, mut needs) = toy(&["engine.kind=\"whole\"", "sft.batch_size=32"]);
        let whole = needs.peak().unwrap().1.peak.total() as u64;
        needs.available = Some(whole - 1);
        let text = needs.check(&plan).unwrap_err().to_string();
        assert!(text.contains("engine.kind = \"segmented\": then it needs"), "{text}");
        needs.available = Some(1_000_000);
        let text = needs.check(&plan).unwrap_err().to_string();
        assert!(text.contains("no setting makes it fit") && text.contains("1.0 MB"), "{text}");
        needs.available = None;
        needs.check(&plan).unwrap();
    }

    #[test]
    fn on_a_card_bf16_and_an_anchor_elsewhere_are_named_too() {
        let (mut plan, mut needs) = toy(&["engine.kind=\"segmented\"", "engine.micro_batch=1"]);
        plan.device = DeviceName::Cuda(0);
        let peak = |change: &Change| {
            let methods = methods(&plan, (&needs.config, &needs.data), (&change.settings, change.precision)).unwrap();
            super::peak(&methods).unwrap().1.peak.total() as u64
        };
        let peaks: Vec<u64> = changes(&plan).iter().map(peak).collect();
        assert!(peaks.len() == 4 && peaks.is_sorted_by(|a, b| a >= b) && peaks[3] < peaks[2] && peaks[2] < peaks[1], "{peaks:?}");
        needs.available = Some(peaks[3]);
        let text = needs.check(&plan).unwrap_err().to_string();
        assert!(text.contains("engine.anchor = \"host\" and engine.weights = \"bf16-split\""), "{text}");
    }

    #[test]
    fn a_device_says_how_large_it_is() {
        assert!(toy(&[]).1.available > Some(100_000_000) || !cfg!(target_os = "linux"));
    }
}
