//! Small training runs that several tests drive.

use hbat::compute::Compute;
use hbat::consolidation::{Consolidation, Ledger, Rule};
use hbat::engine::Engine;
use hbat::model::{HeadKind, LlamaConfig, Policy};
use hbat::objective::{Dpo, Reward, Rrhf};
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::ppo::{Critics, KlControl, Ppo};
use hbat::random::{below, stream};
use hbat::reduce::Reduce;
use hbat::rollout::Raft;
use hbat::schedule::{Method, Order, Preference, ScheduleSettings, Training, Warmup, phases};
use hbat::tokens::{Group, Sequence};
use hbat::toy::random_policy;
use hbat::trainer::{Data, Event, KeepStart, PhaseEnded, PhaseStarted, Settings, StepReport, Trainer, UpdateTiming};
use serde_json::json;

use crate::fixtures::{block_on, cpu, numbers};

const VOCABULARY: u64 = 23;

/// A tied LLaMA of 20 units that trains in milliseconds.
pub(crate) fn config() -> LlamaConfig {
    let config = json!({"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true});
    serde_json::from_value(config).expect("a config")
}

/// The model that runs start from.
pub(crate) fn start() -> Policy {
    random_policy(config(), cpu(), 5)
}

/// Examples of uneven lengths; what they call themselves is 100 more than their place.
pub(crate) fn data(demonstrations: usize, preferences: usize) -> Data {
    let mut rng = stream(17, "examples", &[]);
    let mut tokens = |longest| -> Vec<u32> {
        let count = 1 + below(longest, &mut rng);
        (0..count).map(|_| below(VOCABULARY, &mut rng) as u32).collect()
    };
    let demonstrations = (0..demonstrations)
        .map(|i| Group::demonstration(100 + i, Sequence::new(tokens(5), &tokens(7)).expect("tokens")))
        .collect();
    let preferences = (0..preferences)
        .map(|i| {
            let prompt = tokens(5);
            let mut answer = || Sequence::new(prompt.clone(), &tokens(7)).expect("tokens");
            Group::preference(100 + i, answer(), answer())
        })
        .collect();
    Data { demonstrations, preferences }
}

fn training(learning_rate: f64, epochs: usize) -> Training {
    Training {
        learning_rate,
        decay: Decay::Cosine,
        warmup: Warmup { steps: 0, fraction: 0.0 },
        batch_size: 3,
        epochs,
        optimizer: AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() },
    }
}

/// Two subsets, two epochs of each in batches of three.
pub(crate) fn schedule(method: Method, rule: Rule) -> ScheduleSettings {
    ScheduleSettings {
        method,
        subsets: 2,
        sft: training(3e-3, 2),
        preference: Preference::Dpo,
        preference_training: training(2e-3, 2),
        consolidation: Consolidation { rule, lambda: 1.0, f_max: 100.0 },
        freeze_fraction: 0.5,
        preference_probability: None,
    }
}

/// The same with PPO on the preferences' prompts.
pub(crate) fn by_ppo(schedule: ScheduleSettings) -> ScheduleSettings {
    ScheduleSettings { preference: Preference::Ppo, ..schedule }
}

/// The same with RAFT on them.
pub(crate) fn by_raft(schedule: ScheduleSettings) -> ScheduleSettings {
    ScheduleSettings { preference: Preference::Raft, ..schedule }
}

/// Everything that PPO can be told, on short answers.
fn ppo() -> Ppo {
    Ppo {
        kl_control: Some(KlControl { target: 0.5, horizon: 20.0 }),
        value_learning_rate: 3e-3,
        inner_epochs: 2,
        mini_batches: 2,
        drop_fraction: 0.3,
        sft_coefficient: 0.3,
        cold_start: 1,
        max_new_tokens: 5,
        rollout_batch: 2,
        ..Ppo::default()
    }
}

/// A judge of the tokens of [`config`].
pub(crate) fn judge(compute: Compute) -> Policy {
    random_policy(LlamaConfig { tie_word_embeddings: false, ..config() }.with_head(HeadKind::Value), compute, 6)
}

/// The same, and a critic, where a schedule needs them.
pub(crate) fn critics(schedule: &ScheduleSettings, compute: Compute) -> Option<Critics> {
    let (judge, eos) = (judge(compute), vec![1, 2]);
    let critics = match schedule.preference {
        Preference::Ppo => Critics::new(&judge, judge.clone(), eos),
        Preference::Raft => Critics::judge(&judge, eos),
        Preference::Dpo | Preference::Rrhf => return None,
    };
    Some(critics.with_suffix(vec![4]))
}

/// Shuffled, four sequences per forward pass.
pub(crate) fn settings() -> Settings {
    Settings {
        seed: 3,
        order: Order::Shuffled,
        engine: Engine::Whole,
        micro_batch: 4,
        bucket: 1,
        pack: None,
        dpo: Dpo::default(),
        ppo: ppo(),
        rrhf: Rrhf::default(),
        raft: Raft { answers: 3, max_new_tokens: 5, rollout_batch: 2, ..Raft::default() },
        reward: Reward::default(),
        keep_start: KeepStart::Copy,
        update: UpdateTiming::AfterBackward,
    }
}

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    pub(crate) weights: Vec<Vec<f32>>,
    pub(crate) ledger: Ledger,
}

impl Outcome {
    pub(crate) fn steps(&self) -> Vec<&StepReport> {
        self.events.iter().filter_map(|e| if let Event::Step(step) = e { Some(step) } else { None }).collect()
    }

    pub(crate) fn started(&self) -> Vec<&PhaseStarted> {
        self.events.iter().filter_map(|e| if let Event::PhaseStarted(phase) = e { Some(phase) } else { None }).collect()
    }

    pub(crate) fn ended(&self) -> Vec<&PhaseEnded> {
        self.events.iter().filter_map(|e| if let Event::PhaseEnded(phase) = e { Some(phase) } else { None }).collect()
    }
}

/// A run from [`start`] on 7 demonstrations and 6 preferences.
pub(crate) fn run(schedule: &ScheduleSettings, settings: Settings) -> Outcome {
    finish(&mut Trainer::new((start(), critics(schedule, cpu())), data(7, 6), phases(schedule), settings))
}

/// Drives a trainer to the end of its schedule.
pub(crate) fn finish<R: Reduce>(trainer: &mut Trainer<R>) -> Outcome {
    let mut events = Vec::new();
    while events.last() != Some(&Event::Finished) {
        events.push(block_on(trainer.step()).expect("a step"));
    }
    Outcome { events, weights: weights(trainer.policy()), ledger: trainer.ledger().clone() }
}

/// Steps until a phase has ended.
pub(crate) fn finish_phase<R: Reduce>(trainer: &mut Trainer<R>) -> PhaseEnded {
    loop {
        if let Event::PhaseEnded(phase) = block_on(trainer.step()).expect("a step") {
            return phase;
        }
    }
}

/// Every unit's values.
pub(crate) fn weights(policy: &Policy) -> Vec<Vec<f32>> {
    (0..policy.units().len()).map(|unit| numbers(&policy.exact(unit))).collect()
}

/// A step's metrics that rounding does not decide: at the start of a phase every margin is 0, and its sign is accuracy.
pub(crate) fn comparable(step: &StepReport) -> impl Iterator<Item = (&'static str, f64)> {
    let noise = move |name: &str| step.step == 1 && name == "accuracy";
    step.metrics.iter().copied().filter(move |(name, _)| !noise(name))
}

/// The largest difference between two sets of tensors, each divided by the largest element of its tensor in `expected`.
pub(crate) fn largest_difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0f32, |max, v| if v.abs() > max { v.abs() } else { max });
    let pairs = found.iter().zip(expected).map(|(found, expected)| {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().chain(expected).all(|v| v.is_finite()));
        let difference = largest(&mut found.iter().zip(expected).map(|(a, b)| a - b));
        f64::from(difference) / f64::from(largest(&mut expected.iter().copied())).max(1e-30)
    });
    pairs.fold(0.0, f64::max)
}

/// Fails unless two numbers agree to this part of the expected one.
#[track_caller]
pub(crate) fn close(what: &str, found: f64, expected: f64, tolerance: f64) {
    let difference = (found - expected).abs();
    assert!(difference <= tolerance * expected.abs(), "{what}: {found}, expected {expected}, off by {difference:e}");
}
