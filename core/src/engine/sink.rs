//! Where parameter gradients go as the backward pass produces them.

use burn::tensor::{FloatDType, Tensor};

use crate::model::{Policy, Tensors};

/// Receives the gradient of every unit once per backward pass.
pub trait GradientSink {
    /// Takes the gradient of the unit with this index, of the shape of [`Unit::dims`](crate::model::Unit::dims).
    fn take(&mut self, unit: usize, gradient: Tensor<2>);
}

/// Sums gradients over the batches of an optimizer step: in f32 or as asked for, unless there is but one.
#[derive(Debug)]
pub struct Accumulate {
    sums: Vec<Option<Tensor<2>>>,
    dtype: FloatDType,
}

impl Accumulate {
    /// For this many units, in f32.
    pub fn new(units: usize) -> Self {
        Self { sums: (0..units).map(|_| None).collect(), dtype: FloatDType::F32 }
    }

    /// For a policy's units, as its gradients are to be kept.
    pub fn of(policy: &Policy) -> Self {
        Self { dtype: policy.compute().layout.precision.sums.dtype(), ..Self::new(policy.units().len()) }
    }

    /// The sums, `None` for a unit that no backward pass has reached.
    pub fn into_sums(self) -> Vec<Option<Tensor<2>>> {
        self.sums
    }
}

impl GradientSink for Accumulate {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        let slot = &mut self.sums[unit];
        *slot = Some(match slot.take() {
            Some(sum) => (sum.cast(FloatDType::F32) + gradient.cast(FloatDType::F32)).cast(self.dtype),
            None => gradient,
        });
    }
}

/// Adds up squared gradients: the diagonal of the empirical Fisher information when every pass is one sample.
#[derive(Debug)]
pub struct Square {
    sums: Tensors,
}

impl Square {
    /// Starts at zero for tensors like these.
    pub fn new(like: &Tensors) -> Self {
        Self { sums: like.iter().map(|tensor| tensor.zeros_like().cast(FloatDType::F32)).collect() }
    }

    /// Σ g², element by element.
    pub fn into_sums(self) -> Tensors {
        self.sums
    }
}

impl GradientSink for Square {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        self.sums[unit].inplace(|sum| sum + gradient.cast(FloatDType::F32).square());
    }
}
