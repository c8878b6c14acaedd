//! The judge of the lanes' own answers: a reward model, which learns from the lab's preferences before the first lane begins.

use burn::tensor::TensorData;

use super::LabError;
use super::settings::{BUCKET, LabSettings};
use crate::compute::Compute;
use crate::engine::Engine;
use crate::error::Error;
use crate::evaluate::sequence_scores;
use crate::model::{HeadKind, LlamaConfig, Policy, Unit, fresh_value_head};
use crate::ppo::Critics;
use crate::schedule::{Preference, phases};
use crate::tokens::{Batch, Group};
use crate::toy::skill::EOS;
use crate::trainer::{Data, Event, Trainer};

/// A trained judge.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) reward: Policy,
    /// The part of held-out pairs of which it prefers the chosen answer.
    pub(super) accuracy: f64,
}

impl Judge {
    /// Trains one from a lab's start model; `progress` is told the steps that are done, and of how many.
    pub(super) async fn train<E: From<LabError>>(
        settings: &LabSettings,
        (start, data): (&Policy, &Data),
        held_out: &Batch,
        progress: &mut dyn FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        let schedule = phases(&settings.judging());
        let mut trainer = Trainer::new(untrained(settings, start).await?, data.clone(), schedule, settings.trainer());
        loop {
            match trainer.step().await.map_err(LabError::from)? {
                Event::Step(report) => progress(report.step, report.steps)?,
                Event::Finished => break,
                _ => {}
            }
        }
        let reward = trainer.policy().as_seen();
        let accuracy = accuracy(&reward, held_out).await.map_err(LabError::from)?;
        Ok(Self { reward, accuracy })
    }

    /// One that was trained before, from its tensors.
    pub(super) fn load(
        (settings, accuracy): (&LabSettings, f64),
        compute: Compute,
        mut read: impl FnMut(&Unit) -> Result<Vec<f32>, LabError>,
    ) -> Result<Self, LabError> {
        let reward =
            Policy::load(config(settings), compute, |unit| Ok::<_, LabError>(TensorData::new(read(unit)?, unit.dims())))?;
        Ok(Self { reward, accuracy })
    }

    /// What a lane needs of it: PPO a critic, too, which starts as the judge.
    pub(super) fn critics(&self, preference: Preference) -> Critics {
        match preference {
            Preference::Ppo => Critics::new(&self.reward, self.reward.clone(), vec![EOS]),
            _ => Critics::judge(&self.reward, vec![EOS]),
        }
    }

    /// The mean score of answers; NaN of none.
    pub(super) async fn mean_score(&self, answers: &[Group]) -> Result<f64, Error> {
        let scores = sequence_scores(&self.reward, Engine::Whole, &Batch::new(answers, BUCKET)).await?;
        Ok(scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64)
    }
}

/// The start model with a value head that knows nothing yet, the same that `hbat train` would make.
async fn untrained(settings: &LabSettings, start: &Policy) -> Result<Policy, LabError> {
    let mut weights = Vec::with_capacity(start.units().len());
    for unit in 0..start.units().len() {
        weights.push(start.values(unit).await?);
    }
    let of_start = |unit: &Unit| start.units().iter().position(|known| known.name == unit.name);
    Policy::load(config(settings), start.compute().clone(), |unit| {
        let head = || fresh_value_head(start.config(), settings.seed);
        let values = of_start(unit).map_or_else(head, |place| weights[place].clone());
        Ok::<_, LabError>(TensorData::new(values, unit.dims()))
    })
}

fn config(settings: &LabSettings) -> LlamaConfig {
    settings.model.config().with_head(HeadKind::Value)
}

/// The part of pairs of which the chosen answer has the larger score.
async fn accuracy(reward: &Policy, pairs: &Batch) -> Result<f64, Error> {
    let scores = sequence_scores(reward, Engine::Whole, pairs).await?;
    let (pairs, _) = scores.as_chunks::<2>();
    Ok(pairs.iter().filter(|[chosen, rejected]| chosen > rejected).count() as f64 / pairs.len() as f64)
}
