//! What is known about a device before anything runs on it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, FloatDType};

use crate::{DeviceError, DeviceName};

/// What sort of hardware a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HardwareKind {
    /// A card with memory of its own.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A GPU that a virtual machine passes on.
    VirtualGpu,
    /// The processor itself.
    Cpu,
    /// A GPU driver that computes on the processor, such as Mesa's lavapipe: for tests, much slower than `cpu`.
    SoftwareGpu,
}

impl fmt::Display for HardwareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiscreteGpu => "GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::Cpu => "CPU",
            Self::SoftwareGpu => "GPU emulated on the CPU, slow",
        })
    }
}

/// A device that works.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    /// The name its maker gave it.
    pub adapter: String,
    /// What sort of hardware it is.
    pub kind: HardwareKind,
    /// The software that drives it.
    pub driver: String,
    /// Its memory in bytes, the system's for a processor; `None` where the driver does not say.
    pub memory: Option<u64>,
    /// The floating-point types it can compute in, not merely store.
    pub dtypes: Vec<FloatDType>,
    /// What a user should know besides.
    pub notes: Vec<String>,
}

/// One device that this build and machine offer, or one that they do not and why.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceReport {
    /// What to write after `--device`.
    pub name: DeviceName,
    /// The device as it was started, or why it cannot be used.
    pub hardware: Result<Hardware, DeviceError>,
}

impl fmt::Display for DeviceReport {
    /// Several lines, the first beginning with the name, the others indented, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hardware {
            Ok(hardware) => write!(f, "{:<8} {hardware}", self.name.to_string()),
            Err(error) => {
                write!(f, "{:<8} not available: {}", self.name.to_string(), error.reason())?;
                write!(f, "\n         to get it, {}", error.remedy())
            }
        }
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory.map_or("memory not known".to_string(), |bytes| format!("{:.1} GiB", gibibytes(bytes)));
        let dtypes: Vec<&str> = self.dtypes.iter().map(|dtype| dtype_name(*dtype)).collect();
        write!(f, "{} ({}, {memory})", self.adapter, self.kind)?;
        write!(f, "\n         {}; computes in {}", self.driver, dtypes.join(", "))?;
        self.notes.iter().try_for_each(|note| write!(f, "\n         {note}"))
    }
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// The name of a floating-point type as run files write it.
pub fn dtype_name(dtype: FloatDType) -> &'static str {
    match dtype {
        FloatDType::F64 => "f64",
        FloatDType::F32 => "f32",
        FloatDType::Flex32 => "flex32",
        FloatDType::F16 => "f16",
        FloatDType::BF16 => "bf16",
    }
}

/// Starts the device and asks it what it can compute in.
///
/// Burn starts a runtime at its first use and panics if that fails, so the panic is caught here, once, before any training.
pub(crate) fn start(device: &Device) -> Result<Vec<FloatDType>, String> {
    let ask = || {
        let known = [FloatDType::F32, FloatDType::F16, FloatDType::BF16, FloatDType::F64];
        known.into_iter().filter(|dtype| device.supports_dtype(*dtype)).collect()
    };
    catch_unwind(AssertUnwindSafe(ask)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()))
            .unwrap_or_else(|| "it gave no reason".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_text() {
        let hardware = Hardware {
            adapter: "Model 3".into(),
            kind: HardwareKind::DiscreteGpu,
            driver: "driver 1.2".into(),
            memory: Some(3 << 29),
            dtypes: vec![FloatDType::F32, FloatDType::BF16],
            notes: vec!["a note".into()],
        };
        let report = DeviceReport { name: DeviceName::Cuda(1), hardware: Ok(hardware) };
        let expect = "cuda:1   Model 3 (GPU, 1.5 GiB)\n         driver 1.2; computes in f32, bf16\n         a note";
        assert_eq!(report.to_string(), expect);
    }

    #[test]
    fn an_absent_device_says_how_to_get_it() {
        let name = DeviceName::Cuda(0);
        let text = DeviceReport { name, hardware: Err(DeviceError::NotCompiled { name }) }.to_string();
        assert!(text.contains("not available: this program was built without the `cuda` feature"), "{text}");
        assert!(text.contains("to get it, rebuild with `cargo build --release --features cuda`"), "{text}");
    }
}
