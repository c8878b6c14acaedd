//! Attention's softmax, and its gradient, a plane to a row. A position sees those from its text's first up to itself: nothing else is read.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::FloatDType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, empty, integer, largest, plane_first, plane_step, planes, total, vector};

#[backend_extension(Cube, Fusion)]
pub(super) trait SoftmaxKernels: Backend {
    #[fusion(meta = |scores, _firsts, _scale, to| kept(scores, to))]
    fn causal_softmax(scores: FloatTensor<Self>, firsts: IntTensor<Self>, scale: f32, to: FloatDType) -> FloatTensor<Self>;

    #[fusion(meta = |scores, _dp, _firsts, _scale, to| (kept(scores, to), kept(scores, to)))]
    fn causal_softmax_backward(
        scores: FloatTensor<Self>,
        dp: FloatTensor<Self>,
        firsts: IntTensor<Self>,
        scale: f32,
        to: FloatDType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn kept(scores: &TensorSpec, to: &FloatDType) -> TensorSpec {
    TensorSpec::new(scores.shape.clone(), (*to).into())
}

/// The rows of `scores` `[B, KV, G·T, T]`.
struct Rows {
    rows: usize,
    /// Of a text.
    width: usize,
    /// That one row of firsts is for: all heads of a text, or those of all texts.
    apart: usize,
}

impl Rows {
    fn new(scores: &CubeTensor, firsts: &CubeTensor) -> Self {
        let ([texts, key_heads, queries, width], [layouts, _]) =
            (scores.meta.shape().dims::<4>(), firsts.meta.shape().dims::<2>());
        let of_text = key_heads * queries;
        Self { rows: texts * of_text, width, apart: if layouts == 1 { texts * of_text } else { of_text } }
    }
}

impl SoftmaxKernels for CubeBackend {
    fn causal_softmax(scores: CubeTensor, firsts: CubeTensor, scale: f32, to: FloatDType) -> CubeTensor {
        let (scores, firsts) = (contiguous(scores), contiguous(firsts));
        let Rows { rows, width, apart } = Rows::new(&scores, &firsts);
        let (out, client) = (empty(&scores, &scores.meta.shape().to_vec(), to.into()), scores.client.clone());
        let (size, wide, (cubes, dim)) = (vector(width, scores.dtype), address([&scores]), planes(rows));
        let kinds = [integer(firsts.dtype), element(to.into())];
        // SAFETY: rows are below `rows` and columns below `width`.
        #[allow(unsafe_code)]
        unsafe {
            softmax::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                scores.into_tensor_arg(),
                firsts.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                scale,
                rows as u32,
                (width / size) as u32,
                apart as u32,
                kinds,
            );
        }
        out
    }

    fn causal_softmax_backward(
        scores: CubeTensor,
        dp: CubeTensor,
        firsts: CubeTensor,
        scale: f32,
        to: FloatDType,
    ) -> (CubeTensor, CubeTensor) {
        let (scores, dp, firsts) = (contiguous(scores), contiguous(dp), contiguous(firsts));
        let Rows { rows, width, apart } = Rows::new(&scores, &firsts);
        let [probabilities, gradient] = [(); 2].map(|()| empty(&scores, &scores.meta.shape().to_vec(), to.into()));
        let (size, wide, client, (cubes, dim)) =
            (vector(width, scores.dtype), address([&scores]), scores.client.clone(), planes(rows));
        let kinds = [integer(firsts.dtype), element(to.into())];
        // SAFETY: rows are below `rows` and columns below `width`.
        #[allow(unsafe_code)]
        unsafe {
            softmax_backward::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                scores.into_tensor_arg(),
                dp.into_tensor_arg(),
                firsts.into_tensor_arg(),
                probabilities.clone().into_tensor_arg(),
                gradient.clone().into_tensor_arg(),
                scale,
                rows as u32,
                (width / size) as u32,
                apart as u32,
                kinds,
            );
        }
        (probabilities, gradient)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn softmax<I: Int, P: Float, N: Size>(
    scores: &Tensor<Vector<f32, N>>,
    firsts: &Tensor<I>,
    out: &mut Tensor<Vector<P, N>>,
    scale: f32,
    rows: u32,
    vectors: u32,
    apart: u32,
    #[define(I, P)] _kinds: [ElemType; 2],
) {
    let vectors = vectors as usize;
    let width = vectors * N::value();
    let mut row = plane_first();
    while row < rows as usize {
        let start = row * vectors;
        let last = row % width;
        let first = usize::cast_from(firsts[row / apart as usize * width + last]);
        let mut most = f32::new(-1e30f32);
        let mut sum = 0.0f32;
        let mut i = first / N::value() + UNIT_POS_PLANE as usize;
        while i <= last / N::value() {
            let score = seen(scores[start + i], scale, i, first, last);
            let higher = max(most, largest(score));
            sum = sum * (most - higher).exp() + total((score - Vector::new(higher)).exp());
            most = higher;
            i += PLANE_DIM as usize;
        }
        let highest = plane_max(most);
        let inverse = Vector::<f32, N>::new(1.0f32 / plane_sum(sum * (most - highest).exp()));
        let highest = Vector::<f32, N>::new(highest);
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let mut probability = Vector::<f32, N>::new(0.0f32);
            if i >= first / N::value() && i <= last / N::value() {
                probability = (seen(scores[start + i], scale, i, first, last) - highest).exp() * inverse;
            }
            out[start + i] = Vector::cast_from(probability);
            i += PLANE_DIM as usize;
        }
        row += plane_step();
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn softmax_backward<I: Int, P: Float, N: Size>(
    scores: &Tensor<Vector<f32, N>>,
    dp: &Tensor<Vector<f32, N>>,
    firsts: &Tensor<I>,
    probabilities: &mut Tensor<Vector<P, N>>,
    gradient: &mut Tensor<Vector<P, N>>,
    scale: f32,
    rows: u32,
    vectors: u32,
    apart: u32,
    #[define(I, P)] _kinds: [ElemType; 2],
) {
    let vectors = vectors as usize;
    let width = vectors * N::value();
    let mut row = plane_first();
    while row < rows as usize {
        let start = row * vectors;
        let last = row % width;
        let first = usize::cast_from(firsts[row / apart as usize * width + last]);
        let mut most = f32::new(-1e30f32);
        let mut sum = 0.0f32;
        let mut weighted = 0.0f32;
        let mut i = first / N::value() + UNIT_POS_PLANE as usize;
        while i <= last / N::value() {
            let score = seen(scores[start + i], scale, i, first, last);
            let higher = max(most, largest(score));
            let part = (score - Vector::new(higher)).exp();
            let less = (most - higher).exp();
            sum = sum * less + total(part);
            weighted = weighted * less + total(part * dp[start + i]);
            most = higher;
            i += PLANE_DIM as usize;
        }
        let highest = plane_max(most);
        let less = (most - highest).exp();
        let inverse = 1.0f32 / plane_sum(sum * less);
        let mean = Vector::<f32, N>::new(plane_sum(weighted * less) * inverse); // rowsum(dP ∘ P)
        let inverse = Vector::<f32, N>::new(inverse);
        let highest = Vector::<f32, N>::new(highest);
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let mut probability = Vector::<f32, N>::new(0.0f32);
            let mut ds = Vector::<f32, N>::new(0.0f32);
            if i >= first / N::value() && i <= last / N::value() {
                probability = (seen(scores[start + i], scale, i, first, last) - highest).exp() * inverse;
                ds = probability * (dp[start + i] - mean) * Vector::new(scale);
            }
            probabilities[start + i] = Vector::cast_from(probability);
            gradient[start + i] = Vector::cast_from(ds);
            i += PLANE_DIM as usize;
        }
        row += plane_step();
    }
}

/// The i-th vector of a row's scores, scaled; what lies before the first or behind the last position that is seen becomes what exp makes 0 of.
#[cube]
fn seen<N: Size>(scores: Vector<f32, N>, scale: f32, i: usize, first: usize, last: usize) -> Vector<f32, N> {
    let mut scores = scores * Vector::new(scale);
    if i * N::value() < first || (i + 1) * N::value() > last {
        #[unroll]
        for k in 0..N::value() {
            let column = i * N::value() + k;
            if column < first || column > last {
                scores.insert(k, -1e30f32);
            }
        }
    }
    scores
}
