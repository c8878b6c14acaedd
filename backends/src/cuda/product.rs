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
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

use super::cublas::{Cublas, Kind};
use super::stream::{Server, stream};
use crate::gemm::{Calls, Strided, calls, product_shape};
use crate::library::{Full, Multiply};

/// What runs on each card.
static LIBRARIES: Mutex<Option<HashMap<usize, Cublas>>> = Mutex::new(None);

/// Starts cuBLASLt on the n-th card, once.
///
/// # Errors
/// What is missing.
pub(crate) fn start(index: usize) -> Result<(), String> {
    on(index, |_| Ok(()))
}

/// Products as [`cublas`](crate::cublas) gives them.
pub(crate) fn products<const D: usize>(full: Full) -> Multiply<D> {
    match full {
        Full::F32 => |left, right, to| multiply(left, right, to, Full::F32),
        Full::Tf32 => |left, right, to| multiply(left, right, to, Full::Tf32),
    }
}

/// `left` · `right` on a card, `[.., M, K]` · `[.., K, N]`, both of bf16 or both of f32.
///
/// # Panics
/// If their shapes or types do not go together, for a device that is no card, or with what cuBLASLt says.
fn multiply<const D: usize>(left: Tensor<D>, right: Tensor<D>, to: FloatDType, full: Full) -> Tensor<D> {
    let kind = match (left.dtype(), right.dtype(), to) {
        (DType::BF16, DType::BF16, FloatDType::BF16) => Kind::Bf16,
        (DType::BF16, DType::BF16, FloatDType::F32) => Kind::Bf16ToF32,
        (DType::F32, DType::F32, FloatDType::F32) if full == Full::F32 => Kind::F32,
        (DType::F32, DType::F32, FloatDType::F32) => Kind::Tf32,
        (left, right, to) => panic!("cuBLASLt multiplies bf16 or f32, not {left:?} with {right:?} to {to:?}"),
    };
    Tensor::from_dispatch(Dispatch::cublas_product(left.into_dispatch(), right.into_dispatch(), kind))
}

/// What Burn has no operation for.
#[backend_extension(Cube, Fusion)]
pub(crate) trait CublasProduct: Backend {
    /// `left` · `right`.
    #[fusion(meta = product)]
    fn cublas_product(left: FloatTensor<Self>, right: FloatTensor<Self>, kind: Kind) -> FloatTensor<Self>;
}

fn product(left: &TensorSpec, right: &TensorSpec, kind: &Kind) -> TensorSpec {
    TensorSpec::new(product_shape(&left.shape, &right.shape).into(), dtype(*kind))
}

fn dtype(kind: Kind) -> DType {
    if kind == Kind::Bf16 { DType::BF16 } else { DType::F32 }
}

impl CublasProduct for CubeBackend {
    fn cublas_product(left: FloatTensor<Self>, right: FloatTensor<Self>, kind: Kind) -> FloatTensor<Self> {
        let shape = product_shape(left.meta.shape(), right.meta.shape());
        if left.meta.shape().iter().chain(right.meta.shape().iter()).any(|size| *size == 0) {
            return Self::float_matmul(left, right);
        }
        let (left, right) = (readable(left), readable(right));
        let product = empty_device_contiguous_dtype(left.client.clone(), left.device.clone(), shape.into(), dtype(kind));
        let calls = calls(&strided(&left), &strided(&right)).expect("what is contiguous can be read");
        queue(&calls, kind, [&right, &left, &product]).unwrap_or_else(|error| panic!("{error}"));
        product
    }
}

/// In rows or in columns.
fn readable(tensor: CubeTensor) -> CubeTensor {
    if tensor.meta.is_tiled() || !strided(&tensor).readable() { into_contiguous(tensor) } else { tensor }
}

fn strided(tensor: &CubeTensor) -> Strided {
    Strided { sizes: tensor.meta.shape().to_vec(), strides: tensor.meta.strides().to_vec() }
}

/// Queues a product in the stream that computes these tensors; nothing else is queued meanwhile.
fn queue(calls: &Calls, kind: Kind, tensors: [&CubeTensor; 3]) -> Result<(), String> {
    let [first, second, product] = tensors;
    let CubeDevice::Cuda(device) = &product.device else { panic!("cuBLASLt multiplies on NVIDIA's cards") };
    let index = device.index;
    let handles = [first, second, product].map(|tensor| tensor.handle.clone());
    let client = &product.client;
    let address = |handle: Handle| client.get_resource::<Server>(handle).map_err(|error| error.to_string());
    let work = || {
        let [first, second, product] = handles.map(address);
        let (first, second, product) = (first?, second?, product?);
        let addresses = [&first, &second, &product].map(|held| held.resource().ptr);
        let stream = stream(client)?;
        on(index, |cublas| {
            // SAFETY: Burn says where its tensors lie, has the stream wait for what others put there, and keeps them there as long as these are
            // held, or for what the stream comes to later; what they hold, their shapes and strides tell.
            #[allow(unsafe_code)]
            unsafe {
                cublas.multiply((&calls.gemm, &calls.offsets), kind, addresses, stream)
            }
        })
    };
    client.exclusive(work).map_err(|error| error.to_string())?
}

fn on<T>(index: usize, work: impl FnOnce(&mut Cublas) -> Result<T, String>) -> Result<T, String> {
    let mut libraries = LIBRARIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match libraries.get_or_insert_default().entry(index) {
        Entry::Occupied(started) => work(started.into_mut()),
        Entry::Vacant(free) => work(free.insert(Cublas::start(index)?)),
    }
}
