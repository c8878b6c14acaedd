//! The schedule as data: a list of phases. Methods and ablations are different lists, not branches in the trainer.

use serde::{Deserialize, Serialize};

use crate::consolidation::{Consolidation, Side};
use crate::error::Error;
use crate::optimizer::{AdamWSettings, Decay, LearningRate};
use crate::random::{permutation, stream};

/// A training method: how the two objectives share the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Supervised fine-tuning alone, on all demonstrations.
    Sft,
    /// Training on preferences alone, on all of them.
    PreferenceOnly,
    /// All of SFT, then all of DPO, or of what else trains on preferences.
    TwoStage,
    /// The same the other way round.
    TwoStageReversed,
    /// Alternating over N subsets, nothing protected.
    Alternating,
    /// Two stages, the second held by the penalty (N = 1 with consolidation).
    AnchorOnly,
    /// Hybrid alignment training: alternating over N subsets, each phase held by what the other objective changed.
    Hbat,
    /// Alternating over N subsets; the units that changed most under the other objective are frozen instead of held.
    HbatFreeze,
    /// Each step trains one objective, drawn at random; one optimizer throughout.
    Mix,
    /// No alignment yet: a reward model, on all preferences. Its policy must have a value head.
    RewardModel,
}

impl Method {
    /// Every method, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Sft,
        Self::PreferenceOnly,
        Self::TwoStage,
        Self::TwoStageReversed,
        Self::Alternating,
        Self::AnchorOnly,
        Self::Hbat,
        Self::HbatFreeze,
        Self::Mix,
        Self::RewardModel,
    ];

    /// What its steps minimise.
    pub fn aims(self, preference: Preference) -> Vec<Aim> {
        match self {
            Self::Sft => vec![Aim::Sft],
            Self::RewardModel => vec![Aim::Reward],
            Self::PreferenceOnly => vec![preference.aim()],
            Self::Mix => vec![Aim::Sft, Aim::Dpo],
            _ => vec![Aim::Sft, preference.aim()],
        }
    }
}

/// How the methods that train both objectives train on preferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preference {
    /// On the pairs themselves, against the policy of the phase's start.
    #[default]
    Dpo,
    /// On the policy's own answers to the pairs' prompts, as a reward model judges them.
    Ppo,
    /// On the pairs themselves, by their likelihoods alone.
    Rrhf,
    /// On the best of a few of the policy's own answers to each of the pairs' prompts, as a reward model judges them.
    Raft,
}

impl Preference {
    /// What its steps minimise.
    pub fn aim(self) -> Aim {
        match self {
            Self::Dpo => Aim::Dpo,
            Self::Ppo => Aim::Ppo,
            Self::Rrhf => Aim::Rrhf,
            Self::Raft => Aim::Raft,
        }
    }
}

/// The steps from 0 to the peak rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// At most this many steps,
    pub steps: usize,
    /// and at most this part of the phase.
    pub fraction: f64,
}

/// What a step minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// [`Sft`](crate::objective::Sft), on demonstrations.
    Sft,
    /// [`Dpo`](crate::objective::Dpo), on preferences.
    Dpo,
    /// [`ClippedSurrogate`](crate::objective::ClippedSurrogate), on answers to the prompts of preferences. A step is as many optimizer
    /// steps as [`Ppo`](crate::ppo::Ppo) makes of one batch of answers.
    Ppo,
    /// [`Rrhf`](crate::objective::Rrhf), on preferences.
    Rrhf,
    /// [`Sft`](crate::objective::Sft), on the best of the answers that [`Raft`](crate::rollout::Raft) draws to the prompts of preferences.
    Raft,
    /// [`Reward`](crate::objective::Reward), on preferences.
    Reward,
}

impl Aim {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Sft, Self::Dpo, Self::Ppo, Self::Rrhf, Self::Raft, Self::Reward];

    /// Sequences of an example.
    pub fn sequences(self) -> usize {
        match self {
            Self::Sft | Self::Ppo | Self::Raft => 1,
            Self::Dpo | Self::Rrhf | Self::Reward => 2,
        }
    }

    /// The side whose data it is trained on.
    pub fn side(self) -> Side {
        match self {
            Self::Sft => Side::Instruction,
            Self::Dpo | Self::Ppo | Self::Rrhf | Self::Raft | Self::Reward => Side::Preference,
        }
    }

    /// Whether it trains on the policy's own answers, which a reward model judges.
    pub fn rolls_out(self) -> bool {
        matches!(self, Self::Ppo | Self::Raft)
    }

    /// The name that phases begin with, and a run file's section has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
            Self::Ppo => "ppo",
            Self::Rrhf => "rrhf",
            Self::Raft => "raft",
            Self::Reward => "reward",
        }
    }
}

/// How one objective is trained, in every one of its phases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// What the rate does after the warm-up.
    pub decay: Decay,
    /// The warm-up.
    pub warmup: Warmup,
    /// Examples per optimizer step.
    pub batch_size: usize,
    /// Passes over the phase's subset.
    pub epochs: usize,
    /// AdamW's constants.
    pub optimizer: AdamWSettings,
}

/// Whether examples are permuted, for splits and epochs alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A new permutation per seed, phase and epoch.
    Shuffled,
    /// The order of the files.
    AsGiven,
}

/// What a schedule is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSettings {
    /// The method.
    pub method: Method,
    /// N, for the methods that alternate.
    pub subsets: usize,
    /// Training on demonstrations.
    pub sft: Training,
    /// How the methods train on preferences. [`Method::Mix`] does so by DPO, and [`Method::RewardModel`] has an objective of its own.
    pub preference: Preference,
    /// Training on preferences, by whichever way; of a reward model, too. Where the policy answers, `batch_size` counts prompts, and a step is
    /// all that is made of their answers.
    pub preference_training: Training,
    /// The penalty of the methods that consolidate.
    pub consolidation: Consolidation,
    /// The part of the units that [`Method::HbatFreeze`] freezes; 0.2 in the paper.
    pub freeze_fraction: f64,
    /// The probability ρ of a preference step in [`Method::Mix`]; `None`: the preferences' share of all steps.
    pub preference_probability: Option<f64>,
}

/// What a phase trains.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// One objective on one subset.
    One {
        /// The objective.
        aim: Aim,
        /// Its training.
        training: Training,
        /// Which subset, from 0.
        subset: usize,
        /// Of how many.
        subsets: usize,
    },
    /// Both objectives, one per step, drawn at random.
    Mixed {
        /// Training on demonstrations; its optimizer constants hold for both.
        sft: Training,
        /// Training on preferences.
        dpo: Training,
        /// The probability ρ of a preference step.
        preference_probability: Option<f64>,
    },
}

/// How a phase keeps what the other objective learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Protection {
    /// Not at all.
    None,
    /// By a pull towards the phase's start. Without effect as long as the other side has finished no phase.
    Consolidate(Consolidation),
    /// By freezing this part of the units.
    Freeze {
        /// Between 0 and 1.
        fraction: f64,
    },
}

/// One phase of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Unique in the schedule: "sft-1", then "dpo-1" (or "rrhf-1", "ppo-1", "raft-1"), …, "reward-1" or "mix".
    pub name: String,
    /// What it trains.
    pub work: Work,
    /// What it protects.
    pub protection: Protection,
}

impl Phase {
    /// The side whose data the phase is entered under in the ledger; a mixed phase counts as preference training.
    pub fn side(&self) -> Side {
        match self.work {
            Work::One { aim, .. } => aim.side(),
            Work::Mixed { .. } => Side::Preference,
        }
    }

    /// Whether it trains on the policy's own answers.
    pub fn rolls_out(&self) -> bool {
        matches!(self.work, Work::One { aim, .. } if aim.rolls_out())
    }

    /// Whether it trains a critic, too.
    pub fn has_critic(&self) -> bool {
        matches!(self.work, Work::One { aim: Aim::Ppo, .. })
    }
}

/// Steps at the beginning of a phase that train the critic alone: so many of the first phase that has one.
pub(crate) fn cold_steps(phases: &[Phase], index: usize, cold_start: usize) -> usize {
    if phases[..index].iter().any(Phase::has_critic) { 0 } else { cold_start }
}

/// The phases of a method, in order (paper, Algorithm 1, for [`Method::Hbat`]).
pub fn phases(settings: &ScheduleSettings) -> Vec<Phase> {
    let consolidate = Protection::Consolidate(settings.consolidation);
    let freeze = Protection::Freeze { fraction: settings.freeze_fraction };
    let rounds = |order: &[Aim], n: usize, protection| rounds(settings, order, n, protection);
    let (preference, n) = (settings.preference.aim(), settings.subsets);
    let alternating = [Aim::Sft, preference];
    match settings.method {
        Method::Sft => rounds(&[Aim::Sft], 1, Protection::None),
        Method::PreferenceOnly => rounds(&[preference], 1, Protection::None),
        Method::TwoStage => rounds(&alternating, 1, Protection::None),
        Method::TwoStageReversed => rounds(&[preference, Aim::Sft], 1, Protection::None),
        Method::Alternating => rounds(&alternating, n, Protection::None),
        Method::AnchorOnly => rounds(&alternating, 1, consolidate),
        Method::Hbat => rounds(&alternating, n, consolidate),
        Method::HbatFreeze => rounds(&alternating, n, freeze),
        Method::RewardModel => rounds(&[Aim::Reward], 1, Protection::None),
        Method::Mix => {
            let ScheduleSettings { sft, preference_training: dpo, preference_probability, .. } = *settings;
            let work = Work::Mixed { sft, dpo, preference_probability };
            vec![Phase { name: "mix".into(), work, protection: Protection::None }]
        }
    }
}

fn rounds(settings: &ScheduleSettings, order: &[Aim], subsets: usize, protection: Protection) -> Vec<Phase> {
    let phase = |subset: usize, aim: Aim| {
        let training = if aim == Aim::Sft { settings.sft } else { settings.preference_training };
        let work = Work::One { aim, training, subset, subsets };
        Phase { name: format!("{}-{}", aim.name(), subset + 1), work, protection }
    };
    (0..subsets).flat_map(|subset| order.iter().map(move |&aim| phase(subset, aim))).collect()
}

impl Training {
    /// Optimizer steps on this many examples: epochs · ceil(n / batch).
    ///
    /// # Panics
    /// If batches have no examples.
    pub fn steps(&self, examples: usize) -> usize {
        self.epochs * examples.div_ceil(self.batch_size)
    }

    /// The learning rate over this many steps.
    pub fn rate(&self, steps: usize) -> LearningRate {
        // 0.29 · 100 is 28.999… in floating point.
        let warmup = self.warmup.steps.min((self.warmup.fraction * steps as f64 + 1e-9) as usize);
        LearningRate { peak: self.learning_rate, decay: self.decay, warmup, steps }
    }
}

/// One subset of 0..`examples`: a seeded permutation cut into contiguous chunks, the first `examples mod subsets` of them
/// one longer.
///
/// # Errors
/// If a subset would be empty.
///
/// # Panics
/// If there are no subsets, or none of this number.
pub fn subset(
    examples: usize,
    which: usize,
    of: usize,
    kind: &'static str,
    order: Order,
    seed: u64,
) -> Result<Vec<usize>, Error> {
    if examples < of {
        return Err(Error::TooFewExamples { kind, examples, subsets: of });
    }
    let all = match order {
        Order::Shuffled => permutation(examples, &mut stream(seed, kind, &[])),
        Order::AsGiven => (0..examples).collect(),
    };
    let (size, longer) = (examples / of, examples % of);
    let start = which * size + which.min(longer);
    let end = start + size + usize::from(which < longer);
    Ok(all[start..end].to_vec())
}

/// The batches of one epoch over a subset: a new order per (seed, phase, epoch), a short last batch kept.
///
/// # Panics
/// If batches have no examples.
pub fn batches(subset: &[usize], batch_size: usize, phase: &str, epoch: usize, order: Order, seed: u64) -> Vec<Vec<usize>> {
    let sequence: Vec<usize> = match order {
        Order::AsGiven => subset.to_vec(),
        Order::Shuffled => {
            let mut rng = stream(seed, &format!("epoch {phase}"), &[epoch as u64]);
            permutation(subset.len(), &mut rng).into_iter().map(|i| subset[i]).collect()
        }
    };
    sequence.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(method: Method, subsets: usize) -> ScheduleSettings {
        let training = Training {
            learning_rate: 1e-3,
            decay: Decay::Cosine,
            warmup: Warmup { steps: 150, fraction: 0.1 },
            batch_size: 4,
            epochs: 2,
            optimizer: AdamWSettings::default(),
        };
        let consolidation = Consolidation::default();
        ScheduleSettings {
            method,
            subsets,
            sft: training,
            preference: Preference::Dpo,
            preference_training: training,
            consolidation,
            freeze_fraction: 0.2,
            preference_probability: None,
        }
    }

    fn names(method: Method, subsets: usize) -> String {
        phases(&settings(method, subsets)).iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_method_is_a_list_of_phases() {
        assert_eq!(names(Method::Sft, 3), "sft-1");
        assert_eq!(names(Method::PreferenceOnly, 3), "dpo-1");
        assert_eq!(names(Method::TwoStage, 3), "sft-1 dpo-1");
        assert_eq!(names(Method::TwoStageReversed, 3), "dpo-1 sft-1");
        assert_eq!(names(Method::Hbat, 2), "sft-1 dpo-1 sft-2 dpo-2");
        assert_eq!(names(Method::Mix, 2), "mix");
        assert_eq!(names(Method::RewardModel, 2), "reward-1");
        let by_ppo = ScheduleSettings { preference: Preference::Ppo, ..settings(Method::TwoStageReversed, 2) };
        assert_eq!(phases(&by_ppo).iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["ppo-1", "sft-1"]);
        assert_eq!(phases(&settings(Method::Hbat, 1)).len(), phases(&settings(Method::AnchorOnly, 9)).len());
    }

    #[test]
    fn subsets_are_a_partition_with_the_longer_ones_first() {
        for order in [Order::Shuffled, Order::AsGiven] {
            for (examples, of) in [(10, 3), (7, 7), (64, 2), (5, 1)] {
                let parts: Vec<_> = (0..of).map(|n| subset(examples, n, of, "demonstrations", order, 3).unwrap()).collect();
                let sizes: Vec<_> = parts.iter().map(Vec::len).collect();
                assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] - sizes[of - 1] <= 1);
                let mut all = parts.concat();
                all.sort_unstable();
                assert_eq!(all, (0..examples).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn more_subsets_than_examples_are_refused() {
        let error = subset(3, 0, 4, "preferences", Order::AsGiven, 0).unwrap_err();
        assert!(error.to_string().contains("3 preferences cannot be split into 4 subsets"));
    }

    #[test]
    fn every_epoch_visits_everything_in_its_own_order() {
        let subset: Vec<usize> = (10..20).collect();
        let epoch = |n| batches(&subset, 4, "sft-1", n, Order::Shuffled, 5);
        assert_eq!(epoch(0).iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        assert_ne!(epoch(0), epoch(1));
        assert_ne!(epoch(0), batches(&subset, 4, "dpo-1", 0, Order::Shuffled, 5), "nor do phases share one");
        let mut all = epoch(1).concat();
        all.sort_unstable();
        assert_eq!(all, subset);
        assert_eq!(batches(&subset, 4, "sft-1", 1, Order::AsGiven, 5).concat(), subset);
    }

    #[test]
    fn the_warm_up_is_bounded_by_steps_and_by_the_phase() {
        let training = settings(Method::Sft, 1).sft;
        assert_eq!(training.steps(10), 6);
        assert_eq!(training.rate(100).warmup, 10);
        assert_eq!(training.rate(10_000).warmup, 150);
        let training = Training { warmup: Warmup { steps: 150, fraction: 0.29 }, ..training };
        assert_eq!(training.rate(100).warmup, 29);
    }
}
