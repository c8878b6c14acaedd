//! f32 weights in two halves: a bf16 that products compute with, rounded by thresholds, and the lower 16 bits ([`hbat::compute::Split`]).

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, FloatDType};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, elements, empty, integer, vector};

#[backend_extension(Cube, Fusion)]
pub(super) trait HalvesKernels: Backend {
    /// Both halves of f32.
    #[fusion(meta = |full, to| (TensorSpec::new(full.shape.clone(), (*to).into()), TensorSpec::new(full.shape.clone(), rest(*to))))]
    fn halved(full: FloatTensor<Self>, to: FloatDType) -> (FloatTensor<Self>, IntTensor<Self>);

    /// f32 of both.
    #[fusion(meta = |coarse, _rest| TensorSpec::new(coarse.shape.clone(), DType::F32))]
    fn joined(coarse: FloatTensor<Self>, rest: IntTensor<Self>) -> FloatTensor<Self>;
}

/// What lower halves are kept in beside bf16; where there is none, there are no 16 bits either.
fn rest(coarse: FloatDType) -> DType {
    if coarse == FloatDType::BF16 { DType::I16 } else { DType::I32 }
}

impl HalvesKernels for CubeBackend {
    fn halved(full: CubeTensor, to: FloatDType) -> (CubeTensor, CubeTensor) {
        let full = contiguous(full);
        let shape = full.meta.shape().to_vec();
        let (coarse, rest) = (empty(&full, &shape, to.into()), empty(&full, &shape, rest(to)));
        let (count, client) = (full.meta.num_elements(), full.client.clone());
        let (size, wide) = (vector(count, full.dtype), address([&full]));
        let (cubes, dim) = elements(&full, count / size);
        let kinds = [element(coarse.dtype), integer(rest.dtype)];
        // SAFETY: vectors are below `count / size` in all three tensors.
        #[allow(unsafe_code)]
        unsafe {
            halve_weights::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                full.into_tensor_arg(),
                coarse.clone().into_tensor_arg(),
                rest.clone().into_tensor_arg(),
                (count / size) as u32,
                kinds,
            );
        }
        (coarse, rest)
    }

    fn joined(coarse: CubeTensor, rest: CubeTensor) -> CubeTensor {
        let [coarse, rest] = [coarse, rest].map(contiguous);
        let shape = coarse.meta.shape().to_vec();
        let full = empty(&coarse, &shape, DType::F32);
        let (count, client) = (full.meta.num_elements(), full.client.clone());
        let (size, wide) = (vector(count, full.dtype), address([&full]));
        let (cubes, dim) = elements(&full, count / size);
        let kinds = [element(coarse.dtype), integer(rest.dtype)];
        // SAFETY: vectors are below `count / size` in all three tensors.
        #[allow(unsafe_code)]
        unsafe {
            join_weights::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                coarse.into_tensor_arg(),
                rest.into_tensor_arg(),
                full.clone().into_tensor_arg(),
                (count / size) as u32,
                kinds,
            );
        }
        full
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn halve_weights<C: Float, R: Int, N: Size>(
    full: &Tensor<Vector<f32, N>>,
    coarse: &mut Tensor<Vector<C, N>>,
    rest: &mut Tensor<Vector<R, N>>,
    vectors: u32,
    #[define(C, R)] _kinds: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    coarse[i] = Vector::cast_from(coarse_of(full[i], thresholds::<N>(i)));
    rest[i] = Vector::cast_from(rest_of(full[i]));
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn join_weights<C: Float, R: Int, N: Size>(
    coarse: &Tensor<Vector<C, N>>,
    rest: &Tensor<Vector<R, N>>,
    full: &mut Tensor<Vector<f32, N>>,
    vectors: u32,
    #[define(C, R)] _kinds: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    full[i] = whole_of(Vector::cast_from(coarse[i]), Vector::cast_from(rest[i]), thresholds::<N>(i));
}

/// What is added to the lower halves of a vector's elements: where that makes more than 16 bits, they are rounded up.
#[cube]
pub(super) fn thresholds<N: Size>(vector: usize) -> Vector<u32, N> {
    let mut all = Vector::<u32, N>::new(0u32);
    #[unroll]
    for k in 0..N::value() {
        all.insert(k, (u32::cast_from(vector * N::value() + k) * 0x9E37_79B1u32) >> 16u32);
    }
    all
}

/// Thresholds that change with the weights: what is added to a bf16 step after step must not be rounded the same way every time.
#[cube]
pub(super) fn salted<N: Size>(thresholds: Vector<u32, N>, weights: Vector<f32, N>) -> Vector<u32, N> {
    let bits = Vector::<u32, N>::reinterpret(weights);
    thresholds ^ ((bits * Vector::new(0x85EB_CA6Bu32)) >> Vector::new(16u32))
}

/// The bf16 of f32, as f32. What is no number is cut.
#[cube]
pub(super) fn coarse_of<N: Size>(full: Vector<f32, N>, thresholds: Vector<u32, N>) -> Vector<f32, N> {
    let bits = Vector::<u32, N>::reinterpret(full);
    let exponent = (bits >> Vector::new(23u32)) & Vector::new(0xFFu32);
    // 1 where the exponent has all of its bits.
    let no_number = (exponent + Vector::new(1u32)) >> Vector::new(8u32);
    let up = thresholds * (Vector::new(1u32) - no_number);
    Vector::<f32, N>::reinterpret((bits + up) & Vector::new(0xFFFF_0000u32))
}

/// The 16 bits that are left, from −2¹⁵ to 2¹⁵ − 1.
#[cube]
pub(super) fn rest_of<N: Size>(full: Vector<f32, N>) -> Vector<i32, N> {
    let bits = Vector::<i32, N>::reinterpret(full);
    (bits << Vector::new(16i32)) >> Vector::new(16i32)
}

/// f32 of both halves.
#[cube]
pub(super) fn whole_of<N: Size>(coarse: Vector<f32, N>, rest: Vector<i32, N>, thresholds: Vector<u32, N>) -> Vector<f32, N> {
    let low = Vector::<u32, N>::reinterpret(rest) & Vector::new(0xFFFFu32);
    let up = (low + thresholds) & Vector::new(0x1_0000u32);
    Vector::<f32, N>::reinterpret((Vector::<u32, N>::reinterpret(coarse) - up) | low)
}
