//! Matrix products that a device's maker offers beside Burn's.

use burn::tensor::{FloatDType, Tensor};

use crate::{DeviceError, DeviceName};

/// Multiplies `[.., M, K]` and `[.., K, N]` into elements of a type. Both factors are bf16, and the type bf16 or f32, or all are f32.
pub type Multiply<const D: usize> = fn(Tensor<D>, Tensor<D>, FloatDType) -> Tensor<D>;

/// What factors of f32 are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All of their 24 bits.
    F32,
    /// Their first 11 bits, where that is faster.
    Tf32,
}

/// The products of cuBLASLt on NVIDIA's cards, for a device on which [`start_cublas`] has succeeded. They take part in Burn's fusion and its
/// order of work, not in its autodiff. `None` where CUDA was not compiled in.
///
/// cuBLASLt chooses kernels by rules of its own and times nothing: a shape has the same kernel in every run.
pub fn cublas<const D: usize>(full: Full) -> Option<Multiply<D>> {
    #[cfg(feature = "cuda")]
    return Some(crate::cuda::products(full));
    #[cfg(not(feature = "cuda"))]
    {
        let _ = full;
        None
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
