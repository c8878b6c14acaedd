//! Settings of `[engine]` that cannot be had together, or on the device that is named.

use hbat::compute::{LayerInputs, Moments, Offload, Sums, Weights};
use hbat::engine::Engine;
use hbat::schedule::Aim;
use hbat::trainer::UpdateTiming;
use hbat_backends::{DeviceName, multiplies_in_tf32};

use super::error::ConfigError;
use super::layers::Layers;
use super::run_file::{EngineSection, FullProducts, KernelChoice, Matmul, RunFile};

/// Above this, a step changes a moment by less than bf16 resolves, 2⁻⁸ of it.
const BF16_BETA: f64 = 0.99;

/// A key, what is wrong with its value, and what to do.
type Conflict = (String, String, String);

/// Refuses the first such setting.
pub(super) fn check(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let device = run.device.parse().unwrap_or(DeviceName::Cpu);
    let of_engine = conflicts(run.engine).into_iter().chain(on_device(run.engine, device));
    let found =
        of_engine.filter(|(wrong, ..)| *wrong).map(|(_, key, problem, remedy)| (key.to_owned(), problem, remedy.to_owned()));
    match found.chain(one_pass(run)).chain(resolved(run)).next() {
        Some((key, problem, remedy)) => Err(layers.refuse(&key, problem, remedy)),
        None => Ok(()),
    }
}

/// Whether two settings contradict each other, which, how, and what to do.
type Case = (bool, &'static str, String, &'static str);

fn conflicts(engine: EngineSection) -> [Case; 6] {
    let narrow = engine.weights == Weights::Bf16Split || engine.moments == Moments::Bf16;
    let autodiff = engine.kind == Engine::Autodiff;
    [
        (
            engine.offload == Offload::Optimizer && narrow,
            "engine.offload",
            "the host keeps weights and moments in f32".into(),
            "take weights \"f32\" or \"bf16-master\", and moments \"f32\"",
        ),
        (
            engine.products == FullProducts::Tf32 && engine.weights != Weights::F32,
            "engine.products",
            "products of bf16 weights are bf16's".into(),
            "take \"f32\", or weights \"f32\"",
        ),
        (
            engine.matmul == Matmul::Cublas && autodiff,
            "engine.matmul",
            "cuBLASLt's products have no gradients".into(),
            "take \"burn\", or engine.kind \"segmented\" or \"whole\"",
        ),
        (
            engine.kernels == KernelChoice::Hbat && autodiff,
            "engine.kernels",
            "hbat's kernels have no gradients".into(),
            "take \"auto\" or \"burn\", or engine.kind \"segmented\" or \"whole\"",
        ),
        (
            engine.layer_inputs == LayerInputs::Host && engine.kind != Engine::Segmented,
            "engine.layer_inputs",
            "only the segmented engine keeps inputs and nothing else of a layer".into(),
            "take \"device\", or engine.kind \"segmented\"",
        ),
        (
            engine.sums == Sums::Bf16 && engine.weights == Weights::F32,
            "engine.sums",
            "sums of f32 gradients would be rounded for nothing".into(),
            "take \"f32\", or weights \"bf16-master\" or \"bf16-split\"",
        ),
    ]
}

/// What a device's name tells: no device is opened.
fn on_device(engine: EngineSection, device: DeviceName) -> [Case; 5] {
    let (card, processor) = (matches!(device, DeviceName::Cuda(_)), device == DeviceName::Cpu);
    let alone = || "cpu has no memory but the host's".to_owned();
    [
        (
            engine.products == FullProducts::Tf32 && !multiplies_in_tf32(device),
            "engine.products",
            format!("{device} does not round factors"),
            "leave it at \"f32\", or take a card of NVIDIA's",
        ),
        (
            engine.matmul == Matmul::Cublas && !card,
            "engine.matmul",
            format!("{device} is no card of NVIDIA's"),
            "leave it at \"burn\", or take a card",
        ),
        (
            engine.kernels == KernelChoice::Hbat && processor,
            "engine.kernels",
            "hbat's kernels are for graphics cards whose units work in subgroups, and cpu is none".into(),
            "leave it at \"auto\", or take another device",
        ),
        (
            engine.offload != Offload::Nothing && processor,
            "engine.offload",
            alone(),
            "leave it at \"nothing\", or take a device with memory of its own",
        ),
        (
            engine.layer_inputs == LayerInputs::Host && processor,
            "engine.layer_inputs",
            alone(),
            "leave it at \"device\", or take a device with memory of its own",
        ),
    ]
}

/// Updates within the backward pass need a step to be one pass. Whether packed sequences fit one, their lengths decide.
fn one_pass(run: &RunFile) -> Option<Conflict> {
    let engine = run.engine;
    if engine.update == UpdateTiming::AfterBackward {
        return None;
    }
    if run.trains(Aim::Ppo) && run.ppo.sft_coefficient > 0.0 {
        let problem =
            "engine.update is \"in-backward\", which needs a step to be one forward pass, and demonstrations take another";
        let remedy = "set it to 0, or engine.update to \"after-backward\"";
        return Some(("ppo.sft_coefficient".into(), problem.into(), remedy.into()));
    }
    if engine.pack > 0 {
        return None;
    }
    let mut steps = run.aims().map(|aim| (aim.name(), run.sequences(aim)));
    let (section, sequences) = steps.find(|(_, sequences)| *sequences > engine.micro_batch)?;
    let problem = format!(
        "engine.update is \"in-backward\", which needs a step to be one forward pass, and engine.micro_batch is {}",
        engine.micro_batch
    );
    let remedy = format!("lower it, set engine.micro_batch to {sequences} or more, or engine.update to \"after-backward\"");
    Some((format!("{section}.batch_size"), problem, remedy))
}

/// Moments in bf16 follow what a step adds to them only if that is more than bf16 resolves.
fn resolved(run: &RunFile) -> Option<Conflict> {
    if run.engine.moments == Moments::F32 {
        return None;
    }
    let mut betas = run.aims().map(|aim| (aim.name(), run.training(aim).betas));
    let (section, _) = betas.find(|(_, (first, second))| first.max(*second) > BF16_BETA)?;
    let problem = format!("engine.moments is \"bf16\", in which a moment stands still above {BF16_BETA}");
    let remedy = "lower it ([0.9, 0.95] is usual), or set engine.moments to \"f32\"";
    Some((format!("{section}.betas"), problem, remedy.into()))
}
