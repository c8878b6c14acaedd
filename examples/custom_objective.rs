//! An objective of your own: SimPO (Meng et al. 2024), which ranks answers by their mean log-probability with a margin, in a dozen lines.
//! `cargo run --release -p hbat-examples --example custom_objective`
//!
//! An objective sees one log-probability per response token and nothing of the model; gradients are the engine's affair.

use burn::tensor::{Tensor, TensorData, activation::log_sigmoid};
use hbat::engine::{Accumulate, Engine};
use hbat::error::Error;
use hbat::objective::{Loss, Objective, sum_by_sequence};
use hbat::optimizer::{AdamW, AdamWSettings};
use hbat::reduce::Alone;
use hbat::tokens::Batch;
use hbat::trainer::{Term, accumulate};
use hbat_examples::{tiny_policy, toy_data};

/// −log σ(β·(p_w − p_l) − γ), a mean over pairs, with p the mean log-probability of a response's tokens and the chosen response first.
struct SimPo {
    beta: f64,
    gamma: f64,
}

impl Objective for SimPo {
    fn name(&self) -> &'static str {
        "simpo"
    }

    fn weight(&self, batch: &Batch) -> f64 {
        batch.groups.len() as f64
    }

    fn loss(&self, scores: Tensor<1>, batch: &Batch) -> Loss {
        let pairs = batch.groups.len();
        let lengths: Vec<f32> = batch.sequences.iter().map(|s| s.len() as f32).collect();
        let lengths = Tensor::<2>::from_data(TensorData::new(lengths, [pairs, 2]), &scores.device().inner());
        let means = sum_by_sequence(scores, batch).reshape([pairs, 2]) / lengths;
        let margin = means.clone().narrow(1, 0, 1) - means.narrow(1, 1, 1);
        let loss = log_sigmoid(margin.clone() * self.beta - self.gamma).neg().sum();
        Loss { sum: loss, metrics: vec![("margin", margin.sum())] }
    }
}

fn main() -> Result<(), Error> {
    let mut policy = tiny_policy();
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    let objective = SimPo { beta: 2.0, gamma: 1.0 };
    let pairs = toy_data().preferences;
    for (step, batch) in pairs.chunks(32).enumerate() {
        let mut sink = Accumulate::new(policy.units().len());
        let term = Term { objective: &objective, batches: vec![Batch::new(batch, 8)], factor: 1.0 };
        let reports = pollster::block_on(accumulate(Engine::Whole, &policy, &[term], &mut sink, &Alone))?;
        let norms = pollster::block_on(optimizer.step(&mut policy, sink.into_sums(), None, 2e-3, &Alone))?;
        println!("step {step}  loss {:.3}  {:?}  gradient norm {:.2}", reports[0].loss, reports[0].metrics, norms.gradient);
    }
    Ok(())
}
