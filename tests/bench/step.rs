//! The time and memory of optimizer steps at the size of SmolLM2-135M, from random weights.
//!
//! `cargo bench -p hbat-tests --bench step -- --engine segmented --objective dpo --steps 5`
//!
//! Prints one JSON line. A step is forward, backward, clipping and AdamW over `--rows` sequences of `--width` tokens, of
//! which the first `--prompt` are not trained on. For DPO half of the rows are chosen and half rejected, and reference
//! log-probs are given. One process measures one configuration, so that the peak of its resident memory means something.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::TensorData;
use hbat::compute::Compute;
use hbat::engine::{Accumulate, Engine};
use hbat::model::{InitError, LlamaConfig, Policy, Unit};
use hbat::objective::{Dpo, Objective, Sft};
use hbat::optimizer::{AdamW, AdamWSettings};
use hbat::reduce::Alone;
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::trainer::{Term, accumulate};

/// The allocator of the command line.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SMOLLM2: &str = r#"{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": true}"#;

struct Options {
    engine: Engine,
    objective: String,
    steps: usize,
    rows: usize,
    width: usize,
    prompt: usize,
}

impl Options {
    fn read() -> Self {
        // Cargo adds `--bench`.
        let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for pair in words.chunks(2) {
            let [name, value] = pair else { panic!("{} needs a value", pair[0]) };
            given.insert(name.trim_start_matches("--"), value);
        }
        let number = |name: &str, default: usize| given.get(name).map_or(default, |v| v.parse().expect("a number"));
        Self {
            engine: serde_json::from_str(&format!("{:?}", given.get("engine").unwrap_or(&"whole"))).expect("an engine"),
            objective: given.get("objective").unwrap_or(&"sft").to_string(),
            steps: number("steps", 5),
            rows: number("rows", 8),
            width: number("width", 512),
            prompt: number("prompt", 1),
        }
    }

    fn objective(&self) -> Box<dyn Objective> {
        match self.objective.as_str() {
            "sft" => Box::new(Sft),
            "dpo" => Box::new(Dpo::default()),
            other => panic!("objective {other}: sft or dpo"),
        }
    }

    fn batch(&self) -> Batch {
        let mut noise = Noise(3);
        let mut sequence = || {
            let tokens: Vec<u32> = (0..self.width).map(|_| (noise.next() * 49152.0) as u32).collect();
            Sequence::new(tokens[..self.prompt].to_vec(), &tokens[self.prompt..]).expect("a prompt and a response")
        };
        let groups: Vec<Group> = match self.objective.as_str() {
            "sft" => (0..self.rows).map(|i| Group::demonstration(i, sequence())).collect(),
            _ => (0..self.rows / 2)
                .map(|i| {
                    let mut group = Group::preference(i, sequence(), sequence());
                    group.columns = BTreeMap::from([(Column::ReferenceLogProb, vec![-5000.0, -5000.0])]);
                    group
                })
                .collect(),
        };
        Batch::new(&groups, 1)
    }
}

/// Numbers in [0, 1) that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }
}

fn policy() -> Policy {
    let config: LlamaConfig = serde_json::from_str(SMOLLM2).expect("a config");
    let mut noise = Noise(1);
    let weights = |unit: &Unit| {
        let scale = if unit.is_vector() { (0.0, 1.0) } else { (0.08, -0.04) };
        let values: Vec<f32> = (0..unit.elements()).map(|_| noise.next() * scale.0 + scale.1).collect();
        Ok::<_, InitError>(TensorData::new(values, unit.dims()))
    };
    Policy::load(config, Compute::host(burn::tensor::Device::flex()), weights).expect("weights that fit")
}

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut policy, objective) = (policy(), options.objective());
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    let (mut seconds, mut forward_backward) = (Vec::new(), Vec::new());
    for _ in 0..options.steps {
        let start = Instant::now();
        runtime.block_on(async {
            let mut sink = Accumulate::new(policy.units().len());
            let terms = [Term { objective: objective.as_ref(), batches: vec![options.batch()], factor: 1.0 }];
            accumulate(options.engine, &policy, &terms, &mut sink, &Alone).await.expect("the CPU works");
            forward_backward.push(start.elapsed().as_secs_f64());
            optimizer.step(&mut policy, sink.into_sums(), None, 1e-5, &Alone).await.expect("the CPU works");
        });
        seconds.push(start.elapsed().as_secs_f64());
    }
    report(&options, seconds, forward_backward);
}

#[allow(clippy::print_stdout)] // its purpose
fn report(options: &Options, mut seconds: Vec<f64>, mut forward_backward: Vec<f64>) {
    let first = seconds[0];
    seconds.sort_by(f64::total_cmp);
    forward_backward.sort_by(f64::total_cmp);
    let (median, forward_backward) = (seconds[seconds.len() / 2], forward_backward[forward_backward.len() / 2]);
    let line = serde_json::json!({
        "engine": options.engine,
        "objective": options.objective,
        "rows": options.rows,
        "width": options.width,
        "prompt": options.prompt,
        "steps": options.steps,
        "tokens_per_second": (options.rows * options.width) as f64 / median,
        "step_seconds": median,
        "fastest_step_seconds": seconds[0],
        "first_step_seconds": first,
        "forward_backward_seconds": forward_backward,
        "processor_seconds": processor_seconds(),
        "peak_rss_bytes": peak_rss(),
    });
    println!("{line}");
}

/// The largest resident memory of this process so far, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Processor time of this process so far, user and system, where the system tells (in its ticks of 10 ms).
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?) / 100.0)
}
