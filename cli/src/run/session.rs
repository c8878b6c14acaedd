//! One method's run: drives the trainer and does what its events ask for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use hbat::consolidation::Rule;
use hbat::error::Error;
use hbat::records::{StepCost, moment_record, moment_record_with_change, phase_ended_record, phase_started_record, step_record};
use hbat::trainer::{Event, PhaseEnded, PhaseStarted, Progress, StepReport, Trainer};

use super::best;
use super::checkpoint::{self, Around, PhaseStart, Saved};
use super::exporting::{Exporting, Weights};
use super::failure::guarded;
use super::history::Point;
use super::references::ReferenceCache;
use super::validation::{Diverged, Validation};
use crate::config::{Background, ContinueFrom};
use crate::model::{Export, ModelFolder};
use crate::profile::{Meter, Profile, Recorder, Span};
use crate::report::{Display, Moment, quoted};
use crate::signal::{Interrupt, Interrupted};
use crate::store::{MetricsLog, RunDir, SaveDtype};

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
    /// Whether training goes on meanwhile.
    pub(crate) background: Background,
    /// Precision of the model folders that a run leaves.
    pub(crate) export_dtype: SaveDtype,
    /// Bytes of ordinary memory that the run takes at its peak.
    pub(crate) reserve: u64,
}

/// Everything one method's run consists of.
pub(crate) struct Session<'a> {
    pub(crate) method: String,
    pub(crate) trainer: Trainer,
    pub(crate) rule: Rule,
    pub(crate) run: RunDir,
    /// The directory of the whole run, of which this method may be a part: what `hbat resume` takes.
    pub(crate) whole: PathBuf,
    pub(crate) metrics: MetricsLog,
    pub(crate) fingerprint: String,
    pub(crate) folder: Arc<ModelFolder>,
    pub(crate) validation: &'a Validation,
    pub(crate) display: Display,
    pub(crate) interrupt: Interrupt,
    pub(crate) saving: Saving,
    /// Steps between validations within a phase; 0: none.
    pub(crate) validate_every: usize,
    pub(crate) continue_from: ContinueFrom,
    pub(crate) moments: Vec<Moment>,
    /// Where the best weights are those of a step within a phase: the phase, and how far it had moved each unit.
    pub(crate) best_change: Option<(String, Vec<f64>)>,
    pub(crate) steps: usize,
    /// What is to be evaluated, or is being: what came last before an interruption, if no evaluation followed it.
    pub(crate) unevaluated: Option<Point>,
    /// A checkpoint since the start of the phase under way, or of the end of the one before.
    pub(crate) start: Option<Saved>,
    /// The last checkpoint, if it may still be on its way to the disk.
    pub(crate) pending: Option<Saved>,
    /// Where the newest checkpoint stands.
    pub(crate) saved: Option<Mark>,
    /// `best/`, if it may still be on its way there.
    pub(crate) exporting: Exporting,
    pub(crate) references: Option<ReferenceCache>,
    pub(crate) meter: Meter,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) profile: Option<Profile>,
    /// Seconds that checkpoints have kept training waiting since the last step.
    pub(crate) saved_for: f64,
    pub(crate) answering: Answering,
}

/// Where a run stands, as far as checkpoints and records tell: the same mark is the same state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    phases_done: usize,
    /// Steps of the phase under way, and preferences whose reference log-probabilities are known.
    running: Option<[usize; 2]>,
    metrics_bytes: u64,
}

impl Mark {
    pub(crate) fn of(progress: &Progress, metrics_bytes: u64) -> Self {
        let running = progress.running.as_ref().map(|running| [running.steps, running.references.len()]);
        Self { phases_done: progress.phases_done, running, metrics_bytes }
    }
}

/// The answers of the step under way, as far as they are there.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    /// When the first of them was begun.
    began: Option<f64>,
    /// Seconds that they have taken.
    seconds: f64,
    spans: Vec<Span>,
}

impl Session<'_> {
    /// Runs to the end, or to the first signal.
    pub(crate) async fn run(&mut self) -> anyhow::Result<Ended> {
        let ended = match guarded(self.drive()).await {
            Err(error) if error.is::<Interrupted>() => self.stop().await,
            Err(error) if error.is::<Diverged>() => Err(self.diverged(error)),
            ended => ended,
        };
        let settled = self.settle().and(self.exporting.wait());
        if let Some(profile) = &self.profile
            && !profile.write(self.run.path()).context("writing the profile")?
        {
            self.display.warn("there is no profile: no phase had a second step before the run ended");
        }
        let ended = ended?;
        settled.map(|()| ended)
    }

    /// The name of the phase under way, or of what there is besides.
    pub(crate) fn phase(&self) -> String {
        self.trainer.progress().running.map_or_else(|| "validation".into(), |running| running.phase)
    }

    async fn drive(&mut self) -> anyhow::Result<Ended> {
        if self.moments.is_empty() && self.steps == 0 {
            self.evaluate(None, None).await?;
        }
        match self.unevaluated.take() {
            Some(Point::PhaseEnd { phase }) => self.conclude(&phase).await?,
            Some(Point::Step { phase, step, steps }) => self.evaluate_if_due(&phase, (step, steps), self.start.clone()).await?,
            None => {}
        }
        loop {
            self.interrupt.check()?;
            self.look_after_pending()?;
            self.exporting.look_after()?;
            self.recorder.take();
            let began = self.recorder.now();
            let event = match self.trainer.step().await {
                Ok(event) => event,
                Err(error) => return Err(self.failed(error)),
            };
            match event {
                Event::PhaseStarted(started) => self.started(&started).await?,
                Event::Scored { done, total } => self.scored(done, total)?,
                Event::Answered { done, total } => {
                    self.answering.began.get_or_insert(began);
                    self.answering.seconds += self.recorder.now() - began;
                    self.answering.spans.extend(self.recorder.take());
                    self.display.answered(done, total);
                }
                Event::Measured { done, total } => self.display.measured(done, total),
                Event::Step(report) => self.stepped(&report, began).await?,
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
        // The end of the phase before is the start of this one.
        if self.start.is_none() {
            self.save().await?;
            self.start = self.pending.clone();
        }
        if let Some(saved) = self.start.clone() {
            self.trainer.start_is_stored(Box::new(PhaseStart(saved)));
        }
        if let Some(cache) = &mut self.references
            && let Some(path) = cache.look_up(&mut self.trainer).await?
        {
            self.display.note(&format!("{}: reference log-probabilities read from {}", started.phase, path.display()));
        }
        Ok(())
    }

    fn scored(&mut self, done: usize, total: usize) -> anyhow::Result<()> {
        self.display.scored(done, total);
        match (&mut self.references, self.trainer.references()) {
            (Some(cache), Some(known)) if done == total => cache.keep(known).or_else(|error| {
                self.display.warn(&format!("reference log-probabilities are not kept for other runs: {error:#}"));
                Ok(())
            }),
            _ => Ok(()),
        }
    }

    async fn stepped(&mut self, report: &StepReport, began: f64) -> anyhow::Result<()> {
        let ended = self.recorder.now();
        let Answering { began: answered, seconds: answering, mut spans } = std::mem::take(&mut self.answering);
        spans.extend(self.recorder.take());
        self.steps += 1;
        let saving_seconds = std::mem::take(&mut self.saved_for);
        let mut cost = StepCost { saving_seconds, ..self.meter.cost(report.tokens, answering + ended - began, &spans) };
        if report.metrics.iter().any(|(name, _)| *name == "score") {
            // Answers go through several models, some of them many times.
            cost.utilisation = None;
        }
        self.metrics.append(&step_record(report, &cost, self.steps))?;
        self.display.step(report, &cost);
        if let Some(profile) = &mut self.profile {
            profile.note(report, (answered.unwrap_or(began), ended), spans);
        }
        let at = (report.step, report.steps);
        let saved = match is_due(self.saving.every, at) {
            true => {
                // The phase's start is linked from checkpoint to checkpoint, for the first may be pruned.
                self.save().await?;
                self.start = self.pending.clone();
                self.start.clone()
            }
            false => None,
        };
        self.evaluate_if_due(&report.phase, at, saved).await
    }

    /// Evaluates within a phase. An interruption may come before the evaluation ends: then the run that goes on begins with it.
    async fn evaluate_if_due(&mut self, phase: &str, (step, steps): (usize, usize), saved: Option<Saved>) -> anyhow::Result<()> {
        if !is_due(self.validate_every, (step, steps)) {
            return Ok(());
        }
        self.unevaluated = Some(Point::Step { phase: phase.into(), step, steps });
        self.evaluate(Some(&format!("{phase} step {step}")), saved).await
    }

    async fn ended(&mut self, ended: &PhaseEnded) -> anyhow::Result<()> {
        let names = self.unit_names();
        self.metrics.append(&phase_ended_record(ended, &names))?;
        self.display.ended(ended);
        self.start = None;
        // Before anything else that may fail: a phase is hours of work.
        self.save().await?;
        self.start = self.pending.clone();
        self.conclude(&ended.phase).await
    }

    /// Evaluates a phase that ended, and goes on from the best weights if asked to.
    async fn conclude(&mut self, phase: &str) -> anyhow::Result<()> {
        self.unevaluated = Some(Point::PhaseEnd { phase: phase.into() });
        self.evaluate(Some(phase), self.start.clone()).await?;
        if self.continue_from == ContinueFrom::Best && !best::improves(&self.moments) {
            self.exporting.wait()?;
            let policy = ModelFolder::open(self.run.best())?.load(self.trainer.policy().compute().clone(), |_| {})?;
            self.trainer.continue_from(policy);
            // Up to the best weights: those of a step of the phase, or of its start, for every phase starts from the best before it.
            let change = self.best_change.take().filter(|(of, _)| of == phase).map(|(_, change)| change);
            self.trainer.correct_change(change);
            if let Some(best) = best::of(&self.moments) {
                self.display.note(&format!("{phase}: going on from better weights, those after {}", best.label()));
            }
            self.start = None;
        }
        Ok(())
    }

    /// Scores the validation set, notes the moment, and keeps the weights if they are the best so far: while training goes on, if they can be
    /// read later, from the checkpoint that was `saved` of them or from a copy.
    async fn evaluate(&mut self, phase: Option<&str>, saved: Option<Saved>) -> anyhow::Result<()> {
        let display = &mut self.display;
        let mut progress = |done, total| {
            display.validated(done, total);
            self.interrupt.check()
        };
        let moment = self.validation.moment(&self.method, phase, self.trainer.policy(), &mut progress).await?;
        self.display.evaluated(&moment);
        self.moments.push(moment);
        let improves = best::improves(&self.moments);
        if improves {
            self.best_change = self.change_so_far().await?;
        }
        let moment = self.moments.last().context("the newest moment")?;
        self.metrics.append(&match self.best_change.as_ref().filter(|_| improves) {
            Some((_, change)) => moment_record_with_change(moment, &self.unit_names(), change),
            None => moment_record(moment),
        })?;
        self.unevaluated = None;
        if !improves {
            return Ok(());
        }
        let best = self.run.best();
        if let Some(weights) = self.later(saved).await? {
            let model = (self.folder.clone(), self.saving.export_dtype);
            return self.exporting.begin(weights, self.pending.clone(), model, &best);
        }
        // The last checkpoint takes along what the folder was.
        self.settle()?;
        self.exporting.wait()?;
        self.export(&best).await.context("exporting the best weights")
    }

    /// The phase under way and how far it has moved each unit, if the run may come back to where it is.
    async fn change_so_far(&mut self) -> anyhow::Result<Option<(String, Vec<f64>)>> {
        if self.continue_from == ContinueFrom::Last {
            return Ok(None);
        }
        let phase = self.phase();
        let Some(change) = self.trainer.change().await? else { return Ok(None) };
        match change.iter().find(|change| !change.is_finite()) {
            Some(value) => Err(Diverged::change(*value, &phase).into()),
            None => Ok(Some((phase, change))),
        }
    }

    /// The weights as they are now, for whoever reads them later.
    async fn later(&self, saved: Option<Saved>) -> anyhow::Result<Option<Weights>> {
        match saved.filter(|_| self.saving.background == Background::Auto) {
            Some(saved) => {
                let units = self.trainer.policy().units().clone();
                Ok(Some(Box::new(move |unit| saved.weights(&units[unit]))))
            }
            None => checkpoint::copied_weights(&self.trainer, &self.saving).await,
        }
    }

    /// Saves the state as it is, if the newest checkpoint does not hold it; once that one is on the disk, for this one may link to its files.
    async fn save(&mut self) -> anyhow::Result<()> {
        let mark = self.mark()?;
        if self.saved.as_ref() == Some(&mark) {
            return Ok(());
        }
        let began = self.recorder.now();
        self.settle()?;
        let log = (&self.metrics, self.fingerprint.as_str());
        let around = Around { start: self.start.as_ref(), best: self.exporting.under_way() };
        let saved = checkpoint::save(&self.trainer, &self.run, log, around, &self.saving).await?;
        (self.pending, self.saved) = (Some(saved), Some(mark));
        self.saved_for += self.recorder.now() - began;
        Ok(())
    }

    fn mark(&self) -> anyhow::Result<Mark> {
        Ok(Mark::of(&self.trainer.progress(), self.metrics.sync()?))
    }

    /// Says so at once if the last checkpoint could not be written.
    fn look_after_pending(&mut self) -> anyhow::Result<()> {
        if self.pending.as_ref().is_some_and(Saved::is_settled) { self.settle() } else { Ok(()) }
    }

    /// Waits for the last checkpoint, and removes old ones.
    fn settle(&mut self) -> anyhow::Result<()> {
        match self.written()? {
            true => Ok(self.run.prune(self.saving.keep, &self.fingerprint)?),
            false => Ok(()),
        }
    }

    /// Waits for the last checkpoint, if there is one on its way.
    fn written(&mut self) -> anyhow::Result<bool> {
        let Some(pending) = self.pending.take() else { return Ok(false) };
        pending.wait().context("saving a checkpoint").map(|()| true)
    }

    /// Whether there is anything to save.
    fn begun(&self) -> bool {
        let progress = self.trainer.progress();
        progress.phases_done > 0 || progress.running.is_some()
    }

    async fn stop(&mut self) -> anyhow::Result<Ended> {
        if self.begun() {
            self.save().await?;
            match self.unevaluated {
                None => self.settle()?,
                // It may turn out to be good for nothing: then the one before is needed.
                Some(_) => drop(self.written()?),
            }
        }
        let run = quoted(&self.whole);
        self.display.note(&format!("interrupted and saved; go on with `hbat resume {run}`"));
        Ok(Ended::Interrupted)
    }

    /// Says where to go on after an error that ends the run. Nothing is saved: where numbers left their range, the weights may have been on
    /// their way there for long. A checkpoint that could not be written is the error behind others.
    fn failed(&mut self, error: Error) -> anyhow::Error {
        if let Err(unsaved) = self.settle() {
            return unsaved;
        }
        if !matches!(error, Error::NotFinite { .. }) {
            return error.into();
        }
        self.go_on_from_last(error.into())
    }

    /// Takes back the checkpoint, if there is one, of weights that are good for nothing.
    fn diverged(&mut self, error: anyhow::Error) -> anyhow::Error {
        if self.mark().is_ok_and(|mark| self.saved == Some(mark))
            && let Some(spoiled) = self.start.take()
        {
            self.pending = None;
            if let Err(kept) = spoiled.number().and_then(|number| Ok(self.run.discard(number)?)) {
                return kept;
            }
        }
        self.go_on_from_last(error)
    }

    /// Says from where a run that diverged can go on, with other settings.
    fn go_on_from_last(&self, error: anyhow::Error) -> anyhow::Error {
        let (run, quoted) = (self.whole.display(), quoted(&self.whole));
        let last = self.run.latest_complete(&self.fingerprint).ok().and_then(|latest| latest.checkpoint);
        let goes_on = match last {
            Some(last) => format!(
                "The last checkpoint is {}, after step {} of {}: change {run}/config.toml and go on from there with `hbat resume {quoted}`",
                last.path().display(),
                last.step(),
                last.phase()
            ),
            None => format!("Nothing was saved yet: change {run}/config.toml and begin anew with `hbat resume {quoted}`"),
        };
        anyhow!("{error:#}. {goes_on}")
    }

    async fn finish(&mut self) -> anyhow::Result<Ended> {
        // What had finished before is all there.
        if self.saved != Some(self.mark()?) || !self.run.last().is_dir() {
            self.export(&self.run.last()).await.context("exporting the last weights")?;
            self.start = None;
            self.save().await?;
        }
        self.settle()?;
        self.display.finish();
        Ok(Ended::Finished(std::mem::take(&mut self.moments)))
    }

    async fn export(&mut self, folder: &Path) -> anyhow::Result<()> {
        let Self { trainer, display, folder: source, saving, .. } = self;
        let (policy, total) = (trainer.policy(), trainer.policy().units().len());
        let read = async |unit: usize| {
            display.exported(unit + 1, total);
            Ok::<_, anyhow::Error>(policy.values(unit).await?)
        };
        let export = Export { dtype: saving.export_dtype, ..Export::new(policy.config(), Some(source)) };
        export.write(folder, read).await
    }

    fn unit_names(&self) -> Vec<String> {
        self.trainer.policy().units().iter().map(|unit| unit.name.clone()).collect()
    }
}

/// Whether something that is done every so many steps is due after this one of so many; the end of a phase brings it about by itself.
fn is_due(every: usize, (step, steps): (usize, usize)) -> bool {
    every > 0 && step.is_multiple_of(every) && step < steps
}
