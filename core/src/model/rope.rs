//! Rotary frequencies, in the words of Hugging Face's `config.json`.

use serde::{Deserialize, Serialize};

use super::config::ConfigError;

/// How rotary frequencies are stretched beyond the context the model was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Frequencies as they are.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The division.
        factor: f64,
    },
    /// Llama 3.1's rule: low frequencies divided by `factor`, high ones kept, those between interpolated.
    Llama3 {
        /// The division of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context length before scaling.
        original_max_position_embeddings: usize,
    },
}

/// What `rope_type` may say.
const TYPES: &str =
    "default, linear (with factor), llama3 (with factor, low_freq_factor, high_freq_factor, original_max_position_embeddings)";

/// What config.json says of them.
#[derive(Deserialize, Clone, Default, PartialEq)]
pub(super) struct RopeParameters {
    rope_type: Option<String>,
    /// The same by its older name; transformers writes both.
    r#type: Option<String>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl RopeParameters {
    pub(super) fn scaling(&self) -> Result<RopeScaling, ConfigError> {
        let unsupported = |value: &str| ConfigError::unsupported("rope_scaling.rope_type", value, TYPES);
        if let Some(factor) = self.factor.filter(|factor| !(factor.is_finite() && *factor > 0.0)) {
            return Err(ConfigError::unsupported("rope_scaling.factor", factor, "finite numbers above 0"));
        }
        let named = self.rope_type.as_deref().or(self.r#type.as_deref());
        match (named.unwrap_or("default"), self.factor) {
            ("default", _) => Ok(RopeScaling::Default),
            ("linear", Some(factor)) => Ok(RopeScaling::Linear { factor }),
            ("llama3", Some(factor)) => {
                match (self.low_freq_factor, self.high_freq_factor, self.original_max_position_embeddings) {
                    (Some(low_freq_factor), Some(high_freq_factor), Some(original_max_position_embeddings)) => {
                        Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings })
                    }
                    _ => Err(unsupported("llama3 without all of its parameters")),
                }
            }
            (other, _) => Err(unsupported(other)),
        }
    }
}
