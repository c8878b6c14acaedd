//! How fast a device trains, from one layer timed on it.

use std::time::Instant;

use anyhow::Context;
use hbat::budget::{Pass, PhaseBudget, flops};
use hbat::engine::{Accumulate, Engine};
use hbat::model::{LlamaConfig, Policy};
use hbat::optimizer::{AdamW, AdamWSettings};
use hbat::reduce::Alone;
use hbat::tokens::{Batch, Group, Sequence};
use hbat::toy::random_policy;
use serde::Serialize;

use super::needs::Needs;
use crate::config::Plan;

/// Tokens of the timed pass at most.
const TOKENS: usize = 1024;
/// Token ids of the timed model at most: its head is to weigh little beside its layer.
const VOCABULARY: usize = 2048;
/// Timed rounds; the fastest counts.
const ROUNDS: usize = 3;

/// How fast a device trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Floating-point operations per second of forward and backward passes.
    pub flops: f64,
    /// Weights that the optimizer updates per second; `None`: it takes no time to speak of.
    pub updates: Option<f64>,
}

impl Speed {
    /// As somebody says who knows the device.
    pub fn stated(flops: f64) -> Self {
        Self { flops, updates: None }
    }

    /// Seconds for a phase's steps of a model of so many weights; of a critic as large.
    pub fn seconds(&self, phase: &PhaseBudget, weights: usize) -> f64 {
        let update = self.updates.map_or(0.0, |rate| weights as f64 / rate);
        phase.flops / self.flops + phase.updates as f64 * update
    }
}

/// Times one layer of a run's model, on its device and with its engine.
///
/// # Errors
/// If the device is not there, or fails.
pub async fn measured_speed(plan: &Plan, needs: &Needs) -> anyhow::Result<Speed> {
    let mean_lengths = needs.methods.iter().flat_map(|m| &m.phases).map(|phase| phase.tokens / phase.sequences.max(1));
    let width = mean_lengths.max().unwrap_or(1).clamp(2, TOKENS);
    let rows = (TOKENS / width).clamp(1, plan.settings.micro_batch.max(1));
    let config =
        LlamaConfig { num_hidden_layers: 1, vocab_size: needs.config.vocab_size.min(VOCABULARY), ..needs.config.clone() };
    let mut policy = random_policy(config, super::compute_for(plan)?, 0);
    let batch = batch(rows, width, policy.config().vocab_size)?;
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    let mut best = [f64::INFINITY; 2];
    for _ in 0..=ROUNDS {
        let times = round(&mut policy, &mut optimizer, plan.settings.engine, &batch).await?;
        best = [best[0].min(times[0]), best[1].min(times[1])];
    }
    let pass = Pass {
        rows,
        width,
        sequences: rows,
        tokens: rows * width,
        reads: batch.response_tokens(),
        squares: rows * width * width,
    };
    let weights: usize = policy.units().iter().map(hbat::model::Unit::elements).sum();
    let flops = flops(policy.config(), plan.settings.engine, &pass);
    Ok(Speed { flops: flops / best[0], updates: Some(weights as f64 / best[1]) })
}

/// Seconds of one pass, and of one update.
async fn round(policy: &mut Policy, optimizer: &mut AdamW, engine: Engine, batch: &Batch) -> anyhow::Result<[f64; 2]> {
    let began = Instant::now();
    let mut sink = Accumulate::new(policy.units().len());
    engine.gradients(policy, batch, |scores| scores.ones_like(), &mut sink);
    let sums = sink.into_sums();
    settle(sums[0].as_ref().context("the embedding has a gradient")?).await?;
    let passed = began.elapsed().as_secs_f64();
    optimizer.step(policy, sums, None, 0.0, &Alone).await?;
    settle(&policy.tensors()[0]).await?;
    Ok([passed, began.elapsed().as_secs_f64() - passed])
}

/// Waits until the device has computed everything that this tensor comes after.
async fn settle(tensor: &burn::tensor::Tensor<2>) -> anyhow::Result<()> {
    let element = tensor.clone().slice([0..1, 0..1]).into_scalar_async::<f32>();
    element.await.map_err(|error| anyhow::anyhow!("the device failed: {error}"))?;
    Ok(())
}

fn batch(rows: usize, width: usize, vocabulary: usize) -> anyhow::Result<Batch> {
    let token = |row: usize, t: usize| ((row * 7919 + t * 104_729) % vocabulary) as u32;
    let sequence = |row: usize| {
        let tokens: Vec<u32> = (0..width).map(|t| token(row, t)).collect();
        Sequence::new(tokens[..width / 2].to_vec(), &tokens[width / 2..])
    };
    let groups: Result<Vec<Group>, _> =
        (0..rows).map(|row| Ok::<_, hbat::tokens::SequenceError>(Group::demonstration(row, sequence(row)?))).collect();
    Ok(Batch::new(&groups?, 1))
}
