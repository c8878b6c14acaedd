//! A step's first pass over gradients: a pull towards an anchor, and running sums of what all units' gradients come to. A unit is one launch;
//! the sums are added up once, when all are there.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::halves::{coarse_of, salted, thresholds, whole_of};
use super::launch::{address, contiguous, element, integer, owned, total, vector};

/// Cubes that measure, at most, each some vectors and with sums of its own.
const CUBES: usize = 1056;

/// Units of such a cube; no more planes than units.
const UNITS: u32 = 256;

/// Running sums: of every cube Σ g², penalty, and Σ of the pull's square.
pub(super) const SUMS: [usize; 2] = [CUBES, 3];

#[backend_extension(Cube, Fusion)]
pub(super) trait PenaltyKernels: Backend {
    /// Running sums with g² added to them.
    #[fusion(meta = |_gradient, sums| sums.clone())]
    fn measured(gradient: FloatTensor<Self>, sums: FloatTensor<Self>) -> FloatTensor<Self>;

    /// g + λF·(θ − θ*), and running sums with its square, the penalty and the pull's square added to them; θ in two halves.
    #[fusion(meta = |gradient, _coarse, _rest, _anchor, sums, _strength| (gradient.clone(), sums.clone()))]
    fn pulled(
        gradient: FloatTensor<Self>,
        coarse: FloatTensor<Self>,
        rest: IntTensor<Self>,
        anchor: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        strength: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The same with θ of f32.
    #[fusion(meta = |gradient, _weights, _anchor, sums, _strength| (gradient.clone(), sums.clone()))]
    fn pulled_whole(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        anchor: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        strength: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Whether the sum of a gradient and a pull is to be rounded.
fn narrow(gradient: &CubeTensor) -> bool {
    gradient.dtype == DType::BF16
}

/// Cubes for so many vectors.
fn cubes(vectors: usize) -> CubeCount {
    CubeCount::Static(vectors.div_ceil(UNITS as usize).clamp(1, CUBES) as u32, 1, 1)
}

impl PenaltyKernels for CubeBackend {
    fn measured(gradient: CubeTensor, sums: CubeTensor) -> CubeTensor {
        let (gradient, sums) = (contiguous(gradient), owned(sums));
        let (elements, client) = (gradient.meta.num_elements(), gradient.client.clone());
        let (size, wide) = (vector(elements, gradient.dtype), address([&gradient]));
        let kind = element(gradient.dtype);
        // SAFETY: vectors are below `elements / size`; `sums` has three numbers for every cube.
        #[allow(unsafe_code)]
        unsafe {
            measured_gradient::launch_unchecked(
                &client,
                cubes(elements / size),
                CubeDim::new_1d(UNITS),
                wide,
                size,
                gradient.into_tensor_arg(),
                sums.clone().into_tensor_arg(),
                (elements / size) as u32,
                kind,
            );
        }
        sums
    }

    fn pulled(
        gradient: CubeTensor,
        coarse: CubeTensor,
        rest: CubeTensor,
        anchor: CubeTensor,
        sums: CubeTensor,
        strength: f32,
    ) -> (CubeTensor, CubeTensor) {
        let ([gradient, sums], [coarse, rest, anchor]) = ([gradient, sums].map(owned), [coarse, rest, anchor].map(contiguous));
        let (elements, client) = (gradient.meta.num_elements(), gradient.client.clone());
        let (size, wide) = (vector(elements, gradient.dtype), address([&gradient]));
        let kinds = [element(gradient.dtype), element(coarse.dtype), integer(rest.dtype)];
        // SAFETY: vectors are below `elements / size` in all four tensors; `sums` has three numbers for every cube.
        #[allow(unsafe_code)]
        unsafe {
            pulled_gradient::launch_unchecked(
                &client,
                cubes(elements / size),
                CubeDim::new_1d(UNITS),
                wide,
                size,
                gradient.clone().into_tensor_arg(),
                coarse.into_tensor_arg(),
                rest.into_tensor_arg(),
                anchor.into_tensor_arg(),
                sums.clone().into_tensor_arg(),
                strength,
                (elements / size) as u32,
                narrow(&gradient),
                kinds,
            );
        }
        (gradient, sums)
    }

    fn pulled_whole(
        gradient: CubeTensor,
        weights: CubeTensor,
        anchor: CubeTensor,
        sums: CubeTensor,
        strength: f32,
    ) -> (CubeTensor, CubeTensor) {
        let ([gradient, sums], [weights, anchor]) = ([gradient, sums].map(owned), [weights, anchor].map(contiguous));
        let (elements, client) = (gradient.meta.num_elements(), gradient.client.clone());
        let (size, wide) = (vector(elements, gradient.dtype), address([&gradient]));
        let kind = element(gradient.dtype);
        // SAFETY: vectors are below `elements / size` in all three tensors; `sums` has three numbers for every cube.
        #[allow(unsafe_code)]
        unsafe {
            pulled_gradient_of_whole::launch_unchecked(
                &client,
                cubes(elements / size),
                CubeDim::new_1d(UNITS),
                wide,
                size,
                gradient.clone().into_tensor_arg(),
                weights.into_tensor_arg(),
                anchor.into_tensor_arg(),
                sums.clone().into_tensor_arg(),
                strength,
                (elements / size) as u32,
                narrow(&gradient),
                kind,
            );
        }
        (gradient, sums)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn measured_gradient<G: Float, N: Size>(
    gradient: &Tensor<Vector<G, N>>,
    sums: &mut Tensor<f32>,
    vectors: u32,
    #[define(G)] _kind: ElemType,
) {
    let mut squares = Vector::<f32, N>::new(0.0f32);
    let mut i = ABSOLUTE_POS;
    while i < vectors as usize {
        let g = Vector::<f32, N>::cast_from(gradient[i]);
        squares += g * g;
        i += CUBE_COUNT * CUBE_DIM as usize;
    }
    add_totals(total(squares), 0.0f32, 0.0f32, sums);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pulled_gradient<G: Float, C: Float, R: Int, N: Size>(
    gradient: &mut Tensor<Vector<G, N>>,
    coarse: &Tensor<Vector<C, N>>,
    rest: &Tensor<Vector<R, N>>,
    anchor: &Tensor<Vector<f32, N>>,
    sums: &mut Tensor<f32>,
    strength: f32,
    vectors: u32,
    #[comptime] narrow: bool,
    #[define(G, C, R)] _kinds: [ElemType; 3],
) {
    let mut pulls = Pulls::<N>::none(strength);
    let mut i = ABSOLUTE_POS;
    while i < vectors as usize {
        let weight = whole_of(Vector::cast_from(coarse[i]), Vector::cast_from(rest[i]), thresholds::<N>(i));
        let g = pulls.pull(Vector::cast_from(gradient[i]), weight - anchor[i]);
        gradient[i] = Vector::cast_from(rounded(g, weight, thresholds::<N>(i), narrow));
        i += CUBE_COUNT * CUBE_DIM as usize;
    }
    add_totals(total(pulls.squares), 0.5f32 * total(pulls.penalties), total(pulls.pulls), sums);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pulled_gradient_of_whole<G: Float, N: Size>(
    gradient: &mut Tensor<Vector<G, N>>,
    weights: &Tensor<Vector<f32, N>>,
    anchor: &Tensor<Vector<f32, N>>,
    sums: &mut Tensor<f32>,
    strength: f32,
    vectors: u32,
    #[comptime] narrow: bool,
    #[define(G)] _kind: ElemType,
) {
    let mut pulls = Pulls::<N>::none(strength);
    let mut i = ABSOLUTE_POS;
    while i < vectors as usize {
        let g = pulls.pull(Vector::cast_from(gradient[i]), weights[i] - anchor[i]);
        gradient[i] = Vector::cast_from(rounded(g, weights[i], thresholds::<N>(i), narrow));
        i += CUBE_COUNT * CUBE_DIM as usize;
    }
    add_totals(total(pulls.squares), 0.5f32 * total(pulls.penalties), total(pulls.pulls), sums);
}

/// A pulled gradient as its type holds it: a bf16 by thresholds, or small pulls would be lost.
#[cube]
fn rounded<N: Size>(
    gradient: Vector<f32, N>,
    weights: Vector<f32, N>,
    thresholds: Vector<u32, N>,
    #[comptime] narrow: bool,
) -> Vector<f32, N> {
    if narrow { coarse_of(gradient, salted(thresholds, weights)) } else { gradient }
}

/// What a unit's pulls come to: Σ g², Σ (θ − θ*)·pull and Σ pull².
#[derive(CubeType)]
struct Pulls<N: Size> {
    strength: f32,
    squares: Vector<f32, N>,
    penalties: Vector<f32, N>,
    pulls: Vector<f32, N>,
}

#[cube]
impl<N: Size> Pulls<N> {
    fn none(strength: f32) -> Pulls<N> {
        let zero = Vector::<f32, N>::new(0.0f32);
        Pulls::<N> { strength, squares: zero, penalties: zero, pulls: zero }
    }

    /// A gradient with the pull on what is so far `away` added to it.
    fn pull(&mut self, gradient: Vector<f32, N>, away: Vector<f32, N>) -> Vector<f32, N> {
        let pull = away * Vector::new(self.strength);
        let g = gradient + pull;
        self.squares += g * g;
        self.penalties += away * pull;
        self.pulls += pull * pull;
        g
    }
}

/// Adds up three numbers over the cube, and adds them to its row of running sums.
#[cube]
fn add_totals(first: f32, second: f32, third: f32, sums: &mut Tensor<f32>) {
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
        sums[3 * CUBE_POS + UNIT_POS as usize] += sum;
    }
}
