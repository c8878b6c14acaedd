//! The vocabulary's softmax where one token of a row is asked for, a cube to a row: one pass over the logits to read it, one to go back.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, FloatDType};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address, contiguous, element, empty, integer, largest, total, vector};

/// Units of a cube; no more planes than units.
const UNITS: u32 = 256;

#[backend_extension(Cube, Fusion)]
pub(super) trait VocabularyKernels: Backend {
    /// log π of a target for each row, and log Σ exp of the row.
    #[fusion(meta = |logits, _targets| (per_row(logits), per_row(logits)))]
    fn target_log_probs(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// s·(onehot(target) − p) in a type.
    #[fusion(meta = |logits, _sums, _targets, _seeds, to| TensorSpec::new(logits.shape.clone(), (*to).into()))]
    fn target_gradient(
        logits: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        targets: IntTensor<Self>,
        seeds: FloatTensor<Self>,
        to: FloatDType,
    ) -> FloatTensor<Self>;
}

fn per_row(logits: &TensorSpec) -> TensorSpec {
    TensorSpec::new([logits.shape[0]].into(), DType::F32)
}

impl VocabularyKernels for CubeBackend {
    fn target_log_probs(logits: CubeTensor, targets: CubeTensor) -> (CubeTensor, CubeTensor) {
        let (logits, targets) = (contiguous(logits), contiguous(targets));
        let [rows, width] = logits.meta.shape().dims::<2>();
        let [chosen, sums] = [(); 2].map(|()| empty(&logits, &[rows], DType::F32));
        let (size, wide, client, (cubes, dim)) =
            (vector(width, logits.dtype), address([&logits]), logits.client.clone(), cubes(rows));
        let kind = integer(targets.dtype);
        // SAFETY: there is a cube for every row; vectors are below `width / size`.
        #[allow(unsafe_code)]
        unsafe {
            log_probs::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                logits.into_tensor_arg(),
                targets.into_tensor_arg(),
                chosen.clone().into_tensor_arg(),
                sums.clone().into_tensor_arg(),
                (width / size) as u32,
                kind,
            );
        }
        (chosen, sums)
    }

    fn target_gradient(
        logits: CubeTensor,
        sums: CubeTensor,
        targets: CubeTensor,
        seeds: CubeTensor,
        to: FloatDType,
    ) -> CubeTensor {
        let [logits, sums, targets, seeds] = [logits, sums, targets, seeds].map(contiguous);
        let [rows, width] = logits.meta.shape().dims::<2>();
        let out = empty(&logits, &[rows, width], to.into());
        let (size, wide, client, (cubes, dim)) =
            (vector(width, logits.dtype), address([&logits]), logits.client.clone(), cubes(rows));
        let kinds = [integer(targets.dtype), element(to.into())];
        // SAFETY: there is a cube for every row; vectors are below `width / size`.
        #[allow(unsafe_code)]
        unsafe {
            gradient::launch_unchecked(
                &client,
                cubes,
                dim,
                wide,
                size,
                logits.into_tensor_arg(),
                sums.into_tensor_arg(),
                targets.into_tensor_arg(),
                seeds.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                (width / size) as u32,
                kinds,
            );
        }
        out
    }
}

/// A cube for each of so many rows.
fn cubes(rows: usize) -> (CubeCount, CubeDim) {
    (CubeCount::Static(rows as u32, 1, 1), CubeDim::new_1d(UNITS))
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn log_probs<I: Int, N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    targets: &Tensor<I>,
    chosen: &mut Tensor<f32>,
    sums: &mut Tensor<f32>,
    vectors: u32,
    #[define(I)] _kind: ElemType,
) {
    let start = CUBE_POS * vectors as usize;
    let target = usize::cast_from(targets[CUBE_POS]);
    let mut most = Vector::<f32, N>::new(-3.4e38f32);
    let mut i = UNIT_POS as usize;
    while i < vectors as usize {
        most = max(most, logits[start + i]);
        i += CUBE_DIM as usize;
    }
    let most = Vector::<f32, N>::new(cube_most(largest(most)));
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut own = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < vectors as usize {
        let away = logits[start + i] - most;
        sum += away.exp();
        if i == target / N::value() {
            own = element_of(away, target % N::value());
        }
        i += CUBE_DIM as usize;
    }
    let (sum, own) = cube_sums(total(sum), own);
    if UNIT_POS == 0 {
        chosen[CUBE_POS] = own - sum.ln();
        sums[CUBE_POS] = most.extract(0usize) + sum.ln();
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gradient<I: Int, P: Float, N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    sums: &Tensor<f32>,
    targets: &Tensor<I>,
    seeds: &Tensor<f32>,
    out: &mut Tensor<Vector<P, N>>,
    vectors: u32,
    #[define(I, P)] _kinds: [ElemType; 2],
) {
    let start = CUBE_POS * vectors as usize;
    let target = usize::cast_from(targets[CUBE_POS]);
    let seed = seeds[CUBE_POS];
    let (sum, back) = (Vector::<f32, N>::new(sums[CUBE_POS]), Vector::<f32, N>::new(-seed));
    let mut i = UNIT_POS as usize;
    while i < vectors as usize {
        let mut part = (logits[start + i] - sum).exp() * back;
        if i == target / N::value() {
            #[unroll]
            for k in 0..N::value() {
                if k == target % N::value() {
                    let own = part.extract(k) + seed;
                    part.insert(k, own);
                }
            }
        }
        out[start + i] = Vector::cast_from(part);
        i += CUBE_DIM as usize;
    }
}

/// One element of a vector.
#[cube]
fn element_of<N: Size>(vector: Vector<f32, N>, place: usize) -> f32 {
    let mut found = 0.0f32;
    #[unroll]
    for k in 0..N::value() {
        if k == place {
            found = vector.extract(k);
        }
    }
    found
}

/// The largest number of a cube's units.
#[cube]
fn cube_most(value: f32) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(256usize);
    let value = plane_max(value);
    if UNIT_POS_PLANE == 0 {
        shared[PLANE_POS as usize] = value;
    }
    sync_cube();
    let mut most = value;
    let mut plane = 0usize;
    while plane < (CUBE_DIM / PLANE_DIM) as usize {
        most = max(most, shared[plane]);
        plane += 1usize;
    }
    most
}

/// The sums of two numbers over a cube's units.
#[cube]
fn cube_sums(first: f32, second: f32) -> (f32, f32) {
    let mut shared = Shared::<[f32]>::new_slice(512usize);
    let (first, second) = (plane_sum(first), plane_sum(second));
    if UNIT_POS_PLANE == 0 {
        shared[2 * PLANE_POS as usize] = first;
        shared[2 * PLANE_POS as usize + 1] = second;
    }
    sync_cube();
    let mut first = 0.0f32;
    let mut second = 0.0f32;
    let mut plane = 0usize;
    while plane < (CUBE_DIM / PLANE_DIM) as usize {
        first += shared[2 * plane];
        second += shared[2 * plane + 1];
        plane += 1usize;
    }
    (first, second)
}
