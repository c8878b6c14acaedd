//! What the large models take.

use super::*;
use crate::compute::{LayerInputs, Memory as Lies, Moments, Offload, Precision, Sums, Weights};
use crate::consolidation::Consolidation;
use crate::objective::{Dpo, Reward, Rrhf};
use crate::optimizer::{AdamWSettings, Decay};
use crate::ppo::Ppo;
use crate::rollout::Raft;
use crate::schedule::{Method, Order, Preference, ScheduleSettings, Training, Warmup, phases};
use crate::tokens::{Group, Sequence};

const GIB: usize = 1 << 30;
const SEVEN: &str = r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "tie_word_embeddings": false}"#;
const THIRTEEN: &str = r#"{"vocab_size": 32000, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
    "num_attention_heads": 40, "tie_word_embeddings": false}"#;

fn training(batch_size: usize) -> Training {
    Training {
        learning_rate: 1e-6,
        decay: Decay::Constant,
        warmup: Warmup { steps: 0, fraction: 0.0 },
        batch_size,
        epochs: 1,
        optimizer: AdamWSettings::default(),
    }
}

/// The largest peak of HBAT on sequences of 1024 tokens, 64 of them in a step and 8 in a pass; and what the host keeps.
fn peak(model: &str, layout: Layout, update: UpdateTiming) -> (Memory, usize) {
    let config: LlamaConfig = serde_json::from_str(model).unwrap();
    let sequence = || Sequence::new(vec![1; 256], &[2; 768]).unwrap();
    let sequences = if update == UpdateTiming::InBackward { 8 } else { 64 };
    let data = Data {
        demonstrations: (0..sequences).map(|i| Group::demonstration(i, sequence())).collect(),
        preferences: (0..sequences / 2).map(|i| Group::preference(i, sequence(), sequence())).collect(),
    };
    let schedule = ScheduleSettings {
        method: Method::Hbat,
        subsets: 1,
        sft: training(sequences),
        preference: Preference::Dpo,
        preference_training: training(sequences / 2),
        consolidation: Consolidation::default(),
        freeze_fraction: 0.0,
        preference_probability: None,
    };
    let settings = Settings {
        seed: 0,
        order: Order::AsGiven,
        engine: Engine::Segmented,
        micro_batch: 8,
        bucket: 16,
        pack: None,
        dpo: Dpo::default(),
        ppo: Ppo::default(),
        rrhf: Rrhf::default(),
        raft: Raft::default(),
        reward: Reward::default(),
        keep_start: KeepStart::Stored,
        update,
    };
    let needs = budget(&config, layout, &phases(&schedule), &data, &settings).unwrap();
    let host = needs.iter().map(|phase| phase.host).max().unwrap();
    (needs.into_iter().fold(Memory::default(), |peak, phase| peak.larger(phase.peak)), host)
}

fn narrow() -> Layout {
    let precision = Precision { weights: Weights::Bf16Split, moments: Moments::Bf16, sums: Sums::Bf16, ..Precision::default() };
    Layout { precision, offload: Offload::Anchor, ..Layout::new(Lies::Device) }
}

fn elsewhere() -> Layout {
    let precision = Precision { weights: Weights::Bf16Master, ..Precision::default() };
    Layout { precision, offload: Offload::Optimizer, ..Layout::new(Lies::Device) }
}

#[test]
fn seven_billion_fit_a_card_of_eighty_gigabytes() {
    let (peak, host) = peak(SEVEN, narrow(), UpdateTiming::AfterBackward);
    assert_eq!(peak.weights + peak.master + peak.moments, 8 * 6_738_415_616);
    assert!((63 * GIB..78 * GIB).contains(&peak.total()), "{peak:?}");
    assert_eq!(host, 4 * 6_738_415_616);
}

#[test]
fn thirteen_billion_fit_a_card_of_a_hundred_and_forty() {
    let (peak, _) = peak(THIRTEEN, narrow(), UpdateTiming::AfterBackward);
    assert!((121 * GIB..138 * GIB).contains(&peak.total()), "{peak:?}");
}

#[test]
fn inputs_that_wait_on_the_host_are_but_one_on_the_card() {
    let waiting = Layout { layer_inputs: LayerInputs::Host, ..narrow() };
    let [(here, host), (there, host_with_inputs)] =
        [narrow(), waiting].map(|layout| peak(SEVEN, layout, UpdateTiming::InBackward));
    let inputs = 31 * 8 * 1024 * 4096 * 2;
    assert_eq!((here.total() - there.total(), host_with_inputs - host), (inputs, inputs + inputs / 31));
}

#[test]
fn with_the_optimizer_elsewhere_and_updates_in_the_backward_pass_a_third_does() {
    let (plain, _) = peak(SEVEN, narrow(), UpdateTiming::AfterBackward);
    let (offloaded, host) = peak(SEVEN, elsewhere(), UpdateTiming::InBackward);
    assert!(3 * offloaded.total() < plain.total() && offloaded.total() < 20 * GIB, "{offloaded:?}");
    assert!((16 * 6_738_415_616..17 * 6_738_415_616).contains(&host), "{host}");
}
