//! Objectives as functions of token scores: DPO against TRL, and others written here from their papers to show that the seam fits.

use burn::tensor::{Device, Tensor, TensorData, activation::relu};
use hbat::engine::{Accumulate, Engine};
use hbat::objective::{Dpo, Loss, Objective, Sft, sum_by_sequence};
use hbat::reduce::Alone;
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::trainer::{Term, accumulate};
use serde_json::Value;

use crate::fixtures::{block_on, numbers};
use crate::runs::{close, data, largest_difference, start};
use crate::support::golden;

/// The mean loss of given scores, its derivative with respect to each, and the metrics' means.
pub(crate) struct Evaluated {
    pub(crate) loss: f64,
    pub(crate) gradient: Vec<f32>,
    pub(crate) metrics: Vec<(&'static str, f64)>,
}

pub(crate) fn evaluate(objective: &dyn Objective, scores: &[f32], batch: &Batch) -> Evaluated {
    let data = TensorData::new(scores.to_vec(), [scores.len()]);
    let leaf = Tensor::<1>::from_data(data, &Device::flex()).autodiff().require_grad();
    let loss = objective.loss(leaf.clone(), batch);
    let (weight, groups) = (objective.weight(batch), batch.groups.len() as f64);
    let scalar = |tensor: Tensor<1>| f64::from(tensor.into_data().try_into_vec::<f32>().expect("f32")[0]);
    let gradients = loss.sum.backward();
    let gradient = leaf.grad(&gradients).expect("the loss depends on the scores").into_data();
    let gradient: Vec<f32> = gradient.try_into_vec().expect("f32");
    Evaluated {
        loss: scalar(loss.sum.inner()) / weight,
        gradient: gradient.into_iter().map(|g| g / weight as f32).collect(),
        metrics: loss.metrics.into_iter().map(|(name, sum)| (name, scalar(sum.inner()) / groups)).collect(),
    }
}

/// Compares the mean loss and its gradient with a formula in f64 and the formula's central differences.
#[track_caller]
fn check(objective: &dyn Objective, scores: &[f32], batch: &Batch, formula: impl Fn(&[f64]) -> f64) {
    let found = evaluate(objective, scores, batch);
    let scores: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
    close("loss", found.loss, formula(&scores), 1e-5);
    let at = |i: usize, step: f64| {
        let mut moved = scores.clone();
        moved[i] += step;
        formula(&moved)
    };
    for (i, found) in found.gradient.iter().enumerate() {
        let expected = (at(i, 1e-6) - at(i, -1e-6)) / 2e-6;
        assert!((f64::from(*found) - expected).abs() <= 1e-5, "score {i}: {found}, not {expected}");
    }
}

/// One group of sequences with responses of these lengths.
pub(crate) fn group(index: usize, lengths: &[usize], columns: &[(Column, Vec<f32>)]) -> Group {
    let sequence = |n: &usize| Sequence::new(vec![1, 2], &vec![3; *n]).expect("tokens");
    Group { index, sequences: lengths.iter().map(sequence).collect(), columns: columns.iter().cloned().collect() }
}

fn dpo_batch(case: &Value) -> (Vec<f32>, Batch) {
    let column = |key: &str| serde_json::from_value::<Vec<f32>>(case[key].clone()).expect("numbers");
    let pairs = |a: Vec<f32>, b: Vec<f32>| a.into_iter().zip(b).map(|(a, b)| [a, b]).collect::<Vec<_>>();
    let reference = pairs(column("reference_chosen"), column("reference_rejected"));
    let groups: Vec<Group> =
        reference.iter().enumerate().map(|(i, r)| group(i, &[1, 1], &[(Column::ReferenceLogProb, r.to_vec())])).collect();
    (pairs(column("policy_chosen"), column("policy_rejected")).concat(), Batch::new(&groups, 1))
}

#[track_caller]
pub(crate) fn near(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {found}, TRL {expected}");
}

#[test]
fn dpo_is_trls() {
    let golden = golden("dpo");
    let cases = golden["cases"].as_array().expect("cases");
    assert!(cases.len() >= 28);
    for case in cases {
        let number = |key: &str| case[key].as_f64().expect("a number");
        let (scores, batch) = dpo_batch(case);
        let dpo = Dpo { beta: number("beta"), label_smoothing: number("label_smoothing"), ..Dpo::default() };
        let found = evaluate(&dpo, &scores, &batch);
        let name = format!("{} ({dpo:?})", case["name"]);
        near(&name, found.loss, number("loss"));
        for (ours, theirs) in
            [("rewards/chosen", "chosen"), ("rewards/rejected", "rejected"), ("margin", "margins"), ("accuracy", "accuracies")]
        {
            let metric = found.metrics.iter().find(|(name, _)| *name == ours).expect("a metric").1;
            near(&format!("{ours} of {name}"), metric, case["mean"][format!("rewards/{theirs}")].as_f64().expect("a number"));
        }
        for (which, key) in ["gradient_policy_chosen", "gradient_policy_rejected"].into_iter().enumerate() {
            for (pair, expected) in case[key].as_array().expect("numbers").iter().enumerate() {
                near(
                    &format!("{key} of {name}"),
                    f64::from(found.gradient[2 * pair + which]),
                    expected.as_f64().expect("a number"),
                );
            }
        }
    }
}

#[test]
fn the_chosen_likelihood_beside_dpo_is_trls_pair_by_pair() {
    let golden = golden("dpo");
    let cases = golden["nll"].as_array().expect("cases");
    assert!(cases.iter().any(|case| case["nll_coefficient"] == 1.0));
    for case in cases {
        let numbers = |value: &Value| serde_json::from_value::<Vec<f32>>(value.clone()).expect("numbers");
        let rows = |key: &str| case[key].as_array().expect("rows").iter();
        let tokens: Vec<[Vec<f32>; 2]> = rows("tokens").map(|pair| [0, 1].map(|side| numbers(&pair[side]))).collect();
        let pair = |(i, (tokens, reference)): (usize, (&[Vec<f32>; 2], &Value))| {
            group(i, &tokens.each_ref().map(Vec::len), &[(Column::ReferenceLogProb, numbers(reference))])
        };
        let groups: Vec<Group> = tokens.iter().zip(rows("reference")).enumerate().map(pair).collect();
        let number = |key: &str| case[key].as_f64().expect("a number");
        let dpo = Dpo { beta: number("beta"), nll_coefficient: number("nll_coefficient"), ..Dpo::default() };
        let found = evaluate(&dpo, &tokens.concat().concat(), &Batch::new(&groups, 1));
        near(&format!("{dpo:?}"), found.loss, number("loss"));
        let nll = found.metrics.iter().find(|(name, _)| *name == "nll/chosen").expect("a metric").1;
        near("nll", nll, number("nll"));
        for (found, expected) in found.gradient.iter().zip(numbers(&case["gradient"])) {
            near(&format!("gradient of {dpo:?}"), f64::from(*found), f64::from(expected));
        }
    }
}

#[test]
fn rrhf_on_pairs_is_pytorchs() {
    let golden = golden("rrhf");
    let cases = golden["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 18);
    for case in cases {
        let number = |key: &str| case[key].as_f64().expect("a number");
        let pairs: Vec<[Vec<f32>; 2]> = serde_json::from_value(case["log_probs"].clone()).expect("log-probabilities");
        let groups: Vec<Group> = pairs.iter().enumerate().map(|(i, y)| group(i, &[y[0].len(), y[1].len()], &[])).collect();
        let rrhf =
            hbat::objective::Rrhf { length_exponent: number("length_exponent"), nll_coefficient: number("nll_coefficient") };
        let found = evaluate(&rrhf, &pairs.concat().concat(), &Batch::new(&groups, 1));
        let name = format!("{} ({rrhf:?})", case["name"]);
        near(&name, found.loss, number("loss"));
        for ours in ["margin", "accuracy"] {
            let metric = found.metrics.iter().find(|(name, _)| *name == ours).expect("a metric").1;
            near(&format!("{ours} of {name}"), metric, number(ours));
        }
        let gradient: Vec<Vec<f64>> = serde_json::from_value(case["gradient"].clone()).expect("gradients");
        assert_eq!(found.gradient.len(), gradient.concat().len());
        for (found, expected) in found.gradient.iter().zip(gradient.concat()) {
            near(&format!("gradient of {name}"), f64::from(*found), expected);
        }
    }
}

#[test]
fn a_pair_that_is_equally_likely_is_ranked_by_nobody() {
    let rrhf = hbat::objective::Rrhf { length_exponent: 1.0, nll_coefficient: 0.0 };
    let found = evaluate(&rrhf, &[-1.0, -2.0, -1.0, -2.0], &Batch::new(&[group(0, &[2, 2], &[])], 1));
    assert!(found.metrics.contains(&("accuracy", 0.0)), "{:?}", found.metrics);
}

#[test]
fn dpo_sums_the_tokens_of_a_response_and_never_averages_them() {
    let reference = vec![-2.0, -1.0];
    let batch = Batch::new(&[group(0, &[3, 1], &[(Column::ReferenceLogProb, reference)])], 1);
    let scores = [-1.0, -0.5, -1.5, -2.0];
    let formula = |s: &[f64]| (1.0 + (-0.1 * ((s[0] + s[1] + s[2] + 2.0) - (s[3] + 1.0))).exp()).ln();
    check(&Dpo::default(), &scores, &batch, formula);
}

#[test]
fn the_loss_of_sft_is_a_mean_over_tokens_not_over_responses() {
    let batch = Batch::new(&[group(0, &[1], &[]), group(1, &[4], &[])], 1);
    check(&Sft, &[-5.0, -1.0, -2.0, -0.5, -0.25], &batch, |s| -s.iter().sum::<f64>() / 5.0);
}

/// RRHF (Yuan et al. 2023) of any number of responses: length-normalised log-probabilities ranked like the rewards, and the best response's
/// likelihood.
struct Rrhf;

impl Objective for Rrhf {
    fn name(&self) -> &'static str {
        "rrhf"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.groups.len() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let (rewards, sums) = (batch.column(Column::Reward), sum_by_sequence(scores, batch));
        let one = |i: usize| sums.clone().narrow(0, i, 1);
        let mean = |i: usize| one(i) / batch.sequences[i].len() as f64;
        let mut total = sums.clone().sum() * 0.0;
        for group in &batch.groups {
            for (i, j) in group.clone().flat_map(|i| group.clone().map(move |j| (i, j))) {
                if rewards[i] < rewards[j] {
                    total = total + relu(mean(i) - mean(j));
                }
            }
            let best = group.clone().max_by(|&a, &b| rewards[a].total_cmp(&rewards[b])).expect("a group is not empty");
            total = total - one(best);
        }
        Loss { sum: total, metrics: Vec::new() }
    }
}

#[test]
fn rrhf_fits_the_seam() {
    let groups =
        [group(0, &[2, 1, 3], &[(Column::Reward, vec![0.1, 0.9, 0.5])]), group(1, &[1, 2], &[(Column::Reward, vec![2.0, 1.0])])];
    let batch = Batch::new(&groups, 1);
    let scores = [-0.5, -0.7, -2.0, -1.0, -0.2, -0.3, -0.6, -0.4, -0.1];
    let formula = |s: &[f64]| {
        let first = [(s[0] + s[1]) / 2.0, s[2], (s[3] + s[4] + s[5]) / 3.0]; // rewards 0.1, 0.9, 0.5
        let second = [s[6], (s[7] + s[8]) / 2.0]; // rewards 2, 1
        let above = |low: f64, high: f64| (low - high).max(0.0);
        let first = above(first[0], first[1]) + above(first[0], first[2]) + above(first[2], first[1]) - s[2];
        (first + above(second[1], second[0]) - s[6]) / 2.0
    };
    check(&Rrhf, &scores, &batch, formula);
}

/// A column with one value per response token, `[R]`, where the scores are, and no part of their graph.
fn token_column(which: Column, batch: &Batch, scores: &Tensor<1>) -> Tensor<1> {
    let values = TensorData::new(batch.column(which).to_vec(), [batch.response_tokens()]);
    Tensor::from_data(values, &scores.device().inner())
}

/// PPO's clipped surrogate (Schulman et al. 2017), a mean over response tokens.
struct PolicyLoss;

impl Objective for PolicyLoss {
    fn name(&self) -> &'static str {
        "ppo"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.response_tokens() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let column = |which| token_column(which, batch, &scores);
        let (advantage, old) = (column(Column::Advantage), column(Column::OldLogProb));
        let ratio = (scores - old).exp();
        let plain = (advantage.clone() * ratio.clone()).neg();
        let clipped = (advantage * ratio.clone().clamp(0.8, 1.2)).neg();
        let outside = (ratio - 1.0).abs().greater_scalar(0.2).float().sum();
        Loss { sum: plain.max_pair(clipped).sum(), metrics: vec![("clipped", outside)] }
    }
}

/// A critic's clipped squared error, ½·max((V − R)², (V_clip − R)²), a mean over response tokens; scores are values here.
struct ValueLoss;

impl Objective for ValueLoss {
    fn name(&self) -> &'static str {
        "value"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.response_tokens() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let column = |which| token_column(which, batch, &scores);
        let (old, returns) = (column(Column::OldValue), column(Column::Return));
        let clipped = (scores.clone() - old.clone()).clamp(-0.2, 0.2) + old - returns.clone();
        let error = (scores - returns).square().max_pair(clipped.square());
        Loss { sum: error.sum() * 0.5, metrics: Vec::new() }
    }
}

#[test]
fn ppos_policy_loss_fits_the_seam() {
    let old = [-1.0, -2.0, -0.5, -1.5, -0.7];
    let advantage = [1.0, -0.5, 2.0, -1.0, 0.3];
    let column = |from: usize, to: usize| {
        vec![(Column::OldLogProb, old[from..to].to_vec()), (Column::Advantage, advantage[from..to].to_vec())]
    };
    let batch = Batch::new(&[group(0, &[2], &column(0, 2)), group(1, &[3], &column(2, 5))], 1);
    let scores = [-0.7, -2.4, -0.55, -1.1, -1.2]; // ratios above, below, within, above and below the clipping range
    let formula = |s: &[f64]| {
        let token = |i: usize| {
            let (a, ratio) = (f64::from(advantage[i]), (s[i] - f64::from(old[i])).exp());
            (-a * ratio).max(-a * ratio.clamp(0.8, 1.2))
        };
        (0..5).map(token).sum::<f64>() / 5.0
    };
    check(&PolicyLoss, &scores, &batch, formula);
    assert_eq!(evaluate(&PolicyLoss, &scores, &batch).metrics, [("clipped", 2.0)]); // 4 tokens over 2 groups
}

#[test]
fn a_critics_loss_fits_the_seam() {
    let (old, returns) = ([0.0, 1.0, -1.0], [0.5, 0.2, -1.05]);
    let batch = Batch::new(&[group(0, &[3], &[(Column::OldValue, old.to_vec()), (Column::Return, returns.to_vec())])], 1);
    let formula = |v: &[f64]| {
        let token = |i: usize| {
            let (old, r) = (f64::from(old[i]), f64::from(returns[i]));
            0.5 * (v[i] - r).powi(2).max(((v[i] - old).clamp(-0.2, 0.2) + old - r).powi(2))
        };
        (0..3).map(token).sum::<f64>() / 3.0
    };
    check(&ValueLoss, &[0.4, 0.7, -0.9], &batch, formula);
}

/// The gradient of a sum of terms on the tiny model, and each term's loss.
fn gradient(terms: &[Term<'_>]) -> (Vec<Vec<f32>>, Vec<f64>) {
    let policy = start();
    let mut sink = Accumulate::new(policy.units().len());
    let reports = block_on(accumulate(Engine::Whole, &policy, terms, &mut sink, &Alone)).expect("a gradient");
    let sums = sink.into_sums().into_iter().map(|g| numbers(&g.expect("every unit is reached")));
    (sums.collect(), reports.into_iter().map(|r| r.loss).collect())
}

/// Demonstrations as rollouts: old log-probabilities of the present policy, and some advantage for each token.
fn rollouts() -> Vec<Group> {
    let policy = start();
    let mut groups = data(5, 0).demonstrations;
    for (i, group) in groups.iter_mut().enumerate() {
        let scores = Engine::Whole.scores(&policy, &Batch::new([&*group], 1));
        let old: Vec<f32> = scores.into_data().try_into_vec().expect("f32");
        let advantage = (0..old.len()).map(|t| (i as f32 - 2.0) * 0.3 + t as f32 * 0.1 - 0.2).collect();
        group.columns.extend([(Column::OldLogProb, old), (Column::Advantage, advantage)]);
    }
    groups
}

#[test]
fn ppos_first_update_is_the_policy_gradient() {
    let batch = Batch::new(&rollouts(), 1);
    let (found, losses) = gradient(&[Term { objective: &PolicyLoss, batches: vec![batch.clone()], factor: 1.0 }]);
    let tokens = batch.response_tokens() as f32;
    let seeds: Vec<f32> = batch.column(Column::Advantage).iter().map(|a| -a / tokens).collect();
    close("loss", losses[0], seeds.iter().map(|s| f64::from(*s)).sum(), 1e-5);
    let (policy, mut sink) = (start(), Accumulate::new(start().units().len()));
    let seed = |scores: Tensor<1>| Tensor::from_data(TensorData::new(seeds, scores.dims()), &scores.device());
    Engine::Autodiff.gradients(&policy, &batch, seed, &mut sink);
    let expected: Vec<Vec<f32>> = sink.into_sums().into_iter().map(|g| numbers(&g.expect("a gradient"))).collect();
    assert!(largest_difference(&found, &expected) <= 1e-5);
}

#[test]
fn a_step_of_two_terms_is_the_weighted_sum_of_their_steps() {
    let (demonstrations, rollouts) = (data(7, 0).demonstrations, rollouts());
    let sft = |factor| {
        let batches = demonstrations.chunks(3).map(|part| Batch::new(part, 1)).collect();
        Term { objective: &Sft, batches, factor }
    };
    let ppo = |factor| Term { objective: &PolicyLoss, batches: vec![Batch::new(&rollouts, 1)], factor };
    let ((sft_gradient, sft_loss), (ppo_gradient, ppo_loss)) = (gradient(&[sft(1.0)]), gradient(&[ppo(1.0)]));
    let weighted = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| 0.3 * a + 0.7 * b).collect();
    let expected: Vec<Vec<f32>> = sft_gradient.iter().zip(&ppo_gradient).map(weighted).collect();
    let (found, losses) = gradient(&[sft(0.3), ppo(0.7)]);
    assert!(largest_difference(&found, &expected) <= 1e-5);
    close("loss of the first term, without its factor", losses[0], sft_loss[0], 1e-6);
    close("loss of the second term, without its factor", losses[1], ppo_loss[0], 1e-6);
}

#[test]
fn a_term_without_weight_is_reported_and_pulls_nowhere() {
    let groups = data(3, 0).demonstrations;
    let term = |factor| [Term { objective: &Sft, batches: vec![Batch::new(&groups, 1)], factor }];
    let (gradient_of_nothing, losses) = gradient(&term(0.0));
    close("loss", losses[0], gradient(&term(1.0)).1[0], 1e-6);
    assert!(gradient_of_nothing.concat().iter().all(|g| *g == 0.0));
}
