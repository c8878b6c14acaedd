//! How numbers are laid out on a device.

use burn::tensor::FloatDType;
use hbat::compute::{Carrier, Kernels, Layout, Library, Memory, Precision, Products, Weights};
use hbat::engine::Engine;
use hbat_backends::{Cublas, DeviceName, Full, cublas};

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

fn carrier(device: DeviceName) -> Option<Carrier> {
    let hbat_backends::Carrier { departed, arrived } = hbat_backends::carrier(device)?;
    Some(Carrier { name: "a stream of its own", departed, arrived })
}

fn kernels(device: DeviceName, engine: &EngineSection) -> Option<Kernels> {
    let own = match engine.kernels {
        KernelChoice::Auto => matches!(device, DeviceName::Cuda(_)) && engine.kind != Engine::Autodiff,
        KernelChoice::Burn => false,
        KernelChoice::Hbat => true,
    };
    let own = if own { hbat_backends::kernels()? } else { return None };
    Some(Kernels {
        name: "hbat",
        rms_norm: own.rms_norm,
        rms_norm_backward: own.rms_norm_backward,
        turn: own.turn,
        // A card's matrix units multiply bf16; f32 is multiplied by a library.
        one_go: FloatDType::BF16,
        attention: own.attention,
        attention_backward: own.attention_backward,
        softmax: own.softmax,
        softmax_backward: own.softmax_backward,
        swiglu: own.swiglu,
        swiglu_backward: own.swiglu_backward,
        log_probs: own.log_probs,
        logits_gradient: own.logits_gradient,
        embedded_backward: own.embedded_backward,
        measured: own.measured,
        pulled: own.pulled,
        adamw: own.adamw,
    })
}

fn products(device: DeviceName, engine: &EngineSection) -> Products {
    let rounded = engine.weights == Weights::F32 && hbat_backends::multiplies_in_tf32(device);
    match (matmul(device, engine), engine.products) {
        (Matmul::Cublas, FullProducts::F32) => library("cuBLASLt", Full::F32),
        (Matmul::Cublas, FullProducts::Tf32) => library("cuBLASLt in TF32", Full::Tf32),
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
fn library(name: &'static str, full: Full) -> Products {
    let Some(Cublas { matrices, batches, lasting, added, joined }) = cublas(full) else { return Products::Plain };
    Products::Library(Library { name, matrices, batches, lasting, added, joined })
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
