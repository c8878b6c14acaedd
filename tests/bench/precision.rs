//! How far log-probabilities and gradients in bf16 are from those in f32, on a CPU; `precision.py` starts this and compares with
//! PyTorch:
//!
//!     bench_precision MODEL < demonstrations.json
//!
//! Standard input is a list of `[prompt, response]`, lists of token ids; their SFT gradient goes through the segmented engine, in
//! f32 and with bf16 weights, by the tensor operations of all devices. Prints one JSON object: under `units` for every unit the largest
//! difference as a part of the largest f32 number (`max`), and the norm of the difference as a part of the norm (`norm`); under `texts`
//! the differences of log π of each response.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use burn::tensor::Device;
use hbat::compute::{Compute, Precision, Weights};
use hbat::engine::Engine;
use hbat::evaluate::sequence_scores;
use hbat::objective::Sft;
use hbat::tokens::{Batch, Group, Sequence};
use hbat_cli::model::ModelFolder;
use serde_json::{Map, Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a model's folder"));
    let texts: Vec<[Vec<u32>; 2]> = serde_json::from_reader(std::io::stdin()).expect("pairs of lists of token ids");
    let group = |(index, [prompt, response]): (usize, [Vec<u32>; 2])| {
        Group::demonstration(index, Sequence::new(prompt, &response).expect("neither is empty"))
    };
    let groups: Vec<Group> = texts.into_iter().enumerate().map(group).collect();
    let [expected, found] = [numbers(&folder, Weights::F32, &groups).await, numbers(&folder, Weights::Bf16Split, &groups).await];
    let pairs = found.gradients.iter().zip(&expected.gradients);
    let off = expected.units.into_iter().zip(pairs).map(|(unit, (found, expected))| (unit, off(found, expected)));
    let texts: Vec<f32> = found.log_probs.iter().zip(&expected.log_probs).map(|(a, b)| a - b).collect();
    println!("{}", json!({ "units": off.collect::<Map<_, _>>(), "texts": texts }));
}

/// What is compared.
struct Numbers {
    /// Names.
    units: Vec<String>,
    gradients: Vec<Vec<f32>>,
    /// Of whole responses.
    log_probs: Vec<f32>,
}

async fn numbers(folder: &PathBuf, weights: Weights, groups: &[Group]) -> Numbers {
    let compute = Compute::device(Device::flex()).with(Precision { weights, ..Precision::default() });
    let policy = ModelFolder::open(folder).expect("a model").load(compute, |_| ()).expect("weights");
    let batch = Batch::new(groups, 1);
    let log_probs = sequence_scores(&policy, Engine::Segmented, &batch).await.expect("log-probabilities");
    let (_, gradients) = hbat_tests::gradient(&policy, Engine::Segmented, &Sft, batch).await;
    Numbers { units: policy.units().iter().map(|unit| unit.name.clone()).collect(), gradients, log_probs }
}

fn off(found: &[f32], expected: &[f32]) -> Value {
    let pairs = || found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b), f64::from(*b)));
    let most = pairs().fold([0.0, 0.0], |[d, e]: [f64; 2], (x, y)| [d.max(x.abs()), e.max(y.abs())]);
    let squares = pairs().fold([0.0, 0.0], |[d, e], (x, y)| [d + x * x, e + y * y]);
    json!({ "max": most[0] / most[1], "norm": (squares[0] / squares[1]).sqrt() })
}
