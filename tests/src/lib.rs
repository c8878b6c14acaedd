//! What the benchmarks share; the tests themselves are in `it`.

use hbat::compute::Compute;
use hbat::model::Policy;
use hbat::tokens::Sequence;
use hbat::toy::random_policy;
use hbat_backends::{DeviceName, open};

/// SmolLM2-135M's shape.
const CONFIG: &str = r#"{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true, "rope_theta": 100000.0}"#;

/// A model of SmolLM2-135M's shape with random weights, on the CPU.
///
/// # Panics
/// If there is none.
pub fn policy() -> Policy {
    let config = serde_json::from_str(CONFIG).expect("a configuration");
    random_policy(config, Compute::host(open(DeviceName::Cpu).expect("a CPU")), 0)
}

/// Tokens that no other index has.
///
/// # Panics
/// If prompt or response are empty.
pub fn sequence(index: usize, prompt: usize, width: usize) -> Sequence {
    let token = |t: usize| ((index * 7919 + t * 104_729) % 49_152) as u32;
    let response: Vec<u32> = (prompt..width).map(token).collect();
    Sequence::new((0..prompt).map(token).collect(), &response).expect("neither is empty")
}

/// The upper median.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
