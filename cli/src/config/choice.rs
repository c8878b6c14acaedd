//! Settings that are a number or a word.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

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
