//! Changes, importances and the penalty against f64 formulas (`goldens/generate/ewc.py`).

use burn::tensor::{Device, Tensor, TensorData};
use hbat::compute::Compute;
use hbat::consolidation::{Draw, Ledger, Record, Rule, Side, effective_units, importance};
use hbat::engine::{Accumulate, Engine, GradientSink, Square};
use hbat::model::{InitError, LlamaConfig, Policy, Unit};
use hbat::optimizer::{AdamW, AdamWSettings, Pull, Strength};
use hbat::reduce::Alone;
use hbat::schedule::{Method, phases};
use hbat::slab::Slab;
use hbat::tokens::{Batch, Group, Sequence};
use hbat::trainer::{Data, Event, KeepStart, Settings, StoredWeights, TensorSet, Trainer};
use serde_json::{Value, json};

use crate::fixtures::{block_on, cpu, policy, unit_values};
use crate::runs::{close, data, finish_phase, largest_difference, schedule, settings, start, weights};
use crate::support::golden;

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

fn values<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).expect("numbers")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// A model whose embedding has 40 elements, those given, and is followed by zeros.
fn holder(embedding: &[f32]) -> Policy {
    let config = json!({"vocab_size": 10, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "tie_word_embeddings": true});
    let config: LlamaConfig = serde_json::from_value(config).expect("a config");
    let read = |unit: &Unit| Ok::<_, InitError>(TensorData::new(leading(embedding, unit), unit.dims()));
    Policy::load(config, cpu(), read).expect("weights that fit")
}

/// The values for the unit that is to hold them, the embedding here; zeros for the others.
fn leading(values: &[f32], unit: &Unit) -> Vec<f32> {
    let mut values = if unit.name == "model.embed_tokens.weight" { values.to_vec() } else { Vec::new() };
    values.resize(unit.elements(), 0.0);
    values
}

/// The weights of a phase's start.
struct Before(Vec<f32>);

impl StoredWeights for Before {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        Ok(leading(&self.0, unit))
    }
}

#[test]
fn a_change_is_the_mean_squared_distance_in_f64() {
    for case in array(&golden("consolidation")["change"]) {
        let mut schedule = schedule(Method::Sft, Rule::Paper);
        schedule.sft.learning_rate = 0.0; // the phase's steps change nothing; its start is what the reader says
        schedule.sft.optimizer.weight_decay = 0.0;
        let group = Group::demonstration(0, Sequence::new(vec![1], &[2, 3]).expect("tokens"));
        let data = Data { demonstrations: vec![group], preferences: Vec::new() };
        let settings = Settings { keep_start: KeepStart::Stored, ..settings() };
        let mut trainer = Trainer::new(holder(&values(&case["after"])), data, phases(&schedule), settings);
        block_on(trainer.step()).expect("the phase starts");
        trainer.start_is_stored(Box::new(Before(values(&case["before"]))));
        let ended = finish_phase(&mut trainer);
        close("C", ended.change[0], number(&case["C"]), 1e-12);
        assert!(ended.change[1..].iter().all(|c| *c == 0.0));
    }
}

#[test]
fn each_penalty_is_weighted_by_the_changes_of_the_other_side_so_far() {
    let golden = golden("consolidation");
    let mut ledger = Ledger::default();
    for phase in ["sft-1", "dpo-1", "sft-2", "dpo-2", "sft-3", "dpo-3"] {
        let side = if phase.starts_with("sft") { Side::Instruction } else { Side::Preference };
        match (ledger.accumulated(side.other()), &golden["ledger"]["AC"][phase]) {
            (None, Value::Null) => {}
            (Some(found), expected) => {
                for (found, expected) in found.into_iter().zip(values::<f64>(expected)) {
                    close(phase, found, expected, 1e-15);
                }
            }
            (None, expected) => panic!("{phase} has nothing to go by, expected {expected}"),
        }
        ledger.enter(Record { phase: phase.into(), side, change: values(&golden["ledger"]["C"][phase]) });
    }
}

#[test]
fn importances_and_effective_units_are_those_of_the_formulas() {
    for case in array(&golden("consolidation")["importance"]) {
        let (accumulated, f_max): (Vec<f64>, f64) = (values(&case["AC"]), number(&case["F_max"]));
        for (name, expected) in case["rules"].as_object().expect("rules") {
            let rule: Rule = serde_json::from_value(json!(name)).expect("a rule");
            let found = importance(rule, &accumulated, f_max, Draw { seed: 0, phase: "" }).expect("a number per unit");
            let expected_f: Vec<f64> = values(&expected["F"]);
            assert_eq!(found.len(), expected_f.len());
            for (found, expected) in found.iter().zip(&expected_f) {
                assert!((found - expected).abs() <= 1e-12 * f_max, "{name} on {}: {found}, not {expected}", case["name"]);
            }
            close(name, effective_units(&found), number(&expected["effective_units"]), 1e-9);
        }
    }
}

/// The units that hold the golden penalty's tensors, and zeros behind them.
const PENALISED: [&str; 4] = [
    "model.embed_tokens.weight",
    "model.norm.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
];

fn penalised(case: &Value, key: &str, unit: &Unit) -> Vec<f32> {
    let which = PENALISED.iter().position(|name| *name == unit.name);
    let mut values: Vec<f32> = which.map_or(Vec::new(), |i| values(&case["units"][i][key]));
    values.resize(unit.elements(), 0.0);
    values
}

/// The penalty alone: a step on gradients of zero, whose first moments are the pull times 1 − β₁.
fn check_penalty(case: &Value, compute: &Compute) {
    let config = json!({"vocab_size": 3, "hidden_size": 8, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "tie_word_embeddings": true});
    let config: LlamaConfig = serde_json::from_value(config).expect("a config");
    let read = |unit: &Unit| Ok::<_, InitError>(TensorData::new(penalised(case, "weights", unit), unit.dims()));
    let mut policy = Policy::load(config, compute.clone(), read).expect("weights that fit");
    let units = policy.units().clone();
    let anchor = units.iter().map(|u| Slab::from_values(penalised(case, "anchor", u), u.dims(), compute)).collect();
    let f = |unit: &Unit| PENALISED.iter().position(|n| *n == unit.name).map_or(0.0, |i| number(&case["units"][i]["F"]));
    let strength = units.iter().map(|u| Strength::PerUnit(number(&case["lambda"]) * f(u))).collect();
    let gradients = units.iter().map(|u| Some(Tensor::zeros(u.dims(), &compute.device))).collect();
    let mut optimizer = AdamW::new(AdamWSettings { clip: f64::INFINITY, ..AdamWSettings::default() }, units.len());
    let pull = Pull { anchor, strength };
    let norms = block_on(optimizer.step(&mut policy, gradients, Some(&pull), 1e-3, &Alone)).expect("a step");
    close("penalty", norms.penalty, number(&case["penalty"]), 1e-6);
    close("its norm", norms.penalty_gradient, number(&case["gradient_norm"]), 1e-6);
    close("the norm", norms.gradient, number(&case["gradient_norm"]), 1e-6);
    for (unit, first) in units.iter().zip(optimizer.first()) {
        let first = block_on(first.as_ref().expect("a moment").values()).expect("values");
        for (found, expected) in first.into_iter().zip(penalised(case, "gradient", unit)) {
            assert!((found / 0.1 - expected).abs() <= 1e-6 * expected.abs(), "{}: {found}, not {expected}", unit.name);
        }
    }
}

#[test]
fn the_penalty_and_its_gradient_are_those_of_the_formula() {
    for compute in [cpu(), Compute::device(Device::flex())] {
        for case in array(&golden("consolidation")["penalty"]) {
            check_penalty(case, &compute);
        }
    }
}

fn tiny_demonstrations(golden: &Value) -> Vec<Group> {
    let example = |(i, e): (usize, &Value)| {
        Group::demonstration(i, Sequence::new(values(&e["prompt"]), &values::<u32>(&e["response"])).expect("tokens"))
    };
    array(&golden["demonstrations"]).iter().enumerate().map(example).collect()
}

/// The Fisher diagonal that a trainer has measured at the end of its first phase.
fn measured(policy: Policy, data: Data, method: Method) -> Vec<Vec<f32>> {
    let mut schedule = schedule(method, Rule::Fisher);
    schedule.sft.learning_rate = 0.0; // the weights stay those of the golden values
    schedule.preference_training.learning_rate = 0.0;
    let mut phases = phases(&schedule);
    phases[1].protection = hbat::schedule::Protection::Consolidate(schedule.consolidation);
    let set = match phases[0].side() {
        Side::Instruction => TensorSet::FisherInstruction,
        Side::Preference => TensorSet::FisherPreference,
    };
    let mut trainer = Trainer::new(policy, data, phases, settings());
    let units = trainer.policy().units().len();
    let mut samples = 0;
    while !matches!(block_on(trainer.step()).expect("a step"), Event::PhaseEnded(_)) {
        samples += 1;
    }
    assert!(samples > 0);
    (0..units).map(|unit| block_on(trainer.values(set, unit)).expect("values").expect("measured")).collect()
}

#[test]
fn fisher_information_is_the_mean_of_the_samples_squared_gradients() {
    let (expected, model) = (golden("consolidation"), golden("tiny_llama_tied"));
    let start = policy(&model["config"], &model["weights"], &cpu());
    let units = start.units().clone();
    let data = Data { demonstrations: tiny_demonstrations(&model), preferences: data(0, 2).preferences };
    let found = measured(start, data, Method::AnchorOnly);
    let diagonal: Vec<Vec<f32>> = units.iter().map(|u| unit_values(&expected["fisher"]["diagonal"], u)).collect();
    let difference = largest_difference(&found, &diagonal);
    assert!(difference <= 1e-5, "off by {difference:e}");
}

#[test]
fn fisher_information_of_preferences_is_that_of_the_chosen_responses() {
    let (start, data) = (start(), data(4, 3));
    let mut sink = Square::new(start.tensors());
    let mut plain: Vec<Vec<f32>> = weights(&start).iter().map(|w| vec![0.0; w.len()]).collect();
    for group in &data.preferences {
        let chosen = Group::demonstration(0, group.sequences[0].clone());
        let batch = Batch::new([&chosen], 1);
        let ones = |scores: Tensor<1>| Tensor::ones_like(&scores);
        Engine::Autodiff.gradients(&start, &batch, ones, &mut sink);
        add_squares(&mut plain, &start, &batch);
    }
    let mean = |sums: Vec<Vec<f32>>| sums.into_iter().map(|s| s.into_iter().map(|v| v / 3.0).collect()).collect::<Vec<_>>();
    let squares = mean(sink.into_sums().iter().map(crate::fixtures::numbers).collect());
    let found = measured(start, data, Method::TwoStageReversed);
    assert!(largest_difference(&found, &squares) <= 1e-5);
    assert!(largest_difference(&found, &mean(plain)) <= 1e-5);
}

fn add_squares(sums: &mut [Vec<f32>], policy: &Policy, batch: &Batch) {
    let mut sink = Accumulate::new(policy.units().len());
    Engine::Autodiff.gradients(policy, batch, |scores| Tensor::ones_like(&scores), &mut sink as &mut dyn GradientSink);
    for (sum, gradient) in sums.iter_mut().zip(sink.into_sums()) {
        for (sum, g) in sum.iter_mut().zip(crate::fixtures::numbers(&gradient.expect("a gradient"))) {
            *sum += g * g;
        }
    }
}

/// The mean of the samples' squared gradients.
fn squares(policy: &Policy, groups: &[&Group]) -> Vec<Vec<f32>> {
    let mut sums: Vec<Vec<f32>> = weights(policy).iter().map(|unit| vec![0.0; unit.len()]).collect();
    groups.iter().for_each(|group| add_squares(&mut sums, policy, &Batch::new([*group], 1)));
    sums.iter_mut().flatten().for_each(|sum| *sum /= groups.len() as f32);
    sums
}

#[test]
fn fisher_information_of_several_phases_adds_up_and_the_last_measures_none() {
    let mut schedule = schedule(Method::Hbat, Rule::Fisher);
    (schedule.sft.learning_rate, schedule.preference_training.learning_rate) = (0.0, 0.0);
    let (policy, data) = (start(), data(7, 6));
    let parts =
        [0, 1].map(|which| hbat::schedule::subset(7, which, 2, "demonstrations", settings().order, settings().seed).unwrap());
    let part = |which: usize| squares(&policy, &parts[which].iter().map(|&i| &data.demonstrations[i]).collect::<Vec<_>>());
    let both: Vec<Vec<f32>> = part(0).iter().zip(part(1)).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect();
    let mut trainer = Trainer::new(policy, data, phases(&schedule), settings());
    let ended: Vec<String> = (0..3).map(|_| finish_phase(&mut trainer).phase).collect();
    assert_eq!(ended, ["sft-1", "dpo-1", "sft-2"]);
    let units = 0..trainer.policy().units().len();
    let read = |unit| block_on(trainer.values(TensorSet::FisherInstruction, unit)).expect("values").expect("measured");
    let found: Vec<Vec<f32>> = units.map(read).collect();
    let difference = largest_difference(&found, &both);
    assert!(difference <= 1e-5, "off by {difference:e}");
    loop {
        match block_on(trainer.step()).expect("a step") {
            Event::Measured { .. } => panic!("no later phase needs it"),
            Event::Finished => break,
            _ => {}
        }
    }
}

/// The weights of a phase's start, which nobody can read.
struct Lost;

impl StoredWeights for Lost {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        Err(format!("{} is lost", unit.name))
    }
}

#[test]
fn a_phase_that_cannot_end_is_still_under_way() {
    let settings = Settings { keep_start: KeepStart::Stored, ..settings() };
    let mut trainer = Trainer::new(start(), data(3, 0), phases(&schedule(Method::Sft, Rule::Paper)), settings);
    let (before, elements) = (weights(trainer.policy()), trainer.policy().units()[0].elements());
    let steps = trainer.planned_steps().expect("enough data")[0];
    for _ in 0..=steps {
        block_on(trainer.step()).expect("until the phase's end");
    }
    let message = |trainer: &mut Trainer| block_on(trainer.step()).unwrap_err().to_string();
    assert!(message(&mut trainer).contains("no reader was handed over"));
    trainer.start_is_stored(Box::new(Lost));
    assert!(message(&mut trainer).contains("model.embed_tokens.weight is lost"));
    trainer.start_is_stored(Box::new(Before(vec![f32::NAN; elements])));
    match block_on(trainer.step()).unwrap_err() {
        hbat::error::Error::NotFinite { quantity, aftermath, step, .. } => {
            assert_eq!((quantity, aftermath, step), ("change of the weights", hbat::error::Aftermath::Spoiled, steps));
        }
        other => panic!("{other}"),
    }
    assert_eq!(trainer.progress().running.map(|running| running.steps), Some(steps), "nothing of it is lost");
    trainer.start_is_stored(Box::new(Before(before[0].clone())));
    assert!(matches!(block_on(trainer.step()), Ok(Event::PhaseEnded(_))));
    assert_eq!(block_on(trainer.step()), Ok(Event::Finished));
}

#[test]
fn drift_is_the_root_of_the_squares_that_c_is_the_mean_of() {
    let mut trainer = Trainer::new(start(), data(3, 0), phases(&schedule(Method::Sft, Rule::Paper)), settings());
    block_on(trainer.step()).expect("the phase starts");
    block_on(trainer.step()).expect("a step");
    let drift = block_on(trainer.drift()).expect("a device").expect("a phase");
    let change = block_on(trainer.change()).expect("a device").expect("a phase");
    for (unit, (drift, change)) in trainer.policy().units().iter().zip(drift.iter().zip(&change)) {
        assert!(*drift > 0.0);
        close(&unit.name, drift * drift / unit.elements() as f64, *change, 1e-12);
    }
}

#[test]
fn data_of_another_tokenizer_is_refused() {
    let mut data = data(3, 2);
    data.preferences[1].sequences[1] = Sequence::new(vec![1], &[2, 23]).expect("tokens");
    let mut trainer = Trainer::new(start(), data, phases(&schedule(Method::Sft, Rule::Paper)), settings());
    let message = block_on(trainer.step()).unwrap_err().to_string();
    assert!(message.contains("example 1 of the preferences has the token id 23, but the model knows 23"), "{message}");
}
