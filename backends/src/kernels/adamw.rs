//! A step of AdamW, one pass over memory: on weights in two halves, or of f32.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;
use hbat::compute::AdamWNumbers;

use super::halves::{coarse_of, rest_of, thresholds, whole_of};
use super::launch::{address, contiguous, element, elements, integer, owned, vector};

#[backend_extension(Cube, Fusion)]
pub(super) trait AdamWKernels: Backend {
    /// Weights in two halves and moments after a step.
    #[fusion(meta = |_gradient, coarse, rest, first, second, _numbers| updated(coarse, rest, first, second))]
    fn adamw(
        gradient: FloatTensor<Self>,
        coarse: FloatTensor<Self>,
        rest: IntTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        numbers: AdamWNumbers,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same of weights of f32.
    #[fusion(meta = |_gradient, weights, first, second, _numbers| (weights.clone(), first.clone(), second.clone()))]
    fn adamw_whole(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        numbers: AdamWNumbers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

type Updated = (TensorSpec, TensorSpec, TensorSpec, TensorSpec);

fn updated(coarse: &TensorSpec, rest: &TensorSpec, first: &TensorSpec, second: &TensorSpec) -> Updated {
    (coarse.clone(), rest.clone(), first.clone(), second.clone())
}

impl AdamWKernels for CubeBackend {
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
                step_of(numbers),
                (count / size) as u32,
                kinds,
            );
        }
        (coarse, rest, first, second)
    }

    fn adamw_whole(
        gradient: CubeTensor,
        weights: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        numbers: AdamWNumbers,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (gradient, [weights, first, second]) = (contiguous(gradient), [weights, first, second].map(owned));
        let (count, client) = (gradient.meta.num_elements(), gradient.client.clone());
        let (size, wide) = (vector(count, gradient.dtype), address([&gradient]));
        let (cubes, dim) = elements(&gradient, count / size);
        let kinds = [element(gradient.dtype), element(first.dtype)];
        // SAFETY: vectors are below `count / size` in all four tensors.
        #[allow(unsafe_code)]
        unsafe {
            updated_whole_weights::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                gradient.into_tensor_arg(),
                weights.clone().into_tensor_arg(),
                first.clone().into_tensor_arg(),
                second.clone().into_tensor_arg(),
                step_of(numbers),
                (count / size) as u32,
                kinds,
            );
        }
        (weights, first, second)
    }
}

/// A step's numbers as kernels use them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Step {
    clip: f32,
    /// 1 − β₁.
    mix1: f32,
    beta2: f32,
    /// 1 − β₂.
    mix2: f32,
    eps: f32,
    /// The learning rate over 1 − β₁^t.
    rate: f32,
    /// √(1 − β₂^t).
    correction2: f32,
    /// 1 − rate · weight decay.
    keep: f32,
}

fn step_of([clip, rate, keep, beta1, beta2, eps, correction1, correction2]: AdamWNumbers) -> StepLaunch {
    StepLaunch::new(clip, 1.0 - beta1, beta2, 1.0 - beta2, eps, rate / correction1, correction2, keep)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn updated_weights<G: Float, C: Float, R: Int, M: Float, N: Size>(
    gradient: &Tensor<Vector<G, N>>,
    coarse: &mut Tensor<Vector<C, N>>,
    rest: &mut Tensor<Vector<R, N>>,
    first: &mut Tensor<Vector<M, N>>,
    second: &mut Tensor<Vector<M, N>>,
    step: &Step,
    vectors: u32,
    #[define(G, C, R, M)] _kinds: [ElemType; 4],
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let thresholds = thresholds::<N>(i);
    let weight = whole_of(Vector::cast_from(coarse[i]), Vector::cast_from(rest[i]), thresholds);
    let full = stepped(Vector::cast_from(gradient[i]), weight, first, second, i, step);
    coarse[i] = Vector::cast_from(coarse_of(full, thresholds));
    rest[i] = Vector::cast_from(rest_of(full));
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn updated_whole_weights<G: Float, M: Float, N: Size>(
    gradient: &Tensor<Vector<G, N>>,
    weights: &mut Tensor<Vector<f32, N>>,
    first: &mut Tensor<Vector<M, N>>,
    second: &mut Tensor<Vector<M, N>>,
    step: &Step,
    vectors: u32,
    #[define(G, M)] _kinds: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    weights[i] = stepped(Vector::cast_from(gradient[i]), weights[i], first, second, i, step);
}

/// The i-th weights after a step; their moments are written.
#[cube]
fn stepped<M: Float, N: Size>(
    gradient: Vector<f32, N>,
    weights: Vector<f32, N>,
    first: &mut Tensor<Vector<M, N>>,
    second: &mut Tensor<Vector<M, N>>,
    i: usize,
    step: &Step,
) -> Vector<f32, N> {
    let g = gradient * Vector::new(step.clip);
    let m = Vector::<f32, N>::cast_from(first[i]);
    let m = m + (g - m) * Vector::new(step.mix1);
    let v = Vector::<f32, N>::cast_from(second[i]) * Vector::new(step.beta2) + g * g * Vector::new(step.mix2);
    first[i] = Vector::cast_from(m);
    second[i] = Vector::cast_from(v);
    let change = m / (v.sqrt() / Vector::new(step.correction2) + Vector::new(step.eps)) * Vector::new(step.rate);
    weights * Vector::new(step.keep) - change
}
