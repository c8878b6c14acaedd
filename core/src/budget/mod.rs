//! What a schedule needs, known before its first step: memory at its peak, steps, tokens, arithmetic.
//!
//! The batches of every step follow from the seed, so nothing here is a guess about sequence lengths. Bytes are counted
//! from what the engines hold at the moments at which they hold most; the allocator's own share and the program's code
//! come on top.

mod answers;
mod memory;
#[cfg(test)]
mod tests;
mod work;

pub use memory::Memory;
pub use work::{Pass, flops};

use serde::Serialize;

use crate::compute::Layout;
use crate::consolidation::{Rule, Side};
use crate::engine::Engine;
use crate::error::Error;
use crate::model::LlamaConfig;
use crate::schedule::{Aim, Phase, Protection, cold_steps};
use crate::trainer::agenda::{Agenda, Item};
use crate::trainer::{Data, KeepStart, Settings, UpdateTiming};
use answers::Answers;
use memory::{Holdings, Sizes};

/// What one phase needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseBudget {
    /// The phase's name, such as "sft-1".
    pub phase: String,
    /// Steps, of the optimizer or of PPO.
    pub steps: usize,
    /// Optimizer steps; of PPO those of policy and critic.
    pub updates: usize,
    /// Sequences that go forward and backward, all steps together; of answers those that are trained on, each once.
    pub sequences: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Tokens that are scored for the reference before the first step.
    pub reference_tokens: usize,
    /// Floating-point operations, what is recomputed included.
    pub flops: f64,
    /// Bytes at the moment of the phase at which they are most.
    pub peak: Memory,
    /// Bytes in ordinary memory besides, for what is offloaded.
    pub host: usize,
}

/// The models of a run.
#[derive(Debug, Clone, Copy)]
pub struct Configs<'a> {
    /// What is trained.
    pub policy: &'a LlamaConfig,
    /// Who judges answers, if somebody does, and of PPO the critic.
    pub reward: Option<&'a LlamaConfig>,
}

impl<'a> From<&'a LlamaConfig> for Configs<'a> {
    fn from(policy: &'a LlamaConfig) -> Self {
        Self { policy, reward: None }
    }
}

/// What the phases need where numbers are laid out so. Of answers, which are as long as they become, it is the most.
///
/// # Errors
/// If a data set is too small for the schedule, or a step takes several passes where updates need it to be one.
pub fn budget<'a>(
    configs: impl Into<Configs<'a>>,
    layout: Layout,
    phases: &[Phase],
    data: &Data,
    settings: &Settings,
) -> Result<Vec<PhaseBudget>, Error> {
    let Configs { policy, reward } = configs.into();
    let sizes = |config, update| Sizes::new(config, layout, (settings.engine, update));
    // The critic's gradients are all there before it is updated.
    let reward = reward.map(|reward| (reward, sizes(reward, UpdateTiming::AfterBackward)));
    let critic = reward.as_ref().filter(|_| phases.iter().any(Phase::has_critic));
    let run = Run {
        policy: (policy, sizes(policy, settings.update)),
        waiting: [reward.as_ref().map(|(_, judge)| judge.read_only()), critic.map(|(_, critic)| answers::waiting(critic))],
        reward,
        data,
        settings,
    };
    let of_phase = |(index, phase)| {
        let cold = cold_steps(phases, index, settings.ppo.cold_start);
        run.phase(phase, &holdings(phases, index, settings.keep_start), cold)
    };
    phases.iter().enumerate().map(of_phase).collect()
}

/// What all phases have in common.
struct Run<'a> {
    policy: (&'a LlamaConfig, Sizes<'a>),
    /// The judge, and of PPO the critic.
    reward: Option<(&'a LlamaConfig, Sizes<'a>)>,
    /// Bytes of each while neither is at work.
    waiting: [Option<usize>; 2],
    data: &'a Data,
    settings: &'a Settings,
}

/// What one step needs.
struct Needs {
    updates: usize,
    sequences: usize,
    tokens: usize,
    flops: f64,
    peak: Memory,
    host: usize,
}

impl Run<'_> {
    /// So many first steps of PPO are cold: they train the critic alone.
    fn phase(&self, phase: &Phase, holdings: &Holdings, cold: usize) -> Result<PhaseBudget, Error> {
        let agenda = Agenda::new(phase, self.data, self.settings)?;
        let references = Pass::one(self.data.side(Side::Preference).0, &agenda.to_score(self.data), self.settings);
        let mut budget = PhaseBudget {
            phase: phase.name.clone(),
            steps: agenda.items.len(),
            updates: 0,
            sequences: 0,
            tokens: 0,
            reference_tokens: references.tokens,
            flops: work::forward_flops(self.policy.0, &references),
            peak: Memory { critics: self.waiting(), ..self.policy.1.resting(holdings) },
            host: 0,
        };
        let rounds = rounds(self.settings.update, agenda.optimizer.clip);
        for (step, item) in agenda.items.iter().enumerate() {
            let rounds = if item.aim == Aim::Ppo && step < cold { 0.0 } else { rounds };
            let of_item = if item.aim.rolls_out() { Self::rolled_out } else { Self::step };
            budget.add(of_item(self, item, phase, holdings, rounds)?);
        }
        Ok(budget)
    }

    fn waiting(&self) -> usize {
        self.waiting.iter().flatten().sum()
    }

    fn step(&self, item: &Item, phase: &Phase, holdings: &Holdings, rounds: f64) -> Result<Needs, Error> {
        let (config, sizes) = &self.policy;
        let passes = Pass::of_step(self.data.side(item.aim.side()).0, &item.examples, self.settings);
        fits_a_pass(passes.len(), self.settings, phase)?;
        let of_pass = |(place, pass)| {
            let around = [place, passes.len() - 1 - place];
            Memory { critics: self.waiting(), ..sizes.peak(holdings, pass, around) }
        };
        Ok(Needs {
            updates: 1,
            sequences: passes.iter().map(|pass| pass.sequences).sum(),
            tokens: passes.iter().map(|pass| pass.tokens).sum(),
            flops: rounds * passes.iter().map(|pass| flops(config, self.settings.engine, pass)).sum::<f64>(),
            peak: passes.iter().enumerate().map(of_pass).fold(Memory::default(), Memory::larger),
            host: passes.iter().map(|pass| sizes.elsewhere(holdings, pass)).max().unwrap_or(0),
        })
    }

    /// A step on answers; without a round the policy is not trained.
    fn rolled_out(&self, item: &Item, phase: &Phase, holdings: &Holdings, rounds: f64) -> Result<Needs, Error> {
        let ((config, sizes), Some((reward, judge))) = (&self.policy, &self.reward) else {
            let problem = "and nobody says which reward model judges them".into();
            return Err(Error::Critics { phase: phase.name.clone(), problem });
        };
        let (models, sizes) = ((*config, *reward), (sizes, judge));
        let by_ppo = item.aim == Aim::Ppo;
        let answers = if by_ppo { Answers::of_ppo } else { Answers::of_raft };
        let answers = answers(self.data, &item.examples, self.settings);
        fits_a_pass(answers.update_passes(), self.settings, phase)?;
        let trained = if rounds > 0.0 { 2 } else { 1 };
        let (updates, flops, peak) = match by_ppo {
            true => (
                trained * self.settings.ppo.updates(item.examples.len()),
                answers.flops_of_ppo(models, rounds, self.settings),
                answers.peak_of_ppo(sizes, holdings),
            ),
            false => (1, answers.flops_of_raft(models, rounds, self.settings), answers.peak_of_raft(sizes, holdings)),
        };
        let host = answers.host(sizes.0, by_ppo.then_some(sizes.1), holdings);
        let Pass { sequences, tokens, .. } = answers.trained;
        Ok(Needs { updates, sequences, tokens, flops, peak, host })
    }
}

impl PhaseBudget {
    fn add(&mut self, step: Needs) {
        self.updates += step.updates;
        self.sequences += step.sequences;
        self.tokens += step.tokens;
        self.flops += step.flops;
        self.peak = self.peak.larger(step.peak);
        self.host = self.host.max(step.host);
    }
}

/// Whether an optimizer step is one pass where it has to be.
fn fits_a_pass(passes: usize, settings: &Settings, phase: &Phase) -> Result<(), Error> {
    match settings.update == UpdateTiming::InBackward && passes > 1 {
        true => Err(Error::SeveralPasses { phase: phase.name.clone(), passes }),
        false => Ok(()),
    }
}

/// How often a step goes forward and backward: clipping within the backward pass measures first.
fn rounds(update: UpdateTiming, clip: f64) -> f64 {
    if update == UpdateTiming::InBackward && clip.is_finite() { 2.0 } else { 1.0 }
}

/// What a phase keeps for consolidation.
fn holdings(phases: &[Phase], index: usize, keep_start: KeepStart) -> Holdings {
    let phase = &phases[index];
    let by_fisher = |phase: &Phase| matches!(phase.protection, Protection::Consolidate(c) if c.rule == Rule::Fisher);
    let follows = |side: Side| phases[..index].iter().any(|earlier| earlier.side() == side);
    let measures = phases[index + 1..].iter().any(by_fisher);
    let held = matches!(phase.protection, Protection::Consolidate(_)) && follows(phase.side().other());
    let measured = [Side::Instruction, Side::Preference].into_iter().filter(|side| follows(*side)).count();
    let uses = by_fisher(phase) && held;
    Holdings {
        anchor: held,
        start: !held && keep_start == KeepStart::Copy,
        fisher: if measures || uses { measured + usize::from(measures) + usize::from(uses) } else { 0 },
    }
}

impl Engine {
    /// How often the layers and the head are computed forward in a step.
    fn forwards(self) -> f64 {
        match self {
            Self::Autodiff | Self::Whole => 1.0,
            Self::Segmented => 2.0,
        }
    }
}
