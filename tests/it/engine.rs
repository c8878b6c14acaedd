//! Logits, losses and every gradient of tiny LLaMAs against PyTorch in f64 (`goldens/generate/tiny_llama.py`).

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use hbat::engine::{Accumulate, Engine};
use hbat::model::Policy;
use hbat::objective::{Dpo, Objective, Sft};
use hbat::reduce::Alone;
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::trainer::{Term, accumulate};
use serde_json::Value;

use crate::fixtures::{block_on, cpu, numbers, policy, unit_values};
use crate::support::golden;

pub(crate) const MODELS: [&str; 10] =
    ["tied", "untied", "gqa", "bias", "rope_linear", "rope_llama3", "mistral", "qwen2", "qwen3", "qwen3_bias"];
pub(crate) const ENGINES: [Engine; 3] = [Engine::Autodiff, Engine::Whole, Engine::Segmented];

pub(crate) fn sequence(example: &Value, response: &str) -> Sequence {
    let tokens = |key: &str| -> Vec<u32> { serde_json::from_value(example[key].clone()).expect("token ids") };
    Sequence::new(tokens("prompt"), &tokens(response)).expect("no empty parts")
}

fn demonstrations(golden: &Value) -> Batch {
    let examples = golden["demonstrations"].as_array().expect("examples").iter().enumerate();
    let groups: Vec<Group> = examples.map(|(i, e)| Group::demonstration(i, sequence(e, "response"))).collect();
    Batch::new(&groups, 1)
}

fn preferences(golden: &Value) -> Batch {
    let numbers = |key: &str| -> Vec<f32> {
        serde_json::from_value(golden["dpo"]["reference_log_probs"][key].clone()).expect("reference log-probs")
    };
    let reference = numbers("chosen").into_iter().zip(numbers("rejected"));
    let examples = golden["preferences"].as_array().expect("examples").iter().zip(reference).enumerate();
    let groups: Vec<Group> = examples
        .map(|(i, (example, (chosen, rejected)))| {
            let mut group = Group::preference(i, sequence(example, "chosen"), sequence(example, "rejected"));
            group.columns = BTreeMap::from([(Column::ReferenceLogProb, vec![chosen, rejected])]);
            group
        })
        .collect();
    Batch::new(&groups, 1)
}

fn dpo(golden: &Value) -> Dpo {
    let number = |key: &str| golden["dpo"][key].as_f64().expect("a number");
    Dpo { beta: number("beta"), label_smoothing: number("label_smoothing"), ..Dpo::default() }
}

/// The largest distance between the two, over the largest of what is expected.
pub(crate) fn off(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

pub(crate) fn check(policy: &Policy, engine: Engine, (objective, batch): (&dyn Objective, Batch), expected: &Value) {
    let mut sink = Accumulate::new(policy.units().len());
    let terms = [Term { objective, batches: vec![batch], factor: 1.0 }];
    let report = block_on(accumulate(engine, policy, &terms, &mut sink, &Alone)).expect("the CPU works").remove(0);
    let loss = expected["loss"].as_f64().expect("a loss");
    assert!((report.loss - loss).abs() <= 1e-5 * loss, "{engine:?} {}: loss {}, PyTorch {loss}", objective.name(), report.loss);
    for (unit, sum) in policy.units().iter().zip(sink.into_sums()) {
        let off = off(&numbers(&sum.expect("a gradient")), &unit_values(&expected["gradients"], unit));
        assert!(off <= 1e-5, "{engine:?} {}: gradient of {} is off by {off:e}", objective.name(), unit.name);
    }
}

#[test]
fn losses_and_gradients_are_pytorchs() {
    for name in MODELS {
        let golden = golden(&format!("tiny_llama_{name}"));
        let policy = policy(&golden["config"], &golden["weights"], &cpu());
        for engine in ENGINES {
            check(&policy, engine, (&Sft, demonstrations(&golden)), &golden["sft"]);
            check(&policy, engine, (&dpo(&golden), preferences(&golden)), &golden["dpo"]);
        }
    }
}

#[test]
fn logits_are_pytorchs() {
    for name in MODELS {
        let golden = golden(&format!("tiny_llama_{name}"));
        let policy = policy(&golden["config"], &golden["weights"], &cpu());
        let batch = demonstrations(&golden);
        let logits = Engine::Whole.logits(&policy, &batch);
        let expected: Vec<Vec<Vec<f32>>> = serde_json::from_value(golden["sft"]["logits"].clone()).expect("logits");
        for (row, expected) in expected.iter().enumerate() {
            let found: Tensor<2> = logits.clone().narrow(0, row * batch.width, expected.len());
            let off = off(&numbers(&found), &expected.concat());
            assert!(off <= 1e-5, "{name}: logits of row {row} are off by {off:e}");
        }
    }
}

#[test]
fn both_ways_to_write_a_config_say_the_same() {
    for name in MODELS {
        let golden = golden(&format!("tiny_llama_{name}"));
        let read = |key: &str| serde_json::from_value::<hbat::model::LlamaConfig>(golden[key].clone()).expect("a config");
        assert_eq!(read("config"), read("config_as_saved_by_transformers_5"), "{name}");
    }
}
