//! Opening a model folder and loading its weights.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use hbat::compute::Compute;
use hbat::model::{ConfigFileError, Family, HeadKind, LlamaConfig, Policy, Unit, fresh_value_head};
use serde_json::Value;

use super::error::ModelError;
use super::weights::Weights;

/// Files that belong to a model besides its configuration and weights. They are kept as they are.
pub(super) const COMPANIONS: [&str; 15] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "USE_POLICY.md",
];

/// The unit of a value head.
const VALUE_HEAD: &str = "score.weight";

/// A model in the Hugging Face layout: configuration read, weights found and checked against it, but not loaded.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: LlamaConfig,
    raw: Value,
    weights: Weights,
    /// The head of a reward model to be, in the place of a vocabulary's.
    fresh_head: Option<Vec<f32>>,
    companions: Vec<(String, Vec<u8>)>,
}

impl ModelFolder {
    /// Opens a folder. Every tensor's presence, shape and type are checked here; values are while loading.
    ///
    /// # Errors
    /// What is missing, damaged, or does not fit.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let (config, raw) = read_config(path)?;
        let weights = Weights::open(path)?;
        weights.check(&config)?;
        // Kept in memory, because the folder may be gone when a run of days ends and its result is written.
        let companions = read_companions(path)?;
        Ok(Self { path: path.to_path_buf(), config, raw, weights, fresh_head: None, companions })
    }

    /// The same, if there is a vocabulary above it.
    ///
    /// # Errors
    /// If it is a reward model: it has nothing to say.
    pub fn language_model(self) -> Result<Self, ModelError> {
        match self.config.architecture.head {
            HeadKind::Vocabulary => Ok(self),
            HeadKind::Value => Err(ModelError::RewardModel { path: self.path }),
        }
    }

    /// The same as a reward model. A language model's vocabulary goes, and a head comes that knows nothing yet.
    pub fn reward_model(mut self, seed: u64) -> Self {
        if self.config.architecture.head == HeadKind::Vocabulary {
            self.config.architecture.head = HeadKind::Value;
            self.fresh_head = Some(fresh_value_head(&self.config, seed));
        }
        self
    }

    /// The tokens that end texts, as transformers' generation has them.
    pub fn ends(&self) -> Vec<u32> {
        let generation = self.companions().find(|(name, _)| *name == "generation_config.json");
        let generation: Option<Value> = generation.and_then(|(_, bytes)| serde_json::from_slice(bytes).ok());
        let ends = generation.as_ref().unwrap_or(&self.raw).get("eos_token_id");
        let ids = ends.map_or(&[][..], |ends| ends.as_array().map_or(std::slice::from_ref(ends), Vec::as_slice));
        ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    }

    /// Whether it computes texts of so many tokens as it was made to.
    ///
    /// # Errors
    /// If its attention would see a part of them only.
    pub fn check_length(&self, tokens: usize) -> Result<(), ModelError> {
        match self.config.sliding_window {
            Some(window) if tokens > window => Err(ModelError::Window { path: self.path.join("config.json"), window, tokens }),
            _ => Ok(()),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration, as far as it matters here.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// All of `config.json`.
    pub fn raw_config(&self) -> &Value {
        &self.raw
    }

    /// Files that go with the model, by name.
    pub fn companions(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.companions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Tensors outside the model, such as a language model's value head; they are not loaded, and whoever opened the folder should say so.
    pub fn unused_tensors(&self) -> Vec<String> {
        let units = self.config.units();
        let used = |name: &&String| self.fresh_head.is_none() && units.iter().any(|unit| unit.name == **name);
        self.weights.heads_of_others().into_iter().filter(|name| !used(&name)).collect()
    }

    /// Bytes that [`ModelFolder::load`] reads, for a progress bar.
    pub fn bytes(&self) -> u64 {
        self.config.units().iter().map(|unit| self.weights.bytes_of(unit)).sum()
    }

    /// Reads one tensor as f32 in the layout of [`Unit::dims`].
    ///
    /// # Errors
    /// If it cannot be read, or holds anything but numbers.
    pub fn read(&self, unit: &Unit) -> Result<TensorData, ModelError> {
        let values = match &self.fresh_head {
            Some(head) if unit.name == VALUE_HEAD => head.clone(),
            _ => self.weights.read(unit)?,
        };
        Ok(TensorData::new(values, unit.dims()))
    }

    /// Loads the model, reporting the bytes of each tensor when it is done.
    ///
    /// # Errors
    /// As [`ModelFolder::read`], or a tied model with a head of its own.
    pub fn load(&self, compute: Compute, mut progress: impl FnMut(u64)) -> Result<Policy, ModelError> {
        self.weights.check_tied_head(&self.config)?;
        Policy::load(self.config.clone(), compute, |unit| {
            let data = self.read(unit)?;
            progress(self.weights.bytes_of(unit));
            Ok(data)
        })
    }

    /// Checks that every token id has an embedding. `tokenizer` is the highest id plus one.
    ///
    /// # Errors
    /// If it has not. An embedding larger than the tokenizer is common padding, and fine.
    pub fn check_vocabulary(&self, tokenizer: usize) -> Result<(), ModelError> {
        let embeddings = self.config.vocab_size;
        if tokenizer <= embeddings {
            return Ok(());
        }
        Err(ModelError::Vocabulary { tokenizer, embeddings, config: self.path.join("config.json") })
    }
}

/// The configuration of a model folder, and all of its `config.json`.
///
/// # Errors
/// If the folder or the file is not there, or the file does not describe a model that is supported.
pub fn read_config(folder: &Path) -> Result<(LlamaConfig, Value), ModelError> {
    if folder.is_file() {
        return Err(ModelError::NotAFolder { path: folder.to_path_buf() });
    }
    if !folder.is_dir() {
        return Err(ModelError::NoFolder { path: folder.to_path_buf() });
    }
    let path = folder.join("config.json");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelError::NoConfig { path: folder.to_path_buf() });
        }
        other => other.map_err(|reason| ModelError::Unreadable { path: path.clone(), reason })?,
    };
    let json = |error: serde_json::Error| ModelError::Json { path: path.clone(), reason: error.to_string() };
    let raw: Value = serde_json::from_slice(&text).map_err(json)?;
    // First of all: another architecture's file would else be blamed for a missing field.
    match raw.get("model_type").and_then(Value::as_str) {
        Some(other) if Family::of_type(other).is_none() => {
            return Err(ModelError::ModelType { path, found: other.into() });
        }
        _ => {}
    }
    match LlamaConfig::from_json(&text) {
        Ok(config) => Ok((config, raw)),
        Err(ConfigFileError::Json(error)) => Err(json(error)),
        Err(ConfigFileError::Config(reason)) => Err(ModelError::Config { path, reason }),
    }
}

fn read_companions(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
    let present = COMPANIONS.into_iter().filter(|name| folder.join(name).is_file());
    let read = |name: &str| {
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(|reason| ModelError::Unreadable { path, reason })?;
        Ok((name.to_string(), bytes))
    };
    present.map(read).collect()
}
