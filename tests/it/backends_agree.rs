//! A whole HBAT run gives the same numbers on the CPU and on a GPU.

use burn::tensor::{Device, FloatDType};
use hbat::compute::{Compute, Kernels};
use hbat::consolidation::Rule;
use hbat::engine::Engine;
use hbat::generate::GenerateSettings;
use hbat::model::LlamaConfig;
use hbat::schedule::{Method, ScheduleSettings, phases};
use hbat::toy::random_policy;
use hbat::trainer::{Settings, Trainer};
use hbat_backends::{DeviceName, open};
use hbat_cli::config::{EngineSection, KernelChoice, RunFile, layout};

use crate::fixtures::cpu;
use crate::generation::{check_likeliest, completions, prompts, tiny};
use crate::runs::{Outcome, close, comparable, config, data, finish, largest_difference, schedule, settings};
use crate::support::skip;

/// Two steps in each of four phases. AdamW divides rounding noise by itself where a gradient is almost zero; with this ε it does
/// not.
fn short(rule: Rule) -> ScheduleSettings {
    let mut schedule = schedule(Method::Hbat, rule);
    (schedule.sft.epochs, schedule.preference_training.epochs) = (1, 1);
    for training in [&mut schedule.sft, &mut schedule.preference_training] {
        (training.batch_size, training.optimizer.eps) = (2, 1e-2);
    }
    schedule
}

fn run_on(compute: Compute, rule: Rule, engine: Engine) -> Outcome {
    run(config(), compute, rule, Settings { engine, bucket: 8, ..settings() })
}

fn run(config: LlamaConfig, compute: Compute, rule: Rule, settings: Settings) -> Outcome {
    finish(&mut Trainer::new(random_policy(config, compute, 5), data(8, 8), phases(&short(rule)), settings))
}

fn compare(found: &Outcome, expected: &Outcome) {
    let difference = largest_difference(&found.weights, &expected.weights);
    assert!(difference <= 1e-4, "weights are off by {difference:e}");
    assert_eq!(found.steps().len(), 8);
    for (found, expected) in found.steps().into_iter().zip(expected.steps()) {
        close("loss", found.loss, expected.loss, 1e-4);
        close("gradient norm", found.grad_norm, expected.grad_norm, 1e-4);
        close("penalty", found.penalty, expected.penalty, 1e-3); // quadratic in a small difference of weights
        for ((name, found), (_, expected)) in comparable(found).zip(comparable(expected)) {
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{name}: {found}, on the CPU {expected}");
        }
    }
    for (found, expected) in found.ended().into_iter().zip(expected.ended()) {
        found.change.iter().zip(&expected.change).for_each(|(found, expected)| close("C", *found, *expected, 1e-3));
    }
    let importances = |outcome: &Outcome| -> Vec<f64> {
        outcome.started().into_iter().filter_map(|p| p.importance.as_ref()).flat_map(|i| i.importance.clone()).collect()
    };
    assert!(!importances(expected).is_empty());
    for (found, expected) in importances(found).into_iter().zip(importances(expected)) {
        close("F", found, expected, 1e-3);
    }
}

/// The first GPU that works here, or `None` after recording a skip.
pub(crate) fn gpu() -> Option<Device> {
    open(DeviceName::Wgpu(0)).map_err(|error| skip(&error.to_string())).ok()
}

/// A GPU that takes hbat's kernels.
pub(crate) fn with_kernels(device: Device) -> Compute {
    let engine = EngineSection { kernels: KernelChoice::Hbat, ..RunFile::default().engine };
    let layout = layout(DeviceName::Wgpu(0), &engine);
    assert!(layout.kernels.is_some());
    Compute { layout, ..Compute::device(device) }
}

fn check(rule: Rule, engine: Engine) {
    let Some(device) = gpu() else { return };
    let found = run_on(Compute::device(device), rule, engine);
    compare(&found, &run_on(Compute::host(Device::flex()), rule, engine));
}

#[test]
fn a_gpu_trains_as_the_cpu_does_with_everything_kept() {
    check(Rule::Relative, Engine::Whole);
}

#[test]
fn a_gpu_trains_as_the_cpu_does_layer_by_layer() {
    check(Rule::Relative, Engine::Segmented);
}

#[test]
fn a_gpu_trains_as_the_cpu_does_with_kernels_of_hbat_s() {
    let Some(device) = gpu() else { return };
    let found = run_on(with_kernels(device), Rule::Relative, Engine::Segmented);
    compare(&found, &run_on(Compute::host(Device::flex()), Rule::Relative, Engine::Segmented));
}

/// As a card does for bf16: here in f32, of a row for each sequence and of packed rows.
#[test]
fn a_gpu_trains_as_the_cpu_does_with_attention_in_one_go() {
    let Some(device) = gpu() else { return };
    let mut layout = layout(DeviceName::Wgpu(0), &EngineSection { kernels: KernelChoice::Hbat, ..RunFile::default().engine });
    let own = layout.kernels.expect("wgpu was compiled in");
    layout.kernels = Some(Kernels { one_go: FloatDType::F32, softmax: |_, _, _, _| panic!("scores are in memory"), ..own });
    let config = LlamaConfig { head_dim: 16, ..config() };
    for pack in [None, Some(40)] {
        let settings = Settings { engine: Engine::Segmented, bucket: 8, pack, ..settings() };
        let on = |compute| run(config.clone(), compute, Rule::Relative, settings);
        let compute = Compute { layout, ..Compute::device(device.clone()) };
        compare(&on(compute), &on(Compute::host(Device::flex())));
    }
}

#[test]
fn a_gpu_trains_as_the_cpu_does_under_fisher_information() {
    check(Rule::Fisher, Engine::Whole);
}

/// With Burn's operations, and with hbat's kernels around them; from one token to more than a bucket of columns, while texts end.
#[test]
fn a_gpu_generates_what_the_cpu_finds_likeliest() {
    let Some(device) = gpu() else { return };
    let kernels = with_kernels(device.clone());
    let (prompts, endless) = (&prompts()[..3], GenerateSettings { max_new_tokens: 9, ..GenerateSettings::default() });
    for (compute, name) in [(Compute::device(device), "bias"), (kernels, "gqa")] {
        let oracle = tiny(name, &cpu());
        let eos = completions(&oracle, prompts, &endless)[..2].iter().map(|completion| completion.tokens[1]).collect();
        let settings = GenerateSettings { eos, ..endless.clone() };
        let found = completions(&tiny(name, &compute), prompts, &settings);
        assert!(found[0].tokens.len() <= 2 && found[1].tokens.len() <= 2 && found[2].tokens.len() == 9, "{name}: {found:?}");
        for (prompt, completion) in prompts.iter().zip(found) {
            check_likeliest(&oracle, prompt, &completion.tokens, 1e-4);
        }
    }
}
