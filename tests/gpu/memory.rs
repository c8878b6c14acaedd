//! The budget's peak against what the device's allocator holds after a phase.

use hbat::budget::budget;
use hbat::consolidation::Consolidation;
use hbat::engine::Engine;
use hbat::objective::Dpo;
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::schedule::{Method, Order, ScheduleSettings, Training, Warmup, phases};
use hbat::tokens::Group;
use hbat::trainer::{Data, Event, KeepStart, Settings, StoredWeights, Trainer, UpdateTiming};
use hbat_backends::{DeviceName, usage};
use serde_json::json;

use crate::shape::{apart, config, layout, narrow, plain, policy, sequence};

const ROWS: usize = 4;
const WIDTH: usize = 512;

/// θ before a phase, which nobody here looks at.
struct Zeros;

impl StoredWeights for Zeros {
    fn read(&mut self, unit: &hbat::model::Unit) -> Result<Vec<f32>, String> {
        Ok(vec![0.0; unit.elements()])
    }
}

pub(crate) async fn run(name: DeviceName, shape: &str) {
    for update in [UpdateTiming::AfterBackward, UpdateTiming::InBackward] {
        let compute = narrow(name).unwrap_or_else(|| plain(name));
        let (device, config) = (compute.device.clone(), config(shape));
        let (data, settings) = (data(config.vocab_size), settings(update));
        let needs = budget(&config, layout(&compute), &phases(&schedule()), &data, &settings).expect("a budget");
        let (weights, own) = (compute.layout.precision.weights, apart(&compute));
        let mut trainer = Trainer::new(policy(config, compute), data, phases(&schedule()), settings);
        for needs in needs {
            finish_phase(&mut trainer).await;
            let held = usage(name, &device).map(|usage| usage.peak);
            let ratio = held.map(|held| needs.peak.total() as f64 / held as f64);
            println!(
                "{}",
                json!({ "part": "memory", "shape": shape, "weights": weights, "update": update, "phase": needs.phase,
                    "predicted": needs.peak.total(), "held": held, "ratio": ratio, "own_memory": own })
            );
        }
        device.memory_cleanup();
    }
}

async fn finish_phase(trainer: &mut Trainer) {
    loop {
        match trainer.step().await.expect("a step") {
            Event::PhaseStarted(_) => trainer.start_is_stored(Box::new(Zeros)),
            Event::PhaseEnded(_) => return,
            _ => {}
        }
    }
}

fn data(vocabulary: usize) -> Data {
    let sequence = |index| sequence(index, WIDTH, vocabulary);
    Data {
        demonstrations: (0..2 * ROWS).map(|i| Group::demonstration(i, sequence(i))).collect(),
        preferences: (0..ROWS).map(|i| Group::preference(i, sequence(2 * i), sequence(2 * i + 1))).collect(),
    }
}

/// A phase of two steps of each objective, the second one held.
fn schedule() -> ScheduleSettings {
    let training = |batch_size| Training {
        learning_rate: 1e-6,
        decay: Decay::Constant,
        warmup: Warmup { steps: 0, fraction: 0.0 },
        batch_size,
        epochs: 1,
        optimizer: AdamWSettings { clip: f64::INFINITY, ..AdamWSettings::default() },
    };
    ScheduleSettings {
        method: Method::Hbat,
        subsets: 1,
        sft: training(ROWS),
        dpo: training(ROWS / 2),
        consolidation: Consolidation::default(),
        freeze_fraction: 0.0,
        preference_probability: None,
    }
}

fn settings(update: UpdateTiming) -> Settings {
    Settings {
        seed: 0,
        order: Order::AsGiven,
        engine: Engine::Segmented,
        micro_batch: ROWS,
        bucket: 1,
        pack: None,
        dpo: Dpo::default(),
        keep_start: KeepStart::Stored,
        update,
    }
}
