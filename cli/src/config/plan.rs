//! A validated run, ready to be carried out.

use std::path::{Path, PathBuf};

use hbat::compute::Layout;
use hbat::consolidation::Consolidation;
use hbat::schedule::{Aim, Method, Order, Preference, ScheduleSettings};
use hbat::trainer::{KeepStart, Settings};
use hbat_backends::DeviceName;
use toml::Table;

use super::defaults;
use super::error::ConfigError;
use super::layers::Layers;
use super::layout::layout;
use super::preferences::{DpoSection, RewardSection, RrhfSection};
use super::run_file::{AUTO, EngineSection, Judged, RunFile};
use crate::store::fingerprint;

/// Where the weights to start from come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The start model inside the program, on the toy's generated data.
    Toy,
    /// A folder in Hugging Face layout.
    Folder(PathBuf),
}

/// What a run does, in core's terms, and the complete run file that says so.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every setting.
    pub run: RunFile,
    /// The run's folder; `None`: a new one under `runs/`.
    pub output: Option<PathBuf>,
    /// Where to compute.
    pub device: DeviceName,
    /// How numbers are laid out there.
    pub layout: Layout,
    /// The weights to start from.
    pub start: Start,
    /// The methods, each with everything its phases are made from.
    pub schedules: Vec<ScheduleSettings>,
    /// What all methods share.
    pub settings: Settings,
    layers: Layers,
}

impl Plan {
    /// The plan of checked settings.
    pub(super) fn new(layers: Layers, run: RunFile) -> Result<Self, ConfigError> {
        let device: DeviceName = run.device.parse().map_err(|_| layers.refuse("device", "is no device", "take \"cpu\""))?;
        let start = if run.model.is_toy() { Start::Toy } else { Start::Folder(run.model.path.clone()) };
        let output = (run.output.as_os_str() != AUTO).then(|| run.output.clone());
        let schedules = run.methods.iter().map(|method| schedule(&run, *method)).collect();
        let settings = settings(&run);
        let layout = layout(device, &run.engine);
        Ok(Self { run, output, device, layout, start, schedules, settings, layers })
    }

    /// The complete run file, every setting explained, which resolves to an equal plan from any folder.
    pub fn to_toml(&self) -> String {
        let table = Table::try_from(&self.run).expect("a run file is a table");
        format!("# The settings of this run, complete.\n{}", defaults::filled(&table))
    }

    /// A SHA-256 in hexadecimal of what a run that goes on must share with its beginning: which examples each step trains on, by which method.
    /// The rest may be changed in between: the run's folder, the device, `[engine]`, `[checkpoints]`, and how large steps are, for a run that
    /// diverged. Files and the model count by name, not by folder, so that they may be moved.
    pub fn fingerprint(&self) -> String {
        let mut run = self.run.clone();
        let rest = RunFile::default();
        (run.name, run.output, run.device) = (rest.name, rest.output, rest.device);
        (run.engine, run.checkpoints) = (rest.engine, rest.checkpoints);
        run.sft = run.sft.batches_alone(rest.sft);
        run.dpo = DpoSection { training: run.dpo.training.batches_alone(rest.dpo.training), ..rest.dpo };
        run.ppo = run.ppo.batches_alone(rest.ppo);
        run.raft = run.raft.batches_alone(rest.raft);
        for judge in [&mut run.ppo.rollout.reward_model, &mut run.raft.rollout.reward_model] {
            *judge = named(judge);
        }
        run.rrhf = RrhfSection { training: run.rrhf.training.batches_alone(rest.rrhf.training), ..rest.rrhf };
        run.reward = RewardSection { training: run.reward.training.batches_alone(rest.reward.training), ..rest.reward };
        run.consolidation.lambda = rest.consolidation.lambda;
        run.consolidation.f_max = rest.consolidation.f_max;
        run.model.path = named(&run.model.path);
        for files in [&mut run.data.demonstrations, &mut run.data.preferences] {
            files.iter_mut().for_each(|file| *file = named(file));
        }
        for files in [&mut run.validation.demonstrations, &mut run.validation.preferences] {
            files.iter_mut().for_each(|file| *file = named(file));
        }
        let text = toml::to_string(&run).expect("a run file is TOML");
        fingerprint(&text)
    }

    /// The plan of one of the methods alone.
    pub fn only(&self, method: Method) -> Self {
        let mut plan = self.clone();
        plan.run.methods = vec![method];
        plan.schedules.retain(|schedule| schedule.method == method);
        plan
    }

    /// Whether the model's folder and the data's files are there.
    ///
    /// # Errors
    /// Names the first that is not, and the setting that names it.
    pub fn check_paths(&self) -> Result<(), ConfigError> {
        if let Start::Folder(folder) = &self.start
            && !folder.is_dir()
        {
            let problem = if folder.exists() { "it is no folder" } else { "there is no such folder" };
            let remedy = "name a folder with config.json, model.safetensors and tokenizer.json, or \"toy\"";
            return Err(self.layers.refuse("model.path", problem, remedy));
        }
        if let Some(Judged { section, reward_model, .. }) = self.run.judged().filter(|judged| !judged.reward_model.is_dir()) {
            let problem = format!("there is no folder \"{}\"", reward_model.display());
            let remedy = "name the folder of a reward model, such as `hbat train` with methods = [\"reward-model\"] makes";
            return Err(self.layers.refuse(&format!("{section}.reward_model"), problem, remedy));
        }
        for (key, files) in file_lists(&self.run) {
            if let Some(file) = files.iter().find(|file| !file.is_file()) {
                let problem = if file.exists() { "is no file" } else { "does not exist" };
                let problem = format!("\"{}\" {problem}", file.display());
                let remedy = "relative paths are taken from the run file's folder, and with --set from the current one";
                return Err(self.layers.refuse(key, problem, remedy));
            }
        }
        Ok(())
    }

    /// The refusal of a setting that turned out to be wrong later on, such as N larger than the data.
    pub fn refuse(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        self.layers.refuse(key, problem, remedy)
    }
}

/// The run's lists of files, by their settings.
pub(super) fn file_lists(run: &RunFile) -> [(&'static str, &[PathBuf]); 4] {
    [
        ("data.demonstrations", &run.data.demonstrations),
        ("data.preferences", &run.data.preferences),
        ("validation.demonstrations", &run.validation.demonstrations),
        ("validation.preferences", &run.validation.preferences),
    ]
}

fn named(path: &Path) -> PathBuf {
    path.file_name().map_or_else(|| path.to_owned(), PathBuf::from)
}

fn schedule(run: &RunFile, method: Method) -> ScheduleSettings {
    ScheduleSettings {
        method,
        subsets: run.schedule.subsets,
        sft: run.sft.training(),
        preference: run.schedule.preference,
        preference_training: run.training(preference_aim(method, run.schedule.preference)).training(),
        consolidation: Consolidation {
            rule: run.consolidation.rule,
            lambda: run.consolidation.lambda,
            f_max: run.consolidation.f_max,
        },
        freeze_fraction: run.schedule.freeze_fraction,
        preference_probability: run.schedule.preference_probability.value(),
    }
}

/// What a method trains on preferences.
fn preference_aim(method: Method, preference: Preference) -> Aim {
    if method == Method::RewardModel { Aim::Reward } else { preference.aim() }
}

fn settings(run: &RunFile) -> Settings {
    let EngineSection { kind, micro_batch, bucket, pack, update, .. } = run.engine;
    Settings {
        seed: run.seed,
        order: if run.data.shuffle { Order::Shuffled } else { Order::AsGiven },
        engine: kind,
        micro_batch,
        bucket,
        pack: (pack > 0).then_some(pack),
        dpo: run.dpo.objective(),
        ppo: run.ppo.ppo(),
        rrhf: run.rrhf.objective(),
        raft: run.raft.raft(),
        reward: run.reward.objective(),
        // Every phase begins with a checkpoint, which holds its start.
        keep_start: KeepStart::Stored,
        update,
    }
}
