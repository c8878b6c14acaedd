//! What can go wrong in the lab.

use crate::error::Error;
use crate::generate::GenerateError;
use crate::model::{FileError, InitError};
use crate::toy::skill::{SkillError, UnknownWord};

/// An error of the lab, in words for whoever sits before it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LabError {
    /// A setting out of range.
    #[error("`{field}` is {value}, but it must be {rule}")]
    Setting {
        /// Its name in [`LabSettings`](super::LabSettings).
        field: &'static str,
        /// What it says.
        value: String,
        /// What would do.
        rule: String,
    },
    /// A lane that is not there.
    #[error("there is no lane {lane}: they count from 0, and there are {lanes}")]
    Lane {
        /// What was asked for.
        lane: usize,
        /// How many there are.
        lanes: usize,
    },
    /// A prompt that the model cannot read.
    #[error(transparent)]
    Word(#[from] UnknownWord),
    /// A prompt that the model was not made for.
    #[error("the prompt has {found} words, but it must have {rule}")]
    Prompt {
        /// How many it has.
        found: usize,
        /// What would do.
        rule: String,
    },
    /// Bytes that are no snapshot.
    #[error("this is no snapshot of a lab that could be gone on with: {0}")]
    Snapshot(String),
    /// The task's data cannot be made.
    #[error(transparent)]
    Data(#[from] SkillError),
    /// The start model or the export.
    #[error(transparent)]
    Weights(#[from] FileError),
    /// Training failed.
    #[error(transparent)]
    Training(#[from] Error),
    /// Generation failed.
    #[error(transparent)]
    Generation(#[from] GenerateError),
}

impl From<InitError> for LabError {
    fn from(error: InitError) -> Self {
        Self::Weights(error.into())
    }
}
