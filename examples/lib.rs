//! What the examples share: a tiny model, the toy's data, and plain settings.

use hbat::compute::Compute;
use hbat::consolidation::{Consolidation, Rule};
use hbat::engine::Engine;
use hbat::model::{HeadKind, LlamaConfig, Policy};
use hbat::objective::{Dpo, Reward, Rrhf};
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::ppo::Ppo;
use hbat::rollout::Raft;
use hbat::schedule::{Method, Order, Preference, ScheduleSettings, Training, Warmup};
use hbat::toy::{random_policy, skill};
use hbat::trainer::{Data, KeepStart, Settings, UpdateTiming};
use hbat_backends::{DeviceName, open};

/// A LLaMA of some 50 thousand parameters with random weights.
pub fn tiny_policy() -> Policy {
    tiny(HeadKind::Vocabulary)
}

/// The same with one number above it instead of a vocabulary: a reward model that has learned nothing yet.
pub fn tiny_judge() -> Policy {
    tiny(HeadKind::Value)
}

fn tiny(head: HeadKind) -> Policy {
    let config = format!(
        r#"{{"vocab_size": {}, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "tie_word_embeddings": true}}"#,
        skill::TOKENS.len()
    );
    let config: LlamaConfig = serde_json::from_str(&config).expect("the configuration above is complete");
    let config = LlamaConfig { tie_word_embeddings: head == HeadKind::Vocabulary, ..config }.with_head(head);
    let device = open(DeviceName::Cpu).expect("there is always a CPU");
    random_policy(config, Compute::host(device), 0)
}

/// Demonstrations and preferences of the skill-and-style task.
pub fn toy_data() -> Data {
    let settings = skill::SkillSettings { demonstrations: 256, preferences: 256, ..skill::SkillSettings::default() };
    let skill::SkillData { demonstrations, preferences, .. } = skill::generate(&settings).expect("the counts are small");
    Data { demonstrations: demonstrations.train, preferences: preferences.train }
}

/// What holds for a whole run.
pub fn settings() -> Settings {
    Settings {
        seed: 0,
        order: Order::Shuffled,
        engine: Engine::Whole,
        micro_batch: 64,
        bucket: 8,
        pack: None,
        dpo: Dpo::default(),
        ppo: Ppo::default(),
        rrhf: Rrhf::default(),
        raft: Raft::default(),
        reward: Reward::default(),
        keep_start: KeepStart::Copy,
        update: UpdateTiming::AfterBackward,
    }
}

/// What a schedule is made from; `method` decides how the two trainings share the steps.
pub fn schedule(method: Method) -> ScheduleSettings {
    ScheduleSettings {
        method,
        subsets: 2,
        sft: training(2e-3, 4),
        preference: Preference::Dpo,
        preference_training: training(5e-4, 2),
        consolidation: Consolidation { rule: Rule::Relative, lambda: 1.0, f_max: 100.0 },
        freeze_fraction: 0.2,
        preference_probability: None,
    }
}

fn training(learning_rate: f64, epochs: usize) -> Training {
    Training {
        learning_rate,
        decay: Decay::Cosine,
        warmup: Warmup { steps: 10, fraction: 0.1 },
        batch_size: 32,
        epochs,
        optimizer: AdamWSettings::default(),
    }
}
