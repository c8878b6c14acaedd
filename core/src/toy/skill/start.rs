//! The models that experiments start from: each knows the four tasks, in no particular manner.

use serde::{Deserialize, Serialize};

use super::TOKENS;
use crate::compute::Compute;
use crate::model::{Architecture, FileError, LlamaConfig, Policy, RopeScaling, from_safetensors};

/// A start model by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// 57 000 parameters: two layers, 48 wide.
    Tiny,
    /// 144 000 parameters: three layers, 64 wide.
    #[default]
    Small,
    /// 230 000 parameters: three layers, 80 wide.
    Medium,
}

/// `config.json` and `model.safetensors` (f16) of a start model, which `make_toy_start` writes.
macro_rules! files {
    ($size:literal) => {
        [
            ("config.json", include_bytes!(concat!("../../../assets/toy/", $size, "/config.json"))),
            ("model.safetensors", include_bytes!(concat!("../../../assets/toy/", $size, "/model.safetensors"))),
        ]
    };
}

impl Size {
    /// Every size, the smallest first.
    pub const ALL: [Self; 3] = [Self::Tiny, Self::Small, Self::Medium];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Medium => "medium",
        }
    }

    /// The model's configuration; its sequences have at most 23 tokens.
    ///
    /// Rotary frequencies have a base of 100: with the usual 10 000 most of them would not turn within so few positions.
    pub fn config(self) -> LlamaConfig {
        let [hidden_size, intermediate_size, num_hidden_layers, heads] = match self {
            Self::Tiny => [48, 128, 2, 3],
            Self::Small => [64, 160, 3, 4],
            Self::Medium => [80, 208, 3, 5],
        };
        LlamaConfig {
            architecture: Architecture::LLAMA,
            vocab_size: TOKENS.len(),
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim: hidden_size / heads,
            rms_norm_eps: 1e-6,
            rope_theta: 100.0,
            rope_scaling: RopeScaling::Default,
            tie_word_embeddings: true,
            attention_bias: false,
            sliding_window: None,
            max_position_embeddings: 64,
        }
    }

    /// The start model's files, in Hugging Face layout, by name.
    pub fn files(self) -> [(&'static str, &'static [u8]); 2] {
        match self {
            Self::Tiny => files!("tiny"),
            Self::Small => files!("small"),
            Self::Medium => files!("medium"),
        }
    }

    /// The start model.
    ///
    /// # Errors
    /// If its file is damaged.
    pub fn policy(self, compute: Compute) -> Result<Policy, FileError> {
        let [_, (_, weights)] = self.files();
        from_safetensors(self.config(), compute, weights)
    }
}
