//! What a lab shows, as records: a [`Header`] first, then [`Frame`]s.
//!
//! Steps count per lane over all its phases, from 1; step 0 is the start. Per-unit numbers are in the order of the header's units.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LabSettings;
use super::plane::Corner;
use super::settings::LaneMethod;
use crate::consolidation::Rule;
use crate::toy::skill::Task;

/// The version of these records.
pub(super) const VERSION: u32 = 1;

/// What is known before anything is trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "header")]
pub struct Header {
    /// The version of the records, 1.
    pub version: u32,
    /// What the lab was made from, complete.
    pub settings: LabSettings,
    /// The units' names.
    pub units: Vec<String>,
    /// The prompts that every moment answers.
    pub prompts: Vec<Prompt>,
    /// The lanes.
    pub lanes: Vec<LaneHeader>,
    /// Who judges the lanes' own answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeHeader>,
    /// The plane's good corner: what the demonstrations' own randomness leaves of the loss, and reward 1.
    pub ideal: Corner,
    /// The plane's bad corner, from which the hypervolume is measured.
    pub nadir: Corner,
}

/// The judge, trained before anything else.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeHeader {
    /// The part of held-out pairs of which it prefers the chosen answer.
    pub accuracy: f64,
}

/// A prompt that every moment answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prompt {
    /// Its words.
    pub text: String,
    /// Its task.
    pub task: Task,
    /// Whether preferences cover the task.
    pub covered: bool,
    /// The right digits.
    pub right: String,
}

/// A lane and its phases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaneHeader {
    /// The method.
    pub method: LaneMethod,
    /// Its name in words.
    pub label: String,
    /// Its phases, in order.
    pub phases: Vec<PhaseHeader>,
}

/// A phase to come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseHeader {
    /// As the paper counts: `IFA_1`, `HPA_1`, …; or `MIX`.
    pub name: String,
    /// What it trains.
    pub side: PhaseSide,
    /// Its steps, of the optimizer or of PPO.
    pub steps: usize,
}

/// What a phase or a step trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseSide {
    /// Demonstrations.
    Sft,
    /// Preferences, in whichever way.
    Dpo,
    /// One of them at each step.
    Mix,
}

/// Something that happened in a lane.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Frame {
    /// A phase begins.
    Phase {
        /// The lane.
        lane: usize,
        /// Steps before it.
        step: usize,
        /// Its place among the lane's phases, from 0.
        phase: usize,
        /// How strongly each unit is held, of a phase that holds any.
        importance: Option<Importances>,
        /// How many units are frozen.
        frozen: usize,
    },
    /// A step, of the optimizer or of PPO.
    Step {
        /// The lane.
        lane: usize,
        /// Its number.
        step: usize,
        /// The phase.
        phase: usize,
        /// What was trained.
        side: PhaseSide,
        /// The objective's loss before the step, without the penalty.
        loss: f64,
        /// The penalty before the step.
        penalty: f64,
        /// Norm of the gradient, penalty included, before clipping.
        grad_norm: f64,
        /// Norm of the penalty's gradient.
        penalty_grad_norm: f64,
        /// Learning rate.
        learning_rate: f64,
        /// Tokens of the batch.
        tokens: usize,
        /// The judge's mean score of the answers, of a step of PPO or RAFT.
        #[serde(skip_serializing_if = "Option::is_none")]
        score: Option<f64>,
        /// How far the answers' likelihood is from what the phase began with, nats per answer, of a step of PPO.
        #[serde(skip_serializing_if = "Option::is_none")]
        kl: Option<f64>,
    },
    /// Everything was measured.
    Moment(Box<Moment>),
    /// All phases are over.
    Finished {
        /// The lane.
        lane: usize,
        /// Its last step.
        step: usize,
    },
}

impl Frame {
    /// Says which lane it is about.
    pub(super) fn set_lane(&mut self, index: usize) {
        match self {
            Self::Phase { lane, .. } | Self::Step { lane, .. } | Self::Finished { lane, .. } => *lane = index,
            Self::Moment(moment) => moment.lane = index,
        }
    }
}

/// The importances of a phase under the rule in force, and what the other rules would have made of the same changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importances {
    /// The rule in force.
    pub rule: Rule,
    /// AC, the other side's accumulated changes.
    pub accumulated: Vec<f64>,
    /// By rule.
    pub rules: BTreeMap<Rule, RuleReport>,
}

/// What a rule makes of accumulated changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleReport {
    /// F per unit.
    pub f: Vec<f64>,
    /// exp of the entropy of F/ΣF.
    pub effective_units: f64,
}

/// All measurements after a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// The lane.
    pub lane: usize,
    /// The step.
    pub step: usize,
    /// The phase.
    pub phase: usize,
    /// Negative log-likelihood of held-out demonstrations, nats per token.
    pub sft_loss: f64,
    /// How likely the model gives the chosen answer of a held-out pair rather than the rejected one: the mean of π(y_w)/(π(y_w)+π(y_l)).
    /// It depends on no β and no reference.
    pub reward: f64,
    /// The part of the held-out pairs whose margin against the start weights is positive.
    pub accuracy: f64,
    /// DPO's loss on them, against the start weights.
    pub dpo_loss: f64,
    /// The part of right answers to held-out problems of the tasks that preferences cover,
    pub exact_covered: f64,
    /// and of the other tasks.
    pub exact_other: f64,
    /// The part of casual answers on covered tasks.
    pub casual: f64,
    /// The judge's mean score of the answers to the covered ones, where there is a judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The hypervolume of this point of the plane alone.
    pub hypervolume: f64,
    /// Cosine between both objectives' gradients on the same held-out examples at every moment.
    pub cosine: f64,
    /// The same per unit.
    pub unit_cosines: Vec<f64>,
    /// ‖θ − θ_start‖ per unit since the phase's start, which is θ* where the phase is held.
    pub unit_drift: Vec<f64>,
    /// The answer to every prompt of the header.
    pub generations: Vec<Generation>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its words.
    pub tokens: Vec<Marked>,
}

/// A word of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// The word.
    pub text: String,
    /// What it is; none for a digit where nothing was asked that has a right answer.
    pub mark: Option<Mark>,
}

/// What a word of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// The digit that belongs there.
    Right,
    /// Another digit, or a word that no answer has.
    Wrong,
    /// Part of a formal tail.
    Formal,
    /// Part of a casual tail.
    Casual,
    /// The end.
    End,
}
