//! How numbers are laid out on a device.

use hbat::compute::{Layout, Memory, Precision, Products, Weights};
use hbat_backends::DeviceName;

use super::run_file::{EngineSection, FullProducts};

/// The layout of a run. The loops over a processor's memory are f32's: what else it computes in goes through the tensor
/// operations of all devices.
pub fn layout(device: DeviceName, engine: &EngineSection) -> Layout {
    let EngineSection { weights, moments, sums, offload, layer_inputs, .. } = *engine;
    let rounded = weights == Weights::F32 && hbat_backends::multiplies_in_tf32(device);
    let products = match engine.products {
        FullProducts::F32 if rounded => Products::Split,
        FullProducts::F32 | FullProducts::Tf32 => Products::Plain,
    };
    let precision = Precision { weights, moments, sums, products };
    let memory = match device {
        DeviceName::Cpu if precision == Precision::default() => Memory::Host,
        DeviceName::Cpu | DeviceName::Wgpu(_) | DeviceName::Cuda(_) => Memory::Device,
    };
    Layout { memory, precision, offload, layer_inputs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunFile;

    #[test]
    fn products_of_f32_are_split_on_a_card_unless_they_may_be_rounded() {
        let products = |device: &str, weights, products| {
            let engine = EngineSection { weights, products, ..RunFile::default().engine };
            layout(device.parse().unwrap(), &engine).precision.products
        };
        assert_eq!(products("cuda", Weights::F32, FullProducts::F32), Products::Split);
        assert_eq!(products("cuda", Weights::F32, FullProducts::Tf32), Products::Plain);
        assert_eq!(products("cuda", Weights::Bf16Split, FullProducts::F32), Products::Plain);
        assert_eq!(products("wgpu", Weights::F32, FullProducts::F32), Products::Plain);
        assert_eq!(products("cpu", Weights::F32, FullProducts::F32), Products::Plain);
    }
}
