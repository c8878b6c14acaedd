//! Times optimizer steps at SmolLM2-135M's shape, f32, with random weights, for a ratio against `peer_trl.py`:
//!
//!     cargo run --release -p hbat-tests --bin bench_step -- --configurations whole/none --objective sft --steps 5
//!
//! A configuration is an engine (whole, segmented, autodiff), and whether an anchor holds the weights (none, anchor: the
//! consolidation penalty). Several, with commas between them, take their steps in turns, so that a drift of the machine's speed
//! meets all alike; one alone has a peak memory that means something. Eight sequences of 512 tokens (256 prompt, 256 response;
//! DPO: four pairs), or `--rows`, `--width` and `--prompt`, after `--warm-up` steps that do not count. Prints one JSON line.
//! `--turns asked` takes a round of steps for every line on standard input: `in_turns.py` does that. Times mean something only
//! on a machine that does nothing else.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Instant;

use hbat::engine::{Accumulate, Engine};
use hbat::model::Policy;
use hbat::objective::{Dpo, Objective, Sft};
use hbat::optimizer::{AdamW, AdamWSettings, Pull};
use hbat::reduce::Alone;
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::trainer::{Term, accumulate};
use hbat_cli::memory;
use hbat_tests::{median, pull};
use serde_json::json;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

struct Options {
    configurations: Vec<Configuration>,
    objective: String,
    asked: bool,
    steps: usize,
    warm_up: usize,
    rows: usize,
    width: usize,
    prompt: usize,
}

#[derive(Clone, PartialEq)]
struct Configuration {
    engine: Engine,
    hold: String,
}

impl Configuration {
    fn read(text: &str) -> Self {
        let (engine, hold) = text.split_once('/').expect("a configuration such as whole/none");
        let engine = serde_json::from_value(engine.into()).expect("whole, segmented or autodiff");
        assert!(["none", "anchor"].contains(&hold), "none or anchor, not {hold}");
        Self { engine, hold: hold.to_owned() }
    }

    fn name(&self) -> String {
        format!("{}/{}", json!(self.engine).as_str().expect("engines have names"), self.hold)
    }
}

impl Options {
    fn read() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let given: BTreeMap<&str, &str> =
            arguments.chunks(2).filter_map(|pair| Some((pair.first()?.strip_prefix("--")?, pair.get(1)?.as_str()))).collect();
        let word = |name: &str, default: &'static str| given.get(name).copied().unwrap_or(default).to_owned();
        let number = |name: &str, default: usize| given.get(name).map_or(default, |value| value.parse().expect("a number"));
        let width = number("width", 512);
        Self {
            configurations: word("configurations", "whole/none").split(',').map(Configuration::read).collect(),
            objective: word("objective", "sft"),
            asked: word("turns", "free") == "asked",
            steps: number("steps", 5),
            warm_up: number("warm-up", 2),
            rows: number("rows", 8),
            width,
            prompt: number("prompt", width / 2),
        }
    }

    fn objective(&self) -> (Box<dyn Objective>, Vec<Group>) {
        match self.objective.as_str() {
            "dpo" => (Box::new(Dpo::default()), (0..self.rows / 2).map(|i| self.pair(i)).collect()),
            _ => (Box::new(Sft), (0..self.rows).map(|i| Group::demonstration(i, self.sequence(i))).collect()),
        }
    }

    fn sequence(&self, index: usize) -> Sequence {
        hbat_tests::sequence(index, (self.prompt, self.width), 49_152)
    }

    fn pair(&self, index: usize) -> Group {
        let mut group = Group::preference(index, self.sequence(2 * index), self.sequence(2 * index + 1));
        group.columns.insert(Column::ReferenceLogProb, vec![-2500.0, -2500.0]);
        group
    }
}

/// Seconds of a step, and of its forward and backward pass alone.
type Seconds = [f64; 2];

/// What the configurations share: they differ in how a gradient comes about and whether it is held, not in state.
struct Bench {
    policy: Policy,
    optimizer: AdamW,
    pull: Option<Pull>,
    objective: Box<dyn Objective>,
    groups: Vec<Group>,
}

impl Bench {
    async fn new(options: &Options) -> Self {
        let policy = hbat_tests::policy();
        let optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
        let held = options.configurations.iter().any(|configuration| configuration.hold == "anchor");
        let pull = if held { Some(pull(&policy).await) } else { None };
        let (objective, groups) = options.objective();
        Self { policy, optimizer, pull, objective, groups }
    }

    async fn step(&mut self, configuration: &Configuration) -> Seconds {
        let began = Instant::now();
        let mut sink = Accumulate::new(self.policy.units().len());
        let term = Term { objective: self.objective.as_ref(), batches: vec![Batch::new(&self.groups, 1)], factor: 1.0 };
        accumulate(configuration.engine, &self.policy, &[term], &mut sink, &Alone).await.expect("a gradient");
        let passed = began.elapsed().as_secs_f64();
        let pull = self.pull.as_ref().filter(|_| configuration.hold == "anchor");
        self.optimizer.step(&mut self.policy, sink.into_sums(), pull, 1e-6, &Alone).await.expect("a step");
        [began.elapsed().as_secs_f64(), passed]
    }
}

fn main() {
    memory::keep_freed();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(run(&Options::read()));
}

async fn run(options: &Options) {
    let mut bench = Bench::new(options).await;
    let mut seconds = vec![Vec::new(); options.configurations.len()];
    for _ in 0..options.warm_up + options.steps {
        if options.asked && std::io::stdin().read_line(&mut String::new()).expect("a line on standard input") == 0 {
            break;
        }
        for (configuration, seconds) in options.configurations.iter().zip(&mut seconds) {
            seconds.push(bench.step(configuration).await);
        }
        if options.asked {
            let latest = |seconds: &Vec<Seconds>| seconds.last().map(|last| last[0]);
            let names = options.configurations.iter().map(Configuration::name);
            let turn: BTreeMap<String, Option<f64>> = names.zip(seconds.iter().map(latest)).collect();
            println!("{}", json!({ "turn": turn }));
        }
    }
    for (configuration, seconds) in options.configurations.iter().zip(&seconds) {
        report(options, configuration, &seconds[options.warm_up.min(seconds.len())..]);
    }
}

fn report(options: &Options, configuration: &Configuration, seconds: &[Seconds]) {
    let of = |which: usize| seconds.iter().map(|s| s[which]).collect::<Vec<f64>>();
    let record = json!({
        "configuration": configuration.name(), "objective": options.objective, "rows": options.rows, "width": options.width,
        "tokens_per_second": (options.rows * options.width) as f64 / median(&of(0)),
        "step_seconds": of(0), "forward_backward_seconds": of(1), "peak_rss_bytes": peak_memory(),
    });
    println!("{record}");
}

/// The most memory the process has held, from the kernel.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
