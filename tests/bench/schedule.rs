//! Times a whole HBAT schedule against the same schedule without the penalty, at SmolLM2-135M's shape with random weights:
//!
//!     cargo run --release -p hbat-tests --bin bench_schedule -- 5 128
//!
//! Two trainers take their steps in turns, as often as the argument says, and by turns one or the other goes first: two subsets,
//! two steps per phase, four sequences of 128 tokens each, or as many as a second argument says. Few tokens per step and few
//! steps per anchor make the ratio larger than that of real runs. Prints the seconds of both for every repetition, what they were
//! spent on, and the median of the ratios, as one JSON line. Times mean something only on a machine that does nothing else.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Instant;

use hbat::consolidation::{Consolidation, Rule};
use hbat::model::Policy;
use hbat::schedule::{Method, Preference, ScheduleSettings, phases};
use hbat::tokens::Group;
use hbat::trainer::{Data, Event, Trainer};
use hbat_cli::memory;
use hbat_tests::{Zeros, median, sequence, settings, training};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

const ROWS: usize = 4;

/// Seconds without and with the penalty, by what they were spent on.
type Seconds = BTreeMap<&'static str, [f64; 2]>;

fn main() {
    memory::keep_freed();
    let repetitions = std::env::args().nth(1).map_or(5, |text| text.parse().expect("a number of repetitions"));
    let width = std::env::args().nth(2).map_or(128, |text| text.parse().expect("tokens per sequence"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let start = hbat_tests::policy();
    // The first repetition takes memory from the system, and does not count.
    let parts: Vec<Seconds> = (0..=repetitions).map(|round| runtime.block_on(both(&start, width, round % 2))).skip(1).collect();
    let seconds: Vec<[f64; 2]> = parts.iter().map(|parts| [0, 1].map(|which| parts.values().map(|s| s[which]).sum())).collect();
    let ratios: Vec<f64> = seconds.iter().map(|[without, with]| with / without).collect();
    let of_part = |part| [0, 1].map(|which| median(&parts.iter().map(|parts| parts[part][which]).collect::<Vec<f64>>()));
    let medians: Seconds = parts[0].keys().map(|part| (*part, of_part(*part))).collect();
    println!("{}", serde_json::json!({ "seconds": seconds, "medians": medians, "ratio": median(&ratios), "ratios": ratios }));
}

async fn both(start: &Policy, width: usize, first: usize) -> Seconds {
    let mut trainers = [first, 1 - first].map(|which| (which, trainer(start, [Method::Alternating, Method::Hbat][which], width)));
    let mut seconds = Seconds::new();
    loop {
        for (which, trainer) in &mut trainers {
            let began = Instant::now();
            let event = trainer.step().await.expect("a step");
            let part = match event {
                Event::PhaseStarted(_) => "phase starts",
                Event::Scored { .. } | Event::Answered { .. } => "references",
                Event::Step(_) => "steps",
                Event::Measured { .. } | Event::PhaseEnded(_) => "phase ends",
                Event::Finished if *which == first => continue,
                Event::Finished => return seconds,
            };
            if part == "phase starts" {
                // Where no anchor remembers a phase's start, reading it costs no more than this: nothing is read from a disk.
                trainer.start_is_stored(Box::new(Zeros));
            }
            seconds.entry(part).or_default()[*which] += began.elapsed().as_secs_f64();
        }
    }
}

fn trainer(start: &Policy, method: Method, width: usize) -> Trainer {
    let sequence = |index| sequence(index, (width / 2, width), start.config().vocab_size);
    let demonstrations = (0..4 * ROWS).map(|i| Group::demonstration(i, sequence(i))).collect();
    let pair = |i: usize| Group::preference(i, sequence(2 * i), sequence(2 * i + 1));
    let data = Data { demonstrations, preferences: (0..2 * ROWS).map(pair).collect() };
    Trainer::new(start.clone(), data, phases(&schedule(method)), settings(ROWS))
}

fn schedule(method: Method) -> ScheduleSettings {
    ScheduleSettings {
        method,
        subsets: 2,
        sft: training(ROWS),
        preference: Preference::Dpo,
        preference_training: training(ROWS / 2),
        consolidation: Consolidation { rule: Rule::Relative, ..Consolidation::default() },
        freeze_fraction: 0.0,
        preference_probability: None,
    }
}
