//! Updates by hbat's kernels and with anchors that travel, against the same by Burn's operations, in order.

use burn::tensor::{Tensor, TensorData};
use hbat::compute::{Compute, Weights};
use hbat::engine::GradientSink;
use hbat::model::{Policy, Unit};
use hbat::optimizer::{AdamW, AdamWSettings, Consolidate, StepNorms};
use hbat::random::{normal, stream};
use hbat_tests::{config, pull};
use serde_json::json;

use crate::shape::{Target, policy};

const STEPS: u64 = 4;
const RATE: f64 = 1e-4;

/// Of the largest change, and of a norm. Moments of bf16 may round either way.
const TOLERANCES: [f64; 2] = [2e-2, 1e-4];

pub(crate) async fn run(target: Target) {
    for kept in [Weights::Bf16Split, Weights::Bf16Master] {
        if let Some(compute) = target.in_bf16(kept).filter(|compute| compute.layout.kernels.is_some()) {
            compare(target, compute).await;
        }
    }
}

async fn compare(target: Target, compute: Compute) {
    let kept = compute.layout.precision.weights;
    let mut plain = compute.clone();
    (plain.layout.kernels, plain.layout.carrier) = (None, None);
    let (found, norms) = updated(compute).await;
    let (expected, plain_norms) = updated(plain).await;
    let (mut off, mut moved) = (0.0f32, 0.0f32);
    for ((found, expected), before) in found.1.iter().zip(&expected.1).zip(&expected.0) {
        for ((a, b), before) in found.iter().zip(expected).zip(before) {
            (off, moved) = (off.max((a - b).abs()), moved.max((b - before).abs()));
        }
    }
    let norm = |norms: &StepNorms| [norms.gradient, norms.penalty, norms.penalty_gradient];
    let pairs = norms.iter().flat_map(norm).zip(plain_norms.iter().flat_map(norm));
    let norms_off = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(1e-12)).fold(0.0, f64::max);
    let weights_off = f64::from(off / moved);
    let finite = found.1.iter().flatten().all(|value| value.is_finite()) && norms.iter().flat_map(norm).all(f64::is_finite);
    let passed = finite && weights_off <= TOLERANCES[0] && norms_off <= TOLERANCES[1];
    println!(
        "{}",
        json!({ "part": "update", "target": target.to_string(), "kept": kept, "weights": weights_off, "norms": norms_off,
            "largest_change": moved, "passed": passed })
    );
}

type Values = Vec<Vec<f32>>;

/// Weights before and after steps that a penalty holds, and every step's norms.
async fn updated(compute: Compute) -> ((Values, Values), Vec<StepNorms>) {
    let mut policy = policy(config("toy"), compute);
    let before = values(&policy).await;
    let pull = pull(&policy).await;
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    let mut norms = Vec::new();
    for step in 0..STEPS {
        let frozen = vec![false; policy.units().len()];
        let mut sink = Consolidate::new(&policy, Some(&pull), &frozen);
        sink.last_pass();
        for unit in (0..frozen.len()).rev() {
            sink.take(unit, gradient(&policy, unit, step));
        }
        let consolidated = sink.into_consolidated();
        norms.push(optimizer.finish(&mut policy, consolidated, RATE).await.expect("a step"));
    }
    ((before, values(&policy).await), norms)
}

fn gradient(policy: &Policy, unit: usize, step: u64) -> Tensor<2> {
    let (unit, like): (&Unit, _) = (&policy.units()[unit], &policy.tensors()[unit]);
    let mut rng = stream(step, &unit.name, &[]);
    let values: Vec<f32> = (0..unit.elements()).map(|_| (1e-3 * normal(&mut rng)) as f32).collect();
    Tensor::<2>::from_data(TensorData::new(values, unit.dims()), &policy.compute().device).cast(like.dtype())
}

async fn values(policy: &Policy) -> Values {
    let mut values = Vec::new();
    for unit in 0..policy.units().len() {
        values.push(policy.values(unit).await.expect("values"));
    }
    values
}
