//! Safetensors files: read tensor by tensor through memory maps, written tensor by tensor from a stream.

mod decode;
mod read;
mod write;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) use decode::transposed;
pub use read::{TensorFile, TensorFileError};
pub(crate) use write::{TensorFileWriter, TensorSpec, Written};

/// The precision weights are saved in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// As they are in memory; loading them again gives the same bits.
    #[default]
    F32,
    /// Half the size, rounded to nearest even.
    Bf16,
    /// Half the size, rounded to nearest even; beyond ±65504 refused.
    F16,
}

impl SaveDtype {
    /// Its name in `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    pub(crate) fn in_file(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
