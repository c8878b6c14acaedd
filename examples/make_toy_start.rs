//! Makes one of the toy's start checkpoints: a tiny LLaMA that has learned to copy, reverse, sort and add, in no particular manner.
//!
//!     cargo run --release -p hbat-cli --example make_toy_start -- SIZE [FOLDER]
//!
//! Supervised fine-tuning from random weights on practice that begins with one digit. Writes `config.json`,
//! `generation_config.json` and `model.safetensors` (f16) into FOLDER, `core/assets/toy/SIZE` by default, and prints the exact
//! match of the weights as they were saved. Takes minutes; the same machine and thread count give the same file (the committed
//! one: `RAYON_NUM_THREADS=1`).

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use burn::tensor::Device;
use hbat::compute::Compute;
use hbat::consolidation::Consolidation;
use hbat::engine::Engine;
use hbat::model::Policy;
use hbat::objective::{Dpo, Reward, Rrhf};
use hbat::optimizer::{AdamWSettings, Decay};
use hbat::ppo::Ppo;
use hbat::rollout::Raft;
use hbat::schedule::{Method, Order, Preference, ScheduleSettings, Training, Warmup, phases};
use hbat::toy::random_policy;
use hbat::toy::skill::{EOS, PAD, Size, SkillSettings, generate, practice, score};
use hbat::trainer::{Data, Event, KeepStart, Settings, Trainer, UpdateTiming};
use hbat_cli::model::{Export, ModelFolder, SaveDtype, SpecialTokens};

const BATCH: usize = 48;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("which size? tiny, small or medium")?;
    let size = Size::ALL.into_iter().find(|size| size.name() == name).with_context(|| format!("{name:?} is no size"))?;
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/assets/toy").join(size.name());
    let folder = args.next().map_or(assets, PathBuf::from);
    let (seed, steps) = recipe(size);
    let compute = Compute::host(Device::flex());
    let data = Data { demonstrations: practice(seed, steps, BATCH), preferences: vec![] };
    let policy = random_policy(size.config(), compute.clone(), seed);
    let mut trainer = Trainer::new(policy, data, phases(&schedule()), settings(seed));
    while learn(&mut trainer).await? {}
    let tokens = SpecialTokens { bos: None, eos: Some(EOS), pad: Some(PAD) };
    let policy = trainer.policy();
    let export = Export { dtype: SaveDtype::F16, tokens, ..Export::new(policy.config(), None) };
    let trial = tempfile::tempdir()?;
    export.write_policy(policy, trial.path()).await?;
    let worst = measure(&ModelFolder::open(trial.path())?.load(compute, |_| {})?).await?;
    ensure!(worst >= 0.9, "the model has not learned its tasks; {} is left as it is", folder.display());
    Ok(export.write_policy(policy, &folder).await?)
}

/// Seed and steps of practice. Whether a small model understands addition is a matter of luck: its seed is the first of three.
fn recipe(size: Size) -> (u64, usize) {
    match size {
        Size::Tiny => (2, 6000),
        Size::Small | Size::Medium => (1, 3000),
    }
}

/// Does the next step; false when there is none.
async fn learn(trainer: &mut Trainer) -> anyhow::Result<bool> {
    match trainer.step().await? {
        Event::Step(report) if report.step % 250 == 0 => {
            println!("step {:>4}/{}  loss {:.4}", report.step, report.steps, report.loss);
            measure(trainer.policy()).await?;
        }
        Event::Finished => return Ok(false),
        _ => {}
    }
    Ok(true)
}

/// Prints the exact match of every task on problems that practice leaves out, and returns the worst.
async fn measure(policy: &Policy) -> anyhow::Result<f64> {
    let problems = generate(&SkillSettings { validation_demonstrations: 512, ..SkillSettings::default() })?.problems;
    let scores = score(policy, &problems).await?;
    println!("  exact match of copy, reverse, sort, add: {:.3?}", scores.by_task);
    Ok(scores.by_task.into_iter().fold(1.0, f64::min))
}

/// One phase of supervised fine-tuning, once through the practice as it is given.
fn schedule() -> ScheduleSettings {
    let optimizer = AdamWSettings { betas: (0.9, 0.95), ..AdamWSettings::default() };
    let warmup = Warmup { steps: 100, fraction: 1.0 };
    let sft = Training { learning_rate: 3e-3, decay: Decay::Cosine, warmup, batch_size: BATCH, epochs: 1, optimizer };
    ScheduleSettings {
        method: Method::Sft,
        subsets: 1,
        preference: Preference::Dpo,
        preference_training: sft,
        sft,
        consolidation: Consolidation::default(),
        freeze_fraction: 0.0,
        preference_probability: None,
    }
}

fn settings(seed: u64) -> Settings {
    Settings {
        seed,
        order: Order::AsGiven,
        engine: Engine::Whole,
        micro_batch: BATCH,
        bucket: 1,
        pack: None,
        dpo: Dpo::default(),
        ppo: Ppo::default(),
        rrhf: Rrhf::default(),
        raft: Raft::default(),
        reward: Reward::default(),
        keep_start: KeepStart::Copy,
        update: UpdateTiming::AfterBackward,
    }
}
