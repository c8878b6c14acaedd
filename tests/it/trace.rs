//! A whole HBAT run, step by step, against a PyTorch script (`goldens/generate/hbat_trace.py`).

use std::collections::BTreeMap;

use hbat::consolidation::{Consolidation, Draw, Rule, importance};
use hbat::engine::Engine;
use hbat::objective::{Dpo, Reward, Rrhf};
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::ppo::Ppo;
use hbat::rollout::Raft;
use hbat::schedule::{Method, Order, Preference, ScheduleSettings, Training, Warmup, phases};
use hbat::tokens::{Group, Sequence};
use hbat::trainer::{Data, Event, KeepStart, PhaseEnded, PhaseStarted, Settings, StepReport, Trainer, UpdateTiming};
use serde_json::Value;

use crate::fixtures::{block_on, cpu, named, numbers, policy};
use crate::support::golden;

#[derive(Default)]
struct Trace {
    steps: Vec<StepReport>,
    started: Vec<PhaseStarted>,
    ended: Vec<PhaseEnded>,
}

fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

fn sequence(example: &Value, response: &str) -> Sequence {
    Sequence::new(tokens(&example["prompt"]), &tokens(&example[response])).expect("no empty parts")
}

fn data(golden: &Value) -> Data {
    let array = |key: &str| golden[key].as_array().expect("an array").iter().enumerate();
    Data {
        demonstrations: array("demonstrations").map(|(i, e)| Group::demonstration(i, sequence(e, "response"))).collect(),
        preferences: array("preferences")
            .map(|(i, e)| Group::preference(i, sequence(e, "chosen"), sequence(e, "rejected")))
            .collect(),
    }
}

fn schedule(rule: Rule) -> ScheduleSettings {
    let training = |learning_rate, epochs, warmup| Training {
        learning_rate,
        decay: Decay::Cosine,
        warmup,
        batch_size: 2,
        epochs,
        optimizer: AdamWSettings::default(),
    };
    ScheduleSettings {
        method: Method::Hbat,
        subsets: 2,
        sft: training(1e-3, 2, Warmup { steps: 0, fraction: 0.0 }),
        preference: Preference::Dpo,
        preference_training: training(5e-4, 1, Warmup { steps: 150, fraction: 0.1 }),
        consolidation: Consolidation { rule, lambda: 1.0, f_max: 100.0 },
        freeze_fraction: 0.2,
        preference_probability: None,
    }
}

fn run(golden: &Value, rule: Rule, engine: Engine) -> (Trace, Trainer) {
    let settings = Settings {
        seed: 0,
        order: Order::AsGiven,
        engine,
        micro_batch: 4,
        bucket: 1,
        pack: None,
        dpo: Dpo::default(),
        ppo: Ppo::default(),
        rrhf: Rrhf::default(),
        raft: Raft::default(),
        reward: Reward::default(),
        keep_start: KeepStart::Copy,
        update: UpdateTiming::AfterBackward,
    };
    let policy = policy(&golden["config"], &golden["start"], &cpu());
    let mut trainer = Trainer::new(policy, data(golden), phases(&schedule(rule)), settings);
    let mut trace = Trace::default();
    loop {
        match block_on(trainer.step()).expect("a step") {
            Event::Step(report) => trace.steps.push(report),
            Event::PhaseStarted(report) => trace.started.push(report),
            Event::PhaseEnded(report) => trace.ended.push(report),
            Event::Finished => return (trace, trainer),
            Event::Scored { .. } | Event::Answered { .. } | Event::Measured { .. } => {}
        }
    }
}

#[track_caller]
fn close(what: &str, found: f64, expected: f64, tolerance: f64) {
    let difference = (found - expected).abs();
    assert!(difference <= tolerance * expected.abs(), "{what}: {found}, PyTorch {expected}, off by {difference:e}");
}

fn check_steps(trace: &Trace, expected: &[Value]) {
    assert_eq!(trace.steps.len(), expected.len());
    for (found, expected) in trace.steps.iter().zip(expected) {
        let at = |key: &str| expected[key].as_f64().expect("a number");
        let name = |key: &str| format!("{key} of {} step {}", found.phase, found.step);
        assert_eq!(found.phase, expected["phase"]);
        close(&name("loss"), found.loss, at("loss"), 1e-4);
        close(&name("penalty"), found.penalty, at("penalty"), 1e-4);
        close(&name("grad_norm"), found.grad_norm, at("grad_norm"), 1e-4);
        close(&name("penalty_grad_norm"), found.penalty_grad_norm, at("penalty_grad_norm"), 1e-4);
        close(&name("learning_rate"), found.learning_rate, at("learning_rate"), 1e-12);
    }
}

fn check_phases(trace: &Trace, expected: &[Value], rule: Rule, names: &[String]) {
    assert_eq!(trace.ended.len(), expected.len());
    for ((started, ended), expected) in trace.started.iter().zip(&trace.ended).zip(expected) {
        assert_eq!(ended.phase, expected["phase"]);
        let changes = named(&expected["C"]);
        for (name, found) in names.iter().zip(&ended.change) {
            close(&format!("C of {name} in {}", ended.phase), *found, changes[name], 1e-3);
        }
        match &started.importance {
            None => assert!(expected["F"].is_null(), "{} is penalised in PyTorch", ended.phase),
            Some(_) => check_importance(expected, rule),
        }
    }
}

/// F from the peer's AC: near-zero gradients make the first Adam steps, and so C, noisy, and `reference` multiplies that.
fn check_importance(expected: &Value, rule: Rule) {
    let (accumulated, expected): (BTreeMap<_, _>, BTreeMap<_, _>) = (named(&expected["AC"]), named(&expected["F"]));
    let draw = Draw { seed: 0, phase: "" };
    let values: Vec<f64> = accumulated.values().copied().collect();
    let found = importance(rule, &values, 100.0, draw).expect("a rule with a number per unit");
    for ((name, expected), found) in expected.iter().zip(found) {
        let difference = (found - expected).abs();
        assert!(difference <= 1e-12 * 100.0, "F of {name}: {found}, PyTorch {expected}");
    }
}

fn check(rule: Rule, name: &str, engine: Engine) {
    let golden = golden("hbat_trace");
    let (trace, trainer) = run(&golden, rule, engine);
    let names: Vec<String> = trainer.policy().units().iter().map(|u| u.name.clone()).collect();
    let expected = &golden["rules"][name];
    check_steps(&trace, expected["steps"].as_array().expect("steps"));
    check_phases(&trace, expected["phases"].as_array().expect("phases"), rule, &names);
    for (unit, name) in names.iter().enumerate() {
        let found = numbers(&trainer.policy().tensors()[unit]);
        let sum_of_squares: f64 = found.iter().map(|v| f64::from(*v).powi(2)).sum();
        let expected = expected["final"][name]["sum_of_squares"].as_f64().expect("a number");
        close(&format!("final Σθ² of {name}"), sum_of_squares, expected, 1e-5);
    }
}

#[test]
fn a_run_with_the_papers_rule_follows_pytorch() {
    check(Rule::Paper, "paper", Engine::Whole);
}

#[test]
fn a_run_with_the_released_codes_rule_follows_pytorch() {
    check(Rule::Reference, "reference", Engine::Segmented);
}

#[test]
fn a_run_with_the_relative_rule_follows_pytorch() {
    check(Rule::Relative, "relative", Engine::Autodiff);
}

#[test]
fn preference_training_starts_at_ln_2_and_at_its_anchor() {
    let golden = golden("hbat_trace");
    let (trace, _) = run(&golden, Rule::Relative, Engine::Whole);
    for step in trace.steps.iter().filter(|s| s.objective == "dpo" && s.step == 1) {
        close(&step.phase, step.loss, std::f64::consts::LN_2, 1e-6);
        assert_eq!((step.penalty, step.penalty_grad_norm), (0.0, 0.0));
    }
}
