//! What a run trains on: a model, its tokenizer, and data; or the built-in toy, which needs no files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use hbat::compute::Compute;
use hbat::model::Policy;
use hbat::schedule::Aim;
use hbat::tokens::Group;
use hbat::toy::skill::{self, Problem, Size};
use hbat::trainer::Data;
use serde_json::{Map, Value, json};

use super::judge::{End, JudgeFolder};
use crate::config::{Judged, Plan, Start};
use crate::data::{Codec, CodecOptions, DataError, Format, Kind, Loaded, ReadOptions};
use crate::data::{load_answerable, load_demonstrations, load_preferences};
use crate::model::{ModelError, ModelFolder};
use crate::report::Bar;
use crate::text::TextError;

/// A loaded model and its data.
pub(crate) struct Inputs {
    pub(crate) folder: Arc<ModelFolder>,
    pub(crate) data: Data,
    /// Who judges answers, in a run that trains on them.
    pub(crate) judge: Option<JudgeFolder>,
    pub(crate) validation_demonstrations: Vec<Group>,
    pub(crate) validation_preferences: Vec<Group>,
    pub(crate) toy: Option<ToyTask>,
    /// When the run began, in seconds since 1970 (UTC).
    pub(crate) began: f64,
}

/// The toy's own measure: exact match of generated answers.
#[derive(Debug, Clone)]
pub(crate) struct ToyTask {
    problems: Vec<Problem>,
}

impl ToyTask {
    /// Shares of right answers and of casual ones, on the tasks that preferences cover and on the others.
    pub(crate) async fn measure(&self, policy: &Policy) -> anyhow::Result<Vec<(String, f64)>> {
        let scores = skill::score(policy, &self.problems).await?;
        Ok(vec![
            ("exact match, covered".into(), scores.exact_match.covered),
            ("exact match, uncovered".into(), scores.exact_match.uncovered),
            ("casual, covered".into(), scores.casual.covered),
        ])
    }
}

/// What reading has to say.
pub(super) enum Found {
    /// What there is.
    Note(String),
    /// What one should hear about even when not asking.
    Warning(String),
}

impl Inputs {
    /// Loads everything but the weights, which every method loads anew, for a run that `began` at this time.
    pub(crate) fn load(plan: &Plan, began: f64, say: &mut dyn FnMut(Found)) -> anyhow::Result<Self> {
        match &plan.start {
            Start::Toy => Self::toy(plan, began),
            Start::Folder(folder) => Self::files(plan, folder, began, say),
        }
    }

    fn toy(plan: &Plan, began: f64) -> anyhow::Result<Self> {
        let settings = plan.run.toy.settings(plan.run.seed);
        let skill::SkillData { demonstrations, preferences, problems } = skill::generate(&settings)
            .map_err(|error| plan.refuse("toy", error.to_string(), "change the counts or probabilities"))?;
        let folder = headed(plan, toy_folder(plan.run.toy.size)?)?;
        let end = End { eos: skill::EOS, suffix: Vec::new() };
        let open = |judged: Judged<'_>| JudgeFolder::open(judged.reward_model, &folder, end);
        let judge = plan.run.judged().map(open).transpose()?;
        Ok(Self {
            judge,
            folder: Arc::new(folder),
            data: Data { demonstrations: demonstrations.train, preferences: preferences.train },
            validation_demonstrations: demonstrations.validation,
            validation_preferences: preferences.validation,
            toy: Some(ToyTask { problems }),
            began,
        })
    }

    fn files(plan: &Plan, folder: &Path, began: f64, say: &mut dyn FnMut(Found)) -> anyhow::Result<Self> {
        let (data, validation) = (&plan.run.data, &plan.run.validation);
        let codec = CodecOptions { template: data.template, max_length: data.max_length, too_long: data.too_long };
        let codec = Codec::load(folder, codec)?.at(began)?;
        let folder = headed(plan, ModelFolder::open(folder)?)?;
        folder.check_vocabulary(codec.tokenizer().vocabulary())?;
        for tensor in folder.unused_tensors() {
            say(Found::Note(format!("tensor {tensor} of the model is not used")));
        }
        let judged = plan.run.judged();
        let preferences: Load = if judged.is_some() { load_answerable } else { load_preferences };
        let mut read = |what: &str, kind: Kind, files: &[PathBuf], limit: Option<usize>| {
            let (format, columns, load): (Option<Format>, _, Load) = match kind {
                Kind::Demonstrations => (data.demonstration_format.into(), &data.demonstration_columns, load_demonstrations),
                Kind::Preferences | Kind::Prompts => (data.preference_format.into(), &data.preference_columns, preferences),
            };
            if files.is_empty() {
                return Ok(Vec::new());
            }
            let loaded = load(files, &ReadOptions { format, limit, columns: columns.clone() }, &codec)?;
            say(Found::Note(format!("{what}: {}", loaded.report)));
            loaded.report.warnings().into_iter().for_each(|warning| say(Found::Warning(format!("{what}: {warning}"))));
            let pairs = kind == Kind::Preferences && loaded.report.unanswered.is_empty();
            if judged.is_some() && pairs && !loaded.report.dropped.is_empty() {
                let remedy = "data.preference_format = \"prompt\" reads prompts alone, which are all that is trained on";
                say(Found::Warning(format!("{what}: some are too long for their responses' sake: {remedy}")));
            }
            Ok::<_, DataError>(loaded.groups)
        };
        let mut pair = |what: &str, files: [&[PathBuf]; 2], limits: [Option<usize>; 2]| {
            let demonstrations = read(&format!("{what}demonstrations"), Kind::Demonstrations, files[0], limits[0])?;
            Ok::<_, DataError>((demonstrations, read(&format!("{what}preferences"), Kind::Preferences, files[1], limits[1])?))
        };
        let limits = [data.limit_demonstrations.count(), data.limit_preferences.count()];
        let (demonstrations, preferences) = pair("", [&data.demonstrations, &data.preferences], limits)?;
        let limits = [validation.limit_demonstrations.count(), validation.limit_preferences.count()];
        let validated = pair("validation ", [&validation.demonstrations, &validation.preferences], limits)?;
        let (validation_demonstrations, validation_preferences) = validated;
        let judge = match judged {
            Some(Judged { reward_model, .. }) => Some(JudgeFolder::open(reward_model, &folder, end(&codec, &preferences, say)?)?),
            None => None,
        };
        let answered = judged.map_or(0, |judged| judged.max_new_tokens);
        let answerable = preferences.iter().chain(&validation_preferences);
        let written = answerable.clone().map(|group| group.sequences[0].prompt().len() + answered);
        let read = demonstrations.iter().chain(&validation_demonstrations).chain(answerable).map(Group::longest);
        let written = written.max().unwrap_or(0);
        let longest = read.max().unwrap_or(0).max(written);
        let made_for = folder.config().max_position_embeddings;
        if longest > made_for {
            say(Found::Warning(format!(
                "the longest text may have {longest} tokens, and the model was made for {made_for}: lower data.max_length{}",
                judged.map_or(String::new(), |judged| format!(" or {}.max_new_tokens", judged.section))
            )));
        }
        folder.check_length(longest)?;
        judge.as_ref().map_or(Ok(()), |judge| judge.check_length(written))?;
        let (data, folder) = (Data { demonstrations, preferences }, Arc::new(folder));
        Ok(Self { folder, data, judge, validation_demonstrations, validation_preferences, toy: None, began })
    }

    /// The initial weights, on the device.
    pub(crate) fn policy(&self, compute: &Compute) -> anyhow::Result<Policy> {
        let mut bar = Bar::bytes("weights", self.folder.bytes());
        Ok(self.folder.load(compute.clone(), |bytes| bar.advance(bytes))?)
    }
}

/// How answers are to end: as the responses do that the judge will have learned from.
fn end(codec: &Codec, preferences: &[Group], say: &mut dyn FnMut(Found)) -> Result<End, TextError> {
    let eos = codec.tokenizer().end()?;
    Ok(End::of(eos, preferences, codec.max_length()).unwrap_or_else(|| {
        let problem =
            "responses of the preferences do not all end with the tokenizer's eos_token, or all were cut: answers may run to max_new_tokens";
        say(Found::Warning(problem.into()));
        End { eos, suffix: Vec::new() }
    }))
}

/// The model with the head that the run's methods train.
fn headed(plan: &Plan, folder: ModelFolder) -> Result<ModelFolder, ModelError> {
    if plan.run.trains(Aim::Reward) { Ok(folder.reward_model(plan.run.seed)) } else { folder.language_model() }
}

/// Either of the data readers.
type Load = fn(&[PathBuf], &ReadOptions, &Codec) -> Result<Loaded, DataError>;

/// The toy's start checkpoint as a model folder, laid out in a temporary directory.
pub(crate) fn toy_folder(size: Size) -> anyhow::Result<ModelFolder> {
    let directory = tempfile::tempdir().context("a temporary directory for the toy model")?;
    let [tokenizer, names] = tokenizer().map(|value| value.to_string());
    let texts = [("tokenizer.json", tokenizer.as_bytes()), ("tokenizer_config.json", names.as_bytes())];
    for (name, bytes) in size.files().into_iter().chain(texts) {
        std::fs::write(directory.path().join(name), bytes).context("writing the toy model to a temporary directory")?;
    }
    // The weights are mapped, so they stay readable when the directory goes.
    Ok(ModelFolder::open(directory.path())?)
}

/// The toy's words as `tokenizer.json` and `tokenizer_config.json`, so that its models answer `hbat generate` and load elsewhere.
fn tokenizer() -> [Value; 2] {
    let [pad, end] = [skill::PAD, skill::EOS].map(|id| skill::TOKENS[id as usize]);
    let vocabulary: Map<String, Value> = skill::TOKENS.iter().enumerate().map(|(id, word)| ((*word).into(), json!(id))).collect();
    let added = json!({
        "id": skill::PAD, "content": pad, "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": [added],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        // There is no such token: what is no word of the toy is an error.
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    });
    let names = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": false, "eos_token": end, "pad_token": pad,
        "clean_up_tokenization_spaces": false, "model_max_length": 64,
    });
    [tokenizer, names]
}

#[cfg(test)]
mod tests {
    use hbat_backends::DeviceName;

    use super::*;
    use crate::text::{Special, Tokenizer};

    #[test]
    fn the_toy_s_tokenizer_reads_and_writes_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let [tokenizer, names] = tokenizer().map(|value| value.to_string());
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), names).unwrap();
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let text = skill::TOKENS[1..].join(" ");
        let tokens = tokenizer.encode(&text).unwrap();
        assert_eq!(tokens, skill::encode(&text).unwrap());
        assert_eq!(tokenizer.decode(&tokens, Special::Shown).unwrap(), text);
        assert_eq!((tokenizer.eos(), tokenizer.bos(), tokenizer.beginning()), (Some(skill::EOS), None, None));
        assert!(tokenizer.encode("sort pears =").is_err());
    }

    #[test]
    fn every_start_of_the_toy_is_small_and_has_learned_every_task() {
        let settings = skill::SkillSettings { seed: 77, validation_demonstrations: 800, ..skill::SkillSettings::default() };
        let problems = skill::generate(&settings).unwrap().problems;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for size in Size::ALL {
            assert!(size.files().iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= 500_000);
            let policy = toy_folder(size).unwrap().load(crate::run::compute(DeviceName::Cpu).unwrap(), |_| {}).unwrap();
            assert_eq!(policy.config(), &size.config());
            let scores = runtime.block_on(skill::score(&policy, &problems)).unwrap();
            assert!(scores.by_task.iter().all(|share| *share >= 0.9), "{size:?}: {scores:?}");
        }
    }
}
