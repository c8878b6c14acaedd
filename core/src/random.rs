//! Position-addressed randomness: every draw is a function of the seed, a label and numbers, so nothing about a random
//! generator needs saving or restoring.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator for one purpose, such as `stream(seed, "epoch dpo-1", &[epoch])`.
pub fn stream(seed: u64, label: &str, numbers: &[u64]) -> ChaCha8Rng {
    let label_hash = fnv1a(label.bytes());
    let number_hash = fnv1a(numbers.iter().flat_map(|n| n.to_le_bytes()));
    let mut key = [0u8; 32];
    for (chunk, value) in key.chunks_exact_mut(8).zip([seed, label_hash, number_hash, numbers.len() as u64]) {
        chunk.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// 64-bit FNV-1a.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A permutation of 0..n, every one equally likely (Fisher and Yates).
pub fn permutation(n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(i as u64 + 1, rng) as usize);
    }
    order
}

/// A number in 0..n, drawn as 64 bits whatever the width of a pointer.
pub fn below(n: u64, rng: &mut ChaCha8Rng) -> u64 {
    rng.random_range(0..n)
}

/// A standard normal number (Box and Muller 1958, the cosine half). The last bit is the platform's `ln` and `cos`.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt(); // 1 − u is never 0
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_holds_everything_once_and_depends_on_all_of_its_address() {
        let draw = |seed, label, numbers: &[u64]| permutation(50, &mut stream(seed, label, numbers));
        let mut sorted = draw(1, "split", &[2]);
        assert_eq!(sorted, draw(1, "split", &[2]));
        for other in [draw(2, "split", &[2]), draw(1, "epoch", &[2]), draw(1, "split", &[3]), draw(1, "split", &[])] {
            assert_ne!(sorted, other);
        }
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let mut rng = stream(3, "test", &[]);
        let draws: Vec<f64> = (0..40_000).map(|_| normal(&mut rng)).collect();
        let moment = |power| draws.iter().map(|x: &f64| x.powi(power)).sum::<f64>() / draws.len() as f64;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.08 && (moment(4) - 3.0).abs() < 0.2, "{} {}", moment(3), moment(4));
    }
}
