//! Models by their size, and the steps whose memory is predicted and measured.

use hbat::consolidation::Consolidation;
use hbat::model::LlamaConfig;
use hbat::optimizer::AdamWSettings;
use hbat::schedule::{Method, Phase, Preference, ScheduleSettings, Training, phases};
use hbat::tokens::Group;
use hbat::trainer::Data;

use crate::{SMOLLM2, sequence, training};

/// A configuration by its name, or by that and `@` and another number of layers: what a layer costs takes a few of them to see.
///
/// # Panics
/// If there is none of that name.
pub fn config(shape: &str) -> LlamaConfig {
    let Some((shape, layers)) = shape.split_once('@') else { return whole(shape) };
    LlamaConfig { num_hidden_layers: layers.parse().unwrap_or_else(|error| panic!("{layers}: {error}")), ..whole(shape) }
}

fn whole(shape: &str) -> LlamaConfig {
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

/// Of a quarter prompt, for two steps on so many sequences, an even number, of so many tokens, of either objective.
pub fn data(vocabulary: usize, rows: usize, width: usize) -> Data {
    let sequence = |index| sequence(index, (width / 4, width), vocabulary);
    Data {
        demonstrations: (0..2 * rows).map(|i| Group::demonstration(i, sequence(i))).collect(),
        preferences: (0..rows).map(|i| Group::preference(i, sequence(2 * i), sequence(2 * i + 1))).collect(),
    }
}

/// A phase of two steps of each objective, the second one held.
pub fn two_phases(rows: usize) -> Vec<Phase> {
    let optimizer = AdamWSettings { clip: f64::INFINITY, ..AdamWSettings::default() };
    let training = |batch_size| Training { optimizer, ..training(batch_size) };
    phases(&ScheduleSettings {
        method: Method::Hbat,
        subsets: 1,
        sft: training(rows),
        preference: Preference::Dpo,
        preference_training: training(rows / 2),
        consolidation: Consolidation::default(),
        freeze_fraction: 0.0,
        preference_probability: None,
    })
}
