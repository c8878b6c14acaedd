//! Times optimizer steps at SmolLM2-135M's shape, f32, with random weights, for a ratio against `peer_trl.py`:
//!
//!     cargo run --release -p hbat-tests --bin bench_step -- --engine whole --objective sft --hold none --steps 5
//!
//! Eight sequences of 512 tokens (256 prompt, 256 response; DPO: four pairs), or `--rows`, `--width` and `--prompt`, after
//! `--warm-up` steps that do not count. Prints one JSON line; one process measures one configuration, so that its peak memory
//! means something. `--hold anchor` adds the consolidation penalty and its anchor. Times mean something only on a machine that
//! does nothing else.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Instant;

use hbat::engine::{Accumulate, Engine};
use hbat::model::{LlamaConfig, Policy};
use hbat::objective::{Dpo, Objective, Sft};
use hbat::optimizer::{AdamW, AdamWSettings, Pull, Strength};
use hbat::reduce::Alone;
use hbat::slab::Slab;
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::toy::random_policy;
use hbat::trainer::{Term, accumulate};
use hbat_cli::memory;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

const CONFIG: &str = r#"{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true, "rope_theta": 100000.0}"#;

struct Options {
    engine: Engine,
    objective: String,
    hold: String,
    steps: usize,
    warm_up: usize,
    rows: usize,
    width: usize,
    prompt: usize,
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
            engine: serde_json::from_value(word("engine", "whole").into()).expect("whole, segmented or autodiff"),
            objective: word("objective", "sft"),
            hold: word("hold", "none"),
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

    fn pair(&self, index: usize) -> Group {
        let mut group = Group::preference(index, self.sequence(2 * index), self.sequence(2 * index + 1));
        group.columns.insert(Column::ReferenceLogProb, vec![-2500.0, -2500.0]);
        group
    }

    /// Tokens that no other index has.
    fn sequence(&self, index: usize) -> Sequence {
        let token = |t: usize| ((index * 7919 + t * 104_729) % 49_152) as u32;
        let prompt = (0..self.prompt).map(token).collect();
        let response: Vec<u32> = (self.prompt..self.width).map(token).collect();
        Sequence::new(prompt, &response).expect("neither is empty")
    }
}

fn main() {
    memory::keep_freed();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(run(&Options::read()));
}

async fn run(options: &Options) {
    let config: LlamaConfig = serde_json::from_str(CONFIG).expect("a configuration");
    let device = hbat_backends::open(hbat_backends::DeviceName::Cpu).expect("a CPU");
    let mut policy = random_policy(config, hbat::compute::Compute::host(device), 0);
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    let pull = if options.hold == "anchor" { Some(pull(&policy).await) } else { None };
    let (objective, groups) = options.objective();
    let (mut steps, mut passes) = (Vec::new(), Vec::new());
    for _ in 0..options.warm_up + options.steps {
        let began = Instant::now();
        let mut sink = Accumulate::new(policy.units().len());
        let term = Term { objective: objective.as_ref(), batches: vec![Batch::new(&groups, 1)], factor: 1.0 };
        accumulate(options.engine, &policy, &[term], &mut sink, &Alone).await.expect("a gradient");
        passes.push(began.elapsed().as_secs_f64());
        optimizer.step(&mut policy, sink.into_sums(), pull.as_ref(), 1e-6, &Alone).await.expect("a step");
        steps.push(began.elapsed().as_secs_f64());
    }
    report(options, &steps[options.warm_up..], &passes[options.warm_up..]);
}

fn report(options: &Options, steps: &[f64], passes: &[f64]) {
    let record = serde_json::json!({
        "engine": options.engine, "objective": options.objective, "hold": options.hold, "rows": options.rows,
        "width": options.width, "tokens_per_second": (options.rows * options.width) as f64 / median(steps),
        "step_seconds": steps, "forward_backward_seconds": passes, "peak_rss_bytes": peak_memory(),
    });
    println!("{record}");
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

async fn pull(policy: &Policy) -> Pull {
    let mut anchor = Vec::new();
    for tensor in policy.tensors() {
        anchor.push(Slab::copy(tensor, policy.compute()).await.expect("a copy"));
    }
    let strength = vec![Strength::PerUnit(100.0 / policy.units().len() as f64); policy.units().len()];
    Pull { anchor, strength }
}

/// The most memory the process has held, from the kernel.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
