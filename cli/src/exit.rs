//! Exit codes, as BSD's sysexits.h numbers them.

use std::io::ErrorKind;

use hbat::error::Error;
use hbat::lab::LabError;
use hbat_backends::DeviceError;

use crate::comparison::JudgeError;
use crate::config::ConfigError;
use crate::data::DataError;
use crate::lab::LabCommandError;
use crate::model::ModelError;
use crate::recipes::RecipeError;
use crate::run::InputsChanged;
use crate::signal::{INTERRUPTED, Interrupted};
use crate::store::StoreError;
use crate::text::TextError;

/// All is well.
pub const OK: i32 = 0;
/// A wrong command line; clap's own code.
pub const USAGE: i32 = 2;
/// Input that cannot be used: data, models, checkpoints.
pub const DATA: i32 = 65;
/// The program or the machine failed.
pub const INTERNAL: i32 = 70;
/// Settings that cannot be used.
pub const CONFIGURATION: i32 = 78;

/// The code that tells a script what kind of error this is: that of the first known cause in the chain.
pub fn code(error: &anyhow::Error) -> i32 {
    error.chain().find_map(known).unwrap_or(INTERNAL)
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<i32> {
    // What reads the output has seen enough, as `head` has.
    if cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        return Some(OK);
    }
    if cause.is::<Interrupted>() {
        return Some(INTERRUPTED);
    }
    if cause.is::<DataError>() || cause.is::<TextError>() || cause.is::<InputsChanged>() {
        return Some(DATA);
    }
    if cause.is::<ConfigError>() || cause.is::<DeviceError>() || cause.is::<LabCommandError>() {
        return Some(CONFIGURATION);
    }
    if let Some(error) = cause.downcast_ref::<ModelError>() {
        return Some(match error {
            ModelError::Store(error) => store(error),
            ModelError::Device { .. } => INTERNAL,
            ModelError::Occupied { .. } => CONFIGURATION,
            _ => DATA,
        });
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(store(error));
    }
    if let Some(error) = cause.downcast_ref::<RecipeError>() {
        return Some(if matches!(error, RecipeError::Unknown { .. }) { USAGE } else { CONFIGURATION });
    }
    if let Some(error) = cause.downcast_ref::<JudgeError>() {
        return Some(judge(error));
    }
    if let Some(LabError::Setting { .. }) = cause.downcast_ref::<LabError>() {
        return Some(CONFIGURATION);
    }
    cause.downcast_ref::<Error>().map(core)
}

fn store(error: &StoreError) -> i32 {
    match error {
        StoreError::NoFolder { .. }
        | StoreError::RunExists { .. }
        | StoreError::NotEmpty { .. }
        | StoreError::NotARun { .. }
        | StoreError::Locked { .. } => CONFIGURATION,
        StoreError::Tensors(_) | StoreError::NoneUsable { .. } => DATA,
        _ => INTERNAL,
    }
}

fn judge(error: &JudgeError) -> i32 {
    match error {
        JudgeError::Silent { .. } => INTERNAL,
        JudgeError::Verdicts { .. } => DATA,
        _ => CONFIGURATION,
    }
}

fn core(error: &Error) -> i32 {
    match error {
        Error::TooFewExamples { .. } | Error::SeveralPasses { .. } | Error::Critics { .. } => CONFIGURATION,
        Error::ForeignState(_) | Error::PhaseStart { .. } | Error::UnknownToken { .. } => DATA,
        Error::NotFinite { .. } | Error::Answers { .. } | Error::Device(_) => INTERNAL,
    }
}
