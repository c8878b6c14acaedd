//! A real model, SmolLM2-135M-Instruct, against transformers (`goldens/generate/smollm2_logits.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

use hbat::compute::Compute;
use hbat::engine::Engine;
use hbat::model::Policy;
use hbat::tokens::{Batch, Group, Sequence};
use hbat_cli::model::ModelFolder;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fixtures::{cpu, numbers};
use crate::support::{data, golden, hbat, skip, smollm2};

/// The model's folder, whose weights must be those of the golden values.
fn folder(golden: &Value) -> Option<PathBuf> {
    let Some(folder) = smollm2() else {
        skip("SmolLM2-135M-Instruct is not there");
        return None;
    };
    let weights = std::fs::read(folder.join("model.safetensors")).expect("weights");
    let digest: String = Sha256::digest(weights).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, golden["weights_sha256"].as_str().expect("a digest"), "{} has other weights", folder.display());
    Some(folder)
}

/// Compares the logits of one text with those that were kept of it, at every position.
fn compare(policy: &Policy, sample: &[usize], text: &Value) {
    let tokens: Vec<u32> = serde_json::from_value(text["tokens"].clone()).expect("token ids");
    let (last, prompt) = tokens.split_last().expect("a text");
    let sequence = Sequence::new(prompt.to_vec(), &[*last]).expect("two tokens or more");
    let logits = numbers(&Engine::Whole.logits(policy, &Batch::new(&[Group::demonstration(0, sequence)], 1)));
    let expected: Vec<Vec<f32>> = serde_json::from_value(text["logits"].clone()).expect("logits");
    let sums: Vec<f64> = serde_json::from_value(text["logsumexp"].clone()).expect("numbers");
    let best: Vec<usize> = serde_json::from_value(text["argmax"].clone()).expect("ids");
    let rows = logits.chunks_exact(policy.config().vocab_size);
    assert_eq!((rows.len(), expected.len()), (tokens.len(), tokens.len()));
    for (position, row) in rows.enumerate() {
        let kept = sample.iter().map(|id| row[*id]).zip(&expected[position]);
        let off = kept.map(|(found, expected)| (found - expected).abs()).fold(0f32, f32::max);
        assert!(off <= 2e-4, "{}, position {position}: logits are off by {off:e}", text["name"]);
        let sum = row.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        assert!((sum - sums[position]).abs() <= 2e-4, "{}, position {position}: {sum}, not {}", text["name"], sums[position]);
        let argmax = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        assert_eq!(argmax, Some(best[position]), "{}, position {position}", text["name"]);
    }
}

#[test]
fn logits_are_those_of_transformers() {
    let golden = golden("smollm2_logits");
    let Some(folder) = folder(&golden) else { return };
    let sample: Vec<usize> = serde_json::from_value(golden["sample"].clone()).expect("ids");
    for compute in [cpu(), Compute::device(burn::tensor::Device::flex())] {
        let policy = ModelFolder::open(&folder).unwrap().load(compute, |_| ()).unwrap();
        golden["texts"].as_array().expect("texts").iter().for_each(|text| compare(&policy, &sample, text));
    }
}

/// What `hbat eval --json --per-example` prints of the first examples of the validation sets.
fn eval(model: &Path, data: &Path, examples: usize) -> Value {
    let file = |name: &str| data.join(name).into_os_string();
    let output = Command::new(hbat())
        .args(["eval", "--json", "--per-example", "--limit", &examples.to_string(), "--model"])
        .args([model.as_os_str(), "--reference".as_ref(), model.as_os_str()])
        .args(["--demonstrations".as_ref(), file("demonstrations.valid.jsonl").as_os_str()])
        .args(["--preferences".as_ref(), file("preferences.valid.jsonl").as_os_str()])
        .output()
        .expect("hbat starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The field of a found example against the response of an expected one. The sums go over hundreds of f32.
fn same(found: &Value, log_prob: &str, tokens: &str, expected: &Value) -> f64 {
    assert_eq!(found[tokens], expected["tokens"]);
    let (found, sum) = (found[log_prob].as_f64().expect("a number"), expected["log_prob_f64"].as_f64().expect("a number"));
    let per_token = 2e-6 * expected["tokens"].as_f64().expect("a number");
    assert!((found - sum).abs() <= per_token + 1e-4, "{log_prob}: {found}, not {sum}");
    found
}

#[test]
fn log_probabilities_of_examples_are_those_of_transformers() {
    let golden = golden("smollm2_logits");
    let Some(folder) = folder(&golden) else { return };
    let Some(data) = data() else { return skip("the test data is not there") };
    let of = |name: &str| golden[name].as_array().expect("examples").clone();
    let (demonstrations, preferences) = (of("demonstrations"), of("preferences"));
    let found = eval(&folder, &data, demonstrations.len());
    let examples = |name: &str| found[name].as_array().expect("examples").clone();
    let mut total = 0.0;
    for (found, expected) in examples("demonstration_examples").iter().zip(&demonstrations) {
        assert_eq!(found["index"], expected["index"]);
        total += same(found, "logprob", "tokens", &expected["response"]);
    }
    let score = &found["demonstrations"];
    assert!((score["logprob"].as_f64().expect("a sum") - total).abs() <= 1e-9 * total.abs());
    assert_eq!(examples("preference_examples").len(), preferences.len());
    for (found, expected) in examples("preference_examples").iter().zip(&preferences) {
        assert_eq!(found["index"], expected["index"]);
        same(found, "chosen", "chosen_tokens", &expected["chosen"]);
        same(found, "rejected", "rejected_tokens", &expected["rejected"]);
    }
    let against = &found["preferences"];
    assert!((against["dpo_loss"].as_f64().expect("a loss") - std::f64::consts::LN_2).abs() < 1e-12, "{against}");
    assert_eq!((&against["margin"], &against["accuracy"]), (&0.0.into(), &0.0.into()));
}
