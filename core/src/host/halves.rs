//! Between f32 and bf16: f32 in two halves, a bf16 that products compute with and the 16 bits that are left.
//!
//! What is rounded to the nearest hides what small steps add up to: a published weight is a bf16 itself, and would stay the same until it has moved
//! by half of the distance to its neighbour. So each element has a threshold of its own between two neighbours, from which it is rounded up: of many
//! elements, as many are rounded up as all have moved (dithering). Thresholds never change, so that an f32 always has the same two halves.

use burn::tensor::{DType, TensorData, bf16};

use super::threads::{Threads, in_chunks};

/// Elements per task.
const CHUNK: usize = 1 << 16;

/// 2³² over the golden ratio: the thresholds of neighbours lie far apart, and those of any number of them everywhere.
const STRIDE: u32 = 0x9E37_79B1;

/// What mixes the bits of a weight (a constant of MurmurHash3).
const SALT: u32 = 0x85EB_CA6B;

/// What is added to an element's lower 16 bits: where that makes more than 16, it is rounded up.
fn threshold(index: usize) -> u32 {
    (index as u32).wrapping_mul(STRIDE) >> 16
}

/// One that changes with the weight: a gradient that is pulled at the same way step after step would always be rounded the same way by its
/// own, so that a few elements felt all of a small pull and the others nothing.
fn salted(index: usize, weight: f32) -> u32 {
    threshold(index) ^ (weight.to_bits().wrapping_mul(SALT) >> 16)
}

/// The bf16 of an element. What is a bf16 stays itself, and so does what is no number.
fn coarse(value: f32, threshold: u32) -> bf16 {
    let up = if value.is_finite() { threshold } else { 0 };
    bf16::from_bits((value.to_bits().wrapping_add(up) >> 16) as u16)
}

/// Its 16 bits that are left.
fn fine(value: f32) -> i16 {
    value.to_bits() as u16 as i16
}

/// The element whose halves these are.
fn whole(coarse: bf16, fine: i16, index: usize) -> f32 {
    let low = u32::from(fine as u16);
    let up = (low + threshold(index)) >> 16;
    f32::from_bits((u32::from(coarse.to_bits()).wrapping_sub(up) << 16) | low)
}

/// Weights as data of a type: as bf16, rounded by their thresholds.
pub(crate) fn narrow(values: &[f32], dims: [usize; 2], dtype: DType) -> TensorData {
    if dtype != DType::BF16 {
        return TensorData::new(values.to_vec(), dims).convert_dtype(dtype);
    }
    TensorData::new(each(values.len(), bf16::ZERO, |index| coarse(values[index], threshold(index))), dims)
}

/// Gradients that were bf16 until the pull towards an anchor was added, as bf16 again: of a pull that is small beside what bf16 resolves, as
/// many elements are moved to their neighbour as keep its sum, at every step others.
pub(crate) fn repulled(gradient: &[f32], weights: &[f32], dims: [usize; 2]) -> TensorData {
    let rounded = |index| coarse(gradient[index], salted(index, weights[index]));
    TensorData::new(each(gradient.len(), bf16::ZERO, rounded), dims)
}

/// Their two halves.
pub(crate) fn halved(values: &[f32], dims: [usize; 2]) -> [TensorData; 2] {
    let left = each(values.len(), 0, |index| fine(values[index]));
    [narrow(values, dims, DType::BF16), TensorData::new(left, dims)]
}

/// Both halves as f32.
pub(crate) fn joined([coarse, fine]: [TensorData; 2]) -> Vec<f32> {
    let (coarse, fine): (&[bf16], &[i16]) = (coarse.as_slice().expect("bf16"), fine.as_slice().expect("16 bits"));
    each(coarse.len(), 0.0, |index| whole(coarse[index], fine[index], index))
}

/// Data of any floating-point type as f32; in place where they are.
pub(crate) fn widen(data: TensorData) -> Vec<f32> {
    if data.dtype() != DType::BF16 {
        return data.convert::<f32>().try_into_vec().expect("converted to f32");
    }
    let from: &[bf16] = data.as_slice().expect("of that type");
    each(from.len(), 0.0, |index| from[index].to_f32())
}

fn each<T: Send + Copy>(count: usize, nothing: T, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut out = vec![nothing; count];
    in_chunks(Threads::for_elements(count), &mut out, CHUNK, |chunk, out| {
        out.iter_mut().enumerate().for_each(|(place, out)| *out = of(chunk * CHUNK + place));
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;

    #[test]
    fn both_halves_are_the_whole() {
        let mut values = Noise(3).values(100_000, 3.0);
        values[..8].copy_from_slice(&[0.0, -0.0, 1e-40, -1e-38, 3e38, f32::INFINITY, f32::NEG_INFINITY, 1.0]);
        let halves = halved(&values, [100, 1000]);
        assert_eq!(halves.each_ref().map(TensorData::dtype), [DType::BF16, DType::I16]);
        let again = joined(halves);
        assert!(values.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(joined(halved(&[f32::NAN], [1, 1]))[0].is_nan());
    }

    #[test]
    fn what_is_a_bf16_stays_one_and_the_rest_becomes_a_neighbour() {
        let values = Noise(4).values(100_000, 0.02);
        let narrowed = widen(narrow(&values, [100, 1000], DType::BF16));
        assert!(values.iter().zip(&narrowed).all(|(value, narrow)| (value - narrow).abs() < value.abs() / 128.0));
        assert_eq!(widen(narrow(&narrowed, [100, 1000], DType::BF16)), narrowed);
        assert_eq!(widen(narrow(&values, [100, 1000], DType::F32)), values);
    }

    /// Pulls of 3·10⁻⁴ to 10⁻² of a gradient, while weights move by millionths: rounded to the nearest, an eighth of the smallest stays.
    #[test]
    fn a_small_pull_is_felt_by_all_and_adds_up() {
        const ELEMENTS: usize = 4096;
        let (gradient, mut weights) = (Noise(5).values(ELEMENTS, 1.0), Noise(6).values(ELEMENTS, 0.02));
        let gradient = widen(TensorData::new(gradient, [64, 64]).convert_dtype(DType::BF16));
        for pull in [3e-4f32, 1e-3, 1e-2] {
            let (steps, mut felt) = (400, vec![0.0f64; ELEMENTS]);
            for step in 0..steps {
                let moves = Noise(100 + step).values(ELEMENTS, 1e-6);
                weights.iter_mut().zip(moves).for_each(|(weight, by)| *weight += by);
                let pulled: Vec<f32> = gradient.iter().map(|g| g + pull).collect();
                let kept = widen(repulled(&pulled, &weights, [64, 64]));
                felt.iter_mut().zip(kept.iter().zip(&gradient)).for_each(|(felt, (kept, g))| *felt += f64::from(kept - g));
            }
            let all = felt.iter().sum::<f64>() / (ELEMENTS as f64 * f64::from(pull) * steps as f64);
            let untouched = felt.iter().filter(|felt| **felt == 0.0).count();
            assert!((all - 1.0).abs() < 0.02, "{pull:e}: {all} of it is kept");
            assert!(untouched < ELEMENTS / 50, "{pull:e}: {untouched} elements feel nothing");
        }
    }

    /// A hundredth of the distance between neighbours, where rounding to the nearest would hide it.
    #[test]
    fn of_many_as_many_are_rounded_up_as_all_have_moved() {
        for (start, step) in [(1.0f32, 2f32.powi(-7)), (-0.75, 2f32.powi(-8))] {
            let moved = vec![start + 0.01 * step; 100_000];
            let narrowed = widen(narrow(&moved, [100, 1000], DType::BF16));
            let mean = narrowed.iter().map(|x| f64::from(*x - start)).sum::<f64>() / 1e5;
            assert!((mean / (0.01 * f64::from(step)) - 1.0).abs() < 0.01, "{mean:e}");
            // Of a row alone, too, and of a column.
            let row = narrowed[..1000].iter().filter(|x| **x != start).count();
            let column = narrowed.iter().step_by(1000).filter(|x| **x != start).count();
            assert!((8..=12).contains(&row) && column <= 4, "{row}, {column}");
        }
    }
}
