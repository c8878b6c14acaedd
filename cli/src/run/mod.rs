//! Carrying out a run: one or several methods from the same start, each in a directory of its own.

mod best;
mod changed;
mod checkpoint;
mod exporting;
mod failure;
mod history;
mod identity;
mod inputs;
mod judge;
mod meanwhile;
mod method;
mod needs;
mod outcome;
mod references;
mod session;
mod speed;
mod validation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use hbat::compute::{Compute, Layout, Precision};
use hbat::schedule::{Aim, Method};
use hbat_backends::DeviceName;

use crate::config::{self, KernelChoice, Matmul, Plan, RunFile};
use crate::evaluation::Scorer;
use crate::report::{Moment, needs_line, quoted, tell};
use crate::signal::{INTERRUPTED, Interrupt, Interrupted};
use crate::store::{RunDir, replace_file};
pub(crate) use failure::guarded;
pub(crate) use identity::InputsChanged;
pub use needs::{Disk, MethodNeeds, Needs};
pub use speed::{Speed, measured_speed};

use identity::Identity;
use inputs::{Found, Inputs};
use judge::Judge;
use method::MethodRun;
use session::Ended;
use validation::{Answers, Judgement, Reference, Validation};

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
    starts(plan)?;
    Ok(compute)
}

/// Refuses what a device does not compute in, if it is there to be asked.
///
/// # Errors
/// If it is there, and does not.
pub fn check_device(plan: &Plan) -> anyhow::Result<()> {
    open(plan.device, plan.layout).map_or(Ok(()), |compute| computes_in(plan, &compute))
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

/// Whether the device runs what is to compute there, of which this starts the library.
fn starts(plan: &Plan) -> anyhow::Result<()> {
    if plan.run.engine.kernels == KernelChoice::Hbat && !hbat_backends::has_planes(plan.device) {
        let problem = format!("hbat's kernels are for graphics cards whose units work in subgroups, and {} is none", plan.device);
        return Err(plan.refuse("engine.kernels", problem, "leave it at \"auto\", or take another device").into());
    }
    match config::matmul(plan.device, &plan.run.engine) {
        Matmul::Auto | Matmul::Burn => Ok(()),
        Matmul::Cublas => Ok(hbat_backends::start_cublas(plan.device)?),
    }
}

/// `hbat train`: starts a run in a new directory.
///
/// # Errors
/// Whatever stops it; what was saved until then stays.
pub async fn train(plan: Plan, manner: Manner) -> anyhow::Result<i32> {
    plan.check_paths()?;
    let compute = compute_for(&plan)?;
    let output = plan.output.clone().unwrap_or_else(|| unused(Path::new("runs"), &plan.run.name));
    let run = RunDir::create(&output, &plan.to_toml())?;
    match Prepared::new(&plan, run.path(), manner) {
        Ok(prepared) => carry_out(plan, run, (compute, prepared), manner).await,
        Err(refused) => {
            run.withdraw();
            Err(refused)
        }
    }
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
    let prepared = Prepared::new(&plan, directory, manner)?;
    carry_out(plan, run, (compute, prepared), manner).await
}

/// What a run is made from.
struct Prepared {
    inputs: Inputs,
    /// Bytes of ordinary memory that the run takes at its peak.
    reserve: u64,
}

impl Prepared {
    /// Reads the data, says what the run needs, and refuses what cannot fit.
    fn new(plan: &Plan, run: &Path, manner: Manner) -> anyhow::Result<Self> {
        let mut found = |found| match found {
            Found::Note(text) => say(manner, &text),
            Found::Warning(text) => tell(format_args!("warning: {text}")),
        };
        let inputs = Inputs::load(plan, identity::began(run), &mut found)?;
        let needs = Needs::new(plan, &inputs)?;
        say(manner, &needs_line(&needs));
        needs.check(plan)?;
        for problem in needs.short_of_disk().into_iter().chain(needs.cold(plan)) {
            tell(format_args!("warning: {problem}"));
        }
        Ok(Self { inputs, reserve: needs.ordinary() })
    }
}

fn say(manner: Manner, text: &str) {
    if manner.volume == Volume::Normal {
        tell(text);
    }
}

async fn carry_out(plan: Plan, run: RunDir, (compute, prepared): (Compute, Prepared), manner: Manner) -> anyhow::Result<i32> {
    let Prepared { mut inputs, reserve } = prepared;
    let interrupt = Interrupt::listen();
    say(manner, &format!("run directory: {}", run.path().display()));
    same_shape(&plan, run.path())?;
    let identity = Identity::of(&inputs)?;
    identity.check(run.path())?;
    for change in changed::since_last(&plan, run.path()) {
        say(manner, &format!("changed since it was last at work: {change}"));
    }
    let judge = inputs.judge.as_ref().map(|folder| folder.load(&compute)).transpose()?.map(Arc::new);
    let directory = run.path().to_path_buf();
    let validation = match validation(&plan, &mut inputs, &run, (&compute, &interrupt, judge.clone())).await {
        Err(error) if error.is::<Interrupted>() => {
            tell(format_args!("interrupted; go on with `hbat resume {}`", quoted(&directory)));
            return Ok(INTERRUPTED);
        }
        validation => validation?,
    };
    let mut whole = Some(run);
    let mut moments: Vec<Moment> = Vec::new();
    for schedule in &plan.schedules {
        let run = if plan.schedules.len() == 1 {
            whole.take().context("one method")?
        } else {
            let part = part(&plan, &directory, schedule)?;
            // It may go on alone, too.
            identity.check(part.path())?;
            part
        };
        let (inputs, validation, compute, judge) = (&inputs, &validation, &compute, judge.as_deref());
        let method = MethodRun { plan: &plan, schedule, inputs, judge, validation, compute, manner, reserve, whole: &directory };
        match method.carry_out(run, interrupt.clone(), start_of(&moments)).await? {
            Ended::Finished(of_method) => moments.extend(of_method),
            Ended::Interrupted => return Ok(INTERRUPTED),
        }
    }
    outcome::present(&plan, &directory)?;
    Ok(0)
}

/// The directory of one of several methods.
fn part(plan: &Plan, directory: &Path, schedule: &hbat::schedule::ScheduleSettings) -> anyhow::Result<RunDir> {
    let (path, settings) = (directory.join(config::name(schedule.method)), plan.only(schedule.method).to_toml());
    let config = path.join("config.toml");
    if config.is_file() || path.join("metrics.jsonl").is_file() {
        // The run's own settings hold; what stands here is to say the same, and may have been lost.
        if !config.is_file() {
            replace_file(&config, settings.as_bytes())?;
        }
        let run = RunDir::open(&path)?;
        run.write_config(&settings)?;
        return Ok(run);
    }
    Ok(RunDir::create(&path, &settings)?)
}

/// Refuses a run of one method that is to go on as one of several, or the other way round: its checkpoints lie elsewhere then.
fn same_shape(plan: &Plan, directory: &Path) -> anyhow::Result<()> {
    let of_one = directory.join("metrics.jsonl").is_file();
    let parts = || Method::ALL.into_iter().map(config::name).filter(|name| directory.join(name).join("config.toml").is_file());
    let problem = match plan.schedules.len() {
        1 => {
            parts().next().map(|part| format!("the run began with several methods, each in a folder of its own, such as {part}/"))
        }
        _ => of_one.then(|| "the run began with one method, whose checkpoints lie in its folder".to_owned()),
    };
    match problem {
        Some(problem) => Err(plan.refuse("methods", problem, "put it back, or begin a new run").into()),
        None => Ok(()),
    }
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
    (compute, interrupt, judge): (&Compute, &Interrupt, Option<Arc<Judge>>),
) -> anyhow::Result<Validation> {
    let settings = plan.settings;
    let scorer = Scorer { engine: settings.engine, micro_batch: rows(plan), bucket: settings.bucket };
    let (demonstrations, mut preferences) =
        (std::mem::take(&mut inputs.validation_demonstrations), std::mem::take(&mut inputs.validation_preferences));
    if plan.run.trains(Aim::Reward) {
        // It answers no prompts, and there is no likelihood to measure.
        return Ok(Validation {
            demonstrations: vec![],
            preferences,
            scorer,
            judgement: Judgement::Rewards,
            answers: None,
            toy: None,
        });
    }
    let prompts = if judge.is_some() { preferences.clone() } else { Vec::new() };
    preferences.retain(|group| group.sequences.len() == 2);
    let path = run.path().join("reference.json");
    let known = Reference::read(&path, preferences.len()).unwrap_or_else(|problem| {
        tell(format_args!("warning: {problem:#}: the initial weights score the validation preferences again"));
        None
    });
    let reference = match known {
        Some(reference) => reference,
        None if preferences.is_empty() => Reference::default(),
        None => {
            let policy = inputs.policy(compute)?;
            let reference = Reference::of(&preferences, scorer, &policy, interrupt).await?;
            reference.write(&path)?;
            reference
        }
    };
    let judgement = Judgement::Likelihood { reference, dpo: settings.dpo };
    let answers = judge.zip(plan.run.judged());
    let answers = answers.map(|(judge, judged)| Answers { prompts, judge, max_new_tokens: judged.max_new_tokens });
    Ok(Validation { demonstrations, preferences, scorer, judgement, answers, toy: inputs.toy.clone() })
}

/// Sequences that are scored at once: no more than a step has, so that scoring takes no more memory than training.
fn rows(plan: &Plan) -> usize {
    plan.settings.micro_batch.min(plan.run.largest_step())
}

/// `parent/name`, or the first of `parent/name-2`, `parent/name-3`, … that is not there.
fn unused(parent: &Path, name: &str) -> PathBuf {
    let first = parent.join(name);
    let numbered = (2..).map(|n| parent.join(format!("{name}-{n}")));
    std::iter::once(first).chain(numbered).find(|path| !path.exists()).unwrap_or_else(|| parent.join(name))
}
