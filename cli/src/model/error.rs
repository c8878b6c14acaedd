//! Why a model folder cannot be used or written.

use std::path::PathBuf;

use hbat::model::{ConfigError, Family, InitError};

use crate::store::{StoreError, TensorFileError};

/// An error of a model folder. Each names the file, the field or the tensor, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no such folder.
    #[error(
        "there is no model folder {}: give one with config.json, model.safetensors and tokenizer.json, such as \
         `hf download ORGANISATION/MODEL --local-dir {}` makes",
        path.display(),
        path.display()
    )]
    NoFolder {
        /// What was given.
        path: PathBuf,
    },
    /// The path of a file was given.
    #[error("{} is a file: give the model's folder, with config.json, model.safetensors and tokenizer.json", path.display())]
    NotAFolder {
        /// What was given.
        path: PathBuf,
    },
    /// A folder without `config.json`.
    #[error("{} has no config.json: give the folder of a model in the Hugging Face layout", path.display())]
    NoConfig {
        /// The folder.
        path: PathBuf,
    },
    /// A file that the system would not give.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// JSON that is none, or does not say what it has to.
    #[error("{}: {reason}; correct the file or fetch it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A model that is not implemented, or a description of none.
    #[error("{}: {reason}; hbat computes no such model", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: ConfigError,
    },
    /// Another architecture.
    #[error("{}: `model_type` is {found}; supported: {}", path.display(), Family::MODEL_TYPES)]
    ModelType {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Texts that are longer than what a token sees.
    #[error(
        "{}: `sliding_window` is {window}, and attention in a window is not implemented: a text may have {tokens} tokens; set a \
         lower maximum",
        path.display()
    )]
    Window {
        /// The file.
        path: PathBuf,
        /// What a token sees.
        window: usize,
        /// The longest text.
        tokens: usize,
    },
    /// A reward model where a language model is needed.
    #[error(
        "{} is a reward model (config.json: …ForSequenceClassification), which has no vocabulary: give a language model, \
         or train with methods = [\"reward-model\"] and judge with `hbat eval`",
        path.display()
    )]
    RewardModel {
        /// The folder.
        path: PathBuf,
    },
    /// A language model that is to judge answers.
    #[error(
        "{} is a language model, which gives no rewards: name the folder of a reward model, such as `hbat train` with \
         methods = [\"reward-model\"] makes",
        path.display()
    )]
    LanguageModel {
        /// The folder.
        path: PathBuf,
    },
    /// A judge that reads other tokens than the policy writes.
    #[error(
        "{} {problem}: it would judge other texts than were written; train the reward model from the policy's own family",
        path.display()
    )]
    ForeignTokens {
        /// The reward model's folder.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// A reference for a reward model.
    #[error("{} is a reward model, whose rewards need no reference: leave --reference out", path.display())]
    NeedsNoReference {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without weights that can be read.
    #[error("{} has no model.safetensors or model.safetensors.index.json{found}. {remedy}", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// " but pytorch_model.bin", or nothing.
        found: String,
        /// What to do about what was found.
        remedy: &'static str,
    },
    /// The index names a file that is not there.
    #[error("{} names {shard}, which is not there: the download is incomplete, fetch that file", index.display())]
    NoShard {
        /// The index.
        index: PathBuf,
        /// The shard.
        shard: String,
    },
    /// A file of weights that is damaged, or a tensor in it that cannot be used.
    #[error("{error}. {remedy}")]
    Weights {
        /// What is wrong.
        error: TensorFileError,
        /// What to do.
        remedy: &'static str,
    },
    /// Tensors of the model that the configuration knows nothing of.
    #[error("{}: {} that config.json has no place for, first `{}`. {remedy}", file.display(), plural(names.len()), names[0])]
    Unexpected {
        /// The first such tensor's file.
        file: PathBuf,
        /// Their names, sorted; at least one.
        names: Vec<String>,
        /// What to do.
        remedy: &'static str,
    },
    /// A head of its own in a model that says it has none.
    #[error(
        "{}: `lm_head.weight` differs from `model.embed_tokens.weight` though config.json says `tie_word_embeddings` is true; \
         set it to false",
        file.display()
    )]
    HeadNotTied {
        /// The head's file.
        file: PathBuf,
    },
    /// A tokenizer that makes token ids without an embedding.
    #[error(
        "the tokenizer has {tokenizer} tokens but the model only {embeddings} embeddings (`vocab_size` in {}): they do not \
         belong together, or tokens were added without resizing the model",
        config.display()
    )]
    Vocabulary {
        /// Token ids of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        embeddings: usize,
        /// The configuration.
        config: PathBuf,
    },
    /// Tensors that the core refused.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The device did not hand a tensor over.
    #[error("the device failed to hand over `{tensor}`: {reason}")]
    Device {
        /// The tensor.
        tensor: String,
        /// What it said.
        reason: String,
    },
    /// A folder that would lose files that are no model's.
    #[error("{} holds `{found}`, which does not belong to a model: choose another directory", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// One of its entries.
        found: String,
    },
    /// The folder could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn plural(tensors: usize) -> String {
    if tensors == 1 { "1 tensor".into() } else { format!("{tensors} tensors") }
}

impl From<TensorFileError> for ModelError {
    fn from(error: TensorFileError) -> Self {
        let remedy = match &error {
            TensorFileError::Io { .. } => "Check the file and its permissions",
            TensorFileError::Length { .. } | TensorFileError::Header { .. } => "Fetch or copy the file again",
            TensorFileError::Missing { tensor, .. } if tensor == "lm_head.weight" => {
                "If the head is the embedding, set `tie_word_embeddings` to true in config.json; else fetch the model again"
            }
            TensorFileError::Missing { .. } => "config.json does not belong to these weights, or they are incomplete",
            TensorFileError::Shape { .. } => "config.json does not belong to these weights",
            TensorFileError::Dtype { .. } => {
                "Load the model in transformers with `dtype=torch.float32` and save it with `save_pretrained`"
            }
            TensorFileError::NotFinite { .. } => {
                "The weights are damaged or come from a training that diverged: use an earlier copy"
            }
        };
        Self::Weights { error, remedy }
    }
}
