//! `hbat eval`: what a model makes of demonstrations and preferences, comparable with any other implementation.

use std::io::Write;
use std::path::Path;

use hbat::compute::Compute;
use hbat::engine::Engine;
use hbat::model::Policy;
use hbat::objective::Dpo;
use hbat::tokens::Group;

use crate::args::Eval;
use crate::data::{Codec, load_demonstrations, load_preferences};
use crate::evaluation::{Evaluation, Scorer, Sequences, evaluate_demonstrations, evaluate_preferences};
use crate::model::ModelFolder;
use crate::report::Bar;
use crate::run::compute;

/// Sequence lengths are padded to a multiple of this.
const BUCKET: usize = 8;

pub(super) async fn run(options: &Eval) -> anyhow::Result<i32> {
    let compute = compute(options.device)?;
    let codec = Codec::load(&options.model, options.reading.codec())?;
    let read = options.reading.read(options.limit);
    let files = &options.files;
    let demonstrations =
        if files.demonstrations.is_empty() { None } else { Some(load_demonstrations(&files.demonstrations, &read, &codec)?) };
    let preferences =
        if files.preferences.is_empty() { None } else { Some(load_preferences(&files.preferences, &read, &codec)?) };
    for warning in demonstrations.iter().chain(&preferences).flat_map(|loaded| loaded.report.warnings()) {
        eprintln!("warning: {warning}");
    }
    let policy = load(&options.model, &codec, &compute)?;
    let scorer = Scorer { engine: Engine::Segmented, micro_batch: options.micro_batch, bucket: BUCKET };
    let mut evaluation = Evaluation::default();
    if let Some(loaded) = &demonstrations {
        let scores = score(&scorer, &policy, &loaded.groups, "demonstrations").await?;
        let (score, examples) = evaluate_demonstrations(&loaded.groups, &scores);
        evaluation.demonstrations = Some(score);
        evaluation.demonstration_examples = examples;
    }
    if let Some(loaded) = &preferences {
        let scores = score(&scorer, &policy, &loaded.groups, "preferences").await?;
        drop(policy);
        let reference = match &options.reference {
            Some(folder) => {
                let reference = load(folder, &codec, &compute)?;
                Some(score(&scorer, &reference, &loaded.groups, "preferences, reference").await?)
            }
            None => None,
        };
        let dpo = Dpo { beta: options.beta, ..Dpo::default() };
        let (score, examples) = evaluate_preferences(&loaded.groups, &scores, reference.as_ref(), dpo);
        evaluation.preferences = Some(score);
        evaluation.preference_examples = examples;
    }
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

fn load(folder: &Path, codec: &Codec, compute: &Compute) -> anyhow::Result<Policy> {
    let folder = ModelFolder::open(folder)?;
    folder.check_vocabulary(codec.tokenizer().vocabulary())?;
    let mut bar = Bar::bytes("weights", folder.bytes());
    Ok(folder.load(compute.clone(), |bytes| bar.advance(bytes))?)
}

async fn score(scorer: &Scorer, policy: &Policy, groups: &[Group], what: &str) -> anyhow::Result<Sequences> {
    let mut bar = Bar::items(what, groups.len() as u64);
    let mut progress = |done| {
        bar.set(done as u64);
        Ok(())
    };
    scorer.score(policy, groups, &mut progress).await
}
