//! What can go wrong in training, as opposed to before it.

use std::fmt::{self, Display, Formatter};

/// What a failed step left of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// They are those of before the step.
    Untouched,
    /// Some were updated before it was known: by an update within the backward pass, which without clipping cannot wait for the norm; by earlier
    /// mini-batches of the same step of PPO; or by a whole phase, whose change is no number.
    Spoiled,
}

impl Display for Aftermath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untouched => "the weights are those of before the step",
            Self::Spoiled => "the step had begun to change weights, so go on from the last checkpoint",
        })
    }
}

/// An error of the core. Each names what stopped and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Training left the numbers that can be represented.
    #[error(
        "{quantity} is {value} at step {step} of phase {phase} (examples {examples:?}); {aftermath}. Lower the learning rate, or \
         look at these examples"
    )]
    NotFinite {
        /// "loss", "loss of demonstrations", "gradient norm", the two of the value model, "logit of an answer", "score of an answer", or
        /// "change of the weights" at the end of a phase.
        quantity: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The phase.
        phase: String,
        /// The step within the phase, from 1.
        step: usize,
        /// The examples of the batch, by their place in the data set.
        examples: Vec<usize>,
        /// What became of the weights.
        aftermath: Aftermath,
    },
    /// Data of another tokenizer.
    #[error("example {example} of the {kind} has the token id {token}, but the model knows {vocabulary}; is this its tokenizer?")]
    UnknownToken {
        /// "demonstrations" or "preferences".
        kind: &'static str,
        /// Which of them, from 0.
        example: usize,
        /// The token id.
        token: u32,
        /// The model's number of ids.
        vocabulary: usize,
    },
    /// An update within the backward pass, of a step that takes several.
    #[error(
        "a step of phase {phase} takes {passes} forward passes, and an update within the backward pass has to be the only one: \
         lower the batch size, raise `micro_batch`, or update after the backward pass"
    )]
    SeveralPasses {
        /// The phase.
        phase: String,
        /// How many.
        passes: usize,
    },
    /// A phase of answers whose judge or critic is missing, or does not fit.
    #[error("phase {phase} trains on the policy's own answers, {problem}")]
    Critics {
        /// The phase.
        phase: String,
        /// What is wrong.
        problem: String,
    },
    /// Nothing can be generated.
    #[error("the answers of phase {phase} cannot be generated: {reason}")]
    Answers {
        /// The phase.
        phase: String,
        /// Why.
        reason: String,
    },
    /// A data set smaller than the number of subsets it is to be split into.
    #[error("{examples} {kind} cannot be split into {subsets} subsets: lower `subsets` or add data")]
    TooFewExamples {
        /// "demonstrations" or "preferences".
        kind: &'static str,
        /// How many there are.
        examples: usize,
        /// N.
        subsets: usize,
    },
    /// A saved state that does not belong to this schedule or model.
    #[error("the saved state does not fit this run: {0}")]
    ForeignState(String),
    /// The weights of the phase's start could not be read back.
    #[error("the weights at the start of phase {phase} cannot be read: {reason}")]
    PhaseStart {
        /// The phase.
        phase: String,
        /// Why.
        reason: String,
    },
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
}

impl Error {
    pub(crate) fn device(error: impl Display) -> Self {
        Self::Device(error.to_string())
    }
}
