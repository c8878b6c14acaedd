//! A run stopped after any call of its stepper, saved as text and numbers, and taken up again, is the run that never stopped.

use std::collections::BTreeMap;

use burn::tensor::{Device, TensorData};
use hbat::compute::{Compute, Moments, Offload, Precision, Weights};
use hbat::consolidation::Rule;
use hbat::error::Error;
use hbat::model::{InitError, Policy, Unit};
use hbat::ppo::Critics;
use hbat::reduce::Alone;
use hbat::schedule::{Method, ScheduleSettings, phases};
use hbat::toy::random_policy;
use hbat::trainer::{Data, Event, KeepStart, Progress, Settings, StoredWeights, TensorSet, Trainer};

use crate::fixtures::{block_on, cpu};
use crate::runs::{by_ppo, by_raft, config, critics, data, schedule, settings, weights};

/// What a checkpoint holds.
#[derive(Clone)]
struct Saved {
    compute: Compute,
    progress: String,
    tensors: BTreeMap<(TensorSet, String), Vec<f32>>,
    /// The weights of the running phase's start, which the driver keeps.
    start: Vec<Vec<f32>>,
}

struct Start(BTreeMap<String, Vec<f32>>);

impl StoredWeights for Start {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        self.0.get(&unit.name).cloned().ok_or_else(|| format!("there is no {}", unit.name))
    }
}

fn hand_over(trainer: &mut Trainer, values: &[Vec<f32>]) {
    let names = trainer.policy().units().iter().map(|unit| unit.name.clone());
    let stored = Start(names.zip(values.iter().cloned()).collect());
    trainer.start_is_stored(Box::new(stored));
}

fn examples() -> Data {
    data(7, 6)
}

fn stored() -> Settings {
    Settings { keep_start: KeepStart::Stored, ..settings() }
}

/// A trainer and the weights at the start of its phase.
struct Driven {
    trainer: Trainer,
    start: Vec<Vec<f32>>,
}

impl Driven {
    fn new(schedule: &ScheduleSettings) -> Self {
        Self::on(cpu(), schedule)
    }

    fn on(compute: Compute, schedule: &ScheduleSettings) -> Self {
        let models = (random_policy(config(), compute.clone(), 5), critics(schedule, compute));
        Self { trainer: Trainer::new(models, examples(), phases(schedule), stored()), start: Vec::new() }
    }

    fn step(&mut self) -> Event {
        let event = block_on(self.trainer.step()).expect("a step");
        if matches!(event, Event::PhaseStarted(_)) {
            self.start = weights(self.trainer.policy());
            hand_over(&mut self.trainer, &self.start);
        }
        event
    }

    fn save(&self) -> Saved {
        let mut tensors = BTreeMap::new();
        for set in TensorSet::ALL {
            for (index, unit) in self.trainer.units(set).iter().enumerate() {
                let values = block_on(self.trainer.values(set, index)).expect("values");
                assert_eq!(values.is_some(), self.trainer.has(set, index));
                if let Some(values) = values {
                    tensors.insert((set, unit.name.clone()), values);
                }
            }
        }
        let progress = serde_json::to_string(&self.trainer.progress()).expect("JSON");
        let compute = self.trainer.policy().compute().clone();
        Saved { compute, progress, tensors, start: self.start.clone() }
    }
}

fn resume_with(saved: &Saved, schedule: &ScheduleSettings, settings: Settings) -> Result<Driven, Error> {
    let progress: Progress = serde_json::from_str(&saved.progress).expect("what was saved");
    let weights = |unit: &Unit| {
        let values = saved.tensors[&(TensorSet::Weights, unit.name.clone())].clone();
        Ok::<_, InitError>(TensorData::new(values, unit.dims()))
    };
    let policy = Policy::load(config(), saved.compute.clone(), weights).expect("weights that fit");
    let mut read = |set: TensorSet, unit: &Unit| Ok(saved.tensors.get(&(set, unit.name.clone())).cloned());
    let models = (policy, critics(schedule, saved.compute.clone()));
    let resumed = Trainer::resume(models, (examples(), phases(schedule)), (settings, Alone), progress, &mut read);
    let mut trainer = block_on(resumed)?;
    hand_over(&mut trainer, &saved.start);
    Ok(Driven { trainer, start: saved.start.clone() })
}

fn resume(saved: &Saved, schedule: &ScheduleSettings) -> Driven {
    resume_with(saved, schedule, stored()).expect("a state of this run")
}

/// Fisher information that was being measured is measured again, and a step's answers are given again.
fn repeats(event: &Event) -> bool {
    matches!(event, Event::Measured { .. } | Event::Answered { .. })
}

/// The rest of a run, but for what may repeat.
fn rest(driven: &mut Driven) -> Vec<Event> {
    let mut events = Vec::new();
    while events.last() != Some(&Event::Finished) {
        events.push(driven.step());
    }
    events.retain(|event| !repeats(event));
    events
}

/// Stops after every call there is.
fn check(schedule: &ScheduleSettings) {
    check_on(cpu(), schedule);
}

fn check_on(compute: Compute, schedule: &ScheduleSettings) {
    let mut whole = Driven::on(compute.clone(), schedule);
    let expected = rest(&mut whole);
    let (final_weights, ledger) = (weights(whole.trainer.policy()), whole.trainer.ledger().clone());
    let critic = |driven: &Driven| driven.trainer.critics().and_then(Critics::value).map(weights);
    let mut stopped = Driven::on(compute, schedule);
    let (mut calls, mut seen) = (0, 0);
    loop {
        let mut resumed = resume(&stopped.save(), schedule);
        let found = rest(&mut resumed);
        assert!(found == expected[seen..], "stopped after {calls} calls, the rest is another");
        assert!(weights(resumed.trainer.policy()) == final_weights, "stopped after {calls} calls, the weights are others");
        assert!(critic(&resumed) == critic(&whole), "stopped after {calls} calls, the critic is another");
        assert_eq!(*resumed.trainer.ledger(), ledger);
        let event = stopped.step();
        calls += 1;
        seen += usize::from(!repeats(&event));
        if event == Event::Finished {
            break;
        }
    }
    assert!(calls > phases(schedule).len() * 3);
}

#[test]
fn a_run_held_by_importances_can_be_stopped_anywhere() {
    check(&schedule(Method::Hbat, Rule::Relative));
    check(&schedule(Method::Hbat, Rule::Random));
}

#[test]
fn a_run_held_by_fisher_information_can_be_stopped_anywhere() {
    check(&schedule(Method::Hbat, Rule::Fisher));
}

#[test]
fn a_run_that_freezes_units_can_be_stopped_anywhere() {
    check(&schedule(Method::HbatFreeze, Rule::Paper));
}

#[test]
fn runs_without_protection_can_be_stopped_anywhere() {
    check(&schedule(Method::Alternating, Rule::Paper));
    check(&schedule(Method::Mix, Rule::Paper));
}

#[test]
fn runs_of_raft_can_be_stopped_anywhere() {
    check(&by_raft(schedule(Method::Hbat, Rule::Relative)));
    check(&by_raft(schedule(Method::Hbat, Rule::Fisher)));
}

#[test]
fn runs_of_ppo_can_be_stopped_anywhere() {
    check(&by_ppo(schedule(Method::Hbat, Rule::Relative)));
    check(&by_ppo(schedule(Method::Hbat, Rule::Fisher)));
    check(&by_ppo(schedule(Method::TwoStageReversed, Rule::Paper)));
}

#[test]
fn a_run_in_bf16_can_be_stopped_anywhere() {
    for (weights, offload) in [(Weights::Bf16Split, Offload::Anchor), (Weights::Bf16Master, Offload::Nothing)] {
        let precision = Precision { weights, moments: Moments::Bf16, ..Precision::default() };
        let compute = Compute::device(Device::flex()).with(precision).offloading(offload);
        check_on(compute.clone(), &schedule(Method::Hbat, Rule::Relative));
        check_on(compute, &by_ppo(schedule(Method::Hbat, Rule::Relative)));
    }
}

#[test]
fn a_run_that_updates_elsewhere_can_be_stopped_anywhere() {
    let precision = Precision { weights: Weights::Bf16Master, moments: Moments::F32, ..Precision::default() };
    let compute = Compute::device(Device::flex()).with(precision).offloading(Offload::Optimizer);
    check_on(compute.clone(), &schedule(Method::Hbat, Rule::Relative));
    check_on(compute, &by_ppo(schedule(Method::Hbat, Rule::Relative)));
}

/// A state within the named phase, after at least this many of its steps.
fn saved_within(schedule: &ScheduleSettings, phase: &str, steps: usize) -> Saved {
    let mut driven = Driven::new(schedule);
    loop {
        driven.step();
        if let Some(running) = driven.trainer.progress().running
            && running.phase == phase
            && running.steps >= steps
        {
            return driven.save();
        }
    }
}

#[track_caller]
fn refused(saved: &Saved, schedule: &ScheduleSettings, settings: Settings, reason: &str) {
    let Err(error) = resume_with(saved, schedule, settings) else { panic!("a foreign state was taken up") };
    assert!(matches!(error, Error::ForeignState(_)), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

/// The state with its progress rewritten.
fn edited(saved: &Saved, edit: impl FnOnce(&mut Progress)) -> Saved {
    let mut progress: Progress = serde_json::from_str(&saved.progress).expect("what was saved");
    edit(&mut progress);
    Saved { progress: serde_json::to_string(&progress).expect("JSON"), ..saved.clone() }
}

/// The state without one tensor, or with it cut short.
fn without(saved: &Saved, set: TensorSet, unit: &str) -> Saved {
    let mut saved = saved.clone();
    saved.tensors.remove(&(set, unit.to_string())).expect("it was there");
    saved
}

#[test]
fn progress_of_another_schedule_is_refused() {
    let hbat = schedule(Method::Hbat, Rule::Relative);
    let saved = saved_within(&hbat, "dpo-2", 1);
    refused(&saved, &schedule(Method::TwoStage, Rule::Relative), stored(), "it has finished 3 phases, the schedule has 2");
    let reversed = saved_within(&schedule(Method::TwoStageReversed, Rule::Paper), "dpo-1", 1);
    refused(&reversed, &hbat, stored(), "it is in phase dpo-1, the schedule in");
    let few = ScheduleSettings { preference_training: hbatless(&hbat), ..hbat.clone() };
    refused(&edited(&saved, |p| running(p).steps = 9), &few, stored(), "it has taken 9 steps of phase dpo-2");
}

fn hbatless(schedule: &ScheduleSettings) -> hbat::schedule::Training {
    hbat::schedule::Training { batch_size: 6, ..schedule.preference_training }
}

fn running(progress: &mut Progress) -> &mut hbat::trainer::RunningProgress {
    progress.running.as_mut().expect("a phase under way")
}

#[test]
fn a_ledger_that_does_not_fit_is_refused() {
    let hbat = schedule(Method::Hbat, Rule::Relative);
    let saved = saved_within(&hbat, "dpo-2", 1);
    refused(&edited(&saved, |p| p.ledger = Default::default()), &hbat, stored(), "its ledger has the phases []");
    let short = edited(&saved, |p| {
        let mut record = p.ledger.records()[2].clone();
        record.change.pop();
        p.ledger.enter(record);
    });
    refused(&short, &hbat, stored(), "its ledger has 19 units in phase sft-2, the model has 20");
}

#[test]
fn a_state_with_missing_or_short_tensors_is_refused() {
    let hbat = schedule(Method::Hbat, Rule::Relative);
    let saved = saved_within(&hbat, "dpo-1", 1);
    let unit = "model.norm.weight";
    refused(&without(&saved, TensorSet::Anchor, unit), &hbat, stored(), "phase dpo-1 is held by an anchor that was not saved");
    for set in [TensorSet::FirstMoment, TensorSet::SecondMoment] {
        refused(&without(&saved, set, unit), &hbat, stored(), "the moments of model.norm.weight were not saved");
        let mut short = saved.clone();
        short.tensors.get_mut(&(set, unit.to_string())).expect("it is there").pop();
        refused(&short, &hbat, stored(), "of model.norm.weight has 15 values where the model has 16");
    }
    let fisher = schedule(Method::Hbat, Rule::Fisher);
    let saved = saved_within(&fisher, "dpo-1", 0);
    refused(&without(&saved, TensorSet::FisherInstruction, unit), &fisher, stored(), "not all in fisher_instruction");
}

#[test]
fn a_state_of_ppo_without_its_critic_is_refused() {
    let hbat = by_ppo(schedule(Method::Hbat, Rule::Relative));
    let saved = saved_within(&hbat, "ppo-1", 1);
    let reason = "the critic's model.norm.weight was not saved";
    refused(&without(&saved, TensorSet::ValueWeights, "model.norm.weight"), &hbat, stored(), reason);
    refused(&edited(&saved, |p| running(p).ppo = None), &hbat, stored(), "it says nothing of the critic in phase ppo-1");
}

#[test]
fn reference_log_probabilities_cannot_be_made_up_for_once_the_policy_moved() {
    let hbat = schedule(Method::Hbat, Rule::Relative);
    let saved = edited(&saved_within(&hbat, "dpo-1", 1), |p| drop(running(p).references.pop_first()));
    refused(&saved, &hbat, stored(), "1 preferences of phase dpo-1 have no reference log-probabilities");
}

#[test]
fn a_start_that_was_kept_in_memory_alone_is_not_made_up() {
    let sft = schedule(Method::Sft, Rule::Paper);
    let saved = saved_within(&sft, "sft-1", 1);
    refused(&saved, &sft, settings(), "kept in memory alone");
}
