//! Where tensors live, how their numbers are kept, and who computes on them.

use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};

/// Whether the host can read a tensor's memory in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Tensors are ordinary memory (Flex): fused loops over slices beat one pass per operation.
    Host,
    /// Tensors live on a device (wgpu, CUDA): operations are queued there, and Burn fuses them.
    Device,
}

/// How weights are kept, and what matrix products compute in.
///
/// Plain bf16 is not among them: a weight of 0.02 has neighbours 0.0001 away, a hundred steps of 1e-6, so that most updates
/// would be rounded away and the changes C would be rounding noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// f32 throughout. 4 bytes per weight.
    #[default]
    F32,
    /// Products in bf16, and f32 master weights that they are rounded from. 6 bytes.
    Bf16Master,
    /// Products in bf16, and in 16 more bits what rounding cut off; for norms and biases, f32. 4 bytes.
    Bf16Split,
}

impl Weights {
    /// What matrix products compute in, and gradients are kept in.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16Master | Self::Bf16Split => FloatDType::BF16,
        }
    }
}

/// How AdamW's moments are kept; it computes in f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moments {
    /// 8 bytes per weight.
    #[default]
    F32,
    /// 4 bytes per weight. With β₂ = 0.95 a step changes the second moment by up to 5%, ten times what bf16 resolves; with
    /// 0.999 it would stand still.
    Bf16,
}

impl Moments {
    /// The type of their elements.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }
}

/// How numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Precision {
    /// Weights, gradients and activations.
    pub weights: Weights,
    /// AdamW's moments.
    pub moments: Moments,
}

/// A device and how its memory is reached. The device carries no autodiff; engines add it where they need it.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Burn's handle.
    pub device: Device,
    /// Where its tensors lie.
    pub memory: Memory,
    /// How numbers are kept there.
    pub precision: Precision,
}

impl Compute {
    /// A device whose tensors are ordinary memory, such as Flex. Computes in f32.
    pub fn host(device: Device) -> Self {
        Self { device, memory: Memory::Host, precision: Precision::default() }
    }

    /// A device with memory of its own. Computes in f32.
    pub fn device(device: Device) -> Self {
        Self { device, memory: Memory::Device, precision: Precision::default() }
    }

    /// The same, with numbers kept otherwise.
    ///
    /// # Panics
    /// In ordinary memory, for the loops over it are f32's.
    #[must_use]
    pub fn with(self, precision: Precision) -> Self {
        assert!(self.memory == Memory::Device || precision == Precision::default(), "ordinary memory is computed on in f32");
        Self { precision, ..self }
    }
}
