//! Burn's tensors, multiplied by cuBLASLt.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, FloatDType, Tensor};
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use hbat::compute;

use super::cublas::{Kind, Library};
use super::stream::{Server, stream};
use crate::Full;
use crate::gemm::{Calls, Strided, calls, product_shape, rows};
use crate::kernels::{empty, lasting, owned};

/// What runs on each card.
static LIBRARIES: Mutex<Option<HashMap<usize, Library>>> = Mutex::new(None);

/// Starts cuBLASLt on the n-th card, once.
///
/// # Errors
/// What is missing.
pub(crate) fn start(index: usize) -> Result<(), String> {
    on(index, |_| Ok(()))
}

/// Products as [`cublas`](crate::cublas) gives them.
pub(crate) fn products(full: Full) -> compute::Library {
    match full {
        Full::F32 => of::<Exact>(),
        Full::Tf32 => of::<Rounded>(),
    }
}

/// What factors of f32 are multiplied in, so that a function may be had for each.
trait Factors {
    const FULL: Full;
}

struct Exact;
struct Rounded;

impl Factors for Exact {
    const FULL: Full = Full::F32;
}

impl Factors for Rounded {
    const FULL: Full = Full::Tf32;
}

fn of<F: Factors>() -> compute::Library {
    compute::Library {
        name: if F::FULL == Full::F32 { "cuBLASLt" } else { "cuBLASLt in TF32" },
        matrices: |left, right, to| multiply::<2, F>(left, right, to, Place::Passing),
        batches: |left, right, to| multiply::<4, F>(left, right, to, Place::Passing),
        lasting: |left, right, to| multiply::<2, F>(left, right, to, Place::Lasting),
        added: added::<F>,
        joined: joined::<F>,
    }
}

/// What multiplies two tensors into a type.
///
/// # Panics
/// If cuBLASLt does not multiply these.
fn kind<const D: usize, F: Factors>(left: &Tensor<D>, right: &Tensor<D>, to: FloatDType) -> Kind {
    match (left.dtype(), right.dtype(), to) {
        (DType::BF16, DType::BF16, FloatDType::BF16) => Kind::Bf16,
        (DType::BF16, DType::BF16, FloatDType::F32) => Kind::Bf16ToF32,
        (DType::F32, DType::F32, FloatDType::F32) if F::FULL == Full::F32 => Kind::F32,
        (DType::F32, DType::F32, FloatDType::F32) => Kind::Tf32,
        (left, right, to) => panic!("cuBLASLt multiplies bf16 or f32, not {left:?} with {right:?} to {to:?}"),
    }
}

/// `left` · `right` on a card, `[.., M, K]` · `[.., K, N]`, both of bf16 or both of f32.
///
/// # Panics
/// If their shapes or types do not go together, for a device that is no card, or with what cuBLASLt says.
fn multiply<const D: usize, F: Factors>(left: Tensor<D>, right: Tensor<D>, to: FloatDType, place: Place) -> Tensor<D> {
    let kind = kind::<D, F>(&left, &right, to);
    Tensor::from_dispatch(Dispatch::cublas_product(left.into_dispatch(), right.into_dispatch(), kind, place))
}

/// `sum` + `left` · `right`, in the type of `sum`.
///
/// # Panics
/// As [`multiply`].
fn added<F: Factors>(left: Tensor<2>, right: Tensor<2>, sum: Tensor<2>) -> Tensor<2> {
    let kind = kind::<2, F>(&left, &right, sum.dtype().into());
    let [left, right, sum] = [left, right, sum].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::cublas_added(left, right, sum, kind))
}

/// `[B, KV, G·T, K]` · `[B, KV, K, hd]` into the `B`·`T` rows `[KV·G·hd]` from one on.
///
/// # Panics
/// As [`multiply`].
fn joined<F: Factors>(left: Tensor<4>, right: Tensor<4>, group: usize, into: Tensor<2>, from: usize) -> Tensor<2> {
    let kind = kind::<4, F>(&left, &right, into.dtype().into());
    let (left, right) = (left.into_dispatch(), right.into_dispatch());
    Tensor::from_dispatch(Dispatch::cublas_joined(left, right, into.into_dispatch(), kind, group, from))
}

/// Where a product lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a page with what comes and goes.
    Passing,
    /// In memory of just its size.
    Lasting,
}

/// What Burn has no operation for.
#[backend_extension(Cube, Fusion)]
pub(crate) trait CublasProduct: Backend {
    /// `left` · `right`.
    #[fusion(meta = product)]
    fn cublas_product(left: FloatTensor<Self>, right: FloatTensor<Self>, kind: Kind, place: Place) -> FloatTensor<Self>;

    /// `sum` + `left` · `right`, written over `sum` where nobody else holds it.
    #[fusion(meta = |_left, _right, sum, _kind| sum.clone())]
    fn cublas_added(left: FloatTensor<Self>, right: FloatTensor<Self>, sum: FloatTensor<Self>, kind: Kind) -> FloatTensor<Self>;

    /// `into`, with heads of `left` · `right` side by side in the rows from one on.
    #[fusion(meta = |_left, _right, into, _kind, _group, _from| into.clone())]
    fn cublas_joined(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        into: FloatTensor<Self>,
        kind: Kind,
        group: usize,
        from: usize,
    ) -> FloatTensor<Self>;
}

fn product(left: &TensorSpec, right: &TensorSpec, kind: &Kind, _: &Place) -> TensorSpec {
    TensorSpec::new(product_shape(&left.shape, &right.shape).into(), dtype(*kind))
}

fn dtype(kind: Kind) -> DType {
    if kind == Kind::Bf16 { DType::BF16 } else { DType::F32 }
}

impl CublasProduct for CubeBackend {
    fn cublas_product(left: CubeTensor, right: CubeTensor, kind: Kind, place: Place) -> CubeTensor {
        let shape = product_shape(left.meta.shape(), right.meta.shape());
        if left.meta.shape().iter().chain(right.meta.shape().iter()).any(|size| *size == 0) {
            return Self::float_matmul(left, right);
        }
        let make = if place == Place::Lasting { lasting } else { empty };
        let product = make(&left, &shape, dtype(kind));
        let (left, right) = (readable(left), readable(right));
        write([&left, &right, &product], [strided(&left), strided(&right), rows(&shape)], 0, (kind, None));
        product
    }

    fn cublas_added(left: CubeTensor, right: CubeTensor, sum: CubeTensor, kind: Kind) -> CubeTensor {
        let (left, right, sum) = (readable(left), readable(right), into_contiguous(sum));
        let shape = sum.meta.shape().to_vec();
        let product = if sum.can_mut() { sum.clone() } else { empty(&sum, &shape, sum.dtype) };
        write([&left, &right, &product], [strided(&left), strided(&right), rows(&shape)], 0, (kind, Some(&sum)));
        product
    }

    fn cublas_joined(left: CubeTensor, right: CubeTensor, into: CubeTensor, kind: Kind, group: usize, from: usize) -> CubeTensor {
        let (left, right, into) = (readable(left), readable(right), owned(into));
        let ([texts, key_heads, rows, _], [.., dim]) = (left.meta.shape().dims::<4>(), right.meta.shape().dims::<4>());
        let (width, all) = (rows / group, key_heads * group * dim);
        let [most, columns] = into.meta.shape().dims::<2>();
        assert!(columns == all && from + texts * width <= most, "heads side by side do not fit");
        let heads =
            Strided { sizes: vec![texts, key_heads, group, width, dim], strides: vec![width * all, group * dim, dim, all, 1] };
        let tensors = [strided(&left).cut(2, group), strided(&right).cut(2, 1), heads];
        write([&left, &right, &into], tensors, from * all, (kind, None));
        into
    }
}

/// Queues left · right into a third tensor, which holds the product from an element on, added to another one of just that product.
fn write(tensors: [&CubeTensor; 3], strided: [Strided; 3], from: usize, how: (Kind, Option<&CubeTensor>)) {
    let [left, right, product] = strided;
    let mut calls = calls(&left, &right, &product).expect("what is contiguous can be read");
    calls.offsets.iter_mut().for_each(|offset| offset[2] += from);
    let [left, right, product] = tensors;
    queue(&calls, how, [right, left, product]).unwrap_or_else(|error| panic!("{error}"));
}

/// In rows or in columns.
fn readable(tensor: CubeTensor) -> CubeTensor {
    if tensor.meta.is_tiled() || !strided(&tensor).readable() { into_contiguous(tensor) } else { tensor }
}

fn strided(tensor: &CubeTensor) -> Strided {
    Strided { sizes: tensor.meta.shape().to_vec(), strides: tensor.meta.strides().to_vec() }
}

/// Queues a product in the stream that computes these tensors; nothing else is queued meanwhile.
fn queue(calls: &Calls, (kind, onto): (Kind, Option<&CubeTensor>), tensors: [&CubeTensor; 3]) -> Result<(), String> {
    let [first, second, product] = tensors;
    let CubeDevice::Cuda(device) = &product.device else { panic!("cuBLASLt multiplies on NVIDIA's cards") };
    let index = device.index;
    let handles = [first, second, product].map(|tensor| tensor.handle.clone());
    let onto = onto.map(|tensor| tensor.handle.clone());
    let client = &product.client;
    let address = |handle: Handle| client.get_resource::<Server>(handle).map_err(|error| error.to_string());
    let work = || {
        let [first, second, product] = handles.map(address);
        let (first, second, product, onto) = (first?, second?, product?, onto.map(address).transpose()?);
        let addresses = [&first, &second, &product].map(|held| held.resource().ptr);
        let onto = onto.as_ref().map(|held| held.resource().ptr);
        let stream = stream(client)?;
        on(index, |cublas| {
            // SAFETY: Burn says where its tensors lie, has the stream wait for what others put there, and keeps them there as long as these are
            // held, or for what the stream comes to later; what they hold, their shapes and strides tell.
            #[allow(unsafe_code)]
            unsafe {
                cublas.multiply((&calls.gemm, &calls.offsets), kind, (addresses, onto), stream)
            }
        })
    };
    client.exclusive(work).map_err(|error| error.to_string())?
}

fn on<T>(index: usize, work: impl FnOnce(&mut Library) -> Result<T, String>) -> Result<T, String> {
    let mut libraries = LIBRARIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match libraries.get_or_insert_default().entry(index) {
        Entry::Occupied(started) => work(started.into_mut()),
        Entry::Vacant(free) => work(free.insert(Library::start(index)?)),
    }
}
