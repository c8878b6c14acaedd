//! The configuration of a LLaMA-type model, in the words of Hugging Face's `config.json`.

use serde::{Deserialize, Serialize};

use super::units::{Storage, Unit};
use crate::kernel::attention::Heads;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Another architecture, or an option of this one that is not implemented.
    #[error("`{field}` is {value}; supported: {supported}")]
    Unsupported {
        /// The field of config.json.
        field: &'static str,
        /// What it says.
        value: String,
        /// What would be understood.
        supported: &'static str,
    },
    /// Numbers that do not fit each other.
    #[error("`{field}` is {value}, but {rule}")]
    Inconsistent {
        /// The field of config.json.
        field: &'static str,
        /// What it says.
        value: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
}

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

/// What stands on the decoder, after Hugging Face's class in `architectures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "[&'static str; 1]")]
pub enum HeadKind {
    /// A score for every token of the vocabulary: `LlamaForCausalLM`.
    Vocabulary,
    /// One number, `score.weight` `[1, D]` without bias: `LlamaForSequenceClassification` with one label.
    Value,
}

impl HeadKind {
    fn of(architectures: &[String]) -> Result<Self, ConfigError> {
        match architectures {
            [] => Ok(Self::Vocabulary),
            [name] if name == "LlamaForCausalLM" => Ok(Self::Vocabulary),
            [name] if name == "LlamaForSequenceClassification" => Ok(Self::Value),
            other => Err(ConfigError::Unsupported {
                field: "architectures",
                value: other.join(", "),
                supported: "LlamaForCausalLM, LlamaForSequenceClassification",
            }),
        }
    }
}

impl From<HeadKind> for [&'static str; 1] {
    fn from(head: HeadKind) -> Self {
        match head {
            HeadKind::Vocabulary => ["LlamaForCausalLM"],
            HeadKind::Value => ["LlamaForSequenceClassification"],
        }
    }
}

/// A LLaMA-type decoder: grouped-query attention, RMSNorm, SwiGLU, rotate-half rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HuggingFaceConfig")]
pub struct LlamaConfig {
    /// What stands on the decoder.
    #[serde(rename = "architectures")]
    pub head: HeadKind,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads per layer.
    pub num_attention_heads: usize,
    /// Key and value heads per layer.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// ε of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Whether the vocabulary head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the attention's projections have biases.
    pub attention_bias: bool,
    /// The longest sequence the model is meant for.
    pub max_position_embeddings: usize,
}

impl LlamaConfig {
    /// The named parameter tensors, in a fixed order: embedding, layers, final norm, head.
    pub fn units(&self) -> Vec<Unit> {
        let (d, v) = (self.hidden_size, self.vocab_size);
        let mut units = vec![Unit::new("model.embed_tokens.weight", &[v, d], Storage::AsIs)];
        for layer in 0..self.num_hidden_layers {
            self.push_layer(&mut units, layer);
        }
        units.push(Unit::new("model.norm.weight", &[d], Storage::AsIs));
        match self.head {
            HeadKind::Vocabulary if self.tie_word_embeddings => {}
            HeadKind::Vocabulary => units.push(Unit::new("lm_head.weight", &[v, d], Storage::Transposed)),
            HeadKind::Value => units.push(Unit::new("score.weight", &[1, d], Storage::AsIs)),
        }
        units
    }

    /// The unit index of a layer's first tensor.
    pub(crate) fn layer_start(&self, layer: usize) -> usize {
        1 + layer * self.units_per_layer()
    }

    /// The unit index of the final norm.
    pub(crate) fn norm_index(&self) -> usize {
        self.layer_start(self.num_hidden_layers)
    }

    /// The unit index of the head; 0, the embedding, where they are tied.
    pub fn head_index(&self) -> usize {
        match self.head {
            HeadKind::Vocabulary if self.tie_word_embeddings => 0,
            _ => self.norm_index() + 1,
        }
    }

    /// The heads of every layer's attention.
    pub(crate) fn heads(&self) -> Heads {
        Heads { query: self.num_attention_heads, key_value: self.num_key_value_heads, dim: self.head_dim }
    }

    /// How many units a layer has.
    pub fn units_per_layer(&self) -> usize {
        if self.attention_bias { 13 } else { 9 }
    }

    fn push_layer(&self, units: &mut Vec<Unit>, layer: usize) {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let mut vector =
            |name: &str, n: usize| units.push(Unit::new(&format!("model.layers.{layer}.{name}"), &[n], Storage::AsIs));
        vector("input_layernorm.weight", d);
        vector("post_attention_layernorm.weight", d);
        let mut linear = |name: &str, out: usize, input: usize| {
            units.push(Unit::new(&format!("model.layers.{layer}.{name}.weight"), &[out, input], Storage::Transposed));
        };
        linear("self_attn.q_proj", q, d);
        linear("self_attn.k_proj", kv, d);
        linear("self_attn.v_proj", kv, d);
        linear("self_attn.o_proj", d, q);
        linear("mlp.gate_proj", f, d);
        linear("mlp.up_proj", f, d);
        linear("mlp.down_proj", d, f);
        if self.attention_bias {
            for (name, n) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv), ("o_proj", d)] {
                units.push(Unit::new(&format!("model.layers.{layer}.self_attn.{name}.bias"), &[n], Storage::AsIs));
            }
        }
    }

    fn check(self) -> Result<Self, ConfigError> {
        let inconsistent = |field, value, rule| Err(ConfigError::Inconsistent { field, value, rule });
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
        ] {
            if value == 0 {
                return inconsistent(field, value, "it must be at least 1");
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return inconsistent("num_key_value_heads", self.num_key_value_heads, "it must divide num_attention_heads");
        }
        if !self.head_dim.is_multiple_of(2) {
            return inconsistent("head_dim", self.head_dim, "rotary embedding needs an even number");
        }
        for (field, value) in [("rope_theta", self.rope_theta), ("rms_norm_eps", self.rms_norm_eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(ConfigError::Unsupported { field, value: value.to_string(), supported: "finite numbers above 0" });
            }
        }
        Ok(self)
    }
}

/// The fields of config.json that are read, under the names that transformers has used over time.
#[derive(Deserialize)]
struct HuggingFaceConfig {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
    partial_rotary_factor: Option<f64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    max_position_embeddings: Option<usize>,
}

#[derive(Deserialize, Clone, Default, PartialEq)]
struct RopeParameters {
    rope_type: Option<String>,
    /// The same by its older name; transformers writes both.
    r#type: Option<String>,
    partial_rotary_factor: Option<f64>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl RopeParameters {
    fn scaling(&self) -> Result<RopeScaling, ConfigError> {
        let unsupported = |value: &str| ConfigError::Unsupported {
            field: "rope_scaling.rope_type",
            value: value.into(),
            supported: "default, linear (with factor), llama3 (with factor, low_freq_factor, high_freq_factor, original_max_position_embeddings)",
        };
        if let Some(factor) = self.factor.filter(|factor| !(factor.is_finite() && *factor > 0.0)) {
            let (field, supported) = ("rope_scaling.factor", "finite numbers above 0");
            return Err(ConfigError::Unsupported { field, value: factor.to_string(), supported });
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

impl TryFrom<HuggingFaceConfig> for LlamaConfig {
    type Error = ConfigError;

    fn try_from(raw: HuggingFaceConfig) -> Result<Self, ConfigError> {
        let unsupported = |field, value: &str, supported| ConfigError::Unsupported { field, value: value.into(), supported };
        match raw.model_type.as_deref() {
            None | Some("llama") => {}
            Some(other) => return Err(unsupported("model_type", other, "llama")),
        }
        match raw.hidden_act.as_deref() {
            None | Some("silu" | "swish") => {}
            Some(other) => return Err(unsupported("hidden_act", other, "silu")),
        }
        if raw.mlp_bias == Some(true) {
            return Err(unsupported("mlp_bias", "true", "false"));
        }
        // Which of two says what counts, as transformers has it.
        let scaling = raw.rope_scaling.filter(|parameters| *parameters != RopeParameters::default());
        let rope = scaling.or(raw.rope_parameters).unwrap_or_default();
        let rotary = rope.partial_rotary_factor.or(raw.partial_rotary_factor);
        if let Some(factor) = rotary.filter(|factor| *factor != 1.0) {
            return Err(unsupported("partial_rotary_factor", &factor.to_string(), "1"));
        }
        Self {
            head: HeadKind::of(raw.architectures.as_deref().unwrap_or_default())?,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: raw.head_dim.unwrap_or(raw.hidden_size / raw.num_attention_heads.max(1)),
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: rope.rope_theta.or(raw.rope_theta).unwrap_or(10_000.0),
            rope_scaling: rope.scaling()?,
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            attention_bias: raw.attention_bias.unwrap_or(false),
            max_position_embeddings: raw.max_position_embeddings.unwrap_or(2048),
        }
        .check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str =
        r#""vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2"#;

    fn parse(extra: &str) -> Result<LlamaConfig, String> {
        serde_json::from_str(&format!("{{{TINY}{extra}}}")).map_err(|e| e.to_string())
    }

    #[test]
    fn units_are_those_of_the_hugging_face_layout() {
        let untied = parse("").unwrap();
        assert_eq!(untied.units().len(), 9 * 2 + 3);
        assert_eq!(untied.num_key_value_heads, 2);
        assert_eq!(parse(r#", "tie_word_embeddings": true"#).unwrap().units().len(), 9 * 2 + 2);
        assert_eq!(parse(r#", "attention_bias": true"#).unwrap().units().len(), 13 * 2 + 3);
        let value = parse(r#", "architectures": ["LlamaForSequenceClassification"], "tie_word_embeddings": true"#).unwrap();
        assert_eq!(value.units().last(), Some(&Unit::new("score.weight", &[1, 8], Storage::AsIs)));
    }

    #[test]
    fn rope_parameters_are_read_from_either_place() {
        let old = parse(r#", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}"#).unwrap();
        let new = parse(r#", "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}"#).unwrap();
        let both =
            parse(r#", "rope_theta": 5e5, "rope_scaling": {"type": "old", "rope_type": "linear", "factor": 2.0}"#).unwrap();
        assert_eq!(old, both);
        assert_eq!(old, new);
        assert_eq!(old.rope_scaling, RopeScaling::Linear { factor: 2.0 });
    }

    #[test]
    fn of_two_rope_parameters_those_count_that_count_for_transformers() {
        let theta = parse(r#", "rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}"#).unwrap();
        assert_eq!((theta.rope_theta, theta.rope_scaling), (5e5, RopeScaling::Default));
        let linear = r#""rope_parameters": {"rope_type": "linear", "factor": 2.0}"#;
        let scaling = parse(&format!(r#", "rope_scaling": {{"rope_type": "linear", "factor": 4.0}}, {linear}"#)).unwrap();
        assert_eq!(scaling.rope_scaling, RopeScaling::Linear { factor: 4.0 });
        let empty = parse(&format!(r#", "rope_scaling": {{}}, {linear}"#)).unwrap();
        assert_eq!(empty.rope_scaling, RopeScaling::Linear { factor: 2.0 });
    }

    #[test]
    fn rope_parameters_that_make_no_rotation_are_refused() {
        let nothing = parse(r#", "rope_scaling": {"type": "linear", "factor": 0.0}"#).unwrap_err();
        assert!(nothing.contains("rope_scaling.factor") && nothing.contains("above 0"), "{nothing}");
        let partial = parse(r#", "rope_parameters": {"partial_rotary_factor": 0.5}"#).unwrap_err();
        assert!(partial.contains("partial_rotary_factor"), "{partial}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let stretched = r#", "rope_scaling": {"rope_type": "linear", "factor": 2.0}"#;
        for extra in ["", r#", "architectures": ["LlamaForSequenceClassification"]"#, stretched] {
            let config = parse(extra).unwrap();
            let written = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<LlamaConfig>(&written).unwrap(), config);
        }
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_name() {
        let message = |extra: &str| parse(extra).unwrap_err();
        assert!(message(r#", "model_type": "mamba""#).contains("`model_type` is mamba; supported: llama"));
        assert!(message(r#", "architectures": ["LlamaModel"]"#).contains("`architectures` is LlamaModel"));
        assert!(message(r#", "hidden_act": "gelu""#).contains("`hidden_act` is gelu"));
        assert!(message(r#", "rope_scaling": {"rope_type": "yarn", "factor": 2.0}"#).contains("yarn"));
        assert!(message(r#", "num_key_value_heads": 3"#).contains("must divide num_attention_heads"));
    }
}
