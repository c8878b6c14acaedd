//! What a schedule needs, known before its first step: memory at its peak, steps, tokens, arithmetic.
//!
//! The batches of every step follow from the seed, so nothing here is a guess about sequence lengths. Bytes are counted
//! from what the engines hold at the moments at which they hold most; the allocator's own share and the program's code
//! come on top.

mod memory;
mod ppo;
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
use crate::schedule::{Aim, Phase, Protection};
use crate::trainer::{Data, KeepStart, Settings, UpdateTiming, agenda::Agenda};
use memory::{Holdings, Sizes};
use ppo::Answers;

/// What one phase needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseBudget {
    /// The phase's name, such as "sft-1".
    pub phase: String,
    /// Steps, of the optimizer or of PPO.
    pub steps: usize,
    /// Optimizer steps; of PPO those of policy and critic.
    pub updates: usize,
    /// Sequences that go forward and backward, all steps together; of PPO the answers, each once.
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
    /// The judge and the critic of PPO, if there are any.
    pub reward: Option<&'a LlamaConfig>,
}

impl<'a> From<&'a LlamaConfig> for Configs<'a> {
    fn from(policy: &'a LlamaConfig) -> Self {
        Self { policy, reward: None }
    }
}

/// What the phases need where numbers are laid out so. Of PPO, whose answers are as long as they become, it is the most.
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
    let Configs { policy: config, reward } = configs.into();
    let sizes = Sizes::new(config, layout, (settings.engine, settings.update));
    // The critic's gradients are all there before it is updated.
    let critics = reward.map(|reward| (reward, Sizes::new(reward, layout, (settings.engine, UpdateTiming::AfterBackward))));
    let waiting = critics.as_ref().map_or(0, |(_, critic)| ppo::waiting(critic));
    let of_phase = |(index, phase): (usize, &Phase)| {
        let agenda = Agenda::new(phase, data, settings)?;
        let holdings = holdings(phases, index, settings.keep_start);
        let (mut peak, mut host) = (Memory { critics: waiting, ..sizes.resting(&holdings) }, 0);
        let (mut sequences, mut tokens, mut flops, mut updates) = (0, 0, 0.0, 0);
        for item in &agenda.items {
            if item.aim == Aim::Ppo {
                let Some((reward, critic)) = &critics else {
                    let problem = "and nobody says which reward model judges its answers".into();
                    return Err(Error::Critics { phase: phase.name.clone(), problem });
                };
                let answers = Answers::new(data, &item.examples, settings);
                fits_a_pass(answers.updates_passes(), settings, phase)?;
                updates += 2 * settings.ppo.updates(item.examples.len());
                (sequences, tokens) = (sequences + answers.together.sequences, tokens + answers.together.tokens);
                let rounds = rounds(settings.update, agenda.optimizer.clip);
                flops += answers.flops((config, reward), rounds, settings);
                peak = peak.larger(answers.peak((&sizes, critic), &holdings));
                host = host.max(answers.host((&sizes, critic), &holdings));
                continue;
            }
            let passes = Pass::of_step(data.side(item.aim.side()).0, &item.examples, settings);
            fits_a_pass(passes.len(), settings, phase)?;
            updates += 1;
            sequences += passes.iter().map(|pass| pass.sequences).sum::<usize>();
            tokens += passes.iter().map(|pass| pass.tokens).sum::<usize>();
            let rounds = rounds(settings.update, agenda.optimizer.clip);
            flops += rounds * passes.iter().map(|pass| work::flops(config, settings.engine, pass)).sum::<f64>();
            let of_pass =
                |(place, pass)| Memory { critics: waiting, ..sizes.peak(&holdings, pass, [place, passes.len() - 1 - place]) };
            peak = passes.iter().enumerate().map(of_pass).fold(peak, Memory::larger);
            host = passes.iter().map(|pass| sizes.elsewhere(&holdings, pass)).fold(host, usize::max);
        }
        let references = Pass::one(data.side(Side::Preference).0, &agenda.to_score(data), settings);
        flops += work::forward_flops(config, &references);
        let (phase, steps) = (phase.name.clone(), agenda.items.len());
        let reference_tokens = references.tokens;
        Ok(PhaseBudget { phase, steps, updates, sequences, tokens, reference_tokens, flops, peak, host })
    };
    phases.iter().enumerate().map(of_phase).collect()
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
