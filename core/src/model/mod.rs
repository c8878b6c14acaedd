//! LLaMA-type decoders in the Hugging Face layout.

mod architecture;
mod config;
mod file;
mod head;
mod layer;
mod policy;
mod rope;
mod units;
mod weights;

pub use architecture::{Architecture, Family, HeadKind};
pub use config::{ConfigError, ConfigFileError, LlamaConfig};
pub use file::{FileError, from_safetensors, to_safetensors};
pub use head::fresh_value_head;
pub use policy::{InitError, Policy, Readout, Tensors};
pub use rope::RopeScaling;
pub use units::{Storage, Unit};

pub(crate) use layer::{Kept, Layer, LayerInput, LayerUnit, Places};
pub(crate) use policy::{Decoder, Stack};
