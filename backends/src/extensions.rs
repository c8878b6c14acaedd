//! What devices have beside Burn's operations: a maker's matrix products, kernels of ours, copies that go on beside computation.

use hbat::compute::{Carrier, Kernels, Library};

use crate::{DeviceError, DeviceName};

/// What factors of f32 are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All of their 24 bits.
    F32,
    /// Their first 11 bits, where that is faster.
    Tf32,
}

/// cuBLASLt on NVIDIA's cards, for a device on which [`start_cublas`] has succeeded. `None` where CUDA was not compiled in.
///
/// Both factors are bf16, and the product bf16 or f32, or all are f32. They take part in Burn's fusion, not in its autodiff. cuBLASLt
/// chooses kernels by rules of its own and times nothing: a shape has the same kernel in every run.
pub fn cublas(full: Full) -> Option<Library> {
    #[cfg(feature = "cuda")]
    return Some(crate::cuda::products(full));
    #[cfg(not(feature = "cuda"))]
    {
        let _ = full;
        None
    }
}

/// Whether the library is there. It may still not start.
pub fn has_cublas() -> bool {
    #[cfg(feature = "cuda")]
    return crate::cuda::has_cublas();
    #[cfg(not(feature = "cuda"))]
    false
}

/// Ours, in CubeCL, for cards and other GPUs. They take part in Burn's fusion, not in its autodiff. `None` where neither CUDA nor wgpu was compiled in.
pub fn kernels() -> Option<Kernels> {
    #[cfg(feature = "kernels")]
    return Some(crate::kernels::ALL);
    #[cfg(not(feature = "kernels"))]
    None
}

/// Whether a device runs them: its units must work in planes, also called warps, waves or subgroups.
pub fn has_planes(name: DeviceName) -> bool {
    match name {
        DeviceName::Cpu => false,
        DeviceName::Cuda(_) => true,
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu(index) => crate::graphics::has_planes(index),
        #[cfg(not(feature = "wgpu"))]
        DeviceName::Wgpu(_) => false,
    }
}

/// For cards, whose copies from page-locked memory go on beside computation; what a card was read out into is page-locked. `None` elsewhere.
pub fn carrier(name: DeviceName) -> Option<Carrier> {
    match name {
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(_) => Some(crate::cuda::CARRIER),
        _ => None,
    }
}

/// Seconds that the carrier's copies have taken so far, which went on beside computation. A copy counts once it is known to be done.
pub fn carried(name: DeviceName) -> f64 {
    match name {
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(index) => crate::cuda::carried(index),
        _ => 0.0,
    }
}

/// Starts cuBLASLt on a card, which takes 32 MiB of its memory.
///
/// # Errors
/// If the device is no card of NVIDIA's, CUDA was not compiled in, or the library is missing or does not start.
pub fn start_cublas(name: DeviceName) -> Result<(), DeviceError> {
    match name {
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(index) => crate::cuda::start_cublas(index),
        #[cfg(not(feature = "cuda"))]
        DeviceName::Cuda(_) => Err(DeviceError::NotCompiled { name }),
        DeviceName::Cpu | DeviceName::Wgpu(_) => {
            let (reason, remedy) = ("cuBLASLt multiplies on NVIDIA's cards only", "take `cuda`, or Burn's own products");
            Err(DeviceError::Missing { name, reason: reason.into(), remedy: remedy.into() })
        }
    }
}
