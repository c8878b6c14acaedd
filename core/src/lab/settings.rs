//! What can be chosen in the lab, and what it means in the trainer's terms.

use serde::{Deserialize, Serialize};

use super::LabError;
use super::field::check_ranges;
use super::words::ANSWER;
use crate::consolidation::{Consolidation, Rule};
use crate::engine::Engine;
use crate::objective::{Dpo, Reward, Rrhf};
use crate::optimizer::{AdamWSettings, Decay};
use crate::ppo::Ppo;
use crate::rollout::Raft;
use crate::schedule::{Method, Order, Preference, ScheduleSettings, Training, Warmup};
use crate::toy::skill::{Size, SkillSettings};
use crate::trainer::{KeepStart, Settings, UpdateTiming};

/// Examples per optimizer step, of either kind.
pub(super) const BATCH: usize = 16;

/// Passes over a phase's subset.
pub(super) const EPOCHS: usize = 2;

/// Peak learning rate of the judge of answers.
pub(super) const JUDGE_RATE: f64 = 1e-3;

/// Peak learning rate of PPO's critic.
pub(super) const VALUE_RATE: f64 = 3e-3;

/// Held-out demonstrations and preferences that moments are measured on.
pub(super) const HELD_OUT: usize = 48;

/// How likely a rejected answer is right; a chosen one less so, by the conflict.
pub(super) const REJECTED_RIGHT: f64 = 0.9;

/// The importance rules that can be chosen, by name.
pub(super) const RULES: [&str; 4] = ["paper", "reference", "relative", "proportional"];

/// The methods a lane can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaneMethod {
    /// All of SFT, then all of training on preferences.
    TwoStage,
    /// Hybrid alignment training.
    Hbat,
    /// In turns, nothing protected.
    Alternating,
    /// SFT alone, for as many tokens as the others.
    Sft,
    /// One objective at each step, drawn at random.
    Mix,
    /// Two stages, the second held by the penalty.
    AnchorOnly,
    /// Hybrid alignment training that freezes units instead of holding them.
    HbatFreeze,
    /// Hybrid alignment training with random importances.
    HbatRandom,
}

impl LaneMethod {
    /// Every method, in the order in which they are offered.
    pub const ALL: [Self; 8] = [
        Self::TwoStage,
        Self::Hbat,
        Self::Alternating,
        Self::Sft,
        Self::Mix,
        Self::AnchorOnly,
        Self::HbatFreeze,
        Self::HbatRandom,
    ];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoStage => "two-stage",
            Self::Hbat => "hbat",
            Self::Alternating => "alternating",
            Self::Sft => "sft",
            Self::Mix => "mix",
            Self::AnchorOnly => "anchor-only",
            Self::HbatFreeze => "hbat-freeze",
            Self::HbatRandom => "hbat-random",
        }
    }

    /// Its name in words. With a single subset nothing alternates, and HBAT's label says so.
    pub fn label(self, subsets: usize) -> &'static str {
        match self {
            Self::TwoStage => "Two-stage",
            Self::Hbat if subsets == 1 => "Two-stage + anchor",
            Self::Hbat => "HBAT",
            Self::Alternating => "Alternating",
            Self::Sft => "SFT only",
            Self::Mix => "Mixed steps",
            Self::AnchorOnly => "Anchor only",
            Self::HbatFreeze => "HBAT-Freeze",
            Self::HbatRandom => "HBAT-Random",
        }
    }

    /// The schedule's method.
    pub fn method(self) -> Method {
        match self {
            Self::TwoStage => Method::TwoStage,
            Self::Hbat | Self::HbatRandom => Method::Hbat,
            Self::Alternating => Method::Alternating,
            Self::Sft => Method::Sft,
            Self::Mix => Method::Mix,
            Self::AnchorOnly => Method::AnchorOnly,
            Self::HbatFreeze => Method::HbatFreeze,
        }
    }
}

/// The lab's settings. Those not given have their default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabSettings {
    /// Where all randomness comes from: the data, its order, random importances.
    pub seed: u64,
    /// The start model.
    pub model: Size,
    /// A method per lane.
    pub lanes: Vec<LaneMethod>,
    /// N, the subsets that alternating methods cut the data into.
    pub subsets: usize,
    /// F_max, the sum of all importances.
    pub f_max: f64,
    /// λ.
    pub lambda: f64,
    /// How preferences are taught: by their pairs (DPO, RRHF), or by a judge of the model's own answers that learned from them (PPO, RAFT).
    pub preference: Preference,
    /// DPO's β.
    pub beta: f64,
    /// PPO's β.
    pub kl_coefficient: f64,
    /// Peak learning rate on demonstrations.
    pub sft_learning_rate: f64,
    /// Peak learning rate of DPO.
    pub dpo_learning_rate: f64,
    /// Peak learning rate of PPO.
    pub ppo_learning_rate: f64,
    /// Peak learning rate of RRHF.
    pub rrhf_learning_rate: f64,
    /// Peak learning rate of RAFT.
    pub raft_learning_rate: f64,
    /// K, RAFT's answers to each prompt.
    pub raft_answers: usize,
    /// The importance rule.
    pub importance: Rule,
    /// How much less often chosen answers are right than rejected ones.
    pub conflict: f64,
    /// Demonstrations to train on, and as many preferences.
    pub examples: usize,
    /// Steps between moments; every phase also ends with one.
    pub measure_every: usize,
}

impl Default for LabSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            model: Size::Tiny,
            lanes: vec![LaneMethod::TwoStage, LaneMethod::Hbat, LaneMethod::Alternating],
            subsets: 2,
            f_max: 5.0,
            lambda: 1.0,
            preference: Preference::Dpo,
            beta: 0.5,
            kl_coefficient: 0.1,
            sft_learning_rate: 1e-3,
            dpo_learning_rate: 1.5e-3,
            ppo_learning_rate: 1e-3,
            rrhf_learning_rate: 2e-3,
            raft_learning_rate: 1e-3,
            raft_answers: 4,
            importance: Rule::Relative,
            conflict: 0.2,
            examples: 512,
            measure_every: 8,
        }
    }
}

impl LabSettings {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// Names the first that is not, its value and the rule.
    pub fn check(&self) -> Result<(), LabError> {
        check_ranges(self)?;
        let refuse = |field, value: String, rule: String| Err(LabError::Setting { field, value, rule });
        if self.lanes.is_empty() || self.lanes.len() > 4 {
            return refuse("lanes", format!("a list of {}", self.lanes.len()), "a list of 1 to 4 methods".into());
        }
        if matches!(self.importance, Rule::Random | Rule::Fisher) {
            let rule = "paper, reference, relative or proportional; random is the method hbat-random";
            return refuse("importance", format!("{:?}", self.importance).to_lowercase(), rule.into());
        }
        if self.preference != Preference::Dpo && self.lanes.contains(&LaneMethod::Mix) {
            let rule = "methods other than mix, whose preference steps are DPO's, unless `preference` is dpo";
            return refuse("lanes", "a list with mix".into(), rule.into());
        }
        if self.examples < self.subsets {
            return refuse("examples", self.examples.to_string(), format!("at least `subsets`, {}", self.subsets));
        }
        Ok(())
    }

    /// The task's data.
    pub(super) fn skill(&self) -> SkillSettings {
        SkillSettings {
            seed: self.seed,
            demonstrations: self.examples,
            preferences: self.examples,
            validation_demonstrations: HELD_OUT,
            validation_preferences: HELD_OUT,
            chosen_right: self.chosen_right(),
            rejected_right: REJECTED_RIGHT,
            ..SkillSettings::default()
        }
    }

    /// q_w, rounded to what `q_l − conflict` means in decimals, so that a run file can say the same.
    pub(super) fn chosen_right(&self) -> f64 {
        ((REJECTED_RIGHT - self.conflict) * 1e9).round() / 1e9
    }

    /// DPO with this β.
    pub(super) fn dpo(&self) -> Dpo {
        Dpo { beta: self.beta, ..Dpo::default() }
    }

    /// The phases of a method.
    pub(super) fn schedule(&self, method: LaneMethod) -> ScheduleSettings {
        ScheduleSettings {
            method: method.method(),
            subsets: self.subsets,
            sft: Training { epochs: self.sft_epochs(method), ..self.training(self.sft_learning_rate, Decay::Cosine) },
            preference: self.preference,
            preference_training: self.training(self.preference_rate(), Decay::Cosine),
            consolidation: self.consolidation(method),
            freeze_fraction: 0.2,
            preference_probability: None,
        }
    }

    /// The judge's phases.
    pub(super) fn judging(&self) -> ScheduleSettings {
        let preference_training = self.training(JUDGE_RATE, Decay::Cosine);
        ScheduleSettings { method: Method::RewardModel, preference_training, ..self.schedule(LaneMethod::Sft) }
    }

    fn preference_rate(&self) -> f64 {
        match self.preference {
            Preference::Dpo => self.dpo_learning_rate,
            Preference::Rrhf => self.rrhf_learning_rate,
            Preference::Ppo => self.ppo_learning_rate,
            Preference::Raft => self.raft_learning_rate,
        }
    }

    /// Whether a method's answers need a judge.
    pub(super) fn is_judged(&self, method: LaneMethod) -> bool {
        method.method().aims(self.preference).iter().any(|aim| aim.rolls_out())
    }

    /// SFT alone spends the others' preference steps on demonstrations: as many more as go over two answers of a pair, so often over one
    /// of the policy's own, or once over the best of them.
    pub(super) fn sft_epochs(&self, method: LaneMethod) -> usize {
        let passes = match self.preference {
            Preference::Dpo | Preference::Rrhf => 2,
            Preference::Ppo => self.ppo().inner_epochs,
            Preference::Raft => 1,
        };
        if method == LaneMethod::Sft { (1 + passes) * EPOCHS } else { EPOCHS }
    }

    /// PPO with this β. For an eighth of HBAT's first turn the critic learns alone.
    pub(super) fn ppo(&self) -> Ppo {
        let turn = EPOCHS * self.examples.div_ceil(self.subsets).div_ceil(BATCH);
        Ppo {
            kl_coefficient: self.kl_coefficient,
            value_learning_rate: VALUE_RATE,
            cold_start: turn / 8,
            max_new_tokens: ANSWER,
            ..Ppo::default()
        }
    }

    /// RAFT with this K.
    pub(super) fn raft(&self) -> Raft {
        Raft { answers: self.raft_answers, max_new_tokens: ANSWER, ..Raft::default() }
    }

    pub(super) fn consolidation(&self, method: LaneMethod) -> Consolidation {
        let rule = if method == LaneMethod::HbatRandom { Rule::Random } else { self.importance };
        Consolidation { rule, lambda: self.lambda, f_max: self.f_max }
    }

    fn training(&self, learning_rate: f64, decay: Decay) -> Training {
        let (warmup, optimizer) = (Warmup { steps: 0, fraction: 0.0 }, AdamWSettings::default());
        Training { learning_rate, decay, warmup, batch_size: BATCH, epochs: EPOCHS, optimizer }
    }

    /// What holds for every lane's whole run.
    pub(super) fn trainer(&self) -> Settings {
        Settings {
            seed: self.seed,
            order: Order::Shuffled,
            engine: Engine::Whole,
            micro_batch: 2 * HELD_OUT,
            bucket: BUCKET,
            pack: None,
            dpo: self.dpo(),
            ppo: self.ppo(),
            rrhf: Rrhf::default(),
            raft: self.raft(),
            reward: Reward::default(),
            keep_start: KeepStart::Copy,
            update: UpdateTiming::AfterBackward,
        }
    }
}

/// Sequences are padded to a multiple of this: few shapes, for which a GPU prepares its kernels once each.
pub(super) const BUCKET: usize = 8;
