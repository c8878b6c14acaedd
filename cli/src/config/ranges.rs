//! What numbers settings accept.

use hbat::schedule::Aim;
use toml::Value;

use super::defaults;
use super::error::ConfigError;
use super::layers::Layers;

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
            Self::Positive => "must be greater than 0 and finite".into(),
            Self::PositiveOrInfinite => "must be greater than 0, or inf".into(),
            Self::NotNegative => "must be 0 or more".into(),
            Self::UpTo(most) => format!("must be greater than 0 and at most {}", said(most)),
            Self::From(least, MANY) => format!("must be {least} or more, and at most {MANY}"),
            Self::From(least, most) => format!("must be between {} and {}", said(least), said(most)),
            Self::Below(least, limit) => format!("must be at least {least} and less than {limit}"),
        }
    }
}

/// A number without a row of zeros.
fn said(number: f64) -> String {
    if number != 0.0 && !(1e-3..1e6).contains(&number) { format!("{number:e}") } else { number.to_string() }
}

/// More steps, examples or tokens than any run has; larger numbers are slips of the keyboard.
const MANY: f64 = 1e9;

/// More passes than any subset is worth; every one of their steps is planned beforehand.
const EPOCHS: Range = Range::From(1.0, 10_000.0);
/// What single precision holds with room to multiply.
const FACTOR: Range = Range::From(0.0, 1e30);

/// More than any model was made for.
const LONGEST: Range = Range::From(1.0, 65536.0);

/// At least one.
const COUNT: Range = Range::From(1.0, MANY);

/// Generated examples are in memory, all of them.
const GENERATED: Range = Range::From(1.0, 1e7);

/// A setting, the range of its number, and what to take instead of a number outside it.
type Row = (&'static str, Range, &'static str);

/// What the sections of [`Aim`]s share.
const TRAINING: [Row; 9] = [
    ("learning_rate", Range::Positive, "the default is for models of 7 billion parameters; small ones need more"),
    ("warmup_steps", Range::From(0.0, MANY), "0 means no warm-up"),
    ("warmup_ratio", Range::From(0.0, 1.0), "it is a part of the phase's steps"),
    ("batch_size", COUNT, "it counts the demonstrations, pairs or prompts of a step; engine.micro_batch is what bounds memory"),
    ("epochs", EPOCHS, "1 to 3 are usual; other methods leave an objective out"),
    ("betas", Range::Below(0.0, 1.0), "[0.9, 0.95] is usual"),
    ("eps", Range::From(1e-30, 1.0), "AdamW divides by it; 1e-8 is usual"),
    ("weight_decay", Range::NotNegative, "0.0 means no decay"),
    ("max_grad_norm", Range::PositiveOrInfinite, "1.0 is usual; inf switches clipping off"),
];

/// Every other number's range.
const RANGES: [Row; 53] = [
    ("data.max_length", Range::From(2.0, MANY), "a prompt and a response need a token each; 1024 is usual"),
    ("data.limit_demonstrations", COUNT, "give a number of examples, or \"all\""),
    ("data.limit_preferences", COUNT, "give a number of examples, or \"all\""),
    ("validation.limit_demonstrations", COUNT, "give a number of examples, or \"all\"; leave the list of files empty for none"),
    ("validation.limit_preferences", COUNT, "give a number of examples, or \"all\"; leave the list of files empty for none"),
    ("validation.every", Range::From(0.0, MANY), "0 validates at the end of every phase only"),
    ("toy.demonstrations", GENERATED, "the default is 1024"),
    ("toy.preferences", GENERATED, "the default is 1024"),
    ("toy.validation_demonstrations", GENERATED, "the default is 256"),
    ("toy.validation_preferences", GENERATED, "the default is 128"),
    ("toy.digits", Range::From(1.0, 12.0), "[3, 6] is the default"),
    ("toy.q_w", Range::From(0.0, 1.0), "it is a probability"),
    ("toy.q_l", Range::From(0.0, 1.0), "it is a probability"),
    ("schedule.subsets", COUNT, "1 does not alternate; the paper takes 2 for dialogue and 10 for summarisation"),
    ("schedule.freeze_fraction", Range::Below(0.0, 1.0), "1 would train nothing; it is a part of all units; the paper takes 0.2"),
    ("schedule.preference_probability", Range::From(0.0, 1.0), "it is a probability, or \"auto\""),
    ("dpo.beta", Range::UpTo(1e30), "0.1 is usual"),
    ("dpo.label_smoothing", Range::Below(0.0, 0.5), "it is the probability that a label is wrong; at 0.5 labels say nothing"),
    ("dpo.nll_coefficient", FACTOR, "0.0 is DPO alone; 1 is usual for DPO+NLL"),
    ("ppo.kl_coefficient", FACTOR, "0.0 lets the policy go where it likes; 0.1 is the paper's"),
    (
        "ppo.kl_target",
        Range::NotNegative,
        "it is a number of nats per answer, 6 in Ziegler et al.; 0.0 leaves the coefficient alone",
    ),
    ("ppo.drop_fraction", Range::Below(0.0, 1.0), "0.3 is the paper's HBAT+ESRL; 0.0 trains on all answers"),
    ("ppo.sft_coefficient", FACTOR, "0 for PPO alone, 1 for as much as the policy's own loss"),
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
    ("ppo.max_new_tokens", LONGEST, "the paper takes 512 for dialogue; memory is planned for answers of this length"),
    ("ppo.temperature", Range::Positive, "1.0 draws answers from the policy as it is"),
    ("ppo.top_p", Range::UpTo(1.0), "1.0 keeps every token"),
    ("ppo.rollout_batch", COUNT, "it counts answers that are written together; 1 needs the least memory"),
    ("raft.answers", Range::From(1.0, 1000.0), "4 is usual; 1 trains on whatever the policy says"),
    ("raft.max_new_tokens", LONGEST, "512 is usual; memory is planned for answers of this length"),
    ("raft.temperature", Range::Positive, "1.0 draws answers from the policy as it is"),
    ("raft.top_p", Range::UpTo(1.0), "1.0 keeps every token"),
    ("raft.rollout_batch", COUNT, "it counts answers that are written together; 1 needs the least memory"),
    ("consolidation.lambda", FACTOR, "0.0 means no penalty; the paper takes 1"),
    ("consolidation.f_max", FACTOR, "0.0 means no penalty; the paper takes 50 to 100"),
    ("rrhf.length_exponent", Range::NotNegative, "1.0 is the mean over tokens, 0.0 the sum"),
    ("rrhf.nll_coefficient", FACTOR, "1.0 is RRHF; 0.0 ranks alone"),
    ("reward.centering_coefficient", FACTOR, "0.0 leaves rewards where they are; 0.01 is usual where they are to be centred"),
    ("engine.micro_batch", COUNT, "it counts the sequences of a forward pass; 1 needs the least memory"),
    ("engine.bucket", Range::From(1.0, 65536.0), "1 pads to the longest sequence of the pass and no further"),
    ("engine.pack", Range::From(0.0, 1_048_576.0), "it is the tokens of a row; 0 gives every sequence a row of its own"),
    ("checkpoints.every", Range::From(0.0, MANY), "0 saves at phase boundaries only"),
    ("checkpoints.keep", COUNT, "a run needs one checkpoint to go on from; 2 survive a damaged one"),
    ("seed", Range::From(0.0, i64::MAX as f64), "any number will do"),
];

/// Refuses the first number that is out of its range.
pub(super) fn check(layers: &Layers) -> Result<(), ConfigError> {
    for (key, range, remedy) in rows() {
        let numbers = defaults::lookup(layers.table(), &key).map(numbers).unwrap_or_default();
        if numbers.iter().any(|number| !range.holds(*number)) {
            let each = if numbers.len() > 1 { "each number " } else { "" };
            return Err(layers.refuse(&key, format!("{each}{}", range.words()), remedy));
        }
    }
    Ok(())
}

fn rows() -> impl Iterator<Item = (String, Range, &'static str)> {
    let of_section = |aim: Aim| TRAINING.map(|(key, range, remedy)| (format!("{}.{key}", aim.name()), range, remedy));
    let others = RANGES.into_iter().map(|(key, range, remedy)| (key.to_owned(), range, remedy));
    others.chain(Aim::ALL.into_iter().flat_map(of_section))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_has_a_range() {
        let table = defaults::table();
        let ranged: BTreeSet<String> = rows().map(|(key, ..)| key).collect();
        assert_eq!(ranged.len(), rows().count());
        let number = |key: &String| defaults::lookup(&table, key).is_some_and(|value| !numbers(value).is_empty());
        let missing: Vec<String> =
            defaults::keys(defaults::TEXT).into_iter().filter(number).filter(|key| !ranged.contains(key)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(ranged.iter().all(|key| defaults::lookup(&table, key).is_some()));
    }

    #[test]
    fn no_range_holds_nan() {
        assert!(rows().all(|(_, range, _)| !range.holds(f64::NAN)));
    }
}
