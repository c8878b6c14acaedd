//! Who judges answers: a reward model that reads the policy's own tokens.

use std::path::Path;

use hbat::compute::Compute;
use hbat::generate::{Finish, GenerateSettings, generate};
use hbat::model::{HeadKind, LlamaConfig, Policy};
use hbat::ppo::Critics;
use hbat::tokens::{Group, Sequence};
use serde_json::Value;

use crate::evaluation::Scorer;
use crate::model::{ModelError, ModelFolder};
use crate::report::Bar;
use crate::signal::Interrupted;

/// A reward model's folder, and how answers end.
pub(crate) struct JudgeFolder {
    folder: ModelFolder,
    end: End,
}

/// How answers end.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// The token that ends one.
    pub(super) eos: u32,
    /// What a chat template puts behind it.
    pub(super) suffix: Vec<u32>,
}

impl End {
    /// As these responses end, of which those that were cut at `max_length` tokens say nothing; `None` where one does not contain the token.
    pub(super) fn of(eos: u32, preferences: &[Group], max_length: usize) -> Option<Self> {
        let mut whole = preferences.iter().flat_map(|group| &group.sequences).filter(|text| text.tokens().len() < max_length);
        let first = whole.next()?.response();
        let end = first.iter().rposition(|token| *token == eos)?;
        let suffix = first[end + 1..].to_vec();
        let ends = |sequence: &Sequence| sequence.response().ends_with(&first[end..]);
        whole.all(ends).then_some(Self { eos, suffix })
    }
}

/// A loaded reward model.
pub(crate) struct Judge {
    reward: Policy,
    end: End,
}

impl JudgeFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// If there is no reward model in it, or one that reads other tokens than the policy.
    pub(super) fn open(folder: &Path, policy: &ModelFolder, end: End) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(folder)?;
        if folder.config().architecture.head != HeadKind::Value {
            return Err(ModelError::LanguageModel { path: folder.path().to_path_buf() });
        }
        match foreign(&folder, policy) {
            Some(problem) => Err(ModelError::ForeignTokens { path: folder.path().to_path_buf(), problem }),
            None => Ok(Self { folder, end }),
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

    /// Whether it computes answers of so many tokens, prompt included, as it was made to.
    ///
    /// # Errors
    /// If its attention would see a part of them only.
    pub(super) fn check_length(&self, answered: usize) -> Result<(), ModelError> {
        self.folder.check_length(answered + self.end.suffix.len())
    }

    /// Loads the judge.
    ///
    /// # Errors
    /// If its weights cannot be read.
    pub(super) fn load(&self, compute: &Compute) -> anyhow::Result<Judge> {
        Ok(Judge { reward: self.weights("reward model", compute)?.as_seen(), end: self.end.clone() })
    }

    /// The loaded judge, and a critic that starts as the same.
    ///
    /// # Errors
    /// If its weights cannot be read.
    pub(super) fn with_critic(&self, judge: &Judge, compute: &Compute) -> anyhow::Result<Critics> {
        let critic = self.weights("critic", compute)?;
        Ok(Critics::new(&judge.reward, critic, vec![self.end.eos]).with_suffix(self.end.suffix.clone()))
    }

    fn weights(&self, name: &'static str, compute: &Compute) -> anyhow::Result<Policy> {
        let mut bar = Bar::bytes(name, self.folder.bytes());
        Ok(self.folder.load(compute.clone(), |bytes| bar.advance(bytes))?)
    }
}

impl Judge {
    /// The judge alone.
    pub(super) fn alone(&self) -> Critics {
        Critics::judge(&self.reward, vec![self.end.eos]).with_suffix(self.end.suffix.clone())
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
        let settings = GenerateSettings { max_new_tokens, eos: vec![self.end.eos], ..GenerateSettings::default() };
        let mut answers = Vec::with_capacity(preferences.len());
        for (part, groups) in preferences.chunks(scorer.micro_batch.max(1)).enumerate() {
            let prompts: Vec<Vec<u32>> = groups.iter().map(|group| group.sequences[0].prompt().to_vec()).collect();
            let completions = generate(policy, &prompts, &settings).await?;
            for (prompt, mut completion) in prompts.into_iter().zip(completions) {
                if completion.finish == Finish::Eos {
                    completion.tokens.extend(&self.end.suffix);
                }
                answers.push(Group::demonstration(0, Sequence::new(prompt, &completion.tokens)?));
            }
            progress(part * scorer.micro_batch + groups.len())?;
        }
        let rewards = scorer.score(&self.reward, &answers, &mut |_| progress(answers.len())).await?;
        Ok(rewards.iter().flatten().sum::<f64>() / preferences.len() as f64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_as_all_responses_do() {
        let pair = |chosen: &[u32], rejected: &[u32]| {
            let sequence = |response: &[u32]| Sequence::new(vec![9], response).unwrap();
            Group::preference(0, sequence(chosen), sequence(rejected))
        };
        let suffix = |pairs: &[Group]| End::of(2, pairs, 6).map(|end| end.suffix);
        assert_eq!(suffix(&[pair(&[5, 2], &[2])]), Some(vec![]));
        assert_eq!(suffix(&[pair(&[5, 2, 7], &[6, 2, 2, 7])]), Some(vec![7]));
        assert_eq!(suffix(&[pair(&[5, 2, 7], &[6, 2])]), None, "two ends");
        assert_eq!(suffix(&[pair(&[5], &[6])]), None, "no end");
        assert_eq!(suffix(&[]), None);
        let cut = [1, 1, 1, 1, 1];
        assert_eq!(suffix(&[pair(&cut, &cut), pair(&[5, 2, 7], &cut)]), Some(vec![7]), "cut texts say nothing");
        assert_eq!(suffix(&[pair(&cut, &cut)]), None);
    }
}
