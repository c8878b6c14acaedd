//! NVIDIA GPUs through CUDA.
//!
//! Everything is checked before Burn is asked for a device, because Burn panics on what is missing: the driver's library, a
//! working driver, a card, and libdevice, the mathematical functions that Burn's compiler links into kernels at run time.
//!
//! Matrix products of f32 are computed in f32 or, from compute capability 8.0 on, in TF32 (inputs rounded to 10 bits of
//! mantissa): autotune takes whichever kernel is fastest for a shape, and Burn 0.22 has no switch against it. Reports say so.

mod carry;
mod cublas;
mod product;
mod stream;

use std::ffi::c_int;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType};
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{DriverError, result, sys};

pub(crate) use carry::{CARRIER, carried};
pub(crate) use product::products;

use crate::report::start;
use crate::{DeviceError, DeviceName, DeviceReport, Hardware, HardwareKind};

const DRIVER: &str = "install NVIDIA's driver (Debian: `apt-get install nvidia-driver`; Ubuntu: `ubuntu-drivers install`; a container \
     must be started with its GPUs, such as `docker run --gpus all`); `nvidia-smi` shows whether it works";
const TOOLKIT: &str = "install the CUDA toolkit (Debian and Ubuntu: `apt-get install nvidia-cuda-toolkit`) or set CUDA_PATH to a folder \
     that has nvvm/libdevice/libdevice.10.bc (the PyPI package nvidia-cuda-nvcc-cu12 has one)";

const CUBLAS: &str = "install the CUDA toolkit (its libcublasLt; the PyPI package nvidia-cublas has one) and have the loader find it, such as by \
     LD_LIBRARY_PATH, or leave engine.matmul at \"burn\"";

const TF32: &str = "Burn may multiply f32 in TF32 (11 bits): hbat multiplies in parts, unless engine.products is \"tf32\"";

/// Where Burn's compiler looks for a CUDA toolkit when `CUDA_PATH` is not set.
const TOOLKITS: [&str; 4] = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"];

/// What the driver tells about a card without starting anything on it.
struct Card {
    adapter: String,
    memory: Option<u64>,
    capability: (c_int, c_int),
}

/// Opens the n-th card, in CUDA's order (`CUDA_VISIBLE_DEVICES` applies).
pub(crate) fn open(index: usize) -> Result<Device, DeviceError> {
    let name = DeviceName::Cuda(index);
    let cards = cards(name)?;
    if index >= cards.len() {
        let found = cards.iter().enumerate().map(|(index, card)| (DeviceName::Cuda(index), card.adapter.clone())).collect();
        return Err(DeviceError::NoSuchDevice { name, found });
    }
    initialise(index).map(|(device, _)| device)
}

/// Whether cuBLASLt is there.
pub(crate) fn has_cublas() -> bool {
    cublas::present().is_ok()
}

/// Starts cuBLASLt on the n-th card.
pub(crate) fn start_cublas(index: usize) -> Result<(), DeviceError> {
    let name = DeviceName::Cuda(index);
    product::start(index).map_err(|reason| DeviceError::Missing { name, reason, remedy: CUBLAS.into() })
}

/// The name that its maker gave a card.
pub(crate) fn adapter(index: usize) -> Option<String> {
    Some(cards(DeviceName::Cuda(index)).ok()?.into_iter().nth(index)?.adapter)
}

/// A report for every card, or one that says why there is none.
pub(crate) fn list() -> Vec<DeviceReport> {
    let name = DeviceName::Cuda(0);
    match cards(name) {
        Err(error) => vec![DeviceReport { name, hardware: Err(error) }],
        Ok(cards) => cards.into_iter().enumerate().map(report).collect(),
    }
}

fn report((index, card): (usize, Card)) -> DeviceReport {
    let hardware = initialise(index).map(|(_, dtypes)| Hardware {
        adapter: card.adapter,
        kind: HardwareKind::DiscreteGpu,
        driver: format!("CUDA {}, compute capability {}.{}", driver_version(), card.capability.0, card.capability.1),
        memory: card.memory,
        dtypes,
        notes: if card.capability >= (8, 0) { vec![TF32.into()] } else { Vec::new() },
    });
    DeviceReport { name: DeviceName::Cuda(index), hardware }
}

fn initialise(index: usize) -> Result<(Device, Vec<FloatDType>), DeviceError> {
    let name = DeviceName::Cuda(index);
    libdevice().map_err(|reason| DeviceError::Missing { name, reason, remedy: TOOLKIT.into() })?;
    let device = Device::cuda(index);
    let dtypes = start(&device).map_err(|reason| DeviceError::Failed { name, reason })?;
    Ok((device, dtypes))
}

/// All cards, or what is missing before any can be seen; at least one.
fn cards(name: DeviceName) -> Result<Vec<Card>, DeviceError> {
    let missing = |reason: String| DeviceError::Missing { name, reason, remedy: DRIVER.into() };
    // SAFETY: it only tries to load the driver's library by its usual names.
    #[allow(unsafe_code)]
    if !unsafe { sys::is_culib_present() } {
        return Err(missing("NVIDIA's driver library libcuda was not found".into()));
    }
    // The driver's functions are looked up at their first call, which panics where an old driver lacks one.
    let asked = catch_unwind(|| {
        result::init()?;
        (0..result::device::get_count()?).map(card).collect::<Result<Vec<Card>, DriverError>>()
    });
    match asked {
        Ok(Ok(cards)) if cards.is_empty() => Err(missing("the driver found no NVIDIA GPU".into())),
        Ok(Ok(cards)) => Ok(cards),
        Ok(Err(error)) => Err(missing(format!("NVIDIA's driver does not work: {error}"))),
        Err(_) => Err(missing("NVIDIA's driver is too old for this program".into())),
    }
}

fn card(index: c_int) -> Result<Card, DriverError> {
    let device = result::device::get(index)?;
    // SAFETY: `device` comes from the driver's own `get`, and its attributes are only read.
    #[allow(unsafe_code)]
    let (memory, major, minor) = unsafe {
        (
            result::device::total_mem(device).ok(),
            result::device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            result::device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    let adapter = result::device::get_name(device)?;
    Ok(Card { adapter, memory: memory.map(|bytes| bytes as u64), capability: (major, minor) })
}

/// The newest CUDA that the driver runs, such as 12.4.
fn driver_version() -> String {
    let mut version: c_int = 0;
    // SAFETY: the call writes one number into a variable that outlives it.
    #[allow(unsafe_code)]
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    if status.result().is_err() {
        return "of unknown version".into();
    }
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Finds libdevice by the compiler's own rules.
fn libdevice() -> Result<PathBuf, String> {
    let roots = match std::env::var("CUDA_PATH") {
        Ok(root) => vec![root],
        Err(_) => TOOLKITS.map(String::from).to_vec(),
    };
    let file = |root: &String| Path::new(root).join("nvvm/libdevice/libdevice.10.bc");
    let found = roots.iter().map(file).find(|path| path.is_file());
    found.ok_or_else(|| format!("nvvm/libdevice/libdevice.10.bc of the CUDA toolkit was not found in {}", roots.join(", ")))
}
