//! Why a device cannot be used, and what to do about it.

use std::fmt;

use crate::DeviceName;

/// Why a device cannot be used. Its text gives the reason and the remedy; each can be had alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceError {
    /// This program was built without the backend.
    NotCompiled {
        /// The device that was asked for.
        name: DeviceName,
    },
    /// The backend was built in, but the machine lacks something it needs.
    Missing {
        /// The device that was asked for.
        name: DeviceName,
        /// What is missing.
        reason: String,
        /// How to get it.
        remedy: String,
    },
    /// The machine has devices of this kind, but fewer.
    NoSuchDevice {
        /// The device that was asked for.
        name: DeviceName,
        /// The devices there are, each with its adapter's name.
        found: Vec<(DeviceName, String)>,
    },
    /// The device is there and did not start.
    Failed {
        /// The device that was asked for.
        name: DeviceName,
        /// What the driver said.
        reason: String,
    },
}

impl DeviceError {
    /// The device that was asked for.
    pub fn name(&self) -> DeviceName {
        match self {
            Self::NotCompiled { name }
            | Self::Missing { name, .. }
            | Self::NoSuchDevice { name, .. }
            | Self::Failed { name, .. } => *name,
        }
    }

    /// What is wrong, in one sentence without a full stop.
    pub fn reason(&self) -> String {
        match self {
            Self::NotCompiled { name } => format!("this program was built without the `{}` feature", feature(*name)),
            Self::Missing { reason, .. } => reason.clone(),
            Self::NoSuchDevice { found, .. } => format!("there is no such device; this machine has {}", listed(found)),
            Self::Failed { reason, .. } => format!("the device was found but did not start: {reason}"),
        }
    }

    /// What to do about it, in one sentence without a full stop.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotCompiled { name } => rebuild(*name),
            Self::Missing { remedy, .. } => remedy.clone(),
            Self::NoSuchDevice { .. } => "choose one of these".into(),
            Self::Failed { .. } => "update its driver, close other programs that use it, or take `--device cpu`".into(),
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}: {}; {}", self.name(), self.reason(), self.remedy())
    }
}

impl std::error::Error for DeviceError {}

fn feature(name: DeviceName) -> &'static str {
    match name {
        DeviceName::Cpu => "cpu",
        DeviceName::Wgpu(_) => "wgpu",
        DeviceName::Cuda(_) => "cuda",
    }
}

fn rebuild(name: DeviceName) -> String {
    let needs = match name {
        DeviceName::Cpu => "",
        DeviceName::Wgpu(_) => {
            " (and install a Vulkan driver: on Debian and Ubuntu `apt-get install libvulkan1 mesa-vulkan-drivers`)"
        }
        DeviceName::Cuda(_) => " (and install NVIDIA's driver and CUDA toolkit)",
    };
    format!("rebuild with `cargo build --release --features {}`{needs}", feature(name))
}

fn listed(found: &[(DeviceName, String)]) -> String {
    let each: Vec<String> = found.iter().map(|(name, adapter)| format!("{name} ({adapter})")).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_named_with_the_command_and_the_packages() {
        let message = DeviceError::NotCompiled { name: DeviceName::Wgpu(0) }.to_string();
        assert!(message.starts_with("device wgpu:0: "), "{message}");
        assert!(message.contains("cargo build --release --features wgpu"), "{message}");
        assert!(message.contains("mesa-vulkan-drivers"), "{message}");
    }

    #[test]
    fn a_number_too_large_shows_what_there_is() {
        let found = vec![(DeviceName::Cuda(0), "H100".into()), (DeviceName::Cuda(1), "H100".into())];
        let message = DeviceError::NoSuchDevice { name: DeviceName::Cuda(2), found }.to_string();
        let expect = "device cuda:2: there is no such device; this machine has cuda:0 (H100), cuda:1 (H100); choose one of these";
        assert_eq!(message, expect);
    }
}
