//! Times greedy generation at SmolLM2-135M's shape, f32, on the CPU, with a folder's weights or random ones:
//!
//!     cargo run --release -p hbat-tests --bin bench_generate -- --rounds 3 --model DIR
//!
//! `--prompts` of 16, 24, 32, … tokens are continued by `--new` tokens each, all together. Prints one JSON line: the seconds of each round
//! after one that does not count, and the tokens. `peer_generate.py` runs it in turns with transformers. Times mean something only on a
//! machine that does nothing else.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use hbat::compute::Compute;
use hbat::generate::{Completion, GenerateSettings, generate};
use hbat::model::Policy;
use hbat_backends::{DeviceName, open};
use hbat_cli::memory;
use hbat_cli::model::ModelFolder;
use serde_json::json;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn policy(folder: Option<&&str>) -> Policy {
    let Some(folder) = folder else { return hbat_tests::policy() };
    let compute = Compute::host(open(DeviceName::Cpu).expect("a CPU"));
    ModelFolder::open(Path::new(folder)).expect("a model's folder").load(compute, |_| ()).expect("its weights")
}

/// Tokens that `peer_generate.py` knows, too.
fn prompt(index: usize, vocabulary: usize) -> Vec<u32> {
    (0..16 + 8 * index).map(|t| ((index * 7919 + t * 104_729) % vocabulary) as u32).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    memory::keep_freed();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given: BTreeMap<&str, &str> =
        arguments.chunks(2).filter_map(|pair| Some((pair.first()?.strip_prefix("--")?, pair.get(1)?.as_str()))).collect();
    let number = |name: &str, default: usize| given.get(name).map_or(default, |value| value.parse().expect("a number"));
    let policy = policy(given.get("model"));
    let prompts: Vec<Vec<u32>> = (0..number("prompts", 8)).map(|index| prompt(index, policy.config().vocab_size)).collect();
    let settings = GenerateSettings { max_new_tokens: number("new", 128), ..GenerateSettings::default() };
    let (mut seconds, mut completions) = (Vec::new(), Vec::new());
    for round in 0..=number("rounds", 3) {
        let start = Instant::now();
        completions = generate(&policy, &prompts, &settings).await.expect("a model that works");
        if round > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let tokens: Vec<Vec<u32>> = completions.into_iter().map(|completion: Completion| completion.tokens).collect();
    println!("{}", json!({ "seconds": seconds, "tokens": tokens }));
}
