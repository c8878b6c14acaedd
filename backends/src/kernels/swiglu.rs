//! SwiGLU: silu(g)·u with silu(g) = g·σ(g), and silu'(g) = σ + silu(g)·(1 − σ).

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, elements, empty, vector};

#[backend_extension(Cube, Fusion)]
pub(super) trait SwigluKernels: Backend {
    #[fusion(meta = |gate, _up| gate.clone())]
    fn swiglu_elements(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Also the activation itself, which the gradient of the next weights needs.
    #[fusion(meta = |gate, up, _da| (gate.clone(), up.clone(), gate.clone()))]
    fn swiglu_elements_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        da: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl SwigluKernels for CubeBackend {
    fn swiglu_elements(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        let (gate, up) = (contiguous(gate), contiguous(up));
        let [rows, width] = gate.meta.shape().dims::<2>();
        let (out, client) = (empty(&gate, &[rows, width], gate.dtype), gate.client.clone());
        let (size, kind, wide) = (vector(width, gate.dtype), element(gate.dtype), address([&gate]));
        let count = rows * width / size;
        let (cubes, dim) = elements(&gate, count);
        // SAFETY: every index is below `count`, and all three tensors have as many vectors.
        #[allow(unsafe_code)]
        unsafe {
            swiglu::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                gate.into_tensor_arg(),
                up.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                count as u32,
                kind,
            );
        }
        out
    }

    fn swiglu_elements_backward(gate: CubeTensor, up: CubeTensor, da: CubeTensor) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (gate, up, da) = (contiguous(gate), contiguous(up), contiguous(da));
        let [rows, width] = gate.meta.shape().dims::<2>();
        let [dg, du, activated] = [(); 3].map(|()| empty(&gate, &[rows, width], gate.dtype));
        let (size, kind, wide, client) = (vector(width, gate.dtype), element(gate.dtype), address([&gate]), gate.client.clone());
        let count = rows * width / size;
        let (cubes, dim) = elements(&gate, count);
        // SAFETY: every index is below `count`, and all six tensors have as many vectors.
        #[allow(unsafe_code)]
        unsafe {
            swiglu_backward::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                gate.into_tensor_arg(),
                up.into_tensor_arg(),
                da.into_tensor_arg(),
                dg.clone().into_tensor_arg(),
                du.clone().into_tensor_arg(),
                activated.clone().into_tensor_arg(),
                count as u32,
                kind,
            );
        }
        (dg, du, activated)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn swiglu<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    out: &mut Tensor<Vector<F, N>>,
    count: u32,
    #[define(F)] _kind: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= count as usize {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(gate[i]);
    let u = Vector::<f32, N>::cast_from(up[i]);
    out[i] = Vector::cast_from(g * sigmoid(g) * u);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn swiglu_backward<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    da: &Tensor<Vector<F, N>>,
    dg: &mut Tensor<Vector<F, N>>,
    du: &mut Tensor<Vector<F, N>>,
    activated: &mut Tensor<Vector<F, N>>,
    count: u32,
    #[define(F)] _kind: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= count as usize {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(gate[i]);
    let u = Vector::<f32, N>::cast_from(up[i]);
    let d = Vector::<f32, N>::cast_from(da[i]);
    let sigma = sigmoid(g);
    let silu = g * sigma;
    let slope = sigma + silu * (Vector::new(1.0f32) - sigma);
    dg[i] = Vector::cast_from(d * u * slope);
    du[i] = Vector::cast_from(d * silu);
    activated[i] = Vector::cast_from(silu * u);
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (one + (Vector::new(0.0f32) - x).exp())
}
