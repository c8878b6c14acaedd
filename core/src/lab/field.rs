//! The settings described one by one, for whoever shows them.

use serde::Serialize;
use serde_json::{Value, json};

use super::settings::{LabSettings, LaneMethod};
use super::{LabError, settings};
use crate::toy::skill::Size;

/// A setting: its default, what it can be, and what it does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// Its name in [`LabSettings`].
    #[serde(skip)]
    pub name: &'static str,
    /// Its default.
    pub value: Value,
    /// The least number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A step that makes sense between two values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// The words that can be chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<&'static str>,
    /// One sentence about it.
    pub help: &'static str,
}

/// A number's name, least and largest value, step, and help.
type Number = (&'static str, [f64; 3], &'static str);

const NUMBERS: [Number; 15] = [
    ("seed", [0.0, 9_007_199_254_740_991.0, 1.0], "Where all randomness comes from: the data, its order, random importances."),
    ("subsets", [1.0, 10.0, 1.0], "N: how many turns each objective gets. With 1 nothing alternates."),
    ("f_max", [0.0, 1000.0, 1.0], "The sum of all importances: how strongly the penalty holds the model."),
    ("lambda", [0.0, 10.0, 0.1], "A factor on the penalty."),
    ("beta", [0.01, 2.0, 0.01], "DPO's β: how strongly preferences hold the model to the phase's start."),
    ("kl_coefficient", [0.0, 2.0, 0.01], "PPO's β: what a nat of distance from the phase's start costs."),
    ("sft_learning_rate", [1e-5, 1e-2, 1e-5], "The peak learning rate on demonstrations."),
    ("dpo_learning_rate", [1e-5, 1e-2, 1e-5], "The peak learning rate on preferences."),
    ("ppo_learning_rate", [1e-5, 1e-2, 1e-5], "The peak learning rate on the model's own answers."),
    ("rrhf_learning_rate", [1e-5, 1e-2, 1e-5], "The peak learning rate on preferences."),
    ("raft_learning_rate", [1e-5, 1e-2, 1e-5], "The peak learning rate on the best of the model's own answers."),
    ("raft_answers", [1.0, 16.0, 1.0], "K: of so many answers to a prompt the one that the judge likes best is learned."),
    (
        "conflict",
        [0.0, 0.8, 0.05],
        "How much less often preferred answers are right than rejected ones: at 0 only their manner is in dispute.",
    ),
    ("examples", [16.0, 2048.0, 16.0], "Demonstrations to train on, and as many preferences."),
    ("measure_every", [1.0, 1000.0, 1.0], "Optimizer steps between two moments at which everything is measured."),
];

/// Every setting, in the order of [`LabSettings`].
pub fn fields() -> Vec<Field> {
    let defaults = json!(LabSettings::default());
    let about = |name: &'static str| match NUMBERS.iter().find(|(known, ..)| *known == name) {
        Some((_, [min, max, step], help)) => {
            Field { min: Some(*min), max: Some(*max), step: Some(*step), ..word(name, vec![], help) }
        }
        None => match name {
            "model" => word(name, Size::ALL.map(Size::name).into(), "The start model: 57, 144 or 230 thousand weights."),
            "lanes" => word(name, LaneMethod::ALL.map(LaneMethod::name).into(), "The methods that are compared."),
            "preference" => word(
                name,
                vec!["dpo", "rrhf", "ppo", "raft"],
                "dpo, rrhf: by pairs of answers. ppo, raft: by a judge of the model's own, who learned from the pairs.",
            ),
            _ => word(name, settings::RULES.into(), "How accumulated changes become importances."),
        },
    };
    let names = FIELDS.into_iter().map(about);
    names.map(|field| Field { value: defaults[field.name].clone(), ..field }).collect()
}

/// All settings, in order.
const FIELDS: [&str; 19] = [
    "seed",
    "model",
    "lanes",
    "subsets",
    "f_max",
    "lambda",
    "preference",
    "beta",
    "kl_coefficient",
    "sft_learning_rate",
    "dpo_learning_rate",
    "ppo_learning_rate",
    "rrhf_learning_rate",
    "raft_learning_rate",
    "raft_answers",
    "importance",
    "conflict",
    "examples",
    "measure_every",
];

fn word(name: &'static str, choices: Vec<&'static str>, help: &'static str) -> Field {
    Field { name, value: Value::Null, min: None, max: None, step: None, choices, help }
}

/// Whether every number is in its range.
pub(super) fn check_ranges(settings: &LabSettings) -> Result<(), LabError> {
    let values = json!(settings);
    for (field, [min, max, _], _) in NUMBERS {
        // NaN and infinities, which JSON lacks, are null.
        let value = values[field].as_f64().unwrap_or(f64::NAN);
        if !(min..=max).contains(&value) {
            return Err(LabError::Setting { field, value: value.to_string(), rule: format!("between {min} and {max}") });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_described_and_its_default_is_in_range() {
        let defaults = json!(LabSettings::default());
        let names: Vec<&str> = fields().iter().map(|field| field.name).collect();
        assert_eq!(names, defaults.as_object().unwrap().keys().collect::<Vec<_>>());
        LabSettings::default().check().unwrap();
        let is_number = |field: &Field| field.value.is_number();
        assert!(
            fields().iter().all(|field| is_number(field) == field.min.is_some() && is_number(field) == field.choices.is_empty())
        );
    }
}
