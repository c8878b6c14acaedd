//! Losses, logits and gradients against those of the CPU in f32.

use hbat::compute::Compute;
use hbat::engine::Engine;
use hbat::model::Policy;
use hbat::objective::{Dpo, Sft};
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat_tests::{config, gradient};
use serde_json::json;

use crate::shape::{Target, policy};

/// Largest relative differences: in f32 and in bf16.
const TOLERANCES: [f64; 2] = [1e-3, 2e-2];

/// What is compared: losses by objective, logits, and every unit's gradient by objective.
struct Numbers {
    losses: [f64; 2],
    logits: Vec<f32>,
    gradients: [Vec<Vec<f32>>; 2],
}

pub(crate) async fn run(target: Target) {
    let oracle = policy(config("toy"), Target::parse("cpu").plain());
    let expected = numbers(&oracle, Engine::Whole, |groups, bucket| Batch::new(groups, bucket)).await;
    let computes: [(&str, Option<Compute>, f64); 2] =
        [("f32", Some(target.plain()), TOLERANCES[0]), ("bf16", target.narrow(), TOLERANCES[1])];
    for (precision, compute, tolerance) in computes {
        let Some(compute) = compute else {
            println!("{}", json!({ "part": "parity", "precision": precision, "skipped": "the device does not compute in it" }));
            continue;
        };
        let model = policy(config("toy"), compute);
        for (engine, rows) in [("whole", "padded"), ("segmented", "padded"), ("segmented", "packed")] {
            let kind = if engine == "whole" { Engine::Whole } else { Engine::Segmented };
            let lay: fn(&[Group], usize) -> Batch =
                if rows == "packed" { |g, _| Batch::packed(g, 192) } else { |g, w| Batch::new(g, w) };
            report(&numbers(&model, kind, lay).await, &expected, json!([target.to_string(), precision, engine, rows]), tolerance);
        }
    }
}

fn report(found: &Numbers, expected: &Numbers, how: serde_json::Value, tolerance: f64) {
    let relative = |(a, b): (&f64, &f64)| ((a - b) / b).abs();
    let more = |most: f64, next: f64| if next > most || next.is_nan() { next } else { most };
    let losses = found.losses.iter().zip(&expected.losses).map(relative).fold(0.0, more);
    let logits = off(&found.logits, &expected.logits);
    let units = config("toy").units();
    let mut worst = (0.0, String::new());
    for (found, expected) in found.gradients.iter().zip(&expected.gradients) {
        for ((found, expected), unit) in found.iter().zip(expected).zip(&units) {
            let off = off(found, expected);
            if off >= worst.0 {
                worst = (off, unit.name.clone());
            }
        }
    }
    let passed = losses <= tolerance && logits <= tolerance && worst.0 <= tolerance;
    println!(
        "{}",
        json!({ "part": "parity", "how": how, "losses": losses, "logits": logits, "gradients": worst.0, "worst_unit": worst.1,
            "tolerance": tolerance, "passed": passed })
    );
}

/// The largest difference, as a part of the largest number.
fn off(found: &[f32], expected: &[f32]) -> f64 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0f32, |most, value| most.max(value.abs()));
    let difference = largest(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let finite = found.iter().all(|value| value.is_finite());
    if finite { f64::from(difference / largest(&mut expected.iter().copied())) } else { f64::INFINITY }
}

async fn numbers(policy: &Policy, engine: Engine, lay: fn(&[Group], usize) -> Batch) -> Numbers {
    let widths = [96, 40, 17, 64];
    let groups: Vec<Group> = widths.iter().enumerate().map(|(i, &width)| Group::demonstration(i, sequence(i, width))).collect();
    let pairs: Vec<Group> = (0..2).map(pair).collect();
    let logits = engine.logits(policy, &Batch::new(&groups[..1], 1)).into_data_async().await.expect("logits");
    let logits = logits.convert::<f32>().try_into_vec().expect("f32");
    let (sft, dpo) = (
        gradient(policy, engine, &Sft, lay(&groups, 32)).await,
        gradient(policy, engine, &Dpo::default(), lay(&pairs, 32)).await,
    );
    Numbers { losses: [sft.0, dpo.0], logits, gradients: [sft.1, dpo.1] }
}

fn sequence(index: usize, width: usize) -> Sequence {
    hbat_tests::sequence(index, (width / 4, width), 512)
}

fn pair(index: usize) -> Group {
    let mut group = Group::preference(index, sequence(2 * index, 80), sequence(2 * index + 1, 50));
    group.columns.insert(Column::ReferenceLogProb, vec![-370.0, -230.0]);
    group
}
