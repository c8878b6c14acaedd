//! What a run trains on: a model, its tokenizer, and data; or the built-in toy, which needs no files.

use anyhow::Context;
use hbat::compute::Compute;
use hbat::model::Policy;
use hbat::tokens::Group;
use hbat::toy::skill::{self, Problem};
use hbat::trainer::Data;

use crate::config::{DataPlan, Plan};
use crate::data::{Codec, Loaded, ReadOptions, load_demonstrations, load_preferences};
use crate::model::ModelFolder;
use crate::report::Display;

/// A loaded model and its data.
pub(crate) struct Inputs {
    pub(crate) folder: ModelFolder,
    pub(crate) data: Data,
    pub(crate) validation_demonstrations: Vec<Group>,
    pub(crate) validation_preferences: Vec<Group>,
    pub(crate) toy: Option<ToyTask>,
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

impl Inputs {
    /// Loads everything but the weights, which every method loads anew.
    pub(crate) fn load(plan: &Plan, display: &mut Display) -> anyhow::Result<Self> {
        match &plan.data {
            DataPlan::Toy(settings) => Self::toy(settings),
            DataPlan::Files(_) => Self::files(plan, display),
        }
    }

    fn toy(settings: &skill::SkillSettings) -> anyhow::Result<Self> {
        let folder = toy_folder()?;
        let skill::SkillData { demonstrations, preferences, problems } = skill::generate(settings)?;
        Ok(Self {
            folder,
            data: Data { demonstrations: demonstrations.train, preferences: preferences.train },
            validation_demonstrations: demonstrations.validation,
            validation_preferences: preferences.validation,
            toy: Some(ToyTask { problems }),
        })
    }

    fn files(plan: &Plan, display: &mut Display) -> anyhow::Result<Self> {
        let DataPlan::Files(files) = &plan.data else { unreachable!("load() matched") };
        let folder = ModelFolder::open(&plan.model)?;
        let codec = Codec::load(&plan.model, files.codec.clone())?;
        folder.check_vocabulary(codec.tokenizer().vocabulary())?;
        let mut read = |set: &Set<'_>| -> anyhow::Result<Vec<Group>> {
            if set.paths.is_empty() {
                return Ok(Vec::new());
            }
            let Loaded { groups, report } = (set.load)(set.paths, set.options, &codec)?;
            for line in report.summary_lines(set.name) {
                display.note(&line);
            }
            Ok(groups)
        };
        Ok(Self {
            data: Data {
                demonstrations: read(&Set::demonstrations("demonstrations", &files.demonstrations))?,
                preferences: read(&Set::preferences("preferences", &files.preferences))?,
            },
            validation_demonstrations: read(&Set::demonstrations("validation demonstrations", &files.validation_demonstrations))?,
            validation_preferences: read(&Set::preferences("validation preferences", &files.validation_preferences))?,
            toy: None,
            folder,
        })
    }

    /// The initial weights, on the device.
    pub(crate) fn policy(&self, compute: &Compute, display: &mut Display) -> anyhow::Result<Policy> {
        let total = self.folder.bytes();
        let mut done = 0;
        let policy = self.folder.load(compute.clone(), |bytes| {
            done += bytes;
            display.loading("weights", done, total);
        })?;
        Ok(policy)
    }
}

/// The toy's start checkpoint as a model folder, laid out in a temporary directory.
pub(crate) fn toy_folder() -> anyhow::Result<ModelFolder> {
    let directory = tempfile::tempdir().context("a temporary directory for the toy model")?;
    let files: [(&str, &[u8]); 2] = [
        ("config.json", include_bytes!("../../assets/toy/config.json")),
        ("model.safetensors", include_bytes!("../../assets/toy/model.safetensors")),
    ];
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).context("writing the toy model to a temporary directory")?;
    }
    // The weights are mapped, so they stay readable when the directory goes.
    Ok(ModelFolder::open(directory.path())?)
}
