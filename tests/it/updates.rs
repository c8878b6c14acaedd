//! Where optimizer state lies and when weights are updated changes no result: updates within the backward pass, and updates
//! in the host's memory, are those of the plain path.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use hbat::compute::{Carrier, Compute, LayerInputs, Layout, Moments, Offload, Precision, Weights};
use hbat::consolidation::Rule;
use hbat::engine::Engine;
use hbat::error::{Aftermath, Error};
use hbat::schedule::{Method, ScheduleSettings, phases};
use hbat::toy::random_policy;
use hbat::trainer::{Settings, Trainer, UpdateTiming};
use hbat_backends::{DeviceName, open};

use crate::fixtures::{block_on, cpu};
use crate::runs::{Outcome, close, config, data, finish, largest_difference, schedule, settings};
use crate::support::skip;

/// The CPU through the tensor operations of all devices.
fn tensors() -> Compute {
    Compute::device(Device::flex())
}

fn bf16(weights: Weights) -> Compute {
    tensors().with(Precision { weights, moments: Moments::F32, ..Precision::default() })
}

/// A schedule whose every step is one forward pass of six sequences or fewer.
fn of(method: Method, rule: Rule, clip: f64) -> ScheduleSettings {
    let mut schedule = schedule(method, rule);
    for training in [&mut schedule.sft, &mut schedule.preference_training] {
        training.optimizer.clip = clip;
        training.optimizer.eps = 1e-4; // AdamW divides rounding noise by itself where a gradient is almost zero
    }
    schedule
}

fn trainer(compute: Compute, schedule: &ScheduleSettings, (engine, update): (Engine, UpdateTiming)) -> Trainer {
    let settings = Settings { engine, update, micro_batch: 6, ..settings() };
    Trainer::new(random_policy(config(), compute, 5), data(7, 6), phases(schedule), settings)
}

fn run(compute: Compute, schedule: &ScheduleSettings, how: (Engine, UpdateTiming)) -> Outcome {
    finish(&mut trainer(compute, schedule, how))
}

fn same(found: &Outcome, expected: &Outcome, tolerance: f64) {
    // Quadratic in a small difference.
    alike(found, expected, (tolerance, 1e2 * tolerance));
}

/// The same weights, losses and norms within the first tolerance, penalties and changes within the second.
fn alike(found: &Outcome, expected: &Outcome, (tolerance, of_squares): (f64, f64)) {
    let off = largest_difference(&found.weights, &expected.weights);
    assert!(off <= tolerance, "weights are off by {off:e}");
    assert_eq!(found.steps().len(), expected.steps().len());
    assert!(expected.steps().iter().any(|step| step.penalty > 0.0), "nothing was held");
    for (found, expected) in found.steps().into_iter().zip(expected.steps()) {
        close("loss", found.loss, expected.loss, tolerance);
        close("gradient norm", found.grad_norm, expected.grad_norm, tolerance);
        close("penalty", found.penalty, expected.penalty, of_squares);
    }
    for (found, expected) in found.ended().into_iter().zip(expected.ended()) {
        found.change.iter().zip(&expected.change).for_each(|(found, expected)| close("C", *found, *expected, of_squares));
    }
}

#[test]
fn an_update_within_the_backward_pass_is_the_plain_one() {
    for compute in [cpu(), tensors(), bf16(Weights::Bf16Split)] {
        for clip in [0.5, f64::INFINITY] {
            for engine in [Engine::Segmented, Engine::Whole, Engine::Autodiff] {
                let schedule = of(Method::Hbat, Rule::Relative, clip);
                let found = run(compute.clone(), &schedule, (engine, UpdateTiming::InBackward));
                same(&found, &run(compute.clone(), &schedule, (engine, UpdateTiming::AfterBackward)), 1e-6);
            }
        }
    }
}

#[test]
fn units_that_are_frozen_stay_so_within_the_backward_pass() {
    let schedule = of(Method::HbatFreeze, Rule::Paper, 0.5);
    let (found, expected) = (UpdateTiming::InBackward, UpdateTiming::AfterBackward);
    let [found, expected] = [found, expected].map(|update| run(cpu(), &schedule, (Engine::Segmented, update)));
    let off = largest_difference(&found.weights, &expected.weights);
    assert!(off <= 1e-6, "weights are off by {off:e}");
    assert!(found.started().iter().any(|phase| phase.frozen > 0));
}

#[test]
fn fisher_information_holds_within_the_backward_pass_and_elsewhere() {
    let schedule = of(Method::Hbat, Rule::Fisher, 1.0);
    let expected = run(cpu(), &schedule, (Engine::Segmented, UpdateTiming::AfterBackward));
    same(&run(cpu(), &schedule, (Engine::Segmented, UpdateTiming::InBackward)), &expected, 1e-6);
    let elsewhere = tensors().offloading(Offload::Optimizer);
    same(&run(elsewhere, &schedule, (Engine::Segmented, UpdateTiming::AfterBackward)), &expected, 2e-5);
}

#[test]
fn what_is_kept_elsewhere_holds_and_updates_as_on_the_device() {
    let schedule = of(Method::Hbat, Rule::Relative, 0.5);
    for compute in [tensors(), bf16(Weights::Bf16Master)] {
        let expected = run(compute.clone(), &schedule, (Engine::Segmented, UpdateTiming::AfterBackward));
        for offload in [Offload::Anchor, Offload::Optimizer] {
            for update in [UpdateTiming::AfterBackward, UpdateTiming::InBackward] {
                // A device keeps a gradient that the penalty has pulled on in bf16, and bf16 rounds f32 weights that differ in their last bit to
                // neighbours now and then.
                let tolerances = match (offload, compute.layout.precision.weights) {
                    (Offload::Anchor, _) => (0.0, 0.0),
                    (_, Weights::F32) => (2e-5, 2e-3),
                    _ => (1e-2, 5e-2),
                };
                let found = run(compute.clone().offloading(offload), &schedule, (Engine::Segmented, update));
                alike(&found, &expected, tolerances);
            }
        }
    }
}

/// A carrier that brings everything at once, and counts what is under way.
fn counting() -> Carrier {
    fn departed(data: TensorData, like: Tensor<2>) -> Tensor<2> {
        let under_way = 1 + UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        MOST.fetch_max(under_way, Ordering::Relaxed);
        Tensor::from_data(data, &like.device())
    }
    fn arrived(tensor: Tensor<2>) -> Tensor<2> {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        tensor
    }
    Carrier { name: "counting", departed, arrived }
}

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[test]
fn anchors_that_travel_hold_like_those_that_do_not() {
    let schedule = of(Method::Hbat, Rule::Relative, 0.5);
    for engine in [Engine::Segmented, Engine::Whole, Engine::Autodiff] {
        let compute = bf16(Weights::Bf16Split).offloading(Offload::Anchor);
        let expected = run(compute.clone(), &schedule, (engine, UpdateTiming::AfterBackward));
        let layout = Layout { carrier: Some(counting()), ..compute.layout };
        let found = run(Compute { layout, ..compute }, &schedule, (engine, UpdateTiming::AfterBackward));
        assert!(found.weights == expected.weights, "{engine:?}");
        assert_eq!(UNDER_WAY.load(Ordering::Relaxed), 0, "{engine:?}: something never arrived");
        let most = MOST.swap(0, Ordering::Relaxed);
        let layers = 2;
        assert!((1..=layers * config().units_per_layer()).contains(&most), "{engine:?}: {most} at once");
    }
}

#[test]
fn inputs_that_wait_in_ordinary_memory_change_nothing() {
    let schedule = of(Method::Hbat, Rule::Relative, 0.5);
    for compute in [tensors(), bf16(Weights::Bf16Split)] {
        let here = run(compute.clone(), &schedule, (Engine::Segmented, UpdateTiming::AfterBackward));
        let there = compute.keeping_inputs(LayerInputs::Host);
        assert!(run(there, &schedule, (Engine::Segmented, UpdateTiming::AfterBackward)).weights == here.weights);
    }
}

#[test]
fn a_gpu_updates_within_the_backward_pass_and_elsewhere_as_the_cpu_does() {
    let device = match open(DeviceName::Wgpu(0)) {
        Ok(device) => device,
        Err(error) => return skip(&error.to_string()),
    };
    let mut schedule = of(Method::Hbat, Rule::Relative, 0.5);
    for training in [&mut schedule.sft, &mut schedule.preference_training] {
        (training.batch_size, training.epochs) = (2, 1);
    }
    let expected = run(cpu(), &schedule, (Engine::Segmented, UpdateTiming::AfterBackward));
    for (offload, layer_inputs) in [(Offload::Nothing, LayerInputs::Device), (Offload::Optimizer, LayerInputs::Host)] {
        let compute = Compute::device(device.clone()).offloading(offload).keeping_inputs(layer_inputs);
        same(&run(compute, &schedule, (Engine::Segmented, UpdateTiming::InBackward)), &expected, 1e-4);
    }
}

#[test]
fn a_step_of_several_passes_is_refused_within_the_backward_pass() {
    let schedule = of(Method::Hbat, Rule::Relative, 1.0);
    let settings = Settings { update: UpdateTiming::InBackward, micro_batch: 2, ..settings() };
    let mut trainer = Trainer::new(random_policy(config(), cpu(), 5), data(7, 6), phases(&schedule), settings);
    block_on(trainer.step()).expect("the phase starts");
    let error = block_on(trainer.step()).expect_err("three sequences are two passes");
    assert_eq!(error, Error::SeveralPasses { phase: "sft-1".into(), passes: 2 });
    assert!(error.to_string().contains("raise `micro_batch`"), "{error}");
}

/// A trainer whose next step meets weights so large that its loss is no number.
fn doomed(clip: f64) -> Trainer {
    let schedule = of(Method::Sft, Rule::Paper, clip);
    let mut trainer = trainer(cpu(), &schedule, (Engine::Segmented, UpdateTiming::InBackward));
    let mut policy = trainer.policy().clone();
    let weights = policy.take(3);
    policy.put(3, weights * f32::MAX);
    trainer.continue_from(policy);
    block_on(trainer.step()).expect("the phase starts");
    trainer
}

#[test]
fn what_is_not_finite_is_noticed_before_the_update_if_gradients_are_clipped() {
    for (clip, expected) in [(1.0, Aftermath::Untouched), (f64::INFINITY, Aftermath::Spoiled)] {
        let mut trainer = doomed(clip);
        let before = crate::runs::weights(trainer.policy());
        let error = block_on(trainer.step()).expect_err("no number");
        let Error::NotFinite { aftermath, step, examples, .. } = &error else { panic!("{error}") };
        assert_eq!((*aftermath, *step, examples.len()), (expected, 1, 3), "{error}");
        if expected == Aftermath::Untouched {
            assert!(crate::runs::weights(trainer.policy()) == before);
        } else {
            assert!(error.to_string().contains("go on from the last checkpoint"), "{error}");
        }
    }
}
