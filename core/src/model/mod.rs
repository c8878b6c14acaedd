//! LLaMA-type decoders in the Hugging Face layout.

mod config;
mod layer;
mod policy;
mod units;

pub use config::{ConfigError, LlamaConfig, RopeScaling};
pub use policy::{InitError, Policy, Tensors};
pub use units::{Storage, Unit};

pub(crate) use layer::{Kept, Layer, LayerInput};
pub(crate) use policy::Decoder;
