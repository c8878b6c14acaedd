//! The trainer: a stepper over a schedule.
//!
//! It has no callbacks, no clock and no output. Whoever drives it awaits [`Trainer::step`] and does what the [`Event`]
//! asks for: a command line loops, a browser calls once per frame. Between any two calls its state can be saved.

pub(crate) mod agenda;
mod answers;
mod event;
mod ppo;
mod protection;
mod raft;
mod state;
mod term;
mod train;

pub use event::{Event, ImportanceReport, PhaseEnded, PhaseStarted, StepReport};
pub use state::{PpoProgress, Progress, ReadTensor, RunningProgress, TensorSet};
pub use term::{Term, TermReport, accumulate};

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::compute::{Memory, Offload};
use crate::consolidation::{Ledger, Record, Side};
use crate::engine::{Engine, Square};
use crate::error::{Aftermath, Error};
use crate::evaluate::sequence_scores;
use crate::model::{Policy, Unit};
use crate::objective::{Dpo, Reward, Rrhf};
use crate::optimizer::{AdamW, Pull};
use crate::ppo::{Critics, Ppo};
use crate::reduce::{Alone, Reduce};
use crate::rollout::Raft;
use crate::schedule::{Order, Phase};
use crate::slab::Slab;
use crate::tokens::{Batch, Group};
use agenda::{Agenda, first_pass};
use answers::Answers;
use ppo::PpoPhase;
use protection::Protected;

/// The examples of both sides.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// One sequence per group.
    pub demonstrations: Vec<Group>,
    /// Two sequences per group, the chosen one first. Phases on answers read the first one's prompt alone, and need no second.
    pub preferences: Vec<Group>,
}

impl Data {
    pub(crate) fn side(&self, side: Side) -> (&[Group], &'static str) {
        match side {
            Side::Instruction => (&self.demonstrations, "demonstrations"),
            Side::Preference => (&self.preferences, "preferences"),
        }
    }
}

/// Where the weights of a phase's start are kept when no anchor keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepStart {
    /// In memory: for small models.
    Copy,
    /// Elsewhere: the driver hands a reader to [`Trainer::start_is_stored`] when the phase starts.
    Stored,
}

/// When weights are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateTiming {
    /// Once all gradients of a step are there.
    #[default]
    AfterBackward,
    /// Each unit as soon as its gradient is there, so that no more than a layer's gradients exist at once. A step must then be
    /// a single pass, and goes forward and backward twice if gradients are clipped: the norm comes first.
    InBackward,
}

/// Reads the weights of a phase's start, unit by unit; PPO does so twice where it was resumed.
pub trait StoredWeights: Send {
    /// The unit's values in the layout of [`Unit::dims`].
    ///
    /// # Errors
    /// A reason in words.
    fn read(&mut self, unit: &Unit) -> Result<Vec<f32>, String>;
}

/// What holds for the whole run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// All randomness comes from here.
    pub seed: u64,
    /// Whether examples are permuted.
    pub order: Order,
    /// How gradients come about.
    pub engine: Engine,
    /// Sequences per forward pass: what fits in memory. Changes no result beyond rounding.
    pub micro_batch: usize,
    /// Sequence lengths are padded to a multiple of this.
    pub bucket: usize,
    /// Rows of so many tokens hold several sequences each, and a forward pass `micro_batch` rows: few shapes, little padding.
    /// `None`: a row for every sequence.
    pub pack: Option<usize>,
    /// The objective of pairs, against the phase's start.
    pub dpo: Dpo,
    /// PPO, on the prompts of the preferences.
    pub ppo: Ppo,
    /// The objective of pairs, by their likelihoods.
    pub rrhf: Rrhf,
    /// RAFT, on the prompts of the preferences.
    pub raft: Raft,
    /// The objective of reward models.
    pub reward: Reward,
    /// Where the weights of a phase's start are kept.
    pub keep_start: KeepStart,
    /// When weights are updated.
    pub update: UpdateTiming,
}

impl Settings {
    /// Lays groups out for one forward pass.
    pub(crate) fn batch<'a>(&self, groups: impl IntoIterator<Item = &'a Group>) -> Batch {
        match self.pack {
            Some(width) => Batch::packed(groups, width),
            None => Batch::new(groups, self.bucket),
        }
    }
}

enum Start {
    /// The phase's anchor is its start.
    Anchor,
    Copy(Vec<Slab>),
    Stored(Option<Box<dyn StoredWeights>>),
}

/// A phase under way.
struct Running {
    agenda: Agenda,
    optimizer: AdamW,
    pull: Option<Pull>,
    frozen: Vec<bool>,
    start: Start,
    /// Σ log π_ref per sequence, by preference.
    references: BTreeMap<usize, Vec<f32>>,
    unscored: Vec<usize>,
    done: usize,
    answers: Answers,
    ppo: Option<PpoPhase>,
    fisher: Option<Fisher>,
}

/// Fisher information being measured at the end of a phase.
struct Fisher {
    sums: Square,
    examples: Vec<usize>,
    done: usize,
}

/// What is trained.
#[derive(Debug, Clone)]
pub struct Models {
    policy: Policy,
    critics: Option<Critics>,
}

/// Enough for every phase but those that train on answers.
impl From<Policy> for Models {
    fn from(policy: Policy) -> Self {
        Self { policy, critics: None }
    }
}

/// Those need critics.
impl From<(Policy, Option<Critics>)> for Models {
    fn from((policy, critics): (Policy, Option<Critics>)) -> Self {
        Self { policy, critics }
    }
}

/// Trains a policy through a schedule.
pub struct Trainer<R: Reduce = Alone> {
    policy: Policy,
    critics: Option<Critics>,
    data: Data,
    phases: Vec<Phase>,
    settings: Settings,
    reduce: R,
    ledger: Ledger,
    fisher: BTreeMap<Side, Vec<Slab>>,
    position: usize,
    current: Option<Running>,
}

impl Trainer<Alone> {
    /// A trainer on a single rank, at the start of its schedule.
    pub fn new(models: impl Into<Models>, data: Data, phases: Vec<Phase>, settings: Settings) -> Self {
        Self::with_reduce(models, data, phases, settings, Alone)
    }
}

impl<R: Reduce> Trainer<R> {
    /// A trainer that is one rank of several. All ranks get the same arguments.
    pub fn with_reduce(models: impl Into<Models>, data: Data, phases: Vec<Phase>, settings: Settings, reduce: R) -> Self {
        let Models { policy, critics } = models.into();
        let (ledger, fisher) = (Ledger::default(), BTreeMap::new());
        Self { policy, critics, data, phases, settings, reduce, ledger, fisher, position: 0, current: None }
    }

    /// The policy as it is now.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who judges answers, where somebody does.
    pub fn critics(&self) -> Option<&Critics> {
        self.critics.as_ref()
    }

    /// Lets the next phase go on from other weights, such as the best so far instead of the last.
    ///
    /// # Panics
    /// Within a phase: its anchor and moments belong to its own weights.
    pub fn continue_from(&mut self, policy: Policy) {
        assert!(self.current.is_none(), "weights can only be replaced between phases");
        self.policy = policy;
    }

    /// Says how far the last phase moved each unit up to the weights that are gone on from, for the importances of phases to come; `None`: these are
    /// the weights of its start, and it counts for nothing. Fisher information is not corrected: what the phase measured at its end stays.
    ///
    /// # Panics
    /// Unless a phase is over, and there is a number per unit.
    pub fn correct_change(&mut self, change: Option<Vec<f64>>) {
        let change = change.unwrap_or_default();
        assert!([0, self.policy.units().len()].contains(&change.len()), "a number per unit");
        let last = self.position.checked_sub(1).expect("a phase is over");
        let phase = &self.phases[last];
        self.ledger.enter(Record { phase: phase.name.clone(), side: phase.side(), change });
    }

    /// The schedule.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The changes of all finished phases.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Steps of each phase, of the optimizer or of PPO.
    ///
    /// # Errors
    /// If a data set is too small for the schedule.
    pub fn planned_steps(&self) -> Result<Vec<usize>, Error> {
        self.phases.iter().map(|phase| Ok(Agenda::new(phase, &self.data, &self.settings)?.items.len())).collect()
    }

    /// The examples.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The preferences of the phase under way that have no reference log-probabilities yet, by their place in the data, as they will be scored:
    /// the longest first.
    pub fn unscored(&self) -> &[usize] {
        self.current.as_ref().map_or(&[], |running| &running.unscored)
    }

    /// The reference log-probabilities of the phase under way, as far as they are known: Σ log π_ref per sequence, by preference.
    pub fn references(&self) -> Option<&BTreeMap<usize, Vec<f32>>> {
        self.current.as_ref().map(|running| &running.references)
    }

    /// Spares the scoring of preferences that were scored before, with the same weights.
    ///
    /// # Errors
    /// If the phase under way is not about to score just these, two sequences each.
    pub fn know_references(&mut self, known: BTreeMap<usize, Vec<f32>>) -> Result<(), Error> {
        let unscored = self.unscored();
        let these = unscored.len() == known.len() && unscored.iter().all(|example| known.contains_key(example));
        let fits = these && known.values().all(|sums| sums.len() == 2);
        match &mut self.current {
            Some(running) if fits => {
                running.unscored.clear();
                running.references.extend(known);
                Ok(())
            }
            _ => Err(Error::ForeignState("these are not the references that the phase needs".into())),
        }
    }

    /// Hands over a reader of the current phase's start; see [`KeepStart::Stored`].
    pub fn start_is_stored(&mut self, weights: Box<dyn StoredWeights>) {
        if let Some(Running { start: start @ Start::Stored(_), .. }) = &mut self.current {
            *start = Start::Stored(Some(weights));
        }
    }

    /// Does the next piece of work, the largest of which is one optimizer step, or all that is made of a batch of answers.
    ///
    /// # Errors
    /// See [`Error`]; what [`Error::NotFinite`] leaves of the weights, its [`Aftermath`] tells.
    pub async fn step(&mut self) -> Result<Event, Error> {
        let Some(running) = &self.current else {
            return match self.phases.get(self.position) {
                Some(_) => self.open().await,
                None => Ok(Event::Finished),
            };
        };
        if !running.unscored.is_empty() {
            self.score().await
        } else if running.done < running.agenda.items.len() {
            if self.lacks_answers() { self.answer().await } else { self.train().await.map(Event::Step) }
        } else if self.needs_fisher() && running.fisher.as_ref().is_none_or(|f| f.done < f.examples.len()) {
            self.measure().await
        } else {
            self.close().await.map(Event::PhaseEnded)
        }
    }

    async fn open(&mut self) -> Result<Event, Error> {
        let phase = self.phases[self.position].clone();
        self.check_tokens()?;
        let protected = self.protect(&phase).await?;
        let running = self.running(&phase, &protected).await?;
        let started = PhaseStarted {
            phase: phase.name,
            steps: running.agenda.items.len(),
            importance: protected.report,
            frozen: running.frozen.iter().filter(|f| **f).count(),
        };
        self.current = Some(running);
        Ok(Event::PhaseStarted(started))
    }

    /// The model needs an embedding for every token.
    fn check_tokens(&self) -> Result<(), Error> {
        let vocabulary = self.policy.config().vocab_size;
        for side in [Side::Instruction, Side::Preference] {
            let (groups, kind) = self.data.side(side);
            for (example, group) in groups.iter().enumerate() {
                let mut tokens = group.sequences.iter().flat_map(|sequence| sequence.tokens());
                if let Some(&token) = tokens.find(|token| **token as usize >= vocabulary) {
                    return Err(Error::UnknownToken { kind, example, token, vocabulary });
                }
            }
        }
        Ok(())
    }

    /// A phase at its start, with the present weights as anchor and reference.
    async fn running(&self, phase: &Phase, protected: &Protected) -> Result<Running, Error> {
        let agenda = Agenda::new(phase, &self.data, &self.settings)?;
        let (pull, start) = match (&protected.strength, self.settings.keep_start) {
            (Some(strength), _) => {
                let anchor = anchors(&self.policy).await?;
                (Some(Pull { anchor, strength: strength.clone() }), Start::Anchor)
            }
            (None, KeepStart::Copy) => (None, Start::Copy(copies(&self.policy).await?)),
            (None, KeepStart::Stored) => (None, Start::Stored(None)),
        };
        if phase.rolls_out() {
            self.check_critics(phase)?;
        }
        let critic = self.critics.as_ref().and_then(Critics::value).filter(|_| phase.has_critic());
        let ppo = critic.map(|critic| {
            let optimizer = AdamW::new(agenda.optimizer, critic.units().len());
            PpoPhase::new(&self.settings.ppo, optimizer, &self.policy)
        });
        Ok(Running {
            optimizer: AdamW::new(agenda.optimizer, self.policy.units().len()),
            answers: Answers::default(),
            ppo,
            pull,
            frozen: protected.frozen.clone(),
            start,
            references: BTreeMap::new(),
            unscored: agenda.to_score(&self.data),
            done: 0,
            fisher: None,
            agenda,
        })
    }

    /// Scores a few preferences with the policy, which at this point is its own reference.
    async fn score(&mut self) -> Result<Event, Error> {
        let Some(running) = &mut self.current else { unreachable!("step() checked") };
        let most = running.agenda.most(Side::Preference);
        let count = first_pass(&self.data.preferences, &running.unscored, most, &self.settings);
        let examples = running.unscored[..count].to_vec();
        let batch = self.settings.batch(examples.iter().map(|&i| &self.data.preferences[i]));
        let sums = sequence_scores(&self.policy, self.settings.engine, &batch).await?;
        running.unscored.drain(..count);
        running.references.extend(examples.into_iter().zip(sums.chunks(2).map(<[f32]>::to_vec)));
        let done = running.references.len();
        Ok(Event::Scored { done, total: done + running.unscored.len() })
    }

    /// Adds (∂ log p(y|x) / ∂θ)² of one example, one backward pass per sample (spec of the original EWC).
    async fn measure(&mut self) -> Result<Event, Error> {
        let (side, rolls_out) = (self.phases[self.position].side(), self.phases[self.position].rolls_out());
        let Some(running) = &mut self.current else { unreachable!("step() checked") };
        let fisher = running.fisher.get_or_insert_with(|| Fisher {
            sums: Square::new(self.policy.tensors()),
            examples: running.agenda.examples(side),
            done: 0,
        });
        let example = fisher.examples[fisher.done];
        let group = &self.data.side(side).0[example];
        let sample = match rolls_out {
            true => self.sample(example).await?,
            false => Group::demonstration(group.index, group.sequences[0].clone()),
        };
        let Some(Running { fisher: Some(fisher), .. }) = &mut self.current else { unreachable!("just begun") };
        let batch = self.settings.batch([&sample]);
        self.settings.engine.gradients(&self.policy, &batch, |scores| Tensor::ones_like(&scores), &mut fisher.sums);
        fisher.done += 1;
        Ok(Event::Measured { done: fisher.done, total: fisher.examples.len() })
    }

    async fn close(&mut self) -> Result<PhaseEnded, Error> {
        let phase = self.phases[self.position].clone();
        let Some(change) = self.change().await? else { unreachable!("step() checked") };
        let running = self.running_now();
        let (last, done, fisher) = (running.agenda.items.last().cloned(), running.done, running.fisher.take());
        if let (Some(value), Some(item)) = (change.iter().copied().find(|change| !change.is_finite()), last) {
            return Err(self.not_finite(("change of the weights", value), self.named(&item), done, Aftermath::Spoiled));
        }
        if let Some(fisher) = fisher {
            self.add_fisher(phase.side(), fisher).await?;
        }
        self.current = None;
        self.ledger.enter(Record { phase: phase.name.clone(), side: phase.side(), change: change.clone() });
        self.position += 1;
        Ok(PhaseEnded { phase: phase.name, change })
    }

    fn running_now(&mut self) -> &mut Running {
        match &mut self.current {
            Some(running) => running,
            None => unreachable!("only called within a phase"),
        }
    }
}

/// A copy of every unit's weights. On a device tensors are values: an update leaves memory alone that this handle holds, too.
async fn copies(policy: &Policy) -> Result<Vec<Slab>, Error> {
    let mut slabs = Vec::with_capacity(policy.units().len());
    for unit in 0..policy.units().len() {
        slabs.push(match policy.compute().layout.updates() {
            Memory::Host => Slab::Host(policy.values(unit).await?),
            Memory::Device => Slab::Device(policy.exact(unit)),
        });
    }
    Ok(slabs)
}

/// The same, where anchors lie.
async fn anchors(policy: &Policy) -> Result<Vec<Slab>, Error> {
    if policy.compute().layout.offload != Offload::Anchor {
        return copies(policy).await;
    }
    let mut slabs = Vec::with_capacity(policy.units().len());
    for unit in 0..policy.units().len() {
        slabs.push(Slab::lent(policy.exact(unit)).await?);
    }
    Ok(slabs)
}
