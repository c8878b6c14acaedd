//! A model with random weights.

use std::convert::Infallible;

use burn::tensor::TensorData;

use crate::compute::Compute;
use crate::model::{InitError, LlamaConfig, Policy, Unit};
use crate::random::{normal, stream};

/// A policy with random weights, a function of the seed and each unit's name.
///
/// Norms are 1 and biases 0. A matrix is normal with variance 1 / inputs, so that activations keep their size whatever
/// the width (a fixed 0.02, as in large models, would start a model 64 wide with almost no signal); matrices that write
/// into the residual stream are smaller by √(2 · layers), as in GPT-2. An embedding counts the width as its inputs, so
/// that it fits a head tied to it.
pub fn random_policy(config: LlamaConfig, compute: Compute, seed: u64) -> Policy {
    let layers = config.num_hidden_layers;
    let read = |unit: &Unit| Ok::<_, Unreachable>(TensorData::new(values(unit, layers, seed), unit.dims()));
    match Policy::load(config, compute, read) {
        Ok(policy) => policy,
        Err(Unreachable(never)) => match never {},
    }
}

/// Random weights have the shapes they are asked for.
struct Unreachable(Infallible);

impl From<InitError> for Unreachable {
    fn from(error: InitError) -> Self {
        unreachable!("{error}")
    }
}

fn values(unit: &Unit, layers: usize, seed: u64) -> Vec<f32> {
    if unit.is_vector() {
        let value = if unit.name.ends_with("bias") { 0.0 } else { 1.0 };
        return vec![value; unit.elements()];
    }
    let inputs = unit.shape[1] as f64; // [out, in], or [V, D]
    let writes = unit.name.ends_with("o_proj.weight") || unit.name.ends_with("down_proj.weight");
    let damping = if writes { 2.0 * layers as f64 } else { 1.0 };
    let std = (1.0 / (inputs * damping)).sqrt();
    let mut rng = stream(seed, &unit.name, &[]);
    (0..unit.elements()).map(|_| (std * normal(&mut rng)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    fn policy(seed: u64) -> Policy {
        let config = r#"{"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "attention_bias": true}"#;
        random_policy(serde_json::from_str(config).unwrap(), Compute::host(Device::flex()), seed)
    }

    fn std(tensor: &Tensor<2>) -> f64 {
        let values = tensor.to_data().try_into_vec::<f32>().unwrap();
        (values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    fn check(unit: &str, expect: f64) {
        let policy = policy(1);
        let index = policy.units().iter().position(|u| u.name.ends_with(unit)).unwrap();
        let found = std(&policy.tensors()[index]);
        assert!((found - expect).abs() <= 0.05 * expect, "{unit}: {found}, not {expect}");
    }

    #[test]
    fn activations_keep_their_size() {
        check("embed_tokens.weight", 1.0 / 8.0);
        check("q_proj.weight", 1.0 / 8.0);
        check("o_proj.weight", 1.0 / 16.0);
        check("down_proj.weight", 1.0 / (96.0f64 * 4.0).sqrt());
        check("input_layernorm.weight", 1.0);
        check("k_proj.bias", 0.0);
    }

    #[test]
    fn weights_are_a_function_of_the_seed() {
        let weights = |seed| policy(seed).tensors()[0].to_data();
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
    }
}
