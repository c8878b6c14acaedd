//! Memory, counted by the allocator: training takes what a budget predicts, loading and saving no more than the model.
//!
//! A program of its own: what other tests allocate at the same time would be counted too.

use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use hbat::budget::{Configs, PhaseBudget, budget};
use hbat::compute::{Compute, LayerInputs, Moments, Offload, Precision, Products, Sums, Weights};
use hbat::consolidation::Consolidation;
use hbat::engine::Engine;
use hbat::model::{HeadKind, LlamaConfig};
use hbat::objective::{Dpo, Reward, Rrhf};
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::ppo::{Critics, Ppo};
use hbat::rollout::Raft;
use hbat::schedule::{Method, Order, Phase, Preference, ScheduleSettings, Training, Warmup, phases};
use hbat::tokens::Group;
use hbat::toy::random_policy;
use hbat::trainer::{Data, Event, KeepStart, Settings, Trainer, UpdateTiming};
use hbat_backends::DeviceName;
use hbat_cli::model::{Export, ModelError, ModelFolder};
use hbat_tests::{Zeros, sequence};
use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// Held by whoever counts.
static ALONE: Mutex<()> = Mutex::new(());

/// 50 million weights: more than 1 GB with gradients, moments and anchor.
const LARGE: &str = r#"{"vocab_size": 16384, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 6,
    "num_attention_heads": 12, "num_key_value_heads": 4, "tie_word_embeddings": true}"#;

/// 6 million weights, half of them in an untied head and its embedding.
const SMALL: &str = r#"{"vocab_size": 6000, "hidden_size": 256, "intermediate_size": 700, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": true}"#;

/// 6 million weights, nearly all of them in an untied head and its embedding.
const BROAD: &str = r#"{"vocab_size": 24000, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1,
    "num_attention_heads": 2, "tie_word_embeddings": false}"#;

/// 2 million weights whose queries are wider than anything else, through a norm.
const NORMED: &str = r#"{"model_type": "qwen3", "vocab_size": 600, "hidden_size": 256, "intermediate_size": 400, "num_hidden_layers": 3,
    "num_attention_heads": 10, "num_key_value_heads": 2, "head_dim": 64, "tie_word_embeddings": true}"#;

struct Case {
    preference: Preference,
    /// Of PPO what the cases differ in.
    ppo: Ppo,
    method: Method,
    model: &'static str,
    engine: Engine,
    /// Sequences per step, and their length.
    batch: (usize, usize),
    micro_batch: usize,
    /// The phase that is measured: 0 on demonstrations, 1 on preferences and held by the penalty.
    phase: usize,
    tolerance: f64,
    update: UpdateTiming,
    compute: Compute,
    /// The same of RAFT.
    raft: Raft,
    /// Tokens of the first preference's prompt, if it is longer than others.
    long_prompt: Option<usize>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            preference: Preference::Dpo,
            ppo: Ppo::default(),
            method: Method::Hbat,
            model: SMALL,
            engine: Engine::Segmented,
            batch: (4, 16),
            micro_batch: 2,
            phase: 1,
            tolerance: 0.1,
            update: UpdateTiming::AfterBackward,
            compute: host(),
            raft: Raft { answers: 3, ..Raft::default() },
            long_prompt: None,
        }
    }
}

impl Case {
    fn phases(&self) -> Vec<Phase> {
        let training = Training {
            learning_rate: 1e-4,
            decay: Decay::Constant,
            warmup: Warmup { steps: 0, fraction: 0.0 },
            batch_size: self.batch.0,
            epochs: 2,
            optimizer: AdamWSettings::default(),
        };
        let dpo = Training { batch_size: self.batch.0 / 2, ..training };
        phases(&ScheduleSettings {
            method: self.method,
            subsets: 1,
            sft: training,
            preference: self.preference,
            preference_training: dpo,
            consolidation: Consolidation::default(),
            freeze_fraction: 0.0,
            preference_probability: None,
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            seed: 1,
            order: Order::AsGiven,
            engine: self.engine,
            micro_batch: self.micro_batch,
            bucket: 1,
            pack: None,
            dpo: Dpo::default(),
            // All answers are as long as they may become: no token ends one.
            ppo: Ppo { cold_start: 0, inner_epochs: 2, max_new_tokens: self.batch.1 - self.batch.1 / 4, ..self.ppo },
            rrhf: Rrhf::default(),
            raft: Raft { max_new_tokens: self.batch.1 - self.batch.1 / 4, ..self.raft },
            reward: Reward::default(),
            keep_start: KeepStart::Stored,
            update: self.update,
        }
    }

    /// Bytes of gradients that are in a device's memory before they are in ordinary memory: here it is one, and they are in it once.
    fn passed_on(&self, config: &LlamaConfig) -> usize {
        let gradients = config.units().into_iter().map(|unit| 4 * unit.elements());
        match (self.compute.layout.offload, self.update) {
            (Offload::Optimizer, UpdateTiming::AfterBackward) => gradients.sum(),
            (Offload::Optimizer, UpdateTiming::InBackward) => gradients.max().unwrap_or(0),
            (Offload::Nothing | Offload::Anchor, _) => 0,
        }
    }

    /// The judge's configuration, where there is one.
    fn reward(&self, policy: &LlamaConfig) -> Option<LlamaConfig> {
        let reward = LlamaConfig { tie_word_embeddings: false, ..policy.clone() }.with_head(HeadKind::Value);
        matches!(self.preference, Preference::Ppo | Preference::Raft).then_some(reward)
    }

    fn data(&self, vocabulary: usize) -> Data {
        let (rows, width) = self.batch;
        let sequence = |row| sequence(row, (width / 4, width), vocabulary);
        let mut preferences: Vec<Group> =
            (0..rows / 2).map(|i| Group::preference(i, sequence(2 * i), sequence(2 * i + 1))).collect();
        if let Some(tokens) = self.long_prompt {
            preferences[0] = Group::demonstration(0, self::sequence(0, (tokens, tokens + 1), vocabulary));
        }
        Data { demonstrations: (0..rows).map(|row| Group::demonstration(row, sequence(row))).collect(), preferences }
    }
}

/// Peak bytes of a phase, above what was allocated before the model.
async fn measured(case: &Case, config: LlamaConfig, data: Data) -> usize {
    let before = COUNTED.current_usage();
    let judge = |config: LlamaConfig| random_policy(config, case.compute.clone(), 1);
    let critics = case.reward(&config).map(|config| match case.preference {
        Preference::Raft => Critics::judge(&judge(config), vec![]),
        _ => Critics::new(&judge(config.clone()), judge(config), vec![]),
    });
    let models = (random_policy(config, case.compute.clone(), 0), critics);
    let mut trainer = Trainer::new(models, data, case.phases(), case.settings());
    loop {
        match trainer.step().await.unwrap() {
            Event::PhaseStarted(_) => {
                trainer.start_is_stored(Box::new(Zeros));
                COUNTED.reset_peak_usage();
            }
            Event::PhaseEnded(ended) if ended.phase == case.phases()[case.phase].name => return COUNTED.peak_usage() - before,
            _ => {}
        }
    }
}

async fn check(case: &Case) {
    let config: LlamaConfig = serde_json::from_str(case.model).unwrap();
    let data = case.data(config.vocab_size);
    let reward = case.reward(&config);
    let configs = Configs { policy: &config, reward: reward.as_ref() };
    let needs = budget(configs, case.compute.layout, &case.phases(), &data, &case.settings()).unwrap();
    let PhaseBudget { phase, peak, host, .. } = &needs[case.phase];
    let measured = measured(case, config.clone(), data).await as f64;
    let predicted = (peak.total() + host - case.passed_on(&config)) as f64;
    let ratio = predicted / measured;
    let text = format!(
        "{:?} {phase} {:?}, {:?}: predicted {:.1} MB of {:.1} MB: {peak:?} and {host} in ordinary memory",
        case.engine,
        case.batch,
        case.compute.layout,
        predicted / 1e6,
        measured / 1e6
    );
    eprintln!("{ratio:.3} {text}");
    assert!((ratio - 1.0).abs() <= case.tolerance, "{ratio:.3} {text}");
    if case.model == LARGE && case.tolerance < 0.1 {
        assert!(measured > 1e9, "a case above 1 GB was meant: {text}");
    }
}

#[test]
fn the_predicted_peak_is_the_measured_one() {
    let of = |model, engine, batch, micro_batch, phase, tolerance| Case {
        model,
        engine,
        batch,
        micro_batch,
        phase,
        tolerance,
        ..Case::default()
    };
    let in_backward = |case| Case { update: UpdateTiming::InBackward, ..case };
    let cases = [
        of(LARGE, Engine::Segmented, (2, 256), 2, 1, 0.05),
        in_backward(of(LARGE, Engine::Segmented, (2, 256), 2, 1, 0.1)),
        in_backward(of(SMALL, Engine::Whole, (4, 512), 4, 0, 0.1)),
        of(LARGE, Engine::Whole, (2, 512), 2, 0, 0.1),
        of(SMALL, Engine::Whole, (4, 512), 4, 0, 0.1),
        of(SMALL, Engine::Whole, (8, 256), 2, 1, 0.1),
        of(SMALL, Engine::Segmented, (8, 512), 8, 0, 0.1),
        of(SMALL, Engine::Segmented, (6, 200), 2, 1, 0.1),
        of(NORMED, Engine::Segmented, (8, 512), 8, 0, 0.1),
        of(NORMED, Engine::Whole, (4, 512), 4, 0, 0.1),
    ];
    check_all(&cases);
}

/// Every way of keeping numbers, through the tensor operations of all devices; on a CPU all of it is in one memory.
#[test]
fn the_predicted_peak_of_every_placement_is_the_measured_one() {
    let device = |weights, moments, sums| {
        Compute::device(Device::flex()).with(Precision { weights, moments, sums, products: Products::Plain })
    };
    let in_parts = || Compute::device(Device::flex()).with(Precision { products: Products::Split, ..Precision::default() });
    let plain = || device(Weights::F32, Moments::F32, Sums::F32);
    let split = || device(Weights::Bf16Split, Moments::Bf16, Sums::Bf16);
    let master = || device(Weights::Bf16Master, Moments::F32, Sums::F32);
    // So few tokens that nearly all of it is a multiple of the model.
    let of =
        |model, compute, micro_batch, update| Case { model, micro_batch, tolerance: 0.05, update, compute, ..Case::default() };
    let active = |engine, (batch, micro_batch), compute| Case {
        engine,
        batch,
        tolerance: 0.1,
        ..of(SMALL, compute, micro_batch, UpdateTiming::AfterBackward)
    };
    let broad = |compute| Case { model: BROAD, ..active(Engine::Segmented, ((6, 256), 6), compute) };
    use UpdateTiming::{AfterBackward, InBackward};
    check_all(&[
        of(LARGE, plain(), 2, AfterBackward),
        of(SMALL, split(), 2, AfterBackward),
        of(SMALL, master(), 2, AfterBackward),
        of(SMALL, split(), 4, InBackward),
        of(SMALL, split().offloading(Offload::Anchor), 2, AfterBackward),
        of(SMALL, master().offloading(Offload::Optimizer), 2, AfterBackward),
        of(LARGE, master().offloading(Offload::Optimizer), 4, InBackward),
        active(Engine::Segmented, ((6, 200), 2), plain()),
        active(Engine::Segmented, ((8, 512), 8), plain()),
        active(Engine::Whole, ((4, 512), 4), plain()),
        active(Engine::Segmented, ((8, 512), 8), in_parts()),
        active(Engine::Segmented, ((4, 16), 2), in_parts()),
        broad(plain()),
        broad(split()),
        broad(in_parts()),
        active(Engine::Segmented, ((8, 512), 8), split().keeping_inputs(LayerInputs::Host)),
        Case { model: NORMED, ..active(Engine::Segmented, ((32, 64), 32), plain()) },
        Case { model: NORMED, ..active(Engine::Segmented, ((32, 64), 32), split()) },
        Case { model: NORMED, ..active(Engine::Whole, ((64, 40), 32), plain()) },
    ]);
}

/// The policy with its reference, the judge, the critic, and keys and values of answers.
#[test]
fn the_predicted_peak_of_training_on_answers_is_the_measured_one() {
    let device = |weights, moments, sums| {
        Compute::device(Device::flex()).with(Precision { weights, moments, sums, products: Products::Plain })
    };
    let of = |compute, engine, (batch, micro_batch)| Case {
        preference: Preference::Ppo,
        engine,
        batch,
        micro_batch,
        compute,
        ..Case::default()
    };
    // A pass has room for all answers, and an update has but a few of them.
    let few = Ppo { drop_fraction: 0.3, mini_batches: 16, rollout_batch: 2, ..Ppo::default() };
    // Two answers are written at a time: then it is judging that could take many to the long prompt.
    let many = Raft { answers: 24, rollout_batch: 2, ..Raft::default() };
    check_all(&[
        of(host(), Engine::Segmented, ((4, 32), 2)),
        Case { ppo: Ppo { sft_coefficient: 0.5, ..Ppo::default() }, ..of(host(), Engine::Whole, ((8, 128), 4)) },
        Case { ppo: few, ..of(host(), Engine::Segmented, ((128, 64), 64)) },
        of(device(Weights::F32, Moments::F32, Sums::F32), Engine::Segmented, ((4, 32), 2)),
        of(device(Weights::Bf16Split, Moments::Bf16, Sums::Bf16), Engine::Segmented, ((4, 32), 2)),
        of(device(Weights::Bf16Master, Moments::F32, Sums::F32), Engine::Segmented, ((4, 32), 2)),
        Case { update: UpdateTiming::InBackward, ..of(host(), Engine::Segmented, ((4, 32), 4)) },
        by_raft(of(host(), Engine::Segmented, ((8, 64), 2))),
        Case { long_prompt: Some(1900), raft: many, ..by_raft(of(host(), Engine::Segmented, ((48, 24), 24))) },
        by_raft(of(host(), Engine::Whole, ((16, 128), 8))),
        by_raft(of(device(Weights::Bf16Split, Moments::Bf16, Sums::Bf16), Engine::Segmented, ((4, 32), 2))),
    ]);
}

/// Judged, and without a critic.
fn by_raft(case: Case) -> Case {
    Case { preference: Preference::Raft, ..case }
}

fn host() -> Compute {
    Compute::host(hbat_backends::open(DeviceName::Cpu).unwrap())
}

fn check_all(cases: &[Case]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for case in cases {
        runtime.block_on(check(case));
    }
}

#[test]
fn the_penalty_takes_an_anchor_and_no_more() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for engine in [Engine::Whole, Engine::Segmented] {
        let peak = |method| {
            let case = Case { method, engine, batch: (4, 256), micro_batch: 4, ..Case::default() };
            let config: LlamaConfig = serde_json::from_str(case.model).unwrap();
            let data = case.data(config.vocab_size);
            let anchor: usize = config.units().iter().map(|unit| 4 * unit.elements()).sum();
            (runtime.block_on(measured(&case, config, data)), anchor)
        };
        peak(Method::Alternating); // threads keep the scratch memory of their first products
        let ((with, anchor), (without, _)) = (peak(Method::Hbat), peak(Method::Alternating));
        let more = with as f64 - without as f64;
        assert!((0.9..=1.05).contains(&(more / anchor as f64)), "{engine:?}: {more} bytes for an anchor of {anchor}");
    }
}

/// 251 million weights.
const SHARDED: &str = r#"{"vocab_size": 12000, "hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 4,
    "num_attention_heads": 16, "tie_word_embeddings": false}"#;

#[test]
fn a_sharded_gigabyte_is_loaded_and_saved_piece_by_piece() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let config: LlamaConfig = serde_json::from_str(SHARDED).unwrap();
    let units = config.units();
    let export = Export { largest_file: 200_000_000, ..Export::new(&config, None) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let made = export.write(folder.path(), async |unit| Ok::<_, ModelError>(vec![unit as f32; units[unit].elements()]));
    runtime.block_on(made).unwrap();
    let shards = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension() == Some("safetensors".as_ref()));
    assert!(shards.count() > 4);

    let before = COUNTED.current_usage();
    COUNTED.reset_peak_usage();
    let policy = ModelFolder::open(folder.path()).unwrap().load(host(), |_| {}).unwrap();
    let (model, peak) = (COUNTED.current_usage() - before, COUNTED.peak_usage() - before);
    assert!(model > 1_000_000_000 && peak < 1_200_000_000, "a model of {model} bytes took {peak}");

    COUNTED.reset_peak_usage();
    runtime.block_on(export.write_policy(&policy, folder.path())).unwrap();
    let saving = COUNTED.peak_usage() - before - model;
    assert!(saving < 200_000_000, "saving {model} bytes took {saving} more");
}
