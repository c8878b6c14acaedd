//! Carrying out a run: one or several methods from the same start, each in a directory of its own.

mod best;
mod checkpoint;
mod failure;
mod history;
mod inputs;
mod method;
mod needs;
mod outcome;
mod references;
mod session;
mod speed;
mod validation;

use std::path::{Path, PathBuf};

use anyhow::Context;
use hbat::compute::{Compute, LayerInputs, Layout, Offload, Precision};
use hbat_backends::DeviceName;

use crate::config::{self, FullProducts, KernelChoice, Matmul, Plan, RunFile};
use crate::evaluation::Scorer;
use crate::report::{Moment, needs_line};
use crate::signal::{INTERRUPTED, Interrupt};
use crate::store::RunDir;
pub use needs::{Disk, MethodNeeds, Needs};
pub use speed::{Speed, measured_speed};

use inputs::Inputs;
use method::MethodRun;
use session::Ended;
use validation::{Reference, Validation};

/// How much a run says while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// Progress, notes and results.
    Normal,
    /// Warnings and results.
    Quiet,
}

/// How a run is carried out, whatever it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// How much it says.
    pub volume: Volume,
    /// How many steps of each phase are profiled.
    pub profile: Option<usize>,
}

/// Opens a device for computing in f32.
///
/// # Errors
/// If this build or machine does not offer it.
pub fn compute(name: DeviceName) -> anyhow::Result<Compute> {
    open(name, config::layout(name, &RunFile::default().engine))
}

fn open(name: DeviceName, layout: Layout) -> anyhow::Result<Compute> {
    Ok(Compute { device: hbat_backends::open(name)?, layout, watch: None })
}

/// Opens a run's device for computing as the run asks.
///
/// # Errors
/// If this build or machine does not offer it, or the device does not compute that way.
fn compute_for(plan: &Plan) -> anyhow::Result<Compute> {
    let compute = open(plan.device, plan.layout)?;
    computes_in(plan, &compute)?;
    multiplies(plan)?;
    has_elsewhere(plan)?;
    Ok(compute)
}

/// Whether the device has the types of weights and moments.
fn computes_in(plan: &Plan, compute: &Compute) -> anyhow::Result<()> {
    let Precision { weights, moments, .. } = plan.layout.precision;
    for (key, dtype) in [("weights", weights.dtype()), ("moments", moments.dtype())] {
        if !compute.device.supports_dtype(dtype) {
            let problem = format!("{} does not compute in {}", plan.device, hbat_backends::dtype_name(dtype));
            return Err(plan.refuse(&format!("engine.{key}"), problem, "take \"f32\", or another device").into());
        }
    }
    Ok(())
}

/// Whether the device rounds what may be rounded, and has the library that is to multiply, which this starts.
fn multiplies(plan: &Plan) -> anyhow::Result<()> {
    let card = matches!(plan.device, DeviceName::Cuda(_));
    if plan.run.engine.products == FullProducts::Tf32 && !hbat_backends::multiplies_in_tf32(plan.device) {
        let problem = format!("{} does not round factors", plan.device);
        return Err(plan.refuse("engine.products", problem, "leave it at \"f32\", or take a card of NVIDIA's").into());
    }
    if plan.run.engine.kernels == KernelChoice::Hbat && !hbat_backends::has_planes(plan.device) {
        let problem = format!("hbat's kernels are for graphics cards whose units work in subgroups, and {} is none", plan.device);
        return Err(plan.refuse("engine.kernels", problem, "leave it at \"auto\", or take another device").into());
    }
    match config::matmul(plan.device, &plan.run.engine) {
        Matmul::Auto | Matmul::Burn => Ok(()),
        Matmul::Cublas if card => Ok(hbat_backends::start_cublas(plan.device)?),
        Matmul::Cublas => {
            let problem = format!("{} is no card of NVIDIA's", plan.device);
            Err(plan.refuse("engine.matmul", problem, "leave it at \"burn\", or take a card").into())
        }
    }
}

/// Whether there is another memory for what is to be kept elsewhere.
fn has_elsewhere(plan: &Plan) -> anyhow::Result<()> {
    let Layout { offload, layer_inputs, .. } = plan.layout;
    for (key, elsewhere, default) in [
        ("engine.offload", offload != Offload::Nothing, "nothing"),
        ("engine.layer_inputs", layer_inputs == LayerInputs::Host, "device"),
    ] {
        if plan.device == DeviceName::Cpu && elsewhere {
            let remedy = format!("leave it at \"{default}\", or take a device with memory of its own");
            return Err(plan.refuse(key, "cpu has no memory but the host's", remedy).into());
        }
    }
    Ok(())
}

/// `hbat train`: starts a run in a new directory.
///
/// # Errors
/// Whatever stops it; what was saved until then stays.
pub async fn train(plan: Plan, manner: Manner) -> anyhow::Result<i32> {
    plan.check_paths()?;
    let compute = compute_for(&plan)?;
    let output = plan.output.clone().unwrap_or_else(|| unused(Path::new("runs"), &plan.name));
    let run = RunDir::create(&output, &plan.to_toml())?;
    carry_out(plan, run, compute, manner).await
}

/// `hbat resume`: goes on with a run that was interrupted or killed.
///
/// # Errors
/// Whatever stops it; what was saved until then stays.
pub async fn resume(directory: &Path, device: Option<DeviceName>, manner: Manner) -> anyhow::Result<i32> {
    let run = RunDir::open(directory)?;
    let plan = config::resume(&directory.join("config.toml"), directory, device)?;
    plan.check_paths()?;
    let compute = compute_for(&plan)?;
    carry_out(plan, run, compute, manner).await
}

async fn carry_out(plan: Plan, run: RunDir, compute: Compute, manner: Manner) -> anyhow::Result<i32> {
    let interrupt = Interrupt::listen();
    let mut say = |text: &str| {
        if manner.volume == Volume::Normal {
            eprintln!("{text}");
        }
    };
    say(&format!("run directory: {}", run.path().display()));
    let mut inputs = Inputs::load(&plan, &mut say)?;
    check_needs(&plan, &inputs, &mut say)?;
    let validation = validation(&plan, &mut inputs, &run, (&compute, &interrupt)).await?;
    let directory = run.path().to_path_buf();
    let mut whole = Some(run);
    let mut moments: Vec<Moment> = Vec::new();
    for schedule in &plan.schedules {
        let run =
            if plan.schedules.len() == 1 { whole.take().context("one method")? } else { part(&plan, &directory, schedule)? };
        let method = MethodRun { plan: &plan, schedule, inputs: &inputs, validation: &validation, compute: &compute, manner };
        match method.carry_out(run, interrupt.clone(), start_of(&moments)).await? {
            Ended::Finished(of_method) => moments.extend(of_method),
            Ended::Interrupted => return Ok(INTERRUPTED),
        }
    }
    outcome::present(&plan, &directory)?;
    Ok(0)
}

/// Says what the run needs, and refuses what cannot fit.
fn check_needs(plan: &Plan, inputs: &Inputs, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let needs = Needs::new(plan, inputs)?;
    say(&needs_line(&needs));
    needs.check(plan)
}

/// The directory of one of several methods.
fn part(plan: &Plan, directory: &Path, schedule: &hbat::schedule::ScheduleSettings) -> anyhow::Result<RunDir> {
    let path = directory.join(config::name(schedule.method));
    if path.join("config.toml").is_file() {
        return Ok(RunDir::open(&path)?);
    }
    Ok(RunDir::create(&path, &plan.only(schedule.method).to_toml())?)
}

/// Every method starts from the same weights, so their first moments differ in name alone.
fn start_of(moments: &[Moment]) -> Option<Moment> {
    moments.iter().find(|moment| moment.phase.is_none()).cloned()
}

/// The validation set with the initial weights' scores: read where a run goes on, computed where it begins.
async fn validation(
    plan: &Plan,
    inputs: &mut Inputs,
    run: &RunDir,
    (compute, interrupt): (&Compute, &Interrupt),
) -> anyhow::Result<Validation> {
    let settings = plan.settings;
    let mut validation = Validation {
        demonstrations: std::mem::take(&mut inputs.validation_demonstrations),
        preferences: std::mem::take(&mut inputs.validation_preferences),
        reference: Reference::default(),
        scorer: Scorer { engine: settings.engine, micro_batch: settings.micro_batch, bucket: settings.bucket },
        dpo: settings.dpo,
        toy: inputs.toy.clone(),
    };
    let path = run.path().join("reference.json");
    validation.reference = match Reference::read(&path, validation.preferences.len())? {
        Some(reference) => reference,
        None => {
            let policy = inputs.policy(compute)?;
            let reference = Reference::of(&validation, &policy, interrupt).await?;
            reference.write(&path)?;
            reference
        }
    };
    Ok(validation)
}

/// `parent/name`, or the first of `parent/name-2`, `parent/name-3`, … that is not there.
fn unused(parent: &Path, name: &str) -> PathBuf {
    let first = parent.join(name);
    let numbered = (2..).map(|n| parent.join(format!("{name}-{n}")));
    std::iter::once(first).chain(numbered).find(|path| !path.exists()).unwrap_or_else(|| parent.join(name))
}
