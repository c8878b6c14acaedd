//! Which of Hugging Face's classes a model is: a family of decoders, and what stands on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::LayerUnit;
use super::config::ConfigError;

/// Decoders that compute alike, but for what attention does with queries and keys, and how far it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// LLaMA, and what calls itself so. All projections of attention have biases, or none (`attention_bias`).
    Llama,
    /// Mistral: without biases; attention may see a window of tokens only (`sliding_window`).
    Mistral,
    /// Qwen2 and 2.5: queries, keys and values have biases, the output has none.
    Qwen2,
    /// Qwen3, the dense ones: every head's queries and keys go through a norm before they are turned. Biases as LLaMA's.
    Qwen3,
}

impl Family {
    const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// What `model_type` may say.
    pub const MODEL_TYPES: &str = "llama, mistral, qwen2, qwen3";

    /// `model_type` in config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The family of a `model_type`.
    pub fn of_type(model_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.model_type() == model_type)
    }

    /// What a layer has beyond the nine tensors of all, in order; some families' projections have biases or none.
    pub(super) fn extras(self, biases: bool) -> &'static [LayerUnit] {
        use LayerUnit::{KeyBias, KeyNorm, OutputBias, QueryBias, QueryNorm, ValueBias};
        match (self, biases) {
            (Self::Mistral, _) | (Self::Llama, false) => &[],
            (Self::Llama, true) => &[QueryBias, KeyBias, ValueBias, OutputBias],
            (Self::Qwen2, _) => &[QueryBias, KeyBias, ValueBias],
            (Self::Qwen3, false) => &[QueryNorm, KeyNorm],
            (Self::Qwen3, true) => &[QueryBias, KeyBias, ValueBias, OutputBias, QueryNorm, KeyNorm],
        }
    }

    /// The longest sequence where config.json does not say, as transformers has it.
    pub(super) fn positions(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Mistral => 4096 * 32,
            Self::Qwen2 | Self::Qwen3 => 32_768,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Qwen3 => "Qwen3",
        }
    }
}

/// What stands on the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// A score for every token of the vocabulary: `…ForCausalLM`.
    Vocabulary,
    /// One number, `score.weight` `[1, D]` without bias: `…ForSequenceClassification` with one label.
    Value,
}

impl HeadKind {
    const ALL: [Self; 2] = [Self::Vocabulary, Self::Value];

    fn class(self) -> &'static str {
        match self {
            Self::Vocabulary => "ForCausalLM",
            Self::Value => "ForSequenceClassification",
        }
    }
}

/// A class of transformers, such as `LlamaForCausalLM`: what `architectures` in config.json names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "[String; 1]", try_from = "[String; 1]")]
pub struct Architecture {
    /// The decoder.
    pub family: Family,
    /// What stands on it.
    pub head: HeadKind,
}

impl Architecture {
    /// A language model of LLaMA's family.
    pub const LLAMA: Self = Self { family: Family::Llama, head: HeadKind::Vocabulary };

    /// What config.json says, by either of two fields: a language model where none is named, LLaMA's family where neither is there.
    pub(super) fn of(model_type: Option<&str>, architectures: &[String]) -> Result<Self, ConfigError> {
        let family = model_type.map(Self::family).transpose()?;
        match architectures {
            [] => Ok(Self { family: family.unwrap_or(Family::Llama), ..Self::LLAMA }),
            names => Self::named(names, family),
        }
    }

    fn family(model_type: &str) -> Result<Family, ConfigError> {
        let unknown = || ConfigError::unsupported("model_type", model_type, Family::MODEL_TYPES);
        Family::of_type(model_type).ok_or_else(unknown)
    }

    /// The class of this name, of one family if there is one to be of.
    fn named(names: &[String], family: Option<Family>) -> Result<Self, ConfigError> {
        let families = family.map_or(Family::ALL.to_vec(), |family| vec![family]);
        let classes = families.into_iter().flat_map(|family| HeadKind::ALL.map(|head| Self { family, head }));
        let classes: Vec<Self> = classes.collect();
        let found = classes.iter().find(|class| matches!(names, [name] if *name == class.to_string()));
        found.copied().ok_or_else(|| {
            let supported = classes.iter().map(Self::to_string).collect::<Vec<_>>().join(", ");
            ConfigError::unsupported("architectures", names.join(", "), supported)
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.family.class(), self.head.class())
    }
}

impl From<Architecture> for [String; 1] {
    fn from(architecture: Architecture) -> Self {
        [architecture.to_string()]
    }
}

impl TryFrom<[String; 1]> for Architecture {
    type Error = ConfigError;

    fn try_from(names: [String; 1]) -> Result<Self, ConfigError> {
        Self::named(&names, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model_type: Option<&str>, names: &[&str]) -> Result<Architecture, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Architecture::of(model_type, &names).map_err(|error| error.to_string())
    }

    #[test]
    fn either_field_names_the_family() {
        assert_eq!(of(None, &[]), Ok(Architecture::LLAMA));
        let qwen = Architecture { family: Family::Qwen2, head: HeadKind::Vocabulary };
        assert_eq!(of(Some("qwen2"), &[]), Ok(qwen));
        assert_eq!(of(None, &["Qwen2ForCausalLM"]), Ok(qwen));
        let judge = Architecture { family: Family::Mistral, head: HeadKind::Value };
        assert_eq!(of(Some("mistral"), &["MistralForSequenceClassification"]), Ok(judge));
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused() {
        let message = of(Some("mistral"), &["LlamaForCausalLM"]).unwrap_err();
        assert!(message.contains("`architectures` is LlamaForCausalLM; supported: MistralForCausalLM, "), "{message}");
        let message = of(Some("mamba"), &["LlamaForCausalLM"]).unwrap_err();
        assert!(message.contains("`model_type` is mamba; supported: llama, mistral, qwen2, qwen3"), "{message}");
        assert!(of(None, &["LlamaForCausalLM", "LlamaModel"]).is_err());
    }
}
