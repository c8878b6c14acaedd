//! AdamW on weights in two halves, with a pull towards an anchor: one pass over memory to measure, one to
//! update.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;
use hbat::compute::AdamWNumbers;

use super::halves::{coarse_of, rest_of, thresholds, whole_of};
use super::launch::{address, contiguous, element, elements, empty, integer, owned, total, vector};

/// Cubes that measure, each some vectors.
const CUBES: u32 = 1056;

/// Units of such a cube; no more planes than units.
const UNITS: u32 = 256;

#[backend_extension(Cube, Fusion)]
pub(super) trait OptimizerKernels: Backend {
    /// What cubes add up of g².
    #[fusion(meta = |_gradient| parts())]
    fn measured(gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// g + λF·(θ − θ*), and what cubes add up of its square, of the penalty and of the pull's square.
    #[fusion(meta = |gradient, _coarse, _rest, _anchor, _strength| (gradient.clone(), parts()))]
    fn pulled(
        gradient: FloatTensor<Self>,
        coarse: FloatTensor<Self>,
        rest: IntTensor<Self>,
        anchor: FloatTensor<Self>,
        strength: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Weights and moments after a step.
    #[fusion(meta = |_gradient, coarse, rest, first, second, _numbers| updated(coarse, rest, first, second))]
    fn adamw(
        gradient: FloatTensor<Self>,
        coarse: FloatTensor<Self>,
        rest: IntTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        numbers: AdamWNumbers,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn parts() -> TensorSpec {
    TensorSpec::new([CUBES as usize, 3].into(), DType::F32)
}

type Updated = (TensorSpec, TensorSpec, TensorSpec, TensorSpec);

fn updated(coarse: &TensorSpec, rest: &TensorSpec, first: &TensorSpec, second: &TensorSpec) -> Updated {
    (coarse.clone(), rest.clone(), first.clone(), second.clone())
}

impl OptimizerKernels for CubeBackend {
    fn measured(gradient: CubeTensor) -> CubeTensor {
        let gradient = contiguous(gradient);
        let elements = gradient.meta.num_elements();
        let (parts, client) = (empty(&gradient, &[CUBES as usize, 3], DType::F32), gradient.client.clone());
        let (size, kind, wide) = (vector(elements, gradient.dtype), element(gradient.dtype), address([&gradient]));
        // SAFETY: vectors are below `elements / size`; `parts` has three numbers for every cube.
        #[allow(unsafe_code)]
        unsafe {
            measured_gradient::launch_unchecked(
                &client,
                CubeCount::Static(CUBES, 1, 1),
                CubeDim::new_1d(UNITS),
                wide,
                size,
                gradient.into_tensor_arg(),
                parts.clone().into_tensor_arg(),
                (elements / size) as u32,
                kind,
            );
        }
        parts
    }

    fn pulled(
        gradient: CubeTensor,
        coarse: CubeTensor,
        rest: CubeTensor,
        anchor: CubeTensor,
        strength: f32,
    ) -> (CubeTensor, CubeTensor) {
        let (gradient, [coarse, rest, anchor]) = (owned(gradient), [coarse, rest, anchor].map(contiguous));
        let elements = gradient.meta.num_elements();
        let (parts, client) = (empty(&gradient, &[CUBES as usize, 3], DType::F32), gradient.client.clone());
        let (size, wide) = (vector(elements, gradient.dtype), address([&gradient]));
        let kinds = [element(gradient.dtype), element(coarse.dtype), integer(rest.dtype)];
        // SAFETY: vectors are below `elements / size` in all four tensors; `parts` has three numbers for every cube.
        #[allow(unsafe_code)]
        unsafe {
            pulled_gradient::launch_unchecked(
                &client,
                CubeCount::Static(CUBES, 1, 1),
                CubeDim::new_1d(UNITS),
                wide,
                size,
                gradient.clone().into_tensor_arg(),
                coarse.into_tensor_arg(),
                rest.into_tensor_arg(),
                anchor.into_tensor_arg(),
                parts.clone().into_tensor_arg(),
                strength,
                (elements / size) as u32,
                kinds,
            );
        }
        (gradient, parts)
    }

    fn adamw(
        gradient: CubeTensor,
        coarse: CubeTensor,
        rest: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        numbers: AdamWNumbers,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let gradient = contiguous(gradient);
        let [coarse, rest, first, second] = [coarse, rest, first, second].map(owned);
        let (count, client) = (gradient.meta.num_elements(), gradient.client.clone());
        let (size, wide) = (vector(count, gradient.dtype), address([&gradient]));
        let kinds = [element(gradient.dtype), element(coarse.dtype), integer(rest.dtype), element(first.dtype)];
        let (cubes, dim) = elements(&gradient, count / size);
        let [clip, rate, keep, beta1, beta2, eps, correction1, correction2] = numbers;
        // SAFETY: vectors are below `count / size` in all five tensors.
        #[allow(unsafe_code)]
        unsafe {
            updated_weights::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                gradient.into_tensor_arg(),
                coarse.clone().into_tensor_arg(),
                rest.clone().into_tensor_arg(),
                first.clone().into_tensor_arg(),
                second.clone().into_tensor_arg(),
                clip,
                1.0 - beta1,
                beta2,
                1.0 - beta2,
                eps,
                rate / correction1,
                correction2,
                keep,
                (count / size) as u32,
                kinds,
            );
        }
        (coarse, rest, first, second)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn measured_gradient<G: Float, N: Size>(
    gradient: &Tensor<Vector<G, N>>,
    parts: &mut Tensor<f32>,
    vectors: u32,
    #[define(G)] _kind: ElemType,
) {
    let zero = Vector::<f32, N>::new(0.0f32);
    let mut squares = zero;
    let mut i = ABSOLUTE_POS;
    while i < vectors as usize {
        let g = Vector::<f32, N>::cast_from(gradient[i]);
        squares += g * g;
        i += CUBE_COUNT * CUBE_DIM as usize;
    }
    cube_totals(total(squares), 0.0f32, 0.0f32, parts);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pulled_gradient<G: Float, C: Float, R: Int, N: Size>(
    gradient: &mut Tensor<Vector<G, N>>,
    coarse: &Tensor<Vector<C, N>>,
    rest: &Tensor<Vector<R, N>>,
    anchor: &Tensor<Vector<f32, N>>,
    parts: &mut Tensor<f32>,
    strength: f32,
    vectors: u32,
    #[define(G, C, R)] _kinds: [ElemType; 3],
) {
    let zero = Vector::<f32, N>::new(0.0f32);
    let mut squares = zero;
    let mut penalties = zero;
    let mut pulls = zero;
    let mut i = ABSOLUTE_POS;
    while i < vectors as usize {
        let weight = whole_of(Vector::cast_from(coarse[i]), Vector::cast_from(rest[i]), thresholds::<N>(i));
        let away = weight - anchor[i];
        let pull = away * Vector::new(strength);
        let g = Vector::<f32, N>::cast_from(gradient[i]) + pull;
        gradient[i] = Vector::cast_from(g);
        squares += g * g;
        penalties += away * pull;
        pulls += pull * pull;
        i += CUBE_COUNT * CUBE_DIM as usize;
    }
    cube_totals(total(squares), 0.5f32 * total(penalties), total(pulls), parts);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn updated_weights<G: Float, C: Float, R: Int, M: Float, N: Size>(
    gradient: &Tensor<Vector<G, N>>,
    coarse: &mut Tensor<Vector<C, N>>,
    rest: &mut Tensor<Vector<R, N>>,
    first: &mut Tensor<Vector<M, N>>,
    second: &mut Tensor<Vector<M, N>>,
    clip: f32,
    mix1: f32,
    beta2: f32,
    mix2: f32,
    eps: f32,
    rate: f32,
    correction2: f32,
    keep: f32,
    vectors: u32,
    #[define(G, C, R, M)] _kinds: [ElemType; 4],
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(gradient[i]) * Vector::new(clip);
    let m = Vector::<f32, N>::cast_from(first[i]);
    let m = m + (g - m) * Vector::new(mix1);
    let v = Vector::<f32, N>::cast_from(second[i]) * Vector::new(beta2) + g * g * Vector::new(mix2);
    first[i] = Vector::cast_from(m);
    second[i] = Vector::cast_from(v);
    let step = m / (v.sqrt() / Vector::new(correction2) + Vector::new(eps)) * Vector::new(rate);
    let thresholds = thresholds::<N>(i);
    let full = whole_of(Vector::cast_from(coarse[i]), Vector::cast_from(rest[i]), thresholds) * Vector::new(keep) - step;
    coarse[i] = Vector::cast_from(coarse_of(full, thresholds));
    rest[i] = Vector::cast_from(rest_of(full));
}

/// Adds up three numbers over the cube, into its row of `parts`.
#[cube]
fn cube_totals(first: f32, second: f32, third: f32, parts: &mut Tensor<f32>) {
    let mut shared = Shared::<[f32]>::new_slice(768usize);
    let (a, b, c) = (plane_sum(first), plane_sum(second), plane_sum(third));
    let plane = PLANE_POS as usize;
    if UNIT_POS_PLANE == 0 {
        shared[3 * plane] = a;
        shared[3 * plane + 1] = b;
        shared[3 * plane + 2] = c;
    }
    sync_cube();
    if UNIT_POS < 3 {
        let mut sum = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < 3 * (CUBE_DIM / PLANE_DIM) as usize {
            sum += shared[i];
            i += 3;
        }
        parts[3 * CUBE_POS + UNIT_POS as usize] = sum;
    }
}
