//! How numbers are laid out on a device.

use hbat::compute::{Kernels, Layout, Memory, Precision, Products, Weights};
use hbat::engine::Engine;
use hbat_backends::{DeviceName, Full, carrier, cublas};

use super::run_file::{EngineSection, FullProducts, KernelChoice, Matmul};

/// The layout of a run. The loops over a processor's memory are f32's: what else it computes in goes through the tensor
/// operations of all devices.
pub fn layout(device: DeviceName, engine: &EngineSection) -> Layout {
    let EngineSection { weights, moments, sums, offload, layer_inputs, .. } = *engine;
    let products = products(device, engine);
    let precision = Precision { weights, moments, sums, products };
    let memory = match device {
        DeviceName::Cpu if precision == Precision::default() => Memory::Host,
        DeviceName::Cpu | DeviceName::Wgpu(_) | DeviceName::Cuda(_) => Memory::Device,
    };
    Layout { memory, precision, offload, layer_inputs, kernels: kernels(device, engine), carrier: carrier(device) }
}

fn kernels(device: DeviceName, engine: &EngineSection) -> Option<Kernels> {
    let own = match engine.kernels {
        KernelChoice::Auto => matches!(device, DeviceName::Cuda(_)) && engine.kind != Engine::Autodiff,
        KernelChoice::Burn => false,
        KernelChoice::Hbat => true,
    };
    if own { hbat_backends::kernels() } else { None }
}

fn products(device: DeviceName, engine: &EngineSection) -> Products {
    let rounded = engine.weights == Weights::F32 && hbat_backends::multiplies_in_tf32(device);
    match (matmul(device, engine), engine.products) {
        (Matmul::Cublas, FullProducts::F32) => library(Full::F32),
        (Matmul::Cublas, FullProducts::Tf32) => library(Full::Tf32),
        (_, FullProducts::F32) if rounded => Products::Split,
        (_, FullProducts::F32 | FullProducts::Tf32) => Products::Plain,
    }
}

/// Who multiplies, where that was left open.
pub fn matmul(device: DeviceName, engine: &EngineSection) -> Matmul {
    let card = matches!(device, DeviceName::Cuda(_));
    match engine.matmul {
        Matmul::Auto if card && engine.kind != Engine::Autodiff && hbat_backends::has_cublas() => Matmul::Cublas,
        Matmul::Auto => Matmul::Burn,
        chosen => chosen,
    }
}

/// Burn's own where this program was built without it, which then opens no card either.
fn library(full: Full) -> Products {
    cublas(full).map_or(Products::Plain, Products::Library)
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

    #[test]
    fn a_card_multiplies_by_cublas_where_that_was_built_in() {
        let matmul = |products| {
            let engine = EngineSection { matmul: Matmul::Cublas, products, ..RunFile::default().engine };
            layout(DeviceName::Cuda(0), &engine).precision.products
        };
        let (exact, rounded) = (matmul(FullProducts::F32), matmul(FullProducts::Tf32));
        match cublas(Full::F32) {
            Some(_) => assert!(matches!(exact, Products::Library(_)) && exact != rounded, "{exact:?}, {rounded:?}"),
            None => assert_eq!((exact, rounded), (Products::Plain, Products::Plain)),
        }
    }
}
