//! Rotary position embedding, rotate-half convention.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::FloatDType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, elements, empty, vector};

#[backend_extension(Cube, Fusion)]
pub(super) trait RotaryKernel: Backend {
    #[fusion(meta = |x, _cos, _sin, to| TensorSpec::new(x.shape.clone(), (*to).into()))]
    fn turn_heads(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, to: FloatDType) -> FloatTensor<Self>;
}

impl RotaryKernel for CubeBackend {
    fn turn_heads(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, to: FloatDType) -> CubeTensor {
        let (x, cos, sin) = (contiguous(x), contiguous(cos), contiguous(sin));
        let ([rows, width], [positions, half]) = (x.meta.shape().dims::<2>(), cos.meta.shape().dims::<2>());
        let (out, client) = (empty(&x, &[rows, width], to.into()), x.client.clone());
        let (size, kinds, wide) = (vector(half, x.dtype), [element(x.dtype), element(to.into())], address([&x]));
        // A unit turns a vector of a head's first half and what belongs to it in the second.
        let (halves, pairs) = (half / size, rows * width / size / 2);
        let (cubes, dim) = elements(&x, pairs);
        // SAFETY: every pair is below `pairs`; `x` and `out` have twice as many vectors, and the tables one for every position's place.
        #[allow(unsafe_code)]
        unsafe {
            turn::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                x.into_tensor_arg(),
                cos.into_tensor_arg(),
                sin.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                pairs as u32,
                halves as u32,
                (width / half / 2) as u32,
                positions as u32,
                kinds,
            );
        }
        out
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn turn<F: Float, P: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    cos: &Tensor<Vector<f32, N>>,
    sin: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<Vector<P, N>>,
    pairs: u32,
    halves: u32,
    heads: u32,
    positions: u32,
    #[define(F, P)] _kinds: [ElemType; 2],
) {
    let pair = ABSOLUTE_POS;
    if pair >= pairs as usize {
        terminate!();
    }
    let halves = halves as usize;
    let place = pair % halves;
    let head = pair / halves; // of all rows
    let position = (head / heads as usize) % positions as usize;
    let i = head * 2 * halves + place;
    let first = Vector::<f32, N>::cast_from(x[i]);
    let second = Vector::<f32, N>::cast_from(x[i + halves]);
    let c = cos[position * halves + place];
    let s = sin[position * halves + place];
    out[i] = Vector::cast_from(first * c - second * s);
    out[i + halves] = Vector::cast_from(second * c + first * s);
}
