//! What can go wrong in training, as opposed to before it.

use std::fmt::Display;

/// An error of the core. Each names what stopped and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Training left the numbers that can be represented.
    #[error(
        "{quantity} is {value} at step {step} of phase {phase} (examples {examples:?}); the weights are those of before the step. \
         Lower the learning rate, or look at these examples"
    )]
    NotFinite {
        /// "loss" or "gradient norm".
        quantity: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The phase.
        phase: String,
        /// The step within the phase, from 1.
        step: usize,
        /// The examples of the batch, by their place in the data set.
        examples: Vec<usize>,
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
