//! The gradient of an embedding: rows added to those of their tokens, a plane to a token, always in the same order.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, empty, integer, plane_first, plane_step, planes, vector};

#[backend_extension(Cube, Fusion)]
pub(super) trait EmbeddingKernel: Backend {
    #[fusion(meta = |table, _gradient, _order, _starts| table.clone())]
    fn rows_of_tokens(
        table: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        order: IntTensor<Self>,
        starts: IntTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl EmbeddingKernel for CubeBackend {
    fn rows_of_tokens(table: CubeTensor, gradient: CubeTensor, order: CubeTensor, starts: CubeTensor) -> CubeTensor {
        let [table, gradient, order, starts] = [table, gradient, order, starts].map(contiguous);
        let [tokens, width] = table.meta.shape().dims::<2>();
        let (out, client) = (empty(&table, &[tokens, width], table.dtype), table.client.clone());
        let (size, wide, (cubes, dim)) = (vector(width, table.dtype), address([&table, &gradient]), planes(tokens));
        let kinds = [element(table.dtype), element(gradient.dtype), integer(order.dtype)];
        // SAFETY: tokens are below `tokens`, of which `starts` has one more; what it holds ends within `order`, and that within the rows.
        #[allow(unsafe_code)]
        unsafe {
            added::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                table.into_tensor_arg(),
                gradient.into_tensor_arg(),
                order.into_tensor_arg(),
                starts.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                tokens as u32,
                (width / size) as u32,
                kinds,
            );
        }
        out
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn added<T: Float, G: Float, I: Int, N: Size>(
    table: &Tensor<Vector<T, N>>,
    gradient: &Tensor<Vector<G, N>>,
    order: &Tensor<I>,
    starts: &Tensor<I>,
    out: &mut Tensor<Vector<T, N>>,
    tokens: u32,
    vectors: u32,
    #[define(T, G, I)] _kinds: [ElemType; 3],
) {
    let vectors = vectors as usize;
    let mut token = plane_first();
    while token < tokens as usize {
        let first = usize::cast_from(starts[token]);
        let end = usize::cast_from(starts[token + 1]);
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let mut sum = Vector::<f32, N>::cast_from(table[token * vectors + i]);
            let mut k = first;
            while k < end {
                sum += Vector::<f32, N>::cast_from(gradient[usize::cast_from(order[k]) * vectors + i]);
                k += 1usize;
            }
            out[token * vectors + i] = Vector::cast_from(sum);
            i += PLANE_DIM as usize;
        }
        token += plane_step();
    }
}
