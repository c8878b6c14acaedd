//! GPUs of any maker, through Vulkan, Metal or DirectX 12.
//!
//! Matrix products of f32 are computed in f32: the shaders, written in WGSL, reach no matrix units of lower precision.

use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind, FloatDType};

use crate::report::start;
use crate::{DeviceError, DeviceName, DeviceReport, Hardware, HardwareKind};

const DRIVERS: &str = "install a Vulkan driver: on Debian and Ubuntu `apt-get install libvulkan1 mesa-vulkan-drivers` (for AMD and \
     Intel, and an emulated GPU), for NVIDIA cards NVIDIA's own driver; `vulkaninfo --summary`, package vulkan-tools, shows \
     what Vulkan finds";

/// A GPU, how Burn is asked for it, and Burn's device once it has been.
struct Adapter {
    kind: HardwareKind,
    selector: DeviceKind,
    api: WgpuBackend,
    info: wgpu::AdapterInfo,
    memory: Option<u64>,
    /// Whether its units work in groups that add up among themselves.
    planes: bool,
    started: OnceLock<Result<Started, String>>,
}

/// A running device and the types it computes in.
type Started = (Device, Vec<FloatDType>);

impl Adapter {
    /// Starts Burn's runtime on this adapter at the first call: a process can do so only once.
    fn start(&self) -> Result<&Started, String> {
        let initialise = || {
            let options = Device::wgpu_options().device_kind(self.selector.clone()).graphics_api(self.api);
            let device = options.init().map_err(|error| error.to_string())?;
            let dtypes = start(&device)?;
            Ok((device, dtypes))
        };
        self.started.get_or_init(initialise).as_ref().map_err(Clone::clone)
    }

    fn driver(&self) -> String {
        let parts = [format!("{:?}", self.info.backend), self.info.driver.clone(), self.info.driver_info.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// Opens the n-th adapter, in the order of [`list`].
pub(crate) fn open(index: usize) -> Result<Device, DeviceError> {
    let name = DeviceName::Wgpu(index);
    if adapters().is_empty() {
        return Err(none(name));
    }
    let adapter = adapters().get(index).ok_or_else(|| DeviceError::NoSuchDevice { name, found: found() })?;
    let (device, _) = adapter.start().map_err(|reason| DeviceError::Failed { name, reason })?;
    Ok(device.clone())
}

/// A report for every adapter, dedicated cards first; or one that says why there is none.
pub(crate) fn list() -> Vec<DeviceReport> {
    let reports: Vec<DeviceReport> = adapters().iter().enumerate().map(|(index, adapter)| report(index, adapter)).collect();
    if reports.is_empty() {
        let name = DeviceName::Wgpu(0);
        return vec![DeviceReport { name, hardware: Err(none(name)) }];
    }
    reports
}

fn none(name: DeviceName) -> DeviceError {
    let reason = "no Vulkan, Metal or DirectX 12 driver offers a GPU".into();
    DeviceError::Missing { name, reason, remedy: DRIVERS.into() }
}

fn found() -> Vec<(DeviceName, String)> {
    let named = |(index, adapter): (usize, &Adapter)| (DeviceName::Wgpu(index), adapter.info.name.clone());
    adapters().iter().enumerate().map(named).collect()
}

fn report(index: usize, adapter: &Adapter) -> DeviceReport {
    let name = DeviceName::Wgpu(index);
    let started = adapter.start().map_err(|reason| DeviceError::Failed { name, reason });
    let hardware = started.map(|(_, dtypes)| Hardware {
        adapter: adapter.info.name.clone(),
        kind: adapter.kind,
        driver: adapter.driver(),
        memory: adapter.memory,
        dtypes: dtypes.clone(),
        notes: Vec::new(),
    });
    DeviceReport { name, hardware }
}

/// Whether the n-th adapter's units work in groups.
pub(crate) fn has_planes(index: usize) -> bool {
    adapters().get(index).is_some_and(|adapter| adapter.planes)
}

/// The machine's adapters. Looked for once: the Vulkan loader does not like instances that come and go on several threads.
fn adapters() -> &'static [Adapter] {
    static FOUND: OnceLock<Vec<Adapter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let apis = [WgpuBackend::Vulkan, WgpuBackend::Metal, WgpuBackend::Dx12];
        let mut all: Vec<Vec<Adapter>> = apis.into_iter().map(adapters_of).filter(|found| !found.is_empty()).collect();
        // One card seen through two interfaces is one device: take the first interface that reaches real hardware.
        let real = all.iter().position(|found| found.iter().any(|adapter| adapter.kind != HardwareKind::SoftwareGpu));
        if all.is_empty() { Vec::new() } else { all.swap_remove(real.unwrap_or(0)) }
    })
}

/// The adapters that one graphics interface offers, sorted by kind.
fn adapters_of(api: WgpuBackend) -> Vec<Adapter> {
    let backends = match api {
        WgpuBackend::Vulkan => wgpu::Backends::VULKAN,
        WgpuBackend::Metal => wgpu::Backends::METAL,
        WgpuBackend::Dx12 => wgpu::Backends::DX12,
        _ => wgpu::Backends::empty(),
    };
    if !wgpu::Instance::enabled_backend_features().intersects(backends) {
        return Vec::new();
    }
    let descriptor = wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = selectable(api, &block_on(instance.enumerate_adapters(backends)));
    adapters.sort_by_key(|adapter| adapter.kind);
    adapters
}

/// Pairs each adapter with Burn's selector for it: its place among those of its kind.
fn selectable(api: WgpuBackend, found: &[wgpu::Adapter]) -> Vec<Adapter> {
    let place = |at: usize| {
        let kind = found[at].get_info().device_type;
        found[..at].iter().filter(|adapter| adapter.get_info().device_type == kind).count()
    };
    let adapter = |(at, adapter): (usize, &wgpu::Adapter)| {
        let (kind, selector) = match (adapter.get_info().device_type, place(at)) {
            (wgpu::DeviceType::DiscreteGpu, place) => (HardwareKind::DiscreteGpu, DeviceKind::DiscreteGpu(place)),
            (wgpu::DeviceType::IntegratedGpu, place) => (HardwareKind::IntegratedGpu, DeviceKind::IntegratedGpu(place)),
            (wgpu::DeviceType::VirtualGpu, place) => (HardwareKind::VirtualGpu, DeviceKind::VirtualGpu(place)),
            (wgpu::DeviceType::Cpu, 0) => (HardwareKind::SoftwareGpu, DeviceKind::Cpu),
            // Burn selects neither a second emulated GPU nor one of unknown kind.
            (wgpu::DeviceType::Cpu | wgpu::DeviceType::Other, _) => return None,
        };
        let (info, memory) = (adapter.get_info(), vulkan_memory(adapter));
        let planes = adapter.features().contains(wgpu::Features::SUBGROUP);
        Some(Adapter { kind, selector, api, info, memory, planes, started: OnceLock::new() })
    };
    found.iter().enumerate().filter_map(adapter).collect()
}

/// The size of the adapter's own memory in bytes, which wgpu does not tell but Vulkan does.
#[cfg(any(target_os = "linux", target_os = "windows"))]
fn vulkan_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1; // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
    // SAFETY: the handle is only read, and neither it nor anything reached through it is destroyed or kept.
    #[allow(unsafe_code)]
    let heaps = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        vulkan.shared_instance().raw_instance().get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let local = heaps.memory_heaps_as_slice().iter().filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
    local.map(|heap| heap.size).max()
}

#[cfg(not(any(target_os = "linux", target_os = "windows")))]
fn vulkan_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// Waits for a future that wgpu answers at once outside of browsers.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}
