//! Times a whole HBAT schedule against the same schedule without the penalty, at SmolLM2-135M's shape with random weights:
//!
//!     cargo run --release -p hbat-tests --bin bench_schedule -- 5
//!
//! Two trainers take their steps in turns, as often as the argument says: two subsets, two steps per phase, four sequences of
//! 128 tokens each. That is few tokens per step, and few steps per anchor, so the ratio is an upper bound for real runs. Prints
//! the seconds of both for every repetition, phases' beginnings and ends included, and the median of the ratios, as one JSON
//! line. Times mean something only on a machine that does nothing else.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use hbat::consolidation::{Consolidation, Rule};
use hbat::engine::Engine;
use hbat::model::{Policy, Unit};
use hbat::objective::Dpo;
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::schedule::{Method, Order, ScheduleSettings, Training, Warmup, phases};
use hbat::tokens::Group;
use hbat::trainer::{Data, Event, KeepStart, Settings, StoredWeights, Trainer};
use hbat_cli::memory;
use hbat_tests::{median, sequence};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

const ROWS: usize = 4;

fn main() {
    memory::keep_freed();
    let repetitions = std::env::args().nth(1).map_or(5, |text| text.parse().expect("a number of repetitions"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let start = hbat_tests::policy();
    // The first repetition takes memory from the system, and does not count.
    let seconds: Vec<[f64; 2]> = (0..=repetitions).map(|_| runtime.block_on(both(&start))).skip(1).collect();
    let ratios: Vec<f64> = seconds.iter().map(|[without, with]| with / without).collect();
    println!("{}", serde_json::json!({ "alternating_and_hbat_seconds": seconds, "ratio": median(&ratios), "ratios": ratios }));
}

/// Where no anchor remembers a phase's start, reading it costs no more than this: nothing is read from a disk.
struct Zeros;

impl StoredWeights for Zeros {
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String> {
        Ok(vec![0.0; unit.elements()])
    }
}

/// Seconds of the schedule without and with the penalty.
async fn both(start: &Policy) -> [f64; 2] {
    let mut trainers = [Method::Alternating, Method::Hbat].map(|method| trainer(start, method));
    let mut seconds = [0.0; 2];
    loop {
        let mut finished = false;
        for (trainer, seconds) in trainers.iter_mut().zip(&mut seconds) {
            let began = Instant::now();
            let event = trainer.step().await.expect("a step");
            if matches!(event, Event::PhaseStarted(_)) {
                trainer.start_is_stored(Box::new(Zeros));
            }
            finished = event == Event::Finished;
            *seconds += began.elapsed().as_secs_f64();
        }
        if finished {
            return seconds;
        }
    }
}

fn trainer(start: &Policy, method: Method) -> Trainer {
    let demonstrations = (0..4 * ROWS).map(|i| Group::demonstration(i, sequence(i, 64, 128))).collect();
    let pair = |i: usize| Group::preference(i, sequence(2 * i, 64, 128), sequence(2 * i + 1, 64, 128));
    let data = Data { demonstrations, preferences: (0..2 * ROWS).map(pair).collect() };
    Trainer::new(start.clone(), data, phases(&schedule(method)), settings())
}

fn schedule(method: Method) -> ScheduleSettings {
    let training = |batch_size| Training {
        learning_rate: 1e-6,
        decay: Decay::Constant,
        warmup: Warmup { steps: 0, fraction: 0.0 },
        batch_size,
        epochs: 1,
        optimizer: AdamWSettings::default(),
    };
    ScheduleSettings {
        method,
        subsets: 2,
        sft: training(ROWS),
        dpo: training(ROWS / 2),
        consolidation: Consolidation { rule: Rule::Relative, ..Consolidation::default() },
        freeze_fraction: 0.0,
        preference_probability: None,
    }
}

fn settings() -> Settings {
    Settings {
        seed: 0,
        order: Order::AsGiven,
        engine: Engine::Segmented,
        micro_batch: ROWS,
        bucket: 1,
        dpo: Dpo::default(),
        keep_start: KeepStart::Stored,
    }
}
