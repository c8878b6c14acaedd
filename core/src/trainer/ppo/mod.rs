//! A phase of PPO. Each of its steps answers a batch of prompts, appraises the answers, and trains on them for a few epochs.

mod beside;
mod experience;
mod updates;

use super::{Running, Start, Trainer};
use crate::error::Error;
use crate::model::Policy;
use crate::optimizer::{AdamW, Pull};
use crate::ppo::Ppo;
use crate::reduce::Reduce;

/// What such a phase keeps besides what every phase does.
pub(super) struct PpoPhase {
    /// The critic's.
    pub(super) optimizer: AdamW,
    /// β.
    pub(super) beta: f64,
    /// The policy at the phase's start; `None` where it is yet to be made from what a resumed run has of it.
    pub(super) reference: Option<Policy>,
}

impl PpoPhase {
    /// At the start of a phase, whose reference is the policy as it is.
    pub(super) fn new(ppo: &Ppo, optimizer: AdamW, policy: &Policy) -> Self {
        Self { optimizer, beta: ppo.kl_coefficient, reference: Some(policy.as_seen()) }
    }
}

impl<R: Reduce> Trainer<R> {
    fn critic(&self) -> &Policy {
        self.judges().value().expect("a phase of PPO begins with one")
    }

    fn ppo_phase(&mut self) -> &mut PpoPhase {
        match &mut self.current {
            Some(Running { ppo: Some(phase), .. }) => phase,
            _ => unreachable!("only called within a phase of PPO"),
        }
    }

    /// Makes the reference of a resumed phase from the weights of its start.
    async fn make_reference(&mut self) -> Result<(), Error> {
        if self.ppo_phase().reference.is_some() {
            return Ok(());
        }
        let mut reference = self.policy.as_seen();
        for index in 0..self.policy.units().len() {
            reference.set_seen(index, &self.at_start(index).await?);
        }
        self.ppo_phase().reference = Some(reference);
        Ok(())
    }

    /// A unit's weights at the phase's start.
    async fn at_start(&mut self, index: usize) -> Result<Vec<f32>, Error> {
        let unreadable = |reason: String| Error::PhaseStart { phase: self.phases[self.position].name.clone(), reason };
        let Some(running) = &mut self.current else { unreachable!("only called within a phase") };
        match (&mut running.start, &running.pull) {
            (Start::Copy(slabs), _) => slabs[index].values().await,
            (Start::Anchor, Some(Pull { anchor, .. })) => anchor[index].values().await,
            (Start::Stored(Some(stored)), _) => stored.read(&self.policy.units()[index]).map_err(unreadable),
            (Start::Anchor, None) | (Start::Stored(None), _) => {
                Err(unreadable("no reader was handed over when the phase started".into()))
            }
        }
    }
}
