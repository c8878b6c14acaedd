//! Times optimizer steps at SmolLM2-135M's shape, f32, with random weights, for a ratio against `peer_trl.py`:
//!
//!     cargo run --release -p hbat-tests --bin bench_step -- --engine whole --objective sft --hold none --steps 5
//!
//! Eight sequences of 512 tokens (256 prompt, 256 response; DPO: four pairs). Prints one JSON line. `--hold anchor` adds the
//! consolidation penalty and its anchor. Times mean something only on a machine that does nothing else.

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

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONFIG: &str = r#"{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true, "rope_theta": 100000.0}"#;
const ROWS: usize = 8;
const WARM_UP: usize = 2;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options: BTreeMap<&str, &str> =
        arguments.chunks(2).filter_map(|pair| Some((pair.first()?.strip_prefix("--")?, pair.get(1)?.as_str()))).collect();
    let option = |name: &str, default: &'static str| options.get(name).copied().unwrap_or(default).to_owned();
    let engine: Engine = serde_json::from_value(option("engine", "whole").into()).expect("whole, segmented or autodiff");
    let steps: usize = option("steps", "5").parse().expect("a number of steps");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(run(engine, &option("objective", "sft"), &option("hold", "none"), steps));
}

async fn run(engine: Engine, objective: &str, hold: &str, steps: usize) {
    let config: LlamaConfig = serde_json::from_str(CONFIG).expect("a configuration");
    let device = hbat_backends::open(hbat_backends::DeviceName::Cpu).expect("a CPU");
    let mut policy = random_policy(config, hbat::compute::Compute::host(device), 0);
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    let pull = if hold == "anchor" { Some(pull(&policy).await) } else { None };
    let (objective, groups): (&dyn Objective, Vec<Group>) = match objective {
        "dpo" => (&Dpo::default(), (0..ROWS / 2).map(pair).collect()),
        _ => (&Sft, (0..ROWS).map(|i| Group::demonstration(i, sequence(i))).collect()),
    };
    let mut seconds = Vec::new();
    for _ in 0..WARM_UP + steps {
        let began = Instant::now();
        let mut sink = Accumulate::new(policy.units().len());
        let term = Term { objective, batches: vec![Batch::new(&groups, 1)], factor: 1.0 };
        accumulate(engine, &policy, &[term], &mut sink, &Alone).await.expect("a gradient");
        optimizer.step(&mut policy, sink.into_sums(), pull.as_ref(), 1e-6, &Alone).await.expect("a step");
        seconds.push(began.elapsed().as_secs_f64());
    }
    report(engine, objective.name(), hold, &seconds[WARM_UP..]);
}

fn report(engine: Engine, objective: &str, hold: &str, seconds: &[f64]) {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let record = serde_json::json!({
        "engine": engine, "objective": objective, "hold": hold, "tokens_per_second": (ROWS * 512) as f64 / median,
        "step_seconds": seconds, "peak_rss_bytes": peak_memory(),
    });
    println!("{record}");
}

async fn pull(policy: &Policy) -> Pull {
    let mut anchor = Vec::new();
    for tensor in policy.tensors() {
        anchor.push(Slab::copy(tensor, policy.compute()).await.expect("a copy"));
    }
    let strength = vec![Strength::PerUnit(100.0 / policy.units().len() as f64); policy.units().len()];
    Pull { anchor, strength }
}

fn pair(index: usize) -> Group {
    let mut group = Group::preference(index, sequence(2 * index), sequence(2 * index + 1));
    group.columns.insert(Column::ReferenceLogProb, vec![-2500.0, -2500.0]);
    group
}

/// 512 tokens that no other index has.
fn sequence(index: usize) -> Sequence {
    let token = |t: usize| ((index * 7919 + t * 104_729) % 49_152) as u32;
    let prompt = (0..256).map(token).collect();
    let response: Vec<u32> = (256..512).map(token).collect();
    Sequence::new(prompt, &response).expect("neither is empty")
}

/// The most memory the process has held, from the kernel.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
