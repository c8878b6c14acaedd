//! Whether values make sense, each alone and all together.

use std::collections::BTreeSet;

use hbat::consolidation::Side;
use hbat::schedule::{Aim, Method, Preference};
use hbat_backends::DeviceName;
use toml::Value;

use super::combinations;
use super::defaults;
use super::error::ConfigError;
use super::layers::Layers;
use super::run_file::{ContinueFrom, RunFile};
use crate::data::{Format, Kind};

/// The numbers a setting accepts, beside being no NaN.
#[derive(Debug, Clone, Copy)]
enum Range {
    /// Greater than 0 and finite.
    Positive,
    /// Greater than 0, or infinite.
    PositiveOrInfinite,
    /// 0 or more and finite.
    NotNegative,
    /// Greater than 0 and up to this.
    UpTo(f64),
    /// From the first to the second, both included.
    From(f64, f64),
    /// From the first up to, but not including, the second.
    Below(f64, f64),
}

impl Range {
    fn holds(self, number: f64) -> bool {
        match self {
            Self::Positive => number > 0.0 && number.is_finite(),
            Self::PositiveOrInfinite => number > 0.0,
            Self::NotNegative => number >= 0.0 && number.is_finite(),
            Self::UpTo(most) => number > 0.0 && number <= most,
            Self::From(least, most) => (least..=most).contains(&number),
            Self::Below(least, limit) => (least..limit).contains(&number),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Positive => "must be greater than 0".into(),
            Self::PositiveOrInfinite => "must be greater than 0, or inf".into(),
            Self::NotNegative => "must be 0 or more".into(),
            Self::UpTo(most) => format!("must be greater than 0 and at most {most}"),
            Self::From(least, MANY) => format!("must be {least} or more, and at most {MANY}"),
            Self::From(least, most) if most >= 1e6 => format!("must be between {least} and {most:e}"),
            Self::From(least, most) => format!("must be between {least} and {most}"),
            Self::Below(least, limit) => format!("must be at least {least} and less than {limit}"),
        }
    }
}

/// More steps, examples or tokens than any run has; larger numbers are slips of the keyboard.
const MANY: f64 = 1e9;

/// More passes than any subset is worth; every one of their steps is planned beforehand.
const EPOCHS: Range = Range::From(1.0, 10_000.0);
/// What single precision holds with room to multiply.
const FACTOR: Range = Range::From(0.0, 1e30);

/// At least one.
const COUNT: Range = Range::From(1.0, MANY);

/// Every number's range, and what to take instead of a number outside it.
const RANGES: [(&str, Range, &str); 93] = [
    ("data.max_length", Range::From(2.0, MANY), "a prompt and a response need a token each; 1024 is usual"),
    ("data.limit_demonstrations", COUNT, "give a number of examples, or \"all\""),
    ("data.limit_preferences", COUNT, "give a number of examples, or \"all\""),
    ("validation.limit_demonstrations", COUNT, "give a number of examples, or \"all\"; leave the list of files empty for none"),
    ("validation.limit_preferences", COUNT, "give a number of examples, or \"all\"; leave the list of files empty for none"),
    ("validation.every", Range::From(0.0, MANY), "0 validates at the end of every phase only"),
    ("toy.demonstrations", COUNT, "the default is 1024"),
    ("toy.preferences", COUNT, "the default is 1024"),
    ("toy.validation_demonstrations", COUNT, "the default is 256"),
    ("toy.validation_preferences", COUNT, "the default is 128"),
    ("toy.digits", Range::From(1.0, 12.0), "[3, 6] is the default"),
    ("toy.q_w", Range::From(0.0, 1.0), "it is a probability"),
    ("toy.q_l", Range::From(0.0, 1.0), "it is a probability"),
    ("schedule.subsets", COUNT, "1 does not alternate; the paper takes 2 for dialogue and 10 for summarisation"),
    ("schedule.freeze_fraction", Range::From(0.0, 1.0), "it is a part of all units; the paper takes 0.2"),
    ("schedule.preference_probability", Range::From(0.0, 1.0), "it is a probability, or \"auto\""),
    ("sft.learning_rate", Range::Positive, "the paper takes 1e-5 for models of 7 billion parameters; small ones need more"),
    ("sft.warmup_steps", Range::From(0.0, MANY), "0 means no warm-up"),
    ("sft.warmup_ratio", Range::From(0.0, 1.0), "it is a part of the phase's steps"),
    ("sft.batch_size", COUNT, "it counts the examples of an optimizer step; engine.micro_batch is what bounds memory"),
    ("sft.epochs", EPOCHS, "leave the objective out by choosing other methods"),
    ("sft.eps", Range::Positive, "AdamW divides by it; 1e-8 is usual"),
    ("sft.weight_decay", Range::NotNegative, "0.0 means no decay"),
    ("sft.max_grad_norm", Range::PositiveOrInfinite, "1.0 is usual; inf switches clipping off"),
    ("dpo.beta", Range::Positive, "0.1 is usual"),
    ("dpo.label_smoothing", Range::Below(0.0, 0.5), "it is the probability that a label is wrong; at 0.5 labels say nothing"),
    ("dpo.nll_coefficient", Range::NotNegative, "0.0 is DPO alone; 1 is usual for DPO+NLL"),
    ("dpo.learning_rate", Range::Positive, "the paper takes 1e-6 for models of 7 billion parameters; small ones need more"),
    ("dpo.warmup_steps", Range::From(0.0, MANY), "0 means no warm-up"),
    ("dpo.warmup_ratio", Range::From(0.0, 1.0), "it is a part of the phase's steps"),
    ("dpo.batch_size", COUNT, "it counts the pairs of an optimizer step; engine.micro_batch is what bounds memory"),
    ("dpo.epochs", EPOCHS, "leave the objective out by choosing other methods"),
    ("dpo.eps", Range::Positive, "AdamW divides by it; 1e-8 is usual"),
    ("dpo.weight_decay", Range::NotNegative, "0.0 means no decay"),
    ("dpo.max_grad_norm", Range::PositiveOrInfinite, "1.0 is usual; inf switches clipping off"),
    ("ppo.kl_coefficient", Range::NotNegative, "0.0 lets the policy go where it likes; 0.1 is the paper's"),
    (
        "ppo.kl_target",
        Range::NotNegative,
        "it is a number of nats per answer, 6 in Ziegler et al.; 0.0 leaves the coefficient alone",
    ),
    ("ppo.drop_fraction", Range::Below(0.0, 1.0), "0.3 is the paper's HBAT+ESRL; 0.0 trains on all answers"),
    ("ppo.sft_coefficient", Range::NotNegative, "0 for PPO alone, 1 for as much as the policy's own loss"),
    ("ppo.kl_horizon", Range::Positive, "10000 is usual"),
    ("ppo.clip", Range::Positive, "0.2 is usual"),
    ("ppo.value_clip", Range::Positive, "0.2 is usual"),
    ("ppo.discount", Range::From(0.0, 1.0), "1.0 is usual: an answer's score comes with its last token"),
    ("ppo.gae_lambda", Range::From(0.0, 1.0), "0.95 is usual"),
    ("ppo.score_clip", Range::PositiveOrInfinite, "10.0 is usual; inf takes scores as they are"),
    ("ppo.inner_epochs", Range::From(1.0, 1000.0), "4 is usual"),
    ("ppo.mini_batches", COUNT, "1 takes all answers of a step at once"),
    ("ppo.value_learning_rate", Range::Positive, "the paper takes 5e-6 for models of 7 billion parameters; small ones need more"),
    ("ppo.cold_start", Range::From(0.0, MANY), "0 trains both from the first step on"),
    (
        "ppo.max_new_tokens",
        Range::From(1.0, 65536.0),
        "the paper takes 512 for dialogue; memory is planned for answers of this length",
    ),
    ("ppo.temperature", Range::Positive, "1.0 draws answers from the policy as it is"),
    ("ppo.top_p", Range::UpTo(1.0), "1.0 keeps every token"),
    ("ppo.rollout_batch", COUNT, "it counts prompts that are answered together; 1 needs the least memory"),
    ("ppo.learning_rate", Range::Positive, "the paper takes 1e-5 for models of 7 billion parameters; small ones need more"),
    ("ppo.warmup_steps", Range::From(0.0, MANY), "0 means no warm-up"),
    ("ppo.warmup_ratio", Range::From(0.0, 1.0), "it is a part of the phase's steps"),
    ("ppo.batch_size", COUNT, "it counts the prompts of a step; engine.micro_batch is what bounds memory"),
    ("ppo.epochs", EPOCHS, "1 answers every prompt of the subset once"),
    ("ppo.eps", Range::Positive, "AdamW divides by it; 1e-8 is usual"),
    ("ppo.weight_decay", Range::NotNegative, "0.0 means no decay"),
    ("ppo.max_grad_norm", Range::PositiveOrInfinite, "1.0 is usual; inf switches clipping off"),
    ("consolidation.lambda", FACTOR, "0.0 means no penalty; the paper takes 1"),
    ("consolidation.f_max", FACTOR, "0.0 means no penalty; the paper takes 50 to 100"),
    ("rrhf.length_exponent", Range::NotNegative, "1.0 is the mean over tokens, 0.0 the sum"),
    ("rrhf.nll_coefficient", Range::NotNegative, "1.0 is RRHF; 0.0 ranks alone"),
    ("rrhf.learning_rate", Range::Positive, "2e-5 is usual for models of 7 billion parameters; small ones need more"),
    ("rrhf.warmup_steps", Range::From(0.0, MANY), "0 means no warm-up"),
    ("rrhf.warmup_ratio", Range::From(0.0, 1.0), "it is a part of the phase's steps"),
    ("rrhf.batch_size", COUNT, "it counts the pairs of an optimizer step; engine.micro_batch is what bounds memory"),
    ("rrhf.epochs", EPOCHS, "leave the objective out by choosing other methods"),
    ("rrhf.eps", Range::Positive, "AdamW divides by it; 1e-8 is usual"),
    ("rrhf.weight_decay", Range::NotNegative, "0.0 means no decay"),
    ("rrhf.max_grad_norm", Range::PositiveOrInfinite, "1.0 is usual; inf switches clipping off"),
    (
        "reward.centering_coefficient",
        Range::NotNegative,
        "0.0 leaves rewards where they are; 0.01 is usual where they are to be centred",
    ),
    ("reward.learning_rate", Range::Positive, "1e-5 is usual for models of 7 billion parameters; small ones need more"),
    ("reward.warmup_steps", Range::From(0.0, MANY), "0 means no warm-up"),
    ("reward.warmup_ratio", Range::From(0.0, 1.0), "it is a part of the phase's steps"),
    ("reward.batch_size", COUNT, "it counts the pairs of an optimizer step; engine.micro_batch is what bounds memory"),
    ("reward.epochs", EPOCHS, "1 or 2 are usual: reward models overfit soon"),
    ("reward.eps", Range::Positive, "AdamW divides by it; 1e-8 is usual"),
    ("reward.weight_decay", Range::NotNegative, "0.0 means no decay"),
    ("reward.max_grad_norm", Range::PositiveOrInfinite, "1.0 is usual; inf switches clipping off"),
    ("engine.micro_batch", COUNT, "it counts the sequences of a forward pass; 1 needs the least memory"),
    ("engine.bucket", Range::From(1.0, 65536.0), "1 pads to the longest sequence of the pass and no further"),
    ("engine.pack", Range::From(0.0, 1_048_576.0), "it is the tokens of a row; 0 gives every sequence a row of its own"),
    ("checkpoints.every", Range::From(0.0, MANY), "0 saves at phase boundaries only"),
    ("checkpoints.keep", COUNT, "a run needs one checkpoint to go on from; 2 survive a damaged one"),
    ("sft.betas", Range::Below(0.0, 1.0), "[0.9, 0.95] is usual"),
    ("dpo.betas", Range::Below(0.0, 1.0), "[0.9, 0.95] is usual"),
    ("ppo.betas", Range::Below(0.0, 1.0), "[0.9, 0.95] is usual"),
    ("rrhf.betas", Range::Below(0.0, 1.0), "[0.9, 0.95] is usual"),
    ("reward.betas", Range::Below(0.0, 1.0), "[0.9, 0.95] is usual"),
    ("seed", Range::From(0.0, i64::MAX as f64), "any number will do"),
];

/// Checks everything that can be checked without looking at files.
pub(super) fn check(layers: &Layers, run: &RunFile, source: &str) -> Result<(), ConfigError> {
    ranges(layers)?;
    device(layers, run)?;
    methods(layers, run)?;
    formats(layers, run)?;
    combinations::check(layers, run)?;
    if run.checkpoints.reference_cache.as_os_str().is_empty() {
        let remedy = "name a folder, or take \"auto\" or \"none\"";
        return Err(layers.refuse("checkpoints.reference_cache", "an empty path names no folder", remedy));
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

fn ranges(layers: &Layers) -> Result<(), ConfigError> {
    for (key, range, remedy) in RANGES {
        let numbers = defaults::lookup(layers.table(), key).map(numbers).unwrap_or_default();
        if numbers.iter().any(|number| !range.holds(*number)) {
            let each = if numbers.len() > 1 { "each number " } else { "" };
            return Err(layers.refuse(key, format!("{each}{}", range.words()), remedy));
        }
    }
    Ok(())
}

/// The numbers in a value; none if it is a word.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Integer(number) => vec![*number as f64],
        Value::Float(number) => vec![*number],
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
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
    if run.methods.contains(&Method::Mix) && run.schedule.preference == Preference::Rrhf {
        let problem = "the preference steps of mix are DPO's";
        return Err(layers.refuse("schedule.preference", problem, "take \"dpo\", or leave \"mix\" out of methods"));
    }
    judge(layers, run)
}

/// PPO needs somebody who judges answers, and steps that are its alone.
fn judge(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    if !run.trains(Aim::Ppo) {
        return Ok(());
    }
    if run.methods.contains(&Method::Mix) {
        let problem = "mix draws between optimizer steps on demonstrations and on pairs, and a step of PPO is several";
        return Err(layers.refuse("schedule.preference", problem, "take \"dpo\", or leave \"mix\" out of methods"));
    }
    if run.ppo.kl_target > 0.0 && run.ppo.kl_horizon < run.ppo.training.batch_size as f64 {
        let problem = "the coefficient would leap: it is corrected after every step, by as much as a step has of these answers";
        return Err(layers.refuse("ppo.kl_horizon", problem, "set it to many times ppo.batch_size; 10000 is usual"));
    }
    if run.ppo.reward_model.as_os_str().is_empty() {
        let (problem, remedy) = (
            "PPO needs a reward model to judge answers",
            "name the folder of one; `hbat train` makes it with methods = [\"reward-model\"], `hbat recipes cp reward .` is an example",
        );
        return Err(layers.refuse("ppo.reward_model", problem, remedy));
    }
    Ok(())
}

fn formats(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let wrong = |choice, kind| Option::from(choice).is_some_and(|format: Format| format.kind() != kind);
    if wrong(run.data.demonstration_format, Kind::Demonstrations) {
        let problem = "this is a format of preferences";
        return Err(layers.refuse("data.demonstration_format", problem, "set data.preference_format, or take \"auto\" here"));
    }
    if wrong(run.data.preference_format, Kind::Preferences) {
        let problem = "this is a format of demonstrations";
        return Err(layers.refuse("data.preference_format", problem, "set data.demonstration_format, or take \"auto\" here"));
    }
    Ok(())
}

/// The toy makes its own data.
fn toy(layers: &Layers, run: &RunFile) -> Result<(), ConfigError> {
    let lists = [
        ("data.demonstrations", &run.data.demonstrations),
        ("data.preferences", &run.data.preferences),
        ("validation.demonstrations", &run.validation.demonstrations),
        ("validation.preferences", &run.validation.preferences),
    ];
    match lists.iter().find(|(_, files)| !files.is_empty()) {
        Some((key, _)) => {
            let problem = "model.path is \"toy\", which is trained on generated data only";
            Err(layers.refuse(key, problem, "set model.path to a model's folder, or remove the files"))
        }
        None if run.toy.digits[0] > run.toy.digits[1] => {
            Err(layers.refuse("toy.digits", "the fewest digits are more than the most", "write [fewest, most]"))
        }
        None => Ok(()),
    }
}

/// A model from a folder needs files of what its methods train on.
fn files(layers: &Layers, run: &RunFile, source: &str) -> Result<(), ConfigError> {
    let unset = |key, remedy| Err(ConfigError::Unset { source_name: source.to_owned(), key, remedy });
    if run.data.demonstrations.is_empty() && run.reads(Side::Instruction) {
        let remedy = "only \"preference-only\" and \"reward-model\" train on none; name files of prompts with a response";
        return unset("data.demonstrations", remedy);
    }
    if run.data.preferences.is_empty() && run.reads(Side::Preference) {
        return unset("data.preferences", "name files of prompts with two responses, or train with methods = [\"sft\"]");
    }
    let validated = !run.validation.demonstrations.is_empty() || !run.validation.preferences.is_empty();
    if run.schedule.continue_from == ContinueFrom::Best && !validated {
        let problem = "without validation data nothing is the best";
        return Err(layers.refuse("schedule.continue_from", problem, "name files in [validation], or set it to \"last\""));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_range() {
        let table = defaults::table();
        let ranged: BTreeSet<&str> = RANGES.iter().map(|(key, ..)| *key).collect();
        assert_eq!(ranged.len(), RANGES.len());
        let number = |key: &String| defaults::lookup(&table, key).is_some_and(|value| !numbers(value).is_empty());
        let missing: Vec<String> =
            defaults::keys(defaults::TEXT).into_iter().filter(number).filter(|key| !ranged.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(RANGES.iter().all(|(key, ..)| defaults::lookup(&table, key).is_some()));
    }

    #[test]
    fn no_range_holds_nan() {
        assert!(RANGES.iter().all(|(_, range, _)| !range.holds(f64::NAN)));
    }
}
