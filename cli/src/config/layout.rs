//! How numbers are laid out on a device.

use hbat::compute::{LayerInputs, Layout, Memory, Offload, Precision};
use hbat_backends::DeviceName;

/// The layout of a run. The loops over a processor's memory are f32's: what else it computes in goes through the tensor
/// operations of all devices.
pub fn layout(device: DeviceName, precision: Precision, (offload, layer_inputs): (Offload, LayerInputs)) -> Layout {
    let memory = match device {
        DeviceName::Cpu if precision == Precision::default() => Memory::Host,
        DeviceName::Cpu | DeviceName::Wgpu(_) | DeviceName::Cuda(_) => Memory::Device,
    };
    Layout { memory, precision, offload, layer_inputs }
}
