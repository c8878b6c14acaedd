//! Who judges the answers of PPO: a reward model that reads the policy's own tokens.

use hbat::compute::Compute;
use hbat::evaluate::sequence_scores;
use hbat::generate::{GenerateSettings, generate};
use hbat::model::{HeadKind, LlamaConfig, Policy};
use hbat::ppo::Critics;
use hbat::schedule::Aim;
use hbat::tokens::{Batch, Group, Sequence};
use serde_json::Value;

use crate::config::Plan;
use crate::evaluation::Scorer;
use crate::model::{ModelError, ModelFolder};
use crate::report::Bar;
use crate::signal::Interrupted;

/// A reward model's folder, and the token that ends an answer.
pub(crate) struct JudgeFolder {
    folder: ModelFolder,
    eos: u32,
}

/// A loaded reward model.
pub(crate) struct Judge {
    reward: Policy,
    eos: u32,
}

impl JudgeFolder {
    /// Opens the folder that a run of PPO names; `None` for other runs.
    ///
    /// # Errors
    /// If there is no reward model in it, or one that reads other tokens than the policy.
    pub(super) fn open(plan: &Plan, policy: &ModelFolder, eos: u32) -> Result<Option<Self>, ModelError> {
        if !plan.run.trains(Aim::Ppo) {
            return Ok(None);
        }
        let folder = ModelFolder::open(&plan.run.ppo.reward_model)?;
        if folder.config().head != HeadKind::Value {
            return Err(ModelError::LanguageModel { path: folder.path().to_path_buf() });
        }
        match foreign(&folder, policy) {
            Some(problem) => Err(ModelError::ForeignTokens { path: folder.path().to_path_buf(), problem }),
            None => Ok(Some(Self { folder, eos })),
        }
    }

    /// The model's configuration.
    pub(super) fn config(&self) -> &LlamaConfig {
        self.folder.config()
    }

    /// The model's folder.
    pub(super) fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn load(&self, compute: &Compute) -> anyhow::Result<Judge> {
        let mut bar = Bar::bytes("reward model", self.folder.bytes());
        Ok(Judge { reward: self.folder.load(compute.clone(), |bytes| bar.advance(bytes))?, eos: self.eos })
    }
}

impl Judge {
    /// The judge, and a critic that starts from it.
    pub(super) fn critics(&self) -> Critics {
        Critics::new(self.reward.clone(), vec![self.eos])
    }

    /// The mean reward of a policy's likeliest answers to the prompts of these preferences.
    ///
    /// # Errors
    /// If the device fails, or what `progress` returns.
    pub(super) async fn mean_reward(
        &self,
        (policy, preferences): (&Policy, &[Group]),
        (scorer, max_new_tokens): (Scorer, usize),
        progress: &mut dyn FnMut(usize) -> Result<(), Interrupted>,
    ) -> anyhow::Result<f64> {
        let settings = GenerateSettings { max_new_tokens, eos: vec![self.eos], ..GenerateSettings::default() };
        let mut sum = 0.0;
        for (part, groups) in preferences.chunks(scorer.micro_batch.max(1)).enumerate() {
            let prompts: Vec<Vec<u32>> = groups.iter().map(|group| group.sequences[0].prompt().to_vec()).collect();
            let completions = generate(policy, &prompts, &settings).await?;
            let mut answers = Vec::with_capacity(groups.len());
            for (prompt, completion) in prompts.into_iter().zip(completions) {
                answers.push(Group::demonstration(0, Sequence::new(prompt, &completion.tokens)?));
            }
            let rewards = sequence_scores(&self.reward, scorer.engine, &Batch::new(&answers, scorer.bucket)).await?;
            sum += rewards.into_iter().map(f64::from).sum::<f64>();
            progress(part * scorer.micro_batch + groups.len())?;
        }
        Ok(sum / preferences.len() as f64)
    }
}

/// How the tokens of two models differ.
fn foreign(reward: &ModelFolder, policy: &ModelFolder) -> Option<String> {
    let [knows, writes] = [reward, policy].map(|folder| folder.config().vocab_size);
    if knows < writes {
        return Some(format!("knows {knows} tokens, and the policy writes {writes}"));
    }
    let [reads, words] = [reward, policy].map(vocabulary);
    (reads.is_some() && words.is_some() && reads != words).then(|| "has a tokenizer of other words than the policy's".into())
}

/// What ids mean, where a folder says so.
fn vocabulary(folder: &ModelFolder) -> Option<[Value; 2]> {
    let (_, text) = folder.companions().find(|(name, _)| *name == "tokenizer.json")?;
    let mut tokenizer: Value = serde_json::from_slice(text).ok()?;
    let added = tokenizer["added_tokens"].as_array()?.iter().map(|token| [&token["id"], &token["content"]]);
    let added = serde_json::to_value(added.collect::<Vec<_>>()).ok()?;
    Some([tokenizer["model"]["vocab"].take(), added])
}
