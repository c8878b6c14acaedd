//! Where tensors live and who computes on them.

use burn::tensor::Device;

/// Whether the host can read a tensor's memory in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Tensors are ordinary memory (Flex): fused loops over slices beat one pass per operation.
    Host,
    /// Tensors live on a device (wgpu, CUDA): operations are queued there, and Burn fuses them.
    Device,
}

/// A device and how its memory is reached. The device carries no autodiff; engines add it where they need it.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Burn's handle.
    pub device: Device,
    /// Where its tensors lie.
    pub memory: Memory,
}

impl Compute {
    /// A device whose tensors are ordinary memory, such as Flex.
    pub fn host(device: Device) -> Self {
        Self { device, memory: Memory::Host }
    }

    /// A device with memory of its own.
    pub fn device(device: Device) -> Self {
        Self { device, memory: Memory::Device }
    }
}
