//! What the benchmarks and tests share; the tests themselves are in `it`.

mod attention;
mod shapes;

pub use attention::{PlainAttention, mask};
pub use shapes::{config, data, two_phases};

use hbat::compute::{Compute, Offload};
use hbat::engine::{Accumulate, Engine};
use hbat::model::{Policy, Unit};
use hbat::objective::{Dpo, Objective, Reward, Rrhf};
use hbat::optimizer::{AdamWSettings, Decay, Pull, Strength};
use hbat::ppo::Ppo;
use hbat::reduce::Alone;
use hbat::rollout::Raft;
use hbat::schedule::{Order, Training, Warmup};
use hbat::slab::Slab;
use hbat::tokens::{Batch, Sequence};
use hbat::toy::random_policy;
use hbat::trainer::{KeepStart, Settings, StoredWeights, Term, UpdateTiming, accumulate};
use hbat_backends::{DeviceName, open};

/// SmolLM2-135M's shape.
pub const SMOLLM2: &str = r#"{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true, "rope_theta": 100000.0}"#;

/// A model of SmolLM2-135M's shape with random weights, on the CPU.
///
/// # Panics
/// If there is none.
pub fn policy() -> Policy {
    let config = serde_json::from_str(SMOLLM2).expect("a configuration");
    random_policy(config, Compute::host(open(DeviceName::Cpu).expect("a CPU")), 0)
}

/// Tokens below `vocabulary` that no other index has, the first `prompt` of `width` the prompt.
///
/// # Panics
/// If prompt or response are empty.
pub fn sequence(index: usize, (prompt, width): (usize, usize), vocabulary: usize) -> Sequence {
    let token = |t: usize| ((index * 7919 + t * 104_729) % vocabulary) as u32;
    let response: Vec<u32> = (prompt..width).map(token).collect();
    Sequence::new((0..prompt).map(token).collect(), &response).expect("neither is empty")
}

/// Zeros for θ before a phase, where nobody looks at C.
pub struct Zeros;

impl StoredWeights for Zeros {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        Ok(vec![0.0; unit.elements()])
    }
}

/// One epoch at a constant rate.
pub fn training(batch_size: usize) -> Training {
    Training {
        learning_rate: 1e-6,
        decay: Decay::Constant,
        warmup: Warmup { steps: 0, fraction: 0.0 },
        batch_size,
        epochs: 1,
        optimizer: AdamWSettings::default(),
    }
}

/// Passes of so many rows through the segmented engine, in the data's order.
pub fn settings(rows: usize) -> Settings {
    Settings {
        seed: 0,
        order: Order::AsGiven,
        engine: Engine::Segmented,
        micro_batch: rows,
        bucket: 1,
        pack: None,
        dpo: Dpo::default(),
        ppo: Ppo::default(),
        rrhf: Rrhf::default(),
        raft: Raft::default(),
        reward: Reward::default(),
        keep_start: KeepStart::Stored,
        update: UpdateTiming::AfterBackward,
    }
}

/// A penalty that holds every unit alike to the weights as they are, with importances that sum to 100.
///
/// # Panics
/// If the device fails.
pub async fn pull(policy: &Policy) -> Pull {
    let mut anchor = Vec::new();
    for unit in 0..policy.units().len() {
        let slab = match policy.compute().layout.offload {
            Offload::Anchor => Slab::lent(policy.exact(unit)).await,
            _ => Slab::copy(&policy.exact(unit), policy.compute()).await,
        };
        anchor.push(slab.expect("values"));
    }
    Pull { strength: vec![Strength::PerUnit(100.0 / anchor.len() as f64); anchor.len()], anchor }
}

/// Loss and every unit's gradient of an objective on one batch.
///
/// # Panics
/// If the device fails.
pub async fn gradient(policy: &Policy, engine: Engine, objective: &dyn Objective, batch: Batch) -> (f64, Vec<Vec<f32>>) {
    let mut sink = Accumulate::new(policy.units().len());
    let terms = [Term { objective, batches: vec![batch], factor: 1.0 }];
    let reports = accumulate(engine, policy, &terms, &mut sink, &Alone).await.expect("a gradient");
    let mut gradients = Vec::new();
    for sum in sink.into_sums() {
        let data = sum.expect("every unit has a gradient").into_data_async().await.expect("numbers");
        gradients.push(data.convert::<f32>().try_into_vec().expect("f32"));
    }
    (reports[0].loss, gradients)
}

/// The upper median.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
