//! bf16 weights: the same numbers as in f32 within what bf16 resolves, and updates that are not rounded away.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use hbat::compute::{Compute, Library, Moments, Offload, Precision, Products, Sums, Weights};
use hbat::consolidation::Rule;
use hbat::engine::{Accumulate, Engine};
use hbat::model::{InitError, Policy, Unit};
use hbat::objective::{Dpo, Objective, Sft};
use hbat::optimizer::{AdamW, AdamWSettings, Pull, Strength};
use hbat::random::{normal, stream};
use hbat::reduce::Alone;
use hbat::schedule::{Method, phases};
use hbat::slab::Slab;
use hbat::tokens::{Batch, Column};
use hbat::toy::random_policy;
use hbat::trainer::{Data, Settings, Term, Trainer, accumulate};

use crate::fixtures::{block_on, numbers};
use crate::runs::{self, Outcome, close, config, data, finish, largest_difference, schedule, settings};

const KEPT: [Weights; 2] = [Weights::Bf16Master, Weights::Bf16Split];

/// The CPU through the tensor operations of all devices.
fn compute(weights: Weights, moments: Moments) -> Compute {
    Compute::device(Device::flex()).with(Precision { weights, moments, ..Precision::default() })
}

/// Loss and gradients of all examples together, in passes of so many groups.
fn gradients(precision: Precision, objective: &dyn Objective, engine: Engine, cut: usize) -> (f64, Vec<Tensor<2>>) {
    let policy = random_policy(config(), Compute::device(Device::flex()).with(precision), 5);
    let Data { demonstrations, mut preferences } = data(6, 6);
    for group in &mut preferences {
        group.columns.insert(Column::ReferenceLogProb, vec![-20.0, -18.0]);
    }
    let groups = if objective.name() == "sft" { demonstrations } else { preferences };
    let batches = groups.chunks(cut).map(|groups| Batch::new(groups, 8)).collect();
    let mut sink = Accumulate::new(policy.units().len());
    let term = Term { objective, batches, factor: 1.0 };
    let reports = block_on(accumulate(engine, &policy, &[term], &mut sink, &Alone)).expect("a gradient");
    (reports[0].loss, sink.into_sums().into_iter().map(|sum| sum.expect("every unit has a gradient")).collect())
}

#[test]
fn losses_and_gradients_are_those_of_f32_within_what_bf16_resolves() {
    let units = config().units();
    for objective in [&Sft as &dyn Objective, &Dpo::default()] {
        for engine in [Engine::Whole, Engine::Segmented, Engine::Autodiff] {
            let (loss, expected) = gradients(Precision::default(), objective, engine, 6);
            for (weights, cut) in [(Weights::Bf16Split, 6), (Weights::Bf16Master, 6), (Weights::Bf16Split, 2)] {
                let (found, gradients) = gradients(Precision { weights, ..Precision::default() }, objective, engine, cut);
                close("loss", found, loss, 2e-2);
                let (mut off, mut whole) = (0.0, 0.0);
                for (unit, (found, expected)) in units.iter().zip(gradients.iter().zip(&expected)) {
                    let narrow = cut == 6 && !unit.is_vector();
                    let kind = if narrow { FloatDType::BF16 } else { FloatDType::F32 };
                    assert_eq!(FloatDType::from(found.dtype()), kind, "sums of several passes are f32, and what is of vectors");
                    let (found, expected) = (numbers(found), numbers(expected));
                    let unit_off = found.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                    let unit_whole = expected.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>();
                    (off, whole) = (off + unit_off, whole + unit_whole);
                    // A unit's own gradient may be a small difference of numbers that bf16 has rounded.
                    let unit_off = (unit_off / unit_whole).sqrt();
                    assert!(unit_off <= 0.07, "{}, {engine:?}, {}: off by {unit_off}", objective.name(), unit.name);
                }
                let off = (off / whole).sqrt();
                // Half of it is the rounding of the weights, which a published model's have behind them.
                assert!(off <= 2.5e-2, "{}, {engine:?}: the gradient is off by {off}", objective.name());
            }
        }
    }
}

#[test]
fn products_in_parts_give_the_losses_and_gradients_of_whole_ones() {
    let split = Precision { products: Products::Split, ..Precision::default() };
    for objective in [&Sft as &dyn Objective, &Dpo::default()] {
        for engine in [Engine::Whole, Engine::Segmented, Engine::Autodiff] {
            let [(loss, expected), (found, gradients)] =
                [Precision::default(), split].map(|precision| gradients(precision, objective, engine, 6));
            close("loss", found, loss, 1e-6);
            let [found, expected] = [gradients, expected].map(|all| all.iter().map(numbers).collect::<Vec<_>>());
            let off = largest_difference(&found, &expected);
            assert!(off > 0.0 && off <= 1e-5, "{}, {engine:?}: off by {off}", objective.name());
        }
    }
}

/// Stands in for a maker's products: Burn's own, in f32 and counted, without gradients.
fn counted() -> Library {
    fn multiply<const D: usize>(left: Tensor<D>, right: Tensor<D>, to: FloatDType) -> Tensor<D> {
        MULTIPLIED.fetch_add(1, Ordering::Relaxed);
        assert_eq!(left.dtype(), right.dtype());
        left.cast(FloatDType::F32).matmul(right.cast(FloatDType::F32)).cast(to)
    }
    fn joined(left: Tensor<4>, right: Tensor<4>, group: usize, into: Tensor<2>, from: usize) -> Tensor<2> {
        let ([texts, key_heads, rows, _], [.., dim]) = (left.dims(), right.dims());
        let (width, all) = (rows / group, key_heads * group * dim);
        let to = into.dtype().into();
        let heads = multiply(left, right, to).reshape([texts, key_heads * group, width, dim]).swap_dims(1, 2);
        into.slice_assign([from..from + texts * width, 0..all], heads.reshape([texts * width, all]))
    }
    let added = |left, right, sum: Tensor<2>| {
        let to: FloatDType = sum.dtype().into();
        (sum.cast(FloatDType::F32) + multiply(left, right, FloatDType::F32)).cast(to)
    };
    Library { name: "counted", matrices: multiply, batches: multiply, lasting: multiply, added, joined }
}

static MULTIPLIED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn products_of_a_library_give_the_losses_and_gradients_of_burns() {
    let by_library = Precision { products: Products::Library(counted()), ..Precision::default() };
    for objective in [&Sft as &dyn Objective, &Dpo::default()] {
        for engine in [Engine::Whole, Engine::Segmented] {
            let before = MULTIPLIED.load(Ordering::Relaxed);
            let (loss, expected) = gradients(Precision::default(), objective, engine, 6);
            let (found, exact) = gradients(by_library, objective, engine, 6);
            // A layer has seven weights, each with a product and two gradients, and attention with two and four.
            assert!(MULTIPLIED.load(Ordering::Relaxed) - before >= 27 * config().num_hidden_layers);
            close("loss", found, loss, 0.0);
            assert!(exact.iter().zip(&expected).all(|(a, b)| numbers(a) == numbers(b)), "{}, {engine:?}", objective.name());
            // In bf16 a library's products are rounded later than Burn's, if at all.
            let (found, narrow) = gradients(Precision { weights: Weights::Bf16Split, ..by_library }, objective, engine, 6);
            close("loss", found, loss, 2e-2);
            let off = distance(&narrow, &expected);
            assert!(off > 0.0 && off <= 2e-2, "{}, {engine:?}: the gradient is off by {off}", objective.name());
        }
    }
}

/// The norm of the difference of two gradients, as a part of the second's.
fn distance(found: &[Tensor<2>], expected: &[Tensor<2>]) -> f64 {
    let (mut off, mut whole) = (0.0, 0.0);
    for (found, expected) in found.iter().zip(expected) {
        for (a, b) in numbers(found).into_iter().zip(numbers(expected)) {
            off += f64::from(a - b).powi(2);
            whole += f64::from(b).powi(2);
        }
    }
    (off / whole).sqrt()
}

/// Weights after steps on the same gradients, with a rate so small that bf16 alone would not move.
fn stepped(weights: Weights, moments: Moments, steps: usize) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let compute = compute(weights, moments);
    let mut policy = random_policy(config(), compute.clone(), 5);
    let before = runs::weights(&policy);
    let mut anchor = Vec::new();
    for unit in 0..policy.units().len() {
        anchor.push(block_on(Slab::copy(&policy.exact(unit), &compute)).expect("a copy"));
    }
    let pull = Pull { strength: vec![Strength::PerUnit(3.0); anchor.len()], anchor };
    let mut optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
    for step in 0..steps as u64 {
        let gradient = |unit: &Unit| {
            let mut rng = stream(step, &unit.name, &[]);
            let values: Vec<f32> = (0..unit.elements()).map(|_| (1e-3 + 1e-3 * normal(&mut rng)) as f32).collect();
            let gradient: Tensor<2> = Tensor::from_data(TensorData::new(values, unit.dims()), &compute.device);
            Some(gradient.cast(weights.dtype()))
        };
        let gradients = policy.units().iter().map(gradient).collect();
        block_on(optimizer.step(&mut policy, gradients, Some(&pull), 1e-5, &Alone)).expect("a step");
    }
    (before, runs::weights(&policy))
}

/// C, Eq. 7, over all elements.
fn change((before, after): &(Vec<Vec<f32>>, Vec<Vec<f32>>)) -> f64 {
    let elements: Vec<f64> = before.iter().flatten().zip(after.iter().flatten()).map(|(b, a)| f64::from(b - a).powi(2)).collect();
    elements.iter().sum::<f64>() / elements.len() as f64
}

#[test]
fn small_steps_change_bf16_weights_as_much_as_f32_ones() {
    let expected = change(&stepped(Weights::F32, Moments::F32, 30));
    assert!(expected > 1e-10, "{expected:e}");
    for weights in KEPT {
        for moments in [Moments::F32, Moments::Bf16] {
            close("C", change(&stepped(weights, moments, 30)), expected, 3e-3);
        }
    }
}

fn run(weights: Weights, moments: Moments) -> Outcome {
    let settings = Settings { engine: Engine::Segmented, ..settings() };
    let policy = random_policy(config(), compute(weights, moments), 5);
    finish(&mut Trainer::new(policy, data(7, 6), phases(&schedule(Method::Hbat, Rule::Relative)), settings))
}

#[test]
fn an_anchor_in_ordinary_memory_holds_as_one_on_the_device() {
    for weights in [Weights::F32, Weights::Bf16Split] {
        let run = |offload| {
            let policy = random_policy(config(), compute(weights, Moments::F32).offloading(offload), 5);
            let schedule = phases(&schedule(Method::Hbat, Rule::Relative));
            finish(&mut Trainer::new(policy, data(7, 6), schedule, settings()))
        };
        let found = run(Offload::Anchor);
        assert!(found.steps().iter().any(|step| step.penalty > 0.0));
        assert!(found == run(Offload::Nothing), "{weights:?}");
    }
}

#[test]
fn sums_of_gradients_in_bf16_are_those_in_f32_within_what_it_resolves() {
    let gradients = |sums| {
        let precision = Precision { weights: Weights::Bf16Split, moments: Moments::F32, sums, ..Precision::default() };
        let policy = random_policy(config(), Compute::device(Device::flex()).with(precision), 5);
        let mut sink = Accumulate::of(&policy);
        let batches = data(8, 0).demonstrations.chunks(1).map(|groups| Batch::new(groups, 8)).collect();
        let term = Term { objective: &Sft, batches, factor: 1.0 };
        block_on(accumulate(Engine::Segmented, &policy, &[term], &mut sink, &Alone)).expect("a gradient");
        sink.into_sums().into_iter().map(|sum| sum.expect("every unit has a gradient")).collect::<Vec<_>>()
    };
    let (narrow, wide) = (gradients(Sums::Bf16), gradients(Sums::F32));
    for (unit, sum) in config().units().iter().zip(&narrow) {
        let kept = if unit.is_vector() { FloatDType::F32 } else { FloatDType::BF16 };
        assert_eq!(FloatDType::from(sum.dtype()), kept, "{}", unit.name);
    }
    let all = |sums: &[Tensor<2>]| sums.iter().map(numbers).collect::<Vec<_>>();
    let off = largest_difference(&all(&narrow), &all(&wide));
    assert!(off > 0.0 && off <= 1.5e-2, "off by {off}"); // seven additions, each rounded to 8 bits
}

/// Published weights are bf16 themselves, and a step is small beside the distance to the next one: rounded to the nearest, products would
/// see nothing of it.
#[test]
fn products_see_steps_that_are_small_beside_what_bf16_resolves() {
    let trained = |weights| {
        let start = runs::start();
        let rounded = |unit: &Unit| {
            let index = start.units().iter().position(|other| other.name == unit.name).expect("a unit");
            let to_bf16 = |value: f32| f32::from_bits((value.to_bits() + 0x8000) & 0xFFFF_0000);
            let values: Vec<f32> = numbers(&start.exact(index)).into_iter().map(to_bf16).collect();
            Ok::<_, InitError>(TensorData::new(values, unit.dims()))
        };
        let mut policy = Policy::load(config(), compute(weights, Moments::F32), rounded).expect("weights");
        let seen = |policy: &Policy| {
            let matrices = policy.units().iter().zip(policy.tensors()).filter(|(unit, _)| !unit.is_vector());
            matrices.flat_map(|(_, tensor)| numbers(tensor)).collect::<Vec<f32>>()
        };
        let before = seen(&policy);
        let mut optimizer = AdamW::new(AdamWSettings { clip: f64::INFINITY, ..AdamWSettings::default() }, policy.units().len());
        for _ in 0..10 {
            let gradient = |unit: &Unit| Some(Tensor::<2>::ones(unit.dims(), &Device::flex()).cast(weights.dtype()));
            let gradients = policy.units().iter().map(gradient).collect();
            block_on(optimizer.step(&mut policy, gradients, None, 2e-6, &Alone)).expect("a step");
        }
        let moved = before.iter().zip(seen(&policy)).map(|(before, after)| f64::from(before - after));
        moved.sum::<f64>() / before.len() as f64
    };
    for weights in KEPT {
        close("what products see of ten steps", trained(weights), 2e-5, 0.25);
    }
    close("in f32", trained(Weights::F32), 2e-5, 1e-3);
}

#[test]
fn a_run_in_bf16_follows_the_one_in_f32() {
    let expected = run(Weights::F32, Moments::F32);
    for weights in KEPT {
        let found = run(weights, Moments::Bf16);
        assert_eq!(found.steps().len(), expected.steps().len());
        for (found, expected) in found.steps().iter().zip(expected.steps()) {
            close("loss", found.loss, expected.loss, 3e-2);
        }
        for (found, expected) in found.ended().iter().zip(expected.ended()) {
            let sum = |change: &[f64]| change.iter().sum::<f64>();
            close("C", sum(&found.change), sum(&expected.change), 5e-2);
        }
    }
}
