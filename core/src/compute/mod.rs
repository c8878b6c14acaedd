//! Where tensors live, how their numbers are kept, and who computes on them.

mod extensions;

use std::sync::Arc;

use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};

pub use extensions::{AdamWNumbers, AdamWState, AttentionBackward, Carrier, Kernels, Library, Multiply, Pulled, Split, Stepped};

use crate::watch::{Part, Under, Watch};

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
    /// Products in bf16, and f32 master weights that they are rounded from; norms and biases in f32 alone. 6 bytes.
    Bf16Master,
    /// Products in bf16, and in 16 more bits the rest of f32; norms and biases in f32. 4 bytes.
    Bf16Split,
}

impl Weights {
    /// What matrix products compute in, and gradients of matrices are kept in.
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

/// What the gradients of a step's passes are added up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sums {
    /// 4 bytes per weight, where a step takes several passes.
    #[default]
    F32,
    /// 2 bytes, as PyTorch adds them up in a model of bf16: each addition rounds the sum to 8 bits.
    Bf16,
}

impl Sums {
    /// The type of their elements.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }
}

/// How matrices are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// As Burn does on the device.
    #[default]
    Plain,
    /// f32 as three products of parts, for a device that rounds factors to TF32's 11 bits: it then gives f32's numbers. Without, that rounding
    /// moves the gradients of a four-layer model by two in a thousand.
    Split,
    /// By another program's kernels.
    Library(Library),
}

/// How numbers are kept, and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Precision {
    /// Weights, gradients and activations.
    pub weights: Weights,
    /// AdamW's moments.
    pub moments: Moments,
    /// Gradients of several passes.
    pub sums: Sums,
    /// Products of matrices.
    pub products: Products,
}

/// What only updates read, and may be kept in ordinary memory to spare a device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// Nothing.
    #[default]
    Nothing,
    /// The anchor, which every step takes to the device unit by unit: 4 bytes per weight less there, for a transfer of it per step.
    Anchor,
    /// f32 weights, moments and anchor, and the update itself, in loops over ordinary memory. The device keeps what products
    /// compute with and gradients; each step transfers a gradient and a weight per weight.
    Optimizer,
}

/// Where the segmented engine keeps the input of every layer until the layer goes backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerInputs {
    /// Where they were computed.
    #[default]
    Device,
    /// In ordinary memory, copied there while the layers above go forward, and back one by one. A device then holds the input of
    /// one layer.
    Host,
}

/// Where numbers lie, and how they are kept there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Where tensors lie.
    pub memory: Memory,
    /// How numbers are kept there.
    pub precision: Precision,
    /// What is kept elsewhere between steps.
    pub offload: Offload,
    /// What is kept elsewhere between a forward pass and its backward pass.
    pub layer_inputs: LayerInputs,
    /// What computes layers and updates beside products; Burn's operations where there is nothing else.
    pub kernels: Option<Kernels>,
    /// Who brings anchors from elsewhere; copies in the order of computation where there is nobody.
    pub carrier: Option<Carrier>,
}

impl Layout {
    /// All of it in one place, in f32.
    pub fn new(memory: Memory) -> Self {
        let (offload, layer_inputs) = (Offload::Nothing, LayerInputs::Device);
        Self { memory, precision: Precision::default(), offload, layer_inputs, kernels: None, carrier: None }
    }

    /// Where moments lie and weights are updated.
    pub fn updates(&self) -> Memory {
        if self.offload == Offload::Optimizer { Memory::Host } else { self.memory }
    }

    /// Whether a device's updates change weights and moments where they are.
    pub(crate) fn updates_in_place(&self) -> bool {
        // What a master is rounded to is made anew.
        let whole = self.precision.weights != Weights::Bf16Master;
        self.updates() == Memory::Device && self.kernels.is_some() && whole
    }

    /// Where an anchor lies.
    pub fn anchors(&self) -> Memory {
        if self.offload == Offload::Nothing { self.memory } else { Memory::Host }
    }
}

/// A device and how its memory is reached. The device carries no autodiff; engines add it where they need it.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Burn's handle.
    pub device: Device,
    /// Where numbers lie, and how.
    pub layout: Layout,
    /// Who measures the parts of a step.
    pub watch: Option<Arc<dyn Watch>>,
}

impl Compute {
    /// A device whose tensors are ordinary memory, such as Flex. Computes in f32.
    pub fn host(device: Device) -> Self {
        Self { device, layout: Layout::new(Memory::Host), watch: None }
    }

    /// A device with memory of its own. Computes in f32.
    pub fn device(device: Device) -> Self {
        Self { device, layout: Layout::new(Memory::Device), watch: None }
    }

    /// The same, with numbers kept otherwise.
    ///
    /// # Panics
    /// In ordinary memory, for the loops over it are f32's; and if products of bf16 were to be split.
    #[must_use]
    pub fn with(mut self, precision: Precision) -> Self {
        let ordinary = self.layout.memory == Memory::Host;
        assert!(!ordinary || precision == Precision::default(), "ordinary memory is computed on in f32");
        let splits = precision.products == Products::Split;
        assert!(!splits || precision.weights == Weights::F32, "there is nothing to split in bf16");
        self.layout.precision = precision;
        self
    }

    /// The same, with some of it kept in ordinary memory.
    ///
    /// # Panics
    /// If that is where all of it lies, or if f32 weights and moments were not to be kept at all.
    #[must_use]
    pub fn offloading(mut self, offload: Offload) -> Self {
        let Layout { memory, precision, .. } = self.layout;
        assert!(memory == Memory::Device || offload == Offload::Nothing, "ordinary memory is all there is");
        let narrow = precision.weights == Weights::Bf16Split || precision.moments == Moments::Bf16;
        assert!(offload != Offload::Optimizer || !narrow, "ordinary memory holds f32");
        self.layout.offload = offload;
        self
    }

    /// The same, with layers' inputs waiting elsewhere.
    ///
    /// # Panics
    /// In ordinary memory, where there is nowhere else.
    #[must_use]
    pub fn keeping_inputs(mut self, layer_inputs: LayerInputs) -> Self {
        let ordinary = self.layout.memory == Memory::Host;
        assert!(!ordinary || layer_inputs == LayerInputs::Device, "ordinary memory is all there is");
        self.layout.layer_inputs = layer_inputs;
        self
    }

    /// The same, with the parts of every step reported.
    #[must_use]
    pub fn watched(self, watch: Arc<dyn Watch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Makes tensors that stay: where updates change them in place, they get memory of their own, of just their size, and no page
    /// of what comes and goes.
    pub(crate) fn staying<I: Send, T: Send>(&self, input: I, make: impl Fn(I) -> T + Send) -> T {
        if self.layout.updates_in_place() { self.device.memory_persistent_allocations(input, make) } else { make(input) }
    }

    /// Gives back what the making of them took besides.
    pub(crate) fn settled(&self) {
        if self.layout.updates_in_place() {
            self.device.memory_cleanup();
        }
    }

    /// Reports a part for as long as the result lives.
    pub(crate) fn under(&self, part: Part) -> Under {
        Under::new(self.watch.as_ref(), part)
    }
}
