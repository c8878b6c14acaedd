//! Whether values make sense, each alone and all together.

use std::collections::BTreeSet;

use hbat::consolidation::{Rule, Side};
use hbat::schedule::{Aim, Method, Preference};
use hbat_backends::DeviceName;

use super::choice::FormatChoice;
use super::combinations;
use super::defaults;
use super::error::ConfigError;
use super::layers::Layers;
use super::ranges;
use super::run_file::{AUTO, ContinueFrom, Judged, RunFile};
use crate::data::{Format, Kind};
use crate::store::SaveDtype;

/// Checks everything that can be checked without looking at files.
pub(super) fn check(layers: &Layers, run: &RunFile, source: &str) -> Result<(), ConfigError> {
    ranges::check(layers)?;
    device(layers, run)?;
    methods(layers, run)?;
    formats(layers, run)?;
    combinations::check(layers, run)?;
    continued(layers, run)?;
    if run.checkpoints.reference_cache.as_os_str().is_empty() {
        let remedy = "name a folder, or take \"auto\" or \"none\"";
        return Err(layers.refuse("checkpoints.reference_cache", "an empty path names no folder", remedy));
    }
    if !is_name(&run.name) {
        return Err(layers.refuse(
            "name",
            "no folder can be called so",
            "take up to 200 letters, digits, blanks, and marks but / and \\",
        ));
    }
    if run.output.as_os_str().is_empty() {
        return Err(layers.refuse("output", "an empty path names no folder", "name a folder, or take \"auto\""));
    }
    if run.model.path.as_os_str().is_empty() {
        let remedy = "name a folder in Hugging Face layout, or \"toy\"";
        return Err(ConfigError::Unset { source_name: source.to_owned(), key: "model.path", remedy });
    }
    if run.model.is_toy() {
        toy(layers, run)?
    } else {
        files(layers, run, source)?
    }
    subsets(layers, run)
}

fn is_name(text: &str) -> bool {
    !["", ".", ".."].contains(&text.trim()) && text.chars().all(is_of_names) && text.len() <= LONGEST_NAME
}

fn is_of_names(c: char) -> bool {
    !c.is_control() && !['/', '\\'].contains(&c)
}

/// Bytes of a name; a new folder may get a number behind it.
const LONGEST_NAME: usize = 200;

/// A name made of a file's.
pub(super) fn made_name(file: &str) -> String {
    let mut name: String = file.chars().map(|c| if is_of_names(c) { c } else { '_' }).collect();
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    if is_name(&name) && name != AUTO { name } else { "run".into() }
}

/// What phases go on from must not be rounded, nor the weights of which Fisher information is measured thrown away.
fn continued(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    if run.schedule.continue_from == ContinueFrom::Last {
        return Ok(());
    }
    let holds = [Method::Hbat, Method::AnchorOnly].iter().any(|method| run.methods.contains(method));
    if run.consolidation.rule == Rule::Fisher && holds {
        let problem =
            "Fisher information is measured at a phase's end, and schedule.continue_from is \"best\", which may be before it";
        return Err(layers.refuse("consolidation.rule", problem, "take another rule, or schedule.continue_from = \"last\""));
    }
    if run.checkpoints.export_dtype == SaveDtype::F32 {
        return Ok(());
    }
    let problem = "schedule.continue_from is \"best\", and phases would go on from weights in best/ that are rounded";
    Err(layers.refuse("checkpoints.export_dtype", problem, "take \"f32\", or schedule.continue_from = \"last\""))
}

fn device(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let named = run.device.parse::<DeviceName>();
    named.map(|_| ()).map_err(|error| layers.refuse("device", error.to_string(), "`hbat devices` says what this machine offers"))
}

fn methods(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    if run.methods.is_empty() {
        return Err(layers.refuse("methods", "there is nothing to train", "name at least one method, such as \"hbat\""));
    }
    let mut seen = BTreeSet::new();
    if let Some(name) = run.methods.iter().map(|method| super::name(*method)).find(|name| !seen.insert(name.clone())) {
        return Err(layers.refuse("methods", format!("\"{name}\" stands there twice"), "name every method once"));
    }
    if run.trains(Aim::Reward) && run.methods.len() > 1 {
        let problem = "a reward model has another head than what the other methods train";
        return Err(layers.refuse("methods", problem, "give \"reward-model\" a run of its own"));
    }
    if run.methods.contains(&Method::Mix) && run.schedule.preference != Preference::Dpo {
        let problem = "the preference steps of mix are DPO's";
        return Err(layers.refuse("schedule.preference", problem, "take \"dpo\", or leave \"mix\" out of methods"));
    }
    mixed(layers, run)?;
    judge(layers, run)
}

/// Steps that are mixed share their moments, and with them all constants of the optimizer.
fn mixed(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let (sft, dpo) = (run.sft, run.dpo.training);
    let differs = [
        ("betas", sft.betas != dpo.betas),
        ("eps", sft.eps != dpo.eps),
        ("weight_decay", sft.weight_decay != dpo.weight_decay),
        ("max_grad_norm", sft.max_grad_norm != dpo.max_grad_norm),
    ];
    match differs.into_iter().find(|(_, differs)| *differs && run.methods.contains(&Method::Mix)) {
        None => Ok(()),
        Some((key, _)) => {
            let problem = format!("the steps of mix have one optimizer for both objectives, and sft.{key} is another");
            let remedy = format!("make it sft.{key}, or leave \"mix\" out of methods");
            Err(layers.refuse(&format!("dpo.{key}"), problem, &remedy))
        }
    }
}

/// Training on answers needs somebody who judges them, and steps that are its alone.
fn judge(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let Some(Judged { section, reward_model, .. }) = run.judged() else { return Ok(()) };
    if run.trains(Aim::Ppo) && run.ppo.kl_target > 0.0 && run.ppo.kl_horizon < run.ppo.training.batch_size as f64 {
        let problem = "the coefficient would leap: it is corrected after every step, by as much as a step has of these answers";
        return Err(layers.refuse("ppo.kl_horizon", problem, "set it to many times ppo.batch_size; 10000 is usual"));
    }
    if reward_model.as_os_str().is_empty() {
        let (problem, remedy) = (
            "a reward model has to judge answers",
            "name the folder of one; `hbat train` makes it with methods = [\"reward-model\"], `hbat recipes cp reward .` is an example",
        );
        return Err(layers.refuse(&format!("{section}.reward_model"), problem, remedy));
    }
    Ok(())
}

fn formats(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let wrong = |choice, kinds: &[Kind]| {
        let kind = Option::from(choice).map(Format::kind);
        kind.filter(|kind| !kinds.contains(kind)).map(|kind| format!("this is a format of {}", kind.name()))
    };
    if let Some(problem) = wrong(run.data.demonstration_format, &[Kind::Demonstrations]) {
        return Err(layers.refuse("data.demonstration_format", problem, "set data.preference_format, or take \"auto\" here"));
    }
    if run.judged().is_none() && run.data.preference_format == FormatChoice::Named(Format::Prompt) {
        let problem = "prompts alone are for training on the policy's own answers";
        return Err(layers.refuse(
            "data.preference_format",
            problem,
            "set schedule.preference to \"ppo\" or \"raft\", or name files of pairs",
        ));
    }
    if let Some(problem) = wrong(run.data.preference_format, &[Kind::Preferences, Kind::Prompts]) {
        return Err(layers.refuse("data.preference_format", problem, "set data.demonstration_format, or take \"auto\" here"));
    }
    Ok(())
}

/// The toy makes its own data: all that is said of files is of no use.
fn toy(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    if let Some(key) = of_files(layers) {
        let problem = "model.path is \"toy\", which is trained on generated data only";
        let remedy = "set model.path to a model's folder, or remove this; how much data the toy has is said in [toy]";
        return Err(layers.refuse(&key, problem, remedy));
    }
    match run.toy.digits[0] > run.toy.digits[1] {
        true => Err(layers.refuse("toy.digits", "the fewest digits are more than the most", "write [fewest, most]")),
        false => Ok(()),
    }
}

/// The first setting of files, and of what is read from them, that is not as in the defaults.
fn of_files(layers: &Layers) -> Option<String> {
    let (table, defaults) = (layers.table(), defaults::table());
    [("data", "shuffle"), ("validation", "every")].into_iter().find_map(|(section, general)| {
        let settings = table.get(section)?.as_table()?.iter();
        let mut own = settings.filter(|(key, value)| *key != general && defaults[section].get(key) != Some(value));
        own.next().map(|(key, _)| format!("{section}.{key}"))
    })
}

/// A model from a folder needs files of what its methods train on.
fn files(layers: &Layers, run: &RunFile, source: &str) -> Result<(), ConfigError> {
    let unset = |key, remedy| Err(ConfigError::Unset { source_name: source.to_owned(), key, remedy });
    if run.data.demonstrations.is_empty() && run.reads(Side::Instruction) {
        let remedy = "only \"preference-only\" and \"reward-model\" train on none; name files of prompts with a response";
        return unset("data.demonstrations", remedy);
    }
    if run.data.preferences.is_empty() && run.reads(Side::Preference) {
        return unset(
            "data.preferences",
            "name files of prompts with two responses (PPO and RAFT need the prompts alone), or train with methods = [\"sft\"]",
        );
    }
    let validated = !run.validation.demonstrations.is_empty() || !run.validation.preferences.is_empty();
    if run.schedule.continue_from == ContinueFrom::Best && !validated {
        let problem = "without validation data nothing is the best";
        return Err(layers.refuse("schedule.continue_from", problem, "name files in [validation], or set it to \"last\""));
    }
    if run.validation.every > 0 && !validated {
        let remedy = "name files of validation.demonstrations or validation.preferences, or take 0";
        return Err(layers.refuse("validation.every", "and there is nothing to validate on", remedy));
    }
    empty_path(layers, run)
}

fn empty_path(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    match super::plan::file_lists(run).into_iter().find(|(_, files)| files.iter().any(|file| file.as_os_str().is_empty())) {
        Some((key, _)) => Err(layers.refuse(key, "an empty path names no file", "name a file, or leave the list empty")),
        None => Ok(()),
    }
}

/// Fewer examples than subsets cannot be split, and would be noticed only after loading.
fn subsets(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let alternating = [Method::Alternating, Method::Hbat, Method::HbatFreeze];
    if !run.methods.iter().any(|method| alternating.contains(method)) {
        return Ok(());
    }
    let limits = [
        ("data.limit_demonstrations", run.data.limit_demonstrations.count()),
        ("data.limit_preferences", run.data.limit_preferences.count()),
    ];
    let toy = [("toy.demonstrations", Some(run.toy.demonstrations)), ("toy.preferences", Some(run.toy.preferences))];
    let counts = if run.model.is_toy() { toy } else { limits };
    let subsets = run.schedule.subsets;
    match counts.iter().find(|(_, count)| count.is_some_and(|count| count < subsets)) {
        Some((key, _)) => {
            let problem = format!("so few examples cannot be split into schedule.subsets = {subsets}");
            Err(layers.refuse(key, problem, "raise it, or lower schedule.subsets"))
        }
        None => Ok(()),
    }
}
