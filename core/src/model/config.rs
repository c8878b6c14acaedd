//! The configuration of a LLaMA-type model, in the words of Hugging Face's `config.json`.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use super::LayerUnit;
use super::architecture::{Architecture, Family, HeadKind};
use super::rope::{RopeParameters, RopeScaling};
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
        supported: Cow<'static, str>,
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

impl ConfigError {
    /// What a field says, and what would be understood.
    pub(super) fn unsupported(field: &'static str, value: impl ToString, supported: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported { field, value: value.to_string(), supported: supported.into() }
    }
}

/// A LLaMA-type decoder: grouped-query attention, RMSNorm, SwiGLU, rotate-half rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HuggingFaceConfig")]
pub struct LlamaConfig {
    /// The family, and what stands on the decoder.
    #[serde(rename = "architectures")]
    pub architecture: Architecture,
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
    /// Whether the attention's projections have biases: all of them, or those of the family.
    pub attention_bias: bool,
    /// Attention sees so many tokens, the one that looks included; `None`: all. Not implemented: texts must not be longer.
    pub sliding_window: Option<usize>,
    /// The longest sequence the model is meant for.
    pub max_position_embeddings: usize,
}

/// Why a config.json cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It is no JSON, or a field is missing or of another type.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It describes a model that is not implemented, or none.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl LlamaConfig {
    /// Reads a config.json.
    ///
    /// # Errors
    /// See [`ConfigFileError`].
    pub fn from_json(text: &[u8]) -> Result<Self, ConfigFileError> {
        Ok(serde_json::from_slice::<HuggingFaceConfig>(text)?.try_into()?)
    }

    /// The named parameter tensors, in a fixed order: embedding, layers, final norm, head.
    pub fn units(&self) -> Vec<Unit> {
        let (d, v) = (self.hidden_size, self.vocab_size);
        let mut units = vec![Unit::new("model.embed_tokens.weight", &[v, d], Storage::AsIs)];
        for layer in 0..self.num_hidden_layers {
            self.push_layer(&mut units, layer);
        }
        units.push(Unit::new("model.norm.weight", &[d], Storage::AsIs));
        match self.architecture.head {
            HeadKind::Vocabulary if self.tie_word_embeddings => {}
            HeadKind::Vocabulary => units.push(Unit::new("lm_head.weight", &[v, d], Storage::Transposed)),
            HeadKind::Value => units.push(Unit::new("score.weight", &[1, d], Storage::AsIs)),
        }
        units
    }

    /// The same with this on the decoder.
    pub fn with_head(mut self, head: HeadKind) -> Self {
        self.architecture.head = head;
        self
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
        match self.architecture.head {
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
        LayerUnit::OF_ALL.len() + self.extras().len()
    }

    /// Whether every head's queries and keys go through a norm.
    pub(crate) fn norms_heads(&self) -> bool {
        self.extras().contains(&LayerUnit::QueryNorm)
    }

    /// What every layer has beyond the tensors that all families' have.
    pub(crate) fn extras(&self) -> &'static [LayerUnit] {
        self.architecture.family.extras(self.attention_bias)
    }

    fn push_layer(&self, units: &mut Vec<Unit>, layer: usize) {
        for part in LayerUnit::OF_ALL.iter().chain(self.extras()) {
            let shape = self.shape(*part);
            let storage = if shape.len() == 2 { Storage::Transposed } else { Storage::AsIs };
            units.push(Unit::new(&format!("model.layers.{layer}.{}", part.name()), &shape, storage));
        }
    }

    /// The shape of a layer's tensor in a checkpoint.
    fn shape(&self, part: LayerUnit) -> Vec<usize> {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        match part {
            LayerUnit::AttentionNorm | LayerUnit::FeedForwardNorm | LayerUnit::OutputBias => vec![d],
            LayerUnit::Query => vec![q, d],
            LayerUnit::Key | LayerUnit::Value => vec![kv, d],
            LayerUnit::Output => vec![d, q],
            LayerUnit::Gate | LayerUnit::Up => vec![f, d],
            LayerUnit::Down => vec![d, f],
            LayerUnit::QueryBias => vec![q],
            LayerUnit::KeyBias | LayerUnit::ValueBias => vec![kv],
            LayerUnit::QueryNorm | LayerUnit::KeyNorm => vec![self.head_dim],
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
                return Err(ConfigError::unsupported(field, value, "finite numbers above 0"));
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
    #[serde(default, deserialize_with = "present")]
    num_key_value_heads: Option<Option<usize>>,
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
    /// Other families may say anything here.
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<serde_json::Value>>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    max_position_embeddings: Option<usize>,
}

/// What families' attention differs in. What is not said is transformers' default.
struct Attention {
    key_value_heads: usize,
    head_dim: usize,
    bias: bool,
    window: Option<usize>,
}

impl HuggingFaceConfig {
    fn attention(&self, family: Family) -> Result<Attention, ConfigError> {
        let key_value_heads = match (self.num_key_value_heads, family) {
            (Some(heads), _) => heads.unwrap_or(self.num_attention_heads),
            (None, Family::Llama) => self.num_attention_heads,
            (None, Family::Mistral) => 8,
            (None, Family::Qwen2 | Family::Qwen3) => 32,
        };
        let head_dim = match family {
            Family::Qwen3 => 128,
            _ => self.hidden_size / self.num_attention_heads.max(1),
        };
        let head_dim = self.head_dim.unwrap_or(head_dim);
        if matches!(family, Family::Qwen2 | Family::Qwen3) && self.use_sliding_window == Some(true) {
            return Err(ConfigError::unsupported("use_sliding_window", true, "false"));
        }
        let window = match (family, &self.sliding_window) {
            (Family::Mistral, None) => Some(4096),
            (Family::Mistral, Some(Some(window))) => match window.as_u64() {
                Some(window) => Some(window as usize),
                None => return Err(ConfigError::unsupported("sliding_window", window, "a number of tokens, or null")),
            },
            _ => None,
        };
        let known = |kind: &&String| *kind == "full_attention" || (window.is_some() && *kind == "sliding_attention");
        if let Some(other) = self.layer_types.iter().flatten().find(|kind| !known(kind)) {
            return Err(ConfigError::unsupported("layer_types", other, "full_attention"));
        }
        let bias = match family {
            Family::Llama | Family::Qwen3 => self.attention_bias == Some(true),
            Family::Mistral => false,
            Family::Qwen2 => true,
        };
        Ok(Attention { key_value_heads, head_dim, bias, window })
    }
}

/// What a field says that is there, `null` included.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(field).map(Some)
}

impl TryFrom<HuggingFaceConfig> for LlamaConfig {
    type Error = ConfigError;

    fn try_from(raw: HuggingFaceConfig) -> Result<Self, ConfigError> {
        let architecture = Architecture::of(raw.model_type.as_deref(), raw.architectures.as_deref().unwrap_or_default())?;
        let attention = raw.attention(architecture.family)?;
        match raw.hidden_act.as_deref() {
            None | Some("silu" | "swish") => {}
            Some(other) => return Err(ConfigError::unsupported("hidden_act", other, "silu")),
        }
        if raw.mlp_bias == Some(true) {
            return Err(ConfigError::unsupported("mlp_bias", true, "false"));
        }
        // Which of two says what counts, as transformers has it.
        let scaling = raw.rope_scaling.filter(|parameters| *parameters != RopeParameters::default());
        let rope = scaling.or(raw.rope_parameters).unwrap_or_default();
        let rotary = rope.partial_rotary_factor.or(raw.partial_rotary_factor);
        if let Some(factor) = rotary.filter(|factor| *factor != 1.0) {
            return Err(ConfigError::unsupported("partial_rotary_factor", factor, "1"));
        }
        Self {
            architecture,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: attention.key_value_heads,
            head_dim: attention.head_dim,
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: rope.rope_theta.or(raw.rope_theta).unwrap_or(10_000.0),
            rope_scaling: rope.scaling()?,
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            attention_bias: attention.bias,
            sliding_window: attention.window,
            max_position_embeddings: raw.max_position_embeddings.unwrap_or(architecture.family.positions()),
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
        let qwen = parse(r#", "model_type": "qwen2", "num_key_value_heads": 1"#).unwrap();
        assert_eq!(qwen.units().len(), 12 * 2 + 3);
        let biases: Vec<_> = qwen.units().into_iter().filter(|unit| unit.name.ends_with("bias")).collect();
        let first = ["q_proj", "k_proj", "v_proj"].map(|name| format!("model.layers.0.self_attn.{name}.bias"));
        assert_eq!(biases.iter().map(|unit| &unit.name).take(3).collect::<Vec<_>>(), first.iter().collect::<Vec<_>>());
        assert_eq!(biases.iter().map(|unit| unit.shape[0]).collect::<Vec<_>>(), [8, 4, 4, 8, 4, 4]);
        let qwen3 = parse(r#", "model_type": "qwen3", "num_key_value_heads": 1"#).unwrap();
        assert_eq!((qwen3.head_dim, qwen3.units().len()), (128, 11 * 2 + 3));
        let norm = qwen3.units().into_iter().find(|unit| unit.name == "model.layers.0.self_attn.q_norm.weight");
        assert_eq!(norm, Some(Unit::new("model.layers.0.self_attn.q_norm.weight", &[128], Storage::AsIs)));
        let value = parse(r#", "architectures": ["LlamaForSequenceClassification"], "tie_word_embeddings": true"#).unwrap();
        assert_eq!(value.units().last(), Some(&Unit::new("score.weight", &[1, 8], Storage::AsIs)));
    }

    #[test]
    fn what_is_not_said_is_the_familys_own() {
        let of = |extra: &str| parse(&format!(", {extra}")).map(|c| (c.num_key_value_heads, c.max_position_embeddings));
        assert_eq!(of(r#""model_type": "llama""#), Ok((2, 2048)));
        assert_eq!(of(r#""model_type": "qwen3", "num_key_value_heads": null"#), Ok((2, 32_768)));
        assert_eq!(of(r#""model_type": "mistral", "num_key_value_heads": 1"#), Ok((1, 131_072)));
        let many = of(r#""model_type": "qwen2""#).unwrap_err();
        assert!(many.contains("`num_key_value_heads` is 32, but it must divide num_attention_heads"), "{many}");
    }

    #[test]
    fn only_mistral_has_a_window() {
        let mistral = r#", "model_type": "mistral", "num_key_value_heads": 2"#;
        assert_eq!(parse(mistral).unwrap().sliding_window, Some(4096));
        assert_eq!(parse(&format!(r#"{mistral}, "sliding_window": null"#)).unwrap().sliding_window, None);
        assert_eq!(parse(&format!(r#"{mistral}, "sliding_window": 32"#)).unwrap().sliding_window, Some(32));
        assert_eq!(parse(r#", "sliding_window": -1"#).unwrap().sliding_window, None);
        let qwen = r#", "model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 32, "use_sliding_window": false"#;
        assert_eq!(parse(qwen).unwrap().sliding_window, None);
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
        let qwen = r#", "model_type": "qwen2", "num_key_value_heads": 1"#;
        let mistral = r#", "architectures": ["MistralForCausalLM"], "num_key_value_heads": 2, "sliding_window": null"#;
        let qwen3 = r#", "model_type": "qwen3", "num_key_value_heads": 1, "attention_bias": true"#;
        for extra in ["", r#", "architectures": ["LlamaForSequenceClassification"]"#, stretched, qwen, mistral, qwen3] {
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
        let window = r#", "model_type": "mistral", "num_key_value_heads": 2, "sliding_window": -1"#;
        assert!(message(window).contains("`sliding_window` is -1"));
        let qwen = r#", "model_type": "qwen2", "num_key_value_heads": 1"#;
        assert!(message(&format!(r#"{qwen}, "use_sliding_window": true"#)).contains("`use_sliding_window` is true"));
        let layers = r#""layer_types": ["full_attention", "sliding_attention"]"#;
        assert!(message(&format!("{qwen}, {layers}")).contains("`layer_types` is sliding_attention; supported: full_attention"));
        assert!(message(r#", "hidden_act": "gelu""#).contains("`hidden_act` is gelu"));
        assert!(message(r#", "rope_scaling": {"rope_type": "yarn", "factor": 2.0}"#).contains("yarn"));
        assert!(message(r#", "num_key_value_heads": 3"#).contains("must divide num_attention_heads"));
    }
}
