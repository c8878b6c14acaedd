//! What a run needs, known before it starts.

use std::path::Path;

use hbat::budget::{Configs, Memory, PhaseBudget, budget};
use hbat::compute::{LayerInputs, Layout, Moments, Offload, Precision, Products, Sums, Weights};
use hbat::consolidation::Rule;
use hbat::engine::Engine;
use hbat::error::Error;
use hbat::model::{LlamaConfig, Unit};
use hbat::schedule::{Aim, phases};
use hbat::trainer::{Data, Settings, UpdateTiming};
use hbat_backends::DeviceName;
use serde::Serialize;

use super::identity;
use super::inputs::Inputs;
use crate::config::{self, Judged, Plan};
use crate::report;

/// What all methods of a run need, and what there is.
#[derive(Debug, Clone, Serialize)]
pub struct Needs {
    /// Where it is to run.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceName,
    /// Bytes that the device has; `None` where nobody says.
    pub available: Option<u64>,
    /// Bytes that the host has for what is offloaded; `None` where nobody says.
    pub host: Option<u64>,
    /// The phases of every method.
    pub methods: Vec<MethodNeeds>,
    /// Bytes on disk of one method.
    pub disk: Disk,
    /// Bytes that are free where the run's folder is; `None` where nobody says.
    pub free_disk: Option<u64>,
    #[serde(skip)]
    pub(super) config: LlamaConfig,
    /// Of who judges answers, and of the critic of PPO.
    #[serde(skip)]
    reward: Option<LlamaConfig>,
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
    /// One checkpoint: weights, moments, the weights of the phase's start, and Fisher information where it is used.
    pub checkpoint: u64,
    /// Checkpoints that are kept, and the one being written.
    pub checkpoints: u64,
    /// `best/`, `last/`, the one being replaced, and what was best when the kept checkpoints were written.
    pub models: u64,
    /// Reference log-probabilities of all preferences, kept for other runs.
    pub references: u64,
}

/// Bytes of a preference's reference log-probabilities as text, at most.
const REFERENCE: u64 = 40;

impl Disk {
    fn new((config, reward): (&LlamaConfig, Option<&LlamaConfig>), plan: &Plan, preferences: usize) -> Self {
        let bytes = |config: &LlamaConfig| config.units().iter().map(|unit: &Unit| 4 * unit.elements() as u64).sum::<u64>();
        let moments = |model| if plan.layout.precision.moments == Moments::Bf16 { model } else { 2 * model };
        let model = bytes(config);
        let critic = reward.filter(|_| plan.run.trains(Aim::Ppo)).map_or(0, |reward| bytes(reward) + moments(bytes(reward)));
        let fisher = if plan.run.consolidation.rule == Rule::Fisher { 2 * model } else { 0 };
        let checkpoint = 2 * model + moments(model) + fisher + critic;
        let checkpoints = checkpoint * (plan.run.checkpoints.keep as u64 + 1);
        Self {
            checkpoint,
            checkpoints,
            models: (3 + plan.run.checkpoints.keep as u64) * model / 4 * plan.run.checkpoints.export_dtype.bytes() as u64,
            references: REFERENCE * preferences as u64,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.checkpoints + self.models + self.references
    }
}

impl Needs {
    /// What a run needs. Reads its data, but no weights.
    ///
    /// # Errors
    /// If the data cannot be read, or is too small for the schedule.
    pub fn of(plan: &Plan) -> anyhow::Result<Self> {
        plan.check_paths()?;
        Self::new(plan, &Inputs::load(plan, identity::now(), &mut |_| {})?)
    }

    /// The same for inputs that are there.
    pub(super) fn new(plan: &Plan, inputs: &Inputs) -> anyhow::Result<Self> {
        let (config, data) = (inputs.folder.config().clone(), inputs.data.clone());
        let reward = inputs.judge.as_ref().map(|judge| judge.config().clone());
        let configs = Configs { policy: &config, reward: reward.as_ref() };
        let methods = methods(plan, (configs, &data), (&plan.settings, plan.layout)).map_err(|error| refused(plan, error))?;
        Ok(Self {
            device: plan.device,
            available: hbat_backends::memory(plan.device),
            host: hbat_backends::memory(DeviceName::Cpu),
            methods,
            disk: Disk::new((&config, reward.as_ref()), plan, if plan.run.trains(Aim::Dpo) { data.preferences.len() } else { 0 }),
            free_disk: free_disk(plan.output.as_deref().unwrap_or(Path::new("."))),
            config,
            reward,
            data,
        })
    }

    /// Bytes of ordinary memory that the run takes at its peak: on a processor all of it, elsewhere what is offloaded.
    pub(super) fn ordinary(&self) -> u64 {
        let phases = self.methods.iter().flat_map(|m| &m.phases);
        let on_device = |phase: &PhaseBudget| if self.device == DeviceName::Cpu { phase.peak.total() } else { 0 };
        phases.map(|phase| (phase.host + on_device(phase)) as u64).max().unwrap_or(0)
    }

    /// The run is for another machine, whose device has so many bytes for it, and of which nothing else is known.
    pub fn is_elsewhere(&mut self, available: u64) {
        (self.available, self.host, self.free_disk) = (Some(available), None, None);
    }

    fn configs(&self) -> Configs<'_> {
        Configs { policy: &self.config, reward: self.reward.as_ref() }
    }

    /// Weights of the model.
    pub fn weights(&self) -> usize {
        self.config.units().iter().map(Unit::elements).sum()
    }

    /// The phase that needs the most memory, and its method.
    pub fn peak(&self) -> Option<(&str, &PhaseBudget)> {
        peak(&self.methods)
    }

    /// What to say of a cold start that the first phase of PPO does not outlast.
    pub fn cold(&self, plan: &Plan) -> Option<String> {
        let mut phases = self.methods.iter().flat_map(|method| &method.phases);
        let first = phases.find(|phase| phase.phase.starts_with(Aim::Ppo.name()))?;
        let (cold, steps, phase) = (plan.run.ppo.cold_start, first.steps, &first.phase);
        (cold >= steps)
            .then(|| format!("ppo.cold_start is {cold}, and {phase} has {steps} steps: it trains the critic alone; lower it"))
    }

    /// Refuses what cannot fit, with the setting that would make it fit.
    ///
    /// # Errors
    /// If the device has less memory than the run needs, or the host than what is offloaded to it.
    pub fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        self.check_host(plan)?;
        let (Some(available), Some((method, phase))) = (self.available, self.peak()) else { return Ok(()) };
        let needed = phase.peak.total() as u64;
        if needed <= available {
            return Ok(());
        }
        let (device, [needed, has]) = (self.device, report::sizes([needed, available]));
        let problem = format!("phase {} of {method} needs {needed} of memory, and {device} has {has} for it", phase.phase);
        Err(plan.refuse("engine.kind", problem, self.remedy(plan, available)).into())
    }

    /// The first change of `[engine]` that takes less memory than the run as it is, in words, and what it takes.
    pub(super) fn less(&self, plan: &Plan) -> Option<(String, u64)> {
        let now = self.peak()?.1.peak.total() as u64;
        changes(plan).into_iter().find_map(|Change { words, settings, layout }| {
            let methods = methods(plan, (self.configs(), &self.data), (&settings, layout)).ok()?;
            let peak = peak(&methods)?.1.peak.total() as u64;
            (peak < now).then_some((words, peak))
        })
    }

    /// What to say if the disk may become full: a run takes less than the most that is counted, so that it is not refused.
    pub(super) fn short_of_disk(&self) -> Option<String> {
        let needed = self.methods.len() as u64 * self.disk.total();
        let free = self.free_disk.filter(|free| *free < needed)?;
        let [needed, free] = report::sizes([needed, free]);
        Some(format!("the run takes up to {needed} of disk, and {free} are free: lower checkpoints.keep, or name another folder"))
    }

    fn check_host(&self, plan: &Plan) -> anyhow::Result<()> {
        let needed = self.methods.iter().flat_map(|m| &m.phases).map(|phase| phase.host as u64).max().unwrap_or(0);
        match self.host {
            Some(has) if needed > has => {
                let [needed, has] = report::sizes([needed, has]);
                let problem = format!("what is offloaded needs {needed} of the host's memory, which has {has}");
                Err(plan.refuse("engine.offload", problem, "offload less, or free memory").into())
            }
            _ => Ok(()),
        }
    }

    /// The first change of `[engine]` that makes the run fit.
    fn remedy(&self, plan: &Plan, available: u64) -> String {
        for Change { words, settings, layout } in changes(plan) {
            let Ok(methods) = methods(plan, (self.configs(), &self.data), (&settings, layout)) else { continue };
            let peak = peak(&methods).map_or(0, |(_, phase)| phase.peak.total() as u64);
            if peak <= available {
                return format!("set {words}: then it needs {}", report::size(peak));
            }
        }
        let least = self.peak().map_or(Memory::default(), |(_, phase)| phase.peak);
        let least = least.weights + least.master + least.gradients.max(least.weights) + least.moments + least.consolidation;
        match least as u64 > available {
            true => format!(
                "no setting makes it fit, for weights, gradients, moments and anchor alone take {}: take a smaller model or another device",
                report::size(least as u64)
            ),
            false => match plan.run.judged() {
                Some(Judged { section, .. }) => format!(
                    "no setting of [engine] makes it fit: lower {section}.rollout_batch, {section}.max_new_tokens or data.max_length"
                ),
                None => "no setting of [engine] makes it fit: lower data.max_length, or engine.bucket or engine.pack if they are longer"
                    .into(),
            },
        }
    }
}

/// Bytes that are free where a folder is, or will be.
fn free_disk(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    fs4::available_space(there).ok()
}

fn peak(methods: &[MethodNeeds]) -> Option<(&str, &PhaseBudget)> {
    let all = methods.iter().flat_map(|m| m.phases.iter().map(move |phase| (m.method.as_str(), phase)));
    all.max_by_key(|(_, phase)| phase.peak.total())
}

/// Settings that take less memory, in words.
struct Change {
    words: String,
    settings: Settings,
    layout: Layout,
}

/// A setting that takes less memory, and what it does.
type Saving = (&'static str, fn(&mut Settings, &mut Layout));

/// What to change so that a run takes less memory: each together with those before it, but for the last, which takes the place
/// of all that are for devices with memory of their own. On a processor these would not help: there is one memory, and bf16 is slow there.
fn changes(plan: &Plan) -> Vec<Change> {
    let mut savings: Vec<Saving> = vec![("engine.kind = \"segmented\"", |settings, _| settings.engine = Engine::Segmented)];
    // An update within the backward pass needs its step to be one pass.
    if plan.settings.update == UpdateTiming::AfterBackward {
        savings.push(("engine.micro_batch = 1", |settings, _| settings.micro_batch = 1));
    }
    let lent: [Saving; 2] = [
        ("engine.layer_inputs = \"host\"", |_, layout| layout.layer_inputs = LayerInputs::Host),
        ("engine.offload = \"anchor\"", |_, layout| layout.offload = Offload::Anchor),
    ];
    let split: Saving =
        ("engine.weights = \"bf16-split\" and engine.moments = \"bf16\" and engine.sums = \"bf16\"", |_, layout| {
            layout.precision = narrow(Weights::Bf16Split, Moments::Bf16, Sums::Bf16, layout.precision.products);
        });
    let on_host: Saving = ("engine.offload = \"optimizer\"", |_, layout| layout.offload = Offload::Optimizer);
    let narrow_on_host: Saving = ("engine.offload = \"optimizer\" and engine.weights = \"bf16-master\"", |_, layout| {
        layout.offload = Offload::Optimizer;
        layout.precision = narrow(Weights::Bf16Master, Moments::F32, Sums::F32, layout.precision.products);
    });
    let (further, last) = match plan.device {
        DeviceName::Cpu => return grown(plan, &savings),
        // Only a card computes in bf16.
        DeviceName::Wgpu(_) => (lent.to_vec(), on_host),
        DeviceName::Cuda(_) => ([&lent[..], &[split]].concat(), narrow_on_host),
    };
    let mut changes = grown(plan, &[&savings[..], &further].concat());
    savings.push(last);
    changes.extend(grown(plan, &savings).pop());
    changes
}

/// Products of bf16 have no parts to be multiplied in.
fn narrow(weights: Weights, moments: Moments, sums: Sums, products: Products) -> Precision {
    let products = if products == Products::Split { Products::Plain } else { products };
    Precision { weights, moments, sums, products }
}

/// The first saving alone, the first two, and so on; in words only those that the run does not have yet.
fn grown(plan: &Plan, savings: &[Saving]) -> Vec<Change> {
    let (mut words, mut settings, mut layout) = (Vec::new(), plan.settings, plan.layout);
    let change = |(word, change): &Saving| {
        let before = (settings, layout);
        change(&mut settings, &mut layout);
        if before != (settings, layout) {
            words.push(*word);
        }
        Change { words: words.join(" and "), settings, layout }
    };
    savings.iter().map(change).collect()
}

fn methods(
    plan: &Plan,
    (configs, data): (Configs<'_>, &Data),
    (settings, layout): (&Settings, Layout),
) -> Result<Vec<MethodNeeds>, Error> {
    let of_method = |schedule: &hbat::schedule::ScheduleSettings| {
        let phases = budget(configs, layout, &phases(schedule), data, settings)?;
        Ok(MethodNeeds { method: config::name(schedule.method), phases })
    };
    plan.schedules.iter().map(of_method).collect()
}

/// What is a matter of a setting is said so, with the place where it was set.
pub(super) fn refused(plan: &Plan, error: Error) -> anyhow::Error {
    match &error {
        Error::TooFewExamples { kind, examples, .. } => {
            let problem = format!("every subset needs some, and of {kind} there are {examples} in all");
            plan.refuse("schedule.subsets", problem, "lower it or add data").into()
        }
        Error::SeveralPasses { phase, passes } => {
            let problem = format!("\"in-backward\" needs a step to be one forward pass, and one of phase {phase} takes {passes}");
            let remedy = "raise engine.micro_batch or engine.pack, lower the batch size, or take \"after-backward\"";
            plan.refuse("engine.update", problem, remedy).into()
        }
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
    fn a_step_of_several_passes_is_refused_where_it_must_be_one() {
        let set = ["engine.update=\"in-backward\"", "engine.pack=40", "engine.micro_batch=4"].map(String::from);
        let plan = config::resolve(&Request { set: set.to_vec(), ..Request::default() }).unwrap();
        let text = Needs::of(&plan).unwrap_err().to_string();
        for part in ["engine.update = \"in-backward\"", "one of phase sft-1 takes", "raise engine.micro_batch"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Smaller passes are no way to save memory then.
        let (plan, needs) = toy(&["engine.update=\"in-backward\"", "engine.kind=\"whole\"", "engine.micro_batch=256"]);
        let words: Vec<String> = changes(&plan).into_iter().map(|change| change.words).collect();
        assert_eq!(words, ["engine.kind = \"segmented\""]);
        assert!(needs.less(&plan).is_some());
    }

    #[test]
    fn on_a_card_bf16_and_what_is_kept_elsewhere_are_named_too() {
        let (mut plan, mut needs) = toy(&["engine.kind=\"segmented\"", "engine.micro_batch=1"]);
        plan.device = DeviceName::Cuda(0);
        plan.layout = config::layout(plan.device, &plan.run.engine);
        let peak = |change: &Change| {
            let methods = methods(&plan, (needs.configs(), &needs.data), (&change.settings, change.layout)).unwrap();
            super::peak(&methods).unwrap().1.peak.total() as u64
        };
        let peaks: Vec<u64> = changes(&plan).iter().map(peak).collect();
        assert!(peaks.len() == 6 && peaks.is_sorted_by(|a, b| a >= b) && peaks[5] < peaks[4] && peaks[4] < peaks[3], "{peaks:?}");
        for (peak, expect) in [
            (peaks[4], "engine.offload = \"anchor\" and engine.weights = \"bf16-split\""),
            (peaks[5], "set engine.offload = \"optimizer\" and"), // the rest the run has already
        ] {
            needs.available = Some(peak);
            let text = needs.check(&plan).unwrap_err().to_string();
            assert!(text.contains(expect), "{text}");
        }
    }

    #[test]
    fn bf16_is_no_remedy_on_a_device_that_has_none() {
        let (mut plan, _) = toy(&[]);
        plan.device = DeviceName::Wgpu(0);
        let words: Vec<String> = changes(&plan).into_iter().map(|change| change.words).collect();
        assert!(words.iter().all(|words| !words.contains("bf16")), "{words:?}");
        assert!(words.last().is_some_and(|words| words.ends_with("engine.offload = \"optimizer\"")), "{words:?}");
    }

    #[test]
    fn what_the_host_has_not_is_not_offloaded_to_it() {
        let (mut plan, mut needs) = toy(&[]);
        plan.device = DeviceName::Cuda(0);
        plan.run.engine.offload = Offload::Optimizer;
        plan.layout = config::layout(plan.device, &plan.run.engine);
        needs.methods = methods(&plan, (needs.configs(), &needs.data), (&plan.settings, plan.layout)).unwrap();
        needs.host = Some(1 << 20);
        let text = needs.check(&plan).unwrap_err().to_string();
        assert!(text.contains("engine.offload") && text.contains("of the host's memory, which has 1.0 MB"), "{text}");
    }

    #[test]
    fn a_device_says_how_large_it_is() {
        assert!(toy(&[]).1.available > Some(100_000_000) || !cfg!(target_os = "linux"));
    }
}
