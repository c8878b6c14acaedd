//! Whether a run that goes on still finds what it began with: names of files and of the model's folder stay, their contents may not have.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use hbat::tokens::Group;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::inputs::Inputs;
use super::judge::JudgeFolder;
use crate::model::ModelFolder;
use crate::report::tell;
use crate::store::{hex, replace_file};

/// The file that remembers it.
const FILE: &str = "inputs.json";

/// The setting that names who judges; the toy's are files, too.
const JUDGE: &str = "reward_model";

/// What a run trains on and is judged by: digests in hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// When it began, in seconds since 1970 (UTC): chat templates may print the day.
    began: f64,
    /// Whether examples and model are the toy's, made and not read.
    #[serde(skip)]
    is_toy: bool,
    /// The model's configuration.
    model: String,
    /// A sample of its weights.
    weights: String,
    /// The configuration and the head of the reward model that judges answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judge: Option<String>,
    demonstrations: String,
    preferences: String,
    validation_demonstrations: String,
    validation_preferences: String,
}

/// Something is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {what} are not those that {} began with, tokens and all: put {back} back, or begin a new run with another --output", run.display())]
pub(crate) struct InputsChanged {
    what: &'static str,
    /// Which settings or files.
    back: String,
    run: PathBuf,
}

/// When a run began, in seconds since 1970 (UTC): now, if it has not.
pub(super) fn began(run: &Path) -> f64 {
    known(run).map_or_else(now, |identity| identity.began)
}

/// Seconds since 1970 (UTC).
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn known(run: &Path) -> Option<Identity> {
    // What is damaged tells nothing, and is written anew.
    serde_json::from_slice(&std::fs::read(run.join(FILE)).ok()?).ok()
}

impl Identity {
    /// That of what was read.
    ///
    /// # Errors
    /// If the model's configuration is no JSON, or its weights cannot be read.
    pub(super) fn of(inputs: &Inputs) -> anyhow::Result<Self> {
        let config = serde_json::to_vec(inputs.folder.config()).context("the model's configuration as JSON")?;
        Ok(Self {
            began: inputs.began,
            is_toy: inputs.toy.is_some(),
            weights: sample(&inputs.folder)?,
            model: hex(&Sha256::digest(config)),
            judge: inputs.judge.as_ref().map(judge_digest).transpose()?,
            demonstrations: digest(&inputs.data.demonstrations),
            preferences: digest(&inputs.data.preferences),
            validation_demonstrations: digest(&inputs.validation_demonstrations),
            validation_preferences: digest(&inputs.validation_preferences),
        })
    }

    /// Remembers it for a new run, and refuses to go on with one that began with something else.
    ///
    /// # Errors
    /// If it did, or it cannot be written down.
    pub(super) fn check(&self, run: &Path) -> anyhow::Result<()> {
        let (path, before) = (run.join(FILE), known(run));
        if before.is_none() && path.is_file() {
            let lost = "whether data and model are those that the run began with cannot be told";
            tell(format_args!("warning: {} is damaged: {lost}", path.display()));
        }
        match before.and_then(|before| before.differs(self)) {
            Some((what, key)) => {
                let made = self.is_toy && key != JUDGE;
                let back = if made { "seed and [toy]".into() } else { format!("the files named by {key}") };
                Err(InputsChanged { what, back, run: run.to_path_buf() }.into())
            }
            None => Ok(replace_file(&path, &serde_json::to_vec_pretty(self)?)?),
        }
    }

    /// The first that is another, in words and by its setting.
    fn differs(&self, now: &Self) -> Option<(&'static str, &'static str)> {
        [
            (self.model != now.model, "sizes and constants in the model's config.json", "model.path"),
            (self.weights != now.weights, "model's weights", "model.path"),
            (self.judge != now.judge, "configuration and head of the reward model", JUDGE),
            (self.demonstrations != now.demonstrations, "demonstrations", "data.demonstrations"),
            (self.preferences != now.preferences, "preferences", "data.preferences"),
            (
                self.validation_demonstrations != now.validation_demonstrations,
                "validation demonstrations",
                "validation.demonstrations",
            ),
            (self.validation_preferences != now.validation_preferences, "validation preferences", "validation.preferences"),
        ]
        .into_iter()
        .find_map(|(differs, what, key)| differs.then_some((what, key)))
    }
}

/// Norms and biases, and the last layer's last matrix: training changes them all.
fn sample(folder: &ModelFolder) -> anyhow::Result<String> {
    let units = folder.config().units();
    let last = units.iter().rfind(|unit| unit.name.contains(".layers.") && !unit.is_vector());
    let mut hash = Sha256::new();
    for unit in units.iter().filter(|unit| unit.is_vector()).chain(last) {
        hash.update(folder.read(unit)?.as_bytes());
    }
    Ok(hex(&hash.finalize()))
}

/// Its head tells a reward model from every other: one that was trained on, too.
fn judge_digest(judge: &JudgeFolder) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(judge.config()).context("the reward model's configuration as JSON")?);
    let units = judge.config().units();
    let head = judge.folder().read(&units[judge.config().head_index()])?;
    hash.update(head.as_bytes());
    Ok(hex(&hash.finalize()))
}

fn digest(groups: &[Group]) -> String {
    let mut hash = Sha256::new();
    for sequence in groups.iter().flat_map(|group| &group.sequences) {
        for length in [sequence.prompt().len(), sequence.response().len()] {
            hash.update((length as u64).to_le_bytes());
        }
        sequence.tokens().iter().for_each(|token| hash.update(token.to_le_bytes()));
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbat::tokens::Sequence;

    #[test]
    fn groups_differ_by_every_token_and_by_where_the_response_begins() {
        let group = |prompt: &[u32], response: &[u32]| {
            Group::demonstration(0, Sequence::new(prompt.to_vec(), response).expect("neither is empty"))
        };
        let all = [group(&[1], &[2, 3]), group(&[1, 2], &[3]), group(&[1], &[2, 4]), group(&[1], &[2])];
        let digests: std::collections::BTreeSet<String> = all.iter().map(|g| digest(std::slice::from_ref(g))).collect();
        assert_eq!(digests.len(), all.len());
        assert_ne!(digest(&all[..2]), digest(&all[1..2]));
    }
}
