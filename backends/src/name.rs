//! How users name a device.

use std::fmt;
use std::str::FromStr;

/// A device as it is written in run files and after `--device`.
///
/// `wgpu` and `cuda` without a number mean the first device, which is the fastest kind that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceName {
    /// `cpu`: Burn's Flex backend on all cores.
    Cpu,
    /// `wgpu:n`: the n-th GPU reached through Vulkan, Metal or DirectX 12, dedicated cards first.
    Wgpu(usize),
    /// `cuda:n`: the n-th NVIDIA GPU, numbered as CUDA does.
    Cuda(usize),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Why a text names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The part before the colon is none of the known backends.
    #[error(
        "\"{given}\" is no device; did you mean \"{nearest}\"? Write cpu, wgpu, wgpu:N, cuda or cuda:N (`hbat devices` lists this machine's)"
    )]
    Unknown {
        /// What was written.
        given: String,
        /// The backend that it resembles most.
        nearest: &'static str,
    },
    /// The part after the colon is no number.
    #[error("device \"{given}\": \"{index}\" is no device number; write \"{backend}:0\" for the first one")]
    Index {
        /// What was written.
        given: String,
        /// The part before the colon.
        backend: &'static str,
        /// The part after the colon.
        index: String,
    },
    /// A number was given to the CPU.
    #[error("device \"{given}\": there is one CPU device, without a number; write \"cpu\"")]
    NumberedCpu {
        /// What was written.
        given: String,
    },
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        let (backend, index) = match given.split_once(':') {
            Some((backend, index)) => (backend, Some(index)),
            None => (given, None),
        };
        match (backend, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cpu", Some(_)) => Err(NameError::NumberedCpu { given: given.into() }),
            ("wgpu", index) => number(given, "wgpu", index).map(Self::Wgpu),
            ("cuda", index) => number(given, "cuda", index).map(Self::Cuda),
            _ => Err(NameError::Unknown { given: given.into(), nearest: nearest(backend) }),
        }
    }
}

fn number(given: &str, backend: &'static str, index: Option<&str>) -> Result<usize, NameError> {
    let Some(index) = index else { return Ok(0) };
    index.parse().map_err(|_| NameError::Index { given: given.into(), backend, index: index.into() })
}

/// What people write when they do not know our names, beside the names themselves.
const MEANT: [(&str, &str); 11] = [
    ("cpu", "cpu"),
    ("flex", "cpu"),
    ("wgpu", "wgpu"),
    ("gpu", "wgpu"),
    ("vulkan", "wgpu"),
    ("metal", "wgpu"),
    ("mps", "wgpu"),
    ("dx12", "wgpu"),
    ("rocm", "wgpu"),
    ("cuda", "cuda"),
    ("nvidia", "cuda"),
];

fn nearest(backend: &str) -> &'static str {
    let backend = backend.to_lowercase();
    let distance = |word: &str| strsim::damerau_levenshtein(word, &backend);
    MEANT.iter().min_by_key(|(word, _)| distance(word)).map_or("cpu", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, expect: Result<DeviceName, &str>) {
        let found = given.parse::<DeviceName>().map_err(|e| e.to_string());
        match (found, expect) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message:?} does not say {part:?}"),
            (found, expect) => panic!("{given:?} gave {found:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn names_are_read() {
        check("cpu", Ok(DeviceName::Cpu));
        check("wgpu", Ok(DeviceName::Wgpu(0)));
        check("wgpu:2", Ok(DeviceName::Wgpu(2)));
        check("cuda", Ok(DeviceName::Cuda(0)));
        check("cuda:11", Ok(DeviceName::Cuda(11)));
    }

    #[test]
    fn other_texts_are_refused_with_the_nearest_name() {
        check("gpu", Err("did you mean \"wgpu\"?"));
        check("gpu:1", Err("did you mean \"wgpu\"?"));
        check("CPU", Err("did you mean \"cpu\"?"));
        check("cudda:0", Err("did you mean \"cuda\"?"));
        check("nvidia", Err("did you mean \"cuda\"?"));
        check("", Err("Write cpu, wgpu, wgpu:N, cuda or cuda:N"));
    }

    #[test]
    fn numbers_are_checked() {
        check("cuda:x", Err("\"x\" is no device number; write \"cuda:0\""));
        check("cuda:", Err("\"\" is no device number"));
        check("wgpu:-1", Err("\"-1\" is no device number"));
        check("wgpu:99999999999999999999999", Err("is no device number"));
        check("cpu:0", Err("there is one CPU device"));
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for name in [DeviceName::Cpu, DeviceName::Wgpu(0), DeviceName::Cuda(3)] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }
}
