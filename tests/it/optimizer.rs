//! The optimizer's two passes and the learning rates, against torch and transformers, in ordinary memory and as tensor operations.

use burn::tensor::{Device, Tensor, TensorData};
use hbat::compute::Compute;
use hbat::model::{InitError, LlamaConfig, Policy, Unit};
use hbat::optimizer::{AdamW, AdamWSettings, Decay, LearningRate, Pull, StepNorms, Strength};
use hbat::random::{normal, stream};
use hbat::reduce::Alone;
use hbat::slab::Slab;
use serde_json::{Value, json};

use crate::fixtures::{block_on, cpu};
use crate::runs::{close, largest_difference, weights};
use crate::support::golden;

/// Where the golden tensors are put: at the beginning of units that are as long or longer, zeros behind.
const PLACES: [(&str, &str); 3] =
    [("matrix", "model.embed_tokens.weight"), ("cube", "model.layers.0.mlp.down_proj.weight"), ("vector", "model.norm.weight")];

/// Flex twice: with loops over its memory, and as if its memory were elsewhere.
fn computes() -> [Compute; 2] {
    [cpu(), Compute::device(Device::flex())]
}

fn config(vocabulary: usize) -> LlamaConfig {
    let config = json!({"vocab_size": vocabulary, "hidden_size": 8, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "tie_word_embeddings": true});
    serde_json::from_value(config).expect("a config")
}

fn golden_values(values: &Value) -> Vec<f32> {
    serde_json::from_value(values.clone()).expect("numbers")
}

/// The golden tensor of a unit and zeros behind it; `None` for a unit that has none.
fn placed(unit: &Unit, values: impl Fn(&str) -> Vec<f32>) -> Option<Vec<f32>> {
    let (name, _) = PLACES.iter().find(|(_, place)| *place == unit.name)?;
    let mut values = values(name);
    values.resize(unit.elements(), 0.0);
    Some(values)
}

fn holder(start: &Value, compute: &Compute) -> Policy {
    let read = |unit: &Unit| {
        let values = placed(unit, |name| golden_values(&start[name]["data"])).unwrap_or(vec![0.0; unit.elements()]);
        Ok::<_, InitError>(TensorData::new(values, unit.dims()))
    };
    Policy::load(config(3), compute.clone(), read).expect("weights that fit")
}

fn tensor(values: Vec<f32>, unit: &Unit, compute: &Compute) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, unit.dims()), &compute.device)
}

fn check_weights(policy: &Policy, expected: &Value, what: &str) {
    for (unit, found) in policy.units().iter().zip(weights(policy)) {
        let expected = placed(unit, |name| golden_values(&expected[name])).unwrap_or(vec![0.0; unit.elements()]);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6, "{what}, {}: {found}, torch {expected}", unit.name);
        }
    }
}

fn follow_torch(golden: &Value, run: &Value, compute: &Compute) {
    let weight_decay = run["weight_decay"].as_f64().expect("a number");
    let settings = AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay, clip: 1.0 };
    let mut policy = holder(&golden["start"], compute);
    let units = policy.units().clone();
    let mut optimizer = AdamW::new(settings, units.len());
    for step in 0..20 {
        let gradient = |unit| placed(unit, |name| golden_values(&golden["gradients"][step][name]));
        let gradients = units.iter().map(|unit| gradient(unit).map(|values| tensor(values, unit, compute))).collect();
        let rate = run["learning_rates"][step].as_f64().expect("a number");
        let norms = block_on(optimizer.step(&mut policy, gradients, None, rate, &Alone)).expect("a step");
        close(&format!("norm of step {step}"), norms.gradient, run["norms"][step].as_f64().expect("a number"), 1e-6);
        check_weights(&policy, &run["weights"][step], &format!("{:?}, step {step}", compute.layout.memory));
    }
}

#[test]
fn twenty_steps_follow_torch() {
    let golden = golden("adamw");
    assert_eq!((&golden["betas"], &golden["eps"], &golden["clip"]), (&json!([0.9, 0.95]), &json!(1e-8), &json!(1.0)));
    for compute in computes() {
        for run in golden["runs"].as_array().expect("runs") {
            assert_eq!(run["weights"].as_array().map(Vec::len), Some(20));
            follow_torch(&golden, run, &compute);
        }
    }
}

#[test]
fn learning_rates_are_those_of_transformers() {
    let golden = golden("schedules");
    let peak = golden["learning_rate"].as_f64().expect("a number");
    for case in golden["cases"].as_array().expect("cases") {
        let decay: Decay = serde_json::from_value(case["schedule"].clone()).expect("a decay");
        let count = |key: &str| case[key].as_u64().expect("a count") as usize;
        let rate = LearningRate { peak, decay, warmup: count("warmup"), steps: count("steps") };
        let expected: Vec<f64> = serde_json::from_value(case["learning_rates"].clone()).expect("rates");
        assert_eq!(expected.len(), count("steps"));
        for (step, expected) in expected.into_iter().enumerate() {
            let found = rate.at(step);
            let allowed = 1e-12 * expected.abs() + 1e-15 * peak; // where a cosine ends, digits cancel
            assert!((found - expected).abs() <= allowed, "{rate:?}, step {step}: {found}, transformers {expected}");
        }
    }
}

fn noise(seed: u64, unit: &Unit, scale: f64) -> Vec<f32> {
    let mut rng = stream(seed, &unit.name, &[]);
    (0..unit.elements()).map(|_| (scale * normal(&mut rng)) as f32).collect()
}

/// A policy whose embedding is longer than a kernel's chunk, away from its anchor, and a pull of each kind.
fn pulled(compute: &Compute) -> (Policy, Pull) {
    let read = |unit: &Unit| Ok::<_, InitError>(TensorData::new(noise(1, unit, 1.0), unit.dims()));
    let policy = Policy::load(config(9000), compute.clone(), read).expect("weights that fit");
    let near = |unit: &Unit| noise(1, unit, 1.0).into_iter().zip(noise(2, unit, 0.01)).map(|(w, d)| w + d).collect();
    let anchor = policy.units().iter().map(|u| Slab::from_values(near(u), u.dims(), compute)).collect();
    let fisher = |u: &Unit| noise(3, u, 1.0).into_iter().map(|v| v * v).collect();
    let strength = policy.units().iter().enumerate().map(|(i, u)| match i % 3 {
        0 => Strength::PerUnit(0.1 * i as f64),
        1 => Strength::PerElement(Slab::from_values(fisher(u), u.dims(), compute), 0.5),
        _ => Strength::PerUnit(2.0),
    });
    let strength = strength.collect();
    (policy, Pull { anchor, strength })
}

fn pulled_steps(compute: &Compute) -> (Vec<StepNorms>, Vec<Vec<f32>>) {
    let (mut policy, pull) = pulled(compute);
    let units = policy.units().clone();
    let mut optimizer = AdamW::new(AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() }, units.len());
    let mut norms = Vec::new();
    for step in 0..5 {
        let gradients = units.iter().map(|u| Some(tensor(noise(10 + step, u, 0.01), u, compute))).collect();
        norms.push(block_on(optimizer.step(&mut policy, gradients, Some(&pull), 1e-3, &Alone)).expect("a step"));
    }
    (norms, weights(&policy))
}

#[test]
fn loops_and_tensor_operations_agree() {
    let [host, device] = computes().map(|compute| pulled_steps(&compute));
    assert!(largest_difference(&device.1, &host.1) < 1e-6);
    for (device, host) in device.0.iter().zip(&host.0) {
        close("norm", device.gradient, host.gradient, 1e-5);
        close("penalty", device.penalty, host.penalty, 1e-5);
        close("penalty's norm", device.penalty_gradient, host.penalty_gradient, 1e-5);
    }
}

#[test]
fn the_first_pass_adds_up_in_f64_what_a_plain_loop_adds_up() {
    let (mut policy, pull) = pulled(&cpu());
    let (units, start) = (policy.units().clone(), weights(&policy));
    let (mut gradient, mut penalty, mut pulled) = (0.0, 0.0, 0.0);
    for (i, unit) in units.iter().enumerate() {
        let fisher = noise(3, unit, 1.0);
        let Slab::Host(anchor) = &pull.anchor[i] else { panic!("the CPU's slabs are in its memory") };
        for (j, g) in noise(10, unit, 0.01).into_iter().enumerate() {
            let strength = match i % 3 {
                0 => 0.1 * i as f64,
                1 => 0.5 * f64::from(fisher[j]).powi(2),
                _ => 2.0,
            };
            let away = f64::from(start[i][j]) - f64::from(anchor[j]);
            gradient += (f64::from(g) + strength * away).powi(2);
            penalty += 0.5 * strength * away * away;
            pulled += (strength * away).powi(2);
        }
    }
    let gradients = units.iter().map(|u| Some(tensor(noise(10, u, 0.01), u, &cpu()))).collect();
    let mut optimizer = AdamW::new(AdamWSettings::default(), units.len());
    let norms = block_on(optimizer.step(&mut policy, gradients, Some(&pull), 1e-3, &Alone)).expect("a step");
    close("norm", norms.gradient, gradient.sqrt(), 1e-6);
    close("penalty", norms.penalty, penalty, 1e-6);
    close("penalty's norm", norms.penalty_gradient, pulled.sqrt(), 1e-6);
}

/// Weights and moments as they are.
fn state(policy: &Policy, optimizer: &AdamW) -> [Vec<Vec<f32>>; 3] {
    let values = |slabs: &[Option<Slab>]| {
        slabs.iter().map(|s| s.as_ref().map_or(Vec::new(), |s| block_on(s.values()).expect("values"))).collect()
    };
    [weights(policy), values(optimizer.first()), values(optimizer.second())]
}

/// Three steps; between the first and the second one whose gradient has `spoiled` somewhere, if given.
fn steps_around(spoiled: Option<f32>, compute: &Compute) -> [Vec<Vec<f32>>; 3] {
    let (mut policy, pull) = pulled(compute);
    let units = policy.units().clone();
    let mut optimizer = AdamW::new(AdamWSettings::default(), units.len());
    let mut step = |policy: &mut Policy, seed, spoil: Option<f32>| {
        let mut gradients: Vec<Vec<f32>> = units.iter().map(|u| noise(seed, u, 0.01)).collect();
        gradients[4][1] = spoil.unwrap_or(gradients[4][1]);
        let gradients = gradients.into_iter().zip(units.iter()).map(|(g, u)| Some(tensor(g, u, compute))).collect();
        let norms = block_on(optimizer.step(policy, gradients, Some(&pull), 1e-3, &Alone)).expect("a step");
        (norms, state(policy, &optimizer))
    };
    let (_, before) = step(&mut policy, 1, None);
    if let Some(value) = spoiled {
        let (norms, after) = step(&mut policy, 2, Some(value));
        assert!(!norms.gradient.is_finite());
        assert!(before == after, "a gradient with {value} moved weights or moments ({:?})", compute.layout.memory);
    }
    step(&mut policy, 3, None);
    step(&mut policy, 4, None).1
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_and_counts_as_no_step() {
    for compute in computes() {
        let without = steps_around(None, &compute);
        for spoiled in [f32::NAN, f32::INFINITY] {
            assert!(steps_around(Some(spoiled), &compute) == without, "{spoiled} left a trace ({:?})", compute.layout.memory);
        }
    }
}

#[test]
fn a_unit_without_a_gradient_keeps_weights_and_gets_no_moments() {
    for compute in computes() {
        let (mut policy, pull) = pulled(&compute);
        let (units, start) = (policy.units().clone(), weights(&policy));
        let settings = AdamWSettings { weight_decay: 0.5, ..AdamWSettings::default() };
        let mut optimizer = AdamW::new(settings, units.len());
        let gradients = units.iter().enumerate().map(|(i, u)| (i != 3).then(|| tensor(noise(1, u, 0.01), u, &compute)));
        block_on(optimizer.step(&mut policy, gradients.collect(), Some(&pull), 1e-2, &Alone)).expect("a step");
        for (unit, (before, after)) in start.iter().zip(weights(&policy)).enumerate() {
            assert_eq!(*before == after, unit == 3, "{}", units[unit].name);
            assert_eq!(optimizer.first()[unit].is_none(), unit == 3);
        }
    }
}
