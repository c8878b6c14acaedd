//! Causal grouped-query attention of which nothing as large as its scores is ever in memory. Products are computed on a card's matrix units.

mod backward;
mod forward;
mod products;
mod scores;
mod tiles;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, FloatDType};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::features::MmaConfig;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, empty, integer, vector};
use tiles::{Form, ROWS, TextsLaunch, UNITS};

#[backend_extension(Cube, Fusion)]
pub(super) trait AttentionKernels: Backend {
    #[fusion(meta = |query, _key, _value, _firsts, _heads| like(query))]
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        firsts: IntTensor<Self>,
        heads: [usize; 2],
    ) -> FloatTensor<Self>;

    #[fusion(meta = |query, key, value, _dy, _firsts, _heads| (wide(query), wide(key), like(value)))]
    fn attend_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        firsts: IntTensor<Self>,
        heads: [usize; 2],
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn like(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(x.shape.clone(), x.dtype)
}

fn wide(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(x.shape.clone(), FloatDType::F32.into())
}

/// How the kernels are laid over texts and heads.
struct Plan {
    texts: usize,
    /// Of a text.
    width: usize,
    heads: usize,
    group: usize,
    /// From the firsts of one text to the next one's.
    apart: usize,
    form: Form,
    /// Elements that are read at once.
    size: usize,
    kinds: [ElemType; 2],
}

impl Plan {
    fn new(query: &CubeTensor, firsts: &CubeTensor, [heads, key_heads]: [usize; 2]) -> Self {
        let ([rows, across], [layouts, width]) = (query.meta.shape().dims::<2>(), firsts.meta.shape().dims::<2>());
        let form = Form { dim: across / heads, matrix_units: has_matrix_units(query) };
        Self {
            texts: rows / width,
            width,
            heads,
            group: heads / key_heads,
            apart: if layouts == 1 { 0 } else { width },
            form,
            size: vector(form.dim, query.dtype),
            kinds: [element(query.dtype), integer(firsts.dtype)],
        }
    }

    /// A cube for 64 rows of each of so many heads of a text.
    fn cubes(&self, heads: usize) -> CubeCount {
        let [x, y, z] = [self.width.div_ceil(ROWS), heads, self.texts].map(|count| count as u32);
        CubeCount::Static(x, y, z)
    }

    fn texts(&self) -> TextsLaunch {
        let [width, heads, group, apart] = [self.width, self.heads, self.group, self.apart].map(|number| number as u32);
        TextsLaunch::new(1.0 / (self.form.dim as f32).sqrt(), width, heads, group, apart)
    }
}

/// The units of a cube.
fn units() -> CubeDim {
    CubeDim::new_1d(UNITS as u32)
}

/// Those that the kernels' products are written for.
fn has_matrix_units(x: &CubeTensor) -> bool {
    let kind = element(x.dtype);
    let products = &x.client.features().matmul;
    let config = MmaConfig { a_type: kind, b_type: kind, cd_type: element(DType::F32), m: 16, n: 8, k: 16 };
    products.mma.contains(&config) && products.ldmatrix.contains(&kind)
}

impl AttentionKernels for CubeBackend {
    fn attend(query: CubeTensor, key: CubeTensor, value: CubeTensor, firsts: CubeTensor, heads: [usize; 2]) -> CubeTensor {
        let [query, key, value, firsts] = [query, key, value, firsts].map(contiguous);
        let plan = Plan::new(&query, &firsts, heads);
        let (out, client) = (empty(&query, &query.meta.shape().to_vec(), query.dtype), query.client.clone());
        // SAFETY: heads and texts are as many as there are cubes; rows at or beyond `width` are neither read nor written.
        #[allow(unsafe_code)]
        unsafe {
            forward::attend::launch_unchecked(
                &client,
                plan.cubes(plan.heads),
                units(),
                address([&query]),
                plan.size,
                query.into_tensor_arg(),
                key.into_tensor_arg(),
                value.into_tensor_arg(),
                firsts.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                plan.texts(),
                plan.form,
                plan.kinds,
            );
        }
        out
    }

    fn attend_backward(
        query: CubeTensor,
        key: CubeTensor,
        value: CubeTensor,
        dy: CubeTensor,
        firsts: CubeTensor,
        heads: [usize; 2],
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [query, key, value, dy, firsts] = [query, key, value, dy, firsts].map(contiguous);
        let plan = Plan::new(&query, &firsts, heads);
        let [dq, dk] = [&query, &key].map(|x| empty(x, &x.meta.shape().to_vec(), DType::F32));
        let dv = empty(&value, &value.meta.shape().to_vec(), value.dtype);
        let statistics = empty(&query, &[2, plan.texts * plan.heads, plan.width], DType::F32);
        let (client, wide) = (query.client.clone(), address([&dq]));
        // SAFETY: as above; the first kernel writes all the statistics that the others read.
        #[allow(unsafe_code)]
        unsafe {
            backward::statistics::launch_unchecked(
                &client,
                plan.cubes(plan.heads),
                units(),
                wide,
                plan.size,
                query.clone().into_tensor_arg(),
                key.clone().into_tensor_arg(),
                value.clone().into_tensor_arg(),
                dy.clone().into_tensor_arg(),
                firsts.clone().into_tensor_arg(),
                statistics.clone().into_tensor_arg(),
                plan.texts(),
                plan.form,
                plan.kinds,
            );
            backward::query_gradient::launch_unchecked(
                &client,
                plan.cubes(plan.heads),
                units(),
                wide,
                plan.size,
                query.clone().into_tensor_arg(),
                key.clone().into_tensor_arg(),
                value.clone().into_tensor_arg(),
                dy.clone().into_tensor_arg(),
                firsts.clone().into_tensor_arg(),
                statistics.clone().into_tensor_arg(),
                dq.clone().into_tensor_arg(),
                plan.texts(),
                plan.form,
                plan.kinds,
            );
            backward::key_gradient::launch_unchecked(
                &client,
                plan.cubes(plan.heads / plan.group),
                units(),
                wide,
                plan.size,
                query.into_tensor_arg(),
                key.into_tensor_arg(),
                value.into_tensor_arg(),
                dy.into_tensor_arg(),
                firsts.into_tensor_arg(),
                statistics.into_tensor_arg(),
                dk.clone().into_tensor_arg(),
                dv.clone().into_tensor_arg(),
                plan.texts(),
                plan.form,
                plan.kinds,
            );
        }
        (dq, dk, dv)
    }
}
