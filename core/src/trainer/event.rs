//! What a trainer tells whoever drives it.

use serde::Serialize;

use crate::consolidation::Degenerate;

/// What one call of [`Trainer::step`](super::Trainer::step) did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A phase is about to begin; nothing of it is done yet.
    PhaseStarted(PhaseStarted),
    /// Reference log-probabilities of a few more preferences are known.
    Scored {
        /// Preferences scored so far.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// A few more answers of a step are there.
    Answered {
        /// Answers so far.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// An optimizer step was taken; of PPO, all that are made of a batch of answers.
    Step(StepReport),
    /// The Fisher information of a few more examples was added up.
    Measured {
        /// Examples measured so far.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// A phase is over and in the ledger.
    PhaseEnded(PhaseEnded),
    /// All phases are over.
    Finished,
}

/// How a phase begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseStarted {
    /// Its name.
    pub phase: String,
    /// Steps it will take, of the optimizer or of PPO.
    pub steps: usize,
    /// How strongly each unit is held; `None` for a phase that holds nothing.
    pub importance: Option<ImportanceReport>,
    /// How many units are frozen.
    pub frozen: usize,
}

/// The importances of a penalised phase, in unit order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportanceReport {
    /// AC, the other side's accumulated changes.
    pub accumulated: Vec<f64>,
    /// F. Under Fisher: the mean over each unit's elements.
    pub importance: Vec<f64>,
    /// exp of the entropy of F/ΣF.
    pub effective_units: f64,
    /// Set where the rule degenerated and importance says nothing.
    pub degenerate: Option<Degenerate>,
}

/// One optimizer step, or a step of PPO: then losses, penalties and norms are means over the optimizer steps that were made of its answers.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The phase.
    pub phase: String,
    /// The objective that was trained.
    pub objective: &'static str,
    /// Step within the phase, from 1.
    pub step: usize,
    /// Steps of the phase.
    pub steps: usize,
    /// The objective's loss at the weights before the step, without the penalty.
    pub loss: f64,
    /// Σ (λ/2)·F·‖θ − θ*‖² at the weights before the step.
    pub penalty: f64,
    /// Norm of the whole gradient, penalty included, before clipping.
    pub grad_norm: f64,
    /// Norm of the penalty's gradient.
    pub penalty_grad_norm: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// Tokens of the batch, prompts included, padding not.
    pub tokens: usize,
    /// The objective's own metrics.
    pub metrics: Vec<(&'static str, f64)>,
}

/// How a phase ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseEnded {
    /// Its name.
    pub phase: String,
    /// C per unit, in unit order.
    pub change: Vec<f64>,
}
