//! How far gradients in bf16 are from those in f32, unit by unit, on a CPU; `precision.py` starts this and compares with PyTorch:
//!
//!     bench_precision MODEL < demonstrations.json
//!
//! Standard input is a list of `[prompt, response]`, lists of token ids; their SFT gradient goes through the segmented engine, in
//! f32 and with bf16 weights, by the tensor operations of all devices. Prints one JSON object: for every unit the largest difference
//! as a part of the largest f32 number (`max`), and the norm of the difference as a part of the norm (`norm`).

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use burn::tensor::Device;
use hbat::compute::{Compute, Precision, Weights};
use hbat::engine::Engine;
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
    let (units, expected) = gradient(&folder, Weights::F32, &groups).await;
    let (_, found) = gradient(&folder, Weights::Bf16Split, &groups).await;
    let off = units.into_iter().zip(found.iter().zip(&expected)).map(|(unit, (found, expected))| (unit, off(found, expected)));
    println!("{}", Value::from(off.collect::<Map<_, _>>()));
}

/// Every unit's name and gradient.
async fn gradient(folder: &PathBuf, weights: Weights, groups: &[Group]) -> (Vec<String>, Vec<Vec<f32>>) {
    let compute = Compute::device(Device::flex()).with(Precision { weights, ..Precision::default() });
    let policy = ModelFolder::open(folder).expect("a model").load(compute, |_| ()).expect("weights");
    let (_, values) = hbat_tests::gradient(&policy, Engine::Segmented, &Sft, Batch::new(groups, 1)).await;
    (policy.units().iter().map(|unit| unit.name.clone()).collect(), values)
}

fn off(found: &[f32], expected: &[f32]) -> Value {
    let pairs = || found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b), f64::from(*b)));
    let most = pairs().fold([0.0, 0.0], |[d, e]: [f64; 2], (x, y)| [d.max(x.abs()), e.max(y.abs())]);
    let squares = pairs().fold([0.0, 0.0], |[d, e], (x, y)| [d + x * x, e + y * y]);
    json!({ "max": most[0] / most[1], "norm": (squares[0] / squares[1]).sqrt() })
}
