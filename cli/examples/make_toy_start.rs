//! Makes the toy's start checkpoint: a tiny LLaMA that has learned to copy, reverse, sort and add, in no particular manner.
//!
//!     cargo run --release -p hbat-cli --example make_toy_start [-- FOLDER]
//!
//! Writes `config.json` and `model.safetensors` (f16) into FOLDER, `cli/assets/toy` by default, and prints the exact match
//! of the rounded weights. A few minutes on two cores; the same machine and thread count give the same file.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use burn::tensor::Device;
use hbat::compute::Compute;
use hbat::engine::{Accumulate, Engine};
use hbat::model::Policy;
use hbat::objective::Sft;
use hbat::optimizer::{AdamW, AdamWSettings, Decay, LearningRate};
use hbat::reduce::Alone;
use hbat::tokens::Batch;
use hbat::toy::random_policy;
use hbat::toy::skill::{EOS, PAD, SkillScores, SkillSettings, config, generate, practice, score};
use hbat::trainer::{Term, accumulate};
use hbat_cli::model::{Export, ModelFolder, SaveDtype, SpecialTokens};

const SEED: u64 = 0;
const BATCH: usize = 64;
const RATE: LearningRate = LearningRate { peak: 3e-3, decay: Decay::Cosine, warmup: 100, steps: 4000 };
const OPTIMIZER: AdamWSettings = AdamWSettings { betas: (0.9, 0.98), eps: 1e-8, weight_decay: 0.01, clip: 1.0 };

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/toy");
    let folder = std::env::args_os().nth(1).map_or(default, PathBuf::from);
    let compute = Compute::host(Device::flex());
    let mut policy = random_policy(config(), compute.clone(), SEED);
    train(&mut policy).await?;
    let scratch = tempfile::tempdir()?;
    save(&policy, &scratch.path().join("start")).await?;
    let rounded = ModelFolder::open(scratch.path().join("start"))?.load(compute, |_| {})?;
    let scores = measure(&rounded).await?;
    println!("as saved: {scores:?}");
    ensure!(scores.exact_match.covered.min(scores.exact_match.uncovered) >= 0.9, "the start has not learned its tasks");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    for name in ["config.json", "model.safetensors"] {
        let from = scratch.path().join("start").join(name);
        std::fs::copy(&from, folder.join(name)).with_context(|| format!("writing {name} to {}", folder.display()))?;
    }
    Ok(())
}

async fn train(policy: &mut Policy) -> anyhow::Result<()> {
    let units = policy.units().len();
    let mut optimizer = AdamW::new(OPTIMIZER, units);
    for step in 0..RATE.steps {
        let groups = practice(SEED, step as u64, BATCH, SkillSettings::default().digits);
        let term = Term { objective: &Sft, batches: vec![Batch::new(&groups, 1)], factor: 1.0 };
        let mut sink = Accumulate::new(units);
        let reports = accumulate(Engine::Whole, policy, &[term], &mut sink, &Alone).await?;
        optimizer.step(policy, sink.into_sums(), None, RATE.at(step), &Alone).await?;
        if (step + 1) % 500 == 0 {
            println!("step {}: loss {:.4}, {:?}", step + 1, reports[0].loss, measure(policy).await?.exact_match);
        }
    }
    Ok(())
}

async fn measure(policy: &Policy) -> anyhow::Result<SkillScores> {
    let settings = SkillSettings { validation_demonstrations: 1024, ..SkillSettings::default() };
    Ok(score(policy, &generate(&settings)?.problems).await?)
}

async fn save(policy: &Policy, folder: &Path) -> anyhow::Result<()> {
    let tokens = SpecialTokens { bos: None, eos: Some(EOS), pad: Some(PAD) };
    let export = Export { dtype: SaveDtype::F16, tokens, ..Export::new(policy.config(), None) };
    Ok(export.write_policy(policy, folder).await?)
}
