//! Models by their size, with random weights that cost no more than copying them.

use burn::tensor::TensorData;
use hbat::compute::{Compute, Moments, Offload, Precision, Weights};
use hbat::model::{InitError, LlamaConfig, Policy, Unit};
use hbat::random::{normal, stream};
use hbat_backends::{DeviceName, open};
use hbat_tests::SMOLLM2;

/// A configuration by its name.
pub(crate) fn config(shape: &str) -> LlamaConfig {
    let text = match shape {
        "toy" => {
            r#"{"vocab_size": 512, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 8,
            "num_key_value_heads": 4, "tie_word_embeddings": false}"#
        }
        "135m" => SMOLLM2,
        "1.1b" => {
            r#"{"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "tie_word_embeddings": false}"#
        }
        "7b" => {
            r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "tie_word_embeddings": false}"#
        }
        "13b" => {
            r#"{"vocab_size": 32000, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
            "num_attention_heads": 40, "tie_word_embeddings": false}"#
        }
        other => panic!("{other} is no shape: toy, 135m, 1.1b, 7b or 13b"),
    };
    serde_json::from_str(text).expect("a configuration")
}

/// A device in f32, as runs have it by default.
pub(crate) fn plain(name: DeviceName) -> Compute {
    hbat_cli::run::compute(name).unwrap_or_else(|error| panic!("{error}"))
}

/// A device in the layout that fits 7 billion parameters into 80 GB; `None` where it does not compute in bf16.
pub(crate) fn narrow(name: DeviceName) -> Option<Compute> {
    let device = open(name).unwrap_or_else(|error| panic!("{error}"));
    let precision = Precision { weights: Weights::Bf16Split, moments: Moments::Bf16, ..Precision::default() };
    let computes = device.supports_dtype(precision.weights.dtype());
    computes.then(|| Compute::device(device).with(precision).offloading(Offload::Anchor))
}

/// The narrow layout, or f32 where there is none.
pub(crate) fn narrowest(name: DeviceName) -> Compute {
    narrow(name).unwrap_or_else(|| plain(name))
}

/// A model whose weights are one block of noise over and over, scaled as LLaMA initialises them; norms are near 1.
pub(crate) fn policy(config: LlamaConfig, compute: Compute) -> Policy {
    let mut rng = stream(0, "noise", &[]);
    let noise: Vec<f32> = (0..1_000_003).map(|_| 0.02 * normal(&mut rng) as f32).collect();
    let values = |unit: &Unit| {
        let offset = if unit.is_vector() { 1.0 } else { 0.0 };
        let values: Vec<f32> = noise.iter().cycle().take(unit.elements()).map(|value| offset + value).collect();
        Ok::<_, InitError>(TensorData::new(values, unit.dims()))
    };
    Policy::load(config, compute, values).expect("shapes that fit")
}
