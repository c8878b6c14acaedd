//! What makers promise.

/// Dense bf16 operations per second with f32 sums, from the makers' data sheets, by words of the adapter's name. The first that
/// fits counts.
const BF16: [(&str, f64); 14] = [
    ("B200", 2250e12),
    ("GH200", 990e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("L40S", 362e12),
    ("A40", 150e12),
    ("RTX 5090", 210e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
];

/// bf16 operations per second of an adapter.
pub(crate) fn bf16(adapter: &str) -> Option<f64> {
    let words: Vec<&str> = adapter.split([' ', '-']).collect();
    let named = |name: &str| words.windows(name.split(' ').count()).any(|part| part.join(" ") == name);
    BF16.into_iter().find(|(name, _)| named(name)).map(|(_, peak)| peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_told_apart() {
        assert_eq!(bf16("NVIDIA H100 80GB HBM3"), Some(989e12));
        assert_eq!(bf16("NVIDIA H100 PCIe"), Some(756e12));
        assert_eq!(bf16("NVIDIA A100-SXM4-80GB"), Some(312e12));
        assert_eq!(bf16("NVIDIA H200 NVL"), Some(835e12));
        assert_eq!(bf16("NVIDIA GH200 480GB"), Some(990e12));
        assert_eq!(bf16("NVIDIA RTX A4000"), None);
        assert_eq!(bf16("llvmpipe (LLVM 15.0.6, 256 bits)"), None);
    }
}
