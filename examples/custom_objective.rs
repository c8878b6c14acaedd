//! An objective of your own: RRHF (Yuan et al. 2023), which ranks answers by reward, in twenty lines of arithmetic.
//! `cargo run --release -p hbat-examples --example custom_objective`
//!
//! An objective sees one log-probability per response token and nothing of the model; gradients are the engine's affair.

use burn::tensor::{Tensor, TensorData, activation::relu};
use hbat::engine::{Accumulate, Engine};
use hbat::error::Error;
use hbat::objective::{Loss, Objective, sum_by_sequence};
use hbat::optimizer::{AdamW, AdamWSettings};
use hbat::reduce::Alone;
use hbat::tokens::{Batch, Column, Group};
use hbat::trainer::{Term, accumulate};
use hbat_examples::{tiny_policy, toy_data};

/// Σ_{r_i < r_j} max(0, p_i − p_j) − log π(y_best), with p the length-normalised log-probability. Two answers per prompt,
/// the better one first.
struct Rrhf;

impl Objective for Rrhf {
    fn name(&self) -> &'static str {
        "rrhf"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.groups.len() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let pairs = batch.groups.len();
        assert!(batch.column(Column::Reward).chunks(2).all(|r| r[0] > r[1]), "the better answer comes first");
        let lengths: Vec<f32> = batch.sequences.iter().map(|s| s.len() as f32).collect();
        let lengths = Tensor::<2>::from_data(TensorData::new(lengths, [pairs, 2]), &scores.device().inner());
        let sums = sum_by_sequence(scores, batch).reshape([pairs, 2]);
        let means = sums.clone() / lengths;
        let (better, worse) = (means.clone().narrow(1, 0, 1), means.narrow(1, 1, 1));
        let ranking = relu(worse - better).sum();
        let likelihood = sums.narrow(1, 0, 1).sum();
        Loss { sum: ranking.clone() - likelihood, metrics: vec![("ranking", ranking)] }
    }
}

fn main() -> Result<(), Error> {
    let mut policy = tiny_policy();
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    let pairs: Vec<Group> = toy_data().preferences.into_iter().map(ranked).collect();
    for (step, batch) in pairs.chunks(32).enumerate() {
        let mut sink = Accumulate::new(policy.units().len());
        let term = Term { objective: &Rrhf, batches: vec![Batch::new(batch, 8)], factor: 1.0 };
        let reports = pollster::block_on(accumulate(Engine::Whole, &policy, &[term], &mut sink, &Alone))?;
        let norms = pollster::block_on(optimizer.step(&mut policy, sink.into_sums(), None, 2e-3, &Alone))?;
        println!("step {step}  loss {:.3}  {:?}  gradient norm {:.2}", reports[0].loss, reports[0].metrics, norms.gradient);
    }
    Ok(())
}

/// Gives the chosen answer the higher reward.
fn ranked(mut pair: Group) -> Group {
    pair.columns.insert(Column::Reward, vec![1.0, 0.0]);
    pair
}
