//! The devices hbat trains on: their names, what this build and machine offer, and opening them without a panic.
//!
//! Every backend's feature flag lives here; the rest of the program is handed a [`Device`]. Burn's `Device::default()` is never
//! used: it takes whichever backend was compiled in, in an order of its own, and panics where that backend has no device.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = hbat_backends::open("cpu".parse()?)?;
//! # let _ = device;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cpu")]
mod container;
#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod extensions;
#[cfg(any(feature = "cuda", test))]
mod gemm;
#[cfg(feature = "wgpu")]
mod graphics;
#[cfg(feature = "kernels")]
mod kernels;
mod name;
#[cfg(any(feature = "cuda", test))]
mod peak;
mod report;

use burn::tensor::{Device, FloatDType};

pub use error::DeviceError;
pub use extensions::{Full, carried, carrier, cublas, has_cublas, has_planes, kernels, start_cublas};
pub use name::{DeviceName, NameError};
pub use report::{DeviceReport, Hardware, HardwareKind, dtype_name};

/// Opens a device and makes sure that it runs. Opening one again gives the same device.
///
/// From then on a read of a tensor begins as soon as its future is polled. By default Burn copies nothing before someone looks at the
/// bytes: nobody could wait for a device then, or compute while it copies.
///
/// # Errors
/// If the backend was not compiled in, the machine lacks the driver or the device, or the device does not start; the message
/// says which, and what to install. What a driver does later is not covered: running out of memory still panics inside Burn.
pub fn open(name: DeviceName) -> Result<Device, DeviceError> {
    burn_std::set_runtime_kind(burn_std::RuntimeKind::Async);
    match name {
        #[cfg(feature = "cpu")]
        DeviceName::Cpu => cpu::open(),
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu(index) => graphics::open(index),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(index) => cuda::open(index),
        #[allow(unreachable_patterns)]
        name => Err(DeviceError::NotCompiled { name }),
    }
}

/// Every device that this build and machine offer, and for each backend that offers none, why.
///
/// Starts every device, so that what is listed works; this takes a second or so per GPU.
pub fn list() -> Vec<DeviceReport> {
    let backends = [DeviceName::Cpu, DeviceName::Wgpu(0), DeviceName::Cuda(0)];
    backends.into_iter().flat_map(list_backend).collect()
}

/// What a device is. `None` where it does not start.
pub fn hardware(name: DeviceName) -> Option<Hardware> {
    list_backend(name).into_iter().find(|report| report.name == name)?.hardware.ok()
}

/// Bytes of tensors that a program may have on a device: on the processor what is free now, on a graphics card all of its memory, on a card
/// of NVIDIA's what its allocator can fill. `None` where nobody says.
pub fn memory(name: DeviceName) -> Option<u64> {
    #[cfg(feature = "cpu")]
    if name == DeviceName::Cpu {
        return cpu::free();
    }
    Some(usable(name, hardware(name)?.memory?))
}

/// Of all the memory of a device, what a program may have.
pub fn usable(name: DeviceName, all: u64) -> u64 {
    if matches!(name, DeviceName::Cuda(_)) { fillable(all) } else { all }
}

/// Of a card's memory, what is left beside CUDA's own and the two buffers of 1 GiB with which Burn measures a card when it first chooses a
/// kernel; and of that 97%, for what is counted in advance is right to 3%.
fn fillable(memory: u64) -> u64 {
    const BESIDE: u64 = 5 << 29;
    memory.saturating_sub(BESIDE) / 100 * 97
}

/// What a program holds of a device's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// On the processor, resident memory. On other devices what the allocator keeps, free blocks for reuse included.
    pub now: u64,
    /// The most there was so far. An allocator that keeps all it ever had holds just that.
    pub peak: u64,
}

/// What this program holds of a device's memory. `None` where nobody says.
pub fn usage(name: DeviceName, device: &Device) -> Option<Usage> {
    #[cfg(feature = "cpu")]
    if name == DeviceName::Cpu {
        return cpu::usage();
    }
    let _ = name;
    let held = device.memory_pool_usage()?.bytes_reserved;
    Some(Usage { now: held, peak: held })
}

/// Floating-point operations per second that the maker promises for dense matrix products of this type. `None` where it is not
/// known.
pub fn peak_flops(name: DeviceName, dtype: FloatDType) -> Option<f64> {
    match (name, dtype) {
        #[cfg(feature = "cuda")]
        (DeviceName::Cuda(index), FloatDType::BF16) => peak::bf16(&cuda::adapter(index)?),
        _ => None,
    }
}

/// Whether a device rounds the factors of f32 products to TF32's 11 bits: Burn's kernels for tensor cores do, and which kernels those are,
/// timing decides.
pub fn multiplies_in_tf32(name: DeviceName) -> bool {
    matches!(name, DeviceName::Cuda(_))
}

fn list_backend(first: DeviceName) -> Vec<DeviceReport> {
    match first {
        #[cfg(feature = "cpu")]
        DeviceName::Cpu => cpu::list(),
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu(_) => graphics::list(),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(_) => cuda::list(),
        #[allow(unreachable_patterns)]
        name => vec![DeviceReport { name, hardware: Err(DeviceError::NotCompiled { name }) }],
    }
}

#[cfg(test)]
mod tests {
    use super::fillable;

    #[test]
    fn a_card_is_not_filled_to_the_last_byte() {
        // An H100 of 80 GB, and an H200; a device that has less than Burn measures with holds nothing.
        assert!((80_000_000_000..81_000_000_000).contains(&fillable(85_520_809_984)));
        assert!((143_000_000_000..144_000_000_000).contains(&fillable(150_754_820_096)));
        assert_eq!(fillable(1 << 30), 0);
    }
}
