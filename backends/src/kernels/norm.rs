//! RMSNorm, a plane to a row. With x̂ = x·r and ĝ = dy·w: dx = r·(ĝ − x̂·mean(ĝ·x̂)), dw = Σ_rows dy·x̂.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, empty, plane_first, plane_step, planes, total, vector};

/// Rows whose part of dw one unit adds up.
const BLOCK: usize = 64;

/// Units of a cube that adds up dw.
const COLUMNS: usize = 128;

/// Units of a cube that adds up blocks: side by side, and below each other, where each takes some blocks.
const ADDERS: [u32; 2] = [32, 8];

#[backend_extension(Cube, Fusion)]
pub(super) trait NormKernels: Backend {
    #[fusion(meta = |x, _weight, _eps| x.clone())]
    fn rms_norm_rows(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self>;

    /// dx with `carried` added to it, and dw.
    #[fusion(meta = |x, weight, _dy, _carried, _eps| (x.clone(), weight.clone()))]
    fn rms_norm_rows_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        carried: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl NormKernels for CubeBackend {
    fn rms_norm_rows(x: CubeTensor, weight: CubeTensor, eps: f32) -> CubeTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let [rows, width] = x.meta.shape().dims::<2>();
        let (out, client) = (empty(&x, &[rows, width], x.dtype), x.client.clone());
        let (size, kind, wide) = (vector(width, x.dtype), element(x.dtype), address([&x]));
        let (cubes, dim) = planes(rows);
        // SAFETY: rows are below `rows` and columns below `width`.
        #[allow(unsafe_code)]
        unsafe {
            rms_norm::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                x.into_tensor_arg(),
                weight.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                eps,
                rows as u32,
                (width / size) as u32,
                kind,
            );
        }
        out
    }

    fn rms_norm_rows_backward(
        x: CubeTensor,
        weight: CubeTensor,
        dy: CubeTensor,
        carried: CubeTensor,
        eps: f32,
    ) -> (CubeTensor, CubeTensor) {
        let [x, weight, dy, carried] = [x, weight, dy, carried].map(contiguous);
        let [rows, width] = x.meta.shape().dims::<2>();
        let (blocks, size) = (rows.div_ceil(BLOCK), vector(width, x.dtype));
        let dx = empty(&x, &[rows, width], x.dtype);
        let (inverse, parts) = (empty(&x, &[rows], DType::F32), empty(&x, &[blocks, width], DType::F32));
        let (client, wide, vectors) = (x.client.clone(), address([&x]), width / size);
        let kinds = [element(x.dtype), element(dy.dtype)];
        let (cubes, dim) = planes(rows);
        let columns = CubeCount::Static(vectors.div_ceil(COLUMNS) as u32, blocks as u32, 1);
        // SAFETY: rows are below `rows` and columns below `width` in both kernels; the second reads what the first wrote.
        #[allow(unsafe_code)]
        unsafe {
            rms_norm_backward::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                x.clone().into_tensor_arg(),
                weight.into_tensor_arg(),
                dy.clone().into_tensor_arg(),
                carried.into_tensor_arg(),
                dx.clone().into_tensor_arg(),
                inverse.clone().into_tensor_arg(),
                eps,
                rows as u32,
                vectors as u32,
                kinds,
            );
            rms_norm_weight_backward::launch_unchecked(
                &client,
                columns,
                CubeDim::new_1d(COLUMNS as u32),
                wide,
                size,
                x.into_tensor_arg(),
                dy.into_tensor_arg(),
                inverse.into_tensor_arg(),
                parts.clone().into_tensor_arg(),
                rows as u32,
                vectors as u32,
                BLOCK as u32,
                kinds,
            );
        }
        (dx, summed_blocks(&parts))
    }
}

/// The sum of the rows of a tensor of f32, `[1, D]`.
fn summed_blocks(parts: &CubeTensor) -> CubeTensor {
    let [blocks, width] = parts.meta.shape().dims::<2>();
    let (out, size, wide) = (empty(parts, &[1, width], DType::F32), vector(width, DType::F32), address([parts]));
    let [beside, below] = ADDERS;
    // SAFETY: blocks are below `blocks` and columns below `width` in both tensors.
    #[allow(unsafe_code)]
    unsafe {
        add_blocks::launch_unchecked(
            &parts.client,
            CubeCount::Static(((width / size) as u32).div_ceil(beside), 1, 1),
            CubeDim::new_2d(beside, below),
            wide,
            size,
            parts.clone().into_tensor_arg(),
            out.clone().into_tensor_arg(),
            blocks as u32,
            (width / size) as u32,
            ADDERS,
        );
    }
    out
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn rms_norm<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<Vector<F, N>>,
    eps: f32,
    rows: u32,
    vectors: u32,
    #[define(F)] _kind: ElemType,
) {
    let vectors = vectors as usize;
    let elements = f32::cast_from((vectors * N::value()) as u32);
    let mut row = plane_first();
    while row < rows as usize {
        let start = row * vectors;
        let mut squares = Vector::<f32, N>::new(0.0f32);
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let value = Vector::<f32, N>::cast_from(x[start + i]);
            squares += value * value;
            i += PLANE_DIM as usize;
        }
        let inverse = (plane_sum(total(squares)) / elements + eps).inverse_sqrt();
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let value = Vector::<f32, N>::cast_from(x[start + i]);
            let scaled = value * Vector::new(inverse) * weight[i];
            out[start + i] = Vector::cast_from(scaled);
            i += PLANE_DIM as usize;
        }
        row += plane_step();
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn rms_norm_backward<F: Float, D: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<Vector<f32, N>>,
    dy: &Tensor<Vector<D, N>>,
    carried: &Tensor<Vector<F, N>>,
    dx: &mut Tensor<Vector<F, N>>,
    inverses: &mut Tensor<f32>,
    eps: f32,
    rows: u32,
    vectors: u32,
    #[define(F, D)] _kinds: [ElemType; 2],
) {
    let vectors = vectors as usize;
    let elements = f32::cast_from((vectors * N::value()) as u32);
    let mut row = plane_first();
    while row < rows as usize {
        let start = row * vectors;
        let mut squares = Vector::<f32, N>::new(0.0f32);
        let mut products = Vector::<f32, N>::new(0.0f32);
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let value = Vector::<f32, N>::cast_from(x[start + i]);
            let scaled = Vector::<f32, N>::cast_from(dy[start + i]) * weight[i];
            squares += value * value;
            products += scaled * value;
            i += PLANE_DIM as usize;
        }
        let inverse = (plane_sum(total(squares)) / elements + eps).inverse_sqrt();
        // mean(ĝ·x̂)·r, which x̂'s own r is still to be multiplied with.
        let projection = plane_sum(total(products)) * inverse * inverse / elements;
        if UNIT_POS_PLANE == 0 {
            inverses[row] = inverse;
        }
        let mut i = UNIT_POS_PLANE as usize;
        while i < vectors {
            let value = Vector::<f32, N>::cast_from(x[start + i]);
            let scaled = Vector::<f32, N>::cast_from(dy[start + i]) * weight[i];
            let gradient = (scaled - value * Vector::new(projection)) * Vector::new(inverse);
            dx[start + i] = Vector::cast_from(Vector::<f32, N>::cast_from(carried[start + i]) + gradient);
            i += PLANE_DIM as usize;
        }
        row += plane_step();
    }
}

/// A block's rows of dy·x̂, added up column by column.
#[cube(launch_unchecked, address_type = "dynamic")]
fn rms_norm_weight_backward<F: Float, D: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<D, N>>,
    inverses: &Tensor<f32>,
    parts: &mut Tensor<Vector<f32, N>>,
    rows: u32,
    vectors: u32,
    block: u32,
    #[define(F, D)] _kinds: [ElemType; 2],
) {
    let column = ABSOLUTE_POS_X as usize;
    if column >= vectors as usize {
        terminate!();
    }
    let vectors = vectors as usize;
    let mut row = (CUBE_POS_Y * block) as usize;
    let end = min(row + block as usize, rows as usize);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    while row < end {
        let i = row * vectors + column;
        sum += Vector::<f32, N>::cast_from(x[i]) * Vector::cast_from(dy[i]) * Vector::new(inverses[row]);
        row += 1;
    }
    parts[CUBE_POS_Y as usize * vectors + column] = sum;
}

/// Sums of columns: units below each other add up every so manieth block, and the first of them what they have.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_blocks<N: Size>(
    parts: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<Vector<f32, N>>,
    blocks: u32,
    vectors: u32,
    #[comptime] adders: [u32; 2],
) {
    let [beside, below] = adders;
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice((beside * below) as usize);
    let vectors = vectors as usize;
    let column = (CUBE_POS_X * beside + UNIT_POS_X) as usize;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut block = UNIT_POS_Y as usize;
    while column < vectors && block < blocks as usize {
        sum += parts[block * vectors + column];
        block += below as usize;
    }
    shared[(UNIT_POS_Y * beside + UNIT_POS_X) as usize] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && column < vectors {
        for other in 1..below {
            sum += shared[(other * beside + UNIT_POS_X) as usize];
        }
        out[column] = sum;
    }
}
