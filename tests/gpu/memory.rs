//! The budget's peak against the most that the device's allocator holds after a step. Later it may hold less: pages that are too small for what
//! came since are given back once they are empty.

use hbat::budget::budget;
use hbat::compute::Memory;
use hbat::trainer::{Event, Settings, Trainer, UpdateTiming};
use hbat_backends::usage;
use hbat_tests::{Zeros, config, data, settings, two_phases};
use serde_json::json;

use crate::shape::{Target, policy};

/// Steps on so many sequences, an even number, of so many tokens.
pub(crate) async fn run(target: Target, shape: &str, (rows, width): (usize, usize)) {
    let phases = two_phases(rows);
    for update in [UpdateTiming::AfterBackward, UpdateTiming::InBackward] {
        let compute = target.narrowest();
        let (device, config) = (compute.device.clone(), config(shape));
        let (data, settings) = (data(config.vocab_size, rows, width), Settings { update, ..settings(rows) });
        let needs = budget(&config, compute.layout, &phases, &data, &settings).expect("a budget");
        let (weights, own) = (compute.layout.precision.weights, compute.layout.memory == Memory::Device);
        let mut trainer = Trainer::new(policy(config, compute), data, phases.clone(), settings);
        for needs in needs {
            let held = finish_phase(&mut trainer, || usage(target.name, &device).map(|usage| usage.peak)).await;
            let ratio = held.map(|held| needs.peak.total() as f64 / held as f64);
            println!(
                "{}",
                json!({ "part": "memory", "target": target.to_string(), "shape": shape, "weights": weights, "update": update, "phase": needs.phase,
                    "predicted": needs.peak.total(), "held": held, "ratio": ratio, "own_memory": own })
            );
        }
        drop(trainer);
        device.memory_cleanup();
    }
}

/// The most that was held after one of its steps.
async fn finish_phase(trainer: &mut Trainer, held: impl Fn() -> Option<u64>) -> Option<u64> {
    let mut most = None;
    loop {
        match trainer.step().await.expect("a step") {
            Event::PhaseStarted(_) => trainer.start_is_stored(Box::new(Zeros)),
            Event::Step(_) => most = most.max(held()),
            Event::PhaseEnded(_) => return most,
            _ => {}
        }
    }
}
