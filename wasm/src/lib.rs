//! The core of hbat in a browser: so far the toy model, trained step by step.
//!
//! Nothing of the algorithm is written twice: this crate hands the core a device, data and a schedule, and turns its events
//! into what JavaScript understands. It is compiled in CI to keep the core free of files, clocks and threads.

use burn::tensor::Device;
use hbat::compute::Compute;
use hbat::consolidation::Consolidation;
use hbat::engine::Engine;
use hbat::model::LlamaConfig;
use hbat::objective::Dpo;
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::schedule::{Method, Order, ScheduleSettings, Training, Warmup, phases};
use hbat::toy::{random_policy, skill};
use hbat::trainer::{Data, Event, KeepStart, Settings, Trainer, UpdateTiming};
use wasm_bindgen::prelude::*;

/// A toy run under way.
#[wasm_bindgen]
pub struct ToyRun {
    trainer: Trainer,
}

#[wasm_bindgen]
impl ToyRun {
    /// A random model of `config` (Hugging Face's `config.json` as text), about to be trained by HBAT on data of this seed.
    ///
    /// # Errors
    /// If the configuration is not one of a LLaMA, or its vocabulary is not the toy's.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &str, seed: u64) -> Result<ToyRun, JsError> {
        let config: LlamaConfig = serde_json::from_str(config)?;
        if config.vocab_size < skill::TOKENS.len() {
            return Err(JsError::new(&format!(
                "`vocab_size` must be at least {}, the toy's number of tokens",
                skill::TOKENS.len()
            )));
        }
        let skill::SkillData { demonstrations, preferences, .. } =
            skill::generate(&skill::SkillSettings { seed, ..skill::SkillSettings::default() })?;
        let policy = random_policy(config, Compute::host(Device::flex()), seed);
        let data = Data { demonstrations: demonstrations.train, preferences: preferences.train };
        Ok(Self { trainer: Trainer::new(policy, data, phases(&schedule()), settings(seed)) })
    }

    /// Does the next piece of work and says what it was, as a line of `metrics.jsonl` would.
    ///
    /// # Errors
    /// If training fails.
    pub async fn step(&mut self) -> Result<String, JsError> {
        let event = self.trainer.step().await?;
        let record = match event {
            Event::Step(report) => serde_json::json!({
                "kind": "step", "phase": report.phase, "objective": report.objective, "step": report.step,
                "loss": report.loss, "penalty": report.penalty, "grad_norm": report.grad_norm,
            }),
            Event::PhaseStarted(started) => {
                serde_json::json!({ "kind": "phase-start", "phase": started.phase, "steps": started.steps })
            }
            Event::PhaseEnded(ended) => serde_json::json!({ "kind": "phase-end", "phase": ended.phase, "C": ended.change }),
            Event::Scored { done, total } => serde_json::json!({ "kind": "scored", "done": done, "total": total }),
            Event::Measured { done, total } => serde_json::json!({ "kind": "measured", "done": done, "total": total }),
            Event::Finished => serde_json::json!({ "kind": "finished" }),
        };
        Ok(record.to_string())
    }
}

fn schedule() -> ScheduleSettings {
    let training = |learning_rate| Training {
        learning_rate,
        decay: Decay::Cosine,
        warmup: Warmup { steps: 10, fraction: 0.1 },
        batch_size: 32,
        epochs: 1,
        optimizer: AdamWSettings::default(),
    };
    ScheduleSettings {
        method: Method::Hbat,
        subsets: 2,
        sft: training(1e-3),
        dpo: training(5e-4),
        consolidation: Consolidation::default(),
        freeze_fraction: 0.2,
        preference_probability: None,
    }
}

fn settings(seed: u64) -> Settings {
    Settings {
        seed,
        order: Order::Shuffled,
        engine: Engine::Whole,
        micro_batch: 64,
        bucket: 8,
        pack: None,
        dpo: Dpo::default(),
        keep_start: KeepStart::Copy,
        update: UpdateTiming::AfterBackward,
    }
}
