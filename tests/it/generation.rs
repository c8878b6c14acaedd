//! Generation against transformers (`goldens/generate/generation.py`), and against logits of whole texts.

use burn::tensor::Device;
use hbat::compute::{Compute, Precision, Weights};
use hbat::engine::Engine;
use hbat::generate::{Completion, Finish, GenerateSettings, Sampling, Warp, generate};
use hbat::model::Policy;
use hbat::random::{below, stream};
use hbat::tokens::{Batch, Group, Sequence};
use serde_json::Value;

use crate::engine::MODELS;
use crate::fixtures::{block_on, cpu, numbers, policy};
use crate::support::golden;

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("what the golden file says")
}

/// A golden tiny LLaMA.
pub(crate) fn tiny(name: &str, compute: &Compute) -> Policy {
    let golden = golden(&format!("tiny_llama_{name}"));
    policy(&golden["config"], &golden["weights"], compute)
}

/// Prompts of uneven lengths, one token among them and nearly as many as a cache's first columns hold.
pub(crate) fn prompts() -> Vec<Vec<u32>> {
    let mut rng = stream(3, "prompts", &[]);
    [1, 5, 57, 1, 12, 8, 3].map(|length| (0..length).map(|_| below(61, &mut rng) as u32).collect()).into()
}

pub(crate) fn completions(policy: &Policy, prompts: &[Vec<u32>], settings: &GenerateSettings) -> Vec<Completion> {
    block_on(generate(policy, prompts, settings)).expect("a model that works")
}

/// Every token of a greedy completion must be the likeliest after the text before it, which `oracle` reads as a whole; but for
/// what rounding may exchange, a part of the largest logit.
pub(crate) fn check_likeliest(oracle: &Policy, prompt: &[u32], completion: &[u32], rounding: f32) {
    let sequence = Sequence::new(prompt.to_vec(), completion).expect("no empty parts");
    let logits = numbers(&Engine::Whole.logits(oracle, &Batch::new(&[Group::demonstration(0, sequence)], 1)));
    let rows = logits.chunks_exact(oracle.config().vocab_size);
    for (position, (token, row)) in completion.iter().zip(rows.skip(prompt.len() - 1)).enumerate() {
        let best = row.iter().fold(f32::MIN, |m, logit| m.max(*logit));
        let (largest, behind) = (row.iter().fold(0f32, |m, logit| m.max(logit.abs())), best - row[*token as usize]);
        assert!(behind <= rounding * largest, "new token {position} is {behind:e} behind the likeliest of {largest}");
    }
}

#[test]
fn warped_distributions_are_those_of_transformers() {
    for case in golden("generation")["warped"].as_array().expect("cases") {
        let warp: Warp = read(&serde_json::json!({
            "temperature": case["temperature"], "top_k": case["top_k"], "top_p": case["top_p"],
        }));
        let mut found = warp.distribution(&read::<Vec<f32>>(&case["logits"]));
        found.sort_by_key(|(token, _)| *token);
        let (kept, expected): (Vec<u32>, Vec<f64>) = (read(&case["kept"]), read(&case["probabilities"]));
        assert_eq!(found.iter().map(|(token, _)| *token).collect::<Vec<_>>(), kept, "{warp:?}");
        assert!(found.iter().zip(expected).all(|((_, found), expected)| (found - expected).abs() < 1e-7), "{warp:?}: {found:?}");
    }
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    let golden = &golden("generation")["greedy"];
    let (prompts, expected): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (read(&golden["prompts"]), read(&golden["continuations"]));
    for compute in [cpu(), Compute::device(Device::flex())] {
        let settings = GenerateSettings { max_new_tokens: expected[0].len(), ..GenerateSettings::default() };
        let found = completions(&tiny("tied", &compute), &prompts, &settings);
        assert_eq!(found.into_iter().map(|completion| completion.tokens).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn greedy_tokens_are_the_likeliest_after_the_whole_text() {
    for name in MODELS {
        let oracle = tiny(name, &cpu());
        for compute in [cpu(), Compute::device(Device::flex())] {
            let settings = GenerateSettings { max_new_tokens: 70, batch_size: 4, ..GenerateSettings::default() };
            let found = completions(&tiny(name, &compute), &prompts(), &settings);
            for (prompt, completion) in prompts().iter().zip(found) {
                assert_eq!((completion.tokens.len(), completion.finish), (70, Finish::Length), "{name}");
                check_likeliest(&oracle, prompt, &completion.tokens, 1e-5);
            }
        }
    }
}

#[test]
fn greedy_tokens_in_bf16_are_the_likeliest_after_the_whole_text() {
    for weights in [Weights::Bf16Split, Weights::Bf16Master] {
        let compute = Compute::device(Device::flex()).with(Precision { weights, ..Precision::default() });
        for name in ["gqa", "untied", "bias"] {
            let policy = tiny(name, &compute);
            let settings = GenerateSettings { max_new_tokens: 70, ..GenerateSettings::default() };
            for (prompt, completion) in prompts().iter().zip(completions(&policy, &prompts(), &settings)) {
                check_likeliest(&policy, prompt, &completion.tokens, 2e-2);
            }
        }
    }
}

/// The completion up to the first of the tokens that end it.
fn cut(completion: &Completion, eos: &[u32]) -> Completion {
    match completion.tokens.iter().position(|token| eos.contains(token)) {
        Some(last) => Completion { tokens: completion.tokens[..=last].to_vec(), finish: Finish::Eos },
        None => completion.clone(),
    }
}

#[test]
fn a_text_that_is_over_changes_no_other() {
    let warp = Warp { temperature: 0.7, ..Warp::default() };
    for compute in [cpu(), Compute::device(Device::flex())] {
        let policy = tiny("gqa", &compute);
        let settings = GenerateSettings { max_new_tokens: 70, sampling: Sampling::Sample(warp), ..GenerateSettings::default() };
        let endless = completions(&policy, &prompts(), &settings);
        let eos = vec![endless[0].tokens[2], endless[4].tokens[30]];
        let expected: Vec<Completion> = endless.iter().map(|completion| cut(completion, &eos)).collect();
        let mut lengths: Vec<usize> = expected.iter().map(|completion| completion.tokens.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() >= 4, "texts end at different times: {lengths:?}");
        for batch_size in [64, 3, 1] {
            let settings = GenerateSettings { eos: eos.clone(), batch_size, ..settings.clone() };
            assert_eq!(completions(&policy, &prompts(), &settings), expected, "{batch_size} together");
        }
    }
}
