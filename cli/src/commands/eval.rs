//! `hbat eval`: what a model makes of demonstrations and preferences, comparable with any other implementation. A reward model is one, too.

use std::io::Write;

use hbat::compute::Compute;
use hbat::model::{HeadKind, Policy};
use hbat::objective::Dpo;
use hbat::tokens::Group;

use crate::args::Eval;
use crate::data::{Codec, load_demonstrations, load_preferences};
use crate::evaluation::{Evaluation, evaluate_demonstrations, evaluate_preferences, reward_demonstrations, reward_preferences};
use crate::model::{ModelError, ModelFolder};
use crate::report::tell;
use crate::run::compute;

use super::reading::{check_length, codec, load, longest, open, score};

pub(super) async fn run(options: &Eval) -> anyhow::Result<i32> {
    let compute = compute(options.device)?;
    let codec = codec(&options.model, options.reading)?;
    let read = options.reading.read(options.limit);
    let files = &options.files;
    let demonstrations =
        if files.demonstrations.is_empty() { None } else { Some(load_demonstrations(&files.demonstrations, &read, &codec)?) };
    let preferences =
        if files.preferences.is_empty() { None } else { Some(load_preferences(&files.preferences, &read, &codec)?) };
    for warning in demonstrations.iter().chain(&preferences).flat_map(|loaded| loaded.report.warnings()) {
        tell(format_args!("warning: {warning}"));
    }
    let [demonstrations, preferences] = [demonstrations, preferences].map(|loaded| loaded.map(|loaded| loaded.groups));
    let mut evaluation = evaluate(options, (&codec, &compute), [demonstrations, preferences]).await?;
    if !options.per_example {
        evaluation.demonstration_examples.clear();
        evaluation.preference_examples.clear();
    }
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&evaluation)?)?
    } else {
        write!(out, "{evaluation}")?
    }
    Ok(0)
}

/// Demonstrations and preferences, where there are any.
type Examples = [Option<Vec<Group>>; 2];

/// What the model makes of them.
async fn evaluate(options: &Eval, (codec, compute): (&Codec, &Compute), examples: Examples) -> anyhow::Result<Evaluation> {
    let folder = open(&options.model, codec)?;
    let longest = examples.iter().flatten().map(|groups| longest(groups)).max().unwrap_or(0);
    check_length(&folder, longest)?;
    match (folder.config().architecture.head, &options.reference) {
        (HeadKind::Vocabulary, _) => likelihoods(options, (codec, compute), &folder, examples).await,
        (HeadKind::Value, None) => rewards(options.micro_batch, &load(&folder, compute)?, examples).await,
        (HeadKind::Value, Some(_)) => Err(ModelError::NeedsNoReference { path: options.model.clone() }.into()),
    }
}

/// A language model's.
async fn likelihoods(
    options: &Eval,
    (codec, compute): (&Codec, &Compute),
    folder: &ModelFolder,
    [demonstrations, preferences]: Examples,
) -> anyhow::Result<Evaluation> {
    let mut evaluation = Evaluation::default();
    let policy = load(folder, compute)?;
    if let Some(groups) = &demonstrations {
        let scores = score(options.micro_batch, &policy, groups, "demonstrations").await?;
        let (score, examples) = evaluate_demonstrations(groups, &scores);
        (evaluation.demonstrations, evaluation.demonstration_examples) = (Some(score), examples);
    }
    if let Some(groups) = &preferences {
        let scores = score(options.micro_batch, &policy, groups, "preferences").await?;
        drop(policy);
        let reference = match &options.reference {
            Some(folder) => {
                let folder = open(folder, codec)?.language_model()?;
                check_length(&folder, longest(groups))?;
                let reference = load(&folder, compute)?;
                Some(score(options.micro_batch, &reference, groups, "preferences, reference").await?)
            }
            None => None,
        };
        let dpo = Dpo { beta: options.beta, ..Dpo::default() };
        let (score, examples) = evaluate_preferences(groups, &scores, reference.as_ref(), dpo);
        (evaluation.preferences, evaluation.preference_examples) = (Some(score), examples);
    }
    Ok(evaluation)
}

/// A reward model's.
async fn rewards(micro_batch: usize, judge: &Policy, [demonstrations, preferences]: Examples) -> anyhow::Result<Evaluation> {
    let mut evaluation = Evaluation::default();
    if let Some(groups) = &demonstrations {
        let (score, examples) = reward_demonstrations(groups, &score(micro_batch, judge, groups, "demonstrations").await?);
        (evaluation.demonstration_rewards, evaluation.demonstration_examples) = (Some(score), examples);
    }
    if let Some(groups) = &preferences {
        let (score, examples) = reward_preferences(groups, &score(micro_batch, judge, groups, "preferences").await?);
        (evaluation.preference_rewards, evaluation.preference_examples) = (Some(score), examples);
    }
    Ok(evaluation)
}
