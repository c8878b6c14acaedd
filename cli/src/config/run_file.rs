//! What a run file can say, section by section. `cli/recipes/defaults.toml` says it to users, with the defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hbat::compute::{LayerInputs, Moments, Offload, Sums, Weights};
use hbat::consolidation::{Rule, Side};
use hbat::engine::Engine;
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::schedule::{Aim, Method, Preference, Training, Warmup};
use hbat::toy::skill::{Size, SkillSettings};
use hbat::trainer::UpdateTiming;
use serde::{Deserialize, Serialize};

use super::choice::{FormatChoice, Limit, Probability};
use super::defaults;
use super::preferences::{DpoSection, PpoSection, RaftSection, RewardSection, RolloutSection, RrhfSection};
use crate::data::{TemplateChoice, TooLong};
use crate::store::SaveDtype;

/// The value of `model.path` that means the start model inside the program.
pub const TOY: &str = "toy";

/// The value of `name` and `output` that lets the program choose a new folder, and of `checkpoints.reference_cache` that takes the user's.
pub const AUTO: &str = "auto";

/// The value of `checkpoints.reference_cache` that keeps nothing.
pub const NONE: &str = "none";

/// A complete run file: no key is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// What the run is called in titles, and its new folder; [`AUTO`] is the name of the run file or recipe.
    pub name: String,
    /// Where all randomness comes from.
    pub seed: u64,
    /// The device, as [`hbat_backends::DeviceName`] reads it.
    pub device: String,
    /// The methods to train and compare.
    pub methods: Vec<Method>,
    /// The run's folder, or [`AUTO`].
    pub output: PathBuf,
    /// `[model]`.
    pub model: ModelSection,
    /// `[data]`.
    pub data: DataSection,
    /// `[validation]`.
    pub validation: ValidationSection,
    /// `[toy]`.
    pub toy: ToySection,
    /// `[schedule]`.
    pub schedule: ScheduleSection,
    /// `[sft]`.
    pub sft: TrainingSection,
    /// `[dpo]`.
    pub dpo: DpoSection,
    /// `[ppo]`.
    pub ppo: PpoSection,
    /// `[rrhf]`.
    pub rrhf: RrhfSection,
    /// `[raft]`.
    pub raft: RaftSection,
    /// `[reward]`.
    pub reward: RewardSection,
    /// `[consolidation]`.
    pub consolidation: ConsolidationSection,
    /// `[engine]`.
    pub engine: EngineSection,
    /// `[checkpoints]`.
    pub checkpoints: CheckpointsSection,
}

impl Default for RunFile {
    fn default() -> Self {
        defaults::run_file()
    }
}

/// The model to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// A folder in Hugging Face layout, or [`TOY`].
    pub path: PathBuf,
}

impl RunFile {
    /// Whether one of the methods trains this.
    pub fn trains(&self, aim: Aim) -> bool {
        self.methods.iter().any(|method| method.aims(self.schedule.preference).contains(&aim))
    }

    /// What the methods train.
    pub fn aims(&self) -> impl Iterator<Item = Aim> {
        Aim::ALL.into_iter().filter(|aim| self.trains(*aim))
    }

    /// Whether one of the methods trains on examples of this side, if only beside others.
    pub fn reads(&self, side: Side) -> bool {
        let beside = side == Side::Instruction && self.trains(Aim::Ppo) && self.ppo.sft_coefficient > 0.0;
        beside || self.aims().any(|aim| aim.side() == side)
    }

    /// How it is trained.
    pub fn training(&self, aim: Aim) -> TrainingSection {
        match aim {
            Aim::Sft => self.sft,
            Aim::Dpo => self.dpo.training,
            Aim::Ppo => self.ppo.training,
            Aim::Rrhf => self.rrhf.training,
            Aim::Raft => self.raft.training,
            Aim::Reward => self.reward.training,
        }
    }

    /// Who judges the policy's answers, if a method trains on them.
    pub fn judged(&self) -> Option<Judged<'_>> {
        let aim = self.aims().find(|aim| aim.rolls_out())?;
        let RolloutSection { reward_model, max_new_tokens, .. } = match aim {
            Aim::Raft => &self.raft.rollout,
            _ => &self.ppo.rollout,
        };
        Some(Judged { section: aim.name(), reward_model, max_new_tokens: *max_new_tokens })
    }

    /// Sequences of an optimizer step.
    pub fn sequences(&self, aim: Aim) -> usize {
        let examples = self.training(aim).batch_size;
        aim.sequences() * if aim == Aim::Ppo { self.ppo.ppo().largest_update(examples) } else { examples }
    }

    /// Sequences of the largest optimizer step of all methods.
    pub fn largest_step(&self) -> usize {
        self.aims().map(|aim| self.sequences(aim)).max().unwrap_or(0)
    }
}

/// The answers that a run trains on.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The section that says so.
    pub section: &'static str,
    /// The judge's folder; empty: none.
    pub reward_model: &'a Path,
    /// The longest answer.
    pub max_new_tokens: usize,
}

impl ModelSection {
    /// Whether the start model inside the program is meant.
    pub fn is_toy(&self) -> bool {
        self.path == Path::new(TOY)
    }
}

/// Examples to train on, and how texts become tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// Files of demonstrations, in order.
    pub demonstrations: Vec<PathBuf>,
    /// Files of preferences, in order.
    pub preferences: Vec<PathBuf>,
    /// The format of demonstrations, validation included.
    pub demonstration_format: FormatChoice,
    /// The format of preferences, validation included.
    pub preference_format: FormatChoice,
    /// The files' own column names, by the format's names.
    pub demonstration_columns: BTreeMap<String, String>,
    /// Likewise, for preferences.
    pub preference_columns: BTreeMap<String, String>,
    /// How prompts are worded.
    pub template: TemplateChoice,
    /// Tokens of prompt and response together.
    pub max_length: usize,
    /// What happens to longer examples.
    pub too_long: TooLong,
    /// How many demonstrations to use.
    pub limit_demonstrations: Limit,
    /// How many preferences to use.
    pub limit_preferences: Limit,
    /// Whether examples are permuted.
    pub shuffle: bool,
}

/// Examples to choose the best weights by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationSection {
    /// Files of demonstrations.
    pub demonstrations: Vec<PathBuf>,
    /// Files of preferences.
    pub preferences: Vec<PathBuf>,
    /// How many demonstrations to use.
    pub limit_demonstrations: Limit,
    /// How many preferences to use.
    pub limit_preferences: Limit,
    /// Optimizer steps between validations within a phase; 0: none within a phase.
    pub every: usize,
}

/// The toy's generated data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToySection {
    /// The start model.
    pub size: Size,
    /// Demonstrations to train on.
    pub demonstrations: usize,
    /// Preferences to train on.
    pub preferences: usize,
    /// Demonstrations to validate with.
    pub validation_demonstrations: usize,
    /// Preferences to validate with.
    pub validation_preferences: usize,
    /// The fewest and the most digits of an operand.
    pub digits: [usize; 2],
    /// The probability that a chosen answer is right.
    pub q_w: f64,
    /// The probability that a rejected answer is right.
    pub q_l: f64,
}

impl ToySection {
    /// The same in the toy's own terms.
    pub fn settings(&self, seed: u64) -> SkillSettings {
        SkillSettings {
            seed,
            demonstrations: self.demonstrations,
            preferences: self.preferences,
            validation_demonstrations: self.validation_demonstrations,
            validation_preferences: self.validation_preferences,
            digits: self.digits,
            chosen_right: self.q_w,
            rejected_right: self.q_l,
        }
    }
}

/// What the methods share beside the two objectives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSection {
    /// How the methods train on preferences.
    pub preference: Preference,
    /// N.
    pub subsets: usize,
    /// For `hbat-freeze`.
    pub freeze_fraction: f64,
    /// ρ, for `mix`.
    pub preference_probability: Probability,
    /// Where the next phase starts.
    pub continue_from: ContinueFrom,
}

/// How one objective is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainingSection {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// What the rate does after the warm-up.
    pub decay: Decay,
    /// Warm-up: at most so many steps,
    pub warmup_steps: usize,
    /// and at most this part of the phase.
    pub warmup_ratio: f64,
    /// Examples per optimizer step: demonstrations, or pairs.
    pub batch_size: usize,
    /// Passes over the phase's subset.
    pub epochs: usize,
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε of AdamW.
    pub eps: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// The gradient norm is clipped to this.
    pub max_grad_norm: f64,
}

impl TrainingSection {
    /// The same in core's terms.
    pub fn training(&self) -> Training {
        Training {
            learning_rate: self.learning_rate,
            decay: self.decay,
            warmup: Warmup { steps: self.warmup_steps, fraction: self.warmup_ratio },
            batch_size: self.batch_size,
            epochs: self.epochs,
            optimizer: AdamWSettings {
                betas: self.betas,
                eps: self.eps,
                weight_decay: self.weight_decay,
                clip: self.max_grad_norm,
            },
        }
    }

    /// As the defaults, but for which examples a step trains on.
    pub(super) fn batches_alone(&self, defaults: Self) -> Self {
        Self { batch_size: self.batch_size, epochs: self.epochs, ..defaults }
    }
}

/// The penalty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsolidationSection {
    /// How changes become importances.
    pub rule: Rule,
    /// λ.
    pub lambda: f64,
    /// F_max.
    pub f_max: f64,
}

/// How gradients come about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSection {
    /// The engine.
    pub kind: Engine,
    /// Sequences per forward pass.
    pub micro_batch: usize,
    /// Lengths are padded to a multiple of this.
    pub bucket: usize,
    /// Tokens of a row that holds several sequences; 0: a row for each.
    pub pack: usize,
    /// How weights are kept.
    pub weights: Weights,
    /// What weights of f32 are multiplied in.
    pub products: FullProducts,
    /// Who multiplies matrices.
    pub matmul: Matmul,
    /// Who computes the rest of a layer.
    pub kernels: KernelChoice,
    /// How AdamW's moments are kept.
    pub moments: Moments,
    /// What gradients of several passes are added up in.
    pub sums: Sums,
    /// What is kept in the host's memory.
    pub offload: Offload,
    /// Where layers' inputs wait for the backward pass.
    pub layer_inputs: LayerInputs,
    /// When weights are updated.
    pub update: UpdateTiming,
}

/// What a card multiplies matrices of f32 in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FullProducts {
    /// All of their 24 bits.
    F32,
    /// Their first 11 bits, PyTorch's `allow_tf32`.
    Tf32,
}

/// Whose matrix products a card computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matmul {
    /// cuBLASLt's where there is the library and a card, and no autodiff; else Burn's.
    Auto,
    /// Burn's, which it chooses by timing them.
    Burn,
    /// cuBLASLt's, PyTorch's own on a card.
    Cublas,
}

/// Whose kernels compute norms, attention's probabilities and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelChoice {
    /// hbat's on a card of NVIDIA's, Burn's elsewhere and for autodiff.
    Auto,
    /// Burn's, which fuses operations as it finds them.
    Burn,
    /// hbat's, one for each step.
    Hbat,
}

/// What is saved, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointsSection {
    /// Optimizer steps between checkpoints within a phase; 0: none within a phase.
    pub every: usize,
    /// Complete checkpoints to keep.
    pub keep: usize,
    /// Whether training goes on meanwhile.
    pub background: Background,
    /// Precision of the model folders that a run leaves.
    pub export_dtype: SaveDtype,
    /// Where reference log-probabilities are kept for other runs: a folder, [`AUTO`] or [`NONE`].
    pub reference_cache: PathBuf,
}

/// Whether training goes on while a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// Where memory has room for a copy.
    Auto,
    /// Never.
    Off,
}

/// The weights a phase starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContinueFrom {
    /// Those of the phase before.
    Last,
    /// The best on the validation data so far.
    Best,
}
