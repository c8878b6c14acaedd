//! One method's run: drives the trainer and does what its events ask for.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use hbat::consolidation::Rule;
use hbat::records::{moment_record, phase_ended_record, phase_started_record, step_record};
use hbat::trainer::{Event, PhaseEnded, PhaseStarted, StepReport, Trainer};

use super::best;
use super::checkpoint::{self, PhaseStart};
use super::validation::Validation;
use crate::config::ContinueFrom;
use crate::model::{Export, ModelFolder};
use crate::report::{Display, Moment};
use crate::signal::{Interrupt, Interrupted};
use crate::store::{Checkpoint, MetricsLog, RunDir};

/// How a run came to its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// All phases are done.
    Finished(Vec<Moment>),
    /// A signal came; everything up to here is saved.
    Interrupted,
}

/// When to save, and how much of it to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saving {
    /// Steps between checkpoints within a phase; 0: at phase boundaries alone.
    pub(crate) every: usize,
    /// Checkpoints kept.
    pub(crate) keep: usize,
}

/// Everything one method's run consists of.
pub(crate) struct Session<'a> {
    pub(crate) method: String,
    pub(crate) trainer: Trainer,
    pub(crate) rule: Rule,
    pub(crate) run: RunDir,
    pub(crate) metrics: MetricsLog,
    pub(crate) fingerprint: String,
    pub(crate) folder: &'a ModelFolder,
    pub(crate) validation: &'a Validation,
    pub(crate) display: Display,
    pub(crate) interrupt: Interrupt,
    pub(crate) saving: Saving,
    /// Steps between validations within a phase; 0: none.
    pub(crate) validate_every: usize,
    pub(crate) continue_from: ContinueFrom,
    pub(crate) moments: Vec<Moment>,
    pub(crate) steps: usize,
    /// A phase that ended before the interruption and is still to be evaluated.
    pub(crate) unevaluated: Option<String>,
    pub(crate) start: Option<Checkpoint>,
}

impl Session<'_> {
    /// Runs to the end, or to the first signal.
    pub(crate) async fn run(mut self) -> anyhow::Result<Ended> {
        match self.drive().await {
            Err(error) if error.is::<Interrupted>() => self.stop().await,
            ended => ended,
        }
    }

    async fn drive(&mut self) -> anyhow::Result<Ended> {
        if self.moments.is_empty() {
            self.evaluate(None).await?;
        }
        if let Some(phase) = self.unevaluated.take() {
            self.conclude(&phase).await?;
        }
        loop {
            self.interrupt.check()?;
            let began = Instant::now();
            let event = match self.trainer.step().await {
                Ok(event) => event,
                Err(error) => return Err(self.rescue(error).await),
            };
            match event {
                Event::PhaseStarted(started) => self.started(&started).await?,
                Event::Scored { done, total } => self.display.scored(done, total),
                Event::Measured { done, total } => self.display.measured(done, total),
                Event::Step(report) => self.stepped(&report, began.elapsed().as_secs_f64()).await?,
                Event::PhaseEnded(ended) => self.ended(&ended).await?,
                Event::Finished => return self.finish().await,
            }
        }
    }

    async fn started(&mut self, started: &PhaseStarted) -> anyhow::Result<()> {
        let names = self.unit_names();
        let rule = started.importance.as_ref().map(|_| self.rule);
        self.metrics.append(&phase_started_record(started, &names, rule))?;
        self.display.started(started);
        self.start = None;
        let saved = self.save().await?;
        self.trainer.start_is_stored(Box::new(PhaseStart::open(&saved)?));
        self.start = Some(saved);
        Ok(())
    }

    async fn stepped(&mut self, report: &StepReport, seconds: f64) -> anyhow::Result<()> {
        self.steps += 1;
        self.metrics.append(&step_record(report, seconds, self.steps))?;
        self.display.step(report, seconds);
        let due = |every: usize| every > 0 && report.step.is_multiple_of(every) && report.step < report.steps;
        if due(self.validate_every) {
            self.evaluate(Some(&format!("{} step {}", report.phase, report.step))).await?;
        }
        if due(self.saving.every) {
            // The phase's start is linked from checkpoint to checkpoint, for the first may be pruned.
            self.start = Some(self.save().await?);
        }
        Ok(())
    }

    async fn ended(&mut self, ended: &PhaseEnded) -> anyhow::Result<()> {
        let names = self.unit_names();
        self.metrics.append(&phase_ended_record(ended, &names))?;
        self.display.ended(ended);
        self.start = None;
        self.conclude(&ended.phase).await
    }

    /// Evaluates a phase that ended, and goes on from the best weights if asked to.
    async fn conclude(&mut self, phase: &str) -> anyhow::Result<()> {
        self.evaluate(Some(phase)).await?;
        if self.continue_from == ContinueFrom::Best && !best::improves(&self.moments) {
            let policy = ModelFolder::open(self.run.best())?.load(self.trainer.policy().compute().clone(), |_| {})?;
            self.trainer.continue_from(policy);
        }
        Ok(())
    }

    /// Scores the validation set, notes the moment, and keeps the weights if they are the best so far.
    async fn evaluate(&mut self, phase: Option<&str>) -> anyhow::Result<()> {
        let display = &mut self.display;
        let mut progress = |done, total| {
            display.validated(done, total);
            self.interrupt.check()
        };
        let moment = self.validation.moment(&self.method, phase, self.trainer.policy(), &mut progress).await?;
        self.metrics.append(&moment_record(&moment))?;
        self.display.evaluated(&moment);
        self.moments.push(moment);
        if best::improves(&self.moments) {
            self.export(&self.run.best()).await.context("exporting the best weights")?;
        }
        Ok(())
    }

    async fn save(&mut self) -> anyhow::Result<Checkpoint> {
        let saved = checkpoint::save(&self.trainer, &self.run, (&self.metrics, &self.fingerprint), self.start.as_ref()).await?;
        self.run.prune(self.saving.keep, &self.fingerprint, &[])?;
        Ok(saved)
    }

    /// Whether there is anything to save.
    fn begun(&self) -> bool {
        let progress = self.trainer.progress();
        progress.phases_done > 0 || progress.running.is_some()
    }

    async fn stop(&mut self) -> anyhow::Result<Ended> {
        if self.begun() {
            self.save().await?;
        }
        let path = self.run.path().display();
        self.display.note(&format!("interrupted and saved; go on with `hbat resume {path}`"));
        Ok(Ended::Interrupted)
    }

    /// Saves what is still good before an error ends the run.
    async fn rescue(&mut self, error: hbat::error::Error) -> anyhow::Error {
        let saved = matches!(error, hbat::error::Error::NotFinite { .. }) && self.begun() && self.save().await.is_ok();
        let error = anyhow::Error::from(error);
        if saved { error.context(format!("the last good state is saved in {}", self.run.path().display())) } else { error }
    }

    async fn finish(&mut self) -> anyhow::Result<Ended> {
        self.export(&self.run.last()).await.context("exporting the last weights")?;
        self.start = None;
        self.save().await?;
        self.display.finish();
        Ok(Ended::Finished(std::mem::take(&mut self.moments)))
    }

    async fn export(&self, folder: &Path) -> anyhow::Result<()> {
        let policy = self.trainer.policy();
        Ok(Export::new(policy.config(), Some(self.folder)).write_policy(policy, folder).await?)
    }

    fn unit_names(&self) -> Vec<String> {
        self.trainer.policy().units().iter().map(|unit| unit.name.clone()).collect()
    }
}
