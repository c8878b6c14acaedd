//! Softmax under a causal mask, and its gradient, a plane to a row. What lies above the diagonal is not read.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::FloatDType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, empty, largest, plane_first, plane_step, planes, total, vector};

#[backend_extension(Cube, Fusion)]
pub(super) trait SoftmaxKernels: Backend {
    #[fusion(meta = |scores, _mask, _scale, to| kept(scores, to))]
    fn masked_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32, to: FloatDType) -> FloatTensor<Self>;

    #[fusion(meta = |scores, _dp, _mask, _scale, to| (kept(scores, to), kept(scores, to)))]
    fn masked_softmax_backward(
        scores: FloatTensor<Self>,
        dp: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scale: f32,
        to: FloatDType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn kept(scores: &TensorSpec, to: &FloatDType) -> TensorSpec {
    TensorSpec::new(scores.shape.clone(), (*to).into())
}

/// Where a row's mask is.
struct Rows {
    rows: usize,
    /// Of a text.
    width: usize,
    /// That one row of the mask is for: all heads of a text, or those of all texts.
    apart: usize,
}

impl Rows {
    fn new(scores: &CubeTensor, mask: &CubeTensor) -> Self {
        let ([texts, key_heads, queries, width], [masks, ..]) = (scores.meta.shape().dims::<4>(), mask.meta.shape().dims::<3>());
        let of_text = key_heads * queries;
        Self { rows: texts * of_text, width, apart: if masks == 1 { texts * of_text } else { of_text } }
    }
}

impl SoftmaxKernels for CubeBackend {
    fn masked_softmax(scores: CubeTensor, mask: CubeTensor, scale: f32, to: FloatDType) -> CubeTensor {
        let (scores, mask) = (contiguous(scores), contiguous(mask));
        let Rows { rows, width, apart } = Rows::new(&scores, &mask);
        let (out, client) = (empty(&scores, &scores.meta.shape().to_vec(), to.into()), scores.client.clone());
        let (size, wide, (cubes, dim)) = (vector(width, scores.dtype), address([&scores]), planes(rows));
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
                mask.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                scale,
                rows as u32,
                (width / size) as u32,
                apart as u32,
                element(to.into()),
            );
        }
        out
    }

    fn masked_softmax_backward(
        scores: CubeTensor,
        dp: CubeTensor,
        mask: CubeTensor,
        scale: f32,
        to: FloatDType,
    ) -> (CubeTensor, CubeTensor) {
        let (scores, dp, mask) = (contiguous(scores), contiguous(dp), contiguous(mask));
        let Rows { rows, width, apart } = Rows::new(&scores, &mask);
        let [probabilities, gradient] = [(); 2].map(|()| empty(&scores, &scores.meta.shape().to_vec(), to.into()));
        let (size, wide, client, (cubes, dim)) =
            (vector(width, scores.dtype), address([&scores]), scores.client.clone(), planes(rows));
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
                mask.into_tensor_arg(),
                probabilities.clone().into_tensor_arg(),
                gradient.clone().into_tensor_arg(),
                scale,
                rows as u32,
                (width / size) as u32,
                apart as u32,
                element(to.into()),
            );
        }
        (probabilities, gradient)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn softmax<P: Float, N: Size>(
    scores: &Tensor<Vector<f32, N>>,
    mask: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<Vector<P, N>>,
    scale: f32,
    rows: u32,
    vectors: u32,
    apart: u32,
    #[define(P)] _kind: ElemType,
) {
    let vectors = vectors as usize;
    let width = vectors * N::value();
    let scale = Vector::<f32, N>::new(scale);
    let mut row = plane_first();
    while row < rows as usize {
        let start = row * vectors;
        let position = row % width;
        let masked = (row / apart as usize * width + position) * vectors;
        let seen = position / N::value() + 1; // vectors up to the diagonal
        let most = largest_seen(scores, mask, start, masked, seen, scale);
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let mut i = UNIT_POS_PLANE as usize;
        while i < seen {
            sum += (scores[start + i] * scale + mask[masked + i] - most).exp();
            i += PLANE_DIM as usize;
        }
        let inverse = Vector::<f32, N>::new(1.0f32 / plane_sum(total(sum)));
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let mut probability = Vector::<f32, N>::new(0.0f32);
            if i < seen {
                probability = (scores[start + i] * scale + mask[masked + i] - most).exp() * inverse;
            }
            out[start + i] = Vector::cast_from(probability);
            i += PLANE_DIM as usize;
        }
        row += plane_step();
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn softmax_backward<P: Float, N: Size>(
    scores: &Tensor<Vector<f32, N>>,
    dp: &Tensor<Vector<f32, N>>,
    mask: &Tensor<Vector<f32, N>>,
    probabilities: &mut Tensor<Vector<P, N>>,
    gradient: &mut Tensor<Vector<P, N>>,
    scale: f32,
    rows: u32,
    vectors: u32,
    apart: u32,
    #[define(P)] _kind: ElemType,
) {
    let vectors = vectors as usize;
    let width = vectors * N::value();
    let scale = Vector::<f32, N>::new(scale);
    let mut row = plane_first();
    while row < rows as usize {
        let start = row * vectors;
        let position = row % width;
        let masked = (row / apart as usize * width + position) * vectors;
        let seen = position / N::value() + 1; // vectors up to the diagonal
        let most = largest_seen(scores, mask, start, masked, seen, scale);
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let mut weighted = Vector::<f32, N>::new(0.0f32);
        let mut i = UNIT_POS_PLANE as usize;
        while i < seen {
            let part = (scores[start + i] * scale + mask[masked + i] - most).exp();
            sum += part;
            weighted += part * dp[start + i];
            i += PLANE_DIM as usize;
        }
        let inverse = 1.0f32 / plane_sum(total(sum));
        let mean = Vector::<f32, N>::new(plane_sum(total(weighted)) * inverse); // rowsum(dP ∘ P)
        let inverse = Vector::<f32, N>::new(inverse);
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let mut probability = Vector::<f32, N>::new(0.0f32);
            let mut ds = Vector::<f32, N>::new(0.0f32);
            if i < seen {
                probability = (scores[start + i] * scale + mask[masked + i] - most).exp() * inverse;
                ds = probability * (dp[start + i] - mean) * scale;
            }
            probabilities[start + i] = Vector::cast_from(probability);
            gradient[start + i] = Vector::cast_from(ds);
            i += PLANE_DIM as usize;
        }
        row += plane_step();
    }
}

/// The largest of a row's scores up to the diagonal, scaled and masked, in every element of a vector.
#[cube]
fn largest_seen<N: Size>(
    scores: &Tensor<Vector<f32, N>>,
    mask: &Tensor<Vector<f32, N>>,
    start: usize,
    masked: usize,
    seen: usize,
    scale: Vector<f32, N>,
) -> Vector<f32, N> {
    let mut most = Vector::<f32, N>::new(-1e30f32);
    let mut i = UNIT_POS_PLANE as usize;
    while i < seen {
        most = max(most, scores[start + i] * scale + mask[masked + i]);
        i += PLANE_DIM as usize;
    }
    Vector::new(plane_max(largest(most)))
}
