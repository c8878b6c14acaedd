//! Models as Hugging Face keeps them: a folder with `config.json`, safetensors and a tokenizer.

mod classifier;
mod error;
mod export;
mod folder;
mod weights;

pub use crate::store::SaveDtype;
pub use error::ModelError;
pub use export::{Export, SpecialTokens};
pub use folder::{ModelFolder, read_config};
