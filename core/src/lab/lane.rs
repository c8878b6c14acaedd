//! One method under way: a trainer, and the frames and records that tell what it does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LabError;
use super::frame::{Frame, Importances, LaneHeader, Moment, PhaseHeader, PhaseSide, RuleReport};
use super::gauge::Gauge;
use super::settings::{LabSettings, LaneMethod};
use crate::consolidation::{Consolidation, Draw, Rule, effective_units, importance};
use crate::model::Policy;
use crate::records::{self, StepCost, moment_record, phase_ended_record, phase_started_record, step_record};
use crate::schedule::{Aim, Phase, Work, phases};
use crate::trainer::{Data, Event, ImportanceReport, Models, PhaseStarted, StepReport, Trainer};

/// A method under way.
pub(super) struct Lane {
    method: LaneMethod,
    pub(super) trainer: Trainer,
    header: LaneHeader,
    consolidation: Consolidation,
    pub(super) state: LaneState,
}

/// Where a lane stands, beside its trainer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct LaneState {
    begun: bool,
    /// Steps so far.
    step: usize,
    /// The phase under way, or the last.
    phase: usize,
    finished: bool,
    /// Lines of `metrics.jsonl`.
    records: Vec<Value>,
    /// The last moment, which the end of a phase records.
    last: Option<Moment>,
}

impl Lane {
    /// A lane at its start.
    pub(super) fn new(method: LaneMethod, settings: &LabSettings, (models, data): (Models, Data)) -> Result<Self, LabError> {
        let phases = phases(&settings.schedule(method));
        let trainer = Trainer::new(models, data, phases, settings.trainer());
        Self::with(method, settings, trainer, LaneState::default())
    }

    /// A lane that goes on.
    pub(super) fn with(method: LaneMethod, settings: &LabSettings, trainer: Trainer, state: LaneState) -> Result<Self, LabError> {
        let steps = trainer.planned_steps()?;
        let phases = trainer.phases().iter().zip(steps).map(|(phase, steps)| describe(phase, steps)).collect();
        let header = LaneHeader { method, label: method.label(settings.subsets).into(), phases };
        Ok(Self { method, trainer, header, consolidation: settings.consolidation(method), state })
    }

    pub(super) fn method(&self) -> LaneMethod {
        self.method
    }

    pub(super) fn header(&self) -> LaneHeader {
        self.header.clone()
    }

    pub(super) fn policy(&self) -> &Policy {
        self.trainer.policy()
    }

    pub(super) fn finished(&self) -> bool {
        self.state.finished
    }

    /// Whether not even its start was shown.
    pub(super) fn is_new(&self) -> bool {
        !self.state.begun
    }

    /// Steps of all phases, of the optimizer or of PPO.
    pub(super) fn steps(&self) -> usize {
        self.header.phases.iter().map(|phase| phase.steps).sum()
    }

    /// Everything at the present weights.
    pub(super) async fn measure(&mut self, gauge: &Gauge, settings: &LabSettings) -> Result<Moment, LabError> {
        let moment = gauge.moment(self.trainer.policy(), settings).await?;
        let drift = self.trainer.drift().await?.unwrap_or_else(|| moment.unit_drift.clone());
        Ok(Moment { step: self.state.step, phase: self.state.phase, unit_drift: drift, ..moment })
    }

    /// Shows the start, which another lane may have measured.
    pub(super) fn begin(&mut self, start: Moment) -> Frame {
        self.state.begun = true;
        self.record(&start, None);
        Frame::Moment(Box::new(start))
    }

    /// Trains one step further, or does what lies between steps.
    pub(super) async fn advance(&mut self, gauge: &Gauge, settings: &LabSettings) -> Result<Vec<Frame>, LabError> {
        match self.trainer.step().await? {
            Event::PhaseStarted(started) => Ok(vec![self.started(&started)]),
            Event::Step(report) => {
                let mut frames = vec![self.stepped(&report)];
                if report.step == report.steps || self.state.step.is_multiple_of(settings.measure_every) {
                    let moment = self.measure(gauge, settings).await?;
                    self.state.last = Some(moment.clone());
                    frames.push(Frame::Moment(Box::new(moment)));
                }
                Ok(frames)
            }
            Event::PhaseEnded(ended) => {
                self.state.records.push(phase_ended_record(&ended, &self.units()));
                if let Some(moment) = self.state.last.take() {
                    self.record(&moment, Some(ended.phase));
                }
                Ok(Vec::new())
            }
            Event::Finished if self.state.finished => Ok(Vec::new()),
            Event::Finished => {
                self.state.finished = true;
                Ok(vec![Frame::Finished { lane: 0, step: self.state.step }])
            }
            Event::Scored { .. } | Event::Answered { .. } | Event::Measured { .. } => Ok(Vec::new()),
        }
    }

    /// The lines of `metrics.jsonl` so far.
    pub(super) fn metrics(&self) -> String {
        self.state.records.iter().map(|record| format!("{record}\n")).collect()
    }

    fn started(&mut self, started: &PhaseStarted) -> Frame {
        let index = |phase: &Phase| phase.name == started.phase;
        self.state.phase = self.trainer.phases().iter().position(index).unwrap_or_default();
        let rule = started.importance.as_ref().map(|_| self.consolidation.rule);
        self.state.records.push(phase_started_record(started, &self.units(), rule));
        let importance = started.importance.as_ref().map(|report| self.importances(report));
        Frame::Phase { lane: 0, step: self.state.step, phase: self.state.phase, importance, frozen: started.frozen }
    }

    /// What the rule in force made of the changes, and what the others would have made of them.
    fn importances(&self, report: &ImportanceReport) -> Importances {
        let accumulated = report.accumulated.clone();
        let draw = Draw { seed: 0, phase: "" };
        let shown = |rule: Rule| {
            let f = importance(rule, &accumulated, self.consolidation.f_max, draw)?;
            Some((rule, RuleReport { effective_units: effective_units(&f), f }))
        };
        let rules = [Rule::Paper, Rule::Reference, Rule::Relative, Rule::Proportional];
        let mut rules: BTreeMap<Rule, RuleReport> = rules.into_iter().filter_map(shown).collect();
        let in_force = RuleReport { f: report.importance.clone(), effective_units: report.effective_units };
        rules.insert(self.consolidation.rule, in_force);
        Importances { rule: self.consolidation.rule, accumulated, rules }
    }

    fn stepped(&mut self, report: &StepReport) -> Frame {
        self.state.step += 1;
        let metric = |name: &str| report.metrics.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        // There is no clock here.
        self.state.records.push(step_record(report, &StepCost::default(), self.state.step));
        Frame::Step {
            lane: 0,
            step: self.state.step,
            phase: self.state.phase,
            side: if report.objective == "sft" { PhaseSide::Sft } else { PhaseSide::Dpo },
            loss: report.loss,
            penalty: report.penalty,
            grad_norm: report.grad_norm,
            penalty_grad_norm: report.penalty_grad_norm,
            learning_rate: report.learning_rate,
            tokens: report.tokens,
            score: metric("score"),
            kl: metric("kl"),
        }
    }

    /// Enters a moment as the command line's evaluation.
    fn record(&mut self, moment: &Moment, phase: Option<String>) {
        let extra = [
            ("reward", Some(moment.reward)),
            ("exact match, covered", Some(moment.exact_covered)),
            ("exact match, uncovered", Some(moment.exact_other)),
            ("casual, covered", Some(moment.casual)),
            ("mean reward", moment.score),
        ];
        self.state.records.push(moment_record(&records::Moment {
            method: self.method.name().into(),
            phase,
            sft_nll: Some(moment.sft_loss),
            accuracy: Some(moment.accuracy),
            margin: None,
            extra: extra.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).collect(),
        }));
    }

    fn units(&self) -> Vec<String> {
        self.trainer.policy().units().iter().map(|unit| unit.name.clone()).collect()
    }
}

fn describe(phase: &Phase, steps: usize) -> PhaseHeader {
    let (name, side) = match &phase.work {
        Work::One { aim: Aim::Sft, subset, .. } => (format!("IFA_{}", subset + 1), PhaseSide::Sft),
        Work::One { subset, .. } => (format!("HPA_{}", subset + 1), PhaseSide::Dpo),
        Work::Mixed { .. } => ("MIX".into(), PhaseSide::Mix),
    };
    PhaseHeader { name, side, steps }
}
