//! A moment of a run at which both objectives were evaluated.

use serde::{Deserialize, Serialize};

/// Both objectives of a method, evaluated at its start or after one of its phases.
///
/// What was not evaluated is `None`: a run on demonstrations alone has no preference accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// The method, such as "hbat".
    pub method: String,
    /// The phase that had just ended; `None` at the start.
    pub phase: Option<String>,
    /// Negative log-likelihood of the validation demonstrations, nats per token.
    pub sft_nll: Option<f64>,
    /// The part of the validation preferences whose chosen response has the higher implicit reward, 0 to 1.
    pub accuracy: Option<f64>,
    /// Mean implicit reward of the chosen responses less that of the rejected ones.
    pub margin: Option<f64>,
    /// Further measures by name, such as exact match. More is better, unless the name ends in "loss", "nll" or
    /// "perplexity".
    #[serde(default, with = "named_numbers")]
    pub extra: Vec<(String, f64)>,
}

impl Moment {
    /// Whether anything was evaluated.
    pub fn is_measured(&self) -> bool {
        self.sft_nll.is_some() || self.accuracy.is_some() || self.margin.is_some() || !self.extra.is_empty()
    }

    /// Which moment of its method this is: "start" or the phase that had just ended.
    pub fn label(&self) -> &str {
        self.phase.as_deref().unwrap_or("start")
    }
}

/// A list of named numbers as one JSON object, in order. What JSON cannot express (NaN, infinities) is null there and is
/// left out when read back.
mod named_numbers {
    use std::fmt;

    use serde::de::{Deserializer, MapAccess, Visitor};
    use serde::ser::Serializer;

    type Numbers = Vec<(String, f64)>;

    pub(super) fn serialize<S: Serializer>(numbers: &Numbers, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(numbers.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Numbers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Numbers, A::Error> {
                let mut numbers = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    numbers.extend(value.map(|value| (name, value)));
                }
                Ok(numbers)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_json_bit_by_bit() {
        let moment = Moment {
            method: "hbat".into(),
            phase: Some("sft-1".into()),
            sft_nll: Some(0.1 + 0.2),
            accuracy: None,
            margin: Some(-1.0 / 3.0),
            extra: vec![("z exact match".into(), 0.7), ("a".into(), 1e-310)],
        };
        let text = serde_json::to_string(&moment).unwrap();
        assert!(text.contains(r#""extra":{"z exact match":0.7,"a":"#), "{text}");
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
    }

    #[test]
    fn numbers_that_json_lacks_are_read_back_as_missing() {
        let moment = Moment {
            method: "sft".into(),
            phase: None,
            sft_nll: Some(f64::NAN),
            accuracy: None,
            margin: None,
            extra: vec![("a".into(), f64::INFINITY), ("b".into(), 2.0)],
        };
        let read: Moment = serde_json::from_str(&serde_json::to_string(&moment).unwrap()).unwrap();
        assert_eq!((read.sft_nll, read.extra), (None, vec![("b".to_string(), 2.0)]));
    }
}
