//! Settings that are a word or something else: a number, the name of a format.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use crate::data::Format;

/// How many examples to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// All of them: `"all"`.
    All,
    /// So many from the beginning.
    First(usize),
}

impl Limit {
    /// The number, if there is one.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::All => None,
            Self::First(count) => Some(count),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::First(count) => count.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "all" => Ok(Self::All),
            Value::Integer(count) => usize::try_from(count).map(Self::First).map_err(|_| D::Error::custom(LIMIT)),
            _ => Err(D::Error::custom(LIMIT)),
        }
    }
}

const LIMIT: &str = "expected \"all\" or a whole number";

/// A probability that may follow from the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Probability {
    /// From the data: `"auto"`.
    Auto,
    /// Between 0 and 1.
    Fixed(f64),
}

impl Probability {
    /// The number, if there is one.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Auto => None,
            Self::Fixed(value) => Some(value),
        }
    }
}

impl Serialize for Probability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "auto" => Ok(Self::Auto),
            Value::Float(value) => Ok(Self::Fixed(value)),
            Value::Integer(value) => Ok(Self::Fixed(value as f64)),
            _ => Err(D::Error::custom("expected \"auto\" or a number between 0 and 1")),
        }
    }
}

/// A format of examples, or the wish to have it recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatChoice {
    /// By each file's columns: `"auto"`.
    Auto,
    /// This one.
    Named(Format),
}

impl From<FormatChoice> for Option<Format> {
    fn from(choice: FormatChoice) -> Self {
        match choice {
            FormatChoice::Auto => None,
            FormatChoice::Named(format) => Some(format),
        }
    }
}

impl FormatChoice {
    /// What run files call it.
    pub fn name(self) -> &'static str {
        Option::from(self).map_or("auto", Format::name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        std::iter::once("auto").chain(Format::ALL.into_iter().map(Format::name))
    }
}

impl Serialize for FormatChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for FormatChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        if word == "auto" {
            return Ok(Self::Auto);
        }
        let format = Format::ALL.into_iter().find(|format| format.name() == word);
        let names = || Self::names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        format.map(Self::Named).ok_or_else(|| D::Error::custom(format!("unknown variant `{word}`, expected one of {}", names())))
    }
}
