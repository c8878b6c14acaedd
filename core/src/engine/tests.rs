//! Engines against each other, against finite differences, and against what must not matter.

use burn::tensor::{Device, Tensor, TensorData};

use super::{Accumulate, Engine, How, Keep, Reads, Texts, pass};
use crate::compute::Compute;
use crate::model::{InitError, LlamaConfig, Policy, Readout, Unit};
use crate::testing::Noise;
use crate::tokens::{Batch, Group, Sequence};

mod continued;

const GROUPED: &str = r#""num_key_value_heads": 2, "head_dim": 6, "tie_word_embeddings": true"#;
const BIASED: &str = r#""num_key_value_heads": 4, "attention_bias": true"#;
const NORMED: &str = r#""model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 6, "attention_bias": true"#;
const STRETCHED: &str = r#""num_key_value_heads": 1, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}"#;
const VALUED: &str = r#""num_key_value_heads": 2, "architectures": ["LlamaForSequenceClassification"]"#;

/// As loops over memory, and as tensor operations on the same memory.
fn computes() -> [Compute; 2] {
    [Compute::host(Device::flex()), Compute::device(Device::flex())]
}

fn models() -> Vec<Policy> {
    let models = [GROUPED, BIASED, NORMED, STRETCHED].map(|extra| computes().map(|compute| model(extra, compute, 0.5)));
    models.into_iter().flatten().collect()
}

fn value_models() -> Vec<Policy> {
    let models = computes().map(|compute| model(VALUED, compute, 0.5));
    let both = |model: Policy| [model.clone().reading(Readout::ValueBefore), model.reading(Readout::ValueAfter)];
    models.into_iter().flat_map(both).collect()
}

fn model(extra: &str, compute: Compute, head_scale: f32) -> Policy {
    let config = format!(
        r#"{{"vocab_size": 37, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4,
            "rms_norm_eps": 1e-5, {extra}}}"#
    );
    initialised(serde_json::from_str(&config).unwrap(), compute, head_scale)
}

fn initialised(config: LlamaConfig, compute: Compute, head_scale: f32) -> Policy {
    let mut noise = Noise(7);
    let weights = |unit: &Unit| {
        let n = unit.elements();
        let values = match unit.name.as_str() {
            name if name.contains("norm") => noise.values(n, 0.4).iter().map(|v| 1.0 + v).collect(),
            "lm_head.weight" => noise.values(n, head_scale),
            _ => noise.values(n, 0.5),
        };
        Ok::<_, InitError>(TensorData::new(values, unit.dims()))
    };
    Policy::load(config, compute, weights).unwrap()
}

fn groups(lengths: &[(usize, usize)]) -> Vec<Group> {
    let mut noise = Noise(11);
    let mut sequence = |&(prompt, response): &(usize, usize)| {
        let prompt = noise.tokens(prompt, 37);
        Sequence::new(prompt, &noise.tokens(response, 37)).unwrap()
    };
    lengths.iter().enumerate().map(|(i, lengths)| Group::demonstration(i, sequence(lengths))).collect()
}

fn uneven() -> Vec<Group> {
    groups(&[(3, 9), (1, 1), (7, 4), (2, 14)])
}

/// d loss / d scores that differ from token to token.
fn seeds(scores: Tensor<1>) -> Tensor<1> {
    scores.clone().mul_scalar(0.3) + scores.square().mul_scalar(0.05) - 0.7
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_into_vec().unwrap()
}

fn collect(policy: &Policy, run: impl FnOnce(&mut Accumulate)) -> Vec<Vec<f32>> {
    let mut sink = Accumulate::new(policy.units().len());
    run(&mut sink);
    sink.into_sums().into_iter().map(|sum| values(&sum.expect("every unit has a gradient"))).collect()
}

fn gradients(engine: Engine, policy: &Policy, batch: &Batch) -> Vec<Vec<f32>> {
    collect(policy, |sink| engine.gradients(policy, batch, seeds, sink))
}

#[track_caller]
fn same(policy: &Policy, found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    for ((unit, found), expected) in policy.units().iter().zip(found).zip(expected) {
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(largest > 0.0 && off <= tolerance * largest, "{}: off by {off:e} of {largest:e}", unit.name);
    }
}

#[test]
fn closed_form_gradients_are_those_of_autodiff() {
    let batch = Batch::new(&uneven(), 1);
    for policy in models().into_iter().chain(value_models()) {
        let oracle = gradients(Engine::Autodiff, &policy, &batch);
        same(&policy, &gradients(Engine::Whole, &policy, &batch), &oracle, 1e-5);
        same(&policy, &gradients(Engine::Segmented, &policy, &batch), &oracle, 1e-5);
    }
}

#[test]
fn chunks_of_the_vocabulary_head_need_not_divide_the_response_tokens() {
    let batch = Batch::new(&uneven(), 1);
    assert_eq!(batch.response_tokens(), 28);
    for policy in models() {
        let whole = gradients(Engine::Whole, &policy, &batch);
        let scores = values(&Engine::Whole.scores(&policy, &batch));
        for chunk in [1, 5, 27, 28, 29] {
            let reads = || Reads::new(Readout::LogProbs, &batch, chunk);
            same(&policy, &[values(&super::scores(&policy, &batch, &reads()))], std::slice::from_ref(&scores), 1e-6);
            for keep in [Keep::Inputs, Keep::Activations] {
                let pass = pass(&policy, &Texts::of(&batch), How::new(&policy, keep), reads());
                let chunked = collect(&policy, |sink| pass.gradients(seeds, sink));
                same(&policy, &chunked, &whole, 1e-5);
            }
        }
    }
}

#[test]
fn scores_are_the_log_softmax_of_the_logits() {
    let batch = Batch::new(&uneven(), 1);
    for policy in models() {
        let logits = values(&Engine::Whole.logits(&policy, &batch));
        let scores = values(&Engine::Whole.scores(&policy, &batch));
        for (i, (read, target)) in batch.reads.iter().zip(&batch.targets).enumerate() {
            let row: Vec<f64> = logits[*read as usize * 37..][..37].iter().map(|v| f64::from(*v)).collect();
            let expected = row[*target as usize] - row.iter().map(|v| v.exp()).sum::<f64>().ln();
            assert!((f64::from(scores[i]) - expected).abs() < 1e-5, "token {i}: {} and {expected}", scores[i]);
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_scores() {
    let batch = Batch::new(&uneven(), 1);
    let weights: Vec<f32> = Noise(3).values(batch.response_tokens(), 1.0);
    for mut policy in models().into_iter().chain(value_models()) {
        let seeds = |scores: Tensor<1>| Tensor::from_data(TensorData::new(weights.clone(), [weights.len()]), &scores.device());
        let found = collect(&policy, |sink| Engine::Whole.gradients(&policy, &batch, seeds, sink));
        for (unit, gradient) in found.iter().enumerate() {
            let (steepest, slope) = gradient.iter().copied().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
            let (up, down) = (nudged(&mut policy, unit, steepest, 2e-3), nudged(&mut policy, unit, steepest, -2e-3));
            let measured = up.difference(&down, &batch, &weights) / 4e-3;
            let off = (measured - f64::from(slope)).abs() / f64::from(slope).abs();
            assert!(off < 5e-3, "{}[{steepest}]: {slope}, measured {measured}", policy.units()[unit].name);
        }
    }
}

struct Nudged(Policy);

fn nudged(policy: &mut Policy, unit: usize, element: usize, by: f32) -> Nudged {
    let mut nudged = policy.clone();
    let tensor = nudged.take(unit);
    let mut moved = values(&tensor);
    moved[element] += by;
    nudged.put(unit, Tensor::from_data(TensorData::new(moved, tensor.dims()), &tensor.device()));
    Nudged(nudged)
}

impl Nudged {
    /// Σ weight · (score here − score there), subtracted token by token before rounding can matter.
    fn difference(&self, other: &Self, batch: &Batch, weights: &[f32]) -> f64 {
        let scores = |policy: &Policy| values(&Engine::Whole.scores(policy, batch));
        let (here, there) = (scores(&self.0), scores(&other.0));
        here.iter().zip(&there).zip(weights).map(|((a, b), w)| f64::from(*w) * (f64::from(*a) - f64::from(*b))).sum()
    }
}

#[test]
fn padding_and_order_of_a_batch_change_nothing() {
    let groups = uneven();
    let reversed: Vec<_> = groups.iter().rev().cloned().collect();
    for policy in models().into_iter().chain(value_models()) {
        let engine = Engine::Segmented;
        let plain = gradients(engine, &policy, &Batch::new(&groups, 1));
        same(&policy, &gradients(engine, &policy, &Batch::new(&groups, 32)), &plain, 1e-5);
        same(&policy, &gradients(engine, &policy, &Batch::new(&reversed, 1)), &plain, 1e-5);
        same(&policy, &gradients(engine, &policy, &Batch::packed(&groups, 20)), &plain, 1e-5);
        let score = |groups: &[Group], bucket| values(&engine.scores(&policy, &Batch::new(groups, bucket)));
        let alone: Vec<f32> = groups.iter().flat_map(|group| score(std::slice::from_ref(group), 1)).collect();
        same(&policy, &[score(&groups, 32)], &[alone], 1e-6);
    }
}

#[test]
fn a_reward_is_the_value_that_a_critic_would_see_one_token_later() {
    let batch = Batch::new(&uneven(), 1);
    for compute in computes() {
        let reward = model(VALUED, compute, 0.5);
        let critic = reward.clone().reading(Readout::ValueBefore);
        let (after, before) = (values(&Engine::Whole.scores(&reward, &batch)), values(&Engine::Whole.scores(&critic, &batch)));
        for tokens in &batch.sequences {
            for token in tokens.start + 1..tokens.end {
                assert_eq!(before[token], after[token - 1]);
            }
        }
    }
}

#[test]
fn logits_of_a_hundred_overflow_nothing() {
    let batch = Batch::new(&uneven(), 1);
    for policy in computes().map(|compute| model(STRETCHED, compute, 30.0)) {
        let logits = values(&Engine::Whole.logits(&policy, &batch));
        let largest = logits.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest > 100.0, "{largest}");
        let scores = values(&Engine::Whole.scores(&policy, &batch));
        assert!(scores.iter().all(|s| s.is_finite() && *s <= 0.0) && scores.iter().any(|s| *s < -100.0), "{scores:?}");
        let constant = |scores: Tensor<1>| scores.ones_like();
        let run = |engine: Engine| collect(&policy, |sink| engine.gradients(&policy, &batch, constant, sink));
        // Logits this large are themselves rounded to 1e-5.
        same(&policy, &run(Engine::Whole), &run(Engine::Autodiff), 1e-4);
        same(&policy, &run(Engine::Segmented), &run(Engine::Autodiff), 1e-4);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let config = r#"{"vocab_size": 300, "hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": true}"#;
    let policy = initialised(serde_json::from_str(config).unwrap(), Compute::host(Device::flex()), 0.5);
    let batch = Batch::new(&groups(&[(40, 150), (3, 70), (90, 61), (1, 199)]), 1);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        [Engine::Whole, Engine::Segmented].map(|engine| pool.install(|| gradients(engine, &policy, &batch)))
    };
    let expected = on(1);
    assert!([2, 3, 7].into_iter().all(|threads| on(threads) == expected));
}
