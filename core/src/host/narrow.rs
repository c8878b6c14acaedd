//! Between f32 and the narrower numbers of a device.

use burn::tensor::{DType, TensorData, bf16};

use super::threads::{Threads, in_chunks};

/// Elements per task.
const CHUNK: usize = 1 << 16;

/// Values as data of a type, rounded to it.
pub(crate) fn narrow(values: &[f32], dims: [usize; 2], dtype: DType) -> TensorData {
    if dtype != DType::BF16 {
        return TensorData::new(values.to_vec(), dims).convert_dtype(dtype);
    }
    let mut out = vec![bf16::ZERO; values.len()];
    in_chunks(Threads::for_elements(values.len()), &mut out, CHUNK, |chunk, out| {
        let from = &values[chunk * CHUNK..][..out.len()];
        out.iter_mut().zip(from).for_each(|(out, value)| *out = bf16::from_f32(*value));
    });
    TensorData::new(out, dims)
}

/// Data of any floating-point type as f32; in place where they are.
pub(crate) fn widen(data: TensorData) -> Vec<f32> {
    if data.dtype() != DType::BF16 {
        return data.convert::<f32>().try_into_vec().expect("converted to f32");
    }
    let from: &[bf16] = data.as_slice().expect("of that type");
    let mut out = vec![0.0; from.len()];
    in_chunks(Threads::for_elements(from.len()), &mut out, CHUNK, |chunk, out| {
        let from = &from[chunk * CHUNK..][..out.len()];
        out.iter_mut().zip(from).for_each(|(out, value)| *out = value.to_f32());
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;

    #[test]
    fn rounding_is_to_the_nearest_and_widening_exact() {
        let values = Noise(3).values(100_000, 3.0);
        for dtype in [DType::F32, DType::BF16] {
            let narrowed = narrow(&values, [100, 1000], dtype);
            assert_eq!((narrowed.dtype(), narrowed.shape().to_vec()), (dtype, vec![100, 1000]));
            let expected: Vec<f32> = TensorData::new(values.clone(), [100, 1000]).convert_dtype(dtype).iter::<f32>().collect();
            assert_eq!(widen(narrowed), expected);
        }
    }
}
