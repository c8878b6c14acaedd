//! A tensor that lies where the kernels that use it want it.

use std::task::{Context, Poll, Waker};

use burn::tensor::{DType, FloatDType, Tensor, TensorData, read_sync};

use crate::compute::{Compute, Memory};
use crate::error::Error;

/// Optimizer state, an anchor, or Fisher information of one unit.
#[derive(Debug, Clone)]
pub enum Slab {
    /// In ordinary memory, read and written in place.
    Host(Vec<f32>),
    /// On the device.
    Device(Tensor<2>),
    /// In ordinary memory, as the device handed it over and is to read it again: where its driver can lock pages, in such pages, from
    /// which it copies at the bus's full rate and while anything else goes on.
    Lent(TensorData),
}

impl Slab {
    /// Zeros of the given shape where updates are computed; on a device, of the given type.
    pub fn zeros(dims: [usize; 2], compute: &Compute, dtype: FloatDType) -> Self {
        match compute.layout.updates() {
            Memory::Host => Self::Host(vec![0.0; dims[0] * dims[1]]),
            Memory::Device => {
                Self::Device(compute.staying(dims, |dims| Tensor::zeros(dims, (&compute.device, DType::from(dtype)))))
            }
        }
    }

    /// The same elements, on a device in another type.
    #[must_use]
    pub fn cast(self, dtype: FloatDType) -> Self {
        match self {
            Self::Device(tensor) => Self::Device(tensor.cast(dtype)),
            ordinary => ordinary,
        }
    }

    /// A copy of a tensor where updates are computed; in ordinary memory, of an f32 one.
    ///
    /// # Errors
    /// If the device fails to hand it over.
    pub async fn copy(tensor: &Tensor<2>, compute: &Compute) -> Result<Self, Error> {
        match compute.layout.updates() {
            Memory::Host => Ok(Self::Host(floats(tensor.to_data_async().await.map_err(Error::device)?)?)),
            // Tensors are values: an update makes a new one and leaves this handle's memory alone.
            Memory::Device => Ok(Self::Device(tensor.clone())),
        }
    }

    /// From values read elsewhere, to where updates are computed.
    pub fn from_values(values: Vec<f32>, dims: [usize; 2], compute: &Compute) -> Self {
        match compute.layout.updates() {
            Memory::Host => Self::Host(values),
            Memory::Device => Self::Device(Tensor::from_data(TensorData::new(values, dims), &compute.device)),
        }
    }

    /// An anchor from values read elsewhere.
    pub fn anchor(values: Vec<f32>, dims: [usize; 2], compute: &Compute) -> Self {
        match Self::from_values(values, dims, compute) {
            Self::Device(tensor) if compute.layout.anchors() == Memory::Host => Self::Lent(shared(copied(tensor)())),
            slab => slab,
        }
    }

    /// Lends what a tensor holds.
    ///
    /// # Errors
    /// If the device fails to hand it over.
    pub async fn lent(tensor: Tensor<2>) -> Result<Self, Error> {
        Ok(Self::Lent(shared(tensor.into_data_async().await.map_err(Error::device)?)))
    }

    /// As a tensor of the given shape.
    pub(crate) fn tensor(&self, dims: [usize; 2], compute: &Compute) -> Tensor<2> {
        match self {
            Self::Host(values) => Tensor::from_data(TensorData::new(values.clone(), dims), &compute.device),
            Self::Device(tensor) => tensor.clone(),
            Self::Lent(data) => Tensor::from_data(data.clone(), &compute.device),
        }
    }

    /// The mean of all elements.
    pub(crate) async fn mean(&self) -> Result<f64, Error> {
        match self {
            Self::Host(values) => Ok(mean(values.iter().copied())),
            Self::Lent(data) => Ok(mean(data.iter::<f32>())),
            Self::Device(tensor) => Ok(f64::from(tensor.clone().mean().into_scalar_async::<f32>().await.map_err(Error::device)?)),
        }
    }

    /// The values, copied to the host.
    ///
    /// # Errors
    /// If the device fails to hand them over.
    pub async fn values(&self) -> Result<Vec<f32>, Error> {
        match self {
            Self::Host(values) => Ok(values.clone()),
            Self::Device(tensor) => floats(tensor.to_data_async().await.map_err(Error::device)?),
            Self::Lent(data) => Ok(data.iter::<f32>().collect()),
        }
    }
}

fn mean(values: impl Iterator<Item = f32>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + f64::from(value), count + 1.0));
    sum / count
}

/// Copies of it are the same memory.
fn shared(data: TensorData) -> TensorData {
    let (bytes, shape, dtype) = data.into_parts();
    TensorData::from_bytes(bytes.shared(), shape, dtype)
}

/// The f32 values of a readback.
pub(crate) fn floats(data: TensorData) -> Result<Vec<f32>, Error> {
    data.convert::<f32>().try_into_vec::<f32>().map_err(Error::device)
}

/// Begins to copy a tensor to ordinary memory and does not wait: a device copies when it comes to that, and then lets go of the tensor.
/// The result waits for it, which a browser cannot do.
pub(crate) fn copied(tensor: Tensor<2>) -> impl FnOnce() -> TensorData {
    let copy = started(tensor.into_data_async());
    move || read_sync(copy).expect("the device hands over what it computed")
}

/// A readback that has begun before it is awaited.
pub(crate) fn started<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let mut future = Box::pin(future);
    let first = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    async {
        match first {
            Poll::Ready(value) => value,
            Poll::Pending => future.await,
        }
    }
}
