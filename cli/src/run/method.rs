//! One method of a run: from its directory to a session that begins or goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use burn::tensor::TensorData;
use hbat::compute::Compute;
use hbat::error::Error;
use hbat::model::{Policy, Unit};
use hbat::ppo::Critics;
use hbat::records::moment_record;
use hbat::reduce::Alone;
use hbat::schedule::{Phase, Protection, ScheduleSettings, phases};
use hbat::trainer::{TensorSet, Trainer};

use super::changed;
use super::checkpoint::{self, PhaseStart, Saved};
use super::exporting::Exporting;
use super::failure::{Place, explained};
use super::history::History;
use super::inputs::Inputs;
use super::judge::Judge;
use super::needs::{Needs, refused};
use super::references::ReferenceCache;
use super::session::{Answering, Ended, Mark, Saving, Session};
use super::validation::Validation;
use super::{Manner, Volume};
use crate::config::{self, CheckpointsSection, Plan};
use crate::profile::{End, Meter, Profile, Recorder};
use crate::report::{Display, Moment, Outline, PhaseOutline, tell};
use crate::signal::Interrupt;
use crate::store::{Checkpoint, MetricsLog, RunDir};

/// What one method's run is made from.
pub(crate) struct MethodRun<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) schedule: &'a ScheduleSettings,
    pub(crate) inputs: &'a Inputs,
    /// Of a run that trains on answers.
    pub(crate) judge: Option<&'a Judge>,
    pub(crate) validation: &'a Validation,
    pub(crate) compute: &'a Compute,
    pub(crate) manner: Manner,
    /// Bytes of ordinary memory that the run takes at its peak.
    pub(crate) reserve: u64,
    /// The directory of the whole run, of which this method may be a part.
    pub(crate) whole: &'a Path,
}

impl MethodRun<'_> {
    /// Runs the method to its end or the first signal. `start` is the moment before the first phase where another method has
    /// measured it.
    pub(crate) async fn carry_out(&self, run: RunDir, interrupt: Interrupt, start: Option<Moment>) -> anyhow::Result<Ended> {
        let fingerprint = self.plan.only(self.schedule.method).fingerprint();
        let checkpoint = self.checkpoint(&run, &fingerprint)?;
        let recorder = Arc::new(self.recorder());
        let compute = self.compute.clone().watched(recorder.clone());
        let trainer = match &checkpoint {
            Some(checkpoint) => self.resumed(checkpoint, compute).await?,
            None => self.begun(&compute)?,
        };
        let (metrics, history) = self.records(&run, checkpoint.as_ref(), start)?;
        let finished = trainer.progress().phases_done == trainer.phases().len() && history.unevaluated.is_none();
        if finished && self.manner.volume == Volume::Normal {
            let method = self.method();
            tell(format_args!("{method} had finished: its results stay as they are, whatever was changed since"));
        }
        let mut session = self.session((run, fingerprint), trainer, (metrics, history), (interrupt, recorder))?;
        if let Some(checkpoint) = checkpoint {
            goes_on_from(&mut session, checkpoint)?;
        }
        let ended = session.run().await;
        let plan = self.plan.only(self.schedule.method);
        let place = Place { whole: self.whole, checkpoints: session.run.path() };
        ended.map_err(|error| explained(error, (&plan, Needs::new(&plan, self.inputs)), &session.phase(), place))
    }

    fn method(&self) -> String {
        config::name(self.schedule.method)
    }

    /// The checkpoint to go on from, if there is one; what else the run remembers is made to agree with it.
    fn checkpoint(&self, run: &RunDir, fingerprint: &str) -> anyhow::Result<Option<Checkpoint>> {
        let latest = run.latest_complete(fingerprint)?;
        for refusal in &latest.refused {
            tell(format_args!("warning: {refusal}"));
        }
        changed::remember(self.plan, self.whole)?;
        run.restore_best(latest.checkpoint.as_ref())?;
        Ok(latest.checkpoint)
    }

    /// The metrics as the checkpoint remembers them, and what they say.
    fn records(
        &self,
        run: &RunDir,
        checkpoint: Option<&Checkpoint>,
        start: Option<Moment>,
    ) -> anyhow::Result<(MetricsLog, History)> {
        let (mut metrics, path) = (run.metrics()?, run.path().join("metrics.jsonl"));
        let cut = metrics.cut_back_to(checkpoint.map_or(0, Checkpoint::metrics_bytes))?;
        if cut.missing > 0 {
            let lost = "has lost its end: what it recorded is missing in table and plot, and counts no more when the best weights are chosen";
            tell(format_args!("warning: {} {lost}", path.display()));
        }
        if checkpoint.is_none() && cut.removed > 0 {
            tell(format_args!("warning: there is no checkpoint in {}: the run begins anew", run.path().display()));
        }
        let mut history = History::read(&path)?;
        if let (true, Some(start)) = (history.moments.is_empty(), start) {
            let moment = Moment { method: self.method(), ..start };
            metrics.append(&moment_record(&moment))?;
            history.moments.push(moment);
        }
        Ok((metrics, history))
    }

    fn session(
        &self,
        (run, fingerprint): (RunDir, String),
        trainer: Trainer,
        (metrics, History { moments, unevaluated, best_change, .. }): (MetricsLog, History),
        (interrupt, recorder): (Interrupt, Arc<Recorder>),
    ) -> anyhow::Result<Session<'_>> {
        Ok(Session {
            display: self.display(&self.method(), &trainer)?,
            method: self.method(),
            rule: self.schedule.consolidation.rule,
            metrics,
            fingerprint,
            folder: self.inputs.folder.clone(),
            validation: self.validation,
            interrupt,
            saving: self.saving(),
            validate_every: self.plan.run.validation.every,
            continue_from: self.plan.run.schedule.continue_from,
            best_change: best_change.and_then(|(phase, change)| Some((phase, by_unit(trainer.policy(), &change)?))),
            moments,
            steps: taken(&trainer)?,
            unevaluated,
            start: None,
            pending: None,
            saved: None,
            exporting: Exporting::default(),
            references: ReferenceCache::new(self.plan),
            meter: Meter::new(self.plan, self.compute.device.clone(), elements(trainer.policy())),
            recorder,
            profile: self.manner.profile.map(Profile::new),
            saved_for: 0.0,
            answering: Answering::default(),
            trainer,
            run,
            whole: self.whole.to_path_buf(),
        })
    }

    fn saving(&self) -> Saving {
        let CheckpointsSection { every, keep, background, export_dtype, .. } = self.plan.run.checkpoints;
        Saving { every, keep, background, export_dtype, reserve: self.reserve }
    }

    /// Waits for the device only where every part is to be told apart.
    fn recorder(&self) -> Recorder {
        Recorder::new(match self.manner.profile {
            Some(_) => End::Done(self.compute.device.clone()),
            None => End::Told,
        })
    }

    fn begun(&self, compute: &Compute) -> anyhow::Result<Trainer> {
        let policy = self.inputs.policy(compute)?;
        Ok(Trainer::new((policy, self.critics(compute)?), self.inputs.data.clone(), phases(self.schedule), self.plan.settings))
    }

    /// The judge and perhaps a critic, for methods that have a use for them.
    fn critics(&self, compute: &Compute) -> anyhow::Result<Option<Critics>> {
        let phases = phases(self.schedule);
        match (&self.inputs.judge, self.judge) {
            (Some(folder), Some(judge)) if phases.iter().any(Phase::has_critic) => folder.with_critic(judge, compute).map(Some),
            (_, Some(judge)) if phases.iter().any(Phase::rolls_out) => Ok(Some(judge.alone())),
            _ => Ok(None),
        }
    }

    async fn resumed(&self, checkpoint: &Checkpoint, compute: Compute) -> anyhow::Result<Trainer> {
        let saved = checkpoint.tensors()?;
        let config = self.inputs.folder.config().clone();
        let policy = Policy::load(config, compute.clone(), |unit| {
            let values = checkpoint::read(&saved, TensorSet::Weights, unit)?;
            let values = values.with_context(|| format!("{} has no weights of {}", checkpoint.path().display(), unit.name))?;
            Ok::<_, anyhow::Error>(TensorData::new(values, unit.dims()))
        })?;
        let progress = checkpoint::progress(checkpoint)?;
        let material = (self.inputs.data.clone(), phases(self.schedule));
        let mut read = |set, unit: &Unit| checkpoint::read(&saved, set, unit);
        let models = (policy, self.critics(&compute)?);
        let trainer = Trainer::resume(models, material, (self.plan.settings, Alone), progress, &mut read).await;
        trainer.with_context(|| format!("going on from {}", checkpoint.path().display()))
    }

    fn display(&self, method: &str, trainer: &Trainer) -> anyhow::Result<Display> {
        let steps = trainer.planned_steps().map_err(|error| refused(self.plan, error))?;
        let phases = trainer.phases();
        let consolidates = phases.iter().any(|phase| matches!(phase.protection, Protection::Consolidate(_)));
        let outlines = phases.iter().zip(steps).map(|(phase, steps)| PhaseOutline { name: phase.name.clone(), steps });
        let outline = Outline {
            method: method.to_owned(),
            phases: outlines.collect(),
            rule: consolidates.then_some(self.schedule.consolidation.rule),
        };
        Ok(match self.manner.volume {
            Volume::Normal => Display::new(outline),
            Volume::Quiet => Display::quiet(outline, Box::new(std::io::stderr())),
        })
    }
}

/// A session that begins where a checkpoint was written.
fn goes_on_from(session: &mut Session<'_>, checkpoint: Checkpoint) -> anyhow::Result<()> {
    session.saved = Some(Mark::of(&session.trainer.progress(), checkpoint.metrics_bytes()));
    let saved = Saved::there(checkpoint)?;
    if session.trainer.progress().running.is_some() {
        session.trainer.start_is_stored(Box::new(PhaseStart(saved.clone())));
    }
    session.start = Some(saved);
    Ok(())
}

/// A model's numbers in the order of its units.
fn by_unit(policy: &Policy, numbers: &BTreeMap<String, f64>) -> Option<Vec<f64>> {
    policy.units().iter().map(|unit| numbers.get(&unit.name).copied()).collect()
}

/// Optimizer steps that were taken.
fn taken(trainer: &Trainer) -> Result<usize, Error> {
    let (progress, planned) = (trainer.progress(), trainer.planned_steps()?);
    Ok(planned[..progress.phases_done].iter().sum::<usize>() + progress.running.map_or(0, |running| running.steps))
}

/// The number of a model's weights.
fn elements(policy: &Policy) -> usize {
    policy.units().iter().map(Unit::elements).sum()
}
