//! The processor, through Burn's Flex backend.

use burn::tensor::Device;

use crate::container;
use crate::report::start;
use crate::{DeviceError, DeviceName, DeviceReport, Hardware, HardwareKind, Usage};

const NAME: DeviceName = DeviceName::Cpu;

/// Opens the processor. Threads are Rayon's, set by `RAYON_NUM_THREADS`.
pub(crate) fn open() -> Result<Device, DeviceError> {
    let device = Device::flex();
    start(&device).map_err(|reason| DeviceError::Failed { name: NAME, reason })?;
    Ok(device)
}

/// One report: the processor is always there.
pub(crate) fn list() -> Vec<DeviceReport> {
    let started = start(&Device::flex()).map_err(|reason| DeviceError::Failed { name: NAME, reason });
    let hardware = started.map(|dtypes| Hardware {
        adapter: model().unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH)),
        kind: HardwareKind::Cpu,
        driver: format!("Burn Flex, {} threads, {}", rayon::current_num_threads(), simd()),
        memory: memory(),
        dtypes,
        notes: Vec::new(),
    });
    vec![DeviceReport { name: NAME, hardware }]
}

/// The widest vector instructions that matrix products use here.
#[cfg(target_arch = "x86_64")]
fn simd() -> &'static str {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx512, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        (true, _) => "AVX-512",
        (false, true) => "AVX2",
        (false, false) => "SSE2",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn simd() -> &'static str {
    if cfg!(target_arch = "aarch64") { "NEON" } else { "scalar" }
}

/// The processor's name where the system tells it in a file.
fn model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// The memory that this process may use: the machine's, or what a container allows.
fn memory() -> Option<u64> {
    let machine = meminfo("MemTotal:")?;
    Some(container::allowance().map_or(machine, |container| machine.min(container.all)))
}

/// The memory that can still be had without writing any to disk.
pub(crate) fn free() -> Option<u64> {
    let machine = meminfo("MemAvailable:")?;
    Some(container::allowance().map_or(machine, |container| machine.min(container.free)))
}

/// This process's resident memory.
pub(crate) fn usage() -> Option<Usage> {
    let line = |name| kilobytes("/proc/self/status", name);
    Some(Usage { now: line("VmRSS:")?, peak: line("VmHWM:")? })
}

/// A line of `/proc/meminfo` in bytes.
fn meminfo(name: &str) -> Option<u64> {
    kilobytes("/proc/meminfo", name)
}

/// A line of a file of sizes in kB, in bytes.
fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_described() {
        let reports = list();
        let hardware = reports[0].hardware.as_ref().unwrap();
        assert!(!hardware.adapter.is_empty());
        assert!(hardware.dtypes.contains(&burn::tensor::FloatDType::F64));
        assert!(hardware.driver.contains("threads"));
        if cfg!(target_os = "linux") {
            assert!(hardware.memory.unwrap() > 100 << 20);
            assert!((1 << 20..=hardware.memory.unwrap()).contains(&free().unwrap()));
        }
    }
}
