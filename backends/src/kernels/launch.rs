//! How kernels are laid over a device.

use burn::tensor::DType;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind, IntKind};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
pub(super) use burn_cubecl::kernel::into_contiguous as contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// Units of a cube.
const UNITS: u32 = 256;

/// Cubes that share rows among their planes, at most.
const CUBES: usize = 1 << 14;

/// Bytes that a unit reads at once, where rows are so divided.
const VECTOR: usize = 16;

/// Planes there are at least; on a device whose planes are wider there are fewer, and each takes more rows.
const NARROW: usize = 8;

/// A new tensor.
pub(crate) fn empty(like: &CubeTensor, shape: &[usize], dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.to_vec().into(), dtype)
}

/// The same in memory of just its size, which no page of what comes and goes is held up by.
#[cfg(feature = "cuda")]
pub(crate) fn lasting(like: &CubeTensor, shape: &[usize], dtype: DType) -> CubeTensor {
    like.client.memory_persistent_allocation((), |()| empty(like, shape, dtype))
}

/// A tensor to write into: this one where nobody else holds its memory, or else a copy.
pub(crate) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// A type of elements as kernels are told it.
pub(super) fn element(dtype: DType) -> ElemType {
    match dtype {
        DType::BF16 => ElemType::Float(FloatKind::BF16),
        DType::F16 => ElemType::Float(FloatKind::F16),
        DType::F32 => ElemType::Float(FloatKind::F32),
        other => panic!("kernels read f32, f16 and bf16, not {other:?}"),
    }
}

/// The same of integers: remainders and tokens.
pub(super) fn integer(dtype: DType) -> ElemType {
    match dtype {
        DType::I16 => ElemType::Int(IntKind::I16),
        DType::I32 => ElemType::Int(IntKind::I32),
        DType::I64 => ElemType::Int(IntKind::I64),
        other => panic!("kernels read i16, i32 and i64, not {other:?}"),
    }
}

/// How wide an index into the largest of some tensors is.
pub(super) fn address<const N: usize>(tensors: [&CubeTensor; N]) -> AddressType {
    tensors.into_iter().map(CubeTensor::required_address_type).max().unwrap_or_default()
}

/// How many elements of rows of this width and type to read at once.
pub(super) fn vector(width: usize, dtype: DType) -> usize {
    let most = VECTOR / dtype.size();
    [most, 4].into_iter().find(|size| width.is_multiple_of(*size)).unwrap_or(1)
}

/// A unit for each of so many vectors.
pub(super) fn elements(like: &CubeTensor, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(&like.client, count, dim), dim)
}

/// Planes that take turns at so many rows.
pub(super) fn planes(rows: usize) -> (CubeCount, CubeDim) {
    let cubes = rows.div_ceil(NARROW).clamp(1, CUBES);
    (CubeCount::Static(cubes as u32, 1, 1), CubeDim::new_1d(UNITS))
}

/// The first row of this plane; the next is [`plane_step`] further.
#[cube]
pub(super) fn plane_first() -> usize {
    CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize
}

/// All planes together.
#[cube]
pub(super) fn plane_step() -> usize {
    CUBE_COUNT * (CUBE_DIM / PLANE_DIM) as usize
}

/// The sum of a vector's elements.
#[cube]
pub(super) fn total<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for k in 0..N::value() {
        sum += vector.extract(k);
    }
    sum
}

/// The largest of a vector's elements.
#[cube]
pub(super) fn largest<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut most = vector.extract(0usize);
    #[unroll]
    for k in 1..N::value() {
        most = max(most, vector.extract(k));
    }
    most
}
