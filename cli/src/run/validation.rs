//! Scoring both objectives on examples that are not trained on.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hbat::model::Policy;
use hbat::objective::Dpo;
use hbat::tokens::Group;
use serde::{Deserialize, Serialize};

use super::best;
use super::inputs::ToyTask;
use super::judge::Judge;
use crate::evaluation::{Scorer, Sequences, evaluate_demonstrations, evaluate_preferences, reward_preferences};
use crate::report::{Bar, Moment};
use crate::signal::{Interrupt, Interrupted};
use crate::store::replace_file;

/// The validation set, and how it is judged.
pub(crate) struct Validation {
    pub(crate) demonstrations: Vec<Group>,
    pub(crate) preferences: Vec<Group>,
    pub(crate) scorer: Scorer,
    pub(crate) judgement: Judgement,
    /// Of a run that trains on answers.
    pub(crate) answers: Option<Answers>,
    pub(crate) toy: Option<ToyTask>,
}

/// The policy's own answers, and who judges them.
pub(crate) struct Answers {
    /// What is answered: preferences or prompts alone.
    pub(crate) prompts: Vec<Group>,
    pub(crate) judge: Arc<Judge>,
    pub(crate) max_new_tokens: usize,
}

/// What says which response of a preference is the better one.
pub(crate) enum Judgement {
    /// A policy's likelihood, against the initial weights': every margin and accuracy of a run is against those.
    Likelihood { reference: Reference, dpo: Dpo },
    /// A reward model's rewards.
    Rewards,
}

/// Training left the numbers that can be represented, and only validation shows it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the {quantity} is {value} {when}; lower the learning rate")]
pub(crate) struct Diverged {
    quantity: String,
    value: f64,
    when: String,
}

impl Diverged {
    /// Because weights have gone further than can be told.
    pub(crate) fn change(value: f64, phase: &str) -> Self {
        Self { quantity: "change of the weights".into(), value, when: format!("within {phase}") }
    }
}

/// What the initial weights made of the validation preferences; kept in a run's directory, for a resumed run has other weights.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) preferences: Sequences,
}

impl Reference {
    /// The scores of the initial weights.
    pub(crate) async fn of(
        preferences: &[Group],
        scorer: Scorer,
        policy: &Policy,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let mut bar = Bar::items("reference", preferences.len() as u64);
        let mut progress = |done| {
            bar.set(done as u64);
            interrupt.check()
        };
        Ok(Self { preferences: scorer.score(policy, preferences, &mut progress).await? })
    }

    /// Reads what [`write`](Self::write) wrote for so many pairs; `None` if it was not written.
    pub(crate) fn read(path: &Path, pairs: usize) -> anyhow::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let reference: Self = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let found = reference.preferences.len();
        anyhow::ensure!(found == pairs, "{} is about {found} pairs, the validation set has {pairs}", path.display());
        Ok(Some(reference))
    }

    /// Writes it whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(replace_file(path, &serde_json::to_vec(self)?)?)
    }
}

impl Validation {
    /// Both objectives at this moment.
    pub(crate) async fn moment(
        &self,
        method: &str,
        phase: Option<&str>,
        policy: &Policy,
        progress: &mut dyn FnMut(usize, usize) -> Result<(), Interrupted>,
    ) -> anyhow::Result<Moment> {
        let (demonstrations, preferences) = (self.demonstrations.len(), self.preferences.len());
        let total = demonstrations + preferences + self.answers.as_ref().map_or(0, |answers| answers.prompts.len());
        let mut moment = Moment {
            method: method.into(),
            phase: phase.map(Into::into),
            sft_nll: None,
            accuracy: None,
            margin: None,
            extra: vec![],
        };
        if demonstrations > 0 {
            let scores = self.scorer.score(policy, &self.demonstrations, &mut |done| progress(done, total)).await?;
            moment.sft_nll = Some(finite("loss", evaluate_demonstrations(&self.demonstrations, &scores).0.nll, phase)?);
        }
        if preferences > 0 {
            let mut report = |done| progress(demonstrations + done, total);
            let scores = self.scorer.score(policy, &self.preferences, &mut report).await?;
            let (accuracy, margin) = self.preferred(&scores)?;
            (moment.accuracy, moment.margin) = (Some(accuracy), Some(finite("margin", margin, phase)?));
        }
        if let Some(answers) = self.answers.as_ref().filter(|answers| !answers.prompts.is_empty()) {
            let mut report = |done| progress(demonstrations + preferences + done, total);
            let how = (self.scorer, answers.max_new_tokens);
            let reward = answers.judge.mean_reward((policy, &answers.prompts), how, &mut report).await?;
            moment.extra.push((best::REWARD.into(), finite("reward", reward, phase)?));
        }
        if let Some(toy) = &self.toy {
            moment.extra.extend(toy.measure(policy).await?);
        }
        Ok(moment)
    }

    /// Accuracy and mean margin of scored preferences.
    fn preferred(&self, scores: &Sequences) -> anyhow::Result<(f64, f64)> {
        match &self.judgement {
            Judgement::Likelihood { reference, dpo } => {
                let score = evaluate_preferences(&self.preferences, scores, Some(&reference.preferences), *dpo).0;
                let against = score.against.context("the reference was given")?;
                Ok((against.accuracy, against.margin))
            }
            Judgement::Rewards => {
                let rewards = reward_preferences(&self.preferences, scores).0;
                Ok((rewards.accuracy, rewards.margin))
            }
        }
    }
}

fn finite(quantity: &'static str, value: f64, phase: Option<&str>) -> Result<f64, Diverged> {
    let when = || phase.map_or_else(|| "before training".into(), |phase| format!("after {phase}"));
    let quantity = || format!("{quantity} of validation");
    if value.is_finite() { Ok(value) } else { Err(Diverged { quantity: quantity(), value, when: when() }) }
}
